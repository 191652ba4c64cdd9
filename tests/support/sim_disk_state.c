/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_disk_state.c - what the disk remembers.
 *
 *	inode: base (durable when the disk was made) + writes[] in order
 *	names: base entries + name operations in order
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bug.h"
#include "sim_disk_private.h"

static void *
grown(void *array, uint32_t count, uint32_t *max, size_t each)
{
	if (count < *max)
		return array;
	*max = *max == 0 ? 16 : *max * 2;
	array = realloc(array, *max * each);
	hfb_assert(array != NULL);
	return array;
}

void
sim_breach(struct sim_disk *d, const char *what)
{
	d->breaches++;
	d->breach = what;
}

/* Names. ---------------------------------------------------------------------- */

struct entry *
sim_names_find(struct names *names, uint32_t folder, const char *name)
{
	for (uint32_t i = 0; i < names->count; i++)
		if (names->entries[i].folder == folder && strcmp(names->entries[i].name, name) == 0)
			return &names->entries[i];
	return NULL;
}

static void
names_remove(struct names *names, uint32_t folder, const char *name)
{
	struct entry *e = sim_names_find(names, folder, name);

	if (e == NULL)
		return;
	free(e->name);
	*e = names->entries[--names->count];
}

void
sim_names_put(struct names *names, uint32_t folder, const char *name, uint32_t inode)
{
	struct entry *e;

	names_remove(names, folder, name);
	names->entries = grown(names->entries, names->count, &names->max, sizeof(*e));
	e = &names->entries[names->count++];
	e->folder = folder;
	e->inode = inode;
	e->name = strdup(name);
}

void
sim_names_apply(struct names *names, const struct name_op *op)
{
	switch (op->kind) {
	case NAME_LINK:
		sim_names_put(names, op->folder, op->name, op->inode);
		break;
	case NAME_RENAME:
		names_remove(names, op->folder, op->name);
		sim_names_put(names, op->folder, op->to, op->inode);
		break;
	case NAME_UNLINK:
		names_remove(names, op->folder, op->name);
		break;
	}
}

void
sim_names_free(struct names *names)
{
	for (uint32_t i = 0; i < names->count; i++)
		free(names->entries[i].name);
	free(names->entries);
	memset(names, 0, sizeof(*names));
}

void
sim_name_op(struct sim_disk *d, enum name_kind kind, uint32_t folder, const char *name,
	    const char *to, uint32_t inode)
{
	struct name_op *op;

	d->name_ops = grown(d->name_ops, d->name_ops_count, &d->name_ops_max, sizeof(*op));
	op = &d->name_ops[d->name_ops_count++];
	*op = (struct name_op){ .kind = kind,
				.at = ++d->now,
				.durable = NEVER,
				.folder = folder,
				.inode = inode,
				.name = strdup(name),
				.to = to != NULL ? strdup(to) : NULL };
	sim_names_apply(&d->names, op);
}

void
sim_sync_names(struct sim_disk *d, uint32_t folder)
{
	for (uint32_t i = 0; i < d->name_ops_count; i++) {
		struct name_op *op = &d->name_ops[i];

		if (op->durable == NEVER && (folder == NO_INODE || op->folder == folder))
			op->durable = d->now;
	}
}

int
sim_path_walk(struct sim_disk *d, const char *path, uint32_t *ret_folder, char *ret_name,
	      size_t bytes)
{
	uint32_t folder = ROOT;
	const char *at = path;

	ret_name[0] = '\0';
	*ret_folder = ROOT;
	for (;;) {
		struct entry *e;
		size_t n;

		while (*at == '/')
			at++;
		if (*at == '\0')
			return 0;
		n = strcspn(at, "/");
		if (n >= bytes)
			return -ENAMETOOLONG;
		if (ret_name[0] != '\0') {
			e = sim_names_find(&d->names, folder, ret_name);
			if (e == NULL)
				return -ENOENT;
			if (!d->inodes[e->inode].folder)
				return -ENOTDIR;
			folder = e->inode;
		}
		memcpy(ret_name, at, n);
		ret_name[n] = '\0';
		*ret_folder = folder;
		at += n;
	}
}

