/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal_files.c - the journal's files: planned by main, made by the helper when a core asks,
 * removed with it when no log needs them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bug.h"
#include "crc32c.h"
#include "journal_private.h"
#include "store_private.h"
#include "writer_private.h"

#define FILE_BYTES (HFB_JOURNAL_BYTES / HFB_JOURNAL_FILES)
/* From so many logs on with something that is to be durable a group beats a write each: see
 * docs/STORAGE.md. */
#define LOGS_MIN 4u

/* Main thread. --------------------------------------------------------------------- */

struct hfb_journal *
hfb_journal_create(struct hfb_writer *writer)
{
	struct hfb_store *store = writer->store;
	const struct hfb_store_config *config = &store->config;
	struct hfb_journal *j;

	/* A tail that is not written twice is padded with each write instead. */
	if (config->journal_logs_min == UINT32_MAX || config->tail == HFB_TAIL_PAD)
		return NULL;
	j = calloc(1, sizeof(*j));
	if (j == NULL)
		return NULL;
	j->store = store;
	j->writer = writer;
	j->logs_min = config->journal_logs_min > 0 ? config->journal_logs_min : LOGS_MIN;
	j->file_bytes = config->journal_file_bytes > 0 ? config->journal_file_bytes : FILE_BYTES;
	j->group_bytes = (j->file_bytes - HFB_JOURNAL_HEADER_BYTES) / 2 & ~(uint64_t)4095;
	if (j->group_bytes > HFB_JOURNAL_GROUP_BYTES)
		j->group_bytes = HFB_JOURNAL_GROUP_BYTES;
	hfb_assert(j->group_bytes >= 2 * HFB_JOURNAL_ENTRY_BYTES);
	j->staging = aligned_alloc(HFB_BLOCK_BYTES, j->group_bytes);
	if (j->staging == NULL) {
		free(j);
		return NULL;
	}
	memset(j->staging, 0, j->group_bytes);
	for (uint32_t i = 0; i < HFB_JOURNAL_FILES; i++)
		j->fds[i] = -1;
	j->at = HFB_JOURNAL_HEADER_BYTES;
	j->lap = 1;
	hfb_env_random(store->env, &j->nonce, sizeof(j->nonce));
	pthread_mutex_lock(&store->lock);
	j->number = store->journals++;
	pthread_mutex_unlock(&store->lock);
	return j;
}

