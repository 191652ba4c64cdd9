/* SPDX-License-Identifier: Apache-2.0 */
/*
 * igmp.c - membership reports for the feeds' multicast groups, so that snooping
 * switches forward them: IGMPv2 (RFC 2236) and IGMPv3 (RFC 3376).
 *
 *	at start	both versions, three times (0, 1 and 10 s): a report may be lost
 *	to a query	its version, after a delay within what the query allows
 *
 * Only ports with an address report (the source of a report), and only the core
 * that has queue 0 of a port. Filters in the NIC are opened by allmulticast: 32
 * groups share one MAC address, so the lookup compares addresses anyway.
 *
 * Threads: ports_start main thread, the rest on the poll core.
 * Cost:    one comparison a turn when nothing is due.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "core.h"
#include "feed.h"
#include "node.h"

#define REPORTS_PER_POLL  16u
#define SECOND_NS	  1000000000ull
#define QUERY_BYTES_V2	  8u
#define QUERY_BYTES_V3	  12u
#define TYPE_QUERY	  0x11
#define TYPE_REPORT_V2	  0x16
#define TYPE_REPORT_V3	  0x22
#define RECORD_IS_EXCLUDE 2 /* answer to a query */
#define RECORD_TO_EXCLUDE 4 /* joining: from any source */

struct igmp_group {
	uint8_t address[4];
	uint16_t vlan;
};

struct igmp_port {
	bool reports;
	uint32_t starts_left;
	uint64_t start_next_ns;
	uint64_t answer_at_ns; /* 0 = no query waits */
	bool v2, v3, joining;  /* of the round under way */
	uint32_t at;	       /* next group of it */
};

struct hfb_igmp {
	uint32_t groups_count;
	struct igmp_group *groups;
	uint64_t due_ns; /* nothing before; UINT64_MAX = nothing */
	uint64_t random;
	struct igmp_port port[HFB_PORTS_MAX];
};

static bool
is_multicast(const struct hfb_ip *ip)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	return memcmp(ip->bytes, mapped, 12) == 0 && (ip->bytes[12] & 0xf0) == 0xe0;
}

static void
groups_add(struct hfb_igmp *igmp, const struct hfb_ip *ip, uint16_t vlan)
{
	struct igmp_group *group = &igmp->groups[igmp->groups_count];

	if (!is_multicast(ip))
		return;
	for (uint32_t i = 0; i < igmp->groups_count; i++) {
		if (memcmp(igmp->groups[i].address, ip->bytes + 12, 4) == 0 &&
		    igmp->groups[i].vlan == vlan)
			return;
	}
	memcpy(group->address, ip->bytes + 12, 4);
	group->vlan = vlan;
	igmp->groups_count++;
}

static void
due_update(struct hfb_igmp *igmp)
{
	igmp->due_ns = UINT64_MAX;
	for (uint32_t p = 0; p < HFB_PORTS_MAX; p++) {
		const struct igmp_port *port = &igmp->port[p];

		if (!port->reports)
			continue;
		if ((port->v2 || port->v3) && port->answer_at_ns == 0)
			igmp->due_ns = 0;
		if (port->answer_at_ns != 0 && port->answer_at_ns < igmp->due_ns)
			igmp->due_ns = port->answer_at_ns;
		if (port->starts_left > 0 && port->start_next_ns < igmp->due_ns)
			igmp->due_ns = port->start_next_ns;
	}
}

