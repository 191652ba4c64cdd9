/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_image.h - build runs of batches in memory, right ones and wrong ones.
 *
 *	struct log_image image = log_image_make(base, capacity, epoch);
 *	log_image_epoch(&image);
 *	log_image_events(&image, producer, 3, 100);
 *	log_image_end(&image);
 *	... image.bytes, image.position ...
 *	free(image.bytes);
 *
 * Threads: the caller's.
 * Memory:  bytes is malloc'ed, zeroed.
 */
#ifndef LOG_IMAGE_H
#define LOG_IMAGE_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <hfbus/log.h>

#include "bug.h"
#include "crc32c.h"

#define LOG_IMAGE_TOPIC                                                                            \
	((struct hfb_uuid){ { 7, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 } })
#define LOG_IMAGE_PARTITION 3u

struct log_image {
	uint8_t *bytes; /* of `base` on */
	uint64_t base, capacity;
	uint64_t position, offset; /* the next batch's */
	uint64_t durable;	   /* what appended batches say was durable */
	uint64_t timestamp_ns;
	uint32_t epoch, previous_epoch;
	uint32_t seed;
	struct {
		uint64_t id, next;
	} producers[16];
};

static inline uint32_t
log_image_seed(void)
{
	struct hfb_uuid topic = LOG_IMAGE_TOPIC;

	return hfb_batch_seed(&topic, LOG_IMAGE_PARTITION);
}

static inline struct log_image
log_image_make(uint64_t base, uint64_t capacity, uint32_t epoch)
{
	struct log_image image;

	memset(&image, 0, sizeof(image));
	image.bytes = calloc(1, capacity + 64);
	hfb_assert(image.bytes != NULL);
	image.base = image.position = image.durable = base;
	image.capacity = capacity;
	image.epoch = epoch;
	image.timestamp_ns = 1000000000ull;
	image.seed = log_image_seed();
	return image;
}

/* The bytes where the next batch goes, or those at @position. */
static inline uint8_t *
log_image_at(struct log_image *image, uint64_t position)
{
	return image->bytes + (position - image->base);
}

/* Append @b with @payload behind it; fills in size, crcs, offset, epoch, lag, time. */
static inline uint64_t
log_image_put(struct log_image *image, struct hfb_batch b, const void *extension,
	      uint32_t extension_bytes, const void *payload, uint32_t payload_bytes)
{
	uint64_t position = image->position;
	uint8_t *at = log_image_at(image, position);

	b.size = HFB_BATCH_HEADER_BYTES + extension_bytes + payload_bytes;
	hfb_assert(b.size % 8 == 0 && position - image->base + b.size <= image->capacity);
	b.version = HFB_BATCH_VERSION;
	b.base_offset = image->offset;
	b.leader_epoch = image->epoch;
	b.durable_lag = (uint32_t)((position - image->durable) / 8);
	b.timestamp_ns = image->timestamp_ns += 1000;
	b.payload_crc = hfb_crc32c(0, payload, payload_bytes);
	if ((b.flags & HFB_BATCH_CONTROL) && b.count == 0 && b.base_sequence == HFB_CONTROL_PADDING)
		b.payload_crc = 0;
	b.header_crc = hfb_batch_crc(image->seed, position, &b);
	memcpy(at, &b, sizeof(b));
	if (extension_bytes > 0)
		memcpy(at + 64, extension, extension_bytes);
	memcpy(at + 64 + extension_bytes, payload, payload_bytes);
	image->position += b.size;
	image->offset += b.count;
	return position;
}

/* The payload of @count events of @value_size bytes that are all different. */
static inline uint32_t
log_image_records(uint8_t *to, uint64_t producer, uint64_t sequence, uint32_t count,
		  uint32_t value_size)
{
	uint32_t bytes = (uint32_t)hfb_record_bytes(value_size, HFB_KEY_NULL, 0);

	memset(to, 0, (size_t)count * bytes);
	for (uint32_t i = 0; i < count; i++) {
		struct hfb_record r = { value_size, HFB_KEY_NULL, 0, 0 };
		uint8_t *at = to + (size_t)i * bytes;

		memcpy(at, &r, sizeof(r));
		for (uint32_t j = 0; j < value_size; j++)
			at[16 + j] = (uint8_t)(producer * 31 + (sequence + i) * 7 + j + 1);
	}
	return count * bytes;
}

