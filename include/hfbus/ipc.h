/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hfbus/ipc.h - messages on hfbusd's unix socket (DATA/hfbusd.sock,
 * SOCK_SEQPACKET): a request, an answer with the same id, descriptors by
 * SCM_RIGHTS. The main thread serves it; no poll core is asked by it to wait.
 *
 * A message is struct hfb_ipc, then the body named for its type. An answer has
 * the type of its request, flag HFB_IPC_ANSWER and `error` = 0 or a positive
 * errno with a sentence in place of the body.
 */
#ifndef HFB_IPC_H
#define HFB_IPC_H

#include <stdint.h>

#include <hfbus/limits.h>
#include <hfbus/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HFB_IPC_MAGIC	  0x50494248u /* "HBIP" */
#define HFB_IPC_VERSION	  1u
#define HFB_IPC_BYTES_MAX 65536u
#define HFB_IPC_ANSWER	  0x0001u

enum hfb_ipc_type {
	HFB_IPC_HELLO = 1,	 /* -> hfb_ipc_welcome + fds {positions, counters} */
	HFB_IPC_TOPIC_GET = 2,	 /* hfb_ipc_topic_get -> hfb_ipc_topic + partitions */
	HFB_IPC_TOPIC_LIST = 3,	 /* hfb_ipc_cursor -> hfb_ipc_topic[] page */
	HFB_IPC_TOPIC_PUT = 4,	 /* hfb_ipc_topic, compare-and-set on version */
	HFB_IPC_RING_GET = 5,	 /* hfb_ipc_handle -> hfb_ipc_ring + fd */
	HFB_IPC_SEGMENT_GET = 6, /* hfb_ipc_read -> hfb_ipc_segment + fd, read-only, opened anew */
	HFB_IPC_LOOKUP = 7,	 /* hfb_ipc_lookup -> hfb_ipc_place_answer */
	HFB_IPC_CHANNEL_OPEN =
		8, /* hfb_ipc_channel_open -> hfb_ipc_channel + fds {memfd, eventfd} */
	HFB_IPC_CHANNEL_CLOSE = 9, /* hfb_ipc_channel_open.session */
	HFB_IPC_NODE = 10,	   /* -> hfb_ipc_node: cores, ports, epoch */
	HFB_IPC_TRIM = 11,	   /* hfb_ipc_trim -> hfb_ipc_trim_answer */
};

struct hfb_ipc {
	uint32_t magic;
	uint16_t version;
	uint16_t type; /* enum hfb_ipc_type */
	uint16_t flags;
	uint16_t incompatible; /* 0 today */
	uint32_t size;	       /* bytes with this header */
	uint32_t id;	       /* caller's, echoed */
	uint32_t error;	       /* answers: 0 or errno */
};

struct hfb_ipc_welcome {
	uint64_t broker_epoch; /* leader epoch of this run */
	uint32_t pid;
	uint32_t cores;
	uint64_t counters_bytes;
	uint64_t positions_bytes;
	uint64_t tsc_hz;
};
struct hfb_ipc_node {
	uint64_t broker_epoch;
	uint32_t pid, cores;
	uint64_t started_ns;
	uint32_t topics_count, partitions_count;
	uint16_t udp_port_base, ports_count;
	uint32_t unknown_logs_count; /* data no catalogue knows: reported, kept */
};

/* A topic in the catalogue. `version` counts changes; higher wins. */
#define HFB_TOPIC_DELETED	  0x0001u /* tombstone */
#define HFB_TOPIC_CREATED_BY_FEED 0x0002u
struct hfb_ipc_topic {
	char name[256];		   /* zero terminated */
	struct hfb_uuid uuid;	   /* zero in a create: hfbusd chooses */
	uint64_t version;	   /* after the change */
	uint64_t expected_version; /* TOPIC_PUT: 0 = must not exist */
	uint32_t partitions;	   /* 1..HFB_TOPIC_PARTITIONS_MAX */
	uint32_t commit_stage;	   /* enum hfb_stage */
	uint64_t retention_bytes;  /* of each partition, 0 = no limit */
	uint64_t retention_ns;	   /* 0 = no limit */
	uint64_t segment_bytes;	   /* largest class, 0 = default */
	uint64_t ring_bytes;	   /* largest class, 0 = default */
	uint64_t created_ns;
	uint32_t flags;	       /* HFB_TOPIC_* */
	uint32_t first_handle; /* partitions have handles in hfb_ipc_partition */
	uint32_t cleanup;      /* enum hfb_cleanup */
	uint32_t reserved0;    /* 0 */
	uint64_t tombstone_ns; /* compaction keeps a tombstone so long; 0 = default */
	uint64_t reserved1[3]; /* 0 */
};
struct hfb_ipc_partition {
	uint32_t handle;
	uint16_t core;
	uint16_t udp_port;
};
/* Make it when it is not there, if hfbusd is configured to: topics.auto-create. */
#define HFB_TOPIC_GET_CREATE 0x0001u
struct hfb_ipc_topic_get {
	char name[256];
	uint32_t first_partition;
	uint32_t flags; /* HFB_TOPIC_GET_* */
};
struct hfb_ipc_topic_answer { /* then hfb_ipc_partition[count] */
	struct hfb_ipc_topic topic;
	uint32_t first_partition;
	uint32_t count;
};
struct hfb_ipc_cursor {
	char after[256];
}; /* names > after, "" = all */
struct hfb_ipc_list {
	uint32_t count;
	uint32_t more;
}; /* then hfb_ipc_topic[count] */

struct hfb_ipc_handle {
	uint32_t handle, reserved;
};
struct hfb_ipc_ring {
	uint32_t handle, generation;
	uint64_t ring_bytes;
};
struct hfb_ipc_read {
	uint32_t handle, reserved;
	uint64_t position;
};
struct hfb_ipc_segment {
	uint32_t handle, kind;
	uint64_t base_position; /* of the segment holding position */
	uint64_t capacity_bytes;
	uint64_t end_position; /* last batch's end; all ones while still written */
	uint64_t base_offset;
	char path[512]; /* for messages */
};
struct hfb_ipc_lookup {
	uint32_t handle;
	uint16_t from; /* enum hfb_read_from of wire.h */
	uint16_t reserved;
	uint32_t leader_epoch; /* FROM_PLACE: epoch of value; FROM_OFFSET: of the event before, or 0
				*/
	uint32_t reserved2;
	uint64_t value;
};
struct hfb_ipc_place_answer {
	uint32_t code; /* enum hfb_wire_code: OK, TRUNCATED, BELOW_START */
	uint32_t reserved;
	struct hfb_place place; /* a batch at or before what was asked; scan on from it */
};
/* Drop what is below an offset. Asked again until `done`: then it survives any crash. */
struct hfb_ipc_trim {
	char name[256];
	uint32_t partition;
	uint32_t reserved;
	uint64_t before; /* offset that becomes the first; all ones = all that is committed */
};
struct hfb_ipc_trim_answer {
	uint64_t start_position, start_offset;
	uint32_t done;
	uint32_t reserved;
};
struct hfb_ipc_channel_open {
	uint32_t core, reserved;
	uint64_t session;
};
struct hfb_ipc_channel {
	uint64_t session;
	uint64_t bytes;
};

#ifdef __cplusplus
}
#endif
#endif
