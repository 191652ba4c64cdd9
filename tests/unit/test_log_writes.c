/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a live log writes when, and what a flush of the device covers.
 *
 * Goal:   a flush that fails is final, one that flies holds up nobody; where nobody waits writes
 *	   go in strides, are plain and flushed later.
 * Method: the test is core and helper, and gives the core its time; completions are held
 *	   back, and calls refused, by the environment.
 */
#include <errno.h>
#include <stdio.h>

#include "fault_env.h"
#include "hfb_test_main.h"
#include "log_rig.h"
#include "store_private.h"
#include "writer_private.h"

#define MIB (1u << 20)

/* With a flush of the device after plain writes. */
static int
open_grouped(struct rig *rig, const char *name)
{
	struct rig_config config = { .env = fault_env_reset(),
				     .ring_bytes_max = 16 * MIB,
				     .segment_bytes_max = MIB,
				     .sync = HFB_SYNC_FDATASYNC,
				     .commit_stage = HFB_STAGE_DURABLE };
	int r = rig_open(rig, name, &config);

	if (r == -EINVAL) {
		fprintf(stderr, "not on this file system: %s\n", rig->err.text);
		return r;
	}
	CU_ASSERT_EQUAL_FATAL(r, 0);
	CU_ASSERT_TRUE(rig_append(rig, 64));
	CU_ASSERT_TRUE(rig_drain(rig));
	return 0;
}

/* One more batch written, and the flush for it in flight. */
static void
flush_begin(struct rig *rig)
{
	uint32_t before = fault_env.flushes;

	fault_env.hold_flushes = true;
	CU_ASSERT_TRUE(rig_append(rig, 64));
	RIG_CORE_UNTIL(rig, fault_env.flushes != before);
	CU_ASSERT_EQUAL(fault_env.flushes, before + 1);
	RIG_CORE_UNTIL(rig, fault_env.flush_held);
}

