/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_log.c - one log on one core against a raw loop on the same disk.
 *
 * Goal:   what the log costs over the disk: sustained durable bytes, and the time
 *	   from append to durable.
 * Method: the same folder, one after the other, a few seconds each. The raw loop
 *	   overwrites a written file with synced O_DIRECT writes of the sizes the
 *	   log would send, from memory filled in the same way.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <liburing.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "crc32c.h"
#include "histogram.h"
#include "log.h"
#include "store.h"
#include "units.h"
#include "writer.h"

#define RAW_BYTES (256u << 20)
#define RAW_WRITE (1u << 20)
#define RAW_DEPTH 4u

struct options {
	char data[256];
	uint64_t ns;
	uint32_t event_bytes, batch_events;
};

static struct hfb_histogram *
histogram(void)
{
	struct hfb_histogram *h = malloc(hfb_histogram_bytes(HFB_HISTOGRAM_BITS_FINE, 40));

	hfb_histogram_init(h, HFB_HISTOGRAM_BITS_FINE, 40);
	return h;
}

static void
latency_print(const char *what, const struct hfb_histogram *h)
{
	printf("%-34s p50 %7.1f us  p99 %7.1f us  p99.9 %7.1f us  (%" PRIu64 ")\n", what,
	       (double)hfb_histogram_quantile(h, 0.5) / 1e3,
	       (double)hfb_histogram_quantile(h, 0.99) / 1e3,
	       (double)hfb_histogram_quantile(h, 0.999) / 1e3, hfb_histogram_count(h));
}

/* Raw: RAW_DEPTH writes of @bytes each in flight; wait with or without yielding. */
static double
raw_run(const struct options *o, const char *path, uint32_t bytes, uint32_t depth,
	struct hfb_histogram *h)
{
	struct io_uring_params params = { .flags = IORING_SETUP_SINGLE_ISSUER |
						   IORING_SETUP_DEFER_TASKRUN };
	int fd = open(path, O_RDWR | O_DIRECT | O_CREAT, 0644);
	uint64_t begin, now, at = 0, written = 0, started[RAW_DEPTH];
	uint8_t *memory = aligned_alloc(4096, RAW_WRITE);
	struct stat st;
	struct io_uring ring;

	if (fd < 0 || io_uring_queue_init_params(16, &ring, &params) < 0) {
		perror(path);
		exit(1);
	}
	memset(memory, 0x5a, RAW_WRITE);
	if (fstat(fd, &st) == 0 && st.st_size < RAW_BYTES)
		for (uint64_t p = 0; p < RAW_BYTES; p += RAW_WRITE)
			if (pwrite(fd, memory, RAW_WRITE, (off_t)p) < 0)
				perror("pwrite");
	fdatasync(fd);
	begin = now = hfb_clock_now_ns();
	for (uint32_t i = 0; i < depth; i++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

		io_uring_prep_write(sqe, fd, memory, bytes, at);
		sqe->rw_flags = RWF_DSYNC;
		sqe->user_data = i;
		started[i] = now;
		at = (at + bytes) % RAW_BYTES;
	}
	io_uring_submit(&ring);
	while (now - begin < o->ns) {
		struct io_uring_cqe *cqe;

		if (io_uring_peek_cqe(&ring, &cqe) != 0) {
			io_uring_get_events(&ring);
			sched_yield();
			now = hfb_clock_now_ns();
			continue;
		}
		now = hfb_clock_now_ns();
		if (cqe->res != (int)bytes) {
			fprintf(stderr, "raw write: %s\n", strerror(-cqe->res));
			exit(1);
		}
		hfb_histogram_record(h, now - started[cqe->user_data]);
		started[cqe->user_data] = now;
		written += bytes;
		struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

		io_uring_prep_write(sqe, fd, memory, bytes, at);
		sqe->rw_flags = RWF_DSYNC;
		sqe->user_data = cqe->user_data;
		at = (at + bytes) % RAW_BYTES;
		io_uring_cqe_seen(&ring, cqe);
		io_uring_submit_and_get_events(&ring);
	}
	io_uring_queue_exit(&ring);
	close(fd);
	free(memory);
	return (double)written / (double)(now - begin);
}

/* The log ------------------------------------------------------------------------------ */

struct bench {
	struct hfb_store *store;
	struct hfb_writer *writer;
	struct hfb_log *log;
	struct hfb_positions *positions;
	uint8_t *payload;
};

static void
die(const struct hfb_err *err)
{
	fprintf(stderr, "bench_log: %s\n", err->text);
	exit(1);
}

