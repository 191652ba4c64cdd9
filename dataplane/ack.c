/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ack.c - bindings and ACK frames.
 *
 * A binding joins (session, producer, partition). Its fifo says at which position of
 * the log which sequence ends, so that when the disk has passed a position the
 * producer learns which of its events are durable. When it is full every second entry
 * is dropped: what remains is later than the truth by at most a sixteenth of what is
 * in flight, and never earlier.
 *
 *	append -> fifo, partition->acks_head -> log advanced -> session->pending
 *	       -> one ACK frame a session and turn, entries as many as there are
 */
#include "bug.h"
#include "clock.h"
#include "session.h"

#define ENTRIES_MAX                                                                                \
	((HFB_UDP_PAYLOAD_MAX - sizeof(struct hfb_frame_ack)) / sizeof(struct hfb_wire_ack))
/* A binding nobody used for so long may go when the table is full. */
#define BINDING_IDLE_NS 5000000000ull
#define RECLAIM_STEPS	64u

/* ---- table ------------------------------------------------------------------ */

static uint32_t
binding_slot(const struct hfb_sessions *s, const struct hfb_session *session, uint64_t producer_id,
	     const struct hfb_partition *partition)
{
	/* ids are random; multiplied so that a client cannot aim at one chain by its low bits */
	uint64_t h = (producer_id ^ session->number) * 0x9e3779b97f4a7c15ull;

	h ^= (uint64_t)partition->handle * 0xc2b2ae3d27d4eb4full;
	return (uint32_t)(h >> 32) & s->binding_mask;
}

struct hfb_binding *
hfb_binding_find(struct hfb_core *core, struct hfb_session *session, uint64_t producer_id,
		 struct hfb_partition *partition)
{
	struct hfb_sessions *s = core->sessions;
	struct hfb_binding *b;

	for (b = s->binding_hash[binding_slot(s, session, producer_id, partition)]; b != NULL;
	     b = b->hash_next)
		if (b->producer_id == producer_id && b->session == session &&
		    b->partition == partition)
			return b;
	return NULL;
}

/* Waits: the disk's progress on its partition matters to it. */
static void
binding_wait(struct hfb_binding *b)
{
	struct hfb_partition *partition = b->partition;
	struct hfb_binding *head = partition->acks_head;

	if (b->waiting)
		return;
	b->waiting = true;
	b->waiting_prev = NULL;
	b->waiting_next = head;
	if (head != NULL)
		head->waiting_prev = b;
	partition->acks_head = b;
	partition->producers_count++;
}

static void
binding_unwait(struct hfb_binding *b)
{
	if (!b->waiting)
		return;
	if (b->waiting_prev != NULL)
		b->waiting_prev->waiting_next = b->waiting_next;
	else
		b->partition->acks_head = b->waiting_next;
	if (b->waiting_next != NULL)
		b->waiting_next->waiting_prev = b->waiting_prev;
	b->waiting = false;
	b->partition->producers_count--;
}

void
hfb_binding_free(struct hfb_core *core, struct hfb_binding *b)
{
	struct hfb_sessions *s = core->sessions;
	struct hfb_binding **link;

	binding_unwait(b);
	link = &s->binding_hash[binding_slot(s, b->session, b->producer_id, b->partition)];
	while (*link != b)
		link = &(*link)->hash_next;
	*link = b->hash_next;
	if (b->pending) {
		/* the session may stay on the core's list with nothing to say */
		link = &b->session->pending;
		while (*link != b)
			link = &(*link)->pending_next;
		*link = b->pending_next;
	}
	if (b->session_prev != NULL)
		b->session_prev->session_next = b->session_next;
	else
		b->session->bindings = b->session_next;
	if (b->session_next != NULL)
		b->session_next->session_prev = b->session_prev;
	if (b->session->last == b)
		b->session->last = NULL;
	b->session->bindings_count--;
	b->session = NULL;
	b->next_free = s->bindings_free;
	s->bindings_free = (uint32_t)(b - s->binding);
}

