/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sub_local.c - a subscriber's bytes on the same host: the partition's ring while
 * we are in it, its segment files when we are not.
 *
 *	start ........ files ........ intent - ring_bytes .... ring .... committed
 *
 * Out of the ring we copy first and then look whether the writer's intent has
 * passed us: a copy that may have been overwritten is thrown away, and the files
 * have the same bytes. A file is read up to what is filed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "sub_local.h"

#define BUFFER_BYTES (HFB_BATCH_BYTES_MAX + HFB_SUB_CHUNK_BYTES)
#define NO_POSITION  UINT64_MAX
#define SAMPLE_READS 16u /* one in so many is looked at for its latency */

/* Attaching to a run of hfbusd. ------------------------------------------------------ */

static int
lookup(struct hfb_sub *sub, uint16_t from, uint64_t value, struct hfb_ipc_place_answer *ret,
       struct hfb_err *err)
{
	struct hfb_ipc_lookup ask = {
		.handle = sub->handle,
		.from = from,
		.leader_epoch = sub->epoch,
		.value = value,
	};
	size_t size = sizeof(*ret);
	int r;

	r = hfb_connection_ask(sub->bus, HFB_IPC_LOOKUP, &ask, sizeof(ask), ret, &size, NULL, 0,
			       NULL, err);
	if (r < 0)
		return r;
	if (size < sizeof(*ret))
		return hfb_err_set(err, -EPROTO, "hfbusd's answer about a place is too short");
	return 0;
}

static int
truncated(struct hfb_sub *sub, const struct hfb_place *place)
{
	return hfb_sub_mark(sub, HFB_ITEM_TRUNCATED, place->position, place->offset,
			    place->leader_epoch, NULL);
}

static int
retired(struct hfb_sub *sub, uint64_t to, uint64_t to_offset)
{
	return hfb_sub_mark(sub, HFB_ITEM_RETIRED, to, to_offset, 0, NULL);
}

/* Another run: find the partition again and say where we were. */
static int
attach_again(struct hfb_sub *sub, struct hfb_err *err)
{
	struct hfb_local_source *l = sub->local;
	struct hfb_partition_address address;
	struct hfb_ipc_place_answer answer;
	uint64_t now = hfb_now_ns();
	int r;

	if (now < l->attach_ns)
		return HFB_SOURCE_NONE;
	l->attach_ns = now + 10000000ull;
	r = hfb_connection_resolve(sub->bus, sub->topic, sub->partition, &address, err);
	if (r == -ENOTCONN || r == -ETIMEDOUT)
		return HFB_SOURCE_NONE;
	if (r < 0)
		return r;
	if (memcmp(&address.topic, &sub->uuid, sizeof(sub->uuid)) != 0)
		return hfb_err_set(err, -ESTALE, "topic %s was deleted and made again", sub->topic);
	sub->handle = address.handle;
	r = lookup(sub, HFB_FROM_PLACE, sub->position, &answer, err);
	/* ENOENT: the topic is there, its partition not yet */
	if (r == -ENOTCONN || r == -ETIMEDOUT || r == -EAGAIN || r == -ENOENT)
		return HFB_SOURCE_NONE;
	if (r < 0)
		return r;
	hfb_local_file_close(l);
	hfb_local_ring_unmap(l);
	l->ring_asked_ns = 0;
	l->in_ring = l->live = l->reached_end = false;
	l->not_ring_below = 0;
	l->retried_at = NO_POSITION;
	l->attach_ns = 0;
	l->generation = sub->bus->generation;
	sub->stats.reconnects++;
	if (answer.code == HFB_WIRE_AT_END && answer.place.position < sub->position)
		answer.code = HFB_WIRE_TRUNCATED; /* beyond all there is: it was cut off */
	switch (answer.code) {
	case HFB_WIRE_TRUNCATED:
		return truncated(sub, &answer.place);
	case HFB_WIRE_BELOW_START:
		return retired(sub, answer.place.position, answer.place.offset);
	default:
		return HFB_SOURCE_AGAIN;
	}
}

/* The source. ------------------------------------------------------------------------- */

