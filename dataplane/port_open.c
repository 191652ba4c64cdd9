/* SPDX-License-Identifier: Apache-2.0 */
/*
 * port_open.c - the main thread's side of DPDK ports: from an EAL device to queues
 * with pools, and its counters.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf_dyn.h>

#include "config.h"
#include "core.h"
#include "counters.h"
#include "port.h"
#include "wake.h"

#define POOL_CACHE     256u
#define HELD_MBUFS_MAX 16384u /* 40 MiB; feeds that hold back more drop, counted */

static const char *const port_stat_names[] = {
#define X(id, name) name,
	HFB_PORT_STATS(X)
#undef X
};

void
hfb_port_name(const struct hfb_port_config *config, char *to, size_t bytes)
{
	size_t size = strcspn(config->device, ",");
	unsigned int a, b, c;

	if (sscanf(config->device, "%2x:%2x.%1x", &a, &b, &c) == 3 &&
	    strchr(config->device, ':') == strrchr(config->device, ':'))
		snprintf(to, bytes, "0000:%.*s", (int)size, config->device);
	else
		snprintf(to, bytes, "%.*s", (int)size, config->device);
}

uint32_t
hfb_port_pool_mbufs(const struct hfb_config *config)
{
	uint64_t held = 0;
	uint32_t n, size;

	for (uint32_t i = 0; i < config->feeds_count; i++)
		held += config->feeds[i].hold_events;
	if (held > HELD_MBUFS_MAX)
		held = HELD_MBUFS_MAX;
	n = HFB_RX_DESCRIPTORS + HFB_TX_DESCRIPTORS + HFB_BURST_MAX * 8 + (uint32_t)held +
	    (POOL_CACHE * 2 + HFB_HANDOVER_RING) * config->cores_count;
	/* a mempool is best one below a power of two */
	for (size = 4096; size - 1 < n; size *= 2)
		;
	return size - 1;
}

uint64_t
hfb_port_pool_bytes(uint32_t mbufs, bool hugepages)
{
	uint64_t element = sizeof(struct rte_mbuf) + sizeof(struct hfb_mbuf_private) +
			   RTE_MBUF_DEFAULT_BUF_SIZE + 128;

	/* no object lies across the end of a page, and an ordinary one holds one */
	if (!hugepages)
		element = (element + 4095) / 4096 * 4096;
	return mbufs * element;
}

static int
timestamps_find(struct hfb_port *port, const char *driver)
{
	int field = rte_mbuf_dynfield_lookup(RTE_MBUF_DYNFIELD_TIMESTAMP_NAME, NULL);
	int flag = rte_mbuf_dynflag_lookup(RTE_MBUF_DYNFLAG_RX_TIMESTAMP_NAME, NULL);

	port->timestamp_field = -1;
	if (field < 0 || flag < 0)
		return 0;
	/* the field is one for all ports; the flag tells which mbufs have it */
	port->timestamp_field = field;
	port->timestamp_flag = 1ull << flag;
	port->timestamp_unit_ns = strcmp(driver, "net_pcap") == 0 ? 1000 : 1;
	return 0;
}

static uint16_t
queues_choose(const struct hfb_node *node, const struct hfb_port_config *config,
	      const struct rte_eth_dev_info *info)
{
	uint32_t queues = config->queues;

	/* one, unless told, or a NIC spreads by itself (the plan counts the same, eal.c) */
	if (queues == 0)
		queues = hfb_device_is_pci(config->device) && info->flow_type_rss_offloads != 0
				 ? node->cores_count
				 : 1;
	if (queues > node->cores_count)
		queues = node->cores_count;
	if (queues > info->max_rx_queues)
		queues = info->max_rx_queues;
	if (queues > info->max_tx_queues)
		queues = info->max_tx_queues;
	return (uint16_t)(queues == 0 ? 1 : queues);
}

static int
queue_setup(struct hfb_node *node, uint32_t index, uint16_t queue, uint16_t rx_descriptors,
	    uint16_t tx_descriptors, struct hfb_err *err)
{
	struct hfb_port *port = &node->ports[index];
	int socket = rte_eth_dev_socket_id(port->dpdk_port);
	const uint32_t mbufs = hfb_port_pool_mbufs(node->config);
	char name[RTE_MEMPOOL_NAMESIZE];
	int r;

	snprintf(name, sizeof(name), "hfb_%u_%u", index, queue);
	port->pools[queue] = rte_pktmbuf_pool_create(
		name, mbufs, POOL_CACHE, RTE_ALIGN(sizeof(struct hfb_mbuf_private), 8),
		RTE_MBUF_DEFAULT_BUF_SIZE, socket < 0 ? SOCKET_ID_ANY : socket);
	if (port->pools[queue] == NULL)
		return hfb_err_set(err, -ENOMEM,
				   "port %s: no memory for %u packet buffers: %s; raise"
				   " 'memory' in the configuration",
				   port->config->device, mbufs, rte_strerror(rte_errno));
	r = rte_eth_rx_queue_setup(port->dpdk_port, queue, rx_descriptors,
				   socket < 0 ? SOCKET_ID_ANY : (unsigned int)socket, NULL,
				   port->pools[queue]);
	if (r < 0)
		return hfb_err_set(err, r, "port %s: receive queue %u: %s", port->config->device,
				   queue, rte_strerror(-r));
	r = rte_eth_tx_queue_setup(port->dpdk_port, queue, tx_descriptors,
				   socket < 0 ? SOCKET_ID_ANY : (unsigned int)socket, NULL);
	if (r < 0)
		return hfb_err_set(err, r, "port %s: transmit queue %u: %s", port->config->device,
				   queue, rte_strerror(-r));
	return 0;
}

