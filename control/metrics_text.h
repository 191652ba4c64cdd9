/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics_text.h - samples in any order to the text Prometheus reads, where those of a
 * metric stand together below its help and type.
 *
 *	struct hfb_metric *drops = hfb_metric_find(text, "hfbus_drops_total", HFB_METRIC_COUNTER,
 *						   "Packets and frames dropped.");
 *	hfb_metric_add(drops, value, "core=0,reason=batch_crc");
 *	bytes = hfb_metrics_text_end(text, &size);
 *
 * Threads: one.
 * Memory:  grows with the text; a failed allocation is remembered until the end.
 */
#ifndef HFB_METRICS_TEXT_H
#define HFB_METRICS_TEXT_H

#include <stddef.h>
#include <stdint.h>

struct hfb_metrics_text;
struct hfb_metric;

enum hfb_metric_type { HFB_METRIC_COUNTER, HFB_METRIC_GAUGE, HFB_METRIC_HISTOGRAM };

struct hfb_metrics_text *hfb_metrics_text_create(void); /* NULL: out of memory */

/* The metric @name, made when it is new; never NULL. Characters that a name may not have
 * become '_'. @help is lent until the end. */
struct hfb_metric *hfb_metric_find(struct hfb_metrics_text *text, const char *name,
				   enum hfb_metric_type type, const char *help);

/* A sample; @labels is "a=1,b=2" or empty, its values are escaped here. */
void hfb_metric_add(struct hfb_metric *metric, uint64_t value, const char *labels);
void hfb_metric_add_double(struct hfb_metric *metric, double value, const char *labels);

/* A sample of a histogram: bucket @le (negative = +Inf), and its sum and count. */
void hfb_metric_add_bucket(struct hfb_metric *metric, double le, uint64_t count,
			   const char *labels);
void hfb_metric_add_sum(struct hfb_metric *metric, double sum, uint64_t count, const char *labels);

/** All of it, to free; NULL when memory was out at any time. Ends @text. */
char *hfb_metrics_text_end(struct hfb_metrics_text *text, size_t *ret_size);

#endif
