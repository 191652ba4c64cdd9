/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link_channel.c - frames through shared memory (hfbus/shm.h, struct hfb_channel).
 *
 *	to_core    we write frames and tail, the core writes head
 *	to_client  the core writes frames and tail, we write head
 *
 * A frame's size is stored before tail is release-stored (show); a kick besides writes
 * the eventfd when the core has said that it sleeps, which takes a full fence to know.
 *
 * While little is on the way only the first bytes of the ring are used, again and again:
 * they stay in the caches of both sides, which the whole ring is too large for.
 */
#include "connection.h"
#include "link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PREFIX_BYTES 8u /* u32 size, u32 zero */
/* So far a lap goes when no more than half of it is on the way. */
#define LAP_BYTES	(256u * HFB_KIB)
#define LINE		64u
#define AHEAD_BYTES_MAX 512u

struct channel {
	struct hfb_link link;
	struct hfb_bus *bus; /* for CHANNEL_CLOSE; NULL in tests */
	struct hfb_channel *shared;
	uint64_t bytes;
	int memfd, eventfd;
	/* our own copies: the other side may scribble, we do not follow it */
	uint8_t *out;
	const uint8_t *in;
	uint64_t out_bytes, in_bytes;
	uint64_t out_tail, out_tail_published, out_head_seen;
	uint64_t lap_end; /* of out_tail: from here on the lap may be a short one */
	bool wake_due;	  /* published since we made sure that a sleeping core sees it */
	uint64_t in_head, in_head_next;
};

static inline uint64_t
padded(uint64_t n)
{
	return (n + 7) & ~7ull;
}

/* What the core has taken, as far as that can be true. */
static void
out_head_look(struct channel *c)
{
	/* pairs with the core's release of its head */
	uint64_t head_now = __atomic_load_n(&c->shared->to_core_head, __ATOMIC_ACQUIRE);

	if (head_now - c->out_head_seen <= c->out_tail - c->out_head_seen)
		c->out_head_seen = head_now;
}

/* Bytes to pass over so that a frame of @need lies whole, and the lap is short if it may be. */
static uint64_t
out_skip(struct channel *c, uint64_t need)
{
	uint64_t to_end = c->out_bytes - (c->out_tail & (c->out_bytes - 1));

	if (c->out_tail >= c->lap_end) {
		c->lap_end = c->out_tail + LAP_BYTES;
		if (to_end < c->out_bytes / 2 || to_end == c->out_bytes)
			return to_end < need ? to_end : 0;
		out_head_look(c);
		if (c->out_tail - c->out_head_seen + need <= LAP_BYTES / 2)
			return to_end;
	}
	return to_end < need ? to_end : 0;
}

/*
 * The lines the next frame takes: the core has read them since they were written, so a store
 * waits until they are ours alone, and with it the tail behind it. Asked for now that wait is
 * over when there is something to send.
 */
static inline void
lines_ask(const struct channel *c, uint64_t bytes)
{
	if (bytes > AHEAD_BYTES_MAX)
		bytes = AHEAD_BYTES_MAX;
	for (uint64_t at = 0; at < bytes; at += LINE) {
		const uint8_t *line = c->out + ((c->out_tail + at) & (c->out_bytes - 1));
#if defined(__x86_64__)
		__asm__ volatile("prefetchw %0" : : "m"(*line));
#else
		__builtin_prefetch(line, 1, 3);
#endif
	}
}

