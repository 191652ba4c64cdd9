/* SPDX-License-Identifier: Apache-2.0 */
/*
 * checkpoint.h - what recovery would find out by scanning up to a position,
 * saved so that it need not.
 *
 *	DATA/topics/<name>/<uuid>/<partition>/checkpoint
 *
 * Rules for who saves one (recover.c relies on them):
 *  - everything below `position` was durable before the save began, and the
 *    dedup entries are those of exactly `position` (dedup.h);
 *  - before a segment is unlinked or recycled, a checkpoint whose
 *    `start_position` is at or above that segment's end is saved.
 *
 * Threads: the helper, or the main thread at open and close.
 * Memory:  save borrows everything; load allocates, fini frees.
 */
#ifndef HFB_CHECKPOINT_H
#define HFB_CHECKPOINT_H

#include <stddef.h>
#include <stdint.h>

#include <hfbus/log.h>
#include <hfbus/types.h>

#include "dedup.h"
#include "epochs.h"
#include "err.h"

struct hfb_env;

#define HFB_CHECKPOINT_NAME "checkpoint"

/* A range of positions known to be unreadable; kept, never served. */
struct hfb_corrupt_range {
	uint64_t position, end;
	uint64_t offset, end_offset; /* events it held: offset..end_offset */
};

struct hfb_checkpoint {
	struct hfb_uuid topic;
	uint32_t partition;
	uint32_t leader_epoch;	   /* of the batch before `position`; 0 = none yet */
	uint64_t position, offset; /* scanning goes on here */
	uint64_t start_position;   /* retention has dropped what is below: a batch in a segment */
	uint64_t start_offset;	   /* the first event that counts; may be inside that batch */
	uint64_t last_timestamp_ns;
	uint64_t first_timestamp_ns; /* of the open segment's first batch; 0 = none */
	uint64_t segment_base; /* of the segment that holds `position`, and `index` is about */
	uint64_t segment_base_offset;
	uint32_t ended; /* 1: the batch before `position` is an end mark (clean stop) */
	uint32_t epochs_count, dedup_count, index_count, corrupt_count;
	const struct hfb_epoch_entry *epochs;
	const struct hfb_dedup_entry *dedup;
	const struct hfb_index_entry *index; /* those of the open segment below `position` */
	const struct hfb_corrupt_range *corrupt;
};

/* Bytes a checkpoint's file has. */
size_t hfb_checkpoint_bytes(const struct hfb_checkpoint *checkpoint);
/* Fill @to (hfb_checkpoint_bytes long) with the file's bytes. */
void hfb_checkpoint_encode(const struct hfb_checkpoint *checkpoint, void *to);
/* The arrays of *@ret point into @bytes (aligned to 8). 0 or -EBADMSG. */
int hfb_checkpoint_decode(const void *bytes, size_t size, struct hfb_checkpoint *ret,
			  struct hfb_err *err);

/* Replace @folder/checkpoint atomically and durably: temporary file, fsync,
 * rename, directory sync. Returns 0 or -errno; the old one then still stands. */
/* In two halves, with a sync of all between and behind them: see group.c. */
int hfb_checkpoint_stage(struct hfb_env *env, const char *folder,
			 const struct hfb_checkpoint *checkpoint, struct hfb_err *err);
int hfb_checkpoint_name(struct hfb_env *env, const char *folder);
int hfb_checkpoint_save(struct hfb_env *env, const char *folder,
			const struct hfb_checkpoint *checkpoint, struct hfb_err *err);
/*
 * Load @folder/checkpoint of (@topic, @partition). The arrays point into
 * *@ret_memory, free() it. Returns 0, -ENOENT (none), -EBADMSG (refused: @err
 * names the file and why), other -errno.
 */
int hfb_checkpoint_load(struct hfb_env *env, const char *folder, const struct hfb_uuid *topic,
			uint32_t partition, struct hfb_checkpoint *ret, void **ret_memory,
			struct hfb_err *err);

#endif
