/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal that a core's partitions share.
 *
 * Goal:   what only the journal has is durable, is found after a crash, and is never put
 *	   where it does not belong; what cannot be used is named.
 * Method: one log with a journal of its own, left as a crash would; its files are then
 *	   bent as disks and other versions do.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <hfbus/journal.h>

#include "crc32c.h"
#include "fault_env.h"
#include "hfb_test_main.h"
#include "log_rig.h"
#include "store_private.h"

#define MIB (1u << 20)

static struct rig_config
config_of(void)
{
	return (struct rig_config){ .env = fault_env_reset(),
				    .commit_stage = HFB_STAGE_DURABLE,
				    .ring_bytes_max = MIB,
				    .segment_bytes_max = MIB,
				    .journal_logs_min = 1 };
}

static uint64_t
durable(const struct rig *rig)
{
	return rig->positions->durable.position;
}

/* Append one by one, each durable before the next, @n of which the journal takes. */
static void
journaled(struct rig *rig, uint32_t n)
{
	uint64_t before = hfb_writer_stats(rig->writer)->journal_writes;

	for (int i = 0; i < 5000; i++) {
		if (hfb_writer_stats(rig->writer)->journal_writes - before >= n)
			return;
		CU_ASSERT_TRUE_FATAL(rig_append(rig, 704));
		CU_ASSERT_TRUE_FATAL(rig_drain(rig));
	}
	CU_FAIL_FATAL("the journal takes nothing");
}

/* A log of which the last @n batches are in the journal alone. Returns where it ends. */
static uint64_t
crashed(struct rig *rig, const char *name, const struct rig_config *config, uint32_t n)
{
	uint64_t end;

	CU_ASSERT_EQUAL_FATAL(rig_open(rig, name, config), 0);
	journaled(rig, n);
	end = durable(rig);
	CU_ASSERT_TRUE(rig->positions->filed < end);
	rig_close(rig);
	return end;
}

/* Open again what was left, and go on counting batches. */
static int
opened(struct rig *rig, const char *name, const struct rig_config *config)
{
	uint64_t batches = rig->batches;
	int r = rig_open(rig, name, config);

	rig->batches = batches;
	return r;
}

static uint32_t
files_count(const struct rig *rig, const char *pattern)
{
	char path[600];
	glob_t found;
	uint32_t n = 0;

	snprintf(path, sizeof(path), "%s/journal/%s", rig->data_dir, pattern);
	if (glob(path, 0, NULL, &found) == 0)
		n = (uint32_t)found.gl_pathc;
	globfree(&found);
	return n;
}

static uint8_t *
journal_load(const struct rig *rig, char path[600], size_t *ret_size)
{
	uint8_t *bytes;
	FILE *f;

	snprintf(path, 600, "%s/journal/0-0.journal", rig->data_dir);
	f = fopen(path, "rb");
	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	fseek(f, 0, SEEK_END);
	*ret_size = (size_t)ftell(f);
	rewind(f);
	bytes = malloc(*ret_size);
	CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
	CU_ASSERT_EQUAL(fread(bytes, 1, *ret_size, f), *ret_size);
	fclose(f);
	return bytes;
}

static void
journal_save(const char *path, const uint8_t *bytes, size_t size)
{
	FILE *f = fopen(path, "wb");

	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	CU_ASSERT_EQUAL(fwrite(bytes, 1, size, f), size);
	fclose(f);
}

/* Where group @n of the file begins; the last one when there are fewer. */
static uint64_t
group_at(const uint8_t *bytes, size_t size, uint32_t n)
{
	uint64_t at = HFB_JOURNAL_HEADER_BYTES;
	struct hfb_journal_group g;

	for (;;) {
		uint64_t next;

		memcpy(&g, bytes + at, sizeof(g));
		CU_ASSERT_EQUAL_FATAL(g.magic, HFB_JOURNAL_GROUP_MAGIC);
		next = at + ((g.bytes + 4095u) & ~4095u);
		if (n-- == 0 || next + sizeof(g) > size)
			return at;
		memcpy(&g, bytes + next, sizeof(g));
		if (g.magic != HFB_JOURNAL_GROUP_MAGIC)
			return at;
		at = next;
	}
}

