/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event.c - headers, sizes, and the partition of a key.
 */
#include <hfbus/event.h>

#include <errno.h>
#include <string.h>

#include <hfbus/log.h>

#include "batch.h"

int
hfb_headers_add(void *to, size_t capacity, size_t *size, const char *name, size_t name_size,
		const void *value, size_t value_size)
{
	uint8_t *at = (uint8_t *)to + *size;
	uint16_t sizes[2];

	if (name_size > 65535 || value_size > 65535 ||
	    *size + 4 + name_size + value_size > HFB_HEADERS_BYTES_MAX ||
	    *size + 4 + name_size + value_size > capacity)
		return -EMSGSIZE;
	sizes[0] = (uint16_t)name_size;
	sizes[1] = (uint16_t)value_size;
	memcpy(at, sizes, 4);
	if (name_size > 0)
		memcpy(at + 4, name, name_size);
	if (value_size > 0)
		memcpy(at + 4 + name_size, value, value_size);
	*size += 4 + name_size + value_size;
	return 0;
}

int
hfb_headers_next(const void *headers, size_t size, size_t *at, struct hfb_header *ret_header)
{
	const uint8_t *from = (const uint8_t *)headers + *at;
	uint16_t sizes[2];

	if (*at == size)
		return 0;
	if (*at > size || size - *at < 4)
		return -EBADMSG;
	memcpy(sizes, from, 4);
	if (size - *at - 4 < (size_t)sizes[0] + sizes[1])
		return -EBADMSG;
	ret_header->name = (const char *)from + 4;
	ret_header->name_size = sizes[0];
	ret_header->value = from + 4 + sizes[0];
	ret_header->value_size = sizes[1];
	*at += 4 + (size_t)sizes[0] + sizes[1];
	return 1;
}

/*
 * MurmurHash2 (Austin Appleby, public domain), 32 bits, with the seed and the
 * byte order that Kafka's Java client uses, so that keys land where they are
 * expected by programs that come from there.
 */
static uint32_t
murmur2(const uint8_t *bytes, size_t size)
{
	const uint32_t m = 0x5bd1e995;
	uint32_t h = 0x9747b28cu ^ (uint32_t)size, k;

	for (; size >= 4; bytes += 4, size -= 4) {
		memcpy(&k, bytes, 4);
		k *= m;
		k ^= k >> 24;
		k *= m;
		h = h * m ^ k;
	}
	switch (size) {
	case 3:
		h ^= (uint32_t)bytes[2] << 16;
		/* fall through */
	case 2:
		h ^= (uint32_t)bytes[1] << 8;
		/* fall through */
	case 1:
		h ^= bytes[0];
		h *= m;
	}
	h ^= h >> 13;
	h *= m;
	h ^= h >> 15;
	return h;
}

uint32_t
hfb_key_partition(const void *key, size_t key_size, uint32_t partitions)
{
	if (partitions <= 1)
		return 0;
	return (murmur2(key, key_size) & 0x7fffffffu) % partitions;
}

int64_t
hfb_event_bytes(const struct hfb_event *event)
{
	uint64_t n;

	if ((event->key != NULL && event->key_size > HFB_KEY_BYTES_MAX) ||
	    event->headers_size > HFB_HEADERS_BYTES_MAX ||
	    (event->value != NULL && event->value_size > HFB_EVENT_BYTES_MAX))
		return -EMSGSIZE;
	n = hfb_record_bytes(event->value != NULL ? event->value_size : HFB_VALUE_NULL,
			     event->key != NULL ? (uint16_t)event->key_size : HFB_KEY_NULL,
			     (uint16_t)event->headers_size);
	if (n > HFB_BATCH_BYTES_MAX - HFB_BATCH_HEADER_BYTES)
		return -EMSGSIZE;
	return (int64_t)n;
}
