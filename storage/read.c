/* SPDX-License-Identifier: Apache-2.0 */
/*
 * read.c - asynchronous reads from segment files, on the owner core.
 *
 *	start -> file open? -> submitted -> done
 *		   no: parked until the helper has opened it
 *
 * A read keeps its segment from being closed or recycled by its `reads` count,
 * raised while inside the table (log_table.h).
 */
#include <errno.h>
#include <string.h>

#include "compacted.h"
#include "log_private.h"
#include "writer_private.h"

static void
read_finish(struct hfb_read_op *op, int error)
{
	struct hfb_read *r = op->read;

	r->error = error;
	r->busy = false;
	/* -EAGAIN: the file was replaced by its compacted form; the reader asks again */
	if (error < 0 && error != -EAGAIN) {
		struct hfb_disk_errors *errors = &op->log->errors;

		__atomic_store_n(&errors->read_error, error, __ATOMIC_RELAXED);
		__atomic_store_n(&errors->read_position, r->position, __ATOMIC_RELAXED);
		__atomic_store_n(&errors->reads, errors->reads + 1, __ATOMIC_RELEASE);
	}
	/* pairs with the load in the helper: we are through with the file */
	__atomic_fetch_sub(&op->segment->reads, 1, __ATOMIC_RELEASE);
	op->log->reads_count--;
	op->read = NULL;
}

/*
 * From position to file. In a compacted segment that is by its extents; false: the
 * position is in a hole, and the read is done.
 */
static bool
read_place(struct hfb_read_op *op)
{
	const struct hfb_segment *segment = op->segment;
	struct hfb_read *r = op->read;
	uint64_t file = HFB_SEGMENT_HEADER_BYTES + (r->position - segment->base_position);
	uint64_t valid = op->limit - r->position;

	if (segment->kind == HFB_SEGMENT_COMPACTED) {
		/* there since the file is open, and stays while the read counts */
		const struct hfb_extents *extents =
			__atomic_load_n(&segment->extents, __ATOMIC_ACQUIRE);
		struct hfb_extent_place place;

		if (!hfb_extents_find(extents->entries, extents->count, r->position, &place)) {
			r->hole = true;
			r->next_position = place.position;
			r->next_offset = place.offset;
			read_finish(op, 0);
			return false;
		}
		file = place.at;
		if (valid > place.bytes)
			valid = place.bytes;
	}
	op->at = hfb_block_down(file);
	op->skip = (uint32_t)(file - op->at);
	if (valid > r->buffer_bytes)
		valid = r->buffer_bytes;
	op->valid = (uint32_t)valid;
	return true;
}

/* False: the queue is full. */
static bool
read_submit(struct hfb_writer *writer, struct hfb_read_op *op, int fd)
{
	struct hfb_io_op io = {
		.kind = HFB_IO_READ,
		.fd = fd,
		.file_slot = -1, /* a slot may change hands before this is submitted */
		.buffer_slot = -1,
		.buffer = op->read->buffer,
	};

	if (!read_place(op))
		return true;
	io.user_data = (uintptr_t)op | HFB_OP_READ;
	io.offset = op->at;
	io.bytes = (op->skip + op->valid + HFB_BLOCK_BYTES - 1) & ~(HFB_BLOCK_BYTES - 1);
	if (io.bytes > (op->read->buffer_bytes & ~(HFB_BLOCK_BYTES - 1)))
		io.bytes = op->read->buffer_bytes & ~(HFB_BLOCK_BYTES - 1);
	if (!hfb_env_io_prepare(writer->io, &io))
		return false;
	writer->in_flight++;
	writer->stats.reads++;
	return true;
}

static struct hfb_read_op *
read_op_free(struct hfb_writer *writer)
{
	for (uint32_t i = 0; i < HFB_READS_MAX; i++)
		if (writer->reads[i].read == NULL)
			return &writer->reads[i];
	return NULL;
}

