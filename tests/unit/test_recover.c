/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery of a partition's folder.
 *
 * Goal:   after whatever happened to the files, the log that was durable is there
 *	   again, and nothing that is not of the log is taken for it.
 * Method: folders made from images of a log whose truth is known, ended at any place,
 *	   with sectors torn and files left over.
 */
#include <errno.h>

#include "history.h"

static void
test_nothing_there(void)
{
	const char *folder = log_folder_make();
	struct log_image image = log_image_make(0, SEGMENT, 1);
	struct hfb_recovered r;

	CU_ASSERT_EQUAL_FATAL(log_folder_recover("/nonexistent/partition", &r), 0);
	CU_ASSERT(!r.found && r.segments_count == 0 && r.end_position == 0);
	hfb_recovered_fini(&r);
	CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
	CU_ASSERT(r.found && r.segments_count == 0 && r.notes_count == 0);
	hfb_recovered_fini(&r);
	/* a prepared segment nobody wrote to */
	log_folder_segment(folder, &image, 0, SEGMENT);
	CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
	CU_ASSERT_EQUAL_FATAL(r.segments_count, 1);
	CU_ASSERT_EQUAL(r.segments[0].state, HFB_RECOVERED_OPEN);
	CU_ASSERT(r.end_position == 0 && r.end_offset == 0 && r.leader_epoch == 0);
	CU_ASSERT_PTR_NOT_NULL(r.index);
	CU_ASSERT_EQUAL(r.notes_count, 0);
	CU_ASSERT(!r.report.clean && r.report.torn_bytes == 0);
	CU_ASSERT(r.epochs.max > r.epochs.count);
	hfb_recovered_fini(&r);
	hfb_recovered_fini(&r);
	free(image.bytes);
}

static void
test_with_and_without_an_end_mark(void)
{
	for (uint32_t segments = 1; segments <= 4; segments++) {
		for (int clean = 0; clean <= 1; clean++) {
			const char *folder = log_folder_make();
			struct history h = history_make(segments + 2);
			struct hfb_recovered r;

			history_fill(&h, (segments - 1) * SEGMENT + SEGMENT / 2, 500);
			if (clean)
				log_image_end(&h.image);
			history_write(&h, folder);
			CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
			history_expect_end(&h, &r);
			history_expect_producers(&h, &r);
			CU_ASSERT_EQUAL(r.report.clean, clean != 0);
			CU_ASSERT_EQUAL(r.report.torn_bytes, 0);
			CU_ASSERT_EQUAL(r.corrupt_count, 0);
			CU_ASSERT_EQUAL_FATAL(r.segments_count, segments + 2);
			for (uint32_t i = 0; i < segments + 2; i++)
				CU_ASSERT_EQUAL(r.segments[i].state,
						i + 1 < segments    ? HFB_RECOVERED_SEALED
						: i + 1 == segments ? HFB_RECOVERED_OPEN
								    : HFB_RECOVERED_UNUSED);
			CU_ASSERT_EQUAL(r.epochs.count, 1);
			CU_ASSERT_EQUAL(r.index->base_position, (segments - 1) * SEGMENT);
			CU_ASSERT(r.index->count >= 1);
			hfb_recovered_fini(&r);
			/* its sealed indexes are written now, so nothing is rebuilt */
			CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
			history_expect_end(&h, &r);
			CU_ASSERT_FALSE(r.report.index_rebuilt);
			CU_ASSERT_EQUAL(r.notes_count, 0);
			hfb_recovered_fini(&r);
			free(h.image.bytes);
		}
	}
}

