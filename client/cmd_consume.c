/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_consume.c - hfbus consume: a topic's events on standard output.
 *
 * Output is collected and written in large pieces while there is more to read, and
 * at once when reading has to wait.
 */
#include "cli.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <hfbus/hfbus.h>

#include "clock.h"
#include "connection.h"
#include "json_line.h"
#include "units.h"

#define WRITE_BYTES (256u * 1024u)
#define COMMIT_MS   10000u /* to wait for the last commit */

enum format { FORMAT_TEXT, FORMAT_JSON, FORMAT_RAW };

struct consume {
	struct hfb_bus_config bus_config;
	struct hfb_sub_config config;
	const char *topic;
	enum format format;
	bool one_partition, from_given; /* else all, else as --until-end says */
	bool until_end, quiet, stats;
	uint64_t count_max, count;
	uint64_t gaps, marks, corrupt;
	uint64_t began_ns;
	struct hfb_sub **subs;
	bool *ended;
	uint32_t subs_count, ended_count;
	struct hfb_text out;
	bool broken;	/* the reader of our output is gone */
	bool unwritten; /* some output was dropped: nothing is committed any more */
	/* --group */
	struct hfb_group_config group_config;
	const char *group_only; /* an option that goes with it only was given: this one */
	struct hfb_group_member *group;
	uint64_t commit_ns; /* interval */
};

static void
help(void)
{
	printf("Usage: hfbus consume TOPIC [OPTION]...\n"
	       "Write TOPIC's events to standard output.\n\n"
	       "  --partition N     only this one (else all)\n"
	       "  --from WHERE      earliest, latest, an OFFSET, @RFC3339 or @NS (UTC, when "
	       "received);\n"
	       "                    default latest, with --until-end earliest\n"
	       "  --count N         end after N events\n"
	       "  --until-end       end at what is committed when it gets there\n"
	       "  --format FORMAT   text (value and a newline), json (a line each), raw (values "
	       "only)\n"
	       "  --group G         as a member of consumer group G: partitions are shared out "
	       "among its\n"
	       "                    members, and what was written is committed; --from (earliest "
	       "or\n"
	       "                    latest, default earliest) counts where nothing is committed\n"
	       "  --instance ID     with --group: a static member, keeps its partitions over a "
	       "restart\n"
	       "  --member-id NAME  with --group: begins its member id; default host/pid\n"
	       "  --session-timeout D   out of the group after so long without a sign of life; "
	       "10s\n"
	       "  --strategy S      cooperative-sticky (default), range or round-robin\n"
	       "  --commit-interval D   default 1s\n"
	       "  --udp HOST:PORT   over UDP instead of shared memory\n"
	       "  --wait DURATION   how long to go on without an hfbusd; default 30s\n"
	       "  --stats           more figures in the summary\n"
	       "  --quiet           no summary on standard error\n"
	       "  --data DIR        data folder of the bus\n"
	       "  --help            this text\n\n"
	       "Marks (truncated, lapped, retired, corrupt) are told on standard error and, as "
	       "JSON,\n"
	       "in their place. Exit status: 0 ok, 1 failed or something was corrupt, 2 wrong "
	       "usage,\n"
	       "130 interrupted.\n");
}

static int
from_parse(struct consume *c, const char *text)
{
	if (strcmp(text, "earliest") == 0) {
		c->config.from = HFB_SUB_EARLIEST;
	} else if (strcmp(text, "latest") == 0) {
		c->config.from = HFB_SUB_LATEST;
	} else if (text[0] == '@') {
		c->config.from = HFB_SUB_TIME;
		if (hfb_number_parse(text + 1, &c->config.value) < 0 &&
		    hfb_clock_parse(text + 1, &c->config.value) < 0)
			return -EINVAL;
	} else {
		c->config.from = HFB_SUB_OFFSET;
		if (hfb_number_parse(text, &c->config.value) < 0)
			return -EINVAL;
	}
	return 0;
}

