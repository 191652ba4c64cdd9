/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A poll core does not allocate.
 *
 * Goal:   a million turns, with packets, produce, acks and disk writes in them, leave
 *	   jemalloc's thread.allocated and DPDK's heap statistics as they were.
 * Method: the real node with a port that is never empty and a local producer; the
 *	   core's loop is replaced at link time by one that, when asked, takes the figures
 *	   before and after a million turns, on the core's own thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <sys/stat.h>
#include <time.h>

#include <rte_malloc.h>

#include <hfbus/wire.h>

#include "clock.h"
#include "command.h"
#include "config.h"
#include "core.h"
#include "crc32c.h"
#include "eal.h"
#include "hfb_test_main.h"
#include "idle.h"
#include "local.h"
#include "node.h"
#include "node_open.h"
#include "partitions.h"

#define TURNS 1000000u

/* jemalloc's; absent where it is disabled (sanitizers), and then there is nothing to measure. */
int mallctl(const char *name, void *old, size_t *old_bytes, void *new, size_t new_bytes)
	__attribute__((weak));

int __wrap_hfb_core_run(void *arg);

static struct hfb_config config;
static struct hfb_node *node;
static struct hfb_local *local;
static uint32_t handle;

static struct {
	bool asked, done;
	uint64_t allocated, rte_bytes, rte_count; /* what the turns added */
	uint64_t packets, batches, acks, writes;  /* what went on meanwhile */
} measure;

static uint64_t
thread_allocated(void)
{
	uint64_t value = 0;
	size_t bytes = sizeof(value);

	if (mallctl("thread.allocated", &value, &bytes, NULL, 0) != 0)
		abort();
	return value;
}

static void
measure_turns(struct hfb_core *core)
{
	struct rte_malloc_socket_stats before, after;
	const uint64_t packets = core->queues[0].stats[HFB_QUEUE_STAT_RX_PACKETS];
	const uint64_t batches = core->stats[HFB_STAT_APPEND_BATCHES];
	const uint64_t acks = core->stats[HFB_STAT_ACK_FRAMES];
	const uint64_t writes = hfb_writer_stats(core->writer)->writes;
	uint64_t allocated;

	rte_malloc_get_socket_stats(0, &before);
	allocated = thread_allocated();
	for (uint32_t i = 0; i < TURNS; i++) {
		uint32_t work = hfb_core_turn(core);

		/* the producer shares this machine's CPUs with us */
		if (i % 256 == 0)
			sched_yield();
		if (i % 1024 == 0)
			hfb_idle_turn(core, work);
	}
	measure.allocated = thread_allocated() - allocated;
	rte_malloc_get_socket_stats(0, &after);
	measure.rte_bytes = after.heap_allocsz_bytes - before.heap_allocsz_bytes;
	measure.rte_count = after.alloc_count - before.alloc_count;
	measure.packets = core->queues[0].stats[HFB_QUEUE_STAT_RX_PACKETS] - packets;
	measure.batches = core->stats[HFB_STAT_APPEND_BATCHES] - batches;
	measure.acks = core->stats[HFB_STAT_ACK_FRAMES] - acks;
	measure.writes = hfb_writer_stats(core->writer)->writes - writes;
}

int
__wrap_hfb_core_run(void *arg)
{
	struct hfb_core *core = arg;

	while (!core->stop) {
		if (__atomic_load_n(&measure.asked, __ATOMIC_ACQUIRE) && !measure.done) {
			measure_turns(core);
			__atomic_store_n(&measure.done, true, __ATOMIC_RELEASE);
		}
		hfb_idle_turn(core, hfb_core_turn(core));
	}
	return 0;
}

/* A client's side ----------------------------------------------------------- */

static uint64_t tail, sequence, packet_number;

/* One batch of one record; false: the ring is full. */
static bool
produce(void)
{
	static const uint32_t record_bytes = HFB_RECORD_HEADER_BYTES + 64;
	struct {
		struct hfb_frame_produce head;
		uint8_t records[HFB_RECORD_HEADER_BYTES + 64];
	} __attribute__((packed)) frame = {
		.head = { .frame = { .magic = HFB_WIRE_MAGIC,
				     .version = HFB_WIRE_VERSION,
				     .type = HFB_FRAME_PRODUCE,
				     .session = local->number,
				     .packet = ++packet_number },
			  .partition = handle,
			  .flags = HFB_STAGE_DURABLE,
			  .count = 1,
			  .producer_id = 42,
			  .base_sequence = sequence },
	};
	const struct hfb_record record = { .value_size = 64, .key_size = HFB_KEY_NULL };
	const uint64_t size = local->to_core_bytes, at = tail & (size - 1);
	const uint64_t step = 8 + ((sizeof(frame) + 7) & ~7ull);
	const uint64_t head = __atomic_load_n(&local->channel->to_core_head, __ATOMIC_ACQUIRE);
	const uint64_t skip = size - at < step ? size - at : 0;
	uint8_t *to;

	if (size - (tail - head) < skip + step)
		return false;
	if (skip > 0)
		*(uint32_t *)(local->to_core + at) = HFB_CHANNEL_WRAP;
	memcpy(frame.records, &record, sizeof(record));
	memset(frame.records + sizeof(record), (int)sequence, 64);
	frame.head.payload_crc = hfb_crc32c(0, frame.records, record_bytes);
	to = local->to_core + ((tail + skip) & (size - 1));
	((uint32_t *)to)[0] = sizeof(frame);
	((uint32_t *)to)[1] = 0;
	memcpy(to + 8, &frame, sizeof(frame));
	tail += skip + step;
	__atomic_store_n(&local->channel->to_core_tail, tail, __ATOMIC_RELEASE);
	sequence++;
	return true;
}

