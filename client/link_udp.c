/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link_udp.c - frames through a kernel UDP socket, one session with one core.
 *
 *	HELLO(nonce) -> COOKIE(nonce, cookie) -> OPEN(nonce, cookie) -> OPENED(session)
 *
 * Each step is asked again after 100 ms, 200 ms, ... A COOKIE that comes unasked
 * tells that the broker does not know the session any more.
 */
#include "link.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "connection.h"
#include "uuid.h"

#define BURST	     32u
#define FRAME_ROOM   2048u
#define SOCKET_BYTES (4 * 1024 * 1024)
#define ASK_FIRST_NS 100000000ull

struct udp {
	struct hfb_link link;
	int fd;
	uint32_t out_count;
	uint32_t in_count, in_next;
	bool opening;
	struct mmsghdr out[BURST], in[BURST];
	struct iovec out_iov[BURST], in_iov[BURST];
	uint8_t out_bytes[BURST][FRAME_ROOM], in_bytes[BURST][FRAME_ROOM];
};

static void
udp_kick(struct hfb_link *link)
{
	struct udp *u = (struct udp *)link;
	uint32_t sent = 0;

	while (sent < u->out_count) {
		int n = sendmmsg(u->fd, u->out + sent, u->out_count - sent, 0);

		if (n > 0) {
			sent += (uint32_t)n;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == ENOBUFS)) {
			struct pollfd p = { .fd = u->fd, .events = POLLOUT };

			if (errno == EAGAIN && poll(&p, 1, 10) > 0)
				continue;
			break; /* dropped like a datagram on the way; timers resend */
		}
		sent++; /* ECONNREFUSED of an earlier one, unreachable: skip it */
	}
	u->out_count = 0;
}

static int
udp_send(struct hfb_link *link, const void *head, size_t head_size, const void *body,
	 size_t body_size)
{
	struct udp *u = (struct udp *)link;
	uint8_t *at;

	if (head_size + body_size > FRAME_ROOM)
		return -EMSGSIZE;
	if (u->out_count == BURST)
		udp_kick(link);
	at = u->out_bytes[u->out_count];
	memcpy(at, head, head_size);
	if (body_size > 0)
		memcpy(at + head_size, body, body_size);
	u->out_iov[u->out_count].iov_len = head_size + body_size;
	u->out_count++;
	if (link->asked_ns == 0)
		link->asked_ns = hfb_now_ns();
	return 0;
}

static int
udp_receive(struct hfb_link *link, const uint8_t **ret_frame, uint32_t *ret_size)
{
	struct udp *u = (struct udp *)link;

	for (;;) {
		if (u->in_next == u->in_count) {
			int n;

			for (uint32_t i = 0; i < BURST; i++)
				u->in_iov[i].iov_len = FRAME_ROOM;
			n = recvmmsg(u->fd, u->in, BURST, MSG_DONTWAIT, NULL);
			u->in_next = u->in_count = 0;
			if (n <= 0) /* also ECONNREFUSED: nobody listens; timers tell */
				return 0;
			u->in_count = (uint32_t)n;
		}
		*ret_frame = u->in_bytes[u->in_next];
		*ret_size = u->in[u->in_next].msg_len;
		u->in_next++;
		if (!u->opening && *ret_size >= HFB_FRAME_BYTES &&
		    (*ret_frame)[2] == HFB_FRAME_COOKIE) {
			link->session_lost = true;
			continue;
		}
		return 1;
	}
}

static void
udp_wait(struct hfb_link *link, uint64_t timeout_ns)
{
	struct udp *u = (struct udp *)link;
	struct pollfd p = { .fd = u->fd, .events = POLLIN };
	struct timespec ts = { .tv_sec = (time_t)(timeout_ns / 1000000000ull),
			       .tv_nsec = (long)(timeout_ns % 1000000000ull) };

	if (u->in_next < u->in_count)
		return;
	ppoll(&p, 1, &ts, NULL);
}

static void
udp_close(struct hfb_link *link)
{
	struct udp *u = (struct udp *)link;
	struct hfb_frame frame;

	if (link->session != 0 && !link->session_lost) {
		hfb_link_send(link, HFB_FRAME_CLOSE, &frame, sizeof(frame), NULL, 0);
		udp_kick(link);
	}
	close(u->fd);
	free(u);
}

