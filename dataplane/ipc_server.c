/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc_server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "bug.h"
#include "local.h"
#include "stats.h"

#define REQUESTS_A_POLL 16u /* of one client: the others wait */
#define EVENTS_A_POLL	64

struct hfb_ipc_server {
	struct hfb_node *node;
	int listen_fd, epoll_fd;
	bool listening; /* false: as many clients as there may be */
	struct hfb_ipc_client *clients;
	uint32_t clients_count;
	uint8_t request[HFB_IPC_BYTES_MAX + 8] __attribute__((aligned(8)));
	uint8_t answer[HFB_IPC_BYTES_MAX] __attribute__((aligned(8)));
	struct sockaddr_un address;
};

/* Clients ------------------------------------------------------------------ */

static void
answer_drop(struct hfb_ipc_answer *answer)
{
	for (uint32_t i = 0; answer->fds_owned && i < answer->fds_count; i++)
		close(answer->fds[i]);
	answer->fds_count = 0;
}

static void
listen_set(struct hfb_ipc_server *server, bool on)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = NULL };

	if (server->listening == on)
		return;
	if (epoll_ctl(server->epoll_fd, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, server->listen_fd,
		      &event) == 0)
		server->listening = on;
}

static void
client_end(struct hfb_ipc_server *server, struct hfb_ipc_client *client)
{
	/* close() alone would do, but a descriptor passed to another process would keep it */
	epoll_ctl(server->epoll_fd, EPOLL_CTL_DEL, client->fd, NULL);
	close(client->fd);
	hfb_ipc_channels_end(server->node, client);
	answer_drop(&client->waiting_answer);
	free(client->waiting);
	*client->link = client->next;
	if (client->next != NULL)
		client->next->link = client->link;
	free(client);
	server->clients_count--;
	server->node->stats[HFB_NODE_STAT_IPC_CLIENTS] = server->clients_count;
	listen_set(server, true);
}

static void
clients_accept(struct hfb_ipc_server *server)
{
	for (;;) {
		struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP };
		struct hfb_ipc_client *client;
		int fd;

		if (server->clients_count == HFB_IPC_CLIENTS_MAX) {
			listen_set(server, false);
			return;
		}
		fd = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0) {
			/* out of descriptors: wait for a client to go, do not spin on it */
			if ((errno == EMFILE || errno == ENFILE) && server->clients != NULL)
				listen_set(server, false);
			return;
		}
		client = calloc(1, sizeof(*client));
		event.data.ptr = client;
		if (client == NULL || epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
			free(client);
			close(fd);
			continue;
		}
		client->fd = fd;
		client->link = &server->clients;
		client->next = server->clients;
		if (client->next != NULL)
			client->next->link = &client->next;
		server->clients = client;
		server->clients_count++;
		server->node->stats[HFB_NODE_STAT_IPC_CLIENTS] = server->clients_count;
	}
}

/* Answers ------------------------------------------------------------------ */

/* 1 sent, 0 no room now, -1 the client is gone. */
static int
answer_send(struct hfb_ipc_client *client, const uint8_t *bytes, uint32_t size,
	    const struct hfb_ipc_answer *answer)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(answer->fds))];
	} control = { 0 };
	struct iovec part = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = size };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	ssize_t n;

	if (answer->fds_count > 0) {
		struct cmsghdr *head;

		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(answer->fds_count * sizeof(int));
		head = CMSG_FIRSTHDR(&message);
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(answer->fds_count * sizeof(int));
		memcpy(CMSG_DATA(head), answer->fds, answer->fds_count * sizeof(int));
	}
	do
		n = sendmsg(client->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)size)
		return 1;
	/* ETOOMANYREFS: descriptors it has not taken yet */
	return n < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == ETOOMANYREFS) ? 0 : -1;
}

static void
interest_set(struct hfb_ipc_server *server, struct hfb_ipc_client *client)
{
	/* half closed, a waiting one would be reported for ever; EPOLLHUP comes unasked */
	struct epoll_event event = {
		.events = client->waiting != NULL ? EPOLLOUT : EPOLLIN | EPOLLRDHUP,
		.data.ptr = client,
	};

	epoll_ctl(server->epoll_fd, EPOLL_CTL_MOD, client->fd, &event);
}

