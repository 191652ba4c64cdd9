/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decoding.
 *
 * Goal:   a datagram is what its IP and UDP headers say, and each frame that is not one
 *	   is dropped for the right reason; ARP and echo are answered, and only to whom
 *	   they are owed.
 * Method: frames built field by field, one field wrong at a time; answers caught where
 *	   they would leave the port. A tiny EAL without hugepages gives the buffers.
 */
#include <stdlib.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_mbuf.h>

#include "core.h"
#include "hfb_test_main.h"
#include "node.h"

static struct hfb_config config;
static struct hfb_node *node;
static struct hfb_core core;
static struct hfb_queue queue;
static uint64_t stats[HFB_STATS_COUNT];
static struct rte_mbuf *sent;
static struct hfb_packet session_packet, feed_packet;
static uint32_t session_count, feed_count, igmp_count;
static bool feed_wants;

/* ---- where frames go from here ---- */

void
hfb_tx_raw(struct hfb_core *c, uint16_t port, struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free(sent);
	sent = mbuf;
}

void
hfb_session_input(struct hfb_core *c, const struct hfb_packet *packet)
{
	session_packet = *packet;
	session_count++;
}

int
hfb_feed_line_find(const struct hfb_core *c, const struct hfb_packet *packet)
{
	return feed_wants ? 3 : -1;
}

void
hfb_feed_input(struct hfb_core *c, uint16_t line, const struct hfb_packet *packet)
{
	feed_packet = *packet;
	feed_count += line == 3;
}

void
hfb_igmp_input(struct hfb_core *c, uint16_t port, const uint8_t *ip, uint32_t bytes)
{
	igmp_count += bytes == 28;
}

uint32_t
hfb_run_take(struct hfb_core *c, const struct hfb_queue *q, struct rte_mbuf **mbufs, uint32_t n)
{
	return 0;
}

/* ---- frames ---- */

static const uint8_t port_mac[6] = { 2, 0, 0, 0, 0, 1 };
static const uint8_t peer_mac[6] = { 2, 0, 0, 0, 0, 9 };

