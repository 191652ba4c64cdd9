/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_open.c - a log from what recovery found, and back to nothing. Main thread,
 * while the log belongs to no core.
 */
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bug.h"
#include "crc32c.h"
#include "file.h"
#include "recover.h"
#include "store_private.h"
#include "uuid.h"

static uint64_t
power_of_two_down(uint64_t x, uint64_t min, uint64_t max)
{
	uint64_t p = min;

	while (p * 2 <= x && p * 2 <= max)
		p *= 2;
	return p;
}

void
hfb_log_limits_set(struct hfb_log *log, uint64_t segment_bytes_max, uint64_t ring_bytes_max)
{
	const struct hfb_store_config *defaults = &log->store->config;

	log->ring_bytes_max = power_of_two_down(ring_bytes_max != 0 ? ring_bytes_max
								    : defaults->ring_bytes_default,
						HFB_RING_BYTES_MIN, HFB_RING_BYTES_MAX);
	log->segment_bytes_max = power_of_two_down(
		segment_bytes_max != 0 ? segment_bytes_max : defaults->segment_bytes_default,
		HFB_SEGMENT_BYTES_MIN, HFB_SEGMENT_BYTES_MAX);
}

uint64_t
hfb_log_batch_bytes_for(const struct hfb_log *log)
{
	uint64_t most = log->ring_bytes_max / 4;

	if (most > HFB_BATCH_BYTES_MAX)
		most = HFB_BATCH_BYTES_MAX;
	if (most > log->segment_bytes_max / 2)
		most = log->segment_bytes_max / 2;
	return most;
}

static int
folder_name(struct hfb_log *log, const struct hfb_log_config *config, struct hfb_err *err)
{
	char path[HFB_PATH_MAX - 64], uuid[HFB_UUID_TEXT_BYTES];
	size_t size = strlen(config->topic);

	if (size == 0 || size > HFB_TOPIC_NAME_MAX || strchr(config->topic, '/') != NULL ||
	    config->topic[0] == '.')
		return hfb_err_set(err, -EINVAL, "\"%s\" is no topic name", config->topic);
	memcpy(log->topic, config->topic, size + 1);
	hfb_uuid_format(&config->topic_uuid, uuid);
	if ((size_t)snprintf(path, sizeof(path), "%s/topics/%s/%s/%u", log->store->data_dir,
			     config->topic, uuid, config->partition) >= sizeof(path))
		return hfb_err_set(err, -ENAMETOOLONG, "%s: path too long, see --data",
				   log->store->data_dir);
	log->folder = strdup(path);
	return log->folder == NULL ? hfb_err_set(err, -ENOMEM, "no memory for a log") : 0;
}

/* Leftovers of a preparation or a checkpoint that was cut short. */
static void
temporary_remove(void *arg, const char *name, bool is_folder)
{
	struct hfb_log *log = arg;
	size_t size = strlen(name);
	char path[HFB_PATH_MAX];

	if (is_folder || size < 4 || strcmp(name + size - 4, ".tmp") != 0)
		return;
	if ((size_t)snprintf(path, sizeof(path), "%s/%s", log->folder, name) < sizeof(path))
		hfb_env_unlink(log->store->env, path);
}

static int
segment_file_open(struct hfb_log *log, struct hfb_segment *segment, struct hfb_err *err)
{
	segment->fd = hfb_segment_open(log->store->env, log->folder, segment->base_position,
				       &segment->direct, err);
	return segment->fd < 0 ? segment->fd : 0;
}

/* Keep what lies beyond the end out of the way, unless there is nothing in it. */
static void
stray_remove(struct hfb_log *log, const struct hfb_recovered_segment *s)
{
	char path[HFB_PATH_MAX], aside[HFB_PATH_MAX];

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", log->folder, s->name) >= sizeof(path) ||
	    (size_t)snprintf(aside, sizeof(aside), "%s/%s.stray", log->folder, s->name) >=
		    sizeof(aside))
		return;
	if (s->blank)
		hfb_env_unlink(log->store->env, path);
	else
		hfb_env_rename(log->store->env, path, aside);
}

