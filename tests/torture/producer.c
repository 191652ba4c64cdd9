/* SPDX-License-Identifier: Apache-2.0 */
/*
 * producer.c - the torture tests' publisher: events that tell who sent them, which one
 * it is and whether it is whole; and a file of every ack, the moment it came.
 *
 *	torture-producer --data DIR --topic T --partition P --id N --acks FILE [--rate R]
 *			 [--first SEQ] [--ack STAGE] [--count N] [--max BYTES]
 *
 * An event: "ID SEQ HASH FILLER". FILLER is letters made from (ID, SEQ), HASH is of
 * all before and after it. A line of FILE: "FIRST COUNT BASE_OFFSET" of SEQ; -1 when
 * the broker did not tell the offset. SIGTERM: flush and end.
 *
 * Exit: 0 all acked, 1 failed.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <hfbus/hfbus.h>

#define RECONNECT_MS 60000u
#define FLUSH_MS     60000u
#define VALUE_MAX    8192u

static volatile sig_atomic_t stopping;

static void
stop(int number)
{
	(void)number;
	stopping = 1;
}

static uint64_t
mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

/* The crc32 of zlib, which the checker's language brings along. */
static uint32_t
crc32_of(const char *bytes, size_t size)
{
	uint32_t crc = 0xffffffffu;

	for (size_t i = 0; i < size; i++) {
		crc ^= (uint8_t)bytes[i];
		for (int bit = 0; bit < 8; bit++)
			crc = (crc >> 1) ^ (0xedb88320u & -(crc & 1u));
	}
	return ~crc;
}

static uint32_t
make_event(char *value, uint32_t id, uint64_t seq, uint32_t filler_max)
{
	uint64_t random = mix(((uint64_t)id << 48) ^ seq);
	/* Mostly small, now and then one that is larger than a page. */
	uint32_t filler = (uint32_t)(random >> 32) % (random % 64 == 0 ? filler_max : 120);
	char tail[VALUE_MAX];
	int head, n;

	for (uint32_t i = 0; i < filler; i++)
		tail[i] = (char)('a' + (random >> (i % 59)) % 26);
	tail[filler] = '\0';
	head = snprintf(value, VALUE_MAX, "%u %" PRIu64 " %s", id, seq, tail);
	n = snprintf(value, VALUE_MAX, "%u %" PRIu64 " %08" PRIx32 " %s", id, seq,
		     crc32_of(value, (size_t)head), tail);
	return (uint32_t)n;
}

struct producer {
	int acks;
	uint64_t first, acked;
};

static void
acked(void *arg, const struct hfb_acked *a)
{
	struct producer *p = arg;
	char line[80];
	int n = snprintf(line, sizeof(line), "%" PRIu64 " %u %" PRId64 "\n", p->first + a->sequence,
			 a->events, (int64_t)a->base_offset);

	if (write(p->acks, line, (size_t)n) != n) {
		perror("torture-producer: acks");
		_exit(1);
	}
	p->acked += a->events;
}

static uint64_t
now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

struct options {
	struct hfb_bus_config bus;
	struct hfb_pub_config pub;
	const char *acks;
	uint32_t id, filler_max;
	uint64_t rate, first, count;
};

/* Soft errors (a restart, a full disk) are what the test is about: go on. */
static int
soft(int r)
{
	return r == -ENOTCONN || r == -ETIMEDOUT || r == -ENOSPC || r == -EAGAIN || r == -EIO;
}

static int
produce(struct hfb_pub *pub, const struct options *o, uint64_t *ret_sent)
{
	uint64_t began = now_ns(), sent = 0;
	struct hfb_err err = { 0 };
	char value[VALUE_MAX];
	int r = 0;

	while (!stopping && (o->count == 0 || sent < o->count)) {
		uint64_t due = o->rate == 0 ? UINT64_MAX
					    : (now_ns() - began) / 1000 * o->rate / 1000000 + 1;

		for (uint32_t i = 0; i < 64 && sent < due && (o->count == 0 || sent < o->count);
		     i++) {
			struct hfb_event event = { .value = value };

			event.value_size = make_event(value, o->id, o->first + sent, o->filler_max);
			r = hfb_pub_send(pub, &event, &err);
			if (r < 0)
				break;
			sent++;
		}
		if (r < 0 && !soft(r))
			break;
		r = hfb_pub_poll(pub, 1, &err);
		if (r < 0 && !soft(r))
			break;
		r = 0;
		if (sent >= due)
			usleep(500);
	}
	*ret_sent = sent;
	for (int tries = 0; r >= 0 && tries < 10; tries++) {
		r = hfb_pub_flush(pub, FLUSH_MS, &err);
		if (r == 0 || !soft(r))
			break;
	}
	if (r < 0)
		fprintf(stderr, "torture-producer %u: %s\n", o->id, err.text);
	return r;
}

