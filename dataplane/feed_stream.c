/* SPDX-License-Identifier: Apache-2.0 */
/*
 * feed_stream.c - what a stream puts into its partition's log, in this order:
 *
 *	[stream start]	before its first batch in each segment
 *	[gap local]*	what was dropped while there was no room
 *	batch | gap	one batch a datagram: the messages that were new
 *
 * The log's position moves only by this file; the arbiter calls it in order.
 */
#include <string.h>

#include <rte_mbuf.h>

#include "bug.h"
#include "crc32c.h"
#include "feed.h"
#include "siphash.h"

#define GAP_BYTES	(HFB_BATCH_HEADER_BYTES + (uint32_t)sizeof(struct hfb_control_gap))
#define START_BYTES	(HFB_BATCH_HEADER_BYTES + (uint32_t)sizeof(struct hfb_control_stream))
#define EXTENSION_BYTES 16u
#define NOT_STARTED	UINT64_MAX

_Static_assert(GAP_BYTES % HFB_BATCH_ALIGN == 0, "a batch is a multiple of 8 bytes");
_Static_assert(START_BYTES % HFB_BATCH_ALIGN == 0, "a batch is a multiple of 8 bytes");

/* Fixed for ever: a stream must have the same key in every run. */
static const struct hfb_siphash_key stream_siphash_key = {
	0x6d61657274735f66ull,
	0x315f79656b5f6265ull,
};

static uint64_t
stream_key(const struct hfb_feed *feed, const uint8_t *session, uint32_t session_size,
	   uint32_t restart)
{
	uint8_t text[sizeof(feed->config->name) + 2 + HFB_FEED_SESSION_BYTES_MAX + 4];
	uint32_t n = (uint32_t)strnlen(feed->config->name, sizeof(feed->config->name));
	uint64_t key;

	memcpy(text, feed->config->name, n);
	text[n++] = 0;
	text[n++] = (uint8_t)feed->config->framing;
	memcpy(text + n, session, session_size);
	n += session_size;
	if (restart > 0) {
		for (uint32_t i = 0; i < 4; i++)
			text[n++] = (uint8_t)(restart >> 8 * i);
	}
	key = hfb_siphash(&stream_siphash_key, text, n);
	return key != 0 ? key : 1; /* 0 means no producer */
}

static void
append(struct hfb_feed_stream *stream, struct hfb_batch_meta *meta)
{
	struct hfb_feed *feed = stream->feed;
	struct hfb_core *core = feed->core;
	struct hfb_appended appended;

	meta->timestamp_ns = core->now_ns;
	hfb_log_append(feed->partition->log, meta, &appended);
	core->stats[HFB_STAT_APPEND_BATCHES]++;
	core->stats[HFB_STAT_APPEND_EVENTS] += meta->count;
	core->stats[HFB_STAT_APPEND_BYTES] += meta->size;
}

/* Room in the log is claimed: write who the stream is there. */
static void
start_append(struct hfb_feed_stream *stream, uint8_t *at)
{
	const struct hfb_feed_config *config = stream->feed->config;
	struct hfb_control_stream body = {
		.control = { .type = HFB_CONTROL_STREAM_START, .version = 1 },
		.framing = (uint8_t)config->framing,
		.next_sequence = stream->log_next,
	};
	struct hfb_batch_meta meta = {
		.size = START_BYTES,
		.flags = HFB_BATCH_CONTROL | HFB_BATCH_STREAM,
		.producer_id = stream->key,
		.base_sequence = HFB_CONTROL_STREAM_START,
		.end_sequence = stream->log_next,
	};

	body.feed_size = (uint16_t)strnlen(config->name, sizeof(body.feed));
	memcpy(body.feed, config->name, body.feed_size);
	if (config->framing == HFB_FRAMING_IEX_TP)
		body.session_size = (uint8_t)hfb_iex_tp_session_text(
			stream->session, (char *)body.session, sizeof(body.session));
	else
		body.session_size = (uint8_t)hfb_moldudp64_session_text(
			stream->session, (char *)body.session, sizeof(body.session));
	memcpy(at + HFB_BATCH_HEADER_BYTES, &body, sizeof(body));
	meta.payload_crc = hfb_crc32c(0, &body, sizeof(body));
	append(stream, &meta);
}

/*
 * Claim @bytes of a segment that has our stream start. A claim may move on to a
 * new segment, so its base is looked at after each; three rounds are enough
 * because a segment holds many times what one claim asks.
 */
