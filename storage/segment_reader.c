/* SPDX-License-Identifier: Apache-2.0 */
#include "segment_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "env.h"
#include "file.h"

int
hfb_extents_load(struct hfb_env *env, int fd, const char *path, uint64_t base_position,
		 struct hfb_compacted_header *ret_head, struct hfb_extents **ret,
		 struct hfb_err *err)
{
	/* aligned, since the descriptor may be one for direct reads */
	uint8_t *block = aligned_alloc(HFB_SEGMENT_HEADER_BYTES, HFB_SEGMENT_HEADER_BYTES);
	struct hfb_compacted_header head;
	struct hfb_extents *extents = NULL;
	struct hfb_segment_header h;
	uint64_t at, skip;
	size_t bytes, room;
	int64_t n;
	int r = 0;

	if (block == NULL)
		return hfb_err_set(err, -ENOMEM, "%s: no memory", path);
	n = hfb_file_read(env, fd, block, HFB_SEGMENT_HEADER_BYTES, 0);
	if (n < 0)
		r = hfb_err_set(err, (int)n, "%s: read: %s", path, strerror((int)-n));
	if (r == 0) {
		memset(&h, 0, sizeof(h));
		memcpy(&h, block, sizeof(h));
		if (n < (int64_t)HFB_SEGMENT_HEADER_BYTES || h.base_position != base_position ||
		    h.header_crc !=
			    hfb_crc32c(0, &h, offsetof(struct hfb_segment_header, header_crc)) ||
		    hfb_compacted_head(block, (size_t)n, &h, &head) < 0)
			r = hfb_err_set(err, -EBADMSG, "%s: header of a compacted segment is bad",
					path);
	}
	free(block);
	if (r < 0)
		return r;
	bytes = (head.extents_count + 1) * sizeof(extents->entries[0]);
	at = (HFB_SEGMENT_HEADER_BYTES + head.data_bytes) & ~(uint64_t)4095;
	skip = HFB_SEGMENT_HEADER_BYTES + head.data_bytes - at;
	room = (skip + bytes + 4095) & ~(size_t)4095;
	block = aligned_alloc(4096, room);
	extents = malloc(sizeof(*extents) + bytes);
	if (block == NULL || extents == NULL) {
		free(block);
		free(extents);
		return hfb_err_set(err, -ENOMEM, "%s: no memory", path);
	}
	for (size_t have = 0; have < skip + bytes && r == 0; have += (size_t)n) {
		n = hfb_file_read(env, fd, block + have, room - have, at + have);
		if (n < 0)
			r = hfb_err_set(err, (int)n, "%s: read: %s", path, strerror((int)-n));
		else if (n == 0)
			r = hfb_err_set(err, -EBADMSG, "%s: ends within its extents", path);
	}
	if (r == 0) {
		extents->count = head.extents_count;
		memcpy(extents->entries, block + skip, bytes);
		if (!hfb_extents_check(&h, &head, extents->entries))
			r = hfb_err_set(err, -EBADMSG, "%s: extents are bad", path);
	}
	free(block);
	if (r < 0) {
		free(extents);
		return r;
	}
	*ret_head = head;
	*ret = extents;
	return 0;
}

/* The scan goes on in extent @i: same bytes of the file, other positions. */
static void
extent_enter(struct hfb_segment_reader *reader, uint32_t i)
{
	const struct hfb_compacted_extent *e = &reader->extents->entries[i];
	struct hfb_scan *scan = &reader->scan;
	uint64_t base = e->position - e->at, moved = base - scan->base_position;

	reader->extent = i;
	if (i == reader->extents->count)
		return; /* it only says where the segment ends */
	scan->window_position += moved;
	scan->file_end += moved;
	scan->base_position = base;
	scan->capacity_bytes = e[1].at;
	scan->position = e->position;
}

int
hfb_segment_reader_open(struct hfb_segment_reader *reader, struct hfb_env *env, const char *path,
			uint32_t seed, const struct hfb_segment_place_in_log *segment,
			uint64_t from, struct hfb_err *err)
{
	struct hfb_extent_place place;
	uint32_t i = 0;
	int r;

	reader->end_position = segment->base_position + segment->capacity_bytes;
	r = hfb_scan_open(&reader->scan, env, path, seed, segment->base_position,
			  segment->capacity_bytes, from, err);
	if (r < 0 || segment->kind != HFB_SEGMENT_COMPACTED)
		return r;
	r = hfb_extents_load(env, reader->scan.fd, path, segment->base_position, &reader->head,
			     &reader->extents, err);
	if (r < 0) {
		hfb_segment_reader_close(reader);
		return r;
	}
	/* the extents are no batches */
	if (reader->scan.file_end > segment->base_position + reader->head.data_bytes)
		reader->scan.file_end = segment->base_position + reader->head.data_bytes;
	while (i < reader->extents->count && reader->extents->entries[i + 1].position <= from)
		i++;
	extent_enter(reader, i);
	if (from > reader->scan.position) {
		if (hfb_extents_find(reader->extents->entries, reader->extents->count, from,
				     &place))
			reader->scan.position = from;
		else if (i < reader->extents->count)
			extent_enter(reader, i + 1);
	}
	reader->scan.window_position = reader->scan.position;
	reader->scan.window_bytes = 0;
	return 0;
}

enum hfb_fault
hfb_segment_reader_next(struct hfb_segment_reader *reader, unsigned int checks,
			struct hfb_batch_view *ret_view)
{
	enum hfb_fault fault;

	if (reader->extents == NULL)
		return hfb_scan_next(&reader->scan, checks, ret_view);
	for (;;) {
		if (reader->extent == reader->extents->count) {
			memset(ret_view, 0, sizeof(*ret_view));
			return HFB_FAULT_END;
		}
		fault = hfb_scan_next(&reader->scan, checks, ret_view);
		if (fault != HFB_FAULT_END)
			return fault;
		extent_enter(reader, reader->extent + 1);
	}
}

void
hfb_segment_reader_close(struct hfb_segment_reader *reader)
{
	hfb_scan_close(&reader->scan);
	free(reader->extents);
	reader->extents = NULL;
}

void
hfb_segment_reader_fini(struct hfb_segment_reader *reader)
{
	hfb_segment_reader_close(reader);
	hfb_scan_fini(&reader->scan);
}
