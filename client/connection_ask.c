/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connection_ask.c - hfbusd's socket: reached, asked, and its answers taken.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "connection.h"

#define FDS_MAX 8u /* descriptors of one answer */

int
hfb_connection_dial(struct hfb_bus *bus, struct hfb_err *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval wait;
	char path[4200];
	int fd, dir = -1, r;

	snprintf(path, sizeof(path), "%s/hfbusd.sock", bus->data_dir);
	if (strlen(path) < sizeof(address.sun_path)) {
		memcpy(address.sun_path, path, strlen(path) + 1);
	} else {
		/* sun_path holds 108 bytes; a folder's descriptor makes any path short */
		dir = open(bus->data_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (dir < 0)
			return hfb_err_set(err, -errno, "%s: %s", bus->data_dir, strerror(errno));
		snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/hfbusd.sock",
			 dir);
	}
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		r = -errno;
	} else {
		wait.tv_sec = bus->connect_ms / 1000;
		wait.tv_usec = (bus->connect_ms % 1000) * 1000;
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
		r = connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	}
	if (dir >= 0)
		close(dir);
	if (r < 0) {
		if (fd >= 0)
			close(fd);
		if (r == -EAGAIN)
			r = -ETIMEDOUT;
		return hfb_err_set(err, r,
				   "no hfbusd answers at %s (%s): start one with "
				   "'hfbus up --data DIR', or name another folder with --data or "
				   "HFBUS_DATA",
				   path, strerror(-r));
	}
	bus->socket = fd;
	return 0;
}

static uint32_t
fds_take(struct msghdr *message, int *fds, uint32_t fds_max)
{
	uint32_t n = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
		size_t count;
		int fd;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (n < fds_max)
				fds[n++] = fd;
			else
				close(fd);
		}
	}
	return n;
}

void
hfb_connection_fds_close(const int *fds, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		close(fds[i]);
}

static int
request_send(struct hfb_bus *bus, const struct hfb_ipc *head, const void *body, size_t body_size,
	     struct hfb_err *err)
{
	struct iovec parts[2] = { { (void *)(uintptr_t)head, sizeof(*head) },
				  { (void *)(uintptr_t)body, body_size } };
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = body_size > 0 ? 2 : 1 };
	int r;

	if (sendmsg(bus->socket, &message, MSG_NOSIGNAL) >= 0)
		return 0;
	r = errno == EAGAIN ? -ETIMEDOUT : -ENOTCONN;
	hfb_err_set(err, r, "hfbusd at %s takes no request (%s)", bus->data_dir, strerror(errno));
	if (r == -ENOTCONN)
		hfb_connection_lost(bus);
	return r;
}

/* A message of hfbusd's: its body is in the caller's room, and goes on in @more. */
struct reply {
	struct hfb_ipc head;
	uint8_t *body;
	size_t room, size; /* the caller's; all of the body */
	char more[1024];
	int fds[FDS_MAX];
	uint32_t fds_count;
};

/* The next message into @reply; its descriptors are the caller's then. */
static int
reply_receive(struct hfb_bus *bus, struct reply *reply, struct hfb_err *err)
{
	char control[CMSG_SPACE(sizeof(int) * FDS_MAX)];
	struct iovec parts[3] = { { &reply->head, sizeof(reply->head) },
				  { reply->body, reply->room },
				  { reply->more, sizeof(reply->more) } };
	struct msghdr message = { .msg_iov = parts,
				  .msg_iovlen = 3,
				  .msg_control = control,
				  .msg_controllen = sizeof(control) };
	ssize_t r;

	do {
		r = recvmsg(bus->socket, &message, MSG_CMSG_CLOEXEC);
	} while (r < 0 && errno == EINTR);
	if (r < 0 && errno == EAGAIN)
		return hfb_err_set(err, -ETIMEDOUT, "hfbusd at %s did not answer in %u ms",
				   bus->data_dir, bus->connect_ms);
	if (r <= 0) {
		hfb_connection_lost(bus);
		return hfb_err_set(err, -ENOTCONN, "hfbusd at %s is gone", bus->data_dir);
	}
	reply->fds_count = fds_take(&message, reply->fds, FDS_MAX);
	if ((size_t)r < sizeof(reply->head) || reply->head.magic != HFB_IPC_MAGIC ||
	    reply->head.version != HFB_IPC_VERSION || reply->head.incompatible != 0) {
		hfb_connection_fds_close(reply->fds, reply->fds_count);
		return hfb_err_set(err, -EPROTO,
				   "hfbusd at %s speaks another version of the local protocol "
				   "than %u",
				   bus->data_dir, HFB_IPC_VERSION);
	}
	reply->size = (size_t)r - sizeof(reply->head);
	return 0;
}

/* hfbusd refuses: its body is the sentence why, over both parts. */
static int
reply_refusal(const struct reply *reply, struct hfb_err *err)
{
	char sentence[HFB_ERR_TEXT_MAX];
	size_t n = 0;

	for (size_t i = 0; i < reply->size && n + 1 < sizeof(sentence); i++) {
		char c = i < reply->room ? (char)reply->body[i] : reply->more[i - reply->room];

		if (c == '\0')
			break;
		sentence[n++] = c;
	}
	sentence[n] = '\0';
	return hfb_err_set(err, -(int)reply->head.error, "%s",
			   n > 0 ? sentence : strerror((int)reply->head.error));
}

int
hfb_connection_ask(struct hfb_bus *bus, uint16_t type, const void *body, size_t body_size,
		   void *answer, size_t *size, int *fds, uint32_t fds_max, uint32_t *fds_count,
		   struct hfb_err *err)
{
	struct hfb_ipc head = { .magic = HFB_IPC_MAGIC, .version = HFB_IPC_VERSION, .type = type };
	struct reply reply = { .body = answer, .room = size != NULL ? *size : 0 };
	uint32_t given;
	int r;

	if (!bus->local)
		return hfb_err_set(err, -EOPNOTSUPP, "this needs a local bus: leave --udp away");
	if (bus->socket < 0)
		return hfb_err_set(err, -ENOTCONN, "hfbusd at %s is gone", bus->data_dir);

	head.size = (uint32_t)(sizeof(head) + body_size);
	head.id = ++bus->request_id;
	r = request_send(bus, &head, body, body_size, err);
	if (r < 0)
		return r;
	for (;;) {
		r = reply_receive(bus, &reply, err);
		if (r < 0)
			return r;
		if (reply.head.id == head.id && (reply.head.flags & HFB_IPC_ANSWER) != 0)
			break;
		hfb_connection_fds_close(reply.fds,
					 reply.fds_count); /* answers a request that timed out */
	}
	if (reply.head.error != 0) {
		hfb_connection_fds_close(reply.fds, reply.fds_count);
		return reply_refusal(&reply, err);
	}
	if (size != NULL)
		*size = reply.size < reply.room ? reply.size : reply.room;
	given = reply.fds_count < fds_max ? reply.fds_count : fds_max;
	hfb_connection_fds_close(reply.fds + given, reply.fds_count - given);
	if (given > 0)
		memcpy(fds, reply.fds, given * sizeof(int));
	if (fds_count != NULL)
		*fds_count = given;
	return 0;
}
