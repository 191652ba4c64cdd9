/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The live log: from claim to disk and back.
 *
 * Goal:   what is durable is on disk byte for byte, over any number of segments,
 *	   ring laps and restarts; sizes and padding keep the rules of the format.
 * Method: append batches of random size whose payload follows from their number,
 *	   then read the segment files by themselves and check every byte.
 */
#include "writer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <hfbus/wire.h>

#include "batch.h"
#include "clock.h"
#include "crc32c.h"
#include "hfb_test_main.h"
#include "log_rig.h"

#ifdef HFB_HAS_JEMALLOC
#include <jemalloc/jemalloc.h>
#endif

#define MIB (1u << 20)

static uint32_t
size_random(uint32_t max)
{
	uint32_t n = (uint32_t)(hfb_test_random() % (max / 8)) * 8;

	/* small ones mostly, now and then one of the largest */
	return 16 + (hfb_test_random() % 8 == 0 ? n : n % 1024);
}

static void
append_many(struct rig *rig, uint32_t n, uint32_t payload_max)
{
	payload_max -= HFB_BATCH_HEADER_BYTES + 16;
	for (uint32_t i = 0; i < n; i++) {
		if (!rig_append(rig, size_random(payload_max))) {
			CU_FAIL("an append was refused for good");
			return;
		}
		if (i % 16 == 0)
			rig_poll(rig);
	}
	CU_ASSERT_TRUE(rig_drain(rig));
}

static void
test_bytes_come_back_over_many_segments(void)
{
	struct rig_config config = { .ring_bytes_max = MIB,
				     .segment_bytes_max = MIB,
				     .commit_stage = HFB_STAGE_DURABLE };
	struct rig rig;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "segments", &config), 0);
	append_many(&rig, 3000, 128 * 1024);
	CU_ASSERT_TRUE(hfb_log_position(rig.log, HFB_STAGE_DURABLE) > 10u << 20);
	CU_ASSERT_EQUAL(rig_check(&rig), 3000);
	CU_ASSERT_EQUAL(rig.positions->committed.position, rig.positions->received.position);
	CU_ASSERT_EQUAL(rig.positions->committed.offset, 3000);
	CU_ASSERT_TRUE(rig.advanced > 0);
	CU_ASSERT_EQUAL(rig_reopen(&rig, true), 0);
	CU_ASSERT_TRUE(rig.report.clean);
	CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
	CU_ASSERT_EQUAL(rig.report.torn_bytes, 0);
	CU_ASSERT_EQUAL(rig.report.end_offset, 3000);
	append_many(&rig, 500, 128 * 1024);
	CU_ASSERT_EQUAL(rig_check(&rig), 3500);
	CU_ASSERT_EQUAL(rig_read(&rig, 8192),
			(int64_t)hfb_log_position(rig.log, HFB_STAGE_DURABLE));
	CU_ASSERT_EQUAL(rig_read(&rig, MIB), (int64_t)hfb_log_position(rig.log, HFB_STAGE_DURABLE));
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

static void
test_a_crash_loses_nothing_durable(void)
{
	struct rig_config config = { .ring_bytes_max = 4 * MIB, .segment_bytes_max = 4 * MIB };
	struct rig rig;
	uint64_t durable = 0, next;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "crash", &config), 0);
	for (int run = 0; run < 12; run++) {
		append_many(&rig, 100, 64 * 1024);
		for (int i = 0; i < 50; i++)
			rig_append(&rig, size_random(4096));
		for (int i = 0; i < run; i++)
			rig_poll(&rig);
		durable = rig.positions->durable.offset;
		CU_ASSERT_EQUAL_FATAL(rig_crash(&rig), 0);
		CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
		CU_ASSERT_FALSE(rig.report.clean);
		CU_ASSERT_TRUE(rig.report.end_offset >= durable);
		CU_ASSERT_TRUE(rig.report.end_offset <= rig.batches);
		/* the producer is known, and goes on where the log ends */
		CU_ASSERT_TRUE(hfb_log_stream_next(rig.log, 77, &next));
		CU_ASSERT_EQUAL(next, rig.report.end_offset);
		rig.batches = next;
	}
	CU_ASSERT_TRUE(rig_drain(&rig));
	CU_ASSERT_EQUAL(rig_check(&rig), (int64_t)rig.batches);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

