/* SPDX-License-Identifier: Apache-2.0 */
#include "segment.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hfbus/limits.h>

#include "bug.h"
#include "env.h"
#include "scan.h"

int
hfb_segment_path(char *to, size_t size, const char *folder, uint64_t base_position,
		 const char *suffix)
{
	int n = snprintf(to, size, "%s/%020" PRIu64 "%s", folder, base_position, suffix);

	return n > 0 && (size_t)n < size ? 0 : -ENAMETOOLONG;
}

int
hfb_segment_folder_make(const struct hfb_segment_place *place, struct hfb_err *err)
{
	size_t from = strlen(place->data_dir), size = strlen(place->folder);
	char path[HFB_PATH_MAX];
	int r;

	if (size >= sizeof(path) || strncmp(place->folder, place->data_dir, from) != 0)
		return hfb_err_set(err, -EINVAL, "%s: not below the data folder", place->folder);
	/* A name that a killed run left behind may not be durable yet, so each is
	 * synced, found or made. */
	for (size_t at = from + 1; at <= size; at++) {
		size_t parent;

		if (place->folder[at] != '/' && place->folder[at] != '\0')
			continue;
		memcpy(path, place->folder, at);
		path[at] = '\0';
		r = hfb_env_mkdir(place->env, path, 0755);
		if (r < 0 && r != -EEXIST)
			return hfb_err_set(err, r, "%s: %s", path, strerror(-r));
		parent = (size_t)(strrchr(path, '/') - path);
		path[parent > 0 ? parent : 1] = '\0';
		if (place->no_sync)
			continue;
#ifndef HFB_BUG_NO_DIRECTORY_SYNC
		r = hfb_env_sync_dir(place->env, path);
		if (r < 0)
			return hfb_err_set(err, r, "%s: cannot sync: %s", path, strerror(-r));
#endif
	}
	return 0;
}

static int
open_direct(struct hfb_env *env, const char *path, int flags, bool *ret_direct)
{
	int fd = hfb_env_open(env, path, flags | O_DIRECT, 0644);

	*ret_direct = fd >= 0;
	/* tmpfs and some others know no O_DIRECT: slower, and not less safe, since
	 * such files are synced one by one */
	if (fd == -EINVAL || fd == -EOPNOTSUPP)
		fd = hfb_env_open(env, path, flags, 0644);
	return fd;
}

int
hfb_segment_open(struct hfb_env *env, const char *folder, uint64_t base_position, bool *ret_direct,
		 struct hfb_err *err)
{
	char path[HFB_PATH_MAX];
	int fd = hfb_segment_path(path, sizeof(path), folder, base_position, ".seg");

	if (fd == 0)
		fd = open_direct(env, path, O_RDWR, ret_direct);
	if (fd < 0)
		return hfb_err_set(err, fd, "%s: %s", path, strerror(-fd));
	return fd;
}

static void
header_fill(const struct hfb_segment_place *place, uint64_t base_position, uint64_t capacity_bytes,
	    uint32_t generation)
{
	struct hfb_segment_header h = {
		.topic = place->topic,
		.partition = place->partition,
		.kind = HFB_SEGMENT_LOG,
		.base_position = base_position,
		.capacity_bytes = capacity_bytes,
		.created_ns = hfb_env_now_ns(place->env),
		.generation = generation,
	};

	hfb_segment_header_seal(&h);
	memset(place->block, 0, HFB_BLOCK_BYTES);
	memcpy(place->block, &h, sizeof(h));
}

/* Header on disk, then the name, then the folder: what has a name is whole. */
static int
publish(const struct hfb_segment_place *place, int fd, const char *temporary, const char *path)
{
	int r = hfb_env_pwrite(place->env, fd, place->block, HFB_BLOCK_BYTES, 0);

	if (place->no_sync)
		return r;
	if (r == 0)
		r = hfb_env_fdatasync(place->env, fd);
	if (r == 0)
		r = hfb_env_rename(place->env, temporary, path);
#ifndef HFB_BUG_NO_DIRECTORY_SYNC
	if (r == 0)
		r = hfb_env_sync_dir(place->env, place->folder);
#endif
	return r;
}

struct hfb_segment *
hfb_segment_known(uint64_t base_position, uint64_t capacity_bytes, uint32_t kind,
		  uint32_t generation)
{
	struct hfb_segment *segment = calloc(1, sizeof(*segment));

	if (segment == NULL)
		return NULL;
	segment->base_position = base_position;
	segment->capacity_bytes = capacity_bytes;
	segment->kind = kind;
	segment->generation = generation;
	segment->fd = -1;
	segment->file_slot = -1;
	return segment;
}

int
hfb_segment_index_make(struct hfb_segment *segment)
{
	void *memory = malloc(hfb_index_bytes(segment->capacity_bytes));

	if (memory == NULL)
		return -ENOMEM;
	segment->index = hfb_index_init(memory, segment->base_position, segment->capacity_bytes);
	return 0;
}

