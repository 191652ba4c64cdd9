/* SPDX-License-Identifier: Apache-2.0 */
/*
 * group_request.h - requests about groups and offsets, checked whole before
 * anything acts on them. They come over DATA/control.sock and from HTTP.
 *
 * Members (what libhfbus sends); partitions are runs of [first, count]:
 *	{"op":"group.join","group":"g","topics":["orders"],"strategy":"range",
 *	 "session_ms":10000,"rebalance_ms":60000,"instance":"","client":"host/123"}
 *	    answer: "member", "session_ms"
 *	{"op":"group.heartbeat","group":"g","member":"..","instance":"","generation":3}
 *	{... ,"held":{"orders":[[0,4]]}}	when it has let go of something
 *	    answer: "generation", "rebalancing", "given" (when the generation is another
 *	    one than the member's), "revoke"
 *	{"op":"group.leave","group":"g","member":".."}
 *	{"op":"group.commit","group":"g","member":"..","generation":3,
 *	 "offsets":{"orders":[[0,1700],[1,900]]}}	[partition, offset, leader epoch?]; before
 *	    them may stand the uuid of the topic that was read: ["4fbb..",[0,1700]]
 *	{"op":"group.fetch","group":"g","partitions":{"orders":[[0,4]]}}
 *	    answer: "offsets" as above
 * People:
 *	{"op":"group.list","after":""}			groups, "next"
 *	{"op":"group.describe","group":"g","after":0}	group, partitions with lag, "next"
 *	{"op":"group.members","group":"g"}
 *	{"op":"group.delete","group":"g"}		without members only
 *	{"op":"offset.commit","group":"g","offsets":{...}}
 *	{"op":"offset.reset","group":"g","topic":"orders","partitions":[[0,4]],
 *	 "to":"earliest|latest|offset|time|shift","value":0,"dry_run":true}
 *	    answer: "changes": [{topic, partition, from, to}]
 *
 * Threads: pure functions.
 */
#ifndef HFB_GROUP_REQUEST_H
#define HFB_GROUP_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include <hfbus/limits.h>

#include "err.h"
#include "group_assign.h"
#include "offset_record.h"

enum hfb_group_op {
	HFB_GROUP_JOIN,
	HFB_GROUP_HEARTBEAT,
	HFB_GROUP_LEAVE,
	HFB_GROUP_COMMIT,
	HFB_GROUP_FETCH,
	HFB_GROUP_LIST,
	HFB_GROUP_DESCRIBE,
	HFB_GROUP_MEMBERS,
	HFB_GROUP_DELETE,
	HFB_OFFSET_COMMIT,
	HFB_OFFSET_RESET,
};

enum hfb_reset_to {
	HFB_RESET_EARLIEST,
	HFB_RESET_LATEST,
	HFB_RESET_OFFSET,
	HFB_RESET_TIME,	 /* value: UTC ns, received at or after */
	HFB_RESET_SHIFT, /* value: events, negative = back */
};

struct hfb_run {
	const char *topic;
	uint32_t first, count;
};

struct hfb_topic_commit {
	const char *topic;
	struct hfb_commit commit;
	struct hfb_uuid uuid; /* of what was read there; null = not said */
};

struct hfb_group_request {
	enum hfb_group_op op;
	const char *group, *member, *instance, *client; /* "" = not given */
	const char *topic;				/* reset */
	const char *after;				/* list */
	enum hfb_strategy strategy;
	uint32_t session_ms, rebalance_ms, generation;
	uint32_t first; /* describe: rows from this one */
	const char **topics;
	uint32_t topics_count;
	bool has_runs; /* held, partitions */
	struct hfb_run *runs;
	uint32_t runs_count;
	struct hfb_topic_commit *commits; /* of a topic side by side */
	uint32_t commits_count;
	enum hfb_reset_to to;
	int64_t value;
	bool dry_run;
	json_t *json; /* what the strings are lent from */
};

/** Is @op ("group.join") one of these? */
bool hfb_group_request_takes(const char *op);

/**
 * Returns 0 (then hfb_group_request_fini() is due), or leaves *@ret alone and returns
 *   -EINVAL     a member that is unknown, missing or out of range
 *   -EOPNOTSUPP no such operation
 *   -ENOMEM
 */
int hfb_group_request_parse(json_t *json, struct hfb_group_request *ret, struct hfb_err *err);
void hfb_group_request_fini(struct hfb_group_request *request);

#endif
