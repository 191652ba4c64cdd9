/* SPDX-License-Identifier: Apache-2.0 */
#include "histogram.h"

#include <errno.h>
#include <string.h>

#include "bug.h"

/* Below 2^bits a bucket a value, then 2^bits buckets for each power of two. */
static uint32_t
shape_buckets(uint32_t bits, uint32_t range_bits)
{
	return (range_bits - bits + 1) << bits;
}

size_t
hfb_histogram_bytes(uint32_t bits, uint32_t range_bits)
{
	hfb_assert(bits >= 1);
	hfb_assert(bits <= HFB_HISTOGRAM_BITS_MAX);
	hfb_assert(range_bits >= bits);
	hfb_assert(range_bits <= 64);
	return sizeof(struct hfb_histogram) + shape_buckets(bits, range_bits) * sizeof(uint64_t);
}

void
hfb_histogram_init(struct hfb_histogram *h, uint32_t bits, uint32_t range_bits)
{
	memset(h, 0, hfb_histogram_bytes(bits, range_bits));
	h->bits = bits;
	h->range_bits = range_bits;
	h->buckets = shape_buckets(bits, range_bits);
	h->min = UINT64_MAX;
}

void
hfb_histogram_clear(struct hfb_histogram *h)
{
	hfb_histogram_init(h, h->bits, h->range_bits);
}

int
hfb_histogram_check(const struct hfb_histogram *h, size_t bytes)
{
	if (bytes < sizeof(*h))
		return -EBADMSG;
	if (h->bits < 1 || h->bits > HFB_HISTOGRAM_BITS_MAX)
		return -EBADMSG;
	if (h->range_bits < h->bits || h->range_bits > 64)
		return -EBADMSG;
	if (h->buckets != shape_buckets(h->bits, h->range_bits))
		return -EBADMSG;
	return hfb_histogram_bytes(h->bits, h->range_bits) <= bytes ? 0 : -EBADMSG;
}

int
hfb_histogram_merge(struct hfb_histogram *to, const struct hfb_histogram *from)
{
	uint64_t min = __atomic_load_n(&from->min, __ATOMIC_RELAXED);
	uint64_t max = __atomic_load_n(&from->max, __ATOMIC_RELAXED);

	if (to->bits != from->bits || to->range_bits != from->range_bits)
		return -EINVAL;
	for (uint32_t i = 0; i < to->buckets; i++)
		to->counts[i] += __atomic_load_n(&from->counts[i], __ATOMIC_RELAXED);
	to->sum += __atomic_load_n(&from->sum, __ATOMIC_RELAXED);
	if (min < to->min)
		to->min = min;
	if (max > to->max)
		to->max = max;
	return 0;
}

int
hfb_histogram_subtract(struct hfb_histogram *to, const struct hfb_histogram *earlier)
{
	uint64_t max = to->max;

	if (to->bits != earlier->bits || to->range_bits != earlier->range_bits)
		return -EINVAL;
	for (uint32_t i = 0; i < to->buckets; i++)
		if (to->counts[i] < earlier->counts[i])
			return -EINVAL;
	to->sum -= earlier->sum;
	to->min = UINT64_MAX;
	to->max = 0;
	for (uint32_t i = 0; i < to->buckets; i++) {
		to->counts[i] -= earlier->counts[i];
		if (to->counts[i] == 0)
			continue;
		if (to->min == UINT64_MAX)
			to->min = i == 0 ? 0 : hfb_histogram_bucket_last(to->bits, i - 1) + 1;
		to->max = hfb_histogram_bucket_last(to->bits, i);
	}
	/* The largest of all may have come before the window, but nothing in it is above. */
	if (to->max > max || to->counts[to->buckets - 1] != 0)
		to->max = max;
	return 0;
}

uint64_t
hfb_histogram_count_to(const struct hfb_histogram *h, uint64_t value)
{
	uint64_t count = 0;

	if (value >= __atomic_load_n(&h->max, __ATOMIC_RELAXED))
		return hfb_histogram_count(h);
	for (uint32_t i = 0; i < h->buckets - 1 && hfb_histogram_bucket_last(h->bits, i) <= value;
	     i++)
		count += __atomic_load_n(&h->counts[i], __ATOMIC_RELAXED);
	return count;
}

uint64_t
hfb_histogram_count(const struct hfb_histogram *h)
{
	uint64_t count = 0;

	for (uint32_t i = 0; i < h->buckets; i++)
		count += __atomic_load_n(&h->counts[i], __ATOMIC_RELAXED);
	return count;
}

double
hfb_histogram_mean(const struct hfb_histogram *h)
{
	uint64_t count = hfb_histogram_count(h);

	return count == 0 ? 0.0 : (double)h->sum / (double)count;
}

uint64_t
hfb_histogram_bucket_last(uint32_t bits, uint32_t i)
{
	uint32_t shift = (i >> bits) == 0 ? 0 : (i >> bits) - 1;
	uint64_t first = i;

	if (shift > 0)
		first = ((uint64_t)(i & ((1u << bits) - 1)) + (1u << bits)) << shift;
	return first + ((uint64_t)1 << shift) - 1;
}

uint64_t
hfb_histogram_quantile(const struct hfb_histogram *h, double q)
{
	uint64_t total = hfb_histogram_count(h), seen = 0, want;
	uint64_t max = __atomic_load_n(&h->max, __ATOMIC_RELAXED);

	if (total == 0)
		return 0;
	if (q >= 1.0)
		return max;
	/* The rank, from 1: the smallest k with k / total >= q. */
	want = q <= 0.0 ? 1 : (uint64_t)(q * (double)total);
	if ((double)want < q * (double)total)
		want++;
	if (want < 1)
		want = 1;
	for (uint32_t i = 0; i < h->buckets; i++) {
		seen += __atomic_load_n(&h->counts[i], __ATOMIC_RELAXED);
		if (seen >= want) {
			uint64_t last = hfb_histogram_bucket_last(h->bits, i);

			/* The last bucket also holds what is out of range. */
			return i == h->buckets - 1 || last > max ? max : last;
		}
	}
	return max;
}