/* Look at a few for one that nobody needs. */
static void
bindings_reclaim(struct hfb_core *core)
{
	struct hfb_sessions *s = core->sessions;

	for (uint32_t n = 0; n < RECLAIM_STEPS && n < s->bindings_max; n++) {
		struct hfb_binding *b = &s->binding[s->binding_hand];

		s->binding_hand = s->binding_hand + 1 < s->bindings_max ? s->binding_hand + 1 : 0;
		if (b->session != NULL && !b->pending && b->fifo_count == 0 &&
		    core->now_ns > b->used_ns + BINDING_IDLE_NS) {
			hfb_binding_free(core, b);
			return;
		}
	}
}

struct hfb_binding *
hfb_binding_make(struct hfb_core *core, struct hfb_session *session, uint64_t producer_id,
		 struct hfb_partition *partition)
{
	struct hfb_sessions *s = core->sessions;
	struct hfb_binding *b, **slot;

	if (session->kind != HFB_SESSION_LOCAL && session->bindings_count >= s->bindings_each_max)
		return NULL;
	if (s->bindings_free == HFB_NONE)
		bindings_reclaim(core);
	if (s->bindings_free == HFB_NONE)
		return NULL;
	b = &s->binding[s->bindings_free];
	s->bindings_free = b->next_free;
	memset(b, 0, sizeof(*b));
	b->producer_id = producer_id;
	b->partition = partition;
	b->session = session;
	b->used_ns = core->now_ns;
	b->turn = core->turn - 1;
	slot = &s->binding_hash[binding_slot(s, session, producer_id, partition)];
	b->hash_next = *slot;
	*slot = b;
	b->session_next = session->bindings;
	if (b->session_next != NULL)
		b->session_next->session_prev = b;
	session->bindings = b;
	session->bindings_count++;
	return b;
}

/* ---- what happened to a producer ----------------------------------------------- */

void
hfb_binding_pend(struct hfb_core *core, struct hfb_binding *b)
{
	struct hfb_session *session = b->session;

	if (b->pending)
		return;
	b->pending = true;
	b->pending_next = session->pending;
	session->pending = b;
	if (!session->pending_listed) {
		session->pending_listed = true;
		session->pending_next = core->sessions->pending;
		core->sessions->pending = session;
	}
}

/* Keep the later of each pair: still true, only coarser. */
static void
fifo_halve(struct hfb_binding *b)
{
	for (uint32_t i = 0; i < HFB_BINDING_FIFO / 2; i++) {
		uint32_t from = (b->fifo_head + 2 * i + 1) % HFB_BINDING_FIFO;
		uint32_t before = (b->fifo_head + 2 * i) % HFB_BINDING_FIFO;
		uint32_t to = (b->fifo_head + i) % HFB_BINDING_FIFO;

		/* entries move towards the head, so none is overwritten before it moved */
		b->fifo[to] = b->fifo[from];
		b->fifo_times[to].events =
			b->fifo_times[before].events + b->fifo_times[from].events;
		b->fifo_times[to].ticks = b->fifo_times[before].ticks;
	}
	b->fifo_count = HFB_BINDING_FIFO / 2;
	/* What comes is joined alike: entries of one turn would leave half of all that is
	 * in flight in the oldest entry. */
	b->fifo_stride = (uint16_t)(2 * b->fifo_stride + 1);
}

/* Where the next entry of the fifo goes. */
static uint32_t
fifo_next(struct hfb_core *core, struct hfb_binding *b)
{
	uint32_t newest = (b->fifo_head + b->fifo_count - 1u) % HFB_BINDING_FIFO;

	if (b->fifo_count != 0) {
		/* what one turn appends becomes durable together, or nearly */
		if (b->turn == core->turn)
			return newest;
		if (b->fifo_turns < b->fifo_stride) {
			b->turn = core->turn;
			b->fifo_turns++;
			return newest;
		}
	}
	if (b->fifo_count < HFB_BINDING_FIFO / 4)
		b->fifo_stride /= 2;
	if (b->fifo_count == HFB_BINDING_FIFO)
		fifo_halve(b);
	newest = (b->fifo_head + b->fifo_count++) % HFB_BINDING_FIFO;
	b->turn = core->turn;
	b->fifo_turns = 0;
	b->fifo_times[newest].ticks = hfb_stage_ticks(core->times.turn_tsc);
	b->fifo_times[newest].events = 0;
	return newest;
}

