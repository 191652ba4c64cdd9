/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_feed_check.c - `hfbus-bench feed-check`: read a topic back and compare it with
 * what `hfbus-bench feed` says it sent: each message byte for byte (made again from seed and
 * sequence), each gap with what was lost on both lines, everything once and in order. What the
 * generator will send follows from its seed, so the truth may be written beforehand by one that
 * writes to --pcap /dev/null.
 *
 * Latencies: from a message's time of sending to the bus's receive stamp, and with
 * --live to the moment this reader has it.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#include <hfbus/bus.h>
#include <hfbus/sub.h>

#include "bench.h"
#include "itch.h"
#include "units.h"

#define RANGE_BITS 36u /* latencies up to a minute */

enum { LOST = 1, SEEN = 2 };

struct check {
	const char *session;
	uint64_t messages, seed;
	uint8_t *state; /* by sequence */
	uint64_t next;
	uint64_t events, bytes, gap_batches, missing_wire, missing_local, wrong_values,
		out_of_order, gaps_beyond_truth, lost_unreported, marks;
	uint64_t first_ns, last_ns;
	struct hfb_histogram *received, *read;
	bool live;
};

static uint64_t
now_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct hfb_histogram *
histogram_create(void)
{
	struct hfb_histogram *h = malloc(hfb_histogram_bytes(HFB_HISTOGRAM_BITS_FINE, RANGE_BITS));

	if (h != NULL)
		hfb_histogram_init(h, HFB_HISTOGRAM_BITS_FINE, RANGE_BITS);
	return h;
}

/* Nanoseconds since the message was sent, as seen at @at_ns; both within a day. */
static uint64_t
age_ns(const void *message, uint64_t at_ns)
{
	uint64_t age = (at_ns % ITCH_DAY_NS + ITCH_DAY_NS - itch_time(message)) % ITCH_DAY_NS;

	/* clocks of one machine, read by two ways: a little before is now */
	return age > ITCH_DAY_NS / 2 ? 0 : age;
}

static void
take_event(struct check *c, const struct hfb_item *item)
{
	uint64_t q = item->feed.sequence;

	c->events++;
	c->bytes += item->event.value_size;
	if (q != c->next)
		c->out_of_order++;
	c->next = q + 1;
	if (q >= 1 && q <= c->messages)
		c->state[q] |= SEEN;
	if (!itch_compare(c->seed, q, item->event.value, item->event.value_size)) {
		c->wrong_values++;
		return;
	}
	hfb_histogram_record(c->received, age_ns(item->event.value, item->timestamp_ns));
	if (c->live)
		hfb_histogram_record(c->read, age_ns(item->event.value, now_ns(CLOCK_REALTIME)));
}

static void
take_gap(struct check *c, const struct hfb_item *item)
{
	uint64_t first = item->feed.sequence, end = first + item->feed.gap_count;

	c->gap_batches++;
	*(item->feed.gap_cause == 1 ? &c->missing_wire : &c->missing_local) += end - first;
	if (first != c->next)
		c->out_of_order++;
	c->next = end;
	for (uint64_t q = first; q < end; q++) {
		if (q < 1 || q > c->messages || !(c->state[q] & LOST) || (c->state[q] & SEEN))
			c->gaps_beyond_truth++;
		if (q >= 1 && q <= c->messages)
			c->state[q] |= SEEN;
	}
}

static int
read_all(struct check *c, struct hfb_sub *sub, uint64_t idle_ms, struct hfb_err *err)
{
	uint64_t idle_from_ns = now_ns(CLOCK_MONOTONIC);

	while (c->next <= c->messages) {
		const struct hfb_item *item;
		int r = hfb_sub_next(sub, 100, &item, err);

		if (r < 0)
			return r;
		if (r == 0) {
			if (now_ns(CLOCK_MONOTONIC) - idle_from_ns > idle_ms * 1000000u)
				break;
			continue;
		}
		idle_from_ns = now_ns(CLOCK_MONOTONIC);
		if (item->kind != HFB_ITEM_EVENT && item->kind != HFB_ITEM_GAP) {
			if (item->kind != HFB_ITEM_LAPPED)
				c->marks++;
			continue;
		}
		if (!item->is_feed || strcmp(item->feed.session, c->session) != 0)
			continue;
		if (c->first_ns == 0)
			c->first_ns = now_ns(CLOCK_MONOTONIC);
		if (item->kind == HFB_ITEM_EVENT)
			take_event(c, item);
		else
			take_gap(c, item);
		c->last_ns = idle_from_ns;
	}
	for (uint64_t q = 1; q <= c->messages; q++) {
		if (c->state[q] == LOST)
			c->lost_unreported++;
	}
	return 0;
}

static int
truth_read(struct check *c, const char *path, struct hfb_err *err)
{
	json_error_t error;
	json_t *truth = json_load_file(path, 0, &error), *lost, *range;
	const char *session;
	size_t i;

	if (truth == NULL) {
		snprintf(err->text, sizeof(err->text), "%s: %s, see --truth", path, error.text);
		return -EINVAL;
	}
	session = json_string_value(json_object_get(truth, "session"));
	c->session = strdup(session != NULL ? session : "");
	c->messages = (uint64_t)json_integer_value(json_object_get(truth, "messages"));
	c->seed = (uint64_t)json_integer_value(json_object_get(truth, "seed"));
	c->state = calloc(c->messages + 2, 1);
	lost = json_object_get(truth, "lost_on_both");
	json_array_foreach(lost, i, range)
	{
		uint64_t last = (uint64_t)json_integer_value(json_array_get(range, 1));

		for (uint64_t q = (uint64_t)json_integer_value(json_array_get(range, 0));
		     q <= last && q <= c->messages; q++)
			c->state[q] = LOST;
	}
	json_decref(truth);
	return 0;
}

