/* SPDX-License-Identifier: Apache-2.0 */
#include "group_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bug.h"

#define SLOTS_MAX 128u	/* topics a group has seen since it was empty */
#define RETRY_MS  1000u /* after memory was out */

/* Sets ---------------------------------------------------------------------- */

bool
hfb_group_set_has(const struct set *s, hfb_tp tp)
{
	uint32_t low = 0, high = s->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (s->tps[middle] < tp)
			low = middle + 1;
		else
			high = middle;
	}
	return low < s->count && s->tps[low] == tp;
}

bool
hfb_group_set_equal(const struct set *a, const struct set *b)
{
	return a->count == b->count &&
	       (a->count == 0 || memcmp(a->tps, b->tps, a->count * sizeof(*a->tps)) == 0);
}

/* Leaves only what @held has, too. True: something went. */
static bool
set_keep(struct set *s, const hfb_tp *held, uint32_t held_count)
{
	struct set other = { (hfb_tp *)(uintptr_t)held, held_count };
	uint32_t n = 0, before = s->count;

	for (uint32_t i = 0; i < s->count; i++)
		if (hfb_group_set_has(&other, s->tps[i]))
			s->tps[n++] = s->tps[i];
	s->count = n;
	return n != before;
}

int
hfb_group_set_copy(struct set *to, const struct set *from)
{
	hfb_tp *tps = malloc((from->count + 1) * sizeof(*tps));

	if (tps == NULL)
		return -ENOMEM;
	if (from->count > 0)
		memcpy(tps, from->tps, from->count * sizeof(*tps));
	free(to->tps);
	*to = (struct set){ tps, from->count };
	return 0;
}

/* Members ------------------------------------------------------------------- */

void
hfb_group_member_free(struct member *m)
{
	if (m == NULL)
		return;
	free(m->topics);
	free(m->held.tps);
	free(m->target.tps);
	free(m->revoke.tps);
	free(m);
}

struct member *
hfb_group_member_of(const struct hfb_group *g, const char *id)
{
	for (uint32_t i = 0; i < g->members_count; i++)
		if (strcmp(g->members[i]->id, id) == 0)
			return g->members[i];
	return NULL;
}

struct member *
hfb_group_instance_of(const struct hfb_group *g, const char *instance)
{
	for (uint32_t i = 0; i < g->members_count && instance[0] != '\0'; i++)
		if (strcmp(g->members[i]->instance, instance) == 0)
			return g->members[i];
	return NULL;
}

static void
member_remove(struct hfb_group *g, struct member *m)
{
	for (uint32_t i = 0; i < g->members_count; i++) {
		if (g->members[i] == m) {
			g->members[i] = g->members[--g->members_count];
			hfb_group_member_free(m);
			return;
		}
	}
	hfb_assert(false);
}

/* Has it still to let go of something before the coming generation? */
static bool
must_let_go(const struct hfb_group *g, const struct member *m)
{
	if (m->held.count == 0)
		return false;
	if (g->strategy != HFB_STRATEGY_STICKY)
		return !hfb_group_set_equal(&m->held, &m->target);
	for (uint32_t i = 0; i < m->held.count; i++)
		if (!hfb_group_set_has(&m->target, m->held.tps[i]))
			return true;
	return false;
}

/* Topics -------------------------------------------------------------------- */

uint32_t
hfb_group_topic_find(const struct hfb_group *g, const char *topic)
{
	for (uint32_t t = 0; t < g->topics_count; t++)
		if (strcmp(g->topics[t].name, topic) == 0)
			return t;
	return UINT32_MAX;
}

int
hfb_group_topic_add(struct hfb_group *g, const char *name, uint32_t *ret_slot)
{
	struct topic *topics;

	*ret_slot = hfb_group_topic_find(g, name);
	if (*ret_slot != UINT32_MAX)
		return 0;
	if (g->topics_count == SLOTS_MAX)
		return -E2BIG;
	topics = realloc(g->topics, (g->topics_count + 1) * sizeof(*topics));
	if (topics == NULL)
		return -ENOMEM;
	g->topics = topics;
	*ret_slot = g->topics_count++;
	snprintf(topics[*ret_slot].name, sizeof(topics->name), "%s", name);
	topics[*ret_slot].partitions = g->env.partitions(g->env.arg, name);
	return 0;
}

