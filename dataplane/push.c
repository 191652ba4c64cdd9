/* SPDX-License-Identifier: Apache-2.0 */
/*
 * push.c - subscriptions: bytes of the log pushed to readers, within their window.
 *
 *	SUBSCRIBE(seek) -> place resolved -> READ_STATE -> DATA ... DATA -> tail, heartbeats
 *	SUBSCRIBE(window) -> more DATA
 *
 * Bytes come from the ring while the reader is there, else from the segment files
 * through a few aligned buffers that all subscriptions of the core share. The round
 * gives each a bounded run, and nobody waits for anybody: a reader whose window is
 * used up, or whose read is under way, is passed by, and holds no buffer meanwhile.
 */
#include <errno.h>

#include "bug.h"
#include "clock.h"
#include "session.h"

_Static_assert(sizeof(struct hfb_frame_data) == 48, "fixed by the protocol");

#define DATA_BYTES_MAX	    ((HFB_UDP_PAYLOAD_MAX - sizeof(struct hfb_frame_data)) & ~7ull)
#define WINDOW_BYTES_MAX    (256u * HFB_MIB)
#define SWEEP_SUBSCRIPTIONS 256u
#define VISITS_MAX	    64u

/* ---- the round -------------------------------------------------------------- */

static void
active_add(struct hfb_sessions *s, struct hfb_subscription *sub)
{
	if (sub->active || sub->blocked)
		return;
	sub->active = true;
	s->active_count++;
	if (s->active == NULL) {
		sub->active_next = sub;
		sub->active_prev = sub;
		s->active = sub;
		return;
	}
	/* behind all others */
	sub->active_next = s->active;
	sub->active_prev = s->active->active_prev;
	sub->active_prev->active_next = sub;
	sub->active_next->active_prev = sub;
}

static void
active_remove(struct hfb_sessions *s, struct hfb_subscription *sub)
{
	if (!sub->active)
		return;
	sub->active = false;
	s->active_count--;
	if (s->active == sub)
		s->active = sub->active_next != sub ? sub->active_next : NULL;
	sub->active_prev->active_next = sub->active_next;
	sub->active_next->active_prev = sub->active_prev;
}

/* ---- readers ------------------------------------------------------------------ */

/* A read under way cannot be called back: its buffer stays out of use until it is done. */
static struct hfb_reader *
reader_take(struct hfb_sessions *s)
{
	for (uint32_t i = 0; i < HFB_READERS; i++) {
		struct hfb_reader *reader = &s->reader[i];

		if (reader->subscription == NULL && !reader->read.busy)
			return reader;
	}
	return NULL;
}

static void
reader_give(struct hfb_subscription *sub)
{
	if (sub->reader != NULL)
		sub->reader->subscription = NULL;
	sub->reader = NULL;
}

/* ---- table --------------------------------------------------------------------- */

/*
 * It is on two lists: a session may read a thousand partitions, and a partition have a thousand
 * readers, but hardly both. So both are walked, and the shorter one says how far.
 */
static struct hfb_subscription *
subscription_find(const struct hfb_session *session, const struct hfb_partition *partition)
{
	struct hfb_subscription *of_session = session->subscriptions;
	struct hfb_subscription *of_partition = partition->subs_head;

	while (of_session != NULL && of_partition != NULL) {
		if (of_session->partition == partition)
			return of_session;
		if (of_partition->session == session)
			return of_partition;
		of_session = of_session->session_next;
		of_partition = of_partition->partition_next;
	}
	return NULL;
}

static void
commit_mark(struct hfb_partition *partition, uint32_t words, uint64_t tsc)
{
	uint32_t at = partition->commits_at++ & (HFB_COMMIT_MARKS - 1);

	partition->commits[at].words = words;
	partition->commits[at].offset = (uint32_t)partition->positions->committed.offset;
	partition->commits[at].ticks = hfb_stage_ticks(tsc);
}

static struct hfb_subscription *
subscription_make(struct hfb_core *core, struct hfb_session *session,
		  struct hfb_partition *partition)
{
	struct hfb_sessions *s = core->sessions;
	struct hfb_subscription *sub, *head = partition->subs_head;

