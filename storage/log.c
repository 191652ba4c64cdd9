/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.c - claim and append, the hot path; then the slow half of a claim: padding, the next
 * segment, why there is no room.
 */
#include "log.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "bug.h"
#include "crc32c.h"
#include "log_private.h"
#include "store_private.h"
#include "writer_private.h"

/* intent is raised in strides, so that most claims need not publish it. */
#define INTENT_STRIDE (64u * HFB_KIB)

/* When so much of a segment is used the next one is planned: early, so that it can be made
 * without haste. */
#define PLAN_AHEAD 8u
/* Of such a size, filled in so short a time: to make one may take longer than to fill one. */
#define HURRIED_BYTES (16u * HFB_MIB)
#define HURRIED_NS    500000000u

/* How far behind a batch lines are asked for, and how many bytes of them. */
#define AHEAD_BYTES	1024u
#define AHEAD_BYTES_MAX 2048u

_Static_assert(HFB_RESERVE_BYTES < HFB_RING_BYTES_MIN / 4, "the reserve leaves room for batches");
_Static_assert(sizeof(struct hfb_batch) == HFB_BATCH_HEADER_BYTES, "layout");

void
hfb_log_intent_raise(struct hfb_log *log, uint64_t to)
{
	if (to <= log->intent)
		return;
	log->intent = to;
	log->positions->intent.offset = log->offset;
	__atomic_store_n(&log->positions->intent.position, to, __ATOMIC_RELAXED);
	/* Readers that see one of our bytes from here on see this intent as well:
	 * pairs with the acquire fence between a reader's copy and its check. */
	__atomic_thread_fence(__ATOMIC_RELEASE);
}

void
hfb_log_limit_update(struct hfb_log *log)
{
	uint64_t limit = hfb_log_ring_end(log) - HFB_RESERVE_BYTES;

	if (log->failed || !log->epoch_started || log->detach != HFB_ATTACHED ||
	    log->plan_append == log->plan_tail) {
		log->limit = 0;
		return;
	}
	/* A batch never leaves 8..56 bytes, since it always leaves room for padding. */
	if (limit > hfb_log_plan(log, log->plan_append)->end - HFB_BATCH_HEADER_BYTES)
		limit = hfb_log_plan(log, log->plan_append)->end - HFB_BATCH_HEADER_BYTES;
	if (limit > log->intent)
		limit = log->intent;
	if (__atomic_load_n(&log->prepare_error, __ATOMIC_ACQUIRE) != 0) {
		uint64_t ready = hfb_log_ready_end(log);

		if (limit > ready)
			limit = ready;
	}
	log->limit = limit;
}

void
hfb_log_ask(struct hfb_log *log, uint32_t bits)
{
	struct hfb_writer *writer = log->writer;
	void *object = log;

	/* release: the helper, that takes the bits, sees what they are about */
	if (__atomic_fetch_or(&log->asks, bits, __ATOMIC_ACQ_REL) != 0)
		return;
	if (hfb_spsc_push(writer->to_helper, &object, 1) != 1)
		hfb_assert(false); /* each log is in it at most once */
	writer->wake_helper = true;
}

void
hfb_log_ring_ask(struct hfb_log *log, uint64_t bytes)
{
	uint64_t size = log->ring_mask + 1;

	while (size < bytes)
		size *= 4;
	if (size > log->ring_bytes_max)
		size = log->ring_bytes_max;
	if (size <= log->ring_mask + 1 || size <= log->ring_wanted)
		return;
	__atomic_store_n(&log->ring_wanted, size, __ATOMIC_RELAXED);
	hfb_log_ask(log, HFB_ASK_RING);
}

/* The first batch of a segment, or an index entry that is due. */
static void __attribute__((noinline))
index_note(struct hfb_log *log, uint64_t position, uint64_t timestamp_ns)
{
	struct hfb_plan *plan = hfb_log_plan(log, log->plan_append);

	if (!plan->begun) {
		plan->begun = true;
		plan->first.position = position;
		plan->first.offset = log->offset;
		plan->first_ns = timestamp_ns;
		if (plan->bound != NULL) {
			hfb_log_plan_bind(log, plan, plan->bound);
			return;
		}
	}
	log->index_due = UINT64_MAX;
	if (log->index != NULL) {
		hfb_index_add(log->index, position, log->offset, timestamp_ns);
		log->index_due = log->index->next_position;
	}
}

/*
 * The header goes from registers to the ring, its checksum with it: a crc over
 * bytes just stored would wait for the stores.
 */
