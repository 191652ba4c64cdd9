/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dedup.c - who wrote what last: idempotence per (producer, partition).
 *
 * Memory of a pool:
 *
 *	| struct hfb_dedup_pool | buckets, u32 each | slots |
 *
 * A slot is in one hash bucket, in one log's chain, and in the pool's list by
 * last use; or in the free list. Indices instead of pointers, NONE ends a list.
 */
#include <string.h>

#include "bug.h"
#include "dedup.h"

#define NONE UINT32_MAX

struct slot {
	struct hfb_dedup_entry entry;
	uint32_t key;			     /* of the log */
	uint32_t bucket_next;		     /* also chains free slots */
	uint32_t chain_next, chain_previous; /* of the log, any order */
	uint32_t newer, older;		     /* of the pool, by last use */
	struct hfb_dedup *owner;
};

struct hfb_dedup_pool {
	uint64_t window_ns;
	uint64_t evicted;
	uint32_t max, used;
	uint32_t bucket_mask;
	uint32_t free, newest, oldest;
	uint32_t key_next;
	uint32_t *buckets;
	struct slot *slots;
} __attribute__((aligned(64)));

static uint32_t
buckets_for(uint32_t producers_max)
{
	uint32_t n = 16;

	while (n < producers_max && n < (1u << 30))
		n *= 2;
	return n;
}

size_t
hfb_dedup_pool_bytes(uint32_t producers_max)
{
	return sizeof(struct hfb_dedup_pool) + (size_t)buckets_for(producers_max) * 4 +
	       (size_t)producers_max * sizeof(struct slot);
}

struct hfb_dedup_pool *
hfb_dedup_pool_init(void *memory, uint32_t producers_max, uint64_t window_ns)
{
	struct hfb_dedup_pool *pool = memory;
	uint32_t buckets = buckets_for(producers_max);

	hfb_assert(((uintptr_t)memory & 63) == 0);
	memset(pool, 0, sizeof(*pool));
	pool->window_ns = window_ns;
	pool->max = producers_max;
	pool->bucket_mask = buckets - 1;
	pool->buckets = (uint32_t *)(pool + 1);
	pool->slots = (struct slot *)(pool->buckets + buckets);
	memset(pool->buckets, 0xff, (size_t)buckets * 4);
	/* Touches every page now, so that no poll core faults later. */
	memset(pool->slots, 0, (size_t)producers_max * sizeof(struct slot));
	pool->newest = pool->oldest = pool->free = NONE;
	for (uint32_t i = producers_max; i-- > 0;) {
		pool->slots[i].bucket_next = pool->free;
		pool->free = i;
	}
	return pool;
}

uint32_t
hfb_dedup_pool_used(const struct hfb_dedup_pool *pool)
{
	return pool->used;
}

uint64_t
hfb_dedup_pool_evicted(const struct hfb_dedup_pool *pool)
{
	return pool->evicted;
}

/* Producer ids are random but chosen by clients: mixed so that none can aim at a bucket cheaply. */
static uint32_t
bucket_of(const struct hfb_dedup_pool *pool, uint32_t key, uint64_t producer_id)
{
	uint64_t h = producer_id ^ ((uint64_t)key * 0x9e3779b97f4a7c15ull);

	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93ull;
	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93ull;
	h ^= h >> 32;
	return (uint32_t)h & pool->bucket_mask;
}

static uint32_t
slot_find(const struct hfb_dedup *dedup, uint64_t producer_id)
{
	const struct hfb_dedup_pool *pool = dedup->pool;
	uint32_t i = pool->buckets[bucket_of(pool, dedup->key, producer_id)];

	while (i != NONE && (pool->slots[i].entry.producer_id != producer_id ||
			     pool->slots[i].key != dedup->key))
		i = pool->slots[i].bucket_next;
	return i;
}

