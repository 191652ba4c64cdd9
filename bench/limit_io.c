/* SPDX-License-Identifier: Apache-2.0 */
#include "limit_io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FILL_BYTES (1u << 20)

/* Mapped twice in a row: what begins before the end goes on behind it. */
static uint8_t *
map_twice(size_t bytes, unsigned int flags)
{
	int fd = memfd_create("hfbus-bench", MFD_CLOEXEC | flags);
	uint8_t *at = MAP_FAILED;

	if (fd < 0)
		return NULL;
	if (ftruncate(fd, (off_t)bytes) == 0)
		at = mmap(NULL, 3 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			  -1, 0);
	if (at != MAP_FAILED) {
		uint8_t *from = at;

		at += -(uintptr_t)at & (bytes - 1);
		if (at > from)
			munmap(from, (size_t)(at - from));
		munmap(at + 2 * bytes, (size_t)(from + bytes - at));
		for (int i = 0; i < 2; i++)
			if (mmap(at + (size_t)i * bytes, bytes, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd, 0) == MAP_FAILED) {
				munmap(at, 2 * bytes);
				at = MAP_FAILED;
				break;
			}
	}
	close(fd);
	return at == MAP_FAILED ? NULL : at;
}

static int
memory_map(struct limit_io *io, struct bench *b, size_t bytes)
{
	size_t power = 2u << 20;

	while (power < bytes)
		power *= 2;
	io->memory_bytes = power;
	io->memory = map_twice(power, MFD_HUGETLB);
	if (io->memory != NULL) {
		bench_note(b, "memory: hugepages");
		return 0;
	}
	io->memory = map_twice(power, 0);
	if (io->memory == NULL)
		return hfb_err_set(&b->err, -ENOMEM, "no memory for a ring of %zu bytes", power);
	return 0;
}

/* Unwritten extents would double the latency of a synced write: write it all once. */
static int
file_fill(struct limit_io *io, struct bench *b)
{
	for (uint64_t at = 0; at < io->file_bytes && !bench_stop; at += FILL_BYTES) {
		uint64_t left = io->file_bytes - at;
		size_t bytes = left < FILL_BYTES ? (size_t)left : FILL_BYTES;

		if (pwrite(io->fd, io->memory, bytes, (off_t)at) != (ssize_t)bytes)
			return hfb_err_set(&b->err, -EIO,
					   "cannot write %" PRIu64 " bytes to %s: %s"
					   ", see --file-size",
					   io->file_bytes, io->path, strerror(errno));
	}
	if (fdatasync(io->fd) < 0)
		return hfb_err_set(&b->err, -errno, "cannot sync %s: %s", io->path,
				   strerror(errno));
	return 0;
}

static int
file_open(struct limit_io *io, struct bench *b)
{
	snprintf(io->path, sizeof(io->path), "%s/hfbus-bench-XXXXXX",
		 b->options.data != NULL ? b->options.data : ".");
	io->fd = mkostemp(io->path, O_DIRECT);
	if (io->fd < 0)
		return hfb_err_set(&b->err, -errno,
				   "cannot make a file in %s for O_DIRECT: %s, "
				   "see --data",
				   b->options.data != NULL ? b->options.data : ".",
				   strerror(errno));
	io->file_bytes = b->options.file_bytes;
	return file_fill(io, b);
}

static void *
busy_run(void *arg)
{
	struct limit_io *io = arg;

	while (!__atomic_load_n(&io->busy_end, __ATOMIC_RELAXED))
		stall_watch_look(&io->watch, bench_now_ns());
	return NULL;
}

/* --cores may name a second CPU. */
static int
busy_start(struct limit_io *io, struct bench *b)
{
	cpu_set_t set;
	int r;

	if (b->options.cores_count < 2)
		return 0;
	r = -pthread_create(&io->busy, NULL, busy_run, io);
	if (r < 0)
		return hfb_err_set(&b->err, r, "no thread for the second CPU: %s", strerror(-r));
	io->busy_started = true;
	CPU_ZERO(&set);
	CPU_SET(b->options.cores[1], &set);
	r = -pthread_setaffinity_np(io->busy, sizeof(set), &set);
	if (r < 0)
		return hfb_err_set(&b->err, r, "cannot use CPU %u: %s, see --cores",
				   b->options.cores[1], strerror(-r));
	bench_note(b, "CPU %u was kept busy beside", b->options.cores[1]);
	return 0;
}

int
limit_io_open(struct limit_io *io, struct bench *b, size_t memory_bytes, uint32_t depth)
{
	struct io_uring_params params = { .flags = IORING_SETUP_SINGLE_ISSUER |
						   IORING_SETUP_DEFER_TASKRUN };
	struct iovec iov;
	int r;

	memset(io, 0, sizeof(*io));
	io->fd = -1;
	io->rw_flags = b->options.sync ? RWF_DSYNC : 0;
	r = memory_map(io, b, memory_bytes < FILL_BYTES ? FILL_BYTES : memory_bytes);
	if (r == 0)
		r = file_open(io, b);
	if (r < 0)
		return r;
	r = io_uring_queue_init_params(depth < 8 ? 8 : depth, &io->ring, &params);
	if (r < 0)
		return hfb_err_set(&b->err, r, "io_uring is not available: %s", strerror(-r));
	io->started = true;
	iov = (struct iovec){ io->memory, io->memory_bytes };
	io->fixed = io_uring_register_buffers(&io->ring, &iov, 1) == 0 &&
		    io_uring_register_files(&io->ring, &io->fd, 1) == 0;
	if (!io->fixed)
		bench_note(b, "memory is not registered with io_uring, see ulimit -l");
	return busy_start(io, b);
}

void
limit_io_close(struct limit_io *io)
{
	if (io->busy_started) {
		__atomic_store_n(&io->busy_end, true, __ATOMIC_RELAXED);
		pthread_join(io->busy, NULL);
	}
	if (io->started)
		io_uring_queue_exit(&io->ring);
	if (io->fd >= 0) {
		close(io->fd);
		unlink(io->path);
	}
	if (io->memory != NULL)
		munmap(io->memory, 2 * io->memory_bytes);
	memset(io, 0, sizeof(*io));
	io->fd = -1;
}
