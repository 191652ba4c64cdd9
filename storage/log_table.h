/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_table.h - the segments of one open log, for any thread to look up.
 *
 *	table = hfb_table_enter(log);
 *	segment = hfb_table_at(table, position);
 *	hfb_table_leave(log);
 *
 * One thread changes it (the helper; the main thread while the log belongs to
 * nobody): it publishes a copy, and frees the old one and the segments that went
 * once it has seen nobody inside. A core that keeps a segment beyond leave
 * raises its `reads` while inside; such a segment is not closed or freed.
 *
 * Threads: enter, at, leave: any. Others: the changing one.
 * Cost:    two atomic additions a look-up, none of it per event.
 */
#ifndef HFB_LOG_TABLE_H
#define HFB_LOG_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "segment.h"

struct hfb_table {
	struct hfb_table *replaced; /* waiting to be freed */
	uint32_t count;
	struct hfb_segment *segments[]; /* ascending by base */
};

struct hfb_table_slot {
	struct hfb_table *current; /* never NULL once open; release-stored */
	struct hfb_table *old;	   /* changing thread's */
	uint32_t inside;
};

static inline struct hfb_table *
hfb_table_enter(struct hfb_table_slot *slot)
{
	/* seq_cst: with the load in hfb_table_tidy, either it sees us or we see its table */
	__atomic_fetch_add(&slot->inside, 1, __ATOMIC_SEQ_CST);
	return __atomic_load_n(&slot->current, __ATOMIC_SEQ_CST);
}

static inline void
hfb_table_leave(struct hfb_table_slot *slot)
{
	__atomic_fetch_sub(&slot->inside, 1, __ATOMIC_RELEASE);
}

/* Index of the last segment whose base is <= @position, or -1. */
int hfb_table_find(const struct hfb_table *table, uint64_t position);
/* The segment that holds @position, or NULL. */
struct hfb_segment *hfb_table_at(const struct hfb_table *table, uint64_t position);

int hfb_table_init(struct hfb_table_slot *slot);
/* 0 or -ENOMEM (unchanged then). @segment goes at its place. */
int hfb_table_add(struct hfb_table_slot *slot, struct hfb_segment *segment);
/* A table like the one in use, to be changed and published. NULL: no memory. */
struct hfb_table *hfb_table_copy(const struct hfb_table_slot *slot);
void hfb_table_publish(struct hfb_table_slot *slot, struct hfb_table *table);
/* The first @count go; the caller frees them after the next tidy that says true. */
int hfb_table_drop(struct hfb_table_slot *slot, uint32_t count);
/* Free tables that were replaced. False: somebody is inside, ask again later. */
bool hfb_table_tidy(struct hfb_table_slot *slot);
/* Tables only, not the segments. */
void hfb_table_fini(struct hfb_table_slot *slot);

#endif
