/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scenario_consume.c - old data from the segment files: alone (consume), and beside a
 * publisher (mixed).
 *
 * Threads: one; in mixed publisher and reader take turns.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bench_bus.h"

#define READ_EVENTS   256u  /* a turn: ~10 us, so that a publisher beside is not held up */
#define PUBLISH_TURNS 4096u /* events between two polls */

static void
old_name(const struct bench *b, char *to, size_t size)
{
	snprintf(to, size, "%s-old", b->options.topic);
}

static int
old_open(struct bench *b, struct bench_reader *reader)
{
	struct bench old = *b;
	char name[256];

	old_name(b, name, sizeof(name));
	old.options.topic = name;
	return bench_reader_open(&old, 0, HFB_SUB_EARLIEST, true, reader, &b->err);
}

static int
old_setup(struct bench *b)
{
	char name[256];

	if (strlen(b->options.topic) > HFB_TOPIC_NAME_MAX - 4)
		return hfb_err_set(&b->err, -EINVAL, "--topic is longer than %u bytes",
				   HFB_TOPIC_NAME_MAX - 4);
	old_name(b, name, sizeof(name));
	return bench_old_make(b, name);
}

/* What a reader has passed, over all its passes from the first event to the last. */
struct old {
	struct bench_reader reader;
	uint64_t events, log_bytes; /* of passes that are over */
	uint64_t passes;
};

static uint64_t
old_log_bytes(const struct old *o)
{
	struct hfb_sub_stats stats;

	hfb_sub_stats_get(o->reader.sub, &stats);
	return o->log_bytes + stats.bytes;
}

/* Some events; at the end of the log from its beginning again. 0, or what went wrong. */
static int
old_turn(struct bench *b, struct old *o)
{
	int64_t n = bench_reader_turn(&o->reader, READ_EVENTS);

	if (n < 0) {
		b->err = o->reader.err;
		return (int)n;
	}
	if (n > 0 || !hfb_sub_at_end(o->reader.sub))
		return 0;
	if (o->reader.events == 0)
		return hfb_err_set(&b->err, -ENODATA, "nothing is there to be read");
	o->events += o->reader.events;
	o->log_bytes = old_log_bytes(o);
	o->passes++;
	bench_reader_close(&o->reader);
	return old_open(b, &o->reader);
}

static int
consume_run(struct bench *b)
{
	struct bench_window w;
	struct old o = { 0 };
	uint64_t from_bytes = 0, from_events = 0, now, seen, bytes;
	bool measured = false;
	int r = bench_pin(b, 0, &b->err);

	if (r == 0)
		r = old_open(b, &o.reader);
	if (r < 0)
		return r;
	w = bench_window(b, bench_now_ns());
	while ((now = bench_now_ns()) < w.until_ns && !bench_stop && r == 0) {
		if (!measured && now >= w.from_ns) {
			measured = true;
			w.from_ns = now;
			from_bytes = old_log_bytes(&o);
			from_events = o.events + o.reader.events;
		}
		r = old_turn(b, &o);
	}
	if (r == 0) {
		/* stopped in the warm-up: nothing was measured */
		seen = measured ? o.events + o.reader.events - from_events : 0;
		bytes = measured ? old_log_bytes(&o) - from_bytes : 0;
		bench_metric(b, "bytes", "GB/s", (double)bytes / 1e9 / bench_seconds(&w, now));
		bench_metric(b, "rate", "events/s", (double)seen / bench_seconds(&w, now));
		bench_metric(b, "passes", "times", (double)o.passes);
	}
	bench_reader_close(&o.reader);
	return r;
}

/* Publisher and reader -------------------------------------------------------------------- */

struct side {
	struct bench_link *link;
	double rate; /* asked; 0 = as fast as it goes */
	struct old *old;
};

