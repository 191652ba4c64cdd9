/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The live log where core and helper meet at an unlucky moment.
 *
 * Goal:   nothing hangs, nothing is asked of a helper that has let go, no event
 *	   is passed over by a look-up, no producer is forgotten.
 * Method: the test is both threads, so it can stop each between any two steps;
 *	   completions are held back, and calls refused, by the environment.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <hfbus/wire.h>

#include "clock.h"
#include "crc32c.h"
#include "fault_env.h"
#include "hfb_test_main.h"
#include "log_rig.h"
#include "store_private.h"
#include "writer_private.h"

#define MIB (1u << 20)

static void
core_poll(struct rig *rig)
{
	hfb_writer_poll(rig->writer, hfb_clock_now_ns());
}

/* Append without the helper, but for larger rings. */
static void
append_alone(struct rig *rig, uint32_t payload_bytes)
{
	for (int i = 0; i < 100; i++) {
		if (rig_try(rig, payload_bytes, false) == HFB_LOG_OK)
			return;
		hfb_prepare_ring(rig->log);
		core_poll(rig);
	}
	CU_FAIL_FATAL("no room");
}

static void
append_as(struct rig *rig, uint64_t producer_id)
{
	struct hfb_batch_meta meta = { .size = 128,
				       .count = 1,
				       .timestamp_ns = hfb_clock_now_ns(),
				       .end_sequence = 1,
				       .producer_id = producer_id };
	struct hfb_appended appended;
	enum hfb_log_refusal why;
	uint8_t *at = hfb_log_claim(rig->log, meta.size, false, &why);

	CU_ASSERT_PTR_NOT_NULL_FATAL(at);
	rig_payload(producer_id, at + 64, 64);
	meta.payload_crc = hfb_crc32c(0, at + 64, 64);
	hfb_log_append(rig->log, &meta, &appended);
}

/* The core polls until @done, within reason. */
#define CORE_UNTIL(rig, done)                                                                      \
	for (uint64_t until_ns = hfb_clock_now_ns() + 10000000000ull;                              \
	     !(done) && hfb_clock_now_ns() < until_ns; sched_yield())                              \
	core_poll(rig)

static void
polls(struct rig *rig, int n)
{
	while (n-- > 0)
		rig_poll(rig);
}

static void
test_a_segment_that_comes_late_hides_no_events(void)
{
	struct rig_config config = { .env = fault_env_reset(),
				     .ring_bytes_max = 16 * MIB,
				     .segment_bytes_max = MIB };
	struct hfb_place place;
	struct rig rig;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "late", &config), 0);
	CU_ASSERT_TRUE(rig_append(&rig, 64));
	CU_ASSERT_TRUE(rig_drain(&rig));
	/* the writer is stuck in the first segment */
	fault_env.hold = true;
	append_alone(&rig, 64);
	core_poll(&rig);
	while (rig.log->position < 3 * MIB / 2)
		append_alone(&rig, 60000);
	core_poll(&rig);
	/* the second one is half full before its file is there, and then the third as well */
	hfb_store_help(rig.store);
	CU_ASSERT_PTR_NOT_NULL(rig.log->plans[1].segment);
	CU_ASSERT_PTR_NOT_NULL(rig.log->plans[2].segment);
	while (rig.log->position < 2 * MIB + 100000)
		append_alone(&rig, 60000);
	core_poll(&rig);
	CU_ASSERT_EQUAL_FATAL(hfb_log_lookup(rig.log, HFB_FROM_OFFSET, 0, 1, &place), 0);
	CU_ASSERT_TRUE(place.offset <= 1);
	CU_ASSERT_TRUE(place.position < 4096);
	fault_env.hold = false;
	CU_ASSERT_TRUE(rig_drain(&rig));
	CU_ASSERT_EQUAL(rig_check(&rig), (int64_t)rig.batches);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

/* A core so fast that another segment is planned before one is made. */
#define HURRIED_SEGMENTS 40u
struct hurry {
	struct rig *rig;
	uint32_t made;
};

static void
hurry(void *arg)
{
	struct hurry *h = arg;
	struct hfb_log *log = h->rig->log;
	uint32_t planned = log->plan_tail;

	if (++h->made >= HURRIED_SEGMENTS)
		return;
	for (int i = 0; i < 100000 && log->plan_tail - planned < 1; i++) {
		rig_try(h->rig, 60000, false);
		core_poll(h->rig);
	}
}

