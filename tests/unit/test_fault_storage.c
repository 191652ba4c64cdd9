/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Storage when the world refuses.
 *
 * Goal:   nothing is called durable that is not; what was durable stays; a refusal
 *	   says why, leaves nothing open, and ends when its cause does.
 * Method: fail the first call, then the second, and so on until a run passes with
 *	   the fault unspent; fail what completes asynchronously; fill the disk.
 */
#include <errno.h>
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "fault_env.h"
#include "hfb_test_main.h"
#include "log_rig.h"

#define MIB	  (1u << 20)
#define STEPS_MAX 2000

static void
pause_ms(int ms)
{
	struct timespec pause = { .tv_nsec = ms * 1000000l };

	nanosleep(&pause, NULL);
}

static void
test_opening_survives_each_single_fault(void)
{
	struct rig_config config = { .env = fault_env_reset(),
				     .ring_bytes_max = MIB,
				     .segment_bytes_max = MIB };
	bool spent = true;
	struct rig rig;
	int step;

	/* a log of several segments, with an unclean end */
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "open-faults", &config), 0);
	for (int i = 0; i < 60; i++)
		CU_ASSERT_TRUE(rig_append(&rig, 50000));
	CU_ASSERT_TRUE(rig_drain(&rig));
	rig_close(&rig);
	CU_ASSERT_EQUAL(fault_env.open_files, 0);

	for (step = 0; spent && step < STEPS_MAX; step++) {
		int r;

		config.env = fault_env_reset();
		fault_env.fail_at = step;
		r = rig_open(&rig, "open-faults", &config);
		spent = fault_env.fired;
		fault_env.fail_at = -1;
		if (r < 0) {
			CU_ASSERT_TRUE(spent);
			CU_ASSERT_NOT_EQUAL(rig.err.text[0], '\0');
		} else {
			/* a fault that only costs speed: all must be there */
			CU_ASSERT_EQUAL(rig.report.end_offset, 60);
			CU_ASSERT_EQUAL(rig_check(&rig), 60);
			rig_close(&rig);
		}
		CU_ASSERT_EQUAL(fault_env.open_files, 0);
	}
	CU_ASSERT_TRUE(step > 20);
	CU_ASSERT_FALSE(spent);
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "open-faults", &config), 0);
	CU_ASSERT_EQUAL(rig.report.end_offset, 60);
	CU_ASSERT_EQUAL(rig_check(&rig), 60);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

/* The helper's work: each call fails once, is tried again, and all goes through. */
static void
test_preparing_survives_each_single_fault(void)
{
	bool spent = true;
	int step;

	for (step = 0; spent && step < STEPS_MAX; step++) {
		struct rig_config config = { .env = fault_env_reset(),
					     .ring_bytes_max = MIB,
					     .segment_bytes_max = MIB,
					     .retention_bytes = 2 * MIB };
		char name[64];
		struct rig rig;

		snprintf(name, sizeof(name), "prepare-%d", step);
		CU_ASSERT_EQUAL_FATAL(rig_open(&rig, name, &config), 0);
		fault_env.fail_at = step;
		fault_env.fail_code = step % 2 == 0 ? -EIO : -ENOSPC;
		for (int i = 0; i < 40; i++)
			CU_ASSERT_TRUE(rig_append(&rig, 200000));
		CU_ASSERT_TRUE(rig_drain(&rig));
		spent = fault_env.fired;
		fault_env.fail_at = -1;
		/* the segment ahead of use may have failed last: it is tried again soon */
		for (uint64_t until = hfb_clock_now_ns() + 5000000000ull;
		     rig.positions->state != HFB_PARTITION_OPEN && hfb_clock_now_ns() < until;)
			rig_poll(&rig);
		CU_ASSERT_EQUAL(rig.positions->state, HFB_PARTITION_OPEN);
		CU_ASSERT_TRUE(rig_check(&rig) > 0);
		CU_ASSERT_EQUAL_FATAL(rig_crash(&rig), 0);
		CU_ASSERT_EQUAL(rig.report.end_offset, 40);
		CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
		CU_ASSERT_TRUE(rig_detach(&rig, true));
		rig_close(&rig);
		CU_ASSERT_EQUAL(fault_env.open_files, 0);
	}
	CU_ASSERT_TRUE(step > 20);
	CU_ASSERT_FALSE(spent);
}

