/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal_replay.c - after a crash: what only the journals have goes into the segments.
 *
 *	find	the files; in which order they were written
 *	replay	their groups, as far as they follow each other
 *	sync	all that was written
 *	remove	the files, durably, before a log goes on
 *
 * Until the last step all of it may be done again: a run writes a position once, so the
 * bytes are those that are there or belong there. After it a log may be cut and grow anew,
 * and the same bytes would be wrong; they are gone then.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hfbus/journal.h>

#include "crc32c.h"
#include "file.h"
#include "journal.h"
#include "scan.h"
#include "store_private.h"
#include "uuid.h"

/* A file of a journal. */
struct part {
	char *name;
	uint32_t journal;
	uint64_t nonce, lap; /* lap 0: nothing was written to it */
	uint64_t bytes;
};

/* A partition on disk. */
struct target {
	struct hfb_uuid topic;
	uint32_t partition;
	char *folder;
	uint64_t base; /* of the segment that is open */
	uint64_t capacity;
	int fd;	     /* -1 = none */
	bool absent; /* that segment is not there, or not one to write to */
};

/* A segment that was written to. */
struct touched {
	const char *folder;
	uint64_t base;
};

struct replay {
	struct hfb_store *store;
	struct hfb_env *env;
	char folder[HFB_PATH_MAX - 512];
	uint32_t parts_count, parts_max;
	struct part *parts;
	uint32_t targets_count, targets_max;
	struct target *targets;
	uint32_t open_count;
	uint32_t touched_count, touched_max;
	struct touched *touched;
	int error;
	struct hfb_err *err;
};

#define OPEN_MAX 512u

static int
failed(struct replay *r, int error, const char *path, const char *what)
{
	if (r->error == 0)
		r->error = hfb_err_set(r->err, error,
				       "%s: cannot %s, to put right what a crash left: %s", path,
				       what, strerror(-error));
	return r->error;
}

static void *
grown(struct replay *r, void *array, uint32_t count, uint32_t *max, size_t each)
{
	void *larger;

	if (count < *max)
		return array;
	larger = realloc(array, (*max == 0 ? 64 : *max * 2u) * each);
	if (larger == NULL) {
		r->error = hfb_err_set(r->err, -ENOMEM, "no memory to replay the journal");
		return NULL;
	}
	*max = *max == 0 ? 64 : *max * 2u;
	return larger;
}

/* Targets. -------------------------------------------------------------------------- */

static void
target_found(void *arg, const char *topic, struct hfb_uuid uuid, uint32_t partition)
{
	struct replay *r = arg;
	char path[HFB_PATH_MAX], text[HFB_UUID_TEXT_BYTES];
	struct target *targets;

	if (r->error < 0)
		return;
	targets = grown(r, r->targets, r->targets_count, &r->targets_max, sizeof(*targets));
	if (targets == NULL)
		return;
	r->targets = targets;
	hfb_uuid_format(&uuid, text);
	if ((size_t)snprintf(path, sizeof(path), "%s/topics/%s/%s/%u", r->store->data_dir, topic,
			     text, partition) >= sizeof(path))
		return; /* opening it will say so */
	targets[r->targets_count] = (struct target){ .topic = uuid,
						     .partition = partition,
						     .folder = strdup(path),
						     .fd = -1,
						     .base = UINT64_MAX };
	if (targets[r->targets_count].folder == NULL)
		r->error = hfb_err_set(r->err, -ENOMEM, "no memory to replay the journal");
	else
		r->targets_count++;
}

static int
target_order(const void *a, const void *b)
{
	const struct target *x = a, *y = b;
	int order = memcmp(&x->topic, &y->topic, sizeof(x->topic));

	if (order != 0)
		return order;
	return x->partition < y->partition ? -1 : x->partition > y->partition;
}

static void
target_close(struct replay *r, struct target *t)
{
	if (t->fd < 0)
		return;
	hfb_env_close(r->env, t->fd);
	t->fd = -1;
	r->open_count--;
}

/*
 * Are positions of the log in the file of this header block? Compacted: no, all of it had
 * been filed. Another's, by a rename that a crash undid: the same.
 */
