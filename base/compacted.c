/* SPDX-License-Identifier: Apache-2.0 */
#include "compacted.h"

#include <errno.h>
#include <string.h>

#include "crc32c.h"

int
hfb_compacted_head(const void *block, size_t size, const struct hfb_segment_header *segment,
		   struct hfb_compacted_header *ret)
{
	struct hfb_compacted_header head;

	if (segment->kind != HFB_SEGMENT_COMPACTED || size < HFB_COMPACTED_AT + sizeof(head))
		return -EBADMSG;
	memcpy(&head, (const uint8_t *)block + HFB_COMPACTED_AT, sizeof(head));
	if (head.magic != HFB_COMPACTED_MAGIC ||
	    head.crc != hfb_crc32c(0, &head, offsetof(struct hfb_compacted_header, crc)) ||
	    head.base_offset > head.end_offset || head.data_bytes > segment->capacity_bytes ||
	    head.data_bytes % HFB_BATCH_ALIGN != 0 ||
	    head.extents_count > head.data_bytes / HFB_BATCH_HEADER_BYTES)
		return -EBADMSG;
	*ret = head;
	return 0;
}

void
hfb_compacted_head_seal(struct hfb_compacted_header *head)
{
	head->magic = HFB_COMPACTED_MAGIC;
	head->crc = hfb_crc32c(0, head, offsetof(struct hfb_compacted_header, crc));
}

bool
hfb_extents_check(const struct hfb_segment_header *segment, const struct hfb_compacted_header *head,
		  const struct hfb_compacted_extent *entries)
{
	const uint64_t end = segment->base_position + segment->capacity_bytes;
	uint64_t position = segment->base_position, at = 0, offset = head->base_offset;

	if (hfb_crc32c(0, entries, (head->extents_count + 1) * sizeof(*entries)) !=
	    head->extents_crc)
		return false;
	for (uint32_t i = 0; i <= head->extents_count; i++) {
		const struct hfb_compacted_extent *e = &entries[i];

		/* what is before it takes as many positions as bytes, or more */
		if (e->position < position || e->at < at || e->position - position < e->at - at ||
		    e->offset < offset || e->position > end || e->position % HFB_BATCH_ALIGN != 0 ||
		    e->at % HFB_BATCH_ALIGN != 0 || (i > 0 && e->at == at))
			return false;
		position = e->position;
		at = e->at;
		offset = e->offset;
	}
	return entries[0].at == 0 && position == end && at == head->data_bytes &&
	       offset == head->end_offset;
}

bool
hfb_extents_find(const struct hfb_compacted_extent *entries, uint32_t count, uint64_t position,
		 struct hfb_extent_place *ret)
{
	uint32_t low = 0, high = count;

	while (low < high) { /* the first that begins behind the position */
		uint32_t middle = low + (high - low) / 2;

		if (entries[middle].position <= position)
			low = middle + 1;
		else
			high = middle;
	}
	if (low > 0) {
		const struct hfb_compacted_extent *e = &entries[low - 1];
		uint64_t bytes = entries[low].at - e->at;

		if (position - e->position < bytes) {
			ret->position = position;
			ret->offset = e->offset;
			ret->at = HFB_SEGMENT_HEADER_BYTES + e->at + (position - e->position);
			ret->bytes = bytes - (position - e->position);
			return true;
		}
	}
	ret->position = entries[low].position;
	ret->offset = entries[low].offset;
	ret->at = HFB_SEGMENT_HEADER_BYTES + entries[low].at;
	ret->bytes = 0;
	return false;
}
