/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal that a core's partitions share, at work.
 *
 * Goal:   what only the journal has is durable; its files are used again and removed when, and
 *	   only when, the logs' own files have what is in them.
 * Method: one log with a journal of its own, and nine more beside it; a disk in memory that
 *	   loses power at any step, writes that fail.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "fault_env.h"
#include "hfb_test_main.h"
#include "journal_rig.h"
#include "sim_disk.h"
#include "store_private.h"

static void
test_the_journal_alone_makes_durable(void)
{
	struct rig_config config = journal_rig_config();
	struct rig rig;
	uint64_t end;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "alone", &config), 0);
	journal_rig_write(&rig, 50);
	end = journal_rig_durable(&rig);
	CU_ASSERT_EQUAL(end, rig.positions->received.position);
	CU_ASSERT_TRUE(rig.positions->filed < end);
	rig_close(&rig);
	CU_ASSERT_EQUAL(journal_rig_files(&rig, "*.journal"), 4);
	CU_ASSERT_EQUAL_FATAL(journal_rig_reopen(&rig, "alone", &config), 0);
	CU_ASSERT_EQUAL(rig.report.end_position, end);
	CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
	CU_ASSERT_PTR_NULL(hfb_store_note(rig.store));
	CU_ASSERT_EQUAL(journal_rig_files(&rig, "*"), 0);
	CU_ASSERT_TRUE(rig_drain(&rig));
	CU_ASSERT_TRUE(rig_check(&rig) >= 50);
	rig_close(&rig);
	CU_ASSERT_EQUAL(fault_env.open_files, 0);
}

static void
test_a_stop_files_all_and_removes_it(void)
{
	struct rig_config config = journal_rig_config();
	struct rig rig;
	uint64_t end;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "stop", &config), 0);
	journal_rig_write(&rig, 20);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	end = journal_rig_durable(&rig);
	CU_ASSERT_EQUAL(rig.positions->filed, end);
	rig_close(&rig);
	CU_ASSERT_EQUAL(journal_rig_files(&rig, "*"), 0);

	/* without an end mark: what was durable is in the file all the same */
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "stop", &config), 0);
	journal_rig_write(&rig, 20);
	end = journal_rig_durable(&rig);
	CU_ASSERT_TRUE(rig_detach(&rig, false));
	CU_ASSERT_TRUE(rig.positions->filed >= end);
	rig_close(&rig);
	CU_ASSERT_EQUAL(journal_rig_files(&rig, "*"), 0);
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "stop", &config), 0);
	CU_ASSERT_TRUE(rig.report.end_position >= end);
	rig_close(&rig);
}

/* Small files: gone over many times, with the log's own in between. */
static void
test_files_are_used_again(void)
{
	struct rig_config config = journal_rig_config();
	struct rig rig;
	uint64_t end;

	config.journal_file_bytes = 65536;
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "again", &config), 0);
	journal_rig_write(&rig, 400);
	CU_ASSERT_TRUE(rig.positions->filed > 0);
	end = journal_rig_durable(&rig);
	rig_close(&rig);
	CU_ASSERT_EQUAL_FATAL(journal_rig_reopen(&rig, "again", &config), 0);
	CU_ASSERT_EQUAL(rig.report.end_position, end);
	CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
	CU_ASSERT_PTR_NULL(hfb_store_note(rig.store));
	CU_ASSERT_TRUE(rig_drain(&rig));
	CU_ASSERT_TRUE(rig_check(&rig) > 400);
	rig_close(&rig);
}

/* A disk in memory whose folder of journals is not synced when told so. */
static const struct hfb_env_ops *sim_ops;
static bool unsynced;

static int
sync_dir(struct hfb_env *env, const char *path)
{
	if (unsynced && strcmp(path, "/data/journal") == 0)
		return -EIO;
	return sim_ops->sync_dir(env, path);
}

/*
 * A stop is killed when its journal's files are removed, and not yet durably. The next run
 * writes on, and what a power failure brings back then is no damage.
 */