/* A log that ends right with a segment, with and without a prepared next one. */
static void
test_ends_with_a_segment(void)
{
	for (uint32_t more = 0; more <= 1; more++) {
		const char *folder = log_folder_make();
		struct history h = history_make(2 + more);
		struct hfb_recovered r;

		history_fill(&h, 2 * SEGMENT, 100);
		history_write(&h, folder);
		CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
		history_expect_end(&h, &r);
		CU_ASSERT_EQUAL(r.end_position, 2 * SEGMENT);
		CU_ASSERT_EQUAL(r.segments[1].state, HFB_RECOVERED_SEALED);
		if (more == 1) {
			CU_ASSERT_EQUAL(r.segments[2].state, HFB_RECOVERED_OPEN);
			CU_ASSERT_EQUAL(r.segments[2].base_offset, r.end_offset);
			CU_ASSERT_EQUAL(r.index->base_position, 2 * SEGMENT);
		} else {
			CU_ASSERT_PTR_NULL(r.index);
		}
		hfb_recovered_fini(&r);
		free(h.image.bytes);
	}
}

static void
test_a_checkpoint_anywhere_changes_nothing(void)
{
	const char *folder = log_folder_make();
	struct history h = history_make(4);
	struct hfb_recovered plain, r;

	history_fill(&h, 2 * SEGMENT + SEGMENT / 2, 3000);
	history_note(&h, log_image_end(&h.image));
	history_note(&h, h.image.position);
	history_write(&h, folder);
	CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &plain), 0);
	for (uint32_t i = 0; i < h.count; i += i + 12 < h.count ? 11 : 1) {
		history_checkpoint(&h, h.positions[i], folder, i + 1 == h.count);
		CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
		history_expect_end(&h, &r);
		history_expect_producers(&h, &r);
		CU_ASSERT_TRUE(r.report.clean);
		CU_ASSERT(r.report.scanned_bytes <= plain.report.scanned_bytes);
		CU_ASSERT_EQUAL(r.notes_count, 0);
		CU_ASSERT_EQUAL_FATAL(r.segments_count, plain.segments_count);
		for (uint32_t j = 0; j < r.segments_count; j++) {
			CU_ASSERT_EQUAL(r.segments[j].state, plain.segments[j].state);
			CU_ASSERT_EQUAL(r.segments[j].base_offset, plain.segments[j].base_offset);
			CU_ASSERT_EQUAL(r.segments[j].end_offset, plain.segments[j].end_offset);
			CU_ASSERT_EQUAL(r.segments[j].first_timestamp_ns,
					plain.segments[j].first_timestamp_ns);
		}
		CU_ASSERT_EQUAL(r.dedup_count, plain.dedup_count);
		CU_ASSERT_EQUAL(memcmp(r.dedup, plain.dedup, r.dedup_count * sizeof(*r.dedup)), 0);
		CU_ASSERT_EQUAL(r.epochs.count, plain.epochs.count);
		CU_ASSERT_EQUAL(r.index->count, plain.index->count);
		CU_ASSERT_EQUAL(memcmp(r.index->entries, plain.index->entries,
				       r.index->count * sizeof(*r.index->entries)),
				0);
		hfb_recovered_fini(&r);
	}
	hfb_recovered_fini(&plain);
	free(h.image.bytes);
}

/*
 * A tail nobody called durable: each of its sectors old in turn, and every prefix of
 * it. The log ends with the last batch before the hole and nothing is corruption.
 */
