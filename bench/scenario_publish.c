/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scenario_publish.c - how many events a producer gets acked: as fast as the bus takes
 * them, or at a rate.
 *
 * Threads: one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench_bus.h"

#define TURN_EVENTS 512u /* between two polls */

struct publish {
	struct bench_link *link;
	uint64_t turn; /* batches, for the partition */
	uint32_t left; /* of the batch begun */
};

static int
publish_setup(struct bench *b)
{
	return bench_topic_make(b);
}

static uint64_t
acked_sum(const struct bench_link *link)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < link->partitions; i++)
		n += link->acked[i];
	return n;
}

/* A batch to each partition in turn; *@ret_events that were taken of @events. */
static uint32_t
publish_turn(struct publish *p, uint32_t batches)
{
	struct bench_link *link = p->link;
	uint32_t taken = 0;

	for (uint32_t i = 0; i < batches; i++) {
		uint32_t want = p->left > 0 ? p->left : link->batch_events, n;

		n = link->ops->send(link, (uint32_t)(p->turn % link->partitions), want);
		taken += n;
		p->left = want - n;
		if (p->left > 0)
			break;
		p->turn++;
	}
	return taken;
}

static int
publish_run(struct bench *b)
{
	const struct bench_options *o = &b->options;
	struct publish p = { 0 };
	struct bench_window w;
	struct bench_pace pace;
	uint64_t now, from_events = 0, late_ns = 0;
	bool measured = false;
	int64_t acked = 0;
	int r;

	r = bench_producer_open(b, &p.link);
	if (r < 0)
		return r;
	w = bench_window(b, bench_now_ns());
	bench_pace_start(&pace, o->rate / p.link->batch_events, w.begin_ns);
	while ((now = bench_now_ns()) < w.until_ns && !bench_stop) {
		uint32_t due = bench_pace_due(&pace, now);
		uint64_t turn = p.turn;

		if (!measured && now >= w.from_ns) {
			measured = true;
			w.from_ns = now;
			from_events = acked_sum(p.link);
		}
		if (pace.per_ns > 0 && due > 0 && now >= w.from_ns &&
		    now - bench_pace_time_ns(&pace, pace.sent) > late_ns)
			late_ns = now - bench_pace_time_ns(&pace, pace.sent);
		if (due > TURN_EVENTS / p.link->batch_events)
			due = TURN_EVENTS / p.link->batch_events + 1;
		publish_turn(&p, due);
		pace.sent += p.turn - turn;
		acked = p.link->ops->poll(p.link);
		if (acked < 0)
			break;
	}
	if (acked < 0) {
		b->err = p.link->err;
		bench_link_close(p.link);
		return (int)acked;
	}
	/* stopped in the warm-up: nothing was measured */
	from_events = measured ? acked_sum(p.link) - from_events : 0;
	r = bench_producer_finish(b, p.link);
	if (r == 0) {
		double rate = (double)from_events / bench_seconds(&w, now);

		bench_metric(b, "rate", "events/s", rate);
		bench_metric(b, "bytes", "GB/s", rate * o->size / 1e9);
		bench_metric(b, "frames", "frames", (double)p.link->frames);
		bench_metric(b, "resent", "frames", (double)p.link->resent);
		bench_metric(b, "refused", "acks", (double)p.link->refused);
		if (o->rate > 0)
			bench_metric(b, "sender.late", "us", (double)late_ns / 1e3);
	}
	bench_link_close(p.link);
	return r;
}

static void
defaults(struct bench_options *o)
{
	o->inflight = 65536;
}

const struct bench_scenario bench_publish = {
	.name = "publish",
	.summary = "publish as fast as the bus acks, or at a rate",
	.help = "Counts events acked at the stage of --ack within the time measured; at the end "
		"all\n"
		"that was sent must be acked. The topic is made when it is not there.\n"
		"--inflight is how many may wait for their ack, over all partitions.\n",
	.options = BENCH_PRODUCER,
	.defaults = defaults,
	.setup = publish_setup,
	.run = publish_run,
};
