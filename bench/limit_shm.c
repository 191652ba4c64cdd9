/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limit_shm.c - the raw limits of shared memory: writer -> reader (hop), and
 * writer -> relay -> reader (relay). Each stage takes the crc of every frame, as the bus's
 * publisher, core and reader do; the relay copies besides. Nothing else is done: no
 * sessions, no dedup, no log, no disk.
 *
 *	hop	writer on --cores[0], reader on --cores[1]
 *	relay	writer and reader in turn on --cores[0], relay on --cores[1]: where a
 *		publisher, a local reader and the bus's poll core stand on two CPUs
 *
 * Threads: the far side is one of its own; all it shares with the near one is the lanes.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "shm_lane.h"

#define BURST	      32u /* frames a turn: what a poll core takes at once */
#define EVENT_BYTES   16u /* its number and its time, at least */
#define SETTLE_NS     2000000000ull
#define PUBLISH_FIRST 10000000ull /* the far side is in its loop by then */

struct shm {
	struct bench *b;
	bool relays;
	struct hfb_lane *in, *out; /* hop: in only */
	struct bench_window window;
	/* writer */
	uint8_t *source;
	uint64_t sequence;
	struct bench_pace pace; /* in frames */
	uint64_t late_ns;
	/* reader */
	struct hfb_histogram *latency;
	uint64_t expected, events, bad, last_ns;
	/* both */
	int failed;
	bool stop;
	bool relay_bad;
	struct hfb_err err;
};

/* Each event: its number, its intended time, filling. */
static inline void
frame_send(struct shm *s, uint64_t intended_ns)
{
	uint32_t stride = s->in->payload_bytes / s->in->events;

	for (uint32_t i = 0; i < s->in->events; i++) {
		uint64_t *words = (uint64_t *)(void *)(s->source + i * stride);

		words[0] = s->sequence++;
		words[1] = intended_ns;
	}
	hfb_lane_write(s->in, s->source);
	hfb_lane_publish(s->in);
}

/* What is due and fits. */
static inline void
writer_turn(struct shm *s, uint64_t now_ns)
{
	uint32_t due = bench_pace_due(&s->pace, bench_window_due_ns(&s->window, now_ns));
	bool paced = s->pace.per_ns > 0;

	if (due > BURST)
		due = BURST;
	for (uint32_t i = 0; i < due && hfb_lane_room(s->in); i++) {
		uint64_t intended = paced ? bench_pace_time_ns(&s->pace, s->pace.sent) : now_ns;

		if (paced && now_ns >= s->window.from_ns && now_ns - intended > s->late_ns)
			s->late_ns = now_ns - intended;
		frame_send(s, intended);
		s->pace.sent++;
	}
}

static inline void
reader_turn(struct shm *s, struct hfb_lane *lane)
{
	uint32_t stride = lane->payload_bytes / lane->events;
	uint64_t waiting = hfb_lane_waiting(lane), now = 0;
	bool measured = false;

	if (waiting == 0)
		return;
	for (; waiting > 0; waiting -= lane->frame_bytes) {
		const uint8_t *at = hfb_lane_front(lane);

		s->bad += !hfb_lane_sound(lane, at);
		/* once for all that was read at once, and when the first of it is there, checked */
		if (now == 0) {
			now = bench_now_ns();
			measured = bench_window_has(&s->window, now);
		}
		for (uint32_t i = 0; i < lane->events; i++) {
			const uint64_t *words =
				(const uint64_t *)(const void *)(at + HFB_LANE_HEAD_BYTES +
								 i * stride);

			s->bad += words[0] != s->expected;
			s->expected = words[0] + 1;
			if (s->latency != NULL && bench_window_has(&s->window, words[1]))
				hfb_histogram_record(s->latency,
						     now > words[1] ? now - words[1] : 0);
		}
		if (measured)
			s->events += lane->events;
		hfb_lane_pop(lane);
	}
	hfb_lane_release(lane);
}

static void
relay_loop(struct shm *s)
{
	while (!__atomic_load_n(&s->stop, __ATOMIC_RELAXED)) {
		uint64_t waiting = hfb_lane_waiting(s->in);
		uint32_t n = 0;

		for (; waiting > 0 && n < BURST && hfb_lane_room(s->out); n++) {
			const uint8_t *at = hfb_lane_front(s->in);

			if (hfb_lane_write(s->out, at + HFB_LANE_HEAD_BYTES) !=
			    *(const uint32_t *)(const void *)at)
				s->relay_bad = true;
			hfb_lane_pop(s->in);
			waiting -= s->in->frame_bytes;
		}
		if (n == 0)
			continue;
		hfb_lane_publish(s->out);
		hfb_lane_release(s->in);
	}
}

static void *
far_main(void *arg)
{
	struct shm *s = arg;
	int r = bench_pin(s->b, 1, &s->err);

	/* pairs with the near side's acquire: err is written */
	if (r < 0)
		__atomic_store_n(&s->failed, r, __ATOMIC_RELEASE);
	else if (s->relays)
		relay_loop(s);
	else
		while (!__atomic_load_n(&s->stop, __ATOMIC_RELAXED))
			reader_turn(s, s->in);
	return NULL;
}

