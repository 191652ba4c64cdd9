/* SPDX-License-Identifier: Apache-2.0 */
/*
 * counters.h - counters in a mapped file, written by their owners with plain
 * stores, read by anyone while the process runs.
 *
 *	hfb_counters_create(path, bytes, &file, &err);
 *	uint64_t *c = hfb_counters_block(file, "core=0", names, n);	boot
 *	c[DROPS]++;							poll core
 *
 * File: header, then descriptors, then values; layout below is shared with readers.
 *
 * Threads: create and block: main thread. A block has one writer. Readers: any process.
 * Memory:  the file; blocks are lent until destroy.
 */
#ifndef HFB_COUNTERS_H
#define HFB_COUNTERS_H

#include <stdint.h>

#include "err.h"

#define HFB_COUNTERS_MAGIC 0x0031544e43424648ull /* "HFBCNT1\0" */
#define HFB_COUNTERS_MAX   16384u

enum hfb_counter_kind { HFB_COUNTER_SUM = 0, HFB_COUNTER_GAUGE = 1 };

struct hfb_counters_header {
	uint64_t magic;
	uint32_t version, incompatible;
	uint32_t count; /* used; release-stored after the descriptor */
	uint32_t max;
	uint64_t descriptors_offset, values_offset;
	uint64_t pid, started_ns;
};
struct hfb_counter_descriptor {
	char name[48];	      /* e.g. "drops_total" */
	char labels[104];     /* "core=0,reason=bad_crc"; may be empty */
	uint32_t kind;	      /* enum hfb_counter_kind */
	uint32_t value_index; /* u64 index from values_offset */
};

struct hfb_counters;
/* A name may carry labels of its own: "drops_total{reason=bad_crc}"; a leading '=' marks a gauge.
 */
int hfb_counters_create(const char *path, struct hfb_counters **ret, struct hfb_err *err);
void hfb_counters_destroy(struct hfb_counters *file);
int hfb_counters_fd(const struct hfb_counters *file);
/* @n values on cache lines of their own, zero; NULL when the file is full. */
uint64_t *hfb_counters_block(struct hfb_counters *file, const char *labels,
			     const char *const *names, uint32_t n);

/* Readers. */
struct hfb_counters_view {
	const struct hfb_counters_header *header;
	uint64_t bytes;
};
int hfb_counters_map(int fd, struct hfb_counters_view *ret, struct hfb_err *err);
void hfb_counters_unmap(struct hfb_counters_view *view);
/* Returns how many; calls @each for each. */
uint32_t hfb_counters_each(const struct hfb_counters_view *view,
			   void (*each)(void *arg, const struct hfb_counter_descriptor *d,
					uint64_t value),
			   void *arg);

#endif
