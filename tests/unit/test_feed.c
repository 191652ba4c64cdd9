/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Feeds: from datagrams to batches.
 *
 * Goal:   the log holds each message once, in order, with gaps exactly where
 *	   nothing came; over restarts, sessions, back-pressure and full disks.
 * Method: real mbufs into a core that has feeds only, over a log in memory that
 *	   refuses when told; what it holds is read back with the readers' parser.
 *	   Recorded traffic is compared with what is known about it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <pcap/pcap.h>

#include "feed_fixture.h"
#include "hfb_test_main.h"

#define MS_NS 1000000ull

static struct hfb_feed_config
feed_config(enum hfb_framing framing)
{
	struct hfb_feed_config c = {
		.name = "test",
		.framing = framing,
		.lines_count = 2,
		.udp_port = 26477,
		.topic = "t",
		.hold_events = 1024,
		.hold_us = 1000,
		.checksum = HFB_CHECKSUM_COUNT,
	};

	for (uint32_t l = 0; l < 2; l++) {
		c.group[l].bytes[10] = c.group[l].bytes[11] = 0xff;
		c.group[l].bytes[12] = 239;
		c.group[l].bytes[13] = 192;
		c.group[l].bytes[14] = 1;
		c.group[l].bytes[15] = (uint8_t)(1 + l);
	}
	return c;
}

static struct feed_fixture *
mold_open(void)
{
	struct hfb_feed_config config = feed_config(HFB_FRAMING_MOLDUDP64);

	return feed_fixture_open(&config, 1);
}

/* Messages first..first+count-1, each "<session><sequence>". */
static void
mold_at(struct feed_fixture *f, uint16_t line, const char *session, uint64_t first, uint16_t count,
	uint64_t port_time_ns)
{
	uint8_t p[1472];
	uint32_t n = 20;

	memset(p, ' ', 10);
	memcpy(p, session, strlen(session));
	for (int i = 0; i < 8; i++)
		p[10 + i] = (uint8_t)(first >> (56 - 8 * i));
	p[18] = (uint8_t)(count >> 8);
	p[19] = (uint8_t)count;
	for (uint16_t i = 0; i < count && count != 0xffff; i++) {
		int size = snprintf((char *)p + n + 2, sizeof(p) - n - 2, "%s%llu", session,
				    (unsigned long long)(first + i));

		p[n] = 0;
		p[n + 1] = (uint8_t)size;
		n += 2 + (uint32_t)size;
	}
	feed_fixture_datagram(f, line, p, n, port_time_ns);
}

static void
mold(struct feed_fixture *f, uint16_t line, uint64_t first, uint16_t count)
{
	mold_at(f, line, "S", first, count, 0);
}

/* Turns of @step_ns until @total_ns are over. */
static void
pass(struct feed_fixture *f, uint64_t total_ns)
{
	for (uint64_t t = 0; t < total_ns; t += 100000)
		feed_fixture_turn(f, 100000);
}

/* Events are first..last of one stream, values as mold_at() makes them. */
static bool
events_are(const struct feed_fixture *f, uint32_t from, const char *session, uint64_t first,
	   uint64_t last)
{
	for (uint64_t q = first; q <= last; q++, from++) {
		char value[64];
		int size = snprintf(value, sizeof(value), "%s%llu", session, (unsigned long long)q);

		if (from >= f->events_count || f->event[from].sequence != q ||
		    f->event[from].value_size != (uint32_t)size ||
		    memcmp(f->event[from].value, value, (size_t)size) != 0)
			return false;
	}
	return true;
}

static uint64_t
line_stat(const struct feed_fixture *f, uint32_t line, enum hfb_feed_line_stat stat)
{
	return f->core.feeds->feed[0].line_stats[line][stat];
}