static int
channel_send(struct hfb_link *link, const void *head, size_t head_size, const void *body,
	     size_t body_size)
{
	struct channel *c = (struct channel *)link;
	uint64_t size = head_size + body_size, need = PREFIX_BYTES + padded(size);
	uint64_t skip = out_skip(c, need);
	uint32_t prefix[2] = { (uint32_t)size, 0 };
	uint8_t *at;

	if (c->out_tail + skip + need - c->out_head_seen > c->out_bytes) {
		out_head_look(c);
		if (c->out_tail + skip + need - c->out_head_seen > c->out_bytes)
			return -EAGAIN;
	}
	if (skip > 0) {
		uint32_t wrap = HFB_CHANNEL_WRAP;

		memcpy(c->out + (c->out_tail & (c->out_bytes - 1)), &wrap, sizeof(wrap));
		c->out_tail += skip;
		c->lap_end = c->out_tail + LAP_BYTES;
	}
	at = c->out + (c->out_tail & (c->out_bytes - 1));
	memcpy(at, prefix, PREFIX_BYTES);
	if (head_size == sizeof(struct hfb_frame_produce)) /* known size: a few moves, no call */
		memcpy(at + PREFIX_BYTES, head, sizeof(struct hfb_frame_produce));
	else
		memcpy(at + PREFIX_BYTES, head, head_size);
	if (body_size > 0)
		memcpy(at + PREFIX_BYTES + head_size, body, body_size);
	c->out_tail += need;
	lines_ask(c, need);
	return 0;
}

static void
core_wake(struct channel *c)
{
	uint64_t one = 1;

	if (__atomic_load_n(&c->shared->core_sleeps, __ATOMIC_RELAXED) != 0 && c->eventfd >= 0 &&
	    write(c->eventfd, &one, sizeof(one)) < 0) {
		/* EAGAIN: it is written to already, so the core will wake */
	}
}

static void
channel_show(struct hfb_link *link)
{
	struct channel *c = (struct channel *)link;

	if (c->out_tail == c->out_tail_published)
		return;
	c->out_tail_published = c->out_tail;
	c->wake_due = true;
	/* pairs with the core's acquire of the tail */
	__atomic_store_n(&c->shared->to_core_tail, c->out_tail, __ATOMIC_RELEASE);
	/* misses only one that falls asleep at this moment; the kick does not */
	core_wake(c);
}

static void
channel_kick(struct hfb_link *link)
{
	struct channel *c = (struct channel *)link;

	channel_show(link);
	if (!c->wake_due)
		return;
	c->wake_due = false;
	/* tail before the look at core_sleeps; the core stores core_sleeps before it looks at
	 * tail: one of the two sees the other */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	core_wake(c);
}

static int
channel_receive(struct hfb_link *link, const uint8_t **ret_frame, uint32_t *ret_size)
{
	struct channel *c = (struct channel *)link;
	uint64_t tail, at, to_end;
	uint32_t size;

	if (c->in_head_next != c->in_head) { /* the frame lent last goes back */
		c->in_head = c->in_head_next;
		/* pairs with the core's acquire of the head */
		__atomic_store_n(&c->shared->to_client_head, c->in_head, __ATOMIC_RELEASE);
	}
	/* pairs with the core's release of the tail */
	tail = __atomic_load_n(&c->shared->to_client_tail, __ATOMIC_ACQUIRE);
	for (;;) {
		if (tail == c->in_head)
			return 0;
		if (tail - c->in_head > c->in_bytes)
			return -ENOTCONN;
		at = c->in_head & (c->in_bytes - 1);
		to_end = c->in_bytes - at;
		memcpy(&size, c->in + at, sizeof(size));
		if (size != HFB_CHANNEL_WRAP)
			break;
		c->in_head += to_end;
		c->in_head_next = c->in_head;
	}
	if (size > to_end - PREFIX_BYTES || PREFIX_BYTES + padded(size) > tail - c->in_head)
		return -ENOTCONN;
	c->in_head_next = c->in_head + PREFIX_BYTES + padded(size);
	*ret_frame = c->in + at + PREFIX_BYTES;
	*ret_size = size;
	return 1;
}

static void
channel_close(struct hfb_link *link)
{
	struct channel *c = (struct channel *)link;

	if (c->bus != NULL && c->bus->up) {
		struct hfb_ipc_channel_open ask = { .core = link->core, .session = link->session };
		struct hfb_err err;

		hfb_connection_ask(c->bus, HFB_IPC_CHANNEL_CLOSE, &ask, sizeof(ask), NULL, NULL,
				   NULL, 0, NULL, &err);
	}
	munmap(c->shared, c->bytes);
	close(c->memfd);
	if (c->eventfd >= 0)
		close(c->eventfd);
	free(c);
}

