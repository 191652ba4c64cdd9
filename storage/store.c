/* SPDX-License-Identifier: Apache-2.0 */
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "crc32c.h"
#include "env.h"
#include "file.h"
#include "journal.h"
#include "recover.h"
#include "store_private.h"
#include "units.h"
#include "uuid.h"

#define RING_DEFAULT		(16u * HFB_MIB)
#define SEGMENT_DEFAULT		(64u * HFB_MIB)
#define DEDUP_WINDOW_DEFAULT_NS 3600000000000ull

#define EPOCH_STEP  4096u
#define EPOCH_MAGIC 0x00314f5045424648ull /* "HFBEPO1\0" */
struct epoch_file {
	uint64_t magic;
	uint32_t version, incompatible;
	uint32_t leader_epoch;
	uint32_t crc; /* crc32c of the bytes before it */
};

static int
sync_choose(struct hfb_store *store, struct hfb_err *err)
{
	struct hfb_env_device device = { 0 };

	/* Unknown is treated as what asks least of it: each write synced. */
	if (hfb_env_device(store->env, store->data_dir, &device) == 0)
		store->flush_covers = device.flush_covers;
	switch (store->config.sync) {
	case HFB_SYNC_DSYNC:
		store->flush_covers = false;
		return 0;
	case HFB_SYNC_FDATASYNC:
		if (!store->flush_covers)
			return hfb_err_set(err, -EINVAL,
					   "%s: sync mode fdatasync is for ext4 and xfs"
					   " only, use auto or dsync",
					   store->data_dir);
		store->group_always = true;
		return 0;
	case HFB_SYNC_AUTO:
		if (device.writes_through)
			store->flush_covers = false;
		return 0;
	}
	return hfb_err_set(err, -EINVAL, "unknown sync mode %d", (int)store->config.sync);
}

static int
folder_make(struct hfb_env *env, const char *path, struct hfb_err *err)
{
	char part[HFB_PATH_MAX], *slash __attribute__((unused));
	size_t size = strlen(path);

	if (size == 0 || size >= sizeof(part) - 512)
		return hfb_err_set(err, -ENAMETOOLONG, "%s: data folder's path too long", path);
	for (size_t at = 1; at <= size; at++) {
		int r;

		if (path[at] != '/' && path[at] != '\0')
			continue;
		memcpy(part, path, at);
		part[at] = '\0';
		r = hfb_env_mkdir(env, part, 0755);
		/* what is there may be in a read-only parent: opening the lock will tell */
		if (r < 0 && r != -EEXIST && r != -EROFS && r != -EACCES && r != -EPERM)
			return hfb_err_set(err, r, "%s: %s, see --data", part, strerror(-r));
#ifndef HFB_BUG_NO_DIRECTORY_SYNC
		/* The folder's own name must not be lost with all that is in it. Found names
		 * too: a killed run may have made them. Parents we may not read are not ours. */
		slash = strrchr(part, '/');
		if (slash != NULL)
			slash[slash == part] = '\0';
		r = hfb_env_sync_dir(env, slash != NULL ? part : ".");
		if (r < 0 && r != -EROFS && r != -EACCES && r != -EPERM)
			return hfb_err_set(err, r, "%s: cannot sync: %s", part, strerror(-r));
#endif
	}
	return 0;
}