static int
zeros_write(const struct hfb_segment_place *place, int fd, uint64_t capacity_bytes)
{
	uint64_t size = HFB_SEGMENT_HEADER_BYTES + capacity_bytes;
	bool gently = place->gently != NULL && place->gently(place->arg, 0);
	int r = hfb_env_allocate(place->env, fd, 0, size);

	if (r < 0 && r != -EOPNOTSUPP)
		return r;
	/* Written, not merely allocated: turning unwritten blocks into written ones
	 * at each write doubles the latency of a synced write. */
	for (uint64_t at = 0, n; at < size; at += n) {
		uint64_t from_ns = hfb_env_now_ns(place->env);

		n = gently ? HFB_GENTLE_BYTES : HFB_ZEROS_BYTES;
		if (n > size - at)
			n = size - at;
		r = hfb_env_pwrite(place->env, fd, place->zeros, n, at);
		if (r < 0)
			return r;
		if (gently)
			gently = place->gently(place->arg, hfb_env_now_ns(place->env) - from_ns);
	}
	return 0;
}

static int
segment_make(const struct hfb_segment_place *place, const char *old_path, uint64_t base_position,
	     uint64_t capacity_bytes, uint32_t generation, struct hfb_segment **ret_segment,
	     struct hfb_err *err)
{
	char path[HFB_PATH_MAX], temporary[HFB_PATH_MAX];
	struct hfb_segment *segment;
	int r;

	hfb_assert(base_position % HFB_BLOCK_BYTES == 0);
	hfb_assert(capacity_bytes % HFB_BLOCK_BYTES == 0);
	r = hfb_segment_path(path, sizeof(path), place->folder, base_position, ".seg");
	if (r == 0)
		r = hfb_segment_path(temporary, sizeof(temporary), place->folder, base_position,
				     ".seg.tmp");
	if (r < 0)
		return hfb_err_set(err, r, "%s: path too long", place->folder);
	segment = hfb_segment_known(base_position, capacity_bytes, HFB_SEGMENT_LOG, generation);
	if (segment == NULL || hfb_segment_index_make(segment) < 0) {
		free(segment);
		return hfb_err_set(err, -ENOMEM, "%s: no memory", path);
	}
	if (old_path != NULL)
		r = hfb_env_rename(place->env, old_path, temporary);
	if (r == 0) {
		segment->fd = open_direct(place->env, temporary,
					  O_RDWR | (old_path == NULL ? O_CREAT | O_TRUNC : 0),
					  &segment->direct);
		r = segment->fd < 0 ? segment->fd : 0;
	}
	if (r == 0 && old_path == NULL)
		r = zeros_write(place, segment->fd, capacity_bytes);
	header_fill(place, base_position, capacity_bytes, generation);
	if (r == 0)
		r = publish(place, segment->fd, temporary, path);
	if (r < 0) {
		hfb_segment_free(place->env, segment);
		/* the base is a new one, so a file of this name can only be ours */
		hfb_env_unlink(place->env, temporary);
		hfb_env_unlink(place->env, path);
		return hfb_err_set(err, r, "%s: %s%s", path, strerror(-r),
				   r == -ENOSPC || r == -EDQUOT ? ", see retention and segment size"
								: "");
	}
	*ret_segment = segment;
	return 0;
}

int
hfb_segment_create(const struct hfb_segment_place *place, uint64_t base_position,
		   uint64_t capacity_bytes, struct hfb_segment **ret_segment, struct hfb_err *err)
{
	return segment_make(place, NULL, base_position, capacity_bytes, 0, ret_segment, err);
}

int
hfb_segment_recycle(const struct hfb_segment_place *place, const char *old_path,
		    uint32_t old_generation, uint64_t base_position, uint64_t capacity_bytes,
		    struct hfb_segment **ret_segment, struct hfb_err *err)
{
	return segment_make(place, old_path, base_position, capacity_bytes, old_generation + 1,
			    ret_segment, err);
}

int
hfb_segment_name(struct hfb_env *env, const char *folder, const struct hfb_segment *segment)
{
	char path[HFB_PATH_MAX], temporary[HFB_PATH_MAX];

	if (hfb_segment_path(path, sizeof(path), folder, segment->base_position, ".seg") < 0 ||
	    hfb_segment_path(temporary, sizeof(temporary), folder, segment->base_position,
			     ".seg.tmp") < 0)
		return -ENAMETOOLONG;
	return hfb_env_rename(env, temporary, path);
}

void
hfb_segment_discard(struct hfb_env *env, const char *folder, const struct hfb_segment *segment)
{
	static const char *const suffixes[] = { ".seg.tmp", ".seg" };
	char path[HFB_PATH_MAX];

	for (int i = 0; i < 2; i++)
		if (hfb_segment_path(path, sizeof(path), folder, segment->base_position,
				     suffixes[i]) == 0)
			hfb_env_unlink(env, path);
}

void
hfb_segment_free(struct hfb_env *env, struct hfb_segment *segment)
{
	if (segment == NULL)
		return;
	hfb_env_close(env, segment->fd);
	free(segment->extents);
	free(segment->index);
	free(segment);
}
