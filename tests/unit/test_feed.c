/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Feeds: from datagrams to batches.
 *
 * Goal:   the log holds each message once, in order, with gaps exactly where
 *	   nothing came; over restarts and sessions.
 * Method: real mbufs into a core that has feeds only, over a log in memory; what it
 *	   holds is read back with the readers' parser.
 */
#include <string.h>

#include "hfb_test_main.h"
#include "mold_rig.h"

static void
test_two_lines_make_one_stream(void)
{
	struct feed_fixture *f = mold_open();

	mold(f, 0, 1, 3);
	mold(f, 1, 1, 5);
	mold(f, 1, 6, 1);
	mold(f, 0, 4, 4);
	mold(f, 0, 8, 0);
	mold(f, 1, 8, 0xffff);
	pass(f, 3 * MS_NS);
	feed_fixture_read(f);
	CU_ASSERT_TRUE(f->sound);
	CU_ASSERT_EQUAL(f->events_count, 7);
	CU_ASSERT_TRUE(events_are(f, 0, "S", 1, 7));
	CU_ASSERT_EQUAL(f->gaps_count, 0);
	CU_ASSERT_EQUAL(f->starts_count, 1);
	CU_ASSERT_EQUAL(f->start[0].session_size, 1);
	CU_ASSERT_EQUAL(f->start[0].session[0], 'S');
	CU_ASSERT_EQUAL(f->start[0].framing, HFB_FRAMING_MOLDUDP64);
	CU_ASSERT_EQUAL(f->start[0].next_sequence, 1);
	CU_ASSERT_EQUAL(f->start[0].feed_size, 4);
	CU_ASSERT_EQUAL(line_stat(f, 0, HFB_FEED_LINE_FIRST_WINS), 4);
	CU_ASSERT_EQUAL(line_stat(f, 1, HFB_FEED_LINE_FIRST_WINS), 3);
	CU_ASSERT_EQUAL(line_stat(f, 0, HFB_FEED_LINE_DUPLICATES), 3);
	CU_ASSERT_EQUAL(line_stat(f, 0, HFB_FEED_LINE_HEARTBEATS), 1);
	CU_ASSERT_EQUAL(line_stat(f, 1, HFB_FEED_LINE_END_OF_SESSION), 1);
	feed_fixture_close(f);
}

static void
test_a_gap_by_time_without_packets(void)
{
	struct feed_fixture *f = mold_open();

	mold(f, 0, 1, 2);
	mold(f, 0, 5, 2);
	feed_fixture_turn(f, 1000);
	CU_ASSERT_TRUE(feed_fixture_mbufs(f) > 0);
	pass(f, 3 * MS_NS);
	CU_ASSERT_EQUAL(feed_fixture_mbufs(f), 0);
	mold(f, 1, 3, 2);
	feed_fixture_read(f);
	CU_ASSERT_TRUE(f->sound);
	CU_ASSERT_EQUAL(f->gaps_count, 1);
	CU_ASSERT_EQUAL(f->gap[0].first, 3);
	CU_ASSERT_EQUAL(f->gap[0].count, 2);
	CU_ASSERT_EQUAL(f->gap[0].cause, HFB_GAP_WIRE);
	CU_ASSERT_EQUAL(f->gap_order[0], 2);
	CU_ASSERT_EQUAL(f->events_count, 4);
	CU_ASSERT_EQUAL(line_stat(f, 1, HFB_FEED_LINE_LATE), 2);
	CU_ASSERT_EQUAL(feed_stat(f, HFB_FEED_MISSING_WIRE), 2);
	feed_fixture_close(f);
}

static void
test_stamped_time_is_the_port_s(void)
{
	struct feed_fixture *f = mold_open();

	/* A core that stood still between two packets gives up on nothing... */
	mold_at(f, 0, "S", 1, 1, 1000 * MS_NS);
	mold_at(f, 0, "S", 3, 1, 1000 * MS_NS + 100);
	feed_fixture_turn(f, 50 * MS_NS);
	mold_at(f, 1, "S", 2, 1, 1000 * MS_NS + 200);
	/* ... and a capture played at once still has its own time. */
	mold_at(f, 0, "S", 5, 1, 1000 * MS_NS + 300);
	mold_at(f, 0, "S", 6, 1, 1001 * MS_NS + 301);
	mold_at(f, 1, "S", 4, 1, 1001 * MS_NS + 302);
	feed_fixture_read(f);
	CU_ASSERT_TRUE(f->sound);
	CU_ASSERT_EQUAL(f->gaps_count, 1);
	CU_ASSERT_EQUAL(f->gap[0].first, 4);
	CU_ASSERT_EQUAL(f->gap[0].count, 1);
	CU_ASSERT_EQUAL(f->events_count, 5);
	CU_ASSERT_EQUAL(line_stat(f, 1, HFB_FEED_LINE_LATE), 1);
	feed_fixture_close(f);
}

