/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Feeds: where the log has no room.
 *
 * Goal:   what the log takes later is not lost, what it never takes is a gap of our own, told
 *	   as soon as there is room; each segment can be read by itself.
 * Method: a log in memory that refuses when told, for a while or for long, and segments so
 *	   small that streams go over many.
 */
#include "hfb_test_main.h"
#include "mold_rig.h"

static void
test_short_refusals_lose_nothing(void)
{
	struct feed_fixture *f = mold_open();

	mold(f, 0, 1, 5);
	f->refusal = HFB_LOG_RING_FULL;
	for (uint64_t q = 6; q < 106; q += 5)
		mold(f, 0, q, 5);
	CU_ASSERT_TRUE(hfb_feed_paused(&f->core));
	pass(f, 20 * MS_NS);
	CU_ASSERT_TRUE(hfb_feed_paused(&f->core));
	f->refusal = HFB_LOG_OK;
	feed_fixture_turn(f, 1000);
	CU_ASSERT_FALSE(hfb_feed_paused(&f->core));
	mold(f, 0, 106, 1);
	feed_fixture_read(f);
	CU_ASSERT_TRUE(f->sound);
	CU_ASSERT_EQUAL(f->gaps_count, 0);
	CU_ASSERT_EQUAL(f->events_count, 106);
	CU_ASSERT_TRUE(events_are(f, 0, "S", 1, 106));
	CU_ASSERT_EQUAL(feed_fixture_mbufs(f), 0);
	feed_fixture_close(f);
}

static void
test_a_long_refusal_becomes_one_local_gap(void)
{
	struct feed_fixture *f = mold_open();

	mold(f, 0, 1, 5);
	f->refusal = HFB_LOG_RING_FULL;
	mold(f, 0, 6, 5);
	pass(f, 1100 * MS_NS);
	CU_ASSERT_FALSE(hfb_feed_paused(&f->core));
	mold(f, 0, 11, 5);
	mold(f, 0, 16, 5);
	f->refusal = HFB_LOG_OK;
	mold(f, 0, 21, 5);
	feed_fixture_read(f);
	CU_ASSERT_TRUE(f->sound);
	CU_ASSERT_EQUAL(f->gaps_count, 1);
	CU_ASSERT_EQUAL(f->gap[0].first, 6);
	CU_ASSERT_EQUAL(f->gap[0].count, 15);
	CU_ASSERT_EQUAL(f->gap[0].cause, HFB_GAP_LOCAL);
	CU_ASSERT_EQUAL(f->events_count, 10);
	CU_ASSERT_TRUE(events_are(f, 5, "S", 21, 25));
	CU_ASSERT_EQUAL(feed_stat(f, HFB_FEED_MISSING_LOCAL), 15);
	CU_ASSERT_EQUAL(feed_stat(f, HFB_FEED_GAPS_LOCAL), 1);
	feed_fixture_close(f);
}

static void
test_a_full_disk_drops_at_once_and_tells_when_room_returns(void)
{
	struct feed_fixture *f = mold_open();

	mold(f, 0, 1, 5);
	f->refusal = HFB_LOG_NO_SPACE;
	mold(f, 0, 6, 5);
	mold(f, 0, 13, 3); /* 11 and 12 are missing on the wire as well */
	CU_ASSERT_FALSE(hfb_feed_paused(&f->core));
	pass(f, 5 * MS_NS);
	f->refusal = HFB_LOG_OK;
	feed_fixture_turn(f, 1000); /* no packet needed */
	feed_fixture_read(f);
	CU_ASSERT_TRUE(f->sound);
	CU_ASSERT_EQUAL(f->gaps_count, 3);
	CU_ASSERT_EQUAL(f->gap[0].first, 6);
	CU_ASSERT_EQUAL(f->gap[0].count, 5);
	CU_ASSERT_EQUAL(f->gap[0].cause, HFB_GAP_LOCAL);
	CU_ASSERT_EQUAL(f->gap[1].first, 11);
	CU_ASSERT_EQUAL(f->gap[1].count, 2);
	CU_ASSERT_EQUAL(f->gap[1].cause, HFB_GAP_WIRE);
	CU_ASSERT_EQUAL(f->gap[2].first, 13);
	CU_ASSERT_EQUAL(f->gap[2].count, 3);
	CU_ASSERT_EQUAL(f->gap[2].cause, HFB_GAP_LOCAL);
	mold(f, 0, 16, 2);
	feed_fixture_read(f);
	CU_ASSERT_EQUAL(f->events_count, 7);
	CU_ASSERT_EQUAL(f->gaps_count, 3);
	feed_fixture_close(f);
}

