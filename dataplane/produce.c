/* SPDX-License-Identifier: Apache-2.0 */
/*
 * produce.c - one PRODUCE frame into its partition's log.
 *
 * Lengths are loaded once, then believed; the records are copied once, into the ring,
 * and checked there: what the checks saw is what readers, disk and mirror will see,
 * also when a local client changes its bytes meanwhile.
 *
 *	frame -> partition -> owner? -> stage? -> sequence -> claim -> copy + crc -> append
 */
#include "bug.h"
#include "crc32c.h"
#include "session.h"

#define EXTENSION_BYTES 16u /* head word and the port's stamp */

_Static_assert(sizeof(struct hfb_frame_produce) == 56, "fixed by the protocol");
_Static_assert(sizeof(struct hfb_wire_ack) == 64, "fixed by the protocol");

/*
 * Refuse a frame: by its binding when there is one, else by an entry of its own.
 * @expected is what the log says comes next, never a guess from the frame: the
 * producer takes it for received. EXPECTED_UNKNOWN before the log was asked.
 */
#define EXPECTED_UNKNOWN UINT64_MAX
static void
refuse(struct hfb_core *core, struct hfb_session *session, const struct hfb_frame_produce *head,
       struct hfb_partition *partition, enum hfb_wire_code code, uint64_t expected)
{
	struct hfb_binding *binding = NULL;
	struct hfb_wire_ack ack = {
		.partition = head->partition,
		.code = (uint16_t)code,
		.producer_epoch = head->producer_epoch,
		/* the same for all partitions of a run; older ones are not listened to */
		.leader_epoch = core->node->leader_epoch,
		.producer_id = head->producer_id,
		.base_offset = HFB_OFFSET_UNKNOWN,
	};

	if (partition != NULL)
		binding = hfb_binding_find(core, session, head->producer_id, partition);
	/* a binding speaks for one epoch; what it has reached is not the other's */
	if (binding != NULL && binding->producer_epoch == head->producer_epoch) {
		hfb_binding_refuse(core, binding, (uint16_t)code, expected);
		return;
	}
	if (expected != EXPECTED_UNKNOWN)
		ack.sequence[HFB_STAGE_RECEIVED] = expected;
	hfb_ack_loose(core, session, &ack);
}

/* The partition is another core's: pass the packet on, or name the right port. */
static void
elsewhere(struct hfb_core *core, struct hfb_session *session, const struct hfb_frame_produce *head,
	  const struct hfb_partition *partition, const struct hfb_packet *packet)
{
	/* foreign: handed over once already, so the tables disagree for a moment */
	if (packet == NULL || session->kind == HFB_SESSION_FOREIGN) {
		hfb_session_error(core, session, head->frame.packet, HFB_WIRE_WRONG_CORE);
		return;
	}
	/* the burst frees its reference, the owner frees this one */
	rte_mbuf_refcnt_update(packet->mbuf, 1);
	if (!hfb_handover(core, partition->core, HFB_HANDED_PRODUCE, packet, partition->handle,
			  session->number, 0))
		hfb_session_error(core, session, head->frame.packet, HFB_WIRE_WRONG_CORE);
}

static void
refuse_full(struct hfb_core *core, struct hfb_session *session,
	    const struct hfb_frame_produce *head, struct hfb_partition *partition,
	    enum hfb_log_refusal why)
{
	switch (why) {
	case HFB_LOG_NO_SPACE:
		core->stats[HFB_STAT_PRODUCE_REFUSED_NO_SPACE]++;
		refuse(core, session, head, partition, HFB_WIRE_NO_SPACE, head->base_sequence);
		break;
	case HFB_LOG_UNPREPARED:
	case HFB_LOG_IO_ERROR:
		core->stats[HFB_STAT_PRODUCE_REFUSED_IO]++;
		refuse(core, session, head, partition, HFB_WIRE_IO_ERROR, head->base_sequence);
		break;
	case HFB_LOG_TOO_LARGE:
		core->stats[HFB_STAT_PRODUCE_REFUSED_LARGE]++;
		refuse(core, session, head, partition, HFB_WIRE_TOO_LARGE, head->base_sequence);
		break;
	default:
		core->stats[HFB_STAT_PRODUCE_REFUSED_FULL]++;
		refuse(core, session, head, partition, HFB_WIRE_RING_FULL, head->base_sequence);
		break;
	}
}

