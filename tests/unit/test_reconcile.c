/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reconciling the store's topics with hfbusd's.
 *
 * Goal:   from any two histories both end up the same by the rules of reconcile.h,
 *	   and no topic's data is deleted that nobody deleted.
 * Method: each rule by itself; then a model of hfbusd and of the store, with random
 *	   changes on both sides, refusals, losses of the connection and of catalogues.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hfb_test_main.h"
#include "reconcile.h"
#include "topic_record.h"
#include "uuid.h"

#define NAMES 12u
#define PAGE  3u

/* One side's topics, by index of the name; the model of both hfbusd and the store. */
struct side {
	struct hfb_ipc_topic topics[NAMES];
	bool has[NAMES];
	uint64_t revisions[NAMES], last_revision;
};

struct world {
	struct hfb_reconcile *r;
	struct side ours, theirs;
	uint32_t puts, adopts, lists;
};

static struct hfb_ipc_topic
topic_make(uint32_t name, uint64_t version, uint8_t uuid)
{
	struct hfb_ipc_topic t = { .partitions = 1, .version = version, .commit_stage = 1 };

	snprintf(t.name, sizeof(t.name), "topic-%02u", name);
	t.uuid.bytes[0] = uuid;
	return t;
}

static uint32_t
name_of(const struct hfb_ipc_topic *t)
{
	return (uint32_t)strtoul(t->name + 6, NULL, 10);
}

static void
ours_set(struct world *w, const struct hfb_ipc_topic *t)
{
	uint32_t n = name_of(t);

	w->ours.topics[n] = *t;
	w->ours.has[n] = true;
	w->ours.revisions[n] = ++w->ours.last_revision;
	CU_ASSERT_EQUAL(hfb_reconcile_ours(w->r, t, w->ours.revisions[n]), 0);
}

static void
theirs_set(struct world *w, const struct hfb_ipc_topic *t)
{
	w->theirs.topics[name_of(t)] = *t;
	w->theirs.has[name_of(t)] = true;
}

static void
list(struct world *w, const char *after)
{
	struct hfb_ipc_topic page[PAGE];
	uint32_t count = 0;
	bool more = false;

	for (uint32_t n = 0; n < NAMES; n++) {
		const struct hfb_ipc_topic *t = &w->theirs.topics[n];

		if (!w->theirs.has[n] || strcmp(t->name, after) <= 0)
			continue;
		if (count == PAGE) {
			more = true;
			break;
		}
		page[count++] = *t;
	}
	w->lists++;
	CU_ASSERT_EQUAL(hfb_reconcile_page(w->r, page, count, more), 0);
}

/* hfbusd's compare-and-set. */
static void
put(struct world *w, const struct hfb_ipc_topic *t)
{
	uint32_t n = name_of(t);
	uint64_t version = w->theirs.has[n] ? w->theirs.topics[n].version : 0;

	w->puts++;
	if (t->expected_version != version) {
		hfb_reconcile_put_done(w->r, version == 0 ? -ESTALE : -EEXIST, "another version");
		return;
	}
	CU_ASSERT_TRUE(t->version > version);
	/* Data of another history must never be replaced. */
	if (version != 0 && !hfb_topic_record_deleted(&w->theirs.topics[n]))
		CU_ASSERT_TRUE(hfb_uuid_equal(&t->uuid, &w->theirs.topics[n].uuid));
	theirs_set(w, t);
	w->theirs.topics[n].expected_version = 0;
	hfb_reconcile_put_done(w->r, 0, "");
}

static void
adopt(struct world *w, const struct hfb_reconcile_action *action)
{
	uint32_t n = name_of(&action->topic);

	w->adopts++;
	CU_ASSERT_EQUAL(action->revision, w->ours.has[n] ? w->ours.revisions[n] : 0);
	ours_set(w, &action->topic);
}

