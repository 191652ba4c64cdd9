/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wake.h - receive queues that wake a sleeping core.
 *
 *	fd = hfb_wake_arm(queue);	 from now on a packet makes fd readable
 *	if (!hfb_wake_waits(queue))	 none came before
 *		epoll_pwait2(...);
 *	hfb_wake_disarm(queue);		 senders need not tell us any more
 *
 * Only net_memif, and only of DPDK 22.11. Its peers write to an eventfd a ring where the ring's
 * flags ask for it, which is part of memif's protocol; but the driver never asks, and has none
 * of ethdev's calls for receive interrupts. So what they would do is done here, with the
 * driver's own idea of a queue, which no other release need share: what is built for another,
 * or finds at start that a queue is not what it should be, says that it cannot wake.
 *
 * A sender stores its packet, then reads the flag, with nothing in between that would keep a
 * CPU from doing the second first; so look only when its stores must have arrived,
 * HFB_WAKE_SETTLE_NS after arming, and do not sleep without a limit.
 *
 * Threads: supported main; the rest the core that polls the queue. The driver's own thread may
 *	    end the connection at any time; as when receiving, its memory is looked for anew
 *	    with each call and left alone without a link.
 * Memory:  none.
 * Cost:    arm and disarm a store into the peer's cache; while armed it pays a system call a burst.
 */
#ifndef HFB_WAKE_H
#define HFB_WAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "core.h"

#define HFB_WAKE_SETTLE_NS 1000u /* a store is visible to others long before */

struct rte_mempool;

/* After the queue's setup with @pool: will it ever wake a core? */
bool hfb_wake_supported(uint16_t dpdk_port, uint16_t queue, const struct rte_mempool *pool);

/*
 * Returns the descriptor to wait for by edges, the driver's: never read, written or closed by
 * us. Or -ENOTCONN: no peer, or one that gave none; nothing is armed then.
 */
int hfb_wake_arm(const struct hfb_queue *queue);

/* Are there packets that no burst has taken? */
bool hfb_wake_waits(const struct hfb_queue *queue);

void hfb_wake_disarm(const struct hfb_queue *queue);

#endif
