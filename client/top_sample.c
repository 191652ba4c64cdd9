/* SPDX-License-Identifier: Apache-2.0 */
#include "top_sample.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "histogram.h"
#include "stat_latency.h"
#include "uuid.h"

static const char *const core_names[] = {
#define X(id, name) name,
	HFB_TOP_CORE(X)
#undef X
};
static const char *const stage_names[] = {
#define X(id, name, weight) name,
	HFB_STAGE_TIMES(X)
#undef X
};

const char *
hfb_top_stage_name(uint32_t stage)
{
	return stage_names[stage];
}

static void
reason_add(struct hfb_top_sample *s, const char *what, const char *reason, uint64_t value)
{
	struct hfb_top_reason *r;

	for (uint32_t i = 0; i < s->reasons_count; i++) {
		r = &s->reasons[i];
		if (strcmp(r->what, what) == 0 && strcmp(r->reason, reason) == 0) {
			r->value += value;
			return;
		}
	}
	if (s->reasons_count == HFB_TOP_REASONS_MAX)
		return;
	r = &s->reasons[s->reasons_count++];
	snprintf(r->what, sizeof(r->what), "%s", what);
	snprintf(r->reason, sizeof(r->reason), "%s", reason);
	r->value = value;
}

static void
counter_take(void *arg, const char *name, const char *labels, int gauge, uint64_t value)
{
	static const char *const losses[] = { "drops_total",	 "produce_refused_total",
					      "rx_missed_total", "rx_no_mbuf_total",
					      "tx_drops_total",	 "disk_errors_total" };
	struct hfb_top_sample *s = (struct hfb_top_sample *)arg;
	char text[48] = "";
	unsigned long core;

	(void)gauge;
	if (strcmp(name, "tsc_hz") == 0)
		s->tsc_hz = value;
	if (strcmp(name, "feed_missing_total") == 0) {
		(void)hfb_stat_label(labels, "cause", text, sizeof(text));
		reason_add(s, name, text, value);
		return;
	}
	for (size_t i = 0; i < sizeof(losses) / sizeof(losses[0]); i++) {
		if (strcmp(name, losses[i]) == 0) {
			(void)hfb_stat_label(labels, "reason", text, sizeof(text));
			reason_add(s, name, text, value);
			return;
		}
	}
	if (!hfb_stat_label(labels, "core", text, sizeof(text)))
		return;
	core = strtoul(text, NULL, 10);
	for (uint32_t i = 0; i < HFB_TOP_CORE_COUNT && core < HFB_CORES_MAX; i++)
		if (strcmp(name, core_names[i]) == 0)
			s->cores[core][i] += value;
}

static void
histogram_take(void *arg, const char *name, const char *labels, const char *unit,
	       const struct hfb_histogram *h)
{
	struct hfb_top_sample *s = (struct hfb_top_sample *)arg;
	char stage[48];

	(void)unit;
	if (strcmp(name, HFB_STAGE_TIME_NAME) != 0 ||
	    !hfb_stat_label(labels, "stage", stage, sizeof(stage)))
		return;
	for (uint32_t i = 0; i < HFB_STAGE_TIMES_COUNT; i++) {
		if (strcmp(stage, stage_names[i]) != 0)
			continue;
		if (s->stages[i] == NULL) {
			s->stages[i] = malloc(hfb_histogram_bytes(h->bits, h->range_bits));
			if (s->stages[i] == NULL) {
				s->failed = true;
				return;
			}
			hfb_histogram_init(s->stages[i], h->bits, h->range_bits);
		}
		(void)hfb_histogram_merge(s->stages[i], h);
	}
}

static uint64_t
position_of(const struct hfb_mark *mark)
{
	return __atomic_load_n(&mark->position, __ATOMIC_ACQUIRE);
}

static void
partitions_take(struct hfb_top_sample *s, const struct hfb_positions *positions)
{
	for (uint32_t i = 0; positions != NULL && i < HFB_PARTITIONS_MAX; i++) {
		const struct hfb_positions *p = &positions[i];
		struct hfb_top_partition *to;

		if (__atomic_load_n(&p->handle_used, __ATOMIC_ACQUIRE) != 1 ||
		    p->state == HFB_PARTITION_DELETED)
			continue;
		if (s->partitions_count == s->partitions_capacity) {
			uint32_t capacity = s->partitions_capacity * 2 + 64;

			to = realloc(s->partitions, capacity * sizeof(*to));
			if (to == NULL) {
				s->failed = true;
				return;
			}
			s->partitions = to;
			s->partitions_capacity = capacity;
		}
		to = &s->partitions[s->partitions_count++];
		memset(to, 0, sizeof(*to));
		snprintf(to->topic, sizeof(to->topic), "%.255s", p->topic_name);
		to->partition = p->partition;
		to->core = p->core;
		to->state = p->state;
		to->handle = i;
		to->uuid = p->topic;
		to->start = position_of(&p->start);
		to->durable = position_of(&p->durable);
		to->position = position_of(&p->received);
		to->offset = __atomic_load_n(&p->received.offset, __ATOMIC_RELAXED);
	}
}

