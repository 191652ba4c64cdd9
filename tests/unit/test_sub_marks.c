/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a local subscriber is told instead of events.
 *
 * Goal:   where the log cannot be read as it was written a mark says why, from where and to
 *	   where, and reading goes on behind it: damage, retention, epochs that ended.
 * Method: a stand-in for hfbusd (sub_rig.c) whose files and answers are changed under the
 *	   reader.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hfb_test_main.h"
#include "sub_read.h"

static void
flip(const struct rig *rig, uint64_t position)
{
	char path[320];

	rig_segment_path(rig, position, path, sizeof(path));
	hfb_test_flip(path, HFB_SEGMENT_HEADER_BYTES + position % RIG_SEGMENT_BYTES, 4);
}

/* Damage @at bytes into the third batch of four; what is expected then. */
static void
damage(uint64_t at, bool last)
{
	struct rig *rig = rig_start(NULL);
	struct hfb_bus *bus = rig_bus_open(rig);
	uint64_t position = 0, end, offset, resume;
	const struct hfb_item *item;
	struct hfb_sub *sub;

	for (int i = 0; i < 4; i++) {
		if (i == (last ? 3 : 2))
			position = rig->position;
		rig_append(rig, 10);
		if (i == 2 && !last)
			resume = rig->position;
	}
	end = rig->position;
	if (last)
		resume = end;
	offset = last ? 30 : 20;
	flip(rig, position + at);
	sub = rig_sub_open(bus, HFB_SUB_EARLIEST, 0, true);
	rig_expect_events(sub, 0, offset);
	item = rig_next(sub, 1000);
	CU_ASSERT_PTR_NOT_NULL_FATAL(item);
	CU_ASSERT_EQUAL_FATAL(item->kind, HFB_ITEM_CORRUPT);
	CU_ASSERT_EQUAL(item->mark.from_position, position);
	CU_ASSERT_EQUAL(item->mark.to_position, resume);
	CU_ASSERT_EQUAL(item->mark.from_offset, offset);
	CU_ASSERT_EQUAL(item->mark.to_offset, offset + 10);
	CU_ASSERT_PTR_NOT_NULL(strstr(item->mark.path, ".seg"));
	rig_expect_events(sub, offset + 10, 40);
	CU_ASSERT_TRUE(hfb_sub_at_end(sub));
	/* and what comes later is read */
	rig_append(rig, 5);
	rig_expect_events(sub, 40, 45);
	hfb_sub_close(sub);
	hfb_bus_close(bus);
	rig_stop(rig);
}

static void
test_damage_is_told_and_passed(void)
{
	damage(0, false);  /* size */
	damage(9, false);  /* offset */
	damage(57, false); /* payload crc in the header */
	damage(64, false); /* payload */
	damage(500, false);
	damage(3, true);
	damage(100, true);
}

static void
test_a_file_cut_short(void)
{
	struct rig *rig = rig_start(NULL);
	struct hfb_bus *bus = rig_bus_open(rig);
	const struct hfb_item *item;
	struct hfb_sub *sub;
	char path[320];

	for (int i = 0; i < 4; i++)
		rig_append(rig, 10);
	rig_segment_path(rig, 0, path, sizeof(path));
	CU_ASSERT_EQUAL(truncate(path, HFB_SEGMENT_HEADER_BYTES + 2000), 0);
	sub = rig_sub_open(bus, HFB_SUB_EARLIEST, 0, true);
	rig_expect_events(sub, 0, 10);
	item = rig_next(sub, 1000);
	CU_ASSERT_PTR_NOT_NULL_FATAL(item);
	CU_ASSERT_EQUAL(item->kind, HFB_ITEM_CORRUPT);
	CU_ASSERT_EQUAL(item->mark.from_offset, 10);
	hfb_sub_close(sub);
	hfb_bus_close(bus);
	rig_stop(rig);
}