static void
test_torn_at_each_sector(void)
{
	struct history h = history_make(2);
	uint64_t durable, from;

	history_fill(&h, SEGMENT - 12000, 100);
	durable = h.image.position;
	while (h.image.position < SEGMENT - 3500) { /* in flight: their lag says so */
		h.image.durable = durable;
		history_note(&h, log_image_events(&h.image, 1, 2, 300));
	}
	from = durable & ~511ull;
	for (uint64_t sector = from; sector < h.image.position; sector += 512) {
		for (int rest = 0; rest <= 1; rest++) {
			const char *folder = log_folder_make();
			uint64_t bytes = rest ? SEGMENT - sector : 512;
			uint64_t lost = sector > durable ? sector : durable, end = durable;
			struct hfb_recovered r;

			/* sectors below `durable` hold durable bytes: only what follows is old */
			bytes -= lost - sector;
			for (uint32_t i = 0; i < h.count; i++)
				if (h.positions[i] <= lost && h.positions[i] >= durable)
					end = h.positions[i];
			history_write(&h, folder);
			log_folder_write(folder, log_folder_name(0, ".seg"),
					 HFB_SEGMENT_HEADER_BYTES + lost, NULL, bytes);
			CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
			CU_ASSERT_EQUAL(r.end_position, end);
			CU_ASSERT_EQUAL(r.corrupt_count, 0);
			CU_ASSERT_FALSE(r.report.clean);
			if (!rest && end + 1500 < h.image.position) {
				CU_ASSERT_EQUAL(r.report.torn_position, end);
				CU_ASSERT_EQUAL(r.report.torn_bytes, h.image.position - end);
				CU_ASSERT_TRUE(log_folder_noted(&r, "torn tail"));
			}
			hfb_recovered_fini(&r);
		}
	}
	free(h.image.bytes);
}

/*
 * Epoch 3's tail was torn; epoch 4 overwrote a part of it and crashed at a place
 * where a batch of epoch 3 begins, whole. It must not come back, at any such place.
 */
static void
test_a_tail_of_an_older_epoch_never_comes_back(void)
{
	struct log_image old = log_image_make(0, SEGMENT, 3), now;
	uint64_t torn;
	int places = 0;

	log_image_epoch(&old);
	for (int i = 0; i < 5; i++)
		log_image_events(&old, 1, 1, 100);
	torn = old.position;
	old.durable = torn;
	for (int i = 0; i < 20; i++) /* the first of these was lost */
		log_image_events(&old, 1, 1, 8);
	CU_ASSERT_EQUAL((old.position - torn) % 88, 0);
	for (int batches = 0; batches < 15; batches++) {
		const char *folder = log_folder_make();
		struct hfb_recovered r;

		now = old;
		now.bytes = malloc(SEGMENT + 64);
		memcpy(now.bytes, old.bytes, SEGMENT + 64);
		now.position = torn;
		now.offset = 5;
		now.epoch = 4;
		log_image_epoch(&now); /* 96 bytes */
		for (int i = 0; i < batches; i++)
			log_image_events(&now, 2, 1, 8); /* 88 bytes each */
		log_image_events(&now, 2, 1, 69 + 7);	 /* 160: 96 + 160 = 256 = 80 mod 88 */
		log_image_events(&now, 2, 1, 8);
		log_image_events(&now, 2, 1, 8 + 8); /* 96: 80 + 96 = 0 mod 88 */
		places += (now.position - torn) % 88 == 0;
		log_folder_segment(folder, &now, 0, SEGMENT);
		CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
		CU_ASSERT_EQUAL(r.end_position, now.position);
		CU_ASSERT_EQUAL(r.end_offset, now.offset);
		CU_ASSERT_EQUAL(r.leader_epoch, 4);
		CU_ASSERT_EQUAL(r.corrupt_count, 0);
		CU_ASSERT_EQUAL(r.epochs.count, 2);
		hfb_recovered_fini(&r);
		/* nor when the new epoch's start was lost: then there is no new epoch */
		log_folder_write(folder, log_folder_name(0, ".seg"),
				 HFB_SEGMENT_HEADER_BYTES + torn, NULL, 64);
		CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
		CU_ASSERT_EQUAL(r.end_position, torn);
		CU_ASSERT_EQUAL(r.end_offset, 5);
		CU_ASSERT_EQUAL(r.corrupt_count, 0);
		hfb_recovered_fini(&r);
		free(now.bytes);
	}
	CU_ASSERT(places > 0);
	free(old.bytes);
}

