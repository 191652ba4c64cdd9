/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limit_batch.h - the least that appending a batch to a ring takes, for raw limits: payload
 * copied with its checksum, then the header from registers. The bytes are a log's.
 *
 *	limit_batch_source(&source, size, events);
 *	limit_batch_append(ring, mask, &log, payload, source.payload_bytes, events, now_ns);
 *
 * Threads: pure but for the caller's memory.
 * Cost:    some 15 ns and the copy.
 */
#ifndef HFB_BENCH_LIMIT_BATCH_H
#define HFB_BENCH_LIMIT_BATCH_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <hfbus/log.h>

#include "crc32c.h"

#define LIMIT_SOURCE_BYTES (4u << 20) /* payloads are taken from all of it: no cache trick */

struct limit_log {
	uint64_t position, offset, durable;
	uint32_t seed;
};

/* Payloads of events, one after the other. */
struct limit_source {
	uint8_t *bytes;
	uint32_t payload_bytes, count, next;
};

static inline uint32_t
limit_payload_bytes(uint32_t size, uint32_t events)
{
	return events * (uint32_t)hfb_record_bytes(size, HFB_KEY_NULL, 0);
}

/* 0 or -ENOMEM. */
int limit_source_open(struct limit_source *source, uint32_t size, uint32_t events);
void limit_source_close(struct limit_source *source);

static inline const uint8_t *
limit_source_next(struct limit_source *source)
{
	if (++source->next >= source->count)
		source->next = 0;
	return source->bytes + (size_t)source->next * source->payload_bytes;
}

/* One batch at log->position; @ring is mapped twice. Returns its bytes. */
static inline uint32_t
limit_batch_append(uint8_t *ring, uint64_t mask, struct limit_log *log, const uint8_t *payload,
		   uint32_t payload_bytes, uint32_t events, uint64_t now_ns)
{
	uint8_t *to = ring + (log->position & mask);
	struct hfb_batch batch = {
		.size = HFB_BATCH_HEADER_BYTES + payload_bytes,
		.base_offset = log->offset,
		.count = events,
		.version = HFB_BATCH_VERSION,
		.leader_epoch = 1,
		.durable_lag = (uint32_t)((log->position - log->durable) / 8),
		.producer_id = 1,
		.base_sequence = log->offset,
		.timestamp_ns = now_ns,
	};

	batch.payload_crc = hfb_crc32c_copy(0, to + HFB_BATCH_HEADER_BYTES, payload, payload_bytes);
	batch.header_crc = hfb_batch_crc(log->seed, log->position, &batch);
	memcpy(to, &batch, sizeof(batch));
	log->position += batch.size;
	log->offset += events;
	return batch.size;
}

#endif