/* Let it run; at most @steps actions. */
static uint32_t
run(struct world *w, uint32_t steps)
{
	struct hfb_reconcile_action action;
	uint32_t done = 0;

	while (done < steps && hfb_reconcile_next(w->r, &action)) {
		done++;
		if (action.what == HFB_RECONCILE_LIST)
			list(w, action.after);
		else if (action.what == HFB_RECONCILE_PUT)
			put(w, &action.topic);
		else
			adopt(w, &action);
	}
	return done;
}

static struct world *
world_make(void)
{
	struct world *w = calloc(1, sizeof(*w));

	CU_ASSERT_EQUAL_FATAL(hfb_reconcile_create(&w->r), 0);
	return w;
}

static void
world_free(struct world *w)
{
	hfb_reconcile_destroy(w->r);
	free(w);
}

static bool
same(const struct world *w, uint32_t n)
{
	if (!w->theirs.has[n])
		return !w->ours.has[n] || hfb_topic_record_deleted(&w->ours.topics[n]);
	return w->ours.has[n] && hfb_topic_record_equal(&w->ours.topics[n], &w->theirs.topics[n]);
}

static void
settle(struct world *w)
{
	CU_ASSERT_TRUE(run(w, 1000) < 1000);
	CU_ASSERT_EQUAL(hfb_reconcile_state(w->r), HFB_RECONCILE_SETTLED);
}

static void
test_nothing_is_asked_while_away(void)
{
	struct world *w = world_make();
	struct hfb_ipc_topic t = topic_make(1, 1, 1);

	ours_set(w, &t);
	CU_ASSERT_EQUAL(hfb_reconcile_state(w->r), HFB_RECONCILE_AWAY);
	CU_ASSERT_EQUAL(run(w, 10), 0);
	hfb_reconcile_refresh(w->r);
	CU_ASSERT_EQUAL(run(w, 10), 0);
	world_free(w);
}

static void
test_what_hfbusd_lacks_is_put_and_what_we_lack_adopted(void)
{
	struct world *w = world_make();
	struct hfb_ipc_topic mine = topic_make(1, 3, 1), feed = topic_make(2, 1, 2);
	struct hfb_ipc_topic gone = topic_make(3, 2, 3);

	feed.flags = HFB_TOPIC_CREATED_BY_FEED;
	gone.flags = HFB_TOPIC_DELETED;
	ours_set(w, &mine);
	ours_set(w, &gone);
	theirs_set(w, &feed);
	hfb_reconcile_up(w->r);
	settle(w);
	CU_ASSERT_EQUAL(w->puts, 1); /* not the tombstone */
	CU_ASSERT_EQUAL(w->adopts, 1);
	CU_ASSERT_TRUE(hfb_topic_record_equal(&w->theirs.topics[1], &mine));
	CU_ASSERT_TRUE(hfb_topic_record_equal(&w->ours.topics[2], &feed));
	CU_ASSERT_FALSE(w->theirs.has[3]);
	CU_ASSERT_EQUAL(hfb_reconcile_passes(w->r), 1);
	world_free(w);
}

static void
test_the_higher_version_wins(void)
{
	struct world *w = world_make();
	struct hfb_ipc_topic t;

	t = topic_make(1, 5, 1);
	t.flags = HFB_TOPIC_DELETED;
	ours_set(w, &t);
	t = topic_make(1, 4, 1);
	theirs_set(w, &t);
	t = topic_make(2, 1, 1);
	ours_set(w, &t);
	t = topic_make(2, 2, 1);
	t.retention_bytes = 77;
	theirs_set(w, &t);
	/* The same version with other settings: the data lives by hfbusd's. */
	t = topic_make(3, 1, 1);
	ours_set(w, &t);
	t.segment_bytes = HFB_MIB;
	theirs_set(w, &t);
	hfb_reconcile_up(w->r);
	settle(w);
	CU_ASSERT_TRUE(hfb_topic_record_deleted(&w->theirs.topics[1]));
	CU_ASSERT_EQUAL(w->ours.topics[2].retention_bytes, 77);
	CU_ASSERT_EQUAL(w->ours.topics[3].segment_bytes, HFB_MIB);
	world_free(w);
}

