/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c - hfbusd: flags, start, the main thread's loop, a clean stop.
 *
 * The main thread sleeps in epoll: signals, the unix socket, a tick every 100 ms.
 * On stdout it prints one line, once it serves; all else goes to stderr.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "catalogue.h"
#include "clock.h"
#include "config.h"
#include "eal.h"
#include "ipc_server.h"
#include "node_open.h"
#include "plan.h"
#include "runtime.h"

#ifndef HFB_VERSION
#error "the build defines HFB_VERSION"
#endif

#define TICK_MS	     100
#define TICKS_A_TUNE 10 /* the clock is tuned once a second */

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct options {
	const char *config_path;
	bool plan, json;
};

static const char help[] =
	"Usage: hfbusd [OPTION]...\n"
	"The data plane of hfbus: takes events off the wire and from local programs into\n"
	"partition logs, puts them on disk and hands them to readers.\n"
	"\n"
	"  --config FILE        YAML; flags below come on top of it\n"
	"  --data DIR           data folder ($HFBUS_DATA, /var/lib/hfbus or ~/.local/share/hfbus)\n"
	"  --cores LIST         CPUs of the poll cores: 1, 2-3, or any,any (the last CPU)\n"
	"  --idle busy|adaptive what a poll core does without work: spin, or sleep until\n"
	"                       something wakes it (adaptive); of ports only memif can, others\n"
	"                       are looked at 3,300 times a second\n"
	"  --port DEV[@IP[/PREFIX]]\n"
	"                       a DPDK device: net_pcap0,rx_pcap=FILE, "
	"net_memif0,role=server,...,\n"
	"                       net_af_packet0,iface=IF, 0000:03:00.0; may be repeated\n"
	"  --feed SPEC          name=N,framing=iex-tp|moldudp64|raw,group=IP[+IP],port=N,topic=T\n"
	"                       [,partition=N][,vlan=N][,hold-events=N][,hold-us=N]\n"
	"                       [,checksum=off|count|drop][,restart=new-session|accept]; repeated\n"
	"  --udp-port N         UDP port of poll core 0, core n has the n-th after it (7400)\n"
	"  --no-huge            no hugepages, even where there are enough\n"
	"  --plan               print the memory and disk this implies; start nothing\n"
	"  --json               the plan as JSON\n"
	"  --version, --help\n"
	"\n"
	"Prints one line on stdout when it serves. SIGINT and SIGTERM stop it cleanly.\n"
	"Exit codes: 0 stopped as asked, 1 failed, 2 usage or configuration.\n";

/* Flags -------------------------------------------------------------------- */

enum {
	OPTION_CONFIG = 256,
	OPTION_DATA,
	OPTION_CORES,
	OPTION_IDLE,
	OPTION_PORT,
	OPTION_FEED,
	OPTION_UDP_PORT,
	OPTION_NO_HUGE,
	OPTION_PLAN,
	OPTION_JSON,
	OPTION_VERSION,
	OPTION_HELP,
};

static const struct option long_options[] = {
	{ "config", required_argument, NULL, OPTION_CONFIG },
	{ "data", required_argument, NULL, OPTION_DATA },
	{ "cores", required_argument, NULL, OPTION_CORES },
	{ "idle", required_argument, NULL, OPTION_IDLE },
	{ "port", required_argument, NULL, OPTION_PORT },
	{ "feed", required_argument, NULL, OPTION_FEED },
	{ "udp-port", required_argument, NULL, OPTION_UDP_PORT },
	{ "no-huge", no_argument, NULL, OPTION_NO_HUGE },
	{ "plan", no_argument, NULL, OPTION_PLAN },
	{ "json", no_argument, NULL, OPTION_JSON },
	{ "version", no_argument, NULL, OPTION_VERSION },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ NULL, 0, NULL, 0 },
};

