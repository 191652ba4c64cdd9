/* SPDX-License-Identifier: Apache-2.0 */
#include "http_listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static int
refuse(const char *text, struct hfb_err *err)
{
	return hfb_err_set(err, -EINVAL,
			   "\"%.100s\" is not ADDRESS:PORT, such as 127.0.0.1:7480 or [::1]:7480; "
			   "see --http",
			   text);
}

static int
parse(const char *text, union address *ret, socklen_t *ret_size, struct hfb_err *err)
{
	const char *colon = strrchr(text, ':');
	const char *digits = colon != NULL ? colon + 1 : text;
	char host[64] = "127.0.0.1", *end;
	unsigned long port;

	memset(ret, 0, sizeof(*ret));
	if (colon != NULL) {
		const char *from = text, *to = colon;

		if (*from == '[' && to > from + 1 && to[-1] == ']') {
			from++;
			to--;
		}
		if (to == from || (size_t)(to - from) >= sizeof(host))
			return refuse(text, err);
		snprintf(host, sizeof(host), "%.*s", (int)(to - from), from);
	}
	port = strtoul(digits, &end, 10);
	if (digits[0] < '0' || digits[0] > '9' || *end != '\0' || port > 65535)
		return refuse(text, err);
	if (inet_pton(AF_INET, host, &ret->v4.sin_addr) == 1) {
		ret->v4.sin_family = AF_INET;
		ret->v4.sin_port = htons((uint16_t)port);
		*ret_size = sizeof(ret->v4);
	} else if (inet_pton(AF_INET6, host, &ret->v6.sin6_addr) == 1) {
		ret->v6.sin6_family = AF_INET6;
		ret->v6.sin6_port = htons((uint16_t)port);
		*ret_size = sizeof(ret->v6);
	} else {
		return refuse(text, err);
	}
	return 0;
}

static void
name(int fd, char *to, size_t bytes)
{
	union address address = { 0 };
	socklen_t size = sizeof(address);
	char host[INET6_ADDRSTRLEN] = "?";

	(void)getsockname(fd, &address.any, &size);
	if (address.any.sa_family == AF_INET) {
		inet_ntop(AF_INET, &address.v4.sin_addr, host, sizeof(host));
		snprintf(to, bytes, "%s:%u", host, ntohs(address.v4.sin_port));
	} else {
		inet_ntop(AF_INET6, &address.v6.sin6_addr, host, sizeof(host));
		snprintf(to, bytes, "[%s]:%u", host, ntohs(address.v6.sin6_port));
	}
}

int
hfb_http_listen(const char *text, int backlog, char *ret_address, size_t address_bytes,
		struct hfb_err *err)
{
	const int on = 1;
	union address address;
	socklen_t size = 0;
	int fd, r;

	r = parse(text, &address, &size, err);
	if (r < 0)
		return r;
	fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return hfb_err_set(err, -errno, "cannot make a socket for %s: %s", text,
				   strerror(errno));
	/* Connections of a former run that the kernel still waits for do not hinder us. */
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (address.any.sa_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (bind(fd, &address.any, size) < 0 || listen(fd, backlog) < 0) {
		r = -errno;
		close(fd);
		if (r == -EADDRINUSE)
			return hfb_err_set(err, r,
					   "HTTP port %s is in use by another program; choose "
					   "another with --http ADDRESS:PORT, or --http off",
					   text);
		return hfb_err_set(err, r, "cannot listen on %s: %s; see --http", text,
				   strerror(-r));
	}
	name(fd, ret_address, address_bytes);
	return fd;
}