static bool
target_header(struct target *t, const uint8_t block[static HFB_SEGMENT_HEADER_BYTES],
	      uint64_t file_bytes)
{
	struct hfb_segment_header h;
	struct hfb_err why;
	uint64_t magic;

	if (hfb_segment_header_parse(block, HFB_SEGMENT_HEADER_BYTES, &t->topic, t->partition, &h,
				     &why) == 0) {
		t->capacity = h.capacity_bytes;
		return h.kind == HFB_SEGMENT_LOG && h.base_position == t->base;
	}
	/* Damaged: recovery takes base and capacity from name and size, and so do we. */
	memcpy(&magic, block + HFB_COMPACTED_AT, sizeof(magic));
	t->capacity = file_bytes - HFB_SEGMENT_HEADER_BYTES;
	return magic != HFB_COMPACTED_MAGIC;
}

/* Open the segment that begins at @base, if it is one that may be written to. */
static int
target_segment(struct replay *r, struct target *t, uint64_t base)
{
	uint8_t block[HFB_SEGMENT_HEADER_BYTES];
	struct touched *touched;
	char path[HFB_PATH_MAX];
	uint64_t size = 0;
	ssize_t n;
	int error;

	if (t->base == base && (t->fd >= 0 || t->absent))
		return 0;
	target_close(r, t);
	t->base = base;
	t->absent = true;
	if (hfb_segment_path(path, sizeof(path), t->folder, base, ".seg") < 0)
		return 0;
	if (r->open_count >= OPEN_MAX)
		for (uint32_t i = 0; i < r->targets_count; i++)
			target_close(r, &r->targets[i]);
	t->fd = hfb_env_open(r->env, path, O_RDWR | O_CLOEXEC, 0);
	if (t->fd == -ENOENT) /* retired: all of it had been filed */
		return 0;
	if (t->fd < 0)
		return failed(r, t->fd, path, "open");
	r->open_count++;
	n = hfb_env_pread(r->env, t->fd, block, sizeof(block), 0);
	error = n < 0 ? (int)n : hfb_env_size(r->env, path, &size);
	if (error < 0)
		return failed(r, error, path, "read");
	if (n < (ssize_t)sizeof(block) || !target_header(t, block, size)) {
		target_close(r, t);
		return 0;
	}
	touched = grown(r, r->touched, r->touched_count, &r->touched_max, sizeof(*touched));
	if (touched == NULL)
		return r->error;
	r->touched = touched;
	touched[r->touched_count++] = (struct touched){ t->folder, base };
	t->absent = false;
	return 0;
}

static int
entry_apply(struct replay *r, const struct hfb_journal_entry *e, const uint8_t *bytes)
{
	struct target key = { .topic = e->topic, .partition = e->partition }, *t;
	int error;

	t = r->targets_count == 0
		    ? NULL
		    : bsearch(&key, r->targets, r->targets_count, sizeof(key), target_order);
	/* deleted meanwhile */
	if (t == NULL || e->position < e->segment_base)
		return 0;
	error = target_segment(r, t, e->segment_base);
	if (error < 0)
		return error;
	if (t->absent || e->position - t->base + e->bytes > t->capacity)
		return 0;
	error = hfb_env_pwrite(r->env, t->fd, bytes, e->bytes,
			       HFB_SEGMENT_HEADER_BYTES + (e->position - t->base));
	return error < 0 ? failed(r, error, t->folder, "write") : 0;
}

static const char *
path_of(const struct replay *r, const char *name, char to[static HFB_PATH_MAX])
{
	snprintf(to, HFB_PATH_MAX, "%s/%s", r->folder, name);
	return to;
}

/* Groups. ------------------------------------------------------------------------------ */

static bool
head_read(const struct part *p, const uint8_t *at, uint64_t left, struct hfb_journal_group *ret)
{
	if (left < sizeof(*ret))
		return false;
	memcpy(ret, at, sizeof(*ret));
	return ret->magic == HFB_JOURNAL_GROUP_MAGIC && ret->nonce == p->nonce &&
	       ret->header_crc ==
		       hfb_crc32c(0, &ret->nonce,
				  sizeof(*ret) - offsetof(struct hfb_journal_group, nonce)) &&
	       ret->bytes >= sizeof(*ret) && ret->bytes <= left;
}

