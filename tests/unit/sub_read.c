/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sub_read.c - see sub_read.h.
 */
#include "sub_read.h"

#include <stdio.h>
#include <string.h>

#include "hfb_test_main.h"

struct hfb_bus *
rig_bus_open(const struct rig *rig)
{
	struct hfb_bus_config config = { .data_dir = rig->folder };
	struct hfb_bus *bus = NULL;
	struct hfb_err err;

	CU_ASSERT_EQUAL_FATAL(hfb_bus_open(&config, &bus, &err), 0);
	return bus;
}

struct hfb_sub *
rig_sub_open(struct hfb_bus *bus, enum hfb_sub_from from, uint64_t value, bool files_only)
{
	struct hfb_sub_config config = {
		.topic = "t", .from = from, .value = value, .files_only = files_only
	};
	struct hfb_sub *sub = NULL;
	struct hfb_err err;

	CU_ASSERT_EQUAL_FATAL(hfb_sub_open(bus, &config, &sub, &err), 0);
	return sub;
}

const struct hfb_item *
rig_next(struct hfb_sub *sub, uint32_t timeout_ms)
{
	const struct hfb_item *item = NULL;
	struct hfb_err err = { .text = "" };
	int r = hfb_sub_next(sub, timeout_ms, &item, &err);

	if (r < 0)
		fprintf(stderr, "next: %d %s\n", r, err.text);
	CU_ASSERT_TRUE_FATAL(r >= 0);
	return r == 1 ? item : NULL;
}

/* The event of this offset, whole. */
void
rig_expect_event(const struct hfb_item *item, uint64_t offset)
{
	char want[32];
	int n = snprintf(want, sizeof(want), "event %llu ", (unsigned long long)offset);

	CU_ASSERT_PTR_NOT_NULL_FATAL(item);
	CU_ASSERT_EQUAL_FATAL(item->kind, HFB_ITEM_EVENT);
	CU_ASSERT_EQUAL_FATAL(item->offset, offset);
	CU_ASSERT_TRUE_FATAL(item->event.value_size > (uint32_t)n);
	CU_ASSERT_EQUAL_FATAL(memcmp(item->event.value, want, (size_t)n), 0);
}

void
rig_expect_events(struct hfb_sub *sub, uint64_t from, uint64_t to)
{
	for (uint64_t i = from; i < to; i++)
		rig_expect_event(rig_next(sub, 1000), i);
}
