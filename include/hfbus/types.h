/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hfbus/types.h - the words every other header uses.
 *
 * position  byte address in a partition's endless log, multiple of 8
 * offset    event number in a partition, from 0
 * stage     how safe an event is; see enum hfb_stage
 * handle    index of a partition in one run of hfbusd; not stable over restarts
 *
 * Short forms used throughout: core (poll core), pub, sub, seq, pid (producer id).
 *
 * Threads: plain data, no functions that keep state.
 */
#ifndef HFB_TYPES_H
#define HFB_TYPES_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Stages in order of reaching them; `commit` and `ack` settings name one. */
enum hfb_stage {
	HFB_STAGE_RECEIVED = 0,		/* in the owner's ring */
	HFB_STAGE_DURABLE = 1,		/* on this node's disk, below a completed sync */
	HFB_STAGE_MIRRORED = 2,		/* in the mirror's memory */
	HFB_STAGE_MIRRORED_DURABLE = 3, /* min of durable on both nodes */
};
#define HFB_STAGES 4

/* What becomes of old events, beside retention by time and bytes. */
enum hfb_cleanup {
	HFB_CLEANUP_DELETE = 0,	 /* nothing else */
	HFB_CLEANUP_COMPACT = 1, /* the last event of each key stays, see docs/STORAGE.md */
};
#define HFB_CLEANUPS 2u

struct hfb_uuid {
	uint8_t bytes[16];
};

/* An IPv6 address, or an IPv4 one mapped (::ffff:a.b.c.d); network order. */
struct hfb_ip {
	uint8_t bytes[16];
};

/* A place in a partition's log that survives restarts and failovers. */
struct hfb_place {
	uint32_t leader_epoch; /* epoch the position was read in, 0 = unknown */
	uint32_t reserved;
	uint64_t position;
	uint64_t offset;
};

#ifdef __cplusplus
}
#endif
#endif