/* As slot_find(), where most often the producer is the one before. */
static inline uint32_t
slot_again(struct hfb_dedup *dedup, uint64_t producer_id)
{
	const struct hfb_dedup_pool *pool = dedup->pool;
	uint32_t i = dedup->last;

	/* a free slot has no key, and one in use says itself whose it is */
	if (pool->slots[i].key == dedup->key && pool->slots[i].entry.producer_id == producer_id)
		return i;
	i = slot_find(dedup, producer_id);
	if (i != NONE)
		dedup->last = i;
	return i;
}

/* The pool's list by last use. */
static void
used_unlink(struct hfb_dedup_pool *pool, uint32_t i)
{
	struct slot *s = &pool->slots[i];

	if (s->newer != NONE)
		pool->slots[s->newer].older = s->older;
	else
		pool->newest = s->older;
	if (s->older != NONE)
		pool->slots[s->older].newer = s->newer;
	else
		pool->oldest = s->newer;
}

/* Ordered by last_ns. Nearly always at the front: only loading meets older ones. */
static void
used_insert(struct hfb_dedup_pool *pool, uint32_t i)
{
	struct slot *s = &pool->slots[i];
	uint32_t older = pool->newest, newer = NONE;

	while (older != NONE && pool->slots[older].entry.last_ns > s->entry.last_ns) {
		newer = older;
		older = pool->slots[older].older;
	}
	s->older = older;
	s->newer = newer;
	if (older != NONE)
		pool->slots[older].newer = i;
	else
		pool->oldest = i;
	if (newer != NONE)
		pool->slots[newer].older = i;
	else
		pool->newest = i;
}

static void
slot_release(struct hfb_dedup_pool *pool, uint32_t i)
{
	struct slot *s = &pool->slots[i];
	uint32_t *link = &pool->buckets[bucket_of(pool, s->key, s->entry.producer_id)];

	while (*link != i)
		link = &pool->slots[*link].bucket_next;
	*link = s->bucket_next;
	if (s->chain_previous != NONE)
		pool->slots[s->chain_previous].chain_next = s->chain_next;
	else
		s->owner->head = s->chain_next;
	if (s->chain_next != NONE)
		pool->slots[s->chain_next].chain_previous = s->chain_previous;
	s->owner->count--;
	used_unlink(pool, i);
	s->owner = NULL;
	s->key = 0;
	s->bucket_next = pool->free;
	pool->free = i;
	pool->used--;
}

/* May an entry be added at @now_ns? */
static bool
has_room(const struct hfb_dedup_pool *pool, uint64_t now_ns)
{
	uint64_t last_ns;

	if (pool->free != NONE)
		return true;
	if (pool->oldest == NONE)
		return false;
	last_ns = pool->slots[pool->oldest].entry.last_ns;
	return now_ns > last_ns && now_ns - last_ns > pool->window_ns;
}

void
hfb_dedup_init(struct hfb_dedup *dedup, struct hfb_dedup_pool *pool)
{
	dedup->pool = pool;
	dedup->head = NONE;
	dedup->count = 0;
	dedup->key = ++pool->key_next;
	dedup->last = 0;
}

void
hfb_dedup_fini(struct hfb_dedup *dedup)
{
	if (dedup->pool == NULL)
		return;
	while (dedup->head != NONE)
		slot_release(dedup->pool, dedup->head);
	hfb_dassert(dedup->count == 0);
	dedup->pool = NULL;
}

