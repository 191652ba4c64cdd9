/* SPDX-License-Identifier: Apache-2.0 */
/*
 * retention.c - the end of a segment's life. Helper thread.
 *
 *	sealed		all of it durable: its index is saved
 *	too old		the log's start moves past it: the core publishes that ...
 *	dropped		... it leaves the table ...
 *	checkpoint	... a checkpoint with that start is on disk ...
 *	gone		... and no read is in it: its file is kept for recycling, or removed
 *
 * In that order a crash at any step leaves either a log that still has the
 * segment, or one whose checkpoint says it was dropped.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "segment_reader.h"
#include "store_private.h"

/* All of it is in its file, and its index is not. */
static bool
seal_due(const struct hfb_log *log, const struct hfb_segment *s)
{
	/* pairs with the release when it was published */
	uint64_t filed = __atomic_load_n(&log->positions->filed, __ATOMIC_ACQUIRE);

	return !s->sealed && s->base_position + s->capacity_bytes <= filed;
}

/* Of one that seal_due() says is whole: the core writes to it no more. */
static struct hfb_index_summary
summary_of(const struct hfb_segment *s)
{
	return (struct hfb_index_summary){
		.base_position = s->base_position,
		.end_position = s->base_position + s->capacity_bytes,
		.base_offset = s->base_offset,
		.end_offset = s->end_offset,
		.first_timestamp_ns = s->first_timestamp_ns,
		.last_timestamp_ns = s->last_timestamp_ns,
	};
}

static void
sealed(struct hfb_log *log, struct hfb_segment *s)
{
	s->sealed = true;
	s->staged = false;
	s->used_ns = hfb_env_now_ns(log->store->env);
}

void
hfb_retention_seal(struct hfb_log *log)
{
	const struct hfb_table *table = log->table.current;

	for (uint32_t i = 0; i < table->count; i++) {
		struct hfb_segment *s = table->segments[i];
		struct hfb_index_summary summary;
		char path[HFB_PATH_MAX];
		struct hfb_err err;

		if (!seal_due(log, s))
			continue;
		summary = summary_of(s);
		sealed(log, s);
		/* Without it the next start scans the segment: slower, nothing is lost. */
		if (hfb_segment_path(path, sizeof(path), log->folder, s->base_position, ".idx") ==
			    0 &&
		    hfb_index_save(log->store->env, path, s->index, &summary, &err) < 0)
			hfb_helper_trouble(log, &err);
	}
}

uint32_t
hfb_retention_seal_stage(struct hfb_log *log)
{
	const struct hfb_table *table = log->table.current;
	uint32_t n = 0;

	for (uint32_t i = 0; i < table->count; i++) {
		struct hfb_segment *s = table->segments[i];
		struct hfb_index_summary summary;
		char path[HFB_PATH_MAX];
		struct hfb_err err;

		if (!seal_due(log, s) ||
		    hfb_segment_path(path, sizeof(path), log->folder, s->base_position, ".idx") < 0)
			continue;
		summary = summary_of(s);
		if (hfb_index_stage(log->store->env, path, s->index, &summary, &err) < 0)
			continue;
		s->staged = true;
		n++;
	}
	return n;
}

void
hfb_retention_seal_name(struct hfb_log *log, bool synced)
{
	const struct hfb_table *table = log->table.current;

	for (uint32_t i = 0; i < table->count; i++) {
		struct hfb_segment *s = table->segments[i];
		char path[HFB_PATH_MAX];
		struct hfb_err err;

		if (!s->staged)
			continue;
		s->staged = false;
		/* not so: the way of single logs writes it anew, and says why it cannot */
		if (synced &&
		    hfb_segment_path(path, sizeof(path), log->folder, s->base_position, ".idx") ==
			    0 &&
		    hfb_file_name(log->store->env, path, &err) == 0)
			sealed(log, s);
	}
}

