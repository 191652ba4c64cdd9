/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A core with so many logs at work that they wait for each other.
 *
 * Goal:   what the journal takes of each grows with them, and is found after a crash; more of
 *	   them are filed together once the journal's next file is needed; from 64 on a log
 *	   whose write is through waits for its flush, which holds up nobody for good.
 * Method: the same batches to all; the test is core and helper, and gives the core its time.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "fault_env.h"
#include "hfb_test_main.h"
#include "journal.h"
#include "log_private.h"
#include "log_rig.h"
#include "sim_disk.h"
#include "store_private.h"
#include "writer_private.h"

#define LOGS_MAX  160u
#define POLLS_MAX 100000u
/* Above what the journal takes of few, below what it takes of 160: 8 KiB * 160 / 128. */
#define LARGE_BYTES 9000u

struct crowd {
	struct hfb_store *store;
	struct hfb_writer *writer;
	struct hfb_positions *positions;
	struct hfb_log *logs[LOGS_MAX];
	uint32_t count;
	enum hfb_tail_mode tail; /* of those opened from now on */
	uint64_t now;		 /* stands still: nothing is done because time has passed */
};

static void
crowd_open(struct crowd *c, struct hfb_env *env, const char *data_dir, uint32_t count,
	   uint32_t journal_logs_min, uint64_t journal_file_bytes)
{
	struct hfb_store_config config = { .data_dir = data_dir,
					   .tail = c->tail,
					   .helper_cpu = -1,
					   .helper_manual = true,
					   .journal_logs_min = journal_logs_min,
					   .journal_file_bytes = journal_file_bytes };
	struct hfb_writer_config writer_config = { .logs_max = LOGS_MAX, .producers_max = 16 };
	struct hfb_log_report report;
	struct hfb_err err;
	uint32_t epoch;

	c->count = count;
	c->now = hfb_clock_now_ns();
	c->positions = aligned_alloc(64, count * sizeof(*c->positions));
	memset(c->positions, 0, count * sizeof(*c->positions));
	CU_ASSERT_EQUAL_FATAL(hfb_store_open(&config, env, &c->store, &err), 0);
	CU_ASSERT_EQUAL_FATAL(hfb_store_epoch_begin(c->store, &epoch, &err), 0);
	CU_ASSERT_EQUAL_FATAL(hfb_writer_create(c->store, &writer_config, &c->writer, &err), 0);
	for (uint32_t i = 0; i < count; i++) {
		struct hfb_log_config log = { .topic = "crowd",
					      .topic_uuid.bytes[0] = (uint8_t)(1 + i),
					      .commit_stage = HFB_STAGE_DURABLE,
					      .leader_epoch = epoch,
					      .positions = &c->positions[i] };

		CU_ASSERT_EQUAL_FATAL(hfb_log_open(c->store, &log, &c->logs[i], &report, &err), 0);
		CU_ASSERT_EQUAL(report.corrupt_count, 0);
		hfb_writer_attach(c->writer, c->logs[i]);
	}
}

/* As a crash would leave it. */
static void
crowd_drop(struct crowd *c)
{
	hfb_writer_destroy(c->writer);
	for (uint32_t i = 0; i < c->count; i++)
		hfb_log_close(c->logs[i]);
	hfb_store_close(c->store);
	free(c->positions);
}

static void
crowd_close(struct crowd *c)
{
	CU_ASSERT_TRUE_FATAL(rig_logs_close(c->store, c->writer, c->logs, c->count));
	hfb_writer_destroy(c->writer);
	hfb_store_close(c->store);
	free(c->positions);
}

static void
turn(struct crowd *c)
{
	hfb_writer_poll(c->writer, c->now);
	hfb_store_help(c->store);
}

static void
append_to_all(struct crowd *c, uint64_t number, uint32_t bytes)
{
	for (uint32_t i = 0; i < c->count; i++)
		for (uint32_t tries = 0; !rig_append_to(c->logs[i], number, bytes); tries++) {
			CU_ASSERT_TRUE_FATAL(tries < POLLS_MAX);
			turn(c);
		}
}

static bool
all_durable(const struct crowd *c)
{
	for (uint32_t i = 0; i < c->count; i++)
		if (c->logs[i]->durable != c->logs[i]->position)
			return false;
	return true;
}

static bool
all_written(const struct crowd *c)
{
	for (uint32_t i = 0; i < c->count; i++)
		if (c->logs[i]->written != c->logs[i]->position)
			return false;
	return true;
}

static uint32_t
failed_of(const struct crowd *c)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < c->count; i++)
		n += c->positions[i].state == HFB_PARTITION_FAILED;
	return n;
}

