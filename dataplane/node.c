/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <rte_launch.h>
#include <rte_lcore.h>

#include "catalogue.h"
#include "clock.h"
#include "command.h"
#include "counters.h"
#include "node_open.h"
#include "partitions.h"
#include "port.h"
#include "stats.h"
#include "store.h"
#include "uuid.h"

static const char *const node_stat_names[] = {
#define X(id, name) name,
	HFB_NODE_STATS(X)
#undef X
};

static int
counters_open(struct hfb_node *node, struct hfb_err *err)
{
	char path[sizeof(node->config->data_dir) + 16];
	int r;

	snprintf(path, sizeof(path), "%s/counters", node->config->data_dir);
	r = hfb_counters_create(path, &node->counters, err);
	if (r < 0)
		return r;
	node->stats = hfb_counters_block(node->counters, "", node_stat_names, HFB_NODE_STATS_COUNT);
	if (node->stats == NULL)
		return hfb_err_set(err, -ENOSPC, "the counters file is full");
	node->stats[HFB_NODE_STAT_TSC_HZ] = hfb_clock_tsc_hz();
	return 0;
}

static int
folder_open(struct hfb_node *node, bool hugepages, struct hfb_err *err)
{
	const struct hfb_config *config = node->config;
	const struct hfb_store_config store = {
		.data_dir = config->data_dir,
		.tail = config->tail_pad ? HFB_TAIL_PAD : HFB_TAIL_REWRITE,
		.sync = (enum hfb_sync_mode)config->sync_mode,
		.ring_bytes_default = config->ring_bytes,
		.segment_bytes_default = config->segment_bytes,
		.dedup_window_ns = config->dedup_window_ns,
		.compact_bytes_per_s = config->compact_bytes_per_s,
		.hugepages = hugepages,
		.helper_cpu = -1,
	};
	char path[sizeof(config->data_dir) + 16];
	int r;

	r = hfb_store_open(&store, NULL, &node->store, err);
	if (r < 0)
		return r;
	r = hfb_store_epoch_begin(node->store, &node->leader_epoch, err);
	if (r < 0)
		return r;
	if (hfb_store_note(node->store) != NULL)
		hfb_report(node, "%s", hfb_store_note(node->store));
	node->broker_epoch = node->leader_epoch;
	snprintf(path, sizeof(path), "%s/catalogue", config->data_dir);
	r = hfb_catalogue_open(path, &node->catalogue, err);
	if (r < 0)
		return r;
	r = counters_open(node, err);
	if (r < 0)
		return r;
	return hfb_positions_create(node, err);
}

static int
cores_start(struct hfb_node *node, struct hfb_err *err)
{
	int r;

	for (uint16_t i = 0; i < node->config->cores_count; i++) {
		r = hfb_core_create(node, i, &node->cores[i], err);
		if (r < 0)
			return r;
	}
	r = hfb_cores_connect(node, err);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < node->cores_count; i++) {
		r = rte_eal_remote_launch(hfb_core_run, node->cores[i], i + 1u);
		if (r < 0) {
			struct hfb_command stop = { .type = HFB_COMMAND_STOP };

			/* the ones that run must end before their memory goes */
			node->cores_running = true;
			for (uint32_t j = 0; j < i; j++)
				hfb_command_run(node, (uint16_t)j, &stop);
			rte_eal_mp_wait_lcore();
			node->cores_running = false;
			return hfb_err_set(err, r, "poll core %u does not start: %s", i,
					   strerror(-r));
		}
	}
	node->cores_running = true;
	return 0;
}

int
hfb_node_open(const struct hfb_config *config, bool hugepages, struct hfb_node **ret_node,
	      struct hfb_err *err)
{
	struct hfb_node *node = calloc(1, sizeof(*node));
	int r;

	if (node == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	node->config = config;
	node->cores_count = config->cores_count;
	node->positions_fd = -1;
	node->started_ns = hfb_clock_now_ns();
	hfb_random(node->secret, sizeof(node->secret));
	node->main_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (node->main_fd < 0) {
		r = hfb_err_set(err, -errno, "eventfd: %s", strerror(errno));
		goto fail;
	}
	r = folder_open(node, hugepages, err);
	if (r < 0)
		goto fail;
	r = hfb_ports_open(node, err);
	if (r < 0)
		goto fail;
	r = cores_start(node, err);
	if (r < 0)
		goto fail;
	r = hfb_partitions_open(node, err);
	if (r < 0)
		goto fail;
	*ret_node = node;
	return 0;
fail:
	hfb_node_close(node);
	return r;
}

int
hfb_node_serve(struct hfb_node *node, struct hfb_err *err)
{
	const struct hfb_command ports = { .type = HFB_COMMAND_PORTS };
	int r;

	/* feeds before ports: a capture file begins to be read at the first poll */
	r = hfb_feeds_bind(node, err);
	if (r < 0)
		return r;
	r = hfb_ports_start(node, err);
	if (r < 0)
		return r;
	r = hfb_command_all(node, &ports);
	if (r < 0)
		return hfb_err_set(err, r, "poll cores do not answer: %s", strerror(-r));
	hfb_node_tick(node);
	return 0;
}

void
hfb_node_tick(struct hfb_node *node)
{
	uint32_t topics = 0;

	for (uint32_t i = 0; i < hfb_catalogue_count(node->catalogue); i++)
		topics +=
			(hfb_catalogue_at(node->catalogue, i)->info.flags & HFB_TOPIC_DELETED) == 0;
	node->stats[HFB_NODE_STAT_TOPICS] = topics;
	node->stats[HFB_NODE_STAT_PARTITIONS] = node->partitions_count;
	node->stats[HFB_NODE_STAT_UNKNOWN_LOGS] = node->unknown_logs_count;
	hfb_ports_count(node);
	hfb_partitions_tick(node);
}

int
hfb_node_close(struct hfb_node *node)
{
	const struct hfb_command ports_off = { .type = HFB_COMMAND_PORTS_OFF };
	const struct hfb_command stop = { .type = HFB_COMMAND_STOP };
	int r = 0;

	if (node == NULL)
		return 0;
	if (node->cores_running) {
		r = hfb_command_all(node, &ports_off);
		if (r == 0)
			r = hfb_partitions_end(node);
		if (r == 0)
			r = hfb_command_all(node, &stop);
		if (r < 0) {
			/* a core still uses all this: leave it to the end of the process */
			fprintf(stderr,
				"hfbusd: a poll core does not end (%s): nothing durable is lost,"
				" and the next start recovers what a clean stop would have ended\n",
				strerror(-r));
			return r;
		}
		rte_eal_mp_wait_lcore();
		node->cores_running = false;
	}
	hfb_partitions_close(node);
	for (uint32_t i = 0; i < HFB_CORES_MAX; i++)
		hfb_core_destroy(node->cores[i]);
	hfb_ports_close(node);
	hfb_positions_destroy(node);
	hfb_catalogue_close(node->catalogue);
	while (node->topics_stuck != NULL) {
		struct hfb_topic_stuck *stuck = node->topics_stuck;

		node->topics_stuck = stuck->next;
		free(stuck->topic);
		free(stuck);
	}
	if (node->counters != NULL)
		hfb_counters_destroy(node->counters);
	if (node->store != NULL)
		hfb_store_close(node->store);
	if (node->main_fd >= 0)
		close(node->main_fd);
	free(node);
	return 0;
}
