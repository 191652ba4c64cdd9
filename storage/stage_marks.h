/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stage_marks.h - which bytes of a log came when: what the histograms of stages need
 * until the bytes are durable.
 *
 *	hfb_stage_marks_add(&marks, position, turn_tsc, events);	published
 *	hfb_stage_marks_submitted(&marks, end, now_tsc, times);		a write formed
 *	hfb_stage_marks_durable(&marks, position, times);		durable moved
 *
 * One mark for the turns of 1.6 us in which the log was appended to, or for more when many
 * are in flight, with the time of the first: an event's time may be stated too long by
 * that or by a thirtieth of what is in flight, never too short, and each event counts once.
 *
 * Threads: the log's core.
 * Memory:  0.8 KiB a log, inside it.
 */
#ifndef HFB_STAGE_MARKS_H
#define HFB_STAGE_MARKS_H

#include <stdint.h>

#include "stage_times.h"

#define HFB_STAGE_MARKS 64u /* power of two */

/* In 32 bits each: positions in flight are nearer to each other than 32 GiB. */
struct hfb_stage_mark {
	uint32_t words; /* position / 8 */
	uint32_t ticks; /* hfb_stage_ticks() */
	uint32_t events;
};

struct hfb_stage_marks {
	uint32_t head, count;
	uint32_t submitted; /* so many of the oldest are in a write */
	uint32_t stride;    /* turns to a mark, from 1; halved and doubled with what is in flight */
	uint32_t turns;	    /* in the newest mark */
	struct hfb_stage_mark mark[HFB_STAGE_MARKS];
};

/* A turn's appends end at @position. */
void hfb_stage_marks_add(struct hfb_stage_marks *marks, uint64_t position, uint64_t tsc,
			 uint64_t events);
/* Marks at or below @end are on their way to the disk. */
void hfb_stage_marks_submitted(struct hfb_stage_marks *marks, uint64_t end, uint64_t now_tsc,
			       struct hfb_stage_times *times);
/* Marks at or below @position are durable since times->reaped_tsc, and forgotten. */
void hfb_stage_marks_durable(struct hfb_stage_marks *marks, uint64_t position,
			     struct hfb_stage_times *times);

#endif
