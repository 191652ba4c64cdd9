/* SPDX-License-Identifier: Apache-2.0 */
#include "arena.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bug.h"

#define ALIGN_MAX 4096u

/* Stands at the start of its own mapping. */
struct hfb_arena {
	size_t size_bytes; /* of the mapping */
	size_t used_bytes; /* with this head */
	size_t head_bytes;
	enum hfb_arena_phase phase;
};

int
hfb_arena_create(size_t bytes, struct hfb_arena **ret, struct hfb_err *err)
{
	size_t head_bytes = (sizeof(struct hfb_arena) + 63u) & ~(size_t)63u;
	struct hfb_arena *arena;
	size_t size_bytes;

	if (bytes == 0)
		return hfb_err_set(err, -EINVAL, "an arena of no bytes holds nothing");
	if (__builtin_add_overflow(bytes, head_bytes + ALIGN_MAX - 1, &size_bytes))
		return hfb_err_set(err, -ENOMEM, "an arena of %zu bytes does not fit", bytes);
	size_bytes &= ~(size_t)(ALIGN_MAX - 1);
	arena = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (arena == MAP_FAILED)
		return hfb_err_set(err, -ENOMEM, "no memory for an arena of %zu bytes: %s", bytes,
				   strerror(errno));
	arena->size_bytes = size_bytes;
	arena->head_bytes = head_bytes;
	arena->used_bytes = head_bytes;
	arena->phase = HFB_ARENA_BOOT;
	*ret = arena;
	return 0;
}

void
hfb_arena_destroy(struct hfb_arena *arena)
{
	if (arena == NULL)
		return;
	/* A poll core may still run on sealed memory. */
	hfb_assert(arena->phase != HFB_ARENA_SEALED);
	munmap(arena, arena->size_bytes);
}

void *
hfb_arena_carve(struct hfb_arena *arena, size_t bytes, size_t align)
{
	size_t from;

	hfb_assert(arena->phase == HFB_ARENA_BOOT);
	hfb_assert(align != 0);
	hfb_assert((align & (align - 1)) == 0);
	hfb_assert(align <= ALIGN_MAX);
	from = (arena->used_bytes + align - 1) & ~(align - 1);
	if (from > arena->size_bytes || bytes > arena->size_bytes - from)
		return NULL;
	arena->used_bytes = from + bytes;
	return (uint8_t *)arena + from;
}

void
hfb_arena_seal(struct hfb_arena *arena)
{
	hfb_assert(arena->phase == HFB_ARENA_BOOT);
	arena->phase = HFB_ARENA_SEALED;
}

void
hfb_arena_close(struct hfb_arena *arena)
{
	hfb_assert(arena->phase != HFB_ARENA_CLOSING);
	arena->phase = HFB_ARENA_CLOSING;
}

enum hfb_arena_phase
hfb_arena_phase(const struct hfb_arena *arena)
{
	return arena->phase;
}

size_t
hfb_arena_used_bytes(const struct hfb_arena *arena)
{
	return arena->used_bytes - arena->head_bytes;
}

size_t
hfb_arena_size_bytes(const struct hfb_arena *arena)
{
	return arena->size_bytes - arena->head_bytes;
}