/* Send now, or keep it and ask the client nothing until it went. False: end it. */
static bool
answer_give(struct hfb_ipc_server *server, struct hfb_ipc_client *client, const uint8_t *bytes,
	    uint32_t size, struct hfb_ipc_answer *answer)
{
	int sent = answer_send(client, bytes, size, answer);

	if (sent != 0) {
		answer_drop(answer);
		return sent > 0;
	}
	client->waiting = malloc(size);
	if (client->waiting == NULL) {
		answer_drop(answer);
		return false;
	}
	memcpy(client->waiting, bytes, size);
	client->waiting_bytes = size;
	client->waiting_answer = *answer;
	interest_set(server, client);
	return true;
}

/* Requests ----------------------------------------------------------------- */

static bool
request_take(struct hfb_ipc_server *server, struct hfb_ipc_client *client, ssize_t size)
{
	uint64_t *stats = server->node->stats;
	struct hfb_ipc_answer answer = { .body = server->answer + sizeof(struct hfb_ipc) };
	struct hfb_ipc request, *head = (struct hfb_ipc *)server->answer;
	struct hfb_err err = { 0 };
	int r;

	if (size < (ssize_t)sizeof(request))
		return false;
	memcpy(&request, server->request, sizeof(request));
	if (request.magic != HFB_IPC_MAGIC || request.size != (uint64_t)size ||
	    (request.flags & HFB_IPC_ANSWER) != 0)
		return false;
	stats[HFB_NODE_STAT_IPC_REQUESTS]++;
	if (request.version != HFB_IPC_VERSION || request.incompatible != 0 || request.flags != 0)
		r = hfb_err_set(&err, -EPROTONOSUPPORT,
				"hfbusd speaks version %u of its socket's"
				" protocol, not %u with features 0x%x and flags 0x%x",
				HFB_IPC_VERSION, request.version, request.incompatible,
				request.flags);
	else
		r = hfb_ipc_request(server->node, client, request.type,
				    server->request + sizeof(request),
				    (uint32_t)(size - (ssize_t)sizeof(request)), &answer, &err);
	if (r < 0) {
		stats[HFB_NODE_STAT_IPC_REFUSED]++;
		answer_drop(&answer);
		if (err.text[0] == '\0')
			hfb_err_set(&err, r, "%s", strerror(-r));
		answer.body_bytes = (uint32_t)strlen(err.text);
		memcpy(answer.body, err.text, answer.body_bytes);
	}
	hfb_assert(answer.body_bytes <= sizeof(server->answer) - sizeof(*head));
	*head = (struct hfb_ipc){
		.magic = HFB_IPC_MAGIC,
		.version = HFB_IPC_VERSION,
		.type = request.type,
		.flags = HFB_IPC_ANSWER,
		.size = (uint32_t)sizeof(*head) + answer.body_bytes,
		.id = request.id,
		.error = r < 0 ? (uint32_t)-r : 0,
	};
	return answer_give(server, client, server->answer, head->size, &answer);
}

