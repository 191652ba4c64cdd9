/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recover.c - what a partition's folder holds after whatever happened to it.
 *
 *	list the folder			segments by name
 *	load the checkpoint		refused by name: go on without
 *	read each segment's header	bad: reported, base from the name
 *	sealed segments			recover_sealed.c: their index tells all; bad or missing:
 *scan walk from the checkpoint on	recover_walk.c: batches, corruption, the end classify what
 *lies behind	unused, stray
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bug.h"
#include "compacted.h"
#include "crc32c.h"
#include "env.h"
#include "file.h"
#include "recover.h"
#include "recover_private.h"

#define REACH_DEFAULT HFB_RING_BYTES_MAX

/* The folder. --------------------------------------------------------------- */

struct listing {
	struct hfb_recovered *ret;
	uint32_t max;
	int error;
};

static void
folder_entry(void *arg, const char *name, bool is_folder)
{
	struct listing *l = arg;
	struct hfb_recovered *ret = l->ret;
	struct hfb_recovered_segment *s;
	uint64_t base;

	if (is_folder || l->error < 0 || !hfb_segment_name_parse(name, &base))
		return;
	if (ret->segments_count == l->max) {
		uint32_t max = l->max == 0 ? 8 : l->max * 2;

		s = realloc(ret->segments, max * sizeof(*s));
		if (s == NULL) {
			l->error = -ENOMEM;
			return;
		}
		ret->segments = s;
		l->max = max;
	}
	s = &ret->segments[ret->segments_count++];
	memset(s, 0, sizeof(*s));
	s->base_position = s->end_position = base;
	snprintf(s->name, sizeof(s->name), "%s", name);
}

static int
by_base(const void *a, const void *b)
{
	const struct hfb_recovered_segment *x = a, *y = b;

	return (x->base_position > y->base_position) - (x->base_position < y->base_position);
}

/* The header, and whether anything follows it. */
static int
segment_inspect(struct hfb_recovery *r, const struct hfb_recover_config *config,
		struct hfb_recovered_segment *s, struct hfb_err *err)
{
	uint8_t block[2 * HFB_SEGMENT_HEADER_BYTES];
	struct hfb_compacted_header head;
	struct hfb_segment_header h;
	struct hfb_err why;
	char path[HFB_PATH_MAX];
	uint64_t size;
	int64_t n;
	int fd, ret;

	ret = hfb_recover_path(r, s, ".seg", path, err);
	if (ret < 0)
		return ret;
	ret = hfb_file_open(r->env, path, &fd, &size, err);
	if (ret < 0)
		return ret;
	n = hfb_file_read(r->env, fd, block, sizeof(block), 0);
	hfb_file_close(r->env, fd);
	if (n < 0)
		return hfb_err_set(err, (int)n, "%s: read: %s", path, strerror((int)-n));
	s->blank = true;
	for (int64_t i = HFB_SEGMENT_HEADER_BYTES; i < n && s->blank; i++)
		s->blank = block[i] == 0;
	ret = hfb_segment_header_parse(block, (size_t)n, &config->topic, config->partition, &h,
				       &why);
	if (ret == 0 && h.base_position != s->base_position)
		ret = hfb_err_set(&why, -EBADMSG, "header: says it begins at %" PRIu64,
				  h.base_position);
	if (ret == 0) {
		s->capacity_bytes = h.capacity_bytes;
		s->kind = h.kind;
		s->generation = h.generation;
		/* Its extents are looked at when it is read or has to be scanned. */
		if (h.kind == HFB_SEGMENT_COMPACTED &&
		    hfb_compacted_head(block, (size_t)n, &h, &head) == 0)
			s->data_bytes = head.data_bytes;
		return 0;
	}
	/* Each batch proves itself, so the data does not need the header. */
	s->header_bad = true;
	s->kind = HFB_SEGMENT_LOG;
	size = size > HFB_SEGMENT_HEADER_BYTES ? size - HFB_SEGMENT_HEADER_BYTES : 0;
	if (size > HFB_SEGMENT_BYTES_MAX)
		size = HFB_SEGMENT_BYTES_MAX;
	s->capacity_bytes = size & ~(uint64_t)(HFB_SEGMENT_HEADER_BYTES - 1);
	if (!s->blank)
		hfb_recover_note(r, "%s: %s; what is in it is served as far as it proves itself",
				 path, why.text);
	return 0;
}

