/* SPDX-License-Identifier: Apache-2.0 */
/*
 * groups_answers.c - what there is to see of groups: lists, lag, members.
 */
#include <stdlib.h>
#include <string.h>

#include "group_record.h"
#include "groups_private.h"
#include "request.h"

#define LIST_PAGE     128u
#define DESCRIBE_PAGE 256u

json_t *
hfb_groups_with(json_t *json, const char *key, json_t *value)
{
	if (json != NULL && json_object_set_new(json, key, value) < 0) {
		json_decref(json);
		return NULL;
	}
	return json;
}

/* One row: a partition that somebody reads, or has committed. */
struct row {
	struct hfb_groups_lag lag;
	const struct hfb_committed *committed;
};
typedef bool row_fn(void *arg, const struct row *row); /* false: enough */

static void
row_fill(struct hfb_groups *g, const struct hfb_group_entry *e, struct row *row)
{
	const char *owner = hfb_group_owner(e->machine, row->lag.topic, row->lag.partition);
	uint64_t start = 0;

	row->committed = hfb_offsets_find(&e->offsets, row->lag.topic, row->lag.partition);
	row->lag.member = owner != NULL ? owner : "";
	row->lag.has_committed = row->committed != NULL;
	row->lag.committed = row->committed != NULL ? row->committed->offset : 0;
	row->lag.end = 0;
	row->lag.has_end = hfb_group_ends_get(g->ends, row->lag.topic, row->lag.partition, &start,
					      &row->lag.end);
	row->lag.lag =
		row->lag.has_end && row->lag.has_committed && row->lag.end > row->lag.committed
			? row->lag.end - row->lag.committed
			: 0;
}

