/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery of a partition's folder: damage.
 *
 * Goal:   what was durable and is broken is named, kept and not served; all the rest is.
 * Method: folders made from images of a log whose truth is known, with a bit
 *	   flipped, a hole in it, a file missing.
 */
#include "history.h"

/* A flipped bit in what was durable: the batch is named and left out, the rest is served. */
static void
test_a_flipped_bit_in_a_durable_batch(void)
{
	struct history h = history_make(3);
	uint32_t tried = 0;

	history_fill(&h, 2 * SEGMENT + SEGMENT / 4, 2000);
	for (int i = 0; i < 200; i++) {
		uint32_t n = 1 + (uint32_t)(hfb_test_random() % (h.count - 2));
		uint64_t begin = h.positions[n], end = h.positions[n + 1];
		uint64_t at = begin + hfb_test_random() % (end - begin);
		const char *folder;
		struct hfb_recovered r;
		struct hfb_batch b;

		memcpy(&b, log_image_at(&h.image, begin), sizeof(b));
		/* padding's content matters to nobody; the tail is another test's */
		if ((hfb_batch_is_padding(&b) && at >= begin + 64) ||
		    begin + 8000 > h.image.position)
			continue;
		tried++;
		folder = log_folder_make();
		history_write(&h, folder);
		log_folder_flip(folder, log_folder_name(begin / SEGMENT * SEGMENT, ".seg"),
				HFB_SEGMENT_HEADER_BYTES + at % SEGMENT,
				(int)(hfb_test_random() % 8));
		CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
		history_expect_end(&h, &r);
		CU_ASSERT_EQUAL_FATAL(r.corrupt_count, 1);
		CU_ASSERT_EQUAL(r.corrupt[0].position, begin);
		CU_ASSERT_EQUAL(r.corrupt[0].end, end);
		CU_ASSERT_EQUAL(r.corrupt[0].end_offset - r.corrupt[0].offset, b.count);
		CU_ASSERT_EQUAL(r.report.corrupt_count, 1);
		CU_ASSERT_EQUAL(r.report.corrupt_position, begin);
		CU_ASSERT_PTR_NOT_NULL(strstr(r.report.corrupt_path,
					      log_folder_name(begin / SEGMENT * SEGMENT, ".seg")));
		CU_ASSERT_TRUE(log_folder_noted(&r, "corrupt at position"));
		CU_ASSERT_EQUAL(r.report.torn_bytes, 0);
		hfb_recovered_fini(&r);
		/* and once more: the index it wrote says the same */
		CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
		CU_ASSERT_EQUAL(r.corrupt_count, 1);
		history_expect_end(&h, &r);
		hfb_recovered_fini(&r);
	}
	CU_ASSERT(tried > 100);
	free(h.image.bytes);
}

/* The last batches before a clean stop are proven by its end mark. */
static void
test_a_flipped_bit_in_the_tail_after_a_clean_stop(void)
{
	const char *folder = log_folder_make();
	struct history h = history_make(1);
	struct hfb_recovered r;
	uint64_t last, mark;

	history_fill(&h, SEGMENT / 2, 40000);
	last = h.positions[h.count - 1];
	h.image.durable = h.image.position; /* made durable, then the mark */
	mark = log_image_end(&h.image);
	history_write(&h, folder);
	log_folder_flip(folder, log_folder_name(0, ".seg"), HFB_SEGMENT_HEADER_BYTES + last + 70,
			1);
	CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
	history_expect_end(&h, &r);
	CU_ASSERT_EQUAL_FATAL(r.corrupt_count, 1);
	CU_ASSERT(r.corrupt[0].position == last && r.corrupt[0].end == mark);
	CU_ASSERT_TRUE(r.report.clean);
	hfb_recovered_fini(&r);
	free(h.image.bytes);
}

static void
test_a_bad_segment_header(void)
{
	struct history h = history_make(3);

	history_fill(&h, 2 * SEGMENT + SEGMENT / 2, 500);
	for (uint64_t segment = 0; segment < 3; segment++) {
		for (uint64_t byte = 0; byte < sizeof(struct hfb_segment_header); byte += 3) {
			const char *folder = log_folder_make();
			struct hfb_recovered r;

			history_write(&h, folder);
			log_folder_flip(folder, log_folder_name(segment * SEGMENT, ".seg"), byte,
					(int)(byte % 8));
			CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
			history_expect_end(&h, &r);
			CU_ASSERT_TRUE(r.segments[segment].header_bad);
			CU_ASSERT_TRUE(
				log_folder_noted(&r, log_folder_name(segment * SEGMENT, ".seg")));
			CU_ASSERT_EQUAL(r.corrupt_count, 0);
			CU_ASSERT_EQUAL(r.segments[segment].capacity_bytes, SEGMENT);
			hfb_recovered_fini(&r);
		}
	}
	free(h.image.bytes);
}