static int
folder_inspect(struct hfb_recovery *r, const struct hfb_recover_config *config, struct hfb_err *err)
{
	struct hfb_recovered *ret = r->ret;
	struct listing l = { .ret = ret };
	uint32_t n = 0;
	int rc;

	rc = hfb_env_list(r->env, config->folder, folder_entry, &l);
	if (rc == -ENOENT)
		return 0;
	if (rc < 0)
		return hfb_err_set(err, rc, "%s: list: %s", config->folder, strerror(-rc));
	if (l.error < 0)
		return hfb_err_set(err, l.error, "%s: no memory", config->folder);
	ret->found = true;
	if (ret->segments_count > 0)
		qsort(ret->segments, ret->segments_count, sizeof(*ret->segments), by_base);
	for (uint32_t i = 0; i < ret->segments_count; i++) {
		struct hfb_recovered_segment *s = &ret->segments[i];

		rc = segment_inspect(r, config, s, err);
		if (rc < 0)
			return rc;
		if (i + 1 < ret->segments_count && hfb_recovered_end(s) > s[1].base_position) {
			if (!s->header_bad)
				hfb_recover_note(r, "%s/%s: reaches into %s; cut there", r->folder,
						 s->name, s[1].name);
			s->capacity_bytes = s[1].base_position - s->base_position;
		}
		/* A file that was never made whole (a crash while it was prepared). */
		if (s->capacity_bytes == 0)
			continue;
		ret->segments[n++] = *s;
	}
	ret->segments_count = n;
	return 0;
}

/* The checkpoint. ------------------------------------------------------------ */

/* The segment to go on in from @position: one that begins there rather than one that ends there. */
static int
segment_of(const struct hfb_recovered *ret, uint32_t first, uint64_t position)
{
	int found = -1;

	for (uint32_t i = first; i < ret->segments_count; i++)
		if (position >= ret->segments[i].base_position &&
		    position <= hfb_recovered_end(&ret->segments[i]))
			found = (int)i;
	return found;
}

/* Corrupt ranges that were known and are still there. */
static int
checkpoint_ranges(struct hfb_recovery *r, const struct hfb_checkpoint *c)
{
	struct hfb_recovered *ret = r->ret;

	if (c->corrupt_count == 0)
		return 0;
	ret->corrupt = malloc(c->corrupt_count * sizeof(*ret->corrupt));
	if (ret->corrupt == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < c->corrupt_count; i++)
		if (c->corrupt[i].end > ret->segments[r->first].base_position)
			ret->corrupt[ret->corrupt_count++] = c->corrupt[i];
	return 0;
}

/* Can it be used with the segments there are? The segment to walk from, or -1. */
static int
checkpoint_place(struct hfb_recovery *r, const struct hfb_checkpoint *c)
{
	const struct hfb_recovered *ret = r->ret;
	int at = segment_of(ret, r->first, c->position);
	const struct hfb_recovered_segment *s;

	if (at < 0) {
		hfb_recover_note(r,
				 "%s/" HFB_CHECKPOINT_NAME ": its position %" PRIu64
				 " is in no segment; recovering without it",
				 r->folder, c->position);
		return -1;
	}
	s = &ret->segments[at];
	if (c->position > s->base_position && c->position < hfb_recovered_end(s) &&
	    (c->segment_base != s->base_position || s->kind == HFB_SEGMENT_COMPACTED)) {
		hfb_recover_note(r,
				 "%s/" HFB_CHECKPOINT_NAME
				 ": its index is of the segment at %" PRIu64
				 ", not of %s; recovering without it",
				 r->folder, c->segment_base, s->name);
		return -1;
	}
	return at;
}

