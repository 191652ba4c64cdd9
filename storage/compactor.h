/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compactor.h - when a log is compacted, and how the new files take their places.
 *
 *	helper		looks at each log once a round; hands one at a time to ...
 *	compactor	... a thread of its own, that reads and writes at a bounded rate,
 *			and makes <base>.seg.compact.tmp (compact.h)
 *	helper		renames it over <base>.seg, syncs the folder, and publishes a table
 *			of segments with the new one in it
 *
 * A reader of the old file goes on in it: its descriptor holds it. A crash leaves the
 * old file or the new one under the name.
 *
 * Threads: the helper's, but for the thread inside. With helper_manual there is none,
 *	    and a round does all of it.
 */
#ifndef HFB_COMPACTOR_H
#define HFB_COMPACTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"

struct hfb_compactor;
struct hfb_log;
struct hfb_store;

int hfb_compactor_create(struct hfb_store *store, struct hfb_compactor **ret, struct hfb_err *err);
/* When no log is attached any more. Accepts NULL. */
void hfb_compactor_destroy(struct hfb_compactor *compactor);

/* Put what is ready in its place, end what is done. Returns how much was done. */
uint32_t hfb_compactor_serve(struct hfb_compactor *compactor);
/* Once a round: begin with this log, if it wants it and no other is under way. */
void hfb_compactor_consider(struct hfb_compactor *compactor, struct hfb_log *log, uint64_t now_ns);
/* The log is let go: nothing is made of it any more when this returns. */
void hfb_compactor_forget(struct hfb_compactor *compactor, struct hfb_log *log);

#endif
