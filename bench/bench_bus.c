/* SPDX-License-Identifier: Apache-2.0 */
#include "bench_bus.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <hfbus/limits.h>

#define DRAIN_NS   20000000000ull
#define CONNECT_MS 5000u

static int
local_open(const struct bench *b, struct hfb_bus **ret_bus, struct hfb_err *err)
{
	struct hfb_bus_config config = { .data_dir = b->options.data, .connect_ms = CONNECT_MS };

	return hfb_bus_open(&config, ret_bus, err);
}

int
bench_topic_make(struct bench *b)
{
	const struct bench_options *o = &b->options;
	struct hfb_ipc_topic topic = { 0 };
	struct hfb_bus *bus;
	int r = local_open(b, &bus, &b->err);

	if (r < 0)
		return o->transport == BENCH_SHM ? r : 0; /* the link will say what is wrong */
	r = hfb_admin_topic_get(bus, o->topic, &topic, &b->err);
	if (r == -ENOENT && strlen(o->topic) <= HFB_TOPIC_NAME_MAX) {
		topic = (struct hfb_ipc_topic){
			.partitions = o->partitions,
			.commit_stage = (uint32_t)o->ack,
			.retention_bytes = o->retention_bytes / o->partitions,
		};
		memcpy(topic.name, o->topic, strlen(o->topic));
		r = hfb_admin_topic_put(bus, &topic, &b->err);
	} else if (r == 0 && topic.partitions < o->partitions) {
		r = hfb_err_set(&b->err, -ERANGE,
				"topic %s has %u partitions only: another --topic, or "
				"--partitions %u",
				o->topic, topic.partitions, topic.partitions);
	}
	hfb_bus_close(bus);
	return r;
}

/* "IP[:PORT]" of --address. */
static int
address_split(const char *text, char *ip, size_t size, uint16_t *ret_port, struct hfb_err *err)
{
	const char *colon = strrchr(text, ':');
	size_t n = colon != NULL ? (size_t)(colon - text) : strlen(text);
	unsigned long port = 0;
	char *end = NULL;

	if (colon != NULL) {
		port = strtoul(colon + 1, &end, 10);
		if (*end != '\0' || port == 0 || port > 65535)
			return hfb_err_set(err, -EINVAL, "--address is IP[:PORT], not %s", text);
	}
	if (n == 0 || n >= size)
		return hfb_err_set(err, -EINVAL, "--address is IP[:PORT], not %s", text);
	memcpy(ip, text, n);
	ip[n] = '\0';
	*ret_port = (uint16_t)port;
	return 0;
}

int
bench_producer_open(struct bench *b, struct bench_link **ret_link)
{
	const struct bench_options *o = &b->options;
	struct bench_link_config config = {
		.transport = bench_transport_name(o->transport),
		.data = o->data,
		.device = o->device,
		.topic = o->topic,
		.partitions = o->partitions,
		.stage = (enum hfb_stage)o->ack,
		.event_bytes = o->size,
		.batch_events = o->batch,
		.cpu = o->cores_count > 0 ? (int)o->cores[0] : -1,
		.seed = o->seed,
	};
	char ip[64];
	int r;

	/* open loop: what window and credit allow */
	if (o->rate == 0 || (o->set & BENCH_INFLIGHT) != 0) {
		config.inflight_events = (o->inflight + o->partitions - 1) / o->partitions;
		if (config.inflight_events < o->batch)
			config.inflight_events = o->batch;
	}
	if (o->address != NULL) {
		r = address_split(o->address, ip, sizeof(ip), &config.udp_port, &b->err);
		if (r < 0)
			return r;
		config.bus_ip = ip;
	}
	return bench_link_open(&config, ret_link, &b->err);
}

int
bench_producer_finish(struct bench *b, struct bench_link *link)
{
	int r = bench_link_drain(link, DRAIN_NS, &b->err);

	for (uint32_t i = 0; r == 0 && i < link->partitions; i++)
		if (link->acked[i] != link->sent[i])
			r = hfb_err_set(&b->err, -EBADMSG,
					"partition %u: %" PRIu64 " events were sent, %" PRIu64
					" acked",
					i, link->sent[i], link->acked[i]);
	return r;
}

/* Readers --------------------------------------------------------------------------------- */

int
bench_reader_open(const struct bench *b, uint32_t partition, enum hfb_sub_from from,
		  bool files_only, struct bench_reader *r, struct hfb_err *err)
{
	struct hfb_sub_config config = { .topic = b->options.topic,
					 .partition = partition,
					 .from = from,
					 .files_only = files_only };
	struct hfb_bus_config bus = { .data_dir = b->options.data, .connect_ms = CONNECT_MS };
	char ip[64] = "10.9.0.2", udp[80];
	uint16_t port = 0;
	int e;

	memset(r, 0, sizeof(*r));
	r->partition = partition;
	r->next_offset = UINT64_MAX;
	if (b->options.transport == BENCH_UDP) {
		if (b->options.address != NULL) {
			e = address_split(b->options.address, ip, sizeof(ip), &port, err);
			if (e < 0)
				return e;
		}
		snprintf(udp, sizeof(udp), "%s:%u", ip, port != 0 ? port : HFB_UDP_PORT_DEFAULT);
		bus.udp = udp;
	}
	e = hfb_bus_open(&bus, &r->bus, err);
	if (e == 0)
		e = hfb_sub_open(r->bus, &config, &r->sub, err);
	if (e < 0)
		bench_reader_close(r);
	return e;
}

void
bench_reader_close(struct bench_reader *r)
{
	hfb_sub_close(r->sub);
	hfb_bus_close(r->bus);
	r->sub = NULL;
	r->bus = NULL;
}