static int
local_fill(struct hfb_sub *sub, uint64_t need, struct hfb_err *err)
{
	struct hfb_local_source *l = sub->local;
	const struct hfb_positions *p;
	uint64_t committed, in_files, limit, size, turn_tsc;
	int64_t got;

	if (l->generation != sub->bus->generation)
		return attach_again(sub, err);
	if (sub->pending_set) {
		sub->pending_set = false;
		return sub->pending.code == HFB_WIRE_TRUNCATED
			       ? truncated(sub, &sub->pending.place)
			       : retired(sub, sub->pending.place.position,
					 sub->pending.place.offset);
	}
	p = hfb_local_positions(sub);
	committed = hfb_local_published(&p->committed);
	if (committed <= sub->position) {
		if (__atomic_load_n(&p->state, __ATOMIC_ACQUIRE) == HFB_PARTITION_DELETED)
			return hfb_err_set(err, -ENOENT, "topic %s was deleted", sub->topic);
		l->live = l->reached_end = true;
		return HFB_SOURCE_NONE;
	}
	/* of this position or a later one */
	turn_tsc = __atomic_load_n(&p->committed.turn_tsc, __ATOMIC_RELAXED);
	size = need > HFB_SUB_CHUNK_BYTES ? need : HFB_SUB_CHUNK_BYTES;
	if (size > committed - sub->position)
		size = committed - sub->position;
	if (size > BUFFER_BYTES)
		size = BUFFER_BYTES;
	if (!l->files_only && sub->position >= l->not_ring_below && hfb_local_ring_current(sub)) {
		if (size <= l->ring_bytes &&
		    hfb_local_ring_copy(sub, sub->position, l->buffer, size)) {
			l->in_ring = l->live = true;
			if (l->ahead != NULL)
				hfb_local_ahead_free(l);
			sub->bytes = l->buffer;
			sub->bytes_left = size;
			sub->sampled_tsc = 0;
			if (sub->stats.ring_reads++ % SAMPLE_READS == 0 && l->reached_end)
				sub->sampled_tsc = turn_tsc;
			return HFB_SOURCE_FILLED;
		}
		if (l->live && hfb_local_lapped(sub)) {
			l->in_ring = l->live = l->reached_end = false;
			l->former_ring_bytes = 0;
			return hfb_sub_mark(sub, HFB_ITEM_LAPPED, sub->position, sub->offset, 0,
					    NULL);
		}
	}
	in_files = hfb_local_filed(p);
	limit = committed < in_files ? committed : in_files;
	if (limit <= sub->position)
		return HFB_SOURCE_NONE;
	got = hfb_local_ahead_read(sub, limit, need, err);
	if (got == 0)
		return HFB_SOURCE_NONE;
	if (got > 0) {
		l->in_ring = false;
		sub->stats.file_reads++;
		return HFB_SOURCE_FILLED;
	}
	if (size > limit - sub->position)
		size = limit - sub->position;
	got = hfb_local_file_read(sub, sub->position, l->buffer, size, err);
	if (got == -ENODATA) {
		uint64_t start = hfb_local_published(&p->start), offset = p->start.offset;

		if (sub->position < start)
			return retired(sub, start, offset);
		/* the segment is being sealed or rolled: its end has just been said */
		hfb_local_file_close(l);
		return HFB_SOURCE_NONE;
	}
	if (got == -ENOTCONN || got == -ETIMEDOUT)
		return HFB_SOURCE_NONE;
	if (got == -ESPIPE) {
		sub->position = l->hole.position;
		sub->offset = l->hole.offset;
		sub->bytes_left = 0;
		l->in_ring = false;
		return HFB_SOURCE_AGAIN;
	}
	if (got < 0)
		return (int)got;
	l->in_ring = false;
	sub->bytes = l->buffer;
	sub->bytes_left = (uint64_t)got;
	sub->stats.file_reads++;
	return HFB_SOURCE_FILLED;
}

/* Search the committed log behind a damaged place for the next sound batch. */
static void
damage_end(struct hfb_sub *sub, uint64_t from, uint64_t *ret_to, uint64_t *ret_offset)
{
	struct hfb_local_source *l = sub->local;
	const struct hfb_positions *p = hfb_local_positions(sub);
	uint64_t committed = hfb_local_published(&p->committed), at = from;
	struct hfb_batch_view found;
	struct hfb_err err;

	while (at < committed) {
		uint64_t size = committed - at < BUFFER_BYTES ? committed - at : BUFFER_BYTES;
		uint64_t in_files = hfb_local_filed(p);
		int64_t got = -ENODATA;

		if (at < in_files)
			got = hfb_local_file_read(sub, at, l->buffer,
						  size < in_files - at ? size : in_files - at,
						  &err);
		else if (hfb_local_ring_current(sub) && size <= l->ring_bytes &&
			 hfb_local_ring_copy(sub, at, l->buffer, size))
			got = (int64_t)size;
		if (got == -ESPIPE) {
			*ret_to = l->hole.position;
			*ret_offset = l->hole.offset;
			return;
		}
		if (got <= 0)
			break;
		if (hfb_batch_search(sub->seed, at, l->buffer, (size_t)got, &found)) {
			*ret_to = found.position;
			*ret_offset = found.header.base_offset;
			return;
		}
		/* the last 56 bytes may begin one; at a segment's end nothing goes on */
		at += at + (uint64_t)got == l->file_end || got <= 56 ? (uint64_t)got
								     : (uint64_t)got - 56;
	}
	*ret_to = committed;
	*ret_offset = p->committed.offset;
}