static bool
body_sound(const struct hfb_journal_group *head, const uint8_t *at)
{
	uint64_t used = sizeof(*head);

	if (hfb_crc32c(0, at + used, head->bytes - used) != head->body_crc)
		return false;
	for (uint32_t i = 0; i < head->entries_count; i++) {
		struct hfb_journal_entry e;

		if (head->bytes - used < sizeof(e))
			return false;
		memcpy(&e, at + used, sizeof(e));
		used += sizeof(e);
		if (head->bytes - used < e.bytes)
			return false;
		used += e.bytes;
	}
	return used == head->bytes;
}

static int
group_apply(struct replay *r, const struct hfb_journal_group *head, const uint8_t *at)
{
	uint64_t used = sizeof(*head);
	int error = 0;

	for (uint32_t i = 0; i < head->entries_count && error == 0; i++) {
		struct hfb_journal_entry e;

		memcpy(&e, at + used, sizeof(e));
		used += sizeof(e);
		error = entry_apply(r, &e, at + used);
		used += e.bytes;
	}
	return error;
}

/* The group of @p that is at @at or behind it, of this lap. False: none. */
static bool
group_search(const struct part *p, const uint8_t *bytes, uint64_t size, uint64_t *at,
	     struct hfb_journal_group *ret)
{
	for (; *at + sizeof(*ret) <= size; *at += HFB_BLOCK_BYTES)
		if (head_read(p, bytes + *at, size - *at, ret) &&
		    (p->lap == 0 || ret->lap == p->lap) && body_sound(ret, bytes + *at))
			return true;
	return false;
}

/*
 * Files are written anew in turn, so that of the lowest lap is the next. The first group of
 * its next lap may have been torn, and its sectors lie among those of groups that had been
 * filed: what is left of these is replayed, since that does no harm.
 */
static bool
begun_anew(const struct replay *r, const struct part *p)
{
	uint64_t newest = 0;

	for (uint32_t i = 0; i < r->parts_count; i++)
		if (r->parts[i].journal == p->journal && r->parts[i].lap > newest)
			newest = r->parts[i].lap;
	return p->lap + HFB_JOURNAL_FILES == newest + 1;
}

/*
 * One file. A group is written when the one before it is durable, so one that cannot be
 * read is the last, torn, and was told nobody; unless there is a later one: then it is damage.
 */
static int
part_apply(struct replay *r, const struct part *p, uint64_t *sequence)
{
	char path[HFB_PATH_MAX];
	struct hfb_journal_group head;
	uint64_t at = HFB_JOURNAL_HEADER_BYTES, found;
	size_t size = 0;
	void *bytes;
	bool anew = begun_anew(r, p);
	int error;

	path_of(r, p->name, path);
	error = hfb_file_load(r->env, path, p->bytes, &bytes, &size, r->err);
	if (error < 0)
		return failed(r, error, path, "read");
	for (found = at; error == 0; found = at) {
		bool torn = anew && at < HFB_JOURNAL_HEADER_BYTES + HFB_JOURNAL_GROUP_BYTES;

		if (!group_search(p, bytes, size, &found, &head))
			break;
		if (!torn && (found != at || (*sequence != 0 && head.sequence != *sequence + 1)))
			hfb_store_note_set(r->store,
					   "%s: damaged before byte %" PRIu64
					   "; events acked durable may be missing, see what is said"
					   " of their partitions",
					   path, found);
		*sequence = head.sequence;
		error = group_apply(r, &head, (uint8_t *)bytes + found);
		at = found + ((head.bytes + HFB_BLOCK_BYTES - 1) & ~(HFB_BLOCK_BYTES - 1));
	}
	/* its last group may be among them, in a small file */
	if (anew)
		*sequence = 0;
	free(bytes);
	return error;
}

/* Files. --------------------------------------------------------------------------------- */

static int
part_order(const void *a, const void *b)
{
	const struct part *x = a, *y = b;

	if (x->journal != y->journal)
		return x->journal < y->journal ? -1 : 1;
	return x->lap < y->lap ? -1 : x->lap > y->lap;
}

