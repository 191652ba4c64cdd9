/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bug.h"
#include "check.h"
#include "crc32c.h"
#include "store_private.h"
#include "tally.h"

#define WAIT_NS_MAX 20000000000ull

struct way way;
static uint64_t id_next = 1;

struct hfb_uuid
topic_uuid(void)
{
	return (struct hfb_uuid){ { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 } };
}

uint64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

struct world
world_of(struct sim_disk *disk, uint64_t seed)
{
	struct world w = { .disk = disk, .random = seed | 1 };

	w.positions = aligned_alloc(1024, PARTITIONS * sizeof(*w.positions));
	hfb_assert(w.positions != NULL);
	return w;
}

static void
world_note(struct world *w, enum note_kind kind, uint32_t partition, uint64_t value,
	   const struct event *event)
{
	struct note *n;

	if (w->notes_count == w->notes_max) {
		w->notes_max = w->notes_max == 0 ? 4096 : w->notes_max * 2;
		w->notes = realloc(w->notes, w->notes_max * sizeof(*w->notes));
		hfb_assert(w->notes != NULL);
	}
	n = &w->notes[w->notes_count++];
	memset(n, 0, sizeof(*n));
	n->at = sim_disk_now(w->disk);
	n->kind = kind;
	n->partition = partition;
	n->value = value;
	if (event != NULL)
		n->event = *event;
	truth_apply(&w->truths[partition], n);
}

/*
 * Where nobody waits writes go in strides of milliseconds, and who waits does so for a second:
 * a clock that runs ahead has all of it come to pass within a short run.
 */
static uint64_t
turn_ns(struct world *w)
{
	if (way.leisurely)
		w->ahead_ns += sim_random(&w->random) % 2000000;
	if (way.leisurely && sim_random(&w->random) % 500 == 0)
		w->ahead_ns += 1000000000;
	return now_ns() + w->ahead_ns;
}

static void
acks_note(struct world *w)
{
	for (uint32_t p = 0; p < PARTITIONS; p++) {
		struct truth *t = &w->truths[p];
		uint64_t durable = hfb_log_position(w->logs[p], HFB_STAGE_DURABLE);
		uint64_t start = hfb_log_start(w->logs[p]), acked = t->acked;

		while (acked < t->count && t->events[acked].end_position <= durable)
			acked++;
		if (acked != t->acked)
			world_note(w, NOTE_ACK, p, acked, NULL);
		if (start != w->starts[p]) {
			w->starts[p] = start;
			total.recycled++;
		}
	}
}

static void
turn(struct world *w)
{
	if (way.leisurely && sim_random(&w->random) % 200 == 0)
		hfb_log_durable_wanted(w->logs[sim_random(&w->random) % PARTITIONS]);
	hfb_writer_poll(w->writer, turn_ns(w));
	acks_note(w);
	/* compaction has its turn once a round, and rounds are far apart here */
	if (sim_random(&w->random) % 64 == 0) {
		__atomic_store_n(&w->store->round_now, 1, __ATOMIC_RELEASE);
		hfb_store_wake(w->store);
	}
}

/* The helper is another thread: let it run. */
static void
rest(void)
{
	struct timespec t = { 0, 50000 };

	nanosleep(&t, NULL);
}

/* The store, a leader epoch and a writer. */
static bool
store_open(struct world *w, uint32_t *ret_epoch)
{
	struct hfb_store_config config = {
		.data_dir = DATA,
		.sync = way.sync,
		.ring_bytes_default = HFB_RING_BYTES_MIN,
		.segment_bytes_default = SEGMENT_BYTES,
		.helper_cpu = -1,
		/* both ways of making files: one by one, and several together */
		.group_min = (uint32_t)(1 + sim_random(&w->random) % 3),
		.dedup_window_ns = 3600ull * 1000000000ull,
		/* for one log or more, and small, so that its files are gone over again and again
		 */
		.journal_logs_min =
			way.journal ? (uint32_t)(1 + sim_random(&w->random) % 3) : UINT32_MAX,
		.journal_file_bytes = 40960 + 4096 * (sim_random(&w->random) % 8),
	};
	struct hfb_writer_config writer = { .logs_max = PARTITIONS, .producers_max = 256 };
	struct hfb_err err = { 0 };
	int r;

	r = hfb_store_open(&config, sim_disk_env(w->disk), &w->store, &err);
	if (r == 0)
		r = hfb_store_epoch_begin(w->store, ret_epoch, &err);
	if (r == 0)
		r = hfb_writer_create(w->store, &writer, &w->writer, &err);
	if (r < 0)
		fail("open: %s", err.text);
	else if (hfb_store_note(w->store) != NULL)
		fail("called damaged: %s", hfb_store_note(w->store));
	return r == 0;
}

