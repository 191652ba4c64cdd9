/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_requests.c - a request: read whole, routed, and answered, or asked of the service. One that
 * waits for the service is suspended within libmicrohttpd.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bug.h"
#include "http_private.h"
#include "request.h"

#define DISCARD_BYTES_MAX (1024u * 1024u)

static enum MHD_Result
send_answer(struct hfb_http_exchange *x)
{
	char *text = x->text;

	x->text = NULL;
	return hfb_http_send_text(x, x->status, text);
}

static enum MHD_Result
ask(struct hfb_http_exchange *x)
{
	struct hfb_http *http = x->connection->http;
	struct hfb_http_call *call = NULL;
	struct hfb_err err;
	char *text;
	int r;

	/* nobody would answer it any more, and libmicrohttpd does not end while one waits */
	if (http->closing) {
		hfb_err_set(&err, -EAGAIN, "hfbus-control stops");
		return hfb_http_send_error(x, MHD_HTTP_SERVICE_UNAVAILABLE, &err);
	}
	r = hfb_http_request(&x->target, x->body, x->body_size, &text, &err);
	if (r < 0)
		return hfb_http_send_error(x, hfb_http_status_of(r), &err);
	for (uint32_t i = 0; i < HFB_HTTP_CALLS_MAX && call == NULL; i++) {
		if (!http->calls[i].open) {
			call = &http->calls[i];
			x->slot = i;
		}
	}
	if (call == NULL) {
		free(text);
		http->counters.refused_busy++;
		hfb_err_set(&err, -EAGAIN, "%u requests are under way already, ask again",
			    HFB_HTTP_CALLS_MAX);
		return hfb_http_send_error(x, 503, &err);
	}
	call->open = true;
	call->exchange = x;
	http->counters.calls++;
	x->asked = true;
	hfb_http_alive(x->connection, HFB_HTTP_ASKED, true);
	http->source.request(http->arg, (struct hfb_server_client){ x->slot, call->turn }, text,
			     strlen(text));
	free(text);
	if (x->status != 0)
		return send_answer(x);
	x->suspended = true;
	MHD_suspend_connection(x->connection->mhd);
	return MHD_YES;
}

/* All of the request is here. */
static enum MHD_Result
act(struct hfb_http_exchange *x)
{
	if (x->refusal.code != 0)
		return hfb_http_send_error(x, x->refusal_status, &x->refusal);
	switch (x->target.kind) {
	case HFB_HTTP_REQUEST:
		return ask(x);
	case HFB_HTTP_INDEX:
		return hfb_http_send_text(x, 200, hfb_http_body(hfb_http_index()));
	case HFB_HTTP_HEALTH:
		return hfb_http_send_text(x, 200, strdup("{\"status\":\"ok\"}"));
	case HFB_HTTP_READY:
		return hfb_http_send_ready(x);
	case HFB_HTTP_METRICS:
		return hfb_http_send_metrics(x);
	}
	return MHD_NO;
}

static void
refuse(struct hfb_http_exchange *x, unsigned int status)
{
	if (x->refusal_status == 0)
		x->refusal_status = status;
}

/* The head of a request is here. What is wrong already is said when the body has been passed over:
 * a client that still writes would not read it. */
static void
begin(struct hfb_http_exchange *x, const char *method)
{
	struct hfb_http *http = x->connection->http;
	int r;

	x->begun = true;
	hfb_http_alive(x->connection, HFB_HTTP_RECEIVING, true);
	if (x->uri == NULL || x->uri_size > HFB_HTTP_URI_BYTES_MAX) {
		hfb_err_set(&x->refusal, -ENAMETOOLONG, "a path has %u bytes at most",
			    HFB_HTTP_URI_BYTES_MAX);
		refuse(x, 414);
		return;
	}
	r = hfb_http_route(method, x->uri, &x->target, &x->refusal);
	if (r < 0) {
		refuse(x, r == -EOPNOTSUPP ? 405 : hfb_http_status_of(r));
		return;
	}
	x->refusal.code = 0;
	x->routed = true;
	if (x->target.changes &&
	    !hfb_http_token_fits(&http->token,
				 MHD_lookup_connection_value(x->connection->mhd, MHD_HEADER_KIND,
							     MHD_HTTP_HEADER_AUTHORIZATION))) {
		http->counters.refused_token++;
		hfb_err_set(&x->refusal, -EACCES,
			    "a change needs the header \"Authorization: Bearer TOKEN\", with what "
			    "is in the token's file (DATA/http.token)");
		refuse(x, 401);
	}
}

