/* SPDX-License-Identifier: Apache-2.0 */
/*
 * service_metrics.h - the whole of /metrics: hfbusd's part, and hfbus-control's own.
 *
 * Threads: the event loop's.
 */
#ifndef HFB_SERVICE_METRICS_H
#define HFB_SERVICE_METRICS_H

#include "broker.h"
#include "groups.h"
#include "http.h"
#include "reconcile.h"

/** Text to free, or NULL: out of memory. @http may be NULL. */
char *hfb_service_metrics(const struct hfb_reconcile *r, const struct hfb_broker *broker,
			  struct hfb_groups *groups, const struct hfb_http *http,
			  const char *data_dir, size_t *ret_size);

#endif