static void
test_records_that_lie(void)
{
	struct rig *rig = rig_start(NULL);
	struct hfb_bus *bus = rig_bus_open(rig);
	struct hfb_batch fields = { .count = 1 };
	struct hfb_record lie = { .value_size = 4000, .key_size = HFB_KEY_NULL };
	uint8_t payload[64] = { 0 };
	const struct hfb_item *item;
	struct hfb_sub *sub;

	rig_append(rig, 1);
	memcpy(payload, &lie, sizeof(lie));
	rig_append_bytes(rig, &fields, payload, sizeof(payload)); /* under a right crc */
	rig_append(rig, 1);
	sub = rig_sub_open(bus, HFB_SUB_EARLIEST, 0, true);
	rig_expect_event(rig_next(sub, 0), 0);
	item = rig_next(sub, 1000);
	CU_ASSERT_PTR_NOT_NULL_FATAL(item);
	CU_ASSERT_EQUAL(item->kind, HFB_ITEM_CORRUPT);
	rig_expect_event(rig_next(sub, 0), 2);
	hfb_sub_close(sub);
	hfb_bus_close(bus);
	rig_stop(rig);
}

static void
test_retention_is_told(void)
{
	struct rig *rig = rig_start(NULL);
	struct hfb_bus *bus = rig_bus_open(rig);
	struct hfb_sub *sub = rig_sub_open(bus, HFB_SUB_EARLIEST, 0, false);
	struct hfb_positions *p = &rig->positions[RIG_HANDLE];
	const struct hfb_item *item;
	uint64_t start_offset;
	char path[320];

	rig_append(rig, 10);
	rig_expect_events(sub, 0, 10);
	while (rig->position < RIG_SEGMENT_BYTES)
		rig_append(rig, 100);
	/* the batch that crossed began the second segment: the first goes */
	start_offset = rig->offset - 100;
	rig_append(rig, 100);
	while (rig->position < RIG_SEGMENT_BYTES * 2ull)
		rig_append(rig, 100);
	p->start.offset = start_offset;
	__atomic_store_n(&p->start.position, RIG_SEGMENT_BYTES, __ATOMIC_RELEASE);
	rig_segment_path(rig, 0, path, sizeof(path));
	CU_ASSERT_EQUAL(unlink(path), 0);
	item = rig_next(sub, 1000);
	CU_ASSERT_PTR_NOT_NULL_FATAL(item);
	CU_ASSERT_EQUAL(item->kind, HFB_ITEM_LAPPED);
	item = rig_next(sub, 1000);
	CU_ASSERT_PTR_NOT_NULL_FATAL(item);
	CU_ASSERT_EQUAL_FATAL(item->kind, HFB_ITEM_RETIRED);
	CU_ASSERT_EQUAL(item->mark.from_offset, 10);
	CU_ASSERT_EQUAL(item->mark.to_position, RIG_SEGMENT_BYTES);
	rig_expect_events(sub, start_offset, rig->offset);
	hfb_sub_close(sub);
	/* and when opening below the start */
	sub = rig_sub_open(bus, HFB_SUB_OFFSET, 3, false);
	item = rig_next(sub, 1000);
	CU_ASSERT_PTR_NOT_NULL_FATAL(item);
	CU_ASSERT_EQUAL(item->kind, HFB_ITEM_RETIRED);
	CU_ASSERT_EQUAL(item->mark.from_offset, 3);
	rig_expect_events(sub, start_offset, rig->offset);
	hfb_sub_close(sub);
	hfb_bus_close(bus);
	rig_stop(rig);
}

/* The next item, which tells of the end of epoch 1. */
static const struct hfb_item *
truncated(struct hfb_sub *sub)
{
	const struct hfb_item *item = rig_next(sub, 2000);

	CU_ASSERT_PTR_NOT_NULL_FATAL(item);
	CU_ASSERT_EQUAL_FATAL(item->kind, HFB_ITEM_TRUNCATED);
	CU_ASSERT_EQUAL(item->mark.epoch, 1);
	return item;
}

