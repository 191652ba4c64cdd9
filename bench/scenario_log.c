/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scenario_log.c - the bus's logs and writer on one core, without network or clients: what
 * storage/ costs over limit append-disk and limit group-commit, and where to profile it.
 *
 * Batches go to the partitions in turn. As there: without --rate as fast as the ring takes
 * them, else when they are due, and the latency is from then until durable.
 */
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "limit_batch.h"
#include "log.h"
#include "store.h"
#include "writer.h"

#define BATCHES 32u /* at a stretch, between looks at the disk */

struct partition {
	struct hfb_log *log;
	struct hfb_positions *positions;
	uint64_t sequence;
	uint64_t first_offset;	    /* of this repetition */
	uint64_t appended, durable; /* batches of it */
	uint32_t index;
};

static struct limit_source source;
static struct hfb_store *store;
static struct hfb_writer *writer;
static struct partition *partitions;
static struct hfb_positions *positions;
static char folder[4096];

/* The repetition that runs. */
static struct {
	struct bench *b;
	struct bench_pace pace;
	struct bench_window window;
	struct hfb_histogram *latency;
	uint64_t now_ns, refusals;
} run;

static void
advanced(void *arg, struct hfb_log *log)
{
	struct partition *p = hfb_log_user(log);
	uint64_t batches = (p->positions->durable.offset - p->first_offset) / run.b->options.batch;

	if (run.latency == NULL) {
		p->durable = batches;
		return;
	}
	for (; p->durable < batches; p->durable++) {
		uint64_t n = p->durable * run.b->options.partitions + p->index;
		uint64_t intended = bench_pace_time_ns(&run.pace, n);

		if (intended >= run.window.from_ns && intended < run.window.until_ns)
			hfb_histogram_record(run.latency, run.now_ns - intended);
	}
}

static bool
append(struct partition *p, uint64_t utc_ns)
{
	struct hfb_batch_meta meta = { .size = HFB_BATCH_HEADER_BYTES + source.payload_bytes,
				       .count = run.b->options.batch,
				       .producer_id = 1,
				       .base_sequence = p->sequence,
				       .end_sequence = p->sequence + run.b->options.batch,
				       .timestamp_ns = utc_ns };
	struct hfb_appended appended;
	enum hfb_log_refusal why;
	uint8_t *at = hfb_log_claim(p->log, meta.size, false, &why);

	if (at == NULL)
		return false;
	meta.payload_crc = hfb_crc32c_copy(0, at + HFB_BATCH_HEADER_BYTES,
					   limit_source_next(&source), source.payload_bytes);
	hfb_log_append(p->log, &meta, &appended);
	p->appended++;
	p->sequence = meta.end_sequence;
	return true;
}

/* Some of what is due, and a look at the disk. */
static void
turn(uint32_t due)
{
	uint64_t utc_ns = hfb_clock_now_ns();

	for (uint32_t i = 0; i < due && i < BATCHES; i++) {
		if (!append(&partitions[run.pace.sent % run.b->options.partitions], utc_ns)) {
			run.refusals++;
			break;
		}
		run.pace.sent++;
	}
	hfb_writer_poll(writer, utc_ns);
	run.now_ns = bench_now_ns();
}

static uint64_t
durable_sum(bool bytes)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < run.b->options.partitions; i++)
		sum += bytes ? partitions[i].positions->durable.position : partitions[i].durable;
	return sum;
}

static int
log_run(struct bench *b)
{
	const uint32_t count = b->options.partitions;
	uint32_t due;
	uint64_t batches = 0, bytes = 0, writes = hfb_writer_stats(writer)->writes;
	bool counting = false;
	double seconds;

	run.b = b;
	run.now_ns = bench_now_ns();
	run.refusals = 0;
	run.latency = b->options.rate > 0 ? bench_latency(b, "latency") : NULL;
	run.window = bench_window(b, run.now_ns);
	bench_pace_start(&run.pace, b->options.rate / b->options.batch, run.now_ns);
	for (uint32_t i = 0; i < count; i++) {
		partitions[i].first_offset = partitions[i].positions->received.offset;
		partitions[i].appended = partitions[i].durable = 0;
	}
	while (bench_window_open(&run.window, run.now_ns)) {
		turn(bench_pace_due(&run.pace, run.now_ns));
		if (!counting && run.now_ns >= run.window.from_ns) {
			counting = true;
			batches = durable_sum(false);
			bytes = durable_sum(true);
		}
	}
	if (!counting) { /* stopped in the warm-up: nothing was measured */
		batches = durable_sum(false);
		bytes = durable_sum(true);
	}
	seconds = bench_seconds(&run.window, run.now_ns);
	bench_metric(b, "rate", "events/s",
		     (double)(durable_sum(false) - batches) * b->options.batch / seconds);
	bench_metric(b, "bytes", "GB/s", (double)(durable_sum(true) - bytes) / seconds / 1e9);
	bench_metric(b, "writes", "writes/s",
		     (double)(hfb_writer_stats(writer)->writes - writes) /
			     (seconds + (double)b->options.warmup_ns / 1e9));
	bench_metric(b, "refusals", "", (double)run.refusals);
	/* what was due in the time goes to the disk and counts also when it is over */
	while (run.latency != NULL && (due = bench_pace_due(&run.pace, run.window.until_ns - 1))) {
		turn(due);
		if (run.now_ns > run.window.until_ns + BENCH_OVERTIME_NS)
			return bench_window_overtime(b, "batches", due);
	}
	/* all of this repetition is durable before the next one begins */
	for (uint32_t i = 0; i < count; i++)
		while (partitions[i].durable < partitions[i].appended) {
			hfb_writer_poll(writer, hfb_clock_now_ns());
			run.now_ns = bench_now_ns();
			if (partitions[i].positions->state == HFB_PARTITION_FAILED)
				return hfb_err_set(&b->err, -EIO, "the disk failed in %s", folder);
		}
	return 0;
}

