/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link.h - frames to and from one poll core; the small table behind which
 * shared memory and UDP look the same.
 *
 *	r = hfb_link_send(link, HFB_FRAME_PRODUCE, &head.frame, sizeof(head), bytes, n);
 *	hfb_link_kick(link);				what was sent is on its way
 *	while (hfb_link_receive(link, &frame, &size) == 1)
 *		...
 *
 * Threads: the bus's.
 * Memory:  a received frame is lent until the next call on the link.
 */
#ifndef HFB_LINK_H
#define HFB_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hfbus/wire.h>

#include "err.h"

struct hfb_bus;
struct hfb_link;

struct hfb_link_ops {
	/* A frame: @head (with a frame header), then @body. 0, -EAGAIN full,
	 * -EMSGSIZE, -ENOTCONN. */
	int (*send)(struct hfb_link *link, const void *head, size_t head_size, const void *body,
		    size_t body_size);
	/* What was sent goes; kick sees to it that a sleeping core wakes, show may not. */
	void (*show)(struct hfb_link *link);
	void (*kick)(struct hfb_link *link);
	/* 1 and a frame of at least HFB_FRAME_BYTES, 0 none, -ENOTCONN. */
	int (*receive)(struct hfb_link *link, const uint8_t **ret_frame, uint32_t *ret_size);
	/* Wait for a frame, at most @timeout_ns; may come back early. NULL: it cannot tell. */
	void (*wait)(struct hfb_link *link, uint64_t timeout_ns);
	/* Make the session anew after silence; NULL: the bus does it. */
	int (*reopen)(struct hfb_link *link, uint32_t timeout_ms, struct hfb_err *err);
	void (*close)(struct hfb_link *link);
};

struct hfb_link {
	const struct hfb_link_ops *ops;
	uint64_t session;
	uint64_t packet;   /* of the last frame sent */
	uint64_t heard_ns; /* when a frame last came */
	uint64_t asked_ns; /* first unanswered send since, 0 = none */
	uint64_t broker_epoch;
	uint32_t frame_bytes_max;
	uint32_t idle_ms;  /* session is forgotten after this silence; 0 = never */
	uint32_t sessions; /* counts opens: changed = handles and sequences anew */
	uint16_t core;
	bool session_lost; /* the other side said so */
};

/* Fills the frame header at the start of @head: type, session, packet number. */
int hfb_link_send(struct hfb_link *link, uint8_t type, void *head, size_t head_size,
		  const void *body, size_t body_size);
void hfb_link_show(struct hfb_link *link); /* cheap; a kick must follow before long */
void hfb_link_kick(struct hfb_link *link);
/* Frames with a wrong magic, version, size or session are dropped here. */
int hfb_link_receive(struct hfb_link *link, const uint8_t **ret_frame, uint32_t *ret_size);
void hfb_link_close(struct hfb_link *link); /* accepts NULL */

/* link_channel.c: shared memory; asks hfbusd for a channel. */
int hfb_link_channel_open(struct hfb_bus *bus, uint16_t core, struct hfb_link **ret_link,
			  struct hfb_err *err);
/* The same over a channel that is there already (tests). Takes both fds when it succeeds. */
int hfb_link_channel_attach(int memfd, int eventfd, uint64_t bytes, struct hfb_link **ret_link,
			    struct hfb_err *err);

/* link_udp.c: kernel socket to host:port, with a session. */
int hfb_link_udp_open(const char *host, uint16_t port, uint32_t timeout_ms,
		      struct hfb_link **ret_link, struct hfb_err *err);

/* How a waiting caller idles: spins, yields, then sleeps with growing pauses. */
struct hfb_idle_wait {
	uint32_t rounds;
};
/* With a link that can wait it waits there. Never longer than @limit_ns. */
void hfb_idle_wait(struct hfb_idle_wait *idle, struct hfb_link *link, uint64_t limit_ns);

#endif
