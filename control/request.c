/* SPDX-License-Identifier: Apache-2.0 */
#include "request.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "topic_record.h"

static const struct op {
	const char *name;
	enum hfb_request_op op;
	bool named;
	const char *members[12]; /* that may stand beside op and name */
} ops[] = {
	{ "status", HFB_REQUEST_STATUS, false, { NULL } },
	{ "topic.create",
	  HFB_REQUEST_TOPIC_CREATE,
	  true,
	  { "partitions", "commit", "retention_bytes", "retention_ns", "segment_bytes",
	    "ring_bytes", "cleanup", "tombstone_ns", NULL } },
	{ "topic.alter",
	  HFB_REQUEST_TOPIC_ALTER,
	  true,
	  { "partitions", "add_partitions", "commit", "retention_bytes", "retention_ns",
	    "segment_bytes", "ring_bytes", "cleanup", "tombstone_ns", NULL } },
	{ "topic.trim", HFB_REQUEST_TOPIC_TRIM, true, { "partition", "before", NULL } },
	{ "topic.list", HFB_REQUEST_TOPIC_LIST, false, { "after", "internal", NULL } },
	{ "topic.describe", HFB_REQUEST_TOPIC_DESCRIBE, true, { "first", NULL } },
	{ "topic.delete", HFB_REQUEST_TOPIC_DELETE, true, { NULL } },
};

static const struct op *
find_op(const char *name)
{
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		if (strcmp(ops[i].name, name) == 0)
			return &ops[i];
	return NULL;
}

static bool
member_fits(const struct op *op, const char *key)
{
	if (strcmp(key, "op") == 0 || (op->named && strcmp(key, "name") == 0))
		return true;
	for (size_t i = 0; op->members[i] != NULL; i++)
		if (strcmp(op->members[i], key) == 0)
			return true;
	return false;
}

static int
parse_after(const json_t *json, struct hfb_request *request, struct hfb_err *err)
{
	const json_t *after = json_object_get(json, "after");

	if (after == NULL)
		return 0;
	if (!json_is_string(after) || json_string_length(after) >= sizeof(request->after))
		return hfb_err_set(err, -EINVAL, "after must be a topic's name, or empty");
	strcpy(request->after, json_string_value(after));
	return 0;
}

static int
parse_first(const json_t *json, struct hfb_request *request, struct hfb_err *err)
{
	const json_t *first = json_object_get(json, "first");
	json_int_t value = json_integer_value(first);

	if (first == NULL)
		return 0;
	if (!json_is_integer(first) || value < 0 || value >= HFB_TOPIC_PARTITIONS_MAX)
		return hfb_err_set(err, -EINVAL, "first must be a partition, 0 to %u",
				   HFB_TOPIC_PARTITIONS_MAX - 1);
	request->first = (uint32_t)value;
	return 0;
}

/* The settings an alter may name, as members of a request. */
static const struct {
	const char *name;
	uint32_t bit;
} settings[] = {
	{ "partitions", HFB_SET_PARTITIONS },
	{ "commit", HFB_SET_COMMIT },
	{ "retention_bytes", HFB_SET_RETENTION_BYTES },
	{ "retention_ns", HFB_SET_RETENTION_NS },
	{ "segment_bytes", HFB_SET_SEGMENT_BYTES },
	{ "ring_bytes", HFB_SET_RING_BYTES },
	{ "cleanup", HFB_SET_CLEANUP },
	{ "tombstone_ns", HFB_SET_TOMBSTONE_NS },
};

static int
parse_alter(json_t *json, struct hfb_request *request, struct hfb_err *err)
{
	const json_t *add = json_object_get(json, "add_partitions");
	json_int_t value = json_integer_value(add);

	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
		if (json_object_get(json, settings[i].name) != NULL)
			request->settings |= settings[i].bit;
	if (add != NULL) {
		if (!json_is_integer(add) || value < 1 || value > HFB_TOPIC_PARTITIONS_MAX)
			return hfb_err_set(err, -EINVAL, "add_partitions must be 1 to %u",
					   HFB_TOPIC_PARTITIONS_MAX);
		if ((request->settings & HFB_SET_PARTITIONS) != 0)
			return hfb_err_set(err, -EINVAL,
					   "either partitions or add_partitions, not both");
		request->add_partitions = (uint32_t)value;
	}
	if (request->settings == 0 && add == NULL)
		return hfb_err_set(err, -EINVAL, "topic.alter names no setting to change");
	json_object_del(json, "add_partitions");
	return 0;
}

int
hfb_request_alter(const struct hfb_request *request, struct hfb_ipc_topic *topic,
		  struct hfb_err *err)
{
	const struct hfb_ipc_topic *wanted = &request->topic;
	uint32_t set = request->settings;

