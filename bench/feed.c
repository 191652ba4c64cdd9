/* SPDX-License-Identifier: Apache-2.0 */
#include "feed.h"

#include <time.h>
#include <unistd.h>

#define CAPTURE_RATE 1000000u /* messages a second in a capture without --rate */

static uint64_t
clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t
feed_now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

void
feed_clock_start(struct feed_clock *clock, const struct feed_options *o, struct frame_out *out,
		 volatile sig_atomic_t *stop)
{
	*clock = (struct feed_clock){
		.o = o,
		.out = out,
		.stop = stop,
		.start_ns = o->pcap != NULL ? o->start_ns : clock_ns(CLOCK_REALTIME),
		.random = o->seed * 7,
		.burst_first = 1,
		.burst_end = 1,
	};
	clock->time_ns = clock->start_ns;
}

/* Message @n at the mean rate; a burst is due as a whole with its first. */
static uint64_t
due_ns(struct feed_clock *clock, uint64_t n)
{
	uint64_t rate = clock->o->rate != 0 ? clock->o->rate : CAPTURE_RATE;

	if (clock->o->burst > 1) {
		while (n >= clock->burst_end) {
			uint64_t most = clock->o->burst, r = feed_draw(&clock->random) % most;

			/* many small ones, few large ones */
			clock->burst_first = clock->burst_end;
			clock->burst_end += 1 + r * (r + 1) / most;
		}
		n = clock->burst_first;
	}
	return clock->start_ns + (n - 1) / rate * 1000000000u + (n - 1) % rate * 1000000000u / rate;
}

void
feed_clock_wait(struct feed_clock *clock, uint64_t n)
{
	uint64_t due = due_ns(clock, n);

	if (clock->out->pcap != NULL) {
		clock->time_ns = due;
		return;
	}
	clock->time_ns = clock_ns(CLOCK_REALTIME);
	if (clock->o->rate == 0 || clock->time_ns >= due)
		return;
	frame_out_flush(clock->out);
	while ((clock->time_ns = clock_ns(CLOCK_REALTIME)) < due && !*clock->stop) {
		if (due - clock->time_ns > 100000)
			usleep(50);
	}
}
