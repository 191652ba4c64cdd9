/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session_table.c - the memory of a core's sessions, bindings and subscriptions: one block,
 * made at the start.
 *
 *	| head | sessions | bindings | subscriptions | hashes | ... read buffers, page by page |
 */
#include <errno.h>
#include <stdlib.h>

#include "session.h"
#include "siphash.h"

#define PAGE 4096u

static uint32_t
power_of_two(uint32_t n)
{
	uint32_t p = 4;

	while (p < n)
		p *= 2;
	return p;
}

/* Room for @count things of @size at *@at, which goes behind them, to the next line. */
static void *
place(uint8_t *block, uint64_t *at, uint64_t count, uint64_t size)
{
	uint8_t *to = block != NULL ? block + *at : NULL;

	*at = (*at + count * size + 63) & ~63ull;
	return to;
}

/* Where everything of @s stands in @block; returns its bytes. NULL: only these. */
static uint64_t
lay_out(struct hfb_sessions *s, uint8_t *block)
{
	uint64_t at = 0;

	place(block, &at, 1, sizeof(*s));
	s->session = place(block, &at, s->sessions_max, sizeof(*s->session));
	s->binding = place(block, &at, s->bindings_max, sizeof(*s->binding));
	s->subscription = place(block, &at, s->subscriptions_max, sizeof(*s->subscription));
	s->session_hash = place(block, &at, s->session_mask + 1u, sizeof(*s->session_hash));
	s->binding_hash = place(block, &at, s->binding_mask + 1u, sizeof(*s->binding_hash));
	at = (at + PAGE - 1) & ~(uint64_t)(PAGE - 1);
	for (uint32_t i = 0; i < HFB_READERS; i++) {
		s->reader[i].read.buffer = place(block, &at, 1, HFB_READER_BYTES);
		s->reader[i].read.buffer_bytes = HFB_READER_BYTES;
	}
	return at;
}

static void
free_lists_make(struct hfb_sessions *s)
{
	for (uint32_t i = 0; i < s->sessions_max; i++)
		s->session[i].next_free = i + 1 < s->sessions_max ? i + 1 : HFB_NONE;
	for (uint32_t i = 0; i < s->bindings_max; i++)
		s->binding[i].next_free = i + 1 < s->bindings_max ? i + 1 : HFB_NONE;
	for (uint32_t i = 0; i < s->subscriptions_max; i++)
		s->subscription[i].next_free = i + 1 < s->subscriptions_max ? i + 1 : HFB_NONE;
}

static void
number_key_make(struct hfb_sessions *s, const struct hfb_core *core)
{
	struct hfb_siphash_key secret;

	memcpy(&secret, core->node->secret, sizeof(secret));
	for (uint32_t i = 0; i < 2; i++) {
		const uint64_t word[2] = { 0x7265626d756e0000ull + core->id, i };
		uint64_t half = hfb_siphash(&secret, word, sizeof(word));

		memcpy(s->number_key + 8 * i, &half, 8);
	}
}

int
hfb_sessions_create(struct hfb_core *core, struct hfb_err *err)
{
	const struct hfb_config *config = core->node->config;
	struct hfb_sessions s = {
		.sessions_max = config->sessions_max != 0 ? config->sessions_max : 1024,
		.bindings_max = config->producers_max != 0 ? config->producers_max : 1024,
		.subscriptions_max =
			config->subscriptions_max != 0 ? config->subscriptions_max : 1024,
	};
	uint64_t bytes;
	uint8_t *block;

	s.session_mask = power_of_two(2 * s.sessions_max) - 1;
	s.binding_mask = power_of_two(2 * s.bindings_max) - 1;
	s.bindings_each_max = s.bindings_max / HFB_BINDINGS_SHARE;
	if (s.bindings_each_max < 16)
		s.bindings_each_max = s.bindings_max < 16 ? s.bindings_max : 16;
	bytes = lay_out(&s, NULL);
	block = aligned_alloc(PAGE, bytes);
	if (block == NULL)
		return hfb_err_set(err, -ENOMEM,
				   "no memory for the sessions of core %u, see"
				   " sessions_max, producers_max and subscriptions_max",
				   core->id);
	/* touched now: a page fault on a poll core would be a hidden allocation */
	memset(block, 0, bytes);
	s.block = block;
	lay_out(&s, block);
	free_lists_make(&s);
	number_key_make(&s, core);
	core->sessions = memcpy(block, &s, sizeof(s));
	return 0;
}

void
hfb_sessions_destroy(struct hfb_core *core)
{
	if (core == NULL || core->sessions == NULL)
		return;
	free(core->sessions->block);
	core->sessions = NULL;
}