static bool
partition_open(struct world *w, uint32_t p, uint32_t epoch)
{
	const struct hfb_log_config config = {
		.topic = "t",
		.topic_uuid = topic_uuid(),
		.partition = p,
		.commit_stage = way.leisurely ? HFB_STAGE_RECEIVED : HFB_STAGE_DURABLE,
		.retention_bytes = p == 0 ? RETENTION_BYTES : 0,
		.cleanup = p == COMPACTED ? HFB_CLEANUP_COMPACT : HFB_CLEANUP_DELETE,
		.segment_bytes_max = SEGMENT_BYTES,
		.ring_bytes_max = HFB_RING_BYTES_MIN,
		.leader_epoch = epoch,
		.positions = &w->positions[p],
	};
	struct hfb_log_report report = { 0 };
	struct truth *t = &w->truths[p];
	struct hfb_err err = { 0 };

	memset(&w->positions[p], 0, sizeof(w->positions[p]));
	if (hfb_log_open(w->store, &config, &w->logs[p], &report, &err) < 0) {
		fail("partition %u: open: %s", p, err.text);
		return false;
	}
	check_log(w, p, &report);
	hfb_writer_attach(w->writer, w->logs[p]);
	if (report.end_offset > t->count || report.end_offset < t->acked)
		return false;
	world_note(w, NOTE_CUT, p, report.end_offset, NULL);
	if (t->acked < report.end_offset)
		world_note(w, NOTE_ACK, p, report.end_offset, NULL);
	w->starts[p] = hfb_log_start(w->logs[p]);
	return true;
}

bool
world_open(struct world *w)
{
	uint32_t epoch;

	if (!store_open(w, &epoch))
		return false;
	for (uint32_t p = 0; p < PARTITIONS; p++)
		if (!partition_open(w, p, epoch))
			return false;
	for (uint32_t p = 0; p < PARTITIONS; p++)
		check_producers(w, p);
	return true;
}

/* One batch; false: no room now. */
static bool
append(struct world *w, uint32_t partition)
{
	struct truth *t = &w->truths[partition];
	uint32_t producer = (uint32_t)(sim_random(&w->random) % PRODUCERS);
	uint32_t count = 1, size = 104, bytes = 0;
	struct hfb_batch_meta meta = { 0 };
	struct hfb_appended appended;
	enum hfb_log_refusal why;
	const uint16_t key_size = partition == COMPACTED ? 4 : HFB_KEY_NULL;
	struct event events[4];
	uint64_t sequence;
	uint8_t *at;

	/* Partition 0 has batches of one size, so that those of a former lap in a
	 * recycled file begin where new ones end. */
	if (partition != 0) {
		count = 1 + (uint32_t)(sim_random(&w->random) % 4);
		size = 8 + (uint32_t)(sim_random(&w->random) % (partition == 1 ? 3000 : 200));
	}
	for (uint32_t i = 0; i < count; i++)
		bytes += (uint32_t)hfb_record_bytes(size, key_size, 0);
	at = hfb_log_claim(w->logs[partition], HFB_BATCH_HEADER_BYTES + bytes, false, &why);
	if (at == NULL)
		return false;
	sequence = truth_sequence_after(t, producer, t->count);
	memset(at + HFB_BATCH_HEADER_BYTES, 0, bytes);
	for (uint32_t i = 0; i < count; i++) {
		struct hfb_record r = { size, key_size, 0, 0 };
		uint8_t *to = at + HFB_BATCH_HEADER_BYTES + i * (bytes / count);

		events[i] = (struct event){ .id = id_next++,
					    .sequence = sequence + i,
					    .producer = producer,
					    .bytes = size };
		memcpy(to, &r, sizeof(r));
		to += sizeof(r);
		if (partition == COMPACTED) {
			uint32_t key = event_key(&events[i]);

			memcpy(to, &key, sizeof(key));
			to += sizeof(key);
		}
		event_payload(to, events[i].id, size);
	}
	meta.size = HFB_BATCH_HEADER_BYTES + bytes;
	meta.count = count;
	meta.payload_crc = hfb_crc32c(0, at + HFB_BATCH_HEADER_BYTES, bytes);
	meta.producer_id = producer_id(partition, producer);
	meta.base_sequence = sequence;
	meta.end_sequence = sequence + count;
	meta.timestamp_ns = now_ns();
	hfb_log_append(w->logs[partition], &meta, &appended);
	if (appended.base_offset != t->count)
		fail("partition %u: appended at offset %" PRIu64 ", not %" PRIu64, partition,
		     appended.base_offset, t->count);
	for (uint32_t i = 0; i < count; i++) {
		events[i].end_position = appended.end_position;
		world_note(w, NOTE_APPEND, partition, 0, &events[i]);
	}
	return true;
}

