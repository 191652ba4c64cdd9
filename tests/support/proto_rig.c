/* SPDX-License-Identifier: Apache-2.0 */
/* proto_rig.c - see proto_rig.h. */
#include <errno.h>
#include <stdlib.h>

#include "bug.h"
#include "clock.h"
#include "proto_rig.h"

static struct rig *current;

struct rig *
rig_current(void)
{
	return current;
}

/* ---- the log's side -------------------------------------------------------------- */

uint8_t *
hfb_log_claim(struct hfb_log *log, uint32_t bytes, bool reserve, enum hfb_log_refusal *ret_why)
{
	if (log->refusal != HFB_LOG_OK) {
		*ret_why = log->refusal;
		return NULL;
	}
	if (log->appended + bytes - log->durable > log->ring_bytes ||
	    log->appended + bytes > RIG_LOG_BYTES) {
		*ret_why = HFB_LOG_RING_FULL;
		return NULL;
	}
	log->claimed = bytes;
	return log->bytes + log->appended;
}

void
hfb_log_append(struct hfb_log *log, const struct hfb_batch_meta *meta,
	       struct hfb_appended *ret_appended)
{
	struct hfb_batch batch = {
		.size = meta->size,
		.base_offset = log->next_offset,
		.count = meta->count,
		.version = HFB_BATCH_VERSION,
		.flags = meta->flags,
		.leader_epoch = log->epoch,
		.producer_id = meta->producer_id,
		.base_sequence = meta->base_sequence,
		.timestamp_ns = meta->timestamp_ns,
		.payload_crc = meta->payload_crc,
		.producer_epoch = meta->producer_epoch,
	};
	uint32_t i = 0;

	hfb_assert(meta->size <= log->claimed);
	log->claimed = 0;
	memcpy(log->bytes + log->appended, &batch, sizeof(batch));
	ret_appended->base_offset = log->next_offset;
	log->appended += meta->size;
	log->next_offset += meta->count;
	ret_appended->end_position = log->appended;
	while (log->producers[i].producer_id != 0 &&
	       log->producers[i].producer_id != meta->producer_id)
		i++;
	hfb_assert(i < RIG_PRODUCERS);
	log->producers[i].producer_id = meta->producer_id;
	log->producers[i].epoch = meta->producer_epoch;
	log->producers[i].next = meta->end_sequence;
}

enum hfb_sequence_verdict
hfb_log_sequence_check(struct hfb_log *log, uint64_t producer_id, uint16_t producer_epoch,
		       uint64_t base_sequence, uint32_t count, uint64_t *ret_expected)
{
	for (uint32_t i = 0; i < RIG_PRODUCERS && log->producers[i].producer_id != 0; i++) {
		uint64_t next = log->producers[i].next;

		if (log->producers[i].producer_id != producer_id)
			continue;
		if (log->producers[i].epoch != producer_epoch) {
			*ret_expected = 0;
			if (producer_epoch < log->producers[i].epoch)
				return HFB_SEQUENCE_FENCED;
			return base_sequence == 0 ? HFB_SEQUENCE_NEXT : HFB_SEQUENCE_UNKNOWN;
		}
		*ret_expected = next;
		if (base_sequence == next)
			return HFB_SEQUENCE_NEXT;
		return base_sequence + count <= next ? HFB_SEQUENCE_DUPLICATE : HFB_SEQUENCE_GAP;
	}
	*ret_expected = 0;
	if (log->producers[RIG_PRODUCERS - 1].producer_id != 0)
		return HFB_SEQUENCE_TOO_MANY;
	return base_sequence == 0 ? HFB_SEQUENCE_NEXT : HFB_SEQUENCE_UNKNOWN;
}

void
hfb_log_durable_wanted(struct hfb_log *log)
{
}

uint64_t
hfb_log_room(const struct hfb_log *log)
{
	return log->ring_bytes - (log->appended - log->durable);
}

uint64_t
hfb_log_position(const struct hfb_log *log, enum hfb_stage stage)
{
	return stage == HFB_STAGE_RECEIVED ? log->received : log->durable;
}

