/* SPDX-License-Identifier: Apache-2.0 */
/*
 * checkpoint.c - what scanning up to a position would find out, saved.
 *
 * File:
 *
 *	| struct file_header | epochs | dedup | index | corrupt |
 *
 * One crc over all of it (its own field taken as zero), so that any flipped bit
 * refuses the file; recovery then scans from the first segment.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bug.h"
#include "checkpoint.h"
#include "crc32c.h"
#include "env.h"
#include "file.h"

struct file_header {
	uint64_t magic;	       /* HFB_CHECKPOINT_MAGIC */
	uint32_t version;      /* HFB_FORMAT_VERSION */
	uint32_t incompatible; /* feature bits; 0 today */
	struct hfb_uuid topic;
	uint32_t partition;
	uint32_t leader_epoch;
	uint64_t position, offset;
	uint64_t start_position, start_offset;
	uint64_t last_timestamp_ns, first_timestamp_ns;
	uint64_t segment_base, segment_base_offset;
	uint32_t epochs_count, dedup_count, index_count, corrupt_count;
	uint32_t ended;
	uint32_t crc;
};
_Static_assert(sizeof(struct file_header) == 128, "layout of the checkpoint file");
_Static_assert(sizeof(struct hfb_epoch_entry) == 24, "layout of the checkpoint file");
_Static_assert(sizeof(struct hfb_dedup_entry) == 48, "layout of the checkpoint file");
_Static_assert(sizeof(struct hfb_index_entry) == 24, "layout of the checkpoint file");
_Static_assert(sizeof(struct hfb_corrupt_range) == 32, "layout of the checkpoint file");

/* No real one comes near: 16 million producers. */
#define CHECKPOINT_BYTES_MAX (1024u * HFB_MIB)

static uint64_t
bytes_for(uint32_t epochs, uint32_t dedup, uint32_t index, uint32_t corrupt)
{
	return sizeof(struct file_header) + (uint64_t)epochs * sizeof(struct hfb_epoch_entry) +
	       (uint64_t)dedup * sizeof(struct hfb_dedup_entry) +
	       (uint64_t)index * sizeof(struct hfb_index_entry) +
	       (uint64_t)corrupt * sizeof(struct hfb_corrupt_range);
}

size_t
hfb_checkpoint_bytes(const struct hfb_checkpoint *c)
{
	return bytes_for(c->epochs_count, c->dedup_count, c->index_count, c->corrupt_count);
}

static uint8_t *
put(uint8_t *to, const void *from, size_t bytes)
{
	if (bytes > 0)
		memcpy(to, from, bytes);
	return to + bytes;
}

void
hfb_checkpoint_encode(const struct hfb_checkpoint *c, void *to)
{
	struct file_header h;
	uint8_t *at = (uint8_t *)to + sizeof(h);

	memset(&h, 0, sizeof(h));
	h.magic = HFB_CHECKPOINT_MAGIC;
	h.version = HFB_FORMAT_VERSION;
	h.topic = c->topic;
	h.partition = c->partition;
	h.leader_epoch = c->leader_epoch;
	h.position = c->position;
	h.offset = c->offset;
	h.start_position = c->start_position;
	h.start_offset = c->start_offset;
	h.last_timestamp_ns = c->last_timestamp_ns;
	h.first_timestamp_ns = c->first_timestamp_ns;
	h.segment_base = c->segment_base;
	h.segment_base_offset = c->segment_base_offset;
	h.ended = c->ended;
	h.epochs_count = c->epochs_count;
	h.dedup_count = c->dedup_count;
	h.index_count = c->index_count;
	h.corrupt_count = c->corrupt_count;
	at = put(at, c->epochs, c->epochs_count * sizeof(*c->epochs));
	at = put(at, c->dedup, c->dedup_count * sizeof(*c->dedup));
	at = put(at, c->index, c->index_count * sizeof(*c->index));
	at = put(at, c->corrupt, c->corrupt_count * sizeof(*c->corrupt));
	memcpy(to, &h, sizeof(h));
	h.crc = hfb_crc32c(0, to, hfb_checkpoint_bytes(c));
	memcpy(to, &h, sizeof(h));
	hfb_assert((size_t)(at - (uint8_t *)to) == hfb_checkpoint_bytes(c));
}

int
hfb_checkpoint_decode(const void *bytes, size_t size, struct hfb_checkpoint *ret,
		      struct hfb_err *err)
{
	const uint8_t *at = (const uint8_t *)bytes + sizeof(struct file_header);
	struct hfb_checkpoint c;
	struct file_header h;
	uint32_t crc;

