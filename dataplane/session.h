/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session.h - what session.c, produce.c, ack.c, push.c and metadata.c share on one
 * poll core: the tables of sessions, bindings (a producer of a session on a
 * partition) and subscriptions, all carved at boot.
 *
 *	hfb_sessions_create(core, &err);		boot
 *	hfb_session_input(core, &packet);		a datagram for the bus's own port
 *	hfb_session_acks(core);			once a turn, after hfb_writer_publish()
 *	hfb_session_poll(core);			once a turn, after hfb_writer_poll()
 *
 *	struct hfb_sessions
 *	  session[sessions_max]	 by number, linear probing; idle ones swept
 *	  binding[producers_max] by (session, producer, partition), chained
 *	  subscription[subscriptions_max] by (session, partition), on the session's list
 *	  reader[HFB_READERS]	 aligned buffers for reads from segment files
 *
 * A session is ours (opened here), foreign (opened on another core whose client
 * produces to a partition of this one; the other core has checked it) or local (a
 * shared-memory channel).
 *
 * Threads: the core's own, but create and destroy.
 * Memory:  one block, carved by hfb_sessions_create(); nothing allocates later.
 */
#ifndef HFB_SESSION_H
#define HFB_SESSION_H

#include <string.h>

#include "core.h"
#include "node.h"

/* A session is forgotten after this silence; told in OPENED. */
#define HFB_SESSION_IDLE_MS 10000u
/* A cookie is good for the slot it was made in and the next one. */
#define HFB_COOKIE_SLOT_NS 4000000000ull
/* Positions a binding can tell apart while they wait for the disk. */
#define HFB_BINDING_FIFO 32u
/* The same refusal to the same producer is repeated at most this often. */
#define HFB_REFUSAL_REPEAT_NS 200000ull
/* Answers kept in a turn that no binding can hold. */
#define HFB_LOOSE_ACKS_MAX 64u
/* Reads from segment files in flight or being sent, and the bytes of each. */
#define HFB_READERS	 16u
#define HFB_READER_BYTES (64u * 1024u)
/* DATA frames a core sends in a turn, and of these for one subscription at a time. */
#define HFB_PUSH_FRAMES_TURN 48u
#define HFB_PUSH_FRAMES_RUN  8u
/* A local reader whose ring was full is tried again after. */
#define HFB_BLOCKED_NS 1000000ull
/* Heartbeats of a subscription at the tail: first after, then doubling up to. */
#define HFB_HEARTBEAT_FIRST_NS 10000000ull
#define HFB_HEARTBEAT_LAST_NS  640000000ull
/* Answers to frames of unknown sessions, so that a flood of them is not reflected. */
#define HFB_NO_SESSION_ANSWERS_MS 4u
/* One producer table for all: a session may take this part of it. */
#define HFB_BINDINGS_SHARE 4u

struct hfb_binding;
struct hfb_subscription;
struct hfb_reader;

enum hfb_session_kind {
	HFB_SESSION_FREE = 0,
	HFB_SESSION_OWN,
	HFB_SESSION_FOREIGN,
	HFB_SESSION_LOCAL,
};

struct hfb_session {
	uint64_t number;
	uint64_t packet; /* of the last frame sent */
	uint64_t heard_ns;
	struct hfb_binding *last;     /* used by the last PRODUCE */
	struct hfb_binding *bindings; /* all of this session's */
	struct hfb_binding *pending;  /* those that want an ACK entry */
	struct hfb_subscription *subscriptions;
	struct hfb_session *pending_next;
	void *local;  /* LOCAL: its channel */
	uint8_t kind; /* enum hfb_session_kind */
	bool pending_listed;
	uint16_t bindings_count;
	uint32_t next_free;
	uint64_t error_turn;  /* one ERROR a turn */
	struct hfb_peer peer; /* OWN, FOREIGN */
};

