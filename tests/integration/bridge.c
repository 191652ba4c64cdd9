/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bridge - frames between two DPDK ports, so that a kernel's sockets behind a veth
 * reach a bus that listens on memif.
 *
 *	bridge net_memif0,role=client,... net_af_packet0,iface=...
 *
 * Prints "ready" when both links are up; ends on SIGTERM.
 */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#define BURST 32u

static volatile sig_atomic_t stop;

static void
stopped(int number)
{
	(void)number;
	stop = 1;
}

static int
port_start(uint16_t port, struct rte_mempool *pool)
{
	struct rte_eth_conf conf = { 0 };
	uint16_t descriptors = 1024;

	if (rte_eth_dev_configure(port, 1, 1, &conf) < 0 ||
	    rte_eth_dev_adjust_nb_rx_tx_desc(port, &descriptors, &descriptors) < 0 ||
	    rte_eth_rx_queue_setup(port, 0, descriptors, SOCKET_ID_ANY, NULL, pool) < 0 ||
	    rte_eth_tx_queue_setup(port, 0, descriptors, SOCKET_ID_ANY, NULL) < 0 ||
	    rte_eth_dev_start(port) < 0)
		return -1;
	/* not every device knows it; those that do not are promiscuous anyway */
	(void)rte_eth_promiscuous_enable(port);
	return 0;
}

static uint16_t
forward(uint16_t from, uint16_t to)
{
	struct rte_mbuf *mbufs[BURST];
	uint16_t n = rte_eth_rx_burst(from, 0, mbufs, BURST);
	uint16_t sent = n > 0 ? rte_eth_tx_burst(to, 0, mbufs, n) : 0;

	if (sent < n)
		rte_pktmbuf_free_bulk(&mbufs[sent], (unsigned int)(n - sent));
	return n;
}

int
main(int argc, char **argv)
{
	char first[512], second[512];
	char *eal[] = { argv[0],
			(char *)"--no-huge",
			(char *)"-m",
			(char *)"64",
			(char *)"--no-shconf",
			(char *)"--no-pci",
			(char *)"--no-telemetry",
			(char *)"--log-level=error",
			first,
			second };
	struct rte_eth_link link;
	struct rte_mempool *pool;
	bool ready = false;

	if (argc != 3) {
		fprintf(stderr, "usage: bridge DEVICE DEVICE\n");
		return 2;
	}
	signal(SIGTERM, stopped);
	signal(SIGINT, stopped);
	snprintf(first, sizeof(first), "--vdev=%s", argv[1]);
	snprintf(second, sizeof(second), "--vdev=%s", argv[2]);
	if (rte_eal_init((int)(sizeof(eal) / sizeof(eal[0])), eal) < 0)
		return 1;
	pool = rte_pktmbuf_pool_create("bridge", 8191, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
				       SOCKET_ID_ANY);
	if (pool == NULL || rte_eth_dev_count_avail() != 2 || port_start(0, pool) < 0 ||
	    port_start(1, pool) < 0) {
		fprintf(stderr, "bridge: the ports do not start\n");
		return 1;
	}
	while (!stop) {
		/* sleeps when idle: it shares a small machine with what it serves */
		if (forward(0, 1) + forward(1, 0) == 0)
			usleep(50);
		if (!ready && rte_eth_link_get_nowait(0, &link) == 0 && link.link_status != 0) {
			ready = true;
			puts("ready");
			fflush(stdout);
		}
	}
	rte_eth_dev_stop(0);
	rte_eth_dev_stop(1);
	rte_eal_cleanup();
	return 0;
}
