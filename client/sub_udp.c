/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sub_udp.c - a subscriber's bytes over UDP: the broker pushes within a window, we
 * put the pieces in order and ask again where some are missing.
 *
 *	SUBSCRIBE(seek, place) -> READ_STATE(resolved) -> DATA... ; SUBSCRIBE(window) as
 *	what was taken makes room; SUBSCRIBE(seek) at the first missing byte on a loss
 *
 * A loss is seen by a hole, or by a heartbeat that is ahead of us. The session is a
 * subscriber's own, so that two of them may read one partition.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "reassembly.h"
#include "sub_private.h"

#define WINDOW_DEFAULT (256u * HFB_KIB)
#define REORDER_NS     1000000ull  /* a hole younger than that may fill by itself */
#define SEEK_FIRST_NS  50000000ull /* until an unanswered seek is repeated */
#define SEEK_LAST_NS   1000000000ull
#define KEEP_ALIVE_NS  1000000000ull
#define SILENCE_NS     3000000000ull /* heartbeats come each second at least */

struct hfb_udp_source {
	struct hfb_link *link;
	struct hfb_reassembly pieces;
	uint64_t window_bytes;
	/* seek under way */
	bool seeking;
	bool place_known; /* position is where to seek; else `from` is */
	uint16_t from;
	uint64_t from_value;
	uint64_t seek_packet, seek_first_packet;
	uint64_t seek_again_ns, seek_pause_ns;
	/* flow */
	uint64_t limit_told;
	uint32_t seek_window;
	uint64_t told_ns;
	uint64_t hole_ns;   /* first seen, 0 = none */
	uint64_t committed; /* last told */
	bool end_known;	    /* AT_END was said for end_position */
	uint64_t end_position;
	uint64_t down_since_ns, reopen_ns;
	uint64_t retried_at;
	uint64_t damage_from;		   /* searching behind a bad batch; all ones = no */
	uint64_t corrupt_from, corrupt_to; /* the broker cannot serve these; 0, 0 = none */
	bool hole;			   /* they are what compaction took */
	uint64_t hole_offset;		   /* of what is behind */
};

static void
subscribe_send(struct hfb_sub *sub, bool seek, uint64_t now_ns)
{
	struct hfb_udp_source *u = sub->udp;
	uint64_t limit = hfb_reassembly_limit(&u->pieces);
	struct hfb_frame_subscribe ask = {
		.partition = sub->handle,
		.leader_epoch = sub->epoch,
		.from = HFB_FROM_PLACE,
		.flags = seek ? HFB_SUBSCRIBE_SEEK : 0,
		.value = u->pieces.contiguous,
	};

	if (seek && !u->place_known) {
		ask.from = u->from;
		ask.value = u->from_value;
		ask.window_bytes = (uint32_t)(u->pieces.buffer_bytes / 2);
	} else {
		if (limit <= u->pieces.contiguous && !seek)
			return; /* 0 would end it */
		ask.window_bytes =
			limit > u->pieces.contiguous ? (uint32_t)(limit - u->pieces.contiguous) : 8;
	}
	if (hfb_link_send(u->link, HFB_FRAME_SUBSCRIBE, &ask, sizeof(ask), NULL, 0) == 0)
		hfb_link_kick(u->link);
	u->told_ns = now_ns;
	u->limit_told = ask.value + ask.window_bytes;
	if (seek) {
		u->seek_packet = u->link->packet;
		u->seek_window = ask.window_bytes;
	}
}

static void
seek_begin(struct hfb_sub *sub, uint64_t now_ns)
{
	struct hfb_udp_source *u = sub->udp;

	u->seeking = true;
	u->seek_pause_ns = SEEK_FIRST_NS;
	u->seek_again_ns = now_ns + u->seek_pause_ns;
	u->hole_ns = 0;
	u->end_known = false;
	subscribe_send(sub, true, now_ns);
	u->seek_first_packet = u->seek_packet;
}

