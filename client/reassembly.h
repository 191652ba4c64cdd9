/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reassembly.h - pieces of a log in any order become a contiguous run.
 *
 *	hfb_reassembly_put(&r, position, bytes, n);
 *	hfb_reassembly_front(&r, &bytes, &n);	 contiguous from r.position on
 *	hfb_reassembly_drop(&r, used);
 *
 * Threads: one.
 * Memory:  one buffer of twice the window, so that moving down is rare.
 */
#ifndef HFB_REASSEMBLY_H
#define HFB_REASSEMBLY_H

#include <stdbool.h>
#include <stdint.h>

#define HFB_REASSEMBLY_HOLES_MAX 256u

struct hfb_reassembly_run {
	uint64_t from, to;
};

struct hfb_reassembly {
	uint8_t *buffer;
	uint64_t buffer_bytes;
	uint64_t base;	     /* position of buffer[0] */
	uint64_t position;   /* of the first byte not dropped */
	uint64_t contiguous; /* everything from position up to here is there */
	struct hfb_reassembly_run runs[HFB_REASSEMBLY_HOLES_MAX]; /* beyond, in order */
	uint32_t runs_count;
	uint64_t duplicates;
};

int hfb_reassembly_init(struct hfb_reassembly *r, uint64_t window_bytes); /* 0 or -ENOMEM */
void hfb_reassembly_fini(struct hfb_reassembly *r);
/* Forget all; go on at @position. */
void hfb_reassembly_reset(struct hfb_reassembly *r, uint64_t position);
/* At least this much may be held from `position` on. 0 or -ENOMEM. */
int hfb_reassembly_grow(struct hfb_reassembly *r, uint64_t window_bytes);
/* True when `contiguous` moved. Bytes before position or beyond the room are dropped. */
bool hfb_reassembly_put(struct hfb_reassembly *r, uint64_t position, const uint8_t *bytes,
			uint64_t size);
void hfb_reassembly_front(const struct hfb_reassembly *r, const uint8_t **ret_bytes,
			  uint64_t *ret_size);
void hfb_reassembly_drop(struct hfb_reassembly *r, uint64_t size);
/* Positions below this fit. */
static inline uint64_t
hfb_reassembly_limit(const struct hfb_reassembly *r)
{
	return r->position + r->buffer_bytes / 2;
}

#endif
