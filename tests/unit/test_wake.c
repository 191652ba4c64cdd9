/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ports that wake a sleeping core.
 *
 * Goal:   a memif's queue is known as one that wakes, others are not; armed, each burst of the
 *	   peer makes its descriptor readable, and none of those that race with arming is lost;
 *	   without a peer it is not armed, with the next one it is; the idle strategy sleeps
 *	   past such a port, and does not spin for packets that nobody takes.
 * Method: both ends of a memif in this process, the driver's own code; the far end sends from
 *	   a thread. A wake-up that got lost shows as a wait that lasts to its limit.
 */
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <rte_ethdev.h>
#include <rte_mempool.h>

#include "clock.h"
#include "config.h"
#include "core.h"
#include "eal.h"
#include "hfb_test_main.h"
#include "idle.h"
#include "local.h"
#include "node.h"
#include "wake.h"

#define WAIT_MS 2000 /* a machine that is busy with others needs some of it */

static struct hfb_config config;
static struct hfb_node node;
static struct hfb_core core;
static uint64_t stats[HFB_STATS_COUNT], queue_stats[HFB_QUEUE_STATS_COUNT];
static struct rte_mempool *pool, *other_pool;
static uint16_t server, client, ring;
static struct hfb_queue *const queue = &core.queues[0];

static void
nap(void)
{
	const struct timespec ms = { .tv_nsec = 1000000 };

	nanosleep(&ms, NULL);
}

/* Both ends have a link, or neither. */
static bool
link_wait(uint16_t status)
{
	for (uint32_t i = 0; i < WAIT_MS; i++) {
		struct rte_eth_link a = { 0 }, b = { 0 };

		if (rte_eth_link_get_nowait(server, &a) == 0 &&
		    rte_eth_link_get_nowait(client, &b) == 0 && a.link_status == status &&
		    b.link_status == status)
			return true;
		nap();
	}
	return false;
}

static bool
send_one(uint16_t from)
{
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(pool);

	if (mbuf == NULL || rte_pktmbuf_append(mbuf, 60) == NULL)
		return false;
	if (rte_eth_tx_burst(from, 0, &mbuf, 1) == 1)
		return true;
	rte_pktmbuf_free(mbuf);
	return false;
}

static uint32_t
take(uint16_t port)
{
	struct rte_mbuf *mbufs[HFB_BURST_MAX];
	uint16_t n = rte_eth_rx_burst(port, 0, mbufs, HFB_BURST_MAX);

	rte_pktmbuf_free_bulk(mbufs, n);
	return n;
}

static bool
readable(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) == 1;
}

static void
test_it_is_known_which_ports_can_wake(void)
{
	CU_ASSERT_TRUE(hfb_wake_supported(server, 0, pool));
	CU_ASSERT_TRUE(hfb_wake_supported(client, 0, pool));
	CU_ASSERT_FALSE(hfb_wake_supported(ring, 0, pool));
	/* a queue that is not as it should be is taken for one of another release */
	CU_ASSERT_FALSE(hfb_wake_supported(server, 0, other_pool));
	CU_ASSERT_FALSE(hfb_wake_supported(server, 1, pool));
}

/* From @far to the queue that is looked at. */
static void
both_ways(uint16_t port, uint16_t far)
{
	const struct hfb_queue q = { .dpdk_port = port };
	uint64_t count;
	int fd;

	/* a client gives its server buffers when it looks for packets, not before */
	CU_ASSERT_EQUAL(take(port), 0);
	CU_ASSERT_FALSE(hfb_wake_waits(&q));
	CU_ASSERT_TRUE(send_one(far));
	CU_ASSERT_TRUE(hfb_wake_waits(&q));
	CU_ASSERT_EQUAL(take(port), 1);
	CU_ASSERT_FALSE(hfb_wake_waits(&q));

	fd = hfb_wake_arm(&q);
	CU_ASSERT_TRUE_FATAL(fd >= 0);
	CU_ASSERT_FALSE(readable(fd, 0)); /* the one before came unarmed */
	CU_ASSERT_TRUE(send_one(far));
	CU_ASSERT_TRUE(readable(fd, 0));
	CU_ASSERT_TRUE(hfb_wake_waits(&q));
	hfb_wake_disarm(&q);
	CU_ASSERT_EQUAL(take(port), 1);
	/* disarmed, the driver leaves it alone as well: what is read here is its one write */
	CU_ASSERT_EQUAL(read(fd, &count, sizeof(count)), 8);
	CU_ASSERT_EQUAL(count, 1);
	CU_ASSERT_TRUE(send_one(far));
	CU_ASSERT_FALSE(readable(fd, 0));
	CU_ASSERT_EQUAL(take(port), 1);
}

static void
test_a_packet_makes_an_armed_queue_readable(void)
{
	both_ways(server, client);
	both_ways(client, server);
}