void
hfb_retention_memory(struct hfb_log *log)
{
	/* A few more than there were when it was asked. */
	uint32_t max = __atomic_load_n(&log->dedup_count, __ATOMIC_RELAXED);
	struct hfb_snapshot *s;

	max += max / 4 + 64;
	s = malloc(sizeof(*s) + max * sizeof(s->dedup[0]));
	if (s != NULL) {
		memset(s, 0, sizeof(*s));
		s->dedup_max = max;
	}
	/* pairs with the acquire in log_checkpoint() */
	__atomic_store_n(&log->snapshot_memory, s != NULL ? s : HFB_SNAPSHOT_NONE,
			 __ATOMIC_RELEASE);
	hfb_helper_mail(log);
}

static void
checkpoint_saved(struct hfb_log *log, uint64_t position, uint64_t start_position,
		 uint64_t start_offset)
{
	log->checkpoint_start = start_position;
	log->checkpoint_saved = position;
	/* pairs with the acquire in hfb_log_trim() */
	__atomic_store_n(&log->checkpoint_start_offset, start_offset, __ATOMIC_RELEASE);
}

void
hfb_retention_checkpoint_fill(struct hfb_log *log, const struct hfb_snapshot *s,
			      struct hfb_checkpoint *ret)
{
	const struct hfb_table *table = log->table.current;
	const struct hfb_segment *segment = NULL;
	struct hfb_checkpoint c;
	uint32_t first = 0;
	int i;

	i = hfb_table_find(table, s->position);
	if (i >= 0)
		segment = table->segments[i];
	c = (struct hfb_checkpoint){
		.topic = log->topic_uuid,
		.partition = log->partition,
		.leader_epoch = s->leader_epoch,
		.position = s->position,
		.offset = s->offset,
		.start_position = s->start_position,
		.start_offset = s->start_offset,
		.last_timestamp_ns = s->last_timestamp_ns,
		.ended = s->ended,
		.dedup_count = s->dedup_count,
		.dedup = s->dedup,
		.corrupt_count = log->corrupt_count,
		.corrupt = log->corrupt,
	};
	if (segment != NULL) {
		const struct hfb_index *index = segment->index;

		c.segment_base = segment->base_position;
		c.segment_base_offset = s->offset;
		/* pairs with the release in hfb_log_plan_bind() */
		if (__atomic_load_n(&segment->begun, __ATOMIC_ACQUIRE) != 0 &&
		    segment->base_position < s->position) {
			c.segment_base_offset = segment->base_offset;
			c.first_timestamp_ns = segment->first_timestamp_ns;
			if (index != NULL) {
				uint32_t n = __atomic_load_n(&index->count, __ATOMIC_ACQUIRE);

				while (n > 0 && index->entries[n - 1].position >= s->position)
					n--;
				c.index_count = n;
				c.index = index->entries;
			}
		}
	}
	while (first + 1 < log->epochs.count &&
	       log->epochs.entries[first + 1].start_position <= s->start_position)
		first++;
	c.epochs = log->epochs.entries + first;
	while (first + c.epochs_count < log->epochs.count &&
	       c.epochs[c.epochs_count].leader_epoch <= s->leader_epoch)
		c.epochs_count++;
	*ret = c;
}

void
hfb_retention_checkpoint_done(struct hfb_log *log, struct hfb_snapshot *s, bool saved)
{
	/* a newer one is there, saved or not */
	free(log->snapshot_failed);
	log->snapshot_failed = NULL;
	if (saved)
		checkpoint_saved(log, s->position, s->start_position, s->start_offset);
	if (!saved && s->dedup_count <= s->dedup_max)
		log->snapshot_failed = s;
	else
		free(s);
	hfb_retention_leave(log);
	__atomic_store_n(&log->checkpoint_tried, log->checkpoint_tried + 1, __ATOMIC_RELEASE);
	hfb_helper_mail(log);
}

/* False: the one before still stands. */
static bool
checkpoint_save(struct hfb_log *log, const struct hfb_snapshot *s)
{
	struct hfb_checkpoint c;
	struct hfb_err err;

	hfb_retention_checkpoint_fill(log, s, &c);
	if (hfb_checkpoint_save(log->store->env, log->folder, &c, &err) == 0)
		return true;
	hfb_helper_trouble(log, &err);
	return false;
}

