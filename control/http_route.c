/* SPDX-License-Identifier: Apache-2.0 */
#include "http_route.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "units.h"

#define SEGMENT_BYTES_MAX 512u
#define MEMBERS_MAX	  6

/*
 * The API. A path's {member} takes one segment; query and path members whose name ends
 * in '#' are whole numbers, in '?' yes or no, others text. The body's members are the service's to
 * check.
 */
struct hfb_http_entry {
	const char *method, *path;
	enum hfb_http_kind kind;
	const char *op;
	unsigned int status; /* of success */
	bool changes, body;
	const char *query[MEMBERS_MAX];
};

static const struct hfb_http_entry entries[] = {
	{ "GET", "/healthz", HFB_HTTP_HEALTH, NULL, 200, false, false, { NULL } },
	{ "GET", "/readyz", HFB_HTTP_READY, NULL, 200, false, false, { NULL } },
	{ "GET", "/metrics", HFB_HTTP_METRICS, NULL, 200, false, false, { NULL } },
	{ "GET", "/api/v1", HFB_HTTP_INDEX, NULL, 200, false, false, { NULL } },
	{ "GET", "/api/v1/status", HFB_HTTP_REQUEST, "status", 200, false, false, { NULL } },
	{ "GET",
	  "/api/v1/topics",
	  HFB_HTTP_REQUEST,
	  "topic.list",
	  200,
	  false,
	  false,
	  { "after", NULL } },
	{ "POST", "/api/v1/topics", HFB_HTTP_REQUEST, "topic.create", 201, true, true, { NULL } },
	{ "GET",
	  "/api/v1/topics/{name}",
	  HFB_HTTP_REQUEST,
	  "topic.describe",
	  200,
	  false,
	  false,
	  { "first#", NULL } },
	{ "PATCH",
	  "/api/v1/topics/{name}",
	  HFB_HTTP_REQUEST,
	  "topic.alter",
	  200,
	  true,
	  true,
	  { NULL } },
	{ "POST",
	  "/api/v1/topics/{name}/trim",
	  HFB_HTTP_REQUEST,
	  "topic.trim",
	  200,
	  true,
	  true,
	  { NULL } },
	{ "DELETE",
	  "/api/v1/topics/{name}",
	  HFB_HTTP_REQUEST,
	  "topic.delete",
	  200,
	  true,
	  false,
	  { NULL } },
	{ "GET",
	  "/api/v1/groups",
	  HFB_HTTP_REQUEST,
	  "group.list",
	  200,
	  false,
	  false,
	  { "after", NULL } },
	{ "GET",
	  "/api/v1/groups/{group}",
	  HFB_HTTP_REQUEST,
	  "group.describe",
	  200,
	  false,
	  false,
	  { "after#", NULL } },
	{ "DELETE",
	  "/api/v1/groups/{group}",
	  HFB_HTTP_REQUEST,
	  "group.delete",
	  200,
	  true,
	  false,
	  { NULL } },
	{ "GET",
	  "/api/v1/groups/{group}/members",
	  HFB_HTTP_REQUEST,
	  "group.members",
	  200,
	  false,
	  false,
	  { NULL } },
	{ "POST",
	  "/api/v1/groups/{group}/offsets",
	  HFB_HTTP_REQUEST,
	  "offset.commit",
	  200,
	  true,
	  true,
	  { NULL } },
	{ "POST",
	  "/api/v1/groups/{group}/reset",
	  HFB_HTTP_REQUEST,
	  "offset.reset",
	  200,
	  true,
	  true,
	  { NULL } },
};
#define ENTRIES_COUNT (sizeof(entries) / sizeof(entries[0]))

/* @from up to @end without its escapes; zero bytes would cut names short. */
static int
unescape(const char *from, const char *end, char to[SEGMENT_BYTES_MAX], struct hfb_err *err)
{
	size_t n = 0;

	while (from < end) {
		int c = (unsigned char)*from++;

		if (c == '%') {
			int high = from < end ? hfb_hex_digit(from[0]) : -1;
			int low = end - from >= 2 ? hfb_hex_digit(from[1]) : -1;

			if (high < 0 || low < 0 || (high == 0 && low == 0))
				return hfb_err_set(err, -EINVAL,
						   "an escape of the path is not %%01 to %%ff");
			c = high * 16 + low;
			from += 2;
		}
		if (n + 1 >= SEGMENT_BYTES_MAX)
			return hfb_err_set(err, -EINVAL,
					   "a part of the path has more than %u bytes",
					   SEGMENT_BYTES_MAX - 1);
		to[n++] = (char)c;
	}
	to[n] = '\0';
	return 0;
}