static int
port_open(struct hfb_node *node, uint32_t index, struct hfb_err *err)
{
	struct hfb_port *port = &node->ports[index];
	const struct hfb_port_config *config = &node->config->ports[index];
	uint16_t rx_descriptors = HFB_RX_DESCRIPTORS, tx_descriptors = HFB_TX_DESCRIPTORS;
	struct rte_eth_conf conf = { 0 };
	struct rte_eth_dev_info info;
	struct rte_ether_addr mac;
	char name[RTE_ETH_NAME_MAX_LEN], labels[104];
	int r;

	memset(port, 0, sizeof(*port));
	port->config = config;
	port->timestamp_field = -1;
	hfb_port_name(config, name, sizeof(name));
	r = rte_eth_dev_get_port_by_name(name, &port->dpdk_port);
	if (r < 0)
		return hfb_err_set(err, r,
				   "port %s: DPDK has no such device; is the driver for it"
				   " there?",
				   config->device);
	r = rte_eth_dev_info_get(port->dpdk_port, &info);
	if (r < 0)
		return hfb_err_set(err, r, "port %s: %s", config->device, rte_strerror(-r));

	port->queues = queues_choose(node, config, &info);
	port->core = hfb_port_core(index, 0, node->cores_count);
	if (port->queues > 1 && info.flow_type_rss_offloads != 0) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_hf =
			info.flow_type_rss_offloads & (RTE_ETH_RSS_IP | RTE_ETH_RSS_UDP);
	}
	if (config->timestamps && (info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_TIMESTAMP) != 0)
		conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_TIMESTAMP;
	r = rte_eth_dev_configure(port->dpdk_port, port->queues, port->queues, &conf);
	if (r < 0)
		return hfb_err_set(err, r, "port %s: %u queues: %s", config->device, port->queues,
				   rte_strerror(-r));
	port->open = true;
	rte_eth_dev_adjust_nb_rx_tx_desc(port->dpdk_port, &rx_descriptors, &tx_descriptors);
	port->wakes = true;
	for (uint16_t q = 0; q < port->queues; q++) {
		r = queue_setup(node, index, q, rx_descriptors, tx_descriptors, err);
		if (r < 0)
			return r;
		port->wakes &= hfb_wake_supported(port->dpdk_port, q, port->pools[q]);
	}
	if (rte_eth_macaddr_get(port->dpdk_port, &mac) == 0)
		memcpy(port->mac, mac.addr_bytes, 6);
	timestamps_find(port, info.driver_name);
	port->waits = strcmp(info.driver_name, "net_pcap") == 0 ||
		      strcmp(info.driver_name, "net_memif") == 0 ||
		      strcmp(info.driver_name, "net_ring") == 0;

	snprintf(labels, sizeof(labels), "port=%u,device=%.60s", index, name);
	port->stats =
		hfb_counters_block(node->counters, labels, port_stat_names, HFB_PORT_STATS_COUNT);
	if (port->stats == NULL)
		return hfb_err_set(err, -ENOSPC, "the counters file is full");
	return 0;
}

int
hfb_ports_open(struct hfb_node *node, struct hfb_err *err)
{
	for (uint32_t i = 0; i < node->config->ports_count; i++) {
		int r = port_open(node, i, err);

		node->ports_count = i + 1;
		if (r < 0)
			return r;
	}
	return 0;
}

int
hfb_ports_start(struct hfb_node *node, struct hfb_err *err)
{
	for (uint32_t i = 0; i < node->ports_count; i++) {
		struct hfb_port *port = &node->ports[i];
		int r = rte_eth_dev_start(port->dpdk_port);

		if (r < 0)
			return hfb_err_set(err, r, "port %s: cannot start: %s",
					   port->config->device, rte_strerror(-r));
		port->started = true;
	}
	hfb_igmp_ports_start(node);
	return 0;
}

void
hfb_ports_count(struct hfb_node *node)
{
	for (uint32_t i = 0; i < node->ports_count; i++) {
		struct hfb_port *port = &node->ports[i];
		struct rte_eth_stats stats;
		struct rte_eth_link link;

		if (!port->started)
			continue;
		if (rte_eth_link_get_nowait(port->dpdk_port, &link) == 0) {
			port->stats[HFB_PORT_STAT_LINK] = link.link_status;
			__atomic_store_n(&port->link_down, link.link_status == RTE_ETH_LINK_DOWN,
					 __ATOMIC_RELAXED);
		}
		if (rte_eth_stats_get(port->dpdk_port, &stats) != 0)
			continue;
		port->stats[HFB_PORT_STAT_RX_MISSED] = stats.imissed;
		port->stats[HFB_PORT_STAT_RX_ERRORS] = stats.ierrors;
		port->stats[HFB_PORT_STAT_RX_NO_MBUF] = stats.rx_nombuf;
		port->stats[HFB_PORT_STAT_TX_ERRORS] = stats.oerrors;
	}
}

void
hfb_ports_close(struct hfb_node *node)
{
	for (uint32_t i = 0; i < node->ports_count; i++) {
		struct hfb_port *port = &node->ports[i];

		if (port->started)
			rte_eth_dev_stop(port->dpdk_port);
		if (port->open)
			rte_eth_dev_close(port->dpdk_port);
		for (uint32_t q = 0; q < HFB_CORES_MAX; q++)
			rte_mempool_free(port->pools[q]);
		memset(port, 0, sizeof(*port));
	}
	node->ports_count = 0;
}
