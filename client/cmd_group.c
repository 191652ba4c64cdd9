/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_group.c - hfbus group: who reads what, and how far behind.
 */
#include "cli.h"

#include <errno.h>
#include <getopt.h>
#include <string.h>

#include "cli_control.h"
#include "err.h"

#define COMMAND "group"

static void
help(void)
{
	printf("Usage: hfbus group list [--json]\n"
	       "       hfbus group describe GROUP [--json]\n"
	       "       hfbus group members GROUP [--json]\n"
	       "       hfbus group delete GROUP\n"
	       "Show and delete consumer groups.\n\n"
	       "  list      all groups: state, members, and how many events they are behind\n"
	       "  describe  each partition: committed offset, end of the log, lag, reader\n"
	       "  members   who is in it, with which partitions\n"
	       "  delete    a group without members, with its offsets\n\n"
	       "  --json      print JSON\n"
	       "  --data DIR  data folder of the bus\n"
	       "  --help      this text\n\n"
	       "hfbus consume TOPIC --group GROUP makes members; hfbus offset sets offsets.\n"
	       "Exit status: 0 ok, 1 failed, 2 wrong usage.\n");
}

static int
width_of(const json_t *list, const char *key, const char *title)
{
	int width = (int)strlen(title);
	const json_t *row;
	size_t i;

	json_array_foreach(list, i, row)
	{
		int n = (int)strlen(hfb_cli_json_text(row, key));

		width = n > width ? n : width;
	}
	return width;
}

static void
print_list(const json_t *answer)
{
	const json_t *groups = json_object_get(answer, "groups"), *g;
	int width = width_of(groups, "group", "GROUP");
	char a[24], b[24], c[24];
	size_t i;

	printf("%-*s  STATE      GENERATION  MEMBERS  STRATEGY            PARTITIONS         LAG\n",
	       width, "GROUP");
	json_array_foreach(groups, i, g)
	{
		char d[24];

		printf("%-*s  %-9s  %10s  %7s  %-18s  %10s  %10s\n", width,
		       hfb_cli_json_text(g, "group"), hfb_cli_json_text(g, "state"),
		       hfb_cli_json_number(g, "generation", a),
		       hfb_cli_json_number(g, "members", b), hfb_cli_json_text(g, "strategy"),
		       hfb_cli_json_number(g, "partitions", c), hfb_cli_json_number(g, "lag", d));
	}
}

static void
print_group(const json_t *answer)
{
	const json_t *g = json_object_get(answer, "group");
	char a[24], b[24], c[24];

	printf("group       %s\n", hfb_cli_json_text(g, "group"));
	printf("state       %s\n", hfb_cli_json_text(g, "state"));
	printf("generation  %s\n", hfb_cli_json_number(g, "generation", a));
	printf("members     %s\n", hfb_cli_json_number(g, "members", b));
	printf("strategy    %s\n", hfb_cli_json_text(g, "strategy"));
	printf("lag         %s\n\n", hfb_cli_json_number(g, "lag", c));
}

static void
print_describe(const json_t *answer)
{
	const json_t *rows = json_object_get(answer, "partitions"), *row;
	int width = width_of(rows, "topic", "TOPIC");
	char a[24], b[24], c[24], d[24];
	size_t i;

	print_group(answer);
	printf("%-*s  PARTITION     COMMITTED           END         LAG  MEMBER\n", width, "TOPIC");
	json_array_foreach(rows, i, row)
	{
		printf("%-*s  %9s  %12s  %12s  %10s  %s\n", width, hfb_cli_json_text(row, "topic"),
		       hfb_cli_json_number(row, "partition", a),
		       hfb_cli_json_number(row, "committed", b), hfb_cli_json_number(row, "end", c),
		       hfb_cli_json_number(row, "lag", d), hfb_cli_json_text(row, "member"));
	}
}