void
hfb_retention_checkpoint(struct hfb_log *log)
{
	struct hfb_snapshot *s = __atomic_exchange_n(&log->snapshot_full, NULL, __ATOMIC_ACQUIRE);

	if (s == NULL)
		return;
	/* else too small, and not filled */
	hfb_retention_checkpoint_done(log, s,
				      s->dedup_count <= s->dedup_max && checkpoint_save(log, s));
}

/*
 * The disk was full, say: the next one from the core may be 64 MiB of log away, and what
 * retention has dropped waits for it.
 */
static void
checkpoint_again(struct hfb_log *log)
{
	struct hfb_snapshot *s = log->snapshot_failed;

	if (s == NULL)
		return;
	/* saved meanwhile from what is on disk, with a later start: that one is the better */
	if (s->start_position >= log->checkpoint_start) {
		if (!checkpoint_save(log, s))
			return;
		checkpoint_saved(log, s->position, s->start_position, s->start_offset);
	}
	log->snapshot_failed = NULL;
	free(s);
	hfb_retention_leave(log);
}

/* Files. ------------------------------------------------------------------------------ */

/* Where a compacted segment's bytes are; before anybody sees its descriptor. */
static int
extents_load(struct hfb_log *log, struct hfb_segment *s, int fd, struct hfb_err *err)
{
	struct hfb_compacted_header head;
	struct hfb_extents *extents;
	char path[HFB_PATH_MAX];
	int r;

	r = hfb_segment_path(path, sizeof(path), log->folder, s->base_position, ".seg");
	if (r == 0)
		r = hfb_extents_load(log->store->env, fd, path, s->base_position, &head, &extents,
				     err);
	if (r < 0)
		return r;
	free(s->extents);
	__atomic_store_n(&s->extents, extents, __ATOMIC_RELEASE);
	return 0;
}

static void
file_open_wanted(struct hfb_log *log, struct hfb_segment *s, uint64_t now_ns)
{
	struct hfb_err err;
	int fd;

	if (__atomic_exchange_n(&s->open_wanted, 0, __ATOMIC_ACQUIRE) == 0 || s->fd >= 0)
		return;
	/* What has its name by now has its bytes elsewhere: who reads looks anew. */
	fd = s->superseded ? -EAGAIN
			   : hfb_segment_open(log->store->env, log->folder, s->base_position,
					      &s->direct, &err);
	if (fd >= 0 && s->kind == HFB_SEGMENT_COMPACTED) {
		int r = extents_load(log, s, fd, &err);

		if (r < 0) {
			hfb_env_close(log->store->env, fd);
			fd = r;
		}
	}
	if (fd < 0 && !s->superseded)
		hfb_helper_trouble(log, &err);
	s->used_ns = now_ns;
	__atomic_store_n(&s->open_error, fd < 0 ? fd : 0, __ATOMIC_RELEASE);
	__atomic_store_n(&s->fd, fd < 0 ? -1 : fd, __ATOMIC_SEQ_CST);
}

void
hfb_retention_open(struct hfb_log *log, uint64_t now_ns)
{
	const struct hfb_table *table = log->table.current;

	for (uint32_t i = 0; i < table->count; i++)
		file_open_wanted(log, table->segments[i], now_ns);
	/* A read that began before its segment was dropped waits for it nevertheless. */
	for (uint32_t i = 0; i < log->leaving_count; i++)
		file_open_wanted(log, log->leaving[i], now_ns);
	hfb_helper_mail(log);
}

static void
file_close_idle(struct hfb_log *log, struct hfb_segment *s, uint64_t now_ns)
{
	int fd = s->fd;

	if (!s->sealed || fd < 0)
		return;
	if (__atomic_load_n(&s->reads, __ATOMIC_SEQ_CST) != 0) {
		s->used_ns = now_ns;
		return;
	}
	if (now_ns < s->used_ns + HFB_FILE_IDLE_NS)
		return;
	/* seq_cst: a core that did not see -1 is seen here by its count */
	__atomic_store_n(&s->fd, -1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&s->reads, __ATOMIC_SEQ_CST) != 0) {
		__atomic_store_n(&s->fd, fd, __ATOMIC_SEQ_CST);
		s->used_ns = now_ns;
		/* one that saw -1 meanwhile waits for mail */
		hfb_helper_mail(log);
		return;
	}
	hfb_env_close(log->store->env, fd);
	free(s->extents);
	s->extents = NULL;
}

