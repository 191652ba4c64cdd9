/* SPDX-License-Identifier: Apache-2.0 */
/*
 * env.h - the one seam of storage: files, the asynchronous queue, clock and
 * randomness behind one table. All of storage goes through it, so that tests
 * can fail the n-th call, record what was written and synced in which order,
 * and a simulator can run the same code.
 *
 *	fd = hfb_env_open(env, path, O_RDWR | O_CREAT, 0644);
 *	r = hfb_env_pwrite(env, fd, bytes, size, 0);
 *	r = hfb_env_fdatasync(env, fd);
 *	r = hfb_env_rename(env, from, to);
 *	r = hfb_env_sync_dir(env, folder);
 *
 * To wrap: put a struct hfb_env first in your own struct, give it a table of
 * your own, and hand on to hfb_env_real().
 *
 *	struct recorder { struct hfb_env env; struct hfb_env *real; ... };
 *
 * What survives a crash, the rules storage keeps to and a recorder may model:
 *  - bytes of a file: after fdatasync/fsync of it, or when the asynchronous write
 *    carried HFB_IO_DSYNC; or, O_DIRECT writes that overwrite written blocks only,
 *    after HFB_IO_FLUSH through any file of the same device (docs/STORAGE.md);
 *  - a name (create, rename, unlink): after sync_dir of its folder;
 *  - a write is torn at 512 bytes, no finer.
 *
 * Threads: the synchronous calls any; a struct hfb_io belongs to the one thread
 *	    that called hfb_env_io_enable(), but for create and destroy.
 * Memory:  io_create allocates all that its queue needs.
 */
#ifndef HFB_ENV_H
#define HFB_ENV_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "err.h"

struct hfb_env;

/* A folder's entry. */
typedef void (*hfb_env_entry)(void *arg, const char *name, bool is_folder);

/* Asynchronous queue. ------------------------------------------------------ */

enum hfb_io_kind {
	HFB_IO_READ,
	HFB_IO_WRITE,
	HFB_IO_FDATASYNC, /* this file */
	HFB_IO_FLUSH,	  /* the device, through this file: covers every O_DIRECT overwrite,
			   * of any file there, that was reaped before this was submitted */
};
#define HFB_IO_DSYNC 0x0001u /* a write: durable when it completes */

struct hfb_io_op {
	enum hfb_io_kind kind;
	uint32_t flags; /* HFB_IO_* */
	int fd;
	int file_slot;	 /* registered, or -1 */
	int buffer_slot; /* registered, or -1 */
	uint32_t bytes;
	void *buffer;
	uint64_t offset;
	uint64_t user_data;
};

struct hfb_io_done {
	uint64_t user_data;
	int32_t result; /* bytes, 0, or -errno */
};

struct hfb_io_config {
	uint32_t depth;	      /* operations in flight at most */
	uint32_t files_max;   /* slots for registered files, 0 = none */
	uint32_t buffers_max; /* slots for registered buffers, 0 = none */
};

struct hfb_io {
	struct hfb_env *env;
	int event_fd;	    /* readable when a completion waits; -1 = none */
	uint32_t files_max; /* slots there are, 0 when refused */
	uint32_t buffers_max;
	uint32_t fallbacks; /* refusals by the kernel that cost speed only */
};

/* What is below a folder. */
struct hfb_env_device {
	bool writes_through; /* the device syncs a write with it: FUA, or no cache */
	bool flush_covers;   /* one fdatasync flushes the device, see HFB_IO_FLUSH */
};

/* The table. --------------------------------------------------------------- */

