/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request.h - one message to DATA/control.sock, checked whole before anything
 * acts on it, and the answers.
 *
 *	{"op":"topic.create","name":"quotes","partitions":4,"commit":"durable",
 *	 "retention_bytes":0,"retention_ns":0,"segment_bytes":0,"ring_bytes":0}
 *	{"op":"topic.list","after":""}		answer: topics, "next" when there are more
 *	{"op":"topic.describe","name":"quotes","first":0}	partitions, "next" likewise
 *	{"op":"topic.delete","name":"quotes"}
 *	{"op":"status"}
 *
 * Answers are {"ok":true,...} or {"ok":false,"code":"EEXIST","error":"a sentence"}.
 *
 * Threads: pure functions.
 */
#ifndef HFB_REQUEST_H
#define HFB_REQUEST_H

#include <stddef.h>

#include <jansson.h>

#include <hfbus/ipc.h>

#include "err.h"

#define HFB_REQUEST_BYTES_MAX 16384u

enum hfb_request_op {
	HFB_REQUEST_STATUS,
	HFB_REQUEST_TOPIC_CREATE,
	HFB_REQUEST_TOPIC_LIST,
	HFB_REQUEST_TOPIC_DESCRIBE,
	HFB_REQUEST_TOPIC_DELETE,
};

struct hfb_request {
	enum hfb_request_op op;
	struct hfb_ipc_topic topic; /* create: all a user may set; others: the name */
	char after[256];	    /* list: names after this one */
	uint32_t first;		    /* describe: partitions from this one */
};

/**
 * Returns 0, or leaves *@ret_request alone and returns
 *   -EINVAL     not JSON, not an object, a member that is unknown, missing or out of range
 *   -EOPNOTSUPP an operation or a stage that is not there
 */
int hfb_request_parse(const char *bytes, size_t size, struct hfb_request *ret_request,
		      struct hfb_err *err);

/* New references; NULL when memory is out. */
json_t *hfb_answer_ok(void);
json_t *hfb_answer_error(const struct hfb_err *err);

#endif
