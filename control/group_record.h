/* SPDX-License-Identifier: Apache-2.0 */
/*
 * group_record.h - a group's generation as it is stored: JSON in a GROUP record.
 *
 *	{"generation":3,"strategy":"range","topics":["orders"],"members":[{"id":"..",
 *	 "instance":"","client":"..","session_ms":10000,"rebalance_ms":60000,
 *	 "topics":[0],"given":[[0,0,4]]}]}	given: [topic, first partition, count]
 *
 * Threads: pure functions.
 */
#ifndef HFB_GROUP_RECORD_H
#define HFB_GROUP_RECORD_H

#include <jansson.h>

#include "group.h"

/** The coming generation of @g (hfb_group_wants_store()). NULL when memory is out. */
json_t *hfb_group_record_to_json(const struct hfb_group *g);

/**
 * Restores @g, new, from a record. Sessions begin at @now_ms.
 * 0, -EINVAL (not such a record; @g is to be destroyed) or -ENOMEM.
 */
int hfb_group_record_restore(struct hfb_group *g, const char *text, size_t size, uint64_t now_ms,
			     struct hfb_err *err);

/** {topic: [[first, count], ...]} of partitions in ascending order. */
json_t *hfb_group_tps_to_json(const struct hfb_group *g, const hfb_tp *tps, uint32_t count);

#endif
