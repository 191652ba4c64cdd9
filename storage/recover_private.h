/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recover_private.h - inside recovery: what it knows while it is under way, and the parts
 * it is made of.
 *
 *	recover.c		the folder, the checkpoint, the order of things
 *	recover_sealed.c	segments all of which was durable
 *	recover_walk.c		from a position on, batch by batch, to the log's end
 *	recover_behind.c	where no batch of the log stands: torn, or corrupt?
 *	recover_found.c		what was found so far
 *
 * Threads: the caller's.
 */
#ifndef HFB_RECOVER_PRIVATE_H
#define HFB_RECOVER_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "producers.h"
#include "recover.h"
#include "scan.h"
#include "segment.h"
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
	bool *synced;	      /* see hfb_recover_config */
	/* of the walk */
	uint32_t walk_at;   /* segment that `scan` has open */
	bool walk_accepted; /* batches of it were, and are to be synced */
	/* of the corruption being stepped over */
	uint32_t resume_at; /* segment the log goes on in */
	int resume_error;
	const char *fault_name, *fault_why;
	struct hfb_producers producers;
	uint32_t epochs_max; /* allocated */
	struct hfb_scan scan, probe;
	struct hfb_segment_reader reader; /* of compacted segments */
};

static inline uint64_t
hfb_recovered_end(const struct hfb_recovered_segment *s)
{
	return s->base_position + s->capacity_bytes;
}

/*
 * recover_walk.c: walk from ->position, which lies in segment @at, to the log's end. Returns
 * the number of the segment the end lies in, or -errno.
 */
int hfb_recover_walk(struct hfb_recovery *r, uint32_t at, struct hfb_err *err);
/* Make all of the file system durable, once for many partitions. 1 = it is, 0 = each
 * file has to be synced, or -errno. */
int hfb_recover_sync_all(struct hfb_recovery *r, struct hfb_err *err);

/*
 * recover_behind.c: at ->position stands no batch of the log, for @why. Decide: 1 = corruption,
 * ->position is where it goes on, in segment ->resume_at; 0 = the log ends here; or -errno.
 * What lies behind is searched from segment @look_at on; @sound_bytes: of the batch there, when
 * its header is sound, 0: it is not.
 */
int hfb_recover_torn_or_corrupt(struct hfb_recovery *r, uint32_t look_at, uint64_t sound_bytes,
				const char *why, struct hfb_err *err);

/* recover_sealed.c: segments from the first up to @until, below the checkpoint; 0 or -errno. */
int hfb_recover_sealed(struct hfb_recovery *r, uint32_t until, struct hfb_err *err);
/* Segment @at was walked: write its index if the one on disk is not right; >= 0 or -errno. */
int hfb_recover_sealed_index(struct hfb_recovery *r, uint32_t at, struct hfb_err *err);
/*
 * All of a compacted segment was durable before it got its name: what is not right in
 * it is damage. @state: its batches count for epochs and producers. 0 or -errno.
 */
int hfb_recover_compacted(struct hfb_recovery *r, uint32_t at, bool state, struct hfb_err *err);

/* recover_found.c. @to has room for HFB_PATH_MAX; 0 or -ENAMETOOLONG. */
int hfb_recover_path(const struct hfb_recovery *r, const struct hfb_recovered_segment *s,
		     const char *suffix, char *to, struct hfb_err *err);
/* @scan reads segment @at from position @from on; 0 or -errno. */
int hfb_recover_open(struct hfb_recovery *r, struct hfb_scan *scan, uint32_t at, uint64_t from,
		     struct hfb_err *err);
/* A file that cannot be read is not a torn tail: nothing may be cut for it. 0, or why @scan of
 * segment @at could not read on. */
int hfb_recover_read_error(struct hfb_recovery *r, const struct hfb_scan *scan, uint32_t at,
			   struct hfb_err *err);
/* Keep a range (merged with its neighbours) and a note about it. 0 or -ENOMEM. */
int hfb_recover_corrupt(struct hfb_recovery *r, const struct hfb_corrupt_range *range,
			const char *name, const char *why);
void hfb_recover_note(struct hfb_recovery *r, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* 0 or -ENOMEM; epoch 0: nothing but room for one more. */
int hfb_recover_epoch(struct hfb_recovery *r, uint32_t leader_epoch, uint64_t position,
		      uint64_t offset);
/* The index of segment @at, made when it is not there. NULL: no memory. */
struct hfb_index *hfb_recover_index(struct hfb_recovery *r, uint32_t at);
/* Does the batch right at ->position continue the log? NULL, or what is wrong. */
const char *hfb_recover_continues(const struct hfb_recovery *r, const struct hfb_batch *b);
/* Can the batch @v, somewhere behind p = ->position, be of this log? */
bool hfb_recover_may_follow(const struct hfb_recovery *r, const struct hfb_batch_view *v);
/* Take a batch of segment @at into the recovered log; @state: it counts for epochs and
 * producers. 0 or -ENOMEM. */
int hfb_recover_accept(struct hfb_recovery *r, uint32_t at, const struct hfb_batch_view *v,
		       bool state);

#endif
