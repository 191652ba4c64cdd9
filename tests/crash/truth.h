/* SPDX-License-Identifier: Apache-2.0 */
/*
 * truth.h - what was appended to a partition and acked, noted beside the disk: what an image
 * of the disk is measured by.
 *
 * Threads: the test's own.
 * Memory:  the events are allocated; truth_fini() frees them.
 */
#ifndef HFB_CRASH_TRUTH_H
#define HFB_CRASH_TRUTH_H

#include <stdbool.h>
#include <stdint.h>

#include "batch.h"

#define PARTITIONS 6u /* the later ones: little each, for the journal */
#define PRODUCERS  3u /* a partition */
#define COMPACTED  1u /* the partition that is */
#define KEYS	   25u

/* One event as it was appended; its offset is its place in the array. */
struct event {
	uint64_t id; /* unlike any other's; the payload follows from it */
	uint64_t sequence;
	uint32_t producer, bytes;
	uint64_t end_position; /* of its batch */
};

enum note_kind { NOTE_APPEND, NOTE_ACK, NOTE_CUT };
struct note {
	uint64_t at; /* the disk's operation count */
	enum note_kind kind;
	uint32_t partition;
	uint64_t value; /* ack, cut: an offset */
	struct event event;
};

struct truth {
	struct event *events;
	uint64_t count, max;
	uint64_t acked; /* offsets below are durable */
};

/* The payload of event @id, @bytes of it. */
void event_payload(uint8_t *to, uint64_t id, uint32_t bytes);
/* Is the record that event? */
bool event_is(const struct hfb_record_view *r, const struct event *e);
/* Where the partition is compacted: which of KEYS it has. */
uint32_t event_key(const struct event *e);
uint64_t producer_id(uint32_t partition, uint32_t producer);

void truth_add(struct truth *t, const struct event *e);
void truth_apply(struct truth *t, const struct note *n);
struct truth truth_copy(const struct truth *t);
void truth_fini(struct truth *t);
/* The next sequence of a producer, as the first @count events leave it. */
uint64_t truth_sequence_after(const struct truth *t, uint32_t producer, uint64_t count);

#endif
