/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PRODUCE.
 *
 * Goal:   the log gets exactly what a producer meant, once and in its order, or nothing
 *	   and the producer hears why.
 * Method: batches by hand, good and bad, over a channel and over UDP; the log's bytes,
 *	   the counters and the ACK entries read back.
 */
#include "hfb_test_main.h"
#include "proto_rig.h"

static struct rig rig;
static struct hfb_session *session;

static void
set_up(void)
{
	rig_open(&rig);
	session = rig_local(&rig);
}

static void
tear_down(void)
{
	rig_close(&rig);
}

/* The only ACK entry of this turn; all ones in code when there is none. */
static struct hfb_wire_ack
answer(void)
{
	struct hfb_wire_ack none = { .code = 0xffff };
	const struct hfb_wire_ack *ack;

	rig_turn(&rig);
	ack = rig_ack(&rig, 0);
	if (ack == NULL || rig_ack(&rig, 1) != NULL)
		return none;
	none = *ack;
	rig_forget(&rig);
	return none;
}

static struct hfb_wire_ack
produce(const struct rig_batch *batch)
{
	rig_produce(&rig, session, batch);
	return answer();
}

/* Of the only ERROR of this turn. */
static uint32_t
error_code(void)
{
	const struct hfb_frame_error *error;

	rig_turn(&rig);
	error = rig_sent(&rig, HFB_FRAME_ERROR, 0);
	if (error == NULL || error->answers != rig.packet || rig.frames_count != 1)
		return 0;
	rig_forget(&rig);
	return error->code;
}

static void
test_a_batch_goes_in_as_it_came(void)
{
	struct hfb_wire_ack ack;
	const struct hfb_batch *batch = (const struct hfb_batch *)rig.log[0].bytes;

	ack = produce(&(struct rig_batch){ .producer_id = 7, .epoch = 2, .count = 3 });
	CU_ASSERT_EQUAL(ack.code, HFB_WIRE_OK);
	CU_ASSERT_EQUAL(ack.partition, 10);
	CU_ASSERT_EQUAL(ack.producer_id, 7);
	CU_ASSERT_EQUAL(ack.producer_epoch, 2);
	CU_ASSERT_EQUAL(ack.leader_epoch, 3);
	CU_ASSERT_EQUAL(ack.sequence[HFB_STAGE_RECEIVED], 3);
	CU_ASSERT_EQUAL(ack.sequence[HFB_STAGE_DURABLE], 0);
	CU_ASSERT_EQUAL(ack.base_offset, HFB_OFFSET_UNKNOWN);
	CU_ASSERT_EQUAL(ack.credit_bytes, HFB_MIB - (64 + 3 * 80));
	CU_ASSERT_EQUAL(batch->size, 64 + 3 * 80);
	CU_ASSERT_EQUAL(batch->count, 3);
	CU_ASSERT_EQUAL(batch->flags, 0);
	CU_ASSERT_EQUAL(batch->timestamp_ns, rig.core.now_ns - 1000);
	CU_ASSERT_EQUAL(batch->payload_crc, hfb_crc32c(0, batch + 1, 3 * 80));
	CU_ASSERT_EQUAL(hfb_records_check(batch + 1, 3 * 80, 3), 0);
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_APPEND_EVENTS], 3);
}

static void
test_a_duplicate_is_acked_and_adds_nothing(void)
{
	struct rig_batch batch = { .producer_id = 7, .count = 2 };
	struct hfb_wire_ack ack;
	uint64_t end;

	produce(&batch);
	end = rig.log[0].appended;
	ack = produce(&batch);
	CU_ASSERT_EQUAL(ack.code, HFB_WIRE_OK);
	CU_ASSERT_EQUAL(ack.sequence[HFB_STAGE_RECEIVED], 2);
	CU_ASSERT_EQUAL(ack.sequence[HFB_STAGE_DURABLE], 0);
	CU_ASSERT_EQUAL(rig.log[0].appended, end);
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_PRODUCE_DUPLICATES], 1);
}

