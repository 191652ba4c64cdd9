/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core.h - a poll core: what one lcore owns, and the way of a packet through it.
 *
 *   port.c     burst of mbufs from each (port, queue) of this core
 *   decode.c   Ethernet, VLAN, ARP, IPv4, ICMP echo, UDP -> struct hfb_packet
 *   feed*.c    a packet for a feed's (group, port)	-> arbitration -> append
 *   session.c  a packet for this core's UDP port	-> frame -> produce / subscribe
 *   produce_run.c the next ones of the same session	-> append
 *   local.c    frames from local clients' channels	-> the same
 *   handover.c packets for a partition of another core -> its ring
 *   (storage)  hfb_writer_publish(): all that was appended is received
 *   ack.c	`received` acked; a transmit burst
 *   (storage)  hfb_writer_poll(): write, reap
 *   ack.c push.c  other acks and data out; a transmit burst
 *
 * Threads: all of struct hfb_core but `commands` belongs to its lcore.
 * Memory:  carved by hfb_core_create() at boot, or handed over by command.
 */
#ifndef HFB_CORE_H
#define HFB_CORE_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_mbuf.h>

#include <hfbus/limits.h>
#include <hfbus/shm.h>
#include <hfbus/types.h>
#include <hfbus/wire.h>

#include "err.h"
#include "log.h"
#include "probe.h"
#include "spsc.h"
#include "stage_times.h"
#include "stats.h"
#include "writer.h"

#define HFB_CORE_COMMANDS_MAX 1024u  /* on the way to a core at once */
#define HFB_CORE_LOGS_MAX     16384u /* partitions of one core */

#define HFB_COMMIT_MARKS 32u /* power of two */

struct hfb_node; /* node.h: config, catalogue, partition table, cores */
struct hfb_core;
struct hfb_sessions; /* session.h */
struct hfb_session;
struct hfb_feeds;      /* feed.h */
struct hfb_locals;     /* local.h */
struct hfb_idle_state; /* idle.h */
struct hfb_command;

/* A partition as the data plane knows it; made by the main thread. */
struct hfb_partition {
	uint32_t handle;
	uint32_t index; /* in its topic */
	uint16_t core;	/* owner */
	uint16_t commit_stage;
	bool internal; /* the bus's own ("__..."): only local clients write it */
	struct hfb_log *log;
	struct hfb_positions *positions;
	const struct hfb_topic *topic; /* catalogue.h; lives as long */
	/* owner core's: */
	void *acks_head;	  /* ack.c: producers that wait for a stage or for credit */
	void *subs_head;	  /* push.c: subscriptions */
	uint32_t producers_count; /* ack.c: those on acks_head, who share the room */
	uint32_t commits_at;	  /* push.c: number of the next mark */
	struct {
		uint32_t words;	     /* position / 8 */
		uint32_t offset;     /* its low half */
		uint32_t ticks;	     /* hfb_stage_ticks() */
	} commits[HFB_COMMIT_MARKS]; /* push.c: when `committed` moved, while there are readers */
	bool dirty;		     /* log advanced since acks were last sent */
	bool detaching;
	struct hfb_partition *dirty_next;
	/* main's: health.c has said this much */
	uint32_t state_told; /* enum hfb_partition_state */
	uint64_t trouble_told, read_errors_told, read_errors_told_ns;
};

/* One received UDP datagram, decoded. Points into the mbuf. */
struct hfb_packet {
	struct rte_mbuf *mbuf;
	uint16_t port; /* index in node->ports */
	uint16_t vlan; /* 0 = untagged */
	uint8_t source_mac[6];
	struct hfb_ip source, destination;
	uint16_t source_port, destination_port; /* host order */
	const uint8_t *payload;			/* UDP payload, contiguous */
	uint32_t payload_bytes;			/* by IP and UDP headers, not by the frame */
	uint64_t port_time_ns;			/* NIC's or capture's stamp, UTC ns; 0 = none */
	bool checksum_bad;			/* UDP checksum present and wrong */
};

/* A port queue this core polls, and its transmit side. */
struct hfb_queue {
	uint16_t port; /* index in node->ports */
	uint16_t dpdk_port, queue;
	uint16_t tx_count;
	struct rte_mbuf *tx[HFB_BURST_MAX * 4];
	struct rte_mempool *pool;
	uint64_t *stats; /* HFB_QUEUE_STAT_* of stats.h, in the counters file */
};

