/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Acks.
 *
 * Goal:   no stage is reported before it is reached, each that is reached is reported in
 *	   the end, and a turn costs one frame a session.
 * Method: appends and disk progress in every mix, also random, against a model that
 *	   knows the position of every sequence.
 */
#include "hfb_test_main.h"
#include "proto_rig.h"

static struct rig rig;
static struct hfb_session *session;

static void
set_up(void)
{
	rig_open(&rig);
	session = rig_local(&rig);
}

static void
tear_down(void)
{
	rig_close(&rig);
}

static void
test_durable_is_told_when_the_disk_has_it(void)
{
	struct rig_batch batch = { .producer_id = 7, .count = 1, .flags = HFB_STAGE_DURABLE };

	rig_produce(&rig, session, &batch);
	rig_turn(&rig);
	CU_ASSERT_EQUAL(rig.frames_count, 0);
	rig_durable(&rig, 0);
	rig_turn(&rig);
	CU_ASSERT_EQUAL(rig_sent_count(&rig, HFB_FRAME_ACK), 1);
	CU_ASSERT_EQUAL(rig_ack(&rig, 0)->sequence[HFB_STAGE_DURABLE], 1);
	CU_ASSERT_EQUAL(rig_ack(&rig, 0)->sequence[HFB_STAGE_MIRRORED], 0);
	CU_ASSERT_EQUAL(rig.partition[0].producers_count, 0);
	CU_ASSERT_PTR_NULL(rig.partition[0].acks_head);
}

static void
test_one_frame_a_session_and_turn(void)
{
	for (uint32_t p = 0; p < 3; p++)
		for (uint64_t id = 1; id <= 8; id++)
			for (uint32_t i = 0; i < 4; i++)
				rig_produce(&rig, session,
					    &(struct rig_batch){ .producer_id = id,
								 .count = 1,
								 .partition = p,
								 .base_sequence = i });
	rig_turn(&rig);
	/* 24 producers: 22 entries fill a frame */
	CU_ASSERT_EQUAL(rig_sent_count(&rig, HFB_FRAME_ACK), 2);
	for (uint32_t i = 0; i < 24; i++)
		CU_ASSERT_EQUAL(rig_ack(&rig, i)->sequence[HFB_STAGE_RECEIVED], 4);
	CU_ASSERT_PTR_NULL(rig_ack(&rig, 24));
}

static void
test_acks_wait_for_a_buffer(void)
{
	rig_produce(&rig, session, &(struct rig_batch){ .producer_id = 7, .count = 1 });
	rig.no_frames = 1;
	rig_turn(&rig);
	rig_turn(&rig);
	rig.no_frames = 0;
	CU_ASSERT_EQUAL(rig.frames_count, 0);
	rig_turn(&rig);
	CU_ASSERT_EQUAL(rig_ack(&rig, 0)->sequence[HFB_STAGE_RECEIVED], 1);
}

/* A client that takes no answers, and asks for more than may wait, costs itself answers only. */
static void
test_a_full_ring_takes_no_answers_from_others(void)
{
	struct hfb_session *other = rig_local(&rig);

	rig.stuck_below = other->number;
	for (uint64_t id = 1; id <= 2 * HFB_LOOSE_ACKS_MAX; id++)
		rig_produce(
			&rig, session,
			&(struct rig_batch){ .producer_id = id, .count = 1, .base_sequence = 5 });
	rig_turn(&rig);
	for (uint32_t turn = 0; turn < 3; turn++) {
		rig_forget(&rig);
		rig_produce(
			&rig, other,
			&(struct rig_batch){ .producer_id = 1, .count = 1, .base_sequence = 5 });
		rig_turn(&rig);
		CU_ASSERT_PTR_NOT_NULL_FATAL(rig_ack(&rig, 0));
		CU_ASSERT_EQUAL(rig_ack(&rig, 0)->code, HFB_WIRE_UNKNOWN_PRODUCER);
	}
}

