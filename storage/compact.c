/* SPDX-License-Identifier: Apache-2.0 */
#include "compact.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bug.h"
#include "batch.h"
#include "crc32c.h"
#include "env.h"
#include "segment.h"
#include "segment_reader.h"
#include "siphash.h"

#define OUT_BYTES  (HFB_MIB + HFB_BATCH_BYTES_MAX)
#define SYNC_BYTES (8u * HFB_MIB) /* a little at a time, so that writers do not wait long */
#define PRODUCERS  4096u	  /* remembered a segment; of more the batches all stay */

/* Keys and the offset of their last event. */
struct key {
	uint64_t low, high;
	uint64_t offset_1; /* offset + 1; 0 = free */
};

struct map {
	struct key *keys;
	uint64_t mask, count;
	struct hfb_siphash_key seed[2];
};

/* A producer's last batch in the segment at hand. */
struct producer {
	uint64_t id, position;
};

struct pass {
	struct hfb_compact_job *job;
	struct map map;
	struct hfb_segment_reader reader;
	struct producer *producers;
	uint32_t producers_count;
	bool producers_all;
	/* the file being made */
	int fd;
	uint8_t *out;
	uint64_t out_used, written, unsynced;
	struct hfb_compacted_extent *extents;
	uint32_t extents_count, extents_room;
	uint64_t extent_end; /* position behind the last batch taken */
	struct hfb_compacted_run *runs;
};

/* Keys ------------------------------------------------------------------------ */

static bool
keyed(const struct hfb_record_view *r)
{
	return r->key != NULL && r->key_size > 0;
}

static struct key *
map_find(const struct map *map, const struct hfb_record_view *r, struct key *ret_wanted)
{
	uint64_t low = hfb_siphash(&map->seed[0], r->key, r->key_size);
	uint64_t high = hfb_siphash(&map->seed[1], r->key, r->key_size), at = low & map->mask;

	while (map->keys[at].offset_1 != 0 &&
	       (map->keys[at].low != low || map->keys[at].high != high))
		at = (at + 1) & map->mask;
	ret_wanted->low = low;
	ret_wanted->high = high;
	return &map->keys[at];
}

static int
map_init(struct pass *p, uint64_t keys_max)
{
	uint64_t room = 1024;

	while (room * 2 / 3 < keys_max)
		room *= 2;
	/* pages nobody touches are not there */
	p->map.keys = calloc(room, sizeof(*p->map.keys));
	p->map.mask = room - 1;
	hfb_env_random(p->job->env, p->map.seed, sizeof(p->map.seed));
	return p->map.keys == NULL ? -ENOMEM : 0;
}

/* Is a later event of its key known? */
static bool
superseded(const struct pass *p, const struct hfb_record_view *r, uint64_t offset)
{
	struct key wanted;
	const struct key *key;

	if (p->map.count == 0)
		return false;
	key = map_find(&p->map, r, &wanted);
	return key->offset_1 > offset + 1;
}

/* Reading ---------------------------------------------------------------------- */

static int
segment_open(struct pass *p, const struct hfb_compact_segment *s, struct hfb_err *err)
{
	const struct hfb_compact_job *job = p->job;
	const struct hfb_segment_place_in_log place = {
		.base_position = s->base_position,
		.capacity_bytes = s->capacity_bytes,
		.kind = s->kind,
	};
	char path[HFB_PATH_MAX];

	if (hfb_segment_path(path, sizeof(path), job->folder, s->base_position, ".seg") < 0)
		return hfb_err_set(err, -ENAMETOOLONG, "%s: path too long", job->folder);
	return hfb_segment_reader_open(&p->reader, job->env, path,
				       hfb_batch_seed(&job->topic, job->partition), &place,
				       s->base_position, err);
}

/* 1 a batch, 0 the segment's end, or -errno. */
static int
segment_next(struct pass *p, const struct hfb_compact_segment *s, struct hfb_batch_view *v,
	     struct hfb_err *err)
{
	uint64_t before = p->reader.scan.read_bytes;
	enum hfb_fault fault = hfb_segment_reader_next(&p->reader, HFB_CHECK_ALL, v);