static void
test_no_room_for_long_with_losses_all_over(void)
{
	struct feed_fixture *f = mold_open();
	uint64_t covered = 0, next = 1;
	uint32_t e = 0, g = 0;

	/* each breath of room, each loss: everything once, in order */
	f->room_end = 0;
	for (uint64_t q = 1; q < 40000; q += 4) {
		if (q % 97 != 0)
			mold(f, 0, q, 4);
		if (q % 251 == 0)
			f->room_end = f->position + 20000;
		if (q % 37 == 0)
			pass(f, 40 * MS_NS);
	}
	f->room_end = 64u << 20;
	mold(f, 0, 40001, 0);
	pass(f, 5 * MS_NS);
	feed_fixture_read(f);
	CU_ASSERT_TRUE(f->sound);
	while (e < f->events_count || g < f->gaps_count) {
		if (g < f->gaps_count &&
		    (e == f->events_count || f->gap_order[g] < f->event[e].order)) {
			if (f->gap[g].first == next)
				covered += f->gap[g].count;
			next += f->gap[g].count;
			g++;
		} else {
			covered += f->event[e].sequence == next;
			next++;
			e++;
		}
	}
	CU_ASSERT_EQUAL(next, 40001);
	CU_ASSERT_EQUAL(covered, 40000);
	CU_ASSERT_TRUE(f->gaps_count > 10);
	CU_ASSERT_TRUE(f->events_count > 1000);
	CU_ASSERT_EQUAL(feed_fixture_mbufs(f), 0);
	feed_fixture_close(f);
}

static void
test_each_segment_names_the_stream(void)
{
	struct feed_fixture *f = mold_open();

	f->segment_bytes = 8192;
	for (uint64_t q = 1; q <= 3000; q += 10)
		mold(f, 0, q, 10);
	feed_fixture_read(f);
	CU_ASSERT_TRUE(f->sound);
	CU_ASSERT_EQUAL(f->events_count, 3000);
	CU_ASSERT_TRUE(events_are(f, 0, "S", 1, 3000));
	CU_ASSERT_EQUAL(f->starts_count, (f->position - 1) / 8192 + 1);
	feed_fixture_close(f);
}

static void
test_a_datagram_larger_than_a_batch_is_split(void)
{
	struct feed_fixture *f = mold_open();

	f->segment_bytes = 8192; /* batches of at most 2048 */
	mold(f, 0, 1, 120);
	feed_fixture_read(f);
	CU_ASSERT_TRUE(f->sound);
	CU_ASSERT_EQUAL(f->events_count, 120);
	CU_ASSERT_TRUE(events_are(f, 0, "S", 1, 120));
	CU_ASSERT_TRUE(f->batches_count > 2);
	feed_fixture_close(f);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "short refusals lose nothing", test_short_refusals_lose_nothing },
		{ "a long refusal becomes one local gap",
		  test_a_long_refusal_becomes_one_local_gap },
		{ "a full disk drops at once and tells when room returns",
		  test_a_full_disk_drops_at_once_and_tells_when_room_returns },
		{ "no room for long, losses all over", test_no_room_for_long_with_losses_all_over },
		{ "each segment names the stream", test_each_segment_names_the_stream },
		{ "a datagram larger than a batch is split",
		  test_a_datagram_larger_than_a_batch_is_split },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("feed room", tests);
}
