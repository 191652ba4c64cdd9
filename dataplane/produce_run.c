/* SPDX-License-Identifier: Apache-2.0 */
/*
 * produce_run.c - PRODUCE frames of one session that follow each other in a burst.
 *
 * Who sends events one by one sends the same headers again and again. The first frame of a run
 * went through decode.c, session.c and produce.c; what they found of its addresses, session,
 * partition and producer is true of the next one as well if it says the same there, byte for
 * byte; where only partition or producer are others, these are looked up. Lengths, both
 * checksums, sequence, crc and the framing of records are checked here, for each. What differs
 * in anything, or is wrong, is left as it is to the long way, which knows by name what to refuse
 * and whom to tell; so no packet is dropped here.
 *
 *	Ethernet | IPv4 without options | UDP | struct hfb_frame_produce | records
 *	0	 14			34    42			  98
 *
 * What a turn notes of a producer once (its ack, counters, who was heard) is noted once a run.
 *
 * 64 B events one by one over memif: see docs/PERFORMANCE.md.
 */
#include "bug.h"
#include "checksum.h"
#include "crc32c.h"
#include "session.h"

#define ETHER_BYTES 14u
#define UDP_AT	    34u
#define FRAME_AT    42u
#define RECORDS_AT  (FRAME_AT + (uint32_t)sizeof(struct hfb_frame_produce))
#define PREFETCH    2u /* packets ahead: the driver has just copied them */
/* From so many bytes on three crcs side by side and a sum by vectors are faster than one walk. */
#define WALK_BYTES_MAX 384u

/* The words of a frame that are those of the one before, in memory order. */
struct same {
	uint64_t ether;	    /* source address and type */
	uint64_t addresses; /* IPv4 */
	uint32_t ports;
	uint64_t head; /* magic to incompatible */
	uint64_t session;
	uint64_t sum; /* of what is in UDP's checksum of these, and the protocol */
};

/* A run, and what of it is not noted yet: all of one binding. */
struct run {
	struct hfb_core *core;
	struct hfb_session *session;
	struct same same;
	struct hfb_binding *binding;
	struct hfb_log *log;
	uint64_t place; /* partition, flags, producer's epoch: as frames have them */
	uint64_t sum;	/* same.sum, and of these */
	uint32_t records_max;
	struct hfb_batch_meta meta; /* of the batch appended last */
	uint64_t sequence;	    /* next */
	uint64_t end_position;
	uint32_t frames, events;
	uint64_t bytes;
};

static inline uint64_t
load64(const void *at)
{
	uint64_t word;

	memcpy(&word, at, sizeof(word));
	return word;
}

static inline uint32_t
load32(const void *at)
{
	uint32_t word;

	memcpy(&word, at, sizeof(word));
	return word;
}

static inline uint32_t
load16(const uint8_t *at)
{
	return (uint32_t)(at[0] << 8) | at[1];
}

/* From what was checked, not from the packet before, whose bytes its sender may still reach. */
static void
same_make(const struct hfb_session *session, struct same *ret_same)
{
	const struct hfb_peer *peer = &session->peer;
	const struct hfb_frame frame = {
		.magic = HFB_WIRE_MAGIC,
		.version = HFB_WIRE_VERSION,
		.type = HFB_FRAME_PRODUCE,
	};
	uint8_t bytes[20];

	memcpy(bytes, peer->mac, 6);
	bytes[6] = 8; /* IPv4 */
	bytes[7] = 0;
	memcpy(bytes + 8, peer->ip.bytes + 12, 4);
	memcpy(bytes + 12, peer->own_ip.bytes + 12, 4);
	bytes[16] = (uint8_t)(peer->udp_port >> 8);
	bytes[17] = (uint8_t)peer->udp_port;
	bytes[18] = (uint8_t)(peer->own_udp_port >> 8);
	bytes[19] = (uint8_t)peer->own_udp_port;
	ret_same->ether = load64(bytes);
	ret_same->addresses = load64(bytes + 8);
	ret_same->ports = load32(bytes + 16);
	ret_same->head = load64(&frame);
	ret_same->session = session->number;
	ret_same->sum = hfb_sum_word(ret_same->addresses) + ret_same->ports +
			hfb_sum_word(ret_same->head) + hfb_sum_word(ret_same->session) +
			rte_cpu_to_be_16(17);
}

/* Frames of @b come next, from @sequence on. */
static void
run_begin(struct run *run, struct hfb_binding *b, uint64_t sequence)
{
	const struct hfb_frame_produce frame = {
		.partition = b->partition->handle,
		.flags = b->ack_stage,
		.producer_epoch = b->producer_epoch,
	};

	run->binding = b;
	run->log = b->partition->log;
	run->place = load64(&frame.partition);
	run->sum = run->same.sum + hfb_sum_word(run->place) + hfb_sum_word(b->producer_id);
	run->records_max = hfb_log_batch_bytes_max(run->log) - HFB_BATCH_HEADER_BYTES;
	run->meta.producer_epoch = b->producer_epoch;
	run->meta.producer_id = b->producer_id;
	run->sequence = sequence;
	run->frames = 0;
	run->events = 0;
	run->bytes = 0;
}