static void
test_port_stamps_go_into_the_extension(void)
{
	struct feed_fixture *f = mold_open();

	f->config.ports[0].timestamps = true;
	mold_at(f, 0, "S", 1, 2, 5 * MS_NS);
	mold_at(f, 0, "S", 3, 1, 0);
	feed_fixture_read(f);
	CU_ASSERT_TRUE(f->sound);
	CU_ASSERT_EQUAL(f->events_count, 3);
	CU_ASSERT_EQUAL(f->event[0].port_time_ns, 5 * MS_NS);
	CU_ASSERT_EQUAL(f->event[2].port_time_ns, 0);
	feed_fixture_close(f);
}

static void
test_played_again_adds_nothing(void)
{
	struct feed_fixture *f = mold_open();

	for (int run = 0; run < 3; run++) {
		for (uint64_t q = 1; q < 500; q += 5) {
			if (q != 101)
				mold(f, 0, q, 5);
			if (q != 101 && q != 201)
				mold(f, 1, q, 5);
		}
		pass(f, 3 * MS_NS);
		if (run == 1)
			feed_fixture_restart(f);
	}
	feed_fixture_read(f);
	CU_ASSERT_TRUE(f->sound);
	CU_ASSERT_EQUAL(f->events_count, 495);
	CU_ASSERT_EQUAL(f->gaps_count, 1);
	CU_ASSERT_EQUAL(f->gap[0].first, 101);
	CU_ASSERT_EQUAL(f->gap[0].count, 5);
	CU_ASSERT_EQUAL(f->starts_count, 1);
	feed_fixture_close(f);
}

static void
test_after_a_restart_the_stream_goes_on(void)
{
	struct feed_fixture *f = mold_open();

	mold(f, 0, 1, 10);
	feed_fixture_restart(f);
	mold(f, 0, 6, 10);
	mold(f, 0, 20, 1);
	pass(f, 3 * MS_NS);
	feed_fixture_read(f);
	CU_ASSERT_TRUE(f->sound);
	CU_ASSERT_EQUAL(f->events_count, 16);
	CU_ASSERT_TRUE(events_are(f, 0, "S", 1, 15));
	CU_ASSERT_EQUAL(f->gaps_count, 1);
	CU_ASSERT_EQUAL(f->gap[0].first, 16);
	CU_ASSERT_EQUAL(f->gap[0].count, 4);
	CU_ASSERT_EQUAL(f->starts_count, 2); /* one a run: the reader may begin anywhere */
	CU_ASSERT_EQUAL(f->start[1].next_sequence, 11);
	feed_fixture_close(f);
}

static void
test_a_late_joiner_reports_no_gap_before_it(void)
{
	struct feed_fixture *f = mold_open();

	mold(f, 0, 5000, 3);
	mold(f, 1, 4990, 15);
	pass(f, 3 * MS_NS);
	feed_fixture_read(f);
	CU_ASSERT_EQUAL(f->gaps_count, 0);
	CU_ASSERT_EQUAL(f->events_count, 5);
	CU_ASSERT_TRUE(events_are(f, 0, "S", 5000, 5004));
	feed_fixture_close(f);
}

