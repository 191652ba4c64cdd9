/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "arbitrate.h"
#include "bug.h"

static uint64_t
piece_end(const struct hfb_piece *p)
{
	return p->first + p->count;
}

static uint64_t
min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

void
hfb_arbiter_init(struct hfb_arbiter *a, uint32_t events_max, uint64_t hold_ns,
		 const struct hfb_arbiter_ops *ops, void *arg, struct hfb_piece *held)
{
	memset(a, 0, sizeof(*a));
	a->events_max = events_max;
	a->pieces_max = hfb_arbiter_pieces_held(events_max);
	a->hold_ns = hold_ns;
	a->ops = ops;
	a->arg = arg;
	a->held = held;
	a->oldest_ns = UINT64_MAX;
}

void
hfb_arbiter_start(struct hfb_arbiter *a, uint64_t next)
{
	hfb_assert(a->held_count == 0);
	a->next = next;
	a->started = true;
	a->blocked = false;
	a->gaps_count = 0;
}

uint64_t
hfb_arbiter_fresh(uint64_t first, uint32_t events_max)
{
	if (first > events_max)
		return first;
	return first == 0 ? 0 : 1; /* nobody numbers from 0, but captures do */
}

static bool
front_ready(const struct hfb_arbiter *a)
{
	return a->held_count > 0 && a->held[0].first == a->next;
}

/* Drop the first @n pieces from the array and find the oldest of the rest. */
static void
held_shift(struct hfb_arbiter *a, uint32_t n)
{
	if (n > 0) {
		a->held_count -= n;
		memmove(a->held, a->held + n, a->held_count * sizeof(*a->held));
	}
	a->oldest_ns = UINT64_MAX;
	for (uint32_t i = 0; i < a->held_count; i++)
		a->oldest_ns = min_u64(a->oldest_ns, a->held[i].since_ns);
}

/*
 * Deliver held pieces as far as they continue the stream, the first @must of
 * them whatever it takes. Returns messages.
 */
static uint32_t
drain(struct hfb_arbiter *a, uint32_t must)
{
	uint32_t done = 0, n = 0;

	a->blocked = false;
	while (n < a->held_count && a->held[n].first == a->next) {
		struct hfb_piece *p = &a->held[n];
		uint32_t taken = 0;

		if (p->count > 0) {
			taken = a->ops->deliver(a->arg, p, n < must);
			hfb_dassert(taken <= p->count);
			a->next += taken;
			a->held_events -= taken;
			done += taken;
		}
		if (taken < p->count) {
			hfb_assert(n >= must);
			p->first += taken;
			p->count -= taken;
			a->blocked = true;
			break;
		}
		if (p->datagram != NULL)
			a->ops->release(a->arg, p->datagram);
		n++;
	}
	if (n > 0)
		held_shift(a, n);
	hfb_dassert(a->held_count > 0 || a->held_events == 0);
	return done;
}

/* The messages before held[0] came on no line. */
static void
give_up_front(struct hfb_arbiter *a)
{
	uint64_t first = a->next, end = a->held[0].first;

	hfb_dassert(end > first);
	a->gaps[a->gaps_count % HFB_ARBITER_GAPS_KEPT].first = first;
	a->gaps[a->gaps_count % HFB_ARBITER_GAPS_KEPT].end = end;
	a->gaps_count++;
	a->next = end;
	a->ops->gap(a->arg, first, end - first);
}

static uint32_t
expire(struct hfb_arbiter *a, uint64_t now_ns)
{
	uint32_t done = 0;

	while (a->held_count > 0 && !front_ready(a) && now_ns >= a->oldest_ns &&
	       now_ns - a->oldest_ns >= a->hold_ns) {
		give_up_front(a);
		done += 1 + drain(a, 0);
	}
	return done;
}

/* Keep within what may be held. */
static void
bound(struct hfb_arbiter *a)
{
	/*
	 * The hold-back in messages is for what waits for others; what waits for
	 * room is bounded by pieces only. Then the oldest must go; the taker drops
	 * what it has no room for and says so.
	 */
	while (a->held_count > a->pieces_max ||
	       (!front_ready(a) && a->held_events > a->events_max)) {
		if (!front_ready(a))
			give_up_front(a);
		drain(a, a->blocked ? 1 : 0);
	}
}

static void
insert(struct hfb_arbiter *a, uint32_t at, const struct hfb_piece *piece)
{
	hfb_assert(a->held_count < 2 * a->pieces_max + 1);
	memmove(a->held + at + 1, a->held + at, (a->held_count - at) * sizeof(*a->held));
	a->held[at] = *piece;
	a->held_count++;
	a->held_events += piece->count;
	a->oldest_ns = min_u64(a->oldest_ns, piece->since_ns);
	if (piece->datagram != NULL)
		a->ops->hold(a->arg, piece->datagram);
}

/* First piece that ends after @sequence. New pieces are nearly always last. */
static uint32_t
find(const struct hfb_arbiter *a, uint64_t sequence)
{
	uint32_t i = a->held_count;

	while (i > 0 && piece_end(&a->held[i - 1]) > sequence)
		i--;
	return i;
}

