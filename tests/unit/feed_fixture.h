/* SPDX-License-Identifier: Apache-2.0 */
/*
 * feed_fixture.h - a poll core with feeds and nothing else, over a log in memory.
 *
 *	struct feed_fixture *f = feed_fixture_open(&config);
 *	feed_fixture_datagram(f, 0, payload, bytes, port_time_ns);
 *	feed_fixture_turn(f, 1000);
 *	f->event[], f->gap[]		what the log holds, read back and checked
 *
 * The log takes batches as storage does (claim, append, segments, refusals that a
 * test asks for) and checks each with the readers' own parser.
 *
 * Threads: one.
 * Memory:  one fixture at a time.
 */
#ifndef FEED_FIXTURE_H
#define FEED_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "core.h"
#include "feed.h"
#include "node.h"

#define FIXTURE_EVENTS_MAX  65536u
#define FIXTURE_GAPS_MAX    512u
#define FIXTURE_STARTS_MAX  256u
#define FIXTURE_STREAMS_MAX 16u

struct fixture_event {
	uint64_t key, sequence, event_time_ns, port_time_ns;
	const uint8_t *value;
	uint32_t value_size;
	uint32_t order; /* among events and gaps */
};

struct feed_fixture {
	struct hfb_config config;
	struct hfb_node node;
	struct hfb_core core;
	struct hfb_partition partition;
	uint64_t core_stats[HFB_STATS_COUNT];
	struct rte_mempool *pool;
	/* the log */
	uint8_t *bytes;
	uint64_t position, claimed_at, segment_bytes, room_end;
	uint32_t claimed_bytes;
	enum hfb_log_refusal refusal; /* OK = take what comes */
	uint64_t refusals;
	struct {
		uint64_t key, next;
	} stream[FIXTURE_STREAMS_MAX];
	uint32_t streams_count;
	/* read back */
	struct fixture_event event[FIXTURE_EVENTS_MAX];
	struct hfb_control_gap gap[FIXTURE_GAPS_MAX];
	uint64_t gap_key[FIXTURE_GAPS_MAX];
	uint32_t gap_order[FIXTURE_GAPS_MAX];
	struct hfb_control_stream start[FIXTURE_STARTS_MAX];
	uint32_t events_count, gaps_count, starts_count, batches_count, entries;
	bool sound;	       /* every batch parsed, each stream started in its segment */
	uint32_t handed, sent; /* to another core; frames transmitted */
	uint8_t sent_frame[128];
	uint32_t sent_bytes;
};

/* @feeds are copied. The log keeps its content over feed_fixture_restart(). */
struct feed_fixture *feed_fixture_open(const struct hfb_feed_config *feeds, uint32_t count);
void feed_fixture_close(struct feed_fixture *f);
/* A new run of the same node over the same log. */
void feed_fixture_restart(struct feed_fixture *f);
/* A datagram to line @line of feed 0. */
void feed_fixture_datagram(struct feed_fixture *f, uint16_t line, const uint8_t *payload,
			   uint32_t bytes, uint64_t port_time_ns);
/* A whole frame, as a port brings it: decoded and looked up. False: not a feed's. */
bool feed_fixture_frame(struct feed_fixture *f, const uint8_t *frame, uint32_t bytes,
			uint64_t port_time_ns);
/* The end of a turn that took @elapsed_ns. */
void feed_fixture_turn(struct feed_fixture *f, uint64_t elapsed_ns);
/* Read the log back into event[], gap[], start[]. */
void feed_fixture_read(struct feed_fixture *f);
/* Mbufs not in the pool. */
uint32_t feed_fixture_mbufs(const struct feed_fixture *f);

#endif
