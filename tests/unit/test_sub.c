/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A local subscriber over a log the test writes.
 *
 * Goal:   events come once, in order and intact: from the ring, from files, lapped by a
 *	   fast writer, over a ring that is replaced and over restarts. What test_sub_marks.c
 *	   has is told instead.
 * Method: a stand-in for hfbusd (sub_rig.c) whose memory and files are changed under
 *	   the reader; a writer thread that laps it; each single fault while opening.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fault.h"
#include "hfb_test_main.h"
#include "sub_read.h"

static void
test_ring_in_order(void)
{
	struct rig *rig = rig_start(NULL);
	struct hfb_bus *bus = rig_bus_open(rig);
	struct hfb_sub *sub = rig_sub_open(bus, HFB_SUB_EARLIEST, 0, false);
	struct hfb_sub_stats stats;
	uint64_t n = 0;

	CU_ASSERT_PTR_NULL(rig_next(sub, 0));
	CU_ASSERT_TRUE(hfb_sub_at_end(sub));
	for (uint32_t i = 1; i < 300; i++) {
		rig_append(rig, 1 + i % 40);
		CU_ASSERT_FALSE(hfb_sub_at_end(sub));
		rig_expect_events(sub, n, rig->offset);
		n = rig->offset;
		CU_ASSERT_PTR_NULL(rig_next(sub, 0));
		CU_ASSERT_TRUE(hfb_sub_at_end(sub));
	}
	hfb_sub_stats_get(sub, &stats);
	CU_ASSERT_EQUAL(stats.events, n);
	CU_ASSERT_EQUAL(stats.file_reads, 0);
	hfb_sub_close(sub);
	hfb_bus_close(bus);
	rig_stop(rig);
}

/* What is committed when received is in the ring alone until the disk has it. */
static void
test_the_whole_ring_before_it_is_durable(void)
{
	struct rig *rig = rig_start(NULL);
	struct hfb_positions *p = &rig->positions[RIG_HANDLE];
	struct hfb_bus *bus = rig_bus_open(rig);
	struct hfb_sub *sub;

	rig->durable_too = false;
	for (int i = 0; i < 20; i++)
		rig_append(rig, 40);
	/* as hfbusd says it after a start, and when a larger ring has just come */
	__atomic_store_n(&p->intent.position, RIG_RING_BYTES, __ATOMIC_RELEASE);
	p->committed.offset = rig->offset;
	__atomic_store_n(&p->committed.position, rig->position, __ATOMIC_RELEASE);
	CU_ASSERT_EQUAL(p->durable.position, 0);
	sub = rig_sub_open(bus, HFB_SUB_EARLIEST, 0, false);
	rig_expect_events(sub, 0, rig->offset);
	CU_ASSERT_TRUE(hfb_sub_at_end(sub));
	hfb_sub_close(sub);
	hfb_bus_close(bus);
	rig_stop(rig);
}

static void
test_files_in_order(void)
{
	struct rig *rig = rig_start(NULL);
	struct hfb_bus *bus;
	struct hfb_sub *sub;
	struct hfb_sub_stats stats;

	/* two segments and a half: the ring holds a tenth of it */
	while (rig->position < RIG_SEGMENT_BYTES * 5ull / 2)
		rig_append(rig, 100);
	bus = rig_bus_open(rig);
	for (int files_only = 0; files_only < 2; files_only++) {
		sub = rig_sub_open(bus, HFB_SUB_EARLIEST, 0, files_only);
		rig_expect_events(sub, 0, rig->offset);
		CU_ASSERT_TRUE(hfb_sub_at_end(sub));
		hfb_sub_stats_get(sub, &stats);
		CU_ASSERT_TRUE(stats.file_reads >= 3); /* one a segment at least */
		CU_ASSERT_EQUAL(stats.ring_reads > 0, !files_only);
		CU_ASSERT_EQUAL(stats.lapped, 0); /* it never was in the ring before */
		hfb_sub_close(sub);
	}
	hfb_bus_close(bus);
	rig_stop(rig);
}

