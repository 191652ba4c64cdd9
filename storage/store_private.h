/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_private.h - inside storage: the data folder, its logs and the helper.
 *
 *	helper.c	wakes up, takes what cores ask, does it, mails them
 *	prepare.c	segments and rings ahead of use
 *	retention.c	seals, checkpoints, drops and recycles
 *	trim.c		where the start goes when it is told by offset
 *
 * Threads: `lock` guards the lists and each log's `trouble`; the rest is written
 *	    before the helper starts, or is the helper's.
 */
#ifndef HFB_STORE_PRIVATE_H
#define HFB_STORE_PRIVATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "env.h"
#include "log_private.h"
#include "segment.h"
#include "store.h"

struct hfb_writer;
struct hfb_compactor;

#define HFB_RETRY_NS	 100000000ull	/* a full disk is tried again after this */
#define HFB_ROUND_NS	 1000000000ull	/* retention, idle files */
#define HFB_FILE_IDLE_NS 30000000000ull /* a sealed segment's file is closed after this */

struct hfb_store {
	struct hfb_env *env;
	char *data_dir;
	struct hfb_store_config config;
	int lock_fd;
	bool synced;		/* all of it is durable, and nobody has written since: recover.h */
	bool flush_covers;	/* one flush makes all O_DIRECT overwrites durable here */
	uint32_t leader_epoch;	/* of this run, 0 = not begun: no journal is written then */
	uint32_t journal_asked; /* cores -> helper: some journal wants its files */
	uint32_t journals;	/* made so far, under lock */
	bool group_always;	/* plain writes and flushes even for few logs, as configured */
	pthread_mutex_t lock;
	struct hfb_log *logs;	    /* under lock */
	struct hfb_writer *writers; /* under lock */
	/* helper */
	pthread_t thread;
	bool running;
	uint32_t stop;
	int wake_fd;
	uint64_t round_ns;  /* next retention round */
	uint32_t round_now; /* any thread: not only then */
	uint32_t retries;   /* logs with something to try again */
	uint32_t taken;	    /* logs in its hands, behind the one it is at */
	struct hfb_log *wanting_head, *wanting_tail; /* logs with plans to be made */
	uint32_t wanting_count;
	uint64_t turn_zeros; /* HFB_TURN_ZEROS; tests take less */
	struct hfb_compactor *compactor;
	uint8_t *zeros;		      /* HFB_ZEROS_BYTES */
	uint8_t *block;		      /* HFB_BLOCK_BYTES */
	char note[HFB_PATH_MAX + 80]; /* hfb_store_note() */
};

/* The leader epoch of the run before. 0, -ENOENT, -EBADMSG, -errno. */
int hfb_store_epoch_last(struct hfb_store *store, uint32_t *ret_epoch, struct hfb_err *err);
/* Keep a sentence for hfb_store_note(); the first one stays. */
void hfb_store_note_set(struct hfb_store *store, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* Any thread: there is something for the helper. */
void hfb_store_wake(struct hfb_store *store);
int hfb_helper_start(struct hfb_store *store, struct hfb_err *err);
void hfb_helper_stop(struct hfb_store *store);

/* Helper. ---------------------------------------------------------------------- */

struct hfb_segment_place hfb_log_place(struct hfb_log *log);
/* group.c: what many of the @n logs taken want at once is done at once; the rest is left. */
#define HFB_GROUP_MIN 6u
#define HFB_GROUP_MAX 256u
void hfb_group_serve(struct hfb_store *store, void **taken, uint32_t n);
/* Of so many zeros the helper has enough for a while: what else there is has its turn. */
#define HFB_TURN_ZEROS (64u * HFB_MIB)
/* The next segment of each of @n logs, in this order, until a turn's zeros are written. Returns
 * how many of them were looked at; what could not be made is as it was. */
uint32_t hfb_group_segments(struct hfb_store *store, struct hfb_log **logs, uint32_t n);
/* Do other logs wait for us? */
bool hfb_helper_wanted(struct hfb_store *store);
/* Tell the log's core to look at it. */
void hfb_helper_mail(struct hfb_log *log);
/* Keep @err for hfb_log_trouble(). */
void hfb_helper_trouble(struct hfb_log *log, const struct hfb_err *err);

/* prepare.c: make what is planned, the larger ring. */
/* A file for @plan, from a retired one or anew. Not @synced: see no_sync in segment.h. */
int hfb_prepare_segment(struct hfb_log *log, const struct hfb_plan *plan, bool synced,
			struct hfb_segment **ret_segment, struct hfb_err *err);
/* @log has plans to be made: hfb_prepare_serve() makes them in turn. */
void hfb_prepare_want(struct hfb_log *log);
/* It is let go. */
void hfb_prepare_forget(struct hfb_log *log);
/* Some of what is wanted, most urgent first. Returns how many segments were made. */
uint32_t hfb_prepare_serve(struct hfb_store *store, uint64_t now_ns);
void hfb_prepare_ring(struct hfb_log *log);
/* The next planned segment is @segment (taken on success). 0 or -ENOMEM. */
int hfb_prepare_done(struct hfb_log *log, struct hfb_segment *segment);

/* retention.c */
void hfb_retention_seal(struct hfb_log *log);
/* The same in two halves, see group.c. Returns how many indexes were written. */
uint32_t hfb_retention_seal_stage(struct hfb_log *log);
/* Those are @synced, or are to be written anew. */
void hfb_retention_seal_name(struct hfb_log *log, bool synced);
void hfb_retention_memory(struct hfb_log *log);
void hfb_retention_checkpoint(struct hfb_log *log);
/* Its parts: what to save of a snapshot, and what follows. Takes @s. */
void hfb_retention_checkpoint_fill(struct hfb_log *log, const struct hfb_snapshot *s,
				   struct hfb_checkpoint *ret);
void hfb_retention_checkpoint_done(struct hfb_log *log, struct hfb_snapshot *s, bool saved);
void hfb_retention_open(struct hfb_log *log, uint64_t now_ns);
void hfb_retention_indexes(struct hfb_log *log);
/* Once a round: what is too old or too much goes; idle files are closed. */
void hfb_retention_round(struct hfb_log *log, uint64_t now_ns);
/* trim.c: where the start is to go when a trim asks for it. */
void hfb_trim_round(struct hfb_log *log);
void hfb_retention_retire(struct hfb_log *log, uint64_t position, uint64_t offset);
/* The disk is full: let go what only waits for a checkpoint. True: files may be recycled. */
bool hfb_retention_squeeze(struct hfb_log *log);
/* Segments that left the table and nobody uses: recycled, unlinked. */
void hfb_retention_leave(struct hfb_log *log);

#endif
