/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compare.c - `hfbus-bench compare`: what moved between two results.
 *
 * Takes results.json of `make bench` (figures with their raw limit) and what a
 * scenario prints with --json. A figure that has a ratio to its raw limit in both is
 * judged by that: the machine's own ups and downs are in both halves of it.
 */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define FIGURES_MAX 4096u

struct figure {
	char name[160]; /* what both files call it */
	char unit[24];
	bool lower_is_better, failed, has_ratio;
	double value, ratio;
};

struct figures {
	struct figure *figure;
	uint32_t count;
};

enum verdict { SAME, BETTER, WORSE, FAILED, MISSING, NEW, VERDICTS };

static const char *const verdicts[VERDICTS] = { "same",	  "better",  "WORSE",
						"FAILED", "MISSING", "new" };

struct row {
	const struct figure *a, *b; /* one of them may be NULL */
	double change;		    /* percent of what is judged; above 0 is more */
	bool by_ratio;
	enum verdict verdict;
};

/* Time and what is lost are better small, rates are better large. */
static bool
unit_lower_is_better(const char *unit)
{
	static const char *const lower[] = { "ns", "us", "ms", "s", "%", "bursts", "errors" };

	for (uint32_t i = 0; i < sizeof(lower) / sizeof(lower[0]); i++) {
		if (strcmp(unit, lower[i]) == 0)
			return true;
	}
	return false;
}

/* Reading -------------------------------------------------------------------------- */

static struct figure *
figure_add(struct figures *f)
{
	struct figure *grown;

	if (f->count == FIGURES_MAX)
		return NULL;
	grown = realloc(f->figure, (f->count + 1) * sizeof(*grown));
	if (grown == NULL)
		return NULL;
	f->figure = grown;
	memset(&grown[f->count], 0, sizeof(*grown));
	return &grown[f->count++];
}

static const char *
text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text != NULL ? text : "";
}

/* One of results.json. */
static int
figure_read(struct figures *f, const json_t *one, const char *path, size_t at, struct hfb_err *err)
{
	const json_t *budget = json_object_get(one, "budget"), *value, *ratio;
	const char *metric = text_of(one, "metric"), *which = text_of(one, "case");
	const char *better = text_of(one, "better");
	struct figure *to;

	if (!json_is_integer(budget) || *metric == '\0')
		return hfb_err_set(err, -EINVAL, "%s: figure %zu has no budget and metric", path,
				   at + 1);
	to = figure_add(f);
	if (to == NULL)
		return hfb_err_set(err, -E2BIG, "%s has more than %u figures", path, FIGURES_MAX);
	snprintf(to->name, sizeof(to->name), "%d %s%s%s", (int)json_integer_value(budget), which,
		 *which != '\0' ? ", " : "", metric);
	snprintf(to->unit, sizeof(to->unit), "%s", text_of(one, "unit"));
	to->lower_is_better =
		*better != '\0' ? strcmp(better, "lower") == 0 : unit_lower_is_better(to->unit);
	value = json_object_get(one, "hfbus");
	ratio = json_object_get(one, "ratio");
	to->failed = !json_is_number(value);
	to->value = json_number_value(value);
	to->has_ratio = json_is_number(ratio);
	to->ratio = json_number_value(ratio);
	return 0;
}