/* All of it is in the log already: say so again, at the stage it has reached. */
static void
duplicate(struct hfb_core *core, struct hfb_session *session, const struct hfb_frame_produce *head,
	  struct hfb_partition *partition, struct hfb_binding *binding, uint64_t expected)
{
	core->stats[HFB_STAT_PRODUCE_DUPLICATES]++;
	if (binding == NULL)
		binding = hfb_binding_make(core, session, head->producer_id, partition);
	if (binding == NULL) {
		core->stats[HFB_STAT_PRODUCE_REFUSED_MANY]++;
		refuse(core, session, head, NULL, HFB_WIRE_TOO_MANY, expected);
		return;
	}
	if (binding->producer_epoch != head->producer_epoch)
		hfb_binding_epoch(binding, head->producer_epoch);
	binding->ack_stage = head->flags & HFB_PRODUCE_ACK_STAGE;
	binding->used_ns = core->now_ns;
	hfb_binding_duplicate(core, binding, expected);
}

static void
offset_answer(struct hfb_core *core, struct hfb_session *session, struct hfb_binding *binding,
	      uint64_t base_offset)
{
	const struct hfb_partition *partition = binding->partition;
	struct hfb_wire_ack ack = {
		.partition = partition->handle,
		.producer_epoch = binding->producer_epoch,
		.leader_epoch = core->node->leader_epoch,
		.credit_bytes = hfb_ack_credit(partition),
		.producer_id = binding->producer_id,
		.base_offset = base_offset,
	};

	ack.sequence[HFB_STAGE_RECEIVED] = binding->sequence[0];
	ack.sequence[HFB_STAGE_DURABLE] = binding->sequence[1];
	hfb_ack_loose(core, session, &ack);
	/* too little for a batch: the binding remembers to tell when there is more */
	if (ack.credit_bytes < hfb_log_batch_bytes_max(partition->log))
		hfb_binding_pend(core, binding);
}

/*
 * The batch is next in its producer's order and there is room. Copies, checks and
 * appends; false: what was copied is not what the producer meant.
 */
static bool
append(struct hfb_core *core, const struct hfb_frame_produce *head, uint8_t *at,
       const volatile uint8_t *records, uint32_t records_bytes, struct hfb_partition *partition,
       uint64_t port_time_ns, struct hfb_appended *ret_appended)
{
	struct hfb_batch_meta meta = {
		.size = HFB_BATCH_HEADER_BYTES + records_bytes,
		.count = head->count,
		.producer_epoch = head->producer_epoch,
		.payload_crc = head->payload_crc,
		.producer_id = head->producer_id,
		.base_sequence = head->base_sequence,
		.end_sequence = head->base_sequence + head->count,
		.timestamp_ns = core->now_ns,
	};
	uint8_t *to = at + HFB_BATCH_HEADER_BYTES;

	if (port_time_ns != 0) {
		struct hfb_extension extension = {
			.words = EXTENSION_BYTES / 8,
			.kinds = HFB_EXT_PORT_TIME,
			.words_crc = hfb_crc32c(0, &port_time_ns, sizeof(port_time_ns)),
		};

		memcpy(to, &extension, sizeof(extension));
		memcpy(to + sizeof(extension), &port_time_ns, sizeof(port_time_ns));
		to += EXTENSION_BYTES;
		meta.size += EXTENSION_BYTES;
		meta.flags = HFB_BATCH_EXTENSION;
	}
	if (hfb_crc32c_copy(0, to, (const void *)records, records_bytes) != head->payload_crc) {
		hfb_drop(core, HFB_STAT_DROP_BATCH_CRC);
		return false;
	}
	if (hfb_records_check(to, records_bytes, head->count) != 0) {
		hfb_drop(core, HFB_STAT_DROP_BATCH_FRAMING);
		return false;
	}
	hfb_log_append(partition->log, &meta, ret_appended);
	core->stats[HFB_STAT_APPEND_BATCHES]++;
	core->stats[HFB_STAT_APPEND_EVENTS] += head->count;
	core->stats[HFB_STAT_APPEND_BYTES] += meta.size;
	return true;
}

