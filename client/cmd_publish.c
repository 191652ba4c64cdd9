/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_publish.c - hfbus publish: one event a line from standard input.
 *
 * Whatever is there is read at once and goes out as one batch or several; when
 * input pauses, what was read is on its way. The end waits for all acks.
 */
#include "cli.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <hfbus/hfbus.h>

#include "connection.h"
#include "units.h"

#define READ_BYTES  (256u * 1024u)
#define PROGRESS_NS 500000000ull

struct publish {
	struct hfb_pub *pub;
	const char *key;
	int delimiter;	  /* between key and value in each line; -1 = none */
	uint64_t wait_ns; /* patience with refusals */
	bool progress;
	uint64_t began_ns, told_ns;
	uint64_t in_lines;
};

static void
help(void)
{
	printf("Usage: hfbus publish TOPIC [OPTION]...\n"
	       "Send events to TOPIC, one a line of standard input, and wait until all are "
	       "acked.\n\n"
	       "  --partition N    to this partition (else by key, else to all in turn)\n"
	       "  --key K          key of every event; decides the partition, as Kafka's clients "
	       "do\n"
	       "  --key-delimiter C  each line is a key, this character, and a value; a line "
	       "without\n"
	       "                   it is a key alone: an event without a value, which says that\n"
	       "                   the key is gone\n"
	       "  --ack STAGE      received, durable, mirrored or mirrored-durable\n"
	       "                   (else the topic's commit stage)\n"
	       "  --udp HOST:PORT  over UDP instead of shared memory\n"
	       "  --wait DURATION  how long to go on when the disk is full or hfbusd is gone;\n"
	       "                   default 0 for the first, 30s for the second\n"
	       "  --quiet          no summary on standard error\n"
	       "  --data DIR       data folder of the bus\n"
	       "  --help           this text\n\n"
	       "A line's end is not part of the event. Exit status: 0 all acked, 1 failed, 2 "
	       "wrong\n"
	       "usage, 130 interrupted (what was read by then is flushed first).\n");
}

static void
progress(struct publish *p, uint64_t now)
{
	struct hfb_pub_stats stats;
	char rate[16];

	if (!p->progress || now - p->told_ns < PROGRESS_NS)
		return;
	p->told_ns = now;
	hfb_pub_stats_get(p->pub, &stats);
	fprintf(stderr, "\r%" PRIu64 " sent, %" PRIu64 " acked, %s/s \033[K", stats.events,
		stats.acked_events,
		hfb_cli_short((double)stats.acked_events * 1e9 / (double)(now - p->began_ns + 1),
			      rate, sizeof(rate)));
}

/* Soft refusals until patience ends. Returns 0 to go on, or the error. */
static int
patience(struct publish *p, int r, uint64_t since)
{
	if ((r == -ENOSPC || r == -EIO || r == -EBUSY) && !hfb_cli_stop &&
	    hfb_now_ns() - since < p->wait_ns)
		return 0;
	return r;
}

static int
send_line(struct publish *p, const char *line, size_t size, struct hfb_err *err)
{
	const char *cut = p->delimiter < 0 ? NULL : memchr(line, p->delimiter, size);
	struct hfb_event event = { .value = line };
	uint64_t since = 0;
	int r;

	if (size > HFB_EVENT_BYTES_MAX)
		return hfb_err_set(err, -EMSGSIZE,
				   "line %" PRIu64 " has %zu bytes, an event at most "
				   "%u",
				   p->in_lines + 1, size, HFB_EVENT_BYTES_MAX);
	event.value_size = (uint32_t)size;
	if (p->key != NULL) {
		event.key = p->key;
		event.key_size = (uint32_t)strlen(p->key);
	} else if (p->delimiter >= 0) {
		event.key = line;
		event.key_size = cut != NULL ? (uint32_t)(cut - line) : (uint32_t)size;
		event.value = cut != NULL ? cut + 1 : NULL;
		event.value_size = cut != NULL ? (uint32_t)(size - event.key_size - 1) : 0;
		if (event.key_size > HFB_KEY_BYTES_MAX)
			return hfb_err_set(err, -EMSGSIZE,
					   "line %" PRIu64 " has a key of %u bytes, at most %u",
					   p->in_lines + 1, event.key_size, HFB_KEY_BYTES_MAX);
	}
	for (;;) {
		r = hfb_pub_send(p->pub, &event, err);
		if (r == 0) {
			p->in_lines++;
			return 0;
		}
		if (since == 0)
			since = hfb_now_ns();
		if (r != -EAGAIN)
			r = patience(p, r, since);
		if (r < 0 && r != -EAGAIN)
			return r;
		r = hfb_pub_poll(p->pub, 50, err);
		if (r < 0)
			r = patience(p, r, since);
		if (r < 0)
			return r;
		if (hfb_cli_stop)
			return -EINTR;
		progress(p, hfb_now_ns());
	}
}

