/* SPDX-License-Identifier: Apache-2.0 */
#include "mold_rig.h"

#include <stdio.h>
#include <string.h>

struct hfb_feed_config
mold_config(enum hfb_framing framing)
{
	struct hfb_feed_config c = {
		.name = "test",
		.framing = framing,
		.lines_count = 2,
		.udp_port = 26477,
		.topic = "t",
		.hold_events = 1024,
		.hold_us = 1000,
		.checksum = HFB_CHECKSUM_COUNT,
	};

	for (uint32_t l = 0; l < 2; l++) {
		c.group[l].bytes[10] = c.group[l].bytes[11] = 0xff;
		c.group[l].bytes[12] = 239;
		c.group[l].bytes[13] = 192;
		c.group[l].bytes[14] = 1;
		c.group[l].bytes[15] = (uint8_t)(1 + l);
	}
	return c;
}

struct feed_fixture *
mold_open(void)
{
	struct hfb_feed_config config = mold_config(HFB_FRAMING_MOLDUDP64);

	return feed_fixture_open(&config, 1);
}

void
mold_at(struct feed_fixture *f, uint16_t line, const char *session, uint64_t first, uint16_t count,
	uint64_t port_time_ns)
{
	uint8_t p[1472];
	uint32_t n = 20;

	memset(p, ' ', 10);
	memcpy(p, session, strlen(session));
	for (int i = 0; i < 8; i++)
		p[10 + i] = (uint8_t)(first >> (56 - 8 * i));
	p[18] = (uint8_t)(count >> 8);
	p[19] = (uint8_t)count;
	for (uint16_t i = 0; i < count && count != 0xffff; i++) {
		int size = snprintf((char *)p + n + 2, sizeof(p) - n - 2, "%s%llu", session,
				    (unsigned long long)(first + i));

		p[n] = 0;
		p[n + 1] = (uint8_t)size;
		n += 2 + (uint32_t)size;
	}
	feed_fixture_datagram(f, line, p, n, port_time_ns);
}

void
mold(struct feed_fixture *f, uint16_t line, uint64_t first, uint16_t count)
{
	mold_at(f, line, "S", first, count, 0);
}

void
pass(struct feed_fixture *f, uint64_t total_ns)
{
	for (uint64_t t = 0; t < total_ns; t += 100000)
		feed_fixture_turn(f, 100000);
}

bool
events_are(const struct feed_fixture *f, uint32_t from, const char *session, uint64_t first,
	   uint64_t last)
{
	for (uint64_t q = first; q <= last; q++, from++) {
		char value[64];
		int size = snprintf(value, sizeof(value), "%s%llu", session, (unsigned long long)q);

		if (from >= f->events_count || f->event[from].sequence != q ||
		    f->event[from].value_size != (uint32_t)size ||
		    memcmp(f->event[from].value, value, (size_t)size) != 0)
			return false;
	}
	return true;
}

uint64_t
line_stat(const struct feed_fixture *f, uint32_t line, enum hfb_feed_line_stat stat)
{
	return f->core.feeds->feed[0].line_stats[line][stat];
}

uint64_t
feed_stat(const struct feed_fixture *f, enum hfb_feed_stat stat)
{
	return f->core.feeds->feed[0].stats[stat];
}
