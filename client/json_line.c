/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_line.c - see json_line.h.
 */
#include "json_line.h"

#include <stdlib.h>
#include <string.h>

void
hfb_text_fini(struct hfb_text *t)
{
	free(t->bytes);
	memset(t, 0, sizeof(*t));
}

bool
hfb_text_room(struct hfb_text *t, size_t size)
{
	size_t capacity = t->capacity == 0 ? 65536 : t->capacity;
	char *bytes;

	if (t->used + size <= t->capacity)
		return true;
	while (capacity < t->used + size)
		capacity *= 2;
	bytes = realloc(t->bytes, capacity);
	if (bytes == NULL) {
		t->failed = true;
		return false;
	}
	t->bytes = bytes;
	t->capacity = capacity;
	return true;
}

void
hfb_text_add(struct hfb_text *t, const void *bytes, size_t size)
{
	if (size == 0 || !hfb_text_room(t, size))
		return;
	memcpy(t->bytes + t->used, bytes, size);
	t->used += size;
}

void
hfb_text_string(struct hfb_text *t, const char *text)
{
	hfb_text_add(t, text, strlen(text));
}

void
hfb_text_number(struct hfb_text *t, uint64_t n)
{
	char digits[20];
	size_t at = sizeof(digits);

	do {
		digits[--at] = (char)('0' + n % 10);
		n /= 10;
	} while (n != 0);
	hfb_text_add(t, digits + at, sizeof(digits) - at);
}

void
hfb_text_signed(struct hfb_text *t, int64_t n)
{
	if (n < 0) {
		hfb_text_add(t, "-", 1);
		hfb_text_number(t, 0 - (uint64_t)n);
		return;
	}
	hfb_text_number(t, (uint64_t)n);
}

/* Bytes of the well-formed sequence at @s (RFC 3629 section 4), 0 = none. */
static size_t
utf8_length(const uint8_t *s, size_t left)
{
	uint8_t a = s[0];

	if (a < 0x80)
		return 1;
	if (a >= 0xc2 && a <= 0xdf)
		return left >= 2 && (s[1] & 0xc0) == 0x80 ? 2 : 0;
	if (a >= 0xe0 && a <= 0xef) {
		if (left < 3 || (s[1] & 0xc0) != 0x80 || (s[2] & 0xc0) != 0x80)
			return 0;
		if ((a == 0xe0 && s[1] < 0xa0) || (a == 0xed && s[1] > 0x9f))
			return 0; /* overlong, surrogate */
		return 3;
	}
	if (a >= 0xf0 && a <= 0xf4) {
		if (left < 4 || (s[1] & 0xc0) != 0x80 || (s[2] & 0xc0) != 0x80 ||
		    (s[3] & 0xc0) != 0x80)
			return 0;
		if ((a == 0xf0 && s[1] < 0x90) || (a == 0xf4 && s[1] > 0x8f))
			return 0;
		return 4;
	}
	return 0;
}

bool
hfb_json_string(struct hfb_text *t, const void *bytes, size_t size)
{
	static const char hex[] = "0123456789abcdef";
	const uint8_t *s = (const uint8_t *)bytes;
	size_t began = t->used, i = 0;
	char *to;

	/* the longest escape is six for one */
	if (!hfb_text_room(t, size * 6 + 2))
		return true;
	to = t->bytes + t->used;
	*to++ = '"';
	while (i < size) {
		uint8_t c = s[i];
		size_t n;

		if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
			*to++ = (char)c;
			i++;
			continue;
		}
		if (c >= 0x80) {
			n = utf8_length(s + i, size - i);
			if (n == 0) {
				t->used = began;
				return false;
			}
			memcpy(to, s + i, n);
			to += n;
			i += n;
			continue;
		}
		*to++ = '\\';
		switch (c) {
		case '"':
		case '\\':
			*to++ = (char)c;
			break;
		case '\n':
			*to++ = 'n';
			break;
		case '\r':
			*to++ = 'r';
			break;
		case '\t':
			*to++ = 't';
			break;
		default:
			memcpy(to, "u00", 3); /* NOLINT(bugprone-not-null-terminated-result) */
			to[3] = hex[c >> 4];
			to[4] = hex[c & 15];
			to += 5;
		}
		i++;
	}
	*to++ = '"';
	t->used = (size_t)(to - t->bytes);
	return true;
}