static void
position_set(struct hfb_sub *sub, uint64_t position, uint64_t offset)
{
	sub->position = position;
	sub->bytes_left = 0;
	if (offset != UINT64_MAX)
		sub->offset = offset;
	hfb_reassembly_reset(&sub->udp->pieces, position);
}

/* A mark moves us: pieces begin anew there, and the broker is told. */
static int
mark_and_seek(struct hfb_sub *sub, enum hfb_item_kind kind, uint64_t to, uint64_t to_offset,
	      uint32_t epoch, uint64_t now_ns)
{
	hfb_sub_mark(sub, kind, to, to_offset, epoch, NULL);
	position_set(sub, to, to_offset);
	sub->udp->place_known = true;
	seek_begin(sub, now_ns);
	return HFB_SOURCE_MARK;
}

static int
state_take(struct hfb_sub *sub, const struct hfb_frame_read_state *state, uint64_t now_ns,
	   struct hfb_err *err)
{
	struct hfb_udp_source *u = sub->udp;
	bool answer = state->answers != 0;

	if (state->partition != sub->handle)
		return HFB_SOURCE_AGAIN;
	if (answer && (!u->seeking || state->answers < u->seek_first_packet ||
		       state->answers > u->seek_packet))
		return HFB_SOURCE_AGAIN; /* to a question of before */
	if (!answer && u->seeking)
		return HFB_SOURCE_AGAIN; /* about a place we have left */
	if (state->committed > u->committed)
		u->committed = state->committed;
	switch (state->code) {
	case HFB_WIRE_OK:
	case HFB_WIRE_AT_END:
		if (answer) {
			u->seeking = false;
			if (!u->place_known) {
				position_set(sub, state->position, state->offset);
				u->place_known = true;
				sub->epoch = state->leader_epoch;
				/* a trim may have left the start inside a batch */
				if (u->from == HFB_FROM_EARLIEST && state->offset != UINT64_MAX)
					sub->skip_offset = state->offset;
			}
			/* it may begin at a batch before the byte we asked for */
			u->limit_told = state->position + u->seek_window;
		} else if (state->position > u->pieces.contiguous && u->hole_ns == 0) {
			u->hole_ns = now_ns; /* sent, and not here: the last ones were lost */
		}
		if (state->committed <= u->pieces.contiguous) {
			u->end_known = true;
			u->end_position = u->pieces.contiguous;
		}
		return HFB_SOURCE_AGAIN;
	case HFB_WIRE_TRUNCATED:
		u->seeking = false;
		return mark_and_seek(sub, HFB_ITEM_TRUNCATED, state->position, state->offset,
				     state->leader_epoch, now_ns);
	case HFB_WIRE_BELOW_START:
		u->seeking = false;
		if (!u->place_known && u->from == HFB_FROM_TIME) {
			position_set(sub, state->position, state->offset);
			u->place_known = true;
			seek_begin(sub, now_ns);
			return HFB_SOURCE_AGAIN;
		}
		return mark_and_seek(sub, HFB_ITEM_RETIRED, state->position, state->offset, 0,
				     now_ns);
	case HFB_WIRE_LAPPED:
		hfb_sub_mark(sub, HFB_ITEM_LAPPED, sub->position, sub->offset, 0, NULL);
		return HFB_SOURCE_MARK;
	case HFB_WIRE_CORRUPT:
	case HFB_WIRE_COMPACTED:
		/* told again when we seek there, should something before it be missing yet */
		if (state->position - 8ull * state->skipped_words == u->pieces.contiguous) {
			u->corrupt_from = u->pieces.contiguous;
			u->corrupt_to = state->position;
			u->hole = state->code == HFB_WIRE_COMPACTED;
			u->hole_offset = state->offset;
		}
		return HFB_SOURCE_AGAIN;
	case HFB_WIRE_IO_ERROR:
		return hfb_err_set(err, -EIO,
				   "hfbusd cannot read topic %s, partition %u, at position "
				   "%llu: see its log",
				   sub->topic, sub->partition, (unsigned long long)state->position);
	case HFB_WIRE_TOO_MANY:
		u->seeking = false;
		return hfb_err_set(err, -EBUSY,
				   "hfbusd's table of subscriptions is full: see "
				   "subscriptions_max");
	case HFB_WIRE_CLOSED:
		/* it ends: a stop or our silence; ask again by and by */
		u->seeking = true;
		u->seek_pause_ns = SEEK_FIRST_NS * 4;
		u->seek_again_ns = now_ns + u->seek_pause_ns;
		return HFB_SOURCE_AGAIN;
	default: /* NO_PARTITION: another run, or it moved: metadata anew */
		u->link->session_lost = true;
		return HFB_SOURCE_AGAIN;
	}
}

