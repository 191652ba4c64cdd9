/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot.c - what a checkpoint needs from the core: copied between two turns, handed to
 * the helper once the segment files hold all that it claims.
 *
 *	due -> memory asked -> filled -> filed that far -> sent
 */
#include "log_private.h"

/* The helper's memory goes back to it, with a checkpoint in it or not. */
static void
snapshot_send(struct hfb_log *log, struct hfb_snapshot *s)
{
	log->checkpoint_under_way = true;
	/* pairs with the acquire in the helper */
	__atomic_store_n(&log->snapshot_full, s, __ATOMIC_RELEASE);
	hfb_log_ask(log, HFB_ASK_CHECKPOINT);
}

static void
snapshot_fill(struct hfb_log *log, struct hfb_snapshot *s)
{
	if (log->dedup.count > s->dedup_max) {
		/* More producers came meanwhile than there is room for. A checkpoint
		 * without some would have a restart forget them: once more, with more. */
		s->dedup_count = log->dedup.count;
		log->checkpoint_due = true;
		snapshot_send(log, s);
		return;
	}
	s->position = log->position;
	s->offset = log->offset;
	s->start_position = log->start;
	s->start_offset = log->start_offset;
	s->last_timestamp_ns = log->last_timestamp_ns;
	s->leader_epoch = log->epoch_started ? log->leader_epoch : log->recovered_epoch;
	s->ended = log->end_marked;
	s->dedup_count = hfb_dedup_snapshot(&log->dedup, s->dedup, s->dedup_max);
	/* what became due since it was asked for is in it: a roll often moves the start as well */
	log->checkpoint_due = false;
	log->snapshot = s;
}

void
hfb_log_checkpoint(struct hfb_log *log)
{
	uint64_t tried = __atomic_load_n(&log->checkpoint_tried, __ATOMIC_ACQUIRE);

	if (log->let_go_asked)
		return;
	if (tried != log->checkpoint_tries) {
		log->checkpoint_tries = tried;
		log->checkpoint_under_way = false;
	}
	if (log->memory_asked) {
		struct hfb_snapshot *s = __atomic_load_n(&log->snapshot_memory, __ATOMIC_ACQUIRE);

		if (s == NULL)
			return;
		log->snapshot_memory = NULL;
		log->memory_asked = false;
		if (s != HFB_SNAPSHOT_NONE)
			snapshot_fill(log, s);
	}
	if (log->snapshot != NULL && log->filed >= log->snapshot->position) {
		struct hfb_snapshot *s = log->snapshot;

		log->checkpoint_position = s->position;
		log->snapshot = NULL;
		snapshot_send(log, s);
		return;
	}
	/* one that is on its way moves checkpoint_position when it is filed */
	if (log->filed - log->checkpoint_position >= HFB_CHECKPOINT_BYTES && !log->memory_asked &&
	    log->snapshot == NULL)
		log->checkpoint_due = true;
	if (!log->checkpoint_due || log->snapshot != NULL || log->checkpoint_under_way ||
	    log->failed || log->detach == HFB_DETACH_LET_GO)
		return;
	log->checkpoint_due = false;
	log->memory_asked = true;
	__atomic_store_n(&log->dedup_count, log->dedup.count, __ATOMIC_RELAXED);
	hfb_log_ask(log, HFB_ASK_MEMORY);
}
