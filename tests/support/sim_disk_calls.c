/* SPDX-License-Identifier: Apache-2.0 */
/* sim_disk_calls.c - files and folders, as env.h has them. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bug.h"
#include "sim_disk_private.h"

#define ENTER(d)                                                                                   \
	do {                                                                                       \
		pthread_mutex_lock(&(d)->lock);                                                    \
		if ((d)->dead) {                                                                   \
			pthread_mutex_unlock(&(d)->lock);                                          \
			return -EIO;                                                               \
		}                                                                                  \
	} while (0)
#define LEAVE(d, r)                                                                                \
	do {                                                                                       \
		int leave_ = (int)(r);                                                             \
		pthread_mutex_unlock(&(d)->lock);                                                  \
		return leave_;                                                                     \
	} while (0)

static int
sim_open(struct hfb_env *env, const char *path, int flags, unsigned int mode)
{
	struct sim_disk *d = sim_disk_of(env);
	char name[512];
	uint32_t folder, inode;
	struct entry *e;
	int r, fd;

	ENTER(d);
	r = sim_path_walk(d, path, &folder, name, sizeof(name));
	if (r < 0)
		LEAVE(d, r);
	e = name[0] == '\0' ? NULL : sim_names_find(&d->names, folder, name);
	if (e == NULL && name[0] != '\0' && (flags & O_CREAT) == 0)
		LEAVE(d, -ENOENT);
	if (e != NULL && (flags & O_EXCL) != 0)
		LEAVE(d, -EEXIST);
	if (e == NULL && name[0] != '\0') {
		inode = sim_inode_new(d, false);
		d->counts.creates++;
		sim_name_op(d, NAME_LINK, folder, name, NULL, inode);
	} else {
		inode = e != NULL ? e->inode : ROOT;
		if ((flags & O_TRUNC) != 0 && d->inodes[inode].size > 0) {
			struct inode *n = &d->inodes[inode];
			struct write *w = sim_write_new(d, inode, 0, NULL, 0, false);

			w->size_change = true;
			w->complete = d->now;
			sim_set_size(&n->data, &n->size, &n->room, 0);
		}
	}
	for (fd = 3; fd < 1024 && d->files[fd].used; fd++)
		;
	if (fd == 1024)
		LEAVE(d, -EMFILE);
	d->files[fd] =
		(struct file){ .inode = inode, .used = true, .direct = (flags & O_DIRECT) != 0 };
	LEAVE(d, fd);
}

static int
sim_close(struct hfb_env *env, int fd)
{
	struct sim_disk *d = sim_disk_of(env);

	pthread_mutex_lock(&d->lock);
	hfb_assert(fd >= 0 && fd < 1024 && d->files[fd].used);
	d->files[fd].used = false;
	pthread_mutex_unlock(&d->lock);
	return 0;
}

static ssize_t
sim_pread(struct hfb_env *env, int fd, void *to, size_t size, uint64_t at)
{
	struct sim_disk *d = sim_disk_of(env);
	struct inode *n;
	uint32_t inode;

	ENTER(d);
	n = sim_inode_of(d, fd, &inode);
	sim_check_direct(d, fd, to, size, at);
	if (at >= n->size)
		size = 0;
	else if (size > n->size - at)
		size = n->size - at;
	if (size > 0)
		memcpy(to, n->data + at, size);
	pthread_mutex_unlock(&d->lock);
	return (ssize_t)size;
}

static int
sim_pwrite(struct hfb_env *env, int fd, const void *from, size_t size, uint64_t at)
{
	struct sim_disk *d = sim_disk_of(env);
	struct inode *n;
	struct write *w;
	uint32_t inode;

	ENTER(d);
	n = sim_inode_of(d, fd, &inode);
	sim_check_direct(d, fd, from, size, at);
	w = sim_write_new(d, inode, at, from, size, d->files[fd].direct);
	n = &d->inodes[inode];
	w->complete = d->now;
	sim_put_bytes(&n->data, &n->size, &n->room, at, from, size);
	LEAVE(d, 0);
}

static int
sim_fsync(struct hfb_env *env, int fd)
{
	struct sim_disk *d = sim_disk_of(env);
	uint32_t inode;

	ENTER(d);
	sim_inode_of(d, fd, &inode);
	d->now++;
	d->counts.syncs++;
	sim_sync_writes(d, inode, d->now, false);
	LEAVE(d, 0);
}

static int
size_change(struct sim_disk *d, int fd, uint64_t size, bool shrink)
{
	struct inode *n;
	struct write *w;
	uint32_t inode;

	n = sim_inode_of(d, fd, &inode);
	if (!shrink && size <= n->size)
		return 0;
	w = sim_write_new(d, inode, size, NULL, 0, false);
	n = &d->inodes[inode];
	w->size_change = true;
	w->complete = d->now;
	sim_set_size(&n->data, &n->size, &n->room, size);
	return 0;
}

static int
sim_allocate(struct hfb_env *env, int fd, uint64_t at, uint64_t size)
{
	struct sim_disk *d = sim_disk_of(env);

	ENTER(d);
	LEAVE(d, size_change(d, fd, at + size, false));
}

static int
sim_truncate(struct hfb_env *env, int fd, uint64_t size)
{
	struct sim_disk *d = sim_disk_of(env);

	ENTER(d);
	LEAVE(d, size_change(d, fd, size, true));
}

static int
sim_rename(struct hfb_env *env, const char *from, const char *to)
{
	struct sim_disk *d = sim_disk_of(env);
	char name[512], name_to[512];
	uint32_t folder, folder_to;
	struct entry *e;
	int r;

	ENTER(d);
	r = sim_path_walk(d, from, &folder, name, sizeof(name));
	if (r == 0)
		r = sim_path_walk(d, to, &folder_to, name_to, sizeof(name_to));
	if (r < 0)
		LEAVE(d, r);
	hfb_assert(folder == folder_to); /* storage never moves between folders */
	e = sim_names_find(&d->names, folder, name);
	if (e == NULL)
		LEAVE(d, -ENOENT);
	d->counts.renames++;
	sim_name_op(d, NAME_RENAME, folder, name, name_to, e->inode);
	LEAVE(d, 0);
}

