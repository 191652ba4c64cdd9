/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_topic.c - hfbus topic: create, list, describe, alter, trim and delete, by
 * asking hfbus-control over DATA/control.sock.
 */
#include "cli.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include <hfbus/hfbus.h>

#include "cli_control.h"
#include "clock.h"
#include "err.h"
#include "units.h"

#define COMMAND "topic"

static void
help(void)
{
	printf("Usage: hfbus topic create NAME... [OPTION]...\n"
	       "       hfbus topic list [--internal] [--json]\n"
	       "       hfbus topic describe NAME [--json]\n"
	       "       hfbus topic alter NAME OPTION...\n"
	       "       hfbus topic add-partitions NAME N\n"
	       "       hfbus topic trim NAME --partition P --before OFFSET\n"
	       "       hfbus topic delete NAME...\n"
	       "Make, show, change and delete topics.\n\n"
	       "  --partitions N       1 to %u; default 1\n"
	       "  --commit STAGE       when events become visible and are acked: received, "
	       "durable\n"
	       "                       (default), mirrored or mirrored-durable\n"
	       "  --retention-bytes N  keep at most this much of each partition, e.g. 10G\n"
	       "  --retention-time D   keep events for this long, e.g. 7d\n"
	       "  --ring-bytes N       largest ring, a power of two from 1M to 256M\n"
	       "  --segment-bytes N    largest segment file, a power of two from 1M to 256M\n"
	       "  --cleanup HOW        delete (default), or compact: the last event of each key "
	       "stays\n"
	       "  --tombstone-time D   compact: how long an event without a value stays; default "
	       "1d\n"
	       "  --partition P        trim: of this partition\n"
	       "  --before OFFSET      trim: drop the events before it; 'end': all\n"
	       "  --internal           list the bus's own topics (\"__...\"), too\n"
	       "  --json               print JSON\n"
	       "  --data DIR           data folder of the bus\n"
	       "  --help               this text\n\n"
	       "Retention drops whole segment files; without it everything is kept. alter changes "
	       "what it\n"
	       "names, without a restart; --partitions only upwards: keys then go to other "
	       "partitions.\n"
	       "0 or 'default' stands for no limit, or the default.\n"
	       "Exit status: 0 ok, 1 failed, 2 wrong usage.\n",
	       HFB_TOPIC_PARTITIONS_MAX);
}

/* Showing ------------------------------------------------------------------- */

static const char *
text_of(const json_t *json, const char *key)
{
	return json_string_value(json_object_get(json, key)) ?: "?";
}

static uint64_t
number_of(const json_t *json, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(json, key));
}

/* The largest unit that leaves a whole number, or one place after the point: 64M, 1.5G. */
static const char *
bytes_text(uint64_t bytes, char to[32])
{
	static const char units[] = "\0KMGT";
	double value = (double)bytes;
	int unit = 0;

	while (value >= 1024 && unit < 4) {
		value /= 1024;
		unit++;
	}
	if (value == (double)(uint64_t)value)
		snprintf(to, 32, "%" PRIu64 "%.1s", (uint64_t)value, &units[unit]);
	else
		snprintf(to, 32, "%.1f%.1s", value, &units[unit]);
	return to;
}

static const char *
duration_text(uint64_t ns, char to[32])
{
	static const struct {
		uint64_t ns;
		const char *name;
	} units[] = {
		{ 86400000000000, "d" },
		{ 3600000000000, "h" },
		{ 60000000000, "m" },
		{ 1000000000, "s" },
		{ 1000000, "ms" },
		{ 1000, "us" },
		{ 1, "ns" },
	};
	size_t i = 0;

	while (ns % units[i].ns != 0)
		i++;
	snprintf(to, 32, "%" PRIu64 "%s", ns / units[i].ns, units[i].name);
	return to;
}

static const char *
retention_text(const json_t *topic, char to[80])
{
	uint64_t bytes = number_of(topic, "retention_bytes");
	uint64_t ns = number_of(topic, "retention_ns");
	char a[32], b[32];

	if (bytes == 0 && ns == 0)
		return "all";
	snprintf(to, 80, "%s%s%s", bytes != 0 ? bytes_text(bytes, a) : "",
		 bytes != 0 && ns != 0 ? "," : "", ns != 0 ? duration_text(ns, b) : "");
	return to;
}

