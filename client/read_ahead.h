/* SPDX-License-Identifier: Apache-2.0 */
/*
 * read_ahead.h - a segment file read ahead of its reader: O_DIRECT, several reads in
 * flight, each byte used where the disk has put it.
 *
 *	r = hfb_ahead_create(&ahead);			 < 0: do without
 *	r = hfb_ahead_start(ahead, fd, base, base_offset, end, position);
 *	n = hfb_ahead_look(ahead, position, limit, &bytes);
 *	hfb_ahead_stop(ahead);
 *
 *	       | used | read, to be used | in flight | not asked for
 *	      head            position  done        asked        limit
 *
 * Memory is a ring of HFB_AHEAD_BYTES mapped twice in a row, so that no batch is cut.
 * Below `limit` only whole chunks are asked for, and the segment's first and last piece of
 * one: what is behind the last of them, and whatever goes wrong here, is for the caller to
 * read in another way.
 *
 * Threads: the bus's.
 * Memory:  HFB_AHEAD_BYTES from create to destroy, in huge pages where the kernel joins them
 *	    (MADV_COLLAPSE; none need be reserved).
 * Cost:    a system call for each chunk; no copy. Creating takes some 3 ms.
 */
#ifndef HFB_READ_AHEAD_H
#define HFB_READ_AHEAD_H

#include <stdbool.h>
#include <stdint.h>

#define HFB_AHEAD_BYTES	      (4u << 20)
#define HFB_AHEAD_CHUNK_BYTES (512u << 10)

struct hfb_ahead;

/* 0, or why there is none: -ENOMEM, or io_uring is refused. */
int hfb_ahead_create(struct hfb_ahead **ret_ahead);
void hfb_ahead_destroy(struct hfb_ahead *ahead); /* accepts NULL */

/*
 * Begin at @position of the segment behind @fd (not kept), which has the positions from @base,
 * a multiple of 4 KiB, to @end; @base stands at byte @base_offset of the file. 0, or negative
 * errno: it cannot be opened so.
 */
int hfb_ahead_start(struct hfb_ahead *ahead, int fd, uint64_t base, uint64_t base_offset,
		    uint64_t end, uint64_t position);
/* Wait for what is in flight and forget all. */
void hfb_ahead_stop(struct hfb_ahead *ahead);

/*
 * The bytes at @position, which does not go back, and more reads up to @limit. What was
 * given before may be overwritten from here on.
 * Returns how many bytes stand at *@ret_bytes; 0: they are on their way; or -ENODATA: not
 * here (beyond the last whole chunk, not started, a read failed).
 */
int64_t hfb_ahead_look(struct hfb_ahead *ahead, uint64_t position, uint64_t limit,
		       const uint8_t **ret_bytes);
/* How many of the bytes at @position look will ever give with this @limit. */
uint64_t hfb_ahead_reach(const struct hfb_ahead *ahead, uint64_t position, uint64_t limit);

/* Sleep until a read has come, at most @timeout_ns. False: none is in flight. */
bool hfb_ahead_wait(struct hfb_ahead *ahead, uint64_t timeout_ns);

#endif
