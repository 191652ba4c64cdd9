/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ring between two threads.
 *
 * Goal:   what goes in comes out, once and in order; a full ring takes a short count.
 * Method: bounds by hand, then two threads that pass numbers in bursts of random size.
 */
#include "spsc.h"

#include <pthread.h>
#include <sched.h>
#include <stdint.h>

#include "hfb_test_main.h"

#define PASSED 200000u

static void
test_bounds(void)
{
	struct hfb_spsc *ring = hfb_spsc_create(4);
	void *in[6] = { (void *)1, (void *)2, (void *)3, (void *)4, (void *)5, (void *)6 };
	void *out[6] = { 0 };

	CU_ASSERT_PTR_NOT_NULL_FATAL(ring);
	CU_ASSERT_EQUAL((uintptr_t)ring % 64, 0);
	CU_ASSERT_EQUAL(hfb_spsc_pop(ring, out, 6), 0);
	CU_ASSERT_EQUAL(hfb_spsc_push(ring, in, 6), 4);
	CU_ASSERT_EQUAL(hfb_spsc_push(ring, in + 4, 2), 0);
	CU_ASSERT_EQUAL(hfb_spsc_pop(ring, out, 3), 3);
	CU_ASSERT_EQUAL(hfb_spsc_push(ring, in + 4, 2), 2);
	CU_ASSERT_EQUAL(hfb_spsc_pop(ring, out + 3, 6), 3);
	for (uintptr_t i = 0; i < 6; i++)
		CU_ASSERT_EQUAL((uintptr_t)out[i], i + 1);
	CU_ASSERT_EQUAL(hfb_spsc_pop(ring, out, 1), 0);
	hfb_spsc_destroy(ring);
	hfb_spsc_destroy(NULL);
}

static void *
producer(void *arg)
{
	struct hfb_spsc *ring = arg;
	uintptr_t next = 1;
	uint32_t step = 1;

	while (next <= PASSED) {
		void *burst[32];
		uint32_t n = step++ % 32 + 1, pushed;

		if (n > PASSED - next + 1)
			n = (uint32_t)(PASSED - next + 1);
		for (uint32_t i = 0; i < n; i++)
			burst[i] = (void *)(next + i);
		pushed = hfb_spsc_push(ring, burst, n);
		next += pushed;
		if (pushed < n)
			sched_yield();
	}
	return NULL;
}

static void
test_two_threads(void)
{
	struct hfb_spsc *ring = hfb_spsc_create(64);
	pthread_t thread;
	uintptr_t expected = 1, wrong = 0;
	uint32_t step = 7;

	CU_ASSERT_PTR_NOT_NULL_FATAL(ring);
	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, producer, ring), 0);
	while (expected <= PASSED) {
		void *burst[32];
		uint32_t n = hfb_spsc_pop(ring, burst, step++ % 32 + 1);

		for (uint32_t i = 0; i < n; i++)
			wrong += (uintptr_t)burst[i] != expected++;
		if (n == 0)
			sched_yield();
	}
	pthread_join(thread, NULL);
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT_EQUAL(hfb_spsc_pop(ring, (void *[1]){ 0 }, 1), 0);
	hfb_spsc_destroy(ring);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "empty, full and wrapped", test_bounds },
		{ "two threads pass every object once and in order", test_two_threads },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("spsc", tests);
}