static int
remove_name(struct sim_disk *d, const char *path)
{
	struct entry *e;
	int r = sim_path_entry(d, path, &e);

	if (r < 0)
		return r;
	if (e == NULL)
		return -EBUSY; /* the root */
	if (d->inodes[e->inode].folder)
		for (uint32_t i = 0; i < d->names.count; i++)
			if (d->names.entries[i].folder == e->inode)
				return -ENOTEMPTY;
	d->counts.unlinks++;
	sim_name_op(d, NAME_UNLINK, e->folder, e->name, NULL, e->inode);
	return 0;
}

static int
sim_unlink(struct hfb_env *env, const char *path)
{
	struct sim_disk *d = sim_disk_of(env);

	ENTER(d);
	LEAVE(d, remove_name(d, path));
}

static int
sim_mkdir(struct hfb_env *env, const char *path, unsigned int mode)
{
	struct sim_disk *d = sim_disk_of(env);
	char name[512];
	uint32_t folder;
	int r;

	ENTER(d);
	r = sim_path_walk(d, path, &folder, name, sizeof(name));
	if (r == 0 && (name[0] == '\0' || sim_names_find(&d->names, folder, name) != NULL))
		r = -EEXIST;
	if (r == 0)
		sim_name_op(d, NAME_LINK, folder, name, NULL, sim_inode_new(d, true));
	LEAVE(d, r);
}

