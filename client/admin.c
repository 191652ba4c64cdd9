/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin.c - the catalogue and the figures, asked on hfbusd's socket.
 */
#include <hfbus/admin.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "connection.h"

static int
ready(struct hfb_bus *bus, struct hfb_err *err)
{
	int r;

	bus->checked_ns = 0; /* look now: a caller has come for an answer */
	r = hfb_connection_check(bus, hfb_now_ns(), err);
	return r == -ETIMEDOUT ? -ENOTCONN : r;
}

static int
name_check(const char *name, struct hfb_err *err)
{
	size_t n = strlen(name);

	if (n < 1 || n > HFB_TOPIC_NAME_MAX)
		return hfb_err_set(err, -EINVAL, "a topic's name has 1 to %u bytes",
				   HFB_TOPIC_NAME_MAX);
	return 0;
}

int
hfb_admin_topic_get(struct hfb_bus *bus, const char *name, struct hfb_ipc_topic *ret_topic,
		    struct hfb_err *err)
{
	uint8_t bytes[HFB_IPC_BYTES_MAX - sizeof(struct hfb_ipc)];
	struct hfb_ipc_topic_get ask = { .first_partition = 0 };
	struct hfb_ipc_topic_answer answer;
	size_t size = sizeof(bytes);
	int r;

	r = name_check(name, err);
	if (r == 0)
		r = ready(bus, err);
	if (r < 0)
		return r;
	if (!bus->local) {
		struct hfb_partition_address address;

		r = hfb_connection_resolve(bus, name, 0, &address, err);
		if (r < 0)
			return r;
		memset(ret_topic, 0, sizeof(*ret_topic));
		memcpy(ret_topic->name, name, strlen(name) + 1);
		ret_topic->uuid = address.topic;
		ret_topic->partitions = address.partitions;
		ret_topic->commit_stage = address.commit_stage;
		return 0;
	}
	memcpy(ask.name, name, strlen(name) + 1);
	r = hfb_connection_ask(bus, HFB_IPC_TOPIC_GET, &ask, sizeof(ask), bytes, &size, NULL, 0,
			       NULL, err);
	if (r < 0)
		return r;
	if (size < sizeof(answer))
		return hfb_err_set(err, -EPROTO, "hfbusd's answer about topic %s is too short",
				   name);
	memcpy(&answer, bytes, sizeof(answer));
	*ret_topic = answer.topic;
	ret_topic->name[sizeof(ret_topic->name) - 1] = '\0';
	return 0;
}

int
hfb_admin_partitions_get(struct hfb_bus *bus, const char *name, uint32_t first,
			 struct hfb_ipc_partition *ret_partitions, uint32_t count,
			 struct hfb_err *err)
{
	uint8_t bytes[HFB_IPC_BYTES_MAX - sizeof(struct hfb_ipc)];
	struct hfb_ipc_topic_answer answer;
	uint32_t got = 0;
	int r;

	r = name_check(name, err);
	if (r == 0)
		r = ready(bus, err);
	if (r < 0)
		return r;
	while (got < count) {
		struct hfb_ipc_topic_get ask = { .first_partition = first + got };
		size_t size = sizeof(bytes);
		uint32_t n;

		memcpy(ask.name, name, strlen(name) + 1);
		r = hfb_connection_ask(bus, HFB_IPC_TOPIC_GET, &ask, sizeof(ask), bytes, &size,
				       NULL, 0, NULL, err);
		if (r < 0)
			return r;
		if (size < sizeof(answer))
			return hfb_err_set(err, -EPROTO,
					   "hfbusd's answer about topic %s is too "
					   "short",
					   name);
		memcpy(&answer, bytes, sizeof(answer));
		n = answer.count;
		if (n > (size - sizeof(answer)) / sizeof(*ret_partitions))
			n = (uint32_t)((size - sizeof(answer)) / sizeof(*ret_partitions));
		if (n > count - got)
			n = count - got;
		if (n == 0 || answer.first_partition != first + got)
			break;
		memcpy(ret_partitions + got, bytes + sizeof(answer), n * sizeof(*ret_partitions));
		got += n;
	}
	return (int)got;
}