static int
run(const struct options *o)
{
	struct producer p = { .first = o->first };
	struct hfb_pub_config config = o->pub;
	struct hfb_pub_stats stats;
	struct hfb_bus *bus = NULL;
	struct hfb_pub *pub = NULL;
	struct hfb_err err = { 0 };
	uint64_t sent = 0;
	int r;

	p.acks = open(o->acks, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (p.acks < 0) {
		perror(o->acks);
		return 1;
	}
	config.acked = acked;
	config.arg = &p;
	r = hfb_bus_open(&o->bus, &bus, &err);
	if (r == 0)
		r = hfb_pub_open(bus, &config, &pub, &err);
	if (r < 0) {
		fprintf(stderr, "torture-producer %u: %s\n", o->id, err.text);
		hfb_bus_close(bus);
		return 1;
	}
	r = produce(pub, o, &sent);
	hfb_pub_stats_get(pub, &stats);
	printf("{\"id\":%u,\"sent\":%" PRIu64 ",\"acked\":%" PRIu64 ",\"frames\":%" PRIu64
	       ",\"resent\":%" PRIu64 ",\"reconnects\":%" PRIu64 "}\n",
	       o->id, sent, p.acked, stats.frames, stats.resent_frames, stats.reconnects);
	hfb_pub_close(pub);
	hfb_bus_close(bus);
	close(p.acks);
	return r == 0 && p.acked == sent && fflush(stdout) == 0 ? 0 : 1;
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "data", required_argument, NULL, 'd' },
		{ "udp", required_argument, NULL, 'u' },
		{ "topic", required_argument, NULL, 't' },
		{ "partition", required_argument, NULL, 'p' },
		{ "id", required_argument, NULL, 'i' },
		{ "acks", required_argument, NULL, 'a' },
		{ "rate", required_argument, NULL, 'r' },
		{ "first", required_argument, NULL, 'f' },
		{ "count", required_argument, NULL, 'n' },
		{ "max", required_argument, NULL, 'm' },
		{ "ack", required_argument, NULL, 's' },
		{ NULL, 0, NULL, 0 },
	};
	struct options o = {
		.bus = { .reconnect_ms = RECONNECT_MS },
		.pub = { .ack = HFB_STAGE_DURABLE },
		.filler_max = 6000,
	};
	struct sigaction action = { .sa_handler = stop };
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		const char *text = optarg != NULL ? optarg : "";
		uint64_t number = strtoull(text, NULL, 10);

		switch (option) {
		case 'd':
			o.bus.data_dir = optarg;
			break;
		case 'u':
			o.bus.udp = optarg;
			break;
		case 't':
			o.pub.topic = optarg;
			break;
		case 'p':
			o.pub.partition = (int32_t)number;
			break;
		case 'i':
			o.id = (uint32_t)number;
			break;
		case 'a':
			o.acks = optarg;
			break;
		case 'r':
			o.rate = number;
			break;
		case 'f':
			o.first = number;
			break;
		case 'n':
			o.count = number;
			break;
		case 'm':
			o.filler_max = number < 1 || number > 8000 ? 8000 : (uint32_t)number;
			break;
		case 's':
			o.pub.ack = strcmp(text, "received") == 0 ? HFB_STAGE_RECEIVED
								  : HFB_STAGE_DURABLE;
			break;
		default:
			return 2;
		}
	}
	if (o.pub.topic == NULL || o.acks == NULL || optind < argc) {
		fputs("usage: see the head of tests/torture/producer.c\n", stderr);
		return 2;
	}
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	return run(&o);
}
