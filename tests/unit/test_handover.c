/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hand-over of mbufs between cores.
 *
 * Goal:   what is handed over arrives once, in order, with what the other core must
 *	   know; a full ring drops and counts; no mbuf is lost or freed twice.
 * Method: two cores without threads; the receiving functions of sessions and feeds are
 *	   replaced at link time by ones that note what came.
 */
#include <stdlib.h>
#include <string.h>

#include <rte_ethdev.h>
#include <rte_mempool.h>

#include "config.h"
#include "core.h"
#include "eal.h"
#include "hfb_test_main.h"
#include "node.h"
#include "port.h"

static struct hfb_config config;
static struct hfb_node node;
static struct hfb_core cores[2];
static uint64_t stats[2][HFB_STATS_COUNT];
static struct hfb_histogram *times[2];
static uint64_t queue_stats[HFB_QUEUE_STATS_COUNT];
static struct rte_mempool *pool;

static struct {
	uint32_t sessions, feeds;
	uint32_t handles[HFB_HANDOVER_RING];
	struct hfb_mbuf_private last;
} seen;

void __wrap_hfb_session_handed(struct hfb_core *core, const struct hfb_mbuf_private *private);
void __wrap_hfb_feed_handed(struct hfb_core *core, const struct hfb_mbuf_private *private);

void
__wrap_hfb_session_handed(struct hfb_core *core, const struct hfb_mbuf_private *private)
{
	seen.handles[seen.sessions++ % HFB_HANDOVER_RING] = private->handle;
	seen.last = *private;
}

void
__wrap_hfb_feed_handed(struct hfb_core *core, const struct hfb_mbuf_private *private)
{
	seen.feeds++;
	seen.last = *private;
}

static struct hfb_packet
packet_make(uint16_t source_port)
{
	struct hfb_packet packet = { .mbuf = rte_pktmbuf_alloc(pool),
				     .source_port = source_port,
				     .port_time_ns = 77 };

	CU_ASSERT_PTR_NOT_NULL_FATAL(packet.mbuf);
	packet.payload = rte_pktmbuf_mtod(packet.mbuf, uint8_t *);
	return packet;
}

static void
test_what_is_handed_over_arrives_in_order(void)
{
	const uint32_t before = rte_mempool_avail_count(pool);

	memset(&seen, 0, sizeof(seen));
	for (uint32_t i = 0; i < 100; i++) {
		struct hfb_packet packet = packet_make((uint16_t)i);

		/* the last twenty in another turn */
		cores[0].times.turn_tsc = i < 80 ? 64 * 1000 : 64 * 3000;
		CU_ASSERT_TRUE(hfb_handover(&cores[0], 1,
					    i % 2 ? HFB_HANDED_SUBSCRIBE : HFB_HANDED_PRODUCE,
					    &packet, 1000 + i, 0xabc, 0));
	}
	CU_ASSERT_EQUAL(cores[0].handed_to, 2);
	CU_ASSERT_EQUAL(stats[0][HFB_STAT_HANDOVERS], 100);
	CU_ASSERT_EQUAL(hfb_handover_poll(&cores[0]), 0); /* not to itself */
	cores[1].times.turn_tsc = 64 * 5000;
	while (hfb_handover_poll(&cores[1]) > 0)
		;
	CU_ASSERT_EQUAL(seen.sessions, 100);
	CU_ASSERT_EQUAL(hfb_histogram_count(times[1]), 100);
	CU_ASSERT_EQUAL(hfb_histogram_count_to(times[1], 64 * 3000), 20);
	CU_ASSERT_EQUAL(times[1]->max, 64 * 4000);
	for (uint32_t i = 0; i < 100; i++)
		CU_ASSERT_EQUAL(seen.handles[i], 1000 + i);
	CU_ASSERT_EQUAL(seen.last.session, 0xabc);
	CU_ASSERT_EQUAL(seen.last.from_core, 0);
	CU_ASSERT_EQUAL(seen.last.packet.source_port, 99);
	CU_ASSERT_EQUAL(seen.last.packet.port_time_ns, 77);
	CU_ASSERT_EQUAL(rte_mempool_avail_count(pool), before);
}

