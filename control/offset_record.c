/* SPDX-License-Identifier: Apache-2.0 */
#include "offset_record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TOPIC_HEAD_BYTES 24u

int
hfb_bytes_reserve(struct hfb_bytes *b, size_t size)
{
	size_t room = b->room < 256 ? 256 : b->room;
	uint8_t *at;

	if (b->room - b->used >= size)
		return 0;
	while (room - b->used < size)
		room *= 2;
	at = realloc(b->at, room);
	if (at == NULL)
		return -ENOMEM;
	b->at = at;
	b->room = room;
	return 0;
}

void
hfb_bytes_add(struct hfb_bytes *b, const void *from, size_t size)
{
	if (b->failed || size == 0)
		return;
	if (hfb_bytes_reserve(b, size) < 0) {
		b->failed = true;
		return;
	}
	memcpy(b->at + b->used, from, size);
	b->used += size;
}

void
hfb_bytes_fini(struct hfb_bytes *b)
{
	free(b->at);
	*b = (struct hfb_bytes){ 0 };
}

void
hfb_offset_record_begin(struct hfb_bytes *b, enum hfb_offset_record_kind kind, uint64_t time_ns)
{
	struct hfb_offset_record_head head = {
		.magic = HFB_OFFSET_RECORD_MAGIC,
		.version = HFB_OFFSET_RECORD_VERSION,
		.kind = (uint16_t)kind,
		.time_ns = time_ns,
	};

	hfb_bytes_add(b, &head, sizeof(head));
}

void
hfb_offset_record_topic(struct hfb_bytes *b, const char *topic, const struct hfb_uuid *uuid,
			const struct hfb_commit *commits, uint32_t count)
{
	static const uint8_t zeros[8];
	uint16_t sizes[2] = { (uint16_t)strlen(topic), 0 };

	hfb_bytes_add(b, sizes, sizeof(sizes));
	hfb_bytes_add(b, &count, sizeof(count));
	hfb_bytes_add(b, uuid, sizeof(*uuid));
	hfb_bytes_add(b, topic, sizes[0]);
	hfb_bytes_add(b, zeros, (8u - sizes[0] % 8u) % 8u);
	hfb_bytes_add(b, commits, count * sizeof(*commits));
}

int
hfb_offset_record_decode(const void *value, size_t size, struct hfb_offset_record *ret)
{
	struct hfb_offset_record record;

	if (value == NULL || size < sizeof(record.head))
		return -EBADMSG;
	memcpy(&record.head, value, sizeof(record.head));
	if (record.head.magic != HFB_OFFSET_RECORD_MAGIC ||
	    record.head.version != HFB_OFFSET_RECORD_VERSION ||
	    record.head.kind < HFB_RECORD_COMMITS || record.head.kind > HFB_RECORD_FENCE)
		return -EBADMSG;
	record.body = (const uint8_t *)value + sizeof(record.head);
	record.body_size = size - sizeof(record.head);
	*ret = record;
	return 0;
}

int
hfb_offset_record_topic_next(const struct hfb_offset_record *record, size_t *at,
			     struct hfb_commit_topic *ret)
{
	const uint8_t *p = record->body + *at;
	size_t left = record->body_size - *at, need;
	struct hfb_commit_topic topic;
	uint16_t name_size;

	if (left == 0)
		return 0;
	if (left < TOPIC_HEAD_BYTES)
		return -EBADMSG;
	memcpy(&name_size, p, sizeof(name_size));
	memcpy(&topic.count, p + 4, sizeof(topic.count));
	memcpy(&topic.uuid, p + 8, sizeof(topic.uuid));
	if (name_size < 1 || name_size > HFB_TOPIC_NAME_MAX ||
	    topic.count > HFB_TOPIC_PARTITIONS_MAX)
		return -EBADMSG;
	need = TOPIC_HEAD_BYTES + (name_size + 7u) / 8u * 8u;
	if (left < need + topic.count * sizeof(struct hfb_commit))
		return -EBADMSG;
	memcpy(topic.name, p + TOPIC_HEAD_BYTES, name_size);
	topic.name[name_size] = '\0';
	if (strlen(topic.name) != name_size)
		return -EBADMSG;
	topic.commits = p + need;
	for (uint32_t i = 0; i < topic.count; i++)
		if (hfb_commit_at(&topic, i).partition >= HFB_TOPIC_PARTITIONS_MAX)
			return -EBADMSG;
	*at += need + topic.count * sizeof(struct hfb_commit);
	*ret = topic;
	return 1;
}

struct hfb_commit
hfb_commit_at(const struct hfb_commit_topic *topic, uint32_t index)
{
	struct hfb_commit commit;

	memcpy(&commit, topic->commits + index * sizeof(commit), sizeof(commit));
	return commit;
}

uint64_t
hfb_offset_record_nonce(const struct hfb_offset_record *record)
{
	uint64_t nonce = 0;

	if (record->head.kind == HFB_RECORD_FENCE && record->body_size >= sizeof(nonce))
		memcpy(&nonce, record->body, sizeof(nonce));
	return nonce;
}
