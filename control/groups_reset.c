/* SPDX-License-Identifier: Apache-2.0 */
/*
 * groups_reset.c - set a group's offsets of a topic to another place.
 *
 * A place in time is looked for by reading, with a subscriber: that is done on a
 * thread of libuv's, with a connection of its own, and the loop goes on.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <hfbus/hfbus.h>

#include "groups_private.h"
#include "request.h"

#define READ_MS 2000u

struct change {
	uint32_t partition;
	uint64_t start, end; /* of the log */
	uint64_t from, to;
	bool has_from;
};

struct reset {
	uv_work_t work; /* first */
	struct hfb_groups *g;
	char group[HFB_GROUP_NAME_MAX + 1], topic[HFB_TOPIC_NAME_MAX + 1];
	char data_dir[4096];
	enum hfb_reset_to to;
	int64_t value;
	bool dry_run;
	struct change *changes;
	uint32_t count;
	hfb_groups_fn *done;
	void *arg;
	int failed; /* looking for a time */
	struct hfb_err err;
};

static void
reset_free(struct reset *r)
{
	free(r->changes);
	free(r);
}

/* Answers with what changes, and sets it unless it is a dry run. */
static void
finish(struct reset *r)
{
	struct hfb_topic_commit *commits = calloc(r->count + 1, sizeof(*commits));
	json_t *list = json_array(), *answer = hfb_answer_ok();
	bool ok = commits != NULL && json_object_set_new(answer, "changes", list) == 0;

	for (uint32_t i = 0; i < r->count && ok; i++) {
		const struct change *c = &r->changes[i];
		json_t *json = json_pack("{s:s, s:I, s:I}", "topic", r->topic, "partition",
					 (json_int_t)c->partition, "to", (json_int_t)c->to);

		json_object_set_new(json, "from",
				    c->has_from ? json_integer((json_int_t)c->from) : json_null());
		ok = json_array_append_new(list, json) == 0;
		commits[i] =
			(struct hfb_topic_commit){ r->topic,
						   { .partition = c->partition, .offset = c->to } };
	}
	if (ok)
		ok = json_object_set_new(answer, "dry_run", json_boolean(r->dry_run)) == 0;
	if (!ok) {
		json_decref(answer);
		r->done(r->arg, NULL);
	} else if (r->dry_run) {
		r->done(r->arg, answer);
	} else {
		hfb_groups_set(r->g, r->group, commits, r->count, answer, r->done, r->arg);
	}
	free(commits);
	reset_free(r);
}

/* The first event at or after the time, or the end. */
static int
time_find(struct hfb_bus *bus, const struct reset *r, struct change *c, struct hfb_err *err)
{
	struct hfb_sub_config config = {
		.topic = r->topic,
		.partition = c->partition,
		.from = HFB_SUB_TIME,
		.value = (uint64_t)r->value,
	};
	const struct hfb_item *item;
	struct hfb_sub *sub;
	int n = hfb_sub_open(bus, &config, &sub, err);

	if (n < 0)
		return n;
	c->to = c->end;
	while (!hfb_sub_at_end(sub) && (n = hfb_sub_next(sub, READ_MS, &item, err)) > 0) {
		if (item->kind == HFB_ITEM_EVENT || item->kind == HFB_ITEM_GAP) {
			c->to = item->offset;
			break;
		}
	}
	hfb_sub_close(sub);
	return n < 0 ? n : 0;
}

static void
look(uv_work_t *work)
{
	struct reset *r = (struct reset *)work;
	struct hfb_bus_config config = { .data_dir = r->data_dir,
					 .connect_ms = READ_MS,
					 .reconnect_ms = READ_MS };
	struct hfb_bus *bus;

	r->failed = hfb_bus_open(&config, &bus, &r->err);
	if (r->failed < 0)
		return;
	for (uint32_t i = 0; i < r->count && r->failed == 0; i++)
		r->failed = time_find(bus, r, &r->changes[i], &r->err);
	hfb_bus_close(bus);
}

static void
looked(uv_work_t *work, int status)
{
	struct reset *r = (struct reset *)work;

	if (r->g->closing) {
		reset_free(r);
	} else if (r->failed < 0 || status < 0) {
		hfb_groups_refuse(r->done, r->arg, r->failed < 0 ? r->failed : -ECANCELED, "%s",
				  r->failed < 0 ? r->err.text : "hfbus-control stops");
		reset_free(r);
	} else {
		finish(r);
	}
}

