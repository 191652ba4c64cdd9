/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli.h - what the subcommands of `hfbus` share: options, signals, messages.
 *
 *	int
 *	hfb_cmd_frob(int argc, char **argv)		argv[0] is "hfbus frob"
 *	{
 *		while ((c = getopt_long(argc, argv, ...)) != -1) ...
 *		return HFB_EXIT_OK;
 *	}
 *
 * and one line in the table of hfbus.c.
 *
 * Threads: the main thread.
 */
#ifndef HFB_CLI_H
#define HFB_CLI_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <hfbus/err.h>
#include <hfbus/types.h>

#define HFB_EXIT_OK	     0
#define HFB_EXIT_FAILED	     1
#define HFB_EXIT_USAGE	     2
#define HFB_EXIT_INTERRUPTED 130

/* Of what reads options: no exit code, go on. */
#define HFB_CLI_GO_ON (-1)

struct hfb_cli_command {
	const char *name;
	const char *summary;
	int (*run)(int argc, char **argv);
};

int hfb_cmd_publish(int argc, char **argv);
int hfb_cmd_consume(int argc, char **argv);
int hfb_cmd_stat(int argc, char **argv);
int hfb_cmd_check(int argc, char **argv);
int hfb_cmd_dump(int argc, char **argv);
int hfb_cmd_up(int argc, char **argv);
int hfb_cmd_top(int argc, char **argv);
int hfb_cmd_topic(int argc, char **argv);
int hfb_cmd_group(int argc, char **argv);
int hfb_cmd_offset(int argc, char **argv);

/* Set by SIGINT and SIGTERM once hfb_cli_signals() was called; a second SIGINT
 * ends the process. SIGPIPE is ignored: a write says EPIPE. */
extern volatile sig_atomic_t hfb_cli_stop;
void hfb_cli_signals(void);

/* "hfbus publish: <text>" on stderr. Returns HFB_EXIT_FAILED. */
int hfb_cli_fail(const char *command, const struct hfb_err *err);
/* The same with a hint at --help. Returns HFB_EXIT_USAGE. */
int hfb_cli_usage(const char *command, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Values of options; on a bad one print why (naming @option) and return -EINVAL. */
int hfb_cli_number(const char *command, const char *option, const char *text, uint64_t max,
		   uint64_t *ret);
/* --wait D: how long to go on without an hfbusd, for struct hfb_bus_config: 1 ms at least, and what
 * is more than it holds is for ever. */
int hfb_cli_wait(const char *command, const char *text, uint64_t *ret_ns, uint32_t *ret_ms);
int hfb_cli_stage(const char *command, const char *option, const char *text, int32_t *ret);
const char *hfb_cli_stage_name(uint32_t stage);

/* "1.2 M", "35.0 k", "12" into @to (>= 16 bytes). */
const char *hfb_cli_short(double value, char *to, size_t size);

#endif
