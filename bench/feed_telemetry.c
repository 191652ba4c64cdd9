/* SPDX-License-Identifier: Apache-2.0 */
/*
 * feed_telemetry.c - what hosts send about themselves: statsd and syslog lines as
 * raw datagrams, from many addresses to one, with losses, some late and some twice.
 *
 * statsd: several lines a datagram, separated by newlines: counters, gauges,
 * timings with a sampling rate, sets. syslog: one message a datagram, RFC 5424 with
 * meta sequenceId (counted per host), one in eight in the older form of RFC 3164.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#include "feed.h"

#define PAYLOAD_MAX    1432u /* what statsd senders keep to */
#define LINE_BYTES_MAX 400u
#define LATE_MAX       8u
#define FIRST_HOST     0x0ac80001u /* 10.200.0.1 */

struct telemetry {
	const struct feed_options *o;
	struct frame_out *out;
	struct feed_clock clock;
	uint64_t random;
	struct frame_line *from; /* by host */
	uint32_t *sequence;	 /* by host: its last syslog message */
	struct frame_line *late_from;
	uint32_t late_due, late_size; /* datagrams until it goes; 0 = none */
	uint8_t late[PAYLOAD_MAX];
	uint64_t datagrams, lost, lost_messages, late_count, twice;
};

static const char *const services[] = { "api", "auth", "cart", "edge", "mail", "orders", "search" };
#define SERVICES (sizeof(services) / sizeof(services[0]))

/* Each returns the line's length, at most LINE_BYTES_MAX. */
static uint32_t
statsd_line(struct telemetry *t, uint32_t host, char *to)
{
	static const char *const timings[] = { "request", "db.query", "cache.get", "render" };
	uint64_t r = feed_draw(&t->random), v = r >> 32;
	const char *service = services[r % SERVICES];

	switch (r >> 8 & 7) {
	case 0:
	case 1:
	case 2:
		return (uint32_t)sprintf(to, "%s.requests.%u:%u|c", service,
					 (unsigned int)(200 + (v & 3) * 100),
					 (unsigned int)(1 + v % 20));
	case 3:
	case 4:
		return (uint32_t)sprintf(to, "%s.%s:%u.%03u|ms|@0.1", service, timings[v & 3],
					 (unsigned int)(v >> 4 & 255),
					 (unsigned int)((v >> 12) % 1000));
	case 5:
		return (uint32_t)sprintf(to, "host%03u.load:%u.%02u|g", (unsigned int)host,
					 (unsigned int)(v & 15), (unsigned int)((v >> 8) % 100));
	case 6:
		return (uint32_t)sprintf(to, "host%03u.memory.free:%s%u|g", (unsigned int)host,
					 v & 1 ? "-" : "+", (unsigned int)(v >> 8));
	default:
		return (uint32_t)sprintf(to, "%s.users:u%06u|s", service,
					 (unsigned int)(v % 1000000));
	}
}

static uint32_t
syslog_line(struct telemetry *t, uint32_t host, char *to)
{
	static const char *const texts[] = {
		"Accepted publickey for deploy from 10.1.%u.7 port %u",
		"connection from peer 10.3.%u.9 closed, %u bytes read",
		"request took %u ms, %u rows",
		"disk latency above limit: %u us on device %u",
		"session %u opened for user id %u",
		"retry %u of upstream, backlog %u",
	};
	uint64_t r = feed_draw(&t->random);
	time_t seconds = (time_t)(t->clock.time_ns / 1000000000u);
	const char *service = services[r % SERVICES];
	unsigned int priority = (unsigned int)(((r >> 8) % 24) << 3 | (r >> 16 & 7));
	unsigned int process = (unsigned int)(300 + (r >> 20) % 30000);
	struct tm tm;
	char date[32];
	int n;

	gmtime_r(&seconds, &tm);
	t->sequence[host]++;
	if ((r >> 40 & 7) == 0) {
		strftime(date, sizeof(date), "%b %e %H:%M:%S", &tm);
		n = sprintf(to, "<%u>%s host%03u %s[%u]: ", priority, date, (unsigned int)host,
			    service, process);
	} else {
		strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
		n = sprintf(to,
			    "<%u>1 %s.%06uZ host%03u %s %u ID%u [meta sequenceId=\"%" PRIu32 "\"] ",
			    priority, date, (unsigned int)(t->clock.time_ns % 1000000000u / 1000u),
			    (unsigned int)host, service, process, (unsigned int)(r >> 43 & 63),
			    t->sequence[host]);
	}
	n += sprintf(to + n, texts[(r >> 50) % 6], (unsigned int)(r >> 24 & 255),
		     (unsigned int)(r >> 32 & 65535));
	return (uint32_t)n;
}

