/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quantiles of a log-linear histogram.
 *
 * Goal:   a quantile is never below the true one and above it by less than the bound;
 *	   merging is the same as recording all into one.
 * Method: random values over many powers of two beside the sorted list of them.
 */
#include "histogram.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hfb_test_main.h"

#define VALUES 5000u

static struct hfb_histogram *
histogram_new(uint32_t bits, uint32_t range_bits)
{
	struct hfb_histogram *h = malloc(hfb_histogram_bytes(bits, range_bits));

	CU_ASSERT_PTR_NOT_NULL_FATAL(h);
	hfb_histogram_init(h, bits, range_bits);
	return h;
}

static int
compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void
quantiles_check(uint32_t bits, uint32_t range_bits)
{
	static const double shares[] = { 0.0, 0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0 };
	struct hfb_histogram *h = histogram_new(bits, range_bits);
	static uint64_t values[VALUES];
	double sum = 0;

	for (uint32_t i = 0; i < VALUES; i++) {
		values[i] = hfb_test_random() >> (64 - range_bits + hfb_test_random() % range_bits);
		sum += (double)values[i];
		hfb_histogram_record(h, values[i]);
	}
	qsort(values, VALUES, sizeof(values[0]), compare);
	CU_ASSERT_EQUAL(hfb_histogram_count(h), VALUES);
	CU_ASSERT_EQUAL(h->min, values[0]);
	CU_ASSERT_EQUAL(h->max, values[VALUES - 1]);
	if (range_bits <= 40)
		CU_ASSERT_DOUBLE_EQUAL(hfb_histogram_mean(h), sum / VALUES, 1.0);
	for (unsigned int s = 0; s < sizeof(shares) / sizeof(shares[0]); s++) {
		double at = shares[s] * VALUES;
		uint32_t rank = (uint32_t)at + ((double)(uint32_t)at < at ? 1 : 0);
		uint64_t want = values[rank == 0 ? 0 : rank - 1];
		uint64_t got = hfb_histogram_quantile(h, shares[s]);

		CU_ASSERT_TRUE(got >= want);
		CU_ASSERT_TRUE(got - want <= want >> bits);
	}
	free(h);
}

static void
test_quantiles(void)
{
	quantiles_check(HFB_HISTOGRAM_BITS_FINE, 40);
	quantiles_check(HFB_HISTOGRAM_BITS_SMALL, 36);
	quantiles_check(1, 20);
	quantiles_check(HFB_HISTOGRAM_BITS_FINE, 64);
}

static void
test_buckets_join(void)
{
	/* each bucket begins where the one before it ends */
	uint32_t last = 0;

	for (uint64_t v = 0; v < 1u << 14; v++) {
		uint32_t i = hfb_histogram_index(5, v);

		CU_ASSERT_TRUE(i == last || i == last + 1);
		if (i == last + 1)
			CU_ASSERT_EQUAL(hfb_histogram_bucket_last(5, last), v - 1);
		last = i;
	}
	for (uint32_t k = 6; k < 64; k++) {
		uint64_t v = (uint64_t)1 << k;

		CU_ASSERT_EQUAL(hfb_histogram_index(5, v), hfb_histogram_index(5, v - 1) + 1);
	}
	CU_ASSERT_EQUAL(hfb_histogram_index(5, UINT64_MAX) + 1, (64u - 5u + 1u) << 5);
}

static void
test_out_of_range(void)
{
	struct hfb_histogram *h = histogram_new(5, 10);

	CU_ASSERT_EQUAL(hfb_histogram_quantile(h, 0.5), 0);
	CU_ASSERT_EQUAL(hfb_histogram_mean(h), 0.0);
	hfb_histogram_record(h, 1023);
	CU_ASSERT_EQUAL(hfb_histogram_quantile(h, 0.5), 1023);
	hfb_histogram_record_many(h, 1000000, 3);
	CU_ASSERT_EQUAL(hfb_histogram_count(h), 4);
	CU_ASSERT_EQUAL(hfb_histogram_quantile(h, 0.99), 1000000);
	CU_ASSERT_EQUAL(h->max, 1000000);
	hfb_histogram_clear(h);
	CU_ASSERT_EQUAL(hfb_histogram_count(h), 0);
	CU_ASSERT_EQUAL(h->max, 0);
	free(h);
}

static void
test_merge(void)
{
	struct hfb_histogram *all = histogram_new(8, 40), *a = histogram_new(8, 40);
	struct hfb_histogram *b = histogram_new(8, 40), *other = histogram_new(8, 41);

	for (unsigned int i = 0; i < VALUES; i++) {
		uint64_t v = hfb_test_random() >> (24 + hfb_test_random() % 40);

		hfb_histogram_record(all, v);
		hfb_histogram_record(i % 3 == 0 ? a : b, v);
	}
	CU_ASSERT_EQUAL(hfb_histogram_merge(a, b), 0);
	CU_ASSERT_EQUAL(memcmp(a, all, hfb_histogram_bytes(8, 40)), 0);
	CU_ASSERT_EQUAL(hfb_histogram_merge(a, other), -EINVAL);
	CU_ASSERT_EQUAL(memcmp(a, all, hfb_histogram_bytes(8, 40)), 0);
	free(all);
	free(a);
	free(b);
	free(other);
}

