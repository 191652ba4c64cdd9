/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_feed.c - `hfbus-bench feed`: the options, the way out, the lingering.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>

#include "bench.h"
#include "feed.h"
#include "units.h"

static void
usage(FILE *to)
{
	fputs("usage: hfbus-bench feed (--device EAL-DEVICE | --pcap FILE) [options]\n"
	      "Send what an exchange or a fleet of hosts would, made from a seed.\n\n"
	      "  --kind KIND       itch: one MoldUDP64 session on lines A and B (default);\n"
	      "                    statsd, syslog: lines as raw datagrams of many hosts\n"
	      "  --device DEV      DPDK device, e.g. "
	      "net_memif0,role=client,socket=PATH,socket-abstract=no\n"
	      "  --pcap FILE       write a capture instead; times are those of --rate (1000000)\n"
	      "  --messages N      how many (2000000)\n"
	      "  --rate N          messages a second; 0 = as fast as the port takes them (0)\n"
	      "  --burst N         messages come in bursts of 1 to N, many small, few large (0)\n"
	      "  --seed N          everything follows from it (1)\n"
	      "  --group IP[+IP]   itch: groups of line A and B (239.192.1.1+239.192.1.2);\n"
	      "                    else where the lines go (239.192.2.1)\n"
	      "  --port N          UDP port (itch 26477, statsd 8125, syslog 514)\n"
	      "  --datagram N      messages in a datagram at most (itch 40, statsd 10)\n"
	      "  --loss PPM        datagrams lost, on each line (10000; telemetry 0)\n"
	      "  --late PPM        datagrams that come up to 8 datagrams late (5000)\n"
	      "  --duplicate PPM   datagrams sent twice (2000)\n"
	      "  --start-ns NS     --pcap: time of the first message\n"
	      "  --truth FILE      write what was sent and lost, as JSON\n"
	      "  --linger          stay attached until standard input ends\n"
	      "  --help            this text\n"
	      "itch only:\n"
	      "  --session TEXT    at most 10 characters (HFBUS00001)\n"
	      "  --blocks N        runs of up to 40 messages lost on both lines (20)\n"
	      "  --heartbeats N    one every N datagrams of a line; 0 = none (500)\n"
	      "statsd and syslog only:\n"
	      "  --hosts N         senders, each with an address (100)\n\n"
	      "Prints a summary as one line of JSON. Exit: 0 sent, 1 failed, 2 usage.\n",
	      to);
}

/* "IP" or "IP+IP" in host order. */
static bool
groups_parse(const char *text, struct feed_options *o)
{
	char copy[64], *next = copy;

	if (strlen(text) >= sizeof(copy))
		return false;
	strcpy(copy, text);
	for (o->groups = 0; next != NULL; o->groups++) {
		char *ip = strsep(&next, "+");
		struct in_addr a;

		if (o->groups == FEED_LINES || inet_pton(AF_INET, ip, &a) != 1)
			return false;
		o->group[o->groups] = ntohl(a.s_addr);
	}
	return true;
}

static bool
kind_parse(const char *text, enum feed_kind *ret)
{
	static const char *const names[] = { "itch", "statsd", "syslog" };

	for (uint32_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(text, names[i]) == 0) {
			*ret = (enum feed_kind)i;
			return true;
		}
	}
	return false;
}

static bool
number(const char *text, uint64_t least, uint64_t most, uint64_t *ret)
{
	uint64_t v;

	if (hfb_number_parse(text, &v) < 0 || v < least || v > most)
		return false;
	*ret = v;
	return true;
}

static bool
number32(const char *text, uint32_t least, uint32_t most, uint32_t *ret)
{
	uint64_t v;

	if (!number(text, least, most, &v))
		return false;
	*ret = (uint32_t)v;
	return true;
}

/* One option. False when @text is no value for it. */
static bool
option_set(struct feed_options *o, int c, const char *text)
{
	uint64_t v;

	switch (c) {
	case 'k':
		return kind_parse(text, &o->kind);
	case 'd':
		o->device = text;
		return true;
	case 'w':
		o->pcap = text;
		return true;
	case 'T':
		o->truth = text;
		return true;
	case 'K':
		o->linger = true;
		return true;
	case 'n':
		return number(text, 1, 1000000000u, &o->messages);
	case 'r':
		return number(text, 0, 1000000000u, &o->rate);
	case 's':
		return number(text, 0, UINT32_MAX, &o->seed);
	case 't':
		return number(text, 0, INT64_MAX, &o->start_ns);
	case 'g':
		return groups_parse(text, o);
	case 'p':
		if (!number(text, 1, 65535, &v))
			return false;
		o->udp_port = (uint16_t)v;
		return true;
	case 'B':
		return number32(text, 0, 1000000, &o->burst);
	case 'm':
		return number32(text, 1, 40, &o->datagram_max);
	case 'l':
		return number32(text, 0, 1000000, &o->loss_ppm);
	case 'L':
		return number32(text, 0, 1000000, &o->late_ppm);
	case 'D':
		return number32(text, 0, 1000000, &o->twice_ppm);
	case 'b':
		return number32(text, 0, 1000000, &o->blocks);
	case 'H':
		return number32(text, 0, UINT32_MAX, &o->heartbeat_every);
	case 'N':
		return number32(text, 1, 65000, &o->hosts);
	default: /* 'S' */
		if (strlen(text) > 10)
			return false;
		memset(o->session, ' ', 10);
		memcpy(o->session, text, strlen(text));
		return true;
	}
}

