/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decode.c - from an Ethernet frame to a UDP datagram, and the answers a host owes
 * its link: ARP for the port's own address, ICMP echo (IGMP is igmp.c's).
 *
 *	Ethernet | 802.1Q or QinQ, at most two tags | IPv4 | UDP | payload | padding
 *
 * Lengths come from the IP and UDP headers, never from the frame: short frames are
 * padded by the link and some captures keep a trailer. Fragments are refused: a
 * bus frame and a feed's datagram fit one packet.
 */
#include <string.h>

#include <rte_byteorder.h>
#include <rte_mbuf.h>
#include <rte_mbuf_dyn.h>

#include "checksum.h"
#include "core.h"
#include "node.h"

#define ETHER_BYTES    14u
#define ETHERTYPE_IPV4 0x0800u
#define ETHERTYPE_ARP  0x0806u
#define ETHERTYPE_VLAN 0x8100u
#define ETHERTYPE_QINQ 0x88a8u
#define VLAN_TAGS_MAX  2u
#define IPV4_BYTES_MIN 20u
#define UDP_BYTES      8u
#define ICMP_BYTES     8u
#define ARP_BYTES      28u
#define PROTOCOL_ICMP  1u
#define PROTOCOL_IGMP  2u
#define PROTOCOL_UDP   17u

/* Where the parts of a frame are. */
struct frame_map {
	uint16_t ethertype;
	uint16_t vlan; /* innermost tag's id, 0 = none */
	uint32_t tags;
	uint32_t network; /* offset of what follows Ethernet and its tags */
	uint32_t transport;
	uint32_t transport_bytes; /* by the IP header */
	uint8_t protocol;
};

static inline uint16_t
load16(const uint8_t *at)
{
	return (uint16_t)((at[0] << 8) | at[1]);
}

/* Most headers have no options. */
static inline bool
ip_checksum_good(const uint8_t *ip, uint32_t header)
{
	return (header == IPV4_BYTES_MIN ? hfb_sum_ipv4(ip)
					 : hfb_sum_fold(hfb_sum_bytes(0, ip, header))) == 0xffffu;
}

/* The ones' complement sum of a whole UDP datagram with its pseudo header is 0xffff. */
static bool
udp_checksum_good(const uint8_t *ip, const uint8_t *udp, uint32_t udp_bytes)
{
	uint64_t sum = hfb_sum_load(ip + 12);

	sum += rte_cpu_to_be_16(PROTOCOL_UDP);
	sum += rte_cpu_to_be_16((uint16_t)udp_bytes);
	return hfb_sum_fold(hfb_sum_bytes(sum, udp, udp_bytes)) == 0xffffu;
}

/*
 * Two whole words: who compares addresses loads words, and would wait for narrower stores.
 */
static inline void
ip_map(struct hfb_ip *to, const uint8_t *ipv4)
{
	static const uint8_t mapped[8] = { [2] = 0xff, [3] = 0xff };
	uint64_t zero = 0, word;
	uint32_t address;

	memcpy(&word, mapped, sizeof(word));
	memcpy(&address, ipv4, sizeof(address));
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	word |= (uint64_t)address << 32;
#else
	word |= address;
#endif
	memcpy(to->bytes, &zero, sizeof(zero));
	memcpy(to->bytes + 8, &word, sizeof(word));
}

/* Ethernet and tags. Returns -1 or the reason to drop. */
static inline __attribute__((always_inline)) int
ether_map(const uint8_t *frame, uint32_t bytes, struct frame_map *map)
{
	uint32_t at = ETHER_BYTES;

	if (bytes < ETHER_BYTES)
		return HFB_STAT_DROP_SHORT;
	map->ethertype = load16(frame + 12);
	map->vlan = 0;
	map->tags = 0;
	while (map->ethertype == ETHERTYPE_VLAN || map->ethertype == ETHERTYPE_QINQ) {
		if (map->tags == VLAN_TAGS_MAX)
			return HFB_STAT_DROP_ETHERTYPE;
		if (bytes < at + 4)
			return HFB_STAT_DROP_SHORT;
		map->vlan = load16(frame + at) & 0x0fffu;
		map->ethertype = load16(frame + at + 2);
		map->tags++;
		at += 4;
	}
	map->network = at;
	return -1;
}

