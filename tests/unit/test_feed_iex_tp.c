/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IEX-TP decoding.
 *
 * Goal:   what a sound segment says, and that no lying length is believed.
 * Method: a segment written by hand; each of its lengths changed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "feed_decode.h"
#include "hfb_test_main.h"

static const uint8_t two[] = {
	1,    0,    0x04, 0x80, 1,   0, 0, 0,
	0,    0,    0xb0, 0x4c, 8,   0, 2, 0, /* payload bytes, count */
	0,    0,    0,	  0,	0,   0, 0, 0, /* stream offset */
	0x10, 0x27, 0,	  0,	0,   0, 0, 0, /* sequence 10000 */
	0x15, 0xcd, 0x5b, 0x07, 0,   0, 0, 0, /* 123456789 ns */
	3,    0,    'x',  'y',	'z', 1, 0, 'q',
};

static void
test_messages_and_send_time(void)
{
	struct hfb_datagram d;
	struct hfb_blocks it;
	const uint8_t *data = NULL;
	uint32_t size;
	char text[32];

	CU_ASSERT_EQUAL(hfb_iex_tp_decode(two, sizeof(two), &d), 0);
	CU_ASSERT_EQUAL(d.first, 10000);
	CU_ASSERT_EQUAL(d.count, 2);
	CU_ASSERT_EQUAL(d.send_time_ns, 123456789);
	CU_ASSERT_EQUAL(d.values_bytes, 4);
	hfb_blocks_begin(&d, &it);
	CU_ASSERT_TRUE(hfb_blocks_next(&it, &data, &size));
	CU_ASSERT_EQUAL(size, 3);
	CU_ASSERT_EQUAL(memcmp(data, "xyz", 3), 0);
	CU_ASSERT_TRUE(hfb_blocks_next(&it, &data, &size));
	CU_ASSERT_EQUAL(size, 1);
	CU_ASSERT_EQUAL(data[0], 'q');
	CU_ASSERT_FALSE(hfb_blocks_next(&it, &data, &size));
	CU_ASSERT_EQUAL(hfb_iex_tp_session_text(d.session, text, sizeof(text)), 10);
	CU_ASSERT_EQUAL(memcmp(text, "0x4cb00000", 10), 0);
}

static void
test_another_channel_is_another_stream(void)
{
	uint8_t p[sizeof(two)];
	struct hfb_datagram d, e;
	char text[32];

	memcpy(p, two, sizeof(p));
	p[4] = 2;
	CU_ASSERT_EQUAL(hfb_iex_tp_decode(two, sizeof(two), &d), 0);
	CU_ASSERT_EQUAL(hfb_iex_tp_decode(p, sizeof(p), &e), 0);
	CU_ASSERT_NOT_EQUAL(memcmp(d.session, e.session, d.session_size), 0);
	CU_ASSERT_EQUAL(hfb_iex_tp_session_text(e.session, text, sizeof(text)), 19);
	CU_ASSERT_EQUAL(memcmp(text, "0x4cb00000/00000002", 19), 0);
}

static void
test_heartbeat(void)
{
	uint8_t p[40];
	struct hfb_datagram d;

	memcpy(p, two, sizeof(p));
	p[12] = p[14] = 0;
	CU_ASSERT_EQUAL(hfb_iex_tp_decode(p, sizeof(p), &d), 0);
	CU_ASSERT_EQUAL(d.count, 0);
	CU_ASSERT_EQUAL(d.first, 10000);
}

static void
test_short_and_lying_segments(void)
{
	static const struct {
		uint8_t at, value;
	} lies[] = {
		{ 0, 2 },     /* version */
		{ 12, 9 },    /* payload beyond the end */
		{ 12, 7 },    /* payload ends within a block */
		{ 14, 1 },    /* fewer blocks than payload */
		{ 14, 3 },    /* more blocks than payload */
		{ 31, 0x80 }, /* negative sequence */
		{ 40, 200 },  /* block beyond the payload */
		{ 45, 0 },    /* bytes that belong to no block */
	};
	struct hfb_datagram d;

	for (uint32_t bytes = 0; bytes < sizeof(two); bytes++) {
		uint8_t *copy = malloc(bytes + 1);

		memcpy(copy, two, bytes);
		CU_ASSERT_EQUAL(hfb_iex_tp_decode(copy, bytes, &d), -EBADMSG);
		free(copy);
	}
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		uint8_t p[sizeof(two)];

		memcpy(p, two, sizeof(p));
		p[lies[i].at] = lies[i].value;
		CU_ASSERT_EQUAL(hfb_iex_tp_decode(p, sizeof(p), &d), -EBADMSG);
	}
}

static void
test_a_negative_send_time_is_none(void)
{
	uint8_t p[sizeof(two)];
	struct hfb_datagram d;

	memcpy(p, two, sizeof(p));
	p[39] = 0x80;
	CU_ASSERT_EQUAL(hfb_iex_tp_decode(p, sizeof(p), &d), 0);
	CU_ASSERT_EQUAL(d.send_time_ns, 0);
}

static void
test_a_raw_datagram_is_one_event(void)
{
	struct hfb_datagram d;
	struct hfb_blocks it;
	const uint8_t *data = NULL;
	uint32_t size;

	CU_ASSERT_EQUAL(hfb_raw_decode(two, 5, &d), 0);
	CU_ASSERT_EQUAL(d.count, 1);
	hfb_blocks_begin(&d, &it);
	CU_ASSERT_TRUE(hfb_blocks_next(&it, &data, &size));
	CU_ASSERT_PTR_EQUAL(data, two);
	CU_ASSERT_EQUAL(size, 5);
	CU_ASSERT_FALSE(hfb_blocks_next(&it, &data, &size));
	CU_ASSERT_EQUAL(hfb_raw_decode(two, 0, &d), 0);
	CU_ASSERT_EQUAL(d.count, 1);
	CU_ASSERT_EQUAL(d.values_bytes, 0);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "messages and send time", test_messages_and_send_time },
		{ "another channel is another stream", test_another_channel_is_another_stream },
		{ "heartbeat", test_heartbeat },
		{ "short and lying segments are refused", test_short_and_lying_segments },
		{ "a negative send time is none", test_a_negative_send_time_is_none },
		{ "a raw datagram is one event", test_a_raw_datagram_is_one_event },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("feed_iex_tp", tests);
}
