/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_up.c - hfbus up: hfbusd and hfbus-control in the foreground.
 *
 *	STARTING hfbusd -> STARTING hfbus-control -> "hfbus ready" -> STOPPING -> end
 *
 * hfbusd is the bus: when it ends, so does this, with its exit code. hfbus-control
 * is started again, since the bus goes on without it. Each child has a process
 * group of its own, so that Ctrl-C reaches only this process and the order of
 * stopping is ours; and PR_SET_PDEATHSIG, so that none is left when this one is
 * killed.
 */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COMMAND		"up"
#define ARGUMENTS_MAX	640u
#define RESTART_MS_MIN	200u
#define RESTART_MS_MAX	5000u
#define STEADY_MS	10000u /* having run this long, the next restart is quick again */
#define CONTROL_STOP_MS 5000u
#define ASKED_AGAIN_MS	2000u /* signals within belong together: timeout(1) sends two */

#define note(format, ...) fprintf(stderr, "hfbus up: " format "\n", ##__VA_ARGS__)

struct child {
	const char *name;
	char *arguments[ARGUMENTS_MAX];
	unsigned int arguments_count;
	pid_t pid; /* 0 = not running */
	int out;   /* its standard output, -1 = closed */
	bool ready;
	uint64_t started_ms;
	char line[4096];
	size_t line_bytes;
};

enum state { STARTING, READY, STOPPING };

struct up {
	struct child bus, control;
	enum state state;
	int signals;
	int exit_code;
	bool stop_asked;
	uint64_t stop_asked_ms;
	uint64_t restart_at_ms; /* hfbus-control's, 0 = none is due */
	uint64_t control_kill_ms;
	unsigned int restart_ms;
	char data[4096]; /* as hfbus-control names it */
};

static void
help(void)
{
	printf("Usage: hfbus up [OPTION]...\n"
	       "Run a bus in the foreground: hfbusd (data plane and storage) and hfbus-control "
	       "(topics).\n"
	       "Prints one line when both are ready; Ctrl-C stops them cleanly, and once more\n"
	       "after two seconds or later at once.\n\n"
	       "  --config FILE    YAML configuration; options go over it\n"
	       "  --data DIR       the bus's folder (else $HFBUS_DATA, /var/lib/hfbus for root,\n"
	       "                   ~/.local/share/hfbus for others)\n"
	       "  --cores LIST     CPUs of the poll cores, e.g. 2,3\n"
	       "  --idle HOW       busy or adaptive (default)\n"
	       "  --udp-port N     UDP port of poll core 0; core n has the n-th after it\n"
	       "  --port DEVICE[@IP[/PREFIX]]\n"
	       "                   a DPDK device, e.g. net_pcap0,rx_pcap=FILE or\n"
	       "                   net_af_packet0,iface=eth1@10.9.0.2/24; may be repeated\n"
	       "  --feed SPEC      "
	       "name=N,framing=moldudp64|iex-tp|raw,group=IP[+IP],port=P,topic=T\n"
	       "                   with restart=, checksum=, hold-us=, hold-events=, vlan=; may "
	       "be\n"
	       "                   repeated\n"
	       "  --no-huge        no hugepages, even where there are enough\n"
	       "  --http ADDRESS:PORT\n"
	       "                   metrics and admin over HTTP there, default 127.0.0.1:7480 if "
	       "that "
	       "is\n"
	       "                   free; off: none\n"
	       "  --http-token FILE\n"
	       "                   the secret for changes over HTTP, default DATA/http.token\n"
	       "  --help           this text\n\n"
	       "Exit status: 0 stopped by a signal, 2 wrong usage, else hfbusd's own.\n");
}

static uint64_t
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

/* Beside this program, as in a build folder or an installation; else wherever PATH says. */
static void
run_program(const struct child *child)
{
	char path[PATH_MAX + 64];
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX);

	if (n > 0) {
		path[n] = '\0';
		snprintf(strrchr(path, '/') + 1, 64, "%s", child->name);
		execv(path, child->arguments);
	}
	execvp(child->name, child->arguments);
#ifdef HFB_LIBEXECDIR
	snprintf(path, sizeof(path), HFB_LIBEXECDIR "/%s", child->name);
	execv(path, child->arguments);
#endif
}

static int
start(struct child *child)
{
	pid_t parent = getpid();
	int out[2];

	if (pipe2(out, O_CLOEXEC) < 0)
		return -errno;
	child->pid = fork();
	if (child->pid < 0) {
		int r = -errno;

		child->pid = 0;
		close(out[0]);
		close(out[1]);
		return r;
	}
	if (child->pid == 0) {
		sigset_t none;

		prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (getppid() != parent)
			_exit(0); /* it went before the line above */
		setpgid(0, 0);
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		signal(SIGPIPE, SIG_DFL);
		dup2(out[1], STDOUT_FILENO);
		run_program(child);
		fprintf(stderr, "hfbus up: cannot run %s: %s; it belongs beside hfbus or in PATH\n",
			child->name, strerror(errno));
		_exit(127);
	}
	close(out[1]);
	child->out = out[0];
	fcntl(child->out, F_SETFL, O_NONBLOCK);
	child->line_bytes = 0;
	child->ready = false;
	child->started_ms = now_ms();
	return 0;
}

