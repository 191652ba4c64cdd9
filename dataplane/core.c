/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core.c - one turn of a poll core, its commands, and how it is made.
 *
 * hfb_core_turn() is the table of contents of the data plane: read it first.
 */
#include "core.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bug.h"
#include "clock.h"
#include "counters.h"
#include "idle.h"
#include "local.h"
#include "node.h"
#include "port.h"
#include "probe.h"

#define COMMANDS_A_TURN	   16u
#define WRITER_STATS_TURNS 64u /* how often they are copied while there is work */

static const char *const queue_stat_names[] = {
#define X(id, name) name,
	HFB_QUEUE_STATS(X)
#undef X
};
static const char *const writer_stat_names[] = {
#define X(id, name) name,
	HFB_WRITER_STATS(X)
#undef X
};

/* Commands ---------------------------------------------------------------- */

static void
command_answer(struct hfb_core *core, struct hfb_command *command, int result)
{
	void *object = command;
	uint64_t one = 1;
	ssize_t n;

	command->result = result;
	/* as large as `commands`, and main keeps count: there is room */
	n = hfb_spsc_push(core->done, &object, 1);
	hfb_assert(n == 1);
	/* commands are rare, so their answers may cost a system call */
	n = write(core->node->main_fd, &one, sizeof(one));
	(void)n;
}

static void
command_detach(struct hfb_core *core, struct hfb_command *command)
{
	struct hfb_partition *partition = command->partition;

	partition->detaching = true;
	hfb_feed_partition_detach(core, partition);
	hfb_session_partition_detach(core, partition);
	hfb_writer_detach(core->writer, partition->log, command->end_mark);
	command->next = core->detaching;
	core->detaching = command;
}

static void
command_run(struct hfb_core *core, struct hfb_command *command)
{
	int result = 0;

	switch (command->type) {
	case HFB_COMMAND_ATTACH:
		hfb_writer_attach(core->writer, command->partition->log);
		core->partitions_count++;
		break;
	case HFB_COMMAND_DETACH:
		command_detach(core, command);
		return; /* answered when it is let go */
	case HFB_COMMAND_LOCAL_ADD:
		result = hfb_local_add(core, command->object);
		break;
	case HFB_COMMAND_LOCAL_REMOVE:
		hfb_local_remove(core, command->object);
		break;
	case HFB_COMMAND_SETTINGS:
		hfb_writer_settings(core->writer, command->partition->log, &command->settings);
		break;
	case HFB_COMMAND_FEED_BIND:
		hfb_feed_bind(core, command->feed, command->partition);
		break;
	case HFB_COMMAND_PORTS:
		core->ports_live = true;
		break;
	case HFB_COMMAND_PORTS_OFF:
		hfb_tx_flush(core);
		core->ports_live = false;
		break;
	case HFB_COMMAND_STOP:
		core->stop = true;
		break;
	}
	command_answer(core, command, result);
}

static uint32_t
commands_poll(struct hfb_core *core)
{
	void *commands[COMMANDS_A_TURN];
	uint32_t n = hfb_spsc_pop(core->commands, commands, COMMANDS_A_TURN);

	for (uint32_t i = 0; i < n; i++)
		command_run(core, commands[i]);
	return n;
}

static void
detaching_poll(struct hfb_core *core)
{
	struct hfb_command **at = &core->detaching;

	while (*at != NULL) {
		struct hfb_command *command = *at;
		struct hfb_partition *partition = command->partition;

		/* a dirty one is still in this turn's list of acks and pushes */
		if (partition->dirty || !hfb_writer_detached(core->writer, partition->log)) {
			at = &command->next;
			continue;
		}
		*at = command->next;
		core->partitions_count--;
		command_answer(core, command, 0);
	}
}

/* A turn ------------------------------------------------------------------ */

/* Storage's callback: this log's durable or committed position moved. */
static void
log_advanced(void *arg, struct hfb_log *log)
{
	struct hfb_core *core = arg;
	struct hfb_partition *partition = hfb_log_user(log);

	if (partition->subs_head != NULL)
		hfb_push_committed(core, partition);
	if (partition->dirty)
		return;
	partition->dirty = true;
	partition->dirty_next = core->dirty;
	core->dirty = partition;
}