static uint8_t *
claim(struct hfb_feed_stream *stream, uint32_t bytes, bool reserve, enum hfb_log_refusal *ret_why)
{
	struct hfb_log *log = stream->feed->partition->log;

	for (int round = 0; round < 3; round++) {
		uint8_t *at = hfb_log_claim(log, bytes, reserve, ret_why);

		if (at == NULL || stream->key == 0 ||
		    hfb_log_segment_base(log) == stream->started_base)
			return at;
		at = hfb_log_claim(log, START_BYTES, reserve, ret_why);
		if (at == NULL)
			return NULL;
		stream->started_base = hfb_log_segment_base(log);
		start_append(stream, at);
	}
	*ret_why = HFB_LOG_PREPARING;
	return NULL;
}

/* Its room is reserved, yet that may be used up: then it stays pending. */
static bool
gap_append(struct hfb_feed_stream *stream, const struct hfb_feed_pending *gap)
{
	struct hfb_control_gap body = {
		.control = { .type = HFB_CONTROL_GAP, .version = 1 },
		.first = gap->first,
		.count = gap->count,
		.cause = gap->cause,
	};
	struct hfb_batch_meta meta = {
		.size = GAP_BYTES,
		.count = 1,
		.flags = HFB_BATCH_CONTROL | HFB_BATCH_STREAM,
		.producer_id = stream->key,
		.base_sequence = gap->first,
		.end_sequence = gap->first + gap->count,
	};
	enum hfb_log_refusal why;
	uint8_t *at = claim(stream, GAP_BYTES, true, &why);

	if (at == NULL)
		return false;
	hfb_dassert(gap->first == stream->log_next);
	memcpy(at + HFB_BATCH_HEADER_BYTES, &body, sizeof(body));
	meta.payload_crc = hfb_crc32c(0, &body, sizeof(body));
	append(stream, &meta);
	stream->log_next = meta.end_sequence;
	return true;
}

static void
pending_add(struct hfb_feed_stream *stream, uint64_t first, uint64_t count,
	    enum hfb_gap_cause cause)
{
	struct hfb_feed_pending *last = NULL;

	if (stream->pending_count > 0)
		last = &stream->pending[stream->pending_count - 1];
	if (last != NULL && last->cause == cause) {
		last->count += count;
		return;
	}
	if (stream->pending_count == HFB_FEED_PENDING_MAX) {
		/* More turns than we remember: the sequences stay exact, and that
		 * this node could not write is what the reader must know. */
		last->count += count;
		last->cause = HFB_GAP_LOCAL;
		return;
	}
	stream->pending[stream->pending_count++] = (struct hfb_feed_pending){
		.first = first,
		.count = count,
		.cause = cause,
	};
}

static bool
pending_flush(struct hfb_feed_stream *stream)
{
	uint32_t n = 0;

	while (n < stream->pending_count && gap_append(stream, &stream->pending[n]))
		n++;
	stream->pending_count -= n;
	memmove(stream->pending, stream->pending + n,
		stream->pending_count * sizeof(stream->pending[0]));
	return stream->pending_count == 0;
}

/* Bytes of the batch for the next messages of @it, at most @bytes_max and @count_max. */
static uint32_t
batch_measure(struct hfb_blocks it, uint32_t count_max, uint32_t bytes_max, uint32_t *ret_count)
{
	uint32_t bytes = 0, n = 0, size;
	const uint8_t *data;

	while (n < count_max && hfb_blocks_next(&it, &data, &size)) {
		uint32_t record = (uint32_t)hfb_record_bytes(size, HFB_KEY_NULL, 0);

		if (bytes + record > bytes_max)
			break;
		bytes += record;
		n++;
	}
	*ret_count = n;
	return bytes;
}

static void
records_write(uint8_t *to, struct hfb_blocks *it, uint32_t count, uint64_t event_time_ns)
{
	const uint8_t *data = NULL;
	uint32_t size = 0;

	for (uint32_t i = 0; i < count; i++) {
		struct hfb_record record = { .key_size = HFB_KEY_NULL };
		uint32_t padded;

		hfb_blocks_next(it, &data, &size);
		record.value_size = size;
		record.event_time_ns = (int64_t)event_time_ns;
		padded = (size + 7u) & ~7u;
		memcpy(to, &record, sizeof(record));
		to += sizeof(record);
		/* the last word first, so that its padding is zero */
		if (padded > size)
			memset(to + padded - 8, 0, 8);
		memcpy(to, data, size);
		to += padded;
	}
}

/*
 * One batch of the messages at @it. Returns how many went in; 0: @ret_why.
 */
