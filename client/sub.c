/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sub.c - batches become items: checked, opened, numbered, given out one by one.
 */
#include "sub_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"

#define OFFSET_UNKNOWN UINT64_MAX

/* Streams of feeds. -------------------------------------------------------------- */

static struct hfb_sub_stream *
stream_slot(struct hfb_sub *sub, uint64_t key)
{
	uint32_t i = (uint32_t)(key * 0x9e3779b97f4a7c15ull >> 40) % HFB_SUB_STREAMS;

	while (sub->streams[i].key != 0 && sub->streams[i].key != key)
		i = (i + 1) % HFB_SUB_STREAMS;
	return &sub->streams[i];
}

static struct hfb_sub_stream *
stream_make(struct hfb_sub *sub, uint64_t key)
{
	struct hfb_sub_stream *s = stream_slot(sub, key);

	if (s->key == 0) {
		if (sub->streams_count >= HFB_SUB_STREAMS / 2) {
			memset(sub->streams, 0, sizeof(sub->streams));
			sub->streams_count = 0;
			s = stream_slot(sub, key);
		}
		s->key = key;
		sub->streams_count++;
	}
	return s;
}

void
hfb_sub_stream_learn(struct hfb_sub *sub, const struct hfb_batch_view *view)
{
	struct hfb_control_stream start;
	struct hfb_sub_stream *s;
	size_t n;

	if (view->payload_bytes < sizeof(start) || view->header.producer_id == 0)
		return;
	memcpy(&start, view->payload, sizeof(start));
	s = stream_make(sub, view->header.producer_id);
	n = start.session_size < sizeof(start.session) ? start.session_size : sizeof(start.session);
	memcpy(s->session, start.session, n);
	s->session[n] = '\0';
	n = start.feed_size < sizeof(start.feed) ? start.feed_size : sizeof(start.feed);
	memcpy(s->feed, start.feed, n);
	s->feed[n] = '\0';
	s->framing = start.framing;
}

static void
feed_fill(struct hfb_sub *sub)
{
	uint64_t key = sub->view.header.producer_id;
	struct hfb_feed_origin *feed = &sub->item.feed;
	struct hfb_sub_stream *s = stream_slot(sub, key);

	if (s->key == 0) {
		/* we began inside a segment: its stream-start lies behind us */
		if (sub->source->stream_search != NULL)
			sub->source->stream_search(sub, key);
		s = stream_make(sub, key);
	}
	feed->session = s->session;
	feed->feed = s->feed;
	feed->framing = s->framing;
	feed->stream_key = key;
	feed->gap_count = 0;
	feed->gap_cause = 0;
	sub->item.is_feed = 1;
}

/* Items. --------------------------------------------------------------------------- */

int
hfb_sub_mark(struct hfb_sub *sub, enum hfb_item_kind kind, uint64_t to_position, uint64_t to_offset,
	     uint32_t epoch, const char *path)
{
	struct hfb_item *item = &sub->item;

	memset(item, 0, sizeof(*item));
	sub->marked = true;
	item->kind = kind;
	item->partition = sub->partition;
	item->offset = sub->offset;
	item->mark.from_position = sub->position;
	item->mark.from_offset = sub->offset;
	item->mark.to_position = to_position;
	item->mark.to_offset = to_offset;
	item->mark.epoch = epoch;
	item->mark.path = path != NULL ? path : "";
	if (to_position != sub->position) {
		sub->position = to_position;
		sub->bytes_left = 0;
		if (to_offset != OFFSET_UNKNOWN)
			sub->offset = to_offset;
		if (kind != HFB_ITEM_LAPPED) {
			sub->skip_position = 0;
		}
	}
	switch (kind) {
	case HFB_ITEM_TRUNCATED:
		if (epoch != 0)
			sub->epoch = epoch;
		/* what is below the offset asked for is new: it was not there when it was read */
		if (to_offset != OFFSET_UNKNOWN && sub->skip_offset > to_offset)
			sub->skip_offset = 0;
		sub->stats.truncated++;
		break;
	case HFB_ITEM_LAPPED:
		sub->stats.lapped++;
		break;
	case HFB_ITEM_RETIRED:
		/* a trim may have left the start inside a batch */
		if (to_offset != OFFSET_UNKNOWN && sub->skip_offset < to_offset)
			sub->skip_offset = to_offset;
		sub->stats.retired++;
		break;
	case HFB_ITEM_CORRUPT:
		sub->stats.corrupt++;
		break;
	default:
		break;
	}
	return HFB_SOURCE_MARK;
}