/* What a bench writes has no gaps, and nothing of it may go unread. */
static int
mark_judge(struct bench_reader *r, const struct hfb_item *item)
{
	static const char *const names[] = {
		[HFB_ITEM_GAP] = "a gap",
		[HFB_ITEM_TRUNCATED] = "truncated",
		[HFB_ITEM_RETIRED] = "retired",
		[HFB_ITEM_CORRUPT] = "corrupt",
	};

	if (item->kind == HFB_ITEM_LAPPED) {
		r->lapped++;
		return 0;
	}
	return hfb_err_set(&r->err, -EBADMSG,
			   "partition %u: %s at offset %" PRIu64 ", position %" PRIu64,
			   r->partition, names[item->kind], item->offset, item->mark.from_position);
}

static int
event_judge(struct bench_reader *r, const struct hfb_item *item)
{
	const struct hfb_event *event = &item->event;
	uint64_t number;

	if (r->next_offset != UINT64_MAX && item->offset != r->next_offset)
		return hfb_err_set(&r->err, -EBADMSG,
				   "partition %u: offset %" PRIu64 " came after %" PRIu64,
				   r->partition, item->offset, r->next_offset - 1);
	r->next_offset = item->offset + 1;
	r->bytes += event->value_size;
	r->events++;
	if (!r->numbered || event->value_size < sizeof(number))
		return 0;
	memcpy(&number, event->value, sizeof(number));
	if (number != r->number)
		return hfb_err_set(&r->err, -EBADMSG,
				   "partition %u: event %" PRIu64 " came where %" PRIu64
				   " was expected",
				   r->partition, number, r->number);
	r->number = number + 1;
	return 0;
}

int64_t
bench_reader_turn(struct bench_reader *r, uint32_t max)
{
	const struct hfb_item *item;
	uint64_t now = 0, reads = UINT64_MAX, position = UINT64_MAX;
	uint32_t n = 0;
	int e = 0;

	while (n < max && (e = hfb_sub_next(r->sub, 0, &item, &r->err)) == 1) {
		if (item->kind != HFB_ITEM_EVENT) {
			e = mark_judge(r, item);
			if (e < 0)
				return e;
			continue;
		}
		e = event_judge(r, item);
		if (e < 0)
			return e;
		n++;
		if (r->from_ns == 0)
			continue;
		/* what was read at once came into view together: one reading of the clock */
		if (item->batch_position != position) {
			position = item->batch_position;
			if (hfb_sub_reads(r->sub) != reads) {
				reads = hfb_sub_reads(r->sub);
				now = bench_now_ns();
			}
		}
		r->measured += now >= r->from_ns && now < r->until_ns;
		if (r->latency != NULL) {
			uint64_t due = bench_pace_time_ns(r->pace, (r->number - 1) / r->batch);

			if (due >= r->from_ns && due < r->until_ns)
				hfb_histogram_record(r->latency, now > due ? now - due : 0);
		}
	}
	return e < 0 ? e : (int64_t)n;
}

/* Old data -------------------------------------------------------------------------------- */

/* Bytes of the log that are on disk: partition 0 of @topic. */
static int
old_bytes(struct hfb_bus *bus, const char *topic, uint64_t *ret_bytes, struct hfb_err *err)
{
	const struct hfb_positions *p = hfb_admin_positions(bus);
	struct hfb_ipc_partition partition;
	int r = hfb_admin_partitions_get(bus, topic, 0, &partition, 1, err);

	if (r < 0)
		return r;
	if (r == 0 || p == NULL || partition.handle >= HFB_PARTITIONS_MAX)
		return hfb_err_set(err, -ERANGE, "topic %s has no partition 0 here", topic);
	p += partition.handle;
	*ret_bytes = __atomic_load_n(&p->durable.position, __ATOMIC_ACQUIRE) -
		     __atomic_load_n(&p->start.position, __ATOMIC_ACQUIRE);
	return 0;
}

static int
old_fill(struct bench *b, struct hfb_bus *bus, const char *topic)
{
	uint64_t bytes = 0, polls = 0;
	struct bench_link *link = NULL;
	int r = bench_producer_open(b, &link);

	while (r == 0 && bytes < b->options.file_bytes && !bench_stop) {
		int64_t acked;

		link->ops->send(link, 0, 4096);
		acked = link->ops->poll(link);
		if (acked < 0) {
			b->err = link->err;
			r = (int)acked;
		} else if (polls++ % 256 == 0) {
			r = old_bytes(bus, topic, &bytes, &b->err);
		}
	}
	if (r == 0)
		r = bench_producer_finish(b, link);
	bench_link_close(link);
	return r;
}

int
bench_old_make(struct bench *b, const char *name)
{
	struct bench old = *b;
	struct hfb_bus *bus = NULL;
	uint64_t bytes = 0;
	int r;

	old.options.topic = name;
	old.options.transport = BENCH_SHM;
	old.options.partitions = 1;
	old.options.ack = HFB_STAGE_DURABLE;
	old.options.rate = 0;
	/* none of it may go while it is read: with just what is filled retention takes the
	 * first segments from under the reader */
	old.options.retention_bytes = 2 * b->options.file_bytes;
	old.options.inflight = 65536;
	old.options.cores_count = 0;
	r = bench_topic_make(&old);
	if (r == 0)
		r = local_open(b, &bus, &old.err);
	if (r == 0)
		r = old_bytes(bus, name, &bytes, &old.err);
	if (r == 0 && bytes < b->options.file_bytes)
		r = old_fill(&old, bus, name);
	hfb_bus_close(bus);
	b->err = old.err;
	return r;
}
