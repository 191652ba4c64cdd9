/* SPDX-License-Identifier: Apache-2.0 */
/*
 * groups_write.c - what goes to __offsets: records are collected in a batch while the one before
 * it is written, those who wait for it are answered when it is durable; now and then a snapshot of
 * all there is.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "group_record.h"
#include "groups_private.h"

#define EVENT_BYTES    (32u * 1024u) /* commits of a group share an event up to here */
#define LINGER_NS      5000000ull    /* between writes while commits come in crowds */
#define LINGER_COMMITS 64u
#define BATCH_COMMITS  16384u
/* A snapshot after this much, and four times its own size: so start-up reads little. */
#define SNAPSHOT_BYTES (8u * 1024u * 1024u)

/* The batch that is collected --------------------------------------------------- */

/* An event for one more record of @group, with room for @bytes; NULL when memory is out. */
static struct hfb_bytes *
open_event(struct hfb_groups *g, const char *group, enum hfb_offset_record_kind kind, size_t bytes)
{
	struct hfb_offset_event *last;

	if (g->open == NULL)
		g->open = hfb_offset_batch_create();
	if (g->open == NULL)
		return NULL;
	last = g->open->count > 0 ? &g->open->events[g->open->count - 1] : NULL;
	if (kind != HFB_RECORD_COMMITS || last == NULL || strcmp(last->group, group) != 0 ||
	    last->value.used >= EVENT_BYTES ||
	    ((struct hfb_offset_record_head *)(void *)last->value.at)->kind != kind) {
		last = hfb_offset_batch_event(g->open, group);
		if (last == NULL)
			return NULL;
		hfb_offset_record_begin(&last->value, kind, hfb_groups_now_ns(CLOCK_REALTIME));
	}
	if (!last->value.failed && hfb_bytes_reserve(&last->value, bytes) == 0)
		return &last->value;
	if (last->value.used <= sizeof(struct hfb_offset_record_head)) {
		hfb_bytes_fini(&last->value);
		g->open->count--;
	}
	return NULL;
}

bool
hfb_groups_wait(struct hfb_groups *g, hfb_groups_fn *done, void *arg, json_t *answer)
{
	struct hfb_waiting *w = malloc(sizeof(*w));

	if (w == NULL) {
		json_decref(answer);
		return false;
	}
	*w = (struct hfb_waiting){ NULL, done, arg, answer };
	*g->open_end = w;
	g->open_end = &w->next;
	return true;
}

int
hfb_groups_write_commits(struct hfb_groups *g, struct hfb_group_entry *e,
			 const struct hfb_topic_commit *commits, uint32_t count, bool force)
{
	struct hfb_commit *fresh = malloc((count + 1) * sizeof(*fresh));
	struct hfb_bytes *value;
	int r = fresh != NULL ? 0 : -ENOMEM;

	for (uint32_t i = 0, n, end; i < count && r == 0; i = end) {
		struct hfb_uuid uuid;

		for (end = i + 1; end < count && commits[end].topic == commits[i].topic; end++)
			;
		if (!hfb_groups_topic(g, commits[i].topic, NULL, &uuid)) {
			r = -ENOENT;
			break;
		}
		value = open_event(g, hfb_group_name(e->machine), HFB_RECORD_COMMITS,
				   (end - i) * sizeof(*fresh) + HFB_TOPIC_NAME_MAX + 32u);
		if (value == NULL) {
			r = -ENOMEM;
			break;
		}
		n = 0;
		for (uint32_t k = i; k < end && r >= 0; k++) {
			r = hfb_offsets_want(&e->offsets, commits[k].topic, &uuid,
					     &commits[k].commit, force);
			if (r > 0)
				fresh[n++] = commits[k].commit;
		}
		r = r < 0 ? r : 0;
		if (n > 0)
			hfb_offset_record_topic(value, commits[i].topic, &uuid, fresh, n);
		g->open_commits += n;
		g->stats.commits += end - i;
	}
	free(fresh);
	return r;
}

int
hfb_groups_write_deletion(struct hfb_groups *g, struct hfb_group_entry *e)
{
	if (open_event(g, hfb_group_name(e->machine), HFB_RECORD_GROUP_DELETED, 0) == NULL)
		return -ENOMEM;
	e->deleting = true;
	return 0;
}

/* A machine was told something: has it a generation to store? */
void
hfb_groups_after(struct hfb_groups *g, struct hfb_group_entry *e)
{
	struct hfb_bytes *value = NULL;
	char *text;
	json_t *json;

	if (!hfb_group_wants_store(e->machine))
		return;
	json = hfb_group_record_to_json(e->machine);
	text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
	json_decref(json);
	if (text != NULL)
		value = open_event(g, hfb_group_name(e->machine), HFB_RECORD_GROUP, strlen(text));
	if (value != NULL) {
		hfb_bytes_add(value, text, strlen(text));
		g->urgent = true;
	} else {
		hfb_group_stored(e->machine, false, hfb_groups_now_ms()); /* at the next tick */
	}
	free(text);
}

