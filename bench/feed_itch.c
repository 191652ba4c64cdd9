/* SPDX-License-Identifier: Apache-2.0 */
/*
 * feed_itch.c - an exchange: one MoldUDP64 session on lines A and B, framed
 * independently, with losses, reordering, duplicates, heartbeats and an end of
 * session, all from one seed, and a file that tells exactly what was lost where.
 *
 *	messages 1..N (itch.h) ── line A ── framing ── losses ── late, twice ──┐
 *			       └─ line B ── framing ── losses ── late, twice ──┴─ port | pcap
 *
 * What is lost on both lines is what no arbitration can bring back: a receiver
 * must report those sequences as gaps, each once, and deliver all others.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <jansson.h>

#include "feed.h"

#define WINDOW	    4096u /* messages made and not sent by both lines */
#define MOLD_HEADER 20u
#define PAYLOAD_MAX 1400u
#define LATE_MAX    8u	/* datagrams one may be late */
#define LAG_MAX	    64	/* messages between the lines */
#define BLOCK_MAX   40u /* messages of a loss on both lines */
#define END_REPEATS 5u

struct late {
	uint32_t due; /* datagrams of its line until it goes; 0 = free */
	uint32_t size;
	uint8_t payload[PAYLOAD_MAX];
};

struct line {
	struct frame_line to;
	uint64_t random;
	uint64_t next; /* sequence */
	uint8_t lost_bit;
	struct late late[4];
	uint64_t datagrams, datagrams_lost, messages_lost, late_count, twice, heartbeats;
};

struct message {
	uint32_t size;
	uint8_t bytes[ITCH_BYTES_MAX];
};

struct exchange {
	const struct feed_options *o;
	struct frame_out *out;
	struct feed_clock clock;
	struct line line[FEED_LINES];
	struct message window[WINDOW];
	uint64_t made; /* messages made; sequences 1..made */
	uint8_t *lost; /* bit per line, by sequence */
	uint64_t *block, *block_end;
	uint32_t block_at[FEED_LINES];
	int64_t lag;
	volatile sig_atomic_t *stop;
};

static const struct message *
message_get(struct exchange *x, uint64_t sequence)
{
	if (sequence > x->made) {
		/* the clock is read once in 16, as often as a datagram goes out */
		if (x->o->rate != 0 || x->out->pcap != NULL || sequence % 16 == 1)
			feed_clock_wait(&x->clock, sequence);
		x->made = sequence;
		x->window[sequence % WINDOW].size = itch_message(
			x->o->seed, sequence, x->clock.time_ns, x->window[sequence % WINDOW].bytes);
	}
	return &x->window[sequence % WINDOW];
}

static void
mold_header(const struct exchange *x, uint8_t *to, uint64_t sequence, uint16_t count)
{
	memcpy(to, x->o->session, 10);
	itch_put(to + 10, sequence, 8);
	itch_put(to + 18, count, 2);
}

static void
control_send(struct exchange *x, uint32_t l, uint16_t count)
{
	uint8_t payload[MOLD_HEADER];

	mold_header(x, payload, x->line[l].next, count);
	frame_out_datagram(x->out, &x->line[l].to, payload, sizeof(payload), x->clock.time_ns);
}

/* Those whose delay is over; all of them when @all. */
static void
late_send(struct exchange *x, uint32_t l, bool all)
{
	for (uint32_t i = 0; i < sizeof(x->line[l].late) / sizeof(x->line[l].late[0]); i++) {
		struct late *late = &x->line[l].late[i];

		if (late->due == 0 || (--late->due > 0 && !all))
			continue;
		late->due = 0;
		frame_out_datagram(x->out, &x->line[l].to, late->payload, late->size,
				   x->clock.time_ns);
	}
}

static bool
late_keep(struct line *line, const uint8_t *payload, uint32_t size)
{
	for (uint32_t i = 0; i < sizeof(line->late) / sizeof(line->late[0]); i++) {
		if (line->late[i].due > 0)
			continue;
		line->late[i].due = 2 + (uint32_t)(feed_draw(&line->random) % LATE_MAX);
		line->late[i].size = size;
		memcpy(line->late[i].payload, payload, size);
		return true;
	}
	return false;
}