static int
local_bad(struct hfb_sub *sub, enum hfb_fault fault, const struct hfb_batch_view *view,
	  struct hfb_err *err)
{
	struct hfb_local_source *l = sub->local;
	const struct hfb_positions *p;
	uint64_t skip = hfb_sub_batch_skip(fault, view), to, to_offset, start, now = hfb_now_ns();
	bool from_ring = l->in_ring;
	char path[512];

	sub->bytes_left = 0;
	if (l->generation != sub->bus->generation)
		return HFB_SOURCE_AGAIN;
	p = hfb_local_positions(sub);
	start = hfb_local_published(&p->start);
	if (sub->position < start)
		return retired(sub, start, p->start.offset);
	if (from_ring) {
		/* a ring replaced under us, or not filled so far back: the files have it soon */
		l->in_ring = false;
		if (l->waited_at != sub->position) {
			l->waited_at = sub->position;
			l->waited_since_ns = now;
			hfb_local_ring_unmap(l);
			l->ring_asked_ns = 0;
			return HFB_SOURCE_AGAIN;
		}
		if (sub->position < hfb_local_filed(p)) {
			l->not_ring_below = sub->position + 1;
			return HFB_SOURCE_AGAIN;
		}
		if (now - l->waited_since_ns < 100000000ull)
			return HFB_SOURCE_NONE;
	} else if (l->retried_at != sub->position) {
		/* once more from the disk itself, through a descriptor opened anew */
		l->retried_at = sub->position;
		if (l->fd >= 0)
			posix_fadvise(l->fd, 0, 0, POSIX_FADV_DONTNEED);
		hfb_local_file_close(l);
		return HFB_SOURCE_AGAIN;
	}
	/* damage: said with its place, and passed by */
	memcpy(path, from_ring ? "" : l->path, from_ring ? 1 : sizeof(path));
	if (skip > 0 && sub->position + skip <= hfb_local_published(&p->committed)) {
		to = sub->position + skip;
		to_offset = view->header.base_offset + view->header.count;
	} else {
		damage_end(sub, sub->position + 8, &to, &to_offset);
	}
	memcpy(l->path, path, sizeof(path));
	return hfb_sub_mark(sub, HFB_ITEM_CORRUPT, to, to_offset, 0, l->path);
}

/*
 * A stream's start is repeated in each segment before its first batch, so it
 * stands between the segment's base and us.
 */
static void
local_stream_search(struct hfb_sub *sub, uint64_t key)
{
	struct hfb_local_source *l = sub->local;
	uint64_t at, until = sub->view.position, size;
	uint8_t *chunk;
	struct hfb_err err;

	if (l->fd < 0 || until < l->file_base || until >= l->file_end) {
		/* in the ring, where the segment's file has not been needed yet */
		if (hfb_local_file_open(sub, until, &err) < 0)
			return;
	}
	chunk = malloc(BUFFER_BYTES);
	if (chunk == NULL)
		return;
	for (at = l->file_base; at < until;) {
		struct hfb_batch_view view;
		struct hfb_walk walk;
		enum hfb_fault fault;
		int64_t got;

		size = until - at < BUFFER_BYTES ? until - at : BUFFER_BYTES;
		if (at + size <= hfb_local_filed(hfb_local_positions(sub)))
			got = hfb_local_file_read(sub, at, chunk, size, &err);
		else
			got = hfb_local_ring_current(sub) && size <= l->ring_bytes &&
					      hfb_local_ring_copy(sub, at, chunk, size)
				      ? (int64_t)size
				      : -ENODATA;
		if (got == -ESPIPE) {
			at = l->hole.position;
			continue;
		}
		if (got <= 0)
			break;
		hfb_walk_init(&walk, sub->seed, at, chunk, (size_t)got);
		while ((fault = hfb_walk_next(&walk, HFB_CHECK_PAYLOAD, &view)) == HFB_FAULT_NONE) {
			if (view.control == HFB_CONTROL_STREAM_START)
				hfb_sub_stream_learn(sub, &view);
		}
		if (walk.position == at)
			break;
		at = walk.position;
		if (fault != HFB_FAULT_END && fault != HFB_FAULT_SHORT)
			break;
	}
	free(chunk);
	(void)key;
}

