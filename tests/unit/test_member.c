/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A member of a consumer group: what it reads, and what it would commit of that.
 *
 * Goal:   what is committed is always an offset of the log that is there, with the epoch
 *	   of the event before it; where that is gone, what came in its place is read.
 * Method: a stand-in for hfbusd (sub_rig.c), none for hfbus-control: the member is given
 *	   its partition by hand.
 */
#include <string.h>

#include <jansson.h>

#include "hfb_test_main.h"
#include "member_private.h"
#include "sub_read.h"

/* A member of rig's bus that has "t"'s partition; @begin: what its group has committed. */
static struct hfb_group_member *
member_open(struct hfb_bus *bus, uint64_t begin, uint32_t begin_epoch, bool manual)
{
	const char *topics[] = { "t" };
	struct hfb_group_config config = {
		.group = "g", .topics = topics, .topics_count = 1, .manual = manual
	};
	struct hfb_group_member *m = NULL;
	json_t *given = json_pack("{s:[[i,i]]}", "t", 0, 1);
	struct hfb_err err;

	CU_ASSERT_EQUAL_FATAL(hfb_group_open(bus, &config, &m, &err), 0);
	strcpy(m->id, "m");
	m->generation = 1;
	m->lease_ns = UINT64_MAX;
	m->look_ns = UINT64_MAX; /* nobody to ask */
	hfb_group_given(m, given);
	json_decref(given);
	CU_ASSERT_EQUAL_FATAL(m->parts_count, 1);
	m->parts[0].fetched = true;
	m->parts[0].begin = m->parts[0].durable = begin;
	m->parts[0].begin_epoch = begin_epoch;
	return m;
}

static const struct hfb_item *
member_next(struct hfb_group_member *m)
{
	const struct hfb_group_item *item = NULL;
	struct hfb_err err;

	/* deleted topics are asked for again after a while */
	for (uint32_t i = 0; i < 200; i++) {
		int r = hfb_group_next(m, 50, &item, &err);

		CU_ASSERT_TRUE_FATAL(r >= 0);
		if (r == 1)
			return item->item;
	}
	return NULL;
}

static void
expect_kind(struct hfb_group_member *m, enum hfb_item_kind kind)
{
	const struct hfb_item *item = member_next(m);

	CU_ASSERT_PTR_NOT_NULL_FATAL(item);
	CU_ASSERT_EQUAL_FATAL(item->kind, kind);
}

static void
test_a_topic_made_anew_is_committed_from_its_beginning(void)
{
	struct rig *rig = rig_start(NULL);
	struct hfb_bus *bus = rig_bus_open(rig);
	struct hfb_group_member *m = member_open(bus, NOTHING, 0, false);
	struct group_part *p = &m->parts[0];

	rig_append(rig, 20);
	for (uint64_t i = 0; i < 20; i++)
		rig_expect_event(member_next(m), i);
	hfb_group_commit_async(m);
	CU_ASSERT_EQUAL(p->wanted, 20);
	p->durable = 18; /* an answer came, another is on its way */
	p->asked = 20;
	rig_topic_anew(rig);
	rig_append(rig, 5);
	for (uint64_t i = 0; i < 5; i++)
		rig_expect_event(member_next(m), i);
	CU_ASSERT_EQUAL(p->asked, NOTHING);
	CU_ASSERT_EQUAL(p->durable, NOTHING);
	hfb_group_commit_async(m);
	CU_ASSERT_EQUAL(p->wanted, 5);
	CU_ASSERT_FALSE(hfb_group_committed(m));
	hfb_group_close(m);
	hfb_bus_close(bus);
	rig_stop(rig);
}

/* Offsets 20 to 29 were read and committed, a crash took them, others are there now. */
static void
truncated(bool manual)
{
	struct rig *rig = rig_start(NULL);
	struct hfb_group_member *m;
	struct group_part *p;
	struct hfb_bus *bus;

	rig_append(rig, 20);
	rig_resume(rig, 2, rig->position, rig->offset);
	rig_append(rig, 30);
	bus = rig_bus_open(rig);
	m = member_open(bus, 30, 1, manual);
	p = &m->parts[0];
	p->mark = p->wanted = p->asked = 30; /* as if it had gone on over the crash */
	expect_kind(m, HFB_ITEM_TRUNCATED);
	CU_ASSERT_EQUAL(p->asked, NOTHING);
	CU_ASSERT_EQUAL(p->durable, NOTHING);
	CU_ASSERT_TRUE(hfb_group_committed(m));
	for (uint64_t i = 20; i < 25; i++)
		rig_expect_event(member_next(m), i);
	if (manual)
		CU_ASSERT_EQUAL(hfb_group_mark(m, "t", 0, 24), 0);
	hfb_group_commit_async(m);
	CU_ASSERT_EQUAL(p->wanted, manual ? 24 : 25);
	CU_ASSERT_EQUAL(p->mark_epoch, 2);
	hfb_group_close(m);
	hfb_bus_close(bus);
	rig_stop(rig);
}

static void
test_after_a_truncation_lower_offsets_are_committed(void)
{
	truncated(false);
	truncated(true);
}

/* Committed without an epoch, and the log is shorter now. */
static void
test_an_offset_beyond_the_end_misses_nothing_of_this_run(void)
{
	struct rig *rig = rig_start(NULL);
	struct hfb_group_member *m;
	struct hfb_bus *bus;

	rig_append(rig, 20);
	rig_resume(rig, 2, rig->position, rig->offset);
	rig_append(rig, 5);
	bus = rig_bus_open(rig);
	m = member_open(bus, 30, 0, false);
	expect_kind(m, HFB_ITEM_TRUNCATED);
	rig_append(rig, 15);
	for (uint64_t i = 20; i < 40; i++)
		rig_expect_event(member_next(m), i);
	hfb_group_commit_async(m);
	CU_ASSERT_EQUAL(m->parts[0].wanted, 40);
	hfb_group_close(m);
	hfb_bus_close(bus);
	rig_stop(rig);
	/* and in a log that no crash has cut yet */
	rig = rig_start(NULL);
	rig_append(rig, 5);
	bus = rig_bus_open(rig);
	m = member_open(bus, 30, 0, false);
	for (uint64_t i = 0; i < 5; i++)
		rig_expect_event(member_next(m), i);
	hfb_group_close(m);
	hfb_bus_close(bus);
	rig_stop(rig);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "a topic made anew is committed from its beginning",
		  test_a_topic_made_anew_is_committed_from_its_beginning },
		{ "after a truncation lower offsets are committed, with their epoch",
		  test_after_a_truncation_lower_offsets_are_committed },
		{ "an offset beyond the end misses nothing of this run",
		  test_an_offset_beyond_the_end_misses_nothing_of_this_run },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("member", tests);
}