/* Does a member subscribe to it? A group's memory of former topics is no row. */
static bool
subscribed(const struct hfb_group *machine, const char *topic)
{
	uint32_t slot = hfb_group_topic_find(machine, topic);

	for (uint32_t i = 0; i < hfb_group_members_count(machine) && slot != UINT32_MAX; i++) {
		struct hfb_group_member_info m;

		hfb_group_member(machine, i, false, &m);
		for (uint32_t t = 0; t < m.topics_count; t++)
			if (m.topics[t] == slot)
				return true;
	}
	return false;
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* All rows of a group, by topic and partition. */
static void
rows_each(struct hfb_groups *g, const struct hfb_group_entry *e, row_fn *fn, void *arg)
{
	uint32_t max = e->offsets.topics_count + hfb_group_topics_count(e->machine), n = 0;
	const char **names = malloc((max + 1) * sizeof(*names));

	if (names == NULL)
		return;
	for (uint32_t t = 0; t < e->offsets.topics_count; t++)
		names[n++] = e->offsets.topics[t].name;
	for (uint32_t t = 0; t < hfb_group_topics_count(e->machine); t++) {
		const char *name = hfb_group_topic_name(e->machine, t);

		if (hfb_offsets_topic(&e->offsets, name) == NULL && subscribed(e->machine, name))
			names[n++] = name;
	}
	qsort(names, n, sizeof(*names), by_name);
	for (uint32_t i = 0; i < n; i++) {
		const struct hfb_offsets_topic *o = hfb_offsets_topic(&e->offsets, names[i]);
		bool all = subscribed(e->machine, names[i]);
		uint32_t partitions = 0, known = o != NULL ? o->partitions_count : 0;

		(void)hfb_groups_topic(g, names[i], &partitions, NULL);
		for (uint32_t p = 0; p < partitions || p < known; p++) {
			struct row row = { .lag = { .group = hfb_group_name(e->machine),
						    .topic = names[i],
						    .partition = p } };

			row_fill(g, e, &row);
			if ((row.committed != NULL || (all && p < partitions)) && !fn(arg, &row)) {
				free(names);
				return;
			}
		}
	}
	free(names);
}

struct each {
	hfb_groups_lag_fn *fn;
	void *arg;
};

static bool
each_row(void *arg, const struct row *row)
{
	const struct each *each = arg;

	each->fn(each->arg, &row->lag);
	return true;
}

void
hfb_groups_lag_each(struct hfb_groups *g, hfb_groups_lag_fn *fn, void *arg)
{
	struct each each = { fn, arg };

	for (uint32_t i = 0; i < g->entries_count; i++) {
		const struct hfb_group_entry *e = g->entries[i];
		uint32_t partitions;

		/* Whoever asks again will find them. */
		for (uint32_t t = 0; t < e->offsets.topics_count; t++)
			if (hfb_groups_topic(g, e->offsets.topics[t].name, &partitions, NULL))
				hfb_group_ends_want(g->ends, e->offsets.topics[t].name, partitions);
		rows_each(g, e, each_row, &each);
	}
}

void
hfb_groups_each(struct hfb_groups *g, hfb_groups_group_fn *fn, void *arg)
{
	for (uint32_t i = 0; i < g->entries_count; i++) {
		const struct hfb_group *m = g->entries[i]->machine;
		struct hfb_groups_group group = {
			.name = hfb_group_name(m),
			.state = hfb_group_state(m),
			.generation = hfb_group_generation(m),
			.members = hfb_group_members_count(m),
		};

		fn(arg, &group);
	}
}

struct sum {
	uint64_t lag;
	bool known;
	uint32_t partitions;
};

static bool
sum_row(void *arg, const struct row *row)
{
	struct sum *sum = arg;

	sum->partitions++;
	sum->lag += row->lag.lag;
	sum->known &= row->lag.has_end || !row->lag.has_committed;
	return true;
}

static json_t *
group_json(struct hfb_groups *g, const struct hfb_group_entry *e)
{
	const struct hfb_group *m = e->machine;
	struct sum sum = { .known = true };
	json_t *json;

	rows_each(g, e, sum_row, &sum);
	json = json_pack("{s:s, s:s, s:I, s:I, s:I}", "group", hfb_group_name(m), "state",
			 hfb_group_state_name(hfb_group_state(m)), "generation",
			 (json_int_t)hfb_group_generation(m), "members",
			 (json_int_t)hfb_group_members_count(m), "partitions",
			 (json_int_t)sum.partitions);
	json = hfb_groups_with(json, "strategy",
			       hfb_group_members_count(m) > 0
				       ? json_string(hfb_strategy_name(hfb_group_strategy(m)))
				       : json_null());
	return hfb_groups_with(json, "lag",
			       sum.known ? json_integer((json_int_t)sum.lag) : json_null());
}

json_t *
hfb_groups_answer_list(struct hfb_groups *g, const char *after)
{
	json_t *groups = json_array();
	json_t *json = hfb_groups_with(hfb_answer_ok(), "groups", groups);
	uint32_t i = 0;

	while (i < g->entries_count && strcmp(hfb_group_name(g->entries[i]->machine), after) <= 0)
		i++;
	for (; i < g->entries_count; i++) {
		if (json_array_size(groups) == LIST_PAGE)
			return hfb_groups_with(
				json, "next",
				json_string(hfb_group_name(g->entries[i - 1]->machine)));
		if (json_array_append_new(groups, group_json(g, g->entries[i])) < 0) {
			json_decref(json);
			return NULL;
		}
	}
	return json;
}

struct page {
	json_t *rows;
	uint32_t at, first;
	bool more, failed;
};

static bool
page_row(void *arg, const struct row *row)
{
	const struct hfb_groups_lag *l = &row->lag;
	struct page *page = arg;
	json_t *json;

	if (page->at++ < page->first)
		return true;
	if (json_array_size(page->rows) == DESCRIBE_PAGE) {
		page->more = true;
		return false;
	}
	json = json_pack("{s:s, s:I}", "topic", l->topic, "partition", (json_int_t)l->partition);
	json = hfb_groups_with(json, "member",
			       l->member[0] != '\0' ? json_string(l->member) : json_null());
	json = hfb_groups_with(json, "committed",
			       l->has_committed ? json_integer((json_int_t)l->committed)
						: json_null());
	json = hfb_groups_with(json, "end",
			       l->has_end ? json_integer((json_int_t)l->end) : json_null());
	json = hfb_groups_with(json, "lag",
			       l->has_end && l->has_committed ? json_integer((json_int_t)l->lag)
							      : json_null());
	if (row->committed != NULL)
		json = hfb_groups_with(json, "committed_ns",
				       json_integer((json_int_t)row->committed->time_ns));
	page->failed |= json_array_append_new(page->rows, json) < 0;
	return !page->failed;
}

json_t *
hfb_groups_answer_describe(struct hfb_groups *g, const struct hfb_group_entry *e, uint32_t first)
{
	struct page page = { .rows = json_array(), .first = first };
	json_t *json = hfb_groups_with(hfb_answer_ok(), "group", group_json(g, e));

	rows_each(g, e, page_row, &page);
	json = hfb_groups_with(json, "partitions", page.rows);
	if (page.failed) {
		json_decref(json);
		return NULL;
	}
	return page.more ? hfb_groups_with(json, "next", json_integer(first + DESCRIBE_PAGE))
			 : json;
}

json_t *
hfb_groups_answer_members(struct hfb_groups *g, const struct hfb_group_entry *e)
{
	const struct hfb_group *m = e->machine;
	json_t *members = json_array();
	json_t *json = hfb_groups_with(hfb_groups_with(hfb_answer_ok(), "group", group_json(g, e)),
				       "members", members);
	uint64_t now = hfb_groups_now_ms();

	for (uint32_t i = 0; i < hfb_group_members_count(m) && json != NULL; i++) {
		struct hfb_group_member_info info;
		json_t *member;

		hfb_group_member(m, i, false, &info);
		member = json_pack("{s:s, s:s, s:s, s:I, s:I}", "member", info.id, "instance",
				   info.instance, "client", info.client, "session_ms",
				   (json_int_t)info.session_ms, "expires_in_ms",
				   (json_int_t)(info.expires_ms > now ? info.expires_ms - now : 0));
		member =
			hfb_groups_with(member, "partitions_count", json_integer(info.given_count));
		member = hfb_groups_with(member, "partitions",
					 hfb_group_tps_to_json(m, info.given, info.given_count));
		if (json_array_append_new(members, member) < 0) {
			json_decref(json);
			json = NULL;
		}
	}
	return json;
}

json_t *
hfb_groups_answer_fetch(const struct hfb_groups *g, const struct hfb_group_entry *e,
			const struct hfb_group_request *q)
{
	json_t *offsets = json_object();
	json_t *json = hfb_groups_with(hfb_answer_ok(), "offsets", offsets);

	for (uint32_t i = 0; i < q->runs_count && e != NULL; i++) {
		const struct hfb_run *run = &q->runs[i];
		const struct hfb_offsets_topic *o = hfb_offsets_topic(&e->offsets, run->topic);
		json_t *list = json_object_get(offsets, run->topic);

		if (o == NULL || hfb_groups_topic_former(g, o->name, &o->uuid))
			continue;
		for (uint32_t p = run->first; p < run->first + run->count; p++) {
			const struct hfb_committed *c =
				hfb_offsets_find(&e->offsets, run->topic, p);

			if (c == NULL)
				continue;
			if (list == NULL) {
				list = json_array();
				json_object_set_new(offsets, run->topic, list);
			}
			json_array_append_new(list, json_pack("[I, I, I]", (json_int_t)p,
							      (json_int_t)c->offset,
							      (json_int_t)c->leader_epoch));
		}
	}
	return json;
}
