/* SPDX-License-Identifier: Apache-2.0 */
/*
 * writer.h - one poll core's way to the disk: all its logs, one io_uring.
 *
 * Group commit without a timer: while writes are in flight the next ones form.
 *
 * Threads: create/destroy on the main thread; the rest on the poll core.
 */
#ifndef HFB_WRITER_H
#define HFB_WRITER_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"
#include "log.h"
#include "stage_times.h"

struct hfb_store;
struct hfb_writer;

struct hfb_writer_config {
	uint32_t logs_max;	/* attached at once */
	uint32_t producers_max; /* dedup entries over all logs */
	uint32_t queue_depth;	/* writes in flight, 0 = default */
	bool isolated;		/* this core is isolated from the disk's interrupt: never yield */
	/* where the time of events goes; its turn_tsc is the caller's to set before each poll,
	 * lent until destroy; NULL = not recorded */
	struct hfb_stage_times *times;
	/* called at most once per log and poll when durable or committed moved */
	void (*advanced)(void *arg, struct hfb_log *log);
	void *arg;
};

int hfb_writer_create(struct hfb_store *store, const struct hfb_writer_config *config,
		      struct hfb_writer **ret_writer, struct hfb_err *err);
void hfb_writer_destroy(struct hfb_writer *writer);

/* Poll core: take the log over; appends its epoch start when it has a segment. */
void hfb_writer_attach(struct hfb_writer *writer, struct hfb_log *log);
/* Poll core: begin to let go: with @end_mark append the clean end and make all durable.
 * The log is let go when hfb_writer_detached() says so; go on polling until then. */
void hfb_writer_detach(struct hfb_writer *writer, struct hfb_log *log, bool end_mark);
/* Owner core: take other settings from here on. Retention: hfb_log_set_retention(). */
void hfb_writer_settings(struct hfb_writer *writer, struct hfb_log *log,
			 const struct hfb_log_settings *settings);
bool hfb_writer_detached(const struct hfb_writer *writer, const struct hfb_log *log);

/*
 * Publish what was appended, and nothing else: for a caller that answers `received`
 * before it enters the kernel. hfb_writer_poll() follows in the same turn. Returns
 * events published.
 */
uint32_t hfb_writer_publish(struct hfb_writer *writer);

/*
 * Publish what was appended, form and submit writes and syncs, reap completions.
 * At most one io_uring entry. Yields the CPU now and then while I/O is in flight
 * and this core is not isolated from the disk's interrupt (design section 5); sleeps 20 us
 * when nothing completes for 200 us.
 * Returns work done (events published, writes submitted, completions).
 */
uint32_t hfb_writer_poll(struct hfb_writer *writer, uint64_t now_ns);
/* Is I/O in flight, or due soon (then do not sleep long)? */
bool hfb_writer_busy(const struct hfb_writer *writer);
/* The io_uring's eventfd for sleeping, -1 = none. */
int hfb_writer_eventfd(const struct hfb_writer *writer);

struct hfb_writer_stats {
	uint64_t writes, write_bytes, syncs, reads, errors, short_writes, yields, naps,
		unregistered;
	uint64_t journal_writes, journal_bytes;
};
const struct hfb_writer_stats *hfb_writer_stats(const struct hfb_writer *writer);

#endif
