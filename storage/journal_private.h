/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal_private.h - what journal.c (groups, and what is filed) and journal_files.c (the files,
 * their making and end) share.
 */
#ifndef HFB_JOURNAL_PRIVATE_H
#define HFB_JOURNAL_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include <hfbus/journal.h>

#include "journal.h"
#include "log_private.h"

#define HFB_JOURNAL_MEMBERS_MAX 1024u
/* What a log gives to a group while few are at work. */
#define HFB_JOURNAL_ENTRY_BYTES (8u * HFB_KIB)

enum { HFB_JOURNAL_NOT_MADE, HFB_JOURNAL_ASKED, HFB_JOURNAL_MADE, HFB_JOURNAL_REFUSED };

struct hfb_journal_member {
	struct hfb_log *log;
	struct hfb_boundary end;
};

struct hfb_journal {
	struct hfb_store *store;
	struct hfb_writer *writer;
	uint32_t number, files_count, logs_min;
	uint64_t file_bytes, group_bytes;
	uint64_t nonce;

	/* core and helper */
	uint32_t state; /* of the files; core: HFB_JOURNAL_NOT_MADE -> HFB_JOURNAL_ASKED, helper: ->
			   HFB_JOURNAL_MADE or HFB_JOURNAL_REFUSED */
	bool making;	/* under the store's lock: the helper is at it */
	int fds[HFB_JOURNAL_FILES];

	/* core */
	bool dead;	  /* a group failed: final */
	bool on;	  /* many logs of late, and there is room */
	bool full;	  /* the next file still holds what no segment has */
	bool flies;	  /* a group is in flight */
	bool again;	  /* it was written short, and is formed anew in its place */
	uint64_t many_ns; /* until then logs are many */
	uint64_t retry_ns;
	uint32_t file; /* groups go there, at `at` */
	uint64_t at, lap, sequence;
	uint32_t
		held[HFB_JOURNAL_FILES]; /* logs whose oldest bytes that no segment has are there */
	uint32_t held_count, filing_count;
	uint32_t form_at; /* in the writer's list: where the last group began */
	struct hfb_log *head, *tail;
	uint8_t *staging;
	uint64_t flight_bytes, flight_tsc;
	uint32_t members_count;
	struct hfb_journal_member members[HFB_JOURNAL_MEMBERS_MAX];
};

#endif
