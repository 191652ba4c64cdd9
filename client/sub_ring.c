/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sub_ring.c - a local subscriber's look into a partition's ring.
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sub_local.h"

#define HUGE_ALIGN    (2u * HFB_MIB)
#define RING_RETRY_NS 10000000ull

void
hfb_local_ring_unmap(struct hfb_local_source *l)
{
	if (l->ring != NULL)
		munmap(l->ring, l->ring_bytes * 2);
	l->ring = NULL;
	l->ring_bytes = 0;
}

/* No ring is no error: the files have everything durable, if a second later. */
static void
ring_map(struct hfb_sub *sub)
{
	struct hfb_local_source *l = sub->local;
	struct hfb_ipc_handle ask = { .handle = sub->handle };
	struct hfb_ipc_ring answer;
	size_t size = sizeof(answer), room;
	uint32_t n = 0;
	struct hfb_err err;
	uint64_t former_ring_bytes = l->ring != NULL ? l->ring_bytes : 0;
	uint8_t *area, *at;
	int fd;

	hfb_local_ring_unmap(l);
	l->ring_asked_ns = hfb_now_ns();
	if (hfb_connection_ask(sub->bus, HFB_IPC_RING_GET, &ask, sizeof(ask), &answer, &size, &fd,
			       1, &n, &err) < 0)
		return;
	if (n != 1)
		return;
	if (size < sizeof(answer) || answer.ring_bytes < 4096 ||
	    (answer.ring_bytes & (answer.ring_bytes - 1)) != 0) {
		close(fd);
		return;
	}
	/* both halves aligned for huge pages, whatever the memfd is made of */
	room = answer.ring_bytes * 2 + HUGE_ALIGN;
	area = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (area != MAP_FAILED) {
		at = (uint8_t *)(((uintptr_t)area + HUGE_ALIGN - 1) & ~(uintptr_t)(HUGE_ALIGN - 1));
		if (at > area)
			munmap(area, (size_t)(at - area));
		munmap(at + answer.ring_bytes * 2,
		       room - (size_t)(at - area) - answer.ring_bytes * 2);
		if (mmap(at, answer.ring_bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) ==
			    MAP_FAILED ||
		    mmap(at + answer.ring_bytes, answer.ring_bytes, PROT_READ,
			 MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
			munmap(at, answer.ring_bytes * 2);
		} else {
			l->ring = at;
			l->ring_bytes = answer.ring_bytes;
			l->ring_generation = answer.generation;
			l->former_ring_bytes = former_ring_bytes;
		}
	}
	close(fd);
}

/* The owner replaced the ring: we have the old memory, which nobody writes any more. */
bool
hfb_local_ring_current(struct hfb_sub *sub)
{
	struct hfb_local_source *l = sub->local;
	uint32_t generation =
		__atomic_load_n(&hfb_local_positions(sub)->ring_generation, __ATOMIC_ACQUIRE);

	if (l->ring != NULL && l->ring_generation == generation)
		return true;
	if (!sub->bus->up || (l->ring == NULL && hfb_now_ns() - l->ring_asked_ns < RING_RETRY_NS))
		return false;
	ring_map(sub);
	return l->ring != NULL && l->ring_generation == generation;
}

/* Copy [@position, + @size). 1 done, 0 it is not (any more) there. */
int
hfb_local_ring_copy(struct hfb_sub *sub, uint64_t position, uint8_t *to, uint64_t size)
{
	struct hfb_local_source *l = sub->local;
	const struct hfb_positions *p = hfb_local_positions(sub);
	uint64_t intent = hfb_local_published(&p->intent), reach = l->ring_bytes;

	/* Entering needs some distance, else we would be thrown out again at once. Not where
	 * nothing overwrites us, since the disk does not have it yet: no file has it either. */
	if (!l->in_ring && position < hfb_local_filed(p))
		reach -= reach / 8;
	if (position > intent || intent - position > reach)
		return 0;
	memcpy(to, l->ring + (position & (l->ring_bytes - 1)), size);
	/* the copy's loads before the look at intent; pairs with the owner's store of intent
	 * before it overwrites */
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	intent = __atomic_load_n(&p->intent.position, __ATOMIC_RELAXED);
	if (intent - position > l->ring_bytes)
		return 0;
	if (__atomic_load_n(&p->ring_generation, __ATOMIC_ACQUIRE) != l->ring_generation)
		return 0;
	l->former_ring_bytes = 0;
	return 1;
}

/*
 * Has the writer overwritten what comes next in the ring we map? Not when the ring is being
 * replaced: the intent is then that of the new one. Nor is what the new one never had, since
 * the files had it, if it was in the one before.
 */
bool
hfb_local_lapped(const struct hfb_sub *sub)
{
	const struct hfb_local_source *l = sub->local;
	const struct hfb_positions *p = hfb_local_positions(sub);

	/* intent first: pairs with the owner's release between the ring's size and the intent */
	if (l->ring == NULL || hfb_local_published(&p->intent) - sub->position <= l->ring_bytes ||
	    __atomic_load_n(&p->ring_bytes, __ATOMIC_RELAXED) != l->ring_bytes ||
	    __atomic_load_n(&p->ring_generation, __ATOMIC_RELAXED) != l->ring_generation)
		return false;
	return hfb_local_published(&p->committed) - sub->position > l->former_ring_bytes;
}