static void
fifo_push(struct hfb_core *core, struct hfb_binding *b, uint64_t position, uint64_t sequence,
	  uint32_t events)
{
	uint32_t at = fifo_next(core, b);

	b->fifo_times[at].events += events;
	b->fifo[at].position = position;
	b->fifo[at].sequence = sequence;
	binding_wait(b);
}

void
hfb_binding_appended(struct hfb_core *core, struct hfb_binding *b, uint64_t position,
		     uint64_t sequence, uint32_t events)
{
	b->sequence[0] = sequence;
	b->code = HFB_WIRE_OK;
	if (b->ack_stage == HFB_STAGE_RECEIVED)
		core->acked.received_events += events;
	fifo_push(core, b, position, sequence, events);
}

void
hfb_binding_epoch(struct hfb_binding *b, uint16_t producer_epoch)
{
	/* its sequences begin anew: what the old ones reached says nothing about them */
	b->producer_epoch = producer_epoch;
	b->sequence[0] = 0;
	b->sequence[1] = 0;
	b->fifo_count = 0;
	b->resync = false;
	b->code = HFB_WIRE_OK;
}

void
hfb_binding_duplicate(struct hfb_core *core, struct hfb_binding *b, uint64_t expected)
{
	/*
	 * Appended by an earlier session or before a restart: nothing here knows where
	 * those batches end. At the end of the turn all that is appended is below
	 * `received`, and when the disk has passed that, they are durable.
	 */
	if (b->sequence[0] != expected) {
		b->sequence[0] = expected;
		b->resync = true;
	}
	hfb_binding_pend(core, b);
}

void
hfb_binding_refuse(struct hfb_core *core, struct hfb_binding *b, uint16_t code, uint64_t expected)
{
	b->used_ns = core->now_ns;
	if (expected != UINT64_MAX && b->sequence[0] != expected) {
		b->sequence[0] = expected;
		b->resync = true;
	}
	/* after a loss a whole window of frames is refused: one answer is enough for a while */
	if (b->refused_code == code && b->refused_sequence == expected &&
	    core->now_ns < b->refused_ns + HFB_REFUSAL_REPEAT_NS)
		return;
	/* the first refusal of a turn is the cause of those after it */
	if (b->code == HFB_WIRE_OK) {
		b->code = code;
		b->refused_code = code;
		b->refused_sequence = expected;
		b->refused_ns = core->now_ns;
	}
	hfb_binding_pend(core, b);
}

/* The free ring, shared by those who have something under way. */
uint32_t
hfb_ack_credit(const struct hfb_partition *partition)
{
	uint64_t room = hfb_log_room(partition->log);

	if (partition->producers_count > 1)
		room /= partition->producers_count;
	return room > 0x7fffffffu ? 0x7fffffffu : (uint32_t)room;
}

/* Events that came at @ticks are acked durable this turn. */
static void
acked_note(struct hfb_core *core, uint32_t ticks, uint32_t events)
{
	struct hfb_ack_times *a = &core->acked;

	if (events == 0)
		return;
	/* bindings of one turn follow each other: the disk took them together */
	if (a->count > 0 && a->durable[a->count - 1].ticks == ticks) {
		a->durable[a->count - 1].events += events;
		return;
	}
	if (a->count == HFB_ACK_TIMES)
		hfb_ack_times_record(core, hfb_clock_tsc());
	a->durable[a->count].ticks = ticks;
	a->durable[a->count].events = events;
	a->count++;
}

void
hfb_ack_times_record(struct hfb_core *core, uint64_t now_tsc)
{
	struct hfb_ack_times *a = &core->acked;

	if (a->received_events != 0)
		hfb_stage_time_record(&core->times, HFB_STAGE_TIME_ACKED,
				      now_tsc - core->times.turn_tsc, a->received_events);
	for (uint32_t i = 0; i < a->count; i++)
		hfb_stage_time_record(&core->times, HFB_STAGE_TIME_ACKED,
				      hfb_stage_ticks_since(a->durable[i].ticks, now_tsc),
				      a->durable[i].events);
	a->received_events = 0;
	a->count = 0;
}

