/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_disk.h - a disk in memory that remembers what was done to it in which
 * order, and can be asked what might be left of it had the power failed then.
 *
 *	disk = sim_disk_create(seed);
 *	... run storage on sim_disk_env(disk), from any threads ...
 *	at = sim_disk_now(disk);
 *	left = sim_disk_crash(disk, at, seed);	 one of the many possible
 *	... recover on sim_disk_env(left) ...
 *
 * What a crash may do (env.h):
 *  - a write is lost or there, sector by sector (512 bytes), in any order, unless
 *    it is durable: it carried DSYNC and completed; or it had completed when an
 *    fsync of its file began that ended; or it was an O_DIRECT overwrite of
 *    blocks that an fsync had covered, reaped when a device flush began that ended.
 *    Between submit and completion memory may change: each sector of an
 *    asynchronous write is of either moment.
 *  - a name (create, rename, unlink, mkdir, rmdir) is undone or done, unless its
 *    folder was synced afterwards; operations on one name keep their order.
 *
 * sim_disk_kill() is the other end of a process: nothing more reaches the disk,
 * what was in flight did or did not; caches survive.
 *
 * It also counts breaches of the rules that make the tail's rewriting safe: two
 * writes of one block in flight together, unaligned O_DIRECT.
 *
 * Threads: any; one lock.
 */
#ifndef SIM_DISK_H
#define SIM_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "env.h"

struct sim_disk;

struct sim_disk *sim_disk_create(uint64_t seed);
/* What may be left when power fails after operation @at. Durable itself. */
struct sim_disk *sim_disk_crash(struct sim_disk *disk, uint64_t at, uint64_t seed);
void sim_disk_destroy(struct sim_disk *disk);
struct hfb_env *sim_disk_env(struct sim_disk *disk);

/* Operations so far. */
uint64_t sim_disk_now(struct sim_disk *disk);
void sim_disk_kill(struct sim_disk *disk);
void sim_disk_revive(struct sim_disk *disk);
/* Rules broken by its user; 0 is right. *@ret_what names the last one. */
uint64_t sim_disk_breaches(struct sim_disk *disk, const char **ret_what);

/* Whole file as it is now; free() it. NULL: none. */
uint8_t *sim_disk_read(struct sim_disk *disk, const char *path, uint64_t *ret_size);

/* Tell on stderr what was done to the byte at @offset of @path, and when all was synced. */
void sim_disk_explain(struct sim_disk *disk, const char *path, uint64_t offset);

struct sim_disk_counts {
	uint64_t writes, write_bytes, syncs, flushes, creates, renames, unlinks, dir_syncs;
};
void sim_disk_counts(struct sim_disk *disk, struct sim_disk_counts *ret);

/* xorshift*; the tests' randomness from one seed. */
static inline uint64_t
sim_random(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * 0x2545f4914f6cdd1dull;
}

#endif