/* With the journal each has a share, so that groups have many logs and files wait. */
static uint32_t
partition_drawn(struct world *w, uint64_t dice)
{
	if (way.journal && dice >= 40)
		return (uint32_t)(dice % PARTITIONS);
	return dice < 90 ? 0 : dice < 97 ? 1 : 2 + (uint32_t)(dice % (PARTITIONS - 2));
}

void
world_work(struct world *w, uint64_t bytes)
{
	uint64_t began = now_ns();
	uint64_t goal = hfb_log_position(w->logs[0], HFB_STAGE_RECEIVED) + bytes;

	while (hfb_log_position(w->logs[0], HFB_STAGE_RECEIVED) < goal) {
		uint32_t burst = (uint32_t)(sim_random(&w->random) % (way.journal ? 12 : 64));
		uint32_t appended = 0;

		for (uint32_t i = 0; i < burst; i++) {
			uint64_t dice = sim_random(&w->random) % 100;

			appended += append(w, partition_drawn(w, dice));
		}
		turn(w);
		if (appended == 0)
			rest();
		if (sim_random(&w->random) % 16 == 0) /* catch up: small writes then */
			for (int i = 0; i < 30; i++)
				turn(w);
		if (now_ns() - began > WAIT_NS_MAX) {
			fail("no room for %llu s", WAIT_NS_MAX / 1000000000ull);
			w->failed = true;
			return;
		}
	}
	for (uint64_t n = sim_random(&w->random) % 40; n > 0; n--)
		turn(w);
}

void
world_close(struct world *w, bool clean)
{
	uint64_t began = now_ns();
	bool left = true;

	if (!clean) {
		total.kills++;
		sim_disk_kill(w->disk);
	}
	for (uint32_t p = 0; w->writer != NULL && p < PARTITIONS; p++)
		if (w->logs[p] != NULL)
			hfb_writer_detach(w->writer, w->logs[p], clean);
	while (left && w->writer != NULL) {
		left = false;
		hfb_writer_poll(w->writer, turn_ns(w));
		for (uint32_t p = 0; p < PARTITIONS; p++)
			left |= w->logs[p] != NULL && !hfb_writer_detached(w->writer, w->logs[p]);
		if (left)
			rest();
		if (now_ns() - began > WAIT_NS_MAX) {
			fprintf(stderr, "crash: a log does not let go\n");
			abort();
		}
	}
	for (uint32_t p = 0; p < PARTITIONS; p++) {
		hfb_log_close(w->logs[p]);
		w->logs[p] = NULL;
	}
	if (w->writer != NULL) {
		total.journal_groups += hfb_writer_stats(w->writer)->journal_writes;
		hfb_writer_destroy(w->writer);
	}
	if (w->store != NULL)
		hfb_store_close(w->store);
	w->writer = NULL;
	w->store = NULL;
	if (!clean)
		sim_disk_revive(w->disk);
}

void
world_free(struct world *w)
{
	const char *what;

	if (sim_disk_breaches(w->disk, &what) != 0)
		fail("rule broken: %s", what);
	for (uint32_t p = 0; p < PARTITIONS; p++)
		truth_fini(&w->truths[p]);
	free(w->notes);
	free(w->positions);
	sim_disk_destroy(w->disk);
}
