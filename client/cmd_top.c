/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_top.c - hfbus top: rates of a running bus, again each second, on one screen.
 *
 * All is read from memory hfbusd shares but groups' lag, for which hfbus-control is asked;
 * without it that part is left out.
 */
#include "cli.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <hfbus/hfbus.h>

#include "cli_control.h"
#include "histogram.h"
#include "top_sample.h"

#define COMMAND	     "top"
#define ONCE_ROWS    20 /* partitions that --once shows */
#define SCREEN_ENTER "\033[?1049h\033[?25l"
#define SCREEN_LEAVE "\033[?25h\033[?1049l"

struct top {
	struct hfb_bus *bus;
	const char *data;
	uint64_t interval_ns;
	bool once, json;
	struct hfb_top_sample samples[2];
	struct hfb_top_rates rates;
	json_t *groups; /* an array, or NULL */
	struct termios terminal;
	int rows, columns;
	int lines; /* printed so far */
};

static void
help(void)
{
	printf("Usage: hfbus top [OPTION]...\n"
	       "Show what the bus does, again each second: cores' work against spin, rates of "
	       "partitions,\ntimes from stage to stage, losses, and how far groups are behind. q "
	       "quits.\n\n"
	       "  --interval S  seconds between two looks, default 1, 1 to 3600\n"
	       "  --once        one interval, then plain text and the end; so it is too when "
	       "standard\n"
	       "                output is no terminal\n"
	       "  --json        once, as JSON\n"
	       "  --data DIR    data folder of the bus\n"
	       "  --help        this text\n\n"
	       "Exit status: 0 ok, 1 failed, 2 wrong usage.\n");
}

/* A line, no wider and no lower than the screen. */
static void __attribute__((format(printf, 2, 3))) put(struct top *t, const char *format, ...)
{
	char text[1024];
	va_list args;

	if (!t->once && t->lines >= t->rows)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (t->once)
		printf("%s\n", text);
	else
		printf("%s%.*s\033[K", t->lines > 0 ? "\r\n" : "", t->columns, text);
	t->lines++;
}

static const char *
duration(uint64_t ns, char to[16])
{
	if (ns < 10000)
		snprintf(to, 16, "%" PRIu64 " ns", ns);
	else if (ns < 10000000)
		snprintf(to, 16, "%.1f us", (double)ns / 1e3);
	else
		snprintf(to, 16, "%.1f ms", (double)ns / 1e6);
	return to;
}

static void
cores_put(struct top *t)
{
	put(t, "%-5s %8s %8s %8s %11s %11s %11s %11s %11s", "core", "work", "spin", "sleep",
	    "events/s", "bytes/s", "acks/s", "pushes/s", "disk B/s");
	for (uint32_t c = 0; c < t->rates.cores_count; c++) {
		const double *r = t->rates.cores[c];
		char a[5][16];

		put(t, "%-5u %7.2f%% %7.2f%% %7.2f%% %11s %11s %11s %11s %11s", c,
		    100 * r[HFB_TOP_WORK], 100 * r[HFB_TOP_SPIN], 100 * r[HFB_TOP_SLEEP],
		    hfb_cli_short(r[HFB_TOP_EVENTS], a[0], 16),
		    hfb_cli_short(r[HFB_TOP_BYTES], a[1], 16),
		    hfb_cli_short(r[HFB_TOP_ACKS], a[2], 16),
		    hfb_cli_short(r[HFB_TOP_PUSHES], a[3], 16),
		    hfb_cli_short(r[HFB_TOP_DISK], a[4], 16));
	}
}

static void
stages_put(struct top *t)
{
	bool any = false;

	for (uint32_t i = 0; i < HFB_STAGE_TIMES_COUNT; i++) {
		const struct hfb_histogram *h = t->rates.now->stages[i];
		char a[5][16];

		if (h == NULL || hfb_histogram_count(h) == 0)
			continue;
		if (!any) {
			put(t, " ");
			put(t, "%-20s %10s %10s %10s %10s %10s", "stage", "count/s", "p50", "p99",
			    "p99.9", "max");
		}
		any = true;
		put(t, "%-20s %10s %10s %10s %10s %10s", hfb_top_stage_name(i),
		    hfb_cli_short((double)hfb_histogram_count(h) / t->rates.seconds, a[0], 16),
		    duration(hfb_histogram_quantile(h, 0.5), a[1]),
		    duration(hfb_histogram_quantile(h, 0.99), a[2]),
		    duration(hfb_histogram_quantile(h, 0.999), a[3]),
		    duration(hfb_histogram_quantile(h, 1), a[4]));
	}
}

