/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MoldUDP64 1.00, downstream packets. Big-endian:
 *
 *	 0 session[10] ASCII, padded with spaces
 *	10 u64 sequence of the first message
 *	18 u16 count	0 = heartbeat, 0xffff = end of session; sequence = next expected
 *	20 count x { u16 size, size bytes }; size 0 is legal
 *
 * Source: Nasdaq, MoldUDP64 Protocol Specification V 1.00.
 */
#include <errno.h>

#include "feed_decode.h"

#define MOLD_HEADER_BYTES   20u
#define MOLD_SESSION_BYTES  10u
#define MOLD_END_OF_SESSION 0xffffu

static uint64_t
get_u64_be(const uint8_t *at)
{
	uint64_t v;

	memcpy(&v, at, sizeof(v));
	return __builtin_bswap64(v);
}

int
hfb_moldudp64_decode(const uint8_t *payload, uint32_t bytes, struct hfb_datagram *ret)
{
	uint32_t count, at = MOLD_HEADER_BYTES, values = 0;
	uint64_t first;

	if (bytes < MOLD_HEADER_BYTES)
		return -EBADMSG;
	first = get_u64_be(payload + MOLD_SESSION_BYTES);
	count = (uint32_t)payload[18] << 8 | payload[19];
	ret->end_of_session = count == MOLD_END_OF_SESSION;
	if (ret->end_of_session)
		count = 0;
	/* A range that would wrap cannot be true and must not reach the arbiter. */
	if (first > UINT64_MAX - count - 1)
		return -EBADMSG;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t size;

		if (bytes - at < 2)
			return -EBADMSG;
		size = (uint32_t)payload[at] << 8 | payload[at + 1];
		at += 2;
		if (bytes - at < size)
			return -EBADMSG;
		at += size;
		values += size;
	}
	memcpy(ret->session, payload, MOLD_SESSION_BYTES);
	ret->session_size = MOLD_SESSION_BYTES;
	ret->count = count;
	ret->first = first;
	ret->send_time_ns = 0;
	ret->blocks = payload + MOLD_HEADER_BYTES;
	ret->blocks_bytes = at - MOLD_HEADER_BYTES;
	ret->values_bytes = values;
	ret->framing = HFB_FRAMING_MOLDUDP64;
	return 0;
}

uint32_t
hfb_moldudp64_session_text(const uint8_t *session, char *to, uint32_t bytes)
{
	uint32_t begin = 0, end = MOLD_SESSION_BYTES, n = 0;

	while (end > begin && (session[end - 1] == ' ' || session[end - 1] == 0))
		end--;
	while (begin < end && session[begin] == ' ')
		begin++;
	/* What is not printable would end up on a terminal and in JSON. */
	for (; begin < end && n < bytes; begin++, n++)
		to[n] = session[begin] >= 0x21 && session[begin] <= 0x7e ? (char)session[begin]
									 : '?';
	return n;
}