static uint64_t
clamp(int64_t value, const struct change *c)
{
	if (value < 0 || (uint64_t)value < c->start)
		return c->start;
	return (uint64_t)value > c->end ? c->end : (uint64_t)value;
}

static uint64_t
target(const struct reset *r, const struct change *c)
{
	int64_t from = (int64_t)(c->has_from ? c->from : c->start), shifted;

	switch (r->to) {
	case HFB_RESET_EARLIEST:
		return c->start;
	case HFB_RESET_LATEST:
		return c->end;
	case HFB_RESET_OFFSET:
		return clamp(r->value, c);
	case HFB_RESET_SHIFT:
		if (__builtin_add_overflow(from, r->value, &shifted))
			shifted = r->value < 0 ? 0 : INT64_MAX;
		return clamp(shifted, c);
	case HFB_RESET_TIME:
		break;
	}
	return c->end;
}

static int
partition_add(struct hfb_groups *g, struct reset *r, const struct hfb_group_entry *e,
	      uint32_t partition, struct hfb_err *err)
{
	const struct hfb_committed *committed =
		e != NULL ? hfb_offsets_find(&e->offsets, r->topic, partition) : NULL;
	struct change *c = &r->changes[r->count];

	*c = (struct change){ .partition = partition, .has_from = committed != NULL };
	if (committed != NULL)
		c->from = committed->offset;
	if (!hfb_group_ends_get(g->ends, r->topic, partition, &c->start, &c->end))
		return hfb_err_set(err, -ENOTCONN,
				   "hfbusd does not tell where %s/%u ends; does it run? See: hfbus "
				   "topic describe %s",
				   r->topic, partition, r->topic);
	c->to = target(r, c);
	r->count++;
	return 0;
}

static int
changes_fill(struct hfb_groups *g, struct reset *r, const struct hfb_group_request *q,
	     uint32_t partitions, struct hfb_err *err)
{
	const struct hfb_group_entry *e = hfb_groups_find(g, q->group);
	bool *chosen = calloc(partitions + 1, sizeof(*chosen));
	int n = 0;

	r->changes = calloc(partitions + 1, sizeof(*r->changes));
	if (r->changes == NULL || chosen == NULL)
		n = hfb_err_set(err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < q->runs_count && n == 0; i++) {
		for (uint32_t p = 0; p < q->runs[i].count && n == 0; p++) {
			if (q->runs[i].first + p >= partitions)
				n = hfb_err_set(err, -ERANGE, "topic %s has %u partitions",
						r->topic, partitions);
			else
				chosen[q->runs[i].first + p] = true;
		}
	}
	for (uint32_t p = 0; p < partitions && n == 0; p++)
		if (!q->has_runs || chosen[p])
			n = partition_add(g, r, e, p, err);
	free(chosen);
	return n;
}

void
hfb_groups_reset(struct hfb_groups *g, const struct hfb_group_request *q, hfb_groups_fn *done,
		 void *arg)
{
	const struct hfb_group_entry *e = hfb_groups_find(g, q->group);
	struct reset *r = calloc(1, sizeof(*r));
	struct hfb_err err = { 0 };
	uint32_t partitions;
	int n = 0;

	if (r == NULL) {
		done(arg, NULL);
		return;
	}
	r->g = g;
	r->to = q->to;
	r->value = q->value;
	r->dry_run = q->dry_run;
	r->done = done;
	r->arg = arg;
	strcpy(r->group, q->group);
	strcpy(r->topic, q->topic);
	strcpy(r->data_dir, g->env.data_dir);
	if (e != NULL && hfb_group_members_count(e->machine) > 0)
		n = hfb_err_set(&err, -EBUSY,
				"group %s has %u members; stop them first (hfbus group members %s "
				"shows who they are)",
				q->group, hfb_group_members_count(e->machine), q->group);
	else if (!hfb_groups_topic(g, q->topic, &partitions, NULL))
		n = hfb_err_set(&err, -ENOENT, "topic %s does not exist", q->topic);
	else
		n = changes_fill(g, r, q, partitions, &err);
	if (n < 0) {
		hfb_groups_refuse(done, arg, n, "%s", err.text);
		reset_free(r);
	} else if (q->to != HFB_RESET_TIME) {
		finish(r);
	} else if (uv_queue_work(g->env.loop, &r->work, look, looked) < 0) {
		hfb_groups_refuse(done, arg, -EAGAIN, "no thread to look for that time");
		reset_free(r);
	}
}
