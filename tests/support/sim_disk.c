/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_disk.c - a disk in memory that remembers.
 *
 *	inode: base (durable when the disk was made) + writes[] in order
 *	names: base entries + name operations in order
 *
 * A crash image is the base, then every durable operation up to then, and a
 * random choice of the others.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bug.h"
#include "sim_disk.h"

#define NEVER	 UINT64_MAX
#define SECTOR	 512u
#define BLOCK	 4096u
#define ROOT	 0u
#define NO_INODE UINT32_MAX

struct write {
	uint64_t submit, complete, durable; /* operations; NEVER */
	uint64_t gone;			    /* killed with its process before it was sent */
	uint64_t offset, bytes;		    /* bytes 0: a size change to `offset` */
	uint8_t *first;			    /* memory at submit; NULL = zeros */
	uint8_t *second;		    /* what went to the device, when not the same */
	bool direct, size_change;
};

struct inode {
	bool folder;
	uint8_t *base, *data;
	uint64_t base_size, size, room;
	uint64_t synced_size; /* an fsync covered the blocks below */
	struct write **writes;
	uint32_t writes_count, writes_max;
};

enum name_kind { NAME_LINK, NAME_RENAME, NAME_UNLINK };
struct name_op {
	enum name_kind kind;
	uint64_t at, durable;
	uint32_t folder, inode;
	char *name, *to;
};

struct entry {
	uint32_t folder, inode;
	char *name;
};

struct names {
	struct entry *entries;
	uint32_t count, max;
};

struct file {
	uint32_t inode;
	bool used, direct, locked;
};

/* For explaining only. */
struct moment {
	uint64_t began, ended;
	const char *what;
};

struct sim_disk {
	struct hfb_env env;
	pthread_mutex_t lock;
	uint64_t now, seed;
	bool dead;
	struct inode *inodes;
	uint32_t inodes_count, inodes_max;
	struct names base_names, names;
	struct name_op *name_ops;
	uint32_t name_ops_count, name_ops_max;
	struct file files[1024];
	struct moment *moments;
	uint32_t moments_count, moments_max;
	uint64_t breaches;
	const char *breach;
	struct sim_disk_counts counts;
	struct sim_io *ios;
};

struct flight {
	struct hfb_io_op op;
	struct write *write;
	uint64_t began;
	uint32_t delay;
	uint32_t inode;
	int32_t result;
};

struct sim_io {
	struct hfb_io io;
	struct sim_io *next;
	uint32_t depth, prepared_count, flights_count;
	struct hfb_io_op *prepared;
	struct flight *flights;
};

static struct sim_disk *
disk_of(struct hfb_env *env)
{
	return (struct sim_disk *)env;
}

static void *
grown(void *array, uint32_t count, uint32_t *max, size_t each)
{
	if (count < *max)
		return array;
	*max = *max == 0 ? 16 : *max * 2;
	array = realloc(array, *max * each);
	hfb_assert(array != NULL);
	return array;
}

static void
breach(struct sim_disk *d, const char *what)
{
	d->breaches++;
	d->breach = what;
}

/* Names. ---------------------------------------------------------------------- */

static struct entry *
names_find(struct names *names, uint32_t folder, const char *name)
{
	for (uint32_t i = 0; i < names->count; i++)
		if (names->entries[i].folder == folder && strcmp(names->entries[i].name, name) == 0)
			return &names->entries[i];
	return NULL;
}

static void
names_remove(struct names *names, uint32_t folder, const char *name)
{
	struct entry *e = names_find(names, folder, name);

	if (e == NULL)
		return;
	free(e->name);
	*e = names->entries[--names->count];
}

static void
names_put(struct names *names, uint32_t folder, const char *name, uint32_t inode)
{
	struct entry *e;

	names_remove(names, folder, name);
	names->entries = grown(names->entries, names->count, &names->max, sizeof(*e));
	e = &names->entries[names->count++];
	e->folder = folder;
	e->inode = inode;
	e->name = strdup(name);
}

static void
names_apply(struct names *names, const struct name_op *op)
{
	switch (op->kind) {
	case NAME_LINK:
		names_put(names, op->folder, op->name, op->inode);
		break;
	case NAME_RENAME:
		names_remove(names, op->folder, op->name);
		names_put(names, op->folder, op->to, op->inode);
		break;
	case NAME_UNLINK:
		names_remove(names, op->folder, op->name);
		break;
	}
}

