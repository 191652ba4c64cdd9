/* SPDX-License-Identifier: Apache-2.0 */
/*
 * port.c - the poll core's side of DPDK ports: bursts in, frames out.
 *
 * A core has at most one queue of a port. For a port whose queues belong to other
 * cores it builds frames from that port's pool and hands them to the core of queue 0,
 * since DPDK allows one thread a transmit queue and most virtual devices have one.
 */
#include "port.h"

#include <string.h>

#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_udp.h>

#include "bug.h"
#include "core.h"

#define TX_BUFFER (HFB_BURST_MAX * 4)
/*
 * Of each queue while more wait: all that a turn does besides is then shared by four bursts, and
 * an ack is about as many. 64 B events one by one over memif took 156 ns of a core each at one
 * burst of 32 a turn, 145 at four, no less at eight; later 132 at four of 32, 129 at two of 64,
 * 123 at four of 64 (Sapphire Rapids class, 2026-11). Few enough that those who wait for an ack
 * do not wait long: 30 us.
 */
#define TURN_BURSTS 4u

_Static_assert(sizeof(((struct hfb_queue *)0)->tx) / sizeof(struct rte_mbuf *) == TX_BUFFER,
	       "transmit buffer");

/* One burst of a queue. Returns packets. */
static uint32_t
queue_poll(struct hfb_core *core, struct hfb_queue *queue)
{
	struct rte_mbuf *mbufs[HFB_BURST_MAX];
	uint64_t bytes = 0;
	uint16_t n = rte_eth_rx_burst(queue->dpdk_port, queue->queue, mbufs, HFB_BURST_MAX);

	if (n == 0)
		return 0;
	for (uint16_t j = 0; j < n; j++)
		bytes += rte_pktmbuf_pkt_len(mbufs[j]);
	queue->stats[HFB_QUEUE_STAT_RX_PACKETS] += n;
	queue->stats[HFB_QUEUE_STAT_RX_BYTES] += bytes;
	queue->stats[HFB_QUEUE_STAT_LAST_PACKET_NS] = core->now_ns;
	HFB_PROBE3(rx_burst, core->id, queue->port, n);
	hfb_decode_burst(core, queue, mbufs, n);
	return n;
}

/* A burst of each queue; false: none was full, so nothing more waits. */
static bool
queues_poll(struct hfb_core *core, uint32_t *received)
{
	bool paused = hfb_feed_paused(core), more = false;

	for (uint32_t i = 0; i < core->queues_count; i++) {
		struct hfb_queue *queue = &core->queues[i];
		uint32_t n;

		/* what its sender keeps needs no dropping here */
		if (paused && core->node->ports[queue->port].waits)
			continue;
		n = queue_poll(core, queue);
		*received += n;
		more |= n == HFB_BURST_MAX;
	}
	return more;
}

uint32_t
hfb_port_poll(struct hfb_core *core)
{
	uint32_t received = 0;

	if (!core->ports_live)
		return 0;
	/* in turn, not one queue after the other: a feed's lines are to stay together */
	for (uint32_t i = 0; i < TURN_BURSTS && queues_poll(core, &received); i++)
		;
	return received;
}

/* Transmit --------------------------------------------------------------- */

static void
queue_flush(struct hfb_core *core, struct hfb_queue *queue)
{
	uint64_t bytes = 0;
	uint16_t sent;

	if (queue->tx_count == 0)
		return;
	/* sizes before the burst: what is sent is no longer ours to read */
	for (uint16_t i = 0; i < queue->tx_count; i++)
		bytes += rte_pktmbuf_pkt_len(queue->tx[i]);
	sent = rte_eth_tx_burst(queue->dpdk_port, queue->queue, queue->tx, queue->tx_count);
	if (sent < queue->tx_count) {
		/* a peer that does not receive must not hold up the others; the protocols repeat */
		for (uint16_t i = sent; i < queue->tx_count; i++)
			bytes -= rte_pktmbuf_pkt_len(queue->tx[i]);
		rte_pktmbuf_free_bulk(&queue->tx[sent], queue->tx_count - sent);
		core->stats[HFB_STAT_TX_DROPS] += (uint64_t)(queue->tx_count - sent);
		HFB_PROBE2(drop, core->id, hfb_stat_names[HFB_STAT_TX_DROPS]);
	}
	queue->stats[HFB_QUEUE_STAT_TX_PACKETS] += sent;
	queue->stats[HFB_QUEUE_STAT_TX_BYTES] += bytes;
	queue->tx_count = 0;
}

