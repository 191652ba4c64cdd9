/* SPDX-License-Identifier: Apache-2.0 */
#include "metrics_text.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS	     1024u /* of the table of names; metrics beyond 3/4 of it share the last */
#define NAME_BYTES   96u
#define LABELS_BYTES 2048u
#define LABELS_MAX   16

struct hfb_metric {
	struct hfb_metrics_text *text;
	struct hfb_metric *next; /* in the order they came */
	char name[NAME_BYTES];
	const char *help;
	enum hfb_metric_type type;
	char *bytes;
	size_t size, capacity;
};

struct hfb_metrics_text {
	bool failed;
	uint32_t count;
	struct hfb_metric *first, *last;
	struct hfb_metric *slots[SLOTS];
	struct hfb_metric nowhere; /* takes what cannot be kept */
};

struct hfb_metrics_text *
hfb_metrics_text_create(void)
{
	struct hfb_metrics_text *text = calloc(1, sizeof(*text));

	if (text != NULL)
		text->nowhere.text = text;
	return text;
}

static bool
name_char(char c, bool first)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
	       (!first && c >= '0' && c <= '9');
}

struct hfb_metric *
hfb_metric_find(struct hfb_metrics_text *text, const char *name, enum hfb_metric_type type,
		const char *help)
{
	char clean[NAME_BYTES];
	uint32_t hash = 2166136261u; /* FNV-1a */
	struct hfb_metric *metric;
	size_t n;

	for (n = 0; name[n] != '\0' && n < sizeof(clean) - 1; n++) {
		clean[n] = name_char(name[n], n == 0) ? name[n] : '_';
		hash = (hash ^ (unsigned char)clean[n]) * 16777619u;
	}
	clean[n] = '\0';
	for (uint32_t i = hash % SLOTS;; i = (i + 1) % SLOTS) {
		metric = text->slots[i];
		if (metric != NULL && strcmp(metric->name, clean) == 0)
			return metric;
		if (metric != NULL)
			continue;
		metric = text->count < SLOTS / 4 * 3 ? calloc(1, sizeof(*metric)) : NULL;
		if (metric == NULL) {
			text->failed = true;
			return &text->nowhere;
		}
		text->slots[i] = metric;
		text->count++;
		break;
	}
	metric->text = text;
	memcpy(metric->name, clean, sizeof(clean));
	metric->type = type;
	metric->help = help;
	if (text->last != NULL)
		text->last->next = metric;
	else
		text->first = metric;
	text->last = metric;
	return metric;
}

static void
append(struct hfb_metric *metric, const char *bytes, size_t size)
{
	if (metric == &metric->text->nowhere || metric->text->failed)
		return;
	if (metric->size + size > metric->capacity) {
		size_t capacity = metric->capacity * 2 + size + 256;
		char *grown = realloc(metric->bytes, capacity);

		if (grown == NULL) {
			metric->text->failed = true;
			return;
		}
		metric->bytes = grown;
		metric->capacity = capacity;
	}
	memcpy(metric->bytes + metric->size, bytes, size);
	metric->size += size;
}

static size_t
put_char(char *to, size_t at, char c)
{
	if (at < LABELS_BYTES)
		to[at++] = c;
	return at;
}

/* One byte of a value; it must be UTF-8, so what is beyond ASCII becomes '?'. */
static size_t
put_value(char *to, size_t at, char c)
{
	if (c == '"' || c == '\\') {
		at = put_char(to, at, '\\');
		return put_char(to, at, c);
	}
	return put_char(to, at, c >= ' ' && c <= '~' ? c : '?');
}

/*
 * "a=1,b=2" to {a="1",b="2"}. A piece without '=' belongs to the value before it, which had
 * a comma; a name that is there already is left out.
 */