static uint64_t
feed_stat(const struct feed_fixture *f, enum hfb_feed_stat stat)
{
	return f->core.feeds->feed[0].stats[stat];
}

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
		struct hfb_feed_config config = feed_config(HFB_FRAMING_MOLDUDP64);
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
	struct hfb_feed_config config = feed_config(HFB_FRAMING_MOLDUDP64);
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
test_short_refusals_lose_nothing(void)
{
	struct feed_fixture *f = mold_open();

	mold(f, 0, 1, 5);
	f->refusal = HFB_LOG_RING_FULL;
	for (uint64_t q = 6; q < 106; q += 5)
		mold(f, 0, q, 5);
	CU_ASSERT_TRUE(hfb_feed_paused(&f->core));
	pass(f, 20 * MS_NS);
	CU_ASSERT_TRUE(hfb_feed_paused(&f->core));
	f->refusal = HFB_LOG_OK;
	feed_fixture_turn(f, 1000);
	CU_ASSERT_FALSE(hfb_feed_paused(&f->core));
	mold(f, 0, 106, 1);
	feed_fixture_read(f);
	CU_ASSERT_TRUE(f->sound);
	CU_ASSERT_EQUAL(f->gaps_count, 0);
	CU_ASSERT_EQUAL(f->events_count, 106);
	CU_ASSERT_TRUE(events_are(f, 0, "S", 1, 106));
	CU_ASSERT_EQUAL(feed_fixture_mbufs(f), 0);
	feed_fixture_close(f);
}

static void
test_a_long_refusal_becomes_one_local_gap(void)
{
	struct feed_fixture *f = mold_open();

	mold(f, 0, 1, 5);
	f->refusal = HFB_LOG_RING_FULL;
	mold(f, 0, 6, 5);
	pass(f, 1100 * MS_NS);
	CU_ASSERT_FALSE(hfb_feed_paused(&f->core));
	mold(f, 0, 11, 5);
	mold(f, 0, 16, 5);
	f->refusal = HFB_LOG_OK;
	mold(f, 0, 21, 5);
	feed_fixture_read(f);
	CU_ASSERT_TRUE(f->sound);
	CU_ASSERT_EQUAL(f->gaps_count, 1);
	CU_ASSERT_EQUAL(f->gap[0].first, 6);
	CU_ASSERT_EQUAL(f->gap[0].count, 15);
	CU_ASSERT_EQUAL(f->gap[0].cause, HFB_GAP_LOCAL);
	CU_ASSERT_EQUAL(f->events_count, 10);
	CU_ASSERT_TRUE(events_are(f, 5, "S", 21, 25));
	CU_ASSERT_EQUAL(feed_stat(f, HFB_FEED_MISSING_LOCAL), 15);
	CU_ASSERT_EQUAL(feed_stat(f, HFB_FEED_GAPS_LOCAL), 1);
	feed_fixture_close(f);
}

static void
test_a_full_disk_drops_at_once_and_tells_when_room_returns(void)
{
	struct feed_fixture *f = mold_open();

	mold(f, 0, 1, 5);
	f->refusal = HFB_LOG_NO_SPACE;
	mold(f, 0, 6, 5);
	mold(f, 0, 13, 3); /* 11 and 12 are missing on the wire as well */
	CU_ASSERT_FALSE(hfb_feed_paused(&f->core));
	pass(f, 5 * MS_NS);
	f->refusal = HFB_LOG_OK;
	feed_fixture_turn(f, 1000); /* no packet needed */
	feed_fixture_read(f);
	CU_ASSERT_TRUE(f->sound);
	CU_ASSERT_EQUAL(f->gaps_count, 3);
	CU_ASSERT_EQUAL(f->gap[0].first, 6);
	CU_ASSERT_EQUAL(f->gap[0].count, 5);
	CU_ASSERT_EQUAL(f->gap[0].cause, HFB_GAP_LOCAL);
	CU_ASSERT_EQUAL(f->gap[1].first, 11);
	CU_ASSERT_EQUAL(f->gap[1].count, 2);
	CU_ASSERT_EQUAL(f->gap[1].cause, HFB_GAP_WIRE);
	CU_ASSERT_EQUAL(f->gap[2].first, 13);
	CU_ASSERT_EQUAL(f->gap[2].count, 3);
	CU_ASSERT_EQUAL(f->gap[2].cause, HFB_GAP_LOCAL);
	mold(f, 0, 16, 2);
	feed_fixture_read(f);
	CU_ASSERT_EQUAL(f->events_count, 7);
	CU_ASSERT_EQUAL(f->gaps_count, 3);
	feed_fixture_close(f);
}