/*
 * What acks of this turn are about, for its histogram: recorded once the port has them.
 * Events acked `received` all came this turn; those acked `durable` came earlier.
 */
#define HFB_ACK_TIMES 64u
struct hfb_ack_times {
	uint64_t received_events;
	uint32_t count;
	struct {
		uint32_t ticks; /* hfb_stage_ticks() */
		uint32_t events;
	} durable[HFB_ACK_TIMES];
};

struct hfb_core {
	uint16_t id;
	uint16_t queues_count;
	int cpu;
	uint64_t now_ns; /* UTC, read once a turn */
	uint64_t now_tsc;
	uint64_t ended_tsc; /* the turn before */
	uint64_t next_tsc;  /* when the next turn begins; 0 = it reads the clock */
	uint64_t turn;	    /* turns done; release-stored each turn for quiescence */
	struct hfb_node *node;
	struct hfb_writer *writer;
	uint64_t *stats;			/* HFB_STAT_* of stats.h, in the counters file */
	struct hfb_queue queues[HFB_PORTS_MAX]; /* at most one a port */
	struct hfb_queue *queue_of_port[HFB_PORTS_MAX]; /* NULL: sent by another core */
	struct hfb_sessions *sessions;
	struct hfb_feeds *feeds;
	struct hfb_locals *locals;
	struct hfb_session *produced_by; /* by the packet decoded last: produce_run.c may go on */
	struct hfb_partition *dirty; /* logs that advanced this turn, set by storage's callback */
	struct hfb_spsc *in[HFB_CORES_MAX];  /* mbufs handed over by core i; NULL for itself */
	struct hfb_spsc *out[HFB_CORES_MAX]; /* = in[id] of core i */
	struct hfb_spsc *commands;	     /* from the main thread: struct hfb_command * */
	struct hfb_spsc *done;		     /* back to the main thread, same objects */
	struct hfb_command *detaching;	     /* DETACH under way, answered when the log is let go */
	uint64_t handed_to;	     /* bit per core given mbufs this turn: woken at its end */
	struct hfb_idle_state *idle; /* idle.h */
	int wake_fd;		     /* eventfd: commands, local clients */
	uint32_t sleeping;	     /* 1 while it may sleep; others then write wake_fd */
	uint32_t partitions_count;   /* attached here */
	struct hfb_stage_times times;
	struct hfb_ack_times acked;
	uint64_t *writer_stats; /* copy of the writer's, in the counters file */
	bool ports_live;	/* HFB_COMMAND_PORTS was there */
	bool stop;
};

/*
 * core.c. Create and destroy: main thread, while the core does not run. Create
 * carves all that the core touches: queues by port.c, writer, sessions, feeds, locals.
 */
int hfb_core_create(struct hfb_node *node, uint16_t id, struct hfb_core **ret_core,
		    struct hfb_err *err);
void hfb_core_destroy(struct hfb_core *core); /* accepts NULL */
/* Once all cores are made: the rings between them. */
int hfb_cores_connect(struct hfb_node *node, struct hfb_err *err);
/* One turn; returns the work done. */
uint32_t hfb_core_turn(struct hfb_core *core);
/* Turns until HFB_COMMAND_STOP; an lcore function (argument: struct hfb_core *). */
int hfb_core_run(void *core);
/* Any thread, after it has made work visible: wake the core if it may sleep. */
void hfb_core_wake(struct hfb_core *core);

/* A packet or frame is dropped: by reason, HFB_STAT_DROP_*. */
static inline void
hfb_drop(struct hfb_core *core, int reason)
{
	core->stats[reason]++;
	HFB_PROBE2(drop, core->id, hfb_stat_names[reason]);
}