static void
print_list(const json_t *answer)
{
	const json_t *topics = json_object_get(answer, "topics"), *topic;
	int width = (int)strlen("TOPIC");
	size_t i;

	json_array_foreach(topics, i, topic)
	{
		int n = (int)strlen(text_of(topic, "name"));

		width = n > width ? n : width;
	}
	printf("%-*s  PARTITIONS  COMMIT    RETENTION   STATE\n", width, "TOPIC");
	json_array_foreach(topics, i, topic)
	{
		char retention[80];

		printf("%-*s  %10" PRIu64 "  %-8s  %-10s  %s%s\n", width, text_of(topic, "name"),
		       number_of(topic, "partitions"), text_of(topic, "commit"),
		       retention_text(topic, retention), text_of(topic, "state"),
		       json_is_true(json_object_get(topic, "feed")) ? ", of a feed" : "");
	}
}

static uint64_t
offset_of(const json_t *partition, const char *mark)
{
	return number_of(json_object_get(partition, mark), "offset");
}

static void
print_describe(const json_t *answer)
{
	const json_t *topic = json_object_get(answer, "topic");
	const json_t *partitions = json_object_get(answer, "partitions"), *partition;
	uint64_t segment = number_of(topic, "segment_bytes"), ring = number_of(topic, "ring_bytes");
	char text[80], created[64];
	size_t i;

	hfb_clock_format(number_of(topic, "created_ns"), created, sizeof(created));
	printf("topic       %s\n", text_of(topic, "name"));
	printf("uuid        %s\n", text_of(topic, "uuid"));
	printf("created     %s%s\n", created,
	       json_is_true(json_object_get(topic, "feed")) ? " by a feed" : "");
	printf("version     %" PRIu64 "\n", number_of(topic, "version"));
	printf("partitions  %" PRIu64 "\n", number_of(topic, "partitions"));
	printf("commit      %s\n", text_of(topic, "commit"));
	printf("retention   %s\n", retention_text(topic, text));
	printf("cleanup     %s\n", text_of(topic, "cleanup"));
	if (number_of(topic, "tombstone_ns") != 0)
		printf("tombstones  %s\n", duration_text(number_of(topic, "tombstone_ns"), text));
	printf("segment     %s\n", segment != 0 ? bytes_text(segment, text) : "default");
	printf("ring        %s\n", ring != 0 ? bytes_text(ring, text) : "default");
	printf("state       %s\n", text_of(topic, "state"));
	if (json_object_get(topic, "refusal") != NULL)
		printf("refused     %s\n", text_of(topic, "refusal"));
	if (!json_is_true(json_object_get(answer, "running"))) {
		printf("\nhfbusd does not run: positions are not known.\n");
		return;
	}
	printf("\nPARTITION  CORE  STATE     OFFSETS: START    COMMITTED      DURABLE     RECEIVED"
	       "      KEPT      RING   SEGMENT  EVENTS/S  BYTES/S\n");
	json_array_foreach(partitions, i, partition)
	{
		char kept[32], rings[32], segments[32], events[32] = "-", bytes[32] = "-";
		const json_t *rate = json_object_get(partition, "events_per_s");

		if (rate != NULL) {
			snprintf(events, sizeof(events), "%.0f", json_real_value(rate));
			bytes_text((uint64_t)json_real_value(
					   json_object_get(partition, "bytes_per_s")),
				   bytes);
		}

		printf("%9" PRIu64 "  %4" PRIu64 "  %-8s  %14" PRIu64 " %12" PRIu64 " %12" PRIu64
		       " %12" PRIu64 "  %8s  %8s  %8s  %8s  %7s\n",
		       number_of(partition, "partition"), number_of(partition, "core"),
		       text_of(partition, "state"), offset_of(partition, "start"),
		       offset_of(partition, "committed"), offset_of(partition, "durable"),
		       offset_of(partition, "received"),
		       bytes_text(number_of(partition, "kept_bytes"), kept),
		       bytes_text(number_of(partition, "ring_bytes"), rings),
		       bytes_text(number_of(partition, "segment_bytes"), segments), events, bytes);
	}
}

/* The commands --------------------------------------------------------------- */

struct topic_options {
	json_t *settings;  /* of create and alter */
	json_t *trim;	   /* partition and before */
	const char *count; /* of add-partitions */
	const char *data;
	bool json, internal;
};

