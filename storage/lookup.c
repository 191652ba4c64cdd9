/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lookup.c - from an offset, a time or a place to where reading begins. Any
 * thread, without a lock: published positions and the table of segments.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include <hfbus/wire.h>

#include "env.h"
#include "log_private.h"
#include "store_private.h"

static void
place_set(const struct hfb_log *log, uint64_t position, uint64_t offset, struct hfb_place *ret)
{
	ret->leader_epoch = hfb_epochs_at(&log->epochs, position);
	ret->reserved = 0;
	ret->position = position;
	ret->offset = offset;
}

/* Segments of @table that hold a batch; those without come last. */
static uint32_t
begun_count(const struct hfb_table *table)
{
	uint32_t n = table->count;

	/* pairs with the release in hfb_log_plan_bind() */
	while (n > 0 && __atomic_load_n(&table->segments[n - 1]->begun, __ATOMIC_ACQUIRE) == 0)
		n--;
	return n;
}

enum by { BY_OFFSET, BY_TIME, BY_POSITION };

/* A batch at or before the one that is asked for. False: the log is empty. */
static bool
find(struct hfb_log *log, enum by by, uint64_t value, struct hfb_index_entry *ret)
{
	const struct hfb_table *table = hfb_table_enter(&log->table);
	uint32_t low = 0, high = begun_count(table);
	struct hfb_segment *segment;
	const struct hfb_index *index;
	bool found = false;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct hfb_segment *s = table->segments[middle];

		if (by == BY_OFFSET	? s->base_offset <= value
		    : by == BY_POSITION ? s->base_position <= value
					: s->first_timestamp_ns < value)
			low = middle + 1;
		else
			high = middle;
	}
	if (begun_count(table) == 0) {
		hfb_table_leave(&log->table);
		return false;
	}
	segment = table->segments[low == 0 ? 0 : low - 1];
	index = __atomic_load_n(&segment->index, __ATOMIC_ACQUIRE);
	if (index == NULL) {
		/* Coarse this time; the helper loads it for the next. */
		__atomic_store_n(&segment->index_wanted, 1, __ATOMIC_RELAXED);
		__atomic_store_n(&log->index_wanted, 1, __ATOMIC_RELEASE);
	} else if (by == BY_OFFSET) {
		found = hfb_index_by_offset(index, value, ret);
	} else if (by == BY_TIME) {
		found = hfb_index_by_time(index, value, ret);
	} else {
		found = hfb_index_by_position(index, value, ret);
	}
	if (!found) {
		ret->position = segment->base_position;
		ret->offset = segment->base_offset;
		ret->timestamp_ns = segment->first_timestamp_ns;
	}
	hfb_table_leave(&log->table);
	return true;
}

static int
lookup_place(struct hfb_log *log, uint32_t leader_epoch, uint64_t position,
	     struct hfb_place *ret_place)
{
	const struct hfb_positions *p = log->positions;
	uint64_t end = __atomic_load_n(&p->received.position, __ATOMIC_ACQUIRE);
	uint64_t end_offset = __atomic_load_n(&p->received.offset, __ATOMIC_RELAXED);
	struct hfb_index_entry entry;

	if (!hfb_epochs_holds(&log->epochs, leader_epoch, position, end, end_offset, ret_place))
		return leader_epoch == 0 || leader_epoch >= log->leader_epoch ? -ERANGE : -ESTALE;
	if (position < __atomic_load_n(&p->start.position, __ATOMIC_ACQUIRE))
		return -ENODATA;
	if (position % HFB_BATCH_ALIGN != 0)
		return -ERANGE;
	if (position == end)
		place_set(log, position, end_offset, ret_place);
	else if (find(log, BY_POSITION, position, &entry))
		place_set(log, position, entry.offset, ret_place);
	else
		place_set(log, position, 0, ret_place);
	return 0;
}

int
hfb_log_lookup(struct hfb_log *log, uint16_t from, uint32_t leader_epoch, uint64_t value,
	       struct hfb_place *ret_place)
{
	const struct hfb_positions *p = log->positions;
	uint64_t start, start_offset, committed, committed_offset;
	struct hfb_index_entry entry;

	start = __atomic_load_n(&p->start.position, __ATOMIC_ACQUIRE);
	start_offset = __atomic_load_n(&p->start.offset, __ATOMIC_RELAXED);
	committed = __atomic_load_n(&p->committed.position, __ATOMIC_ACQUIRE);
	committed_offset = __atomic_load_n(&p->committed.offset, __ATOMIC_RELAXED);
	switch (from) {
	case HFB_FROM_PLACE:
		return lookup_place(log, leader_epoch, value, ret_place);
	case HFB_FROM_EARLIEST:
		place_set(log, start, start_offset, ret_place);
		return 0;
	case HFB_FROM_LATEST:
		place_set(log, committed, committed_offset, ret_place);
		return 0;
	case HFB_FROM_OFFSET:
		if (value < start_offset)
			return -ENODATA;
		if (!hfb_epochs_holds_offset(&log->epochs, leader_epoch, value, ret_place))
			return -ESTALE;
		if (value > committed_offset)
			return -ERANGE;
		if (value == committed_offset) {
			place_set(log, committed, committed_offset, ret_place);
			return 0;
		}
		if (!find(log, BY_OFFSET, value, &entry))
			return -ERANGE;
		break;
	case HFB_FROM_TIME:
		if (!find(log, BY_TIME, value, &entry)) {
			place_set(log, committed, committed_offset, ret_place);
			return 0;
		}
		break;
	default:
		return -EINVAL;
	}
	if (entry.position < start)
		place_set(log, start, start_offset, ret_place);
	else if (entry.position > committed)
		place_set(log, committed, committed_offset, ret_place);
	else
		place_set(log, entry.position, entry.offset, ret_place);
	return 0;
}

int
hfb_log_segment_open(struct hfb_log *log, uint64_t position, struct hfb_segment_info *ret_info)
{
	struct hfb_segment_info info = { 0 };
	const struct hfb_positions *p = log->positions;
	const struct hfb_segment *segment;
	uint64_t received;
	int fd;

	if (position < __atomic_load_n(&p->start.position, __ATOMIC_ACQUIRE))
		return -ENODATA;
	received = __atomic_load_n(&p->received.position, __ATOMIC_ACQUIRE);
	segment = hfb_table_at(hfb_table_enter(&log->table), position);
	if (segment != NULL) {
		info.base_position = segment->base_position;
		info.capacity_bytes = segment->capacity_bytes;
		info.end_position = segment->base_position + segment->capacity_bytes;
		if (info.end_position > received)
			info.end_position = received;
		info.base_offset = segment->base_offset;
		info.kind = segment->kind;
	}
	hfb_table_leave(&log->table);
	if (segment == NULL || hfb_segment_path(info.path, sizeof(info.path), log->folder,
						info.base_position, ".seg") < 0)
		return -ENODATA;
	fd = hfb_env_open(log->store->env, info.path, O_RDONLY, 0);
	if (fd < 0)
		return fd == -ENOENT ? -ENODATA : fd; /* retired meanwhile */
	*ret_info = info;
	return fd;
}
