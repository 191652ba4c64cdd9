/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quantities in options.
 *
 * Goal:   what people write is read, what is half right is refused and changes nothing.
 * Method: tables.
 */
#include "units.h"

#include <errno.h>

#include "hfb_test_main.h"

static void
test_bytes(void)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{ "0", 0 },	      { "17", 17 },
		{ "4k", 4096 },	      { "4K", 4096 },
		{ "4KiB", 4096 },     { "64MiB", 64 << 20 },
		{ "2G", 2ull << 30 }, { "1TiB", 1ull << 40 },
		{ "12B", 12 },	      { "18446744073709551615", UINT64_MAX },
	};
	static const char *const bad[] = { "",	 "k",	 "-1", "+1",  " 1",
					   "1 ", "1.5M", "1X", "1kk", "0x10" };
	uint64_t v;

	for (unsigned int i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		v = 1;
		CU_ASSERT_EQUAL(hfb_bytes_parse(good[i].text, &v), 0);
		CU_ASSERT_EQUAL(v, good[i].bytes);
	}
	v = 42;
	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CU_ASSERT_EQUAL(hfb_bytes_parse(bad[i], &v), -EINVAL);
	CU_ASSERT_EQUAL(hfb_bytes_parse("18446744073709551616", &v), -EINVAL);
	CU_ASSERT_EQUAL(hfb_bytes_parse("16777216TiB", &v), -EINVAL);
	CU_ASSERT_EQUAL(v, 42);
}

static void
test_durations(void)
{
	uint64_t v = 42;

	CU_ASSERT_EQUAL(hfb_duration_parse("10", &v), -EINVAL);
	CU_ASSERT_EQUAL(hfb_duration_parse("10 s", &v), -EINVAL);
	CU_ASSERT_EQUAL(hfb_duration_parse("40000w", &v), -EINVAL);
	CU_ASSERT_EQUAL(v, 42);
	CU_ASSERT_EQUAL(hfb_duration_parse("250us", &v), 0);
	CU_ASSERT_EQUAL(v, 250000);
	CU_ASSERT_EQUAL(hfb_duration_parse("7d", &v), 0);
	CU_ASSERT_EQUAL(v, 604800000000000ull);
	CU_ASSERT_EQUAL(hfb_duration_parse("2w", &v), 0);
	CU_ASSERT_EQUAL(v, 1209600000000000ull);
	CU_ASSERT_EQUAL(hfb_duration_parse("90m", &v), 0);
	CU_ASSERT_EQUAL(v, 5400000000000ull);
	CU_ASSERT_EQUAL(hfb_duration_parse("0", &v), 0);
	CU_ASSERT_EQUAL(v, 0);
}

static void
test_numbers(void)
{
	uint64_t v = 42;

	CU_ASSERT_EQUAL(hfb_number_parse("12k", &v), -EINVAL);
	CU_ASSERT_EQUAL(hfb_number_parse("", &v), -EINVAL);
	CU_ASSERT_EQUAL(hfb_number_parse("-3", &v), -EINVAL);
	CU_ASSERT_EQUAL(v, 42);
	CU_ASSERT_EQUAL(hfb_number_parse("007", &v), 0);
	CU_ASSERT_EQUAL(v, 7);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "bytes", test_bytes },
		{ "durations", test_durations },
		{ "plain numbers", test_numbers },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("units", tests);
}
