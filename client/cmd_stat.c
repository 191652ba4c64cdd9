/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_stat.c - hfbus stat: counters and positions of a running hfbusd.
 *
 * All is read from memory hfbusd shares; only the node's line asks it something.
 */
#include "cli.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include <hfbus/hfbus.h>

#include "clock.h"
#include "stat_latency.h"
#include "units.h"
#include "uuid.h"

struct counter {
	char name[64];
	char labels[128];
	int gauge;
	uint64_t value;
};

struct stat_data {
	struct counter *counters;
	uint32_t count, capacity;
	bool failed;
};

static void
help(void)
{
	printf("Usage: hfbus stat [OPTION]...\n"
	       "Show counters of the running bus: cores, ports, partitions, what was dropped and "
	       "why.\n\n"
	       "  --latency      times of events from stage to stage instead: p50 to max by core\n"
	       "  --interval S   with --latency: of the next S seconds only\n"
	       "  --json         everything, for programs\n"
	       "  --data DIR     data folder of the bus\n"
	       "  --help         this text\n\n"
	       "Counters count from hfbusd's start. Exit status: 0 ok, 1 failed, 2 wrong usage.\n");
}

static void
collect(void *arg, const char *name, const char *labels, int gauge, uint64_t value)
{
	struct stat_data *d = (struct stat_data *)arg;
	struct counter *c;

	if (d->count == d->capacity) {
		uint32_t capacity = d->capacity == 0 ? 1024 : d->capacity * 2;

		c = realloc(d->counters, capacity * sizeof(*c));
		if (c == NULL) {
			d->failed = true;
			return;
		}
		d->counters = c;
		d->capacity = capacity;
	}
	c = &d->counters[d->count++];
	snprintf(c->name, sizeof(c->name), "%s", name);
	snprintf(c->labels, sizeof(c->labels), "%s", labels);
	c->gauge = gauge;
	c->value = value;
}

bool
hfb_stat_label(const char *labels, const char *key, char *to, size_t size)
{
	size_t n = strlen(key);

	for (const char *at = labels; *at != '\0';) {
		const char *end = strchr(at, ',');
		size_t length = end != NULL ? (size_t)(end - at) : strlen(at);

		if (length > n && strncmp(at, key, n) == 0 && at[n] == '=') {
			snprintf(to, size, "%.*s", (int)(length - n - 1), at + n + 1);
			return true;
		}
		at += length + (end != NULL);
	}
	return false;
}

static const char *
state_name(uint32_t state)
{
	static const char *const names[] = { "closed", "open", "no-space", "failed", "deleted" };

	return state < sizeof(names) / sizeof(names[0]) ? names[state] : "unknown";
}

/* Partitions. -------------------------------------------------------------------- */

struct mark_name {
	const char *name;
	size_t at;
};
static const struct mark_name marks[] = {
	{ "intent", offsetof(struct hfb_positions, intent) },
	{ "received", offsetof(struct hfb_positions, received) },
	{ "durable", offsetof(struct hfb_positions, durable) },
	{ "mirror_received", offsetof(struct hfb_positions, mirror_received) },
	{ "mirror_durable", offsetof(struct hfb_positions, mirror_durable) },
	{ "committed", offsetof(struct hfb_positions, committed) },
	{ "start", offsetof(struct hfb_positions, start) },
};

static const struct hfb_mark *
mark_of(const struct hfb_positions *p, size_t i)
{
	return (const struct hfb_mark *)((const char *)p + marks[i].at);
}

static uint64_t
mark_position(const struct hfb_mark *mark)
{
	return __atomic_load_n(&mark->position, __ATOMIC_ACQUIRE);
}

static bool
partition_used(const struct hfb_positions *p)
{
	return __atomic_load_n(&p->handle_used, __ATOMIC_ACQUIRE) == 1 &&
	       p->state != HFB_PARTITION_DELETED;
}

static json_t *
partition_json(const struct hfb_positions *p, uint32_t handle)
{
	json_t *positions = json_object();
	char uuid[HFB_UUID_TEXT_BYTES];

	hfb_uuid_format(&p->topic, uuid);
	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
		const struct hfb_mark *m = mark_of(p, i);
		uint64_t position = mark_position(m);

		json_object_set_new(positions, marks[i].name,
				    json_pack("{s:I,s:I}", "position", (json_int_t)position,
					      "offset", (json_int_t)m->offset));
	}
	return json_pack("{s:s,s:s,s:i,s:i,s:i,s:s,s:s,s:I,s:I,s:I,s:o}", "topic", p->topic_name,
			 "uuid", uuid, "partition", (int)p->partition, "handle", (int)handle,
			 "core", (int)p->core, "state", state_name(p->state), "commit_stage",
			 hfb_cli_stage_name(p->commit_stage), "leader_epoch",
			 (json_int_t)p->leader_epoch, "ring_bytes", (json_int_t)p->ring_bytes,
			 "segment_bytes", (json_int_t)p->segment_bytes, "positions", positions);
}

/* Output. -------------------------------------------------------------------------- */