static void
test_a_gap_names_what_is_expected_once(void)
{
	struct rig_batch batch = { .producer_id = 7, .count = 1 };
	struct hfb_wire_ack ack;

	produce(&batch);
	/* a window of frames behind a lost one: one entry, with the sequence to go back to */
	for (batch.base_sequence = 2; batch.base_sequence < 10; batch.base_sequence++)
		rig_produce(&rig, session, &batch);
	ack = answer();
	CU_ASSERT_EQUAL(ack.code, HFB_WIRE_SEQUENCE_GAP);
	CU_ASSERT_EQUAL(ack.sequence[HFB_STAGE_RECEIVED], 1);
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_PRODUCE_REFUSED_GAP], 8);
	/* more of the same window in the next turn says nothing new */
	rig_produce(&rig, session, &batch);
	rig_turn(&rig);
	CU_ASSERT_EQUAL(rig.frames_count, 0);
	/* but the answer may have been lost */
	rig.core.now_ns += HFB_REFUSAL_REPEAT_NS;
	ack = produce(&batch);
	CU_ASSERT_EQUAL(ack.code, HFB_WIRE_SEQUENCE_GAP);
	batch.base_sequence = 1;
	ack = produce(&batch);
	CU_ASSERT_EQUAL(ack.code, HFB_WIRE_OK);
	CU_ASSERT_EQUAL(ack.sequence[HFB_STAGE_RECEIVED], 2);
}

static void
test_fenced_unknown_and_overlapping_producers_are_refused(void)
{
	struct rig_batch batch = { .producer_id = 7, .epoch = 1, .count = 4 };
	struct hfb_wire_ack ack;
	uint64_t end;

	produce(&batch);
	batch.epoch = 2;
	CU_ASSERT_EQUAL(produce(&batch).code, HFB_WIRE_OK);
	end = rig.log[0].appended;
	batch.epoch = 1;
	batch.base_sequence = 4;
	CU_ASSERT_EQUAL(produce(&batch).code, HFB_WIRE_FENCED);
	batch = (struct rig_batch){ .producer_id = 8, .count = 1, .base_sequence = 5 };
	CU_ASSERT_EQUAL(produce(&batch).code, HFB_WIRE_UNKNOWN_PRODUCER);
	batch = (struct rig_batch){ .producer_id = 7, .epoch = 2, .count = 4, .base_sequence = 2 };
	ack = produce(&batch);
	CU_ASSERT_EQUAL(ack.code, HFB_WIRE_SEQUENCE_GAP);
	CU_ASSERT_EQUAL(ack.sequence[HFB_STAGE_RECEIVED], 4);
	CU_ASSERT_EQUAL(rig.log[0].appended, end);
}

static void
test_a_new_epoch_inherits_no_stage(void)
{
	struct rig_batch batch = { .producer_id = 7, .count = 9 };
	struct hfb_wire_ack ack;

	batch.flags = HFB_STAGE_DURABLE;
	rig_produce(&rig, session, &batch);
	rig_durable(&rig, 0);
	ack = answer();
	CU_ASSERT_EQUAL(ack.sequence[HFB_STAGE_DURABLE], 9);
	batch = (struct rig_batch){ .producer_id = 7, .epoch = 1, .count = 1 };
	ack = produce(&batch);
	CU_ASSERT_EQUAL(ack.code, HFB_WIRE_OK);
	CU_ASSERT_EQUAL(ack.sequence[HFB_STAGE_RECEIVED], 1);
	CU_ASSERT_EQUAL(ack.sequence[HFB_STAGE_DURABLE], 0);
}

/* Batches of two epochs over one session: an answer to one names nothing of the other. */
static void
test_an_epoch_is_told_nothing_of_another(void)
{
	struct rig_batch old = { .producer_id = 7, .epoch = 1, .count = 4 };
	struct rig_batch new = { .producer_id = 7, .epoch = 2, .count = 4 };
	struct hfb_wire_ack ack;

	produce(&old);
	new.base_sequence = 4; /* its first batch was lost on the way */
	ack = produce(&new);
	CU_ASSERT_EQUAL(ack.code, HFB_WIRE_UNKNOWN_PRODUCER);
	CU_ASSERT_EQUAL(ack.producer_epoch, 2);
	CU_ASSERT_EQUAL(ack.sequence[HFB_STAGE_RECEIVED], 0);
	new.base_sequence = 0;
	CU_ASSERT_EQUAL(produce(&new).code, HFB_WIRE_OK);
	old.base_sequence = 4;
	ack = produce(&old);
	CU_ASSERT_EQUAL(ack.code, HFB_WIRE_FENCED);
	CU_ASSERT_EQUAL(ack.producer_epoch, 1);
	CU_ASSERT_EQUAL(ack.sequence[HFB_STAGE_RECEIVED], 0);
	new.base_sequence = 4;
	ack = produce(&new);
	CU_ASSERT_EQUAL(ack.code, HFB_WIRE_OK);
	CU_ASSERT_EQUAL(ack.sequence[HFB_STAGE_RECEIVED], 8);
}

