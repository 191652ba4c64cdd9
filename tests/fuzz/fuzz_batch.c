/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches and records of foreign bytes.
 *
 * A random change would never pass a checksum, so by the first byte of the input
 * the checksums are put right first: then fields and sizes lie under a right crc.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "batch.h"
#include "crc32c.h"

#define REPAIR_HEADERS	1u
#define REPAIR_PAYLOADS 2u
#define SEED		0x12345678u
#define POSITION	4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
repair(uint8_t *bytes, size_t size, unsigned int what)
{
	size_t at = 0;

	while (size - at >= HFB_BATCH_HEADER_BYTES) {
		struct hfb_batch b;

		memcpy(&b, bytes + at, sizeof(b));
		if (b.size < HFB_BATCH_HEADER_BYTES || b.size > size - at || b.size % 8 != 0)
			b.size = (uint32_t)(size - at) & ~7u;
		if ((what & REPAIR_PAYLOADS) != 0)
			b.payload_crc = hfb_crc32c(0, bytes + at + HFB_BATCH_HEADER_BYTES,
						   b.size - HFB_BATCH_HEADER_BYTES);
		b.header_crc = hfb_batch_crc(SEED, POSITION + at, &b);
		memcpy(bytes + at, &b, sizeof(b));
		at += b.size;
	}
}

static volatile uint8_t sink;

/* Read each byte a view claims to be there. */
static void
touch(const uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		sink = bytes[i];
}

static void
records_walk(const struct hfb_batch_view *view)
{
	struct hfb_record_view r;
	uint32_t n = 0;

	for (hfb_record_first(view, &r); hfb_record_next(&r);) {
		const uint8_t *name, *value;
		uint16_t name_size, value_size;
		uint32_t at = 0;

		n++;
		if (r.key != NULL)
			touch(r.key, r.key_size);
		if (r.value != NULL)
			touch(r.value, r.value_size);
		while (hfb_header_next(r.headers, r.headers_size, &at, &name, &name_size, &value,
				       &value_size)) {
			touch(name, name_size);
			touch(value, value_size);
		}
	}
	/* what was checked is all there */
	if (n != view->header.count)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hfb_walk walk;
	struct hfb_batch_view view;
	unsigned int what;
	uint8_t *bytes;

	if (size < 1)
		return 0;
	what = *data++;
	size--;
	bytes = malloc(size > 0 ? size : 1);
	if (bytes == NULL)
		return 0;
	memcpy(bytes, data, size);
	if (what & (REPAIR_HEADERS | REPAIR_PAYLOADS))
		repair(bytes, size, what);

	hfb_walk_init(&walk, SEED, POSITION, bytes, size);
	while (hfb_walk_next(&walk, HFB_CHECK_ALL, &view) == HFB_FAULT_NONE) {
		if (view.bytes < bytes || view.bytes + view.header.size > bytes + size)
			abort();
		if (view.control == 0)
			records_walk(&view);
	}
	hfb_batch_search(SEED, POSITION, bytes, size, &view);
	(void)hfb_records_check(bytes, size, (uint32_t)what);
	free(bytes);
	return 0;
}
