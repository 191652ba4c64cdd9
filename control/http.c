/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection and its requests:
 *
 *	          all of a request is here        answer is there
 *	RECEIVING -----------------------> ASKED ----------------> SENDING
 *	    ^        refused, or a page of our own ------------------^  |
 *	    +-----------------------------------------------------------+
 *
 * libmicrohttpd runs within the loop: its epoll descriptor is polled by libuv. A
 * request that waits for the service is suspended there.
 */
#include "http.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <microhttpd.h>

#include "bug.h"
#include "http_listen.h"
#include "http_route.h"
#include "http_token.h"
#include "request.h"

#define TICK_MS		     1000u
#define BACKLOG		     1024
#define CONNECTION_BYTES_MAX (16u * 1024u)
#define CONNECTIONS_SPARE    32u /* accepted while the oldest makes room */
#define DISCARD_BYTES_MAX    (1024u * 1024u)
#define ANSWER_TIMEOUTS	     3u	  /* an answer may be large and a reader far */
#define OTHER_FDS	     400u /* control.sock's clients, SQLite, the loop */

static const char type_json[] = "application/json";
static const char type_metrics[] = "text/plain; version=0.0.4; charset=utf-8";

enum state { RECEIVING, ASKED, SENDING };

struct connection {
	struct hfb_http *http;
	struct MHD_Connection *mhd;
	struct connection *next, *before; /* the one without a sign of life for longest is first */
	int fd;
	enum state state;
	bool begun; /* a request's head is here */
	bool shut;
	uint64_t deadline_ms;
};

struct exchange {
	char *uri;
	size_t uri_size;
	struct connection *connection;
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
struct call {
	struct exchange *exchange; /* NULL: its client has gone */
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
	struct connection *first, *last;
	struct call calls[HFB_HTTP_CALLS_MAX];
	struct hfb_http_counters counters;
};

struct metrics_text {
	struct hfb_http *http;
	char *text;
	size_t size;
};

/* Within the loop ------------------------------------------------------------ */

static void run_again(uv_timer_t *timer);

static void
run(struct hfb_http *http)
{
	MHD_UNSIGNED_LONG_LONG ms;

	http->running = true;
	MHD_run(http->daemon);
	http->running = false;
	if (!http->closing && MHD_get_timeout(http->daemon, &ms) == MHD_YES)
		uv_timer_start(&http->again, run_again, ms, 0);
}

static void
run_again(uv_timer_t *timer)
{
	run(timer->data);
}

static void
readable(uv_poll_t *poll, int status, int events)
{
	(void)status, (void)events;
	run(poll->data);
}

/* Connections ------------------------------------------------------------------ */

static void
list_remove(struct hfb_http *http, struct connection *c)
{
	*(c->before != NULL ? &c->before->next : &http->first) = c->next;
	*(c->next != NULL ? &c->next->before : &http->last) = c->before;
	c->next = c->before = NULL;
}

static void
list_append(struct hfb_http *http, struct connection *c)
{
	c->before = http->last;
	*(http->last != NULL ? &http->last->next : &http->first) = c;
	http->last = c;
}

static void
alive(struct connection *c, enum state state, bool begun)
{
	c->state = state;
	c->begun = begun;
	c->deadline_ms = uv_now(c->http->loop) +
			 1000u * c->http->timeout_s * (state == SENDING ? ANSWER_TIMEOUTS : 1);
	list_remove(c->http, c);
	list_append(c->http, c);
}

/* libmicrohttpd finds the end of the stream, and closes. */
static void
shut(struct connection *c)
{
	c->shut = true;
	(void)shutdown(c->fd, SHUT_RDWR);
}

static void
make_room(struct hfb_http *http)
{
	for (struct connection *c = http->first; c != NULL; c = c->next) {
		if (!c->begun && !c->shut) {
			http->counters.closed_for_room++;
			shut(c);
			return;
		}
	}
}

static void
connection_changed(void *arg, struct MHD_Connection *mhd, void **socket_context,
		   enum MHD_ConnectionNotificationCode code)
{
	struct hfb_http *http = arg;
	struct connection *c = *socket_context;