/* Snapshots --------------------------------------------------------------------- */

static bool
snapshot_add(struct hfb_offset_batch *batch, const char *group, enum hfb_offset_record_kind kind,
	     const char *text, const struct hfb_offsets_topic *topic)
{
	struct hfb_offset_event *event = hfb_offset_batch_event(batch, group);

	if (event == NULL)
		return false;
	hfb_offset_record_begin(&event->value, kind, hfb_groups_now_ns(CLOCK_REALTIME));
	if (text != NULL)
		hfb_bytes_add(&event->value, text, strlen(text));
	if (topic != NULL)
		hfb_offsets_encode(topic, &event->value);
	return !event->value.failed;
}

/* Writes the whole state. Only when nothing is being written. */
static void
snapshot(struct hfb_groups *g)
{
	struct hfb_offset_batch *batch = hfb_offset_batch_create();
	bool ok = batch != NULL && snapshot_add(batch, "", HFB_RECORD_SNAPSHOT_BEGIN, NULL, NULL);

	for (uint32_t i = 0; i < g->entries_count && ok; i++) {
		const struct hfb_group_entry *e = g->entries[i];
		const char *name = hfb_group_name(e->machine);

		if (e->record != NULL)
			ok = snapshot_add(batch, name, HFB_RECORD_GROUP, e->record, NULL);
		for (uint32_t t = 0; t < e->offsets.topics_count && ok; t++)
			ok = snapshot_add(batch, name, HFB_RECORD_COMMITS, NULL,
					  &e->offsets.topics[t]);
	}
	if (!ok || !snapshot_add(batch, "", HFB_RECORD_SNAPSHOT_END, NULL, NULL)) {
		hfb_offset_batch_destroy(batch); /* the next time, then */
		return;
	}
	batch->snapshot = true;
	g->writing = true;
	g->stats.snapshots++;
	hfb_offset_log_write(g->log, batch);
}

static uint64_t
state_bytes(const struct hfb_groups *g)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < g->entries_count; i++) {
		const struct hfb_group_entry *e = g->entries[i];

		bytes += e->record != NULL ? strlen(e->record) : 0;
		for (uint32_t t = 0; t < e->offsets.topics_count; t++)
			bytes += e->offsets.topics[t].partitions_count * sizeof(struct hfb_commit);
	}
	return bytes;
}

static bool
snapshot_due(struct hfb_groups *g)
{
	struct hfb_offset_log_stats stats;

	hfb_offset_log_stats_get(g->log, &stats);
	return stats.bytes_since_snapshot >= SNAPSHOT_BYTES &&
	       stats.bytes_since_snapshot >= 4 * state_bytes(g);
}

/* Writing ----------------------------------------------------------------------- */

static void
lingered(uv_timer_t *timer)
{
	hfb_groups_submit(timer->data);
}

/* Commits come in crowds: then a write waits for more of them. */
static bool
lingers(struct hfb_groups *g)
{
	uint64_t since = hfb_groups_now_ns(CLOCK_MONOTONIC) - g->last_write_ns;

	if (g->urgent || g->last_commits < LINGER_COMMITS || g->open_commits >= BATCH_COMMITS ||
	    since >= LINGER_NS)
		return false;
	if (!uv_is_active((uv_handle_t *)&g->linger))
		uv_timer_start(&g->linger, lingered, (LINGER_NS - since) / 1000000u + 1, 0);
	return true;
}

void
hfb_groups_answer_all(struct hfb_waiting *w)
{
	while (w != NULL) {
		struct hfb_waiting *next = w->next;

		w->done(w->arg, w->answer);
		free(w);
		w = next;
	}
}

struct hfb_waiting *
hfb_groups_take_waiting(struct hfb_groups *g)
{
	struct hfb_waiting *w = g->open_waiting;

	g->open_waiting = NULL;
	g->open_end = &g->open_waiting;
	return w;
}

void
hfb_groups_submit(struct hfb_groups *g)
{
	if (!g->ready || g->writing || g->closing)
		return;
	if (snapshot_due(g)) {
		snapshot(g);
		if (g->writing)
			return;
	}
	if (g->open == NULL || g->open->count == 0) {
		hfb_groups_answer_all(
			hfb_groups_take_waiting(g)); /* what they asked for is durable already */
		return;
	}
	if (lingers(g))
		return;
	uv_timer_stop(&g->linger);
	g->last_commits = g->open_commits;
	g->last_write_ns = hfb_groups_now_ns(CLOCK_MONOTONIC);
	g->open->arg = hfb_groups_take_waiting(g);
	g->writing = true;
	g->urgent = false;
	g->open_commits = 0;
	hfb_offset_log_write(g->log, g->open);
	g->open = NULL;
}
