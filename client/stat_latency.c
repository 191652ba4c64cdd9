/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stat_latency.c - reads the histograms named "stage_time", once or twice, and prints them.
 */
#include "stat_latency.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <hfbus/hfbus.h>

#include "cli.h"
#include "clock.h"
#include "stage_times.h"

#define ALL_CORES UINT32_MAX

/* One histogram, copied. */
struct stage {
	char name[48], weight[16];
	uint32_t core; /* ALL_CORES: the sum */
	struct hfb_histogram *h;
};

struct stages {
	struct stage *of;
	uint32_t count, capacity;
	bool failed;
};

static struct hfb_histogram *
histogram_copy(const struct hfb_histogram *from)
{
	struct hfb_histogram *h = malloc(hfb_histogram_bytes(from->bits, from->range_bits));

	if (h == NULL)
		return NULL;
	hfb_histogram_init(h, from->bits, from->range_bits);
	hfb_histogram_merge(h, from);
	return h;
}

static struct stage *
stage_add(struct stages *stages, const char *name, const char *weight, uint32_t core,
	  const struct hfb_histogram *h)
{
	struct stage *s;

	if (stages->count == stages->capacity) {
		uint32_t capacity = stages->capacity == 0 ? 32 : stages->capacity * 2;

		s = realloc(stages->of, capacity * sizeof(*s));
		if (s == NULL)
			goto fail;
		stages->of = s;
		stages->capacity = capacity;
	}
	s = &stages->of[stages->count];
	memset(s, 0, sizeof(*s));
	snprintf(s->name, sizeof(s->name), "%s", name);
	snprintf(s->weight, sizeof(s->weight), "%s", weight);
	s->core = core;
	s->h = histogram_copy(h);
	if (s->h == NULL)
		goto fail;
	stages->count++;
	return s;
fail:
	stages->failed = true;
	return NULL;
}

static void
collect(void *arg, const char *name, const char *labels, const char *unit,
	const struct hfb_histogram *h)
{
	struct stages *stages = (struct stages *)arg;
	char stage[48], weight[16], core[16];

	if (strcmp(name, HFB_STAGE_TIME_NAME) != 0 || strcmp(unit, "ns") != 0 ||
	    !hfb_stat_label(labels, "stage", stage, sizeof(stage)) ||
	    !hfb_stat_label(labels, "weight", weight, sizeof(weight)) ||
	    !hfb_stat_label(labels, "core", core, sizeof(core)))
		return;
	stage_add(stages, stage, weight, (uint32_t)strtoul(core, NULL, 10), h);
}

static struct stage *
stage_find(const struct stages *stages, const char *name, uint32_t core)
{
	for (uint32_t i = 0; i < stages->count; i++)
		if (stages->of[i].core == core && strcmp(stages->of[i].name, name) == 0)
			return &stages->of[i];
	return NULL;
}

static void
stages_free(struct stages *stages)
{
	for (uint32_t i = 0; i < stages->count; i++)
		free(stages->of[i].h);
	free(stages->of);
}

/* What is in @now and not in @before, which another process may have written. */
static bool
stages_subtract(struct stages *now, const struct stages *before)
{
	for (uint32_t i = 0; i < now->count; i++) {
		const struct stage *b = stage_find(before, now->of[i].name, now->of[i].core);

		if (b != NULL && hfb_histogram_subtract(now->of[i].h, b->h) < 0)
			return false;
	}
	return true;
}

static void
stages_sum(struct stages *stages)
{
	uint32_t each = stages->count;

	for (uint32_t i = 0; i < each && !stages->failed; i++) {
		struct stage s = stages->of[i];
		struct stage *sum = stage_find(stages, s.name, ALL_CORES);

		if (sum == NULL)
			stage_add(stages, s.name, s.weight, ALL_CORES, s.h);
		else if (hfb_histogram_merge(sum->h, s.h) < 0)
			stages->failed = true;
	}
}

