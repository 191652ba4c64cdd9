/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The batch walker.
 *
 * Goal:   no byte that was not written as it stands is ever returned as a batch,
 *	   and no bytes make it read beyond their end.
 * Method: build right batches of every kind, then break them one bit, one byte
 *	   and one length at a time; images are malloc'ed to size for sanitizers.
 */
#include "batch.h"
#include "hfb_test_main.h"
#include "log_image.h"

static struct log_image
every_kind(uint64_t base)
{
	struct log_image image = log_image_make(base, 8192, 5);
	struct hfb_control_stream stream = {
		.control = { HFB_CONTROL_STREAM_START, 1, 0 },
		.framing = HFB_FRAMING_IEX_TP,
		.session_size = 3,
		.feed_size = 2,
		.next_sequence = 1,
		.session = "abc",
		.feed = "ie",
	};
	struct {
		struct hfb_extension head;
		uint64_t stamp;
	} ext = {
		.head = { 2, HFB_EXT_PORT_TIME, 0 },
		.stamp = 123456789,
	};
	struct hfb_batch b = { .count = 2,
			       .flags = HFB_BATCH_EXTENSION | HFB_BATCH_STREAM,
			       .producer_id = 77,
			       .base_sequence = 3 };
	uint8_t payload[256];
	uint32_t bytes = log_image_records(payload, 77, 3, 2, 30);

	log_image_epoch(&image);
	log_image_events(&image, 9, 4, 50);
	log_image_control(&image, HFB_CONTROL_STREAM_START, &stream, sizeof(stream));
	log_image_gap(&image, 77, 1, 2, HFB_GAP_WIRE); /* base_sequence 1, yet no padding */
	ext.head.words_crc = hfb_crc32c(0, &ext.stamp, 8);
	log_image_put(&image, b, &ext, sizeof(ext), payload, bytes);
	log_image_end(&image);
	log_image_padding(&image);
	return image;
}

static void
test_every_kind_is_walked(void)
{
	static const uint16_t kinds[] = {
		HFB_CONTROL_EPOCH_START, 0, HFB_CONTROL_STREAM_START,
		HFB_CONTROL_GAP,	 0, HFB_CONTROL_END_MARK,
		HFB_CONTROL_PADDING,
	};
	struct log_image image = every_kind(4096 * 1000);
	struct hfb_batch_view v;
	struct hfb_record_view r;
	struct hfb_walk walk;
	uint32_t n = 0, records = 0;

	hfb_walk_init(&walk, image.seed, image.base, image.bytes, image.capacity);
	while (hfb_walk_next(&walk, HFB_CHECK_ALL, &v) == HFB_FAULT_NONE) {
		CU_ASSERT_FATAL(n < 7);
		CU_ASSERT_EQUAL(v.control, kinds[n]);
		if (n == 3)
			CU_ASSERT_EQUAL(hfb_batch_end_sequence(&v), 3);
		if (n == 4) {
			CU_ASSERT_EQUAL(v.port_time_ns, 123456789);
			CU_ASSERT_EQUAL(hfb_batch_end_sequence(&v), 5);
		}
		for (hfb_record_first(&v, &r); hfb_record_next(&r); records++) {
			CU_ASSERT_PTR_NULL(r.key);
			CU_ASSERT_EQUAL(r.value_size, n == 1 ? 50 : 30);
			CU_ASSERT_EQUAL(r.value[1],
					(uint8_t)(v.header.producer_id * 31 +
						  (v.header.base_sequence + r.index) * 7 + 2));
		}
		n++;
	}
	CU_ASSERT_EQUAL(n, 7);
	CU_ASSERT_EQUAL(records, 6);
	CU_ASSERT_EQUAL(hfb_walk_next(&walk, HFB_CHECK_ALL, &v), HFB_FAULT_END);
	CU_ASSERT_EQUAL(walk.position, image.base + image.capacity);
	free(image.bytes);
}