static int
setup(struct bench *b)
{
	struct hfb_store_config config = { .data_dir = folder, .helper_cpu = -1 };
	struct hfb_writer_config writer_config = { .logs_max = b->options.partitions,
						   .producers_max = b->options.partitions,
						   .advanced = advanced };
	struct hfb_log_config log = { .topic = "bench",
				      .commit_stage = HFB_STAGE_DURABLE,
				      .retention_bytes = b->options.file_bytes };
	struct hfb_log_report report;
	int r;

	run.b = b;
	snprintf(folder, sizeof(folder), "%s/hfbus-bench-log-XXXXXX",
		 b->options.data != NULL ? b->options.data : ".");
	if (mkdtemp(folder) == NULL) {
		r = hfb_err_set(&b->err, -errno, "cannot make a folder in %s: %s, see --data",
				b->options.data != NULL ? b->options.data : ".", strerror(errno));
		folder[0] = '\0';
		return r;
	}
	partitions = calloc(b->options.partitions, sizeof(*partitions));
	positions = aligned_alloc(64, b->options.partitions * sizeof(*positions));
	if (partitions == NULL || positions == NULL ||
	    limit_source_open(&source, b->options.size, b->options.batch) < 0)
		return hfb_err_set(&b->err, -ENOMEM, "no memory for %u partitions",
				   b->options.partitions);
	memset(positions, 0, b->options.partitions * sizeof(*positions));
	r = hfb_store_open(&config, NULL, &store, &b->err);
	/* its helper is not to share our CPU */
	if (r == 0)
		r = bench_pin(b, 0, &b->err);
	if (r == 0)
		r = hfb_store_epoch_begin(store, &log.leader_epoch, &b->err);
	if (r == 0)
		r = hfb_writer_create(store, &writer_config, &writer, &b->err);
	for (uint32_t i = 0; i < b->options.partitions && r == 0; i++) {
		partitions[i].positions = log.positions = &positions[i];
		partitions[i].index = log.partition = i;
		log.user = &partitions[i];
		r = hfb_log_open(store, &log, &partitions[i].log, &report, &b->err);
		if (r == 0)
			hfb_writer_attach(writer, partitions[i].log);
	}
	return r;
}

static int
entry_remove(const char *path, const struct stat *status, int type, struct FTW *where)
{
	(void)status, (void)type, (void)where;
	return remove(path);
}

static void
teardown(struct bench *b)
{
	run.latency = NULL;
	for (uint32_t i = 0; partitions != NULL && i < b->options.partitions; i++) {
		struct hfb_log *log = partitions[i].log;

		if (log == NULL)
			continue;
		hfb_writer_detach(writer, log, true);
		while (!hfb_writer_detached(writer, log))
			hfb_writer_poll(writer, hfb_clock_now_ns());
		hfb_log_close(log);
	}
	hfb_writer_destroy(writer);
	if (store != NULL)
		hfb_store_close(store);
	free(partitions);
	free(positions);
	limit_source_close(&source);
	if (folder[0] != '\0' && nftw(folder, entry_remove, 16, FTW_DEPTH | FTW_PHYS) != 0)
		fprintf(stderr, "hfbus-bench log: %s stays\n", folder);
}

static void
defaults(struct bench_options *o)
{
	o->size = 100;
	o->batch = 16;
	o->file_bytes = 1ull << 30;
}

const struct bench_scenario bench_log = {
	.name = "log",
	.summary = "the bus's logs and writer on one core, without clients; needs no bus",
	.help = "What storage costs over limit append-disk, with --rate over limit group-commit.\n"
		"--file-size is the retention of a partition.\n",
	.options = BENCH_SIZE | BENCH_BATCH | BENCH_RATE | BENCH_DATA | BENCH_FILE_SIZE |
		   BENCH_PARTITIONS,
	.defaults = defaults,
	.setup = setup,
	.run = log_run,
	.teardown = teardown,
};