static void
binding_advanced(struct hfb_core *core, struct hfb_binding *b, uint64_t durable)
{
	bool moved = false;

	while (b->fifo_count != 0 && b->fifo[b->fifo_head].position <= durable) {
		b->sequence[1] = b->fifo[b->fifo_head].sequence;
		if (b->ack_stage == HFB_STAGE_DURABLE)
			acked_note(core, b->fifo_times[b->fifo_head].ticks,
				   b->fifo_times[b->fifo_head].events);
		b->fifo_head = (b->fifo_head + 1u) % HFB_BINDING_FIFO;
		b->fifo_count--;
		moved = true;
	}
	if (moved && b->ack_stage == HFB_STAGE_DURABLE)
		hfb_binding_pend(core, b);
	if (b->starved) {
		uint32_t batch = hfb_log_batch_bytes_max(b->partition->log);
		uint32_t credit = hfb_ack_credit(b->partition);

		if (credit >= batch || credit >= b->credit_bytes + batch / 4)
			hfb_binding_pend(core, b);
	}
	if (b->fifo_count == 0 && !b->starved)
		binding_unwait(b);
}

void
hfb_ack_advanced(struct hfb_core *core, struct hfb_partition *partition)
{
	uint64_t durable = hfb_log_position(partition->log, HFB_STAGE_DURABLE);
	struct hfb_binding *b = partition->acks_head, *next;

	for (; b != NULL; b = next) {
		next = b->waiting_next;
		binding_advanced(core, b, durable);
	}
}

/* ---- frames ----------------------------------------------------------------------- */

static struct hfb_frame_out *
ack_begin(struct hfb_core *core, struct hfb_session *session, uint32_t entries,
	  struct hfb_frame_out *out)
{
	struct hfb_frame_ack ack = { .count = (uint16_t)entries };

	if (hfb_session_frame_begin(core, session, HFB_FRAME_ACK,
				    (uint32_t)(sizeof(ack) + entries * sizeof(struct hfb_wire_ack)),
				    out) == NULL)
		return NULL;
	memcpy(out->bytes + HFB_FRAME_BYTES, &ack.count, sizeof(ack) - HFB_FRAME_BYTES);
	return out;
}

static void
ack_send(struct hfb_core *core, struct hfb_session *session, uint32_t entries,
	 const struct hfb_frame_out *out)
{
	hfb_session_frame_send(
		core, session, out,
		(uint32_t)(sizeof(struct hfb_frame_ack) + entries * sizeof(struct hfb_wire_ack)));
	core->stats[HFB_STAT_ACK_FRAMES]++;
	HFB_PROBE3(ack, core->id, session->number, entries);
}

/* Returns frames sent; what did not go stays. */
static uint32_t
loose_flush(struct hfb_core *core)
{
	struct hfb_sessions *s = core->sessions;
	uint32_t sent = 0, kept = 0;

	for (uint32_t i = 0; i < s->loose_count; i++) {
		struct hfb_session *session = s->loose[i].session;
		struct hfb_frame_out out;
		uint32_t n = 0;

		if (session == NULL)
			continue;
		for (uint32_t j = i; j < s->loose_count && n < ENTRIES_MAX; j++)
			n += s->loose[j].session == session;
		if (ack_begin(core, session, n, &out) == NULL) {
			s->loose[kept++] = s->loose[i];
			continue;
		}
		for (uint32_t j = i, to = 0; to < n; j++) {
			if (s->loose[j].session != session)
				continue;
			memcpy(out.bytes + sizeof(struct hfb_frame_ack) +
				       to * sizeof(struct hfb_wire_ack),
			       &s->loose[j].ack, sizeof(struct hfb_wire_ack));
			s->loose[j].session = NULL;
			to++;
		}
		ack_send(core, session, n, &out);
		sent++;
	}
	s->loose_count = kept;
	return sent;
}

void
hfb_ack_loose(struct hfb_core *core, struct hfb_session *session, const struct hfb_wire_ack *ack)
{
	struct hfb_sessions *s = core->sessions;

	/* a producer that is refused sends a window of frames: one answer a turn */
	for (uint32_t i = s->loose_count; ack->code != HFB_WIRE_OK && i != 0; i--) {
		const struct hfb_loose_ack *other = &s->loose[i - 1];

		if (other->session == session && other->ack.code == ack->code &&
		    other->ack.producer_id == ack->producer_id &&
		    other->ack.partition == ack->partition)
			return;
	}
	/* Not the bindings': a frame each would be many. Base offsets are of what this turn
	 * appended: nobody is told of it before it is published. */
	if (s->loose_count == HFB_LOOSE_ACKS_MAX) {
		hfb_writer_publish(core->writer);
		loose_flush(core);
	}
	if (s->loose_count == HFB_LOOSE_ACKS_MAX) {
		/*
		 * What is left could not be sent; the oldest is lost like a frame on the
		 * wire. The newest may be of a session that takes its answers.
		 */
		memmove(&s->loose[0], &s->loose[1], (HFB_LOOSE_ACKS_MAX - 1) * sizeof(s->loose[0]));
		s->loose_count--;
	}
	s->loose[s->loose_count].session = session;
	s->loose[s->loose_count].ack = *ack;
	s->loose_count++;
}

