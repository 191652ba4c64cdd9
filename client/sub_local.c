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
#include <sys/mman.h>
#include <unistd.h>

#include "compacted.h"
#include "read_ahead.h"
#include "sub_private.h"

#define BUFFER_BYTES  (HFB_BATCH_BYTES_MAX + HFB_SUB_CHUNK_BYTES)
#define NO_POSITION   UINT64_MAX
#define HUGE_ALIGN    (2u * HFB_MIB)
#define RING_RETRY_NS 10000000ull
#define SAMPLE_READS  16u /* one in so many is looked at for its latency */
/* Less is not worth reading ahead. */
#define AHEAD_FROM_BYTES (2u * HFB_AHEAD_CHUNK_BYTES)

struct hfb_local_source {
	uint32_t generation; /* of the bus: handle and ring are of it */
	bool files_only;
	uint8_t *buffer;
	/* ring */
	uint8_t *ring; /* mapped twice in a row */
	uint64_t ring_bytes;
	uint32_t ring_generation;
	bool in_ring;	  /* the last bytes came from there */
	bool live;	  /* it was at the end, or in the ring: may be lapped */
	bool reached_end; /* what comes now is new */
	uint64_t ring_asked_ns;
	uint64_t not_ring_below; /* distrusted: the files are asked below */
	/* file */
	int fd;
	uint64_t file_base, file_end;
	struct hfb_extents *extents;  /* of a compacted one, else NULL */
	struct hfb_extent_place hole; /* where it goes on, after -ESPIPE */
	struct hfb_ahead *ahead;      /* NULL: not needed yet, or refused */
	bool ahead_on;		      /* started with fd */
	bool ahead_refused;
	char path[512];
	uint64_t retried_at; /* position already read anew; NO_POSITION = none */
	uint64_t waited_at, waited_since_ns;
	uint64_t attach_ns;
};

static const struct hfb_positions *
positions(const struct hfb_sub *sub)
{
	return &sub->bus->positions[sub->handle];
}

static inline uint64_t
published(const struct hfb_mark *mark)
{
	/* pairs with the owner core's release */
	return __atomic_load_n(&mark->position, __ATOMIC_ACQUIRE);
}

/* What is durable is in a segment file up to here, and in the ring from here on. */
static inline uint64_t
filed(const struct hfb_positions *p)
{
	return __atomic_load_n(&p->filed, __ATOMIC_ACQUIRE);
}

/* Ring. -------------------------------------------------------------------------- */

static void
ring_unmap(struct hfb_local_source *l)
{
	if (l->ring != NULL)
		munmap(l->ring, l->ring_bytes * 2);
	l->ring = NULL;
	l->ring_bytes = 0;
}

