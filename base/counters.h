/* SPDX-License-Identifier: Apache-2.0 */
/*
 * counters.h - counters and histograms in a mapped file, written by their owners
 * with plain stores, read by anyone while the process runs.
 *
 *	hfb_counters_create(path, &file, &err);
 *	uint64_t *c = hfb_counters_block(file, "core=0", names, n);	boot
 *	h = hfb_counters_histogram(file, "core=0,stage=durable", "stage", "ns",
 *				   HFB_HISTOGRAM_BITS_SMALL, 36);
 *	c[DROPS]++;							poll core
 *	hfb_histogram_record(h, took_ns);
 *
 *	hfb_counters_map(fd, &view, &err);				reader
 *	hfb_counters_each(&view, each_counter, arg);
 *	hfb_counters_histograms_each(&view, each_histogram, arg);
 *
 * File, version 2, little-endian; offsets are in the header:
 *
 *	header			one page
 *	counter descriptors	160 bytes each: name, labels, kind, index of the value
 *	histogram descriptors	192 bytes each: name, labels, unit, offset and bytes
 *	values			u64 each; a block is on cache lines of its own
 *	histograms		struct hfb_histogram each, from a cache line on
 *
 * Only the first `count` and `histograms_count` descriptors are valid; a count is stored
 * after what it counts, and what is there never moves. A histogram's bucket i of
 * `bits` and `range_bits` holds what histogram.h says; `counts` only ever grow, so two
 * readings subtracted are a window (hfb_histogram_subtract()).
 *
 * Threads: create, block and histogram: main thread. A block or histogram has one
 *	    writer. Readers: any process.
 * Memory:  the file; blocks and histograms are lent until destroy.
 */
#ifndef HFB_COUNTERS_H
#define HFB_COUNTERS_H

#include <stdint.h>

#include "err.h"
#include "histogram.h"

#define HFB_COUNTERS_MAGIC	      0x0031544e43424648ull /* "HFBCNT1\0" */
#define HFB_COUNTERS_MAX	      16384u
#define HFB_COUNTERS_HISTOGRAMS_MAX   1024u
#define HFB_COUNTERS_HISTOGRAMS_BYTES (64u << 20) /* of all; pages nobody touches cost nothing */

enum hfb_counter_kind { HFB_COUNTER_SUM = 0, HFB_COUNTER_GAUGE = 1 };

struct hfb_counters_header {
	uint64_t magic;
	uint32_t version, incompatible;
	uint32_t count; /* used; release-stored after the descriptor */
	uint32_t max;
	uint64_t descriptors_offset, values_offset;
	uint64_t pid, started_ns;
	uint32_t histograms_count; /* used; release-stored after the histogram */
	uint32_t histograms_max;
	uint64_t histogram_descriptors_offset;
};
struct hfb_counter_descriptor {
	char name[48];	      /* e.g. "drops_total" */
	char labels[104];     /* "core=0,reason=bad_crc"; may be empty */
	uint32_t kind;	      /* enum hfb_counter_kind */
	uint32_t value_index; /* u64 index from values_offset */
};

struct hfb_histogram_descriptor {
	char name[48];	  /* e.g. "stage" */
	char labels[104]; /* "core=0,stage=durable"; may be empty */
	char unit[16];	  /* of the values: "ns" */
	uint64_t offset;  /* of the struct hfb_histogram, from the file's start; multiple of 64 */
	uint64_t bytes;
	uint64_t reserved;
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
/* A histogram of this shape, empty, its pages touched; NULL when the file is full. */
struct hfb_histogram *hfb_counters_histogram(struct hfb_counters *file, const char *labels,
					     const char *name, const char *unit, uint32_t bits,
					     uint32_t range_bits);

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
/*
 * The same for histograms. @h is in the mapping and goes on counting: read it with the
 * functions of histogram.h, or copy it first where figures must agree with each other.
 */
uint32_t hfb_counters_histograms_each(const struct hfb_counters_view *view,
				      void (*each)(void *arg,
						   const struct hfb_histogram_descriptor *d,
						   const struct hfb_histogram *h),
				      void *arg);

#endif