/* Each ring and each open segment is a file. */
static void
files_raise(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static void
config_take(struct hfb_store *store, const struct hfb_store_config *config)
{
	struct hfb_store_config *c = &store->config;

	*c = *config;
	if (c->ring_bytes_default == 0)
		c->ring_bytes_default = RING_DEFAULT;
	if (c->segment_bytes_default == 0)
		c->segment_bytes_default = SEGMENT_DEFAULT;
	if (c->segment_bytes_first == 0)
		c->segment_bytes_first = HFB_SEGMENT_BYTES_FIRST;
	if (c->group_min == 0)
		c->group_min = HFB_GROUP_MIN;
	if (c->dedup_window_ns == 0)
		c->dedup_window_ns = DEDUP_WINDOW_DEFAULT_NS;
}

static int
memory_take(struct hfb_store *store, struct hfb_err *err)
{
	store->data_dir = strdup(store->config.data_dir);
	store->zeros = aligned_alloc(HFB_BLOCK_BYTES, HFB_ZEROS_BYTES);
	store->block = aligned_alloc(HFB_BLOCK_BYTES, HFB_BLOCK_BYTES);
	if (store->data_dir == NULL || store->zeros == NULL || store->block == NULL)
		return hfb_err_set(err, -ENOMEM, "no memory for the store");
	memset(store->zeros, 0, HFB_ZEROS_BYTES);
	for (size_t size = strlen(store->data_dir); size > 1 && store->data_dir[size - 1] == '/';)
		store->data_dir[--size] = '\0';
	store->config.data_dir = store->data_dir;
	return 0;
}

/* One hfbusd a data folder. */
static int
folder_lock(struct hfb_store *store, struct hfb_err *err)
{
	char path[HFB_PATH_MAX];
	int r;

	snprintf(path, sizeof(path), "%s/lock", store->data_dir);
	store->lock_fd = hfb_env_open(store->env, path, O_RDWR | O_CREAT, 0644);
	if (store->lock_fd < 0)
		return hfb_err_set(err, store->lock_fd, "%s: %s, see --data", path,
				   strerror(-store->lock_fd));
	r = hfb_env_lock(store->env, store->lock_fd);
	if (r == -EBUSY)
		return hfb_err_set(err, r,
				   "%s: another hfbusd uses this data folder, stop it"
				   " or choose another by --data",
				   store->data_dir);
	return r < 0 ? hfb_err_set(err, r, "%s: cannot be locked", store->data_dir) : 0;
}

int
hfb_store_open(const struct hfb_store_config *config, struct hfb_env *env,
	       struct hfb_store **ret_store, struct hfb_err *err)
{
	struct hfb_store *store = calloc(1, sizeof(*store));
	int r;

	if (store == NULL)
		return hfb_err_set(err, -ENOMEM, "no memory for the store");
	store->env = env != NULL ? env : hfb_env_real();
	store->lock_fd = store->wake_fd = -1;
	store->turn_zeros = HFB_TURN_ZEROS;
	pthread_mutex_init(&store->lock, NULL);
	config_take(store, config);
	r = memory_take(store, err);
	if (r == 0)
		r = folder_make(store->env, store->data_dir, err);
	if (r == 0)
		r = folder_lock(store, err);
	if (r == 0)
		r = sync_choose(store, err);
	if (r == 0) {
		files_raise();
		r = hfb_journal_replay(store, err);
	}
	if (r == 0)
		r = hfb_helper_start(store, err);
	if (r < 0) {
		hfb_store_close(store);
		return r;
	}
	*ret_store = store;
	return 0;
}

void
hfb_store_close(struct hfb_store *store)
{
	if (store == NULL)
		return;
	hfb_helper_stop(store);
	hfb_env_close(store->env, store->lock_fd);
	pthread_mutex_destroy(&store->lock);
	free(store->block);
	free(store->zeros);
	free(store->data_dir);
	free(store);
}

/* Partitions on disk. -------------------------------------------------------------- */

struct scan {
	struct hfb_store *store;
	void (*each)(void *arg, const char *topic, struct hfb_uuid uuid, uint32_t partition);
	void *arg;
	const char *topic;
	struct hfb_uuid uuid;
	const char *folder;
	int error;
};

static void
scan_partition(void *arg, const char *name, bool is_folder)
{
	struct scan *scan = arg;
	uint64_t partition;

	if (is_folder && hfb_number_parse(name, &partition) == 0 &&
	    partition < HFB_TOPIC_PARTITIONS_MAX)
		scan->each(scan->arg, scan->topic, scan->uuid, (uint32_t)partition);
}

static void
scan_below(struct scan *scan, const char *name, hfb_env_entry each)
{
	const char *folder = scan->folder;
	char path[HFB_PATH_MAX];
	int r;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", folder, name) >= sizeof(path))
		return;
	scan->folder = path;
	r = hfb_env_list(scan->store->env, path, each, scan);
	scan->folder = folder;
	if (r < 0 && r != -ENOENT && scan->error == 0)
		scan->error = r;
}

static void
scan_uuid(void *arg, const char *name, bool is_folder)
{
	struct scan *scan = arg;

	if (is_folder && hfb_uuid_parse(name, &scan->uuid) == 0)
		scan_below(scan, name, scan_partition);
}

static void
scan_topic(void *arg, const char *name, bool is_folder)
{
	struct scan *scan = arg;

	if (!is_folder)
		return;
	scan->topic = name;
	scan_below(scan, name, scan_uuid);
}

int
hfb_store_scan(struct hfb_store *store,
	       void (*each)(void *arg, const char *topic, struct hfb_uuid uuid, uint32_t partition),
	       void *arg, struct hfb_err *err)
{
	struct scan scan = { .store = store, .each = each, .arg = arg, .folder = store->data_dir };

	scan_below(&scan, "topics", scan_topic);
	if (scan.error < 0)
		return hfb_err_set(err, scan.error, "%s/topics: %s", store->data_dir,
				   strerror(-scan.error));
	return 0;
}

/* The leader epoch. ------------------------------------------------------------------ */

struct epoch_search {
	struct hfb_store *store;
	uint32_t highest;
	int error;
	struct hfb_err *err;
};

static void
epoch_of_partition(void *arg, const char *topic, struct hfb_uuid uuid, uint32_t partition)
{
	struct epoch_search *search = arg;
	struct hfb_recover_config config = { .topic = uuid, .partition = partition };
	struct hfb_recovered recovered;
	char folder[HFB_PATH_MAX], text[HFB_UUID_TEXT_BYTES];

	hfb_uuid_format(&uuid, text);
	if (search->error < 0 ||
	    (size_t)snprintf(folder, sizeof(folder), "%s/topics/%s/%s/%u", search->store->data_dir,
			     topic, text, partition) >= sizeof(folder))
		return;
	config.folder = folder;
	config.synced = &search->store->synced;
	search->error = hfb_recover(search->store->env, &config, &recovered, search->err);
	if (search->error < 0)
		return;
	if (recovered.leader_epoch > search->highest)
		search->highest = recovered.leader_epoch;
	hfb_recovered_fini(&recovered);
}

/* 0 and the epoch of the file, -ENOENT, -EBADMSG. */
static int
epoch_load(struct hfb_store *store, const char *path, uint32_t *ret_epoch, struct hfb_err *err)
{
	struct epoch_file file;
	size_t size = 0;
	void *bytes;
	int r = hfb_file_load(store->env, path, sizeof(file), &bytes, &size, err);

	if (r == -EFBIG)
		return -EBADMSG;
	if (r < 0)
		return r;
	if (size == sizeof(file))
		memcpy(&file, bytes, sizeof(file));
	free(bytes);
	if (size != sizeof(file) || file.magic != EPOCH_MAGIC || file.version != 1 ||
	    file.incompatible != 0 ||
	    file.crc != hfb_crc32c(0, &file, offsetof(struct epoch_file, crc)))
		return -EBADMSG;
	*ret_epoch = file.leader_epoch;
	return 0;
}

int
hfb_store_epoch_last(struct hfb_store *store, uint32_t *ret_epoch, struct hfb_err *err)
{
	char path[HFB_PATH_MAX];

	snprintf(path, sizeof(path), "%s/epoch", store->data_dir);
	return epoch_load(store, path, ret_epoch, err);
}

int
hfb_store_epoch_begin(struct hfb_store *store, uint32_t *ret_epoch, struct hfb_err *err)
{
	struct epoch_search search = { .store = store, .err = err };
	struct epoch_file file = { .magic = EPOCH_MAGIC, .version = 1 };
	char path[HFB_PATH_MAX];
	int r;

	snprintf(path, sizeof(path), "%s/epoch", store->data_dir);
	r = epoch_load(store, path, &search.highest, err);
	if (r == -ENOENT || r == -EBADMSG) {
		/* Lost or damaged: the logs know. An epoch must never be used twice. */
		if (r == -EBADMSG)
			hfb_store_note_set(store,
					   "%s: damaged; the leader epoch is taken from the logs",
					   path);
		r = hfb_store_scan(store, epoch_of_partition, &search, err);
		if (r == 0)
			r = search.error;
		/* Behind the logs' ends may lie batches of epochs whose start was lost: a
		 * wide step keeps clear of them. */
		if (r == 0 && search.highest > 0 && search.highest < UINT32_MAX - EPOCH_STEP)
			search.highest += EPOCH_STEP;
	}
	if (r < 0)
		return r;
	if (search.highest == UINT32_MAX)
		return hfb_err_set(err, -EOVERFLOW, "%s: no leader epoch is left", path);
	file.leader_epoch = search.highest + 1;
	file.crc = hfb_crc32c(0, &file, offsetof(struct epoch_file, crc));
	r = hfb_file_replace(store->env, path, &file, sizeof(file), err);
	if (r == 0)
		r = hfb_folder_sync(store->env, store->data_dir, err);
	if (r < 0)
		return r;
	*ret_epoch = store->leader_epoch = file.leader_epoch;
	return 0;
}

void
hfb_store_note_set(struct hfb_store *store, const char *format, ...)
{
	va_list ap;

	if (store->note[0] != '\0')
		return;
	va_start(ap, format);
	vsnprintf(store->note, sizeof(store->note), format, ap);
	va_end(ap);
}

const char *
hfb_store_note(const struct hfb_store *store)
{
	return store->note[0] != '\0' ? store->note : NULL;
}
