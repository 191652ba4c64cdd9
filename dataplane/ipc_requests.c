/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ipc_requests.c - one function a type of request. Bodies are copied before they are
 * looked at and must have their size exactly.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <hfbus/wire.h>

#include "catalogue.h"
#include "clock.h"
#include "command.h"
#include "config.h"
#include "idle.h"
#include "ipc_server.h"
#include "local.h"
#include "partitions.h"
#include "uuid.h"

#define BODY_BYTES_MAX (HFB_IPC_BYTES_MAX - sizeof(struct hfb_ipc))

struct request {
	struct hfb_node *node;
	struct hfb_ipc_client *client;
	const void *body;
	struct hfb_ipc_answer *answer;
	struct hfb_err *err;
};

static void
body_set(struct request *request, const void *body, size_t size)
{
	memcpy(request->answer->body, body, size);
	request->answer->body_bytes = (uint32_t)size;
}

static int
on_hello(struct request *request)
{
	struct hfb_node *node = request->node;
	struct hfb_ipc_welcome welcome = {
		.broker_epoch = node->broker_epoch,
		.pid = (uint32_t)getpid(),
		.cores = node->cores_count,
		.positions_bytes = (uint64_t)HFB_PARTITIONS_MAX * sizeof(struct hfb_positions),
		.tsc_hz = hfb_clock_tsc_hz(),
	};
	char path[sizeof(node->config->data_dir) + 16];
	struct stat stat;
	int counters;

	/* opened anew, for reading only: ours is writable */
	snprintf(path, sizeof(path), "%s/counters", node->config->data_dir);
	counters = open(path, O_RDONLY | O_CLOEXEC);
	if (counters < 0 || fstat(counters, &stat) < 0) {
		int r = hfb_err_set(request->err, -errno, "the counters '%s': %s", path,
				    strerror(errno));

		if (counters >= 0)
			close(counters);
		return r;
	}
	welcome.counters_bytes = (uint64_t)stat.st_size;
	request->answer->fds[0] = fcntl(node->positions_fd, F_DUPFD_CLOEXEC, 3);
	request->answer->fds[1] = counters;
	if (request->answer->fds[0] < 0) {
		close(counters);
		return hfb_err_set(request->err, -errno, "no descriptors are left: %s",
				   strerror(errno));
	}
	request->answer->fds_count = 2;
	request->answer->fds_owned = true;
	body_set(request, &welcome, sizeof(welcome));
	return 0;
}

static int
on_node(struct request *request)
{
	struct hfb_node *node = request->node;
	struct hfb_ipc_node about = {
		.broker_epoch = node->broker_epoch,
		.pid = (uint32_t)getpid(),
		.cores = node->cores_count,
		.started_ns = node->started_ns,
		.partitions_count = node->partitions_count,
		.udp_port_base = node->config->udp_port,
		.ports_count = (uint16_t)node->ports_count,
		.unknown_logs_count = node->unknown_logs_count,
	};

	for (uint32_t i = 0; i < hfb_catalogue_count(node->catalogue); i++)
		about.topics_count +=
			(hfb_catalogue_at(node->catalogue, i)->info.flags & HFB_TOPIC_DELETED) == 0;
	body_set(request, &about, sizeof(about));
	return 0;
}

/* A publisher came for a topic that is not there. NULL: it is to be made by an operator. */
static const struct hfb_topic *
topic_auto_create(struct request *request, const char *name)
{
	const struct hfb_config *config = request->node->config;
	const struct hfb_topic *topic = NULL;
	struct hfb_ipc_topic make = {
		.partitions = config->auto_create_partitions,
		.commit_stage = config->commit_stage,
		.retention_bytes = config->retention_bytes,
		.retention_ns = config->retention_ns,
	};

	if (config->auto_create_partitions == 0 ||
	    strncmp(name, HFB_TOPIC_INTERNAL_PREFIX, strlen(HFB_TOPIC_INTERNAL_PREFIX)) == 0)
		return NULL;
	snprintf(make.name, sizeof(make.name), "%s", name);
	if (hfb_topic_put(request->node, &make, &topic, request->err) < 0) {
		hfb_report(request->node, "topic %s is not made for its publisher: %s", name,
			   request->err->text);
		return NULL;
	}
	return topic;
}

