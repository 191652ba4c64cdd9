/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scenario_fanout.c - from publishing to the readers: events go to one partition, each of
 * --readers reads all of them. With --rate, one-way latency from the intended time, which
 * follows from the number that stands in each event.
 *
 * The publisher runs ahead of the slowest reader by --inflight events at most, so that
 * what is measured is the way through the ring and not how a lapped reader catches up.
 *
 * Threads: with one core in --cores (or none) publisher and readers take turns on it; with
 *	    more, each reader has a thread on one of the others.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "bench_bus.h"

#define TURN_BATCHES 32u
#define READ_EVENTS  1024u
#define POLL_TURNS   8u /* acks only make room: they are taken so often */
#define SETTLE_NS    10000000000ull

struct fanout;
/* NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): `read` has a line of its own */
struct fan_reader {
	struct fanout *f;
	struct bench_reader reader;
	uint32_t index;
	pthread_t thread;
	bool started;
	struct hfb_histogram *own; /* a thread's; merged at the end */
	int failed;
	uint64_t read __attribute__((aligned(64))); /* events, for the publisher to see */
};

struct fanout {
	struct bench *b;
	struct bench_link *link;
	struct bench_window window;
	struct bench_pace pace; /* in batches */
	struct fan_reader *readers;
	uint32_t readers_count;
	bool threads;
	bool stop;
	uint64_t late_ns;
	uint32_t left;
};

static uint64_t
slowest(const struct fanout *f)
{
	uint64_t least = UINT64_MAX;

	for (uint32_t i = 0; i < f->readers_count; i++) {
		uint64_t read = __atomic_load_n(&f->readers[i].read, __ATOMIC_RELAXED);

		if (read < least)
			least = read;
	}
	return least;
}

static int
reader_turn(struct fan_reader *r)
{
	int64_t n = bench_reader_turn(&r->reader, READ_EVENTS);

	if (n < 0)
		return (int)n;
	if (n > 0)
		__atomic_store_n(&r->read, r->read + (uint64_t)n, __ATOMIC_RELAXED);
	return n > 0;
}

static void *
reader_main(void *arg)
{
	struct fan_reader *r = arg;
	const struct bench_options *o = &r->f->b->options;
	uint32_t core = 1 + r->index % (o->cores_count - 1);
	int e = bench_pin(r->f->b, core, &r->reader.err);

	while (e >= 0 && !__atomic_load_n(&r->f->stop, __ATOMIC_RELAXED)) {
		e = reader_turn(r);
		/* others may have to run where we do */
		if (e == 0 &&
		    (r->f->readers_count >= o->cores_count || o->cores[core] == o->cores[0]))
			sched_yield();
	}
	/* pairs with the publisher's acquire: err is written */
	if (e < 0)
		__atomic_store_n(&r->failed, e, __ATOMIC_RELEASE);
	return NULL;
}

/* Readers in our own thread; 0, or what a reader said. */
static int
readers_turn(struct fanout *f)
{
	for (uint32_t i = 0; i < f->readers_count; i++) {
		struct fan_reader *r = &f->readers[i];
		int e = f->threads ? __atomic_load_n(&r->failed, __ATOMIC_ACQUIRE) : reader_turn(r);

		if (e < 0) {
			f->b->err = r->reader.err;
			return e;
		}
	}
	return 0;
}

static void
publisher_turn(struct fanout *f, uint64_t now)
{
	const struct bench_options *o = &f->b->options;
	struct bench_link *link = f->link;
	uint32_t due = bench_pace_due(&f->pace, bench_window_due_ns(&f->window, now));
	uint64_t ahead = link->sent[0] - slowest(f);

	if (f->pace.per_ns > 0 && due > 0 && now >= f->window.from_ns) {
		uint64_t late = now - bench_pace_time_ns(&f->pace, f->pace.sent);

		if (late > f->late_ns)
			f->late_ns = late;
	}
	if (due > TURN_BATCHES)
		due = TURN_BATCHES;
	for (uint32_t i = 0; i < due && ahead < o->inflight; i++) {
		uint32_t want = f->left > 0 ? f->left : link->batch_events;
		uint32_t n = link->ops->send(link, 0, want);

		ahead += n;
		f->left = want - n;
		if (f->left > 0)
			break;
		f->pace.sent++;
	}
}

/* Paced, what was due in the time is sent and counts also when it is over. */
static bool
goes_on(struct fanout *f, uint64_t now)
{
	return bench_window_open(&f->window, now) ||
	       (f->pace.per_ns > 0 && bench_pace_due(&f->pace, f->window.until_ns - 1) > 0);
}

static int
publisher_loop(struct fanout *f)
{
	uint64_t now, until, turns = 0;
	int64_t r = 0;

	while (r >= 0 && goes_on(f, now = bench_now_ns())) {
		if (now > f->window.until_ns + BENCH_OVERTIME_NS)
			return bench_window_overtime(f->b, "batches",
						     bench_pace_due(&f->pace, f->window.until_ns));
		publisher_turn(f, now);
		if (turns++ % POLL_TURNS == 0)
			r = f->link->ops->poll(f->link);
		if (r < 0)
			f->b->err = f->link->err;
		else
			r = readers_turn(f);
	}
	if (r < 0)
		return (int)r;
	r = bench_producer_finish(f->b, f->link);
	/* all that was acked is to be read */
	for (until = now + SETTLE_NS; r == 0 && slowest(f) < f->link->sent[0];) {
		r = readers_turn(f);
		if (r == 0 && bench_now_ns() > until)
			r = hfb_err_set(&f->b->err, -EBADMSG,
					"a reader got %llu of %llu events acked",
					(unsigned long long)slowest(f),
					(unsigned long long)f->link->sent[0]);
	}
	return (int)r;
}