uint32_t
hfb_writer_publish(struct hfb_writer *writer)
{
	struct rig *rig = rig_current();

	(void)writer;
	for (uint32_t i = 0; i < RIG_PARTITIONS; i++)
		rig->log[i].received = rig->log[i].appended;
	return 0;
}

uint64_t
hfb_log_committed(const struct hfb_log *log)
{
	return log->committed;
}

uint64_t
hfb_log_start(const struct hfb_log *log)
{
	return log->start;
}

uint32_t
hfb_log_epoch(const struct hfb_log *log)
{
	return log->epoch;
}

uint32_t
hfb_log_batch_bytes_max(const struct hfb_log *log)
{
	return (uint32_t)(log->ring_bytes / 4);
}

const uint8_t *
hfb_log_peek(const struct hfb_log *log, uint64_t position, uint64_t *ret_bytes)
{
	if (position > log->committed || log->appended - position > log->ring_bytes)
		return NULL;
	*ret_bytes = log->committed - position;
	return log->bytes + position;
}

int
hfb_log_read_start(struct hfb_log *log, uint64_t position, struct hfb_read *r)
{
	if (position < log->start)
		return -ENODATA;
	if (position >= log->corrupt_from && position < log->corrupt_to) {
		r->error = -EBADMSG;
		r->next_position = log->corrupt_to;
		return 0;
	}
	for (uint32_t i = 0; i < HFB_READERS; i++) {
		if (log->reads[i] != NULL)
			continue;
		log->reads[i] = r;
		r->log = log;
		r->position = position;
		r->busy = true;
		return 0;
	}
	return -EBUSY;
}

int
hfb_log_lookup(struct hfb_log *log, uint16_t from, uint32_t leader_epoch, uint64_t value,
	       struct hfb_place *ret_place)
{
	if (log->lookup_result != 0) {
		*ret_place = log->lookup_place;
		return log->lookup_result;
	}
	ret_place->leader_epoch = log->epoch;
	/* a batch before a place, as an index finds it */
	ret_place->position = from == HFB_FROM_EARLIEST				  ? log->start
			      : from == HFB_FROM_PLACE && value > log->start + 64 ? value - 64
										  : value;
	ret_place->offset = 0;
	if (ret_place->position < log->start)
		return -ENODATA;
	return ret_place->position > log->appended ? -ERANGE : 0;
}

/* ---- the catalogue's, the port's and the channel's side ------------------------------- */

const struct hfb_topic *
hfb_topic_find(struct hfb_node *node, const char *name, uint32_t name_size)
{
	if (name_size != strlen(current->topic->info.name) ||
	    memcmp(name, current->topic->info.name, name_size) != 0)
		return NULL;
	return current->topic;
}

static struct rig_frame *
frame_next(void)
{
	hfb_assert(current->frames_count < RIG_FRAMES);
	return &current->frames[current->frames_count];
}

struct rte_mbuf *
hfb_tx_begin(struct hfb_core *core, const struct hfb_peer *peer, uint32_t bytes,
	     uint8_t **ret_payload)
{
	if (current->no_frames != 0)
		return NULL;
	hfb_assert(bytes <= HFB_UDP_PAYLOAD_MAX);
	*ret_payload = frame_next()->data;
	return &current->tx;
}

void
hfb_tx_send(struct hfb_core *core, const struct hfb_peer *peer, struct rte_mbuf *mbuf,
	    uint32_t bytes)
{
	struct rig_frame *frame = frame_next();

	frame->local = false;
	frame->port = peer->udp_port;
	frame->bytes = bytes;
	current->frames_count++;
}

uint8_t *
hfb_local_frame_begin(struct hfb_core *core, void *local, uint32_t bytes)
{
	if (current->no_frames != 0 || (uintptr_t)local < current->stuck_below)
		return NULL;
	return frame_next()->data;
}

void
hfb_local_frame_send(struct hfb_core *core, void *local, uint32_t bytes)
{
	struct rig_frame *frame = frame_next();

	frame->local = true;
	frame->bytes = bytes;
	current->frames_count++;
}

