/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalogue.c - two views of one set of topics:
 *
 *   sorted[]  by name, main thread: listing, and the order in the file
 *   table     open addressing, read by poll cores; slots are only ever filled or
 *	       replaced (a tombstone keeps its slot), a full table is replaced whole
 */
#include "catalogue.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "assert.h"
#include "config.h"
#include "crc32c.h"

struct table {
	uint32_t mask;
	uint32_t used;
	struct table *retired;	   /* chain of predecessors not reclaimed yet */
	struct hfb_topic *slots[]; /* release-stored */
};

struct hfb_catalogue {
	char path[4096 + 32];
	struct table *table; /* release-stored */
	struct table *retired;
	struct hfb_topic **sorted;
	uint32_t count, room;
	uint64_t generation;
};

static uint32_t
name_hash(const char *name, size_t size)
{
	uint64_t hash = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ (uint8_t)name[i]) * 0x100000001b3ull;
	return (uint32_t)(hash ^ (hash >> 32));
}

static struct table *
table_make(uint32_t size)
{
	struct table *table = calloc(1, sizeof(*table) + size * sizeof(table->slots[0]));

	if (table != NULL)
		table->mask = size - 1;
	return table;
}

/* Slot of a name, or the empty one where it would stand. */
static uint32_t
table_slot(const struct table *table, const char *name, size_t size)
{
	uint32_t slot = name_hash(name, size) & table->mask;

	for (;;) {
		const struct hfb_topic *topic =
			__atomic_load_n(&table->slots[slot], __ATOMIC_ACQUIRE);

		if (topic == NULL ||
		    (memcmp(topic->info.name, name, size) == 0 && topic->info.name[size] == '\0'))
			return slot;
		slot = (slot + 1) & table->mask; /* at most half full: it ends */
	}
}

static void
table_put(struct table *table, struct hfb_topic *topic, struct hfb_topic **ret_old)
{
	uint32_t slot = table_slot(table, topic->info.name, strlen(topic->info.name));

	*ret_old = table->slots[slot];
	if (*ret_old == NULL)
		table->used++;
	/* pairs with the acquire in table_slot() of a poll core */
	__atomic_store_n(&table->slots[slot], topic, __ATOMIC_RELEASE);
}

const struct hfb_topic *
hfb_catalogue_find(const struct hfb_catalogue *catalogue, const char *name, uint32_t name_size)
{
	/* pairs with the release in table_grow() */
	const struct table *table = __atomic_load_n(&catalogue->table, __ATOMIC_ACQUIRE);
	const struct hfb_topic *topic;

	if (name_size == 0 || name_size > HFB_TOPIC_NAME_MAX)
		return NULL;
	topic = __atomic_load_n(&table->slots[table_slot(table, name, name_size)],
				__ATOMIC_ACQUIRE);
	if (topic == NULL || (topic->info.flags & HFB_TOPIC_DELETED) != 0)
		return NULL;
	return topic;
}

const struct hfb_topic *
hfb_topic_find(struct hfb_node *node, const char *name, uint32_t name_size)
{
	return hfb_catalogue_find(node->catalogue, name, name_size);
}

const struct hfb_topic *
hfb_catalogue_get(const struct hfb_catalogue *catalogue, const char *name)
{
	return catalogue->table->slots[table_slot(catalogue->table, name, strlen(name))];
}

uint32_t
hfb_catalogue_count(const struct hfb_catalogue *catalogue)
{
	return catalogue->count;
}

const struct hfb_topic *
hfb_catalogue_at(const struct hfb_catalogue *catalogue, uint32_t index)
{
	return index < catalogue->count ? catalogue->sorted[index] : NULL;
}

struct hfb_topic *
hfb_topic_make(const struct hfb_ipc_topic *info)
{
	struct hfb_topic *topic;

	topic = malloc(sizeof(*topic) + info->partitions * sizeof(topic->handles[0]));
	if (topic == NULL)
		return NULL;
	topic->info = *info;
	memset(topic->handles, 0xff, info->partitions * sizeof(topic->handles[0]));
	return topic;
}

/* In memory --------------------------------------------------------------- */

/* Room for one more topic in both views, so that nothing fails after the file is written. */
static int
room_make(struct hfb_catalogue *catalogue)
{
	struct table *old = catalogue->table;

	if (catalogue->count == catalogue->room) {
		uint32_t room = catalogue->room * 2;
		struct hfb_topic **sorted =
			realloc(catalogue->sorted, room * sizeof(catalogue->sorted[0]));

		if (sorted == NULL)
			return -ENOMEM;
		catalogue->sorted = sorted;
		catalogue->room = room;
	}
	if ((old->used + 1) * 2 > old->mask + 1) {
		struct table *table = table_make((old->mask + 1) * 2);
		struct hfb_topic *none;

		if (table == NULL)
			return -ENOMEM;
		for (uint32_t i = 0; i <= old->mask; i++)
			if (old->slots[i] != NULL)
				table_put(table, old->slots[i], &none);
		/* pairs with the acquire in hfb_catalogue_find() */
		__atomic_store_n(&catalogue->table, table, __ATOMIC_RELEASE);
		old->retired = catalogue->retired;
		catalogue->retired = old;
	}
	return 0;
}

