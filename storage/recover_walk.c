/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recover_walk.c - where does the log end, and what in it is broken?
 *
 * A batch is of the log when its checksums are right at its position and it
 * continues what came before: epoch not lower, offset exactly the next, time not
 * lower. Where that fails, at p:
 *
 *	proven > p	corruption: p was durable once. Keep it, report it, go on
 *			at the next batch that is of the log.
 *	else		the log ends at p. What lies behind was never durable.
 *
 * `proven` comes from batches behind p: one at q with durable_lag l says that all
 * below q - 8 l was durable. Those batches are believed only if they can be of
 * the same log: epoch not lower than that before p, time not lower, and an offset
 * that fits between p and q. Thus no batch of an older epoch behind a former torn
 * tail, and none of a former lap in a recycled file, ever proves anything or is
 * gone on with. docs/STORAGE.md holds the argument.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bug.h"
#include "crc32c.h"
#include "env.h"
#include "recover_walk.h"

/*
 * Zeros in a row after which the rest of a segment is only sampled (not even that
 * behind an end mark): ten thousand partitions must not read all their prepared
 * zeros. Lost blocks read as zeros too, so this bounds which losses are found.
 */
#define ZEROS_MAX	(128u * HFB_KIB)
#define ZEROS_MAX_ENDED (8u * HFB_KIB)

static uint64_t
segment_end(const struct hfb_recovered_segment *s)
{
	return s->base_position + s->capacity_bytes;
}

static int
segment_open(struct hfb_recovery *r, struct hfb_scan *scan, uint32_t at, uint64_t from,
	     struct hfb_err *err)
{
	const struct hfb_recovered_segment *s = &r->ret->segments[at];
	char path[4096];

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", r->folder, s->name) >= sizeof(path))
		return hfb_err_set(err, -ENAMETOOLONG, "%s: path too long", r->folder);
	hfb_scan_close(scan);
	return hfb_scan_open(scan, r->env, path, r->seed, s->base_position, s->capacity_bytes, from,
			     err);
}

/* A file that cannot be read is not a torn tail: nothing may be cut for it. */
static int
read_error(struct hfb_recovery *r, const struct hfb_scan *scan, uint32_t at, struct hfb_err *err)
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

/* Does the batch right at ->position continue the log? NULL, or what is wrong. */
static const char *
continues(const struct hfb_recovery *r, const struct hfb_batch *b)
{
	if (b->leader_epoch < r->epoch)
		return "leader epoch goes back";
	if (r->offset_known && b->base_offset != r->offset)
		return "offset is not the next";
	if (b->timestamp_ns < r->timestamp_ns)
		return "time goes back";
	return NULL;
}

/* Can the batch @v, somewhere behind p = ->position, be of this log? */
static bool
may_follow(const struct hfb_recovery *r, const struct hfb_batch_view *v)
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

/* Everything below this was durable when the batch was appended. */
static uint64_t
claim_of(const struct hfb_batch_view *v)
{
	uint64_t behind = (uint64_t)v->header.durable_lag * 8;

	if (v->header.durable_lag == UINT32_MAX || behind > v->position)
		return 0;
	return v->position - behind;
}

static void
probe_close(struct hfb_recovery *r)
{
	r->ret->report.scanned_bytes += r->probe.read_bytes;
	r->probe.read_bytes = 0;
	hfb_scan_close(&r->probe);
}

/*
 * Call @visit for each batch from @from on, in segments @at and later, that may
 * be of the log, until it returns true. 1 = it did, 0 = no more, or -errno.
 */
static int
each_behind(struct hfb_recovery *r, uint32_t at, uint64_t from, uint64_t limit,
	    bool (*visit)(struct hfb_recovery *r, uint32_t at, const struct hfb_batch_view *v),
	    struct hfb_err *err)
{
	uint64_t zeros_max = r->ended ? ZEROS_MAX_ENDED : ZEROS_MAX;
	struct hfb_recovered_segment *segments = r->ret->segments;
	struct hfb_batch_view v;
	int ret;