static void
binding_entry(struct hfb_core *core, struct hfb_binding *b, struct hfb_wire_ack *ack)
{
	const struct hfb_log *log = b->partition->log;

	if (b->resync) {
		uint64_t received = hfb_log_position(log, HFB_STAGE_RECEIVED);

		b->resync = false;
		if (hfb_log_position(log, HFB_STAGE_DURABLE) >= received) {
			b->fifo_count = 0;
			b->sequence[1] = b->sequence[0];
		} else {
			fifo_push(core, b, received, b->sequence[0], 0);
		}
	}
	memset(ack, 0, sizeof(*ack));
	ack->partition = b->partition->handle;
	ack->code = b->code;
	ack->producer_epoch = b->producer_epoch;
	ack->leader_epoch = hfb_log_epoch(log);
	ack->credit_bytes = hfb_ack_credit(b->partition);
	ack->producer_id = b->producer_id;
	ack->sequence[HFB_STAGE_RECEIVED] = b->sequence[0];
	ack->sequence[HFB_STAGE_DURABLE] = b->sequence[1];
	ack->base_offset = HFB_OFFSET_UNKNOWN;
}

/* Sent: forget the refusal, remember the credit. */
static void
binding_told(struct hfb_binding *b, uint32_t credit_bytes)
{
	b->code = HFB_WIRE_OK;
	b->pending = false;
	b->credit_bytes = credit_bytes;
	b->starved = credit_bytes < hfb_log_batch_bytes_max(b->partition->log);
	if (b->starved)
		binding_wait(b);
	else if (b->fifo_count == 0)
		binding_unwait(b);
}

/* All that one session's bindings have to say. False: no buffer, it stays pending. */
static bool
session_flush(struct hfb_core *core, struct hfb_session *session, uint32_t *sent)
{
	while (session->pending != NULL) {
		struct hfb_frame_out out;
		struct hfb_binding *b;
		uint32_t n = 0;

		for (b = session->pending; b != NULL && n < ENTRIES_MAX; b = b->pending_next)
			n++;
		if (ack_begin(core, session, n, &out) == NULL)
			return false;
		for (uint32_t i = 0; i < n; i++) {
			struct hfb_wire_ack ack;

			b = session->pending;
			session->pending = b->pending_next;
			binding_entry(core, b, &ack);
			memcpy(out.bytes + sizeof(struct hfb_frame_ack) + i * sizeof(ack), &ack,
			       sizeof(ack));
			binding_told(b, ack.credit_bytes);
		}
		ack_send(core, session, n, &out);
		(*sent)++;
	}
	return true;
}

uint32_t
hfb_ack_flush(struct hfb_core *core)
{
	struct hfb_sessions *s = core->sessions;
	struct hfb_session *session = s->pending, *next;
	uint32_t sent = loose_flush(core);

	s->pending = NULL;
	for (; session != NULL; session = next) {
		next = session->pending_next;
		if (session_flush(core, session, &sent)) {
			session->pending_listed = false;
		} else {
			session->pending_next = s->pending;
			s->pending = session;
		}
	}
	return sent;
}

void
hfb_ack_partition_detach(struct hfb_core *core, struct hfb_partition *partition)
{
	struct hfb_sessions *s = core->sessions;

	/* rare, so a walk over the table; the producers learn it from their next frame */
	for (uint32_t i = 0; i < s->bindings_max; i++)
		if (s->binding[i].session != NULL && s->binding[i].partition == partition)
			hfb_binding_free(core, &s->binding[i]);
	hfb_assert(partition->acks_head == NULL);
	hfb_assert(partition->producers_count == 0);
}
