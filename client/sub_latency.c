/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sub_latency.c - how long events took from being committed to a local reader.
 *
 * A look at the clock for each read would cost a reader that gets its events one by one a
 * tenth of its time, so one read in SAMPLE_READS is looked at. Both ends are readings of the
 * same counter, the host's TSC: clocks of two processes differ by more than what it takes.
 */
#include <stdlib.h>

#include "clock.h"
#include "connection.h"
#include "histogram.h"
#include "sub_private.h"

#define RANGE_BITS 40u /* 18 minutes; what is older was old when it was asked for */

int
hfb_sub_latency_init(struct hfb_sub *sub)
{
	sub->latency = malloc(hfb_histogram_bytes(HFB_HISTOGRAM_BITS_SMALL, RANGE_BITS));
	if (sub->latency == NULL)
		return -1;
	hfb_histogram_init(sub->latency, HFB_HISTOGRAM_BITS_SMALL, RANGE_BITS);
	return 0;
}

void
hfb_sub_latency_note(struct hfb_sub *sub)
{
	int64_t ticks = (int64_t)(hfb_clock_tsc() - sub->sampled_tsc);

	sub->sampled_tsc = 0;
	if (ticks >= 0 && sub->bus->tsc_hz != 0)
		hfb_histogram_record(sub->latency, (uint64_t)((unsigned __int128)ticks *
							      1000000000u / sub->bus->tsc_hz));
}

void
hfb_sub_latency_get(const struct hfb_sub *sub, struct hfb_sub_latency *ret_latency)
{
	const struct hfb_histogram *h = sub->latency;

	*ret_latency = (struct hfb_sub_latency){ .samples = hfb_histogram_count(h) };
	if (ret_latency->samples == 0)
		return;
	ret_latency->p50_ns = hfb_histogram_quantile(h, 0.5);
	ret_latency->p90_ns = hfb_histogram_quantile(h, 0.9);
	ret_latency->p99_ns = hfb_histogram_quantile(h, 0.99);
	ret_latency->p999_ns = hfb_histogram_quantile(h, 0.999);
	ret_latency->max_ns = h->max;
}
