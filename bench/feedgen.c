/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hfbus-feedgen - an exchange: one MoldUDP64 session on lines A and B, framed
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
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <jansson.h>

#include "feedgen.h"
#include "itch.h"

#define WINDOW	    4096u /* messages made and not sent by both lines */
#define MOLD_HEADER 20u
#define PAYLOAD_MAX 1400u
#define LATE_MAX    8u	/* datagrams one may be late */
#define LAG_MAX	    64	/* messages between the lines */
#define BLOCK_MAX   40u /* messages of a loss on both lines */
#define END_REPEATS 5u

struct options {
	const char *device, *pcap, *truth;
	char session[11];
	uint64_t messages, seed, rate, start_ns;
	uint32_t datagram_max, loss_ppm, late_ppm, twice_ppm, blocks, heartbeat_every;
	uint32_t group[FEEDGEN_LINES];
	uint16_t udp_port;
	bool linger;
};

struct late {
	uint32_t due; /* datagrams of its line until it goes; 0 = free */
	uint32_t size;
	uint8_t payload[PAYLOAD_MAX];
};

struct line {
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
	const struct options *o;
	struct feedgen_out out;
	struct line line[FEEDGEN_LINES];
	struct message window[WINDOW];
	uint64_t made; /* messages made; sequences 1..made */
	uint8_t *lost; /* bit per line, by sequence */
	uint64_t *block, *block_end;
	uint32_t block_at[FEEDGEN_LINES];
	uint64_t start_ns, time_ns;
	int64_t lag;
};

static volatile int stop;

static void
stop_ask(int signal_number)
{
	stop = 1;
}

static uint64_t
now_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t
draw(uint64_t *state)
{
	*state += 1;
	return itch_random(0x66656564u, *state);
}

static bool
happens(uint64_t *state, uint32_t ppm)
{
	return draw(state) % 1000000u < ppm;
}

/* When message @sequence exists: paced by --rate, else now. */
static void
message_time(struct exchange *x, uint64_t sequence)
{
	uint64_t rate = x->o->rate != 0 ? x->o->rate : 1000000u;
	uint64_t due_ns =
		(sequence - 1) / rate * 1000000000u + (sequence - 1) % rate * 1000000000u / rate;

	if (x->out.pcap != NULL) {
		x->time_ns = x->start_ns + due_ns;
		return;
	}
	x->time_ns = now_ns(CLOCK_REALTIME);
	if (x->o->rate == 0 || x->time_ns >= x->start_ns + due_ns)
		return;
	feedgen_out_flush(&x->out);
	while ((x->time_ns = now_ns(CLOCK_REALTIME)) < x->start_ns + due_ns && !stop) {
		if (x->start_ns + due_ns - x->time_ns > 100000)
			usleep(50);
	}
}

static const struct message *
message_get(struct exchange *x, uint64_t sequence)
{
	if (sequence > x->made) {
		/* the clock is read once in 16, as often as a datagram goes out */
		if (x->o->rate != 0 || x->out.pcap != NULL || sequence % 16 == 1)
			message_time(x, sequence);
		x->made = sequence;
		x->window[sequence % WINDOW].size = itch_message(
			x->o->seed, sequence, x->time_ns, x->window[sequence % WINDOW].bytes);
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
	feedgen_out_datagram(&x->out, l, payload, sizeof(payload), x->time_ns);
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
		feedgen_out_datagram(&x->out, l, late->payload, late->size, x->time_ns);
	}
}

