/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reassembly.c - see reassembly.h.
 */
#include "reassembly.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int
hfb_reassembly_init(struct hfb_reassembly *r, uint64_t window_bytes)
{
	memset(r, 0, sizeof(*r));
	r->buffer_bytes = window_bytes * 2;
	r->buffer = malloc(r->buffer_bytes);
	return r->buffer == NULL ? -ENOMEM : 0;
}

void
hfb_reassembly_fini(struct hfb_reassembly *r)
{
	free(r->buffer);
	memset(r, 0, sizeof(*r));
}

void
hfb_reassembly_reset(struct hfb_reassembly *r, uint64_t position)
{
	r->base = r->position = r->contiguous = position;
	r->runs_count = 0;
}

int
hfb_reassembly_grow(struct hfb_reassembly *r, uint64_t window_bytes)
{
	uint8_t *buffer;

	if (window_bytes * 2 <= r->buffer_bytes)
		return 0;
	buffer = realloc(r->buffer, window_bytes * 2);
	if (buffer == NULL)
		return -ENOMEM;
	r->buffer = buffer;
	r->buffer_bytes = window_bytes * 2;
	return 0;
}

static uint64_t
highest(const struct hfb_reassembly *r)
{
	return r->runs_count > 0 ? r->runs[r->runs_count - 1].to : r->contiguous;
}

static void
runs_remove(struct hfb_reassembly *r, uint32_t at, uint32_t n)
{
	memmove(&r->runs[at], &r->runs[at + n], (r->runs_count - at - n) * sizeof(r->runs[0]));
	r->runs_count -= n;
}

/* Note that [from, to) is there, from > contiguous. False: too many holes. */
static bool
runs_insert(struct hfb_reassembly *r, uint64_t from, uint64_t to)
{
	uint32_t at = r->runs_count, n = 0;

	while (at > 0 && r->runs[at - 1].to >= from)
		at--; /* from the back: new ones are mostly last */
	while (at + n < r->runs_count && r->runs[at + n].from <= to) {
		if (r->runs[at + n].from < from)
			from = r->runs[at + n].from;
		if (r->runs[at + n].to > to)
			to = r->runs[at + n].to;
		n++;
	}
	if (n == 0) {
		if (r->runs_count == HFB_REASSEMBLY_HOLES_MAX)
			return false;
		memmove(&r->runs[at + 1], &r->runs[at], (r->runs_count - at) * sizeof(r->runs[0]));
		r->runs_count++;
	} else if (n > 1) {
		runs_remove(r, at + 1, n - 1);
	}
	r->runs[at].from = from;
	r->runs[at].to = to;
	return true;
}

bool
hfb_reassembly_put(struct hfb_reassembly *r, uint64_t position, const uint8_t *bytes, uint64_t size)
{
	uint64_t limit = hfb_reassembly_limit(r), was = r->contiguous, to;

	if (size == 0 || position > limit || size > limit - position) {
		if (position >= limit || size == 0)
			return false;
		size = limit - position;
	}
	to = position + size;
	if (to <= r->contiguous) {
		r->duplicates++;
		return false;
	}
	if (position < r->contiguous) {
		bytes += r->contiguous - position;
		position = r->contiguous;
	}
	if (to - r->base > r->buffer_bytes) {
		/* move what is held to the front */
		memmove(r->buffer, r->buffer + (r->position - r->base), highest(r) - r->position);
		r->base = r->position;
	}
	if (position > r->contiguous && !runs_insert(r, position, to))
		return false;
	memcpy(r->buffer + (position - r->base), bytes, to - position);
	if (position == r->contiguous)
		r->contiguous = to;
	while (r->runs_count > 0 && r->runs[0].from <= r->contiguous) {
		if (r->runs[0].to > r->contiguous)
			r->contiguous = r->runs[0].to;
		runs_remove(r, 0, 1);
	}
	return r->contiguous != was;
}

void
hfb_reassembly_front(const struct hfb_reassembly *r, const uint8_t **ret_bytes, uint64_t *ret_size)
{
	*ret_bytes = r->buffer + (r->position - r->base);
	*ret_size = r->contiguous - r->position;
}

void
hfb_reassembly_drop(struct hfb_reassembly *r, uint64_t size)
{
	r->position += size;
}
