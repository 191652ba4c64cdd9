/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http.c - the port's life, and libmicrohttpd within the loop: its epoll descriptor is polled by
 * libuv, which gives it its turns.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "http_listen.h"
#include "http_private.h"
#include "request.h"

#define TICK_MS		     1000u
#define BACKLOG		     1024
#define CONNECTION_BYTES_MAX (16u * 1024u)
#define CONNECTIONS_SPARE    32u  /* accepted while the oldest makes room */
#define OTHER_FDS	     400u /* control.sock's clients, SQLite, the loop */

/* Within the loop ------------------------------------------------------------ */

static void run_again(uv_timer_t *timer);

static void
run(struct hfb_http *http)
{
	MHD_UNSIGNED_LONG_LONG ms;

	http->running = true;
	MHD_run(http->daemon);
	http->running = false;
	if (!http->closing && MHD_get_timeout(http->daemon, &ms) == MHD_YES)
		uv_timer_start(&http->again, run_again, ms, 0);
}

static void
run_again(uv_timer_t *timer)
{
	run(timer->data);
}

static void
readable(uv_poll_t *poll, int status, int events)
{
	(void)status, (void)events;
	run(poll->data);
}

void
hfb_http_run_soon(struct hfb_http *http)
{
	if (!http->running && !http->closing)
		uv_timer_start(&http->again, run_again, 0, 0);
}

static void
tick(uv_timer_t *timer)
{
	hfb_http_shut_late(timer->data);
	run(timer->data);
}

/* Life ------------------------------------------------------------------------------ */

/* Every connection is a descriptor: take what the system lets us have. */
static uint32_t
connections_max(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 256;
	if (limit.rlim_cur < HFB_HTTP_CONNECTIONS_MAX + OTHER_FDS) {
		limit.rlim_cur = HFB_HTTP_CONNECTIONS_MAX + OTHER_FDS;
		if (limit.rlim_cur > limit.rlim_max)
			limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
		(void)getrlimit(RLIMIT_NOFILE, &limit);
	}
	if (limit.rlim_cur >= HFB_HTTP_CONNECTIONS_MAX + OTHER_FDS)
		return HFB_HTTP_CONNECTIONS_MAX;
	return limit.rlim_cur > OTHER_FDS + 64 ? (uint32_t)limit.rlim_cur - OTHER_FDS : 64;
}

/* Takes @fd, also on failure: libmicrohttpd closes it when it stops, but not when it does not
 * start. */
static int
daemon_start(struct hfb_http *http, int fd, struct hfb_err *err)
{
	const union MHD_DaemonInfo *info;

	http->connections_max = connections_max();
	http->daemon = MHD_start_daemon(
		MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, hfb_http_handle, http,
		MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
		http->connections_max + CONNECTIONS_SPARE, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		(size_t)CONNECTION_BYTES_MAX, MHD_OPTION_NOTIFY_CONNECTION,
		hfb_http_connection_changed, http, MHD_OPTION_NOTIFY_COMPLETED, hfb_http_completed,
		http, MHD_OPTION_URI_LOG_CALLBACK, hfb_http_line_read, http,
		MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
	if (http->daemon == NULL) {
		close(fd);
		return hfb_err_set(err, -EIO, "libmicrohttpd does not start on %s", http->address);
	}
	info = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	if (info == NULL || uv_poll_init(http->loop, &http->poll, info->epoll_fd) < 0) {
		MHD_stop_daemon(http->daemon);
		http->daemon = NULL;
		return hfb_err_set(err, -EIO, "libmicrohttpd has no descriptor to wait for");
	}
	return 0;
}

int
hfb_http_create(uv_loop_t *loop, const struct hfb_http_config *config,
		const struct hfb_http_source *source, void *arg, struct hfb_http **ret_http,
		struct hfb_err *err)
{
	struct hfb_http *http = calloc(1, sizeof(*http));
	int fd, r;

	if (http == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	http->loop = loop;
	http->source = *source;
	http->arg = arg;
	http->timeout_s = config->timeout_s != 0 ? config->timeout_s : HFB_HTTP_TIMEOUT_SECONDS;
	r = hfb_http_token_load(config->token_path, &http->token, err);
	if (r < 0)
		goto fail;
	fd = hfb_http_listen(config->listen, BACKLOG, http->address, sizeof(http->address), err);
	r = fd;
	if (r < 0)
		goto fail;
	r = daemon_start(http, fd, err);
	if (r < 0)
		goto fail;
	http->handles = 3;
	http->poll.data = http->again.data = http->tick.data = http;
	uv_timer_init(loop, &http->again);
	uv_timer_init(loop, &http->tick);
	uv_poll_start(&http->poll, UV_READABLE, readable);
	uv_timer_start(&http->tick, tick, TICK_MS, TICK_MS);
	*ret_http = http;
	return 0;
fail:
	free(http);
	return r;
}

static void
handle_closed(uv_handle_t *handle)
{
	struct hfb_http *http = handle->data;

	if (--http->handles == 0)
		free(http);
}

void
hfb_http_destroy(struct hfb_http *http)
{
	if (http == NULL)
		return;
	http->closing = true;
	uv_poll_stop(&http->poll);
	/* It must not stop while connections are suspended. */
	for (uint32_t i = 0; i < HFB_HTTP_CALLS_MAX; i++) {
		struct hfb_err err;

		if (!http->calls[i].open)
			continue;
		hfb_err_set(&err, -EAGAIN, "hfbus-control stops");
		hfb_http_answer(http, (struct hfb_server_client){ i, http->calls[i].turn },
				hfb_answer_error(&err));
	}
	MHD_run(http->daemon);
	MHD_stop_daemon(http->daemon);
	http->daemon = NULL;
	uv_close((uv_handle_t *)&http->poll, handle_closed);
	uv_close((uv_handle_t *)&http->again, handle_closed);
	uv_close((uv_handle_t *)&http->tick, handle_closed);
}

const char *
hfb_http_address(const struct hfb_http *http)
{
	return http->address;
}

const struct hfb_http_counters *
hfb_http_counters(const struct hfb_http *http)
{
	return &http->counters;
}