	for (uint32_t i = at; i < r->ret->segments_count; i++) {
		struct hfb_recovered_segment *s = &segments[i];
		/* the segment being walked is open, and its window stands here */
		struct hfb_scan *scan = i == r->walk_at ? &r->scan : &r->probe;
		uint64_t next = from > s->base_position ? from : s->base_position;
		uint64_t zeros = zeros_max;

		/* A later segment is looked into whatever the distance: a missing
		 * file or a long hole must not hide what it proves. */
		uint64_t until = i > at ? s->base_position + r->reach : limit;

		/* A compacted one is never behind what is not durable. */
		if (next >= segment_end(s) || (i > at && s->blank) ||
		    s->kind == HFB_SEGMENT_COMPACTED)
			continue;
		ret = scan == &r->scan ? 0 : segment_open(r, scan, i, next, err);
		if (ret < 0)
			return ret;
		for (;;) {
			bool follows;

			if (!hfb_scan_next_valid(scan, next, until, zeros, &v)) {
				if (scan->gave_up == 0 || r->ended ||
				    !hfb_scan_data_ahead(scan, scan->gave_up))
					break;
				next = scan->gave_up;
				zeros = 0;
				continue;
			}
			follows = may_follow(r, &v);
			if (follows && visit(r, i, &v)) {
				probe_close(r);
				return 1;
			}
			next = v.position + (follows ? v.header.size : HFB_BATCH_ALIGN);
		}
		ret = read_error(r, scan, i, err);
		probe_close(r);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static bool
proves(struct hfb_recovery *r, uint32_t at, const struct hfb_batch_view *v)
{
	uint64_t claim = claim_of(v), end = v->position + v->header.size;

	(void)at;
	if (end > r->torn_end)
		r->torn_end = end;
	if (claim <= r->position)
		return false;
	r->proven = claim;
	r->proof_epoch = v->header.leader_epoch;
	return true;
}

/*
 * The log is gone on with here. Below `proven` all bytes are those of the log when
 * it was proven; behind it, only batches of the prover's epoch can be: an older
 * one there is a leftover that was not yet overwritten.
 */
static bool
goes_on(struct hfb_recovery *r, uint32_t at, const struct hfb_batch_view *v)
{
	struct hfb_corrupt_range range = {
		.position = r->position,
		.end = v->position,
		.offset = r->offset,
		.end_offset = v->header.base_offset,
	};

	if (v->position >= r->proven && v->header.leader_epoch < r->proof_epoch)
		return false;
	if (!r->offset_known)
		range.offset = range.end_offset;
	r->resume_error = hfb_recover_corrupt(r, &range, r->fault_name, r->fault_why);
	r->position = v->position;
	r->offset = v->header.base_offset;
	r->offset_known = true;
	r->resume_at = at;
	return true;
}

/*
 * At ->position stands no batch of the log. Decide: 1 = corruption, ->position is
 * where it goes on, in segment ->resume_at; 0 = the log ends here; or -errno.
 */
static int
torn_or_corrupt(struct hfb_recovery *r, uint32_t at, uint32_t look_at, uint64_t sound_bytes,
		const char *why, struct hfb_err *err)
{
	/* Behind a sound header the search goes on after its batch: what looks
	 * like a header inside a payload is a producer's bytes. */
	uint64_t from = r->position + (sound_bytes != 0 ? sound_bytes : HFB_BATCH_ALIGN);
	uint64_t limit = r->position + r->reach;
	int ret;

	if (r->proven <= r->position) {
		r->torn_end = sound_bytes != 0 ? r->position + sound_bytes : r->position;
		ret = each_behind(r, look_at, from, limit, proves, err);
		if (ret <= 0)
			return ret;
	}
	r->resume_error = 0;
	r->fault_name = r->ret->segments[at].name;
	r->fault_why = why;
	ret = each_behind(r, look_at, from, UINT64_MAX, goes_on, err);
	return ret == 1 && r->resume_error < 0 ? r->resume_error : ret;
}

/* Take a batch into the recovered log. */
static int
accept(struct hfb_recovery *r, uint32_t at, const struct hfb_batch_view *v, bool state)
{
	struct hfb_recovered_segment *s = &r->ret->segments[at];
	const struct hfb_batch *b = &v->header;
	struct hfb_index *index = hfb_recover_index(r, at);
	struct hfb_dedup_entry entry;
	struct hfb_control_stream stream;
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
#ifndef HFB_BUG_DEDUP_NOT_REBUILT
	if (b->producer_id != 0 && v->control != HFB_CONTROL_PADDING) {
		memset(&entry, 0, sizeof(entry));
		entry.producer_id = b->producer_id;
		entry.producer_epoch = b->producer_epoch;
		entry.next_sequence = hfb_batch_end_sequence(v);
		entry.last_offset = b->base_offset;
		entry.last_position = v->position;
		entry.last_ns = b->timestamp_ns;
		entry.flags = b->flags & HFB_BATCH_STREAM ? HFB_DEDUP_STREAM : 0;
		if (v->control == HFB_CONTROL_STREAM_START) {
			memcpy(&stream, v->payload, sizeof(stream));
			entry.next_sequence = stream.next_sequence;
			entry.flags = HFB_DEDUP_STREAM;
		}
		return hfb_producers_note(&r->producers, &entry);
	}
#else
	(void)entry;
	(void)stream;
#endif
	return 0;
}

#ifdef HFB_BUG_STALE_LAP_ACCEPTED
/* Tests only: a header is believed without its checksum, so without its position. */
static bool
stale_accepted(struct hfb_recovery *r, struct hfb_batch_view *v)
{
	uint64_t end = r->scan.base_position + r->scan.capacity_bytes;
	struct hfb_batch b;
	const uint8_t *at;
	size_t have;

	at = hfb_scan_bytes(&r->scan, r->position, HFB_BATCH_HEADER_BYTES, &have);
	if (at == NULL || have < HFB_BATCH_HEADER_BYTES)
		return false;
	memcpy(&b, at, sizeof(b));
	if (b.size < HFB_BATCH_HEADER_BYTES || b.size > HFB_BATCH_BYTES_MAX || b.size % 8 != 0 ||
	    b.version != HFB_BATCH_VERSION || b.size > end - r->position || b.count == 0 ||
	    (b.flags & HFB_BATCH_CONTROL))
		return false;
	at = hfb_scan_bytes(&r->scan, r->position, b.size, &have);
	if (at == NULL || have < b.size ||
	    hfb_crc32c(0, at + HFB_BATCH_HEADER_BYTES, b.size - HFB_BATCH_HEADER_BYTES) !=
		    b.payload_crc)
		return false;
	memset(v, 0, sizeof(*v));
	v->position = r->position;
	v->header = b;
	v->header.base_offset = r->offset;
	v->header.timestamp_ns = r->timestamp_ns;
	v->header.leader_epoch = r->epoch;
	v->bytes = at;
	v->payload = at + HFB_BATCH_HEADER_BYTES;
	v->payload_bytes = b.size - HFB_BATCH_HEADER_BYTES;
	r->scan.position = r->position + b.size;
	return true;
}
#endif

int
hfb_recover_sync_all(struct hfb_recovery *r, struct hfb_err *err)
{
#ifndef HFB_BUG_NO_DIRECTORY_SYNC
	int ret;

	if (r->synced == NULL)
		return 0;
	if (*r->synced)
		return 1;
	ret = hfb_env_sync_all(r->env, r->folder);
	if (ret == -EOPNOTSUPP || ret == -ENOSYS)
		return 0;
	if (ret < 0)
		return hfb_err_set(err, ret, "%s: sync: %s", r->folder, strerror(-ret));
	*r->synced = true;
	return 1;
#else
	(void)r;
	(void)err;
	return 0;
#endif
}

/*
 * Done with a segment. What was read in it may be in caches only (a killed process
 * leaves its last writes there), and from now on counts as durable: make it so.
 */
static int
segment_leave(struct hfb_recovery *r, uint32_t at, bool *accepted, struct hfb_err *err)
{
	int ret;

	r->ret->report.scanned_bytes += r->scan.read_bytes;
	r->scan.read_bytes = 0;
	if (!*accepted)
		return 0;
	*accepted = false;
	r->walked = true;
	if (r->synced != NULL && *r->synced)
		return 0;
	ret = hfb_recover_sync_all(r, err);
	if (ret < 0)
		return ret;
	/* After the whole file system still this one: syncing a file ends with a flush
	 * of the device even where syncing all found nothing to write. */
	ret = hfb_env_fdatasync(r->env, r->scan.fd);
	return ret < 0 ? hfb_err_set(err, ret, "%s/%s: sync: %s", r->folder,
				     r->ret->segments[at].name, strerror(-ret))
		       : 0;
}

/*
 * All of a compacted segment was durable before it got its name: what is not right in
 * it is damage. @state: its batches count for epochs and producers.
 */
static int
compacted_walk(struct hfb_recovery *r, uint32_t at, bool state, struct hfb_err *err)
{
	struct hfb_recovered_segment *s = &r->ret->segments[at];
	const struct hfb_segment_place_in_log place = {
		.base_position = s->base_position,
		.capacity_bytes = s->capacity_bytes,
		.kind = s->kind,
	};
	struct hfb_corrupt_range range = { .position = s->base_position, .end = segment_end(s) };
	enum hfb_fault fault = HFB_FAULT_HEADER;
	struct hfb_err why = { 0 };
	struct hfb_batch_view v;
	char path[4096];
	int ret;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", r->folder, s->name) >= sizeof(path))
		return hfb_err_set(err, -ENAMETOOLONG, "%s: path too long", r->folder);
	ret = hfb_segment_reader_open(&r->reader, r->env, path, r->seed, &place, s->base_position,
				      &why);
	if (ret < 0 && ret != -EBADMSG)
		return hfb_err_set(err, ret, "%s", why.text);
	if (ret == 0) {
		s->data_bytes = r->reader.head.data_bytes;
		while ((fault = hfb_segment_reader_next(&r->reader, HFB_CHECK_ALL, &v)) ==
		       HFB_FAULT_NONE) {
			if (v.header.leader_epoch < r->epoch ||
			    (r->offset_known && v.header.base_offset < r->offset) ||
			    v.header.timestamp_ns < r->timestamp_ns) {
				fault = HFB_FAULT_SHAPE;
				break;
			}
			range.position = v.position + v.header.size;
			ret = accept(r, at, &v, state);
			if (ret < 0)
				break;
		}
		if (ret == 0 && r->reader.scan.error < 0)
			ret = hfb_err_set(err, r->reader.scan.error, "%s: reading: %s", path,
					  strerror(-r->reader.scan.error));
		if (!s->has_batches && fault == HFB_FAULT_END) {
			s->has_batches = true;
			s->first_timestamp_ns = r->reader.head.first_timestamp_ns;
		}
		s->base_offset = r->reader.head.base_offset;
		s->end_offset = r->reader.head.end_offset;
		s->last_timestamp_ns = r->reader.head.last_timestamp_ns;
		r->timestamp_ns = s->last_timestamp_ns;
		r->offset = s->end_offset;
		r->offset_known = true;
	} else {
		ret = 0;
		r->offset_known = false;
	}
	r->ret->report.scanned_bytes += r->reader.scan.read_bytes;
	hfb_segment_reader_close(&r->reader);
	if (ret == 0 && fault != HFB_FAULT_END) {
		range.offset = range.end_offset = r->offset;
		ret = hfb_recover_corrupt(r, &range, s->name,
					  why.code != 0 ? "no whole compacted segment"
							: hfb_fault_name(fault));
	}
	r->position = s->end_position = segment_end(s);
	return ret;
}

/* Go on in segment @at; one that is compacted is through at once. */
static int
segment_enter(struct hfb_recovery *r, uint32_t at, struct hfb_err *err)
{
	const struct hfb_recovered_segment *s = &r->ret->segments[at];

	if (s->kind == HFB_SEGMENT_COMPACTED && r->position < segment_end(s)) {
		int ret = compacted_walk(r, at, true, err);

		if (ret < 0)
			return ret;
		r->walked = true;
	}
	return segment_open(r, &r->scan, at, r->position, err);
}

int
hfb_recover_walk(struct hfb_recovery *r, uint32_t at, struct hfb_err *err)
{
	struct hfb_recovered_segment *segments = r->ret->segments;
	struct hfb_batch_view v;
	uint64_t sound_bytes;
	enum hfb_fault fault;
	bool accepted = false;
	uint32_t look_at;
	const char *why;
	int ret;

	ret = segment_enter(r, at, err);
	while (ret == 0) {
		r->walk_at = at;
		fault = hfb_scan_next(&r->scan, HFB_CHECK_ALL, &v);
		ret = read_error(r, &r->scan, at, err);
		if (ret < 0)
			break;
		if (fault == HFB_FAULT_FEATURE) {
			/* The crc is right, so this is the log, written by another
			 * version: neither to be served nor to be cut. */
			ret = hfb_err_set(
				err, -EOPNOTSUPP,
				"%s/%s: the batch at position %" PRIu64 " has a version,"
				" encoding or flag not known here; use the hfbusd that wrote it",
				r->folder, segments[at].name, r->position);
			break;
		}
		sound_bytes = fault > HFB_FAULT_SHAPE ? v.header.size : 0;
		why = hfb_fault_name(fault);
		look_at = at;
		if (fault == HFB_FAULT_NONE) {
			why = continues(r, &v.header);
			if (why == NULL) {
				ret = accept(r, at, &v, true);
				accepted = true;
				continue;
			}
		} else if (fault == HFB_FAULT_END) {
			if (at + 1 == r->ret->segments_count)
				break;
			if (segments[at + 1].base_position == r->position) {
				ret = segment_leave(r, at, &accepted, err);
				if (ret < 0)
					break;
				at++;
				ret = segment_enter(r, at, err);
				continue;
			}
			why = "a segment is missing";
			look_at = at + 1;
		} else if (sound_bytes != 0 && continues(r, &v.header) != NULL) {
			sound_bytes = 0; /* sound, but not this log's */
		}
#ifdef HFB_BUG_STALE_LAP_ACCEPTED
		if (fault != HFB_FAULT_END && stale_accepted(r, &v)) {
			ret = accept(r, at, &v, true);
			continue;
		}
#endif
		ret = torn_or_corrupt(r, at, look_at, sound_bytes, why, err);
		if (ret <= 0)
			break;
		ret = 0;
		if (r->resume_at != at) {
			segments[at].end_position = segment_end(&segments[at]);
			ret = segment_leave(r, at, &accepted, err);
			if (ret < 0)
				break;
			at = r->resume_at;
			ret = segment_enter(r, at, err);
		} else {
			r->scan.position = r->position;
		}
	}
	if (ret == 0)
		ret = segment_leave(r, at, &accepted, err);
	hfb_scan_close(&r->scan);
	return ret < 0 ? ret : (int)at;
}

int
hfb_recover_sealed(struct hfb_recovery *r, uint32_t at, struct hfb_err *err)
{
	struct hfb_recovered_segment *s = &r->ret->segments[at];
	struct hfb_batch_view v;
	enum hfb_fault fault;
	const char *why;
	int ret;

	r->position = s->base_position;
	r->offset_known = false;
	r->epoch = 0;
	r->timestamp_ns = 0;
	if (s->kind == HFB_SEGMENT_COMPACTED)
		return compacted_walk(r, at, false, err);
	ret = segment_open(r, &r->scan, at, s->base_position, err);
	while (ret == 0) {
		struct hfb_corrupt_range range;
		uint64_t from;

		fault = hfb_scan_next(&r->scan, HFB_CHECK_ALL, &v);
		ret = read_error(r, &r->scan, at, err);
		if (ret < 0 || fault == HFB_FAULT_END)
			break;
		why = fault == HFB_FAULT_NONE ? continues(r, &v.header) : hfb_fault_name(fault);
		if (why == NULL) {
			r->epoch = v.header.leader_epoch;
			ret = accept(r, at, &v, false);
			continue;
		}
		from = r->position + (fault > HFB_FAULT_SHAPE ? v.header.size : HFB_BATCH_ALIGN);
		range.position = r->position;
		range.offset = range.end_offset = r->offset;
		range.end = segment_end(s);
		while (hfb_scan_next_valid(&r->scan, from, range.end, 0, &v)) {
			if (may_follow(r, &v)) {
				range.end = v.position;
				range.end_offset = v.header.base_offset;
				if (!r->offset_known)
					range.offset = range.end_offset;
				break;
			}
			from = v.position + HFB_BATCH_ALIGN;
		}
		ret = read_error(r, &r->scan, at, err);
		if (ret == 0)
			ret = hfb_recover_corrupt(r, &range, s->name, why);
		r->position = r->scan.position = range.end;
		r->offset = range.end_offset;
		r->offset_known = true;
	}
	r->ret->report.scanned_bytes += r->scan.read_bytes;
	hfb_scan_close(&r->scan);
	s->end_position = segment_end(s);
	return ret;
}