static void
test_feeds_come_with_their_line(void)
{
	struct hfb_packet packet = packet_make(1);

	memset(&seen, 0, sizeof(seen));
	CU_ASSERT_TRUE(hfb_handover(&cores[1], 0, HFB_HANDED_FEED, &packet, 5, 0, 9));
	CU_ASSERT_EQUAL(hfb_handover_poll(&cores[0]), 1);
	CU_ASSERT_EQUAL(seen.feeds, 1);
	CU_ASSERT_EQUAL(seen.last.feed_line, 9);
	CU_ASSERT_EQUAL(seen.last.handle, 5);
	CU_ASSERT_EQUAL(seen.last.from_core, 1);
}

static void
test_a_full_ring_drops_and_counts(void)
{
	const uint32_t before = rte_mempool_avail_count(pool);
	uint32_t taken = 0;

	memset(&seen, 0, sizeof(seen));
	stats[0][HFB_STAT_DROP_HANDOVER_FULL] = 0;
	for (uint32_t i = 0; i < HFB_HANDOVER_RING + 10; i++) {
		struct hfb_packet packet = packet_make(1);

		taken += hfb_handover(&cores[0], 1, HFB_HANDED_PRODUCE, &packet, i, 0, 0);
	}
	CU_ASSERT_EQUAL(taken, HFB_HANDOVER_RING);
	CU_ASSERT_EQUAL(stats[0][HFB_STAT_DROP_HANDOVER_FULL], 10);
	CU_ASSERT_EQUAL(rte_mempool_avail_count(pool), before - HFB_HANDOVER_RING);
	while (hfb_handover_poll(&cores[1]) > 0)
		;
	CU_ASSERT_EQUAL(seen.sessions, HFB_HANDOVER_RING);
	CU_ASSERT_EQUAL(rte_mempool_avail_count(pool), before);
}

static void
test_a_core_without_a_queue_sends_through_the_one_that_has(void)
{
	const struct hfb_peer peer = {
		.port = 0,
		.vlan = 5,
		.mac = { 1, 2, 3, 4, 5, 6 },
		.own_mac = { 2, 0, 0, 0, 0, 1 },
		.ip.bytes = { [10] = 0xff, [11] = 0xff, 10, 0, 0, 2 },
		.own_ip.bytes = { [10] = 0xff, [11] = 0xff, 10, 0, 0, 1 },
		.udp_port = 1234,
		.own_udp_port = 7400,
	};
	const uint32_t before = rte_mempool_avail_count(pool);
	struct rte_mbuf *mbuf, *got[4];
	struct hfb_packet packet;
	uint8_t *payload;

	CU_ASSERT_PTR_NULL(cores[1].queue_of_port[0]);
	mbuf = hfb_tx_begin(&cores[1], &peer, 100, &payload);
	CU_ASSERT_PTR_NOT_NULL_FATAL(mbuf);
	memset(payload, 0x5a, 100);
	hfb_tx_send(&cores[1], &peer, mbuf, 33);
	CU_ASSERT_EQUAL(hfb_handover_poll(&cores[0]), 1);
	CU_ASSERT_EQUAL(hfb_tx_flush(&cores[0]), 1);
	/* the ring device gives back what was sent to it */
	CU_ASSERT_EQUAL_FATAL(rte_eth_rx_burst(node.ports[0].dpdk_port, 0, got, 4), 1);
	CU_ASSERT_EQUAL(rte_pktmbuf_pkt_len(got[0]), 14 + 4 + 20 + 8 + 33);
	CU_ASSERT_EQUAL(hfb_decode_frame(rte_pktmbuf_mtod(got[0], uint8_t *),
					 rte_pktmbuf_pkt_len(got[0]), &packet),
			-1);
	CU_ASSERT_EQUAL(packet.vlan, 5);
	CU_ASSERT_EQUAL(packet.source_port, 7400);
	CU_ASSERT_EQUAL(packet.destination_port, 1234);
	CU_ASSERT_EQUAL(packet.payload_bytes, 33);
	CU_ASSERT_FALSE(packet.checksum_bad);
	CU_ASSERT_EQUAL(memcmp(packet.destination.bytes, peer.ip.bytes, 16), 0);
	rte_pktmbuf_free(got[0]);
	CU_ASSERT_EQUAL(queue_stats[HFB_QUEUE_STAT_TX_PACKETS], 1);
	CU_ASSERT_EQUAL(rte_mempool_avail_count(pool), before);
}

