/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stage_times.h - where the time of an event goes: a poll core's histograms of the way
 * from the port to the ack, in the counters file.
 *
 *	hfb_stage_times_init(&times, file, "core=0", &err);		boot
 *	times.turn_tsc = hfb_clock_tsc();				each turn
 *	hfb_stage_time_record(&times, HFB_STAGE_TIME_APPENDED, now_tsc - times.turn_tsc, events);
 *
 * Histogram "stage_time", unit ns, labels "core=,stage=,weight=". Each time counts as
 * often as its weight says: received_* by events (an event of a batch of 16 counts like one
 * that came alone), the others by what they are about. "Received" is the beginning of the turn
 * that took the packet from its port, channel or ring; how long it waited there is not known.
 *
 * Threads: one core records; anyone reads the file.
 * Cost:    per (turn, partition), write or frame, never per event; a record is ~3 ns.
 */
#ifndef HFB_STAGE_TIMES_H
#define HFB_STAGE_TIMES_H

#include <stdint.h>

#include "counters.h"
#include "err.h"
#include "histogram.h"

#define HFB_STAGE_TIME_NAME	  "stage_time"
#define HFB_STAGE_TIME_BITS	  6u  /* 1.6 % */
#define HFB_STAGE_TIME_RANGE_BITS 36u /* 68 s */

/*
 * APPENDED	visible in the ring
 * SUBMITTED	in a write on its way to the disk
 * DURABLE	below a completed sync
 * ACKED	the ack of the stage asked for given to the port
 * WRITE	one write, synced or not, from submitted to reaped
 * FLUSH	one flush of the device for many partitions
 * PUSHED	committed to in a frame for a reader, for each reader
 * HANDED	the turn that handed a packet over to the turn that took it
 */
#define HFB_STAGE_TIMES(X)                                                                         \
	X(APPENDED, "received_appended", "events")                                                 \
	X(SUBMITTED, "received_submitted", "events")                                               \
	X(DURABLE, "received_durable", "events")                                                   \
	X(ACKED, "received_acked", "events")                                                       \
	X(WRITE, "write", "writes")                                                                \
	X(FLUSH, "flush", "flushes")                                                               \
	X(PUSHED, "committed_pushed", "events")                                                    \
	X(HANDED, "handover", "packets")

enum hfb_stage_time {
#define X(id, name, weight) HFB_STAGE_TIME_##id,
	HFB_STAGE_TIMES(X)
#undef X
		HFB_STAGE_TIMES_COUNT
};

struct hfb_stage_times {
	uint64_t turn_tsc;	/* this turn began */
	uint64_t published_tsc; /* what it appended was made visible; 0 = not yet: the core's */
	uint64_t reaped_tsc;	/* the last completions of the disk were seen */
	uint64_t tick_ns;	/* ns per tick * 2^32 */
	struct hfb_histogram *of[HFB_STAGE_TIMES_COUNT];
};

/* A time in 32 bits: 25 ns at 2.6 GHz, wraps after 100 s. */
#define HFB_STAGE_TICKS_SHIFT 6u
static inline uint32_t
hfb_stage_ticks(uint64_t tsc)
{
	return (uint32_t)(tsc >> HFB_STAGE_TICKS_SHIFT);
}

/* Ticks of the TSC since then, true to one step. */
static inline uint64_t
hfb_stage_ticks_since(uint32_t ticks, uint64_t now_tsc)
{
	int32_t since = (int32_t)(hfb_stage_ticks(now_tsc) - ticks);

	return (uint64_t)((int64_t)since * (1 << HFB_STAGE_TICKS_SHIFT));
}

/* Main thread. 0, or -ENOSPC: the counters file is full. */
int hfb_stage_times_init(struct hfb_stage_times *times, struct hfb_counters *file,
			 const char *labels, struct hfb_err *err);

/* Owner. @ticks of the TSC; negative (clocks of two CPUs) counts as none. */
static inline void
hfb_stage_time_record(struct hfb_stage_times *times, enum hfb_stage_time which, uint64_t ticks,
		      uint64_t weight)
{
	uint64_t ns = (uint64_t)((unsigned __int128)ticks * times->tick_ns >> 32);

	hfb_histogram_record_many(times->of[which], (int64_t)ticks < 0 ? 0 : ns, weight);
}

#endif
