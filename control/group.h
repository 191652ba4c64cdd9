/* SPDX-License-Identifier: Apache-2.0 */
/*
 * group.h - one consumer group's coordinator: who is a member, who reads which
 * partition, and who may commit. A state machine without I/O and without a clock:
 * it is told what happened and when, and says what to answer, what to store and
 * when to be looked at again. So tests can enumerate it, and any protocol drive it.
 *
 *	r = hfb_group_join(g, &join, now_ms, &member, &err);
 *	r = hfb_group_heartbeat(g, id, instance, &beat, now_ms, &view, &err);
 *	if (hfb_group_wants_store(g))
 *		store hfb_group_record() durably, then hfb_group_stored(g, true, now_ms);
 *	wake up at hfb_group_deadline_ms(g) and call hfb_group_tick(g, now_ms);
 *
 *		 a change	      all have let go of	    the record
 *	STABLE ----------> PREPARING ------------------> STORING ----------> STABLE,
 *	 (or EMPTY)	   generation g	  what moves	     g	 is durable   generation g + 1
 *
 * A change is a join, a leave, an expiry, another subscription, other partitions.
 * In PREPARING each member is told what to let go of: with range and round-robin
 * everything, unless it keeps exactly what it has; with sticky only what moves. It
 * commits, lets go and says what it still holds; one that does not within its
 * rebalance timeout is out. So:
 *
 *  - a partition is given away only after its owner let go of it, or is out;
 *  - nobody is told of a generation before its record is durable: after a crash
 *    the group goes on in the generation its members know;
 *  - who is out, or of an older generation, can neither commit nor hold anything:
 *    every call of an unknown id, an old generation or a replaced instance is refused.
 *
 * A member holds a lease: its own clock says when `session_ms` have passed since
 * its last answered heartbeat was sent, or `rebalance_ms` since it sent the one that
 * was answered with what to let go of; it then stops by itself. Both count from
 * earlier moments than ours, so it stops before anybody else begins.
 *
 * Static members (instance given) keep their place: one that comes again with
 * its instance takes over what it had, its former id is fenced.
 *
 * Threads: one.
 * Memory:  ~1 KiB a member, 4 bytes a partition a few times; bounded by limits.h.
 */
#ifndef HFB_GROUP_H
#define HFB_GROUP_H

#include <stdbool.h>
#include <stdint.h>

#include <hfbus/limits.h>

#include "err.h"
#include "group_assign.h"

struct hfb_group;

enum hfb_group_state {
	HFB_GROUP_EMPTY,
	HFB_GROUP_STABLE,
	HFB_GROUP_PREPARING,
	HFB_GROUP_STORING,
};

/* What the machine asks of its surroundings. */
struct hfb_group_env {
	/* Partitions of a topic; 0: it is not there. */
	uint32_t (*partitions)(void *arg, const char *topic);
	void *arg;
};

struct hfb_group_join {
	const char *id; /* "" = a new member; else one that wants another subscription */
	const char
		*fresh_id; /* its id when it is new; 1..HFB_GROUP_ID_MAX bytes, never used before */
	const char *instance;	    /* "" = none; static membership */
	const char *client;	    /* for people: host, process */
	enum hfb_strategy strategy; /* that of the group, when it has members */
	uint32_t session_ms;	    /* HFB_GROUP_SESSION_MS_MIN..MAX */
	uint32_t rebalance_ms;	    /* the same range */
	const char *const *topics;  /* 1..HFB_GROUP_TOPICS_MAX, no two the same */
	uint32_t topics_count;
};

struct hfb_group_beat {
	uint32_t generation; /* the member's, 0 = none yet */
	bool holds_all;	     /* all that it was given in it; else: */
	const hfb_tp *held;  /* lent, ascending */
	uint32_t held_count;
};

/* What a member is told. Arrays are lent until the next call. */
struct hfb_group_view {
	uint32_t generation; /* 0: nothing yet, ask again */
	bool rebalancing;    /* ask again soon */
	const hfb_tp *given; /* may be read in this generation */
	uint32_t given_count;
	const hfb_tp *revoke; /* of those, to be let go of now */
	uint32_t revoke_count;
};

/* A member, for showing and storing. Lent until the next call. */
struct hfb_group_member_info {
	const char *id, *instance, *client;
	uint32_t session_ms, rebalance_ms;
	uint64_t expires_ms;
	const uint32_t *topics; /* indices, see hfb_group_topic_name() */
	uint32_t topics_count;
	const hfb_tp *given; /* now; of a record to be stored: in the coming generation */
	uint32_t given_count;
};

