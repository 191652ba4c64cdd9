/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench/limit_memif.h - two processes joined by a memif, for the raw limits of it: ours is
 * the client on the first of --cores, a forked one the server on the second, as with a bus.
 *
 *	r = limit_memif_open(&m, b, server_loop);	setup: forks, then begins DPDK
 *	m.shared->packets ...				what the server counts
 *	limit_memif_close(&m);				teardown
 *
 * Threads: one in each process.
 */
#ifndef BENCH_LIMIT_MEMIF_H
#define BENCH_LIMIT_MEMIF_H

#include <sys/types.h>

#include "bench.h"
#include "dpdk.h"

/* Written by the server but for `stop` and `leave`; each read by the other at any time. */
struct limit_memif_shared {
	uint32_t stop;	/* poll no more */
	uint32_t leave; /* and end */
	uint32_t stopped;
	uint64_t packets __attribute__((aligned(64)));
	uint64_t events, bad;
	uint64_t position; /* of the ring appended to */
};

struct limit_memif {
	struct limit_memif_shared *shared;
	struct bench_dpdk dpdk;
	pid_t server;
	char folder[64], socket[96];
};

typedef void (*limit_memif_server)(struct bench_dpdk *dpdk, struct limit_memif_shared *shared);

int limit_memif_open(struct limit_memif *m, struct bench *b, limit_memif_server server);
void limit_memif_close(struct limit_memif *m);

static inline bool
limit_memif_stopped(const struct limit_memif_shared *shared)
{
	return __atomic_load_n(&shared->stop, __ATOMIC_RELAXED) != 0;
}

/* Defaults of these scenarios: the far end on CPU 1, ours on CPU 0. */
void limit_memif_defaults(struct bench_options *o);

#endif