static void
losses_put(struct top *t)
{
	for (uint32_t i = 0; i < t->rates.reasons_count; i++) {
		const struct hfb_top_reason *r = &t->rates.reasons[i];
		char a[2][16];

		if (i == 0) {
			put(t, " ");
			put(t, "%-24s %-20s %10s %12s", "lost or refused", "reason", "a second",
			    "since start");
		}
		put(t, "%-24s %-20s %10s %12s", r->what, r->reason,
		    hfb_cli_short(t->rates.reason_rates[i], a[0], 16),
		    hfb_cli_short((double)r->value, a[1], 16));
	}
}

static void
groups_put(struct top *t)
{
	const json_t *group;
	size_t i;

	if (json_array_size(t->groups) == 0)
		return;
	put(t, " ");
	put(t, "%-32s %-12s %8s %12s", "group", "state", "members", "lag");
	json_array_foreach(t->groups, i, group)
	{
		char a[2][24];

		put(t, "%-32s %-12s %8s %12s", hfb_cli_json_text(group, "group"),
		    hfb_cli_json_text(group, "state"), hfb_cli_json_number(group, "members", a[0]),
		    hfb_cli_json_number(group, "lag", a[1]));
	}
}

static void
partitions_put(struct top *t)
{
	const struct hfb_top_sample *now = t->rates.now;
	uint32_t room = t->once			 ? ONCE_ROWS
			: t->rows > t->lines + 3 ? (uint32_t)(t->rows - t->lines - 3)
						 : 0;
	uint32_t shown = now->partitions_count < room ? now->partitions_count : room;

	put(t, " ");
	put(t, "%-32s %4s %11s %11s %14s %10s %10s", "partition", "core", "events/s", "bytes/s",
	    "next offset", "not dur.", "kept");
	for (uint32_t i = 0; i < shown; i++) {
		const struct hfb_top_partition *p = &now->partitions[i];
		char name[300], a[4][16];

		snprintf(name, sizeof(name), "%.240s/%u%s", p->topic, p->partition,
			 p->state == HFB_PARTITION_NO_SPACE ? " NO SPACE"
			 : p->state == HFB_PARTITION_FAILED ? " FAILED"
							    : "");
		put(t, "%-32s %4u %11s %11s %14" PRIu64 " %10s %10s", name, p->core,
		    hfb_cli_short(p->events, a[0], 16), hfb_cli_short(p->bytes, a[1], 16),
		    p->offset,
		    hfb_cli_short(p->position > p->durable ? (double)(p->position - p->durable) : 0,
				  a[2], 16),
		    hfb_cli_short((double)(p->position - p->start), a[3], 16));
	}
	if (shown < now->partitions_count)
		put(t, "... and %u more", now->partitions_count - shown);
}

static void
show(struct top *t)
{
	const struct hfb_ipc_node *node = &t->rates.now->node;
	double events = 0, bytes = 0;
	char a[2][16];

	for (uint32_t c = 0; c < t->rates.cores_count; c++) {
		events += t->rates.cores[c][HFB_TOP_EVENTS];
		bytes += t->rates.cores[c][HFB_TOP_BYTES];
	}
	t->lines = 0;
	put(t, "hfbusd %u, epoch %" PRIu64 ", %u topics, %u partitions: %s events/s, %s bytes/s",
	    node->pid, node->broker_epoch, node->topics_count, node->partitions_count,
	    hfb_cli_short(events, a[0], 16), hfb_cli_short(bytes, a[1], 16));
	put(t, " ");
	cores_put(t);
	stages_put(t);
	losses_put(t);
	groups_put(t);
	partitions_put(t);
}

/* JSON --------------------------------------------------------------------------- */

static json_t *
cores_json(const struct hfb_top_rates *r)
{
	json_t *cores = json_array();

	for (uint32_t c = 0; c < r->cores_count; c++)
		json_array_append_new(cores,
				      json_pack("{s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}",
						"core", (int)c, "work", r->cores[c][HFB_TOP_WORK],
						"spin", r->cores[c][HFB_TOP_SPIN], "sleep",
						r->cores[c][HFB_TOP_SLEEP], "events_per_s",
						r->cores[c][HFB_TOP_EVENTS], "bytes_per_s",
						r->cores[c][HFB_TOP_BYTES], "acks_per_s",
						r->cores[c][HFB_TOP_ACKS], "pushes_per_s",
						r->cores[c][HFB_TOP_PUSHES], "disk_bytes_per_s",
						r->cores[c][HFB_TOP_DISK]));
	return cores;
}