static void
test_sessions_are_streams_of_their_own(void)
{
	struct feed_fixture *f = mold_open();

	mold_at(f, 0, "OLD", 1, 5, 0);
	mold_at(f, 0, "NEW", 1, 3, 0);
	mold_at(f, 1, "OLD", 3, 4, 0); /* the lagging line ends the old one */
	mold_at(f, 1, "NEW", 1, 4, 0);
	for (char s[] = "A"; s[0] <= 'F'; s[0]++)
		mold_at(f, 0, s, 1, 1, 0);
	mold_at(f, 0, "NEW", 5, 1, 0); /* put aside meanwhile: the log knows it */
	mold_at(f, 0, "NEW", 1, 5, 0);
	feed_fixture_read(f);
	CU_ASSERT_TRUE(f->sound);
	CU_ASSERT_EQUAL(f->gaps_count, 0);
	CU_ASSERT_EQUAL(f->events_count, 6 + 4 + 6 + 1);
	CU_ASSERT_TRUE(events_are(f, 0, "OLD", 1, 5));
	CU_ASSERT_TRUE(events_are(f, 5, "NEW", 1, 3));
	CU_ASSERT_TRUE(events_are(f, 8, "OLD", 6, 6));
	CU_ASSERT_TRUE(events_are(f, 9, "NEW", 4, 4));
	CU_ASSERT_TRUE(events_are(f, 16, "NEW", 5, 5));
	CU_ASSERT_NOT_EQUAL(f->event[0].key, f->event[5].key);
	CU_ASSERT_EQUAL(f->event[5].key, f->event[16].key);
	feed_fixture_close(f);
}

static void
test_a_restart_is_late_unless_it_is_allowed(void)
{
	for (int accept = 0; accept < 2; accept++) {
		struct hfb_feed_config config = mold_config(HFB_FRAMING_MOLDUDP64);
		struct feed_fixture *f;

		config.hold_events = 16;
		config.restart = accept ? HFB_RESTART_ACCEPT : HFB_RESTART_NEW_SESSION;
		f = feed_fixture_open(&config, 1);
		mold(f, 0, 1, 60);
		mold(f, 1, 1, 50);
		pass(f, 5 * MS_NS);
		mold(f, 0, 1, 5);   /* line A restarts */
		mold(f, 1, 51, 10); /* line B still brings the end of the first run */
		pass(f, 5 * MS_NS);
		mold(f, 1, 1, 7); /* and restarts as well */
		mold(f, 0, 6, 4);
		pass(f, 5 * MS_NS);
		feed_fixture_read(f);
		CU_ASSERT_TRUE(f->sound);
		CU_ASSERT_EQUAL(f->gaps_count, 0);
		CU_ASSERT_TRUE(events_are(f, 0, "S", 1, 60));
		CU_ASSERT_EQUAL(f->events_count, accept ? 69 : 60);
		CU_ASSERT_EQUAL(feed_stat(f, HFB_FEED_RESTARTS), accept ? 1 : 0);
		if (accept) {
			CU_ASSERT_TRUE(events_are(f, 60, "S", 1, 9));
			CU_ASSERT_NOT_EQUAL(f->event[0].key, f->event[60].key);
			/* the next run of hfbusd finds the latest again */
			feed_fixture_restart(f);
			mold(f, 0, 10, 2);
			feed_fixture_read(f);
			CU_ASSERT_EQUAL(f->events_count, 71);
			CU_ASSERT_EQUAL(f->event[70].key, f->event[60].key);
		}
		feed_fixture_close(f);
	}
}

static void
test_a_capture_played_again_is_no_restart(void)
{
	struct hfb_feed_config config = mold_config(HFB_FRAMING_MOLDUDP64);
	struct feed_fixture *f;

	config.hold_events = 16;
	config.restart = HFB_RESTART_ACCEPT;
	f = feed_fixture_open(&config, 1);
	for (int run = 0; run < 3; run++) {
		for (uint64_t q = 0; q < 10; q++)
			mold_at(f, 0, "S", 1 + 10 * q, 10, (1000 + q) * MS_NS);
		pass(f, 5 * MS_NS);
		if (run == 1)
			feed_fixture_restart(f);
	}
	feed_fixture_read(f);
	CU_ASSERT_EQUAL(f->events_count, 100);
	CU_ASSERT_EQUAL(feed_stat(f, HFB_FEED_RESTARTS), 0);
	feed_fixture_close(f);
}