/* After a failed write or sync nothing more becomes durable, ever. */
static void
failed_case(const char *name, enum hfb_sync_mode sync, int write_error, int flush_error)
{
	struct rig_config config = { .env = fault_env_reset(),
				     .sync = sync,
				     .commit_stage = HFB_STAGE_DURABLE };
	uint64_t durable, offset, bytes = 0;
	struct rig rig;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, name, &config), 0);
	for (int i = 0; i < 10; i++)
		CU_ASSERT_TRUE(rig_append(&rig, 1000));
	CU_ASSERT_TRUE(rig_drain(&rig));
	durable = rig.positions->durable.position;
	offset = rig.positions->durable.offset;
	CU_ASSERT_EQUAL(offset, 10);
	if (sync == HFB_SYNC_FDATASYNC)
		CU_ASSERT_TRUE(fault_env.flushes > 0 && fault_env.dsync_writes == 0)
	else
		CU_ASSERT_TRUE(fault_env.flushes == 0 && fault_env.plain_writes == 0)
	fault_env.write_error = write_error;
	fault_env.flush_error = flush_error;
	CU_ASSERT_TRUE(rig_append(&rig, 1000));
	for (int i = 0; i < 10000 && rig.positions->state != HFB_PARTITION_FAILED; i++) {
		rig_poll(&rig);
		if (i > 1000)
			pause_ms(1); /* a disk that others keep busy */
	}
	CU_ASSERT_EQUAL(rig.positions->state, HFB_PARTITION_FAILED);
	/* the cause is gone, and still it is final */
	fault_env.write_error = fault_env.flush_error = 0;
	for (int i = 0; i < 1000; i++)
		rig_poll(&rig);
	CU_ASSERT_EQUAL(rig.positions->durable.position, durable);
	CU_ASSERT_EQUAL(rig.positions->durable.offset, offset);
	CU_ASSERT_EQUAL(rig.positions->committed.position, durable);
	CU_ASSERT_EQUAL(rig_try(&rig, 1000, false), HFB_LOG_IO_ERROR);
	CU_ASSERT_EQUAL(rig_try(&rig, 1000, true), HFB_LOG_IO_ERROR);
	CU_ASSERT_EQUAL(hfb_log_room(rig.log), 0);
	CU_ASSERT_TRUE(hfb_writer_stats(rig.writer)->errors > 0);
	/* reading goes on */
	CU_ASSERT_PTR_NOT_NULL(hfb_log_peek(rig.log, 0, &bytes));
	CU_ASSERT_EQUAL(bytes, durable);
	CU_ASSERT_EQUAL(rig_check(&rig), 10);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
	CU_ASSERT_EQUAL(fault_env.open_files, 0);
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, name, &config), 0);
	CU_ASSERT_TRUE(rig.report.end_offset >= 10);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

static void
test_a_failed_write_is_final(void)
{
	failed_case("write-eio", HFB_SYNC_DSYNC, -EIO, 0);
	failed_case("write-enospc", HFB_SYNC_DSYNC, -ENOSPC, 0);
}

static void
test_a_failed_sync_is_final(void)
{
	struct hfb_env_device device = { 0 };

	if (hfb_env_device(hfb_env_real(), hfb_test_folder(), &device) < 0 ||
	    !device.flush_covers) {
		printf("(neither ext4 nor xfs: the group's flush is not used here) ");
		failed_case("sync-eio", HFB_SYNC_DSYNC, -EIO, 0);
		return;
	}
	failed_case("flush-eio", HFB_SYNC_FDATASYNC, 0, -EIO);
	failed_case("group-write-eio", HFB_SYNC_FDATASYNC, -EIO, 0);
}