	if (s->subscriptions_free == HFB_NONE)
		return NULL;
	sub = &s->subscription[s->subscriptions_free];
	s->subscriptions_free = sub->next_free;
	memset(sub, 0, sizeof(*sub));
	sub->session = session;
	sub->partition = partition;
	sub->session_next = session->subscriptions;
	session->subscriptions = sub;
	sub->partition_next = head;
	if (head != NULL) {
		head->partition_prev = sub;
	} else {
		/* nobody kept the marks: what is committed already counts from here */
		partition->commits_at = 0;
		commit_mark(partition, (uint32_t)(hfb_log_committed(partition->log) / 8),
			    core->times.turn_tsc);
	}
	partition->subs_head = sub;
	s->subscriptions_count++;
	core->stats[HFB_STAT_SUBSCRIPTIONS] = s->subscriptions_count;
	return sub;
}

void
hfb_push_unsubscribe(struct hfb_core *core, struct hfb_subscription *sub)
{
	struct hfb_sessions *s = core->sessions;
	struct hfb_subscription **link = &sub->session->subscriptions;

	active_remove(s, sub);
	reader_give(sub);
	while (*link != sub) {
		hfb_assert(*link != NULL);
		link = &(*link)->session_next;
	}
	*link = sub->session_next;
	if (sub->partition_prev != NULL)
		sub->partition_prev->partition_next = sub->partition_next;
	else
		sub->partition->subs_head = sub->partition_next;
	if (sub->partition_next != NULL)
		sub->partition_next->partition_prev = sub->partition_prev;
	sub->session = NULL;
	sub->next_free = s->subscriptions_free;
	s->subscriptions_free = (uint32_t)(sub - s->subscription);
	s->subscriptions_count--;
	core->stats[HFB_STAT_SUBSCRIPTIONS] = s->subscriptions_count;
}

/* ---- answers -------------------------------------------------------------------- */

/* False: no buffer. */
static bool
state_send(struct hfb_core *core, struct hfb_session *session, struct hfb_frame_read_state *state)
{
	struct hfb_frame_out out;

	if (hfb_session_frame_begin(core, session, HFB_FRAME_READ_STATE, sizeof(*state), &out) ==
	    NULL)
		return false;
	memcpy(out.bytes + HFB_FRAME_BYTES, &state->answers, sizeof(*state) - HFB_FRAME_BYTES);
	hfb_session_frame_send(core, session, &out, sizeof(*state));
	return true;
}

/* State of a subscription nobody asked for: heartbeat, lapped, at the end of its life. */
static bool
state_tell(struct hfb_core *core, struct hfb_subscription *sub, enum hfb_wire_code code,
	   uint64_t position)
{
	const struct hfb_log *log = sub->partition->log;
	struct hfb_frame_read_state state = {
		.partition = sub->partition->handle,
		.code = code,
		.leader_epoch = hfb_log_epoch(log),
		.position = position,
		.offset = HFB_OFFSET_UNKNOWN,
		.committed = hfb_log_committed(log),
	};

	return state_send(core, sub->session, &state);
}

/* ---- subscribing ------------------------------------------------------------------ */

/* Where reading starts; fills @state. */
static void
place_resolve(const struct hfb_partition *partition, const struct hfb_frame_subscribe *ask,
	      struct hfb_frame_read_state *state)
{
	struct hfb_log *log = partition->log;
	struct hfb_place place = { .offset = HFB_OFFSET_UNKNOWN };
	uint64_t committed = hfb_log_committed(log);
	int r;

	state->code = HFB_WIRE_OK;
	state->leader_epoch = hfb_log_epoch(log);
	state->committed = committed;
	if (ask->from == HFB_FROM_LATEST) {
		state->position = committed;
		state->offset = partition->positions->committed.offset;
		return;
	}
	r = hfb_log_lookup(log, ask->from, ask->leader_epoch, ask->value, &place);
	state->position = place.position;
	state->offset = place.offset;
	switch (r) {
	case 0:
		/* a place is known to the byte: what is before it the client has already */
		if (ask->from == HFB_FROM_PLACE && ask->value <= committed) {
			state->position = ask->value & ~7ull;
			state->offset = HFB_OFFSET_UNKNOWN;
		}
		/* found in what is received but not yet committed: begin where that begins */
		if (state->position > committed) {
			state->position = committed;
			state->offset = partition->positions->committed.offset;
		}
		break;
	case -ESTALE:
		state->code = HFB_WIRE_TRUNCATED;
		state->leader_epoch = place.leader_epoch;
		break;
	case -ENODATA:
		state->code = HFB_WIRE_BELOW_START;
		state->position = hfb_log_start(log);
		state->offset = partition->positions->start.offset;
		break;
	default:
		/* beyond the end: a place there was never served, an offset or a time will come */
		state->code = ask->from == HFB_FROM_PLACE ? HFB_WIRE_TRUNCATED : HFB_WIRE_OK;
		state->position = committed;
		state->offset = partition->positions->committed.offset;
		break;
	}
}

