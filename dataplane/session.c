/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session.c - who talks to this core: frames in, checked and given to produce.c,
 * push.c and metadata.c; sessions opened behind a stateless cookie, kept in a table
 * of fixed size, forgotten after silence.
 *
 * HELLO costs the broker nothing it must remember: the COOKIE is a keyed hash of who
 * asked and when, smaller than the HELLO, so neither a flood nor a forged source gets
 * memory or amplification from us. A session's number is a keyed hash of the same
 * (address, ports, nonce): not to be guessed, and an OPEN that is repeated because
 * its OPENED was lost finds the session it made.
 */
#include "bug.h"
#include "session.h"
#include "siphash.h"

#define SWEEP_NS       1000000ull
#define SWEEP_SESSIONS 64u

/* ---- table ---------------------------------------------------------------- */

static uint64_t
keyed_hash(const uint8_t key[16], const void *bytes, size_t size)
{
	struct hfb_siphash_key words;

	memcpy(&words, key, sizeof(words));
	return hfb_siphash(&words, bytes, size);
}

static struct hfb_session *
session_find(struct hfb_sessions *s, uint64_t number)
{
	/* numbers are uniform already; at most half of the slots are used */
	for (uint32_t i = (uint32_t)number & s->session_mask;; i = (i + 1) & s->session_mask) {
		uint32_t slot = s->session_hash[i];

		if (slot == 0)
			return NULL;
		if (s->session[slot - 1].number == number)
			return &s->session[slot - 1];
	}
}

static struct hfb_session *
session_make(struct hfb_core *core, uint64_t number, enum hfb_session_kind kind)
{
	struct hfb_sessions *s = core->sessions;
	uint32_t index = s->sessions_free, i;
	struct hfb_session *session;

	if (index == HFB_NONE)
		return NULL;
	session = &s->session[index];
	s->sessions_free = session->next_free;
	memset(session, 0, sizeof(*session));
	session->number = number;
	session->kind = (uint8_t)kind;
	session->heard_ns = core->now_ns;
	session->error_turn = core->turn - 1;
	i = (uint32_t)number & s->session_mask;
	while (s->session_hash[i] != 0)
		i = (i + 1) & s->session_mask;
	s->session_hash[i] = index + 1;
	s->sessions_count++;
	core->stats[HFB_STAT_SESSIONS] = s->sessions_count;
	return session;
}

static void
session_let_go(struct hfb_core *core, struct hfb_session *session)
{
	struct hfb_sessions *s = core->sessions;

	while (session->bindings != NULL)
		hfb_binding_free(core, session->bindings);
	while (session->subscriptions != NULL)
		hfb_push_unsubscribe(core, session->subscriptions);
	for (uint32_t i = 0; i < s->loose_count; i++)
		if (s->loose[i].session == session)
			s->loose[i].session = NULL;
}

static void
session_free(struct hfb_core *core, struct hfb_session *session)
{
	struct hfb_sessions *s = core->sessions;
	uint32_t index = (uint32_t)(session - s->session);
	uint32_t hole = (uint32_t)session->number & s->session_mask, i;

	session_let_go(core, session);
	if (session->pending_listed) {
		struct hfb_session **link = &s->pending;

		while (*link != session) {
			hfb_assert(*link != NULL);
			link = &(*link)->pending_next;
		}
		*link = session->pending_next;
	}
	while (s->session_hash[hole] != index + 1)
		hole = (hole + 1) & s->session_mask;
	/* close the hole: move back whoever would be cut off from its own slot by it */
	for (i = (hole + 1) & s->session_mask; s->session_hash[i] != 0;
	     i = (i + 1) & s->session_mask) {
		uint32_t home =
			(uint32_t)s->session[s->session_hash[i] - 1].number & s->session_mask;

		if (((i - home) & s->session_mask) >= ((i - hole) & s->session_mask)) {
			s->session_hash[hole] = s->session_hash[i];
			hole = i;
		}
	}
	s->session_hash[hole] = 0;
	session->kind = HFB_SESSION_FREE;
	session->number = 0;
	session->next_free = s->sessions_free;
	s->sessions_free = index;
	s->sessions_count--;
	core->stats[HFB_STAT_SESSIONS] = s->sessions_count;
}

/* ---- frames out ------------------------------------------------------------ */