static int
on_topic_get(struct request *request)
{
	const struct hfb_node *node = request->node;
	const struct hfb_ipc_topic_get *ask = request->body;
	struct hfb_ipc_topic_answer head = { .first_partition = ask->first_partition };
	struct hfb_ipc_partition *entries = (void *)(request->answer->body + sizeof(head));
	const struct hfb_topic *topic;

	/* refused before it is put in a sentence */
	if (hfb_topic_name_check(ask->name, strnlen(ask->name, sizeof(ask->name))) < 0)
		return hfb_err_set(request->err, -EINVAL,
				   "a topic's name has 1 to %u letters, digits,"
				   " '.', '_' or '-'",
				   HFB_TOPIC_NAME_MAX);
	topic = hfb_catalogue_find(node->catalogue, ask->name, (uint32_t)strlen(ask->name));
	if (topic == NULL && (ask->flags & HFB_TOPIC_GET_CREATE) != 0)
		topic = topic_auto_create(request, ask->name);
	if (topic == NULL)
		return hfb_err_set(request->err, -ENOENT, "there is no topic '%s'", ask->name);
	if (ask->first_partition >= topic->info.partitions)
		return hfb_err_set(request->err, -EINVAL,
				   "topic %s has %" PRIu32 " partitions, from 0", topic->info.name,
				   topic->info.partitions);
	head.topic = topic->info;
	head.count = topic->info.partitions - ask->first_partition;
	if (head.count > HFB_IPC_PARTITIONS_PAGE)
		head.count = HFB_IPC_PARTITIONS_PAGE;
	for (uint32_t i = 0; i < head.count; i++) {
		uint32_t handle = topic->handles[ask->first_partition + i];
		const struct hfb_partition *partition = hfb_partition_get(request->node, handle);

		entries[i] = (struct hfb_ipc_partition){ .handle = handle };
		if (partition != NULL) {
			entries[i].core = partition->core;
			entries[i].udp_port = (uint16_t)(node->config->udp_port + partition->core);
		}
	}
	memcpy(request->answer->body, &head, sizeof(head));
	request->answer->body_bytes = (uint32_t)(sizeof(head) + head.count * sizeof(entries[0]));
	return 0;
}

/* Tombstones are listed too: the control plane must see that a name is gone. */
static int
on_topic_list(struct request *request)
{
	const struct hfb_catalogue *catalogue = request->node->catalogue;
	const struct hfb_ipc_cursor *cursor = request->body;
	struct hfb_ipc_list list = { 0 };
	struct hfb_ipc_topic *topics = (void *)(request->answer->body + sizeof(list));
	const uint32_t max = (BODY_BYTES_MAX - sizeof(list)) / sizeof(*topics);
	uint32_t low = 0, high = hfb_catalogue_count(catalogue);

	if (memchr(cursor->after, '\0', sizeof(cursor->after)) == NULL)
		return hfb_err_set(request->err, -EINVAL, "the cursor's name does not end");
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (strcmp(hfb_catalogue_at(catalogue, middle)->info.name, cursor->after) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < hfb_catalogue_count(catalogue); low++) {
		if (list.count == max) {
			list.more = 1;
			break;
		}
		topics[list.count++] = hfb_catalogue_at(catalogue, low)->info;
	}
	memcpy(request->answer->body, &list, sizeof(list));
	request->answer->body_bytes = (uint32_t)(sizeof(list) + list.count * sizeof(*topics));
	return 0;
}

static int
on_topic_put(struct request *request)
{
	struct hfb_ipc_topic ask;
	const struct hfb_topic *topic;
	int r;

	memcpy(&ask, request->body, sizeof(ask));
	r = hfb_topic_put(request->node, &ask, &topic, request->err);
	if (r < 0)
		return r;
	body_set(request, &topic->info, sizeof(topic->info));
	return 0;
}

static int
partition_of(struct request *request, uint32_t handle, struct hfb_partition **ret_partition)
{
	*ret_partition = hfb_partition_get(request->node, handle);
	if (*ret_partition == NULL)
		return hfb_err_set(request->err, -ENOENT,
				   "there is no partition with handle %" PRIu32
				   " in this run of hfbusd",
				   handle);
	return 0;
}