/* Thousands of appends and disk steps; the model is an array of end positions. */
static void
test_never_too_early_and_never_for_good(void)
{
	static uint64_t end[8192]; /* position at which sequence i + 1 ends */
	uint64_t next = 0, told = 0;
	uint32_t early = 0, back = 0;

	rig.log[0].ring_bytes = RIG_LOG_BYTES;
	while (next < 8000) {
		uint32_t appends = (uint32_t)(hfb_test_random() % 5);
		const struct hfb_wire_ack *ack;

		for (uint32_t i = 0; i < appends; i++) {
			rig_produce(&rig, session,
				    &(struct rig_batch){ .producer_id = 7,
							 .count = 1,
							 .flags = HFB_STAGE_DURABLE,
							 .base_sequence = next });
			end[next++] = rig.log[0].appended;
		}
		if (hfb_test_random() % 40 == 0) {
			/* somewhere between, mostly inside a batch */
			rig.log[0].durable +=
				hfb_test_random() % (rig.log[0].received - rig.log[0].durable + 1);
			rig.partition[0].dirty = true;
			rig.partition[0].dirty_next = NULL;
			rig.core.dirty = &rig.partition[0];
		}
		rig_turn(&rig);
		for (uint32_t i = 0; (ack = rig_ack(&rig, i)) != NULL; i++) {
			uint64_t sequence = ack->sequence[HFB_STAGE_DURABLE];

			early += sequence > 0 && end[sequence - 1] > rig.log[0].durable;
			back += sequence < told;
			told = sequence;
		}
		rig_forget(&rig);
	}
	CU_ASSERT_EQUAL(early, 0);
	CU_ASSERT_EQUAL(back, 0);
	rig_durable(&rig, 0);
	rig_turn(&rig);
	CU_ASSERT_EQUAL(rig_ack(&rig, 0)->sequence[HFB_STAGE_DURABLE], next);
}

/* Thousands of turns in flight, as with a slow disk: what is told is never far behind. */
static void
test_never_much_too_late(void)
{
	static uint64_t end[6000];
	const struct hfb_histogram *acked = rig.core.times.of[HFB_STAGE_TIME_ACKED];
	const uint32_t turns = sizeof(end) / sizeof(end[0]);
	uint64_t told = 0, before = hfb_histogram_count(acked);
	uint32_t late = 0;

	rig.log[0].ring_bytes = RIG_LOG_BYTES;
	for (uint64_t i = 0; i < turns; i++) {
		rig_produce(&rig, session,
			    &(struct rig_batch){ .producer_id = 7,
						 .count = 1,
						 .flags = HFB_STAGE_DURABLE,
						 .base_sequence = i });
		end[i] = rig.log[0].appended;
		rig_turn(&rig);
	}
	rig_forget(&rig);
	for (uint64_t i = 0; i < turns; i++) {
		const struct hfb_wire_ack *ack;

		rig.log[0].durable = end[i];
		rig.partition[0].dirty = true;
		rig.partition[0].dirty_next = NULL;
		rig.core.dirty = &rig.partition[0];
		rig_turn(&rig);
		ack = rig_ack(&rig, 0);
		if (ack != NULL)
			told = ack->sequence[HFB_STAGE_DURABLE];
		late += i + 1 - told > turns / 16;
		rig_forget(&rig);
	}
	CU_ASSERT_EQUAL(late, 0);
	CU_ASSERT_EQUAL(told, turns);
	/* and each event's time to its ack was counted once */
	CU_ASSERT_EQUAL(hfb_histogram_count(acked) - before, turns);
}

static void
test_the_time_to_the_ack_is_counted_for_each_event(void)
{
	const struct hfb_histogram *acked = rig.core.times.of[HFB_STAGE_TIME_ACKED];
	uint64_t before = hfb_histogram_count(acked);

	rig_produce(
		&rig, session,
		&(struct rig_batch){ .producer_id = 7, .count = 5, .flags = HFB_STAGE_RECEIVED });
	rig_turn(&rig);
	CU_ASSERT_EQUAL(hfb_histogram_count(acked) - before, 5);
	/* its ack was at the stage asked for: none for another */
	rig_durable(&rig, 0);
	rig_turn(&rig);
	CU_ASSERT_EQUAL(hfb_histogram_count(acked) - before, 5);
	/* sent again: acked again, but it came no second time */
	rig_produce(
		&rig, session,
		&(struct rig_batch){ .producer_id = 7, .count = 5, .flags = HFB_STAGE_RECEIVED });
	rig_turn(&rig);
	CU_ASSERT_EQUAL(hfb_histogram_count(acked) - before, 5);
}

/* A producer that comes back with another session resends its last window. */
static void
test_a_resent_window_is_durable_only_when_it_is(void)
{
	struct rig_batch batch = { .producer_id = 7, .count = 1, .flags = HFB_STAGE_DURABLE };
	struct hfb_session *second = rig_local(&rig);

	for (batch.base_sequence = 0; batch.base_sequence < 5; batch.base_sequence++)
		rig_produce(&rig, session, &batch);
	hfb_session_local_destroy(&rig.core, session);
	/* in the same turn: what was appended is not even published */
	batch.base_sequence = 4;
	rig_produce(&rig, second, &batch);
	rig_turn(&rig);
	CU_ASSERT_EQUAL(rig_ack(&rig, 0)->sequence[HFB_STAGE_RECEIVED], 5);
	CU_ASSERT_EQUAL(rig_ack(&rig, 0)->sequence[HFB_STAGE_DURABLE], 0);
	rig_forget(&rig);
	rig_durable(&rig, 0);
	rig_turn(&rig);
	CU_ASSERT_EQUAL(rig_ack(&rig, 0)->sequence[HFB_STAGE_DURABLE], 5);
	/* and a third finds all of it durable at once */
	rig_forget(&rig);
	hfb_session_local_destroy(&rig.core, second);
	second = rig_local(&rig);
	rig_produce(&rig, second, &batch);
	rig_turn(&rig);
	CU_ASSERT_EQUAL(rig_ack(&rig, 0)->sequence[HFB_STAGE_DURABLE], 5);
}

