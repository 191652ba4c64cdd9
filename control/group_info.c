/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bug.h"
#include "group_private.h"

int
hfb_group_create(const char *name, const struct hfb_group_env *env, struct hfb_group **ret)
{
	struct hfb_group *g = calloc(1, sizeof(*g));

	if (g == NULL)
		return -ENOMEM;
	snprintf(g->name, sizeof(g->name), "%s", name);
	g->env = *env;
	*ret = g;
	return 0;
}

void
hfb_group_destroy(struct hfb_group *g)
{
	if (g == NULL)
		return;
	for (uint32_t i = 0; i < g->members_count; i++)
		hfb_group_member_free(g->members[i]);
	free(g->members);
	free(g->topics);
	free(g);
}

const char *
hfb_group_name(const struct hfb_group *g)
{
	return g->name;
}

enum hfb_group_state
hfb_group_state(const struct hfb_group *g)
{
	return g->state;
}

const char *
hfb_group_state_name(enum hfb_group_state state)
{
	static const char *const names[] = {
		[HFB_GROUP_EMPTY] = "empty",
		[HFB_GROUP_STABLE] = "stable",
		[HFB_GROUP_PREPARING] = "preparing",
		[HFB_GROUP_STORING] = "storing",
	};

	return names[state];
}

uint32_t
hfb_group_generation(const struct hfb_group *g)
{
	return g->generation;
}

enum hfb_strategy
hfb_group_strategy(const struct hfb_group *g)
{
	return g->strategy;
}

uint32_t
hfb_group_members_count(const struct hfb_group *g)
{
	return g->members_count;
}

void
hfb_group_member(const struct hfb_group *g, uint32_t index, bool next,
		 struct hfb_group_member_info *ret_info)
{
	const struct member *m;

	hfb_assert(index < g->members_count);
	m = g->members[index];
	*ret_info = (struct hfb_group_member_info){
		.id = m->id,
		.instance = m->instance,
		.client = m->client,
		.session_ms = m->session_ms,
		.rebalance_ms = m->rebalance_ms,
		.expires_ms = m->expires_ms,
		.topics = m->topics,
		.topics_count = m->topics_count,
		.given = next ? m->target.tps : m->held.tps,
		.given_count = next ? m->target.count : m->held.count,
	};
}

uint32_t
hfb_group_topics_count(const struct hfb_group *g)
{
	return g->topics_count;
}

const char *
hfb_group_topic_name(const struct hfb_group *g, uint32_t index)
{
	hfb_assert(index < g->topics_count);
	return g->topics[index].name;
}

const char *
hfb_group_owner(const struct hfb_group *g, const char *topic, uint32_t partition)
{
	uint32_t slot = hfb_group_topic_find(g, topic);

	for (uint32_t i = 0; i < g->members_count && slot != UINT32_MAX; i++)
		if (partition < HFB_TOPIC_PARTITIONS_MAX &&
		    hfb_group_set_has(&g->members[i]->held, HFB_TP(slot, partition)))
			return g->members[i]->id;
	return NULL;
}

uint32_t
hfb_group_member_find(const struct hfb_group *g, const char *id)
{
	for (uint32_t i = 0; i < g->members_count; i++)
		if (strcmp(g->members[i]->id, id) == 0)
			return i;
	return UINT32_MAX;
}