static int
readers_start(struct fanout *f)
{
	struct bench *b = f->b;
	struct hfb_histogram *latency = b->options.rate > 0 ? bench_latency(b, "one-way") : NULL;
	int r = 0;

	for (uint32_t i = 0; i < f->readers_count && r == 0; i++) {
		struct fan_reader *f_reader = &f->readers[i];
		struct bench_reader *reader = &f_reader->reader;

		f_reader->f = f;
		f_reader->index = i;
		r = bench_reader_open(b, 0, HFB_SUB_LATEST, false, reader, &b->err);
		if (r < 0)
			break;
		if (f->threads && latency != NULL)
			f_reader->own = bench_histogram();
		reader->latency = f_reader->own != NULL ? f_reader->own : latency;
		reader->numbered = true;
		reader->pace = &f->pace;
		reader->batch = f->link->batch_events;
	}
	/* the producer's thread was pinned when its link was opened */
	f->window = bench_window(b, bench_now_ns());
	bench_pace_start(&f->pace, b->options.rate / f->link->batch_events, f->window.begin_ns);
	for (uint32_t i = 0; i < f->readers_count && r == 0; i++) {
		f->readers[i].reader.from_ns = f->window.from_ns;
		f->readers[i].reader.until_ns = f->window.until_ns;
		if (!f->threads)
			continue;
		r = -pthread_create(&f->readers[i].thread, NULL, reader_main, &f->readers[i]);
		f->readers[i].started = r == 0;
		if (r < 0)
			hfb_err_set(&b->err, r, "no thread: %s", strerror(-r));
	}
	return r;
}

static void
readers_stop(struct fanout *f)
{
	__atomic_store_n(&f->stop, true, __ATOMIC_RELAXED);
	for (uint32_t i = 0; i < f->readers_count; i++)
		if (f->readers[i].started)
			pthread_join(f->readers[i].thread, NULL);
}

static void
fanout_metrics(struct fanout *f)
{
	double seconds = bench_seconds(&f->window, f->window.until_ns);
	uint64_t least = UINT64_MAX, lapped = 0, read_p50_ns = 0;
	struct hfb_sub_latency latency;

	for (uint32_t i = 0; i < f->readers_count; i++) {
		const struct fan_reader *r = &f->readers[i];

		if (r->reader.measured < least)
			least = r->reader.measured;
		lapped += r->reader.lapped;
		hfb_sub_latency_get(r->reader.sub, &latency);
		if (latency.samples > 0 && latency.p50_ns > read_p50_ns)
			read_p50_ns = latency.p50_ns;
		if (r->own != NULL)
			hfb_histogram_merge(bench_latency(f->b, "one-way"), r->own);
	}
	bench_metric(f->b, "rate", "events/s", (double)least / seconds);
	bench_metric(f->b, "lapped", "times", (double)lapped);
	bench_metric(f->b, "committed-read.p50", "us", (double)read_p50_ns / 1e3);
	bench_metric(f->b, "resent", "frames", (double)f->link->resent);
	if (f->pace.per_ns > 0)
		bench_metric(f->b, "sender.late", "us", (double)f->late_ns / 1e3);
}

static int
fanout_setup(struct bench *b)
{
	return bench_topic_make(b);
}

static int
fanout_run(struct bench *b)
{
	struct fanout f = { .b = b, .readers_count = b->options.readers };
	uint64_t bytes = f.readers_count * sizeof(*f.readers);
	int r = bench_producer_open(b, &f.link);

	if (r < 0)
		return r;
	f.threads = b->options.cores_count > 1;
	f.readers = aligned_alloc(64, bytes);
	if (f.readers == NULL) {
		r = hfb_err_set(&b->err, -ENOMEM, "out of memory");
		goto out;
	}
	memset(f.readers, 0, bytes);
	r = readers_start(&f);
	if (r == 0)
		r = publisher_loop(&f);
	readers_stop(&f);
	if (r == 0)
		fanout_metrics(&f);
	for (uint32_t i = 0; i < f.readers_count; i++) {
		bench_reader_close(&f.readers[i].reader);
		free(f.readers[i].own);
	}
out:
	free(f.readers);
	bench_link_close(f.link);
	return r;
}

static void
defaults(struct bench_options *o)
{
	o->inflight = 16384;
}

const struct bench_scenario bench_fanout = {
	.name = "fanout",
	.summary = "publish to readers; one-way latency with --rate",
	.help = "Events go to partition 0; each of --readers reads all of them and checks their\n"
		"order. `rate` is the slowest reader's. With one core in --cores publisher and\n"
		"readers take turns on it; with more, readers run on the others. --inflight is "
		"how\n"
		"far the publisher may be ahead of the slowest reader.\n",
	.options = (BENCH_PRODUCER | BENCH_READERS) & ~BENCH_PARTITIONS,
	.defaults = defaults,
	.setup = fanout_setup,
	.run = fanout_run,
};