static inline void
header_write(const struct hfb_log *log, uint8_t *to, uint64_t position,
	     const struct hfb_batch_meta *meta, uint64_t timestamp_ns)
{
	uint64_t word2 = meta->count | (uint64_t)HFB_BATCH_VERSION << 32 |
			 (uint64_t)HFB_ENCODING_NATIVE << 40 | (uint64_t)meta->flags << 48;
	/* The ring is far smaller than 32 GiB, so the lag fits. */
	uint64_t word3 = log->leader_epoch | ((position - log->durable) / 8) << 32;
	uint64_t word7 = meta->payload_crc | (uint64_t)meta->producer_epoch << 32;
	uint64_t *words = (uint64_t *)(void *)to;
#if defined(__x86_64__)
	uint64_t crc = ~log->seed;

	crc = __builtin_ia32_crc32di(crc & 0xffffffffu, position);
	crc = __builtin_ia32_crc32si((uint32_t)crc, meta->size);
	crc = __builtin_ia32_crc32di(crc, log->offset);
	crc = __builtin_ia32_crc32di(crc, word2);
	crc = __builtin_ia32_crc32di(crc, word3);
	crc = __builtin_ia32_crc32di(crc, meta->producer_id);
	crc = __builtin_ia32_crc32di(crc, meta->base_sequence);
	crc = __builtin_ia32_crc32di(crc, timestamp_ns);
	crc = __builtin_ia32_crc32di(crc, word7);
	crc = ~crc & 0xffffffffu;
#else
	struct hfb_batch batch = {
		.size = meta->size,
		.base_offset = log->offset,
		.count = meta->count,
		.version = HFB_BATCH_VERSION,
		.encoding = HFB_ENCODING_NATIVE,
		.flags = meta->flags,
		.leader_epoch = log->leader_epoch,
		.durable_lag = (uint32_t)((position - log->durable) / 8),
		.producer_id = meta->producer_id,
		.base_sequence = meta->base_sequence,
		.timestamp_ns = timestamp_ns,
		.payload_crc = meta->payload_crc,
		.producer_epoch = meta->producer_epoch,
	};
	uint64_t crc = hfb_batch_crc(log->seed, position, &batch);
#endif
	words[0] = meta->size | crc << 32;
	words[1] = log->offset;
	words[2] = word2;
	words[3] = word3;
	words[4] = meta->producer_id;
	words[5] = meta->base_sequence;
	words[6] = timestamp_ns;
	words[7] = word7;
}

/*
 * To be written. The disk has read the line since it was: asked for plainly it comes shared, and
 * the store then waits for it to be ours alone. Compilers ask like that for older targets, as
 * ours is; CPUs without the instruction take it for no operation.
 */
static inline void
line_ask(const uint8_t *line)
{
#if defined(__x86_64__)
	__asm__ volatile("prefetchw %0" : : "m"(*line));
#else
	__builtin_prefetch(line, 1, 3);
#endif
}

/*
 * The ring is larger than any cache: the lines that batches soon take are asked for now, else
 * appends wait for the stores of those before. Beyond a page the hardware does not look ahead
 * by itself. The ring is mapped twice in a row, and what is ahead is only looked at.
 */
static inline void
ring_ahead(const struct hfb_log *log, uint32_t size)
{
	const uint8_t *ahead = log->ring + ((log->position + AHEAD_BYTES) & log->ring_mask);

	for (uint32_t at = 0; at < size && at < AHEAD_BYTES_MAX; at += 64)
		line_ask(ahead + at);
}

/* A producer that is new, or back with another epoch. */
static void __attribute__((noinline))
producer_note(struct hfb_log *log, const struct hfb_batch_meta *meta, uint64_t position,
	      uint64_t now)
{
	struct hfb_dedup_entry entry = {
		.producer_id = meta->producer_id,
		.next_sequence = meta->end_sequence,
		.last_offset = log->offset,
		.last_position = position,
		.last_ns = now,
		.producer_epoch = meta->producer_epoch,
		.flags = meta->flags & HFB_BATCH_STREAM ? HFB_DEDUP_STREAM : 0,
	};

	/* Full of producers inside the window: the sequence check said so before. */
	(void)hfb_dedup_note(&log->dedup, &entry);
}

static inline void
batch_append(struct hfb_log *log, const struct hfb_batch_meta *meta)
{
	uint64_t position = log->position, now = meta->timestamp_ns;

	if (now < log->last_timestamp_ns)
		now = log->last_timestamp_ns;
	log->last_timestamp_ns = now;
	header_write(log, log->ring + (position & log->ring_mask), position, meta, now);
	if (position >= log->index_due)
		index_note(log, position, now);
	if (meta->producer_id != 0 &&
	    !hfb_dedup_advance(&log->dedup, meta->producer_id, meta->producer_epoch,
			       meta->end_sequence, log->offset, position, now))
		producer_note(log, meta, position, now);
	log->offset += meta->count;
	log->position = position + meta->size;
	ring_ahead(log, meta->size);
	hfb_writer_activate(log->writer, log);
}

