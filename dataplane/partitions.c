/* SPDX-License-Identifier: Apache-2.0 */
/*
 * partitions.c - one partition: positions slot, log, core. topics.c works on whole topics.
 */
#include "partitions.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <hfbus/shm.h>

#include "bug.h"
#include "catalogue.h"
#include "clock.h"
#include "command.h"
#include "partition_open.h"
#include "stats.h"
#include "store.h"

int
hfb_positions_create(struct hfb_node *node, struct hfb_err *err)
{
	const size_t bytes = (size_t)HFB_PARTITIONS_MAX * sizeof(struct hfb_positions);
	void *map;

	node->positions_fd = memfd_create("hfbus-positions", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (node->positions_fd < 0 || ftruncate(node->positions_fd, (off_t)bytes) < 0)
		goto fail;
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, node->positions_fd, 0);
	if (map == MAP_FAILED)
		goto fail;
	node->positions = map;
	/* from here on nobody but this mapping can write it, whoever gets the descriptor */
	if (fcntl(node->positions_fd, F_ADD_SEALS,
		  F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) < 0)
		goto fail;
	return 0;
fail:
	return hfb_err_set(err, -errno, "shared memory for positions: %s", strerror(errno));
}

void
hfb_positions_destroy(struct hfb_node *node)
{
	if (node->positions != NULL)
		munmap(node->positions, (size_t)HFB_PARTITIONS_MAX * sizeof(struct hfb_positions));
	node->positions = NULL;
	if (node->positions_fd >= 0)
		close(node->positions_fd);
	node->positions_fd = -1;
}

void
hfb_report(struct hfb_node *node, const char *format, ...)
{
	char path[sizeof(node->config->data_dir) + 32], now[40];
	va_list list;
	FILE *file;

	fputs("hfbusd: ", stderr);
	va_start(list, format);
	vfprintf(stderr, format, list);
	va_end(list);
	fputc('\n', stderr);

	snprintf(path, sizeof(path), "%s/recovery.log", node->config->data_dir);
	file = fopen(path, "ae");
	if (file == NULL)
		return; /* it was said on stderr */
	hfb_clock_format(hfb_clock_now_ns(), now, sizeof(now));
	fprintf(file, "%s epoch %" PRIu32 ": ", now, node->leader_epoch);
	va_start(list, format);
	vfprintf(file, format, list);
	va_end(list);
	fputc('\n', file);
	fclose(file);
}

uint16_t
hfb_partition_core(const struct hfb_node *node, const char *topic, uint32_t index)
{
	uint32_t hash = 2166136261u;

	for (const char *at = topic; *at != '\0'; at++)
		hash = (hash ^ (uint8_t)*at) * 16777619u;
	return (uint16_t)((hash + index) % node->cores_count);
}

/* Each thing found wrong, by path and position; storage keeps the first few sentences. */
static void
recovery_report(struct hfb_node *node, const struct hfb_topic *topic, uint32_t index,
		const struct hfb_log *log, const struct hfb_log_report *report)
{
	const char *note;

	node->stats[HFB_NODE_STAT_RECOVERY_SCANNED_BYTES] += report->scanned_bytes;
	if (report->torn_bytes > 0) {
		node->stats[HFB_NODE_STAT_RECOVERY_TORN]++;
		node->stats[HFB_NODE_STAT_RECOVERY_TORN_BYTES] += report->torn_bytes;
	}
	for (uint32_t i = 0; (note = hfb_log_note(log, i)) != NULL; i++)
		hfb_report(node, "topic %s partition %u: %s", topic->info.name, index, note);
	if (report->corrupt_count > 0) {
		node->stats[HFB_NODE_STAT_RECOVERY_CORRUPT] += report->corrupt_count;
		hfb_report(node,
			   "topic %s partition %u: CORRUPT, %" PRIu64 " range%s, the first at"
			   " position %" PRIu64 " in %s; kept as it is and not served",
			   topic->info.name, index, report->corrupt_count,
			   report->corrupt_count == 1 ? "" : "s", report->corrupt_position,
			   report->corrupt_path);
	}
}

