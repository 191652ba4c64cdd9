/* SPDX-License-Identifier: Apache-2.0 */
#include "broker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "bug.h"

#define RETRY_MS 200u
#define TICK_MS	 1000u
/* hfbusd's main thread may zero a segment for a topic; a disk can be slow. */
#define CALL_TICKS_MAX 20u
#define FDS_MAX	       4

struct call {
	uint32_t id; /* 0 = free */
	uint16_t type;
	uint32_t ticks;
	hfb_broker_fn *done;
	void *arg;
};

/* A handle lives until the loop has closed it, longer than the connection; so it is apart. */
struct poll_handle {
	uv_poll_t poll; /* first */
	struct hfb_broker *broker;
};

struct hfb_broker {
	struct poll_handle *poll; /* while connected */
	uv_timer_t retry, tick;
	uv_loop_t *loop;
	const struct hfb_broker_events *events;
	void *arg;
	int fd;
	bool up, closing;
	uint32_t closing_handles;
	uint32_t last_id;
	struct sockaddr_un address;
	struct call calls[HFB_BROKER_CALLS_MAX];
	struct hfb_ipc_welcome welcome;
	const struct hfb_positions *positions;
	uint64_t positions_bytes;
	struct hfb_counters_view counters; /* header NULL: none */
	union {
		struct hfb_ipc head;
		char bytes[HFB_IPC_BYTES_MAX];
	} in;
};

static void
poll_closed(uv_handle_t *handle)
{
	free(handle);
}

static void
unmap_positions(struct hfb_broker *broker)
{
	if (broker->positions != NULL)
		munmap((void *)(uintptr_t)broker->positions, broker->positions_bytes);
	broker->positions = NULL;
	broker->positions_bytes = 0;
	hfb_counters_unmap(&broker->counters);
}

static void
end_calls(struct hfb_broker *broker, int error, const char *why)
{
	for (uint32_t i = 0; i < HFB_BROKER_CALLS_MAX; i++) {
		struct call call = broker->calls[i];

		if (call.id == 0)
			continue;
		broker->calls[i].id = 0;
		call.done(call.arg, error, why, NULL, 0);
	}
}

static void
disconnect(struct hfb_broker *broker, const char *why)
{
	bool was_up = broker->up;

	if (broker->fd < 0)
		return;
	broker->up = false;
	if (broker->poll != NULL) {
		uv_poll_stop(&broker->poll->poll);
		uv_close((uv_handle_t *)&broker->poll->poll, poll_closed);
		broker->poll = NULL;
	}
	close(broker->fd);
	broker->fd = -1;
	unmap_positions(broker);
	end_calls(broker, -ENOTCONN, why);
	if (was_up && broker->events->down != NULL && !broker->closing)
		broker->events->down(broker->arg, why);
}

int
hfb_broker_call(struct hfb_broker *broker, enum hfb_ipc_type type, const void *body, uint32_t bytes,
		hfb_broker_fn *done, void *arg)
{
	struct hfb_ipc head = {
		.magic = HFB_IPC_MAGIC,
		.version = HFB_IPC_VERSION,
		.type = (uint16_t)type,
		.size = (uint32_t)sizeof(head) + bytes,
	};
	struct iovec parts[2] = { { &head, sizeof(head) }, { (void *)(uintptr_t)body, bytes } };
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
	struct call *call = NULL;

	if (broker->fd < 0 || (!broker->up && type != HFB_IPC_HELLO))
		return -ENOTCONN;
	if (bytes > HFB_IPC_BYTES_MAX - sizeof(head))
		return -EMSGSIZE;
	for (uint32_t i = 0; i < HFB_BROKER_CALLS_MAX && call == NULL; i++)
		if (broker->calls[i].id == 0)
			call = &broker->calls[i];
	if (call == NULL)
		return -EAGAIN;
	if (++broker->last_id == 0)
		broker->last_id = 1;
	head.id = broker->last_id;
	/* hfbusd reads each request before it answers: a full socket means that it hangs. */
	if (sendmsg(broker->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return errno == EAGAIN ? -EAGAIN : -ENOTCONN;
	*call = (struct call){ head.id, (uint16_t)type, 0, done, arg };
	return 0;
}

static const char *
check_answer(const struct hfb_broker *broker, size_t bytes, const struct call **ret_call)
{
	const struct hfb_ipc *head = &broker->in.head;

	*ret_call = NULL;
	if (bytes < sizeof(*head) || head->size != bytes)
		return "hfbusd sent a message of the wrong size";
	if (head->magic != HFB_IPC_MAGIC)
		return "what answers on hfbusd.sock is not hfbusd";
	if (head->version != HFB_IPC_VERSION || head->incompatible != 0)
		return "hfbusd is of another version than hfbus-control; start both anew";
	if ((head->flags & HFB_IPC_ANSWER) == 0)
		return "hfbusd sent a message that is no answer";
	for (uint32_t i = 0; i < HFB_BROKER_CALLS_MAX; i++) {
		const struct call *call = &broker->calls[i];

		if (call->id != 0 && call->id == head->id && call->type == head->type) {
			*ret_call = call;
			return NULL;
		}
	}
	return "hfbusd answered what was not asked";
}

static void
receive_fds(struct msghdr *message, int fds[FDS_MAX], int *ret_count)
{
	int count = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (count < FDS_MAX)
				fds[count++] = fd;
			else
				close(fd);
		}
	}
	*ret_count = count;
}