static const struct hfb_link_ops channel_ops = {
	.send = channel_send,
	.show = channel_show,
	.kick = channel_kick,
	.receive = channel_receive,
	.close = channel_close,
};

static bool
ring_fits(uint64_t offset, uint64_t size, uint64_t bytes)
{
	return size >= 4096 && (size & (size - 1)) == 0 && offset >= sizeof(struct hfb_channel) &&
	       (offset & 7) == 0 && offset <= bytes && size <= bytes - offset;
}

int
hfb_link_channel_attach(int memfd, int eventfd, uint64_t bytes, struct hfb_link **ret_link,
			struct hfb_err *err)
{
	struct hfb_channel *shared, seen;
	struct channel *c;
	struct stat st;

	if (bytes < sizeof(*shared) || fstat(memfd, &st) < 0 || (uint64_t)st.st_size < bytes)
		return hfb_err_set(err, -EPROTO, "hfbusd's channel is smaller than it says");
	shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	if (shared == MAP_FAILED)
		return hfb_err_set(err, -errno, "cannot map the channel: %s", strerror(errno));
	memcpy(&seen, shared, sizeof(seen));
	if (seen.magic != HFB_CHANNEL_MAGIC || seen.version != 1 || seen.incompatible != 0 ||
	    !ring_fits(seen.to_core_offset, seen.to_core_bytes, bytes) ||
	    !ring_fits(seen.to_client_offset, seen.to_client_bytes, bytes)) {
		munmap(shared, bytes);
		return hfb_err_set(err, -EPROTO,
				   "hfbusd's channel has another layout than version 1");
	}
	c = calloc(1, sizeof(*c));
	if (c == NULL) {
		munmap(shared, bytes);
		return hfb_err_set(err, -ENOMEM, "out of memory");
	}
	c->link.ops = &channel_ops;
	c->link.session = seen.session;
	c->link.core = (uint16_t)seen.core;
	c->link.sessions = 1;
	/* half the ring: then a frame always fits into an empty one, wherever its end is */
	c->link.frame_bytes_max = seen.to_core_bytes / 2 - PREFIX_BYTES;
	c->shared = shared;
	c->bytes = bytes;
	c->memfd = memfd;
	c->eventfd = eventfd;
	c->out = (uint8_t *)shared + seen.to_core_offset;
	c->out_bytes = seen.to_core_bytes;
	c->in = (const uint8_t *)shared + seen.to_client_offset;
	c->in_bytes = seen.to_client_bytes;
	c->out_tail = c->out_tail_published = c->out_head_seen = seen.to_core_tail;
	c->lap_end = c->out_tail + LAP_BYTES;
	c->in_head = c->in_head_next = seen.to_client_head;
	*ret_link = &c->link;
	return 0;
}

int
hfb_link_channel_open(struct hfb_bus *bus, uint16_t core, struct hfb_link **ret_link,
		      struct hfb_err *err)
{
	struct hfb_ipc_channel_open ask = { .core = core };
	struct hfb_ipc_channel answer;
	size_t size = sizeof(answer);
	uint32_t n = 0;
	int fds[2], r;

	r = hfb_connection_ask(bus, HFB_IPC_CHANNEL_OPEN, &ask, sizeof(ask), &answer, &size, fds, 2,
			       &n, err);
	if (r < 0)
		return r;
	if (size < sizeof(answer) || n != 2)
		r = hfb_err_set(err, -EPROTO, "hfbusd's channel came without its descriptors");
	else
		r = hfb_link_channel_attach(fds[0], fds[1], answer.bytes, ret_link, err);
	if (r < 0) {
		for (uint32_t i = 0; i < n; i++)
			close(fds[i]);
		return r;
	}
	((struct channel *)*ret_link)->bus = bus;
	(*ret_link)->session = answer.session;
	(*ret_link)->core = core;
	(*ret_link)->broker_epoch = bus->broker_epoch;
	return 0;
}
