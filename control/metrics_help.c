/* SPDX-License-Identifier: Apache-2.0 */
/* One line a counter of hfbusd (dataplane/stats.h, dataplane/feed.h), in the order of its name. */
#include <stdlib.h>
#include <string.h>

#include "metrics.h"

static const struct help {
	const char *counter, *sentence;
} helps[] = {
	{ "ack_frames_total", "Frames with acks sent to producers." },
	{ "append_batches_total", "Batches appended to logs." },
	{ "append_bytes_total", "Bytes appended to logs, with headers." },
	{ "append_events_total", "Events appended to logs." },
	{ "arp_answers_total", "ARP requests answered." },
	{ "disk_errors_total", "Writes, syncs and reads of segments that failed." },
	{ "disk_journal_bytes_total", "Bytes written to journals." },
	{ "disk_journal_writes_total",
	  "Writes to journals that completed, each for many partitions." },
	{ "disk_reads_total", "Reads of segments, for readers behind the ring." },
	{ "disk_short_writes_total", "Writes that the kernel did in part and were gone on with." },
	{ "disk_syncs_total", "Syncs of segments that completed." },
	{ "disk_unregistered_total", "Writes without registered memory, see hfbus check." },
	{ "disk_write_bytes_total", "Bytes written to segments, blocks written again included." },
	{ "disk_writes_total", "Writes to segments that completed." },
	{ "disk_naps_total", "Times a core slept a moment because nothing completed for long." },
	{ "disk_yields_total", "Times a core gave way to the disk's completions." },
	{ "drops_total", "Packets and frames dropped, by reason." },
	{ "feed_batches_total", "Batches a feed has appended." },
	{ "feed_blocked_total", "Times a feed waited for room in the ring." },
	{ "feed_checksum_bad_total", "Packets of feeds with a wrong UDP checksum." },
	{ "feed_duplicates_total", "Messages that another line had brought already." },
	{ "feed_end_of_session_total", "End-of-session messages of a line." },
	{ "feed_events_total", "Messages of a feed that became events." },
	{ "feed_first_wins_total", "Messages that came first on this line." },
	{ "feed_framing_errors_total", "Packets of a line that could not be decoded." },
	{ "feed_gaps_total", "Gaps written to the log; wire: on no line, local: lost here." },
	{ "feed_heartbeats_total", "Heartbeats of a line." },
	{ "feed_held_events", "Messages held back now until what is missing comes." },
	{ "feed_held_total", "Messages that were held back." },
	{ "feed_last_ns", "When the last packet of a line came, UTC; 0: never." },
	{ "feed_late_total", "Messages that came after their gap was written." },
	{ "feed_line_checksum_bad_total", "Packets of a line with a wrong UDP checksum." },
	{ "feed_messages_total", "Messages of a line." },
	{ "feed_missing_total", "Messages that gaps stand for, by cause." },
	{ "feed_next_sequence", "The sequence that a feed expects next." },
	{ "feed_packets_total", "Packets of a line." },
	{ "feed_restarts_total", "Sequences that began anew within one session." },
	{ "feed_streams_total", "Sessions of a feed." },
	{ "feed_unbound_total", "Messages of a feed whose topic could not be opened." },
	{ "file_reads_total", "Reads of segment files for UDP readers." },
	{ "handovers_total", "Packets handed to the core that owns their partition." },
	{ "icmp_answers_total", "Pings answered." },
	{ "ipc_broken_total", "Local clients cut off for messages that are none." },
	{ "ipc_clients", "Local clients connected to hfbusd.sock." },
	{ "ipc_refused_total", "Requests on hfbusd.sock that were refused." },
	{ "ipc_requests_total", "Requests on hfbusd.sock." },
	{ "last_packet_ns", "When the last packet of a queue came, UTC; 0: never." },
	{ "link_up", "Has the port a link?" },
	{ "local_clients", "Shared-memory channels open." },
	{ "partitions", "Partitions." },
	{ "partitions_failed", "Partitions that could not be opened or had an I/O error." },
	{ "produce_duplicates_total", "Batches that were in the log already, dropped." },
	{ "produce_frames_total", "Frames of producers." },
	{ "produce_refused_total", "Batches refused, by reason; producers are told." },
	{ "push_bytes_total", "Bytes pushed to UDP subscribers." },
	{ "push_frames_total", "Frames pushed to UDP subscribers." },
	{ "readers_below_start_total", "Readers that asked for what retention had dropped." },
	{ "readers_lapped_total", "Readers that fell behind the ring and went to the files." },
	{ "recovery_corrupt_total", "Damaged batches found at start that had been durable." },
	{ "recovery_scanned_bytes_total", "Bytes read at start." },
	{ "recovery_torn_bytes_total", "Bytes cut off at start, none of them acked durable." },
	{ "recovery_torn_total", "Logs with a torn tail at start." },
	{ "rx_bytes_total", "Bytes received." },
	{ "rx_errors_total", "Packets that the device found broken." },
	{ "rx_missed_total", "Packets that the device dropped: a core was too slow." },
	{ "rx_no_mbuf_total", "Packets dropped for want of buffers, see memory." },
	{ "rx_packets_total", "Packets received." },
	{ "sessions", "Sessions of UDP and local clients." },
	{ "sleep_tsc_total", "Time a core slept." },
	{ "sleeps_total", "Times a core slept for want of work." },
	{ "sleeps_wakeable_total", "Of those, times its ports would have woken it." },
	{ "spin_tsc_total", "Time a core polled and found nothing." },
	{ "stage_time", "Time of events from one stage to another, by poll core." },
	{ "subscriptions", "Subscriptions over UDP." },
	{ "topics", "Topics." },
	{ "tsc_hz", "Ticks of the time stamp counter in a second." },
	{ "turns_total", "Turns of a core's loop." },
	{ "turns_worked_total", "Turns in which there was work." },
	{ "tx_bytes_total", "Bytes sent." },
	{ "tx_drops_total", "Packets that a port did not take." },
	{ "tx_errors_total", "Packets that the device failed to send." },
	{ "tx_no_mbuf_total", "Packets not sent for want of buffers, see memory." },
	{ "tx_packets_total", "Packets sent." },
	{ "unknown_logs", "Logs on disk that no catalogue knows; they are kept." },
	{ "work_tsc_total", "Time a core worked." },
};

static int
compare(const void *key, const void *element)
{
	return strcmp(key, ((const struct help *)element)->counter);
}

const char *
hfb_metrics_help(const char *counter)
{
	const struct help *help = bsearch(counter, helps, sizeof(helps) / sizeof(helps[0]),
					  sizeof(helps[0]), compare);

	return help != NULL ? help->sentence : "A counter of hfbusd, see hfbus stat.";
}
