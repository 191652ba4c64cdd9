/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Feeds: recorded traffic.
 *
 * Goal:   what markets sent is in the log as it is known to have been sent, once, however often
 *	   it is played.
 * Method: captures played as net_pcap does, compared with what is known about them.
 */
#include <stdio.h>
#include <string.h>

#include <jansson.h>
#include <pcap/pcap.h>

#include "hfb_test_main.h"
#include "mold_rig.h"

#define LINES "derived/moldudp64-ab-ritch12012.pcap"
#define IEX   "market/iex-deep-20231002-first5000.pcap"
#define VLAN  "market/small/nasdaq-totalview-moldudp64-2pkts.pcap"

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
	const char *path = hfb_test_capture(LINES);
	struct hfb_feed_config config = mold_config(HFB_FRAMING_MOLDUDP64);
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
	const char *path = hfb_test_capture(IEX);
	struct hfb_feed_config config = mold_config(HFB_FRAMING_IEX_TP);
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
	const char *path = hfb_test_capture(VLAN);
	struct hfb_feed_config config = mold_config(HFB_FRAMING_MOLDUDP64);
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
		{ "captured A and B lines against their truth",
		  test_captured_lines_against_their_truth },
		{ "captured IEX-TP", test_captured_iex },
		{ "captured MoldUDP64 in a VLAN", test_captured_vlan },
		CU_TEST_INFO_NULL,
	};
	if (hfb_test_capture(LINES) == NULL && hfb_test_capture(IEX) == NULL &&
	    hfb_test_capture(VLAN) == NULL) {
		fprintf(stderr, "no captures here: see HFBUS_CAPTURES\n");
		return HFB_TEST_SKIP;
	}
	return hfb_test_main("feed captures", tests);
}
