/* SPDX-License-Identifier: Apache-2.0 */
/*
 * window.h - what a producer has in flight to one partition: batches from the
 * first unacked one to the one being filled, and the rules of sending again.
 *
 *	r = hfb_window_add(&w, &event);		 into the open batch; -EAGAIN: full
 *	hfb_window_close(&w);			 the open batch may be sent
 *	while ((batch = hfb_window_next(&w, now_ns)) != NULL && send(batch) == 0)
 *		hfb_window_sent(&w, now_ns);
 *	hfb_window_ack(&w, &ack, now_ns, &result);
 *	hfb_window_tick(&w, now_ns);		 timer: go back when nothing moves
 *
 *	first			 send		    closed	    open
 *	  | unacked, sent ........ | unsent ......... | being filled |
 *
 * Go-back-N: after a refusal or silence sending goes on from the sequence the
 * broker has `received`. A refusal for the same sequence moves it back once a
 * round, else every frame still in flight would cause a round of its own.
 *
 * Credit says what the broker's ring takes, not what sockets and ports on the way do.
 * Over a lossy way what is in flight therefore starts small, doubles, and is halved by
 * a loss (as TCP does it, RFC 5681): else one burst of a window loses most of itself,
 * again and again.
 *
 * Threads: one.
 * Memory:  one allocation at init; records lie in a byte ring, each batch whole.
 * Cost:    add copies the event; the crc is taken when a batch closes.
 */
#ifndef HFB_WINDOW_H
#define HFB_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#include <hfbus/event.h>
#include <hfbus/wire.h>

#define HFB_WINDOW_CREDIT_FIRST 65536u /* bytes, until the broker tells */

struct hfb_window_batch {
	uint64_t base_sequence;
	uint64_t base_offset; /* told by an ack, or HFB_OFFSET_UNKNOWN */
	uint64_t end;	      /* of its bytes, in the byte ring's count */
	const uint8_t *records;
	uint32_t bytes; /* of records */
	uint32_t count;
	uint32_t payload_crc;
	bool sent_before;
};

struct hfb_window_config {
	uint32_t window_bytes;	  /* power of two */
	uint32_t batch_bytes;	  /* records of a batch at most, unless one event needs more */
	uint32_t event_bytes_max; /* records of one event at most, <= window_bytes / 2 */
	uint32_t stage;		  /* enum hfb_stage that frees */
	uint64_t first_sequence;
	uint64_t resend_ns; /* silence before going back; doubles up to 32 times */
	bool lossy;	    /* frames may be lost on the way: find out how many fit there */
};

struct hfb_window {
	struct hfb_window_config config;
	uint8_t *bytes;
	struct hfb_window_batch *batches; /* power of two many */
	uint32_t batches_mask;
	/* counts of batches, never wrapping */
	uint64_t first, send, closed;
	uint64_t reached;	/* first..send: of those before it the broker has all */
	uint64_t head, tail;	/* byte ring: counts */
	uint64_t lap_end;	/* of tail: from here on the lap may be a short one */
	uint64_t lapped;	/* the last short lap ended here, and ... */
	uint64_t lap_skip;	/* ... so many bytes were passed over */
	bool open;		/* batches[closed] is being filled */
	bool probing;		/* one batch at a time until an ack comes */
	uint64_t next_sequence; /* of the next event */
	uint64_t acked;		/* sequence below which all is acked at the stage */
	uint64_t received;	/* the broker has everything below */
	uint64_t credit_bytes;
	uint64_t path_bytes;	/* lossy: what the way is thought to hold */
	uint64_t path_steady;	/* lossy: doubled up to here, then in steps of a batch */
	uint64_t flight_bytes;	/* of [reached, send), as batches */
	uint64_t hold_until_ns; /* refused: do not send before */
	uint64_t hold_ns;
	uint64_t moved_ns;	   /* last progress, or when something was first in flight */
	uint64_t silence_ns;	   /* now's patience */
	uint64_t refused_at;	   /* sequence went back to already; all ones = none */
	uint64_t unknown_since_ns; /* the broker said it does not know us; 0 = no */
	uint64_t frames, resent;
	uint32_t leader_epoch; /* newest seen in acks */
};

enum hfb_window_verdict {
	HFB_WINDOW_OK = 0,
	HFB_WINDOW_STALE,     /* an old ack: ignored */
	HFB_WINDOW_WENT_BACK, /* will send again */
	HFB_WINDOW_REFUSED,   /* result.code says why; tried again later */
	HFB_WINDOW_FINAL,     /* result.code: no use to try again */
	HFB_WINDOW_LOST,      /* broker lost acked events, or forgot us: renumber */
};
struct hfb_window_result {
	enum hfb_window_verdict verdict;
	uint32_t code; /* enum hfb_wire_code */
	uint32_t acked_events;
	uint64_t acked_sequence; /* of the first of them */
	uint64_t base_offset;	 /* of the first of them or all ones */
};

/* 0, -EINVAL (a config field out of range) or -ENOMEM. */
int hfb_window_init(struct hfb_window *w, const struct hfb_window_config *config);
void hfb_window_fini(struct hfb_window *w); /* accepts a zeroed one */

/* 0, -EAGAIN no room until acks come, -EMSGSIZE larger than event_bytes_max. */
int hfb_window_add(struct hfb_window *w, const struct hfb_event *event);
void hfb_window_close(struct hfb_window *w);

/* The batch to send now, or NULL: none, no credit, or held back after a refusal. */
const struct hfb_window_batch *hfb_window_next(const struct hfb_window *w, uint64_t now_ns);
void hfb_window_sent(struct hfb_window *w, uint64_t now_ns);

void hfb_window_ack(struct hfb_window *w, const struct hfb_wire_ack *ack, uint64_t now_ns,
		    struct hfb_window_result *ret);

/* True when it went back after silence. */
bool hfb_window_tick(struct hfb_window *w, uint64_t now_ns);

/* Another session or run of the broker: all unacked will be sent again. */
void hfb_window_restart(struct hfb_window *w, uint64_t now_ns);

/* Number the unacked events from 0 (of a new producer id). Returns how many
 * events had been acked, but not at a stage that survives. */
void hfb_window_renumber(struct hfb_window *w, uint64_t now_ns);

/* Is the open batch so full that not even an empty event goes into it? */
bool hfb_window_full(const struct hfb_window *w);

/* Would @event still go into the open batch? True when none is open. */
bool hfb_window_fits(const struct hfb_window *w, const struct hfb_event *event);

static inline bool
hfb_window_empty(const struct hfb_window *w)
{
	return w->first == w->closed && !w->open;
}

#endif
