/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compact.h - one pass of compaction over the sealed segments of a log: which event is
 * the last of its key, then each segment anew without those that are not.
 *
 *	hfb_compact_run(&job, &err);	calls job.ready for each file that may take
 *					its segment's place
 *
 * First the keys of the segments that were never compacted ("dirty"), as hashes with
 * the offset of their last event. Then all segments, oldest first: an event goes when a
 * later one of its key is known. A tombstone goes, too, when it is old enough. Oldest
 * first, each durable before the next: so a tombstone never goes before what it deletes.
 *
 * What stays: events without a key, gaps, stream starts, epoch starts and end marks; and
 * of each producer in a segment the last batch, if need be without an event: it tells
 * its sequence. Padding goes.
 *
 * Threads: the compactor's; nothing here is shared with a log that is open.
 * Memory:  24 bytes a key at two thirds full, for as many segments as fit keys_max, one at
 *	    least; a segment's extents.
 * Cost:    paced by the caller: job.pace is told of each piece read or written.
 */
#ifndef HFB_COMPACT_H
#define HFB_COMPACT_H

#include <stdbool.h>
#include <stdint.h>

#include <hfbus/types.h>

#include "err.h"

struct hfb_env;

struct hfb_compact_segment {
	uint64_t base_position, capacity_bytes;
	uint64_t base_offset, end_offset;
	uint64_t first_timestamp_ns, last_timestamp_ns;
	uint32_t kind;
};

struct hfb_compact_job {
	struct hfb_env *env;
	const char *folder; /* of the partition */
	struct hfb_uuid topic;
	uint32_t partition;
	uint32_t segments_count, dirty_from; /* dirty ones are the last */
	struct hfb_compact_segment *segments;
	uint64_t now_ns, tombstone_ns;
	uint64_t keys_max; /* for a pass; a segment's own events if these are more */

	/* <base>.seg.compact is whole and synced: put it in the segment's place, durably.
	 * 0, or -errno ends the pass. */
	int (*ready)(void *arg, uint32_t segment, const char *path, uint64_t data_bytes);
	/* So many bytes were read or written; may sleep. False ends the pass (-ECANCELED). */
	bool (*pace)(void *arg, uint64_t bytes);
	void *arg;
	/* The log's start, which moves meanwhile; NULL: it does not. */
	const uint64_t *start_position;

	/* of a pass, out */
	uint64_t events_removed, bytes_before, bytes_after;
	uint64_t tombstone_first_ns; /* time of the oldest tombstone kept; 0 = none */
	uint32_t segments_done;	     /* dirty ones that are compacted now */
};

#define HFB_COMPACT_SUFFIX ".seg.compact.tmp"

/**
 * Returns 0, or
 *   -ECANCELED  by pace
 *   -EBADMSG    a segment has damage in it: it and what follows stay as they are
 *   -ENOSPC, -ENOMEM, -errno; what was made ready before stays
 */
int hfb_compact_run(struct hfb_compact_job *job, struct hfb_err *err);

#endif
