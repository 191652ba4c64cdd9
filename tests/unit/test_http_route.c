/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP requests as requests of the service, tokens, and the text of metrics.
 *
 * Goal:   a path and a body mean one request or are refused with a sentence; only the whole
 *	   token opens; what Prometheus reads is well formed whatever the labels are.
 * Method: each rule from both sides, and words a client may send to get around them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hfb_test_main.h"
#include "http_listen.h"
#include "http_route.h"
#include "http_token.h"
#include "metrics.h"
#include "metrics_text.h"
#include "request.h"

/* The request for the service as sorted JSON, or the error's number. */
static int
route(const char *method, const char *uri, const char *body, char *ret_text, size_t size)
{
	struct hfb_http_target target = { 0 };
	struct hfb_err err = { 0 };
	char *text;
	json_t *json;
	int r = hfb_http_route(method, uri, &target, &err);

	CU_ASSERT_EQUAL(r < 0, err.text[0] != '\0');
	if (r < 0)
		return r;
	if (target.kind == HFB_HTTP_REQUEST) {
		r = hfb_http_request(&target, body, strlen(body), &text, &err);
		CU_ASSERT_EQUAL(r < 0, err.text[0] != '\0');
		if (r == 0) {
			json = json_loads(text, 0, NULL);
			free(text);
			text = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS);
			snprintf(ret_text, size, "%s", text);
			free(text);
			json_decref(json);
		}
	}
	hfb_http_target_fini(&target);
	return r;
}

static int
refused(const char *method, const char *uri, const char *body)
{
	char text[4096];

	return route(method, uri, body, text, sizeof(text));
}

#define SAME(method, uri, body, wanted)                                                            \
	do {                                                                                       \
		char got[4096] = "";                                                               \
		CU_ASSERT_EQUAL(route(method, uri, body, got, sizeof(got)), 0);                    \
		CU_ASSERT_STRING_EQUAL(got, wanted);                                               \
	} while (0)

static void
test_paths_queries_and_bodies_are_one_request(void)
{
	SAME("GET", "/api/v1/status", "", "{\"op\":\"status\"}");
	SAME("HEAD", "/api/v1/status", "", "{\"op\":\"status\"}");
	SAME("GET", "/api/v1/topics", "", "{\"op\":\"topic.list\"}");
	SAME("GET", "/api/v1/topics?after=a%2Eb", "", "{\"after\":\"a.b\",\"op\":\"topic.list\"}");
	SAME("GET", "/api/v1/topics/q?first=64", "",
	     "{\"first\":64,\"name\":\"q\",\"op\":\"topic.describe\"}");
	SAME("GET", "/api/v1/topics/a%2fb", "", "{\"name\":\"a/b\",\"op\":\"topic.describe\"}");
	SAME("POST", "/api/v1/topics", "{\"name\":\"q\",\"partitions\":3}",
	     "{\"name\":\"q\",\"op\":\"topic.create\",\"partitions\":3}");
	SAME("DELETE", "/api/v1/topics/q", "", "{\"name\":\"q\",\"op\":\"topic.delete\"}");
}

static void
test_what_is_not_in_the_table_is_refused(void)
{
	struct hfb_http_target target = { 0 };
	struct hfb_err err;

	CU_ASSERT_EQUAL(refused("GET", "/", ""), -ENOENT);
	CU_ASSERT_EQUAL(refused("GET", "", ""), -ENOENT);
	CU_ASSERT_EQUAL(refused("GET", "/api/v1/topics/", ""), -ENOENT);
	CU_ASSERT_EQUAL(refused("GET", "/api/v1/topics//", ""), -ENOENT);
	CU_ASSERT_EQUAL(refused("GET", "/api/v1/topics/a/b/c/d", ""), -ENOENT);
	CU_ASSERT_EQUAL(refused("GET", "/api/v1/topicsx", ""), -ENOENT);
	CU_ASSERT_EQUAL(refused("GET", "/API/v1/topics", ""), -ENOENT);
	CU_ASSERT_EQUAL(refused("GET", "*", ""), -ENOENT);
	CU_ASSERT_EQUAL(refused("BREW", "/api/v1/topics", ""), -EOPNOTSUPP);
	CU_ASSERT_EQUAL(hfb_http_route("PUT", "/api/v1/topics", &target, &err), -EOPNOTSUPP);
	CU_ASSERT_STRING_EQUAL(target.allow, "GET, POST");
}

