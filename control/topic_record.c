/* SPDX-License-Identifier: Apache-2.0 */
#include "topic_record.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "uuid.h"

static const char *const stage_names[HFB_STAGES] = {
	[HFB_STAGE_RECEIVED] = "received",
	[HFB_STAGE_DURABLE] = "durable",
	[HFB_STAGE_MIRRORED] = "mirrored",
	[HFB_STAGE_MIRRORED_DURABLE] = "mirrored-durable",
};

const char *
hfb_stage_name(uint32_t stage)
{
	return stage < HFB_STAGES ? stage_names[stage] : "?";
}

int
hfb_stage_parse(const char *name, uint32_t *ret_stage)
{
	for (uint32_t i = 0; i < HFB_STAGES; i++) {
		if (strcmp(name, stage_names[i]) == 0) {
			*ret_stage = i;
			return 0;
		}
	}
	return -EINVAL;
}

static const char *const cleanup_names[HFB_CLEANUPS] = {
	[HFB_CLEANUP_DELETE] = "delete",
	[HFB_CLEANUP_COMPACT] = "compact",
};

const char *
hfb_cleanup_name(uint32_t cleanup)
{
	return cleanup < HFB_CLEANUPS ? cleanup_names[cleanup] : "?";
}

int
hfb_cleanup_parse(const char *name, uint32_t *ret_cleanup)
{
	for (uint32_t i = 0; i < HFB_CLEANUPS; i++) {
		if (strcmp(name, cleanup_names[i]) == 0) {
			*ret_cleanup = i;
			return 0;
		}
	}
	return -EINVAL;
}

static bool
name_byte_fits(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '.' || c == '_' || c == '-';
}

int
hfb_topic_record_name_check(const char *name, struct hfb_err *err)
{
	size_t n = strlen(name);

	if (n == 0)
		return hfb_err_set(err, -EINVAL, "a topic needs a name");
	if (n > HFB_TOPIC_NAME_MAX)
		return hfb_err_set(err, -EINVAL,
				   "a topic's name has %u bytes at most, this one %zu",
				   HFB_TOPIC_NAME_MAX, n);
	/* It becomes a folder's name. */
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return hfb_err_set(err, -EINVAL, "\"%s\" cannot be a topic's name", name);
	for (size_t i = 0; i < n; i++)
		if (!name_byte_fits(name[i]))
			return hfb_err_set(err, -EINVAL,
					   "a topic's name is made of A-Z a-z 0-9 . _ "
					   "and -; byte %zu is 0x%02x",
					   i + 1, (uint8_t)name[i]);
	return 0;
}

static int
size_class_check(const char *what, uint64_t bytes, uint64_t min, uint64_t max, struct hfb_err *err)
{
	if (bytes == 0) /* hfbusd's default */
		return 0;
	if (bytes < min || bytes > max || (bytes & (bytes - 1)) != 0)
		return hfb_err_set(err, -EINVAL,
				   "%s must be a power of two from %" PRIu64 "M to %" PRIu64
				   "M, not %" PRIu64 " bytes",
				   what, min / HFB_MIB, max / HFB_MIB, bytes);
	return 0;
}

bool
hfb_topic_record_internal(const char *name)
{
	return strncmp(name, HFB_TOPIC_INTERNAL_PREFIX, strlen(HFB_TOPIC_INTERNAL_PREFIX)) == 0;
}