/* Frames until a mark or the socket is empty. AGAIN, MARK or an error. */
static int
frames_take(struct hfb_sub *sub, uint64_t now_ns, struct hfb_err *err)
{
	struct hfb_udp_source *u = sub->udp;
	const uint8_t *frame;
	uint32_t size;
	int r;

	for (uint32_t n = 0; n < 1024 && hfb_link_receive(u->link, &frame, &size) == 1; n++) {
		u->link->heard_ns = now_ns;
		u->link->asked_ns = 0;
		if (frame[2] == HFB_FRAME_DATA && size >= sizeof(struct hfb_frame_data)) {
			struct hfb_frame_data data;

			memcpy(&data, frame, sizeof(data));
			if (data.partition != sub->handle || !u->place_known)
				continue;
			sub->stats.udp_datagrams++;
			if (data.committed > u->committed)
				u->committed = data.committed;
			hfb_reassembly_put(&u->pieces, data.position, frame + sizeof(data),
					   (size - sizeof(data)) & ~7u);
			if (u->pieces.runs_count == 0)
				u->hole_ns = 0;
			else if (u->hole_ns == 0)
				u->hole_ns = now_ns;
			/* the next window goes early enough to keep the pipe full */
		} else if (frame[2] == HFB_FRAME_READ_STATE &&
			   size >= sizeof(struct hfb_frame_read_state)) {
			struct hfb_frame_read_state state;

			memcpy(&state, frame, sizeof(state));
			r = state_take(sub, &state, now_ns, err);
			if (r != HFB_SOURCE_AGAIN)
				return r;
		} else if (frame[2] == HFB_FRAME_ERROR && size >= sizeof(struct hfb_frame_error)) {
			struct hfb_frame_error error;

			memcpy(&error, frame, sizeof(error));
			if (error.code == HFB_WIRE_NO_SESSION || error.code == HFB_WIRE_WRONG_CORE)
				u->link->session_lost = true;
		} else if (frame[2] == HFB_FRAME_CLOSE) {
			u->link->session_lost = true;
		}
	}
	return HFB_SOURCE_AGAIN;
}

/* The session is gone: open another, ask where the partition is, seek by place. */
static int
session_renew(struct hfb_sub *sub, uint64_t now_ns, struct hfb_err *err)
{
	struct hfb_udp_source *u = sub->udp;
	struct hfb_partition_address address;
	int r;

	if (u->down_since_ns == 0)
		u->down_since_ns = now_ns;
	if (now_ns >= u->reopen_ns) {
		u->reopen_ns = now_ns + 100000000ull;
		r = u->link->ops->reopen(u->link, 300, err);
		if (r == 0)
			r = hfb_metadata_ask(u->link, sub->topic, sub->partition, 1000, &address,
					     err);
		if (r == -ENOENT || r == -ERANGE)
			return -ENOENT;
		if (r == 0) {
			if (memcmp(&address.topic, &sub->uuid, sizeof(sub->uuid)) != 0)
				return hfb_err_set(err, -ESTALE,
						   "topic %s was deleted and made again",
						   sub->topic);
			sub->handle = address.handle;
			u->down_since_ns = 0;
			sub->stats.reconnects++;
			/* pieces behind a hole may be of a tail that was cut off */
			u->pieces.runs_count = 0;
			u->committed = 0;
			seek_begin(sub, now_ns);
			return 0;
		}
	}
	if (sub->bus->reconnect_ms != UINT32_MAX && u->down_since_ns != 0 &&
	    now_ns - u->down_since_ns > (uint64_t)sub->bus->reconnect_ms * 1000000ull)
		return hfb_err_set(err, -ENOTCONN, "hfbusd at %s is gone for more than %u ms",
				   sub->bus->host, sub->bus->reconnect_ms);
	return 0;
}

