/* SPDX-License-Identifier: Apache-2.0 */
#include "group_request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "topic_record.h"
#include "uuid.h"

#define SESSION_MS_DEFAULT   10000
#define REBALANCE_MS_DEFAULT 60000

/* As one reads it: NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding) */
static const struct op {
	const char *name;
	enum hfb_group_op op;
	const char *members[9]; /* that may stand beside op; the first n must */
	uint32_t needed;
} ops[] = {
	{ "group.join",
	  HFB_GROUP_JOIN,
	  { "group", "topics", "member", "instance", "client", "strategy", "session_ms",
	    "rebalance_ms", NULL },
	  2 },
	{ "group.heartbeat",
	  HFB_GROUP_HEARTBEAT,
	  { "group", "member", "generation", "instance", "held", NULL },
	  3 },
	{ "group.leave", HFB_GROUP_LEAVE, { "group", "member", NULL }, 2 },
	{ "group.commit",
	  HFB_GROUP_COMMIT,
	  { "group", "member", "generation", "offsets", NULL },
	  4 },
	{ "group.fetch", HFB_GROUP_FETCH, { "group", "partitions", NULL }, 2 },
	{ "group.list", HFB_GROUP_LIST, { "after", NULL }, 0 },
	{ "group.describe", HFB_GROUP_DESCRIBE, { "group", "after", NULL }, 1 },
	{ "group.members", HFB_GROUP_MEMBERS, { "group", NULL }, 1 },
	{ "group.delete", HFB_GROUP_DELETE, { "group", NULL }, 1 },
	{ "offset.commit", HFB_OFFSET_COMMIT, { "group", "offsets", NULL }, 2 },
	{ "offset.reset",
	  HFB_OFFSET_RESET,
	  { "group", "topic", "to", "partitions", "value", "dry_run", NULL },
	  3 },
};

static const struct op *
find_op(const char *name)
{
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		if (strcmp(ops[i].name, name) == 0)
			return &ops[i];
	return NULL;
}

bool
hfb_group_request_takes(const char *op)
{
	return strncmp(op, "group.", 6) == 0 || strncmp(op, "offset.", 7) == 0;
}

static int
members_check(const struct op *op, json_t *json, struct hfb_err *err)
{
	const char *key;
	json_t *value;

	for (uint32_t i = 0; i < op->needed; i++)
		if (json_object_get(json, op->members[i]) == NULL)
			return hfb_err_set(err, -EINVAL, "%s needs \"%s\"", op->name,
					   op->members[i]);
	json_object_foreach(json, key, value)
	{
		bool known = strcmp(key, "op") == 0;

		for (size_t i = 0; op->members[i] != NULL; i++)
			known |= strcmp(op->members[i], key) == 0;
		if (!known)
			return hfb_err_set(err, -EINVAL, "\"%.64s\" is not a member of %s", key,
					   op->name);
	}
	return 0;
}

/* A string of at most @max bytes without zeros; "" when it is not there. */
static int
string_get(const json_t *json, const char *key, size_t max, const char **ret, struct hfb_err *err)
{
	const json_t *value = json_object_get(json, key);

	*ret = "";
	if (value == NULL)
		return 0;
	if (!json_is_string(value) || json_string_length(value) > max ||
	    strlen(json_string_value(value)) != json_string_length(value))
		return hfb_err_set(err, -EINVAL, "%s must be a string of at most %zu bytes", key,
				   max);
	*ret = json_string_value(value);
	return 0;
}

static int
number_get(const json_t *json, const char *key, int64_t missing, int64_t min, int64_t max,
	   int64_t *ret, struct hfb_err *err)
{
	const json_t *value = json_object_get(json, key);

	*ret = value != NULL ? json_integer_value(value) : missing;
	if (value != NULL && (!json_is_integer(value) || *ret < min || *ret > max))
		return hfb_err_set(err, -EINVAL, "%s must be a whole number, %lld to %lld", key,
				   (long long)min, (long long)max);
	return 0;
}

static int
u32_get(const json_t *json, const char *key, int64_t missing, uint32_t *ret, struct hfb_err *err)
{
	int64_t value = 0;
	int r = number_get(json, key, missing, 0, UINT32_MAX, &value, err);

	*ret = (uint32_t)value;
	return r;
}

static int
strategy_get(const json_t *json, struct hfb_group_request *q, struct hfb_err *err)
{
	const char *name;
	int r = string_get(json, "strategy", 32, &name, err);

	q->strategy = HFB_STRATEGY_RANGE;
	if (r < 0 || name[0] == '\0')
		return r;
	if (hfb_strategy_parse(name, &q->strategy) < 0)
		return hfb_err_set(err, -EINVAL,
				   "strategy is range, round-robin or cooperative-sticky, not %s",
				   name);
	return 0;
}

