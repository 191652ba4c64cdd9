/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hfbus/pub.h - publish events to one topic.
 *
 *	struct hfb_pub_config config = { .topic = "orders", .partition = -1, .ack = -1 };
 *
 *	r = hfb_pub_open(bus, &config, &pub, &err);
 *	while (have an event) {
 *		while ((r = hfb_pub_send(pub, &event, &err)) == -EAGAIN)
 *			hfb_pub_poll(pub, 100, &err);	window full: wait for acks
 *		if (r < 0)
 *			errx(1, "%s", err.text);
 *	}
 *	r = hfb_pub_flush(pub, 5000, &err);		all acked
 *	hfb_pub_close(pub);
 *
 * An event is kept until it is acked at the chosen stage, and sent again from
 * the acked sequence on after a refusal, a timeout or a restart of hfbusd. The
 * broker drops what it has already: each event is stored once.
 *
 * Threads: the bus's thread.
 * Memory:  `window_bytes` for each partition written to, taken at its first event.
 * Cost:    send copies the event into the open batch, and sends a frame when the
 *	    batch is full. poll sends what is open and takes acks.
 */
#ifndef HFB_PUB_H
#define HFB_PUB_H

#include <stdbool.h>
#include <stdint.h>

#include <hfbus/bus.h>
#include <hfbus/err.h>
#include <hfbus/event.h>
#include <hfbus/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct hfb_pub;

/* Events were acked, in the order sent to @partition. */
struct hfb_acked {
	uint32_t partition;
	uint32_t events;      /* this many more */
	uint64_t sequence;    /* of the first; counts the partition's events from 0 */
	uint64_t base_offset; /* of the first, or all ones when not told */
};

struct hfb_pub_config {
	const char *topic;	 /* 1..HFB_TOPIC_NAME_MAX bytes; copied */
	int32_t partition;	 /* -1 = by key, else round robin batch by batch */
	int32_t ack;		 /* enum hfb_stage, -1 = the topic's commit stage */
	uint32_t window_bytes;	 /* kept unacked per partition; 0 = 4 MiB, up to 256 MiB */
	uint32_t batch_bytes;	 /* 0 = 64 KiB locally, one datagram over UDP */
	uint64_t producer_id;	 /* 0 = a random one */
	uint16_t producer_epoch; /* fences publishers of this id with a lower one; begins at 0 */
	uint64_t first_sequence; /* with a producer_id: of the first event on each partition */
	void (*acked)(void *arg, const struct hfb_acked *acked); /* from poll, send, flush */
	void *arg;
	bool internal; /* a topic of the bus's own ("__..."): refused without this, and over UDP */
};

struct hfb_pub_stats {
	uint64_t events, bytes; /* taken by send; bytes of keys, headers and values */
	uint64_t acked_events;
	uint64_t frames, resent_frames;
	uint64_t refusals[24]; /* by enum hfb_wire_code */
	uint64_t reconnects;
	uint64_t lost_events; /* acked `received`, gone with the broker's memory */
};

/**
 * Open a publisher.
 *
 * Returns 0 and sets *@ret_pub, or leaves it alone and returns
 *   -ENOENT     no such topic
 *   -ERANGE     it has no such partition
 *   -EPERM      the topic is the bus's own
 *   -EINVAL     a field of @config is outside the range written beside it
 *   -ETIMEDOUT  no answer
 *   -ENOTCONN   hfbusd is gone
 *   -ENOMEM     out of memory
 */
int hfb_pub_open(struct hfb_bus *bus, const struct hfb_pub_config *config, struct hfb_pub **ret_pub,
		 struct hfb_err *err);

/** Close it; what is not acked is forgotten. NULL is fine. */
void hfb_pub_close(struct hfb_pub *pub);

/**
 * Take one event; copies it.
 *
 * Returns 0, or, the event not taken,
 *   -EAGAIN    the window is full of unacked events: back-pressure, not an
 *              error; *@err is left alone. hfb_pub_poll() makes room.
 *   -EMSGSIZE  larger than a batch may be here (over UDP: one datagram)
 *   -ENOMEM    no memory for the window of a partition not written to before
 *   and all that hfb_pub_poll() returns.
 */
int hfb_pub_send(struct hfb_pub *pub, const struct hfb_event *event, struct hfb_err *err);

/**
 * Send what is open, take acks, resend what is due; wait up to @timeout_ms for
 * an ack when something is unacked and none is there.
 *
 * Returns the number of events acked by this call, or
 *   -ENOSPC      the broker's disk is full; the events stay, later calls try again
 *   -EIO         the broker's disk failed; the same
 *   -ESTALE      fenced by a newer epoch of this producer; final
 *   -EOPNOTSUPP  the ack stage needs a mirror; final
 *   -EMSGSIZE    hfbusd takes no batch that large (any more); final
 *   -ENODATA     hfbusd does not know producer_id any more; final
 *   -EBUSY       hfbusd's table of producers is full; later calls try again
 *   -ENOENT      the topic was deleted; final
 *   -ENOTCONN    no hfbusd for reconnect_ms; later calls try again
 */
int hfb_pub_poll(struct hfb_pub *pub, uint32_t timeout_ms, struct hfb_err *err);

/**
 * Poll until everything taken is acked.
 *
 * Returns 0, -ETIMEDOUT after @timeout_ms (all ones = never) without being
 * done, and all that hfb_pub_poll() returns.
 */
int hfb_pub_flush(struct hfb_pub *pub, uint32_t timeout_ms, struct hfb_err *err);

/** Partitions of the topic. */
uint32_t hfb_pub_partitions(const struct hfb_pub *pub);

/** Largest value of an event with a key and headers of these sizes. */
uint32_t hfb_pub_value_bytes_max(const struct hfb_pub *pub, uint32_t key_size,
				 uint32_t headers_size);

void hfb_pub_stats_get(const struct hfb_pub *pub, struct hfb_pub_stats *ret_stats);

#ifdef __cplusplus
}
#endif
#endif
