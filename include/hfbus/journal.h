/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hfbus/journal.h - the journal's files: what many partitions of a core got at the same
 * moment, in one write, before each has it in its own segment.
 *
 *	DATA/journal/<journal>-<file>.journal
 *	| header block, 4096 bytes | group | group | ... |	groups begin at 4096 byte blocks
 *	group: | header | entry, bytes | entry, bytes | ... | anything up to the block's end |
 *
 * Little-endian, 8-byte aligned. docs/STORAGE.md tells the rules, this file the bytes.
 */
#ifndef HFB_JOURNAL_FORMAT_H
#define HFB_JOURNAL_FORMAT_H

#include <stdint.h>

#include <hfbus/types.h>

#define HFB_JOURNAL_FOLDER	 "journal"
#define HFB_JOURNAL_SUFFIX	 ".journal"
#define HFB_JOURNAL_HEADER_BYTES 4096u
#define HFB_JOURNAL_VERSION	 1u

#define HFB_JOURNAL_MAGIC 0x00314e524a424648ull /* "HFBJRN1\0" */
struct hfb_journal_header {
	uint64_t magic;
	uint32_t version;
	uint32_t incompatible; /* feature bits a reader must know; 0 today */
	uint64_t bytes;	       /* of the file */
	uint64_t nonce; /* random, in each group: no producer can write what looks like one */
	uint32_t reserved;
	uint32_t header_crc; /* crc32c of the bytes before it */
};

#define HFB_JOURNAL_GROUP_MAGIC 0x5247424au /* "JBGR" */
struct hfb_journal_group {
	uint32_t magic;
	uint32_t header_crc; /* crc32c of the bytes behind it, of this header */
	uint64_t nonce;	     /* the file's */
	uint64_t lap;	     /* one more each time the journal goes on in another file */
	uint64_t sequence;   /* one more each group, through all files */
	uint32_t journal;    /* which of the node's */
	uint32_t leader_epoch;
	uint32_t entries_count;
	uint32_t bytes;	   /* of header, entries and their bytes */
	uint32_t body_crc; /* crc32c of what follows the header */
	uint32_t reserved0;
	uint64_t reserved1;
};

struct hfb_journal_entry {
	struct hfb_uuid topic;
	uint32_t partition;
	uint32_t bytes;	       /* of the log, whole batches; they follow; multiple of 8 */
	uint64_t position;     /* of the first */
	uint64_t segment_base; /* of the segment that all of them belong to */
	uint64_t reserved;
};

#endif