static void
test_raw_datagrams_are_events(void)
{
	struct hfb_feed_config config = mold_config(HFB_FRAMING_RAW);
	struct feed_fixture *f = feed_fixture_open(&config, 1);

	feed_fixture_datagram(f, 0, (const uint8_t *)"<1>one", 6, 0);
	feed_fixture_datagram(f, 1, (const uint8_t *)"<1>one", 6, 0);
	f->refusal = HFB_LOG_PREPARING;
	feed_fixture_datagram(f, 0, (const uint8_t *)"", 0, 0);
	f->refusal = HFB_LOG_OK;
	feed_fixture_turn(f, 1000);
	feed_fixture_read(f);
	CU_ASSERT_TRUE(f->sound);
	CU_ASSERT_EQUAL(f->events_count, 3);
	CU_ASSERT_EQUAL(f->starts_count, 0);
	CU_ASSERT_EQUAL(f->event[0].key, 0);
	CU_ASSERT_EQUAL(f->event[0].value_size, 6);
	CU_ASSERT_EQUAL(f->event[2].value_size, 0);
	CU_ASSERT_EQUAL(f->gaps_count, 0);
	feed_fixture_close(f);
}

static void
test_checksums_and_framing_errors_are_counted(void)
{
	for (int policy = HFB_CHECKSUM_OFF; policy <= HFB_CHECKSUM_DROP; policy++) {
		struct hfb_feed_config config = mold_config(HFB_FRAMING_MOLDUDP64);
		struct feed_fixture *f;
		struct rte_mbuf *mbuf;
		struct hfb_packet packet = { .checksum_bad = true };

		config.checksum = (enum hfb_checksum_policy)policy;
		f = feed_fixture_open(&config, 1);
		mbuf = rte_pktmbuf_alloc(f->pool);
		packet.mbuf = mbuf;
		packet.payload_bytes = 23;
		packet.payload = (uint8_t *)rte_pktmbuf_append(mbuf, 23);
		memcpy((uint8_t *)(uintptr_t)packet.payload, "S         \0\0\0\0\0\0\0\1\0\1\0\1x",
		       23);
		hfb_feed_input(&f->core, 0, &packet);
		rte_pktmbuf_free(mbuf);
		feed_fixture_datagram(f, 0, (const uint8_t *)"short", 5, 0);
		feed_fixture_read(f);
		CU_ASSERT_EQUAL(f->events_count, policy == HFB_CHECKSUM_DROP ? 0 : 1);
		CU_ASSERT_EQUAL(line_stat(f, 0, HFB_FEED_LINE_CHECKSUM_BAD),
				policy == HFB_CHECKSUM_OFF ? 0 : 1);
		CU_ASSERT_EQUAL(line_stat(f, 0, HFB_FEED_LINE_FRAMING_ERRORS), 1);
		feed_fixture_close(f);
	}
}

static void
test_lines_are_found_by_group_port_and_vlan(void)
{
	struct hfb_feed_config c[2] = { mold_config(HFB_FRAMING_RAW),
					mold_config(HFB_FRAMING_RAW) };
	struct hfb_packet packet = { .destination_port = 26477 };
	struct feed_fixture *f;
	struct hfb_err err;

	c[1].vlan = 7;
	c[1].lines_count = 1;
	f = feed_fixture_open(c, 2);
	packet.destination = c[0].group[1];
	CU_ASSERT_EQUAL(hfb_feed_line_find(&f->core, &packet), 1);
	packet.destination = c[0].group[0];
	CU_ASSERT_EQUAL(hfb_feed_line_find(&f->core, &packet), 0);
	packet.vlan = 7;
	CU_ASSERT_EQUAL(hfb_feed_line_find(&f->core, &packet), 2);
	packet.vlan = 8;
	CU_ASSERT_EQUAL(hfb_feed_line_find(&f->core, &packet), 0);
	packet.destination_port = 1;
	CU_ASSERT_EQUAL(hfb_feed_line_find(&f->core, &packet), -1);

	/* the same line twice is a mistake in the configuration */
	hfb_feeds_destroy(&f->core);
	f->config.feeds[1].vlan = 0;
	CU_ASSERT_TRUE(hfb_feeds_create(&f->core, &err) < 0);
	CU_ASSERT_PTR_NULL(f->core.feeds);
	f->config.feeds_count = 1;
	CU_ASSERT_EQUAL(hfb_feeds_create(&f->core, &err), 0);
	feed_fixture_close(f);
}