/* False: the client is to be ended. */
static bool
client_read(struct hfb_ipc_server *server, struct hfb_ipc_client *client)
{
	for (uint32_t i = 0; i < REQUESTS_A_POLL && client->waiting == NULL; i++) {
		struct iovec part = { .iov_base = server->request,
				      .iov_len = sizeof(server->request) };
		/* no room for control data: descriptors sent to us are closed by the kernel */
		struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
		ssize_t size = recvmsg(client->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

		if (size < 0)
			return errno == EAGAIN || errno == EINTR;
		if (size == 0)
			return false;
		if ((message.msg_flags & MSG_TRUNC) != 0 || !request_take(server, client, size)) {
			server->node->stats[HFB_NODE_STAT_IPC_BROKEN]++;
			return false;
		}
	}
	return true;
}

static bool
client_write(struct hfb_ipc_server *server, struct hfb_ipc_client *client)
{
	int sent = answer_send(client, client->waiting, client->waiting_bytes,
			       &client->waiting_answer);

	if (sent == 0)
		return true;
	answer_drop(&client->waiting_answer);
	free(client->waiting);
	client->waiting = NULL;
	if (sent < 0)
		return false;
	interest_set(server, client);
	return true;
}

void
hfb_ipc_server_poll(struct hfb_ipc_server *server)
{
	struct epoll_event events[EVENTS_A_POLL];
	int n = epoll_wait(server->epoll_fd, events, EVENTS_A_POLL, 0);

	for (int i = 0; i < n; i++) {
		struct hfb_ipc_client *client = events[i].data.ptr;
		bool alive = true;

		if (client == NULL) {
			clients_accept(server);
			continue;
		}
		if (client->waiting != NULL && (events[i].events & EPOLLOUT) != 0)
			alive = client_write(server, client);
		else if ((events[i].events & EPOLLIN) != 0)
			alive = client_read(server, client);
		/* gone for good: what it still had to say is answered above, a burst at a time */
		if (alive && (events[i].events & (EPOLLHUP | EPOLLERR)) != 0 &&
		    (events[i].events & EPOLLIN) == 0)
			alive = false;
		if (!alive)
			client_end(server, client);
	}
}

void
hfb_ipc_server_tick(struct hfb_ipc_server *server)
{
	struct hfb_ipc_client *client, *next;

	for (client = server->clients; client != NULL; client = next) {
		next = client->next;
		for (uint32_t i = 0; i < client->channels_count; i++)
			if (__atomic_load_n(&client->channels[i]->broken, __ATOMIC_RELAXED)) {
				server->node->stats[HFB_NODE_STAT_IPC_BROKEN]++;
				client_end(server, client);
				break;
			}
	}
	/* descriptors may be free again */
	if (server->clients_count < HFB_IPC_CLIENTS_MAX)
		listen_set(server, true);
}

/* Boot --------------------------------------------------------------------- */

int
hfb_ipc_server_fd(const struct hfb_ipc_server *server)
{
	return server->epoll_fd;
}

int
hfb_ipc_server_create(struct hfb_node *node, const char *path, struct hfb_ipc_server **ret_server,
		      struct hfb_err *err)
{
	struct hfb_ipc_server *server = calloc(1, sizeof(*server));
	int r;

	if (server == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	server->node = node;
	server->listen_fd = server->epoll_fd = -1;
	server->address.sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(server->address.sun_path)) {
		r = hfb_err_set(err, -ENAMETOOLONG,
				"the socket's name '%s' is longer than %zu bytes:"
				" choose a shorter --data",
				path, sizeof(server->address.sun_path) - 1);
		goto fail;
	}
	strcpy(server->address.sun_path, path);
	server->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (server->listen_fd < 0 || server->epoll_fd < 0) {
		r = hfb_err_set(err, -errno, "the socket '%s': %s", path, strerror(errno));
		goto fail;
	}
	/* DATA is locked by us, so a file of this name is a leftover */
	unlink(path);
	/* The mode of an unbound socket is what bind() gives its file; umask() is the
	 * process's, and other threads make files meanwhile. */
	r = fchmod(server->listen_fd, 0600);
	if (r == 0)
		r = bind(server->listen_fd, (struct sockaddr *)&server->address,
			 sizeof(server->address));
	if (r < 0 || listen(server->listen_fd, HFB_IPC_CLIENTS_MAX) < 0) {
		r = hfb_err_set(err, -errno, "the socket '%s': %s", path, strerror(errno));
		server->address.sun_path[0] = '\0';
		goto fail;
	}
	listen_set(server, true);
	*ret_server = server;
	return 0;
fail:
	hfb_ipc_server_destroy(server);
	return r;
}

void
hfb_ipc_server_destroy(struct hfb_ipc_server *server)
{
	if (server == NULL)
		return;
	if (server->listen_fd >= 0) {
		close(server->listen_fd);
		if (server->address.sun_path[0] != '\0')
			unlink(server->address.sun_path);
		server->listening = true; /* nothing to put back while clients end */
	}
	while (server->clients != NULL) {
		hfb_assert(server->clients->link == &server->clients);
		client_end(server, server->clients);
	}
	if (server->epoll_fd >= 0)
		close(server->epoll_fd);
	free(server);
}