/* The IPv4 header. Returns -1 or the reason to drop. */
static inline __attribute__((always_inline)) int
ipv4_map(const uint8_t *frame, uint32_t bytes, bool checksum_known, struct frame_map *map)
{
	const uint8_t *ip = frame + map->network;
	uint32_t header, total;

	if (map->ethertype != ETHERTYPE_IPV4)
		return HFB_STAT_DROP_ETHERTYPE;
	if (bytes < map->network + IPV4_BYTES_MIN)
		return HFB_STAT_DROP_SHORT;
	header = (uint32_t)(ip[0] & 0x0fu) * 4u;
	total = load16(ip + 2);
	if ((ip[0] >> 4) != 4 || header < IPV4_BYTES_MIN || total < header)
		return HFB_STAT_DROP_IP_HEADER;
	if (total > bytes - map->network)
		return HFB_STAT_DROP_SHORT;
	if (!checksum_known && !ip_checksum_good(ip, header))
		return HFB_STAT_DROP_IP_CHECKSUM;
	if ((load16(ip + 6) & 0x3fffu) != 0)
		return HFB_STAT_DROP_FRAGMENT;
	/* a group, the limited broadcast or nobody is not somebody to answer */
	if (ip[12] >= 224 || ip[12] == 0)
		return HFB_STAT_DROP_IP_HEADER;
	map->transport = map->network + header;
	map->transport_bytes = total - header;
	map->protocol = ip[9];
	return -1;
}

static inline __attribute__((always_inline)) int
udp_map(const uint8_t *frame, const struct frame_map *map, bool checksum_known,
	struct hfb_packet *ret_packet)
{
	const uint8_t *ip = frame + map->network;
	const uint8_t *udp = frame + map->transport;
	uint32_t udp_bytes;

	if (map->protocol != PROTOCOL_UDP)
		return HFB_STAT_DROP_IP_PROTOCOL;
	if (map->transport_bytes < UDP_BYTES)
		return HFB_STAT_DROP_UDP_LENGTH;
	udp_bytes = load16(udp + 4);
	if (udp_bytes < UDP_BYTES || udp_bytes > map->transport_bytes)
		return HFB_STAT_DROP_UDP_LENGTH;
	ret_packet->vlan = map->vlan;
	memcpy(ret_packet->source_mac, frame + 6, 6);
	ip_map(&ret_packet->source, ip + 12);
	ip_map(&ret_packet->destination, ip + 16);
	ret_packet->source_port = load16(udp);
	ret_packet->destination_port = load16(udp + 2);
	ret_packet->payload = udp + UDP_BYTES;
	ret_packet->payload_bytes = udp_bytes - UDP_BYTES;
	ret_packet->checksum_bad =
		!checksum_known && load16(udp + 6) != 0 && !udp_checksum_good(ip, udp, udp_bytes);
	return -1;
}

int
hfb_decode_frame(const uint8_t *frame, uint32_t bytes, struct hfb_packet *ret_packet)
{
	struct frame_map map;
	int drop = ether_map(frame, bytes, &map);

	if (drop < 0)
		drop = ipv4_map(frame, bytes, false, &map);
	if (drop < 0)
		drop = udp_map(frame, &map, false, ret_packet);
	return drop;
}

/* Is this IPv4 address the port's own? */
static bool
port_owns(const struct hfb_port *port, const uint8_t *ipv4)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	return memcmp(port->config->ip.bytes + 12, ipv4, 4) == 0 &&
	       memcmp(port->config->ip.bytes, mapped, 12) == 0;
}

/*
 * A reply in a buffer of its own: the received one may sit in a ring its sender can
 * still write. Returns the frame with Ethernet header and tag as the request had
 * them, addresses turned round, or NULL when there is no buffer.
 */
static uint8_t *
reply_begin(struct hfb_core *core, struct hfb_queue *queue, const uint8_t *frame,
	    const struct frame_map *map, uint32_t bytes, struct rte_mbuf **ret_mbuf)
{
	const struct hfb_port *port = &core->node->ports[queue->port];
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(queue->pool);
	uint8_t *to;

	if (mbuf == NULL) {
		core->stats[HFB_STAT_TX_NO_MBUF]++;
		return NULL;
	}
	to = (uint8_t *)rte_pktmbuf_append(mbuf, (uint16_t)bytes);
	if (to == NULL) {
		rte_pktmbuf_free(mbuf);
		core->stats[HFB_STAT_TX_NO_MBUF]++;
		return NULL;
	}
	memcpy(to, frame, map->network);
	memcpy(to, frame + 6, 6);
	memcpy(to + 6, port->mac, 6);
	*ret_mbuf = mbuf;
	return to;
}

