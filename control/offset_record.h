/* SPDX-License-Identifier: Apache-2.0 */
/*
 * offset_record.h - what an event of __offsets says: commits of a group, a group's
 * members, a deletion, the frame of a snapshot, or that another hfbus-control took
 * over. The event's key is the group's name. Applying all records in order gives
 * the state; so does the last whole snapshot and what follows it.
 *
 *	 0 u32 magic "HBGO"	 4 u16 version	 6 u16 kind
 *	 8 u32 writer_epoch	12 u32 reserved
 *	16 u64 snapshot_offset	of the last whole snapshot's begin when this was written
 *	24 u64 time_ns		UTC
 *	32 body
 *
 *	COMMITS: for each topic
 *	 0 u16 topic_size  2 u16 reserved  4 u32 count  8 uuid  24 topic, padded to 8
 *	 then count of {u32 partition, u32 leader_epoch, u64 offset}
 *	GROUP: JSON, see group_record.h	   FENCE: u64 nonce	others: nothing
 *
 * Decoding trusts nothing: a record that is not well formed is refused whole.
 *
 * Threads: pure functions.
 * Memory:  a buffer grows by doubling; what is decoded points into the bytes given.
 */
#ifndef HFB_OFFSET_RECORD_H
#define HFB_OFFSET_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hfbus/limits.h>
#include <hfbus/types.h>

#define HFB_OFFSETS_TOPIC "__offsets"

#define HFB_OFFSET_RECORD_MAGIC	  0x4f474248u
#define HFB_OFFSET_RECORD_VERSION 1u

enum hfb_offset_record_kind {
	HFB_RECORD_COMMITS = 1,
	HFB_RECORD_GROUP = 2,
	HFB_RECORD_GROUP_DELETED = 3,
	HFB_RECORD_SNAPSHOT_BEGIN = 4,
	HFB_RECORD_SNAPSHOT_END = 5,
	HFB_RECORD_FENCE = 6,
};

struct hfb_offset_record_head {
	uint32_t magic;
	uint16_t version, kind;
	uint32_t writer_epoch, reserved;
	uint64_t snapshot_offset;
	uint64_t time_ns;
};
_Static_assert(sizeof(struct hfb_offset_record_head) == 32, "as stored");

struct hfb_commit {
	uint32_t partition;
	uint32_t leader_epoch; /* the event's before, 0 = not known */
	uint64_t offset;       /* of the next event to read */
};
_Static_assert(sizeof(struct hfb_commit) == 16, "as stored");

struct hfb_offset_record {
	struct hfb_offset_record_head head;
	const uint8_t *body;
	size_t body_size;
};

struct hfb_commit_topic {
	char name[HFB_TOPIC_NAME_MAX + 1];
	struct hfb_uuid uuid;
	const uint8_t *commits; /* count of struct hfb_commit, maybe not aligned */
	uint32_t count;
};

struct hfb_bytes {
	uint8_t *at;
	size_t used, room;
	bool failed; /* out of memory: nothing more is added */
};

int hfb_bytes_reserve(struct hfb_bytes *b, size_t size); /* room for more: 0 or -ENOMEM */
void hfb_bytes_add(struct hfb_bytes *b, const void *from, size_t size);
void hfb_bytes_fini(struct hfb_bytes *b);

/* Begin a value; epoch and snapshot are set when it is written. */
void hfb_offset_record_begin(struct hfb_bytes *b, enum hfb_offset_record_kind kind,
			     uint64_t time_ns);
void hfb_offset_record_topic(struct hfb_bytes *b, const char *topic, const struct hfb_uuid *uuid,
			     const struct hfb_commit *commits, uint32_t count);

/** 0, or -EBADMSG: not a record, of another version, or of an unknown kind. */
int hfb_offset_record_decode(const void *value, size_t size, struct hfb_offset_record *ret);

/** Walks the body of COMMITS from *@at = 0: 1, 0 at the end, -EBADMSG. */
int hfb_offset_record_topic_next(const struct hfb_offset_record *record, size_t *at,
				 struct hfb_commit_topic *ret);
struct hfb_commit hfb_commit_at(const struct hfb_commit_topic *topic, uint32_t index);

/** The nonce of a FENCE, 0 when it has none. */
uint64_t hfb_offset_record_nonce(const struct hfb_offset_record *record);

#endif
