/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalogue.c - two views of one set of topics:
 *
 *   sorted[]  by name, main thread: listing, and the order in a file written anew
 *   table     open addressing, read by poll cores; slots are only ever filled or
 *	       replaced (a tombstone keeps its slot), a full table is replaced whole
 */
#include "catalogue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bug.h"
#include "catalogue_file.h"

struct table {
	uint32_t mask;
	uint32_t used;
	struct table *retired;	   /* chain of predecessors not reclaimed yet */
	struct hfb_topic *slots[]; /* release-stored */
};

struct hfb_catalogue {
	struct hfb_catalogue_file file;
	struct table *table; /* release-stored */
	struct table *retired;
	struct hfb_topic **sorted;
	uint32_t count, room;
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

static const struct hfb_ipc_topic *
info_at(const void *arg, uint32_t index)
{
	const struct hfb_catalogue *catalogue = arg;

	return &catalogue->sorted[index]->info;
}

/* A record of the file, oldest first: a later one of the same name replaces it. */
static int
record_take(void *arg, const struct hfb_ipc_topic *info)
{
	struct hfb_catalogue *catalogue = arg;
	struct hfb_topic *topic, *old;

	if (catalogue->count == HFB_CATALOGUE_TOPICS_MAX &&
	    hfb_catalogue_get(catalogue, info->name) == NULL)
		return -EBADMSG;
	if (room_make(catalogue) < 0 || (topic = hfb_topic_make(info)) == NULL)
		return -ENOMEM;
	memory_put(catalogue, topic, &old);
	free(old);
	hfb_catalogue_reclaim(catalogue);
	return 0;
}

/* Public ------------------------------------------------------------------ */

int
hfb_catalogue_open(const char *path, struct hfb_catalogue **ret_catalogue, struct hfb_err *err)
{
	struct hfb_catalogue *catalogue = calloc(1, sizeof(*catalogue));
	int r;

	if (catalogue == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	catalogue->file.fd = -1;
	catalogue->room = 64;
	catalogue->sorted = calloc(catalogue->room, sizeof(catalogue->sorted[0]));
	catalogue->table = table_make(256);
	if (catalogue->sorted == NULL || catalogue->table == NULL) {
		r = hfb_err_set(err, -ENOMEM, "out of memory");
		goto fail;
	}
	r = hfb_catalogue_file_open(&catalogue->file, path, record_take, catalogue, err);
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
	hfb_catalogue_file_close(&catalogue->file);
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

	hfb_assert(hfb_catalogue_sound(&topic->info));
	if (catalogue->count == HFB_CATALOGUE_TOPICS_MAX &&
	    hfb_catalogue_get(catalogue, topic->info.name) == NULL)
		return hfb_err_set(err, -ENOSPC,
				   "the catalogue holds %u topics, deleted ones"
				   " included",
				   HFB_CATALOGUE_TOPICS_MAX);
	if (room_make(catalogue) < 0)
		return hfb_err_set(err, -ENOMEM, "out of memory for the catalogue");
	r = hfb_catalogue_file_put(&catalogue->file, &topic->info, info_at, catalogue,
				   catalogue->count, err);
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
