/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What groups have committed.
 *
 * Goal:   an offset goes back only when it was asked to, when a newer leader has lost
 *	   what it stood for, or when its topic was made anew.
 * Method: wishes and durable records, as hfbus-control makes them, in turn.
 */
#include <string.h>

#include "hfb_test_main.h"
#include "offset_record.h"
#include "offsets.h"

static const struct hfb_uuid first = { { 1 } }, second = { { 2 } };

static int
want(struct hfb_offsets *o, const struct hfb_uuid *topic, uint32_t epoch, uint64_t offset,
     bool force)
{
	const struct hfb_commit commit = { .leader_epoch = epoch, .offset = offset };

	return hfb_offsets_want(o, "t", topic, &commit, force);
}

static uint64_t
pending(struct hfb_offsets *o)
{
	return o->topics[0].partitions[0].pending;
}

static void
test_an_offset_never_goes_back(void)
{
	struct hfb_offsets o = { 0 };

	CU_ASSERT_EQUAL(want(&o, &first, 1, 100, false), 1);
	CU_ASSERT_EQUAL(want(&o, &first, 1, 100, false), 0);
	CU_ASSERT_EQUAL(want(&o, &first, 1, 99, false), 0);
	CU_ASSERT_EQUAL(pending(&o), 100);
	CU_ASSERT_EQUAL(want(&o, &first, 1, 101, false), 1);
	CU_ASSERT_EQUAL(pending(&o), 101);
	/* events of an older leader are lower, too, and as little news */
	CU_ASSERT_EQUAL(want(&o, &first, 0, 50, false), 0);
	CU_ASSERT_EQUAL(pending(&o), 101);
	hfb_offsets_fini(&o);
}

static void
test_a_reset_goes_back(void)
{
	struct hfb_offsets o = { 0 };

	CU_ASSERT_EQUAL(want(&o, &first, 7, 100, false), 1);
	CU_ASSERT_EQUAL(want(&o, &first, 0, 10, true), 1);
	CU_ASSERT_EQUAL(pending(&o), 10);
	/* a commit that knows of no leader either says nothing new when it is lower */
	CU_ASSERT_EQUAL(want(&o, &first, 0, 9, false), 0);
	CU_ASSERT_EQUAL(want(&o, &first, 7, 11, false), 1);
	CU_ASSERT_EQUAL(pending(&o), 11);
	hfb_offsets_fini(&o);
}

/* The group was set to 1000 by hand; then a crash took the log's end, from 960 on. */
static void
test_what_was_set_beyond_the_logs_end_gives_way_to_what_was_read(void)
{
	struct hfb_offsets o = { 0 };

	CU_ASSERT_EQUAL(want(&o, &first, 0, 1000, true), 1);
	CU_ASSERT_EQUAL(want(&o, &first, 8, 961, false), 1);
	CU_ASSERT_EQUAL(pending(&o), 961);
	CU_ASSERT_EQUAL(want(&o, &first, 8, 960, false), 0);
	CU_ASSERT_EQUAL(pending(&o), 961);
	hfb_offsets_fini(&o);
}

static void
test_what_a_crash_took_is_committed_again(void)
{
	struct hfb_offsets o = { 0 };

	CU_ASSERT_EQUAL(want(&o, &first, 1, 1000, false), 1);
	/* the log came back with fewer events; new ones have the lost ones' offsets */
	CU_ASSERT_EQUAL(want(&o, &first, 2, 960, false), 1);
	CU_ASSERT_EQUAL(pending(&o), 960);
	CU_ASSERT_EQUAL(want(&o, &first, 1, 1000, false), 1); /* higher always goes */
	hfb_offsets_fini(&o);
}

static void
test_a_topic_made_anew_begins_anew(void)
{
	struct hfb_offsets o = { 0 };

	CU_ASSERT_EQUAL(want(&o, &first, 1, 1000, false), 1);
	CU_ASSERT_EQUAL(want(&o, &second, 1, 5, false), 1);
	CU_ASSERT_EQUAL(pending(&o), 5);
	hfb_offsets_fini(&o);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "an offset never goes back", test_an_offset_never_goes_back },
		{ "a reset goes back", test_a_reset_goes_back },
		{ "what was set beyond the log's end gives way to what was read",
		  test_what_was_set_beyond_the_logs_end_gives_way_to_what_was_read },
		{ "what a crash took is committed again",
		  test_what_a_crash_took_is_committed_again },
		{ "a topic made anew begins anew", test_a_topic_made_anew_begins_anew },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("offsets", tests);
}
