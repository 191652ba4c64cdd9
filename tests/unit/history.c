/* SPDX-License-Identifier: Apache-2.0 */
#include "history.h"

void
history_note(struct history *h, uint64_t position)
{
	hfb_assert(h->count < BATCHES_MAX);
	h->positions[h->count++] = position;
}

void
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

struct history
history_make(uint32_t segments)
{
	struct history h = { .image = log_image_make(0, (uint64_t)segments * SEGMENT, 3) };

	history_note(&h, log_image_epoch(&h.image));
	return h;
}

void
history_write(const struct history *h, const char *folder)
{
	for (uint64_t at = 0; at < h->image.capacity; at += SEGMENT)
		log_folder_segment(folder, &h->image, h->image.base + at, SEGMENT);
}

void
history_expect_producers(const struct history *h, const struct hfb_recovered *r)
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

void
history_expect_end(const struct history *h, const struct hfb_recovered *r)
{
	CU_ASSERT_EQUAL(r->end_position, h->image.position);
	CU_ASSERT_EQUAL(r->end_offset, h->image.offset);
	CU_ASSERT_EQUAL(r->leader_epoch, h->image.epoch);
	CU_ASSERT_EQUAL(r->last_timestamp_ns, h->image.timestamp_ns);
}

void
history_checkpoint(const struct history *h, uint64_t at, const char *folder, bool ended)
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