/* Take the answers; the sequence to go back to when one was refused. */
static void
answers_take(void)
{
	static uint64_t head;
	const uint64_t size = local->to_client_bytes;
	const uint64_t end = __atomic_load_n(&local->channel->to_client_tail, __ATOMIC_ACQUIRE);

	while (head != end) {
		const uint64_t at = head & (size - 1);
		const uint32_t bytes = *(const uint32_t *)(local->to_client + at);
		const struct hfb_frame_ack *ack = (const void *)(local->to_client + at + 8);

		if (bytes == HFB_CHANNEL_WRAP) {
			head += size - at;
			continue;
		}
		if (ack->frame.type == HFB_FRAME_ACK) {
			const struct hfb_wire_ack *entry = (const void *)(ack + 1);

			if (entry->code != HFB_WIRE_OK)
				sequence = entry->sequence[HFB_STAGE_RECEIVED];
		}
		head += 8 + (((uint64_t)bytes + 7) & ~7ull);
	}
	__atomic_store_n(&local->channel->to_client_head, head, __ATOMIC_RELEASE);
}

static void
test_a_million_turns_allocate_nothing(void)
{
	const struct timespec nap = { .tv_nsec = 200000 };
	const time_t deadline = time(NULL) + 50;

	/* what is made once, at first use, is made */
	for (uint32_t i = 0; i < 200; i++) {
		produce();
		answers_take();
		hfb_core_wake(node->cores[0]);
		nanosleep(&nap, NULL);
	}
	__atomic_store_n(&measure.asked, true, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&measure.done, __ATOMIC_ACQUIRE) && time(NULL) < deadline) {
		for (uint32_t i = 0; i < 16; i++)
			if (!produce())
				break;
		answers_take();
		hfb_core_wake(node->cores[0]);
		nanosleep(&nap, NULL);
	}
	CU_ASSERT_TRUE_FATAL(measure.done);
	CU_ASSERT_EQUAL(measure.allocated, 0);
	CU_ASSERT_EQUAL(measure.rte_bytes, 0);
	CU_ASSERT_EQUAL(measure.rte_count, 0);
	/* and they were turns worth the name */
	CU_ASSERT_TRUE(measure.packets >= TURNS);
	CU_ASSERT_TRUE(measure.batches > 100);
	CU_ASSERT_TRUE(measure.acks > 1);
	CU_ASSERT_TRUE(measure.writes > 10);
	fprintf(stderr, "%u turns: %lu packets, %lu batches, %lu acks, %lu disk writes\n", TURNS,
		(unsigned long)measure.packets, (unsigned long)measure.batches,
		(unsigned long)measure.acks, (unsigned long)measure.writes);
}

static int
node_make(struct hfb_err *err)
{
	struct hfb_command add = { .type = HFB_COMMAND_LOCAL_ADD };
	struct hfb_ipc_topic request = { .name = "t",
					 .partitions = 1,
					 .commit_stage = HFB_STAGE_DURABLE };
	const struct hfb_topic *topic;
	struct hfb_eal_plan plan;
	int r;

	hfb_config_default(&config);
	snprintf(config.data_dir, sizeof(config.data_dir), "%s/data", hfb_test_folder());
	mkdir(config.data_dir, 0755);
	config.hugepages = false;
	r = hfb_config_port_add(&config, "net_null0@10.0.0.1", err);
	if (r < 0)
		return r;
	hfb_eal_plan(&config, &plan);
	r = hfb_eal_start(&config, &plan, err);
	if (r == 0)
		r = hfb_node_open(&config, false, &node, err);
	if (r == 0)
		r = hfb_node_serve(node, err);
	if (r == 0)
		r = hfb_topic_put(node, &request, &topic, err);
	if (r < 0)
		return r;
	handle = topic->handles[0];
	r = hfb_local_create(0, 12345, 1 << 20, &local, err);
	if (r < 0)
		return r;
	add.object = local;
	return hfb_command_run(node, 0, &add);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "a million turns allocate nothing", test_a_million_turns_allocate_nothing },
		CU_TEST_INFO_NULL,
	};
	struct hfb_command remove = { .type = HFB_COMMAND_LOCAL_REMOVE };
	struct hfb_err err = { 0 };
	int status;

	if (mallctl == NULL) {
		fprintf(stderr, "built without jemalloc: nothing to measure\n");
		return HFB_TEST_SKIP;
	}
	hfb_clock_start();
	if (node_make(&err) < 0) {
		fprintf(stderr, "the node does not start: %s\n", err.text);
		return 1;
	}
	status = hfb_test_main("core_no_alloc", tests);
	remove.object = local;
	if (hfb_command_run(node, 0, &remove) == 0)
		hfb_local_destroy(local);
	hfb_node_close(node);
	hfb_eal_stop();
	return status;
}
