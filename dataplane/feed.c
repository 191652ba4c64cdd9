/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_mbuf.h>

#include "bug.h"
#include "clock.h"
#include "counters.h"
#include "feed.h"
#include "port.h"

#define RESTARTS_PROBED_MAX 64u

/* Lookup ----------------------------------------------------------------------- */

static uint32_t
lookup_hash(const struct hfb_ip *ip, uint16_t udp_port)
{
	uint32_t tail;

	memcpy(&tail, ip->bytes + 12, sizeof(tail));
	tail ^= (uint32_t)udp_port << 16 | udp_port;
	return (tail * 0x9e3779b1u) >> 8;
}

static int
lookup_add(struct hfb_feeds *feeds, const struct hfb_feed_config *config, uint32_t line,
	   struct hfb_err *err)
{
	const struct hfb_ip *ip = &config->group[line % HFB_FEED_LINES_MAX];
	uint32_t i = lookup_hash(ip, config->udp_port) & feeds->lookup_mask;

	while (feeds->lookup[i].line >= 0) {
		struct hfb_feed_lookup *e = &feeds->lookup[i];

		if (memcmp(&e->ip, ip, sizeof(*ip)) == 0 && e->udp_port == config->udp_port &&
		    e->vlan == config->vlan)
			return hfb_err_set(err, -EINVAL,
					   "feed %s: its group, port and vlan are "
					   "already a line of a feed, see --feed",
					   config->name);
		i = (i + 1) & feeds->lookup_mask;
	}
	feeds->lookup[i] = (struct hfb_feed_lookup){
		.ip = *ip,
		.udp_port = config->udp_port,
		.vlan = config->vlan,
		.line = (int32_t)line,
	};
	return 0;
}

int
hfb_feed_line_find(const struct hfb_core *core, const struct hfb_packet *packet)
{
	const struct hfb_feeds *feeds = core->feeds;
	uint32_t i;

	if (feeds->count == 0)
		return -1;
	i = lookup_hash(&packet->destination, packet->destination_port) & feeds->lookup_mask;
	for (; feeds->lookup[i].line >= 0; i = (i + 1) & feeds->lookup_mask) {
		const struct hfb_feed_lookup *e = &feeds->lookup[i];

		if (e->udp_port == packet->destination_port &&
		    memcmp(&e->ip, &packet->destination, sizeof(e->ip)) == 0 &&
		    (e->vlan == 0 || e->vlan == packet->vlan))
			return e->line;
	}
	return -1;
}

/* Boot -------------------------------------------------------------------------- */

static const char *const line_names[] = {
#define X(id, name) name,
	HFB_FEED_LINE_STATS(X)
#undef X
};
static const char *const feed_names[] = {
#define X(id, name) name,
	HFB_FEED_STATS(X)
#undef X
};

static int
feed_counters(struct hfb_feed *feed, struct hfb_err *err)
{
	struct hfb_counters *counters = feed->core->node->counters;
	const char *name = feed->config->name;
	char labels[104];
	bool full;

	snprintf(labels, sizeof(labels), "core=%u,feed=%s", feed->core->id, name);
	feed->stats = hfb_counters_block(counters, labels, feed_names, HFB_FEED_STATS_COUNT);
	full = feed->stats == NULL;
	for (uint32_t line = 0; line < feed->config->lines_count && !full; line++) {
		snprintf(labels, sizeof(labels), "core=%u,feed=%s,line=%c", feed->core->id, name,
			 'A' + (int)line);
		feed->line_stats[line] =
			hfb_counters_block(counters, labels, line_names, HFB_FEED_LINE_STATS_COUNT);
		full = feed->line_stats[line] == NULL;
	}
	if (full)
		return hfb_err_set(err, -ENOSPC,
				   "feed %s: the counters file is full, configure "
				   "fewer feeds or cores (--feed, --cores)",
				   name);
	return 0;
}

static void
feed_init(struct hfb_feed *feed, struct hfb_piece **pieces)
{
	const struct hfb_feed_config *config = feed->config;

	for (uint32_t s = 0; s < HFB_FEED_SESSIONS_MAX; s++) {
		for (uint32_t i = 0; i < 2; i++) {
			struct hfb_feed_stream *stream = &feed->session[s].stream[i];

			stream->feed = feed;
			hfb_arbiter_init(&stream->arbiter, config->hold_events,
					 config->hold_us * 1000ull, &hfb_feed_stream_ops, stream,
					 *pieces);
			*pieces += hfb_arbiter_pieces(config->hold_events);
		}
	}
}