int
hfb_group_ascending(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* The slots of a subscription, ascending. */
int
hfb_group_subscribe(struct hfb_group *g, const struct hfb_group_join *join, uint32_t **ret_topics)
{
	uint32_t *topics = malloc((join->topics_count + 1) * sizeof(*topics));
	int r = topics != NULL ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < join->topics_count && r == 0; i++)
		r = hfb_group_topic_add(g, join->topics[i], &topics[i]);
	if (r < 0) {
		free(topics);
		return r;
	}
	qsort(topics, join->topics_count, sizeof(*topics), hfb_group_ascending);
	*ret_topics = topics;
	return 0;
}

/* Rebalancing --------------------------------------------------------------- */

/* The generation that a member which comes now takes part in. */
static uint32_t
coming(const struct hfb_group *g)
{
	return g->generation + (g->state == HFB_GROUP_STORING ? 2 : 1);
}

static int
remembered(const struct member *m, struct set *ret)
{
	ret->tps = malloc((m->held.count + m->target.count + 1) * sizeof(*ret->tps));
	if (ret->tps == NULL)
		return -ENOMEM;
	ret->count = m->held.count + m->target.count;
	if (m->held.count > 0)
		memcpy(ret->tps, m->held.tps, m->held.count * sizeof(*ret->tps));
	if (m->target.count > 0)
		memcpy(ret->tps + m->held.count, m->target.tps,
		       m->target.count * sizeof(*ret->tps));
	return 0;
}

/* Each member's share of @owners, as its new target. All or nothing. */
static int
targets_take(struct hfb_group *g, const uint32_t *owners)
{
	uint32_t *counts = calloc(g->members_count + 1, sizeof(*counts));
	struct set *sets = calloc(g->members_count + 1, sizeof(*sets));
	int r = counts != NULL && sets != NULL ? 0 : -ENOMEM;
	uint32_t at = 0;

	for (uint32_t t = 0; t < g->topics_count && r == 0; t++)
		for (uint32_t p = 0; p < g->topics[t].partitions; p++, at++)
			if (owners[at] != HFB_ASSIGN_NOBODY)
				counts[owners[at]]++;
	for (uint32_t i = 0; i < g->members_count && r == 0; i++) {
		sets[i].tps = malloc((counts[i] + 1) * sizeof(hfb_tp));
		if (sets[i].tps == NULL)
			r = -ENOMEM;
	}
	at = 0;
	for (uint32_t t = 0; t < g->topics_count && r == 0; t++)
		for (uint32_t p = 0; p < g->topics[t].partitions; p++, at++) {
			struct set *set;

			if (owners[at] == HFB_ASSIGN_NOBODY)
				continue;
			set = &sets[owners[at]];
			hfb_assert(set->tps != NULL); /* an owner is a member, and each has one */
			set->tps[set->count++] = HFB_TP(t, p);
		}
	for (uint32_t i = 0; i < g->members_count && sets != NULL; i++) {
		if (r < 0) {
			free(sets[i].tps);
			continue;
		}
		free(g->members[i]->target.tps);
		g->members[i]->target = sets[i];
	}
	free(counts);
	free(sets);
	return r;
}

int
hfb_group_targets_compute(struct hfb_group *g)
{
	struct hfb_assign_topic *topics = calloc(g->topics_count + 1, sizeof(*topics));
	struct hfb_assign_member *members = calloc(g->members_count + 1, sizeof(*members));
	struct set *had = calloc(g->members_count + 1, sizeof(*had));
	uint32_t *owners = NULL, total = 0;
	int r = topics != NULL && members != NULL && had != NULL ? 0 : -ENOMEM;

	for (uint32_t t = 0; t < g->topics_count && r == 0; t++) {
		topics[t] = (struct hfb_assign_topic){ g->topics[t].name, g->topics[t].partitions };
		total += topics[t].partitions;
	}
	for (uint32_t i = 0; i < g->members_count && r == 0; i++) {
		const struct member *m = g->members[i];

		r = remembered(m, &had[i]);
		members[i] = (struct hfb_assign_member){
			.key = m->instance[0] != '\0' ? m->instance : m->id,
			.topics = m->topics,
			.topics_count = m->topics_count,
			.had = had[i].tps,
			.has_count = m->held.count,
			.had_count = had[i].count,
		};
	}
	owners = malloc((total + 1) * sizeof(*owners));
	if (r == 0 && owners == NULL)
		r = -ENOMEM;
	if (r == 0)
		r = hfb_assign(g->strategy, topics, g->topics_count, members, g->members_count,
			       owners);
	if (r == 0)
		r = targets_take(g, owners);
	for (uint32_t i = 0; i < g->members_count && had != NULL; i++)
		free(had[i].tps);
	free(topics);
	free(members);
	free(had);
	free(owners);
	return r;
}

