/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions.
 *
 * Goal:   nobody gets memory, amplification or somebody else's session by asking; a lost
 *	   answer costs nothing; the table never fills for good.
 * Method: frames by hand into one core's code, answers read back.
 */
#include <stdlib.h>

#include "hfb_test_main.h"
#include "proto_rig.h"

static struct rig rig;

static void
set_up(void)
{
	rig_open(&rig);
}

static void
tear_down(void)
{
	rig_close(&rig);
}

static void
test_hello_is_stateless_and_answered_small(void)
{
	union {
		struct hfb_frame_hello hello;
		uint8_t bytes[HFB_HELLO_BYTES];
	} hello = { .bytes = { 0 } };

	hello.hello.frame = rig_head(&rig, HFB_FRAME_HELLO, 0);
	for (uint32_t i = 0; i < 100; i++) {
		hello.hello.nonce = i;
		rig_udp(&rig, 1, (uint16_t)(1000 + i), &hello, sizeof(hello));
	}
	CU_ASSERT_EQUAL(rig_sent_count(&rig, HFB_FRAME_COOKIE), 100);
	CU_ASSERT_TRUE(rig_sent_bytes(&rig, HFB_FRAME_COOKIE, 0) <= HFB_HELLO_BYTES);
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_SESSIONS], 0);
	rig_forget(&rig);
	/* one byte less than the padding: no answer, else the answer could be larger */
	rig_udp(&rig, 1, 1000, &hello, sizeof(hello) - 1);
	CU_ASSERT_EQUAL(rig.frames_count, 0);
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_DROP_FRAME_SHORT], 1);
}

static void
test_open_is_idempotent(void)
{
	uint64_t a = rig_udp_open(&rig, 1, 1000, 77);
	uint64_t b = rig_udp_open(&rig, 1, 1000, 77);
	uint64_t c = rig_udp_open(&rig, 1, 1001, 77);
	uint64_t d = rig_udp_open(&rig, 1, 1000, 78);
	uint64_t e = rig_udp_open(&rig, 2, 1000, 77);

	CU_ASSERT_NOT_EQUAL(a, 0);
	CU_ASSERT_EQUAL(a, b);
	CU_ASSERT_EQUAL(a >> 56, rig.core.id);
	CU_ASSERT_TRUE(a != c && a != d && a != e && c != d && c != e && d != e);
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_SESSIONS], 4);
}

static void
test_cookies_age_and_belong_to_one_address(void)
{
	union {
		struct hfb_frame_hello hello;
		uint8_t bytes[HFB_HELLO_BYTES];
	} hello = { .bytes = { 0 } };
	struct hfb_frame_open open = { .nonce = 5 };

	hello.hello.frame = rig_head(&rig, HFB_FRAME_HELLO, 0);
	hello.hello.nonce = 5;
	rig_udp(&rig, 1, 1000, &hello, sizeof(hello));
	open.frame = rig_head(&rig, HFB_FRAME_OPEN, 0);
	memcpy(open.cookie,
	       ((const struct hfb_frame_cookie *)rig_sent(&rig, HFB_FRAME_COOKIE, 0))->cookie, 16);
	rig_forget(&rig);
	rig_udp(&rig, 2, 1000, &open, sizeof(open)); /* another host */
	rig_udp(&rig, 1, 1001, &open, sizeof(open)); /* another port */
	open.nonce = 6;
	rig_udp(&rig, 1, 1000, &open, sizeof(open)); /* another nonce */
	open.nonce = 5;
	open.cookie[15] ^= 1;
	rig_udp(&rig, 1, 1000, &open, sizeof(open)); /* a guess */
	open.cookie[15] ^= 1;
	rig.core.now_ns += 2 * HFB_COOKIE_SLOT_NS;
	rig_udp(&rig, 1, 1000, &open, sizeof(open)); /* too late */
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_DROP_COOKIE], 5);
	CU_ASSERT_EQUAL(rig.frames_count, 0);
	rig.core.now_ns -= HFB_COOKIE_SLOT_NS;
	rig_udp(&rig, 1, 1000, &open, sizeof(open)); /* the next slot is in time */
	CU_ASSERT_EQUAL(rig_sent_count(&rig, HFB_FRAME_OPENED), 1);
}