static void
log_begin(struct bench *b, const struct options *o)
{
	char path[300];
	struct hfb_store_config store = { .data_dir = path, .helper_cpu = -1 };
	struct hfb_writer_config writer = { .logs_max = 1, .producers_max = 16 };
	struct hfb_log_config log = { .topic = "bench",
				      .commit_stage = HFB_STAGE_DURABLE,
				      .retention_bytes = 256u << 20,
				      .ring_bytes_max = 16u << 20 };
	struct hfb_log_report report;
	struct hfb_err err;

	snprintf(path, sizeof(path), "%s/log", o->data);
	b->positions = aligned_alloc(64, sizeof(*b->positions));
	memset(b->positions, 0, sizeof(*b->positions));
	log.positions = b->positions;
	if (hfb_store_open(&store, NULL, &b->store, &err) < 0 ||
	    hfb_store_epoch_begin(b->store, &log.leader_epoch, &err) < 0 ||
	    hfb_writer_create(b->store, &writer, &b->writer, &err) < 0 ||
	    hfb_log_open(b->store, &log, &b->log, &report, &err) < 0)
		die(&err);
	hfb_writer_attach(b->writer, b->log);
}

static void
log_end(struct bench *b)
{
	hfb_writer_detach(b->writer, b->log, true);
	while (!hfb_writer_detached(b->writer, b->log))
		hfb_writer_poll(b->writer, hfb_clock_now_ns());
	hfb_log_close(b->log);
	hfb_writer_destroy(b->writer);
	hfb_store_close(b->store);
	free(b->positions);
}

static bool
append(struct bench *b, uint32_t payload_bytes, uint32_t events, uint64_t now)
{
	struct hfb_batch_meta meta = { .size = 64 + payload_bytes,
				       .count = events,
				       .timestamp_ns = now };
	struct hfb_appended appended;
	enum hfb_log_refusal why;
	uint8_t *at = hfb_log_claim(b->log, meta.size, false, &why);

	if (at == NULL)
		return false;
	meta.payload_crc = hfb_crc32c_copy(0, at + 64, b->payload, payload_bytes);
	hfb_log_append(b->log, &meta, &appended);
	return true;
}

/* A payload of @events records. Returns its bytes. */
static uint32_t
payload_fill(struct bench *b, const struct options *o, uint32_t events)
{
	uint32_t record = (HFB_RECORD_HEADER_BYTES + o->event_bytes + 7) & ~7u;

	b->payload = calloc(events, record);
	for (uint32_t i = 0; i < events; i++) {
		struct hfb_record r = { .value_size = o->event_bytes, .key_size = HFB_KEY_NULL };

		memcpy(b->payload + (size_t)i * record, &r, sizeof(r));
		memset(b->payload + (size_t)i * record + sizeof(r), 0x5a, o->event_bytes);
	}
	return events * record;
}

/* As much as goes; returns durable bytes a ns, over the last two thirds. */
static double
log_throughput(const struct options *o, double *ret_events)
{
	uint64_t begin, now, since = 0, from = 0, from_offset = 0, appends = 0;
	double span;
	struct bench b;
	uint32_t bytes;

	log_begin(&b, o);
	bytes = payload_fill(&b, o, o->batch_events);
	begin = now = hfb_clock_now_ns();
	while (now - begin < o->ns * 3 / 2) {
		for (uint32_t i = 0; i < 64 && append(&b, bytes, o->batch_events, now); i++)
			appends++;
		hfb_writer_poll(b.writer, now);
		now = hfb_clock_now_ns();
		if (since == 0 && now - begin > o->ns / 2) {
			since = now;
			from = b.positions->durable.position;
			from_offset = b.positions->durable.offset;
		}
	}
	span = (double)(now - since);
	*ret_events = (double)(b.positions->durable.offset - from_offset) / span;
	span = (double)(b.positions->durable.position - from) / span;
	printf("  (ring %u MiB, %" PRIu64 " writes, %" PRIu64 " yields)\n",
	       b.positions->ring_bytes >> 20, hfb_writer_stats(b.writer)->writes,
	       hfb_writer_stats(b.writer)->yields);
	free(b.payload);
	log_end(&b);
	return span;
}