static void
test_wrong_crc_and_lying_sizes_leave_the_log_alone(void)
{
	struct rig_batch batch = { .producer_id = 7, .count = 2, .crc_xor = 1 };
	uint8_t frame[RIG_FRAME_BYTES];
	struct hfb_frame_produce head;
	struct hfb_record record;
	uint32_t bytes, refused = 0;

	CU_ASSERT_EQUAL(produce(&batch).code, HFB_WIRE_BAD_BATCH);
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_DROP_BATCH_CRC], 1);
	/* sizes that lie under a right crc: beyond the frame, short of it, beyond all */
	for (uint32_t lie = 0; lie < 5; lie++) {
		static const uint32_t sizes[5] = { 65535, 0, 0xfffffff0u, 72, 56 };

		batch.crc_xor = 0;
		batch.producer_id = 8 + lie;
		bytes = rig_produce_make(&rig, frame, session->number, &batch);
		memcpy(&record, frame + sizeof(head), sizeof(record));
		record.value_size = sizes[lie];
		memcpy(frame + sizeof(head), &record, sizeof(record));
		memcpy(&head, frame, sizeof(head));
		head.payload_crc = hfb_crc32c(0, frame + sizeof(head), bytes - sizeof(head));
		memcpy(frame, &head, sizeof(head));
		hfb_session_local_frame(&rig.core, session, frame, bytes);
		refused += answer().code == HFB_WIRE_BAD_BATCH;
	}
	CU_ASSERT_EQUAL(refused, 5);
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_DROP_BATCH_FRAMING], 5);
	CU_ASSERT_EQUAL(rig.log[0].appended, 0);
	CU_ASSERT_PTR_NULL(session->bindings);
}

static void
test_headers_that_cannot_be_are_refused(void)
{
	struct rig_batch batch = { .producer_id = 7, .count = 2 };
	uint8_t frame[RIG_FRAME_BYTES];
	struct hfb_frame_produce good, head;
	uint32_t bytes = rig_produce_make(&rig, frame, session->number, &batch);
	uint32_t refused = 0;

	memcpy(&good, frame, sizeof(good));
	for (uint32_t i = 0; i < 6; i++) {
		head = good;
		if (i == 0)
			head.producer_id = 0;
		else if (i == 1)
			head.count = 0;
		else if (i == 2)
			head.count = 0xffffffffu;
		else if (i == 3)
			head.flags = 0x8000;
		else if (i == 4)
			head.base_sequence = UINT64_MAX;
		else
			head.count = 3; /* fits the size, is not what is there */
		memcpy(frame, &head, sizeof(head));
		hfb_session_local_frame(&rig.core, session, frame, bytes);
		if (i == 5)
			refused += answer().code == HFB_WIRE_BAD_BATCH;
		else
			refused += error_code() == HFB_WIRE_BAD_BATCH;
	}
	CU_ASSERT_EQUAL(refused, 6);
	memcpy(frame, &good, sizeof(good));
	for (uint32_t cut = 0; cut < bytes; cut++)
		hfb_session_local_frame(&rig.core, session, frame, cut);
	rig_turn(&rig);
	CU_ASSERT_EQUAL(rig.log[0].appended, 0);
	rig_forget(&rig);
	rig.core.now_ns += HFB_REFUSAL_REPEAT_NS;
	hfb_session_local_frame(&rig.core, session, frame, bytes);
	CU_ASSERT_EQUAL(answer().code, HFB_WIRE_OK);
}