/* A recycled file holds a former lap, batch boundaries at the same file offsets. */
static void
test_a_former_lap_never_comes_back(void)
{
	struct log_image lap = log_image_make(0, SEGMENT, 3);
	struct log_image image = log_image_make(0, 2 * SEGMENT, 3);

	log_image_epoch(&lap);
	while (lap.position + 200 < SEGMENT)
		log_image_events(&lap, 1, 1, 8);
	log_image_epoch(&image);
	while (image.position + 200 < SEGMENT)
		log_image_events(&image, 1, 1, 8);
	image.capacity = SEGMENT;
	log_image_padding(&image);
	image.capacity = 2 * SEGMENT;
	for (int n = 0; n < 40; n++) {
		const char *folder = log_folder_make();
		struct hfb_recovered r;

		/* the second segment is the first one's file of a former life */
		memcpy(image.bytes + image.position, lap.bytes + (image.position - SEGMENT),
		       2 * SEGMENT - image.position);
		log_folder_segment(folder, &image, 0, SEGMENT);
		log_folder_segment(folder, &image, SEGMENT, SEGMENT);
		CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
		CU_ASSERT_EQUAL(r.end_position, image.position);
		CU_ASSERT_EQUAL(r.end_offset, image.offset);
		CU_ASSERT_EQUAL(r.corrupt_count, 0);
		CU_ASSERT_EQUAL(r.report.torn_bytes, 0);
		hfb_recovered_fini(&r);
		/* the lap began with 96 bytes, then 88 each: so does this one */
		log_image_events(&image, 1, 1, n == 0 ? 16 : 8);
	}
	free(lap.bytes);
	free(image.bytes);
}

static void
test_retired_segments_stay_retired(void)
{
	const char *folder = log_folder_make();
	struct history h = history_make(4);
	struct hfb_checkpoint c;
	struct hfb_uuid topic = LOG_IMAGE_TOPIC;
	struct hfb_recovered r;
	struct hfb_err err;
	void *memory;

	history_fill(&h, 3 * SEGMENT + SEGMENT / 2, 500);
	history_write(&h, folder);
	history_checkpoint(&h, h.positions[h.count - 3], folder, false);
	CU_ASSERT_EQUAL_FATAL(hfb_checkpoint_load(hfb_env_real(), folder, &topic,
						  LOG_IMAGE_PARTITION, &c, &memory, &err),
			      0);
	c.start_position = 2 * SEGMENT;
	CU_ASSERT_EQUAL_FATAL(hfb_checkpoint_save(hfb_env_real(), folder, &c, &err), 0);
	free(memory);
	/* the crash came when the second was unlinked, the first was not */
	unlink(log_folder_path(folder, log_folder_name(SEGMENT, ".seg")));
	CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
	history_expect_end(&h, &r);
	CU_ASSERT_EQUAL(r.start_position, 2 * SEGMENT);
	CU_ASSERT_EQUAL(r.start_offset, r.segments[1].base_offset);
	CU_ASSERT_EQUAL(r.segments[0].state, HFB_RECOVERED_RETIRED);
	CU_ASSERT_EQUAL(r.corrupt_count, 0);
	hfb_recovered_fini(&r);
	/* all gone but the checkpoint: neither positions nor offsets start again */
	for (uint64_t s = 0; s < 4; s++)
		unlink(log_folder_path(folder, log_folder_name(s * SEGMENT, ".seg")));
	CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
	CU_ASSERT(r.end_position >= c.position && r.end_position % 4096 == 0);
	CU_ASSERT_EQUAL(r.end_offset, c.offset);
	CU_ASSERT_EQUAL(r.start_position, r.end_position);
	CU_ASSERT_TRUE(r.notes_count > 0);
	hfb_recovered_fini(&r);
	free(h.image.bytes);
}

