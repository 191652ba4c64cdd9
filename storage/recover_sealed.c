/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recover_sealed.c - segments all of which was durable: what is not right in one is damage.
 *
 *	log segments		their index stands for them; bad or missing: scanned for it
 *	compacted segments	whole before they got their name: read by their extents
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "recover_private.h"

/* Compacted ones. -------------------------------------------------------------- */

/*
 * The batches of the one that the reader has open, up to @ret_sound; @ret_fault is why no
 * further. What its head says holds whatever became of them.
 */
static int
compacted_read(struct hfb_recovery *r, uint32_t at, bool state, uint64_t *ret_sound,
	       enum hfb_fault *ret_fault)
{
	struct hfb_recovered_segment *s = &r->ret->segments[at];
	const struct hfb_compacted_header *head = &r->reader.head;
	enum hfb_fault fault;
	struct hfb_batch_view v;
	int ret;

	s->data_bytes = head->data_bytes;
	for (;;) {
		fault = hfb_segment_reader_next(&r->reader, HFB_CHECK_ALL, &v);
		if (fault != HFB_FAULT_NONE)
			break;
		if (v.header.leader_epoch < r->epoch || v.header.timestamp_ns < r->timestamp_ns ||
		    (r->offset_known && v.header.base_offset < r->offset)) {
			fault = HFB_FAULT_SHAPE;
			break;
		}
		ret = hfb_recover_accept(r, at, &v, state);
		if (ret < 0)
			return ret;
		*ret_sound = r->position;
	}
	if (!s->has_batches && fault == HFB_FAULT_END) {
		s->has_batches = true;
		s->first_timestamp_ns = head->first_timestamp_ns;
	}
	s->base_offset = head->base_offset;
	s->end_offset = r->offset = head->end_offset;
	s->last_timestamp_ns = r->timestamp_ns = head->last_timestamp_ns;
	r->offset_known = true;
	*ret_fault = fault;
	return 0;
}

int
hfb_recover_compacted(struct hfb_recovery *r, uint32_t at, bool state, struct hfb_err *err)
{
	struct hfb_recovered_segment *s = &r->ret->segments[at];
	const struct hfb_segment_place_in_log place = {
		.base_position = s->base_position,
		.capacity_bytes = s->capacity_bytes,
		.kind = s->kind,
	};
	struct hfb_corrupt_range range = { .position = s->base_position,
					   .end = hfb_recovered_end(s) };
	enum hfb_fault fault = HFB_FAULT_HEADER;
	struct hfb_err why = { 0 };
	char path[HFB_PATH_MAX];
	int ret = hfb_recover_path(r, s, ".seg", path, err);

	if (ret < 0)
		return ret;
	ret = hfb_segment_reader_open(&r->reader, r->env, path, r->seed, &place, s->base_position,
				      &why);
	if (ret < 0 && ret != -EBADMSG)
		return hfb_err_set(err, ret, "%s", why.text);
	if (ret == -EBADMSG) {
		ret = 0;
		r->offset_known = false;
	} else {
		ret = compacted_read(r, at, state, &range.position, &fault);
		if (ret == 0 && r->reader.scan.error < 0)
			ret = hfb_err_set(err, r->reader.scan.error, "%s: reading: %s", path,
					  strerror(-r->reader.scan.error));
	}
	r->ret->report.scanned_bytes += r->reader.scan.read_bytes;
	hfb_segment_reader_close(&r->reader);
	if (ret == 0 && fault != HFB_FAULT_END) {
		range.offset = range.end_offset = r->offset;
		ret = hfb_recover_corrupt(r, &range, s->name,
					  why.code != 0 ? "no whole compacted segment"
							: hfb_fault_name(fault));
	}
	r->position = s->end_position = hfb_recovered_end(s);
	return ret;
}

/* One by one, for its index. ------------------------------------------------------ */

/* At ->position stands no batch of the log: on at the next one that may be of it. */
static int
damage_pass(struct hfb_recovery *r, const struct hfb_recovered_segment *s, uint64_t from,
	    const char *why, struct hfb_err *err)
{
	struct hfb_corrupt_range range = {
		.position = r->position,
		.end = hfb_recovered_end(s),
		.offset = r->offset,
		.end_offset = r->offset,
	};
	struct hfb_batch_view v;
	int ret;

	while (hfb_scan_next_valid(&r->scan, from, range.end, 0, &v)) {
		if (hfb_recover_may_follow(r, &v)) {
			range.end = v.position;
			range.end_offset = v.header.base_offset;
			if (!r->offset_known)
				range.offset = range.end_offset;
			break;
		}
		from = v.position + HFB_BATCH_ALIGN;
	}
	ret = hfb_recover_read_error(r, &r->scan, (uint32_t)(s - r->ret->segments), err);
	if (ret == 0)
		ret = hfb_recover_corrupt(r, &range, s->name, why);
	r->position = r->scan.position = range.end;
	r->offset = range.end_offset;
	r->offset_known = true;
	return ret;
}

