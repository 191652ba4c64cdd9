/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node.h - what all threads of hfbusd share: made at boot, read-only to poll
 * cores, except where a field says how it is published.
 *
 * Threads: main thread writes; poll cores read.
 */
#ifndef HFB_NODE_H
#define HFB_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hfbus/ipc.h>
#include <hfbus/limits.h>
#include <hfbus/log.h>
#include <hfbus/types.h>

struct rte_mempool;
struct hfb_catalogue;
struct hfb_core;
struct hfb_counters;
struct hfb_partition;
struct hfb_store;

enum hfb_checksum_policy { HFB_CHECKSUM_OFF, HFB_CHECKSUM_COUNT, HFB_CHECKSUM_DROP };
enum hfb_restart_policy { HFB_RESTART_NEW_SESSION, HFB_RESTART_ACCEPT };

#define HFB_FEEDS_MAX	   256u
#define HFB_FEED_LINES_MAX 2u
struct hfb_feed_config {
	char name[64];
	enum hfb_framing framing;
	struct hfb_ip group[HFB_FEED_LINES_MAX];
	uint32_t lines_count; /* 1 or 2 (A, B) */
	uint16_t udp_port;    /* host order */
	uint16_t vlan;	      /* 0 = any */
	char topic[HFB_TOPIC_NAME_MAX + 1];
	uint32_t partition;
	uint32_t hold_events;		   /* hold-back: messages, default 1024 */
	uint32_t hold_us;		   /* and time, default 1000; whichever first */
	enum hfb_checksum_policy checksum; /* default COUNT */
	enum hfb_restart_policy restart;
};

enum hfb_idle { HFB_IDLE_ADAPTIVE, HFB_IDLE_BUSY };

#define HFB_PORT_DEVICE_MAX 512u
struct hfb_port_config {
	char device[HFB_PORT_DEVICE_MAX]; /* EAL device or vdev with its arguments */
	struct hfb_ip ip;		  /* all zero = none: feeds only */
	uint32_t prefix;
	uint32_t queues; /* 0 = by the device: one, or one a core where it spreads */
	bool timestamps; /* the port's receive stamp goes into the extension */
};

struct hfb_config {
	char data_dir[4096];
	uint32_t cores_count;
	int cpus[HFB_CORES_MAX]; /* -1 = not pinned */
	enum hfb_idle idle;
	bool hugepages;	     /* auto: used when there are enough */
	uint32_t memory_mib; /* DPDK's */
	uint16_t udp_port;   /* core n listens on udp_port + n */
	uint32_t ports_count, feeds_count;
	struct hfb_port_config ports[HFB_PORTS_MAX];
	struct hfb_feed_config feeds[HFB_FEEDS_MAX];
	uint64_t ring_bytes, segment_bytes; /* defaults for topics */
	uint64_t retention_bytes, retention_ns;
	uint32_t auto_create_partitions; /* of a topic made for its publisher; 0 = none is */
	uint64_t dedup_window_ns;
	uint64_t compact_bytes_per_s; /* 0 = default */
	enum hfb_stage commit_stage;
	uint32_t sessions_max, subscriptions_max, producers_max, locals_max; /* per core */
	uint64_t local_ring_bytes; /* frames a local client may have on the way to a core */
	uint32_t tail_pad, sync_mode;
};

struct hfb_port {
	const struct hfb_port_config *config;
	uint16_t dpdk_port;
	uint8_t mac[6];
	uint16_t queues;
	int timestamp_field;	    /* mbuf dynfield offset, -1 = none */
	uint64_t timestamp_flag;    /* the mbuf's ol_flags bit that says it is set */
	uint32_t timestamp_unit_ns; /* net_pcap stamps are microseconds: 1000 */
	uint16_t core;		    /* of queue 0: it sends for cores without a queue */
	struct rte_mempool *pools[HFB_CORES_MAX]; /* one a queue */
	uint64_t *stats;			  /* HFB_PORT_STAT_* */
	bool open, started;
	bool waits;	/* packets stay with the sender until read */
	bool wakes;	/* its queues can wake a sleeping core: wake.h */
	bool link_down; /* main's, atomic: at its last look there was no link */
};

/* Queue q of port p is polled by this core. */
static inline uint16_t
hfb_port_core(uint32_t port, uint32_t queue, uint32_t cores_count)
{
	return (uint16_t)((port + queue) % cores_count);
}

/* One topic of the catalogue, immutable; a change makes a new one. */
struct hfb_topic {
	struct hfb_ipc_topic info;
	uint32_t handles[]; /* info.partitions */
};

/* A deleted topic whose partitions a core has not let go: freed when the node closes. */
struct hfb_topic_stuck {
	struct hfb_topic_stuck *next;
	struct hfb_topic *topic;
};

struct hfb_node {
	const struct hfb_config *config;
	struct hfb_store *store;
	struct hfb_counters *counters;
	uint32_t leader_epoch; /* of this run */
	uint64_t broker_epoch; /* the same, as metadata shows it */
	uint8_t secret[16];    /* cookies */
	uint32_t cores_count, ports_count;
	struct hfb_core *cores[HFB_CORES_MAX];
	struct hfb_port ports[HFB_PORTS_MAX];
	/* by handle; entries are release-stored by main after the owner attached */
	struct hfb_partition *partitions[HFB_PARTITIONS_MAX];
	struct hfb_positions *positions; /* the shared table */
	/* main thread's */
	struct hfb_catalogue *catalogue; /* also read by hfb_topic_find() */
	uint64_t started_ns;
	int main_fd;		     /* eventfd: a core has answered a command */
	int positions_fd;	     /* memfd of `positions`, sealed */
	uint32_t handles_used;	     /* never used twice in a run */
	uint32_t partitions_count;   /* open */
	uint32_t health_next;	     /* handle that health.c looks at next */
	uint32_t unknown_logs_count; /* on disk, in no catalogue: kept */
	struct hfb_topic_stuck *topics_stuck;
	bool cores_running;
	uint64_t *stats; /* HFB_NODE_STAT_* */
};

static inline struct hfb_partition *
hfb_partition_get(struct hfb_node *node, uint32_t handle)
{
	if (handle >= HFB_PARTITIONS_MAX)
		return NULL;
	return __atomic_load_n(&node->partitions[handle], __ATOMIC_ACQUIRE);
}

/*
 * catalogue.c: find a topic by name from a poll core. Lock-free; the result is
 * valid until the end of the core's turn (the main thread waits for each core's
 * `turn` to move before it frees a replaced one). NULL = none.
 */
const struct hfb_topic *hfb_topic_find(struct hfb_node *node, const char *name, uint32_t name_size);

#endif
