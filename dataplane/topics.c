/* SPDX-License-Identifier: Apache-2.0 */
/*
 * topics.c - topics come, change and go while the cores run.
 *
 * The catalogue is written first, then logs are opened: a crash in between leaves a
 * topic whose logs are made at the next start. A delete writes its tombstone first:
 * a crash in between leaves files that the next start removes by the tombstone's uuid.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bug.h"
#include "catalogue.h"
#include "clock.h"
#include "command.h"
#include "config.h"
#include "partition_open.h"
#include "partitions.h"
#include "stats.h"
#include "store.h"
#include "uuid.h"

static bool
topic_live(const struct hfb_topic *topic)
{
	return topic != NULL && (topic->info.flags & HFB_TOPIC_DELETED) == 0;
}

static int
handles_take(struct hfb_node *node, struct hfb_topic *topic, uint32_t from, struct hfb_err *err)
{
	uint32_t need = topic->info.partitions - from;

	if (HFB_PARTITIONS_MAX - node->handles_used < need)
		return hfb_err_set(err, -ENOSPC,
				   "topic %s: %u partitions are more than this run has"
				   " handles left (%u): restart hfbusd",
				   topic->info.name, need, HFB_PARTITIONS_MAX - node->handles_used);
	for (uint32_t i = from; i < topic->info.partitions; i++)
		topic->handles[i] = node->handles_used++;
	topic->info.first_handle = topic->handles[0];
	return 0;
}

/* Feeds that write to this topic learn where, or that it is gone. */
static int
feeds_tell(struct hfb_node *node, const struct hfb_topic *topic)
{
	int r = 0;

	for (uint32_t i = 0; i < node->config->feeds_count && r == 0; i++) {
		const struct hfb_feed_config *feed = &node->config->feeds[i];
		struct hfb_command command = { .type = HFB_COMMAND_FEED_BIND, .feed = i };

		if (strcmp(feed->topic, topic->info.name) != 0)
			continue;
		if (topic_live(topic) && feed->partition < topic->info.partitions)
			command.partition =
				hfb_partition_get(node, topic->handles[feed->partition]);
		r = hfb_command_all(node, &command);
	}
	return r;
}

static int
feeds_tell_or_say(struct hfb_node *node, const struct hfb_topic *topic, struct hfb_err *err)
{
	int r = feeds_tell(node, topic);

	return r < 0 ? hfb_err_set(err, r, "topic %s: poll cores do not answer: %s",
				   topic->info.name, strerror(-r))
		     : 0;
}