static void
test_a_short_write_is_finished_once(void)
{
	struct rig_config config = { .env = fault_env_reset() };
	struct rig rig;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "short", &config), 0);
	CU_ASSERT_TRUE(rig_append(&rig, 16));
	CU_ASSERT_TRUE(rig_drain(&rig));
	for (uint32_t bytes = 4096; bytes <= 3 * 4096; bytes += 4096) {
		fault_env.short_write_bytes = bytes;
		CU_ASSERT_TRUE(rig_append(&rig, 50000));
		CU_ASSERT_TRUE(rig_drain(&rig));
	}
	CU_ASSERT_EQUAL(hfb_writer_stats(rig.writer)->short_writes, 3);
	CU_ASSERT_EQUAL(rig_check(&rig), 4);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

static void
test_a_full_disk_refuses_and_resumes(void)
{
	struct rig_config config = { .env = fault_env_reset(),
				     .ring_bytes_max = 4 * MIB,
				     .segment_bytes_max = MIB,
				     .commit_stage = HFB_STAGE_DURABLE };
	enum hfb_log_refusal why = HFB_LOG_OK;
	uint64_t until, appended;
	struct hfb_err trouble;
	struct rig rig;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "full", &config), 0);
	CU_ASSERT_TRUE(rig_append(&rig, 1000));
	CU_ASSERT_TRUE(rig_drain(&rig));
	fault_env.no_space = true;
	until = hfb_clock_now_ns() + 5000000000ull;
	while (why != HFB_LOG_NO_SPACE && hfb_clock_now_ns() < until) {
		why = rig_try(&rig, 10000, false);
		rig_poll(&rig);
	}
	CU_ASSERT_EQUAL_FATAL(why, HFB_LOG_NO_SPACE);
	CU_ASSERT_EQUAL(rig.positions->state, HFB_PARTITION_NO_SPACE);
	CU_ASSERT_TRUE(hfb_log_trouble(rig.log, &trouble) > 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(trouble.text, "retention"));
	CU_ASSERT_EQUAL(hfb_log_room(rig.log) < 10000 + 64, true);
	/* the gaps' reserve is in the ring, and waits for a file */
	CU_ASSERT_EQUAL(rig_try(&rig, 72, true), HFB_LOG_OK);
	appended = rig.batches;
	for (int i = 0; i < 100; i++)
		rig_poll(&rig);
	CU_ASSERT_EQUAL(rig_try(&rig, 10000, false), HFB_LOG_NO_SPACE);
	CU_ASSERT_TRUE(rig_check(&rig) > 0);
	fault_env.no_space = false;
	/* it resumes by itself */
	while (rig.positions->state != HFB_PARTITION_OPEN && hfb_clock_now_ns() < until) {
		rig_poll(&rig);
		pause_ms(1);
	}
	CU_ASSERT_EQUAL(rig.positions->state, HFB_PARTITION_OPEN);
	CU_ASSERT_TRUE(rig_append(&rig, 10000));
	CU_ASSERT_TRUE(rig_drain(&rig));
	CU_ASSERT_EQUAL(rig.batches, appended + 1);
	CU_ASSERT_EQUAL(rig_check(&rig), (int64_t)rig.batches);
	/* a stop while the disk is full ends too, and what was durable is there */
	fault_env.no_space = true;
	while (rig_try(&rig, 10000, false) == HFB_LOG_OK)
		rig_poll(&rig);
	appended = rig.positions->durable.offset;
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
	fault_env.no_space = false;
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "full", &config), 0);
	CU_ASSERT_TRUE(rig.report.end_offset >= appended);
	CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
	CU_ASSERT_EQUAL(fault_env.open_files, 0);
}

