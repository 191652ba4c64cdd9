/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics.h - what /metrics says: the counters of hfbusd (base/counters.h) and the
 * positions of partitions, as they are when asked, under names of Prometheus' kind.
 *
 * A counter "x_total" is hfbus_x_total; times in TSC ticks or nanoseconds become
 * seconds: "work_tsc_total" is hfbus_work_seconds_total, "last_packet_ns" is
 * hfbus_last_packet_seconds. So a new counter of hfbusd is a metric at once;
 * metrics_help.c has the sentence about it, docs/OPERATIONS.md what to do about it.
 *
 * Threads: the event loop's. hfbusd's memory is read, nothing is asked of it.
 */
#ifndef HFB_METRICS_H
#define HFB_METRICS_H

#include <stdint.h>

#include <hfbus/shm.h>

#include "counters.h"
#include "metrics_text.h"

/** All counters of @view. @tsc_hz turns ticks into seconds; 0: they are left out. */
void hfb_metrics_counters(struct hfb_metrics_text *text, const struct hfb_counters_view *view,
			  uint64_t tsc_hz);

/** Offsets, bytes and states of the partitions in use. */
void hfb_metrics_partitions(struct hfb_metrics_text *text, const struct hfb_positions *positions,
			    uint32_t count);

/** Size and free bytes of the file system of @dir; memory and CPU of this process. */
void hfb_metrics_host(struct hfb_metrics_text *text, const char *dir);

/** The sentence about a counter of hfbusd; never NULL. */
const char *hfb_metrics_help(const char *counter);

#endif
