/* SPDX-License-Identifier: Apache-2.0 */
/*
 * epochs.h - where each leader epoch of a log begins, so that a place read in
 * an epoch that was cut off is told where it ended.
 *
 * Threads: the caller's; a plain list over the caller's memory.
 * Memory:  `entries` is the caller's array of `max`; nothing allocates.
 */
#ifndef HFB_EPOCHS_H
#define HFB_EPOCHS_H

#include <stdbool.h>
#include <stdint.h>

#include <hfbus/types.h>

/* Kept at most; older ones are merged away (their places then end where the
 * oldest kept one begins). */
#define HFB_EPOCHS_MAX 1024u

struct hfb_epoch_entry {
	uint32_t leader_epoch;
	uint32_t reserved;
	uint64_t start_position;
	uint64_t start_offset;
};

struct hfb_epochs {
	struct hfb_epoch_entry *entries; /* ascending */
	uint32_t count, max;
};

void hfb_epochs_init(struct hfb_epochs *epochs, struct hfb_epoch_entry *entries, uint32_t max);
/*
 * @leader_epoch begins here. The same epoch again, or an older one, changes
 * nothing; epochs that start at or beyond @position were cut off and go.
 * When full the oldest goes.
 */
void hfb_epochs_add(struct hfb_epochs *epochs, uint32_t leader_epoch, uint64_t position,
		    uint64_t offset);
/* Retention: epochs that end at or below @position go. */
void hfb_epochs_trim(struct hfb_epochs *epochs, uint64_t position);
/*
 * Does a place still stand? True: *@ret_place untouched. False: it was cut off,
 * *@ret_place is where its epoch ends. @end_position and @end_offset: the log's.
 * Epoch 0 means unknown: only the log's end counts then.
 */
bool hfb_epochs_holds(const struct hfb_epochs *epochs, uint32_t leader_epoch, uint64_t position,
		      uint64_t end_position, uint64_t end_offset, struct hfb_place *ret_place);
/* The same for the offset of the next event: was the one before it @leader_epoch's? */
bool hfb_epochs_holds_offset(const struct hfb_epochs *epochs, uint32_t leader_epoch,
			     uint64_t offset, struct hfb_place *ret_place);
/* Epoch of the batch at @position; 0 = unknown. */
uint32_t hfb_epochs_at(const struct hfb_epochs *epochs, uint64_t position);

#endif
