/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hfbus.c - the command line: finds the subcommand and runs it.
 */
#include <stdio.h>
#include <string.h>

#include "cli.h"

/* One line a command. */
static const struct hfb_cli_command commands[] = {
	{ "up", "run a bus in the foreground", hfb_cmd_up },
	{ "topic", "create, list, describe and delete topics", hfb_cmd_topic },
	{ "group", "show consumer groups, their members and lag", hfb_cmd_group },
	{ "offset", "show and set what a group has committed", hfb_cmd_offset },
	{ "publish", "send events, one a line from standard input", hfb_cmd_publish },
	{ "consume", "write a topic's events to standard output", hfb_cmd_consume },
	{ "stat", "show counters of the running bus", hfb_cmd_stat },
	{ "top", "the same as it moves: rates, work, latencies, losses, lag", hfb_cmd_top },
	{ "check", "is this host fit for a bus, and what to do about it", hfb_cmd_check },
	{ "dump", "list and check the batches of a segment file", hfb_cmd_dump },
};
#define COMMANDS_COUNT (sizeof(commands) / sizeof(commands[0]))

static void
help(FILE *to)
{
	fprintf(to, "Usage: hfbus COMMAND [OPTION]...\n"
		    "A kernel-bypass event bus: run it, feed it, read it, look into it.\n\n"
		    "Commands:\n");
	for (size_t i = 0; i < COMMANDS_COUNT; i++)
		fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].summary);
	fprintf(to,
		"\n"
		"Each has --help and a man page, hfbus-COMMAND(1).\n"
		"  --version  print the version and end\n\n"
		"The bus is found by --data DIR, else $HFBUS_DATA, else it is the one that runs\n"
		"on this host for this user.\n"
		"Exit status: 0 ok, 1 failed, 2 wrong usage, 130 interrupted.\n");
}

int
main(int argc, char **argv)
{
	char name[64];

	if (argc < 2) {
		help(stderr);
		return HFB_EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
	    strcmp(argv[1], "help") == 0) {
		help(stdout);
		return fflush(stdout) == 0 ? HFB_EXIT_OK : HFB_EXIT_FAILED;
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("hfbus " HFB_VERSION "\n");
		return fflush(stdout) == 0 ? HFB_EXIT_OK : HFB_EXIT_FAILED;
	}
	for (size_t i = 0; i < COMMANDS_COUNT; i++) {
		if (strcmp(argv[1], commands[i].name) == 0) {
			/* getopt's own messages begin with argv[0] */
			snprintf(name, sizeof(name), "hfbus %s", commands[i].name);
			argv[1] = name;
			return commands[i].run(argc - 1, argv + 1);
		}
	}
	fprintf(stderr, "hfbus: no command '%s'\nTry 'hfbus --help'.\n", argv[1]);
	return HFB_EXIT_USAGE;
}
