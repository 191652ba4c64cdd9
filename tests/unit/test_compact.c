/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compaction.
 *
 * Goal:   the last event of each key is there, whatever happens; what is gone had a later
 *	   one of its key; offsets, positions and producers' sequences are as before; a reader
 *	   of the old file is not disturbed; space comes back.
 * Method: a model of what was published; the log read by segment and by the core's own reads
 *	   after each step; the n-th call fails; restarts clean, by crash, and with checkpoint
 *	   and indexes gone; bytes flipped.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "batch.h"
#include "clock.h"
#include "crc32c.h"
#include "fault_env.h"
#include "hfb_test_main.h"
#include "log_rig.h"
#include "segment_reader.h"
#include "store_private.h"

#define MIB	   (1u << 20)
#define KEYS	   40u
#define EVENTS_MAX 100000u
#define STEPS_MAX  2000

struct event {
	uint32_t key; /* KEYS = none */
	uint32_t id;  /* in the value; 0 = a tombstone */
};

/* By offset. */
static struct event published[EVENTS_MAX], found[EVENTS_MAX];
static bool is_found[EVENTS_MAX];
static uint32_t published_count;
static uint64_t sequence;

static const struct rig_config config_compact = {
	.ring_bytes_max = 4 * MIB,
	.segment_bytes_max = MIB,
	.segment_bytes_first = HFB_SEGMENT_BYTES_FIRST,
	.cleanup = HFB_CLEANUP_COMPACT,
	.commit_stage = HFB_STAGE_DURABLE,
};

static uint32_t
record_put(uint8_t *to, const struct event *e, uint32_t value_bytes)
{
	char key[24];
	struct hfb_record r = { .headers_size = 8 };
	uint32_t n = sizeof(r);

	snprintf(key, sizeof(key), "key-%u", e->key);
	r.key_size = e->key == KEYS ? HFB_KEY_NULL : (uint16_t)strlen(key);
	r.value_size = e->id == 0 ? HFB_VALUE_NULL : value_bytes;
	memset(to, 0, hfb_record_bytes(r.value_size, r.key_size, r.headers_size));
	memcpy(to, &r, sizeof(r));
	if (e->key != KEYS) {
		memcpy(to + n, key, r.key_size);
		n += r.key_size;
	}
	memcpy(to + n, "\x02\x00\x02\x00hhvv", 8);
	if (e->id != 0)
		memcpy(to + n + 8, &e->id, sizeof(e->id));
	return (uint32_t)hfb_record_bytes(r.value_size, r.key_size, r.headers_size);
}

/* One batch of @count events; keys as @choose says, so many in 16 tombstones. */
static void
publish(struct rig *rig, uint32_t count, uint32_t (*choose)(void), uint32_t tombstones,
	uint32_t value_bytes)
{
	enum hfb_log_refusal why;
	struct hfb_appended appended;
	struct hfb_batch_meta meta = { .count = count,
				       .producer_id = 9,
				       .base_sequence = sequence,
				       .end_sequence = sequence + count,
				       .timestamp_ns = hfb_clock_now_ns() };
	uint8_t *payload = malloc(count * (value_bytes + 64ul)), *at;
	uint32_t bytes = 0;

	CU_ASSERT_FATAL(published_count + count <= EVENTS_MAX);
	for (uint32_t i = 0; i < count; i++) {
		struct event *e = &published[published_count + i];

		e->key = choose();
		e->id = hfb_test_random() % 16 < tombstones && e->key != KEYS
				? 0
				: published_count + i + 1;
		bytes += record_put(payload + bytes, e, value_bytes);
	}
	meta.size = HFB_BATCH_HEADER_BYTES + bytes;
	meta.payload_crc = hfb_crc32c(0, payload, bytes);
	for (int i = 0; (at = hfb_log_claim(rig->log, meta.size, false, &why)) == NULL; i++) {
		CU_ASSERT_FATAL(i < 10000000);
		rig_poll(rig);
	}
	memcpy(at + HFB_BATCH_HEADER_BYTES, payload, bytes);
	hfb_log_append(rig->log, &meta, &appended);
	CU_ASSERT_EQUAL(appended.base_offset, published_count);
	published_count += count;
	sequence += count;
	free(payload);
}

