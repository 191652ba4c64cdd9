/* SPDX-License-Identifier: Apache-2.0 */
/*
 * window.c - see window.h. Pure: no clock, no socket.
 */
#include "window.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <hfbus/log.h>

#include "bug.h"
#include "crc32c.h"

#define BATCHES_MAX 4096u /* unacked at most; more would only lengthen a resend */
/* So far a lap of the byte ring goes when no more than half of it is unacked. */
#define LAP_BYTES	      (256u * HFB_KIB)
#define SILENCE_FACTOR_MAX    32u
#define PATH_BYTES_FIRST      32768ull
#define PATH_BYTES_MIN	      4096ull
#define HOLD_FIRST_NS	      500000ull
#define HOLD_LAST_NS	      100000000ull
#define VALUE_WORDS_BYTES_MAX 256u

int
hfb_window_init(struct hfb_window *w, const struct hfb_window_config *config)
{
	memset(w, 0, sizeof(*w));
	if (config->window_bytes < 4096 ||
	    (config->window_bytes & (config->window_bytes - 1)) != 0 ||
	    config->event_bytes_max > config->window_bytes / 2 ||
	    config->batch_bytes > config->event_bytes_max || config->batch_bytes < 64 ||
	    config->stage >= HFB_STAGES)
		return -EINVAL;
	w->bytes = malloc(config->window_bytes);
	w->batches = calloc(BATCHES_MAX, sizeof(*w->batches));
	if (w->bytes == NULL || w->batches == NULL) {
		hfb_window_fini(w);
		return -ENOMEM;
	}
	w->config = *config;
	w->lap_end = LAP_BYTES;
	w->batches_mask = BATCHES_MAX - 1;
	w->next_sequence = w->acked = w->received = config->first_sequence;
	w->credit_bytes = HFB_WINDOW_CREDIT_FIRST;
	w->path_bytes = config->lossy ? PATH_BYTES_FIRST : UINT64_MAX;
	w->path_steady = UINT64_MAX;
	w->silence_ns = config->resend_ns;
	w->refused_at = UINT64_MAX;
	return 0;
}

void
hfb_window_fini(struct hfb_window *w)
{
	free(w->bytes);
	free(w->batches);
	memset(w, 0, sizeof(*w));
}

static inline struct hfb_window_batch *
batch_at(const struct hfb_window *w, uint64_t index)
{
	return &w->batches[index & w->batches_mask];
}

static inline uint64_t
batch_wire_bytes(const struct hfb_window_batch *b)
{
	return (uint64_t)b->bytes + HFB_BATCH_HEADER_BYTES;
}

/*
 * A small value by words: programs fill in a field or two and send, and a wide load of words
 * just stored one by one waits until they are in the cache, 20 ns for 64 bytes.
 */
static inline void
value_copy(uint8_t *to, const uint8_t *from, uint32_t size)
{
	if (size > VALUE_WORDS_BYTES_MAX) {
		memcpy(to, from, size);
		return;
	}
	for (; size >= 8; size -= 8, to += 8, from += 8) {
		uint64_t word;

		memcpy(&word, from, sizeof(word));
		__asm__("" : "+r"(word)); /* not joined to wide ones */
		memcpy(to, &word, sizeof(word));
	}
	for (; size > 0; size--)
		*to++ = *from++;
}

static uint8_t *
record_write(uint8_t *at, const struct hfb_event *event, uint64_t size)
{
	struct hfb_record r = {
		.value_size = event->value != NULL ? event->value_size : HFB_VALUE_NULL,
		.key_size = event->key != NULL ? (uint16_t)event->key_size : HFB_KEY_NULL,
		.headers_size = (uint16_t)event->headers_size,
		.event_time_ns = event->event_time_ns,
	};
	uint8_t *end = at + size;

	/* the padding is within the last word */
	memset(end - 8, 0, 8);
	memcpy(at, &r, sizeof(r));
	at += sizeof(r);
	if (event->key != NULL && event->key_size > 0) {
		memcpy(at, event->key, event->key_size);
		at += event->key_size;
	}
	if (event->headers_size > 0) {
		memcpy(at, event->headers, event->headers_size);
		at += event->headers_size;
	}
	if (event->value != NULL && event->value_size > 0)
		value_copy(at, event->value, event->value_size);
	return end;
}

