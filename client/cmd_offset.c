/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_offset.c - hfbus offset: what a group has committed, and setting it.
 */
#include "cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include <hfbus/limits.h>

#include "cli_control.h"
#include "clock.h"
#include "err.h"
#include "units.h"

#define COMMAND "offset"

static void
help(void)
{
	printf("Usage: hfbus offset list --group G [--json]\n"
	       "       hfbus offset reset --group G --topic T --to WHERE [--partition P] "
	       "[--dry-run]\n"
	       "       hfbus offset commit --group G --topic T --partition P --offset N\n"
	       "Show and set a consumer group's offsets: of the next event it reads.\n\n"
	       "  --group G      the group\n"
	       "  --topic T      of this topic\n"
	       "  --partition P  of this partition only (else all)\n"
	       "  --to WHERE     earliest, latest, an OFFSET, @RFC3339 or @NS (the first event "
	       "received\n"
	       "                 then or later), +N or -N (from what is committed); offsets "
	       "outside\n"
	       "                 the log become its begin or end\n"
	       "  --offset N     commit: this offset\n"
	       "  --dry-run      reset: show what would change\n"
	       "  --json         print JSON\n"
	       "  --data DIR     data folder of the bus\n"
	       "  --help         this text\n\n"
	       "reset and commit are refused while the group has members.\n"
	       "Exit status: 0 ok, 1 failed, 2 wrong usage.\n");
}

struct offset_options {
	const char *group, *topic, *data, *to;
	uint64_t partition, offset;
	bool has_partition, has_offset, dry_run, json;
};

static void
print_list(const json_t *answer)
{
	const json_t *rows = json_object_get(answer, "partitions"), *row;
	char a[24], b[24], c[24], d[24], when[64];
	int width = (int)strlen("TOPIC");
	size_t i;

	json_array_foreach(rows, i, row)
	{
		int n = (int)strlen(hfb_cli_json_text(row, "topic"));

		width = n > width ? n : width;
	}
	printf("%-*s  PARTITION     COMMITTED           END         LAG  WHEN\n", width, "TOPIC");
	json_array_foreach(rows, i, row)
	{
		const json_t *ns = json_object_get(row, "committed_ns");

		strcpy(when, "-");
		if (ns != NULL)
			hfb_clock_format((uint64_t)json_integer_value(ns), when, sizeof(when));
		printf("%-*s  %9s  %12s  %12s  %10s  %s\n", width, hfb_cli_json_text(row, "topic"),
		       hfb_cli_json_number(row, "partition", a),
		       hfb_cli_json_number(row, "committed", b), hfb_cli_json_number(row, "end", c),
		       hfb_cli_json_number(row, "lag", d), when);
	}
}

static void
print_changes(const json_t *answer)
{
	const json_t *changes = json_object_get(answer, "changes"), *c;
	char a[24], b[24], d[24];
	size_t i;

	printf("TOPIC/PARTITION                    FROM            TO\n");
	json_array_foreach(changes, i, c)
	{
		char name[256];

		snprintf(name, sizeof(name), "%s/%s", hfb_cli_json_text(c, "topic"),
			 hfb_cli_json_number(c, "partition", a));
		printf("%-25s  %12s  %12s\n", name, hfb_cli_json_number(c, "from", b),
		       hfb_cli_json_number(c, "to", d));
	}
	if (json_is_true(json_object_get(answer, "dry_run")))
		printf("nothing was changed (--dry-run)\n");
}

/* WHERE as "to" and "value" of the request. 0 or -EINVAL. */
static int
where(const char *text, json_t *request)
{
	const char *to = "offset";
	uint64_t value = 0;
	int64_t sign = 1;

	if (strcmp(text, "earliest") == 0 || strcmp(text, "latest") == 0)
		return json_object_set_new(request, "to", json_string(text));
	if (text[0] == '@') {
		to = "time";
		if (hfb_number_parse(text + 1, &value) < 0 && hfb_clock_parse(text + 1, &value) < 0)
			return -EINVAL;
	} else if (text[0] == '+' || text[0] == '-') {
		to = "shift";
		sign = text[0] == '-' ? -1 : 1;
		if (hfb_number_parse(text + 1, &value) < 0)
			return -EINVAL;
	} else if (hfb_number_parse(text, &value) < 0) {
		return -EINVAL;
	}
	if (value > INT64_MAX)
		return -EINVAL;
	json_object_set_new(request, "to", json_string(to));
	return json_object_set_new(request, "value", json_integer(sign * (json_int_t)value));
}

