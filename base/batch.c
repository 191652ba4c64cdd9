/* SPDX-License-Identifier: Apache-2.0 */
/*
 * batch.c - walk the batches of a run of log bytes, believing none of them.
 *
 * Order of checks: the header's crc before any of its fields (its seed holds the
 * partition and the position, so bytes of another place, lap or partition stop
 * here), the fields against each other and against the bytes there are, then
 * the payload. No length is used before it was compared with what is readable.
 */
#include <string.h>

#include "batch.h"
#include "crc32c.h"

static const char *const fault_names[HFB_FAULTS] = {
	[HFB_FAULT_NONE] = "none",
	[HFB_FAULT_END] = "end",
	[HFB_FAULT_SHORT] = "cut short",
	[HFB_FAULT_HEADER] = "header checksum",
	[HFB_FAULT_FEATURE] = "unknown feature",
	[HFB_FAULT_SHAPE] = "header fields contradict each other",
	[HFB_FAULT_EXTENSION] = "extension words",
	[HFB_FAULT_PAYLOAD] = "payload checksum",
	[HFB_FAULT_RECORDS] = "record framing",
	[HFB_FAULT_CONTROL] = "control record",
};

const char *
hfb_fault_name(enum hfb_fault fault)
{
	return (unsigned int)fault < HFB_FAULTS ? fault_names[fault] : "?";
}

/* Size of the body a control batch of this type has at least, with its head. */
static size_t
control_bytes(uint16_t type)
{
	switch (type) {
	case HFB_CONTROL_GAP:
		return sizeof(struct hfb_control_gap);
	case HFB_CONTROL_STREAM_START:
		return sizeof(struct hfb_control_stream);
	case HFB_CONTROL_EPOCH_START:
		return sizeof(struct hfb_control_epoch);
	case HFB_CONTROL_END_MARK:
		return sizeof(struct hfb_control_end);
	default:
		return SIZE_MAX;
	}
}

/* The control type as the header tells it; 0 = none known. */
static uint16_t
control_type(const struct hfb_batch *h)
{
	if (hfb_batch_is_padding(h))
		return HFB_CONTROL_PADDING;
	if (h->count == 1)
		return HFB_CONTROL_GAP;
	if (h->count == 0 && h->base_sequence >= HFB_CONTROL_STREAM_START &&
	    h->base_sequence <= HFB_CONTROL_END_MARK)
		return (uint16_t)h->base_sequence;
	return 0;
}

/* Fields that a right crc does not prove: a later version or a lying writer. */
static enum hfb_fault
header_check(const struct hfb_batch *h)
{
	if (h->version != HFB_BATCH_VERSION || h->encoding > HFB_ENCODING_COMPACTED ||
	    (h->flags & ~HFB_BATCH_FLAGS_KNOWN) != 0 || h->reserved != 0)
		return HFB_FAULT_FEATURE;
	if (h->size < HFB_BATCH_HEADER_BYTES || h->size > HFB_BATCH_BYTES_MAX ||
	    h->size % HFB_BATCH_ALIGN != 0)
		return HFB_FAULT_SHAPE;
	if (h->base_offset > UINT64_MAX - HFB_BATCH_EVENTS_MAX || h->count > HFB_BATCH_EVENTS_MAX)
		return HFB_FAULT_SHAPE;
	if (h->encoding == HFB_ENCODING_COMPACTED)
		return h->count != 0 && (h->flags & HFB_BATCH_CONTROL) == 0 &&
				       h->size >= HFB_BATCH_HEADER_BYTES +
							  sizeof(struct hfb_compacted_records)
			       ? HFB_FAULT_NONE
			       : HFB_FAULT_SHAPE;
	if (h->flags & HFB_BATCH_CONTROL)
		return control_type(h) != 0 ? HFB_FAULT_NONE : HFB_FAULT_CONTROL;
	if (h->count == 0 ||
	    (uint64_t)h->count * HFB_RECORD_HEADER_BYTES > h->size - HFB_BATCH_HEADER_BYTES)
		return HFB_FAULT_SHAPE;
	return HFB_FAULT_NONE;
}