uint8_t *
hfb_session_frame_begin(struct hfb_core *core, struct hfb_session *session, uint8_t type,
			uint32_t bytes, struct hfb_frame_out *out)
{
	struct hfb_frame frame = {
		.magic = HFB_WIRE_MAGIC,
		.version = HFB_WIRE_VERSION,
		.type = type,
		.session = session->number,
		.packet = session->packet + 1,
	};

	out->mbuf = NULL;
	if (session->kind == HFB_SESSION_LOCAL) {
		out->bytes = hfb_local_frame_begin(core, session->local, bytes);
		if (out->bytes == NULL)
			return NULL;
	} else {
		out->mbuf = hfb_tx_begin(core, &session->peer, bytes, &out->bytes);
		if (out->mbuf == NULL)
			return NULL;
	}
	memcpy(out->bytes, &frame, sizeof(frame));
	return out->bytes;
}

void
hfb_session_frame_send(struct hfb_core *core, struct hfb_session *session,
		       const struct hfb_frame_out *out, uint32_t bytes)
{
	session->packet++;
	if (session->kind == HFB_SESSION_LOCAL)
		hfb_local_frame_send(core, session->local, bytes);
	else
		hfb_tx_send(core, &session->peer, out->mbuf, bytes);
}

static void
error_send(struct hfb_core *core, struct hfb_session *session, uint64_t answers,
	   enum hfb_wire_code code)
{
	struct hfb_frame_error error = { .answers = answers, .code = code };
	struct hfb_frame_out out;

	if (hfb_session_frame_begin(core, session, HFB_FRAME_ERROR, sizeof(error), &out) == NULL)
		return;
	memcpy(out.bytes + HFB_FRAME_BYTES, &error.answers, sizeof(error) - HFB_FRAME_BYTES);
	hfb_session_frame_send(core, session, &out, sizeof(error));
}

void
hfb_session_error(struct hfb_core *core, struct hfb_session *session, uint64_t answers,
		  enum hfb_wire_code code)
{
	if (session->error_turn == core->turn)
		return;
	session->error_turn = core->turn;
	error_send(core, session, answers, code);
}

/* Where answers to this packet go. */
static void
peer_of(const struct hfb_core *core, const struct hfb_packet *packet, struct hfb_peer *peer)
{
	peer->port = packet->port;
	peer->vlan = packet->vlan;
	memcpy(peer->mac, packet->source_mac, 6);
	memcpy(peer->own_mac, core->node->ports[packet->port].mac, 6);
	peer->ip = packet->source;
	peer->own_ip = packet->destination;
	peer->udp_port = packet->source_port;
	peer->own_udp_port = packet->destination_port;
}

static bool
peer_same_address(const struct hfb_peer *peer, const struct hfb_packet *packet)
{
	return peer->udp_port == packet->source_port &&
	       memcmp(peer->ip.bytes, packet->source.bytes, sizeof(peer->ip.bytes)) == 0;
}

/* The way back may change (another router, another card) while the address does not. */
static void
peer_refresh(const struct hfb_core *core, struct hfb_peer *peer, const struct hfb_packet *packet)
{
	if (memcmp(peer->mac, packet->source_mac, 6) != 0 || peer->port != packet->port ||
	    peer->vlan != packet->vlan || peer->own_udp_port != packet->destination_port)
		peer_of(core, packet, peer);
}

/*
 * An answer to somebody without a session: never larger than the frame it answers, and
 * a few a millisecond, so that forged addresses cannot use us against others.
 */
static void
stranger_error(struct hfb_core *core, const struct hfb_packet *packet,
	       const struct hfb_frame *frame, enum hfb_wire_code code)
{
	struct hfb_session stranger = { .number = frame->session, .kind = HFB_SESSION_OWN };

	if (packet->payload_bytes < sizeof(struct hfb_frame_error) ||
	    core->sessions->answers_left == 0)
		return;
	core->sessions->answers_left--;
	peer_of(core, packet, &stranger.peer);
	error_send(core, &stranger, frame->packet, code);
}

/* ---- opening ---------------------------------------------------------------- */

/* What a cookie and a session number vouch for. */
struct who {
	struct hfb_ip ip;
	uint64_t port;
	uint64_t nonce;
	uint64_t slot; /* cookie: time slot; number: the broker's own port */
	uint64_t half;
};

static void
cookie_make(const struct hfb_core *core, const struct hfb_packet *packet, uint64_t nonce,
	    uint64_t slot, uint8_t cookie[16])
{
	struct who who = {
		.ip = packet->source,
		.port = packet->source_port,
		.nonce = nonce,
		.slot = slot,
	};

	for (who.half = 0; who.half < 2; who.half++) {
		uint64_t word = keyed_hash(core->node->secret, &who, sizeof(who));

		memcpy(cookie + 8 * who.half, &word, 8);
	}
}

