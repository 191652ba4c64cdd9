/* SPDX-License-Identifier: Apache-2.0 */
#include "stage_marks.h"

#include <stdbool.h>

/* 1.6 us at 2.6 GHz: nothing for a time to the disk, and several turns of a busy core. */
#define TICKS_JOIN 64u

static struct hfb_stage_mark *
mark_at(struct hfb_stage_marks *marks, uint32_t i)
{
	return &marks->mark[(marks->head + i) & (HFB_STAGE_MARKS - 1)];
}

/* Pairs of [*from, to) become one each, moved down to @at. Returns where they end. */
static uint32_t
pairs_join(struct hfb_stage_marks *marks, uint32_t from, uint32_t to, uint32_t at)
{
	while (from < to) {
		struct hfb_stage_mark joined = *mark_at(marks, from++);

		if (from < to) {
			const struct hfb_stage_mark *later = mark_at(marks, from++);

			joined.words = later->words;
			joined.events += later->events;
		}
		*mark_at(marks, at++) = joined;
	}
	return at;
}

/* Evenly, and what comes is joined alike: else the oldest mark would hold half of all. */
static void
marks_thin(struct hfb_stage_marks *marks)
{
	uint32_t submitted;

	/* apart, so that what is submitted is not counted as that once more */
	submitted = pairs_join(marks, 0, marks->submitted, 0);
	marks->count = pairs_join(marks, marks->submitted, marks->count, submitted);
	marks->submitted = submitted;
	marks->stride *= 2;
}

void
hfb_stage_marks_add(struct hfb_stage_marks *marks, uint64_t position, uint64_t tsc, uint64_t events)
{
	struct hfb_stage_mark *m;

	if (marks->submitted < marks->count) {
		m = mark_at(marks, marks->count - 1);
		if (marks->turns < marks->stride || hfb_stage_ticks(tsc) - m->ticks < TICKS_JOIN) {
			m->words = (uint32_t)(position / 8);
			m->events += (uint32_t)events;
			marks->turns++;
			return;
		}
	}
	if (marks->count < HFB_STAGE_MARKS / 4)
		marks->stride = marks->stride > 1 ? marks->stride / 2 : 1;
	if (marks->count == HFB_STAGE_MARKS)
		marks_thin(marks);
	m = mark_at(marks, marks->count++);
	m->words = (uint32_t)(position / 8);
	m->ticks = hfb_stage_ticks(tsc);
	m->events = (uint32_t)events;
	marks->turns = 1;
}

static bool
reached(const struct hfb_stage_mark *m, uint64_t position)
{
	return (int32_t)((uint32_t)(position / 8) - m->words) >= 0;
}

void
hfb_stage_marks_submitted(struct hfb_stage_marks *marks, uint64_t end, uint64_t now_tsc,
			  struct hfb_stage_times *times)
{
	for (; marks->submitted < marks->count; marks->submitted++) {
		const struct hfb_stage_mark *m = mark_at(marks, marks->submitted);

		if (!reached(m, end))
			return;
		hfb_stage_time_record(times, HFB_STAGE_TIME_SUBMITTED,
				      hfb_stage_ticks_since(m->ticks, now_tsc), m->events);
	}
}

void
hfb_stage_marks_durable(struct hfb_stage_marks *marks, uint64_t position,
			struct hfb_stage_times *times)
{
	/* what is durable was submitted */
	while (marks->submitted > 0) {
		const struct hfb_stage_mark *m = mark_at(marks, 0);

		if (!reached(m, position))
			return;
		hfb_stage_time_record(times, HFB_STAGE_TIME_DURABLE,
				      hfb_stage_ticks_since(m->ticks, times->reaped_tsc),
				      m->events);
		marks->head++;
		marks->count--;
		marks->submitted--;
	}
}
