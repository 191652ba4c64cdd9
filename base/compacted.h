/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compacted.h - where in a compacted segment's file the bytes of a position are.
 *
 *	r = hfb_compacted_head(block, size, &segment, &head);	its header block
 *	... read head.extents_count + 1 extents behind the data ...
 *	ok = hfb_extents_check(&segment, &head, entries);
 *	if (hfb_extents_find(entries, head.extents_count, position, &place))
 *		... place.bytes of log at place.at ...
 *	else	... a hole up to place.position, offset place.offset
 *
 * Threads: pure.
 */
#ifndef HFB_COMPACTED_H
#define HFB_COMPACTED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hfbus/log.h>

/* Extents as read, with the one that ends them. */
struct hfb_extents {
	uint32_t count;
	struct hfb_compacted_extent entries[]; /* count + 1 */
};

struct hfb_extent_place {
	uint64_t position; /* as asked, or where the log goes on behind a hole */
	uint64_t offset;   /* behind a hole: of what stands there; else of the extent's start */
	uint64_t at;	   /* file offset of the bytes */
	uint64_t bytes;	   /* up to the extent's end */
};

/* The second half of a compacted segment's header block of @size bytes: 0 or -EBADMSG. */
int hfb_compacted_head(const void *block, size_t size, const struct hfb_segment_header *segment,
		       struct hfb_compacted_header *ret);
void hfb_compacted_head_seal(struct hfb_compacted_header *head);
/* Do the extents follow one another within segment and data? */
bool hfb_extents_check(const struct hfb_segment_header *segment,
		       const struct hfb_compacted_header *head,
		       const struct hfb_compacted_extent *entries);
/* True: the bytes of @position; false: it lies in a hole, or behind the last. */
bool hfb_extents_find(const struct hfb_compacted_extent *entries, uint32_t count, uint64_t position,
		      struct hfb_extent_place *ret);

#endif