static void
writer_stats_copy(struct hfb_core *core)
{
	const struct hfb_writer_stats *stats = hfb_writer_stats(core->writer);
	uint64_t *to = core->writer_stats;

	to[HFB_WRITER_STAT_WRITES] = stats->writes;
	to[HFB_WRITER_STAT_WRITE_BYTES] = stats->write_bytes;
	to[HFB_WRITER_STAT_SYNCS] = stats->syncs;
	to[HFB_WRITER_STAT_READS] = stats->reads;
	to[HFB_WRITER_STAT_ERRORS] = stats->errors;
	to[HFB_WRITER_STAT_SHORT_WRITES] = stats->short_writes;
	to[HFB_WRITER_STAT_YIELDS] = stats->yields;
	to[HFB_WRITER_STAT_NAPS] = stats->naps;
	to[HFB_WRITER_STAT_UNREGISTERED] = stats->unregistered;
	to[HFB_WRITER_STAT_JOURNAL_WRITES] = stats->journal_writes;
	to[HFB_WRITER_STAT_JOURNAL_BYTES] = stats->journal_bytes;
}

/* Cores that may sleep and were given mbufs this turn. */
static void
handed_wake(struct hfb_core *core)
{
	uint64_t cores = core->handed_to;

	while (cores != 0) {
		hfb_core_wake(core->node->cores[__builtin_ctzll(cores)]);
		cores &= cores - 1;
	}
	core->handed_to = 0;
}

uint32_t
hfb_core_turn(struct hfb_core *core)
{
	uint64_t from = core->next_tsc != 0 ? core->next_tsc : hfb_clock_tsc(), took;
	uint32_t work = 0;

	core->now_tsc = from;
	core->times.turn_tsc = from;
	core->times.published_tsc = 0;
	core->now_ns = hfb_clock_now_ns_at(from);

	work += commands_poll(core);
	work += hfb_port_poll(core);
	work += hfb_handover_poll(core);
	work += hfb_local_poll(core);
	work += hfb_feed_poll(core);
	/* what is received is acked before the kernel is entered for the disk's sake */
	work += hfb_writer_publish(core->writer);
	work += hfb_session_acks(core);
	work += hfb_tx_flush(core);
	if (core->acked.received_events != 0 || core->acked.count != 0)
		hfb_ack_times_record(core, hfb_clock_tsc());
	work += hfb_writer_poll(core->writer, core->now_ns);
	/* An idle turn looks at local clients twice: what one has shown meanwhile would wait for
	 * half a turn. */
	if (work == 0 && hfb_local_work_waits(core)) {
		work += hfb_local_poll(core);
		work += hfb_writer_publish(core->writer);
	}
	work += hfb_session_poll(core);
	work += hfb_tx_flush(core);
	if (core->handed_to != 0)
		handed_wake(core);
	if (core->detaching != NULL)
		detaching_poll(core);

	core->stats[HFB_STAT_TURNS]++;
	core->ended_tsc = hfb_clock_tsc();
	took = core->ended_tsc - from;
	if (core->acked.received_events != 0 || core->acked.count != 0)
		hfb_ack_times_record(core, from + took);
	if (work > 0) {
		HFB_PROBE3(turn, core->id, work, took);
		core->stats[HFB_STAT_TURNS_WORKED]++;
		core->stats[HFB_STAT_WORK_TSC] += took;
	} else {
		core->stats[HFB_STAT_SPIN_TSC] += took;
	}
	if (work == 0 || core->turn % WRITER_STATS_TURNS == 0)
		writer_stats_copy(core);
	/* pairs with the acquire in hfb_node_quiesce(): this turn's lookups are over */
	__atomic_store_n(&core->turn, core->turn + 1, __ATOMIC_RELEASE);
	return work;
}

int
hfb_core_run(void *arg)
{
	struct hfb_core *core = arg;

	while (!core->stop) {
		bool slept = hfb_idle_turn(core, hfb_core_turn(core));

		/* the end of a turn is the beginning of the next: one reading of the clock */
		core->next_tsc = slept ? 0 : core->ended_tsc;
	}
	return 0;
}

/* Boot -------------------------------------------------------------------- */

