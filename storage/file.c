/* SPDX-License-Identifier: Apache-2.0 */
/* file.c - whole-file chores over the environment. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "env.h"
#include "file.h"

int
hfb_file_open(struct hfb_env *env, const char *path, int *ret_fd, uint64_t *ret_size,
	      struct hfb_err *err)
{
	uint64_t size;
	int fd, r;

	r = hfb_env_size(env, path, &size);
	if (r < 0)
		return r == -ENOENT ? r : hfb_err_set(err, r, "%s: stat: %s", path, strerror(-r));
	fd = hfb_env_open(env, path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return fd == -ENOENT ? fd
				     : hfb_err_set(err, fd, "%s: open: %s", path, strerror(-fd));
	*ret_fd = fd;
	*ret_size = size;
	return 0;
}

int64_t
hfb_file_read(struct hfb_env *env, int fd, void *to, size_t bytes, uint64_t offset)
{
	return hfb_env_pread(env, fd, to, bytes, offset);
}

void
hfb_file_close(struct hfb_env *env, int fd)
{
	hfb_env_close(env, fd);
}

int
hfb_file_load(struct hfb_env *env, const char *path, size_t bytes_max, void **ret_bytes,
	      size_t *ret_size, struct hfb_err *err)
{
	uint64_t size;
	uint8_t *bytes;
	int64_t n;
	int fd, r;

	r = hfb_file_open(env, path, &fd, &size, err);
	if (r < 0)
		return r;
	if (size > bytes_max) {
		r = hfb_err_set(err, -EFBIG, "%s: %llu bytes are more than it can have", path,
				(unsigned long long)size);
		goto out;
	}
	bytes = malloc(size + 8);
	if (bytes == NULL) {
		r = hfb_err_set(err, -ENOMEM, "%s: no memory for %llu bytes", path,
				(unsigned long long)size);
		goto out;
	}
	n = hfb_env_pread(env, fd, bytes, size, 0);
	if (n < 0) {
		r = hfb_err_set(err, (int)n, "%s: read: %s", path, strerror((int)-n));
		free(bytes);
		goto out;
	}
	*ret_bytes = bytes;
	*ret_size = (size_t)n;
out:
	hfb_env_close(env, fd);
	return r;
}

static int
temporary_write(struct hfb_env *env, const char *path, const void *bytes, size_t size, bool synced,
		struct hfb_err *err)
{
	const char *what = "create";
	char temporary[4096];
	int fd, r;

	if ((size_t)snprintf(temporary, sizeof(temporary), "%s.tmp", path) >= sizeof(temporary))
		return hfb_err_set(err, -ENAMETOOLONG, "%s: path too long", path);
	fd = hfb_env_open(env, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		return hfb_err_set(err, fd, "%s: %s: %s", temporary, what, strerror(-fd));
	what = "write";
	r = hfb_env_pwrite(env, fd, bytes, size, 0);
	if (r == 0 && synced) {
		what = "fsync";
		r = hfb_env_fsync(env, fd);
	}
	hfb_env_close(env, fd);
	if (r < 0) {
		hfb_env_unlink(env, temporary);
		return hfb_err_set(err, r, "%s: %s: %s", temporary, what, strerror(-r));
	}
	return 0;
}

int
hfb_file_stage(struct hfb_env *env, const char *path, const void *bytes, size_t size,
	       struct hfb_err *err)
{
	return temporary_write(env, path, bytes, size, false, err);
}

int
hfb_file_name(struct hfb_env *env, const char *path, struct hfb_err *err)
{
	char temporary[4096 + 8];
	int r;

	snprintf(temporary, sizeof(temporary), "%s.tmp", path);
	r = hfb_env_rename(env, temporary, path);
	if (r < 0) {
		hfb_env_unlink(env, temporary);
		return hfb_err_set(err, r, "%s: rename: %s", temporary, strerror(-r));
	}
	return 0;
}

int
hfb_file_replace(struct hfb_env *env, const char *path, const void *bytes, size_t size,
		 struct hfb_err *err)
{
	int r = temporary_write(env, path, bytes, size, true, err);

	return r < 0 ? r : hfb_file_name(env, path, err);
}

int
hfb_folder_sync(struct hfb_env *env, const char *folder, struct hfb_err *err)
{
#ifdef HFB_BUG_NO_DIRECTORY_SYNC
	int r = 0;
#else
	int r = hfb_env_sync_dir(env, folder);
#endif

	return r < 0 ? hfb_err_set(err, r, "%s: sync: %s", folder, strerror(-r)) : 0;
}
