/* SPDX-License-Identifier: Apache-2.0 */
#include "units.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

struct unit {
	const char *name;
	uint64_t factor;
};

static int
quantity_parse(const char *text, const struct unit *units, size_t units_count, uint64_t *ret)
{
	uint64_t value = 0;
	const char *at = text;

	if (*at < '0' || *at > '9')
		return -EINVAL;
	for (; *at >= '0' && *at <= '9'; at++) {
		if (__builtin_mul_overflow(value, 10u, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value))
			return -EINVAL;
	}
	if (value == 0 && *at == '\0') {
		*ret = 0;
		return 0;
	}
	for (size_t i = 0; i < units_count; i++) {
		if (strcmp(at, units[i].name) != 0)
			continue;
		if (__builtin_mul_overflow(value, units[i].factor, &value))
			return -EINVAL;
		*ret = value;
		return 0;
	}
	return -EINVAL;
}

int
hfb_bytes_parse(const char *text, uint64_t *ret_bytes)
{
	static const struct unit units[] = {
		{ "", 1 },
		{ "B", 1 },
		{ "k", 1ull << 10 },
		{ "K", 1ull << 10 },
		{ "KiB", 1ull << 10 },
		{ "M", 1ull << 20 },
		{ "MiB", 1ull << 20 },
		{ "G", 1ull << 30 },
		{ "GiB", 1ull << 30 },
		{ "T", 1ull << 40 },
		{ "TiB", 1ull << 40 },
	};

	return quantity_parse(text, units, sizeof(units) / sizeof(units[0]), ret_bytes);
}

int
hfb_duration_parse(const char *text, uint64_t *ret_ns)
{
	static const struct unit units[] = {
		{ "ns", 1 },
		{ "us", 1000 },
		{ "ms", 1000000 },
		{ "s", 1000000000ull },
		{ "m", 60 * 1000000000ull },
		{ "h", 3600 * 1000000000ull },
		{ "d", 86400 * 1000000000ull },
		{ "w", 7 * 86400 * 1000000000ull },
	};

	return quantity_parse(text, units, sizeof(units) / sizeof(units[0]), ret_ns);
}

int
hfb_number_parse(const char *text, uint64_t *ret)
{
	static const struct unit none = { "", 1 };

	return quantity_parse(text, &none, 1, ret);
}

int
hfb_hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}