static bool
local_at_end(struct hfb_sub *sub)
{
	return sub->local->generation == sub->bus->generation && !sub->pending_set &&
	       sub->position >= hfb_local_published(&hfb_local_positions(sub)->committed);
}

static int
local_idle(struct hfb_sub *sub, uint64_t now_ns, struct hfb_err *err)
{
	int r = hfb_connection_check(sub->bus, now_ns, err);

	if (r == -ENOTCONN)
		return 0; /* patience: check says when it ends */
	return r == -ETIMEDOUT ? -ENOTCONN : r;
}

static bool
local_wait(struct hfb_sub *sub, uint64_t timeout_ns)
{
	struct hfb_local_source *l = sub->local;

	return l->ahead_on && hfb_ahead_wait(l->ahead, timeout_ns);
}

static void
local_close(struct hfb_sub *sub)
{
	struct hfb_local_source *l = sub->local;

	if (l == NULL)
		return;
	hfb_local_ring_unmap(l);
	hfb_local_file_close(l);
	hfb_local_ahead_free(l);
	free(l->buffer);
	free(l);
	sub->local = NULL;
}

static const struct hfb_source_ops local_ops = {
	.fill = local_fill,
	.bad = local_bad,
	.stream_search = local_stream_search,
	.at_end = local_at_end,
	.idle = local_idle,
	.wait = local_wait,
	.close = local_close,
};

uint32_t
hfb_sub_epoch_now(const struct hfb_sub *sub)
{
	return __atomic_load_n(&hfb_local_positions(sub)->leader_epoch, __ATOMIC_RELAXED);
}

int
hfb_sub_local_open(struct hfb_sub *sub, const struct hfb_sub_config *config, struct hfb_err *err)
{
	struct hfb_ipc_place_answer answer;
	struct hfb_local_source *l;
	uint64_t value = config->from == HFB_SUB_PLACE ? config->place.position : config->value;
	int r;

	l = calloc(1, sizeof(*l));
	if (l == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	l->fd = -1;
	l->retried_at = l->waited_at = NO_POSITION;
	l->files_only = config->files_only != 0;
	l->generation = sub->bus->generation;
	sub->local = l;
	sub->source = &local_ops;
	l->buffer = malloc(BUFFER_BYTES);
	if (l->buffer == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	r = lookup(sub, (uint16_t)config->from, value, &answer, err);
	if (r < 0)
		return r;
	if (config->from == HFB_SUB_PLACE && answer.code == HFB_WIRE_AT_END &&
	    answer.place.position < sub->position)
		answer.code = HFB_WIRE_TRUNCATED;
	if (config->from == HFB_SUB_PLACE &&
	    (answer.code == HFB_WIRE_OK || answer.code == HFB_WIRE_AT_END))
		return 0;
	if (answer.code == HFB_WIRE_TRUNCATED || answer.code == HFB_WIRE_BELOW_START) {
		/* told as the first item */
		if (config->from == HFB_SUB_PLACE || config->from == HFB_SUB_OFFSET) {
			sub->pending = answer;
			sub->pending_set = true;
			if (config->from == HFB_SUB_OFFSET)
				sub->offset = config->value;
			return 0;
		}
	} else if (answer.code != HFB_WIRE_OK && answer.code != HFB_WIRE_AT_END) {
		return hfb_err_set(err, -EPROTO, "hfbusd answers code %u to where to begin",
				   answer.code);
	}
	sub->beyond_end = config->from == HFB_SUB_OFFSET && answer.code == HFB_WIRE_AT_END;
	sub->position = answer.place.position;
	sub->offset = answer.place.offset;
	sub->epoch = answer.place.leader_epoch;
	/* a trim may have left the start inside a batch */
	if (config->from == HFB_SUB_EARLIEST)
		sub->skip_offset = answer.place.offset;
	return 0;
}
