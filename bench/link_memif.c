/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link_memif.c - a link over any DPDK port: a producer in one poll loop, as an application
 * with its own card would be.
 *
 * Values are not kept to be sent again: an event's bytes follow from its number. A batch is
 * one of TEMPLATES templates of random records with the events' numbers written in; its crc
 * is taken over the bytes as they are sent, and its UDP checksum is right too, from the sum of
 * the template's words, known, and of those written in.
 *
 *	received	   send_at	      sent[]
 *	  | in flight ....... | to send again .. |	send_at < sent: gone back
 *
 * Go-back-N as docs/PROTOCOL.md has it: after a refusal or silence sending goes on from what
 * the bus has `received`. Credit is of the bus's ring; a port between may hold less. Each loss
 * halves what may be in flight, and each window acked makes it a sixteenth larger.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <hfbus/log.h>

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "bench.h"
#include "checksum.h"
#include "crc32c.h"
#include "link_memif.h"

#define TEMPLATES      64u
#define PRODUCE_AT     LINK_HEADERS
#define RECORDS_AT     (LINK_HEADERS + (uint32_t)sizeof(struct hfb_frame_produce))
#define RECORDS_MAX    (HFB_UDP_PAYLOAD_MAX - (uint32_t)sizeof(struct hfb_frame_produce))
#define CREDIT_FIRST   65536u /* bytes, until the bus tells */
#define SILENCE_NS     20000000ull
#define SILENCE_NS_MAX 640000000ull
#define TICK_NS	       1000000ull
#define HOLD_NS	       200000ull
#define KEEP_ALIVE_NS  2000000000ull
#define GIVE_UP_NS     20000000000ull /* refusals that may pass, like a full disk */
#define NO_REFUSAL     UINT64_MAX
#define NO_WINDOW      (UINT64_MAX / 2)
#define WINDOW_BATCHES 16u /* at least */

struct partition {
	uint64_t send_at;  /* next sequence on the wire; == sent[] but after going back */
	uint64_t received; /* the bus has all below */
	uint64_t credit_events;
	uint64_t window_events; /* in flight on a way that loses; NO_WINDOW: nothing lost yet */
	uint64_t refused_at;	/* sequence gone back to already */
	uint64_t refused_ns, hold_until_ns;
	uint64_t moved_ns, silence_ns;
	uint64_t trouble_ns; /* since when it is refused for what may pass */
	uint32_t handle;
};

struct link_memif {
	struct bench_link link;
	struct link_way way;
	const char *topic;
	enum hfb_stage stage;
	uint32_t event_bytes, record_bytes, batch_bytes; /* a full batch's records */
	uint32_t inflight_events;
	uint64_t producer_id;
	uint64_t now_ns, tick_ns, sent_ns;
	uint32_t behind; /* partitions that have gone back */
	uint32_t out_count, fresh_count;
	struct rte_mbuf *out[BENCH_DPDK_BURST], *fresh[BENCH_DPDK_BURST];
	uint8_t head[RECORDS_AT]; /* of a full batch; number, sequence, crc and checksum 0 */
	uint64_t head_sum;	  /* of its UDP words and pseudo header */
	uint8_t *templates;
	uint64_t template_sum[TEMPLATES];
	struct partition *partitions;
	struct {
		uint32_t handle, index;
	} * slots; /* partitions by handle, index + 1 */
	uint32_t slots_mask;
};

/* Out -------------------------------------------------------------------------------------- */

static void
flush(struct link_memif *l)
{
	uint16_t n;

	if (l->out_count == 0)
		return;
	n = rte_eth_tx_burst(l->way.dpdk->port, 0, l->out, (uint16_t)l->out_count);
	l->out_count -= n;
	if (l->out_count > 0 && n > 0)
		memmove(l->out, l->out + n, l->out_count * sizeof(l->out[0]));
}

