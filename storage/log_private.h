/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_private.h - inside storage: an open log, and how its core and the helper
 * talk about it.
 *
 *	 durable           submitted          position
 *	    |                  |                  |          plans[]: segments ahead,
 *	----+------------------+------------------+-------   planned by the core, made by
 *	    | writes in flight | not yet written  | free     the helper, popped when durable
 *
 * Core to helper: bits in `asks`; the first bit pushes the log into the writer's
 * ring to the helper. Helper to core: the fields named "helper ->", then the log
 * goes into the ring back. A log is in each ring at most once, so they never fill.
 *
 * Threads: fields are grouped by who writes them.
 */
#ifndef HFB_LOG_PRIVATE_H
#define HFB_LOG_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include <hfbus/limits.h>
#include <hfbus/log.h>
#include <hfbus/shm.h>

#include "checkpoint.h"
#include "dedup.h"
#include "epochs.h"
#include "log.h"
#include "log_table.h"
#include "recover.h"
#include "ring.h"
#include "segment.h"
#include "stage_marks.h"

struct hfb_io;

#define HFB_PLANS	  8u  /* segments open or ahead, power of two */
#define HFB_WRITES_MAX	  4u  /* in flight a log */
#define HFB_MARKS	  64u /* batch boundaries remembered between written and received */
#define HFB_RESERVE_BYTES (64u * HFB_KIB) /* of the ring, for gap batches */
/* One request of the device: 240 pages, where 1 MiB are two (virtio takes 254 pieces, and without
 * huge pages each page is one). */
#define HFB_WRITE_BYTES_MAX (960u * HFB_KIB)
/* From a ring of huge pages, where no write is more than two pieces. */
#define HFB_WRITE_HUGE_BYTES_MAX (2u * HFB_MIB)
#define HFB_CHECKPOINT_BYTES	 (64u * HFB_MIB) /* of log between checkpoints */
#define HFB_RETIRED_MAX		 4u		 /* files kept for recycling, a log */

/* A batch boundary. */
struct hfb_boundary {
	uint64_t position, offset;
};

/* A segment that is in use, being made, or asked for. */
struct hfb_plan {
	uint64_t base, end;	     /* positions; written before plan_tail is */
	struct hfb_segment *segment; /* helper -> core, release-stored */
	struct hfb_segment *bound;   /* core: segment, once taken notice of */
	struct hfb_boundary first;   /* core: its first batch */
	uint64_t first_ns;
	bool begun;		      /* core: it has a first batch */
	bool ended;		      /* core: appends have moved on */
	uint64_t end_offset, last_ns; /* core: when ended */
};

enum hfb_write_state { HFB_WRITE_FREE, HFB_WRITE_WAITS, HFB_WRITE_FLIES, HFB_WRITE_DONE };
struct hfb_write {
	struct hfb_log *log;
	const uint8_t *memory;
	uint64_t file_offset;
	struct hfb_boundary mark; /* last batch boundary at or below its end */
	uint64_t end;		  /* position its bytes end at */
	uint32_t bytes;
	int fd, file_slot, buffer_slot;
	enum hfb_write_state state;
	bool dsync, retried;
	uint64_t tsc; /* when it was formed */
};

/* What a checkpoint needs from the core. Memory is the helper's. */
struct hfb_snapshot {
	uint64_t position, offset, start_position, start_offset;
	uint64_t last_timestamp_ns;
	uint32_t leader_epoch;
	uint32_t ended;
	uint32_t dedup_max, dedup_count; /* more than max: too small, try again */
	struct hfb_dedup_entry dedup[];
};

/* In place of memory for a snapshot: there is none. */
#define HFB_SNAPSHOT_NONE ((struct hfb_snapshot *)(uintptr_t)1)

/* Bits of `asks`. */
enum {
	HFB_ASK_SEGMENT = 1u << 0,    /* plans to be made */
	HFB_ASK_RING = 1u << 1,	      /* of ring_wanted bytes */
	HFB_ASK_SEAL = 1u << 2,	      /* filed has passed a segment's end */
	HFB_ASK_MEMORY = 1u << 3,     /* for a snapshot */
	HFB_ASK_CHECKPOINT = 1u << 4, /* save snapshot_full */
	HFB_ASK_OPEN = 1u << 5,	      /* files that reads wait for */
	HFB_ASK_INDEX = 1u << 6,      /* look-ups would like it loaded */
	HFB_ASK_LET_GO = 1u << 7,     /* detach: touch the log no more */
};

/* What the journal of its core knows of a log (journal.c). */
enum hfb_journal_state {
	HFB_JOURNAL_NONE = 0, /* nothing that the log's own file does not have */
	HFB_JOURNAL_HELD,     /* bytes that are to be filed in a while */
	HFB_JOURNAL_FILING,   /* being written to the log's file, as far as `target` */
};
struct hfb_journal_part {
	enum hfb_journal_state state;
	bool flies;			 /* in the group that is in flight */
	uint32_t file, target_file;	 /* of the journal: where the oldest of it is, and what is
					  * behind target */
	uint64_t end, target;		 /* positions */
	uint64_t since_ns;		 /* held since then */
	struct hfb_log *next, *previous; /* while HELD */
};