static void
start_control(struct up *up)
{
	int r = start(&up->control);

	up->restart_at_ms = 0;
	if (r < 0) {
		note("hfbus-control cannot be started: %s", strerror(-r));
		up->restart_at_ms = now_ms() + RESTART_MS_MAX;
	}
}

static void
stop_bus(struct up *up)
{
	if (up->bus.pid != 0)
		kill(up->bus.pid, SIGTERM);
}

/* hfbus-control first: it would only tell that hfbusd is going. */
static void
begin_stop(struct up *up)
{
	if (up->state == STOPPING)
		return;
	up->state = STOPPING;
	up->restart_at_ms = 0;
	if (up->control.pid == 0) {
		stop_bus(up);
		return;
	}
	kill(up->control.pid, SIGTERM);
	up->control_kill_ms = now_ms() + CONTROL_STOP_MS;
}

static void
became_ready(struct up *up, struct child *child, const char *line)
{
	const char *data = strstr(line, "data=");

	child->ready = true;
	if (child == &up->bus) {
		if (up->state == STARTING)
			start_control(up);
		return;
	}
	if (up->state != STARTING) {
		if (up->state == READY)
			note("hfbus-control runs again");
		return;
	}
	up->state = READY;
	snprintf(up->data, sizeof(up->data), "%s", data != NULL ? data + strlen("data=") : "?");
	printf("hfbus ready: data=%s\n", up->data);
	fflush(stdout);
}

static void
take_line(struct up *up, struct child *child)
{
	child->line[child->line_bytes] = '\0';
	child->line_bytes = 0;
	if (!child->ready && strstr(child->line, "ready") != NULL)
		became_ready(up, child, child->line);
	else if (child->line[0] != '\0')
		fprintf(stderr, "%s\n", child->line);
}

static void
take_output(struct up *up, struct child *child)
{
	char bytes[4096];
	ssize_t n = read(child->out, bytes, sizeof(bytes));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		close(child->out);
		child->out = -1;
		return;
	}
	for (ssize_t i = 0; i < n; i++) {
		if (bytes[i] == '\n' || child->line_bytes == sizeof(child->line) - 1)
			take_line(up, child);
		if (bytes[i] != '\n')
			child->line[child->line_bytes++] = bytes[i];
	}
}

static void
drain(struct up *up, struct child *child)
{
	while (child->out >= 0) {
		struct pollfd p = { .fd = child->out, .events = POLLIN };

		/* A grandchild may hold the pipe open: take what is there, no more. */
		if (poll(&p, 1, 0) <= 0)
			break;
		take_output(up, child);
	}
	if (child->out >= 0)
		close(child->out);
	child->out = -1;
}

static int
code_of(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static const char *
how_ended(int status, char text[64])
{
	if (WIFSIGNALED(status))
		snprintf(text, 64, "by signal %d (%s)", WTERMSIG(status),
			 strsignal(WTERMSIG(status)));
	else
		snprintf(text, 64, "with exit code %d", WEXITSTATUS(status));
	return text;
}

static void
bus_ended(struct up *up, int status)
{
	char how[64];

	/* by the signal itself: it came before hfbusd could take it, so nothing was begun */
	if (up->stop_asked && (status == 0 || (!up->bus.ready && WIFSIGNALED(status) &&
					       WTERMSIG(status) == SIGTERM))) {
		begin_stop(up);
		return;
	}
	up->exit_code = code_of(status) != 0 ? code_of(status) : HFB_EXIT_FAILED;
	if (!up->bus.ready)
		note("hfbusd did not start: it ended %s", how_ended(status, how));
	else
		note("hfbusd ended %s; stopping. What was acked durable is on disk: start again",
		     how_ended(status, how));
	begin_stop(up);
}

static void
control_ended(struct up *up, int status)
{
	char how[64];

	if (up->state == STOPPING) {
		stop_bus(up);
		return;
	}
	if (up->state == STARTING) {
		note("hfbus-control did not start: it ended %s", how_ended(status, how));
		up->exit_code = HFB_EXIT_FAILED;
		begin_stop(up);
		return;
	}
	if (now_ms() - up->control.started_ms > STEADY_MS)
		up->restart_ms = RESTART_MS_MIN;
	note("hfbus-control ended %s; events go on, it is started again", how_ended(status, how));
	up->restart_at_ms = now_ms() + up->restart_ms;
	up->restart_ms = up->restart_ms * 2 < RESTART_MS_MAX ? up->restart_ms * 2 : RESTART_MS_MAX;
}

static void
reap(struct up *up)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == up->bus.pid) {
			drain(up, &up->bus);
			up->bus.pid = 0;
			bus_ended(up, status);
		} else if (pid == up->control.pid) {
			drain(up, &up->control);
			up->control.pid = 0;
			control_ended(up, status);
		}
	}
}

