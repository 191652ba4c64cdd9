/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench/dpdk.h - one DPDK port with one queue, as the far end of a bus or of a raw limit.
 *
 *	r = bench_dpdk_open(&d, "net_memif0,role=client,socket=PATH", cpu, &err);
 *	r = bench_dpdk_link_wait(&d, 15000, &err);
 *	n = rte_eth_rx_burst(d.port, 0, mbufs, 32);
 *	bench_dpdk_close(&d);
 *
 * DPDK can be begun once in a process: a raw limit's two ends are two processes, forked
 * before either begins it.
 *
 * Threads: one, which DPDK pins to @cpu (-1: not pinned).
 * Memory:  hugepages when enough are free, else ordinary pages.
 */
#ifndef BENCH_DPDK_H
#define BENCH_DPDK_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"

#define BENCH_DPDK_MBUFS 8191u
#define BENCH_DPDK_BURST 32u

struct rte_mempool;

struct bench_dpdk {
	uint16_t port;
	bool open, hugepages;
	uint8_t mac[6];
	struct rte_mempool *pool;
};

/* 0, or a negative errno with *@err set: driver, device or memory is missing. */
int bench_dpdk_open(struct bench_dpdk *d, const char *device, int cpu, struct hfb_err *err);
/* 0 or -ENOLINK after @ms. */
int bench_dpdk_link_wait(const struct bench_dpdk *d, uint32_t ms, struct hfb_err *err);
/* Accepts one that was not opened. */
void bench_dpdk_close(struct bench_dpdk *d);

#endif