static void
test_the_journal_alone_makes_durable(void)
{
	struct rig_config config = config_of();
	struct rig rig;
	uint64_t end;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "alone", &config), 0);
	journaled(&rig, 50);
	end = durable(&rig);
	CU_ASSERT_EQUAL(end, rig.positions->received.position);
	CU_ASSERT_TRUE(rig.positions->filed < end);
	rig_close(&rig);
	CU_ASSERT_EQUAL(files_count(&rig, "*.journal"), 4);
	CU_ASSERT_EQUAL_FATAL(opened(&rig, "alone", &config), 0);
	CU_ASSERT_EQUAL(rig.report.end_position, end);
	CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
	CU_ASSERT_PTR_NULL(hfb_store_note(rig.store));
	CU_ASSERT_EQUAL(files_count(&rig, "*"), 0);
	CU_ASSERT_TRUE(rig_drain(&rig));
	CU_ASSERT_TRUE(rig_check(&rig) >= 50);
	rig_close(&rig);
	CU_ASSERT_EQUAL(fault_env.open_files, 0);
}

static void
test_a_stop_files_all_and_removes_it(void)
{
	struct rig_config config = config_of();
	struct rig rig;
	uint64_t end;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "stop", &config), 0);
	journaled(&rig, 20);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	end = durable(&rig);
	CU_ASSERT_EQUAL(rig.positions->filed, end);
	rig_close(&rig);
	CU_ASSERT_EQUAL(files_count(&rig, "*"), 0);

	/* without an end mark: what was durable is in the file all the same */
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "stop", &config), 0);
	journaled(&rig, 20);
	end = durable(&rig);
	CU_ASSERT_TRUE(rig_detach(&rig, false));
	CU_ASSERT_TRUE(rig.positions->filed >= end);
	rig_close(&rig);
	CU_ASSERT_EQUAL(files_count(&rig, "*"), 0);
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "stop", &config), 0);
	CU_ASSERT_TRUE(rig.report.end_position >= end);
	rig_close(&rig);
}

/* Small files: gone over many times, with the log's own in between. */
static void
test_files_are_used_again(void)
{
	struct rig_config config = config_of();
	struct rig rig;
	uint64_t end;

	config.journal_file_bytes = 65536;
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "again", &config), 0);
	journaled(&rig, 400);
	CU_ASSERT_TRUE(rig.positions->filed > 0);
	end = durable(&rig);
	rig_close(&rig);
	CU_ASSERT_EQUAL_FATAL(opened(&rig, "again", &config), 0);
	CU_ASSERT_EQUAL(rig.report.end_position, end);
	CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
	CU_ASSERT_PTR_NULL(hfb_store_note(rig.store));
	CU_ASSERT_TRUE(rig_drain(&rig));
	CU_ASSERT_TRUE(rig_check(&rig) > 400);
	rig_close(&rig);
}

static void
test_a_torn_tail_is_no_damage(void)
{
	struct rig_config config = config_of();
	struct rig rig;
	uint64_t at, end;
	uint8_t *bytes;
	char path[600];
	size_t size;

	end = crashed(&rig, "torn", &config, 10);
	bytes = journal_load(&rig, path, &size);
	at = group_at(bytes, size, UINT32_MAX);
	bytes[at + 600] ^= 1;
	journal_save(path, bytes, size);
	free(bytes);
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "torn", &config), 0);
	CU_ASSERT_TRUE(rig.report.end_position < end);
	CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
	CU_ASSERT_PTR_NULL(hfb_store_note(rig.store));
	rig_close(&rig);
}