/* Streams are known again from the names repeated in each segment, gaps move them on. */
static void
test_streams_and_gaps(void)
{
	const char *folder = log_folder_make();
	struct log_image image = log_image_make(0, SEGMENT, 1);
	struct hfb_control_stream s = {
		.control = { HFB_CONTROL_STREAM_START, 1, 0 },
		.framing = HFB_FRAMING_MOLDUDP64,
		.next_sequence = 40,
	};
	struct hfb_batch b = { .flags = HFB_BATCH_CONTROL | HFB_BATCH_STREAM,
			       .producer_id = 5,
			       .base_sequence = HFB_CONTROL_STREAM_START };
	struct hfb_recovered r;

	log_image_epoch(&image);
	log_image_put(&image, b, NULL, 0, &s, sizeof(s));
	b.producer_id = 6;
	log_image_put(&image, b, NULL, 0, &s, sizeof(s));
	log_image_gap(&image, 6, 40, 17, HFB_GAP_LOCAL);
	log_folder_segment(folder, &image, 0, SEGMENT);
	CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
	CU_ASSERT_EQUAL_FATAL(r.dedup_count, 2);
	CU_ASSERT(r.dedup[0].producer_id == 5 && r.dedup[0].next_sequence == 40);
	CU_ASSERT(r.dedup[1].producer_id == 6 && r.dedup[1].next_sequence == 57);
	CU_ASSERT(r.dedup[0].flags == HFB_DEDUP_STREAM && r.dedup[1].flags == HFB_DEDUP_STREAM);
	CU_ASSERT_EQUAL(r.end_offset, 1);
	hfb_recovered_fini(&r);
	free(image.bytes);
}

/* Offsets must follow each other and time may not go back, checksums or not. */
static void
test_what_does_not_continue_is_not_taken(void)
{
	for (int lie = 0; lie < 3; lie++) {
		const char *folder = log_folder_make();
		struct log_image image = log_image_make(0, SEGMENT, 5);
		struct hfb_recovered r;
		uint64_t end;

		log_image_epoch(&image);
		log_image_events(&image, 1, 1, 100);
		end = image.position;
		image.durable = 0;
		if (lie == 0)
			image.offset += 1;
		else if (lie == 1)
			image.timestamp_ns -= 5000;
		else
			image.epoch = 4;
		log_image_events(&image, 1, 1, 100);
		log_folder_segment(folder, &image, 0, SEGMENT);
		CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
		CU_ASSERT_EQUAL(r.end_position, end);
		CU_ASSERT_EQUAL(r.end_offset, 1);
		CU_ASSERT_EQUAL(r.corrupt_count, 0);
		hfb_recovered_fini(&r);
		free(image.bytes);
	}
}

static void
test_a_newer_format_is_refused_not_cut(void)
{
	const char *folder = log_folder_make();
	struct log_image image = log_image_make(0, SEGMENT, 5);
	struct hfb_recovered r;
	struct hfb_batch b;
	uint64_t p;

	log_image_epoch(&image);
	p = log_image_events(&image, 1, 1, 100);
	memcpy(&b, log_image_at(&image, p), 64);
	b.version = 2;
	b.header_crc = hfb_batch_crc(image.seed, p, &b);
	memcpy(log_image_at(&image, p), &b, 64);
	log_folder_segment(folder, &image, 0, SEGMENT);
	CU_ASSERT_EQUAL(log_folder_recover(folder, &r), -EOPNOTSUPP);
	CU_ASSERT_PTR_NULL(r.segments);
	free(image.bytes);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "nothing there, or nothing written", test_nothing_there },
		{ "one to four segments, with and without an end mark",
		  test_with_and_without_an_end_mark },
		{ "a log that ends with a segment", test_ends_with_a_segment },
		{ "a checkpoint anywhere changes nothing but the work",
		  test_a_checkpoint_anywhere_changes_nothing },
		{ "a tail torn at each sector ends the log", test_torn_at_each_sector },
		{ "a tail of an older epoch never comes back",
		  test_a_tail_of_an_older_epoch_never_comes_back },
		{ "a former lap never comes back", test_a_former_lap_never_comes_back },
		{ "retired segments stay retired", test_retired_segments_stay_retired },
		{ "streams and gaps", test_streams_and_gaps },
		{ "what does not continue the log is not taken",
		  test_what_does_not_continue_is_not_taken },
		{ "a newer format is refused, not cut", test_a_newer_format_is_refused_not_cut },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("recover", tests);
}
