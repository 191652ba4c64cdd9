/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dedup.h - who wrote what last: idempotence per (producer, partition).
 *
 * A writer owns one pool; each of its logs has a struct hfb_dedup, a chain of
 * entries in that pool. Entries stay until room is needed, then the one unused
 * longest goes, but never inside the window.
 *
 *	pool = hfb_dedup_pool_init(memory, producers_max, window_ns);	boot
 *	hfb_dedup_init(&log->dedup, pool);				attach
 *	hfb_dedup_load(&log->dedup, entries, n);
 *	verdict = hfb_dedup_check(&log->dedup, ...);			each batch
 *	hfb_dedup_note(&log->dedup, &entry);				each append
 *
 * Threads: a pool and its logs' chains belong to one poll core.
 * Memory:  carved once (hfb_dedup_pool_bytes); nothing allocates later.
 * Cost:    one hash probe a check, one a note.
 *
 * An entry covers what was appended, durable or not. So a snapshot belongs to
 * the position received when it was taken, and may be saved in a checkpoint
 * only once `durable` has reached that position: else a crash could leave a
 * table that calls lost batches duplicates.
 */
#ifndef HFB_DEDUP_H
#define HFB_DEDUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "log.h"

#define HFB_DEDUP_STREAM 0x0001u /* a feed's stream */

/* One producer's state, as kept, snapshotted and stored. */
struct hfb_dedup_entry {
	uint64_t producer_id;
	uint64_t next_sequence; /* expected next */
	uint64_t last_offset;	/* base offset of its last batch */
	uint64_t last_position; /* position of its last batch */
	uint64_t last_ns;	/* timestamp of its last batch */
	uint16_t producer_epoch;
	uint16_t flags; /* HFB_DEDUP_* */
	uint32_t reserved;
};

struct hfb_dedup_pool;
struct hfb_dedup {
	struct hfb_dedup_pool *pool;
	uint32_t head; /* newest of the chain, own */
	uint32_t count;
	uint32_t key;  /* own */
	uint32_t last; /* own: the slot found last; whose it is must be looked at */
};

size_t hfb_dedup_pool_bytes(uint32_t producers_max);
/* Takes @memory (aligned to 64, hfb_dedup_pool_bytes long). */
struct hfb_dedup_pool *hfb_dedup_pool_init(void *memory, uint32_t producers_max,
					   uint64_t window_ns);
uint32_t hfb_dedup_pool_used(const struct hfb_dedup_pool *pool);
uint64_t hfb_dedup_pool_evicted(const struct hfb_dedup_pool *pool);

void hfb_dedup_init(struct hfb_dedup *dedup, struct hfb_dedup_pool *pool);
/* Gives all entries back to the pool. */
void hfb_dedup_fini(struct hfb_dedup *dedup);

/*
 * What to do with a batch. A known producer's batch is NEXT when it starts at
 * the expected sequence, DUPLICATE when all of it is below, else GAP. A newer
 * producer epoch may go on like that, or start again at 0. An unknown producer
 * starts at 0. *@ret_expected is always set.
 */
enum hfb_sequence_verdict hfb_dedup_check(struct hfb_dedup *dedup, uint64_t producer_id,
					  uint16_t producer_epoch, uint64_t base_sequence,
					  uint32_t count, uint64_t now_ns, uint64_t *ret_expected);

/*
 * A batch of this producer was appended: @entry replaces what is known. False:
 * the table is full of producers inside the window (a check would have said so).
 */
bool hfb_dedup_note(struct hfb_dedup *dedup, const struct hfb_dedup_entry *entry);

/*
 * The same for a producer that is known, which the check just found: its epoch and flags
 * stay. False: not known, or another epoch; nothing is changed. Values come in registers,
 * since a copy of an entry just written waits for its stores (13 % of a poll core that
 * appends one event at a time, Sapphire Rapids class, 2026-11).
 */
bool hfb_dedup_advance(struct hfb_dedup *dedup, uint64_t producer_id, uint16_t producer_epoch,
		       uint64_t next_sequence, uint64_t offset, uint64_t position, uint64_t now_ns);

bool hfb_dedup_find(const struct hfb_dedup *dedup, uint64_t producer_id,
		    struct hfb_dedup_entry *ret_entry);

/* Copy up to @max entries, in any order. Returns how many; all when @max >= count. */
uint32_t hfb_dedup_snapshot(const struct hfb_dedup *dedup, struct hfb_dedup_entry *entries,
			    uint32_t max);
/* Note @count entries, oldest first (any order works, at a cost). Returns how many
 * found no room. */
uint32_t hfb_dedup_load(struct hfb_dedup *dedup, const struct hfb_dedup_entry *entries,
			uint32_t count);

#endif