/* One question until its answer of @type with @nonce comes; 0 or -ETIMEDOUT. */
static int
ask(struct udp *u, uint8_t type, void *question, size_t size, uint8_t answer_type, uint64_t nonce,
    void *answer, size_t answer_size, uint64_t until_ns)
{
	uint64_t pause_ns = ASK_FIRST_NS, now = hfb_now_ns(), again = now;
	const uint8_t *frame;
	uint32_t n;

	while (now < until_ns) {
		if (now >= again) {
			hfb_link_send(&u->link, type, question, size, NULL, 0);
			udp_kick(&u->link);
			again = now + pause_ns;
			pause_ns = pause_ns * 2 > 1000000000ull ? 1000000000ull : pause_ns * 2;
		}
		while (u->link.ops->receive(&u->link, &frame, &n) == 1) {
			struct hfb_frame_cookie head; /* cookie and opened begin alike */

			if (n < answer_size)
				continue;
			memcpy(&head, frame, sizeof(head));
			if (head.frame.magic != HFB_WIRE_MAGIC ||
			    head.frame.version != HFB_WIRE_VERSION ||
			    head.frame.incompatible != 0 || head.frame.type != answer_type ||
			    head.nonce != nonce)
				continue;
			memcpy(answer, frame, answer_size);
			return 0;
		}
		udp_wait(&u->link, (again < until_ns ? again : until_ns) - now);
		now = hfb_now_ns();
	}
	return -ETIMEDOUT;
}

static int
udp_reopen(struct hfb_link *link, uint32_t timeout_ms, struct hfb_err *err)
{
	struct udp *u = (struct udp *)link;
	union {
		struct hfb_frame_hello hello;
		uint8_t bytes[HFB_HELLO_BYTES];
	} hello;
	struct hfb_frame_cookie cookie;
	struct hfb_frame_open open;
	struct hfb_frame_opened opened = { 0 };
	uint64_t nonce, until = hfb_now_ns() + (uint64_t)timeout_ms * 1000000ull;
	int r;

	memset(&hello, 0, sizeof(hello));
	memset(&open, 0, sizeof(open));
	hfb_random(&nonce, sizeof(nonce));
	link->session = 0;
	link->frame_bytes_max = HFB_UDP_PAYLOAD_MAX;
	u->opening = true;
	hello.hello.nonce = nonce;
	r = ask(u, HFB_FRAME_HELLO, &hello, sizeof(hello), HFB_FRAME_COOKIE, nonce, &cookie,
		sizeof(cookie), until);
	if (r == 0) {
		open.nonce = nonce;
		memcpy(open.cookie, cookie.cookie, sizeof(open.cookie));
		r = ask(u, HFB_FRAME_OPEN, &open, sizeof(open), HFB_FRAME_OPENED, nonce, &opened,
			sizeof(opened), until);
	}
	u->opening = false;
	link->asked_ns = 0;
	if (r < 0)
		return hfb_err_set(err, r,
				   "no hfbusd answers over UDP in %u ms: see --udp, and the "
				   "port's address in hfbusd's --port",
				   timeout_ms);
	link->session = opened.frame.session;
	link->packet = 0;
	link->core = opened.core;
	link->broker_epoch = opened.broker_epoch;
	link->idle_ms = opened.idle_ms;
	link->heard_ns = hfb_now_ns();
	link->session_lost = false;
	link->sessions++;
	if (opened.payload_max >= 512 && opened.payload_max < HFB_UDP_PAYLOAD_MAX)
		link->frame_bytes_max = opened.payload_max;
	return 0;
}

static const struct hfb_link_ops udp_ops = {
	.send = udp_send,
	.show = udp_kick,
	.kick = udp_kick,
	.receive = udp_receive,
	.wait = udp_wait,
	.reopen = udp_reopen,
	.close = udp_close,
};