int
hfb_admin_topics_list(struct hfb_bus *bus, const char *after, struct hfb_ipc_topic *ret_topics,
		      uint32_t max, struct hfb_err *err)
{
	uint8_t bytes[HFB_IPC_BYTES_MAX - sizeof(struct hfb_ipc)];
	struct hfb_ipc_cursor ask;
	struct hfb_ipc_list list;
	size_t size = sizeof(bytes);
	uint32_t n;
	int r;

	r = ready(bus, err);
	if (r < 0)
		return r;
	memset(&ask, 0, sizeof(ask));
	strncpy(ask.after, after, sizeof(ask.after) - 1);
	r = hfb_connection_ask(bus, HFB_IPC_TOPIC_LIST, &ask, sizeof(ask), bytes, &size, NULL, 0,
			       NULL, err);
	if (r < 0)
		return r;
	if (size < sizeof(list))
		return hfb_err_set(err, -EPROTO, "hfbusd's list of topics is too short");
	memcpy(&list, bytes, sizeof(list));
	n = list.count;
	if (n > (size - sizeof(list)) / sizeof(*ret_topics))
		n = (uint32_t)((size - sizeof(list)) / sizeof(*ret_topics));
	if (n > max)
		n = max;
	memcpy(ret_topics, bytes + sizeof(list), n * sizeof(*ret_topics));
	for (uint32_t i = 0; i < n; i++)
		ret_topics[i].name[sizeof(ret_topics[i].name) - 1] = '\0';
	return (int)n;
}

int
hfb_admin_topic_put(struct hfb_bus *bus, struct hfb_ipc_topic *topic, struct hfb_err *err)
{
	uint8_t bytes[HFB_IPC_BYTES_MAX - sizeof(struct hfb_ipc)];
	size_t size = sizeof(bytes);
	int r;

	r = ready(bus, err);
	if (r < 0)
		return r;
	r = hfb_connection_ask(bus, HFB_IPC_TOPIC_PUT, topic, sizeof(*topic), bytes, &size, NULL, 0,
			       NULL, err);
	if (r < 0)
		return r;
	if (size < sizeof(*topic))
		return hfb_err_set(err, -EPROTO, "hfbusd's answer about topic %s is too short",
				   topic->name);
	memcpy(topic, bytes, sizeof(*topic));
	topic->name[sizeof(topic->name) - 1] = '\0';
	return 0;
}

int
hfb_admin_node_get(struct hfb_bus *bus, struct hfb_ipc_node *ret_node, struct hfb_err *err)
{
	struct hfb_ipc_node node;
	size_t size = sizeof(node);
	int r;

	r = ready(bus, err);
	if (r < 0)
		return r;
	r = hfb_connection_ask(bus, HFB_IPC_NODE, NULL, 0, &node, &size, NULL, 0, NULL, err);
	if (r < 0)
		return r;
	if (size < sizeof(node))
		return hfb_err_set(err, -EPROTO, "hfbusd's answer about itself is too short");
	*ret_node = node;
	return 0;
}

const struct hfb_positions *
hfb_admin_positions(const struct hfb_bus *bus)
{
	return bus->positions;
}

struct each_counter {
	void (*each)(void *arg, const char *name, const char *labels, int gauge, uint64_t value);
	void *arg;
};

static void
each_counter(void *arg, const struct hfb_counter_descriptor *d, uint64_t value)
{
	struct each_counter *e = (struct each_counter *)arg;
	char name[sizeof(d->name) + 1], labels[sizeof(d->labels) + 1];

	memcpy(name, d->name, sizeof(d->name));
	name[sizeof(d->name)] = '\0';
	memcpy(labels, d->labels, sizeof(d->labels));
	labels[sizeof(d->labels)] = '\0';
	e->each(e->arg, name, labels, d->kind == HFB_COUNTER_GAUGE, value);
}

int
hfb_admin_counters_each(struct hfb_bus *bus,
			void (*each)(void *arg, const char *name, const char *labels, int gauge,
				     uint64_t value),
			void *arg)
{
	struct each_counter e = { each, arg };

	if (bus->counters.header == NULL)
		return -EOPNOTSUPP;
	return (int)hfb_counters_each(&bus->counters, each_counter, &e);
}

struct each_histogram {
	void (*each)(void *arg, const char *name, const char *labels, const char *unit,
		     const struct hfb_histogram *h);
	void *arg;
};

static void
each_histogram(void *arg, const struct hfb_histogram_descriptor *d, const struct hfb_histogram *h)
{
	const struct each_histogram *e = (const struct each_histogram *)arg;

	e->each(e->arg, d->name, d->labels, d->unit, h);
}

int
hfb_admin_histograms_each(struct hfb_bus *bus,
			  void (*each)(void *arg, const char *name, const char *labels,
				       const char *unit, const struct hfb_histogram *h),
			  void *arg)
{
	struct each_histogram e = { each, arg };

	if (bus->counters.header == NULL)
		return -EOPNOTSUPP;
	return (int)hfb_counters_histograms_each(&bus->counters, each_histogram, &e);
}