static int
entry_order(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static int
sim_list(struct hfb_env *env, const char *path, hfb_env_entry each, void *arg)
{
	struct sim_disk *d = sim_disk_of(env);
	struct entry *found;
	uint32_t count = 0;
	int inode;

	ENTER(d);
	inode = sim_path_inode(d, path);
	if (inode < 0)
		LEAVE(d, inode);
	if (!d->inodes[inode].folder)
		LEAVE(d, -ENOTDIR);
	found = malloc((d->names.count + 1) * sizeof(*found));
	hfb_assert(found != NULL);
	for (uint32_t i = 0; i < d->names.count; i++) {
		struct entry *e = &d->names.entries[i];

		if (e->folder == (uint32_t)inode) {
			found[count] = *e;
			found[count].folder = d->inodes[e->inode].folder;
			found[count++].name = strdup(e->name);
		}
	}
	pthread_mutex_unlock(&d->lock);
	qsort(found, count, sizeof(*found), entry_order);
	for (uint32_t i = 0; i < count; i++) {
		each(arg, found[i].name, found[i].folder != 0);
		free(found[i].name);
	}
	free(found);
	return 0;
}

/* Of the folder @path; @all: of everything. */
static int
names_sync(struct sim_disk *d, const char *path, bool all)
{
	int inode;

	ENTER(d);
	inode = sim_path_inode(d, path);
	if (inode < 0)
		LEAVE(d, inode);
	d->now++;
	if (all)
		sim_moment_note(d, "sync of all", d->now);
	else
		d->counts.dir_syncs++;
	sim_sync_names(d, all ? NO_INODE : (uint32_t)inode);
	for (uint32_t i = 0; all && i < d->inodes_count; i++)
		sim_sync_writes(d, i, d->now, false);
	LEAVE(d, 0);
}

static int
sim_sync_dir(struct hfb_env *env, const char *path)
{
	return names_sync(sim_disk_of(env), path, false);
}

static int
sim_sync_all(struct hfb_env *env, const char *path)
{
	return names_sync(sim_disk_of(env), path, true);
}

static int
sim_device(struct hfb_env *env, const char *path, struct hfb_env_device *ret)
{
	ret->writes_through = false;
	ret->flush_covers = true;
	return 0;
}

static int
sim_size(struct hfb_env *env, const char *path, uint64_t *ret_bytes)
{
	struct sim_disk *d = sim_disk_of(env);
	int inode;

	ENTER(d);
	inode = sim_path_inode(d, path);
	if (inode >= 0)
		*ret_bytes = d->inodes[inode].size;
	LEAVE(d, inode < 0 ? inode : 0);
}

static int
sim_free_bytes(struct hfb_env *env, const char *path, uint64_t *ret_bytes)
{
	*ret_bytes = 1ull << 40;
	return 0;
}

static int
sim_lock(struct hfb_env *env, int fd)
{
	struct sim_disk *d = sim_disk_of(env);
	uint32_t inode;

	ENTER(d);
	sim_inode_of(d, fd, &inode);
	for (int i = 0; i < 1024; i++)
		if (d->files[i].used && d->files[i].locked && d->files[i].inode == inode)
			LEAVE(d, -EBUSY);
	d->files[fd].locked = true;
	LEAVE(d, 0);
}

static uint64_t
sim_now_ns(struct hfb_env *env)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void
sim_random_bytes(struct hfb_env *env, void *bytes, size_t size)
{
	struct sim_disk *d = sim_disk_of(env);

	pthread_mutex_lock(&d->lock);
	for (size_t i = 0; i < size; i++)
		((uint8_t *)bytes)[i] = (uint8_t)(sim_random(&d->seed) >> 32);
	pthread_mutex_unlock(&d->lock);
}

const struct hfb_env_ops sim_disk_ops = {
	.open = sim_open,
	.close = sim_close,
	.pread = sim_pread,
	.pwrite = sim_pwrite,
	.fsync = sim_fsync,
	.fdatasync = sim_fsync,
	.allocate = sim_allocate,
	.truncate = sim_truncate,
	.rename = sim_rename,
	.unlink = sim_unlink,
	.mkdir = sim_mkdir,
	.rmdir = sim_unlink,
	.list = sim_list,
	.sync_dir = sim_sync_dir,
	.sync_all = sim_sync_all,
	.device = sim_device,
	.size = sim_size,
	.free_bytes = sim_free_bytes,
	.lock = sim_lock,
	.io_create = sim_io_create,
	.io_destroy = sim_io_destroy,
	.io_enable = sim_io_enable,
	.io_file = sim_io_file,
	.io_buffer = sim_io_buffer,
	.io_prepare = sim_io_prepare,
	.io_submit = sim_io_submit,
	.io_reap = sim_io_reap,
	.now_ns = sim_now_ns,
	.random = sim_random_bytes,
};
