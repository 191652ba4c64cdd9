/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan.h - the memory and disk a configuration implies: `hfbusd --plan`.
 *
 *	hfb_plan_make(config, &plan, &err);	reads DATA/catalogue, starts nothing
 *	hfb_plan_print(&plan, stdout, json);
 *
 * Threads: main.
 */
#ifndef HFB_PLAN_H
#define HFB_PLAN_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "eal.h"
#include "err.h"
#include "node.h"

struct hfb_plan {
	const struct hfb_config *config;
	struct hfb_eal_plan eal;
	uint32_t topics, partitions;   /* of the catalogue, and topics feeds will make */
	uint64_t dpdk_bytes;	       /* packet buffers and DPDK's own */
	uint64_t rings_bytes_max;      /* when every partition is busy */
	uint64_t rings_bytes_min;      /* when none is */
	uint64_t locals_bytes_max;     /* when every local client is there and busy */
	uint64_t tables_bytes;	       /* sessions, subscriptions, producers, cores */
	uint64_t memory_bytes_max;     /* all of it */
	uint64_t segments_bytes_min;   /* with a few events in each partition */
	uint64_t segments_bytes_ahead; /* two of the largest ahead of each, all busy */
	uint64_t journals_bytes;       /* where many partitions wait for `durable` */
	uint64_t retention_bytes;      /* what retention keeps; 0 with `unbounded` */
	bool unbounded;		       /* a topic has no size limit */
	uint64_t disk_free_bytes;
	uint64_t memlock_bytes; /* limit; all ones = none */
};

int hfb_plan_make(const struct hfb_config *config, struct hfb_plan *ret_plan, struct hfb_err *err);
int hfb_plan_print(const struct hfb_plan *plan, FILE *to, bool json);

#endif