static void
hello_input(struct hfb_core *core, const struct hfb_packet *packet)
{
	struct hfb_session stranger = { .kind = HFB_SESSION_OWN };
	struct hfb_frame_cookie answer;
	struct hfb_frame_hello hello;
	struct hfb_frame_out out;

	_Static_assert(sizeof(struct hfb_frame_cookie) <= HFB_HELLO_BYTES, "no amplification");
	if (packet->payload_bytes < HFB_HELLO_BYTES) {
		hfb_drop(core, HFB_STAT_DROP_FRAME_SHORT);
		return;
	}
	hfb_wire_load(&hello, packet->payload, sizeof(hello));
	memset(&answer, 0, sizeof(answer));
	answer.nonce = hello.nonce;
	cookie_make(core, packet, hello.nonce, core->now_ns / HFB_COOKIE_SLOT_NS, answer.cookie);
	peer_of(core, packet, &stranger.peer);
	if (hfb_session_frame_begin(core, &stranger, HFB_FRAME_COOKIE, sizeof(answer), &out) ==
	    NULL)
		return;
	memcpy(out.bytes + HFB_FRAME_BYTES, &answer.nonce, sizeof(answer) - HFB_FRAME_BYTES);
	hfb_session_frame_send(core, &stranger, &out, sizeof(answer));
}

static bool
cookie_good(const struct hfb_core *core, const struct hfb_packet *packet,
	    const struct hfb_frame_open *open)
{
	uint64_t slot = core->now_ns / HFB_COOKIE_SLOT_NS;

	for (uint32_t back = 0; back < 2; back++) {
		uint8_t cookie[16], difference = 0;

		cookie_make(core, packet, open->nonce, slot - back, cookie);
		for (uint32_t i = 0; i < sizeof(cookie); i++)
			difference |= cookie[i] ^ open->cookie[i];
		if (difference == 0)
			return true;
	}
	return false;
}

static uint64_t
session_number(const struct hfb_core *core, const struct hfb_packet *packet, uint64_t nonce)
{
	struct who who = {
		.ip = packet->source,
		.port = packet->source_port,
		.nonce = nonce,
		.slot = packet->destination_port,
	};
	uint64_t number =
		keyed_hash(core->sessions->number_key, &who, sizeof(who)) & 0x00ffffffffffffffull;

	return ((uint64_t)core->id << 56) | (number != 0 ? number : 1);
}

static void
open_input(struct hfb_core *core, const struct hfb_packet *packet)
{
	struct hfb_frame_opened answer;
	struct hfb_frame_open open;
	struct hfb_session *session;
	struct hfb_frame_out out;
	uint64_t number;

	if (packet->payload_bytes < sizeof(open)) {
		hfb_drop(core, HFB_STAT_DROP_FRAME_SHORT);
		return;
	}
	hfb_wire_load(&open, packet->payload, sizeof(open));
	if (!cookie_good(core, packet, &open)) {
		hfb_drop(core, HFB_STAT_DROP_COOKIE);
		return;
	}
	number = session_number(core, packet, open.nonce);
	session = session_find(core->sessions, number);
	if (session == NULL) {
		session = session_make(core, number, HFB_SESSION_OWN);
		if (session == NULL) {
			hfb_drop(core, HFB_STAT_DROP_SESSIONS_FULL);
			stranger_error(core, packet, &open.frame, HFB_WIRE_TOO_MANY);
			return;
		}
	} else if (session->kind != HFB_SESSION_OWN) {
		hfb_drop(core, HFB_STAT_DROP_SESSION);
		return;
	}
	peer_of(core, packet, &session->peer);
	session->heard_ns = core->now_ns;
	memset(&answer, 0, sizeof(answer));
	answer.nonce = open.nonce;
	answer.idle_ms = HFB_SESSION_IDLE_MS;
	answer.core = core->id;
	answer.cores = (uint16_t)core->node->cores_count;
	answer.payload_max = HFB_UDP_PAYLOAD_MAX;
	answer.broker_epoch = core->node->broker_epoch;
	if (hfb_session_frame_begin(core, session, HFB_FRAME_OPENED, sizeof(answer), &out) == NULL)
		return;
	memcpy(out.bytes + HFB_FRAME_BYTES, &answer.nonce, sizeof(answer) - HFB_FRAME_BYTES);
	hfb_session_frame_send(core, session, &out, sizeof(answer));
}

/* ---- frames in --------------------------------------------------------------- */