static int
timers_run(struct hfb_sub *sub, uint64_t now_ns, struct hfb_err *err)
{
	struct hfb_udp_source *u = sub->udp;
	uint64_t limit = hfb_reassembly_limit(&u->pieces);

	if (u->link->session_lost || now_ns - u->link->heard_ns > SILENCE_NS)
		return session_renew(sub, now_ns, err);
	if (u->seeking) {
		if (now_ns >= u->seek_again_ns) {
			u->seek_pause_ns = u->seek_pause_ns * 2 > SEEK_LAST_NS
						   ? SEEK_LAST_NS
						   : u->seek_pause_ns * 2;
			u->seek_again_ns = now_ns + u->seek_pause_ns;
			subscribe_send(sub, true, now_ns);
		}
		return 0;
	}
	if (u->hole_ns != 0 && now_ns - u->hole_ns > REORDER_NS) {
		sub->stats.udp_reasks++;
		seek_begin(sub, now_ns);
		return 0;
	}
	if (limit >= u->limit_told + u->window_bytes / 4 ||
	    (limit > u->limit_told && u->pieces.contiguous >= u->limit_told) ||
	    now_ns - u->told_ns > KEEP_ALIVE_NS)
		subscribe_send(sub, false, now_ns);
	return 0;
}

static int
udp_fill(struct hfb_sub *sub, uint64_t need, struct hfb_err *err)
{
	struct hfb_udp_source *u = sub->udp;
	uint64_t now = hfb_now_ns(), had;
	struct hfb_batch_view found;
	int r;

	/* what the reader has passed makes room */
	if (u->place_known && sub->position > u->pieces.position)
		hfb_reassembly_drop(&u->pieces, sub->position - u->pieces.position);
	had = sub->bytes_left;
	if (need + u->window_bytes > u->pieces.buffer_bytes / 2 && need > u->window_bytes / 2 &&
	    hfb_reassembly_grow(&u->pieces, need + u->window_bytes) < 0)
		return hfb_err_set(err, -ENOMEM, "no memory for a batch of %llu bytes",
				   (unsigned long long)need);
	r = frames_take(sub, now, err);
	sub->stats.udp_duplicates = u->pieces.duplicates;
	if (r != HFB_SOURCE_AGAIN)
		return r;
	if (u->corrupt_to != 0 && u->corrupt_from != u->pieces.contiguous)
		u->corrupt_to = 0;
	if (u->corrupt_to != 0 && sub->position == u->corrupt_from) {
		uint64_t to = u->corrupt_to;

		u->corrupt_to = 0;
		if (u->hole) {
			position_set(sub, to, u->hole_offset);
			seek_begin(sub, now);
			return HFB_SOURCE_AGAIN;
		}
		return mark_and_seek(sub, HFB_ITEM_CORRUPT, to, UINT64_MAX, 0, now);
	}
	r = timers_run(sub, now, err);
	if (r < 0)
		return r;
	if (!u->place_known)
		return HFB_SOURCE_NONE;
	hfb_reassembly_front(&u->pieces, &sub->bytes, &sub->bytes_left);
	if (u->damage_from != UINT64_MAX) {
		bool hit = hfb_batch_search(sub->seed, sub->position, sub->bytes, sub->bytes_left,
					    &found);
		uint64_t at = sub->position;

		if (!hit) {
			if (sub->bytes_left > 56) {
				uint64_t pass = sub->bytes_left - 56;

				sub->position += pass;
				hfb_reassembly_drop(&u->pieces, pass);
			}
			sub->bytes_left = 0;
			return HFB_SOURCE_NONE;
		}
		/* the mark begins where the damage does */
		sub->position = u->damage_from;
		u->damage_from = UINT64_MAX;
		hfb_sub_mark(sub, HFB_ITEM_CORRUPT, found.position, found.header.base_offset, 0,
			     NULL);
		hfb_reassembly_drop(&u->pieces, found.position - at);
		hfb_reassembly_front(&u->pieces, &sub->bytes, &sub->bytes_left);
		return HFB_SOURCE_MARK;
	}
	return sub->bytes_left >= need && sub->bytes_left > had ? HFB_SOURCE_FILLED
								: HFB_SOURCE_NONE;
}

