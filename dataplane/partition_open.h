/* SPDX-License-Identifier: Apache-2.0 */
/*
 * partition_open.h - what topics.c does with partitions.c: steps of a partition's life
 * on the main thread.
 *
 *	open -> attach -> ... -> detach -> close
 *
 * Threads: main.
 */
#ifndef HFB_PARTITION_OPEN_H
#define HFB_PARTITION_OPEN_H

#include <stdbool.h>
#include <stdint.h>

#include "core.h"
#include "node.h"

uint16_t hfb_partition_core(const struct hfb_node *node, const char *topic, uint32_t index);
int hfb_partition_open(struct hfb_node *node, const struct hfb_topic *topic, uint32_t index,
		       uint32_t handle, struct hfb_partition **ret_partition, struct hfb_err *err);
int hfb_partitions_attach(struct hfb_node *node, struct hfb_partition *const *partitions,
			  uint32_t n);
/* Let go by their cores and found by nobody any more. */
int hfb_partitions_detach(struct hfb_node *node, struct hfb_partition *const *partitions,
			  uint32_t n, bool end_mark);
/* Takes @partition; with @deleted its files go as well. */
void hfb_partition_close(struct hfb_node *node, struct hfb_partition *partition, bool deleted);

#endif