/* What all events of a batch share. */
static void
batch_begin(struct hfb_sub *sub)
{
	const struct hfb_batch *b = &sub->view.header;
	struct hfb_item *item = &sub->item;

	item->kind = HFB_ITEM_EVENT;
	item->partition = sub->partition;
	item->timestamp_ns = b->timestamp_ns;
	item->port_time_ns = sub->view.port_time_ns;
	item->producer_id = b->producer_id;
	item->batch_position = sub->view.position;
	item->leader_epoch = b->leader_epoch;
	item->is_feed = 0;
	if (sub->marked) {
		sub->marked = false;
		memset(&item->mark, 0, sizeof(item->mark));
		item->mark.path = "";
	}
	if (b->flags & HFB_BATCH_STREAM)
		feed_fill(sub);
}

/*
 * The next record of a plain batch, which hfb_batch_parse() has found to be whole: what
 * hfb_record_next() does, straight into the item. Every event read passes here.
 */
static inline bool
record_give_plain(struct hfb_sub *sub)
{
	struct hfb_record_view *r = &sub->record;
	struct hfb_item *item = &sub->item;
	uint32_t index = r->index + 1, key_bytes;
	const uint8_t *at = r->at;
	struct hfb_record h;
	uint64_t bytes;

	if (index >= r->count || r->left < sizeof(h))
		return false;
	memcpy(&h, at, sizeof(h));
	bytes = hfb_record_bytes(h.value_size, h.key_size, h.headers_size);
	if (bytes > r->left)
		return false;
	r->index = index;
	r->at = at + bytes;
	r->left -= bytes;
	at += sizeof(h);
	key_bytes = h.key_size == HFB_KEY_NULL ? 0 : h.key_size;
	item->event.key = h.key_size == HFB_KEY_NULL ? NULL : at;
	item->event.key_size = key_bytes;
	item->event.headers = at + key_bytes;
	item->event.headers_size = h.headers_size;
	at += key_bytes + h.headers_size;
	item->event.value = h.value_size == HFB_VALUE_NULL ? NULL : at;
	item->event.value_size = h.value_size == HFB_VALUE_NULL ? 0 : h.value_size;
	item->event.event_time_ns = h.event_time_ns;
	item->offset = sub->view.header.base_offset + index;
	item->feed.sequence = sub->view.header.base_sequence + index;
	sub->offset = item->offset + 1;
	sub->in_batch = index + 1 < r->count;
	sub->stats.events++;
	return true;
}

static bool
record_give(struct hfb_sub *sub)
{
	struct hfb_record_view *r = &sub->record;
	struct hfb_item *item = &sub->item;

	while (hfb_record_next(r)) {
		uint64_t offset = sub->view.header.base_offset + r->index;

		if (offset < sub->skip_offset)
			continue;
		sub->skip_offset = 0;
		item->offset = offset;
		item->event.key = r->key;
		item->event.key_size = r->key_size == HFB_KEY_NULL ? 0 : r->key_size;
		item->event.headers = r->headers;
		item->event.headers_size = r->headers_size;
		item->event.value = r->value;
		item->event.value_size = r->value == NULL ? 0 : r->value_size;
		item->event.event_time_ns = r->event_time_ns;
		item->feed.sequence = sub->view.header.base_sequence + r->index;
		sub->offset = offset + 1;
		sub->in_batch = hfb_record_more(r);
		sub->stats.events++;
		return true;
	}
	sub->in_batch = false;
	sub->offset = sub->view.header.base_offset + sub->view.header.count;
	return false;
}

