/* SPDX-License-Identifier: Apache-2.0 */
/*
 * history.h - a log whose truth is known, over some small segments, to be put into a folder
 * and recovered from it.
 *
 *	h = history_make(3);
 *	history_fill(&h, 2 * SEGMENT + SEGMENT / 2, 500);
 *	history_write(&h, folder);
 *	... break it ...
 *	log_folder_recover(folder, &recovered);
 *	history_expect_end(&h, &recovered);
 *	free(h.image.bytes);
 *
 * Threads: the test's own.
 */
#ifndef HISTORY_H
#define HISTORY_H

#include "log_folder.h"

#define SEGMENT	    (64u * HFB_KIB)
#define BATCHES_MAX 4096

/* A log over some segments, and where its batches are. */
struct history {
	struct log_image image;
	uint64_t positions[BATCHES_MAX];
	uint32_t count;
};

/* A batch begins there. */
void history_note(struct history *h, uint64_t position);
/* Events until @position is passed, padding where a segment ends; all durable @lag bytes behind. */
void history_fill(struct history *h, uint64_t until, uint64_t lag);
/* An epoch start, with room for so many segments. */
struct history history_make(uint32_t segments);
/* All of it as segment files. */
void history_write(const struct history *h, const char *folder);
/* The dedup state is that of the image's producers. */
void history_expect_producers(const struct history *h, const struct hfb_recovered *r);
/* It was recovered to its end. */
void history_expect_end(const struct history *h, const struct hfb_recovered *r);
/* Save the checkpoint that belongs to @at, by recovering a log that ends there. */
void history_checkpoint(const struct history *h, uint64_t at, const char *folder, bool ended);

#endif