static void
retired_keep(struct hfb_log *log, const struct hfb_recovered_segment *s)
{
	char path[HFB_PATH_MAX];

	if (log->retired_count < HFB_RETIRED_MAX && !s->header_bad && s->kind == HFB_SEGMENT_LOG) {
		struct hfb_retired *r = &log->retired[log->retired_count++];

		r->base_position = s->base_position;
		r->capacity_bytes = s->capacity_bytes;
		r->generation = s->generation;
	} else if (hfb_segment_path(path, sizeof(path), log->folder, s->base_position, ".seg") ==
		   0) {
		hfb_env_unlink(log->store->env, path);
	}
	if (hfb_segment_path(path, sizeof(path), log->folder, s->base_position, ".idx") == 0)
		hfb_env_unlink(log->store->env, path);
}

static struct hfb_plan *
plan_add(struct hfb_log *log, struct hfb_segment *segment)
{
	struct hfb_plan *plan = hfb_log_plan(log, log->plan_tail++);

	log->plan_made++;
	plan->base = segment->base_position;
	plan->end = segment->base_position + segment->capacity_bytes;
	plan->segment = segment;
	log->positions->segment_bytes = segment->capacity_bytes;
	return plan;
}

static int
segment_adopt(struct hfb_log *log, struct hfb_recovered *found, struct hfb_recovered_segment *s,
	      struct hfb_err *err)
{
	struct hfb_segment *segment =
		hfb_segment_known(s->base_position, s->capacity_bytes, s->kind, s->generation);
	struct hfb_plan *plan;
	int r;

	if (segment == NULL || hfb_table_add(&log->table, segment) < 0) {
		free(segment);
		return hfb_err_set(err, -ENOMEM, "%s: no memory for its segments", log->folder);
	}
	segment->base_offset = s->base_offset;
	segment->end_offset = s->end_offset;
	segment->first_timestamp_ns = s->first_timestamp_ns;
	segment->last_timestamp_ns = s->last_timestamp_ns;
	segment->data_bytes = s->data_bytes;
	log->positions->segment_bytes = s->capacity_bytes;
	if (s->state == HFB_RECOVERED_SEALED) {
		segment->begun = 1;
		segment->sealed = true;
		return 0;
	}
	r = segment_file_open(log, segment, err);
	if (r < 0)
		return r;
	if (s->state == HFB_RECOVERED_UNUSED) {
		if (hfb_segment_index_make(segment) < 0)
			return hfb_err_set(err, -ENOMEM, "%s: no memory", log->folder);
		plan_add(log, segment);
		return 0;
	}
	segment->index = found->index;
	found->index = NULL;
	segment->begun = s->has_batches;
	plan = plan_add(log, segment);
	plan->bound = segment;
	plan->begun = s->has_batches;
	log->index = segment->index;
	log->index_due = s->has_batches ? segment->index->next_position : s->base_position;
	log->plan_trigger = plan->base + (plan->end - plan->base) / 4;
	return 0;
}

static int
segments_adopt(struct hfb_log *log, struct hfb_recovered *found, struct hfb_err *err)
{
	uint64_t end = found->end_position;
	bool chain = true; /* prepared segments follow one another so far */
	int r = 0;

	for (uint32_t i = 0; i < found->segments_count && r == 0; i++) {
		struct hfb_recovered_segment *s = &found->segments[i];

		switch (s->state) {
		case HFB_RECOVERED_RETIRED:
			retired_keep(log, s);
			break;
		case HFB_RECOVERED_STRAY:
			stray_remove(log, s);
			break;
		case HFB_RECOVERED_UNUSED:
			chain = chain && !s->header_bad && s->base_position == end &&
				s->kind == HFB_SEGMENT_LOG &&
				log->plan_tail - log->plan_head < HFB_PLANS - 1;
			if (!chain) {
				stray_remove(log, s);
				break;
			}
			end = s->base_position + s->capacity_bytes;
			r = segment_adopt(log, found, s, err);
			break;
		case HFB_RECOVERED_SEALED:
		case HFB_RECOVERED_OPEN:
			r = segment_adopt(log, found, s, err);
			end = s->base_position + s->capacity_bytes;
			break;
		}
	}
	return r;
}