/* One turn runs over a segment's end, and the disk fills up before the next is made. */
static void
test_a_ring_full_for_want_of_a_segment_says_so(void)
{
	struct rig_config config = { .env = fault_env_reset(),
				     .ring_bytes_max = MIB,
				     .segment_bytes_max = MIB,
				     .commit_stage = HFB_STAGE_DURABLE };
	enum hfb_log_refusal why = HFB_LOG_OK;
	struct rig rig;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "full-ring", &config), 0);
	CU_ASSERT_TRUE(rig_append(&rig, 1000));
	CU_ASSERT_TRUE(rig_drain(&rig));
	/* not so far that the second segment is asked for */
	for (int i = 0; i < 2; i++)
		CU_ASSERT_TRUE(rig_append(&rig, 50000));
	CU_ASSERT_TRUE(rig_drain(&rig));
	fault_env.no_space = true;
	while (why == HFB_LOG_OK)
		why = rig_try(&rig, 10000, false);
	CU_ASSERT_EQUAL(why, HFB_LOG_RING_FULL);
	CU_ASSERT_TRUE(hfb_log_position(rig.log, HFB_STAGE_RECEIVED) > MIB);
	for (int i = 0; i < 2000 && rig.positions->durable.position != MIB; i++) {
		rig_poll(&rig);
		pause_ms(1);
	}
	CU_ASSERT_EQUAL(rig.positions->state, HFB_PARTITION_NO_SPACE);
	CU_ASSERT_EQUAL(rig_try(&rig, 50000, false), HFB_LOG_NO_SPACE);
	/* what has a segment is durable, and so acked: all of it, though a turn went on */
	CU_ASSERT_EQUAL(rig.positions->durable.position, MIB);
	fault_env.no_space = false;
	CU_ASSERT_TRUE(rig_drain(&rig));
	CU_ASSERT_EQUAL(rig.positions->state, HFB_PARTITION_OPEN);
	CU_ASSERT_EQUAL((uint64_t)rig_check(&rig), rig.batches);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

static void
test_a_failed_read_is_told(void)
{
	struct rig_config config = { .env = fault_env_reset() };
	uint8_t *buffer = aligned_alloc(4096, 8192);
	struct hfb_read read = { .buffer = buffer, .buffer_bytes = 8192 };
	struct rig rig;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "read-eio", &config), 0);
	CU_ASSERT_TRUE(rig_append(&rig, 1000));
	CU_ASSERT_TRUE(rig_drain(&rig));
	fault_env.read_error = -EIO;
	CU_ASSERT_EQUAL(hfb_log_read_start(rig.log, 0, &read), 0);
	for (int i = 0; i < 100000 && read.busy; i++)
		rig_poll(&rig);
	CU_ASSERT_FALSE(read.busy);
	CU_ASSERT_EQUAL(read.error, -EIO);
	fault_env.read_error = 0;
	CU_ASSERT_EQUAL(rig_read(&rig, 8192), (int64_t)rig.positions->durable.position);
	CU_ASSERT_EQUAL(rig.positions->state, HFB_PARTITION_OPEN);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
	free(buffer);
}

/* For a moment it is nothing; for good, all that waits for it is told. */
static void
test_a_queue_that_takes_nothing_is_final(void)
{
	struct rig_config config = { .env = fault_env_reset(), .commit_stage = HFB_STAGE_DURABLE };
	uint8_t *buffer = aligned_alloc(4096, 8192);
	struct hfb_read read = { .buffer = buffer, .buffer_bytes = 8192 };
	uint64_t durable, until;
	struct rig rig;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "submit", &config), 0);
	CU_ASSERT_TRUE(rig_append(&rig, 1000));
	CU_ASSERT_TRUE(rig_drain(&rig));
	fault_env.submit_error = -ENOMEM;
	CU_ASSERT_EQUAL(rig_try(&rig, 1000, false), HFB_LOG_OK);
	for (int i = 0; i < 100; i++)
		rig_poll(&rig);
	CU_ASSERT_EQUAL(rig.positions->state, HFB_PARTITION_OPEN);
	fault_env.submit_error = 0;
	CU_ASSERT_TRUE(rig_drain(&rig));

	durable = rig.positions->durable.position;
	fault_env.submit_error = -EBADFD;
	CU_ASSERT_EQUAL(rig_try(&rig, 1000, false), HFB_LOG_OK);
	CU_ASSERT_EQUAL(hfb_log_read_start(rig.log, 0, &read), 0);
	until = hfb_clock_now_ns() + 20000000000ull;
	while (rig.positions->state != HFB_PARTITION_FAILED && hfb_clock_now_ns() < until) {
		rig_poll(&rig);
		pause_ms(1);
	}
	CU_ASSERT_EQUAL(rig.positions->state, HFB_PARTITION_FAILED);
	CU_ASSERT_FALSE(read.busy);
	CU_ASSERT_EQUAL(read.error, -EBADFD);
	CU_ASSERT_EQUAL(hfb_log_read_start(rig.log, 0, &read), 0);
	CU_ASSERT_FALSE(read.busy);
	CU_ASSERT_EQUAL(read.error, -EBADFD);
	/* the kernel thinks better of it: nothing that was given up counts */
	fault_env.submit_error = 0;
	for (int i = 0; i < 100; i++)
		rig_poll(&rig);
	CU_ASSERT_EQUAL(rig.positions->durable.position, durable);
	CU_ASSERT_EQUAL(rig_try(&rig, 1000, false), HFB_LOG_IO_ERROR);
	CU_ASSERT_FALSE(hfb_writer_busy(rig.writer));
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
	free(buffer);
	CU_ASSERT_EQUAL(fault_env.open_files, 0);
}

