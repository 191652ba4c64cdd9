/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checksums of bytes, batch headers and records.
 *
 * Goal:   all paths agree with RFC 3720 and each other; no damage and no lying size passes.
 * Method: the RFC's vectors; random sizes and alignments against the portable path;
 *	   every single flipped bit of a header; records that claim too much or too little.
 */
#include "crc32c.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hfb_test_main.h"

static void
test_rfc_3720_vectors(void)
{
	uint8_t bytes[48];

	memset(bytes, 0, 32);
	CU_ASSERT_EQUAL(hfb_crc32c(0, bytes, 32), 0x8a9136aau);
	CU_ASSERT_EQUAL(hfb_crc32c_portable(0, bytes, 32), 0x8a9136aau);
	memset(bytes, 0xff, 32);
	CU_ASSERT_EQUAL(hfb_crc32c(0, bytes, 32), 0x62a8ab43u);
	for (unsigned int i = 0; i < 32; i++)
		bytes[i] = (uint8_t)i;
	CU_ASSERT_EQUAL(hfb_crc32c(0, bytes, 32), 0x46dd794eu);
	for (unsigned int i = 0; i < 32; i++)
		bytes[i] = (uint8_t)(31 - i);
	CU_ASSERT_EQUAL(hfb_crc32c(0, bytes, 32), 0x113fdb5cu);
	CU_ASSERT_EQUAL(hfb_crc32c_portable(0, bytes, 32), 0x113fdb5cu);
	CU_ASSERT_EQUAL(hfb_crc32c(0, "123456789", 9), 0xe3069283u);
	CU_ASSERT_EQUAL(hfb_crc32c(0, NULL, 0), 0);
}

static void
test_paths_agree(void)
{
	enum { SPACE = 20000 };
	uint8_t *from = malloc(SPACE + 16), *to = malloc(SPACE + 32);

	CU_ASSERT_PTR_NOT_NULL_FATAL(from);
	CU_ASSERT_PTR_NOT_NULL_FATAL(to);
	for (size_t i = 0; i < SPACE + 16; i++)
		from[i] = (uint8_t)hfb_test_random();
	for (unsigned int round = 0; round < 600; round++) {
		/* every size to 400 and its neighbours, then random larger ones */
		size_t size = round < 400 ? round : hfb_test_random() % SPACE;
		size_t skew = hfb_test_random() % 16, out = hfb_test_random() % 8 + 8;
		uint32_t seed = (uint32_t)hfb_test_random();
		uint32_t want = hfb_crc32c_portable(seed, from + skew, size);
		size_t cut = size == 0 ? 0 : hfb_test_random() % size;

		CU_ASSERT_EQUAL(hfb_crc32c(seed, from + skew, size), want);
		CU_ASSERT_EQUAL(hfb_crc32c(hfb_crc32c(seed, from + skew, cut), from + skew + cut,
					   size - cut),
				want);
		memset(to, 0xa5, SPACE + 32);
		CU_ASSERT_EQUAL(hfb_crc32c_copy(seed, to + out, from + skew, size), want);
		CU_ASSERT_EQUAL(memcmp(to + out, from + skew, size), 0);
		CU_ASSERT_EQUAL(to[out - 1], 0xa5);
		CU_ASSERT_EQUAL(to[out + size], 0xa5);
	}
	free(from);
	free(to);
}

static struct hfb_batch
batch_any(uint32_t seed, uint64_t position)
{
	struct hfb_batch b = {
		.size = 4096,
		.base_offset = 0x1122334455667788,
		.count = 77,
		.version = HFB_BATCH_VERSION,
		.encoding = HFB_ENCODING_NATIVE,
		.flags = HFB_BATCH_STREAM,
		.leader_epoch = 9,
		.durable_lag = 0x01020304,
		.producer_id = 0x99aabbccddeeff00,
		.base_sequence = 5,
		.timestamp_ns = 1700000000123456789,
		.payload_crc = 0xcafebabe,
		.producer_epoch = 3,
	};

	b.header_crc = hfb_batch_crc(seed, position, &b);
	return b;
}