static void
test_escapes_queries_and_bodies_that_lie_are_refused(void)
{
	static const char *const bodies[] = { "",
					      "{",
					      "[]",
					      "7",
					      "null",
					      "{\"name\":\"a\"}x",
					      "{\"op\":\"topic.delete\",\"name\":\"a\"}",
					      "{\"name\":\"a\",\"name\":\"b\"}",
					      "\xff" };

	CU_ASSERT_EQUAL(refused("GET", "/api/v1/topics/a%00b", ""), -EINVAL);
	CU_ASSERT_EQUAL(refused("GET", "/api/v1/topics/a%", ""), -EINVAL);
	CU_ASSERT_EQUAL(refused("GET", "/api/v1/topics/a%4", ""), -EINVAL);
	CU_ASSERT_EQUAL(refused("GET", "/api/v1/topics/a%4g", ""), -EINVAL);
	CU_ASSERT_EQUAL(refused("GET", "/api/v1/topics/%ff", ""), -EINVAL);
	CU_ASSERT_EQUAL(refused("GET", "/api/v1/topics?after", ""), -EINVAL);
	CU_ASSERT_EQUAL(refused("GET", "/api/v1/topics?before=a", ""), -EINVAL);
	CU_ASSERT_EQUAL(refused("GET", "/api/v1/topics?after=a&after=b", ""), -EINVAL);
	CU_ASSERT_EQUAL(refused("GET", "/api/v1/topics/q?first=x", ""), -EINVAL);
	CU_ASSERT_EQUAL(refused("GET", "/api/v1/topics/q?first=", ""), -EINVAL);
	CU_ASSERT_EQUAL(refused("GET", "/api/v1/topics/q?first=99999999999999999999", ""), -EINVAL);
	CU_ASSERT_EQUAL(refused("GET", "/api/v1/topics/q?name=r", ""), -EINVAL);
	CU_ASSERT_EQUAL(refused("DELETE", "/api/v1/topics/q", "{\"name\":\"r\"}"), -EINVAL);
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++)
		CU_ASSERT_EQUAL(refused("POST", "/api/v1/topics", bodies[i]), -EINVAL);
}

static unsigned int
status_of(const char *code)
{
	struct hfb_http_target target = { 0 };
	struct hfb_err err;
	json_t *answer = json_pack("{s:b, s:s, s:s}", "ok", 0, "code", code, "error", "why");
	unsigned int status;
	char *body;

	CU_ASSERT_EQUAL(hfb_http_route("POST", "/api/v1/topics", &target, &err), 0);
	status = hfb_http_status(&target, answer);
	body = hfb_http_body(answer);
	CU_ASSERT_PTR_NOT_NULL_FATAL(body);
	CU_ASSERT_PTR_NOT_NULL(strstr(body, "\"message\":\"why\""));
	CU_ASSERT_PTR_NULL(strstr(body, "\"ok\""));
	free(body);
	hfb_http_target_fini(&target);
	return status;
}

static void
test_answers_have_a_fitting_status(void)
{
	struct hfb_http_target target = { 0 };
	struct hfb_err err;
	json_t *answer = hfb_answer_ok();

	CU_ASSERT_EQUAL(hfb_http_route("POST", "/api/v1/topics", &target, &err), 0);
	CU_ASSERT_EQUAL(hfb_http_status(&target, answer), 201);
	CU_ASSERT_EQUAL(hfb_http_status(&target, NULL), 503);
	CU_ASSERT(target.changes);
	hfb_http_target_fini(&target);
	json_decref(answer);
	CU_ASSERT_EQUAL(status_of("EINVAL"), 400);
	CU_ASSERT_EQUAL(status_of("ENOENT"), 404);
	CU_ASSERT_EQUAL(status_of("EEXIST"), 409);
	CU_ASSERT_EQUAL(status_of("ENOTCONN"), 503);
	CU_ASSERT_EQUAL(status_of("ENOSPC"), 507);
	CU_ASSERT_EQUAL(status_of("EIO"), 500);
	CU_ASSERT_EQUAL(status_of("EWHATEVER"), 500);
}