static int
flush_all(struct publish *p, struct hfb_err *err)
{
	uint64_t since = hfb_now_ns(), last = 0;
	struct hfb_pub_stats stats;
	int r;

	for (;;) {
		r = hfb_pub_flush(p->pub, 100, err);
		if (r == 0)
			return 0;
		hfb_pub_stats_get(p->pub, &stats);
		if (stats.acked_events != last)
			since = hfb_now_ns();
		last = stats.acked_events;
		if (r != -ETIMEDOUT)
			r = patience(p, r, since);
		if (r < 0 && r != -ETIMEDOUT)
			return r;
		progress(p, hfb_now_ns());
		if (hfb_cli_stop && hfb_now_ns() - since > 2000000000ull)
			return hfb_err_set(err, -EINTR, "interrupted with unacked events");
	}
}

static int
lines_read(struct publish *p, struct hfb_err *err)
{
	size_t capacity = READ_BYTES * 2, used = 0, scanned = 0;
	char *buffer = malloc(capacity), *bigger;
	int r = 0;

	if (buffer == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	while (!hfb_cli_stop) {
		struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
		size_t from = 0;
		char *end;
		ssize_t n;

		if (capacity - used < READ_BYTES) {
			if (used > HFB_EVENT_BYTES_MAX + 1) {
				r = hfb_err_set(err, -EMSGSIZE,
						"line %" PRIu64 " has more than the %u "
						"bytes of the largest event",
						p->in_lines + 1, HFB_EVENT_BYTES_MAX);
				break;
			}
			bigger = realloc(buffer, capacity * 2);
			if (bigger == NULL) {
				r = hfb_err_set(err, -ENOMEM, "out of memory");
				break;
			}
			buffer = bigger;
			capacity *= 2;
		}
		if (poll(&in, 1, 0) == 0) {
			/* input pauses: what was read goes, and acks are taken meanwhile */
			r = hfb_pub_poll(p->pub, 0, err);
			if (r >= 0 && poll(&in, 1, 0) == 0) {
				r = hfb_pub_poll(p->pub, 5, err);
				poll(&in, 1, r > 0 ? 0 : 20);
			}
			if (r == -ENOSPC || r == -EBUSY || r == -EIO)
				r = p->wait_ns > 0 ? 0 : r;
			if (r < 0)
				break;
			r = 0;
			progress(p, hfb_now_ns());
			if (!(in.revents & (POLLIN | POLLHUP | POLLERR | POLLNVAL)))
				continue;
		}
		n = read(STDIN_FILENO, buffer + used, capacity - used);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0) {
			r = hfb_err_set(err, -errno, "cannot read standard input: %s",
					strerror(errno));
			break;
		}
		if (n == 0) {
			if (used > 0)
				r = send_line(p, buffer, used, err);
			break;
		}
		used += (size_t)n;
		while ((end = memchr(buffer + scanned, '\n', used - scanned)) != NULL) {
			r = send_line(p, buffer + from, (size_t)(end - buffer) - from, err);
			from = scanned = (size_t)(end - buffer) + 1;
			if (r < 0)
				break;
		}
		if (r < 0)
			break;
		memmove(buffer, buffer + from, used - from);
		used -= from;
		scanned = used;
		progress(p, hfb_now_ns());
	}
	free(buffer);
	return r;
}

static void
summary(struct publish *p, const char *topic)
{
	struct hfb_pub_stats stats;
	double seconds = (double)(hfb_now_ns() - p->began_ns) / 1e9;
	char rate[16];

	hfb_pub_stats_get(p->pub, &stats);
	fprintf(stderr,
		"%s%" PRIu64 " events to %s, %" PRIu64 " acked in %.3f s (%s/s), %" PRIu64
		" frames, %" PRIu64 " resent, %" PRIu64 " reconnects\n",
		p->progress ? "\r\033[K" : "", stats.events, topic, stats.acked_events, seconds,
		hfb_cli_short(seconds > 0 ? (double)stats.acked_events / seconds : 0, rate,
			      sizeof(rate)),
		stats.frames, stats.resent_frames, stats.reconnects);
	if (stats.lost_events > 0)
		fprintf(stderr,
			"%" PRIu64 " events acked at stage received were lost with hfbusd's "
			"memory\n",
			stats.lost_events);
}