static bool
ends_with(const char *name, const char *suffix)
{
	size_t n = strlen(name), m = strlen(suffix);

	return n >= m && strcmp(name + n - m, suffix) == 0;
}

static void
file_remove(struct replay *r, const char *name)
{
	char path[HFB_PATH_MAX];
	int error;

	error = hfb_env_unlink(r->env, path_of(r, name, path));
	if (error < 0 && error != -ENOENT)
		failed(r, error, path, "remove");
}

/* What does not belong to the run that crashed is kept, and never read again. */
static void
file_aside(struct replay *r, const char *name)
{
	char path[HFB_PATH_MAX], aside[HFB_PATH_MAX];
	int error;

	snprintf(aside, sizeof(aside), "%s/%s.stray", r->folder, name);
	error = hfb_env_rename(r->env, path_of(r, name, path), aside);
	if (error < 0)
		failed(r, error, path, "rename");
}

static void
part_found(void *arg, const char *name, bool is_folder)
{
	struct replay *r = arg;
	struct part *parts;

	if (is_folder || r->error < 0)
		return;
	if (!ends_with(name, HFB_JOURNAL_SUFFIX) && !ends_with(name, ".tmp"))
		return;
	parts = grown(r, r->parts, r->parts_count, &r->parts_max, sizeof(*parts));
	if (parts == NULL)
		return;
	r->parts = parts;
	parts[r->parts_count] = (struct part){ .name = strdup(name) };
	if (parts[r->parts_count].name == NULL)
		r->error = hfb_err_set(r->err, -ENOMEM, "no memory to replay the journal");
	else
		r->parts_count++;
}

/*
 * The first whole group there is, which tells the lap. A right header is not enough: it may be
 * the old one of a group whose body is torn, by a new one in its place.
 */
static bool
head_find(struct replay *r, struct part *p, const char *path, struct hfb_journal_group *ret)
{
	uint64_t at = HFB_JOURNAL_HEADER_BYTES;
	size_t size = 0;
	void *bytes;
	bool found;
	int error = hfb_file_load(r->env, path, p->bytes, &bytes, &size, r->err);

	if (error < 0) {
		failed(r, error, path, "read");
		return false;
	}
	found = group_search(p, bytes, size, &at, ret);
	free(bytes);
	return found;
}

/* Which of the journal's files it is, from its header and the first group there is. */
static int
part_read(struct replay *r, struct part *p, bool epoch_known, uint32_t epoch)
{
	struct hfb_journal_header h;
	struct hfb_journal_group head;
	char path[HFB_PATH_MAX];
	uint64_t size;
	ssize_t n;
	int fd, error;

	if (ends_with(p->name, ".tmp"))
		return 0;
	error = hfb_file_open(r->env, path_of(r, p->name, path), &fd, &size, r->err);
	if (error < 0)
		return failed(r, error, path, "open");
	n = hfb_env_pread(r->env, fd, &h, sizeof(h), 0);
	hfb_env_close(r->env, fd);
	if (n < 0)
		return failed(r, (int)n, path, "read");
	if (n < (ssize_t)sizeof(h) || h.magic != HFB_JOURNAL_MAGIC ||
	    h.header_crc != hfb_crc32c(0, &h, offsetof(struct hfb_journal_header, header_crc))) {
		hfb_store_note_set(r->store,
				   "%s: damaged, set aside as .stray; events acked durable may be"
				   " missing",
				   path);
		file_aside(r, p->name);
		return r->error;
	}
	if (h.version != HFB_JOURNAL_VERSION || h.incompatible != 0)
		return hfb_err_set(r->err, -EPROTONOSUPPORT,
				   "%s: version %u, features %#x: written by another hfbusd, start"
				   " that one and stop it cleanly",
				   path, h.version, h.incompatible);
	p->nonce = h.nonce;
	p->bytes = size;
	if (!head_find(r, p, path, &head))
		return r->error;
	if (epoch_known && head.leader_epoch != epoch) {
		hfb_store_note_set(r->store,
				   "%s: of run %u while the last one was %u, set aside as .stray;"
				   " an hfbusd that knows no journal was started meanwhile, events"
				   " acked durable may be missing",
				   path, head.leader_epoch, epoch);
		file_aside(r, p->name);
		return r->error;
	}
	p->journal = head.journal;
	p->lap = head.lap;
	return 0;
}