static int
finish(json_t *answer, const struct hfb_err *err)
{
	if (answer == NULL)
		return hfb_cli_fail(COMMAND, err);
	json_decref(answer);
	return fflush(stdout) == 0 ? HFB_EXIT_OK : HFB_EXIT_FAILED;
}

/* To ask @op of the topic @name with the members of @more (borrowed, or NULL). NULL = @err. */
static json_t *
request_about(const char *op, const char *name, json_t *more, struct hfb_err *err)
{
	json_t *request = more != NULL ? json_copy(more) : json_object();

	json_object_set_new(request, "op", json_string(op));
	/* jansson takes UTF-8 only */
	if (json_object_set_new(request, "name", json_string(name)) == 0)
		return request;
	json_decref(request);
	hfb_err_set(err, -EINVAL, "a topic's name is made of A-Z a-z 0-9 . _ and -");
	return NULL;
}

static json_t *
ask_about(struct hfb_control_link *link, const char *op, const char *name, json_t *more,
	  struct hfb_err *err)
{
	json_t *request = request_about(op, name, more, err);

	return request != NULL ? hfb_cli_control_ask(link, request, err) : NULL;
}

static int
create(struct hfb_control_link *link, const char *name, const struct topic_options *o)
{
	struct hfb_err err = { 0 };
	json_t *answer = ask_about(link, "topic.create", name, o->settings, &err);

	if (answer != NULL && o->json)
		hfb_cli_json_print(answer);
	else if (answer != NULL)
		printf("topic %s created\n", name);
	return finish(answer, &err);
}

static int delete (struct hfb_control_link *link, const char *name, const struct topic_options *o)
{
	struct hfb_err err = { 0 };
	json_t *answer = ask_about(link, "topic.delete", name, NULL, &err);

	if (answer != NULL && o->json)
		hfb_cli_json_print(answer);
	else if (answer != NULL)
		printf("topic %s deleted\n", name);
	return finish(answer, &err);
}

/* Settings as they are named; also add-partitions, which names one. */
static int
alter(struct hfb_control_link *link, const char *name, const struct topic_options *o)
{
	struct hfb_err err = { 0 };
	json_t *answer;
	uint64_t more;

	if (o->count != NULL) {
		if (hfb_number_parse(o->count, &more) < 0 || more < 1 ||
		    more > HFB_TOPIC_PARTITIONS_MAX)
			return hfb_cli_usage(COMMAND, "add-partitions: '%s' is not 1 to %u",
					     o->count, HFB_TOPIC_PARTITIONS_MAX);
		json_object_set_new(o->settings, "add_partitions", json_integer((json_int_t)more));
	}
	answer = ask_about(link, "topic.alter", name, o->settings, &err);
	if (answer != NULL && o->json)
		hfb_cli_json_print(answer);
	else if (answer != NULL && o->count != NULL)
		printf("topic %s has %" PRIu64 " partitions\n", name,
		       number_of(json_object_get(answer, "topic"), "partitions"));
	else if (answer != NULL)
		printf("topic %s altered\n", name);
	return finish(answer, &err);
}

static int
trim(struct hfb_control_link *link, const char *name, const struct topic_options *o)
{
	struct hfb_err err = { 0 };
	json_t *answer = ask_about(link, "topic.trim", name, o->trim, &err);

	if (answer != NULL && o->json)
		hfb_cli_json_print(answer);
	else if (answer != NULL)
		printf("topic %s partition %" PRIu64 " begins at offset %" PRIu64 "\n", name,
		       number_of(answer, "partition"), offset_of(answer, "start"));
	return finish(answer, &err);
}

static int
list(struct hfb_control_link *link, const char *name, const struct topic_options *o)
{
	struct hfb_err err = { 0 };
	json_t *answer = hfb_cli_control_all(
		link, json_pack("{s:s, s:b}", "op", "topic.list", "internal", o->internal),
		"topics", "after", &err);

	(void)name;
	if (answer != NULL && o->json)
		hfb_cli_json_print(answer);
	else if (answer != NULL)
		print_list(answer);
	return finish(answer, &err);
}