/* What cannot be a batch, whatever the log says. */
static bool
head_good(const struct hfb_frame_produce *head, uint32_t records_bytes)
{
	return head->producer_id != 0 && head->count != 0 && records_bytes % 8 == 0 &&
	       head->count <= records_bytes / HFB_RECORD_HEADER_BYTES &&
	       (head->flags & ~HFB_PRODUCE_FLAGS_KNOWN) == 0 &&
	       head->base_sequence <= UINT64_MAX - head->count;
}

/* The frame's partition when it is this core's; NULL: the frame was passed on or refused. */
static struct hfb_partition *
partition_here(struct hfb_core *core, struct hfb_session *session,
	       const struct hfb_frame_produce *head, const struct hfb_packet *packet)
{
	struct hfb_partition *partition = hfb_partition_get(core->node, head->partition);

	/* what the bus keeps for itself is written by who may open its socket, not from a network
	 */
	if (partition == NULL || (partition->core == core->id && partition->detaching) ||
	    (partition->internal && session->kind != HFB_SESSION_LOCAL)) {
		core->stats[HFB_STAT_PRODUCE_REFUSED_PARTITION]++;
		hfb_session_error(core, session, head->frame.packet, HFB_WIRE_NO_PARTITION);
		return NULL;
	}
	if (partition->core != core->id) {
		elsewhere(core, session, head, partition, packet);
		return NULL;
	}
	return partition;
}

/* When the packet came to its port, if that is to be kept (`timestamps` of the port); else 0. */
static uint64_t
port_time(const struct hfb_core *core, const struct hfb_packet *packet)
{
	if (packet != NULL && packet->port_time_ns != 0 &&
	    core->node->ports[packet->port].config->timestamps)
		return packet->port_time_ns;
	return 0;
}

/* Could the log take it, whatever came before? False: refused. @size is the batch's. */
static bool
acceptable(struct hfb_core *core, struct hfb_session *session, const struct hfb_frame_produce *head,
	   struct hfb_partition *partition, uint32_t records_bytes, uint32_t size)
{
	if (!head_good(head, records_bytes)) {
		hfb_drop(core, HFB_STAT_DROP_BATCH_FRAMING);
		hfb_session_error(core, session, head->frame.packet, HFB_WIRE_BAD_BATCH);
		return false;
	}
	/* there is no mirror yet, and a stage that cannot be reached is never promised */
	if ((head->flags & HFB_PRODUCE_ACK_STAGE) > HFB_STAGE_DURABLE) {
		core->stats[HFB_STAT_PRODUCE_REFUSED_STAGE]++;
		refuse(core, session, head, partition, HFB_WIRE_STAGE_UNAVAILABLE,
		       EXPECTED_UNKNOWN);
		return false;
	}
	if (size < records_bytes || size > hfb_log_batch_bytes_max(partition->log)) {
		core->stats[HFB_STAT_PRODUCE_REFUSED_LARGE]++;
		refuse(core, session, head, partition, HFB_WIRE_TOO_LARGE, EXPECTED_UNKNOWN);
		return false;
	}
	return true;
}

/* The producer's with this partition, often the one of the last frame; NULL: none yet. */
static struct hfb_binding *
binding_of(struct hfb_core *core, struct hfb_session *session, const struct hfb_frame_produce *head,
	   struct hfb_partition *partition)
{
	struct hfb_binding *last = session->last;

	if (last != NULL && last->producer_id == head->producer_id && last->partition == partition)
		return last;
	return hfb_binding_find(core, session, head->producer_id, partition);
}

/* Is it what its producer's order wants next? False: it is there already, or refused. */
static bool
next_in_order(struct hfb_core *core, struct hfb_session *session,
	      const struct hfb_frame_produce *head, struct hfb_partition *partition,
	      struct hfb_binding *binding)
{
	uint64_t expected = 0;