/* Returns -1 or the reason to drop. */
static int
frame_check(const struct hfb_frame *frame)
{
	if (frame->magic != HFB_WIRE_MAGIC)
		return HFB_STAT_DROP_FRAME_MAGIC;
	if (frame->version != HFB_WIRE_VERSION)
		return HFB_STAT_DROP_FRAME_VERSION;
	/* no flag is known today, the tag's neither: its check would be missing */
	if (frame->flags != 0 || frame->incompatible != 0 || frame->reserved != 0)
		return HFB_STAT_DROP_FRAME_FLAGS;
	return -1;
}

/*
 * A CLOSE goes round all other cores, any of which may hold the session as foreign: one mbuf
 * for all. Where a ring is full it ends, and those behind forget the session when it is silent.
 */
static void
close_pass_on(struct hfb_core *core, const struct hfb_packet *packet, uint64_t number)
{
	const uint16_t next = (uint16_t)((core->id + 1u) % core->node->cores_count);

	if (next == number >> 56)
		return;
	/* the burst, or the ring's reader, frees its reference, the next core this one */
	rte_mbuf_refcnt_update(packet->mbuf, 1);
	hfb_handover(core, next, HFB_HANDED_CLOSE, packet, 0, number, 0);
}

static void
session_frame(struct hfb_core *core, struct hfb_session *session, uint8_t type,
	      const volatile uint8_t *bytes, uint32_t size, const struct hfb_packet *packet)
{
	session->heard_ns = core->now_ns;
	switch (type) {
	case HFB_FRAME_PRODUCE:
		hfb_produce_frame(core, session, bytes, size, packet);
		break;
	case HFB_FRAME_SUBSCRIBE:
		hfb_push_subscribe(core, session, bytes, size, packet);
		break;
	case HFB_FRAME_METADATA_GET:
		hfb_metadata_get(core, session, bytes, size);
		break;
	case HFB_FRAME_CLOSE:
		/* a channel's session ends with its channel */
		if (packet == NULL) {
			session_let_go(core, session);
			break;
		}
		close_pass_on(core, packet, session->number);
		session_free(core, session);
		break;
	default:
		hfb_drop(core, HFB_STAT_DROP_FRAME_TYPE);
		break;
	}
}

void
hfb_session_input(struct hfb_core *core, const struct hfb_packet *packet)
{
	struct hfb_session *session;
	struct hfb_frame frame;
	int drop;

	if (packet->payload_bytes < sizeof(frame)) {
		hfb_drop(core, HFB_STAT_DROP_FRAME_SHORT);
		return;
	}
	hfb_wire_load(&frame, packet->payload, sizeof(frame));
	drop = frame_check(&frame);
	if (drop >= 0) {
		hfb_drop(core, drop);
		/* by name: a client of another version should not have to guess */
		if (drop != HFB_STAT_DROP_FRAME_MAGIC)
			stranger_error(core, packet, &frame, HFB_WIRE_BAD_FRAME);
		return;
	}
	if (frame.type == HFB_FRAME_HELLO) {
		hello_input(core, packet);
		return;
	}
	if (frame.type == HFB_FRAME_OPEN) {
		open_input(core, packet);
		return;
	}
	session = session_find(core->sessions, frame.session);
	if (session == NULL || session->kind != HFB_SESSION_OWN) {
		hfb_drop(core, HFB_STAT_DROP_SESSION);
		stranger_error(core, packet, &frame, HFB_WIRE_NO_SESSION);
		return;
	}
	if (!peer_same_address(&session->peer, packet)) {
		hfb_drop(core, HFB_STAT_DROP_SESSION_ADDRESS);
		return;
	}
	peer_refresh(core, &session->peer, packet);
	session_frame(core, session, frame.type, packet->payload, packet->payload_bytes, packet);
}

void
hfb_session_handed(struct hfb_core *core, const struct hfb_mbuf_private *private)
{
	const struct hfb_packet *packet = &private->packet;
	struct hfb_session *session = session_find(core->sessions, private->session);

	if (private->kind == HFB_HANDED_CLOSE) {
		if (session != NULL && session->kind == HFB_SESSION_FOREIGN)
			session_free(core, session);
		close_pass_on(core, packet, private->session);
		return;
	}
	if (session == NULL) {
		session = session_make(core, private->session, HFB_SESSION_FOREIGN);
		if (session == NULL) {
			hfb_drop(core, HFB_STAT_DROP_SESSIONS_FULL);
			return;
		}
		peer_of(core, packet, &session->peer);
	}
	if (session->kind != HFB_SESSION_FOREIGN) {
		hfb_drop(core, HFB_STAT_DROP_SESSION);
		return;
	}
	/* the address was checked by the core that handed it over */
	if (!peer_same_address(&session->peer, packet))
		peer_of(core, packet, &session->peer);
	peer_refresh(core, &session->peer, packet);
	session->heard_ns = core->now_ns;
	if (private->kind == HFB_HANDED_PRODUCE)
		hfb_produce_frame(core, session, packet->payload, packet->payload_bytes, packet);
	else if (private->kind == HFB_HANDED_SUBSCRIBE)
		hfb_push_subscribe(core, session, packet->payload, packet->payload_bytes, packet);
	else
		hfb_drop(core, HFB_STAT_DROP_FRAME_TYPE);
}