/* What follows from the kind, where no option said otherwise. */
static bool
defaults_set(struct feed_options *o)
{
	bool itch = o->kind == FEED_ITCH;

	if (o->udp_port == 0)
		o->udp_port = itch ? 26477 : o->kind == FEED_STATSD ? 8125 : 514;
	if (o->datagram_max == 0)
		o->datagram_max = itch ? 40 : 10;
	if (o->loss_ppm == UINT32_MAX)
		o->loss_ppm = itch ? 10000 : 0;
	if (o->late_ppm == UINT32_MAX)
		o->late_ppm = itch ? 5000 : 0;
	if (o->twice_ppm == UINT32_MAX)
		o->twice_ppm = itch ? 2000 : 0;
	if (o->groups == 0) {
		o->groups = itch ? 2 : 1;
		o->group[0] = itch ? 0xefc00101u : 0xefc00201u;
		o->group[1] = 0xefc00102u;
	}
	return o->groups == (itch ? 2 : 1);
}

/* Returns 0, 1 after --help, or 2. */
static int
options_parse(struct feed_options *o, int argc, char **argv)
{
	static const struct option list[] = {
		{ "kind", 1, NULL, 'k' },      { "device", 1, NULL, 'd' },
		{ "pcap", 1, NULL, 'w' },      { "messages", 1, NULL, 'n' },
		{ "rate", 1, NULL, 'r' },      { "burst", 1, NULL, 'B' },
		{ "seed", 1, NULL, 's' },      { "session", 1, NULL, 'S' },
		{ "group", 1, NULL, 'g' },     { "port", 1, NULL, 'p' },
		{ "datagram", 1, NULL, 'm' },  { "loss", 1, NULL, 'l' },
		{ "blocks", 1, NULL, 'b' },    { "late", 1, NULL, 'L' },
		{ "duplicate", 1, NULL, 'D' }, { "heartbeats", 1, NULL, 'H' },
		{ "start-ns", 1, NULL, 't' },  { "truth", 1, NULL, 'T' },
		{ "hosts", 1, NULL, 'N' },     { "linger", 0, NULL, 'K' },
		{ "help", 0, NULL, 'h' },      { 0 },
	};
	int c, at;

	while (at = -1, (c = getopt_long(argc, argv, "", list, &at)) != -1) {
		if (c == 'h') {
			usage(stdout);
			return 1;
		}
		if (c == '?') {
			usage(stderr);
			return 2;
		}
		if (!option_set(o, c, optarg)) {
			fprintf(stderr, "%s: --%s: '%s' is no value for it, see --help\n", argv[0],
				list[at].name, optarg);
			return 2;
		}
	}
	if (optind < argc || (o->device == NULL) == (o->pcap == NULL)) {
		usage(stderr);
		return 2;
	}
	if (!defaults_set(o)) {
		fprintf(stderr, "%s: --group: itch has two lines, IP+IP, the others one IP\n",
			argv[0]);
		return 2;
	}
	return 0;
}

static int
feed_main(int argc, char **argv)
{
	struct feed_options o = {
		.session = "HFBUS00001",
		.messages = 2000000,
		.seed = 1,
		.loss_ppm = UINT32_MAX,
		.late_ppm = UINT32_MAX,
		.twice_ppm = UINT32_MAX,
		.blocks = 20,
		.heartbeat_every = 500,
		.hosts = 100,
		.start_ns = 1700000000ull * 1000000000u,
	};
	struct frame_out_config config = { .cpu = -1, .stop = &bench_stop };
	struct frame_out out;
	struct hfb_err err = { 0 };
	int r = options_parse(&o, argc, argv);

	if (r != 0)
		return r == 1 ? 0 : r;
	config.device = o.device;
	config.pcap = o.pcap;
	r = frame_out_open(&out, &config, &err);
	if (r == 0) {
		r = o.kind == FEED_ITCH ? feed_itch_run(&o, &out, &bench_stop, &err)
					: feed_telemetry_run(&o, &out, &bench_stop, &err);
		/*
		 * A memif server that polls while its client goes away may fault, so whoever
		 * runs both keeps us until the server is gone.
		 */
		while (o.linger && !bench_stop && getchar() != EOF)
			;
		if (frame_out_close(&out, &err) < 0)
			r = -1;
	}
	if (r < 0)
		fprintf(stderr, "%s: %s\n", argv[0], err.text);
	return r < 0 ? 1 : 0;
}

const struct bench_scenario bench_feed = {
	.name = "feed",
	.summary = "send what an exchange (MoldUDP64 A/B) or hosts (statsd, syslog) would",
	.main = feed_main,
};
