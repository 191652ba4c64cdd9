/* SPDX-License-Identifier: Apache-2.0 */
#include "server.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "bug.h"
#include "request.h"

#define TICK_MS	       500u
#define SEND_TICKS_MAX 10u
#define BACKLOG	       128
#define ACCEPTS_MAX    32u

struct server_poll {
	uv_poll_t poll; /* first */
	struct hfb_server *server;
	uint32_t slot; /* LISTENER: the listening socket */
};
#define LISTENER UINT32_MAX

enum client_state { FREE, IDLE, ASKED, SENDING };

struct client {
	struct server_poll *poll;
	int fd;
	enum client_state state;
	uint32_t turn;
	uint32_t send_ticks;
	uint64_t active; /* server->activity when it last did something */
	char *out;
	size_t out_bytes;
};

struct hfb_server {
	uv_loop_t *loop;
	uv_timer_t tick;
	struct server_poll *listener;
	int listen_fd;
	bool accepting;
	hfb_server_fn *request;
	void *arg;
	uint64_t activity;
	struct sockaddr_un address;
	struct client clients[HFB_SERVER_CLIENTS_MAX];
	char in[HFB_REQUEST_BYTES_MAX + 1];
};

static void ready(uv_poll_t *handle, int status, int events);

static void
free_handle(uv_handle_t *handle)
{
	free(handle);
}

static struct server_poll *
poll_create(struct hfb_server *server, int fd, uint32_t slot)
{
	struct server_poll *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return NULL;
	p->server = server;
	p->slot = slot;
	if (uv_poll_init(server->loop, &p->poll, fd) < 0) {
		free(p);
		return NULL;
	}
	return p;
}

static void
poll_destroy(struct server_poll *p)
{
	if (p == NULL)
		return;
	uv_poll_stop(&p->poll);
	uv_close((uv_handle_t *)&p->poll, free_handle);
}

static void
client_close(struct client *c)
{
	poll_destroy(c->poll);
	close(c->fd);
	free(c->out);
	*c = (struct client){ .fd = -1, .turn = c->turn + 1 };
}

static void
client_watch(struct client *c)
{
	static const int events[] = {
		[IDLE] = UV_READABLE | UV_DISCONNECT,
		[ASKED] = UV_DISCONNECT,
		[SENDING] = UV_WRITABLE | UV_DISCONNECT,
	};

	uv_poll_start(&c->poll->poll, events[c->state], ready);
}

static void
client_send(struct client *c)
{
	if (send(c->fd, c->out, c->out_bytes, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		if (errno != EAGAIN && errno != EINTR) {
			client_close(c);
			return;
		}
		c->state = SENDING;
	} else {
		free(c->out);
		c->out = NULL;
		c->state = IDLE;
	}
	client_watch(c);
}

void
hfb_server_answer(struct hfb_server *server, struct hfb_server_client client, json_t *answer)
{
	static const char no_memory[] =
		"{\"ok\":false,\"code\":\"ENOMEM\",\"error\":\"hfbus-control is out of memory\"}";
	struct client *c = &server->clients[client.slot];

	hfb_assert(client.slot < HFB_SERVER_CLIENTS_MAX);
	if (c->turn != client.turn || c->state != ASKED) {
		json_decref(answer); /* the client has gone */
		return;
	}
	c->out = answer != NULL ? json_dumps(answer, JSON_COMPACT) : NULL;
	json_decref(answer);
	if (c->out == NULL)
		c->out = strdup(no_memory);
	if (c->out == NULL) {
		client_close(c);
		return;
	}
	c->out_bytes = strlen(c->out);
	c->send_ticks = 0;
	c->active = ++server->activity;
	client_send(c);
}

static void
client_read(struct hfb_server *server, uint32_t slot)
{
	struct client *c = &server->clients[slot];
	struct hfb_server_client client = { slot, c->turn };
	ssize_t n = recv(c->fd, server->in, sizeof(server->in), MSG_DONTWAIT | MSG_TRUNC);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		client_close(c);
		return;
	}
	c->state = ASKED;
	c->active = ++server->activity;
	client_watch(c);
	if ((size_t)n > HFB_REQUEST_BYTES_MAX) {
		struct hfb_err err;

		hfb_err_set(&err, -EMSGSIZE, "a request has %u bytes at most, this one %zd",
			    HFB_REQUEST_BYTES_MAX, n);
		hfb_server_answer(server, client, hfb_answer_error(&err));
		return;
	}
	server->request(server->arg, client, server->in, (size_t)n);
}

static struct client *
place(struct hfb_server *server)
{
	struct client *oldest = NULL;

	for (uint32_t i = 0; i < HFB_SERVER_CLIENTS_MAX; i++) {
		struct client *c = &server->clients[i];

		if (c->state == FREE)
			return c;
		if (c->state == IDLE && (oldest == NULL || c->active < oldest->active))
			oldest = c;
	}
	if (oldest != NULL)
		client_close(oldest);
	return oldest;
}

