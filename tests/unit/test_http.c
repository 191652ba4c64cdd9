/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP port's start.
 *
 * Goal:   a start that fails keeps no descriptor, and closes each of its own once: a number closed
 *	   twice may be another's by then.
 * Method: each of the calls that may fail does; descriptors are counted before and after, and
 *	   what close() was called with is watched.
 */
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <microhttpd.h>

#include "fault.h"
#include "hfb_test_main.h"
#include "http.h"

#define STEPS_MAX 64u

static char folder[sizeof("/tmp/hfb_test_http.XXXXXX")];
static char token_path[64];
static uv_loop_t loop;
static bool poll_fails, daemon_fails;
static unsigned int bad_closes;

int __real_close(int fd);
int __wrap_close(int fd);
int
__wrap_close(int fd)
{
	int r = __real_close(fd);

	bad_closes += r < 0;
	return r;
}

static int
fail_poll(uv_loop_t *in, uv_poll_t *handle, int fd)
{
	(void)in, (void)handle, (void)fd;
	return UV_EIO;
}

int __real_uv_poll_init(uv_loop_t *in, uv_poll_t *handle, int fd);
int __wrap_uv_poll_init(uv_loop_t *in, uv_poll_t *handle, int fd);
int
__wrap_uv_poll_init(uv_loop_t *in, uv_poll_t *handle, int fd)
{
	return (poll_fails ? fail_poll : __real_uv_poll_init)(in, handle, fd);
}

struct MHD_Daemon *__wrap_MHD_start_daemon(unsigned int flags, uint16_t port,
					   MHD_AcceptPolicyCallback accept, void *accept_arg,
					   MHD_AccessHandlerCallback handler, void *arg, ...);
struct MHD_Daemon *
__wrap_MHD_start_daemon(unsigned int flags, uint16_t port, MHD_AcceptPolicyCallback accept,
			void *accept_arg, MHD_AccessHandlerCallback handler, void *arg, ...)
{
	struct MHD_Daemon *daemon = NULL;
	va_list options;

	va_start(options, arg);
	if (!daemon_fails)
		daemon =
			MHD_start_daemon_va(flags, port, accept, accept_arg, handler, arg, options);
	va_end(options);
	return daemon;
}

static unsigned int
descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int n = 0;

	CU_ASSERT_PTR_NOT_NULL_FATAL(dir);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

static int
create(struct hfb_http **ret_http, struct hfb_err *err)
{
	const struct hfb_http_config config = { .listen = "127.0.0.1:0", .token_path = token_path };
	const struct hfb_http_source source = { 0 };

	return hfb_http_create(&loop, &config, &source, NULL, ret_http, err);
}

static void
set_up(void)
{
	CU_ASSERT_EQUAL_FATAL(uv_loop_init(&loop), 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(strcpy(folder, "/tmp/hfb_test_http.XXXXXX")));
	snprintf(token_path, sizeof(token_path), "%s/token", folder);
	poll_fails = daemon_fails = false;
	bad_closes = 0;
}

static void
tear_down(void)
{
	uv_run(&loop, UV_RUN_DEFAULT);
	CU_ASSERT_EQUAL(uv_loop_close(&loop), 0);
	unlink(token_path);
	rmdir(folder);
}

/* A start that fails with a sentence, and leaves nothing behind. */
static void
refused(void)
{
	struct hfb_http *http = NULL;
	struct hfb_err err = { 0 };
	unsigned int before = descriptors();

	CU_ASSERT_EQUAL(create(&http, &err), -EIO);
	CU_ASSERT_NOT_EQUAL(err.text[0], '\0');
	CU_ASSERT_PTR_NULL(http);
	CU_ASSERT_EQUAL(descriptors(), before);
	CU_ASSERT_EQUAL(bad_closes, 0);
}

static void
test_a_loop_that_cannot_wait_for_it_closes_its_socket_once(void)
{
	poll_fails = true;
	refused();
}

static void
test_a_server_that_does_not_start_closes_its_socket_once(void)
{
	daemon_fails = true;
	refused();
}

static void
test_a_port_that_comes_and_goes_leaves_no_descriptor(void)
{
	struct hfb_http *http = NULL;
	struct hfb_err err = { 0 };
	unsigned int before = descriptors();

	CU_ASSERT_EQUAL_FATAL(create(&http, &err), 0);
	CU_ASSERT_EQUAL(strncmp(hfb_http_address(http), "127.0.0.1:", 10), 0);
	CU_ASSERT_TRUE(descriptors() > before);
	hfb_http_destroy(http);
	uv_run(&loop, UV_RUN_DEFAULT);
	CU_ASSERT_EQUAL(descriptors(), before);
	CU_ASSERT_EQUAL(bad_closes, 0);
}

static void
test_a_start_leaves_nothing_whichever_call_fails(void)
{
	bool spent = true;
	uint32_t step;

	for (step = 0; spent && step < STEPS_MAX; step++) {
		struct hfb_http *http = NULL;
		struct hfb_err err = { 0 };
		unsigned int before;
		int r;

		unlink(token_path);
		before = descriptors();
		hfb_fault_arm(step);
		r = create(&http, &err);
		spent = hfb_fault_disarm();
		CU_ASSERT_EQUAL(r < 0, http == NULL);
		CU_ASSERT_EQUAL(r < 0, err.text[0] != '\0');
		if (http == NULL)
			CU_ASSERT_EQUAL(descriptors(), before);
		hfb_http_destroy(http);
		uv_run(&loop, UV_RUN_DEFAULT);
		CU_ASSERT_EQUAL(descriptors(), before);
	}
	CU_ASSERT_TRUE(step > 3); /* token and socket were among them */
	CU_ASSERT_FALSE(spent);
	CU_ASSERT_EQUAL(bad_closes, 0);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "a loop that cannot wait for it closes its socket once",
		  test_a_loop_that_cannot_wait_for_it_closes_its_socket_once },
		{ "a server that does not start closes its socket once",
		  test_a_server_that_does_not_start_closes_its_socket_once },
		{ "a port that comes and goes leaves no descriptor",
		  test_a_port_that_comes_and_goes_leaves_no_descriptor },
		{ "a start leaves nothing, whichever call fails",
		  test_a_start_leaves_nothing_whichever_call_fails },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main_fixture("http", tests, set_up, tear_down);
}
