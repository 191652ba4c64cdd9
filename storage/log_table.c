/* SPDX-License-Identifier: Apache-2.0 */
#include "log_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bug.h"

int
hfb_table_find(const struct hfb_table *table, uint64_t position)
{
	uint32_t low = 0, high = table->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (table->segments[middle]->base_position <= position)
			low = middle + 1;
		else
			high = middle;
	}
	return (int)low - 1;
}

struct hfb_segment *
hfb_table_at(const struct hfb_table *table, uint64_t position)
{
	int i = hfb_table_find(table, position);
	struct hfb_segment *segment = i < 0 ? NULL : table->segments[i];

	if (segment == NULL || position - segment->base_position >= segment->capacity_bytes)
		return NULL;
	return segment;
}

static struct hfb_table *
table_make(uint32_t count)
{
	struct hfb_table *table =
		malloc(sizeof(*table) + (size_t)count * sizeof(table->segments[0]));

	if (table != NULL) {
		table->replaced = NULL;
		table->count = count;
	}
	return table;
}

struct hfb_table *
hfb_table_copy(const struct hfb_table_slot *slot)
{
	const struct hfb_table *now = slot->current;
	struct hfb_table *copy = table_make(now->count);

	if (copy != NULL)
		memcpy(copy->segments, now->segments, now->count * sizeof(now->segments[0]));
	return copy;
}

void
hfb_table_publish(struct hfb_table_slot *slot, struct hfb_table *table)
{
	struct hfb_table *old = slot->current;

	/* seq_cst: see hfb_table_enter */
	__atomic_store_n(&slot->current, table, __ATOMIC_SEQ_CST);
	old->replaced = slot->old;
	slot->old = old;
}

int
hfb_table_init(struct hfb_table_slot *slot)
{
	slot->old = NULL;
	slot->inside = 0;
	slot->current = table_make(0);
	return slot->current == NULL ? -ENOMEM : 0;
}

int
hfb_table_add(struct hfb_table_slot *slot, struct hfb_segment *segment)
{
	const struct hfb_table *now = slot->current;
	struct hfb_table *next = table_make(now->count + 1);
	uint32_t at = (uint32_t)(hfb_table_find(now, segment->base_position) + 1);

	if (next == NULL)
		return -ENOMEM;
	memcpy(next->segments, now->segments, at * sizeof(next->segments[0]));
	next->segments[at] = segment;
	memcpy(next->segments + at + 1, now->segments + at,
	       (now->count - at) * sizeof(next->segments[0]));
	hfb_table_publish(slot, next);
	return 0;
}

int
hfb_table_drop(struct hfb_table_slot *slot, uint32_t count)
{
	const struct hfb_table *now = slot->current;
	struct hfb_table *next;

	hfb_assert(count <= now->count);
	next = table_make(now->count - count);
	if (next == NULL)
		return -ENOMEM;
	memcpy(next->segments, now->segments + count, next->count * sizeof(next->segments[0]));
	hfb_table_publish(slot, next);
	return 0;
}

bool
hfb_table_tidy(struct hfb_table_slot *slot)
{
	if (slot->old == NULL)
		return true;
	/* seq_cst: see hfb_table_enter */
	if (__atomic_load_n(&slot->inside, __ATOMIC_SEQ_CST) != 0)
		return false;
	while (slot->old != NULL) {
		struct hfb_table *old = slot->old;

		slot->old = old->replaced;
		free(old);
	}
	return true;
}

void
hfb_table_fini(struct hfb_table_slot *slot)
{
	while (slot->old != NULL) {
		struct hfb_table *old = slot->old;

		slot->old = old->replaced;
		free(old);
	}
	free(slot->current);
	slot->current = NULL;
}