/* Bytes on disk of the block that holds the log's end. */
static void
tail_check(struct rig *rig)
{
	uint64_t end = hfb_log_position(rig->log, HFB_STAGE_DURABLE), from = end & ~4095ull;
	struct hfb_segment_info info;
	uint8_t block[4096], clean = 0;
	int fd;

	if (end == from)
		return;
	fd = hfb_log_segment_open(rig->log, from, &info);
	CU_ASSERT_TRUE_FATAL(fd >= 0);
	CU_ASSERT_EQUAL(pread(fd, block, sizeof(block), (off_t)(4096 + from - info.base_position)),
			4096);
	close(fd);
	for (uint64_t i = end - from; i < 4096; i++)
		clean |= block[i];
	CU_ASSERT_EQUAL(clean, 0);
}

static void
test_the_tail_is_written_again_as_it_fills(void)
{
	struct rig_config config = { .ring_bytes_max = MIB, .segment_bytes_max = MIB };
	struct rig rig;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "tail", &config), 0);
	for (int i = 0; i < 200; i++) {
		CU_ASSERT_TRUE(rig_append(&rig, size_random(600)));
		CU_ASSERT_TRUE(rig_drain(&rig));
		tail_check(&rig);
		if (i % 50 == 49) {
			CU_ASSERT_TRUE(hfb_writer_stats(rig.writer)->writes >= 50);
			CU_ASSERT_EQUAL_FATAL(rig_crash(&rig), 0);
		}
	}
	CU_ASSERT_EQUAL(rig_check(&rig), 200);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	tail_check(&rig);
	rig_close(&rig);
}

/* tail: pad. No block is written twice, and all else is as before. */
static void
test_a_padded_tail_is_written_once(void)
{
	struct rig_config config = { .ring_bytes_max = MIB,
				     .segment_bytes_max = MIB,
				     .tail = HFB_TAIL_PAD };
	uint64_t bytes = 0;
	struct rig rig;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "padded", &config), 0);
	for (int i = 0; i < 600; i++) {
		CU_ASSERT_TRUE(rig_append(&rig, 16 + (uint32_t)i % 600 / 8 * 8));
		if (i % 3 != 0)
			continue;
		CU_ASSERT_TRUE(rig_drain(&rig));
		bytes = hfb_log_position(rig.log, HFB_STAGE_DURABLE);
		CU_ASSERT_TRUE(bytes % 4096 == 0 || bytes % MIB > MIB - 8192);
		if (i % 150 == 0)
			CU_ASSERT_EQUAL_FATAL(rig_crash(&rig), 0);
	}
	CU_ASSERT_TRUE(rig_drain(&rig));
	CU_ASSERT_EQUAL(rig_check(&rig), 600);
	bytes = hfb_log_position(rig.log, HFB_STAGE_DURABLE);
	CU_ASSERT_TRUE(bytes > MIB / 2);
	CU_ASSERT_EQUAL_FATAL(rig_reopen(&rig, true), 0);
	CU_ASSERT_TRUE(rig.report.clean);
	CU_ASSERT_EQUAL(rig.report.end_offset, 600);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

/* Fill the first segment so that @left bytes of it are free, then append @last. */
static void
padding_case(uint32_t left, uint32_t last)
{
	struct rig_config config = { .ring_bytes_max = MIB, .segment_bytes_max = MIB };
	struct rig rig;
	static uint32_t cases;
	char name[64];

	snprintf(name, sizeof(name), "padding-%u", cases++);
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, name, &config), 0);
	CU_ASSERT_TRUE(rig_append(&rig, 16));
	for (;;) {
		uint64_t room = MIB - hfb_log_position(rig.log, HFB_STAGE_RECEIVED) - left;
		uint64_t bytes = room > 200000 ? 100000 : room;

		if (room == 0)
			break;
		CU_ASSERT_TRUE_FATAL(rig_append(&rig, (uint32_t)bytes - 64));
	}
	CU_ASSERT_EQUAL(hfb_log_position(rig.log, HFB_STAGE_RECEIVED), MIB - left);
	CU_ASSERT_TRUE(rig_append(&rig, last - 64));
	CU_ASSERT_TRUE(rig_drain(&rig));
	/* either it fits and leaves room for padding, or it is in the next segment */
	if (last + 64 <= left)
		CU_ASSERT_EQUAL(hfb_log_position(rig.log, HFB_STAGE_RECEIVED), MIB - left + last)
	else
		CU_ASSERT_EQUAL(hfb_log_position(rig.log, HFB_STAGE_RECEIVED), MIB + last)
	CU_ASSERT_EQUAL(rig_check(&rig), (int64_t)rig.batches);
	CU_ASSERT_EQUAL_FATAL(rig_crash(&rig), 0);
	CU_ASSERT_EQUAL(rig.report.end_offset, rig.batches);
	CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

