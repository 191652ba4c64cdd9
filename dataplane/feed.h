/* SPDX-License-Identifier: Apache-2.0 */
/*
 * feed.h - feeds of a poll core: from a datagram of a (group, port) to batches.
 *
 *	line = hfb_feed_line_find(core, packet);	any core
 *	hfb_feed_input(core, line, packet);		-> the partition's owner
 *	  feed_decode.h	 descriptor			   feed.c
 *	  session	 of the feed -> stream		   feed.c
 *	  arbitrate.h	 what is new, in order		   arbitrate.c
 *	  one batch a datagram, gaps, stream starts	   feed_stream.c
 *
 * A feed has a few sessions (a new one begins while copies of the old one still
 * come), a session one stream, or with restart=accept the last two: a line that
 * lags goes on in the old stream until it restarts as well. A stream's key is a hash
 * of feed name, framing, session and restart number, so that the log alone tells
 * after a restart of hfbusd what to expect next.
 *
 * Time for the hold-back is the port's where its packets are stamped (a capture
 * plays faster than it was recorded) and goes on by the core's clock while the port
 * brings nothing; a turn counts for at most 250 us, so that a core which was kept
 * from running gives up on nothing that waits in the port's queue; where other cores
 * read the port, only turns of theirs count.
 *
 * No room in the log: the arbiter keeps the packet and hfb_feed_paused() asks
 * ports that can to wait. After a second without progress, or at once when the
 * disk is full, events are dropped; a gap with cause `local` follows them.
 *
 * Threads: create and destroy main thread; all else on the poll core.
 * Memory:  made by create; packets that are held back stay in their mbufs, at most
 *	    mbufs_max of a core's.
 */
#ifndef HFB_FEED_H
#define HFB_FEED_H

#include <stdbool.h>
#include <stdint.h>

#include "arbitrate.h"
#include "core.h"
#include "feed_decode.h"
#include "node.h"

#define HFB_FEED_SESSIONS_MAX	4u    /* of one feed, at one time */
#define HFB_FEED_PENDING_MAX	32u   /* gaps of one stream that wait for room */
#define HFB_FEED_MBUFS_HELD_MIN 256u  /* a core's: this and hold_events of its feeds... */
#define HFB_FEED_MBUFS_HELD_MAX 8192u /* ...below half of what a port's pool may have */
#define HFB_FEED_PATIENCE_NS	1000000000ull
#define HFB_FEED_TURN_NS_MAX	250000ull

/* Counters of a feed's line: the name in the counters file. */
#define HFB_FEED_LINE_STATS(X)                                                                     \
	X(PACKETS, "feed_packets_total")                                                           \
	X(MESSAGES, "feed_messages_total")                                                         \
	X(FIRST_WINS, "feed_first_wins_total")                                                     \
	X(DUPLICATES, "feed_duplicates_total")                                                     \
	X(LATE, "feed_late_total")                                                                 \
	X(HELD, "feed_held_total")                                                                 \
	X(HEARTBEATS, "feed_heartbeats_total")                                                     \
	X(END_OF_SESSION, "feed_end_of_session_total")                                             \
	X(FRAMING_ERRORS, "feed_framing_errors_total")                                             \
	X(CHECKSUM_BAD, "feed_line_checksum_bad_total")                                            \
	X(LAST_NS, "=feed_last_ns")

/* Counters of a feed. */
#define HFB_FEED_STATS(X)                                                                          \
	X(EVENTS, "feed_events_total")                                                             \
	X(BATCHES, "feed_batches_total")                                                           \
	X(STREAMS, "feed_streams_total")                                                           \
	X(RESTARTS, "feed_restarts_total")                                                         \
	X(GAPS_WIRE, "feed_gaps_total{cause=wire}")                                                \
	X(MISSING_WIRE, "feed_missing_total{cause=wire}")                                          \
	X(GAPS_LOCAL, "feed_gaps_total{cause=local}")                                              \
	X(MISSING_LOCAL, "feed_missing_total{cause=local}")                                        \
	X(BLOCKED, "feed_blocked_total")                                                           \
	X(UNBOUND, "feed_unbound_total")                                                           \
	X(HELD_NOW, "=feed_held_events")                                                           \
	X(NEXT, "=feed_next_sequence")

enum hfb_feed_line_stat {
#define X(id, name) HFB_FEED_LINE_##id,
	HFB_FEED_LINE_STATS(X)
#undef X
		HFB_FEED_LINE_STATS_COUNT
};
enum hfb_feed_stat {
#define X(id, name) HFB_FEED_##id,
	HFB_FEED_STATS(X)
#undef X
		HFB_FEED_STATS_COUNT
};

