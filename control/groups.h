/* SPDX-License-Identifier: Apache-2.0 */
/*
 * groups.h - all groups of the bus and their offsets: group.h's machines, their
 * records in __offsets, and the answers.
 *
 *	hfb_groups_create(&env, &groups, &err);
 *	hfb_groups_request(groups, json, done, arg);	group_request.h says what there is
 *
 *	 request ──► group.h / offsets.h ──► batch ──► offset_log ──► __offsets
 *	    ▲		    ▲		       │	    │
 *	    └─ answer ──────┴──── applied ◄────┴─ durable ◄─┘
 *
 * The state is what durable records say; an answer that promises something leaves
 * when its record is durable. Commits that come while a batch is written make the
 * next one, so a thousand clients cost one write.
 *
 * Threads: the event loop's.
 * Memory:  what groups have: group.h, offsets.h.
 */
#ifndef HFB_GROUPS_H
#define HFB_GROUPS_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>
#include <uv.h>

#include "broker.h"
#include "err.h"
#include "group.h"
#include "offset_log.h"
#include "reconcile.h"

struct hfb_groups;

struct hfb_groups_env {
	uv_loop_t *loop;
	const char *data_dir;
	struct hfb_broker *broker;
	const struct hfb_reconcile *reconcile;
	void (*note)(const char *sentence); /* on standard error, say */
	void (*fenced)(void *arg);	    /* another hfbus-control commits now: end */
	void *arg;			    /* of fenced */
};

int hfb_groups_create(const struct hfb_groups_env *env, struct hfb_groups **ret_groups,
		      struct hfb_err *err);
void hfb_groups_close(struct hfb_groups *groups); /* no more answers; NULL is fine */
void hfb_groups_free(struct hfb_groups *groups);  /* after the loop has run out */

/**
 * Act on a request of group_request.h. @done is called once, now or later, with an
 * answer it takes ({"ok":true,...} or {"ok":false,"code","error"}; NULL: out of
 * memory), or never when the groups are closed before.
 */
typedef void hfb_groups_fn(void *arg, json_t *answer);
void hfb_groups_request(struct hfb_groups *groups, json_t *request, hfb_groups_fn *done, void *arg);

/* Topics were made, changed or deleted; hfbusd came or went. */
void hfb_groups_topics_changed(struct hfb_groups *groups);
void hfb_groups_broker_changed(struct hfb_groups *groups, bool up);

/* For metrics: each partition with a committed offset or a reader. */
struct hfb_groups_lag {
	const char *group, *topic, *member; /* "" = nobody reads it */
	uint32_t partition;
	bool has_committed, has_end; /* end: hfbusd is there and its partition is known */
	uint64_t committed, end, lag;
};
typedef void hfb_groups_lag_fn(void *arg, const struct hfb_groups_lag *lag);
void hfb_groups_lag_each(struct hfb_groups *groups, hfb_groups_lag_fn *fn, void *arg);

struct hfb_groups_group {
	const char *name;
	enum hfb_group_state state;
	uint32_t generation, members;
};
typedef void hfb_groups_group_fn(void *arg, const struct hfb_groups_group *group);
void hfb_groups_each(struct hfb_groups *groups, hfb_groups_group_fn *fn, void *arg);

struct hfb_groups_stats {
	bool ready; /* offsets are read */
	uint64_t requests, commits, commits_refused, rebalances, expired, snapshots;
	struct hfb_offset_log_stats log;
};
void hfb_groups_stats_get(struct hfb_groups *groups, struct hfb_groups_stats *ret_stats);

#endif
