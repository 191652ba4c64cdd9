/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stats.h - a poll core's counters, one line each; core->stats[HFB_STAT_x]++.
 * The second column is the name in the counters file (base/counters.h).
 *
 * Threads: a core writes its own; anyone reads them in the file.
 */
#ifndef HFB_STATS_H
#define HFB_STATS_H

#define HFB_STATS(X)                                                                               \
	X(TURNS, "turns_total")                                                                    \
	X(TURNS_WORKED, "turns_worked_total")                                                      \
	X(WORK_TSC, "work_tsc_total")                                                              \
	X(SPIN_TSC, "spin_tsc_total")                                                              \
	X(SLEEPS, "sleeps_total")                                                                  \
	X(SLEEPS_WAKEABLE, "sleeps_wakeable_total")                                                \
	X(SLEEP_TSC, "sleep_tsc_total")                                                            \
	X(APPEND_BATCHES, "append_batches_total")                                                  \
	X(APPEND_EVENTS, "append_events_total")                                                    \
	X(APPEND_BYTES, "append_bytes_total")                                                      \
	X(PRODUCE_FRAMES, "produce_frames_total")                                                  \
	X(PRODUCE_DUPLICATES, "produce_duplicates_total")                                          \
	X(PRODUCE_REFUSED_GAP, "produce_refused_total{reason=sequence_gap}")                       \
	X(PRODUCE_REFUSED_FENCED, "produce_refused_total{reason=fenced}")                          \
	X(PRODUCE_REFUSED_UNKNOWN, "produce_refused_total{reason=unknown_producer}")               \
	X(PRODUCE_REFUSED_FULL, "produce_refused_total{reason=ring_full}")                         \
	X(PRODUCE_REFUSED_NO_SPACE, "produce_refused_total{reason=no_space}")                      \
	X(PRODUCE_REFUSED_IO, "produce_refused_total{reason=io_error}")                            \
	X(PRODUCE_REFUSED_PARTITION, "produce_refused_total{reason=no_partition}")                 \
	X(PRODUCE_REFUSED_STAGE, "produce_refused_total{reason=stage_unavailable}")                \
	X(PRODUCE_REFUSED_LARGE, "produce_refused_total{reason=too_large}")                        \
	X(PRODUCE_REFUSED_MANY, "produce_refused_total{reason=too_many_producers}")                \
	X(ACK_FRAMES, "ack_frames_total")                                                          \
	X(PUSH_FRAMES, "push_frames_total")                                                        \
	X(PUSH_BYTES, "push_bytes_total")                                                          \
	X(FILE_READS, "file_reads_total")                                                          \
	X(READERS_LAPPED, "readers_lapped_total")                                                  \
	X(READERS_BELOW_START, "readers_below_start_total")                                        \
	X(SESSIONS, "=sessions")                                                                   \
	X(SUBSCRIPTIONS, "=subscriptions")                                                         \
	X(LOCALS, "=local_clients")                                                                \
	X(HANDOVERS, "handovers_total")                                                            \
	X(TX_DROPS, "tx_drops_total")                                                              \
	X(TX_NO_MBUF, "tx_no_mbuf_total")                                                          \
	X(ARP_ANSWERS, "arp_answers_total")                                                        \
	X(ICMP_ANSWERS, "icmp_answers_total")                                                      \
	X(DROP_SHORT, "drops_total{reason=short_frame}")                                           \
	X(DROP_NOT_OURS, "drops_total{reason=not_ours}")                                           \
	X(DROP_ETHERTYPE, "drops_total{reason=ethertype}")                                         \
	X(DROP_IP_HEADER, "drops_total{reason=ip_header}")                                         \
	X(DROP_IP_CHECKSUM, "drops_total{reason=ip_checksum}")                                     \
	X(DROP_FRAGMENT, "drops_total{reason=ip_fragment}")                                        \
	X(DROP_IP_PROTOCOL, "drops_total{reason=ip_protocol}")                                     \
	X(DROP_UDP_LENGTH, "drops_total{reason=udp_length}")                                       \
	X(DROP_UDP_CHECKSUM, "drops_total{reason=udp_checksum}")                                   \
	X(DROP_UDP_PORT, "drops_total{reason=udp_port}")                                           \
	X(DROP_MULTI_SEGMENT, "drops_total{reason=multi_segment}")                                 \
	X(DROP_FRAME_SHORT, "drops_total{reason=frame_short}")                                     \
	X(DROP_FRAME_MAGIC, "drops_total{reason=frame_magic}")                                     \
	X(DROP_FRAME_VERSION, "drops_total{reason=frame_version}")                                 \
	X(DROP_FRAME_TYPE, "drops_total{reason=frame_type}")                                       \
	X(DROP_FRAME_FLAGS, "drops_total{reason=frame_flags}")                                     \
	X(DROP_SESSION, "drops_total{reason=session_unknown}")                                     \
	X(DROP_SESSION_ADDRESS, "drops_total{reason=session_address}")                             \
	X(DROP_COOKIE, "drops_total{reason=cookie}")                                               \
	X(DROP_SESSIONS_FULL, "drops_total{reason=sessions_full}")                                 \
	X(DROP_BATCH_CRC, "drops_total{reason=batch_crc}")                                         \
	X(DROP_BATCH_FRAMING, "drops_total{reason=batch_framing}")                                 \
	X(DROP_HANDOVER_FULL, "drops_total{reason=handover_full}")                                 \
	X(DROP_LOCAL_FRAMING, "drops_total{reason=local_framing}")                                 \
	X(DROP_FEED_FRAMING, "drops_total{reason=feed_framing}")                                   \
	X(DROP_FEED_CHECKSUM, "drops_total{reason=feed_checksum}")                                 \
	X(FEED_CHECKSUM_BAD, "feed_checksum_bad_total")

