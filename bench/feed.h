/* SPDX-License-Identifier: Apache-2.0 */
/*
 * feed.h - parts of `hfbus-bench feed`: what is sent (feed_itch.c, feed_telemetry.c)
 * and when (feed.c). Where it goes is frame_out.h, the command line cmd_feed.c.
 *
 * Everything but the times of a live run follows from the seed.
 *
 * Threads: one.
 */
#ifndef HFB_BENCH_FEED_H
#define HFB_BENCH_FEED_H

#include <stdbool.h>
#include <stdint.h>

#include "frame_out.h"
#include "itch.h"

#define FEED_LINES 2u

enum feed_kind { FEED_ITCH, FEED_STATSD, FEED_SYSLOG };

struct feed_options {
	enum feed_kind kind;
	const char *device, *pcap, *truth;
	char session[11];
	uint64_t messages, seed, rate, start_ns;
	uint32_t burst;	       /* messages that come at once, at most; 0 = one by one */
	uint32_t datagram_max; /* messages a datagram at most */
	uint32_t loss_ppm, late_ppm, twice_ppm, blocks, heartbeat_every, hosts;
	uint32_t group[FEED_LINES]; /* telemetry: the first is where it goes */
	uint32_t groups;
	uint16_t udp_port;
	bool linger;
};

/* When a message is due, and waiting for it. */
struct feed_clock {
	const struct feed_options *o;
	struct frame_out *out;
	volatile sig_atomic_t *stop;
	uint64_t start_ns; /* UTC of the first message */
	uint64_t time_ns;  /* UTC now; in a capture the time of what is sent */
	uint64_t random;
	uint64_t burst_first, burst_end; /* messages of the burst that is going out */
};

uint64_t feed_now_ns(void); /* monotonic */

void feed_clock_start(struct feed_clock *clock, const struct feed_options *o, struct frame_out *out,
		      volatile sig_atomic_t *stop);
/* Wait until message @n (from 1, never going back) exists; sets time_ns. */
void feed_clock_wait(struct feed_clock *clock, uint64_t n);

/* Numbers that follow from a state, which they advance. */
static inline uint64_t
feed_draw(uint64_t *state)
{
	*state += 1;
	return itch_random(0x66656564u, *state);
}

static inline bool
feed_happens(uint64_t *state, uint32_t ppm)
{
	return feed_draw(state) % 1000000u < ppm;
}

/*
 * Send all of it to @out; print a summary, one line of JSON, and write the truth file.
 * Returns 0, -EINTR when told to stop before the end, -ENOMEM, or -EIO (truth file).
 */
int feed_itch_run(const struct feed_options *o, struct frame_out *out, volatile sig_atomic_t *stop,
		  struct hfb_err *err);
int feed_telemetry_run(const struct feed_options *o, struct frame_out *out,
		       volatile sig_atomic_t *stop, struct hfb_err *err);

#endif