/* Every bit of a run but padding's content is covered by some check. */
static void
test_each_flipped_bit_is_found(void)
{
	struct log_image image = every_kind(4096);
	uint64_t covered = image.position - image.base;
	uint32_t seen[HFB_FAULTS] = { 0 };
	struct hfb_batch_view v;
	struct hfb_walk walk;
	uint64_t start = 0;
	enum hfb_fault fault;

	/* the last batch is padding: its header counts, its content does not */
	hfb_walk_init(&walk, image.seed, image.base, image.bytes, image.capacity);
	while (hfb_walk_next(&walk, HFB_CHECK_ALL, &v) == HFB_FAULT_NONE)
		start = v.position - image.base;
	covered = start + HFB_BATCH_HEADER_BYTES;
	for (uint64_t bit = 0; bit < covered * 8; bit++) {
		image.bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		hfb_walk_init(&walk, image.seed, image.base, image.bytes, image.capacity);
		while ((fault = hfb_walk_next(&walk, HFB_CHECK_ALL, &v)) == HFB_FAULT_NONE)
			;
		CU_ASSERT_FATAL(fault != HFB_FAULT_END);
		CU_ASSERT(walk.position - image.base <= bit / 8);
		seen[fault]++;
		image.bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
	}
	CU_ASSERT(seen[HFB_FAULT_HEADER] > 0);
	CU_ASSERT(seen[HFB_FAULT_PAYLOAD] > 0);
	CU_ASSERT(seen[HFB_FAULT_EXTENSION] > 0);
	free(image.bytes);
}

static void
test_bytes_of_elsewhere_are_refused(void)
{
	struct log_image image = every_kind(8192);
	struct hfb_uuid other = LOG_IMAGE_TOPIC;
	struct hfb_batch_view v;

	CU_ASSERT_EQUAL(hfb_batch_parse(image.seed, 8192, image.bytes, 8192, HFB_CHECK_ALL, &v),
			HFB_FAULT_NONE);
	/* another place: what a recycled file still holds */
	for (uint64_t p = 0; p < 1ull << 40; p = p * 3 + 4096)
		if (p != 8192)
			CU_ASSERT_EQUAL(hfb_batch_parse(image.seed, p, image.bytes, 8192,
							HFB_CHECK_ALL, &v),
					HFB_FAULT_HEADER);
	/* another partition, another topic */
	CU_ASSERT_EQUAL(hfb_batch_parse(hfb_batch_seed(&other, LOG_IMAGE_PARTITION + 1), 8192,
					image.bytes, 8192, HFB_CHECK_ALL, &v),
			HFB_FAULT_HEADER);
	other.bytes[3] ^= 1;
	CU_ASSERT_EQUAL(hfb_batch_parse(hfb_batch_seed(&other, LOG_IMAGE_PARTITION), 8192,
					image.bytes, 8192, HFB_CHECK_ALL, &v),
			HFB_FAULT_HEADER);
	/* zeros are nothing */
	memset(image.bytes, 0, 8192);
	CU_ASSERT_EQUAL(hfb_batch_parse(image.seed, 0, image.bytes, 8192, HFB_CHECK_ALL, &v),
			HFB_FAULT_HEADER);
	free(image.bytes);
}

