/* SPDX-License-Identifier: Apache-2.0 */
#include "plan.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

#include <jansson.h>

#include <hfbus/shm.h>

#include "catalogue.h"
#include "core.h"
#include "local.h"
#include "port.h"
#include "store.h"

/* What one entry of a table costs, rounded up: the tables belong to session.c and ack.c. */
#define SESSION_BYTES	   512u
#define SUBSCRIPTION_BYTES 256u
#define PRODUCER_BYTES	   1024u
#define SEGMENTS_AHEAD	   2u
#define SEGMENT_GROWTH	   4u /* of each segment over the one before */

static void
topic_count(struct hfb_plan *plan, uint32_t partitions, uint64_t ring, uint64_t segment,
	    uint64_t retention)
{
	const struct hfb_config *config = plan->config;

	if (ring == 0)
		ring = config->ring_bytes;
	if (segment == 0)
		segment = config->segment_bytes;
	plan->topics++;
	plan->partitions += partitions;
	plan->rings_bytes_max += partitions * ring;
	/* Segments grow with use: a partition with a few events has a small one, and the next. */
	plan->segments_bytes_min +=
		(uint64_t)partitions * HFB_SEGMENT_BYTES_FIRST * (1 + SEGMENT_GROWTH);
	plan->segments_bytes_ahead += (uint64_t)partitions * SEGMENTS_AHEAD * segment;
	if (retention == 0)
		plan->unbounded = true;
	plan->retention_bytes += partitions * retention;
}

static int
topics_count(struct hfb_plan *plan, struct hfb_err *err)
{
	const struct hfb_config *config = plan->config;
	char path[sizeof(config->data_dir) + 16];
	struct hfb_catalogue *catalogue;
	int r;

	snprintf(path, sizeof(path), "%s/catalogue", config->data_dir);
	r = hfb_catalogue_open(path, &catalogue, err);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < hfb_catalogue_count(catalogue); i++) {
		const struct hfb_ipc_topic *info = &hfb_catalogue_at(catalogue, i)->info;

		if ((info->flags & HFB_TOPIC_DELETED) == 0)
			topic_count(plan, info->partitions, info->ring_bytes, info->segment_bytes,
				    info->retention_bytes);
	}
	for (uint32_t i = 0; i < config->feeds_count; i++) {
		const char *name = config->feeds[i].topic;
		uint32_t partitions = config->feeds[i].partition + 1;
		bool known = hfb_catalogue_find(catalogue, name, (uint32_t)strlen(name)) != NULL;

		for (uint32_t j = 0; j < config->feeds_count; j++)
			if (j != i && strcmp(config->feeds[j].topic, name) == 0) {
				known |= j < i;
				if (config->feeds[j].partition >= partitions)
					partitions = config->feeds[j].partition + 1;
			}
		if (!known)
			topic_count(plan, partitions, 0, 0, config->retention_bytes);
	}
	hfb_catalogue_close(catalogue);
	return 0;
}

/* Free bytes of the file system DATA is on, or will be. */
static uint64_t
disk_free(const char *data_dir)
{
	char path[4096];
	struct statvfs info;
	char *slash;

	snprintf(path, sizeof(path), "%s", data_dir);
	while (statvfs(path, &info) < 0) {
		slash = strrchr(path, '/');
		if (errno != ENOENT || slash == NULL || slash == path)
			return statvfs(slash == NULL ? "." : "/", &info) == 0
				       ? (uint64_t)info.f_bavail * info.f_frsize
				       : 0;
		*slash = '\0';
	}
	return (uint64_t)info.f_bavail * info.f_frsize;
}

int
hfb_plan_make(const struct hfb_config *config, struct hfb_plan *ret_plan, struct hfb_err *err)
{
	struct hfb_plan plan = { .config = config };
	struct rlimit memlock;
	int r;

	hfb_eal_plan(config, &plan.eal);
	r = topics_count(&plan, err);
	if (r < 0)
		return r;
	plan.dpdk_bytes = (uint64_t)plan.eal.memory_mib * HFB_MIB;
	plan.rings_bytes_min = (uint64_t)plan.partitions * 4096;
	plan.locals_bytes_max = (uint64_t)config->cores_count * config->locals_max *
				(config->local_ring_bytes + HFB_LOCAL_TO_CLIENT_BYTES + 4096);
	plan.tables_bytes =
		(uint64_t)config->cores_count *
		(sizeof(struct hfb_core) + (uint64_t)config->sessions_max * SESSION_BYTES +
		 (uint64_t)config->subscriptions_max * SUBSCRIPTION_BYTES +
		 (uint64_t)config->producers_max * PRODUCER_BYTES);
	plan.memory_bytes_max = plan.dpdk_bytes + plan.rings_bytes_max + plan.locals_bytes_max +
				plan.tables_bytes +
				plan.partitions * (uint64_t)sizeof(struct hfb_positions);
	if (plan.unbounded)
		plan.retention_bytes = 0;
	plan.journals_bytes = (uint64_t)config->cores_count * HFB_JOURNAL_BYTES;
	plan.disk_free_bytes = disk_free(config->data_dir);
	plan.memlock_bytes =
		getrlimit(RLIMIT_MEMLOCK, &memlock) == 0 && memlock.rlim_cur != RLIM_INFINITY
			? (uint64_t)memlock.rlim_cur
			: UINT64_MAX;
	*ret_plan = plan;
	return 0;
}

