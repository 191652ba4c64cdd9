/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limit_append.c - the disk as a log uses it, with nothing else: one core appends batches with
 * their checksums to a ring and writes it from there, O_DIRECT, over a file that was written
 * before and is gone over again and again.
 *
 *	durable          submitted           position
 *	   | writes in flight | not yet written |
 *
 * The ring is small: what the disk reads from it is still in a cache then. With 64 MiB instead of
 * 8 the same loop wrote 2.0 GB/s instead of 2.6 (virtio, 2026-11).
 *
 * append-disk: as fast as possible, writes of --write-size. group-commit: batches come at
 * --rate; whatever is there goes with the next write, whose end is padded to a block so that
 * one need not wait for another.
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "limit_batch.h"
#include "limit_io.h"

#define RING_BYTES (8u << 20)
#define DEPTH_MAX  64u
#define BLOCK	   4096u
#define BATCHES	   32u /* at a stretch, between looks at the completions */
/* A request of virtio without hugepages: 254 pieces of a page. */
#define WRITE_BYTES (254u * BLOCK)

struct write {
	uint64_t end;	  /* position behind it */
	uint64_t batches; /* whole ones below its end */
	bool done;
};

struct tally {
	uint64_t batches, bytes, writes, at_ns;
};

static struct limit_io io;
static struct limit_source source;

struct run {
	struct bench *b;
	struct limit_log log;
	uint32_t depth;
	uint64_t submitted, batches, batches_durable, writes;
	struct tally from, until;     /* at_ns 0: not yet */
	struct write ring[DEPTH_MAX]; /* oldest first */
	uint32_t head, in_flight;
	struct bench_pace pace;
	struct bench_window w;
	struct hfb_histogram *latency; /* NULL: not wanted */
	struct hfb_histogram *quiet;   /* of those that no stall of the machine hit; or NULL */
};

/* Up to @end, or less: one piece of the ring, at most --write-size. */
static void
write_one(struct run *r, uint64_t end)
{
	const uint64_t mask = RING_BYTES - 1, file = io.file_bytes & ~mask;
	const uint32_t batch_bytes = HFB_BATCH_HEADER_BYTES + source.payload_bytes;
	struct write *w = &r->ring[(r->head + r->in_flight) % DEPTH_MAX];
	struct io_uring_sqe *sqe = io_uring_get_sqe(&io.ring);
	uint64_t from = r->submitted & mask, left;

	if (from + (end - r->submitted) > RING_BYTES)
		end = r->submitted + RING_BYTES - from;
	if (end - r->submitted > r->b->options.write_bytes)
		end = r->submitted + r->b->options.write_bytes;
	limit_io_write(&io, sqe, io.memory + from, (uint32_t)(end - r->submitted),
		       r->submitted % file, (uint64_t)(w - r->ring));
	/* nothing but whole batches stands between a write's end and what was appended last */
	left = r->log.position - end;
	w->batches = r->batches - (left + batch_bytes - 1) / batch_bytes;
	w->end = end;
	w->done = false;
	r->in_flight++;
	r->writes++;
	r->submitted = end;
}

static void
durable_to(struct run *r, const struct write *w, uint64_t now_ns)
{
	r->log.durable = w->end;
	if (r->latency == NULL) {
		r->batches_durable = w->batches;
		return;
	}
	for (; r->batches_durable < w->batches; r->batches_durable++) {
		uint64_t intended = bench_pace_time_ns(&r->pace, r->batches_durable);

		if (!bench_window_has(&r->w, intended))
			continue;
		hfb_histogram_record(r->latency, now_ns - intended);
		if (r->quiet != NULL && !stall_watch_hit(&io.watch, intended, now_ns))
			hfb_histogram_record(r->quiet, now_ns - intended);
	}
}

static int
reap(struct run *r, uint64_t now_ns)
{
	struct io_uring_cqe *cqe;

	while (io_uring_peek_cqe(&io.ring, &cqe) == 0) {
		if (cqe->res < 0 || cqe->res % (int)BLOCK != 0)
			return hfb_err_set(&r->b->err, -EIO, "%s: %s", io.path,
					   cqe->res < 0 ? strerror(-cqe->res) : "short write");
		r->ring[cqe->user_data].done = true;
		io_uring_cqe_seen(&io.ring, cqe);
	}
	for (; r->in_flight > 0 && r->ring[r->head].done; r->in_flight--) {
		durable_to(r, &r->ring[r->head], now_ns);
		r->head = (r->head + 1) % DEPTH_MAX;
	}
	return 0;
}

