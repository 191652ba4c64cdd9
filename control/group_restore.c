/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bug.h"
#include "group_private.h"

void
hfb_group_restore(struct hfb_group *g, uint32_t generation, enum hfb_strategy strategy)
{
	hfb_assert(g->members_count == 0);
	g->generation = generation;
	g->strategy = strategy;
}

int
hfb_group_restore_member(struct hfb_group *g, const struct hfb_group_join *join,
			 const struct hfb_group_restored_tp *given, uint32_t given_count,
			 uint64_t now_ms)
{
	struct hfb_err err;
	struct member *m = NULL;
	uint32_t *topics = NULL;
	int r;

	if (hfb_group_join_check(g, join, &err) == -EINVAL ||
	    hfb_group_member_of(g, join->id) != NULL ||
	    hfb_group_instance_of(g, join->instance) != NULL || join->id[0] == '\0')
		return -EINVAL;
	r = hfb_group_subscribe(g, join, &topics);
	if (r < 0)
		return r;
	r = hfb_group_member_add(g, &m);
	if (r < 0) {
		free(topics);
		return r;
	}
	snprintf(m->id, sizeof(m->id), "%s", join->id);
	snprintf(m->instance, sizeof(m->instance), "%s", join->instance);
	hfb_group_member_set(m, join, topics, now_ms);
	m->active_from = g->generation;
	m->held.tps = malloc((given_count + 1) * sizeof(hfb_tp));
	if (m->held.tps == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < given_count; i++) {
		uint32_t slot;

		r = hfb_group_topic_add(g, given[i].topic, &slot);
		if (r < 0 || given[i].partition >= HFB_TOPIC_PARTITIONS_MAX)
			return r < 0 ? r : -EINVAL;
		m->held.tps[m->held.count++] = HFB_TP(slot, given[i].partition);
	}
	if (m->held.count > 0)
		qsort(m->held.tps, m->held.count, sizeof(hfb_tp), hfb_group_ascending);
	return hfb_group_set_copy(&m->target, &m->held);
}

void
hfb_group_restored(struct hfb_group *g, uint64_t now_ms)
{
	bool same = true;

	g->state = g->members_count > 0 ? HFB_GROUP_STABLE : HFB_GROUP_EMPTY;
	if (g->members_count == 0)
		return;
	/* Partitions may have come or gone meanwhile: is it what would be shared out now? */
	if (hfb_group_targets_compute(g) < 0) {
		hfb_group_rebalance(g, now_ms);
		return;
	}
	for (uint32_t i = 0; i < g->members_count; i++)
		same &= hfb_group_set_equal(&g->members[i]->held, &g->members[i]->target);
	if (!same)
		hfb_group_rebalance(g, now_ms);
}