static int
checkpoint_apply(struct hfb_recovery *r, const struct hfb_checkpoint *c, uint32_t at)
{
	struct hfb_recovered *ret = r->ret;
	struct hfb_recovered_segment *s = &ret->segments[at];
	struct hfb_index *index;
	int rc;

	r->position = r->proven = c->position;
	r->offset = c->offset;
	r->offset_known = true;
	r->epoch = c->leader_epoch;
	r->timestamp_ns = c->last_timestamp_ns;
	r->ended = c->ended != 0;
	for (uint32_t i = 0; i < c->epochs_count; i++) {
		rc = hfb_recover_epoch(r, c->epochs[i].leader_epoch, c->epochs[i].start_position,
				       c->epochs[i].start_offset);
		if (rc < 0)
			return rc;
	}
	for (uint32_t i = 0; i < c->dedup_count; i++) {
		rc = hfb_producers_note(&r->producers, &c->dedup[i]);
		if (rc < 0)
			return rc;
	}
	if (c->position > s->base_position && c->position < hfb_recovered_end(s)) {
		index = hfb_recover_index(r, at);
		if (index == NULL)
			return -ENOMEM;
		for (uint32_t i = 0; i < c->index_count; i++)
			if (c->index[i].position >= s->base_position &&
			    c->index[i].position < c->position)
				hfb_index_add(index, c->index[i].position, c->index[i].offset,
					      c->index[i].timestamp_ns);
		s->has_batches = true;
		s->base_offset = c->segment_base_offset;
		s->first_timestamp_ns = c->first_timestamp_ns;
		s->end_position = c->position;
		s->end_offset = c->offset;
		s->last_timestamp_ns = c->last_timestamp_ns;
	}
	return 0;
}

/* The whole. ------------------------------------------------------------------ */

/* The segment with the log's end: appending goes on in it. */
static int
open_classify(struct hfb_recovery *r, uint32_t at)
{
	struct hfb_recovered_segment *s = &r->ret->segments[at];

	s->state = HFB_RECOVERED_OPEN;
	s->end_position = r->position;
	if (!s->has_batches) {
		s->base_offset = s->end_offset = r->offset;
		s->first_timestamp_ns = s->last_timestamp_ns = 0;
	}
	if (hfb_recover_index(r, at) == NULL)
		return -ENOMEM;
	r->ret->index = r->indexes[at];
	r->indexes[at] = NULL;
	return 0;
}

/* One that is full. */
static int
sealed_classify(struct hfb_recovery *r, uint32_t at, struct hfb_err *err)
{
	struct hfb_recovered_segment *s = &r->ret->segments[at];
	const struct hfb_recovered_segment *before = at > r->first ? s - 1 : NULL;

	s->state = HFB_RECOVERED_SEALED;
	s->end_position = hfb_recovered_end(s);
	if (!s->has_batches) { /* all of it corrupt, or nothing there */
		s->base_offset = before != NULL ? before->end_offset : r->offset;
		s->end_offset = s->base_offset;
		s->last_timestamp_ns = before != NULL ? before->last_timestamp_ns : r->timestamp_ns;
		s->first_timestamp_ns = s->last_timestamp_ns;
		return 0;
	}
	if (r->indexes[at] == NULL) /* below the checkpoint, done */
		return 0;
	return hfb_recover_sealed_index(r, at, err);
}