static void
take_signal(struct up *up)
{
	struct signalfd_siginfo info;

	if (read(up->signals, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGCHLD) {
		reap(up);
		return;
	}
	if (!up->stop_asked) {
		up->stop_asked = true;
		up->stop_asked_ms = now_ms();
		begin_stop(up);
		return;
	}
	if (now_ms() - up->stop_asked_ms < ASKED_AGAIN_MS)
		return;
	note("stopping at once; what was acked durable is on disk");
	if (up->control.pid != 0)
		kill(up->control.pid, SIGKILL);
	if (up->bus.pid != 0)
		kill(up->bus.pid, SIGKILL);
}

static int
wait_ms(const struct up *up)
{
	uint64_t until = up->restart_at_ms;
	uint64_t now = now_ms();

	if (up->state == STOPPING && up->control.pid != 0)
		until = up->control_kill_ms;
	if (until == 0)
		return -1;
	return until > now ? (int)(until - now) : 0;
}

static int
attend(struct up *up)
{
	while (up->bus.pid != 0 || up->control.pid != 0) {
		/* A negative descriptor is passed over. */
		struct pollfd polls[3] = {
			{ .fd = up->signals, .events = POLLIN },
			{ .fd = up->bus.out, .events = POLLIN },
			{ .fd = up->control.out, .events = POLLIN },
		};

		if (poll(polls, 3, wait_ms(up)) < 0 && errno != EINTR)
			return HFB_EXIT_FAILED;
		if (polls[1].revents != 0)
			take_output(up, &up->bus);
		if (polls[2].revents != 0)
			take_output(up, &up->control);
		if (polls[0].revents != 0)
			take_signal(up);
		if (up->restart_at_ms != 0 && up->state == READY && now_ms() >= up->restart_at_ms)
			start_control(up);
		if (up->state == STOPPING && up->control.pid != 0 &&
		    now_ms() >= up->control_kill_ms)
			kill(up->control.pid, SIGKILL);
	}
	return up->exit_code;
}

static void
argument_add(struct child *child, char *argument)
{
	child->arguments[child->arguments_count++] = argument;
	child->arguments[child->arguments_count] = NULL;
}

/* 0, or an exit code. */
static int
read_options(struct up *up, int argc, char **argv)
{
	/* Those of hfbusd that make sense here; each goes on as it came. Others are
	 * hfbus-control's. */
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "data", required_argument, NULL, 'd' },
		{ "cores", required_argument, NULL, 'o' },
		{ "idle", required_argument, NULL, 'o' },
		{ "udp-port", required_argument, NULL, 'o' },
		{ "port", required_argument, NULL, 'o' },
		{ "feed", required_argument, NULL, 'o' },
		{ "no-huge", no_argument, NULL, 'o' },
		{ "http", required_argument, NULL, 'p' },
		{ "http-token", required_argument, NULL, 't' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int option, index = 0;

	argument_add(&up->bus, (char *)(uintptr_t)up->bus.name);
	argument_add(&up->control, (char *)(uintptr_t)up->control.name);
	while ((option = getopt_long(argc, argv, "", options, &index)) != -1) {
		if (option == 'h') {
			help();
			return -1;
		}
		if (option == '?')
			return hfb_cli_usage(COMMAND, "see the options above");
		if (up->bus.arguments_count + 4 > ARGUMENTS_MAX ||
		    up->control.arguments_count + 4 > ARGUMENTS_MAX)
			return hfb_cli_usage(COMMAND, "too many options; put them into --config");
		if (option != 'p' && option != 't') {
			argument_add(&up->bus, argv[optind - 1] == optarg ? argv[optind - 2]
									  : argv[optind - 1]);
			if (argv[optind - 1] == optarg)
				argument_add(&up->bus, optarg);
		}
		if (option != 'o') {
			static char names[ARGUMENTS_MAX][16];
			char *name = names[up->control.arguments_count % ARGUMENTS_MAX];

			snprintf(name, sizeof(names[0]), "--%s", options[index].name);
			argument_add(&up->control, name);
			argument_add(&up->control, optarg);
		}
	}
	if (optind < argc)
		return hfb_cli_usage(COMMAND, "what is '%s'?", argv[optind]);
	return 0;
}

int
hfb_cmd_up(int argc, char **argv)
{
	static struct up up = {
		.bus = { .name = "hfbusd", .out = -1 },
		.control = { .name = "hfbus-control", .out = -1 },
		.restart_ms = RESTART_MS_MIN,
	};
	sigset_t signals;
	int r = read_options(&up, argc, argv);

	if (r != 0)
		return r < 0 ? HFB_EXIT_OK : r;
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	up.signals = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	r = start(&up.bus);
	if (up.signals < 0 || r < 0) {
		note("cannot start hfbusd: %s", strerror(r < 0 ? -r : errno));
		return HFB_EXIT_FAILED;
	}
	return attend(&up);
}
