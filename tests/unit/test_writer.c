/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The live log: from claim to disk and back.
 *
 * Goal:   what is durable is on disk byte for byte, over any number of segments,
 *	   ring laps and restarts; sizes and padding keep the rules of the format.
 * Method: append batches of random size whose payload follows from their number,
 *	   then read the segment files by themselves and check every byte.
 */
#include "writer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <hfbus/wire.h>

#include "hfb_test_main.h"
#include "log_rig.h"

static uint32_t
size_random(uint32_t max)
{
	uint32_t n = (uint32_t)(hfb_test_random() % (max / 8)) * 8;

	/* small ones mostly, now and then one of the largest */
	return 16 + (hfb_test_random() % 8 == 0 ? n : n % 1024);
}

static void
append_many(struct rig *rig, uint32_t n, uint32_t payload_max)
{
	payload_max -= HFB_BATCH_HEADER_BYTES + 16;
	for (uint32_t i = 0; i < n; i++) {
		if (!rig_append(rig, size_random(payload_max))) {
			CU_FAIL("an append was refused for good");
			return;
		}
		if (i % 16 == 0)
			rig_poll(rig);
	}
	CU_ASSERT_TRUE(rig_drain(rig));
}

static void
test_bytes_come_back_over_many_segments(void)
{
	struct rig_config config = { .ring_bytes_max = 1 << 20, .segment_bytes_max = 1 << 20,
				     .commit_stage = HFB_STAGE_DURABLE };
	struct rig rig;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "segments", &config), 0);
	append_many(&rig, 3000, 128 * 1024);
	CU_ASSERT_TRUE(hfb_log_position(rig.log, HFB_STAGE_DURABLE) > 10u << 20);
	CU_ASSERT_EQUAL(rig_check(&rig), 3000);
	CU_ASSERT_EQUAL(rig.positions->committed.position, rig.positions->received.position);
	CU_ASSERT_EQUAL(rig.positions->committed.offset, 3000);
	CU_ASSERT_TRUE(rig.advanced > 0);
	CU_ASSERT_EQUAL(rig_reopen(&rig, true), 0);
	CU_ASSERT_TRUE(rig.report.clean);
	CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
	CU_ASSERT_EQUAL(rig.report.torn_bytes, 0);
	CU_ASSERT_EQUAL(rig.report.end_offset, 3000);
	append_many(&rig, 500, 128 * 1024);
	CU_ASSERT_EQUAL(rig_check(&rig), 3500);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "bytes come back over many segments", test_bytes_come_back_over_many_segments },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("writer", tests);
}
