/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs of PRODUCE frames.
 *
 * Goal:   a burst comes to the same as its packets one by one: what is appended, counted,
 *	   acked and refused, whatever is wrong with one in its middle.
 * Method: bursts of three, the second damaged at every byte (as it is, with right checksums,
 *	   with a right crc as well) or cut, once in one burst and once packet by packet,
 *	   where no run can begin; all that can be seen of both compared.
 */
#include <rte_ip.h>
#include <rte_udp.h>

#include "hfb_test_main.h"
#include "proto_rig.h"

#define HEADERS	   42u
#define RECORDS_AT (HEADERS + (uint32_t)sizeof(struct hfb_frame_produce))
#define BURST	   3u
#define ACKS	   8u

static struct rig rig;
static struct hfb_queue queue;
static uint64_t session;

/* ---- what decode.c reaches besides ---- */

void
rte_pktmbuf_free_bulk(struct rte_mbuf **mbufs, unsigned int count)
{
}

void
hfb_tx_raw(struct hfb_core *core, uint16_t port, struct rte_mbuf *mbuf)
{
}

int
hfb_feed_line_find(const struct hfb_core *core, const struct hfb_packet *packet)
{
	return -1;
}

void
hfb_feed_input(struct hfb_core *core, uint16_t line, const struct hfb_packet *packet)
{
}

void
hfb_igmp_input(struct hfb_core *core, uint16_t port, const uint8_t *ip, uint32_t bytes)
{
}

/* ---- packets ---- */

struct packet {
	struct rte_mbuf mbuf;
	uint8_t bytes[2048] __attribute__((aligned(8)));
};
static struct packet packets[BURST];

static void
checksums_set(uint8_t *frame)
{
	struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(void *)(frame + 14);
	struct rte_udp_hdr *udp = (struct rte_udp_hdr *)(void *)(frame + 34);
	/* by what was sent: damaged lengths do not move the end of what is summed */
	uint16_t total = ip->total_length, bytes = udp->dgram_len;

	ip->hdr_checksum = 0;
	ip->hdr_checksum = rte_ipv4_cksum(ip);
	if (rte_be_to_cpu_16(total) > 1500 || rte_be_to_cpu_16(bytes) > 1480)
		return;
	udp->dgram_cksum = 0;
	udp->dgram_cksum = rte_ipv4_udptcp_cksum(ip, udp);
}

static void
crc_set(uint8_t *frame, uint32_t bytes)
{
	uint32_t crc = hfb_crc32c(0, frame + RECORDS_AT, bytes - RECORDS_AT);

	memcpy(frame + HEADERS + offsetof(struct hfb_frame_produce, payload_crc), &crc, 4);
}

static void
packet_make(struct packet *p, uint64_t base_sequence, uint32_t count, uint16_t flags)
{
	struct rig_batch batch = {
		.producer_id = 7, .count = count, .base_sequence = base_sequence, .flags = flags
	};
	uint8_t *frame = p->bytes;
	uint32_t bytes = HEADERS + rig_produce_make(&rig, frame + HEADERS, session, &batch);
	struct rte_ipv4_hdr ip = {
		.version_ihl = 0x45,
		.total_length = rte_cpu_to_be_16((uint16_t)(bytes - 14)),
		.time_to_live = 64,
		.next_proto_id = 17,
		.src_addr = rte_cpu_to_be_32(0x0a000009),
		.dst_addr = rte_cpu_to_be_32(0x0a000001),
	};
	struct rte_udp_hdr udp = {
		.src_port = rte_cpu_to_be_16(5000),
		.dst_port = rte_cpu_to_be_16(HFB_UDP_PORT_DEFAULT),
		.dgram_len = rte_cpu_to_be_16((uint16_t)(bytes - 34)),
	};

	memcpy(frame, "\2\0\0\0\0\1\2\0\0\0\0\11\10", 13);
	frame[13] = 0;
	memcpy(frame + 14, &ip, sizeof(ip));
	memcpy(frame + 34, &udp, sizeof(udp));
	/* the same in each variant, whatever the sequence */
	for (uint32_t i = 0; i < count; i++)
		memset(frame + RECORDS_AT + i * 80 + 16, (int)(0x40 + i), 64);
	crc_set(frame, bytes);
	checksums_set(frame);
	memset(&p->mbuf, 0, sizeof(p->mbuf));
	p->mbuf.buf_addr = p->bytes;
	p->mbuf.nb_segs = 1;
	p->mbuf.data_len = (uint16_t)bytes;
	p->mbuf.pkt_len = bytes;
	rte_mbuf_refcnt_set(&p->mbuf, 1);
}

