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
	"Usage: hfbus-control [--data DIR] [--config FILE] [--http ADDRESS:PORT|off]\n"
	"\n"
	"The control plane of hfbus: keeps the topics and brings them to hfbusd, which may\n"
	"run, stop and run without it. `hfbus up` starts both; `hfbus topic` asks this one.\n"
	"\n"
	"  --data DIR     the bus's folder (else `data:` of the config, $HFBUS_DATA,\n"
	"                 /var/lib/hfbus for root, ~/.local/share/hfbus for others)\n"
	"  --config FILE  the bus's configuration; only `data:` and `control:` are read here\n"
	"  --http ADDRESS:PORT\n"
	"                 admin, health and metrics over HTTP; default 127.0.0.1:7480, which\n"
	"                 may be taken by another bus: then there is none. off: none\n"
	"  --http-token FILE\n"
	"                 the secret for changes over HTTP; default DATA/http.token, made\n"
	"                 at the first start\n"
	"  --http-timeout SECONDS\n"
	"                 for a request to come, default 20, 1 to 600; three times that for an\n"
	"                 answer to be taken\n"
	"  --help, --version\n"
	"\n"
	"Stop it with SIGTERM or SIGINT. Exit: 0 stopped, 1 failed, 2 wrong use.\n";

struct program {
	uv_loop_t loop;
	uv_signal_t term, interrupt;
	struct hfb_service *service;
	bool stopping, fenced;
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

static void
fenced(void *arg)
{
	struct program *p = arg;

	p->fenced = true;
	stop(p);
}

/* Only what was asked for is worth to fail for: topics work without it. */
static int
serve_http(struct program *p, const struct hfb_control_config *config)
{
	const struct hfb_http_config http = { config->http, config->http_token,
					      config->http_timeout_s };
	struct hfb_err err;

	if (config->http[0] == '\0')
		return 0;
	if (hfb_service_http_start(p->service, &http, &err) == 0)
		return 0;
	fprintf(stderr, "hfbus-control: %s%s\n",
		config->http_asked ? "" : "HTTP is off: ", err.text);
	return config->http_asked ? -1 : 0;
}

static int
serve(const struct hfb_control_config *config)
{
	struct program p = { 0 };
	struct hfb_err err;
	const char *address;
	int r;

	uv_loop_init(&p.loop);
	uv_signal_init(&p.loop, &p.term);
	uv_signal_init(&p.loop, &p.interrupt);
	p.term.data = p.interrupt.data = &p;
	uv_signal_start(&p.term, signalled, SIGTERM);
	uv_signal_start(&p.interrupt, signalled, SIGINT);
	r = hfb_service_create(&p.loop, config->data_dir, fenced, &p, &p.service, &err);
	if (r < 0)
		fprintf(stderr, "hfbus-control: %s\n", err.text);
	else
		r = serve_http(&p, config);
	if (r < 0) {
		stop(&p);
	} else {
		address = hfb_service_http_address(p.service);
		printf("hfbus-control ready: data=%s\n", config->data_dir);
		if (address != NULL)
			printf("hfbus-control: http://%s/ serves metrics and the API\n", address);
		fflush(stdout);
	}
	uv_run(&p.loop, UV_RUN_DEFAULT);
	hfb_service_free(p.service);
	uv_loop_close(&p.loop);
	return r < 0 || p.fenced ? 1 : 0;
}

int
main(int argc, char **argv)
{
	static const struct option names[] = {
		{ "data", required_argument, NULL, 'd' },
		{ "config", required_argument, NULL, 'c' },
		{ "http", required_argument, NULL, 'p' },
		{ "http-token", required_argument, NULL, 't' },
		{ "http-timeout", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	static struct hfb_control_config config;
	struct hfb_control_options options = { 0 };
	struct hfb_err err;
	int option;

	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (option) {
		case 'd':
			options.data = optarg;
			break;
		case 'c':
			options.config = optarg;
			break;
		case 'p':
			options.http = optarg;
			break;
		case 's':
			options.http_timeout = optarg;
			break;
		case 't':
			options.http_token = optarg;
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
	if (hfb_control_config_load(&options, &config, &err) < 0) {
		fprintf(stderr, "hfbus-control: %s\n", err.text);
		return 1;
	}
	return serve(&config);
}