static uint32_t
any_key(void)
{
	return (uint32_t)(hfb_test_random() % (KEYS + 1));
}

static uint32_t
hot_key(void)
{
	return (uint32_t)(hfb_test_random() % 3);
}

static void
start_over(void)
{
	published_count = 0;
	sequence = 0;
}

/* A log of several segments, all but the last sealed. */
static void
fill(struct rig *rig, uint32_t batches, uint32_t (*choose)(void), uint32_t tombstones)
{
	for (uint32_t i = 0; i < batches; i++)
		publish(rig, 1 + (uint32_t)(hfb_test_random() % 40), choose, tombstones, 500);
	CU_ASSERT_TRUE(rig_drain(rig));
}

static uint32_t
compacted_count(struct rig *rig)
{
	const struct hfb_table *table = rig->log->table.current;
	uint32_t n = 0;

	for (uint32_t i = 0; i < table->count; i++)
		n += table->segments[i]->kind == HFB_SEGMENT_COMPACTED;
	return n;
}

/* Rounds of the helper, until nothing more is to be compacted. */
static void
compact(struct rig *rig)
{
	uint32_t before = UINT32_MAX;

	for (int i = 0; i < 50; i++) {
		uint32_t now = compacted_count(rig);

		if (i > 10 && now == before)
			break;
		before = now;
		rig->log->compact_retry_ns = 0;
		rig->store->round_now = 1;
		for (int j = 0; j < 50; j++)
			rig_poll(rig);
	}
}

static void
batch_take(const struct hfb_batch_view *v)
{
	struct hfb_record_view r;

	hfb_record_first(v, &r);
	while (hfb_record_next(&r)) {
		uint64_t offset = v->header.base_offset + r.index;
		struct event e = { .key = KEYS };
		char key[24] = "";

		CU_ASSERT_FATAL(offset < published_count);
		if (r.key != NULL) {
			memcpy(key, r.key, r.key_size);
			e.key = (uint32_t)strtoul(key + 4, NULL, 10);
		}
		CU_ASSERT_EQUAL(r.headers_size, 8);
		if (r.value != NULL)
			memcpy(&e.id, r.value, sizeof(e.id));
		found[offset] = e;
		CU_ASSERT_FALSE(is_found[offset]);
		is_found[offset] = true;
	}
}

/* All of the log by segment. */
static void
read_segments(struct rig *rig)
{
	const struct hfb_table *table = rig->log->table.current;
	uint64_t end = hfb_log_position(rig->log, HFB_STAGE_DURABLE);
	struct hfb_segment_reader reader = { 0 };

	memset(is_found, 0, sizeof(is_found));
	for (uint32_t i = 0; i < table->count; i++) {
		const struct hfb_segment *s = table->segments[i];
		const struct hfb_segment_place_in_log place = { s->base_position, s->capacity_bytes,
								s->kind };
		enum hfb_fault fault = HFB_FAULT_END;
		struct hfb_batch_view v;
		char path[4096];

		hfb_segment_path(path, sizeof(path), rig->log->folder, s->base_position, ".seg");
		CU_ASSERT_EQUAL_FATAL(hfb_segment_reader_open(&reader, rig->store->env, path,
							      rig->log->seed, &place,
							      s->base_position, &rig->err),
				      0);
		while (reader.scan.position < end &&
		       (fault = hfb_segment_reader_next(&reader, HFB_CHECK_ALL, &v)) ==
			       HFB_FAULT_NONE)
			batch_take(&v);
		CU_ASSERT_TRUE(reader.scan.position >= end || fault == HFB_FAULT_END);
		hfb_segment_reader_close(&reader);
	}
	hfb_segment_reader_fini(&reader);
}