static int
flag_apply(struct hfb_config *config, struct options *options, int option, const char *value,
	   struct hfb_err *err)
{
	switch (option) {
	case OPTION_DATA:
		return hfb_config_data_set(config, value, err);
	case OPTION_CORES:
		return hfb_config_cores_set(config, value, err);
	case OPTION_IDLE:
		return hfb_config_idle_set(config, value, err);
	case OPTION_PORT:
		return hfb_config_port_add(config, value, err);
	case OPTION_FEED:
		return hfb_config_feed_add(config, value, err);
	case OPTION_UDP_PORT:
		return hfb_config_udp_port_set(config, value, err);
	case OPTION_NO_HUGE:
		config->hugepages = false;
		return 0;
	case OPTION_PLAN:
		options->plan = true;
		return 0;
	case OPTION_JSON:
		options->json = true;
		return 0;
	default: /* OPTION_CONFIG was applied before the others */
		return 0;
	}
}

/* Returns -1 to go on, or an exit code. */
static int
flags_read(int argc, char **argv, struct hfb_config *config, struct options *options)
{
	struct hfb_err err = { 0 };
	int option, index;

	/* the file first: flags are on top of it, wherever they stand */
	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (option) {
		case OPTION_CONFIG:
			options->config_path = optarg;
			break;
		case OPTION_VERSION:
			puts("hfbusd " HFB_VERSION);
			return EXIT_OK;
		case OPTION_HELP:
			fputs(help, stdout);
			return EXIT_OK;
		case '?':
			fputs("hfbusd: see hfbusd --help\n", stderr);
			return EXIT_USAGE;
		default:
			break;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "hfbusd: '%s' is not an option; see hfbusd --help\n", argv[optind]);
		return EXIT_USAGE;
	}
	if (options->config_path != NULL &&
	    hfb_config_load(config, options->config_path, &err) < 0) {
		fprintf(stderr, "hfbusd: %s\n", err.text);
		return EXIT_USAGE;
	}
	optind = 1;
	while ((option = getopt_long(argc, argv, "", long_options, &index)) != -1)
		if (flag_apply(config, options, option, optarg, &err) < 0) {
			fprintf(stderr, "hfbusd: --%s %s: %s\n", long_options[index].name,
				optarg == NULL ? "" : optarg, err.text);
			return EXIT_USAGE;
		}
	if (hfb_config_check(config, &err) < 0) {
		fprintf(stderr, "hfbusd: %s\n", err.text);
		return EXIT_USAGE;
	}
	return -1;
}

/* DATA made and spelled absolutely: it is written into the default link. */
static int
data_folder_make(struct hfb_config *config, struct hfb_err *err)
{
	char path[sizeof(config->data_dir)], real[PATH_MAX];

	snprintf(path, sizeof(path), "%s", config->data_dir);
	for (char *at = path + 1; *at != '\0'; at++) {
		if (*at != '/')
			continue;
		*at = '\0';
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return hfb_err_set(err, -errno,
					   "cannot make the folder '%s': %s; choose"
					   " another with --data",
					   path, strerror(errno));
		*at = '/';
	}
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return hfb_err_set(err, -errno,
				   "cannot make the data folder '%s': %s; choose another"
				   " with --data",
				   path, strerror(errno));
	if (realpath(path, real) == NULL || strlen(real) >= sizeof(config->data_dir))
		return hfb_err_set(err, -errno, "the data folder '%s': %s", path, strerror(errno));
	strcpy(config->data_dir, real);
	return 0;
}

/* The loop ----------------------------------------------------------------- */

/* Signals come by descriptor; blocked before DPDK makes threads, so that all have it so. */
static int
signals_take(struct hfb_err *err)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? hfb_err_set(err, -errno, "signalfd: %s", strerror(errno)) : fd;
}

