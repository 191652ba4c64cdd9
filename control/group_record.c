/* SPDX-License-Identifier: Apache-2.0 */
#include "group_record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The run that begins at @i of ascending @tps: how many follow each other. */
static uint32_t
run_at(const hfb_tp *tps, uint32_t count, uint32_t i)
{
	uint32_t n = 1;

	while (i + n < count && tps[i + n] == tps[i] + n &&
	       HFB_TP_TOPIC(tps[i + n]) == HFB_TP_TOPIC(tps[i]))
		n++;
	return n;
}

json_t *
hfb_group_tps_to_json(const struct hfb_group *g, const hfb_tp *tps, uint32_t count)
{
	json_t *topics = json_object(), *runs = NULL;
	uint32_t topic = UINT32_MAX;

	for (uint32_t i = 0, n; i < count && topics != NULL; i += n) {
		n = run_at(tps, count, i);
		if (HFB_TP_TOPIC(tps[i]) != topic) {
			topic = HFB_TP_TOPIC(tps[i]);
			runs = json_array();
			json_object_set_new(topics, hfb_group_topic_name(g, topic), runs);
		}
		json_array_append_new(
			runs,
			json_pack("[I, I]", (json_int_t)HFB_TP_PARTITION(tps[i]), (json_int_t)n));
	}
	return topics;
}

static json_t *
member_to_json(const struct hfb_group_member_info *m)
{
	json_t *topics = json_array(), *given = json_array();

	for (uint32_t i = 0; i < m->topics_count; i++)
		json_array_append_new(topics, json_integer(m->topics[i]));
	for (uint32_t i = 0, n; i < m->given_count; i += n) {
		n = run_at(m->given, m->given_count, i);
		json_array_append_new(
			given, json_pack("[I, I, I]", (json_int_t)HFB_TP_TOPIC(m->given[i]),
					 (json_int_t)HFB_TP_PARTITION(m->given[i]), (json_int_t)n));
	}
	return json_pack("{s:s, s:s, s:s, s:I, s:I, s:o, s:o}", "id", m->id, "instance",
			 m->instance, "client", m->client, "session_ms", (json_int_t)m->session_ms,
			 "rebalance_ms", (json_int_t)m->rebalance_ms, "topics", topics, "given",
			 given);
}

json_t *
hfb_group_record_to_json(const struct hfb_group *g)
{
	json_t *topics = json_array(), *members = json_array();

	for (uint32_t i = 0; i < hfb_group_topics_count(g); i++)
		json_array_append_new(topics, json_string(hfb_group_topic_name(g, i)));
	for (uint32_t i = 0; i < hfb_group_members_count(g); i++) {
		struct hfb_group_member_info info;

		hfb_group_member(g, i, true, &info);
		if (json_array_append_new(members, member_to_json(&info)) < 0) {
			json_decref(topics);
			json_decref(members);
			return NULL;
		}
	}
	return json_pack("{s:I, s:s, s:o, s:o}", "generation",
			 (json_int_t)hfb_group_next_generation(g), "strategy",
			 hfb_strategy_name(hfb_group_strategy(g)), "topics", topics, "members",
			 members);
}

/* The name of topic @index of the record, or NULL. */
static const char *
topic_name(const json_t *json, const json_t *index)
{
	const char *name;

	if (!json_is_integer(index) || json_integer_value(index) < 0)
		return NULL;
	name = json_string_value(
		json_array_get(json_object_get(json, "topics"), (size_t)json_integer_value(index)));
	return name != NULL && name[0] != '\0' && strlen(name) <= HFB_TOPIC_NAME_MAX ? name : NULL;
}

static const char *
id_of(const json_t *member, const char *key)
{
	const char *text = json_string_value(json_object_get(member, key));

	return text != NULL && strlen(text) <= HFB_GROUP_ID_MAX ? text : NULL;
}

