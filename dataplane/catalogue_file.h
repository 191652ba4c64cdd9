/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalogue_file.h - DATA/catalogue: topics as a log of changes, so that a change costs
 * the same with one topic and with ten thousand.
 *
 *	| header, 512 bytes | record | record | record | ...
 *
 * A change appends a record and syncs; the last record of a name is what counts. When
 * most records are out of date the file is written anew to catalogue.tmp, synced,
 * renamed, and the folder synced. `records` in the header says how many were durable
 * before the last change began: below it every record must be right, or the file is
 * damaged and refused. What stands behind it was appended last: right, or torn and
 * never told to anybody.
 *
 * Threads: main.
 */
#ifndef HFB_CATALOGUE_FILE_H
#define HFB_CATALOGUE_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include <hfbus/ipc.h>

#include "err.h"

#define HFB_CATALOGUE_MAGIC	   0x0031544143424648ull /* "HFBCAT1\0" */
#define HFB_CATALOGUE_VERSION	   2u
#define HFB_CATALOGUE_HEADER_BYTES 512u /* one sector: it is old or new */

struct hfb_catalogue_header {
	uint64_t magic;
	uint32_t version;
	uint32_t incompatible; /* feature bits a reader must know; 0 today */
	uint32_t record_bytes; /* sizeof(struct hfb_catalogue_record) */
	uint32_t reserved;
	uint64_t records; /* known to be durable; there may be more */
	uint8_t unused[HFB_CATALOGUE_HEADER_BYTES - 36];
	uint32_t crc; /* crc32c of the bytes before it */
};

struct hfb_catalogue_record {
	uint64_t number; /* from 0 */
	uint32_t reserved;
	uint32_t crc; /* crc32c of number, reserved and topic */
	struct hfb_ipc_topic topic;
};

struct hfb_catalogue_file {
	char path[4096 + 32];
	int fd;		  /* for appending; -1 = not open yet */
	uint64_t records; /* in the file */
	bool anew;	  /* not there, or not to be appended to: write it anew */
};

/** What a topic in the file must be for us to act on it. */
bool hfb_catalogue_sound(const struct hfb_ipc_topic *info);

/*
 * Read the file at @path and give each record to @take, oldest first. What was read is
 * durable afterwards. A missing file has no records.
 *
 * Returns 0, what @take returned if negative, or with a sentence
 *   -EBADMSG, -ENOTSUP, -errno  see hfb_catalogue_open()
 */
int hfb_catalogue_file_open(struct hfb_catalogue_file *file, const char *path,
			    int (*take)(void *arg, const struct hfb_ipc_topic *info), void *arg,
			    struct hfb_err *err);
void hfb_catalogue_file_close(struct hfb_catalogue_file *file);

/*
 * Make @info durable: appended, or with the @count others of @at (by name, may include
 * its namesake) in a file written anew. Returns 0 or -errno, and then the file is as
 * it was.
 */
int hfb_catalogue_file_put(struct hfb_catalogue_file *file, const struct hfb_ipc_topic *info,
			   const struct hfb_ipc_topic *(*at)(const void *arg, uint32_t index),
			   const void *arg, uint32_t count, struct hfb_err *err);

#endif