static void
test_files_removed_by_a_killed_run_stay_away(void)
{
	struct rig_config config = journal_rig_config();
	struct sim_disk *disk = sim_disk_create(3);
	struct hfb_env *env = sim_disk_env(disk);
	struct hfb_env_ops ops = *env->ops;
	struct rig rig;

	sim_ops = env->ops;
	ops.sync_dir = sync_dir;
	env->ops = &ops;
	config.env = env;
	config.data_dir = "/data";
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "killed", &config), 0);
	journal_rig_write(&rig, 10);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	unsynced = true;
	rig_close(&rig);
	unsynced = false;
	config.journal_logs_min = UINT32_MAX;
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "killed", &config), 0);
	CU_ASSERT_TRUE(rig_append(&rig, 704));
	CU_ASSERT_TRUE(rig_drain(&rig));
	rig_close(&rig);
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct sim_disk *left = sim_disk_crash(disk, sim_disk_now(disk), seed);

		config.env = sim_disk_env(left);
		CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "killed", &config), 0);
		CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
		CU_ASSERT_PTR_NULL(hfb_store_note(rig.store));
		rig_close(&rig);
		sim_disk_destroy(left);
	}
	sim_disk_destroy(disk);
}

/* Power fails at each step of what @disk has done since @from: nothing is lost or damaged. */
static void
each_moment(struct sim_disk *disk, uint64_t from, uint64_t end)
{
	struct rig_config config = journal_rig_config();
	uint64_t until = sim_disk_now(disk);
	struct rig rig;

	config.data_dir = "/data";
	config.journal_logs_min = UINT32_MAX;
	for (uint64_t n = 0; n <= 4 * (until - from); n++) {
		struct sim_disk *left = sim_disk_crash(disk, from + n / 4, n + 1);

		config.env = sim_disk_env(left);
		CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "moment", &config), 0);
		CU_ASSERT_TRUE(rig.report.end_position >= end);
		CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
		CU_ASSERT_PTR_NULL(hfb_store_note(rig.store));
		rig_close(&rig);
		sim_disk_destroy(left);
	}
}

static void
test_its_files_go_in_order(void)
{
	struct rig_config config = journal_rig_config();
	struct sim_disk *disk = sim_disk_create(5);
	struct rig rig;
	uint64_t from, end;

	config.env = sim_disk_env(disk);
	config.data_dir = "/data";
	config.journal_file_bytes = 65536;
	end = journal_rig_crash(&rig, "order", &config, 200);
	/* a replay, and a stop */
	from = sim_disk_now(disk);
	CU_ASSERT_EQUAL_FATAL(journal_rig_reopen(&rig, "order", &config), 0);
	each_moment(disk, from, end);
	journal_rig_write(&rig, 200);
	end = journal_rig_durable(&rig);
	from = sim_disk_now(disk);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
	each_moment(disk, from, end);
	sim_disk_destroy(disk);
}

static void
test_a_failed_write_is_final(void)
{
	struct rig_config config = journal_rig_config();
	struct rig rig;
	uint64_t before;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "failed", &config), 0);
	journal_rig_write(&rig, 5);
	/* cut short once: it is written again in its place */
	fault_env.short_write_bytes = 512;
	CU_ASSERT_TRUE(rig_append(&rig, 704));
	CU_ASSERT_TRUE(rig_drain(&rig));
	CU_ASSERT_EQUAL(rig.positions->state, HFB_PARTITION_OPEN);
	journal_rig_write(&rig, 1);
	before = journal_rig_durable(&rig);
	fault_env.write_error = -EIO;
	CU_ASSERT_TRUE(rig_append(&rig, 704));
	for (int i = 0; i < 100000 && rig.positions->state != HFB_PARTITION_FAILED; i++)
		rig_poll(&rig);
	CU_ASSERT_EQUAL(rig.positions->state, HFB_PARTITION_FAILED);
	fault_env.write_error = 0;
	for (int i = 0; i < 1000; i++)
		rig_poll(&rig);
	CU_ASSERT_EQUAL(journal_rig_durable(&rig), before);
	CU_ASSERT_EQUAL(rig_try(&rig, 704, false), HFB_LOG_IO_ERROR);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
	/* what was durable is in the journal alone, and is found there */
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "failed", &config), 0);
	CU_ASSERT_TRUE(rig.report.end_position >= before);
	CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
	rig_close(&rig);
}

static uint64_t
in_20_s(void)
{
	return hfb_clock_now_ns() + 20000000000ull;
}

/* Logs beside the rig's own, of the same writer. */
#define OTHERS 17u

struct others {
	struct hfb_positions *positions;
	struct hfb_log *logs[OTHERS];
};

