/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_folder.h - a partition's folder made from log images, to be broken and recovered.
 *
 *	log_folder_segment(folder, image, base, capacity);
 *	log_folder_flip(folder, "00000000000000000000.seg", offset, 3);
 *	log_folder_recover(folder, &recovered);
 *
 * Threads: the caller's.
 */
#ifndef LOG_FOLDER_H
#define LOG_FOLDER_H

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "env.h"
#include "hfb_test_main.h"
#include "log_image.h"
#include "recover.h"
#include "scan.h"

/* A new, empty folder below the test's; its name stays valid. */
static inline const char *
log_folder_make(void)
{
	static char names[8192][64];
	static unsigned int n;
	char *name = names[n];

	hfb_assert(n < 8192);
	snprintf(name, sizeof(names[0]), "%s/p%u", hfb_test_folder(), n++);
	hfb_assert(mkdir(name, 0755) == 0);
	return name;
}

static inline const char *
log_folder_path(const char *folder, const char *name)
{
	static char path[1024];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

static inline const char *
log_folder_name(uint64_t base, const char *suffix)
{
	static char name[64];

	snprintf(name, sizeof(name), "%020" PRIu64 "%s", base, suffix);
	return name;
}

/* The part of @image at [base, base + capacity) as a segment file. */
static inline void
log_folder_segment(const char *folder, const struct log_image *image, uint64_t base,
		   uint64_t capacity)
{
	struct hfb_segment_header h = {
		.topic = LOG_IMAGE_TOPIC,
		.partition = LOG_IMAGE_PARTITION,
		.base_position = base,
		.capacity_bytes = capacity,
	};
	uint8_t *block = calloc(1, HFB_SEGMENT_HEADER_BYTES);
	int fd = open(log_folder_path(folder, log_folder_name(base, ".seg")),
		      O_WRONLY | O_CREAT | O_TRUNC, 0644);

	hfb_assert(fd >= 0 && block != NULL);
	hfb_segment_header_seal(&h);
	memcpy(block, &h, sizeof(h));
	hfb_assert(write(fd, block, HFB_SEGMENT_HEADER_BYTES) == HFB_SEGMENT_HEADER_BYTES);
	hfb_assert(write(fd, image->bytes + (base - image->base), capacity) == (ssize_t)capacity);
	close(fd);
	free(block);
}

/* Change @bytes at @offset of a file; NULL: zeros. */
static inline void
log_folder_write(const char *folder, const char *name, uint64_t offset, const void *bytes,
		 size_t size)
{
	int fd = open(log_folder_path(folder, name), O_RDWR);
	uint8_t *zeros = calloc(1, size);

	hfb_assert(fd >= 0 && zeros != NULL);
	hfb_assert(pwrite(fd, bytes != NULL ? bytes : zeros, size, (off_t)offset) == (ssize_t)size);
	close(fd);
	free(zeros);
}

static inline void
log_folder_flip(const char *folder, const char *name, uint64_t offset, int bit)
{
	int fd = open(log_folder_path(folder, name), O_RDWR);
	uint8_t byte;

	hfb_assert(fd >= 0);
	hfb_assert(pread(fd, &byte, 1, (off_t)offset) == 1);
	byte ^= (uint8_t)(1u << bit);
	hfb_assert(pwrite(fd, &byte, 1, (off_t)offset) == 1);
	close(fd);
}

static inline uint64_t
log_folder_size(const char *folder, const char *name)
{
	struct stat st;

	return stat(log_folder_path(folder, name), &st) == 0 ? (uint64_t)st.st_size : UINT64_MAX;
}

static inline int
log_folder_recover(const char *folder, struct hfb_recovered *ret)
{
	struct hfb_recover_config config = {
		.folder = folder,
		.topic = LOG_IMAGE_TOPIC,
		.partition = LOG_IMAGE_PARTITION,
	};
	struct hfb_err err = { 0 };
	int r = hfb_recover(hfb_env_real(), &config, ret, &err);

	if (r < 0 && getenv("HFBUS_TEST_VERBOSE") != NULL)
		fprintf(stderr, "recover: %d %s\n", r, err.text);
	return r;
}

/* Does some note hold @text? */
static inline bool
log_folder_noted(const struct hfb_recovered *r, const char *text)
{
	for (uint32_t i = 0; i < r->notes_count && i < HFB_RECOVER_NOTES_MAX; i++)
		if (r->notes[i] != NULL && strstr(r->notes[i], text) != NULL)
			return true;
	return false;
}

#endif
