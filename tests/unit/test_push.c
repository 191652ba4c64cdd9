/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pushes.
 *
 * Goal:   a reader gets every committed byte once and in order, from ring or files,
 *	   never beyond its window, and delays nobody when it stops reading.
 * Method: a log of known bytes, readers at various places, frames compared with it.
 */
#include "hfb_test_main.h"
#include "proto_rig.h"

static struct rig rig;
static struct hfb_session *session;
static uint64_t produced;

static void
set_up(void)
{
	rig_open(&rig);
	session = rig_local(&rig);
	produced = 0;
}

static void
tear_down(void)
{
	rig_close(&rig);
}

static void
fill(uint32_t batches)
{
	for (uint32_t i = 0; i < batches; i++, produced += 16) {
		rig_produce(&rig, session,
			    &(struct rig_batch){
				    .producer_id = 7, .count = 16, .base_sequence = produced });
		rig_durable(&rig, 0);
		rig_turn(&rig);
		rig_forget(&rig);
	}
}

/* Takes what was pushed to @session; returns where it ends, UINT64_MAX on any mistake. */
static uint64_t
collect(const struct hfb_session *to, uint64_t position)
{
	const struct hfb_frame_data *data;

	for (uint32_t i = 0; (data = rig_sent(&rig, HFB_FRAME_DATA, i)) != NULL; i++) {
		uint32_t bytes = rig_sent_bytes(&rig, HFB_FRAME_DATA, i) - (uint32_t)sizeof(*data);

		if (data->frame.session != to->number)
			continue;
		if (data->position != position || bytes % 8 != 0 || bytes == 0 ||
		    position + bytes > data->committed ||
		    memcmp(data + 1, rig.log[0].bytes + position, bytes) != 0)
			return UINT64_MAX;
		position += bytes;
	}
	rig_forget(&rig);
	return position;
}

static const struct hfb_frame_read_state *
state(uint32_t n)
{
	static const struct hfb_frame_read_state none = { .code = 0xffff };
	const struct hfb_frame_read_state *s = rig_sent(&rig, HFB_FRAME_READ_STATE, n);

	return s != NULL ? s : &none;
}

static void
test_bytes_come_once_within_the_window(void)
{
	struct hfb_session *reader = rig_local(&rig);
	uint64_t position = 0;

	fill(40);
	rig_subscribe(&rig, reader, HFB_FROM_EARLIEST, 0, 10000, HFB_SUBSCRIBE_SEEK);
	CU_ASSERT_EQUAL(state(0)->code, HFB_WIRE_OK);
	CU_ASSERT_EQUAL(state(0)->position, 0);
	CU_ASSERT_EQUAL(state(0)->answers, rig.packet);
	CU_ASSERT_EQUAL(state(0)->committed, rig.log[0].committed);
	for (uint32_t i = 0; i < 10; i++)
		rig_turn(&rig);
	position = collect(reader, 0);
	CU_ASSERT_EQUAL(position, 10000);
	while (position < rig.log[0].committed) {
		uint64_t before = position;

		rig_subscribe(&rig, reader, HFB_FROM_PLACE, position, 20000, 0);
		/* an older window, overtaken on the way, takes nothing back */
		rig_subscribe(&rig, reader, HFB_FROM_PLACE, position, 8, 0);
		rig_turn(&rig);
		position = collect(reader, position);
		CU_ASSERT_TRUE_FATAL(position > before && position != UINT64_MAX);
		CU_ASSERT_TRUE(position <= before + 20000);
	}
	CU_ASSERT_EQUAL(position, rig.log[0].committed);
	CU_ASSERT_EQUAL(rig_sent_count(&rig, HFB_FRAME_READ_STATE), 0);
}

/* Each event of each reader counts once, in the turn its last byte goes. */
static void
test_the_time_from_commit_to_push_is_counted(void)
{
	const struct hfb_histogram *pushed = rig.core.times.of[HFB_STAGE_TIME_PUSHED];
	struct hfb_session *reader = rig_local(&rig), *second = rig_local(&rig);
	uint64_t position;

	fill(3);
	CU_ASSERT_EQUAL(hfb_histogram_count(pushed), 0);
	rig_subscribe(&rig, reader, HFB_FROM_EARLIEST, 0, 1 << 20, HFB_SUBSCRIBE_SEEK);
	rig_turn(&rig);
	/* old data: when it was committed is not known */
	CU_ASSERT_EQUAL(hfb_histogram_count(pushed), 0);
	fill(1);
	CU_ASSERT_EQUAL(hfb_histogram_count(pushed), 16);
	rig_subscribe(&rig, second, HFB_FROM_LATEST, 0, 8, HFB_SUBSCRIBE_SEEK);
	position = rig.log[0].committed;
	fill(1);
	CU_ASSERT_EQUAL(hfb_histogram_count(pushed), 32);
	/* the second one's window was too small for it until now */
	rig_subscribe(&rig, second, HFB_FROM_PLACE, position + 8, 1 << 20, 0);
	rig_turn(&rig);
	CU_ASSERT_EQUAL(hfb_histogram_count(pushed), 48);
	rig_turn(&rig);
	CU_ASSERT_EQUAL(hfb_histogram_count(pushed), 48);
	fill(40);
	CU_ASSERT_EQUAL(hfb_histogram_count(pushed), 48 + 2 * 40 * 16);
}