static void
subscription_seek(struct hfb_core *core, struct hfb_session *session, struct hfb_subscription *sub,
		  struct hfb_partition *partition, const struct hfb_frame_subscribe *ask)
{
	struct hfb_frame_read_state state = {
		.answers = ask->frame.packet,
		.partition = partition->handle,
	};
	uint32_t window = ask->window_bytes;

	place_resolve(partition, ask, &state);
	if (state.code == HFB_WIRE_OK && sub == NULL) {
		sub = subscription_make(core, session, partition);
		if (sub == NULL)
			state.code = HFB_WIRE_TOO_MANY;
	}
	/* the answer goes first, so that DATA finds a reader that knows its place */
	if (!state_send(core, session, &state)) {
		if (sub != NULL)
			hfb_push_unsubscribe(core, sub);
		return;
	}
	if (sub == NULL)
		return;
	if (state.code != HFB_WIRE_OK) {
		hfb_push_unsubscribe(core, sub);
		return;
	}
	reader_give(sub);
	sub->position = state.position;
	sub->limit = state.position + (window < WINDOW_BYTES_MAX ? window : WINDOW_BYTES_MAX);
	sub->blocked = false;
	sub->in_ring = false;
	sub->heard_ns = core->now_ns;
	sub->heartbeat_ns = HFB_HEARTBEAT_FIRST_NS;
	sub->heartbeat_at_ns = core->now_ns + sub->heartbeat_ns;
	active_add(core->sessions, sub);
}

void
hfb_push_subscribe(struct hfb_core *core, struct hfb_session *session,
		   const volatile uint8_t *frame, uint32_t bytes, const struct hfb_packet *packet)
{
	struct hfb_frame_read_state state = { .code = HFB_WIRE_NO_PARTITION };
	struct hfb_frame_subscribe ask;
	struct hfb_partition *partition;
	struct hfb_subscription *sub;

	if (bytes < sizeof(ask)) {
		hfb_drop(core, HFB_STAT_DROP_FRAME_SHORT);
		return;
	}
	hfb_wire_load(&ask, frame, sizeof(ask));
	if ((ask.flags & ~HFB_SUBSCRIBE_FLAGS_KNOWN) != 0 || ask.from > HFB_FROM_TIME) {
		hfb_drop(core, HFB_STAT_DROP_FRAME_FLAGS);
		hfb_session_error(core, session, ask.frame.packet, HFB_WIRE_BAD_FRAME);
		return;
	}
	partition = hfb_partition_get(core->node, ask.partition);
	if (partition == NULL || (partition->core == core->id && partition->detaching)) {
		state.answers = ask.frame.packet;
		state.partition = ask.partition;
		state_send(core, session, &state);
		return;
	}
	if (partition->core != core->id) {
		if (packet == NULL || session->kind == HFB_SESSION_FOREIGN) {
			hfb_session_error(core, session, ask.frame.packet, HFB_WIRE_WRONG_CORE);
			return;
		}
		/* the burst frees its reference, the owner frees this one */
		rte_mbuf_refcnt_update(packet->mbuf, 1);
		if (!hfb_handover(core, partition->core, HFB_HANDED_SUBSCRIBE, packet,
				  partition->handle, session->number, 0))
			hfb_session_error(core, session, ask.frame.packet, HFB_WIRE_WRONG_CORE);
		return;
	}
	sub = subscription_find(session, partition);
	if (ask.window_bytes == 0) {
		if (sub != NULL) {
			state_tell(core, sub, HFB_WIRE_CLOSED, sub->position);
			hfb_push_unsubscribe(core, sub);
		}
		return;
	}
	/* without a subscription (expired, or the broker is new) a window is a seek */
	if (sub == NULL || (ask.flags & HFB_SUBSCRIBE_SEEK) != 0) {
		subscription_seek(core, session, sub, partition, &ask);
		return;
	}
	sub->heard_ns = core->now_ns;
	if (ask.window_bytes > WINDOW_BYTES_MAX)
		ask.window_bytes = WINDOW_BYTES_MAX;
	/* frames overtake each other: an older window must not take back a newer one */
	if (ask.from == HFB_FROM_PLACE && ask.value <= sub->position &&
	    ask.value + ask.window_bytes > sub->limit) {
		sub->limit = ask.value + ask.window_bytes;
		active_add(core->sessions, sub);
	}
}