static void
test_padding_fills_the_end_of_a_segment(void)
{
	static const uint32_t left[] = { 64, 72, 120, 128, 136, 4096, 5000, 100000 };

	for (unsigned int i = 0; i < sizeof(left) / sizeof(left[0]); i++) {
		padding_case(left[i], 80);
		padding_case(left[i], 128);
		padding_case(left[i], left[i] < 80 ? 80 : left[i]);
		if (left[i] > 200) {
			padding_case(left[i], left[i] - 8);
			padding_case(left[i], left[i] - 56);
			padding_case(left[i], left[i] - 64);
		}
		padding_case(left[i], 200000);
	}
}

static void
test_the_largest_batch_goes_into_a_new_log(void)
{
	struct rig_config config = { 0 };
	struct rig rig;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "largest", &config), 0);
	CU_ASSERT_EQUAL(hfb_log_batch_bytes_max(rig.log), HFB_BATCH_BYTES_MAX);
	CU_ASSERT_TRUE(hfb_log_room(rig.log) >= HFB_BATCH_BYTES_MAX);
	CU_ASSERT_EQUAL(rig_try(&rig, HFB_BATCH_BYTES_MAX - 56, false), HFB_LOG_TOO_LARGE);
	for (int i = 0; i < 20; i++)
		CU_ASSERT_TRUE(rig_append(&rig, HFB_BATCH_BYTES_MAX - 64));
	CU_ASSERT_TRUE(rig_drain(&rig));
	CU_ASSERT_EQUAL(rig_check(&rig), 20);
	CU_ASSERT_TRUE(rig.positions->ring_bytes > MIB);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

static void
test_a_log_nobody_writes_has_no_file(void)
{
	struct rig_config config = { 0 };
	char path[1024];
	struct rig rig;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "unwritten", &config), 0);
	for (int i = 0; i < 100; i++)
		rig_poll(&rig);
	CU_ASSERT_EQUAL_FATAL(rig_reopen(&rig, true), 0);
	snprintf(path, sizeof(path), "%s/topics", rig.data_dir);
	CU_ASSERT_NOT_EQUAL(access(path, F_OK), 0);
	CU_ASSERT_EQUAL(hfb_log_position(rig.log, HFB_STAGE_RECEIVED), 0);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

static void
test_commit_at_received_and_at_durable(void)
{
	for (int stage = HFB_STAGE_RECEIVED; stage <= HFB_STAGE_DURABLE; stage++) {
		struct rig_config config = { .commit_stage = (enum hfb_stage)stage };
		uint64_t bytes = 0;
		struct rig rig;

		CU_ASSERT_EQUAL_FATAL(rig_open(&rig, stage == 0 ? "received" : "durable", &config),
				      0);
		CU_ASSERT_TRUE(rig_append(&rig, 16));
		/* the core alone: no helper, so no file yet */
		hfb_writer_poll(rig.writer, hfb_clock_now_ns());
		CU_ASSERT_TRUE(rig.positions->received.position > 0);
		CU_ASSERT_EQUAL(rig.positions->durable.position, 0);
		CU_ASSERT_EQUAL(rig.positions->committed.offset, stage == 0 ? 1 : 0);
		CU_ASSERT_EQUAL(hfb_log_peek(rig.log, 0, &bytes) != NULL, stage == 0);
		CU_ASSERT_EQUAL(rig.advanced, stage == 0 ? 1 : 0);
		CU_ASSERT_TRUE(rig_drain(&rig));
		CU_ASSERT_EQUAL(rig.positions->committed.offset, 1);
		CU_ASSERT_EQUAL(rig.positions->committed.position, rig.positions->durable.position);
		CU_ASSERT_PTR_NOT_NULL(hfb_log_peek(rig.log, 0, &bytes));
		CU_ASSERT_EQUAL(bytes, rig.positions->committed.position);
		CU_ASSERT_TRUE(rig_detach(&rig, true));
		rig_close(&rig);
	}
}

