/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scenario_echo.c - from publishing to the ack: --inflight events on their way (closed
 * loop), or a batch at its time whatever became of the ones before (--rate, open loop;
 * latency from the intended time).
 *
 * Batch k, from 0, goes to partition k modulo their number, as its batch k divided by
 * it: so the time that the ack of a partition's n-th event answers is known by counting.
 *
 * Threads: one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench_bus.h"
#include "stall_watch.h"

#define TURN_BATCHES 64u
#define TIMES	     (1u << 20) /* batches under way at most, to remember times of */

struct echo {
	struct bench *b;
	struct bench_link *link;
	struct bench_window window;
	struct bench_pace pace; /* in batches */
	struct hfb_histogram *latency;
	struct hfb_histogram *quiet; /* open loop: of what no stall of the machine hit */
	struct stall_watch watch;
	uint64_t *times;    /* closed loop: when batch k was sent, k modulo TIMES */
	uint64_t *answered; /* [partitions] batches */
	uint64_t batches;   /* begun */
	uint64_t batches_answered;
	uint32_t left; /* events of the batch begun that are not sent */
	uint32_t batches_max;
	uint64_t events, late_ns;
};

static uint64_t
batch_time(const struct echo *e, uint64_t k)
{
	return e->pace.per_ns > 0 ? bench_pace_time_ns(&e->pace, k) : e->times[k & (TIMES - 1)];
}

/* Whether another batch is to go: paced, all that was due in the time, also when it is over. */
static bool
echo_due(struct echo *e, uint64_t now)
{
	if (e->pace.per_ns == 0)
		return now < e->window.until_ns &&
		       e->batches - e->batches_answered < e->batches_max;
	e->pace.sent = e->batches;
	return bench_pace_due(&e->pace, bench_window_due_ns(&e->window, now)) > 0;
}

/* Send what is due. */
static void
echo_send(struct echo *e, uint64_t now)
{
	struct bench_link *link = e->link;

	for (uint32_t n = 0; n < TURN_BATCHES; n++) {
		uint32_t taken;

		if (e->left == 0) {
			if (!echo_due(e, now))
				return;
			if (e->batches - e->batches_answered >= TIMES)
				return;
			e->times[e->batches & (TIMES - 1)] = now;
			if (now >= e->window.from_ns &&
			    now - batch_time(e, e->batches) > e->late_ns)
				e->late_ns = now - batch_time(e, e->batches);
			e->left = link->batch_events;
			e->batches++;
		}
		taken = link->ops->send(link, (uint32_t)((e->batches - 1) % link->partitions),
					e->left);
		e->left -= taken;
		if (e->left > 0)
			return;
	}
}

static void
echo_record(struct echo *e, uint64_t sent, uint64_t now)
{
	uint64_t took = now > sent ? now - sent : 0;

	hfb_histogram_record_many(e->latency, took, e->link->batch_events);
	if (e->quiet != NULL && !stall_watch_hit(&e->watch, sent, now))
		hfb_histogram_record_many(e->quiet, took, e->link->batch_events);
}

/* Acks that came: each whole batch of a partition answers one of ours. */
static void
echo_take(struct echo *e)
{
	const struct bench_link *link = e->link;
	uint64_t now = bench_now_ns();

	for (uint32_t p = 0; p < link->partitions; p++) {
		while (link->acked[p] >= (e->answered[p] + 1) * link->batch_events) {
			uint64_t sent = batch_time(e, e->answered[p] * link->partitions + p);

			e->answered[p]++;
			e->batches_answered++;
			if (bench_window_has(&e->window, now))
				e->events += link->batch_events;
			if (bench_window_has(&e->window, sent))
				echo_record(e, sent, now);
		}
	}
}

static int
echo_loop(struct echo *e)
{
	uint64_t now;
	int64_t acked;

	while (bench_window_open(&e->window, now = bench_now_ns()) ||
	       e->batches_answered < e->batches || echo_due(e, now)) {
		if (now > e->window.until_ns + BENCH_OVERTIME_NS)
			return bench_window_overtime(e->b, "batches",
						     e->batches - e->batches_answered);
		stall_watch_look(&e->watch, now);
		echo_send(e, now);
		acked = e->link->ops->poll(e->link);
		if (acked < 0) {
			e->b->err = e->link->err;
			return (int)acked;
		}
		if (acked > 0)
			echo_take(e);
	}
	return 0;
}

static int
echo_setup(struct bench *b)
{
	return bench_topic_make(b);
}

static int
echo_run(struct bench *b)
{
	const struct bench_options *o = &b->options;
	struct echo e = { .b = b };
	int r = bench_producer_open(b, &e.link);

	if (r < 0)
		return r;
	e.times = malloc(TIMES * sizeof(*e.times));
	e.answered = calloc(o->partitions, sizeof(*e.answered));
	if (e.times == NULL || e.answered == NULL) {
		r = hfb_err_set(&b->err, -ENOMEM, "out of memory");
		goto out;
	}
	memset(e.times, 0, TIMES * sizeof(*e.times)); /* touched: no page faults while measuring */
	e.latency = bench_latency(b, "ack");
	e.batches_max = (o->inflight + e.link->batch_events - 1) / e.link->batch_events;
	e.window = bench_window(b, bench_now_ns());
	bench_pace_start(&e.pace, o->rate / e.link->batch_events, e.window.begin_ns);
	if (o->rate > 0)
		e.quiet = bench_latency(b, "ack.quiet");
	r = echo_loop(&e);
	if (r == 0)
		r = bench_producer_finish(b, e.link);
	if (r < 0)
		goto out;
	bench_metric(b, "rate", "events/s",
		     (double)e.events / bench_seconds(&e.window, e.window.until_ns));
	bench_metric(b, "resent", "frames", (double)e.link->resent);
	if (o->rate > 0)
		bench_metric(b, "sender.late", "us", (double)e.late_ns / 1e3);
out:
	free(e.times);
	free(e.answered);
	bench_link_close(e.link);
	return r;
}

static void
defaults(struct bench_options *o)
{
	o->inflight = 1;
}

const struct bench_scenario bench_echo = {
	.name = "echo",
	.summary = "publish and wait for the ack",
	.help = "Closed loop with --inflight events on their way, or open loop with --rate: then\n"
		"latency counts from the time an event was to be sent, and ack.quiet is of those "
		"that\n"
		"no stall of the machine hit: no 300 us in which something else had this CPU.\n",
	.options = BENCH_PRODUCER,
	.defaults = defaults,
	.setup = echo_setup,
	.run = echo_run,
};
