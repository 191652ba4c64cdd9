/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sub_read.h - reading what a rig has written (sub_rig.h), and expecting it.
 *
 * Threads: the test's. What is not as expected ends the test.
 */
#ifndef SUB_READ_H
#define SUB_READ_H

#include <hfbus/hfbus.h>

#include "sub_rig.h"

struct hfb_bus *rig_bus_open(const struct rig *rig);
struct hfb_sub *rig_sub_open(struct hfb_bus *bus, enum hfb_sub_from from, uint64_t value,
			     bool files_only);
/* NULL: nothing within @timeout_ms. */
const struct hfb_item *rig_next(struct hfb_sub *sub, uint32_t timeout_ms);
/* The event of this offset, whole. */
void rig_expect_event(const struct hfb_item *item, uint64_t offset);
void rig_expect_events(struct hfb_sub *sub, uint64_t from, uint64_t to);

#endif
