/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The live log where core and helper meet at an unlucky moment.
 *
 * Goal:   nothing hangs, no event is passed over by a look-up, no producer is forgotten,
 *	   segments hold what they are made for.
 * Method: the test is both threads, so it can stop each between any two steps;
 *	   completions are held back, and calls refused, by the environment.
 */
#include <stdio.h>
#include <stdlib.h>

#include <hfbus/wire.h>

#include "crc32c.h"
#include "fault_env.h"
#include "hfb_test_main.h"
#include "log_rig.h"
#include "store_private.h"
#include "writer_private.h"

#define MIB (1u << 20)

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

static void
test_a_segment_that_comes_late_hides_no_events(void)
{
	struct rig_config config = { .env = fault_env_reset(),
				     .ring_bytes_max = 16 * MIB,
				     .segment_bytes_max = MIB };
	struct hfb_place place;
	struct rig rig;

	rig_open_begun(&rig, "late", &config);
	/* the writer is stuck in the first segment */
	fault_env.hold = true;
	rig_append_alone(&rig, 64);
	rig_core_poll(&rig);
	while (rig.log->position < 3 * MIB / 2)
		rig_append_alone(&rig, 60000);
	rig_core_poll(&rig);
	/* the second one is half full before its file is there, and then the third as well */
	hfb_store_help(rig.store);
	CU_ASSERT_PTR_NOT_NULL(rig.log->plans[1].segment);
	CU_ASSERT_PTR_NOT_NULL(rig.log->plans[2].segment);
	while (rig.log->position < 2 * MIB + 100000)
		rig_append_alone(&rig, 60000);
	rig_core_poll(&rig);
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
		rig_core_poll(h->rig);
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

	rig_open_begun(&rig, "hurry", &config);
	while (rig.log->ring_mask + 1 < config.ring_bytes_max) {
		rig_append_alone(&rig, 60000);
		rig_polls(&rig, 1);
	}
	fault_env.on_allocate = hurry;
	fault_env.arg = &h;
	rig_append_alone(&rig, 60000);
	while (rig.log->plan_made == rig.log->plan_tail) {
		rig_append_alone(&rig, 60000);
		rig_core_poll(&rig);
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
	rig_core_poll(&rig);
	/* memory was asked for as many as there were; before it comes there are more */
	for (uint64_t id = 1002; id < 1300; id++)
		append_as(&rig, id);
	CU_ASSERT_TRUE(rig_drain(&rig));
	rig_polls(&rig, 20);
	CU_ASSERT_EQUAL(rig.log->checkpoint_position, rig.log->position);
	CU_ASSERT_EQUAL_FATAL(rig_crash(&rig), 0);
	for (uint64_t id = 1000; id < 1300; id++)
		known += hfb_log_stream_next(rig.log, id, &next) && next == 1;
	CU_ASSERT_EQUAL(known, 300);
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
	rig_core_poll(&rig);
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
	rig_polls(&rig, 10);
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
test_a_softer_stage_commits_what_is_under_way(void)
{
	struct rig_config config = { .commit_stage = HFB_STAGE_DURABLE };
	const struct hfb_log_settings received = { .commit_stage = HFB_STAGE_RECEIVED };
	struct rig rig;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "softer", &config), 0);
	rig_append_alone(&rig, 64);
	rig_core_poll(&rig);
	CU_ASSERT_EQUAL(rig.positions->received.offset, 1);
	CU_ASSERT_EQUAL(rig.positions->committed.offset, 0);
	/* nothing else is appended: no later event would bring it along */
	hfb_writer_settings(rig.writer, rig.log, &received);
	rig_core_poll(&rig);
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
	char path[HFB_PATH_MAX];

	CU_ASSERT_EQUAL_FATAL(
		hfb_segment_path(path, sizeof(path), log->folder, s->base_position, ".seg"), 0);
	hfb_test_flip(path, HFB_BLOCK_BYTES + position - s->base_position + 8, 2);
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
	rig_polls(&rig, 10);
	s = rig.log->table.current->segments[0];
	/* an event that is not in the batch where its look-up begins */
	while (hfb_index_by_offset(s->index, offset, &entry) && entry.offset == offset)
		offset++;
	CU_ASSERT_TRUE_FATAL(entry.position > 0 && entry.offset < offset);
	CU_ASSERT_TRUE_FATAL(ends[offset] < s->base_position + s->capacity_bytes);
	header_flip(rig.log, s, entry.position);
	CU_ASSERT_EQUAL(hfb_log_trim(rig.log, offset, &done, &err), 0);
	rig_polls(&rig, 50);
	/* the event may be behind the damage: all from there on stays */
	CU_ASSERT_TRUE(rig.positions->start.position <= entry.position);
	CU_ASSERT_PTR_EQUAL(rig.log->table.current->segments[0], s);
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
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("log_corners", tests);
}