static void
names_free(struct names *names)
{
	for (uint32_t i = 0; i < names->count; i++)
		free(names->entries[i].name);
	free(names->entries);
	memset(names, 0, sizeof(*names));
}

static void
name_op(struct sim_disk *d, enum name_kind kind, uint32_t folder, const char *name, const char *to,
	uint32_t inode)
{
	struct name_op *op;

	d->name_ops = grown(d->name_ops, d->name_ops_count, &d->name_ops_max, sizeof(*op));
	op = &d->name_ops[d->name_ops_count++];
	*op = (struct name_op){ .kind = kind,
				.at = ++d->now,
				.durable = NEVER,
				.folder = folder,
				.inode = inode,
				.name = strdup(name),
				.to = to != NULL ? strdup(to) : NULL };
	names_apply(&d->names, op);
}

/* Folder of @path and its last name. 0 or -errno. */
static int
path_walk(struct sim_disk *d, const char *path, uint32_t *ret_folder, char *ret_name, size_t bytes)
{
	uint32_t folder = ROOT;
	const char *at = path;

	ret_name[0] = '\0';
	*ret_folder = ROOT;
	for (;;) {
		struct entry *e;
		size_t n;

		while (*at == '/')
			at++;
		if (*at == '\0')
			return 0;
		n = strcspn(at, "/");
		if (n >= bytes)
			return -ENAMETOOLONG;
		if (ret_name[0] != '\0') {
			e = names_find(&d->names, folder, ret_name);
			if (e == NULL)
				return -ENOENT;
			if (!d->inodes[e->inode].folder)
				return -ENOTDIR;
			folder = e->inode;
		}
		memcpy(ret_name, at, n);
		ret_name[n] = '\0';
		*ret_folder = folder;
		at += n;
	}
}

static int
path_inode(struct sim_disk *d, const char *path)
{
	char name[512];
	uint32_t folder;
	struct entry *e;
	int r = path_walk(d, path, &folder, name, sizeof(name));

	if (r < 0)
		return r;
	if (name[0] == '\0')
		return ROOT;
	e = names_find(&d->names, folder, name);
	return e == NULL ? -ENOENT : (int)e->inode;
}

static uint32_t
inode_new(struct sim_disk *d, bool folder)
{
	d->inodes = grown(d->inodes, d->inodes_count, &d->inodes_max, sizeof(struct inode));
	memset(&d->inodes[d->inodes_count], 0, sizeof(struct inode));
	d->inodes[d->inodes_count].folder = folder;
	return d->inodes_count++;
}

/* Bytes. ------------------------------------------------------------------------ */

static void
put_bytes(uint8_t **data, uint64_t *size, uint64_t *room, uint64_t offset, const uint8_t *from,
	  uint64_t bytes)
{
	uint64_t end = offset + bytes;

	if (end > *room) {
		uint64_t larger = end > *room * 2 ? end : *room * 2;

		*data = realloc(*data, larger);
		hfb_assert(*data != NULL);
		*room = larger;
	}
	if (offset > *size)
		memset(*data + *size, 0, offset - *size);
	if (from != NULL)
		memcpy(*data + offset, from, bytes);
	else
		memset(*data + offset, 0, bytes);
	if (end > *size)
		*size = end;
}

static void
set_size(uint8_t **data, uint64_t *size, uint64_t *room, uint64_t to)
{
	if (to > *size)
		put_bytes(data, size, room, *size, NULL, to - *size);
	*size = to;
}

static bool
all_zero(const uint8_t *at, uint64_t bytes)
{
	return bytes == 0 || (at[0] == 0 && memcmp(at, at + 1, bytes - 1) == 0);
}

static struct write *
write_new(struct sim_disk *d, uint32_t inode, uint64_t offset, const void *from, uint64_t bytes,
	  bool direct)
{
	struct inode *n = &d->inodes[inode];
	struct write *w = calloc(1, sizeof(*w));

	hfb_assert(w != NULL);
	w->submit = ++d->now;
	w->complete = w->durable = w->gone = NEVER;
	w->offset = offset;
	w->bytes = bytes;
	w->direct = direct;
	if (bytes > 0 && !all_zero(from, bytes)) {
		w->first = malloc(bytes);
		hfb_assert(w->first != NULL);
		memcpy(w->first, from, bytes);
	}
	n->writes = grown(n->writes, n->writes_count, &n->writes_max, sizeof(*n->writes));
	n->writes[n->writes_count++] = w;
	d->counts.writes++;
	d->counts.write_bytes += bytes;
	return w;
}