/* Results: >= 0, or -errno. Paths are whole; nothing keeps them. */
struct hfb_env_ops {
	int (*open)(struct hfb_env *env, const char *path, int flags, unsigned int mode);
	int (*close)(struct hfb_env *env, int fd);
	ssize_t (*pread)(struct hfb_env *env, int fd, void *to, size_t size, uint64_t at);
	int (*pwrite)(struct hfb_env *env, int fd, const void *from, size_t size, uint64_t at);
	int (*fsync)(struct hfb_env *env, int fd);
	int (*fdatasync)(struct hfb_env *env, int fd);
	int (*allocate)(struct hfb_env *env, int fd, uint64_t at, uint64_t size);
	int (*truncate)(struct hfb_env *env, int fd, uint64_t size);
	int (*rename)(struct hfb_env *env, const char *from, const char *to);
	int (*unlink)(struct hfb_env *env, const char *path);
	int (*mkdir)(struct hfb_env *env, const char *path, unsigned int mode);
	int (*rmdir)(struct hfb_env *env, const char *path);
	int (*list)(struct hfb_env *env, const char *path, hfb_env_entry each, void *arg);
	int (*sync_dir)(struct hfb_env *env, const char *path);
	/* may be NULL: files and folders are synced one by one */
	int (*sync_all)(struct hfb_env *env, const char *path);
	int (*size)(struct hfb_env *env, const char *path, uint64_t *ret_bytes);
	int (*free_bytes)(struct hfb_env *env, const char *path, uint64_t *ret_bytes);
	int (*lock)(struct hfb_env *env, int fd);
	/* may be NULL: nothing is known, each write is synced */
	int (*device)(struct hfb_env *env, const char *path, struct hfb_env_device *ret);

	int (*io_create)(struct hfb_env *env, const struct hfb_io_config *config,
			 struct hfb_io **ret_io, struct hfb_err *err);
	void (*io_destroy)(struct hfb_io *io);
	int (*io_enable)(struct hfb_io *io);
	int (*io_file)(struct hfb_io *io, uint32_t slot, int fd);
	int (*io_buffer)(struct hfb_io *io, uint32_t slot, void *memory, size_t size);
	bool (*io_prepare)(struct hfb_io *io, const struct hfb_io_op *op);
	int (*io_submit)(struct hfb_io *io);
	uint32_t (*io_reap)(struct hfb_io *io, struct hfb_io_done *done, uint32_t max);

	uint64_t (*now_ns)(struct hfb_env *env);
	void (*random)(struct hfb_env *env, void *bytes, size_t size);
};

struct hfb_env {
	const struct hfb_env_ops *ops;
};

/* The kernel's. One for the process. */
struct hfb_env *hfb_env_real(void);

/* Files. fd, or -errno. O_DIRECT on a file system without it: -EINVAL. */
static inline int
hfb_env_open(struct hfb_env *env, const char *path, int flags, unsigned int mode)
{
	return env->ops->open(env, path, flags, mode);
}

/* Accepts -1. */
static inline int
hfb_env_close(struct hfb_env *env, int fd)
{
	return fd < 0 ? 0 : env->ops->close(env, fd);
}

/* Bytes read; fewer than @size only at the file's end. */
static inline ssize_t
hfb_env_pread(struct hfb_env *env, int fd, void *to, size_t size, uint64_t at)
{
	return env->ops->pread(env, fd, to, size, at);
}

/* 0 when all was written. */
static inline int
hfb_env_pwrite(struct hfb_env *env, int fd, const void *from, size_t size, uint64_t at)
{
	return env->ops->pwrite(env, fd, from, size, at);
}

static inline int
hfb_env_fsync(struct hfb_env *env, int fd)
{
	return env->ops->fsync(env, fd);
}

static inline int
hfb_env_fdatasync(struct hfb_env *env, int fd)
{
	return env->ops->fdatasync(env, fd);
}

/* Blocks for [at, at + size); the file grows. -EOPNOTSUPP: this file system cannot. */
static inline int
hfb_env_allocate(struct hfb_env *env, int fd, uint64_t at, uint64_t size)
{
	return env->ops->allocate(env, fd, at, size);
}

static inline int
hfb_env_truncate(struct hfb_env *env, int fd, uint64_t size)
{
	return env->ops->truncate(env, fd, size);
}

static inline int
hfb_env_rename(struct hfb_env *env, const char *from, const char *to)
{
	return env->ops->rename(env, from, to);
}

static inline int
hfb_env_unlink(struct hfb_env *env, const char *path)
{
	return env->ops->unlink(env, path);
}