/* A batch of @count events by @producer (0 = none), in its sequence. Returns its position. */
static inline uint64_t
log_image_events(struct log_image *image, uint64_t producer, uint32_t count, uint32_t value_size)
{
	struct hfb_batch b = { .count = count, .producer_id = producer };
	uint8_t *payload = malloc((size_t)count * (value_size + 32));
	uint64_t *next = NULL;
	uint64_t position;
	uint32_t bytes;

	hfb_assert(payload != NULL);
	for (int i = 0; producer != 0 && next == NULL && i < 16; i++) {
		if (image->producers[i].id == producer || image->producers[i].id == 0) {
			image->producers[i].id = producer;
			next = &image->producers[i].next;
		}
	}
	if (next != NULL) {
		b.base_sequence = *next;
		*next += count;
	}
	bytes = log_image_records(payload, producer, b.base_sequence, count, value_size);
	position = log_image_put(image, b, NULL, 0, payload, bytes);
	free(payload);
	return position;
}

static inline uint64_t
log_image_control(struct log_image *image, uint16_t type, const void *body, uint32_t bytes)
{
	struct hfb_batch b = { .flags = HFB_BATCH_CONTROL, .base_sequence = type };

	return log_image_put(image, b, NULL, 0, body, bytes);
}

/* Begin image->epoch here. */
static inline uint64_t
log_image_epoch(struct log_image *image)
{
	struct hfb_control_epoch c = {
		.control = { HFB_CONTROL_EPOCH_START, 1, 0 },
		.leader_epoch = image->epoch,
		.previous_epoch = image->previous_epoch,
		.previous_end = image->position,
		.previous_offset = image->offset,
	};

	image->previous_epoch = image->epoch;
	return log_image_control(image, HFB_CONTROL_EPOCH_START, &c, sizeof(c));
}

static inline uint64_t
log_image_end(struct log_image *image)
{
	struct hfb_control_end c = {
		.control = { HFB_CONTROL_END_MARK, 1, 0 },
		.end_position = image->position,
		.end_offset = image->offset,
	};

	return log_image_control(image, HFB_CONTROL_END_MARK, &c, sizeof(c));
}

static inline uint64_t
log_image_gap(struct log_image *image, uint64_t stream, uint64_t first, uint64_t count,
	      uint32_t cause)
{
	struct hfb_control_gap c = {
		.control = { HFB_CONTROL_GAP, 1, 0 },
		.first = first,
		.count = count,
		.cause = cause,
	};
	struct hfb_batch b = {
		.flags = HFB_BATCH_CONTROL | HFB_BATCH_STREAM,
		.count = 1,
		.producer_id = stream,
		.base_sequence = first,
	};

	return log_image_put(image, b, NULL, 0, &c, sizeof(c));
}

/* Events and padding up to the image's end, whatever is left; adds to *@count. */
static inline uint64_t log_image_padding(struct log_image *image);
static inline void
log_image_padding_all(struct log_image *image, uint32_t *count)
{
	while (image->base + image->capacity - image->position > HFB_BATCH_BYTES_MAX) {
		log_image_events(image, 0, 1, 1000);
		++*count;
	}
	log_image_padding(image);
	++*count;
}

/* Padding up to the image's end. */
static inline uint64_t
log_image_padding(struct log_image *image)
{
	struct hfb_batch b = { .flags = HFB_BATCH_CONTROL, .base_sequence = HFB_CONTROL_PADDING };
	uint64_t left = image->base + image->capacity - image->position;
	uint8_t *payload = calloc(1, left);
	uint64_t position;

	hfb_assert(left >= 64 && payload != NULL);
	position = log_image_put(image, b, NULL, 0, payload, (uint32_t)left - 64);
	free(payload);
	return position;
}

#endif
