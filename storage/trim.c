/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trim.c - delete up to an offset.
 *
 *	main	notes the offset and wakes the helper
 *	helper	finds the batch that holds it, in the index and then in the file
 *	core	publishes the new start, asks for a checkpoint
 *	helper	saves it; from then on the start stays where it is
 *
 * The start is that batch's position with the very offset: readers begin in the batch
 * and leave out what is before it. Files wholly below go as with retention.
 */
#include <errno.h>
#include <inttypes.h>

#include "segment_reader.h"
#include "store_private.h"

int
hfb_log_trim(struct hfb_log *log, uint64_t before, bool *ret_done, struct hfb_err *err)
{
	const struct hfb_positions *p = log->positions;
	uint64_t committed = __atomic_load_n(&p->committed.offset, __ATOMIC_RELAXED);
	uint64_t most = __atomic_load_n(&p->durable.offset, __ATOMIC_RELAXED);

	if (committed < most)
		most = committed;
	if (before == UINT64_MAX)
		before = most;
	if (before > most)
		return hfb_err_set(err, -ERANGE,
				   "offset %" PRIu64 " is beyond the last durable event: "
				   "at most %" PRIu64 " can be told",
				   before, most);
	/* pairs with the release in retention.c */
	*ret_done = __atomic_load_n(&log->checkpoint_start_offset, __ATOMIC_ACQUIRE) >= before;
	if (*ret_done)
		return 0;
	if (before > __atomic_load_n(&log->trim_offset, __ATOMIC_RELAXED)) {
		__atomic_store_n(&log->trim_offset, before, __ATOMIC_RELAXED);
		/* pairs with the acquire in the helper's round */
		__atomic_store_n(&log->store->round_now, 1, __ATOMIC_RELEASE);
		hfb_store_wake(log->store);
	}
	return 0;
}

/* The batch that holds @offset, or the first behind it, in segment @s. False: not there. */
static bool
place_in(struct hfb_log *log, const struct hfb_segment *s, uint64_t offset, uint64_t filed,
	 uint64_t *ret_position)
{
	const struct hfb_index *index = s->index;
	struct hfb_index_entry entry = { .position = s->base_position };
	struct hfb_batch_view view;
	const struct hfb_segment_place_in_log place = {
		.base_position = s->base_position,
		.capacity_bytes = s->capacity_bytes,
		.kind = s->kind,
	};
	struct hfb_segment_reader reader = { 0 };
	char path[HFB_PATH_MAX];
	struct hfb_err err = { 0 };
	enum hfb_fault fault = HFB_FAULT_NONE;
	bool found = false, again;

	if (index != NULL)
		(void)hfb_index_by_offset(index, offset, &entry);
	if (entry.position < s->base_position)
		entry.position = s->base_position;
	if (hfb_segment_path(path, sizeof(path), log->folder, s->base_position, ".seg") < 0)
		return false;
	if (hfb_segment_reader_open(&reader, log->store->env, path, log->seed, &place,
				    entry.position, &err) < 0) {
		hfb_helper_trouble(log, &err);
		return false;
	}
	/* Not found: removed by compaction; the next segment then. */
	*ret_position = s->base_position + s->capacity_bytes;
	if (*ret_position > filed)
		*ret_position = filed;
	while (!found && reader.scan.position < filed) {
		fault = hfb_segment_reader_next(&reader, HFB_CHECK_HEADER, &view);
		if (fault != HFB_FAULT_NONE)
			break;
		found = view.header.base_offset + view.header.count > offset;
		if (found)
			*ret_position = view.position;
	}
	/* Damage: what is wanted may be in it or behind, so no further than what was seen. */
	if (fault != HFB_FAULT_NONE && fault != HFB_FAULT_END) {
		*ret_position = reader.scan.position;
		if (reader.scan.error < 0) {
			hfb_err_set(&err, reader.scan.error, "%s: reading for a trim", path);
			hfb_helper_trouble(log, &err);
		}
	}
	again = reader.scan.error < 0;
	hfb_segment_reader_fini(&reader);
	/* It is in the journal still, and filed soon. */
	if (!found && *ret_position == filed &&
	    filed != __atomic_load_n(&log->positions->durable.position, __ATOMIC_ACQUIRE))
		again = true;
	return !again; /* in the next round */
}

void
hfb_trim_round(struct hfb_log *log)
{
	uint64_t offset = __atomic_load_n(&log->trim_offset, __ATOMIC_RELAXED);
	uint64_t filed = __atomic_load_n(&log->positions->filed, __ATOMIC_ACQUIRE);
	const struct hfb_table *table = log->table.current;
	const struct hfb_segment *segment = NULL;
	uint64_t position = 0;

	if (offset <= log->retire_offset)
		return;
	for (uint32_t i = 0; i < table->count; i++) {
		const struct hfb_segment *s = table->segments[i];

		if (__atomic_load_n(&s->begun, __ATOMIC_ACQUIRE) == 0 || s->base_offset > offset)
			break;
		segment = s;
	}
	if (segment != NULL && place_in(log, segment, offset, filed, &position))
		hfb_retention_retire(log, position, offset);
}
