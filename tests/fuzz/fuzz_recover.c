/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery of a folder with foreign bytes in it.
 *
 * Input: one byte of flags, then log bytes. By the flags checksums are put right,
 * the bytes are spread over two segment files, their end becomes a checkpoint or
 * an index, and a segment's header is what the input says.
 *
 * Whatever comes, recovery ends, its result fits together, and a second recovery
 * of the same folder comes to the same end.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "recover.h"
#include "scan.h"
#include "sim_disk.h"

#define REPAIR_HEADERS	0x01u
#define REPAIR_PAYLOADS 0x02u
#define TWO_SEGMENTS	0x04u
#define CHECKPOINT	0x08u
#define INDEX		0x10u
#define OWN_HEADER	0x20u
#define KEEP_CRC	0x40u /* checkpoint and index keep the crc they have */
#define BASE		8192u
#define SIDE_BYTES	320u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct hfb_uuid topic = { { 1 } };

static void
repair(uint8_t *bytes, size_t size, unsigned int what)
{
	uint32_t seed = hfb_batch_seed(&topic, 0);
	size_t at = 0;

	while (size - at >= HFB_BATCH_HEADER_BYTES) {
		struct hfb_batch b;

		memcpy(&b, bytes + at, sizeof(b));
		if (b.size < HFB_BATCH_HEADER_BYTES || b.size > size - at || b.size % 8 != 0)
			break;
		if (what & REPAIR_PAYLOADS)
			b.payload_crc = hfb_crc32c(0, bytes + at + HFB_BATCH_HEADER_BYTES,
						   b.size - HFB_BATCH_HEADER_BYTES);
		if (what & REPAIR_HEADERS)
			b.header_crc = hfb_batch_crc(seed, BASE + at, &b);
		memcpy(bytes + at, &b, sizeof(b));
		at += b.size;
	}
}

static void
file_put(struct hfb_env *env, const char *path, const void *bytes, size_t size)
{
	int fd = hfb_env_open(env, path, O_RDWR | O_CREAT | O_TRUNC, 0644);

	if (fd < 0 || hfb_env_pwrite(env, fd, bytes, size, 0) < 0)
		abort();
	hfb_env_close(env, fd);
}

static void
segment_put(struct hfb_env *env, uint64_t base, const uint8_t *bytes, size_t size,
	    const uint8_t *own, size_t own_size)
{
	uint64_t capacity = (size + 4095) / 4096 * 4096;
	struct hfb_segment_header h = { .topic = topic,
					.base_position = base,
					.capacity_bytes = capacity };
	uint8_t *file = calloc(1, HFB_SEGMENT_HEADER_BYTES + capacity);
	char path[64];

	if (file == NULL)
		abort();
	hfb_segment_header_seal(&h);
	if (own != NULL && own_size >= sizeof(h)) {
		memcpy(&h, own, sizeof(h));
		h.topic = topic;
		h.partition = 0;
		hfb_segment_header_seal(&h);
	}
	memcpy(file, &h, sizeof(h));
	memcpy(file + HFB_SEGMENT_HEADER_BYTES, bytes, size);
	snprintf(path, sizeof(path), "/p/%020llu.seg", (unsigned long long)base);
	file_put(env, path, file, HFB_SEGMENT_HEADER_BYTES + capacity);
	free(file);
}