	if (p->reader.scan.read_bytes != before &&
	    !p->job->pace(p->job->arg, p->reader.scan.read_bytes - before))
		return hfb_err_set(err, -ECANCELED, "compaction was stopped");
	if (fault == HFB_FAULT_NONE)
		return 1;
	if (fault == HFB_FAULT_END)
		return 0;
	if (p->reader.scan.error < 0)
		return hfb_err_set(err, p->reader.scan.error,
				   "%s: reading the segment at %" PRIu64 ": %s", p->job->folder,
				   s->base_position, strerror(-p->reader.scan.error));
	return hfb_err_set(err, -EBADMSG,
			   "%s: the segment at %" PRIu64 " is damaged at %" PRIu64
			   " (%s): not compacted from there on",
			   p->job->folder, s->base_position, p->reader.scan.position,
			   hfb_fault_name(fault));
}

/* The keys of one segment go into the map. */
static int
segment_keys(struct pass *p, const struct hfb_compact_segment *s, struct hfb_err *err)
{
	struct hfb_batch_view v;
	int r = segment_open(p, s, err);

	if (r < 0)
		return r;
	while ((r = segment_next(p, s, &v, err)) == 1) {
		struct hfb_record_view record;

		hfb_record_first(&v, &record);
		while (hfb_record_next(&record)) {
			struct key wanted, *key;

			if (!keyed(&record))
				continue;
			key = map_find(&p->map, &record, &wanted);
			if (key->offset_1 == 0) {
				hfb_assert(p->map.count < p->map.mask);
				p->map.count++;
			}
			wanted.offset_1 = v.header.base_offset + record.index + 1;
			*key = wanted;
		}
	}
	hfb_segment_reader_close(&p->reader);
	return r;
}

/* What stays ---------------------------------------------------------------------- */

static void
producer_note(struct pass *p, const struct hfb_batch_view *v)
{
	if (v->header.producer_id == 0 || p->producers_all)
		return;
	/* the last one is most often the same again */
	for (uint32_t i = p->producers_count; i-- > 0;) {
		if (p->producers[i].id == v->header.producer_id) {
			p->producers[i].position = v->position;
			return;
		}
	}
	if (p->producers_count == PRODUCERS) {
		p->producers_all = true;
		return;
	}
	p->producers[p->producers_count++] =
		(struct producer){ .id = v->header.producer_id, .position = v->position };
}

static bool
producer_last(const struct pass *p, const struct hfb_batch_view *v)
{
	if (v->header.producer_id == 0)
		return false;
	if (p->producers_all)
		return true;
	for (uint32_t i = 0; i < p->producers_count; i++)
		if (p->producers[i].id == v->header.producer_id)
			return p->producers[i].position == v->position;
	return false;
}

static bool
record_stays(struct pass *p, const struct hfb_batch_view *v, const struct hfb_record_view *r)
{
	struct hfb_compact_job *job = p->job;
	uint64_t at = v->header.timestamp_ns;

	if (!keyed(r))
		return true;
	if (superseded(p, r, v->header.base_offset + r->index))
		return false;
	if (r->value != NULL)
		return true;
	if (job->now_ns > at && job->now_ns - at > job->tombstone_ns)
		return false;
	if (job->tombstone_first_ns == 0 || at < job->tombstone_first_ns)
		job->tombstone_first_ns = at;
	return true;
}

/* How many records of a batch stay; *@ret_all: it stays as it is. */
static uint32_t
batch_stays(struct pass *p, const struct hfb_batch_view *v, bool *ret_all)
{
	struct hfb_record_view record;
	uint32_t stay = 0, all = 0;

	if (v->control != 0) {
		*ret_all = v->control != HFB_CONTROL_PADDING;
		return 0;
	}
	hfb_record_first(v, &record);
	while (hfb_record_next(&record)) {
		all++;
		stay += record_stays(p, v, &record);
	}
	*ret_all = stay == all && (stay > 0 || producer_last(p, v));
	return stay;
}

/* Would writing a segment anew change anything? Remembers its producers on the way. */
static int
segment_look(struct pass *p, const struct hfb_compact_segment *s, bool *ret_changes,
	     struct hfb_err *err)
{
	struct hfb_batch_view v;
	int r = segment_open(p, s, err);