static void
test_only_the_whole_token_opens(void)
{
	struct hfb_http_token token = { "0123456789abcdef" };

	CU_ASSERT(hfb_http_token_fits(&token, "Bearer 0123456789abcdef"));
	CU_ASSERT(hfb_http_token_fits(&token, "bearer  0123456789abcdef"));
	CU_ASSERT_FALSE(hfb_http_token_fits(&token, NULL));
	CU_ASSERT_FALSE(hfb_http_token_fits(&token, ""));
	CU_ASSERT_FALSE(hfb_http_token_fits(&token, "Bearer"));
	CU_ASSERT_FALSE(hfb_http_token_fits(&token, "Bearer "));
	CU_ASSERT_FALSE(hfb_http_token_fits(&token, "Basic 0123456789abcdef"));
	CU_ASSERT_FALSE(hfb_http_token_fits(&token, "Bearer 0123456789abcde"));
	CU_ASSERT_FALSE(hfb_http_token_fits(&token, "Bearer 0123456789abcdeg"));
	CU_ASSERT_FALSE(hfb_http_token_fits(&token, "Bearer 0123456789abcdef "));
	CU_ASSERT_FALSE(hfb_http_token_fits(&token, "Bearer 0123456789abcdef0123456789abcdef"));
}

static void
write_file(const char *path, const char *text, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);

	CU_ASSERT(fd >= 0);
	CU_ASSERT_EQUAL(fchmod(fd, mode), 0);
	CU_ASSERT_EQUAL(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static void
test_a_token_is_made_once_and_kept_to_its_owner(void)
{
	struct hfb_http_token token, again;
	struct hfb_err err = { 0 };
	char path[4200];
	struct stat st;

	snprintf(path, sizeof(path), "%s/http.token", hfb_test_folder());
	CU_ASSERT_EQUAL(hfb_http_token_load(path, &token, &err), 0);
	CU_ASSERT_EQUAL(strlen(token.text), 64);
	CU_ASSERT_EQUAL(stat(path, &st), 0);
	CU_ASSERT_EQUAL(st.st_mode & 0777, 0600);
	CU_ASSERT_EQUAL(hfb_http_token_load(path, &again, &err), 0);
	CU_ASSERT_STRING_EQUAL(token.text, again.text);
	CU_ASSERT_EQUAL(chmod(path, 0640), 0);
	CU_ASSERT_EQUAL(hfb_http_token_load(path, &again, &err), -EACCES);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "chmod 600"));
	write_file(path, "", 0600);
	CU_ASSERT_EQUAL(hfb_http_token_load(path, &again, &err), -EINVAL);
	write_file(path, "short\n", 0600);
	CU_ASSERT_EQUAL(hfb_http_token_load(path, &again, &err), -EINVAL);
	write_file(path, "with a space in it, long enough\n", 0600);
	CU_ASSERT_EQUAL(hfb_http_token_load(path, &again, &err), -EINVAL);
	write_file(path, "of-our-own-choice!\n", 0600);
	CU_ASSERT_EQUAL(hfb_http_token_load(path, &again, &err), 0);
	CU_ASSERT_STRING_EQUAL(again.text, "of-our-own-choice!");
	CU_ASSERT_EQUAL(unlink(path), 0);
	CU_ASSERT_EQUAL(hfb_http_token_load(path, &again, &err), 0);
	CU_ASSERT_STRING_NOT_EQUAL(token.text, again.text);
	CU_ASSERT_EQUAL(hfb_http_token_load(hfb_test_folder(), &again, &err), -EINVAL);
}

