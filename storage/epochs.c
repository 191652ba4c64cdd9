/* SPDX-License-Identifier: Apache-2.0 */
/* epochs.c - where each leader epoch of a log begins. */
#include <string.h>

#include "bug.h"
#include "epochs.h"

void
hfb_epochs_init(struct hfb_epochs *epochs, struct hfb_epoch_entry *entries, uint32_t max)
{
	epochs->entries = entries;
	epochs->count = 0;
	epochs->max = max;
}

void
hfb_epochs_add(struct hfb_epochs *epochs, uint32_t leader_epoch, uint64_t position, uint64_t offset)
{
	struct hfb_epoch_entry *e;

	hfb_assert(epochs->max > 0);
	if (epochs->count > 0 && epochs->entries[epochs->count - 1].leader_epoch >= leader_epoch)
		return;
	while (epochs->count > 0 && epochs->entries[epochs->count - 1].start_position >= position)
		epochs->count--;
	if (epochs->count == epochs->max) {
		memmove(epochs->entries, epochs->entries + 1,
			(epochs->count - 1) * sizeof(*epochs->entries));
		epochs->count--;
	}
	e = &epochs->entries[epochs->count++];
	e->leader_epoch = leader_epoch;
	e->reserved = 0;
	e->start_position = position;
	e->start_offset = offset;
}

void
hfb_epochs_trim(struct hfb_epochs *epochs, uint64_t position)
{
	uint32_t n = 0;

	while (n + 1 < epochs->count && epochs->entries[n + 1].start_position <= position)
		n++;
	if (n == 0)
		return;
	memmove(epochs->entries, epochs->entries + n,
		(epochs->count - n) * sizeof(*epochs->entries));
	epochs->count -= n;
}

bool
hfb_epochs_holds(const struct hfb_epochs *epochs, uint32_t leader_epoch, uint64_t position,
		 uint64_t end_position, uint64_t end_offset, struct hfb_place *ret_place)
{
	uint64_t end = end_position, offset = end_offset;
	uint32_t i;

	/* It ends where the first newer epoch begins. */
	for (i = 0; leader_epoch != 0 && i < epochs->count; i++) {
		if (epochs->entries[i].leader_epoch > leader_epoch) {
			end = epochs->entries[i].start_position;
			offset = epochs->entries[i].start_offset;
			break;
		}
	}
	if (position <= end)
		return true;
	memset(ret_place, 0, sizeof(*ret_place));
	ret_place->leader_epoch = leader_epoch;
	ret_place->position = end;
	ret_place->offset = offset;
	return false;
}

bool
hfb_epochs_holds_offset(const struct hfb_epochs *epochs, uint32_t leader_epoch, uint64_t offset,
			struct hfb_place *ret_place)
{
	for (uint32_t i = 0; leader_epoch != 0 && i < epochs->count; i++) {
		const struct hfb_epoch_entry *next = &epochs->entries[i];

		if (next->leader_epoch <= leader_epoch)
			continue;
		if (offset <= next->start_offset)
			return true;
		memset(ret_place, 0, sizeof(*ret_place));
		ret_place->leader_epoch = leader_epoch;
		ret_place->position = next->start_position;
		ret_place->offset = next->start_offset;
		return false;
	}
	return true;
}

uint32_t
hfb_epochs_at(const struct hfb_epochs *epochs, uint64_t position)
{
	for (uint32_t i = epochs->count; i-- > 0;)
		if (epochs->entries[i].start_position <= position)
			return epochs->entries[i].leader_epoch;
	return 0;
}