/* @key as the table writes it, with its kind at the end. */
static int
member_set(json_t *members, const char *key, size_t key_size, const char *text, struct hfb_err *err)
{
	char name[64];
	char kind = key_size > 0 ? key[key_size - 1] : '\0';
	json_t *value;

	if (kind == '#' || kind == '?')
		key_size--;
	snprintf(name, sizeof(name), "%.*s", (int)key_size, key);
	if (json_object_get(members, name) != NULL)
		return hfb_err_set(err, -EINVAL, "%s is given twice", name);
	if (kind == '#') {
		char *end;
		long long number;

		errno = 0;
		number = strtoll(text, &end, 10);
		if (errno != 0 || end == text || *end != '\0' || text[0] == ' ')
			return hfb_err_set(err, -EINVAL, "%s must be a whole number", name);
		value = json_integer(number);
	} else if (kind == '?') {
		if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
			return hfb_err_set(err, -EINVAL, "%s must be true or false", name);
		value = json_boolean(text[0] == 't');
	} else {
		value = json_string(text);
		if (value == NULL)
			return hfb_err_set(err, -EINVAL, "%s is not UTF-8", name);
	}
	if (value == NULL || json_object_set_new(members, name, value) < 0)
		return hfb_err_set(err, -ENOMEM, "hfbus-control is out of memory");
	return 0;
}

/* Does @path fit the pattern of @e? Its {members} go into @members, unless that is NULL. */
static int
path_match(const struct hfb_http_entry *e, const char *path, size_t size, json_t *members,
	   bool *ret_fits, struct hfb_err *err)
{
	const char *end = path + size, *pattern = e->path;

	*ret_fits = false;
	while (*pattern != '\0' && path < end) {
		if (*pattern == '{') {
			const char *key = pattern + 1, *key_end = strchr(pattern, '}');
			const char *part_end = memchr(path, '/', (size_t)(end - path));
			char text[SEGMENT_BYTES_MAX];
			int r;

			if (part_end == NULL)
				part_end = end;
			if (part_end == path)
				return 0;
			if (members != NULL) {
				r = unescape(path, part_end, text, err);
				if (r == 0)
					r = member_set(members, key, (size_t)(key_end - key), text,
						       err);
				if (r < 0)
					return r;
			}
			path = part_end;
			pattern = key_end + 1;
		} else if (*pattern++ != *path++) {
			return 0;
		}
	}
	*ret_fits = *pattern == '\0' && path == end;
	return 0;
}

static int
query_parse(const struct hfb_http_entry *e, const char *query, json_t *members, struct hfb_err *err)
{
	while (*query != '\0') {
		const char *end = strchrnul(query, '&');
		const char *equals = memchr(query, '=', (size_t)(end - query));
		char text[SEGMENT_BYTES_MAX];
		size_t key_size, i;
		int r;

		if (equals == NULL)
			return hfb_err_set(err, -EINVAL, "the query is not NAME=VALUE&...");
		key_size = (size_t)(equals - query);
		for (i = 0; e->query[i] != NULL; i++) {
			size_t n = strcspn(e->query[i], "#?");

			if (n == key_size && memcmp(e->query[i], query, n) == 0)
				break;
		}
		if (e->query[i] == NULL)
			return hfb_err_set(err, -EINVAL, "\"%.*s\" is no parameter of %s %s",
					   key_size < 64 ? (int)key_size : 64, query, e->method,
					   e->path);
		r = unescape(equals + 1, end, text, err);
		if (r == 0)
			r = member_set(members, e->query[i], strlen(e->query[i]), text, err);
		if (r < 0)
			return r;
		query = *end == '&' ? end + 1 : end;
	}
	return 0;
}

static void
allow_add(struct hfb_http_target *target, const char *method)
{
	size_t n = strlen(target->allow);

	snprintf(target->allow + n, sizeof(target->allow) - n, "%s%s", n > 0 ? ", " : "", method);
}

int
hfb_http_route(const char *method, const char *uri, struct hfb_http_target *ret_target,
	       struct hfb_err *err)
{
	struct hfb_http_target target = { 0 };
	size_t path_size = strcspn(uri, "?#");
	const struct hfb_http_entry *found = NULL;
	bool fits;
	int r;

	if (strcmp(method, "HEAD") == 0)
		method = "GET";
	for (size_t i = 0; i < ENTRIES_COUNT && found == NULL; i++) {
		r = path_match(&entries[i], uri, path_size, NULL, &fits, err);
		if (r < 0)
			return r;
		if (!fits)
			continue;
		if (strcmp(entries[i].method, method) == 0)
			found = &entries[i];
		else
			allow_add(&target, entries[i].method);
	}
	if (found == NULL && target.allow[0] != '\0') {
		memcpy(ret_target->allow, target.allow, sizeof(target.allow));
		return hfb_err_set(err, -EOPNOTSUPP, "the path takes %s", target.allow);
	}
	if (found == NULL)
		return hfb_err_set(err, -ENOENT, "no such path; GET /api/v1 lists them");
	target = (struct hfb_http_target){
		.entry = found,
		.kind = found->kind,
		.changes = found->changes,
		.takes_body = found->body,
		.members = json_object(),
	};
	if (target.members == NULL)
		return hfb_err_set(err, -ENOMEM, "hfbus-control is out of memory");
	r = path_match(found, uri, path_size, target.members, &fits, err);
	if (r == 0 && uri[path_size] == '?')
		r = query_parse(found, uri + path_size + 1, target.members, err);
	if (r < 0) {
		json_decref(target.members);
		return r;
	}
	*ret_target = target;
	return 0;
}