/* HELLO's answer: the descriptors are {positions, counters}. */
static void
welcome(struct hfb_broker *broker, const void *body, size_t bytes, const int *fds, int fds_count)
{
	struct hfb_err err;
	struct stat st;
	void *map;

	if (bytes < sizeof(broker->welcome) || fds_count < 1) {
		disconnect(broker, "hfbusd's welcome is too short");
		return;
	}
	memcpy(&broker->welcome, body, sizeof(broker->welcome));
	if (fstat(fds[0], &st) < 0 || broker->welcome.positions_bytes == 0 ||
	    (uint64_t)st.st_size < broker->welcome.positions_bytes) {
		disconnect(broker, "hfbusd's positions are smaller than it says");
		return;
	}
	map = mmap(NULL, broker->welcome.positions_bytes, PROT_READ, MAP_SHARED, fds[0], 0);
	if (map == MAP_FAILED) {
		disconnect(broker, "hfbusd's positions cannot be mapped");
		return;
	}
	broker->positions = map;
	broker->positions_bytes = broker->welcome.positions_bytes;
	/* Without them there are fewer metrics, and nothing else is amiss. */
	if (fds_count >= 2)
		(void)hfb_counters_map(fds[1], &broker->counters, &err);
	broker->up = true;
	broker->events->up(broker->arg);
}

static void
hello_done(void *arg, int error, const char *sentence, const void *body, uint32_t bytes)
{
	/* The answer is taken in answer(), where its descriptors are; here only failures end. */
	(void)arg, (void)error, (void)sentence, (void)body, (void)bytes;
}

static void
answer(struct hfb_broker *broker, size_t bytes, const int *fds, int fds_count)
{
	const struct call *found;
	const char *bad = check_answer(broker, bytes, &found);
	const char *body = broker->in.bytes + sizeof(struct hfb_ipc);
	size_t body_bytes = bytes - sizeof(struct hfb_ipc);
	char sentence[HFB_ERR_TEXT_MAX] = "";
	struct call call;
	int error;

	if (bad != NULL) {
		disconnect(broker, bad);
		return;
	}
	call = *found;
	broker->calls[found - broker->calls].id = 0;
	error = broker->in.head.error > INT32_MAX ? -EPROTO : -(int)broker->in.head.error;
	if (error != 0) {
		size_t n = body_bytes < sizeof(sentence) - 1 ? body_bytes : sizeof(sentence) - 1;

		memcpy(sentence, body, n);
		if (call.type == HFB_IPC_HELLO)
			disconnect(broker, "hfbusd refused the connection");
		else
			call.done(call.arg, error, sentence, NULL, 0);
		return;
	}
	if (call.type == HFB_IPC_HELLO)
		welcome(broker, body, body_bytes, fds, fds_count);
	else
		call.done(call.arg, 0, sentence, body, (uint32_t)body_bytes);
}

static void
readable(uv_poll_t *poll, int status, int events)
{
	struct hfb_broker *broker = ((struct poll_handle *)poll)->broker;
	char control[CMSG_SPACE(FDS_MAX * sizeof(int))];
	struct iovec part = { broker->in.bytes, sizeof(broker->in.bytes) };
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	int fds[FDS_MAX], fds_count = 0;
	ssize_t n;

	(void)events;
	if (status < 0) {
		disconnect(broker, "hfbusd has gone");
		return;
	}
	n = recvmsg(broker->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		disconnect(broker, "hfbusd has gone");
		return;
	}
	receive_fds(&message, fds, &fds_count);
	answer(broker, (size_t)n, fds, fds_count);
	for (int i = 0; i < fds_count; i++)
		close(fds[i]);
}