static int
on_ring_get(struct request *request)
{
	const struct hfb_ipc_handle *ask = request->body;
	struct hfb_ipc_ring ring = { .handle = ask->handle };
	struct hfb_partition *partition;
	int fd, r;

	r = partition_of(request, ask->handle, &partition);
	if (r < 0)
		return r;
	fd = hfb_log_ring_fd(partition->log, &ring.generation, &ring.ring_bytes);
	if (fd < 0)
		return hfb_err_set(request->err, -ENFILE,
				   "the limit of open files leaves no descriptor for this"
				   " partition's ring: its files are read instead");
	/* a copy: the log may change its ring while the answer waits */
	request->answer->fds[0] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (request->answer->fds[0] < 0)
		return hfb_err_set(request->err, -errno, "no descriptors are left: %s",
				   strerror(errno));
	request->answer->fds_count = 1;
	request->answer->fds_owned = true;
	body_set(request, &ring, sizeof(ring));
	return 0;
}

static int
on_segment_get(struct request *request)
{
	const struct hfb_ipc_read *ask = request->body;
	struct hfb_ipc_segment segment = { .handle = ask->handle };
	struct hfb_segment_info info = { 0 };
	struct hfb_partition *partition;
	int fd, r;

	r = partition_of(request, ask->handle, &partition);
	if (r < 0)
		return r;
	fd = hfb_log_segment_open(partition->log, ask->position, &info);
	if (fd < 0)
		return hfb_err_set(
			request->err, fd,
			"no segment file of %s partition %" PRIu32 " holds position %" PRIu64,
			partition->positions->topic_name, partition->index, ask->position);
	segment.kind = info.kind;
	segment.base_position = info.base_position;
	segment.capacity_bytes = info.capacity_bytes;
	segment.end_position = info.end_position;
	segment.base_offset = info.base_offset;
	memcpy(segment.path, info.path, sizeof(segment.path));
	segment.path[sizeof(segment.path) - 1] = '\0';
	request->answer->fds[0] = fd;
	request->answer->fds_count = 1;
	request->answer->fds_owned = true;
	body_set(request, &segment, sizeof(segment));
	return 0;
}

static struct hfb_place
place_of_mark(const struct hfb_positions *positions, const struct hfb_mark *mark)
{
	/* the offset after the position: then it is this one's or a later one's, see shm.h */
	uint64_t position = __atomic_load_n(&mark->position, __ATOMIC_ACQUIRE);

	return (struct hfb_place){
		.leader_epoch = __atomic_load_n(&positions->leader_epoch, __ATOMIC_RELAXED),
		.offset = __atomic_load_n(&mark->offset, __ATOMIC_RELAXED),
		.position = position,
	};
}

static int
on_lookup(struct request *request)
{
	const struct hfb_ipc_lookup *ask = request->body;
	struct hfb_ipc_place_answer found = { .code = HFB_WIRE_OK };
	struct hfb_partition *partition;
	int r;

	r = partition_of(request, ask->handle, &partition);
	if (r < 0)
		return r;
	r = hfb_log_lookup(partition->log, ask->from, ask->leader_epoch, ask->value, &found.place);
	switch (r) {
	case 0:
		break;
	case -ESTALE:
		found.code = HFB_WIRE_TRUNCATED;
		break;
	case -ENODATA:
		found.code = HFB_WIRE_BELOW_START;
		found.place = place_of_mark(partition->positions, &partition->positions->start);
		break;
	case -ERANGE:
		found.code = HFB_WIRE_AT_END;
		found.place = place_of_mark(partition->positions, &partition->positions->committed);
		break;
	default:
		return hfb_err_set(request->err, r,
				   "%s partition %" PRIu32 ": looking up %" PRIu64 ": %s",
				   partition->positions->topic_name, partition->index, ask->value,
				   strerror(-r));
	}
	body_set(request, &found, sizeof(found));
	return 0;
}