static void
test_places(void)
{
	struct rig *rig = rig_start(NULL);
	struct hfb_bus *bus = rig_bus_open(rig);
	struct hfb_sub_config config = { .topic = "t", .from = HFB_SUB_PLACE };
	struct hfb_sub *sub;
	struct hfb_err err;

	for (int i = 0; i < 20; i++)
		rig_append(rig, 10);
	sub = rig_sub_open(bus, HFB_SUB_OFFSET, 55, false);
	rig_expect_events(sub, 55, 58);
	hfb_sub_place(sub, &config.place); /* inside a batch: it is repeated */
	CU_ASSERT_EQUAL(config.place.offset, 50);
	rig_expect_events(sub, 58, 60);
	hfb_sub_place(sub, &config.place);
	CU_ASSERT_EQUAL(config.place.offset, 60);
	CU_ASSERT_EQUAL(config.place.leader_epoch, 1);
	hfb_sub_close(sub);
	CU_ASSERT_EQUAL_FATAL(hfb_sub_open(bus, &config, &sub, &err), 0);
	rig_expect_events(sub, 60, 200);
	hfb_sub_close(sub);
	sub = rig_sub_open(bus, HFB_SUB_TIME, 1000 + 95, false); /* inside a batch: the next one */
	rig_expect_event(rig_next(sub, 0), 100);
	hfb_sub_close(sub);
	sub = rig_sub_open(bus, HFB_SUB_LATEST, 0, false);
	CU_ASSERT_PTR_NULL(rig_next(sub, 0));
	rig_append(rig, 1);
	rig_expect_event(rig_next(sub, 1000), 200);
	hfb_sub_close(sub);
	/* what is not there */
	config.topic = "other";
	CU_ASSERT_EQUAL(hfb_sub_open(bus, &config, &sub, &err), -ENOENT);
	config.topic = "t";
	config.partition = 1;
	CU_ASSERT_EQUAL(hfb_sub_open(bus, &config, &sub, &err), -ERANGE);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "--partition"));
	hfb_bus_close(bus);
	rig_stop(rig);
}

struct writing {
	struct rig *rig;
	uint32_t batches;
	bool done;
};

static void *
write_fast(void *arg)
{
	struct writing *w = arg;

	for (uint32_t i = 0; i < w->batches; i++) {
		rig_append(w->rig, 30);
		/* bursts: laps a reader, then lets it come back into the ring */
		if (i % 1500 == 1499)
			nanosleep(&(struct timespec){ .tv_nsec = 30000000 }, NULL);
	}
	__atomic_store_n(&w->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static void
test_a_fast_writer_laps(void)
{
	struct rig *rig = rig_start(NULL);
	struct hfb_bus *bus = rig_bus_open(rig);
	struct hfb_sub *sub = rig_sub_open(bus, HFB_SUB_EARLIEST, 0, false);
	struct writing w = { .rig = rig, .batches = 6000 };
	const struct hfb_item *item;
	struct hfb_sub_stats stats;
	uint64_t n = 0, lapped = 0;
	pthread_t thread;

	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, write_fast, &w), 0);
	for (;;) {
		bool done = __atomic_load_n(&w.done, __ATOMIC_ACQUIRE);

		item = rig_next(sub, 10);
		if (item == NULL) {
			if (done && hfb_sub_at_end(sub))
				break;
			continue;
		}
		if (item->kind == HFB_ITEM_LAPPED) {
			CU_ASSERT_EQUAL(item->mark.to_position, item->mark.from_position);
			lapped++;
			continue;
		}
		rig_expect_event(item, n);
		n++;
		if (n % 20000 == 10000) /* now and then it is slow */
			nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
	}
	pthread_join(thread, NULL);
	CU_ASSERT_EQUAL(n, 6000u * 30u);
	hfb_sub_stats_get(sub, &stats);
	CU_ASSERT_TRUE(lapped > 0);
	CU_ASSERT_TRUE(stats.ring_reads > 0);
	CU_ASSERT_TRUE(stats.file_reads > 0);
	CU_ASSERT_EQUAL(stats.corrupt, 0);
	hfb_sub_close(sub);
	hfb_bus_close(bus);
	rig_stop(rig);
}

