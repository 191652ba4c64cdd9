/* SPDX-License-Identifier: Apache-2.0 */
/*
 * service.h - hfbus-control as one object: the store, the link to hfbusd, the
 * reconciling machine between them, and the socket that takes requests.
 *
 *	hfb_service_create(&loop, "DATA", end, arg, &service, &err);
 *	uv_run(&loop, UV_RUN_DEFAULT);
 *
 * The way of a change: checked, written to the store (synced), put to hfbusd by
 * the machine, then answered. If hfbusd refuses it, the store gets its former
 * value back. If hfbusd goes away in between, the machine puts it there when it
 * is back, and the answer says so.
 *
 * Threads: one, the event loop's.
 * Memory:  bounded by clients (server.h) and topics (reconcile.h).
 */
#ifndef HFB_SERVICE_H
#define HFB_SERVICE_H

#include <uv.h>

#include "err.h"
#include "http.h"

struct hfb_service;

/**
 * Makes @data_dir the process's working folder. @end is called when the process must not
 * go on: another hfbus-control has taken the folder over.
 *
 * Returns 0, or -EBUSY (another hfbus-control has the folder), -ENOENT, -EIO, -EPROTO;
 * *@ret_service is to be closed in any case, unless it is NULL.
 */
int hfb_service_create(uv_loop_t *loop, const char *data_dir, void (*end)(void *arg), void *arg,
		       struct hfb_service **ret_service, struct hfb_err *err);

/** Take requests over HTTP too, and serve metrics. Returns as hfb_http_create(). */
int hfb_service_http_start(struct hfb_service *service, const struct hfb_http_config *config,
			   struct hfb_err *err);

/* As it was bound; NULL: HTTP is off. Lent. */
const char *hfb_service_http_address(const struct hfb_service *service);

/** Close everything; run the loop until it is empty, then hfb_service_free(). */
void hfb_service_close(struct hfb_service *service);
void hfb_service_free(struct hfb_service *service); /* NULL is fine */

#endif