static uint64_t taken;
static bool given_up;

static void
spin_for(uint64_t steps)
{
	for (uint64_t i = 0; i < steps * 8; i++)
		__asm__ volatile("");
}

static void *
sender(void *arg)
{
	const uint64_t rounds = *(const uint64_t *)arg;

	for (uint64_t i = 0; i < rounds; i++) {
		/* each time at another moment of the other's falling asleep, see there */
		spin_for(i % 512);
		while (!send_one(client))
			sched_yield();
		while (__atomic_load_n(&taken, __ATOMIC_ACQUIRE) <= i) {
			if (__atomic_load_n(&given_up, __ATOMIC_RELAXED))
				return NULL;
			sched_yield();
		}
	}
	return NULL;
}

static void
test_no_wake_up_of_a_port_is_lost(void)
{
	const uint64_t settle = hfb_clock_tsc_hz() / 1000000 * HFB_WAKE_SETTLE_NS / 1000;
	const uint64_t rounds = 20000;
	uint64_t lost = 0, slept = 0, count;
	pthread_t thread;

	taken = 0;
	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, sender, (void *)&rounds), 0);
	while (taken < rounds) {
		uint64_t from;
		int fd;

		spin_for(taken % 499 * 8);
		fd = hfb_wake_arm(queue);
		from = hfb_clock_tsc();
		CU_ASSERT_TRUE_FATAL(fd >= 0);
		while (hfb_clock_tsc() - from < settle)
			;
		if (!hfb_wake_waits(queue)) {
			slept++;
			if (!readable(fd, WAIT_MS))
				lost++;
		}
		hfb_wake_disarm(queue);
		if (readable(fd, 0))
			CU_ASSERT_EQUAL(read(fd, &count, sizeof(count)), 8);
		__atomic_fetch_add(&taken, take(server), __ATOMIC_RELEASE);
		if (lost > 0)
			break;
	}
	CU_ASSERT_EQUAL(lost, 0);
	CU_ASSERT_TRUE(slept > 0);
	__atomic_store_n(&given_up, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	while (take(server) > 0)
		;
}

static uint64_t
now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

/* Sleeps until it has slept @n times; the time that took. */
static uint64_t
sleep_times(uint64_t n)
{
	uint64_t from = now_ns();

	stats[HFB_STAT_SLEEPS] = stats[HFB_STAT_SLEEPS_WAKEABLE] = 0;
	while (stats[HFB_STAT_SLEEPS] < n)
		hfb_idle_turn(&core, 0);
	return now_ns() - from;
}

static void
test_a_core_sleeps_past_a_port_that_wakes_it(void)
{
	uint64_t from;

	node.ports[0].wakes = true;
	core.now_ns = 5 * (uint64_t)HFB_IDLE_SILENCE_NS;
	queue_stats[HFB_QUEUE_STAT_LAST_PACKET_NS] = core.now_ns - HFB_IDLE_WAKE_NS;
	CU_ASSERT_TRUE(sleep_times(20) >= 20ull * HFB_IDLE_SLEEP_WAKE_NS * 9 / 10);
	CU_ASSERT_EQUAL(stats[HFB_STAT_SLEEPS_WAKEABLE], 20);

	/* a packet just now, a link that went, a driver that cannot: it looks by itself */
	queue_stats[HFB_QUEUE_STAT_LAST_PACKET_NS] = core.now_ns;
	sleep_times(20);
	CU_ASSERT_EQUAL(stats[HFB_STAT_SLEEPS_WAKEABLE], 0);
	queue_stats[HFB_QUEUE_STAT_LAST_PACKET_NS] = 0;
	node.ports[0].link_down = true;
	sleep_times(20);
	CU_ASSERT_EQUAL(stats[HFB_STAT_SLEEPS_WAKEABLE], 0);
	node.ports[0].link_down = false;
	node.ports[0].wakes = false;
	sleep_times(20);
	CU_ASSERT_EQUAL(stats[HFB_STAT_SLEEPS_WAKEABLE], 0);
	node.ports[0].wakes = true;

	/* beside one that must be looked at nobody is asked to wake it */
	core.queues_count = 2;
	core.queues[1] = (struct hfb_queue){ .port = 1, .dpdk_port = ring, .stats = queue_stats };
	sleep_times(20);
	CU_ASSERT_EQUAL(stats[HFB_STAT_SLEEPS_WAKEABLE], 0);
	core.queues_count = 1;

	/* what nobody takes is looked at in naps, and does not keep the core awake */
	CU_ASSERT_TRUE(send_one(client));
	from = now_ns();
	sleep_times(20);
	CU_ASSERT_TRUE(now_ns() - from >= 20ull * HFB_IDLE_SLEEP_SILENT_NS * 9 / 10);
	CU_ASSERT_EQUAL(stats[HFB_STAT_SLEEPS_WAKEABLE], 0);
	CU_ASSERT_EQUAL(take(server), 1);
	hfb_idle_turn(&core, 1);
	sleep_times(20);
	CU_ASSERT_EQUAL(stats[HFB_STAT_SLEEPS_WAKEABLE], 20);
}

