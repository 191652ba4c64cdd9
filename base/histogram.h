/* SPDX-License-Identifier: Apache-2.0 */
/*
 * histogram.h - log-linear histogram of latencies in plain memory of fixed size.
 *
 *	h = malloc(hfb_histogram_bytes(HFB_HISTOGRAM_BITS_FINE, 40));
 *	hfb_histogram_init(h, HFB_HISTOGRAM_BITS_FINE, 40);
 *	hfb_histogram_record(h, latency_ns);
 *	p99_ns = hfb_histogram_quantile(h, 0.99);
 *
 * Each power of two is cut into 2^bits equal buckets, so a quantile is never below
 * the true value and above it by less than one part in 2^bits.
 *
 * Threads: one records; others, in other processes too, may read meanwhile and
 *	    see each value either counted or not yet.
 * Memory:  the caller's, no pointers inside, so it may be shared or written to a file.
 * Cost:    record is a count of leading zeros, a shift and three stores.
 */
#ifndef HFB_HISTOGRAM_H
#define HFB_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

#define HFB_HISTOGRAM_BITS_FINE	 10u /* three digits; 8 KiB for each power of two */
#define HFB_HISTOGRAM_BITS_SMALL 5u  /* 3 %; 256 bytes for each power of two */
#define HFB_HISTOGRAM_BITS_MAX	 14u

struct hfb_histogram {
	uint32_t bits;	     /* 1..HFB_HISTOGRAM_BITS_MAX */
	uint32_t range_bits; /* values from 2^range_bits on count as the largest below; bits..64 */
	uint32_t buckets;
	uint32_t reserved;
	uint64_t sum;	   /* wraps; of the values as they came */
	uint64_t min, max; /* of the values as they came; UINT64_MAX and 0 when empty */
	uint64_t counts[];
};

/* Bytes of a histogram of this shape. */
size_t hfb_histogram_bytes(uint32_t bits, uint32_t range_bits);
void hfb_histogram_init(struct hfb_histogram *h, uint32_t bits, uint32_t range_bits);
void hfb_histogram_clear(struct hfb_histogram *h);

/* Is there a sound histogram in @bytes of foreign memory? 0 or -EBADMSG. */
int hfb_histogram_check(const struct hfb_histogram *h, size_t bytes);

/* Add @from to @to. 0, or -EINVAL when their shapes differ. */
int hfb_histogram_merge(struct hfb_histogram *to, const struct hfb_histogram *from);

/*
 * Take away from @to what @earlier, a copy of the same histogram, had counted: what is
 * left is the window between the two. Its min and max are those of its buckets. 0, or -EINVAL
 * when the shapes differ or @earlier has counted more (@to is unchanged then).
 */
int hfb_histogram_subtract(struct hfb_histogram *to, const struct hfb_histogram *earlier);

uint64_t hfb_histogram_count(const struct hfb_histogram *h);
/* Of them, those in buckets that end at or below @value. */
uint64_t hfb_histogram_count_to(const struct hfb_histogram *h, uint64_t value);
double hfb_histogram_mean(const struct hfb_histogram *h); /* 0 when empty */

/* The largest value that falls into bucket @i of a histogram of that many @bits. */
uint64_t hfb_histogram_bucket_last(uint32_t bits, uint32_t i);

/* The value at or below which the share @q (0..1) of all values lies; 0 when empty. */
uint64_t hfb_histogram_quantile(const struct hfb_histogram *h, double q);

static inline uint32_t
hfb_histogram_index(uint32_t bits, uint64_t value)
{
	uint32_t top;

	if (value >> bits == 0)
		return (uint32_t)value;
	top = 63u - (uint32_t)__builtin_clzll(value);
	return ((top - bits) << bits) + (uint32_t)(value >> (top - bits));
}

static inline void
hfb_histogram_record_many(struct hfb_histogram *h, uint64_t value, uint64_t times)
{
	uint32_t i = hfb_histogram_index(h->bits, value);

	if (i >= h->buckets)
		i = h->buckets - 1;
	/* One writer: plain additions, stored whole for those who read meanwhile. */
	__atomic_store_n(&h->counts[i], h->counts[i] + times, __ATOMIC_RELAXED);
	__atomic_store_n(&h->sum, h->sum + value * times, __ATOMIC_RELAXED);
	if (value < h->min)
		__atomic_store_n(&h->min, value, __ATOMIC_RELAXED);
	if (value > h->max)
		__atomic_store_n(&h->max, value, __ATOMIC_RELAXED);
}

static inline void
hfb_histogram_record(struct hfb_histogram *h, uint64_t value)
{
	hfb_histogram_record_many(h, value, 1);
}

#endif
