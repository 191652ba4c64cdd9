/* SPDX-License-Identifier: Apache-2.0 */
/* http_answers.c - what goes out: JSON, metrics, errors; counted, and bounded in memory. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "http_private.h"
#include "request.h"

static const char type_json[] = "application/json";
static const char type_metrics[] = "text/plain; version=0.0.4; charset=utf-8";

struct metrics_text {
	struct hfb_http *http;
	char *text;
	size_t size;
};

static enum MHD_Result
send_response(struct hfb_http_exchange *x, unsigned int status, const char *type,
	      struct MHD_Response *response)
{
	struct hfb_http_connection *c = x->connection;
	enum MHD_Result r;

	if (response == NULL)
		return MHD_NO;
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	if (status == 401)
		MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
	if (status == 405)
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, x->target.allow);
	if (status == 503)
		MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, "1");
	c->http->counters.requests[status / 100 < 6 ? status / 100 : 5]++;
	hfb_http_alive(c, HFB_HTTP_SENDING, true);
	r = MHD_queue_response(c->mhd, status, response);
	MHD_destroy_response(response);
	return r;
}

enum MHD_Result
hfb_http_send_text(struct hfb_http_exchange *x, unsigned int status, char *text)
{
	static char no_memory[] = "{\"error\":{\"code\":\"ENOMEM\",\"message\":\"hfbus-control is "
				  "out of memory\"}}";

	if (text == NULL)
		return send_response(x, 503, type_json,
				     MHD_create_response_from_buffer(strlen(no_memory), no_memory,
								     MHD_RESPMEM_PERSISTENT));
	return send_response(
		x, status, type_json,
		MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE));
}

enum MHD_Result
hfb_http_send_error(struct hfb_http_exchange *x, unsigned int status, const struct hfb_err *err)
{
	return hfb_http_send_text(x, status, hfb_http_body(hfb_answer_error(err)));
}

static void
metrics_left(void *arg)
{
	struct metrics_text *m = arg;

	m->http->metrics_bytes -= m->size;
	free(m->text);
	free(m);
}

enum MHD_Result
hfb_http_send_metrics(struct hfb_http_exchange *x)
{
	struct hfb_http *http = x->connection->http;
	struct metrics_text *m;
	struct MHD_Response *response;
	struct hfb_err err;

	if (http->metrics_bytes > HFB_HTTP_METRICS_BYTES_MAX) {
		http->counters.refused_busy++;
		hfb_err_set(&err, -EAGAIN, "too many are reading metrics and do not take them");
		return hfb_http_send_error(x, 503, &err);
	}
	m = calloc(1, sizeof(*m));
	if (m == NULL)
		return hfb_http_send_text(x, 503, NULL);
	m->http = http;
	m->text = http->source.metrics(http->arg, &m->size);
	if (m->text == NULL) {
		free(m);
		return hfb_http_send_text(x, 503, NULL);
	}
	http->metrics_bytes += m->size;
	response = MHD_create_response_from_buffer_with_free_callback_cls(m->size, m->text,
									  metrics_left, m);
	if (response == NULL)
		metrics_left(m);
	return send_response(x, 200, type_metrics, response);
}

enum MHD_Result
hfb_http_send_ready(struct hfb_http_exchange *x)
{
	struct hfb_http *http = x->connection->http;
	char why[HFB_ERR_TEXT_MAX] = "";
	struct hfb_err err;

	if (http->source.ready(http->arg, why, sizeof(why)))
		return hfb_http_send_text(x, 200, strdup("{\"status\":\"ready\"}"));
	hfb_err_set(&err, -EAGAIN, "%s", why);
	return hfb_http_send_error(x, 503, &err);
}