/* Fill the segment up to its end, in batches no larger than a batch may be. */
static void
segment_pad(struct hfb_log *log, uint64_t end)
{
	while (log->position < end) {
		uint64_t left = end - log->position;
		struct hfb_batch_meta meta = {
			.flags = HFB_BATCH_CONTROL,
			.base_sequence = HFB_CONTROL_PADDING,
			.timestamp_ns = log->last_timestamp_ns,
		};

		meta.size = HFB_BATCH_BYTES_MAX;
		if (left <= HFB_BATCH_BYTES_MAX)
			meta.size = (uint32_t)left;
		else if (left - HFB_BATCH_BYTES_MAX < HFB_BATCH_HEADER_BYTES)
			meta.size = HFB_BATCH_BYTES_MAX - HFB_BATCH_HEADER_BYTES;
		batch_append(log, &meta);
	}
}

/* Appends go on in the next segment. */
static void
plan_advance(struct hfb_log *log)
{
	struct hfb_plan *plan = hfb_log_plan(log, log->plan_append);

	segment_pad(log, plan->end);
	/* What this segment holds can be durable even if the next one is never made. */
	hfb_log_marks_add(log);
	plan->ended = true;
	plan->end_offset = log->offset;
	plan->last_ns = log->last_timestamp_ns;
	if (plan->bound != NULL) {
		plan->bound->end_offset = log->offset;
		plan->bound->last_timestamp_ns = log->last_timestamp_ns;
	}
	log->hurried = log->last_timestamp_ns - plan->first_ns < HURRIED_NS &&
		       (plan->end - plan->base >= HURRIED_BYTES ||
			plan->end - plan->base >= log->segment_bytes_max);
	log->plan_append++;
	plan = hfb_log_plan(log, log->plan_append);
	log->index = NULL;
	log->index_due = plan->base;
	log->plan_trigger = plan->base + (plan->end - plan->base) / PLAN_AHEAD;
	/* In order: look-ups search the segments by what their first batches say, so no
	 * segment may hold one while one before it does not know that it does. */
	for (uint32_t n = log->plan_write; n != log->plan_append + 1; n++) {
		struct hfb_segment *made;

		plan = hfb_log_plan(log, n);
		made = __atomic_load_n(&plan->segment, __ATOMIC_ACQUIRE);
		if (made == NULL)
			break;
		if (plan->bound == NULL)
			hfb_log_plan_bind(log, plan, made);
	}
}

static enum hfb_log_refusal
claim_room(struct hfb_log *log, uint32_t bytes, bool reserve)
{
	uint64_t pad = 0, end, room = hfb_log_ring_end(log);
	const struct hfb_plan *plan;
	uint32_t passed = 0;

	if (bytes > (log->ring_mask + 1) / 4) {
		hfb_log_ring_ask(log, (uint64_t)bytes * 4);
		return HFB_LOG_PREPARING;
	}
	if (log->plan_append == log->plan_tail && !hfb_log_plan_next(log, bytes))
		return HFB_LOG_PREPARING;
	plan = hfb_log_plan(log, log->plan_append);
	/* The first segments are small: a large batch may have to pass by more than one. */
	while (log->position + pad + bytes + HFB_BATCH_HEADER_BYTES > plan->end) {
		pad = plan->end - log->position;
		passed++;
		if (log->plan_append + passed == log->plan_tail && !hfb_log_plan_next(log, bytes))
			return HFB_LOG_PREPARING;
		plan = hfb_log_plan(log, log->plan_append + passed);
	}
	end = log->position + pad + bytes;
	/* Before the ring is asked: it may be full because of this, and then never drains. */
	if (!reserve) {
		int why = __atomic_load_n(&log->prepare_error, __ATOMIC_ACQUIRE);

		if (why != 0 && end > hfb_log_ready_end(log))
			return why == -ENOSPC || why == -EDQUOT ? HFB_LOG_NO_SPACE
								: HFB_LOG_UNPREPARED;
	}
	if (end > room - (reserve ? 0 : HFB_RESERVE_BYTES)) {
		hfb_log_ring_ask(log, (log->ring_mask + 1) * 4);
		return HFB_LOG_RING_FULL;
	}
	/* Before a byte is overwritten. Whole blocks: the tail of the last one is
	 * cleared when it is written. */
	if (hfb_block_up(end) > log->intent) {
		uint64_t to = hfb_block_up(end) + INTENT_STRIDE;

		hfb_log_intent_raise(log, to < room ? to : room);
	}
	if (passed > 0)
		while (passed-- > 0)
			plan_advance(log);
	else if (log->plan_trigger == 0)
		log->plan_trigger = plan->base + (plan->end - plan->base) / PLAN_AHEAD;
	return HFB_LOG_OK;
}

