/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link_client.c - a link over libhfbus: what any program gets that uses the library,
 * through shared memory or kernel UDP.
 *
 * A publisher for each partition, since events are to go where the scenario says. A batch
 * is as many bytes as batch_events events have, so the library closes it by itself.
 *
 * Threads: the caller's.
 * Memory:  a window for each partition; random bytes once.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hfbus/hfbus.h>

#include "bench_link.h"

#define RECORD_BYTES	 16u
#define BATCH_BYTES	 64u
#define RANDOM_BYTES	 4096u
#define WINDOW_BYTES_MIN 65536u
#define WINDOW_BYTES_MAX (64u << 20)
#define CONNECT_MS	 5000u
#define UDP_PORT	 7400u
#define LOOK_POLLS	 64u /* counters are looked at so often when nothing was acked */

struct link_client {
	struct bench_link link;
	struct hfb_bus *bus;
	struct hfb_pub **pubs;
	uint32_t event_bytes, inflight_events;
	uint64_t seed, polls;
	struct hfb_pub_stats *looked; /* as last seen, by partition */
	uint8_t *value;		      /* of the event being sent, then more random bytes */
};

/* xorshift64*: repeatable, and good enough to be no pattern */
static uint64_t
random_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dull;
}

static uint32_t
client_send(struct bench_link *link, uint32_t partition, uint32_t events)
{
	struct link_client *l = (struct link_client *)link;
	struct hfb_pub *pub = l->pubs[partition];
	uint64_t sent = link->sent[partition];
	struct hfb_event event = { .value_size = l->event_bytes };
	uint32_t taken = 0;

	if (l->inflight_events > 0) {
		uint64_t room = l->inflight_events - (sent - link->acked[partition]);

		if (events > room)
			events = (uint32_t)room;
	}
	for (; taken < events; taken++) {
		uint64_t number = sent + taken;
		uint8_t *value = l->value + (number * 8 & (RANDOM_BYTES - 1));
		uint8_t kept[8];
		int r;

		/* the number stands in random bytes that are put back */
		memcpy(kept, value, sizeof(kept));
		memcpy(value, &number, l->event_bytes < 8 ? l->event_bytes : 8);
		event.value = value;
		r = hfb_pub_send(pub, &event, &link->err);
		memcpy(value, kept, sizeof(kept));
		if (r < 0)
			break; /* full; anything worse is said again by poll */
	}
	link->starved += taken == 0 && events > 0;
	link->sent[partition] = sent + taken;
	return taken;
}

/* What @pub has counted since it was last looked at. */
static int64_t
pub_look(struct link_client *l, uint32_t partition)
{
	struct hfb_pub_stats now, *last = &l->looked[partition];
	struct bench_link *link = &l->link;
	int64_t acked;

	hfb_pub_stats_get(l->pubs[partition], &now);
	acked = (int64_t)(now.acked_events - last->acked_events);
	link->acked[partition] = now.acked_events;
	link->frames += now.frames - last->frames;
	link->resent += now.resent_frames - last->resent_frames;
	for (uint32_t i = 0; i < sizeof(now.refusals) / sizeof(now.refusals[0]); i++)
		link->refused += now.refusals[i] - last->refusals[i];
	*last = now;
	return acked;
}

static int64_t
client_poll(struct bench_link *link)
{
	struct link_client *l = (struct link_client *)link;
	int64_t acked = 0;

	for (uint32_t i = 0; i < link->partitions; i++) {
		int r;

		if (link->sent[i] == link->acked[i])
			continue;
		r = hfb_pub_poll(l->pubs[i], 0, &link->err);
		/* these are told, and tried again by the library */
		if (r < 0 && r != -ENOSPC && r != -EBUSY)
			return r;
		/* the counts are copied, and send() takes acks too: when there is something to see
		 */
		if (r != 0 || l->polls++ % LOOK_POLLS == 0)
			acked += pub_look(l, i);
	}
	return acked;
}

