/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench/link_memif.h - inside the DPDK link: the way to one address, and a session there.
 *
 *	link_way_open()	    port (begun once a process, kept), ARP
 *	link_session_open() HELLO, COOKIE, OPEN, OPENED, METADATA
 *	link_memif.c	    PRODUCE out, ACK in, going back
 *
 *	| Ethernet 14 | IPv4 20 | UDP 8 | struct hfb_frame ... |
 *
 * Threads: one.
 */
#ifndef BENCH_LINK_MEMIF_H
#define BENCH_LINK_MEMIF_H

#include <stdbool.h>
#include <stdint.h>

#include <hfbus/wire.h>

#include "bench_link.h"
#include "dpdk.h"

#define LINK_HEADERS 42u

struct rte_mbuf;

struct link_way {
	struct bench_dpdk *dpdk;
	uint8_t headers[LINK_HEADERS]; /* lengths, checksums and ports 0 or as sent */
	uint8_t own_ip[4], bus_ip[4], bus_mac[6];
	uint16_t udp_port, own_port; /* the bus's, ours */
	uint64_t session, packet;
};

/* What metadata tells of a partition. */
struct link_partition_info {
	uint32_t handle, batch_bytes_max;
};

int link_way_open(struct link_way *way, const struct bench_link_config *config,
		  struct hfb_err *err);
/* Sets @infos of the first @partitions of @topic. */
int link_session_open(struct link_way *way, const char *topic, uint32_t partitions,
		      struct link_partition_info *infos, struct hfb_err *err);
void link_session_close(struct link_way *way);

/* Send a frame that is not a PRODUCE: head filled in, checksums and all. False: no room. */
bool link_frame_send(struct link_way *way, uint8_t type, void *frame, uint32_t bytes,
		     const void *tail, uint32_t tail_bytes);
/* The frame in a packet to us, from the bus, with a right checksum; NULL: another. */
const uint8_t *link_frame_of(const struct link_way *way, const struct rte_mbuf *mbuf,
			     uint32_t *ret_bytes);
void link_metadata_ask(struct link_way *way, const char *topic, uint32_t first);

#endif
