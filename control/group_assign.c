/* SPDX-License-Identifier: Apache-2.0 */
#include "group_assign.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bug.h"

#define NOBODY HFB_ASSIGN_NOBODY

struct working {
	const struct hfb_assign_topic *topics;
	uint32_t topics_count;
	const struct hfb_assign_member *members;
	uint32_t members_count;
	uint32_t *order;      /* members by key */
	uint32_t *topics_by;  /* topics by name */
	uint32_t *first;      /* of each topic's partitions in owner */
	uint32_t *owner;      /* member of each partition */
	uint32_t *load;	      /* partitions of each member */
	bool *subscribed;     /* [member * topics_count + topic] */
	uint32_t parts_count; /* of all topics */
};

static const char *const names[HFB_STRATEGIES] = {
	[HFB_STRATEGY_RANGE] = "range",
	[HFB_STRATEGY_ROUND_ROBIN] = "round-robin",
	[HFB_STRATEGY_STICKY] = "cooperative-sticky",
};

const char *
hfb_strategy_name(enum hfb_strategy strategy)
{
	return strategy < HFB_STRATEGIES ? names[strategy] : "?";
}

int
hfb_strategy_parse(const char *name, enum hfb_strategy *ret_strategy)
{
	for (uint32_t i = 0; i < HFB_STRATEGIES; i++) {
		if (strcmp(name, names[i]) == 0) {
			*ret_strategy = (enum hfb_strategy)i;
			return 0;
		}
	}
	return -EINVAL;
}

static int
by_key(const void *a, const void *b, void *arg)
{
	const struct working *w = arg;

	return strcmp(w->members[*(const uint32_t *)a].key, w->members[*(const uint32_t *)b].key);
}

static int
by_name(const void *a, const void *b, void *arg)
{
	const struct working *w = arg;

	return strcmp(w->topics[*(const uint32_t *)a].name, w->topics[*(const uint32_t *)b].name);
}

static bool
reads(const struct working *w, uint32_t member, uint32_t topic)
{
	return w->subscribed[(size_t)member * w->topics_count + topic];
}

static void
give(struct working *w, uint32_t topic, uint32_t partition, uint32_t member)
{
	uint32_t *owner = &w->owner[w->first[topic] + partition];

	if (*owner != NOBODY)
		w->load[*owner]--;
	*owner = member;
	w->load[member]++;
}

static void
range(struct working *w)
{
	for (uint32_t t = 0; t < w->topics_count; t++) {
		uint32_t n = w->topics[t].partitions, m = 0, at = 0, i = 0;

		for (uint32_t k = 0; k < w->members_count; k++)
			m += reads(w, k, t);
		for (uint32_t k = 0; k < w->members_count && m > 0; k++) {
			uint32_t member = w->order[k], run;

			if (!reads(w, member, t))
				continue;
			run = n / m + (i++ < n % m ? 1 : 0);
			for (uint32_t p = 0; p < run; p++)
				give(w, t, at++, member);
		}
	}
}

static void
round_robin(struct working *w)
{
	uint32_t turn = 0;

	for (uint32_t s = 0; s < w->topics_count; s++) {
		uint32_t t = w->topics_by[s];

		for (uint32_t p = 0; p < w->topics[t].partitions; p++) {
			for (uint32_t tries = 0; tries < w->members_count; tries++) {
				uint32_t member = w->order[turn];

				turn = (turn + 1) % w->members_count;
				if (reads(w, member, t)) {
					give(w, t, p, member);
					break;
				}
			}
		}
	}
}

/* The subscriber of @topic with the least to do; the first by key among equals. */
static uint32_t
least_loaded(const struct working *w, uint32_t topic)
{
	uint32_t best = NOBODY;

	for (uint32_t k = 0; k < w->members_count; k++) {
		uint32_t member = w->order[k];

		if (reads(w, member, topic) && (best == NOBODY || w->load[member] < w->load[best]))
			best = member;
	}
	return best;
}