/* Turns until @done, within reason. */
#define TURN_UNTIL(c, done)                                                                        \
	do {                                                                                       \
		for (uint64_t until_ns = hfb_clock_now_ns() + 20000000000ull;                      \
		     !(done) && hfb_clock_now_ns() < until_ns; sched_yield())                      \
			turn(c);                                                                   \
		CU_ASSERT_TRUE_FATAL(done);                                                        \
	} while (0)

static void
test_the_journal_takes_more_of_many(void)
{
	struct sim_disk *disk = sim_disk_create(11), *left;
	uint64_t writes, bytes, ends[LOGS_MAX];
	struct crowd c = { 0 };

	CU_ASSERT_EQUAL_FATAL(hfb_env_mkdir(sim_disk_env(disk), "/data", 0755), 0);
	crowd_open(&c, sim_disk_env(disk), "/data", LOGS_MAX, 1, 4u << 20);
	append_to_all(&c, 0, 64);
	TURN_UNTIL(&c, all_durable(&c));
	/* one alone goes the direct way with so much */
	writes = hfb_writer_stats(c.writer)->writes;
	CU_ASSERT_TRUE_FATAL(rig_append_to(c.logs[0], 1, LARGE_BYTES));
	TURN_UNTIL(&c, all_durable(&c));
	CU_ASSERT_TRUE(hfb_writer_stats(c.writer)->writes > writes);

	writes = hfb_writer_stats(c.writer)->writes;
	bytes = hfb_writer_stats(c.writer)->journal_bytes;
	append_to_all(&c, 2, LARGE_BYTES);
	TURN_UNTIL(&c, hfb_writer_stats(c.writer)->journal_bytes != bytes || all_durable(&c));
	CU_ASSERT_TRUE(hfb_writer_stats(c.writer)->journal_bytes - bytes <=
		       HFB_JOURNAL_GROUP_BYTES);
	TURN_UNTIL(&c, all_durable(&c));
	/* a group of them; then they are fewer, and the journal takes less of each */
	CU_ASSERT_TRUE(hfb_writer_stats(c.writer)->journal_bytes - bytes > 20 * LARGE_BYTES);
	CU_ASSERT_TRUE(hfb_writer_stats(c.writer)->writes - writes <= LOGS_MAX - 20);
	for (uint32_t i = 0; i < LOGS_MAX; i++)
		ends[i] = c.logs[i]->durable;
	left = sim_disk_crash(disk, sim_disk_now(disk), 1);
	crowd_drop(&c);

	crowd_open(&c, sim_disk_env(left), "/data", LOGS_MAX, UINT32_MAX, 0);
	CU_ASSERT_PTR_NULL(hfb_store_note(c.store));
	for (uint32_t i = 0; i < LOGS_MAX; i++)
		CU_ASSERT_TRUE(c.logs[i]->position >= ends[i]);
	crowd_close(&c);
	sim_disk_destroy(left);
	sim_disk_destroy(disk);
}

static uint32_t
filing_of(const struct crowd *c)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < c->count; i++)
		n += c->logs[i]->journal.state == HFB_JOURNAL_FILING;
	return n;
}

static void
test_more_are_filed_together_once_the_next_file_is_needed(void)
{
	struct sim_disk *disk = sim_disk_create(12);
	const char *what = NULL;
	uint32_t most = 0;
	struct crowd c = { 0 };

	CU_ASSERT_EQUAL_FATAL(hfb_env_mkdir(sim_disk_env(disk), "/data", 0755), 0);
	crowd_open(&c, sim_disk_env(disk), "/data", LOGS_MAX, 1, 128u << 10);
	for (uint64_t n = 0; n < 20; n++) {
		append_to_all(&c, n, 704);
		for (uint32_t tries = 0; !all_durable(&c); tries++) {
			uint32_t filing;

			CU_ASSERT_TRUE_FATAL(tries < POLLS_MAX);
			turn(&c);
			filing = filing_of(&c);
			most = filing > most ? filing : most;
		}
	}
	printf("(%u together) ", most);
	CU_ASSERT_TRUE(most > 32);
	CU_ASSERT_TRUE(most <= 64);
	CU_ASSERT_EQUAL(failed_of(&c), 0);
	CU_ASSERT_EQUAL(sim_disk_breaches(disk, &what), 0);
	/* and all of them are filed in the end */
	c.now += 2000000000;
	TURN_UNTIL(&c, !hfb_writer_busy(c.writer));
	for (uint32_t i = 0; i < LOGS_MAX; i++)
		CU_ASSERT_EQUAL(c.logs[i]->filed, c.logs[i]->position);
	crowd_close(&c);
	sim_disk_destroy(disk);
}

