/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal:   a latency is taken out exactly when a stall fell into it, over or not; and a real loop
 *	   whose CPU another thread takes sees that.
 * Method: looks at times of our own; then two threads that spin on one CPU.
 */
#include <pthread.h>
#include <sched.h>

#include "clock.h"
#include "hfb_test_main.h"
#include "stall_watch.h"

#define MS 1000000ull

static void
test_a_stall_takes_out_what_was_under_way(void)
{
	struct stall_watch w = { .looked_ns = 10 * MS };

	stall_watch_look(&w, 10 * MS + STALL_WATCH_NS - 1);
	CU_ASSERT_FALSE(stall_watch_hit(&w, 9 * MS, 10 * MS + STALL_WATCH_NS));

	stall_watch_look(&w, 14 * MS);
	CU_ASSERT_TRUE(stall_watch_hit(&w, 9 * MS, 14 * MS));
	CU_ASSERT_TRUE(stall_watch_hit(&w, 14 * MS - 1, 14 * MS + 100));
	CU_ASSERT_FALSE(stall_watch_hit(&w, 14 * MS, 14 * MS + 100));
	CU_ASSERT_FALSE(
		stall_watch_hit(&w, 15 * MS, 14 * MS + 100)); /* due later, counted as now */
}

static void
test_a_stall_that_is_not_over_counts(void)
{
	struct stall_watch w = { .looked_ns = 10 * MS };

	CU_ASSERT_FALSE(stall_watch_hit(&w, 10 * MS + 1, 10 * MS + STALL_WATCH_NS - 1));
	CU_ASSERT_TRUE(stall_watch_hit(&w, 10 * MS + 1, 10 * MS + STALL_WATCH_NS));
	/* who asks read its clock before the other one looked */
	CU_ASSERT_FALSE(stall_watch_hit(&w, 9 * MS, 10 * MS - 1));
}

static bool stop;

static void *
rival(void *arg)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		;
	return arg;
}

static void
test_a_cpu_that_is_shared_is_seen(void)
{
	uint64_t begin_ns = hfb_clock_tsc_to_ns(hfb_clock_tsc()), now_ns;
	struct stall_watch w = { .looked_ns = begin_ns };
	pthread_t thread;
	cpu_set_t before, one;
	bool seen = false;

	CU_ASSERT_EQUAL_FATAL(sched_getaffinity(0, sizeof(before), &before), 0);
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	CU_ASSERT_EQUAL_FATAL(sched_setaffinity(0, sizeof(one), &one), 0);
	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, rival, NULL), 0);
	/* a time slice is some milliseconds */
	do {
		now_ns = hfb_clock_tsc_to_ns(hfb_clock_tsc());
		stall_watch_look(&w, now_ns);
		seen = stall_watch_hit(&w, begin_ns, now_ns);
	} while (!seen && now_ns - begin_ns < 20000 * MS);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	sched_setaffinity(0, sizeof(before), &before);
	CU_ASSERT_TRUE(seen);
	CU_ASSERT_FALSE(stall_watch_hit(&w, w.gap_until_ns, w.looked_ns));
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "a stall takes out what was under way",
		  test_a_stall_takes_out_what_was_under_way },
		{ "a stall that is not over counts", test_a_stall_that_is_not_over_counts },
		{ "a CPU that is shared is seen", test_a_cpu_that_is_shared_is_seen },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("stall_watch", tests);
}
