/* SPDX-License-Identifier: Apache-2.0 */
/*
 * service_answers.h - what hfbus-control says about topics, as JSON. Long answers
 * come in pages that fit a socket message; "next" says where the following one starts.
 *
 * Threads: the event loop's. All return a new reference, NULL when memory is out.
 */
#ifndef HFB_SERVICE_ANSWERS_H
#define HFB_SERVICE_ANSWERS_H

#include <jansson.h>

#include "broker.h"
#include "rates.h"
#include "reconcile.h"

json_t *hfb_answer_status(const struct hfb_reconcile *r, const struct hfb_broker *broker,
			  const char *data_dir, uint32_t unknown_logs,
			  const char *http_address /* NULL: off */);
json_t *hfb_answer_list(const struct hfb_reconcile *r, const struct hfb_broker *broker,
			const char *after, bool internal);
json_t *hfb_answer_trim(const char *name, uint32_t partition,
			const struct hfb_ipc_trim_answer *trim);
json_t *hfb_answer_topic(const struct hfb_ipc_topic *topic);

/* @body: TOPIC_GET's answer, checked here; NULL when hfbusd did not give one. */
json_t *hfb_answer_describe(const struct hfb_reconcile_entry *e, const struct hfb_broker *broker,
			    const struct hfb_rates *rates, const void *body, uint32_t bytes);

#endif