/* PREPARING ends when nobody holds what is to move. */
static void
check_prepared(struct hfb_group *g)
{
	bool ready = true;

	if (g->state != HFB_GROUP_PREPARING)
		return;
	for (uint32_t i = 0; i < g->members_count; i++) {
		struct member *m = g->members[i];

		if (!must_let_go(g, m)) {
			m->asked_ms = 0;
			continue;
		}
		ready = false;
	}
	if (ready) {
		g->state = HFB_GROUP_STORING;
		g->to_store = true;
	}
}

/* Something changed: a new generation is to come. */
void
hfb_group_rebalance(struct hfb_group *g, uint64_t now_ms)
{
	if (g->state == HFB_GROUP_STORING) {
		g->changed = true;
		return;
	}
	g->changed = false;
	g->retry_ms = 0;
	g->state = HFB_GROUP_PREPARING;
	if (hfb_group_targets_compute(g) < 0) {
		g->changed = true;
		g->retry_ms = now_ms + RETRY_MS;
		return;
	}
	check_prepared(g);
}

bool
hfb_group_wants_store(struct hfb_group *g)
{
	bool wants = g->to_store;

	hfb_assert(!wants || g->state == HFB_GROUP_STORING);
	g->to_store = false;
	return wants;
}

uint32_t
hfb_group_next_generation(const struct hfb_group *g)
{
	return g->generation + 1;
}

void
hfb_group_stored(struct hfb_group *g, bool ok, uint64_t now_ms)
{
	if (g->state != HFB_GROUP_STORING)
		return;
	if (!ok) {
		g->to_store = true;
		return;
	}
	for (uint32_t i = 0; i < g->members_count; i++) {
		struct member *m = g->members[i];

		if (m->active_from > g->generation + 1)
			continue;
		if (hfb_group_set_copy(&m->held, &m->target) < 0) {
			/* The record is durable, so is this; a moment later there may be memory. */
			g->to_store = true;
			return;
		}
	}
	g->generation++;
	g->state = g->members_count > 0 ? HFB_GROUP_STABLE : HFB_GROUP_EMPTY;
	if (g->changed) {
		hfb_group_rebalance(g, now_ms);
	} else if (g->state == HFB_GROUP_EMPTY) {
		free(g->topics);
		g->topics = NULL;
		g->topics_count = 0;
	}
}

/* What members do ------------------------------------------------------------- */

int
hfb_group_join_check(const struct hfb_group *g, const struct hfb_group_join *join,
		     struct hfb_err *err)
{
	uint64_t total = 0;

	if (join->session_ms < HFB_GROUP_SESSION_MS_MIN ||
	    join->session_ms > HFB_GROUP_SESSION_MS_MAX ||
	    join->rebalance_ms < HFB_GROUP_SESSION_MS_MIN ||
	    join->rebalance_ms > HFB_GROUP_SESSION_MS_MAX)
		return hfb_err_set(err, -EINVAL,
				   "session and rebalance timeouts are %u ms to %u ms",
				   HFB_GROUP_SESSION_MS_MIN, HFB_GROUP_SESSION_MS_MAX);
	if (join->topics_count < 1 || join->topics_count > HFB_GROUP_TOPICS_MAX)
		return hfb_err_set(err, -EINVAL, "a member subscribes to 1 to %u topics",
				   HFB_GROUP_TOPICS_MAX);
	if (g->members_count > 0 && join->strategy != g->strategy)
		return hfb_err_set(err, -EINVAL,
				   "the members of group %s share partitions out by %s, see "
				   "--strategy",
				   g->name, hfb_strategy_name(g->strategy));
	for (uint32_t i = 0; i < join->topics_count; i++) {
		if (hfb_group_topic_find(g, join->topics[i]) == UINT32_MAX)
			total += g->env.partitions(g->env.arg, join->topics[i]);
		for (uint32_t k = 0; k < i; k++)
			if (strcmp(join->topics[i], join->topics[k]) == 0)
				return hfb_err_set(err, -EINVAL, "topic %s is named twice",
						   join->topics[i]);
	}
	for (uint32_t t = 0; t < g->topics_count; t++)
		total += g->topics[t].partitions;
	if (total > HFB_GROUP_PARTITIONS_MAX)
		return hfb_err_set(err, -E2BIG, "the topics of a group have %u partitions at most",
				   HFB_GROUP_PARTITIONS_MAX);
	return 0;
}