static int
print_json(const struct hfb_plan *plan, FILE *to)
{
	const struct hfb_config *config = plan->config;
	json_t *json, *cpus = json_array();
	int r;

	for (uint32_t i = 0; i < config->cores_count; i++)
		json_array_append_new(cpus, json_integer(config->cpus[i]));
	json = json_pack(
		"{s:s, s:o, s:s, s:i, s:i, s:i, s:i, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
		"s:I, "
		"s:o, "
		"s:I,"
		" s:o}",
		"data", config->data_dir, "cpus", cpus, "idle",
		config->idle == HFB_IDLE_BUSY ? "busy" : "adaptive", "ports",
		(int)config->ports_count, "feeds", (int)config->feeds_count, "topics",
		(int)plan->topics, "partitions", (int)plan->partitions, "hugepages",
		(int)plan->eal.hugepages, "hugepages_free_bytes",
		(json_int_t)plan->eal.hugepages_free_mib * HFB_MIB, "dpdk_bytes",
		(json_int_t)plan->dpdk_bytes, "rings_bytes_min", (json_int_t)plan->rings_bytes_min,
		"rings_bytes_max", (json_int_t)plan->rings_bytes_max, "local_clients_bytes_max",
		(json_int_t)plan->locals_bytes_max, "memory_bytes_max",
		(json_int_t)plan->memory_bytes_max, "segments_bytes_min",
		(json_int_t)plan->segments_bytes_min, "segments_bytes_ahead",
		(json_int_t)plan->segments_bytes_ahead, "journals_bytes",
		(json_int_t)plan->journals_bytes, "retention_bytes",
		plan->unbounded ? json_null() : json_integer((json_int_t)plan->retention_bytes),
		"disk_free_bytes", (json_int_t)plan->disk_free_bytes, "memlock_bytes",
		plan->memlock_bytes == UINT64_MAX ? json_null()
						  : json_integer((json_int_t)plan->memlock_bytes));
	if (json == NULL)
		return -ENOMEM;
	r = json_dumpf(json, to, JSON_INDENT(2)) < 0 ? -EIO : 0;
	fputc('\n', to);
	json_decref(json);
	return r;
}

static void
line(FILE *to, const char *name, uint64_t bytes, const char *why)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	double value = (double)bytes;
	unsigned int unit = 0;

	while (value >= 1024 && unit < 4) {
		value /= 1024;
		unit++;
	}
	fprintf(to, "  %-26s %8.1f %-3s  %s\n", name, value, units[unit], why);
}

int
hfb_plan_print(const struct hfb_plan *plan, FILE *to, bool json)
{
	struct rlimit files;
	const struct hfb_config *config = plan->config;

	if (json)
		return print_json(plan, to);
	fprintf(to, "data %s\n%u poll core%s on CPU", config->data_dir, config->cores_count,
		config->cores_count == 1 ? "" : "s");
	for (uint32_t i = 0; i < config->cores_count; i++)
		if (config->cpus[i] < 0)
			fprintf(to, " any");
		else
			fprintf(to, " %d", config->cpus[i]);
	fprintf(to, ", %s; %u ports, %u feeds, %u topics, %u partitions\n",
		config->idle == HFB_IDLE_BUSY ? "busy" : "adaptive", config->ports_count,
		config->feeds_count, plan->topics, plan->partitions);
	fprintf(to, "memory\n");
	line(to, "packet buffers and DPDK", plan->dpdk_bytes,
	     plan->eal.hugepages ? "hugepages" : "ordinary pages: too few hugepages are free");
	line(to, "rings, none in use", plan->rings_bytes_min, "");
	line(to, "rings, all in use", plan->rings_bytes_max, "topics.ring");
	line(to, "local clients, all there", plan->locals_bytes_max,
	     "limits.local-clients x limits.local-ring");
	line(to, "tables", plan->tables_bytes, "limits.sessions, subscriptions, producers");
	line(to, "at most", plan->memory_bytes_max, "");
	fprintf(to, "disk\n");
	line(to, "segments, few events", plan->segments_bytes_min, "they grow with use");
	line(to, "segments made ahead", plan->segments_bytes_ahead, "all busy: topics.segment");
	line(to, "journals", plan->journals_bytes, "where many partitions wait for durable");
	if (plan->unbounded && plan->partitions > 0)
		fprintf(to,
			"  %-26s %12s  a topic has no topics.retention-bytes: it grows until the "
			"disk"
			" is full\n",
			"kept", "no limit");
	else
		line(to, "kept", plan->retention_bytes, "topics.retention-bytes");
	line(to, "free there now", plan->disk_free_bytes, "");
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_max != RLIM_INFINITY &&
	    plan->partitions * 2ull > files.rlim_max / 8 * 7)
		fprintf(to,
			"  %-26s %12llu  each partition in use takes two: beyond %llu of them "
			"readers"
			" do without rings\n",
			"limit of open files", (unsigned long long)files.rlim_max,
			(unsigned long long)files.rlim_max / 16 * 7);
	if (plan->memlock_bytes != UINT64_MAX && plan->memlock_bytes < plan->rings_bytes_max)
		line(to, "memlock limit", plan->memlock_bytes,
		     "below all rings: the disk writer does without registered memory");
	return ferror(to) ? -EIO : 0;
}
