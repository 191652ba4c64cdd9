/* SPDX-License-Identifier: Apache-2.0 */
#include "stats.h"

const char *const hfb_stat_names[HFB_STATS_COUNT] = {
#define X(id, name) name,
	HFB_STATS(X)
#undef X
};
