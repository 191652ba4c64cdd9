/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hfbus/group.h - read topics as a member of a consumer group: hfbus-control shares the
 * partitions out, and keeps what the group has committed.
 *
 *	const char *topics[] = { "orders" };
 *	struct hfb_group_config config = { .group = "billing", .topics = topics,
 *					   .topics_count = 1 };
 *
 *	r = hfb_group_open(bus, &config, &group, &err);
 *	while ((r = hfb_group_next(group, 1000, &item, &err)) >= 0) {
 *		if (r == 1 && item->item->kind == HFB_ITEM_EVENT)
 *			take(item->topic, &item->item->event);
 *		hfb_group_commit_async(group);		what was given so far
 *	}
 *	hfb_group_commit(group, 5000, &err);		waits until it is durable
 *	hfb_group_close(group);
 *
 * Every event is given at least once: after a crash, again from what was committed.
 * Where the crash took committed events (stage received) the first item is TRUNCATED, and
 * reading goes on where the log was cut, whatever has been written there since.
 * When a partition goes to another member, `revoked` is called first: commit there.
 *
 * A member that does not call next() for session_ms is out; it is told so by `revoked`
 * with lost = true, and joins again. By its own clock it stops giving events then,
 * so that a process that was stopped does not go on with partitions others have.
 * While hfbus-control is away, reading goes on: nobody else can be given anything.
 *
 * Threads: the bus's thread. Heartbeats and answers are dealt with in next(),
 *	    commit() and flush(); nothing runs by itself.
 * Memory:  a subscriber (~1.2 MiB) for each partition that is read.
 * Cost:    next(): as hfb_sub_next(), and a look at hfbus-control's socket once a ms.
 */
#ifndef HFB_PUBLIC_GROUP_H
#define HFB_PUBLIC_GROUP_H

#include <stdbool.h>
#include <stdint.h>

#include <hfbus/bus.h>
#include <hfbus/err.h>
#include <hfbus/limits.h>
#include <hfbus/sub.h>

#ifdef __cplusplus
extern "C" {
#endif

struct hfb_group_member;

struct hfb_group_partition {
	const char *topic;
	uint32_t partition;
};

struct hfb_group_config {
	const char *group; /* 1..HFB_GROUP_NAME_MAX bytes, as a topic's name; copied, as all text */
	const char *const *topics; /* 1..HFB_GROUP_TOPICS_MAX */
	uint32_t topics_count;
	const char *instance;	/* NULL = none; a static member: keeps its partitions over a
				   restart within session_ms. [A-Za-z0-9._:@/-] */
	const char *client;	/* NULL = host/pid; shown to people, begins the member's id */
	const char *strategy;	/* NULL = "cooperative-sticky"; or "range", "round-robin" */
	uint32_t session_ms;	/* 0 = 10000; HFB_GROUP_SESSION_MS_MIN..MAX */
	uint32_t rebalance_ms;	/* to let go of partitions; 0 = 60000 */
	enum hfb_sub_from from; /* where nothing is committed: 0 or HFB_SUB_EARLIEST, or _LATEST */
	bool manual;		/* only what hfb_group_mark() names is committed */
	/* From next(), commit() and close(). Within `revoked` hfb_group_commit() may be called;
	 * @lost: the partitions are others' already, nothing can be committed. */
	void (*assigned)(void *arg, const struct hfb_group_partition *partitions, uint32_t count);
	void (*revoked)(void *arg, const struct hfb_group_partition *partitions, uint32_t count,
			bool lost);
	void *arg;
};

struct hfb_group_item {
	const char *topic;
	const struct hfb_item *item;
	uint32_t generation; /* in which it is ours */
};

struct hfb_group_stats {
	uint64_t events;
	uint64_t generations; /* taken part in */
	uint64_t lost;	      /* times it was out */
	uint64_t heartbeats, reconnects;
	uint64_t commits, commits_refused; /* partitions' offsets */
};

/**
 * Begin to be a member: joining is done by hfb_group_next().
 *
 * Returns 0 and sets *@ret_member, or leaves it alone and returns
 *   -EINVAL      a field of @config is outside the range written beside it
 *   -EOPNOTSUPP  the bus is reached by UDP: hfbus-control has a local socket only
 *   -ENOMEM
 */
int hfb_group_open(struct hfb_bus *bus, const struct hfb_group_config *config,
		   struct hfb_group_member **ret_member, struct hfb_err *err);

/** Leave at once (a static member stays until session_ms has passed) and free. Calls
 * `revoked` before. Commit first what is to be committed. NULL is fine. */
void hfb_group_close(struct hfb_group_member *member);

/**
 * The next item of any partition that is ours. It is lent until the next call.
 *
 * Returns 1 and sets *@ret_item, 0 when nothing came within @timeout_ms (0: look once), or
 *   -ESTALE   another process took our instance over; final
 *   -EINVAL   hfbus-control refuses us (another strategy than the group's, say); final
 *   and what hfb_sub_next() returns
 */
int hfb_group_next(struct hfb_group_member *member, uint32_t timeout_ms,
		   const struct hfb_group_item **ret_item, struct hfb_err *err);

/** With config.manual: events of this partition before @offset are done with. 0, or -ENOENT:
 * it is not ours. */
int hfb_group_mark(struct hfb_group_member *member, const char *topic, uint32_t partition,
		   uint64_t offset);

/**
 * Commit what next() has given so far (with config.manual: what was marked), and wait
 * until it is durable.
 *
 * Returns 0, or
 *   -ESTALE     we are out: the partitions may be others' by now, nothing was committed
 *   -ETIMEDOUT  no answer within @timeout_ms; it is tried on
 */
int hfb_group_commit(struct hfb_group_member *member, uint32_t timeout_ms, struct hfb_err *err);

/** The same without waiting. Several before an answer make one commit. */
void hfb_group_commit_async(struct hfb_group_member *member);

/** True when all that commits have asked for is durable. */
bool hfb_group_committed(const struct hfb_group_member *member);

uint32_t hfb_group_member_generation(const struct hfb_group_member *member); /* 0 = not in */
const char *hfb_group_member_id(const struct hfb_group_member *member);	     /* "" = not in */
/** Partitions that are ours: how many; the first @max of them are filled. */
uint32_t hfb_group_member_partitions(const struct hfb_group_member *member,
				     struct hfb_group_partition *ret, uint32_t max);
/** As hfb_sub_at_end(), for all of them; false while not in. */
bool hfb_group_at_end(struct hfb_group_member *member);

void hfb_group_stats_get(const struct hfb_group_member *member, struct hfb_group_stats *ret_stats);

#ifdef __cplusplus
}
#endif
#endif