/* Paced, what was due in the time is sent and counts also when it is over. */
static bool
goes_on(struct shm *s, uint64_t now_ns)
{
	return bench_window_open(&s->window, now_ns) ||
	       (s->pace.per_ns > 0 && bench_pace_due(&s->pace, s->window.until_ns - 1) > 0);
}

static void
near_loop(struct shm *s)
{
	uint64_t until, now, sent;

	while (goes_on(s, now = bench_now_ns()) && now < s->window.until_ns + BENCH_OVERTIME_NS &&
	       __atomic_load_n(&s->failed, __ATOMIC_ACQUIRE) == 0) {
		writer_turn(s, now);
		if (s->relays)
			reader_turn(s, s->out);
	}
	/* all that was written is to be read */
	sent = s->sequence;
	until = now + SETTLE_NS;
	while (__atomic_load_n(&s->expected, __ATOMIC_RELAXED) != sent && bench_now_ns() < until)
		if (s->relays)
			reader_turn(s, s->out);
}

static void
shm_destroy(struct shm *s)
{
	hfb_lane_destroy(s->in);
	hfb_lane_destroy(s->out);
	free(s->source);
}

static int
shm_create(struct shm *s)
{
	const struct bench_options *o = &s->b->options;
	int r;

	if (o->size < EVENT_BYTES)
		return hfb_err_set(&s->b->err, -EINVAL,
				   "an event holds its number and its time: "
				   "--size is %u at least",
				   EVENT_BYTES);
	r = hfb_lane_create(o->size, o->batch, &s->in, &s->b->err);
	if (r == 0 && s->relays)
		r = hfb_lane_create(o->size, o->batch, &s->out, &s->b->err);
	if (r < 0)
		return r;
	s->source = malloc(s->in->payload_bytes);
	if (s->source == NULL)
		return hfb_err_set(&s->b->err, -ENOMEM, "out of memory");
	memset(s->source, 0x5a, s->in->payload_bytes);
	return 0;
}

static int
verdict(struct shm *s)
{
	if (s->failed < 0) {
		s->b->err = s->err;
		return s->failed;
	}
	if (s->relay_bad || s->bad > 0 || s->expected != s->sequence)
		return hfb_err_set(&s->b->err, -EBADMSG,
				   "%llu of %llu events came, %llu out of order or damaged",
				   (unsigned long long)s->expected, (unsigned long long)s->sequence,
				   (unsigned long long)s->bad + s->relay_bad);
	bench_metric(s->b, "rate", "events/s",
		     (double)s->events / bench_seconds(&s->window, s->window.until_ns));
	if (s->pace.per_ns > 0)
		bench_metric(s->b, "sender.late", "us", (double)s->late_ns / 1e3);
	return 0;
}

static int
shm_run(struct bench *b, bool relays)
{
	const struct bench_options *o = &b->options;
	struct shm s = { .b = b, .relays = relays };
	pthread_t far;
	int r = shm_create(&s);

	if (r == 0)
		r = bench_pin(b, 0, &b->err);
	if (r < 0)
		goto out;
	if (o->rate > 0)
		s.latency = bench_latency(b, "latency");
	s.window = bench_window(b, bench_now_ns() + PUBLISH_FIRST);
	bench_pace_start(&s.pace, o->rate / o->batch, s.window.begin_ns);
	r = pthread_create(&far, NULL, far_main, &s);
	if (r != 0) {
		r = hfb_err_set(&b->err, -r, "no thread: %s", strerror(r));
		goto out;
	}
	near_loop(&s);
	__atomic_store_n(&s.stop, true, __ATOMIC_RELAXED);
	pthread_join(far, NULL);
	r = verdict(&s);
out:
	shm_destroy(&s);
	return r;
}

static int
hop_run(struct bench *b)
{
	return shm_run(b, false);
}

static int
relay_run(struct bench *b)
{
	return shm_run(b, true);
}

static void
defaults(struct bench_options *o)
{
	o->cores[0] = 0;
	o->cores[1] = 1;
	o->cores_count = 2;
}

const struct bench_scenario bench_limit_shm_hop = {
	.group = "limit",
	.name = "shm-hop",
	.summary = "shared memory, writer to reader",
	.help = "The writer runs on the first of --cores, the reader on the second. --batch "
		"events\n"
		"share a crc and are made visible together. With --rate: latency from intended\n"
		"send time.\n",
	.options = BENCH_SIZE | BENCH_BATCH | BENCH_RATE,
	.defaults = defaults,
	.run = hop_run,
};

const struct bench_scenario bench_limit_shm_relay = {
	.group = "limit",
	.name = "shm-relay",
	.summary = "shared memory, writer to relay (copies, takes the crc) to reader",
	.help = "Writer and reader take turns on the first of --cores, the relay has the second: "
		"the\n"
		"raw limit of publisher, poll core and local reader on two CPUs. With --rate:\n"
		"latency from intended send time.\n",
	.options = BENCH_SIZE | BENCH_BATCH | BENCH_RATE,
	.defaults = defaults,
	.run = relay_run,
};