/* The ring is replaced while a reader is in it: nothing has overtaken it, and nothing says so. */
static void
test_a_larger_ring_laps_nobody(void)
{
	struct rig *rig = rig_start(NULL);
	struct hfb_bus *bus = rig_bus_open(rig);
	struct hfb_sub *sub = rig_sub_open(bus, HFB_SUB_EARLIEST, 0, false);
	struct hfb_sub_stats before, after;

	CU_ASSERT_PTR_NULL(rig_next(sub, 0));
	for (uint32_t i = 0; i < 60; i++)
		rig_append(rig, 100);
	rig_expect_events(sub, 0, 10);
	rig_ring_grow_begin(rig);
	rig_expect_events(sub, 10, 1500); /* more than one piece of the ring */
	rig_ring_grow_end(rig);
	rig_expect_events(sub, 1500, 3000);
	rig_ring_grow_begin(rig);
	rig_ring_grow_end(rig);
	rig_expect_events(sub, 3000, 6000);
	/* and once there is some way to what is overwritten it reads on in the new one */
	hfb_sub_stats_get(sub, &before);
	for (uint64_t i = 6000; i < 31000; i += 100) {
		rig_append(rig, 100);
		rig_expect_events(sub, i, i + 100);
	}
	hfb_sub_stats_get(sub, &after);
	CU_ASSERT_TRUE(after.ring_reads > before.ring_reads);
	CU_ASSERT_EQUAL(after.lapped, 0);
	CU_ASSERT_EQUAL(after.corrupt, 0);
	hfb_sub_close(sub);
	hfb_bus_close(bus);
	rig_stop(rig);
}

/* A reader that stood still meanwhile fell behind the ring it was in. */
static void
test_a_larger_ring_hides_no_lap(void)
{
	struct rig *rig = rig_start(NULL);
	struct hfb_bus *bus = rig_bus_open(rig);
	struct hfb_sub *sub = rig_sub_open(bus, HFB_SUB_EARLIEST, 0, false);
	const struct hfb_item *item;

	CU_ASSERT_PTR_NULL(rig_next(sub, 0));
	rig_append(rig, 100);
	rig_expect_events(sub, 0, 100);
	for (uint32_t i = 0; i < 150; i++)
		rig_append(rig, 100);
	CU_ASSERT_TRUE_FATAL(rig->position > RIG_RING_BYTES + 65536);
	rig_ring_grow_begin(rig);
	rig_ring_grow_end(rig);
	item = rig_next(sub, 1000);
	CU_ASSERT_PTR_NOT_NULL_FATAL(item);
	CU_ASSERT_EQUAL(item->kind, HFB_ITEM_LAPPED);
	rig_expect_events(sub, 100, 15100);
	hfb_sub_close(sub);
	hfb_bus_close(bus);
	rig_stop(rig);
}

/* An offset that is not there yet is waited for. */
static void
test_an_offset_beyond_the_end_is_waited_for(void)
{
	struct rig *rig = rig_start(NULL);
	struct hfb_bus *bus = rig_bus_open(rig);
	struct hfb_sub *sub;

	rig_append(rig, 10);
	sub = rig_sub_open(bus, HFB_SUB_OFFSET, 15, false);
	CU_ASSERT_PTR_NULL(rig_next(sub, 0));
	rig_append(rig, 3);
	CU_ASSERT_PTR_NULL(rig_next(sub, 0));
	rig_append(rig, 7);
	rig_expect_events(sub, 15, 20);
	hfb_sub_close(sub);
	hfb_bus_close(bus);
	rig_stop(rig);
}

