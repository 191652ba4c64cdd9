/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UTC from the TSC.
 *
 * Goal:   ours agrees with the kernel's, follows steps of UTC and never goes back.
 * Method: read both in turn; the linker leads the clock's calls of clock_gettime through
 *	   here, where CLOCK_REALTIME can be moved; texts of RFC 3339 by table.
 */
#include "clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "hfb_test_main.h"

#define MS 1000000
#define S  1000000000

int __real_clock_gettime(clockid_t id, struct timespec *ret);
int __wrap_clock_gettime(clockid_t id, struct timespec *ret);

static int64_t utc_moved_ns;

int
__wrap_clock_gettime(clockid_t id, struct timespec *ret)
{
	int r = __real_clock_gettime(id, ret);

	if (id == CLOCK_REALTIME) {
		int64_t ns = (int64_t)ret->tv_sec * S + ret->tv_nsec + utc_moved_ns;

		ret->tv_sec = ns / S;
		ret->tv_nsec = ns % S;
	}
	return r;
}

static uint64_t
kernel_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * S + (uint64_t)t.tv_nsec;
}

static void
sleep_ns(long ns)
{
	struct timespec t = { .tv_nsec = ns };

	nanosleep(&t, NULL);
}

/* Ours minus the kernel's, the closest of some tries: we may be interrupted in between. */
static int64_t
difference_ns(void)
{
	int64_t best = INT64_MAX;

	for (unsigned int i = 0; i < 20; i++) {
		uint64_t before = kernel_ns(), ours = hfb_clock_now_ns(), after = kernel_ns();
		int64_t d = 0;

		if (ours < before)
			d = -(int64_t)(before - ours);
		else if (ours > after)
			d = (int64_t)(ours - after);
		if (llabs(d) < llabs(best))
			best = d;
	}
	return best;
}

static void
test_agrees_with_the_kernel(void)
{
	uint64_t hz, tsc, ns, mono;

	hfb_clock_start();
	hfb_clock_start();
	CU_ASSERT_TRUE(llabs(difference_ns()) < MS / 10);
	for (unsigned int i = 0; i < 5; i++) {
		sleep_ns(20 * MS);
		hfb_clock_tune();
		CU_ASSERT_TRUE(llabs(difference_ns()) < MS / 10);
	}
	hz = hfb_clock_tsc_hz();
	CU_ASSERT_TRUE(hz > 100000000);
	CU_ASSERT_TRUE(hz <= 10ull * S);
	tsc = hfb_clock_tsc();
	mono = kernel_ns();
	sleep_ns(20 * MS);
	mono = kernel_ns() - mono;
	ns = hfb_clock_tsc_to_ns(hfb_clock_tsc() - tsc);
	CU_ASSERT_TRUE(ns > mono * 9 / 10);
	CU_ASSERT_TRUE(ns < mono + 10 * MS);
	CU_ASSERT_TRUE(hfb_clock_tsc_to_ns(hz) > S - 1000);
	CU_ASSERT_TRUE(hfb_clock_tsc_to_ns(hz) < S + 1000);
}

static void
test_never_goes_back(void)
{
	uint64_t last = hfb_clock_now_ns(), backward = 0;

	utc_moved_ns = -30 * MS;
	for (unsigned int turn = 0; turn < 10; turn++) {
		hfb_clock_tune();
		for (unsigned int i = 0; i < 20000; i++) {
			uint64_t ns = hfb_clock_now_ns();

			backward += ns < last;
			last = ns;
		}
		utc_moved_ns += turn % 2 == 0 ? 9 * MS : -11 * MS;
	}
	CU_ASSERT_EQUAL(backward, 0);
	utc_moved_ns = 0;
	hfb_clock_tune();
}

static void
test_follows_steps(void)
{
	uint64_t before, kernel_before;
	int64_t d;

	/* ahead by an hour: taken at once */
	utc_moved_ns = 3600ll * S;
	hfb_clock_tune();
	CU_ASSERT_TRUE(llabs(difference_ns()) < MS / 10);

	/* back by a second: slower than real, but onward */
	utc_moved_ns -= S;
	hfb_clock_tune();
	d = difference_ns();
	CU_ASSERT_TRUE(d > S - 20 * MS);
	before = hfb_clock_now_ns();
	kernel_before = kernel_ns();
	sleep_ns(100 * MS);
	d = (int64_t)((kernel_ns() - kernel_before) - (hfb_clock_now_ns() - before));
	CU_ASSERT_TRUE(d > 4 * MS);
	CU_ASSERT_TRUE(hfb_clock_now_ns() > before + 50 * MS);

	/* and a small error is made up within the second, without a step */
	utc_moved_ns += S + 5 * MS;
	hfb_clock_tune();
	utc_moved_ns += 5 * MS;
	hfb_clock_tune();
	d = difference_ns();
	CU_ASSERT_TRUE(d < 0);
	sleep_ns(100 * MS);
	CU_ASSERT_TRUE(difference_ns() > d);
}

static void
test_text(void)
{
	static const struct {
		const char *text;
		uint64_t ns;
	} good[] = {
		{ "1970-01-01T00:00:00Z", 0 },
		{ "2023-10-02T13:30:00.123456789Z", 1696253400123456789ull },
		{ "2023-10-02T09:30:00.5-04:00", 1696253400500000000ull },
		{ "2024-02-29T23:59:60Z", 1709251200000000000ull },
		{ "2000-03-01 00:00:00z", 951868800000000000ull },
		{ "2100-03-01T00:00:00+01:30", 4107537000000000000ull },
		{ "2024-12-31T23:59:59.9999999999Z", 1735689599999999999ull },
	};
	static const char *const bad[] = {
		"",
		"2023",
		"2023-13-01T00:00:00Z",
		"2023-02-29T00:00:00Z",
		"2023-10-02T24:00:00Z",
		"2023-10-02T13:30:00",
		"2023-10-02T13:30:00.Z",
		"2023-10-02T13:30:00Zx",
		"1969-12-31T23:59:59Z",
		"1970-01-01T00:00:00+01:00",
		"2023-00-01T00:00:00Z",
		"2023-10-00T00:00:00Z",
		"2023-10-02T13:60:00Z",
		"9999-10-02T13:00:00Z",
		"2023-10-02T13:30:00+24:00",
		"-023-10-02T13:30:00Z",
	};
	char text[40];
	uint64_t ns = 42;

	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CU_ASSERT_EQUAL(hfb_clock_parse(bad[i], &ns), -EINVAL);
	CU_ASSERT_EQUAL(ns, 42);
	for (unsigned int i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		CU_ASSERT_EQUAL(hfb_clock_parse(good[i].text, &ns), 0);
		CU_ASSERT_EQUAL(ns, good[i].ns);
	}
	hfb_clock_format(1696253400123456789ull, text, sizeof(text));
	CU_ASSERT_STRING_EQUAL(text, "2023-10-02T13:30:00.123456789Z");
	/* what is printed is read back, over all of the range */
	for (uint64_t at = 1; at < 18000000000000000000ull; at += 987654321987654321ull / 7) {
		hfb_clock_format(at, text, sizeof(text));
		CU_ASSERT_EQUAL(hfb_clock_parse(text, &ns), 0);
		CU_ASSERT_EQUAL(ns, at);
	}
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "ours agrees with the kernel's", test_agrees_with_the_kernel },
		{ "it never goes back in a thread", test_never_goes_back },
		{ "it follows steps of UTC", test_follows_steps },
		{ "RFC 3339 both ways", test_text },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("clock", tests);
}