/* No ring is no error: the files have everything durable, if a second later. */
static void
ring_map(struct hfb_sub *sub)
{
	struct hfb_local_source *l = sub->local;
	struct hfb_ipc_handle ask = { .handle = sub->handle };
	struct hfb_ipc_ring answer;
	size_t size = sizeof(answer), room;
	uint32_t n = 0;
	struct hfb_err err;
	uint8_t *area, *at;
	int fd;

	ring_unmap(l);
	l->ring_asked_ns = hfb_now_ns();
	if (hfb_connection_ask(sub->bus, HFB_IPC_RING_GET, &ask, sizeof(ask), &answer, &size, &fd,
			       1, &n, &err) < 0)
		return;
	if (n != 1)
		return;
	if (size < sizeof(answer) || answer.ring_bytes < 4096 ||
	    (answer.ring_bytes & (answer.ring_bytes - 1)) != 0) {
		close(fd);
		return;
	}
	/* both halves aligned for huge pages, whatever the memfd is made of */
	room = answer.ring_bytes * 2 + HUGE_ALIGN;
	area = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (area != MAP_FAILED) {
		at = (uint8_t *)(((uintptr_t)area + HUGE_ALIGN - 1) & ~(uintptr_t)(HUGE_ALIGN - 1));
		if (at > area)
			munmap(area, (size_t)(at - area));
		munmap(at + answer.ring_bytes * 2,
		       room - (size_t)(at - area) - answer.ring_bytes * 2);
		if (mmap(at, answer.ring_bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) ==
			    MAP_FAILED ||
		    mmap(at + answer.ring_bytes, answer.ring_bytes, PROT_READ,
			 MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
			munmap(at, answer.ring_bytes * 2);
		} else {
			l->ring = at;
			l->ring_bytes = answer.ring_bytes;
			l->ring_generation = answer.generation;
		}
	}
	close(fd);
}

/* The owner replaced the ring: we have the old memory, which nobody writes any more. */
static bool
ring_current(struct hfb_sub *sub)
{
	struct hfb_local_source *l = sub->local;
	uint32_t generation = __atomic_load_n(&positions(sub)->ring_generation, __ATOMIC_ACQUIRE);

	if (l->ring != NULL && l->ring_generation == generation)
		return true;
	if (!sub->bus->up || (l->ring == NULL && hfb_now_ns() - l->ring_asked_ns < RING_RETRY_NS))
		return false;
	ring_map(sub);
	return l->ring != NULL && l->ring_generation == generation;
}

/* Copy [@position, + @size). 1 done, 0 it is not (any more) there. */
static int
ring_copy(struct hfb_sub *sub, uint64_t position, uint8_t *to, uint64_t size)
{
	struct hfb_local_source *l = sub->local;
	const struct hfb_positions *p = positions(sub);
	uint64_t intent = published(&p->intent), reach = l->ring_bytes;

	/* Entering needs some distance, else we would be thrown out again at once. Not where
	 * nothing overwrites us, since the disk does not have it yet: no file has it either. */
	if (!l->in_ring && position < filed(p))
		reach -= reach / 8;
	if (position > intent || intent - position > reach)
		return 0;
	memcpy(to, l->ring + (position & (l->ring_bytes - 1)), size);
	/* the copy's loads before the look at intent; pairs with the owner's store of intent
	 * before it overwrites */
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	intent = __atomic_load_n(&p->intent.position, __ATOMIC_RELAXED);
	if (intent - position > l->ring_bytes)
		return 0;
	return __atomic_load_n(&p->ring_generation, __ATOMIC_ACQUIRE) == l->ring_generation;
}

/* Files. -------------------------------------------------------------------------- */

static void
file_close(struct hfb_local_source *l)
{
	if (l->ahead_on)
		hfb_ahead_stop(l->ahead);
	l->ahead_on = false;
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
	l->file_base = l->file_end = 0;
	free(l->extents);
	l->extents = NULL;
}

/*
 * What the file is it says itself: it may have been replaced by its compacted form since
 * hfbusd looked. 0, or why it cannot be read.
 */
static int
file_kind(struct hfb_local_source *l, struct hfb_err *err)
{
	struct {
		struct hfb_segment_header h;
		uint8_t rest[HFB_COMPACTED_AT + sizeof(struct hfb_compacted_header) -
			     sizeof(struct hfb_segment_header)];
	} block;
	struct hfb_compacted_header head;
	ssize_t n = pread(l->fd, &block, sizeof(block), 0);
	size_t size;

	/* A damaged header is no hindrance: what is behind it proves itself, or is damage. */
	if (n < (ssize_t)sizeof(block) || block.h.magic != HFB_SEGMENT_MAGIC ||
	    block.h.base_position != l->file_base || block.h.kind != HFB_SEGMENT_COMPACTED ||
	    hfb_compacted_head(&block, sizeof(block), &block.h, &head) < 0)
		return 0;
	size = (head.extents_count + 1) * sizeof(l->extents->entries[0]);
	l->extents = malloc(sizeof(*l->extents) + size);
	if (l->extents == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory for the extents of %s", l->path);
	l->extents->count = head.extents_count;
	for (size_t done = 0; done < size; done += (size_t)n) {
		n = pread(l->fd, (uint8_t *)l->extents->entries + done, size - done,
			  (off_t)(HFB_SEGMENT_HEADER_BYTES + head.data_bytes + done));
		if (n <= 0)
			break;
	}
	if (n <= 0 || !hfb_extents_check(&block.h, &head, l->extents->entries)) {
		free(l->extents);
		l->extents = NULL;
		return 0;
	}
	l->file_end = l->file_base + block.h.capacity_bytes;
	return 0;
}

static void
ahead_free(struct hfb_local_source *l)
{
	hfb_ahead_destroy(l->ahead);
	l->ahead = NULL;
	l->ahead_on = false;
}

/* 0, -ENODATA below start, -ENOTCONN, or why it cannot be had. */
static int
file_open(struct hfb_sub *sub, uint64_t position, struct hfb_err *err)
{
	struct hfb_local_source *l = sub->local;
	struct hfb_ipc_read ask = { .handle = sub->handle, .position = position };
	struct hfb_ipc_segment answer;
	size_t size = sizeof(answer);
	uint32_t n = 0;
	int fd, r;

	file_close(l);
	r = hfb_connection_ask(sub->bus, HFB_IPC_SEGMENT_GET, &ask, sizeof(ask), &answer, &size,
			       &fd, 1, &n, err);
	if (r < 0)
		return r;
	if (size < sizeof(answer) || n != 1) {
		if (n == 1)
			close(fd);
		return hfb_err_set(err, -EPROTO,
				   "hfbusd's answer about a segment is not understood");
	}
	l->fd = fd;
	l->file_base = answer.base_position;
	l->file_end = answer.base_position + answer.capacity_bytes;
	if (answer.end_position < l->file_end)
		l->file_end = answer.end_position;
	answer.path[sizeof(answer.path) - 1] = '\0';
	memcpy(l->path, answer.path, sizeof(l->path));
	return file_kind(l, err);
}

/*
 * Read up to @size bytes at @position, which must be filed that far.
 * Returns how many (a segment's end may cut them), -ESPIPE (compaction left nothing
 * here, ->hole says where it goes on), or an error as above.
 */
static int64_t
file_read(struct hfb_sub *sub, uint64_t position, uint8_t *to, uint64_t size, struct hfb_err *err)
{
	struct hfb_local_source *l = sub->local;
	uint64_t done = 0, from;
	int r;

	if (l->fd < 0 || position < l->file_base || position >= l->file_end) {
		r = file_open(sub, position, err);
		if (r < 0)
			return r;
		if (position < l->file_base || position >= l->file_end)
			return -ENODATA;
	}
	if (size > l->file_end - position)
		size = l->file_end - position;
	from = HFB_SEGMENT_HEADER_BYTES + (position - l->file_base);
	if (l->extents != NULL) {
		if (!hfb_extents_find(l->extents->entries, l->extents->count, position, &l->hole))
			return -ESPIPE;
		from = l->hole.at;
		if (size > l->hole.bytes)
			size = l->hole.bytes;
	}
	while (done < size) {
		ssize_t n = pread(l->fd, to + done, size - done, (off_t)(from + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return hfb_err_set(err, -EIO, "cannot read %s at position %llu: %s",
					   l->path, (unsigned long long)(position + done),
					   strerror(errno));
		if (n == 0)
			break;
		done += (uint64_t)n;
	}
	/* a file cut short: zeros are no batch, so this is found to be damage */
	if (done < size)
		memset(to + done, 0, size - done);
	return (int64_t)size;
}

/*
 * Old data by large reads ahead of us. Up to @limit, at least @need bytes.
 * Returns how many with sub->bytes set, 0: on their way, -ENODATA: not in this way.
 */
static int64_t
ahead_read(struct hfb_sub *sub, uint64_t limit, uint64_t need, struct hfb_err *err)
{
	struct hfb_local_source *l = sub->local;
	int64_t got;

	if (l->ahead_refused || (!l->ahead_on && limit - sub->position < AHEAD_FROM_BYTES))
		return -ENODATA;
	if ((l->fd < 0 || sub->position < l->file_base || sub->position >= l->file_end) &&
	    file_open(sub, sub->position, err) < 0)
		return -ENODATA; /* asked again and told by file_read() */
	if (l->extents != NULL)
		return -ENODATA; /* positions have holes in a compacted one */
	if (limit > l->file_end)
		limit = l->file_end;
	if (limit <= sub->position)
		return -ENODATA;
	if (!l->ahead_on) {
		/* refused: no memory, or a file system without O_DIRECT */
		if ((l->ahead == NULL && hfb_ahead_create(&l->ahead) < 0) ||
		    hfb_ahead_start(l->ahead, l->fd, l->file_base, HFB_SEGMENT_HEADER_BYTES,
				    sub->position) < 0)
			l->ahead_refused = true;
		if (l->ahead_refused)
			return -ENODATA;
		l->ahead_on = true;
	}
	if (hfb_ahead_reach(l->ahead, sub->position, limit) < need)
		return -ENODATA;
	got = hfb_ahead_look(l->ahead, sub->position, limit, &sub->bytes);
	if (got < 0) {
		hfb_ahead_stop(l->ahead);
		l->ahead_on = false;
		return got;
	}
	if ((uint64_t)got < need)
		return 0;
	sub->bytes_left = (uint64_t)got;
	return got;
}

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
	file_close(l);
	ring_unmap(l);
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
	p = positions(sub);
	committed = published(&p->committed);
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
	if (!l->files_only && sub->position >= l->not_ring_below && ring_current(sub)) {
		if (size <= l->ring_bytes && ring_copy(sub, sub->position, l->buffer, size)) {
			l->in_ring = l->live = true;
			if (l->ahead != NULL)
				ahead_free(l);
			sub->bytes = l->buffer;
			sub->bytes_left = size;
			sub->sampled_tsc = 0;
			if (sub->stats.ring_reads++ % SAMPLE_READS == 0 && l->reached_end)
				sub->sampled_tsc = turn_tsc;
			return HFB_SOURCE_FILLED;
		}
		if (l->live && l->ring != NULL &&
		    published(&p->intent) - sub->position > l->ring_bytes) {
			l->in_ring = l->live = l->reached_end = false;
			return hfb_sub_mark(sub, HFB_ITEM_LAPPED, sub->position, sub->offset, 0,
					    NULL);
		}
	}
	in_files = filed(p);
	limit = committed < in_files ? committed : in_files;
	if (limit <= sub->position)
		return HFB_SOURCE_NONE;
	got = ahead_read(sub, limit, need, err);
	if (got == 0)
		return HFB_SOURCE_NONE;
	if (got > 0) {
		l->in_ring = false;
		sub->stats.file_reads++;
		return HFB_SOURCE_FILLED;
	}
	if (size > limit - sub->position)
		size = limit - sub->position;
	got = file_read(sub, sub->position, l->buffer, size, err);
	if (got == -ENODATA) {
		uint64_t start = published(&p->start), offset = p->start.offset;

		if (sub->position < start)
			return retired(sub, start, offset);
		/* the segment is being sealed or rolled: its end has just been said */
		file_close(l);
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
	const struct hfb_positions *p = positions(sub);
	uint64_t committed = published(&p->committed), at = from;
	struct hfb_batch_view found;
	struct hfb_err err;

	while (at < committed) {
		uint64_t size = committed - at < BUFFER_BYTES ? committed - at : BUFFER_BYTES;
		uint64_t in_files = filed(p);
		int64_t got = -ENODATA;

		if (at < in_files)
			got = file_read(sub, at, l->buffer,
					size < in_files - at ? size : in_files - at, &err);
		else if (ring_current(sub) && size <= l->ring_bytes &&
			 ring_copy(sub, at, l->buffer, size))
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
	p = positions(sub);
	start = published(&p->start);
	if (sub->position < start)
		return retired(sub, start, p->start.offset);
	if (from_ring) {
		/* a ring replaced under us, or not filled so far back: the files have it soon */
		l->in_ring = false;
		if (l->waited_at != sub->position) {
			l->waited_at = sub->position;
			l->waited_since_ns = now;
			ring_unmap(l);
			l->ring_asked_ns = 0;
			return HFB_SOURCE_AGAIN;
		}
		if (sub->position < filed(p)) {
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
		file_close(l);
		return HFB_SOURCE_AGAIN;
	}
	/* damage: said with its place, and passed by */
	memcpy(path, from_ring ? "" : l->path, from_ring ? 1 : sizeof(path));
	if (skip > 0 && sub->position + skip <= published(&p->committed)) {
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
		if (file_open(sub, until, &err) < 0)
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
		if (at + size <= filed(positions(sub)))
			got = file_read(sub, at, chunk, size, &err);
		else
			got = ring_current(sub) && size <= l->ring_bytes &&
					      ring_copy(sub, at, chunk, size)
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
	       sub->position >= published(&positions(sub)->committed);
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
	ring_unmap(l);
	file_close(l);
	ahead_free(l);
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
	sub->position = answer.place.position;
	sub->offset = answer.place.offset;
	sub->epoch = answer.place.leader_epoch;
	/* a trim may have left the start inside a batch */
	if (config->from == HFB_SUB_EARLIEST)
		sub->skip_offset = answer.place.offset;
	return 0;
}