static uint32_t
batch_append(struct hfb_feed_stream *stream, const struct hfb_datagram *d,
	     const struct hfb_packet *packet, struct hfb_blocks *it, uint64_t first,
	     uint32_t count_max, enum hfb_log_refusal *ret_why)
{
	struct hfb_feed *feed = stream->feed;
	const struct hfb_node *node = feed->core->node;
	struct hfb_batch_meta meta = { .producer_id = stream->key, .base_sequence = first };
	uint32_t payload, head = HFB_BATCH_HEADER_BYTES;
	uint8_t *at;

	if (packet->port_time_ns != 0 && node->ports[packet->port].config != NULL &&
	    node->ports[packet->port].config->timestamps) {
		meta.flags |= HFB_BATCH_EXTENSION;
		head += EXTENSION_BYTES;
	}
	/* half of what a batch may be leaves the ring room to write behind us */
	payload = batch_measure(*it, count_max, hfb_log_batch_bytes_max(feed->partition->log) / 2,
				&meta.count);
	if (meta.count == 0) {
		*ret_why = HFB_LOG_TOO_LARGE;
		return 0;
	}
	meta.size = head + payload;
	if (stream->pending_count > 0) {
		/*
		 * The gaps go first, but only when the events can follow: else each
		 * breath of room would become one more gap.
		 */
		if (hfb_log_claim(feed->partition->log,
				  meta.size + stream->pending_count * GAP_BYTES + 2 * START_BYTES,
				  false, ret_why) == NULL)
			return 0;
		if (!pending_flush(stream)) {
			*ret_why = HFB_LOG_RING_FULL;
			return 0;
		}
	}
	at = claim(stream, meta.size, false, ret_why);
	if (at == NULL)
		return 0;
	if (meta.flags & HFB_BATCH_EXTENSION) {
		struct hfb_extension extension = { .words = 2, .kinds = HFB_EXT_PORT_TIME };

		extension.words_crc = hfb_crc32c(0, &packet->port_time_ns, 8);
		memcpy(at + HFB_BATCH_HEADER_BYTES, &extension, sizeof(extension));
		memcpy(at + HFB_BATCH_HEADER_BYTES + 8, &packet->port_time_ns, 8);
	}
	records_write(at + head, it, meta.count, d->send_time_ns);
	meta.payload_crc = hfb_crc32c(0, at + head, payload);
	meta.end_sequence = first + meta.count;
	if (stream->key != 0) {
		meta.flags |= HFB_BATCH_STREAM;
		hfb_dassert(first == stream->log_next);
	} else {
		meta.base_sequence = 0;
		meta.end_sequence = 0;
	}
	append(stream, &meta);
	stream->log_next = first + meta.count;
	feed->stats[HFB_FEED_EVENTS] += meta.count;
	feed->stats[HFB_FEED_BATCHES]++;
	return meta.count;
}

static void
drop_local(struct hfb_feed_stream *stream, uint64_t first, uint64_t count)
{
	struct hfb_feed *feed = stream->feed;

	if (stream->pending_count == 0 ||
	    stream->pending[stream->pending_count - 1].cause != HFB_GAP_LOCAL)
		feed->stats[HFB_FEED_GAPS_LOCAL]++;
	feed->stats[HFB_FEED_MISSING_LOCAL] += count;
	if (stream->key != 0)
		pending_add(stream, first, count, HFB_GAP_LOCAL);
	else
		stream->log_next = first + count; /* nobody can name them */
}

/* Is waiting over for this stream? */
static bool
refused(struct hfb_feed_stream *stream, enum hfb_log_refusal why)
{
	struct hfb_feed *feed = stream->feed;
	uint64_t now_ns = feed->core->now_ns;

	if (stream->refused_since_ns == 0) {
		stream->refused_since_ns = now_ns;
		feed->stats[HFB_FEED_BLOCKED]++;
	}
	if (why != HFB_LOG_RING_FULL && why != HFB_LOG_PREPARING)
		return true;
	return now_ns - stream->refused_since_ns > HFB_FEED_PATIENCE_NS;
}

static uint32_t
stream_deliver(void *arg, const struct hfb_piece *piece, bool must)
{
	struct hfb_feed_stream *stream = arg;
	struct hfb_feed *feed = stream->feed;
	const struct hfb_packet *packet = feed->packet;
	const struct hfb_datagram *d = &feed->datagram;
	struct hfb_datagram decoded;
	struct hfb_blocks it;
	const uint8_t *data;
	uint32_t taken = 0, size;

	if (packet == NULL || piece->datagram != packet->mbuf) {
		/* Held back earlier; it was sound then and nobody has written to it. */
		packet = &hfb_mbuf_private(piece->datagram)->packet;
		d = &decoded;
		if (hfb_feed_decode(feed->config->framing, packet->payload, packet->payload_bytes,
				    &decoded) < 0) {
			hfb_dassert(false);
			drop_local(stream, piece->first, piece->count);
			return piece->count;
		}
	}
	hfb_blocks_begin(d, &it);
	for (uint64_t skip = piece->first - piece->origin; skip > 0; skip--)
		hfb_blocks_next(&it, &data, &size);

	while (taken < piece->count) {
		enum hfb_log_refusal why = HFB_LOG_OK;
		uint32_t n = batch_append(stream, d, packet, &it, piece->first + taken,
					  piece->count - taken, &why);

		if (n > 0) {
			stream->refused_since_ns = 0;
			feed->line_stats[piece->line][HFB_FEED_LINE_FIRST_WINS] += n;
			taken += n;
			continue;
		}
		if (refused(stream, why) || must) {
			drop_local(stream, piece->first + taken, piece->count - taken);
			return piece->count;
		}
		__atomic_store_n(&feed->core->feeds->blocked, true, __ATOMIC_RELAXED);
		break;
	}
	return taken;
}