/* Known to be corrupt here? Sets where it ends; else @limit moves down to the next. */
static bool
corrupt_at(const struct hfb_log *log, uint64_t position, uint64_t *limit, uint64_t *ret_end)
{
	for (uint32_t i = 0; i < log->corrupt_count; i++) {
		const struct hfb_corrupt_range *c = &log->corrupt[i];

		if (position >= c->position && position < c->end) {
			*ret_end = c->end;
			return true;
		}
		if (c->position > position && c->position < *limit)
			*limit = c->position;
	}
	return false;
}

int
hfb_log_read_start(struct hfb_log *log, uint64_t position, struct hfb_read *r)
{
	struct hfb_writer *writer = log->writer;
	uint64_t limit = log->filed < log->committed ? log->filed : log->committed;
	struct hfb_segment *segment;
	struct hfb_read_op *op;
	int fd;

	if (position < log->start)
		return -ENODATA;
	if (writer->dead != 0) {
		r->error = writer->dead;
		r->busy = false;
		return 0;
	}
	r->log = log;
	r->position = position;
	r->data = r->buffer;
	r->data_bytes = 0;
	r->error = 0;
	r->hole = false;
	r->next_position = position;
	r->busy = false;
	if (corrupt_at(log, position, &limit, &r->next_position)) {
		r->error = -EBADMSG;
		return 0;
	}
	if (position >= limit || log->detach > HFB_DETACH_DRAIN)
		return 0;
	op = read_op_free(writer);
	if (op == NULL)
		return -EBUSY;
	segment = hfb_table_at(hfb_table_enter(&log->table), position);
	if (segment == NULL) {
		hfb_table_leave(&log->table);
		return -ENODATA;
	}
	/* seq_cst: with the helper's exchange of fd, either it sees us or we see -1 */
	__atomic_fetch_add(&segment->reads, 1, __ATOMIC_SEQ_CST);
	fd = __atomic_load_n(&segment->fd, __ATOMIC_SEQ_CST);
	hfb_table_leave(&log->table);

	if (limit > segment->base_position + segment->capacity_bytes)
		limit = segment->base_position + segment->capacity_bytes;
	op->log = log;
	op->segment = segment;
	op->limit = limit;
	op->read = r;
	op->parked = fd < 0;
	r->busy = true;
	log->reads_count++;
	if (op->parked) {
		writer->parked_count++;
		__atomic_store_n(&segment->open_wanted, 1, __ATOMIC_RELEASE);
		hfb_log_ask(log, HFB_ASK_OPEN);
		return 0;
	}
	if (!read_submit(writer, op, fd)) {
		read_finish(op, 0);
		return -EBUSY;
	}
	return 0;
}

void
hfb_read_unpark(struct hfb_writer *writer, struct hfb_log *log)
{
	for (uint32_t i = 0; i < HFB_READS_MAX && writer->parked_count > 0; i++) {
		struct hfb_read_op *op = &writer->reads[i];
		int32_t error;
		int fd;

		if (op->read == NULL || !op->parked || (log != NULL && op->log != log))
			continue;
		fd = __atomic_load_n(&op->segment->fd, __ATOMIC_SEQ_CST);
		error = __atomic_load_n(&op->segment->open_error, __ATOMIC_ACQUIRE);
		if (writer->dead != 0) {
			error = writer->dead;
			fd = -1;
		}
		if (fd < 0 && error == 0)
			continue;
		op->parked = false;
		if (fd >= 0 && !read_submit(writer, op, fd)) {
			op->parked = true;
			writer->unpark_again = true; /* the queue is full: next turn */
			continue;
		}
		writer->parked_count--;
		if (fd < 0)
			read_finish(op, error);
	}
}

void
hfb_read_done(struct hfb_writer *writer, struct hfb_read_op *op, int32_t result)
{
	struct hfb_read *r = op->read;
	uint32_t got;

	writer->in_flight--;
	if (result < 0) {
		writer->stats.errors++;
		read_finish(op, result);
		return;
	}
	if ((uint32_t)result <= op->skip) {
		/* The file is shorter than its segment. */
		read_finish(op, -EIO);
		return;
	}
	got = (uint32_t)result - op->skip;
	if (got > op->valid)
		got = op->valid;
	r->data = r->buffer + op->skip;
	r->data_bytes = got & ~(HFB_BATCH_ALIGN - 1);
	read_finish(op, 0);
}