	switch (hfb_log_sequence_check(partition->log, head->producer_id, head->producer_epoch,
				       head->base_sequence, head->count, &expected)) {
	case HFB_SEQUENCE_NEXT:
		return true;
	case HFB_SEQUENCE_DUPLICATE:
		duplicate(core, session, head, partition, binding, expected);
		break;
	case HFB_SEQUENCE_GAP:
		core->stats[HFB_STAT_PRODUCE_REFUSED_GAP]++;
		refuse(core, session, head, partition, HFB_WIRE_SEQUENCE_GAP, expected);
		break;
	case HFB_SEQUENCE_FENCED:
		core->stats[HFB_STAT_PRODUCE_REFUSED_FENCED]++;
		refuse(core, session, head, partition, HFB_WIRE_FENCED, EXPECTED_UNKNOWN);
		break;
	case HFB_SEQUENCE_UNKNOWN:
		core->stats[HFB_STAT_PRODUCE_REFUSED_UNKNOWN]++;
		refuse(core, session, head, partition, HFB_WIRE_UNKNOWN_PRODUCER, 0);
		break;
	case HFB_SEQUENCE_TOO_MANY:
		core->stats[HFB_STAT_PRODUCE_REFUSED_MANY]++;
		refuse(core, session, head, partition, HFB_WIRE_TOO_MANY, 0);
		break;
	}
	return false;
}

/*
 * The batch is in the log: what its binding knows now, and who is to hear of it. After a @plain
 * one, without a port's stamp, produce_run.c may take the next ones.
 */
static void
note(struct hfb_core *core, struct hfb_session *session, const struct hfb_frame_produce *head,
     struct hfb_binding *binding, const struct hfb_appended *appended, bool plain)
{
	bool wants_offset = (head->flags & HFB_PRODUCE_WANT_OFFSET) != 0;

	session->last = binding;
	if (binding->producer_epoch != head->producer_epoch)
		hfb_binding_epoch(binding, head->producer_epoch);
	binding->ack_stage = head->flags & HFB_PRODUCE_ACK_STAGE;
	binding->used_ns = core->now_ns;
	hfb_binding_appended(core, binding, appended->end_position,
			     head->base_sequence + head->count, head->count);
	if (wants_offset)
		offset_answer(core, session, binding, appended->base_offset);
	else if (binding->ack_stage == HFB_STAGE_RECEIVED)
		hfb_binding_pend(core, binding);
	if (binding->ack_stage != HFB_STAGE_RECEIVED)
		hfb_log_durable_wanted(binding->partition->log);
	if (!wants_offset && plain)
		core->produced_by = session;
}

void
hfb_produce_frame(struct hfb_core *core, struct hfb_session *session, const volatile uint8_t *frame,
		  uint32_t bytes, const struct hfb_packet *packet)
{
	struct hfb_frame_produce head;
	struct hfb_partition *partition;
	struct hfb_appended appended;
	struct hfb_binding *binding;
	enum hfb_log_refusal why;
	uint64_t port_time_ns;
	uint32_t records_bytes, size;
	bool made = false;
	uint8_t *at;

	core->stats[HFB_STAT_PRODUCE_FRAMES]++;
	if (bytes < sizeof(head) + HFB_RECORD_HEADER_BYTES) {
		hfb_drop(core, HFB_STAT_DROP_FRAME_SHORT);
		return;
	}
	hfb_wire_load(&head, frame, sizeof(head));
	records_bytes = bytes - (uint32_t)sizeof(head);
	partition = partition_here(core, session, &head, packet);
	if (partition == NULL)
		return;
	port_time_ns = port_time(core, packet);
	size = HFB_BATCH_HEADER_BYTES + records_bytes + (port_time_ns != 0 ? EXTENSION_BYTES : 0);
	if (!acceptable(core, session, &head, partition, records_bytes, size))
		return;

	binding = binding_of(core, session, &head, partition);
	if (!next_in_order(core, session, &head, partition, binding))
		return;
	at = hfb_log_claim(partition->log, size, false, &why);
	if (at == NULL) {
		refuse_full(core, session, &head, partition, why);
		return;
	}
	/* before the append: an event in the log that nobody acks would be sent again for ever */
	if (binding == NULL) {
		binding = hfb_binding_make(core, session, head.producer_id, partition);
		if (binding == NULL) {
			core->stats[HFB_STAT_PRODUCE_REFUSED_MANY]++;
			refuse(core, session, &head, NULL, HFB_WIRE_TOO_MANY, head.base_sequence);
			return;
		}
		made = true;
	}
	if (!append(core, &head, at, frame + sizeof(head), records_bytes, partition, port_time_ns,
		    &appended)) {
		/* only producers that got something in keep a place in the table */
		if (made)
			hfb_binding_free(core, binding);
		refuse(core, session, &head, partition, HFB_WIRE_BAD_BATCH, head.base_sequence);
		return;
	}
	note(core, session, &head, binding, &appended, port_time_ns == 0);
}
