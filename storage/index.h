/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index.h - sparse index of one segment: offset and time to position, an entry
 * about every HFB_INDEX_INTERVAL_BYTES.
 *
 *	index = hfb_index_init(memory, base_position, capacity_bytes);	helper
 *	hfb_index_add(index, position, offset, timestamp_ns);		poll core
 *	hfb_index_by_offset(index, offset, &entry);			any thread
 *	hfb_index_save(env, path, index, &summary, &err);		helper, at the roll
 *
 * Threads: one thread adds (release of the count), any number look up (acquire).
 * Memory:  prepared by the helper with the segment: hfb_index_bytes() for its
 *	    capacity, so an add always has room.
 * Cost:    an add that adds nothing is one compare.
 */
#ifndef HFB_INDEX_H
#define HFB_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hfbus/log.h>

#include "err.h"

struct hfb_env;

struct hfb_index {
	uint64_t base_position;
	uint64_t next_position; /* an entry is due from here on; adder's */
	uint32_t max;
	uint32_t count; /* release-stored; pairs with the acquires in index.c */
	struct hfb_index_entry entries[];
};

/* What an index says of its whole segment; the rest of its file's header. */
struct hfb_index_summary {
	uint64_t base_position, end_position;
	uint64_t base_offset, end_offset;
	uint64_t first_timestamp_ns, last_timestamp_ns;
};

size_t hfb_index_bytes(uint64_t capacity_bytes);
/* Takes @memory, aligned to 8. */
struct hfb_index *hfb_index_init(void *memory, uint64_t base_position, uint64_t capacity_bytes);

/* Call for each batch with events (gaps too) and for control batches alike. */
static inline void
hfb_index_add(struct hfb_index *index, uint64_t position, uint64_t offset, uint64_t timestamp_ns)
{
	struct hfb_index_entry *e;

	if (position < index->next_position || index->count == index->max)
		return;
	e = &index->entries[index->count];
	e->position = position;
	e->offset = offset;
	e->timestamp_ns = timestamp_ns;
	index->next_position = position + HFB_INDEX_INTERVAL_BYTES;
	/* pairs with the acquire in the lookups */
	__atomic_store_n(&index->count, index->count + 1, __ATOMIC_RELEASE);
}

/* Start scanning where? The last entry whose offset is <= @offset: the event is in that
 * batch or behind it (of batches with one offset only the last holds events). False: none. */
bool hfb_index_by_offset(const struct hfb_index *index, uint64_t offset,
			 struct hfb_index_entry *ret_entry);
/* The last entry whose timestamp is < @timestamp_ns, else the first. False: empty. */
bool hfb_index_by_time(const struct hfb_index *index, uint64_t timestamp_ns,
		       struct hfb_index_entry *ret_entry);
/* The last entry at or before @position. */
bool hfb_index_by_position(const struct hfb_index *index, uint64_t position,
			   struct hfb_index_entry *ret_entry);

/* Write the sealed index file @path (tmp, fsync, rename; the caller syncs the
 * directory when it wants to; a lost index is rebuilt). */
int hfb_index_save(struct hfb_env *env, const char *path, const struct hfb_index *index,
		   const struct hfb_index_summary *summary, struct hfb_err *err);
/* The first half of it: hfb_file_name() is the other. */
int hfb_index_stage(struct hfb_env *env, const char *path, const struct hfb_index *index,
		    const struct hfb_index_summary *summary, struct hfb_err *err);
/*
 * Load @path, which must be of the segment at @base_position. *@ret_index is
 * malloc'ed, free() it; NULL asks for the summary alone (all is checked anyway).
 * Returns 0, -ENOENT, -EBADMSG (crc, order or fields wrong; @err says which), -EIO...
 */
int hfb_index_load(struct hfb_env *env, const char *path, uint64_t base_position,
		   struct hfb_index **ret_index, struct hfb_index_summary *ret_summary,
		   struct hfb_err *err);
/* The same from bytes already read. */
int hfb_index_parse(const void *bytes, size_t size, uint64_t base_position,
		    struct hfb_index **ret_index, struct hfb_index_summary *ret_summary,
		    struct hfb_err *err);

#endif
