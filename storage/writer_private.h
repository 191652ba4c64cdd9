/* SPDX-License-Identifier: Apache-2.0 */
/*
 * writer_private.h - inside storage: a core's writer.
 *
 * Threads: the core, but for the two rings to and from the helper.
 */
#ifndef HFB_WRITER_PRIVATE_H
#define HFB_WRITER_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "env.h"
#include "log_private.h"
#include "spsc.h"
#include "writer.h"

#define HFB_READS_MAX	 64u  /* in flight or waiting for a file, a core */
#define HFB_FILE_SLOTS	 256u /* registered files */
#define HFB_BUFFER_SLOTS 64u  /* registered rings */
#define HFB_QUEUE_DEPTH	 128u
/* So many logs with something to do are many: for the one helper, and for a write each. */
#define HFB_MANY_LOGS 64u

/* The low bits of an operation's user data. */
#define HFB_OP_WRITE   0u
#define HFB_OP_READ    1u
#define HFB_OP_FLUSH   2u
#define HFB_OP_JOURNAL 3u
#define HFB_OP_MASK    7u

struct hfb_read_op {
	struct hfb_read *read; /* NULL = free */
	struct hfb_log *log;
	struct hfb_segment *segment;
	uint64_t limit; /* position that what may be served ends at */
	uint64_t at;	/* file offset of the buffer's first byte */
	uint32_t skip;	/* from there to the position asked for */
	uint32_t valid; /* bytes from that position on, as far as they are there */
	bool parked;	/* its file is being opened */
} __attribute__((aligned(8)));

struct hfb_slots {
	uint32_t count, free_count;
	uint16_t free[HFB_FILE_SLOTS];
};

struct hfb_writer {
	struct hfb_store *store;
	struct hfb_io *io;
	uint64_t now_ns;
	uint64_t yield_tsc, yielded_tsc;
	uint64_t late_tsc;     /* a silence of the disk to nap after */
	uint64_t progress_tsc; /* when it began */
	uint32_t reaped;       /* since the last look */
	bool napped;	       /* since the last look */
	bool slack_set;
	uint32_t active_count, logs_count, logs_max;
	uint32_t in_flight; /* operations */
	uint32_t parked_count;
	bool unpark_again; /* a parked read found the queue full */
	bool queue_full;   /* a write waits; none is tried before something completes */
	uint32_t form_at;  /* in active: the log that was last asked for writes */
	bool enabled, isolated;
	bool wake_helper;
	bool delayed; /* some log's bytes wait for more */
	bool flush_in_flight;
	int dead;		  /* the queue takes nothing for good: why, -errno */
	uint64_t submit_fails_ns; /* since when; 0 = it does not */
	bool buffers_refused;
	void (*advanced)(void *arg, struct hfb_log *log);
	void *arg;
	struct hfb_dedup_pool *dedup_pool;
	void *dedup_memory;
	struct hfb_slots files, buffers;
	struct hfb_journal *journal; /* NULL = none */
	struct hfb_writer_stats stats;
	struct hfb_stage_times *times; /* NULL = not recorded */
	uint64_t flush_tsc;	       /* when the flush in flight was submitted */
	struct hfb_read_op reads[HFB_READS_MAX];
	struct hfb_spsc *to_helper; /* struct hfb_log * */
	struct hfb_spsc *from_helper;
	struct hfb_writer *next; /* the store's list, under its lock */
	struct hfb_log *active[];
};

/* give_way.c: at the end of a poll, let the kernel's workers in if I/O is in flight. */
void hfb_writer_give_way_init(struct hfb_writer *writer);
void hfb_writer_give_way(struct hfb_writer *writer);

/* Look after @log at the next poll. */
static inline void
hfb_writer_activate(struct hfb_writer *writer, struct hfb_log *log)
{
	if (log->active)
		return;
	log->active = true;
	log->active_at = writer->active_count;
	writer->active[writer->active_count++] = log;
}

/* read.c, owner core. */
void hfb_read_done(struct hfb_writer *writer, struct hfb_read_op *op, int32_t result);
/* Reads of @log, or of all when NULL, whose file is open now. */
void hfb_read_unpark(struct hfb_writer *writer, struct hfb_log *log);

/* write.c, owner core: form and complete the writes of one log. */
uint32_t hfb_write_form(struct hfb_writer *writer, struct hfb_log *log, bool group);
/* What was appended goes with a write that follows nothing in flight nor waits for a flush. */
bool hfb_write_begins(const struct hfb_writer *writer, const struct hfb_log *log, bool group);
void hfb_write_done(struct hfb_writer *writer, struct hfb_write *write, int32_t result);
void hfb_write_flush_start(struct hfb_writer *writer);
void hfb_write_flush_done(struct hfb_writer *writer, int32_t result);
void hfb_write_fail(struct hfb_writer *writer, struct hfb_log *log, int error);
/* Everything up to @mark is on the disk: said to readers and to who waits. */
void hfb_write_durable(struct hfb_writer *writer, struct hfb_log *log, struct hfb_boundary mark);

#endif