bool
hfb_handover(struct hfb_core *core, uint16_t to_core, uint16_t kind,
	     const struct hfb_packet *packet, uint32_t handle, uint64_t session, uint16_t feed_line)
{
	/* takes the reference either way */
	hfb_assert(rte_mbuf_refcnt_read(packet->mbuf) == 2);
	rte_mbuf_refcnt_update(packet->mbuf, -1);
	if (current->handover_full)
		return false;
	current->handed_count++;
	current->handed_kind = kind;
	current->handed_core = to_core;
	current->handed_session = session;
	current->handed_packet = *packet;
	return true;
}

/* ---- the test's side --------------------------------------------------------------------- */

void
rig_open(struct rig *rig)
{
	struct hfb_err err;

	memset(rig, 0, sizeof(*rig));
	current = rig;
	rig->config.udp_port = HFB_UDP_PORT_DEFAULT;
	rig->config.cores_count = 2;
	rig->config.sessions_max = 32;
	rig->config.producers_max = 64;
	rig->config.subscriptions_max = 24;
	rig->node = calloc(1, sizeof(*rig->node));
	rig->topic = calloc(1, sizeof(*rig->topic) + RIG_PARTITIONS * sizeof(uint32_t));
	rig->frames = calloc(RIG_FRAMES, sizeof(*rig->frames));
	hfb_assert(rig->node != NULL && rig->topic != NULL && rig->frames != NULL);
	rig->node->config = &rig->config;
	rig->node->cores_count = 2;
	rig->node->ports_count = 1;
	rig->node->ports[0].config = &rig->config.ports[0];
	rig->node->broker_epoch = 3;
	rig->node->leader_epoch = 3;
	memset(rig->node->secret, 0x5a, sizeof(rig->node->secret));
	rig->core.node = rig->node;
	rig->core.stats = rig->stats;
	rig->core.times.tick_ns = 1ull << 32;
	for (uint32_t i = 0; i < HFB_STAGE_TIMES_COUNT; i++) {
		rig->times[i] = malloc(hfb_histogram_bytes(HFB_STAGE_TIME_BITS, 36));
		hfb_assert(rig->times[i] != NULL);
		hfb_histogram_init(rig->times[i], HFB_STAGE_TIME_BITS, 36);
		rig->core.times.of[i] = rig->times[i];
	}
	rig->core.now_ns = 1700000000000000000ull;
	rig->core.turn = 1;
	rig->core.times.turn_tsc = hfb_clock_tsc();
	rig->core.times.published_tsc = 0;
	strcpy(rig->topic->info.name, "prices");
	rig->topic->info.partitions = RIG_PARTITIONS;
	rig->topic->info.commit_stage = HFB_STAGE_DURABLE;
	for (uint32_t i = 0; i < RIG_PARTITIONS; i++) {
		struct hfb_partition *partition = &rig->partition[i];

		rig->topic->handles[i] = 10 + i;
		partition->handle = 10 + i;
		partition->index = i;
		/* the last one is the other core's */
		partition->core = i == RIG_PARTITIONS - 1;
		partition->log = &rig->log[i];
		partition->positions = &rig->positions[i];
		partition->topic = rig->topic;
		rig->log[i].bytes = calloc(1, RIG_LOG_BYTES);
		hfb_assert(rig->log[i].bytes != NULL);
		rig->log[i].ring_bytes = HFB_MIB;
		rig->log[i].epoch = 3;
		rig->node->partitions[10 + i] = partition;
	}
	rte_mbuf_refcnt_set(&rig->mbuf, 1);
	hfb_assert(hfb_sessions_create(&rig->core, &err) == 0);
}

void
rig_close(struct rig *rig)
{
	/* whatever a test did, every reference that was taken was given back */
	hfb_assert(rte_mbuf_refcnt_read(&rig->mbuf) == 1);
	hfb_sessions_destroy(&rig->core);
	for (uint32_t i = 0; i < RIG_PARTITIONS; i++)
		free(rig->log[i].bytes);
	for (uint32_t i = 0; i < HFB_STAGE_TIMES_COUNT; i++)
		free(rig->times[i]);
	free(rig->frames);
	free(rig->topic);
	free(rig->node);
}