/* How many there are on disk; @remove: and no more. */
static uint32_t
rig_checkpoints_do(const struct rig *rig, bool remove)
{
	char path[700];
	glob_t found;
	uint32_t n = 0;

	snprintf(path, sizeof(path), "%s/topics/*/*/*/checkpoint", rig->data_dir);
	if (glob(path, 0, NULL, &found) != 0)
		return 0;
	for (; n < found.gl_pathc; n++)
		if (remove)
			CU_ASSERT_EQUAL(unlink(found.gl_pathv[n]), 0);
	globfree(&found);
	return n;
}

static uint32_t
rig_checkpoints(const struct rig *rig)
{
	return rig_checkpoints_do(rig, false);
}

static void
rig_checkpoints_remove(const struct rig *rig)
{
	rig_checkpoints_do(rig, true);
}

/* A disk that was full for the checkpoint has room again, and nothing more is appended. */
static void
test_a_failed_checkpoint_is_tried_again(void)
{
	struct rig_config config = { .env = fault_env_reset(),
				     .ring_bytes_max = 4 * MIB,
				     .segment_bytes_max = MIB,
				     .commit_stage = HFB_STAGE_DURABLE };
	struct hfb_err trouble;
	uint64_t until, before;
	struct rig rig;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "again", &config), 0);
	/* half of a segment, then over its end */
	for (int i = 0; i < 50; i++)
		CU_ASSERT_TRUE_FATAL(rig_append(&rig, 10000));
	CU_ASSERT_TRUE(rig_drain(&rig));
	for (int i = 0; i < 100; i++)
		rig_poll(&rig);
	rig_checkpoints_remove(&rig);
	before = hfb_log_trouble(rig.log, &trouble);
	fault_env.full_for = "/checkpoint";
	for (int i = 0; i < 70; i++)
		CU_ASSERT_TRUE_FATAL(rig_append(&rig, 10000));
	CU_ASSERT_TRUE(rig_drain(&rig));
	until = hfb_clock_now_ns() + 20000000000ull;
	while (hfb_log_trouble(rig.log, &trouble) == before && hfb_clock_now_ns() < until)
		rig_poll(&rig);
	CU_ASSERT_TRUE(hfb_log_trouble(rig.log, &trouble) > before);
	CU_ASSERT_EQUAL(rig_checkpoints(&rig), 0);
	fault_env.full_for = NULL;
	while (rig_checkpoints(&rig) == 0 && hfb_clock_now_ns() < until) {
		rig_poll(&rig);
		pause_ms(1);
	}
	CU_ASSERT_EQUAL(rig_checkpoints(&rig), 1);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
	CU_ASSERT_EQUAL(fault_env.open_files, 0);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "opening survives each single fault", test_opening_survives_each_single_fault },
		{ "preparing survives each single fault",
		  test_preparing_survives_each_single_fault },
		{ "a failed write is final", test_a_failed_write_is_final },
		{ "a failed sync is final", test_a_failed_sync_is_final },
		{ "a short write is finished once", test_a_short_write_is_finished_once },
		{ "a full disk refuses and resumes", test_a_full_disk_refuses_and_resumes },
		{ "a ring full for want of a segment says so",
		  test_a_ring_full_for_want_of_a_segment_says_so },
		{ "a failed read is told", test_a_failed_read_is_told },
		{ "a queue that takes nothing is final", test_a_queue_that_takes_nothing_is_final },
		{ "a failed checkpoint is tried again", test_a_failed_checkpoint_is_tried_again },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("fault_storage", tests);
}
