/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arbitration of the lines of a feed.
 *
 * Goal:   every sequence leaves once, in order, as a message or in a gap; a gap
 *	   covers exactly what came on no line in time.
 * Method: hand-made cases, then random lines (own framing each, losses,
 *	   duplicates, reordering, back-pressure) from printed seeds against a model
 *	   that knows what was sent.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arbitrate.h"
#include "hfb_test_main.h"

#define SEQUENCES_MAX 4096u
#define HOLD_NS	      1000000u

/* A datagram: who refers to it, and what it claims to hold. */
struct packet {
	uint64_t first;
	uint32_t count;
	int references;
};

struct sink {
	struct hfb_arbiter arbiter;
	struct hfb_piece *held;
	uint64_t next;		     /* must come next */
	uint8_t fate[SEQUENCES_MAX]; /* 0 not yet, 1 delivered, 2 gap, 3 dropped */
	uint32_t delivered, gaps, missing, dropped;
	uint32_t room;		/* messages deliver may take */
	uint32_t refuse_one_in; /* 0 = never */
	uint64_t random;
	bool sound;
};

static uint64_t
random_next(uint64_t *state)
{
	uint64_t x = (*state += 0x9e3779b97f4a7c15ull);

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

static uint32_t
random_below(uint64_t *state, uint32_t n)
{
	return (uint32_t)(random_next(state) % n);
}

static void
sink_leave(struct sink *s, uint64_t first, uint64_t count, uint8_t fate)
{
	if (first != s->next || count == 0 || first + count > SEQUENCES_MAX)
		s->sound = false;
	for (uint64_t q = first; q < first + count && q < SEQUENCES_MAX; q++)
		s->fate[q] = fate;
	s->next = first + count;
}

static uint32_t
sink_deliver(void *arg, const struct hfb_piece *piece, bool must)
{
	struct sink *s = arg;
	struct packet *p = piece->datagram;
	uint32_t n = piece->count;

	if (p->first != piece->origin || piece->first < p->first ||
	    piece->first + piece->count > p->first + p->count)
		s->sound = false;
	if (s->refuse_one_in > 0 && random_below(&s->random, s->refuse_one_in) == 0)
		n = random_below(&s->random, n + 1);
	if (n > s->room)
		n = s->room;
	if (n > 0) {
		sink_leave(s, piece->first, n, 1);
		s->delivered += n;
		s->room -= n;
	}
	if (must && n < piece->count) {
		sink_leave(s, piece->first + n, piece->count - n, 3);
		s->dropped += piece->count - n;
		n = piece->count;
	}
	return n;
}

static void
sink_gap(void *arg, uint64_t first, uint64_t count)
{
	struct sink *s = arg;

	sink_leave(s, first, count, 2);
	s->gaps++;
	s->missing += (uint32_t)count;
}

static void
sink_hold(void *arg, void *datagram)
{
	((struct packet *)datagram)->references++;
}

static void
sink_release(void *arg, void *datagram)
{
	((struct packet *)datagram)->references--;
}

static const struct hfb_arbiter_ops ops = {
	.deliver = sink_deliver,
	.gap = sink_gap,
	.hold = sink_hold,
	.release = sink_release,
};

static void
sink_open(struct sink *s, uint32_t events_max, uint64_t next)
{
	memset(s, 0, sizeof(*s));
	s->held = calloc(hfb_arbiter_pieces(events_max), sizeof(*s->held));
	hfb_arbiter_init(&s->arbiter, events_max, HOLD_NS, &ops, s, s->held);
	hfb_arbiter_start(&s->arbiter, next);
	s->next = next;
	s->room = UINT32_MAX;
	s->sound = true;
}

static void
sink_close(struct sink *s)
{
	hfb_arbiter_reset(&s->arbiter);
	free(s->held);
}

static struct hfb_arbiter_counts
offer(struct sink *s, uint64_t now_ns, uint16_t line, struct packet *p)
{
	struct hfb_arbiter_counts counts;

	hfb_arbiter_offer(&s->arbiter, now_ns, line, p->first, p->count, p->count > 0 ? p : NULL,
			  &counts);
	return counts;
}

static void
test_lines_framed_differently(void)
{
	struct sink s;
	struct packet a1 = { 1, 3 }, b1 = { 1, 5 }, a2 = { 4, 4 }, b2 = { 6, 1 };
	struct hfb_arbiter_counts c;

	sink_open(&s, 16, 1);
	c = offer(&s, 0, 0, &a1);
	CU_ASSERT_EQUAL(c.duplicates, 0);
	CU_ASSERT_EQUAL(s.delivered, 3);
	c = offer(&s, 0, 1, &b1);
	CU_ASSERT_EQUAL(c.duplicates, 3);
	CU_ASSERT_EQUAL(s.delivered, 5);
	c = offer(&s, 0, 0, &a2);
	CU_ASSERT_EQUAL(c.duplicates, 2);
	CU_ASSERT_EQUAL(s.delivered, 7);
	c = offer(&s, 0, 1, &b2);
	CU_ASSERT_EQUAL(c.duplicates, 1);
	CU_ASSERT_EQUAL(s.next, 8);
	CU_ASSERT_EQUAL(s.gaps, 0);
	CU_ASSERT_TRUE(s.sound);
	sink_close(&s);
}

static void
test_the_other_line_fills_in(void)
{
	struct sink s;
	struct packet a1 = { 1, 2 }, a3 = { 5, 2 }, a4 = { 7, 1 }, b = { 2, 4 };
	struct hfb_arbiter_counts c;

	sink_open(&s, 16, 1);
	offer(&s, 0, 0, &a1);
	c = offer(&s, 10, 0, &a3);
	CU_ASSERT_EQUAL(c.held, 2);
	CU_ASSERT_EQUAL(a3.references, 1);
	offer(&s, 20, 0, &a4);
	CU_ASSERT_EQUAL(s.delivered, 2);
	c = offer(&s, 30, 1, &b);
	CU_ASSERT_EQUAL(c.duplicates, 2); /* 2 was delivered, 5 is held */
	CU_ASSERT_EQUAL(s.delivered, 7);
	CU_ASSERT_EQUAL(s.gaps, 0);
	CU_ASSERT_EQUAL(a3.references, 0);
	CU_ASSERT_EQUAL(a4.references, 0);
	CU_ASSERT_EQUAL(b.references, 0);
	CU_ASSERT_TRUE(s.sound);
	sink_close(&s);
}

static void
test_a_gap_after_the_hold_time_and_late_copies(void)
{
	struct sink s;
	struct packet a1 = { 1, 2 }, a3 = { 5, 2 }, late = { 2, 3 };
	struct hfb_arbiter_counts c;

	sink_open(&s, 16, 1);
	offer(&s, 0, 0, &a1);
	offer(&s, 100, 0, &a3);
	hfb_arbiter_poll(&s.arbiter, 100 + HOLD_NS - 1);
	CU_ASSERT_EQUAL(s.gaps, 0);
	hfb_arbiter_poll(&s.arbiter, 100 + HOLD_NS);
	CU_ASSERT_EQUAL(s.gaps, 1);
	CU_ASSERT_EQUAL(s.missing, 2);
	CU_ASSERT_EQUAL(s.delivered, 4);
	c = offer(&s, 200 + HOLD_NS, 1, &late);
	CU_ASSERT_EQUAL(c.late, 2);
	CU_ASSERT_EQUAL(c.duplicates, 1);
	CU_ASSERT_EQUAL(s.delivered, 4);
	CU_ASSERT_TRUE(s.sound);
	sink_close(&s);
}

static void
test_a_gap_when_too_many_are_held(void)
{
	struct sink s;
	struct packet p[9];

	sink_open(&s, 8, 1);
	for (uint32_t i = 0; i < 9; i++) {
		p[i] = (struct packet){ 2 + i, 1 };
		CU_ASSERT_EQUAL(s.gaps, 0);
		offer(&s, i, 0, &p[i]);
	}
	CU_ASSERT_EQUAL(s.gaps, 1);
	CU_ASSERT_EQUAL(s.missing, 1);
	CU_ASSERT_EQUAL(s.delivered, 9);
	CU_ASSERT_TRUE(s.sound);
	sink_close(&s);
}

static void
test_a_heartbeat_proves_what_is_missing(void)
{
	struct sink s;
	struct packet a1 = { 1, 2 }, heartbeat = { 6, 0 }, b = { 3, 2 };

	sink_open(&s, 16, 1);
	offer(&s, 0, 0, &a1);
	offer(&s, 10, 0, &heartbeat);
	offer(&s, 11, 1, &heartbeat);
	CU_ASSERT_EQUAL(s.arbiter.held_count, 1);
	offer(&s, 20, 1, &b);
	CU_ASSERT_EQUAL(s.delivered, 4);
	hfb_arbiter_poll(&s.arbiter, 10 + HOLD_NS);
	CU_ASSERT_EQUAL(s.missing, 1);
	CU_ASSERT_EQUAL(s.next, 6);
	CU_ASSERT_EQUAL(s.arbiter.held_count, 0);
	CU_ASSERT_TRUE(s.sound);
	sink_close(&s);
}

static void
test_an_edge_inside_later_data(void)
{
	struct sink s;
	struct packet heartbeat = { 6, 0 }, a = { 3, 7 }, b = { 1, 2 };

	sink_open(&s, 16, 1);
	offer(&s, 0, 0, &heartbeat);
	offer(&s, 1, 0, &a);
	CU_ASSERT_EQUAL(s.arbiter.held_events, 7);
	offer(&s, 2, 1, &b);
	CU_ASSERT_EQUAL(s.delivered, 9);
	CU_ASSERT_EQUAL(s.gaps, 0);
	CU_ASSERT_EQUAL(s.arbiter.held_count, 0);
	CU_ASSERT_EQUAL(a.references, 0);
	CU_ASSERT_TRUE(s.sound);
	sink_close(&s);
}

static void
test_back_pressure_keeps_order(void)
{
	struct sink s;
	struct packet a1 = { 1, 4 }, a2 = { 5, 4 };

	sink_open(&s, 16, 1);
	s.room = 2;
	offer(&s, 0, 0, &a1);
	CU_ASSERT_TRUE(s.arbiter.blocked);
	offer(&s, 0, 0, &a2);
	CU_ASSERT_EQUAL(s.delivered, 2);
	CU_ASSERT_EQUAL(hfb_arbiter_poll(&s.arbiter, 10 * HOLD_NS), 0);
	CU_ASSERT_EQUAL(s.gaps, 0); /* nothing is missing, only late to be taken */
	s.room = 3;
	CU_ASSERT_EQUAL(hfb_arbiter_poll(&s.arbiter, 10 * HOLD_NS), 3);
	s.room = 100;
	hfb_arbiter_poll(&s.arbiter, 10 * HOLD_NS);
	CU_ASSERT_EQUAL(s.delivered, 8);
	CU_ASSERT_FALSE(s.arbiter.blocked);
	CU_ASSERT_EQUAL(a1.references + a2.references, 0);
	CU_ASSERT_TRUE(s.sound);
	sink_close(&s);
}

static void
test_blocked_and_full_drops_the_oldest(void)
{
	static struct packet p[2400];
	struct sink s;

	sink_open(&s, 8, 1);
	s.room = 0;
	for (uint32_t i = 0; i < 2400; i++) {
		p[i] = (struct packet){ 1 + i, 1 };
		offer(&s, i, 0, &p[i]);
		CU_ASSERT_TRUE(s.arbiter.held_count <= hfb_arbiter_pieces_held(8));
	}
	CU_ASSERT_EQUAL(s.dropped, 2400 - hfb_arbiter_pieces_held(8));
	s.room = UINT32_MAX;
	hfb_arbiter_poll(&s.arbiter, 0);
	CU_ASSERT_EQUAL(s.delivered, hfb_arbiter_pieces_held(8));
	CU_ASSERT_EQUAL(s.gaps, 0);
	CU_ASSERT_TRUE(s.sound);
	sink_close(&s);
}

static void
test_where_a_fresh_stream_begins(void)
{
	CU_ASSERT_EQUAL(hfb_arbiter_fresh(1, 1024), 1);
	CU_ASSERT_EQUAL(hfb_arbiter_fresh(1024, 1024), 1);
	CU_ASSERT_EQUAL(hfb_arbiter_fresh(1025, 1024), 1025);
	CU_ASSERT_EQUAL(hfb_arbiter_fresh(0, 1024), 0);
}

/* One line's packets: own framing, each with a time, some lost, late or twice. */
struct arrival {
	uint64_t at_ns;
	uint16_t line;
	struct packet *packet;
};

static int
arrival_order(const void *x, const void *y)
{
	const struct arrival *a = x, *b = y;

	if (a->at_ns != b->at_ns)
		return a->at_ns < b->at_ns ? -1 : 1;
	return a->packet < b->packet ? -1 : a->packet > b->packet;
}

#define ARRIVALS_MAX (SEQUENCES_MAX * 5)

static uint32_t
line_make(uint64_t *random, uint16_t line, uint32_t messages, uint32_t loss_percent,
	  struct packet *packets, uint32_t *packets_count, struct arrival *arrivals,
	  uint8_t *arrived)
{
	uint32_t n = 0;

	for (uint32_t q = 1; q <= messages;) {
		uint32_t count = 1 + random_below(random, random_below(random, 4) == 0 ? 40 : 4);
		struct packet *p = &packets[(*packets_count)++];
		/* 1 us a message; lines drift by up to 20 us; 1 in 50 is 300 us late */
		uint64_t at_ns;

		if (count > messages - q + 1)
			count = messages - q + 1;
		at_ns = (q + count) * 1000ull + random_below(random, 20000);
		if (random_below(random, 50) == 0)
			at_ns += 300000;
		*p = (struct packet){ q, count };
		if (random_below(random, 100) >= loss_percent) {
			arrivals[n++] = (struct arrival){ at_ns, line, p };
			memset(arrived + q, 1, count);
			if (random_below(random, 30) == 0)
				arrivals[n++] = (struct arrival){ at_ns + 5000, line, p };
		}
		q += count;
	}
	return n;
}

/*
 * Copies are at most 320 us apart and the hold-back is 1 ms and 2048 messages, so
 * a gap must be exactly what came on no line.
 */
static void
property_run(uint64_t seed, uint32_t loss_percent, uint32_t refuse_one_in)
{
	static struct packet packets[ARRIVALS_MAX];
	static struct arrival arrivals[ARRIVALS_MAX];
	static uint8_t arrived[SEQUENCES_MAX + 64];
	struct packet end = { 0, 0 };
	uint64_t random = seed, duplicates = 0, late = 0, offered = 0;
	uint32_t messages, lines, packets_count = 0, n = 0;
	struct sink s;
	bool as_sent = true;

	memset(arrived, 0, sizeof(arrived));
	messages = 1000 + random_below(&random, 3000);
	lines = 1 + random_below(&random, 2);
	for (uint16_t line = 0; line < lines; line++)
		n += line_make(&random, line, messages, loss_percent, packets, &packets_count,
			       arrivals + n, arrived);
	qsort(arrivals, n, sizeof(*arrivals), arrival_order);

	sink_open(&s, 2048, 1);
	s.random = seed;
	s.refuse_one_in = refuse_one_in;
	for (uint32_t i = 0; i < n; i++) {
		struct hfb_arbiter_counts c =
			offer(&s, arrivals[i].at_ns, arrivals[i].line, arrivals[i].packet);

		offered += arrivals[i].packet->count;
		duplicates += c.duplicates;
		late += c.late;
		if (random_below(&random, 4) == 0)
			hfb_arbiter_poll(&s.arbiter, arrivals[i].at_ns);
	}
	end.first = messages + 1;
	offer(&s, 10000000, 0, &end);
	for (uint32_t i = 0; i < 100000 && s.next <= messages; i++)
		hfb_arbiter_poll(&s.arbiter, 20000000);

	for (uint32_t q = 1; q <= messages; q++)
		as_sent = as_sent && s.fate[q] == (arrived[q] ? 1 : 2);
	for (uint32_t i = 0; i < packets_count; i++)
		as_sent = as_sent && packets[i].references == 0;
	if (!as_sent || !s.sound)
		fprintf(stderr, "seed %llu loss %u%% refuse 1/%u fails\n", (unsigned long long)seed,
			loss_percent, refuse_one_in);
	CU_ASSERT_TRUE(as_sent);
	CU_ASSERT_TRUE(s.sound);
	CU_ASSERT_EQUAL(s.next, messages + 1);
	CU_ASSERT_EQUAL(s.arbiter.held_count, 0);
	CU_ASSERT_EQUAL(s.arbiter.held_events, 0);
	CU_ASSERT_EQUAL(late, 0);
	CU_ASSERT_EQUAL(s.delivered + duplicates, offered);
	CU_ASSERT_EQUAL(s.delivered + s.missing, messages);
	sink_close(&s);
}

static void
test_random_lines_agree_with_what_was_sent(void)
{
	for (uint64_t seed = 1; seed <= 150; seed++)
		property_run(seed, (uint32_t)(seed % 4) * 5, 0);
}

static void
test_random_lines_under_back_pressure(void)
{
	for (uint64_t seed = 1000; seed < 1150; seed++)
		property_run(seed, (uint32_t)(seed % 3) * 5, 3);
}

/* Anything at all: still in order, once, within memory. */
static void
test_nonsense_stays_bounded(void)
{
	static struct packet packets[5000];
	bool once = true;

	for (uint64_t seed = 1; seed <= 40; seed++) {
		uint64_t random = seed, now_ns = 0;
		uint32_t events_max = 1 + random_below(&random, 64);
		int references = 0;
		struct sink s;

		sink_open(&s, events_max, 1);
		s.random = seed;
		s.refuse_one_in = 1 + random_below(&random, 5);
		for (uint32_t i = 0; i < 5000; i++) {
			uint64_t around = s.next + random_below(&random, 100);
			struct packet *p = &packets[i];

			*p = (struct packet){ around > 30 ? around - 30 : 0,
					      random_below(&random, 12) };
			if (p->first + p->count > SEQUENCES_MAX) {
				p->first = SEQUENCES_MAX - 20;
				p->count = 1;
			}
			now_ns += random_below(&random, 100000);
			offer(&s, now_ns, (uint16_t)random_below(&random, 2), p);
			once = once && s.arbiter.held_count <= s.arbiter.pieces_max;
		}
		s.refuse_one_in = 0;
		hfb_arbiter_flush(&s.arbiter);
		for (uint64_t q = 1; q < s.next; q++)
			once = once && s.fate[q] != 0;
		for (uint32_t i = 0; i < 5000; i++)
			references += packets[i].references;
		CU_ASSERT_EQUAL(references, 0);
		CU_ASSERT_TRUE(s.sound);
		CU_ASSERT_TRUE(s.next > 100);
		sink_close(&s);
	}
	CU_ASSERT_TRUE(once);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "lines framed differently", test_lines_framed_differently },
		{ "the other line fills in", test_the_other_line_fills_in },
		{ "a gap after the hold time, late copies are counted",
		  test_a_gap_after_the_hold_time_and_late_copies },
		{ "a gap when too many are held", test_a_gap_when_too_many_are_held },
		{ "a heartbeat proves what is missing", test_a_heartbeat_proves_what_is_missing },
		{ "an edge inside later data", test_an_edge_inside_later_data },
		{ "back-pressure keeps order", test_back_pressure_keeps_order },
		{ "blocked and full drops the oldest", test_blocked_and_full_drops_the_oldest },
		{ "where a fresh stream begins", test_where_a_fresh_stream_begins },
		{ "random lines agree with what was sent",
		  test_random_lines_agree_with_what_was_sent },
		{ "random lines under back-pressure", test_random_lines_under_back_pressure },
		{ "nonsense stays in order and bounded", test_nonsense_stays_bounded },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("arbitrate", tests);
}