int
hfb_topic_record_check(const struct hfb_ipc_topic *t, struct hfb_err *err)
{
	int r;

	if (memchr(t->name, '\0', sizeof(t->name)) == NULL)
		return hfb_err_set(err, -EINVAL, "a topic's name does not end");
	r = hfb_topic_record_name_check(t->name, err);
	if (r < 0)
		return r;
	if (t->partitions < 1 || t->partitions > HFB_TOPIC_PARTITIONS_MAX)
		return hfb_err_set(err, -EINVAL, "partitions must be 1 to %u, not %u",
				   HFB_TOPIC_PARTITIONS_MAX, t->partitions);
	if (t->commit_stage >= HFB_STAGES)
		return hfb_err_set(err, -EINVAL, "commit stage %u is unknown", t->commit_stage);
	/* Never is a stage promised that cannot be reached. */
	if (t->commit_stage >= HFB_STAGE_MIRRORED)
		return hfb_err_set(err, -EOPNOTSUPP,
				   "commit stage \"%s\" needs a mirror, and this "
				   "node has none; use received or durable",
				   hfb_stage_name(t->commit_stage));
	if (t->cleanup >= HFB_CLEANUPS)
		return hfb_err_set(err, -EINVAL, "cleanup %u is unknown", t->cleanup);
	if (t->tombstone_ns > INT64_MAX)
		return hfb_err_set(err, -EINVAL, "tombstone_ns is too large");
	if (t->retention_bytes > INT64_MAX || t->retention_ns > INT64_MAX)
		return hfb_err_set(err, -EINVAL, "retention is too large; 0 means without limit");
	r = size_class_check("segment_bytes", t->segment_bytes, HFB_SEGMENT_BYTES_MIN,
			     HFB_SEGMENT_BYTES_MAX, err);
	if (r < 0)
		return r;
	return size_class_check("ring_bytes", t->ring_bytes, HFB_RING_BYTES_MIN, HFB_RING_BYTES_MAX,
				err);
}

bool
hfb_topic_record_equal(const struct hfb_ipc_topic *a, const struct hfb_ipc_topic *b)
{
	return strcmp(a->name, b->name) == 0 && hfb_uuid_equal(&a->uuid, &b->uuid) &&
	       a->version == b->version && a->partitions == b->partitions &&
	       a->commit_stage == b->commit_stage && a->retention_bytes == b->retention_bytes &&
	       a->retention_ns == b->retention_ns && a->segment_bytes == b->segment_bytes &&
	       a->ring_bytes == b->ring_bytes && a->created_ns == b->created_ns &&
	       a->flags == b->flags && a->cleanup == b->cleanup &&
	       a->tombstone_ns == b->tombstone_ns;
}

/* The members that are plain whole numbers. */
static const struct number {
	const char *name;
	size_t offset;
	bool wide;
} numbers[] = {
	{ "version", offsetof(struct hfb_ipc_topic, version), true },
	{ "partitions", offsetof(struct hfb_ipc_topic, partitions), false },
	{ "retention_bytes", offsetof(struct hfb_ipc_topic, retention_bytes), true },
	{ "retention_ns", offsetof(struct hfb_ipc_topic, retention_ns), true },
	{ "segment_bytes", offsetof(struct hfb_ipc_topic, segment_bytes), true },
	{ "ring_bytes", offsetof(struct hfb_ipc_topic, ring_bytes), true },
	{ "created_ns", offsetof(struct hfb_ipc_topic, created_ns), true },
	{ "tombstone_ns", offsetof(struct hfb_ipc_topic, tombstone_ns), true },
};
#define NUMBERS (sizeof(numbers) / sizeof(numbers[0]))

static uint64_t
number_get(const struct hfb_ipc_topic *t, const struct number *n)
{
	const char *at = (const char *)t + n->offset;

	return n->wide ? *(const uint64_t *)at : *(const uint32_t *)at;
}

json_t *
hfb_topic_record_to_json(const struct hfb_ipc_topic *t)
{
	json_t *json = json_object();
	char uuid[HFB_UUID_TEXT_BYTES];
	int r = 0;

	if (json == NULL)
		return NULL;
	hfb_uuid_format(&t->uuid, uuid);
	r |= json_object_set_new(json, "name", json_string(t->name));
	r |= json_object_set_new(json, "uuid", json_string(uuid));
	r |= json_object_set_new(json, "commit", json_string(hfb_stage_name(t->commit_stage)));
	r |= json_object_set_new(json, "cleanup", json_string(hfb_cleanup_name(t->cleanup)));
	for (size_t i = 0; i < NUMBERS; i++)
		r |= json_object_set_new(json, numbers[i].name,
					 json_integer((json_int_t)number_get(t, &numbers[i])));
	r |= json_object_set_new(json, "deleted", json_boolean(t->flags & HFB_TOPIC_DELETED));
	r |= json_object_set_new(json, "feed", json_boolean(t->flags & HFB_TOPIC_CREATED_BY_FEED));
	if (r != 0) {
		json_decref(json);
		return NULL;
	}
	return json;
}

