/* SPDX-License-Identifier: Apache-2.0 */
/*
 * group_ends.h - where the logs of topics begin and end now: the handles of their
 * partitions, asked of hfbusd once, then read from its positions.
 *
 *	hfb_group_ends_want(ends, "orders", 4);
 *	if (hfb_group_ends_settled(ends))
 *		ok = hfb_group_ends_get(ends, "orders", 3, &start, &end);
 *
 * Threads: the event loop's.
 */
#ifndef HFB_GROUP_ENDS_H
#define HFB_GROUP_ENDS_H

#include <stdbool.h>
#include <stdint.h>

#include "broker.h"

struct hfb_group_ends;

/** @settled is called when nothing is under way any more. 0 or -ENOMEM. */
int hfb_group_ends_create(struct hfb_broker *broker, void (*settled)(void *arg), void *arg,
			  struct hfb_group_ends **ret);
void hfb_group_ends_destroy(struct hfb_group_ends *ends);

/* Know this topic's partitions, @partitions of them, if it is not known. */
void hfb_group_ends_want(struct hfb_group_ends *ends, const char *topic, uint32_t partitions);

/* hfbusd went, or came: handles are of one run of it. */
void hfb_group_ends_reset(struct hfb_group_ends *ends);
/* A topic was changed or deleted. */
void hfb_group_ends_forget(struct hfb_group_ends *ends, const char *topic);

/** No question is open. */
bool hfb_group_ends_settled(const struct hfb_group_ends *ends);

/** False: not known. *@ret_start is the first offset kept, *@ret_end the one after the
 * last that is committed. */
bool hfb_group_ends_get(const struct hfb_group_ends *ends, const char *topic, uint32_t partition,
			uint64_t *ret_start, uint64_t *ret_end);

#endif