static int
describe(struct hfb_control_link *link, const char *name, const struct topic_options *o)
{
	struct hfb_err err = { 0 };
	json_t *request = request_about("topic.describe", name, NULL, &err);
	json_t *answer = request != NULL
				 ? hfb_cli_control_all(link, request, "partitions", "first", &err)
				 : NULL;

	if (answer != NULL && o->json)
		hfb_cli_json_print(answer);
	else if (answer != NULL)
		print_describe(answer);
	return finish(answer, &err);
}

static const struct {
	const char *name;
	enum { NAMES_NONE, NAMES_ONE, NAMES_MANY, NAMES_AND_COUNT } names;
	enum { TAKES_NONE, TAKES_SETTINGS, TAKES_TRIM } takes;
	int (*run)(struct hfb_control_link *link, const char *name, const struct topic_options *o);
} verbs[] = {
	{ "create", NAMES_MANY, TAKES_SETTINGS, create },
	{ "list", NAMES_NONE, TAKES_NONE, list },
	{ "describe", NAMES_ONE, TAKES_NONE, describe },
	{ "alter", NAMES_ONE, TAKES_SETTINGS, alter },
	{ "add-partitions", NAMES_AND_COUNT, TAKES_NONE, alter },
	{ "trim", NAMES_ONE, TAKES_TRIM, trim },
	{ "delete", NAMES_MANY, TAKES_NONE, delete },
};
#define VERBS (sizeof(verbs) / sizeof(verbs[0]))

enum {
	PARTITIONS = 256,
	COMMIT,
	RETENTION_BYTES,
	RETENTION_TIME,
	RING,
	SEGMENT,
	CLEANUP,
	TOMBSTONE,
	PARTITION,
	BEFORE
};

static const struct option options[] = {
	{ "partitions", required_argument, NULL, PARTITIONS },
	{ "commit", required_argument, NULL, COMMIT },
	{ "retention-bytes", required_argument, NULL, RETENTION_BYTES },
	{ "retention-time", required_argument, NULL, RETENTION_TIME },
	{ "ring-bytes", required_argument, NULL, RING },
	{ "segment-bytes", required_argument, NULL, SEGMENT },
	{ "cleanup", required_argument, NULL, CLEANUP },
	{ "tombstone-time", required_argument, NULL, TOMBSTONE },
	{ "partition", required_argument, NULL, PARTITION },
	{ "before", required_argument, NULL, BEFORE },
	{ "internal", no_argument, NULL, 'i' },
	{ "json", no_argument, NULL, 'j' },
	{ "data", required_argument, NULL, 'd' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

/* A setting of create or alter. hfbus-control checks ranges; here only what is no number. */
static int
setting(json_t *settings, int option, const char *text)
{
	static const char *const members[] = { "partitions",   "commit",      "retention_bytes",
					       "retention_ns", "ring_bytes",  "segment_bytes",
					       "cleanup",      "tombstone_ns" };
	const char *member = members[option - PARTITIONS];
	const char *name = options[option - PARTITIONS].name;
	uint64_t value = 0;
	int r;

	if (option == COMMIT || option == CLEANUP)
		return json_object_set_new(settings, member, json_string(text)) < 0 ? -EINVAL : 0;
	if (option != PARTITIONS && strcmp(text, "default") == 0)
		r = 0;
	else if (option == PARTITIONS)
		r = hfb_number_parse(text, &value);
	else if (option == RETENTION_TIME || option == TOMBSTONE)
		r = hfb_duration_parse(text, &value);
	else
		r = hfb_bytes_parse(text, &value);
	if (r == 0 && value > INT64_MAX)
		r = -ERANGE;
	if (r < 0) {
		hfb_cli_usage(COMMAND, "--%s: '%s' is not %s", name, text,
			      option == PARTITIONS ? "a number"
			      : option == RETENTION_TIME || option == TOMBSTONE
				      ? "a time such as 7d, 12h or 90s"
				      : "a size such as 64M or 10G");
		return r;
	}
	return json_object_set_new(settings, member, json_integer((json_int_t)value));
}

/* What trim takes: a partition and an offset, or 'end'. */
static int
trim_setting(json_t *to, int option, const char *text)
{
	const char *member = option == PARTITION ? "partition" : "before";
	uint64_t value = 0;

	if (option == BEFORE && strcmp(text, "end") == 0)
		return json_object_set_new(to, member, json_integer(-1));
	if (hfb_number_parse(text, &value) < 0 || value > INT64_MAX) {
		hfb_cli_usage(COMMAND, "--%s: '%s' is not a number%s", member, text,
			      option == BEFORE ? " or 'end'" : "");
		return -EINVAL;
	}
	return json_object_set_new(to, member, json_integer((json_int_t)value));
}

/* 0 to go on, else an exit code + 1. */
static int
read_options(int argc, char **argv, struct topic_options *o)
{
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'h':
			help();
			return HFB_EXIT_OK + 1;
		case 'j':
			o->json = true;
			break;
		case 'i':
			o->internal = true;
			break;
		case 'd':
			o->data = optarg;
			break;
		case '?':
			return hfb_cli_usage(COMMAND, "see the options above") + 1;
		case PARTITION:
		case BEFORE:
			if (trim_setting(o->trim, option, optarg) < 0)
				return HFB_EXIT_USAGE + 1;
			break;
		default:
			if (setting(o->settings, option, optarg) < 0)
				return HFB_EXIT_USAGE + 1;
		}
	}
	return 0;
}

