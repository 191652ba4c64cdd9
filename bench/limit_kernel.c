/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limit_kernel.c - echo over the kernel's loopback, UDP and TCP: what a bus behind kernel
 * sockets cannot go below on this machine. Both ends spin on non-blocking calls, so that
 * no wake-up is in it.
 *
 * Threads: the echoing side is one of its own on --cores[1].
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench.h"

#define SIZE_MAX_UDP 65507u
#define LOST_NS	     1000000000ull

struct echo {
	struct bench *b;
	bool tcp;
	int near, far;
	uint8_t *near_bytes, *far_bytes;
	bool stop;
	int failed;
	struct hfb_err err;
};

static int
pair_udp(int *near, int *far)
{
	struct sockaddr_in at[2];
	int fd[2];

	for (int i = 0; i < 2; i++) {
		socklen_t size = sizeof(at[i]);

		fd[i] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		*(i == 0 ? near : far) = fd[i];
		at[i] = (struct sockaddr_in){ .sin_family = AF_INET,
					      .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
		if (fd[i] < 0 || bind(fd[i], (struct sockaddr *)&at[i], sizeof(at[i])) < 0 ||
		    getsockname(fd[i], (struct sockaddr *)&at[i], &size) < 0)
			return -errno;
	}
	for (int i = 0; i < 2; i++)
		if (connect(fd[i], (struct sockaddr *)&at[1 - i], sizeof(at[0])) < 0)
			return -errno;
	return 0;
}

static int
pair_tcp(int *near, int *far)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1, r = 0;
	socklen_t size = sizeof(at);

	*near = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (server < 0 || *near < 0 || bind(server, (struct sockaddr *)&at, sizeof(at)) < 0 ||
	    listen(server, 1) < 0 || getsockname(server, (struct sockaddr *)&at, &size) < 0 ||
	    connect(*near, (struct sockaddr *)&at, sizeof(at)) < 0)
		r = -errno;
	if (r == 0) {
		*far = accept4(server, NULL, NULL, SOCK_CLOEXEC);
		if (*far < 0 || setsockopt(*near, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0 ||
		    setsockopt(*far, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0)
			r = -errno;
	}
	if (server >= 0)
		close(server);
	return r;
}

/* One message of the size asked; false: it did not come. */
static bool
message_receive(struct echo *e, int fd, uint8_t *to, uint64_t until_ns)
{
	uint32_t size = e->b->options.size, got = 0;

	while (got < size) {
		ssize_t n = recv(fd, to + got, size - got, MSG_DONTWAIT);

		if (n > 0)
			got += (uint32_t)n;
		else if (n == 0 || (errno != EAGAIN && errno != EINTR) ||
			 __atomic_load_n(&e->stop, __ATOMIC_RELAXED) || bench_now_ns() > until_ns)
			return false;
	}
	return true;
}

static bool
message_send(int fd, const uint8_t *bytes, uint32_t size)
{
	/* one small message is under way at most: it fits or the socket is broken */
	return send(fd, bytes, size, MSG_NOSIGNAL) == (ssize_t)size;
}

static void *
far_main(void *arg)
{
	struct echo *e = arg;
	int r = bench_pin(e->b, 1, &e->err);

	if (r < 0)
		__atomic_store_n(&e->failed, r, __ATOMIC_RELEASE);
	while (r == 0 && message_receive(e, e->far, e->far_bytes, UINT64_MAX))
		if (!message_send(e->far, e->far_bytes, e->b->options.size))
			break;
	return NULL;
}

static int
near_loop(struct echo *e)
{
	struct bench *b = e->b;
	struct bench_window w = bench_window(b, bench_now_ns());
	struct hfb_histogram *latency = bench_latency(b, "latency");
	uint64_t number = 0, events = 0, back, from, now;

	while (bench_window_open(&w, from = bench_now_ns())) {
		memcpy(e->near_bytes, &number, sizeof(number));
		if (!message_send(e->near, e->near_bytes, b->options.size) ||
		    !message_receive(e, e->near, e->near_bytes, from + LOST_NS))
			return hfb_err_set(&b->err, -EIO, "message %llu did not come back",
					   (unsigned long long)number);
		now = bench_now_ns();
		memcpy(&back, e->near_bytes, sizeof(back));
		if (back != number)
			return hfb_err_set(&b->err, -EBADMSG, "message %llu came back as %llu",
					   (unsigned long long)number, (unsigned long long)back);
		number++;
		if (from < w.from_ns)
			continue;
		hfb_histogram_record(latency, now - from);
		events++;
	}
	bench_metric(b, "rate", "events/s", (double)events / bench_seconds(&w, w.until_ns));
	return 0;
}

static int
echo_run(struct bench *b, bool tcp)
{
	struct echo e = { .b = b, .tcp = tcp, .near = -1, .far = -1 };
	pthread_t far;
	int r;

	if (b->options.size < 8 || b->options.size > SIZE_MAX_UDP)
		return hfb_err_set(&b->err, -EINVAL, "--size is 8 to %u here", SIZE_MAX_UDP);
	r = tcp ? pair_tcp(&e.near, &e.far) : pair_udp(&e.near, &e.far);
	if (r < 0) {
		hfb_err_set(&b->err, r, "sockets on loopback: %s", strerror(-r));
		goto out;
	}
	e.near_bytes = calloc(1, b->options.size);
	e.far_bytes = calloc(1, b->options.size);
	if (e.near_bytes == NULL || e.far_bytes == NULL) {
		r = hfb_err_set(&b->err, -ENOMEM, "out of memory");
		goto out;
	}
	r = bench_pin(b, 0, &b->err);
	if (r < 0)
		goto out;
	r = pthread_create(&far, NULL, far_main, &e);
	if (r != 0) {
		r = hfb_err_set(&b->err, -r, "no thread: %s", strerror(r));
		goto out;
	}
	r = near_loop(&e);
	__atomic_store_n(&e.stop, true, __ATOMIC_RELAXED);
	pthread_join(far, NULL);
	if (e.failed < 0) {
		b->err = e.err;
		r = e.failed;
	}
out:
	free(e.near_bytes);
	free(e.far_bytes);
	if (e.near >= 0)
		close(e.near);
	if (e.far >= 0)
		close(e.far);
	return r;
}

static int
udp_run(struct bench *b)
{
	return echo_run(b, false);
}

static int
tcp_run(struct bench *b)
{
	return echo_run(b, true);
}

static void
defaults(struct bench_options *o)
{
	o->cores[0] = 0;
	o->cores[1] = 1;
	o->cores_count = 2;
}

const struct bench_scenario bench_limit_kernel_udp_echo = {
	.group = "limit",
	.name = "kernel-udp-echo",
	.summary = "one datagram there and back over the kernel's loopback",
	.help = "Both ends spin; the asking one on the first of --cores, the echo on the second.\n",
	.options = BENCH_SIZE,
	.defaults = defaults,
	.run = udp_run,
};

const struct bench_scenario bench_limit_kernel_tcp_echo = {
	.group = "limit",
	.name = "kernel-tcp-echo",
	.summary = "one message there and back over the kernel's loopback by TCP",
	.help = "Both ends spin; the asking one on the first of --cores, the echo on the second.\n",
	.options = BENCH_SIZE,
	.defaults = defaults,
	.run = tcp_run,
};
