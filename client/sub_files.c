/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sub_files.c - a local subscriber's reads from segment files: opened by hfbusd, read by us,
 * old data by large reads ahead.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sub_local.h"

/* Less is not worth reading ahead. */
#define AHEAD_FROM_BYTES (2u * HFB_AHEAD_CHUNK_BYTES)

void
hfb_local_file_close(struct hfb_local_source *l)
{
	if (l->ahead_on)
		hfb_ahead_stop(l->ahead);
	l->ahead_on = false;
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
	l->file_base = l->file_end = 0;
	free(l->extents);
	l->extents = NULL;
}

/*
 * What the file is it says itself: it may have been replaced by its compacted form since
 * hfbusd looked. 0, or why it cannot be read.
 */
static int
file_kind(struct hfb_local_source *l, struct hfb_err *err)
{
	struct {
		struct hfb_segment_header h;
		uint8_t rest[HFB_COMPACTED_AT + sizeof(struct hfb_compacted_header) -
			     sizeof(struct hfb_segment_header)];
	} block;
	struct hfb_compacted_header head;
	ssize_t n = pread(l->fd, &block, sizeof(block), 0);
	size_t size;

	/* A damaged header is no hindrance: what is behind it proves itself, or is damage. */
	if (n < (ssize_t)sizeof(block) || block.h.magic != HFB_SEGMENT_MAGIC ||
	    block.h.base_position != l->file_base || block.h.kind != HFB_SEGMENT_COMPACTED ||
	    hfb_compacted_head(&block, sizeof(block), &block.h, &head) < 0)
		return 0;
	size = (head.extents_count + 1) * sizeof(l->extents->entries[0]);
	l->extents = malloc(sizeof(*l->extents) + size);
	if (l->extents == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory for the extents of %s", l->path);
	l->extents->count = head.extents_count;
	for (size_t done = 0; done < size; done += (size_t)n) {
		n = pread(l->fd, (uint8_t *)l->extents->entries + done, size - done,
			  (off_t)(HFB_SEGMENT_HEADER_BYTES + head.data_bytes + done));
		if (n <= 0)
			break;
	}
	if (n <= 0 || !hfb_extents_check(&block.h, &head, l->extents->entries)) {
		free(l->extents);
		l->extents = NULL;
		return 0;
	}
	l->file_end = l->file_base + block.h.capacity_bytes;
	return 0;
}

void
hfb_local_ahead_free(struct hfb_local_source *l)
{
	hfb_ahead_destroy(l->ahead);
	l->ahead = NULL;
	l->ahead_on = false;
}

/* 0, -ENODATA below start, -ENOTCONN, or why it cannot be had. */
int
hfb_local_file_open(struct hfb_sub *sub, uint64_t position, struct hfb_err *err)
{
	struct hfb_local_source *l = sub->local;
	struct hfb_ipc_read ask = { .handle = sub->handle, .position = position };
	struct hfb_ipc_segment answer;
	size_t size = sizeof(answer);
	uint32_t n = 0;
	int fd, r;

	hfb_local_file_close(l);
	r = hfb_connection_ask(sub->bus, HFB_IPC_SEGMENT_GET, &ask, sizeof(ask), &answer, &size,
			       &fd, 1, &n, err);
	if (r < 0)
		return r;
	if (size < sizeof(answer) || n != 1) {
		if (n == 1)
			close(fd);
		return hfb_err_set(err, -EPROTO,
				   "hfbusd's answer about a segment is not understood");
	}
	l->fd = fd;
	l->file_base = answer.base_position;
	l->file_end = answer.base_position + answer.capacity_bytes;
	if (answer.end_position < l->file_end)
		l->file_end = answer.end_position;
	answer.path[sizeof(answer.path) - 1] = '\0';
	memcpy(l->path, answer.path, sizeof(l->path));
	return file_kind(l, err);
}

/*
 * Read up to @size bytes at @position, which must be filed that far.
 * Returns how many (a segment's end may cut them), -ESPIPE (compaction left nothing
 * here, ->hole says where it goes on), or an error as above.
 */
int64_t
hfb_local_file_read(struct hfb_sub *sub, uint64_t position, uint8_t *to, uint64_t size,
		    struct hfb_err *err)
{
	struct hfb_local_source *l = sub->local;
	uint64_t done = 0, from;
	int r;

	if (l->fd < 0 || position < l->file_base || position >= l->file_end) {
		r = hfb_local_file_open(sub, position, err);
		if (r < 0)
			return r;
		if (position < l->file_base || position >= l->file_end)
			return -ENODATA;
	}
	if (size > l->file_end - position)
		size = l->file_end - position;
	from = HFB_SEGMENT_HEADER_BYTES + (position - l->file_base);
	if (l->extents != NULL) {
		if (!hfb_extents_find(l->extents->entries, l->extents->count, position, &l->hole))
			return -ESPIPE;
		from = l->hole.at;
		if (size > l->hole.bytes)
			size = l->hole.bytes;
	}
	while (done < size) {
		ssize_t n = pread(l->fd, to + done, size - done, (off_t)(from + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return hfb_err_set(err, -EIO, "cannot read %s at position %llu: %s",
					   l->path, (unsigned long long)(position + done),
					   strerror(errno));
		if (n == 0)
			break;
		done += (uint64_t)n;
	}
	/* a file cut short: zeros are no batch, so this is found to be damage */
	if (done < size)
		memset(to + done, 0, size - done);
	return (int64_t)size;
}

/*
 * Old data by large reads ahead of us. Up to @limit, at least @need bytes.
 * Returns how many with sub->bytes set, 0: on their way, -ENODATA: not in this way.
 */
int64_t
hfb_local_ahead_read(struct hfb_sub *sub, uint64_t limit, uint64_t need, struct hfb_err *err)
{
	struct hfb_local_source *l = sub->local;
	int64_t got;

	if (l->ahead_refused || (!l->ahead_on && limit - sub->position < AHEAD_FROM_BYTES))
		return -ENODATA;
	if ((l->fd < 0 || sub->position < l->file_base || sub->position >= l->file_end) &&
	    hfb_local_file_open(sub, sub->position, err) < 0)
		return -ENODATA; /* asked again and told by hfb_local_file_read() */
	if (l->extents != NULL)
		return -ENODATA; /* positions have holes in a compacted one */
	if (limit > l->file_end)
		limit = l->file_end;
	if (limit <= sub->position)
		return -ENODATA;
	if (!l->ahead_on) {
		/* refused: no memory, or a file system without O_DIRECT */
		if ((l->ahead == NULL && hfb_ahead_create(&l->ahead) < 0) ||
		    hfb_ahead_start(l->ahead, l->fd, l->file_base, HFB_SEGMENT_HEADER_BYTES,
				    l->file_end, sub->position) < 0)
			l->ahead_refused = true;
		if (l->ahead_refused)
			return -ENODATA;
		l->ahead_on = true;
	}
	if (hfb_ahead_reach(l->ahead, sub->position, limit) < need)
		return -ENODATA;
	got = hfb_ahead_look(l->ahead, sub->position, limit, &sub->bytes);
	if (got < 0) {
		hfb_ahead_stop(l->ahead);
		l->ahead_on = false;
		return got;
	}
	if ((uint64_t)got < need)
		return 0;
	/* not all that is there: a chunk that is used up makes room for the next read at once */
	if (got > HFB_AHEAD_CHUNK_BYTES)
		got = need > HFB_AHEAD_CHUNK_BYTES ? (int64_t)need : HFB_AHEAD_CHUNK_BYTES;
	sub->bytes_left = (uint64_t)got;
	return got;
}