/* A buffer and a place to send it from; NULL: the port is full. */
static struct rte_mbuf *
mbuf_take(struct link_memif *l)
{
	if (l->out_count == BENCH_DPDK_BURST) {
		flush(l);
		if (l->out_count == BENCH_DPDK_BURST)
			return NULL;
	}
	if (l->fresh_count == 0) {
		if (rte_pktmbuf_alloc_bulk(l->way.dpdk->pool, l->fresh, BENCH_DPDK_BURST) != 0)
			return NULL;
		l->fresh_count = BENCH_DPDK_BURST;
	}
	return l->fresh[--l->fresh_count];
}

/* Lengths and what depends on them, for a batch that is not full. */
static uint64_t
head_shorten(const struct link_memif *l, uint8_t *packet, uint32_t records_bytes)
{
	uint16_t udp = (uint16_t)(8 + sizeof(struct hfb_frame_produce) + records_bytes);
	uint16_t was, now, total = htons((uint16_t)(20 + udp)), c;

	memcpy(&was, packet + 38, 2);
	now = htons(udp);
	memcpy(packet + 38, &now, 2);
	memcpy(packet + 16, &total, 2);
	memset(packet + 24, 0, 2);
	c = (uint16_t)~hfb_sum_ipv4(packet + 14);
	memcpy(packet + 24, &c, 2);
	/* the length counts twice: in the header and in the pseudo header */
	return l->head_sum + 2 * (0xffffull - was) + 2ull * now;
}

/* One batch of @count events from @sequence on, queued. False: no room. */
static bool
batch_send(struct link_memif *l, const struct partition *p, uint64_t sequence, uint32_t count)
{
	struct rte_mbuf *mbuf = mbuf_take(l);
	uint32_t records_bytes = count * l->record_bytes, crc, which;
	uint64_t sum = l->head_sum, numbers = 0, packet_number;
	struct hfb_frame_produce *produce;
	uint8_t *packet, *records;
	uint16_t checksum;

	if (mbuf == NULL)
		return false;
	packet = rte_pktmbuf_mtod(mbuf, uint8_t *);
	records = packet + RECORDS_AT;
	which = (uint32_t)(sequence * 0x9e3779b97f4a7c15ull >> 58);
	memcpy(packet, l->head, RECORDS_AT);
	memcpy(records, l->templates + (size_t)which * RECORDS_MAX, records_bytes);
	if (l->event_bytes >= sizeof(uint64_t)) {
		uint8_t *at = records + HFB_RECORD_HEADER_BYTES;

		for (uint64_t n = sequence; n < sequence + count; n++, at += l->record_bytes) {
			memcpy(at, &n, sizeof(n));
			numbers += hfb_sum_word(n);
		}
	}
	crc = hfb_crc32c(0, records, records_bytes);
	if (records_bytes == l->batch_bytes) {
		sum += l->template_sum[which] + numbers;
	} else {
		sum = head_shorten(l, packet, records_bytes);
		sum = hfb_sum_bytes(sum, records, records_bytes);
	}
	produce = (struct hfb_frame_produce *)(void *)(packet + PRODUCE_AT);
	packet_number = ++l->way.packet;
	memcpy(&produce->frame.packet, &packet_number, 8);
	memcpy(&produce->partition, &p->handle, 4);
	memcpy(&produce->count, &count, 4);
	memcpy(&produce->payload_crc, &crc, 4);
	memcpy(&produce->base_sequence, &sequence, 8);
	sum += hfb_sum_word(packet_number) + hfb_sum_word(sequence) + p->handle + count + crc;
	checksum = (uint16_t)~hfb_sum_fold(sum);
	checksum = checksum != 0 ? checksum : 0xffff;
	memcpy(packet + 40, &checksum, 2);
	mbuf->data_len = (uint16_t)(RECORDS_AT + records_bytes);
	mbuf->pkt_len = mbuf->data_len;
	l->out[l->out_count++] = mbuf;
	l->link.frames++;
	return true;
}

static inline uint32_t
batch_count(const struct link_memif *l, uint64_t events)
{
	return events < l->link.batch_events ? (uint32_t)events : l->link.batch_events;
}