static void
test_the_worlds_refusals_are_told_apart(void)
{
	static const struct {
		enum hfb_log_refusal refusal;
		uint16_t code;
	} cases[] = {
		{ HFB_LOG_RING_FULL, HFB_WIRE_RING_FULL },
		{ HFB_LOG_PREPARING, HFB_WIRE_RING_FULL },
		{ HFB_LOG_NO_SPACE, HFB_WIRE_NO_SPACE },
		{ HFB_LOG_UNPREPARED, HFB_WIRE_IO_ERROR },
		{ HFB_LOG_IO_ERROR, HFB_WIRE_IO_ERROR },
		{ HFB_LOG_TOO_LARGE, HFB_WIRE_TOO_LARGE },
	};
	struct rig_batch batch = { .producer_id = 7, .count = 1 };
	struct hfb_wire_ack ack;

	produce(&batch);
	batch.base_sequence = 1;
	for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		rig.log[0].refusal = cases[i].refusal;
		rig.core.now_ns += HFB_REFUSAL_REPEAT_NS;
		ack = produce(&batch);
		CU_ASSERT_EQUAL(ack.code, cases[i].code);
		CU_ASSERT_EQUAL(ack.sequence[HFB_STAGE_RECEIVED], 1);
	}
	rig.log[0].refusal = HFB_LOG_OK;
	CU_ASSERT_EQUAL(produce(&batch).code, HFB_WIRE_OK);
	/* what was never looked at is not reported as received, whatever the frame says */
	batch.flags = HFB_STAGE_MIRRORED;
	batch.base_sequence = 200;
	rig_produce(&rig, session, &batch);
	ack = answer();
	CU_ASSERT_EQUAL(ack.code, HFB_WIRE_STAGE_UNAVAILABLE);
	CU_ASSERT_EQUAL(ack.sequence[HFB_STAGE_RECEIVED], 2);
	batch.producer_id = 99;
	ack = produce(&batch);
	CU_ASSERT_EQUAL(ack.code, HFB_WIRE_STAGE_UNAVAILABLE);
	CU_ASSERT_EQUAL(ack.sequence[HFB_STAGE_RECEIVED], 0);
	batch.producer_id = 7;
	batch = (struct rig_batch){ .producer_id = 7, .count = 1, .partition = 3 };
	rig_produce(&rig, session, &batch);
	CU_ASSERT_EQUAL(error_code(), HFB_WIRE_WRONG_CORE);
	batch.partition = 900;
	rig_produce(&rig, session, &batch);
	CU_ASSERT_EQUAL(error_code(), HFB_WIRE_NO_PARTITION);
	batch.partition = 0;
	rig.partition[0].detaching = true;
	rig_produce(&rig, session, &batch);
	CU_ASSERT_EQUAL(error_code(), HFB_WIRE_NO_PARTITION);
}

static void
test_another_cores_partition_is_handed_over(void)
{
	uint64_t number = rig_udp_open(&rig, 1, 1000, 1);
	struct rig_batch batch = { .producer_id = 7, .count = 1, .partition = 3 };
	struct hfb_mbuf_private private = { .kind = HFB_HANDED_PRODUCE };
	uint8_t frame[RIG_FRAME_BYTES];
	uint32_t bytes = rig_produce_make(&rig, frame, number, &batch);
	const struct hfb_frame_ack *ack;

	rig_forget(&rig);
	rig_udp(&rig, 1, 1000, frame, bytes);
	CU_ASSERT_EQUAL(rig.handed_count, 1);
	CU_ASSERT_EQUAL(rig.handed_core, 1);
	CU_ASSERT_EQUAL(rig.handed_kind, HFB_HANDED_PRODUCE);
	CU_ASSERT_EQUAL(rig.handed_session, number);
	rig.handover_full = true;
	rig_udp(&rig, 1, 1000, frame, bytes);
	CU_ASSERT_EQUAL(((const struct hfb_frame_error *)rig_sent(&rig, HFB_FRAME_ERROR, 0))->code,
			HFB_WIRE_WRONG_CORE);
	rig_forget(&rig);
	/* the owner: it knows the peer from the packet, and answers from where it is */
	rig.partition[3].core = rig.core.id;
	private.session = (1ull << 56) | 0x1234;
	rig_packet(&rig, &private.packet, 1, 1000, frame, bytes);
	hfb_session_handed(&rig.core, &private);
	rig_turn(&rig);
	CU_ASSERT_EQUAL(rig.log[3].appended, 64 + 80);
	ack = rig_sent(&rig, HFB_FRAME_ACK, 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(ack);
	CU_ASSERT_EQUAL(ack->frame.session, private.session);
	CU_ASSERT_EQUAL(rig.frames[0].port, 1000);
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_SESSIONS], 3);
}

