/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limit_memif_rate.c - datagrams one way over a memif, and the same with the real work of a
 * log: what a poll core can take at most.
 *
 *	memif-rate	receive, drop
 *	memif-append	receive, and for each event of it: bounds, a header of 32 bytes and the
 *			value into a ring of 64 MiB, crc32c over both; the ring's position is
 *			release-stored once a burst
 *
 *	| Ethernet, IPv4, UDP: 42 | u32 count, u32 0 | { u16 size, value } ... |
 *
 * A ring that is full refuses, and what was refused is sent again: nothing is lost.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "crc32c.h"
#include "limit_memif.h"

#define HEADERS	   42u
#define EVENTS_AT  (HEADERS + 8u)
#define RING_BYTES (64u << 20)
#define FRAME_MAX  1514u
#define FRAMES	   512u /* made before; sent in turn */

static struct limit_memif memif;
static uint8_t *frames;
static uint16_t frame_bytes;

/* The far end ------------------------------------------------------------------------------ */

static void
sink(struct bench_dpdk *dpdk, struct limit_memif_shared *shared)
{
	struct rte_mbuf *mbufs[BENCH_DPDK_BURST];
	uint64_t packets = 0;

	while (!limit_memif_stopped(shared)) {
		uint16_t n = rte_eth_rx_burst(dpdk->port, 0, mbufs, BENCH_DPDK_BURST);

		if (n == 0)
			continue;
		rte_pktmbuf_free_bulk(mbufs, n);
		packets += n;
		__atomic_store_n(&shared->packets, packets, __ATOMIC_RELAXED);
	}
}

static uint8_t *
ring_map(void)
{
	uint8_t *ring = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE, -1, 0);

	if (ring == MAP_FAILED) {
		ring = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0);
		if (ring == MAP_FAILED)
			_exit(1);
		madvise(ring, RING_BYTES, MADV_HUGEPAGE);
		memset(ring, 0, RING_BYTES);
	}
	return ring;
}

static inline uint64_t
crc_word(uint64_t crc, uint64_t word)
{
#if defined(__x86_64__)
	return __builtin_ia32_crc32di(crc, word);
#else
	return ~hfb_crc32c(~(uint32_t)crc, &word, sizeof(word));
#endif
}

/* One event at @to; returns what it takes there. The header goes there from registers. */
static inline uint64_t
event_append(uint8_t *to, const uint8_t *value, uint32_t size, uint64_t sequence, uint64_t now)
{
	uint64_t *words = (uint64_t *)(void *)to, crc = ~0u, word;
	uint32_t at;

	crc = crc_word(crc, sequence);
	crc = crc_word(crc, now);
	crc = crc_word(crc, size);
	for (at = 0; at + 8 <= size; at += 8) {
		memcpy(&word, value + at, 8);
		memcpy(to + 32 + at, &word, 8);
		crc = crc_word(crc, word);
	}
	if (at < size) {
		word = 0;
		memcpy(&word, value + at, size - at);
		memcpy(to + 32 + at, &word, 8);
		crc = crc_word(crc, word);
	}
	words[0] = size | crc << 32;
	words[1] = sequence;
	words[2] = now;
	words[3] = size;
	return 32 + ((size + 7) & ~7u);
}

static void
appender(struct bench_dpdk *dpdk, struct limit_memif_shared *shared)
{
	struct rte_mbuf *mbufs[BENCH_DPDK_BURST];
	uint64_t packets = 0, events = 0, bad = 0, position = 0, at = 0;
	uint8_t *ring = ring_map();

	while (!limit_memif_stopped(shared)) {
		uint16_t n = rte_eth_rx_burst(dpdk->port, 0, mbufs, BENCH_DPDK_BURST);
		uint64_t now;

		if (n == 0)
			continue;
		now = hfb_clock_tsc();
		for (uint16_t i = 0; i < n; i++) {
			const uint8_t *frame = rte_pktmbuf_mtod(mbufs[i], const uint8_t *);
			const uint8_t *end = frame + mbufs[i]->data_len, *event = frame + EVENTS_AT;
			uint32_t count;

			memcpy(&count, frame + HEADERS, 4);
			if (at + 2u * FRAME_MAX + 40u * count > RING_BYTES)
				at = 0;
			for (; count > 0; count--) {
				uint16_t size;
				uint64_t took;

				memcpy(&size, event, 2);
				if (event + 2 + size > end) {
					bad++;
					break;
				}
				took = event_append(ring + at, event + 2, size, events, now);
				at += took;
				position += took;
				event += 2 + size;
				events++;
			}
		}
		__atomic_store_n(&shared->position, position, __ATOMIC_RELEASE);
		packets += n;
		__atomic_store_n(&shared->packets, packets, __ATOMIC_RELAXED);
		__atomic_store_n(&shared->events, events, __ATOMIC_RELAXED);
		__atomic_store_n(&shared->bad, bad, __ATOMIC_RELAXED);
		rte_pktmbuf_free_bulk(mbufs, n);
	}
}

/* Our end ---------------------------------------------------------------------------------- */

