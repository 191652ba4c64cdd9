/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index.c - sparse index of one segment, in memory and as a sealed file.
 *
 * File: struct hfb_index_header, then the entries. Its crc covers the header up
 * to the crc field and the entries, so that a flipped bit anywhere refuses it;
 * a refused index is rebuilt by scanning its segment.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "bug.h"
#include "crc32c.h"
#include "env.h"
#include "file.h"
#include "index.h"

#define CRC_OFFSET offsetof(struct hfb_index_header, crc)

/* An entry is due every interval, and the first batch always has one. */
static uint32_t
entries_max(uint64_t capacity_bytes)
{
	return (uint32_t)(capacity_bytes / HFB_INDEX_INTERVAL_BYTES) + 2;
}

size_t
hfb_index_bytes(uint64_t capacity_bytes)
{
	return sizeof(struct hfb_index) +
	       (size_t)entries_max(capacity_bytes) * sizeof(struct hfb_index_entry);
}

struct hfb_index *
hfb_index_init(void *memory, uint64_t base_position, uint64_t capacity_bytes)
{
	struct hfb_index *index = memory;

	/* All of it is touched here, so that the poll core does not fault later. */
	memset(memory, 0, hfb_index_bytes(capacity_bytes));
	index->base_position = base_position;
	index->next_position = base_position;
	index->max = entries_max(capacity_bytes);
	return index;
}