/*
 * What is committed when received: when it was published, or, where that was at the end of the
 * turn before (an idle turn's second look at local clients), when this one began.
 */
static void
test_the_time_of_a_commit_is_known_a_turn_later(void)
{
	struct hfb_partition *partition = &rig.partition[0];
	const uint64_t turn_tsc = 5000ull << HFB_STAGE_TICKS_SHIFT;

	partition->commit_stage = HFB_STAGE_RECEIVED;
	fill(1);
	rig_subscribe(&rig, rig_local(&rig), HFB_FROM_LATEST, 0, 1 << 20, HFB_SUBSCRIBE_SEEK);
	for (uint32_t i = 0; i < 2; i++) {
		uint32_t at = partition->commits_at & (HFB_COMMIT_MARKS - 1);

		rig_produce(&rig, session,
			    &(struct rig_batch){
				    .producer_id = 7, .count = 16, .base_sequence = produced });
		produced += 16;
		rig.core.times.turn_tsc = turn_tsc;
		rig.core.times.published_tsc = i == 0 ? 2 * turn_tsc : 0;
		rig_durable(&rig, 0);
		CU_ASSERT_EQUAL(partition->commits[at].words, rig.log[0].committed / 8);
		CU_ASSERT_EQUAL(partition->commits[at].ticks, i == 0 ? 10000 : 5000);
		rig_turn(&rig);
	}
}

static void
test_new_bytes_follow_and_uncommitted_ones_do_not(void)
{
	struct hfb_session *reader = rig_local(&rig);
	uint64_t position;

	fill(1);
	position = rig.log[0].committed;
	rig_subscribe(&rig, reader, HFB_FROM_LATEST, 0, 1 << 20, HFB_SUBSCRIBE_SEEK);
	CU_ASSERT_EQUAL(state(0)->position, position);
	rig_turn(&rig);
	rig_forget(&rig);
	rig_produce(&rig, session,
		    &(struct rig_batch){ .producer_id = 7, .count = 4, .base_sequence = produced });
	produced += 4;
	rig_turn(&rig);
	CU_ASSERT_EQUAL(rig_sent_count(&rig, HFB_FRAME_DATA), 0);
	rig_forget(&rig);
	rig_durable(&rig, 0);
	rig_turn(&rig);
	CU_ASSERT_EQUAL(collect(reader, position), rig.log[0].committed);
}

static void
test_lost_bytes_are_sent_again(void)
{
	struct hfb_session *reader = rig_local(&rig);

	fill(4);
	rig_subscribe(&rig, reader, HFB_FROM_EARLIEST, 0, 1 << 20, HFB_SUBSCRIBE_SEEK);
	rig_turn(&rig);
	rig_forget(&rig); /* all of it was lost */
	rig_subscribe(&rig, reader, HFB_FROM_PLACE, 1424, 1 << 20, 0);
	rig_turn(&rig);
	CU_ASSERT_EQUAL(rig.frames_count, 0);
	rig_subscribe(&rig, reader, HFB_FROM_PLACE, 1424, 1 << 20, HFB_SUBSCRIBE_SEEK);
	rig_turn(&rig);
	CU_ASSERT_EQUAL(collect(reader, 1424), rig.log[0].committed);
}