void
hfb_retention_indexes(struct hfb_log *log)
{
	const struct hfb_table *table = log->table.current;

	if (__atomic_exchange_n(&log->index_wanted, 0, __ATOMIC_ACQUIRE) == 0)
		return;
	for (uint32_t i = 0; i < table->count; i++) {
		struct hfb_segment *s = table->segments[i];
		struct hfb_index *index;
		char path[HFB_PATH_MAX];
		struct hfb_err err;

		if (__atomic_exchange_n(&s->index_wanted, 0, __ATOMIC_RELAXED) == 0 ||
		    s->index != NULL)
			continue;
		if (hfb_segment_path(path, sizeof(path), log->folder, s->base_position, ".idx") < 0)
			continue;
		if (hfb_index_load(log->store->env, path, s->base_position, &index, NULL, &err) <
		    0) {
			hfb_helper_trouble(log, &err);
			continue;
		}
		/* pairs with the acquire in look-ups */
		__atomic_store_n(&s->index, index, __ATOMIC_RELEASE);
	}
}

/* Dropping. ---------------------------------------------------------------------------- */

/* Segments from the oldest on that retention lets go. The last one always stays. */
static uint32_t
expired_count(const struct hfb_log *log, const struct hfb_table *table, uint64_t now_ns)
{
	uint64_t bytes = __atomic_load_n(&log->retention_bytes, __ATOMIC_RELAXED);
	uint64_t ns = __atomic_load_n(&log->retention_ns, __ATOMIC_RELAXED);
	uint64_t end = __atomic_load_n(&log->positions->durable.position, __ATOMIC_ACQUIRE);
	uint32_t n = 0;

	while (n + 1 < table->count && table->segments[n]->sealed) {
		const struct hfb_segment *s = table->segments[n];
		uint64_t next = table->segments[n + 1]->base_position;
		bool much = bytes > 0 && end >= next && end - next >= bytes;
		bool old = ns > 0 && s->last_timestamp_ns < now_ns &&
			   now_ns - s->last_timestamp_ns > ns;

		if (!much && !old)
			break;
		n++;
	}
	return n;
}

/* The log's core moves the start, if that is forward. */
void
hfb_retention_retire(struct hfb_log *log, uint64_t position, uint64_t offset)
{
	if (position < log->retire_to || offset < log->retire_offset ||
	    (position == log->retire_to && offset == log->retire_offset))
		return;
	__atomic_store_n(&log->retire_offset, offset, __ATOMIC_RELAXED);
	/* pairs with the acquire in log_mail() */
	__atomic_store_n(&log->retire_to, position, __ATOMIC_RELEASE);
	hfb_helper_mail(log);
}

/* Those below the published start leave the table. */
static void
drop_below_start(struct hfb_log *log)
{
	uint64_t start = __atomic_load_n(&log->positions->start.position, __ATOMIC_ACQUIRE);
	const struct hfb_table *table = log->table.current;
	uint32_t n = 0;

	while (n < table->count && table->segments[n]->sealed &&
	       table->segments[n]->base_position + table->segments[n]->capacity_bytes <= start)
		n++;
	if (n == 0)
		return;
	if (log->leaving_count + n > log->leaving_max) {
		uint32_t max = log->leaving_count + n + 16;
		struct hfb_segment **more =
			realloc(log->leaving, max * sizeof(struct hfb_segment *));

		if (more == NULL)
			return;
		log->leaving = more;
		log->leaving_max = max;
	}
	memcpy(log->leaving + log->leaving_count, table->segments,
	       n * sizeof(struct hfb_segment *));
	if (hfb_table_drop(&log->table, n) == 0)
		log->leaving_count += n;
}