/* All that was written is durable, before what it came from goes. */
static int
targets_sync(struct replay *r)
{
	int error = 0;

#ifndef HFB_BUG_JOURNAL_REPLAY_UNSYNCED
	error = hfb_env_sync_all(r->env, r->store->data_dir);
	if (error != -EOPNOTSUPP)
		return error < 0 ? failed(r, error, r->store->data_dir, "sync") : 0;
	error = 0;
	for (uint32_t i = 0; i < r->touched_count && error == 0; i++) {
		char path[HFB_PATH_MAX];
		int fd;

		if (hfb_segment_path(path, sizeof(path), r->touched[i].folder, r->touched[i].base,
				     ".seg") < 0)
			continue;
		fd = hfb_env_open(r->env, path, O_RDWR | O_CLOEXEC, 0);
		error = fd < 0 ? fd : hfb_env_fdatasync(r->env, fd);
		hfb_env_close(r->env, fd);
		if (error < 0)
			return failed(r, error, path, "sync");
	}
#endif
	return error;
}

static int
replay(struct replay *r)
{
	uint64_t sequence = 0;
	uint32_t epoch = 0;
	bool known = hfb_store_epoch_last(r->store, &epoch, r->err) == 0, any = false;
	struct part *before = NULL;
	int error = 0;

	for (uint32_t i = 0; i < r->parts_count && error == 0; i++) {
		error = part_read(r, &r->parts[i], known, epoch);
		any |= r->parts[i].lap > 0;
	}
	if (error == 0 && any)
		error = hfb_store_scan(r->store, target_found, r, r->err);
	if (error == 0)
		error = r->error;
	if (error < 0)
		return error;
	if (r->parts_count > 0)
		qsort(r->parts, r->parts_count, sizeof(*r->parts), part_order);
	if (r->targets_count > 0)
		qsort(r->targets, r->targets_count, sizeof(*r->targets), target_order);
	for (uint32_t i = 0; i < r->parts_count && error == 0; i++) {
		struct part *p = &r->parts[i];

		if (p->lap == 0)
			continue;
		if (before == NULL || before->journal != p->journal)
			sequence = 0;
		before = p;
		error = part_apply(r, p, &sequence);
	}
	if (error == 0 && any)
		error = targets_sync(r);
	/* The oldest first, each durably: those that a crash leaves follow each other. */
	for (uint32_t i = 0; i < r->parts_count && error == 0; i++) {
		file_remove(r, r->parts[i].name);
		error = r->error;
		if (error == 0 && r->parts[i].lap > 0)
			error = hfb_folder_sync(r->env, r->folder, r->err);
	}
	/* Also where there was none: a killed run may have removed them, and not yet durably. */
	if (error == 0)
		error = hfb_folder_sync(r->env, r->folder, r->err);
	return error;
}

int
hfb_journal_replay(struct hfb_store *store, struct hfb_err *err)
{
	struct replay r = { .store = store, .env = store->env, .err = err };
	int error;

	if ((size_t)snprintf(r.folder, sizeof(r.folder), "%s/" HFB_JOURNAL_FOLDER,
			     store->data_dir) >= sizeof(r.folder))
		return 0;
	error = hfb_env_list(r.env, r.folder, part_found, &r);
	if (error == -ENOENT)
		return 0;
	if (error == 0)
		error = r.error;
	else
		hfb_err_set(err, error, "%s: %s", r.folder, strerror(-error));
	if (error == 0)
		error = replay(&r);
	for (uint32_t i = 0; i < r.parts_count; i++)
		free(r.parts[i].name);
	for (uint32_t i = 0; i < r.targets_count; i++) {
		hfb_env_close(r.env, r.targets[i].fd);
		free(r.targets[i].folder);
	}
	free(r.parts);
	free(r.touched);
	free(r.targets);
	return error;
}