static int
udp_bad(struct hfb_sub *sub, enum hfb_fault fault, const struct hfb_batch_view *view,
	struct hfb_err *err)
{
	struct hfb_udp_source *u = sub->udp;
	uint64_t skip = hfb_sub_batch_skip(fault, view);

	if (u->retried_at != sub->position) {
		/* bytes may have been hurt on the way: once more */
		u->retried_at = sub->position;
		position_set(sub, sub->position, UINT64_MAX);
		seek_begin(sub, hfb_now_ns());
		return HFB_SOURCE_AGAIN;
	}
	if (skip > 0 && skip <= sub->bytes_left) {
		uint64_t rest = sub->bytes_left - skip;
		const uint8_t *bytes = sub->bytes + skip;

		hfb_sub_mark(sub, HFB_ITEM_CORRUPT, sub->position + skip,
			     view->header.base_offset + view->header.count, 0, NULL);
		sub->bytes = bytes;
		sub->bytes_left = rest;
		return HFB_SOURCE_MARK;
	}
	u->damage_from = sub->position;
	sub->position += 8;
	hfb_reassembly_drop(&u->pieces, sub->position - u->pieces.position);
	sub->bytes_left = 0;
	return HFB_SOURCE_AGAIN;
}

static bool
udp_at_end(struct hfb_sub *sub)
{
	struct hfb_udp_source *u = sub->udp;

	return u->place_known && !u->seeking && u->end_known && u->end_position == sub->position &&
	       u->committed <= sub->position;
}

static void
udp_close(struct hfb_sub *sub)
{
	struct hfb_udp_source *u = sub->udp;

	if (u == NULL)
		return;
	hfb_link_close(u->link);
	hfb_reassembly_fini(&u->pieces);
	free(u);
	sub->udp = NULL;
}

static const struct hfb_source_ops udp_ops = {
	.fill = udp_fill,
	.bad = udp_bad,
	.at_end = udp_at_end,
	.close = udp_close,
};

int
hfb_sub_udp_open(struct hfb_sub *sub, const struct hfb_sub_config *config, struct hfb_err *err)
{
	struct hfb_partition_address address;
	struct hfb_udp_source *u;
	int r;

	u = calloc(1, sizeof(*u));
	if (u == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	u->retried_at = u->damage_from = UINT64_MAX;
	u->window_bytes = config->window_bytes ? config->window_bytes : WINDOW_DEFAULT;
	if (u->window_bytes < 16384)
		u->window_bytes = 16384;
	u->window_bytes &= ~7ull;
	sub->udp = u;
	sub->source = &udp_ops;
	r = hfb_reassembly_init(&u->pieces, u->window_bytes);
	if (r < 0)
		return hfb_err_set(err, r, "no memory for a window of %llu bytes",
				   (unsigned long long)u->window_bytes);
	/* where the partition lives: its core's own port */
	r = hfb_connection_resolve(sub->bus, config->topic, config->partition, &address, err);
	if (r < 0)
		return r;
	r = hfb_link_udp_open(sub->bus->host, address.udp_port, sub->bus->connect_ms, &u->link,
			      err);
	if (r < 0)
		return r;
	sub->wait_on = u->link;
	sub->handle = address.handle;
	u->from = (uint16_t)config->from;
	u->from_value = config->value;
	if (config->from == HFB_SUB_PLACE) {
		u->place_known = true;
		hfb_reassembly_reset(&u->pieces, config->place.position);
	}
	seek_begin(sub, hfb_now_ns());
	return 0;
}