static void
test_a_close_goes_round_the_cores(void)
{
	uint64_t number = rig_udp_open(&rig, 1, 1000, 1);
	struct rig_batch batch = { .producer_id = 7, .count = 1 };
	struct hfb_frame close = rig_head(&rig, HFB_FRAME_CLOSE, number);
	struct hfb_mbuf_private private = { .kind = HFB_HANDED_PRODUCE,
					    .session = (1ull << 56) | 0x1234 };
	uint8_t frame[RIG_FRAME_BYTES];
	uint32_t bytes = rig_produce_make(&rig, frame, private.session, &batch);
	uint64_t before = rig.stats[HFB_STAT_SESSIONS];

	/* ours: the other core is told */
	rig_udp(&rig, 1, 1000, &close, sizeof(close));
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_SESSIONS], before - 1);
	CU_ASSERT_EQUAL(rig.handed_count, 1);
	CU_ASSERT_EQUAL(rig.handed_core, 1);
	CU_ASSERT_EQUAL(rig.handed_kind, HFB_HANDED_CLOSE);
	CU_ASSERT_EQUAL(rig.handed_session, number);

	/* the other core's: it goes at once, and with two cores nobody else is told */
	rig_packet(&rig, &private.packet, 1, 1000, frame, bytes);
	hfb_session_handed(&rig.core, &private);
	rig_turn(&rig);
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_SESSIONS], before);
	private.kind = HFB_HANDED_CLOSE;
	for (uint32_t i = 0; i < 2; i++) { /* the second finds nothing, and makes nothing */
		hfb_session_handed(&rig.core, &private);
		CU_ASSERT_EQUAL(rig.stats[HFB_STAT_SESSIONS], before - 1);
	}
	CU_ASSERT_EQUAL(rig.handed_count, 1);

	/* with three it goes on to the next; a full ring keeps nothing */
	rig.node->cores_count = 3;
	private.session = (2ull << 56) | 0x1234;
	hfb_session_handed(&rig.core, &private);
	CU_ASSERT_EQUAL(rig.handed_count, 2);
	CU_ASSERT_EQUAL(rig.handed_core, 1);
	CU_ASSERT_EQUAL(rig.handed_session, private.session);
	rig.handover_full = true;
	hfb_session_handed(&rig.core, &private);
	CU_ASSERT_EQUAL(rig.handed_count, 2);
	CU_ASSERT_EQUAL(rte_mbuf_refcnt_read(&rig.mbuf), 1);
	rig.node->cores_count = 2;

	/* a session of our own is not ended by another core's word */
	number = rig_udp_open(&rig, 1, 1000, 2);
	before = rig.stats[HFB_STAT_SESSIONS];
	private.session = number;
	hfb_session_handed(&rig.core, &private);
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_SESSIONS], before);
}

static void
test_offsets_are_returned_when_asked_for(void)
{
	struct rig_batch batch = { .producer_id = 7, .count = 3 };

	batch.flags = HFB_PRODUCE_WANT_OFFSET;
	rig_produce(&rig, session, &batch);
	batch.base_sequence = 3;
	rig_produce(&rig, session, &batch);
	rig_turn(&rig);
	CU_ASSERT_EQUAL(rig_ack(&rig, 0)->base_offset, 0);
	CU_ASSERT_EQUAL(rig_ack(&rig, 0)->sequence[HFB_STAGE_RECEIVED], 3);
	CU_ASSERT_EQUAL(rig_ack(&rig, 1)->base_offset, 3);
	CU_ASSERT_EQUAL(rig_ack(&rig, 1)->sequence[HFB_STAGE_RECEIVED], 6);
	CU_ASSERT_EQUAL(rig_sent_count(&rig, HFB_FRAME_ACK), 1);
}

/* More answers than a turn keeps: those that go early are of what everybody sees by then. */
static void
test_offsets_are_not_told_before_all_see_them(void)
{
	struct rig_batch batch = { .producer_id = 7, .count = 1, .flags = HFB_PRODUCE_WANT_OFFSET };
	uint64_t each = 0, acks = 0;

	for (; batch.base_sequence < 3 * HFB_LOOSE_ACKS_MAX; batch.base_sequence++) {
		const struct hfb_wire_ack *ack;

		rig_produce(&rig, session, &batch);
		if (each == 0)
			each = rig.log[0].appended;
		for (; (ack = rig_ack(&rig, (uint32_t)acks)) != NULL; acks++) {
			CU_ASSERT_EQUAL(ack->base_offset, acks);
			CU_ASSERT_TRUE(ack->sequence[HFB_STAGE_RECEIVED] * each <=
				       rig.log[0].received);
		}
	}
	CU_ASSERT_TRUE(acks >= HFB_LOOSE_ACKS_MAX);
	rig_turn(&rig);
	CU_ASSERT_PTR_NOT_NULL(rig_ack(&rig, 3 * HFB_LOOSE_ACKS_MAX - 1));
}

