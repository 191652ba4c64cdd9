/* SPDX-License-Identifier: Apache-2.0 */
/* sim_disk_io.c - the queue of operations that are under way, as io_uring's. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bug.h"
#include "sim_disk_private.h"

int
sim_io_create(struct hfb_env *env, const struct hfb_io_config *config, struct hfb_io **ret_io,
	      struct hfb_err *err)
{
	struct sim_disk *d = sim_disk_of(env);
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

void
sim_io_destroy(struct hfb_io *base)
{
	struct sim_io *io = (struct sim_io *)base, **link;
	struct sim_disk *d = sim_disk_of(base->env);

	pthread_mutex_lock(&d->lock);
	for (link = &d->ios; *link != io; link = &(*link)->next)
		;
	*link = io->next;
	pthread_mutex_unlock(&d->lock);
	free(io->prepared);
	free(io->flights);
	free(io);
}

int
sim_io_enable(struct hfb_io *io)
{
	return 0;
}

int
sim_io_file(struct hfb_io *io, uint32_t slot, int fd)
{
	return slot < io->files_max ? 0 : -ENOSPC;
}

int
sim_io_buffer(struct hfb_io *io, uint32_t slot, void *memory, size_t size)
{
	return slot < io->buffers_max ? 0 : -ENOSPC;
}

bool
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
				sim_breach(d, "two writes of one block in flight together");
		}
}

int
sim_io_submit(struct hfb_io *base)
{
	struct sim_io *io = (struct sim_io *)base;
	struct sim_disk *d = sim_disk_of(base->env);

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
		sim_inode_of(d, f->op.fd, &f->inode);
		switch (f->op.kind) {
		case HFB_IO_WRITE:
			sim_check_direct(d, f->op.fd, f->op.buffer, f->op.bytes, f->op.offset);
			check_overlap(d, f);
			f->write = sim_write_new(d, f->inode, f->op.offset, f->op.buffer,
						 f->op.bytes, d->files[f->op.fd].direct);
			f->result = (int32_t)f->op.bytes;
			break;
		case HFB_IO_READ:
			sim_check_direct(d, f->op.fd, f->op.buffer, f->op.bytes, f->op.offset);
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

void
sim_flight_write(struct sim_disk *d, struct flight *f)
{
	struct inode *n = &d->inodes[f->inode];
	struct write *w = f->write;

	/* memory may have changed since: what was appended to the same block */
	if (w->first == NULL ? !sim_all_zero(f->op.buffer, w->bytes)
			     : memcmp(w->first, f->op.buffer, w->bytes) != 0) {
		w->second = malloc(w->bytes);
		hfb_assert(w->second != NULL);
		memcpy(w->second, f->op.buffer, w->bytes);
		for (uint64_t o = 0; o < w->bytes; o += SECTOR) {
			uint64_t step = w->bytes - o < SECTOR ? w->bytes - o : SECTOR;

			if (sim_drawn(&d->seed, 128))
				continue;
			if (w->first != NULL)
				memcpy(w->second + o, w->first + o, step);
			else
				memset(w->second + o, 0, step);
		}
	}
	sim_put_bytes(&n->data, &n->size, &n->room, w->offset,
		      w->second != NULL ? w->second : w->first, w->bytes);
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
		sim_flight_write(d, f);
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
		sim_sync_writes(d, f->inode, f->began, false);
		break;
	case HFB_IO_FLUSH:
		d->counts.flushes++;
		sim_moment_note(d, "flush", f->began);
		for (uint32_t i = 0; i < d->inodes_count; i++)
			sim_sync_writes(d, i, f->began, true);
		break;
	}
}

uint32_t
sim_io_reap(struct hfb_io *base, struct hfb_io_done *done, uint32_t max)
{
	struct sim_io *io = (struct sim_io *)base;
	struct sim_disk *d = sim_disk_of(base->env);
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
