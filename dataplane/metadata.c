/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metadata.c - METADATA: where a topic's partitions are and how far they reach. Any
 * core answers, from the catalogue and the published positions; a page of partitions
 * a frame, the client asks for the next with first_partition.
 */
#include "session.h"

_Static_assert(sizeof(struct hfb_frame_metadata) == 64, "fixed by the protocol");
_Static_assert(sizeof(struct hfb_wire_partition) == 48, "fixed by the protocol");

#define PARTITIONS_MAX                                                                             \
	((HFB_UDP_PAYLOAD_MAX - sizeof(struct hfb_frame_metadata)) /                               \
	 sizeof(struct hfb_wire_partition))

/* Position and offset of a mark; the offset may be of a later position, see shm.h. */
static void
mark_load(const struct hfb_mark *mark, uint64_t *ret_position, uint64_t *ret_offset)
{
	/* pairs with the writer's release store of position */
	*ret_position = __atomic_load_n(&mark->position, __ATOMIC_ACQUIRE);
	*ret_offset = __atomic_load_n(&mark->offset, __ATOMIC_RELAXED);
}

/* False: the partition is not served at the moment. */
static bool
partition_describe(struct hfb_node *node, uint32_t handle, struct hfb_wire_partition *to)
{
	const struct hfb_partition *partition = hfb_partition_get(node, handle);

	if (partition == NULL || partition->detaching)
		return false;
	to->handle = handle;
	to->core = partition->core;
	to->udp_port = (uint16_t)(node->config->udp_port + partition->core);
	to->leader_epoch = __atomic_load_n(&partition->positions->leader_epoch, __ATOMIC_RELAXED);
	to->batch_bytes_max = hfb_log_batch_bytes_max(partition->log);
	mark_load(&partition->positions->start, &to->start, &to->start_offset);
	mark_load(&partition->positions->committed, &to->committed, &to->committed_offset);
	return true;
}

void
hfb_metadata_get(struct hfb_core *core, struct hfb_session *session, const volatile uint8_t *frame,
		 uint32_t bytes)
{
	struct hfb_wire_partition partitions[PARTITIONS_MAX];
	struct hfb_frame_metadata_get ask;
	struct hfb_frame_metadata answer;
	char name[HFB_TOPIC_NAME_MAX];
	const struct hfb_topic *topic;
	struct hfb_frame_out out;
	uint32_t size;

	if (bytes < sizeof(ask)) {
		hfb_drop(core, HFB_STAT_DROP_FRAME_SHORT);
		return;
	}
	hfb_wire_load(&ask, frame, sizeof(ask));
	if (ask.name_size == 0 || ask.name_size > HFB_TOPIC_NAME_MAX ||
	    ask.name_size > bytes - sizeof(ask)) {
		hfb_drop(core, HFB_STAT_DROP_FRAME_SHORT);
		hfb_session_error(core, session, ask.frame.packet, HFB_WIRE_BAD_FRAME);
		return;
	}
	hfb_wire_load(name, frame + sizeof(ask), ask.name_size);
	memset(&answer, 0, sizeof(answer));
	memset(partitions, 0, sizeof(partitions));
	answer.answers = ask.frame.packet;
	answer.first_partition = ask.first_partition;
	topic = hfb_topic_find(core->node, name, ask.name_size);
	if (topic == NULL) {
		answer.code = HFB_WIRE_NO_TOPIC;
	} else {
		answer.topic = topic->info.uuid;
		answer.partitions_count = topic->info.partitions;
		answer.commit_stage = (uint8_t)topic->info.commit_stage;
		for (uint32_t i = ask.first_partition;
		     i < topic->info.partitions && answer.count < PARTITIONS_MAX; i++) {
			if (!partition_describe(core->node, topic->handles[i],
						&partitions[answer.count])) {
				/* the page ends before it: ask again for the rest in a while */
				answer.code = answer.count == 0 ? HFB_WIRE_NO_PARTITION : 0;
				break;
			}
			answer.count++;
		}
	}
	size = (uint32_t)(sizeof(answer) + answer.count * sizeof(partitions[0]));
	if (hfb_session_frame_begin(core, session, HFB_FRAME_METADATA, size, &out) == NULL)
		return;
	memcpy(out.bytes + HFB_FRAME_BYTES, &answer.answers, sizeof(answer) - HFB_FRAME_BYTES);
	memcpy(out.bytes + sizeof(answer), partitions, answer.count * sizeof(partitions[0]));
	hfb_session_frame_send(core, session, &out, size);
}
