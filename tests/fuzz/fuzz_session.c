/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The native protocol on one core. The input is a script of steps:
 *
 *	u8 what, u16 size LE, size bytes of a frame
 *
 *	what & 7   0 datagram of the client, 1 of another address, 2 local frame,
 *		   3 handed over by another core, 4 disk done, 5 reads done,
 *		   6 partition detached, 7 two seconds pass
 *	what & 8   give the frame a right header and session
 *	what & 16  and, if it is PRODUCE, a right crc
 *	what & 32  no buffers to send from, from here on; & 64: again some
 *
 * Whatever comes, the log holds only batches with a right crc and framing, tables
 * keep their bounds, and each reference to a buffer is given back.
 */
#include <stdlib.h>

#include "proto_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS_MAX 200u

static void
frame_repair(struct rig *rig, uint8_t *frame, uint32_t bytes, uint64_t session, bool crc)
{
	struct hfb_frame head;

	if (bytes < sizeof(head))
		return;
	head = rig_head(rig, frame[2], session);
	memcpy(frame, &head, sizeof(head));
	if (crc && head.type == HFB_FRAME_PRODUCE && bytes >= sizeof(struct hfb_frame_produce)) {
		uint32_t payload_crc = hfb_crc32c(0, frame + sizeof(struct hfb_frame_produce),
						  bytes - sizeof(struct hfb_frame_produce));

		memcpy(frame + 36, &payload_crc, sizeof(payload_crc));
	}
}

static void
log_check(const struct hfb_log *log)
{
	uint64_t at = 0;

	while (at < log->appended) {
		struct hfb_batch batch;
		uint32_t skip = HFB_BATCH_HEADER_BYTES;

		memcpy(&batch, log->bytes + at, sizeof(batch));
		if (batch.size < skip || batch.size % 8 != 0 || at + batch.size > log->appended)
			abort();
		if (hfb_crc32c(0, log->bytes + at + skip, batch.size - skip) != batch.payload_crc ||
		    hfb_records_check(log->bytes + at + skip, batch.size - skip, batch.count) != 0)
			abort();
		at += batch.size;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t frame[65536];
	static struct rig rig;
	struct hfb_session *local;
	uint64_t number;
	size_t at = 0;

	rig_open(&rig);
	local = rig_local(&rig);
	number = rig_udp_open(&rig, 1, 1000, 1);
	for (uint32_t step = 0; step < STEPS_MAX && at + 3 <= size; step++) {
		uint8_t what = data[at];
		uint32_t bytes = data[at + 1] | ((uint32_t)data[at + 2] << 8);
		struct hfb_mbuf_private private = { .session = (1ull << 56) | 5 };

		at += 3;
		if (bytes > size - at)
			bytes = (uint32_t)(size - at);
		memcpy(frame, data + at, bytes);
		at += bytes;
		if ((what & 32) != 0)
			rig.no_frames = 1;
		if ((what & 64) != 0)
			rig.no_frames = 0;
		if ((what & 8) != 0)
			frame_repair(&rig, frame, bytes, (what & 7) == 2 ? local->number : number,
				     (what & 16) != 0);
		switch (what & 7) {
		case 0:
			rig_udp(&rig, 1, 1000, frame, bytes);
			break;
		case 1:
			rig_udp(&rig, 2, 1000, frame, bytes);
			break;
		case 2:
			hfb_session_local_frame(&rig.core, local, frame, bytes);
			break;
		case 3:
			private
			.kind = HFB_HANDED_PRODUCE + (what >> 7);
			rig_packet(&rig, &private.packet, 1, 1000, frame, bytes);
			hfb_session_handed(&rig.core, &private);
			break;
		case 4:
			rig_durable(&rig, 0);
			break;
		case 5:
			rig_reads_complete(&rig);
			break;
		case 6:
			rig.partition[1].detaching = true;
			hfb_session_partition_detach(&rig.core, &rig.partition[1]);
			break;
		default:
			rig.core.now_ns += 2000000000ull;
			break;
		}
		rig_turn(&rig);
		rig_forget(&rig);
		if (rig.core.sessions->sessions_count > rig.config.sessions_max ||
		    rig.core.sessions->subscriptions_count > rig.config.subscriptions_max)
			abort();
	}
	for (uint32_t i = 0; i < RIG_PARTITIONS; i++)
		log_check(&rig.log[i]);
	rig_close(&rig);
	return 0;
}
