/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kv.h - where the control plane keeps what it owns: keys with a revision each,
 * changed by compare-and-set only. SQLite when alone; the same few calls fit etcd.
 *
 *	hfb_kv_open_sqlite("DATA/control.db", &kv, &err);
 *	r = hfb_kv_cas(kv, "topic/quotes", 0, "{...}", &revision, &err);   create
 *	r = hfb_kv_cas(kv, "topic/quotes", revision, "{...}", &revision, &err);
 *	hfb_kv_watch(kv, "topic/", changed, arg, &err);
 *
 * A revision is taken from one counter of the whole store and never used twice, so
 * a key that was removed and made again cannot be mistaken for the old one.
 *
 * Threads: one, the event loop's.
 * Memory:  items are lent to the callback, or until the next call.
 * Cost:    a change is one synced transaction; readers of topics use the
 *	    copy in memory (reconcile.h).
 */
#ifndef HFB_KV_H
#define HFB_KV_H

#include <stdint.h>

#include "err.h"

struct hfb_kv;

struct hfb_kv_item {
	const char *key;
	const char *value; /* NULL: the key was removed (watch only) */
	uint64_t revision;
};

typedef void hfb_kv_fn(void *arg, const struct hfb_kv_item *item);

/* What a backend supplies. Calls have the meaning of the functions below. */
struct hfb_kv_driver {
	int (*get)(void *state, const char *key, struct hfb_kv_item *ret_item, struct hfb_err *err);
	int (*each)(void *state, const char *prefix, hfb_kv_fn *fn, void *arg, struct hfb_err *err);
	int (*cas)(void *state, const char *key, uint64_t expected_revision, const char *value,
		   uint64_t *ret_revision, struct hfb_err *err);
	void (*close)(void *state);
};

/**
 * Open or make the database file @path, in WAL mode, every change synced.
 *
 * Returns 0, or leaves *@ret_kv alone and returns
 *   -EIO     the file cannot be opened, read or is damaged
 *   -EPROTO  the file is not ours, or of a newer version
 *   -ENOMEM
 */
int hfb_kv_open_sqlite(const char *path, struct hfb_kv **ret_kv, struct hfb_err *err);
void hfb_kv_close(struct hfb_kv *kv); /* NULL is fine */

/** Returns 0 and fills *@ret_item, -ENOENT, -EIO or -ENOMEM. */
int hfb_kv_get(struct hfb_kv *kv, const char *key, struct hfb_kv_item *ret_item,
	       struct hfb_err *err);

/** Each key that starts with @prefix, in order. @fn must not change the store. */
int hfb_kv_each(struct hfb_kv *kv, const char *prefix, hfb_kv_fn *fn, void *arg,
		struct hfb_err *err);

/**
 * Set @key to @value (NULL removes it) if its revision is @expected_revision; 0
 * means that it must not exist. Durable when it returns 0; watchers have been told.
 *
 * Returns 0 and sets *@ret_revision (may be NULL), or changes nothing and returns
 *   -ESTALE  the revision is another one
 *   -ENOSPC  the disk is full
 *   -EIO, -ENOMEM
 */
int hfb_kv_cas(struct hfb_kv *kv, const char *key, uint64_t expected_revision, const char *value,
	       uint64_t *ret_revision, struct hfb_err *err);

/** Call @fn after each change of a key that starts with @prefix. 0 or -ENOSPC (4 watchers). */
int hfb_kv_watch(struct hfb_kv *kv, const char *prefix, hfb_kv_fn *fn, void *arg,
		 struct hfb_err *err);

/** For backends. Takes @state on success. */
int hfb_kv_create(const struct hfb_kv_driver *driver, void *state, struct hfb_kv **ret_kv);

#endif
