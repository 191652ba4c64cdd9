/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery of a partition's folder.
 *
 * Goal:   after whatever happened to the files, the log that was durable is there
 *	   again, what is broken is named, and nothing that is not of the log is
 *	   taken for it.
 * Method: folders made from images of a log whose truth is known, with a bit
 *	   flipped, a sector torn, a file missing or left over.
 */
#include <errno.h>

#include "log_folder.h"

#define SEGMENT	    (64u * HFB_KIB)
#define BATCHES_MAX 4096

/* A log over some segments, and where its batches are. */
struct history {
	struct log_image image;
	uint64_t positions[BATCHES_MAX];
	uint32_t count;
};

static void
history_note(struct history *h, uint64_t position)
{
	hfb_assert(h->count < BATCHES_MAX);
	h->positions[h->count++] = position;
}

/* Events until @position is passed, padding where a segment ends; all durable @lag bytes behind. */
static void
history_fill(struct history *h, uint64_t until, uint64_t lag)
{
	struct log_image *image = &h->image;

	while (image->position < until) {
		uint64_t left = SEGMENT - image->position % SEGMENT;
		uint32_t count = 1 + (uint32_t)(hfb_test_random() % 4);
		uint32_t size = (uint32_t)(hfb_test_random() % 700);

		image->durable =
			image->position - image->base > lag ? image->position - lag : image->base;
		if (left < 4 * 720 + 64 + 64) {
			uint64_t capacity = image->capacity;

			history_note(h, image->position);
			image->capacity = image->position + left - image->base;
			log_image_padding(image);
			image->capacity = capacity;
		} else {
			history_note(
				h, log_image_events(image, 1 + hfb_test_random() % 3, count, size));
		}
	}
}

static struct history
history_make(uint32_t segments)
{
	struct history h = { .image = log_image_make(0, (uint64_t)segments * SEGMENT, 3) };

	history_note(&h, log_image_epoch(&h.image));
	return h;
}

static void
history_write(const struct history *h, const char *folder)
{
	for (uint64_t at = 0; at < h->image.capacity; at += SEGMENT)
		log_folder_segment(folder, &h->image, h->image.base + at, SEGMENT);
}

/* The dedup state is that of the image's producers. */
static void
expect_producers(const struct history *h, const struct hfb_recovered *r)
{
	uint32_t found = 0;

	for (uint32_t i = 0; i < 16; i++)
		for (uint32_t j = 0; j < r->dedup_count; j++)
			if (h->image.producers[i].id != 0 &&
			    r->dedup[j].producer_id == h->image.producers[i].id) {
				CU_ASSERT_EQUAL(r->dedup[j].next_sequence,
						h->image.producers[i].next);
				found++;
			}
	CU_ASSERT_EQUAL(found, r->dedup_count);
	for (uint32_t j = 1; j < r->dedup_count; j++)
		CU_ASSERT(r->dedup[j - 1].last_ns <= r->dedup[j].last_ns);
}

static void
expect_end(const struct history *h, const struct hfb_recovered *r)
{
	CU_ASSERT_EQUAL(r->end_position, h->image.position);
	CU_ASSERT_EQUAL(r->end_offset, h->image.offset);
	CU_ASSERT_EQUAL(r->leader_epoch, h->image.epoch);
	CU_ASSERT_EQUAL(r->last_timestamp_ns, h->image.timestamp_ns);
}

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
			expect_end(&h, &r);
			expect_producers(&h, &r);
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
			expect_end(&h, &r);
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
		expect_end(&h, &r);
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

