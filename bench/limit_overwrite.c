/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limit_overwrite.c - the disk alone: synced writes over blocks that were written before, and
 * reads, O_DIRECT, by one io_uring, a fixed number in flight.
 *
 * Reads that nobody looks at are quicker than those somebody does: what a CPU has looked at is
 * in its cache, from where the host has to take it back to put the next data there. So there is
 * a limit of either: read, and read-check, which takes the crc of each byte as a reader of a log
 * must.
 *
 * The write of 4 KiB, one at a time, is the least a durable event can take.
 */
#include <errno.h>
#include <string.h>

#include "crc32c.h"
#include "limit_io.h"

#define DEPTH_MAX 256u

enum what {
	WRITE,
	READ,
	READ_CHECK, /* twice the memory: the next read is under way while one is looked at */
};

static struct limit_io io;
static uint32_t crc_sum; /* of all that was read, so that no crc is for nothing */
static uint64_t started_ns[2 * DEPTH_MAX];

static void
one_more(const struct bench *b, enum what what, uint32_t slot, uint64_t *at, uint64_t now_ns)
{
	uint32_t bytes = b->options.write_bytes;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&io.ring);
	uint8_t *memory = io.memory + (size_t)slot * bytes;

	if (*at + bytes > io.file_bytes)
		*at = 0;
	if (what == WRITE)
		limit_io_write(&io, sqe, memory, bytes, *at, slot);
	else
		limit_io_read(&io, sqe, memory, bytes, *at, slot);
	*at += bytes;
	started_ns[slot] = now_ns;
}

static int
go(struct bench *b, enum what what)
{
	struct hfb_histogram *h = bench_latency(b, "latency");
	uint64_t now_ns = bench_now_ns(), at = 0, done = 0;
	struct bench_window w = bench_window(b, now_ns);
	uint32_t in_flight = b->options.depth, slots = 2 * b->options.depth;
	double seconds;

	for (uint32_t i = 0; i < in_flight; i++)
		one_more(b, what, i, &at, now_ns);
	io_uring_submit(&io.ring);
	while (in_flight > 0) {
		bool more = now_ns < w.until_ns && !bench_stop;
		struct io_uring_cqe *cqe;
		uint32_t slot;

		if (io_uring_peek_cqe(&io.ring, &cqe) != 0) {
			io_uring_get_events(&io.ring);
			limit_io_yield(&io, now_ns);
			now_ns = bench_now_ns();
			continue;
		}
		now_ns = bench_now_ns();
		if (cqe->res != (int)b->options.write_bytes)
			return hfb_err_set(&b->err, -EIO, "%s: %s", io.path,
					   cqe->res < 0 ? strerror(-cqe->res) : "short I/O");
		slot = (uint32_t)cqe->user_data;
		done += more && now_ns >= w.from_ns;
		if (more && started_ns[slot] >= w.from_ns)
			hfb_histogram_record(h, now_ns - started_ns[slot]);
		if (more)
			one_more(b, what,
				 what == READ_CHECK ? (slot + b->options.depth) % slots : slot, &at,
				 now_ns);
		else
			in_flight--;
		io_uring_cqe_seen(&io.ring, cqe);
		if (more)
			io_uring_submit_and_get_events(&io.ring);
		if (what == READ_CHECK)
			crc_sum ^= hfb_crc32c(0, io.memory + (size_t)slot * b->options.write_bytes,
					      b->options.write_bytes);
	}
	seconds = bench_seconds(&w, now_ns < w.until_ns ? now_ns : w.until_ns);
	bench_metric(b, "rate", what == WRITE ? "writes/s" : "reads/s", (double)done / seconds);
	bench_metric(b, "bytes", "GB/s",
		     (double)done * (double)b->options.write_bytes / seconds / 1e9);
	return 0;
}

static int
open_slots(struct bench *b, uint32_t slots_each)
{
	const uint64_t in_flight_bytes = (uint64_t)b->options.depth * b->options.write_bytes;
	int r = bench_pin(b, 0, &b->err);

	if (r < 0)
		return r;
	if (b->options.depth == 0)
		return hfb_err_set(&b->err, -EINVAL, "--depth is at least 1 here");
	/* no block twice at once, and none behind what was written */
	if (in_flight_bytes > b->options.file_bytes)
		return hfb_err_set(&b->err, -EINVAL,
				   "--depth times --write-size is more than --file-size");
	return limit_io_open(&io, b, slots_each * in_flight_bytes, b->options.depth);
}

static int
setup(struct bench *b)
{
	return open_slots(b, 1);
}

static int
read_check_setup(struct bench *b)
{
	return open_slots(b, 2);
}

static void
teardown(struct bench *b)
{
	limit_io_close(&io);
}

static int
overwrite_run(struct bench *b)
{
	return go(b, WRITE);
}

static int
read_run(struct bench *b)
{
	return go(b, READ);
}

static int
read_check_run(struct bench *b)
{
	return go(b, READ_CHECK);
}

static void
overwrite_defaults(struct bench_options *o)
{
	o->write_bytes = 4096;
	o->depth = 1;
	o->file_bytes = 64u << 20;
}

static void
read_defaults(struct bench_options *o)
{
	overwrite_defaults(o);
	o->write_bytes = 1u << 20;
	o->depth = 4;
	o->file_bytes = 2ull << 30;
}

const struct bench_scenario bench_limit_overwrite = {
	.group = "limit",
	.name = "overwrite",
	.summary = "synced O_DIRECT writes over written blocks",
	.help = LIMIT_IO_HELP,
	.options = BENCH_DATA | BENCH_SYNC | BENCH_FILE_SIZE | BENCH_DEPTH | BENCH_WRITE_SIZE,
	.defaults = overwrite_defaults,
	.setup = setup,
	.run = overwrite_run,
	.teardown = teardown,
};

const struct bench_scenario bench_limit_read = {
	.group = "limit",
	.name = "read",
	.summary = "O_DIRECT reads of a written file",
	.help = LIMIT_IO_HELP,
	.options = BENCH_DATA | BENCH_FILE_SIZE | BENCH_DEPTH | BENCH_WRITE_SIZE,
	.defaults = read_defaults,
	.setup = setup,
	.run = read_run,
	.teardown = teardown,
};

const struct bench_scenario bench_limit_read_check = {
	.group = "limit",
	.name = "read-check",
	.summary = "the same, and the crc of what was read",
	.options = BENCH_DATA | BENCH_FILE_SIZE | BENCH_DEPTH | BENCH_WRITE_SIZE,
	.defaults = read_defaults,
	.setup = read_check_setup,
	.run = read_check_run,
	.teardown = teardown,
};
