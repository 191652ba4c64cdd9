/* SPDX-License-Identifier: Apache-2.0 */
#include "reconcile.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bug.h"
#include "topic_record.h"
#include "uuid.h"

/* Both sides would have to change one name over and over to get here. */
#define STALE_RETRIES_MAX 16u

struct hfb_reconcile {
	struct hfb_reconcile_entry **entries; /* by name */
	uint32_t count, room;
	uint32_t dirty_count;
	uint32_t dirty_from; /* no dirty entry is below */
	bool up, listing, awaiting;
	enum { AWAIT_LIST, AWAIT_PUT, AWAIT_ADOPT } awaited;
	char cursor[256];
	struct hfb_ipc_topic sent; /* by the PUT or ADOPT under way */
	uint32_t stale_retries;
	uint64_t passes;
};

int
hfb_reconcile_create(struct hfb_reconcile **ret)
{
	struct hfb_reconcile *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return -ENOMEM;
	*ret = r;
	return 0;
}

void
hfb_reconcile_destroy(struct hfb_reconcile *r)
{
	if (r == NULL)
		return;
	for (uint32_t i = 0; i < r->count; i++)
		free(r->entries[i]);
	free(r->entries);
	free(r);
}

/* Index of the first entry whose name is not before @name. */
static uint32_t
place_of(const struct hfb_reconcile *r, const char *name)
{
	uint32_t low = 0, high = r->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct hfb_reconcile_entry *e = r->entries[middle];

		if (strcmp(e->has_ours ? e->ours.name : e->theirs.name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static const char *
entry_name(const struct hfb_reconcile_entry *e)
{
	return e->has_ours ? e->ours.name : e->theirs.name;
}

static struct hfb_reconcile_entry *
find(const struct hfb_reconcile *r, const char *name, uint32_t *ret_at)
{
	uint32_t at = place_of(r, name);

	*ret_at = at;
	if (at == r->count || strcmp(entry_name(r->entries[at]), name) != 0)
		return NULL;
	return r->entries[at];
}

static void
mark(struct hfb_reconcile *r, struct hfb_reconcile_entry *e, uint32_t at)
{
	if (!e->dirty)
		r->dirty_count++;
	e->dirty = true;
	if (at < r->dirty_from)
		r->dirty_from = at;
}

static void
unmark(struct hfb_reconcile *r, struct hfb_reconcile_entry *e)
{
	if (e->dirty)
		r->dirty_count--;
	e->dirty = false;
}

static struct hfb_reconcile_entry *
find_or_add(struct hfb_reconcile *r, const char *name, uint32_t *ret_at)
{
	struct hfb_reconcile_entry *e = find(r, name, ret_at);

	if (e != NULL)
		return e;
	if (r->count == r->room) {
		uint32_t room = r->room == 0 ? 64 : r->room * 2;
		struct hfb_reconcile_entry **grown = realloc(r->entries, room * sizeof(*grown));

		if (grown == NULL)
			return NULL;
		r->entries = grown;
		r->room = room;
	}
	e = calloc(1, sizeof(*e));
	if (e == NULL)
		return NULL;
	memmove(&r->entries[*ret_at + 1], &r->entries[*ret_at],
		(r->count - *ret_at) * sizeof(r->entries[0]));
	r->entries[*ret_at] = e;
	r->count++;
	if (*ret_at < r->dirty_from)
		r->dirty_from++;
	return e;
}

static void
drop_if_empty(struct hfb_reconcile *r, uint32_t at)
{
	struct hfb_reconcile_entry *e = r->entries[at];

	if (e->has_ours || e->has_theirs)
		return;
	unmark(r, e);
	r->count--;
	memmove(&r->entries[at], &r->entries[at + 1], (r->count - at) * sizeof(r->entries[0]));
	if (at < r->dirty_from)
		r->dirty_from--;
	free(e);
}

int
hfb_reconcile_ours(struct hfb_reconcile *r, const struct hfb_ipc_topic *topic, uint64_t revision)
{
	uint32_t at;
	struct hfb_reconcile_entry *e = find_or_add(r, topic->name, &at);

	if (e == NULL)
		return -ENOMEM;
	e->ours = *topic;
	e->has_ours = true;
	e->revision = revision;
	e->refused = 0;
	mark(r, e, at);
	if (r->awaiting && r->awaited == AWAIT_ADOPT && strcmp(r->sent.name, topic->name) == 0)
		r->awaiting = false;
	return 0;
}

void
hfb_reconcile_ours_removed(struct hfb_reconcile *r, const char *name)
{
	uint32_t at;
	struct hfb_reconcile_entry *e = find(r, name, &at);

	if (e == NULL)
		return;
	e->has_ours = false;
	e->revision = 0;
	e->refused = 0;
	if (e->has_theirs)
		mark(r, e, at);
	drop_if_empty(r, at);
}

static void
list_start(struct hfb_reconcile *r)
{
	r->listing = true;
	r->cursor[0] = '\0';
	for (uint32_t i = 0; i < r->count; i++) {
		struct hfb_reconcile_entry *e = r->entries[i];

		e->seen = false;
		e->refused = 0;
	}
}

void
hfb_reconcile_up(struct hfb_reconcile *r)
{
	hfb_reconcile_down(r);
	r->up = true;
	list_start(r);
}

void
hfb_reconcile_down(struct hfb_reconcile *r)
{
	r->up = false;
	r->listing = false;
	r->awaiting = false;
	r->stale_retries = 0;
	/* What hfbusd has is seen anew at the next listing; until then it is shown as it was. */
}

void
hfb_reconcile_refresh(struct hfb_reconcile *r)
{
	if (r->up && !r->listing)
		list_start(r);
}

/* A listing is through: what it did not show, hfbusd does not have. */
static void
list_end(struct hfb_reconcile *r)
{
	r->listing = false;
	r->passes++;
	for (uint32_t i = r->count; i-- > 0;) {
		struct hfb_reconcile_entry *e = r->entries[i];

		if (!e->seen)
			e->has_theirs = false;
		mark(r, e, i);
		drop_if_empty(r, i);
	}
}

int
hfb_reconcile_page(struct hfb_reconcile *r, const struct hfb_ipc_topic *topics, uint32_t count,
		   bool more)
{
	hfb_assert(r->awaiting);
	hfb_assert(r->awaited == AWAIT_LIST);
	r->awaiting = false;
	for (uint32_t i = 0; i < count; i++) {
		struct hfb_reconcile_entry *e;
		uint32_t at;

		/* hfbusd is another program: a name that does not end or go up is not used. */
		if (memchr(topics[i].name, '\0', sizeof(topics[i].name)) == NULL ||
		    strcmp(topics[i].name, r->cursor) <= 0)
			continue;
		e = find_or_add(r, topics[i].name, &at);
		if (e == NULL) {
			list_start(r);
			return -ENOMEM;
		}
		e->theirs = topics[i];
		e->has_theirs = true;
		e->seen = true;
		strcpy(r->cursor, topics[i].name);
	}
	if (!more || count == 0)
		list_end(r);
	return 0;
}

void
hfb_reconcile_put_done(struct hfb_reconcile *r, int error, const char *sentence)
{
	struct hfb_reconcile_entry *e;
	uint32_t at;

	hfb_assert(r->awaiting);
	hfb_assert(r->awaited == AWAIT_PUT);
	hfb_assert(error <= 0);
	r->awaiting = false;
	e = find(r, r->sent.name, &at);
	if (e == NULL)
		return;
	if (error == 0) {
		e->theirs = r->sent;
		e->has_theirs = true;
		e->seen = true;
		r->stale_retries = 0;
		mark(r, e, at); /* ours may have changed meanwhile */
		return;
	}
	if ((error == -ESTALE || error == -EEXIST || error == -ENOENT) &&
	    r->stale_retries < STALE_RETRIES_MAX) {
		/* hfbusd has another version than we thought: look, then decide again. */
		r->stale_retries++;
		list_start(r);
		return;
	}
	e->refused = error;
	snprintf(e->refusal, sizeof(e->refusal), "%s", sentence);
}

void
hfb_reconcile_adopt_failed(struct hfb_reconcile *r, int error, const char *sentence)
{
	struct hfb_reconcile_entry *e;
	uint32_t at;

	hfb_assert(r->awaiting);
	hfb_assert(r->awaited == AWAIT_ADOPT);
	r->awaiting = false;
	e = find(r, r->sent.name, &at);
	if (e == NULL)
		return;
	e->refused = error;
	snprintf(e->refusal, sizeof(e->refusal), "%s", sentence);
}

enum decision { NOTHING, PUT, ADOPT };

/* The rules of reconcile.h for one name. */
static enum decision
decide(const struct hfb_reconcile_entry *e, struct hfb_ipc_topic *ret_topic)
{
	const struct hfb_ipc_topic *ours = &e->ours, *theirs = &e->theirs;

	if (!e->has_theirs) {
		if (hfb_topic_record_deleted(ours))
			return NOTHING;
		*ret_topic = *ours;
		ret_topic->expected_version = 0;
		return PUT;
	}
	*ret_topic = *theirs;
	if (!e->has_ours)
		return ADOPT;
	if (hfb_topic_record_equal(ours, theirs))
		return NOTHING;
	if (theirs->version >= ours->version)
		return ADOPT;
	if (!hfb_uuid_equal(&ours->uuid, &theirs->uuid) && !hfb_topic_record_deleted(theirs)) {
		ret_topic->version = ours->version + 1; /* and then it is put */
		return ADOPT;
	}
	*ret_topic = *ours;
	ret_topic->expected_version = theirs->version;
	return PUT;
}

bool
hfb_reconcile_next(struct hfb_reconcile *r, struct hfb_reconcile_action *ret_action)
{
	if (!r->up || r->awaiting)
		return false;
	if (r->listing) {
		ret_action->what = HFB_RECONCILE_LIST;
		strcpy(ret_action->after, r->cursor);
		r->awaiting = true;
		r->awaited = AWAIT_LIST;
		return true;
	}
	for (uint32_t i = r->dirty_from; r->dirty_count > 0 && i < r->count; i++) {
		struct hfb_reconcile_entry *e = r->entries[i];
		enum decision d;

		r->dirty_from = i;
		if (!e->dirty)
			continue;
		unmark(r, e);
		if (e->refused != 0)
			continue;
		d = decide(e, &ret_action->topic);
		if (d == NOTHING)
			continue;
		ret_action->what = d == PUT ? HFB_RECONCILE_PUT : HFB_RECONCILE_ADOPT;
		ret_action->revision = e->revision;
		r->sent = ret_action->topic;
		r->awaiting = true;
		r->awaited = d == PUT ? AWAIT_PUT : AWAIT_ADOPT;
		return true;
	}
	r->dirty_from = r->count;
	return false;
}

enum hfb_reconcile_state
hfb_reconcile_state(const struct hfb_reconcile *r)
{
	if (!r->up)
		return HFB_RECONCILE_AWAY;
	if (r->listing)
		return HFB_RECONCILE_LISTING;
	return r->awaiting || r->dirty_count > 0 ? HFB_RECONCILE_SETTLING : HFB_RECONCILE_SETTLED;
}

uint64_t
hfb_reconcile_passes(const struct hfb_reconcile *r)
{
	return r->passes;
}

const struct hfb_reconcile_entry *
hfb_reconcile_find(const struct hfb_reconcile *r, const char *name)
{
	uint32_t at;

	return find(r, name, &at);
}

const struct hfb_reconcile_entry *
hfb_reconcile_after(const struct hfb_reconcile *r, const char *after)
{
	uint32_t at = place_of(r, after);

	if (at < r->count && strcmp(entry_name(r->entries[at]), after) == 0)
		at++;
	return at < r->count ? r->entries[at] : NULL;
}