static void
dirty(struct rig *rig, uint32_t i)
{
	struct hfb_partition *partition = &rig->partition[i];

	if (partition->dirty)
		return;
	partition->dirty = true;
	partition->dirty_next = rig->core.dirty;
	rig->core.dirty = partition;
}

void
rig_turn(struct rig *rig)
{
	hfb_writer_publish(rig->core.writer);
	hfb_session_poll(&rig->core);
	hfb_ack_times_record(&rig->core, hfb_clock_tsc());
	rig->core.turn++;
	rig->core.now_ns += 1000;
	rig->core.times.turn_tsc = hfb_clock_tsc();
	rig->core.times.published_tsc = 0;
}

void
rig_durable(struct rig *rig, uint32_t i)
{
	rig->log[i].received = rig->log[i].appended;
	rig->log[i].durable = rig->log[i].appended;
	rig->log[i].committed = rig->log[i].durable;
	rig->positions[i].committed.position = rig->log[i].committed;
	rig->positions[i].committed.offset = rig->log[i].next_offset;
	rig->core.times.reaped_tsc = hfb_clock_tsc();
	if (rig->partition[i].subs_head != NULL)
		hfb_push_committed(&rig->core, &rig->partition[i]);
	dirty(rig, i);
}

void
rig_reads_complete(struct rig *rig)
{
	for (uint32_t i = 0; i < RIG_PARTITIONS; i++) {
		struct hfb_log *log = &rig->log[i];

		for (uint32_t j = 0; j < HFB_READERS; j++) {
			struct hfb_read *r = log->reads[j];
			uint64_t bytes;

			if (r == NULL)
				continue;
			log->reads[j] = NULL;
			bytes = log->committed - r->position;
			if (r->position < log->corrupt_from &&
			    bytes > log->corrupt_from - r->position)
				bytes = log->corrupt_from - r->position;
			if (bytes > r->buffer_bytes)
				bytes = r->buffer_bytes;
			memcpy(r->buffer, log->bytes + r->position, bytes);
			r->data = r->buffer;
			r->data_bytes = (uint32_t)bytes;
			r->error = log->read_error;
			r->busy = false;
		}
	}
}

void
rig_forget(struct rig *rig)
{
	rig->frames_count = 0;
}

struct hfb_session *
rig_local(struct rig *rig)
{
	rig->locals++;
	return hfb_session_local_create(&rig->core, 0x7000 + rig->locals,
					(void *)(uintptr_t)(0x7000 + rig->locals));
}

void
rig_packet(struct rig *rig, struct hfb_packet *packet, uint8_t host, uint16_t port,
	   const void *payload, uint32_t bytes)
{
	memset(packet, 0, sizeof(*packet));
	packet->mbuf = &rig->mbuf;
	packet->source.bytes[10] = packet->source.bytes[11] = 0xff;
	packet->source.bytes[12] = 10;
	packet->source.bytes[15] = host;
	packet->source_port = port;
	packet->destination_port = HFB_UDP_PORT_DEFAULT;
	packet->payload = payload;
	packet->payload_bytes = bytes;
}

void
rig_udp(struct rig *rig, uint8_t host, uint16_t port, const void *payload, uint32_t bytes)
{
	struct hfb_packet packet;

	rig_packet(rig, &packet, host, port, payload, bytes);
	hfb_session_input(&rig->core, &packet);
}

struct hfb_frame
rig_head(struct rig *rig, uint8_t type, uint64_t session)
{
	return (struct hfb_frame){
		.magic = HFB_WIRE_MAGIC,
		.version = HFB_WIRE_VERSION,
		.type = type,
		.session = session,
		.packet = ++rig->packet,
	};
}

