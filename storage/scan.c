/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scan.c - read a segment file batch by batch.
 *
 *	file	 | header 4096 | batches ............................ |
 *	window			    [buffer, 16 KiB .. 2 MiB]
 *
 * The window starts small, since most partitions end right behind their
 * checkpoint, and doubles while the scan goes on.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "bug.h"
#include "crc32c.h"
#include "env.h"
#include "file.h"
#include "scan.h"

#define WINDOW_MIN (16u * HFB_KIB)
#define WINDOW_MAX (2u * HFB_MIB)
_Static_assert(WINDOW_MAX >= 2 * HFB_BATCH_BYTES_MAX, "a window holds any batch");

int
hfb_segment_header_parse(const void *bytes, size_t size, const struct hfb_uuid *topic,
			 uint32_t partition, struct hfb_segment_header *ret_header,
			 struct hfb_err *err)
{
	struct hfb_segment_header h;

	if (size < sizeof(h))
		return hfb_err_set(err, -EBADMSG, "header: only %zu bytes", size);
	memcpy(&h, bytes, sizeof(h));
	if (h.magic != HFB_SEGMENT_MAGIC)
		return hfb_err_set(err, -EBADMSG, "header: wrong magic %016" PRIx64, h.magic);
	if (hfb_crc32c(0, &h, offsetof(struct hfb_segment_header, header_crc)) != h.header_crc)
		return hfb_err_set(err, -EBADMSG, "header: checksum wrong");
	if (h.version != HFB_FORMAT_VERSION || h.incompatible != 0 ||
	    h.kind > HFB_SEGMENT_COMPACTED)
		return hfb_err_set(err, -EBADMSG,
				   "header: version %u, features %x, kind %u: not known here",
				   h.version, h.incompatible, h.kind);
	if (memcmp(&h.topic, topic, sizeof(*topic)) != 0 || h.partition != partition)
		return hfb_err_set(err, -EBADMSG, "header: belongs to another partition (%u)",
				   h.partition);
	if (h.base_position % HFB_SEGMENT_HEADER_BYTES != 0 ||
	    h.capacity_bytes % HFB_SEGMENT_HEADER_BYTES != 0 || h.capacity_bytes == 0 ||
	    h.capacity_bytes > HFB_SEGMENT_BYTES_MAX || h.base_position > UINT64_MAX / 4)
		return hfb_err_set(err, -EBADMSG,
				   "header: positions %" PRIu64 " + %" PRIu64 " cannot be",
				   h.base_position, h.capacity_bytes);
	*ret_header = h;
	return 0;
}

void
hfb_segment_header_seal(struct hfb_segment_header *header)
{
	header->magic = HFB_SEGMENT_MAGIC;
	header->version = HFB_FORMAT_VERSION;
	header->header_crc = hfb_crc32c(0, header, offsetof(struct hfb_segment_header, header_crc));
}

bool
hfb_segment_name_parse(const char *name, uint64_t *ret_base_position)
{
	uint64_t base = 0;

	for (int i = 0; i < 20; i++) {
		if (name[i] < '0' || name[i] > '9')
			return false;
		if (__builtin_mul_overflow(base, 10u, &base) ||
		    __builtin_add_overflow(base, (uint64_t)(name[i] - '0'), &base))
			return false;
	}
	if (strcmp(name + 20, ".seg") != 0 || base % HFB_SEGMENT_HEADER_BYTES != 0 ||
	    base > UINT64_MAX / 4)
		return false;
	*ret_base_position = base;
	return true;
}

int
hfb_scan_open(struct hfb_scan *scan, struct hfb_env *env, const char *path, uint32_t seed,
	      uint64_t base_position, uint64_t capacity_bytes, uint64_t from, struct hfb_err *err)
{
	uint64_t size;
	int r;

	hfb_assert(from >= base_position);
	hfb_assert(from <= base_position + capacity_bytes);
	r = hfb_file_open(env, path, &scan->fd, &size, err);
	if (r < 0)
		return r;
	scan->env = env;
	scan->seed = seed;
	scan->base_position = base_position;
	scan->capacity_bytes = capacity_bytes;
	scan->position = from;
	scan->window_position = from;
	scan->window_bytes = 0;
	scan->next_bytes = WINDOW_MIN;
	scan->read_bytes = 0;
	scan->error = 0;
	size = size > HFB_SEGMENT_HEADER_BYTES ? size - HFB_SEGMENT_HEADER_BYTES : 0;
	scan->file_end = base_position + (size < capacity_bytes ? size & ~7ull : capacity_bytes);
	scan->open = true;
	return 0;
}

void
hfb_scan_close(struct hfb_scan *scan)
{
	if (scan->open)
		hfb_file_close(scan->env, scan->fd);
	scan->open = false;
}

void
hfb_scan_fini(struct hfb_scan *scan)
{
	hfb_scan_close(scan);
	free(scan->buffer);
	memset(scan, 0, sizeof(*scan));
}