/* Save the checkpoint that belongs to @at, by recovering a log that ends there. */
static void
checkpoint_at(const struct history *h, uint64_t at, const char *folder, bool ended)
{
	const char *cut = log_folder_make();
	struct history copy = *h;
	struct hfb_recovered r;
	struct hfb_checkpoint c;
	struct hfb_err err;
	uint32_t open = 0;

	copy.image.bytes = calloc(1, h->image.capacity + 64);
	memcpy(copy.image.bytes, h->image.bytes, at - h->image.base);
	history_write(&copy, cut);
	CU_ASSERT_EQUAL_FATAL(log_folder_recover(cut, &r), 0);
	CU_ASSERT_EQUAL_FATAL(r.end_position, at);
	while (open + 1 < r.segments_count && r.segments[open].state != HFB_RECOVERED_OPEN)
		open++;
	c = (struct hfb_checkpoint){
		.topic = LOG_IMAGE_TOPIC,
		.partition = LOG_IMAGE_PARTITION,
		.leader_epoch = r.leader_epoch,
		.position = at,
		.offset = r.end_offset,
		.start_position = h->image.base,
		.last_timestamp_ns = r.last_timestamp_ns,
		.first_timestamp_ns = r.segments[open].first_timestamp_ns,
		.segment_base = r.segments[open].base_position,
		.segment_base_offset = r.segments[open].base_offset,
		.ended = ended,
		.epochs_count = r.epochs.count,
		.epochs = r.epochs.entries,
		.dedup_count = r.dedup_count,
		.dedup = r.dedup,
		.index_count = r.index != NULL ? r.index->count : 0,
		.index = r.index != NULL ? r.index->entries : NULL,
	};
	CU_ASSERT_EQUAL_FATAL(hfb_checkpoint_save(hfb_env_real(), folder, &c, &err), 0);
	hfb_recovered_fini(&r);
	free(copy.image.bytes);
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
		checkpoint_at(&h, h.positions[i], folder, i + 1 == h.count);
		CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
		expect_end(&h, &r);
		expect_producers(&h, &r);
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

/* A flipped bit in what was durable: the batch is named and left out, the rest is served. */
static void
test_a_flipped_bit_in_a_durable_batch(void)
{
	struct history h = history_make(3);
	uint32_t tried = 0;

	history_fill(&h, 2 * SEGMENT + SEGMENT / 4, 2000);
	for (int i = 0; i < 200; i++) {
		uint32_t n = 1 + (uint32_t)(hfb_test_random() % (h.count - 2));
		uint64_t begin = h.positions[n], end = h.positions[n + 1];
		uint64_t at = begin + hfb_test_random() % (end - begin);
		const char *folder;
		struct hfb_recovered r;
		struct hfb_batch b;

		memcpy(&b, log_image_at(&h.image, begin), sizeof(b));
		/* padding's content matters to nobody; the tail is another test's */
		if ((hfb_batch_is_padding(&b) && at >= begin + 64) ||
		    begin + 8000 > h.image.position)
			continue;
		tried++;
		folder = log_folder_make();
		history_write(&h, folder);
		log_folder_flip(folder, log_folder_name(begin / SEGMENT * SEGMENT, ".seg"),
				HFB_SEGMENT_HEADER_BYTES + at % SEGMENT,
				(int)(hfb_test_random() % 8));
		CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
		expect_end(&h, &r);
		CU_ASSERT_EQUAL_FATAL(r.corrupt_count, 1);
		CU_ASSERT_EQUAL(r.corrupt[0].position, begin);
		CU_ASSERT_EQUAL(r.corrupt[0].end, end);
		CU_ASSERT_EQUAL(r.corrupt[0].end_offset - r.corrupt[0].offset, b.count);
		CU_ASSERT_EQUAL(r.report.corrupt_count, 1);
		CU_ASSERT_EQUAL(r.report.corrupt_position, begin);
		CU_ASSERT_PTR_NOT_NULL(strstr(r.report.corrupt_path,
					      log_folder_name(begin / SEGMENT * SEGMENT, ".seg")));
		CU_ASSERT_TRUE(log_folder_noted(&r, "corrupt at position"));
		CU_ASSERT_EQUAL(r.report.torn_bytes, 0);
		hfb_recovered_fini(&r);
		/* and once more: the index it wrote says the same */
		CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
		CU_ASSERT_EQUAL(r.corrupt_count, 1);
		expect_end(&h, &r);
		hfb_recovered_fini(&r);
	}
	CU_ASSERT(tried > 100);
	free(h.image.bytes);
}

/* The last batches before a clean stop are proven by its end mark. */
static void
test_a_flipped_bit_in_the_tail_after_a_clean_stop(void)
{
	const char *folder = log_folder_make();
	struct history h = history_make(1);
	struct hfb_recovered r;
	uint64_t last, mark;

	history_fill(&h, SEGMENT / 2, 40000);
	last = h.positions[h.count - 1];
	h.image.durable = h.image.position; /* made durable, then the mark */
	mark = log_image_end(&h.image);
	history_write(&h, folder);
	log_folder_flip(folder, log_folder_name(0, ".seg"), HFB_SEGMENT_HEADER_BYTES + last + 70,
			1);
	CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
	expect_end(&h, &r);
	CU_ASSERT_EQUAL_FATAL(r.corrupt_count, 1);
	CU_ASSERT(r.corrupt[0].position == last && r.corrupt[0].end == mark);
	CU_ASSERT_TRUE(r.report.clean);
	hfb_recovered_fini(&r);
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
test_a_bad_segment_header(void)
{
	struct history h = history_make(3);

	history_fill(&h, 2 * SEGMENT + SEGMENT / 2, 500);
	for (uint64_t segment = 0; segment < 3; segment++) {
		for (uint64_t byte = 0; byte < sizeof(struct hfb_segment_header); byte += 3) {
			const char *folder = log_folder_make();
			struct hfb_recovered r;

			history_write(&h, folder);
			log_folder_flip(folder, log_folder_name(segment * SEGMENT, ".seg"), byte,
					(int)(byte % 8));
			CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
			expect_end(&h, &r);
			CU_ASSERT_TRUE(r.segments[segment].header_bad);
			CU_ASSERT_TRUE(
				log_folder_noted(&r, log_folder_name(segment * SEGMENT, ".seg")));
			CU_ASSERT_EQUAL(r.corrupt_count, 0);
			CU_ASSERT_EQUAL(r.segments[segment].capacity_bytes, SEGMENT);
			hfb_recovered_fini(&r);
		}
	}
	free(h.image.bytes);
}

static void
test_a_missing_middle_segment(void)
{
	const char *folder = log_folder_make();
	struct history h = history_make(4);
	struct hfb_recovered r;

	history_fill(&h, 2 * SEGMENT + SEGMENT / 2, 500);
	history_write(&h, folder);
	unlink(log_folder_path(folder, log_folder_name(SEGMENT, ".seg")));
	CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
	expect_end(&h, &r);
	CU_ASSERT_EQUAL_FATAL(r.corrupt_count, 1);
	CU_ASSERT(r.corrupt[0].position == SEGMENT && r.corrupt[0].end == 2 * SEGMENT);
	CU_ASSERT_TRUE(log_folder_noted(&r, "a segment is missing"));
	CU_ASSERT_EQUAL(r.segments[1].state, HFB_RECOVERED_OPEN);
	CU_ASSERT_EQUAL(r.segments[2].state, HFB_RECOVERED_UNUSED);
	hfb_recovered_fini(&r);

	/* below a checkpoint as well */
	checkpoint_at(&h, h.positions[h.count - 3], folder, false);
	CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
	expect_end(&h, &r);
	CU_ASSERT_EQUAL_FATAL(r.corrupt_count, 1);
	CU_ASSERT(r.corrupt[0].position == SEGMENT && r.corrupt[0].end == 2 * SEGMENT);
	hfb_recovered_fini(&r);
	free(h.image.bytes);

	/* prepared segments behind a gap prove nothing: strays */
	folder = log_folder_make();
	h = history_make(3);
	history_fill(&h, SEGMENT, 500);
	history_write(&h, folder);
	unlink(log_folder_path(folder, log_folder_name(SEGMENT, ".seg")));
	CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
	expect_end(&h, &r);
	CU_ASSERT_EQUAL(r.corrupt_count, 0);
	CU_ASSERT_EQUAL(r.segments[1].state, HFB_RECOVERED_STRAY);
	hfb_recovered_fini(&r);
	free(h.image.bytes);
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
	checkpoint_at(&h, h.positions[h.count - 3], folder, false);
	CU_ASSERT_EQUAL_FATAL(hfb_checkpoint_load(hfb_env_real(), folder, &topic,
						  LOG_IMAGE_PARTITION, &c, &memory, &err),
			      0);
	c.start_position = 2 * SEGMENT;
	CU_ASSERT_EQUAL_FATAL(hfb_checkpoint_save(hfb_env_real(), folder, &c, &err), 0);
	free(memory);
	/* the crash came when the second was unlinked, the first was not */
	unlink(log_folder_path(folder, log_folder_name(SEGMENT, ".seg")));
	CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
	expect_end(&h, &r);
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

static void
test_bad_side_files_are_named_and_done_without(void)
{
	const char *folder = log_folder_make();
	struct history h = history_make(4);
	struct hfb_recovered r;

	history_fill(&h, 2 * SEGMENT + SEGMENT / 2, 500);
	history_write(&h, folder);
	CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0); /* writes the indexes */
	hfb_recovered_fini(&r);
	checkpoint_at(&h, h.positions[h.count - 3], folder, false);
	log_folder_flip(folder, log_folder_name(SEGMENT, ".idx"), 30, 2);
	CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
	expect_end(&h, &r);
	CU_ASSERT_TRUE(r.report.index_rebuilt);
	CU_ASSERT_TRUE(log_folder_noted(&r, log_folder_name(SEGMENT, ".idx")));
	hfb_recovered_fini(&r);
	CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
	CU_ASSERT_FALSE(r.report.index_rebuilt);
	hfb_recovered_fini(&r);

	log_folder_flip(folder, HFB_CHECKPOINT_NAME, 60, 2);
	CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
	expect_end(&h, &r);
	expect_producers(&h, &r);
	CU_ASSERT_TRUE(log_folder_noted(&r, "/" HFB_CHECKPOINT_NAME));
	hfb_recovered_fini(&r);

	/* rebuilding an index finds what is broken in its segment */
	checkpoint_at(&h, h.positions[h.count - 3], folder, false);
	unlink(log_folder_path(folder, log_folder_name(0, ".idx")));
	log_folder_flip(folder, log_folder_name(0, ".seg"),
			HFB_SEGMENT_HEADER_BYTES + h.positions[7] + 5, 2);
	CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
	expect_end(&h, &r);
	CU_ASSERT_EQUAL_FATAL(r.corrupt_count, 1);
	CU_ASSERT(r.corrupt[0].position == h.positions[7] && r.corrupt[0].end == h.positions[8]);
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

/* A hole in what was durable: reported as long as it is, wherever it ends. */
static void
test_a_hole_in_durable_bytes(void)
{
	struct history h = history_make(3);

	history_fill(&h, 2 * SEGMENT + SEGMENT / 2, 2000);
	for (int i = 0; i < 60; i++) {
		const char *folder = log_folder_make();
		uint64_t at = 512 + hfb_test_random() % (SEGMENT - 1024);
		uint64_t bytes = 1 + hfb_test_random() % (SEGMENT - at);
		uint64_t begin = 0, end = 0;
		struct hfb_recovered r;

		for (uint32_t n = 0; n < h.count; n++) {
			if (h.positions[n] <= at)
				begin = h.positions[n];
			if (h.positions[n] >= at + bytes && end == 0)
				end = h.positions[n];
		}
		history_write(&h, folder);
		log_folder_write(folder, log_folder_name(0, ".seg"), HFB_SEGMENT_HEADER_BYTES + at,
				 NULL, bytes);
		CU_ASSERT_EQUAL_FATAL(log_folder_recover(folder, &r), 0);
		expect_end(&h, &r);
		CU_ASSERT_EQUAL_FATAL(r.corrupt_count, 1);
		CU_ASSERT(r.corrupt[0].position >= begin && r.corrupt[0].position <= at + 1500);
		CU_ASSERT_EQUAL(r.corrupt[0].end, end);
		hfb_recovered_fini(&r);
	}
	free(h.image.bytes);
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
		{ "a flipped bit in a durable batch is corruption",
		  test_a_flipped_bit_in_a_durable_batch },
		{ "so it is in the tail of a clean stop",
		  test_a_flipped_bit_in_the_tail_after_a_clean_stop },
		{ "a tail torn at each sector ends the log", test_torn_at_each_sector },
		{ "a tail of an older epoch never comes back",
		  test_a_tail_of_an_older_epoch_never_comes_back },
		{ "a former lap never comes back", test_a_former_lap_never_comes_back },
		{ "a bad segment header is named, its data served", test_a_bad_segment_header },
		{ "a missing middle segment", test_a_missing_middle_segment },
		{ "retired segments stay retired", test_retired_segments_stay_retired },
		{ "bad indexes and checkpoints are named and done without",
		  test_bad_side_files_are_named_and_done_without },
		{ "streams and gaps", test_streams_and_gaps },
		{ "what does not continue the log is not taken",
		  test_what_does_not_continue_is_not_taken },
		{ "a newer format is refused, not cut", test_a_newer_format_is_refused_not_cut },
		{ "a hole in durable bytes", test_a_hole_in_durable_bytes },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("recover", tests);
}
