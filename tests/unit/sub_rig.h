/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sub_rig.h - a stand-in for hfbusd, small enough to be made to misbehave: one topic
 * "t" with one partition, whose log the test writes itself.
 *
 *	struct rig *rig = rig_start(NULL);	 a thread serves the socket
 *	rig_append(rig, 10);			 a batch of ten events "event N"
 *	...
 *	rig_stop(rig);
 *
 * Threads: the serving thread answers; the caller's thread writes the log.
 */
#ifndef SUB_RIG_H
#define SUB_RIG_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <hfbus/ipc.h>
#include <hfbus/log.h>
#include <hfbus/shm.h>

#define RIG_RING_BYTES	  (1u << 20)
#define RIG_SEGMENT_BYTES (1u << 22)

struct hfb_counters;

struct rig {
	char folder[256];
	struct hfb_uuid topic;
	uint32_t seed;
	int listen_fd, clients[16], wake[2];
	uint32_t clients_count;
	pthread_t thread;
	int positions_fd, ring_fd, counters_fd;
	struct hfb_counters *counters;
	struct hfb_positions *positions; /* the table; slot `handle` is ours */
	uint8_t *ring;
	uint64_t ring_bytes;
	uint32_t ring_generation;
	uint32_t handle;
	uint32_t epoch;
	uint64_t position, offset; /* next */
	uint64_t lookup_start, lookup_start_offset;
	/* epochs that ended: asked for by FROM_PLACE */
	uint32_t ended_epoch;
	uint64_t ended_at, ended_offset;
	bool durable_too; /* append publishes durable as well */
	int channel_fd, event_fd;
};
#define RIG_HANDLE 7u /* and the next one, once the topic was made anew */

/* @folder NULL = a new one. A folder used before keeps its files. */
struct rig *rig_start(const char *folder);
void rig_stop(struct rig *rig); /* closes everything but the folder */
/* The epoch before @epoch was cut at (@position, @offset): go on there. */
void rig_resume(struct rig *rig, uint32_t epoch, uint64_t position, uint64_t offset);

/* The topic is deleted, and made again under its name: another log, at its beginning. */
void rig_topic_anew(struct rig *rig);

void rig_append(struct rig *rig, uint32_t count);
/* A batch of one record with this value and header fields. */
void rig_append_bytes(struct rig *rig, const struct hfb_batch *fields, const void *payload,
		      uint32_t bytes);
void rig_publish(struct rig *rig);
/* A ring of four times the size, with nothing of the old one in it: the files have that. As
 * the owner does it, readers see its size and intent before its generation. */
void rig_ring_grow_begin(struct rig *rig);
void rig_ring_grow_end(struct rig *rig);
/* The segment file that holds a position. */
void rig_segment_path(const struct rig *rig, uint64_t position, char *to, size_t size);

#endif
