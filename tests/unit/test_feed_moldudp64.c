/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MoldUDP64 decoding.
 *
 * Goal:   what a sound packet says, and that no lying length is believed.
 * Method: packets written by hand; then each byte and each length of a sound one
 *	   changed, on a copy that ends at the end of its allocation (sanitizers).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "feed_decode.h"
#include "hfb_test_main.h"

static const uint8_t three[] = {
	'H', 'F', 'B', 'U', 'S', '0', '1', ' ', ' ', ' ', 0, 0, 0, 0,	0,
	0,   1,	  2,   0,   3,	 0,   2,   'a', 'b', 0,	  0, 0, 1, 'c',
};

static void
test_messages_in_order_with_an_empty_one(void)
{
	struct hfb_datagram d;
	struct hfb_blocks it;
	const uint8_t *data = NULL;
	uint32_t size;
	char text[32];

	CU_ASSERT_EQUAL(hfb_moldudp64_decode(three, sizeof(three), &d), 0);
	CU_ASSERT_EQUAL(d.first, 258);
	CU_ASSERT_EQUAL(d.count, 3);
	CU_ASSERT_EQUAL(d.values_bytes, 3);
	CU_ASSERT_EQUAL(d.blocks_bytes, 9);
	CU_ASSERT_EQUAL(d.send_time_ns, 0);
	CU_ASSERT_FALSE(d.end_of_session);
	hfb_blocks_begin(&d, &it);
	CU_ASSERT_TRUE(hfb_blocks_next(&it, &data, &size));
	CU_ASSERT_EQUAL(size, 2);
	CU_ASSERT_EQUAL(memcmp(data, "ab", 2), 0);
	CU_ASSERT_TRUE(hfb_blocks_next(&it, &data, &size));
	CU_ASSERT_EQUAL(size, 0);
	CU_ASSERT_TRUE(hfb_blocks_next(&it, &data, &size));
	CU_ASSERT_EQUAL(size, 1);
	CU_ASSERT_EQUAL(data[0], 'c');
	CU_ASSERT_FALSE(hfb_blocks_next(&it, &data, &size));
	CU_ASSERT_EQUAL(hfb_moldudp64_session_text(d.session, text, sizeof(text)), 7);
	CU_ASSERT_EQUAL(memcmp(text, "HFBUS01", 7), 0);
}

static void
test_heartbeat_and_end_of_session(void)
{
	uint8_t p[20];
	struct hfb_datagram d;

	memcpy(p, three, sizeof(p));
	p[18] = p[19] = 0;
	CU_ASSERT_EQUAL(hfb_moldudp64_decode(p, sizeof(p), &d), 0);
	CU_ASSERT_EQUAL(d.count, 0);
	CU_ASSERT_FALSE(d.end_of_session);
	p[18] = p[19] = 0xff;
	CU_ASSERT_EQUAL(hfb_moldudp64_decode(p, sizeof(p), &d), 0);
	CU_ASSERT_EQUAL(d.count, 0);
	CU_ASSERT_EQUAL(d.first, 258);
	CU_ASSERT_TRUE(d.end_of_session);
}

static void
test_trailing_bytes_are_ignored(void)
{
	uint8_t p[sizeof(three) + 7];
	struct hfb_datagram d;

	memcpy(p, three, sizeof(three));
	memset(p + sizeof(three), 0xee, 7);
	CU_ASSERT_EQUAL(hfb_moldudp64_decode(p, sizeof(p), &d), 0);
	CU_ASSERT_EQUAL(d.blocks_bytes, 9);
}

static void
test_short_and_lying_packets(void)
{
	struct hfb_datagram d;
	uint8_t p[sizeof(three)];

	for (uint32_t bytes = 0; bytes < sizeof(three); bytes++) {
		uint8_t *copy = malloc(bytes + 1);

		memcpy(copy, three, bytes);
		CU_ASSERT_EQUAL(hfb_moldudp64_decode(copy, bytes, &d), -EBADMSG);
		free(copy);
	}
	memcpy(p, three, sizeof(p));
	p[20] = 0xff; /* first length beyond the end */
	CU_ASSERT_EQUAL(hfb_moldudp64_decode(p, sizeof(p), &d), -EBADMSG);
	memcpy(p, three, sizeof(p));
	p[19] = 4; /* one more than there are */
	CU_ASSERT_EQUAL(hfb_moldudp64_decode(p, sizeof(p), &d), -EBADMSG);
	memcpy(p, three, sizeof(p));
	memset(p + 10, 0xff, 8); /* a sequence that would wrap */
	CU_ASSERT_EQUAL(hfb_moldudp64_decode(p, sizeof(p), &d), -EBADMSG);
}

static void
test_unprintable_sessions_are_safe_text(void)
{
	uint8_t p[20] = { 0 };
	struct hfb_datagram d;
	char text[16];

	CU_ASSERT_EQUAL(hfb_moldudp64_decode(p, sizeof(p), &d), 0);
	CU_ASSERT_EQUAL(hfb_moldudp64_session_text(d.session, text, sizeof(text)), 0);
	memcpy(p, "A\"\x1b\n\xff\\ Z ", 10);
	CU_ASSERT_EQUAL(hfb_moldudp64_decode(p, sizeof(p), &d), 0);
	CU_ASSERT_EQUAL(hfb_moldudp64_session_text(d.session, text, sizeof(text)), 8);
	CU_ASSERT_EQUAL(memcmp(text, "A\"???\\?Z", 8), 0);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "messages in order, an empty one among them",
		  test_messages_in_order_with_an_empty_one },
		{ "heartbeat and end of session", test_heartbeat_and_end_of_session },
		{ "trailing bytes are ignored", test_trailing_bytes_are_ignored },
		{ "short and lying packets are refused", test_short_and_lying_packets },
		{ "unprintable sessions become safe text",
		  test_unprintable_sessions_are_safe_text },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("feed_moldudp64", tests);
}