static void
segment_gone(struct hfb_log *log, struct hfb_segment *s)
{
	struct hfb_env *env = log->store->env;
	char path[HFB_PATH_MAX];

	if (s->superseded) {
		hfb_segment_free(env, s);
		return;
	}
	if (hfb_segment_path(path, sizeof(path), log->folder, s->base_position, ".idx") == 0)
		hfb_env_unlink(env, path);
	if (s->kind == HFB_SEGMENT_LOG && log->retired_count < HFB_RETIRED_MAX &&
	    s->capacity_bytes ==
		    __atomic_load_n(&log->positions->segment_bytes, __ATOMIC_RELAXED)) {
		struct hfb_retired *r = &log->retired[log->retired_count++];

		r->base_position = s->base_position;
		r->capacity_bytes = s->capacity_bytes;
		r->generation = s->generation;
	} else if (hfb_segment_path(path, sizeof(path), log->folder, s->base_position, ".seg") ==
		   0) {
		hfb_env_unlink(env, path);
	}
	hfb_segment_free(env, s);
}

void
hfb_retention_leave(struct hfb_log *log)
{
	uint32_t kept = 0;

	drop_below_start(log);
	if (!hfb_table_tidy(&log->table))
		return;
	for (uint32_t i = 0; i < log->leaving_count; i++) {
		struct hfb_segment *s = log->leaving[i];

		/* pairs with the release in read_finish() */
		if (__atomic_load_n(&s->reads, __ATOMIC_ACQUIRE) != 0 ||
		    (!s->superseded &&
		     s->base_position + s->capacity_bytes > log->checkpoint_start))
			log->leaving[kept++] = s;
		else
			segment_gone(log, s);
	}
	log->leaving_count = kept;
}

/* Space for a checkpoint when there is none at all: indexes are built again if need be. */
static void
leaving_indexes_remove(struct hfb_log *log)
{
	char path[HFB_PATH_MAX];

	for (uint32_t i = 0; i < log->leaving_count; i++)
		if (!log->leaving[i]->superseded &&
		    hfb_segment_path(path, sizeof(path), log->folder,
				     log->leaving[i]->base_position, ".idx") == 0)
			hfb_env_unlink(log->store->env, path);
}

/*
 * Dropped segments go when a checkpoint says so, a checkpoint waits until all it tells of is
 * durable, and with a full disk that waits for the segments. So the checkpoint there is gets
 * the new start: as far as its own position, all else in it stays true.
 */
bool
hfb_retention_squeeze(struct hfb_log *log)
{
	struct hfb_env *env = log->store->env;
	uint64_t start = log->checkpoint_start;
	struct hfb_checkpoint c;
	struct hfb_err err;
	void *memory = NULL;
	int r;

	hfb_retention_leave(log);
	if (log->leaving_count == 0 || hfb_checkpoint_load(env, log->folder, &log->topic_uuid,
							   log->partition, &c, &memory, &err) < 0)
		return log->retired_count > 0;
	for (uint32_t i = 0; i < log->leaving_count; i++) {
		const struct hfb_segment *s = log->leaving[i];

		if (!s->superseded && s->base_position + s->capacity_bytes <= c.position &&
		    s->base_position + s->capacity_bytes > start) {
			start = s->base_position + s->capacity_bytes;
			c.start_offset = s->end_offset;
		}
	}
	if (start > log->checkpoint_start) {
		c.start_position = start;
		r = hfb_checkpoint_save(env, log->folder, &c, &err);
		if (r == -ENOSPC || r == -EDQUOT) {
			leaving_indexes_remove(log);
			r = hfb_checkpoint_save(env, log->folder, &c, &err);
		}
		if (r == 0) {
			checkpoint_saved(log, c.position, start, c.start_offset);
			hfb_retention_leave(log);
		}
	}
	free(memory);
	return log->retired_count > 0;
}

void
hfb_retention_round(struct hfb_log *log, uint64_t now_ns)
{
	const struct hfb_table *table;
	uint32_t n;

	checkpoint_again(log);
	hfb_retention_leave(log);
	hfb_retention_indexes(log);
	table = log->table.current;
	for (uint32_t i = 0; i < table->count; i++)
		file_close_idle(log, table->segments[i], now_ns);
	n = expired_count(log, table, now_ns);
	if (n > 0)
		hfb_retention_retire(log, table->segments[n]->base_position,
				     table->segments[n - 1]->end_offset);
	hfb_trim_round(log);
}
