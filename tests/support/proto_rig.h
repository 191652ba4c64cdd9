/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proto_rig.h - one poll core's protocol code without ports, disk or EAL: logs whose
 * stages the test moves by hand, frames in from it, frames out kept for it.
 *
 *	rig_open(&rig);
 *	session = rig_local(&rig);
 *	rig_produce(&rig, session, &(struct rig_batch){ .producer_id = 7, .count = 1 });
 *	rig_turn(&rig);
 *	ack = rig_ack(&rig, 0);
 *	rig_close(&rig);
 *
 * What the log's, the port's and the catalogue's code would do is defined here, so a
 * program that links this does not link them.
 *
 * Threads: the test's one.
 */
#ifndef HFB_PROTO_RIG_H
#define HFB_PROTO_RIG_H

#include "crc32c.h"
#include "session.h"

#define RIG_PARTITIONS	4u
#define RIG_FRAMES	512u
#define RIG_FRAME_BYTES 2048u
#define RIG_LOG_BYTES	(4u * HFB_MIB)
#define RIG_PRODUCERS	64u

struct hfb_log {
	uint8_t *bytes; /* all of it, from position 0 */
	uint64_t appended, received, durable, committed, start, next_offset;
	uint64_t ring_bytes; /* what of it peek may serve */
	uint32_t claimed;
	uint32_t epoch;
	enum hfb_log_refusal refusal;	   /* of the next claims */
	int read_error;			   /* of the next reads */
	uint64_t corrupt_from, corrupt_to; /* known to be damaged in the files */
	int lookup_result;		   /* when not 0 */
	struct hfb_place lookup_place;
	struct {
		uint64_t producer_id, next;
		uint16_t epoch;
	} producers[RIG_PRODUCERS];
	struct hfb_read *reads[HFB_READERS];
	void *user;
};

struct rig_frame {
	bool local;
	uint16_t port; /* the peer's UDP port */
	uint32_t bytes;
	uint8_t data[RIG_FRAME_BYTES] __attribute__((aligned(8)));
};

struct rig {
	struct hfb_config config;
	struct hfb_node *node;
	struct hfb_core core;
	uint64_t stats[HFB_STATS_COUNT];
	struct hfb_histogram *times[HFB_STAGE_TIMES_COUNT];
	struct hfb_partition partition[RIG_PARTITIONS];
	struct hfb_positions positions[RIG_PARTITIONS];
	struct hfb_log log[RIG_PARTITIONS];
	struct hfb_topic *topic;
	struct rig_frame *frames; /* sent, oldest first */
	uint32_t frames_count;
	uint32_t no_frames;   /* 1: the port and the local rings are full */
	uint64_t stuck_below; /* local sessions with a lower number have full rings */
	uint32_t handed_count;
	uint16_t handed_kind, handed_core;
	uint64_t handed_session;
	struct hfb_packet handed_packet;
	bool handover_full;
	struct rte_mbuf mbuf; /* of packets in */
	struct rte_mbuf tx;
	uint64_t packet; /* our frames' numbers */
	uint64_t locals;
};

struct rig_batch {
	uint32_t partition;
	uint64_t producer_id;
	uint16_t epoch;
	uint16_t flags;
	uint64_t base_sequence;
	uint32_t count; /* records of 64 bytes of value */
	uint32_t crc_xor;
};

void rig_open(struct rig *rig);
void rig_close(struct rig *rig);
/* The end of a turn: what was appended is published, answers go out. */
void rig_turn(struct rig *rig);
/* All that was appended is on disk. */
void rig_durable(struct rig *rig, uint32_t partition);
void rig_reads_complete(struct rig *rig);
void rig_forget(struct rig *rig); /* frames sent so far */

struct hfb_session *rig_local(struct rig *rig);
/* A datagram from 10.0.0.<host>:<port>. */
void rig_packet(struct rig *rig, struct hfb_packet *packet, uint8_t host, uint16_t port,
		const void *payload, uint32_t bytes);
void rig_udp(struct rig *rig, uint8_t host, uint16_t port, const void *payload, uint32_t bytes);
/* HELLO to OPENED; the session's number, 0 when refused. */
uint64_t rig_udp_open(struct rig *rig, uint8_t host, uint16_t port, uint64_t nonce);
struct hfb_frame rig_head(struct rig *rig, uint8_t type, uint64_t session);

/* A PRODUCE frame into @to; returns its size. */
uint32_t rig_produce_make(struct rig *rig, uint8_t *to, uint64_t session,
			  const struct rig_batch *batch);
void rig_produce(struct rig *rig, struct hfb_session *session, const struct rig_batch *batch);
void rig_subscribe(struct rig *rig, struct hfb_session *session, uint16_t from, uint64_t value,
		   uint32_t window_bytes, uint16_t flags);

/* The n-th frame of this type among those sent; NULL: none. */
const void *rig_sent(const struct rig *rig, uint8_t type, uint32_t n);
uint32_t rig_sent_bytes(const struct rig *rig, uint8_t type, uint32_t n);
uint32_t rig_sent_count(const struct rig *rig, uint8_t type);
/* The n-th ACK entry over all ACK frames sent; NULL: none. */
const struct hfb_wire_ack *rig_ack(const struct rig *rig, uint32_t n);
/* The rig in use (the code's ways out have no pointer to it). */
struct rig *rig_current(void);

#endif