/* Up to there it may be on the wire. */
static inline uint64_t
wire_end(const struct partition *p)
{
	return p->received +
	       (p->credit_events < p->window_events ? p->credit_events : p->window_events);
}

static uint32_t
memif_send(struct bench_link *link, uint32_t partition, uint32_t events)
{
	struct link_memif *l = (struct link_memif *)link;
	struct partition *p = &l->partitions[partition];
	uint64_t sent = link->sent[partition], room;
	uint32_t taken = 0;

	/* order: what goes again goes first */
	if (p->send_at != sent)
		return 0;
	room = wire_end(p);
	if (l->inflight_events > 0 && room > link->acked[partition] + l->inflight_events)
		room = link->acked[partition] + l->inflight_events;
	room = room > sent ? room - sent : 0;
	if (events > room) {
		link->starved++;
		events = (uint32_t)room;
	}
	if (events > 0 && sent == p->received)
		p->moved_ns = l->now_ns;
	while (taken < events) {
		uint32_t n = batch_count(l, events - taken);

		if (!batch_send(l, p, sent, n))
			break;
		sent += n;
		taken += n;
	}
	link->sent[partition] = sent;
	p->send_at = sent;
	return taken;
}

/* Going back ------------------------------------------------------------------------------- */

static void
go_back(struct link_memif *l, uint32_t i, uint64_t to)
{
	struct partition *p = &l->partitions[i];

	if (to >= p->send_at)
		return;
	if (p->send_at == l->link.sent[i])
		l->behind++;
	p->send_at = to;
}

static void
behind_send(struct link_memif *l)
{
	for (uint32_t i = 0; i < l->link.partitions; i++) {
		struct partition *p = &l->partitions[i];

		if (p->send_at == l->link.sent[i] || l->now_ns < p->hold_until_ns)
			continue;
		while (p->send_at < l->link.sent[i] && p->send_at < wire_end(p)) {
			uint32_t n = batch_count(l, l->link.sent[i] - p->send_at);

			if (!batch_send(l, p, p->send_at, n))
				return;
			p->send_at += n;
			l->link.resent++;
		}
		if (p->send_at == l->link.sent[i])
			l->behind--;
	}
}

/* Something was lost on the way. */
static void
window_halve(struct link_memif *l, struct partition *p)
{
	uint64_t flying = p->send_at - p->received, least = WINDOW_BATCHES * l->link.batch_events;

	p->window_events = flying < p->window_events ? flying / 2 : p->window_events / 2;
	if (p->window_events < least)
		p->window_events = least;
}

/* Silence: what was sent last, or its ack, was lost. And the session is to stay. */
static void
tick(struct link_memif *l)
{
	l->tick_ns = l->now_ns;
	for (uint32_t i = 0; i < l->link.partitions; i++) {
		struct partition *p = &l->partitions[i];

		if (p->send_at == p->received || l->now_ns - p->moved_ns < p->silence_ns)
			continue;
		window_halve(l, p);
		go_back(l, i, p->received);
		p->moved_ns = l->now_ns;
		if (p->silence_ns < SILENCE_NS_MAX)
			p->silence_ns *= 2;
	}
	if (l->now_ns - l->sent_ns > KEEP_ALIVE_NS) {
		l->sent_ns = l->now_ns;
		link_metadata_ask(&l->way, l->topic, 0);
	}
}

/* In --------------------------------------------------------------------------------------- */

