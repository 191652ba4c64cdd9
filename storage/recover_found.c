/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recover_found.c - what recovery has found out so far: notes, corrupt ranges, epochs,
 * producers, indexes, and the batches they come from.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "env.h"
#include "recover_private.h"

int
hfb_recover_path(const struct hfb_recovery *r, const struct hfb_recovered_segment *s,
		 const char *suffix, char *to, struct hfb_err *err)
{
	if (hfb_segment_path(to, HFB_PATH_MAX, r->folder, s->base_position, suffix) < 0)
		return hfb_err_set(err, -ENAMETOOLONG, "%s: path too long", r->folder);
	return 0;
}

int
hfb_recover_open(struct hfb_recovery *r, struct hfb_scan *scan, uint32_t at, uint64_t from,
		 struct hfb_err *err)
{
	const struct hfb_recovered_segment *s = &r->ret->segments[at];
	char path[HFB_PATH_MAX];
	int ret = hfb_recover_path(r, s, ".seg", path, err);

	if (ret < 0)
		return ret;
	hfb_scan_close(scan);
	return hfb_scan_open(scan, r->env, path, r->seed, s->base_position, s->capacity_bytes, from,
			     err);
}

int
hfb_recover_read_error(struct hfb_recovery *r, const struct hfb_scan *scan, uint32_t at,
		       struct hfb_err *err)
{
	if (scan->error == 0)
		return 0;
	return hfb_err_set(err, scan->error, "%s/%s: reading near position %" PRIu64 ": %s",
			   r->folder, r->ret->segments[at].name, scan->position,
			   strerror(-scan->error));
}

void
hfb_recover_note(struct hfb_recovery *r, const char *format, ...)
{
	struct hfb_recovered *ret = r->ret;
	va_list ap;

	if (ret->notes_count++ >= HFB_RECOVER_NOTES_MAX)
		return;
	va_start(ap, format);
	if (vasprintf(&ret->notes[ret->notes_count - 1], format, ap) < 0)
		ret->notes[ret->notes_count - 1] = NULL;
	va_end(ap);
}

int
hfb_recover_corrupt(struct hfb_recovery *r, const struct hfb_corrupt_range *range, const char *name,
		    const char *why)
{
	struct hfb_recovered *ret = r->ret;
	struct hfb_corrupt_range *c;

	for (uint32_t i = 0; i < ret->corrupt_count; i++) {
		c = &ret->corrupt[i];
		if (range->position >= c->position && range->end <= c->end)
			return 0; /* known already */
	}
	hfb_recover_note(
		r,
		"%s/%s: corrupt at position %" PRIu64 " (file offset %" PRIu64 "): %s; %" PRIu64
		" bytes and %" PRIu64 " events are not served",
		r->folder, name, range->position,
		(uint64_t)(HFB_SEGMENT_HEADER_BYTES + range->position - strtoull(name, NULL, 10)),
		why, range->end - range->position, range->end_offset - range->offset);
	if (ret->corrupt_count > 0) {
		c = &ret->corrupt[ret->corrupt_count - 1];
		if (c->end == range->position) {
			c->end = range->end;
			c->end_offset = range->end_offset;
			return 0;
		}
	}
	c = realloc(ret->corrupt, (ret->corrupt_count + 1) * sizeof(*c));
	if (c == NULL)
		return -ENOMEM;
	ret->corrupt = c;
	c[ret->corrupt_count++] = *range;
	return 0;
}

int
hfb_recover_epoch(struct hfb_recovery *r, uint32_t leader_epoch, uint64_t position, uint64_t offset)
{
	struct hfb_epochs *epochs = &r->ret->epochs;
	struct hfb_epoch_entry *entries;
	uint32_t max;

	/* Always room for one more: the run that follows. */
	if (epochs->count + 2 > r->epochs_max && r->epochs_max < HFB_EPOCHS_MAX) {
		max = r->epochs_max == 0 ? 8 : r->epochs_max * 2;
		entries = realloc(epochs->entries, max * sizeof(*entries));
		if (entries == NULL)
			return -ENOMEM;
		epochs->entries = entries;
		epochs->max = r->epochs_max = max;
	}
	if (leader_epoch != 0)
		hfb_epochs_add(epochs, leader_epoch, position, offset);
	return 0;
}