void
hfb_tx_raw(struct hfb_core *core, uint16_t port, struct rte_mbuf *mbuf)
{
	struct hfb_queue *queue = core->queue_of_port[port];

	if (queue == NULL) {
		const struct hfb_packet packet = { .mbuf = mbuf, .port = port };

		hfb_handover(core, core->node->ports[port].core, HFB_HANDED_TX, &packet, 0, 0, 0);
		return;
	}
	if (!core->ports_live) {
		rte_pktmbuf_free(mbuf);
		core->stats[HFB_STAT_TX_DROPS]++;
		return;
	}
	if (queue->tx_count == TX_BUFFER)
		queue_flush(core, queue);
	queue->tx[queue->tx_count++] = mbuf;
}

uint32_t
hfb_tx_flush(struct hfb_core *core)
{
	uint32_t packets = 0;

	for (uint32_t i = 0; i < core->queues_count; i++) {
		packets += core->queues[i].tx_count;
		queue_flush(core, &core->queues[i]);
	}
	return packets;
}

static uint32_t
header_bytes(const struct hfb_peer *peer)
{
	return (uint32_t)(sizeof(struct rte_ether_hdr) +
			  (peer->vlan != 0 ? sizeof(struct rte_vlan_hdr) : 0) +
			  sizeof(struct rte_ipv4_hdr) + sizeof(struct rte_udp_hdr));
}

struct rte_mbuf *
hfb_tx_begin(struct hfb_core *core, const struct hfb_peer *peer, uint32_t bytes,
	     uint8_t **ret_payload)
{
	const struct hfb_queue *queue = core->queue_of_port[peer->port];
	struct rte_mempool *pool =
		queue != NULL ? queue->pool : core->node->ports[peer->port].pools[0];
	uint32_t headers = header_bytes(peer);
	struct rte_mbuf *mbuf;
	uint8_t *at;

	hfb_dassert(bytes <= HFB_UDP_PAYLOAD_MAX);
	mbuf = rte_pktmbuf_alloc(pool);
	if (mbuf == NULL) {
		core->stats[HFB_STAT_TX_NO_MBUF]++;
		return NULL;
	}
	at = (uint8_t *)rte_pktmbuf_append(mbuf, (uint16_t)(headers + bytes));
	hfb_assert(at != NULL);
	*ret_payload = at + headers;
	return mbuf;
}

static void
headers_write(const struct hfb_peer *peer, uint8_t *at, uint32_t bytes)
{
	struct rte_ether_hdr *ether = (struct rte_ether_hdr *)at;
	struct rte_ipv4_hdr *ip;
	struct rte_udp_hdr *udp;

	memcpy(&ether->dst_addr, peer->mac, 6);
	memcpy(&ether->src_addr, peer->own_mac, 6);
	at += sizeof(*ether);
	if (peer->vlan != 0) {
		struct rte_vlan_hdr *vlan = (struct rte_vlan_hdr *)at;

		ether->ether_type = rte_cpu_to_be_16(RTE_ETHER_TYPE_VLAN);
		vlan->vlan_tci = rte_cpu_to_be_16(peer->vlan);
		vlan->eth_proto = rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4);
		at += sizeof(*vlan);
	} else {
		ether->ether_type = rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4);
	}
	ip = (struct rte_ipv4_hdr *)at;
	udp = (struct rte_udp_hdr *)(ip + 1);
	memset(ip, 0, sizeof(*ip));
	ip->version_ihl = RTE_IPV4_VHL_DEF;
	ip->total_length = rte_cpu_to_be_16((uint16_t)(sizeof(*ip) + sizeof(*udp) + bytes));
	ip->fragment_offset = rte_cpu_to_be_16(RTE_IPV4_HDR_DF_FLAG);
	ip->time_to_live = 64;
	ip->next_proto_id = IPPROTO_UDP;
	memcpy(&ip->src_addr, peer->own_ip.bytes + 12, 4);
	memcpy(&ip->dst_addr, peer->ip.bytes + 12, 4);
	ip->hdr_checksum = rte_ipv4_cksum(ip);
	udp->src_port = rte_cpu_to_be_16(peer->own_udp_port);
	udp->dst_port = rte_cpu_to_be_16(peer->udp_port);
	udp->dgram_len = rte_cpu_to_be_16((uint16_t)(sizeof(*udp) + bytes));
	udp->dgram_cksum = 0;
	/* acks carry no crc of their own, so the checksum is worth its nanoseconds */
	udp->dgram_cksum = rte_ipv4_udptcp_cksum(ip, udp);
}

void
hfb_tx_send(struct hfb_core *core, const struct hfb_peer *peer, struct rte_mbuf *mbuf,
	    uint32_t bytes)
{
	uint32_t headers = header_bytes(peer), size = rte_pktmbuf_pkt_len(mbuf);

	hfb_assert(headers + bytes <= size);
	rte_pktmbuf_trim(mbuf, (uint16_t)(size - headers - bytes));
	headers_write(peer, rte_pktmbuf_mtod(mbuf, uint8_t *), bytes);
	hfb_tx_raw(core, peer->port, mbuf);
}
