/* SPDX-License-Identifier: Apache-2.0 */
#include "rates.h"

#include <stdlib.h>
#include <string.h>

/* Handles are given out in order; a few may be of partitions that did not open. */
#define UNUSED_RUN_MAX 256u

struct sample {
	uint64_t offset, position, ns;
};

struct entry {
	struct sample before, last;
};

struct hfb_rates {
	struct entry *entries;
	uint32_t count;
};

struct hfb_rates *
hfb_rates_create(void)
{
	return calloc(1, sizeof(struct hfb_rates));
}

void
hfb_rates_destroy(struct hfb_rates *rates)
{
	if (rates == NULL)
		return;
	free(rates->entries);
	free(rates);
}

void
hfb_rates_reset(struct hfb_rates *rates)
{
	free(rates->entries);
	rates->entries = NULL;
	rates->count = 0;
}

static bool
room_make(struct hfb_rates *rates, uint32_t handle)
{
	uint32_t count = rates->count == 0 ? 64 : rates->count;
	struct entry *entries;

	if (handle < rates->count)
		return true;
	while (count <= handle)
		count *= 2;
	entries = realloc(rates->entries, count * sizeof(*entries));
	if (entries == NULL)
		return false;
	memset(entries + rates->count, 0, (count - rates->count) * sizeof(*entries));
	rates->entries = entries;
	rates->count = count;
	return true;
}

void
hfb_rates_sample(struct hfb_rates *rates, const struct hfb_broker *broker, uint64_t now_ns)
{
	uint32_t unused = 0;

	/* Slots that were never used are not looked at: that would make their memory. */
	for (uint32_t handle = 0; unused < UNUSED_RUN_MAX; handle++) {
		const struct hfb_positions *slot = hfb_broker_positions(broker, handle);
		struct entry *entry;

		if (slot == NULL)
			return;
		if (__atomic_load_n(&slot->handle_used, __ATOMIC_ACQUIRE) != 1) {
			unused++;
			continue;
		}
		unused = 0;
		if (!room_make(rates, handle))
			return;
		entry = &rates->entries[handle];
		entry->before = entry->last;
		entry->last.position = __atomic_load_n(&slot->received.position, __ATOMIC_ACQUIRE);
		entry->last.offset = __atomic_load_n(&slot->received.offset, __ATOMIC_RELAXED);
		entry->last.ns = now_ns;
	}
}

bool
hfb_rates_get(const struct hfb_rates *rates, uint32_t handle, double *ret_events, double *ret_bytes)
{
	const struct entry *entry;
	double seconds;

	if (handle >= rates->count)
		return false;
	entry = &rates->entries[handle];
	if (entry->before.ns == 0 || entry->last.ns <= entry->before.ns ||
	    entry->last.position < entry->before.position ||
	    entry->last.offset < entry->before.offset)
		return false;
	seconds = (double)(entry->last.ns - entry->before.ns) / 1e9;
	*ret_events = (double)(entry->last.offset - entry->before.offset) / seconds;
	*ret_bytes = (double)(entry->last.position - entry->before.position) / seconds;
	return true;
}
