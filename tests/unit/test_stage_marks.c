/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stage marks of a log.
 *
 * Goal:   each event counts once a stage, at a time that is never too short, however many
 *	   turns are in flight.
 * Method: a clock of our own; what is recorded beside what a plain list of all turns says.
 */
#include "stage_marks.h"

#include <stdlib.h>
#include <string.h>

#include "hfb_test_main.h"

#define STEP ((uint64_t)1 << HFB_STAGE_TICKS_SHIFT)

static struct hfb_stage_times times;

static void
times_open(void)
{
	memset(&times, 0, sizeof(times));
	times.tick_ns = (uint64_t)1 << 32; /* a tick is a nanosecond */
	for (uint32_t i = 0; i < HFB_STAGE_TIMES_COUNT; i++) {
		times.of[i] = malloc(hfb_histogram_bytes(HFB_STAGE_TIME_BITS, 36));
		CU_ASSERT_PTR_NOT_NULL_FATAL(times.of[i]);
		hfb_histogram_init(times.of[i], HFB_STAGE_TIME_BITS, 36);
	}
}

static void
times_close(void)
{
	for (uint32_t i = 0; i < HFB_STAGE_TIMES_COUNT; i++)
		free(times.of[i]);
}

static void
test_one_turn_one_write(void)
{
	struct hfb_stage_marks marks = { 0 };
	struct hfb_histogram *submitted, *durable;

	times_open();
	submitted = times.of[HFB_STAGE_TIME_SUBMITTED];
	durable = times.of[HFB_STAGE_TIME_DURABLE];
	hfb_stage_marks_add(&marks, 4096, 100 * STEP, 16);
	hfb_stage_marks_add(&marks, 8192, 170 * STEP, 3);
	/* a write that ends in the middle of the second turn's bytes */
	hfb_stage_marks_submitted(&marks, 8191, 180 * STEP, &times);
	CU_ASSERT_EQUAL(hfb_histogram_count(submitted), 16);
	CU_ASSERT_EQUAL(submitted->max, 80 * STEP);
	hfb_stage_marks_submitted(&marks, 8192, 190 * STEP, &times);
	CU_ASSERT_EQUAL(hfb_histogram_count(submitted), 19);
	CU_ASSERT_EQUAL(submitted->sum, 16 * 80 * STEP + 3 * 20 * STEP);

	times.reaped_tsc = 200 * STEP;
	hfb_stage_marks_durable(&marks, 4095, &times);
	CU_ASSERT_EQUAL(hfb_histogram_count(durable), 0);
	hfb_stage_marks_durable(&marks, 4096, &times);
	CU_ASSERT_EQUAL(hfb_histogram_count(durable), 16);
	hfb_stage_marks_durable(&marks, 8192, &times);
	CU_ASSERT_EQUAL(hfb_histogram_count(durable), 19);
	CU_ASSERT_EQUAL(durable->sum, 16 * 100 * STEP + 3 * 30 * STEP);
	CU_ASSERT_EQUAL(marks.count, 0);
	times_close();
}

/* Turns that follow each other at once are one mark, with the first one's time. */
static void
test_quick_turns(void)
{
	struct hfb_stage_marks marks = { 0 };

	times_open();
	for (uint32_t i = 0; i < 10; i++)
		hfb_stage_marks_add(&marks, 64 * (i + 1), (100 + i) * STEP, 2);
	CU_ASSERT_EQUAL(marks.count, 1);
	hfb_stage_marks_submitted(&marks, 639, 200 * STEP, &times);
	CU_ASSERT_EQUAL(hfb_histogram_count(times.of[HFB_STAGE_TIME_SUBMITTED]), 0);
	hfb_stage_marks_submitted(&marks, 640, 200 * STEP, &times);
	CU_ASSERT_EQUAL(hfb_histogram_count(times.of[HFB_STAGE_TIME_SUBMITTED]), 20);
	CU_ASSERT_EQUAL(times.of[HFB_STAGE_TIME_SUBMITTED]->max, 100 * STEP);
	/* what is on its way already takes nothing more in */
	hfb_stage_marks_add(&marks, 704, 110 * STEP, 1);
	CU_ASSERT_EQUAL(marks.count, 2);
	times_close();
}