static uint64_t
sequence_next(void)
{
	return rig.log[0].producers[0].next;
}

static void
burst_make(uint32_t count, uint16_t flags)
{
	uint64_t sequence = sequence_next();

	for (uint32_t i = 0; i < BURST; i++)
		packet_make(&packets[i], sequence + (uint64_t)i * count, count, flags);
}

/* ---- what can be seen ---- */

struct seen {
	uint64_t stats[HFB_STATS_COUNT];
	uint64_t offset, sequence;
	uint32_t bytes, bytes_other, frames, acks;
	struct {
		uint32_t partition;
		uint16_t code;
		uint64_t received, durable;
	} ack[ACKS];
	uint8_t log[4096];
};

/* The batches of this burst, without what a sequence or a place makes different. */
static void
log_see(struct seen *seen, uint64_t from, uint64_t to)
{
	seen->bytes = (uint32_t)(to - from);
	CU_ASSERT_FATAL(seen->bytes <= sizeof(seen->log));
	memcpy(seen->log, rig.log[0].bytes + from, seen->bytes);
	for (uint32_t at = 0; at < seen->bytes;) {
		struct hfb_batch *batch = (struct hfb_batch *)(void *)(seen->log + at);

		at += batch->size;
		batch->header_crc = 0;
		batch->base_offset = 0;
		batch->base_sequence = 0;
		batch->timestamp_ns = 0;
		batch->durable_lag = 0;
	}
}

static void
burst_see(bool together, struct seen *seen)
{
	struct rte_mbuf *mbufs[BURST];
	uint64_t before[HFB_STATS_COUNT], sequence = sequence_next();
	uint64_t from = rig.log[0].appended, offset = rig.log[0].next_offset;
	uint64_t other = rig.log[1].appended, sequence_other = rig.log[1].producers[0].next;

	memset(seen, 0, sizeof(*seen));
	rig.core.now_ns += 1000000;
	rig_turn(&rig);
	rig_forget(&rig);
	memcpy(before, rig.stats, sizeof(before));
	for (uint32_t i = 0; i < BURST; i++)
		mbufs[i] = &packets[i].mbuf;
	if (together)
		hfb_decode_burst(&rig.core, &queue, mbufs, BURST);
	for (uint32_t i = 0; i < BURST && !together; i++)
		hfb_decode_burst(&rig.core, &queue, mbufs + i, 1);
	rig_turn(&rig);
	rig_durable(&rig, 0);
	rig_durable(&rig, 1);
	rig_turn(&rig);
	seen->bytes_other = (uint32_t)(rig.log[1].appended - other);
	for (uint32_t i = 0; i < HFB_STATS_COUNT; i++)
		seen->stats[i] = rig.stats[i] - before[i];
	seen->offset = rig.log[0].next_offset - offset;
	seen->sequence = sequence_next() - sequence;
	seen->frames = rig.frames_count;
	log_see(seen, from, rig.log[0].appended);
	for (const struct hfb_wire_ack *ack; (ack = rig_ack(&rig, seen->acks)) != NULL;) {
		uint64_t base = ack->partition == 10 ? sequence : sequence_other;

		CU_ASSERT_FATAL(seen->acks < ACKS);
		seen->ack[seen->acks].partition = ack->partition;
		seen->ack[seen->acks].code = ack->code;
		/* 0: before anything was asked of the log */
		if (ack->sequence[HFB_STAGE_RECEIVED] != 0) {
			seen->ack[seen->acks].received = ack->sequence[HFB_STAGE_RECEIVED] - base;
			seen->ack[seen->acks].durable = ack->sequence[HFB_STAGE_DURABLE] - base;
		}
		seen->acks++;
	}
}