/* What was appended since, as produce.c notes it for each frame. */
static void
run_note(const struct run *run)
{
	struct hfb_core *core = run->core;
	struct hfb_binding *b = run->binding;

	if (run->frames == 0)
		return;
	core->stats[HFB_STAT_PRODUCE_FRAMES] += run->frames;
	core->stats[HFB_STAT_APPEND_BATCHES] += run->frames;
	core->stats[HFB_STAT_APPEND_EVENTS] += run->events;
	core->stats[HFB_STAT_APPEND_BYTES] += run->bytes;
	run->session->last = b;
	b->used_ns = core->now_ns;
	hfb_binding_appended(core, b, run->end_position, run->sequence, run->events);
	if (b->ack_stage == HFB_STAGE_RECEIVED)
		hfb_binding_pend(core, b);
	else
		hfb_log_durable_wanted(run->log);
}

/*
 * A frame for another partition, or of another producer, in the same session: on with that
 * one, if it is known here and this is what it was to send.
 */
static __attribute__((noinline)) bool
run_change(struct run *run, const struct hfb_frame_produce *head)
{
	struct hfb_core *core = run->core;
	struct hfb_partition *partition = hfb_partition_get(core->node, head->partition);
	struct hfb_binding *b;
	uint64_t expected;

	if (partition == NULL || partition->core != core->id || partition->detaching ||
	    partition->internal)
		return false;
	b = hfb_binding_find(core, run->session, head->producer_id, partition);
	if (b == NULL || b->producer_epoch != head->producer_epoch || b->ack_stage != head->flags)
		return false;
	if (hfb_log_sequence_check(partition->log, head->producer_id, head->producer_epoch,
				   head->base_sequence, head->count,
				   &expected) != HFB_SEQUENCE_NEXT)
		return false;
	run_note(run);
	run_begin(run, b, head->base_sequence);
	return true;
}

/*
 * Copies @bytes of records, a multiple of 8, and adds them to *@sum. Returns their crc. Each
 * word is loaded once: what is summed is what is copied.
 */
static inline uint32_t
records_copy(uint8_t *to, const uint8_t *from, uint32_t bytes, uint64_t *sum)
{
#if defined(__x86_64__)
	if (bytes < WALK_BYTES_MAX) {
		uint64_t crc = 0xffffffffu, total = *sum;

		for (uint32_t at = 0; at < bytes; at += 8) {
			uint64_t word = load64(from + at);

			__asm__("" : "+r"(word));
			memcpy(to + at, &word, sizeof(word));
			crc = __builtin_ia32_crc32di(crc, word);
			total += hfb_sum_word(word);
		}
		*sum = total;
		return ~(uint32_t)crc;
	}
#endif
	*sum = hfb_sum_bytes(*sum, from, bytes);
	return hfb_crc32c_copy(0, to, from, bytes);
}

/* One record without key and headers needs no walk. */
static inline bool
records_good(const uint8_t *records, uint32_t bytes, uint32_t count)
{
	struct hfb_record record;

	if (count != 1)
		return hfb_records_check(records, bytes, count) == 0;
	memcpy(&record, records, sizeof(record));
	if (record.headers_size != 0)
		return hfb_records_check(records, bytes, count) == 0;
	return hfb_record_bytes(record.value_size, record.key_size, 0) == bytes;
}

/* Ethernet, IPv4 and UDP headers: the same flow, right lengths. */
static inline bool
headers_same(const uint8_t *frame, uint32_t bytes, const struct same *same)
{
	uint32_t total;

	if (bytes < RECORDS_AT + HFB_RECORD_HEADER_BYTES)
		return false;
	total = load16(frame + 16);
	return load64(frame + 6) == same->ether && frame[14] == 0x45 &&
	       load64(frame + 26) == same->addresses && load32(frame + UDP_AT) == same->ports &&
	       frame[23] == 17 && (load16(frame + 20) & 0x3fffu) == 0 &&
	       total <= bytes - ETHER_BYTES &&
	       total >= RECORDS_AT + HFB_RECORD_HEADER_BYTES - ETHER_BYTES &&
	       load16(frame + UDP_AT + 4) == total - 20;
}

