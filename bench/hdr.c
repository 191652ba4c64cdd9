/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hdr.c - percentiles as HdrHistogram prints them (outputPercentileDistribution with five
 * steps for each halving of the distance to 100 %), which its plotter reads.
 */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>

#include "bench_private.h"

#define STEPS_PER_HALF 5.0

static uint64_t
count_upto(const struct hfb_histogram *h, uint64_t value)
{
	uint32_t last = hfb_histogram_index(h->bits, value);
	uint64_t count = 0;

	for (uint32_t i = 0; i <= last && i < h->buckets; i++)
		count += h->counts[i];
	return count;
}

/* The share after @share: five steps until the distance to 1 is halved. */
static double
share_next(double share)
{
	double halvings = floor(log2(1.0 / (1.0 - share))) + 1.0;

	return share + 1.0 / (STEPS_PER_HALF * exp2(halvings));
}

static double
deviation(const struct hfb_histogram *h, double mean)
{
	double sum = 0, count = 0;

	for (uint32_t i = 0; i < h->buckets; i++) {
		double value = (double)hfb_histogram_bucket_last(h->bits, i) - mean;

		sum += value * value * (double)h->counts[i];
		count += (double)h->counts[i];
	}
	return count == 0 ? 0 : sqrt(sum / count);
}

void
bench_hdr_write(const struct hfb_histogram *h, FILE *to)
{
	uint64_t total = hfb_histogram_count(h);
	double mean = hfb_histogram_mean(h);

	fprintf(to, "%12s %14s %10s %14s\n\n", "Value", "Percentile", "TotalCount",
		"1/(1-Percentile)");
	for (double share = 0; total > 0; share = share_next(share)) {
		uint64_t value = hfb_histogram_quantile(h, share), upto = count_upto(h, value);

		if (upto >= total) {
			fprintf(to, "%12.3f %2.12f %10" PRIu64 "\n", (double)value / 1e3, 1.0,
				total);
			break;
		}
		fprintf(to, "%12.3f %2.12f %10" PRIu64 " %14.2f\n", (double)value / 1e3, share,
			upto, 1.0 / (1.0 - share));
	}
	fprintf(to, "#[Mean    = %12.3f, StdDeviation   = %12.3f]\n", mean / 1e3,
		deviation(h, mean) / 1e3);
	fprintf(to, "#[Max     = %12.3f, Total count    = %12" PRIu64 "]\n",
		total == 0 ? 0.0 : (double)h->max / 1e3, total);
	fprintf(to, "#[Buckets = %12" PRIu32 ", SubBuckets     = %12" PRIu32 "]\n",
		h->range_bits - h->bits + 1, 1u << h->bits);
}

json_t *
bench_hdr_json(const struct hfb_histogram *h)
{
	uint64_t total = hfb_histogram_count(h);
	json_t *points = json_array();

	for (double share = 0; total > 0; share = share_next(share)) {
		uint64_t value = hfb_histogram_quantile(h, share), upto = count_upto(h, value);

		json_array_append_new(points,
				      json_pack("[f, f, I]", (double)value / 1e3,
						upto >= total ? 1.0 : share, (json_int_t)upto));
		if (upto >= total)
			break;
	}
	return points;
}
