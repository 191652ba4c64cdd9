/* SPDX-License-Identifier: Apache-2.0 */
#include "truth.h"

#include <stdlib.h>
#include <string.h>

#include "bug.h"
#include "sim_disk.h"

void
event_payload(uint8_t *to, uint64_t id, uint32_t bytes)
{
	uint64_t x = id * 0x9e3779b97f4a7c15ull + 1;

	memcpy(to, &id, 8);
	for (uint32_t i = 8; i < bytes; i++)
		to[i] = (uint8_t)(sim_random(&x) >> 56);
}

bool
event_is(const struct hfb_record_view *r, const struct event *e)
{
	uint8_t expected[4096];

	if (r->value == NULL || r->value_size != e->bytes)
		return false;
	event_payload(expected, e->id, e->bytes);
	return memcmp(expected, r->value, e->bytes) == 0;
}

uint32_t
event_key(const struct event *e)
{
	return (uint32_t)(e->id * 0x9e3779b97f4a7c15ull >> 40) % KEYS;
}

uint64_t
producer_id(uint32_t partition, uint32_t producer)
{
	return 0x1000 + partition * 16 + producer;
}

void
truth_add(struct truth *t, const struct event *e)
{
	if (t->count == t->max) {
		t->max = t->max == 0 ? 1024 : t->max * 2;
		t->events = realloc(t->events, t->max * sizeof(*t->events));
		hfb_assert(t->events != NULL);
	}
	t->events[t->count++] = *e;
}

void
truth_apply(struct truth *t, const struct note *n)
{
	switch (n->kind) {
	case NOTE_APPEND:
		truth_add(t, &n->event);
		break;
	case NOTE_ACK:
		t->acked = n->value;
		break;
	case NOTE_CUT:
		t->count = n->value;
		break;
	}
}

struct truth
truth_copy(const struct truth *t)
{
	struct truth copy = *t;

	copy.max = copy.count + 1;
	copy.events = malloc(copy.max * sizeof(*copy.events));
	hfb_assert(copy.events != NULL);
	if (copy.count > 0)
		memcpy(copy.events, t->events, copy.count * sizeof(*copy.events));
	return copy;
}

void
truth_fini(struct truth *t)
{
	free(t->events);
}

uint64_t
truth_sequence_after(const struct truth *t, uint32_t producer, uint64_t count)
{
	for (uint64_t i = count; i-- > 0;)
		if (t->events[i].producer == producer)
			return t->events[i].sequence + 1;
	return 0;
}