/* Scan segment @at alone for its index. */
static int
sealed_scan(struct hfb_recovery *r, uint32_t at, struct hfb_err *err)
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
		return hfb_recover_compacted(r, at, false, err);
	ret = hfb_recover_open(r, &r->scan, at, s->base_position, err);
	while (ret == 0) {
		fault = hfb_scan_next(&r->scan, HFB_CHECK_ALL, &v);
		ret = hfb_recover_read_error(r, &r->scan, at, err);
		if (ret < 0 || fault == HFB_FAULT_END)
			break;
		why = fault == HFB_FAULT_NONE ? hfb_recover_continues(r, &v.header)
					      : hfb_fault_name(fault);
		if (why == NULL) {
			r->epoch = v.header.leader_epoch;
			ret = hfb_recover_accept(r, at, &v, false);
		} else {
			uint64_t bytes = fault > HFB_FAULT_SHAPE ? v.header.size : HFB_BATCH_ALIGN;

			ret = damage_pass(r, s, r->position + bytes, why, err);
		}
	}
	r->ret->report.scanned_bytes += r->scan.read_bytes;
	hfb_scan_close(&r->scan);
	s->end_position = hfb_recovered_end(s);
	return ret;
}

/* Their indexes. --------------------------------------------------------------------- */

/* The summary in the sealed index of @s; 1 = it is there and right, 0 = not. */
static int
sealed_load(struct hfb_recovery *r, struct hfb_recovered_segment *s,
	    struct hfb_index_summary *ret_summary, struct hfb_err *err)
{
	struct hfb_err why = { 0 };
	char path[HFB_PATH_MAX];
	int rc;

	rc = hfb_recover_path(r, s, ".idx", path, err);
	if (rc < 0)
		return rc;
	rc = hfb_index_load(r->env, path, s->base_position, NULL, ret_summary, &why);
	if (rc == 0 && ret_summary->end_position == hfb_recovered_end(s))
		return 1;
	if (rc == 0)
		hfb_err_set(&why, -EBADMSG, "%s: ends at %" PRIu64 ", not with its segment", path,
			    ret_summary->end_position);
	if (rc == -ENOMEM)
		return hfb_err_set(err, rc, "%s", why.text);
	if (rc == -ENOENT)
		hfb_recover_note(r, "%s: missing; built anew", path);
	else
		hfb_recover_note(r, "%s; built anew", why.text);
	r->ret->report.index_rebuilt = true;
	return 0;
}

/* Write what walking @at has built. A full disk is no reason not to start. */
static int
sealed_save(struct hfb_recovery *r, uint32_t at, struct hfb_err *err)
{
	struct hfb_recovered_segment *s = &r->ret->segments[at];
	struct hfb_index_summary summary = {
		.base_position = s->base_position,
		.end_position = hfb_recovered_end(s),
		.base_offset = s->base_offset,
		.end_offset = s->end_offset,
		.first_timestamp_ns = s->first_timestamp_ns,
		.last_timestamp_ns = s->last_timestamp_ns,
	};
	struct hfb_index *index = hfb_recover_index(r, at);
	struct hfb_err why = { 0 };
	char path[HFB_PATH_MAX];
	int rc;

	if (index == NULL)
		return hfb_err_set(err, -ENOMEM, "%s: no memory", r->folder);
	rc = hfb_recover_path(r, s, ".idx", path, err);
	if (rc < 0)
		return rc;
	if (hfb_index_save(r->env, path, index, &summary, &why) < 0)
		hfb_recover_note(r, "%s", why.text);
	free(r->indexes[at]);
	r->indexes[at] = NULL;
	return 0;
}

int
hfb_recover_sealed_index(struct hfb_recovery *r, uint32_t at, struct hfb_err *err)
{
	struct hfb_index_summary summary;
	int ret = sealed_load(r, &r->ret->segments[at], &summary, err);

	return ret == 0 ? sealed_save(r, at, err) : ret;
}

/* Segment @at, as its index tells or, where that is bad or missing, as a scan does. */
static int
sealed_segment(struct hfb_recovery *r, uint32_t at, struct hfb_err *err)
{
	struct hfb_recovered_segment *s = &r->ret->segments[at];
	struct hfb_index_summary summary;
	int ret;

	s->state = HFB_RECOVERED_SEALED;
	s->end_position = hfb_recovered_end(s);
	ret = sealed_load(r, s, &summary, err);
	if (ret == 1) {
		s->base_offset = summary.base_offset;
		s->end_offset = summary.end_offset;
		s->first_timestamp_ns = summary.first_timestamp_ns;
		s->last_timestamp_ns = summary.last_timestamp_ns;
	} else if (ret == 0) {
		ret = sealed_scan(r, at, err);
		if (ret == 0)
			ret = sealed_save(r, at, err);
	}
	s->has_batches = true;
	return ret;
}

int
hfb_recover_sealed(struct hfb_recovery *r, uint32_t until, struct hfb_err *err)
{
	struct hfb_recovered *found = r->ret;

	for (uint32_t i = r->first; i < until; i++) {
		struct hfb_recovered_segment *s = &found->segments[i];
		int ret = sealed_segment(r, i, err);

		if (ret >= 0 && i + 1 < found->segments_count &&
		    hfb_recovered_end(s) < s[1].base_position) {
			const struct hfb_corrupt_range range = {
				.position = hfb_recovered_end(s),
				.end = s[1].base_position,
				.offset = s->end_offset,
				.end_offset = s->end_offset,
			};

			ret = hfb_recover_corrupt(r, &range, s->name,
						  "the segment that follows is missing");
		}
		if (ret < 0)
			return ret;
	}
	return 0;
}
