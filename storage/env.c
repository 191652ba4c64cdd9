/* SPDX-License-Identifier: Apache-2.0 */
#include "env.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "clock.h"
#include "env_io.h"
#include "uuid.h"

static int
real_open(struct hfb_env *env, const char *path, int flags, unsigned int mode)
{
	int fd = open(path, flags | O_CLOEXEC, (mode_t)mode);

	return fd < 0 ? -errno : fd;
}

static int
real_close(struct hfb_env *env, int fd)
{
	return close(fd) < 0 ? -errno : 0;
}

static ssize_t
real_pread(struct hfb_env *env, int fd, void *to, size_t size, uint64_t at)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = pread(fd, (uint8_t *)to + done, size - done, (off_t)(at + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

static int
real_pwrite(struct hfb_env *env, int fd, const void *from, size_t size, uint64_t at)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n =
			pwrite(fd, (const uint8_t *)from + done, size - done, (off_t)(at + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		done += (size_t)n;
	}
	return 0;
}

static int
real_fsync(struct hfb_env *env, int fd)
{
	return fsync(fd) < 0 ? -errno : 0;
}

static int
real_fdatasync(struct hfb_env *env, int fd)
{
	return fdatasync(fd) < 0 ? -errno : 0;
}

static int
real_allocate(struct hfb_env *env, int fd, uint64_t at, uint64_t size)
{
	/* not posix_fallocate: its fallback would write, unsynced and slowly */
	while (fallocate(fd, 0, (off_t)at, (off_t)size) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

static int
real_truncate(struct hfb_env *env, int fd, uint64_t size)
{
	return ftruncate(fd, (off_t)size) < 0 ? -errno : 0;
}

static int
real_rename(struct hfb_env *env, const char *from, const char *to)
{
	return rename(from, to) < 0 ? -errno : 0;
}

static int
real_unlink(struct hfb_env *env, const char *path)
{
	return unlink(path) < 0 ? -errno : 0;
}

static int
real_mkdir(struct hfb_env *env, const char *path, unsigned int mode)
{
	return mkdir(path, (mode_t)mode) < 0 ? -errno : 0;
}

static int
real_rmdir(struct hfb_env *env, const char *path)
{
	return rmdir(path) < 0 ? -errno : 0;
}

static int
real_list(struct hfb_env *env, const char *path, hfb_env_entry each, void *arg)
{
	struct dirent **entries;
	int n = scandir(path, &entries, NULL, alphasort);

	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++) {
		const struct dirent *e = entries[i];
		bool is_folder = e->d_type == DT_DIR;

		if (e->d_type == DT_UNKNOWN) {
			char whole[8192];
			struct stat st;

			if (snprintf(whole, sizeof(whole), "%s/%s", path, e->d_name) <
				    (int)sizeof(whole) &&
			    lstat(whole, &st) == 0)
				is_folder = S_ISDIR(st.st_mode);
		}
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			each(arg, e->d_name, is_folder);
		free(entries[i]);
	}
	free(entries);
	return 0;
}

static int
real_sync_dir(struct hfb_env *env, const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = 0;

	if (fd < 0)
		return -errno;
	if (fsync(fd) < 0)
		r = -errno;
	close(fd);
	return r;
}

static int
real_sync_all(struct hfb_env *env, const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = 0;

	if (fd < 0)
		return -errno;
	if (syncfs(fd) < 0)
		r = -errno;
	close(fd);
	return r;
}

static int
real_size(struct hfb_env *env, const char *path, uint64_t *ret_bytes)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	*ret_bytes = (uint64_t)st.st_size;
	return 0;
}

static int
real_free_bytes(struct hfb_env *env, const char *path, uint64_t *ret_bytes)
{
	struct statvfs st;

	if (statvfs(path, &st) < 0)
		return -errno;
	*ret_bytes = (uint64_t)st.f_bavail * st.f_frsize;
	return 0;
}

static int
real_lock(struct hfb_env *env, int fd)
{
	/* a lock of the open file, so it holds against this process as well */
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	return errno == EWOULDBLOCK ? -EBUSY : -errno;
}

/* Unknown is treated as the worst. */
static bool
device_writes_through(dev_t dev)
{
	/* a partition has no queue of its own */
	static const char *const queues[] = { "queue", "../queue" };
	bool through = false, fua = false;

	for (unsigned int i = 0; i < 2; i++) {
		char path[128], text[32] = "";
		FILE *file;

		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s/write_cache", major(dev),
			 minor(dev), queues[i]);
		file = fopen(path, "re");
		if (file == NULL)
			continue;
		through = fgets(text, sizeof(text), file) != NULL &&
			  strncmp(text, "write through", 13) == 0;
		fclose(file);
		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s/fua", major(dev), minor(dev),
			 queues[i]);
		file = fopen(path, "re");
		if (file != NULL) {
			fua = fgets(text, sizeof(text), file) != NULL && text[0] == '1';
			fclose(file);
		}
		break;
	}
	return through || fua;
}

/*
 * Does one fdatasync flush the device whatever its file has to write? True of
 * ext4 and xfs, whose sync always ends with a flush of the device when the
 * journal did not send one; of others nothing is claimed.
 */
static bool
flush_covers(const char *path)
{
	struct statfs st;

	return statfs(path, &st) == 0 &&
	       ((uint32_t)st.f_type == 0xef53u || (uint32_t)st.f_type == 0x58465342u);
}

static int
real_device(struct hfb_env *env, const char *path, struct hfb_env_device *ret)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	ret->writes_through = device_writes_through(st.st_dev);
	ret->flush_covers = flush_covers(path);
	return 0;
}

static uint64_t
real_now_ns(struct hfb_env *env)
{
	return hfb_clock_now_ns();
}

static void
real_random(struct hfb_env *env, void *bytes, size_t size)
{
	hfb_random(bytes, size);
}

static const struct hfb_env_ops real_ops = {
	.open = real_open,
	.close = real_close,
	.pread = real_pread,
	.pwrite = real_pwrite,
	.fsync = real_fsync,
	.fdatasync = real_fdatasync,
	.allocate = real_allocate,
	.truncate = real_truncate,
	.rename = real_rename,
	.unlink = real_unlink,
	.mkdir = real_mkdir,
	.rmdir = real_rmdir,
	.list = real_list,
	.sync_dir = real_sync_dir,
	.sync_all = real_sync_all,
	.size = real_size,
	.free_bytes = real_free_bytes,
	.lock = real_lock,
	.device = real_device,
	.io_create = hfb_uring_create,
	.io_destroy = hfb_uring_destroy,
	.io_enable = hfb_uring_enable,
	.io_file = hfb_uring_file,
	.io_buffer = hfb_uring_buffer,
	.io_prepare = hfb_uring_prepare,
	.io_submit = hfb_uring_submit,
	.io_reap = hfb_uring_reap,
	.now_ns = real_now_ns,
	.random = real_random,
};

struct hfb_env *
hfb_env_real(void)
{
	static struct hfb_env env = { .ops = &real_ops };

	hfb_clock_start();
	return &env;
}