static void
test_a_reader_behind_the_ring_goes_on_from_the_files(void)
{
	struct hfb_session *reader = rig_local(&rig);
	uint64_t position;

	rig.log[0].ring_bytes = 16384;
	fill(4);
	rig_subscribe(&rig, reader, HFB_FROM_EARLIEST, 0, 1424, HFB_SUBSCRIBE_SEEK);
	rig_turn(&rig);
	position = collect(reader, 0);
	CU_ASSERT_EQUAL(position, 1424);
	fill(300); /* meanwhile the ring went round many times */
	rig_subscribe(&rig, reader, HFB_FROM_PLACE, position, 1 << 21, 0);
	rig_turn(&rig);
	CU_ASSERT_EQUAL(state(0)->code, HFB_WIRE_LAPPED);
	CU_ASSERT_EQUAL(state(0)->position, position);
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_READERS_LAPPED], 1);
	for (uint32_t i = 0; i < 200 && position < rig.log[0].committed; i++) {
		rig_reads_complete(&rig);
		rig_turn(&rig);
		position = collect(reader, position);
		CU_ASSERT_NOT_EQUAL_FATAL(position, UINT64_MAX);
	}
	CU_ASSERT_EQUAL(position, rig.log[0].committed);
	CU_ASSERT_TRUE(rig.stats[HFB_STAT_FILE_READS] >= 6);
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_READERS_LAPPED], 1);
}

static void
test_places_that_cannot_be_are_answered_by_name(void)
{
	struct hfb_session *reader = rig_local(&rig);

	fill(4);
	rig.log[0].start = 2048;
	rig_subscribe(&rig, reader, HFB_FROM_PLACE, 0, 4096, HFB_SUBSCRIBE_SEEK);
	CU_ASSERT_EQUAL(state(0)->code, HFB_WIRE_BELOW_START);
	CU_ASSERT_EQUAL(state(0)->position, 2048);
	rig_subscribe(&rig, reader, HFB_FROM_PLACE, 1 << 20, 4096, HFB_SUBSCRIBE_SEEK);
	CU_ASSERT_EQUAL(state(1)->code, HFB_WIRE_TRUNCATED);
	CU_ASSERT_EQUAL(state(1)->position, rig.log[0].committed);
	rig.log[0].lookup_result = -116; /* -ESTALE */
	rig.log[0].lookup_place = (struct hfb_place){ .leader_epoch = 2, .position = 4096 };
	rig_subscribe(&rig, reader, HFB_FROM_PLACE, 8192, 4096, HFB_SUBSCRIBE_SEEK);
	CU_ASSERT_EQUAL(state(2)->code, HFB_WIRE_TRUNCATED);
	CU_ASSERT_EQUAL(state(2)->leader_epoch, 2);
	CU_ASSERT_EQUAL(state(2)->position, 4096);
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_SUBSCRIPTIONS], 0);
	rig.log[0].lookup_result = 0;
	/* an offset that will come: from the end on */
	rig_subscribe(&rig, reader, HFB_FROM_OFFSET, 1 << 30, 4096, HFB_SUBSCRIBE_SEEK);
	CU_ASSERT_EQUAL(state(3)->code, HFB_WIRE_OK);
	CU_ASSERT_EQUAL(state(3)->position, rig.log[0].committed);
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_SUBSCRIPTIONS], 1);
}

static void
test_retention_overtakes_a_reader(void)
{
	struct hfb_session *reader = rig_local(&rig);

	rig.log[0].ring_bytes = 16384;
	fill(4);
	rig_subscribe(&rig, reader, HFB_FROM_EARLIEST, 0, 1424, HFB_SUBSCRIBE_SEEK);
	rig_turn(&rig);
	fill(100);
	rig.log[0].start = 65536;
	rig_subscribe(&rig, reader, HFB_FROM_PLACE, 1424, 1 << 20, 0);
	rig_turn(&rig);
	CU_ASSERT_EQUAL(state(1)->code, HFB_WIRE_BELOW_START);
	CU_ASSERT_EQUAL(state(1)->position, 65536);
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_SUBSCRIPTIONS], 0);
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_READERS_BELOW_START], 1);
}

static void
test_damage_is_named_and_passed(void)
{
	struct hfb_session *reader = rig_local(&rig);
	uint64_t position = 0, next = 0;
	uint32_t told = 0;

	rig.log[0].ring_bytes = 16384;
	fill(100);
	rig.log[0].corrupt_from = 2 * 1344;
	rig.log[0].corrupt_to = 5 * 1344;
	rig_subscribe(&rig, reader, HFB_FROM_EARLIEST, 0, 1 << 20, HFB_SUBSCRIBE_SEEK);
	rig_turn(&rig);
	rig_forget(&rig);
	for (uint32_t i = 0; i < 50 && position < rig.log[0].committed; i++) {
		rig_reads_complete(&rig);
		rig_turn(&rig);
		if (state(0)->code == HFB_WIRE_CORRUPT) {
			told++;
			CU_ASSERT_EQUAL(state(0)->position, rig.log[0].corrupt_to);
			CU_ASSERT_EQUAL(state(0)->skipped_words * 8u, 3 * 1344);
			next = state(0)->position;
		}
		position = collect(reader, position);
		CU_ASSERT_NOT_EQUAL_FATAL(position, UINT64_MAX);
		if (next != 0) {
			CU_ASSERT_EQUAL(position, rig.log[0].corrupt_from);
			position = next;
			next = 0;
		}
	}
	CU_ASSERT_EQUAL(told, 1);
	CU_ASSERT_EQUAL(position, rig.log[0].committed);
}

