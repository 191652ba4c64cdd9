/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment.h - a segment's file: made and zeroed ahead of use, recycled, opened,
 * removed. And what is known of a segment while the log is open.
 *
 *	r = hfb_segment_create(&place, base, capacity, generation, &segment, &err);
 *	r = hfb_segment_recycle(&place, old_base, old_generation, base, capacity, &segment, &err);
 *
 * A file gets its final name only when its header and all its blocks are on
 * disk: <base>.seg.tmp is written, synced, renamed, the folder synced. A recycled
 * one keeps its old batches, which validate nowhere: a batch's checksum is
 * seeded with its partition and position, and these are never used twice.
 *
 * Threads: all functions may block: the helper, or the main thread at open.
 * Memory:  allocates the segment; hfb_segment_free() closes and frees.
 */
#ifndef HFB_SEGMENT_FILE_H
#define HFB_SEGMENT_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hfbus/log.h>
#include <hfbus/types.h>

#include "err.h"
#include "index.h"

struct hfb_env;
struct hfb_extents;

#define HFB_BLOCK_BYTES	 4096u
#define HFB_ZEROS_BYTES	 HFB_MIB	  /* written at once when a file is made */
#define HFB_GENTLE_BYTES (128u * HFB_KIB) /* or so much, when there is time */
#define HFB_PATH_MAX	 4096u

static inline uint64_t
hfb_block_down(uint64_t bytes)
{
	return bytes & ~(uint64_t)(HFB_BLOCK_BYTES - 1);
}

static inline uint64_t
hfb_block_up(uint64_t bytes)
{
	return hfb_block_down(bytes + HFB_BLOCK_BYTES - 1);
}

struct hfb_segment {
	uint64_t base_position, capacity_bytes;
	uint32_t kind, generation;
	/* any thread; helper and owner core agree through `reads`, see log_table.h */
	int fd;			 /* read and write, -1 = not open */
	uint32_t reads;		 /* in flight on fd; the core's */
	uint32_t open_wanted;	 /* core -> helper */
	int32_t open_error;	 /* helper -> core, 0 = none */
	uint32_t index_wanted;	 /* any -> helper */
	struct hfb_index *index; /* release-stored; NULL = not loaded */
	bool direct;		 /* opened O_DIRECT */
	/* of a compacted one, while its file is open: release-stored before fd */
	struct hfb_extents *extents;
	uint64_t data_bytes; /* helper's: of a compacted one */
	bool superseded;     /* helper's: its name is another's by now */
	bool sealed;	     /* helper's: all of it durable */
	bool staged;	     /* helper's: its index is written, not yet named */
	bool index_saved;    /* helper's */
	uint64_t used_ns;    /* helper's: when fd was last seen in use */
	/* written by the core, any thread reads after `begun` */
	uint64_t base_offset, first_timestamp_ns;
	uint64_t end_offset, last_timestamp_ns; /* once appends have moved on */
	uint32_t begun;				/* release-stored: holds a batch */
	int file_slot;				/* the core's; -1 = not registered */
};

/* Where a partition's files are. */
struct hfb_segment_place {
	struct hfb_env *env;
	const char *folder;   /* of the partition */
	const char *data_dir; /* above it; up to it parents are made and synced */
	struct hfb_uuid topic;
	uint32_t partition;
	const uint8_t *zeros; /* HFB_ZEROS_BYTES, aligned to a block */
	uint8_t *block;	      /* HFB_BLOCK_BYTES, aligned; scratch */
	bool no_sync;	      /* nothing is synced or named: the caller does both, see group.c */
	/* May a new file take its time? Then it is written in small pieces, and this is told how
	 * long each took and pauses. NULL: never. */
	bool (*gently)(void *arg, uint64_t took_ns);
	void *arg;
};

/* "<folder>/<20 digits><suffix>" */
int hfb_segment_path(char *to, size_t size, const char *folder, uint64_t base_position,
		     const char *suffix);

/* Make the partition's folder and sync every name on the way. 0 or -errno. */
int hfb_segment_folder_make(const struct hfb_segment_place *place, struct hfb_err *err);

/*
 * A new file, all of it written with zeros. -ENOSPC, -EDQUOT: disk full; nothing is left
 * behind. Other -errno likewise. *@ret_segment is open for the writer.
 */
int hfb_segment_create(const struct hfb_segment_place *place, uint64_t base_position,
		       uint64_t capacity_bytes, struct hfb_segment **ret_segment,
		       struct hfb_err *err);
/* The file of a retired segment under a new header and name. On failure it is gone. */
int hfb_segment_recycle(const struct hfb_segment_place *place, const char *old_path,
			uint32_t old_generation, uint64_t base_position, uint64_t capacity_bytes,
			struct hfb_segment **ret_segment, struct hfb_err *err);
/* After a create with no_sync, once all was synced: give it its name; and take all back. */
int hfb_segment_name(struct hfb_env *env, const char *folder, const struct hfb_segment *segment);
void hfb_segment_discard(struct hfb_env *env, const char *folder,
			 const struct hfb_segment *segment);
/* One that is there, closed. NULL: no memory. */
struct hfb_segment *hfb_segment_known(uint64_t base_position, uint64_t capacity_bytes,
				      uint32_t kind, uint32_t generation);
/* Open its file for read and write, O_DIRECT where the file system can. fd or -errno. */
int hfb_segment_open(struct hfb_env *env, const char *folder, uint64_t base_position,
		     bool *ret_direct, struct hfb_err *err);
/* An index for its whole capacity, empty. 0 or -ENOMEM. */
int hfb_segment_index_make(struct hfb_segment *segment);
/* Closes; accepts NULL. */
void hfb_segment_free(struct hfb_env *env, struct hfb_segment *segment);

#endif
