/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ethernet frames. What is accepted must lie wholly inside the frame; the reason for
 * what is not must be one of decoding's.
 */
#include <stdlib.h>

#include "core.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Where decode.c hands datagrams on; the pure part under test calls none of it. */
void
hfb_tx_raw(struct hfb_core *core, uint16_t port, struct rte_mbuf *mbuf)
{
	abort();
}

void
hfb_session_input(struct hfb_core *core, const struct hfb_packet *packet)
{
	abort();
}

uint32_t
hfb_run_take(struct hfb_core *core, const struct hfb_queue *queue, struct rte_mbuf **mbufs,
	     uint32_t n)
{
	abort();
}

int
hfb_feed_line_find(const struct hfb_core *core, const struct hfb_packet *packet)
{
	abort();
}

void
hfb_feed_input(struct hfb_core *core, uint16_t line, const struct hfb_packet *packet)
{
	abort();
}

void
hfb_igmp_input(struct hfb_core *core, uint16_t port, const uint8_t *ip, uint32_t bytes)
{
	abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hfb_packet packet;
	volatile uint8_t sum = 0;
	int drop;

	if (size > 9728) /* the largest buffer a port hands us in one piece */
		return 0;
	drop = hfb_decode_frame(data, (uint32_t)size, &packet);
	if (drop >= 0) {
		if (drop < HFB_STAT_DROP_SHORT || drop > HFB_STAT_DROP_UDP_LENGTH)
			abort();
		return 0;
	}
	if (packet.payload < data || packet.payload > data + size ||
	    packet.payload_bytes > (size_t)(data + size - packet.payload))
		abort();
	for (uint32_t i = 0; i < packet.payload_bytes; i++)
		sum ^= packet.payload[i];
	(void)sum;
	return 0;
}