static void
put16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static uint16_t
checksum(const uint8_t *at, uint32_t bytes, uint32_t sum)
{
	for (uint32_t i = 0; i < bytes; i++)
		sum += i % 2 == 0 ? (uint32_t)at[i] << 8 : at[i];
	while (sum >> 16 != 0)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

struct frame {
	uint8_t bytes[2048];
	uint32_t size;
	uint32_t ip, udp; /* offsets */
};

static void
ip_checksum_set(struct frame *f)
{
	put16(f->bytes + f->ip + 10, 0);
	put16(f->bytes + f->ip + 10, checksum(f->bytes + f->ip, (f->bytes[f->ip] & 15u) * 4u, 0));
}

static void
udp_checksum_set(struct frame *f)
{
	uint32_t bytes = ((uint32_t)f->bytes[f->udp + 4] << 8) | f->bytes[f->udp + 5], sum = 17;

	sum += bytes;
	for (uint32_t i = 12; i < 20; i += 2)
		sum += ((uint32_t)f->bytes[f->ip + i] << 8) | f->bytes[f->ip + i + 1];
	put16(f->bytes + f->udp + 6, 0);
	put16(f->bytes + f->udp + 6, checksum(f->bytes + f->udp, bytes, sum));
}

/* 10.0.0.9:5000 -> 10.0.0.1:7401 with @options words of IP options. */
static struct frame
frame_make(const char *payload, uint32_t tags, uint32_t options)
{
	uint32_t n = (uint32_t)strlen(payload), at = 12;
	struct frame f = { .size = 0 };

	memcpy(f.bytes, port_mac, 6);
	memcpy(f.bytes + 6, peer_mac, 6);
	for (uint32_t i = 0; i < tags; i++, at += 4) {
		put16(f.bytes + at, i + 1 < tags ? 0x88a8 : 0x8100);
		put16(f.bytes + at + 2, 0xe000u | (100 + i)); /* priority 7 */
	}
	put16(f.bytes + at, 0x0800);
	f.ip = at + 2;
	f.udp = f.ip + 20 + 4 * options;
	f.bytes[f.ip] = (uint8_t)(0x45 + options);
	put16(f.bytes + f.ip + 2, f.udp - f.ip + 8 + n);
	put16(f.bytes + f.ip + 6, 0x4000);
	f.bytes[f.ip + 8] = 64;
	f.bytes[f.ip + 9] = 17;
	memcpy(f.bytes + f.ip + 12, (const uint8_t[]){ 10, 0, 0, 9, 10, 0, 0, 1 }, 8);
	ip_checksum_set(&f);
	put16(f.bytes + f.udp, 5000);
	put16(f.bytes + f.udp + 2, 7401);
	put16(f.bytes + f.udp + 4, 8 + n);
	memcpy(f.bytes + f.udp + 8, payload, n);
	udp_checksum_set(&f);
	f.size = f.udp + 8 + n;
	return f;
}

static void
receive(const struct frame *f)
{
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(queue.pool);

	CU_ASSERT_PTR_NOT_NULL_FATAL(mbuf);
	memcpy(rte_pktmbuf_append(mbuf, (uint16_t)f->size), f->bytes, f->size);
	hfb_decode_burst(&core, &queue, &mbuf, 1);
}

static void
set_up(void)
{
	memset(stats, 0, sizeof(stats));
	session_count = feed_count = igmp_count = 0;
	feed_wants = false;
	sent = NULL;
}

static void
tear_down(void)
{
	rte_pktmbuf_free(sent);
	sent = NULL;
	/* every buffer came back, whatever became of its frame */
	CU_ASSERT_EQUAL(rte_mempool_in_use_count(queue.pool), 0);
}

/* ---- tests ---- */

static void
test_a_datagram_is_what_its_headers_say(void)
{
	for (uint32_t tags = 0; tags <= 2; tags++) {
		for (uint32_t options = 0; options <= 10; options += 5) {
			struct frame f = frame_make("hello", tags, options);
			struct hfb_packet packet;

			f.size += 30; /* padding and a trailer */
			CU_ASSERT_EQUAL(hfb_decode_frame(f.bytes, f.size, &packet), -1);
			CU_ASSERT_EQUAL(packet.payload_bytes, 5);
			CU_ASSERT_EQUAL(memcmp(packet.payload, "hello", 5), 0);
			CU_ASSERT_EQUAL(packet.source_port, 5000);
			CU_ASSERT_EQUAL(packet.destination_port, 7401);
			CU_ASSERT_EQUAL(packet.source.bytes[15], 9);
			CU_ASSERT_EQUAL(packet.source.bytes[11], 0xff);
			CU_ASSERT_EQUAL(packet.vlan, tags == 0 ? 0 : 100 + tags - 1);
			CU_ASSERT_FALSE(packet.checksum_bad);
			CU_ASSERT_EQUAL(memcmp(packet.source_mac, peer_mac, 6), 0);
		}
	}
}

static void
test_udp_may_be_shorter_than_ip_but_not_longer(void)
{
	struct frame f = frame_make("hello", 0, 0);
	struct hfb_packet packet;

	put16(f.bytes + f.udp + 4, 8 + 3);
	udp_checksum_set(&f);
	CU_ASSERT_EQUAL(hfb_decode_frame(f.bytes, f.size, &packet), -1);
	CU_ASSERT_EQUAL(packet.payload_bytes, 3);
	put16(f.bytes + f.udp + 4, 8 + 6);
	CU_ASSERT_EQUAL(hfb_decode_frame(f.bytes, f.size, &packet), HFB_STAT_DROP_UDP_LENGTH);
	put16(f.bytes + f.udp + 4, 7);
	CU_ASSERT_EQUAL(hfb_decode_frame(f.bytes, f.size, &packet), HFB_STAT_DROP_UDP_LENGTH);
	put16(f.bytes + f.udp + 4, 0);
	CU_ASSERT_EQUAL(hfb_decode_frame(f.bytes, f.size, &packet), HFB_STAT_DROP_UDP_LENGTH);
}

static void
test_each_wrong_field_has_its_reason(void)
{
	static const struct {
		uint32_t at; /* from the IP header */
		uint8_t value;
		int reason;
	} cases[] = {
		{ 0, 0x65, HFB_STAT_DROP_IP_HEADER }, /* version 6 */
		{ 0, 0x44, HFB_STAT_DROP_IP_HEADER }, /* a header of 16 bytes */
		{ 3, 19, HFB_STAT_DROP_IP_HEADER },   /* total below the header */
		{ 2, 9, HFB_STAT_DROP_SHORT },	      /* total beyond the frame */
		{ 3, 27, HFB_STAT_DROP_UDP_LENGTH },  /* no room for UDP's header */
		{ 6, 0x20, HFB_STAT_DROP_FRAGMENT },  /* more fragments */
		{ 7, 0x01, HFB_STAT_DROP_FRAGMENT },  /* a later one */
		{ 9, 6, HFB_STAT_DROP_IP_PROTOCOL },  /* TCP */
		{ 12, 224, HFB_STAT_DROP_IP_HEADER }, /* from a group */
		{ 12, 255, HFB_STAT_DROP_IP_HEADER }, { 12, 0, HFB_STAT_DROP_IP_HEADER },
	};
	struct hfb_packet packet;

	for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct frame f = frame_make("hello", 1, 0);

		f.bytes[f.ip + cases[i].at] = cases[i].value;
		ip_checksum_set(&f);
		CU_ASSERT_EQUAL(hfb_decode_frame(f.bytes, f.size, &packet), cases[i].reason);
	}
	for (uint32_t byte = 0; byte < 20; byte++) {
		struct frame f = frame_make("hello", 0, 0);
		int r;

		if (byte == 0 || byte == 2 || byte == 3)
			continue; /* lengths and version are looked at first */
		f.bytes[f.ip + byte] ^= 0x10;
		r = hfb_decode_frame(f.bytes, f.size, &packet);
		CU_ASSERT_EQUAL(r, HFB_STAT_DROP_IP_CHECKSUM);
	}
}