/* What travels in an mbuf's private area when it is handed over. */
struct hfb_mbuf_private {
	uint16_t kind; /* HFB_HANDED_* */
	uint16_t from_core;
	uint16_t feed_line; /* feed.h */
	uint16_t reserved;
	uint32_t handle;
	uint32_t ticks;	  /* hfb_stage_ticks() of from_core's turn */
	uint64_t session; /* validated by from_core */
	struct hfb_packet packet;
};
enum {
	HFB_HANDED_PRODUCE = 1,
	HFB_HANDED_SUBSCRIBE = 2,
	HFB_HANDED_FEED = 3,
	HFB_HANDED_TX = 4,    /* to send: the port's one queue belongs to that core */
	HFB_HANDED_CLOSE = 5, /* the session's client is gone; from core to core */
};
static inline struct hfb_mbuf_private *
hfb_mbuf_private(struct rte_mbuf *mbuf)
{
	return (struct hfb_mbuf_private *)rte_mbuf_to_priv(mbuf);
}

/* handover.c: takes packet->mbuf. False: ring full, mbuf freed, drop counted. */
bool hfb_handover(struct hfb_core *core, uint16_t to_core, uint16_t kind,
		  const struct hfb_packet *packet, uint32_t handle, uint64_t session,
		  uint16_t feed_line);
uint32_t hfb_handover_poll(struct hfb_core *core);
/* The receiving ends, on the owner core; @private->packet is the datagram. The
 * caller frees the mbuf afterwards (take a reference to keep it). */
void hfb_session_handed(struct hfb_core *core,
			const struct hfb_mbuf_private *private);		     /* session.c */
void hfb_feed_handed(struct hfb_core *core, const struct hfb_mbuf_private *private); /* feed.c */

/* port.c: one burst from each of this core's queues; returns packets. */
uint32_t hfb_port_poll(struct hfb_core *core);
/* port.c: an mbuf with room for @bytes of UDP payload towards a peer, headers
 * written; NULL: pool empty, counted. hfb_tx_send() takes it (counted when the port is full). */
struct hfb_peer {      /* where answers go */
	uint16_t port; /* index in node->ports */
	uint16_t vlan;
	uint8_t mac[6];
	uint8_t own_mac[6];
	struct hfb_ip ip, own_ip;
	uint16_t udp_port, own_udp_port;
};
struct rte_mbuf *hfb_tx_begin(struct hfb_core *core, const struct hfb_peer *peer, uint32_t bytes,
			      uint8_t **ret_payload);
void hfb_tx_send(struct hfb_core *core, const struct hfb_peer *peer, struct rte_mbuf *mbuf,
		 uint32_t bytes);
uint32_t hfb_tx_flush(struct hfb_core *core); /* end of turn */
/* A raw Ethernet frame (ARP, ICMP, IGMP answers). Takes @mbuf. */
void hfb_tx_raw(struct hfb_core *core, uint16_t port, struct rte_mbuf *mbuf);

/* decode.c: takes @mbufs. Answers ARP and ICMP echo itself, hands UDP on to
 * hfb_feed_input() or hfb_session_input(), counts the rest by reason. */
void hfb_decode_burst(struct hfb_core *core, struct hfb_queue *queue, struct rte_mbuf **mbufs,
		      uint32_t n);
/* Pure part, for tests and fuzzing: HFB_STAT_DROP_* or -1 when *@ret_packet is a UDP datagram. */
int hfb_decode_frame(const uint8_t *frame, uint32_t bytes, struct hfb_packet *ret_packet);

/*
 * produce_run.c: PRODUCE frames that follow those of core->produced_by. Returns how many of @mbufs
 * it has appended, 0..@n; the next one takes the long way. Takes no reference.
 */
uint32_t hfb_run_take(struct hfb_core *core, const struct hfb_queue *queue, struct rte_mbuf **mbufs,
		      uint32_t n);

/* feed.c: a datagram to a feed's (group, port); takes nothing, keeps a
 * reference (rte_pktmbuf_refcnt_update) when it holds the packet back. */
int hfb_feed_line_find(const struct hfb_core *core, const struct hfb_packet *packet); /* or -1 */
void hfb_feed_input(struct hfb_core *core, uint16_t line, const struct hfb_packet *packet);
uint32_t hfb_feed_poll(struct hfb_core *core); /* hold-back expiry, local gaps */
/*
 * port.c asks before it receives: true while a feed's log has no room just now.
 * Ports that hold their packets meanwhile (net_pcap, net_memif, net_ring: a lossless
 * sender) should then not be read. Ends by itself after a second without progress:
 * from then on events are dropped and reported as local gaps.
 */
