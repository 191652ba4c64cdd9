/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock.h - UTC nanoseconds from the TSC.
 *
 * Calibrated against CLOCK_REALTIME at start and again by hfb_clock_tune() once
 * a second from a thread that may block; the fast read never goes back in a thread.
 *
 * Threads: hfb_clock_now_ns() any; start and tune one thread.
 * Cost:    one rdtsc, one multiply; ~10 ns.
 */
#ifndef HFB_CLOCK_H
#define HFB_CLOCK_H

#include <stdint.h>

void hfb_clock_start(void); /* ~20 ms; idempotent */
void hfb_clock_tune(void);
uint64_t hfb_clock_now_ns(void); /* UTC */
/* The same for a @tsc this thread has just read: the counter takes 10 ns to read. */
uint64_t hfb_clock_now_ns_at(uint64_t tsc);
uint64_t hfb_clock_tsc_hz(void);
static inline uint64_t
hfb_clock_tsc(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#else
	extern uint64_t hfb_clock_monotonic_ns(void);
	return hfb_clock_monotonic_ns();
#endif
}
uint64_t hfb_clock_tsc_to_ns(uint64_t tsc_delta);
/* RFC 3339 UTC with ns: parse (0 or -EINVAL) and print (>= 31 bytes). */
int hfb_clock_parse(const char *text, uint64_t *ret_ns);
void hfb_clock_format(uint64_t ns, char *to, unsigned int bytes);

#endif