/* Headers under a right crc that lie. */
static void
test_lying_headers_are_refused(void)
{
	struct log_image image = log_image_make(0, 4096, 1);
	struct hfb_batch good, b;
	struct hfb_batch_view v;

	log_image_events(&image, 5, 2, 10);
	memcpy(&good, image.bytes, 64);
#define LIE(change, expected)                                                                      \
	do {                                                                                       \
		b = good;                                                                          \
		change;                                                                            \
		b.header_crc = hfb_batch_crc(image.seed, 0, &b);                                   \
		memcpy(image.bytes, &b, 64);                                                       \
		CU_ASSERT_EQUAL(                                                                   \
			hfb_batch_parse(image.seed, 0, image.bytes, 4096, HFB_CHECK_ALL, &v),      \
			expected);                                                                 \
	} while (0)
	LIE(, HFB_FAULT_NONE);
	LIE(b.size = 0, HFB_FAULT_SHAPE);
	LIE(b.size = 56, HFB_FAULT_SHAPE);
	LIE(b.size = 68, HFB_FAULT_SHAPE);
	LIE(b.size = HFB_BATCH_BYTES_MAX + 8, HFB_FAULT_SHAPE);
	LIE(b.size = 0xfffffff8u, HFB_FAULT_SHAPE);
	LIE(b.size = 8192, HFB_FAULT_SHORT);
	LIE(b.size = 64, HFB_FAULT_SHAPE); /* events without bytes */
	LIE(b.size -= 8, HFB_FAULT_PAYLOAD);
	LIE(b.size += 8, HFB_FAULT_PAYLOAD);
	LIE(b.count = 0, HFB_FAULT_SHAPE);
	LIE(b.count = 3, HFB_FAULT_RECORDS);
	LIE(b.count = 1, HFB_FAULT_RECORDS);
	LIE(b.count = 0xffffffff, HFB_FAULT_SHAPE);
	LIE(b.base_offset = UINT64_MAX, HFB_FAULT_SHAPE);
	LIE(b.version = 2, HFB_FAULT_FEATURE);
	LIE(b.encoding = 1, HFB_FAULT_RECORDS);
	LIE(b.encoding = 2, HFB_FAULT_FEATURE);
	LIE(b.flags |= 0x0010, HFB_FAULT_FEATURE);
	LIE(b.reserved = 1, HFB_FAULT_FEATURE);
	LIE(b.flags |= HFB_BATCH_EXTENSION, HFB_FAULT_EXTENSION);
	LIE(b.flags |= HFB_BATCH_CONTROL, HFB_FAULT_CONTROL);
	LIE((b.flags |= HFB_BATCH_CONTROL, b.count = 0, b.base_sequence = 6), HFB_FAULT_CONTROL);
	LIE((b.flags |= HFB_BATCH_CONTROL, b.count = 0, b.base_sequence = HFB_CONTROL_END_MARK),
	    HFB_FAULT_CONTROL);
	LIE((b.flags |= HFB_BATCH_CONTROL, b.count = 0, b.base_sequence = HFB_CONTROL_PADDING),
	    HFB_FAULT_NONE);
#undef LIE
	free(image.bytes);
}

static void
test_lying_record_sizes_are_refused(void)
{
	static const struct hfb_record lies[] = {
		{ 11, HFB_KEY_NULL, 0, 0 },
		{ 0, HFB_KEY_NULL, 0, 0 },
		{ 0xfffffffe, 0, 0, 0 },
		{ 10, 0xfffe, 0, 0 },
		{ 10, HFB_KEY_NULL, 0xffff, 0 },
		{ 2, HFB_KEY_NULL, 8, 0 },
		{ HFB_VALUE_NULL, HFB_KEY_NULL, 0xffff, 0 },
		{ 0xfffffff0, 16, 0, 0 },
	};
	struct log_image image = log_image_make(0, 4096, 1);
	uint32_t refused = 0;

	for (size_t i = 0; i < sizeof(lies) / sizeof(*lies); i++) {
		struct hfb_batch b = { .count = 1 };
		struct hfb_batch_view v;
		struct hfb_record_view r;
		uint8_t payload[32] = { 0 };
		uint64_t p;

		memset(payload, 0xff, sizeof(payload));
		memcpy(payload, &lies[i], 16);
		p = log_image_put(&image, b, NULL, 0, payload, 32);
		refused += hfb_batch_parse(image.seed, p, log_image_at(&image, p), 96,
					   HFB_CHECK_ALL, &v) == HFB_FAULT_RECORDS;
		/* the iterator alone holds as well */
		CU_ASSERT_EQUAL(hfb_batch_parse(image.seed, p, log_image_at(&image, p), 96,
						HFB_CHECK_PAYLOAD, &v),
				HFB_FAULT_NONE);
		for (hfb_record_first(&v, &r); hfb_record_next(&r);)
			CU_ASSERT(r.value == NULL ||
				  r.value + r.value_size <= v.bytes + v.header.size);
	}
	CU_ASSERT_EQUAL(refused, sizeof(lies) / sizeof(*lies) - 1); /* 11 bytes round up to fit */
	free(image.bytes);
}