/* ---- pushing ------------------------------------------------------------------------ */

enum run_end {
	RUN_MORE,     /* its run is over */
	RUN_DONE,     /* at the tail or the window's end */
	RUN_WAIT,     /* a read is under way, or no buffer to read into */
	RUN_NO_FRAME, /* no buffer to send from */
	RUN_GONE,     /* the subscription has ended */
};

static bool
data_send(struct hfb_core *core, struct hfb_subscription *sub, const uint8_t *from, uint32_t bytes)
{
	const struct hfb_log *log = sub->partition->log;
	struct hfb_frame_data data = {
		.partition = sub->partition->handle,
		.leader_epoch = hfb_log_epoch(log),
		.position = sub->position,
		.committed = hfb_log_committed(log),
	};
	uint32_t size = (uint32_t)sizeof(data) + bytes;
	struct hfb_frame_out out;

	if (hfb_session_frame_begin(core, sub->session, HFB_FRAME_DATA, size, &out) == NULL)
		return false;
	memcpy(out.bytes + HFB_FRAME_BYTES, &data.partition, sizeof(data) - HFB_FRAME_BYTES);
	memcpy(out.bytes + sizeof(data), from, bytes);
	hfb_session_frame_send(core, sub->session, &out, size);
	sub->position += bytes;
	core->stats[HFB_STAT_PUSH_FRAMES]++;
	core->stats[HFB_STAT_PUSH_BYTES] += bytes;
	return true;
}

/* The log can no longer serve this place. */
static enum run_end
subscription_fail(struct hfb_core *core, struct hfb_subscription *sub, enum hfb_wire_code code,
		  uint64_t position)
{
	if (!state_tell(core, sub, code, position))
		return RUN_NO_FRAME;
	if (code == HFB_WIRE_BELOW_START)
		core->stats[HFB_STAT_READERS_BELOW_START]++;
	hfb_push_unsubscribe(core, sub);
	return RUN_GONE;
}

/*
 * Nothing is to be read up to @next_position: said, and reading goes on behind it. A reader that
 * missed the frame finds a hole, seeks there and is told again. CORRUPT: recovery found these
 * bytes damaged; they are named, not served. COMPACTED: nothing was left of them.
 */
static enum run_end
skip_to(struct hfb_core *core, struct hfb_subscription *sub, enum hfb_wire_code code,
	uint64_t next_position, uint64_t next_offset)
{
	const struct hfb_log *log = sub->partition->log;
	struct hfb_frame_read_state state = {
		.partition = sub->partition->handle,
		.code = code,
		.leader_epoch = hfb_log_epoch(log),
		.skipped_words = (uint32_t)((next_position - sub->position) / 8),
		.position = next_position,
		.offset = next_offset,
		.committed = hfb_log_committed(log),
	};

	if (!state_send(core, sub->session, &state))
		return RUN_NO_FRAME;
	reader_give(sub);
	sub->position = next_position;
	return RUN_MORE;
}

/*
 * Bytes of the files at the subscription's position: *@ret_from is set when they are
 * there, else the reason is returned.
 */
