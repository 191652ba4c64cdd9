/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes the seeds of fuzz_recover into a folder; run by hand when the format changes:
 *
 *	build/tests/fuzz/seeds_recover tests/fuzz/corpus/recover
 */
#include <stdio.h>
#include <stdlib.h>

#include "checkpoint.h"
#include "log_image.h"

#define BASE 8192u

static const char *folder;

static void
seed(const char *name, uint8_t flags, const void *bytes, size_t size, const void *side,
     size_t side_size)
{
	char path[1024];
	uint8_t pad[320] = { 0 };
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "w");
	hfb_assert(f != NULL);
	fputc(flags, f);
	fwrite(bytes, 1, size, f);
	if (side != NULL) {
		memcpy(pad, side, side_size);
		fwrite(pad, 1, sizeof(pad), f);
	}
	fclose(f);
}

static struct log_image
image_make(uint64_t base)
{
	struct log_image image = log_image_make(base, 8192, 2);
	struct hfb_uuid topic = { { 1 } };

	image.seed = hfb_batch_seed(&topic, 0);
	image.offset = 100;
	log_image_epoch(&image);
	return image;
}

int
main(int argc, char **argv)
{
	struct log_image image;
	struct hfb_index_header index = { .magic = HFB_INDEX_MAGIC, .version = HFB_FORMAT_VERSION };
	struct hfb_epoch_entry epoch = { 2, 0, BASE, 100 };
	struct hfb_dedup_entry dedup = { .producer_id = 1, .next_sequence = 1 };
	struct hfb_checkpoint c = { 0 };
	uint8_t side[320] = { 0 };
	uint64_t middle;

	if (argc != 2)
		return 2;
	folder = argv[1];

	image = image_make(BASE);
	for (int i = 0; i < 6; i++)
		log_image_events(&image, 1 + (uint64_t)i % 2, 1, 40);
	middle = image.position;
	image.durable = middle;
	log_image_gap(&image, 9, 5, 3, HFB_GAP_WIRE);
	log_image_events(&image, 1, 2, 40);
	log_image_end(&image);
	seed("clean", 0, image.bytes, image.position - BASE + 64, NULL, 0);
	seed("clean-repair", 3, image.bytes, image.position - BASE + 64, NULL, 0);
	seed("own-header", 0x23, image.bytes, image.position - BASE + 64, NULL, 0);
	c = (struct hfb_checkpoint){
		.topic = { { 1 } },
		.leader_epoch = 2,
		.position = middle,
		.offset = 106,
		.start_position = BASE,
		.segment_base = BASE,
		.segment_base_offset = 100,
		.last_timestamp_ns = 1000007000,
		.epochs_count = 1,
		.epochs = &epoch,
		.dedup_count = 1,
		.dedup = &dedup,
	};
	hfb_checkpoint_encode(&c, side);
	seed("checkpoint", 8, image.bytes, image.position - BASE, side, hfb_checkpoint_bytes(&c));
	seed("checkpoint-repair", 0x0b, image.bytes, image.position - BASE, side,
	     hfb_checkpoint_bytes(&c));
	image.bytes[middle - BASE - 20] ^= 1; /* durable, for those behind say so */
	seed("corrupt", 0, image.bytes, image.position - BASE, NULL, 0);
	image.bytes[image.position - BASE - 150] ^= 1;
	seed("torn", 0, image.bytes, image.position - BASE, NULL, 0);
	free(image.bytes);

	image = image_make(BASE);
	while (image.position - BASE < 3800)
		log_image_events(&image, 1, 1, 40);
	image.capacity = 4096;
	log_image_padding(&image);
	image.capacity = 8192;
	for (int i = 0; i < 5; i++) {
		image.durable = image.position;
		log_image_events(&image, 1, 1, 40);
	}
	seed("two-segments", 4, image.bytes, image.position - BASE, NULL, 0);
	index.base_position = BASE;
	index.end_position = BASE + 4096;
	index.base_offset = 100;
	index.end_offset = 140;
	index.last_timestamp_ns = 1;
	memcpy(side, &index, sizeof(index));
	seed("index", 0x14, image.bytes, image.position - BASE, side, sizeof(index));
	free(image.bytes);
	return 0;
}