static int
output_write(struct consume *c, struct hfb_err *err)
{
	size_t done = 0;

	if (c->out.failed)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	while (done < c->out.used) {
		ssize_t n = write(STDOUT_FILENO, c->out.bytes + done, c->out.used - done);

		if (n > 0) {
			done += (size_t)n;
		} else if (n < 0 && errno == EAGAIN) {
			struct pollfd p = { .fd = STDOUT_FILENO, .events = POLLOUT };

			poll(&p, 1, 100);
		} else if (n < 0 && errno == EINTR) {
			if (hfb_cli_stop) {
				c->unwritten = true;
				break;
			}
		} else {
			c->broken = errno == EPIPE;
			c->unwritten = true;
			c->out.used = 0;
			return hfb_err_set(err, -errno, "cannot write the output: %s",
					   strerror(errno));
		}
	}
	c->out.used = 0;
	return 0;
}

static void
mark_tell(struct consume *c, const struct hfb_item *item)
{
	char offset[32] = "the next offset there is";

	c->marks++;
	if (item->mark.to_offset != UINT64_MAX)
		snprintf(offset, sizeof(offset), "offset %" PRIu64, item->mark.to_offset);
	switch (item->kind) {
	case HFB_ITEM_TRUNCATED:
		fprintf(stderr,
			"hfbus consume: %s/%u: truncated: epoch %u ends at position %" PRIu64
			" (%s); what was read after it is not in the log any more\n",
			c->topic, item->partition, item->mark.epoch, item->mark.to_position,
			offset);
		break;
	case HFB_ITEM_LAPPED:
		fprintf(stderr,
			"hfbus consume: %s/%u: lapped at offset %" PRIu64
			": reading goes on from the files\n",
			c->topic, item->partition, item->mark.from_offset);
		break;
	case HFB_ITEM_RETIRED:
		fprintf(stderr,
			"hfbus consume: %s/%u: offsets %" PRIu64 " on are gone by retention; "
			"going on at %s\n",
			c->topic, item->partition, item->mark.from_offset, offset);
		break;
	case HFB_ITEM_CORRUPT:
		c->corrupt++;
		fprintf(stderr,
			"hfbus consume: %s/%u: corrupt: %s at positions %" PRIu64 " to %" PRIu64
			", from offset %" PRIu64 "; going on at %s\n",
			c->topic, item->partition, *item->mark.path ? item->mark.path : "bytes",
			item->mark.from_position, item->mark.to_position, item->mark.from_offset,
			offset);
		break;
	default:
		break;
	}
	if (c->format == FORMAT_JSON)
		hfb_json_item(&c->out, c->topic, item);
}

static void
item_take(struct consume *c, const struct hfb_item *item)
{
	switch (item->kind) {
	case HFB_ITEM_EVENT:
		c->count++;
		if (c->format == FORMAT_JSON) {
			hfb_json_item(&c->out, c->topic, item);
			break;
		}
		hfb_text_add(&c->out, item->event.value, item->event.value_size);
		if (c->format == FORMAT_TEXT)
			hfb_text_add(&c->out, "\n", 1);
		break;
	case HFB_ITEM_GAP:
		c->gaps++;
		if (c->format == FORMAT_JSON)
			hfb_json_item(&c->out, c->topic, item);
		else
			fprintf(stderr,
				"hfbus consume: %s/%u: offset %" PRIu64 ": gap of %" PRIu64
				" from sequence %" PRIu64 ", session %s, cause %s\n",
				c->topic, item->partition, item->offset, item->feed.gap_count,
				item->feed.sequence, item->feed.session,
				item->feed.gap_cause == 2 ? "local" : "wire");
		break;
	default:
		mark_tell(c, item);
	}
}