int
hfb_group_member_add(struct hfb_group *g, struct member **ret_member)
{
	struct member **members;
	struct member *m;

	members = realloc(g->members, (g->members_count + 1) * sizeof(*members));
	if (members == NULL)
		return -ENOMEM;
	g->members = members;
	m = calloc(1, sizeof(*m));
	if (m == NULL)
		return -ENOMEM;
	members[g->members_count++] = m;
	*ret_member = m;
	return 0;
}

void
hfb_group_member_set(struct member *m, const struct hfb_group_join *join, uint32_t *topics,
		     uint64_t now_ms)
{
	free(m->topics);
	m->topics = topics;
	m->topics_count = join->topics_count;
	snprintf(m->client, sizeof(m->client), "%s", join->client);
	m->session_ms = join->session_ms;
	m->rebalance_ms = join->rebalance_ms;
	m->expires_ms = now_ms + join->session_ms;
}

int
hfb_group_join(struct hfb_group *g, const struct hfb_group_join *join, uint64_t now_ms,
	       const char **ret_id, struct hfb_err *err)
{
	struct member *m = join->id[0] != '\0' ? hfb_group_member_of(g, join->id) : NULL;
	bool had_members = g->members_count > 0, same;
	uint32_t *topics;
	int r;

	hfb_assert(join->id[0] != '\0' || join->fresh_id[0] != '\0');
	if (join->id[0] != '\0' && m == NULL)
		return hfb_err_set(err, -ENOENT, "%s is no member of group %s (any more)", join->id,
				   g->name);
	r = hfb_group_join_check(g, join, err);
	if (r < 0)
		return r;
	if (m == NULL)
		m = hfb_group_instance_of(g, join->instance);
	if (m == NULL && g->members_count == HFB_GROUP_MEMBERS_MAX)
		return hfb_err_set(err, -E2BIG, "a group has %u members at most",
				   HFB_GROUP_MEMBERS_MAX);
	r = hfb_group_subscribe(g, join, &topics);
	if (r < 0)
		return hfb_err_set(err, r,
				   r == -E2BIG ? "group %s has had too many topics"
					       : "out of memory for group %s",
				   g->name);
	if (join->id[0] == '\0') {
		if (m == NULL) {
			r = hfb_group_member_add(g, &m);
			if (r < 0) {
				free(topics);
				return hfb_err_set(err, r, "out of memory for group %s", g->name);
			}
			snprintf(m->instance, sizeof(m->instance), "%s", join->instance);
		}
		/* A former holder of the instance is fenced from here on; nobody holds its share.
		 */
		snprintf(m->id, sizeof(m->id), "%s", join->fresh_id);
		m->held.count = 0;
		m->active_from = coming(g);
	}
	if (!had_members)
		g->strategy = join->strategy;
	same = join->id[0] != '\0' && m->topics_count == join->topics_count &&
	       memcmp(m->topics, topics, join->topics_count * sizeof(*topics)) == 0;
	hfb_group_member_set(m, join, topics, now_ms);
	if (!same)
		hfb_group_rebalance(g, now_ms);
	*ret_id = m->id;
	return 0;
}

static int
member_find(struct hfb_group *g, const char *id, const char *instance, struct member **ret_member,
	    struct hfb_err *err)
{
	*ret_member = hfb_group_member_of(g, id);
	if (*ret_member != NULL)
		return 0;
	if (hfb_group_instance_of(g, instance) != NULL)
		return hfb_err_set(err, -ESTALE,
				   "fenced: another member of group %s took instance %s over",
				   g->name, instance);
	return hfb_err_set(err, -ENOENT,
			   "%s is no member of group %s (any more): it left, or its session "
			   "timeout passed",
			   id, g->name);
}

static int
view_fill(struct hfb_group *g, struct member *m, uint64_t now_ms, struct hfb_group_view *v)
{
	*v = (struct hfb_group_view){ .rebalancing = g->state != HFB_GROUP_STABLE };
	m->revoke.count = 0;
	if (m->active_from > g->generation)
		return 0;
	v->generation = g->generation;
	v->given = m->held.tps;
	v->given_count = m->held.count;
	if (g->state != HFB_GROUP_PREPARING || !must_let_go(g, m))
		return 0;
	if (hfb_group_set_copy(&m->revoke, &m->held) < 0)
		return -ENOMEM;
	if (g->strategy == HFB_STRATEGY_STICKY) {
		uint32_t n = 0;

		for (uint32_t i = 0; i < m->held.count; i++)
			if (!hfb_group_set_has(&m->target, m->held.tps[i]))
				m->revoke.tps[n++] = m->held.tps[i];
		m->revoke.count = n;
	}
	if (m->asked_ms == 0)
		m->asked_ms = now_ms > 0 ? now_ms : 1;
	v->revoke = m->revoke.tps;
	v->revoke_count = m->revoke.count;
	return 0;
}

