/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recover_walk.c - where does the log end?
 *
 * A batch is of the log when its checksums are right at its position and it
 * continues what came before: epoch not lower, offset exactly the next, time not
 * lower. Where that fails the log ends, or is damaged and goes on further behind
 * (recover_behind.c).
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "crc32c.h"
#include "env.h"
#include "recover_private.h"

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
segment_leave(struct hfb_recovery *r, struct hfb_err *err)
{
	int ret;

	r->ret->report.scanned_bytes += r->scan.read_bytes;
	r->scan.read_bytes = 0;
	if (!r->walk_accepted)
		return 0;
	r->walk_accepted = false;
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
				     r->ret->segments[r->walk_at].name, strerror(-ret))
		       : 0;
}

/* Go on in segment @at; one that is compacted is through at once. */
static int
segment_enter(struct hfb_recovery *r, uint32_t at, struct hfb_err *err)
{
	const struct hfb_recovered_segment *s = &r->ret->segments[at];

	if (s->kind == HFB_SEGMENT_COMPACTED && r->position < hfb_recovered_end(s)) {
		int ret = hfb_recover_compacted(r, at, true, err);

		if (ret < 0)
			return ret;
		r->walked = true;
	}
	r->walk_at = at;
	return hfb_recover_open(r, &r->scan, at, r->position, err);
}

/* Done with the segment being walked, on in segment @at. 1, or -errno. */
static int
segment_change(struct hfb_recovery *r, uint32_t at, struct hfb_err *err)
{
	int ret = segment_leave(r, err);

	if (ret == 0)
		ret = segment_enter(r, at, err);
	return ret < 0 ? ret : 1;
}

static int
batch_take(struct hfb_recovery *r, const struct hfb_batch_view *v)
{
	int ret = hfb_recover_accept(r, r->walk_at, v, true);

	r->walk_accepted = true;
	return ret < 0 ? ret : 1;
}

/* At ->position stands no batch of the log, for @why: over what is corrupt, if it is. */
static int
fault_pass(struct hfb_recovery *r, uint32_t look_at, uint64_t sound_bytes, const char *why,
	   struct hfb_err *err)
{
	struct hfb_recovered_segment *s = &r->ret->segments[r->walk_at];
	int ret = hfb_recover_torn_or_corrupt(r, look_at, sound_bytes, why, err);

	if (ret <= 0)
		return ret;
	if (r->resume_at != r->walk_at) {
		s->end_position = hfb_recovered_end(s);
		return segment_change(r, r->resume_at, err);
	}
	r->scan.position = r->position;
	return 1;
}

/* The segment being walked is through. */
static int
segment_through(struct hfb_recovery *r, struct hfb_err *err)
{
	uint32_t next = r->walk_at + 1;

	if (next == r->ret->segments_count)
		return 0;
	if (r->ret->segments[next].base_position == r->position)
		return segment_change(r, next, err);
	return fault_pass(r, next, 0, "a segment is missing", err);
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

/* On by what stands at ->position. 1 = the log goes on, 0 = it ends there, or -errno. */
static int
step(struct hfb_recovery *r, struct hfb_err *err)
{
	uint64_t sound_bytes = 0;
	struct hfb_batch_view v;
	enum hfb_fault fault;
	const char *why;
	int ret;

	fault = hfb_scan_next(&r->scan, HFB_CHECK_ALL, &v);
	ret = hfb_recover_read_error(r, &r->scan, r->walk_at, err);
	if (ret < 0)
		return ret;
	if (fault == HFB_FAULT_END)
		return segment_through(r, err);
	/* The crc is right, so this is the log, written by another version: neither to be
	 * served nor to be cut. */
	if (fault == HFB_FAULT_FEATURE)
		return hfb_err_set(err, -EOPNOTSUPP,
				   "%s/%s: the batch at position %" PRIu64 " has a version,"
				   " encoding or flag not known here; use the hfbusd that wrote it",
				   r->folder, r->ret->segments[r->walk_at].name, r->position);
	if (fault == HFB_FAULT_NONE) {
		why = hfb_recover_continues(r, &v.header);
		if (why == NULL)
			return batch_take(r, &v);
	} else {
		why = hfb_fault_name(fault);
		/* a sound header may still be another log's */
		if (fault > HFB_FAULT_SHAPE && hfb_recover_continues(r, &v.header) == NULL)
			sound_bytes = v.header.size;
	}
#ifdef HFB_BUG_STALE_LAP_ACCEPTED
	if (stale_accepted(r, &v))
		return batch_take(r, &v);
#endif
	return fault_pass(r, r->walk_at, sound_bytes, why, err);
}

int
hfb_recover_walk(struct hfb_recovery *r, uint32_t at, struct hfb_err *err)
{
	int ret = segment_enter(r, at, err);

	if (ret == 0)
		while ((ret = step(r, err)) > 0)
			;
	if (ret == 0)
		ret = segment_leave(r, err);
	hfb_scan_close(&r->scan);
	return ret < 0 ? ret : (int)r->walk_at;
}
