/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mold_rig.h - a feed fixture with a feed of two lines, and MoldUDP64 datagrams for it.
 *
 *	f = mold_open();
 *	mold(f, 0, 1, 3);			messages 1..3 on line 0
 *	pass(f, 3 * MS_NS);			whoever was held back is given up by now
 *	feed_fixture_read(f);
 *	CU_ASSERT_TRUE(events_are(f, 0, "S", 1, 3));
 *
 * Threads: one.
 */
#ifndef MOLD_RIG_H
#define MOLD_RIG_H

#include "feed_fixture.h"

#define MS_NS 1000000ull

struct hfb_feed_config mold_config(enum hfb_framing framing);
struct feed_fixture *mold_open(void);
/* Messages first..first+count-1, each "<session><sequence>". */
void mold_at(struct feed_fixture *f, uint16_t line, const char *session, uint64_t first,
	     uint16_t count, uint64_t port_time_ns);
void mold(struct feed_fixture *f, uint16_t line, uint64_t first, uint16_t count);
/* Turns of 100 us until @total_ns are over. */
void pass(struct feed_fixture *f, uint64_t total_ns);
/* Events are first..last of one stream, values as mold_at() makes them. */
bool events_are(const struct feed_fixture *f, uint32_t from, const char *session, uint64_t first,
		uint64_t last);
uint64_t line_stat(const struct feed_fixture *f, uint32_t line, enum hfb_feed_line_stat stat);
uint64_t feed_stat(const struct feed_fixture *f, enum hfb_feed_stat stat);

#endif