enum hfb_stat {
#define X(id, name) HFB_STAT_##id,
	HFB_STATS(X)
#undef X
		HFB_STATS_COUNT
};

/* Of the first column, as in the second. */
extern const char *const hfb_stat_names[HFB_STATS_COUNT];

/* Per (port, queue), written by the core that polls it; labels "port=,queue=,core=,device=". */
#define HFB_QUEUE_STATS(X)                                                                         \
	X(RX_PACKETS, "rx_packets_total")                                                          \
	X(RX_BYTES, "rx_bytes_total")                                                              \
	X(TX_PACKETS, "tx_packets_total")                                                          \
	X(TX_BYTES, "tx_bytes_total")                                                              \
	X(LAST_PACKET_NS, "=last_packet_ns")

/* Per port, copied from the device by the main thread; labels "port=,device=". */
#define HFB_PORT_STATS(X)                                                                          \
	X(RX_MISSED, "rx_missed_total")                                                            \
	X(RX_ERRORS, "rx_errors_total")                                                            \
	X(RX_NO_MBUF, "rx_no_mbuf_total")                                                          \
	X(TX_ERRORS, "tx_errors_total")                                                            \
	X(LINK, "=link_up")

/* Per core, copied from its writer by the core itself. */
#define HFB_WRITER_STATS(X)                                                                        \
	X(WRITES, "disk_writes_total")                                                             \
	X(WRITE_BYTES, "disk_write_bytes_total")                                                   \
	X(SYNCS, "disk_syncs_total")                                                               \
	X(READS, "disk_reads_total")                                                               \
	X(ERRORS, "disk_errors_total")                                                             \
	X(SHORT_WRITES, "disk_short_writes_total")                                                 \
	X(YIELDS, "disk_yields_total")                                                             \
	X(NAPS, "disk_naps_total")                                                                 \
	X(UNREGISTERED, "disk_unregistered_total")                                                 \
	X(JOURNAL_WRITES, "disk_journal_writes_total")                                             \
	X(JOURNAL_BYTES, "disk_journal_bytes_total")

/* Of the node, by the main thread; no labels. */
#define HFB_NODE_STATS(X)                                                                          \
	X(TOPICS, "=topics")                                                                       \
	X(PARTITIONS, "=partitions")                                                               \
	X(UNKNOWN_LOGS, "=unknown_logs")                                                           \
	X(PARTITIONS_FAILED, "=partitions_failed")                                                 \
	X(RECOVERY_TORN, "recovery_torn_total")                                                    \
	X(RECOVERY_TORN_BYTES, "recovery_torn_bytes_total")                                        \
	X(RECOVERY_CORRUPT, "recovery_corrupt_total")                                              \
	X(RECOVERY_SCANNED_BYTES, "recovery_scanned_bytes_total")                                  \
	X(IPC_CLIENTS, "=ipc_clients")                                                             \
	X(IPC_REQUESTS, "ipc_requests_total")                                                      \
	X(IPC_REFUSED, "ipc_refused_total")                                                        \
	X(IPC_BROKEN, "ipc_broken_total")                                                          \
	X(TSC_HZ, "=tsc_hz")

#define X(id, name) HFB_NODE_STAT_##id,
enum hfb_node_stat { HFB_NODE_STATS(X) HFB_NODE_STATS_COUNT };
#undef X
#define X(id, name) HFB_QUEUE_STAT_##id,
enum hfb_queue_stat { HFB_QUEUE_STATS(X) HFB_QUEUE_STATS_COUNT };
#undef X
#define X(id, name) HFB_PORT_STAT_##id,
enum hfb_port_stat { HFB_PORT_STATS(X) HFB_PORT_STATS_COUNT };
#undef X
#define X(id, name) HFB_WRITER_STAT_##id,
enum hfb_writer_stat { HFB_WRITER_STATS(X) HFB_WRITER_STATS_COUNT };
#undef X

#endif