	*ret_changes = false;
	p->producers_count = 0;
	p->producers_all = false;
	if (r < 0)
		return r;
	while ((r = segment_next(p, s, &v, err)) == 1) {
		struct hfb_record_view record;

		producer_note(p, &v);
		*ret_changes |= v.control == HFB_CONTROL_PADDING;
		hfb_record_first(&v, &record);
		while (!*ret_changes && hfb_record_next(&record))
			*ret_changes = !record_stays(p, &v, &record);
	}
	hfb_segment_reader_close(&p->reader);
	return r;
}

/* Writing -------------------------------------------------------------------------- */

static int
out_flush(struct pass *p, uint64_t bytes, struct hfb_err *err)
{
	struct hfb_env *env = p->job->env;
	int r = hfb_env_pwrite(env, p->fd, p->out, bytes, HFB_SEGMENT_HEADER_BYTES + p->written);

	p->unsynced += bytes;
	if (r == 0 && p->unsynced >= SYNC_BYTES) {
		r = hfb_env_fdatasync(env, p->fd);
		p->unsynced = 0;
	}
	if (r < 0)
		return hfb_err_set(err, r, "%s: writing a compacted segment: %s", p->job->folder,
				   strerror(-r));
	p->written += bytes;
	memmove(p->out, p->out + bytes, p->out_used - bytes);
	p->out_used -= bytes;
	return p->job->pace(p->job->arg, bytes)
		       ? 0
		       : hfb_err_set(err, -ECANCELED, "compaction was stopped");
}

static int
extent_note(struct pass *p, const struct hfb_batch_view *v)
{
	struct hfb_compacted_extent *e;

	if (p->extents_count > 0 && p->extent_end == v->position)
		return 0;
	if (p->extents_count + 1 >= p->extents_room) {
		uint32_t room = p->extents_room == 0 ? 256 : p->extents_room * 2;

		e = realloc(p->extents, room * sizeof(*e));
		if (e == NULL)
			return -ENOMEM;
		p->extents = e;
		p->extents_room = room;
	}
	p->extents[p->extents_count++] = (struct hfb_compacted_extent){
		.position = v->position,
		.at = p->written + p->out_used,
		.offset = v->header.base_offset,
	};
	return 0;
}

/*
 * The batch without the records that go. It never grows: a record that goes has a key, so
 * takes 24 bytes at least, while a run more takes 8, and the head 8 and the first run 8.
 */
static uint32_t
batch_shrink(struct pass *p, const struct hfb_batch_view *v, uint8_t *to)
{
	const uint32_t before = (uint32_t)(v->payload - v->bytes);
	struct hfb_compacted_records head = { 0 };
	struct hfb_batch b = v->header;
	struct hfb_record_view r;
	uint32_t bytes = 0, start, size;

	hfb_record_first(v, &r);
	for (const uint8_t *at = r.at; hfb_record_next(&r); at = r.at) {
		if (!record_stays(p, v, &r))
			continue;
		if (head.runs > 0 &&
		    p->runs[head.runs - 1].first + p->runs[head.runs - 1].count == r.index)
			p->runs[head.runs - 1].count++;
		else
			p->runs[head.runs++] = (struct hfb_compacted_run){ r.index, 1 };
		head.records++;
		bytes += (uint32_t)(r.at - at);
	}
	start = before + (uint32_t)(sizeof(head) + head.runs * sizeof(p->runs[0]));
	size = start + bytes;
	hfb_assert(size <= v->header.size);
	memcpy(to, v->bytes, before);
	memcpy(to + before, &head, sizeof(head));
	memcpy(to + before + sizeof(head), p->runs, head.runs * sizeof(p->runs[0]));
	bytes = start;
	hfb_record_first(v, &r);
	for (const uint8_t *at = r.at; hfb_record_next(&r); at = r.at) {
		if (!record_stays(p, v, &r))
			continue;
		memcpy(to + bytes, at, (size_t)(r.at - at));
		bytes += (uint32_t)(r.at - at);
	}
	b.size = size;
	b.encoding = HFB_ENCODING_COMPACTED;
	b.payload_crc = hfb_crc32c(0, to + before, size - before);
	/* what it claims was durable then is so all the more now */
	b.durable_lag = UINT32_MAX;
	b.header_crc =
		hfb_batch_crc(hfb_batch_seed(&p->job->topic, p->job->partition), v->position, &b);
	memcpy(to, &b, sizeof(b));
	return size;
}