int
hfb_partition_open(struct hfb_node *node, const struct hfb_topic *topic, uint32_t index,
		   uint32_t handle, struct hfb_partition **ret_partition, struct hfb_err *err)
{
	struct hfb_positions *positions = &node->positions[handle];
	struct hfb_log_report report = { 0 };
	struct hfb_partition *partition;
	struct hfb_log_config config;
	int r;

	partition = aligned_alloc(HFB_CACHE_LINE, (sizeof(*partition) + HFB_CACHE_LINE - 1) /
							  HFB_CACHE_LINE * HFB_CACHE_LINE);
	if (partition == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	memset(partition, 0, sizeof(*partition));
	partition->handle = handle;
	partition->index = index;
	partition->core = hfb_partition_core(node, topic->info.name, index);
	partition->commit_stage = (uint16_t)topic->info.commit_stage;
	partition->internal = strncmp(topic->info.name, HFB_TOPIC_INTERNAL_PREFIX,
				      strlen(HFB_TOPIC_INTERNAL_PREFIX)) == 0;
	partition->positions = positions;
	partition->topic = topic;

	positions->partition = index;
	positions->core = partition->core;
	positions->commit_stage = topic->info.commit_stage;
	positions->topic = topic->info.uuid;
	memcpy(positions->topic_name, topic->info.name, sizeof(positions->topic_name));

	config = (struct hfb_log_config){
		.topic = topic->info.name,
		.topic_uuid = topic->info.uuid,
		.partition = index,
		.commit_stage = (enum hfb_stage)topic->info.commit_stage,
		.retention_bytes = topic->info.retention_bytes,
		.retention_ns = topic->info.retention_ns,
		.segment_bytes_max = topic->info.segment_bytes,
		.ring_bytes_max = topic->info.ring_bytes,
		.cleanup = topic->info.cleanup,
		.tombstone_ns = topic->info.tombstone_ns,
		.leader_epoch = node->leader_epoch,
		.positions = positions,
		.user = partition,
	};
	r = hfb_log_open(node->store, &config, &partition->log, &report, err);
	if (r < 0) {
		free(partition);
		return hfb_err_prefix(err, "topic %s partition %u", topic->info.name, index);
	}
	recovery_report(node, topic, index, partition->log, &report);
	partition->state_told = HFB_PARTITION_OPEN;
	/* pairs with the acquire of readers of the table: the slot is whole */
	__atomic_store_n(&positions->handle_used, 1, __ATOMIC_RELEASE);
	*ret_partition = partition;
	return 0;
}

/* Attach partitions to their cores, then let others find them by handle. */
int
hfb_partitions_attach(struct hfb_node *node, struct hfb_partition *const *partitions, uint32_t n)
{
	struct hfb_command *commands = hfb_commands_make(n);
	uint16_t *cores = calloc(n > 0 ? n : 1, sizeof(*cores));
	int r = -ENOMEM;

	if (commands == NULL || cores == NULL) {
		free(commands);
		goto out;
	}
	for (uint32_t i = 0; i < n; i++) {
		commands[i].type = HFB_COMMAND_ATTACH;
		commands[i].partition = partitions[i];
		cores[i] = partitions[i]->core;
	}
	r = hfb_commands_run(node, commands, cores, n, HFB_COMMAND_WAIT_NS);
	if (r < 0)
		goto out;
	for (uint32_t i = 0; i < n; i++) {
		/* pairs with the acquire in hfb_partition_get() */
		__atomic_store_n(&node->partitions[partitions[i]->handle], partitions[i],
				 __ATOMIC_RELEASE);
		node->partitions_count++;
	}
out:
	free(cores);
	return r;
}

/*
 * Their cores let them go. On -ETIMEDOUT a core still holds some: then none may be freed.
 */
static int
partitions_let_go(struct hfb_node *node, struct hfb_partition *const *partitions, uint32_t n,
		  bool end_mark)
{
	struct hfb_command *commands;
	uint16_t *cores;
	int r = -ENOMEM;

	if (n == 0)
		return 0;
	commands = hfb_commands_make(n);
	cores = calloc(n, sizeof(*cores));
	if (commands == NULL || cores == NULL) {
		free(commands);
		goto out;
	}
	for (uint32_t i = 0; i < n; i++) {
		commands[i].type = HFB_COMMAND_DETACH;
		commands[i].partition = partitions[i];
		commands[i].end_mark = end_mark;
		cores[i] = partitions[i]->core;
	}
	r = hfb_commands_run(node, commands, cores, n, HFB_COMMAND_WAIT_NS);
out:
	free(cores);
	return r;
}

int
hfb_partitions_detach(struct hfb_node *node, struct hfb_partition *const *partitions, uint32_t n,
		      bool end_mark)
{
	int r = partitions_let_go(node, partitions, n, end_mark);

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < n; i++) {
		__atomic_store_n(&node->partitions[partitions[i]->handle], NULL, __ATOMIC_RELEASE);
		node->partitions_count--;
	}
	hfb_node_quiesce(node);
	return 0;
}

void
hfb_partition_close(struct hfb_node *node, struct hfb_partition *partition, bool deleted)
{
	struct hfb_positions *positions = partition->positions;
	struct hfb_err err;

	if (deleted && hfb_log_delete(partition->log, &err) < 0)
		hfb_report(node,
			   "topic %s partition %u: deleted, but its files are not all gone: %s",
			   positions->topic_name, partition->index, err.text);
	hfb_log_close(partition->log);
	__atomic_store_n(&positions->state, deleted ? HFB_PARTITION_DELETED : HFB_PARTITION_CLOSED,
			 __ATOMIC_RELEASE);
	free(partition);
}

int
hfb_partitions_end(struct hfb_node *node)
{
	struct hfb_partition **all = calloc(node->handles_used + 1, sizeof(*all));
	uint32_t n = 0;
	int r = -ENOMEM;

	if (all != NULL) {
		for (uint32_t i = 0; i < node->handles_used; i++)
			if (node->partitions[i] != NULL)
				all[n++] = node->partitions[i];
		r = partitions_let_go(node, all, n, true);
	}
	free(all);
	return r;
}

void
hfb_partitions_close(struct hfb_node *node)
{
	for (uint32_t i = 0; i < node->handles_used; i++)
		if (node->partitions[i] != NULL) {
			hfb_partition_close(node, node->partitions[i], false);
			node->partitions[i] = NULL;
		}
	node->partitions_count = 0;
}