static void
test_data_of_another_history_stays(void)
{
	struct world *w = world_make();
	struct hfb_ipc_topic mine = topic_make(1, 9, 1), found = topic_make(1, 2, 200);

	mine.flags = HFB_TOPIC_DELETED;
	ours_set(w, &mine);
	theirs_set(w, &found);
	hfb_reconcile_up(w->r);
	settle(w);
	CU_ASSERT_EQUAL(w->theirs.topics[1].uuid.bytes[0], 200);
	CU_ASSERT_FALSE(hfb_topic_record_deleted(&w->theirs.topics[1]));
	CU_ASSERT_EQUAL(w->theirs.topics[1].version, 10);
	CU_ASSERT_TRUE(same(w, 1));
	world_free(w);
}

static void
test_a_refusal_waits_for_the_next_refresh(void)
{
	struct world *w = world_make();
	struct hfb_ipc_topic t = topic_make(1, 1, 1);
	struct hfb_reconcile_action action;
	const struct hfb_reconcile_entry *e;

	hfb_reconcile_up(w->r);
	settle(w);
	ours_set(w, &t);
	CU_ASSERT_TRUE_FATAL(hfb_reconcile_next(w->r, &action));
	CU_ASSERT_EQUAL(action.what, HFB_RECONCILE_PUT);
	CU_ASSERT_FALSE(hfb_reconcile_next(w->r, &action)); /* one at a time */
	hfb_reconcile_put_done(w->r, -ENOSPC, "the disk is full");
	e = hfb_reconcile_find(w->r, t.name);
	CU_ASSERT_PTR_NOT_NULL_FATAL(e);
	CU_ASSERT_EQUAL(e->refused, -ENOSPC);
	CU_ASSERT_STRING_EQUAL(e->refusal, "the disk is full");
	CU_ASSERT_EQUAL(run(w, 10), 0);
	/* Taken back: nothing is left of it. */
	hfb_reconcile_ours_removed(w->r, t.name);
	w->ours.has[1] = false;
	CU_ASSERT_PTR_NULL(hfb_reconcile_find(w->r, t.name));
	ours_set(w, &t);
	hfb_reconcile_next(w->r, &action);
	hfb_reconcile_put_done(w->r, -ENOSPC, "the disk is full");
	hfb_reconcile_refresh(w->r);
	settle(w);
	CU_ASSERT_TRUE(w->theirs.has[1]);
	world_free(w);
}

static void
test_a_lost_connection_starts_anew(void)
{
	struct world *w = world_make();
	struct hfb_ipc_topic t = topic_make(1, 1, 1);
	struct hfb_reconcile_action action;

	hfb_reconcile_up(w->r);
	settle(w);
	ours_set(w, &t);
	CU_ASSERT_TRUE(hfb_reconcile_next(w->r, &action));
	hfb_reconcile_down(w->r); /* was it done? It was */
	theirs_set(w, &action.topic);
	w->theirs.topics[1].expected_version = 0;
	CU_ASSERT_EQUAL(hfb_reconcile_state(w->r), HFB_RECONCILE_AWAY);
	hfb_reconcile_up(w->r);
	settle(w);
	CU_ASSERT_EQUAL(w->puts, 0);
	CU_ASSERT_TRUE(same(w, 1));
	world_free(w);
}

static void
test_names_of_hfbusd_that_go_back_end(void)
{
	struct hfb_reconcile *r = NULL;
	struct hfb_reconcile_action action;
	struct hfb_ipc_topic t = topic_make(5, 1, 1);
	int lists = 0;

	CU_ASSERT_EQUAL_FATAL(hfb_reconcile_create(&r), 0);
	hfb_reconcile_up(r);
	memset(t.name, 'x', sizeof(t.name)); /* does not end */
	CU_ASSERT_TRUE(hfb_reconcile_next(r, &action));
	CU_ASSERT_EQUAL(hfb_reconcile_page(r, &t, 1, false), 0);
	CU_ASSERT_FALSE(hfb_reconcile_next(r, &action));
	CU_ASSERT_PTR_NULL(hfb_reconcile_after(r, ""));
	t = topic_make(5, 1, 1);
	hfb_reconcile_refresh(r);
	while (lists < 100 && hfb_reconcile_next(r, &action) && action.what == HFB_RECONCILE_LIST) {
		lists++;
		hfb_reconcile_page(r, &t, lists == 1 ? 1 : 0, true);
	}
	CU_ASSERT_EQUAL(lists, 2);
	hfb_reconcile_destroy(r);
}

