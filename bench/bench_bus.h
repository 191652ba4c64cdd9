/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_bus.h - what scenarios against a running bus share: their topic, their link,
 * and a reader that counts and checks what it is given.
 *
 *	r = bench_topic_make(b, &topic);	the one named by --topic, made when missing
 *	r = bench_producer_open(b, &link);	over --transport, to that topic
 *	r = bench_reader_open(b, partition, HFB_SUB_LATEST, &reader, &err);
 *	...
 *	n = bench_reader_turn(&reader, 256, now_ns);
 *
 * Threads: a reader has a bus of its own, so it may run in a thread of its own.
 */
#ifndef HFB_BENCH_BUS_H
#define HFB_BENCH_BUS_H

#include <hfbus/hfbus.h>

#include "bench.h"
#include "bench_link.h"

/* Options of scenarios that produce. */
#define BENCH_PRODUCER                                                                             \
	(BENCH_SIZE | BENCH_BATCH | BENCH_RATE | BENCH_INFLIGHT | BENCH_TRANSPORT | BENCH_ACK |    \
	 BENCH_DATA | BENCH_TOPIC | BENCH_PARTITIONS | BENCH_SEED | BENCH_DEVICE | BENCH_ADDRESS | \
	 BENCH_RETENTION)

/*
 * The topic of --topic: when it is not there, it is made with --partitions, with the stage
 * of --ack as its commit stage and --retention. Over UDP without a local
 * bus it must be there. 0, or why not.
 */
int bench_topic_make(struct bench *b);

/* 0 and *@ret_link, or b->err says why not. */
int bench_producer_open(struct bench *b, struct bench_link **ret_link);

/* All of @link acked, and as much as was sent; else an error that says what is missing. */
int bench_producer_finish(struct bench *b, struct bench_link *link);

/*
 * A topic @name whose partition 0 has --file-size bytes on disk at least: made and filled
 * when it has less. Local. 0, or b->err says why not.
 */
int bench_old_make(struct bench *b, const char *name);

struct bench_reader {
	struct hfb_bus *bus;
	struct hfb_sub *sub;
	uint32_t partition;
	/* of what it was given */
	uint64_t events, bytes; /* bytes: of values */
	uint64_t next_offset;	/* all ones: none was seen */
	uint64_t lapped;
	/* a live one: events of one producer, numbered from `first` on */
	bool numbered;
	uint64_t number; /* expected next */
	/* latency of event n: now - time(n), where time(n) is in from_ns..until_ns */
	struct hfb_histogram *latency;
	const struct bench_pace *pace; /* of batches of `batch` events */
	uint32_t batch;
	uint64_t from_ns, until_ns;
	uint64_t measured; /* events read within */
	struct hfb_err err;
};

/* 0, or @err says why not. from: HFB_SUB_EARLIEST or HFB_SUB_LATEST. */
int bench_reader_open(const struct bench *b, uint32_t partition, enum hfb_sub_from from,
		      bool files_only, struct bench_reader *r, struct hfb_err *err);
void bench_reader_close(struct bench_reader *r);

/* Take up to @max events. Returns how many, or a negative errno with r->err: something
 * is missing, damaged or out of order. */
int64_t bench_reader_turn(struct bench_reader *r, uint32_t max);

#endif
