/* SPDX-License-Identifier: Apache-2.0 */
/*
 * itch.h - messages shaped like Nasdaq's TotalView-ITCH 5.0, made from a seed and
 * a sequence number, so that a reader can make each one again and compare.
 *
 *	size = itch_message(seed, sequence, time_ns, to);
 *	same = itch_compare(seed, sequence, value, value_size);
 *
 * Sizes, types and their mix are those of an ordinary day; the content is noise.
 * The time of sending stands where ITCH has it: bytes 5..10, nanoseconds since
 * midnight UTC; it is the one part that the seed does not say.
 *
 * Threads: pure functions.
 * Cost:    about 10 ns a message.
 */
#ifndef HFB_BENCH_ITCH_H
#define HFB_BENCH_ITCH_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define ITCH_BYTES_MAX 44u
#define ITCH_DAY_NS    86400000000000ull

static inline uint64_t
itch_random(uint64_t seed, uint64_t n)
{
	uint64_t x = seed + n * 0x9e3779b97f4a7c15ull;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

static inline void
itch_put(uint8_t *to, uint64_t value, uint32_t bytes)
{
	while (bytes-- > 0) {
		to[bytes] = (uint8_t)value;
		value >>= 8;
	}
}

static inline uint64_t
itch_get(const uint8_t *from, uint32_t bytes)
{
	uint64_t value = 0;

	for (uint32_t i = 0; i < bytes; i++)
		value = value << 8 | from[i];
	return value;
}

/* The message's time of sending, ns since midnight UTC. */
static inline uint64_t
itch_time(const uint8_t *message)
{
	return itch_get(message + 5, 6);
}

/* Writes at most ITCH_BYTES_MAX. Returns the size. */
static inline uint32_t
itch_message(uint64_t seed, uint64_t sequence, uint64_t time_ns, uint8_t *to)
{
	/* of 64 messages: order book traffic is mostly adds and deletes */
	static const char mix[] =
		"AAAAAAAAAAAAAAAAAAAAAAAAAADDDDDDDDDDDDDDDDDDEEEEEXXXUUUUUUPPPFFC";
	static const char stocks[8][9] = { "AAPL    ", "MSFT    ", "NVDA    ", "AMZN    ",
					   "TSLA    ", "GOOG    ", "QQQ     ", "SPY     " };
	uint64_t r = itch_random(seed, sequence), s = itch_random(~seed, sequence);
	const char *stock = stocks[r >> 8 & 7];
	char type = mix[r & 63];

	to[0] = (uint8_t)type;
	itch_put(to + 1, r >> 8 & 7, 2);
	itch_put(to + 3, 0, 2);
	itch_put(to + 5, time_ns % ITCH_DAY_NS, 6);
	itch_put(to + 11, s, 8); /* order reference */
	switch (type) {
	case 'D':
		return 19;
	case 'X':
		itch_put(to + 19, 1 + (r >> 16) % 500, 4);
		return 23;
	case 'E':
	case 'C':
		itch_put(to + 19, 1 + (r >> 16) % 500, 4);
		itch_put(to + 23, s >> 7, 8); /* match number */
		if (type == 'E')
			return 31;
		to[31] = 'Y';
		itch_put(to + 32, 10000 + (r >> 32) % 5000000, 4);
		return 36;
	case 'U':
		itch_put(to + 19, s ^ r, 8); /* new reference */
		itch_put(to + 27, 100 + (r >> 16) % 900, 4);
		itch_put(to + 31, 10000 + (r >> 32) % 5000000, 4);
		return 35;
	default: /* A, F, P */
		to[19] = r & 1u << 30 ? 'B' : 'S';
		itch_put(to + 20, 100 + (r >> 16) % 900, 4);
		memcpy(to + 24, stock, 8);
		itch_put(to + 32, 10000 + (r >> 32) % 5000000, 4);
		if (type == 'A')
			return 36;
		if (type == 'F') {
			memcpy(to + 36, "HFBX", 4); /* attribution */
			return 40;
		}
		itch_put(to + 36, s >> 7, 8); /* match number */
		return 44;
	}
}

/* Is @value the message of that seed and sequence, whenever it was sent? */
static inline bool
itch_compare(uint64_t seed, uint64_t sequence, const void *value, uint32_t value_size)
{
	uint8_t message[ITCH_BYTES_MAX];

	if (value_size < 11)
		return false;
	if (itch_message(seed, sequence, itch_time(value), message) != value_size)
		return false;
	return memcmp(message, value, value_size) == 0;
}

#endif