static int
given_read(const json_t *json, const json_t *given, struct hfb_group_restored_tp *to,
	   uint32_t *ret_count)
{
	const json_t *run;
	uint32_t n = 0;
	size_t i;

	json_array_foreach(given, i, run)
	{
		const char *topic = topic_name(json, json_array_get(run, 0));
		json_int_t first = json_integer_value(json_array_get(run, 1));
		json_int_t count = json_integer_value(json_array_get(run, 2));

		if (topic == NULL || first < 0 || count < 1 || count > HFB_TOPIC_PARTITIONS_MAX ||
		    first > HFB_TOPIC_PARTITIONS_MAX - count || n + count > HFB_PARTITIONS_MAX)
			return -EINVAL;
		for (json_int_t p = first; p < first + count; p++)
			to[n++] = (struct hfb_group_restored_tp){ topic, (uint32_t)p };
	}
	*ret_count = n;
	return 0;
}

static int
member_restore(struct hfb_group *g, const json_t *json, const json_t *member,
	       struct hfb_group_restored_tp *given, uint64_t now_ms)
{
	const json_t *topics = json_object_get(member, "topics"), *index;
	const char *names[HFB_GROUP_TOPICS_MAX];
	struct hfb_group_join join = {
		.id = id_of(member, "id"),
		.fresh_id = "",
		.instance = id_of(member, "instance"),
		.client = id_of(member, "client"),
		.strategy = hfb_group_strategy(g),
		.topics = names,
	};
	json_int_t session = json_integer_value(json_object_get(member, "session_ms"));
	json_int_t rebalance = json_integer_value(json_object_get(member, "rebalance_ms"));
	uint32_t count;
	size_t i;

	if (join.id == NULL || join.instance == NULL || join.client == NULL || session < 0 ||
	    session > UINT32_MAX || rebalance < 0 || rebalance > UINT32_MAX ||
	    json_array_size(topics) > HFB_GROUP_TOPICS_MAX)
		return -EINVAL;
	join.session_ms = (uint32_t)session;
	join.rebalance_ms = (uint32_t)rebalance;
	json_array_foreach(topics, i, index)
	{
		names[i] = topic_name(json, index);
		if (names[i] == NULL)
			return -EINVAL;
		join.topics_count++;
	}
	if (given_read(json, json_object_get(member, "given"), given, &count) < 0)
		return -EINVAL;
	return hfb_group_restore_member(g, &join, given, count, now_ms);
}

static int
restore(struct hfb_group *g, const json_t *json, struct hfb_group_restored_tp *given,
	uint64_t now_ms)
{
	json_int_t generation = json_integer_value(json_object_get(json, "generation"));
	const char *name = json_string_value(json_object_get(json, "strategy"));
	const json_t *members = json_object_get(json, "members"), *member;
	enum hfb_strategy strategy;
	size_t i;
	int r = 0;

	if (generation < 1 || generation > UINT32_MAX || name == NULL ||
	    hfb_strategy_parse(name, &strategy) < 0 ||
	    json_array_size(members) > HFB_GROUP_MEMBERS_MAX)
		return -EINVAL;
	hfb_group_restore(g, (uint32_t)generation, strategy);
	json_array_foreach(members, i, member)
	{
		r = member_restore(g, json, member, given, now_ms);
		if (r < 0)
			return r;
	}
	return 0;
}

int
hfb_group_record_restore(struct hfb_group *g, const char *text, size_t size, uint64_t now_ms,
			 struct hfb_err *err)
{
	struct hfb_group_restored_tp *given = malloc(HFB_PARTITIONS_MAX * sizeof(*given));
	json_error_t problem;
	json_t *json = given != NULL ? json_loadb(text, size, 0, &problem) : NULL;
	int r;

	if (given == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	r = json != NULL ? restore(g, json, given, now_ms) : -EINVAL;
	json_decref(json);
	free(given);
	if (r < 0)
		return hfb_err_set(err, r, "group %s: its record in __offsets cannot be %s",
				   hfb_group_name(g), r == -ENOMEM ? "kept" : "understood");
	hfb_group_restored(g, now_ms);
	return 0;
}