/* The last, partial block is written again as it fills: it must be in the ring. */
static int
tail_load(struct hfb_log *log, struct hfb_err *err)
{
	uint64_t from = hfb_block_down(log->position);
	const struct hfb_segment *segment;
	uint8_t *block;
	ssize_t n;

	if (from == log->position)
		return 0;
	hfb_assert(log->plan_head != log->plan_tail);
	segment = hfb_log_plan(log, log->plan_head)->bound;
	hfb_assert(segment != NULL && from >= segment->base_position);
	block = aligned_alloc(HFB_BLOCK_BYTES, HFB_BLOCK_BYTES);
	if (block == NULL)
		return hfb_err_set(err, -ENOMEM, "%s: no memory", log->folder);
	n = hfb_env_pread(log->store->env, segment->fd, block, HFB_BLOCK_BYTES,
			  HFB_SEGMENT_HEADER_BYTES + (from - segment->base_position));
	if (n == HFB_BLOCK_BYTES)
		memcpy(log->ring + (from & log->ring_mask), block, log->position - from);
	free(block);
	if (n != HFB_BLOCK_BYTES)
		return hfb_err_set(err, n < 0 ? (int)n : -EIO,
				   "%s: cannot read the log's last block at position %" PRIu64,
				   log->folder, from);
	return 0;
}

static int
epochs_take(struct hfb_log *log, struct hfb_recovered *found, struct hfb_err *err)
{
	if (found->leader_epoch >= log->leader_epoch)
		return hfb_err_set(err, -EINVAL,
				   "%s: holds leader epoch %u, this run's is %u; remove"
				   " the file epoch from the data folder and start again",
				   log->folder, found->leader_epoch, log->leader_epoch);
	if (found->epochs.max > 0) {
		log->epochs = found->epochs;
		memset(&found->epochs, 0, sizeof(found->epochs));
	} else {
		struct hfb_epoch_entry *entries = calloc(1, sizeof(*entries));

		if (entries == NULL)
			return hfb_err_set(err, -ENOMEM, "%s: no memory", log->folder);
		hfb_epochs_init(&log->epochs, entries, 1);
	}
	hfb_epochs_add(&log->epochs, log->leader_epoch, found->end_position, found->end_offset);
	return 0;
}

/* All that needs no file: what recovery knows goes over to the log. */
static void
recovered_take(struct hfb_log *log, struct hfb_recovered *found)
{
	log->position = log->published = log->submitted = found->end_position;
	log->written = log->synced = found->end_position;
	log->durable = log->filed = found->end_position;
	log->offset = log->durable_offset = found->end_offset;
	log->committed = found->end_position;
	log->committed_offset = found->end_offset;
	log->written_mark.position = log->submitted_mark.position = found->end_position;
	log->written_mark.offset = log->submitted_mark.offset = found->end_offset;
	log->start = log->retire_to = found->start_position;
	log->start_offset = log->retire_offset = found->start_offset;
	log->checkpoint_start = found->start_position;
	log->checkpoint_start_offset = found->start_offset;
	log->checkpoint_saved = found->checkpoint_position;
	log->checkpoint_position = found->end_position;
	log->last_timestamp_ns = found->last_timestamp_ns;
	log->recovered_epoch = found->leader_epoch;
	log->recovered_dedup = found->dedup;
	log->recovered_dedup_count = found->dedup_count;
	log->corrupt = found->corrupt;
	log->corrupt_count = found->corrupt_count;
	found->dedup = NULL;
	found->corrupt = NULL;
	for (uint32_t i = 0; i < HFB_RECOVER_NOTES_MAX && i < found->notes_count; i++) {
		log->notes[log->notes_count++] = found->notes[i];
		found->notes[i] = NULL;
	}
}

static void
mark_set(struct hfb_mark *mark, uint64_t position, uint64_t offset)
{
	__atomic_store_n(&mark->offset, offset, __ATOMIC_RELAXED);
	__atomic_store_n(&mark->position, position, __ATOMIC_RELEASE);
}

static void
positions_set(struct hfb_log *log)
{
	struct hfb_positions *p = log->positions;

	/* The ring holds nothing below its last block. */
	log->intent = hfb_block_down(log->position) + log->ring_mask + 1;
	mark_set(&p->intent, log->intent, log->offset);
	mark_set(&p->start, log->start, log->start_offset);
	mark_set(&p->received, log->position, log->offset);
	mark_set(&p->durable, log->durable, log->durable_offset);
	__atomic_store_n(&p->filed, log->filed, __ATOMIC_RELEASE);
	mark_set(&p->mirror_received, 0, 0);
	mark_set(&p->mirror_durable, 0, 0);
	mark_set(&p->committed, log->committed, log->committed_offset);
	p->leader_epoch = log->leader_epoch;
	p->ring_bytes = (uint32_t)log->ring_now->size;
	__atomic_store_n(&p->ring_generation, log->ring_now->generation, __ATOMIC_RELEASE);
	__atomic_store_n(&p->state, HFB_PARTITION_OPEN, __ATOMIC_RELEASE);
}

