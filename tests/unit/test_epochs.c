/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Epoch list.
 *
 * Goal:   a place that was cut off is told where its epoch ended; others stand.
 * Method: a short history by hand.
 */
#include "epochs.h"
#include "hfb_test_main.h"

static void
test_places(void)
{
	struct hfb_epoch_entry memory[4];
	struct hfb_epochs e;
	struct hfb_place place;

	hfb_epochs_init(&e, memory, 4);
	CU_ASSERT_TRUE(hfb_epochs_holds(&e, 7, 0, 0, 0, &place));
	CU_ASSERT_FALSE(hfb_epochs_holds(&e, 7, 8, 0, 0, &place));
	hfb_epochs_add(&e, 2, 0, 0);
	hfb_epochs_add(&e, 5, 1000, 10);
	hfb_epochs_add(&e, 5, 2000, 20); /* again: nothing */
	hfb_epochs_add(&e, 4, 3000, 30); /* older: nothing */
	CU_ASSERT_EQUAL(e.count, 2);
	CU_ASSERT_TRUE(hfb_epochs_holds(&e, 2, 1000, 5000, 50, &place));
	CU_ASSERT_FALSE(hfb_epochs_holds(&e, 2, 1008, 5000, 50, &place));
	CU_ASSERT(place.leader_epoch == 2 && place.position == 1000 && place.offset == 10);
	/* an epoch that left nothing: ends where the next one begins */
	CU_ASSERT_FALSE(hfb_epochs_holds(&e, 3, 1008, 5000, 50, &place));
	CU_ASSERT_EQUAL(place.position, 1000);
	CU_ASSERT_TRUE(hfb_epochs_holds(&e, 5, 5000, 5000, 50, &place));
	CU_ASSERT_FALSE(hfb_epochs_holds(&e, 5, 5008, 5000, 50, &place));
	CU_ASSERT(place.position == 5000 && place.offset == 50);
	CU_ASSERT_FALSE(hfb_epochs_holds(&e, 0, 5008, 5000, 50, &place));
	CU_ASSERT_TRUE(hfb_epochs_holds(&e, 0, 3000, 5000, 50, &place));
	CU_ASSERT_EQUAL(hfb_epochs_at(&e, 999), 2);
	CU_ASSERT_EQUAL(hfb_epochs_at(&e, 1000), 5);
}

static void
test_offsets(void)
{
	struct hfb_epoch_entry memory[4];
	struct hfb_epochs e;
	struct hfb_place place;

	hfb_epochs_init(&e, memory, 4);
	CU_ASSERT_TRUE(hfb_epochs_holds_offset(&e, 7, 100, &place));
	hfb_epochs_add(&e, 2, 0, 0);
	hfb_epochs_add(&e, 5, 1000, 10);
	/* the event before offset 10 is 2's last one, that before 11 is 5's first */
	CU_ASSERT_TRUE(hfb_epochs_holds_offset(&e, 2, 10, &place));
	CU_ASSERT_FALSE(hfb_epochs_holds_offset(&e, 2, 11, &place));
	CU_ASSERT(place.leader_epoch == 2 && place.position == 1000 && place.offset == 10);
	CU_ASSERT_TRUE(hfb_epochs_holds_offset(&e, 5, 11, &place));
	CU_ASSERT_TRUE(hfb_epochs_holds_offset(&e, 6, 5000, &place));
	CU_ASSERT_TRUE(hfb_epochs_holds_offset(&e, 0, 11, &place));
	/* 3 left nothing */
	CU_ASSERT_FALSE(hfb_epochs_holds_offset(&e, 3, 11, &place));
	CU_ASSERT_EQUAL(place.offset, 10);
}

static void
test_cut_and_bounds(void)
{
	struct hfb_epoch_entry memory[3];
	struct hfb_epochs e;
	struct hfb_place place;

	hfb_epochs_init(&e, memory, 3);
	hfb_epochs_add(&e, 1, 0, 0);
	hfb_epochs_add(&e, 2, 500, 5);
	hfb_epochs_add(&e, 3, 400, 4); /* 2 was cut off whole */
	CU_ASSERT_EQUAL(e.count, 2);
	CU_ASSERT_FALSE(hfb_epochs_holds(&e, 2, 600, 900, 9, &place));
	CU_ASSERT_EQUAL(place.position, 400);
	hfb_epochs_add(&e, 4, 600, 6);
	hfb_epochs_add(&e, 5, 700, 7); /* full: 1 goes */
	CU_ASSERT_EQUAL(e.count, 3);
	CU_ASSERT_EQUAL(e.entries[0].leader_epoch, 3);
	CU_ASSERT_FALSE(hfb_epochs_holds(&e, 1, 500, 900, 9, &place));
	CU_ASSERT_EQUAL(place.position, 400);
	CU_ASSERT_EQUAL(hfb_epochs_at(&e, 100), 0);
	hfb_epochs_trim(&e, 650);
	CU_ASSERT_EQUAL(e.count, 2);
	CU_ASSERT_EQUAL(e.entries[0].leader_epoch, 4);
	hfb_epochs_trim(&e, 5000);
	CU_ASSERT_EQUAL(e.count, 1); /* the running one stays */
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "places stand or are told where their epoch ended", test_places },
		{ "offsets stand or are told where their epoch ended", test_offsets },
		{ "cut off epochs go, and the list is bounded", test_cut_and_bounds },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("epochs", tests);
}
