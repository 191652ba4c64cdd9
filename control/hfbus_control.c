/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hfbus-control - the control plane's process: options, signals, and one event
 * loop. Everything else is service.c.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <uv.h>

#include "control_config.h"
#include "service.h"

static const char help[] =
	"Usage: hfbus-control [--data DIR] [--config FILE]\n"
	"\n"
	"The control plane of hfbus: keeps the topics and brings them to hfbusd, which may\n"
	"run, stop and run without it. `hfbus up` starts both; `hfbus topic` asks this one.\n"
	"\n"
	"  --data DIR     the bus's folder (else `data:` of the config, $HFBUS_DATA,\n"
	"                 /var/lib/hfbus for root, ~/.local/share/hfbus for others)\n"
	"  --config FILE  the bus's configuration; only `data:` is read here\n"
	"  --help, --version\n"
	"\n"
	"Stop it with SIGTERM or SIGINT. Exit: 0 stopped, 1 failed, 2 wrong use.\n";

struct program {
	uv_loop_t loop;
	uv_signal_t term, interrupt;
	struct hfb_service *service;
	bool stopping;
};

static void
stop(struct program *p)
{
	if (p->stopping)
		return;
	p->stopping = true;
	uv_close((uv_handle_t *)&p->term, NULL);
	uv_close((uv_handle_t *)&p->interrupt, NULL);
	if (p->service != NULL)
		hfb_service_close(p->service);
}

static void
signalled(uv_signal_t *signal, int number)
{
	(void)number;
	stop(signal->data);
}

static int
serve(const char *data_dir)
{
	struct program p = { 0 };
	struct hfb_err err;
	int r;

	uv_loop_init(&p.loop);
	uv_signal_init(&p.loop, &p.term);
	uv_signal_init(&p.loop, &p.interrupt);
	p.term.data = p.interrupt.data = &p;
	uv_signal_start(&p.term, signalled, SIGTERM);
	uv_signal_start(&p.interrupt, signalled, SIGINT);
	r = hfb_service_create(&p.loop, data_dir, &p.service, &err);
	if (r < 0) {
		fprintf(stderr, "hfbus-control: %s\n", err.text);
		stop(&p);
	} else {
		printf("hfbus-control ready: data=%s\n", data_dir);
		fflush(stdout);
	}
	uv_run(&p.loop, UV_RUN_DEFAULT);
	hfb_service_free(p.service);
	uv_loop_close(&p.loop);
	return r < 0 ? 1 : 0;
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "data", required_argument, NULL, 'd' },
		{ "config", required_argument, NULL, 'c' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	const char *data = NULL, *config = NULL;
	struct hfb_err err;
	char data_dir[4096];
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'd':
			data = optarg;
			break;
		case 'c':
			config = optarg;
			break;
		case 'h':
			fputs(help, stdout);
			return 0;
		case 'v':
			puts("hfbus-control " HFB_VERSION);
			return 0;
		default:
			fputs("Try hfbus-control --help\n", stderr);
			return 2;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "hfbus-control: what is \"%s\"? Try hfbus-control --help\n",
			argv[optind]);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	if (hfb_control_data_dir(data, config, data_dir, &err) < 0) {
		fprintf(stderr, "hfbus-control: %s\n", err.text);
		return 1;
	}
	return serve(data_dir);
}