static void
test_addresses_are_numbers_and_a_taken_port_is_named(void)
{
	static const char *const wrong[] = { "",
					     ":",
					     "x",
					     "127.0.0.1",
					     "1.2.3:1",
					     "localhost:80",
					     "127.0.0.1:x",
					     "[::1]",
					     "127.0.0.1:65536",
					     ":80",
					     "::1]:80:",
					     "127.0.0.1: 80" };
	struct hfb_err err;
	char address[80], again[80];
	int fd;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		CU_ASSERT_EQUAL(hfb_http_listen(wrong[i], 1, address, sizeof(address), &err),
				-EINVAL);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "--http"));
	}
	fd = hfb_http_listen("0", 1, address, sizeof(address), &err);
	CU_ASSERT(fd >= 0);
	CU_ASSERT_EQUAL(strncmp(address, "127.0.0.1:", 10), 0);
	CU_ASSERT_EQUAL(hfb_http_listen(address, 1, again, sizeof(again), &err), -EADDRINUSE);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "--http"));
	close(fd);
}

static void
test_metrics_are_grouped_and_labels_escaped(void)
{
	struct hfb_metrics_text *text = hfb_metrics_text_create();
	struct hfb_metric *drops, *lag;
	char *bytes;
	size_t size;

	CU_ASSERT_PTR_NOT_NULL_FATAL(text);
	drops = hfb_metric_find(text, "drops_total", HFB_METRIC_COUNTER, "Drops.");
	hfb_metric_add(drops, 7, "core=0,reason=bad");
	lag = hfb_metric_find(text, "lag-x", HFB_METRIC_GAUGE, "Lag.");
	hfb_metric_add(lag, 18446744073709551615u, "");
	hfb_metric_add(hfb_metric_find(text, "drops_total", HFB_METRIC_COUNTER, ""), 0,
		       "device=net_x,rx=\"a\\b,c\xc3\n,rx=2,=3");
	hfb_metric_add_bucket(hfb_metric_find(text, "t", HFB_METRIC_HISTOGRAM, "T."), 0.5, 1,
			      "a=b");
	hfb_metric_add_bucket(hfb_metric_find(text, "t", HFB_METRIC_HISTOGRAM, "T."), -1, 2, "");
	bytes = hfb_metrics_text_end(text, &size);
	CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
	CU_ASSERT_EQUAL(size, strlen(bytes));
	CU_ASSERT_STRING_EQUAL(bytes, "# HELP drops_total Drops.\n# TYPE drops_total counter\n"
				      "drops_total{core=\"0\",reason=\"bad\"} 7\n"
				      "drops_total{device=\"net_x\",rx=\"\\\"a\\\\b,c??\"} 0\n"
				      "# HELP lag_x Lag.\n# TYPE lag_x gauge\n"
				      "lag_x 18446744073709551615\n"
				      "# HELP t T.\n# TYPE t histogram\n"
				      "t_bucket{a=\"b\",le=\"0.5\"} 1\n"
				      "t_bucket{le=\"+Inf\"} 2\n");
	free(bytes);
}

static void
test_each_counter_of_hfbusd_has_its_sentence(void)
{
	/* First, last, and neighbours that sort closely: the table must be in order. */
	static const char *const names[] = {
		"ack_frames_total", "work_tsc_total",	     "partitions",  "partitions_failed",
		"sleep_tsc_total",  "sleeps_total",	     "drops_total", "feed_held_events",
		"feed_held_total",  "sleeps_wakeable_total",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		CU_ASSERT_PTR_NULL(strstr(hfb_metrics_help(names[i]), "see hfbus stat"));
	CU_ASSERT_PTR_NOT_NULL(strstr(hfb_metrics_help("of_tomorrow_total"), "see hfbus stat"));
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "paths, queries and bodies are one request",
		  test_paths_queries_and_bodies_are_one_request },
		{ "what is not in the table is refused", test_what_is_not_in_the_table_is_refused },
		{ "escapes, queries and bodies that lie are refused",
		  test_escapes_queries_and_bodies_that_lie_are_refused },
		{ "answers have a fitting status", test_answers_have_a_fitting_status },
		{ "only the whole token opens", test_only_the_whole_token_opens },
		{ "a token is made once and kept to its owner",
		  test_a_token_is_made_once_and_kept_to_its_owner },
		{ "addresses are numbers, and a taken port is named",
		  test_addresses_are_numbers_and_a_taken_port_is_named },
		{ "metrics are grouped and labels escaped",
		  test_metrics_are_grouped_and_labels_escaped },
		{ "each counter of hfbusd has its sentence",
		  test_each_counter_of_hfbusd_has_its_sentence },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("http_route", tests);
}
