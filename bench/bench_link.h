/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_link.h - a producer as the scenarios see it, over whatever carries it.
 *
 *	r = bench_link_open(&config, &link, &err);
 *	while (running) {
 *		taken = link->ops->send(link, partition, events);  0: back-pressure
 *		r = link->ops->poll(link);			   acks; < 0: it is over
 *		done = link->acked[partition];
 *	}
 *	r = bench_link_drain(link, timeout_ns, &err);	 until all sent is acked
 *	bench_link_close(link);
 *
 * Events of a partition are counted from 0 in the order sent; `acked` is how many of the
 * first ones have reached the stage asked for. So a scenario that notes the intended
 * time of event n has its latency once acked[partition] > n.
 *
 * A link makes the events itself, so that all transports send the same: a value of
 * event_bytes bytes, beginning with the event's number (u64, when there is room), the
 * rest taken from random bytes at a place that varies. Every batch has its real
 * sequence and crc; nothing is sent that the bus could skip checking.
 *
 * Threads: one; busy: neither send nor poll blocks or allocates.
 * Memory:  all of it at open.
 * Cost:    an indirect call for a burst of events or a poll, none for an event.
 */
#ifndef BENCH_LINK_H
#define BENCH_LINK_H

#include <stdint.h>

#include <hfbus/types.h>

#include "err.h"

#define BENCH_PARTITIONS_MAX 4096u

struct bench_link_config {
	const char *transport; /* memif, af_packet, af_xdp: DPDK; udp: kernel; shm: local */
	const char *data;      /* the bus's folder; NULL: where a client looks */
	const char *device;    /* DPDK: "net_memif0,role=client,socket=PATH,socket-abstract=no" */
	const char *bus_ip;    /* DPDK and udp: IPv4 of the bus's port; NULL: 10.9.0.2 */
	const char *own_ip;    /* DPDK: ours; NULL: bus_ip less one */
	uint16_t udp_port;     /* of core 0; 0: the default */
	const char *topic;
	uint32_t partitions;	  /* the first so many of the topic are used; 1.. */
	enum hfb_stage stage;	  /* acked when there */
	uint32_t event_bytes;	  /* of the value, 1.. */
	uint32_t batch_events;	  /* in one batch at most, 1..; DPDK: as many as fit a datagram */
	uint32_t inflight_events; /* a partition, not yet acked at the stage; 0: what credit allows
				   */
	int cpu;		  /* the caller's; -1: not pinned */
	uint64_t seed;		  /* of the random bytes */
};

struct bench_link;

struct bench_link_ops {
	/*
	 * Send @events events to @partition as batches of batch_events, the last one maybe
	 * shorter. Returns how many were taken, 0..@events: fewer is back-pressure (window,
	 * credit, queue), tried again after a poll. What was taken is sent without a flush.
	 */
	uint32_t (*send)(struct bench_link *link, uint32_t partition, uint32_t events);
	/*
	 * Take what has come, send what is due again. Returns events newly acked, or a
	 * negative errno with link->err set when the bus refuses for good.
	 */
	int64_t (*poll)(struct bench_link *link);
	void (*close)(struct bench_link *link);
};

/* Head of each link's own struct. */
struct bench_link {
	const struct bench_link_ops *ops;
	uint32_t partitions;
	uint32_t batch_events; /* as used: what was asked, or what fits */
	uint64_t *acked;       /* [partitions] events below are at the stage */
	uint64_t *sent;	       /* [partitions] events taken by send() */
	uint64_t frames;       /* PRODUCE frames (or batches) sent, with repeated ones */
	uint64_t resent;       /* of these, those sent again */
	uint64_t refused;      /* acks with a refusal: gap, ring full, ... */
	uint64_t starved;      /* send() calls that took nothing for want of credit */
	struct hfb_err err;
};

/* By config->transport. Returns 0, or a negative errno with *@err set. */
int bench_link_open(const struct bench_link_config *config, struct bench_link **ret_link,
		    struct hfb_err *err);
/* Poll until all that was sent is acked. 0, -ETIMEDOUT, or what poll() said. */
int bench_link_drain(struct bench_link *link, uint64_t timeout_ns, struct hfb_err *err);
/* Accepts NULL. */
void bench_link_close(struct bench_link *link);

/* The transports; each file knows its own. */
int bench_link_memif_open(const struct bench_link_config *config, struct bench_link **ret_link,
			  struct hfb_err *err); /* link_memif.c: any DPDK port */
int bench_link_client_open(const struct bench_link_config *config, struct bench_link **ret_link,
			   struct hfb_err *err); /* link_client.c: libhfbus */

#endif