/* One event, wait until it is durable, and again. */
static void
log_latency(const struct options *o, struct hfb_histogram *h)
{
	uint64_t begin = hfb_clock_now_ns(), now = begin;
	struct bench b;
	uint32_t bytes;

	log_begin(&b, o);
	bytes = payload_fill(&b, o, 1);
	while (now - begin < o->ns) {
		uint64_t from = now;

		if (!append(&b, bytes, 1, now)) {
			hfb_writer_poll(b.writer, now);
			now = hfb_clock_now_ns();
			continue;
		}
		do {
			hfb_writer_poll(b.writer, now);
			now = hfb_clock_now_ns();
		} while (hfb_log_position(b.log, HFB_STAGE_DURABLE) !=
			 hfb_log_position(b.log, HFB_STAGE_RECEIVED));
		hfb_histogram_record(h, now - from);
	}
	free(b.payload);
	log_end(&b);
}

/* Events a ns that can be appended when the disk is no limit: into the ring only. */
static double
append_only(const struct options *o)
{
	uint64_t begin, now, appends = 0, in_ns = 0;
	struct bench b;
	uint32_t bytes;

	log_begin(&b, o);
	bytes = payload_fill(&b, o, o->batch_events);
	begin = now = hfb_clock_now_ns();
	while (now - begin < o->ns) {
		uint64_t from = hfb_clock_now_ns(), n = 0;

		while (n < 256 && append(&b, bytes, o->batch_events, from))
			n++;
		now = hfb_clock_now_ns();
		if (n == 256) { /* a whole run without a refusal */
			appends += n;
			in_ns += now - from;
		}
		hfb_writer_poll(b.writer, now);
	}
	free(b.payload);
	log_end(&b);
	return in_ns == 0 ? 0 : (double)(appends * o->batch_events) / (double)in_ns;
}

static void
folder_remove(const char *path)
{
	char command[512];

	snprintf(command, sizeof(command), "rm -rf -- '%s'", path);
	if (system(command) != 0)
		fprintf(stderr, "bench_log: %s stays\n", path);
}

static void
usage(FILE *to)
{
	fputs("usage: bench_log [--data DIR] [--time D] [--event BYTES] [--batch EVENTS]\n"
	      "One log on one core against a raw loop on the same disk.\n"
	      "  --data DIR      a new folder is made in it and removed (default .)\n"
	      "  --time D        of each measurement (default 2s)\n"
	      "  --event BYTES   value of an event (default 100)\n"
	      "  --batch EVENTS  events of a batch (default 16)\n",
	      to);
}

int
main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "data", required_argument, NULL, 'd' },
		{ "time", required_argument, NULL, 't' },
		{ "event", required_argument, NULL, 'e' },
		{ "batch", required_argument, NULL, 'b' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct options o = { .ns = 2000000000ull, .event_bytes = 100, .batch_events = 16 };
	struct hfb_histogram *raw = histogram(), *own = histogram(), *unused = histogram();
	const char *data = ".";
	double raw_rate, rate, events;
	uint64_t number;
	char path[300];
	int c;

	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		if (c == 'h') {
			usage(stdout);
			return 0;
		}
		if (c == 'd')
			data = optarg;
		else if (c == 't' && hfb_duration_parse(optarg, &o.ns) == 0 && o.ns > 0)
			continue;
		else if (c == 'e' && hfb_number_parse(optarg, &number) == 0 && number <= 4096)
			o.event_bytes = (uint32_t)number;
		else if (c == 'b' && hfb_number_parse(optarg, &number) == 0 && number > 0 &&
			 number <= 128)
			o.batch_events = (uint32_t)number;
		else {
			usage(stderr);
			return 2;
		}
	}
	snprintf(o.data, sizeof(o.data), "%s/bench-log-XXXXXX", data);
	if (mkdtemp(o.data) == NULL) {
		fprintf(stderr, "bench_log: %s: %s\n", o.data, strerror(errno));
		return 1;
	}
	hfb_clock_start();
	snprintf(path, sizeof(path), "%s/raw", o.data);
	raw_run(&o, path, 4096, 1, raw);
	latency_print("raw, 4 KiB synced, one in flight", raw);
	log_latency(&o, own);
	latency_print("log, append to durable, one event", own);
	raw_rate = raw_run(&o, path, RAW_WRITE, RAW_DEPTH, unused);
	printf("%-34s %.2f GB/s\n", "raw, 1 MiB synced, four in flight", raw_rate);
	rate = log_throughput(&o, &events);
	printf("%-34s %.2f GB/s, %.2f M events/s, %.2f of raw\n", "log, sustained durable", rate,
	       events * 1e3, rate / raw_rate);
	printf("%-34s %.1f M events/s\n", "log, crc, copy and append alone", append_only(&o) * 1e3);
	folder_remove(o.data);
	free(raw);
	free(own);
	free(unused);
	return 0;
}