static int
number_set(struct hfb_ipc_topic *t, const struct number *n, const json_t *value,
	   struct hfb_err *err)
{
	char *at = (char *)t + n->offset;
	json_int_t x = json_integer_value(value);

	if (!json_is_integer(value) || x < 0)
		return hfb_err_set(err, -EINVAL, "%s must be a whole number, not below 0", n->name);
	if (!n->wide && x > UINT32_MAX)
		return hfb_err_set(err, -EINVAL, "%s is too large", n->name);
	if (n->wide)
		*(uint64_t *)at = (uint64_t)x;
	else
		*(uint32_t *)at = (uint32_t)x;
	return 0;
}

static int
member_set(struct hfb_ipc_topic *t, const char *key, const json_t *value, struct hfb_err *err)
{
	const char *text = json_string_value(value);

	for (size_t i = 0; i < NUMBERS; i++)
		if (strcmp(key, numbers[i].name) == 0)
			return number_set(t, &numbers[i], value, err);
	if (strcmp(key, "name") == 0) {
		if (text == NULL)
			return hfb_err_set(err, -EINVAL, "name must be a string");
		if (hfb_topic_record_name_check(text, err) < 0)
			return -EINVAL;
		strcpy(t->name, text);
	} else if (strcmp(key, "uuid") == 0) {
		if (text == NULL || hfb_uuid_parse(text, &t->uuid) < 0)
			return hfb_err_set(err, -EINVAL, "uuid must be a uuid as text");
	} else if (strcmp(key, "commit") == 0) {
		if (text == NULL || hfb_stage_parse(text, &t->commit_stage) < 0)
			return hfb_err_set(err, -EINVAL,
					   "commit must be received, durable, mirrored "
					   "or mirrored-durable");
	} else if (strcmp(key, "cleanup") == 0) {
		if (text == NULL || hfb_cleanup_parse(text, &t->cleanup) < 0)
			return hfb_err_set(err, -EINVAL, "cleanup must be delete or compact");
	} else if (strcmp(key, "deleted") == 0 || strcmp(key, "feed") == 0) {
		uint32_t flag = key[0] == 'd' ? HFB_TOPIC_DELETED : HFB_TOPIC_CREATED_BY_FEED;

		if (!json_is_boolean(value))
			return hfb_err_set(err, -EINVAL, "%s must be true or false", key);
		if (json_is_true(value))
			t->flags |= flag;
	} else {
		return hfb_err_set(err, -EINVAL, "\"%.64s\" is not a member of a topic", key);
	}
	return 0;
}

int
hfb_topic_record_from_json(const json_t *json, struct hfb_ipc_topic *ret_topic, struct hfb_err *err)
{
	struct hfb_ipc_topic t = { .partitions = 1, .commit_stage = HFB_STAGE_DURABLE };
	const char *key;
	json_t *value;
	int r = 0;

	if (!json_is_object(json))
		return hfb_err_set(err, -EINVAL, "a topic must be a JSON object");
	json_object_foreach((json_t *)(uintptr_t)json, key, value)
	{
		r = member_set(&t, key, value, err);
		if (r < 0)
			return r;
	}
	if (t.name[0] == '\0')
		return hfb_err_set(err, -EINVAL, "a topic needs a name");
	*ret_topic = t;
	return 0;
}

int
hfb_topic_record_parse(const char *text, struct hfb_ipc_topic *ret_topic, struct hfb_err *err)
{
	json_error_t problem;
	json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, &problem);
	int r;

	if (json == NULL)
		return hfb_err_set(err, -EINVAL, "not JSON: %s", problem.text);
	r = hfb_topic_record_from_json(json, ret_topic, err);
	json_decref(json);
	return r;
}