static void
test_the_ports_stamp_goes_into_the_extension(void)
{
	uint64_t number = rig_udp_open(&rig, 1, 1000, 1);
	struct rig_batch batch = { .producer_id = 7, .count = 1 };
	uint8_t frame[RIG_FRAME_BYTES];
	uint32_t bytes = rig_produce_make(&rig, frame, number, &batch);
	const struct hfb_batch *header = (const struct hfb_batch *)rig.log[0].bytes;
	struct hfb_extension extension;
	struct hfb_packet packet;
	uint64_t stamp;

	rig.config.ports[0].timestamps = true;
	rig_packet(&rig, &packet, 1, 1000, frame, bytes);
	packet.port_time_ns = 1234567890123ull;
	hfb_session_input(&rig.core, &packet);
	CU_ASSERT_EQUAL(header->flags, HFB_BATCH_EXTENSION);
	CU_ASSERT_EQUAL(header->size, 64 + 16 + 80);
	memcpy(&extension, header + 1, sizeof(extension));
	memcpy(&stamp, (const uint8_t *)(header + 1) + 8, sizeof(stamp));
	CU_ASSERT_EQUAL(extension.words, 2);
	CU_ASSERT_EQUAL(extension.kinds, HFB_EXT_PORT_TIME);
	CU_ASSERT_EQUAL(extension.words_crc, hfb_crc32c(0, &stamp, 8));
	CU_ASSERT_EQUAL(stamp, packet.port_time_ns);
	CU_ASSERT_EQUAL(hfb_records_check((const uint8_t *)(header + 1) + 16, 80, 1), 0);
}

static void
test_the_buss_own_topics_are_not_written_from_a_network(void)
{
	uint64_t number = rig_udp_open(&rig, 1, 1000, 1);
	const struct rig_batch batch = { .producer_id = 7, .count = 1 };
	const struct hfb_frame_error *error;
	uint8_t frame[RIG_FRAME_BYTES];
	uint32_t bytes = rig_produce_make(&rig, frame, number, &batch);

	rig.partition[0].internal = true;
	rig_forget(&rig);
	rig_udp(&rig, 1, 1000, frame, bytes);
	rig_turn(&rig);
	error = rig_sent(&rig, HFB_FRAME_ERROR, 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(error);
	CU_ASSERT_EQUAL(error->code, HFB_WIRE_NO_PARTITION);
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_APPEND_BATCHES], 0);
	/* hfbus-control is a local client */
	produce(&batch);
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_APPEND_BATCHES], 1);
	rig.partition[0].internal = false;
	rig_udp(&rig, 1, 1000, frame,
		rig_produce_make(&rig, frame, number,
				 &(struct rig_batch){ .producer_id = 8, .count = 1 }));
	CU_ASSERT_EQUAL(rig.stats[HFB_STAT_APPEND_BATCHES], 2);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "a batch goes in as it came", test_a_batch_goes_in_as_it_came },
		{ "a duplicate is acked and adds nothing",
		  test_a_duplicate_is_acked_and_adds_nothing },
		{ "a gap names what is expected, once", test_a_gap_names_what_is_expected_once },
		{ "fenced, unknown and overlapping producers are refused",
		  test_fenced_unknown_and_overlapping_producers_are_refused },
		{ "a new producer epoch inherits no stage", test_a_new_epoch_inherits_no_stage },
		{ "an epoch is told nothing of another", test_an_epoch_is_told_nothing_of_another },
		{ "a wrong crc and lying sizes leave the log alone",
		  test_wrong_crc_and_lying_sizes_leave_the_log_alone },
		{ "headers that cannot be are refused", test_headers_that_cannot_be_are_refused },
		{ "the world's refusals are told apart", test_the_worlds_refusals_are_told_apart },
		{ "another core's partition is handed over",
		  test_another_cores_partition_is_handed_over },
		{ "a close goes round the cores", test_a_close_goes_round_the_cores },
		{ "offsets are returned when asked for", test_offsets_are_returned_when_asked_for },
		{ "offsets are not told before all see them",
		  test_offsets_are_not_told_before_all_see_them },
		{ "the port's stamp goes into the extension",
		  test_the_ports_stamp_goes_into_the_extension },
		{ "the bus's own topics are not written from a network",
		  test_the_buss_own_topics_are_not_written_from_a_network },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main_fixture("produce", tests, set_up, tear_down);
}