static void
test_other_ethertypes_and_three_tags_are_not_ours(void)
{
	struct frame f = frame_make("hello", 0, 0);
	struct hfb_packet packet;

	put16(f.bytes + 12, 0x86dd);
	CU_ASSERT_EQUAL(hfb_decode_frame(f.bytes, f.size, &packet), HFB_STAT_DROP_ETHERTYPE);
	f = frame_make("hello", 3, 0);
	CU_ASSERT_EQUAL(hfb_decode_frame(f.bytes, f.size, &packet), HFB_STAT_DROP_ETHERTYPE);
}

static void
test_every_cut_is_short_or_wrong(void)
{
	for (uint32_t tags = 0; tags <= 2; tags++) {
		struct frame f = frame_make("hello", tags, 0);
		struct hfb_packet packet;

		for (uint32_t cut = 0; cut < f.size; cut++) {
			/* on the heap, exactly as long, for the sanitizer */
			uint8_t *copy = malloc(cut + 1);

			memcpy(copy, f.bytes, cut);
			CU_ASSERT_EQUAL(hfb_decode_frame(copy, cut, &packet), HFB_STAT_DROP_SHORT);
			free(copy);
		}
	}
}

static void
test_udp_checksums_are_verified_when_present(void)
{
	struct hfb_packet packet;

	for (uint32_t n = 0; n < 9; n++) { /* odd and even sizes */
		char text[16] = "abcdefghi";
		struct frame f;

		text[n] = 0;
		f = frame_make(text, 0, 0);
		CU_ASSERT_EQUAL(hfb_decode_frame(f.bytes, f.size, &packet), -1);
		CU_ASSERT_FALSE(packet.checksum_bad);
		f.bytes[f.size - 1] ^= 1;
		CU_ASSERT_EQUAL(hfb_decode_frame(f.bytes, f.size, &packet), -1);
		CU_ASSERT_TRUE(packet.checksum_bad);
		put16(f.bytes + f.udp + 6, 0);
		CU_ASSERT_EQUAL(hfb_decode_frame(f.bytes, f.size, &packet), -1);
		CU_ASSERT_FALSE(packet.checksum_bad);
	}
}

static void
test_datagrams_go_where_they_belong(void)
{
	struct frame f = frame_make("hello", 1, 0);

	receive(&f);
	CU_ASSERT_EQUAL(session_count, 1);
	CU_ASSERT_EQUAL(session_packet.vlan, 100);
	/* answers carry one tag: who has two would not hear them */
	f = frame_make("hello", 2, 0);
	receive(&f);
	CU_ASSERT_EQUAL(session_count, 1);
	CU_ASSERT_EQUAL(stats[HFB_STAT_DROP_UDP_PORT], 1);
	f = frame_make("hello", 0, 0);
	f.bytes[f.size - 1] ^= 1;
	receive(&f);
	CU_ASSERT_EQUAL(stats[HFB_STAT_DROP_UDP_CHECKSUM], 1);
	f = frame_make("hello", 0, 0);
	put16(f.bytes + f.udp + 2, 7402); /* two cores: 7400 and 7401 */
	udp_checksum_set(&f);
	receive(&f);
	CU_ASSERT_EQUAL(stats[HFB_STAT_DROP_UDP_PORT], 2);
	f = frame_make("hello", 0, 0);
	f.bytes[f.ip + 19] = 2;
	ip_checksum_set(&f);
	receive(&f);
	CU_ASSERT_EQUAL(stats[HFB_STAT_DROP_NOT_OURS], 1);
	/* a feed is told of a wrong checksum: its policy decides */
	feed_wants = true;
	receive(&f);
	CU_ASSERT_EQUAL(feed_count, 1);
	CU_ASSERT_TRUE(feed_packet.checksum_bad);
	CU_ASSERT_EQUAL(session_count, 1);
}

