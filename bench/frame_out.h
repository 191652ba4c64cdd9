/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame_out.h - where a generator's frames go: a DPDK port, or a capture file.
 *
 *	frame_line_init(&line, 0xc000020a, 49653, 0xefc00101, 26477);
 *	frame_out_open(&out, &config, &err);
 *	frame_out_datagram(&out, &line, payload, bytes, time_ns);
 *	frame_out_flush(&out);
 *	frame_out_close(&out, &err);
 *
 * A full port is waited for, so that nothing is lost here.
 *
 * Threads: one.
 * Memory:  frames are copied; a port has its own packet buffers.
 */
#ifndef HFB_BENCH_FRAME_OUT_H
#define HFB_BENCH_FRAME_OUT_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "err.h"

#define FRAME_HEADERS	    42u /* Ethernet, IPv4, UDP */
#define FRAME_DATAGRAM_MAX  1472u
#define FRAME_BYTES_MAX	    65407u /* one packet buffer with its headroom */
#define FRAME_BYTES_DEFAULT 2048u
#define FRAME_BURST	    32u

struct rte_mbuf;
struct rte_mempool;

/* The headers of datagrams from one place to another, but for lengths and checksums. */
struct frame_line {
	uint8_t headers[FRAME_HEADERS];
	uint16_t id;
};

struct frame_out_config {
	const char *device;	     /* EAL, e.g. "net_memif0,role=client,..."; or */
	const char *pcap;	     /* path of a capture to write */
	uint32_t frame_bytes_max;    /* of frame_out_frame(), 0 = FRAME_BYTES_DEFAULT */
	int cpu;		     /* -1 = any: gives way to the receiver on a small machine */
	volatile sig_atomic_t *stop; /* when it gets true nothing is waited for any more */
};

struct frame_out {
	volatile sig_atomic_t *stop;
	bool udp_checksums;
	FILE *pcap;
	uint16_t port;
	struct rte_mempool *pool;
	struct rte_mbuf *burst[FRAME_BURST];
	uint32_t burst_count;
	uint64_t frames, bytes, refusals; /* refusals: bursts the port did not take whole */
};

/* Addresses in host order. A group gets its own MAC address, another host that of all. */
void frame_line_init(struct frame_line *line, uint32_t from, uint16_t from_port, uint32_t to,
		     uint16_t to_port);

/*
 * Opens and waits for the link. Returns 0, -EINTR (told to stop), -ENOLINK (no link
 * after 15 s), or another negative errno.
 */
int frame_out_open(struct frame_out *out, const struct frame_out_config *config,
		   struct hfb_err *err);

/* Queue a datagram of at most FRAME_DATAGRAM_MAX bytes. */
void frame_out_datagram(struct frame_out *out, struct frame_line *line, const uint8_t *payload,
			uint32_t bytes, uint64_t time_ns);
/* Queue a frame as it is; at most the configured size. */
void frame_out_frame(struct frame_out *out, const uint8_t *frame, uint32_t bytes, uint64_t time_ns);
void frame_out_flush(struct frame_out *out);

/* Packets the port itself reports as not sent, e.g. as too long for the device. */
uint64_t frame_out_errors(const struct frame_out *out);

/* Returns 0, or -EIO when a capture could not be written whole. */
int frame_out_close(struct frame_out *out, struct hfb_err *err);

#endif
