/* SPDX-License-Identifier: Apache-2.0 */
#include "env_io.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

struct uring {
	struct hfb_io io;
	struct io_uring ring;
	uint32_t depth, in_flight; /* in flight: prepared and not reaped */
	bool deferred;		   /* completions wait for us to enter */
	bool disabled;		   /* until its owner enables it */
};

static struct uring *
uring_of(struct hfb_io *io)
{
	return (struct uring *)io;
}

/* The best set of flags this kernel takes. */
static int
ring_open(struct uring *u, uint32_t entries)
{
	static const unsigned int flags[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_R_DISABLED,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		0,
	};
	int r = -EINVAL;

	for (unsigned int i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		struct io_uring_params params = { .flags = flags[i] | IORING_SETUP_CQSIZE,
						  .cq_entries = entries * 2 };

		r = io_uring_queue_init_params(entries, &u->ring, &params);
		if (r == 0) {
			u->deferred = (flags[i] & IORING_SETUP_TASKRUN_FLAG) != 0;
			u->disabled = (flags[i] & IORING_SETUP_R_DISABLED) != 0;
			return 0;
		}
		if (r != -EINVAL)
			return r;
		u->io.fallbacks++;
	}
	return r;
}

int
hfb_uring_create(struct hfb_env *env, const struct hfb_io_config *config, struct hfb_io **ret_io,
		 struct hfb_err *err)
{
	struct uring *u = calloc(1, sizeof(*u));
	int r;

	if (u == NULL)
		return hfb_err_set(err, -ENOMEM, "no memory for an I/O queue");
	u->io.env = env;
	u->depth = config->depth;
	r = ring_open(u, config->depth);
	if (r < 0) {
		free(u);
		return hfb_err_set(err, r,
				   "io_uring is refused (%s): see kernel.io_uring_disabled,"
				   " the container's seccomp profile and RLIMIT_MEMLOCK",
				   strerror(-r));
	}
	u->io.event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (u->io.event_fd >= 0 && io_uring_register_eventfd(&u->ring, u->io.event_fd) < 0) {
		close(u->io.event_fd);
		u->io.event_fd = -1;
		u->io.fallbacks++;
	}
	if (config->files_max > 0) {
		if (io_uring_register_files_sparse(&u->ring, config->files_max) == 0)
			u->io.files_max = config->files_max;
		else
			u->io.fallbacks++;
	}
	if (config->buffers_max > 0) {
		if (io_uring_register_buffers_sparse(&u->ring, config->buffers_max) == 0)
			u->io.buffers_max = config->buffers_max;
		else
			u->io.fallbacks++;
	}
	*ret_io = &u->io;
	return 0;
}

void
hfb_uring_destroy(struct hfb_io *io)
{
	struct uring *u = uring_of(io);

	io_uring_queue_exit(&u->ring);
	if (io->event_fd >= 0)
		close(io->event_fd);
	free(u);
}

int
hfb_uring_enable(struct hfb_io *io)
{
	struct uring *u = uring_of(io);
	int r;

	if (u->disabled) {
		/* Not io_uring_enable_rings(): liburing 2.3's shared library does not export it. */
		r = (int)syscall(__NR_io_uring_register, u->ring.ring_fd,
				 IORING_REGISTER_ENABLE_RINGS, NULL, 0);
		if (r < 0)
			return -errno;
		u->disabled = false;
	}
	/* spares the kernel a look-up of the ring's own fd at each entry */
	if (io_uring_register_ring_fd(&u->ring) != 1)
		io->fallbacks++;
	return 0;
}

int
hfb_uring_file(struct hfb_io *io, uint32_t slot, int fd)
{
	int r;

	if (slot >= io->files_max)
		return -ENOSPC;
	r = io_uring_register_files_update(&uring_of(io)->ring, slot, &fd, 1);
	return r < 0 ? r : 0;
}

int
hfb_uring_buffer(struct hfb_io *io, uint32_t slot, void *memory, size_t size)
{
	struct iovec iov = { .iov_base = memory, .iov_len = memory != NULL ? size : 0 };
	__u64 tag = 0;
	int r;

	if (slot >= io->buffers_max)
		return -ENOSPC;
	r = io_uring_register_buffers_update_tag(&uring_of(io)->ring, slot, &iov, &tag, 1);
	return r < 0 ? r : 0;
}

bool
hfb_uring_prepare(struct hfb_io *io, const struct hfb_io_op *op)
{
	struct uring *u = uring_of(io);
	struct io_uring_sqe *sqe;
	int fd = op->file_slot >= 0 ? op->file_slot : op->fd;

	if (u->in_flight == u->depth)
		return false;
	sqe = io_uring_get_sqe(&u->ring);
	if (sqe == NULL)
		return false;
	switch (op->kind) {
	case HFB_IO_READ:
		if (op->buffer_slot >= 0)
			io_uring_prep_read_fixed(sqe, fd, op->buffer, op->bytes, op->offset,
						 op->buffer_slot);
		else
			io_uring_prep_read(sqe, fd, op->buffer, op->bytes, op->offset);
		break;
	case HFB_IO_WRITE:
		if (op->buffer_slot >= 0)
			io_uring_prep_write_fixed(sqe, fd, op->buffer, op->bytes, op->offset,
						  op->buffer_slot);
		else
			io_uring_prep_write(sqe, fd, op->buffer, op->bytes, op->offset);
		if ((op->flags & HFB_IO_DSYNC) != 0)
			sqe->rw_flags = RWF_DSYNC;
		break;
	case HFB_IO_FDATASYNC:
	case HFB_IO_FLUSH:
		io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
		break;
	}
	if (op->file_slot >= 0)
		sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data64(sqe, op->user_data);
	u->in_flight++;
	return true;
}

int
hfb_uring_submit(struct hfb_io *io)
{
	struct uring *u = uring_of(io);
	int r;

	if (io_uring_sq_ready(&u->ring) > 0) {
		r = u->deferred ? io_uring_submit_and_get_events(&u->ring)
				: io_uring_submit(&u->ring);
	} else {
		/* The kernel says in shared memory whether completions wait for us. */
		if (u->in_flight == 0 || (IO_URING_READ_ONCE(*u->ring.sq.kflags) &
					  (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) == 0)
			return 0;
		r = io_uring_get_events(&u->ring);
	}
	/* Busy or interrupted: what was prepared stays and goes with the next call. */
	if (r == -EAGAIN || r == -EBUSY || r == -EINTR)
		return 0;
	return r < 0 ? r : 0;
}

uint32_t
hfb_uring_reap(struct hfb_io *io, struct hfb_io_done *done, uint32_t max)
{
	struct uring *u = uring_of(io);
	struct io_uring_cqe *cqe;
	unsigned int head;
	uint32_t n = 0;

	io_uring_for_each_cqe(&u->ring, head, cqe)
	{
		if (n == max)
			break;
		done[n].user_data = cqe->user_data;
		done[n].result = cqe->res;
		n++;
	}
	io_uring_cq_advance(&u->ring, n);
	u->in_flight -= n;
	return n;
}