static void
test_credit_is_shared_and_comes_back(void)
{
	struct rig_batch batch = { .producer_id = 7, .count = 16 };
	struct hfb_session *other = rig_local(&rig);
	uint32_t credit, told;

	rig.log[0].ring_bytes = 16384;
	rig_produce(&rig, session, &batch);
	batch.producer_id = 8;
	rig_produce(&rig, other, &batch);
	rig_turn(&rig);
	credit = (uint32_t)(rig.log[0].ring_bytes - rig.log[0].appended) / 2;
	CU_ASSERT_EQUAL(rig_ack(&rig, 0)->credit_bytes, credit);
	CU_ASSERT_EQUAL(rig_ack(&rig, 1)->credit_bytes, credit);
	for (batch.base_sequence = 16; batch.base_sequence < 1600; batch.base_sequence += 16)
		rig_produce(&rig, other, &batch);
	rig_forget(&rig);
	rig_turn(&rig);
	CU_ASSERT_EQUAL(rig_ack(&rig, 0)->code, HFB_WIRE_RING_FULL);
	told = rig_ack(&rig, 0)->credit_bytes;
	CU_ASSERT_TRUE(told < hfb_log_batch_bytes_max(&rig.log[0]));
	/* both asked for stage received only, and still hear that there is room again */
	rig_forget(&rig);
	rig_durable(&rig, 0);
	rig_turn(&rig);
	CU_ASSERT_EQUAL(rig_ack(&rig, 0)->code, HFB_WIRE_OK);
	CU_ASSERT_TRUE(rig_ack(&rig, 0)->credit_bytes >= 4096);
}

static void
test_one_session_cannot_take_all_places(void)
{
	uint64_t number = rig_udp_open(&rig, 1, 1000, 1);
	uint8_t frame[RIG_FRAME_BYTES];
	uint32_t bytes;

	for (uint64_t id = 1; id <= 40; id++) {
		bytes = rig_produce_make(&rig, frame, number,
					 &(struct rig_batch){ .producer_id = id, .count = 1 });
		rig_udp(&rig, 1, 1000, frame, bytes);
	}
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_APPEND_BATCHES], 16);
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_PRODUCE_REFUSED_MANY], 24);
	rig_durable(&rig, 0);
	rig_turn(&rig);
	rig_produce(&rig, session, &(struct rig_batch){ .producer_id = 50, .count = 1 });
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_APPEND_BATCHES], 17);
}

static void
test_a_detached_partition_leaves_nothing_behind(void)
{
	for (uint64_t id = 1; id <= 8; id++)
		rig_produce(&rig, session, &(struct rig_batch){ .producer_id = id, .count = 1 });
	rig.partition[0].detaching = true;
	hfb_session_partition_detach(&rig.core, &rig.partition[0]);
	CU_ASSERT_PTR_NULL(session->bindings);
	CU_ASSERT_PTR_NULL(rig.partition[0].acks_head);
	rig_turn(&rig);
	CU_ASSERT_EQUAL(rig.frames_count, 0);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "durable is told when the disk has it",
		  test_durable_is_told_when_the_disk_has_it },
		{ "one frame a session and turn", test_one_frame_a_session_and_turn },
		{ "acks wait for a buffer", test_acks_wait_for_a_buffer },
		{ "a full ring takes no answers from others",
		  test_a_full_ring_takes_no_answers_from_others },
		{ "never too early, and never withheld for good",
		  test_never_too_early_and_never_for_good },
		{ "an ack is never late by more than a sixteenth of what is in flight",
		  test_never_much_too_late },
		{ "the time to the ack is counted for each event",
		  test_the_time_to_the_ack_is_counted_for_each_event },
		{ "a resent window is durable only when it is",
		  test_a_resent_window_is_durable_only_when_it_is },
		{ "credit is shared and comes back", test_credit_is_shared_and_comes_back },
		{ "one session cannot take all places", test_one_session_cannot_take_all_places },
		{ "a detached partition leaves nothing behind",
		  test_a_detached_partition_leaves_nothing_behind },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main_fixture("ack", tests, set_up, tear_down);
}
