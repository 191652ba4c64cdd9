/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arbitrate.h - one stream out of several lines, message by message.
 *
 *	hfb_arbiter_start(&a, next);			known, or first seen
 *	hfb_arbiter_offer(&a, now_ns, line, first, count, datagram, &counts);
 *	hfb_arbiter_poll(&a, now_ns);			 time passes
 *
 * Lines carry the same messages in the same order, framed as each likes. What
 * continues the stream is delivered at once. What is ahead is held back until
 * the missing ones arrive on some line, or hold_events messages are held, or
 * hold_ns have passed since the first proof that they are missing; then the
 * missing range is reported as a gap, once, and what was held follows. Copies
 * of what went before are counted. Sequences leave in order, each exactly once:
 * delivered or in a gap.
 *
 *	      next		held[0]		     held[1]
 *	 ──────┤    missing	├─────────┤  missing ├────┤   edge (heartbeat)
 *
 * Threads: the caller's; no I/O, no clock, nothing global.
 * Memory:  the array lent to init; bounded by it.
 * Cost:    in order: one comparison and one call. Ahead: a search from the end.
 */
#ifndef HFB_ARBITRATE_H
#define HFB_ARBITRATE_H

#include <stdbool.h>
#include <stdint.h>

/* Part of a datagram that nobody else has brought. */
struct hfb_piece {
	uint64_t first; /* sequence */
	uint32_t count; /* messages; 0 = an edge: everything below `first` exists */
	uint16_t line;
	uint64_t origin;   /* sequence of the datagram's own first message */
	uint64_t since_ns; /* when it came */
	void *datagram;
};

struct hfb_arbiter_ops {
	/*
	 * Take messages from the front of @piece. Returns how many, 0..count;
	 * fewer is back-pressure: the rest is kept and offered again by poll.
	 * With @must all of them, dropped if there is no other way.
	 */
	uint32_t (*deliver)(void *arg, const struct hfb_piece *piece, bool must);
	/* Sequences that came on no line. Always taken. */
	void (*gap)(void *arg, uint64_t first, uint64_t count);
	/* One more, one less piece refers to @datagram. */
	void (*hold)(void *arg, void *datagram);
	void (*release)(void *arg, void *datagram);
};

/* What became of one offer; messages. */
struct hfb_arbiter_counts {
	uint64_t duplicates; /* had been delivered or are held */
	uint64_t late;	     /* had been reported as a gap */
	uint64_t held;	     /* held back now */
};

#define HFB_ARBITER_GAPS_KEPT 64u /* recent gaps, to tell late from duplicate */

struct hfb_arbiter {
	uint64_t next;	     /* sequence expected */
	uint32_t held_count; /* pieces */
	uint32_t held_events;
	uint64_t oldest_ns; /* smallest since_ns of those held */
	bool started;
	bool blocked; /* deliver was short: held[0] continues the stream */
	uint32_t events_max;
	uint32_t pieces_max;
	uint64_t hold_ns;
	const struct hfb_arbiter_ops *ops;
	void *arg;
	struct hfb_piece *held; /* by sequence, disjoint */
	uint64_t gaps_count;
	struct {
		uint64_t first, end;
	} gaps[HFB_ARBITER_GAPS_KEPT];
};

/*
 * Pieces that may stay held: one a message and an edge, and enough for the
 * bursts that are under way when the taker blocks.
 */
static inline uint32_t
hfb_arbiter_pieces_held(uint32_t events_max)
{
	return (events_max < 2048 ? 2048 : events_max) + 1;
}

/* Pieces to lend for @events_max: those, and what one offer may add. */
static inline uint32_t
hfb_arbiter_pieces(uint32_t events_max)
{
	return 2 * hfb_arbiter_pieces_held(events_max) + 1;
}

/* @held: hfb_arbiter_pieces(@events_max), lent until the last call. */
void hfb_arbiter_init(struct hfb_arbiter *a, uint32_t events_max, uint64_t hold_ns,
		      const struct hfb_arbiter_ops *ops, void *arg, struct hfb_piece *held);
/* Expect @next. */
void hfb_arbiter_start(struct hfb_arbiter *a, uint64_t next);
/* What a stream that nobody knows should expect when @first is the first seen: its
 * beginning when that is within the hold-back, else @first (a late joiner). */
uint64_t hfb_arbiter_fresh(uint64_t first, uint32_t events_max);

/*
 * A datagram came. @count 0: a heartbeat, @first = next expected by the sender.
 * @first + @count does not wrap. @now_ns does not go back. Started only.
 */
void hfb_arbiter_offer(struct hfb_arbiter *a, uint64_t now_ns, uint16_t line, uint64_t first,
		       uint32_t count, void *datagram, struct hfb_arbiter_counts *ret_counts);
/* Deliver what was refused before, give up on what took too long. Returns work done. */
uint32_t hfb_arbiter_poll(struct hfb_arbiter *a, uint64_t now_ns);
/* Give up waiting: gaps for all that is missing, everything held delivered or dropped. */
void hfb_arbiter_flush(struct hfb_arbiter *a);
/* Forget what is held, silently. */
void hfb_arbiter_reset(struct hfb_arbiter *a);

#endif