/* From @offset on, as of @epoch. */
static struct hfb_sub *
sub_at(struct hfb_bus *bus, uint64_t offset, uint32_t epoch)
{
	struct hfb_sub_config config = {
		.topic = "t", .from = HFB_SUB_OFFSET, .value = offset, .epoch = epoch
	};
	struct hfb_sub *sub = NULL;
	struct hfb_err err;

	CU_ASSERT_EQUAL_FATAL(hfb_sub_open(bus, &config, &sub, &err), 0);
	return sub;
}

static void
test_truncation_is_told(void)
{
	struct rig *rig = rig_start(NULL);
	struct hfb_bus *bus = rig_bus_open(rig);
	struct hfb_sub *sub = rig_sub_open(bus, HFB_SUB_EARLIEST, 0, false);
	const struct hfb_item *item;
	uint64_t position, offset;

	rig_append(rig, 10);
	rig_append(rig, 10);
	position = rig->position;
	offset = rig->offset;
	rig_append(rig, 10);
	rig_expect_events(sub, 0, 30);
	rig_stop(rig);
	/* a crash took the third batch, and others came in its place */
	rig = rig_start(hfb_bus_data_dir(bus));
	rig_resume(rig, 2, position, offset);
	rig_append(rig, 3);
	item = truncated(sub);
	CU_ASSERT_EQUAL(item->mark.to_position, position);
	CU_ASSERT_EQUAL(item->mark.to_offset, 20);
	CU_ASSERT_EQUAL(item->mark.from_offset, 30);
	rig_expect_events(sub, 20, 23);
	hfb_sub_close(sub);
	hfb_bus_close(bus);
	rig_stop(rig);
}

/* It read offsets 0 to 29, and was not there when a crash took 20 to 29; others are there now. */
static void
test_an_offset_of_an_epoch_that_ended_is_told(void)
{
	struct rig *rig = rig_start(NULL);
	const struct hfb_item *item;
	struct hfb_bus *bus;
	struct hfb_sub *sub;

	rig_append(rig, 20);
	rig_resume(rig, 2, rig->position, rig->offset);
	for (int i = 0; i < 3; i++)
		rig_append(rig, 10);
	bus = rig_bus_open(rig);
	sub = sub_at(bus, 30, 1);
	item = truncated(sub);
	CU_ASSERT_EQUAL(item->mark.from_offset, 30);
	CU_ASSERT_EQUAL(item->mark.to_offset, 20);
	rig_expect_events(sub, 20, 50);
	hfb_sub_close(sub);
	/* of an epoch that is not known, or of this one, it is just an offset */
	for (uint32_t epoch = 0; epoch <= 2; epoch += 2) {
		sub = sub_at(bus, 30, epoch);
		rig_expect_events(sub, 30, 50);
		hfb_sub_close(sub);
	}
	hfb_bus_close(bus);
	rig_stop(rig);
}

/* All of it was lost: the epoch ends where the log begins. */
static void
test_an_epoch_that_left_nothing_hides_no_event(void)
{
	struct rig *rig = rig_start(NULL);
	const struct hfb_item *item;
	struct hfb_bus *bus;
	struct hfb_sub *sub;

	rig_resume(rig, 2, 0, 0);
	rig_append(rig, 20);
	bus = rig_bus_open(rig);
	sub = sub_at(bus, 15, 1);
	item = truncated(sub);
	CU_ASSERT_EQUAL(item->mark.to_offset, 0);
	rig_expect_events(sub, 0, 20);
	hfb_sub_close(sub);
	hfb_bus_close(bus);
	rig_stop(rig);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "damage is told with its place, and passed", test_damage_is_told_and_passed },
		{ "a file cut short is damage", test_a_file_cut_short },
		{ "records that lie under a right crc are not served", test_records_that_lie },
		{ "retention is told", test_retention_is_told },
		{ "truncation is told", test_truncation_is_told },
		{ "an offset of an epoch that ended is told",
		  test_an_offset_of_an_epoch_that_ended_is_told },
		{ "an epoch that left nothing hides no event",
		  test_an_epoch_that_left_nothing_hides_no_event },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("sub marks", tests);
}