static int
refusal(struct link_memif *l, uint32_t i, const struct hfb_wire_ack *ack)
{
	struct partition *p = &l->partitions[i];
	uint64_t to = ack->sequence[HFB_STAGE_RECEIVED];

	l->link.refused++;
	switch (ack->code) {
	case HFB_WIRE_UNKNOWN_PRODUCER: /* the first one was lost, or it forgot us */
		if (p->received > 0)
			break;
		/* fallthrough */
	case HFB_WIRE_SEQUENCE_GAP:
	case HFB_WIRE_BAD_BATCH:
	case HFB_WIRE_RING_FULL:
		if (to < p->received)
			to = p->received;
		if (ack->code == HFB_WIRE_RING_FULL)
			p->hold_until_ns = l->now_ns + HOLD_NS;
		if (to == p->refused_at && l->now_ns - p->refused_ns < HOLD_NS)
			return 0;
		p->refused_at = to;
		p->refused_ns = l->now_ns;
		if (ack->code == HFB_WIRE_SEQUENCE_GAP)
			window_halve(l, p);
		go_back(l, i, to);
		return 0;
	case HFB_WIRE_NO_SPACE:
	case HFB_WIRE_NO_PARTITION:
		if (p->trouble_ns == 0)
			p->trouble_ns = l->now_ns;
		p->hold_until_ns = l->now_ns + SILENCE_NS;
		go_back(l, i, p->received);
		if (l->now_ns - p->trouble_ns < GIVE_UP_NS)
			return 0;
		break;
	default:
		break;
	}
	return hfb_err_set(&l->link.err, -EIO, "partition %u: the bus refuses with code %u", i,
			   ack->code);
}

static uint32_t
partition_of(const struct link_memif *l, uint32_t handle)
{
	for (uint32_t i = handle & l->slots_mask;; i = (i + 1) & l->slots_mask) {
		if (l->slots[i].index == 0)
			return UINT32_MAX;
		if (l->slots[i].handle == handle)
			return l->slots[i].index - 1;
	}
}

/* Events newly acked, or a negative errno. */
static int64_t
ack_take(struct link_memif *l, const struct hfb_wire_ack *ack)
{
	uint32_t i = partition_of(l, ack->partition);
	struct partition *p;
	int64_t news = 0;
	uint64_t to;

	if (i == UINT32_MAX || ack->producer_id != l->producer_id)
		return 0;
	p = &l->partitions[i];
	to = ack->sequence[HFB_STAGE_RECEIVED];
	if (to > l->link.sent[i])
		return hfb_err_set(&l->link.err, -EPROTO,
				   "partition %u: acked is what was not sent", i);
	if (to > p->received) {
		if (p->window_events < NO_WINDOW)
			p->window_events += (to - p->received) / 16 + 1;
		p->received = to;
		p->moved_ns = l->now_ns;
		p->silence_ns = SILENCE_NS;
		p->trouble_ns = 0;
		if (p->send_at < to) {
			p->send_at = to;
			if (to == l->link.sent[i])
				l->behind--;
		}
	}
	/* what is in flight counts as full batches: if they are not, the bus may refuse some */
	if (ack->code == HFB_WIRE_OK || ack->credit_bytes > 0)
		p->credit_events = (uint64_t)ack->credit_bytes * l->link.batch_events /
				   (l->batch_bytes + HFB_BATCH_HEADER_BYTES);
	to = ack->sequence[l->stage];
	if (to > l->link.acked[i]) {
		news = (int64_t)(to - l->link.acked[i]);
		l->link.acked[i] = to;
	}
	if (ack->code != HFB_WIRE_OK) {
		int r = refusal(l, i, ack);

		if (r < 0)
			return r;
	}
	return news;
}

static int64_t
frame_take(struct link_memif *l, const uint8_t *frame, uint32_t bytes)
{
	struct hfb_frame_error error;
	struct hfb_frame_ack head;
	int64_t news = 0;

	switch (frame[2]) {
	case HFB_FRAME_ACK:
		memcpy(&head, frame, sizeof(head));
		if (bytes < sizeof(head) + head.count * sizeof(struct hfb_wire_ack))
			return 0;
		for (uint32_t i = 0; i < head.count; i++) {
			struct hfb_wire_ack ack;
			int64_t r;

			memcpy(&ack, frame + sizeof(head) + i * sizeof(ack), sizeof(ack));
			r = ack_take(l, &ack);
			if (r < 0)
				return r;
			news += r;
		}
		return news;
	case HFB_FRAME_ERROR:
		if (bytes < sizeof(error))
			return 0;
		memcpy(&error, frame, sizeof(error));
		return hfb_err_set(&l->link.err, -EIO, "the bus answers with error code %u",
				   error.code);
	case HFB_FRAME_CLOSE:
		return hfb_err_set(&l->link.err, -ECONNRESET, "the bus closed the session");
	default:
		return 0;
	}
}