static void
test_damage_is_named_and_found_in_the_log(void)
{
	struct rig_config config = config_of();
	struct rig rig;
	uint64_t at, end;
	uint8_t *bytes;
	char path[600];
	size_t size;

	end = crashed(&rig, "damage", &config, 10);
	bytes = journal_load(&rig, path, &size);
	at = group_at(bytes, size, 4);
	bytes[at + 600] ^= 1;
	journal_save(path, bytes, size);
	free(bytes);
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "damage", &config), 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(hfb_store_note(rig.store));
	CU_ASSERT_PTR_NOT_NULL(strstr(hfb_store_note(rig.store), "0-0.journal: damaged"));
	CU_ASSERT_EQUAL(rig.report.corrupt_count, 1);
	CU_ASSERT_EQUAL(rig.report.end_position, end);
	rig_close(&rig);

	/* the file's own header: nothing in it can be believed */
	crashed(&rig, "damage-head", &config, 10);
	bytes = journal_load(&rig, path, &size);
	bytes[20] ^= 1;
	journal_save(path, bytes, size);
	free(bytes);
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "damage-head", &config), 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(hfb_store_note(rig.store));
	CU_ASSERT_PTR_NOT_NULL(strstr(hfb_store_note(rig.store), "set aside as .stray"));
	CU_ASSERT_EQUAL(files_count(&rig, "*.stray"), 1);
	CU_ASSERT_EQUAL(files_count(&rig, "*.journal"), 0);
	rig_close(&rig);
}

static void
test_another_version_is_refused(void)
{
	struct rig_config config = config_of();
	struct hfb_journal_header h;
	uint8_t *bytes;
	struct rig rig;
	char path[600];
	size_t size;

	crashed(&rig, "version", &config, 10);
	bytes = journal_load(&rig, path, &size);
	for (int i = 0; i < 2; i++) {
		memcpy(&h, bytes, sizeof(h));
		h.version = i == 0 ? 2 : 1;
		h.incompatible = i == 0 ? 0 : 4;
		h.header_crc = hfb_crc32c(0, &h, offsetof(struct hfb_journal_header, header_crc));
		memcpy(bytes, &h, sizeof(h));
		journal_save(path, bytes, size);
		CU_ASSERT_EQUAL(rig_open(&rig, "version", &config), -EPROTONOSUPPORT);
		CU_ASSERT_PTR_NOT_NULL(strstr(rig.err.text, "another hfbusd"));
		CU_ASSERT_EQUAL(files_count(&rig, "*.journal"), 4);
	}
	free(bytes);
	CU_ASSERT_EQUAL(fault_env.open_files, 0);
}

/* A run that knew no journal was in between: its log may have grown where these bytes were. */
static void
test_a_journal_of_another_run_is_not_replayed(void)
{
	struct rig_config config = config_of();
	char path[600], kept[700];
	struct rig rig;
	uint64_t end;

	crashed(&rig, "stale", &config, 10);
	snprintf(path, sizeof(path), "%s/journal", rig.data_dir);
	snprintf(kept, sizeof(kept), "%s/kept", rig.data_dir);
	CU_ASSERT_EQUAL_FATAL(rename(path, kept), 0);
	config.journal_logs_min = UINT32_MAX;
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "stale", &config), 0);
	CU_ASSERT_TRUE(rig_append(&rig, 904));
	CU_ASSERT_TRUE(rig_drain(&rig));
	end = durable(&rig);
	rig_close(&rig);
	CU_ASSERT_EQUAL_FATAL(rename(kept, path), 0);
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "stale", &config), 0);
	CU_ASSERT_EQUAL(rig.report.end_position, end);
	CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(hfb_store_note(rig.store));
	CU_ASSERT_PTR_NOT_NULL(strstr(hfb_store_note(rig.store), "set aside"));
	CU_ASSERT_TRUE(files_count(&rig, "*.stray") > 0);
	rig_close(&rig);
}

