/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hfbus/limits.h - every ceiling, with its unit, its reason and its ties.
 *
 * Threads: constants only.
 */
#ifndef HFB_LIMITS_H
#define HFB_LIMITS_H

#define HFB_KIB 1024u
#define HFB_MIB (1024u * 1024u)

/* One burst is what DPDK's vector receive paths return at best. */
#define HFB_BURST_MAX 64u

/* Poll cores in a node; core ids are one byte in session numbers. */
#define HFB_CORES_MAX 64u

/* DPDK ports in a node. */
#define HFB_PORTS_MAX 16u

/* A topic's name: it is a directory name, and fits a metadata frame. */
#define HFB_TOPIC_NAME_MAX 200u /* bytes, [A-Za-z0-9._-], not "." or ".." */

/* Partitions of one topic, and of a node (handles are indices below it). */
#define HFB_TOPIC_PARTITIONS_MAX 4096u
#define HFB_PARTITIONS_MAX	 65536u

/* A batch: min(ring / 4, 1 MiB) with its header; smaller rings allow less. */
#define HFB_BATCH_BYTES_MAX HFB_MIB

/* Events in a batch: a full batch of empty events. */
#define HFB_BATCH_EVENTS_MAX (HFB_BATCH_BYTES_MAX / 16u)

/* The largest event: one batch less its header and its record's. */
#define HFB_EVENT_BYTES_MAX   (HFB_BATCH_BYTES_MAX - 64u - 16u)
#define HFB_KEY_BYTES_MAX     65534u /* all ones means null */
#define HFB_HEADERS_BYTES_MAX 65535u

/* Ring and segment size classes, powers of two. */
#define HFB_RING_BYTES_MIN    (1u * HFB_MIB)
#define HFB_RING_BYTES_MAX    (256u * HFB_MIB)
#define HFB_SEGMENT_BYTES_MIN (1u * HFB_MIB)
#define HFB_SEGMENT_BYTES_MAX (256u * HFB_MIB)
/* A log's first segment: ten thousand topics with a few events each are to cost little. */
#define HFB_SEGMENT_BYTES_FIRST (64u * HFB_KIB)

/* Compaction keeps a tombstone for a day, unless the topic says otherwise. */
#define HFB_TOMBSTONE_NS_DEFAULT 86400000000000ull

/* Native UDP: a frame in one unfragmented Ethernet packet. */
#define HFB_UDP_PAYLOAD_MAX 1472u

/* Consumer groups: what fits a message of hfbus-control's socket, and its memory. */
#define HFB_GROUP_NAME_MAX	 200u  /* bytes, as a topic's name */
#define HFB_GROUP_ID_MAX	 96u   /* bytes of a member's or an instance's name */
#define HFB_GROUP_TOPICS_MAX	 64u   /* a member subscribes to */
#define HFB_GROUP_PARTITIONS_MAX 4096u /* of all topics of a group */
#define HFB_GROUP_MEMBERS_MAX	 256u
#define HFB_GROUPS_MAX		 10000u
#define HFB_GROUP_SESSION_MS_MIN 300u	  /* a few heartbeats */
#define HFB_GROUP_SESSION_MS_MAX 1800000u /* as Kafka's */

/* Topics whose name begins so are the bus's own. */
#define HFB_TOPIC_INTERNAL_PREFIX "__"

/* Default UDP port of poll core 0; core n listens on the n-th after it. */
#define HFB_UDP_PORT_DEFAULT 7400u

#endif