enum hfb_sequence_verdict
hfb_dedup_check(struct hfb_dedup *dedup, uint64_t producer_id, uint16_t producer_epoch,
		uint64_t base_sequence, uint32_t count, uint64_t now_ns, uint64_t *ret_expected)
{
	const struct hfb_dedup_entry *e;
	uint32_t i = slot_again(dedup, producer_id);

	if (i == NONE) {
		*ret_expected = 0;
		if (base_sequence != 0)
			return HFB_SEQUENCE_UNKNOWN;
		return has_room(dedup->pool, now_ns) ? HFB_SEQUENCE_NEXT : HFB_SEQUENCE_TOO_MANY;
	}
	e = &dedup->pool->slots[i].entry;
	/* What another epoch wrote says nothing about this one's sequences, which begin at 0:
	 * told the other's, a producer whose first batch was lost would take it for received. */
	*ret_expected = 0;
	if (producer_epoch < e->producer_epoch)
		return HFB_SEQUENCE_FENCED;
	if (producer_epoch > e->producer_epoch)
		return base_sequence == 0 ? HFB_SEQUENCE_NEXT : HFB_SEQUENCE_UNKNOWN;
	*ret_expected = e->next_sequence;
	if (base_sequence == e->next_sequence)
		return HFB_SEQUENCE_NEXT;
	if (base_sequence < e->next_sequence && count <= e->next_sequence - base_sequence)
		return HFB_SEQUENCE_DUPLICATE;
	return HFB_SEQUENCE_GAP;
}

bool
hfb_dedup_note(struct hfb_dedup *dedup, const struct hfb_dedup_entry *entry)
{
	struct hfb_dedup_pool *pool = dedup->pool;
	uint32_t i = slot_find(dedup, entry->producer_id);
	uint32_t *bucket;
	struct slot *s;

	if (i != NONE) {
		used_unlink(pool, i);
		pool->slots[i].entry = *entry;
		used_insert(pool, i);
		return true;
	}
	if (!has_room(pool, entry->last_ns))
		return false;
	if (pool->free == NONE) {
		slot_release(pool, pool->oldest);
		pool->evicted++;
	}
	i = pool->free;
	s = &pool->slots[i];
	pool->free = s->bucket_next;
	pool->used++;
	s->entry = *entry;
	s->key = dedup->key;
	s->owner = dedup;
	bucket = &pool->buckets[bucket_of(pool, dedup->key, entry->producer_id)];
	s->bucket_next = *bucket;
	*bucket = i;
	s->chain_previous = NONE;
	s->chain_next = dedup->head;
	if (dedup->head != NONE)
		pool->slots[dedup->head].chain_previous = i;
	dedup->head = i;
	dedup->count++;
	used_insert(pool, i);
	return true;
}

bool
hfb_dedup_advance(struct hfb_dedup *dedup, uint64_t producer_id, uint16_t producer_epoch,
		  uint64_t next_sequence, uint64_t offset, uint64_t position, uint64_t now_ns)
{
	struct hfb_dedup_pool *pool = dedup->pool;
	uint32_t i = slot_again(dedup, producer_id);
	struct slot *s;
	bool reorder;

	if (i == NONE || pool->slots[i].entry.producer_epoch != producer_epoch)
		return false;
	s = &pool->slots[i];
	/* the list is ordered by last_ns: the newest stays where it is while time goes on */
	reorder = pool->newest != i || now_ns < s->entry.last_ns;
	if (reorder)
		used_unlink(pool, i);
	s->entry.next_sequence = next_sequence;
	s->entry.last_offset = offset;
	s->entry.last_position = position;
	s->entry.last_ns = now_ns;
	if (reorder)
		used_insert(pool, i);
	return true;
}

bool
hfb_dedup_find(const struct hfb_dedup *dedup, uint64_t producer_id,
	       struct hfb_dedup_entry *ret_entry)
{
	uint32_t i = slot_find(dedup, producer_id);

	if (i == NONE)
		return false;
	*ret_entry = dedup->pool->slots[i].entry;
	return true;
}

uint32_t
hfb_dedup_snapshot(const struct hfb_dedup *dedup, struct hfb_dedup_entry *entries, uint32_t max)
{
	uint32_t n = 0;

	for (uint32_t i = dedup->head; i != NONE && n < max; i = dedup->pool->slots[i].chain_next)
		entries[n++] = dedup->pool->slots[i].entry;
	return n;
}

uint32_t
hfb_dedup_load(struct hfb_dedup *dedup, const struct hfb_dedup_entry *entries, uint32_t count)
{
	uint32_t refused = 0;

	for (uint32_t i = 0; i < count; i++)
		refused += !hfb_dedup_note(dedup, &entries[i]);
	return refused;
}
