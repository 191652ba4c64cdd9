/* SPDX-License-Identifier: Apache-2.0 */
#include "spsc.h"

#include <stdlib.h>
#include <string.h>

#include "bug.h"

struct hfb_spsc *
hfb_spsc_create(uint32_t size)
{
	size_t bytes = sizeof(struct hfb_spsc) + (size_t)size * sizeof(void *);
	struct hfb_spsc *ring;

	hfb_assert(size >= 2);
	hfb_assert((size & (size - 1)) == 0);
	bytes = (bytes + 63u) & ~(size_t)63u;
	ring = aligned_alloc(64, bytes);
	if (ring == NULL)
		return NULL;
	/* Also touches every page, so that the first lap does not fault. */
	memset(ring, 0, bytes);
	ring->mask = size - 1;
	return ring;
}

void
hfb_spsc_destroy(struct hfb_spsc *ring)
{
	free(ring);
}
