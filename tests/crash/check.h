/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check.h - is what recovery found what was appended, and all that was acked?
 *
 * Says by fail() what is not. Threads: the test's own.
 */
#ifndef HFB_CRASH_CHECK_H
#define HFB_CRASH_CHECK_H

#include <stdint.h>

#include "log.h"

struct world;

/* The files of @partition, as far as @report says that the log goes. */
void check_log(struct world *w, uint32_t partition, const struct hfb_log_report *report);
/* What the open log knows of producers is that of the events that are left. */
void check_producers(struct world *w, uint32_t partition);

#endif
