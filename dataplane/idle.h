/* SPDX-License-Identifier: Apache-2.0 */
/*
 * idle.h - what a core does between turns that found nothing to do.
 *
 * busy      goes on at once: for cores that nobody else needs.
 * adaptive  spins a little, pauses ever longer, then sleeps in epoll until a
 *	     command, a local client, another core or a disk completion wakes it, or a port
 *	     that can (wake.h), once it was silent for a millisecond. At other ports it
 *	     looks: every 250 us; every 300 us once they were silent for a second; every
 *	     millisecond at ports without a link, of which the main thread says every
 *	     100 ms whether they have one. One port that it has to look at, and none is
 *	     asked to wake it: it is awake as often anyway.
 *
 * Before sleeping the core says so (core->sleeping, each channel's core_sleeps), then
 * looks once more; those who make work visible look at the flag after that. One of the
 * two sees the other (both sides fence), so no wake-up is lost.
 *
 * Threads: create, destroy, watch and unwatch main; the rest on the poll core.
 * Memory:  made at create.
 * Cost:    nothing but a compare on a turn with work.
 */
#ifndef HFB_IDLE_H
#define HFB_IDLE_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"
#include "node.h"

struct hfb_core;

#define HFB_IDLE_SPIN_NS	20000u	/* spin this long after the last work */
#define HFB_IDLE_RAMP_NS	60000u	/* then pause ever longer until here */
#define HFB_IDLE_SLEEP_PORTS_NS 250000u /* sleep at most: ports have to be looked at */
/* The first event after a silence is to be acked within 400 us, waking up included. */
#define HFB_IDLE_SLEEP_SILENT_NS 300000u
#define HFB_IDLE_SILENCE_NS	 1000000000u
/* Short enough that a NIC's ring holds what comes before its link is known to be up. */
#define HFB_IDLE_SLEEP_DOWN_NS 1000000u
/* A sender of thousands a second is not to pay a system call for each: naps are cheaper then. */
#define HFB_IDLE_WAKE_NS 1000000u
/* With ports that wake it: the link of one may just have come. */
#define HFB_IDLE_SLEEP_WAKE_NS	 1000000u
#define HFB_IDLE_SLEEP_LOCALS_NS 1000000u
#define HFB_IDLE_SLEEP_NS	 10000000u /* nothing but commands can come */

int hfb_idle_create(struct hfb_core *core, enum hfb_idle mode, struct hfb_err *err);
void hfb_idle_destroy(struct hfb_core *core); /* accepts a core without */

/* A descriptor whose becoming readable wakes the core. Edge-triggered and never read:
 * a client holds the other end, and must not be able to make the core spin or block. */
int hfb_idle_watch(struct hfb_core *core, int fd);
void hfb_idle_unwatch(struct hfb_core *core, int fd);

/* Poll core, after each turn: @work as the turn returned it. True: it may have waited. */
bool hfb_idle_turn(struct hfb_core *core, uint32_t work);

#endif