/* Frames are made before and copied as they go: the far end is what is to be measured. */
static void
frames_make(uint32_t count, uint32_t size, uint64_t random)
{
	uint16_t size16 = (uint16_t)size;

	for (uint32_t f = 0; f < FRAMES; f++) {
		uint8_t *frame = frames + (size_t)f * FRAME_MAX, *at = frame + EVENTS_AT;

		memcpy(frame + HEADERS, &count, 4);
		for (uint32_t i = 0; i < count; i++) {
			memcpy(at, &size16, 2);
			for (uint32_t j = 0; j < size; j++) {
				random = random * 6364136223846793005ull + 1442695040888963407ull;
				at[2 + j] = (uint8_t)(random >> 56);
			}
			at += 2 + size;
		}
		frame_bytes = (uint16_t)(at - frame);
	}
}

/* As fast as the far end takes it, until the window is over. Sets packets sent. */
static void
blast(const struct bench *b, bool events, uint64_t until_ns, uint64_t *sent_total)
{
	uint16_t bytes = events ? frame_bytes : (uint16_t)b->options.size;
	uint32_t next = 0;

	while (bench_now_ns() < until_ns && !bench_stop) {
		struct rte_mbuf *mbufs[BENCH_DPDK_BURST];
		uint16_t sent = 0;

		if (rte_pktmbuf_alloc_bulk(memif.dpdk.pool, mbufs, BENCH_DPDK_BURST) != 0)
			continue;
		for (uint32_t i = 0; i < BENCH_DPDK_BURST; i++) {
			mbufs[i]->data_len = bytes;
			mbufs[i]->pkt_len = bytes;
			if (!events)
				continue;
			memcpy(rte_pktmbuf_mtod(mbufs[i], uint8_t *),
			       frames + (size_t)next * FRAME_MAX, bytes);
			next = (next + 1) % FRAMES;
		}
		while (sent < BENCH_DPDK_BURST && !bench_stop)
			sent += rte_eth_tx_burst(memif.dpdk.port, 0, mbufs + sent,
						 (uint16_t)(BENCH_DPDK_BURST - sent));
		*sent_total += sent;
	}
}

static int
run(struct bench *b, bool events)
{
	const struct limit_memif_shared *shared = memif.shared;
	uint64_t packets, count, now_ns = bench_now_ns(), sent = 0;
	uint64_t before = __atomic_load_n(&shared->packets, __ATOMIC_RELAXED), came;
	struct bench_window w = bench_window(b, now_ns);
	double seconds;

	blast(b, events, w.from_ns, &sent);
	w.from_ns = bench_now_ns();
	packets = __atomic_load_n(&shared->packets, __ATOMIC_RELAXED);
	count = __atomic_load_n(&shared->events, __ATOMIC_RELAXED);
	blast(b, events, w.until_ns, &sent);
	now_ns = bench_now_ns();
	packets = __atomic_load_n(&shared->packets, __ATOMIC_RELAXED) - packets;
	count = __atomic_load_n(&shared->events, __ATOMIC_RELAXED) - count;
	seconds = bench_seconds(&w, now_ns);
	/* all of it comes, or this measured something else */
	do
		came = __atomic_load_n(&shared->packets, __ATOMIC_RELAXED) - before;
	while (came < sent && bench_now_ns() < now_ns + 1000000000ull);
	if (came != sent || __atomic_load_n(&shared->bad, __ATOMIC_RELAXED) != 0)
		return hfb_err_set(&b->err, -EIO, "%lu of %lu datagrams came", (unsigned long)came,
				   (unsigned long)sent);
	if (events) {
		bench_metric(b, "rate", "events/s", (double)count / seconds);
		bench_metric(b, "payload", "GB/s",
			     (double)count * (double)b->options.size / seconds / 1e9);
	}
	bench_metric(b, "datagrams", "datagrams/s", (double)packets / seconds);
	return 0;
}

static int
rate_setup(struct bench *b)
{
	if (b->options.size < 14 || b->options.size > FRAME_MAX)
		return hfb_err_set(&b->err, -EINVAL,
				   "a datagram here has 14 to %u bytes, see --size", FRAME_MAX);
	return limit_memif_open(&memif, b, sink);
}

static int
rate_run(struct bench *b)
{
	return run(b, false);
}

static int
append_setup(struct bench *b)
{
	if (EVENTS_AT + (uint64_t)b->options.batch * (2 + b->options.size) > FRAME_MAX)
		return hfb_err_set(&b->err, -EINVAL,
				   "%u events of %u bytes do not fit a datagram, see --batch and"
				   " --size",
				   b->options.batch, b->options.size);
	frames = calloc(FRAMES, FRAME_MAX);
	if (frames == NULL)
		return hfb_err_set(&b->err, -ENOMEM, "no memory");
	frames_make(b->options.batch, b->options.size, b->options.seed);
	return limit_memif_open(&memif, b, appender);
}

static int
append_run(struct bench *b)
{
	return run(b, true);
}

static void
teardown(struct bench *b)
{
	limit_memif_close(&memif);
	free(frames);
	frames = NULL;
}

const struct bench_scenario bench_limit_memif_rate = {
	.group = "limit",
	.name = "memif-rate",
	.summary = "datagrams one way over a memif, received and dropped",
	.options = BENCH_SIZE | BENCH_SEED,
	.defaults = limit_memif_defaults,
	.setup = rate_setup,
	.run = rate_run,
	.teardown = teardown,
};

const struct bench_scenario bench_limit_memif_append = {
	.group = "limit",
	.name = "memif-append",
	.summary = "events over a memif into a ring in memory: parsed, copied, with crc",
	.options = BENCH_SIZE | BENCH_BATCH | BENCH_SEED,
	.defaults = limit_memif_defaults,
	.setup = append_setup,
	.run = append_run,
	.teardown = teardown,
};