/* False: nobody more to accept now. */
static bool
accept_one(struct hfb_server *server)
{
	int fd = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct client *c;

	if (fd < 0) {
		/* Out of descriptors, say: rest until the next tick instead of asking on and on. */
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
			uv_poll_stop(&server->listener->poll);
			server->accepting = false;
		}
		return false;
	}
	c = place(server);
	if (c == NULL) {
		close(fd);
		return true;
	}
	c->poll = poll_create(server, fd, (uint32_t)(c - server->clients));
	if (c->poll == NULL) {
		close(fd);
		return true;
	}
	c->fd = fd;
	c->state = IDLE;
	c->active = ++server->activity;
	client_watch(c);
	return true;
}

static void
ready(uv_poll_t *handle, int status, int events)
{
	struct server_poll *p = (struct server_poll *)handle;
	struct hfb_server *server = p->server;
	struct client *c;

	if (p->slot == LISTENER) {
		for (uint32_t i = 0; i < ACCEPTS_MAX && accept_one(server); i++)
			;
		return;
	}
	c = &server->clients[p->slot];
	hfb_assert(c->poll == p);
	/* What was sent before a hang-up is not acted on: nobody could be told. */
	if (status < 0 || (events & UV_DISCONNECT) != 0)
		client_close(c);
	else if (c->state == SENDING)
		client_send(c);
	else if (c->state == IDLE)
		client_read(server, p->slot);
}

static void
tick(uv_timer_t *timer)
{
	struct hfb_server *server = timer->data;

	for (uint32_t i = 0; i < HFB_SERVER_CLIENTS_MAX; i++) {
		struct client *c = &server->clients[i];

		if (c->state == SENDING && ++c->send_ticks > SEND_TICKS_MAX)
			client_close(c);
	}
	if (!server->accepting && uv_poll_start(&server->listener->poll, UV_READABLE, ready) == 0)
		server->accepting = true;
}

static int
bind_socket(struct hfb_server *server, const char *path, struct hfb_err *err)
{
	int r;

	server->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (server->listen_fd < 0)
		return hfb_err_set(err, -errno, "cannot make a socket: %s", strerror(errno));
	(void)unlink(path);
	/* Whoever may connect may delete topics. The mode of an unbound socket is what bind()
	 * gives its file; umask() is the process's, and other threads make files meanwhile. */
	r = fchmod(server->listen_fd, 0600);
	if (r == 0)
		r = bind(server->listen_fd, (struct sockaddr *)&server->address,
			 sizeof(server->address));
	if (r < 0 || listen(server->listen_fd, BACKLOG) < 0)
		return hfb_err_set(err, -errno, "cannot listen on %s: %s", path, strerror(errno));
	return 0;
}

int
hfb_server_create(uv_loop_t *loop, const char *path, hfb_server_fn *request, void *arg,
		  struct hfb_server **ret_server, struct hfb_err *err)
{
	struct hfb_server *server;
	int r;

	if (strlen(path) >= sizeof(server->address.sun_path))
		return hfb_err_set(err, -ENAMETOOLONG,
				   "%s is too long for a socket's name; use a "
				   "shorter --data",
				   path);
	server = calloc(1, sizeof(*server));
	if (server == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	server->loop = loop;
	server->request = request;
	server->arg = arg;
	server->address.sun_family = AF_UNIX;
	strcpy(server->address.sun_path, path);
	for (uint32_t i = 0; i < HFB_SERVER_CLIENTS_MAX; i++)
		server->clients[i].fd = -1;
	r = bind_socket(server, path, err);
	if (r < 0)
		goto fail;
	server->listener = poll_create(server, server->listen_fd, LISTENER);
	if (server->listener == NULL) {
		r = hfb_err_set(err, -ENOMEM, "out of memory");
		goto fail;
	}
	uv_poll_start(&server->listener->poll, UV_READABLE, ready);
	server->accepting = true;
	uv_timer_init(loop, &server->tick);
	server->tick.data = server;
	uv_timer_start(&server->tick, tick, TICK_MS, TICK_MS);
	*ret_server = server;
	return 0;
fail:
	if (server->listen_fd >= 0)
		close(server->listen_fd);
	free(server);
	return r;
}

static void
tick_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void
hfb_server_destroy(struct hfb_server *server)
{
	if (server == NULL)
		return;
	for (uint32_t i = 0; i < HFB_SERVER_CLIENTS_MAX; i++)
		if (server->clients[i].state != FREE)
			client_close(&server->clients[i]);
	poll_destroy(server->listener);
	close(server->listen_fd);
	(void)unlink(server->address.sun_path);
	uv_close((uv_handle_t *)&server->tick, tick_closed);
}