/*
 * Bytes to pass over so that a batch that begins with an event of @size lies whole. While
 * little is unacked only the first bytes of the ring are used, again and again: they stay in
 * the cache, which all of it is too large for.
 */
static uint64_t
lap_skip(struct hfb_window *w, uint64_t size)
{
	uint64_t bytes = w->config.window_bytes, to_end = bytes - (w->tail & (bytes - 1));

	if (w->tail >= w->lap_end) {
		w->lap_end = w->tail + LAP_BYTES;
		if (to_end >= bytes / 2 && to_end != bytes &&
		    w->tail - w->head + size <= LAP_BYTES / 2)
			return to_end;
	}
	return to_end < size ? to_end : 0;
}

/*
 * The ring is full, but for what the last lap passed over, which would be lent for ever if
 * no ack came: what was written since moves behind the end of that lap. False: not so.
 */
static bool
lap_undo(struct hfb_window *w)
{
	uint64_t mask = w->config.window_bytes - 1, skip = w->lap_skip;
	uint64_t from = w->lapped + skip, bytes = w->tail - from;

	if (skip == 0 || w->head > w->lapped || w->tail < from || bytes > skip)
		return false;
	memcpy(w->bytes + (w->lapped & mask), w->bytes + (from & mask), bytes);
	for (uint64_t i = w->first; i < w->closed + w->open; i++) {
		struct hfb_window_batch *b = batch_at(w, i);

		if (b->end <= w->lapped)
			continue;
		b->end -= skip;
		b->records = w->bytes + ((b->end - b->bytes) & mask);
	}
	w->tail -= skip;
	w->lap_skip = 0;
	w->lap_end = w->tail + LAP_BYTES;
	return true;
}

int
hfb_window_add(struct hfb_window *w, const struct hfb_event *event)
{
	int64_t size = hfb_event_bytes(event);
	uint64_t mask = w->config.window_bytes - 1, skip = 0;
	struct hfb_window_batch *b;

	if (size < 0 || size > (int64_t)w->config.event_bytes_max)
		return -EMSGSIZE;

	b = batch_at(w, w->closed);
	if (w->open &&
	    (b->bytes + (uint64_t)size > w->config.batch_bytes || (w->tail & mask) == 0 ||
	     (w->tail & mask) + (uint64_t)size > w->config.window_bytes))
		hfb_window_close(w); /* full, or it would wrap: batches lie whole */
	if (!w->open) {
		if (w->closed - w->first >= w->batches_mask)
			return -EAGAIN;
		skip = lap_skip(w, (uint64_t)size);
	}
	if (w->tail + skip + (uint64_t)size - w->head > w->config.window_bytes) {
		if (!lap_undo(w))
			return -EAGAIN;
		return hfb_window_add(w, event);
	}
	if (!w->open) {
		b = batch_at(w, w->closed);
		if (skip > 0) {
			w->lapped = w->tail;
			w->lap_skip = skip;
			w->tail += skip;
			w->lap_end = w->tail + LAP_BYTES;
		}
		*b = (struct hfb_window_batch){
			.base_sequence = w->next_sequence,
			.base_offset = HFB_OFFSET_UNKNOWN,
			.records = w->bytes + (w->tail & mask),
		};
		w->open = true;
	}
	record_write(w->bytes + (w->tail & mask), event, (uint64_t)size);
	w->tail += (uint64_t)size;
	b->bytes += (uint32_t)size;
	b->count++;
	b->end = w->tail;
	w->next_sequence++;
	return 0;
}

bool
hfb_window_full(const struct hfb_window *w)
{
	return w->open &&
	       batch_at(w, w->closed)->bytes + HFB_RECORD_HEADER_BYTES > w->config.batch_bytes;
}

