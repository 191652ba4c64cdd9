/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events as JSON.
 *
 * Goal:   every line is JSON that means the event; text that is no UTF-8 is base64.
 * Method: a library's parser reads back what was written; random bytes; RFC 4648's
 *	   vectors; the malformed sequences of the Unicode standard's table 3-7.
 */
#include <jansson.h>
#include <string.h>

#include "hfb_test_main.h"
#include "json_line.h"

static json_t *
parsed(struct hfb_text *t)
{
	json_error_t e;
	json_t *j;

	CU_ASSERT_EQUAL_FATAL(t->bytes[t->used - 1], '\n');
	CU_ASSERT_PTR_NULL(memchr(t->bytes, '\n', t->used - 1));
	j = json_loadb(t->bytes, t->used, 0, &e);
	CU_ASSERT_PTR_NOT_NULL_FATAL(j);
	return j;
}

static struct hfb_item
item_make(const void *value, uint32_t size)
{
	struct hfb_item item = {
		.kind = HFB_ITEM_EVENT,
		.partition = 3,
		.offset = 12345678901ull,
		.timestamp_ns = 1700000000123456789ull,
		.event = { .value = value, .value_size = size, .event_time_ns = -5 },
	};

	item.mark.path = "";
	return item;
}

static void
test_event(void)
{
	struct hfb_item item = item_make("a\"b\\c\n\t\x01z", 9);
	struct hfb_text t = { 0 };
	uint8_t headers[64];
	size_t n = 0;
	json_t *j;

	item.event.key = "k";
	item.event.key_size = 1;
	hfb_headers_add(headers, sizeof(headers), &n, "h1", 2, "v1", 2);
	hfb_headers_add(headers, sizeof(headers), &n, "h2", 2, "\xff", 1);
	item.event.headers = headers;
	item.event.headers_size = (uint32_t)n;
	hfb_json_item(&t, "orders", &item);
	j = parsed(&t);
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(j, "topic")), "orders");
	CU_ASSERT_EQUAL(json_integer_value(json_object_get(j, "partition")), 3);
	CU_ASSERT_EQUAL(json_integer_value(json_object_get(j, "offset")), 12345678901ll);
	CU_ASSERT_EQUAL(json_integer_value(json_object_get(j, "timestamp_ns")),
			1700000000123456789ll);
	CU_ASSERT_EQUAL(json_integer_value(json_object_get(j, "event_time_ns")), -5);
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(j, "key")), "k");
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(j, "value")), "a\"b\\c\n\t\x01z");
	CU_ASSERT_PTR_NULL(json_object_get(j, "encoding"));
	CU_ASSERT_PTR_NULL(json_object_get(j, "feed"));
	CU_ASSERT_STRING_EQUAL(
		json_string_value(json_object_get(json_object_get(j, "headers"), "h1")), "v1");
	CU_ASSERT_STRING_EQUAL(
		json_string_value(json_object_get(
			json_object_get(json_object_get(j, "headers"), "h2"), "value")),
		"/w==");
	json_decref(j);
	hfb_text_fini(&t);
}

static void
test_null_and_empty(void)
{
	struct hfb_item item = item_make(NULL, 0);
	struct hfb_text t = { 0 };
	json_t *j;

	hfb_json_item(&t, "t", &item);
	j = parsed(&t);
	CU_ASSERT_TRUE(json_is_null(json_object_get(j, "value")));
	CU_ASSERT_TRUE(json_is_null(json_object_get(j, "key")));
	json_decref(j);
	t.used = 0;
	item.event.value = "";
	hfb_json_item(&t, "t", &item);
	j = parsed(&t);
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(j, "value")), "");
	json_decref(j);
	hfb_text_fini(&t);
}

static void
test_base64(void)
{
	static const char *const vectors[][2] = {
		{ "", "\"\"" },
		{ "f", "\"Zg==\"" },
		{ "fo", "\"Zm8=\"" },
		{ "foo", "\"Zm9v\"" },
		{ "foob", "\"Zm9vYg==\"" },
		{ "fooba", "\"Zm9vYmE=\"" },
		{ "foobar", "\"Zm9vYmFy\"" },
	};

	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		struct hfb_text t = { 0 };

		hfb_json_base64(&t, vectors[i][0], strlen(vectors[i][0]));
		CU_ASSERT_EQUAL(t.used, strlen(vectors[i][1]));
		CU_ASSERT_EQUAL(memcmp(t.bytes, vectors[i][1], t.used), 0);
		hfb_text_fini(&t);
	}
}