/* The helper does it; who asks comes again until it is done. */
static int
on_trim(struct request *request)
{
	const struct hfb_ipc_trim *ask = request->body;
	struct hfb_ipc_trim_answer answer = { 0 };
	struct hfb_partition *partition;
	const struct hfb_topic *topic;
	bool done = false;
	int r;

	if (hfb_topic_name_check(ask->name, strnlen(ask->name, sizeof(ask->name))) < 0)
		return hfb_err_set(request->err, -EINVAL, "a trim needs a topic's name");
	topic = hfb_catalogue_find(request->node->catalogue, ask->name,
				   (uint32_t)strlen(ask->name));
	if (topic == NULL)
		return hfb_err_set(request->err, -ENOENT, "there is no topic '%s'", ask->name);
	if (ask->partition >= topic->info.partitions)
		return hfb_err_set(request->err, -EINVAL,
				   "topic %s has %" PRIu32 " partitions, from 0", topic->info.name,
				   topic->info.partitions);
	r = partition_of(request, topic->handles[ask->partition], &partition);
	if (r == 0) {
		r = hfb_log_trim(partition->log, ask->before, &done, request->err);
		if (r < 0)
			hfb_err_prefix(request->err, "topic %s partition %" PRIu32, ask->name,
				       ask->partition);
	}
	if (r < 0)
		return r;
	answer.start_position =
		__atomic_load_n(&partition->positions->start.position, __ATOMIC_ACQUIRE);
	answer.start_offset =
		__atomic_load_n(&partition->positions->start.offset, __ATOMIC_RELAXED);
	answer.done = done;
	body_set(request, &answer, sizeof(answer));
	return 0;
}

/* Channels ----------------------------------------------------------------- */

static int
on_channel_open(struct request *request)
{
	const struct hfb_ipc_channel_open *ask = request->body;
	struct hfb_command command = { .type = HFB_COMMAND_LOCAL_ADD };
	struct hfb_ipc_client *client = request->client;
	struct hfb_node *node = request->node;
	struct hfb_ipc_channel opened;
	struct hfb_local *local;
	uint64_t number;
	int r;

	if (ask->core >= node->cores_count)
		return hfb_err_set(request->err, -EINVAL,
				   "there is no poll core %" PRIu32 ", there are %" PRIu32,
				   ask->core, node->cores_count);
	if (client->channels_count == HFB_IPC_CHANNELS_MAX)
		return hfb_err_set(request->err, -EMFILE, "a client may have %u channels",
				   HFB_IPC_CHANNELS_MAX);
	hfb_random(&number, sizeof(number));
	number = (number >> 8) | (uint64_t)ask->core << 56;
	r = hfb_local_create((uint16_t)ask->core, number, (uint32_t)node->config->local_ring_bytes,
			     &local, request->err);
	if (r < 0)
		return r;
	request->answer->fds[0] = fcntl(local->memfd, F_DUPFD_CLOEXEC, 3);
	request->answer->fds[1] = fcntl(local->event_fd, F_DUPFD_CLOEXEC, 3);
	if (request->answer->fds[0] < 0 || request->answer->fds[1] < 0) {
		r = hfb_err_set(request->err, -errno, "no descriptors are left: %s",
				strerror(errno));
		goto fail_fds;
	}
	r = hfb_idle_watch(node->cores[ask->core], local->event_fd);
	if (r < 0) {
		hfb_err_set(request->err, r, "epoll: %s", strerror(-r));
		goto fail_fds;
	}
	command.object = local;
	r = hfb_command_run(node, (uint16_t)ask->core, &command);
	if (r < 0) {
		hfb_idle_unwatch(node->cores[ask->core], local->event_fd);
		if (r == -ENOSPC)
			hfb_err_set(request->err, r,
				    "poll core %" PRIu32 " has no room for another"
				    " local client: see limits.local-clients and limits.sessions",
				    ask->core);
		else
			hfb_err_set(request->err, r, "poll core %" PRIu32 " does not answer: %s",
				    ask->core, strerror(-r));
		if (r == -ETIMEDOUT)
			local = NULL; /* the core may still take it */
		goto fail_fds;
	}
	client->channels[client->channels_count++] = local;
	opened = (struct hfb_ipc_channel){ .session = number, .bytes = local->map_bytes };
	request->answer->fds_count = 2;
	request->answer->fds_owned = true;
	body_set(request, &opened, sizeof(opened));
	return 0;

fail_fds:
	if (request->answer->fds[0] >= 0)
		close(request->answer->fds[0]);
	if (request->answer->fds[1] >= 0)
		close(request->answer->fds[1]);
	hfb_local_destroy(local);
	return r;
}

