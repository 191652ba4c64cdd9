/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli.c - see cli.h.
 */
#include "cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "units.h"

volatile sig_atomic_t hfb_cli_stop;

static void
on_stop(int number)
{
	if (hfb_cli_stop && number == SIGINT)
		_exit(HFB_EXIT_INTERRUPTED);
	hfb_cli_stop = number;
}

void
hfb_cli_signals(void)
{
	struct sigaction action = { .sa_handler = on_stop };

	/* no SA_RESTART: a read of stdin must come back */
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	action.sa_handler = SIG_IGN;
	sigaction(SIGPIPE, &action, NULL);
}

int
hfb_cli_fail(const char *command, const struct hfb_err *err)
{
	fprintf(stderr, "hfbus %s: %s\n", command, err->text);
	return HFB_EXIT_FAILED;
}

int
hfb_cli_usage(const char *command, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "hfbus %s: ", command);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\nTry 'hfbus %s --help'.\n", command);
	return HFB_EXIT_USAGE;
}

int
hfb_cli_number(const char *command, const char *option, const char *text, uint64_t max,
	       uint64_t *ret)
{
	uint64_t n;

	if (hfb_number_parse(text, &n) == 0 && n <= max) {
		*ret = n;
		return 0;
	}
	hfb_cli_usage(command, "%s is a number from 0 to %" PRIu64 ", not '%s'", option, max, text);
	return -EINVAL;
}

int
hfb_cli_wait(const char *command, const char *text, uint64_t *ret_ns, uint32_t *ret_ms)
{
	uint64_t ms;

	if (hfb_duration_parse(text, ret_ns) < 0) {
		hfb_cli_usage(command, "--wait is a duration like 500ms or 10s, not '%s'", text);
		return -EINVAL;
	}
	ms = *ret_ns / 1000000;
	*ret_ms = ms >= UINT32_MAX ? UINT32_MAX : ms == 0 ? 1 : (uint32_t)ms;
	return 0;
}

static const char *const stage_names[HFB_STAGES] = { "received", "durable", "mirrored",
						     "mirrored-durable" };

int
hfb_cli_stage(const char *command, const char *option, const char *text, int32_t *ret)
{
	for (int32_t i = 0; i < HFB_STAGES; i++) {
		if (strcmp(text, stage_names[i]) == 0) {
			*ret = i;
			return 0;
		}
	}
	hfb_cli_usage(command,
		      "%s is one of received, durable, mirrored, mirrored-durable, not '%s'",
		      option, text);
	return -EINVAL;
}

const char *
hfb_cli_stage_name(uint32_t stage)
{
	return stage < HFB_STAGES ? stage_names[stage] : "unknown";
}

const char *
hfb_cli_short(double value, char *to, size_t size)
{
	if (value >= 1e9)
		snprintf(to, size, "%.2f G", value / 1e9);
	else if (value >= 1e6)
		snprintf(to, size, "%.2f M", value / 1e6);
	else if (value >= 1e3)
		snprintf(to, size, "%.1f k", value / 1e3);
	else
		snprintf(to, size, "%.0f", value);
	return to;
}