static void
gap_give(struct hfb_sub *sub)
{
	struct hfb_control_gap gap;

	memcpy(&gap, sub->view.payload, sizeof(gap));
	batch_begin(sub);
	if (!sub->item.is_feed)
		feed_fill(sub);
	sub->item.kind = HFB_ITEM_GAP;
	memset(&sub->item.event, 0, sizeof(sub->item.event));
	sub->item.offset = sub->view.header.base_offset;
	sub->item.feed.sequence = gap.first;
	sub->item.feed.gap_count = gap.count;
	sub->item.feed.gap_cause = gap.cause;
	sub->stats.gaps++;
}

/* The batch just parsed. True: an item is ready. */
static bool
batch_take(struct hfb_sub *sub)
{
	const struct hfb_batch *b = &sub->view.header;
	bool skip = sub->view.position < sub->skip_position || b->timestamp_ns < sub->skip_time_ns;

	sub->bytes += b->size;
	sub->bytes_left -= b->size;
	sub->position += b->size;
	sub->epoch = b->leader_epoch;
	sub->stats.bytes += b->size;
	if (sub->sampled_tsc != 0)
		hfb_sub_latency_note(sub);
	if (sub->view.control == HFB_CONTROL_STREAM_START)
		hfb_sub_stream_learn(sub, &sub->view);
	if (sub->view.control == 0 && !skip) {
		sub->skip_time_ns = 0;
		batch_begin(sub);
		hfb_record_first(&sub->view, &sub->record);
		sub->in_batch = true;
		if (!sub->record.compacted && sub->skip_offset == 0)
			return record_give_plain(sub);
		return record_give(sub);
	}
	if (sub->view.control == HFB_CONTROL_GAP && !skip && b->base_offset >= sub->skip_offset &&
	    sub->view.payload_bytes >= sizeof(struct hfb_control_gap)) {
		sub->skip_offset = 0;
		sub->skip_time_ns = 0;
		gap_give(sub);
		sub->offset = b->base_offset + b->count;
		return true;
	}
	sub->offset = b->base_offset + b->count;
	return false;
}

/* One step towards the next item. 1 an item, 0 nothing there, 2 go on, or an error. */
static int
step(struct hfb_sub *sub, struct hfb_err *err)
{
	enum hfb_fault fault = HFB_FAULT_END;
	uint64_t need = HFB_BATCH_HEADER_BYTES;
	int r;

	if (sub->in_batch) {
		if (!sub->record.compacted && sub->skip_offset == 0 && record_give_plain(sub))
			return 1;
		return record_give(sub) ? 1 : 2;
	}
	if (sub->bytes_left > 0) {
		fault = hfb_batch_parse(sub->seed, sub->position, sub->bytes, sub->bytes_left,
					HFB_CHECK_ALL, &sub->view);
		if (fault == HFB_FAULT_NONE)
			return batch_take(sub) ? 1 : 2;
		if (fault == HFB_FAULT_SHORT && sub->view.header.size > need &&
		    sub->bytes_left >= HFB_BATCH_HEADER_BYTES)
			need = sub->view.header.size;
	}
	if (fault == HFB_FAULT_END || fault == HFB_FAULT_SHORT)
		r = sub->source->fill(sub, need, err);
	else
		r = sub->source->bad(sub, fault, &sub->view, err);
	switch (r) {
	case HFB_SOURCE_NONE:
		return 0;
	case HFB_SOURCE_MARK:
		return 1;
	case HFB_SOURCE_FILLED:
		sub->reads++;
		return 2;
	case HFB_SOURCE_AGAIN:
		return 2;
	default:
		return r;
	}
}

int
hfb_sub_next(struct hfb_sub *sub, uint32_t timeout_ms, const struct hfb_item **ret_item,
	     struct hfb_err *err)
{
	struct hfb_idle_wait idle = { 0 };
	uint64_t now, until = 0, wait_ns;
	int r;

