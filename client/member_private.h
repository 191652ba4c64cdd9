/* SPDX-License-Identifier: Apache-2.0 */
/*
 * member_private.h - a member of a group: what member.c (reading) and member_wire.c (talking to
 * hfbus-control) share.
 *
 * One request is under way at a time. What is due next, in this order: joining, a
 * heartbeat, the committed offsets of new partitions, a commit.
 *
 * Threads: as group.h.
 */
#ifndef HFB_MEMBER_PRIVATE_H
#define HFB_MEMBER_PRIVATE_H

#include <jansson.h>

#include <hfbus/group.h>

#include "control_link.h"

#define NOTHING UINT64_MAX

enum group_ask { ASK_NONE, ASK_JOIN, ASK_BEAT, ASK_FETCH, ASK_COMMIT, ASK_LEAVE };

/* A partition that is ours. */
struct group_part {
	uint32_t topic; /* index of config.topics */
	uint32_t partition;
	struct hfb_sub *sub;  /* NULL: not open yet */
	bool fetched;	      /* we know what was committed, or that nothing was */
	uint64_t begin;	      /* committed; NOTHING: none */
	uint32_t begin_epoch; /* of the event before it; 0: not known */
	uint64_t retry_ns;    /* open not before */
	uint64_t mark;	      /* offset to commit; NOTHING: none yet */
	uint32_t mark_epoch;
	uint64_t wanted;  /* asked to be committed; NOTHING: nothing new */
	uint64_t asked;	  /* in the request under way; NOTHING: not in it */
	uint64_t durable; /* what an answer confirmed; NOTHING: nothing */
};

struct hfb_group_member {
	struct hfb_bus *bus;
	struct hfb_control_link link;
	struct hfb_group_config config; /* strings are ours */
	char *group, *instance, *client, *strategy;
	char **topics;
	/* membership */
	char id[HFB_GROUP_ID_MAX + 1]; /* "" = none */
	uint32_t generation;
	bool released; /* let go of something in this generation: heartbeats say what is held */
	bool rebalancing;
	uint64_t dropped; /* parts that went with a commit of theirs not done */
	bool in_callback; /* only commits go out, and only their answers count */
	bool out;	  /* an answer to a commit within a callback said that we are out */
	int failed;	  /* final */
	struct hfb_err err;
	/* the request under way */
	enum group_ask ask;
	uint64_t asked_ns;
	uint64_t commit_generation;
	/* times, monotonic ns */
	uint64_t lease_ns; /* until then what is ours is nobody else's */
	uint64_t beat_ns;  /* next heartbeat */
	uint64_t retry_ns; /* no request before */
	uint64_t look_ns;  /* next look at the socket */
	/* partitions, by (topic, partition) */
	struct group_part *parts;
	uint32_t parts_count;
	uint32_t turn, turn_left;
	struct hfb_group_item item;
	struct hfb_group_stats stats;
};

/* Take an answer, send what is due. */
void hfb_group_pump(struct hfb_group_member *m, uint64_t now_ns);

/* All partitions are gone; joins again. */
void hfb_group_lost(struct hfb_group_member *m);

struct group_part *hfb_group_part(struct hfb_group_member *m, uint32_t topic, uint32_t partition);
uint32_t hfb_group_topic_index(const struct hfb_group_member *m, const char *topic);

/* Make the partitions of @given (an answer's object) ours; what is not in it is not. */
void hfb_group_given(struct hfb_group_member *m, const json_t *given);
/* Let go of the partitions of @revoke, or of all (NULL). */
void hfb_group_revoke(struct hfb_group_member *m, const json_t *revoke, bool lost);

#endif
