/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What strangers send to hfbus-control: over HTTP "METHOD URI\nBODY" to a request of the
 * service and its answer's status, and what control.sock takes as it is (a first byte '{'). A
 * refusal has a sentence.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "group_request.h"
#include "http_route.h"
#include "http_token.h"
#include "request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* As the service does: those about groups have a parser of their own. */
static bool
group_parse(const char *bytes, size_t size)
{
	json_t *json = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, NULL);
	const char *op = json_string_value(json_object_get(json, "op"));
	bool taken = op != NULL && hfb_group_request_takes(op);
	struct hfb_group_request request;
	struct hfb_err err = { 0 };

	if (taken && hfb_group_request_parse(json, &request, &err) == 0)
		hfb_group_request_fini(&request);
	else if (taken && err.text[0] == '\0')
		abort();
	json_decref(json);
	return taken;
}

static void
request_parse(const char *bytes, size_t size)
{
	struct hfb_request request;
	struct hfb_err err = { 0 };
	json_t *answer;

	if (group_parse(bytes, size))
		return;

	if (hfb_request_parse(bytes, size, &request, &err) == 0)
		return;
	if (err.text[0] == '\0')
		abort();
	answer = hfb_answer_error(&err);
	if (answer == NULL || !json_is_false(json_object_get(answer, "ok")))
		abort();
	free(hfb_http_body(answer));
}

static void
http(char *head, const char *body, size_t body_size)
{
	static const struct hfb_http_token token = { "0123456789abcdef" };
	struct hfb_http_target target = { 0 };
	struct hfb_err err = { 0 };
	char *uri = strchr(head, ' '), *text = NULL;
	int r;

	if (uri == NULL) {
		(void)hfb_http_token_fits(&token, head);
		return;
	}
	*uri++ = '\0';
	r = hfb_http_route(head, uri, &target, &err);
	if (r == 0 && target.kind == HFB_HTTP_REQUEST)
		r = hfb_http_request(&target, body, body_size, &text, &err);
	if (r < 0 && (err.text[0] == '\0' || hfb_http_status_of(r) < 400))
		abort();
	if (text != NULL)
		request_parse(text, strlen(text));
	free(text);
	hfb_http_target_fini(&target);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *end = size > 0 ? memchr(data, '\n', size) : NULL;
	size_t head_size = end != NULL ? (size_t)(end - data) : size;
	char *head;

	if (size > 0 && data[0] == '{') {
		request_parse((const char *)data, size);
		return 0;
	}
	head = malloc(head_size + 1);
	if (head == NULL)
		abort();
	if (head_size > 0)
		memcpy(head, data, head_size);
	head[head_size] = '\0';
	http(head, (const char *)data + head_size + (end != NULL),
	     size - head_size - (end != NULL));
	free(head);
	return 0;
}
