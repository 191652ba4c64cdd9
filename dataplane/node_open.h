/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node_open.h - a node's life: from a checked configuration to one that serves, and
 * back to a folder that is whole.
 *
 *	hfb_node_open(config, &node, &err);	folder locked, epoch, cores run, logs recovered
 *	hfb_node_serve(node, &err);		feeds bound, ports live
 *	...
 *	hfb_node_close(node);			ports off, logs ended, cores stopped
 *
 * DPDK is started before (eal.h) and stopped after.
 *
 * Threads: main.
 */
#ifndef HFB_NODE_OPEN_H
#define HFB_NODE_OPEN_H

#include "err.h"
#include "node.h"

int hfb_node_open(const struct hfb_config *config, bool hugepages, struct hfb_node **ret_node,
		  struct hfb_err *err);
int hfb_node_serve(struct hfb_node *node, struct hfb_err *err);
/* Gauges and the devices' counters; every 100 ms or so. */
void hfb_node_tick(struct hfb_node *node);
/* Accepts NULL and half-open ones. 0, or -errno when a core did not end: then exit. */
int hfb_node_close(struct hfb_node *node);

#endif