static void
test_stuck_readers_delay_nobody(void)
{
	struct hfb_session *stuck[12], *reader;
	uint64_t position = 0;

	/* more of them than there are read buffers would serve, all waiting for files */
	rig.log[0].ring_bytes = 16384;
	fill(100);
	for (uint32_t i = 0; i < 12; i++) {
		stuck[i] = rig_local(&rig);
		rig_subscribe(&rig, stuck[i], HFB_FROM_EARLIEST, 0, 1424, HFB_SUBSCRIBE_SEEK);
	}
	for (uint32_t i = 0; i < 5; i++) {
		rig_turn(&rig);
		rig_reads_complete(&rig);
	}
	rig_forget(&rig);
	for (uint32_t i = 0; i < HFB_READERS; i++)
		CU_ASSERT_PTR_NULL(rig.core.sessions->reader[i].subscription);
	reader = rig_local(&rig);
	rig_subscribe(&rig, reader, HFB_FROM_EARLIEST, 0, 1 << 20, HFB_SUBSCRIBE_SEEK);
	for (uint32_t i = 0; i < 20 && position < rig.log[0].committed; i++) {
		rig_turn(&rig);
		rig_reads_complete(&rig);
		position = collect(reader, position);
		CU_ASSERT_NOT_EQUAL_FATAL(position, UINT64_MAX);
	}
	CU_ASSERT_EQUAL(position, rig.log[0].committed);
}

/* Those that take no frames have bytes read for them, and must not keep the buffers. */
static void
test_full_rings_keep_no_buffer(void)
{
	struct hfb_session *reader;
	uint64_t position = 0, reads;

	rig.log[0].ring_bytes = 16384;
	fill(100);
	for (uint32_t i = 0; i < HFB_READERS; i++)
		rig_subscribe(&rig, rig_local(&rig), HFB_FROM_EARLIEST, 0, 1 << 20,
			      HFB_SUBSCRIBE_SEEK);
	reader = rig_local(&rig);
	rig.stuck_below = reader->number;
	rig_forget(&rig);
	rig_subscribe(&rig, reader, HFB_FROM_EARLIEST, 0, 1 << 20, HFB_SUBSCRIBE_SEEK);
	for (uint32_t i = 0; i < 40 && position < rig.log[0].committed; i++) {
		rig_turn(&rig);
		rig_reads_complete(&rig);
		position = collect(reader, position);
		CU_ASSERT_NOT_EQUAL_FATAL(position, UINT64_MAX);
	}
	CU_ASSERT_EQUAL(position, rig.log[0].committed);
	/* nor is the disk read for them again and again */
	reads = rig.stats[HFB_STAT_FILE_READS];
	for (uint32_t i = 0; i < 40; i++) {
		fill(1);
		rig_reads_complete(&rig);
	}
	CU_ASSERT_TRUE(rig.stats[HFB_STAT_FILE_READS] - reads <= HFB_READERS);
	/* and when there is room they go on */
	rig.stuck_below = 0;
	for (uint32_t i = 0; i < 2000 && rig.core.sessions->active_count == 0; i++) {
		rig.core.now_ns += 1000000;
		rig_turn(&rig);
		rig_forget(&rig);
	}
	CU_ASSERT_NOT_EQUAL(rig.core.sessions->active_count, 0);
}

static void
test_readers_share_a_turn(void)
{
	struct hfb_session *reader[4];
	uint32_t frames[4] = { 0 };
	const struct hfb_frame_data *data;

	fill(100);
	for (uint32_t i = 0; i < 4; i++) {
		reader[i] = rig_local(&rig);
		rig_subscribe(&rig, reader[i], HFB_FROM_EARLIEST, 0, 1 << 20, HFB_SUBSCRIBE_SEEK);
	}
	rig_turn(&rig);
	for (uint32_t n = 0; (data = rig_sent(&rig, HFB_FRAME_DATA, n)) != NULL; n++)
		for (uint32_t i = 0; i < 4; i++)
			frames[i] += data->frame.session == reader[i]->number;
	for (uint32_t i = 0; i < 4; i++)
		CU_ASSERT_EQUAL(frames[i], HFB_PUSH_FRAMES_RUN);
	CU_ASSERT_TRUE(rig_sent_count(&rig, HFB_FRAME_DATA) <= HFB_PUSH_FRAMES_TURN);
}