/* How many entries have at most @most in the field at @field. */
static uint32_t
count_up_to(const struct hfb_index *index, size_t field, uint64_t most, uint32_t count)
{
	uint32_t low = 0, high = count;

	/* entries below low are <= most, those from high on are beyond it */
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		uint64_t value;

		memcpy(&value, (const uint8_t *)&index->entries[middle] + field, sizeof(value));
		if (value <= most)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static uint32_t
count_published(const struct hfb_index *index)
{
	/* pairs with the release in hfb_index_add */
	return __atomic_load_n(&index->count, __ATOMIC_ACQUIRE);
}

/* The last entry that has at most @most in the field at @field. */
static bool
last_up_to(const struct hfb_index *index, size_t field, uint64_t most,
	   struct hfb_index_entry *ret_entry)
{
	uint32_t n = count_up_to(index, field, most, count_published(index));

	if (n == 0)
		return false;
	*ret_entry = index->entries[n - 1];
	return true;
}

bool
hfb_index_by_offset(const struct hfb_index *index, uint64_t offset,
		    struct hfb_index_entry *ret_entry)
{
	return last_up_to(index, offsetof(struct hfb_index_entry, offset), offset, ret_entry);
}

bool
hfb_index_by_position(const struct hfb_index *index, uint64_t position,
		      struct hfb_index_entry *ret_entry)
{
	return last_up_to(index, offsetof(struct hfb_index_entry, position), position, ret_entry);
}

bool
hfb_index_by_time(const struct hfb_index *index, uint64_t timestamp_ns,
		  struct hfb_index_entry *ret_entry)
{
	uint32_t count = count_published(index), n = 0;

	if (count == 0)
		return false;
	/* the last one before that time: batches between it and the next may be of that time */
	if (timestamp_ns > 0)
		n = count_up_to(index, offsetof(struct hfb_index_entry, timestamp_ns),
				timestamp_ns - 1, count);
	*ret_entry = index->entries[n == 0 ? 0 : n - 1];
	return true;
}

static int
index_write(struct hfb_env *env, const char *path, const struct hfb_index *index,
	    const struct hfb_index_summary *summary, bool synced, struct hfb_err *err)
{
	uint32_t count = count_published(index);
	size_t bytes = sizeof(struct hfb_index_header) + count * sizeof(struct hfb_index_entry);
	struct hfb_index_header *h = calloc(1, bytes);
	int r;

	if (h == NULL)
		return hfb_err_set(err, -ENOMEM, "%s: no memory for %zu bytes", path, bytes);
	h->magic = HFB_INDEX_MAGIC;
	h->version = HFB_FORMAT_VERSION;
	h->base_position = summary->base_position;
	h->end_position = summary->end_position;
	h->base_offset = summary->base_offset;
	h->end_offset = summary->end_offset;
	h->first_timestamp_ns = summary->first_timestamp_ns;
	h->last_timestamp_ns = summary->last_timestamp_ns;
	h->entries_count = count;
	memcpy(h + 1, index->entries, count * sizeof(struct hfb_index_entry));
	h->crc = hfb_crc32c(hfb_crc32c(0, h, CRC_OFFSET), h + 1, bytes - sizeof(*h));
	r = synced ? hfb_file_replace(env, path, h, bytes, err)
		   : hfb_file_stage(env, path, h, bytes, err);
	free(h);
	return r;
}

int
hfb_index_save(struct hfb_env *env, const char *path, const struct hfb_index *index,
	       const struct hfb_index_summary *summary, struct hfb_err *err)
{
	return index_write(env, path, index, summary, true, err);
}

int
hfb_index_stage(struct hfb_env *env, const char *path, const struct hfb_index *index,
		const struct hfb_index_summary *summary, struct hfb_err *err)
{
	return index_write(env, path, index, summary, false, err);
}

int
hfb_index_parse(const void *bytes, size_t size, uint64_t base_position,
		struct hfb_index **ret_index, struct hfb_index_summary *ret_summary,
		struct hfb_err *err)
{
	const struct hfb_index_entry *entries;
	struct hfb_index_header h;
	struct hfb_index *index;
	uint64_t capacity;
	uint32_t i;

	if (size < sizeof(h))
		return hfb_err_set(err, -EBADMSG, "only %zu bytes long", size);
	memcpy(&h, bytes, sizeof(h));
	if (h.magic != HFB_INDEX_MAGIC)
		return hfb_err_set(err, -EBADMSG, "wrong magic %016" PRIx64, h.magic);
	if (h.version != HFB_FORMAT_VERSION || h.incompatible != 0)
		return hfb_err_set(err, -EBADMSG, "version %u, features %x: not known here",
				   h.version, h.incompatible);
	if ((size - sizeof(h)) / sizeof(*entries) != h.entries_count ||
	    (size - sizeof(h)) % sizeof(*entries) != 0)
		return hfb_err_set(err, -EBADMSG, "%zu bytes do not hold %u entries", size,
				   h.entries_count);
	entries = (const struct hfb_index_entry *)((const uint8_t *)bytes + sizeof(h));
	if (hfb_crc32c(hfb_crc32c(0, &h, CRC_OFFSET), entries, size - sizeof(h)) != h.crc)
		return hfb_err_set(err, -EBADMSG, "checksum wrong");
	if (h.base_position != base_position || h.end_position < h.base_position ||
	    h.end_position - h.base_position > HFB_SEGMENT_BYTES_MAX ||
	    h.end_offset < h.base_offset || h.last_timestamp_ns < h.first_timestamp_ns)
		return hfb_err_set(err, -EBADMSG, "says it is of positions %" PRIu64 "..%" PRIu64,
				   h.base_position, h.end_position);
	/* A lookup may assume order; a right crc does not prove it. */
	for (i = 0; i < h.entries_count; i++) {
		const struct hfb_index_entry *e = &entries[i];

		if (e->position < h.base_position || e->position >= h.end_position ||
		    e->offset < h.base_offset || e->offset > h.end_offset ||
		    (i > 0 && (e->position <= e[-1].position || e->offset < e[-1].offset ||
			       e->timestamp_ns < e[-1].timestamp_ns)))
			return hfb_err_set(err, -EBADMSG, "entry %u is out of order", i);
	}
	if (ret_index != NULL) {
		capacity = h.end_position - h.base_position;
		index = malloc(sizeof(*index) + h.entries_count * sizeof(*entries));
		if (index == NULL)
			return hfb_err_set(err, -ENOMEM, "no memory for %u entries",
					   h.entries_count);
		memset(index, 0, sizeof(*index));
		index->base_position = base_position;
		index->next_position = base_position + capacity;
		index->max = index->count = h.entries_count;
		memcpy(index->entries, entries, h.entries_count * sizeof(*entries));
		*ret_index = index;
	}
	if (ret_summary != NULL) {
		ret_summary->base_position = h.base_position;
		ret_summary->end_position = h.end_position;
		ret_summary->base_offset = h.base_offset;
		ret_summary->end_offset = h.end_offset;
		ret_summary->first_timestamp_ns = h.first_timestamp_ns;
		ret_summary->last_timestamp_ns = h.last_timestamp_ns;
	}
	return 0;
}

int
hfb_index_load(struct hfb_env *env, const char *path, uint64_t base_position,
	       struct hfb_index **ret_index, struct hfb_index_summary *ret_summary,
	       struct hfb_err *err)
{
	size_t max = sizeof(struct hfb_index_header) +
		     entries_max(HFB_SEGMENT_BYTES_MAX) * sizeof(struct hfb_index_entry);
	size_t size;
	void *bytes;
	int r;

	r = hfb_file_load(env, path, max, &bytes, &size, err);
	if (r < 0)
		return r;
	r = hfb_index_parse(bytes, size, base_position, ret_index, ret_summary, err);
	if (r < 0)
		hfb_err_prefix(err, "%s", path);
	free(bytes);
	return r;
}