enum hfb_detach_step {
	HFB_ATTACHED = 0,
	HFB_DETACH_MARK,  /* append the end mark */
	HFB_DETACH_DRAIN, /* writes, and with an end mark all bytes durable */
	HFB_DETACH_CHECKPOINT,
	HFB_DETACH_LET_GO,
	HFB_DETACHED,
};

struct hfb_retired {
	uint64_t base_position, capacity_bytes;
	uint32_t generation;
};

/* Grouped by who writes, on lines of their own.
 * NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding) */
struct hfb_log {
	/* Core, every batch. */
	uint8_t *ring;
	uint64_t ring_mask;
	uint64_t limit;		   /* a claim that ends here or below just fits */
	uint64_t position, offset; /* of the next batch */
	uint64_t durable;	   /* batch boundary */
	uint64_t filed;		   /* the same of what the segment files hold: <= durable */
	uint64_t last_timestamp_ns;
	uint64_t index_due;   /* position from which the next index entry is due */
	uint32_t claim_bytes; /* of the claim under way, 0 = none */
	uint32_t batch_bytes_max;
	uint32_t seed, leader_epoch;
	bool active; /* in the writer's list */
	struct hfb_dedup dedup;
	struct hfb_writer *writer;
	struct hfb_positions *positions;

	/* Core, every turn or write. */
	struct hfb_ring *ring_now;
	struct hfb_index *index; /* of the segment appended to; NULL = being made */
	uint64_t intent;	 /* as published */
	uint64_t durable_offset;
	uint64_t published; /* received, as published */
	uint64_t committed, committed_offset;
	uint64_t start, start_offset;
	uint64_t submitted; /* bytes below are in a write */
	uint64_t written;   /* contiguous bytes written, synced or not */
	uint64_t synced;    /* contiguous bytes synced */
	uint64_t flush_end; /* bytes the flush under way syncs */
	struct hfb_boundary written_mark;
	struct hfb_boundary submitted_mark;
	struct hfb_boundary flush_mark; /* what the flush under way makes durable */
	bool flush_armed;
	bool group;	/* writes are plain, a flush follows */
	bool leisurely; /* and not at once: nobody waits for it */
	bool advanced;	/* tell the caller at the end of this poll */
	bool failed;
	bool epoch_started;
	bool detach_clean; /* with an end mark, all of it durable */
	bool end_marked;   /* the last batch is an end mark */
	bool let_go_asked;
	enum hfb_stage commit_stage;
	uint64_t durable_wanted_ns; /* somebody asked for it then */
	uint64_t stride_ns;	    /* since when bytes wait for more; 0 = none do */
	uint64_t unsynced_ns;	    /* since when written ones wait for a flush */
	enum hfb_detach_step detach;
	struct hfb_disk_errors errors; /* core's, relaxed; `reads` released last */
	uint32_t active_at;	       /* index in the writer's list */
	uint32_t writes_head, writes_count;
	uint32_t reads_count;					/* in flight or parked */
	uint32_t plan_head, plan_append, plan_write, plan_tail; /* tail release-stored */
	uint32_t marks_count;
	uint64_t ring_since_position, ring_since_ns;
	uint64_t plan_trigger;	      /* position from which the next segment is planned */
	bool hurried;		      /* and the one after that as well */
	uint64_t checkpoint_position; /* of the last one asked for */
	bool checkpoint_due, memory_asked, checkpoint_under_way;
	uint64_t checkpoint_tries;     /* of checkpoint_tried, as last seen */
	struct hfb_snapshot *snapshot; /* filled, waiting for durable */
	struct hfb_plan plans[HFB_PLANS];
	struct hfb_write writes[HFB_WRITES_MAX];
	struct hfb_boundary marks[HFB_MARKS];
	struct hfb_stage_marks stage_marks;
	struct hfb_journal_part journal;

	/* Core and helper. */
	uint32_t asks __attribute__((aligned(64))); /* HFB_ASK_* */
	uint32_t mailed;			    /* in the ring to the core */
	uint64_t ring_wanted;			    /* core -> helper */
	uint32_t dedup_count;		      /* core -> helper: entries a snapshot would have */
	struct hfb_ring *ring_ready;	      /* helper -> core */
	struct hfb_snapshot *snapshot_memory; /* helper -> core */
	struct hfb_snapshot *snapshot_full;   /* core -> helper */
	uint64_t checkpoint_tried;	      /* helper -> core: saves done or failed */
	uint64_t retire_to, retire_offset;    /* helper -> core: start moves here; offset first */
	int32_t prepare_error; /* helper -> core: why the next segment is not there, 0 = none */
	uint32_t let_go;       /* helper -> core */
	uint32_t index_wanted; /* any -> helper: some segment's */
	uint32_t attached;     /* core -> helper */
	uint32_t detached;     /* core -> main */
	struct hfb_table_slot table;
	uint64_t retention_bytes, retention_ns; /* main -> helper */
	uint64_t cleanup, tombstone_ns;		/* main -> helper */
	uint64_t trim_offset;		  /* main -> helper: the start is to be this at least */
	uint64_t checkpoint_start_offset; /* helper -> main: of the checkpoint on disk */

