/* SPDX-License-Identifier: Apache-2.0 */
#include "fault_env.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct fault_env fault_env;

#define OPS_MAX 4096u

struct fault_io {
	struct hfb_io io;
	struct hfb_io *real;
	struct {
		uint64_t user_data;
		enum hfb_io_kind kind;
		bool used, cut;
	} ops[OPS_MAX];
	struct hfb_io_done flush; /* held back */
};

static struct hfb_env *
real(void)
{
	return hfb_env_real();
}

static bool
fails(void)
{
	__atomic_fetch_add(&fault_env.calls, 1, __ATOMIC_RELAXED);
	if (fault_env.fail_at < 0)
		return false;
	if (fault_env.fail_at-- > 0)
		return false;
	fault_env.fired = true;
	return true;
}

#define FAILS()                                                                                    \
	do {                                                                                       \
		if (fails())                                                                       \
			return fault_env.fail_code;                                                \
	} while (0)

static int
f_open(struct hfb_env *env, const char *path, int flags, unsigned int mode)
{
	int fd;

	if (fault_env.full_for != NULL && strstr(path, fault_env.full_for) != NULL)
		return -ENOSPC;
	FAILS();
	fd = hfb_env_open(real(), path, flags, mode);
	if (fd >= 0)
		__atomic_fetch_add(&fault_env.open_files, 1, __ATOMIC_RELAXED);
	return fd;
}

static int
f_close(struct hfb_env *env, int fd)
{
	__atomic_fetch_sub(&fault_env.open_files, 1, __ATOMIC_RELAXED);
	return hfb_env_close(real(), fd);
}

static ssize_t
f_pread(struct hfb_env *env, int fd, void *to, size_t size, uint64_t at)
{
	FAILS();
	return hfb_env_pread(real(), fd, to, size, at);
}

static int
f_pwrite(struct hfb_env *env, int fd, const void *from, size_t size, uint64_t at)
{
	FAILS();
	if (fault_env.no_space)
		return -ENOSPC;
	return hfb_env_pwrite(real(), fd, from, size, at);
}

static int
f_fsync(struct hfb_env *env, int fd)
{
	FAILS();
	return hfb_env_fsync(real(), fd);
}

static int
f_fdatasync(struct hfb_env *env, int fd)
{
	FAILS();
	return hfb_env_fdatasync(real(), fd);
}

static int
f_allocate(struct hfb_env *env, int fd, uint64_t at, uint64_t size)
{
	FAILS();
	if (fault_env.no_space)
		return -ENOSPC;
	if (fault_env.on_allocate != NULL)
		fault_env.on_allocate(fault_env.arg);
	return hfb_env_allocate(real(), fd, at, size);
}

static int
f_truncate(struct hfb_env *env, int fd, uint64_t size)
{
	FAILS();
	return hfb_env_truncate(real(), fd, size);
}

static int
f_rename(struct hfb_env *env, const char *from, const char *to)
{
	FAILS();
	return hfb_env_rename(real(), from, to);
}

static int
f_unlink(struct hfb_env *env, const char *path)
{
	FAILS();
	return hfb_env_unlink(real(), path);
}

static int
f_mkdir(struct hfb_env *env, const char *path, unsigned int mode)
{
	FAILS();
	return hfb_env_mkdir(real(), path, mode);
}

static int
f_rmdir(struct hfb_env *env, const char *path)
{
	FAILS();
	return hfb_env_rmdir(real(), path);
}

static int
f_list(struct hfb_env *env, const char *path, hfb_env_entry each, void *arg)
{
	FAILS();
	return hfb_env_list(real(), path, each, arg);
}

static int
f_sync_dir(struct hfb_env *env, const char *path)
{
	FAILS();
	return hfb_env_sync_dir(real(), path);
}

static int
f_size(struct hfb_env *env, const char *path, uint64_t *ret_bytes)
{
	FAILS();
	return hfb_env_size(real(), path, ret_bytes);
}

static int
f_free_bytes(struct hfb_env *env, const char *path, uint64_t *ret_bytes)
{
	FAILS();
	return hfb_env_free_bytes(real(), path, ret_bytes);
}

static int
f_lock(struct hfb_env *env, int fd)
{
	FAILS();
	return hfb_env_lock(real(), fd);
}

static int
f_device(struct hfb_env *env, const char *path, struct hfb_env_device *ret)
{
	FAILS();
	return hfb_env_device(real(), path, ret);
}

static int
f_io_create(struct hfb_env *env, const struct hfb_io_config *config, struct hfb_io **ret_io,
	    struct hfb_err *err)
{
	struct fault_io *io;
	int r;

	if (fails())
		return hfb_err_set(err, fault_env.fail_code, "io_uring: refused for the test");
	io = calloc(1, sizeof(*io));
	r = hfb_env_io_create(real(), config, &io->real, err);
	if (r < 0) {
		free(io);
		return r;
	}
	io->io = *io->real;
	io->io.env = env;
	*ret_io = &io->io;
	return 0;
}

static struct fault_io *
io_of(struct hfb_io *io)
{
	return (struct fault_io *)io;
}

