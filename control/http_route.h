/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_route.h - from an HTTP request to a request as control.sock takes it, and
 * from its answer to a status: so that both ways in share checks and actions.
 *
 *	hfb_http_route("DELETE", "/api/v1/topics/quotes", &target, &err)
 *	hfb_http_request(&target, body, size, &text, &err)
 *						{"op":"topic.delete","name":"quotes"}
 *	hfb_http_status(&target, answer)	200, 404, ...
 *
 * The table of http_route.c is the API; GET /api/v1 lists it, docs/openapi.yaml
 * describes it.
 *
 * Threads: pure functions.
 */
#ifndef HFB_HTTP_ROUTE_H
#define HFB_HTTP_ROUTE_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "err.h"

#define HFB_HTTP_BODY_BYTES_MAX 12288u /* with the path it fits a socket's request */
#define HFB_HTTP_URI_BYTES_MAX	2048u

enum hfb_http_kind {
	HFB_HTTP_REQUEST, /* the service answers */
	HFB_HTTP_INDEX,
	HFB_HTTP_HEALTH,
	HFB_HTTP_READY,
	HFB_HTTP_METRICS,
};

struct hfb_http_entry; /* a line of the table */

struct hfb_http_target {
	const struct hfb_http_entry *entry;
	enum hfb_http_kind kind;
	bool changes;	 /* the token is needed */
	bool takes_body; /* others must not have one */
	json_t *members; /* of path and query; owned, see fini */
	char allow[64];	 /* when the method is not there: those that are */
};

/**
 * Find what @method of @uri (as it came: path, maybe "?query") means.
 *
 * Returns 0 and fills *@ret_target, which hfb_http_target_fini() is to end, or
 *   -EINVAL      an escape, a member of the query or its value is wrong
 *   -ENOENT      no such path
 *   -EOPNOTSUPP  not this method: target->allow is filled all the same
 *   -ENOMEM
 */
int hfb_http_route(const char *method, const char *uri, struct hfb_http_target *ret_target,
		   struct hfb_err *err);
void hfb_http_target_fini(struct hfb_http_target *target);

/**
 * The request for the service: path, query and body in one object. The caller frees
 * *@ret_text. Returns 0, -EINVAL (the body is not what it should be) or -ENOMEM.
 */
int hfb_http_request(const struct hfb_http_target *target, const char *body, size_t size,
		     char **ret_text, struct hfb_err *err);

/** The status for an answer of the service (service_answers.h); NULL is out of memory. */
unsigned int hfb_http_status(const struct hfb_http_target *target, const json_t *answer);

/** The status for a refusal of our own: a negative errno. */
unsigned int hfb_http_status_of(int error);

/**
 * The body for an answer of the service: its members, or {"error":{"code","message"}}.
 * Takes @answer. Text to free, or NULL: out of memory.
 */
char *hfb_http_body(json_t *answer);

/** All methods and paths, as GET /api/v1 tells them. A new reference or NULL. */
json_t *hfb_http_index(void);

#endif
