/* SPDX-License-Identifier: Apache-2.0 */
#include "read_ahead.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define CHUNKS	   (HFB_AHEAD_BYTES / HFB_AHEAD_CHUNK_BYTES)
#define FLIGHT_MAX 4u /* keeps a disk busy, and leaves some of it to those who write */
#define BLOCK	   4096u
#define HUGE_BYTES (2u << 20)
#define MAP_BYTES  (2ull * HFB_AHEAD_BYTES + HUGE_BYTES)

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1; refused by those before */
#endif

struct hfb_ahead {
	struct io_uring ring;
	uint8_t *area;			 /* mapped; what follows is in it */
	uint8_t *memory;		 /* twice in a row */
	bool fixed;			 /* registered with the ring */
	int fd;				 /* O_DIRECT; -1 = not started */
	uint64_t base, base_offset, end; /* of the segment; end: its last whole block */
	/* positions: multiples of a chunk, or the segment's base or end */
	uint64_t head, done, asked;
	bool come[CHUNKS];
	uint32_t size[CHUNKS];
	uint32_t in_flight;
	bool failed;
};

/*
 * In huge pages, whatever the machine reserves: of those a read is a piece or two, of plain ones
 * 128, which the disk (virtio) takes 1.5 to 1.9 times as long for. Without them all the same.
 */
static int
memory_map(struct hfb_ahead *a)
{
	int fd = memfd_create("hfbus-read-ahead", MFD_CLOEXEC), r = 0;
	uint8_t *area, *at;

	if (fd < 0)
		return -errno;
	area = mmap(NULL, MAP_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED) {
		r = -errno;
		goto out;
	}
	a->area = area;
	if (ftruncate(fd, HFB_AHEAD_BYTES) < 0) {
		r = -errno;
		goto out;
	}
	at = (uint8_t *)(((uintptr_t)area + HUGE_BYTES - 1) & ~(uintptr_t)(HUGE_BYTES - 1));
	for (uint32_t i = 0; i < 2 && r == 0; i++)
		if (mmap(at + (size_t)i * HFB_AHEAD_BYTES, HFB_AHEAD_BYTES, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED | (i == 0 ? MAP_POPULATE : 0), fd, 0) == MAP_FAILED)
			r = -errno;
	a->memory = at;
	/* joins the pages there are */
	if (r == 0)
		(void)madvise(at, HFB_AHEAD_BYTES, MADV_COLLAPSE);
out:
	close(fd);
	return r;
}

int
hfb_ahead_create(struct hfb_ahead **ret_ahead)
{
	struct hfb_ahead *a = calloc(1, sizeof(*a));
	struct iovec iov;
	int r;

	if (a == NULL)
		return -ENOMEM;
	a->fd = -1;
	r = io_uring_queue_init(CHUNKS, &a->ring, 0);
	if (r < 0) {
		free(a);
		return r;
	}
	r = memory_map(a);
	if (r < 0) {
		hfb_ahead_destroy(a);
		return r;
	}
	iov = (struct iovec){ .iov_base = a->memory, .iov_len = HFB_AHEAD_BYTES };
	a->fixed = io_uring_register_buffers(&a->ring, &iov, 1) == 0;
	*ret_ahead = a;
	return 0;
}

void
hfb_ahead_destroy(struct hfb_ahead *a)
{
	if (a == NULL)
		return;
	hfb_ahead_stop(a);
	io_uring_queue_exit(&a->ring);
	if (a->area != NULL)
		munmap(a->area, MAP_BYTES);
	free(a);
}

/* Of the chunk that @position is in, what the segment has. */
static uint64_t
chunk_begin(const struct hfb_ahead *a, uint64_t position)
{
	uint64_t begin = position / HFB_AHEAD_CHUNK_BYTES * HFB_AHEAD_CHUNK_BYTES;

	return begin > a->base ? begin : a->base;
}

static uint64_t
chunk_end(const struct hfb_ahead *a, uint64_t position)
{
	uint64_t end = (position / HFB_AHEAD_CHUNK_BYTES + 1) * HFB_AHEAD_CHUNK_BYTES;

	return end < a->end ? end : a->end;
}

static void
reap(struct hfb_ahead *a)
{
	struct io_uring_cqe *cqe;
	unsigned int head, n = 0;

	io_uring_for_each_cqe(&a->ring, head, cqe)
	{
		n++;
		if (cqe->user_data >= CHUNKS)
			continue; /* liburing's own, of a timeout */
		a->in_flight--;
		if (cqe->res != (int32_t)a->size[cqe->user_data])
			a->failed = true;
		a->come[cqe->user_data] = true;
	}
	io_uring_cq_advance(&a->ring, n);
	while (a->done < a->asked && a->come[a->done / HFB_AHEAD_CHUNK_BYTES % CHUNKS])
		a->done = chunk_end(a, a->done);
}

