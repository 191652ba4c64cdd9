/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uuid.h - RFC 4122 uuids: make, print, read.
 *
 *	hfb_uuid_random(&topic->uuid);
 *	hfb_uuid_format(&topic->uuid, text);	"4fbb0a3e-..." 36 characters
 *
 * Threads: any.
 * Cost:    random enters the kernel (getrandom); not for poll cores.
 */
#ifndef HFB_UUID_H
#define HFB_UUID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <hfbus/types.h>

#define HFB_UUID_TEXT_BYTES 37u /* with the closing zero */

/* Fill @bytes from the kernel's generator; never fails once the kernel is up. */
void hfb_random(void *bytes, size_t size);
void hfb_uuid_random(struct hfb_uuid *ret); /* version 4 */

/* Lower or upper case, with dashes. 0, or -EINVAL and *@ret is untouched. */
int hfb_uuid_parse(const char *text, struct hfb_uuid *ret);
void hfb_uuid_format(const struct hfb_uuid *uuid, char to[static HFB_UUID_TEXT_BYTES]);

static inline bool
hfb_uuid_equal(const struct hfb_uuid *a, const struct hfb_uuid *b)
{
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

static inline bool
hfb_uuid_is_null(const struct hfb_uuid *uuid)
{
	static const struct hfb_uuid null;

	return hfb_uuid_equal(uuid, &null);
}

#endif
