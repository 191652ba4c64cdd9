/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IEX-TP 1.26, outbound segments. Little-endian:
 *
 *	 0 u8 version = 1   1 u8 reserved   2 u16 message protocol id
 *	 4 u32 channel	    8 u32 session
 *	12 u16 payload bytes		   14 u16 count	    0 = heartbeat
 *	16 i64 stream offset		   24 i64 sequence of the first message
 *	32 i64 send time, ns UTC
 *	40 count x { u16 size, size bytes }, together payload bytes
 *
 * Source: IEX Transport Specification 1.26.
 */
#include <errno.h>

#include "feed_decode.h"

#define IEX_HEADER_BYTES  40u
#define IEX_VERSION	  1u
#define IEX_SESSION_BYTES 10u /* protocol id, channel, session */

static uint16_t
get_u16_le(const uint8_t *at)
{
	return (uint16_t)(at[0] | at[1] << 8);
}

static uint32_t
get_u32_le(const uint8_t *at)
{
	return get_u16_le(at) | (uint32_t)get_u16_le(at + 2) << 16;
}

static int64_t
get_i64_le(const uint8_t *at)
{
	return (int64_t)(get_u32_le(at) | (uint64_t)get_u32_le(at + 4) << 32);
}

int
hfb_iex_tp_decode(const uint8_t *payload, uint32_t bytes, struct hfb_datagram *ret)
{
	uint32_t size, count, at = 0;
	int64_t first, send_time;
	const uint8_t *blocks;

	if (bytes < IEX_HEADER_BYTES || payload[0] != IEX_VERSION)
		return -EBADMSG;
	size = get_u16_le(payload + 12);
	count = get_u16_le(payload + 14);
	first = get_i64_le(payload + 24);
	send_time = get_i64_le(payload + 32);
	if (size > bytes - IEX_HEADER_BYTES || first < 0 || first > INT64_MAX - UINT16_MAX)
		return -EBADMSG;
	blocks = payload + IEX_HEADER_BYTES;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t block;

		if (size - at < 2)
			return -EBADMSG;
		block = get_u16_le(blocks + at);
		at += 2;
		if (size - at < block)
			return -EBADMSG;
		at += block;
	}
	/* The segment says its length twice; if the two differ one of them lies. */
	if (at != size)
		return -EBADMSG;
	memcpy(ret->session, payload + 2, IEX_SESSION_BYTES);
	ret->session_size = IEX_SESSION_BYTES;
	ret->count = count;
	ret->first = (uint64_t)first;
	ret->send_time_ns = send_time > 0 ? (uint64_t)send_time : 0;
	ret->blocks = blocks;
	ret->blocks_bytes = size;
	ret->values_bytes = size - 2 * count;
	ret->framing = HFB_FRAMING_IEX_TP;
	ret->end_of_session = false;
	return 0;
}

static uint32_t
put_hex(char *to, uint32_t bytes, uint32_t value)
{
	uint32_t n = 0;

	for (int shift = 28; shift >= 0 && n < bytes; shift -= 4)
		to[n++] = "0123456789abcdef"[value >> shift & 15];
	return n;
}

/* "0x4cb00000"; channels other than 1 are told apart: "0x4cb00000/2" in hex. */
uint32_t
hfb_iex_tp_session_text(const uint8_t *session, char *to, uint32_t bytes)
{
	uint32_t channel = get_u32_le(session + 2), n = 0;

	if (bytes < 19)
		return 0;
	to[n++] = '0';
	to[n++] = 'x';
	n += put_hex(to + n, bytes - n, get_u32_le(session + 6));
	if (channel != 1) {
		to[n++] = '/';
		n += put_hex(to + n, bytes - n, channel);
	}
	return n;
}