static void
test_window(void)
{
	struct hfb_histogram *h = histogram_new(6, 36), *earlier = histogram_new(6, 36);
	struct hfb_histogram *window = histogram_new(6, 36), *other = histogram_new(6, 37);

	hfb_histogram_record_many(h, 1000000, 7);
	hfb_histogram_record_many(h, 10, 3);
	hfb_histogram_merge(earlier, h);
	hfb_histogram_record_many(h, 100, 90);
	hfb_histogram_record_many(h, 2000, 10);
	hfb_histogram_merge(window, h);
	CU_ASSERT_EQUAL(hfb_histogram_subtract(window, earlier), 0);
	CU_ASSERT_EQUAL(hfb_histogram_count(window), 100);
	CU_ASSERT_EQUAL(window->sum, 90 * 100 + 10 * 2000);
	/* what was before it is in none of its figures */
	CU_ASSERT_EQUAL(hfb_histogram_quantile(window, 0.9),
			hfb_histogram_bucket_last(6, hfb_histogram_index(6, 100)));
	CU_ASSERT_TRUE(window->min <= 100 && window->min > 98);
	CU_ASSERT_TRUE(window->max >= 2000 && window->max < 2000 + 2000 / 64 + 1);
	CU_ASSERT_EQUAL(hfb_histogram_quantile(window, 1.0), window->max);

	/* nothing happened: an empty window */
	hfb_histogram_clear(window);
	hfb_histogram_merge(window, h);
	CU_ASSERT_EQUAL(hfb_histogram_subtract(window, h), 0);
	CU_ASSERT_EQUAL(hfb_histogram_count(window), 0);
	CU_ASSERT_EQUAL(window->min, UINT64_MAX);
	CU_ASSERT_EQUAL(window->max, 0);

	/* not a window: the later before the earlier, and another shape */
	CU_ASSERT_EQUAL(hfb_histogram_subtract(earlier, h), -EINVAL);
	CU_ASSERT_EQUAL(hfb_histogram_count(earlier), 10);
	CU_ASSERT_EQUAL(hfb_histogram_subtract(earlier, other), -EINVAL);
	free(h);
	free(earlier);
	free(window);
	free(other);
}

static void
test_count_to(void)
{
	struct hfb_histogram *h = histogram_new(6, 20);

	CU_ASSERT_EQUAL(hfb_histogram_count_to(h, 100), 0);
	hfb_histogram_record_many(h, 10, 3);
	hfb_histogram_record_many(h, 1000, 5);
	hfb_histogram_record_many(h, 1u << 30, 2); /* out of range */
	CU_ASSERT_EQUAL(hfb_histogram_count_to(h, 9), 0);
	CU_ASSERT_EQUAL(hfb_histogram_count_to(h, 10), 3);
	CU_ASSERT_EQUAL(hfb_histogram_count_to(h, 1000 + 1000 / 64), 8);
	/* never more than is true: the bucket has to end there */
	CU_ASSERT_EQUAL(hfb_histogram_count_to(h, 1000), 3);
	CU_ASSERT_EQUAL(hfb_histogram_count_to(h, 1u << 20), 8);
	CU_ASSERT_EQUAL(hfb_histogram_count_to(h, 1u << 30), 10);
	free(h);
}

static void
test_foreign_memory(void)
{
	struct hfb_histogram *h = histogram_new(5, 20);
	size_t bytes = hfb_histogram_bytes(5, 20);

	CU_ASSERT_EQUAL(hfb_histogram_check(h, bytes), 0);
	CU_ASSERT_EQUAL(hfb_histogram_check(h, bytes - 1), -EBADMSG);
	CU_ASSERT_EQUAL(hfb_histogram_check(h, 8), -EBADMSG);
	h->buckets++;
	CU_ASSERT_EQUAL(hfb_histogram_check(h, bytes), -EBADMSG);
	h->buckets--;
	h->range_bits = 65;
	CU_ASSERT_EQUAL(hfb_histogram_check(h, bytes), -EBADMSG);
	h->range_bits = 4;
	CU_ASSERT_EQUAL(hfb_histogram_check(h, bytes), -EBADMSG);
	h->range_bits = 20;
	h->bits = 0;
	CU_ASSERT_EQUAL(hfb_histogram_check(h, bytes), -EBADMSG);
	free(h);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "quantiles keep their bound", test_quantiles },
		{ "buckets follow each other without a hole", test_buckets_join },
		{ "values out of range are counted", test_out_of_range },
		{ "merging is recording into one", test_merge },
		{ "two readings subtracted are a window", test_window },
		{ "values up to a bound are counted", test_count_to },
		{ "foreign memory is checked", test_foreign_memory },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("histogram", tests);
}