static uint8_t *__attribute__((noinline))
claim_slow(struct hfb_log *log, uint32_t bytes, bool reserve, enum hfb_log_refusal *ret_why)
{
	enum hfb_log_refusal why = HFB_LOG_OK;

	log->claim_bytes = 0;
	hfb_dassert(bytes >= HFB_BATCH_HEADER_BYTES && bytes % HFB_BATCH_ALIGN == 0);
	if (log->failed)
		why = HFB_LOG_IO_ERROR;
	else if (log->detach != HFB_ATTACHED)
		why = HFB_LOG_PREPARING;
	else if (bytes > log->batch_bytes_max)
		why = HFB_LOG_TOO_LARGE;
	else if (!log->epoch_started)
		hfb_log_control_append(log, HFB_CONTROL_EPOCH_START, &why);
	if (why == HFB_LOG_OK)
		why = claim_room(log, bytes, reserve);
	hfb_log_limit_update(log);
	*ret_why = why;
	if (why != HFB_LOG_OK)
		return NULL;
	log->claim_bytes = bytes;
	return log->ring + (log->position & log->ring_mask);
}

uint8_t *
hfb_log_claim(struct hfb_log *log, uint32_t bytes, bool reserve, enum hfb_log_refusal *ret_why)
{
	if (log->position + bytes > log->limit || bytes > (log->ring_mask + 1) / 4)
		return claim_slow(log, bytes, reserve, ret_why);
	log->claim_bytes = bytes;
	return log->ring + (log->position & log->ring_mask);
}

void
hfb_log_append(struct hfb_log *log, const struct hfb_batch_meta *meta,
	       struct hfb_appended *ret_appended)
{
	hfb_dassert(meta->size <= log->claim_bytes);
	hfb_dassert(meta->size >= HFB_BATCH_HEADER_BYTES && meta->size % HFB_BATCH_ALIGN == 0);
	hfb_dassert(log->position + meta->size + HFB_BATCH_HEADER_BYTES <=
		    hfb_log_plan(log, log->plan_append)->end);
	ret_appended->base_offset = log->offset;
	batch_append(log, meta);
	log->claim_bytes = 0;
	ret_appended->end_position = log->position;
}

bool
hfb_log_control_append(struct hfb_log *log, uint16_t type, enum hfb_log_refusal *ret_why)
{
	union {
		struct hfb_control_epoch epoch;
		struct hfb_control_end end;
	} body = { .epoch.control = { .type = type, .version = 1 } };
	uint32_t size = type == HFB_CONTROL_EPOCH_START ? sizeof(body.epoch) : sizeof(body.end);
	struct hfb_batch_meta meta = {
		.size = HFB_BATCH_HEADER_BYTES + size,
		.flags = HFB_BATCH_CONTROL,
		.base_sequence = type,
		.timestamp_ns = log->writer->now_ns,
	};
	uint8_t *to;

	*ret_why = claim_room(log, meta.size, true);
	if (*ret_why != HFB_LOG_OK)
		return false;
	if (type == HFB_CONTROL_EPOCH_START) {
		body.epoch.leader_epoch = log->leader_epoch;
		body.epoch.previous_epoch = log->recovered_epoch;
		body.epoch.previous_end = log->position;
		body.epoch.previous_offset = log->offset;
		log->epoch_started = true;
	} else {
		body.end.end_position = log->position;
		body.end.end_offset = log->offset;
	}
	to = log->ring + (log->position & log->ring_mask);
	memcpy(to + HFB_BATCH_HEADER_BYTES, &body, size);
	meta.payload_crc = hfb_crc32c(0, &body, size);
	batch_append(log, &meta);
	return true;
}

bool
hfb_log_block_fill(struct hfb_log *log)
{
	uint32_t size = HFB_BLOCK_BYTES - (uint32_t)(log->position & (HFB_BLOCK_BYTES - 1));
	uint64_t before = log->position;
	struct hfb_batch_meta meta = {
		.flags = HFB_BATCH_CONTROL,
		.base_sequence = HFB_CONTROL_PADDING,
		.timestamp_ns = log->last_timestamp_ns,
	};

	if (size == HFB_BLOCK_BYTES)
		return true;
	if (size < HFB_BATCH_HEADER_BYTES)
		size += HFB_BLOCK_BYTES;
	/* The segment's last block ends with the segment; its padding comes with the next claim. */
	if (log->plan_append == log->plan_tail ||
	    log->position + size >= hfb_log_plan(log, log->plan_append)->end)
		return false;
	if (claim_room(log, size, true) != HFB_LOG_OK || log->position != before)
		return false;
	meta.size = size;
	batch_append(log, &meta);
	return true;
}