static void
test_retention_has_its_turn_while_segments_are_made(void)
{
	struct rig_config config = { .env = fault_env_reset(),
				     .ring_bytes_max = 4 * MIB,
				     .segment_bytes_max = MIB,
				     .retention_bytes = 3 * MIB };
	struct rig rig;
	struct hurry h = { .rig = &rig };

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "hurry", &config), 0);
	CU_ASSERT_TRUE(rig_append(&rig, 64));
	CU_ASSERT_TRUE(rig_drain(&rig));
	while (rig.log->ring_mask + 1 < config.ring_bytes_max) {
		append_alone(&rig, 60000);
		polls(&rig, 1);
	}
	fault_env.on_allocate = hurry;
	fault_env.arg = &h;
	append_alone(&rig, 60000);
	while (rig.log->plan_made == rig.log->plan_tail) {
		append_alone(&rig, 60000);
		core_poll(&rig);
	}
	/* one round of the helper, in which the log always has more for it to make */
	hfb_store_help(rig.store);
	fault_env.on_allocate = NULL;
	/* it let go what is beyond retention, and made no new files where there were old ones */
	CU_ASSERT_TRUE(rig.log->retire_to > 0);
	CU_ASSERT_TRUE(rig.log->start > 0);
	CU_ASSERT_TRUE(h.made < HURRIED_SEGMENTS);
	CU_ASSERT_TRUE(rig_drain(&rig));
	CU_ASSERT_EQUAL(rig_check(&rig) > 0, true);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

static void
test_a_checkpoint_knows_all_producers(void)
{
	struct rig_config config = { 0 };
	uint64_t next, known = 0;
	struct rig rig;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "producers", &config), 0);
	append_as(&rig, 1000);
	CU_ASSERT_TRUE(rig_drain(&rig));
	rig.log->checkpoint_due = true;
	append_as(&rig, 1001);
	core_poll(&rig);
	/* memory was asked for as many as there were; before it comes there are more */
	for (uint64_t id = 1002; id < 1300; id++)
		append_as(&rig, id);
	CU_ASSERT_TRUE(rig_drain(&rig));
	polls(&rig, 20);
	CU_ASSERT_EQUAL(rig.log->checkpoint_position, rig.log->position);
	CU_ASSERT_EQUAL_FATAL(rig_crash(&rig), 0);
	for (uint64_t id = 1000; id < 1300; id++)
		known += hfb_log_stream_next(rig.log, id, &next) && next == 1;
	CU_ASSERT_EQUAL(known, 300);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

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
	CORE_UNTIL(rig, fault_env.flushes != before);
	CU_ASSERT_EQUAL(fault_env.flushes, before + 1);
	CORE_UNTIL(rig, fault_env.flush_held);
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
	CORE_UNTIL(&rig, rig.positions->state == HFB_PARTITION_FAILED);
	CU_ASSERT_EQUAL(rig.positions->state, HFB_PARTITION_FAILED);
	polls(&rig, 10);
	CU_ASSERT_TRUE(rig.log->flush_armed);
	fault_env.hold_flushes = false;
	fault_env.write_error = 0;
	polls(&rig, 10);
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
	core_poll(&rig);
	fault_env.flush_error = 0;
	polls(&rig, 100);
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
		append_alone(&rig, 150000);
		append_alone(&rig, 150000);
		hfb_prepare_want(rig.log);
		hfb_prepare_serve(rig.store, 1);
		core_poll(&rig);
	}
	CU_ASSERT_TRUE(rig.log->writes_count >= 3);
	before = fault_env.flushes;
	fault_env.hold = false;
	fault_env.reap_max = 1;
	CORE_UNTIL(&rig, rig.log->written != rig.log->synced || fault_env.flushes != before);
	CU_ASSERT_TRUE(rig.log->writes_count > 0);
	core_poll(&rig);
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
	core_poll(&rig);
	fault_env.hold_flushes = false;
	core_poll(&rig);
	fault_env.hold_flushes = true;
	/* where another flush is begun now, it has come when the helper has let go */
	for (uint64_t until = hfb_clock_now_ns() + 50000000;
	     !fault_env.flush_held && hfb_clock_now_ns() < until; sched_yield())
		core_poll(&rig);
	CU_ASSERT_TRUE(rig.log->let_go_asked);
	hfb_store_help(rig.store);
	CU_ASSERT_EQUAL(rig.log->let_go, 1);
	fault_env.hold_flushes = false;
	CORE_UNTIL(&rig, hfb_writer_detached(rig.writer, rig.log));
	CU_ASSERT_TRUE(hfb_writer_detached(rig.writer, rig.log));
	CU_ASSERT_EQUAL(rig.log->asks, 0);
	rig_close(&rig);
}