static int
log_fill(struct hfb_log *log, struct hfb_recovered *found, struct hfb_err *err)
{
	struct hfb_ring_config ring = { .size = HFB_RING_BYTES_MIN, .generation = 1 };
	int r;

	/* A run before may have given its rings out under a generation of its own. */
	ring.generation = log->positions->ring_generation + 1;
	r = hfb_ring_create(&ring, &log->rings, err);
	if (r < 0)
		return r;
	log->ring_now = log->rings;
	log->ring = log->ring_now->bytes;
	log->ring_mask = log->ring_now->size - 1;
	r = epochs_take(log, found, err);
	if (r < 0)
		return r;
	recovered_take(log, found);
	if (found->found) {
		hfb_env_list(log->store->env, log->folder, temporary_remove, log);
		r = segments_adopt(log, found, err);
		if (r == 0)
			r = tail_load(log, err);
	}
	if (r == 0)
		positions_set(log);
	return r;
}

int
hfb_log_open(struct hfb_store *store, const struct hfb_log_config *config, struct hfb_log **ret_log,
	     struct hfb_log_report *ret_report, struct hfb_err *err)
{
	struct hfb_recover_config recover = { .topic = config->topic_uuid,
					      .partition = config->partition };
	struct hfb_recovered found;
	struct hfb_log *log;
	int r;

	if (config->commit_stage > HFB_STAGE_DURABLE)
		return hfb_err_set(err, -EINVAL, "topic %s: commit stage %d needs a mirror",
				   config->topic, (int)config->commit_stage);
	if (config->leader_epoch == 0)
		return hfb_err_set(err, -EINVAL, "topic %s: no leader epoch", config->topic);
	log = aligned_alloc(64, (sizeof(*log) + 63) & ~(size_t)63);
	if (log == NULL)
		return hfb_err_set(err, -ENOMEM, "no memory for a log");
	memset(log, 0, sizeof(*log));
	log->store = store;
	log->positions = config->positions;
	log->user = config->user;
	log->topic_uuid = config->topic_uuid;
	log->partition = config->partition;
	log->commit_stage = config->commit_stage;
	log->leader_epoch = config->leader_epoch;
	log->retention_bytes = config->retention_bytes;
	log->retention_ns = config->retention_ns;
	log->cleanup = config->cleanup;
	log->tombstone_ns = config->tombstone_ns;
	log->seed = hfb_batch_seed(&config->topic_uuid, config->partition);
	log->positions->segment_bytes = 0;
	hfb_log_limits_set(log, config->segment_bytes_max, config->ring_bytes_max);
	log->batch_bytes_max = (uint32_t)hfb_log_batch_bytes_for(log);
	r = hfb_table_init(&log->table);
	if (r == 0)
		r = folder_name(log, config, err);
	else
		hfb_err_set(err, r, "no memory for a log");
	if (r < 0) {
		hfb_log_close(log);
		return r;
	}
	recover.folder = log->folder;
	recover.synced = &store->synced;
	r = hfb_recover(store->env, &recover, &found, err);
	if (r == 0) {
		*ret_report = found.report;
		r = log_fill(log, &found, err);
	}
	hfb_recovered_fini(&found);
	if (r < 0) {
		hfb_log_close(log);
		return r;
	}
	pthread_mutex_lock(&store->lock);
	log->next = store->logs;
	store->logs = log;
	pthread_mutex_unlock(&store->lock);
	*ret_log = log;
	return 0;
}

void
hfb_log_close(struct hfb_log *log)
{
	struct hfb_env *env;
	struct hfb_log **at;

	if (log == NULL)
		return;
	env = log->store->env;
	pthread_mutex_lock(&log->store->lock);
	for (at = &log->store->logs; *at != NULL && *at != log; at = &(*at)->next)
		;
	if (*at != NULL)
		*at = log->next;
	pthread_mutex_unlock(&log->store->lock);
	/* opened again, its files are not what they were */
	log->store->synced = false;
	for (uint32_t i = 0; log->table.current != NULL && i < log->table.current->count; i++)
		hfb_segment_free(env, log->table.current->segments[i]);
	hfb_table_fini(&log->table);
	for (uint32_t i = 0; i < log->leaving_count; i++)
		hfb_segment_free(env, log->leaving[i]);
	free(log->leaving);
	hfb_ring_destroy(log->rings);
	if (log->snapshot_memory != HFB_SNAPSHOT_NONE)
		free(log->snapshot_memory);
	free(log->snapshot_full);
	free(log->snapshot_failed);
	free(log->snapshot);
	free(log->epochs.entries);
	free(log->recovered_dedup);
	free(log->corrupt);
	for (uint32_t i = 0; i < log->notes_count; i++)
		free(log->notes[i]);
	free(log->folder);
	free(log);
}