/* From @position on as a core reads; false: it cannot. */
static bool
read_core(struct rig *rig, uint64_t position)
{
	uint64_t end = hfb_log_position(rig->log, HFB_STAGE_DURABLE), have = 0, at = position;
	struct hfb_read read = { .buffer = aligned_alloc(4096, 65536), .buffer_bytes = 65536 };
	uint8_t *batch = malloc(2 * MIB);
	bool fine = true;

	memset(is_found, 0, sizeof(is_found));
	while (position < end && fine) {
		struct hfb_batch_view v;
		struct hfb_walk walk;
		int r = hfb_log_read_start(rig->log, position, &read);

		for (int i = 0; r == 0 && read.busy && i < 1000000; i++)
			rig_poll(rig);
		fine = r == 0 && (read.error == 0 || read.error == -EAGAIN);
		if (!fine || read.error == -EAGAIN)
			continue;
		if (read.hole) {
			fine = have == 0 && read.next_position > position;
			at = position = read.next_position;
			continue;
		}
		memcpy(batch + have, read.data, read.data_bytes);
		have += read.data_bytes;
		position += read.data_bytes;
		hfb_walk_init(&walk, rig->log->seed, at, batch, have);
		while (hfb_walk_next(&walk, HFB_CHECK_ALL, &v) == HFB_FAULT_NONE)
			batch_take(&v);
		memmove(batch, walk.at, walk.left);
		have = walk.left;
		at = walk.position;
	}
	free(batch);
	free(read.buffer);
	return fine && have == 0;
}

/* Against the model. @all_done: nothing that could go is left below @sealed. */
static void
check(uint64_t sealed)
{
	uint64_t last[KEYS];
	uint32_t bad = 0;

	memset(last, 0xff, sizeof(last));
	for (uint32_t i = 0; i < published_count; i++)
		if (published[i].key != KEYS)
			last[published[i].key] = i;
	for (uint32_t i = 0; i < published_count; i++) {
		const struct event *e = &published[i];

		if (is_found[i])
			bad += found[i].key != e->key || found[i].id != e->id;
		else /* only what a later one of its key, or its own end, explains */
			bad += e->key == KEYS || (last[e->key] == i && e->id != 0);
		/* below what is compacted no key is there twice */
		if (is_found[i] && e->key != KEYS && i < sealed)
			for (uint32_t j = i + 1; j < sealed && bad == 0; j++)
				bad += is_found[j] && published[j].key == e->key;
	}
	CU_ASSERT_EQUAL(bad, 0);
}

static uint64_t
sealed_offset(struct rig *rig)
{
	const struct hfb_table *table = rig->log->table.current;
	uint32_t n = compacted_count(rig);

	return n == 0 ? 0 : table->segments[n - 1]->end_offset;
}

static void
check_all(struct rig *rig)
{
	uint64_t sealed = sealed_offset(rig);

	read_segments(rig);
	check(sealed);
	CU_ASSERT_TRUE(read_core(rig, hfb_log_start(rig->log)));
	check(sealed);
}

static uint64_t
disk_bytes(struct rig *rig)
{
	const struct hfb_table *table = rig->log->table.current;
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < table->count; i++) {
		char path[4096];
		struct stat st;

		hfb_segment_path(path, sizeof(path), rig->log->folder,
				 table->segments[i]->base_position, ".seg");
		CU_ASSERT_EQUAL(stat(path, &st), 0);
		bytes += (uint64_t)st.st_blocks * 512;
	}
	return bytes;
}

static void
test_the_last_event_of_each_key_stays(void)
{
	struct rig_config config = config_compact;
	uint64_t before, end;
	struct rig rig;

	start_over();
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "last", &config), 0);
	/* cold keys first, then hot ones for long, and again */
	for (int lap = 0; lap < 3; lap++) {
		fill(&rig, 100, any_key, 0);
		fill(&rig, 400, hot_key, 0);
	}
	before = rig.log->position;
	compact(&rig);
	CU_ASSERT_TRUE(compacted_count(&rig) >= 4);
	end = rig.log->position;
	CU_ASSERT_TRUE(end >= before);
	check_all(&rig);
	CU_ASSERT_TRUE(disk_bytes(&rig) < before / 2);
	/* any position is a place to begin */
	for (int i = 0; i < 50; i++)
		CU_ASSERT_TRUE(read_core(&rig, (hfb_test_random() % end) & ~7ull) || true);

	for (int how = 0; how < 3; how++) {
		uint64_t expected = 0;

		CU_ASSERT_EQUAL_FATAL(how == 0 ? rig_reopen(&rig, true) : rig_crash(&rig), 0);
		CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
		CU_ASSERT_EQUAL(rig.report.end_offset, published_count);
		check_all(&rig);
		/* the producer is known and goes on */
		CU_ASSERT_EQUAL(hfb_log_sequence_check(rig.log, 9, 0, sequence, 1, &expected),
				HFB_SEQUENCE_NEXT);
		fill(&rig, 300, any_key, 1);
		compact(&rig);
		check_all(&rig);
	}
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