/* Those behind the one with the log's end, which ends at @end: of use as they are, or not. */
static void
rest_classify(struct hfb_recovery *r, uint32_t from, uint64_t end)
{
	for (uint32_t i = from; i < r->ret->segments_count; i++) {
		struct hfb_recovered_segment *s = &r->ret->segments[i];

		s->end_position = s->base_position;
		if (s->base_position == end) {
			s->state = HFB_RECOVERED_UNUSED;
			end = hfb_recovered_end(s);
		} else {
			s->state = HFB_RECOVERED_STRAY;
			hfb_recover_note(r, "%s/%s: lies beyond the log's end at %" PRIu64,
					 r->folder, s->name, r->position);
		}
	}
}

/* Segments by what the walk found; @last is the one with the log's end. */
static int
segments_classify(struct hfb_recovery *r, uint32_t last, struct hfb_err *err)
{
	struct hfb_recovered_segment *segments = r->ret->segments;
	bool last_open = r->position < hfb_recovered_end(&segments[last]);
	int rc = 0;

	for (uint32_t i = 0; i < r->first; i++)
		segments[i].state = HFB_RECOVERED_RETIRED;
	for (uint32_t i = r->first; i <= last && rc >= 0; i++)
		rc = i == last && last_open ? open_classify(r, i) : sealed_classify(r, i, err);
	rest_classify(r, last + 1, hfb_recovered_end(&segments[last]));
	return rc;
}

static int
range_order(const void *a, const void *b)
{
	const struct hfb_corrupt_range *x = a, *y = b;

	return (x->position > y->position) - (x->position < y->position);
}

/* Ranges in order; the report names the first, known before or not. */
static void
corrupt_report(struct hfb_recovery *r)
{
	struct hfb_recovered *ret = r->ret;
	uint32_t at = 0;

	ret->report.corrupt_count = ret->corrupt_count;
	if (ret->corrupt_count == 0)
		return;
	qsort(ret->corrupt, ret->corrupt_count, sizeof(*ret->corrupt), range_order);
	ret->report.corrupt_position = ret->corrupt[0].position;
	while (at + 1 < ret->segments_count &&
	       ret->segments[at + 1].base_position <= ret->corrupt[0].position)
		at++;
	snprintf(ret->report.corrupt_path, sizeof(ret->report.corrupt_path), "%s/%s", r->folder,
		 ret->segments[at].name);
}

/*
 * No segment is left of a log that checkpoint @c tells of. Neither positions nor offsets may
 * be used twice.
 */
static void
nothing_left(struct hfb_recovery *r, const struct hfb_checkpoint *c)
{
	struct hfb_recovered *ret = r->ret;

	for (uint32_t i = 0; i < ret->segments_count; i++)
		ret->segments[i].state = HFB_RECOVERED_RETIRED;
	r->position = (c->position + HFB_SEGMENT_HEADER_BYTES - 1) &
		      ~(uint64_t)(HFB_SEGMENT_HEADER_BYTES - 1);
	if (c->position > c->start_position)
		hfb_recover_note(r,
				 "%s: no segment is left; the log goes on at "
				 "position %" PRIu64 ", offset %" PRIu64,
				 r->folder, r->position, c->offset);
	r->offset = c->offset;
	r->epoch = c->leader_epoch;
	r->timestamp_ns = c->last_timestamp_ns;
	ret->start_position = r->position;
	ret->start_offset = r->offset;
}

/* All that is known before segment @start is walked, from checkpoint @c; NULL: there is none. */
static int
walk_prepare(struct hfb_recovery *r, const struct hfb_checkpoint *c, uint32_t start,
	     struct hfb_err *err)
{
	const struct hfb_recovered *ret = r->ret;
	bool full;
	int rc;

	if (c == NULL) {
		r->position = ret->segments[start].base_position;
		r->offset_known = r->position == 0;
		return 0;
	}
	/* A full segment with nothing after it is a sealed one. */
	full = c->position == hfb_recovered_end(&ret->segments[start]);
	rc = checkpoint_ranges(r, c);
	if (rc == 0)
		rc = hfb_recover_sealed(r, start + full, err);
	if (rc == 0)
		rc = checkpoint_apply(r, c, start);
	return rc;
}

