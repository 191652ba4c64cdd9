/* SPDX-License-Identifier: Apache-2.0 */
/*
 * broker.h - the connection to hfbusd (ipc.h), on the event loop. It is made again
 * whenever hfbusd comes back.
 *
 *	hfb_broker_create(&loop, "DATA/hfbusd.sock", &events, arg, &broker, &err);
 *	hfb_broker_call(broker, HFB_IPC_TOPIC_PUT, &topic, sizeof(topic), put_done, arg);
 *
 * libhfbus asks the same questions, but waits for the answer; a loop that serves
 * others must not, so this is a non-blocking one. A socket message is whole or
 * not there, so there is nothing to reassemble.
 *
 * Threads: one, the event loop's.
 * Memory:  one 64 KiB buffer; calls under way are bounded (HFB_BROKER_CALLS_MAX).
 */
#ifndef HFB_BROKER_H
#define HFB_BROKER_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include <hfbus/ipc.h>
#include <hfbus/shm.h>

#include "counters.h"
#include "err.h"

#define HFB_BROKER_CALLS_MAX 384u /* one a client of ours, and the reconciling ones */

struct hfb_broker;

struct hfb_broker_events {
	void (*up)(void *arg);
	void (*down)(void *arg, const char *why); /* after each open call has ended */
};

/* @error: 0, hfbusd's refusal, or -ENOTCONN, -ETIMEDOUT, -EPROTO; never kept past the call. */
typedef void hfb_broker_fn(void *arg, int error, const char *sentence, const void *body,
			   uint32_t bytes);

/** Returns 0, -ENAMETOOLONG (the path does not fit a socket's name) or -ENOMEM. */
int hfb_broker_create(uv_loop_t *loop, const char *path, const struct hfb_broker_events *events,
		      void *arg, struct hfb_broker **ret_broker, struct hfb_err *err);

/* Ends open calls with -ENOTCONN; memory goes when the loop has closed its handles. */
void hfb_broker_destroy(struct hfb_broker *broker);

bool hfb_broker_is_up(const struct hfb_broker *broker);

/**
 * Ask. @done is called once, never from within this call when it returns 0.
 * Returns 0, -ENOTCONN, -EAGAIN (too many are under way) or -EMSGSIZE.
 */
int hfb_broker_call(struct hfb_broker *broker, enum hfb_ipc_type type, const void *body,
		    uint32_t bytes, hfb_broker_fn *done, void *arg);

/** The slot of a partition, or NULL: not connected, or no such handle. Until the next event. */
const struct hfb_positions *hfb_broker_positions(const struct hfb_broker *broker, uint32_t handle);

/** All slots and how many; NULL: not connected. Until the next event. */
const struct hfb_positions *hfb_broker_all_positions(const struct hfb_broker *broker,
						     uint32_t *ret_count);

/** hfbusd's counters, or NULL: not connected, or it gave none. Until the next event. */
const struct hfb_counters_view *hfb_broker_counters(const struct hfb_broker *broker);

const struct hfb_ipc_welcome *hfb_broker_welcome(const struct hfb_broker *broker);

#endif