/* Its UDP checksum, where the port has not checked it: @sum has all but the lengths. */
static inline bool
sum_good(const uint8_t *frame, uint64_t sum)
{
	uint16_t udp_bytes;

	memcpy(&udp_bytes, frame + UDP_AT + 4, sizeof(udp_bytes));
	/* the length stands in the pseudo header as well; beside it the checksum itself */
	return hfb_sum_fold(sum + udp_bytes + load32(frame + UDP_AT + 4)) == 0xffffu;
}

/*
 * One packet into the log. False: it is not of this run, or not as it should be, and nothing
 * is changed but free room of the ring.
 */
static inline __attribute__((always_inline)) bool
packet_take(struct run *run, const struct rte_mbuf *mbuf)
{
	const uint8_t *frame = rte_pktmbuf_mtod(mbuf, const uint8_t *);
	struct hfb_frame_produce head;
	struct hfb_appended appended;
	enum hfb_log_refusal why;
	uint32_t bytes;
	uint64_t sum;
	uint8_t *at;

	if (mbuf->nb_segs != 1 || (mbuf->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0 ||
	    !headers_same(frame, rte_pktmbuf_data_len(mbuf), &run->same))
		return false;
	if ((mbuf->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK) != RTE_MBUF_F_RX_IP_CKSUM_GOOD &&
	    hfb_sum_ipv4(frame + ETHER_BYTES) != 0xffffu)
		return false;
	hfb_wire_load(&head, frame + FRAME_AT, sizeof(head));
	bytes = load16(frame + UDP_AT + 4) - 8 - (uint32_t)sizeof(head);
	if (load64(&head) != run->same.head || head.frame.session != run->same.session ||
	    bytes % 8 != 0 || head.count == 0 || head.count > bytes / HFB_RECORD_HEADER_BYTES ||
	    head.base_sequence > UINT64_MAX - head.count)
		return false;
	if ((load64(&head.partition) != run->place || head.producer_id != run->meta.producer_id) &&
	    !run_change(run, &head))
		return false;
	if (head.base_sequence != run->sequence || bytes > run->records_max)
		return false;
	at = hfb_log_claim(run->log, HFB_BATCH_HEADER_BYTES + bytes, false, &why);
	if (at == NULL)
		return false;
	at += HFB_BATCH_HEADER_BYTES;
	sum = run->sum + hfb_sum_word(head.frame.packet) + head.count + head.payload_crc +
	      hfb_sum_word(head.base_sequence);
	if (records_copy(at, frame + RECORDS_AT, bytes, &sum) != head.payload_crc ||
	    !records_good(at, bytes, head.count))
		return false;
	/* none where its field is 0 */
	if ((mbuf->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) != RTE_MBUF_F_RX_L4_CKSUM_GOOD &&
	    load16(frame + UDP_AT + 6) != 0 && !sum_good(frame, sum))
		return false;
	run->meta.size = HFB_BATCH_HEADER_BYTES + bytes;
	run->meta.count = head.count;
	run->meta.payload_crc = head.payload_crc;
	run->meta.base_sequence = head.base_sequence;
	run->meta.end_sequence = head.base_sequence + head.count;
	hfb_log_append(run->log, &run->meta, &appended);
	run->sequence = run->meta.end_sequence;
	run->end_position = appended.end_position;
	run->frames++;
	run->events += head.count;
	run->bytes += run->meta.size;
	return true;
}

/* Is it worth it? Most often the next frame is another session's, where many send. */
static bool
session_same(const struct rte_mbuf *mbuf, const struct hfb_session *session)
{
	return rte_pktmbuf_data_len(mbuf) >= RECORDS_AT &&
	       load64(rte_pktmbuf_mtod_offset(mbuf, const uint8_t *,
					      FRAME_AT + offsetof(struct hfb_frame, session))) ==
		       session->number;
}

uint32_t
hfb_run_take(struct hfb_core *core, const struct hfb_queue *queue, struct rte_mbuf **mbufs,
	     uint32_t n)
{
	struct hfb_session *session = core->produced_by;
	struct run run;
	uint32_t i;

	hfb_dassert(session->kind == HFB_SESSION_OWN);
	/* a stamp each, or a tag: the long way */
	if (n == 0 || !session_same(mbufs[0], session) || session->peer.vlan != 0 ||
	    core->node->ports[queue->port].config->timestamps)
		return 0;
	run.core = core;
	run.session = session;
	run.meta = (struct hfb_batch_meta){ .timestamp_ns = core->now_ns };
	same_make(session, &run.same);
	run_begin(&run, session->last, session->last->sequence[HFB_STAGE_RECEIVED]);
	for (i = 0; i < n; i++) {
		if (i + PREFETCH < n)
			rte_prefetch0(rte_pktmbuf_mtod(mbufs[i + PREFETCH], const void *));
		if (!packet_take(&run, mbufs[i]))
			break;
	}
	run_note(&run);
	return i;
}