static void
stream_gap(void *arg, uint64_t first, uint64_t count)
{
	struct hfb_feed_stream *stream = arg;
	struct hfb_feed_pending gap = { .first = first, .count = count, .cause = HFB_GAP_WIRE };

	stream->feed->stats[HFB_FEED_GAPS_WIRE]++;
	stream->feed->stats[HFB_FEED_MISSING_WIRE] += count;
	if (stream->pending_count > 0 || !gap_append(stream, &gap))
		pending_add(stream, first, count, HFB_GAP_WIRE);
}

static void
stream_hold(void *arg, void *datagram)
{
	struct hfb_feed_stream *stream = arg;
	struct hfb_mbuf_private *held = hfb_mbuf_private(datagram);

	hfb_dassert(stream->feed->packet != NULL);
	hfb_dassert(stream->feed->packet->mbuf == datagram);
	rte_mbuf_refcnt_update(datagram, 1);
	if (stream->feed->packet != &held->packet)
		held->packet = *stream->feed->packet;
	stream->feed->mbufs_held++;
	stream->feed->core->feeds->mbufs_held++;
}

static void
stream_release(void *arg, void *datagram)
{
	struct hfb_feed_stream *stream = arg;

	stream->feed->mbufs_held--;
	stream->feed->core->feeds->mbufs_held--;
	rte_pktmbuf_free(datagram);
}

const struct hfb_arbiter_ops hfb_feed_stream_ops = {
	.deliver = stream_deliver,
	.gap = stream_gap,
	.hold = stream_hold,
	.release = stream_release,
};

bool
hfb_feed_stream_known(const struct hfb_feed *feed, const uint8_t *session, uint32_t session_size,
		      uint32_t restart, uint64_t *ret_next)
{
	return hfb_log_stream_next(feed->partition->log,
				   stream_key(feed, session, session_size, restart), ret_next);
}

void
hfb_feed_stream_open(struct hfb_feed_stream *stream, const uint8_t *session, uint32_t session_size,
		     uint32_t restart, uint64_t first)
{
	struct hfb_feed *feed = stream->feed;
	uint64_t next;

	hfb_dassert(!stream->open);
	memcpy(stream->session, session, session_size);
	stream->session_size = session_size;
	stream->restart = restart;
	stream->started_base = NOT_STARTED;
	stream->refused_since_ns = 0;
	stream->pending_count = 0;
	stream->open = true;
	if (feed->config->framing == HFB_FRAMING_RAW) {
		stream->key = 0;
		next = first;
	} else {
		stream->key = stream_key(feed, session, session_size, restart);
		if (!hfb_log_stream_next(feed->partition->log, stream->key, &next))
			next = hfb_arbiter_fresh(first, feed->config->hold_events);
	}
	stream->log_next = next;
	hfb_arbiter_start(&stream->arbiter, next);
	feed->stats[HFB_FEED_STREAMS]++;
}

void
hfb_feed_stream_close(struct hfb_feed_stream *stream)
{
	if (!stream->open)
		return;
	if (stream->feed->partition != NULL) {
		hfb_arbiter_flush(&stream->arbiter);
		pending_flush(stream);
	}
	hfb_arbiter_reset(&stream->arbiter);
	stream->pending_count = 0;
	stream->open = false;
}

uint32_t
hfb_feed_stream_poll(struct hfb_feed_stream *stream, uint64_t time_ns)
{
	uint32_t work = 0;

	if (!stream->open)
		return 0;
	if (stream->arbiter.held_count > 0) {
		work = hfb_arbiter_poll(&stream->arbiter, time_ns);
	} else if (stream->pending_count > 0) {
		enum hfb_log_refusal why;

		/* Nothing comes that would bring it along: as soon as there is real room. */
		if (hfb_log_claim(stream->feed->partition->log,
				  stream->pending_count * GAP_BYTES + 2 * START_BYTES, false,
				  &why) != NULL) {
			work += pending_flush(stream) ? 1 : 0;
			stream->refused_since_ns = 0;
		}
	}
	return work;
}
