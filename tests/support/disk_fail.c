/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk_fail.c - preloaded into hfbusd: a disk that begins to fail.
 *
 *	LD_PRELOAD=libhfb_disk_fail.so HFBUS_TEST_DISK_FAIL=DIR hfbusd ...
 *	touch DIR/write		what io_uring is asked to write or sync ends with an error
 *	touch DIR/read		what it is asked to read does
 *	touch DIR/prepare	large plain writes, that make segments, do (EIO)
 *
 * Requests are spoiled before the kernel sees them (no file), so nothing of them reaches
 * the disk and the completion is the kernel's own.
 *
 * Threads: any.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

#include <liburing.h>

#define PREPARE_BYTES_MIN 65536u

static bool
asked(const char *what)
{
	const char *folder = getenv("HFBUS_TEST_DISK_FAIL");
	char path[512];
	int error = errno;
	bool yes;

	if (folder == NULL)
		return false;
	snprintf(path, sizeof(path), "%s/%s", folder, what);
	yes = access(path, F_OK) == 0;
	errno = error;
	return yes;
}

static void
spoil(struct io_uring *ring)
{
	bool writes = asked("write"), reads = asked("read");

	if (!writes && !reads)
		return;
	for (unsigned int i = ring->sq.sqe_head; i != ring->sq.sqe_tail; i++) {
		struct io_uring_sqe *sqe = &ring->sq.sqes[i & *ring->sq.kring_mask];
		bool write = sqe->opcode == IORING_OP_WRITE ||
			     sqe->opcode == IORING_OP_WRITE_FIXED || sqe->opcode == IORING_OP_FSYNC;
		bool read = sqe->opcode == IORING_OP_READ || sqe->opcode == IORING_OP_READ_FIXED;

		if ((write && writes) || (read && reads)) {
			sqe->fd = -1;
			sqe->flags &= (uint8_t)~IOSQE_FIXED_FILE;
		}
	}
}

int
io_uring_submit(struct io_uring *ring)
{
	static int (*next)(struct io_uring *);

	if (next == NULL)
		next = (int (*)(struct io_uring *))dlsym(RTLD_NEXT, "io_uring_submit");
	spoil(ring);
	return next(ring);
}

int
io_uring_submit_and_get_events(struct io_uring *ring)
{
	static int (*next)(struct io_uring *);

	if (next == NULL)
		next = (int (*)(struct io_uring *))dlsym(RTLD_NEXT,
							 "io_uring_submit_and_get_events");
	spoil(ring);
	return next(ring);
}

/* Our programs are built with 64-bit offsets: this is their pwrite(). */
ssize_t
pwrite64(int fd, const void *bytes, size_t size, off_t at)
{
	static ssize_t (*next)(int, const void *, size_t, off_t);

	if (next == NULL)
		next = (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite64");
	if (size >= PREPARE_BYTES_MIN && asked("prepare")) {
		errno = EIO;
		return -1;
	}
	return next(fd, bytes, size, at);
}