static int
json_show(const struct top *t)
{
	const struct hfb_top_rates *r = &t->rates;
	json_t *root = json_object(), *stages = json_array(), *losses = json_array();
	json_t *partitions = json_array();

	for (uint32_t i = 0; i < HFB_STAGE_TIMES_COUNT; i++) {
		const struct hfb_histogram *h = r->now->stages[i];

		if (h == NULL || hfb_histogram_count(h) == 0)
			continue;
		json_array_append_new(
			stages,
			json_pack("{s:s, s:I, s:I, s:I, s:I, s:I}", "stage", hfb_top_stage_name(i),
				  "count", (json_int_t)hfb_histogram_count(h), "p50_ns",
				  (json_int_t)hfb_histogram_quantile(h, 0.5), "p99_ns",
				  (json_int_t)hfb_histogram_quantile(h, 0.99), "p999_ns",
				  (json_int_t)hfb_histogram_quantile(h, 0.999), "max_ns",
				  (json_int_t)hfb_histogram_quantile(h, 1)));
	}
	for (uint32_t i = 0; i < r->reasons_count; i++)
		json_array_append_new(losses,
				      json_pack("{s:s, s:s, s:I, s:f}", "counter",
						r->reasons[i].what, "reason", r->reasons[i].reason,
						"total", (json_int_t)r->reasons[i].value, "per_s",
						r->reason_rates[i]));
	for (uint32_t i = 0; i < r->now->partitions_count; i++) {
		const struct hfb_top_partition *p = &r->now->partitions[i];

		json_array_append_new(
			partitions,
			json_pack("{s:s, s:i, s:i, s:f, s:f, s:I, s:I, s:I}", "topic", p->topic,
				  "partition", (int)p->partition, "core", (int)p->core,
				  "events_per_s", p->events, "bytes_per_s", p->bytes, "next_offset",
				  (json_int_t)p->offset, "not_durable_bytes",
				  (json_int_t)(p->position > p->durable ? p->position - p->durable
									: 0),
				  "kept_bytes", (json_int_t)(p->position - p->start)));
	}
	json_object_set_new(root, "seconds", json_real(r->seconds));
	json_object_set_new(root, "cores", cores_json(r));
	json_object_set_new(root, "stages", stages);
	json_object_set_new(root, "losses", losses);
	json_object_set_new(root, "partitions", partitions);
	json_object_set(root, "groups", t->groups != NULL ? t->groups : json_null());
	return hfb_cli_json_print(root);
}

/* Time --------------------------------------------------------------------------- */

static void
groups_read(struct top *t)
{
	struct hfb_control_link link;
	struct hfb_err err;
	json_t *answer;

	json_decref(t->groups);
	t->groups = NULL;
	if (hfb_cli_control_open(&link, t->data, &err) < 0)
		return;
	answer = hfb_cli_control_all(&link, json_pack("{s:s}", "op", "group.list"), "groups",
				     "after", &err);
	t->groups = json_incref(json_object_get(answer, "groups"));
	json_decref(answer);
	hfb_control_link_close(&link);
}

/* Until the interval is over, a key is pressed or the window changes. False: end. */
static bool
rest(const struct top *t)
{
	struct pollfd keys = { .fd = t->once ? -1 : STDIN_FILENO, .events = POLLIN };
	uint64_t ms = t->interval_ns / 1000000u;
	char key;

	if (hfb_cli_stop)
		return false;
	if (poll(&keys, 1, (int)ms) < 0)
		return errno == EINTR && !hfb_cli_stop;
	if (keys.revents == 0)
		return !hfb_cli_stop;
	return read(STDIN_FILENO, &key, 1) == 1 && key != 'q' && key != 'Q' && key != 3;
}

static void
window_changed(int number)
{
	(void)number; /* it ends poll() */
}

static void
window_size(struct top *t)
{
	struct winsize size = { 0 };

	t->rows = 24;
	t->columns = 80;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0) {
		t->rows = size.ws_row;
		t->columns = size.ws_col;
	}
}