int
hfb_group_heartbeat(struct hfb_group *g, const char *id, const char *instance,
		    const struct hfb_group_beat *beat, uint64_t now_ms,
		    struct hfb_group_view *ret_view, struct hfb_err *err)
{
	struct member *m = NULL;
	int r = member_find(g, id, instance, &m, err);

	if (r < 0)
		return r;
	if (beat->generation > g->generation)
		return hfb_err_set(err, -ESTALE, "group %s has no generation %u yet", g->name,
				   beat->generation);
	m->expires_ms = now_ms + m->session_ms;
	if (beat->generation == g->generation && !beat->holds_all &&
	    m->active_from <= g->generation && set_keep(&m->held, beat->held, beat->held_count)) {
		/* Let go unasked (or asked before we were started): it is shared out anew. */
		if (g->state == HFB_GROUP_STABLE)
			hfb_group_rebalance(g, now_ms);
		else
			check_prepared(g);
	}
	if (view_fill(g, m, now_ms, ret_view) < 0)
		return hfb_err_set(err, -ENOMEM, "out of memory for group %s", g->name);
	return 0;
}

int
hfb_group_leave(struct hfb_group *g, const char *id, uint64_t now_ms, struct hfb_err *err)
{
	struct member *m = NULL;
	int r = member_find(g, id, "", &m, err);

	if (r < 0)
		return r;
	member_remove(g, m);
	hfb_group_rebalance(g, now_ms);
	return 0;
}

int
hfb_group_commit_check(struct hfb_group *g, const char *id, uint32_t generation, const char *topic,
		       uint32_t partition, uint64_t now_ms, struct hfb_err *err)
{
	struct member *m = NULL;
	uint32_t slot;
	int r = member_find(g, id, "", &m, err);

	if (r < 0)
		return r;
	if (generation != g->generation || m->active_from > generation)
		return hfb_err_set(err, -ESTALE,
				   "fenced: group %s is in generation %u, the commit is of %u",
				   g->name, g->generation, generation);
	m->expires_ms = now_ms + m->session_ms;
	slot = hfb_group_topic_find(g, topic);
	if (slot == UINT32_MAX || partition >= HFB_TOPIC_PARTITIONS_MAX ||
	    !hfb_group_set_has(&m->held, HFB_TP(slot, partition)))
		return hfb_err_set(err, -EPERM, "%s/%u is not read by %s in generation %u", topic,
				   partition, id, generation);
	return 0;
}

/* What else happens ----------------------------------------------------------- */

static bool
subscribed(const struct hfb_group *g, uint32_t slot)
{
	for (uint32_t i = 0; i < g->members_count; i++)
		for (uint32_t k = 0; k < g->members[i]->topics_count; k++)
			if (g->members[i]->topics[k] == slot)
				return true;
	return false;
}

void
hfb_group_topics_changed(struct hfb_group *g, uint64_t now_ms)
{
	bool changed = false;

	for (uint32_t t = 0; t < g->topics_count; t++) {
		uint32_t now = g->env.partitions(g->env.arg, g->topics[t].name);

		if (now == g->topics[t].partitions)
			continue;
		g->topics[t].partitions = now;
		changed |= subscribed(g, t);
	}
	if (changed)
		hfb_group_rebalance(g, now_ms);
}

void
hfb_group_tick(struct hfb_group *g, uint64_t now_ms)
{
	bool removed = false;

	for (uint32_t i = g->members_count; i-- > 0;) {
		struct member *m = g->members[i];
		bool late = g->state == HFB_GROUP_PREPARING && m->asked_ms != 0 &&
			    m->asked_ms + m->rebalance_ms <= now_ms;

		if (m->expires_ms <= now_ms || late) {
			member_remove(g, m);
			removed = true;
		}
	}
	if (removed || (g->retry_ms != 0 && g->retry_ms <= now_ms))
		hfb_group_rebalance(g, now_ms);
}

uint64_t
hfb_group_deadline_ms(const struct hfb_group *g)
{
	uint64_t first = g->retry_ms != 0 ? g->retry_ms : UINT64_MAX;

	for (uint32_t i = 0; i < g->members_count; i++) {
		const struct member *m = g->members[i];

		if (m->expires_ms < first)
			first = m->expires_ms;
		if (g->state == HFB_GROUP_PREPARING && m->asked_ms != 0 &&
		    m->asked_ms + m->rebalance_ms < first)
			first = m->asked_ms + m->rebalance_ms;
	}
	return first;
}
