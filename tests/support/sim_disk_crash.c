/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_disk_crash.c - a crash image: the base, then every durable operation up to
 * then, and a random choice of the others.
 */
#include <stdlib.h>
#include <string.h>

#include "bug.h"
#include "sim_disk_private.h"

/* How much of what was not durable is there: out of 256. */
struct luck {
	uint32_t write, sector, name;
};

static struct luck
luck_draw(uint64_t *random)
{
	static const struct luck lucks[] = {
		{ 0, 0, 0 },	   { 256, 256, 256 }, { 256, 256, 0 },	 { 0, 0, 256 },
		{ 128, 256, 128 }, { 256, 128, 128 }, { 128, 128, 128 }, { 256, 240, 256 },
		{ 256, 16, 64 },   { 40, 256, 200 },  { 220, 256, 0 },	 { 128, 128, 0 },
	};

	return lucks[sim_random(random) % (sizeof(lucks) / sizeof(*lucks))];
}

static void
crash_file(const struct inode *from, struct inode *to, uint64_t at, struct luck luck,
	   uint64_t *random)
{
	if (from->base_size > 0)
		sim_put_bytes(&to->data, &to->size, &to->room, 0, from->base, from->base_size);
	for (uint32_t i = 0; i < from->writes_count; i++) {
		const struct write *w = from->writes[i];
		bool durable = w->durable <= at;
		const uint8_t *source;

		if (w->submit > at)
			break;
		if (w->gone <= at || (!durable && !sim_drawn(random, luck.write)))
			continue;
		if (w->size_change) {
			sim_set_size(&to->data, &to->size, &to->room, w->offset);
			continue;
		}
		/* Before its completion nothing appended later is known of: memory as it was
		 * at submit stands for what of it may be there. */
		source = w->complete <= at && w->second != NULL ? w->second : w->first;
		if (durable) {
			sim_put_bytes(&to->data, &to->size, &to->room, w->offset, source, w->bytes);
			continue;
		}
		for (uint64_t o = 0; o < w->bytes;) {
			uint64_t step = SECTOR - (w->offset + o) % SECTOR;

			if (step > w->bytes - o)
				step = w->bytes - o;
			if (sim_drawn(random, luck.sector))
				sim_put_bytes(&to->data, &to->size, &to->room, w->offset + o,
					      source != NULL ? source + o : NULL, step);
			o += step;
		}
	}
}

static void
crash_names(struct sim_disk *d, struct names *to, uint64_t at, struct luck luck, uint64_t *random)
{
	struct names barred = { 0 };

	for (uint32_t i = 0; i < d->base_names.count; i++)
		sim_names_put(to, d->base_names.entries[i].folder, d->base_names.entries[i].name,
			      d->base_names.entries[i].inode);
	for (uint32_t i = 0; i < d->name_ops_count && d->name_ops[i].at <= at; i++) {
		const struct name_op *op = &d->name_ops[i];
		bool done = op->durable <= at || sim_drawn(random, luck.name);

		if (op->durable > at &&
		    (sim_names_find(&barred, op->folder, op->name) != NULL ||
		     (op->to != NULL && sim_names_find(&barred, op->folder, op->to) != NULL)))
			done = false;
		if (done) {
			sim_names_apply(to, op);
			continue;
		}
		sim_names_put(&barred, op->folder, op->name, 0);
		if (op->to != NULL)
			sim_names_put(&barred, op->folder, op->to, 0);
	}
	sim_names_free(&barred);
}

struct sim_disk *
sim_disk_crash(struct sim_disk *d, uint64_t at, uint64_t seed)
{
	uint64_t random = seed | 1;
	struct sim_disk *left = calloc(1, sizeof(*left));
	struct luck luck;

	for (int i = 0; i < 8; i++)
		sim_random(&random);
	luck = luck_draw(&random);
	hfb_assert(left != NULL);
	left->env.ops = &sim_disk_ops;
	pthread_mutex_init(&left->lock, NULL);
	left->seed = sim_random(&random) | 1;
	pthread_mutex_lock(&d->lock);
	crash_names(d, &left->names, at, luck, &random);
	for (uint32_t i = 0; i < d->inodes_count; i++) {
		uint32_t n = sim_inode_new(left, d->inodes[i].folder);
		bool named = false;

		for (uint32_t j = 0; j < left->names.count && !named; j++)
			named = left->names.entries[j].inode == i;
		if (!d->inodes[i].folder && named)
			crash_file(&d->inodes[i], &left->inodes[n], at, luck, &random);
	}
	pthread_mutex_unlock(&d->lock);
	for (uint32_t i = 0; i < left->inodes_count; i++) {
		struct inode *n = &left->inodes[i];

		if (n->size > 0) {
			n->base = malloc(n->size);
			hfb_assert(n->base != NULL);
			memcpy(n->base, n->data, n->size);
		}
		n->base_size = n->synced_size = n->size;
	}
	for (uint32_t i = 0; i < left->names.count; i++)
		sim_names_put(&left->base_names, left->names.entries[i].folder,
			      left->names.entries[i].name, left->names.entries[i].inode);
	return left;
}