/* Positions beyond 32 GiB and a clock that wraps its 32 bits meanwhile. */
static void
test_wrapping(void)
{
	struct hfb_stage_marks marks = { 0 };
	const uint64_t position = ((uint64_t)1 << 35) - 64;
	const uint64_t tsc = ((uint64_t)UINT32_MAX - 5) * STEP;

	times_open();
	hfb_stage_marks_add(&marks, position, tsc, 1);
	hfb_stage_marks_add(&marks, position + 128, tsc + 70 * STEP, 1);
	times.reaped_tsc = tsc + 100 * STEP;
	hfb_stage_marks_submitted(&marks, position + 127, tsc + 80 * STEP, &times);
	hfb_stage_marks_durable(&marks, position + 127, &times);
	CU_ASSERT_EQUAL(hfb_histogram_count(times.of[HFB_STAGE_TIME_DURABLE]), 1);
	CU_ASSERT_EQUAL(times.of[HFB_STAGE_TIME_DURABLE]->max, 100 * STEP);
	CU_ASSERT_EQUAL(times.of[HFB_STAGE_TIME_SUBMITTED]->max, 80 * STEP);
	hfb_stage_marks_submitted(&marks, position + 128, tsc + 90 * STEP, &times);
	hfb_stage_marks_durable(&marks, position + 128, &times);
	CU_ASSERT_EQUAL(hfb_histogram_count(times.of[HFB_STAGE_TIME_DURABLE]), 2);
	times_close();
}

/* A clock that is a little behind, as another CPU's may be, is no time at all. */
static void
test_behind(void)
{
	struct hfb_stage_marks marks = { 0 };

	times_open();
	hfb_stage_marks_add(&marks, 64, 100 * STEP, 1);
	hfb_stage_marks_submitted(&marks, 64, 98 * STEP, &times);
	CU_ASSERT_EQUAL(hfb_histogram_count(times.of[HFB_STAGE_TIME_SUBMITTED]), 1);
	CU_ASSERT_EQUAL(times.of[HFB_STAGE_TIME_SUBMITTED]->max, 0);
	times_close();
}

#define TURNS 20000u

static void
test_many_turns_in_flight(void)
{
	struct hfb_stage_marks marks = { 0 };
	static uint64_t position[TURNS], came[TURNS], events[TURNS];
	uint64_t at = 0, now = 1000 * STEP, sum = 0, all = 0;
	uint32_t submitted = 0, durable = 0, longest = 0;

	times_open();
	for (uint32_t i = 0; i < TURNS; i++) {
		now += STEP * (1 + hfb_test_random() % 500);
		at += 8 * (1 + hfb_test_random() % 1000);
		position[i] = at;
		came[i] = now;
		events[i] = 1 + hfb_test_random() % 20;
		all += events[i];
		hfb_stage_marks_add(&marks, at, now, events[i]);
		CU_ASSERT_TRUE(marks.count <= HFB_STAGE_MARKS);
		CU_ASSERT_TRUE(marks.submitted <= marks.count);
		/* writes and completions come in bursts, now and then after hundreds of turns */
		if (hfb_test_random() % 30 == 0 || i == TURNS - 1) {
			submitted = i + 1;
			hfb_stage_marks_submitted(&marks, at, now, &times);
		}
		if (hfb_test_random() % 300 == 0 || i == TURNS - 1) {
			if (submitted > durable && submitted - durable > longest)
				longest = submitted - durable;
			times.reaped_tsc = now;
			for (; durable < submitted; durable++)
				sum += events[durable] * (now - came[durable]);
			if (durable > 0)
				hfb_stage_marks_durable(&marks, position[durable - 1], &times);
		}
	}
	CU_ASSERT_TRUE(longest > 4 * HFB_STAGE_MARKS);
	CU_ASSERT_EQUAL(marks.count, 0);
	CU_ASSERT_EQUAL(hfb_histogram_count(times.of[HFB_STAGE_TIME_SUBMITTED]), all);
	CU_ASSERT_EQUAL(hfb_histogram_count(times.of[HFB_STAGE_TIME_DURABLE]), all);
	/* thinned marks say the older's time: too long by a little, never too short */
	CU_ASSERT_TRUE(times.of[HFB_STAGE_TIME_DURABLE]->sum >= sum);
	CU_ASSERT_TRUE(times.of[HFB_STAGE_TIME_DURABLE]->sum <= sum + sum / 20);
	times_close();
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "an event counts when its last byte gets there", test_one_turn_one_write },
		{ "quick turns are one mark", test_quick_turns },
		{ "positions and clock wrap", test_wrapping },
		{ "a clock behind counts as no time", test_behind },
		{ "many turns in flight are each counted once", test_many_turns_in_flight },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("stage_marks", tests);
}
