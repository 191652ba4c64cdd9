/* SPDX-License-Identifier: Apache-2.0 */
/*
 * producers.h - dedup entries of one partition while recovery collects them.
 *
 * Threads: the caller's.
 * Memory:  grows; hfb_producers_take() hands the entries over.
 */
#ifndef HFB_PRODUCERS_H
#define HFB_PRODUCERS_H

#include <stdint.h>

#include "dedup.h"

struct hfb_producers {
	struct hfb_dedup_entry *entries;
	uint32_t count, max;
	uint32_t *table; /* index + 1; open addressing; twice `max` */
};

/* Add or replace. 0 or -ENOMEM. */
int hfb_producers_note(struct hfb_producers *producers, const struct hfb_dedup_entry *entry);
/* The entries, oldest first; the caller frees them. Empties @producers. */
struct hfb_dedup_entry *hfb_producers_take(struct hfb_producers *producers, uint32_t *ret_count);
void hfb_producers_fini(struct hfb_producers *producers);

#endif
