/* SPDX-License-Identifier: Apache-2.0 */
/*
 * service_private.h - what the two files of the service share.
 *
 *	service.c	  life, the store, hfbusd's side, who asks about groups
 *	service_topics.c  requests about topics, from the first look to the answer
 *
 * Threads: the loop's.
 */
#ifndef HFB_SERVICE_PRIVATE_H
#define HFB_SERVICE_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>
#include <uv.h>

#include <hfbus/ipc.h>

#include "broker.h"
#include "groups.h"
#include "http.h"
#include "kv.h"
#include "rates.h"
#include "reconcile.h"
#include "request.h"
#include "server.h"

/* Who asks has a slot: first those of control.sock, then those of HTTP. */
#define ASKERS_MAX (HFB_SERVER_CLIENTS_MAX + HFB_HTTP_CALLS_MAX)

enum hfb_wait { WAIT_NONE, WAIT_PUT, WAIT_PASS, WAIT_TOPIC, WAIT_TRIM, WAIT_TRIM_AGAIN };

/* What a client waits for; at most one a slot. */
struct hfb_waiter {
	struct hfb_service *service;
	struct hfb_server_client client;
	enum hfb_wait wait;
	struct hfb_request request;
	uint64_t passes;	     /* WAIT_PASS: until more than these are through */
	struct hfb_ipc_topic wanted; /* WAIT_PUT: what was written to the store */
	struct hfb_ipc_topic former; /* and what was there, for a refusal */
	bool had_former;
	uint32_t tries; /* WAIT_TRIM */
};

struct hfb_service {
	char data_dir[4096];
	int lock_fd;
	bool closing;
	void (*end)(void *arg);
	void *end_arg;
	struct hfb_kv *kv;
	struct hfb_reconcile *reconcile;
	struct hfb_broker *broker;
	struct hfb_server *server;
	struct hfb_rates *rates;
	struct hfb_http *http; /* NULL: off */
	struct hfb_groups *groups;
	uv_timer_t refresh;
	uv_timer_t sample;     /* of rates */
	uv_timer_t trim_again; /* runs while somebody is in WAIT_TRIM_AGAIN */
	uint32_t unknown_logs; /* as hfbusd said last */
	bool topics_changed;   /* groups are not told yet */
	struct hfb_waiter waiters[ASKERS_MAX];
};

/* service.c: one line on standard error */
void hfb_service_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* To whom asked, over the socket or HTTP. Takes @json; NULL = out of memory. */
void hfb_service_answer(struct hfb_service *s, struct hfb_server_client client, json_t *json);
/* Compare-and-set of a topic: 0, -ESTALE, -ENOMEM or what the store says. */
int hfb_service_store_put(struct hfb_service *s, const struct hfb_ipc_topic *topic,
			  uint64_t expected_revision, struct hfb_err *err);
int hfb_service_store_remove(struct hfb_service *s, const char *name, uint64_t revision,
			     struct hfb_err *err);

/* service_topics.c: must hfbusd's topics be looked at before it can be acted on? */
bool hfb_service_needs_look(const struct hfb_service *s, const struct hfb_request *request);
/* Act on a request, with hfbusd's topics as fresh as they get. */
void hfb_service_act(struct hfb_waiter *w);
void hfb_service_refuse(struct hfb_waiter *w, const struct hfb_err *err);
/* Answer those who can be. True: there may be more to do now. */
bool hfb_service_check_waiters(struct hfb_service *s);

#endif