void
hfb_json_base64(struct hfb_text *t, const void *bytes, size_t size)
{
	static const char code[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const uint8_t *s = (const uint8_t *)bytes;
	char *to;

	if (!hfb_text_room(t, size / 3 * 4 + 8))
		return;
	to = t->bytes + t->used;
	*to++ = '"';
	for (; size >= 3; s += 3, size -= 3) {
		uint32_t v = (uint32_t)s[0] << 16 | (uint32_t)s[1] << 8 | s[2];

		*to++ = code[v >> 18];
		*to++ = code[v >> 12 & 63];
		*to++ = code[v >> 6 & 63];
		*to++ = code[v & 63];
	}
	if (size > 0) {
		uint32_t v = (uint32_t)s[0] << 16 | (size == 2 ? (uint32_t)s[1] << 8 : 0);

		*to++ = code[v >> 18];
		*to++ = code[v >> 12 & 63];
		*to++ = size == 2 ? code[v >> 6 & 63] : '=';
		*to++ = '=';
	}
	*to++ = '"';
	t->used = (size_t)(to - t->bytes);
}

static void
named_bytes(struct hfb_text *t, const char *name, const char *encoding, const void *bytes,
	    size_t size)
{
	hfb_text_string(t, name);
	if (bytes == NULL) {
		hfb_text_string(t, "null");
		return;
	}
	if (hfb_json_string(t, bytes, size))
		return;
	hfb_json_base64(t, bytes, size);
	hfb_text_string(t, encoding);
}

static void
headers(struct hfb_text *t, const struct hfb_event *event)
{
	struct hfb_header h;
	bool first = true;
	size_t at = 0;

	hfb_text_string(t, ",\"headers\":{");
	while (hfb_headers_next(event->headers, event->headers_size, &at, &h) == 1) {
		if (!first)
			hfb_text_add(t, ",", 1);
		first = false;
		if (!hfb_json_string(t, h.name, h.name_size))
			hfb_json_base64(t, h.name, h.name_size);
		hfb_text_add(t, ":", 1);
		if (!hfb_json_string(t, h.value, h.value_size)) {
			hfb_text_string(t, "{\"encoding\":\"base64\",\"value\":");
			hfb_json_base64(t, h.value, h.value_size);
			hfb_text_add(t, "}", 1);
		}
	}
	hfb_text_add(t, "}", 1);
}

static void
session(struct hfb_text *t, const struct hfb_item *item)
{
	hfb_text_string(t, "\"session\":");
	if (item->feed.session[0] == '\0')
		hfb_text_string(t, "null");
	else if (!hfb_json_string(t, item->feed.session, strlen(item->feed.session)))
		hfb_json_base64(t, item->feed.session, strlen(item->feed.session));
}

static void
named_number(struct hfb_text *t, const char *name, uint64_t n)
{
	hfb_text_string(t, name);
	hfb_text_number(t, n);
}

const char *
hfb_item_kind_name(enum hfb_item_kind kind)
{
	switch (kind) {
	case HFB_ITEM_EVENT:
		return "event";
	case HFB_ITEM_GAP:
		return "gap";
	case HFB_ITEM_TRUNCATED:
		return "truncated";
	case HFB_ITEM_LAPPED:
		return "lapped";
	case HFB_ITEM_RETIRED:
		return "retired";
	case HFB_ITEM_CORRUPT:
		return "corrupt";
	}
	return "unknown";
}

static void
mark(struct hfb_text *t, const struct hfb_item *item)
{
	hfb_text_string(t, ",\"mark\":{\"kind\":\"");
	hfb_text_string(t, hfb_item_kind_name(item->kind));
	named_number(t, "\",\"from_position\":", item->mark.from_position);
	named_number(t, ",\"to_position\":", item->mark.to_position);
	named_number(t, ",\"from_offset\":", item->mark.from_offset);
	if (item->mark.to_offset != UINT64_MAX)
		named_number(t, ",\"to_offset\":", item->mark.to_offset);
	if (item->kind == HFB_ITEM_TRUNCATED)
		named_number(t, ",\"epoch\":", item->mark.epoch);
	if (item->kind == HFB_ITEM_CORRUPT)
		named_bytes(t, ",\"path\":", "", item->mark.path, strlen(item->mark.path));
	hfb_text_string(t, "}}\n");
}

void
hfb_json_item(struct hfb_text *t, const char *topic, const struct hfb_item *item)
{
	hfb_text_string(t, "{\"topic\":\"");
	hfb_text_string(t, topic); /* names are [A-Za-z0-9._-] */
	named_number(t, "\",\"partition\":", item->partition);
	if (item->kind != HFB_ITEM_EVENT && item->kind != HFB_ITEM_GAP) {
		mark(t, item);
		return;
	}
	named_number(t, ",\"offset\":", item->offset);
	named_number(t, ",\"timestamp_ns\":", item->timestamp_ns);
	if (item->kind == HFB_ITEM_GAP) {
		hfb_text_string(t, ",\"gap\":{");
		session(t, item);
		named_number(t, ",\"first\":", item->feed.sequence);
		named_number(t, ",\"count\":", item->feed.gap_count);
		hfb_text_string(t, item->feed.gap_cause == 2 ? ",\"cause\":\"local\"}}\n"
							     : ",\"cause\":\"wire\"}}\n");
		return;
	}
	hfb_text_string(t, ",\"event_time_ns\":");
	hfb_text_signed(t, item->event.event_time_ns);
	named_bytes(t, ",\"key\":", ",\"key_encoding\":\"base64\"", item->event.key,
		    item->event.key_size);
	headers(t, &item->event);
	named_bytes(t, ",\"value\":", ",\"encoding\":\"base64\"", item->event.value,
		    item->event.value_size);
	if (item->is_feed) {
		hfb_text_string(t, ",\"feed\":{");
		session(t, item);
		named_number(t, ",\"sequence\":", item->feed.sequence);
		hfb_text_string(t, ",\"send_time_ns\":");
		hfb_text_signed(t, item->event.event_time_ns);
		hfb_text_add(t, "}", 1);
	}
	hfb_text_string(t, "}\n");
}
