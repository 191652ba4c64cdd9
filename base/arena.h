/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena.h - memory of a poll core: carved at boot, never given back, never more.
 *
 *	hfb_arena_create(bytes, &arena, &err);		boot
 *	core = hfb_arena_carve(arena, sizeof(*core), 64);
 *	hfb_arena_seal(arena);				sealed: carving is a bug
 *	hfb_arena_close(arena);				closing: destructors may run
 *	hfb_arena_destroy(arena);
 *
 * Threads: one, until the seal; afterwards what was carved belongs to its owners.
 * Memory:  all of it is mapped and touched at create, so that later use does not fault.
 */
#ifndef HFB_ARENA_H
#define HFB_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include "err.h"

enum hfb_arena_phase {
	HFB_ARENA_BOOT = 0,
	HFB_ARENA_SEALED = 1,
	HFB_ARENA_CLOSING = 2,
};

struct hfb_arena;

/* 0, or -EINVAL (@bytes is 0), -ENOMEM. Rounded up to whole pages. */
int hfb_arena_create(size_t bytes, struct hfb_arena **ret, struct hfb_err *err);
void hfb_arena_destroy(struct hfb_arena *arena); /* accepts NULL */

/*
 * @bytes of zeros at a multiple of @align (a power of two, at most 4096), or NULL when
 * less is left: the caller says which limit to lower. Boot only.
 */
void *hfb_arena_carve(struct hfb_arena *arena, size_t bytes, size_t align);

void hfb_arena_seal(struct hfb_arena *arena);  /* boot -> sealed */
void hfb_arena_close(struct hfb_arena *arena); /* boot or sealed -> closing */

enum hfb_arena_phase hfb_arena_phase(const struct hfb_arena *arena);
size_t hfb_arena_used_bytes(const struct hfb_arena *arena);
size_t hfb_arena_size_bytes(const struct hfb_arena *arena);

#endif