static void
test_a_port_that_takes_nothing_costs_its_frames_only(void)
{
	const struct hfb_peer peer = { .port = 0 };
	const uint32_t before = rte_mempool_avail_count(pool);
	struct rte_mbuf *got[HFB_BURST_MAX];
	uint32_t sent = 4000, came = 0; /* more than the device's ring and our buffer hold */
	uint16_t n;

	stats[0][HFB_STAT_TX_DROPS] = 0;
	for (uint32_t i = 0; i < sent; i++) {
		uint8_t *payload;
		struct rte_mbuf *mbuf = hfb_tx_begin(&cores[0], &peer, 8, &payload);

		CU_ASSERT_PTR_NOT_NULL_FATAL(mbuf);
		hfb_tx_send(&cores[0], &peer, mbuf, 8);
	}
	hfb_tx_flush(&cores[0]);
	CU_ASSERT_TRUE(stats[0][HFB_STAT_TX_DROPS] > 0);
	while ((n = rte_eth_rx_burst(node.ports[0].dpdk_port, 0, got, HFB_BURST_MAX)) > 0) {
		rte_pktmbuf_free_bulk(got, n);
		came += n;
	}
	CU_ASSERT_EQUAL(came + stats[0][HFB_STAT_TX_DROPS], sent);
	CU_ASSERT_EQUAL(rte_mempool_avail_count(pool), before);
}

static int
set_up(void)
{
	struct rte_eth_conf conf = { 0 };
	struct hfb_eal_plan plan;
	struct hfb_err err;

	hfb_config_default(&config);
	config.hugepages = false;
	if (hfb_config_port_add(&config, "net_ring0", &err) < 0)
		return -1;
	config.cores_count = 2;
	config.cpus[0] = config.cpus[1] = -1;
	hfb_eal_plan(&config, &plan);
	if (hfb_eal_start(&config, &plan, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		return -1;
	}
	pool = rte_pktmbuf_pool_create("test", 8191, 0,
				       RTE_ALIGN(sizeof(struct hfb_mbuf_private), 8),
				       RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	if (pool == NULL ||
	    rte_eth_dev_get_port_by_name("net_ring0", &node.ports[0].dpdk_port) < 0 ||
	    rte_eth_dev_configure(node.ports[0].dpdk_port, 1, 1, &conf) < 0 ||
	    rte_eth_rx_queue_setup(node.ports[0].dpdk_port, 0, 1024, SOCKET_ID_ANY, NULL, pool) <
		    0 ||
	    rte_eth_tx_queue_setup(node.ports[0].dpdk_port, 0, 1024, SOCKET_ID_ANY, NULL) < 0 ||
	    rte_eth_dev_start(node.ports[0].dpdk_port) < 0)
		return -1;
	node.config = &config;
	node.cores_count = 2;
	node.ports_count = 1;
	node.ports[0].pools[0] = pool;
	for (uint16_t i = 0; i < 2; i++) {
		cores[i].id = i;
		cores[i].node = &node;
		cores[i].stats = stats[i];
		times[i] = malloc(hfb_histogram_bytes(HFB_STAGE_TIME_BITS, 36));
		if (times[i] == NULL)
			return -1;
		hfb_histogram_init(times[i], HFB_STAGE_TIME_BITS, 36);
		cores[i].times.of[HFB_STAGE_TIME_HANDED] = times[i];
		cores[i].times.tick_ns = 1ull << 32;
		cores[i].ports_live = true;
		node.cores[i] = &cores[i];
	}
	cores[0].queues_count = 1;
	cores[0].queues[0] = (struct hfb_queue){ .dpdk_port = node.ports[0].dpdk_port,
						 .pool = pool,
						 .stats = queue_stats };
	cores[0].queue_of_port[0] = &cores[0].queues[0];
	return hfb_cores_connect(&node, &err);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "what is handed over arrives, in order",
		  test_what_is_handed_over_arrives_in_order },
		{ "feeds come with their line", test_feeds_come_with_their_line },
		{ "a full ring drops and counts", test_a_full_ring_drops_and_counts },
		{ "a core without a queue sends through the one that has",
		  test_a_core_without_a_queue_sends_through_the_one_that_has },
		{ "a port that takes nothing costs its frames only",
		  test_a_port_that_takes_nothing_costs_its_frames_only },
		CU_TEST_INFO_NULL,
	};

	if (set_up() < 0) {
		fprintf(stderr, "DPDK does not start here\n");
		return 1;
	}
	return hfb_test_main("handover", tests);
}
