/* SPDX-License-Identifier: Apache-2.0 */
#include "stage_times.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"

int
hfb_stage_times_init(struct hfb_stage_times *times, struct hfb_counters *file, const char *labels,
		     struct hfb_err *err)
{
	static const char *const names[] = {
#define X(id, name, weight) "stage=" name ",weight=" weight,
		HFB_STAGE_TIMES(X)
#undef X
	};

	memset(times, 0, sizeof(*times));
	times->tick_ns = (1000000000ull << 32) / hfb_clock_tsc_hz();
	for (unsigned int i = 0; i < HFB_STAGE_TIMES_COUNT; i++) {
		char all[sizeof(((struct hfb_histogram_descriptor *)0)->labels)];

		snprintf(all, sizeof(all), "%s%s%s", labels, labels[0] != '\0' ? "," : "",
			 names[i]);
		times->of[i] =
			hfb_counters_histogram(file, all, HFB_STAGE_TIME_NAME, "ns",
					       HFB_STAGE_TIME_BITS, HFB_STAGE_TIME_RANGE_BITS);
		if (times->of[i] == NULL)
			return hfb_err_set(err, -ENOSPC,
					   "the counters file has no room for more histograms");
	}
	return 0;
}