static struct frame
arp_make(uint8_t target)
{
	struct frame f = { .size = 60 }; /* padded by the link */

	memset(f.bytes, 0xff, 6);
	memcpy(f.bytes + 6, peer_mac, 6);
	put16(f.bytes + 12, 0x0806);
	memcpy(f.bytes + 14, (const uint8_t[]){ 0, 1, 8, 0, 6, 4, 0, 1 }, 8);
	memcpy(f.bytes + 22, peer_mac, 6);
	memcpy(f.bytes + 28, (const uint8_t[]){ 10, 0, 0, 9 }, 4);
	memcpy(f.bytes + 38, (const uint8_t[]){ 10, 0, 0, target }, 4);
	return f;
}

static void
test_arp_is_answered_for_the_ports_own_address(void)
{
	static const uint8_t expected[42] = {
		2, 0, 0, 0, 0, 9, 2, 0,	 0, 0, 0, 1, 8, 6, 0, 1, 8, 0,	6, 4, 0,
		2, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 2, 0, 0, 0, 0, 9, 10, 0, 0, 9,
	};
	struct frame f = arp_make(1);

	receive(&f);
	CU_ASSERT_PTR_NOT_NULL_FATAL(sent);
	CU_ASSERT_EQUAL(rte_pktmbuf_data_len(sent), sizeof(expected));
	CU_ASSERT_EQUAL(memcmp(rte_pktmbuf_mtod(sent, void *), expected, sizeof(expected)), 0);
	CU_ASSERT_EQUAL(stats[HFB_STAT_ARP_ANSWERS], 1);
	f = arp_make(2);
	receive(&f);
	f = arp_make(1);
	f.bytes[21] = 2; /* an answer */
	receive(&f);
	f = arp_make(1);
	f.bytes[22] = 3; /* from a group */
	receive(&f);
	CU_ASSERT_EQUAL(stats[HFB_STAT_DROP_NOT_OURS], 3);
	f.size = 41;
	receive(&f);
	CU_ASSERT_EQUAL(stats[HFB_STAT_DROP_SHORT], 1);
	CU_ASSERT_EQUAL(stats[HFB_STAT_ARP_ANSWERS], 1);
}

static void
test_echo_is_answered_with_right_checksums(void)
{
	struct frame f = frame_make("ping of some odd size", 1, 0);
	const uint8_t *to;
	uint32_t icmp_bytes = f.size - f.udp;

	f.bytes[f.ip + 9] = 1;
	ip_checksum_set(&f);
	memset(f.bytes + f.udp, 0, 8);
	f.bytes[f.udp] = 8;
	put16(f.bytes + f.udp + 4, 77);
	put16(f.bytes + f.udp + 2, checksum(f.bytes + f.udp, icmp_bytes, 0));
	receive(&f);
	CU_ASSERT_PTR_NOT_NULL_FATAL(sent);
	CU_ASSERT_EQUAL(rte_pktmbuf_data_len(sent), f.size);
	to = rte_pktmbuf_mtod(sent, const uint8_t *);
	CU_ASSERT_EQUAL(memcmp(to, peer_mac, 6), 0);
	CU_ASSERT_EQUAL(memcmp(to + 6, port_mac, 6), 0);
	CU_ASSERT_EQUAL(memcmp(to + 12, f.bytes + 12, 4), 0); /* the same tag */
	CU_ASSERT_EQUAL(checksum(to + f.ip, 20, 0), 0);
	CU_ASSERT_EQUAL(memcmp(to + f.ip + 12, f.bytes + f.ip + 16, 4), 0);
	CU_ASSERT_EQUAL(to[f.udp], 0);
	CU_ASSERT_EQUAL(checksum(to + f.udp, icmp_bytes, 0), 0);
	CU_ASSERT_EQUAL(memcmp(to + f.udp + 4, f.bytes + f.udp + 4, icmp_bytes - 4), 0);
	/* a wrong checksum, another type, a broadcast: nothing */
	f.bytes[f.size - 1] ^= 1;
	receive(&f);
	f.bytes[f.size - 1] ^= 1;
	memset(f.bytes, 0xff, 6);
	receive(&f);
	CU_ASSERT_EQUAL(stats[HFB_STAT_ICMP_ANSWERS], 1);
	CU_ASSERT_EQUAL(stats[HFB_STAT_DROP_IP_PROTOCOL], 1);
	CU_ASSERT_EQUAL(stats[HFB_STAT_DROP_NOT_OURS], 1);
}

