/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stall_watch.h - latencies apart from those that a stall of the machine hit.
 *
 * On a machine whose CPUs are not isolated something else takes one now and then: the host its
 * share of every 100 ms, another program 5 ms a second. While both CPUs are busy that alone is
 * more than a hundredth of the time, and a p99 says how often it was, not what was measured. So a
 * loop that never sleeps looks at its clock each turn:
 *
 *	the loop:		stall_watch_look(&watch, now_ns);
 *	where latencies end:	if (!stall_watch_hit(&watch, begun_ns, now_ns))
 *					hfb_histogram_record(quiet, now_ns - begun_ns);
 *
 * A stall is a gap of STALL_WATCH_NS and more between two looks, whoever took the CPU.
 *
 * Threads: one looks; one asks, the same or another.
 * Memory:  as large as it is, nothing is allocated. All zeros: nobody has looked yet.
 * Cost:    a compare and a store a look.
 */
#ifndef HFB_BENCH_STALL_WATCH_H
#define HFB_BENCH_STALL_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#define STALL_WATCH_NS 300000u

struct stall_watch {
	uint64_t looked_ns;
	uint64_t gap_until_ns; /* end of the last stall; 0: there was none */
};

static inline void
stall_watch_look(struct stall_watch *w, uint64_t now_ns)
{
	if (now_ns - w->looked_ns >= STALL_WATCH_NS)
		__atomic_store_n(&w->gap_until_ns, now_ns, __ATOMIC_RELAXED);
	__atomic_store_n(&w->looked_ns, now_ns, __ATOMIC_RELEASE);
}

/* Whether a stall was between @from_ns and @now_ns, or is not over yet. */
static inline bool
stall_watch_hit(const struct stall_watch *w, uint64_t from_ns, uint64_t now_ns)
{
	uint64_t looked_ns = __atomic_load_n(&w->looked_ns, __ATOMIC_ACQUIRE);

	return __atomic_load_n(&w->gap_until_ns, __ATOMIC_RELAXED) > from_ns ||
	       (now_ns > looked_ns && now_ns - looked_ns >= STALL_WATCH_NS);
}

#endif