static int64_t
memif_poll(struct bench_link *link)
{
	struct link_memif *l = (struct link_memif *)link;
	struct rte_mbuf *mbufs[BENCH_DPDK_BURST];
	int64_t news = 0, r = 0;
	uint16_t n;

	flush(l);
	n = rte_eth_rx_burst(l->way.dpdk->port, 0, mbufs, BENCH_DPDK_BURST);
	l->now_ns = bench_now_ns();
	if (n > 0) {
		for (uint16_t i = 0; i < n && r >= 0; i++) {
			uint32_t bytes;
			const uint8_t *frame = link_frame_of(&l->way, mbufs[i], &bytes);

			if (frame == NULL)
				continue;
			r = frame_take(l, frame, bytes);
			news += r;
		}
		rte_pktmbuf_free_bulk(mbufs, n);
	}
	if (l->behind > 0)
		behind_send(l);
	if (l->now_ns - l->tick_ns > TICK_NS)
		tick(l);
	return r < 0 ? r : news;
}

/* Open ------------------------------------------------------------------------------------- */

static void
memif_close(struct bench_link *link)
{
	struct link_memif *l = (struct link_memif *)link;

	if (l->way.dpdk != NULL) {
		flush(l);
		if (l->out_count > 0)
			rte_pktmbuf_free_bulk(l->out, l->out_count);
		if (l->fresh_count > 0)
			rte_pktmbuf_free_bulk(l->fresh, l->fresh_count);
		link_session_close(&l->way);
	}
	free(l->templates);
	free(l->partitions);
	free(l->slots);
	free(l->link.acked);
	free(l->link.sent);
	free(l);
}

static void
templates_fill(struct link_memif *l, uint64_t seed)
{
	uint64_t random = seed * 2 + 1;

	for (uint32_t t = 0; t < TEMPLATES; t++) {
		uint8_t *to = l->templates + (size_t)t * RECORDS_MAX;

		for (uint32_t i = 0; i < l->link.batch_events; i++, to += l->record_bytes) {
			struct hfb_record record = { .value_size = l->event_bytes };

			for (uint32_t at = 0; at < l->event_bytes; at++) {
				random = random * 6364136223846793005ull + 1442695040888963407ull;
				to[HFB_RECORD_HEADER_BYTES + at] = (uint8_t)(random >> 56);
			}
			/* the number's place stays 0 for the sum */
			if (l->event_bytes >= sizeof(uint64_t))
				memset(to + HFB_RECORD_HEADER_BYTES, 0, sizeof(uint64_t));
			memcpy(to, &record, sizeof(record));
		}
		l->template_sum[t] =
			hfb_sum_bytes(0, l->templates + (size_t)t * RECORDS_MAX, l->batch_bytes);
	}
}

static void
head_make(struct link_memif *l)
{
	uint16_t udp = htons((uint16_t)(8 + sizeof(struct hfb_frame_produce) + l->batch_bytes));
	uint16_t total = htons((uint16_t)(28 + sizeof(struct hfb_frame_produce) + l->batch_bytes));
	struct hfb_frame_produce produce = {
		.frame = { .magic = HFB_WIRE_MAGIC,
			   .version = HFB_WIRE_VERSION,
			   .type = HFB_FRAME_PRODUCE,
			   .session = l->way.session },
		.flags = (uint16_t)l->stage,
		.producer_id = l->producer_id,
	};
	uint16_t c;

	memcpy(l->head, l->way.headers, LINK_HEADERS);
	memcpy(l->head + 16, &total, 2);
	memcpy(l->head + 38, &udp, 2);
	c = (uint16_t)~hfb_sum_ipv4(l->head + 14);
	memcpy(l->head + 24, &c, 2);
	memcpy(l->head + PRODUCE_AT, &produce, sizeof(produce));
	l->head_sum = hfb_sum_bytes(htons(17) + (uint64_t)udp, l->head + 26, 8);
	l->head_sum = hfb_sum_bytes(l->head_sum, l->head + 34, RECORDS_AT - 34);
}