/* What somebody has goes before what others remember. */
static void
sticky_keep(struct working *w, bool has)
{
	for (uint32_t k = 0; k < w->members_count; k++) {
		const struct hfb_assign_member *m = &w->members[w->order[k]];
		uint32_t end = has ? m->has_count : m->had_count;

		for (uint32_t i = has ? 0 : m->has_count; i < end; i++) {
			uint32_t t = HFB_TP_TOPIC(m->had[i]), p = HFB_TP_PARTITION(m->had[i]);

			if (t < w->topics_count && p < w->topics[t].partitions &&
			    reads(w, w->order[k], t) && w->owner[w->first[t] + p] == NOBODY)
				give(w, t, p, w->order[k]);
		}
	}
}

static void
sticky(struct working *w)
{
	bool moved = true;

	sticky_keep(w, true);
	sticky_keep(w, false);
	for (uint32_t s = 0; s < w->topics_count; s++) {
		uint32_t t = w->topics_by[s];

		for (uint32_t p = 0; p < w->topics[t].partitions; p++) {
			if (w->owner[w->first[t] + p] == NOBODY) {
				uint32_t to = least_loaded(w, t);

				if (to != NOBODY)
					give(w, t, p, to);
			}
		}
	}
	/* Each move lowers the sum of the squares of all loads, so this ends. */
	while (moved) {
		moved = false;
		for (uint32_t t = 0; t < w->topics_count; t++) {
			for (uint32_t p = w->topics[t].partitions; p-- > 0;) {
				uint32_t from = w->owner[w->first[t] + p], to;

				if (from == NOBODY)
					break;
				to = least_loaded(w, t);
				if (w->load[from] >= w->load[to] + 2) {
					give(w, t, p, to);
					moved = true;
				}
			}
		}
	}
}

static void
working_fill(struct working *w)
{
	for (uint32_t t = 0, at = 0; t < w->topics_count; t++) {
		w->topics_by[t] = t;
		w->first[t] = at;
		at += w->topics[t].partitions;
	}
	for (uint32_t k = 0; k < w->members_count; k++) {
		const struct hfb_assign_member *m = &w->members[k];

		w->order[k] = k;
		for (uint32_t i = 0; i < m->topics_count; i++) {
			hfb_assert(m->topics[i] < w->topics_count);
			w->subscribed[(size_t)k * w->topics_count + m->topics[i]] = true;
		}
	}
	qsort_r(w->order, w->members_count, sizeof(*w->order), by_key, w);
	qsort_r(w->topics_by, w->topics_count, sizeof(*w->topics_by), by_name, w);
}

int
hfb_assign(enum hfb_strategy strategy, const struct hfb_assign_topic *topics, uint32_t topics_count,
	   const struct hfb_assign_member *members, uint32_t members_count, uint32_t *owners)
{
	struct working w = {
		.topics = topics,
		.topics_count = topics_count,
		.members = members,
		.members_count = members_count,
		.owner = owners,
	};
	int r = -ENOMEM;

	for (uint32_t t = 0; t < topics_count; t++)
		w.parts_count += topics[t].partitions;
	for (uint32_t p = 0; p < w.parts_count; p++)
		owners[p] = NOBODY;
	if (members_count == 0)
		return 0;
	w.order = calloc(members_count, sizeof(*w.order));
	w.load = calloc(members_count, sizeof(*w.load));
	w.topics_by = calloc(topics_count + 1, sizeof(*w.topics_by));
	w.first = calloc(topics_count + 1, sizeof(*w.first));
	w.subscribed = calloc((size_t)members_count * (topics_count + 1), sizeof(*w.subscribed));
	if (w.order != NULL && w.load != NULL && w.topics_by != NULL && w.first != NULL &&
	    w.subscribed != NULL) {
		working_fill(&w);
		if (strategy == HFB_STRATEGY_RANGE)
			range(&w);
		else if (strategy == HFB_STRATEGY_ROUND_ROBIN)
			round_robin(&w);
		else
			sticky(&w);
		r = 0;
	}
	free(w.order);
	free(w.load);
	free(w.topics_by);
	free(w.first);
	free(w.subscribed);
	return r;
}