struct removal {
	struct hfb_env *env;
	const char *folder;
	int error;
	struct hfb_err *err;
};

static void
file_remove(void *arg, const char *name, bool is_folder)
{
	struct removal *removal = arg;
	char path[HFB_PATH_MAX];
	int r = -ENAMETOOLONG;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", removal->folder, name) < sizeof(path))
		r = is_folder ? -EISDIR : hfb_env_unlink(removal->env, path);
	if (r < 0 && r != -ENOENT && removal->error == 0)
		removal->error = hfb_err_set(removal->err, r, "%s/%s: %s", removal->folder, name,
					     strerror(-r));
}

int
hfb_log_delete(struct hfb_log *log, struct hfb_err *err)
{
	struct removal removal = { .env = log->store->env, .folder = log->folder, .err = err };
	char path[HFB_PATH_MAX];
	int r = hfb_env_list(removal.env, log->folder, file_remove, &removal);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return hfb_err_set(err, r, "%s: %s", log->folder, strerror(-r));
	if (removal.error < 0)
		return removal.error;
	/* The partition's folder, then those of uuid and name as far as they are empty. */
	snprintf(path, sizeof(path), "%s", log->folder);
	for (int level = 0; level < 3; level++) {
		r = hfb_env_rmdir(removal.env, path);
		if (r < 0 && level > 0)
			break;
		if (r < 0)
			return hfb_err_set(err, r, "%s: %s", path, strerror(-r));
		*strrchr(path, '/') = '\0';
	}
	r = hfb_env_sync_dir(removal.env, path);
	/* another partition's removal may have taken it meanwhile */
	return r < 0 && r != -ENOENT ? hfb_err_set(err, r, "%s: %s", path, strerror(-r)) : 0;
}

void
hfb_log_set_retention(struct hfb_log *log, uint64_t retention_bytes, uint64_t retention_ns)
{
	__atomic_store_n(&log->retention_bytes, retention_bytes, __ATOMIC_RELAXED);
	__atomic_store_n(&log->retention_ns, retention_ns, __ATOMIC_RELAXED);
}

void
hfb_log_set_cleanup(struct hfb_log *log, uint32_t cleanup, uint64_t tombstone_ns)
{
	__atomic_store_n(&log->cleanup, cleanup, __ATOMIC_RELAXED);
	__atomic_store_n(&log->tombstone_ns, tombstone_ns, __ATOMIC_RELAXED);
}

int
hfb_log_ring_fd(const struct hfb_log *log, uint32_t *ret_generation, uint64_t *ret_bytes)
{
	uint32_t now = __atomic_load_n(&log->positions->ring_generation, __ATOMIC_ACQUIRE);
	const struct hfb_ring *ring = __atomic_load_n(&log->rings, __ATOMIC_ACQUIRE);

	/* The newest may not be in use yet. */
	while (ring->generation != now && ring->previous != NULL)
		ring = ring->previous;
	*ret_generation = ring->generation;
	*ret_bytes = ring->size;
	return ring->fd;
}

const char *
hfb_log_note(const struct hfb_log *log, uint32_t i)
{
	return i < log->notes_count ? log->notes[i] : NULL;
}

void
hfb_log_disk_errors(const struct hfb_log *log, struct hfb_disk_errors *ret)
{
	/* pairs with the releases of the core */
	ret->reads = __atomic_load_n(&log->errors.reads, __ATOMIC_ACQUIRE);
	ret->read_position = __atomic_load_n(&log->errors.read_position, __ATOMIC_RELAXED);
	ret->read_error = __atomic_load_n(&log->errors.read_error, __ATOMIC_RELAXED);
	ret->write_error = __atomic_load_n(&log->errors.write_error, __ATOMIC_ACQUIRE);
}

uint64_t
hfb_log_trouble(struct hfb_log *log, struct hfb_err *ret_err)
{
	uint64_t count;

	pthread_mutex_lock(&log->store->lock);
	count = log->trouble_count;
	if (ret_err != NULL)
		*ret_err = log->trouble;
	pthread_mutex_unlock(&log->store->lock);
	return count;
}