static void
test_batch_crc_is_that_of_the_bytes(void)
{
	struct hfb_uuid topic = { { 1, 2, 3 } };
	uint8_t index[4] = { 0x44, 0x33, 0x22, 0x11 };
	uint32_t seed = hfb_batch_seed(&topic, 0x11223344), want;
	uint64_t position = 0x0102030405060708;
	struct hfb_batch b = batch_any(seed, position);

	CU_ASSERT_EQUAL(seed,
			hfb_crc32c_portable(hfb_crc32c_portable(0, topic.bytes, 16), index, 4));
	want = hfb_crc32c_portable(seed, &position, 8);
	want = hfb_crc32c_portable(want, &b.size, 4);
	want = hfb_crc32c_portable(want, (uint8_t *)&b + 8, 56);
	CU_ASSERT_EQUAL(b.header_crc, want);
}

static void
test_each_flipped_bit_is_rejected(void)
{
	struct hfb_uuid topic = { { 7 } };
	uint32_t seed = hfb_batch_seed(&topic, 1);
	struct hfb_batch b = batch_any(seed, 8192), out;
	uint8_t bytes[65]; /* at an odd address too */

	memcpy(bytes + 1, &b, 64);
	CU_ASSERT_EQUAL(hfb_batch_header_check(seed, 8192, bytes + 1, 64, &out), 0);
	CU_ASSERT_EQUAL(memcmp(&out, &b, 64), 0);
	memset(&out, 0, sizeof(out));
	for (unsigned int bit = 0; bit < 512; bit++) {
		bytes[1 + bit / 8] ^= (uint8_t)(1u << bit % 8);
		CU_ASSERT_EQUAL(hfb_batch_header_check(seed, 8192, bytes + 1, 64, &out), -EBADMSG);
		bytes[1 + bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	CU_ASSERT_EQUAL(out.size, 0); /* untouched on failure */
	/* another place, another partition: a stale lap is no batch of ours */
	CU_ASSERT_EQUAL(hfb_batch_header_check(seed, 8200, bytes + 1, 64, &out), -EBADMSG);
	CU_ASSERT_EQUAL(
		hfb_batch_header_check(hfb_batch_seed(&topic, 2), 8192, bytes + 1, 64, &out),
		-EBADMSG);
	CU_ASSERT_EQUAL(hfb_batch_header_check(seed, 8192, bytes + 1, 63, &out), -EAGAIN);
	memset(bytes, 0, sizeof(bytes));
	CU_ASSERT_EQUAL(hfb_batch_header_check(0, 0, bytes, 64, &out), -EBADMSG);
}

static void
test_bad_fields_under_a_right_crc(void)
{
	static const uint32_t sizes[] = { 0, 56, 65, 4100, HFB_BATCH_BYTES_MAX + 8, 0xfffffff8u };
	struct hfb_batch b = batch_any(5, 64), out;

	for (unsigned int i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		b.size = sizes[i];
		b.header_crc = hfb_batch_crc(5, 64, &b);
		CU_ASSERT_EQUAL(hfb_batch_header_check(5, 64, &b, 64, &out), -EBADMSG);
	}
	b = batch_any(5, 64);
	b.version = 2;
	b.header_crc = hfb_batch_crc(5, 64, &b);
	CU_ASSERT_EQUAL(hfb_batch_header_check(5, 64, &b, 64, &out), -EBADMSG);
	b = batch_any(5, 64);
	b.flags = 0x0010;
	b.header_crc = hfb_batch_crc(5, 64, &b);
	CU_ASSERT_EQUAL(hfb_batch_header_check(5, 64, &b, 64, &out), -EBADMSG);
}

/* Append a record; returns its bytes. */
static size_t
record_put(uint8_t *to, uint32_t value_size, uint16_t key_size, uint16_t headers_size)
{
	struct hfb_record r = { .value_size = value_size,
				.key_size = key_size,
				.headers_size = headers_size };

	memcpy(to, &r, sizeof(r));
	return hfb_record_bytes(value_size, key_size, headers_size);
}

static void
test_records_walk(void)
{
	uint8_t bytes[256] = { 0 };
	static const uint8_t header[7] = { 1, 0, 2, 0, 'n', 'v', 'v' };
	size_t n = 0;

	n += record_put(bytes + n, 5, 3, 0);
	n += record_put(bytes + n, HFB_VALUE_NULL, HFB_KEY_NULL, 0);
	memcpy(bytes + n + HFB_RECORD_HEADER_BYTES + 1, header, sizeof(header));
	n += record_put(bytes + n, 9, 1, sizeof(header));
	CU_ASSERT_EQUAL(hfb_records_check(bytes, n, 3), 0);
	CU_ASSERT_EQUAL(hfb_records_check(bytes, n, 2), -EBADMSG);
	CU_ASSERT_EQUAL(hfb_records_check(bytes, n, 4), -EBADMSG);
	CU_ASSERT_EQUAL(hfb_records_check(bytes, n - 8, 3), -EBADMSG);
	CU_ASSERT_EQUAL(hfb_records_check(bytes, n + 8, 3), -EBADMSG);
	CU_ASSERT_EQUAL(hfb_records_check(bytes, 0, 0), 0);
	CU_ASSERT_EQUAL(hfb_records_check(bytes, 0, 1), -EBADMSG);
	CU_ASSERT_EQUAL(hfb_records_check(bytes, n, 0xffffffffu), -EBADMSG);
}

static void
test_records_that_lie(void)
{
	static const struct {
		uint32_t value_size;
		uint16_t key_size, headers_size;
	} lies[] = {
		{ 17, 0, 0 },
		{ 0xfffffffeu, 0, 0 },
		{ 0x7fffffffu, 0, 0 },
		{ 0, 17, 0 },
		{ 0, 0xfffe, 0 },
		{ 0, 0, 17 },
		{ 0, 0, 0xffff },
		{ 0xfffffffeu, 0xfffe, 0xffff },
		{ HFB_VALUE_NULL, 0xfffe, 0 },
		{ 0xfffffff0u, HFB_KEY_NULL, 0 },
	};
	/* exactly as many bytes as are there, so that ASan sees a read too far */
	uint8_t *bytes = malloc(32);

	CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
	for (unsigned int i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		memset(bytes, 0, 32);
		record_put(bytes, lies[i].value_size, lies[i].key_size, lies[i].headers_size);
		CU_ASSERT_EQUAL(hfb_records_check(bytes, 32, 1), -EBADMSG);
	}
	/* headers that do not fill their room, or claim more than it */
	for (unsigned int i = 0; i < 16; i++) {
		memset(bytes, 0xff, 32);
		record_put(bytes, 16 - i, 0, (uint16_t)i);
		CU_ASSERT_EQUAL(hfb_records_check(bytes, 32, 1), i == 0 ? 0 : -EBADMSG);
	}
	for (unsigned int round = 0; round < 20000; round++) {
		for (unsigned int i = 0; i < 32; i++)
			bytes[i] = hfb_test_random() % 3 == 0 ? (uint8_t)hfb_test_random() : 0;
		if (hfb_records_check(bytes, 32, 1) == 0) {
			struct hfb_record r;

			memcpy(&r, bytes, sizeof(r));
			CU_ASSERT_EQUAL(hfb_record_bytes(r.value_size, r.key_size, r.headers_size),
					32);
		}
	}
	free(bytes);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "RFC 3720 vectors", test_rfc_3720_vectors },
		{ "all paths agree at any size and alignment", test_paths_agree },
		{ "a batch's crc is that of its bytes", test_batch_crc_is_that_of_the_bytes },
		{ "each flipped bit of a header is rejected", test_each_flipped_bit_is_rejected },
		{ "bad fields under a right crc are rejected", test_bad_fields_under_a_right_crc },
		{ "records walk exactly to the end", test_records_walk },
		{ "records that lie about sizes are rejected", test_records_that_lie },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("crc32c", tests);
}