static void
test_a_missing_middle_segment(void)
{
	const char *folder = log_folder_make();
	struct history h = history_make(4);
	struct hfb_recovered r;

	history_fill(&h, 2 * SEGMENT + SEGMENT / 2, 500);
	history_write(&h, folder);
	unlink(log_folder_path(folder, log_folder_name(SEGMENT, ".seg")));
	CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
	history_expect_end(&h, &r);
	CU_ASSERT_EQUAL_FATAL(r.corrupt_count, 1);
	CU_ASSERT(r.corrupt[0].position == SEGMENT && r.corrupt[0].end == 2 * SEGMENT);
	CU_ASSERT_TRUE(log_folder_noted(&r, "a segment is missing"));
	CU_ASSERT_EQUAL(r.segments[1].state, HFB_RECOVERED_OPEN);
	CU_ASSERT_EQUAL(r.segments[2].state, HFB_RECOVERED_UNUSED);
	hfb_recovered_fini(&r);

	/* below a checkpoint as well */
	history_checkpoint(&h, h.positions[h.count - 3], folder, false);
	CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
	history_expect_end(&h, &r);
	CU_ASSERT_EQUAL_FATAL(r.corrupt_count, 1);
	CU_ASSERT(r.corrupt[0].position == SEGMENT && r.corrupt[0].end == 2 * SEGMENT);
	hfb_recovered_fini(&r);
	free(h.image.bytes);

	/* prepared segments behind a gap prove nothing: strays */
	folder = log_folder_make();
	h = history_make(3);
	history_fill(&h, SEGMENT, 500);
	history_write(&h, folder);
	unlink(log_folder_path(folder, log_folder_name(SEGMENT, ".seg")));
	CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
	history_expect_end(&h, &r);
	CU_ASSERT_EQUAL(r.corrupt_count, 0);
	CU_ASSERT_EQUAL(r.segments[1].state, HFB_RECOVERED_STRAY);
	hfb_recovered_fini(&r);
	free(h.image.bytes);
}

static void
test_bad_side_files_are_named_and_done_without(void)
{
	const char *folder = log_folder_make();
	struct history h = history_make(4);
	struct hfb_recovered r;

	history_fill(&h, 2 * SEGMENT + SEGMENT / 2, 500);
	history_write(&h, folder);
	CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0); /* writes the indexes */
	hfb_recovered_fini(&r);
	history_checkpoint(&h, h.positions[h.count - 3], folder, false);
	log_folder_flip(folder, log_folder_name(SEGMENT, ".idx"), 30, 2);
	CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
	history_expect_end(&h, &r);
	CU_ASSERT_TRUE(r.report.index_rebuilt);
	CU_ASSERT_TRUE(log_folder_noted(&r, log_folder_name(SEGMENT, ".idx")));
	hfb_recovered_fini(&r);
	CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
	CU_ASSERT_FALSE(r.report.index_rebuilt);
	hfb_recovered_fini(&r);

	log_folder_flip(folder, HFB_CHECKPOINT_NAME, 60, 2);
	CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
	history_expect_end(&h, &r);
	history_expect_producers(&h, &r);
	CU_ASSERT_TRUE(log_folder_noted(&r, "/" HFB_CHECKPOINT_NAME));
	hfb_recovered_fini(&r);

	/* rebuilding an index finds what is broken in its segment */
	history_checkpoint(&h, h.positions[h.count - 3], folder, false);
	unlink(log_folder_path(folder, log_folder_name(0, ".idx")));
	log_folder_flip(folder, log_folder_name(0, ".seg"),
			HFB_SEGMENT_HEADER_BYTES + h.positions[7] + 5, 2);
	CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
	history_expect_end(&h, &r);
	CU_ASSERT_EQUAL_FATAL(r.corrupt_count, 1);
	CU_ASSERT(r.corrupt[0].position == h.positions[7] && r.corrupt[0].end == h.positions[8]);
	hfb_recovered_fini(&r);
	free(h.image.bytes);
}

/* A hole in what was durable: reported as long as it is, wherever it ends. */
static void
test_a_hole_in_durable_bytes(void)
{
	static const uint8_t zeros[SEGMENT];
	struct history h = history_make(3);
	uint32_t tried = 0;

	history_fill(&h, 2 * SEGMENT + SEGMENT / 2, 2000);
	for (int i = 0; i < 60; i++) {
		uint64_t at = 512 + hfb_test_random() % (SEGMENT - 1024);
		uint64_t bytes = 1 + hfb_test_random() % (SEGMENT - at);
		uint64_t begin = 0, end = 0;
		const char *folder;
		struct hfb_recovered r;

		/* padding's content is zeros as well */
		if (memcmp(log_image_at(&h.image, at), zeros, bytes) == 0)
			continue;
		tried++;
		for (uint32_t n = 0; n < h.count; n++) {
			if (h.positions[n] <= at)
				begin = h.positions[n];
			if (h.positions[n] >= at + bytes && end == 0)
				end = h.positions[n];
		}
		folder = log_folder_make();
		history_write(&h, folder);
		log_folder_write(folder, log_folder_name(0, ".seg"), HFB_SEGMENT_HEADER_BYTES + at,
				 NULL, bytes);
		CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
		history_expect_end(&h, &r);
		CU_ASSERT_EQUAL_FATAL(r.corrupt_count, 1);
		CU_ASSERT(r.corrupt[0].position >= begin && r.corrupt[0].position <= at + 1500);
		CU_ASSERT_EQUAL(r.corrupt[0].end, end);
		hfb_recovered_fini(&r);
	}
	CU_ASSERT(tried > 40);
	free(h.image.bytes);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "a flipped bit in a durable batch is corruption",
		  test_a_flipped_bit_in_a_durable_batch },
		{ "so it is in the tail of a clean stop",
		  test_a_flipped_bit_in_the_tail_after_a_clean_stop },
		{ "a bad segment header is named, its data served", test_a_bad_segment_header },
		{ "a missing middle segment", test_a_missing_middle_segment },
		{ "bad indexes and checkpoints are named and done without",
		  test_bad_side_files_are_named_and_done_without },
		{ "a hole in durable bytes", test_a_hole_in_durable_bytes },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("recover damage", tests);
}