void
hfb_ahead_stop(struct hfb_ahead *a)
{
	/* the kernel writes to our memory until they have come */
	while (a->in_flight > 0) {
		int r = io_uring_submit_and_wait(&a->ring, 1);

		if (r < 0 && r != -EINTR && r != -EAGAIN)
			break;
		reap(a);
	}
	if (a->fd >= 0)
		close(a->fd);
	a->fd = -1;
	a->failed = false;
}

int
hfb_ahead_start(struct hfb_ahead *a, int fd, uint64_t base, uint64_t base_offset, uint64_t end,
		uint64_t position)
{
	char path[64];

	hfb_ahead_stop(a);
	/* a description of its own: the caller's goes on without O_DIRECT */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	a->fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (a->fd < 0)
		return -errno;
	a->base = base;
	a->base_offset = base_offset;
	a->end = base + (end - base) / BLOCK * BLOCK;
	/* chunks end where positions are multiples of a chunk, so that none is cut in memory */
	a->done = a->asked = a->head = chunk_begin(a, position);
	return 0;
}

static void
ask(struct hfb_ahead *a, uint64_t limit)
{
	uint64_t first = a->head / HFB_AHEAD_CHUNK_BYTES;

	while (a->in_flight < FLIGHT_MAX && a->asked < a->end && chunk_end(a, a->asked) <= limit &&
	       a->asked / HFB_AHEAD_CHUNK_BYTES - first < CHUNKS) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&a->ring);
		uint32_t chunk = (uint32_t)(a->asked / HFB_AHEAD_CHUNK_BYTES % CHUNKS);
		uint32_t size = (uint32_t)(chunk_end(a, a->asked) - a->asked);
		uint8_t *to = a->memory + (a->asked & (HFB_AHEAD_BYTES - 1));
		uint64_t at = a->base_offset + (a->asked - a->base);

		if (sqe == NULL)
			break;
		if (a->fixed)
			io_uring_prep_read_fixed(sqe, a->fd, to, size, at, 0);
		else
			io_uring_prep_read(sqe, a->fd, to, size, at);
		sqe->user_data = chunk;
		a->come[chunk] = false;
		a->size[chunk] = size;
		a->asked += size;
		a->in_flight++;
		/* Each by itself: of several submitted together, which follow each other, the block
		 * layer makes one request, and what is one comes at once, with nothing behind it.
		 */
		io_uring_submit(&a->ring);
	}
	/* refused before: they stayed in the queue */
	if (io_uring_sq_ready(&a->ring) > 0)
		io_uring_submit(&a->ring);
}

uint64_t
hfb_ahead_reach(const struct hfb_ahead *a, uint64_t position, uint64_t limit)
{
	uint64_t end =
		limit < a->end ? limit / HFB_AHEAD_CHUNK_BYTES * HFB_AHEAD_CHUNK_BYTES : a->end;

	return a->fd < 0 || a->failed || position < a->head || end <= position ? 0 : end - position;
}

int64_t
hfb_ahead_look(struct hfb_ahead *a, uint64_t position, uint64_t limit, const uint8_t **ret_bytes)
{
	uint64_t head;

	if (hfb_ahead_reach(a, position, limit) == 0)
		return -ENODATA;
	head = chunk_begin(a, position);
	/* a jump: what is in flight would come to where others are asked for by then */
	if (head > a->done) {
		hfb_ahead_stop(a);
		return -ENODATA;
	}
	a->head = head;
	if (a->in_flight > 0)
		reap(a);
	if (a->failed)
		return -ENODATA;
	ask(a, limit);
	if (a->done <= position)
		return 0;
	*ret_bytes = a->memory + (position & (HFB_AHEAD_BYTES - 1));
	return (int64_t)(a->done - position);
}

bool
hfb_ahead_wait(struct hfb_ahead *a, uint64_t timeout_ns)
{
	struct __kernel_timespec t = { .tv_sec = (int64_t)(timeout_ns / 1000000000u),
				       .tv_nsec = (int64_t)(timeout_ns % 1000000000u) };
	struct io_uring_cqe *cqe;

	if (a->in_flight == 0)
		return false;
	io_uring_wait_cqe_timeout(&a->ring, &cqe, &t);
	return true;
}