static void
test_igmp_and_chains_of_buffers(void)
{
	struct frame f = frame_make("", 0, 0);
	struct rte_mbuf *head = rte_pktmbuf_alloc(queue.pool), *tail;

	f.bytes[f.ip + 9] = 2;
	ip_checksum_set(&f);
	receive(&f);
	CU_ASSERT_EQUAL(igmp_count, 1);
	f = frame_make("hello", 0, 0);
	tail = rte_pktmbuf_alloc(queue.pool);
	memcpy(rte_pktmbuf_append(head, (uint16_t)f.size), f.bytes, f.size);
	CU_ASSERT_EQUAL(rte_pktmbuf_chain(head, tail), 0);
	hfb_decode_burst(&core, &queue, &head, 1);
	CU_ASSERT_EQUAL(stats[HFB_STAT_DROP_MULTI_SEGMENT], 1);
	CU_ASSERT_EQUAL(session_count, 0);
}

/* Random and mutated frames: never a read beyond, never an answer to garbage. */
static void
test_garbage_is_dropped(void)
{
	uint64_t drops = 0;

	for (uint32_t round = 0; round < 20000; round++) {
		struct frame f = frame_make("hello, this is a frame", round % 3, round % 5);

		for (uint32_t i = 0; i <= round % 7; i++)
			f.bytes[hfb_test_random() % f.size] = (uint8_t)hfb_test_random();
		if (round % 11 == 0)
			f.size = (uint32_t)(hfb_test_random() % f.size) + 1;
		receive(&f);
	}
	for (uint32_t i = HFB_STAT_DROP_SHORT; i <= HFB_STAT_DROP_MULTI_SEGMENT; i++)
		drops += stats[i];
	CU_ASSERT_EQUAL(drops + session_count + igmp_count + stats[HFB_STAT_ARP_ANSWERS] +
				stats[HFB_STAT_ICMP_ANSWERS],
			20000);
	CU_ASSERT_TRUE(drops > 10000);
}

int
main(int argc, char **argv)
{
	static char *eal[] = { (char *)"test_decode",
			       (char *)"--no-huge",
			       (char *)"-m",
			       (char *)"64",
			       (char *)"--no-shconf",
			       (char *)"--no-pci",
			       (char *)"--no-telemetry",
			       (char *)"--log-level=error",
			       (char *)"-l",
			       (char *)"0",
			       NULL };
	CU_TestInfo tests[] = {
		{ "a datagram is what its headers say", test_a_datagram_is_what_its_headers_say },
		{ "UDP may be shorter than IP, not longer",
		  test_udp_may_be_shorter_than_ip_but_not_longer },
		{ "each wrong field has its reason", test_each_wrong_field_has_its_reason },
		{ "other ethertypes and three tags are not ours",
		  test_other_ethertypes_and_three_tags_are_not_ours },
		{ "every cut is short", test_every_cut_is_short_or_wrong },
		{ "UDP checksums are verified when present",
		  test_udp_checksums_are_verified_when_present },
		{ "datagrams go where they belong", test_datagrams_go_where_they_belong },
		{ "ARP is answered for the port's own address",
		  test_arp_is_answered_for_the_ports_own_address },
		{ "echo is answered with right checksums",
		  test_echo_is_answered_with_right_checksums },
		{ "IGMP is passed on, chains are refused", test_igmp_and_chains_of_buffers },
		{ "garbage is dropped", test_garbage_is_dropped },
		CU_TEST_INFO_NULL,
	};
	int r;

	if (rte_eal_init(10, eal) < 0)
		return 1;
	node = calloc(1, sizeof(*node));
	queue.pool = rte_pktmbuf_pool_create("decode", 255, 0, sizeof(struct hfb_mbuf_private),
					     RTE_MBUF_DEFAULT_BUF_SIZE, 0);
	if (node == NULL || queue.pool == NULL)
		return 1;
	config.udp_port = 7400;
	config.ports[0].ip = (struct hfb_ip){ { [10] = 0xff, [11] = 0xff, 10, 0, 0, 1 } };
	node->config = &config;
	node->cores_count = 2;
	node->ports_count = 1;
	node->ports[0].config = &config.ports[0];
	node->ports[0].timestamp_field = -1;
	memcpy(node->ports[0].mac, port_mac, 6);
	core.node = node;
	core.stats = stats;
	r = hfb_test_main_fixture("decode", tests, set_up, tear_down);
	rte_mempool_free(queue.pool);
	rte_eal_cleanup();
	free(node);
	return r;
}
