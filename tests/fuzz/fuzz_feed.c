/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Datagrams of feeds: the first byte chooses the framing, the rest is the payload.
 * What a decoder accepts must lie wholly inside the payload.
 */
#include <stdint.h>
#include <stdlib.h>

#include "feed_decode.h"

static volatile uint8_t sink;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum hfb_framing framings[] = { HFB_FRAMING_RAW, HFB_FRAMING_MOLDUDP64,
						     HFB_FRAMING_IEX_TP };
	struct hfb_datagram d;
	struct hfb_blocks it;
	const uint8_t *block, *end;
	uint32_t block_size, count = 0, values_bytes = 0;
	char text[64];

	if (size < 1 || size > 65535)
		return 0;
	end = data + size;
	if (hfb_feed_decode(framings[data[0] % 3], data + 1, (uint32_t)size - 1, &d) < 0)
		return 0;
	hfb_blocks_begin(&d, &it);
	while (hfb_blocks_next(&it, &block, &block_size)) {
		if (block < data || block > end || block_size > (size_t)(end - block))
			abort();
		for (uint32_t i = 0; i < block_size; i++)
			sink = block[i];
		values_bytes += block_size;
		count++;
	}
	if (count != d.count || values_bytes != d.values_bytes)
		abort();
	if (d.framing == HFB_FRAMING_MOLDUDP64 &&
	    hfb_moldudp64_session_text(d.session, text, sizeof(text)) > sizeof(text))
		abort();
	if (d.framing == HFB_FRAMING_IEX_TP &&
	    hfb_iex_tp_session_text(d.session, text, sizeof(text)) > sizeof(text))
		abort();
	return 0;
}
