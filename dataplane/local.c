/* SPDX-License-Identifier: Apache-2.0 */
/*
 * local.c - frames from and to local clients.
 *
 *  memfd:  | struct hfb_channel, one page | to core, 2^n | to client, 2^m |
 */
#include "local.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <hfbus/wire.h>

#include "bug.h"
#include "core.h"

#define PAGE	   4096u
#define FRAME_HEAD 8u /* {u32 size, u32 zero} */
#define LINE	   64u
/* Of frames to come lines are asked for at once: the client's cache has them, each is a wait. */
#define AHEAD_BYTES (5 * LINE)

_Static_assert(sizeof(struct hfb_channel) <= PAGE, "the channel's header is one page");

struct hfb_locals {
	uint32_t count, max;
	struct hfb_local *entries[];
};

/* Main thread ------------------------------------------------------------- */

int
hfb_local_create(uint16_t core, uint64_t number, uint32_t ring_bytes, struct hfb_local **ret_local,
		 struct hfb_err *err)
{
	struct hfb_local *local = calloc(1, sizeof(*local));
	struct hfb_channel *channel;
	int r;

	if (local == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	local->core = core;
	local->number = number;
	local->to_core_bytes = ring_bytes;
	local->to_client_bytes = HFB_LOCAL_TO_CLIENT_BYTES;
	local->map_bytes = PAGE + (uint64_t)ring_bytes + HFB_LOCAL_TO_CLIENT_BYTES;
	local->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	local->memfd = memfd_create("hfbus-channel", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (local->event_fd < 0 || local->memfd < 0 ||
	    ftruncate(local->memfd, (off_t)local->map_bytes) < 0 ||
	    /* a client that could shrink it would end us with SIGBUS */
	    fcntl(local->memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		goto fail;
	channel = mmap(NULL, local->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, local->memfd, 0);
	if (channel == MAP_FAILED)
		goto fail;
	local->channel = channel;
	local->to_core = (uint8_t *)channel + PAGE;
	local->to_client = local->to_core + ring_bytes;
	channel->version = 1;
	channel->to_core_offset = PAGE;
	channel->to_core_bytes = local->to_core_bytes;
	channel->to_client_offset = PAGE + local->to_core_bytes;
	channel->to_client_bytes = local->to_client_bytes;
	channel->session = number;
	channel->core = core;
	channel->core_sleeps = 1; /* until its first turn with it */
	channel->magic = HFB_CHANNEL_MAGIC;
	*ret_local = local;
	return 0;
fail:
	r = hfb_err_set(err, -errno, "shared memory for a local client: %s", strerror(errno));
	hfb_local_destroy(local);
	return r;
}

void
hfb_local_destroy(struct hfb_local *local)
{
	if (local == NULL)
		return;
	if (local->channel != NULL)
		munmap(local->channel, local->map_bytes);
	if (local->memfd >= 0)
		close(local->memfd);
	if (local->event_fd >= 0)
		close(local->event_fd);
	free(local);
}

int
hfb_locals_create(struct hfb_core *core, uint32_t max, struct hfb_err *err)
{
	core->locals = calloc(1, sizeof(*core->locals) + max * sizeof(core->locals->entries[0]));
	if (core->locals == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory for %u local clients", max);
	core->locals->max = max;
	return 0;
}

void
hfb_locals_destroy(struct hfb_core *core)
{
	free(core->locals);
	core->locals = NULL;
}

/* Poll core --------------------------------------------------------------- */

int
hfb_local_add(struct hfb_core *core, struct hfb_local *local)
{
	struct hfb_locals *locals = core->locals;

	if (locals->count == locals->max)
		return -ENOSPC;
	local->session = hfb_session_local_create(core, local->number, local);
	if (local->session == NULL)
		return -ENOSPC;
	local->slot = locals->count;
	locals->entries[locals->count++] = local;
	core->stats[HFB_STAT_LOCALS] = locals->count;
	__atomic_store_n(&local->channel->core_sleeps, 0, __ATOMIC_RELAXED);
	return 0;
}

void
hfb_local_remove(struct hfb_core *core, struct hfb_local *local)
{
	struct hfb_locals *locals = core->locals;
	struct hfb_local *last;

	hfb_assert(local->slot < locals->count);
	hfb_assert(locals->entries[local->slot] == local);
	hfb_session_local_destroy(core, local->session);
	local->session = NULL;
	last = locals->entries[--locals->count];
	locals->entries[local->slot] = last;
	last->slot = local->slot;
	core->stats[HFB_STAT_LOCALS] = locals->count;
}

uint32_t
hfb_local_count(const struct hfb_core *core)
{
	return core->locals->count;
}

bool
hfb_local_work_waits(const struct hfb_core *core)
{
	for (uint32_t i = 0; i < core->locals->count; i++) {
		const struct hfb_local *local = core->locals->entries[i];

		if (!local->broken && __atomic_load_n(&local->channel->to_core_tail,
						      __ATOMIC_RELAXED) != local->to_core_head)
			return true;
	}
	return false;
}

void
hfb_local_sleeping(struct hfb_core *core, uint32_t sleeps)
{
	for (uint32_t i = 0; i < core->locals->count; i++)
		__atomic_store_n(&core->locals->entries[i]->channel->core_sleeps, sleeps,
				 __ATOMIC_RELAXED);
}

static void
local_give_up(struct hfb_core *core, struct hfb_local *local)
{
	hfb_drop(core, HFB_STAT_DROP_LOCAL_FRAMING);
	__atomic_store_n(&local->broken, true, __ATOMIC_RELAXED);
}

static inline void
lines_ask(const struct hfb_local *local, uint64_t from, uint64_t to)
{
	for (from &= ~(uint64_t)(LINE - 1); from < to; from += LINE)
		__builtin_prefetch(local->to_core + (from & (local->to_core_bytes - 1)), 0, 3);
}

static uint32_t
local_drain(struct hfb_core *core, struct hfb_local *local)
{
	const uint64_t size = local->to_core_bytes;
	/* pairs with the client's release: the frames below are written */
	const uint64_t tail = __atomic_load_n(&local->channel->to_core_tail, __ATOMIC_ACQUIRE);
	uint64_t head = local->to_core_head;
	uint32_t frames = 0;

	if (tail == head)
		return 0;
	if (tail - head > size || (tail & 7) != 0) {
		local_give_up(core, local);
		return 0;
	}
	lines_ask(local, head, tail - head < AHEAD_BYTES ? tail : head + AHEAD_BYTES);
	while (head != tail && frames < HFB_LOCAL_FRAMES_A_TURN) {
		const uint64_t at = head & (size - 1);
		const uint64_t contiguous = size - at;
		/* loaded once: the client may change it while we look */
		const uint32_t bytes = *(const volatile uint32_t *)(local->to_core + at);
		uint64_t step;

		if (bytes == HFB_CHANNEL_WRAP) {
			step = contiguous;
			if (at == 0 || step > tail - head) {
				local_give_up(core, local);
				break;
			}
			head += step;
			continue;
		}
		step = FRAME_HEAD + (((uint64_t)bytes + 7) & ~7ull);
		if (bytes < HFB_FRAME_BYTES || step > contiguous || step > tail - head ||
		    step > size / 2) {
			local_give_up(core, local);
			break;
		}
		if (tail - head > step + AHEAD_BYTES)
			lines_ask(local, head + AHEAD_BYTES,
				  head + AHEAD_BYTES + (step < 2048 ? step : 2048));
		hfb_session_local_frame(core, local->session, local->to_core + at + FRAME_HEAD,
					bytes);
		head += step;
		frames++;
	}
	local->to_core_head = head;
	/* pairs with the client's acquire: what is below has been read */
	__atomic_store_n(&local->channel->to_core_head, head, __ATOMIC_RELEASE);
	return frames;
}

uint32_t
hfb_local_poll(struct hfb_core *core)
{
	uint32_t work = 0;

	for (uint32_t i = 0; i < core->locals->count; i++)
		if (!core->locals->entries[i]->broken)
			work += local_drain(core, core->locals->entries[i]);
	return work;
}

uint8_t *
hfb_local_frame_begin(struct hfb_core *core, void *arg, uint32_t bytes)
{
	struct hfb_local *local = arg;
	const uint64_t size = local->to_client_bytes, tail = local->to_client_tail;
	const uint64_t at = tail & (size - 1), need = FRAME_HEAD + (((uint64_t)bytes + 7) & ~7ull);
	const uint64_t skip = size - at < need ? size - at : 0;

	hfb_dassert(need <= size / 2);
	if (size - (tail - local->to_client_head_seen) < skip + need) {
		uint64_t head = __atomic_load_n(&local->channel->to_client_head, __ATOMIC_ACQUIRE);

		/* a head that cannot be gives no room: the client hurts itself only */
		if (tail - head <= size && head >= local->to_client_head_seen)
			local->to_client_head_seen = head;
		if (size - (tail - local->to_client_head_seen) < skip + need)
			return NULL;
	}
	if (skip != 0)
		*(volatile uint32_t *)(local->to_client + at) = HFB_CHANNEL_WRAP;
	local->begun_skip = (uint32_t)skip;
	local->begun_bytes = bytes;
	return local->to_client + ((tail + skip) & (size - 1)) + FRAME_HEAD;
}

void
hfb_local_frame_send(struct hfb_core *core, void *arg, uint32_t bytes)
{
	struct hfb_local *local = arg;
	const uint64_t tail = local->to_client_tail + local->begun_skip;
	uint32_t *head = (uint32_t *)(local->to_client + (tail & (local->to_client_bytes - 1)));

	hfb_assert(bytes <= local->begun_bytes);
	head[0] = bytes;
	head[1] = 0;
	local->to_client_tail = tail + FRAME_HEAD + (((uint64_t)bytes + 7) & ~7ull);
	local->begun_bytes = local->begun_skip = 0;
	/* pairs with the client's acquire */
	__atomic_store_n(&local->channel->to_client_tail, local->to_client_tail, __ATOMIC_RELEASE);
}