/* Is what was given what the verb takes? 0, or an exit code. */
static int
usage_check(size_t verb, int names, const struct topic_options *o)
{
	static const char *const takes[] = { "no name", "one topic's name", "topics' names",
					     "a topic's name and how many more" };
	static const char *const which[] = { "none", "create and alter", "trim" };
	bool fits = verbs[verb].names == NAMES_MANY ? names >= 1
						    : names == (verbs[verb].names == NAMES_AND_COUNT
									? 2
									: (int)verbs[verb].names);

	if (!fits)
		return hfb_cli_usage(COMMAND, "%s takes %s", verbs[verb].name,
				     takes[verbs[verb].names]);
	if (verbs[verb].takes != TAKES_SETTINGS && json_object_size(o->settings) != 0)
		return hfb_cli_usage(COMMAND, "settings go with %s only", which[TAKES_SETTINGS]);
	if (verbs[verb].takes != TAKES_TRIM && json_object_size(o->trim) != 0)
		return hfb_cli_usage(COMMAND, "--partition and --before go with %s only",
				     which[TAKES_TRIM]);
	if (verbs[verb].takes == TAKES_TRIM && json_object_size(o->trim) != 2)
		return hfb_cli_usage(COMMAND, "trim needs --partition and --before");
	if (verbs[verb].run == alter && verbs[verb].takes == TAKES_SETTINGS &&
	    json_object_size(o->settings) == 0)
		return hfb_cli_usage(COMMAND, "alter: which settings?");
	return HFB_EXIT_OK;
}

static int
run(int argc, char **argv, struct topic_options *o)
{
	struct hfb_control_link link;
	int names = argc - optind - 1, r;
	struct hfb_err err = { 0 };
	size_t verb = 0;

	if (optind == argc)
		return hfb_cli_usage(COMMAND, "create, list, describe, alter, add-partitions, trim "
					      "or delete?");
	while (verb < VERBS && strcmp(argv[optind], verbs[verb].name) != 0)
		verb++;
	if (verb == VERBS)
		return hfb_cli_usage(COMMAND,
				     "no '%s'; there are create, list, describe, alter, "
				     "add-partitions, trim and delete",
				     argv[optind]);
	r = usage_check(verb, names, o);
	if (r != HFB_EXIT_OK)
		return r;
	if (verbs[verb].names == NAMES_AND_COUNT)
		o->count = argv[optind + 2];
	r = hfb_cli_control_open(&link, o->data, &err);
	if (r < 0) {
		r = hfb_cli_fail(COMMAND, &err);
	} else if (verbs[verb].names == NAMES_MANY) {
		/* one after the other; a failure ends it, and says which */
		for (int i = 0; i < names && r == HFB_EXIT_OK; i++)
			r = verbs[verb].run(&link, argv[optind + 1 + i], o);
	} else {
		r = verbs[verb].run(&link, names > 0 ? argv[optind + 1] : NULL, o);
	}
	hfb_control_link_close(&link);
	return r;
}

int
hfb_cmd_topic(int argc, char **argv)
{
	struct topic_options o = { .settings = json_object(), .trim = json_object() };
	int r = read_options(argc, argv, &o);

	if (r == 0)
		r = run(argc, argv, &o);
	else
		r--;
	json_decref(o.settings);
	json_decref(o.trim);
	return r;
}