int
hfb_igmp_create(struct hfb_core *core, struct hfb_err *err)
{
	static const struct hfb_ip none;
	const struct hfb_node *node = core->node;
	const struct hfb_config *config = node->config;
	struct hfb_igmp *igmp = calloc(1, sizeof(*igmp));

	if (igmp == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory for group memberships");
	core->feeds->igmp = igmp;
	igmp->random = core->feeds->boot_ns | 1;
	igmp->groups = calloc(config->feeds_count * HFB_FEED_LINES_MAX + 1, sizeof(*igmp->groups));
	if (igmp->groups == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory for group memberships");
	for (uint32_t f = 0; f < config->feeds_count; f++) {
		for (uint32_t l = 0; l < config->feeds[f].lines_count; l++)
			groups_add(igmp, &config->feeds[f].group[l], config->feeds[f].vlan);
	}
	for (uint32_t q = 0; q < core->queues_count; q++) {
		uint16_t p = core->queues[q].port;
		const struct hfb_port_config *port = node->ports[p].config;

		if (core->queues[q].queue != 0 || port == NULL ||
		    memcmp(&port->ip, &none, sizeof(none)) == 0 || igmp->groups_count == 0)
			continue;
		igmp->port[p].reports = true;
		igmp->port[p].starts_left = 3;
	}
	due_update(igmp);
	return 0;
}

void
hfb_igmp_destroy(struct hfb_core *core)
{
	if (core->feeds->igmp == NULL)
		return;
	free(core->feeds->igmp->groups);
	free(core->feeds->igmp);
	core->feeds->igmp = NULL;
}

void
hfb_igmp_ports_start(struct hfb_node *node)
{
	bool multicast = false;

	for (uint32_t f = 0; f < node->config->feeds_count; f++) {
		for (uint32_t l = 0; l < node->config->feeds[f].lines_count; l++)
			multicast = multicast || is_multicast(&node->config->feeds[f].group[l]);
	}
	for (uint32_t p = 0; p < node->ports_count && multicast; p++) {
		/* A port with neither (net_pcap, net_memif) filters nothing. */
		if (rte_eth_allmulticast_enable(node->ports[p].dpdk_port) != 0)
			rte_eth_promiscuous_enable(node->ports[p].dpdk_port);
	}
}

static void
put_u16(uint8_t *to, uint16_t value)
{
	to[0] = (uint8_t)(value >> 8);
	to[1] = (uint8_t)value;
}

static uint16_t
checksum(const uint8_t *bytes, uint32_t size)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < size; i += 2)
		sum += (uint32_t)bytes[i] << 8 | (i + 1 < size ? bytes[i + 1] : 0);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* Ethernet, VLAN, IPv4 with router alert (RFC 2113), report. Returns bytes. */
static uint32_t
report_write(uint8_t *frame, const struct hfb_port *port, const struct igmp_group *group, bool v3,
	     bool joining)
{
	static const uint8_t all_v3_routers[4] = { 224, 0, 0, 22 };
	const uint8_t *to = v3 ? all_v3_routers : group->address;
	uint32_t body = v3 ? 16 : 8;
	uint8_t *at = frame, *ip;

	at[0] = 0x01;
	at[1] = 0x00;
	at[2] = 0x5e;
	at[3] = to[1] & 0x7f;
	at[4] = to[2];
	at[5] = to[3];
	memcpy(at + 6, port->mac, 6);
	at += 12;
	if (group->vlan != 0) {
		put_u16(at, 0x8100);
		put_u16(at + 2, group->vlan);
		at += 4;
	}
	put_u16(at, 0x0800);
	ip = at + 2;
	memset(ip, 0, 24 + body);
	ip[0] = 0x46;
	ip[1] = 0xc0;
	put_u16(ip + 2, (uint16_t)(24 + body));
	ip[6] = 0x40;
	ip[8] = 1;
	ip[9] = 2;
	memcpy(ip + 12, port->config->ip.bytes + 12, 4);
	memcpy(ip + 16, to, 4);
	ip[20] = 0x94;
	ip[21] = 0x04;
	put_u16(ip + 10, checksum(ip, 24));
	at = ip + 24;
	if (v3) {
		at[0] = TYPE_REPORT_V3;
		at[7] = 1;
		at[8] = joining ? RECORD_TO_EXCLUDE : RECORD_IS_EXCLUDE;
		memcpy(at + 12, group->address, 4);
	} else {
		at[0] = TYPE_REPORT_V2;
		memcpy(at + 4, group->address, 4);
	}
	put_u16(at + 2, checksum(at, body));
	return (uint32_t)(at + body - frame);
}

static bool
report_send(struct hfb_core *core, uint16_t p, const struct igmp_group *group, bool v3,
	    bool joining)
{
	struct rte_mbuf *mbuf = NULL;
	uint32_t bytes;

	for (uint32_t q = 0; q < core->queues_count && mbuf == NULL; q++) {
		if (core->queues[q].port == p)
			mbuf = rte_pktmbuf_alloc(core->queues[q].pool);
	}
	if (mbuf == NULL) {
		core->stats[HFB_STAT_TX_NO_MBUF]++;
		return false;
	}
	bytes = report_write(rte_pktmbuf_mtod(mbuf, uint8_t *), &core->node->ports[p], group, v3,
			     joining);
	mbuf->data_len = (uint16_t)bytes;
	mbuf->pkt_len = bytes;
	hfb_tx_raw(core, p, mbuf);
	return true;
}

/* Go on with the round of reports under way. Returns reports sent. */
static uint32_t
port_round(struct hfb_core *core, uint16_t p)
{
	struct hfb_igmp *igmp = core->feeds->igmp;
	struct igmp_port *port = &igmp->port[p];
	uint32_t sent = 0;

	while (port->at < igmp->groups_count && sent < REPORTS_PER_POLL) {
		const struct igmp_group *group = &igmp->groups[port->at++];

		if (port->v2)
			sent += report_send(core, p, group, false, port->joining);
		if (port->v3)
			sent += report_send(core, p, group, true, port->joining);
	}
	if (port->at == igmp->groups_count)
		port->v2 = port->v3 = port->joining = false;
	return sent;
}

uint32_t
hfb_igmp_poll(struct hfb_core *core)
{
	struct hfb_igmp *igmp = core->feeds->igmp;
	uint32_t sent = 0;

	if (core->now_ns < igmp->due_ns)
		return 0;
	for (uint16_t p = 0; p < HFB_PORTS_MAX; p++) {
		struct igmp_port *port = &igmp->port[p];

		if (!port->reports)
			continue;
		if (port->starts_left > 0 && core->now_ns >= port->start_next_ns) {
			port->start_next_ns =
				core->now_ns + (port->starts_left == 3 ? 1 : 9) * SECOND_NS;
			port->starts_left--;
			port->v2 = port->v3 = port->joining = true;
			port->at = 0;
		}
		if (port->answer_at_ns != 0 && core->now_ns >= port->answer_at_ns) {
			port->answer_at_ns = 0;
			/* which version the querier speaks was noted with the query */
			port->at = 0;
		}
		if ((port->v2 || port->v3) && port->answer_at_ns == 0)
			sent += port_round(core, p);
	}
	due_update(igmp);
	return sent;
}

void
hfb_igmp_input(struct hfb_core *core, uint16_t p, const uint8_t *ip, uint32_t bytes)
{
	struct hfb_igmp *igmp = core->feeds->igmp;
	uint32_t header, total, max_ns_tenths;
	struct igmp_port *port;
	const uint8_t *at;
	bool v3;

	if (p >= HFB_PORTS_MAX || !igmp->port[p].reports || bytes < 20)
		return;
	header = (ip[0] & 15u) * 4;
	total = (uint32_t)ip[2] << 8 | ip[3];
	if (header < 20 || total > bytes || total < header + QUERY_BYTES_V2 ||
	    (total - header > QUERY_BYTES_V2 && total - header < QUERY_BYTES_V3))
		return;
	at = ip + header;
	if (at[0] != TYPE_QUERY || checksum(at, total - header) != 0)
		return;
	v3 = total - header >= QUERY_BYTES_V3;
	/* tenths of a second; v3 codes above 127 mean longer, where 12 s will do */
	max_ns_tenths = at[1] == 0 ? 100 : at[1] > 120 ? 120 : at[1];
	port = &igmp->port[p];
	igmp->random = igmp->random * 6364136223846793005ull + 1442695040888963407ull;
	if (port->answer_at_ns == 0)
		port->answer_at_ns = core->now_ns + 1 +
				     (igmp->random >> 33) % (max_ns_tenths * (SECOND_NS / 10));
	port->v2 = port->v2 || !v3;
	port->v3 = port->v3 || v3;
	due_update(igmp);
}