struct hfb_index *
hfb_recover_index(struct hfb_recovery *r, uint32_t at)
{
	const struct hfb_recovered_segment *s = &r->ret->segments[at];

	if (r->indexes[at] == NULL) {
		void *memory = malloc(hfb_index_bytes(s->capacity_bytes));

		if (memory != NULL)
			r->indexes[at] =
				hfb_index_init(memory, s->base_position, s->capacity_bytes);
	}
	return r->indexes[at];
}

const char *
hfb_recover_continues(const struct hfb_recovery *r, const struct hfb_batch *b)
{
	if (b->leader_epoch < r->epoch)
		return "leader epoch goes back";
	if (r->offset_known && b->base_offset != r->offset)
		return "offset is not the next";
	if (b->timestamp_ns < r->timestamp_ns)
		return "time goes back";
	return NULL;
}

bool
hfb_recover_may_follow(const struct hfb_recovery *r, const struct hfb_batch_view *v)
{
	const struct hfb_batch *b = &v->header;

	if (b->leader_epoch < r->epoch || b->timestamp_ns < r->timestamp_ns)
		return false;
	if (!r->offset_known)
		return true;
	/* An event takes a record's header at least. This alone keeps out former laps. */
	return b->base_offset >= r->offset &&
	       b->base_offset - r->offset <= (v->position - r->position) / HFB_RECORD_HEADER_BYTES;
}

/* Who wrote it, and what comes next from there. */
static int
producer_note(struct hfb_recovery *r, const struct hfb_batch_view *v)
{
	const struct hfb_batch *b = &v->header;
	struct hfb_dedup_entry entry = {
		.producer_id = b->producer_id,
		.producer_epoch = b->producer_epoch,
		.next_sequence = hfb_batch_end_sequence(v),
		.last_offset = b->base_offset,
		.last_position = v->position,
		.last_ns = b->timestamp_ns,
		.flags = b->flags & HFB_BATCH_STREAM ? HFB_DEDUP_STREAM : 0,
	};
	struct hfb_control_stream stream;

	if (v->control == HFB_CONTROL_STREAM_START) {
		memcpy(&stream, v->payload, sizeof(stream));
		entry.next_sequence = stream.next_sequence;
		entry.flags = HFB_DEDUP_STREAM;
	}
	return hfb_producers_note(&r->producers, &entry);
}

int
hfb_recover_accept(struct hfb_recovery *r, uint32_t at, const struct hfb_batch_view *v, bool state)
{
	struct hfb_recovered_segment *s = &r->ret->segments[at];
	const struct hfb_batch *b = &v->header;
	struct hfb_index *index = hfb_recover_index(r, at);
	int ret;

	if (index == NULL)
		return -ENOMEM;
	if (!s->has_batches) {
		s->has_batches = true;
		s->base_offset = b->base_offset;
		s->first_timestamp_ns = b->timestamp_ns;
	}
	hfb_index_add(index, v->position, b->base_offset, b->timestamp_ns);
	s->end_offset = b->base_offset + b->count;
	s->end_position = v->position + b->size;
	s->last_timestamp_ns = b->timestamp_ns;
	r->position = v->position + b->size;
	r->offset = b->base_offset + b->count;
	r->offset_known = true;
	r->timestamp_ns = b->timestamp_ns;
	r->ended = v->control == HFB_CONTROL_END_MARK;
	if (!state)
		return 0;
	if (b->leader_epoch != r->epoch) {
		r->epoch = b->leader_epoch;
		ret = hfb_recover_epoch(r, r->epoch, v->position, b->base_offset);
		if (ret < 0)
			return ret;
	}
	if (b->producer_id == 0 || v->control == HFB_CONTROL_PADDING)
		return 0;
	return producer_note(r, v);
}
