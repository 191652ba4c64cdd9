/* SPDX-License-Identifier: Apache-2.0 */
#include "offsets.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "uuid.h"

#define TOPICS_MAX 1024u

void
hfb_offsets_fini(struct hfb_offsets *o)
{
	for (uint32_t i = 0; i < o->topics_count; i++)
		free(o->topics[i].partitions);
	free(o->topics);
	*o = (struct hfb_offsets){ 0 };
}

/* Index of @topic, or where it belongs. */
static uint32_t
place(const struct hfb_offsets *o, const char *topic, bool *ret_found)
{
	uint32_t low = 0, high = o->topics_count;

	*ret_found = false;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		int order = strcmp(o->topics[middle].name, topic);

		if (order == 0) {
			*ret_found = true;
			return middle;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

const struct hfb_offsets_topic *
hfb_offsets_topic(const struct hfb_offsets *o, const char *topic)
{
	bool found;
	uint32_t at = place(o, topic, &found);

	return found ? &o->topics[at] : NULL;
}

const struct hfb_committed *
hfb_offsets_find(const struct hfb_offsets *o, const char *topic, uint32_t partition)
{
	const struct hfb_offsets_topic *t = hfb_offsets_topic(o, topic);

	return t != NULL && partition < t->partitions_count && t->partitions[partition].has
		       ? &t->partitions[partition]
		       : NULL;
}

static int
topic_get(struct hfb_offsets *o, const char *name, const struct hfb_uuid *uuid,
	  struct hfb_offsets_topic **ret_topic)
{
	struct hfb_offsets_topic *topics;
	bool found;
	uint32_t at = place(o, name, &found);

	if (!found) {
		if (o->topics_count == TOPICS_MAX)
			return -E2BIG;
		topics = realloc(o->topics, (o->topics_count + 1) * sizeof(*topics));
		if (topics == NULL)
			return -ENOMEM;
		o->topics = topics;
		memmove(topics + at + 1, topics + at, (o->topics_count - at) * sizeof(*topics));
		o->topics_count++;
		memset(&topics[at], 0, sizeof(topics[at]));
		snprintf(topics[at].name, sizeof(topics[at].name), "%s", name);
		topics[at].uuid = *uuid;
	} else if (!hfb_uuid_equal(&o->topics[at].uuid, uuid)) {
		free(o->topics[at].partitions);
		o->topics[at].partitions = NULL;
		o->topics[at].partitions_count = 0;
		o->topics[at].uuid = *uuid;
	}
	*ret_topic = &o->topics[at];
	return 0;
}

static int
partition_get(struct hfb_offsets_topic *t, uint32_t partition, struct hfb_committed **ret)
{
	if (partition >= t->partitions_count) {
		struct hfb_committed *p =
			realloc(t->partitions, (partition + 1) * sizeof(*t->partitions));

		if (p == NULL)
			return -ENOMEM;
		memset(p + t->partitions_count, 0,
		       (partition + 1 - t->partitions_count) * sizeof(*p));
		t->partitions = p;
		t->partitions_count = partition + 1;
	}
	*ret = &t->partitions[partition];
	return 0;
}

int
hfb_offsets_want(struct hfb_offsets *o, const char *topic, const struct hfb_uuid *uuid,
		 const struct hfb_commit *commit, bool force)
{
	struct hfb_offsets_topic *t = NULL;
	struct hfb_committed *c = NULL;
	int r = topic_get(o, topic, uuid, &t);

	if (r == 0)
		r = partition_get(t, commit->partition, &c);
	if (r < 0)
		return r;
	/*
	 * Lower, of a newer leader: a crash took what was committed before. An offset of no known
	 * leader (a reset, or set by hand) gives way to any: members begin at it, so one that
	 * commits less found that the log ends before it. To say OK and keep the higher one would
	 * have the next member skip what comes in between.
	 */
	if (!force && c->has_pending && commit->offset <= c->pending &&
	    commit->leader_epoch <= c->pending_epoch)
		return 0;
	c->pending = commit->offset;
	c->pending_epoch = commit->leader_epoch;
	c->has_pending = true;
	c->on_way++;
	return 1;
}

int
hfb_offsets_apply(struct hfb_offsets *o, const struct hfb_commit_topic *topic, uint64_t time_ns)
{
	struct hfb_offsets_topic *t = NULL;
	int r = topic_get(o, topic->name, &topic->uuid, &t);

	for (uint32_t i = 0; i < topic->count && r == 0; i++) {
		struct hfb_commit commit = hfb_commit_at(topic, i);
		struct hfb_committed *c;

		r = partition_get(t, commit.partition, &c);
		if (r < 0)
			break;
		c->offset = commit.offset;
		c->leader_epoch = commit.leader_epoch;
		c->time_ns = time_ns;
		c->has = true;
		if (c->on_way > 0)
			c->on_way--;
		if (c->on_way == 0) {
			c->pending = commit.offset;
			c->pending_epoch = commit.leader_epoch;
			c->has_pending = true;
		}
	}
	return r;
}

bool
hfb_offsets_forget(struct hfb_offsets *o, const char *topic)
{
	bool found;
	uint32_t at = place(o, topic, &found);

	if (!found)
		return false;
	free(o->topics[at].partitions);
	o->topics_count--;
	memmove(&o->topics[at], &o->topics[at + 1], (o->topics_count - at) * sizeof(*o->topics));
	return true;
}

void
hfb_offsets_encode(const struct hfb_offsets_topic *t, struct hfb_bytes *to)
{
	struct hfb_commit *commits = malloc((t->partitions_count + 1) * sizeof(*commits));
	uint32_t n = 0;

	if (commits == NULL) {
		to->failed = true;
		return;
	}
	for (uint32_t p = 0; p < t->partitions_count; p++)
		if (t->partitions[p].has_pending)
			commits[n++] = (struct hfb_commit){ p, t->partitions[p].pending_epoch,
							    t->partitions[p].pending };
	hfb_offset_record_topic(to, t->name, &t->uuid, commits, n);
	free(commits);
}
