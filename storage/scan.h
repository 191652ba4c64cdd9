/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scan.h - read a segment file batch by batch, through the environment.
 *
 *	hfb_scan_open(&scan, env, path, seed, &segment, from, &err);
 *	while (hfb_scan_next(&scan, HFB_CHECK_ALL, &view) == HFB_FAULT_NONE)
 *		...
 *	hfb_scan_close(&scan);
 *
 * The pure part, over memory, is base/batch.h.
 *
 * Threads: the caller's.
 * Memory:  one buffer, grown to twice the largest batch when needed; a view is
 *	    lent until the next call.
 */
#ifndef HFB_SCAN_H
#define HFB_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hfbus/log.h>
#include <hfbus/types.h>

#include "batch.h"
#include "err.h"

struct hfb_env;

struct hfb_scan {
	struct hfb_env *env;
	int fd;
	uint32_t seed;
	uint64_t base_position, capacity_bytes;
	uint64_t position; /* where the next batch is looked for */
	uint8_t *buffer;   /* own from here on */
	size_t buffer_bytes;
	uint64_t window_position; /* first position in the buffer */
	size_t window_bytes;
	size_t next_bytes;   /* read next time */
	uint64_t file_end;   /* position the file's bytes end at */
	uint64_t read_bytes; /* read in all */
	uint64_t gave_up;    /* zeros ended the last search here; 0 = they did not */
	int error;	     /* -errno of a failed read */
	bool open;
};

/* Segment header at the start of @bytes: 0, or -EBADMSG and @err says what is wrong. */
int hfb_segment_header_parse(const void *bytes, size_t size, const struct hfb_uuid *topic,
			     uint32_t partition, struct hfb_segment_header *ret_header,
			     struct hfb_err *err);
/* Fill in magic, version and crc of a header whose other fields are set. */
void hfb_segment_header_seal(struct hfb_segment_header *header);
/* "<20 digits>.seg": true and the base position; false: not a segment's name. */
bool hfb_segment_name_parse(const char *name, uint64_t *ret_base_position);

/*
 * Scan the log at @base_position, @capacity_bytes, in the file @path, from
 * position @from on. Zero @scan first, or reuse a closed one (keeps its buffer).
 * Returns 0 or -errno.
 */
int hfb_scan_open(struct hfb_scan *scan, struct hfb_env *env, const char *path, uint32_t seed,
		  uint64_t base_position, uint64_t capacity_bytes, uint64_t from,
		  struct hfb_err *err);
/* Closes the file; keeps the buffer. */
void hfb_scan_close(struct hfb_scan *scan);
/* Closes and frees the buffer. */
void hfb_scan_fini(struct hfb_scan *scan);

/*
 * The batch at `position`; moves behind it on HFB_FAULT_NONE and stays else.
 * HFB_FAULT_END: exactly at the segment's end. A batch that would cross it is
 * HFB_FAULT_SHAPE; a file that ends too early is HFB_FAULT_HEADER or _SHORT;
 * a read error is HFB_FAULT_HEADER with `error` set.
 */
enum hfb_fault hfb_scan_next(struct hfb_scan *scan, unsigned int checks,
			     struct hfb_batch_view *ret_view);
/*
 * Search forward by 8 from position @from for the next header with a right crc.
 * Returns true and its view (header checked only; hfb_scan_next() from
 * `position`, which is set there, checks the rest), false: none up to @limit, the
 * segment's end, or @zeros_max bytes of zeros in a row (0 = never give up).
 */
bool hfb_scan_next_valid(struct hfb_scan *scan, uint64_t from, uint64_t limit, uint64_t zeros_max,
			 struct hfb_batch_view *ret_view);
/* Samples of the segment at growing distances behind @from: is any of them not zero? */
bool hfb_scan_data_ahead(struct hfb_scan *scan, uint64_t from);
/* Bytes at @position, at most up to the segment's end; NULL when not readable. */
const uint8_t *hfb_scan_bytes(struct hfb_scan *scan, uint64_t position, size_t want,
			      size_t *ret_bytes);

#endif