static void
test_foreign_addresses_and_unknown_sessions_are_refused(void)
{
	uint64_t number = rig_udp_open(&rig, 1, 1000, 1);
	uint8_t frame[RIG_FRAME_BYTES];
	struct rig_batch batch = { .producer_id = 7, .count = 1 };
	uint32_t bytes = rig_produce_make(&rig, frame, number, &batch);
	const struct hfb_frame_error *error;

	rig_turn(&rig); /* as many answers to strangers as a millisecond allows */
	rig_forget(&rig);
	rig_udp(&rig, 2, 1000, frame, bytes);
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_DROP_SESSION_ADDRESS], 1);
	CU_ASSERT_EQUAL(rig.frames_count, 0);
	bytes = rig_produce_make(&rig, frame, number ^ 1, &batch);
	for (uint32_t i = 0; i < 100; i++)
		rig_udp(&rig, 1, 1000, frame, bytes);
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_DROP_SESSION], 100);
	CU_ASSERT_EQUAL(rig.frames_count, HFB_NO_SESSION_ANSWERS_MS);
	error = rig_sent(&rig, HFB_FRAME_ERROR, 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(error);
	CU_ASSERT_EQUAL(error->code, HFB_WIRE_NO_SESSION);
	CU_ASSERT_EQUAL(error->answers, rig.packet);
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_APPEND_BATCHES], 0);
	/* and the real one still works */
	bytes = rig_produce_make(&rig, frame, number, &batch);
	rig_udp(&rig, 1, 1000, frame, bytes);
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_APPEND_BATCHES], 1);
}

static void
test_bad_frames_are_counted_by_reason(void)
{
	uint64_t number = rig_udp_open(&rig, 1, 1000, 1);
	struct hfb_frame frame = rig_head(&rig, HFB_FRAME_CLOSE, number);

	rig_udp(&rig, 1, 1000, &frame, sizeof(frame) - 1);
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_DROP_FRAME_SHORT], 1);
	frame.magic = 0;
	rig_udp(&rig, 1, 1000, &frame, sizeof(frame));
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_DROP_FRAME_MAGIC], 1);
	frame = rig_head(&rig, HFB_FRAME_CLOSE, number);
	frame.version = 2;
	rig_udp(&rig, 1, 1000, &frame, sizeof(frame));
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_DROP_FRAME_VERSION], 1);
	frame = rig_head(&rig, HFB_FRAME_CLOSE, number);
	frame.flags = HFB_FRAME_TAG;
	rig_udp(&rig, 1, 1000, &frame, sizeof(frame));
	frame = rig_head(&rig, HFB_FRAME_CLOSE, number);
	frame.incompatible = 0x8000;
	rig_udp(&rig, 1, 1000, &frame, sizeof(frame));
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_DROP_FRAME_FLAGS], 2);
	frame = rig_head(&rig, 200, number);
	rig_udp(&rig, 1, 1000, &frame, sizeof(frame));
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_DROP_FRAME_TYPE], 1);
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_SESSIONS], 1);
	frame = rig_head(&rig, HFB_FRAME_CLOSE, number);
	rig_udp(&rig, 1, 1000, &frame, sizeof(frame));
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_SESSIONS], 0);
}

static void
test_a_full_table_empties_by_silence(void)
{
	uint64_t first = 0;

	for (uint32_t i = 0; i < rig.config.sessions_max; i++) {
		uint64_t number = rig_udp_open(&rig, 1, (uint16_t)(1000 + i), 1);

		CU_ASSERT_NOT_EQUAL(number, 0);
		first = i == 0 ? number : first;
	}
	rig_turn(&rig);
	CU_ASSERT_EQUAL(rig_udp_open(&rig, 1, 9000, 1), 0);
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_DROP_SESSIONS_FULL], 1);
	/* one of them goes on talking, the others do not */
	for (uint32_t i = 0; i < 12; i++) {
		struct hfb_frame_metadata_get ask = { .name_size = 1 };
		uint8_t frame[64] = { 0 };

		rig.core.now_ns += 1000000000ull;
		ask.frame = rig_head(&rig, HFB_FRAME_METADATA_GET, first);
		memcpy(frame, &ask, sizeof(ask));
		rig_udp(&rig, 1, 1000, frame, sizeof(ask) + 1);
		rig_forget(&rig);
		rig_turn(&rig);
	}
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_SESSIONS], 1);
	CU_ASSERT_NOT_EQUAL(rig_udp_open(&rig, 1, 9000, 1), 0);
}