	if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
		if (c != NULL) {
			list_remove(http, c);
			http->counters.connections--;
			free(c);
		}
		*socket_context = NULL;
		return;
	}
	c = calloc(1, sizeof(*c));
	*socket_context = c;
	if (c == NULL)
		return; /* its requests are refused */
	c->http = http;
	c->mhd = mhd;
	c->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
	list_append(http, c);
	alive(c, RECEIVING, false);
	http->counters.connections_total++;
	if (++http->counters.connections > http->connections_max)
		make_room(http);
}

static void
tick(uv_timer_t *timer)
{
	struct hfb_http *http = timer->data;
	uint64_t now_ms = uv_now(http->loop);

	for (struct connection *c = http->first; c != NULL; c = c->next) {
		if (c->state == ASKED || c->shut || now_ms < c->deadline_ms)
			continue;
		if (c->begun || c->state == SENDING)
			http->counters.closed_slow++;
		shut(c);
	}
	run(http);
}

/* Answers ------------------------------------------------------------------------ */

static enum MHD_Result
send_response(struct exchange *x, unsigned int status, const char *type,
	      struct MHD_Response *response)
{
	struct connection *c = x->connection;
	enum MHD_Result r;

	if (response == NULL)
		return MHD_NO;
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	if (status == 401)
		MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
	if (status == 405)
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, x->target.allow);
	if (status == 503)
		MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, "1");
	c->http->counters.requests[status / 100 < 6 ? status / 100 : 5]++;
	alive(c, SENDING, true);
	r = MHD_queue_response(c->mhd, status, response);
	MHD_destroy_response(response);
	return r;
}

/* Takes @text. */
static enum MHD_Result
send_text(struct exchange *x, unsigned int status, char *text)
{
	static char no_memory[] = "{\"error\":{\"code\":\"ENOMEM\",\"message\":\"hfbus-control is "
				  "out of memory\"}}";

	if (text == NULL)
		return send_response(x, 503, type_json,
				     MHD_create_response_from_buffer(strlen(no_memory), no_memory,
								     MHD_RESPMEM_PERSISTENT));
	return send_response(
		x, status, type_json,
		MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE));
}

static enum MHD_Result
send_error(struct exchange *x, unsigned int status, const struct hfb_err *err)
{
	return send_text(x, status, hfb_http_body(hfb_answer_error(err)));
}

static void
metrics_left(void *arg)
{
	struct metrics_text *m = arg;

	m->http->metrics_bytes -= m->size;
	free(m->text);
	free(m);
}

static enum MHD_Result
send_metrics(struct exchange *x)
{
	struct hfb_http *http = x->connection->http;
	struct metrics_text *m;
	struct MHD_Response *response;
	struct hfb_err err;

	if (http->metrics_bytes > HFB_HTTP_METRICS_BYTES_MAX) {
		http->counters.refused_busy++;
		hfb_err_set(&err, -EAGAIN, "too many are reading metrics and do not take them");
		return send_error(x, 503, &err);
	}
	m = calloc(1, sizeof(*m));
	if (m == NULL)
		return send_text(x, 503, NULL);
	m->http = http;
	m->text = http->source.metrics(http->arg, &m->size);
	if (m->text == NULL) {
		free(m);
		return send_text(x, 503, NULL);
	}
	http->metrics_bytes += m->size;
	response = MHD_create_response_from_buffer_with_free_callback_cls(m->size, m->text,
									  metrics_left, m);
	if (response == NULL)
		metrics_left(m);
	return send_response(x, 200, type_metrics, response);
}

static enum MHD_Result
send_ready(struct exchange *x)
{
	struct hfb_http *http = x->connection->http;
	char why[HFB_ERR_TEXT_MAX] = "";
	struct hfb_err err;

	if (http->source.ready(http->arg, why, sizeof(why)))
		return send_text(x, 200, strdup("{\"status\":\"ready\"}"));
	hfb_err_set(&err, -EAGAIN, "%s", why);
	return send_error(x, 503, &err);
}

/* The service has answered, while we wait or at once. */
void
hfb_http_answer(struct hfb_http *http, struct hfb_server_client client, json_t *answer)
{
	struct exchange *x;
	struct call *call;

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
	if (!http->running && !http->closing)
		uv_timer_start(&http->again, run_again, 0, 0);
}

/* Requests ----------------------------------------------------------------------- */

