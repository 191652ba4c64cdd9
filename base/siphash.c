/* SPDX-License-Identifier: Apache-2.0 */
#include "siphash.h"

struct state {
	uint64_t v0, v1, v2, v3;
};

static inline uint64_t
rotate(uint64_t x, unsigned int by)
{
	return x << by | x >> (64 - by);
}

static inline void
sip_round(struct state *s)
{
	s->v0 += s->v1;
	s->v2 += s->v3;
	s->v1 = rotate(s->v1, 13) ^ s->v0;
	s->v3 = rotate(s->v3, 16) ^ s->v2;
	s->v0 = rotate(s->v0, 32);
	s->v2 += s->v1;
	s->v0 += s->v3;
	s->v1 = rotate(s->v1, 17) ^ s->v2;
	s->v3 = rotate(s->v3, 21) ^ s->v0;
	s->v2 = rotate(s->v2, 32);
}

static inline void
word_take(struct state *s, uint64_t word)
{
	s->v3 ^= word;
	sip_round(s);
	sip_round(s);
	s->v0 ^= word;
}

static inline uint64_t
word_read(const uint8_t *from, size_t bytes)
{
	uint64_t word = 0;

	for (size_t i = 0; i < bytes; i++)
		word |= (uint64_t)from[i] << 8 * i;
	return word;
}

uint64_t
hfb_siphash(const struct hfb_siphash_key *key, const void *bytes, size_t size)
{
	struct state s = {
		.v0 = key->low ^ 0x736f6d6570736575u, /* "somepseudorandomlygeneratedbytes" */
		.v1 = key->high ^ 0x646f72616e646f6du,
		.v2 = key->low ^ 0x6c7967656e657261u,
		.v3 = key->high ^ 0x7465646279746573u,
	};
	const uint8_t *at = bytes;
	size_t left = size;

	for (; left >= 8; left -= 8, at += 8)
		word_take(&s, word_read(at, 8));
	word_take(&s, word_read(at, left) | (uint64_t)(size & 255) << 56);
	s.v2 ^= 0xff;
	for (unsigned int i = 0; i < 4; i++)
		sip_round(&s);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}
