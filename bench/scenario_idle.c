/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scenario_idle.c - what an adaptive bus costs when nothing happens, and how soon it is
 * awake: CPU time of hfbusd over --duration without traffic, then the ack of single events
 * that each come after a second of silence.
 *
 * Threads: one.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench_bus.h"

#define SILENCE_NS 1000000000ull
#define FIRSTS	   5u /* events after a silence, each repetition */
#define ACK_NS	   1000000000ull

/* CPU time of a process, all threads. */
static int
cpu_read(struct bench *b, uint32_t pid, double *ret_seconds)
{
	unsigned long long user, system;
	char path[64], line[1024], *behind;
	FILE *f;
	int n = 0;

	snprintf(path, sizeof(path), "/proc/%u/stat", pid);
	f = fopen(path, "re");
	if (f == NULL)
		return hfb_err_set(&b->err, -errno, "%s: %s", path, strerror(errno));
	if (fgets(line, sizeof(line), f) != NULL) {
		behind = strrchr(line, ')'); /* a name may hold anything */
		if (behind != NULL)
			n = sscanf(behind + 1,
				   " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
				   &system);
	}
	fclose(f);
	if (n != 2)
		return hfb_err_set(&b->err, -EPROTO, "%s is not understood", path);
	*ret_seconds = (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
	return 0;
}

static void
sleep_ns(uint64_t ns)
{
	struct timespec t = { (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };

	while (!bench_stop && nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

static int
pid_get(struct bench *b, uint32_t *ret_pid, uint32_t *ret_cores)
{
	struct hfb_bus_config config = { .data_dir = b->options.data };
	struct hfb_ipc_node node;
	struct hfb_bus *bus;
	int r = hfb_bus_open(&config, &bus, &b->err);

	if (r < 0)
		return r;
	r = hfb_admin_node_get(bus, &node, &b->err);
	hfb_bus_close(bus);
	if (r < 0)
		return r;
	*ret_pid = node.pid;
	*ret_cores = node.cores;
	return 0;
}

/* One event and its ack; polled without a pause, so that the bus's waking is what counts. */
static int
first_event(struct bench *b, struct bench_link *link, struct hfb_histogram *latency)
{
	uint64_t from = bench_now_ns(), now = from;
	int64_t acked = 0;

	if (link->ops->send(link, 0, 1) != 1)
		return hfb_err_set(&b->err, -EAGAIN, "an event was not taken after a silence");
	while (acked == 0 && now < from + ACK_NS) {
		acked = link->ops->poll(link);
		now = bench_now_ns();
	}
	if (acked < 0)
		b->err = link->err;
	else if (acked == 0)
		return hfb_err_set(&b->err, -ETIMEDOUT, "an event was not acked within a second");
	else
		hfb_histogram_record(latency, now - from);
	return acked < 0 ? (int)acked : 0;
}

static int
idle_setup(struct bench *b)
{
	return bench_topic_make(b);
}

static int
idle_run(struct bench *b)
{
	struct hfb_histogram *latency = bench_latency(b, "first"), *warm = bench_histogram();
	double before = 0, after = 0;
	struct bench_link *link = NULL;
	uint32_t pid = 0, cores = 1;
	uint64_t from;
	int r = pid_get(b, &pid, &cores);

	if (r == 0)
		r = bench_producer_open(b, &link);
	/* partition, producer and channel are there when the silence begins */
	if (r == 0)
		r = first_event(b, link, warm);
	if (r < 0)
		goto out;
	sleep_ns(b->options.warmup_ns);
	from = bench_now_ns();
	r = cpu_read(b, pid, &before);
	sleep_ns(b->options.duration_ns);
	if (r == 0)
		r = cpu_read(b, pid, &after);
	bench_metric(b, "cpu", "%",
		     100 * (after - before) * 1e9 / (double)(bench_now_ns() - from) / cores);
	for (uint32_t i = 0; r == 0 && i < FIRSTS && !bench_stop; i++) {
		sleep_ns(SILENCE_NS);
		r = first_event(b, link, latency);
	}
	if (r == 0)
		r = bench_producer_finish(b, link);
out:
	hfb_histogram_clear(warm);
	free(warm);
	bench_link_close(link);
	return r;
}

static void
defaults(struct bench_options *o)
{
	o->duration_ns = 3000000000u;
	o->warmup_ns = 1000000000u;
}

const struct bench_scenario bench_idle = {
	.name = "idle",
	.summary = "an adaptive bus without traffic: its CPU, and how soon it is awake",
	.help = "`cpu` is the share of a core that all of hfbusd's threads take for each of its "
		"poll\n"
		"cores over --duration of silence. `first` is the ack of one event after a second\n"
		"without any, five times a repetition. Start the bus with --idle adaptive.\n",
	.options = BENCH_PRODUCER & ~(BENCH_RATE | BENCH_INFLIGHT | BENCH_BATCH | BENCH_PARTITIONS),
	.defaults = defaults,
	.setup = idle_setup,
	.run = idle_run,
};