static void
moment_note(struct sim_disk *d, const char *what, uint64_t began)
{
	d->moments = grown(d->moments, d->moments_count, &d->moments_max, sizeof(*d->moments));
	d->moments[d->moments_count++] = (struct moment){ began, d->now, what };
}

/* A flush or sync that began at @began ends now. */
static void
sync_writes(struct sim_disk *d, uint32_t inode, uint64_t began, bool flush)
{
	struct inode *n = &d->inodes[inode];

	for (uint32_t i = 0; i < n->writes_count; i++) {
		struct write *w = n->writes[i];

		if (w->durable != NEVER || w->complete > began)
			continue;
		if (flush && (!w->direct || w->offset + w->bytes > n->synced_size))
			continue;
		w->durable = d->now;
	}
	if (!flush)
		n->synced_size = n->size;
}

/* Calls. -------------------------------------------------------------------------- */

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
	struct sim_disk *d = disk_of(env);
	char name[512];
	uint32_t folder, inode;
	struct entry *e;
	int r, fd;

	ENTER(d);
	r = path_walk(d, path, &folder, name, sizeof(name));
	if (r < 0)
		LEAVE(d, r);
	e = name[0] == '\0' ? NULL : names_find(&d->names, folder, name);
	if (e == NULL && name[0] != '\0' && (flags & O_CREAT) == 0)
		LEAVE(d, -ENOENT);
	if (e != NULL && (flags & O_EXCL) != 0)
		LEAVE(d, -EEXIST);
	if (e == NULL && name[0] != '\0') {
		inode = inode_new(d, false);
		d->counts.creates++;
		name_op(d, NAME_LINK, folder, name, NULL, inode);
	} else {
		inode = e != NULL ? e->inode : ROOT;
		if ((flags & O_TRUNC) != 0 && d->inodes[inode].size > 0) {
			struct inode *n = &d->inodes[inode];
			struct write *w = write_new(d, inode, 0, NULL, 0, false);

			w->size_change = true;
			w->complete = d->now;
			set_size(&n->data, &n->size, &n->room, 0);
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
	struct sim_disk *d = disk_of(env);

	pthread_mutex_lock(&d->lock);
	hfb_assert(fd >= 0 && fd < 1024 && d->files[fd].used);
	d->files[fd].used = false;
	pthread_mutex_unlock(&d->lock);
	return 0;
}

static struct inode *
inode_of(struct sim_disk *d, int fd, uint32_t *ret_number)
{
	hfb_assert(fd >= 0 && fd < 1024 && d->files[fd].used);
	*ret_number = d->files[fd].inode;
	return &d->inodes[*ret_number];
}

static void
check_direct(struct sim_disk *d, int fd, const void *memory, uint64_t bytes, uint64_t at)
{
	if (d->files[fd].direct &&
	    ((uintptr_t)memory % SECTOR != 0 || bytes % SECTOR != 0 || at % SECTOR != 0))
		breach(d, "O_DIRECT not aligned");
}

static ssize_t
sim_pread(struct hfb_env *env, int fd, void *to, size_t size, uint64_t at)
{
	struct sim_disk *d = disk_of(env);
	struct inode *n;
	uint32_t inode;

	ENTER(d);
	n = inode_of(d, fd, &inode);
	check_direct(d, fd, to, size, at);
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
	struct sim_disk *d = disk_of(env);
	struct inode *n;
	struct write *w;
	uint32_t inode;

	ENTER(d);
	n = inode_of(d, fd, &inode);
	check_direct(d, fd, from, size, at);
	w = write_new(d, inode, at, from, size, d->files[fd].direct);
	n = &d->inodes[inode];
	w->complete = d->now;
	put_bytes(&n->data, &n->size, &n->room, at, from, size);
	LEAVE(d, 0);
}

static int
sim_fsync(struct hfb_env *env, int fd)
{
	struct sim_disk *d = disk_of(env);
	uint32_t inode;

	ENTER(d);
	inode_of(d, fd, &inode);
	d->now++;
	d->counts.syncs++;
	sync_writes(d, inode, d->now, false);
	LEAVE(d, 0);
}

static int
size_change(struct sim_disk *d, int fd, uint64_t size, bool shrink)
{
	struct inode *n;
	struct write *w;
	uint32_t inode;

	n = inode_of(d, fd, &inode);
	if (!shrink && size <= n->size)
		return 0;
	w = write_new(d, inode, size, NULL, 0, false);
	n = &d->inodes[inode];
	w->size_change = true;
	w->complete = d->now;
	set_size(&n->data, &n->size, &n->room, size);
	return 0;
}

static int
sim_allocate(struct hfb_env *env, int fd, uint64_t at, uint64_t size)
{
	struct sim_disk *d = disk_of(env);

	ENTER(d);
	LEAVE(d, size_change(d, fd, at + size, false));
}

static int
sim_truncate(struct hfb_env *env, int fd, uint64_t size)
{
	struct sim_disk *d = disk_of(env);

	ENTER(d);
	LEAVE(d, size_change(d, fd, size, true));
}

static int
sim_rename(struct hfb_env *env, const char *from, const char *to)
{
	struct sim_disk *d = disk_of(env);
	char name[512], name_to[512];
	uint32_t folder, folder_to;
	struct entry *e;
	int r;

	ENTER(d);
	r = path_walk(d, from, &folder, name, sizeof(name));
	if (r == 0)
		r = path_walk(d, to, &folder_to, name_to, sizeof(name_to));
	if (r < 0)
		LEAVE(d, r);
	hfb_assert(folder == folder_to); /* storage never moves between folders */
	e = names_find(&d->names, folder, name);
	if (e == NULL)
		LEAVE(d, -ENOENT);
	d->counts.renames++;
	name_op(d, NAME_RENAME, folder, name, name_to, e->inode);
	LEAVE(d, 0);
}

static int
remove_name(struct sim_disk *d, const char *path)
{
	char name[512];
	uint32_t folder;
	struct entry *e;
	int r = path_walk(d, path, &folder, name, sizeof(name));

	if (r < 0)
		return r;
	e = names_find(&d->names, folder, name);
	if (e == NULL)
		return -ENOENT;
	if (d->inodes[e->inode].folder)
		for (uint32_t i = 0; i < d->names.count; i++)
			if (d->names.entries[i].folder == e->inode)
				return -ENOTEMPTY;
	d->counts.unlinks++;
	name_op(d, NAME_UNLINK, folder, name, NULL, e->inode);
	return 0;
}

static int
sim_unlink(struct hfb_env *env, const char *path)
{
	struct sim_disk *d = disk_of(env);

	ENTER(d);
	LEAVE(d, remove_name(d, path));
}

static int
sim_mkdir(struct hfb_env *env, const char *path, unsigned int mode)
{
	struct sim_disk *d = disk_of(env);
	char name[512];
	uint32_t folder;
	int r;

	ENTER(d);
	r = path_walk(d, path, &folder, name, sizeof(name));
	if (r == 0 && (name[0] == '\0' || names_find(&d->names, folder, name) != NULL))
		r = -EEXIST;
	if (r == 0)
		name_op(d, NAME_LINK, folder, name, NULL, inode_new(d, true));
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
	struct sim_disk *d = disk_of(env);
	struct entry *found;
	uint32_t count = 0;
	int inode;

	ENTER(d);
	inode = path_inode(d, path);
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

static int
sim_sync_dir(struct hfb_env *env, const char *path)
{
	struct sim_disk *d = disk_of(env);
	int inode;

	ENTER(d);
	inode = path_inode(d, path);
	if (inode < 0)
		LEAVE(d, inode);
	d->now++;
	d->counts.dir_syncs++;
	for (uint32_t i = 0; i < d->name_ops_count; i++)
		if (d->name_ops[i].folder == (uint32_t)inode && d->name_ops[i].durable == NEVER)
			d->name_ops[i].durable = d->now;
	LEAVE(d, 0);
}

static int
sim_sync_all(struct hfb_env *env, const char *path)
{
	struct sim_disk *d = disk_of(env);
	int inode;

	ENTER(d);
	inode = path_inode(d, path);
	if (inode < 0)
		LEAVE(d, inode);
	d->now++;
	moment_note(d, "sync of all", d->now);
	for (uint32_t i = 0; i < d->name_ops_count; i++)
		if (d->name_ops[i].durable == NEVER)
			d->name_ops[i].durable = d->now;
	for (uint32_t i = 0; i < d->inodes_count; i++)
		sync_writes(d, i, d->now, false);
	LEAVE(d, 0);
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
	struct sim_disk *d = disk_of(env);
	int inode;

	ENTER(d);
	inode = path_inode(d, path);
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
	struct sim_disk *d = disk_of(env);
	uint32_t inode;

	ENTER(d);
	inode_of(d, fd, &inode);
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
	struct sim_disk *d = disk_of(env);

	pthread_mutex_lock(&d->lock);
	for (size_t i = 0; i < size; i++)
		((uint8_t *)bytes)[i] = (uint8_t)(sim_random(&d->seed) >> 32);
	pthread_mutex_unlock(&d->lock);
}

/* The queue. ------------------------------------------------------------------------ */

static int
sim_io_create(struct hfb_env *env, const struct hfb_io_config *config, struct hfb_io **ret_io,
	      struct hfb_err *err)
{
	struct sim_disk *d = disk_of(env);
	struct sim_io *io = calloc(1, sizeof(*io));

	hfb_assert(io != NULL);
	io->io.env = env;
	io->io.event_fd = -1;
	io->io.files_max = config->files_max;
	io->io.buffers_max = config->buffers_max;
	io->depth = config->depth;
	io->prepared = calloc(config->depth, sizeof(*io->prepared));
	io->flights = calloc(config->depth, sizeof(*io->flights));
	hfb_assert(io->prepared != NULL && io->flights != NULL);
	pthread_mutex_lock(&d->lock);
	io->next = d->ios;
	d->ios = io;
	pthread_mutex_unlock(&d->lock);
	*ret_io = &io->io;
	return 0;
}

static void
sim_io_destroy(struct hfb_io *base)
{
	struct sim_io *io = (struct sim_io *)base, **link;
	struct sim_disk *d = disk_of(base->env);

	pthread_mutex_lock(&d->lock);
	for (link = &d->ios; *link != io; link = &(*link)->next)
		;
	*link = io->next;
	pthread_mutex_unlock(&d->lock);
	free(io->prepared);
	free(io->flights);
	free(io);
}

static int
sim_io_enable(struct hfb_io *io)
{
	return 0;
}

static int
sim_io_file(struct hfb_io *io, uint32_t slot, int fd)
{
	return slot < io->files_max ? 0 : -ENOSPC;
}

static int
sim_io_buffer(struct hfb_io *io, uint32_t slot, void *memory, size_t size)
{
	return slot < io->buffers_max ? 0 : -ENOSPC;
}

static bool
sim_io_prepare(struct hfb_io *base, const struct hfb_io_op *op)
{
	struct sim_io *io = (struct sim_io *)base;

	if (io->prepared_count + io->flights_count == io->depth)
		return false;
	io->prepared[io->prepared_count++] = *op;
	return true;
}

/* The tail's block is written again and again: never twice at once. */
static void
check_overlap(struct sim_disk *d, const struct flight *f)
{
	uint64_t from = f->op.offset / BLOCK * BLOCK;
	uint64_t to = (f->op.offset + f->op.bytes + BLOCK - 1) / BLOCK * BLOCK;

	for (struct sim_io *io = d->ios; io != NULL; io = io->next)
		for (uint32_t i = 0; i < io->flights_count; i++) {
			const struct flight *o = &io->flights[i];

			if (o != f && o->op.kind == HFB_IO_WRITE && o->inode == f->inode &&
			    o->op.offset < to && o->op.offset + o->op.bytes > from)
				breach(d, "two writes of one block in flight together");
		}
}

static int
sim_io_submit(struct hfb_io *base)
{
	struct sim_io *io = (struct sim_io *)base;
	struct sim_disk *d = disk_of(base->env);

	pthread_mutex_lock(&d->lock);
	for (uint32_t i = 0; i < io->prepared_count; i++) {
		struct flight *f = &io->flights[io->flights_count++];

		memset(f, 0, sizeof(*f));
		f->op = io->prepared[i];
		f->delay = (uint32_t)(sim_random(&d->seed) % 4);
		if (sim_random(&d->seed) % 32 == 0)
			f->delay += 20;
		if (d->dead) {
			f->result = -EIO;
			continue;
		}
		inode_of(d, f->op.fd, &f->inode);
		switch (f->op.kind) {
		case HFB_IO_WRITE:
			check_direct(d, f->op.fd, f->op.buffer, f->op.bytes, f->op.offset);
			check_overlap(d, f);
			f->write = write_new(d, f->inode, f->op.offset, f->op.buffer, f->op.bytes,
					     d->files[f->op.fd].direct);
			f->result = (int32_t)f->op.bytes;
			break;
		case HFB_IO_READ:
			check_direct(d, f->op.fd, f->op.buffer, f->op.bytes, f->op.offset);
			break;
		case HFB_IO_FDATASYNC:
		case HFB_IO_FLUSH:
			f->began = ++d->now;
			break;
		}
	}
	io->prepared_count = 0;
	pthread_mutex_unlock(&d->lock);
	return 0;
}

static bool
drawn(uint64_t *random, uint32_t chance)
{
	return (sim_random(random) >> 20) % 256 < chance;
}

static void
flight_write(struct sim_disk *d, struct flight *f)
{
	struct inode *n = &d->inodes[f->inode];
	struct write *w = f->write;

	/* memory may have changed since: what was appended to the same block */
	if (w->first == NULL ? !all_zero(f->op.buffer, w->bytes)
			     : memcmp(w->first, f->op.buffer, w->bytes) != 0) {
		w->second = malloc(w->bytes);
		hfb_assert(w->second != NULL);
		memcpy(w->second, f->op.buffer, w->bytes);
		for (uint64_t o = 0; o < w->bytes; o += SECTOR) {
			uint64_t step = w->bytes - o < SECTOR ? w->bytes - o : SECTOR;

			if (drawn(&d->seed, 128))
				continue;
			if (w->first != NULL)
				memcpy(w->second + o, w->first + o, step);
			else
				memset(w->second + o, 0, step);
		}
	}
	put_bytes(&n->data, &n->size, &n->room, w->offset, w->second != NULL ? w->second : w->first,
		  w->bytes);
	w->complete = d->now;
}

static void
flight_end(struct sim_disk *d, struct flight *f)
{
	struct inode *n = &d->inodes[f->inode];
	uint64_t at = f->op.offset;

	if (f->result < 0)
		return;
	d->now++;
	switch (f->op.kind) {
	case HFB_IO_WRITE:
		flight_write(d, f);
		if (f->op.flags & HFB_IO_DSYNC)
			f->write->durable = d->now;
		break;
	case HFB_IO_READ:
		f->result = at >= n->size		 ? 0
			    : n->size - at < f->op.bytes ? (int32_t)(n->size - at)
							 : (int32_t)f->op.bytes;
		if (f->result > 0)
			memcpy(f->op.buffer, n->data + at, (size_t)f->result);
		break;
	case HFB_IO_FDATASYNC:
		d->counts.syncs++;
		sync_writes(d, f->inode, f->began, false);
		break;
	case HFB_IO_FLUSH:
		d->counts.flushes++;
		moment_note(d, "flush", f->began);
		for (uint32_t i = 0; i < d->inodes_count; i++)
			sync_writes(d, i, f->began, true);
		break;
	}
}

static uint32_t
sim_io_reap(struct hfb_io *base, struct hfb_io_done *done, uint32_t max)
{
	struct sim_io *io = (struct sim_io *)base;
	struct sim_disk *d = disk_of(base->env);
	uint32_t n = 0;

	pthread_mutex_lock(&d->lock);
	for (uint32_t i = 0; i < io->flights_count && n < max;) {
		struct flight *f = &io->flights[i];

		if (d->dead)
			f->result = f->result < 0 ? f->result : -EIO;
		else if (f->delay > 0) {
			f->delay--;
			i++;
			continue;
		}
		flight_end(d, f);
		done[n].user_data = f->op.user_data;
		done[n++].result = f->result;
		*f = io->flights[--io->flights_count];
	}
	pthread_mutex_unlock(&d->lock);
	return n;
}

static const struct hfb_env_ops sim_ops = {
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

/* The disk. --------------------------------------------------------------------------- */

struct sim_disk *
sim_disk_create(uint64_t seed)
{
	struct sim_disk *d = calloc(1, sizeof(*d));

	hfb_assert(d != NULL);
	d->env.ops = &sim_ops;
	pthread_mutex_init(&d->lock, NULL);
	d->seed = seed | 1;
	inode_new(d, true);
	return d;
}

struct hfb_env *
sim_disk_env(struct sim_disk *d)
{
	return &d->env;
}

uint64_t
sim_disk_now(struct sim_disk *d)
{
	uint64_t now;

	pthread_mutex_lock(&d->lock);
	now = d->now;
	pthread_mutex_unlock(&d->lock);
	return now;
}

void
sim_disk_kill(struct sim_disk *d)
{
	pthread_mutex_lock(&d->lock);
	for (struct sim_io *io = d->ios; io != NULL; io = io->next)
		for (uint32_t i = 0; i < io->flights_count; i++) {
			struct flight *f = &io->flights[i];

			/* the device finishes it, or the kernel never sent it */
			if (f->op.kind == HFB_IO_WRITE && f->result >= 0) {
				d->now++;
				if (sim_random(&d->seed) % 2 == 0)
					flight_write(d, f);
				else
					f->write->gone = d->now;
			}
			f->result = -EIO;
		}
	d->dead = true;
	moment_note(d, "kill", d->now);
	pthread_mutex_unlock(&d->lock);
}

void
sim_disk_revive(struct sim_disk *d)
{
	pthread_mutex_lock(&d->lock);
	hfb_assert(d->ios == NULL);
	for (int i = 0; i < 1024; i++)
		hfb_assert(!d->files[i].used);
	d->dead = false;
	pthread_mutex_unlock(&d->lock);
}

uint64_t
sim_disk_breaches(struct sim_disk *d, const char **ret_what)
{
	*ret_what = d->breach;
	return d->breaches;
}

void
sim_disk_counts(struct sim_disk *d, struct sim_disk_counts *ret)
{
	pthread_mutex_lock(&d->lock);
	*ret = d->counts;
	pthread_mutex_unlock(&d->lock);
}

uint8_t *
sim_disk_read(struct sim_disk *d, const char *path, uint64_t *ret_size)
{
	uint8_t *bytes = NULL;
	int inode;

	pthread_mutex_lock(&d->lock);
	inode = path_inode(d, path);
	if (inode >= 0) {
		*ret_size = d->inodes[inode].size;
		bytes = malloc(*ret_size + 1);
		hfb_assert(bytes != NULL);
		if (*ret_size > 0)
			memcpy(bytes, d->inodes[inode].data, *ret_size);
	}
	pthread_mutex_unlock(&d->lock);
	return bytes;
}

void
sim_disk_explain(struct sim_disk *d, const char *path, uint64_t offset)
{
	uint64_t first = NEVER;
	int inode;

	pthread_mutex_lock(&d->lock);
	inode = path_inode(d, path);
	fprintf(stderr, "%s at %llu:\n", path, (unsigned long long)offset);
	for (uint32_t i = 0; inode >= 0 && i < d->inodes[inode].writes_count; i++) {
		const struct write *w = d->inodes[inode].writes[i];

		if (w->size_change || offset < w->offset || offset >= w->offset + w->bytes)
			continue;
		if (first == NEVER && w->first != NULL)
			first = w->submit;
		fprintf(stderr, "  write %lld..%lld, durable %lld, gone %lld: %llu + %llu%s%s%s\n",
			(long long)w->submit, (long long)w->complete, (long long)w->durable,
			(long long)w->gone, (unsigned long long)w->offset,
			(unsigned long long)w->bytes, w->direct ? " direct" : "",
			w->first == NULL ? " zeros" : "",
			w->second != NULL ? " changed meanwhile" : "");
	}
	if (inode >= 0)
		fprintf(stderr, "  synced size %llu\n",
			(unsigned long long)d->inodes[inode].synced_size);
	for (uint32_t i = 0; i < d->moments_count; i++)
		if (d->moments[i].ended >= first)
			fprintf(stderr, "  %s %llu..%llu\n", d->moments[i].what,
				(unsigned long long)d->moments[i].began,
				(unsigned long long)d->moments[i].ended);
	pthread_mutex_unlock(&d->lock);
}

void
sim_disk_destroy(struct sim_disk *d)
{
	if (d == NULL)
		return;
	for (uint32_t i = 0; i < d->inodes_count; i++) {
		struct inode *n = &d->inodes[i];

		for (uint32_t j = 0; j < n->writes_count; j++) {
			free(n->writes[j]->first);
			free(n->writes[j]->second);
			free(n->writes[j]);
		}
		free(n->writes);
		free(n->base);
		free(n->data);
	}
	free(d->inodes);
	names_free(&d->names);
	names_free(&d->base_names);
	for (uint32_t i = 0; i < d->name_ops_count; i++) {
		free(d->name_ops[i].name);
		free(d->name_ops[i].to);
	}
	free(d->name_ops);
	free(d->moments);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

/* The crash. ---------------------------------------------------------------------------- */

/* How much of what was not durable is there: out of 256. */
struct luck {
	uint32_t write, sector, name;
};

static struct luck
luck_draw(uint64_t *random)
{
	static const struct luck lucks[] = {
		{ 0, 0, 0 },	   { 256, 256, 256 }, { 256, 256, 0 },	 { 0, 0, 256 },
		{ 128, 256, 128 }, { 256, 128, 128 }, { 128, 128, 128 }, { 256, 240, 256 },
		{ 256, 16, 64 },   { 40, 256, 200 },  { 220, 256, 0 },	 { 128, 128, 0 },
	};

	return lucks[sim_random(random) % (sizeof(lucks) / sizeof(*lucks))];
}

static void
crash_file(const struct inode *from, struct inode *to, uint64_t at, struct luck luck,
	   uint64_t *random)
{
	if (from->base_size > 0)
		put_bytes(&to->data, &to->size, &to->room, 0, from->base, from->base_size);
	for (uint32_t i = 0; i < from->writes_count; i++) {
		const struct write *w = from->writes[i];
		bool durable = w->durable <= at;
		const uint8_t *source;

		if (w->submit > at)
			break;
		if (w->gone <= at || (!durable && !drawn(random, luck.write)))
			continue;
		if (w->size_change) {
			set_size(&to->data, &to->size, &to->room, w->offset);
			continue;
		}
		/* Before its completion nothing appended later is known of: memory as it was
		 * at submit stands for what of it may be there. */
		source = w->complete <= at && w->second != NULL ? w->second : w->first;
		if (durable) {
			put_bytes(&to->data, &to->size, &to->room, w->offset, source, w->bytes);
			continue;
		}
		for (uint64_t o = 0; o < w->bytes;) {
			uint64_t step = SECTOR - (w->offset + o) % SECTOR;

			if (step > w->bytes - o)
				step = w->bytes - o;
			if (drawn(random, luck.sector))
				put_bytes(&to->data, &to->size, &to->room, w->offset + o,
					  source != NULL ? source + o : NULL, step);
			o += step;
		}
	}
}

static void
crash_names(struct sim_disk *d, struct names *to, uint64_t at, struct luck luck, uint64_t *random)
{
	struct names barred = { 0 };

	for (uint32_t i = 0; i < d->base_names.count; i++)
		names_put(to, d->base_names.entries[i].folder, d->base_names.entries[i].name,
			  d->base_names.entries[i].inode);
	for (uint32_t i = 0; i < d->name_ops_count && d->name_ops[i].at <= at; i++) {
		const struct name_op *op = &d->name_ops[i];
		bool done = op->durable <= at || drawn(random, luck.name);

		if (op->durable > at &&
		    (names_find(&barred, op->folder, op->name) != NULL ||
		     (op->to != NULL && names_find(&barred, op->folder, op->to) != NULL)))
			done = false;
		if (done) {
			names_apply(to, op);
			continue;
		}
		names_put(&barred, op->folder, op->name, 0);
		if (op->to != NULL)
			names_put(&barred, op->folder, op->to, 0);
	}
	names_free(&barred);
}

struct sim_disk *
sim_disk_crash(struct sim_disk *d, uint64_t at, uint64_t seed)
{
	uint64_t random = seed | 1;
	struct sim_disk *left = calloc(1, sizeof(*left));
	struct luck luck;

	for (int i = 0; i < 8; i++)
		sim_random(&random);
	luck = luck_draw(&random);
	hfb_assert(left != NULL);
	left->env.ops = &sim_ops;
	pthread_mutex_init(&left->lock, NULL);
	left->seed = sim_random(&random) | 1;
	pthread_mutex_lock(&d->lock);
	crash_names(d, &left->names, at, luck, &random);
	for (uint32_t i = 0; i < d->inodes_count; i++) {
		uint32_t n = inode_new(left, d->inodes[i].folder);
		bool named = false;

		for (uint32_t j = 0; j < left->names.count && !named; j++)
			named = left->names.entries[j].inode == i;
		if (!d->inodes[i].folder && named)
			crash_file(&d->inodes[i], &left->inodes[n], at, luck, &random);
	}
	pthread_mutex_unlock(&d->lock);
	for (uint32_t i = 0; i < left->inodes_count; i++) {
		struct inode *n = &left->inodes[i];

		if (n->size > 0) {
			n->base = malloc(n->size);
			hfb_assert(n->base != NULL);
			memcpy(n->base, n->data, n->size);
		}
		n->base_size = n->synced_size = n->size;
	}
	for (uint32_t i = 0; i < left->names.count; i++)
		names_put(&left->base_names, left->names.entries[i].folder,
			  left->names.entries[i].name, left->names.entries[i].inode);
	return left;
}
