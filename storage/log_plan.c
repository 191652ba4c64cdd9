/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_plan.c - the segments ahead: how large the next one is to be, and what the core tells
 * of one that the helper has made.
 */
#include <string.h>

#include "log_private.h"
#include "store_private.h"

/* A segment that fills in less time than this is followed by a larger one, and so is one of
 * more than so many. */
#define SEGMENT_LASTS_NS 10000000000ull
#define SEGMENTS_MANY	 64u
/* As many partitions as there may be differ. */
#define SPREAD_BITS 16u

_Static_assert((HFB_PLANS & (HFB_PLANS - 1)) == 0, "plans are numbered modulo their count");

uint64_t
hfb_log_ready_end(struct hfb_log *log)
{
	uint64_t end = 0;

	for (uint32_t n = log->plan_head; n != log->plan_tail; n++) {
		struct hfb_plan *plan = hfb_log_plan(log, n);

		if (__atomic_load_n(&plan->segment, __ATOMIC_ACQUIRE) == NULL)
			break;
		end = plan->end;
	}
	return end;
}

/*
 * Partitions of a topic are often written alike: equally large segments would all be full at the
 * same moment, and a thousand logs would wait for the one helper. So the same step of the growth
 * takes each a different way from its class to the next one: the n-th of them as far as its
 * number's bits in reverse say, which spreads any count of partitions evenly.
 */
static uint64_t
capacity_spread(const struct hfb_log *log, uint64_t class_bytes)
{
	uint64_t share = 0;

	for (uint32_t bit = 0; bit < SPREAD_BITS; bit++)
		share |= (uint64_t)(log->partition >> bit & 1) << (SPREAD_BITS - 1 - bit);
	return class_bytes +
	       (3 * class_bytes * share >> SPREAD_BITS & ~(uint64_t)(HFB_BLOCK_BYTES - 1));
}

/* The largest class that is not above @bytes, or the first. */
static uint64_t
capacity_class(const struct hfb_log *log, uint64_t bytes)
{
	uint64_t class_bytes = log->store->config.segment_bytes_first;

	while (class_bytes * 4 <= bytes)
		class_bytes *= 4;
	return class_bytes;
}

/*
 * Classes grow with use: by four when segments do not last long, or when there are many of
 * them. What is little used stays small, since a new segment costs its size in zeros.
 */
static uint64_t
capacity_next(const struct hfb_log *log, const struct hfb_plan *last)
{
	const struct hfb_plan *plan = &log->plans[log->plan_append & (HFB_PLANS - 1)];
	const struct hfb_plan *before = &log->plans[(log->plan_append - 1) & (HFB_PLANS - 1)];
	uint64_t capacity = last->end - last->base, bytes, age_ns;
	uint64_t larger = capacity_spread(log, capacity_class(log, capacity) * 4);

	/* more than one ahead: it does not last; and each but the first holds any batch */
	if (!plan->begun || plan != last || capacity < 2ull * log->batch_bytes_max)
		return larger;
	/* of the segment before, whole, when its plan is still there */
	if (before->begun && before->end == plan->base) {
		bytes = before->end - before->base;
		age_ns = plan->first_ns - before->first_ns;
	} else {
		bytes = log->position - plan->base;
		age_ns = log->last_timestamp_ns - plan->first_ns;
	}
	if (age_ns < SEGMENT_LASTS_NS && bytes > capacity * age_ns / SEGMENT_LASTS_NS)
		return larger;
	return (log->position - log->start) / SEGMENTS_MANY > capacity ? larger : capacity;
}

bool
hfb_log_plan_next(struct hfb_log *log, uint64_t batch_bytes)
{
	struct hfb_plan *plan;
	uint64_t base = hfb_block_up(log->position), capacity;
	const uint64_t first = log->store->config.segment_bytes_first;
	const uint64_t kept = __atomic_load_n(&log->retention_bytes, __ATOMIC_RELAXED);

	if (log->plan_tail - log->plan_head == HFB_PLANS)
		return false;
	capacity = capacity_spread(log, first);
	if (log->plan_tail != log->plan_head) {
		const struct hfb_plan *last = hfb_log_plan(log, log->plan_tail - 1);

		base = last->end;
		capacity = capacity_next(log, last);
	} else if (log->start != log->position || log->position != 0) {
		capacity = log->positions->segment_bytes;
	}
	if (capacity < first)
		capacity = first;
	/* Retention takes whole segments: of a few it can keep about what it is to keep. */
	if (kept != 0 && capacity > kept / 2)
		capacity = capacity_class(log, kept / 2);
	/* A batch and the padding behind it, with room for more: never above half a segment. */
	while (capacity < 2 * batch_bytes)
		capacity *= 4;
	if (capacity > log->segment_bytes_max)
		capacity = log->segment_bytes_max;
	plan = hfb_log_plan(log, log->plan_tail);
	memset(plan, 0, sizeof(*plan));
	plan->base = base;
	plan->end = base + capacity;
	__atomic_store_n(&log->positions->segment_bytes, capacity, __ATOMIC_RELAXED);
	/* pairs with the acquire in the helper */
	__atomic_store_n(&log->plan_tail, log->plan_tail + 1, __ATOMIC_RELEASE);
	hfb_log_ask(log, HFB_ASK_SEGMENT);
	return true;
}

void
hfb_log_plan_bind(struct hfb_log *log, struct hfb_plan *plan, struct hfb_segment *segment)
{
	plan->bound = segment;
	if (plan->begun) {
		segment->base_offset = plan->first.offset;
		segment->first_timestamp_ns = plan->first_ns;
		hfb_index_add(segment->index, plan->first.position, plan->first.offset,
			      plan->first_ns);
		if (plan->ended) {
			segment->end_offset = plan->end_offset;
			segment->last_timestamp_ns = plan->last_ns;
		}
		/* pairs with the acquire in look-ups */
		__atomic_store_n(&segment->begun, 1, __ATOMIC_RELEASE);
	}
	if (plan == hfb_log_plan(log, log->plan_append)) {
		log->index = segment->index;
		log->index_due = plan->begun ? segment->index->next_position : plan->base;
	}
}