static void
client_close(struct bench_link *link)
{
	struct link_client *l = (struct link_client *)link;

	for (uint32_t i = 0; l->pubs != NULL && i < link->partitions; i++)
		hfb_pub_close(l->pubs[i]);
	hfb_bus_close(l->bus);
	free(l->pubs);
	free(l->looked);
	free(l->value);
	free(link->sent);
	free(link->acked);
	free(l);
}

static const struct bench_link_ops client_ops = {
	.send = client_send,
	.poll = client_poll,
	.close = client_close,
};

static int
cpu_take(int cpu, struct hfb_err *err)
{
	cpu_set_t set;
	int r;

	if (cpu < 0)
		return 0;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	r = pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
	return r == 0 ? 0 : hfb_err_set(err, -r, "cannot run on CPU %d: %s", cpu, strerror(r));
}

static int
bus_open(struct link_client *l, const struct bench_link_config *config, struct hfb_err *err)
{
	struct hfb_bus_config bus = { .data_dir = config->data, .connect_ms = CONNECT_MS };
	char udp[80];

	if (strcmp(config->transport, "udp") == 0) {
		snprintf(udp, sizeof(udp), "%s:%u",
			 config->bus_ip != NULL ? config->bus_ip : "10.9.0.2",
			 config->udp_port != 0 ? config->udp_port : UDP_PORT);
		bus.udp = udp;
	}
	return hfb_bus_open(&bus, &l->bus, err);
}

static uint32_t
window_bytes(uint64_t events, uint32_t event_bytes)
{
	uint64_t bytes = events * (RECORD_BYTES + BATCH_BYTES + (event_bytes + 7u) / 8 * 8);

	/* 0: the library's own */
	if (events == 0)
		return 0;
	return bytes < WINDOW_BYTES_MIN	  ? WINDOW_BYTES_MIN
	       : bytes > WINDOW_BYTES_MAX ? WINDOW_BYTES_MAX
					  : (uint32_t)bytes;
}

int
bench_link_client_open(const struct bench_link_config *config, struct bench_link **ret_link,
		       struct hfb_err *err)
{
	struct hfb_pub_config pub = {
		.topic = config->topic,
		.ack = (int32_t)config->stage,
		.batch_bytes =
			config->batch_events * (RECORD_BYTES + (config->event_bytes + 7u) / 8 * 8),
		.window_bytes = window_bytes(config->inflight_events, config->event_bytes),
	};
	struct link_client *l = calloc(1, sizeof(*l));
	uint32_t n = config->partitions;
	int r;

	if (l == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	l->link.ops = &client_ops;
	l->link.batch_events = config->batch_events;
	l->event_bytes = config->event_bytes;
	l->inflight_events = config->inflight_events;
	l->pubs = calloc(n, sizeof(struct hfb_pub *));
	l->looked = calloc(n, sizeof(*l->looked));
	l->link.acked = calloc(n, sizeof(uint64_t));
	l->link.sent = calloc(n, sizeof(uint64_t));
	l->value = malloc(RANDOM_BYTES + config->event_bytes + 8);
	if (l->pubs == NULL || l->looked == NULL || l->link.acked == NULL || l->link.sent == NULL ||
	    l->value == NULL) {
		r = hfb_err_set(err, -ENOMEM, "out of memory");
		goto fail;
	}
	l->seed = config->seed | 1;
	for (uint32_t i = 0; i < RANDOM_BYTES + config->event_bytes + 8; i++)
		l->value[i] = (uint8_t)(random_next(&l->seed) >> 56);
	r = cpu_take(config->cpu, err);
	if (r == 0)
		r = bus_open(l, config, err);
	if (r < 0)
		goto fail;
	for (; l->link.partitions < n; l->link.partitions++) {
		pub.partition = (int32_t)l->link.partitions;
		r = hfb_pub_open(l->bus, &pub, &l->pubs[l->link.partitions], err);
		if (r < 0)
			goto fail;
	}
	*ret_link = &l->link;
	return 0;
fail:
	client_close(&l->link);
	return r;
}
