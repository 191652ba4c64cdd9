/* SPDX-License-Identifier: Apache-2.0 */
/*
 * partitions.h - from topics of the catalogue to logs that poll cores own, and back.
 *
 *	hfb_positions_create(node, &err);	shared table, read-only to others
 *	hfb_partitions_open(node, &err);	all logs: recovered, reported, attached
 *	hfb_topic_put(node, &request, &topic, &err);	create, change, delete
 *	hfb_partitions_end(node);		end marks, all durable
 *	hfb_partitions_close(node);		cores have stopped: closed
 *
 * A partition's core is its topic's name hashed, plus its index: a topic's partitions
 * spread evenly and stay where they are while the number of cores does.
 *
 * Threads: main.
 */
#ifndef HFB_PARTITIONS_H
#define HFB_PARTITIONS_H

#include <stdint.h>

#include <hfbus/ipc.h>

#include "err.h"
#include "node.h"

int hfb_positions_create(struct hfb_node *node, struct hfb_err *err);
void hfb_positions_destroy(struct hfb_node *node);

/*
 * Open and attach every partition of the catalogue, finish deletes that were cut short,
 * count logs that no topic knows. A log that cannot be opened is reported and left out:
 * the others serve. Returns 0 or -errno when nothing can go on.
 */
int hfb_partitions_open(struct hfb_node *node, struct hfb_err *err);

/* Each feed's topic, created when missing, and its lines bound. */
int hfb_feeds_bind(struct hfb_node *node, struct hfb_err *err);

/*
 * Apply a change, compare-and-set on its version (hfb_ipc_topic).
 *
 * Returns 0 and the topic as it is now, or
 *   -EINVAL     name, partitions, sizes
 *   -ENOTSUP    a mirrored commit stage, without a mirror
 *   -EEXIST     expected_version 0, and it exists; or it exists with another uuid
 *   -ESTALE     it has another version than expected, or not a lower one than the new
 *   -ENOENT     a change of what does not exist
 *   -ENOSPC     no handles are left, or the disk is full
 *   -errno      the catalogue could not be written, a log not be opened: nothing changed
 */
int hfb_topic_put(struct hfb_node *node, const struct hfb_ipc_topic *request,
		  const struct hfb_topic **ret_topic, struct hfb_err *err);

/*
 * Let all logs go, with end marks; the cores are running. They stay published, since a
 * feed or a session of another core may still look at them. 0, or -ETIMEDOUT, -ENOMEM.
 */
int hfb_partitions_end(struct hfb_node *node);
/* Once the cores have stopped: close the logs. */
void hfb_partitions_close(struct hfb_node *node);

/* Tell, once each, when a disk is full or has failed, when there is room again, and what
 * else the files' helper met. A part of the partitions a call. */
void hfb_partitions_tick(struct hfb_node *node);

/* A line of a report: to stderr and to DATA/recovery.log. */
void hfb_report(struct hfb_node *node, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
