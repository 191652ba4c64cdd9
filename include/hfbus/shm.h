/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hfbus/shm.h - memory that hfbusd shares with local processes.
 *
 *  positions  one memfd a node, an array of HFB_PARTITIONS_MAX slots of 1 KiB
 *	       indexed by partition handle; read-only to others
 *  ring       one memfd a partition, power of two bytes; byte of position p is
 *	       at p & (size - 1); mapped twice in a row so that no batch wraps;
 *	       read-only to others (F_SEAL_FUTURE_WRITE)
 *  channel    one memfd a (client, core): frames to the core, frames back;
 *	       writable by both, so the core believes nothing it reads there
 *  counters   DATA/counters, see base/counters.h
 *
 * Reading the ring: acquire `committed`, copy, then check with an acquire fence
 * that intent - position <= ring_bytes still holds; else the copy is void and
 * the reader goes to the segment files. ring_generation is loaded after `committed`
 * and again after the copy: when it is not that of the ring mapped, the copy is
 * void as well, and the ring's memfd is asked for anew.
 *
 * Threads: one writer a cache line, any number of readers.
 */
#ifndef HFB_SHM_H
#define HFB_SHM_H

#include <stdint.h>

#include <hfbus/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HFB_CACHE_LINE	    64u
#define HFB_POSITIONS_MAGIC 0x00314f5053424648ull /* "HFBSPO1\0" */

/* A published position with the offset it stands for; offset stored first. */
struct hfb_mark {
	uint64_t position; /* release-stored */
	uint64_t offset;   /* a hint: may be of a later position */
	uint64_t turn_tsc; /* committed: TSC as the turn that moved it began; the same hint; 0 = no
			    */
	uint64_t unused[5];
};

/* One partition. All lines but the last are written by its poll core only. */
struct hfb_positions {
	struct hfb_mark intent; /* ring bytes below may be overwritten from here - size */
	struct hfb_mark received;
	struct hfb_mark durable;
	struct hfb_mark mirror_received;
	struct hfb_mark mirror_durable;
	struct hfb_mark committed;
	struct hfb_mark start; /* first position retention has kept */
	uint32_t leader_epoch;
	uint32_t ring_generation; /* changed: ask for the ring's memfd anew */
	uint32_t state;		  /* enum hfb_partition_state */
	uint32_t ring_bytes;
	uint64_t segment_bytes;
	uint64_t filed; /* segment files hold what is below; durable may be ahead, by a journal */
	uint64_t unused0[4];
	/* identity: written once before `handle_used`, by the main thread */
	uint32_t handle_used; /* 1 = slot in use, release-stored last */
	uint32_t partition;
	uint32_t core;
	uint32_t commit_stage;
	struct hfb_uuid topic;
	uint64_t unused1[4];
	char topic_name[256]; /* zero terminated */
	uint8_t unused2[1024 - 9 * 64 - 256];
};

enum hfb_partition_state {
	HFB_PARTITION_CLOSED = 0,
	HFB_PARTITION_OPEN = 1,
	HFB_PARTITION_NO_SPACE = 2, /* disk full: produce refused, reading goes on */
	HFB_PARTITION_FAILED = 3,   /* I/O error: produce stopped */
	HFB_PARTITION_DELETED = 4,
};

/*
 * Channel: header page, then two frame rings. A frame is
 * {u32 size, u32 zero, frame bytes, padding to 8}; it never wraps: a size of
 * HFB_CHANNEL_WRAP says "go on at the ring's start".
 */
#define HFB_CHANNEL_MAGIC 0x0031484353424648ull /* "HFBSCH1\0" */
#define HFB_CHANNEL_WRAP  0xffffffffu
struct hfb_channel {
	uint64_t magic;
	uint32_t version;
	uint32_t incompatible;
	uint32_t to_core_offset, to_core_bytes; /* power of two */
	uint32_t to_client_offset, to_client_bytes;
	uint64_t session; /* number frames must carry */
	uint32_t core;
	uint32_t unused0;
	uint64_t unused1[2];
	/* each its own line; counts of bytes, never wrapping */
	uint64_t to_core_tail;
	uint64_t unused2[7]; /* client writes */
	uint64_t to_core_head;
	uint64_t unused3[7]; /* core writes */
	uint64_t to_client_tail;
	uint64_t unused4[7]; /* core writes */
	uint64_t to_client_head;
	uint64_t unused5[7]; /* client writes */
	uint32_t core_sleeps;
	uint32_t unused6[15]; /* core writes; 1: write the eventfd */
};

#ifdef __cplusplus
}
#endif
#endif
