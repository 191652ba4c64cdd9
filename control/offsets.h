/* SPDX-License-Identifier: Apache-2.0 */
/*
 * offsets.h - one group's committed offsets: what is durable, and what is on its
 * way there.
 *
 *	hfb_offsets_want(o, "orders", &uuid, &commit, false);	a commit comes in
 *	hfb_offsets_apply(o, &topic);				its record is durable
 *	c = hfb_offsets_find(o, "orders", 3);
 *
 * An offset does not go back but by force (a reset), or where a newer leader's log
 * has lost what it stood for: any other commit below what is committed or on its way
 * changes nothing. The durable side is a function of the
 * records alone, the same at run time as at a start.
 *
 * A topic that was deleted and made again has another uuid: its offsets begin anew.
 *
 * Threads: one.
 * Memory:  40 bytes a partition up to the highest committed one.
 */
#ifndef HFB_OFFSETS_H
#define HFB_OFFSETS_H

#include <stdbool.h>
#include <stdint.h>

#include "offset_record.h"

struct hfb_committed {
	uint64_t offset;  /* durable */
	uint64_t pending; /* what will be, once all on their way are */
	uint64_t time_ns; /* of the commit */
	uint32_t leader_epoch, pending_epoch;
	uint32_t on_way; /* records not durable yet */
	bool has, has_pending;
};

struct hfb_offsets_topic {
	char name[HFB_TOPIC_NAME_MAX + 1];
	struct hfb_uuid uuid;
	struct hfb_committed *partitions;
	uint32_t partitions_count; /* highest committed + 1 */
};

struct hfb_offsets {
	struct hfb_offsets_topic *topics; /* by name */
	uint32_t topics_count;
};

void hfb_offsets_fini(struct hfb_offsets *o);

/**
 * Returns 1: to be written, 0: nothing new, -ENOMEM, or -E2BIG (too many topics).
 * @force: also back.
 */
int hfb_offsets_want(struct hfb_offsets *o, const char *topic, const struct hfb_uuid *uuid,
		     const struct hfb_commit *commit, bool force);

/** A durable record's part. 0 or -ENOMEM. */
int hfb_offsets_apply(struct hfb_offsets *o, const struct hfb_commit_topic *topic,
		      uint64_t time_ns);

const struct hfb_committed *hfb_offsets_find(const struct hfb_offsets *o, const char *topic,
					     uint32_t partition); /* NULL = none */
const struct hfb_offsets_topic *hfb_offsets_topic(const struct hfb_offsets *o, const char *topic);

/* Forget a topic that is gone. True: there was one. */
bool hfb_offsets_forget(struct hfb_offsets *o, const char *topic);

/* A topic of a COMMITS record, for a snapshot: also what is on its way. */
void hfb_offsets_encode(const struct hfb_offsets_topic *t, struct hfb_bytes *to);

#endif