static void
test_a_write_that_waits_does_not_hold_up_a_detach(void)
{
	struct rig_config config = { .env = fault_env_reset(), .commit_stage = HFB_STAGE_DURABLE };
	struct rig rig;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "waits", &config), 0);
	CU_ASSERT_TRUE(rig_append(&rig, 64));
	CU_ASSERT_TRUE(rig_drain(&rig));
	CU_ASSERT_TRUE(rig_append(&rig, 64));
	fault_env.refuse_writes = 1;
	core_poll(&rig);
	CU_ASSERT_EQUAL(rig.log->writes_count, 1);
	CU_ASSERT_TRUE(rig_detach(&rig, false));
	rig_close(&rig);

	if (open_grouped(&rig, "waits-failed") < 0)
		return;
	flush_begin(&rig);
	CU_ASSERT_TRUE(rig_append(&rig, 64));
	fault_env.refuse_writes = UINT32_MAX;
	core_poll(&rig);
	CU_ASSERT_EQUAL(rig.log->writes_count, 1);
	fault_env.flush_error = -EIO;
	fault_env.hold_flushes = false;
	polls(&rig, 10);
	CU_ASSERT_EQUAL(rig.positions->state, HFB_PARTITION_FAILED);
	fault_env.refuse_writes = 0;
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

static void
old_segments_make(struct rig *rig, const char *name)
{
	struct rig_config config = { .env = fault_env_reset(),
				     .ring_bytes_max = MIB,
				     .segment_bytes_max = MIB };

	CU_ASSERT_EQUAL_FATAL(rig_open(rig, name, &config), 0);
	for (int i = 0; i < 80; i++)
		CU_ASSERT_TRUE_FATAL(rig_append(rig, 60000));
	CU_ASSERT_TRUE(rig_drain(rig));
	CU_ASSERT_EQUAL_FATAL(rig_reopen(rig, true), 0);
}

static void
polls_while_busy(struct rig *rig, const struct hfb_read *read)
{
	uint64_t until = hfb_clock_now_ns() + 5000000000ull;

	while (read->busy && hfb_clock_now_ns() < until)
		rig_poll(rig);
}

static void
test_a_read_waits_for_its_file_and_for_the_queue(void)
{
	struct hfb_read read = { .buffer = aligned_alloc(4096, 65536), .buffer_bytes = 65536 };
	struct rig rig;

	old_segments_make(&rig, "parked");
	CU_ASSERT_EQUAL_FATAL(hfb_log_read_start(rig.log, 0, &read), 0);
	CU_ASSERT_TRUE(read.busy);
	fault_env.refuse_reads = 3;
	polls_while_busy(&rig, &read);
	CU_ASSERT_EQUAL(fault_env.refuse_reads, 0);
	CU_ASSERT_FALSE(read.busy);
	CU_ASSERT_EQUAL(read.error, 0);
	CU_ASSERT_EQUAL(read.data_bytes, 65536);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
	free(read.buffer);
}

static void
test_a_read_whose_segment_is_dropped_meanwhile_ends(void)
{
	struct hfb_read read = { .buffer = aligned_alloc(4096, 65536), .buffer_bytes = 65536 };
	struct rig rig;

	old_segments_make(&rig, "dropped");
	CU_ASSERT_EQUAL_FATAL(hfb_log_read_start(rig.log, 0, &read), 0);
	CU_ASSERT_TRUE(read.busy);
	/* the helper is in the middle of another round: retention comes first */
	hfb_log_set_retention(rig.log, 2 * MIB, 0);
	hfb_retention_round(rig.log, hfb_clock_now_ns());
	core_poll(&rig);
	CU_ASSERT_TRUE(hfb_log_start(rig.log) > 0);
	hfb_retention_leave(rig.log);
	polls_while_busy(&rig, &read);
	CU_ASSERT_FALSE(read.busy);
	CU_ASSERT_EQUAL(read.data_bytes, 65536);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
	free(read.buffer);
}