static enum run_end
file_bytes(struct hfb_core *core, struct hfb_subscription *sub, const uint8_t **ret_from,
	   uint64_t *ret_bytes)
{
	struct hfb_log *log = sub->partition->log;
	struct hfb_reader *reader = sub->reader;
	int r;

	if (reader != NULL && reader->read.busy)
		return RUN_WAIT;
	if (reader != NULL && reader->read.error == -EBADMSG &&
	    reader->read.next_position > sub->position)
		return skip_to(core, sub, HFB_WIRE_CORRUPT, reader->read.next_position,
			       HFB_OFFSET_UNKNOWN);
	if (reader != NULL && reader->read.hole && reader->position == sub->position)
		return skip_to(core, sub, HFB_WIRE_COMPACTED, reader->read.next_position,
			       reader->read.next_offset);
	if (reader != NULL && reader->read.error != 0) {
		r = reader->read.error;
		reader_give(sub);
		if (r == -EAGAIN)
			return RUN_MORE; /* in another form by now */
		if (r == -ENODATA)
			return subscription_fail(core, sub, HFB_WIRE_BELOW_START,
						 hfb_log_start(log));
		return subscription_fail(core, sub, HFB_WIRE_IO_ERROR, sub->position);
	}
	if (reader != NULL && sub->position >= reader->position &&
	    sub->position < reader->position + reader->read.data_bytes) {
		*ret_from = reader->read.data + (sub->position - reader->position);
		*ret_bytes = reader->position + reader->read.data_bytes - sub->position;
		return RUN_MORE;
	}
	if (reader == NULL) {
		/* it was in the ring and fell behind: told once, and it goes on from the files */
		if (sub->in_ring) {
			if (!state_tell(core, sub, HFB_WIRE_LAPPED, sub->position))
				return RUN_NO_FRAME;
			sub->in_ring = false;
			core->stats[HFB_STAT_READERS_LAPPED]++;
		}
		reader = reader_take(core->sessions);
		if (reader == NULL)
			return RUN_WAIT;
		reader->subscription = sub;
		sub->reader = reader;
	}
	reader->position = sub->position;
	reader->read.error = 0;
	reader->read.hole = false;
	reader->read.data_bytes = 0;
	r = hfb_log_read_start(log, sub->position, &reader->read);
	if (r == 0) {
		core->stats[HFB_STAT_FILE_READS]++;
		return RUN_WAIT;
	}
	reader_give(sub);
	if (r == -ENODATA)
		return subscription_fail(core, sub, HFB_WIRE_BELOW_START, hfb_log_start(log));
	return RUN_WAIT;
}

void
hfb_push_committed(struct hfb_core *core, struct hfb_partition *partition)
{
	const struct hfb_stage_times *times = &core->times;
	uint32_t last = (partition->commits_at - 1) & (HFB_COMMIT_MARKS - 1);
	uint32_t words = (uint32_t)(hfb_log_committed(partition->log) / 8);
	uint64_t tsc = times->reaped_tsc;

	if (partition->commits[last].words == words)
		return;
	/* Not published in this turn: the last one's second look at local clients did, just now,
	 * or the commit stage has changed. */
	if (partition->commit_stage == HFB_STAGE_RECEIVED)
		tsc = times->published_tsc != 0 ? times->published_tsc : times->turn_tsc;
	commit_mark(partition, words, tsc);
}

/* A reader was sent what is between @from and @to: how long after it was committed? */
static void
pushed_times(struct hfb_core *core, const struct hfb_partition *partition, uint64_t from,
	     uint64_t to)
{
	uint64_t now = hfb_clock_tsc();

	/* newest first; what is older than the marks is a reader that catches up */
	for (uint32_t n = 1; n < HFB_COMMIT_MARKS && n < partition->commits_at; n++) {
		uint32_t i = (partition->commits_at - n) & (HFB_COMMIT_MARKS - 1);
		uint32_t before = (i - 1) & (HFB_COMMIT_MARKS - 1);
		uint32_t words = partition->commits[i].words;

		if ((int32_t)(words - (uint32_t)(from / 8)) <= 0)
			return;
		if ((int32_t)(words - (uint32_t)(to / 8)) <= 0)
			hfb_stage_time_record(
				&core->times, HFB_STAGE_TIME_PUSHED,
				hfb_stage_ticks_since(partition->commits[i].ticks, now),
				partition->commits[i].offset - partition->commits[before].offset);
	}
}

static enum run_end
subscription_run(struct hfb_core *core, struct hfb_subscription *sub, uint32_t frames_max,
		 uint32_t *sent)
{
	struct hfb_log *log = sub->partition->log;
	uint64_t committed = hfb_log_committed(log);
	uint64_t end = committed < sub->limit ? committed : sub->limit & ~7ull;

	for (uint32_t n = 0; n < frames_max; n++) {
		const uint8_t *from;
		uint64_t bytes = 0;

		if (sub->position >= end)
			return RUN_DONE;
		from = hfb_log_peek(log, sub->position, &bytes);
		if (from != NULL && bytes != 0) {
			reader_give(sub);
			sub->in_ring = true;
		} else {
			enum run_end e;

			from = NULL;
			e = file_bytes(core, sub, &from, &bytes);
			if (from == NULL)
				return e;
		}
		if (bytes > end - sub->position)
			bytes = end - sub->position;
		if (bytes > DATA_BYTES_MAX)
			bytes = DATA_BYTES_MAX;
		if (!data_send(core, sub, from, (uint32_t)bytes))
			return RUN_NO_FRAME;
		(*sent)++;
	}
	return RUN_MORE;
}