static void
test_a_log_that_fails_under_a_flush_lets_go(void)
{
	struct rig rig;

	if (open_grouped(&rig, "flush-fail") < 0)
		return;
	flush_begin(&rig);
	fault_env.write_error = -EIO;
	CU_ASSERT_TRUE(rig_append(&rig, 64));
	RIG_CORE_UNTIL(&rig, rig.positions->state == HFB_PARTITION_FAILED);
	CU_ASSERT_EQUAL(rig.positions->state, HFB_PARTITION_FAILED);
	rig_polls(&rig, 10);
	CU_ASSERT_TRUE(rig.log->flush_armed);
	fault_env.hold_flushes = false;
	fault_env.write_error = 0;
	rig_polls(&rig, 10);
	CU_ASSERT_FALSE(rig.log->flush_armed);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

static void
test_a_failed_flush_is_final_for_what_it_did_not_cover_too(void)
{
	struct rig rig;
	uint64_t durable;

	if (open_grouped(&rig, "flush-uncovered") < 0)
		return;
	flush_begin(&rig);
	/* as if the flush had been another log's: its failure may have cost our bytes */
	rig.log->flush_armed = false;
	durable = rig.positions->durable.position;
	fault_env.hold_flushes = false;
	fault_env.flush_error = -EIO;
	rig_core_poll(&rig);
	fault_env.flush_error = 0;
	rig_polls(&rig, 100);
	CU_ASSERT_EQUAL(rig.positions->state, HFB_PARTITION_FAILED);
	CU_ASSERT_EQUAL(rig.positions->durable.position, durable);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

static void
test_a_flush_does_not_wait_for_a_full_pipeline(void)
{
	struct rig rig;
	uint32_t before;

	if (open_grouped(&rig, "pipeline") < 0)
		return;
	CU_ASSERT_TRUE(rig_append(&rig, 300000));
	fault_env.hold = true;
	for (int i = 0; i < 4; i++) {
		rig_append_alone(&rig, 150000);
		rig_append_alone(&rig, 150000);
		hfb_prepare_want(rig.log);
		hfb_prepare_serve(rig.store, 1);
		rig_core_poll(&rig);
	}
	CU_ASSERT_TRUE(rig.log->writes_count >= 3);
	before = fault_env.flushes;
	fault_env.hold = false;
	fault_env.reap_max = 1;
	RIG_CORE_UNTIL(&rig, rig.log->written != rig.log->synced || fault_env.flushes != before);
	CU_ASSERT_TRUE(rig.log->writes_count > 0);
	rig_core_poll(&rig);
	CU_ASSERT_TRUE(fault_env.flushes > before);
	fault_env.reap_max = 0;
	CU_ASSERT_TRUE(rig_drain(&rig));
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

static void
test_nothing_is_asked_of_a_helper_that_has_let_go(void)
{
	struct rig rig;

	if (open_grouped(&rig, "let-go") < 0)
		return;
	/* written beyond the first segment's end, and not flushed */
	flush_begin(&rig);
	while (rig.log->position < 3 * MIB / 2)
		CU_ASSERT_TRUE_FATAL(rig_append(&rig, 60000));
	for (uint64_t until = hfb_clock_now_ns() + 10000000000ull;
	     rig.log->written < MIB + MIB / 4 && hfb_clock_now_ns() < until;)
		rig_poll(&rig);
	CU_ASSERT_TRUE(rig.log->written >= MIB + MIB / 4);
	hfb_writer_detach(rig.writer, rig.log, false);
	rig_core_poll(&rig);
	fault_env.hold_flushes = false;
	rig_core_poll(&rig);
	fault_env.hold_flushes = true;
	/* where another flush is begun now, it has come when the helper has let go */
	for (uint64_t until = hfb_clock_now_ns() + 50000000;
	     !fault_env.flush_held && hfb_clock_now_ns() < until; sched_yield())
		rig_core_poll(&rig);
	CU_ASSERT_TRUE(rig.log->let_go_asked);
	hfb_store_help(rig.store);
	CU_ASSERT_EQUAL(rig.log->let_go, 1);
	fault_env.hold_flushes = false;
	RIG_CORE_UNTIL(&rig, hfb_writer_detached(rig.writer, rig.log));
	CU_ASSERT_TRUE(hfb_writer_detached(rig.writer, rig.log));
	CU_ASSERT_EQUAL(rig.log->asks, 0);
	rig_close(&rig);
}

static void
test_a_write_that_waits_does_not_hold_up_a_detach(void)
{
	struct rig_config config = { .env = fault_env_reset(), .commit_stage = HFB_STAGE_DURABLE };
	struct rig rig;

	rig_open_begun(&rig, "waits", &config);
	CU_ASSERT_TRUE(rig_append(&rig, 64));
	fault_env.refuse_writes = 1;
	rig_core_poll(&rig);
	CU_ASSERT_EQUAL(rig.log->writes_count, 1);
	CU_ASSERT_TRUE(rig_detach(&rig, false));
	rig_close(&rig);

	if (open_grouped(&rig, "waits-failed") < 0)
		return;
	flush_begin(&rig);
	CU_ASSERT_TRUE(rig_append(&rig, 64));
	fault_env.refuse_writes = UINT32_MAX;
	rig_core_poll(&rig);
	CU_ASSERT_EQUAL(rig.log->writes_count, 1);
	fault_env.flush_error = -EIO;
	fault_env.hold_flushes = false;
	rig_polls(&rig, 10);
	CU_ASSERT_EQUAL(rig.positions->state, HFB_PARTITION_FAILED);
	fault_env.refuse_writes = 0;
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

static void
test_writes_go_in_strides_where_nobody_waits_for_durable(void)
{
	struct rig_config config = { .env = fault_env_reset(), .commit_stage = HFB_STAGE_RECEIVED };
	struct rig rig;
	uint64_t from;

	rig_open_begun(&rig, "strides", &config);
	/* small, and young: it waits for more, and the core is told not to sleep long */
	from = hfb_clock_now_ns();
	hfb_writer_poll(rig.writer, from);
	CU_ASSERT_TRUE(rig_append(&rig, 64));
	hfb_writer_poll(rig.writer, from);
	CU_ASSERT_EQUAL(hfb_log_position(rig.log, HFB_STAGE_RECEIVED), rig.log->published);
	CU_ASSERT_TRUE(rig.log->submitted < rig.log->position);
	CU_ASSERT_TRUE(hfb_writer_busy(rig.writer));
	hfb_writer_poll(rig.writer, from + 1000000);
	CU_ASSERT_TRUE(rig.log->submitted < rig.log->position);
	hfb_writer_poll(rig.writer, from + 2000000);
	CU_ASSERT_EQUAL(rig.log->submitted, rig.log->position);
	CU_ASSERT_TRUE(rig_drain(&rig));
	/* somebody asks for durable: at once */
	CU_ASSERT_TRUE(rig_append(&rig, 64));
	hfb_log_durable_wanted(rig.log);
	hfb_writer_poll(rig.writer, hfb_clock_now_ns());
	CU_ASSERT_EQUAL(rig.log->submitted, rig.log->position);
	CU_ASSERT_TRUE(rig_drain(&rig));
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

/* Poll at @now_ns until no I/O is under way, and a poll begins none. */
static void
settle(struct rig *rig, uint64_t now_ns)
{
	for (int quiet = 0; quiet<2; quiet = rig->writer->in_flight> 0 ? 0 : quiet + 1)
		hfb_writer_poll(rig->writer, now_ns);
	CU_ASSERT_EQUAL(rig->writer->in_flight, 0);
}

/* Written at leisure, at @now_ns, and not synced. */
static void
leisurely_write(struct rig *rig, uint64_t now_ns)
{
	CU_ASSERT_TRUE(rig_append(rig, 64));
	hfb_writer_poll(rig->writer, now_ns);
	hfb_writer_poll(rig->writer, now_ns + 2000000);
	settle(rig, now_ns + 2000000);
	CU_ASSERT_EQUAL(rig->log->written, rig->log->position);
	CU_ASSERT_TRUE(rig->log->synced < rig->log->written);
	CU_ASSERT_TRUE(rig->log->durable < rig->log->position);
	/* the core is told not to sleep long */
	CU_ASSERT_TRUE(hfb_writer_busy(rig->writer));
}

static void
test_where_nobody_waits_writes_are_plain_and_flushed_later(void)
{
	struct rig_config config = { .env = fault_env_reset(), .commit_stage = HFB_STAGE_RECEIVED };
	uint32_t synced, flushes;
	struct rig rig;
	uint64_t now;

	rig_open_begun(&rig, "leisure", &config);
	if (!rig.store->flush_covers) {
		fprintf(stderr, "no flush covers others here: not tested\n");
		CU_ASSERT_TRUE(rig_detach(&rig, true));
		rig_close(&rig);
		return;
	}
	synced = fault_env.dsync_writes;
	flushes = fault_env.flushes;
	now = hfb_clock_now_ns();
	leisurely_write(&rig, now);
	CU_ASSERT_EQUAL(rig.positions->durable.position, rig.log->durable);
	hfb_writer_poll(rig.writer, now + 5000000);
	CU_ASSERT_EQUAL(fault_env.flushes, flushes);
	/* 4 ms after it was written */
	hfb_writer_poll(rig.writer, now + 6000000);
	settle(&rig, now + 6000000);
	CU_ASSERT_EQUAL(fault_env.flushes, flushes + 1);
	CU_ASSERT_EQUAL(rig.log->durable, rig.log->position);
	CU_ASSERT_EQUAL(fault_env.dsync_writes, synced);

	/* Somebody waits: what is written is flushed at once, and what comes then is synced with
	 * its write, once nothing of the plain ones is left. */
	now += 10000000;
	leisurely_write(&rig, now);
	now += 2000000;
	hfb_writer_poll(rig.writer, now);
	hfb_log_durable_wanted(rig.log);
	CU_ASSERT_TRUE(rig_append_to(rig.log, 1, 64));
	hfb_writer_poll(rig.writer, now);
	CU_ASSERT_EQUAL(fault_env.flushes, flushes + 2);
	CU_ASSERT_EQUAL(fault_env.dsync_writes, synced);
	settle(&rig, now);
	CU_ASSERT_EQUAL(fault_env.dsync_writes, synced + 1);
	CU_ASSERT_EQUAL(rig.log->durable, rig.log->position);

	/* and after a second without anybody at leisure again */
	now += 2000000000;
	leisurely_write(&rig, now);
	CU_ASSERT_EQUAL(fault_env.dsync_writes, synced + 1);
	/* its flush fails: none of it was ever said to be durable */
	fault_env.flush_error = -EIO;
	now += 10000000;
	hfb_writer_poll(rig.writer, now);
	settle(&rig, now);
	CU_ASSERT_TRUE(rig.log->failed);
	CU_ASSERT_TRUE(rig.log->durable < rig.log->position);
	rig_close(&rig);
}

/* The machine may have no huge pages: a ring is said to be of them. */
static void
test_a_ring_of_huge_pages_has_larger_writes(void)
{
	struct rig_config config = { .env = fault_env_reset(),
				     .ring_bytes_max = 16 * MIB,
				     .commit_stage = HFB_STAGE_RECEIVED };
	uint64_t now;
	uint32_t largest = 0;
	struct rig rig;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "huge", &config), 0);
	while (rig.log->ring_mask + 1 < config.ring_bytes_max) {
		rig_append_alone(&rig, 60000);
		rig_polls(&rig, 1);
	}
	CU_ASSERT_TRUE(rig_drain(&rig));
	if (!rig.store->flush_covers || rig.log->ring_now->buffer_slot < 0) {
		fprintf(stderr, "no plain writes from a registered ring here: not tested\n");
		CU_ASSERT_TRUE(rig_detach(&rig, true));
		rig_close(&rig);
		return;
	}
	rig.log->ring_now->huge = true;
	now = hfb_clock_now_ns();
	/* goes round the ring, and over the ends of segments */
	for (int round = 0; round < 24; round++, now += 10000000) {
		for (int i = 0; i < 40; i++)
			CU_ASSERT_TRUE(rig_append(&rig, 60000));
		fault_env.hold = true;
		hfb_writer_poll(rig.writer, now);
		for (uint32_t i = 0; i < rig.log->writes_count; i++) {
			uint32_t at = (rig.log->writes_head + i) % HFB_WRITES_MAX;

			if (rig.log->writes[at].bytes > largest)
				largest = rig.log->writes[at].bytes;
		}
		fault_env.hold = false;
		settle(&rig, now);
		settle(&rig, now + 6000000);
	}
	CU_ASSERT_TRUE(largest > HFB_WRITE_BYTES_MAX);
	CU_ASSERT_TRUE(largest <= HFB_WRITE_HUGE_BYTES_MAX);
	CU_ASSERT_TRUE(rig_drain(&rig));
	CU_ASSERT_TRUE(rig_check(&rig) > 0);
	CU_ASSERT_EQUAL_FATAL(rig_reopen(&rig, true), 0);
	CU_ASSERT_TRUE(rig_check(&rig) > 0);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

/* Kernel workers that its yields do not let in have the CPU while it sleeps. */
static void
test_a_silent_disk_lets_the_core_nap(void)
{
	struct rig_config config = { .env = fault_env_reset(),
				     .ring_bytes_max = 16 * MIB,
				     .segment_bytes_max = MIB };
	uint64_t naps, from;
	struct rig rig;

	rig_open_begun(&rig, "silent", &config);
	naps = hfb_writer_stats(rig.writer)->naps;
	/* nothing in flight: a core that has nothing to wait for never sleeps */
	for (from = hfb_clock_now_ns(); hfb_clock_now_ns() - from < 5000000u;)
		rig_core_poll(&rig);
	CU_ASSERT_EQUAL(hfb_writer_stats(rig.writer)->naps, naps);
	fault_env.hold = true;
	rig_append_alone(&rig, 64);
	RIG_CORE_UNTIL(&rig, hfb_writer_stats(rig.writer)->naps >= naps + 5);
	CU_ASSERT_TRUE(hfb_writer_stats(rig.writer)->naps >= naps + 5);
	/* and ever rarer where it brings nothing: one in 1.6 ms by now */
	naps = hfb_writer_stats(rig.writer)->naps;
	for (from = hfb_clock_now_ns(); hfb_clock_now_ns() - from < 16000000u;)
		rig_core_poll(&rig);
	CU_ASSERT_TRUE(hfb_writer_stats(rig.writer)->naps <= naps + 11);
	fault_env.hold = false;
	CU_ASSERT_TRUE(rig_drain(&rig));
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "a log that fails under a flush lets go",
		  test_a_log_that_fails_under_a_flush_lets_go },
		{ "a failed flush is final for what it did not cover too",
		  test_a_failed_flush_is_final_for_what_it_did_not_cover_too },
		{ "a flush does not wait for a full pipeline",
		  test_a_flush_does_not_wait_for_a_full_pipeline },
		{ "nothing is asked of a helper that has let go",
		  test_nothing_is_asked_of_a_helper_that_has_let_go },
		{ "a write that waits does not hold up a detach",
		  test_a_write_that_waits_does_not_hold_up_a_detach },
		{ "writes go in strides where nobody waits for durable",
		  test_writes_go_in_strides_where_nobody_waits_for_durable },
		{ "where nobody waits writes are plain and flushed later",
		  test_where_nobody_waits_writes_are_plain_and_flushed_later },
		{ "a ring of huge pages has larger writes",
		  test_a_ring_of_huge_pages_has_larger_writes },
		{ "a silent disk lets the core nap", test_a_silent_disk_lets_the_core_nap },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("log writes", tests);
}
