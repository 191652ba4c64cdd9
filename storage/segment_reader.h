/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment_reader.h - the batches of one segment in order, whatever its kind.
 *
 *	r = hfb_segment_reader_open(&reader, env, path, seed, &segment, &err);
 *	while (hfb_segment_reader_next(&reader, HFB_CHECK_ALL, &view) == HFB_FAULT_NONE)
 *		...
 *	hfb_segment_reader_close(&reader);
 *
 * A compacted segment's extents lie one after the other in the file: for each the scan
 * is told another base, so that positions and file offsets agree again.
 *
 * Threads: the caller's.
 * Memory:  the scan's buffer, and 24 bytes an extent.
 */
#ifndef HFB_SEGMENT_READER_H
#define HFB_SEGMENT_READER_H

#include "compacted.h"
#include "scan.h"

struct hfb_segment_place_in_log {
	uint64_t base_position, capacity_bytes;
	uint32_t kind;
};

struct hfb_segment_reader {
	struct hfb_scan scan;
	uint64_t end_position;	     /* of the segment */
	struct hfb_extents *extents; /* NULL: an ordinary segment */
	uint32_t extent;	     /* that `scan` is in */
	struct hfb_compacted_header head;
};

/* Zero @reader first, or reuse a closed one. From the batch at @from, or behind it. 0,
 * -EBADMSG (not a whole compacted segment), other -errno. */
int hfb_segment_reader_open(struct hfb_segment_reader *reader, struct hfb_env *env,
			    const char *path, uint32_t seed,
			    const struct hfb_segment_place_in_log *segment, uint64_t from,
			    struct hfb_err *err);
/* As hfb_scan_next(); HFB_FAULT_END at the segment's end. */
enum hfb_fault hfb_segment_reader_next(struct hfb_segment_reader *reader, unsigned int checks,
				       struct hfb_batch_view *ret_view);
void hfb_segment_reader_close(struct hfb_segment_reader *reader);
void hfb_segment_reader_fini(struct hfb_segment_reader *reader);

/* Header block and extents of an open compacted segment; free() *@ret. As above. */
int hfb_extents_load(struct hfb_env *env, int fd, const char *path, uint64_t base_position,
		     struct hfb_compacted_header *ret_head, struct hfb_extents **ret,
		     struct hfb_err *err);

#endif