void
hfb_catalogue_reclaim(struct hfb_catalogue *catalogue)
{
	while (catalogue->retired != NULL) {
		struct table *table = catalogue->retired;

		catalogue->retired = table->retired;
		free(table);
	}
}

/* Index of the first name not below @name. */
static uint32_t
sorted_index(const struct hfb_catalogue *catalogue, const char *name)
{
	uint32_t low = 0, high = catalogue->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (strcmp(catalogue->sorted[middle]->info.name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void
memory_put(struct hfb_catalogue *catalogue, struct hfb_topic *topic, struct hfb_topic **ret_old)
{
	uint32_t at = sorted_index(catalogue, topic->info.name);

	table_put(catalogue->table, topic, ret_old);
	if (*ret_old == NULL) {
		memmove(&catalogue->sorted[at + 1], &catalogue->sorted[at],
			(catalogue->count - at) * sizeof(catalogue->sorted[0]));
		catalogue->count++;
	}
	catalogue->sorted[at] = topic;
}

/* The file ---------------------------------------------------------------- */

static int
write_all(int fd, const void *bytes, size_t size)
{
	const uint8_t *at = bytes;

	while (size > 0) {
		ssize_t n = write(fd, at, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += n;
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

/* Write all topics, with @topic in place of its namesake. */
static int
file_write(struct hfb_catalogue *catalogue, const struct hfb_topic *topic, struct hfb_err *err)
{
	const uint32_t at = sorted_index(catalogue, topic->info.name);
	const bool present = at < catalogue->count &&
			     strcmp(catalogue->sorted[at]->info.name, topic->info.name) == 0;
	const uint32_t count = catalogue->count + !present;
	const size_t bytes =
		sizeof(struct hfb_catalogue_header) + count * sizeof(struct hfb_ipc_topic);
	struct hfb_catalogue_header *header;
	struct hfb_ipc_topic *topics;
	char path[sizeof(catalogue->path) + 8];
	int fd = -1, r;

	header = malloc(bytes);
	if (header == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory for the catalogue");
	topics = (struct hfb_ipc_topic *)(header + 1);
	for (uint32_t i = 0, from = 0; i < count; i++) {
		if (i == at) {
			topics[i] = topic->info;
			from += present;
		} else {
			topics[i] = catalogue->sorted[from++]->info;
		}
		topics[i].first_handle = 0; /* of one run only */
		topics[i].expected_version = 0;
	}
	*header = (struct hfb_catalogue_header){
		.magic = HFB_CATALOGUE_MAGIC,
		.version = HFB_CATALOGUE_VERSION,
		.generation = catalogue->generation + 1,
		.count = count,
		.topic_bytes = sizeof(struct hfb_ipc_topic),
		.topics_crc = hfb_crc32c(0, topics, count * sizeof(*topics)),
	};
	header->header_crc =
		hfb_crc32c(0, header, offsetof(struct hfb_catalogue_header, header_crc));

	snprintf(path, sizeof(path), "%s.tmp", catalogue->path);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	r = fd < 0 ? -errno : 0;
	if (r == 0)
		r = write_all(fd, header, bytes);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (fd >= 0)
		close(fd);
	/* synced before it has the name, so whatever has the name is whole */
	if (r == 0 && rename(path, catalogue->path) < 0)
		r = -errno;
	if (r == 0)
		r = folder_sync(catalogue->path);
	if (r < 0)
		hfb_err_set(err, r, "cannot write the catalogue '%s': %s", catalogue->path,
			    strerror(-r));
	else
		catalogue->generation++;
	free(header);
	return r;
}

/* What a topic in the file must be for us to act on it. */
static bool
topic_sound(const struct hfb_ipc_topic *info)
{
	size_t size = strnlen(info->name, sizeof(info->name));

	return size < sizeof(info->name) && hfb_topic_name_check(info->name, size) == 0 &&
	       info->partitions >= 1 && info->partitions <= HFB_TOPIC_PARTITIONS_MAX &&
	       info->commit_stage < HFB_STAGES;
}

static int
file_take(struct hfb_catalogue *catalogue, const uint8_t *bytes, size_t size, struct hfb_err *err)
{
	static const char help[] = "move it away to start without topics: logs are kept and named,"
				   " and hfbus-control brings its topics again";
	const struct hfb_catalogue_header *header = (const void *)bytes;
	const struct hfb_ipc_topic *topics = (const void *)(header + 1);

	if (size < sizeof(*header) || header->magic != HFB_CATALOGUE_MAGIC)
		return hfb_err_set(err, -EBADMSG, "'%s' is no catalogue of topics; %s",
				   catalogue->path, help);
	if (header->version != HFB_CATALOGUE_VERSION || header->incompatible != 0)
		return hfb_err_set(err, -ENOTSUP,
				   "the catalogue '%s' has version %" PRIu32
				   " and features 0x%" PRIx32 ", this program knows version %u",
				   catalogue->path, header->version, header->incompatible,
				   HFB_CATALOGUE_VERSION);
	if (header->header_crc !=
		    hfb_crc32c(0, header, offsetof(struct hfb_catalogue_header, header_crc)) ||
	    header->topic_bytes != sizeof(*topics) || header->count > HFB_CATALOGUE_TOPICS_MAX ||
	    size != sizeof(*header) + header->count * sizeof(*topics))
		return hfb_err_set(err, -EBADMSG, "the catalogue '%s' is damaged in bytes 0 to %zu,"
				   " its header; %s", catalogue->path, sizeof(*header), help);
	if (header->topics_crc != hfb_crc32c(0, topics, header->count * sizeof(*topics)))
		return hfb_err_set(err, -EBADMSG, "the catalogue '%s' is damaged in bytes %zu to %zu,"
				   " its %" PRIu32 " topics; %s", catalogue->path, sizeof(*header),
				   size, header->count, help);
	for (uint32_t i = 0; i < header->count; i++) {
		struct hfb_topic *topic, *old;

		if (!topic_sound(&topics[i]) ||
		    (i > 0 && strcmp(topics[i - 1].name, topics[i].name) >= 0))
			return hfb_err_set(err, -EBADMSG,
					   "the catalogue '%s' is damaged at entry %" PRIu32 "; %s",
					   catalogue->path, i, help);
		if (room_make(catalogue) < 0 || (topic = hfb_topic_make(&topics[i])) == NULL)
			return hfb_err_set(err, -ENOMEM, "out of memory for %" PRIu32 " topics",
					   header->count);
		memory_put(catalogue, topic, &old);
		hfb_assert(old == NULL);
		hfb_catalogue_reclaim(catalogue);
	}
	catalogue->generation = header->generation;
	return 0;
}

static int
file_read(struct hfb_catalogue *catalogue, struct hfb_err *err)
{
	uint8_t *bytes = NULL;
	size_t have = 0;
	struct stat stat;
	int fd, r;

	fd = open(catalogue->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0
				       : hfb_err_set(err, -errno,
						     "cannot read the catalogue '%s':"
						     " %s",
						     catalogue->path, strerror(errno));
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
	close(fd);
	if (r < 0)
		hfb_err_set(err, r, "cannot read the catalogue '%s': %s", catalogue->path,
			    strerror(-r));
	else
		r = file_take(catalogue, bytes, have, err);
	free(bytes);
	return r;
}

/* Public ------------------------------------------------------------------ */

int
hfb_catalogue_open(const char *path, struct hfb_catalogue **ret_catalogue, struct hfb_err *err)
{
	struct hfb_catalogue *catalogue = calloc(1, sizeof(*catalogue));
	int r;

	if (catalogue == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	snprintf(catalogue->path, sizeof(catalogue->path), "%s", path);
	catalogue->room = 64;
	catalogue->sorted = calloc(catalogue->room, sizeof(catalogue->sorted[0]));
	catalogue->table = table_make(256);
	if (catalogue->sorted == NULL || catalogue->table == NULL) {
		r = hfb_err_set(err, -ENOMEM, "out of memory");
		goto fail;
	}
	r = file_read(catalogue, err);
	if (r < 0)
		goto fail;
	*ret_catalogue = catalogue;
	return 0;
fail:
	hfb_catalogue_close(catalogue);
	return r;
}

void
hfb_catalogue_close(struct hfb_catalogue *catalogue)
{
	if (catalogue == NULL)
		return;
	hfb_catalogue_reclaim(catalogue);
	for (uint32_t i = 0; i < catalogue->count; i++)
		free(catalogue->sorted[i]);
	free(catalogue->sorted);
	free(catalogue->table);
	free(catalogue);
}

int
hfb_catalogue_put(struct hfb_catalogue *catalogue, struct hfb_topic *topic,
		  struct hfb_topic **ret_old, struct hfb_err *err)
{
	int r;

	hfb_assert(topic_sound(&topic->info));
	if (catalogue->count == HFB_CATALOGUE_TOPICS_MAX &&
	    hfb_catalogue_get(catalogue, topic->info.name) == NULL)
		return hfb_err_set(err, -ENOSPC,
				   "the catalogue holds %u topics, deleted ones"
				   " included",
				   HFB_CATALOGUE_TOPICS_MAX);
	if (room_make(catalogue) < 0)
		return hfb_err_set(err, -ENOMEM, "out of memory for the catalogue");
	r = file_write(catalogue, topic, err);
	if (r < 0)
		return r;
	memory_put(catalogue, topic, ret_old);
	return 0;
}

void
hfb_catalogue_replace(struct hfb_catalogue *catalogue, struct hfb_topic *topic,
		      struct hfb_topic **ret_old)
{
	memory_put(catalogue, topic, ret_old);
	hfb_assert(*ret_old != NULL);
}