static void
set_up(void)
{
	rig_open(&rig);
	rig.node->ports[0].timestamp_field = -1;
	memcpy(rig.node->ports[0].mac, "\2\0\0\0\0\1", 6);
	memset(rig.config.ports[0].ip.bytes + 10, 0xff, 2);
	memcpy(rig.config.ports[0].ip.bytes + 12, "\12\0\0\1", 4);
	memset(&queue, 0, sizeof(queue));
	session = rig_udp_open(&rig, 9, 5000, 1);
	CU_ASSERT_NOT_EQUAL_FATAL(session, 0);
	/* known to the log, and not at its first sequence any more */
	burst_make(1, HFB_STAGE_RECEIVED);
	for (uint32_t i = 0; i < BURST; i++)
		hfb_decode_burst(&rig.core, &queue, (struct rte_mbuf *[]){ &packets[i].mbuf }, 1);
	rig_durable(&rig, 0);
	rig_turn(&rig);
}

static void
tear_down(void)
{
	rig_close(&rig);
}

/* ---- tests ---- */

static struct seen one_by_one, together;

/* What @change makes of the second packet, either way. */
static bool
compared(uint32_t count, uint16_t flags, void (*change)(struct packet *p, uint32_t how),
	 uint32_t how)
{
	/* room again: the rig's log begins anew */
	if (rig.log[0].appended > RIG_LOG_BYTES / 2) {
		tear_down();
		set_up();
	}
	burst_make(count, flags);
	change(&packets[1], how);
	burst_see(false, &one_by_one);
	burst_make(count, flags);
	change(&packets[1], how);
	burst_see(true, &together);
	return memcmp(&one_by_one, &together, sizeof(together)) == 0;
}

static void
change_nothing(struct packet *p, uint32_t how)
{
}

static void
test_a_burst_of_one_producer_is_appended_and_acked_once(void)
{
	for (uint32_t count = 1; count <= 16; count += 5)
		for (uint32_t stage = 0; stage <= HFB_STAGE_DURABLE; stage++) {
			CU_ASSERT_TRUE(compared(count, (uint16_t)stage, change_nothing, 0));
			CU_ASSERT_EQUAL(together.sequence, BURST * (uint64_t)count);
			CU_ASSERT_EQUAL(together.stats[HFB_STAT_APPEND_BATCHES], BURST);
			CU_ASSERT_EQUAL(together.stats[HFB_STAT_PRODUCE_FRAMES], BURST);
			CU_ASSERT_EQUAL(together.acks, 1);
			CU_ASSERT_EQUAL(together.ack[0].received, BURST * (uint64_t)count);
		}
	CU_ASSERT_TRUE(compared(1, HFB_PRODUCE_WANT_OFFSET, change_nothing, 0));
	CU_ASSERT_EQUAL(together.acks, BURST);
}

/* The long way took the first one: how far the run goes. */
static uint32_t
run_length(void)
{
	struct rte_mbuf *rest[] = { &packets[1].mbuf, &packets[2].mbuf };

	rig.core.produced_by = NULL;
	hfb_decode_burst(&rig.core, &queue, (struct rte_mbuf *[]){ &packets[0].mbuf }, 1);
	return rig.core.produced_by != NULL ? hfb_run_take(&rig.core, &queue, rest, 2) : 0;
}

