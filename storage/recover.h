/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recover.h - what a partition's folder holds after whatever happened to it.
 *
 *	r = hfb_recover(env, &config, &recovered, &err);
 *	... open the log from it ...
 *	hfb_recovered_fini(&recovered);
 *
 * Reads, and makes durable what it read (a killed process may have left it in
 * caches), unless the stop was clean; writes sealed indexes that were missing or bad
 * anew. docs/STORAGE.md, "Recovery", holds the rules and why they are right.
 *
 * Threads: any one thread; no state outside the result.
 * Memory:  the result's arrays are allocated; fini frees them.
 * Cost:    no folder: one call. Else the directory, the checkpoint, and per
 *	    segment its header and index; batches only from the checkpoint on.
 */
#ifndef HFB_RECOVER_H
#define HFB_RECOVER_H

#include <stdbool.h>
#include <stdint.h>

#include <hfbus/log.h>
#include <hfbus/types.h>

#include "checkpoint.h"
#include "dedup.h"
#include "epochs.h"
#include "err.h"
#include "index.h"
#include "log.h"

struct hfb_env;

enum hfb_recovered_state {
	HFB_RECOVERED_SEALED,  /* holds log up to its end, or to where the next begins */
	HFB_RECOVERED_OPEN,    /* holds the log's end: appending goes on here */
	HFB_RECOVERED_UNUSED,  /* prepared, contiguous after the end: reusable as it is */
	HFB_RECOVERED_RETIRED, /* below start (retention was interrupted): reusable for recycling */
	HFB_RECOVERED_STRAY,   /* beyond the end and not contiguous: reusable for recycling */
};

struct hfb_recovered_segment {
	uint64_t base_position, capacity_bytes;
	uint64_t end_position; /* of the log in it: <= base + capacity */
	uint64_t base_offset, end_offset;
	uint64_t first_timestamp_ns, last_timestamp_ns;
	uint32_t kind, generation;
	uint64_t data_bytes; /* of a compacted one */
	enum hfb_recovered_state state;
	bool header_bad; /* reported; base from the name, capacity from the file's size */
	bool blank;	 /* not a byte written behind the header, as far as looked */
	bool has_batches;
	char name[32]; /* in the folder */
};

#define HFB_RECOVER_NOTES_MAX 16u
struct hfb_recover_config {
	const char *folder; /* of the partition */
	struct hfb_uuid topic;
	uint32_t partition;
	/*
	 * Recovery makes durable what it finds. Where many partitions are recovered in a
	 * row, the first that needs it syncs the whole file system and sets this, for
	 * the others to rely on; NULL: each syncs its own. Set it to false whenever one
	 * of the folders was written to.
	 */
	bool *synced;
	uint64_t ring_bytes_max; /* largest ring ever used: bounds how far behind `durable` was; 0 =
				    256 MiB */
};

struct hfb_recovered {
	bool found; /* the folder exists */
	uint32_t segments_count;
	struct hfb_recovered_segment *segments; /* ascending by base */
	uint64_t start_position, start_offset;
	uint64_t end_position, end_offset;
	uint32_t leader_epoch; /* of the last batch, 0 = none */
	uint64_t last_timestamp_ns;
	uint64_t checkpoint_position; /* of the checkpoint it was begun from, 0 = none */
	struct hfb_epochs epochs;     /* room for one more */
	uint32_t dedup_count;
	struct hfb_dedup_entry *dedup; /* oldest first, as hfb_dedup_load() wants them */
	struct hfb_index *index;       /* of the open segment, for all its capacity; or NULL */
	uint32_t corrupt_count;
	struct hfb_corrupt_range *corrupt;
	struct hfb_log_report report;
	/* one sentence for each thing found wrong: headers, checkpoint, indexes, corruption, tail
	 */
	uint32_t notes_count; /* may exceed what is kept */
	char *notes[HFB_RECOVER_NOTES_MAX];
};

/* Returns 0 (also for an empty or missing folder) or -errno of a failed read or
 * of memory; *@ret is then empty. */
int hfb_recover(struct hfb_env *env, const struct hfb_recover_config *config,
		struct hfb_recovered *ret, struct hfb_err *err);
/* Accepts an empty one. */
void hfb_recovered_fini(struct hfb_recovered *recovered);

#endif