/* One folder; -EEXIST when it is there. */
static inline int
hfb_env_mkdir(struct hfb_env *env, const char *path, unsigned int mode)
{
	return env->ops->mkdir(env, path, mode);
}

static inline int
hfb_env_rmdir(struct hfb_env *env, const char *path)
{
	return env->ops->rmdir(env, path);
}

/* Calls @each for each entry but "." and "..", in the order of names. */
static inline int
hfb_env_list(struct hfb_env *env, const char *path, hfb_env_entry each, void *arg)
{
	return env->ops->list(env, path, each, arg);
}

/* Make the folder's names durable. */
static inline int
hfb_env_sync_dir(struct hfb_env *env, const char *path)
{
	return env->ops->sync_dir(env, path);
}

/* Make bytes and names of the whole file system durable. -EOPNOTSUPP: it cannot at once. */
static inline int
hfb_env_sync_all(struct hfb_env *env, const char *path)
{
	return env->ops->sync_all == NULL ? -EOPNOTSUPP : env->ops->sync_all(env, path);
}

static inline int
hfb_env_size(struct hfb_env *env, const char *path, uint64_t *ret_bytes)
{
	return env->ops->size(env, path, ret_bytes);
}

/* What an ordinary user may still write to the file system of @path. */
static inline int
hfb_env_free_bytes(struct hfb_env *env, const char *path, uint64_t *ret_bytes)
{
	return env->ops->free_bytes(env, path, ret_bytes);
}

/* Exclusive, until the file is closed; -EBUSY when another has it. */
static inline int
hfb_env_lock(struct hfb_env *env, int fd)
{
	return env->ops->lock(env, fd);
}

/* What the device does on a write. -errno: not known. */
static inline int
hfb_env_device(struct hfb_env *env, const char *path, struct hfb_env_device *ret)
{
	return env->ops->device == NULL ? -EOPNOTSUPP : env->ops->device(env, path, ret);
}

/* Asynchronous queue. Create: any thread, may be refused with one sentence. */
static inline int
hfb_env_io_create(struct hfb_env *env, const struct hfb_io_config *config, struct hfb_io **ret_io,
		  struct hfb_err *err)
{
	return env->ops->io_create(env, config, ret_io, err);
}

/* Any thread, when nothing is in flight. Accepts NULL. */
static inline void
hfb_env_io_destroy(struct hfb_io *io)
{
	if (io != NULL)
		io->env->ops->io_destroy(io);
}

/* The thread that calls this owns the queue from now on. */
static inline int
hfb_env_io_enable(struct hfb_io *io)
{
	return io->env->ops->io_enable(io);
}

/* Put @fd into a slot, -1 empties it. -errno: go on without. */
static inline int
hfb_env_io_file(struct hfb_io *io, uint32_t slot, int fd)
{
	return io->env->ops->io_file(io, slot, fd);
}

/* Pin @memory in a slot, NULL empties it. -errno (memlock): go on without. */
static inline int
hfb_env_io_buffer(struct hfb_io *io, uint32_t slot, void *memory, size_t size)
{
	return io->env->ops->io_buffer(io, slot, memory, size);
}

/* Queue an operation for the next submit. False: depth reached. Copies @op. */
static inline bool
hfb_env_io_prepare(struct hfb_io *io, const struct hfb_io_op *op)
{
	return io->env->ops->io_prepare(io, op);
}

/*
 * Submit what was prepared and let completions in: at most one entry to the
 * kernel, none when there is nothing to do. 0 or -errno (nothing was taken then).
 */
static inline int
hfb_env_io_submit(struct hfb_io *io)
{
	return io->env->ops->io_submit(io);
}

/* Completions that are there, without entering the kernel. Returns how many. */
static inline uint32_t
hfb_env_io_reap(struct hfb_io *io, struct hfb_io_done *done, uint32_t max)
{
	return io->env->ops->io_reap(io, done, max);
}

/* UTC nanoseconds. */
static inline uint64_t
hfb_env_now_ns(struct hfb_env *env)
{
	return env->ops->now_ns(env);
}

static inline void
hfb_env_random(struct hfb_env *env, void *bytes, size_t size)
{
	env->ops->random(env, bytes, size);
}

#endif
