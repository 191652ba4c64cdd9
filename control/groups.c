/* SPDX-License-Identifier: Apache-2.0 */
#include "groups.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bug.h"
#include "group_record.h"
#include "groups_private.h"
#include "request.h"
#include "topic_record.h"
#include "uuid.h"

#define TICK_MS 25u

uint64_t
hfb_groups_now_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t
hfb_groups_now_ms(void)
{
	return hfb_groups_now_ns(CLOCK_MONOTONIC) / 1000000u;
}

void
hfb_groups_refuse(hfb_groups_fn *done, void *arg, int code, const char *format, ...)
{
	struct hfb_err err = { .code = code };
	va_list args;

	va_start(args, format);
	vsnprintf(err.text, sizeof(err.text), format, args);
	va_end(args);
	done(arg, hfb_answer_error(&err));
}

/* Groups by name ------------------------------------------------------------ */

static uint32_t
entry_place(const struct hfb_groups *g, const char *name, bool *ret_found)
{
	uint32_t low = 0, high = g->entries_count;

	*ret_found = false;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		int order = strcmp(hfb_group_name(g->entries[middle]->machine), name);

		if (order == 0) {
			*ret_found = true;
			return middle;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct hfb_group_entry *
hfb_groups_find(const struct hfb_groups *g, const char *name)
{
	bool found;
	uint32_t at = entry_place(g, name, &found);

	return found ? g->entries[at] : NULL;
}

bool
hfb_groups_topic(const struct hfb_groups *g, const char *topic, uint32_t *ret_partitions,
		 struct hfb_uuid *ret_uuid)
{
	const struct hfb_reconcile_entry *e = hfb_reconcile_find(g->env.reconcile, topic);

	if (e == NULL || !e->has_ours || hfb_topic_record_deleted(&e->ours))
		return false;
	if (ret_partitions != NULL)
		*ret_partitions = e->ours.partitions;
	if (ret_uuid != NULL)
		*ret_uuid = e->ours.uuid;
	return true;
}

bool
hfb_groups_topic_former(const struct hfb_groups *g, const char *topic, const struct hfb_uuid *uuid)
{
	const struct hfb_reconcile_entry *e = hfb_reconcile_find(g->env.reconcile, topic);

	return e != NULL && e->has_ours &&
	       (hfb_topic_record_deleted(&e->ours) || !hfb_uuid_equal(&e->ours.uuid, uuid));
}

bool
hfb_groups_topic_read(const struct hfb_groups *g, const char *topic, const struct hfb_uuid *uuid)
{
	const struct hfb_reconcile_entry *e = hfb_reconcile_find(g->env.reconcile, topic);

	return hfb_uuid_is_null(uuid) || !hfb_groups_topic_former(g, topic, uuid) ||
	       (e->refused != 0 && e->has_theirs && hfb_uuid_equal(&e->theirs.uuid, uuid));
}

static uint32_t
partitions_of(void *arg, const char *topic)
{
	uint32_t partitions;

	return hfb_groups_topic(arg, topic, &partitions, NULL) ? partitions : 0;
}

static void
entry_free(struct hfb_group_entry *e)
{
	hfb_group_destroy(e->machine);
	hfb_offsets_fini(&e->offsets);
	free(e->record);
	free(e);
}

struct hfb_group_entry *
hfb_groups_get(struct hfb_groups *g, const char *name)
{
	const struct hfb_group_env env = { .partitions = partitions_of, .arg = g };
	struct hfb_group_entry **entries, *e;
	bool found;
	uint32_t at = entry_place(g, name, &found);

	if (found)
		return g->entries[at];
	if (g->entries_count == HFB_GROUPS_MAX)
		return NULL;
	entries = realloc(g->entries, (g->entries_count + 1) * sizeof(*entries));
	if (entries == NULL)
		return NULL;
	g->entries = entries;
	e = calloc(1, sizeof(*e));
	if (e == NULL || hfb_group_create(name, &env, &e->machine) < 0) {
		free(e);
		return NULL;
	}
	memmove(entries + at + 1, entries + at, (g->entries_count - at) * sizeof(*entries));
	entries[at] = e;
	g->entries_count++;
	return e;
}

void
hfb_groups_remove(struct hfb_groups *g, const char *name)
{
	bool found;
	uint32_t at = entry_place(g, name, &found);

	if (!found)
		return;
	entry_free(g->entries[at]);
	g->entries_count--;
	memmove(g->entries + at, g->entries + at + 1,
		(g->entries_count - at) * sizeof(*g->entries));
}

/* What records say ----------------------------------------------------------------- */

static void
apply_commits(struct hfb_groups *g, struct hfb_group_entry *e,
	      const struct hfb_offset_record *record)
{
	struct hfb_commit_topic topic;
	size_t at = 0;
	int r;

	while ((r = hfb_offset_record_topic_next(record, &at, &topic)) > 0) {
		/* the topic was deleted, or made anew, while this was on its way; what is read at
		 * the start is looked through at its end */
		if (g->ready && hfb_groups_topic_former(g, topic.name, &topic.uuid))
			continue;
		if (hfb_offsets_apply(&e->offsets, &topic, record->head.time_ns) < 0)
			g->env.note("out of memory for committed offsets");
	}
	if (r < 0)
		g->env.note("a record of " HFB_OFFSETS_TOPIC " is damaged: left out");
}

/* The record's group; NULL: it is of none that is there (now). */
static struct hfb_group_entry *
apply(struct hfb_groups *g, const struct hfb_offset_record *record, const char *group)
{
	struct hfb_group_entry *e;
	char *text;

	if (record->head.kind > HFB_RECORD_GROUP_DELETED || group[0] == '\0')
		return NULL;
	if (record->head.kind == HFB_RECORD_GROUP_DELETED) {
		hfb_groups_remove(g, group);
		return NULL;
	}
	e = hfb_groups_get(g, group);
	if (e == NULL) {
		g->env.note("no room for another consumer group");
		return NULL;
	}
	if (record->head.kind == HFB_RECORD_COMMITS) {
		apply_commits(g, e, record);
		return e;
	}
	text = strndup((const char *)record->body, record->body_size);
	if (text != NULL) {
		free(e->record);
		e->record = text;
	}
	return e;
}

static void
loaded(void *arg, const struct hfb_offset_record *record, const char *group)
{
	(void)apply(arg, record, group);
}

/* Deleted topics, and those made anew: what was committed there is of no more use. */
static void
forget_topics(struct hfb_groups *g)
{
	for (uint32_t i = 0; i < g->entries_count; i++) {
		struct hfb_offsets *o = &g->entries[i]->offsets;

		for (uint32_t t = o->topics_count; t-- > 0;) {
			if (hfb_groups_topic_former(g, o->topics[t].name, &o->topics[t].uuid))
				hfb_offsets_forget(o, o->topics[t].name);
		}
	}
}

static void
ready(void *arg)
{
	struct hfb_groups *g = arg;
	struct hfb_err err;

	g->ready = true;
	for (uint32_t i = 0; i < g->entries_count; i++) {
		struct hfb_group_entry *e = g->entries[i];
		const struct hfb_group_env env = { .partitions = partitions_of, .arg = g };
		struct hfb_group *fresh;

		if (e->record == NULL)
			continue;
		if (hfb_group_record_restore(e->machine, e->record, strlen(e->record),
					     hfb_groups_now_ms(), &err) == 0)
			continue;
		g->env.note(err.text);
		if (hfb_group_create(hfb_group_name(e->machine), &env, &fresh) == 0) {
			hfb_group_destroy(e->machine);
			e->machine = fresh;
		}
	}
	for (uint32_t i = 0; i < g->entries_count; i++)
		hfb_groups_after(g, g->entries[i]);
	forget_topics(g);
	hfb_groups_run_deferred(g);
	hfb_groups_submit(g);
}

static void
written(void *arg, struct hfb_offset_batch *batch)
{
	struct hfb_groups *g = arg;

	g->writing = false;
	for (uint32_t i = 0; i < batch->count && !batch->snapshot; i++) {
		const struct hfb_offset_event *event = &batch->events[i];
		struct hfb_offset_record record;
		struct hfb_group_entry *e;
		int r = hfb_offset_record_decode(event->value.at, event->value.used, &record);

		hfb_assert(r == 0);
		e = apply(g, &record, event->group);
		if (e != NULL && record.head.kind == HFB_RECORD_GROUP) {
			g->stats.rebalances++;
			hfb_group_stored(e->machine, true, hfb_groups_now_ms());
			hfb_groups_after(g, e);
		}
	}
	hfb_groups_answer_all(batch->arg);
	hfb_offset_batch_destroy(batch);
	hfb_groups_submit(g);
}

static void
log_note(void *arg, const char *sentence)
{
	((struct hfb_groups *)arg)->env.note(sentence);
}

static void
log_fenced(void *arg)
{
	struct hfb_groups *g = arg;

	g->env.fenced(g->env.arg);
}

static const struct hfb_offset_log_events log_events = {
	.loaded = loaded, .ready = ready, .written = written, .fenced = log_fenced, .note = log_note
};

/* Time and the world --------------------------------------------------------------- */

static void
after_io(uv_check_t *check)
{
	hfb_groups_submit(check->data);
}

static void
tick(uv_timer_t *timer)
{
	struct hfb_groups *g = timer->data;
	uint64_t now = hfb_groups_now_ms();

	for (uint32_t i = 0; i < g->entries_count && g->ready; i++) {
		struct hfb_group *machine = g->entries[i]->machine;

		if (hfb_group_deadline_ms(machine) <= now) {
			uint32_t before = hfb_group_members_count(machine);

			hfb_group_tick(machine, now);
			g->stats.expired += before - hfb_group_members_count(machine);
		}
		hfb_groups_after(g, g->entries[i]);
	}
	hfb_groups_run_deferred(g);
	hfb_groups_submit(g);
}

void
hfb_groups_topics_changed(struct hfb_groups *g)
{
	if (!g->ready)
		return;
	forget_topics(g);
	for (uint32_t i = 0; i < g->entries_count; i++) {
		hfb_group_topics_changed(g->entries[i]->machine, hfb_groups_now_ms());
		hfb_groups_after(g, g->entries[i]);
	}
	hfb_group_ends_reset(g->ends);
	hfb_groups_submit(g);
}

void
hfb_groups_broker_changed(struct hfb_groups *g, bool up)
{
	(void)up;
	hfb_group_ends_reset(g->ends);
}

static void
ends_settled(void *arg)
{
	struct hfb_groups *g = arg;

	g->settled = true; /* those who wait are answered at the next tick */
}

/* Life ------------------------------------------------------------------------------ */

int
hfb_groups_create(const struct hfb_groups_env *env, struct hfb_groups **ret_groups,
		  struct hfb_err *err)
{
	struct hfb_groups *g = calloc(1, sizeof(*g));
	int r;

	if (g == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	g->env = *env;
	g->open_end = &g->open_waiting;
	uv_timer_init(env->loop, &g->tick);
	uv_timer_init(env->loop, &g->linger);
	uv_check_init(env->loop, &g->after_io);
	g->tick.data = g->linger.data = g->after_io.data = g;
	r = hfb_group_ends_create(env->broker, ends_settled, g, &g->ends);
	if (r < 0)
		hfb_err_set(err, r, "out of memory");
	else
		r = hfb_offset_log_create(env->loop, env->data_dir, &log_events, g, &g->log, err);
	if (r == 0) {
		uv_timer_start(&g->tick, tick, TICK_MS, TICK_MS);
		uv_check_start(&g->after_io, after_io);
	}
	*ret_groups = g; /* half made, it is closed the same way */
	return r;
}

void
hfb_groups_close(struct hfb_groups *g)
{
	if (g == NULL)
		return;
	g->closing = true;
	uv_close((uv_handle_t *)&g->tick, NULL);
	uv_close((uv_handle_t *)&g->linger, NULL);
	uv_close((uv_handle_t *)&g->after_io, NULL);
	hfb_offset_log_destroy(g->log);
}

static void
waiting_free(struct hfb_waiting *w)
{
	while (w != NULL) {
		struct hfb_waiting *next = w->next;

		json_decref(w->answer);
		free(w);
		w = next;
	}
}

void
hfb_groups_free(struct hfb_groups *g)
{
	if (g == NULL)
		return;
	waiting_free(hfb_groups_take_waiting(g));
	hfb_offset_batch_destroy(g->open);
	hfb_groups_drop_deferred(g);
	for (uint32_t i = 0; i < g->entries_count; i++)
		entry_free(g->entries[i]);
	free(g->entries);
	hfb_group_ends_destroy(g->ends);
	free(g);
}

void
hfb_groups_stats_get(struct hfb_groups *g, struct hfb_groups_stats *ret_stats)
{
	*ret_stats = g->stats;
	ret_stats->ready = g->ready;
	hfb_offset_log_stats_get(g->log, &ret_stats->log);
}