/* Hold those of [first, end) that no held piece has. Returns messages held. */
static uint64_t
hold_range(struct hfb_arbiter *a, const struct hfb_piece *datagram, uint64_t first, uint64_t end,
	   uint64_t *duplicates)
{
	uint32_t i = find(a, first);
	uint64_t held = 0;

	while (first < end) {
		struct hfb_piece piece = *datagram;
		uint64_t stop = end;

		if (i < a->held_count && a->held[i].first <= first) {
			stop = min_u64(end, piece_end(&a->held[i]));
			*duplicates += stop - first;
			first = stop;
			i++;
			continue;
		}
		if (i < a->held_count)
			stop = min_u64(end, a->held[i].first);
		piece.first = first;
		piece.count = (uint32_t)(stop - first);
		insert(a, i, &piece);
		held += piece.count;
		first = stop;
		i++;
		/* an edge at `stop` is behind us now */
		while (i < a->held_count && piece_end(&a->held[i]) <= first)
			i++;
	}
	return held;
}

/* A heartbeat says that everything below @sequence was sent. */
static void
hold_edge(struct hfb_arbiter *a, uint64_t now_ns, uint16_t line, uint64_t sequence)
{
	struct hfb_piece edge = {
		.first = sequence,
		.line = line,
		.origin = sequence,
		.since_ns = now_ns,
	};

	if (sequence <= a->next)
		return;
	/* A held piece that ends there or later has proved the same already. */
	if (a->held_count > 0 && piece_end(&a->held[a->held_count - 1]) >= sequence)
		return;
	insert(a, a->held_count, &edge);
}

/* Of [first, end), all below next: how many had been reported missing. */
static uint64_t
late_among(const struct hfb_arbiter *a, uint64_t first, uint64_t end)
{
	uint64_t late = 0, kept = min_u64(a->gaps_count, HFB_ARBITER_GAPS_KEPT);

	for (uint64_t k = 0; k < kept; k++) {
		uint64_t i = (a->gaps_count - 1 - k) % HFB_ARBITER_GAPS_KEPT;
		uint64_t from = a->gaps[i].first > first ? a->gaps[i].first : first;
		uint64_t to = min_u64(a->gaps[i].end, end);

		if (a->gaps[i].end <= first)
			break;
		if (from < to)
			late += to - from;
	}
	return late;
}

void
hfb_arbiter_offer(struct hfb_arbiter *a, uint64_t now_ns, uint16_t line, uint64_t first,
		  uint32_t count, void *datagram, struct hfb_arbiter_counts *ret_counts)
{
	struct hfb_piece piece = {
		.line = line,
		.origin = first,
		.since_ns = now_ns,
		.datagram = datagram,
	};
	uint64_t end = first + count;

	hfb_dassert(a->started);
	hfb_dassert(end >= first);
	memset(ret_counts, 0, sizeof(*ret_counts));

	/* A timer would have fired before this datagram came. */
	if (a->held_count > 0)
		expire(a, now_ns);

	if (count == 0) {
		hold_edge(a, now_ns, line, first);
		bound(a);
		return;
	}
	if (first < a->next) {
		uint64_t stop = min_u64(end, a->next);
		uint64_t late = late_among(a, first, stop);

		ret_counts->late = late;
		ret_counts->duplicates = stop - first - late;
		first = stop;
		if (first == end)
			return;
	}
	if (first == a->next && !front_ready(a)) {
		uint64_t stop = a->held_count > 0 ? min_u64(end, a->held[0].first) : end;

		piece.first = first;
		piece.count = (uint32_t)(stop - first);
		first += a->ops->deliver(a->arg, &piece, false);
		a->next = first;
		if (first == end && a->held_count == 0)
			return;
		if (first < stop) {
			ret_counts->held +=
				hold_range(a, &piece, first, stop, &ret_counts->duplicates);
			first = stop;
		}
	}
	if (first < end)
		ret_counts->held += hold_range(a, &piece, first, end, &ret_counts->duplicates);
	drain(a, 0);
	bound(a);
}

uint32_t
hfb_arbiter_poll(struct hfb_arbiter *a, uint64_t now_ns)
{
	uint32_t done = 0;

	if (a->held_count == 0)
		return 0;
	if (front_ready(a))
		done += drain(a, 0);
	return done + expire(a, now_ns);
}

void
hfb_arbiter_flush(struct hfb_arbiter *a)
{
	while (a->held_count > 0) {
		if (!front_ready(a))
			give_up_front(a);
		drain(a, UINT32_MAX);
	}
}

void
hfb_arbiter_reset(struct hfb_arbiter *a)
{
	for (uint32_t i = 0; i < a->held_count; i++) {
		if (a->held[i].datagram != NULL)
			a->ops->release(a->arg, a->held[i].datagram);
	}
	a->held_count = 0;
	a->held_events = 0;
	a->oldest_ns = UINT64_MAX;
	a->started = false;
	a->blocked = false;
}