	if (sub->failed < 0) {
		if (err != NULL)
			*err = sub->err;
		return sub->failed;
	}
	for (;;) {
		while ((r = step(sub, err)) == 2)
			;
		if (r == 1) {
			*ret_item = &sub->item;
			return 1;
		}
		now = timeout_ms == 0 ? hfb_connection_now(sub->bus) : hfb_now_ns();
		if (r == 0 && sub->source->idle != NULL)
			r = sub->source->idle(sub, now, err);
		if (r == -ENOENT || r == -ESTALE) {
			sub->failed = r;
			if (err != NULL)
				sub->err = *err;
		}
		if (r < 0)
			return r;
		if (timeout_ms == 0)
			return 0;
		if (until == 0)
			until = now + (uint64_t)timeout_ms * 1000000ull;
		if (now >= until)
			return 0;
		wait_ns = until - now < 5000000ull ? until - now : 5000000ull;
		if (sub->source->wait == NULL || !sub->source->wait(sub, wait_ns))
			hfb_idle_wait(&idle, sub->wait_on, wait_ns);
	}
}

bool
hfb_sub_at_end(struct hfb_sub *sub)
{
	return !sub->in_batch && sub->source->at_end(sub);
}

void
hfb_sub_place(const struct hfb_sub *sub, struct hfb_place *ret_place)
{
	bool inside = sub->in_batch; /* it is repeated */

	ret_place->leader_epoch = sub->epoch;
	ret_place->reserved = 0;
	ret_place->position = inside ? sub->view.position : sub->position;
	ret_place->offset = inside ? sub->view.header.base_offset : sub->offset;
}

uint64_t
hfb_sub_reads(const struct hfb_sub *sub)
{
	return sub->reads;
}

void
hfb_sub_stats_get(const struct hfb_sub *sub, struct hfb_sub_stats *ret_stats)
{
	*ret_stats = sub->stats;
}

int
hfb_sub_open(struct hfb_bus *bus, const struct hfb_sub_config *config, struct hfb_sub **ret_sub,
	     struct hfb_err *err)
{
	struct hfb_partition_address address;
	struct hfb_sub *sub;
	int r;

	if (config->from > HFB_SUB_TIME)
		return hfb_err_set(err, -EINVAL, "no way %d to begin, see --from",
				   (int)config->from);
	if (config->window_bytes > 16u * HFB_MIB)
		return hfb_err_set(err, -EINVAL, "window_bytes is %u, at most %u",
				   config->window_bytes, 16u * HFB_MIB);
	r = hfb_connection_check(bus, hfb_now_ns(), err);
	if (r < 0)
		return r;
	r = hfb_connection_resolve(bus, config->topic, config->partition, &address, err);
	if (r < 0)
		return r;
	sub = calloc(1, sizeof(*sub));
	if (sub == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	sub->bus = bus;
	sub->item.mark.path = "";
	if (hfb_sub_latency_init(sub) < 0) {
		free(sub);
		return hfb_err_set(err, -ENOMEM, "out of memory");
	}
	memcpy(sub->topic, config->topic, strlen(config->topic) + 1);
	sub->partition = config->partition;
	sub->handle = address.handle;
	sub->uuid = address.topic;
	sub->seed = hfb_batch_seed(&address.topic, config->partition);
	if (config->from == HFB_SUB_TIME)
		sub->skip_time_ns = config->value;
	if (config->from == HFB_SUB_OFFSET) {
		sub->skip_offset = config->value;
		sub->epoch = config->epoch;
	}
	if (config->from == HFB_SUB_PLACE) {
		sub->position = config->place.position;
		sub->offset = config->place.offset;
		sub->epoch = config->place.leader_epoch;
	}
	r = bus->local ? hfb_sub_local_open(sub, config, err) : hfb_sub_udp_open(sub, config, err);
	if (r < 0) {
		hfb_sub_close(sub);
		return r;
	}
	*ret_sub = sub;
	return 0;
}

void
hfb_sub_close(struct hfb_sub *sub)
{
	if (sub == NULL)
		return;
	if (sub->source != NULL)
		sub->source->close(sub);
	free(sub->latency);
	free(sub);
}
