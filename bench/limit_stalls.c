/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limit_stalls.c - the machine's own stalls: gaps that a core sees which does nothing but
 * read its clock. No program on it can have a better tail than this.
 *
 * Threads: one for each of --cores, all at once, since two spinning CPUs of one host
 *	    disturb each other as bus and load do.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define GAP_NS	  1000u
#define LONG_NS	  10000u
#define LONGER_NS 100000u

struct spin {
	struct bench *b;
	uint32_t index;
	pthread_t thread;
	struct hfb_histogram *gaps; /* of GAP_NS and more */
	uint64_t turns, lost_ns, gaps_long, gaps_longer;
	struct bench_window window;
	int failed;
	struct hfb_err err;
};

static void *
spin_main(void *arg)
{
	struct spin *s = arg;
	uint64_t last, now;

	s->failed = bench_pin(s->b, s->index, &s->err);
	if (s->failed < 0)
		return NULL;
	while (bench_now_ns() < s->window.from_ns)
		;
	last = bench_now_ns();
	do {
		now = bench_now_ns();
		if (now - last >= GAP_NS) {
			hfb_histogram_record(s->gaps, now - last);
			s->lost_ns += now - last;
			s->gaps_long += now - last >= LONG_NS;
			s->gaps_longer += now - last >= LONGER_NS;
			now = bench_now_ns(); /* ours was the recording */
		}
		last = now;
		s->turns++;
	} while (bench_window_open(&s->window, now));
	return NULL;
}

static void
spin_metrics(struct spin *s)
{
	double seconds = bench_seconds(&s->window, s->window.until_ns);
	uint32_t cpu = s->b->options.cores[s->index];
	char name[64];

	snprintf(name, sizeof(name), "cpu%u.gaps.1us", cpu);
	bench_metric(s->b, name, "gaps/s", (double)hfb_histogram_count(s->gaps) / seconds);
	snprintf(name, sizeof(name), "cpu%u.gaps.10us", cpu);
	bench_metric(s->b, name, "gaps/s", (double)s->gaps_long / seconds);
	snprintf(name, sizeof(name), "cpu%u.gaps.100us", cpu);
	bench_metric(s->b, name, "gaps/s", (double)s->gaps_longer / seconds);
	snprintf(name, sizeof(name), "cpu%u.lost", cpu);
	bench_metric(s->b, name, "%", (double)s->lost_ns / seconds / 1e7);
}

static int
stalls_run(struct bench *b)
{
	uint32_t n = b->options.cores_count > 0 ? b->options.cores_count : 1, made = 0;
	struct bench_window w = bench_window(b, bench_now_ns());
	struct spin *spins = calloc(n, sizeof(*spins));
	int r = 0;

	if (spins == NULL)
		return hfb_err_set(&b->err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < n && r == 0; i++) {
		char name[32];

		snprintf(name, sizeof(name), "cpu%u.gap", b->options.cores[i]);
		spins[i] = (struct spin){
			.b = b, .index = i, .gaps = bench_latency(b, name), .window = w
		};
		r = -pthread_create(&spins[i].thread, NULL, spin_main, &spins[i]);
		if (r < 0)
			hfb_err_set(&b->err, r, "no thread: %s", strerror(-r));
		else
			made++;
	}
	for (uint32_t i = 0; i < made; i++) {
		pthread_join(spins[i].thread, NULL);
		if (spins[i].failed < 0 && r == 0) {
			r = spins[i].failed;
			b->err = spins[i].err;
		}
	}
	for (uint32_t i = 0; i < made && r == 0; i++)
		spin_metrics(&spins[i]);
	free(spins);
	return r;
}

static void
defaults(struct bench_options *o)
{
	o->cores[0] = 0;
	o->cores[1] = 1;
	o->cores_count = 2;
}

const struct bench_scenario bench_limit_stalls = {
	.group = "limit",
	.name = "stalls",
	.summary = "gaps that spinning cores see: the machine's own stalls",
	.help = "One thread on each of --cores reads its clock and nothing else. Gaps of 1 us and\n"
		"more are counted; `lost` is the share of time in them.\n",
	.defaults = defaults,
	.run = stalls_run,
};