int
hfb_link_udp_open(const char *host, uint16_t port, uint32_t timeout_ms, struct hfb_link **ret_link,
		  struct hfb_err *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICSERV }, *found;
	int r, fd = -1, bytes = SOCKET_BYTES;
	char service[8];
	struct udp *u;

	snprintf(service, sizeof(service), "%u", port);
	r = getaddrinfo(host, service, &hints, &found);
	if (r != 0)
		return hfb_err_set(err, -EINVAL, "%s: %s, see --udp", host, gai_strerror(r));
	for (struct addrinfo *a = found; a != NULL && fd < 0; a = a->ai_next) {
		fd = socket(a->ai_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
			r = -errno;
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(found);
	if (fd < 0)
		return hfb_err_set(err, r < 0 ? r : -EIO, "%s: no way to it (%s), see --udp", host,
				   strerror(r < 0 ? -r : EIO));
	/* a window's worth may arrive at once; less than asked is fine */
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	u = calloc(1, sizeof(*u));
	if (u == NULL) {
		close(fd);
		return hfb_err_set(err, -ENOMEM, "out of memory");
	}
	u->link.ops = &udp_ops;
	u->fd = fd;
	for (uint32_t i = 0; i < BURST; i++) {
		u->out_iov[i].iov_base = u->out_bytes[i];
		u->in_iov[i].iov_base = u->in_bytes[i];
		u->out[i].msg_hdr = (struct msghdr){ .msg_iov = &u->out_iov[i], .msg_iovlen = 1 };
		u->in[i].msg_hdr = (struct msghdr){ .msg_iov = &u->in_iov[i], .msg_iovlen = 1 };
	}
	r = udp_reopen(&u->link, timeout_ms, err);
	if (r < 0) {
		close(fd);
		free(u);
		return r;
	}
	*ret_link = &u->link;
	return 0;
}

/* Metadata. -------------------------------------------------------------------- */

int
hfb_metadata_ask(struct hfb_link *link, const char *topic, uint32_t partition, uint32_t timeout_ms,
		 struct hfb_partition_address *ret, struct hfb_err *err)
{
	struct {
		struct hfb_frame_metadata_get head;
		char name[HFB_TOPIC_NAME_MAX];
	} question;
	struct hfb_frame_metadata answer;
	struct hfb_wire_partition p;
	uint64_t now = hfb_now_ns(), until = now + (uint64_t)timeout_ms * 1000000ull, again = now;
	uint64_t pause_ns = ASK_FIRST_NS;
	const uint8_t *frame;
	uint32_t size;

	memset(&question, 0, sizeof(question));
	question.head.first_partition = partition;
	question.head.name_size = (uint16_t)strlen(topic);
	memcpy(question.name, topic, strlen(topic));
	while (now < until && !link->session_lost) {
		if (now >= again) {
			hfb_link_send(link, HFB_FRAME_METADATA_GET, &question.head,
				      sizeof(question.head), question.name,
				      question.head.name_size);
			hfb_link_kick(link);
			again = now + pause_ns;
			pause_ns *= 2;
		}
		while (hfb_link_receive(link, &frame, &size) == 1) {
			link->heard_ns = now;
			link->asked_ns = 0;
			if (frame[2] != HFB_FRAME_METADATA || size < sizeof(answer))
				continue; /* data and acks are sent again when missed */
			memcpy(&answer, frame, sizeof(answer));
			if (answer.code == HFB_WIRE_NO_TOPIC)
				return hfb_err_set(err, -ENOENT,
						   "no topic %s here: see 'hfbus "
						   "topic list'",
						   topic);
			if (answer.code != HFB_WIRE_OK)
				return hfb_err_set(err, -EPROTO,
						   "hfbusd answers code %u about "
						   "topic %s",
						   answer.code, topic);
			if (partition >= answer.partitions_count)
				return hfb_err_set(err, -ERANGE,
						   "topic %s has partitions 0 to %u: "
						   "see --partition",
						   topic, answer.partitions_count - 1);
			if (answer.first_partition != partition || answer.count == 0 ||
			    size < sizeof(answer) + sizeof(p))
				continue; /* of an earlier question */
			memcpy(&p, frame + sizeof(answer), sizeof(p));
			ret->topic = answer.topic;
			ret->partitions = answer.partitions_count;
			ret->commit_stage = answer.commit_stage;
			ret->handle = p.handle;
			ret->core = p.core;
			ret->udp_port = p.udp_port;
			ret->leader_epoch = p.leader_epoch;
			ret->batch_bytes_max = p.batch_bytes_max;
			return 0;
		}
		if (link->ops->wait != NULL)
			link->ops->wait(link, (again < until ? again : until) - now);
		now = hfb_now_ns();
	}
	return hfb_err_set(err, -ETIMEDOUT, "hfbusd did not answer about topic %s in %u ms", topic,
			   timeout_ms);
}
