/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_check.c - hfbus check: is this host fit for a bus, and what to do about it.
 */
#include "cli.h"

#include <getopt.h>
#include <jansson.h>
#include <string.h>

#include <hfbus/bus.h>

#include "check.h"

static const char *const verdict_names[] = { "ok", "info", "warn", "fail" };

static void
help(void)
{
	printf("Usage: hfbus check [OPTION]...\n"
	       "Look whether this host suits a bus, and say what to do about what does not.\n\n"
	       "  --data DIR  folder the log is to live in (else where a bus runs, else here);\n"
	       "              a small file is written there and removed\n"
	       "  --json      for programs\n"
	       "  --help      this text\n\n"
	       "Exit status: 0 hfbusd runs here (perhaps slower than it could), 1 it does not,\n"
	       "2 wrong usage.\n");
}

static enum hfb_check_verdict
worst_of(const struct hfb_check_list *list)
{
	enum hfb_check_verdict worst = HFB_CHECK_OK;

	for (uint32_t i = 0; i < list->count; i++)
		if (list->findings[i].verdict > worst)
			worst = list->findings[i].verdict;
	return worst == HFB_CHECK_INFO ? HFB_CHECK_OK : worst;
}

static void
json_print(const struct hfb_check_list *list)
{
	json_t *checks = json_array(), *root;

	for (uint32_t i = 0; i < list->count; i++) {
		const struct hfb_check_finding *f = &list->findings[i];

		json_array_append_new(checks, json_pack("{s:s,s:s,s:s,s:s}", "name", f->name,
							"verdict", verdict_names[f->verdict],
							"found", f->found, "advice", f->advice));
	}
	root = json_pack("{s:s,s:o}", "verdict", verdict_names[worst_of(list)], "checks", checks);
	json_dumpf(root, stdout, JSON_INDENT(1));
	printf("\n");
	json_decref(root);
}

/* Words of @text in lines of at most 74 columns, indented. */
static void
paragraph(const char *text)
{
	size_t column = 0;

	while (*text != '\0') {
		size_t n = strcspn(text, " ");

		if (column == 0 || column + 1 + n > 70) {
			printf("%s        ", column ? "\n" : "");
			column = 0;
		} else {
			printf(" ");
			column++;
		}
		printf("%.*s", (int)n, text);
		column += n;
		text += n + (text[n] == ' ');
	}
	printf("\n");
}

static void
text_print(const struct hfb_check_list *list)
{
	static const char *const summary[] = {
		"This host is fit.",
		"",
		"hfbusd runs here; what is marked warn costs speed or tails.",
		"hfbusd does not run here: see what is marked fail.",
	};

	for (uint32_t i = 0; i < list->count; i++) {
		const struct hfb_check_finding *f = &list->findings[i];

		printf("%-4s  %-22s %s\n", verdict_names[f->verdict], f->name, f->found);
		if (*f->advice)
			paragraph(f->advice);
	}
	printf("\n%s\n", summary[worst_of(list)]);
}

int
hfb_cmd_check(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "data", required_argument, NULL, 'd' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	static struct hfb_check_list list;
	const char *folder = NULL;
	struct hfb_err err;
	char found[4096];
	bool json = false;
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (c) {
		case 'j':
			json = true;
			break;
		case 'd':
			folder = optarg;
			break;
		case 'h':
			help();
			return fflush(stdout) == 0 ? HFB_EXIT_OK : HFB_EXIT_FAILED;
		default:
			return hfb_cli_usage("check", "wrong option");
		}
	}
	if (optind != argc)
		return hfb_cli_usage("check", "no arguments are needed, but '%s' was given",
				     argv[optind]);
	if (folder == NULL)
		folder = hfb_bus_find(NULL, found, sizeof(found), &err) == 0 ? found : ".";
	hfb_check_host(&list);
	hfb_check_disk(&list, folder);
	if (json)
		json_print(&list);
	else
		text_print(&list);
	if (fflush(stdout) != 0)
		return HFB_EXIT_FAILED;
	return worst_of(&list) == HFB_CHECK_FAIL ? HFB_EXIT_FAILED : HFB_EXIT_OK;
}