static int
memory_make(struct link_memif *l, uint32_t partitions)
{
	uint32_t slots = 16;

	while (slots < 2 * partitions)
		slots *= 2;
	l->slots_mask = slots - 1;
	l->templates = calloc(TEMPLATES, RECORDS_MAX);
	l->partitions = calloc(partitions, sizeof(*l->partitions));
	l->slots = calloc(slots, sizeof(*l->slots));
	l->link.acked = calloc(partitions, sizeof(uint64_t));
	l->link.sent = calloc(partitions, sizeof(uint64_t));
	return l->templates == NULL || l->partitions == NULL || l->slots == NULL ||
			       l->link.acked == NULL || l->link.sent == NULL
		       ? -ENOMEM
		       : 0;
}

static int
partitions_open(struct link_memif *l, struct hfb_err *err)
{
	uint32_t count = l->link.partitions;
	struct link_partition_info *infos = calloc(count, sizeof(*infos));
	int r;

	if (infos == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	r = link_session_open(&l->way, l->topic, count, infos, err);
	for (uint32_t i = 0; r == 0 && i < count; i++) {
		struct partition *p = &l->partitions[i];
		uint32_t slot = infos[i].handle & l->slots_mask;

		p->handle = infos[i].handle;
		p->silence_ns = SILENCE_NS;
		p->refused_at = NO_REFUSAL;
		p->window_events = NO_WINDOW;
		p->credit_events = (uint64_t)CREDIT_FIRST * l->link.batch_events /
				   (l->batch_bytes + HFB_BATCH_HEADER_BYTES);
		while (l->slots[slot].index != 0)
			slot = (slot + 1) & l->slots_mask;
		l->slots[slot].handle = p->handle;
		l->slots[slot].index = i + 1;
	}
	free(infos);
	return r;
}

int
bench_link_memif_open(const struct bench_link_config *config, struct bench_link **ret_link,
		      struct hfb_err *err)
{
	static const struct bench_link_ops ops = { memif_send, memif_poll, memif_close };
	struct link_memif *l;
	int r;

	if (config->partitions == 0 || config->partitions > BENCH_PARTITIONS_MAX)
		return hfb_err_set(err, -EINVAL, "1 to %u partitions, see --partitions",
				   BENCH_PARTITIONS_MAX);
	l = calloc(1, sizeof(*l));
	if (l == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	l->link.ops = &ops;
	l->link.partitions = config->partitions;
	l->topic = config->topic;
	l->stage = config->stage;
	l->event_bytes = config->event_bytes;
	l->record_bytes = HFB_RECORD_HEADER_BYTES + ((config->event_bytes + 7) & ~7u);
	if (l->record_bytes > RECORDS_MAX) {
		r = hfb_err_set(err, -EMSGSIZE,
				"an event of %u bytes does not fit a datagram,"
				" see --size",
				config->event_bytes);
		goto fail;
	}
	l->link.batch_events = config->batch_events;
	if (l->link.batch_events > RECORDS_MAX / l->record_bytes)
		l->link.batch_events = RECORDS_MAX / l->record_bytes;
	l->batch_bytes = l->link.batch_events * l->record_bytes;
	l->inflight_events = config->inflight_events;
	if (memory_make(l, config->partitions) < 0 ||
	    getrandom(&l->producer_id, sizeof(l->producer_id), 0) != sizeof(l->producer_id)) {
		r = hfb_err_set(err, -ENOMEM, "out of memory");
		goto fail;
	}
	l->producer_id |= 1;
	r = link_way_open(&l->way, config, err);
	if (r == 0)
		r = partitions_open(l, err);
	if (r < 0)
		goto fail;
	templates_fill(l, config->seed);
	head_make(l);
	l->now_ns = l->tick_ns = l->sent_ns = bench_now_ns();
	*ret_link = &l->link;
	return 0;
fail:
	memif_close(&l->link);
	return r;
}