static int
subs_open(struct consume *c, struct hfb_bus *bus, bool all, struct hfb_err *err)
{
	struct hfb_ipc_topic topic;
	uint32_t n = 1;
	int r;

	if (all) {
		r = hfb_admin_topic_get(bus, c->topic, &topic, err);
		if (r < 0)
			return r;
		n = topic.partitions;
	}
	c->subs = calloc(n, sizeof(*c->subs));
	c->ended = calloc(n, sizeof(*c->ended));
	if (c->subs == NULL || c->ended == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < n; i++) {
		if (all)
			c->config.partition = i;
		r = hfb_sub_open(bus, &c->config, &c->subs[i], err);
		if (r < 0)
			return r;
		c->subs_count++;
	}
	return 0;
}

static bool
done(const struct consume *c)
{
	return hfb_cli_stop || (c->count_max > 0 && c->count >= c->count_max) ||
	       (c->until_end && c->ended_count == c->subs_count);
}

/* One partition's turn: as much as is there, up to a bound when there are others. */
static int
turn(struct consume *c, uint32_t i, uint32_t timeout_ms, bool *worked, struct hfb_err *err)
{
	uint32_t bound = c->subs_count > 1 ? 4096 : UINT32_MAX;
	const struct hfb_item *item;
	int r;

	for (uint32_t n = 0; n < bound && !done(c); n++) {
		r = hfb_sub_next(c->subs[i], 0, &item, err);
		if (r == 0 && c->until_end && !c->ended[i] && hfb_sub_at_end(c->subs[i])) {
			c->ended[i] = true;
			c->ended_count++;
			break;
		}
		if (r == 0) {
			if (n > 0 || timeout_ms == 0)
				break;
			r = output_write(c, err);
			if (r < 0)
				return r;
			r = hfb_sub_next(c->subs[i], timeout_ms, &item, err);
			if (r == 0)
				break;
		}
		if (r < 0)
			return r;
		*worked = true;
		item_take(c, item);
		if (c->out.used >= WRITE_BYTES) {
			r = output_write(c, err);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int
run(struct consume *c, struct hfb_err *err)
{
	int r;

	while (!done(c)) {
		bool worked = false;

		for (uint32_t i = 0; i < c->subs_count; i++) {
			if (c->ended[i])
				continue;
			/* a lone one may wait inside; Ctrl-C is looked at in between */
			r = turn(c, i, c->subs_count == 1 ? (c->until_end ? 5 : 100) : 0, &worked,
				 err);
			if (r < 0)
				return r;
		}
		if (!worked && c->subs_count > 1) {
			r = output_write(c, err);
			if (r < 0)
				return r;
			if (!done(c))
				usleep(500);
		}
	}
	return 0;
}

/* As a member of a group ------------------------------------------------------- */

/* Partitions go to another member: what was written is committed before. */
static void
revoked(void *arg, const struct hfb_group_partition *partitions, uint32_t count, bool lost)
{
	struct consume *c = arg;
	struct hfb_err err;

	(void)partitions;
	if (output_write(c, &err) < 0 || c->unwritten)
		return;
	if (lost)
		fprintf(stderr,
			"hfbus consume: out of group %s, %u partitions are others': joining "
			"again\n",
			c->group_config.group, count);
	else if (hfb_group_commit(c->group, COMMIT_MS, &err) < 0)
		fprintf(stderr, "hfbus consume: %s\n", err.text);
}

/* A group may wait for topics that are to come; at the command line it is a slip. */
static int
group_topic_check(struct consume *c, struct hfb_bus *bus, struct hfb_err *err)
{
	struct hfb_ipc_topic topic;

	return hfb_admin_topic_get(bus, c->topic, &topic, err);
}

static int
group_run(struct consume *c, struct hfb_bus *bus, struct hfb_err *err)
{
	const struct hfb_group_item *item;
	uint64_t committed_ns = hfb_now_ns();
	int r;

	c->group_config.topics = &c->topic;
	c->group_config.topics_count = 1;
	c->group_config.revoked = revoked;
	c->group_config.arg = c;
	r = hfb_group_open(bus, &c->group_config, &c->group, err);
	while (r >= 0 && !hfb_cli_stop && !(c->count_max > 0 && c->count >= c->count_max)) {
		bool due = hfb_now_ns() - committed_ns >= c->commit_ns;

		r = hfb_group_next(c->group, 0, &item, err);
		if (r == 1) {
			item_take(c, item->item);
			if (c->out.used < WRITE_BYTES && !due)
				continue;
		}
		if (r >= 0)
			r = output_write(c, err) < 0 ? -1 : r;
		if (r >= 0 && due) {
			hfb_group_commit_async(c->group);
			committed_ns = hfb_now_ns();
		}
		if (r == 0 && c->until_end && hfb_group_at_end(c->group))
			break;
		if (r == 0)
			r = hfb_group_next(c->group, c->until_end ? 5 : 100, &item, err);
		else
			continue;
		if (r == 1)
			item_take(c, item->item);
	}
	return r < 0 ? (err->code < 0 ? err->code : r) : 0;
}

/* What was written is committed, unless writing failed. */
static int
group_end(struct consume *c, struct hfb_err *err)
{
	int r = hfb_group_commit(c->group, COMMIT_MS, err);

	/* Whoever is out at the end has lost nothing: others read it again. */
	return r == -ESTALE ? 0 : r;
}

static void
summary(struct consume *c, bool stats)
{
	double seconds = (double)(hfb_now_ns() - c->began_ns) / 1e9;
	struct hfb_sub_stats sum = { 0 };
	char rate[16];

	for (uint32_t i = 0; i < c->subs_count; i++) {
		struct hfb_sub_stats s;

		hfb_sub_stats_get(c->subs[i], &s);
		sum.bytes += s.bytes;
		sum.ring_reads += s.ring_reads;
		sum.file_reads += s.file_reads;
		sum.lapped += s.lapped;
		sum.truncated += s.truncated;
		sum.retired += s.retired;
		sum.corrupt += s.corrupt;
		sum.reconnects += s.reconnects;
		sum.udp_reasks += s.udp_reasks;
		sum.udp_datagrams += s.udp_datagrams;
		sum.udp_duplicates += s.udp_duplicates;
	}
	fprintf(stderr,
		"%" PRIu64 " events from %s in %.3f s (%s/s), %" PRIu64 " gaps, %" PRIu64
		" corrupt\n",
		c->count, c->topic, seconds,
		hfb_cli_short(seconds > 0 ? (double)c->count / seconds : 0, rate, sizeof(rate)),
		c->gaps, sum.corrupt);
	if (stats)
		fprintf(stderr,
			"%" PRIu64 " bytes of log, %" PRIu64 " ring reads, %" PRIu64
			" file reads, %" PRIu64 " lapped, %" PRIu64 " truncated, %" PRIu64
			" retired, %" PRIu64 " reconnects, %" PRIu64 " datagrams, %" PRIu64
			" asked again, %" PRIu64 " double\n",
			sum.bytes, sum.ring_reads, sum.file_reads, sum.lapped, sum.truncated,
			sum.retired, sum.reconnects, sum.udp_datagrams, sum.udp_reasks,
			sum.udp_duplicates);
	for (uint32_t i = 0; stats && i < c->subs_count; i++) {
		struct hfb_sub_latency l;

		hfb_sub_latency_get(c->subs[i], &l);
		if (l.samples == 0)
			continue;
		fprintf(stderr,
			"committed to read, us: p50 %.1f, p90 %.1f, p99 %.1f, p99.9 %.1f, max %.1f"
			" (%" PRIu64 " looked at)\n",
			(double)l.p50_ns / 1e3, (double)l.p90_ns / 1e3, (double)l.p99_ns / 1e3,
			(double)l.p999_ns / 1e3, (double)l.max_ns / 1e3, l.samples);
	}
}

static const struct option options[] = {
	{ "partition", required_argument, NULL, 'p' },
	{ "from", required_argument, NULL, 'f' },
	{ "count", required_argument, NULL, 'n' },
	{ "until-end", no_argument, NULL, 'e' },
	{ "format", required_argument, NULL, 'F' },
	{ "group", required_argument, NULL, 'g' },
	{ "instance", required_argument, NULL, 'i' },
	{ "member-id", required_argument, NULL, 'm' },
	{ "session-timeout", required_argument, NULL, 't' },
	{ "strategy", required_argument, NULL, 'S' },
	{ "commit-interval", required_argument, NULL, 'I' },
	{ "udp", required_argument, NULL, 'u' },
	{ "wait", required_argument, NULL, 'w' },
	{ "stats", no_argument, NULL, 's' },
	{ "quiet", no_argument, NULL, 'q' },
	{ "data", required_argument, NULL, 'd' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static int
format_parse(struct consume *c, const char *text)
{
	static const char *const names[] = { "text", "json", "raw" };

	for (enum format f = FORMAT_TEXT; f <= FORMAT_RAW; f++) {
		if (strcmp(text, names[f]) == 0) {
			c->format = f;
			return HFB_CLI_GO_ON;
		}
	}
	return hfb_cli_usage("consume", "--format is text, json or raw, not '%s'", text);
}

/* An option that says something of a member of a group. */
static int
group_option(struct consume *c, int option, const char *value)
{
	uint64_t n = 0;

	if ((option == 't' || option == 'I') &&
	    (hfb_duration_parse(value, &n) < 0 || n / 1000000 > UINT32_MAX))
		return hfb_cli_usage("consume", "'%s' is not a time such as 10s", value);
	switch (option) {
	case 'i':
		c->group_config.instance = value;
		c->group_only = "--instance";
		break;
	case 'm':
		c->group_config.client = value;
		c->group_only = "--member-id";
		break;
	case 'S':
		c->group_config.strategy = value;
		c->group_only = "--strategy";
		break;
	case 't':
		c->group_config.session_ms = n < 1000000 ? 1 : (uint32_t)(n / 1000000);
		c->group_only = "--session-timeout";
		break;
	case 'I':
		c->commit_ns = n;
		c->group_only = "--commit-interval";
		break;
	}
	return HFB_CLI_GO_ON;
}

/* An exit code, or HFB_CLI_GO_ON. */
static int
take_option(struct consume *c, int option, const char *value)
{
	uint64_t n;

	switch (option) {
	case 'p':
		if (hfb_cli_number("consume", "--partition", value, HFB_TOPIC_PARTITIONS_MAX - 1,
				   &n) < 0)
			return HFB_EXIT_USAGE;
		c->config.partition = (uint32_t)n;
		c->one_partition = true;
		break;
	case 'f':
		if (from_parse(c, value) < 0)
			return hfb_cli_usage("consume",
					     "--from is earliest, latest, an offset, @RFC3339 or "
					     "@NS, not '%s'",
					     value);
		c->from_given = true;
		break;
	case 'n':
		if (hfb_cli_number("consume", "--count", value, UINT64_MAX, &c->count_max) < 0)
			return HFB_EXIT_USAGE;
		if (c->count_max == 0)
			return hfb_cli_usage("consume", "--count is at least 1");
		break;
	case 'e':
		c->until_end = true;
		break;
	case 'F':
		return format_parse(c, value);
	case 'g':
		c->group_config.group = value;
		break;
	case 'u':
		c->bus_config.udp = value;
		break;
	case 'w':
		if (hfb_cli_wait("consume", value, &n, &c->bus_config.reconnect_ms) < 0)
			return HFB_EXIT_USAGE;
		break;
	case 's':
		c->stats = true;
		break;
	case 'q':
		c->quiet = true;
		break;
	case 'd':
		c->bus_config.data_dir = value;
		break;
	case 'h':
		help();
		return fflush(stdout) == 0 ? HFB_EXIT_OK : HFB_EXIT_FAILED;
	case '?':
		return hfb_cli_usage("consume", "wrong option");
	default:
		return group_option(c, option, value);
	}
	return HFB_CLI_GO_ON;
}

/* An exit code, or HFB_CLI_GO_ON. */
static int
read_options(int argc, char **argv, struct consume *c)
{
	const char *group;
	int option, r;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		r = take_option(c, option, optarg);
		if (r != HFB_CLI_GO_ON)
			return r;
	}
	if (optind + 1 != argc)
		return hfb_cli_usage("consume", optind == argc ? "which TOPIC?" : "one TOPIC only");
	c->topic = c->config.topic = argv[optind];
	group = c->group_config.group;
	if (group == NULL && c->group_only != NULL)
		return hfb_cli_usage("consume", "%s goes with --group only", c->group_only);
	if (group != NULL && (c->one_partition || c->bus_config.udp != NULL))
		return hfb_cli_usage("consume", "%s does not go with --group",
				     c->one_partition ? "--partition" : "--udp");
	if (group != NULL && c->from_given && c->config.from != HFB_SUB_EARLIEST &&
	    c->config.from != HFB_SUB_LATEST)
		return hfb_cli_usage("consume", "with --group, --from is earliest or latest; for "
						"another place: hfbus offset reset");
	if (c->from_given)
		c->group_config.from = c->config.from;
	else if (c->until_end)
		c->config.from = HFB_SUB_EARLIEST;
	return HFB_CLI_GO_ON;
}

/* All that is to come, as a member of a group or alone. */
static int
consume(struct consume *c, struct hfb_bus *bus, struct hfb_err *err)
{
	int r;

	if (c->group_config.group != NULL) {
		r = group_topic_check(c, bus, err);
		return r == 0 ? group_run(c, bus, err) : r;
	}
	r = subs_open(c, bus, !c->one_partition, err);
	return r == 0 ? run(c, err) : r;
}

/* What was read is written; and what was written is committed, but for none after a loss. */
static int
finish(struct consume *c, struct hfb_err *err)
{
	int r, committed = 0;

	if (c->broken)
		return 0;
	r = output_write(c, err);
	if (r == 0 && c->group != NULL && !c->unwritten)
		committed = group_end(c, err);
	return r < 0 ? r : committed;
}

int
hfb_cmd_consume(int argc, char **argv)
{
	struct consume c = { .config = { .from = HFB_SUB_LATEST }, .commit_ns = 1000000000u };
	struct hfb_err err = { 0 }, finish_err = { 0 };
	struct hfb_bus *bus = NULL;
	int r, finished;

	r = read_options(argc, argv, &c);
	if (r != HFB_CLI_GO_ON)
		return r;
	hfb_cli_signals();
	c.began_ns = hfb_now_ns();
	r = hfb_bus_open(&c.bus_config, &bus, &err);
	if (r == 0)
		r = consume(&c, bus, &err);
	finished = finish(&c, &finish_err);
	if (r == 0 && finished < 0) {
		r = finished;
		err = finish_err;
	}
	hfb_group_close(c.group);
	if (!c.quiet && (c.subs_count > 0 || c.group_config.group != NULL))
		summary(&c, c.stats);
	/* a reader such as head(1) that has enough is no failure of ours to shout about */
	if (r < 0 && !c.broken)
		hfb_cli_fail("consume", &err);
	for (uint32_t i = 0; i < c.subs_count; i++)
		hfb_sub_close(c.subs[i]);
	free(c.subs);
	free(c.ended);
	hfb_text_fini(&c.out);
	hfb_bus_close(bus);
	if (hfb_cli_stop)
		return HFB_EXIT_INTERRUPTED;
	return r < 0 || c.corrupt > 0 ? HFB_EXIT_FAILED : HFB_EXIT_OK;
}
