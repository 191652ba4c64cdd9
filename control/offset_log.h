/* SPDX-License-Identifier: Apache-2.0 */
/*
 * offset_log.h - __offsets, read and written by a thread of its own: what waits for
 * hfbusd waits there, never the event loop.
 *
 *	hfb_offset_log_create(&loop, "DATA", &events, arg, &log, &err);
 *	loaded(arg, record, key, ...)	each record, oldest first; then ready(arg)
 *	hfb_offset_log_write(log, batch)  ->  written(arg, batch) when it is durable
 *
 * Beginning: the last event says where the last whole snapshot begins and who wrote
 * it; we publish with the same producer id and the next epoch, which fences what a
 * killed hfbus-control may have left in its channel, and put a FENCE event down;
 * what lies between snapshot and fence is the state. So little is read, and nothing
 * can come after it that we do not know.
 *
 * Writing: an ordinary publisher, acked durable, one batch at a time; the next one
 * is collected meanwhile. A batch is kept and tried again until it is durable, also
 * over restarts of hfbusd. Fenced while it writes, that is the end: another
 * hfbus-control has read the log, and what it commits is not known here.
 *
 * Threads: all functions and callbacks on the event loop's; one thread of its own.
 * Memory:  records are lent to the callback. Batches are taken, and given to written().
 */
#ifndef HFB_OFFSET_LOG_H
#define HFB_OFFSET_LOG_H

#include <stdint.h>

#include <uv.h>

#include "err.h"
#include "offset_record.h"

struct hfb_offset_log;

struct hfb_offset_event {
	char group[HFB_GROUP_NAME_MAX + 1]; /* the key; "" = none */
	struct hfb_bytes value;
};

struct hfb_offset_batch {
	struct hfb_offset_event *events;
	uint32_t count, room;
	bool snapshot; /* begins with SNAPSHOT_BEGIN, ends with SNAPSHOT_END */
	void *arg;
};

struct hfb_offset_log_events {
	void (*loaded)(void *arg, const struct hfb_offset_record *record, const char *group);
	void (*ready)(void *arg);
	void (*written)(void *arg, struct hfb_offset_batch *batch);
	void (*fenced)(void *arg); /* another one writes now: what is here is stale for good */
	void (*note)(void *arg, const char *sentence); /* for people: what is wrong */
};

struct hfb_offset_log_stats {
	uint64_t loaded_events, loaded_bytes; /* at start */
	uint64_t batches, events, bytes;      /* written */
	uint64_t bytes_since_snapshot;	      /* also those read at start */
	uint64_t snapshot_offset;
};

/** 0 or -ENOMEM, -EAGAIN (no thread). @data_dir is copied. */
int hfb_offset_log_create(uv_loop_t *loop, const char *data_dir,
			  const struct hfb_offset_log_events *events, void *arg,
			  struct hfb_offset_log **ret_log, struct hfb_err *err);

/** Stops the thread (within a second) and drops what is not written; no more callbacks. */
void hfb_offset_log_destroy(struct hfb_offset_log *log);

/** Write @batch (taken). Only when the one before was given to written(). */
void hfb_offset_log_write(struct hfb_offset_log *log, struct hfb_offset_batch *batch);

void hfb_offset_log_stats_get(struct hfb_offset_log *log, struct hfb_offset_log_stats *ret);

/* Batches. An event is added empty; NULL when memory is out. */
struct hfb_offset_batch *hfb_offset_batch_create(void);
struct hfb_offset_event *hfb_offset_batch_event(struct hfb_offset_batch *batch, const char *group);
void hfb_offset_batch_destroy(struct hfb_offset_batch *batch); /* NULL is fine */

#endif
