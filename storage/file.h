/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file.h - whole-file chores over the environment, with errors that name the path.
 *
 * Threads: any that may block.
 */
#ifndef HFB_FILE_H
#define HFB_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "err.h"

struct hfb_env;

/* Open for reading. 0 with *@ret_fd and its size in bytes, or -errno. */
int hfb_file_open(struct hfb_env *env, const char *path, int *ret_fd, uint64_t *ret_size,
		  struct hfb_err *err);
/* Bytes read, 0 at the file's end, or -errno. */
int64_t hfb_file_read(struct hfb_env *env, int fd, void *to, size_t bytes, uint64_t offset);
void hfb_file_close(struct hfb_env *env, int fd);

/* Load all of @path; free() *@ret_bytes. -ENOENT (without a word in @err), -EFBIG, -errno. */
int hfb_file_load(struct hfb_env *env, const char *path, size_t bytes_max, void **ret_bytes,
		  size_t *ret_size, struct hfb_err *err);
/*
 * Put @bytes where @path is, atomically: <path>.tmp, write, fsync, rename. Durable
 * once the folder is synced. On failure the old file stands.
 */
int hfb_file_replace(struct hfb_env *env, const char *path, const void *bytes, size_t size,
		     struct hfb_err *err);
/* In two halves, with a sync of all between and behind them: see group.c. */
int hfb_file_stage(struct hfb_env *env, const char *path, const void *bytes, size_t size,
		   struct hfb_err *err);
int hfb_file_name(struct hfb_env *env, const char *path, struct hfb_err *err);
int hfb_folder_sync(struct hfb_env *env, const char *folder, struct hfb_err *err);

#endif