uint32_t
hfb_push_poll(struct hfb_core *core)
{
	struct hfb_sessions *s = core->sessions;
	uint32_t visits = s->active_count < VISITS_MAX ? s->active_count : VISITS_MAX;
	uint32_t sent = 0;

	while (visits-- != 0 && s->active != NULL && sent < HFB_PUSH_FRAMES_TURN) {
		struct hfb_subscription *sub = s->active;
		uint32_t run = HFB_PUSH_FRAMES_TURN - sent, before = sent;
		uint64_t from = sub->position;
		enum run_end end;

		s->active = sub->active_next;
		if (s->active_count > 1 && run > HFB_PUSH_FRAMES_RUN)
			run = HFB_PUSH_FRAMES_RUN;
		end = subscription_run(core, sub, run, &sent);
		if (end == RUN_GONE)
			continue;
		if (sent != before) {
			HFB_PROBE3(push, core->id, sub->partition->handle, sub->position - from);
			pushed_times(core, sub->partition, from, sub->position);
			sub->heartbeat_ns = HFB_HEARTBEAT_FIRST_NS;
			sub->heartbeat_at_ns = core->now_ns + sub->heartbeat_ns;
		}
		if (end == RUN_DONE) {
			reader_give(sub);
			active_remove(s, sub);
		}
		if (end != RUN_NO_FRAME)
			continue;
		/* the port is out of buffers for all; a local ring is full for one only */
		if (sub->session->kind != HFB_SESSION_LOCAL)
			break;
		/* it may stay full for long, and others need the buffer */
		reader_give(sub);
		active_remove(s, sub);
		sub->blocked = true;
		sub->heartbeat_at_ns = core->now_ns + HFB_BLOCKED_NS;
	}
	return sent;
}

void
hfb_push_advanced(struct hfb_core *core, struct hfb_partition *partition)
{
	uint64_t committed = hfb_log_committed(partition->log);
	struct hfb_subscription *sub = partition->subs_head;

	for (; sub != NULL; sub = sub->partition_next)
		if (sub->position < committed && sub->position < sub->limit)
			active_add(core->sessions, sub);
}

/*
 * Heartbeats: where the log ends, so that a reader whose last DATA was lost notices.
 * They thin out from 10 ms while nothing happens. A reader that is not heard ends.
 */
void
hfb_push_sweep(struct hfb_core *core)
{
	const uint64_t idle_ns = HFB_SESSION_IDLE_MS * 1000000ull;
	struct hfb_sessions *s = core->sessions;

	if (s->subscriptions_count == 0)
		return;
	for (uint32_t n = 0; n < SWEEP_SUBSCRIPTIONS && n < s->subscriptions_max; n++) {
		struct hfb_subscription *sub = &s->subscription[s->subscription_hand];
		uint64_t committed;

		s->subscription_hand = s->subscription_hand + 1 < s->subscriptions_max
					       ? s->subscription_hand + 1
					       : 0;
		if (sub->session == NULL)
			continue;
		if (core->now_ns > sub->heard_ns + idle_ns) {
			state_tell(core, sub, HFB_WIRE_CLOSED, sub->position);
			hfb_push_unsubscribe(core, sub);
			continue;
		}
		if (sub->active || core->now_ns < sub->heartbeat_at_ns)
			continue;
		committed = hfb_log_committed(sub->partition->log);
		if (!state_tell(core, sub,
				sub->position >= committed ? HFB_WIRE_AT_END : HFB_WIRE_OK,
				sub->position)) {
			if (sub->session->kind != HFB_SESSION_LOCAL)
				return;
			sub->heartbeat_at_ns = core->now_ns + HFB_BLOCKED_NS;
			continue;
		}
		if (sub->blocked) {
			sub->blocked = false;
			sub->heartbeat_ns = HFB_HEARTBEAT_FIRST_NS;
			active_add(s, sub);
		}
		if (sub->heartbeat_ns < HFB_HEARTBEAT_LAST_NS)
			sub->heartbeat_ns *= 2;
		sub->heartbeat_at_ns = core->now_ns + sub->heartbeat_ns;
	}
}

void
hfb_push_partition_detach(struct hfb_core *core, struct hfb_partition *partition)
{
	while (partition->subs_head != NULL) {
		struct hfb_subscription *sub = partition->subs_head;

		state_tell(core, sub, HFB_WIRE_CLOSED, sub->position);
		hfb_push_unsubscribe(core, sub);
		hfb_assert(partition->subs_head != sub); /* it is in no other's list */
	}
}