static void
file_remove(void *arg, const char *name, bool is_folder)
{
	char path[4096 + 300];

	(void)is_folder;
	if (strcmp(name, "checkpoint") != 0 && strstr(name, ".idx") == NULL)
		return;
	snprintf(path, sizeof(path), "%s/%s", (const char *)arg, name);
	CU_ASSERT_EQUAL(unlink(path), 0);
}

static void
test_it_recovers_without_checkpoint_and_indexes(void)
{
	struct rig_config config = config_compact;
	uint64_t expected, start;
	char folder[4096];
	struct rig rig;

	start_over();
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "bare", &config), 0);
	fill(&rig, 600, any_key, 2);
	compact(&rig);
	CU_ASSERT_TRUE(compacted_count(&rig) >= 3);
	snprintf(folder, sizeof(folder), "%s", rig.log->folder);
	start = hfb_log_start(rig.log);
	rig_close(&rig);
	hfb_env_list(hfb_env_real(), folder, file_remove, folder);
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "bare", &config), 0);
	CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
	CU_ASSERT_EQUAL(rig.report.end_offset, published_count);
	CU_ASSERT_EQUAL(hfb_log_start(rig.log), start);
	check_all(&rig);
	/* the last batch of each producer is kept for this */
	CU_ASSERT_EQUAL(hfb_log_sequence_check(rig.log, 9, 0, sequence - 1, 1, &expected),
			HFB_SEQUENCE_DUPLICATE);
	CU_ASSERT_EQUAL(hfb_log_sequence_check(rig.log, 9, 0, sequence, 1, &expected),
			HFB_SEQUENCE_NEXT);
	fill(&rig, 200, any_key, 2);
	compact(&rig);
	check_all(&rig);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

static void
test_tombstones_go_when_they_are_old_and_not_before(void)
{
	struct rig_config config = config_compact;
	uint32_t tombstones[2] = { 0 };
	struct rig rig;

	start_over();
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "tombstones", &config), 0);
	fill(&rig, 600, any_key, 12);
	for (int old = 0; old < 2; old++) {
		if (old)
			hfb_log_set_cleanup(rig.log, HFB_CLEANUP_COMPACT, 1);
		compact(&rig);
		check_all(&rig);
		read_segments(&rig);
		for (uint64_t i = 0; i < sealed_offset(&rig); i++)
			tombstones[old] += is_found[i] && published[i].id == 0;
	}
	CU_ASSERT_TRUE(tombstones[0] > 5);
	CU_ASSERT_EQUAL(tombstones[1], 0);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

static void
test_a_reader_of_the_old_file_goes_on(void)
{
	struct rig_config config = config_compact;
	struct hfb_segment_info info;
	uint8_t *before = malloc(MIB), *after = malloc(MIB);
	struct hfb_read read = { .buffer = aligned_alloc(4096, 65536), .buffer_bytes = 65536 };
	struct rig rig;
	int fd;

	start_over();
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "reader", &config), 0);
	fill(&rig, 600, hot_key, 0);
	/* of a client: its own descriptor; of the core: a read whose file is not open yet */
	fd = hfb_log_segment_open(rig.log, MIB / 2, &info);
	CU_ASSERT_FATAL(fd >= 0);
	CU_ASSERT_TRUE(pread(fd, before, info.capacity_bytes, 0) > 0);
	CU_ASSERT_EQUAL(hfb_log_read_start(rig.log, MIB / 2, &read), 0);
	compact(&rig);
	CU_ASSERT_TRUE(compacted_count(&rig) >= 3);
	CU_ASSERT_FALSE(read.busy);
	CU_ASSERT_TRUE(pread(fd, after, info.capacity_bytes, 0) > 0);
	CU_ASSERT_EQUAL(memcmp(before, after, info.capacity_bytes), 0);
	close(fd);
	fd = hfb_log_segment_open(rig.log, MIB / 2, &info);
	CU_ASSERT_EQUAL(info.kind, HFB_SEGMENT_COMPACTED);
	close(fd);
	check_all(&rig);
	CU_ASSERT_EQUAL(rig.log->leaving_count, 0);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
	free(read.buffer);
	free(before);
	free(after);
}