static void
test_back_pressure_and_the_reserve(void)
{
	struct rig_config config = { .ring_bytes_max = MIB, .segment_bytes_max = MIB };
	enum hfb_log_refusal why;
	uint32_t extra = 0;
	struct rig rig;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "reserve", &config), 0);
	/* nobody polls: the ring fills */
	while ((why = rig_try(&rig, 960, false)) == HFB_LOG_OK)
		;
	CU_ASSERT_EQUAL(why, HFB_LOG_RING_FULL);
	CU_ASSERT_TRUE(hfb_log_room(rig.log) < 1024 + 4096);
	while (rig_try(&rig, 136, true) == HFB_LOG_OK)
		extra++;
	CU_ASSERT_TRUE(extra >= 300); /* 64 KiB of gaps */
	CU_ASSERT_TRUE(rig_drain(&rig));
	CU_ASSERT_EQUAL(rig_check(&rig), (int64_t)rig.batches);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

static void
test_old_segments_are_dropped_and_recycled(void)
{
	struct rig_config config = { .ring_bytes_max = MIB,
				     .segment_bytes_max = MIB,
				     .retention_bytes = 4 * MIB };
	struct hfb_segment_header header;
	struct hfb_segment_info info;
	struct hfb_place place;
	uint64_t first, start;
	struct rig rig;
	int fd;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "recycled", &config), 0);
	for (int i = 0; i < 1200; i++) {
		CU_ASSERT_TRUE(rig_append(&rig, 32 * 1024));
		rig_poll(&rig);
	}
	CU_ASSERT_TRUE(rig_drain(&rig));
	for (int i = 0; i < 20; i++)
		rig_poll(&rig);
	start = hfb_log_start(rig.log);
	CU_ASSERT_TRUE(start > 30u * MIB);
	CU_ASSERT_TRUE(rig.positions->durable.position - start < 7u * MIB);
	CU_ASSERT_EQUAL(rig.positions->start.position, start);
	CU_ASSERT_TRUE(rig_check(&rig) > 100);
	CU_ASSERT_EQUAL(rig_read(&rig, 65536), (int64_t)(rig.positions->durable.position - start));
	fd = hfb_log_segment_open(rig.log, rig.positions->durable.position - 8, &info);
	CU_ASSERT_TRUE_FATAL(fd >= 0);
	CU_ASSERT_EQUAL(pread(fd, &header, sizeof(header), 0), sizeof(header));
	close(fd);
	CU_ASSERT_TRUE(header.generation > 0);
	CU_ASSERT_EQUAL(header.base_position, info.base_position);
	CU_ASSERT_EQUAL(hfb_log_segment_open(rig.log, 0, &info), -ENODATA);
	/* look-ups know where it begins now */
	CU_ASSERT_EQUAL(hfb_log_lookup(rig.log, HFB_FROM_EARLIEST, 0, 0, &place), 0);
	CU_ASSERT_EQUAL(place.position, start);
	first = place.offset;
	CU_ASSERT_EQUAL(hfb_log_lookup(rig.log, HFB_FROM_OFFSET, 0, first - 1, &place), -ENODATA);
	CU_ASSERT_EQUAL(hfb_log_lookup(rig.log, HFB_FROM_OFFSET, 0, first, &place), 0);
	/* and so does the next start, after a crash */
	CU_ASSERT_EQUAL_FATAL(rig_crash(&rig), 0);
	CU_ASSERT_EQUAL(rig.report.end_offset, rig.batches);
	CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
	CU_ASSERT_TRUE(hfb_log_start(rig.log) >= start - MIB);
	CU_ASSERT_TRUE(rig_check(&rig) > 100);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

static void
test_retention_by_time(void)
{
	struct rig_config config = { .ring_bytes_max = MIB,
				     .segment_bytes_max = MIB,
				     .retention_ns = 1000000 };
	struct timespec pause = { .tv_nsec = 20000000 };
	struct rig rig;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "by-time", &config), 0);
	append_many(&rig, 120, 128 * 1024);
	nanosleep(&pause, NULL);
	append_many(&rig, 120, 128 * 1024);
	/* the helper's rounds are its own: as long as it takes, within reason */
	for (int i = 0; i < 500 && hfb_log_start(rig.log) == 0; i++) {
		rig_poll(&rig);
		nanosleep(&pause, NULL);
	}
	CU_ASSERT_TRUE(hfb_log_start(rig.log) > 0);
	CU_ASSERT_TRUE(rig_check(&rig) > 0);
	hfb_log_set_retention(rig.log, 0, 0);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