static enum MHD_Result
send_answer(struct exchange *x)
{
	char *text = x->text;

	x->text = NULL;
	return send_text(x, x->status, text);
}

static enum MHD_Result
ask(struct exchange *x)
{
	struct hfb_http *http = x->connection->http;
	struct call *call = NULL;
	struct hfb_err err;
	char *text;
	int r;

	/* nobody would answer it any more, and libmicrohttpd does not end while one waits */
	if (http->closing) {
		hfb_err_set(&err, -EAGAIN, "hfbus-control stops");
		return send_error(x, MHD_HTTP_SERVICE_UNAVAILABLE, &err);
	}
	r = hfb_http_request(&x->target, x->body, x->body_size, &text, &err);
	if (r < 0)
		return send_error(x, hfb_http_status_of(r), &err);
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
		return send_error(x, 503, &err);
	}
	call->open = true;
	call->exchange = x;
	http->counters.calls++;
	x->asked = true;
	alive(x->connection, ASKED, true);
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
act(struct exchange *x)
{
	if (x->refusal.code != 0)
		return send_error(x, x->refusal_status, &x->refusal);
	switch (x->target.kind) {
	case HFB_HTTP_REQUEST:
		return ask(x);
	case HFB_HTTP_INDEX:
		return send_text(x, 200, hfb_http_body(hfb_http_index()));
	case HFB_HTTP_HEALTH:
		return send_text(x, 200, strdup("{\"status\":\"ok\"}"));
	case HFB_HTTP_READY:
		return send_ready(x);
	case HFB_HTTP_METRICS:
		return send_metrics(x);
	}
	return MHD_NO;
}

static void
refuse(struct exchange *x, unsigned int status)
{
	if (x->refusal_status == 0)
		x->refusal_status = status;
}

/* The head of a request is here. What is wrong already is said when the body has been passed over:
 * a client that still writes would not read it. */
static void
begin(struct exchange *x, const char *method)
{
	struct hfb_http *http = x->connection->http;
	int r;

	x->begun = true;
	alive(x->connection, RECEIVING, true);
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
take_body(struct exchange *x, const char *bytes, size_t size)
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
announces_too_much(struct exchange *x)
{
	const char *length = MHD_lookup_connection_value(x->connection->mhd, MHD_HEADER_KIND,
							 MHD_HTTP_HEADER_CONTENT_LENGTH);

	return length != NULL && strtoull(length, NULL, 10) > DISCARD_BYTES_MAX;
}

static enum MHD_Result
handle(void *arg, struct MHD_Connection *mhd, const char *url, const char *method,
       const char *version, const char *bytes, size_t *size, void **request)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct exchange *x = *request;

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
		return send_error(x, 413, &x->refusal);
	}
	if (*size > 0) {
		bool go_on = take_body(x, bytes, *size);

		*size = 0;
		return go_on ? MHD_YES : MHD_NO;
	}
	return x->asked ? send_answer(x) : act(x);
}

/* The first thing heard of a request; what is returned becomes handle()'s *request. */
static void *
line_read(void *arg, const char *uri, struct MHD_Connection *mhd)
{
	struct exchange *x = calloc(1, sizeof(*x));

	(void)arg, (void)mhd;
	if (x == NULL)
		return NULL;
	x->uri_size = strlen(uri);
	if (x->uri_size <= HFB_HTTP_URI_BYTES_MAX)
		x->uri = strdup(uri);
	return x;
}

static void
completed(void *arg, struct MHD_Connection *mhd, void **request,
	  enum MHD_RequestTerminationCode code)
{
	struct hfb_http *http = arg;
	struct exchange *x = *request;

	(void)mhd, (void)code;
	if (x == NULL)
		return;
	*request = NULL;
	if (x->asked && http->calls[x->slot].exchange == x)
		http->calls[x->slot].exchange = NULL;
	if (x->connection != NULL)
		alive(x->connection, RECEIVING, false);
	if (x->routed)
		hfb_http_target_fini(&x->target);
	free(x->uri);
	free(x->body);
	free(x->text);
	free(x);
}

/* Life ------------------------------------------------------------------------------ */

