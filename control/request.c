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
	const char *members[8]; /* that may stand beside op and name */
} ops[] = {
	{ "status", HFB_REQUEST_STATUS, false, { NULL } },
	{ "topic.create",
	  HFB_REQUEST_TOPIC_CREATE,
	  true,
	  { "partitions", "commit", "retention_bytes", "retention_ns", "segment_bytes",
	    "ring_bytes", NULL } },
	{ "topic.list", HFB_REQUEST_TOPIC_LIST, false, { "after", NULL } },
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
	json_object_foreach(json, key, value) if (!member_fits(op, key)) return hfb_err_set(
		err, -EINVAL, "\"%.64s\" is not a member of %s", key, op->name);
	request->op = op->op;
	r = parse_after(json, request, err);
	if (r == 0)
		r = parse_first(json, request, err);
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