static void
test_no_room_for_long_with_losses_all_over(void)
{
	struct feed_fixture *f = mold_open();
	uint64_t covered = 0, next = 1;
	uint32_t e = 0, g = 0;

	/* each breath of room, each loss: everything once, in order */
	f->room_end = 0;
	for (uint64_t q = 1; q < 40000; q += 4) {
		if (q % 97 != 0)
			mold(f, 0, q, 4);
		if (q % 251 == 0)
			f->room_end = f->position + 20000;
		if (q % 37 == 0)
			pass(f, 40 * MS_NS);
	}
	f->room_end = 64u << 20;
	mold(f, 0, 40001, 0);
	pass(f, 5 * MS_NS);
	feed_fixture_read(f);
	CU_ASSERT_TRUE(f->sound);
	while (e < f->events_count || g < f->gaps_count) {
		if (g < f->gaps_count &&
		    (e == f->events_count || f->gap_order[g] < f->event[e].order)) {
			if (f->gap[g].first == next)
				covered += f->gap[g].count;
			next += f->gap[g].count;
			g++;
		} else {
			covered += f->event[e].sequence == next;
			next++;
			e++;
		}
	}
	CU_ASSERT_EQUAL(next, 40001);
	CU_ASSERT_EQUAL(covered, 40000);
	CU_ASSERT_TRUE(f->gaps_count > 10);
	CU_ASSERT_TRUE(f->events_count > 1000);
	CU_ASSERT_EQUAL(feed_fixture_mbufs(f), 0);
	feed_fixture_close(f);
}

static void
test_each_segment_names_the_stream(void)
{
	struct feed_fixture *f = mold_open();

	f->segment_bytes = 8192;
	for (uint64_t q = 1; q <= 3000; q += 10)
		mold(f, 0, q, 10);
	feed_fixture_read(f);
	CU_ASSERT_TRUE(f->sound);
	CU_ASSERT_EQUAL(f->events_count, 3000);
	CU_ASSERT_TRUE(events_are(f, 0, "S", 1, 3000));
	CU_ASSERT_EQUAL(f->starts_count, (f->position - 1) / 8192 + 1);
	feed_fixture_close(f);
}

static void
test_a_datagram_larger_than_a_batch_is_split(void)
{
	struct feed_fixture *f = mold_open();

	f->segment_bytes = 8192; /* batches of at most 2048 */
	mold(f, 0, 1, 120);
	feed_fixture_read(f);
	CU_ASSERT_TRUE(f->sound);
	CU_ASSERT_EQUAL(f->events_count, 120);
	CU_ASSERT_TRUE(events_are(f, 0, "S", 1, 120));
	CU_ASSERT_TRUE(f->batches_count > 2);
	feed_fixture_close(f);
}