static bool
poll_start(struct hfb_broker *broker)
{
	struct poll_handle *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return false;
	p->broker = broker;
	if (uv_poll_init(broker->loop, &p->poll, broker->fd) < 0) {
		free(p);
		return false;
	}
	broker->poll = p;
	return uv_poll_start(&p->poll, UV_READABLE | UV_DISCONNECT, readable) == 0;
}

static void
connect_now(struct hfb_broker *broker)
{
	broker->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (broker->fd < 0)
		return;
	if (connect(broker->fd, (struct sockaddr *)&broker->address, sizeof(broker->address)) < 0) {
		close(broker->fd);
		broker->fd = -1;
		return;
	}
	if (!poll_start(broker) ||
	    hfb_broker_call(broker, HFB_IPC_HELLO, NULL, 0, hello_done, NULL) < 0)
		disconnect(broker, "hfbusd does not listen");
}

static void
retry(uv_timer_t *timer)
{
	struct hfb_broker *broker = timer->data;

	if (broker->fd < 0)
		connect_now(broker);
}

static void
tick(uv_timer_t *timer)
{
	struct hfb_broker *broker = timer->data;

	for (uint32_t i = 0; i < HFB_BROKER_CALLS_MAX; i++) {
		if (broker->calls[i].id != 0 && ++broker->calls[i].ticks > CALL_TICKS_MAX) {
			disconnect(broker, "hfbusd did not answer");
			return;
		}
	}
}

int
hfb_broker_create(uv_loop_t *loop, const char *path, const struct hfb_broker_events *events,
		  void *arg, struct hfb_broker **ret_broker, struct hfb_err *err)
{
	struct hfb_broker *broker;

	if (strlen(path) >= sizeof(broker->address.sun_path))
		return hfb_err_set(err, -ENAMETOOLONG,
				   "%s is too long for a socket's name; use a "
				   "shorter --data",
				   path);
	broker = calloc(1, sizeof(*broker));
	if (broker == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	broker->loop = loop;
	broker->events = events;
	broker->arg = arg;
	broker->fd = -1;
	broker->address.sun_family = AF_UNIX;
	strcpy(broker->address.sun_path, path);
	uv_timer_init(loop, &broker->retry);
	uv_timer_init(loop, &broker->tick);
	broker->retry.data = broker->tick.data = broker;
	uv_timer_start(&broker->retry, retry, 0, RETRY_MS);
	uv_timer_start(&broker->tick, tick, TICK_MS, TICK_MS);
	*ret_broker = broker;
	return 0;
}

static void
timer_closed(uv_handle_t *handle)
{
	struct hfb_broker *broker = handle->data;

	if (--broker->closing_handles == 0)
		free(broker);
}

void
hfb_broker_destroy(struct hfb_broker *broker)
{
	if (broker == NULL)
		return;
	broker->closing = true;
	disconnect(broker, "hfbus-control stops");
	broker->closing_handles = 2;
	uv_close((uv_handle_t *)&broker->retry, timer_closed);
	uv_close((uv_handle_t *)&broker->tick, timer_closed);
}

bool
hfb_broker_is_up(const struct hfb_broker *broker)
{
	return broker->up;
}

const struct hfb_positions *
hfb_broker_positions(const struct hfb_broker *broker, uint32_t handle)
{
	if (broker->positions == NULL ||
	    handle >= broker->positions_bytes / sizeof(struct hfb_positions))
		return NULL;
	return &broker->positions[handle];
}

const struct hfb_positions *
hfb_broker_all_positions(const struct hfb_broker *broker, uint32_t *ret_count)
{
	*ret_count = (uint32_t)(broker->positions_bytes / sizeof(struct hfb_positions));
	return broker->positions;
}

const struct hfb_counters_view *
hfb_broker_counters(const struct hfb_broker *broker)
{
	return broker->counters.header != NULL ? &broker->counters : NULL;
}

const struct hfb_ipc_welcome *
hfb_broker_welcome(const struct hfb_broker *broker)
{
	return &broker->welcome;
}