struct publish_options {
	struct hfb_bus_config bus;
	struct hfb_pub_config pub;
	bool quiet;
};

static const struct option options[] = {
	{ "partition", required_argument, NULL, 'p' },
	{ "key", required_argument, NULL, 'k' },
	{ "key-delimiter", required_argument, NULL, 'K' },
	{ "ack", required_argument, NULL, 'a' },
	{ "udp", required_argument, NULL, 'u' },
	{ "wait", required_argument, NULL, 'w' },
	{ "quiet", no_argument, NULL, 'q' },
	{ "data", required_argument, NULL, 'd' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

/* An exit code, or HFB_CLI_GO_ON. */
static int
read_options(int argc, char **argv, struct publish_options *o, struct publish *p)
{
	uint64_t n;
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (c) {
		case 'p':
			if (hfb_cli_number("publish", "--partition", optarg,
					   HFB_TOPIC_PARTITIONS_MAX - 1, &n) < 0)
				return HFB_EXIT_USAGE;
			o->pub.partition = (int32_t)n;
			break;
		case 'k':
			if (strlen(optarg) > HFB_KEY_BYTES_MAX)
				return hfb_cli_usage("publish", "--key has at most %u bytes",
						     HFB_KEY_BYTES_MAX);
			p->key = optarg;
			break;
		case 'K':
			if (strlen(optarg) != 1)
				return hfb_cli_usage("publish",
						     "--key-delimiter is one character, not '%s'",
						     optarg);
			p->delimiter = (unsigned char)optarg[0];
			break;
		case 'a':
			if (hfb_cli_stage("publish", "--ack", optarg, &o->pub.ack) < 0)
				return HFB_EXIT_USAGE;
			break;
		case 'u':
			o->bus.udp = optarg;
			break;
		case 'w':
			if (hfb_cli_wait("publish", optarg, &p->wait_ns, &o->bus.reconnect_ms) < 0)
				return HFB_EXIT_USAGE;
			break;
		case 'q':
			o->quiet = true;
			break;
		case 'd':
			o->bus.data_dir = optarg;
			break;
		case 'h':
			help();
			return fflush(stdout) == 0 ? HFB_EXIT_OK : HFB_EXIT_FAILED;
		default:
			return hfb_cli_usage("publish", "wrong option");
		}
	}
	if (optind + 1 != argc)
		return hfb_cli_usage("publish", optind == argc ? "which TOPIC?" : "one TOPIC only");
	if (p->key != NULL && p->delimiter >= 0)
		return hfb_cli_usage("publish", "--key or --key-delimiter, not both");
	o->pub.topic = argv[optind];
	return HFB_CLI_GO_ON;
}

int
hfb_cmd_publish(int argc, char **argv)
{
	struct publish_options o = { .pub = { .partition = -1, .ack = -1 } };
	struct publish p = { .delimiter = -1 };
	struct hfb_err err = { 0 }, flush_err = { 0 };
	struct hfb_bus *bus = NULL;
	int r, flushed;

	r = read_options(argc, argv, &o, &p);
	if (r != HFB_CLI_GO_ON)
		return r;
	hfb_cli_signals();
	r = hfb_bus_open(&o.bus, &bus, &err);
	if (r == 0)
		r = hfb_pub_open(bus, &o.pub, &p.pub, &err);
	if (r < 0) {
		hfb_bus_close(bus);
		return hfb_cli_fail("publish", &err);
	}
	p.progress = !o.quiet && isatty(STDERR_FILENO) && !isatty(STDIN_FILENO);
	p.began_ns = p.told_ns = hfb_now_ns();

	r = lines_read(&p, &err);
	/* what was taken is flushed in any case, unless it was refused for good */
	flushed = r == 0 || r == -EMSGSIZE || r == -EINTR ? flush_all(&p, &flush_err) : 0;
	if (!o.quiet)
		summary(&p, o.pub.topic);
	if (r < 0 && r != -EINTR)
		hfb_cli_fail("publish", &err);
	if (flushed < 0)
		hfb_cli_fail("publish", &flush_err);
	hfb_pub_close(p.pub);
	hfb_bus_close(bus);
	if (hfb_cli_stop)
		return HFB_EXIT_INTERRUPTED;
	return (r < 0 && r != -EINTR) || flushed < 0 ? HFB_EXIT_FAILED : HFB_EXIT_OK;
}