static json_t *
labels_json(const char *labels)
{
	json_t *object = json_object();

	for (const char *at = labels; *at != '\0';) {
		const char *end = strchr(at, ','), *equals;
		size_t length = end != NULL ? (size_t)(end - at) : strlen(at);
		char key[128];

		equals = memchr(at, '=', length);
		if (equals != NULL) {
			snprintf(key, sizeof(key), "%.*s", (int)(equals - at), at);
			json_object_set_new(
				object, key,
				json_stringn(equals + 1, length - (size_t)(equals + 1 - at)));
		}
		at += length + (end != NULL);
	}
	return object;
}

static int
json_print(const struct stat_data *d, const struct hfb_ipc_node *node,
	   const struct hfb_positions *positions)
{
	json_t *root = json_object(), *counters = json_array(), *partitions = json_array();
	int r;

	json_object_set_new(
		root, "node",
		json_pack("{s:I,s:i,s:i,s:I,s:i,s:i,s:i,s:i,s:i}", "epoch",
			  (json_int_t)node->broker_epoch, "pid", (int)node->pid, "cores",
			  (int)node->cores, "started_ns", (json_int_t)node->started_ns, "topics",
			  (int)node->topics_count, "partitions", (int)node->partitions_count,
			  "ports", (int)node->ports_count, "udp_port", (int)node->udp_port_base,
			  "unknown_logs", (int)node->unknown_logs_count));
	for (uint32_t i = 0; i < d->count; i++) {
		const struct counter *c = &d->counters[i];

		json_array_append_new(counters, json_pack("{s:s,s:o,s:s,s:I}", "name", c->name,
							  "labels", labels_json(c->labels), "kind",
							  c->gauge ? "gauge" : "sum", "value",
							  (json_int_t)c->value));
	}
	json_object_set_new(root, "counters", counters);
	for (uint32_t i = 0; i < HFB_PARTITIONS_MAX; i++)
		if (partition_used(&positions[i]))
			json_array_append_new(partitions, partition_json(&positions[i], i));
	json_object_set_new(root, "partitions", partitions);
	r = json_dumpf(root, stdout, JSON_INDENT(1));
	printf("\n");
	json_decref(root);
	return r;
}

static uint64_t
value_of(const struct stat_data *d, const char *name, const char *core)
{
	uint64_t sum = 0;
	char text[16];

	for (uint32_t i = 0; i < d->count; i++)
		if (strcmp(d->counters[i].name, name) == 0 &&
		    hfb_stat_label(d->counters[i].labels, "core", text, sizeof(text)) &&
		    strcmp(text, core) == 0)
			sum += d->counters[i].value;
	return sum;
}

static void
cores_print(const struct stat_data *d, uint32_t cores)
{
	printf("\n%-5s %8s %12s %12s %12s %12s %12s %12s\n", "core", "work", "turns", "sleeps",
	       "batches", "events", "acks", "pushes");
	for (uint32_t i = 0; i < cores; i++) {
		char core[16], a[6][16], percent[16];
		uint64_t work, spin;

		snprintf(core, sizeof(core), "%u", i);
		work = value_of(d, "work_tsc_total", core);
		spin = value_of(d, "spin_tsc_total", core);
		snprintf(percent, sizeof(percent), "%.2f %%",
			 work + spin > 0 ? 100.0 * (double)work / (double)(work + spin) : 0.0);
		printf("%-5s %8s %12s %12s %12s %12s %12s %12s\n", core, percent,
		       hfb_cli_short((double)value_of(d, "turns_total", core), a[0], 16),
		       hfb_cli_short((double)value_of(d, "sleeps_total", core), a[1], 16),
		       hfb_cli_short((double)value_of(d, "append_batches_total", core), a[2], 16),
		       hfb_cli_short((double)value_of(d, "append_events_total", core), a[3], 16),
		       hfb_cli_short((double)value_of(d, "ack_frames_total", core), a[4], 16),
		       hfb_cli_short((double)value_of(d, "push_frames_total", core), a[5], 16));
	}
}

static void
partitions_print(const struct hfb_positions *positions)
{
	bool any = false;

	for (uint32_t i = 0; i < HFB_PARTITIONS_MAX; i++) {
		const struct hfb_positions *p = &positions[i];
		char name[300], lag[16];
		uint64_t received, durable;

		if (!partition_used(p))
			continue;
		if (!any)
			printf("\n%-28s %4s %-9s %-9s %12s %12s %14s %10s %8s\n", "partition",
			       "core", "state", "commit", "first offset", "next offset",
			       "committed", "not dur.", "ring");
		any = true;
		received = mark_position(&p->received);
		durable = mark_position(&p->durable);
		snprintf(name, sizeof(name), "%.240s/%u", p->topic_name, p->partition);
		printf("%-28s %4u %-9s %-9s %12" PRIu64 " %12" PRIu64 " %14" PRIu64 " %10s %6u M\n",
		       name, p->core, state_name(p->state), hfb_cli_stage_name(p->commit_stage),
		       p->start.offset, p->committed.offset, mark_position(&p->committed),
		       hfb_cli_short(received > durable ? (double)(received - durable) : 0, lag,
				     16),
		       p->ring_bytes >> 20);
	}
	if (!any)
		printf("\nno partitions\n");
}