/* orders 0-3,7 trades 0 */
static void
print_runs(json_t *topics)
{
	const char *topic;
	const json_t *run;
	json_t *runs;
	size_t i;

	json_object_foreach(topics, topic, runs)
	{
		printf("  %s ", topic);
		json_array_foreach(runs, i, run)
		{
			json_int_t first = json_integer_value(json_array_get(run, 0));
			json_int_t count = json_integer_value(json_array_get(run, 1));

			printf("%s%lld", i > 0 ? "," : "", (long long)first);
			if (count > 1)
				printf("-%lld", (long long)(first + count - 1));
		}
	}
}

static void
print_members(const json_t *answer)
{
	const json_t *members = json_object_get(answer, "members"), *m;
	int width = width_of(members, "member", "MEMBER");
	int instances = width_of(members, "instance", "INSTANCE");
	char a[24], b[24];
	size_t i;

	print_group(answer);
	printf("%-*s  %-*s  SESSION MS  OUT IN MS  PARTITIONS\n", width, "MEMBER", instances,
	       "INSTANCE");
	json_array_foreach(members, i, m)
	{
		printf("%-*s  %-*s  %10s  %9s", width, hfb_cli_json_text(m, "member"), instances,
		       hfb_cli_json_text(m, "instance"), hfb_cli_json_number(m, "session_ms", a),
		       hfb_cli_json_number(m, "expires_in_ms", b));
		print_runs(json_object_get(m, "partitions"));
		printf("\n");
	}
}

static const struct verb {
	const char *name, *op, *list;
	bool named;
	void (*print)(const json_t *answer);
} verbs[] = {
	{ "list", "group.list", "groups", false, print_list },
	{ "describe", "group.describe", "partitions", true, print_describe },
	{ "members", "group.members", "members", true, print_members },
	{ "delete", "group.delete", NULL, true, NULL },
};
#define VERBS (sizeof(verbs) / sizeof(verbs[0]))

static int
run(const struct verb *verb, const char *name, const char *data, bool json)
{
	json_t *request = json_pack("{s:s}", "op", verb->op), *answer = NULL;
	struct hfb_control_link link;
	struct hfb_err err = { 0 };

	if (name != NULL && json_object_set_new(request, "group", json_string(name)) < 0)
		hfb_err_set(&err, -EINVAL, "a group's name is made of A-Z a-z 0-9 . _ and -");
	if (hfb_cli_control_open(&link, data, &err) == 0 && err.code == 0)
		answer = verb->list != NULL
				 ? hfb_cli_control_all(&link, request, verb->list, "after", &err)
				 : hfb_cli_control_ask(&link, request, &err);
	else
		json_decref(request);
	hfb_control_link_close(&link);
	if (answer == NULL)
		return hfb_cli_fail(COMMAND, &err);
	if (json)
		hfb_cli_json_print(answer);
	else if (verb->print != NULL)
		verb->print(answer);
	else
		printf("group %s deleted\n", name);
	json_decref(answer);
	return fflush(stdout) == 0 ? HFB_EXIT_OK : HFB_EXIT_FAILED;
}

int
hfb_cmd_group(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "data", required_argument, NULL, 'd' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	const char *data = NULL;
	bool json = false;
	size_t verb = 0;
	int o;

	while ((o = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (o) {
		case 'j':
			json = true;
			break;
		case 'd':
			data = optarg;
			break;
		case 'h':
			help();
			return fflush(stdout) == 0 ? HFB_EXIT_OK : HFB_EXIT_FAILED;
		default:
			return hfb_cli_usage(COMMAND, "wrong option");
		}
	}
	if (optind == argc)
		return hfb_cli_usage(COMMAND, "list, describe, members or delete?");
	while (verb < VERBS && strcmp(argv[optind], verbs[verb].name) != 0)
		verb++;
	if (verb == VERBS)
		return hfb_cli_usage(COMMAND,
				     "no '%s'; there are list, describe, members and delete",
				     argv[optind]);
	if (argc - optind != (verbs[verb].named ? 2 : 1))
		return hfb_cli_usage(COMMAND, "%s takes %s", verbs[verb].name,
				     verbs[verb].named ? "one GROUP" : "no name");
	return run(&verbs[verb], verbs[verb].named ? argv[optind + 1] : NULL, data, json);
}
