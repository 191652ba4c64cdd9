/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hfbus/event.h - an event as programs see it, and its headers.
 *
 *	struct hfb_event event = { .value = text, .value_size = strlen(text) };
 *
 *	uint8_t headers[256];
 *	size_t n = 0;
 *	hfb_headers_add(headers, sizeof(headers), &n, "trace", 5, id, 16);
 *	event.headers = headers;
 *	event.headers_size = n;
 *
 * Threads: plain data and pure functions.
 * Memory:  an event points into memory of whoever made it: the caller's for
 *	    send, the subscriber's buffer (until its next call) for receive.
 */
#ifndef HFB_EVENT_H
#define HFB_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hfbus/limits.h>

#ifdef __cplusplus
extern "C" {
#endif

struct hfb_event {
	const void *key;       /* NULL = none (not the same as an empty one) */
	const void *headers;   /* encoded by hfb_headers_add() */
	const void *value;     /* NULL = tombstone (not the same as an empty one) */
	uint32_t key_size;     /* bytes, 0..HFB_KEY_BYTES_MAX */
	uint32_t headers_size; /* bytes, 0..HFB_HEADERS_BYTES_MAX */
	uint32_t value_size;   /* bytes */
	uint32_t reserved;     /* 0 */
	int64_t event_time_ns; /* producer's clock, UTC; 0 = none */
};

struct hfb_header {
	const char *name; /* not zero terminated */
	const void *value;
	uint16_t name_size, value_size;
};

/**
 * Append one header to the encoded block of *@size bytes at @to.
 *
 * Returns 0 and moves *@size, or -EMSGSIZE when @capacity or
 * HFB_HEADERS_BYTES_MAX does not allow it, and changes nothing.
 */
int hfb_headers_add(void *to, size_t capacity, size_t *size, const char *name, size_t name_size,
		    const void *value, size_t value_size);

/**
 * Walk an encoded block: start with *@at = 0.
 *
 * Returns 1 and fills *@ret_header, 0 at the end, -EBADMSG when the block is
 * not well formed from *@at on.
 */
int hfb_headers_next(const void *headers, size_t size, size_t *at, struct hfb_header *ret_header);

/** The partition a key goes to: murmur2 of the key as Kafka's clients take it. */
uint32_t hfb_key_partition(const void *key, size_t key_size, uint32_t partitions);

/** Bytes @event takes in a batch, or -EMSGSIZE when a size is out of its range. */
int64_t hfb_event_bytes(const struct hfb_event *event);

#ifdef __cplusplus
}
#endif
#endif