struct hfb_feed;

/* A run of missing sequences that is not in the log yet. */
struct hfb_feed_pending {
	uint64_t first, count;
	enum hfb_gap_cause cause;
};

/* One run of sequences, and its place in the log. */
struct hfb_feed_stream {
	struct hfb_feed *feed;
	struct hfb_arbiter arbiter;
	uint64_t key;		   /* producer id; 0 = raw */
	uint64_t log_next;	   /* next sequence the log will get */
	uint64_t started_base;	   /* segment that has our stream start */
	uint64_t refused_since_ns; /* 0 = the log takes what comes */
	uint32_t restart;
	uint32_t session_size;
	uint8_t session[HFB_FEED_SESSION_BYTES_MAX];
	bool open;
	uint32_t pending_count;
	struct hfb_feed_pending pending[HFB_FEED_PENDING_MAX];
};

/* Where a line is within a session. */
struct hfb_feed_line_state {
	uint32_t restart; /* stream it sends now */
	bool seen;
	uint64_t high;	  /* end of the furthest it has sent */
	uint64_t time_ns; /* of its latest datagram */
};

struct hfb_feed_session {
	uint8_t bytes[HFB_FEED_SESSION_BYTES_MAX];
	uint32_t size;
	bool open;
	uint32_t restart; /* the latest */
	uint64_t used_ns; /* for eviction */
	struct hfb_feed_line_state line[HFB_FEED_LINES_MAX];
	struct hfb_feed_stream stream[2]; /* restart & 1 */
};

struct hfb_feed {
	const struct hfb_feed_config *config;
	struct hfb_core *core;
	struct hfb_partition *partition; /* NULL = not bound */
	uint64_t *stats;		 /* HFB_FEED_* */
	uint64_t *line_stats[HFB_FEED_LINES_MAX];
	uint64_t ports_seen; /* bit per port its packets came from */
	uint64_t raw_next;
	uint32_t mbufs_held; /* of the core's */
	uint32_t session_last;
	/* the datagram in hand, so that delivering it does not decode it again */
	const struct hfb_packet *packet;
	struct hfb_datagram datagram;
	struct hfb_feed_session session[HFB_FEED_SESSIONS_MAX];
};

/* A port's time; see above. */
struct hfb_feed_clock {
	uint64_t time_ns;
	uint64_t polled_ns; /* core's clock when it was last brought forward */
	bool stamped, active;
};

struct hfb_feed_lookup {
	struct hfb_ip ip;
	uint16_t udp_port, vlan;
	int32_t line; /* -1 = empty */
};

struct hfb_feeds {
	uint32_t count;
	uint32_t lookup_mask;
	struct hfb_feed_lookup *lookup;
	struct hfb_feed *feed;
	struct hfb_piece *pieces; /* all arbiters' */
	uint64_t boot_ns;	  /* what an earlier run stored is older */
	uint32_t mbufs_held, mbufs_max;
	bool blocked;
	struct hfb_feed_clock clock[HFB_PORTS_MAX];
	uint64_t turn_seen[HFB_PORTS_MAX][HFB_CORES_MAX]; /* of the core of each queue */
	struct hfb_igmp *igmp;
};

/* feed_stream.c -------------------------------------------------------------- */

/* Open @stream as (feed, session, restart): expect what the log knows, or what @first says. */
void hfb_feed_stream_open(struct hfb_feed_stream *stream, const uint8_t *session,
			  uint32_t session_size, uint32_t restart, uint64_t first);
/* Does the log know that stream? */
bool hfb_feed_stream_known(const struct hfb_feed *feed, const uint8_t *session,
			   uint32_t session_size, uint32_t restart, uint64_t *ret_next);
/* Everything held and pending goes to the log as far as it has room; then closed. */
void hfb_feed_stream_close(struct hfb_feed_stream *stream);
/* Retry what was refused; expire. Returns work done. */
uint32_t hfb_feed_stream_poll(struct hfb_feed_stream *stream, uint64_t time_ns);
extern const struct hfb_arbiter_ops hfb_feed_stream_ops;

/* igmp.c ----------------------------------------------------------------------- */

int hfb_igmp_create(struct hfb_core *core, struct hfb_err *err);
void hfb_igmp_destroy(struct hfb_core *core);
uint32_t hfb_igmp_poll(struct hfb_core *core);

#endif
