/* SPDX-License-Identifier: Apache-2.0 */
/*
 * feed_decode.h - a feed's datagram as one descriptor, whatever its framing.
 *
 *	if (hfb_feed_decode(HFB_FRAMING_MOLDUDP64, payload, bytes, &d) < 0)
 *		drop, count
 *	hfb_blocks_begin(&d, &it);
 *	while (hfb_blocks_next(&it, &data, &size))
 *		message d.first, d.first + 1, ...
 *
 * A decoder walks every block before it says yes, so that what follows needs no
 * check: a datagram with one lying length is dropped whole, since its sequence
 * range cannot be believed either. Bytes behind the last block are allowed
 * (padding, trailers) where the framing has no length of its own.
 *
 * Threads: pure functions over the caller's bytes.
 * Memory:  the descriptor points into the payload.
 * Cost:    one pass over the block lengths.
 */
#ifndef HFB_FEED_DECODE_H
#define HFB_FEED_DECODE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <hfbus/log.h>

#define HFB_FEED_SESSION_BYTES_MAX 16u

struct hfb_datagram {
	uint8_t session[HFB_FEED_SESSION_BYTES_MAX]; /* as on the wire: the stream's identity */
	uint32_t session_size;
	uint32_t count;	       /* messages; 0 = heartbeat or end of session */
	uint64_t first;	       /* sequence of the first message, or the next expected */
	uint64_t send_time_ns; /* UTC, 0 = the framing has none */
	const uint8_t *blocks;
	uint32_t blocks_bytes; /* the count blocks with their lengths, nothing else */
	uint32_t values_bytes; /* sum of message sizes */
	enum hfb_framing framing;
	bool end_of_session;
};

/* Returns 0 and fills *@ret, or -EBADMSG: too short, or a length that lies. */
int hfb_moldudp64_decode(const uint8_t *payload, uint32_t bytes, struct hfb_datagram *ret);
int hfb_iex_tp_decode(const uint8_t *payload, uint32_t bytes, struct hfb_datagram *ret);
/* Never fails: the datagram is one event. */
int hfb_raw_decode(const uint8_t *payload, uint32_t bytes, struct hfb_datagram *ret);

/* The session as people write it; at most @bytes, not terminated. Returns its size. */
uint32_t hfb_moldudp64_session_text(const uint8_t *session, char *to, uint32_t bytes);
uint32_t hfb_iex_tp_session_text(const uint8_t *session, char *to, uint32_t bytes);

static inline int
hfb_feed_decode(enum hfb_framing framing, const uint8_t *payload, uint32_t bytes,
		struct hfb_datagram *ret)
{
	switch (framing) {
	case HFB_FRAMING_MOLDUDP64:
		return hfb_moldudp64_decode(payload, bytes, ret);
	case HFB_FRAMING_IEX_TP:
		return hfb_iex_tp_decode(payload, bytes, ret);
	default:
		return hfb_raw_decode(payload, bytes, ret);
	}
}

/* Blocks of a decoded datagram, in order. */
struct hfb_blocks {
	const uint8_t *at;
	uint32_t left;
	uint32_t size; /* raw: the one block's size */
	enum hfb_framing framing;
};

static inline void
hfb_blocks_begin(const struct hfb_datagram *d, struct hfb_blocks *it)
{
	it->at = d->blocks;
	it->left = d->count;
	it->size = d->blocks_bytes;
	it->framing = d->framing;
}

static inline bool
hfb_blocks_next(struct hfb_blocks *it, const uint8_t **ret_data, uint32_t *ret_size)
{
	if (it->left == 0)
		return false;
	it->left--;
	if (it->framing == HFB_FRAMING_RAW) {
		*ret_data = it->at;
		*ret_size = it->size;
		return true;
	}
	*ret_size = it->framing == HFB_FRAMING_MOLDUDP64 ? (uint32_t)it->at[0] << 8 | it->at[1]
							 : (uint32_t)it->at[1] << 8 | it->at[0];
	*ret_data = it->at + 2;
	it->at += 2 + *ret_size;
	return true;
}

#endif