static void
test_restart_goes_on(void)
{
	struct rig *rig = rig_start(NULL), *again;
	struct hfb_bus *bus = rig_bus_open(rig);
	struct hfb_sub *sub = rig_sub_open(bus, HFB_SUB_EARLIEST, 0, false);
	uint64_t position, offset;
	struct hfb_sub_stats stats;

	for (int i = 0; i < 50; i++)
		rig_append(rig, 10);
	rig_expect_events(sub, 0, 300);
	position = rig->position;
	offset = rig->offset;
	again = rig;
	rig_stop(again);
	/* it is gone: what it had published is still read, then we wait */
	rig_expect_events(sub, 300, 500);
	CU_ASSERT_PTR_NULL(rig_next(sub, 50));
	rig = rig_start(bus != NULL ? hfb_bus_data_dir(bus) : NULL);
	rig_resume(rig, 2, position, offset);
	rig_append(rig, 10);
	rig_expect_events(sub, 500, 510);
	hfb_sub_stats_get(sub, &stats);
	CU_ASSERT_EQUAL(stats.reconnects, 1);
	CU_ASSERT_EQUAL(stats.truncated, 0);
	CU_ASSERT_EQUAL(hfb_bus_epoch(bus), 2);
	hfb_sub_close(sub);
	hfb_bus_close(bus);
	rig_stop(rig);
}

static void
stream_start(struct rig *rig, uint64_t key, const char *session)
{
	struct hfb_batch fields = { .flags = HFB_BATCH_CONTROL | HFB_BATCH_STREAM,
				    .producer_id = key,
				    .base_sequence = HFB_CONTROL_STREAM_START };
	struct hfb_control_stream start = { .control = { HFB_CONTROL_STREAM_START, 1, 0 },
					    .framing = HFB_FRAMING_IEX_TP,
					    .feed_size = 3 };

	start.session_size = (uint8_t)strlen(session);
	memcpy(start.session, session, strlen(session));
	memcpy(start.feed, "iex", 3);
	rig_append_bytes(rig, &fields, &start, sizeof(start));
}

static void
stream_event(struct rig *rig, uint64_t key, uint64_t sequence)
{
	struct hfb_batch fields = {
		.flags = HFB_BATCH_STREAM, .producer_id = key, .count = 1, .base_sequence = sequence
	};
	uint8_t payload[24] = { 0 };
	struct hfb_record r = { .value_size = 8, .key_size = HFB_KEY_NULL, .event_time_ns = 777 };

	memcpy(payload, &r, sizeof(r));
	memcpy(payload + 16, "message!", 8);
	rig_append_bytes(rig, &fields, payload, sizeof(payload));
}

static void
test_feeds_have_sessions(void)
{
	struct rig *rig = rig_start(NULL);
	struct hfb_bus *bus = rig_bus_open(rig);
	struct hfb_batch fields = { .flags = HFB_BATCH_CONTROL | HFB_BATCH_STREAM,
				    .producer_id = 5,
				    .count = 1,
				    .base_sequence = 103 };
	struct hfb_control_gap gap = { .control = { HFB_CONTROL_GAP, 1, 0 },
				       .first = 103,
				       .count = 4,
				       .cause = HFB_GAP_WIRE };
	const struct hfb_item *item;
	struct hfb_sub *sub;

	stream_start(rig, 5, "S5");
	stream_start(rig, 6, "S6");
	for (uint64_t i = 0; i < 3; i++)
		stream_event(rig, 5, 100 + i);
	rig_append_bytes(rig, &fields, &gap, sizeof(gap));
	stream_event(rig, 6, 1);
	for (int from = 0; from < 5; from++) {
		/* from inside: the session is found behind */
		sub = rig_sub_open(bus, HFB_SUB_OFFSET, (uint64_t)from, from % 2 != 0);
		for (uint64_t i = (uint64_t)from; i < 5; i++) {
			item = rig_next(sub, 1000);
			CU_ASSERT_PTR_NOT_NULL_FATAL(item);
			CU_ASSERT_EQUAL(item->kind, i == 3 ? HFB_ITEM_GAP : HFB_ITEM_EVENT);
			CU_ASSERT_EQUAL(item->offset, i);
			CU_ASSERT_TRUE(item->is_feed);
			CU_ASSERT_STRING_EQUAL(item->feed.session, i == 4 ? "S6" : "S5");
			CU_ASSERT_STRING_EQUAL(item->feed.feed, "iex");
			CU_ASSERT_EQUAL(item->feed.sequence, i == 4 ? 1 : 100 + i);
			if (i == 3) {
				CU_ASSERT_EQUAL(item->feed.gap_count, 4);
				CU_ASSERT_EQUAL(item->feed.gap_cause, HFB_GAP_WIRE);
			} else {
				CU_ASSERT_EQUAL(item->event.event_time_ns, 777);
			}
		}
		CU_ASSERT_TRUE(hfb_sub_at_end(sub));
		hfb_sub_close(sub);
	}
	hfb_bus_close(bus);
	rig_stop(rig);
}