bool hfb_feed_paused(const struct hfb_core *core);
/* igmp.c: an IPv4 packet with protocol 2, from the IP header on. Takes nothing. */
void hfb_igmp_input(struct hfb_core *core, uint16_t port, const uint8_t *ip, uint32_t bytes);
/* Main thread, after the ports are started: let multicast through (allmulticast, else promiscuous).
 */
void hfb_igmp_ports_start(struct hfb_node *node);
/* Main thread, while the core does not run: make and free core->feeds. */
int hfb_feeds_create(struct hfb_core *core, struct hfb_err *err);
void hfb_feeds_destroy(struct hfb_core *core); /* accepts a core without */
/* HFB_COMMAND_FEED_BIND, on every core: node->config->feeds[feed] goes to @partition,
 * which may belong to another core (then only partition->core and ->handle are used);
 * NULL: its topic is gone. */
void hfb_feed_bind(struct hfb_core *core, uint32_t feed, struct hfb_partition *partition);
/* HFB_COMMAND_DETACH, on the owner: append nothing to it from now on, let it go. */
void hfb_feed_partition_detach(struct hfb_core *core, struct hfb_partition *partition);

/* ack.c: acks noted this turn have been given to their ports. */
void hfb_ack_times_record(struct hfb_core *core, uint64_t now_tsc);
/* session.c */
void hfb_session_input(struct hfb_core *core, const struct hfb_packet *packet);
uint32_t hfb_session_acks(struct hfb_core *core); /* what is received and published */
uint32_t hfb_session_poll(struct hfb_core *core); /* acks, pushes, idle sessions */
/* push.c: @partition's committed position may have moved, and it has readers. */
void hfb_push_committed(struct hfb_core *core, struct hfb_partition *partition);
/* Main thread, while the core does not run: make and free core->sessions. */
int hfb_sessions_create(struct hfb_core *core, struct hfb_err *err);
void hfb_sessions_destroy(struct hfb_core *core); /* accepts a core without */
/*
 * HFB_COMMAND_DETACH, on the owner, with partition->detaching set: frames for it are
 * dropped from now on; its subscriptions, ack waiters and reads are let go.
 */
void hfb_session_partition_detach(struct hfb_core *core, struct hfb_partition *partition);
/* A frame from a local channel whose session number the caller owns. @bytes may
 * change while being read: load once, copy, then check. */
/* A session with this number that answers over @local; NULL: table full. */
struct hfb_session *hfb_session_local_create(struct hfb_core *core, uint64_t number, void *local);
void hfb_session_local_destroy(struct hfb_core *core, struct hfb_session *session);
void hfb_session_local_frame(struct hfb_core *core, struct hfb_session *session,
			     const volatile uint8_t *frame, uint32_t bytes);
/* local.c: room for a frame to a local client; NULL: its ring is full (counted; send later). */
uint8_t *hfb_local_frame_begin(struct hfb_core *core, void *local, uint32_t bytes);
void hfb_local_frame_send(struct hfb_core *core, void *local, uint32_t bytes);
uint32_t hfb_local_poll(struct hfb_core *core);

/* Commands from the main thread; each is answered on `done`. */
enum hfb_command_type {
	HFB_COMMAND_ATTACH,    /* partition: log to the writer, table entry live */
	HFB_COMMAND_DETACH,    /* partition: `end_mark`; answered when let go */
	HFB_COMMAND_LOCAL_ADD, /* local: a client's channel */
	HFB_COMMAND_LOCAL_REMOVE,
	HFB_COMMAND_SETTINGS,  /* partition: `settings` from here on */
	HFB_COMMAND_FEED_BIND, /* feed line: its topic's partition exists now */
	HFB_COMMAND_PORTS,     /* ports are started and feeds bound: poll them */
	HFB_COMMAND_PORTS_OFF, /* poll them no more: main stops them */
	HFB_COMMAND_STOP,      /* all partitions are detached: leave the loop */
};
struct hfb_command {
	enum hfb_command_type type;
	struct hfb_partition *partition;
	void *object;  /* LOCAL_*: struct hfb_local * */
	uint32_t feed; /* FEED_BIND: index in config->feeds */
	struct hfb_log_settings settings;
	bool end_mark;
	bool answered; /* main thread's: back from `done` */
	int result;
	struct hfb_command *next; /* the holder's list */
};

#endif