static void
test_a_run_ends_where_something_differs(void)
{
	burst_make(1, HFB_STAGE_RECEIVED);
	CU_ASSERT_EQUAL(run_length(), 2);
	burst_make(16, HFB_STAGE_DURABLE);
	CU_ASSERT_EQUAL(run_length(), 2);
	burst_make(1, HFB_STAGE_RECEIVED);
	packets[2].bytes[RECORDS_AT + 20] ^= 1;
	CU_ASSERT_EQUAL(run_length(), 1);
	burst_make(1, HFB_STAGE_RECEIVED);
	packets[1].mbuf.ol_flags = RTE_MBUF_F_RX_VLAN_STRIPPED;
	CU_ASSERT_EQUAL(run_length(), 0);
	burst_make(1, HFB_PRODUCE_WANT_OFFSET);
	CU_ASSERT_EQUAL(run_length(), 0);
	burst_make(1, HFB_STAGE_RECEIVED);
	rig.log[0].refusal = HFB_LOG_RING_FULL;
	CU_ASSERT_EQUAL(run_length(), 0);
	rig.log[0].refusal = HFB_LOG_OK;
	rig.config.ports[0].timestamps = true;
	CU_ASSERT_EQUAL(run_length(), 0);
}

/* how: byte, mask and what is made right again */
static void
change_byte(struct packet *p, uint32_t how)
{
	uint32_t at = how & 0xffffu, mask = how >> 16 & 0xffu;
	const uint32_t sequence_at = HEADERS + offsetof(struct hfb_frame_produce, base_sequence);

	if (at >= sequence_at && at < sequence_at + 8) {
		/* forward, whatever it is */
		uint64_t sequence =
			sequence_next() + 1 + ((uint64_t)mask << 8 * (at - sequence_at));

		memcpy(p->bytes + sequence_at, &sequence, sizeof(sequence));
	} else {
		p->bytes[at] ^= (uint8_t)mask;
	}
	if ((how >> 24) == 2)
		crc_set(p->bytes, p->mbuf.data_len);
	if ((how >> 24) != 0)
		checksums_set(p->bytes);
}

static void
test_each_damaged_byte_comes_to_the_same(void)
{
	static const uint8_t masks[] = { 0x01, 0x10, 0x80, 0xff };
	uint32_t bytes, appended = 0;

	for (uint32_t count = 1; count <= 2; count++) {
		burst_make(count, HFB_STAGE_RECEIVED);
		bytes = packets[1].mbuf.data_len;
		for (uint32_t at = 0; at < bytes; at++)
			for (uint32_t mask = 0; mask < sizeof(masks); mask++)
				for (uint32_t right = 0; right < 3; right++) {
					uint32_t how =
						at | (uint32_t)masks[mask] << 16 | right << 24;

					if (!compared(count, HFB_STAGE_RECEIVED, change_byte, how))
						CU_FAIL("a burst comes to something else");
					appended += together.sequence == BURST * count;
				}
	}
	/* values with a right crc are as good as any, most else is not */
	CU_ASSERT_TRUE(appended > 4 * 3 * 64);
	CU_ASSERT_TRUE(appended < 4 * 3 * 2 * 128);
}

static void
change_size(struct packet *p, uint32_t how)
{
	p->mbuf.data_len = (uint16_t)how;
	p->mbuf.pkt_len = how;
}

/* The IP header's length too, so that UDP's is what disagrees. */
static void
change_lengths(struct packet *p, uint32_t how)
{
	change_size(p, how);
	p->bytes[16] = (uint8_t)((how - 14) >> 8);
	p->bytes[17] = (uint8_t)(how - 14);
	checksums_set(p->bytes);
}

static void
change_mbuf(struct packet *p, uint32_t how)
{
	static const uint64_t flags[] = { RTE_MBUF_F_RX_IP_CKSUM_GOOD, RTE_MBUF_F_RX_L4_CKSUM_GOOD,
					  RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD,
					  RTE_MBUF_F_RX_IP_CKSUM_BAD | RTE_MBUF_F_RX_L4_CKSUM_BAD };

	if (how / 2 == sizeof(flags) / sizeof(flags[0])) {
		p->mbuf.nb_segs = 2;
		return;
	}
	p->mbuf.ol_flags = flags[how / 2];
	if (how % 2 != 0) {
		p->bytes[25] ^= 1;
		p->bytes[41] ^= 1;
	}
}