static __attribute__((noinline)) void
arp_answer(struct hfb_core *core, struct hfb_queue *queue, const uint8_t *frame, uint32_t bytes,
	   const struct frame_map *map)
{
	static const uint8_t wanted[8] = { 0, 1, 8, 0, 6, 4, 0, 1 }; /* Ethernet, IPv4, request */
	const struct hfb_port *port = &core->node->ports[queue->port];
	const uint8_t *arp = frame + map->network;
	struct rte_mbuf *mbuf;
	uint8_t *to;

	if (bytes < map->network + ARP_BYTES) {
		hfb_drop(core, HFB_STAT_DROP_SHORT);
		return;
	}
	if (memcmp(arp, wanted, sizeof(wanted)) != 0 || !port_owns(port, arp + 24) ||
	    (arp[8] & 1) != 0 || (frame[6] & 1) != 0) {
		hfb_drop(core, HFB_STAT_DROP_NOT_OURS);
		return;
	}
	to = reply_begin(core, queue, frame, map, map->network + ARP_BYTES, &mbuf);
	if (to == NULL)
		return;
	to += map->network;
	memcpy(to, arp, ARP_BYTES);
	to[7] = 2;
	memcpy(to + 8, port->mac, 6);
	memcpy(to + 14, arp + 24, 4);
	memcpy(to + 18, arp + 8, 10);
	core->stats[HFB_STAT_ARP_ANSWERS]++;
	hfb_tx_raw(core, queue->port, mbuf);
}

static __attribute__((noinline)) void
icmp_answer(struct hfb_core *core, struct hfb_queue *queue, const uint8_t *frame,
	    const struct frame_map *map)
{
	const struct hfb_port *port = &core->node->ports[queue->port];
	const uint8_t *ip = frame + map->network;
	const uint8_t *icmp = frame + map->transport;
	uint32_t header = map->transport - map->network;
	struct rte_mbuf *mbuf;
	uint16_t checksum;
	uint8_t *to;

	/* echo requests with a right checksum; also refuses what would not fit one packet */
	if (map->transport_bytes < ICMP_BYTES || icmp[0] != 8 || icmp[1] != 0 ||
	    map->transport_bytes > HFB_UDP_PAYLOAD_MAX + UDP_BYTES ||
	    hfb_sum_fold(hfb_sum_bytes(0, icmp, map->transport_bytes)) != 0xffffu) {
		hfb_drop(core, HFB_STAT_DROP_IP_PROTOCOL);
		return;
	}
	/* an echo that many hear, or that came from a group, is how floods are multiplied */
	if (!port_owns(port, ip + 16) || (frame[0] & 1) != 0 || (frame[6] & 1) != 0) {
		hfb_drop(core, HFB_STAT_DROP_NOT_OURS);
		return;
	}
	to = reply_begin(core, queue, frame, map, map->transport + map->transport_bytes, &mbuf);
	if (to == NULL)
		return;
	memcpy(to + map->network, ip, header + map->transport_bytes);
	ip = to + map->network;
	to += map->network;
	memcpy(to + 12, frame + map->network + 16, 4);
	memcpy(to + 16, frame + map->network + 12, 4);
	to[6] = 0;
	to[7] = 0;
	to[8] = 64;
	to[10] = 0;
	to[11] = 0;
	checksum = (uint16_t)~hfb_sum_fold(hfb_sum_bytes(0, ip, header));
	memcpy(to + 10, &checksum, 2);
	to += header;
	to[0] = 0;
	to[2] = 0;
	to[3] = 0;
	checksum = (uint16_t)~hfb_sum_fold(hfb_sum_bytes(0, to, map->transport_bytes));
	memcpy(to + 2, &checksum, 2);
	core->stats[HFB_STAT_ICMP_ANSWERS]++;
	hfb_tx_raw(core, queue->port, mbuf);
}

