/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crc32c.h - Castagnoli crc (RFC 3720 B.4): SSE4.2 where there is, else tables.
 *
 * Threads: pure; the choice is made once before main.
 * Cost:    about 20 bytes/ns with SSE4.2 in three interleaved runs.
 */
#ifndef HFB_CRC32C_H
#define HFB_CRC32C_H

#include <stddef.h>
#include <stdint.h>

#include <hfbus/log.h>
#include <hfbus/types.h>

/* crc of @bytes continuing @crc; start with 0, result is final (inverted in and out). */
uint32_t hfb_crc32c(uint32_t crc, const void *bytes, size_t size);
/* The same while copying; the crc is of what was read, which is what was written. */
uint32_t hfb_crc32c_copy(uint32_t crc, void *to, const void *from, size_t size);
/* The portable path, for tests. */
uint32_t hfb_crc32c_portable(uint32_t crc, const void *bytes, size_t size);

/* Seed of a partition's batch header checksums: crc32c of uuid, then u32 index LE. */
uint32_t hfb_batch_seed(const struct hfb_uuid *topic, uint32_t partition);

/*
 * Checksum of a batch header at @position: crc32c continuing @seed over the
 * position (u64 LE), then `size` (u32), then header bytes 8..63. Computed from
 * the struct's fields in registers. header_crc itself is ignored.
 */
uint32_t hfb_batch_crc(uint32_t seed, uint64_t position, const struct hfb_batch *batch);

/*
 * Is there a sound batch header at @bytes (@available readable)? Checks crc,
 * version, known flags, size (64..HFB_BATCH_BYTES_MAX, multiple of 8; padding
 * may have payload of any content). Copies it to *@ret_batch when it is.
 */
int hfb_batch_header_check(uint32_t seed, uint64_t position, const void *bytes, size_t available,
			   struct hfb_batch *ret_batch); /* 0, -EBADMSG, -EAGAIN (short) */

/* Records walk exactly to @size and are @count many? 0 or -EBADMSG. */
int hfb_records_check(const void *records, size_t size, uint32_t count);

#endif