static int
finish(const struct offset_options *o, json_t *request, const char *list,
       void (*print)(const json_t *answer), const char *done)
{
	struct hfb_control_link link;
	struct hfb_err err = { 0 };
	json_t *answer = NULL;

	if (hfb_cli_control_open(&link, o->data, &err) == 0)
		answer = list != NULL ? hfb_cli_control_all(&link, request, list, "after", &err)
				      : hfb_cli_control_ask(&link, request, &err);
	else
		json_decref(request);
	hfb_control_link_close(&link);
	if (answer == NULL)
		return hfb_cli_fail(COMMAND, &err);
	if (o->json)
		hfb_cli_json_print(answer);
	else if (print != NULL)
		print(answer);
	else
		puts(done);
	json_decref(answer);
	return fflush(stdout) == 0 ? HFB_EXIT_OK : HFB_EXIT_FAILED;
}

static int
list(const struct offset_options *o)
{
	return finish(o, json_pack("{s:s, s:s}", "op", "group.describe", "group", o->group),
		      "partitions", print_list, NULL);
}

static int
reset(const struct offset_options *o)
{
	json_t *request;

	if (o->topic == NULL || o->to == NULL)
		return hfb_cli_usage(COMMAND, "reset needs --topic and --to");
	request = json_pack("{s:s, s:s, s:s, s:b}", "op", "offset.reset", "group", o->group,
			    "topic", o->topic, "dry_run", o->dry_run);
	if (request == NULL || where(o->to, request) < 0) {
		json_decref(request);
		return hfb_cli_usage(COMMAND,
				     "--to is earliest, latest, an offset, @RFC3339, @NS, +N or "
				     "-N, not '%s'",
				     o->to);
	}
	if (o->has_partition)
		json_object_set_new(request, "partitions",
				    json_pack("[[I, i]]", (json_int_t)o->partition, 1));
	return finish(o, request, NULL, print_changes, NULL);
}

static int
commit(const struct offset_options *o)
{
	if (o->topic == NULL || !o->has_partition || !o->has_offset)
		return hfb_cli_usage(COMMAND, "commit needs --topic, --partition and --offset");
	return finish(o,
		      json_pack("{s:s, s:s, s:{s:[[I, I]]}}", "op", "offset.commit", "group",
				o->group, "offsets", o->topic, (json_int_t)o->partition,
				(json_int_t)o->offset),
		      NULL, NULL, "committed");
}

static const struct option options[] = {
	{ "group", required_argument, NULL, 'g' },
	{ "topic", required_argument, NULL, 't' },
	{ "partition", required_argument, NULL, 'p' },
	{ "offset", required_argument, NULL, 'o' },
	{ "to", required_argument, NULL, 'T' },
	{ "dry-run", no_argument, NULL, 'n' },
	{ "json", no_argument, NULL, 'j' },
	{ "data", required_argument, NULL, 'd' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

/* An exit code, or HFB_CLI_GO_ON. */
static int
read_options(int argc, char **argv, struct offset_options *o)
{
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (c) {
		case 'g':
			o->group = optarg;
			break;
		case 't':
			o->topic = optarg;
			break;
		case 'T':
			o->to = optarg;
			break;
		case 'n':
			o->dry_run = true;
			break;
		case 'j':
			o->json = true;
			break;
		case 'd':
			o->data = optarg;
			break;
		case 'p':
			if (hfb_cli_number(COMMAND, "--partition", optarg,
					   HFB_TOPIC_PARTITIONS_MAX - 1, &o->partition) < 0)
				return HFB_EXIT_USAGE;
			o->has_partition = true;
			break;
		case 'o':
			if (hfb_cli_number(COMMAND, "--offset", optarg, INT64_MAX, &o->offset) < 0)
				return HFB_EXIT_USAGE;
			o->has_offset = true;
			break;
		case 'h':
			help();
			return fflush(stdout) == 0 ? HFB_EXIT_OK : HFB_EXIT_FAILED;
		default:
			return hfb_cli_usage(COMMAND, "wrong option");
		}
	}
	return HFB_CLI_GO_ON;
}

int
hfb_cmd_offset(int argc, char **argv)
{
	struct offset_options o = { 0 };
	int r = read_options(argc, argv, &o);

	if (r != HFB_CLI_GO_ON)
		return r;
	if (argc - optind != 1)
		return hfb_cli_usage(COMMAND, "list, reset or commit?");
	if (o.group == NULL)
		return hfb_cli_usage(COMMAND, "which --group?");
	if (strcmp(argv[optind], "list") == 0)
		return list(&o);
	if (strcmp(argv[optind], "reset") == 0)
		return reset(&o);
	if (strcmp(argv[optind], "commit") == 0)
		return commit(&o);
	return hfb_cli_usage(COMMAND, "no '%s'; there are list, reset and commit", argv[optind]);
}