/* Written, with a flush held back, and one batch more in each. False: not on this file system. */
static bool
flush_waited_for(struct crowd *c, const char *name, uint32_t count, uint64_t *ret_writes)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", hfb_test_folder(), name);
	crowd_open(c, fault_env_reset(), path, count, UINT32_MAX, 0);
	if (!c->store->flush_covers) {
		fprintf(stderr, "no flush covers others here: not tested\n");
		crowd_close(c);
		return false;
	}
	append_to_all(c, 0, 64);
	TURN_UNTIL(c, all_durable(c));
	fault_env.hold_flushes = true;
	append_to_all(c, 1, 64);
	TURN_UNTIL(c, all_written(c) && fault_env.flush_held);
	*ret_writes = hfb_writer_stats(c->writer)->writes;
	append_to_all(c, 2, 64);
	for (uint32_t n = 0; n < 100; n++)
		turn(c);
	return true;
}

static void
test_many_wait_for_their_flush(void)
{
	uint64_t writes;
	struct crowd c = { 0 };

	if (!flush_waited_for(&c, "many", HFB_MANY_LOGS, &writes))
		return;
	CU_ASSERT_EQUAL(hfb_writer_stats(c.writer)->writes, writes);
	CU_ASSERT_FALSE(all_durable(&c));
	/* but for who has much to write */
	CU_ASSERT_TRUE(rig_append_to(c.logs[5], 3, 40000));
	turn(&c);
	CU_ASSERT_EQUAL(hfb_writer_stats(c.writer)->writes, writes);
	for (uint64_t n = 0; n < 3; n++)
		CU_ASSERT_TRUE(rig_append_to(c.logs[5], 4 + n, 40000));
	TURN_UNTIL(&c, hfb_writer_stats(c.writer)->writes > writes);
	fault_env.hold_flushes = false;
	TURN_UNTIL(&c, all_durable(&c));
	CU_ASSERT_EQUAL(failed_of(&c), 0);
	crowd_close(&c);
}

/* With blocks of their own for each write: not for each turn that waits for a write. */
static void
test_who_waits_fills_no_blocks(void)
{
	struct crowd c = { .tail = HFB_TAIL_PAD };
	uint64_t writes, before;

	if (!flush_waited_for(&c, "pad", HFB_MANY_LOGS, &writes))
		return;
	before = c.logs[5]->position;
	for (uint64_t n = 0; n < 8; n++) {
		CU_ASSERT_TRUE(rig_append_to(c.logs[5], 3 + n, 64));
		turn(&c);
	}
	CU_ASSERT_EQUAL(hfb_writer_stats(c.writer)->writes, writes);
	CU_ASSERT_EQUAL(c.logs[5]->position - before, 8 * (HFB_BATCH_HEADER_BYTES + 64));
	fault_env.hold_flushes = false;
	TURN_UNTIL(&c, all_durable(&c));
	for (uint32_t i = 0; i < c.count; i++)
		CU_ASSERT_EQUAL(c.logs[i]->position % HFB_BLOCK_BYTES, 0);
	crowd_close(&c);
}

static void
test_fewer_do_not(void)
{
	uint64_t writes;
	struct crowd c = { 0 };

	if (!flush_waited_for(&c, "fewer", HFB_MANY_LOGS - 1, &writes))
		return;
	TURN_UNTIL(&c, hfb_writer_stats(c.writer)->writes >= writes + HFB_MANY_LOGS - 1);
	fault_env.hold_flushes = false;
	TURN_UNTIL(&c, all_durable(&c));
	crowd_close(&c);
}

static void
test_a_flush_that_fails_is_final_for_all_that_wait(void)
{
	uint64_t writes, durable[HFB_MANY_LOGS];
	struct crowd c = { 0 };

	if (!flush_waited_for(&c, "failed", HFB_MANY_LOGS, &writes))
		return;
	for (uint32_t i = 0; i < c.count; i++)
		durable[i] = c.positions[i].durable.position;
	fault_env.flush_error = -EIO;
	fault_env.hold_flushes = false;
	TURN_UNTIL(&c, failed_of(&c) == c.count);
	fault_env.flush_error = 0;
	for (uint32_t n = 0; n < 100; n++)
		turn(&c);
	for (uint32_t i = 0; i < c.count; i++)
		CU_ASSERT_EQUAL(c.positions[i].durable.position, durable[i]);
	crowd_close(&c);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "the journal takes more of many", test_the_journal_takes_more_of_many },
		{ "more are filed together once the next file is needed",
		  test_more_are_filed_together_once_the_next_file_is_needed },
		{ "many wait for their flush", test_many_wait_for_their_flush },
		{ "who waits fills no blocks", test_who_waits_fills_no_blocks },
		{ "fewer do not", test_fewer_do_not },
		{ "a flush that fails is final for all that wait",
		  test_a_flush_that_fails_is_final_for_all_that_wait },
		CU_TEST_INFO_NULL,
	};

	return hfb_test_main("many at work", tests);
}
