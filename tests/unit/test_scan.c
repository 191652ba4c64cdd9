/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scanning a segment file.
 *
 * Goal:   every batch is found through windows of any size, and what is broken stops
 *	   the scan exactly there.
 * Method: segments of batches from 64 bytes to 1 MiB, whole, cut short and with holes.
 */
#include "log_folder.h"

static struct log_image
mixed(uint64_t base, uint64_t capacity, uint32_t *ret_count)
{
	struct log_image image = log_image_make(base, capacity, 1);
	uint32_t n = 1;

	log_image_epoch(&image);
	while (image.position + 1100000 < base + capacity) {
		uint32_t kind = (uint32_t)(hfb_test_random() % 100);
		uint32_t size = kind < 90 ? (uint32_t)(hfb_test_random() % 300)
				: kind < 98
					? (uint32_t)(hfb_test_random() % 60000)
					: 1048576 - 64 - 16 - (uint32_t)(hfb_test_random() % 5000);

		log_image_events(&image, 0, 1, size);
		n++;
	}
	log_image_padding_all(&image, &n);
	*ret_count = n;
	return image;
}

static void
test_every_batch_is_found(void)
{
	const char *folder = log_folder_make();
	struct hfb_scan scan = { 0 };
	struct hfb_batch_view v;
	struct hfb_err err;
	uint32_t count, n = 0;
	uint64_t base = 4096 * 77, capacity = 8 * HFB_MIB;
	struct log_image image = mixed(base, capacity, &count);

	log_folder_segment(folder, &image, base, capacity);
	CU_ASSERT_EQUAL_FATAL(hfb_scan_open(&scan, hfb_env_real(),
					    log_folder_path(folder, log_folder_name(base, ".seg")),
					    image.seed, base, capacity, base, &err),
			      0);
	while (hfb_scan_next(&scan, HFB_CHECK_ALL, &v) == HFB_FAULT_NONE) {
		CU_ASSERT_EQUAL_FATAL(
			memcmp(v.bytes, log_image_at(&image, v.position), v.header.size), 0);
		n++;
	}
	CU_ASSERT_EQUAL(n, count);
	CU_ASSERT_EQUAL(scan.position, base + capacity);
	CU_ASSERT_EQUAL(hfb_scan_next(&scan, HFB_CHECK_ALL, &v), HFB_FAULT_END);
	hfb_scan_fini(&scan);
	free(image.bytes);
}

static void
test_a_short_file_stops_the_scan(void)
{
	const char *folder = log_folder_make();
	struct hfb_scan scan = { 0 };
	struct hfb_batch_view v;
	struct hfb_err err;
	struct log_image image = log_image_make(0, 65536, 1);
	const char *path;
	enum hfb_fault fault;
	uint64_t last = 0;

	for (int i = 0; i < 10; i++)
		last = log_image_events(&image, 1, 3, 100);
	log_folder_segment(folder, &image, 0, 65536);
	path = log_folder_path(folder, log_folder_name(0, ".seg"));
	for (uint64_t cut = last; cut < image.position; cut++) {
		uint32_t n = 0;

		CU_ASSERT_EQUAL(truncate(path, (off_t)(HFB_SEGMENT_HEADER_BYTES + cut)), 0);
		CU_ASSERT_EQUAL_FATAL(
			hfb_scan_open(&scan, hfb_env_real(), path, image.seed, 0, 65536, 0, &err),
			0);
		while ((fault = hfb_scan_next(&scan, HFB_CHECK_ALL, &v)) == HFB_FAULT_NONE)
			n++;
		CU_ASSERT_EQUAL(n, 9);
		CU_ASSERT_EQUAL(scan.position, last);
		CU_ASSERT(fault == HFB_FAULT_SHORT || fault == HFB_FAULT_HEADER);
		hfb_scan_close(&scan);
		CU_ASSERT_EQUAL(truncate(path, (off_t)(HFB_SEGMENT_HEADER_BYTES + image.position)),
				0);
	}
	hfb_scan_fini(&scan);
	CU_ASSERT_EQUAL(hfb_scan_open(&scan, hfb_env_real(), "/nonexistent/x", 0, 0, 4096, 0, &err),
			-ENOENT);
	free(image.bytes);
}

static void
test_a_batch_across_the_end_is_refused(void)
{
	const char *folder = log_folder_make();
	struct hfb_scan scan = { 0 };
	struct hfb_batch_view v;
	struct hfb_err err;
	struct log_image image = log_image_make(0, 16384, 1);

	log_image_events(&image, 1, 1, 6000);
	log_folder_segment(folder, &image, 0, 16384);
	CU_ASSERT_EQUAL_FATAL(hfb_scan_open(&scan, hfb_env_real(),
					    log_folder_path(folder, log_folder_name(0, ".seg")),
					    image.seed, 0, 4096, 0, &err),
			      0);
	CU_ASSERT_EQUAL(hfb_scan_next(&scan, HFB_CHECK_ALL, &v), HFB_FAULT_SHAPE);
	CU_ASSERT_FALSE(hfb_scan_next_valid(&scan, 0, UINT64_MAX, 0, &v));
	hfb_scan_fini(&scan);
	free(image.bytes);
}

