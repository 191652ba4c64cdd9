/* SPDX-License-Identifier: Apache-2.0 */
#include "catalogue_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "crc32c.h"

/* Records that may be out of date before the file is written anew, beside one a topic. */
#define STALE_RECORDS 1024u

_Static_assert(sizeof(struct hfb_catalogue_header) == HFB_CATALOGUE_HEADER_BYTES, "one sector");

static const char help[] = "move it away to start without topics: logs are kept and named,"
			   " and hfbus-control brings its topics again";

bool
hfb_catalogue_sound(const struct hfb_ipc_topic *info)
{
	size_t size = strnlen(info->name, sizeof(info->name));

	return size < sizeof(info->name) && hfb_topic_name_check(info->name, size) == 0 &&
	       info->partitions >= 1 && info->partitions <= HFB_TOPIC_PARTITIONS_MAX &&
	       info->commit_stage < HFB_STAGES && info->cleanup < HFB_CLEANUPS;
}

/* Bytes --------------------------------------------------------------------- */

static int
write_all(int fd, const void *bytes, size_t size, uint64_t offset)
{
	const uint8_t *at = bytes;

	while (size > 0) {
		ssize_t n = pwrite(fd, at, size, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += n;
		offset += (size_t)n;
		size -= (size_t)n;
	}
	return 0;
}

static int
folder_sync(const char *path)
{
	char folder[4096 + 32];
	char *slash;
	int fd, r;

	snprintf(folder, sizeof(folder), "%s", path);
	slash = strrchr(folder, '/');
	if (slash != NULL)
		slash[slash == folder] = '\0';
	fd = open(slash == NULL ? "." : folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = fsync(fd) < 0 ? -errno : 0;
	close(fd);
	return r;
}

static uint64_t
record_offset(uint64_t number)
{
	return HFB_CATALOGUE_HEADER_BYTES + number * sizeof(struct hfb_catalogue_record);
}

static uint32_t
record_crc(const struct hfb_catalogue_record *record)
{
	uint32_t crc = hfb_crc32c(0, record, offsetof(struct hfb_catalogue_record, crc));

	return hfb_crc32c(crc, &record->topic, sizeof(record->topic));
}

static void
record_fill(struct hfb_catalogue_record *record, uint64_t number, const struct hfb_ipc_topic *info)
{
	memset(record, 0, sizeof(*record));
	record->number = number;
	record->topic = *info;
	record->topic.first_handle = 0; /* of one run only */
	record->topic.expected_version = 0;
	record->crc = record_crc(record);
}

static void
header_fill(struct hfb_catalogue_header *header, uint64_t records)
{
	memset(header, 0, sizeof(*header));
	header->magic = HFB_CATALOGUE_MAGIC;
	header->version = HFB_CATALOGUE_VERSION;
	header->record_bytes = sizeof(struct hfb_catalogue_record);
	header->records = records;
	header->crc = hfb_crc32c(0, header, offsetof(struct hfb_catalogue_header, crc));
}

/* Reading ------------------------------------------------------------------- */

static bool
record_right(const struct hfb_catalogue_record *record, uint64_t number)
{
	return record->number == number && record->crc == record_crc(record) &&
	       hfb_catalogue_sound(&record->topic);
}

static int
header_check(const char *path, const struct hfb_catalogue_header *header, size_t size,
	     struct hfb_err *err)
{
	if (size < sizeof(header->magic) || header->magic != HFB_CATALOGUE_MAGIC)
		return hfb_err_set(err, -EBADMSG, "'%s' is no catalogue of topics; %s", path, help);
	if (size >= 16 && (header->version != HFB_CATALOGUE_VERSION || header->incompatible != 0))
		return hfb_err_set(err, -ENOTSUP,
				   "the catalogue '%s' has version %" PRIu32
				   " and features 0x%" PRIx32 ", this program knows version %u",
				   path, header->version, header->incompatible,
				   HFB_CATALOGUE_VERSION);
	if (size < sizeof(*header) ||
	    header->crc != hfb_crc32c(0, header, offsetof(struct hfb_catalogue_header, crc)) ||
	    header->record_bytes != sizeof(struct hfb_catalogue_record))
		return hfb_err_set(
			err, -EBADMSG,
			"the catalogue '%s' is damaged in bytes 0 to %zu, its header; %s", path,
			sizeof(*header), help);
	return 0;
}

static int
file_take(struct hfb_catalogue_file *file, const uint8_t *bytes, size_t size,
	  int (*take)(void *arg, const struct hfb_ipc_topic *info), void *arg, struct hfb_err *err)
{
	const struct hfb_catalogue_header *header = (const void *)bytes;
	const struct hfb_catalogue_record *records = (const void *)(bytes + sizeof(*header));
	uint64_t whole, right = 0;
	int r;

	r = header_check(file->path, header, size, err);
	if (r < 0)
		return r;
	whole = (size - sizeof(*header)) / sizeof(*records);
	for (uint64_t i = 0; i < whole; i++) {
		if (!record_right(&records[i], i))
			continue;
		if (i > right)
			break; /* one that is right behind one that is not: damage */
		right++;
		r = take(arg, &records[i].topic);
		if (r < 0)
			return r == -ENOMEM ? hfb_err_set(err, r, "out of memory for topics") : r;
	}
	for (uint64_t i = right + 1; i < whole && right >= header->records; i++)
		if (record_right(&records[i], i))
			r = -EBADMSG;
	if (r < 0 || right < header->records)
		return hfb_err_set(err, -EBADMSG,
				   "the catalogue '%s' is damaged in bytes %" PRIu64 " to %" PRIu64
				   ", its record %" PRIu64 "; %s",
				   file->path, record_offset(right), record_offset(right + 1),
				   right, help);
	file->records = right;
	/* a torn end: never told to anybody, and not to be appended to */
	file->anew = size != record_offset(right);
	return 0;
}

int
hfb_catalogue_file_open(struct hfb_catalogue_file *file, const char *path,
			int (*take)(void *arg, const struct hfb_ipc_topic *info), void *arg,
			struct hfb_err *err)
{
	uint8_t *bytes = NULL;
	size_t have = 0;
	struct stat stat;
	int fd, r;

	*file = (struct hfb_catalogue_file){ .fd = -1, .anew = true };
	snprintf(file->path, sizeof(file->path), "%s", path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT
			       ? 0
			       : hfb_err_set(err, -errno, "cannot read the catalogue '%s': %s",
					     path, strerror(errno));
	r = fstat(fd, &stat) < 0 ? -errno : 0;
	if (r == 0) {
		bytes = malloc((size_t)stat.st_size + 1);
		if (bytes == NULL)
			r = -ENOMEM;
	}
	while (r == 0 && have < (size_t)stat.st_size) {
		ssize_t n = read(fd, bytes + have, (size_t)stat.st_size - have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			r = -errno;
		if (n <= 0)
			break;
		have += (size_t)n;
	}
	/* A killed process may have left its last record in caches; we act on it now. */
	if (r == 0 && fdatasync(fd) < 0)
		r = -errno;
	close(fd);
	if (r < 0)
		hfb_err_set(err, r, "cannot read the catalogue '%s': %s", path, strerror(-r));
	else
		r = file_take(file, bytes, have, take, arg, err);
	free(bytes);
	return r;
}

void
hfb_catalogue_file_close(struct hfb_catalogue_file *file)
{
	struct hfb_catalogue_header header;

	if (file->fd < 0)
		return;
	/* So that all of it counts as told. Without it the last record is merely unproven. */
	if (!file->anew) {
		header_fill(&header, file->records);
		(void)write_all(file->fd, &header, sizeof(header), 0);
	}
	close(file->fd);
	file->fd = -1;
}

/* Writing ------------------------------------------------------------------- */

static int
file_rewrite(struct hfb_catalogue_file *file, const struct hfb_ipc_topic *info,
	     const struct hfb_ipc_topic *(*at)(const void *arg, uint32_t index), const void *arg,
	     uint32_t count)
{
	struct hfb_catalogue_record *records;
	char path[sizeof(file->path) + 8];
	uint64_t n = 0;
	uint8_t *bytes;
	int fd, r;

	bytes = malloc(record_offset((uint64_t)count + 1));
	if (bytes == NULL)
		return -ENOMEM;
	records = (void *)(bytes + HFB_CATALOGUE_HEADER_BYTES);
	for (uint32_t i = 0; i < count; i++)
		if (strcmp(at(arg, i)->name, info->name) != 0)
			record_fill(&records[n], n, at(arg, i)), n++;
	record_fill(&records[n], n, info);
	n++;
	header_fill((void *)bytes, n);
	snprintf(path, sizeof(path), "%s.tmp", file->path);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	r = fd < 0 ? -errno : 0;
	if (r == 0)
		r = write_all(fd, bytes, record_offset(n), 0);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	/* synced before it has the name, so whatever has the name is whole */
	if (r == 0 && rename(path, file->path) < 0)
		r = -errno;
	free(bytes);
	if (r < 0) {
		if (fd >= 0)
			close(fd);
		return r;
	}
	/* From here on the name may stand for either file: until the folder is synced once
	 * none of them is appended to. */
	if (file->fd >= 0)
		close(file->fd);
	file->fd = fd;
	file->records = n;
	r = folder_sync(file->path);
	file->anew = r < 0;
	return r;
}

static int
file_append(struct hfb_catalogue_file *file, const struct hfb_ipc_topic *info)
{
	struct hfb_catalogue_record record;
	struct hfb_catalogue_header header;
	int r;

	if (file->fd < 0) {
		file->fd = open(file->path, O_WRONLY | O_CLOEXEC);
		if (file->fd < 0)
			return -errno;
	}
	/* All records there are durable: said before another one begins, in the same sync. */
	header_fill(&header, file->records);
	r = write_all(file->fd, &header, sizeof(header), 0);
	if (r < 0)
		return r;
	record_fill(&record, file->records, info);
	r = write_all(file->fd, &record, sizeof(record), record_offset(file->records));
	if (r == 0 && fdatasync(file->fd) < 0)
		r = -errno;
	if (r < 0) {
		/* It may be there all the same, at the next start or now: not to be built on. */
		(void)!ftruncate(file->fd, (off_t)record_offset(file->records));
		file->anew = true;
		return r;
	}
	file->records++;
	return 0;
}

int
hfb_catalogue_file_put(struct hfb_catalogue_file *file, const struct hfb_ipc_topic *info,
		       const struct hfb_ipc_topic *(*at)(const void *arg, uint32_t index),
		       const void *arg, uint32_t count, struct hfb_err *err)
{
	int r;

	if (file->anew || file->records > 2 * (uint64_t)count + STALE_RECORDS)
		r = file_rewrite(file, info, at, arg, count);
	else
		r = file_append(file, info);
	if (r < 0)
		return hfb_err_set(err, r, "cannot write the catalogue '%s': %s", file->path,
				   strerror(-r));
	return 0;
}
