/* SPDX-License-Identifier: Apache-2.0 */
#include "metrics.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <hfbus/log.h>

struct counters_arg {
	struct hfb_metrics_text *text;
	uint64_t tsc_hz;
};

/* Does @name have the part @unit, alone or before "_total"? Its length without it. */
static bool
has_unit(const char *name, const char *unit, size_t *ret_stem, const char **ret_rest)
{
	const char *total = strstr(name, "_total");
	size_t size = total != NULL && total[6] == '\0' ? (size_t)(total - name) : strlen(name);
	size_t unit_size = strlen(unit);

	if (size <= unit_size || memcmp(name + size - unit_size, unit, unit_size) != 0)
		return false;
	*ret_stem = size - unit_size;
	*ret_rest = name + size;
	return true;
}

static void
counter_add(void *arg, const struct hfb_counter_descriptor *d, uint64_t value)
{
	const struct counters_arg *a = arg;
	enum hfb_metric_type type =
		d->kind == HFB_COUNTER_GAUGE ? HFB_METRIC_GAUGE : HFB_METRIC_COUNTER;
	double per_second = 0;
	const char *rest = "";
	char name[96];
	struct hfb_metric *metric;
	size_t stem = 0;

	if (has_unit(d->name, "_tsc", &stem, &rest)) {
		if (a->tsc_hz == 0)
			return;
		per_second = (double)a->tsc_hz;
	} else if (has_unit(d->name, "_ns", &stem, &rest)) {
		per_second = 1e9;
	}
	if (per_second > 0)
		snprintf(name, sizeof(name), "hfbus_%.*s_seconds%s", (int)stem, d->name, rest);
	else
		snprintf(name, sizeof(name), "hfbus_%s", d->name);
	metric = hfb_metric_find(a->text, name, type, hfb_metrics_help(d->name));
	if (per_second > 0)
		hfb_metric_add_double(metric, (double)value / per_second, d->labels);
	else
		hfb_metric_add(metric, value, d->labels);
}

/* Bounds are powers of two and halfway between: a bucket of ours never spans one. */
#define BOUND_FIRST 10u /* 2^10 ns are a microsecond */
#define BOUND_LAST  34u /* 17 s */

static void
histogram_add(void *arg, const struct hfb_histogram_descriptor *d, const struct hfb_histogram *h)
{
	const struct counters_arg *a = arg;
	bool is_time = strcmp(d->unit, "ns") == 0;
	double scale = is_time ? 1e-9 : 1;
	uint64_t below = 0, bound = 1u << BOUND_FIRST;
	struct hfb_metric *metric;
	char name[96];
	uint32_t i = 0;

	snprintf(name, sizeof(name), "hfbus_%s_%s", d->name, is_time ? "seconds" : d->unit);
	metric = hfb_metric_find(a->text, name, HFB_METRIC_HISTOGRAM, hfb_metrics_help(d->name));
	for (uint32_t octave = BOUND_FIRST; octave <= BOUND_LAST; octave++) {
		for (uint32_t half = 0; half < 2 && !(half == 1 && octave == BOUND_LAST); half++) {
			bound = (1ull << octave) + half * (1ull << (octave - 1));
			while (i < h->buckets - 1 && hfb_histogram_bucket_last(h->bits, i) < bound)
				below += __atomic_load_n(&h->counts[i++], __ATOMIC_RELAXED);
			hfb_metric_add_bucket(metric, (double)bound * scale, below, d->labels);
		}
	}
	for (; i < h->buckets; i++)
		below += __atomic_load_n(&h->counts[i], __ATOMIC_RELAXED);
	hfb_metric_add_bucket(metric, -1, below, d->labels);
	hfb_metric_add_sum(metric, (double)__atomic_load_n(&h->sum, __ATOMIC_RELAXED) * scale,
			   below, d->labels);
}

void
hfb_metrics_counters(struct hfb_metrics_text *text, const struct hfb_counters_view *view,
		     uint64_t tsc_hz)
{
	struct counters_arg arg = { text, tsc_hz };

	hfb_metric_add_double(hfb_metric_find(text, "hfbus_started_timestamp_seconds",
					      HFB_METRIC_GAUGE, "When hfbusd started, UTC."),
			      (double)view->header->started_ns / 1e9, "");
	(void)hfb_counters_each(view, counter_add, &arg);
	(void)hfb_counters_histograms_each(view, histogram_add, &arg);
}

static uint64_t
position_of(const struct hfb_mark *mark)
{
	return __atomic_load_n(&mark->position, __ATOMIC_ACQUIRE);
}

static uint64_t
offset_of(const struct hfb_mark *mark)
{
	return __atomic_load_n(&mark->offset, __ATOMIC_RELAXED);
}