static int
loop_watch(int epoll_fd, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

static int
loop_run(struct hfb_node *node, struct hfb_ipc_server *server, int signal_fd, struct hfb_err *err)
{
	const int ipc_fd = hfb_ipc_server_fd(server);
	uint64_t tick_due = 0, ticks = 0;
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);

	if (epoll_fd < 0 || loop_watch(epoll_fd, signal_fd) < 0 ||
	    loop_watch(epoll_fd, ipc_fd) < 0) {
		int r = hfb_err_set(err, -errno, "epoll: %s", strerror(errno));

		if (epoll_fd >= 0)
			close(epoll_fd);
		return r;
	}
	for (;;) {
		struct epoll_event events[4];
		int n = epoll_wait(epoll_fd, events, 4, TICK_MS);
		uint64_t now = hfb_clock_now_ns();

		for (int i = 0; i < n; i++) {
			struct signalfd_siginfo signal;

			if (events[i].data.fd == ipc_fd) {
				hfb_ipc_server_poll(server);
			} else if (read(signal_fd, &signal, sizeof(signal)) == sizeof(signal)) {
				fprintf(stderr, "hfbusd: %s, stopping\n",
					signal.ssi_signo == SIGINT ? "SIGINT" : "SIGTERM");
				close(epoll_fd);
				return 0;
			}
		}
		if (now >= tick_due) {
			tick_due = now + TICK_MS * 1000000ull;
			hfb_node_tick(node);
			hfb_ipc_server_tick(server);
			if (++ticks % TICKS_A_TUNE == 0)
				hfb_clock_tune();
		}
	}
}

static int
serve(const struct hfb_config *config, int signal_fd, struct hfb_err *err)
{
	char path[sizeof(config->data_dir) + 16];
	struct hfb_ipc_server *server = NULL;
	struct hfb_node *node = NULL;
	struct hfb_eal_plan plan;
	int closed, r;

	hfb_eal_plan(config, &plan);
	if (config->hugepages && !plan.hugepages && config->ports_count > 0)
		fprintf(stderr,
			"hfbusd: %u MiB of hugepages are free and %u MiB are wanted: ordinary"
			" pages are used\n",
			plan.hugepages_free_mib, plan.memory_mib);
	r = hfb_eal_start(config, &plan, err);
	if (r < 0)
		return r;
	r = hfb_node_open(config, plan.hugepages, &node, err);
	if (r < 0)
		goto out;
	r = hfb_node_serve(node, err);
	if (r < 0)
		goto out;
	snprintf(path, sizeof(path), "%s/hfbusd.sock", config->data_dir);
	r = hfb_ipc_server_create(node, path, &server, err);
	if (r < 0)
		goto out;
	if (!hfb_runtime_default_take(config->data_dir))
		fprintf(stderr,
			"hfbusd: another bus is the default here: programs find this one with"
			" --data %s\n",
			config->data_dir);

	printf("hfbusd ready: data=%s cores=%u ports=%u partitions=%u epoch=%u socket=%s pid=%d\n",
	       config->data_dir, node->cores_count, node->ports_count, node->partitions_count,
	       node->leader_epoch, path, (int)getpid());
	fflush(stdout);
	r = loop_run(node, server, signal_fd, err);
	hfb_runtime_default_drop(config->data_dir);
out:
	/* clients first: their channels belong to cores */
	hfb_ipc_server_destroy(server);
	closed = hfb_node_close(node);
	if (closed < 0) {
		fflush(NULL);
		_exit(EXIT_FAILED); /* the core runs on what an orderly exit would take away */
	}
	hfb_eal_stop();
	return r;
}

int
main(int argc, char **argv)
{
	struct hfb_config *config = malloc(sizeof(*config));
	struct options options = { 0 };
	struct hfb_err err = { 0 };
	int code, signal_fd, r;

	if (config == NULL) {
		fputs("hfbusd: out of memory\n", stderr);
		return EXIT_FAILED;
	}
	hfb_config_default(config);
	code = flags_read(argc, argv, config, &options);
	if (code >= 0)
		goto out;
	code = EXIT_FAILED;
	if (options.plan) {
		struct hfb_plan plan;

		r = hfb_plan_make(config, &plan, &err);
		if (r == 0)
			r = hfb_plan_print(&plan, stdout, options.json);
		goto said;
	}
	signal_fd = signals_take(&err);
	r = signal_fd < 0 ? signal_fd : data_folder_make(config, &err);
	if (r == 0) {
		hfb_clock_start();
		r = serve(config, signal_fd, &err);
	}
said:
	if (r < 0)
		fprintf(stderr, "hfbusd: %s\n", err.text[0] != '\0' ? err.text : strerror(-r));
	else
		code = EXIT_OK;
out:
	free(config);
	return code;
}