static void
datagram_send(struct telemetry *t, uint32_t host, const uint8_t *payload, uint32_t size,
	      uint32_t messages)
{
	struct frame_line *from = &t->from[host];

	t->datagrams++;
	if (t->late_due > 0 && --t->late_due == 0)
		frame_out_datagram(t->out, t->late_from, t->late, t->late_size, t->clock.time_ns);
	if (feed_happens(&t->random, t->o->loss_ppm)) {
		t->lost++;
		t->lost_messages += messages;
	} else if (feed_happens(&t->random, t->o->late_ppm) && t->late_due == 0) {
		t->late_due = 2 + (uint32_t)(feed_draw(&t->random) % LATE_MAX);
		t->late_from = from;
		t->late_size = size;
		memcpy(t->late, payload, size);
		t->late_count++;
	} else {
		frame_out_datagram(t->out, from, payload, size, t->clock.time_ns);
		if (feed_happens(&t->random, t->o->twice_ppm)) {
			frame_out_datagram(t->out, from, payload, size, t->clock.time_ns);
			t->twice++;
		}
	}
}

static void
run(struct telemetry *t, volatile sig_atomic_t *stop)
{
	uint64_t sent = 0;

	while (sent < t->o->messages && !*stop) {
		uint32_t host = (uint32_t)(feed_draw(&t->random) % t->o->hosts);
		uint32_t most = 1, size = 0, count = 0;
		uint8_t payload[PAYLOAD_MAX];

		if (t->o->kind == FEED_STATSD)
			most += (uint32_t)(feed_draw(&t->random) % t->o->datagram_max);
		while (count < most && sent < t->o->messages) {
			char line[LINE_BYTES_MAX];
			uint32_t n;

			feed_clock_wait(&t->clock, sent + 1);
			n = t->o->kind == FEED_STATSD ? statsd_line(t, host, line)
						      : syslog_line(t, host, line);
			if (size + 1 + n > PAYLOAD_MAX)
				break;
			if (count > 0)
				payload[size++] = '\n';
			memcpy(payload + size, line, n);
			size += n;
			count++;
			sent++;
		}
		datagram_send(t, host, payload, size, count);
	}
	if (t->late_due > 0 && !*stop)
		frame_out_datagram(t->out, t->late_from, t->late, t->late_size, t->clock.time_ns);
	if (t->out->pcap == NULL)
		frame_out_flush(t->out);
}

static int
truth_write(const struct telemetry *t, double seconds, struct hfb_err *err)
{
	json_t *truth = json_pack(
		"{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:I, s:I, s:I}", "kind",
		t->o->kind == FEED_STATSD ? "statsd" : "syslog", "messages",
		(json_int_t)t->o->messages, "seed", (json_int_t)t->o->seed, "datagrams",
		(json_int_t)t->datagrams, "lost_datagrams", (json_int_t)t->lost, "lost_messages",
		(json_int_t)t->lost_messages, "late", (json_int_t)t->late_count, "duplicated",
		(json_int_t)t->twice, "seconds", seconds, "frames", (json_int_t)t->out->frames,
		"bytes", (json_int_t)t->out->bytes, "bursts_refused", (json_int_t)t->out->refusals);
	int r = 0;

	if (truth == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory for the summary");
	if (t->o->truth != NULL && json_dump_file(truth, t->o->truth, JSON_INDENT(1)) < 0)
		r = hfb_err_set(err, -EIO, "cannot write %s, see --truth", t->o->truth);
	json_dumpf(truth, stdout, JSON_COMPACT);
	putchar('\n');
	fflush(stdout);
	json_decref(truth);
	return r;
}

int
feed_telemetry_run(const struct feed_options *o, struct frame_out *out, volatile sig_atomic_t *stop,
		   struct hfb_err *err)
{
	struct telemetry t = { .o = o, .out = out, .random = o->seed << 20 };
	uint64_t from_ns;
	double seconds;
	int r;

	t.from = calloc(o->hosts, sizeof(*t.from));
	t.sequence = calloc(o->hosts, sizeof(*t.sequence));
	if (t.from == NULL || t.sequence == NULL) {
		r = hfb_err_set(err, -ENOMEM, "out of memory, see --hosts");
		goto out;
	}
	for (uint32_t h = 0; h < o->hosts; h++)
		frame_line_init(&t.from[h], FIRST_HOST + h, (uint16_t)(32768 + h % 28000),
				o->group[0], o->udp_port);
	feed_clock_start(&t.clock, o, out, stop);
	from_ns = feed_now_ns();
	run(&t, stop);
	seconds = (double)(feed_now_ns() - from_ns) / 1e9;
	if (*stop)
		r = hfb_err_set(err, -EINTR, "stopped before all was sent");
	else
		r = truth_write(&t, seconds, err);
out:
	free(t.from);
	free(t.sequence);
	return r;
}