/* Bytes of a body. False: there is no end to it. */
static bool
take_body(struct hfb_http_exchange *x, const char *bytes, size_t size)
{
	x->body_seen += size;
	if (x->body_seen > DISCARD_BYTES_MAX)
		return false;
	if (x->refusal.code != 0)
		return true;
	if (x->body_seen > HFB_HTTP_BODY_BYTES_MAX) {
		hfb_err_set(&x->refusal, -EMSGSIZE, "a body has %u bytes at most",
			    HFB_HTTP_BODY_BYTES_MAX);
		refuse(x, 413);
		return true;
	}
	if (x->body == NULL)
		x->body = malloc(HFB_HTTP_BODY_BYTES_MAX);
	if (x->body == NULL) {
		hfb_err_set(&x->refusal, -ENOMEM, "hfbus-control is out of memory");
		refuse(x, 503);
		return true;
	}
	memcpy(x->body + x->body_size, bytes, size);
	x->body_size += size;
	return true;
}

static bool
announces_too_much(struct hfb_http_exchange *x)
{
	const char *length = MHD_lookup_connection_value(x->connection->mhd, MHD_HEADER_KIND,
							 MHD_HTTP_HEADER_CONTENT_LENGTH);

	return length != NULL && strtoull(length, NULL, 10) > DISCARD_BYTES_MAX;
}

enum MHD_Result
hfb_http_handle(void *arg, struct MHD_Connection *mhd, const char *url, const char *method,
		const char *version, const char *bytes, size_t *size, void **request)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct hfb_http_exchange *x = *request;

	(void)arg, (void)url, (void)version;
	if (x == NULL || info == NULL || info->socket_context == NULL)
		return MHD_NO; /* no memory: the connection ends */
	if (!x->begun) {
		x->connection = info->socket_context;
		begin(x, method);
		if (!announces_too_much(x))
			return MHD_YES;
		x->refusal.code = 0;
		x->refusal_status = 413;
		hfb_err_set(&x->refusal, -EMSGSIZE, "a body has %u bytes at most",
			    HFB_HTTP_BODY_BYTES_MAX);
		return hfb_http_send_error(x, 413, &x->refusal);
	}
	if (*size > 0) {
		bool go_on = take_body(x, bytes, *size);

		*size = 0;
		return go_on ? MHD_YES : MHD_NO;
	}
	return x->asked ? send_answer(x) : act(x);
}

/* The first thing heard of a request; what is returned becomes hfb_http_handle()'s *request. */
void *
hfb_http_line_read(void *arg, const char *uri, struct MHD_Connection *mhd)
{
	struct hfb_http_exchange *x = calloc(1, sizeof(*x));

	(void)arg, (void)mhd;
	if (x == NULL)
		return NULL;
	x->uri_size = strlen(uri);
	if (x->uri_size <= HFB_HTTP_URI_BYTES_MAX)
		x->uri = strdup(uri);
	return x;
}

void
hfb_http_completed(void *arg, struct MHD_Connection *mhd, void **request,
		   enum MHD_RequestTerminationCode code)
{
	struct hfb_http *http = arg;
	struct hfb_http_exchange *x = *request;

	(void)mhd, (void)code;
	if (x == NULL)
		return;
	*request = NULL;
	if (x->asked && http->calls[x->slot].exchange == x)
		http->calls[x->slot].exchange = NULL;
	if (x->connection != NULL)
		hfb_http_alive(x->connection, HFB_HTTP_RECEIVING, false);
	if (x->routed)
		hfb_http_target_fini(&x->target);
	free(x->uri);
	free(x->body);
	free(x->text);
	free(x);
}

/* The service has answered, while we wait or at once. */
void
hfb_http_answer(struct hfb_http *http, struct hfb_server_client client, json_t *answer)
{
	struct hfb_http_exchange *x;
	struct hfb_http_call *call;

	hfb_assert(client.slot < HFB_HTTP_CALLS_MAX);
	call = &http->calls[client.slot];
	x = call->exchange;
	if (!call->open || call->turn != client.turn) {
		json_decref(answer);
		return;
	}
	call->open = false;
	call->exchange = NULL;
	call->turn++;
	http->counters.calls--;
	if (x == NULL) {
		json_decref(answer); /* the client has gone */
		return;
	}
	x->status = hfb_http_status(&x->target, answer);
	x->text = hfb_http_body(answer);
	if (!x->suspended)
		return; /* the handler, which asks just now, goes on with it */
	x->suspended = false;
	MHD_resume_connection(x->connection->mhd);
	hfb_http_run_soon(http);
}