static int
figures_read(struct figures *f, const json_t *list, const char *path, struct hfb_err *err)
{
	const json_t *one;
	size_t i;
	int r;

	json_array_foreach(list, i, one)
	{
		r = figure_read(f, one, path, i, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* What a scenario prints: each metric's median. */
static int
metrics_read(struct figures *f, const json_t *scenario, json_t *metrics, const char *path,
	     struct hfb_err *err)
{
	const char *name;
	json_t *one;

	json_object_foreach(metrics, name, one)
	{
		const json_t *median = json_object_get(one, "median");
		struct figure *to;

		if (!json_is_number(median))
			return hfb_err_set(err, -EINVAL, "%s: metric %s has no median", path, name);
		to = figure_add(f);
		if (to == NULL)
			return hfb_err_set(err, -E2BIG, "%s has more than %u figures", path,
					   FIGURES_MAX);
		snprintf(to->name, sizeof(to->name), "%s, %s", text_of(scenario, "scenario"), name);
		snprintf(to->unit, sizeof(to->unit), "%s", text_of(one, "unit"));
		to->lower_is_better = unit_lower_is_better(to->unit);
		to->value = json_number_value(median);
	}
	return 0;
}

static int
file_read(struct figures *f, const char *path, struct hfb_err *err)
{
	json_error_t error;
	json_t *root = json_load_file(path, 0, &error), *metrics, *list;
	int r;

	if (root == NULL)
		return error.line > 0 ? hfb_err_set(err, -EINVAL, "%s is not JSON: line %d: %s",
						    path, error.line, error.text)
				      : hfb_err_set(err, -ENOENT, "%s", error.text);
	metrics = json_object_get(root, "metrics");
	list = json_is_array(root) ? root : json_object_get(root, "figures");
	if (json_is_array(list))
		r = figures_read(f, list, path, err);
	else if (json_is_object(metrics))
		r = metrics_read(f, root, metrics, path, err);
	else
		r = hfb_err_set(err, -EINVAL,
				"%s holds neither figures of make bench nor what a scenario "
				"prints with --json",
				path);
	if (r == 0 && f->count == 0)
		r = hfb_err_set(err, -EINVAL, "%s holds no figure", path);
	json_decref(root);
	return r;
}

/* Comparing ------------------------------------------------------------------------- */

static const struct figure *
find(const struct figures *f, const char *name)
{
	for (uint32_t i = 0; i < f->count; i++) {
		if (strcmp(f->figure[i].name, name) == 0)
			return &f->figure[i];
	}
	return NULL;
}

static double
percent(double from, double to)
{
	if (from == to)
		return 0;
	if (from == 0)
		return to > 0 ? 100 : -100;
	return (to - from) / fabs(from) * 100;
}

static struct row
judge(const struct figure *a, const struct figure *b, double threshold)
{
	struct row row = { .a = a, .b = b };
	double gain;

	if (a == NULL || b == NULL) {
		row.verdict = a == NULL ? NEW : MISSING;
		return row;
	}
	if (a->failed || b->failed) {
		/* it came back, or it was not there before either */
		row.verdict = b->failed ? FAILED : NEW;
		return row;
	}
	row.by_ratio = a->has_ratio && b->has_ratio;
	row.change = row.by_ratio ? percent(a->ratio, b->ratio) : percent(a->value, b->value);
	gain = a->lower_is_better ? -row.change : row.change;
	row.verdict = gain < -threshold ? WORSE : gain > threshold ? BETTER : SAME;
	return row;
}

/* Rows in the order of @a, then what only @b has. Returns their number. */
static uint32_t
rows_make(const struct figures *a, const struct figures *b, double threshold, struct row *to)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < a->count; i++)
		to[count++] = judge(&a->figure[i], find(b, a->figure[i].name), threshold);
	for (uint32_t i = 0; i < b->count; i++) {
		if (find(a, b->figure[i].name) == NULL)
			to[count++] = judge(NULL, &b->figure[i], threshold);
	}
	return count;
}

static bool
is_bad(const struct row *row)
{
	return row->verdict == WORSE || row->verdict == FAILED || row->verdict == MISSING;
}

/* Showing --------------------------------------------------------------------------- */

static const char *
value_text(const struct figure *f, char *to, size_t size)
{
	if (f == NULL)
		snprintf(to, size, "-");
	else if (f->failed)
		snprintf(to, size, "failed");
	else if (fabs(f->value) >= 1e6)
		snprintf(to, size, "%.2f M", f->value / 1e6);
	else if (fabs(f->value) >= 1e4)
		snprintf(to, size, "%.1f k", f->value / 1e3);
	else
		snprintf(to, size, "%.3g", f->value);
	return to;
}

static const char *
ratio_text(const struct figure *f, char *to, size_t size)
{
	if (f == NULL || f->failed || !f->has_ratio)
		snprintf(to, size, "-");
	else
		snprintf(to, size, "%.3f", f->ratio);
	return to;
}

static void
table_print(const struct row *rows, uint32_t count, double threshold)
{
	uint32_t bad = 0, better = 0;

	printf("%-52s %-9s %10s %10s %8s %8s %8s\n", "", "unit", "A", "B", "A/raw", "B/raw",
	       "moved");
	for (uint32_t i = 0; i < count; i++) {
		const struct row *row = &rows[i];
		const struct figure *f = row->a != NULL ? row->a : row->b;
		char a[32], b[32], ra[32], rb[32], moved[32] = "";

		bad += is_bad(row);
		better += row->verdict == BETTER;
		if (row->verdict <= WORSE)
			snprintf(moved, sizeof(moved), "%+.1f %%", row->change);
		printf("%-52s %-9s %10s %10s %8s %8s %8s  %s\n", f->name, f->unit,
		       value_text(row->a, a, sizeof(a)), value_text(row->b, b, sizeof(b)),
		       ratio_text(row->a, ra, sizeof(ra)), ratio_text(row->b, rb, sizeof(rb)),
		       moved, row->verdict != SAME ? verdicts[row->verdict] : "");
	}
	printf("%u figures: %u worse, failed or missing, %u better, by more than %g %%\n", count,
	       bad, better, threshold);
}

static json_t *
number_or_null(const struct figure *f, bool ratio)
{
	if (f == NULL || f->failed || (ratio && !f->has_ratio))
		return json_null();
	return json_real(ratio ? f->ratio : f->value);
}

static void
json_print(const struct row *rows, uint32_t count, double threshold)
{
	json_t *list = json_array(), *root;
	json_int_t bad = 0, better = 0;

	for (uint32_t i = 0; i < count; i++) {
		const struct row *row = &rows[i];
		const struct figure *f = row->a != NULL ? row->a : row->b;
		char verdict[16];

		bad += is_bad(row);
		better += row->verdict == BETTER;
		snprintf(verdict, sizeof(verdict), "%s", verdicts[row->verdict]);
		for (char *c = verdict; *c != '\0'; c++)
			*c = (char)(*c >= 'A' && *c <= 'Z' ? *c + 32 : *c);
		json_array_append_new(
			list,
			json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:s, s:s}", "figure",
				  f->name, "unit", f->unit, "a", number_or_null(row->a, false), "b",
				  number_or_null(row->b, false), "a_ratio",
				  number_or_null(row->a, true), "b_ratio",
				  number_or_null(row->b, true), "moved_percent",
				  row->verdict <= WORSE ? json_real(row->change) : json_null(),
				  "by", row->by_ratio ? "ratio" : "value", "verdict", verdict));
	}
	root = json_pack("{s:f, s:I, s:I, s:o}", "threshold_percent", threshold, "worse", bad,
			 "better", better, "figures", list);
	json_dumpf(root, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
	putchar('\n');
	json_decref(root);
}