int
sim_path_entry(struct sim_disk *d, const char *path, struct entry **ret_entry)
{
	char name[512];
	uint32_t folder;
	int r = sim_path_walk(d, path, &folder, name, sizeof(name));

	if (r < 0)
		return r;
	*ret_entry = name[0] != '\0' ? sim_names_find(&d->names, folder, name) : NULL;
	return *ret_entry != NULL || name[0] == '\0' ? 0 : -ENOENT;
}

int
sim_path_inode(struct sim_disk *d, const char *path)
{
	struct entry *e;
	int r = sim_path_entry(d, path, &e);

	if (r < 0)
		return r;
	return e != NULL ? (int)e->inode : (int)ROOT;
}

uint32_t
sim_inode_new(struct sim_disk *d, bool folder)
{
	d->inodes = grown(d->inodes, d->inodes_count, &d->inodes_max, sizeof(struct inode));
	memset(&d->inodes[d->inodes_count], 0, sizeof(struct inode));
	d->inodes[d->inodes_count].folder = folder;
	return d->inodes_count++;
}

/* Bytes. ------------------------------------------------------------------------ */

void
sim_put_bytes(uint8_t **data, uint64_t *size, uint64_t *room, uint64_t offset, const uint8_t *from,
	      uint64_t bytes)
{
	uint64_t end = offset + bytes;

	if (end > *room) {
		uint64_t larger = end > *room * 2 ? end : *room * 2;

		*data = realloc(*data, larger);
		hfb_assert(*data != NULL);
		*room = larger;
	}
	if (offset > *size)
		memset(*data + *size, 0, offset - *size);
	if (from != NULL)
		memcpy(*data + offset, from, bytes);
	else
		memset(*data + offset, 0, bytes);
	if (end > *size)
		*size = end;
}

void
sim_set_size(uint8_t **data, uint64_t *size, uint64_t *room, uint64_t to)
{
	if (to > *size)
		sim_put_bytes(data, size, room, *size, NULL, to - *size);
	*size = to;
}

bool
sim_all_zero(const uint8_t *at, uint64_t bytes)
{
	return bytes == 0 || (at[0] == 0 && memcmp(at, at + 1, bytes - 1) == 0);
}

struct write *
sim_write_new(struct sim_disk *d, uint32_t inode, uint64_t offset, const void *from, uint64_t bytes,
	      bool direct)
{
	struct inode *n = &d->inodes[inode];
	struct write *w = calloc(1, sizeof(*w));

	hfb_assert(w != NULL);
	w->submit = ++d->now;
	w->complete = w->durable = w->gone = NEVER;
	w->offset = offset;
	w->bytes = bytes;
	w->direct = direct;
	if (bytes > 0 && !sim_all_zero(from, bytes)) {
		w->first = malloc(bytes);
		hfb_assert(w->first != NULL);
		memcpy(w->first, from, bytes);
	}
	n->writes = grown(n->writes, n->writes_count, &n->writes_max, sizeof(*n->writes));
	n->writes[n->writes_count++] = w;
	d->counts.writes++;
	d->counts.write_bytes += bytes;
	return w;
}

void
sim_moment_note(struct sim_disk *d, const char *what, uint64_t began)
{
	d->moments = grown(d->moments, d->moments_count, &d->moments_max, sizeof(*d->moments));
	d->moments[d->moments_count++] = (struct moment){ began, d->now, what };
}

void
sim_sync_writes(struct sim_disk *d, uint32_t inode, uint64_t began, bool flush)
{
	struct inode *n = &d->inodes[inode];

	for (uint32_t i = 0; i < n->writes_count; i++) {
		struct write *w = n->writes[i];

		if (w->durable != NEVER || w->complete > began)
			continue;
		if (flush && (!w->direct || w->offset + w->bytes > n->synced_size))
			continue;
		w->durable = d->now;
	}
	if (!flush)
		n->synced_size = n->size;
}

struct inode *
sim_inode_of(struct sim_disk *d, int fd, uint32_t *ret_number)
{
	hfb_assert(fd >= 0 && fd < 1024 && d->files[fd].used);
	*ret_number = d->files[fd].inode;
	return &d->inodes[*ret_number];
}

void
sim_check_direct(struct sim_disk *d, int fd, const void *memory, uint64_t bytes, uint64_t at)
{
	if (d->files[fd].direct &&
	    ((uintptr_t)memory % SECTOR != 0 || bytes % SECTOR != 0 || at % SECTOR != 0))
		sim_breach(d, "O_DIRECT not aligned");
}
