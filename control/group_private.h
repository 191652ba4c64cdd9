/* SPDX-License-Identifier: Apache-2.0 */
/*
 * group_private.h - what group.c (the machine), group_restore.c (after a restart) and
 * group_info.c (life, and looking at it) share.
 *
 * Threads: as group.h.
 */
#ifndef HFB_GROUP_PRIVATE_H
#define HFB_GROUP_PRIVATE_H

#include "group.h"

struct set {
	hfb_tp *tps; /* ascending */
	uint32_t count;
};

struct member {
	char id[HFB_GROUP_ID_MAX + 1], instance[HFB_GROUP_ID_MAX + 1], client[HFB_GROUP_ID_MAX + 1];
	uint32_t session_ms, rebalance_ms;
	uint64_t expires_ms;
	uint64_t asked_ms;    /* when it was told to let go; 0 = not told */
	uint32_t active_from; /* generation it takes part in first */
	uint32_t *topics;     /* slots, ascending */
	uint32_t topics_count;
	struct set held;   /* what it may be reading, as far as we know */
	struct set target; /* of the coming generation; before, of the last one */
	struct set revoke; /* lent in views */
};

struct topic {
	char name[HFB_TOPIC_NAME_MAX + 1];
	uint32_t partitions;
};

struct hfb_group {
	char name[HFB_GROUP_NAME_MAX + 1];
	struct hfb_group_env env;
	enum hfb_group_state state;
	enum hfb_strategy strategy;
	uint32_t generation;
	bool changed;	   /* while storing: begin again after it */
	bool to_store;	   /* wants_store() was not asked yet */
	uint64_t retry_ms; /* 0 = none */
	struct member **members;
	uint32_t members_count;
	struct topic *topics;
	uint32_t topics_count;
};

/* Sets of partitions. */
bool hfb_group_set_has(const struct set *s, hfb_tp tp);
bool hfb_group_set_equal(const struct set *a, const struct set *b);
int hfb_group_set_copy(struct set *to, const struct set *from);

/* Members; find: by id, by instance ("" finds none). */
struct member *hfb_group_member_of(const struct hfb_group *g, const char *id);
struct member *hfb_group_instance_of(const struct hfb_group *g, const char *instance);
int hfb_group_member_add(struct hfb_group *g, struct member **ret_member);
void hfb_group_member_set(struct member *m, const struct hfb_group_join *join, uint32_t *topics,
			  uint64_t now_ms);
void hfb_group_member_free(struct member *m);

int hfb_group_topic_add(struct hfb_group *g, const char *name, uint32_t *ret_slot);
int hfb_group_subscribe(struct hfb_group *g, const struct hfb_group_join *join,
			uint32_t **ret_topics);
int hfb_group_join_check(const struct hfb_group *g, const struct hfb_group_join *join,
			 struct hfb_err *err);
int hfb_group_targets_compute(struct hfb_group *g);
void hfb_group_rebalance(struct hfb_group *g, uint64_t now_ms);
int hfb_group_ascending(const void *a, const void *b); /* of uint32_t, for qsort */

#endif
