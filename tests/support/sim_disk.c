/* SPDX-License-Identifier: Apache-2.0 */
/* sim_disk.c - a disk in memory that remembers: its life, and what it can be asked. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bug.h"
#include "sim_disk_private.h"

struct sim_disk *
sim_disk_create(uint64_t seed)
{
	struct sim_disk *d = calloc(1, sizeof(*d));

	hfb_assert(d != NULL);
	d->env.ops = &sim_disk_ops;
	pthread_mutex_init(&d->lock, NULL);
	d->seed = seed | 1;
	sim_inode_new(d, true);
	return d;
}

struct hfb_env *
sim_disk_env(struct sim_disk *d)
{
	return &d->env;
}

uint64_t
sim_disk_now(struct sim_disk *d)
{
	uint64_t now;

	pthread_mutex_lock(&d->lock);
	now = d->now;
	pthread_mutex_unlock(&d->lock);
	return now;
}

void
sim_disk_kill(struct sim_disk *d)
{
	pthread_mutex_lock(&d->lock);
	for (struct sim_io *io = d->ios; io != NULL; io = io->next)
		for (uint32_t i = 0; i < io->flights_count; i++) {
			struct flight *f = &io->flights[i];

			/* the device finishes it, or the kernel never sent it */
			if (f->op.kind == HFB_IO_WRITE && f->result >= 0) {
				d->now++;
				if (sim_random(&d->seed) % 2 == 0)
					sim_flight_write(d, f);
				else
					f->write->gone = d->now;
			}
			f->result = -EIO;
		}
	d->dead = true;
	sim_moment_note(d, "kill", d->now);
	pthread_mutex_unlock(&d->lock);
}

void
sim_disk_revive(struct sim_disk *d)
{
	pthread_mutex_lock(&d->lock);
	hfb_assert(d->ios == NULL);
	for (int i = 0; i < 1024; i++)
		hfb_assert(!d->files[i].used);
	d->dead = false;
	pthread_mutex_unlock(&d->lock);
}

uint64_t
sim_disk_breaches(struct sim_disk *d, const char **ret_what)
{
	*ret_what = d->breach;
	return d->breaches;
}

void
sim_disk_counts(struct sim_disk *d, struct sim_disk_counts *ret)
{
	pthread_mutex_lock(&d->lock);
	*ret = d->counts;
	pthread_mutex_unlock(&d->lock);
}

uint8_t *
sim_disk_read(struct sim_disk *d, const char *path, uint64_t *ret_size)
{
	uint8_t *bytes = NULL;
	int inode;

	pthread_mutex_lock(&d->lock);
	inode = sim_path_inode(d, path);
	if (inode >= 0) {
		*ret_size = d->inodes[inode].size;
		bytes = malloc(*ret_size + 1);
		hfb_assert(bytes != NULL);
		if (*ret_size > 0)
			memcpy(bytes, d->inodes[inode].data, *ret_size);
	}
	pthread_mutex_unlock(&d->lock);
	return bytes;
}

void
sim_disk_explain(struct sim_disk *d, const char *path, uint64_t offset)
{
	uint64_t first = NEVER;
	int inode;

	pthread_mutex_lock(&d->lock);
	inode = sim_path_inode(d, path);
	fprintf(stderr, "%s at %llu:\n", path, (unsigned long long)offset);
	for (uint32_t i = 0; inode >= 0 && i < d->inodes[inode].writes_count; i++) {
		const struct write *w = d->inodes[inode].writes[i];

		if (w->size_change || offset < w->offset || offset >= w->offset + w->bytes)
			continue;
		if (first == NEVER && w->first != NULL)
			first = w->submit;
		fprintf(stderr, "  write %lld..%lld, durable %lld, gone %lld: %llu + %llu%s%s%s\n",
			(long long)w->submit, (long long)w->complete, (long long)w->durable,
			(long long)w->gone, (unsigned long long)w->offset,
			(unsigned long long)w->bytes, w->direct ? " direct" : "",
			w->first == NULL ? " zeros" : "",
			w->second != NULL ? " changed meanwhile" : "");
	}
	if (inode >= 0)
		fprintf(stderr, "  synced size %llu\n",
			(unsigned long long)d->inodes[inode].synced_size);
	for (uint32_t i = 0; i < d->moments_count; i++)
		if (d->moments[i].ended >= first)
			fprintf(stderr, "  %s %llu..%llu\n", d->moments[i].what,
				(unsigned long long)d->moments[i].began,
				(unsigned long long)d->moments[i].ended);
	pthread_mutex_unlock(&d->lock);
}

void
sim_disk_destroy(struct sim_disk *d)
{
	if (d == NULL)
		return;
	for (uint32_t i = 0; i < d->inodes_count; i++) {
		struct inode *n = &d->inodes[i];

		for (uint32_t j = 0; j < n->writes_count; j++) {
			free(n->writes[j]->first);
			free(n->writes[j]->second);
			free(n->writes[j]);
		}
		free(n->writes);
		free(n->base);
		free(n->data);
	}
	free(d->inodes);
	sim_names_free(&d->names);
	sim_names_free(&d->base_names);
	for (uint32_t i = 0; i < d->name_ops_count; i++) {
		free(d->name_ops[i].name);
		free(d->name_ops[i].to);
	}
	free(d->name_ops);
	free(d->moments);
	pthread_mutex_destroy(&d->lock);
	free(d);
}