static int
topics_get(const json_t *json, struct hfb_group_request *q, struct hfb_err *err)
{
	const json_t *topics = json_object_get(json, "topics"), *value;
	size_t i;

	if (topics == NULL)
		return 0;
	if (!json_is_array(topics) || json_array_size(topics) > HFB_GROUP_TOPICS_MAX)
		return hfb_err_set(err, -EINVAL, "topics must be a list of at most %u names",
				   HFB_GROUP_TOPICS_MAX);
	q->topics = calloc(json_array_size(topics) + 1, sizeof(*q->topics));
	if (q->topics == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	json_array_foreach(topics, i, value)
	{
		int r;

		if (!json_is_string(value))
			return hfb_err_set(err, -EINVAL, "topics must be a list of names");
		r = hfb_topic_record_name_check(json_string_value(value), err);
		if (r < 0)
			return r;
		q->topics[q->topics_count++] = json_string_value(value);
	}
	return 0;
}

/* [[first, count], ...] of @topic, appended. */
static int
runs_add(const char *topic, const json_t *list, struct hfb_group_request *q, struct hfb_err *err)
{
	const json_t *run;
	struct hfb_run *runs;
	size_t i;

	if (!json_is_array(list))
		return hfb_err_set(err, -EINVAL, "partitions must be a list of [first, count]");
	runs = realloc(q->runs, (q->runs_count + json_array_size(list) + 1) * sizeof(*runs));
	if (runs == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	q->runs = runs;
	json_array_foreach(list, i, run)
	{
		json_int_t first = json_integer_value(json_array_get(run, 0));
		json_int_t count = json_integer_value(json_array_get(run, 1));

		if (json_array_size(run) != 2 || !json_is_integer(json_array_get(run, 0)) ||
		    !json_is_integer(json_array_get(run, 1)) || first < 0 || count < 1 ||
		    first >= HFB_TOPIC_PARTITIONS_MAX || count > HFB_TOPIC_PARTITIONS_MAX - first)
			return hfb_err_set(err, -EINVAL,
					   "partitions must be a list of [first, count], below %u",
					   HFB_TOPIC_PARTITIONS_MAX);
		runs[q->runs_count++] = (struct hfb_run){ topic, (uint32_t)first, (uint32_t)count };
	}
	return 0;
}

static int
runs_get(const json_t *json, const char *key, struct hfb_group_request *q, struct hfb_err *err)
{
	json_t *runs = json_object_get(json, key), *list;
	const char *topic;
	int r = 0;

	if (runs == NULL)
		return 0;
	q->has_runs = true;
	if (q->op == HFB_OFFSET_RESET)
		return runs_add(q->topic, runs, q, err);
	if (!json_is_object(runs))
		return hfb_err_set(err, -EINVAL, "%s must be an object: topic, list of runs", key);
	json_object_foreach(runs, topic, list)
	{
		r = hfb_topic_record_name_check(topic, err);
		if (r == 0)
			r = runs_add(topic, list, q, err);
		if (r < 0)
			break;
	}
	return r;
}

static int
uuid_get(const json_t *text, struct hfb_uuid *ret, struct hfb_err *err)
{
	if (hfb_uuid_parse(json_string_value(text), ret) < 0)
		return hfb_err_set(err, -EINVAL, "\"%.40s\" is not the uuid of a topic",
				   json_string_value(text));
	return 0;
}

static int
commit_get(const char *topic, const struct hfb_uuid *uuid, const json_t *commit,
	   struct hfb_group_request *q, struct hfb_err *err)
{
	const json_t *partition = json_array_get(commit, 0), *offset = json_array_get(commit, 1);
	const json_t *epoch = json_array_get(commit, 2);
	size_t n = json_array_size(commit);

	if (n < 2 || n > 3 || !json_is_integer(partition) || !json_is_integer(offset) ||
	    json_integer_value(partition) < 0 ||
	    json_integer_value(partition) >= HFB_TOPIC_PARTITIONS_MAX ||
	    json_integer_value(offset) < 0 ||
	    (n == 3 && (!json_is_integer(epoch) || json_integer_value(epoch) < 0 ||
			json_integer_value(epoch) > UINT32_MAX)))
		return hfb_err_set(err, -EINVAL,
				   "an offset is [partition, offset] or [partition, offset, "
				   "leader epoch]");
	q->commits[q->commits_count++] = (struct hfb_topic_commit){
		topic,
		{ (uint32_t)json_integer_value(partition), (uint32_t)json_integer_value(epoch),
		  (uint64_t)json_integer_value(offset) },
		*uuid,
	};
	return 0;
}

static int
commits_get(const json_t *json, struct hfb_group_request *q, struct hfb_err *err)
{
	json_t *offsets = json_object_get(json, "offsets"), *list, *commit;
	const char *topic;
	size_t i, n = 0;
	int r = 0;

	if (offsets == NULL)
		return 0;
	if (!json_is_object(offsets))
		return hfb_err_set(err, -EINVAL, "offsets must be an object: topic, list");
	json_object_foreach(offsets, topic, list) n += json_array_size(list);
	q->commits = calloc(n + 1, sizeof(*q->commits));
	if (q->commits == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	json_object_foreach(offsets, topic, list)
	{
		struct hfb_uuid uuid = { 0 };

		r = hfb_topic_record_name_check(topic, err);
		if (r == 0 && !json_is_array(list))
			r = hfb_err_set(err, -EINVAL, "offsets of a topic must be a list");
		json_array_foreach(list, i, commit)
		{
			if (r == 0 && i == 0 && json_is_string(commit))
				r = uuid_get(commit, &uuid, err);
			else if (r == 0)
				r = commit_get(topic, &uuid, commit, q, err);
		}
		if (r < 0)
			break;
	}
	return r;
}

static int
reset_get(const json_t *json, struct hfb_group_request *q, struct hfb_err *err)
{
	static const char *const names[] = { "earliest", "latest", "offset", "time", "shift" };
	const json_t *dry_run = json_object_get(json, "dry_run");
	const char *to;
	uint32_t i = 0;
	int r = string_get(json, "to", 16, &to, err);

	if (r == 0)
		r = string_get(json, "topic", HFB_TOPIC_NAME_MAX, &q->topic, err);
	if (r == 0)
		r = hfb_topic_record_name_check(q->topic, err);
	if (r == 0)
		r = number_get(json, "value", 0, INT64_MIN, INT64_MAX, &q->value, err);
	if (r < 0)
		return r;
	while (i < 5 && strcmp(to, names[i]) != 0)
		i++;
	if (i == 5)
		return hfb_err_set(err, -EINVAL,
				   "to is earliest, latest, offset, time or shift, not %s", to);
	q->to = (enum hfb_reset_to)i;
	if (i >= HFB_RESET_OFFSET && json_object_get(json, "value") == NULL)
		return hfb_err_set(err, -EINVAL, "a reset to %s needs a value", to);
	if ((i == HFB_RESET_OFFSET || i == HFB_RESET_TIME) && q->value < 0)
		return hfb_err_set(err, -EINVAL, "a reset to %s takes no negative value", to);
	if (dry_run != NULL && !json_is_boolean(dry_run))
		return hfb_err_set(err, -EINVAL, "dry_run must be true or false");
	q->dry_run = json_is_true(dry_run);
	return 0;
}

static int
parse(json_t *json, struct hfb_group_request *q, struct hfb_err *err)
{
	int r = string_get(json, "group", HFB_GROUP_NAME_MAX, &q->group, err);

	if (r == 0 && json_object_get(json, "group") != NULL &&
	    hfb_topic_record_name_check(q->group, err) < 0)
		return hfb_err_set(err, -EINVAL,
				   "a group's name is made of A-Z a-z 0-9 . _ and -, 1 to %u",
				   HFB_GROUP_NAME_MAX);
	if (r == 0)
		r = string_get(json, "member", HFB_GROUP_ID_MAX, &q->member, err);
	if (r == 0)
		r = string_get(json, "instance", HFB_GROUP_ID_MAX, &q->instance, err);
	if (r == 0)
		r = string_get(json, "client", HFB_GROUP_ID_MAX, &q->client, err);
	if (r == 0 && q->op == HFB_GROUP_LIST)
		r = string_get(json, "after", HFB_GROUP_NAME_MAX, &q->after, err);
	if (r == 0 && q->op == HFB_GROUP_DESCRIBE)
		r = u32_get(json, "after", 0, &q->first, err);
	if (r == 0)
		r = strategy_get(json, q, err);
	if (r == 0)
		r = u32_get(json, "session_ms", SESSION_MS_DEFAULT, &q->session_ms, err);
	if (r == 0)
		r = u32_get(json, "rebalance_ms", REBALANCE_MS_DEFAULT, &q->rebalance_ms, err);
	if (r == 0)
		r = u32_get(json, "generation", 0, &q->generation, err);
	if (r == 0)
		r = topics_get(json, q, err);
	if (r == 0 && q->op == HFB_OFFSET_RESET)
		r = reset_get(json, q, err);
	if (r == 0)
		r = runs_get(json, q->op == HFB_GROUP_HEARTBEAT ? "held" : "partitions", q, err);
	if (r == 0)
		r = commits_get(json, q, err);
	return r;
}

int
hfb_group_request_parse(json_t *json, struct hfb_group_request *ret, struct hfb_err *err)
{
	struct hfb_group_request q = { .group = "", .topic = "", .after = "" };
	const char *name = json_string_value(json_object_get(json, "op"));
	const struct op *op;
	int r;

	if (name == NULL)
		return hfb_err_set(err, -EINVAL,
				   "a request must be an object with a string \"op\"");
	op = find_op(name);
	if (op == NULL)
		return hfb_err_set(err, -EOPNOTSUPP,
				   "\"%.64s\" is not an operation of hfbus-control", name);
	r = members_check(op, json, err);
	if (r < 0)
		return r;
	q.op = op->op;
	r = parse(json, &q, err);
	q.json = json_incref(json);
	if (r < 0)
		hfb_group_request_fini(&q);
	else
		*ret = q;
	return r;
}

void
hfb_group_request_fini(struct hfb_group_request *request)
{
	free(request->topics);
	free(request->runs);
	free(request->commits);
	json_decref(request->json);
	*request = (struct hfb_group_request){ 0 };
}
