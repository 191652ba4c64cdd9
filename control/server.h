/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server.h - DATA/control.sock: whole messages in, one answer each.
 *
 *	hfb_server_create(&loop, "DATA/control.sock", request, arg, &server, &err);
 *	request(arg, client, bytes, size)  ->  hfb_server_answer(server, client, json)
 *
 * A client is given one request at a time: its next one is read when the answer
 * has left. One that does not take its answer in 5 s is cut off; when all places
 * are taken, the one that has been idle longest makes room. So nobody can hold up
 * the others, whatever is sent or not read.
 *
 * Threads: one, the event loop's.
 * Memory:  an answer a client, at most HFB_SERVER_CLIENTS_MAX.
 */
#ifndef HFB_SERVER_H
#define HFB_SERVER_H

#include <stdint.h>

#include <jansson.h>
#include <uv.h>

#include "err.h"

#define HFB_SERVER_CLIENTS_MAX	    256u
#define HFB_SERVER_ANSWER_BYTES_MAX 65536u

struct hfb_server;

/* A slot (below HFB_SERVER_CLIENTS_MAX) and its turn: stale ones are told apart. */
struct hfb_server_client {
	uint32_t slot;
	uint32_t turn;
};

typedef void hfb_server_fn(void *arg, struct hfb_server_client client, const char *bytes,
			   size_t size);

/**
 * Bind @path (mode 0600), replacing a socket nobody serves: the caller holds the
 * folder's lock. Returns 0, -ENAMETOOLONG, -ENOMEM or bind's errno.
 */
int hfb_server_create(uv_loop_t *loop, const char *path, hfb_server_fn *request, void *arg,
		      struct hfb_server **ret_server, struct hfb_err *err);
void hfb_server_destroy(struct hfb_server *server); /* memory goes when the loop runs out */

/** Answer @client, once a request. Takes @answer; NULL is answered as out of memory. */
void hfb_server_answer(struct hfb_server *server, struct hfb_server_client client, json_t *answer);

#endif
