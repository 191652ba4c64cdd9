/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_link.h - a connection to hfbus-control: one request, one answer, and never
 * a wait that was not asked for.
 *
 *	hfb_control_link_init(&link, data_dir);
 *	r = hfb_control_link_send(&link, text, size);	-ENOTCONN: nobody is there
 *	r = hfb_control_link_receive(&link, &json);	1 = the answer
 *
 * Threads: one.
 */
#ifndef HFB_CONTROL_LINK_H
#define HFB_CONTROL_LINK_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include <hfbus/err.h>

struct hfb_control_link {
	char data_dir[4096];
	int fd;	    /* -1 = not connected */
	bool asked; /* an answer is due */
};

void hfb_control_link_init(struct hfb_control_link *link, const char *data_dir);
void hfb_control_link_close(struct hfb_control_link *link);

/**
 * Send a request, connecting first when needed. Returns 0, or
 *   -ENOTCONN  nobody serves the socket: no hfbus-control runs
 *   -EAGAIN    it has no room just now, or lost the connection
 */
int hfb_control_link_send(struct hfb_control_link *link, const char *text, size_t size);

/** 1 and the answer's object (the caller's), 0 not there yet, -EAGAIN: the connection is lost. */
int hfb_control_link_receive(struct hfb_control_link *link, json_t **ret_json);

/** Wait up to @timeout_ms for an answer to come. */
void hfb_control_link_wait(const struct hfb_control_link *link, int timeout_ms);

/**
 * Ask and wait for the answer, @timeout_ms at most. Takes @request.
 * Returns the answer, or NULL and fills *@err: hfbus-control's own refusal with its code,
 * -ENOTCONN, -ETIMEDOUT or -EPROTO.
 */
json_t *hfb_control_link_ask(struct hfb_control_link *link, json_t *request, int timeout_ms,
			     struct hfb_err *err);

/** The code of a refusal, negative; 0 when it is none. */
int hfb_control_answer_code(const json_t *answer);

#endif