static void
test_prepared_segments_hold_the_largest_batch(void)
{
	struct rig_config config = { .ring_bytes_max = MIB, .segment_bytes_max = MIB };
	struct rig rig;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "classes", &config), 0);
	/* small segments, one of them ahead of use; then larger ones are allowed */
	for (int i = 0; i < 6; i++)
		CU_ASSERT_TRUE(rig_append(&rig, 60000));
	CU_ASSERT_TRUE(rig_drain(&rig));
	polls(&rig, 10);
	CU_ASSERT_EQUAL(rig.log->plan_tail, 2);
	rig.config.ring_bytes_max = rig.config.segment_bytes_max = 16 * MIB;
	CU_ASSERT_EQUAL_FATAL(rig_reopen(&rig, true), 0);
	CU_ASSERT_EQUAL(hfb_log_batch_bytes_max(rig.log), MIB);
	for (int i = 0; i < 6; i++)
		CU_ASSERT_TRUE(rig_append(&rig, MIB - 64 - 8));
	CU_ASSERT_TRUE(rig_drain(&rig));
	CU_ASSERT_EQUAL(rig_check(&rig), (int64_t)rig.batches);
	CU_ASSERT_EQUAL_FATAL(rig_reopen(&rig, true), 0);
	CU_ASSERT_EQUAL(rig.report.end_offset, rig.batches);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

/* The first segments are smaller than a batch may be: it passes by them, in one go. */
static void
test_a_large_batch_passes_by_small_segments(void)
{
	static const uint32_t sizes[] = { 16, 30000, 200000, 16, MIB - 72, 100, 40000, MIB / 2 };
	struct rig_config config = { .segment_bytes_first = HFB_SEGMENT_BYTES_FIRST,
				     .ring_bytes_max = 16 * MIB,
				     .segment_bytes_max = 16 * MIB };
	struct rig rig;

	for (unsigned int first = 0; first < sizeof(sizes) / sizeof(sizes[0]); first++) {
		char name[64];

		snprintf(name, sizeof(name), "small-%u", first);
		CU_ASSERT_EQUAL_FATAL(rig_open(&rig, name, &config), 0);
		for (unsigned int i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			uint32_t bytes = sizes[(first + i) % (sizeof(sizes) / sizeof(sizes[0]))];

			CU_ASSERT_TRUE(rig_append(&rig, bytes & ~7u));
			if (i % 3 != 2)
				continue;
			CU_ASSERT_TRUE(rig_drain(&rig));
			CU_ASSERT_EQUAL_FATAL(rig_crash(&rig), 0);
		}
		CU_ASSERT_TRUE(rig_drain(&rig));
		CU_ASSERT_TRUE(rig_check(&rig) > 0);
		CU_ASSERT_EQUAL_FATAL(rig_reopen(&rig, true), 0);
		CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
		CU_ASSERT_TRUE(rig.report.clean);
		CU_ASSERT_TRUE(rig_check(&rig) > 0);
		CU_ASSERT_TRUE(rig_detach(&rig, true));
		rig_close(&rig);
	}
}

static void
test_writes_go_in_strides_where_nobody_waits_for_durable(void)
{
	struct rig_config config = { .env = fault_env_reset(), .commit_stage = HFB_STAGE_RECEIVED };
	struct rig rig;
	uint64_t from;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "strides", &config), 0);
	CU_ASSERT_TRUE(rig_append(&rig, 64));
	CU_ASSERT_TRUE(rig_drain(&rig));
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

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "leisure", &config), 0);
	CU_ASSERT_TRUE(rig_append(&rig, 64));
	CU_ASSERT_TRUE(rig_drain(&rig));
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
		append_alone(&rig, 60000);
		polls(&rig, 1);
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

static void
test_a_softer_stage_commits_what_is_under_way(void)
{
	struct rig_config config = { .commit_stage = HFB_STAGE_DURABLE };
	const struct hfb_log_settings received = { .commit_stage = HFB_STAGE_RECEIVED };
	struct rig rig;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "softer", &config), 0);
	append_alone(&rig, 64);
	core_poll(&rig);
	CU_ASSERT_EQUAL(rig.positions->received.offset, 1);
	CU_ASSERT_EQUAL(rig.positions->committed.offset, 0);
	/* nothing else is appended: no later event would bring it along */
	hfb_writer_settings(rig.writer, rig.log, &received);
	core_poll(&rig);
	CU_ASSERT_EQUAL(rig.positions->committed.offset, 1);
	CU_ASSERT_EQUAL(rig.positions->committed.position, rig.positions->received.position);
	CU_ASSERT_TRUE(rig_drain(&rig));
	CU_ASSERT_EQUAL(rig.positions->committed.position, rig.positions->durable.position);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

/* Flip a bit of the header of the batch at @position, which is in segment @s. */
static void
header_flip(const struct hfb_log *log, const struct hfb_segment *s, uint64_t position)
{
	const off_t at = (off_t)(HFB_BLOCK_BYTES + position - s->base_position + 8);
	char path[HFB_PATH_MAX];
	uint8_t byte = 0;
	int fd;

	CU_ASSERT_EQUAL_FATAL(
		hfb_segment_path(path, sizeof(path), log->folder, s->base_position, ".seg"), 0);
	fd = open(path, O_RDWR | O_CLOEXEC);
	CU_ASSERT_TRUE_FATAL(fd >= 0);
	CU_ASSERT_EQUAL(pread(fd, &byte, 1, at), 1);
	byte ^= 4;
	CU_ASSERT_EQUAL(pwrite(fd, &byte, 1, at), 1);
	close(fd);
}