static void
append(struct run *r, uint32_t most, uint64_t now_ns)
{
	uint32_t bytes = HFB_BATCH_HEADER_BYTES + source.payload_bytes;
	uint64_t room = RING_BYTES - (r->log.position - r->log.durable), n = (room - BLOCK) / bytes;

	if (room < BLOCK + bytes)
		return;
	if (n > most)
		n = most;
	for (uint64_t i = 0; i < n; i++)
		limit_batch_append(io.memory, RING_BYTES - 1, &r->log, limit_source_next(&source),
				   source.payload_bytes, r->b->options.batch, now_ns);
	r->batches += n;
	r->pace.sent += n;
}

/* Paced: all there is, and the rest of the last block is padding. Else whole writes only. */
static void
form(struct run *r)
{
	const uint64_t most = r->b->options.write_bytes;

	while (r->in_flight < r->depth && r->submitted < r->log.position) {
		uint64_t left = r->log.position - r->submitted, to_ring_end;
		uint32_t pad = (uint32_t)-left & (BLOCK - 1);

		to_ring_end = RING_BYTES - (r->submitted & (RING_BYTES - 1));
		if (left < most && r->latency == NULL)
			return;
		if (left <= most && left <= to_ring_end) {
			memset(io.memory + (r->log.position & (RING_BYTES - 1)), 0, pad);
			r->log.position += pad;
		}
		write_one(r, r->log.position);
	}
}

/* The rate is that of the time in which the load ran. */
static void
count(struct run *r, uint64_t now_ns)
{
	const struct tally now = { r->batches_durable, r->log.durable, r->writes, now_ns };

	if (r->from.at_ns == 0 && now_ns >= r->w.from_ns)
		r->from = now;
	if (r->until.at_ns == 0 && now_ns >= r->w.until_ns)
		r->until = now;
}

/* Paced, what was due in the time goes to the disk and counts also when it is over. */
static bool
goes_on(struct run *r, uint64_t now_ns)
{
	if (bench_window_open(&r->w, now_ns))
		return true;
	return r->latency != NULL &&
	       (r->batches_durable < r->batches ||
		bench_pace_due(&r->pace, bench_window_due_ns(&r->w, now_ns)) > 0);
}

static int
go(struct bench *b, uint32_t depth, uint64_t warmup_ns, uint64_t duration_ns,
   struct hfb_histogram *latency, struct hfb_histogram *quiet, struct run *r)
{
	uint64_t now_ns = bench_now_ns();
	int code = 0;

	memset(r, 0, sizeof(*r));
	r->b = b;
	r->depth = depth;
	r->latency = latency;
	r->quiet = quiet;
	r->w = (struct bench_window){ now_ns, now_ns + warmup_ns,
				      now_ns + warmup_ns + duration_ns };
	bench_pace_start(&r->pace, b->options.rate / b->options.batch, now_ns);
	while (goes_on(r, now_ns)) {
		uint32_t due = bench_pace_due(&r->pace, bench_window_due_ns(&r->w, now_ns));

		append(r, due < BATCHES || latency != NULL ? due : BATCHES, now_ns);
		form(r);
		if (io_uring_sq_ready(&io.ring) > 0)
			io_uring_submit_and_get_events(&io.ring);
		else if (r->in_flight > 0)
			io_uring_get_events(&io.ring);
		if (r->in_flight > 0)
			limit_io_yield(&io, now_ns);
		now_ns = bench_now_ns();
		code = reap(r, now_ns);
		if (code < 0)
			return code;
		count(r, now_ns);
		if (now_ns > r->w.until_ns + BENCH_OVERTIME_NS)
			return bench_window_overtime(b, "batches", r->batches - r->batches_durable);
	}
	while (r->in_flight > 0 && code == 0) {
		io_uring_get_events(&io.ring);
		sched_yield();
		code = reap(r, now_ns);
	}
	return code;
}

static void
report(struct bench *b, const struct run *r)
{
	const struct tally *from = &r->from, *until = &r->until;
	double seconds = until->at_ns > from->at_ns && from->at_ns > 0
				 ? (double)(until->at_ns - from->at_ns) / 1e9
				 : HUGE_VAL; /* stopped in the warm-up */

	bench_metric(b, "rate", "events/s",
		     (double)(until->batches - from->batches) * b->options.batch / seconds);
	bench_metric(b, "bytes", "GB/s", (double)(until->bytes - from->bytes) / seconds / 1e9);
	bench_metric(b, "writes", "writes/s", (double)(until->writes - from->writes) / seconds);
}