static int
queues_take(struct hfb_core *core, struct hfb_err *err)
{
	struct hfb_node *node = core->node;

	for (uint16_t p = 0; p < (uint16_t)node->ports_count; p++) {
		const struct hfb_port *port = &node->ports[p];

		for (uint16_t q = 0; q < port->queues; q++) {
			struct hfb_queue *queue;
			char labels[104], name[64];

			if (hfb_port_core(p, q, node->cores_count) != core->id)
				continue;
			queue = &core->queues[core->queues_count++];
			queue->port = p;
			queue->dpdk_port = port->dpdk_port;
			queue->queue = q;
			queue->pool = port->pools[q];
			hfb_port_name(port->config, name, sizeof(name));
			snprintf(labels, sizeof(labels), "port=%u,queue=%u,core=%u,device=%.40s", p,
				 q, core->id, name);
			queue->stats = hfb_counters_block(node->counters, labels, queue_stat_names,
							  HFB_QUEUE_STATS_COUNT);
			if (queue->stats == NULL)
				return hfb_err_set(err, -ENOSPC, "the counters file is full");
			core->queue_of_port[p] = queue;
		}
	}
	return 0;
}

int
hfb_core_create(struct hfb_node *node, uint16_t id, struct hfb_core **ret_core, struct hfb_err *err)
{
	const struct hfb_config *config = node->config;
	struct hfb_writer_config writer = {
		.logs_max = HFB_CORE_LOGS_MAX,
		.producers_max = config->producers_max,
		.advanced = log_advanced,
	};
	struct hfb_core *core;
	char labels[32];
	int r;

	core = aligned_alloc(HFB_CACHE_LINE, (sizeof(*core) + HFB_CACHE_LINE - 1) / HFB_CACHE_LINE *
						     HFB_CACHE_LINE);
	if (core == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory for poll core %u", id);
	memset(core, 0, sizeof(*core));
	core->id = id;
	core->cpu = config->cpus[id];
	core->node = node;
	core->wake_fd = -1;
	core->commands = hfb_spsc_create(HFB_CORE_COMMANDS_MAX);
	core->done = hfb_spsc_create(HFB_CORE_COMMANDS_MAX);
	if (core->commands == NULL || core->done == NULL) {
		r = hfb_err_set(err, -ENOMEM, "out of memory for poll core %u", id);
		goto fail;
	}
	snprintf(labels, sizeof(labels), "core=%u", id);
	core->stats = hfb_counters_block(node->counters, labels, hfb_stat_names, HFB_STATS_COUNT);
	core->writer_stats = hfb_counters_block(node->counters, labels, writer_stat_names,
						HFB_WRITER_STATS_COUNT);
	if (core->stats == NULL || core->writer_stats == NULL) {
		r = hfb_err_set(err, -ENOSPC, "the counters file is full");
		goto fail;
	}
	r = queues_take(core, err);
	if (r < 0)
		goto fail;
	r = hfb_stage_times_init(&core->times, node->counters, labels, err);
	if (r < 0)
		goto fail;
	writer.times = &core->times;
	writer.arg = core;
	r = hfb_writer_create(node->store, &writer, &core->writer, err);
	if (r < 0)
		goto fail;
	r = hfb_locals_create(core, config->locals_max, err);
	if (r < 0)
		goto fail;
	r = hfb_sessions_create(core, err);
	if (r < 0)
		goto fail;
	r = hfb_feeds_create(core, err);
	if (r < 0)
		goto fail;
	r = hfb_idle_create(core, config->idle, err);
	if (r < 0)
		goto fail;
	*ret_core = core;
	return 0;
fail:
	hfb_core_destroy(core);
	return r;
}

void
hfb_core_destroy(struct hfb_core *core)
{
	if (core == NULL)
		return;
	/* mbufs in these rings go with their pools */
	for (uint32_t i = 0; i < HFB_CORES_MAX; i++)
		hfb_spsc_destroy(core->in[i]);
	hfb_idle_destroy(core);
	hfb_feeds_destroy(core);
	hfb_sessions_destroy(core);
	hfb_locals_destroy(core);
	if (core->writer != NULL)
		hfb_writer_destroy(core->writer);
	hfb_spsc_destroy(core->commands);
	hfb_spsc_destroy(core->done);
	free(core);
}

int
hfb_cores_connect(struct hfb_node *node, struct hfb_err *err)
{
	for (uint32_t to = 0; to < node->cores_count; to++)
		for (uint32_t from = 0; from < node->cores_count; from++) {
			if (from == to)
				continue;
			node->cores[to]->in[from] = hfb_spsc_create(HFB_HANDOVER_RING);
			if (node->cores[to]->in[from] == NULL)
				return hfb_err_set(err, -ENOMEM, "out of memory for %u poll cores",
						   node->cores_count);
			node->cores[from]->out[to] = node->cores[to]->in[from];
		}
	return 0;
}
