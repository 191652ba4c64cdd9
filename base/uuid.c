/* SPDX-License-Identifier: Apache-2.0 */
#include "uuid.h"

#include <errno.h>
#include <sys/random.h>

#include "bug.h"
#include "units.h"

void
hfb_random(void *bytes, size_t size)
{
	uint8_t *to = bytes;

	while (size > 0) {
		ssize_t n = getrandom(to, size, 0);

		if (n < 0 && errno == EINTR)
			continue;
		/* Keys and ids that are not random are worse than no process. */
		hfb_assert(n > 0);
		to += n;
		size -= (size_t)n;
	}
}

void
hfb_uuid_random(struct hfb_uuid *ret)
{
	hfb_random(ret->bytes, sizeof(ret->bytes));
	ret->bytes[6] = (ret->bytes[6] & 0x0f) | 0x40;
	ret->bytes[8] = (ret->bytes[8] & 0x3f) | 0x80;
}

static bool
dash_before(unsigned int byte)
{
	return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

int
hfb_uuid_parse(const char *text, struct hfb_uuid *ret)
{
	struct hfb_uuid uuid;

	for (unsigned int i = 0; i < 16; i++) {
		int high, low;

		if (dash_before(i) && *text++ != '-')
			return -EINVAL;
		high = hfb_hex_digit(text[0]);
		if (high < 0)
			return -EINVAL;
		low = hfb_hex_digit(text[1]);
		if (low < 0)
			return -EINVAL;
		uuid.bytes[i] = (uint8_t)(high << 4 | low);
		text += 2;
	}
	if (*text != '\0')
		return -EINVAL;
	*ret = uuid;
	return 0;
}

void
hfb_uuid_format(const struct hfb_uuid *uuid, char to[static HFB_UUID_TEXT_BYTES])
{
	static const char digits[] = "0123456789abcdef";

	for (unsigned int i = 0; i < 16; i++) {
		if (dash_before(i))
			*to++ = '-';
		*to++ = digits[uuid->bytes[i] >> 4];
		*to++ = digits[uuid->bytes[i] & 15];
	}
	*to = '\0';
}
