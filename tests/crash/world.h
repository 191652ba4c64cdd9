/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world.h - the real store, writer and logs on a disk that may lose power, with what was
 * appended to them noted beside.
 *
 *	w = world_of(sim_disk_create(seed), seed);
 *	world_open(&w);			recovers and checks
 *	world_work(&w, bytes);
 *	world_close(&w, clean);		or a kill
 *	world_free(&w);
 *
 * Threads: the test's own; the store's helper is one of its own.
 */
#ifndef HFB_CRASH_WORLD_H
#define HFB_CRASH_WORLD_H

#include "log.h"
#include "sim_disk.h"
#include "store.h"
#include "truth.h"
#include "writer.h"

#define DATA		"/data"
#define SEGMENT_BYTES	HFB_SEGMENT_BYTES_MIN
#define RETENTION_BYTES (2u * HFB_SEGMENT_BYTES_MIN)

/* How worlds are worked in from now on. */
struct way {
	enum hfb_sync_mode sync;
	bool journal;
	bool leisurely; /* topics commit at `received`, and only now and then somebody waits */
};
extern struct way way;

struct world {
	struct sim_disk *disk;
	uint64_t random, ahead_ns;
	struct note *notes;
	uint64_t notes_count, notes_max;
	struct truth truths[PARTITIONS];
	uint64_t starts[PARTITIONS];
	struct hfb_store *store;
	struct hfb_writer *writer;
	struct hfb_log *logs[PARTITIONS];
	struct hfb_positions *positions;
	bool failed; /* gave up: something was not as it must be */
};

struct hfb_uuid topic_uuid(void);
uint64_t now_ns(void);

/* @disk is the world's from here on. */
struct world world_of(struct sim_disk *disk, uint64_t seed);
/* Open what is on the disk, and check it. False: it is not as it must be. */
bool world_open(struct world *w);
/* Append about @bytes to partition 0 and less to the others. */
void world_work(struct world *w, uint64_t bytes);
/* Stop; not clean: as a kill would. */
void world_close(struct world *w, bool clean);
void world_free(struct world *w);

#endif
