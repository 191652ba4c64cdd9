/* SPDX-License-Identifier: Apache-2.0 */
#include "control_link.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "connection.h"
#include "err.h"

#define ANSWER_BYTES_MAX (256u * 1024u)

void
hfb_control_link_init(struct hfb_control_link *link, const char *data_dir)
{
	snprintf(link->data_dir, sizeof(link->data_dir), "%s", data_dir);
	link->fd = -1;
	link->asked = false;
}

void
hfb_control_link_close(struct hfb_control_link *link)
{
	if (link->fd >= 0)
		close(link->fd);
	link->fd = -1;
	link->asked = false;
}

static int
connect_now(struct hfb_control_link *link)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char path[4200];
	int dir = -1, r = 0;

	snprintf(path, sizeof(path), "%s/control.sock", link->data_dir);
	if (strlen(path) < sizeof(address.sun_path)) {
		memcpy(address.sun_path, path, strlen(path) + 1);
	} else {
		/* sun_path holds 108 bytes; a folder's descriptor makes any path short */
		dir = open(link->data_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (dir < 0)
			return -ENOTCONN;
		snprintf(address.sun_path, sizeof(address.sun_path),
			 "/proc/self/fd/%d/control.sock", dir);
	}
	link->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (link->fd < 0)
		r = -EAGAIN;
	else if (connect(link->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		r = errno == ENOENT || errno == ECONNREFUSED ? -ENOTCONN : -EAGAIN;
	if (dir >= 0)
		close(dir);
	if (r < 0)
		hfb_control_link_close(link);
	return r;
}

int
hfb_control_link_send(struct hfb_control_link *link, const char *text, size_t size)
{
	int r = link->fd < 0 ? connect_now(link) : 0;

	if (r < 0)
		return r;
	if (send(link->fd, text, size, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
		hfb_control_link_close(link);
		return -EAGAIN;
	}
	link->asked = true;
	return 0;
}

int
hfb_control_link_receive(struct hfb_control_link *link, json_t **ret_json)
{
	static _Thread_local char answer[ANSWER_BYTES_MAX];
	json_t *json;
	ssize_t n;

	if (link->fd < 0)
		return -EAGAIN;
	n = recv(link->fd, answer, sizeof(answer), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	json = n > 0 ? json_loadb(answer, (size_t)n, 0, NULL) : NULL;
	if (!json_is_object(json)) {
		json_decref(json);
		hfb_control_link_close(link);
		return -EAGAIN;
	}
	link->asked = false;
	*ret_json = json;
	return 1;
}

void
hfb_control_link_wait(const struct hfb_control_link *link, int timeout_ms)
{
	struct pollfd p = { .fd = link->fd, .events = POLLIN };

	poll(&p, link->fd >= 0 && link->asked ? 1 : 0, timeout_ms);
}

int
hfb_control_answer_code(const json_t *answer)
{
	static const int codes[] = {
		ENOENT, ESTALE, EPERM,	EINVAL,	    EAGAIN,   EBUSY,  E2BIG,
		ENOSPC, ENOMEM, ERANGE, EOPNOTSUPP, ENOTCONN, EEXIST, EMSGSIZE
	};
	const char *code = json_string_value(json_object_get(answer, "code"));

	if (json_is_true(json_object_get(answer, "ok")))
		return 0;
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]) && code != NULL; i++)
		if (strcmp(code, strerrorname_np(codes[i])) == 0)
			return -codes[i];
	return -EIO;
}

json_t *
hfb_control_link_ask(struct hfb_control_link *link, json_t *request, int timeout_ms,
		     struct hfb_err *err)
{
	char *text = request != NULL ? json_dumps(request, JSON_COMPACT) : NULL;
	uint64_t until = hfb_now_ns() + (uint64_t)timeout_ms * 1000000u;
	json_t *answer = NULL;
	int r;

	json_decref(request);
	if (text == NULL) {
		hfb_err_set(err, -EINVAL, "the request is not UTF-8 text");
		return NULL;
	}
	r = hfb_control_link_send(link, text, strlen(text));
	if (r == 0) {
		while ((r = hfb_control_link_receive(link, &answer)) == 0 && hfb_now_ns() < until)
			hfb_control_link_wait(link, 100);
	}
	free(text);
	if (r == -ENOTCONN) {
		hfb_err_set(err, r,
			    "hfbus-control does not run on %s; start it with: hfbus-control --data "
			    "%s (or all with: hfbus up --data %s)",
			    link->data_dir, link->data_dir, link->data_dir);
	} else if (r == 0) {
		hfb_control_link_close(link); /* a late answer is nobody's */
		hfb_err_set(err, -ETIMEDOUT, "hfbus-control does not answer");
	} else if (r < 0) {
		hfb_err_set(err, -ENOTCONN, "hfbus-control went away");
	} else if (hfb_control_answer_code(answer) != 0) {
		hfb_err_set(err, hfb_control_answer_code(answer), "%s",
			    json_string_value(json_object_get(answer, "error"))
				    ?: "hfbus-control refused");
		json_decref(answer);
		answer = NULL;
	}
	return answer;
}
