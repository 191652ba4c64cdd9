/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reassembly of a log from datagrams.
 *
 * Goal:   pieces in any order, doubled and overlapping, give the bytes as they were.
 * Method: a log of known bytes cut at random, shuffled within a window, some pieces
 *	   lost and sent again, read off in random portions.
 */
#include <string.h>

#include "hfb_test_main.h"
#include "reassembly.h"

static uint8_t
byte_at(uint64_t position)
{
	return (uint8_t)(position * 0x9e3779b97f4a7c15ull >> 56);
}

static void
piece(uint64_t from, uint64_t size, uint8_t *to)
{
	for (uint64_t i = 0; i < size; i++)
		to[i] = byte_at(from + i);
}

static void
test_random_order(void)
{
	const uint64_t window = 65536, total = 3000000;
	struct hfb_reassembly r;
	uint64_t read = 800;
	uint8_t bytes[4096];

	CU_ASSERT_EQUAL_FATAL(hfb_reassembly_init(&r, window), 0);
	hfb_reassembly_reset(&r, read);
	while (read < total) {
		const uint8_t *front;
		uint64_t size, from = r.contiguous + hfb_test_random() % 20000;

		/* mostly near, sometimes before, sometimes beyond the room */
		if (hfb_test_random() % 5 == 0)
			from = r.contiguous;
		if (hfb_test_random() % 16 == 0 && from > 3000)
			from -= 3000;
		if (hfb_test_random() % 64 == 0)
			from += 200000;
		size = 8 + hfb_test_random() % 1400;
		piece(from, size, bytes);
		hfb_reassembly_put(&r, from, bytes, size);
		CU_ASSERT_TRUE_FATAL(r.contiguous <= hfb_reassembly_limit(&r));
		hfb_reassembly_front(&r, &front, &size);
		if (hfb_test_random() % 3 == 0)
			size = size * (hfb_test_random() % 100) / 100;
		for (uint64_t i = 0; i < size; i++)
			CU_ASSERT_EQUAL_FATAL(front[i], byte_at(read + i));
		read += size;
		hfb_reassembly_drop(&r, size);
		CU_ASSERT_EQUAL_FATAL(r.position, read);
	}
	CU_ASSERT_TRUE(r.duplicates > 0);
	hfb_reassembly_fini(&r);
}

static void
test_too_many_holes(void)
{
	struct hfb_reassembly r;
	uint8_t bytes[8];

	CU_ASSERT_EQUAL_FATAL(hfb_reassembly_init(&r, 65536), 0);
	hfb_reassembly_reset(&r, 0);
	for (uint64_t i = 0; i < HFB_REASSEMBLY_HOLES_MAX + 50; i++) {
		piece(16 + i * 16, 8, bytes);
		hfb_reassembly_put(&r, 16 + i * 16, bytes, 8);
	}
	CU_ASSERT_EQUAL(r.runs_count, HFB_REASSEMBLY_HOLES_MAX);
	CU_ASSERT_EQUAL(r.contiguous, 0);
	piece(0, 8, bytes);
	CU_ASSERT_TRUE(hfb_reassembly_put(&r, 0, bytes, 8));
	CU_ASSERT_EQUAL(r.contiguous, 8);
	piece(8, 8, bytes);
	CU_ASSERT_TRUE(hfb_reassembly_put(&r, 8, bytes, 8));
	CU_ASSERT_EQUAL(r.contiguous, 24);
	hfb_reassembly_fini(&r);
}

static void
test_grow_keeps_what_is_there(void)
{
	struct hfb_reassembly r;
	const uint8_t *front;
	uint8_t bytes[4096];
	uint64_t size;

	CU_ASSERT_EQUAL_FATAL(hfb_reassembly_init(&r, 4096), 0);
	hfb_reassembly_reset(&r, 64);
	piece(64, 4096, bytes);
	hfb_reassembly_put(&r, 64, bytes, 4096);
	CU_ASSERT_FALSE(hfb_reassembly_put(&r, 64 + 4096, bytes, 8)); /* no room */
	CU_ASSERT_EQUAL(hfb_reassembly_grow(&r, 16384), 0);
	piece(64 + 4096, 4096, bytes);
	CU_ASSERT_TRUE(hfb_reassembly_put(&r, 64 + 4096, bytes, 4096));
	hfb_reassembly_front(&r, &front, &size);
	CU_ASSERT_EQUAL_FATAL(size, 8192);
	for (uint64_t i = 0; i < size; i++)
		CU_ASSERT_EQUAL_FATAL(front[i], byte_at(64 + i));
	hfb_reassembly_fini(&r);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "random order gives the bytes as they were", test_random_order },
		{ "holes beyond the table are dropped", test_too_many_holes },
		{ "growing keeps what is there", test_grow_keeps_what_is_there },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("reassembly", tests);
}
