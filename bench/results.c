/* SPDX-License-Identifier: Apache-2.0 */
/*
 * results.c - what repetitions gave, and how it is shown.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "bug.h"
#include "bench_private.h"

#define METRICS_MAX	256u
#define LATENCIES_MAX	16u
#define NOTES_MAX	16u
#define METRIC_NAME_MAX 48u
#define RANGE_BITS	40u /* 18 minutes in ns */

struct metric {
	char name[METRIC_NAME_MAX], unit[16];
	double runs[BENCH_REPEAT_MAX];
	uint32_t runs_count;
};

struct latency {
	char name[METRIC_NAME_MAX - 8];
	struct hfb_histogram *now, *all; /* of this repetition, of all */
};

struct bench_results {
	struct metric *metrics[METRICS_MAX];
	uint32_t metrics_count;
	struct latency latencies[LATENCIES_MAX];
	uint32_t latencies_count;
	char notes[NOTES_MAX][200];
	uint32_t notes_count;
};

static const struct {
	const char *name;
	double q;
} quantiles[] = { { "p50", 0.5 },     { "p90", 0.9 },	    { "p99", 0.99 },
		  { "p99.9", 0.999 }, { "p99.99", 0.9999 }, { "max", 1.0 } };

#define QUANTILES (sizeof(quantiles) / sizeof(quantiles[0]))

struct hfb_histogram *
bench_histogram(void)
{
	struct hfb_histogram *h = malloc(hfb_histogram_bytes(HFB_HISTOGRAM_BITS_FINE, RANGE_BITS));

	hfb_assert(h != NULL);
	hfb_histogram_init(h, HFB_HISTOGRAM_BITS_FINE, RANGE_BITS);
	return h;
}

struct bench_results *
bench_results_create(void)
{
	struct bench_results *r = calloc(1, sizeof(*r));

	hfb_assert(r != NULL);
	return r;
}

void
bench_results_destroy(struct bench_results *r)
{
	for (uint32_t i = 0; i < r->metrics_count; i++)
		free(r->metrics[i]);
	for (uint32_t i = 0; i < r->latencies_count; i++) {
		free(r->latencies[i].now);
		free(r->latencies[i].all);
	}
	free(r);
}

static struct metric *
metric_find(struct bench_results *r, const char *name)
{
	for (uint32_t i = 0; i < r->metrics_count; i++)
		if (strcmp(r->metrics[i]->name, name) == 0)
			return r->metrics[i];
	return NULL;
}

void
bench_metric(struct bench *b, const char *name, const char *unit, double value)
{
	struct bench_results *r = b->results;
	struct metric *m = metric_find(r, name);

	if (m == NULL) {
		hfb_assert(r->metrics_count < METRICS_MAX);
		m = calloc(1, sizeof(*m));
		hfb_assert(m != NULL);
		snprintf(m->name, sizeof(m->name), "%s", name);
		snprintf(m->unit, sizeof(m->unit), "%s", unit);
		r->metrics[r->metrics_count++] = m;
	}
	hfb_assert(m->runs_count <= b->repetition);
	m->runs[m->runs_count++] = value;
}

struct hfb_histogram *
bench_latency(struct bench *b, const char *name)
{
	struct bench_results *r = b->results;
	struct latency *l;

	for (uint32_t i = 0; i < r->latencies_count; i++)
		if (strcmp(r->latencies[i].name, name) == 0)
			return r->latencies[i].now;
	hfb_assert(r->latencies_count < LATENCIES_MAX);
	l = &r->latencies[r->latencies_count++];
	snprintf(l->name, sizeof(l->name), "%s", name);
	l->now = bench_histogram();
	l->all = bench_histogram();
	return l->now;
}

void
bench_note(struct bench *b, const char *format, ...)
{
	struct bench_results *r = b->results;
	char text[sizeof(r->notes[0])];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	for (uint32_t i = 0; i < r->notes_count; i++)
		if (strcmp(r->notes[i], text) == 0)
			return;
	if (r->notes_count < NOTES_MAX)
		memcpy(r->notes[r->notes_count++], text, sizeof(text));
}

void
bench_results_repetition_end(struct bench *b)
{
	struct bench_results *r = b->results;

	for (uint32_t i = 0; i < r->latencies_count; i++) {
		struct latency *l = &r->latencies[i];

		if (hfb_histogram_count(l->now) == 0)
			continue;
		for (uint32_t q = 0; q < QUANTILES; q++) {
			char name[METRIC_NAME_MAX];

			snprintf(name, sizeof(name), "%s.%s", l->name, quantiles[q].name);
			bench_metric(b, name, "us",
				     (double)hfb_histogram_quantile(l->now, quantiles[q].q) / 1e3);
		}
		hfb_histogram_merge(l->all, l->now);
		hfb_histogram_clear(l->now);
	}
}

