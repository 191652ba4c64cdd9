/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.h - a node's data folder and the helper thread that does slow file
 * work: create, zero, recycle, delete, seal, checkpoint, retention.
 *
 * DATA/topics/<name>/<uuid>/<partition>/{<base>.seg,<base>.idx,checkpoint}
 *
 * Threads: main thread, except where told.
 */
#ifndef HFB_STORE_H
#define HFB_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include <hfbus/types.h>

#include "err.h"

struct hfb_env; /* env.h: I/O, clock and randomness behind one table */
struct hfb_store;

enum hfb_tail_mode { HFB_TAIL_REWRITE = 0, HFB_TAIL_PAD = 1 };
enum hfb_sync_mode { HFB_SYNC_AUTO = 0, HFB_SYNC_DSYNC = 1, HFB_SYNC_FDATASYNC = 2 };

/* Disk that the journal of a core takes, from when it is first wanted. */
#define HFB_JOURNAL_BYTES (128u << 20)

struct hfb_store_config {
	const char *data_dir; /* copied; created when missing */
	enum hfb_tail_mode tail;
	enum hfb_sync_mode sync;
	uint64_t ring_bytes_default;	/* largest class, 0 = 16 MiB */
	uint64_t segment_bytes_default; /* largest class, 0 = 64 MiB */
	uint64_t dedup_window_ns;	/* 0 = default */
	uint64_t compact_bytes_per_s;	/* read and written by compaction, 0 = 64 MiB */
	uint64_t segment_bytes_first;	/* smallest class, a log begins with it; 0 = 64 KiB */
	bool hugepages;			/* rings from hugetlb when the class allows */
	int helper_cpu;			/* -1 = anywhere */
	bool helper_manual;		/* no thread: tests and simulators call hfb_store_help() */
	/* partitions of a core with something to make durable from which on they share a journal;
	 * 0 = 4, all ones = never; and the size of each of its files, 0 = 32 MiB */
	uint32_t journal_logs_min;
	uint64_t journal_file_bytes;
	uint32_t group_min; /* logs whose file work is done together from so many on; 0 = 6 */
};

/* @env NULL = the real one. Refuses a folder another hfbusd has locked (-EBUSY). */
int hfb_store_open(const struct hfb_store_config *config, struct hfb_env *env,
		   struct hfb_store **ret_store, struct hfb_err *err);
void hfb_store_close(struct hfb_store *store);

/* With helper_manual: do what waits for the helper. Returns how much was done. */
uint32_t hfb_store_help(struct hfb_store *store);

/* Bump and persist the node's leader epoch (synced before it returns). */
int hfb_store_epoch_begin(struct hfb_store *store, uint32_t *ret_epoch, struct hfb_err *err);

/* One sentence about what that found damaged and put right, or NULL. */
const char *hfb_store_note(const struct hfb_store *store);

/* Partitions on disk: calls @each(topic, uuid, partition). */
int hfb_store_scan(struct hfb_store *store,
		   void (*each)(void *arg, const char *topic, struct hfb_uuid uuid,
				uint32_t partition),
		   void *arg, struct hfb_err *err);

#endif
