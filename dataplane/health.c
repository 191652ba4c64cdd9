/* SPDX-License-Identifier: Apache-2.0 */
/*
 * health.c - what hfbusd says about the disks below its partitions, when it changes.
 *
 * Poll cores and the files' helper only leave a state and a sentence behind; here, on the
 * main thread, they become lines on stderr and in DATA/recovery.log.
 */
#include "partitions.h"

#include <inttypes.h>
#include <string.h>

#include <hfbus/shm.h>

#include "clock.h"
#include "core.h"
#include "log.h"

/* A tick looks at so many: ten thousand partitions are gone round in a second. */
#define PARTITIONS_A_TICK 1024u
/* Readers that try again and again are one line. */
#define READ_ERRORS_PAUSE_NS 10000000000ull

static void
partition_look(struct hfb_node *node, struct hfb_partition *partition, uint64_t now_ns)
{
	struct hfb_positions *positions = partition->positions;
	uint32_t state = __atomic_load_n(&positions->state, __ATOMIC_ACQUIRE);
	struct hfb_disk_errors errors;
	struct hfb_err trouble = { 0 };
	uint64_t troubles = hfb_log_trouble(partition->log, &trouble);

	if (troubles != partition->trouble_told) {
		partition->trouble_told = troubles;
		hfb_report(node, "topic %s partition %u: %s", positions->topic_name,
			   partition->index, trouble.text);
	}
	hfb_log_disk_errors(partition->log, &errors);
	if (errors.reads != partition->read_errors_told &&
	    now_ns - partition->read_errors_told_ns > READ_ERRORS_PAUSE_NS) {
		hfb_report(node,
			   "topic %s partition %u: reading failed %" PRIu64 " times, the last at"
			   " position %" PRIu64 ": %s; its readers were told. Check the disk",
			   positions->topic_name, partition->index,
			   errors.reads - partition->read_errors_told, errors.read_position,
			   strerror(-errors.read_error));
		partition->read_errors_told = errors.reads;
		partition->read_errors_told_ns = now_ns;
	}
	if (state == partition->state_told)
		return;
	if (state == HFB_PARTITION_NO_SPACE)
		hfb_report(node,
			   "topic %s partition %u: the disk is full, nothing is taken from offset"
			   " %" PRIu64 " on; readers go on. Free space or lower the topic's"
			   " retention",
			   positions->topic_name, partition->index,
			   __atomic_load_n(&positions->received.offset, __ATOMIC_RELAXED));
	else if (state == HFB_PARTITION_FAILED)
		hfb_report(node,
			   "topic %s partition %u: writing or syncing a segment failed at position"
			   " %" PRIu64 ": %s; nothing is taken any more, readers go on. Check the"
			   " disk, then start again",
			   positions->topic_name, partition->index,
			   __atomic_load_n(&positions->durable.position, __ATOMIC_RELAXED),
			   strerror(-errors.write_error));
	else if (state == HFB_PARTITION_OPEN && partition->state_told == HFB_PARTITION_NO_SPACE)
		hfb_report(node, "topic %s partition %u: there is room on the disk again",
			   positions->topic_name, partition->index);
	partition->state_told = state;
}

void
hfb_partitions_tick(struct hfb_node *node)
{
	uint32_t n =
		node->handles_used < PARTITIONS_A_TICK ? node->handles_used : PARTITIONS_A_TICK;

	uint64_t now_ns = hfb_clock_now_ns();

	for (; n > 0; n--) {
		struct hfb_partition *partition;

		if (node->health_next >= node->handles_used)
			node->health_next = 0;
		partition = node->partitions[node->health_next++];
		if (partition != NULL)
			partition_look(node, partition, now_ns);
	}
}
