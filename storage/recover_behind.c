/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recover_behind.c - where no batch of the log stands: is it torn, or corrupt?
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
#include "recover_private.h"

/*
 * Zeros in a row after which the rest of a segment is only sampled (not even that
 * behind an end mark): ten thousand partitions must not read all their prepared
 * zeros. Lost blocks read as zeros too, so this bounds which losses are found.
 */
#define ZEROS_MAX	(128u * HFB_KIB)
#define ZEROS_MAX_ENDED (8u * HFB_KIB)

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
		if (next >= hfb_recovered_end(s) || (i > at && s->blank) ||
		    s->kind == HFB_SEGMENT_COMPACTED)
			continue;
		ret = scan == &r->scan ? 0 : hfb_recover_open(r, scan, i, next, err);
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
			follows = hfb_recover_may_follow(r, &v);
			if (follows && visit(r, i, &v)) {
				probe_close(r);
				return 1;
			}
			next = v.position + (follows ? v.header.size : HFB_BATCH_ALIGN);
		}
		ret = hfb_recover_read_error(r, scan, i, err);
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

int
hfb_recover_torn_or_corrupt(struct hfb_recovery *r, uint32_t look_at, uint64_t sound_bytes,
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
	r->fault_name = r->ret->segments[r->walk_at].name;
	r->fault_why = why;
	ret = each_behind(r, look_at, from, UINT64_MAX, goes_on, err);
	return ret == 1 && r->resume_error < 0 ? r->resume_error : ret;
}