struct partition_metrics {
	struct hfb_metric *start, *received, *durable, *committed, *bytes, *kept, *behind;
};

static void
partition_add(const struct partition_metrics *m, const struct hfb_positions *p)
{
	/* The later stages first: what is behind is then never less than nothing for long. */
	uint64_t start = position_of(&p->start), durable = position_of(&p->durable);
	uint64_t received = position_of(&p->received);
	char labels[300];

	snprintf(labels, sizeof(labels), "topic=%.255s,partition=%u", p->topic_name, p->partition);
	hfb_metric_add(m->start, offset_of(&p->start), labels);
	hfb_metric_add(m->committed, offset_of(&p->committed), labels);
	hfb_metric_add(m->durable, offset_of(&p->durable), labels);
	hfb_metric_add(m->received, offset_of(&p->received), labels);
	hfb_metric_add(m->bytes, received, labels);
	hfb_metric_add(m->kept, received > start ? received - start : 0, labels);
	hfb_metric_add(m->behind, received > durable ? received - durable : 0, labels);
}

void
hfb_metrics_partitions(struct hfb_metrics_text *text, const struct hfb_positions *positions,
		       uint32_t count)
{
	static const char *const states[] = { "closed", "open", "no_space", "failed" };
	uint64_t in_state[4] = { 0 };
	struct hfb_metric *state;
	struct partition_metrics m = {
		.start = hfb_metric_find(text, "hfbus_partition_start_offset", HFB_METRIC_GAUGE,
					 "First offset that retention has kept."),
		.received = hfb_metric_find(text, "hfbus_partition_received_offset",
					    HFB_METRIC_GAUGE, "Offset of the next event to come."),
		.durable = hfb_metric_find(text, "hfbus_partition_durable_offset", HFB_METRIC_GAUGE,
					   "Offset up to which all events are on disk."),
		.committed =
			hfb_metric_find(text, "hfbus_partition_committed_offset", HFB_METRIC_GAUGE,
					"Offset up to which consumers are served."),
		.bytes = hfb_metric_find(text, "hfbus_partition_received_bytes_total",
					 HFB_METRIC_COUNTER,
					 "Bytes of the log from its beginning, with what retention "
					 "has dropped."),
		.kept = hfb_metric_find(text, "hfbus_partition_kept_bytes", HFB_METRIC_GAUGE,
					"Bytes of the log that are kept."),
		.behind =
			hfb_metric_find(text, "hfbus_partition_not_durable_bytes", HFB_METRIC_GAUGE,
					"Bytes received that are not on disk yet."),
	};

	for (uint32_t i = 0; i < count; i++) {
		const struct hfb_positions *p = &positions[i];
		uint32_t s = __atomic_load_n(&p->state, __ATOMIC_RELAXED);

		if (__atomic_load_n(&p->handle_used, __ATOMIC_ACQUIRE) != 1 || s >= 4)
			continue;
		in_state[s]++;
		partition_add(&m, p);
	}
	state = hfb_metric_find(text, "hfbus_partitions_in_state", HFB_METRIC_GAUGE,
				"Partitions by state; no_space and failed refuse events.");
	for (uint32_t s = 0; s < 4; s++) {
		char labels[32];

		snprintf(labels, sizeof(labels), "state=%s", states[s]);
		hfb_metric_add(state, in_state[s], labels);
	}
}

void
hfb_metrics_host(struct hfb_metrics_text *text, const char *dir)
{
	struct statvfs fs;
	struct rusage usage;
	unsigned long long pages = 0;
	FILE *statm;

	if (statvfs(dir, &fs) == 0) {
		hfb_metric_add(hfb_metric_find(text, "hfbus_disk_size_bytes", HFB_METRIC_GAUGE,
					       "Size of the file system of the data folder."),
			       (uint64_t)fs.f_blocks * fs.f_frsize, "");
		hfb_metric_add(hfb_metric_find(text, "hfbus_disk_free_bytes", HFB_METRIC_GAUGE,
					       "Bytes of it that hfbusd may still use."),
			       (uint64_t)fs.f_bavail * fs.f_frsize, "");
	}
	if (getrusage(RUSAGE_SELF, &usage) == 0)
		hfb_metric_add_double(
			hfb_metric_find(text, "process_cpu_seconds_total", HFB_METRIC_COUNTER,
					"CPU time of hfbus-control."),
			(double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
				(double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6,
			"");
	statm = fopen("/proc/self/statm", "re");
	if (statm == NULL)
		return;
	if (fscanf(statm, "%*u %llu", &pages) == 1)
		hfb_metric_add(hfb_metric_find(text, "process_resident_memory_bytes",
					       HFB_METRIC_GAUGE, "Memory of hfbus-control."),
			       (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE), "");
	fclose(statm);
}