static int
batch_write(struct pass *p, const struct hfb_batch_view *v, struct hfb_err *err)
{
	uint8_t *to = p->out + p->out_used;
	uint32_t stay, size = v->header.size;
	bool all;

	stay = batch_stays(p, v, &all);
	if (!all && (v->control != 0 || (stay == 0 && !producer_last(p, v)))) {
		p->job->events_removed += v->control == 0 ? v->header.count : 0;
		return 0;
	}
	if (extent_note(p, v) < 0)
		return hfb_err_set(err, -ENOMEM, "%s: no memory for extents", p->job->folder);
	if (all)
		memcpy(to, v->bytes, size);
	else
		size = batch_shrink(p, v, to);
	p->job->events_removed += v->control == 0 && !all ? v->header.count - stay : 0;
	p->out_used += size;
	p->extent_end = v->position + size;
	return p->out_used < HFB_MIB ? 0 : out_flush(p, HFB_MIB, err);
}

/* Header block and extents: the file is whole. */
static int
file_end(struct pass *p, const struct hfb_compact_segment *s, const char *path, struct hfb_err *err)
{
	struct hfb_env *env = p->job->env;
	struct hfb_compacted_header head = {
		.base_offset = s->base_offset,
		.end_offset = s->end_offset,
		.first_timestamp_ns = s->first_timestamp_ns,
		.last_timestamp_ns = s->last_timestamp_ns,
		.extents_count = p->extents_count,
	};
	struct hfb_segment_header h = {
		.topic = p->job->topic,
		.partition = p->job->partition,
		.kind = HFB_SEGMENT_COMPACTED,
		.base_position = s->base_position,
		.capacity_bytes = s->capacity_bytes,
		.created_ns = p->job->now_ns,
	};
	struct hfb_compacted_extent none;
	uint8_t *block;
	uint64_t size;
	int r = 0;

	if (p->out_used > 0)
		r = out_flush(p, p->out_used, err);
	if (r < 0)
		return r;
	if (p->extents == NULL)
		p->extents = malloc(sizeof(none));
	block = calloc(1, HFB_SEGMENT_HEADER_BYTES);
	if (block == NULL || p->extents == NULL) {
		free(block);
		return hfb_err_set(err, -ENOMEM, "%s: no memory", path);
	}
	p->extents[p->extents_count] = (struct hfb_compacted_extent){
		.position = s->base_position + s->capacity_bytes,
		.at = p->written,
		.offset = s->end_offset,
	};
	size = (p->extents_count + 1) * sizeof(p->extents[0]);
	head.data_bytes = p->written;
	head.extents_crc = hfb_crc32c(0, p->extents, size);
	hfb_compacted_head_seal(&head);
	hfb_segment_header_seal(&h);
	memcpy(block, &h, sizeof(h));
	memcpy(block + HFB_COMPACTED_AT, &head, sizeof(head));
	r = hfb_env_pwrite(env, p->fd, p->extents, size, HFB_SEGMENT_HEADER_BYTES + p->written);
	/* whole blocks: it is read directly */
	size += HFB_SEGMENT_HEADER_BYTES + p->written;
	if (r == 0)
		r = hfb_env_truncate(env, p->fd,
				     (size + HFB_BLOCK_BYTES - 1) &
					     ~(uint64_t)(HFB_BLOCK_BYTES - 1));
	if (r == 0)
		r = hfb_env_pwrite(env, p->fd, block, HFB_SEGMENT_HEADER_BYTES, 0);
	if (r == 0)
		r = hfb_env_fsync(env, p->fd);
	free(block);
	return r < 0 ? hfb_err_set(err, r, "%s: %s", path, strerror(-r)) : 0;
}