/* Grouped by the labels that are left when core and reason are taken away. */
static void
rest_print(const struct stat_data *d)
{
	static const char *const shown[] = { "work_tsc_total",	   "spin_tsc_total",
					     "turns_total",	   "turns_worked_total",
					     "sleeps_total",	   "append_batches_total",
					     "append_events_total" };
	char before[128] = "";
	bool first = true;

	for (uint32_t i = 0; i < d->count; i++) {
		const struct counter *c = &d->counters[i];
		char value[32], who[128], reason[64] = "";
		bool skip = c->value == 0;

		for (size_t k = 0; k < sizeof(shown) / sizeof(shown[0]); k++)
			skip |= strcmp(c->name, shown[k]) == 0;
		if (skip)
			continue;
		snprintf(who, sizeof(who), "%s", c->labels);
		if (hfb_stat_label(c->labels, "reason", reason, sizeof(reason))) {
			char *at = strstr(who, "reason=");

			if (at != NULL)
				*(at > who ? at - 1 : at) = '\0';
		}
		if (first || strcmp(who, before) != 0)
			printf("\n%s\n", *who ? who : "node");
		first = false;
		memcpy(before, who, sizeof(before));
		snprintf(value, sizeof(value), "%" PRIu64, c->value);
		printf("  %-28s %-20s %16s\n", c->name, reason, value);
	}
}

static void
table_print(const struct stat_data *d, const struct hfb_ipc_node *node, struct hfb_bus *bus)
{
	char started[40];

	hfb_clock_format(node->started_ns, started, sizeof(started));
	printf("hfbusd %u, epoch %" PRIu64 ", since %s\n%s\n%u cores, %u ports, %u topics, %u "
	       "partitions, UDP port %u\n",
	       node->pid, node->broker_epoch, started, hfb_bus_data_dir(bus), node->cores,
	       node->ports_count, node->topics_count, node->partitions_count, node->udp_port_base);
	if (node->unknown_logs_count > 0)
		printf("%u logs on disk belong to no topic: kept, see hfbusd's log\n",
		       node->unknown_logs_count);
	cores_print(d, node->cores);
	partitions_print(hfb_admin_positions(bus));
	rest_print(d);
}

struct stat_options {
	struct hfb_bus_config bus;
	bool json, latency;
	uint64_t interval_ns;
};

static const struct option options[] = {
	{ "latency", no_argument, NULL, 'l' }, { "interval", required_argument, NULL, 'i' },
	{ "json", no_argument, NULL, 'j' },    { "data", required_argument, NULL, 'd' },
	{ "help", no_argument, NULL, 'h' },    { NULL, 0, NULL, 0 },
};

/* An exit code, or HFB_CLI_GO_ON. */
static int
read_options(int argc, char **argv, struct stat_options *o)
{
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (c) {
		case 'l':
			o->latency = true;
			break;
		case 'i':
			if (hfb_duration_parse(optarg, &o->interval_ns) < 0 || o->interval_ns == 0)
				return hfb_cli_usage("stat", "--interval takes a time like 10s");
			break;
		case 'j':
			o->json = true;
			break;
		case 'd':
			o->bus.data_dir = optarg;
			break;
		case 'h':
			help();
			return fflush(stdout) == 0 ? HFB_EXIT_OK : HFB_EXIT_FAILED;
		default:
			return hfb_cli_usage("stat", "wrong option");
		}
	}
	if (optind != argc)
		return hfb_cli_usage("stat", "no arguments are needed, but '%s' was given",
				     argv[optind]);
	if (o->interval_ns != 0 && !o->latency)
		return hfb_cli_usage("stat", "--interval goes with --latency");
	return HFB_CLI_GO_ON;
}

int
hfb_cmd_stat(int argc, char **argv)
{
	struct stat_options o = { 0 };
	struct stat_data d = { 0 };
	struct hfb_ipc_node node = { 0 };
	struct hfb_bus *bus = NULL;
	struct hfb_err err = { 0 };
	int r;

	r = read_options(argc, argv, &o);
	if (r != HFB_CLI_GO_ON)
		return r;
	r = hfb_bus_open(&o.bus, &bus, &err);
	if (r == 0)
		r = hfb_admin_node_get(bus, &node, &err);
	if (r < 0) {
		hfb_bus_close(bus);
		return hfb_cli_fail("stat", &err);
	}
	if (o.latency) {
		r = hfb_stat_latency(bus, o.interval_ns, o.json);
		hfb_bus_close(bus);
		return r;
	}
	hfb_admin_counters_each(bus, collect, &d);
	if (o.json)
		r = json_print(&d, &node, hfb_admin_positions(bus));
	else
		table_print(&d, &node, bus);
	free(d.counters);
	hfb_bus_close(bus);
	if (d.failed || r < 0 || fflush(stdout) != 0)
		return HFB_EXIT_FAILED;
	return HFB_EXIT_OK;
}