static void
test_each_short_length(void)
{
	struct log_image image = every_kind(0);
	struct hfb_batch_view v;
	uint32_t size;

	memcpy(&size, image.bytes, 4);
	for (uint32_t n = 0; n < size; n++) {
		uint8_t *copy = malloc(n + 1); /* to size: a read beyond is a sanitizer's find */

		memcpy(copy, image.bytes, n);
		CU_ASSERT_EQUAL(hfb_batch_parse(image.seed, 0, copy, n, HFB_CHECK_ALL, &v),
				HFB_FAULT_SHORT);
		CU_ASSERT_EQUAL(v.header.size, n < 64 ? 0 : size);
		CU_ASSERT_FALSE(n < 64 && hfb_batch_search(image.seed, 0, copy, n, &v));
		free(copy);
	}
	free(image.bytes);
}

static void
test_search_finds_the_next_header(void)
{
	struct log_image image = every_kind(4096);
	struct hfb_batch_view v, first;
	uint64_t second;

	CU_ASSERT_EQUAL(hfb_batch_parse(image.seed, 4096, image.bytes, 8192, HFB_CHECK_ALL, &first),
			HFB_FAULT_NONE);
	second = 4096 + first.header.size;
	CU_ASSERT_TRUE(hfb_batch_search(image.seed, 4096, image.bytes, 8192, &v));
	CU_ASSERT_EQUAL(v.position, 4096);
	image.bytes[9] ^= 4;
	CU_ASSERT_TRUE(hfb_batch_search(image.seed, 4096, image.bytes, 8192, &v));
	CU_ASSERT_EQUAL(v.position, second);
	/* cut behind its header it is found still, before that it is not */
	CU_ASSERT_TRUE(hfb_batch_search(image.seed, 4096, image.bytes, second - 4096 + 64, &v));
	CU_ASSERT_FALSE(hfb_batch_search(image.seed, 4096, image.bytes, second - 4096 + 63, &v));
	/* at the wrong position nothing is */
	CU_ASSERT_FALSE(hfb_batch_search(image.seed, 4104, image.bytes, 8192, &v));
	free(image.bytes);
}

static void
test_event_headers(void)
{
	static const uint8_t headers[] = { 1, 0, 2, 0, 'a', 'x', 'y', 0, 0, 0, 0, 9, 0, 0, 0 };
	const uint8_t *name, *value;
	uint16_t name_size, value_size;
	uint32_t at = 0;

	CU_ASSERT_TRUE(hfb_header_next(headers, 15, &at, &name, &name_size, &value, &value_size));
	CU_ASSERT(name_size == 1 && value_size == 2 && name[0] == 'a' && value[1] == 'y');
	CU_ASSERT_TRUE(hfb_header_next(headers, 15, &at, &name, &name_size, &value, &value_size));
	CU_ASSERT(name_size == 0 && value_size == 0);
	CU_ASSERT_FALSE(hfb_header_next(headers, 15, &at, &name, &name_size, &value, &value_size));
	at = 20;
	CU_ASSERT_FALSE(hfb_header_next(headers, 15, &at, &name, &name_size, &value, &value_size));
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "every kind of batch is walked", test_every_kind_is_walked },
		{ "each flipped bit is found, and not before it", test_each_flipped_bit_is_found },
		{ "bytes of another place or partition are refused",
		  test_bytes_of_elsewhere_are_refused },
		{ "headers that lie under a right crc are refused",
		  test_lying_headers_are_refused },
		{ "record sizes that lie are refused", test_lying_record_sizes_are_refused },
		{ "each short length", test_each_short_length },
		{ "searching forward finds the next header", test_search_finds_the_next_header },
		{ "headers of an event", test_event_headers },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("batch", tests);
}