/* ---- local -------------------------------------------------------------------- */

struct hfb_session *
hfb_session_local_create(struct hfb_core *core, uint64_t number, void *local)
{
	struct hfb_session *session;

	if (number == 0 || session_find(core->sessions, number) != NULL)
		return NULL;
	session = session_make(core, number, HFB_SESSION_LOCAL);
	if (session != NULL)
		session->local = local;
	return session;
}

void
hfb_session_local_destroy(struct hfb_core *core, struct hfb_session *session)
{
	if (session == NULL)
		return;
	hfb_assert(session->kind == HFB_SESSION_LOCAL);
	session_free(core, session);
}

void
hfb_session_local_frame(struct hfb_core *core, struct hfb_session *session,
			const volatile uint8_t *bytes, uint32_t size)
{
	struct hfb_frame frame;
	int drop;

	if (size < sizeof(frame)) {
		hfb_drop(core, HFB_STAT_DROP_FRAME_SHORT);
		return;
	}
	hfb_wire_load(&frame, bytes, sizeof(frame));
	drop = frame_check(&frame);
	if (drop < 0 && frame.session != session->number)
		drop = HFB_STAT_DROP_SESSION;
	if (drop >= 0) {
		hfb_drop(core, drop);
		return;
	}
	session_frame(core, session, frame.type, bytes, size, NULL);
}

/* ---- the turn ------------------------------------------------------------------- */

/* A bounded part of the table each millisecond: all of it within a second or so. */
static void
sessions_sweep(struct hfb_core *core)
{
	const uint64_t idle_ns = HFB_SESSION_IDLE_MS * 1000000ull;
	struct hfb_sessions *s = core->sessions;

	s->answers_left = HFB_NO_SESSION_ANSWERS_MS;
	for (uint32_t n = 0; n < SWEEP_SESSIONS && n < s->sessions_max; n++) {
		struct hfb_session *session = &s->session[s->session_hand];
		struct hfb_frame_out out;

		s->session_hand = s->session_hand + 1 < s->sessions_max ? s->session_hand + 1 : 0;
		if (session->kind != HFB_SESSION_OWN && session->kind != HFB_SESSION_FOREIGN)
			continue;
		if (core->now_ns < session->heard_ns + idle_ns)
			continue;
		if (session->kind == HFB_SESSION_OWN &&
		    hfb_session_frame_begin(core, session, HFB_FRAME_CLOSE, HFB_FRAME_BYTES,
					    &out) != NULL)
			hfb_session_frame_send(core, session, &out, HFB_FRAME_BYTES);
		session_free(core, session);
	}
}

uint32_t
hfb_session_acks(struct hfb_core *core)
{
	const struct hfb_sessions *s = core->sessions;

	return s->pending != NULL || s->loose_count != 0 ? hfb_ack_flush(core) : 0;
}

uint32_t
hfb_session_poll(struct hfb_core *core)
{
	struct hfb_sessions *s = core->sessions;
	struct hfb_partition *partition = core->dirty;
	uint32_t work = 0;

	core->dirty = NULL;
	while (partition != NULL) {
		struct hfb_partition *next = partition->dirty_next;

		partition->dirty = false;
		partition->dirty_next = NULL;
		hfb_ack_advanced(core, partition);
		hfb_push_advanced(core, partition);
		partition = next;
	}
	if (s->pending != NULL || s->loose_count != 0)
		work += hfb_ack_flush(core);
	if (s->active != NULL)
		work += hfb_push_poll(core);
	if (core->now_ns >= s->sweep_ns + SWEEP_NS) {
		s->sweep_ns = core->now_ns;
		sessions_sweep(core);
		hfb_push_sweep(core);
	}
	return work;
}

void
hfb_session_partition_detach(struct hfb_core *core, struct hfb_partition *partition)
{
	struct hfb_partition **link = &core->dirty;

	hfb_ack_partition_detach(core, partition);
	hfb_push_partition_detach(core, partition);
	while (*link != NULL && *link != partition)
		link = &(*link)->dirty_next;
	if (*link != NULL)
		*link = partition->dirty_next;
	partition->dirty = false;
	partition->dirty_next = NULL;
}