	if (size < sizeof(h))
		return hfb_err_set(err, -EBADMSG, "only %zu bytes long", size);
	memcpy(&h, bytes, sizeof(h));
	if (h.magic != HFB_CHECKPOINT_MAGIC)
		return hfb_err_set(err, -EBADMSG, "wrong magic %016" PRIx64, h.magic);
	if (h.version != HFB_FORMAT_VERSION || h.incompatible != 0)
		return hfb_err_set(err, -EBADMSG, "version %u, features %x: not known here",
				   h.version, h.incompatible);
	if (size != bytes_for(h.epochs_count, h.dedup_count, h.index_count, h.corrupt_count))
		return hfb_err_set(err, -EBADMSG, "%zu bytes do not fit its counts", size);
	crc = h.crc;
	h.crc = 0;
	if (hfb_crc32c(hfb_crc32c(0, &h, sizeof(h)), at, size - sizeof(h)) != crc)
		return hfb_err_set(err, -EBADMSG, "checksum wrong");
	if (h.start_position > h.position || h.start_offset > h.offset ||
	    h.start_position % HFB_BATCH_ALIGN != 0 || h.segment_base > h.position ||
	    h.position % HFB_BATCH_ALIGN != 0 || h.segment_base % HFB_SEGMENT_HEADER_BYTES != 0 ||
	    h.segment_base_offset > h.offset)
		return hfb_err_set(err, -EBADMSG, "its positions contradict each other");

	memset(&c, 0, sizeof(c));
	c.topic = h.topic;
	c.partition = h.partition;
	c.leader_epoch = h.leader_epoch;
	c.position = h.position;
	c.offset = h.offset;
	c.start_position = h.start_position;
	c.start_offset = h.start_offset;
	c.last_timestamp_ns = h.last_timestamp_ns;
	c.first_timestamp_ns = h.first_timestamp_ns;
	c.segment_base = h.segment_base;
	c.segment_base_offset = h.segment_base_offset;
	c.ended = h.ended;
	c.epochs_count = h.epochs_count;
	c.dedup_count = h.dedup_count;
	c.index_count = h.index_count;
	c.corrupt_count = h.corrupt_count;
	c.epochs = (const void *)at;
	at += c.epochs_count * sizeof(*c.epochs);
	c.dedup = (const void *)at;
	at += c.dedup_count * sizeof(*c.dedup);
	c.index = (const void *)at;
	at += c.index_count * sizeof(*c.index);
	c.corrupt = (const void *)at;
	*ret = c;
	return 0;
}

typedef int (*file_put)(struct hfb_env *env, const char *path, const void *bytes, size_t size,
			struct hfb_err *err);

static int
checkpoint_put(struct hfb_env *env, const char *folder, const struct hfb_checkpoint *c,
	       file_put put, struct hfb_err *err)
{
	size_t size = hfb_checkpoint_bytes(c);
	char path[4096];
	void *bytes;
	int r;

	if ((size_t)snprintf(path, sizeof(path), "%s/" HFB_CHECKPOINT_NAME, folder) >= sizeof(path))
		return hfb_err_set(err, -ENAMETOOLONG, "%s: path too long", folder);
	bytes = malloc(size);
	if (bytes == NULL)
		return hfb_err_set(err, -ENOMEM, "%s: no memory for %zu bytes", path, size);
	hfb_checkpoint_encode(c, bytes);
	r = put(env, path, bytes, size, err);
	free(bytes);
	return r;
}

int
hfb_checkpoint_save(struct hfb_env *env, const char *folder, const struct hfb_checkpoint *c,
		    struct hfb_err *err)
{
	int r = checkpoint_put(env, folder, c, hfb_file_replace, err);

	return r < 0 ? r : hfb_folder_sync(env, folder, err);
}

int
hfb_checkpoint_stage(struct hfb_env *env, const char *folder, const struct hfb_checkpoint *c,
		     struct hfb_err *err)
{
	return checkpoint_put(env, folder, c, hfb_file_stage, err);
}

int
hfb_checkpoint_name(struct hfb_env *env, const char *folder)
{
	struct hfb_err err;
	char path[4096];

	if ((size_t)snprintf(path, sizeof(path), "%s/" HFB_CHECKPOINT_NAME, folder) >= sizeof(path))
		return -ENAMETOOLONG;
	return hfb_file_name(env, path, &err);
}

int
hfb_checkpoint_load(struct hfb_env *env, const char *folder, const struct hfb_uuid *topic,
		    uint32_t partition, struct hfb_checkpoint *ret, void **ret_memory,
		    struct hfb_err *err)
{
	struct hfb_checkpoint c;
	char path[4096];
	size_t size;
	void *bytes;
	int r;

	if ((size_t)snprintf(path, sizeof(path), "%s/" HFB_CHECKPOINT_NAME, folder) >= sizeof(path))
		return hfb_err_set(err, -ENAMETOOLONG, "%s: path too long", folder);
	r = hfb_file_load(env, path, CHECKPOINT_BYTES_MAX, &bytes, &size, err);
	if (r < 0)
		return r;
	r = hfb_checkpoint_decode(bytes, size, &c, err);
	if (r == 0 && (memcmp(&c.topic, topic, sizeof(*topic)) != 0 || c.partition != partition))
		r = hfb_err_set(err, -EBADMSG, "belongs to another partition (%u)", c.partition);
	if (r < 0) {
		hfb_err_prefix(err, "%s", path);
		free(bytes);
		return r;
	}
	*ret = c;
	*ret_memory = bytes;
	return 0;
}
