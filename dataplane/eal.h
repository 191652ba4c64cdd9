/* SPDX-License-Identifier: Apache-2.0 */
/*
 * eal.h - DPDK's environment from our configuration.
 *
 * Poll core i is lcore i + 1; the main thread is lcore 0 and polls nothing. Memory
 * is hugepages where enough are free, else ordinary pages (--no-huge), which needs
 * no right and no limit raised. PCI devices are opened only when a port names one.
 *
 * Threads: main, once a process (DPDK cannot be started twice).
 */
#ifndef HFB_EAL_H
#define HFB_EAL_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"
#include "node.h"

struct hfb_eal_plan {
	uint32_t pool_mbufs, pools; /* at most: one a queue */
	uint32_t memory_mib;	    /* of DPDK, with its own */
	bool hugepages;		    /* enough are free now */
	uint32_t hugepages_free_mib;
};

void hfb_eal_plan(const struct hfb_config *config, struct hfb_eal_plan *ret_plan);
int hfb_eal_start(const struct hfb_config *config, const struct hfb_eal_plan *plan,
		  struct hfb_err *err);
void hfb_eal_stop(void);

#endif