static void
change_checksum_none(struct packet *p, uint32_t how)
{
	p->bytes[40] = p->bytes[41] = 0;
}

static void
test_lengths_and_what_the_port_knows_come_to_the_same(void)
{
	uint32_t bytes;

	burst_make(1, HFB_STAGE_RECEIVED);
	bytes = packets[1].mbuf.data_len;
	for (uint32_t size = 14; size < bytes + 40; size++) {
		CU_ASSERT_TRUE(compared(1, HFB_STAGE_RECEIVED, change_size, size));
		CU_ASSERT_EQUAL(together.sequence == BURST, size >= bytes);
		CU_ASSERT_TRUE(compared(1, HFB_STAGE_RECEIVED, change_lengths, size));
	}
	for (uint32_t how = 0; how <= 8; how++)
		CU_ASSERT_TRUE(compared(1, HFB_STAGE_RECEIVED, change_mbuf, how));
	CU_ASSERT_TRUE(compared(1, HFB_STAGE_RECEIVED, change_checksum_none, 0));
	CU_ASSERT_EQUAL(together.sequence, BURST);
}

/* To another partition, where its producer has a place in the log's order too. */
static void
change_partition(struct packet *p, uint32_t how)
{
	struct hfb_frame_produce head;

	memcpy(&head, p->bytes + HEADERS, sizeof(head));
	head.partition = 11;
	head.base_sequence = rig.log[1].producers[0].next + how;
	memcpy(p->bytes + HEADERS, &head, sizeof(head));
	checksums_set(p->bytes);
}

static void
test_a_run_goes_on_in_another_partition(void)
{
	uint64_t sequence;

	for (uint32_t stage = 0; stage <= HFB_STAGE_DURABLE; stage++) {
		/* the first frame there makes a binding */
		(void)compared(1, (uint16_t)stage, change_partition, 0);
		/* the third one of the burst follows the second in sequence: a gap */
		CU_ASSERT_TRUE(compared(1, (uint16_t)stage, change_partition, 0));
		CU_ASSERT_EQUAL(together.sequence, 1);
		CU_ASSERT_EQUAL(together.bytes_other, 64 + 80);
		CU_ASSERT_TRUE(compared(1, (uint16_t)stage, change_partition, 1));
		CU_ASSERT_EQUAL(together.bytes_other, 0);
	}
	/* there and back again, in one run */
	sequence = sequence_next();
	for (uint32_t i = 0; i < BURST; i++)
		packet_make(&packets[i], sequence + i / 2, 1, HFB_STAGE_DURABLE);
	change_partition(&packets[1], 0);
	CU_ASSERT_EQUAL(run_length(), 2);
	/* a partition of another core, one of the bus's own, one that goes */
	for (uint32_t i = 0; i < 3; i++) {
		sequence = sequence_next();
		for (uint32_t j = 0; j < BURST; j++)
			packet_make(&packets[j], sequence + j / 2, 1, HFB_STAGE_DURABLE);
		change_partition(&packets[1], 0);
		rig.partition[1].core = i == 0;
		rig.partition[1].internal = i == 1;
		rig.partition[1].detaching = i == 2;
		CU_ASSERT_EQUAL(run_length(), 0);
	}
	rig.partition[1].detaching = false;
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "a burst of one producer is appended and acked once",
		  test_a_burst_of_one_producer_is_appended_and_acked_once },
		{ "a run ends where something differs", test_a_run_ends_where_something_differs },
		{ "a run goes on in another partition", test_a_run_goes_on_in_another_partition },
		{ "each damaged byte comes to the same", test_each_damaged_byte_comes_to_the_same },
		{ "lengths and what the port knows come to the same",
		  test_lengths_and_what_the_port_knows_come_to_the_same },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main_fixture("produce_run", tests, set_up, tear_down);
}