static int
segment_rewrite(struct pass *p, uint32_t i, struct hfb_err *err)
{
	struct hfb_compact_job *job = p->job;
	const struct hfb_compact_segment *s = &job->segments[i];
	char path[HFB_PATH_MAX];
	struct hfb_batch_view v;
	int r;

	if (hfb_segment_path(path, sizeof(path), job->folder, s->base_position,
			     HFB_COMPACT_SUFFIX) < 0)
		return hfb_err_set(err, -ENAMETOOLONG, "%s: path too long", job->folder);
	r = segment_open(p, s, err);
	if (r < 0)
		return r;
	job->bytes_before +=
		p->reader.extents != NULL ? p->reader.head.data_bytes : s->capacity_bytes;
	p->out_used = p->written = p->unsynced = 0;
	p->extents_count = 0;
	p->fd = hfb_env_open(job->env, path, O_RDWR | O_CREAT | O_TRUNC, 0644);
	if (p->fd < 0) {
		r = hfb_err_set(err, p->fd, "%s: %s", path, strerror(-p->fd));
	} else {
		while ((r = segment_next(p, s, &v, err)) == 1) {
			r = batch_write(p, &v, err);
			if (r < 0)
				break;
		}
		if (r == 0)
			r = file_end(p, s, path, err);
		hfb_env_close(job->env, p->fd);
	}
	hfb_segment_reader_close(&p->reader);
	job->bytes_after += p->written;
	if (r == 0) {
		r = job->ready(job->arg, i, path, p->written);
		if (r < 0)
			hfb_err_set(err, r, "%s: cannot take its segment's place: %s", path,
				    strerror(-r));
	}
	if (r < 0)
		hfb_env_unlink(job->env, path);
	return r;
}

/* The whole ------------------------------------------------------------------------ */

/* Retired since the pass began: there is nothing to keep of it. */
static bool
retired(const struct hfb_compact_job *job, const struct hfb_compact_segment *s)
{
	return job->start_position != NULL &&
	       s->base_position + s->capacity_bytes <=
		       /* pairs with the release of a core that moved it */
		       __atomic_load_n(job->start_position, __ATOMIC_ACQUIRE);
}

static int
pass_run(struct pass *p, struct hfb_err *err)
{
	struct hfb_compact_job *job = p->job;
	uint32_t end = job->dirty_from;
	uint64_t keys = 0;
	int r = 0;

	/* As many dirty segments as there may be keys, one at least. */
	while (end < job->segments_count &&
	       (end == job->dirty_from ||
		keys + job->segments[end].end_offset - job->segments[end].base_offset <=
			job->keys_max)) {
		keys += job->segments[end].end_offset - job->segments[end].base_offset;
		end++;
	}
	if (map_init(p, keys) < 0)
		return hfb_err_set(err, -ENOMEM, "%s: no memory for %" PRIu64 " keys", job->folder,
				   keys);
	for (uint32_t i = job->dirty_from; i < end && r == 0; i++) {
		r = segment_keys(p, &job->segments[i], err);
		if (r < 0 && r != -ECANCELED && retired(job, &job->segments[i])) {
			hfb_segment_reader_close(&p->reader);
			r = 0;
		}
	}
	for (uint32_t i = 0; i < end && r == 0; i++) {
		bool changes;

		r = segment_look(p, &job->segments[i], &changes, err);
		if (r == 0 && (changes || i >= job->dirty_from))
			r = segment_rewrite(p, i, err);
		if (r < 0 && r != -ECANCELED && retired(job, &job->segments[i])) {
			hfb_segment_reader_close(&p->reader);
			r = 0;
		}
		if (r == 0 && i >= job->dirty_from)
			job->segments_done++;
	}
	return r;
}

int
hfb_compact_run(struct hfb_compact_job *job, struct hfb_err *err)
{
	struct pass p = { .job = job, .fd = -1 };
	int r;

	if (job->tombstone_ns == 0)
		job->tombstone_ns = HFB_TOMBSTONE_NS_DEFAULT;
	job->events_removed = job->bytes_before = job->bytes_after = 0;
	job->tombstone_first_ns = 0;
	job->segments_done = 0;
	p.out = malloc(OUT_BYTES);
	p.producers = malloc(PRODUCERS * sizeof(*p.producers));
	p.runs = malloc(HFB_BATCH_EVENTS_MAX * sizeof(*p.runs));
	if (p.out == NULL || p.producers == NULL || p.runs == NULL)
		r = hfb_err_set(err, -ENOMEM, "%s: no memory for compaction", job->folder);
	else
		r = pass_run(&p, err);
	hfb_segment_reader_fini(&p.reader);
	free(p.map.keys);
	free(p.out);
	free(p.producers);
	free(p.runs);
	free(p.extents);
	return r;
}
