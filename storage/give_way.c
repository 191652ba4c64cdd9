/* SPDX-License-Identifier: Apache-2.0 */
/*
 * give_way.c - a core that spins lets the disk's completions in: it yields, and where
 * that does not help it sleeps for a moment.
 */
#include <sched.h>
#include <sys/prctl.h>
#include <time.h>

#include "clock.h"
#include "store_private.h"
#include "writer_private.h"

#define YIELD_NS 2000u
/* Nothing completed for so long: see nap(). Where that brings nothing, rarer and rarer. */
#define LATE_NS	    200000u
#define LATE_MAX_NS 1600000u
#define NAP_NS	    20000l

static uint64_t
tsc_of(uint32_t ns)
{
	return hfb_clock_tsc_hz() / 1000000u * ns / 1000u;
}

void
hfb_writer_give_way_init(struct hfb_writer *writer)
{
	writer->yield_tsc = tsc_of(YIELD_NS);
	writer->late_tsc = tsc_of(LATE_NS);
}

/*
 * sched_yield() gives way within our scheduling group: a cgroup's, or a session's where
 * sched_autogroup is on. Kernel workers are not in it. Once the group has had less than its
 * share they wait for the tick, 4 ms, whatever we yield; 20,000 events/s had a p50 until
 * durable of 0.13 or of 3 to 10 ms, as it happened (2026-11). Asleep we are nobody's rival.
 */
static void
nap(struct hfb_writer *writer)
{
	static const struct timespec time = { .tv_nsec = NAP_NS };

	if (!writer->slack_set) {
		/* the default of 50 us would be the most of it */
		prctl(PR_SET_TIMERSLACK, 1000ul, 0, 0, 0);
		writer->slack_set = true;
	}
	nanosleep(&time, NULL);
	writer->stats.naps++;
	writer->napped = true;
	writer->progress_tsc = writer->yielded_tsc = hfb_clock_tsc();
}

/* Has the disk been silent for long? One that is only slow is not waited for in sleep. */
static bool
nap_due(struct hfb_writer *writer, uint64_t now)
{
	if (writer->reaped > 0) {
		writer->reaped = 0;
		writer->progress_tsc = now;
		if (writer->napped)
			writer->late_tsc = tsc_of(LATE_NS);
	} else if (writer->napped && writer->late_tsc < tsc_of(LATE_MAX_NS)) {
		writer->late_tsc *= 2;
	}
	writer->napped = false;
	return now - writer->progress_tsc > writer->late_tsc;
}

/*
 * A synced write completes in a kernel worker of the CPU that took the disk's
 * interrupt. A core that spins there without yielding holds it off until the
 * next tick.
 */
void
hfb_writer_give_way(struct hfb_writer *writer)
{
	uint64_t now;

	if (writer->in_flight == 0 || writer->isolated) {
		/* the turn's beginning is near enough, and known */
		writer->yielded_tsc =
			writer->times != NULL ? writer->times->turn_tsc : hfb_clock_tsc();
		writer->progress_tsc = writer->yielded_tsc;
		writer->napped = false;
		return;
	}
	now = hfb_clock_tsc();
	if (now - writer->yielded_tsc < writer->yield_tsc)
		return;
	if (nap_due(writer, now)) {
		nap(writer);
		return;
	}
	sched_yield();
	writer->stats.yields++;
	writer->yielded_tsc = hfb_clock_tsc();
}