struct hfb_binding {
	uint64_t producer_id;
	struct hfb_partition *partition;
	struct hfb_session *session; /* NULL = free */
	uint64_t sequence[2];	     /* next one not yet received, durable */
	uint64_t used_ns;
	uint64_t turn;		   /* of the newest entry in the fifo */
	uint64_t refused_sequence; /* the last refusal sent and when */
	uint64_t refused_ns;
	uint16_t producer_epoch;
	uint16_t code; /* enum hfb_wire_code to send */
	uint16_t refused_code;
	uint8_t ack_stage; /* enum hfb_stage that triggers an ACK */
	bool pending;	   /* on session->pending */
	bool waiting;	   /* on partition->acks_head */
	bool starved;	   /* told of too little credit for a batch */
	bool resync;	   /* sequence[0] came from the log, not from an append here */
	uint8_t fifo_head, fifo_count;
	uint16_t fifo_stride;  /* turns to an entry of the fifo, less one */
	uint16_t fifo_turns;   /* in the newest one */
	uint32_t credit_bytes; /* as last told */
	uint32_t next_free;
	struct hfb_binding *pending_next;
	struct hfb_binding *waiting_next, *waiting_prev;
	struct hfb_binding *session_next, *session_prev;
	struct hfb_binding *hash_next;
	struct {
		uint64_t position; /* when the disk is past it ... */
		uint64_t sequence; /* ... all below this one is durable */
	} fifo[HFB_BINDING_FIFO];
	struct {
		uint32_t ticks;	 /* of the oldest turn that appended to this entry */
		uint32_t events; /* appended */
	} fifo_times[HFB_BINDING_FIFO];
};

/* An answer that no binding holds: a refusal before there is one, or a base offset. */
struct hfb_loose_ack {
	struct hfb_session *session; /* NULL = gone meanwhile */
	struct hfb_wire_ack ack;
};

struct hfb_subscription {
	struct hfb_session *session; /* NULL = free */
	struct hfb_partition *partition;
	uint64_t position; /* next byte to push */
	uint64_t limit;	   /* the window's end */
	uint64_t heard_ns;
	uint64_t heartbeat_at_ns, heartbeat_ns;
	struct hfb_reader *reader; /* while behind the ring */
	bool active;		   /* on the round */
	bool in_ring;		   /* the last frame came from there */
	bool blocked;		   /* its local ring was full: off the round until the sweep */
	uint32_t next_free;
	struct hfb_subscription *active_next, *active_prev;
	struct hfb_subscription *session_next;
	struct hfb_subscription *partition_next, *partition_prev;
};

struct hfb_reader {
	struct hfb_read read;
	struct hfb_subscription *subscription; /* NULL and read.busy: orphan */
	uint64_t position;		       /* asked */
};

struct hfb_sessions {
	uint32_t sessions_max, bindings_max, subscriptions_max;
	uint32_t session_mask, binding_mask;			   /* of the hashes */
	uint32_t sessions_free, bindings_free, subscriptions_free; /* heads, ~0 = none */
	uint32_t session_hand, binding_hand, subscription_hand;	   /* sweeps */
	uint32_t sessions_count, subscriptions_count;
	uint32_t bindings_each_max;
	uint32_t loose_count;
	uint32_t answers_left; /* to unknown sessions in this millisecond */
	uint64_t sweep_ns;
	uint8_t number_key[16];		 /* session numbers; apart from the cookies' key */
	struct hfb_session *pending;	 /* sessions with bindings pending */
	struct hfb_subscription *active; /* the round's next */
	uint32_t active_count;
	uint32_t *session_hash; /* index + 1, 0 = empty */
	struct hfb_binding **binding_hash;
	struct hfb_session *session;
	struct hfb_binding *binding;
	struct hfb_subscription *subscription;
	struct hfb_reader reader[HFB_READERS];
	struct hfb_loose_ack loose[HFB_LOOSE_ACKS_MAX];
	void *block; /* all of the above's arrays */
};

#define HFB_NONE 0xffffffffu

/* Loads of wire bytes: any alignment, each byte read once also when another process writes. */
typedef uint64_t __attribute__((aligned(1), may_alias)) hfb_u64_any;
static inline void
hfb_wire_load(void *to, const volatile uint8_t *from, uint32_t bytes)
{
	uint32_t i;

	for (i = 0; i + 8 <= bytes; i += 8) {
		uint64_t word = *(const volatile hfb_u64_any *)(from + i);

		memcpy((uint8_t *)to + i, &word, 8);
	}
	for (; i < bytes; i++)
		((uint8_t *)to)[i] = from[i];
}

