/* SPDX-License-Identifier: Apache-2.0 */
/*
 * feedgen.h - parts of hfbus-feedgen: the exchange (feedgen.c) and where its
 * frames go (feedgen_out.c: a DPDK port or a pcap file).
 *
 *	feedgen_out_open(&out, device, NULL, &err);
 *	feedgen_out_datagram(&out, line, payload, bytes, time_ns);
 *	feedgen_out_close(&out);
 *
 * Threads: one.
 */
#ifndef HFB_BENCH_FEEDGEN_H
#define HFB_BENCH_FEEDGEN_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "err.h"

#define FEEDGEN_LINES	  2u
#define FEEDGEN_FRAME_MAX 1514u
#define FEEDGEN_HEADERS	  42u /* Ethernet, IPv4, UDP */
#define FEEDGEN_BURST	  32u

struct rte_mbuf;
struct rte_mempool;

struct feedgen_out {
	/* a line's headers, but for lengths and checksums */
	uint8_t headers[FEEDGEN_LINES][FEEDGEN_HEADERS];
	uint16_t id[FEEDGEN_LINES];
	bool udp_checksums;
	FILE *pcap;
	uint16_t port;
	struct rte_mempool *pool;
	struct rte_mbuf *burst[FEEDGEN_BURST];
	uint32_t burst_count;
	uint64_t frames, bytes, refusals; /* refusals: bursts the port did not take whole */
	volatile int *stop;
};

/* Either @device (EAL, e.g. "net_memif0,role=client,...") or @pcap. Waits for the link. */
int feedgen_out_open(struct feedgen_out *out, const char *device, const char *pcap,
		     struct hfb_err *err);
/* Where a line goes; @group and @source in host order. */
void feedgen_out_line(struct feedgen_out *out, uint32_t line, uint32_t source, uint32_t group,
		      uint16_t udp_port);
/* Queue a datagram; a full port is waited for, so that nothing is lost here. */
void feedgen_out_datagram(struct feedgen_out *out, uint32_t line, const uint8_t *payload,
			  uint32_t bytes, uint64_t time_ns);
void feedgen_out_flush(struct feedgen_out *out);
int feedgen_out_close(struct feedgen_out *out, struct hfb_err *err);

#endif