/* Sessions come and go for long; the hash never loses one that is open. */
static void
test_the_table_finds_whoever_is_in_it(void)
{
	uint64_t number[32] = { 0 };
	uint32_t lost = 0;

	for (uint32_t round = 0; round < 20000; round++) {
		uint32_t i = (uint32_t)(hfb_test_random() % 32);
		struct hfb_frame close = rig_head(&rig, HFB_FRAME_CLOSE, number[i]);

		if (number[i] == 0) {
			number[i] = rig_udp_open(&rig, 1, (uint16_t)(1000 + i), round);
			lost += number[i] == 0;
		} else {
			uint64_t before = rig.stats[HFB_STAT_SESSIONS];

			rig_udp(&rig, 1, (uint16_t)(1000 + i), &close, sizeof(close));
			lost += rig.stats[HFB_STAT_SESSIONS] != before - 1;
			number[i] = 0;
		}
		rig_forget(&rig);
	}
	CU_ASSERT_EQUAL(lost, 0);
}

static void
test_metadata_is_paged_and_names_the_core(void)
{
	struct hfb_session *session = rig_local(&rig);
	struct {
		struct hfb_frame_metadata_get get;
		char name[6];
	} __attribute__((packed)) ask;
	const struct hfb_frame_metadata *answer;
	const struct hfb_wire_partition *partition;

	memset(&ask, 0, sizeof(ask));
	ask.get.frame = rig_head(&rig, HFB_FRAME_METADATA_GET, session->number);
	ask.get.first_partition = 1;
	ask.get.name_size = 6;
	memcpy(ask.name, "prices", 6);
	hfb_session_local_frame(&rig.core, session, (const uint8_t *)&ask, sizeof(ask));
	answer = rig_sent(&rig, HFB_FRAME_METADATA, 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(answer);
	CU_ASSERT_EQUAL(answer->code, HFB_WIRE_OK);
	CU_ASSERT_EQUAL(answer->answers, rig.packet);
	CU_ASSERT_EQUAL(answer->partitions_count, RIG_PARTITIONS);
	CU_ASSERT_EQUAL(answer->count, 3);
	partition = (const struct hfb_wire_partition *)(answer + 1);
	CU_ASSERT_EQUAL(partition[0].handle, 11);
	CU_ASSERT_EQUAL(partition[2].core, 1);
	CU_ASSERT_EQUAL(partition[2].udp_port, HFB_UDP_PORT_DEFAULT + 1);
	rig_forget(&rig);
	ask.name[0] = 'q';
	hfb_session_local_frame(&rig.core, session, (const uint8_t *)&ask, sizeof(ask));
	answer = rig_sent(&rig, HFB_FRAME_METADATA, 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(answer);
	CU_ASSERT_EQUAL(answer->code, HFB_WIRE_NO_TOPIC);
	/* a name longer than the frame */
	ask.get.name_size = 7;
	hfb_session_local_frame(&rig.core, session, (const uint8_t *)&ask, sizeof(ask));
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_DROP_FRAME_SHORT], 1);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "HELLO leaves no state and its answer is smaller",
		  test_hello_is_stateless_and_answered_small },
		{ "OPEN again finds the same session", test_open_is_idempotent },
		{ "a cookie ages and belongs to one address",
		  test_cookies_age_and_belong_to_one_address },
		{ "foreign addresses and unknown sessions are refused",
		  test_foreign_addresses_and_unknown_sessions_are_refused },
		{ "bad frames are counted by reason", test_bad_frames_are_counted_by_reason },
		{ "a full table empties by silence", test_a_full_table_empties_by_silence },
		{ "the table finds whoever is in it", test_the_table_finds_whoever_is_in_it },
		{ "metadata is paged and names the core",
		  test_metadata_is_paged_and_names_the_core },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main_fixture("session", tests, set_up, tear_down);
}