static void
test_another_core_s_partition_gets_the_packet(void)
{
	struct feed_fixture *f = mold_open();

	f->partition.core = 3;
	mold(f, 0, 1, 1);
	CU_ASSERT_EQUAL(f->handed, 1);
	CU_ASSERT_EQUAL(feed_fixture_mbufs(f), 0);
	hfb_feed_bind(&f->core, 0, NULL);
	mold(f, 0, 1, 1);
	CU_ASSERT_EQUAL(feed_stat(f, HFB_FEED_UNBOUND), 1);
	feed_fixture_read(f);
	CU_ASSERT_EQUAL(f->events_count, 0);
	f->partition.core = 0;
	feed_fixture_close(f);
}

static void
test_igmp_reports_and_answers(void)
{
	static const uint8_t query_v2[] = {
		0x46, 0, 0, 32, 0,    0, 0, 0, 1,    2,	  0,	0,    10, 0, 0, 1,
		224,  0, 0, 1,	0x94, 4, 0, 0, 0x11, 100, 0xee, 0x9b, 0,  0, 0, 0,
	};
	struct feed_fixture *f = mold_open();

	pass(f, 1 * MS_NS);
	CU_ASSERT_EQUAL(f->sent, 0); /* no address, no report */
	f->config.ports[0].ip.bytes[10] = f->config.ports[0].ip.bytes[11] = 0xff;
	memcpy(f->config.ports[0].ip.bytes + 12, "\x0a\0\0\x02", 4);
	feed_fixture_restart(f);
	pass(f, 1 * MS_NS);
	CU_ASSERT_EQUAL(f->sent, 4); /* two groups, both versions */
	/* the last is a v3 report for line B: 01:00:5e:00:00:16, protocol 2, TTL 1 */
	CU_ASSERT_EQUAL(f->sent_bytes, 14 + 24 + 16);
	CU_ASSERT_EQUAL(memcmp(f->sent_frame, "\x01\0\x5e\0\0\x16", 6), 0);
	CU_ASSERT_EQUAL(f->sent_frame[14 + 8], 1);
	CU_ASSERT_EQUAL(f->sent_frame[14 + 9], 2);
	CU_ASSERT_EQUAL(f->sent_frame[14 + 24], 0x22);
	CU_ASSERT_EQUAL(memcmp(f->sent_frame + 14 + 24 + 12, "\xef\xc0\x01\x02", 4), 0);
	f->core.now_ns += 30000 * MS_NS;
	pass(f, 30000 * MS_NS);
	CU_ASSERT_EQUAL(f->sent, 12); /* repeated twice more, then silence */
	hfb_igmp_input(&f->core, 0, query_v2, sizeof(query_v2));
	pass(f, 11000 * MS_NS);
	CU_ASSERT_EQUAL(f->sent, 14);
	CU_ASSERT_EQUAL(f->sent_frame[14 + 24], 0x16);
	hfb_igmp_input(&f->core, 0, query_v2, sizeof(query_v2) - 1);
	hfb_igmp_input(&f->core, 0, (const uint8_t *)"", 0);
	pass(f, 11000 * MS_NS);
	CU_ASSERT_EQUAL(f->sent, 14);
	CU_ASSERT_EQUAL(feed_fixture_mbufs(f), 0);
	feed_fixture_close(f);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "two lines make one stream", test_two_lines_make_one_stream },
		{ "a gap by time, without packets", test_a_gap_by_time_without_packets },
		{ "stamped time is the port's", test_stamped_time_is_the_port_s },
		{ "port stamps go into the extension", test_port_stamps_go_into_the_extension },
		{ "played again adds nothing", test_played_again_adds_nothing },
		{ "after a restart the stream goes on", test_after_a_restart_the_stream_goes_on },
		{ "a late joiner reports no gap before it",
		  test_a_late_joiner_reports_no_gap_before_it },
		{ "sessions are streams of their own", test_sessions_are_streams_of_their_own },
		{ "a restart is late unless it is allowed",
		  test_a_restart_is_late_unless_it_is_allowed },
		{ "a capture played again is no restart",
		  test_a_capture_played_again_is_no_restart },
		{ "raw datagrams are events", test_raw_datagrams_are_events },
		{ "checksums and framing errors are counted",
		  test_checksums_and_framing_errors_are_counted },
		{ "lines are found by group, port and vlan",
		  test_lines_are_found_by_group_port_and_vlan },
		{ "another core's partition gets the packet",
		  test_another_core_s_partition_gets_the_packet },
		{ "IGMP: reports and answers", test_igmp_reports_and_answers },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("feed", tests);
}
