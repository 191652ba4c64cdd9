/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each pair below is what the linker's --wrap makes of a call: __wrap_x is called in
 * place of x, and __real_x is x. The 64 at the end is glibc's name under 64-bit offsets.
 */
#include "fault.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>

static __thread bool armed, fired;
static __thread uint32_t pass_left, calls;

void
hfb_fault_arm(uint32_t pass)
{
	armed = true;
	fired = false;
	pass_left = pass;
	calls = 0;
}

bool
hfb_fault_disarm(void)
{
	armed = false;
	return fired;
}

uint32_t
hfb_fault_calls(void)
{
	return calls;
}

/* Is it this call's turn? One fault a run: what cleans up after it must work. */
static bool
fails(int code)
{
	if (!armed || fired)
		return false;
	calls++;
	if (pass_left-- > 0)
		return false;
	fired = true;
	errno = code;
	return true;
}

#define WRAP(type, failure, code, name, declared, passed)                                          \
	type __real_##name declared;                                                               \
	type __wrap_##name declared;                                                               \
	type __wrap_##name declared                                                                \
	{                                                                                          \
		return fails(code) ? (failure) : __real_##name passed;                             \
	}

/* clang-format off */
WRAP(void *, NULL, ENOMEM, malloc, (size_t size), (size))
WRAP(void *, NULL, ENOMEM, calloc, (size_t n, size_t size), (n, size))
WRAP(void *, NULL, ENOMEM, realloc, (void *old, size_t size), (old, size))
WRAP(void *, NULL, ENOMEM, aligned_alloc, (size_t align, size_t size), (align, size))
WRAP(char *, NULL, ENOMEM, strdup, (const char *text), (text))
WRAP(void *, MAP_FAILED, ENOMEM, mmap64,
     (void *at, size_t size, int prot, int flags, int fd, off_t offset),
     (at, size, prot, flags, fd, offset))
WRAP(int, -1, ENOSPC, ftruncate64, (int fd, off_t size), (fd, size))
WRAP(int, -1, ENOSPC, fallocate64, (int fd, int mode, off_t offset, off_t size),
     (fd, mode, offset, size))
WRAP(int, ENOSPC, ENOSPC, posix_fallocate64, (int fd, off_t offset, off_t size),
     (fd, offset, size))
WRAP(int, -1, EMFILE, memfd_create, (const char *name, unsigned int flags), (name, flags))
WRAP(int, -1, ENOSPC, mkdir, (const char *path, mode_t mode), (path, mode))
WRAP(int, -1, ENOSPC, rename, (const char *from, const char *to), (from, to))
WRAP(int, -1, ENOSPC, symlink, (const char *target, const char *path), (target, path))
WRAP(int, -1, EIO, fsync, (int fd), (fd))
WRAP(int, -1, EIO, fdatasync, (int fd), (fd))
WRAP(ssize_t, -1, EIO, read, (int fd, void *to, size_t size), (fd, to, size))
WRAP(ssize_t, -1, ENOSPC, write, (int fd, const void *from, size_t size), (fd, from, size))
WRAP(ssize_t, -1, EIO, pread64, (int fd, void *to, size_t size, off_t at), (fd, to, size, at))
WRAP(ssize_t, -1, ENOSPC, pwrite64, (int fd, const void *from, size_t size, off_t at),
     (fd, from, size, at))
WRAP(int, -1, EMFILE, eventfd, (unsigned int value, int flags), (value, flags))
WRAP(int, -1, EMFILE, socket, (int domain, int type, int protocol), (domain, type, protocol))
WRAP(int, EAGAIN, EAGAIN, pthread_create,
     (pthread_t *ret, const pthread_attr_t *attributes, void *(*run)(void *), void *arg),
     (ret, attributes, run, arg))
/* clang-format on */

int __real_open64(const char *path, int flags, ...);
int __real_openat64(int dir, const char *path, int flags, ...);
int __real_fcntl64(int fd, int what, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_openat64(int dir, const char *path, int flags, ...);
int __wrap_fcntl64(int fd, int what, ...);

int
__wrap_open64(const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list ap;

	if (fails(EMFILE))
		return -1;
	if ((flags & (O_CREAT | O_TMPFILE)) != 0) {
		va_start(ap, flags);
		mode = va_arg(ap, mode_t);
		va_end(ap);
	}
	return __real_open64(path, flags, mode);
}

int
__wrap_openat64(int dir, const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list ap;

	if (fails(EMFILE))
		return -1;
	if ((flags & (O_CREAT | O_TMPFILE)) != 0) {
		va_start(ap, flags);
		mode = va_arg(ap, mode_t);
		va_end(ap);
	}
	return __real_openat64(dir, path, flags, mode);
}

int
__wrap_fcntl64(int fd, int what, ...)
{
	va_list ap;
	void *arg;

	if (fails(EINVAL))
		return -1;
	/* Whatever it is, it fits a pointer. */
	va_start(ap, what);
	arg = va_arg(ap, void *);
	va_end(ap);
	return __real_fcntl64(fd, what, arg);
}
