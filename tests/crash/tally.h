/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tally.h - what a run of crash counted, and the first failure it met.
 *
 * Threads: the test's own.
 */
#ifndef HFB_CRASH_TALLY_H
#define HFB_CRASH_TALLY_H

#include <stdbool.h>
#include <stdint.h>

struct sim_disk;

struct tally {
	uint64_t images, again, worlds, failures, acked_checked, events_checked, operations, rolls,
		recycled, kills, compacted_files, compacted_events, journal_groups;
	char first[512]; /* failure */
};
extern struct tally total;
extern bool verbose; /* failures are told on stderr, and explained */

void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* What failed lies at @offset of the file @path, for tally_explain(). */
void fail_at(const char *path, uint64_t offset);
/* What @disk did there, if a failure named a place since the last call. */
void tally_explain(struct sim_disk *disk);
/* One JSON object on stdout. */
void tally_print(uint64_t seed);

#endif
