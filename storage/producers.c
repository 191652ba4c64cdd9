/* SPDX-License-Identifier: Apache-2.0 */
/* producers.c - dedup entries of one partition while recovery collects them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "producers.h"

static uint32_t *
place_of(const struct hfb_producers *p, uint64_t producer_id)
{
	uint64_t h = producer_id * 0x9e3779b97f4a7c15ull;
	uint32_t mask = p->max * 2 - 1;
	uint32_t i = (uint32_t)(h >> 32) & mask;

	while (p->table[i] != 0 && p->entries[p->table[i] - 1].producer_id != producer_id)
		i = (i + 1) & mask;
	return &p->table[i];
}

static int
grow(struct hfb_producers *p)
{
	uint32_t max = p->max == 0 ? 16 : p->max * 2;
	struct hfb_dedup_entry *entries = realloc(p->entries, max * sizeof(*entries));
	uint32_t *table;

	if (entries == NULL)
		return -ENOMEM;
	p->entries = entries;
	table = calloc((size_t)max * 2, sizeof(*table));
	if (table == NULL)
		return -ENOMEM;
	free(p->table);
	p->table = table;
	p->max = max;
	for (uint32_t i = 0; i < p->count; i++)
		*place_of(p, p->entries[i].producer_id) = i + 1;
	return 0;
}

int
hfb_producers_note(struct hfb_producers *p, const struct hfb_dedup_entry *entry)
{
	uint32_t *place;

#ifdef HFB_BUG_DEDUP_NOT_REBUILT
	return 0; /* tests only */
#endif
	if (p->count == p->max && grow(p) < 0)
		return -ENOMEM;
	place = place_of(p, entry->producer_id);
	if (*place == 0)
		*place = ++p->count;
	p->entries[*place - 1] = *entry;
	return 0;
}

static int
older_first(const void *a, const void *b)
{
	const struct hfb_dedup_entry *x = a, *y = b;

	if (x->last_ns != y->last_ns)
		return x->last_ns < y->last_ns ? -1 : 1;
	return (x->last_position > y->last_position) - (x->last_position < y->last_position);
}

struct hfb_dedup_entry *
hfb_producers_take(struct hfb_producers *p, uint32_t *ret_count)
{
	struct hfb_dedup_entry *entries = p->entries;

	if (p->count > 0)
		qsort(entries, p->count, sizeof(*entries), older_first);
	*ret_count = p->count;
	p->entries = NULL;
	hfb_producers_fini(p);
	return entries;
}

void
hfb_producers_fini(struct hfb_producers *p)
{
	free(p->entries);
	free(p->table);
	memset(p, 0, sizeof(*p));
}