/* Every connection is a descriptor: take what the system lets us have. */
static uint32_t
connections_max(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 256;
	if (limit.rlim_cur < HFB_HTTP_CONNECTIONS_MAX + OTHER_FDS) {
		limit.rlim_cur = HFB_HTTP_CONNECTIONS_MAX + OTHER_FDS;
		if (limit.rlim_cur > limit.rlim_max)
			limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
		(void)getrlimit(RLIMIT_NOFILE, &limit);
	}
	if (limit.rlim_cur >= HFB_HTTP_CONNECTIONS_MAX + OTHER_FDS)
		return HFB_HTTP_CONNECTIONS_MAX;
	return limit.rlim_cur > OTHER_FDS + 64 ? (uint32_t)limit.rlim_cur - OTHER_FDS : 64;
}

static int
daemon_start(struct hfb_http *http, int fd, struct hfb_err *err)
{
	const union MHD_DaemonInfo *info;

	http->connections_max = connections_max();
	http->daemon = MHD_start_daemon(
		MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, handle, http,
		MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
		http->connections_max + CONNECTIONS_SPARE, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		(size_t)CONNECTION_BYTES_MAX, MHD_OPTION_NOTIFY_CONNECTION, connection_changed,
		http, MHD_OPTION_NOTIFY_COMPLETED, completed, http, MHD_OPTION_URI_LOG_CALLBACK,
		line_read, http, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
	if (http->daemon == NULL)
		return hfb_err_set(err, -EIO, "libmicrohttpd does not start on %s", http->address);
	info = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	if (info == NULL || uv_poll_init(http->loop, &http->poll, info->epoll_fd) < 0) {
		MHD_stop_daemon(http->daemon);
		http->daemon = NULL;
		return hfb_err_set(err, -EIO, "libmicrohttpd has no descriptor to wait for");
	}
	return 0;
}

int
hfb_http_create(uv_loop_t *loop, const struct hfb_http_config *config,
		const struct hfb_http_source *source, void *arg, struct hfb_http **ret_http,
		struct hfb_err *err)
{
	struct hfb_http *http = calloc(1, sizeof(*http));
	int fd, r;

	if (http == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	http->loop = loop;
	http->source = *source;
	http->arg = arg;
	http->timeout_s = config->timeout_s != 0 ? config->timeout_s : HFB_HTTP_TIMEOUT_SECONDS;
	r = hfb_http_token_load(config->token_path, &http->token, err);
	if (r < 0)
		goto fail;
	fd = hfb_http_listen(config->listen, BACKLOG, http->address, sizeof(http->address), err);
	r = fd;
	if (r < 0)
		goto fail;
	r = daemon_start(http, fd, err);
	if (r < 0) {
		close(fd);
		goto fail;
	}
	http->handles = 3;
	http->poll.data = http->again.data = http->tick.data = http;
	uv_timer_init(loop, &http->again);
	uv_timer_init(loop, &http->tick);
	uv_poll_start(&http->poll, UV_READABLE, readable);
	uv_timer_start(&http->tick, tick, TICK_MS, TICK_MS);
	*ret_http = http;
	return 0;
fail:
	free(http);
	return r;
}

static void
handle_closed(uv_handle_t *handle)
{
	struct hfb_http *http = handle->data;

	if (--http->handles == 0)
		free(http);
}

void
hfb_http_destroy(struct hfb_http *http)
{
	if (http == NULL)
		return;
	http->closing = true;
	uv_poll_stop(&http->poll);
	/* It must not stop while connections are suspended. */
	for (uint32_t i = 0; i < HFB_HTTP_CALLS_MAX; i++) {
		struct hfb_err err;

		if (!http->calls[i].open)
			continue;
		hfb_err_set(&err, -EAGAIN, "hfbus-control stops");
		hfb_http_answer(http, (struct hfb_server_client){ i, http->calls[i].turn },
				hfb_answer_error(&err));
	}
	MHD_run(http->daemon);
	MHD_stop_daemon(http->daemon);
	http->daemon = NULL;
	uv_close((uv_handle_t *)&http->poll, handle_closed);
	uv_close((uv_handle_t *)&http->again, handle_closed);
	uv_close((uv_handle_t *)&http->tick, handle_closed);
}

const char *
hfb_http_address(const struct hfb_http *http)
{
	return http->address;
}

const struct hfb_http_counters *
hfb_http_counters(const struct hfb_http *http)
{
	return &http->counters;
}