bool
hfb_window_fits(const struct hfb_window *w, const struct hfb_event *event)
{
	int64_t size = hfb_event_bytes(event);

	return !w->open || size < 0 ||
	       batch_at(w, w->closed)->bytes + (uint64_t)size <= w->config.batch_bytes;
}

void
hfb_window_close(struct hfb_window *w)
{
	struct hfb_window_batch *b = batch_at(w, w->closed);

	if (!w->open)
		return;
	b->payload_crc = hfb_crc32c(0, b->records, b->bytes);
	w->open = false;
	w->closed++;
}

const struct hfb_window_batch *
hfb_window_next(const struct hfb_window *w, uint64_t now_ns)
{
	const struct hfb_window_batch *b;

	if (w->send == w->closed || now_ns < w->hold_until_ns)
		return NULL;
	b = batch_at(w, w->send);
	if (w->flight_bytes == 0)
		return b; /* without credit too: it asks for some */
	if (w->probing || w->flight_bytes + batch_wire_bytes(b) > w->credit_bytes ||
	    w->flight_bytes + batch_wire_bytes(b) > w->path_bytes)
		return NULL;
	return b;
}

void
hfb_window_sent(struct hfb_window *w, uint64_t now_ns)
{
	struct hfb_window_batch *b = batch_at(w, w->send);

	hfb_assert(w->send < w->closed);
	if (w->flight_bytes == 0 && w->send == w->first)
		w->moved_ns = now_ns;
	w->flight_bytes += batch_wire_bytes(b);
	w->send++;
	w->frames++;
	w->resent += b->sent_before;
	b->sent_before = true;
}

/* Sending goes on at the first batch with something at or after `received`. */
static void
go_back(struct hfb_window *w)
{
	w->flight_bytes = 0;
	w->send = w->first;
	while (w->send < w->closed &&
	       batch_at(w, w->send)->base_sequence + batch_at(w, w->send)->count <= w->received)
		w->send++;
	w->reached = w->send;
}

/* `received` has moved: what it passed is in flight no more. */
static void
flight_shrink(struct hfb_window *w)
{
	while (w->reached < w->send) {
		const struct hfb_window_batch *b = batch_at(w, w->reached);

		if (b->base_sequence + b->count > w->received)
			break;
		w->flight_bytes -= batch_wire_bytes(b);
		w->reached++;
	}
}

/* Frames were lost: half of what was in flight did fit. */
static void
path_shrink(struct hfb_window *w, uint64_t flight_bytes)
{
	if (!w->config.lossy)
		return;
	w->path_steady = flight_bytes / 2 > PATH_BYTES_MIN ? flight_bytes / 2 : PATH_BYTES_MIN;
	w->path_bytes = w->path_steady;
}

static void
path_grow(struct hfb_window *w, uint64_t arrived_bytes)
{
	if (!w->config.lossy || w->path_bytes >= w->config.window_bytes)
		return;
	if (w->path_bytes < w->path_steady)
		w->path_bytes += arrived_bytes;
	else
		w->path_bytes += arrived_bytes * 1500 / w->path_bytes;
}

static void
hold(struct hfb_window *w, uint64_t now_ns)
{
	w->hold_ns = w->hold_ns == 0 ? HOLD_FIRST_NS : w->hold_ns * 2;
	if (w->hold_ns > HOLD_LAST_NS)
		w->hold_ns = HOLD_LAST_NS;
	w->hold_until_ns = now_ns + w->hold_ns;
}