/* Is @sequence in a block that both lines lose? */
static bool
in_block(struct exchange *x, uint32_t l, uint64_t sequence)
{
	uint32_t *at = &x->block_at[l];

	while (*at < x->o->blocks && x->block_end[*at] <= sequence)
		(*at)++;
	return *at < x->o->blocks && x->block[*at] <= sequence;
}

/* The next datagram of a line. */
static void
line_step(struct exchange *x, uint32_t l)
{
	static const uint8_t counts[] = { 1, 1, 2, 3, 5, 8, 16, 40 };
	struct line *line = &x->line[l];
	uint8_t payload[PAYLOAD_MAX];
	uint32_t size = MOLD_HEADER, count = 0, most = counts[feed_draw(&line->random) % 8];
	uint64_t first = line->next;

	if (most > x->o->datagram_max)
		most = x->o->datagram_max;
	while (count < most && first + count <= x->o->messages) {
		const struct message *m = message_get(x, first + count);

		if (size + 2 + m->size > PAYLOAD_MAX)
			break;
		itch_put(payload + size, m->size, 2);
		memcpy(payload + size + 2, m->bytes, m->size);
		size += 2 + m->size;
		count++;
	}
	mold_header(x, payload, first, (uint16_t)count);
	line->next += count;
	line->datagrams++;
	if (in_block(x, l, first) || feed_happens(&line->random, x->o->loss_ppm)) {
		line->datagrams_lost++;
		line->messages_lost += count;
		for (uint32_t i = 0; i < count; i++)
			x->lost[first + i] |= line->lost_bit;
	} else if (feed_happens(&line->random, x->o->late_ppm) && late_keep(line, payload, size)) {
		line->late_count++;
	} else {
		frame_out_datagram(x->out, &x->line[l].to, payload, size, x->clock.time_ns);
		if (feed_happens(&line->random, x->o->twice_ppm)) {
			frame_out_datagram(x->out, &x->line[l].to, payload, size, x->clock.time_ns);
			line->twice++;
		}
	}
	late_send(x, l, false);
	if (x->o->heartbeat_every > 0 && line->datagrams % x->o->heartbeat_every == 0) {
		control_send(x, l, 0);
		line->heartbeats++;
	}
}

static void
run(struct exchange *x)
{
	uint64_t random = x->o->seed, steps = 0;

	while (!*x->stop) {
		uint64_t a = x->line[0].next, b = x->line[1].next, n = x->o->messages;

		if (a > n && b > n)
			break;
		/* now one line is ahead, now the other */
		if (steps++ % 128 == 0)
			x->lag = (int64_t)(feed_draw(&random) % (2 * LAG_MAX)) - LAG_MAX;
		line_step(x, a > n || (b <= n && (int64_t)(a - b) > x->lag) ? 1 : 0);
	}
	for (uint32_t l = 0; l < FEED_LINES && !*x->stop; l++)
		late_send(x, l, true);
	if (x->out->pcap == NULL)
		frame_out_flush(x->out);
}

/* Both lines say that it is over, for a while as the protocol asks. */
static void
end(struct exchange *x)
{
	for (uint32_t i = 0; i < END_REPEATS && !*x->stop; i++) {
		x->clock.time_ns += 100000000u;
		for (uint32_t l = 0; l < FEED_LINES; l++)
			control_send(x, l, 0xffff);
		if (x->out->pcap == NULL) {
			frame_out_flush(x->out);
			usleep(20000);
		}
	}
}

/* Truth -------------------------------------------------------------------------- */

/* Ranges of sequences with all of @bits; the count in *@ret_count. */
static json_t *
ranges(const struct exchange *x, uint8_t bits, uint64_t *ret_count)
{
	json_t *list = json_array();
	uint64_t n = x->o->messages, count = 0;

	for (uint64_t q = 1; q <= n; q++) {
		uint64_t first = q;

		while (q <= n && (x->lost[q] & bits) == bits)
			q++;
		if (q == first)
			continue;
		count += q - first;
		json_array_append_new(list,
				      json_pack("[I, I]", (json_int_t)first, (json_int_t)(q - 1)));
	}
	*ret_count = count;
	return list;
}

