/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Uuids.
 *
 * Goal:   print and parse are inverse, bad text is refused, random ones differ.
 * Method: fixed and random ones, and each way to spoil a good text.
 */
#include "uuid.h"

#include <errno.h>

#include "hfb_test_main.h"

static void
test_text(void)
{
	static const char text[] = "00112233-4455-6677-8899-aabbccddeeff";
	struct hfb_uuid uuid = { { 0 } }, same;
	char out[HFB_UUID_TEXT_BYTES];

	CU_ASSERT_TRUE(hfb_uuid_is_null(&uuid));
	CU_ASSERT_EQUAL(hfb_uuid_parse(text, &uuid), 0);
	for (unsigned int i = 0; i < 16; i++)
		CU_ASSERT_EQUAL(uuid.bytes[i], i * 0x11);
	hfb_uuid_format(&uuid, out);
	CU_ASSERT_STRING_EQUAL(out, text);
	CU_ASSERT_EQUAL(hfb_uuid_parse("00112233-4455-6677-8899-AABBCCDDEEFF", &same), 0);
	CU_ASSERT_TRUE(hfb_uuid_equal(&uuid, &same));
	for (unsigned int i = 0; i < 36; i++) {
		char bad[37];

		memcpy(bad, text, sizeof(bad));
		bad[i] = bad[i] == '-' ? '0' : '-';
		CU_ASSERT_EQUAL(hfb_uuid_parse(bad, &same), -EINVAL);
		bad[i] = '\0';
		CU_ASSERT_EQUAL(hfb_uuid_parse(bad, &same), -EINVAL);
	}
	CU_ASSERT_EQUAL(hfb_uuid_parse("00112233-4455-6677-8899-aabbccddeeff0", &same), -EINVAL);
	CU_ASSERT_TRUE(hfb_uuid_equal(&uuid, &same));
}

static void
test_random(void)
{
	struct hfb_uuid a, b;

	hfb_uuid_random(&a);
	hfb_uuid_random(&b);
	CU_ASSERT_FALSE(hfb_uuid_equal(&a, &b));
	CU_ASSERT_FALSE(hfb_uuid_is_null(&a));
	CU_ASSERT_EQUAL(a.bytes[6] >> 4, 4);
	CU_ASSERT_EQUAL(a.bytes[8] >> 6, 2);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "text and back", test_text },
		{ "random ones are of version 4 and differ", test_random },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("uuid", tests);
}
