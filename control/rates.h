/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rates.h - events and bytes a second of each partition, from the positions that
 * hfbusd publishes: two samples, and what came between them.
 *
 *	hfb_rates_sample(rates, broker, now_ns);	about once a second
 *	hfb_rates_get(rates, handle, &events, &bytes);
 *
 * Threads: one, the event loop's.
 * Memory:  48 bytes a partition, grown as they come.
 * Cost:    a sample reads two cache lines a partition.
 */
#ifndef HFB_RATES_H
#define HFB_RATES_H

#include <stdbool.h>
#include <stdint.h>

#include "broker.h"

struct hfb_rates;

struct hfb_rates *hfb_rates_create(void);	 /* NULL: no memory */
void hfb_rates_destroy(struct hfb_rates *rates); /* NULL is fine */
/* hfbusd went away: its handles mean nothing any more. */
void hfb_rates_reset(struct hfb_rates *rates);
void hfb_rates_sample(struct hfb_rates *rates, const struct hfb_broker *broker, uint64_t now_ns);
/** False while there are not two samples of it. */
bool hfb_rates_get(const struct hfb_rates *rates, uint32_t handle, double *ret_events,
		   double *ret_bytes);

#endif