static enum hfb_fault
extension_check(struct hfb_batch_view *v, const uint8_t *at, uint32_t room)
{
	struct hfb_extension x;
	uint32_t bytes;
	uint32_t word = 1;

	if (room < sizeof(x))
		return HFB_FAULT_EXTENSION;
	memcpy(&x, at, sizeof(x));
	bytes = x.words * 8u;
	if (x.words < 2 || x.words > 8 || bytes > room || (x.kinds & ~HFB_EXT_KNOWN) != 0 ||
	    (uint32_t)__builtin_popcount(x.kinds) + 1 != x.words)
		return HFB_FAULT_EXTENSION;
	if (hfb_crc32c(0, at + sizeof(x), bytes - sizeof(x)) != x.words_crc)
		return HFB_FAULT_EXTENSION;
	v->extension_kinds = x.kinds;
	if (x.kinds & HFB_EXT_PORT_TIME)
		memcpy(&v->port_time_ns, at + 8u * word++, 8);
	v->payload = at + bytes;
	v->payload_bytes = room - bytes;
	return HFB_FAULT_NONE;
}

static enum hfb_fault
control_check(const struct hfb_batch_view *v)
{
	struct hfb_control c;
	struct hfb_control_gap gap;
	struct hfb_control_stream stream;
	struct hfb_control_epoch epoch;
	struct hfb_control_end end;

	if (v->payload_bytes < control_bytes(v->control))
		return HFB_FAULT_CONTROL;
	memcpy(&c, v->payload, sizeof(c));
	if (c.type != v->control || c.version != 1)
		return HFB_FAULT_CONTROL;
	switch (v->control) {
	case HFB_CONTROL_GAP:
		memcpy(&gap, v->payload, sizeof(gap));
		if (gap.first != v->header.base_sequence || gap.count == 0 ||
		    gap.count > UINT64_MAX - gap.first)
			return HFB_FAULT_CONTROL;
		break;
	case HFB_CONTROL_STREAM_START:
		memcpy(&stream, v->payload, sizeof(stream));
		if (stream.session_size > sizeof(stream.session) ||
		    stream.feed_size > sizeof(stream.feed))
			return HFB_FAULT_CONTROL;
		break;
	case HFB_CONTROL_EPOCH_START:
		memcpy(&epoch, v->payload, sizeof(epoch));
		if (epoch.leader_epoch != v->header.leader_epoch ||
		    epoch.previous_epoch >= epoch.leader_epoch)
			return HFB_FAULT_CONTROL;
		break;
	case HFB_CONTROL_END_MARK:
		memcpy(&end, v->payload, sizeof(end));
		if (end.end_position != v->position || end.end_offset != v->header.base_offset)
			return HFB_FAULT_CONTROL;
		break;
	}
	return HFB_FAULT_NONE;
}

/* Runs ascend within the batch and count the records; these and zeros fill the rest. */
static bool
compacted_check(const struct hfb_batch_view *v)
{
	struct hfb_compacted_records head;
	const uint8_t *at = v->payload;
	uint64_t next = 0, records = 0;
	uint32_t left = v->payload_bytes;

	if (left < sizeof(head))
		return false;
	memcpy(&head, at, sizeof(head));
	at += sizeof(head);
	left -= (uint32_t)sizeof(head);
	if (head.runs > left / sizeof(struct hfb_compacted_run))
		return false;
	for (uint32_t i = 0; i < head.runs; i++) {
		struct hfb_compacted_run run;

		memcpy(&run, at, sizeof(run));
		at += sizeof(run);
		left -= (uint32_t)sizeof(run);
		if (run.first < next || run.count == 0)
			return false;
		next = (uint64_t)run.first + run.count;
		records += run.count;
	}
	if (next > v->header.count || records != head.records)
		return false;
	for (uint32_t i = 0; i < head.records; i++) {
		struct hfb_record h;
		uint64_t bytes;

		if (left < sizeof(h))
			return false;
		memcpy(&h, at, sizeof(h));
		bytes = hfb_record_bytes(h.value_size, h.key_size, h.headers_size);
		if (bytes > left)
			return false;
		at += bytes;
		left -= (uint32_t)bytes;
	}
	for (; left > 0; at++, left--)
		if (*at != 0)
			return false;
	return true;
}