/* The core first, then the memory: it never touches what is gone. */
static void
channel_end(struct hfb_node *node, struct hfb_local *local)
{
	struct hfb_command command = { .type = HFB_COMMAND_LOCAL_REMOVE, .object = local };
	int r;

	hfb_idle_unwatch(node->cores[local->core], local->event_fd);
	r = hfb_command_run(node, local->core, &command);
	if (r < 0)
		hfb_report(node, "poll core %u does not let a local client go: %s", local->core,
			   strerror(-r));
	else
		hfb_local_destroy(local);
}

void
hfb_ipc_channels_end(struct hfb_node *node, struct hfb_ipc_client *client)
{
	while (client->channels_count > 0)
		channel_end(node, client->channels[--client->channels_count]);
}

static int
on_channel_close(struct request *request)
{
	const struct hfb_ipc_channel_open *ask = request->body;
	struct hfb_ipc_client *client = request->client;

	for (uint32_t i = 0; i < client->channels_count; i++) {
		struct hfb_local *local = client->channels[i];

		if (local->number != ask->session)
			continue;
		client->channels[i] = client->channels[--client->channels_count];
		channel_end(request->node, local);
		return 0;
	}
	return hfb_err_set(request->err, -ENOENT,
			   "this client has no channel with session %016" PRIx64, ask->session);
}

/* -------------------------------------------------------------------------- */

int
hfb_ipc_request(struct hfb_node *node, struct hfb_ipc_client *client, uint16_t type,
		const void *body, uint32_t body_bytes, struct hfb_ipc_answer *ret_answer,
		struct hfb_err *err)
{
	static const struct {
		const char *name;
		uint32_t body_bytes;
		int (*carry_out)(struct request *request);
	} types[] = {
		[HFB_IPC_HELLO] = { "HELLO", 0, on_hello },
		[HFB_IPC_TOPIC_GET] = { "TOPIC_GET", sizeof(struct hfb_ipc_topic_get),
					on_topic_get },
		[HFB_IPC_TOPIC_LIST] = { "TOPIC_LIST", sizeof(struct hfb_ipc_cursor),
					 on_topic_list },
		[HFB_IPC_TOPIC_PUT] = { "TOPIC_PUT", sizeof(struct hfb_ipc_topic), on_topic_put },
		[HFB_IPC_RING_GET] = { "RING_GET", sizeof(struct hfb_ipc_handle), on_ring_get },
		[HFB_IPC_SEGMENT_GET] = { "SEGMENT_GET", sizeof(struct hfb_ipc_read),
					  on_segment_get },
		[HFB_IPC_LOOKUP] = { "LOOKUP", sizeof(struct hfb_ipc_lookup), on_lookup },
		[HFB_IPC_CHANNEL_OPEN] = { "CHANNEL_OPEN", sizeof(struct hfb_ipc_channel_open),
					   on_channel_open },
		[HFB_IPC_CHANNEL_CLOSE] = { "CHANNEL_CLOSE", sizeof(struct hfb_ipc_channel_open),
					    on_channel_close },
		[HFB_IPC_NODE] = { "NODE", 0, on_node },
		[HFB_IPC_TRIM] = { "TRIM", sizeof(struct hfb_ipc_trim), on_trim },
	};
	/* the largest body of a request; aligned for the structs in it */
	uint64_t copy[(sizeof(struct hfb_ipc_topic) + 7) / 8];
	struct request request = {
		.node = node,
		.client = client,
		.body = copy,
		.answer = ret_answer,
		.err = err,
	};

	if (type >= sizeof(types) / sizeof(types[0]) || types[type].carry_out == NULL)
		return hfb_err_set(err, -EOPNOTSUPP, "hfbusd knows no request of type %u", type);
	if (body_bytes != types[type].body_bytes)
		return hfb_err_set(err, -EINVAL, "a %s has %u bytes after its head, not %u",
				   types[type].name, types[type].body_bytes, body_bytes);
	_Static_assert(sizeof(copy) >= sizeof(struct hfb_ipc_lookup), "bodies");
	_Static_assert(sizeof(copy) >= sizeof(struct hfb_ipc_topic_get), "bodies");
	memcpy(copy, body, body_bytes);
	return types[type].carry_out(&request);
}
