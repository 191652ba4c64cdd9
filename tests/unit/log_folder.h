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

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "env.h"
#include "hfb_test_main.h"
#include "log_image.h"
#include "recover.h"
#include "scan.h"

/* A new, empty folder below the test's; its name stays valid. */
const char *log_folder_make(void);
/* Valid until the next call, as the name is. */
const char *log_folder_path(const char *folder, const char *name);
const char *log_folder_name(uint64_t base, const char *suffix);
/* The part of @image at [base, base + capacity) as a segment file. */
void log_folder_segment(const char *folder, const struct log_image *image, uint64_t base,
			uint64_t capacity);
/* Change @bytes at @offset of a file; NULL: zeros. */
void log_folder_write(const char *folder, const char *name, uint64_t offset, const void *bytes,
		      size_t size);
/* Flip a bit of a file. */
void log_folder_flip(const char *folder, const char *name, uint64_t offset, int bit);
/* UINT64_MAX: no such file. */
uint64_t log_folder_size(const char *folder, const char *name);
/* What hfb_recover() returns. */
int log_folder_recover(const char *folder, struct hfb_recovered *ret);
/* Does some note hold @text? */
bool log_folder_noted(const struct hfb_recovered *r, const char *text);

#endif