/* Wherever a batch begins, searching from the one before finds it; holes bound the search. */
static void
test_search_over_windows_and_holes(void)
{
	const char *folder = log_folder_make();
	struct hfb_scan scan = { 0 };
	struct hfb_batch_view v;
	struct hfb_err err;
	struct log_image image = log_image_make(0, 4 * HFB_MIB, 1);
	uint64_t at[3];

	at[0] = log_image_events(&image, 1, 1, 100);
	image.position = 16384 - 8; /* across the step of the search */
	at[1] = log_image_events(&image, 1, 1, 100);
	image.position = 3 * HFB_MIB + 8;
	at[2] = log_image_events(&image, 1, 1, 100);
	log_folder_segment(folder, &image, 0, 4 * HFB_MIB);
	CU_ASSERT_EQUAL_FATAL(hfb_scan_open(&scan, hfb_env_real(),
					    log_folder_path(folder, log_folder_name(0, ".seg")),
					    image.seed, 0, 4 * HFB_MIB, 0, &err),
			      0);
	CU_ASSERT_TRUE(hfb_scan_next_valid(&scan, 0, UINT64_MAX, 0, &v));
	CU_ASSERT_EQUAL(v.position, at[0]);
	CU_ASSERT_TRUE(hfb_scan_next_valid(&scan, at[0] + 8, UINT64_MAX, 0, &v));
	CU_ASSERT_EQUAL(v.position, at[1]);
	CU_ASSERT_EQUAL(hfb_scan_next(&scan, HFB_CHECK_ALL, &v), HFB_FAULT_NONE);
	CU_ASSERT_FALSE(hfb_scan_next_valid(&scan, at[1] + 8, UINT64_MAX, HFB_MIB, &v));
	CU_ASSERT(scan.gave_up > at[1] + HFB_MIB && scan.gave_up < at[1] + 2 * HFB_MIB);
	/* samples stand 128 KiB, 256 KiB ... behind: the block of the third batch is one */
	CU_ASSERT_TRUE(hfb_scan_data_ahead(&scan, at[2] - 1024 * HFB_KIB));
	CU_ASSERT_FALSE(hfb_scan_data_ahead(&scan, at[2] - 1100 * HFB_KIB));
	CU_ASSERT_FALSE(hfb_scan_data_ahead(&scan, at[2] + 4096));
	CU_ASSERT_FALSE(hfb_scan_next_valid(&scan, at[1] + 8, at[2], 0, &v));
	CU_ASSERT_TRUE(hfb_scan_next_valid(&scan, at[1] + 8, at[2] + 8, 0, &v));
	CU_ASSERT_EQUAL(v.position, at[2]);
	CU_ASSERT_FALSE(hfb_scan_next_valid(&scan, at[2] + 8, UINT64_MAX, 0, &v));
	hfb_scan_fini(&scan);
	free(image.bytes);
}

static void
test_names_and_headers(void)
{
	struct hfb_segment_header h = {
		.topic = LOG_IMAGE_TOPIC, .partition = LOG_IMAGE_PARTITION,
		.base_position = 8192, .capacity_bytes = 65536,
	}, got;
	struct hfb_uuid topic = LOG_IMAGE_TOPIC;
	struct hfb_err err;
	uint64_t base;

	CU_ASSERT_TRUE(hfb_segment_name_parse("00000000000000008192.seg", &base));
	CU_ASSERT_EQUAL(base, 8192);
	CU_ASSERT_FALSE(hfb_segment_name_parse("00000000000000008193.seg", &base));
	CU_ASSERT_FALSE(hfb_segment_name_parse("99999999999999999999.seg", &base));
	CU_ASSERT_FALSE(hfb_segment_name_parse("0000000000000008192.seg", &base));
	CU_ASSERT_FALSE(hfb_segment_name_parse("00000000000000008192.idx", &base));
	CU_ASSERT_FALSE(hfb_segment_name_parse("00000000000000008192.seg.tmp", &base));
	CU_ASSERT_FALSE(hfb_segment_name_parse("", &base));

	hfb_segment_header_seal(&h);
	CU_ASSERT_EQUAL(
		hfb_segment_header_parse(&h, sizeof(h), &topic, LOG_IMAGE_PARTITION, &got, &err),
		0);
	CU_ASSERT_EQUAL(hfb_segment_header_parse(&h, sizeof(h) - 1, &topic, LOG_IMAGE_PARTITION,
						 &got, &err),
			-EBADMSG);
	CU_ASSERT_EQUAL(hfb_segment_header_parse(&h, sizeof(h), &topic, LOG_IMAGE_PARTITION + 1,
						 &got, &err),
			-EBADMSG);
	for (size_t bit = 0; bit < sizeof(h) * 8; bit++) {
		((uint8_t *)&h)[bit / 8] ^= (uint8_t)(1u << bit % 8);
		CU_ASSERT_EQUAL(hfb_segment_header_parse(&h, sizeof(h), &topic, LOG_IMAGE_PARTITION,
							 &got, &err),
				-EBADMSG);
		((uint8_t *)&h)[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	h.capacity_bytes = 65536 + 8;
	hfb_segment_header_seal(&h);
	CU_ASSERT_EQUAL(
		hfb_segment_header_parse(&h, sizeof(h), &topic, LOG_IMAGE_PARTITION, &got, &err),
		-EBADMSG);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "every batch is found through growing windows", test_every_batch_is_found },
		{ "a short file stops the scan where it ends", test_a_short_file_stops_the_scan },
		{ "a batch across the segment's end is refused",
		  test_a_batch_across_the_end_is_refused },
		{ "searching crosses windows and stops at holes",
		  test_search_over_windows_and_holes },
		{ "names and headers", test_names_and_headers },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("scan", tests);
}