static void
test_heartbeats_thin_out_and_silence_ends(void)
{
	struct hfb_session *reader = rig_local(&rig);
	uint32_t heartbeats = 0;

	fill(1);
	rig_subscribe(&rig, reader, HFB_FROM_LATEST, 0, 1 << 20, HFB_SUBSCRIBE_SEEK);
	rig_turn(&rig);
	rig_forget(&rig);
	for (uint32_t ms = 0; ms < 1000; ms++) {
		rig.core.now_ns += 1000000;
		rig_turn(&rig);
		if (rig.frames_count != 0) {
			CU_ASSERT_EQUAL(state(0)->code, HFB_WIRE_AT_END);
			CU_ASSERT_EQUAL(state(0)->committed, rig.log[0].committed);
			heartbeats++;
		}
		rig_forget(&rig);
		CU_ASSERT_TRUE(ms >= 9 || heartbeats == 0);
		CU_ASSERT_TRUE(ms < 12 || heartbeats >= 1);
	}
	CU_ASSERT_TRUE(heartbeats >= 5 && heartbeats <= 8);
	rig.core.now_ns += 11000000000ull;
	rig_turn(&rig);
	CU_ASSERT_EQUAL(state(0)->code, HFB_WIRE_CLOSED);
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_SUBSCRIPTIONS], 0);
}

static void
test_a_full_table_a_bad_ask_and_the_end(void)
{
	struct hfb_session *reader = rig_local(&rig);
	struct hfb_frame_subscribe ask = {
		.frame = rig_head(&rig, HFB_FRAME_SUBSCRIBE, reader->number),
		.partition = 999,
		.window_bytes = 8,
	};

	hfb_session_local_frame(&rig.core, reader, (const uint8_t *)&ask, sizeof(ask));
	CU_ASSERT_EQUAL(state(0)->code, HFB_WIRE_NO_PARTITION);
	ask.partition = 10;
	ask.from = 77;
	hfb_session_local_frame(&rig.core, reader, (const uint8_t *)&ask, sizeof(ask));
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_DROP_FRAME_FLAGS], 1);
	for (uint32_t i = 0; i < rig.config.subscriptions_max; i++)
		rig_subscribe(&rig, rig_local(&rig), HFB_FROM_LATEST, 0, 8, HFB_SUBSCRIBE_SEEK);
	rig_forget(&rig);
	rig_subscribe(&rig, reader, HFB_FROM_LATEST, 0, 8, HFB_SUBSCRIBE_SEEK);
	CU_ASSERT_EQUAL(state(0)->code, HFB_WIRE_TOO_MANY);
	rig_forget(&rig);
	rig.partition[0].detaching = true;
	hfb_session_partition_detach(&rig.core, &rig.partition[0]);
	CU_ASSERT_EQUAL(rig_sent_count(&rig, HFB_FRAME_READ_STATE), rig.config.subscriptions_max);
	CU_ASSERT_EQUAL(state(0)->code, HFB_WIRE_CLOSED);
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_SUBSCRIPTIONS], 0);
	CU_ASSERT_EQUAL(rig.core.sessions->active_count, 0);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "bytes come once, within the window", test_bytes_come_once_within_the_window },
		{ "the time from commit to push is counted for each event",
		  test_the_time_from_commit_to_push_is_counted },
		{ "the time of a commit is known a turn later",
		  test_the_time_of_a_commit_is_known_a_turn_later },
		{ "new bytes follow, uncommitted ones do not",
		  test_new_bytes_follow_and_uncommitted_ones_do_not },
		{ "lost bytes are sent again", test_lost_bytes_are_sent_again },
		{ "a reader behind the ring goes on from the files",
		  test_a_reader_behind_the_ring_goes_on_from_the_files },
		{ "places that cannot be are answered by name",
		  test_places_that_cannot_be_are_answered_by_name },
		{ "retention overtakes a reader", test_retention_overtakes_a_reader },
		{ "damage is named and passed", test_damage_is_named_and_passed },
		{ "stuck readers delay nobody", test_stuck_readers_delay_nobody },
		{ "full rings keep no buffer", test_full_rings_keep_no_buffer },
		{ "readers share a turn", test_readers_share_a_turn },
		{ "heartbeats thin out, silence ends", test_heartbeats_thin_out_and_silence_ends },
		{ "a full table, a bad ask, the end", test_a_full_table_a_bad_ask_and_the_end },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main_fixture("push", tests, set_up, tear_down);
}