static int
side_run(struct bench *b, const struct side *s, double *ret_publisher, double *ret_bytes)
{
	struct bench_window w = bench_window(b, bench_now_ns());
	struct bench_link *link = s->link;
	uint64_t sent = 0, acked = 0, bytes = 0, now;
	struct bench_pace pace;
	bool measured = false;
	int64_t r = 0;

	bench_pace_start(&pace, s->rate, w.begin_ns);
	while ((now = bench_now_ns()) < w.until_ns && !bench_stop && r >= 0) {
		uint32_t due = bench_pace_due(&pace, now);

		if (!measured && now >= w.from_ns) {
			measured = true;
			w.from_ns = now;
			acked = link->acked[0];
			bytes = s->old != NULL ? old_log_bytes(s->old) : 0;
		}
		if (link->batch_events > 0 && due >= link->batch_events) {
			if (due > PUBLISH_TURNS)
				due = PUBLISH_TURNS;
			sent = link->ops->send(link, 0,
					       due / link->batch_events * link->batch_events);
			pace.sent += sent;
		}
		r = link->ops->poll(link);
		if (r < 0)
			b->err = link->err;
		else if (s->old != NULL)
			r = old_turn(b, s->old);
	}
	if (r < 0)
		return (int)r;
	/* stopped in the warm-up: nothing was measured */
	*ret_publisher = measured ? (double)(link->acked[0] - acked) / bench_seconds(&w, now) : 0;
	if (s->old != NULL && measured)
		*ret_bytes = (double)(old_log_bytes(s->old) - bytes) / bench_seconds(&w, now);
	return bench_producer_finish(b, link);
}

static int
mixed_setup(struct bench *b)
{
	int r = bench_topic_make(b);

	return r < 0 ? r : old_setup(b);
}

static int
mixed_run(struct bench *b)
{
	double most = 0, alone = 0, with = 0, bytes = 0;
	struct old old = { 0 };
	struct side side = { .rate = b->options.rate };
	int r = bench_producer_open(b, &side.link);

	if (r < 0)
		return r;
	if (side.rate == 0) {
		r = side_run(b, &side, &most, &bytes);
		side.rate = most / 2;
		bench_metric(b, "publisher.max", "events/s", most);
	}
	if (r == 0)
		r = side_run(b, &side, &alone, &bytes);
	if (r == 0)
		r = old_open(b, &old.reader);
	if (r == 0) {
		side.old = &old;
		r = side_run(b, &side, &with, &bytes);
		bench_reader_close(&old.reader);
	}
	if (r == 0) {
		bench_metric(b, "publisher.alone", "events/s", alone);
		bench_metric(b, "publisher.with", "events/s", with);
		bench_metric(b, "bytes", "GB/s", bytes / 1e9);
	}
	bench_link_close(side.link);
	return r;
}

static void
defaults(struct bench_options *o)
{
	o->inflight = 65536;
	o->batch = 16;
	o->file_bytes = 1ull << 30;
}

const struct bench_scenario bench_consume = {
	.name = "consume",
	.summary = "a local reader of old data, from the segment files",
	.help = "Reads partition 0 of the topic TOPIC-old from its first event to its last, over "
		"and\n"
		"over, never from the ring. When the topic has less than --file-size bytes on "
		"disk\n"
		"it is filled first, with batches of --batch events of --size bytes.\n",
	.options =
		BENCH_SIZE | BENCH_BATCH | BENCH_DATA | BENCH_TOPIC | BENCH_FILE_SIZE | BENCH_SEED,
	.defaults = defaults,
	.setup = old_setup,
	.run = consume_run,
};

const struct bench_scenario bench_mixed = {
	.name = "mixed",
	.summary = "a publisher at half its maximum, without and with a reader of old data",
	.help = "Each repetition takes --duration three times: the publisher as fast as it goes "
		"(unless\n"
		"--rate is given), at half of that, and the same beside a reader as in consume, "
		"in\n"
		"turn on one core. The publisher goes to TOPIC, the reader reads TOPIC-old.\n",
	.options = (BENCH_PRODUCER | BENCH_FILE_SIZE) & ~BENCH_PARTITIONS,
	.defaults = defaults,
	.setup = mixed_setup,
	.run = mixed_run,
};