enum hfb_fault
hfb_batch_parse(uint32_t seed, uint64_t position, const void *bytes, size_t size,
		unsigned int checks, struct hfb_batch_view *ret_view)
{
	struct hfb_batch_view *v = ret_view;
	const uint8_t *at = bytes;
	struct hfb_batch h;
	enum hfb_fault fault;

	if (__builtin_expect(size < HFB_BATCH_HEADER_BYTES, 0)) {
		memset(v, 0, sizeof(*v));
		return HFB_FAULT_SHORT;
	}
	memcpy(&h, at, sizeof(h));
	if (position % HFB_BATCH_ALIGN != 0 || hfb_batch_crc(seed, position, &h) != h.header_crc)
		return HFB_FAULT_HEADER;
	fault = header_check(&h);
	if (fault != HFB_FAULT_NONE)
		return fault;

	/* straight into the caller's: a batch of one event is as much view as event */
	v->position = position;
	v->header = h;
	v->bytes = at;
	v->payload = at + HFB_BATCH_HEADER_BYTES;
	v->payload_bytes = h.size - HFB_BATCH_HEADER_BYTES;
	v->control = (h.flags & HFB_BATCH_CONTROL) != 0 ? control_type(&h) : 0;
	v->extension_kinds = 0;
	v->port_time_ns = 0;
	if (size < h.size)
		return HFB_FAULT_SHORT;
	/* Padding's content is whatever was there. */
	if (v->control == HFB_CONTROL_PADDING)
		return HFB_FAULT_NONE;
	if (h.flags & HFB_BATCH_EXTENSION) {
		fault = extension_check(v, v->payload, v->payload_bytes);
		if (fault != HFB_FAULT_NONE)
			return fault;
	}
	if ((checks & HFB_CHECK_PAYLOAD) &&
	    hfb_crc32c(0, v->payload, v->payload_bytes) != h.payload_crc)
		return HFB_FAULT_PAYLOAD;
	if ((checks & HFB_CHECK_RECORDS) == 0)
		return HFB_FAULT_NONE;
	if (v->control != 0)
		return control_check(v);
	if (h.encoding == HFB_ENCODING_COMPACTED)
		return compacted_check(v) ? HFB_FAULT_NONE : HFB_FAULT_RECORDS;
	return hfb_records_check(v->payload, v->payload_bytes, h.count) == 0 ? HFB_FAULT_NONE
									     : HFB_FAULT_RECORDS;
}

uint64_t
hfb_batch_end_sequence(const struct hfb_batch_view *view)
{
	struct hfb_control_gap gap;

	if (view->control == HFB_CONTROL_GAP && view->payload_bytes >= sizeof(gap)) {
		memcpy(&gap, view->payload, sizeof(gap));
		return gap.first + gap.count;
	}
	return view->header.base_sequence + view->header.count;
}

void
hfb_walk_init(struct hfb_walk *walk, uint32_t seed, uint64_t position, const void *bytes,
	      size_t size)
{
	walk->seed = seed;
	walk->position = position;
	walk->at = bytes;
	walk->left = size;
}

enum hfb_fault
hfb_walk_next(struct hfb_walk *walk, unsigned int checks, struct hfb_batch_view *ret_view)
{
	enum hfb_fault fault;

	if (walk->left == 0)
		return HFB_FAULT_END;
	fault = hfb_batch_parse(walk->seed, walk->position, walk->at, walk->left, checks, ret_view);
	if (fault == HFB_FAULT_NONE) {
		walk->position += ret_view->header.size;
		walk->at += ret_view->header.size;
		walk->left -= ret_view->header.size;
	}
	return fault;
}

/*
 * Could a header begin here? Three loads instead of a crc over 64 bytes; a
 * zeroed or foreign byte run is passed at memory speed.
 */
static bool
plausible(const uint8_t *at)
{
	uint32_t size, version_and_flags;
	uint16_t reserved;

	memcpy(&size, at, 4);
	if (size < HFB_BATCH_HEADER_BYTES || size > HFB_BATCH_BYTES_MAX ||
	    size % HFB_BATCH_ALIGN != 0)
		return false;
	memcpy(&version_and_flags, at + 20, 4);
	memcpy(&reserved, at + 62, 2);
	return (version_and_flags & 0xffu) == HFB_BATCH_VERSION &&
	       (version_and_flags >> 8 & 0xffu) <= HFB_ENCODING_COMPACTED &&
	       ((version_and_flags >> 16) & ~HFB_BATCH_FLAGS_KNOWN) == 0 && reserved == 0;
}

