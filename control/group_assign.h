/* SPDX-License-Identifier: Apache-2.0 */
/*
 * group_assign.h - who reads which partition: the strategies, as pure functions.
 *
 *	struct hfb_assign_topic topics[] = { { "orders", 4 }, { "trades", 2 } };
 *	struct hfb_assign_member members[] = { { .key = "a", .topics = ... }, ... };
 *	uint32_t owners[6];
 *
 *	r = hfb_assign(HFB_STRATEGY_RANGE, topics, 2, members, 2, owners);
 *
 * A partition is named by one number: index of its topic << 12 | partition.
 *
 *  range        topic by topic, a run of neighbours for each member, in order of keys
 *  round-robin  partitions of all topics in order, dealt in turn
 *  sticky       each keeps what it has as far as loads allow: they differ by one at
 *		 most where subscriptions are equal, and only surplus moves
 *
 * Every partition of a topic somebody subscribes to gets exactly one member.
 *
 * Threads: pure; memory for the working set is taken and given back.
 */
#ifndef HFB_GROUP_ASSIGN_H
#define HFB_GROUP_ASSIGN_H

#include <stdbool.h>
#include <stdint.h>

#include <hfbus/limits.h>

enum hfb_strategy {
	HFB_STRATEGY_RANGE,
	HFB_STRATEGY_ROUND_ROBIN,
	HFB_STRATEGY_STICKY, /* cooperative: the group stops only what moves */
	HFB_STRATEGIES,
};

typedef uint32_t hfb_tp;
#define HFB_TP(topic, partition) ((hfb_tp)(topic) << 12 | (hfb_tp)(partition))
#define HFB_TP_TOPIC(tp)	 ((tp) >> 12)
#define HFB_TP_PARTITION(tp)	 ((tp)&0xfffu)
_Static_assert(HFB_TOPIC_PARTITIONS_MAX <= 4096, "a partition has 12 bits in hfb_tp");

struct hfb_assign_topic {
	const char *name;
	uint32_t partitions; /* 0 = not there (any more) */
};

struct hfb_assign_member {
	const char *key;	/* order among members */
	const uint32_t *topics; /* subscribed: indices, ascending */
	uint32_t topics_count;
	const hfb_tp *had; /* sticky: what it has, then what it should have or had before */
	uint32_t has_count, had_count;
};

#define HFB_ASSIGN_NOBODY UINT32_MAX

/**
 * Fills @owners: for each partition, topic after topic, the index of its member or
 * HFB_ASSIGN_NOBODY. Returns 0 or -ENOMEM.
 */
int hfb_assign(enum hfb_strategy strategy, const struct hfb_assign_topic *topics,
	       uint32_t topics_count, const struct hfb_assign_member *members,
	       uint32_t members_count, uint32_t *owners);

const char *hfb_strategy_name(enum hfb_strategy strategy); /* "range", "cooperative-sticky" */
int hfb_strategy_parse(const char *name, enum hfb_strategy *ret_strategy); /* 0 or -EINVAL */

#endif