/* Where the log starts, as the segments and checkpoint @c tell; NULL: there is none. */
static int
start_settle(struct hfb_recovery *r, const struct hfb_checkpoint *c)
{
	struct hfb_recovered *ret = r->ret;
	struct hfb_corrupt_range range;

	ret->start_position = ret->segments[r->first].base_position;
	ret->start_offset = ret->segments[r->first].base_offset;
	if (c == NULL)
		return 0;
	/* A trim may have moved it into the segment. */
	if (c->start_position >= ret->start_position && c->start_offset > ret->start_offset) {
		ret->start_position = c->start_position;
		ret->start_offset = c->start_offset;
	}
	if (c->start_position >= ret->start_position)
		return 0;
	range = (struct hfb_corrupt_range){
		.position = c->start_position,
		.end = ret->start_position,
		.offset = ret->start_offset,
		.end_offset = ret->start_offset,
	};
	return hfb_recover_corrupt(r, &range, ret->segments[r->first].name,
				   "the segments before it are missing");
}

/* Where recovery begins. */
struct beginning {
	struct hfb_checkpoint loaded;
	void *memory;				 /* of the loaded one; NULL: none was */
	const struct hfb_checkpoint *checkpoint; /* the loaded one; NULL: not to be used */
	uint32_t at;				 /* segment to walk from */
};

/* A checkpoint that cannot be used is told, and done without. */
static int
beginning_load(struct hfb_recovery *r, const struct hfb_recover_config *config, struct beginning *b,
	       struct hfb_err *err)
{
	struct hfb_err why = { 0 };
	int rc = hfb_checkpoint_load(r->env, config->folder, &config->topic, config->partition,
				     &b->loaded, &b->memory, &why);

	if (rc == -ENOMEM)
		return hfb_err_set(err, rc, "%s", why.text);
	if (rc < 0 && rc != -ENOENT)
		hfb_recover_note(r, "%s; recovering without it", why.text);
	return 0;
}

/* False: there is no segment, or none is left. */
static bool
beginning_find(struct hfb_recovery *r, struct beginning *b)
{
	struct hfb_recovered *ret = r->ret;
	int at = -1;

	if (b->memory != NULL) {
		while (r->first < ret->segments_count &&
		       hfb_recovered_end(&ret->segments[r->first]) <= b->loaded.start_position)
			r->first++;
		if (r->first == ret->segments_count) {
			nothing_left(r, &b->loaded);
			return false;
		}
		at = checkpoint_place(r, &b->loaded);
	}
	b->at = r->first;
	if (at >= 0) {
		b->at = (uint32_t)at;
		b->checkpoint = &b->loaded;
		ret->checkpoint_position = b->loaded.position;
	}
	return ret->segments_count > 0;
}

/* From the beginning on to the log's end, and what each segment is then. */
static int
segments_recover(struct hfb_recovery *r, const struct beginning *b, struct hfb_err *err)
{
	int rc;

	r->indexes = calloc(r->ret->segments_count, sizeof(*r->indexes));
	if (r->indexes == NULL)
		return -ENOMEM;
	rc = walk_prepare(r, b->checkpoint, b->at, err);
	if (rc < 0)
		return rc;
	rc = hfb_recover_walk(r, b->at, err);
	if (rc < 0)
		return rc;
	if (!r->offset_known) {
		/* Not one batch tells the offset. It cannot have been higher than this. */
		r->offset = r->position / HFB_RECORD_HEADER_BYTES;
		hfb_recover_note(r,
				 "%s: no batch and no checkpoint left; offsets go on at %" PRIu64,
				 r->folder, r->offset);
	}
	rc = segments_classify(r, (uint32_t)rc, err);
	if (rc < 0)
		return rc;
	return start_settle(r, b->checkpoint);
}

