/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring.h - the memory that holds a log's head: a sealed memfd, mapped twice in
 * a row so that no batch wraps.
 *
 *	| size bytes | the same size bytes |	byte of position p: bytes[p & (size - 1)]
 *
 * Others get the file descriptor and can only map it read-only: SHRINK, GROW
 * and FUTURE_WRITE are sealed once this process has its mapping.
 *
 * Threads: create and destroy may block: never a poll core. The bytes belong to
 *	    the log's core.
 * Memory:  plain pages come when touched, unless `populate` asks for all at once,
 *	    so that ten thousand rings nobody has written cost address space only.
 */
#ifndef HFB_LOG_RING_H
#define HFB_LOG_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"

struct hfb_ring {
	uint8_t *bytes;
	uint64_t size; /* power of two */
	int fd;
	uint32_t generation;	   /* of this log's rings, from 1 */
	int buffer_slot;	   /* registered with the core's queue, -1 = not; the core's */
	bool huge;		   /* hugetlb pages */
	struct hfb_ring *previous; /* kept mapped: writes and peeks may still be in it */
};

struct hfb_ring_config {
	uint64_t size; /* power of two, HFB_RING_BYTES_MIN..MAX */
	uint32_t generation;
	bool hugepages; /* try; plain pages when refused */
	bool populate;
};

/* 0, -ENOMEM, -EMFILE... and *@ret_ring is untouched. */
int hfb_ring_create(const struct hfb_ring_config *config, struct hfb_ring **ret_ring,
		    struct hfb_err *err);
/* This ring and those before it. Accepts NULL. */
void hfb_ring_destroy(struct hfb_ring *ring);

#endif
