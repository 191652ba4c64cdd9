/* SPDX-License-Identifier: Apache-2.0 */
#include "group_ends.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct topic {
	char name[256];
	uint32_t partitions; /* wanted */
	uint32_t known;	     /* handles asked so far */
	bool failed;	     /* hfbusd does not have it: not asked again until it is forgotten */
	uint32_t *handles;
};

struct hfb_group_ends {
	struct hfb_broker *broker;
	void (*settled)(void *arg);
	void *arg;
	struct topic *topics;
	uint32_t topics_count;
	bool asking;
	char asked[256]; /* the topic under way */
	uint32_t round;	 /* an answer of a former round is nothing to us */
	uint32_t asked_round;
};

static void ask_next(struct hfb_group_ends *ends);

static struct topic *
find(const struct hfb_group_ends *ends, const char *name)
{
	for (uint32_t i = 0; i < ends->topics_count; i++)
		if (strcmp(ends->topics[i].name, name) == 0)
			return &ends->topics[i];
	return NULL;
}

static void
answered(void *arg, int error, const char *sentence, const void *body, uint32_t bytes)
{
	struct hfb_group_ends *ends = arg;
	const struct hfb_ipc_topic_answer *answer = body;
	const struct hfb_ipc_partition *partitions = (const void *)(answer + 1);
	struct topic *t = find(ends, ends->asked);
	uint32_t n = 0;

	(void)sentence;
	ends->asking = false;
	if (t != NULL && ends->asked_round == ends->round) {
		if (error == 0 && bytes >= sizeof(*answer) && answer->first_partition == t->known) {
			n = (bytes - (uint32_t)sizeof(*answer)) / (uint32_t)sizeof(*partitions);
			if (n > answer->count)
				n = answer->count;
			if (n > t->partitions - t->known)
				n = t->partitions - t->known;
		}
		for (uint32_t i = 0; i < n; i++)
			t->handles[t->known++] = partitions[i].handle;
		t->failed = n == 0;
	}
	ask_next(ends);
}

static void
ask_next(struct hfb_group_ends *ends)
{
	struct hfb_ipc_topic_get get;
	uint32_t i = 0;

	if (ends->asking)
		return;
	while (i < ends->topics_count &&
	       (ends->topics[i].failed || ends->topics[i].known >= ends->topics[i].partitions))
		i++;
	if (i < ends->topics_count) {
		memset(&get, 0, sizeof(get));
		memcpy(get.name, ends->topics[i].name, sizeof(get.name));
		memcpy(ends->asked, ends->topics[i].name, sizeof(ends->asked));
		get.first_partition = ends->topics[i].known;
		ends->asking = true;
		ends->asked_round = ends->round;
		if (hfb_broker_call(ends->broker, HFB_IPC_TOPIC_GET, &get, sizeof(get), answered,
				    ends) == 0)
			return;
		ends->asking = false;
		/* hfbusd is away or swamped: what is not known stays unknown for now. */
	}
	ends->settled(ends->arg);
}

void
hfb_group_ends_want(struct hfb_group_ends *ends, const char *topic, uint32_t partitions)
{
	struct topic *t = find(ends, topic);
	uint32_t *handles;

	if (t == NULL) {
		struct topic *topics =
			realloc(ends->topics, (ends->topics_count + 1) * sizeof(*topics));

		if (topics == NULL)
			return;
		ends->topics = topics;
		t = &topics[ends->topics_count++];
		memset(t, 0, sizeof(*t));
		snprintf(t->name, sizeof(t->name), "%s", topic);
	}
	if (partitions > t->partitions) {
		handles = realloc(t->handles, partitions * sizeof(*handles));
		if (handles == NULL)
			return;
		t->handles = handles;
		t->partitions = partitions;
		t->failed = false;
	}
	if (!hfb_group_ends_settled(ends) && !ends->asking)
		ask_next(ends);
}

void
hfb_group_ends_reset(struct hfb_group_ends *ends)
{
	ends->round++;
	for (uint32_t i = 0; i < ends->topics_count; i++) {
		ends->topics[i].known = 0;
		ends->topics[i].failed = false;
	}
	ask_next(ends);
}

void
hfb_group_ends_forget(struct hfb_group_ends *ends, const char *topic)
{
	struct topic *t = find(ends, topic);

	if (t == NULL)
		return;
	ends->round++;
	free(t->handles);
	*t = ends->topics[--ends->topics_count];
}

bool
hfb_group_ends_settled(const struct hfb_group_ends *ends)
{
	if (ends->asking)
		return false;
	for (uint32_t i = 0; i < ends->topics_count; i++)
		if (!ends->topics[i].failed && ends->topics[i].known < ends->topics[i].partitions)
			return !hfb_broker_is_up(ends->broker);
	return true;
}

bool
hfb_group_ends_get(const struct hfb_group_ends *ends, const char *topic, uint32_t partition,
		   uint64_t *ret_start, uint64_t *ret_end)
{
	const struct topic *t = find(ends, topic);
	const struct hfb_positions *slot;

	if (t == NULL || partition >= t->known)
		return false;
	slot = hfb_broker_positions(ends->broker, t->handles[partition]);
	if (slot == NULL || __atomic_load_n(&slot->handle_used, __ATOMIC_ACQUIRE) != 1)
		return false;
	(void)__atomic_load_n(&slot->start.position, __ATOMIC_ACQUIRE);
	*ret_start = __atomic_load_n(&slot->start.offset, __ATOMIC_RELAXED);
	(void)__atomic_load_n(&slot->committed.position, __ATOMIC_ACQUIRE);
	*ret_end = __atomic_load_n(&slot->committed.offset, __ATOMIC_RELAXED);
	return true;
}

int
hfb_group_ends_create(struct hfb_broker *broker, void (*settled)(void *arg), void *arg,
		      struct hfb_group_ends **ret)
{
	struct hfb_group_ends *ends = calloc(1, sizeof(*ends));

	if (ends == NULL)
		return -ENOMEM;
	ends->broker = broker;
	ends->settled = settled;
	ends->arg = arg;
	*ret = ends;
	return 0;
}

void
hfb_group_ends_destroy(struct hfb_group_ends *ends)
{
	if (ends == NULL)
		return;
	for (uint32_t i = 0; i < ends->topics_count; i++)
		free(ends->topics[i].handles);
	free(ends->topics);
	free(ends);
}
