/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reconcile.h - bring two catalogues together: ours (the store's) and hfbusd's. A
 * state machine without I/O: it is told what happened, and asked what to do next.
 *
 *	hfb_reconcile_ours(r, &topic, revision);	each topic of the store
 *	hfb_reconcile_up(r);				connected to hfbusd
 *	while (hfb_reconcile_next(r, &action))
 *		LIST  -> ask for names after action.after, then hfb_reconcile_page()
 *		PUT   -> put action.topic, then hfb_reconcile_put_done()
 *		ADOPT -> store action.topic, hfb_reconcile_ours() or _adopt_failed()
 *
 *	      up              last page, nothing dirty
 *	AWAY ----> LISTING <------> SETTLING ----------> SETTLED
 *	  ^  down    ^  page, put                          |
 *	  +----------+-------------- refresh, or a change of ours
 *
 * The rules, for one name:
 *  - the higher version wins; at the same version hfbusd's settings do, for they
 *    are those its data lives by;
 *  - what hfbusd has and we have not is adopted: a feed made it, or our store is new;
 *  - what we have and hfbusd has not is put there, a tombstone needs no telling;
 *  - a different uuid is different data. hfbusd's stays, above our version: data
 *    that is there is never deleted because a name met another history.
 *
 * One LIST or PUT is under way at a time, so an answer is never older than the
 * answers before it. Memory holds both catalogues; it serves reads as well.
 *
 * Threads: one, the event loop's.
 * Memory:  two records (about 740 bytes) a topic, until destroy.
 */
#ifndef HFB_RECONCILE_H
#define HFB_RECONCILE_H

#include <stdbool.h>
#include <stdint.h>

#include <hfbus/ipc.h>

#include "err.h"

struct hfb_reconcile;

enum hfb_reconcile_state {
	HFB_RECONCILE_AWAY,
	HFB_RECONCILE_LISTING,
	HFB_RECONCILE_SETTLING,
	HFB_RECONCILE_SETTLED,
};

struct hfb_reconcile_action {
	enum { HFB_RECONCILE_LIST, HFB_RECONCILE_PUT, HFB_RECONCILE_ADOPT } what;
	char after[256];	    /* LIST */
	struct hfb_ipc_topic topic; /* PUT, with expected_version; ADOPT */
	uint64_t revision;	    /* ADOPT: expected in the store, 0 = none */
};

/* A name in either catalogue. */
struct hfb_reconcile_entry {
	struct hfb_ipc_topic ours, theirs;
	bool has_ours, has_theirs;
	uint64_t revision;		/* of ours in the store */
	int refused;			/* 0, or why hfbusd did not take ours: negative errno */
	char refusal[HFB_ERR_TEXT_MAX]; /* its sentence */
	/* the machine's own */
	bool seen, dirty;
};

int hfb_reconcile_create(struct hfb_reconcile **ret); /* 0 or -ENOMEM */
void hfb_reconcile_destroy(struct hfb_reconcile *r);  /* NULL is fine */

/* What happened. Those that return int: 0 or -ENOMEM. */
int hfb_reconcile_ours(struct hfb_reconcile *r, const struct hfb_ipc_topic *topic,
		       uint64_t revision);
void hfb_reconcile_ours_removed(struct hfb_reconcile *r, const char *name);
void hfb_reconcile_up(struct hfb_reconcile *r);
void hfb_reconcile_down(struct hfb_reconcile *r);
void hfb_reconcile_refresh(struct hfb_reconcile *r); /* list anew; a refusal is tried again */
int hfb_reconcile_page(struct hfb_reconcile *r, const struct hfb_ipc_topic *topics, uint32_t count,
		       bool more);
/* @error: 0 or a negative errno with a sentence. -ESTALE, -EEXIST and -ENOENT ask for a new
 * listing. */
void hfb_reconcile_put_done(struct hfb_reconcile *r, int error, const char *sentence);
void hfb_reconcile_adopt_failed(struct hfb_reconcile *r, int error, const char *sentence);

/** What to do now. False: nothing, or an answer is awaited. */
bool hfb_reconcile_next(struct hfb_reconcile *r, struct hfb_reconcile_action *ret_action);

enum hfb_reconcile_state hfb_reconcile_state(const struct hfb_reconcile *r);

/* Passes that were finished: a reader waits for the next one to see what feeds have made. */
uint64_t hfb_reconcile_passes(const struct hfb_reconcile *r);

/** An entry by name, or NULL. Lent until the next event. */
const struct hfb_reconcile_entry *hfb_reconcile_find(const struct hfb_reconcile *r,
						     const char *name);

/** The first entry with a name after @after ("" = all), or NULL. */
const struct hfb_reconcile_entry *hfb_reconcile_after(const struct hfb_reconcile *r,
						      const char *after);

#endif