void
hfb_top_clear(struct hfb_top_sample *s)
{
	for (uint32_t i = 0; i < HFB_STAGE_TIMES_COUNT; i++)
		free(s->stages[i]);
	free(s->partitions);
	memset(s, 0, sizeof(*s));
}

int
hfb_top_read(struct hfb_bus *bus, struct hfb_top_sample *s, struct hfb_err *err)
{
	struct timespec now;
	int r;

	hfb_top_clear(s);
	r = hfb_admin_node_get(bus, &s->node, err);
	if (r < 0)
		return r;
	clock_gettime(CLOCK_MONOTONIC, &now);
	s->time_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	(void)hfb_admin_counters_each(bus, counter_take, s);
	(void)hfb_admin_histograms_each(bus, histogram_take, s);
	partitions_take(s, hfb_admin_positions(bus));
	if (!s->failed)
		return 0;
	err->code = -ENOMEM;
	snprintf(err->text, sizeof(err->text), "out of memory");
	return -ENOMEM;
}

static int
by_rate(const void *a, const void *b)
{
	const struct hfb_top_partition *x = a, *y = b;

	if (x->bytes != y->bytes)
		return x->bytes < y->bytes ? 1 : -1;
	if (strcmp(x->topic, y->topic) != 0)
		return strcmp(x->topic, y->topic);
	return x->partition < y->partition ? -1 : 1;
}

static int
by_handle(const void *a, const void *b)
{
	const struct hfb_top_partition *x = a, *y = b;

	return x->handle < y->handle ? -1 : x->handle > y->handle;
}

static void
partition_rates(const struct hfb_top_sample *before, struct hfb_top_sample *now, double seconds)
{
	uint32_t k = 0;

	for (uint32_t i = 0; i < now->partitions_count; i++) {
		struct hfb_top_partition *p = &now->partitions[i];
		const struct hfb_top_partition *was;

		while (k < before->partitions_count && before->partitions[k].handle < p->handle)
			k++;
		was = k < before->partitions_count ? &before->partitions[k] : NULL;
		if (was == NULL || was->handle != p->handle ||
		    !hfb_uuid_equal(&was->uuid, &p->uuid) || was->position > p->position)
			continue; /* it is new */
		p->events =
			p->offset > was->offset ? (double)(p->offset - was->offset) / seconds : 0;
		p->bytes = (double)(p->position - was->position) / seconds;
	}
}

void
hfb_top_rates(struct hfb_top_sample *before, struct hfb_top_sample *now,
	      struct hfb_top_rates *rates)
{
	memset(rates, 0, sizeof(*rates));
	rates->seconds = (double)(now->time_ns - before->time_ns) / 1e9;
	if (rates->seconds <= 0)
		rates->seconds = 1e-9;
	rates->now = now;
	rates->cores_count = now->node.cores < HFB_CORES_MAX ? now->node.cores : HFB_CORES_MAX;
	for (uint32_t c = 0; c < rates->cores_count; c++) {
		for (uint32_t i = 0; i < HFB_TOP_CORE_COUNT; i++) {
			double more = (double)(now->cores[c][i] - before->cores[c][i]);

			if (i <= HFB_TOP_SLEEP)
				more /= now->tsc_hz > 0 ? (double)now->tsc_hz : 1e9;
			rates->cores[c][i] = more / rates->seconds;
		}
	}
	for (uint32_t i = 0; i < now->reasons_count; i++) {
		uint64_t was = 0;

		if (now->reasons[i].value == 0)
			continue;
		for (uint32_t k = 0; k < before->reasons_count; k++)
			if (strcmp(before->reasons[k].what, now->reasons[i].what) == 0 &&
			    strcmp(before->reasons[k].reason, now->reasons[i].reason) == 0)
				was = before->reasons[k].value;
		rates->reasons[rates->reasons_count] = now->reasons[i];
		rates->reason_rates[rates->reasons_count++] =
			(double)(now->reasons[i].value - was) / rates->seconds;
	}
	/* It was sorted by its own rates, if it had any. */
	if (before->partitions_count > 0)
		qsort(before->partitions, before->partitions_count, sizeof(*before->partitions),
		      by_handle);
	partition_rates(before, now, rates->seconds);
	if (now->partitions_count > 0)
		qsort(now->partitions, now->partitions_count, sizeof(*now->partitions), by_rate);
	for (uint32_t i = 0; i < HFB_STAGE_TIMES_COUNT; i++)
		if (now->stages[i] != NULL && before->stages[i] != NULL)
			(void)hfb_histogram_subtract(now->stages[i], before->stages[i]);
}