static void
others_open(struct others *o, struct rig *rig)
{
	struct hfb_log_report report;

	o->positions = aligned_alloc(64, OTHERS * sizeof(*o->positions));
	memset(o->positions, 0, OTHERS * sizeof(*o->positions));
	for (uint32_t i = 0; i < OTHERS; i++) {
		struct hfb_log_config config = { .topic = "others",
						 .topic_uuid.bytes[0] = 7,
						 .partition = i,
						 .commit_stage = HFB_STAGE_DURABLE,
						 .leader_epoch = rig->epoch,
						 .positions = &o->positions[i],
						 .user = rig };

		CU_ASSERT_EQUAL_FATAL(
			hfb_log_open(rig->store, &config, &o->logs[i], &report, &rig->err), 0);
		hfb_writer_attach(rig->writer, o->logs[i]);
	}
}

static void
others_close(struct others *o, struct rig *rig)
{
	CU_ASSERT_TRUE_FATAL(rig_logs_close(rig->store, rig->writer, o->logs, OTHERS));
	free(o->positions);
}

static uint32_t
others_in(const struct others *o, uint32_t state)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < OTHERS; i++)
		n += o->positions[i].state == state;
	return n;
}

/* All of them durable, and something of each in the journal alone. */
static void
others_journaled(struct others *o, struct rig *rig)
{
	uint32_t held = 0;

	for (uint64_t n = 0; held < OTHERS && n < 5000; n++) {
		for (uint32_t i = 0; i < OTHERS; i++)
			CU_ASSERT_TRUE_FATAL(rig_append_to(o->logs[i], n, 704));
		for (uint32_t left = 1; left > 0;) {
			rig_poll(rig);
			left = 0;
			for (uint32_t i = 0; i < OTHERS; i++)
				left += hfb_log_position(o->logs[i], HFB_STAGE_DURABLE) !=
					hfb_log_position(o->logs[i], HFB_STAGE_RECEIVED);
		}
		held = 0;
		for (uint32_t i = 0; i < OTHERS; i++)
			held += o->positions[i].filed < o->positions[i].durable.position;
	}
	CU_ASSERT_EQUAL_FATAL(held, OTHERS);
}

/* As many as are filed at once cannot be: the others are, and the core may rest. */
static void
test_logs_that_cannot_be_filed_are_in_nobodys_way(void)
{
	struct rig_config config = journal_rig_config();
	struct others others;
	struct rig rig;
	uint32_t failed = 0, i = 0;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "way", &config), 0);
	others_open(&others, &rig);
	others_journaled(&others, &rig);
	fault_env.write_error = -EIO;
	for (uint64_t until = in_20_s(); failed < 16 && hfb_clock_now_ns() < until;) {
		rig_poll(&rig);
		failed = others_in(&others, HFB_PARTITION_FAILED);
	}
	fault_env.write_error = 0;
	CU_ASSERT_TRUE_FATAL(failed >= 16);
	/* not before: it would be filed as soon as a few of them have failed */
	journal_rig_write(&rig, 1);
	for (uint64_t until = in_20_s(); hfb_writer_busy(rig.writer) && hfb_clock_now_ns() < until;)
		rig_poll(&rig);
	CU_ASSERT_FALSE(hfb_writer_busy(rig.writer));
	CU_ASSERT_EQUAL(rig.positions->state, HFB_PARTITION_OPEN);
	CU_ASSERT_EQUAL(rig.positions->filed, journal_rig_durable(&rig));
	others_close(&others, &rig);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
	/* of those that failed it has what no file has */
	CU_ASSERT_EQUAL(journal_rig_files(&rig, "*.journal"), 4);
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "way", &config), 0);
	others_open(&others, &rig);
	for (i = 0; i < OTHERS; i++)
		CU_ASSERT_TRUE(others.positions[i].durable.offset > 0);
	others_close(&others, &rig);
	rig_close(&rig);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "the journal alone makes durable", test_the_journal_alone_makes_durable },
		{ "a stop files all and removes it", test_a_stop_files_all_and_removes_it },
		{ "files are used again", test_files_are_used_again },
		{ "files removed by a killed run stay away",
		  test_files_removed_by_a_killed_run_stay_away },
		{ "its files go in order", test_its_files_go_in_order },
		{ "a failed write is final", test_a_failed_write_is_final },
		{ "logs that cannot be filed are in nobody's way",
		  test_logs_that_cannot_be_filed_are_in_nobodys_way },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("journal", tests);
}
