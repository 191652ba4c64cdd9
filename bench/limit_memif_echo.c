/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limit_memif_echo.c - a datagram there and back over a memif, nothing done with it: what a
 * produce and its ack cost at least.
 *
 * The far end sends back the very buffers it got. Closed loop with --inflight, or open
 * loop with --rate, where latency counts from the intended time.
 */
#include <errno.h>
#include <string.h>

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "limit_memif.h"

#define STAMP_AT 42u /* behind room for Ethernet, IPv4 and UDP headers */

static struct limit_memif memif;

static void
echo(struct bench_dpdk *dpdk, struct limit_memif_shared *shared)
{
	struct rte_mbuf *mbufs[BENCH_DPDK_BURST];

	while (!limit_memif_stopped(shared)) {
		uint16_t n = rte_eth_rx_burst(dpdk->port, 0, mbufs, BENCH_DPDK_BURST), sent = 0;

		while (sent < n && !limit_memif_stopped(shared))
			sent += rte_eth_tx_burst(dpdk->port, 0, mbufs + sent, n - sent);
	}
}

static int
setup(struct bench *b)
{
	if (b->options.size < STAMP_AT + sizeof(uint64_t) || b->options.size > 1514)
		return hfb_err_set(&b->err, -EINVAL,
				   "a datagram here has 50 to 1514 bytes, see --size");
	return limit_memif_open(&memif, b, echo);
}

/* Up to @want datagrams that carry their times; returns those that went. */
static uint32_t
datagrams_send(const struct bench *b, struct bench_pace *pace, bool paced, uint64_t now_ns,
	       uint32_t want)
{
	struct rte_mbuf *mbufs[BENCH_DPDK_BURST];
	uint16_t bytes = (uint16_t)b->options.size, sent;

	if (want > BENCH_DPDK_BURST)
		want = BENCH_DPDK_BURST;
	if (rte_pktmbuf_alloc_bulk(memif.dpdk.pool, mbufs, want) != 0)
		return 0;
	for (uint32_t i = 0; i < want; i++) {
		uint64_t stamp = paced ? bench_pace_time_ns(pace, pace->sent + i) : now_ns;

		mbufs[i]->data_len = bytes;
		mbufs[i]->pkt_len = bytes;
		memcpy(rte_pktmbuf_mtod_offset(mbufs[i], uint8_t *, STAMP_AT), &stamp,
		       sizeof(stamp));
	}
	sent = rte_eth_tx_burst(memif.dpdk.port, 0, mbufs, (uint16_t)want);
	if (sent < want)
		rte_pktmbuf_free_bulk(mbufs + sent, want - sent);
	pace->sent += sent;
	return sent;
}

static int
run(struct bench *b)
{
	struct hfb_histogram *h = bench_latency(b, "latency");
	uint64_t now_ns = bench_now_ns(), done = 0, heard_ns = now_ns;
	struct bench_window w = bench_window(b, now_ns);
	bool paced = b->options.rate > 0;
	uint64_t in_flight = 0;
	struct bench_pace pace;

	bench_pace_start(&pace, b->options.rate, w.begin_ns);
	while (bench_window_open(&w, now_ns) || in_flight > 0 ||
	       (paced && bench_pace_due(&pace, w.until_ns - 1) > 0)) {
		struct rte_mbuf *mbufs[BENCH_DPDK_BURST];
		uint16_t n = rte_eth_rx_burst(memif.dpdk.port, 0, mbufs, BENCH_DPDK_BURST);
		uint32_t due;

		now_ns = bench_now_ns();
		for (uint16_t i = 0; i < n; i++) {
			uint64_t stamp;

			memcpy(&stamp, rte_pktmbuf_mtod_offset(mbufs[i], uint8_t *, STAMP_AT),
			       sizeof(stamp));
			done += bench_window_has(&w, now_ns);
			if (bench_window_has(&w, stamp))
				hfb_histogram_record(h, now_ns - stamp);
		}
		if (n > 0) {
			rte_pktmbuf_free_bulk(mbufs, n);
			in_flight -= n;
			heard_ns = now_ns;
		} else if (now_ns - heard_ns > 1000000000ull && in_flight > 0) {
			return hfb_err_set(&b->err, -EIO, "%lu datagrams did not come back",
					   (unsigned long)in_flight);
		}
		if (now_ns > w.until_ns + BENCH_OVERTIME_NS)
			return bench_window_overtime(b, "datagrams", in_flight);
		/* what was due in the time is sent and counts also when it is over */
		if (paced)
			due = bench_pace_due(&pace, bench_window_due_ns(&w, now_ns));
		else
			due = now_ns < w.until_ns ? b->options.inflight - (uint32_t)in_flight : 0;
		if (due > 0)
			in_flight += datagrams_send(b, &pace, paced, now_ns, due);
	}
	bench_metric(b, "rate", "datagrams/s", (double)done / bench_seconds(&w, w.until_ns));
	return 0;
}

static void
teardown(struct bench *b)
{
	limit_memif_close(&memif);
}

const struct bench_scenario bench_limit_memif_echo = {
	.group = "limit",
	.name = "memif-echo",
	.summary = "datagrams there and back over a memif between two processes",
	.options = BENCH_SIZE | BENCH_INFLIGHT | BENCH_RATE,
	.defaults = limit_memif_defaults,
	.setup = setup,
	.run = run,
	.teardown = teardown,
};