static size_t
labels_format(char to[LABELS_BYTES], const char *labels, const char *more)
{
	const char *seen[LABELS_MAX];
	size_t seen_sizes[LABELS_MAX], at = 0;
	int count = 0;
	bool open = false, skip = false;

	while (*labels != '\0') {
		const char *end = strchrnul(labels, ',');
		const char *equals = memchr(labels, '=', (size_t)(end - labels));
		const char *value = equals != NULL ? equals + 1 : labels;

		if (equals != NULL && equals > labels) {
			size_t n = (size_t)(equals - labels);

			if (open)
				at = put_char(to, at, '"');
			open = false;
			skip = count == LABELS_MAX;
			for (int i = 0; i < count; i++)
				skip |= seen_sizes[i] == n && memcmp(seen[i], labels, n) == 0;
			if (!skip) {
				seen[count] = labels;
				seen_sizes[count++] = n;
				at = put_char(to, at, at == 0 ? '{' : ',');
				for (size_t i = 0; i < n; i++)
					at = put_char(to, at,
						      name_char(labels[i], i == 0) ? labels[i]
										   : '_');
				at = put_char(to, at, '=');
				at = put_char(to, at, '"');
				open = true;
			}
		} else if (open) {
			at = put_value(to, at, ',');
		}
		for (; open && !skip && value < end; value++)
			at = put_value(to, at, *value);
		labels = *end == ',' ? end + 1 : end;
	}
	if (open)
		at = put_char(to, at, '"');
	if (more[0] != '\0') {
		at = put_char(to, at, at == 0 ? '{' : ',');
		for (; *more != '\0'; more++)
			at = put_char(to, at, *more);
	}
	if (at > 0)
		at = put_char(to, at, '}');
	return at;
}

static void
line(struct hfb_metric *metric, const char *suffix, const char *labels, const char *more,
     const char *value)
{
	char text[LABELS_BYTES];
	size_t n = labels_format(text, labels, more);

	/* A half sample would spoil all: labels are short, this is one that is not ours. */
	if (n >= sizeof(text))
		return;
	append(metric, metric->name, strlen(metric->name));
	append(metric, suffix, strlen(suffix));
	append(metric, text, n);
	append(metric, " ", 1);
	append(metric, value, strlen(value));
	append(metric, "\n", 1);
}

void
hfb_metric_add(struct hfb_metric *metric, uint64_t value, const char *labels)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	line(metric, "", labels, "", text);
}

void
hfb_metric_add_double(struct hfb_metric *metric, double value, const char *labels)
{
	char text[40];

	snprintf(text, sizeof(text), "%.15g", value);
	line(metric, "", labels, "", text);
}

void
hfb_metric_add_bucket(struct hfb_metric *metric, double le, uint64_t count, const char *labels)
{
	char text[24], more[48];

	if (le < 0)
		snprintf(more, sizeof(more), "le=\"+Inf\"");
	else
		snprintf(more, sizeof(more), "le=\"%.9g\"", le);
	snprintf(text, sizeof(text), "%" PRIu64, count);
	line(metric, "_bucket", labels, more, text);
}

void
hfb_metric_add_sum(struct hfb_metric *metric, double sum, uint64_t count, const char *labels)
{
	char text[40];

	snprintf(text, sizeof(text), "%.15g", sum);
	line(metric, "_sum", labels, "", text);
	snprintf(text, sizeof(text), "%" PRIu64, count);
	line(metric, "_count", labels, "", text);
}

char *
hfb_metrics_text_end(struct hfb_metrics_text *text, size_t *ret_size)
{
	static const char *const types[] = { "counter", "gauge", "histogram" };
	struct hfb_metric *metric, *next;
	char *bytes = NULL;
	size_t size = 0;
	FILE *out = text->failed ? NULL : open_memstream(&bytes, &size);
	bool good = out != NULL;

	for (metric = text->first; metric != NULL; metric = next) {
		next = metric->next;
		if (good && metric->size > 0) {
			fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", metric->name, metric->help,
				metric->name, types[metric->type]);
			fwrite(metric->bytes, 1, metric->size, out);
		}
		free(metric->bytes);
		free(metric);
	}
	free(text);
	if (out != NULL)
		good = !ferror(out) && fclose(out) == 0;
	if (!good) {
		free(bytes);
		return NULL;
	}
	*ret_size = size;
	return bytes;
}