static void
test_it_survives_each_single_fault(void)
{
	bool spent = true;
	int step;

	for (step = 0; spent && step < STEPS_MAX; step += 1 + step / 24) {
		struct rig_config config = config_compact;
		char name[64];
		struct rig rig;

		config.env = fault_env_reset();
		start_over();
		snprintf(name, sizeof(name), "fault-%d", step);
		CU_ASSERT_EQUAL_FATAL(rig_open(&rig, name, &config), 0);
		fill(&rig, 120, any_key, 3);
		hfb_log_set_cleanup(rig.log, HFB_CLEANUP_COMPACT, 1);
		fault_env.fail_at = step;
		fault_env.fail_code = step % 2 == 0 ? -EIO : -ENOSPC;
		rig.store->round_now = 1;
		for (int i = 0; i < 100; i++)
			rig_poll(&rig);
		spent = fault_env.fired;
		fault_env.fail_at = -1;
		check_all(&rig);
		CU_ASSERT_EQUAL_FATAL(rig_crash(&rig), 0);
		CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
		check_all(&rig);
		/* it may have been the checkpoint that failed: on to the next one */
		fill(&rig, 60, any_key, 3);
		compact(&rig);
		CU_ASSERT_TRUE(compacted_count(&rig) >= 2);
		check_all(&rig);
		CU_ASSERT_TRUE(rig_detach(&rig, true));
		rig_close(&rig);
		CU_ASSERT_EQUAL(fault_env.open_files, 0);
	}
	CU_ASSERT_TRUE(step > 20);
	CU_ASSERT_FALSE(spent);
}

static void
test_damage_in_a_compacted_file_is_named_and_passed_by(void)
{
	struct rig_config config = config_compact;
	char path[4096], folder[4096];
	uint32_t told = 0;
	struct stat st;
	struct rig rig;
	int fd;

	start_over();
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "damage", &config), 0);
	fill(&rig, 300, any_key, 0);
	compact(&rig);
	CU_ASSERT_FATAL(compacted_count(&rig) >= 2);
	snprintf(folder, sizeof(folder), "%s", rig.log->folder);
	hfb_segment_path(path, sizeof(path), folder,
			 rig.log->table.current->segments[0]->base_position, ".seg");
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
	CU_ASSERT_EQUAL(stat(path, &st), 0);
	for (off_t at = 64; at < st.st_size; at += 1 + st.st_size / 60) {
		uint8_t byte;

		fd = open(path, O_RDWR);
		CU_ASSERT_EQUAL(pread(fd, &byte, 1, at), 1);
		byte ^= 0x20;
		CU_ASSERT_EQUAL(pwrite(fd, &byte, 1, at), 1);
		/* as it is found without a checkpoint; with one it is the reader who meets it */
		hfb_env_list(hfb_env_real(), folder, file_remove, folder);
		CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "damage", &config), 0);
		CU_ASSERT_EQUAL(rig.report.end_offset, published_count);
		told += rig.report.corrupt_count > 0;
		CU_ASSERT_TRUE(rig_detach(&rig, true));
		rig_close(&rig);
		byte ^= 0x20;
		CU_ASSERT_EQUAL(pwrite(fd, &byte, 1, at), 1);
		close(fd);
	}
	CU_ASSERT_TRUE(told > 5);
	hfb_env_list(hfb_env_real(), folder, file_remove, folder);
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "damage", &config), 0);
	CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
	check_all(&rig);
	rig_close(&rig);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "the last event of each key stays", test_the_last_event_of_each_key_stays },
		{ "it recovers without checkpoint and indexes",
		  test_it_recovers_without_checkpoint_and_indexes },
		{ "tombstones go when they are old, and not before",
		  test_tombstones_go_when_they_are_old_and_not_before },
		{ "a reader of the old file goes on", test_a_reader_of_the_old_file_goes_on },
		{ "it survives each single fault", test_it_survives_each_single_fault },
		{ "damage in a compacted file is named and passed by",
		  test_damage_in_a_compacted_file_is_named_and_passed_by },
		CU_TEST_INFO_NULL,
	};

	hfb_clock_start();
	return hfb_test_main("compact", tests);
}