/* Have at least @want bytes of @position in the buffer, or all up to the file's end. */
static void
window_fill(struct hfb_scan *scan, uint64_t position, size_t want)
{
	size_t keep = 0, bytes = scan->next_bytes;
	int64_t n;

	if (bytes < want)
		bytes = want > WINDOW_MAX ? WINDOW_MAX
					  : (want + WINDOW_MIN - 1) & ~(size_t)(WINDOW_MIN - 1);
	if (bytes > scan->file_end - position)
		bytes = (size_t)(scan->file_end - position);
	if (scan->buffer_bytes < bytes) {
		uint8_t *larger = realloc(scan->buffer, bytes);

		if (larger == NULL) {
			scan->error = -ENOMEM;
			return;
		}
		scan->buffer = larger;
		scan->buffer_bytes = bytes;
	}
	if (position >= scan->window_position &&
	    position - scan->window_position < scan->window_bytes) {
		keep = scan->window_bytes - (size_t)(position - scan->window_position);
		memmove(scan->buffer, scan->buffer + (position - scan->window_position), keep);
	}
	scan->window_position = position;
	scan->window_bytes = keep;
	while (scan->window_bytes < bytes) {
		n = hfb_file_read(scan->env, scan->fd, scan->buffer + scan->window_bytes,
				  bytes - scan->window_bytes,
				  HFB_SEGMENT_HEADER_BYTES + (position - scan->base_position) +
					  scan->window_bytes);
		if (n < 0) {
			scan->error = (int)n;
			return;
		}
		if (n == 0) { /* shorter than fstat said */
			scan->file_end = position + (scan->window_bytes & ~(size_t)7);
			break;
		}
		scan->window_bytes += (size_t)n;
		scan->read_bytes += (uint64_t)n;
	}
	if (scan->next_bytes < WINDOW_MAX)
		scan->next_bytes *= 2;
}

const uint8_t *
hfb_scan_bytes(struct hfb_scan *scan, uint64_t position, size_t want, size_t *ret_bytes)
{
	size_t have;

	*ret_bytes = 0;
	if (scan->error != 0 || position < scan->base_position || position >= scan->file_end)
		return NULL;
	if (want > scan->file_end - position)
		want = (size_t)(scan->file_end - position);
	if (position < scan->window_position ||
	    position - scan->window_position + want > scan->window_bytes) {
		window_fill(scan, position, want);
		if (scan->error != 0 || scan->window_bytes == 0)
			return NULL;
	}
	have = scan->window_bytes - (size_t)(position - scan->window_position);
	*ret_bytes = have;
	return scan->buffer + (position - scan->window_position);
}

enum hfb_fault
hfb_scan_next(struct hfb_scan *scan, unsigned int checks, struct hfb_batch_view *ret_view)
{
	uint64_t end = scan->base_position + scan->capacity_bytes;
	size_t want = HFB_BATCH_HEADER_BYTES, have;
	enum hfb_fault fault;
	const uint8_t *at;

	memset(ret_view, 0, sizeof(*ret_view));
	if (scan->position >= end)
		return HFB_FAULT_END;
	/* Once for the header, once more when the batch is larger than what was read. */
	for (int i = 0; i < 2; i++) {
		at = hfb_scan_bytes(scan, scan->position, want, &have);
		if (at == NULL || have < HFB_BATCH_HEADER_BYTES)
			return HFB_FAULT_HEADER;
		fault = hfb_batch_parse(scan->seed, scan->position, at, have, checks, ret_view);
		if (fault != HFB_FAULT_SHORT)
			break;
		if (ret_view->header.size > end - scan->position)
			break;
		want = ret_view->header.size;
	}
	if (ret_view->header.size > end - scan->position) {
		memset(ret_view, 0, sizeof(*ret_view));
		return HFB_FAULT_SHAPE;
	}
	if (fault == HFB_FAULT_NONE)
		scan->position += ret_view->header.size;
	return fault;
}

static bool
all_zero(const uint8_t *at, size_t bytes)
{
	return bytes == 0 || (at[0] == 0 && memcmp(at, at + 1, bytes - 1) == 0);
}

bool
hfb_scan_next_valid(struct hfb_scan *scan, uint64_t from, uint64_t limit, uint64_t zeros_max,
		    struct hfb_batch_view *ret_view)
{
	const size_t step = 8u * HFB_KIB;
	uint64_t end = scan->base_position + scan->capacity_bytes;
	uint64_t zeros = 0;

	scan->gave_up = 0;
	from = (from + 7) & ~7ull;
	while (from < limit) {
		size_t have, look;
		const uint8_t *at =
			hfb_scan_bytes(scan, from, step + HFB_BATCH_HEADER_BYTES, &have);

		if (at == NULL || have < HFB_BATCH_HEADER_BYTES)
			return false;
		/* Headers that begin in [from, from + step): they may end behind it. */
		look = have < step + HFB_BATCH_HEADER_BYTES - 8 ? have
								: step + HFB_BATCH_HEADER_BYTES - 8;
		if (all_zero(at, look)) {
			zeros += step;
			if (zeros_max != 0 && zeros >= zeros_max) {
				scan->gave_up = from + step;
				return false;
			}
		} else {
			zeros = 0;
			if (hfb_batch_search(scan->seed, from, at, look, ret_view)) {
				if (ret_view->position >= limit)
					return false;
				if (ret_view->header.size > end - ret_view->position) {
					from = ret_view->position + 8;
					continue;
				}
				/* Cut by @look, perhaps: the caller parses it whole. */
				scan->position = ret_view->position;
				return true;
			}
		}
		from += step;
	}
	return false;
}

bool
hfb_scan_data_ahead(struct hfb_scan *scan, uint64_t from)
{
	uint8_t block[4096];

	from &= ~(uint64_t)(sizeof(block) - 1);
	for (uint64_t ahead = 128u * HFB_KIB; from + ahead < scan->file_end; ahead *= 2) {
		int64_t n = hfb_file_read(scan->env, scan->fd, block, sizeof(block),
					  HFB_SEGMENT_HEADER_BYTES +
						  (from + ahead - scan->base_position));

		if (n < 0) {
			scan->error = (int)n;
			return false;
		}
		scan->read_bytes += (uint64_t)n;
		if (!all_zero(block, (size_t)n))
			return true;
	}
	return false;
}