/* One random event on either side. */
static void
happen(struct world *w)
{
	uint32_t n = (uint32_t)(hfb_test_random() % NAMES);
	uint64_t dice = hfb_test_random() % 100;
	struct hfb_ipc_topic t;

	if (dice < 35) { /* a command: create, or delete */
		bool live = w->ours.has[n] && !hfb_topic_record_deleted(&w->ours.topics[n]);

		t = topic_make(n, w->ours.has[n] ? w->ours.topics[n].version + 1 : 1,
			       (uint8_t)hfb_test_random());
		if (live) {
			t.uuid = w->ours.topics[n].uuid;
			t.flags = HFB_TOPIC_DELETED;
		}
		ours_set(w, &t);
	} else if (dice < 55) { /* a feed makes a topic */
		bool live = w->theirs.has[n] && !hfb_topic_record_deleted(&w->theirs.topics[n]);

		t = topic_make(n, w->theirs.has[n] ? w->theirs.topics[n].version + 1 : 1,
			       (uint8_t)hfb_test_random());
		t.flags = HFB_TOPIC_CREATED_BY_FEED;
		if (!live)
			theirs_set(w, &t);
	} else if (dice < 65) {
		hfb_reconcile_down(w->r);
	} else if (dice < 80) {
		if (hfb_reconcile_state(w->r) == HFB_RECONCILE_AWAY)
			hfb_reconcile_up(w->r);
	} else if (dice < 90) {
		hfb_reconcile_refresh(w->r);
	} else if (dice < 92) { /* hfbusd lost its catalogue */
		if (hfb_reconcile_state(w->r) == HFB_RECONCILE_AWAY)
			memset(&w->theirs, 0, sizeof(w->theirs));
	} else if (dice < 94) { /* a new control.db */
		hfb_reconcile_destroy(w->r);
		memset(&w->ours, 0, sizeof(w->ours));
		CU_ASSERT_EQUAL_FATAL(hfb_reconcile_create(&w->r), 0);
	}
}

static void
test_random_histories_agree_in_the_end(void)
{
	for (int history = 0; history < 3000; history++) {
		struct world *w = world_make();
		bool agreed = true;

		for (int i = 0; i < 60; i++) {
			happen(w);
			run(w, (uint32_t)(hfb_test_random() % 5));
		}
		hfb_reconcile_down(w->r);
		hfb_reconcile_up(w->r);
		settle(w);
		for (uint32_t n = 0; n < NAMES; n++)
			agreed = agreed && same(w, n);
		CU_ASSERT_TRUE(agreed);
		/* And nothing more is wanted. */
		w->puts = w->adopts = 0;
		hfb_reconcile_refresh(w->r);
		settle(w);
		CU_ASSERT_EQUAL(w->puts + w->adopts, 0);
		world_free(w);
	}
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "nothing is asked while away", test_nothing_is_asked_while_away },
		{ "what hfbusd lacks is put, what we lack adopted",
		  test_what_hfbusd_lacks_is_put_and_what_we_lack_adopted },
		{ "the higher version wins", test_the_higher_version_wins },
		{ "data of another history stays", test_data_of_another_history_stays },
		{ "a refusal waits for the next refresh",
		  test_a_refusal_waits_for_the_next_refresh },
		{ "a lost connection starts anew", test_a_lost_connection_starts_anew },
		{ "names of hfbusd that go back end", test_names_of_hfbusd_that_go_back_end },
		{ "random histories agree in the end", test_random_histories_agree_in_the_end },
		CU_TEST_INFO_NULL,
	};

	return hfb_test_main("reconcile", tests);
}