/* The partition is gone: its bytes are nobody's. */
static void
test_a_deleted_partition_is_passed_by(void)
{
	struct rig_config config = config_of();
	char command[700];
	struct rig rig;

	crashed(&rig, "deleted", &config, 10);
	snprintf(command, sizeof(command), "rm -r '%s/topics/rig'", rig.data_dir);
	CU_ASSERT_EQUAL_FATAL(system(command), 0);
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "deleted", &config), 0);
	CU_ASSERT_EQUAL(rig.report.end_position, 0);
	CU_ASSERT_PTR_NULL(hfb_store_note(rig.store));
	CU_ASSERT_EQUAL(files_count(&rig, "*"), 0);
	rig_close(&rig);
}

static void
test_a_failed_write_is_final(void)
{
	struct rig_config config = config_of();
	struct rig rig;
	uint64_t before;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "failed", &config), 0);
	journaled(&rig, 5);
	/* cut short once: it is written again in its place */
	fault_env.short_write_bytes = 512;
	CU_ASSERT_TRUE(rig_append(&rig, 704));
	CU_ASSERT_TRUE(rig_drain(&rig));
	CU_ASSERT_EQUAL(rig.positions->state, HFB_PARTITION_OPEN);
	journaled(&rig, 1);
	before = durable(&rig);
	fault_env.write_error = -EIO;
	CU_ASSERT_TRUE(rig_append(&rig, 704));
	for (int i = 0; i < 100000 && rig.positions->state != HFB_PARTITION_FAILED; i++)
		rig_poll(&rig);
	CU_ASSERT_EQUAL(rig.positions->state, HFB_PARTITION_FAILED);
	fault_env.write_error = 0;
	for (int i = 0; i < 1000; i++)
		rig_poll(&rig);
	CU_ASSERT_EQUAL(durable(&rig), before);
	CU_ASSERT_EQUAL(rig_try(&rig, 704, false), HFB_LOG_IO_ERROR);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
	/* what was durable is in the journal alone, and is found there */
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "failed", &config), 0);
	CU_ASSERT_TRUE(rig.report.end_position >= before);
	CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
	rig_close(&rig);
}

static void
test_a_replay_survives_each_single_fault(void)
{
	struct rig_config config = config_of();
	struct rig rig;
	bool spent = true;
	uint64_t end;
	int step;

	config.journal_file_bytes = 65536;
	end = crashed(&rig, "faults", &config, 30);
	for (step = 0; spent && step < 2000; step++) {
		int r;

		config.env = fault_env_reset();
		fault_env.fail_at = step;
		r = rig_open(&rig, "faults", &config);
		spent = fault_env.fired;
		fault_env.fail_at = -1;
		if (r == 0)
			CU_ASSERT_TRUE(rig.report.end_position >= end);
		rig_close(&rig);
		CU_ASSERT_EQUAL(fault_env.open_files, 0);
	}
	CU_ASSERT_TRUE(step > 20);
	CU_ASSERT_FALSE(spent);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "the journal alone makes durable", test_the_journal_alone_makes_durable },
		{ "a stop files all and removes it", test_a_stop_files_all_and_removes_it },
		{ "files are used again", test_files_are_used_again },
		{ "a torn tail is no damage", test_a_torn_tail_is_no_damage },
		{ "damage is named", test_damage_is_named_and_found_in_the_log },
		{ "another version is refused", test_another_version_is_refused },
		{ "a journal of another run is not replayed",
		  test_a_journal_of_another_run_is_not_replayed },
		{ "a deleted partition is passed by", test_a_deleted_partition_is_passed_by },
		{ "a failed write is final", test_a_failed_write_is_final },
		{ "a replay survives each single fault", test_a_replay_survives_each_single_fault },
		CU_TEST_INFO_NULL,
	};

	return hfb_test_main("journal", tests);
}