/* The port's receive stamp in ns, 0 = none. */
static uint64_t
port_time(const struct hfb_port *port, const struct rte_mbuf *mbuf)
{
	if (port->timestamp_field < 0 || (mbuf->ol_flags & port->timestamp_flag) == 0)
		return 0;
	return *RTE_MBUF_DYNFIELD(mbuf, port->timestamp_field, const uint64_t *) *
	       port->timestamp_unit_ns;
}

static inline __attribute__((always_inline)) void
decode_udp(struct hfb_core *core, struct hfb_queue *queue, struct rte_mbuf *mbuf,
	   const uint8_t *frame, const struct frame_map *map, struct hfb_packet *packet)
{
	const struct hfb_node *node = core->node;
	const struct hfb_port *port = &node->ports[queue->port];
	uint16_t first = node->config->udp_port;
	int line;

	packet->mbuf = mbuf;
	packet->port = queue->port;
	packet->port_time_ns = port_time(port, mbuf);
	/* a reply carries one tag at most, so a doubly tagged client could not hear it */
	if (port_owns(port, frame + map->network + 16) && map->tags <= 1 &&
	    (uint16_t)(packet->destination_port - first) < node->cores_count) {
		if (packet->checksum_bad) {
			hfb_drop(core, HFB_STAT_DROP_UDP_CHECKSUM);
			return;
		}
		hfb_session_input(core, packet);
		return;
	}
	line = hfb_feed_line_find(core, packet);
	if (line >= 0)
		hfb_feed_input(core, (uint16_t)line, packet);
	else if (port_owns(port, frame + map->network + 16))
		hfb_drop(core, HFB_STAT_DROP_UDP_PORT);
	else
		hfb_drop(core, HFB_STAT_DROP_NOT_OURS);
}

static inline void
decode_one(struct hfb_core *core, struct hfb_queue *queue, struct rte_mbuf *mbuf)
{
	const uint8_t *frame = rte_pktmbuf_mtod(mbuf, const uint8_t *);
	uint32_t bytes = rte_pktmbuf_data_len(mbuf);
	bool ip_known, udp_known;
	struct frame_map map;
	struct hfb_packet packet;
	int drop;

	if (mbuf->nb_segs != 1) {
		hfb_drop(core, HFB_STAT_DROP_MULTI_SEGMENT);
		return;
	}
	drop = ether_map(frame, bytes, &map);
	if (drop >= 0)
		goto dropped;
	if (map.tags == 0 && (mbuf->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0)
		map.vlan = mbuf->vlan_tci & 0x0fffu;
	if (map.ethertype == ETHERTYPE_ARP) {
		const struct frame_map copy = map; /* so that the map can stay in registers */

		arp_answer(core, queue, frame, bytes, &copy);
		return;
	}
	ip_known = (mbuf->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK) == RTE_MBUF_F_RX_IP_CKSUM_GOOD;
	udp_known = (mbuf->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_GOOD;
	drop = ipv4_map(frame, bytes, ip_known, &map);
	if (drop >= 0)
		goto dropped;
	if (map.protocol == PROTOCOL_ICMP) {
		const struct frame_map copy = map;

		icmp_answer(core, queue, frame, &copy);
		return;
	}
	if (map.protocol == PROTOCOL_IGMP) {
		hfb_igmp_input(core, queue->port, frame + map.network,
			       map.transport - map.network + map.transport_bytes);
		return;
	}
	drop = udp_map(frame, &map, udp_known, &packet);
	if (drop >= 0)
		goto dropped;
	decode_udp(core, queue, mbuf, frame, &map, &packet);
	return;

dropped:
	hfb_drop(core, drop);
}

void
hfb_decode_burst(struct hfb_core *core, struct hfb_queue *queue, struct rte_mbuf **mbufs,
		 uint32_t n)
{
	for (uint32_t i = 0; i < n;) {
		if (i + 2 < n)
			rte_prefetch0(rte_pktmbuf_mtod(mbufs[i + 2], const void *));
		core->produced_by = NULL;
		decode_one(core, queue, mbufs[i++]);
		if (core->produced_by != NULL)
			i += hfb_run_take(core, queue, mbufs + i, n - i);
	}
	/* sessions and feeds took references to what they keep */
	rte_pktmbuf_free_bulk(mbufs, n);
}