static json_t *
line_truth(const struct exchange *x, uint32_t l)
{
	const struct line *line = &x->line[l];
	struct in_addr group = { .s_addr = htonl(x->o->group[l]) };
	uint64_t count;
	json_t *lost = ranges(x, line->lost_bit, &count);

	return json_pack("{s:s, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:o}", "group",
			 inet_ntoa(group), "port", x->o->udp_port, "datagrams",
			 (json_int_t)(line->datagrams - line->datagrams_lost), "lost_datagrams",
			 (json_int_t)line->datagrams_lost, "lost_messages",
			 (json_int_t)line->messages_lost, "late", (json_int_t)line->late_count,
			 "duplicated", (json_int_t)line->twice, "heartbeats",
			 (json_int_t)line->heartbeats, "end_of_session", (int)END_REPEATS, "lost",
			 lost);
}

static int
truth_write(const struct exchange *x, double seconds, struct hfb_err *err)
{
	uint64_t both;
	json_t *lost = ranges(x, 3, &both), *truth;
	char session[11];
	int r = 0;

	memcpy(session, x->o->session, sizeof(session));
	for (int i = 9; i >= 0 && session[i] == ' '; i--)
		session[i] = '\0';
	truth = json_pack(
		"{s:s, s:I, s:I, s:f, s:I, s:I, s:I, s:{s:o, s:o}, s:I, s:o}", "session", session,
		"messages", (json_int_t)x->o->messages, "seed", (json_int_t)x->o->seed, "seconds",
		seconds, "frames", (json_int_t)x->out->frames, "bytes", (json_int_t)x->out->bytes,
		"bursts_refused", (json_int_t)x->out->refusals, "lines", "A", line_truth(x, 0), "B",
		line_truth(x, 1), "lost_on_both_count", (json_int_t)both, "lost_on_both", lost);
	if (truth == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory for the truth file");
	if (x->o->truth != NULL) {
		if (json_dump_file(truth, x->o->truth, JSON_INDENT(1)) < 0)
			r = hfb_err_set(err, -EIO, "cannot write %s, see --truth", x->o->truth);
	}
	/* the summary: all but the ranges, one line */
	json_object_del(truth, "lost_on_both");
	json_object_del(json_object_get(json_object_get(truth, "lines"), "A"), "lost");
	json_object_del(json_object_get(json_object_get(truth, "lines"), "B"), "lost");
	json_dumpf(truth, stdout, JSON_COMPACT);
	putchar('\n');
	fflush(stdout);
	json_decref(truth);
	return r;
}

/* Start ---------------------------------------------------------------------------- */

static int
u64_order(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int
exchange_init(struct exchange *x, const struct feed_options *o, struct hfb_err *err)
{
	uint64_t random = o->seed * 31;

	x->lost = calloc(o->messages + 2, 1);
	x->block = calloc(o->blocks + 1, sizeof(*x->block));
	x->block_end = calloc(o->blocks + 1, sizeof(*x->block_end));
	if (x->lost == NULL || x->block == NULL || x->block_end == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory, see --messages");
	for (uint32_t i = 0; i < o->blocks; i++)
		x->block[i] = 1 + feed_draw(&random) % o->messages;
	qsort(x->block, o->blocks, sizeof(*x->block), u64_order);
	for (uint32_t i = 0; i < o->blocks; i++)
		x->block_end[i] = x->block[i] + 1 + feed_draw(&random) % BLOCK_MAX;
	for (uint32_t l = 0; l < FEED_LINES; l++) {
		x->line[l].random = (o->seed << 20) + ((uint64_t)(l + 1) << 50);
		x->line[l].next = 1;
		x->line[l].lost_bit = (uint8_t)(1 << l);
		frame_line_init(&x->line[l].to, 0xc000020au + l, 49653, o->group[l], o->udp_port);
	}
	return 0;
}

int
feed_itch_run(const struct feed_options *o, struct frame_out *out, volatile sig_atomic_t *stop,
	      struct hfb_err *err)
{
	struct exchange *x = calloc(1, sizeof(*x));
	uint64_t from_ns;
	double seconds;
	int r;

	if (x == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	x->o = o;
	x->out = out;
	x->stop = stop;
	r = exchange_init(x, o, err);
	if (r < 0)
		goto out;
	feed_clock_start(&x->clock, o, out, stop);
	from_ns = feed_now_ns();
	run(x);
	seconds = (double)(feed_now_ns() - from_ns) / 1e9;
	end(x);
	if (*stop)
		r = hfb_err_set(err, -EINTR, "stopped before the end of the session");
	else
		r = truth_write(x, seconds, err);
out:
	free(x->lost);
	free(x->block);
	free(x->block_end);
	free(x);
	return r;
}