static void
test_a_trim_goes_no_further_than_what_is_proven(void)
{
	enum { BATCHES = 2000, DATA = 1000 };
	static uint64_t ends[BATCHES];
	struct rig_config config = { .segment_bytes_max = MIB };
	struct hfb_index_entry entry = { 0 };
	const struct hfb_segment *s;
	uint64_t offset = 500;
	struct hfb_err err;
	bool done = false;
	struct rig rig;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "trim-damage", &config), 0);
	for (int i = 0; i < BATCHES; i++) {
		CU_ASSERT_TRUE_FATAL(rig_append(&rig, DATA));
		ends[i] = rig.log->position;
		rig_poll(&rig); /* the index is of turns */
	}
	CU_ASSERT_TRUE(rig_drain(&rig));
	polls(&rig, 10);
	s = rig.log->table.current->segments[0];
	/* an event that is not in the batch where its look-up begins */
	while (hfb_index_by_offset(s->index, offset, &entry) && entry.offset == offset)
		offset++;
	CU_ASSERT_TRUE_FATAL(entry.position > 0 && entry.offset < offset);
	CU_ASSERT_TRUE_FATAL(ends[offset] < s->base_position + s->capacity_bytes);
	header_flip(rig.log, s, entry.position);
	CU_ASSERT_EQUAL(hfb_log_trim(rig.log, offset, &done, &err), 0);
	polls(&rig, 50);
	/* the event may be behind the damage: all from there on stays */
	CU_ASSERT_TRUE(rig.positions->start.position <= entry.position);
	CU_ASSERT_PTR_EQUAL(rig.log->table.current->segments[0], s);
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

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "silent", &config), 0);
	CU_ASSERT_TRUE(rig_append(&rig, 64));
	CU_ASSERT_TRUE(rig_drain(&rig));
	naps = hfb_writer_stats(rig.writer)->naps;
	/* nothing in flight: a core that has nothing to wait for never sleeps */
	for (from = hfb_clock_now_ns(); hfb_clock_now_ns() - from < 5000000u;)
		core_poll(&rig);
	CU_ASSERT_EQUAL(hfb_writer_stats(rig.writer)->naps, naps);
	fault_env.hold = true;
	append_alone(&rig, 64);
	CORE_UNTIL(&rig, hfb_writer_stats(rig.writer)->naps >= naps + 5);
	CU_ASSERT_TRUE(hfb_writer_stats(rig.writer)->naps >= naps + 5);
	/* and ever rarer where it brings nothing: one in 1.6 ms by now */
	naps = hfb_writer_stats(rig.writer)->naps;
	for (from = hfb_clock_now_ns(); hfb_clock_now_ns() - from < 16000000u;)
		core_poll(&rig);
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
		{ "a segment that comes late hides no events",
		  test_a_segment_that_comes_late_hides_no_events },
		{ "a checkpoint knows all producers", test_a_checkpoint_knows_all_producers },
		{ "retention has its turn while segments are made",
		  test_retention_has_its_turn_while_segments_are_made },
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
		{ "a read waits for its file and for the queue",
		  test_a_read_waits_for_its_file_and_for_the_queue },
		{ "a read whose segment is dropped meanwhile ends",
		  test_a_read_whose_segment_is_dropped_meanwhile_ends },
		{ "prepared segments hold the largest batch",
		  test_prepared_segments_hold_the_largest_batch },
		{ "a large batch passes by small segments",
		  test_a_large_batch_passes_by_small_segments },
		{ "a softer stage commits what is under way",
		  test_a_softer_stage_commits_what_is_under_way },
		{ "a trim goes no further than what is proven",
		  test_a_trim_goes_no_further_than_what_is_proven },
		{ "writes go in strides where nobody waits for durable",
		  test_writes_go_in_strides_where_nobody_waits_for_durable },
		{ "where nobody waits writes are plain and flushed later",
		  test_where_nobody_waits_writes_are_plain_and_flushed_later },
		{ "a ring of huge pages has larger writes",
		  test_a_ring_of_huge_pages_has_larger_writes },
		{ "a silent disk lets the core nap", test_a_silent_disk_lets_the_core_nap },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("log_corners", tests);
}