static void
test_raw_datagrams_are_events(void)
{
	struct hfb_feed_config config = feed_config(HFB_FRAMING_RAW);
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
		struct hfb_feed_config config = feed_config(HFB_FRAMING_MOLDUDP64);
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
	struct hfb_feed_config c[2] = { feed_config(HFB_FRAMING_RAW),
					feed_config(HFB_FRAMING_RAW) };
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

/* Recorded traffic ---------------------------------------------------------------- */

/* Plays a file as net_pcap does: bursts of 32, stamps in microseconds. */
static bool
play(struct feed_fixture *f, const char *path, uint32_t *ret_frames)
{
	char text[PCAP_ERRBUF_SIZE];
	pcap_t *pcap = pcap_open_offline(path, text);
	struct pcap_pkthdr *header;
	const u_char *bytes;
	uint32_t n = 0;

	if (pcap == NULL)
		return false;
	*ret_frames = 0;
	while (pcap_next_ex(pcap, &header, &bytes) == 1) {
		uint64_t stamp_ns =
			((uint64_t)header->ts.tv_sec * 1000000u + (uint64_t)header->ts.tv_usec) *
			1000u;

		*ret_frames += feed_fixture_frame(f, bytes, header->caplen, stamp_ns);
		if (++n % 32 == 0)
			feed_fixture_turn(f, 10000);
	}
	pcap_close(pcap);
	pass(f, 5 * MS_NS);
	return true;
}

static void
test_captured_lines_against_their_truth(void)
{
	const char *path = hfb_test_capture("derived/moldudp64-ab-ritch12012.pcap");
	struct hfb_feed_config config = feed_config(HFB_FRAMING_MOLDUDP64);
	json_t *truth, *lost;
	struct feed_fixture *f;
	char truth_path[4096];
	uint32_t frames, covered = 0, expected = 0;
	bool exact = true, ordered = true;
	uint64_t next = 1;

	if (path == NULL) {
		printf("(capture absent, skipped) ");
		CU_PASS("skipped");
		return;
	}
	snprintf(truth_path, sizeof(truth_path), "%.*s.truth.json", (int)(strlen(path) - 5), path);
	f = feed_fixture_open(&config, 1);
	CU_ASSERT_TRUE(play(f, path, &frames));
	CU_ASSERT_EQUAL(frames, 16310);
	CU_ASSERT_TRUE(play(f, path, &frames));
	feed_fixture_restart(f);
	CU_ASSERT_TRUE(play(f, path, &frames));
	feed_fixture_read(f);
	CU_ASSERT_TRUE(f->sound);
	CU_ASSERT_EQUAL(f->events_count, 11970);
	truth = json_load_file(truth_path, 0, NULL);
	lost = json_object_get(truth, "lost_on_both");
	CU_ASSERT_TRUE(json_array_size(lost) > 0);
	for (size_t i = 0; i < json_array_size(lost); i++) {
		uint64_t first =
			(uint64_t)json_integer_value(json_array_get(json_array_get(lost, i), 0));
		uint64_t last =
			(uint64_t)json_integer_value(json_array_get(json_array_get(lost, i), 1));

		expected += (uint32_t)(last - first + 1);
		exact = exact && i < f->gaps_count && f->gap[i].first == first &&
			f->gap[i].count == last - first + 1 && f->gap[i].cause == HFB_GAP_WIRE;
		covered++;
	}
	json_decref(truth);
	CU_ASSERT_EQUAL(expected, 42);
	CU_ASSERT_EQUAL(f->gaps_count, covered);
	CU_ASSERT_TRUE(exact);
	for (uint32_t e = 0, g = 0; e < f->events_count; e++, next++) {
		while (g < f->gaps_count && f->gap[g].first == next)
			next += f->gap[g++].count;
		ordered = ordered && f->event[e].sequence == next;
	}
	CU_ASSERT_TRUE(ordered);
	CU_ASSERT_EQUAL(next, 12013);
	CU_ASSERT_EQUAL(feed_fixture_mbufs(f), 0);
	feed_fixture_close(f);
}

static void
test_captured_iex(void)
{
	const char *path = hfb_test_capture("market/iex-deep-20231002-first5000.pcap");
	struct hfb_feed_config config = feed_config(HFB_FRAMING_IEX_TP);
	struct feed_fixture *f;
	uint32_t frames;
	bool ordered = true;

	if (path == NULL) {
		printf("(capture absent, skipped) ");
		CU_PASS("skipped");
		return;
	}
	config.lines_count = 1;
	config.udp_port = 10378;
	memcpy(config.group[0].bytes + 12, "\xe9\xd7\x15\x04", 4);
	f = feed_fixture_open(&config, 1);
	CU_ASSERT_TRUE(play(f, path, &frames));
	CU_ASSERT_EQUAL(frames, 5000);
	CU_ASSERT_TRUE(play(f, path, &frames));
	feed_fixture_read(f);
	CU_ASSERT_TRUE(f->sound);
	CU_ASSERT_EQUAL(f->events_count, 48325);
	CU_ASSERT_EQUAL(f->gaps_count, 0);
	for (uint32_t e = 0; e < f->events_count; e++)
		ordered = ordered && f->event[e].sequence == e + 1 &&
			  f->event[e].event_time_ns > 1696000000000000000ull;
	CU_ASSERT_TRUE(ordered);
	CU_ASSERT_EQUAL(f->start[0].session_size, 10);
	CU_ASSERT_EQUAL(memcmp(f->start[0].session, "0x4cb00000", 10), 0);
	CU_ASSERT_EQUAL(line_stat(f, 0, HFB_FEED_LINE_HEARTBEATS), 2 * 1264);
	feed_fixture_close(f);
}

static void
test_captured_vlan(void)
{
	const char *path = hfb_test_capture("market/small/nasdaq-totalview-moldudp64-2pkts.pcap");
	struct hfb_feed_config config = feed_config(HFB_FRAMING_MOLDUDP64);
	struct feed_fixture *f;
	uint32_t frames;

	if (path == NULL) {
		printf("(capture absent, skipped) ");
		CU_PASS("skipped");
		return;
	}
	config.lines_count = 1;
	memcpy(config.group[0].bytes + 12, "\xe9\x36\x0c\x6f", 4);
	f = feed_fixture_open(&config, 1);
	CU_ASSERT_TRUE(play(f, path, &frames));
	CU_ASSERT_EQUAL(frames, 2);
	feed_fixture_read(f);
	CU_ASSERT_TRUE(f->sound);
	CU_ASSERT_EQUAL(f->events_count, 39);
	CU_ASSERT_EQUAL(f->gaps_count, 1);
	CU_ASSERT_EQUAL(f->gap[0].first + f->gap[0].count,
			f->event[38].sequence < 19009117 ? f->event[1].sequence : 19009117);
	CU_ASSERT_EQUAL(memcmp(f->start[0].session, "000010059B", 10), 0);
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
		{ "short refusals lose nothing", test_short_refusals_lose_nothing },
		{ "a long refusal becomes one local gap",
		  test_a_long_refusal_becomes_one_local_gap },
		{ "a full disk drops at once and tells when room returns",
		  test_a_full_disk_drops_at_once_and_tells_when_room_returns },
		{ "no room for long, losses all over", test_no_room_for_long_with_losses_all_over },
		{ "each segment names the stream", test_each_segment_names_the_stream },
		{ "a datagram larger than a batch is split",
		  test_a_datagram_larger_than_a_batch_is_split },
		{ "raw datagrams are events", test_raw_datagrams_are_events },
		{ "checksums and framing errors are counted",
		  test_checksums_and_framing_errors_are_counted },
		{ "lines are found by group, port and vlan",
		  test_lines_are_found_by_group_port_and_vlan },
		{ "another core's partition gets the packet",
		  test_another_core_s_partition_gets_the_packet },
		{ "IGMP: reports and answers", test_igmp_reports_and_answers },
		{ "captured A and B lines against their truth",
		  test_captured_lines_against_their_truth },
		{ "captured IEX-TP", test_captured_iex },
		{ "captured MoldUDP64 in a VLAN", test_captured_vlan },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("feed", tests);
}
