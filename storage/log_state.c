/* SPDX-License-Identifier: Apache-2.0 */
/* log_state.c - where a log stands: what its core may ask, and the boundaries it remembers. */
#include <string.h>

#include "log_private.h"
#include "writer_private.h"

/* Boundaries. ------------------------------------------------------------------ */

void
hfb_log_marks_add(struct hfb_log *log)
{
	if (log->marks_count == HFB_MARKS) {
		/* Thin out evenly rather than let one stretch grow without bound. */
		for (uint32_t i = 1; i < HFB_MARKS; i += 2)
			log->marks[i / 2] = log->marks[i];
		log->marks_count = HFB_MARKS / 2;
	}
	log->marks[log->marks_count].position = log->position;
	log->marks[log->marks_count].offset = log->offset;
	log->marks_count++;
}

struct hfb_boundary
hfb_log_marks_take(struct hfb_log *log, uint64_t position, struct hfb_boundary floor)
{
	uint32_t n = 0;

	while (n < log->marks_count && log->marks[n].position <= position)
		floor = log->marks[n++];
	if (n > 0) {
		log->marks_count -= n;
		memmove(log->marks, log->marks + n, log->marks_count * sizeof(log->marks[0]));
	}
	return floor;
}

/* Questions. --------------------------------------------------------------------- */

uint64_t
hfb_log_room(const struct hfb_log *log)
{
	uint64_t end = hfb_log_ring_end(log) - HFB_RESERVE_BYTES, room;

	if (log->failed || log->detach != HFB_ATTACHED)
		return 0;
	if (__atomic_load_n(&log->prepare_error, __ATOMIC_ACQUIRE) != 0) {
		uint64_t ready = hfb_log_ready_end((struct hfb_log *)(uintptr_t)log);

		if (end > ready)
			end = ready;
		return end > log->position ? end - log->position : 0;
	}
	room = end > log->position ? end - log->position : 0;
	/* A ring that may still grow takes the largest batch, when asked twice. */
	if (room < log->batch_bytes_max && log->ring_mask + 1 < log->ring_bytes_max &&
	    log->position - log->filed < HFB_RESERVE_BYTES)
		room = log->batch_bytes_max;
	return room;
}

void
hfb_log_durable_wanted(struct hfb_log *log)
{
	log->durable_wanted_ns = log->writer->now_ns;
}

enum hfb_sequence_verdict
hfb_log_sequence_check(struct hfb_log *log, uint64_t producer_id, uint16_t producer_epoch,
		       uint64_t base_sequence, uint32_t count, uint64_t *ret_expected)
{
	return hfb_dedup_check(&log->dedup, producer_id, producer_epoch, base_sequence, count,
			       log->writer->now_ns, ret_expected);
}

bool
hfb_log_stream_next(struct hfb_log *log, uint64_t producer_id, uint64_t *ret_next)
{
	struct hfb_dedup_entry entry;

	if (!hfb_dedup_find(&log->dedup, producer_id, &entry))
		return false;
	*ret_next = entry.next_sequence;
	return true;
}

uint64_t
hfb_log_position(const struct hfb_log *log, enum hfb_stage stage)
{
	switch (stage) {
	case HFB_STAGE_RECEIVED:
		return log->position;
	case HFB_STAGE_DURABLE:
		return log->durable;
	default:
		return 0; /* no mirror: never a stage that was not reached */
	}
}

uint64_t
hfb_log_committed(const struct hfb_log *log)
{
	return log->committed;
}

uint64_t
hfb_log_start(const struct hfb_log *log)
{
	return log->start;
}

uint32_t
hfb_log_epoch(const struct hfb_log *log)
{
	return log->leader_epoch;
}

uint32_t
hfb_log_batch_bytes_max(const struct hfb_log *log)
{
	return log->batch_bytes_max;
}

uint64_t
hfb_log_segment_base(const struct hfb_log *log)
{
	const struct hfb_plan *plan = &log->plans[log->plan_append & (HFB_PLANS - 1)];

	return log->plan_append == log->plan_tail ? hfb_block_up(log->position) : plan->base;
}

const uint8_t *
hfb_log_peek(const struct hfb_log *log, uint64_t position, uint64_t *ret_bytes)
{
	if (position >= log->committed || log->intent > position + log->ring_mask + 1)
		return NULL;
	*ret_bytes = log->committed - position;
	return log->ring + (position & log->ring_mask);
}

void *
hfb_log_user(const struct hfb_log *log)
{
	return log->user;
}