static void
test_utf8(void)
{
	static const char *const good[] = { "\xc2\x80",	       "\xdf\xbf",     "\xe0\xa0\x80",
					    "\xed\x9f\xbf",    "\xee\x80\x80", "\xf0\x90\x80\x80",
					    "\xf4\x8f\xbf\xbf" };
	static const char *const bad[] = { "\x80",
					   "\xc0\xaf",
					   "\xc1\xbf",
					   "\xc2",
					   "\xe0\x9f\xbf",
					   "\xed\xa0\x80",
					   "\xe2\x82",
					   "\xf0\x8f\xbf\xbf",
					   "\xf4\x90\x80\x80",
					   "\xf5\x80\x80\x80",
					   "\xff",
					   "a\xe2\x82z" };
	struct hfb_text t = { 0 };

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		t.used = 0;
		CU_ASSERT_TRUE(hfb_json_string(&t, good[i], strlen(good[i])));
		CU_ASSERT_EQUAL(t.used, strlen(good[i]) + 2);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		t.used = 0;
		CU_ASSERT_FALSE(hfb_json_string(&t, bad[i], strlen(bad[i])));
		CU_ASSERT_EQUAL(t.used, 0);
	}
	hfb_text_fini(&t);
}

static void
test_random_bytes_are_json(void)
{
	struct hfb_text t = { 0 };

	for (int n = 0; n < 2000; n++) {
		uint8_t bytes[64];
		uint32_t size = (uint32_t)(hfb_test_random() % sizeof(bytes));
		struct hfb_item item;
		json_t *j;

		for (uint32_t i = 0; i < size; i++)
			bytes[i] = (uint8_t)(hfb_test_random() & (n % 2 ? 0x7f : 0xff));
		item = item_make(bytes, size);
		item.event.key = bytes;
		item.event.key_size = size;
		t.used = 0;
		hfb_json_item(&t, "t", &item);
		/* zeros within are refused by default: they are right here */
		j = json_loadb(t.bytes, t.used, JSON_ALLOW_NUL, NULL);
		CU_ASSERT_PTR_NOT_NULL_FATAL(j);
		if (json_object_get(j, "encoding") == NULL) {
			const json_t *v = json_object_get(j, "value");

			CU_ASSERT_EQUAL(json_string_length(v), size);
			CU_ASSERT_EQUAL(memcmp(json_string_value(v), bytes, size), 0);
		}
		json_decref(j);
	}
	hfb_text_fini(&t);
}

static void
test_feed_and_gap(void)
{
	struct hfb_item item = item_make("x", 1);
	struct hfb_text t = { 0 };
	json_t *whole, *j;

	item.is_feed = 1;
	item.feed.session = "SESSION001";
	item.feed.feed = "iex";
	item.feed.sequence = 77;
	item.event.event_time_ns = 99;
	hfb_json_item(&t, "t", &item);
	whole = parsed(&t);
	j = json_object_get(whole, "feed");
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(j, "session")), "SESSION001");
	CU_ASSERT_EQUAL(json_integer_value(json_object_get(j, "sequence")), 77);
	CU_ASSERT_EQUAL(json_integer_value(json_object_get(j, "send_time_ns")), 99);
	json_decref(whole);
	t.used = 0;
	item.kind = HFB_ITEM_GAP;
	item.feed.gap_count = 5;
	item.feed.gap_cause = 2;
	hfb_json_item(&t, "t", &item);
	CU_ASSERT_PTR_NOT_NULL(memmem(t.bytes, t.used,
				      "\"gap\":{\"session\":\"SESSION001\",\"first\":77,\"count\":"
				      "5,\"cause\":\"local\"}}\n",
				      66));
	j = parsed(&t);
	CU_ASSERT_PTR_NULL(json_object_get(j, "value"));
	json_decref(j);
	hfb_text_fini(&t);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "an event's line has all its parts", test_event },
		{ "null and empty differ", test_null_and_empty },
		{ "base64 as in RFC 4648", test_base64 },
		{ "UTF-8 is told from what is not", test_utf8 },
		{ "random bytes are JSON again", test_random_bytes_are_json },
		{ "a feed's event and a gap", test_feed_and_gap },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("json_line", tests);
}