static json_t *
latency(const struct hfb_histogram *h)
{
	return json_pack("{s:f, s:f, s:f, s:f}", "p50",
			 (double)hfb_histogram_quantile(h, 0.5) / 1e3, "p99",
			 (double)hfb_histogram_quantile(h, 0.99) / 1e3, "p999",
			 (double)hfb_histogram_quantile(h, 0.999) / 1e3, "max",
			 hfb_histogram_count(h) > 0 ? (double)h->max / 1e3 : 0.0);
}

/* Returns true when all agreed. */
static bool
report(const struct check *c)
{
	double seconds = (double)(c->last_ns - c->first_ns) / 1e9;
	bool agreed = c->next == c->messages + 1 && c->wrong_values == 0 && c->out_of_order == 0 &&
		      c->gaps_beyond_truth == 0 && c->lost_unreported == 0 && c->marks == 0;
	json_t *j = json_pack(
		"{s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:o}", "agreed",
		agreed, "events", (json_int_t)c->events, "bytes", (json_int_t)c->bytes,
		"gap_batches", (json_int_t)c->gap_batches, "missing_wire",
		(json_int_t)c->missing_wire, "missing_local", (json_int_t)c->missing_local,
		"wrong_values", (json_int_t)c->wrong_values, "out_of_order",
		(json_int_t)c->out_of_order, "gaps_beyond_truth", (json_int_t)c->gaps_beyond_truth,
		"lost_unreported", (json_int_t)c->lost_unreported, "marks", (json_int_t)c->marks,
		"seconds", seconds, "events_per_second",
		seconds > 0 ? (double)c->events / seconds : 0.0, "sent_to_received_us",
		latency(c->received));

	if (c->live)
		json_object_set_new(j, "sent_to_read_us", latency(c->read));
	json_dumpf(j, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(j);
	return agreed;
}

static void
usage(FILE *to)
{
	fputs("usage: hfbus-bench feed-check --truth FILE [options] TOPIC\n"
	      "Read TOPIC and compare it with what hfbus-bench feed wrote about what it sent.\n\n"
	      "  --truth FILE    of hfbus-bench feed\n"
	      "  --data DIR      data folder of the bus\n"
	      "  --idle-ms N     give up when nothing comes for so long (3000)\n"
	      "  --live          begin with what comes from now on, and time sending to reading\n"
	      "  --help          this text\n\n"
	      "Prints one line of JSON. Exit: 0 all agreed, 1 not, 2 usage.\n",
	      to);
}

static int
feed_check_main(int argc, char **argv)
{
	static const struct option list[] = {
		{ "truth", 1, NULL, 't' }, { "data", 1, NULL, 'd' }, { "idle-ms", 1, NULL, 'i' },
		{ "live", 0, NULL, 'l' },  { "help", 0, NULL, 'h' }, { 0 },
	};
	struct hfb_bus_config bus_config = { 0 };
	struct hfb_sub_config sub_config = { .from = HFB_SUB_EARLIEST };
	struct check c = { .next = 1 };
	struct hfb_bus *bus = NULL;
	struct hfb_sub *sub = NULL;
	struct hfb_err err = { 0 };
	const char *truth = NULL;
	uint64_t idle_ms = 3000;
	bool agreed = false;
	int option, r;

	while ((option = getopt_long(argc, argv, "", list, NULL)) != -1) {
		switch (option) {
		case 't':
			truth = optarg;
			break;
		case 'd':
			bus_config.data_dir = optarg;
			break;
		case 'i':
			if (hfb_number_parse(optarg, &idle_ms) < 0) {
				usage(stderr);
				return 2;
			}
			break;
		case 'l':
			c.live = true;
			sub_config.from = HFB_SUB_LATEST;
			break;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	}
	if (truth == NULL || optind + 1 != argc) {
		usage(stderr);
		return 2;
	}
	sub_config.topic = argv[optind];
	c.received = histogram_create();
	c.read = histogram_create();
	r = truth_read(&c, truth, &err);
	if (r == 0 && (c.received == NULL || c.read == NULL || c.state == NULL)) {
		snprintf(err.text, sizeof(err.text), "out of memory");
		r = -ENOMEM;
	}
	if (r == 0)
		r = hfb_bus_open(&bus_config, &bus, &err);
	if (r == 0)
		r = hfb_sub_open(bus, &sub_config, &sub, &err);
	if (r == 0)
		r = read_all(&c, sub, idle_ms, &err);
	if (r == 0)
		agreed = report(&c);
	else
		fprintf(stderr, "%s: %s\n", argv[0], err.text);
	hfb_sub_close(sub);
	hfb_bus_close(bus);
	free(c.received);
	free(c.read);
	free(c.state);
	free((char *)(uintptr_t)c.session);
	return agreed ? 0 : 1;
}

const struct bench_scenario bench_feed_check = {
	.name = "feed-check",
	.summary = "read a topic back and compare it with what feed sent",
	.main = feed_check_main,
};