static json_t *
stage_json(const struct stage *s)
{
	const struct hfb_histogram *h = s->h;
	uint64_t count = hfb_histogram_count(h);
	json_t *o = json_pack("{s:s,s:s,s:I}", "stage", s->name, "weight", s->weight, "count",
			      (json_int_t)count);

	json_object_set_new(o, "core",
			    s->core == ALL_CORES ? json_string("all") : json_integer(s->core));
	if (count == 0)
		return o;
	json_object_set_new(o, "min_ns", json_integer((json_int_t)h->min));
	json_object_set_new(o, "mean_ns", json_real(hfb_histogram_mean(h)));
	json_object_set_new(o, "p50_ns", json_integer((json_int_t)hfb_histogram_quantile(h, 0.5)));
	json_object_set_new(o, "p90_ns", json_integer((json_int_t)hfb_histogram_quantile(h, 0.9)));
	json_object_set_new(o, "p99_ns", json_integer((json_int_t)hfb_histogram_quantile(h, 0.99)));
	json_object_set_new(o, "p99.9_ns",
			    json_integer((json_int_t)hfb_histogram_quantile(h, 0.999)));
	json_object_set_new(o, "max_ns", json_integer((json_int_t)h->max));
	return o;
}

static int
stages_json(const struct stages *stages, uint64_t window_ns)
{
	json_t *root = json_object(), *list = json_array();
	int r;

	json_object_set_new(root, "window_ns",
			    window_ns == 0 ? json_null() : json_integer((json_int_t)window_ns));
	for (uint32_t i = 0; i < stages->count; i++)
		json_array_append_new(list, stage_json(&stages->of[i]));
	json_object_set_new(root, "stages", list);
	r = json_dumpf(root, stdout, JSON_INDENT(1));
	printf("\n");
	json_decref(root);
	return r;
}

static void
stages_print(const struct stages *stages, uint64_t window_ns)
{
	static const double quantiles[] = { 0.5, 0.9, 0.99, 0.999 };

	if (window_ns == 0)
		printf("since hfbusd's start, in microseconds\n");
	else
		printf("in the last %.3f s, in microseconds\n", (double)window_ns / 1e9);
	printf("%-20s %-8s %4s %14s %10s %10s %10s %10s %10s\n", "stage", "of", "core", "count",
	       "p50", "p90", "p99", "p99.9", "max");
	for (uint32_t i = 0; i < stages->count; i++) {
		const struct stage *s = &stages->of[i];
		uint64_t count = hfb_histogram_count(s->h);
		char core[16] = "all";

		if (count == 0)
			continue;
		if (s->core != ALL_CORES)
			snprintf(core, sizeof(core), "%" PRIu32, s->core);
		printf("%-20s %-8s %4s %14" PRIu64, s->name, s->weight, core, count);
		for (size_t q = 0; q < sizeof(quantiles) / sizeof(quantiles[0]); q++)
			printf(" %10.3f", (double)hfb_histogram_quantile(s->h, quantiles[q]) / 1e3);
		printf(" %10.3f\n", (double)s->h->max / 1e3);
	}
}

int
hfb_stat_latency(struct hfb_bus *bus, uint64_t interval_ns, bool json)
{
	struct stages before = { 0 }, now = { 0 };
	uint64_t from_tsc = 0, window_ns = 0;
	int r = HFB_EXIT_FAILED;

	if (interval_ns > 0) {
		struct timespec left = { .tv_sec = (time_t)(interval_ns / 1000000000u),
					 .tv_nsec = (long)(interval_ns % 1000000000u) };

		from_tsc = hfb_clock_tsc();
		hfb_admin_histograms_each(bus, collect, &before);
		while (nanosleep(&left, &left) < 0 && errno == EINTR)
			;
	}
	hfb_admin_histograms_each(bus, collect, &now);
	if (interval_ns > 0)
		window_ns = hfb_clock_tsc_to_ns(hfb_clock_tsc() - from_tsc);
	if (interval_ns > 0 && !stages_subtract(&now, &before)) {
		fprintf(stderr, "hfbus stat: hfbusd was started again meanwhile\n");
		goto out;
	}
	stages_sum(&now);
	if (before.failed || now.failed) {
		fprintf(stderr, "hfbus stat: out of memory\n");
		goto out;
	}
	if (!json)
		stages_print(&now, window_ns);
	else if (stages_json(&now, window_ns) < 0)
		goto out;
	if (fflush(stdout) == 0)
		r = HFB_EXIT_OK;
out:
	stages_free(&before);
	stages_free(&now);
	return r;
}