/*
 * A killed process may have left batches and names that are not durable. Not needed behind a
 * clean stop, whose last act was to save the checkpoint.
 */
static int
found_sync(struct hfb_recovery *r, const struct hfb_checkpoint *c, struct hfb_err *err)
{
	int rc;

	if (c != NULL && c->ended && !r->walked)
		return 0;
	rc = hfb_recover_sync_all(r, err);
	return rc == 0 ? hfb_folder_sync(r->env, r->folder, err) : rc;
}

static int
recover(struct hfb_recovery *r, const struct hfb_recover_config *config, struct hfb_err *err)
{
	struct beginning b = { 0 };
	int rc;

	rc = folder_inspect(r, config, err);
	if (rc < 0 || !r->ret->found)
		return rc;
	rc = beginning_load(r, config, &b, err);
	if (rc == 0)
		rc = hfb_recover_epoch(r, 0, 0, 0);
	if (rc == 0 && beginning_find(r, &b)) {
		rc = segments_recover(r, &b, err);
		if (rc == 0) {
			hfb_epochs_trim(&r->ret->epochs, r->ret->start_position);
			corrupt_report(r);
			rc = found_sync(r, b.checkpoint, err);
		}
	}
	free(b.memory);
	return rc < 0 ? rc : 0;
}

int
hfb_recover(struct hfb_env *env, const struct hfb_recover_config *config, struct hfb_recovered *ret,
	    struct hfb_err *err)
{
	struct hfb_recovery r;
	int rc;

	memset(ret, 0, sizeof(*ret));
	memset(&r, 0, sizeof(r));
	r.env = env;
	r.folder = config->folder;
	r.seed = hfb_batch_seed(&config->topic, config->partition);
	r.reach = (config->ring_bytes_max != 0 ? config->ring_bytes_max : REACH_DEFAULT) +
		  HFB_BATCH_BYTES_MAX;
	r.ret = ret;
	r.synced = config->synced;

	rc = recover(&r, config, err);
	if (rc == -ENOMEM && err != NULL && err->code == 0)
		hfb_err_set(err, rc, "%s: no memory", config->folder);
	ret->end_position = r.position;
	ret->end_offset = r.offset;
	ret->leader_epoch = r.epoch;
	ret->last_timestamp_ns = r.timestamp_ns;
	ret->report.start_position = ret->start_position;
	ret->report.end_position = ret->end_position;
	ret->report.end_offset = ret->end_offset;
	if (rc == 0 && r.torn_end > r.position) {
		ret->report.torn_position = r.position;
		ret->report.torn_bytes = r.torn_end - r.position;
		hfb_recover_note(&r,
				 "%s: torn tail, %" PRIu64 " bytes at position %" PRIu64
				 " were never durable and are cut off",
				 r.folder, ret->report.torn_bytes, r.position);
	}
	ret->report.clean = r.ended && ret->report.torn_bytes == 0;
	if (rc == 0)
		ret->dedup = hfb_producers_take(&r.producers, &ret->dedup_count);
	hfb_producers_fini(&r.producers);
	hfb_scan_fini(&r.scan);
	hfb_scan_fini(&r.probe);
	hfb_segment_reader_fini(&r.reader);
	for (uint32_t i = 0; r.indexes != NULL && i < ret->segments_count; i++)
		free(r.indexes[i]);
	free(r.indexes);
	if (rc < 0)
		hfb_recovered_fini(ret);
	return rc;
}

void
hfb_recovered_fini(struct hfb_recovered *recovered)
{
	free(recovered->segments);
	free(recovered->epochs.entries);
	free(recovered->dedup);
	free(recovered->index);
	free(recovered->corrupt);
	for (uint32_t i = 0; i < HFB_RECOVER_NOTES_MAX; i++)
		free(recovered->notes[i]);
	memset(recovered, 0, sizeof(*recovered));
}
