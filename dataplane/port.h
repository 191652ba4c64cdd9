/* SPDX-License-Identifier: Apache-2.0 */
/*
 * port.h - DPDK ports of the node: opened, started, counted and closed on the
 * main thread; polled by port.c's functions in core.h.
 *
 *	hfb_ports_open(node, &err);	 devices exist (eal.c); queues and pools made
 *	hfb_ports_start(node, &err);	 then HFB_COMMAND_PORTS to each core
 *	hfb_ports_count(node);		 every 100 ms: links, missed packets and the like
 *	hfb_ports_close(node);
 *
 * Threads: main.
 * Memory:  one mbuf pool a queue, of DPDK's memory.
 */
#ifndef HFB_PORT_H
#define HFB_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "node.h"

#define HFB_RX_DESCRIPTORS 1024u
#define HFB_TX_DESCRIPTORS 1024u
#define HFB_HANDOVER_RING  1024u /* mbufs on the way between two cores */

/* mbufs of one queue's pool, and their bytes: what may be held at once. */
uint32_t hfb_port_pool_mbufs(const struct hfb_config *config);
uint64_t hfb_port_pool_bytes(uint32_t mbufs, bool hugepages);
/* The device's name in DPDK: "net_memif0", "0000:03:00.0". */
void hfb_port_name(const struct hfb_port_config *config, char *to, size_t bytes);

int hfb_ports_open(struct hfb_node *node, struct hfb_err *err);
int hfb_ports_start(struct hfb_node *node, struct hfb_err *err);
void hfb_ports_count(struct hfb_node *node);
void hfb_ports_close(struct hfb_node *node);

#endif