static int
feeds_lookup(struct hfb_feeds *feeds, const struct hfb_config *config, struct hfb_err *err)
{
	uint32_t size = 4;
	int r = 0;

	while (size < 4 * HFB_FEED_LINES_MAX * feeds->count)
		size *= 2;
	feeds->lookup = malloc(size * sizeof(*feeds->lookup));
	if (feeds->lookup == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory for %u feeds", feeds->count);
	for (uint32_t i = 0; i < size; i++)
		feeds->lookup[i].line = -1;
	feeds->lookup_mask = size - 1;
	/* Those of one vlan first: of equal groups the closer description is found. */
	for (int any = 0; any < 2 && r == 0; any++) {
		for (uint32_t f = 0; f < feeds->count && r == 0; f++) {
			if ((config->feeds[f].vlan == 0) != (any == 1))
				continue;
			for (uint32_t l = 0; l < config->feeds[f].lines_count && r == 0; l++)
				r = lookup_add(feeds, &config->feeds[f], f * HFB_FEED_LINES_MAX + l,
					       err);
		}
	}
	return r;
}

int
hfb_feeds_create(struct hfb_core *core, struct hfb_err *err)
{
	const struct hfb_config *config = core->node->config;
	struct hfb_feeds *feeds = calloc(1, sizeof(*feeds));
	struct hfb_piece *pieces;
	uint64_t pieces_count = 0;
	int r;

	if (feeds == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory for feeds");
	core->feeds = feeds;
	feeds->count = config->feeds_count;
	feeds->boot_ns = hfb_clock_now_ns();
	/* while one is blocked, what other cores had handed over still comes */
	feeds->mbufs_max = HFB_FEED_MBUFS_HELD_MIN;
	if (core->node->cores_count > 1)
		feeds->mbufs_max += HFB_HANDOVER_RING;
	for (uint32_t f = 0; f < feeds->count; f++)
		feeds->mbufs_max += config->feeds[f].hold_events;
	if (feeds->mbufs_max > HFB_FEED_MBUFS_HELD_MAX)
		feeds->mbufs_max = HFB_FEED_MBUFS_HELD_MAX;
	for (uint32_t f = 0; f < feeds->count; f++)
		pieces_count += 2ull * HFB_FEED_SESSIONS_MAX *
				hfb_arbiter_pieces(config->feeds[f].hold_events);
	r = -ENOMEM;
	if (feeds->count > 0) {
		feeds->feed = calloc(feeds->count, sizeof(*feeds->feed));
		/* not touched before a stream holds something back: address space only */
		feeds->pieces = calloc(pieces_count, sizeof(*feeds->pieces));
		if (feeds->feed == NULL || feeds->pieces == NULL) {
			hfb_err_set(err, r, "out of memory for %u feeds, see hold-events",
				    feeds->count);
			goto fail;
		}
	}
	r = feeds_lookup(feeds, config, err);
	if (r < 0)
		goto fail;
	pieces = feeds->pieces;
	for (uint32_t f = 0; f < feeds->count; f++) {
		struct hfb_feed *feed = &feeds->feed[f];

		feed->config = &config->feeds[f];
		feed->core = core;
		r = feed_counters(feed, err);
		if (r < 0)
			goto fail;
		feed_init(feed, &pieces);
	}
	r = hfb_igmp_create(core, err);
	if (r < 0)
		goto fail;
	return 0;

fail:
	hfb_feeds_destroy(core);
	return r;
}

void
hfb_feeds_destroy(struct hfb_core *core)
{
	struct hfb_feeds *feeds = core->feeds;

	if (feeds == NULL)
		return;
	for (uint32_t f = 0; feeds->feed != NULL && f < feeds->count; f++) {
		feeds->feed[f].partition = NULL;
		for (uint32_t s = 0; s < HFB_FEED_SESSIONS_MAX; s++) {
			hfb_feed_stream_close(&feeds->feed[f].session[s].stream[0]);
			hfb_feed_stream_close(&feeds->feed[f].session[s].stream[1]);
		}
	}
	hfb_igmp_destroy(core);
	free(feeds->lookup);
	free(feeds->feed);
	free(feeds->pieces);
	free(feeds);
	core->feeds = NULL;
}

/* Binding ------------------------------------------------------------------------ */

static void
feed_close(struct hfb_feed *feed)
{
	for (uint32_t s = 0; s < HFB_FEED_SESSIONS_MAX; s++) {
		struct hfb_feed_session *session = &feed->session[s];

		hfb_feed_stream_close(&session->stream[0]);
		hfb_feed_stream_close(&session->stream[1]);
		session->open = false;
	}
}

void
hfb_feed_bind(struct hfb_core *core, uint32_t feed, struct hfb_partition *partition)
{
	struct hfb_feeds *feeds = core->feeds;

	hfb_assert(feed < feeds->count);
	if (feeds->feed[feed].partition == partition)
		return;
	if (feeds->feed[feed].partition != NULL)
		feed_close(&feeds->feed[feed]);
	feeds->feed[feed].partition = partition;
}

void
hfb_feed_partition_detach(struct hfb_core *core, struct hfb_partition *partition)
{
	for (uint32_t f = 0; f < core->feeds->count; f++) {
		struct hfb_feed *feed = &core->feeds->feed[f];

		if (feed->partition != partition)
			continue;
		feed_close(feed);
		feed->partition = NULL;
	}
}

/* Time ---------------------------------------------------------------------------- */

static uint64_t
feed_time(const struct hfb_feed *feed)
{
	const struct hfb_feeds *feeds = feed->core->feeds;
	uint64_t time_ns = 0;

	for (uint64_t left = feed->ports_seen; left != 0; left &= left - 1) {
		const struct hfb_feed_clock *clock = &feeds->clock[__builtin_ctzll(left)];

		if (clock->time_ns > time_ns)
			time_ns = clock->time_ns;
	}
	return time_ns;
}

static void
clock_packet(struct hfb_feed *feed, const struct hfb_packet *packet)
{
	struct hfb_feed_clock *clock = &feed->core->feeds->clock[packet->port];

	feed->ports_seen |= 1ull << packet->port;
	clock->stamped = packet->port_time_ns != 0;
	clock->active = true;
	/* Stamps of merged taps go back now and then; time does not. */
	if (packet->port_time_ns > clock->time_ns)
		clock->time_ns = packet->port_time_ns;
}

/*
 * Have the cores that poll this port done so since the last time, and has all that
 * they handed over been seen? What is still there may be what the hold-back waits for.
 */
static bool
port_was_polled(const struct hfb_core *core, uint16_t p)
{
	const struct hfb_node *node = core->node;
	const struct hfb_feeds *feeds = core->feeds;

	for (uint16_t q = 0; q < node->ports[p].queues; q++) {
		uint16_t c = hfb_port_core(p, q, node->cores_count);
		uint64_t turn;

		if (c == core->id)
			continue;
		/* pairs with the release at the end of its turn */
		turn = __atomic_load_n(&node->cores[c]->turn, __ATOMIC_ACQUIRE);
		/* two ends of turns: one whole turn lies between them */
		if (turn - feeds->turn_seen[p][q] < 2)
			return false;
		/* after the turn is known, so that what it handed over is in sight */
		if (core->in[c] != NULL &&
		    __atomic_load_n(&core->in[c]->tail, __ATOMIC_ACQUIRE) != core->in[c]->head)
			return false;
	}
	return true;
}

static void
clocks_advance(struct hfb_core *core)
{
	const struct hfb_node *node = core->node;
	struct hfb_feeds *feeds = core->feeds;

	for (uint16_t p = 0; p < node->ports_count; p++) {
		struct hfb_feed_clock *clock = &feeds->clock[p];
		uint64_t elapsed_ns;

		if (clock->stamped && clock->active) {
			/* the stamps are the time; nothing passed besides */
		} else if (!port_was_polled(core, p)) {
			continue;
		} else if (!feeds->blocked && clock->polled_ns != 0 &&
			   core->now_ns > clock->polled_ns) {
			elapsed_ns = core->now_ns - clock->polled_ns;
			clock->time_ns += elapsed_ns < HFB_FEED_TURN_NS_MAX ? elapsed_ns
									    : HFB_FEED_TURN_NS_MAX;
		}
		clock->active = false;
		clock->polled_ns = core->now_ns;
		for (uint16_t q = 0; node->cores_count > 1 && q < node->ports[p].queues; q++) {
			uint16_t c = hfb_port_core(p, q, node->cores_count);

			feeds->turn_seen[p][q] =
				__atomic_load_n(&node->cores[c]->turn, __ATOMIC_ACQUIRE);
		}
	}
}

/* Sessions -------------------------------------------------------------------------- */

static struct hfb_feed_session *
session_find(struct hfb_feed *feed, const struct hfb_datagram *d)
{
	for (uint32_t k = 0; k < HFB_FEED_SESSIONS_MAX; k++) {
		uint32_t i = (feed->session_last + k) % HFB_FEED_SESSIONS_MAX;
		struct hfb_feed_session *s = &feed->session[i];

		if (s->open && s->size == d->session_size &&
		    memcmp(s->bytes, d->session, d->session_size) == 0) {
			feed->session_last = i;
			return s;
		}
	}
	return NULL;
}

static struct hfb_feed_session *
session_open(struct hfb_feed *feed, const struct hfb_datagram *d)
{
	struct hfb_feed_session *s = NULL;
	uint64_t next = 0;

	/* A free place, or that of the session which has been silent longest. */
	for (uint32_t i = 0; i < HFB_FEED_SESSIONS_MAX; i++) {
		struct hfb_feed_session *t = &feed->session[i];

		if (s == NULL || (s->open && (!t->open || t->used_ns < s->used_ns)))
			s = t;
	}
	hfb_feed_stream_close(&s->stream[0]);
	hfb_feed_stream_close(&s->stream[1]);
	memcpy(s->bytes, d->session, d->session_size);
	s->size = d->session_size;
	s->open = true;
	s->restart = 0;
	memset(s->line, 0, sizeof(s->line));
	/* The restart this session was in when an earlier run ended. */
	if (feed->config->restart == HFB_RESTART_ACCEPT) {
		for (uint32_t r = 0; r < RESTARTS_PROBED_MAX; r++) {
			if (!hfb_feed_stream_known(feed, s->bytes, s->size, r, &next))
				continue;
			s->restart = r;
			for (uint32_t l = 0; l < HFB_FEED_LINES_MAX; l++) {
				s->line[l].high = next;
				s->line[l].time_ns = feed->core->feeds->boot_ns;
			}
		}
	}
	return s;
}

/*
 * Does this datagram begin the sequence anew in the same session? The line itself
 * must have been far ahead (its own copies are never that late), and the datagram
 * must be younger: a capture played again is not a restart.
 */
static bool
line_restarts(const struct hfb_feed *feed, const struct hfb_feed_line_state *line,
	      const struct hfb_datagram *d, uint64_t time_ns)
{
	uint64_t window = feed->config->hold_events;

	if (feed->config->restart != HFB_RESTART_ACCEPT || time_ns <= line->time_ns)
		return false;
	if (d->first > window || d->first >= line->high)
		return false;
	if (d->send_time_ns != 0 && d->first == 1)
		return true; /* the sender's own clock: no copy is younger than its original */
	return line->high - d->first > window;
}

static struct hfb_feed_stream *
stream_of(struct hfb_feed *feed, struct hfb_feed_session *s, uint32_t l,
	  const struct hfb_datagram *d, const struct hfb_packet *packet)
{
	struct hfb_feed_line_state *line = &s->line[l];
	uint64_t end = d->first + d->count;
	uint64_t time_ns = d->send_time_ns;
	struct hfb_feed_stream *stream;

	if (time_ns == 0)
		time_ns = packet->port_time_ns;
	if (time_ns == 0)
		time_ns = feed->core->now_ns;
	if (!line->seen) {
		line->seen = true;
		line->restart = s->restart;
	}
	if (line_restarts(feed, line, d, time_ns)) {
		if (line->restart == s->restart) {
			s->restart++;
			feed->stats[HFB_FEED_RESTARTS]++;
		}
		line->restart = s->restart;
		line->high = end;
	}
	if (end > line->high)
		line->high = end;
	if (time_ns > line->time_ns)
		line->time_ns = time_ns;

	stream = &s->stream[line->restart & 1];
	if (stream->open && stream->restart != line->restart) {
		/* two restarts behind: nobody is there any more */
		if (stream->restart > line->restart)
			return NULL;
		hfb_feed_stream_close(stream);
	}
	if (!stream->open)
		hfb_feed_stream_open(stream, s->bytes, s->size, line->restart, d->first);
	return stream;
}

/* Input ------------------------------------------------------------------------------ */

/*
 * The port's mbufs are finite: without them nothing comes in at all. Who holds most of
 * them gives up its order, which need not be the feed that came last.
 */
static void
held_bound(struct hfb_feeds *feeds)
{
	struct hfb_feed *most = &feeds->feed[0];

	if (feeds->mbufs_held <= feeds->mbufs_max)
		return;
	for (uint32_t f = 1; f < feeds->count; f++)
		if (feeds->feed[f].mbufs_held > most->mbufs_held)
			most = &feeds->feed[f];
	for (uint32_t s = 0; s < HFB_FEED_SESSIONS_MAX; s++) {
		for (uint32_t i = 0; i < 2; i++) {
			if (most->session[s].stream[i].open)
				hfb_arbiter_flush(&most->session[s].stream[i].arbiter);
		}
	}
}

static void
feed_arbitrate(struct hfb_feed *feed, uint32_t l, const struct hfb_packet *packet)
{
	struct hfb_datagram *d = &feed->datagram;
	uint64_t *stats = feed->line_stats[l];
	struct hfb_arbiter_counts counts;
	struct hfb_feed_session *session;
	struct hfb_feed_stream *stream;

	session = session_find(feed, d);
	if (session == NULL)
		session = session_open(feed, d);
	session->used_ns = feed->core->now_ns;
	stream = stream_of(feed, session, l, d, packet);
	if (stream == NULL) {
		stats[HFB_FEED_LINE_LATE] += d->count;
		return;
	}
	hfb_arbiter_offer(&stream->arbiter, feed_time(feed), (uint16_t)l, d->first, d->count,
			  d->count > 0 ? packet->mbuf : NULL, &counts);
	stats[HFB_FEED_LINE_DUPLICATES] += counts.duplicates;
	stats[HFB_FEED_LINE_LATE] += counts.late;
	stats[HFB_FEED_LINE_HELD] += counts.held;
	feed->stats[HFB_FEED_NEXT] = stream->arbiter.next;
}

/* On the owner of the feed's partition. */
static void
feed_datagram(struct hfb_feed *feed, uint32_t l, const struct hfb_packet *packet)
{
	struct hfb_core *core = feed->core;
	uint64_t *stats = feed->line_stats[l];
	struct hfb_datagram *d = &feed->datagram;

	stats[HFB_FEED_LINE_PACKETS]++;
	if (packet->checksum_bad && feed->config->checksum != HFB_CHECKSUM_OFF) {
		stats[HFB_FEED_LINE_CHECKSUM_BAD]++;
		core->stats[HFB_STAT_FEED_CHECKSUM_BAD]++;
		if (feed->config->checksum == HFB_CHECKSUM_DROP) {
			hfb_drop(core, HFB_STAT_DROP_FEED_CHECKSUM);
			return;
		}
	}
	if (hfb_feed_decode(feed->config->framing, packet->payload, packet->payload_bytes, d) < 0) {
		stats[HFB_FEED_LINE_FRAMING_ERRORS]++;
		hfb_drop(core, HFB_STAT_DROP_FEED_FRAMING);
		return;
	}
	stats[HFB_FEED_LINE_MESSAGES] += d->count;
	stats[HFB_FEED_LINE_LAST_NS] = core->now_ns;
	if (d->end_of_session)
		stats[HFB_FEED_LINE_END_OF_SESSION]++;
	else if (d->count == 0)
		stats[HFB_FEED_LINE_HEARTBEATS]++;
	if (d->framing == HFB_FRAMING_RAW)
		d->first = feed->raw_next++; /* as received; nobody reads it */
	clock_packet(feed, packet);
	feed->packet = packet;
	feed_arbitrate(feed, l, packet);
	feed->packet = NULL;
	held_bound(core->feeds);
}

void
hfb_feed_input(struct hfb_core *core, uint16_t line, const struct hfb_packet *packet)
{
	struct hfb_feed *feed = &core->feeds->feed[line / HFB_FEED_LINES_MAX];
	struct hfb_partition *partition = feed->partition;

	if (partition == NULL) {
		feed->stats[HFB_FEED_UNBOUND]++;
		return;
	}
	if (partition->core != core->id) {
		/* The hand-over takes one reference, the caller keeps its own. */
		rte_mbuf_refcnt_update(packet->mbuf, 1);
		hfb_handover(core, partition->core, HFB_HANDED_FEED, packet, partition->handle, 0,
			     line);
		return;
	}
	feed_datagram(feed, line % HFB_FEED_LINES_MAX, packet);
}

void
hfb_feed_handed(struct hfb_core *core, const struct hfb_mbuf_private *private)
{
	struct hfb_feed *feed;

	if (private->feed_line / HFB_FEED_LINES_MAX >= core->feeds->count)
		return;
	feed = &core->feeds->feed[private->feed_line / HFB_FEED_LINES_MAX];
	/* The binding may have changed while it was under way. */
	if (feed->partition == NULL || feed->partition->core != core->id) {
		feed->stats[HFB_FEED_UNBOUND]++;
		return;
	}
	feed_datagram(feed, private->feed_line % HFB_FEED_LINES_MAX, &private->packet);
}

/* Other cores look at it: see hfb_feed_paused(). */
static void
blocked_set(struct hfb_feeds *feeds, bool blocked)
{
	__atomic_store_n(&feeds->blocked, blocked, __ATOMIC_RELAXED);
}

uint32_t
hfb_feed_poll(struct hfb_core *core)
{
	struct hfb_feeds *feeds = core->feeds;
	uint32_t work = 0;
	bool blocked = false;

	if (feeds->count == 0)
		return 0;
	clocks_advance(core);
	for (uint32_t f = 0; f < feeds->count; f++) {
		struct hfb_feed *feed = &feeds->feed[f];
		uint64_t time_ns, held = 0;

		if (feed->partition == NULL || feed->partition->core != core->id)
			continue;
		time_ns = feed_time(feed);
		for (uint32_t s = 0; s < HFB_FEED_SESSIONS_MAX; s++) {
			struct hfb_feed_session *session = &feed->session[s];

			if (!session->open)
				continue;
			for (uint32_t i = 0; i < 2; i++) {
				struct hfb_feed_stream *stream = &session->stream[i];

				work += hfb_feed_stream_poll(stream, time_ns);
				held += stream->arbiter.held_events;
				blocked = blocked || stream->arbiter.blocked;
			}
		}
		feed->stats[HFB_FEED_HELD_NOW] = held;
	}
	/* Stored once: others must not see a pause end for a moment in each turn. */
	blocked_set(feeds, blocked);
	return work + hfb_igmp_poll(core);
}

/* Could a burst for that core be dropped on the way? */
static bool
handover_tight(const struct hfb_core *core, uint16_t to)
{
	const struct hfb_spsc *ring = core->out[to];

	if (ring == NULL)
		return false;
	/* pairs with the release in hfb_spsc_pop() */
	return ring->tail - __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE) + 2 * HFB_BURST_MAX >
	       (uint64_t)ring->mask + 1;
}

bool
hfb_feed_paused(const struct hfb_core *core)
{
	const struct hfb_feeds *feeds = core->feeds;

	if (__atomic_load_n(&feeds->blocked, __ATOMIC_RELAXED))
		return true;
	if (core->node->cores_count == 1)
		return false;
	for (uint32_t f = 0; f < feeds->count; f++) {
		const struct hfb_partition *partition = feeds->feed[f].partition;
		const struct hfb_core *owner;

		if (partition == NULL || partition->core == core->id)
			continue;
		owner = core->node->cores[partition->core];
		/* a hint: what is under way when it becomes true finds room in the ring */
		if (__atomic_load_n(&owner->feeds->blocked, __ATOMIC_RELAXED) ||
		    handover_tight(core, partition->core))
			return true;
	}
	return false;
}
