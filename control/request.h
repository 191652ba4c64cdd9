/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request.h - one message to DATA/control.sock, checked whole before anything
 * acts on it, and the answers.
 *
 *	{"op":"topic.create","name":"quotes","partitions":4,"commit":"durable",
 *	 "retention_bytes":0,"retention_ns":0,"segment_bytes":0,"ring_bytes":0}
 *	{"op":"topic.list","after":""}		answer: topics, "next" when there are more
 *	{"op":"topic.list","internal":true}	also the bus's own ("__...")
 *	{"op":"topic.describe","name":"quotes","first":0}	partitions, "next" likewise
 *	{"op":"topic.alter","name":"quotes","retention_ns":0}	what is named changes; "partitions"
 *			is how many there are to be, "add_partitions" how many more
 *	{"op":"topic.trim","name":"quotes","partition":0,"before":17}	-1: all that is durable
 *	{"op":"topic.delete","name":"quotes"}
 *	{"op":"status"}
 *
 * Answers are {"ok":true,...} or {"ok":false,"code":"EEXIST","error":"a sentence"}.
 *
 * Threads: pure functions.
 */
#ifndef HFB_REQUEST_H
#define HFB_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include <hfbus/ipc.h>

#include "err.h"

#define HFB_REQUEST_BYTES_MAX 49152u

enum hfb_request_op {
	HFB_REQUEST_STATUS,
	HFB_REQUEST_TOPIC_CREATE,
	HFB_REQUEST_TOPIC_LIST,
	HFB_REQUEST_TOPIC_DESCRIBE,
	HFB_REQUEST_TOPIC_DELETE,
	HFB_REQUEST_TOPIC_ALTER,
	HFB_REQUEST_TOPIC_TRIM,
};

/* Settings that an alter names. */
enum {
	HFB_SET_PARTITIONS = 1u << 0,
	HFB_SET_COMMIT = 1u << 1,
	HFB_SET_RETENTION_BYTES = 1u << 2,
	HFB_SET_RETENTION_NS = 1u << 3,
	HFB_SET_SEGMENT_BYTES = 1u << 4,
	HFB_SET_RING_BYTES = 1u << 5,
	HFB_SET_CLEANUP = 1u << 6,
	HFB_SET_TOMBSTONE_NS = 1u << 7,
};

struct hfb_request {
	enum hfb_request_op op;
	struct hfb_ipc_topic topic; /* create: all a user may set; others: the name */
	char after[256];	    /* list: names after this one */
	uint32_t first;		    /* describe: partitions from this one; trim: the partition */
	uint32_t settings;	    /* alter: HFB_SET_* of topic that were named */
	uint32_t add_partitions;    /* alter */
	uint64_t before;	    /* trim: offset; all ones = all that is durable */
	bool internal;		    /* list: also the bus's own */
};

/**
 * Returns 0, or leaves *@ret_request alone and returns
 *   -EINVAL     not JSON, not an object, a member that is unknown, missing or out of range
 *   -EOPNOTSUPP an operation or a stage that is not there
 */
int hfb_request_parse(const char *bytes, size_t size, struct hfb_request *ret_request,
		      struct hfb_err *err);

/** Take from @request what it names over into @topic. 0, or -EINVAL for more than there can be. */
int hfb_request_alter(const struct hfb_request *request, struct hfb_ipc_topic *topic,
		      struct hfb_err *err);

/* New references; NULL when memory is out. */
json_t *hfb_answer_ok(void);
json_t *hfb_answer_error(const struct hfb_err *err);

#endif