/** 0 or -ENOMEM. @env is copied. */
int hfb_group_create(const char *name, const struct hfb_group_env *env, struct hfb_group **ret);
void hfb_group_destroy(struct hfb_group *g); /* NULL is fine */

/**
 * Returns 0 and lends the member's id in *@ret_id, or changes nothing and returns
 *   -ENOENT  @join->id is no member (any more)
 *   -EINVAL  another strategy than the members', a timeout out of range, a subscription
 *	      out of its limits
 *   -E2BIG   too many members, or topics of the group have too many partitions
 *   -ENOMEM
 */
int hfb_group_join(struct hfb_group *g, const struct hfb_group_join *join, uint64_t now_ms,
		   const char **ret_id, struct hfb_err *err);

/**
 * Returns 0 and fills *@ret_view, or
 *   -ENOENT  no such member: it left, was out of time, or never was
 *   -ESTALE  fenced: another member took its instance, or its generation is none of ours
 */
int hfb_group_heartbeat(struct hfb_group *g, const char *id, const char *instance,
			const struct hfb_group_beat *beat, uint64_t now_ms,
			struct hfb_group_view *ret_view, struct hfb_err *err);

/** 0 or -ENOENT. */
int hfb_group_leave(struct hfb_group *g, const char *id, uint64_t now_ms, struct hfb_err *err);

/**
 * May this member commit an offset of this partition? Also a sign of life.
 * 0, -ENOENT (no such member), -ESTALE (another generation), -EPERM (not its partition).
 */
int hfb_group_commit_check(struct hfb_group *g, const char *id, uint32_t generation,
			   const char *topic, uint32_t partition, uint64_t now_ms,
			   struct hfb_err *err);

/* Topics were made, deleted or got partitions. */
void hfb_group_topics_changed(struct hfb_group *g, uint64_t now_ms);

/* Time has come: members out of time go. */
void hfb_group_tick(struct hfb_group *g, uint64_t now_ms);
uint64_t hfb_group_deadline_ms(const struct hfb_group *g); /* UINT64_MAX = none */

/*
 * Storing. wants_store() is true once per record; then the _next() functions tell
 * the generation and the members to be, until hfb_group_stored(). A record that
 * could not be stored (@ok false) is asked for again.
 */
bool hfb_group_wants_store(struct hfb_group *g);
uint32_t hfb_group_next_generation(const struct hfb_group *g);
void hfb_group_stored(struct hfb_group *g, bool ok, uint64_t now_ms);

/*
 * After a restart, in this order on a new machine: what the last stored record
 * said. Sessions begin at @now_ms. restore_member() returns 0, -EINVAL (nonsense
 * in the record) or -ENOMEM.
 */
void hfb_group_restore(struct hfb_group *g, uint32_t generation, enum hfb_strategy strategy);
struct hfb_group_restored_tp {
	const char *topic;
	uint32_t partition;
};
int hfb_group_restore_member(struct hfb_group *g, const struct hfb_group_join *join,
			     const struct hfb_group_restored_tp *given, uint32_t given_count,
			     uint64_t now_ms);
void hfb_group_restored(struct hfb_group *g, uint64_t now_ms);

/* Looking at it. */
const char *hfb_group_name(const struct hfb_group *g);
enum hfb_group_state hfb_group_state(const struct hfb_group *g);
const char *hfb_group_state_name(enum hfb_group_state state);
uint32_t hfb_group_generation(const struct hfb_group *g);
enum hfb_strategy hfb_group_strategy(const struct hfb_group *g);
uint32_t hfb_group_members_count(const struct hfb_group *g);
/* @next: as in the record to be stored, else as of now. Index below members_count. */
void hfb_group_member(const struct hfb_group *g, uint32_t index, bool next,
		      struct hfb_group_member_info *ret_info);
uint32_t hfb_group_topics_count(const struct hfb_group *g);
const char *hfb_group_topic_name(const struct hfb_group *g, uint32_t index);
/** The index of a topic members subscribe to, or UINT32_MAX. */
uint32_t hfb_group_topic_find(const struct hfb_group *g, const char *topic);
/** The member that holds a partition now, or NULL. */
const char *hfb_group_owner(const struct hfb_group *g, const char *topic, uint32_t partition);
/** Index of the member with this id, or UINT32_MAX. */
uint32_t hfb_group_member_find(const struct hfb_group *g, const char *id);

#endif