static void
test_lookups(void)
{
	struct rig_config config = { .ring_bytes_max = MIB, .segment_bytes_max = MIB };
	struct hfb_place place;
	struct rig rig;
	uint32_t epoch;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "lookups", &config), 0);
	CU_ASSERT_EQUAL(hfb_log_lookup(rig.log, HFB_FROM_LATEST, 0, 0, &place), 0);
	CU_ASSERT_EQUAL(place.position, 0);
	CU_ASSERT_EQUAL(hfb_log_lookup(rig.log, HFB_FROM_TIME, 0, 5, &place), 0);
	append_many(&rig, 1000, 32 * 1024);
	epoch = hfb_log_epoch(rig.log);
	for (int round = 0; round < 3; round++) {
		uint64_t end = rig.positions->received.position;

		for (uint64_t offset = 0; offset < 1000; offset += 37) {
			CU_ASSERT_EQUAL(hfb_log_lookup(rig.log, HFB_FROM_OFFSET, 0, offset, &place),
					0);
			CU_ASSERT_TRUE(place.offset <= offset);
			CU_ASSERT_TRUE(place.position < end);
			CU_ASSERT_EQUAL(place.leader_epoch, epoch);
			/* once the helper has loaded the indexes they are close */
			if (round != 1)
				CU_ASSERT_TRUE(offset - place.offset < 64);
		}
		CU_ASSERT_EQUAL(hfb_log_lookup(rig.log, HFB_FROM_OFFSET, 0, 1000, &place), 0);
		CU_ASSERT_EQUAL(hfb_log_lookup(rig.log, HFB_FROM_OFFSET, 0, 1001, &place), -ERANGE);
		CU_ASSERT_EQUAL(hfb_log_lookup(rig.log, HFB_FROM_TIME, 0, 0, &place), 0);
		CU_ASSERT_EQUAL(place.position, 0);
		CU_ASSERT_EQUAL(hfb_log_lookup(rig.log, HFB_FROM_PLACE, epoch, 0, &place), 0);
		CU_ASSERT_EQUAL(hfb_log_lookup(rig.log, 99, epoch, 0, &place), -EINVAL);
		if (round == 0) {
			uint64_t cut = rig.report.end_position;

			CU_ASSERT_EQUAL(
				hfb_log_lookup(rig.log, HFB_FROM_PLACE, epoch, end + 8, &place),
				-ERANGE);
			CU_ASSERT_EQUAL_FATAL(rig_reopen(&rig, true), 0);
			cut = rig.report.end_position;
			/* what an older epoch never had is cut off, and it is told where */
			CU_ASSERT_EQUAL(
				hfb_log_lookup(rig.log, HFB_FROM_PLACE, epoch, cut + 8, &place),
				-ESTALE);
			CU_ASSERT_EQUAL(place.position, cut);
		} else if (round == 1) {
			struct timespec pause = { .tv_sec = 1, .tv_nsec = 50000000 };

			nanosleep(&pause, NULL);
			rig_poll(&rig);
			rig_poll(&rig);
		}
	}
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

/* A reader in the ring while it grows and is lapped. ----------------------------------- */

struct reader {
	struct rig *rig;
	uint64_t batches, lapped, remaps, bad;
	uint32_t stop;
};

