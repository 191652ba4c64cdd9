/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_private.h - parts of the frame that scenarios do not need.
 *
 * Threads: one.
 */
#ifndef HFB_BENCH_PRIVATE_H
#define HFB_BENCH_PRIVATE_H

#include "bench.h"

/* "hfbus-bench limit append-disk" */
#define BENCH_TITLE_MAX 96u
void bench_title(const struct bench_scenario *s, char *to, size_t size);

/* 0: run; 1: help was shown; 2: wrong usage, told on stderr. */
int bench_options_parse(const struct bench_scenario *s, int argc, char **argv,
			struct bench_options *ret);
void bench_options_help(const struct bench_scenario *s, FILE *to);

struct json_t;
struct json_t *bench_options_json(const struct bench_scenario *s, const struct bench_options *o);
struct json_t *bench_machine_json(void);

struct bench_results *bench_results_create(void);
void bench_results_destroy(struct bench_results *r);
/* A repetition is over: its latencies become metrics. */
void bench_results_repetition_end(struct bench *b);
void bench_results_print(const struct bench *b, FILE *to);
void bench_results_json(const struct bench *b, FILE *to);
/* Write --hdr. 0 or negative errno and b->err. */
int bench_results_hdr(struct bench *b);

/* HdrHistogram's text of percentiles; values in us. */
void bench_hdr_write(const struct hfb_histogram *h, FILE *to);
/* [[value_us, share, count at or below], …] over the same percentiles. */
struct json_t *bench_hdr_json(const struct hfb_histogram *h);

#endif
