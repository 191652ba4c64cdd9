/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stat_latency.h - hfbus stat --latency: the histograms of stages, by core and of all
 * cores, since hfbusd's start or over a window.
 *
 * Threads: the main thread.
 */
#ifndef HFB_STAT_LATENCY_H
#define HFB_STAT_LATENCY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hfb_bus;

/* @interval_ns 0: since the start. Prints; returns an exit status of cli.h. */
int hfb_stat_latency(struct hfb_bus *bus, uint64_t interval_ns, bool json);

/* The value of label @key in "a=1,b=2" into @to; false: not there. */
bool hfb_stat_label(const char *labels, const char *key, char *to, size_t size);

#endif