static int
file_path(const struct hfb_journal *j, uint32_t file, const char *more, char *to, size_t size)
{
	int n = snprintf(to, size, "%s/" HFB_JOURNAL_FOLDER "/%u-%u" HFB_JOURNAL_SUFFIX "%s",
			 j->store->data_dir, j->number, file, more);

	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

/* The oldest first, each durably: those that a crash leaves follow each other. */
static void
files_remove(struct hfb_journal *j)
{
	char path[HFB_PATH_MAX], folder[HFB_PATH_MAX];
	uint32_t first;

	if ((size_t)snprintf(folder, sizeof(folder), "%s/" HFB_JOURNAL_FOLDER,
			     j->store->data_dir) >= sizeof(folder))
		return;
	/* nothing of this lap there yet: then it is the oldest */
	first = j->at == HFB_JOURNAL_HEADER_BYTES ? j->file : j->file + 1;
	for (uint32_t n = 0; n < HFB_JOURNAL_FILES; n++) {
		uint32_t i = (first + n) % HFB_JOURNAL_FILES;

		hfb_env_close(j->store->env, j->fds[i]);
		j->fds[i] = -1;
		if (file_path(j, i, "", path, sizeof(path)) == 0)
			hfb_env_unlink(j->store->env, path);
		if (file_path(j, i, ".tmp", path, sizeof(path)) == 0)
			hfb_env_unlink(j->store->env, path);
		/* Failed: replayed once more, which changes nothing. */
		hfb_env_sync_dir(j->store->env, folder);
	}
}

void
hfb_journal_destroy(struct hfb_journal *j)
{
	bool making, needed = false;

	if (j == NULL)
		return;
	/* The helper finds it by its writer, which is in no list any more. */
	do {
		pthread_mutex_lock(&j->store->lock);
		making = j->making;
		pthread_mutex_unlock(&j->store->lock);
		if (making)
			nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	} while (making);
	for (uint32_t i = 0; i < HFB_JOURNAL_FILES; i++)
		needed |= j->held[i] > 0;
	if (!needed && j->fds[0] >= 0)
		files_remove(j);
	for (uint32_t i = 0; i < HFB_JOURNAL_FILES; i++)
		hfb_env_close(j->store->env, j->fds[i]);
	free(j->staging);
	free(j);
}

/* Helper. --------------------------------------------------------------------------- */

static int
file_make(struct hfb_journal *j, uint32_t file, int *ret_fd)
{
	struct hfb_env *env = j->store->env;
	struct hfb_journal_header header = {
		.magic = HFB_JOURNAL_MAGIC,
		.version = HFB_JOURNAL_VERSION,
		.bytes = j->file_bytes,
		.nonce = j->nonce,
	};
	char path[HFB_PATH_MAX], temporary[HFB_PATH_MAX];
	int fd, r;

	r = file_path(j, file, "", path, sizeof(path));
	if (r == 0)
		r = file_path(j, file, ".tmp", temporary, sizeof(temporary));
	if (r < 0)
		return r;
	fd = hfb_env_open(env, temporary, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0644);
	if (fd == -EINVAL)
		fd = hfb_env_open(env, temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		return fd;
	r = hfb_env_allocate(env, fd, 0, j->file_bytes);
	if (r == -EOPNOTSUPP)
		r = 0;
	for (uint64_t at = 0, n; r == 0 && at < j->file_bytes; at += n) {
		n = j->file_bytes - at < HFB_ZEROS_BYTES ? j->file_bytes - at : HFB_ZEROS_BYTES;
		r = hfb_env_pwrite(env, fd, j->store->zeros, n, at);
	}
	header.header_crc = hfb_crc32c(0, &header, offsetof(struct hfb_journal_header, header_crc));
	memset(j->store->block, 0, HFB_BLOCK_BYTES);
	memcpy(j->store->block, &header, sizeof(header));
	if (r == 0)
		r = hfb_env_pwrite(env, fd, j->store->block, HFB_BLOCK_BYTES, 0);
	if (r == 0)
		r = hfb_env_fdatasync(env, fd);
	if (r == 0)
		r = hfb_env_rename(env, temporary, path);
	if (r < 0) {
		hfb_env_close(env, fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

static int
files_make(struct hfb_journal *j)
{
	struct hfb_env *env = j->store->env;
	char path[HFB_PATH_MAX];
	int r;

	if ((size_t)snprintf(path, sizeof(path), "%s/" HFB_JOURNAL_FOLDER, j->store->data_dir) >=
	    sizeof(path))
		return -ENAMETOOLONG;
	r = hfb_env_mkdir(env, path, 0755);
	if (r == 0 || r == -EEXIST)
		r = hfb_env_sync_dir(env, j->store->data_dir);
	for (uint32_t i = 0; i < HFB_JOURNAL_FILES && r == 0; i++)
		r = file_make(j, i, &j->fds[i]);
	if (r == 0)
		r = hfb_env_sync_dir(env, path);
	if (r < 0)
		files_remove(j);
	return r;
}

uint32_t
hfb_journal_make(struct hfb_store *store)
{
	struct hfb_journal *j;
	uint32_t n = 0;
	int r;

	/* pairs with the release in consider(): nothing asked costs nothing */
	while (__atomic_exchange_n(&store->journal_asked, 0, __ATOMIC_ACQUIRE) != 0) {
		j = NULL;
		pthread_mutex_lock(&store->lock);
		for (struct hfb_writer *w = store->writers; w != NULL && j == NULL; w = w->next)
			if (w->journal != NULL &&
			    __atomic_load_n(&w->journal->state, __ATOMIC_ACQUIRE) ==
				    HFB_JOURNAL_ASKED)
				j = w->journal;
		if (j != NULL)
			j->making = true;
		pthread_mutex_unlock(&store->lock);
		if (j == NULL)
			break;
		r = files_make(j);
		n++;
		pthread_mutex_lock(&store->lock);
		/* pairs with the acquire of the core */
		__atomic_store_n(&j->state, r == 0 ? HFB_JOURNAL_MADE : HFB_JOURNAL_REFUSED,
				 __ATOMIC_RELEASE);
		j->making = false;
		pthread_mutex_unlock(&store->lock);
		/* there may be another's */
		__atomic_store_n(&store->journal_asked, 1, __ATOMIC_RELAXED);
	}
	return n;
}