static void *
reader_run(void *arg)
{
	struct reader *reader = arg;
	struct hfb_positions *p = reader->rig->positions;
	uint32_t seed = hfb_batch_seed(&reader->rig->topic, 0), generation = 0;
	uint64_t position = 0, bytes = 0;
	uint8_t *ring = NULL, *copy = malloc(2 * MIB);

	while (__atomic_load_n(&reader->stop, __ATOMIC_ACQUIRE) == 0) {
		uint64_t committed = __atomic_load_n(&p->committed.position, __ATOMIC_ACQUIRE);
		uint32_t now = __atomic_load_n(&p->ring_generation, __ATOMIC_ACQUIRE);
		struct hfb_batch_view view;
		struct hfb_walk walk;
		uint64_t size, intent;

		if (now != generation) {
			int fd;

			if (ring != NULL)
				munmap(ring, 2 * bytes);
			fd = hfb_log_ring_fd(reader->rig->log, &generation, &bytes);
			ring = mmap(NULL, 2 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			mmap(ring, bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
			mmap(ring + bytes, bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
			reader->remaps++;
			continue;
		}
		if (position >= committed) {
			sched_yield();
			continue;
		}
		size = committed - position < 2 * MIB ? committed - position : 2 * MIB;
		if (size > bytes)
			size = bytes;
		memcpy(copy, ring + (position & (bytes - 1)), size);
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		intent = __atomic_load_n(&p->intent.position, __ATOMIC_RELAXED);
		if (__atomic_load_n(&p->ring_generation, __ATOMIC_ACQUIRE) != generation)
			continue;
		if (intent - position > bytes && intent > position) {
			reader->lapped++;
			position = committed;
			continue;
		}
		hfb_walk_init(&walk, seed, position, copy, size);
		for (;;) {
			enum hfb_fault fault = hfb_walk_next(&walk, HFB_CHECK_ALL, &view);

			if (fault == HFB_FAULT_NONE) {
				reader->batches += view.control == 0;
				continue;
			}
			if (fault != HFB_FAULT_END && fault != HFB_FAULT_SHORT)
				reader->bad++;
			break;
		}
		if (reader->bad > 0)
			break;
		if (walk.position == position)
			reader->bad++;
		position = walk.position;
	}
	if (ring != NULL)
		munmap(ring, 2 * bytes);
	free(copy);
	return NULL;
}

static void
test_the_ring_grows_under_a_reader(void)
{
	struct rig_config config = { .ring_bytes_max = 16 * MIB,
				     .segment_bytes_max = 16 * MIB,
				     .helper_thread = true };
	struct reader reader = { 0 };
	pthread_t thread;
	struct rig rig;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "growing", &config), 0);
	reader.rig = &rig;
	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, reader_run, &reader), 0);
	append_many(&rig, 20000, 16 * 1024);
	for (int i = 0; i < 2000 && rig.positions->ring_bytes < 16 * MIB; i++)
		append_many(&rig, 100, 128 * 1024);
	CU_ASSERT_EQUAL(rig.positions->ring_bytes, 16 * MIB);
	CU_ASSERT_TRUE(rig.positions->ring_generation >= 3);
	__atomic_store_n(&reader.stop, 1, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	CU_ASSERT_EQUAL(reader.bad, 0);
	CU_ASSERT_TRUE(reader.batches > 0);
	CU_ASSERT_TRUE(reader.remaps >= 2);
	CU_ASSERT_EQUAL(rig_check(&rig), (int64_t)rig.batches);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

/* Polling allocates nothing. ------------------------------------------------------------ */

static uint64_t
allocated(void)
{
#ifdef HFB_HAS_JEMALLOC
	uint64_t bytes = 0;
	size_t size = sizeof(bytes);

	if (mallctl("thread.allocated", &bytes, &size, NULL, 0) == 0)
		return bytes;
#endif
	return 0;
}

static void
test_a_million_polls_allocate_nothing(void)
{
	struct rig_config config = { .ring_bytes_max = MIB,
				     .segment_bytes_max = MIB,
				     .retention_bytes = 4 * MIB,
				     .helper_thread = true };
	uint64_t before, moved;
	struct rig rig;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "polls", &config), 0);
	append_many(&rig, 2000, 16 * 1024);
	moved = rig.positions->durable.position;
	before = allocated();
	for (uint32_t i = 0; i < 1000000; i++) {
		/* rolls and tail rewrites among them, most have nothing to do */
		if (i % 200 == 0)
			rig_try(&rig, 4000, false);
		hfb_writer_poll(rig.writer, hfb_clock_now_ns());
	}
	CU_ASSERT_EQUAL(allocated(), before);
	CU_ASSERT_TRUE(rig.positions->durable.position > moved + MIB);
	CU_ASSERT_TRUE(rig_drain(&rig));
	CU_ASSERT_TRUE(rig_check(&rig) > 0);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "bytes come back over many segments", test_bytes_come_back_over_many_segments },
		{ "a crash loses nothing durable", test_a_crash_loses_nothing_durable },
		{ "the tail is written again as it fills",
		  test_the_tail_is_written_again_as_it_fills },
		{ "a padded tail is written once", test_a_padded_tail_is_written_once },
		{ "padding fills the end of a segment", test_padding_fills_the_end_of_a_segment },
		{ "the largest batch goes into a new log",
		  test_the_largest_batch_goes_into_a_new_log },
		{ "a log nobody writes has no file", test_a_log_nobody_writes_has_no_file },
		{ "commit at received and at durable", test_commit_at_received_and_at_durable },
		{ "back-pressure and the reserve", test_back_pressure_and_the_reserve },
		{ "old segments are dropped and recycled",
		  test_old_segments_are_dropped_and_recycled },
		{ "retention by time", test_retention_by_time },
		{ "look-ups by offset, time and place", test_lookups },
		{ "the ring grows under a reader", test_the_ring_grows_under_a_reader },
		{ "a million polls allocate nothing", test_a_million_polls_allocate_nothing },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("writer", tests);
}