void
hfb_http_target_fini(struct hfb_http_target *target)
{
	json_decref(target->members);
	target->members = NULL;
}

/* The members of @body go to @request, unless the path says them already. */
static int
body_merge(json_t *request, const char *body, size_t size, struct hfb_err *err)
{
	json_error_t problem;
	json_t *json = json_loadb(body, size, JSON_REJECT_DUPLICATES, &problem);
	const char *key;
	json_t *value;
	int r = 0;

	if (json == NULL)
		return hfb_err_set(err, -EINVAL, "the body is not JSON: %s", problem.text);
	if (!json_is_object(json))
		r = hfb_err_set(err, -EINVAL, "the body must be a JSON object");
	json_object_foreach(json, key, value)
	{
		if (r < 0)
			break;
		if (json_object_get(request, key) != NULL)
			r = hfb_err_set(err, -EINVAL, "\"%.64s\" must not be in the body", key);
		else if (json_object_set(request, key, value) < 0)
			r = hfb_err_set(err, -ENOMEM, "hfbus-control is out of memory");
	}
	json_decref(json);
	return r;
}

int
hfb_http_request(const struct hfb_http_target *target, const char *body, size_t size,
		 char **ret_text, struct hfb_err *err)
{
	json_t *request = json_copy(target->members);
	char *text;
	int r = 0;

	if (request == NULL ||
	    json_object_set_new(request, "op", json_string(target->entry->op)) < 0) {
		json_decref(request);
		return hfb_err_set(err, -ENOMEM, "hfbus-control is out of memory");
	}
	if (target->takes_body)
		r = body_merge(request, body, size, err);
	else if (size > 0)
		r = hfb_err_set(err, -EINVAL, "this request takes no body");
	if (r == 0) {
		text = json_dumps(request, JSON_COMPACT);
		if (text != NULL)
			*ret_text = text;
		else
			r = hfb_err_set(err, -ENOMEM, "hfbus-control is out of memory");
	}
	json_decref(request);
	return r;
}

/* As one reads it: NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding) */
static const struct {
	int error;
	const char *code;
	unsigned int status;
} statuses[] = {
	{ EINVAL, "EINVAL", 400 },
	{ E2BIG, "E2BIG", 400 },
	{ ENAMETOOLONG, "ENAMETOOLONG", 400 },
	{ ERANGE, "ERANGE", 400 },
	{ EACCES, "EACCES", 401 },
	{ EPERM, "EPERM", 403 },
	{ ENOENT, "ENOENT", 404 },
	{ EEXIST, "EEXIST", 409 },
	{ ESTALE, "ESTALE", 409 },
	{ EBUSY, "EBUSY", 409 },
	{ ENOTEMPTY, "ENOTEMPTY", 409 },
	{ EKEYEXPIRED, "EKEYEXPIRED", 409 },
	{ EMSGSIZE, "EMSGSIZE", 413 },
	{ EOPNOTSUPP, "EOPNOTSUPP", 422 },
	{ EINPROGRESS, "EINPROGRESS", 202 },
	{ ENOTCONN, "ENOTCONN", 503 },
	{ EAGAIN, "EAGAIN", 503 },
	{ ENOMEM, "ENOMEM", 503 },
	{ ETIMEDOUT, "ETIMEDOUT", 504 },
	{ ENOSPC, "ENOSPC", 507 },
};

unsigned int
hfb_http_status_of(int error)
{
	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
		if (statuses[i].error == -error)
			return statuses[i].status;
	return 500;
}

unsigned int
hfb_http_status(const struct hfb_http_target *target, const json_t *answer)
{
	const char *code;

	if (answer == NULL)
		return 503;
	if (json_is_true(json_object_get(answer, "ok")))
		return target->entry->status;
	code = json_string_value(json_object_get(answer, "code"));
	for (size_t i = 0; code != NULL && i < sizeof(statuses) / sizeof(statuses[0]); i++)
		if (strcmp(statuses[i].code, code) == 0)
			return statuses[i].status;
	return 500;
}

char *
hfb_http_body(json_t *answer)
{
	char *text = NULL;
	json_t *error;

	if (answer == NULL)
		return NULL;
	if (json_is_true(json_object_get(answer, "ok"))) {
		json_object_del(answer, "ok");
		text = json_dumps(answer, JSON_COMPACT);
	} else {
		error = json_pack("{s:{s:O, s:O}}", "error", "code",
				  json_object_get(answer, "code"), "message",
				  json_object_get(answer, "error"));
		if (error != NULL)
			text = json_dumps(error, JSON_COMPACT);
		json_decref(error);
	}
	json_decref(answer);
	return text;
}

json_t *
hfb_http_index(void)
{
	json_t *paths = json_array();
	json_t *json;

	for (size_t i = 0; i < ENTRIES_COUNT; i++)
		json_array_append_new(paths, json_pack("{s:s, s:s, s:b}", "method",
						       entries[i].method, "path", entries[i].path,
						       "token", (int)entries[i].changes));
	json = json_pack("{s:b, s:o}", "ok", 1, "paths", paths);
	return json;
}