/* Open partitions @from.. of @topic and attach them; all or none. */
static int
topic_open(struct hfb_node *node, const struct hfb_topic *topic, uint32_t from, struct hfb_err *err)
{
	const uint32_t n = topic->info.partitions - from;
	struct hfb_partition **opened = calloc(n, sizeof(*opened));
	uint32_t count = 0;
	int r = 0;

	if (opened == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	while (count < n && r == 0) {
		r = hfb_partition_open(node, topic, from + count, topic->handles[from + count],
				       &opened[count], err);
		count += r == 0;
	}
	if (r == 0) {
		r = hfb_partitions_attach(node, opened, n);
		if (r < 0)
			hfb_err_set(err, r, "topic %s: its poll cores do not answer: %s",
				    topic->info.name, strerror(-r));
	}
	if (r < 0 && r != -ETIMEDOUT)
		while (count > 0)
			hfb_partition_close(node, opened[--count], true);
	free(opened);
	return r;
}

/* Put in the catalogue what came before, after a change that could not be carried out. */
static void
topic_undo(struct hfb_node *node, struct hfb_topic *before)
{
	struct hfb_topic *old;
	struct hfb_err err;

	if (hfb_catalogue_put(node->catalogue, before, &old, &err) < 0) {
		hfb_report(node,
			   "topic %s stays in the catalogue although it could not be opened: %s",
			   before->info.name, err.text);
		hfb_catalogue_replace(node->catalogue, before, &old);
	}
	hfb_node_quiesce(node);
	free(old);
}

static int
topic_create(struct hfb_node *node, struct hfb_topic *topic, struct hfb_err *err)
{
	const struct hfb_topic *before = hfb_catalogue_get(node->catalogue, topic->info.name);
	struct hfb_topic *old, *undo;
	struct hfb_ipc_topic info;
	int r;

	r = handles_take(node, topic, 0, err);
	if (r < 0)
		return r;
	/* back to the version it had, so that the same request may come again */
	info = topic->info;
	info.flags |= HFB_TOPIC_DELETED;
	info.version = before == NULL ? 0 : before->info.version;
	undo = hfb_topic_make(&info);
	if (undo == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	r = hfb_catalogue_put(node->catalogue, topic, &old, err);
	if (r < 0) {
		free(undo);
		return r;
	}
	hfb_node_quiesce(node);
	free(old);
	r = topic_open(node, topic, 0, err);
	if (r < 0) {
		topic_undo(node, undo); /* frees @topic */
		return r;
	}
	free(undo);
	return feeds_tell_or_say(node, topic, err);
}

/* The cores take what of the settings is theirs; each in its turn, none waits. */
static int
settings_tell(struct hfb_node *node, const struct hfb_topic *topic, uint32_t partitions)
{
	struct hfb_command *commands = hfb_commands_make(partitions);
	uint16_t *cores = calloc(partitions, sizeof(*cores));
	uint32_t n = 0;
	int r = -ENOMEM;

	if (commands == NULL || cores == NULL) {
		free(commands);
		goto out;
	}
	for (uint32_t i = 0; i < partitions; i++) {
		struct hfb_partition *partition = hfb_partition_get(node, topic->handles[i]);

		if (partition == NULL)
			continue;
		commands[n].type = HFB_COMMAND_SETTINGS;
		commands[n].partition = partition;
		commands[n].settings = (struct hfb_log_settings){
			.commit_stage = (enum hfb_stage)topic->info.commit_stage,
			.segment_bytes_max = topic->info.segment_bytes,
			.ring_bytes_max = topic->info.ring_bytes,
		};
		__atomic_store_n(&partition->positions->commit_stage, topic->info.commit_stage,
				 __ATOMIC_RELAXED);
		__atomic_store_n(&partition->commit_stage, (uint16_t)topic->info.commit_stage,
				 __ATOMIC_RELAXED);
		cores[n++] = partition->core;
	}
	r = hfb_commands_run(node, commands, cores, n, HFB_COMMAND_WAIT_NS);
out:
	free(cores);
	return r;
}

/* Settings and more partitions; @topic replaces @before. */
static int
topic_change(struct hfb_node *node, struct hfb_topic *topic, const struct hfb_topic *before,
	     struct hfb_err *err)
{
	const uint32_t had = before->info.partitions;
	struct hfb_topic *old, *undo = NULL;
	int r;

	memcpy(topic->handles, before->handles, had * sizeof(topic->handles[0]));
	topic->info.first_handle = topic->handles[0];
	if (topic->info.partitions > had) {
		r = handles_take(node, topic, had, err);
		if (r < 0)
			return r;
		undo = hfb_topic_make(&before->info);
		if (undo == NULL)
			return hfb_err_set(err, -ENOMEM, "out of memory");
		memcpy(undo->handles, before->handles, had * sizeof(undo->handles[0]));
	}
	r = hfb_catalogue_put(node->catalogue, topic, &old, err);
	if (r < 0) {
		free(undo);
		return r;
	}
	for (uint32_t i = 0; i < had; i++) {
		struct hfb_partition *partition = hfb_partition_get(node, topic->handles[i]);

		if (partition == NULL)
			continue;
		hfb_log_set_retention(partition->log, topic->info.retention_bytes,
				      topic->info.retention_ns);
		hfb_log_set_cleanup(partition->log, topic->info.cleanup, topic->info.tombstone_ns);
		__atomic_store_n(&partition->topic, topic, __ATOMIC_RELEASE);
	}
	hfb_node_quiesce(node);
	free(old);
	/* It is durable by now, and holds at the next start whatever a core says. */
	r = settings_tell(node, topic, had);
	if (r < 0)
		hfb_report(node, "topic %s: a poll core does not take its new settings: %s",
			   topic->info.name, strerror(-r));
	if (undo == NULL) /* no more partitions than before */
		return 0;
	r = topic_open(node, topic, had, err);
	if (r < 0) {
		for (uint32_t i = 0; i < had; i++) {
			struct hfb_partition *partition = hfb_partition_get(node, undo->handles[i]);

			if (partition != NULL)
				__atomic_store_n(&partition->topic, undo, __ATOMIC_RELEASE);
		}
		topic_undo(node, undo);
		return r;
	}
	free(undo);
	return feeds_tell_or_say(node, topic, err);
}

static int
topic_delete(struct hfb_node *node, struct hfb_topic *tombstone, struct hfb_err *err)
{
	struct hfb_topic_stuck *stuck;
	struct hfb_partition **gone;
	struct hfb_topic *old = NULL;
	uint32_t n = 0;
	int r;

	gone = calloc(HFB_TOPIC_PARTITIONS_MAX, sizeof(*gone));
	/* before anything has changed: when it is needed there may be no memory */
	stuck = calloc(1, sizeof(*stuck));
	if (gone == NULL || stuck == NULL) {
		r = hfb_err_set(err, -ENOMEM, "out of memory");
		goto out;
	}
	r = hfb_catalogue_put(node->catalogue, tombstone, &old, err);
	if (r < 0 || old == NULL)
		goto out;
	for (uint32_t i = 0; topic_live(old) && i < old->info.partitions; i++) {
		gone[n] = hfb_partition_get(node, old->handles[i]);
		n += gone[n] != NULL;
	}
	r = feeds_tell(node, tombstone);
	if (r == 0)
		r = hfb_partitions_detach(node, gone, n, false);
	if (r == 0) {
		for (uint32_t i = 0; i < n; i++)
			hfb_partition_close(node, gone[i], true);
		free(old);
	} else {
		/* a core still holds them, and they hold @old: the next start removes the files */
		hfb_report(node, "topic %s: deleted, but a poll core does not let its logs go: %s",
			   tombstone->info.name, strerror(-r));
		stuck->topic = old;
		stuck->next = node->topics_stuck;
		node->topics_stuck = stuck;
		stuck = NULL;
		r = 0;
	}
out:
	free(stuck);
	free(gone);
	return r;
}

/* Is the request one that could be carried out at all? */
static int
request_check(const struct hfb_ipc_topic *request, struct hfb_err *err)
{
	const size_t size = strnlen(request->name, sizeof(request->name));

	if (size == sizeof(request->name) || hfb_topic_name_check(request->name, size) < 0)
		return hfb_err_set(err, -EINVAL,
				   "a topic's name has 1 to %u letters, digits, '.', '_'"
				   " or '-'",
				   HFB_TOPIC_NAME_MAX);
	if (request->partitions < 1 || request->partitions > HFB_TOPIC_PARTITIONS_MAX)
		return hfb_err_set(err, -EINVAL, "topic %s: %" PRIu32 " partitions are not 1 to %u",
				   request->name, request->partitions, HFB_TOPIC_PARTITIONS_MAX);
	if (request->commit_stage >= HFB_STAGES)
		return hfb_err_set(err, -EINVAL, "topic %s: there is no commit stage %" PRIu32,
				   request->name, request->commit_stage);
	if (request->commit_stage >= HFB_STAGE_MIRRORED)
		return hfb_err_set(err, -ENOTSUP,
				   "topic %s: a mirrored commit stage needs a mirror"
				   " node, and this node has none",
				   request->name);
	if (request->segment_bytes != 0 &&
	    (request->segment_bytes < HFB_SEGMENT_BYTES_MIN ||
	     request->segment_bytes > HFB_SEGMENT_BYTES_MAX ||
	     (request->segment_bytes & (request->segment_bytes - 1))))
		return hfb_err_set(err, -EINVAL,
				   "topic %s: segment size %" PRIu64 " is not a power of"
				   " two from 1MiB to 256MiB",
				   request->name, request->segment_bytes);
	if (request->ring_bytes != 0 &&
	    (request->ring_bytes < HFB_RING_BYTES_MIN || request->ring_bytes > HFB_RING_BYTES_MAX ||
	     (request->ring_bytes & (request->ring_bytes - 1))))
		return hfb_err_set(err, -EINVAL,
				   "topic %s: ring size %" PRIu64 " is not a power of two"
				   " from 1MiB to 256MiB",
				   request->name, request->ring_bytes);
	if (request->cleanup >= HFB_CLEANUPS)
		return hfb_err_set(err, -EINVAL, "topic %s: there is no cleanup %" PRIu32,
				   request->name, request->cleanup);
	if ((request->flags & ~(HFB_TOPIC_DELETED | HFB_TOPIC_CREATED_BY_FEED)) != 0)
		return hfb_err_set(err, -EINVAL, "topic %s: flags 0x%" PRIx32 " are not known",
				   request->name, request->flags);
	return 0;
}

/* Compare-and-set against what is there. */
static int
request_compare(const struct hfb_ipc_topic *request, const struct hfb_topic *now,
		struct hfb_err *err)
{
	const bool deletes = (request->flags & HFB_TOPIC_DELETED) != 0;

	if (now == NULL) {
		if (deletes || request->expected_version != 0)
			return hfb_err_set(err, -ENOENT, "there is no topic %s", request->name);
		return 0;
	}
	if (!topic_live(now)) {
		if (request->expected_version != 0 &&
		    request->expected_version != now->info.version)
			return hfb_err_set(
				err, -ESTALE,
				"topic %s was deleted with version %" PRIu64 ", not %" PRIu64,
				request->name, now->info.version, request->expected_version);
		if (deletes && request->expected_version == 0)
			return hfb_err_set(err, -ENOENT, "there is no topic %s", request->name);
	} else {
		if (request->expected_version == 0)
			return hfb_err_set(err, -EEXIST, "topic %s exists", request->name);
		if (request->expected_version != now->info.version)
			return hfb_err_set(
				err, -ESTALE, "topic %s has version %" PRIu64 ", not %" PRIu64,
				request->name, now->info.version, request->expected_version);
		if (!hfb_uuid_is_null(&request->uuid) &&
		    !hfb_uuid_equal(&request->uuid, &now->info.uuid))
			return hfb_err_set(err, -EEXIST,
					   "topic %s exists with another uuid: its data is"
					   " not this topic's",
					   request->name);
		if (!deletes && request->partitions < now->info.partitions)
			return hfb_err_set(err, -EINVAL,
					   "topic %s has %" PRIu32 " partitions: there can"
					   " be more, not fewer",
					   request->name, now->info.partitions);
	}
	if (request->version != 0 && request->version <= now->info.version)
		return hfb_err_set(err, -ESTALE,
				   "topic %s: version %" PRIu64 " is not above %" PRIu64,
				   request->name, request->version, now->info.version);
	return 0;
}

int
hfb_topic_put(struct hfb_node *node, const struct hfb_ipc_topic *request,
	      const struct hfb_topic **ret_topic, struct hfb_err *err)
{
	const struct hfb_topic *now;
	struct hfb_topic *topic;
	struct hfb_ipc_topic info = *request;
	int r;

	r = request_check(request, err);
	if (r < 0)
		return r;
	now = hfb_catalogue_get(node->catalogue, request->name);
	r = request_compare(request, now, err);
	if (r < 0)
		return r;

	/* what is behind the name's end, and what only we know */
	memset(info.name + strlen(info.name), 0, sizeof(info.name) - strlen(info.name));
	if (info.version == 0)
		info.version = now == NULL ? 1 : now->info.version + 1;
	info.expected_version = 0;
	if (topic_live(now)) {
		info.uuid = now->info.uuid;
		info.created_ns = now->info.created_ns;
		if (info.flags & HFB_TOPIC_DELETED)
			info.partitions = now->info.partitions;
	} else {
		if (hfb_uuid_is_null(&info.uuid))
			hfb_uuid_random(&info.uuid);
		if (info.created_ns == 0)
			info.created_ns = hfb_clock_now_ns();
	}
	topic = hfb_topic_make(&info);
	if (topic == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	if (info.flags & HFB_TOPIC_DELETED)
		r = topic_delete(node, topic, err);
	else if (topic_live(now))
		r = topic_change(node, topic, now, err);
	else
		r = topic_create(node, topic, err);
	/* what failed may have ended before it waited; the cores may still look at an old table */
	if (r < 0)
		hfb_node_quiesce(node);
	hfb_catalogue_reclaim(node->catalogue);
	if (r < 0) {
		/* not taken by the catalogue, unless a later step failed and it was undone */
		if (hfb_catalogue_get(node->catalogue, request->name) == now)
			free(topic);
		return r;
	}
	*ret_topic = hfb_catalogue_get(node->catalogue, request->name);
	return 0;
}

/* Start -------------------------------------------------------------------- */

struct scan {
	struct hfb_node *node;
};

/* A partition on disk: of a topic, of a tombstone (finish the delete), or of nobody. */
static void
scanned(void *arg, const char *name, struct hfb_uuid uuid, uint32_t index)
{
	struct hfb_node *node = ((struct scan *)arg)->node;
	const struct hfb_topic *topic = hfb_catalogue_get(node->catalogue, name);
	char text[HFB_UUID_TEXT_BYTES];
	struct hfb_partition *partition;
	struct hfb_err err;

	if (topic != NULL && hfb_uuid_equal(&topic->info.uuid, &uuid)) {
		if (topic_live(topic) && index < topic->info.partitions)
			return;
		if (!topic_live(topic)) {
			/* never attached, so it can be opened and deleted here */
			if (node->handles_used < HFB_PARTITIONS_MAX &&
			    hfb_partition_open(node, topic, index, node->handles_used++, &partition,
					       &err) == 0) {
				hfb_partition_close(node, partition, true);
				return;
			}
		}
	}
	node->unknown_logs_count++;
	hfb_uuid_format(&uuid, text);
	hfb_report(node, "topics/%s/%s/%u is of no topic in the catalogue: kept, not served", name,
		   text, index);
}

int
hfb_partitions_open(struct hfb_node *node, struct hfb_err *err)
{
	struct scan scan = { .node = node };
	struct hfb_partition **opened;
	uint32_t n = 0;
	int r;

	r = hfb_store_scan(node->store, scanned, &scan, err);
	if (r < 0)
		return r;
	opened = calloc(HFB_PARTITIONS_MAX, sizeof(*opened));
	if (opened == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < hfb_catalogue_count(node->catalogue); i++) {
		/* not found by any core yet, so it may be written */
		struct hfb_topic *topic =
			(struct hfb_topic *)(uintptr_t)hfb_catalogue_at(node->catalogue, i);

		if (!topic_live(topic))
			continue;
		r = handles_take(node, topic, 0, err);
		if (r < 0)
			goto out;
		for (uint32_t p = 0; p < topic->info.partitions; p++) {
			struct hfb_err why;

			if (hfb_partition_open(node, topic, p, topic->handles[p], &opened[n],
					       &why) < 0) {
				node->stats[HFB_NODE_STAT_PARTITIONS_FAILED]++;
				hfb_report(node, "%s: this partition is not served", why.text);
				continue;
			}
			n++;
		}
	}
	r = hfb_partitions_attach(node, opened, n);
	if (r < 0)
		hfb_err_set(err, r, "poll cores do not take their partitions: %s", strerror(-r));
out:
	free(opened);
	return r;
}

int
hfb_feeds_bind(struct hfb_node *node, struct hfb_err *err)
{
	const struct hfb_config *config = node->config;

	for (uint32_t i = 0; i < config->feeds_count; i++) {
		const struct hfb_feed_config *feed = &config->feeds[i];
		const struct hfb_topic *topic = hfb_catalogue_get(node->catalogue, feed->topic);
		uint32_t partitions = 1;
		int r;

		for (uint32_t j = 0; j < config->feeds_count; j++)
			if (strcmp(config->feeds[j].topic, feed->topic) == 0 &&
			    config->feeds[j].partition >= partitions)
				partitions = config->feeds[j].partition + 1;
		if (!topic_live(topic)) {
			struct hfb_ipc_topic request = {
				.partitions = partitions,
				.commit_stage = config->commit_stage,
				.retention_bytes = config->retention_bytes,
				.retention_ns = config->retention_ns,
				.flags = HFB_TOPIC_CREATED_BY_FEED,
			};

			snprintf(request.name, sizeof(request.name), "%s", feed->topic);
			r = hfb_topic_put(node, &request, &topic, err); /* binds as well */
			if (r < 0)
				return hfb_err_prefix(err, "feed %s", feed->name);
			continue;
		}
		if (feed->partition >= topic->info.partitions)
			return hfb_err_set(err, -EINVAL,
					   "feed %s wants partition %u of topic %s, which"
					   " has %u",
					   feed->name, feed->partition, feed->topic,
					   topic->info.partitions);
		r = feeds_tell(node, topic);
		if (r < 0)
			return hfb_err_set(err, r, "feed %s: poll cores do not answer: %s",
					   feed->name, strerror(-r));
	}
	return 0;
}
