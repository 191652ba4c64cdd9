/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limit_io.h - what the raw limits of the disk share: a written file, memory, one io_uring.
 *
 *	limit_io_open(&io, b, memory_bytes, depth);
 *	sqe = io_uring_get_sqe(&io.ring); limit_io_write(&io, sqe, memory, bytes, at, tag); ...
 *	limit_io_yield(&io, now_ns);		between looks at the completions
 *	limit_io_close(&io);
 *
 * Threads: one, the one that opened it; and where --cores names a second CPU one that keeps it
 *	    busy: a client of the bus does, and the host of a virtual machine may have less to give
 *	    for two CPUs and the disk than for one. That one watches for the machine's stalls.
 */
#ifndef HFB_BENCH_LIMIT_IO_H
#define HFB_BENCH_LIMIT_IO_H

#include <liburing.h>
#include <pthread.h>
#include <sched.h>

#include "bench.h"
#include "stall_watch.h"

/* While I/O is in flight the CPU is given away this often: kernel workers complete synced
 * writes, and on few CPUs they need this one. */
#define LIMIT_IO_YIELD_NS 2000u

#define LIMIT_IO_HELP                                                                              \
	"A second CPU of --cores is kept busy meanwhile, as a client of the bus does.\n"

struct limit_io {
	struct io_uring ring;
	int fd;
	char path[4096];
	uint64_t file_bytes;
	uint8_t *memory;     /* mapped twice in a row; registered; hugepages where there are */
	size_t memory_bytes; /* once; a power of two */
	int rw_flags;
	bool fixed; /* memory and file are registered */
	uint64_t yielded_ns;
	bool started;
	pthread_t busy; /* the second CPU's */
	bool busy_started, busy_end;
	_Alignas(64) struct stall_watch watch; /* the busy thread's */
};

/*
 * A file in --data (or the working folder) of --file-size bytes, written through and gone
 * again by limit_io_close(), also after a failure. The caller is pinned first.
 * 0, or negative errno and b->err.
 */
int limit_io_open(struct limit_io *io, struct bench *b, size_t memory_bytes, uint32_t depth);
void limit_io_close(struct limit_io *io);

static inline void
limit_io_write(struct limit_io *io, struct io_uring_sqe *sqe, const void *from, uint32_t bytes,
	       uint64_t at, uint64_t tag)
{
	if (io->fixed) {
		io_uring_prep_write_fixed(sqe, 0, from, bytes, at, 0);
		sqe->flags |= IOSQE_FIXED_FILE;
	} else {
		io_uring_prep_write(sqe, io->fd, from, bytes, at);
	}
	sqe->rw_flags = io->rw_flags;
	sqe->user_data = tag;
}

static inline void
limit_io_read(struct limit_io *io, struct io_uring_sqe *sqe, void *to, uint32_t bytes, uint64_t at,
	      uint64_t tag)
{
	if (io->fixed) {
		io_uring_prep_read_fixed(sqe, 0, to, bytes, at, 0);
		sqe->flags |= IOSQE_FIXED_FILE;
	} else {
		io_uring_prep_read(sqe, io->fd, to, bytes, at);
	}
	sqe->user_data = tag;
}

/* Called at every look while something is in flight. */
static inline void
limit_io_yield(struct limit_io *io, uint64_t now_ns)
{
	if (now_ns - io->yielded_ns < LIMIT_IO_YIELD_NS)
		return;
	sched_yield();
	io->yielded_ns = now_ns;
}

#endif