static int
once(struct top *t, struct hfb_err *err)
{
	int r = hfb_top_read(t->bus, &t->samples[0], err);

	if (r == 0 && !rest(t))
		return -EINTR;
	if (r == 0)
		r = hfb_top_read(t->bus, &t->samples[1], err);
	if (r == 0 && t->samples[0].node.broker_epoch != t->samples[1].node.broker_epoch) {
		snprintf(err->text, sizeof(err->text), "hfbusd was started anew meanwhile");
		r = -EAGAIN;
	}
	if (r < 0)
		return r;
	groups_read(t);
	hfb_top_rates(&t->samples[0], &t->samples[1], &t->rates);
	if (t->json)
		return json_show(t) == HFB_EXIT_OK ? 0 : -EIO;
	show(t);
	return 0;
}

static void
live(struct top *t)
{
	struct hfb_err err = { 0 };
	uint32_t now = 0;
	bool known = false;

	do {
		struct hfb_top_sample *to = &t->samples[now], *before = &t->samples[1 - now];

		window_size(t);
		printf("\033[H");
		t->lines = 0;
		if (hfb_top_read(t->bus, to, &err) < 0) {
			known = false;
			put(t, "%s", err.text);
		} else {
			if (known && before->node.broker_epoch == to->node.broker_epoch) {
				groups_read(t);
				hfb_top_rates(before, to, &t->rates);
				show(t);
			} else {
				put(t, "hfbusd %u: looking ...", to->node.pid);
			}
			known = true;
			now = 1 - now;
		}
		printf("\033[J");
		fflush(stdout);
	} while (rest(t));
}

static void
live_terminal(struct top *t)
{
	struct sigaction window = { .sa_handler = window_changed };
	struct termios raw;

	sigaction(SIGWINCH, &window, NULL);
	tcgetattr(STDIN_FILENO, &t->terminal);
	raw = t->terminal;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	fputs(SCREEN_ENTER, stdout);
	live(t);
	fputs(SCREEN_LEAVE, stdout);
	fflush(stdout);
	tcsetattr(STDIN_FILENO, TCSANOW, &t->terminal);
}

static const struct option options[] = {
	{ "interval", required_argument, NULL, 'i' }, { "once", no_argument, NULL, 'o' },
	{ "json", no_argument, NULL, 'j' },	      { "data", required_argument, NULL, 'd' },
	{ "help", no_argument, NULL, 'h' },	      { NULL, 0, NULL, 0 },
};

/* An exit code, or HFB_CLI_GO_ON. */
static int
read_options(int argc, char **argv, struct top *t)
{
	uint64_t seconds;
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (c) {
		case 'i':
			if (hfb_cli_number(COMMAND, "--interval", optarg, 3600, &seconds) < 0)
				return HFB_EXIT_USAGE;
			if (seconds == 0)
				return hfb_cli_usage(COMMAND, "--interval must be 1 to 3600");
			t->interval_ns = seconds * 1000000000u;
			break;
		case 'j':
			t->json = true;
			t->once = true;
			break;
		case 'o':
			t->once = true;
			break;
		case 'd':
			t->data = optarg;
			break;
		case 'h':
			help();
			return fflush(stdout) == 0 ? HFB_EXIT_OK : HFB_EXIT_FAILED;
		default:
			return hfb_cli_usage(COMMAND, "wrong option");
		}
	}
	if (optind != argc)
		return hfb_cli_usage(COMMAND, "no arguments are needed, but '%s' was given",
				     argv[optind]);
	return HFB_CLI_GO_ON;
}

int
hfb_cmd_top(int argc, char **argv)
{
	static struct top t = { .interval_ns = 1000000000u };
	struct hfb_bus_config config = { 0 };
	struct hfb_err err = { 0 };
	int r;

	r = read_options(argc, argv, &t);
	if (r != HFB_CLI_GO_ON)
		return r;
	config.data_dir = t.data;
	if (!isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO))
		t.once = true;
	hfb_cli_signals();
	r = hfb_bus_open(&config, &t.bus, &err);
	if (r == 0 && t.once)
		r = once(&t, &err);
	else if (r == 0)
		live_terminal(&t);
	hfb_top_clear(&t.samples[0]);
	hfb_top_clear(&t.samples[1]);
	json_decref(t.groups);
	hfb_bus_close(t.bus);
	if (r == -EINTR)
		return HFB_EXIT_INTERRUPTED;
	if (r < 0)
		return hfb_cli_fail(COMMAND, &err);
	return fflush(stdout) == 0 ? HFB_EXIT_OK : HFB_EXIT_FAILED;
}