	/* Helper. */
	uint32_t plan_made __attribute__((aligned(64))); /* plans delivered */
	bool folder_made;
	bool wanting; /* in the store's list of logs with plans to be made */
	struct hfb_log *wanting_next, *wanting_previous;
	uint64_t retry_ns;		      /* prepare again from then on, 0 = nothing to retry */
	struct hfb_snapshot *snapshot_failed; /* could not be saved: once more each round */
	uint64_t checkpoint_start;	      /* start_position of the checkpoint on disk */
	uint64_t checkpoint_saved;	      /* position of the same */
	uint64_t compact_retry_ns;
	uint64_t tombstone_first_ns; /* oldest that the last pass kept; 0 = none */
	uint32_t retired_count;
	struct hfb_retired retired[HFB_RETIRED_MAX];
	struct hfb_segment **leaving; /* dropped from the table, not yet recycled */
	uint32_t leaving_count, leaving_max;
	uint64_t trouble_count;
	struct hfb_err trouble; /* the last one; under the store's lock */

	/* Fixed while open. */
	struct hfb_store *store __attribute__((aligned(64)));
	struct hfb_ring *rings; /* newest; helper adds, close frees */
	struct hfb_epochs epochs;
	uint32_t corrupt_count;
	struct hfb_corrupt_range *corrupt;
	uint32_t recovered_epoch;
	uint64_t ring_bytes_max, segment_bytes_max;
	struct hfb_dedup_entry *recovered_dedup; /* until attached */
	uint32_t recovered_dedup_count;
	struct hfb_log *next; /* the store's list, under its lock */
	void *user;
	struct hfb_uuid topic_uuid;
	uint32_t partition;
	uint32_t notes_count;
	char *notes[HFB_RECOVER_NOTES_MAX];
	char topic[HFB_TOPIC_NAME_MAX + 1];
	char *folder;
};

static inline struct hfb_plan *
hfb_log_plan(struct hfb_log *log, uint32_t number)
{
	return &log->plans[number & (HFB_PLANS - 1)];
}

/* Bytes below may be overwritten: what is not in its file, or is written again, must still
 * be there. */
static inline uint64_t
hfb_log_ring_end(const struct hfb_log *log)
{
	return hfb_block_down(log->filed) + log->ring_mask + 1;
}

/* Somebody who asked for `durable` is taken to still wait for so long. */
#define HFB_WANTED_NS 1000000000u
static inline bool
hfb_log_durable_waits(const struct hfb_log *log, uint64_t now_ns)
{
	return log->commit_stage != HFB_STAGE_RECEIVED ||
	       now_ns - log->durable_wanted_ns < HFB_WANTED_NS;
}

/* log_open.c: limits as a topic sets them, and the largest batch they allow. */
void hfb_log_limits_set(struct hfb_log *log, uint64_t segment_bytes_max, uint64_t ring_bytes_max);
uint64_t hfb_log_batch_bytes_for(const struct hfb_log *log);

/* log.c, owner core. */
void hfb_log_ask(struct hfb_log *log, uint32_t bits);
void hfb_log_limit_update(struct hfb_log *log);
/* Append a control batch of our own (epoch start, end mark). False: no room yet, *@ret_why. */
bool hfb_log_control_append(struct hfb_log *log, uint16_t type, enum hfb_log_refusal *ret_why);
/* tail: pad. Fill the last block, so that it is written once only. False: no room yet. */
bool hfb_log_block_fill(struct hfb_log *log);
/* Ask for a larger ring, of @bytes at least; nothing when it is as large as may be. */
void hfb_log_ring_ask(struct hfb_log *log, uint64_t bytes);
/* Ring bytes up to here stay as they are: reader's lapping check. */
void hfb_log_intent_raise(struct hfb_log *log, uint64_t to);
/* log_plan.c, owner core. Plan the segment after the last one planned, for batches of
 * @batch_bytes too. False: as many as may be. */
bool hfb_log_plan_next(struct hfb_log *log, uint64_t batch_bytes);
/* A planned segment's file is there: name its first batch, take its index into use. */
void hfb_log_plan_bind(struct hfb_log *log, struct hfb_plan *plan, struct hfb_segment *segment);
/* Where the planned segments end whose files are there, without a hole; 0: none is. */
uint64_t hfb_log_ready_end(struct hfb_log *log);
/* log_state.c, owner core. Remember the boundary at ->position. */
void hfb_log_marks_add(struct hfb_log *log);
/* Forget marks at or below @position; the last of them, or @floor when there is none. */
struct hfb_boundary hfb_log_marks_take(struct hfb_log *log, uint64_t position,
				       struct hfb_boundary floor);
/* snapshot.c, owner core, each turn: on with the checkpoint that is due. */
void hfb_log_checkpoint(struct hfb_log *log);

#endif