static void
test_without_a_peer_nothing_is_armed(void)
{
	int fd = hfb_wake_arm(queue);

	CU_ASSERT_TRUE(fd >= 0);
	for (uint32_t i = 0; i < 2; i++) {
		hfb_wake_disarm(queue);
		CU_ASSERT_EQUAL(rte_eth_dev_stop(client), 0);
		CU_ASSERT_TRUE_FATAL(link_wait(RTE_ETH_LINK_DOWN));
		CU_ASSERT_EQUAL(hfb_wake_arm(queue), -ENOTCONN);
		CU_ASSERT_FALSE(hfb_wake_waits(queue));
		hfb_wake_disarm(queue);
		/* the main thread has not seen it yet: naps */
		sleep_times(5);
		CU_ASSERT_EQUAL(stats[HFB_STAT_SLEEPS_WAKEABLE], 0);

		CU_ASSERT_EQUAL(rte_eth_dev_start(client), 0);
		CU_ASSERT_TRUE_FATAL(link_wait(RTE_ETH_LINK_UP));
		sleep_times(5);
		CU_ASSERT_EQUAL(stats[HFB_STAT_SLEEPS_WAKEABLE], 5);
		both_ways(server, client);
	}
}

static int
port_start(const char *name, uint16_t *ret_port)
{
	struct rte_eth_conf conf = { 0 };

	if (rte_eth_dev_get_port_by_name(name, ret_port) < 0 ||
	    rte_eth_dev_configure(*ret_port, 1, 1, &conf) < 0 ||
	    rte_eth_rx_queue_setup(*ret_port, 0, 1024, SOCKET_ID_ANY, NULL, pool) < 0 ||
	    rte_eth_tx_queue_setup(*ret_port, 0, 1024, SOCKET_ID_ANY, NULL) < 0)
		return -1;
	return rte_eth_dev_start(*ret_port);
}

static int
set_up(void)
{
	char device[HFB_PORT_DEVICE_MAX];
	struct hfb_eal_plan plan;
	struct hfb_err err = { 0 };

	hfb_config_default(&config);
	config.hugepages = false;
	config.cores_count = 1;
	config.cpus[0] = -1;
	for (uint32_t i = 0; i < 2; i++) {
		snprintf(device, sizeof(device), "net_memif%u,role=%s,socket=hfbus-test-wake-%d", i,
			 i == 0 ? "server" : "client", (int)getpid());
		if (hfb_config_port_add(&config, device, &err) < 0)
			goto fail;
	}
	if (hfb_config_port_add(&config, "net_ring0", &err) < 0)
		goto fail;
	hfb_eal_plan(&config, &plan);
	if (hfb_eal_start(&config, &plan, &err) < 0)
		goto fail;
	pool = rte_pktmbuf_pool_create("test", 4095, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
				       SOCKET_ID_ANY);
	other_pool = rte_pktmbuf_pool_create("other", 63, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
					     SOCKET_ID_ANY);
	if (pool == NULL || other_pool == NULL || port_start("net_memif0", &server) < 0 ||
	    port_start("net_memif1", &client) < 0 || port_start("net_ring0", &ring) < 0 ||
	    !link_wait(RTE_ETH_LINK_UP))
		goto fail;
	node.config = &config;
	node.cores_count = 1;
	node.cores[0] = &core;
	core.node = &node;
	core.stats = stats;
	core.commands = hfb_spsc_create(16);
	core.ports_live = true;
	core.queues_count = 1;
	*queue = (struct hfb_queue){ .dpdk_port = server, .pool = pool, .stats = queue_stats };
	if (core.commands == NULL || hfb_locals_create(&core, 4, &err) < 0 ||
	    hfb_feeds_create(&core, &err) < 0 ||
	    hfb_idle_create(&core, HFB_IDLE_ADAPTIVE, &err) < 0)
		goto fail;
	return 0;
fail:
	fprintf(stderr, "a memif does not come up here: %s\n", err.text);
	return -1;
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "it is known which ports can wake", test_it_is_known_which_ports_can_wake },
		{ "a packet makes an armed queue readable",
		  test_a_packet_makes_an_armed_queue_readable },
		{ "no wake-up of a port is lost", test_no_wake_up_of_a_port_is_lost },
		{ "a core sleeps past a port that wakes it",
		  test_a_core_sleeps_past_a_port_that_wakes_it },
		{ "without a peer nothing is armed", test_without_a_peer_nothing_is_armed },
		CU_TEST_INFO_NULL,
	};

	hfb_clock_start();
	if (set_up() < 0)
		return 1;
	return hfb_test_main("wake", tests);
}
