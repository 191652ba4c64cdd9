/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recover_walk.h - inside recovery: from a position on, batch by batch, to the
 * log's end. Only recover.c uses it.
 *
 * Threads: the caller's.
 */
#ifndef HFB_RECOVER_WALK_H
#define HFB_RECOVER_WALK_H

#include <stdbool.h>
#include <stdint.h>

#include "producers.h"
#include "recover.h"
#include "scan.h"
#include "segment_reader.h"

struct hfb_recovery {
	struct hfb_env *env;
	const char *folder;
	uint32_t seed;
	uint32_t first; /* segment not retired */
	uint64_t reach; /* how far `durable` may have been behind */
	struct hfb_recovered *ret;
	struct hfb_index **indexes; /* by segment, as far as built */
	/* the log at `position` */
	uint64_t position;
	uint64_t offset;
	bool offset_known;
	uint32_t epoch;	       /* of the last batch */
	uint64_t timestamp_ns; /* of the last batch */
	bool ended;	       /* the last batch was an end mark */
	bool walked;	       /* some batch was found behind the checkpoint */
	/* what is known to have been durable */
	uint64_t proven;      /* everything below */
	uint32_t proof_epoch; /* epoch of the batch that said so */
	uint64_t torn_end;    /* end of the last batch found behind the log's end */
	/* of the corruption being stepped over */
	bool *synced;	    /* see hfb_recover_config */
	uint32_t walk_at;   /* segment that `scan` has open */
	uint32_t resume_at; /* segment the log goes on in */
	int resume_error;
	const char *fault_name, *fault_why;
	struct hfb_producers producers;
	uint32_t epochs_max; /* allocated */
	struct hfb_scan scan, probe;
	struct hfb_segment_reader reader; /* of compacted segments */
};

/*
 * Walk from ->position, which lies in segment @at, to the log's end. Returns the
 * number of the segment the end lies in, or -errno.
 */
int hfb_recover_walk(struct hfb_recovery *r, uint32_t at, struct hfb_err *err);
/* Scan segment @at alone, all of which is known to have been durable, for its index. */
int hfb_recover_sealed(struct hfb_recovery *r, uint32_t at, struct hfb_err *err);

/* Keep a range (merged with its neighbours) and a note about it. */
int hfb_recover_corrupt(struct hfb_recovery *r, const struct hfb_corrupt_range *range,
			const char *name, const char *why);
void hfb_recover_note(struct hfb_recovery *r, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
int hfb_recover_epoch(struct hfb_recovery *r, uint32_t leader_epoch, uint64_t position,
		      uint64_t offset);
/* Make all of the file system durable, once for many partitions. 1 = it is, 0 = each
 * file has to be synced, or -errno. */
int hfb_recover_sync_all(struct hfb_recovery *r, struct hfb_err *err);
/* The index of segment @at, made when it is not there. NULL: no memory. */
struct hfb_index *hfb_recover_index(struct hfb_recovery *r, uint32_t at);

#endif
