/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events: headers, sizes, the partition of a key.
 *
 * Goal:   what is added is read back; hostile blocks end the walk; keys land where
 *	   Kafka's Java client puts them.
 * Method: the vectors of Kafka's own UtilsTest; blocks cut at every byte.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <hfbus/event.h>
#include <hfbus/log.h>

#include "hfb_test_main.h"

static void
test_murmur2(void)
{
	static const struct {
		const char *key;
		int32_t hash;
	} vectors[] = {
		{ "21", -973932308 },
		{ "foobar", -790332482 },
		{ "a-little-bit-long-string", -985981536 },
		{ "a-little-bit-longer-string", -1486304829 },
		{ "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971 },
		{ "abc", 479470107 },
	};

	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		uint32_t positive = (uint32_t)vectors[i].hash & 0x7fffffffu;
		size_t n = strlen(vectors[i].key);

		CU_ASSERT_EQUAL(hfb_key_partition(vectors[i].key, n, 0x7fffffffu), positive);
		CU_ASSERT_EQUAL(hfb_key_partition(vectors[i].key, n, 12), positive % 12);
		CU_ASSERT_EQUAL(hfb_key_partition(vectors[i].key, n, 1), 0);
	}
}

static void
test_headers_come_back(void)
{
	uint8_t block[256];
	struct hfb_header h;
	size_t size = 0, at = 0;

	CU_ASSERT_EQUAL(hfb_headers_add(block, sizeof(block), &size, "trace", 5, "abc", 3), 0);
	CU_ASSERT_EQUAL(hfb_headers_add(block, sizeof(block), &size, "", 0, "", 0), 0);
	CU_ASSERT_EQUAL(hfb_headers_add(block, sizeof(block), &size, "k", 1, "\0\1", 2), 0);
	CU_ASSERT_EQUAL(hfb_headers_next(block, size, &at, &h), 1);
	CU_ASSERT_EQUAL(h.name_size, 5);
	CU_ASSERT_EQUAL(memcmp(h.name, "trace", 5), 0);
	CU_ASSERT_EQUAL(memcmp(h.value, "abc", 3), 0);
	CU_ASSERT_EQUAL(hfb_headers_next(block, size, &at, &h), 1);
	CU_ASSERT_EQUAL(h.name_size + h.value_size, 0);
	CU_ASSERT_EQUAL(hfb_headers_next(block, size, &at, &h), 1);
	CU_ASSERT_EQUAL(memcmp(h.value, "\0\1", 2), 0);
	CU_ASSERT_EQUAL(hfb_headers_next(block, size, &at, &h), 0);
	/* full: nothing changes */
	at = size;
	CU_ASSERT_EQUAL(hfb_headers_add(block, size + 4, &size, "x", 1, "", 0), -EMSGSIZE);
	CU_ASSERT_EQUAL(size, at);
}

static void
test_a_cut_block_is_refused(void)
{
	uint8_t block[64];
	size_t size = 0;

	hfb_headers_add(block, sizeof(block), &size, "name", 4, "value", 5);
	for (size_t cut = 1; cut < size; cut++) {
		uint8_t *own = malloc(cut); /* exact, so that a sanitizer sees a byte too far */
		struct hfb_header h;
		size_t at = 0;

		memcpy(own, block, cut);
		CU_ASSERT_EQUAL(hfb_headers_next(own, cut, &at, &h), -EBADMSG);
		free(own);
	}
}

static void
test_sizes(void)
{
	struct hfb_event event = { .value = "x", .value_size = 1 };

	CU_ASSERT_EQUAL(hfb_event_bytes(&event), 24);
	event.value = NULL;
	CU_ASSERT_EQUAL(hfb_event_bytes(&event), 16);
	event.key = "12345678";
	event.key_size = 8;
	CU_ASSERT_EQUAL(hfb_event_bytes(&event), 24);
	event.key_size = HFB_KEY_BYTES_MAX + 1;
	CU_ASSERT_EQUAL(hfb_event_bytes(&event), -EMSGSIZE);
	event.key = NULL;
	event.value = "";
	event.value_size = HFB_EVENT_BYTES_MAX;
	CU_ASSERT_EQUAL(hfb_event_bytes(&event), HFB_BATCH_BYTES_MAX - HFB_BATCH_HEADER_BYTES);
	event.value_size++;
	CU_ASSERT_EQUAL(hfb_event_bytes(&event), -EMSGSIZE);
	event.value_size = 0;
	event.headers_size = HFB_HEADERS_BYTES_MAX + 1;
	CU_ASSERT_EQUAL(hfb_event_bytes(&event), -EMSGSIZE);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "keys hash as in Kafka's Java client", test_murmur2 },
		{ "headers come back as they were added", test_headers_come_back },
		{ "a cut block of headers is refused", test_a_cut_block_is_refused },
		{ "sizes follow the record's layout", test_sizes },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("event", tests);
}
