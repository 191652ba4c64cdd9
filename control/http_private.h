/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_private.h - what http.c and its http_connections.c, http_requests.c and
 * http_answers.c share.
 *
 * A connection and its requests:
 *
 *	          all of a request is here        answer is there
 *	RECEIVING -----------------------> ASKED ----------------> SENDING
 *	    ^        refused, or a page of our own ------------------^  |
 *	    +-----------------------------------------------------------+
 *
 * Threads: the event loop's.
 */
#ifndef HFB_HTTP_PRIVATE_H
#define HFB_HTTP_PRIVATE_H

#include <microhttpd.h>

#include "http.h"
#include "http_route.h"
#include "http_token.h"

enum hfb_http_state { HFB_HTTP_RECEIVING, HFB_HTTP_ASKED, HFB_HTTP_SENDING };

struct hfb_http_connection {
	struct hfb_http *http;
	struct MHD_Connection *mhd;
	/* the one without a sign of life for longest is first */
	struct hfb_http_connection *next, *before;
	int fd;
	enum hfb_http_state state;
	bool begun; /* a request's head is here */
	bool shut;
	uint64_t deadline_ms;
};

struct hfb_http_exchange {
	char *uri;
	size_t uri_size;
	struct hfb_http_connection *connection;
	struct hfb_http_target target;
	bool begun, routed, asked;
	struct hfb_err refusal; /* code 0: none yet */
	unsigned int refusal_status;
	char *body;
	size_t body_size, body_seen;
	uint32_t slot; /* when asked of the service */
	bool suspended;
	unsigned int status; /* 0: no answer yet */
	char *text;	     /* of the answer; NULL with a status: out of memory */
};

/* A request that the service owes an answer to. */
struct hfb_http_call {
	struct hfb_http_exchange *exchange; /* NULL: its client has gone */
	uint32_t turn;
	bool open;
};

struct hfb_http {
	struct MHD_Daemon *daemon;
	uv_loop_t *loop;
	uv_poll_t poll;
	uv_timer_t again, tick;
	struct hfb_http_source source;
	void *arg;
	struct hfb_http_token token;
	char address[80];
	bool running, closing;
	uint32_t handles;
	uint32_t connections_max, timeout_s;
	size_t metrics_bytes; /* on their way */
	struct hfb_http_connection *first, *last;
	struct hfb_http_call calls[HFB_HTTP_CALLS_MAX];
	struct hfb_http_counters counters;
};

/* http.c: libmicrohttpd gets its turn, soon. Nothing while it has it, or we stop. */
void hfb_http_run_soon(struct hfb_http *http);

/* http_connections.c */
/* libmicrohttpd's word that a connection has come or gone; @arg is the struct hfb_http. */
void hfb_http_connection_changed(void *arg, struct MHD_Connection *mhd, void **socket_context,
				 enum MHD_ConnectionNotificationCode code);
/* A sign of life: its time begins anew. @begun: a request's head is here. */
void hfb_http_alive(struct hfb_http_connection *c, enum hfb_http_state state, bool begun);
/* Those whose time is over are shut. */
void hfb_http_shut_late(struct hfb_http *http);

/* http_requests.c: libmicrohttpd's words on a request, in this order. */
void *hfb_http_line_read(void *arg, const char *uri, struct MHD_Connection *mhd);
enum MHD_Result hfb_http_handle(void *arg, struct MHD_Connection *mhd, const char *url,
				const char *method, const char *version, const char *bytes,
				size_t *size, void **request);
void hfb_http_completed(void *arg, struct MHD_Connection *mhd, void **request,
			enum MHD_RequestTerminationCode code);

/* http_answers.c: for libmicrohttpd to send. */
/* Takes @text, JSON; NULL: out of memory. */
enum MHD_Result hfb_http_send_text(struct hfb_http_exchange *x, unsigned int status, char *text);
enum MHD_Result hfb_http_send_error(struct hfb_http_exchange *x, unsigned int status,
				    const struct hfb_err *err);
enum MHD_Result hfb_http_send_metrics(struct hfb_http_exchange *x);
enum MHD_Result hfb_http_send_ready(struct hfb_http_exchange *x);

#endif