	if ((set & HFB_SET_PARTITIONS) != 0 && wanted->partitions < topic->partitions)
		return hfb_err_set(err, -EINVAL,
				   "topic %s has %u partitions: there can be more, not fewer",
				   topic->name, topic->partitions);
	if (request->add_partitions > HFB_TOPIC_PARTITIONS_MAX - topic->partitions)
		return hfb_err_set(err, -EINVAL,
				   "topic %s has %u partitions and can have %u, not %u more",
				   topic->name, topic->partitions, HFB_TOPIC_PARTITIONS_MAX,
				   request->add_partitions);
	if ((set & HFB_SET_PARTITIONS) != 0)
		topic->partitions = wanted->partitions;
	topic->partitions += request->add_partitions;
	if ((set & HFB_SET_COMMIT) != 0)
		topic->commit_stage = wanted->commit_stage;
	if ((set & HFB_SET_RETENTION_BYTES) != 0)
		topic->retention_bytes = wanted->retention_bytes;
	if ((set & HFB_SET_RETENTION_NS) != 0)
		topic->retention_ns = wanted->retention_ns;
	if ((set & HFB_SET_SEGMENT_BYTES) != 0)
		topic->segment_bytes = wanted->segment_bytes;
	if ((set & HFB_SET_RING_BYTES) != 0)
		topic->ring_bytes = wanted->ring_bytes;
	if ((set & HFB_SET_CLEANUP) != 0)
		topic->cleanup = wanted->cleanup;
	if ((set & HFB_SET_TOMBSTONE_NS) != 0)
		topic->tombstone_ns = wanted->tombstone_ns;
	return 0;
}

static int
parse_trim(json_t *json, struct hfb_request *request, struct hfb_err *err)
{
	const json_t *partition = json_object_get(json, "partition");
	const json_t *before = json_object_get(json, "before");
	json_int_t index = json_integer_value(partition), offset = json_integer_value(before);

	if (!json_is_integer(partition) || index < 0 || index >= HFB_TOPIC_PARTITIONS_MAX)
		return hfb_err_set(err, -EINVAL, "topic.trim needs a partition, 0 to %u",
				   HFB_TOPIC_PARTITIONS_MAX - 1);
	if (!json_is_integer(before) || offset < -1)
		return hfb_err_set(err, -EINVAL,
				   "topic.trim needs an offset as before, or -1 for all");
	request->first = (uint32_t)index;
	request->before = (uint64_t)offset;
	json_object_del(json, "partition");
	json_object_del(json, "before");
	return 0;
}

static int
parse_topic(json_t *json, struct hfb_request *request, struct hfb_err *err)
{
	int r;

	json_object_del(json, "op");
	json_object_del(json, "first");
	r = hfb_topic_record_from_json(json, &request->topic, err);
	if (r == 0)
		r = hfb_topic_record_check(&request->topic, err);
	return r;
}

static int
parse_object(json_t *json, struct hfb_request *request, struct hfb_err *err)
{
	const char *name = json_string_value(json_object_get(json, "op"));
	const struct op *op;
	const char *key;
	json_t *value;
	int r;

	if (name == NULL)
		return hfb_err_set(err, -EINVAL,
				   "a request must be an object with a string \"op\"");
	op = find_op(name);
	if (op == NULL)
		return hfb_err_set(err, -EOPNOTSUPP,
				   "\"%.64s\" is not an operation of "
				   "hfbus-control",
				   name);
	json_object_foreach(json, key, value)
	{
		if (!member_fits(op, key))
			return hfb_err_set(err, -EINVAL, "\"%.64s\" is not a member of %s", key,
					   op->name);
	}
	request->op = op->op;
	value = json_object_get(json, "internal");
	if (value != NULL && !json_is_boolean(value))
		return hfb_err_set(err, -EINVAL, "internal must be true or false");
	request->internal = json_is_true(value);
	r = parse_after(json, request, err);
	if (r == 0)
		r = parse_first(json, request, err);
	if (r == 0 && op->op == HFB_REQUEST_TOPIC_ALTER)
		r = parse_alter(json, request, err);
	if (r == 0 && op->op == HFB_REQUEST_TOPIC_TRIM)
		r = parse_trim(json, request, err);
	if (r == 0 && op->named)
		r = parse_topic(json, request, err);
	return r;
}

int
hfb_request_parse(const char *bytes, size_t size, struct hfb_request *ret_request,
		  struct hfb_err *err)
{
	struct hfb_request request = { 0 };
	json_error_t problem;
	json_t *json;
	int r;

	if (size > HFB_REQUEST_BYTES_MAX)
		return hfb_err_set(err, -EINVAL, "a request has %u bytes at most",
				   HFB_REQUEST_BYTES_MAX);
	json = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, &problem);
	if (json == NULL)
		return hfb_err_set(err, -EINVAL, "not JSON: %s", problem.text);
	r = parse_object(json, &request, err);
	json_decref(json);
	if (r == 0)
		*ret_request = request;
	return r;
}

json_t *
hfb_answer_ok(void)
{
	return json_pack("{s:b}", "ok", 1);
}

json_t *
hfb_answer_error(const struct hfb_err *err)
{
	const char *code = strerrorname_np(-err->code);
	/* A sentence may hold bytes of the request that were cut in the middle of a letter. */
	json_t *sentence = json_string(err->text);

	if (sentence == NULL)
		sentence = json_string("the request was refused");
	return json_pack("{s:b, s:s, s:o}", "ok", 0, "code", code != NULL ? code : "EIO", "error",
			 sentence);
}
