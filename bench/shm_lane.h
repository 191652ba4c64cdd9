/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shm_lane.h - the smallest shared-memory channel that can do a bus's job: frames of
 * one size from one writer to one reader, each with the crc of its events.
 *
 *	frame: | u32 crc | u32 events | events x size bytes |	in memory mapped twice in a row
 *
 *	while (lane_room(lane))
 *		lane_write(lane, events), lane_publish(lane);	writer
 *	for (n = lane_waiting(lane); n > 0; n--)
 *		at = lane_front(lane), lane_pop(lane);		reader
 *	lane_release(lane);
 *
 * Threads: one writer, one reader.
 * Memory:  a memfd of HFB_LANE_BYTES, plain pages, as the bus's rings have them.
 * Cost:    a cache miss a line on each side; the indices are cached as in spsc.h.
 */
#ifndef HFB_SHM_LANE_H
#define HFB_SHM_LANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "crc32c.h"
#include "err.h"

#define HFB_LANE_BYTES	    (1u << 20)
#define HFB_LANE_HEAD_BYTES 8u

struct hfb_lane {
	/* shared, a line each; counts of bytes that never wrap */
	uint64_t tail __attribute__((aligned(64)));
	uint64_t head __attribute__((aligned(64)));
	/* the writer's */
	uint64_t tail_own __attribute__((aligned(64)));
	uint64_t head_seen;
	/* the reader's */
	uint64_t head_own __attribute__((aligned(64)));
	/* read only */
	uint8_t *bytes __attribute__((aligned(64)));
	uint32_t payload_bytes; /* of a frame */
	uint32_t frame_bytes;
	uint32_t events;
};

/* 0, -ENOMEM, or why memory cannot be had. */
int hfb_lane_create(uint32_t event_bytes, uint32_t events, struct hfb_lane **ret_lane,
		    struct hfb_err *err);
void hfb_lane_destroy(struct hfb_lane *lane); /* accepts NULL */

/* Writer. */
static inline bool
hfb_lane_room(struct hfb_lane *lane)
{
	if (lane->tail_own + lane->frame_bytes - lane->head_seen <= HFB_LANE_BYTES)
		return true;
	/* pairs with the reader's release */
	lane->head_seen = __atomic_load_n(&lane->head, __ATOMIC_ACQUIRE);
	return lane->tail_own + lane->frame_bytes - lane->head_seen <= HFB_LANE_BYTES;
}

/* One frame, its crc taken while copying; returns it. */
static inline uint32_t
hfb_lane_write(struct hfb_lane *lane, const void *events)
{
	uint8_t *at = lane->bytes + (lane->tail_own & (HFB_LANE_BYTES - 1));
	uint32_t crc = hfb_crc32c_copy(0, at + HFB_LANE_HEAD_BYTES, events, lane->payload_bytes);

	*(uint64_t *)(void *)at = crc | (uint64_t)lane->events << 32;
	lane->tail_own += lane->frame_bytes;
	return crc;
}

static inline void
hfb_lane_publish(struct hfb_lane *lane)
{
	/* pairs with the reader's acquire */
	__atomic_store_n(&lane->tail, lane->tail_own, __ATOMIC_RELEASE);
}

/* Reader: bytes that are there. */
static inline uint64_t
hfb_lane_waiting(struct hfb_lane *lane)
{
	return __atomic_load_n(&lane->tail, __ATOMIC_ACQUIRE) - lane->head_own;
}

static inline const uint8_t *
hfb_lane_front(const struct hfb_lane *lane)
{
	return lane->bytes + (lane->head_own & (HFB_LANE_BYTES - 1));
}

static inline void
hfb_lane_pop(struct hfb_lane *lane)
{
	lane->head_own += lane->frame_bytes;
}

static inline void
hfb_lane_release(struct hfb_lane *lane)
{
	__atomic_store_n(&lane->head, lane->head_own, __ATOMIC_RELEASE);
}

/* What a frame at @at says, checked: true when its crc is that of its bytes. */
static inline bool
hfb_lane_sound(const struct hfb_lane *lane, const uint8_t *at)
{
	return hfb_crc32c(0, at + HFB_LANE_HEAD_BYTES, lane->payload_bytes) ==
	       *(const uint32_t *)(const void *)at;
}

#endif
