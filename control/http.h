/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http.h - the HTTP port: admin, health and metrics (http_route.h has the paths),
 * over libmicrohttpd on the event loop.
 *
 *	hfb_http_create(&loop, &config, &source, arg, &http, &err);
 *	source.request(arg, client, bytes, size)  ->  hfb_http_answer(http, client, json)
 *
 * What it asks of the service is what control.sock asks (server.h), with the same
 * shape of client; so both ways in are one. Nobody can hold up the others: a request
 * is to arrive within 20 s of the one before it, an answer to leave within 60 s; when
 * all places are taken, the connection that has been idle longest makes room; calls
 * under way and bytes of metrics on their way are bounded, and more is told 503.
 *
 * Threads: one, the event loop's.
 * Memory:  16 KiB a connection, an answer a request.
 */
#ifndef HFB_HTTP_H
#define HFB_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>
#include <uv.h>

#include "err.h"
#include "server.h"

#define HFB_HTTP_LISTEN_DEFAULT	   "127.0.0.1:7480"
#define HFB_HTTP_CONNECTIONS_MAX   1000u
#define HFB_HTTP_CALLS_MAX	   64u
#define HFB_HTTP_METRICS_BYTES_MAX (64u * 1024u * 1024u) /* on their way, all together */
#define HFB_HTTP_TIMEOUT_SECONDS                                                                   \
	20u /* for a request to come; three times that for an answer to go */

struct hfb_http;

struct hfb_http_config {
	const char *listen;	/* "127.0.0.1:7480", "[::1]:7480"; port 0: any free one */
	const char *token_path; /* see http_token.h */
	uint32_t timeout_s;	/* 0: the default */
};

/* What the port shows. Called on the loop; @arg is the caller's. */
struct hfb_http_source {
	/* One request; client.slot is below HFB_HTTP_CALLS_MAX. */
	hfb_server_fn *request;
	/* Prometheus' text to free, or NULL: out of memory. */
	char *(*metrics)(void *arg, size_t *ret_size);
	/* True: all is well; else one sentence why not. */
	bool (*ready)(void *arg, char *ret_why, size_t size);
};

struct hfb_http_counters {
	uint64_t requests[6]; /* by the hundreds of the status: 2xx at [2] */
	uint64_t connections_total;
	uint64_t closed_slow, closed_for_room, refused_busy, refused_token;
	uint32_t connections, calls;
};

/**
 * Bind and serve.
 *
 * Returns 0, or leaves *@ret_http alone and returns
 *   -EINVAL	   config->listen is not ADDRESS:PORT
 *   -EADDRINUSE   another one has the port
 *   -errno	   of binding, or of the token's file
 */
int hfb_http_create(uv_loop_t *loop, const struct hfb_http_config *config,
		    const struct hfb_http_source *source, void *arg, struct hfb_http **ret_http,
		    struct hfb_err *err);

/* Requests under way are ended. Memory goes when the loop runs out. NULL is fine. */
void hfb_http_destroy(struct hfb_http *http);

/** Answer @client, once a request. Takes @answer; NULL is answered as out of memory. */
void hfb_http_answer(struct hfb_http *http, struct hfb_server_client client, json_t *answer);

/* "127.0.0.1:7480", as it was bound. Lent. */
const char *hfb_http_address(const struct hfb_http *http);

const struct hfb_http_counters *hfb_http_counters(const struct hfb_http *http);

#endif
