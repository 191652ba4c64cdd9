/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_line.h - events as lines of JSON, fast.
 *
 *	hfb_json_item(&out, "orders", item);	one line with its end
 *
 * Written by hand as a library that builds a tree first takes ten times as long,
 * and millions of events are read back this way. Strings are checked to be UTF-8
 * (RFC 3629) while they are escaped (RFC 8259); others become base64 (RFC 4648).
 *
 * Threads: one a buffer.
 * Memory:  the buffer grows as needed; a failed growth sets `failed`.
 */
#ifndef HFB_JSON_LINE_H
#define HFB_JSON_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hfbus/sub.h>

struct hfb_text {
	char *bytes;
	size_t used, capacity;
	bool failed;
};

void hfb_text_fini(struct hfb_text *t);
bool hfb_text_room(struct hfb_text *t, size_t size); /* at least @size more */
void hfb_text_add(struct hfb_text *t, const void *bytes, size_t size);
void hfb_text_string(struct hfb_text *t, const char *text);
void hfb_text_number(struct hfb_text *t, uint64_t n);
void hfb_text_signed(struct hfb_text *t, int64_t n);

/* A JSON string in quotes. False, and nothing is written, when it is not UTF-8. */
bool hfb_json_string(struct hfb_text *t, const void *bytes, size_t size);
void hfb_json_base64(struct hfb_text *t, const void *bytes, size_t size);

/* An event, a gap or a mark, with "\n". */
void hfb_json_item(struct hfb_text *t, const char *topic, const struct hfb_item *item);

const char *hfb_item_kind_name(enum hfb_item_kind kind);

#endif