bool
hfb_batch_search(uint32_t seed, uint64_t position, const void *bytes, size_t size,
		 struct hfb_batch_view *ret_view)
{
	const uint8_t *at = bytes;
	struct hfb_batch_view v;
	enum hfb_fault fault;

	for (size_t i = 0; size - i >= HFB_BATCH_HEADER_BYTES && i < size; i += HFB_BATCH_ALIGN) {
		if (!plausible(at + i))
			continue;
		fault = hfb_batch_parse(seed, position + i, at + i, size - i, HFB_CHECK_HEADER, &v);
		if (fault == HFB_FAULT_NONE || fault == HFB_FAULT_SHORT ||
		    fault == HFB_FAULT_EXTENSION) {
			*ret_view = v;
			return true;
		}
	}
	return false;
}

void
hfb_record_first(const struct hfb_batch_view *view, struct hfb_record_view *r)
{
	memset(r, 0, sizeof(*r));
	r->at = view->payload;
	r->left = view->payload_bytes;
	r->count = view->control == 0 ? view->header.count : 0;
	r->index = UINT32_MAX;
	if (view->control == 0 && view->header.encoding == HFB_ENCODING_COMPACTED &&
	    view->payload_bytes >= sizeof(struct hfb_compacted_records)) {
		struct hfb_compacted_records head;
		uint32_t bytes;

		memcpy(&head, view->payload, sizeof(head));
		bytes = (uint32_t)(sizeof(head) + head.runs * sizeof(struct hfb_compacted_run));
		r->runs_left = head.runs;
		r->runs = view->payload + sizeof(head);
		r->at += bytes;
		r->left -= bytes;
		r->compacted = true;
	}
}

/* The index of the next record by its run. False: there is none. */
static bool
run_next(struct hfb_record_view *r)
{
	struct hfb_compacted_run run;

	if (r->run_left == 0) {
		if (r->runs_left == 0)
			return false;
		memcpy(&run, r->runs, sizeof(run));
		r->runs += sizeof(run);
		r->runs_left--;
		r->run_left = run.count;
		r->index = run.first - 1;
	}
	r->run_left--;
	return true;
}

bool
hfb_record_next(struct hfb_record_view *r)
{
	struct hfb_record h;
	const uint8_t *at;
	uint64_t bytes;

	if (r->compacted ? !run_next(r) : r->index + 1 >= r->count)
		return false;
	if (r->left < sizeof(h))
		return false;
	memcpy(&h, r->at, sizeof(h));
	bytes = hfb_record_bytes(h.value_size, h.key_size, h.headers_size);
	if (bytes > r->left)
		return false;
	at = r->at + sizeof(h);
	r->key_size = h.key_size == HFB_KEY_NULL ? 0 : h.key_size;
	r->key = h.key_size == HFB_KEY_NULL ? NULL : at;
	at += r->key_size;
	r->headers = at;
	r->headers_size = h.headers_size;
	at += h.headers_size;
	r->value = h.value_size == HFB_VALUE_NULL ? NULL : at;
	r->value_size = h.value_size == HFB_VALUE_NULL ? 0 : h.value_size;
	r->event_time_ns = h.event_time_ns;
	r->index++;
	r->at += bytes;
	r->left -= bytes;
	return true;
}

bool
hfb_header_next(const uint8_t *headers, uint16_t headers_size, uint32_t *at,
		const uint8_t **ret_name, uint16_t *ret_name_size, const uint8_t **ret_value,
		uint16_t *ret_value_size)
{
	uint16_t name_size, value_size;

	if (*at > headers_size || headers_size - *at < 4u)
		return false;
	memcpy(&name_size, headers + *at, 2);
	memcpy(&value_size, headers + *at + 2, 2);
	if ((uint32_t)name_size + value_size > headers_size - *at - 4u)
		return false;
	*ret_name = headers + *at + 4;
	*ret_name_size = name_size;
	*ret_value = headers + *at + 4 + name_size;
	*ret_value_size = value_size;
	*at += 4u + name_size + value_size;
	return true;
}