static void
f_io_destroy(struct hfb_io *io)
{
	hfb_env_io_destroy(io_of(io)->real);
	free(io);
}

static int
f_io_enable(struct hfb_io *io)
{
	return hfb_env_io_enable(io_of(io)->real);
}

static int
f_io_file(struct hfb_io *io, uint32_t slot, int fd)
{
	return hfb_env_io_file(io_of(io)->real, slot, fd);
}

static int
f_io_buffer(struct hfb_io *io, uint32_t slot, void *memory, size_t size)
{
	return hfb_env_io_buffer(io_of(io)->real, slot, memory, size);
}

static bool
f_io_prepare(struct hfb_io *io, const struct hfb_io_op *op)
{
	struct fault_io *f = io_of(io);
	struct hfb_io_op copy = *op;
	uint32_t *refuse = op->kind == HFB_IO_WRITE  ? &fault_env.refuse_writes
			   : op->kind == HFB_IO_READ ? &fault_env.refuse_reads
						     : NULL;
	uint32_t i = 0;

	if (refuse != NULL && *refuse > 0) {
		(*refuse)--;
		return false;
	}
	while (f->ops[i].used)
		i++;
	copy.user_data = i;
	f->ops[i].cut = false;
	if (op->kind == HFB_IO_WRITE && fault_env.short_write_bytes > 0) {
		copy.bytes = fault_env.short_write_bytes;
		fault_env.short_write_bytes = 0;
		f->ops[i].cut = true;
	}
	if (!hfb_env_io_prepare(f->real, &copy))
		return false;
	f->ops[i].used = true;
	f->ops[i].kind = op->kind;
	f->ops[i].user_data = op->user_data;
	if (op->kind == HFB_IO_FLUSH)
		fault_env.flushes++;
	else if (op->kind == HFB_IO_WRITE && (op->flags & HFB_IO_DSYNC) != 0)
		fault_env.dsync_writes++;
	else if (op->kind == HFB_IO_WRITE)
		fault_env.plain_writes++;
	return true;
}

static int
f_io_submit(struct hfb_io *io)
{
	return fault_env.submit_error != 0 ? fault_env.submit_error
					   : hfb_env_io_submit(io_of(io)->real);
}

static uint32_t
f_io_reap(struct hfb_io *io, struct hfb_io_done *done, uint32_t max)
{
	struct fault_io *f = io_of(io);
	uint32_t n, kept = 0;

	if (fault_env.hold)
		return 0;
	if (fault_env.flush_held && !fault_env.hold_flushes) {
		fault_env.flush_held = false;
		*done = f->flush;
		if (fault_env.flush_error != 0)
			done->result = fault_env.flush_error;
		return 1;
	}
	if (fault_env.reap_max > 0 && max > fault_env.reap_max)
		max = fault_env.reap_max;
	n = hfb_env_io_reap(f->real, done, max);
	for (uint32_t i = 0; i < n; i++) {
		uint64_t at = done[i].user_data;
		int code = 0;

		done[i].user_data = f->ops[at].user_data;
		f->ops[at].used = false;
		if (f->ops[at].kind == HFB_IO_WRITE)
			code = fault_env.write_error;
		else if (f->ops[at].kind == HFB_IO_READ)
			code = fault_env.read_error;
		else
			code = fault_env.flush_error;
		if (code != 0)
			done[i].result = code;
		/* one flush is in flight at most */
		if (f->ops[at].kind == HFB_IO_FLUSH && fault_env.hold_flushes) {
			f->flush = done[i];
			fault_env.flush_held = true;
			continue;
		}
		done[kept++] = done[i];
	}
	return kept;
}

static uint64_t
f_now_ns(struct hfb_env *env)
{
	return hfb_env_now_ns(real());
}

static void
f_random(struct hfb_env *env, void *bytes, size_t size)
{
	hfb_env_random(real(), bytes, size);
}

static const struct hfb_env_ops ops = {
	.open = f_open,
	.close = f_close,
	.pread = f_pread,
	.pwrite = f_pwrite,
	.fsync = f_fsync,
	.fdatasync = f_fdatasync,
	.allocate = f_allocate,
	.truncate = f_truncate,
	.rename = f_rename,
	.unlink = f_unlink,
	.mkdir = f_mkdir,
	.rmdir = f_rmdir,
	.list = f_list,
	.sync_dir = f_sync_dir,
	.size = f_size,
	.free_bytes = f_free_bytes,
	.lock = f_lock,
	.device = f_device,
	.io_create = f_io_create,
	.io_destroy = f_io_destroy,
	.io_enable = f_io_enable,
	.io_file = f_io_file,
	.io_buffer = f_io_buffer,
	.io_prepare = f_io_prepare,
	.io_submit = f_io_submit,
	.io_reap = f_io_reap,
	.now_ns = f_now_ns,
	.random = f_random,
};

struct hfb_env *
fault_env_reset(void)
{
	memset(&fault_env, 0, sizeof(fault_env));
	fault_env.env.ops = &ops;
	fault_env.fail_at = -1;
	fault_env.fail_code = -EIO;
	return &fault_env.env;
}