static void
check(const struct hfb_recovered *r)
{
	if (r->start_position > r->end_position || r->start_offset > r->end_offset)
		abort();
	for (uint32_t i = 0; i < r->segments_count; i++) {
		const struct hfb_recovered_segment *s = &r->segments[i];

		if (s->end_position < s->base_position ||
		    s->end_position > s->base_position + s->capacity_bytes)
			abort();
		if (i > 0 && s->base_position < s[-1].base_position + s[-1].capacity_bytes)
			abort();
	}
	for (uint32_t i = 0; i < r->corrupt_count; i++)
		if (r->corrupt[i].position > r->corrupt[i].end ||
		    r->corrupt[i].offset > r->corrupt[i].end_offset)
			abort();
	if (r->index != NULL)
		for (uint32_t i = 1; i < r->index->count; i++)
			if (r->index->entries[i].position <= r->index->entries[i - 1].position)
				abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hfb_recover_config config = { .folder = "/p", .topic = topic };
	struct hfb_recovered first, second;
	struct sim_disk *disk;
	struct hfb_env *env;
	uint8_t *bytes, side[SIDE_BYTES];
	size_t side_size = 0;
	unsigned int flags;
	int r, again;

	if (size < 2)
		return 0;
	flags = *data++;
	size--;
	if ((flags & (CHECKPOINT | INDEX)) != 0 && size > SIDE_BYTES) {
		side_size = SIDE_BYTES;
		size -= SIDE_BYTES;
		memcpy(side, data + size, SIDE_BYTES);
	}
	bytes = malloc(size);
	if (bytes == NULL)
		return 0;
	memcpy(bytes, data, size);
	if (flags & (REPAIR_HEADERS | REPAIR_PAYLOADS))
		repair(bytes, size, flags);
	disk = sim_disk_create(1);
	env = sim_disk_env(disk);
	hfb_env_mkdir(env, "/p", 0755);
	if ((flags & TWO_SEGMENTS) != 0 && size > 4096) {
		segment_put(env, BASE, bytes, 4096, NULL, 0);
		segment_put(env, BASE + 4096, bytes + 4096, size - 4096, NULL, 0);
	} else {
		segment_put(env, BASE, bytes, size, flags & OWN_HEADER ? bytes : NULL, size);
	}
	if (side_size > 0 && (flags & CHECKPOINT) != 0) {
		struct hfb_checkpoint c;
		uint32_t counts[4], crc;

		/* as many entries as there is room for, so that counts do not stop it at once */
		memcpy(counts, side + 96, sizeof(counts));
		counts[0] %= 3;
		counts[1] %= 2;
		counts[2] %= 3;
		counts[3] = 0;
		memcpy(side + 96, counts, sizeof(counts));
		side_size = 120 + counts[0] * 24 + counts[1] * 48 + counts[2] * 24;
		memcpy(side + 16, &topic, sizeof(topic));
		memset(side + 32, 0, 4);
		if ((flags & KEEP_CRC) == 0) {
			memset(side + 116, 0, 4);
			crc = hfb_crc32c(0, side, side_size);
			memcpy(side + 116, &crc, 4);
		}
		file_put(env, "/p/" HFB_CHECKPOINT_NAME, side, side_size);
		if (hfb_checkpoint_decode(side, side_size - 8, &c, NULL) == 0)
			abort(); /* its counts say more than there is */
	} else if (side_size > 0) {
		uint32_t count = (SIDE_BYTES - sizeof(struct hfb_index_header)) / 24, crc;
		char path[64];

		side_size = sizeof(struct hfb_index_header) + count * 24;
		memcpy(side + 72, &count, 4);
		if ((flags & KEEP_CRC) == 0) {
			crc = hfb_crc32c(hfb_crc32c(0, side, 76), side + 80, side_size - 80);
			memcpy(side + 76, &crc, 4);
		}
		snprintf(path, sizeof(path), "/p/%020u.idx", BASE);
		file_put(env, path, side, side_size);
	}
	r = hfb_recover(env, &config, &first, NULL);
	if (r == 0) {
		check(&first);
		again = hfb_recover(env, &config, &second, NULL);
		if (again != 0 || first.end_position != second.end_position ||
		    first.end_offset != second.end_offset ||
		    first.dedup_count != second.dedup_count)
			abort();
		hfb_recovered_fini(&second);
	} else if (r != -EOPNOTSUPP) {
		abort(); /* no input makes the disk fail */
	}
	hfb_recovered_fini(&first);
	sim_disk_destroy(disk);
	free(bytes);
	return 0;
}