static void
free_acked(struct hfb_window *w, uint64_t sequence, struct hfb_window_result *ret)
{
	if (sequence > w->next_sequence)
		return; /* nonsense: we never sent that */
	if (sequence <= w->acked)
		return;
	ret->acked_sequence = w->acked;
	ret->acked_events = (uint32_t)(sequence - w->acked);
	if (w->first < w->closed)
		ret->base_offset = batch_at(w, w->first)->base_offset;
	w->acked = sequence;
	while (w->first < w->send) {
		struct hfb_window_batch *b = batch_at(w, w->first);

		if (b->base_sequence + b->count > sequence)
			break;
		if (w->reached == w->first) { /* acked, yet never said to be received */
			w->flight_bytes -= batch_wire_bytes(b);
			w->reached++;
		}
		w->head = b->end;
		w->first++;
	}
	if (hfb_window_empty(w))
		w->head = w->tail;
}

/*
 * The broker does not know us. True when it lost us in a restart, or has forgotten us;
 * not when our very first frame was lost, which the others went on from, and not in an
 * old answer that newer ones have overtaken.
 */
static void
unknown(struct hfb_window *w, const struct hfb_wire_ack *ack, uint64_t now_ns,
	struct hfb_window_result *ret)
{
	bool begins = w->first < w->closed && batch_at(w, w->first)->base_sequence == 0;

	if (!begins && ack->leader_epoch > w->leader_epoch) {
		ret->verdict = HFB_WINDOW_LOST;
		return;
	}
	if (w->unknown_since_ns == 0) {
		w->unknown_since_ns = now_ns + 1;
		w->received = w->acked;
		go_back(w);
		w->probing = !begins;
		ret->verdict = HFB_WINDOW_WENT_BACK;
		return;
	}
	/* said again of what was sent anew */
	ret->verdict = !begins && now_ns > w->unknown_since_ns + w->config.resend_ns
			       ? HFB_WINDOW_LOST
			       : HFB_WINDOW_STALE;
}

void
hfb_window_ack(struct hfb_window *w, const struct hfb_wire_ack *ack, uint64_t now_ns,
	       struct hfb_window_result *ret)
{
	uint64_t received = ack->sequence[HFB_STAGE_RECEIVED];
	uint64_t sent_sequence = w->send > w->first ? batch_at(w, w->send - 1)->base_sequence +
							      batch_at(w, w->send - 1)->count
						    : w->acked;
	uint64_t flight;
	bool moved;