uint64_t
rig_udp_open(struct rig *rig, uint8_t host, uint16_t port, uint64_t nonce)
{
	union {
		struct hfb_frame_hello hello;
		uint8_t bytes[HFB_HELLO_BYTES];
	} hello = { .bytes = { 0 } };
	struct hfb_frame_open open = { .nonce = nonce };
	const struct hfb_frame_cookie *cookie;
	const struct hfb_frame_opened *opened;

	rig_forget(rig);
	hello.hello.frame = rig_head(rig, HFB_FRAME_HELLO, 0);
	hello.hello.nonce = nonce;
	rig_udp(rig, host, port, &hello, sizeof(hello));
	cookie = rig_sent(rig, HFB_FRAME_COOKIE, 0);
	if (cookie == NULL)
		return 0;
	open.frame = rig_head(rig, HFB_FRAME_OPEN, 0);
	memcpy(open.cookie, cookie->cookie, sizeof(open.cookie));
	rig_udp(rig, host, port, &open, sizeof(open));
	opened = rig_sent(rig, HFB_FRAME_OPENED, 0);
	return opened != NULL ? opened->frame.session : 0;
}

uint32_t
rig_produce_make(struct rig *rig, uint8_t *to, uint64_t session, const struct rig_batch *batch)
{
	struct hfb_frame_produce head = {
		.frame = rig_head(rig, HFB_FRAME_PRODUCE, session),
		.partition = 10 + batch->partition,
		.flags = batch->flags,
		.producer_epoch = batch->epoch,
		.count = batch->count,
		.producer_id = batch->producer_id,
		.base_sequence = batch->base_sequence,
	};
	uint32_t bytes = 0;

	for (uint32_t i = 0; i < batch->count; i++) {
		struct hfb_record record = { .value_size = 64, .key_size = HFB_KEY_NULL };

		memcpy(to + sizeof(head) + bytes, &record, sizeof(record));
		memset(to + sizeof(head) + bytes + sizeof(record),
		       (int)(batch->base_sequence + i) & 0xff, 64);
		bytes += HFB_RECORD_HEADER_BYTES + 64;
	}
	head.payload_crc = hfb_crc32c(0, to + sizeof(head), bytes) ^ batch->crc_xor;
	memcpy(to, &head, sizeof(head));
	return (uint32_t)sizeof(head) + bytes;
}

void
rig_produce(struct rig *rig, struct hfb_session *session, const struct rig_batch *batch)
{
	uint8_t frame[RIG_FRAME_BYTES];
	uint32_t bytes = rig_produce_make(rig, frame, session->number, batch);

	hfb_session_local_frame(&rig->core, session, frame, bytes);
}

void
rig_subscribe(struct rig *rig, struct hfb_session *session, uint16_t from, uint64_t value,
	      uint32_t window_bytes, uint16_t flags)
{
	struct hfb_frame_subscribe ask = {
		.frame = rig_head(rig, HFB_FRAME_SUBSCRIBE, session->number),
		.partition = 10,
		.leader_epoch = 3,
		.from = from,
		.flags = flags,
		.window_bytes = window_bytes,
		.value = value,
	};

	hfb_session_local_frame(&rig->core, session, (const uint8_t *)&ask, sizeof(ask));
}

static const struct rig_frame *
sent(const struct rig *rig, uint8_t type, uint32_t n)
{
	for (uint32_t i = 0; i < rig->frames_count; i++)
		if (rig->frames[i].data[2] == type && n-- == 0)
			return &rig->frames[i];
	return NULL;
}

const void *
rig_sent(const struct rig *rig, uint8_t type, uint32_t n)
{
	const struct rig_frame *frame = sent(rig, type, n);

	return frame != NULL ? frame->data : NULL;
}

uint32_t
rig_sent_bytes(const struct rig *rig, uint8_t type, uint32_t n)
{
	const struct rig_frame *frame = sent(rig, type, n);

	return frame != NULL ? frame->bytes : 0;
}

uint32_t
rig_sent_count(const struct rig *rig, uint8_t type)
{
	uint32_t n = 0;

	while (sent(rig, type, n) != NULL)
		n++;
	return n;
}

const struct hfb_wire_ack *
rig_ack(const struct rig *rig, uint32_t n)
{
	const struct hfb_frame_ack *frame;

	for (uint32_t i = 0; (frame = rig_sent(rig, HFB_FRAME_ACK, i)) != NULL; i++) {
		if (n < frame->count)
			return (const struct hfb_wire_ack *)(frame + 1) + n;
		n -= frame->count;
	}
	return NULL;
}
