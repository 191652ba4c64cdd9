/* SPDX-License-Identifier: Apache-2.0 */
/* http_connections.c - who is connected, since when without a sign of life, and who makes room. */
#include <stdlib.h>
#include <sys/socket.h>

#include "http_private.h"

#define ANSWER_TIMEOUTS 3u /* an answer may be large and a reader far */

static void
list_remove(struct hfb_http *http, struct hfb_http_connection *c)
{
	*(c->before != NULL ? &c->before->next : &http->first) = c->next;
	*(c->next != NULL ? &c->next->before : &http->last) = c->before;
	c->next = c->before = NULL;
}

static void
list_append(struct hfb_http *http, struct hfb_http_connection *c)
{
	c->before = http->last;
	*(http->last != NULL ? &http->last->next : &http->first) = c;
	http->last = c;
}

void
hfb_http_alive(struct hfb_http_connection *c, enum hfb_http_state state, bool begun)
{
	c->state = state;
	c->begun = begun;
	c->deadline_ms =
		uv_now(c->http->loop) +
		1000u * c->http->timeout_s * (state == HFB_HTTP_SENDING ? ANSWER_TIMEOUTS : 1);
	list_remove(c->http, c);
	list_append(c->http, c);
}

/* libmicrohttpd finds the end of the stream, and closes. */
static void
shut(struct hfb_http_connection *c)
{
	c->shut = true;
	(void)shutdown(c->fd, SHUT_RDWR);
}

static void
make_room(struct hfb_http *http)
{
	for (struct hfb_http_connection *c = http->first; c != NULL; c = c->next) {
		if (!c->begun && !c->shut) {
			http->counters.closed_for_room++;
			shut(c);
			return;
		}
	}
}

void
hfb_http_connection_changed(void *arg, struct MHD_Connection *mhd, void **socket_context,
			    enum MHD_ConnectionNotificationCode code)
{
	struct hfb_http *http = arg;
	struct hfb_http_connection *c = *socket_context;

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
	hfb_http_alive(c, HFB_HTTP_RECEIVING, false);
	http->counters.connections_total++;
	if (++http->counters.connections > http->connections_max)
		make_room(http);
}

void
hfb_http_shut_late(struct hfb_http *http)
{
	uint64_t now_ms = uv_now(http->loop);

	for (struct hfb_http_connection *c = http->first; c != NULL; c = c->next) {
		if (c->state == HFB_HTTP_ASKED || c->shut || now_ms < c->deadline_ms)
			continue;
		if (c->begun || c->state == HFB_HTTP_SENDING)
			http->counters.closed_slow++;
		shut(c);
	}
}
