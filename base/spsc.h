/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spsc.h - bounded single-producer single-consumer ring of pointers, with the
 * opposite index cached so that a hand-over costs a coherence miss a lap, not a call.
 *
 *	struct hfb_spsc *ring = hfb_spsc_create(256);
 *	n = hfb_spsc_push(ring, objects, 32);	 producer thread
 *	n = hfb_spsc_pop(ring, objects, 32);	 consumer thread
 *
 * Threads: one pushes, one pops.
 * Memory:  create allocates, nothing else does.
 */
#ifndef HFB_SPSC_H
#define HFB_SPSC_H

#include <stdint.h>

struct hfb_spsc {
	/* producer's line */
	uint64_t tail __attribute__((aligned(64)));
	uint64_t head_seen;
	/* consumer's line */
	uint64_t head __attribute__((aligned(64)));
	uint64_t tail_seen;
	/* read only */
	uint32_t mask __attribute__((aligned(64)));
	void *slots[] __attribute__((aligned(64)));
};

/* @size power of two >= 2. NULL when out of memory. */
struct hfb_spsc *hfb_spsc_create(uint32_t size);
void hfb_spsc_destroy(struct hfb_spsc *ring); /* accepts NULL */

/* Push up to @n; returns how many went in (short = full: back-pressure). */
static inline uint32_t
hfb_spsc_push(struct hfb_spsc *ring, void *const *objects, uint32_t n)
{
	uint64_t size = (uint64_t)ring->mask + 1;

	if (ring->tail + n - ring->head_seen > size) {
		/* pairs with the release in hfb_spsc_pop */
		ring->head_seen = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);
		if (ring->tail + n - ring->head_seen > size)
			n = (uint32_t)(size - (ring->tail - ring->head_seen));
	}
	for (uint32_t i = 0; i < n; i++)
		ring->slots[(ring->tail + i) & ring->mask] = objects[i];
	/* pairs with the acquire in hfb_spsc_pop */
	__atomic_store_n(&ring->tail, ring->tail + n, __ATOMIC_RELEASE);
	return n;
}

/* Pop up to @n; returns how many came out. */
static inline uint32_t
hfb_spsc_pop(struct hfb_spsc *ring, void **objects, uint32_t n)
{
	if (ring->tail_seen - ring->head < n) {
		/* pairs with the release in hfb_spsc_push */
		ring->tail_seen = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
		if (ring->tail_seen - ring->head < n)
			n = (uint32_t)(ring->tail_seen - ring->head);
	}
	for (uint32_t i = 0; i < n; i++)
		objects[i] = ring->slots[(ring->head + i) & ring->mask];
	/* pairs with the acquire in hfb_spsc_push */
	__atomic_store_n(&ring->head, ring->head + n, __ATOMIC_RELEASE);
	return n;
}

/* Consumer: is there something to pop? Relaxed; for deciding whether to sleep. */
static inline int
hfb_spsc_waiting(const struct hfb_spsc *ring)
{
	return __atomic_load_n(&ring->tail, __ATOMIC_RELAXED) != ring->head;
}

#endif