/* session.c: a frame out. begin returns NULL when there is no buffer (or the local
 * ring is full): nothing was sent, try again on a later turn. */
struct hfb_frame_out {
	uint8_t *bytes;
	struct rte_mbuf *mbuf; /* NULL = local */
};
uint8_t *hfb_session_frame_begin(struct hfb_core *core, struct hfb_session *session, uint8_t type,
				 uint32_t bytes, struct hfb_frame_out *out);
void hfb_session_frame_send(struct hfb_core *core, struct hfb_session *session,
			    const struct hfb_frame_out *out, uint32_t bytes);
/* ERROR, at most one a session and turn. */
void hfb_session_error(struct hfb_core *core, struct hfb_session *session, uint64_t answers,
		       enum hfb_wire_code code);
/* The most bytes of one frame to this session. */
static inline uint32_t
hfb_session_payload_max(const struct hfb_session *session)
{
	return HFB_UDP_PAYLOAD_MAX;
}

/* produce.c: @packet is NULL for a local frame. */
void hfb_produce_frame(struct hfb_core *core, struct hfb_session *session,
		       const volatile uint8_t *frame, uint32_t bytes,
		       const struct hfb_packet *packet);

/* ack.c */
struct hfb_binding *hfb_binding_find(struct hfb_core *core, struct hfb_session *session,
				     uint64_t producer_id, struct hfb_partition *partition);
/* NULL: the table is full and nobody idle. */
struct hfb_binding *hfb_binding_make(struct hfb_core *core, struct hfb_session *session,
				     uint64_t producer_id, struct hfb_partition *partition);
void hfb_binding_free(struct hfb_core *core, struct hfb_binding *binding);
/* An append of @events ended at @position and takes the producer to @sequence. */
void hfb_binding_appended(struct hfb_core *core, struct hfb_binding *binding, uint64_t position,
			  uint64_t sequence, uint32_t events);
/* The producer came back with another epoch. */
void hfb_binding_epoch(struct hfb_binding *binding, uint16_t producer_epoch);
/* The log has all below @expected already; say which of it is durable. */
void hfb_binding_duplicate(struct hfb_core *core, struct hfb_binding *binding, uint64_t expected);
/* Nothing was appended; tell the producer @code and what is expected (UINT64_MAX: not known). */
void hfb_binding_refuse(struct hfb_core *core, struct hfb_binding *binding, uint16_t code,
			uint64_t expected);
/* It wants an ACK entry this turn. */
void hfb_binding_pend(struct hfb_core *core, struct hfb_binding *binding);
/* An entry that no binding holds. */
void hfb_ack_loose(struct hfb_core *core, struct hfb_session *session,
		   const struct hfb_wire_ack *ack);
uint32_t hfb_ack_credit(const struct hfb_partition *partition);
/* A partition's log advanced. */
void hfb_ack_advanced(struct hfb_core *core, struct hfb_partition *partition);
/* Send what is pending. Returns frames sent. */
uint32_t hfb_ack_flush(struct hfb_core *core);
void hfb_ack_partition_detach(struct hfb_core *core, struct hfb_partition *partition);

/* push.c */
void hfb_push_subscribe(struct hfb_core *core, struct hfb_session *session,
			const volatile uint8_t *frame, uint32_t bytes,
			const struct hfb_packet *packet);
void hfb_push_advanced(struct hfb_core *core, struct hfb_partition *partition);
uint32_t hfb_push_poll(struct hfb_core *core); /* DATA out; returns frames sent */
void hfb_push_sweep(struct hfb_core *core);    /* heartbeats, idle ones; every ms */
void hfb_push_unsubscribe(struct hfb_core *core, struct hfb_subscription *subscription);
void hfb_push_partition_detach(struct hfb_core *core, struct hfb_partition *partition);

/* metadata.c */
void hfb_metadata_get(struct hfb_core *core, struct hfb_session *session,
		      const volatile uint8_t *frame, uint32_t bytes);

#endif
