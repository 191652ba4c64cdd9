/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal.h - inside storage: one sequential write that makes what many partitions of a
 * core appended durable at once. Their segment files get the same bytes later, in
 * larger pieces.
 *
 *	durable: in the journal, or in the segment's file	(ack, readers of the ring)
 *	filed:	 in the segment's file				(the ring may forget it)
 *
 *	hfb_journal_form()	each turn: who takes part; one group; what is to be filed now
 *	hfb_journal_takes()	write.c asks: may this log's file wait?
 *	hfb_journal_done()	the group is on the disk
 *	hfb_journal_filed()	write.c says: a log's file has more
 *
 * The journal is only ever a shortcut: a log it does not take goes the direct way.
 * docs/STORAGE.md, "The journal", has the rules and why they hold.
 *
 * Threads: create, destroy, replay: the main thread; make: the helper; the rest: the
 *	    owner core.
 * Memory:  create allocates; files are made when a core first wants them.
 * Cost:    a copy of each byte, and a look at each active log a turn.
 */
#ifndef HFB_JOURNAL_H
#define HFB_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"

/* Written one after the other, and again from the first. */
#define HFB_JOURNAL_FILES	4u
#define HFB_JOURNAL_GROUP_BYTES (256u << 10) /* at most */

struct hfb_journal;
struct hfb_log;
struct hfb_store;
struct hfb_writer;

/* NULL: no memory, or the store wants none. */
struct hfb_journal *hfb_journal_create(struct hfb_writer *writer);
/* Its logs are gone. Removes its files when nothing is in them alone. Accepts NULL. */
void hfb_journal_destroy(struct hfb_journal *journal);

/* Helper: make the files that cores asked for. Returns how many journals got theirs. */
uint32_t hfb_journal_make(struct hfb_store *store);

/* Owner core. NULL as journal: there is none. Returns groups formed. */
uint32_t hfb_journal_form(struct hfb_journal *journal);
/* What was appended to @log is in the journal or goes there next: its file may wait. */
bool hfb_journal_takes(const struct hfb_journal *journal, const struct hfb_log *log);
/* All of it is there: nothing to do before it is to be filed. */
bool hfb_journal_rests(const struct hfb_log *log);
/* Is any of it there and not yet in its file? Such a log is not let go. */
bool hfb_journal_holds(const struct hfb_log *log);
void hfb_journal_done(struct hfb_journal *journal, int32_t result);
/* log->synced has moved on. */
void hfb_journal_filed(struct hfb_journal *journal, struct hfb_log *log);
/* A log has failed: what of it only the journal has stays there for the next start. */
void hfb_journal_forget(struct hfb_journal *journal, struct hfb_log *log);
/* A group is in flight. */
bool hfb_journal_flies(const struct hfb_journal *journal);
/* Something is there that is to be filed in a while. */
bool hfb_journal_waits(const struct hfb_journal *journal);

/*
 * journal_replay.c. Main thread, before any log is opened: what journals of a run that
 * crashed hold goes into the segments, is synced, then the journals are removed.
 * 0, or -errno: the data folder must not be used then.
 */
int hfb_journal_replay(struct hfb_store *store, struct hfb_err *err);

#endif