static bool
late_keep(struct line *line, const uint8_t *payload, uint32_t size)
{
	for (uint32_t i = 0; i < sizeof(line->late) / sizeof(line->late[0]); i++) {
		if (line->late[i].due > 0)
			continue;
		line->late[i].due = 2 + (uint32_t)(draw(&line->random) % LATE_MAX);
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
	uint32_t size = MOLD_HEADER, count = 0, most = counts[draw(&line->random) % 8];
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
	if (in_block(x, l, first) || happens(&line->random, x->o->loss_ppm)) {
		line->datagrams_lost++;
		line->messages_lost += count;
		for (uint32_t i = 0; i < count; i++)
			x->lost[first + i] |= line->lost_bit;
	} else if (happens(&line->random, x->o->late_ppm) && late_keep(line, payload, size)) {
		line->late_count++;
	} else {
		feedgen_out_datagram(&x->out, l, payload, size, x->time_ns);
		if (happens(&line->random, x->o->twice_ppm)) {
			feedgen_out_datagram(&x->out, l, payload, size, x->time_ns);
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

	while (!stop) {
		uint64_t a = x->line[0].next, b = x->line[1].next, n = x->o->messages;

		if (a > n && b > n)
			break;
		/* now one line is ahead, now the other */
		if (steps++ % 128 == 0)
			x->lag = (int64_t)(draw(&random) % (2 * LAG_MAX)) - LAG_MAX;
		line_step(x, a > n || (b <= n && (int64_t)(a - b) > x->lag) ? 1 : 0);
	}
	for (uint32_t l = 0; l < FEEDGEN_LINES && !stop; l++)
		late_send(x, l, true);
	if (x->out.pcap == NULL)
		feedgen_out_flush(&x->out);
}

/* Both lines say that it is over, for a while as the protocol asks. */
static void
end(struct exchange *x)
{
	for (uint32_t i = 0; i < END_REPEATS && !stop; i++) {
		x->time_ns += 100000000u;
		for (uint32_t l = 0; l < FEEDGEN_LINES; l++)
			control_send(x, l, 0xffff);
		if (x->out.pcap == NULL) {
			feedgen_out_flush(&x->out);
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
		seconds, "frames", (json_int_t)x->out.frames, "bytes", (json_int_t)x->out.bytes,
		"bursts_refused", (json_int_t)x->out.refusals, "lines", "A", line_truth(x, 0), "B",
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
exchange_init(struct exchange *x, const struct options *o, struct hfb_err *err)
{
	uint64_t random = o->seed * 31;

	x->o = o;
	x->out.stop = &stop;
	x->out.udp_checksums = o->pcap != NULL;
	x->lost = calloc(o->messages + 2, 1);
	x->block = calloc(o->blocks + 1, sizeof(*x->block));
	x->block_end = calloc(o->blocks + 1, sizeof(*x->block_end));
	if (x->lost == NULL || x->block == NULL || x->block_end == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory, see --messages");
	for (uint32_t i = 0; i < o->blocks; i++)
		x->block[i] = 1 + draw(&random) % o->messages;
	qsort(x->block, o->blocks, sizeof(*x->block), u64_order);
	for (uint32_t i = 0; i < o->blocks; i++)
		x->block_end[i] = x->block[i] + 1 + draw(&random) % BLOCK_MAX;
	for (uint32_t l = 0; l < FEEDGEN_LINES; l++) {
		x->line[l].random = (o->seed << 20) + ((uint64_t)(l + 1) << 50);
		x->line[l].next = 1;
		x->line[l].lost_bit = (uint8_t)(1 << l);
		feedgen_out_line(&x->out, l, 0xc000020au + l, o->group[l], o->udp_port);
	}
	return 0;
}

static void
usage(FILE *to)
{
	fputs("usage: hfbus-feedgen (--device EAL-DEVICE | --pcap FILE) [options]\n"
	      "Send one MoldUDP64 session on lines A and B, with losses, from a seed.\n\n"
	      "  --device DEV      DPDK device, e.g. "
	      "net_memif0,role=client,socket=PATH,socket-abstract=no\n"
	      "  --pcap FILE       write a capture instead; times are those of --rate (1000000)\n"
	      "  --messages N      how many (2000000)\n"
	      "  --rate N          messages a second; 0 = as fast as the port takes them (0)\n"
	      "  --seed N          everything follows from it (1)\n"
	      "  --session TEXT    at most 10 characters (HFBUS00001)\n"
	      "  --group IP+IP     groups of line A and B (239.192.1.1+239.192.1.2)\n"
	      "  --port N          UDP port of both (26477)\n"
	      "  --datagram N      messages in a datagram at most (40)\n"
	      "  --loss PPM        datagrams lost on each line (10000)\n"
	      "  --blocks N        runs of up to 40 messages lost on both lines (20)\n"
	      "  --late PPM        datagrams that come up to 8 datagrams late (5000)\n"
	      "  --duplicate PPM   datagrams sent twice (2000)\n"
	      "  --heartbeats N    one every N datagrams of a line; 0 = none (500)\n"
	      "  --start-ns NS     --pcap: time of the first message\n"
	      "  --truth FILE      write what was sent and lost, as JSON\n"
	      "  --linger          stay attached until standard input ends\n"
	      "  --help            this text\n\n"
	      "Prints a summary as one line of JSON. Exit: 0 sent, 1 failed, 2 usage.\n",
	      to);
}

static bool
number(const char *text, uint64_t most, uint64_t *ret)
{
	char *rest;
	unsigned long long v;

	errno = 0;
	v = strtoull(text, &rest, 10);
	if (errno != 0 || *text < '0' || *text > '9' || *rest != '\0' || v > most)
		return false;
	*ret = v;
	return true;
}

static bool
groups(const char *text, uint32_t *ret)
{
	char copy[64], *plus;
	struct in_addr a, b;

	if (strlen(text) >= sizeof(copy))
		return false;
	strcpy(copy, text);
	plus = strchr(copy, '+');
	if (plus == NULL)
		return false;
	*plus = '\0';
	if (inet_pton(AF_INET, copy, &a) != 1 || inet_pton(AF_INET, plus + 1, &b) != 1)
		return false;
	ret[0] = ntohl(a.s_addr);
	ret[1] = ntohl(b.s_addr);
	return true;
}

/* Returns 0, 1 after --help, or 2. */
static int
options_parse(struct options *o, int argc, char **argv)
{
	static const struct option list[] = {
		{ "device", 1, NULL, 'd' },
		{ "pcap", 1, NULL, 'w' },
		{ "messages", 1, NULL, 'n' },
		{ "rate", 1, NULL, 'r' },
		{ "seed", 1, NULL, 's' },
		{ "session", 1, NULL, 'S' },
		{ "group", 1, NULL, 'g' },
		{ "port", 1, NULL, 'p' },
		{ "datagram", 1, NULL, 'm' },
		{ "loss", 1, NULL, 'l' },
		{ "blocks", 1, NULL, 'b' },
		{ "late", 1, NULL, 'L' },
		{ "duplicate", 1, NULL, 'D' },
		{ "heartbeats", 1, NULL, 'H' },
		{ "start-ns", 1, NULL, 't' },
		{ "truth", 1, NULL, 'T' },
		{ "linger", 0, NULL, 'k' },
		{ "help", 0, NULL, 'h' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", list, NULL)) != -1) {
		uint64_t v = 0;
		bool good = true;

		switch (c) {
		case 'd':
			o->device = optarg;
			break;
		case 'w':
			o->pcap = optarg;
			break;
		case 'T':
			o->truth = optarg;
			break;
		case 'k':
			o->linger = true;
			break;
		case 'n':
			good = number(optarg, 1000000000u, &o->messages) && o->messages > 0;
			break;
		case 'r':
			good = number(optarg, 1000000000u, &o->rate);
			break;
		case 's':
			good = number(optarg, UINT32_MAX, &o->seed);
			break;
		case 't':
			good = number(optarg, INT64_MAX, &o->start_ns);
			break;
		case 'g':
			good = groups(optarg, o->group);
			break;
		case 'p':
			good = number(optarg, 65535, &v);
			o->udp_port = (uint16_t)v;
			break;
		case 'm':
			good = number(optarg, 40, &v) && v > 0;
			o->datagram_max = (uint32_t)v;
			break;
		case 'l':
			good = number(optarg, 1000000, &v);
			o->loss_ppm = (uint32_t)v;
			break;
		case 'L':
			good = number(optarg, 1000000, &v);
			o->late_ppm = (uint32_t)v;
			break;
		case 'D':
			good = number(optarg, 1000000, &v);
			o->twice_ppm = (uint32_t)v;
			break;
		case 'b':
			good = number(optarg, 1000000, &v);
			o->blocks = (uint32_t)v;
			break;
		case 'H':
			good = number(optarg, UINT32_MAX, &v);
			o->heartbeat_every = (uint32_t)v;
			break;
		case 'S':
			good = strlen(optarg) <= 10;
			if (good) {
				memset(o->session, ' ', 10);
				memcpy(o->session, optarg, strlen(optarg));
			}
			break;
		case 'h':
			usage(stdout);
			return 1;
		default:
			usage(stderr);
			return 2;
		}
		if (!good) {
			fprintf(stderr,
				"hfbus-feedgen: %s: not a value for this option, see --help\n",
				optarg);
			return 2;
		}
	}
	if (optind < argc || (o->device == NULL) == (o->pcap == NULL)) {
		usage(stderr);
		return 2;
	}
	return 0;
}

int
main(int argc, char **argv)
{
	struct options o = {
		.session = "HFBUS00001",
		.messages = 2000000,
		.seed = 1,
		.datagram_max = 40,
		.loss_ppm = 10000,
		.late_ppm = 5000,
		.twice_ppm = 2000,
		.blocks = 20,
		.heartbeat_every = 500,
		.group = { 0xefc00101u, 0xefc00102u },
		.udp_port = 26477,
		.start_ns = 1700000000ull * 1000000000u,
	};
	const struct sigaction ask = { .sa_handler = stop_ask };
	struct exchange *x;
	struct hfb_err err = { 0 };
	uint64_t from_ns;
	double seconds;
	int r = options_parse(&o, argc, argv);

	if (r != 0)
		return r == 1 ? 0 : r;
	/* without SA_RESTART, so that waiting for input ends as well */
	sigaction(SIGINT, &ask, NULL);
	sigaction(SIGTERM, &ask, NULL);
	x = calloc(1, sizeof(*x));
	if (x == NULL)
		return 1;
	r = exchange_init(x, &o, &err);
	if (r == 0)
		r = feedgen_out_open(&x->out, o.device, o.pcap, &err);
	if (r < 0)
		goto out;
	x->start_ns = o.pcap != NULL ? o.start_ns : now_ns(CLOCK_REALTIME);
	from_ns = now_ns(CLOCK_MONOTONIC);
	run(x);
	seconds = (double)(now_ns(CLOCK_MONOTONIC) - from_ns) / 1e9;
	end(x);
	if (stop)
		r = hfb_err_set(&err, -EINTR, "stopped before the end of the session");
	else
		r = truth_write(x, seconds, &err);
	/*
	 * A memif server that polls while its client goes away may fault, so whoever
	 * runs both keeps us until the server is gone.
	 */
	while (o.linger && !stop && getchar() != EOF)
		;
	if (feedgen_out_close(&x->out, &err) < 0)
		r = -1;
out:
	if (r < 0)
		fprintf(stderr, "hfbus-feedgen: %s\n", err.text);
	free(x->lost);
	free(x->block);
	free(x->block_end);
	free(x);
	return r < 0 ? 1 : 0;
}