static int
compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void
metric_summary(const struct metric *m, double *ret_min, double *ret_median, double *ret_max)
{
	double sorted[BENCH_REPEAT_MAX];
	uint32_t n = m->runs_count;

	memcpy(sorted, m->runs, n * sizeof(sorted[0]));
	qsort(sorted, n, sizeof(sorted[0]), compare);
	*ret_min = sorted[0];
	*ret_max = sorted[n - 1];
	*ret_median = n % 2 == 1 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

/* Four figures that count, with k, M or G where there are many before the point. */
static const char *
short_number(double value, char *to, size_t size)
{
	static const struct {
		double from;
		const char *suffix;
	} steps[] = { { 1e9, " G" }, { 1e6, " M" }, { 1e4, " k" }, { 0, "" } };
	uint32_t i = 0;
	double shown;

	while (steps[i].from > 0 && value < steps[i].from)
		i++;
	shown = steps[i].from == 1e4 ? value / 1e3
		: steps[i].from > 0  ? value / steps[i].from
				     : value;
	if (shown == (double)(int64_t)shown && shown < 1e4)
		snprintf(to, size, "%.0f%s", shown, steps[i].suffix);
	else
		snprintf(to, size, "%.*f%s",
			 shown < 10    ? 3
			 : shown < 100 ? 2
				       : 1,
			 shown, steps[i].suffix);
	return to;
}

void
bench_results_print(const struct bench *b, FILE *to)
{
	const struct bench_results *r = b->results;
	char title[BENCH_TITLE_MAX], a[32], c[32], d[32];
	double min, median, max;

	bench_title(b->scenario, title, sizeof(title));
	fprintf(to, "%s: %" PRIu32 " x %.3g s after %.3g s\n", title, b->options.repeat,
		(double)b->options.duration_ns / 1e9, (double)b->options.warmup_ns / 1e9);
	fprintf(to, "%-28s %-10s %12s %12s %12s\n", "", "", "min", "median", "max");
	for (uint32_t i = 0; i < r->metrics_count; i++) {
		const struct metric *m = r->metrics[i];

		metric_summary(m, &min, &median, &max);
		fprintf(to, "%-28s %-10s %12s %12s %12s\n", m->name, m->unit,
			short_number(min, a, sizeof(a)), short_number(median, c, sizeof(c)),
			short_number(max, d, sizeof(d)));
	}
	for (uint32_t i = 0; i < r->notes_count; i++)
		fprintf(to, "%s\n", r->notes[i]);
	if (bench_stop)
		fprintf(to, "stopped before the end\n");
}

void
bench_results_json(const struct bench *b, FILE *to)
{
	const struct bench_results *r = b->results;
	json_t *all = json_object(), *metrics = json_object(), *curves = json_object();
	json_t *notes = json_array();
	double min, median, max;
	char title[BENCH_TITLE_MAX];

	bench_title(b->scenario, title, sizeof(title));
	json_object_set_new(all, "scenario", json_string(title + strlen("hfbus-bench ")));
	json_object_set_new(all, "options", bench_options_json(b->scenario, &b->options));
	json_object_set_new(all, "machine", bench_machine_json());
	for (uint32_t i = 0; i < r->metrics_count; i++) {
		const struct metric *m = r->metrics[i];
		json_t *one = json_object(), *runs = json_array();

		metric_summary(m, &min, &median, &max);
		for (uint32_t k = 0; k < m->runs_count; k++)
			json_array_append_new(runs, json_real(m->runs[k]));
		json_object_set_new(one, "unit", json_string(m->unit));
		json_object_set_new(one, "runs", runs);
		json_object_set_new(one, "min", json_real(min));
		json_object_set_new(one, "median", json_real(median));
		json_object_set_new(one, "max", json_real(max));
		json_object_set_new(metrics, m->name, one);
	}
	json_object_set_new(all, "metrics", metrics);
	for (uint32_t i = 0; i < r->latencies_count; i++)
		if (hfb_histogram_count(r->latencies[i].all) > 0)
			json_object_set_new(curves, r->latencies[i].name,
					    bench_hdr_json(r->latencies[i].all));
	json_object_set_new(all, "curves", curves);
	for (uint32_t i = 0; i < r->notes_count; i++)
		json_array_append_new(notes, json_string(r->notes[i]));
	json_object_set_new(all, "notes", notes);
	json_object_set_new(all, "stopped", json_boolean(bench_stop != 0));
	json_dumpf(all, to, JSON_COMPACT | JSON_REAL_PRECISION(9));
	fputc('\n', to);
	json_decref(all);
}

/* The first latency goes to FILE, each further one to FILE.NAME. */
int
bench_results_hdr(struct bench *b)
{
	const struct bench_results *r = b->results;
	uint32_t written = 0;

	for (uint32_t i = 0; i < r->latencies_count; i++) {
		const struct latency *l = &r->latencies[i];
		char path[4096];
		bool failed;
		FILE *to;

		if (hfb_histogram_count(l->all) == 0)
			continue;
		snprintf(path, sizeof(path), "%s%s%s", b->options.hdr, written > 0 ? "." : "",
			 written > 0 ? l->name : "");
		to = fopen(path, "w");
		if (to == NULL)
			return hfb_err_set(&b->err, -errno, "cannot write %s: %s, see --hdr", path,
					   strerror(errno));
		bench_hdr_write(l->all, to);
		failed = ferror(to) != 0;
		if (fclose(to) != 0 || failed)
			return hfb_err_set(&b->err, -EIO,
					   "%s could not be written whole, see --hdr", path);
		written++;
	}
	if (written == 0)
		return hfb_err_set(&b->err, -ENODATA,
				   "this scenario measured no latency for --hdr %s",
				   b->options.hdr);
	return 0;
}