static int
setup(struct bench *b)
{
	int r = bench_pin(b, 0, &b->err);

	if (r < 0)
		return r;
	if (b->options.depth > DEPTH_MAX)
		return hfb_err_set(&b->err, -EINVAL, "--depth is at most %u here", DEPTH_MAX);
	if (b->options.file_bytes < 2ull * RING_BYTES)
		return hfb_err_set(&b->err, -EINVAL, "--file-size is at least %u MiB here",
				   2 * (RING_BYTES >> 20));
	if (limit_payload_bytes(b->options.size, b->options.batch) > RING_BYTES / 8)
		return hfb_err_set(&b->err, -EINVAL,
				   "a batch is at most %u bytes, see --size and "
				   "--batch",
				   RING_BYTES / 8);
	if (limit_source_open(&source, b->options.size, b->options.batch) < 0)
		return hfb_err_set(&b->err, -ENOMEM, "no memory for payloads");
	return limit_io_open(&io, b, RING_BYTES, DEPTH_MAX);
}

/* Whole writes only: there must be some, and room for one beside what is being written. */
static int
append_disk_setup(struct bench *b)
{
	if (b->options.depth == 0)
		return hfb_err_set(&b->err, -EINVAL, "--depth is at least 1 here");
	if (b->options.write_bytes > RING_BYTES / 2)
		return hfb_err_set(&b->err, -EINVAL, "--write-size is at most %u MiB here",
				   RING_BYTES / 2 >> 20);
	return setup(b);
}

static void
teardown(struct bench *b)
{
	limit_io_close(&io);
	limit_source_close(&source);
}

static int
append_disk_run(struct bench *b)
{
	struct run r;
	int code = go(b, b->options.depth, b->options.warmup_ns, b->options.duration_ns, NULL, NULL,
		      &r);

	if (code == 0)
		report(b, &r);
	return code;
}

/* The depth with the least p50 at this rate, by short runs. */
static int
depth_choose(struct bench *b)
{
	static const uint32_t depths[] = { 1, 2, 4 };
	struct hfb_histogram *h = bench_histogram();
	uint64_t best = UINT64_MAX;
	int code = 0;

	for (uint32_t i = 0; i < 3 && code == 0; i++) {
		uint64_t p50;
		struct run r;

		hfb_histogram_clear(h);
		code = go(b, depths[i], 50000000, 400000000, h, NULL, &r);
		p50 = hfb_histogram_quantile(h, 0.5);
		if (code == 0 && p50 > 0 && p50 < best) {
			best = p50;
			b->options.depth = depths[i];
		}
	}
	free(h);
	if (code == 0 && b->options.depth == 0)
		b->options.depth = 4;
	bench_note(b, "depth: %u writes in flight", b->options.depth);
	return code;
}

static int
group_commit_run(struct bench *b)
{
	struct run r;
	int code = 0;

	if (b->options.rate <= 0)
		return hfb_err_set(&b->err, -EINVAL, "group commit is paced: give --rate");
	if (b->options.depth == 0)
		code = depth_choose(b);
	if (code == 0)
		code = go(b, b->options.depth, b->options.warmup_ns, b->options.duration_ns,
			  bench_latency(b, "latency"),
			  io.busy_started ? bench_latency(b, "latency.quiet") : NULL, &r);
	if (code == 0)
		report(b, &r);
	return code;
}

static void
append_disk_defaults(struct bench_options *o)
{
	o->size = 100;
	o->batch = 16;
	o->depth = 4;
	o->write_bytes = WRITE_BYTES;
}

static void
group_commit_defaults(struct bench_options *o)
{
	o->size = 100;
	o->batch = 16;
	o->rate = 1e6;
	o->file_bytes = 256u << 20;
	o->write_bytes = WRITE_BYTES;
}

const struct bench_scenario bench_limit_append_disk = {
	.group = "limit",
	.name = "append-disk",
	.summary = "append batches with checksums to a ring and write it, O_DIRECT",
	.help = LIMIT_IO_HELP,
	.options = BENCH_SIZE | BENCH_BATCH | BENCH_DATA | BENCH_SYNC | BENCH_FILE_SIZE |
		   BENCH_DEPTH | BENCH_WRITE_SIZE,
	.defaults = append_disk_defaults,
	.setup = append_disk_setup,
	.run = append_disk_run,
	.teardown = teardown,
};

const struct bench_scenario bench_limit_group_commit = {
	.group = "limit",
	.name = "group-commit",
	.summary = "the same paced, from when a batch was due until it is on disk",
	.help = "An open loop: batches come at --rate events a second whatever the disk "
		"does.\n"
		"--depth 0: what short runs find best for the rate.\n" LIMIT_IO_HELP
		"That CPU sees the machine's stalls: latency.quiet is of what none of them hit.\n",
	.options = BENCH_SIZE | BENCH_BATCH | BENCH_RATE | BENCH_DATA | BENCH_SYNC |
		   BENCH_FILE_SIZE | BENCH_DEPTH | BENCH_WRITE_SIZE,
	.defaults = group_commit_defaults,
	.setup = setup,
	.run = group_commit_run,
	.teardown = teardown,
};