static void
usage(FILE *to)
{
	fputs("usage: hfbus-bench compare [options] A.json B.json\n"
	      "Show what moved from A to B: results.json of make bench, or what a scenario\n"
	      "prints with --json. Where both have a ratio to the raw limit, that is compared.\n\n"
	      "  --threshold PERCENT  what counts as moved (10)\n"
	      "  --json               one JSON object instead of the table\n"
	      "  --help               this text\n\n"
	      "Exit: 0 nothing got worse by more than the threshold, 1 something did, failed or\n"
	      "is missing in B, 2 usage or a file that cannot be read.\n",
	      to);
}

static int
compare_main(int argc, char **argv)
{
	static const struct option list[] = {
		{ "threshold", 1, NULL, 't' },
		{ "json", 0, NULL, 'j' },
		{ "help", 0, NULL, 'h' },
		{ 0 },
	};
	struct figures a = { 0 }, b = { 0 };
	struct row *rows = NULL;
	struct hfb_err err = { 0 };
	double threshold = 10;
	bool json = false;
	int result = BENCH_EXIT_USAGE, c;
	uint32_t count;
	char *end;

	while ((c = getopt_long(argc, argv, "", list, NULL)) != -1) {
		switch (c) {
		case 't':
			threshold = strtod(optarg, &end);
			if (end == optarg || *end != '\0' || !(threshold >= 0 && threshold < 1e6)) {
				fprintf(stderr,
					"%s: --threshold takes a number of percent, not '%s'\n",
					argv[0], optarg);
				return BENCH_EXIT_USAGE;
			}
			break;
		case 'j':
			json = true;
			break;
		case 'h':
			usage(stdout);
			return BENCH_EXIT_OK;
		default:
			usage(stderr);
			return BENCH_EXIT_USAGE;
		}
	}
	if (optind + 2 != argc) {
		usage(stderr);
		return BENCH_EXIT_USAGE;
	}
	if (file_read(&a, argv[optind], &err) < 0 || file_read(&b, argv[optind + 1], &err) < 0) {
		fprintf(stderr, "%s: %s\n", argv[0], err.text);
		goto out;
	}
	rows = calloc(a.count + b.count, sizeof(*rows));
	if (rows == NULL)
		goto out;
	count = rows_make(&a, &b, threshold, rows);
	if (json)
		json_print(rows, count, threshold);
	else
		table_print(rows, count, threshold);
	result = BENCH_EXIT_OK;
	for (uint32_t i = 0; i < count; i++) {
		if (is_bad(&rows[i]))
			result = BENCH_EXIT_FAILED;
	}
out:
	free(rows);
	free(a.figure);
	free(b.figure);
	return result;
}

const struct bench_scenario bench_compare = {
	.name = "compare",
	.summary = "what moved between two results, and whether it got worse",
	.main = compare_main,
};