static uint32_t
fds_count(void)
{
	DIR *dir = opendir("/proc/self/fd");
	uint32_t n = 0;

	while (dir != NULL && readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

static void
test_each_single_fault_leaves_no_trace(void)
{
	struct rig *rig = rig_start(NULL);
	struct hfb_bus_config bus_config = { .data_dir = rig->folder };
	struct hfb_sub_config sub_config = { .topic = "t", .from = HFB_SUB_EARLIEST };
	struct hfb_pub_config pub_config = { .topic = "t", .partition = -1, .ack = -1 };
	struct hfb_event event = { .value = "x", .value_size = 1 };
	bool spent = true;
	uint32_t step, failures = 0, before;

	rig_append(rig, 10);
	{
		/* whatever is opened once, the stand-in's channel too */
		struct hfb_bus *bus = rig_bus_open(rig);
		struct hfb_pub *pub = NULL;
		struct hfb_err err;

		CU_ASSERT_EQUAL(hfb_pub_open(bus, &pub_config, &pub, &err), 0);
		hfb_pub_close(pub);
		hfb_bus_close(bus);
	}
	usleep(20000);
	before = fds_count();
	for (step = 0; spent && step < 100; step++) {
		const struct hfb_item *item;
		struct hfb_bus *bus = NULL;
		struct hfb_sub *sub = NULL;
		struct hfb_pub *pub = NULL;
		struct hfb_err err = { 0 };
		int r;

		hfb_fault_arm(step);
		r = hfb_bus_open(&bus_config, &bus, &err);
		if (r == 0)
			r = hfb_sub_open(bus, &sub_config, &sub, &err);
		if (r == 0)
			r = hfb_pub_open(bus, &pub_config, &pub, &err);
		if (r == 0)
			r = hfb_pub_send(pub, &event, &err);
		if (r == 0)
			r = hfb_sub_next(sub, 0, &item, &err) == 1 ? 0 : -EIO;
		spent = hfb_fault_disarm();
		failures += r < 0;
		CU_ASSERT_TRUE(r == 0 || spent);
		CU_ASSERT_TRUE(r == 0 || r == -EIO || err.text[0] != '\0');
		hfb_pub_close(pub);
		hfb_sub_close(sub);
		hfb_bus_close(bus);
		for (int i = 0; i < 200 && fds_count() != before; i++)
			usleep(1000); /* the stand-in closes its side */
		CU_ASSERT_EQUAL(fds_count(), before);
	}
	CU_ASSERT_FALSE(spent);
	CU_ASSERT_TRUE(failures > 5);
	rig_stop(rig);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "the ring is read in order", test_ring_in_order },
		{ "the whole ring is read before it is durable",
		  test_the_whole_ring_before_it_is_durable },
		{ "the files are read in order, over segments", test_files_in_order },
		{ "places to begin", test_places },
		{ "a fast writer laps the reader, which loses nothing", test_a_fast_writer_laps },
		{ "a larger ring laps nobody", test_a_larger_ring_laps_nobody },
		{ "a larger ring hides no lap", test_a_larger_ring_hides_no_lap },
		{ "an offset beyond the end is waited for",
		  test_an_offset_beyond_the_end_is_waited_for },
		{ "after a restart reading goes on", test_restart_goes_on },
		{ "feeds have sessions, found behind too", test_feeds_have_sessions },
		{ "each single fault leaves no trace", test_each_single_fault_leaves_no_trace },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("sub", tests);
}