	*ret = (struct hfb_window_result){ .base_offset = HFB_OFFSET_UNKNOWN, .code = ack->code };
	if (ack->leader_epoch < w->leader_epoch) {
		ret->verdict = HFB_WINDOW_STALE;
		return;
	}
	switch (ack->code) {
	case HFB_WIRE_FENCED:
	case HFB_WIRE_STAGE_UNAVAILABLE:
	case HFB_WIRE_TOO_LARGE:
		ret->verdict = HFB_WINDOW_FINAL;
		return;
	case HFB_WIRE_UNKNOWN_PRODUCER:
		unknown(w, ack, now_ns, ret);
		return;
	default:
		break;
	}
	if (received < w->acked) {
		/*
		 * The broker expects less than it acked. In a later epoch that is a
		 * loss of what was only `received`; in the same one an old ack.
		 */
		if (ack->code == HFB_WIRE_SEQUENCE_GAP && ack->leader_epoch > w->leader_epoch) {
			ret->verdict = HFB_WINDOW_LOST;
			return;
		}
		ret->verdict = HFB_WINDOW_STALE;
		return;
	}
	if (received > w->next_sequence) {
		ret->verdict = HFB_WINDOW_STALE;
		return;
	}
	moved = received > w->received || ack->sequence[w->config.stage] > w->acked;
	w->leader_epoch = ack->leader_epoch;
	w->unknown_since_ns = 0;
	if (received > w->received)
		w->received = received;
	if (ack->base_offset != HFB_OFFSET_UNKNOWN) {
		for (uint64_t i = w->first; i < w->send; i++) {
			struct hfb_window_batch *b = batch_at(w, i);

			if (b->base_sequence + b->count == received)
				b->base_offset = ack->base_offset;
			if (b->base_sequence + b->count >= received)
				break;
		}
	}
	flight = w->flight_bytes;
	flight_shrink(w);
	if (received > sent_sequence) {
		/* we went back, but it had come: go on behind it */
		while (w->send < w->closed &&
		       batch_at(w, w->send)->base_sequence + batch_at(w, w->send)->count <=
			       received)
			w->send++;
		w->reached = w->send;
	}
	w->credit_bytes = ack->credit_bytes;
	free_acked(w, ack->sequence[w->config.stage], ret);
	if (ack->code == HFB_WIRE_OK && flight > w->flight_bytes)
		path_grow(w, flight - w->flight_bytes);
	if (moved) {
		w->moved_ns = now_ns;
		w->silence_ns = w->config.resend_ns;
		w->refused_at = UINT64_MAX;
	}
	w->probing = false;
	switch (ack->code) {
	case HFB_WIRE_OK:
		w->hold_ns = 0;
		w->hold_until_ns = 0;
		ret->verdict = HFB_WINDOW_OK;
		return;
	case HFB_WIRE_SEQUENCE_GAP:
	case HFB_WIRE_BAD_BATCH:
		if (w->refused_at == received) {
			ret->verdict = HFB_WINDOW_STALE;
			return;
		}
		w->refused_at = received;
		path_shrink(w, w->flight_bytes);
		go_back(w);
		ret->verdict = HFB_WINDOW_WENT_BACK;
		return;
	case HFB_WIRE_RING_FULL:
		/* refusals of the rest of the same flight do not lengthen the pause */
		if (now_ns >= w->hold_until_ns) {
			go_back(w);
			hold(w, now_ns);
		}
		ret->verdict = HFB_WINDOW_WENT_BACK;
		return;
	default: /* disk full or failed, partition moved or gone, table full */
		if (now_ns >= w->hold_until_ns) {
			go_back(w);
			hold(w, now_ns);
			w->probing = true;
		}
		ret->verdict = HFB_WINDOW_REFUSED;
		return;
	}
}

bool
hfb_window_tick(struct hfb_window *w, uint64_t now_ns)
{
	if (w->send == w->first || now_ns < w->moved_ns + w->silence_ns ||
	    now_ns < w->hold_until_ns)
		return false;
	w->silence_ns *= 2;
	if (w->silence_ns > w->config.resend_ns * SILENCE_FACTOR_MAX)
		w->silence_ns = w->config.resend_ns * SILENCE_FACTOR_MAX;
	w->moved_ns = now_ns;
	w->refused_at = UINT64_MAX;
	if (w->first < w->closed && batch_at(w, w->first)->base_sequence == 0)
		w->unknown_since_ns = 0;
	path_shrink(w, w->flight_bytes);
	go_back(w);
	if (w->send == w->closed && w->send > w->first)
		w->reached = --w->send; /* all received, none acked: the last one asks again */
	w->probing = true;
	return true;
}

void
hfb_window_restart(struct hfb_window *w, uint64_t now_ns)
{
	w->received = w->acked;
	w->unknown_since_ns = 0;
	w->credit_bytes = HFB_WINDOW_CREDIT_FIRST;
	w->hold_ns = w->hold_until_ns = 0;
	w->silence_ns = w->config.resend_ns;
	w->refused_at = UINT64_MAX;
	w->probing = false;
	w->moved_ns = now_ns;
	go_back(w);
}

void
hfb_window_renumber(struct hfb_window *w, uint64_t now_ns)
{
	uint64_t shift = w->first < w->closed + w->open ? batch_at(w, w->first)->base_sequence
							: w->next_sequence;

	/* a batch acked in part goes whole: its first part was lost with the rest */
	for (uint64_t i = w->first; i < w->closed + w->open; i++) {
		batch_at(w, i)->base_sequence -= shift;
		batch_at(w, i)->base_offset = HFB_OFFSET_UNKNOWN;
	}
	w->next_sequence -= shift;
	w->acked = w->acked > shift ? w->acked - shift : 0;
	w->leader_epoch = 0;
	hfb_window_restart(w, now_ns);
}
