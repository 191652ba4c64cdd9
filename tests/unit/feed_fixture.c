/* SPDX-License-Identifier: Apache-2.0 */
#include "feed_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_eal.h>
#include <rte_mbuf.h>

#include "bug.h"
#include "batch.h"
#include "clock.h"
#include "counters.h"
#include "crc32c.h"
#include "hfb_test_main.h"

#define LOG_BYTES     (64u << 20)
#define SEED	      0x1234u
#define RESERVE_BYTES 4096u
#define POOL_MBUFS    8191u

/* struct hfb_log is storage's; here it is the fixture. */
static struct feed_fixture *
of(const struct hfb_log *log)
{
	return (struct feed_fixture *)(uintptr_t)log;
}

uint8_t *
hfb_log_claim(struct hfb_log *log, uint32_t bytes, bool reserve, enum hfb_log_refusal *ret_why)
{
	struct feed_fixture *f = of(log);
	uint64_t at = f->position, end = (at / f->segment_bytes + 1) * f->segment_bytes;

	hfb_assert(bytes % 8 == 0);
	if (bytes > f->segment_bytes / 4) {
		*ret_why = HFB_LOG_TOO_LARGE;
		return NULL;
	}
	if (at + bytes > end)
		at = end;
	if (f->refusal != HFB_LOG_OK) {
		*ret_why = f->refusal;
		f->refusals++;
		return NULL;
	}
	if (at + bytes + (reserve ? 0 : RESERVE_BYTES) > f->room_end) {
		*ret_why = HFB_LOG_RING_FULL;
		f->refusals++;
		return NULL;
	}
	hfb_assert(at + bytes <= LOG_BYTES);
	f->claimed_at = at;
	f->claimed_bytes = bytes;
	return f->bytes + at;
}

void
hfb_log_append(struct hfb_log *log, const struct hfb_batch_meta *meta,
	       struct hfb_appended *ret_appended)
{
	struct feed_fixture *f = of(log);
	struct hfb_batch batch = {
		.size = meta->size,
		.count = meta->count,
		.version = HFB_BATCH_VERSION,
		.flags = meta->flags,
		.leader_epoch = 1,
		.producer_id = meta->producer_id,
		.base_sequence = meta->base_sequence,
		.timestamp_ns = meta->timestamp_ns,
		.payload_crc = meta->payload_crc,
	};
	uint32_t i = 0;

	hfb_assert(meta->size <= f->claimed_bytes);
	hfb_assert(meta->size % 8 == 0);
	f->claimed_bytes = 0;
	batch.header_crc = hfb_batch_crc(SEED, f->claimed_at, &batch);
	memcpy(f->bytes + f->claimed_at, &batch, sizeof(batch));
	f->position = f->claimed_at + meta->size;
	ret_appended->base_offset = 0;
	ret_appended->end_position = f->position;
	if (meta->producer_id == 0)
		return;
	while (i < f->streams_count && f->stream[i].key != meta->producer_id)
		i++;
	hfb_assert(i < FIXTURE_STREAMS_MAX);
	if (i == f->streams_count)
		f->streams_count++;
	f->stream[i].key = meta->producer_id;
	f->stream[i].next = meta->end_sequence;
}

uint64_t
hfb_log_segment_base(const struct hfb_log *log)
{
	struct feed_fixture *f = of(log);
	uint64_t at = f->claimed_bytes > 0 ? f->claimed_at : f->position;

	return at / f->segment_bytes * f->segment_bytes;
}

uint32_t
hfb_log_batch_bytes_max(const struct hfb_log *log)
{
	return (uint32_t)(of(log)->segment_bytes / 4);
}

bool
hfb_log_stream_next(struct hfb_log *log, uint64_t producer_id, uint64_t *ret_next)
{
	struct feed_fixture *f = of(log);

	for (uint32_t i = 0; i < f->streams_count; i++) {
		if (f->stream[i].key == producer_id) {
			*ret_next = f->stream[i].next;
			return true;
		}
	}
	return false;
}

static struct feed_fixture *fixture;

bool
hfb_handover(struct hfb_core *core, uint16_t to_core, uint16_t kind,
	     const struct hfb_packet *packet, uint32_t handle, uint64_t session, uint16_t feed_line)
{
	fixture->handed++;
	rte_pktmbuf_free(packet->mbuf);
	return true;
}

void
hfb_tx_raw(struct hfb_core *core, uint16_t port, struct rte_mbuf *mbuf)
{
	fixture->sent++;
	fixture->sent_bytes = mbuf->data_len;
	if (mbuf->data_len <= sizeof(fixture->sent_frame))
		memcpy(fixture->sent_frame, rte_pktmbuf_mtod(mbuf, void *), mbuf->data_len);
	rte_pktmbuf_free(mbuf);
}

uint32_t
hfb_run_take(struct hfb_core *core, const struct hfb_queue *queue, struct rte_mbuf **mbufs,
	     uint32_t n)
{
	return 0;
}

void
hfb_session_input(struct hfb_core *core, const struct hfb_packet *packet)
{
	hfb_assert(false); /* the port has no address */
}

static void
eal_start(void)
{
	char *args[] = { (char *)"test_feed",
			 (char *)"--no-huge",
			 (char *)"--no-shconf",
			 (char *)"--no-pci",
			 (char *)"--no-telemetry",
			 (char *)"-m",
			 (char *)"64",
			 (char *)"--log-level=error",
			 (char *)"-l",
			 (char *)"0",
			 NULL };
	static bool started;

	if (started)
		return;
	if (rte_eal_init(10, args) < 0) {
		fprintf(stderr, "EAL does not start here\n");
		exit(HFB_TEST_SKIP);
	}
	hfb_clock_start();
	started = true;
}

static void
run_begin(struct feed_fixture *f)
{
	char path[512];
	struct hfb_err err;

	snprintf(path, sizeof(path), "%s/counters", hfb_test_folder());
	hfb_assert(hfb_counters_create(path, &f->node.counters, &err) == 0);
	if (hfb_feeds_create(&f->core, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	for (uint32_t i = 0; i < f->config.feeds_count; i++)
		hfb_feed_bind(&f->core, i, &f->partition);
}

static void
run_end(struct feed_fixture *f)
{
	hfb_feed_partition_detach(&f->core, &f->partition);
	hfb_feeds_destroy(&f->core);
	hfb_counters_destroy(f->node.counters);
}

struct feed_fixture *
feed_fixture_open(const struct hfb_feed_config *feeds, uint32_t count)
{
	static struct rte_mempool *pool;
	struct feed_fixture *f = calloc(1, sizeof(*f));

	eal_start();
	if (pool == NULL)
		pool = rte_pktmbuf_pool_create("test_feed", POOL_MBUFS, 0,
					       RTE_ALIGN(sizeof(struct hfb_mbuf_private), 8),
					       RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	hfb_assert(pool != NULL);
	fixture = f;
	f->pool = pool;
	f->bytes = calloc(1, LOG_BYTES);
	f->segment_bytes = 1u << 20;
	f->room_end = LOG_BYTES;
	f->config.feeds_count = count;
	memcpy(f->config.feeds, feeds, count * sizeof(*feeds));
	f->config.ports_count = 1;
	f->node.config = &f->config;
	f->node.ports_count = 1;
	f->node.ports[0].config = &f->config.ports[0];
	f->node.cores_count = 1;
	f->node.cores[0] = &f->core;
	f->core.node = &f->node;
	f->core.stats = f->core_stats;
	f->core.now_ns = hfb_clock_now_ns();
	f->core.queues_count = 1;
	f->core.queues[0].pool = pool;
	f->partition.log = (struct hfb_log *)f;
	run_begin(f);
	return f;
}

void
feed_fixture_close(struct feed_fixture *f)
{
	run_end(f);
	free(f->bytes);
	free(f);
	fixture = NULL;
}

void
feed_fixture_restart(struct feed_fixture *f)
{
	run_end(f);
	f->core.now_ns = hfb_clock_now_ns();
	run_begin(f);
}

void
feed_fixture_datagram(struct feed_fixture *f, uint16_t line, const uint8_t *payload, uint32_t bytes,
		      uint64_t port_time_ns)
{
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(f->pool);
	struct hfb_packet packet = { .mbuf = mbuf,
				     .port_time_ns = port_time_ns,
				     .payload_bytes = bytes };
	uint8_t *to;

	hfb_assert(mbuf != NULL);
	to = (uint8_t *)rte_pktmbuf_append(mbuf, (uint16_t)bytes);
	hfb_assert(to != NULL);
	if (bytes > 0)
		memcpy(to, payload, bytes);
	packet.payload = to;
	hfb_feed_input(&f->core, line, &packet);
	rte_pktmbuf_free(mbuf);
}

bool
feed_fixture_frame(struct feed_fixture *f, const uint8_t *frame, uint32_t bytes,
		   uint64_t port_time_ns)
{
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(f->pool);
	struct hfb_packet packet = { 0 };
	int line = -1;
	uint8_t *to;

	hfb_assert(mbuf != NULL);
	to = (uint8_t *)rte_pktmbuf_append(mbuf, (uint16_t)bytes);
	hfb_assert(to != NULL);
	memcpy(to, frame, bytes);
	if (hfb_decode_frame(to, bytes, &packet) < 0) {
		packet.mbuf = mbuf;
		packet.port_time_ns = port_time_ns;
		line = hfb_feed_line_find(&f->core, &packet);
		if (line >= 0)
			hfb_feed_input(&f->core, (uint16_t)line, &packet);
	}
	rte_pktmbuf_free(mbuf);
	return line >= 0;
}

void
feed_fixture_turn(struct feed_fixture *f, uint64_t elapsed_ns)
{
	f->core.now_ns += elapsed_ns;
	hfb_feed_poll(&f->core);
}

uint32_t
feed_fixture_mbufs(const struct feed_fixture *f)
{
	return rte_mempool_in_use_count(f->pool);
}

static void
read_control(struct feed_fixture *f, const struct hfb_batch_view *view)
{
	if (view->control == HFB_CONTROL_GAP && f->gaps_count < FIXTURE_GAPS_MAX) {
		f->gap_key[f->gaps_count] = view->header.producer_id;
		f->gap_order[f->gaps_count] = f->entries++;
		memcpy(&f->gap[f->gaps_count++], view->payload, sizeof(struct hfb_control_gap));
	} else if (view->control == HFB_CONTROL_STREAM_START &&
		   f->starts_count < FIXTURE_STARTS_MAX) {
		memcpy(&f->start[f->starts_count++], view->payload,
		       sizeof(struct hfb_control_stream));
	} else {
		f->sound = false;
	}
}

static void
read_events(struct feed_fixture *f, const struct hfb_batch_view *view)
{
	struct hfb_record_view r;
	uint64_t sequence = view->header.base_sequence;

	for (hfb_record_first(view, &r); hfb_record_next(&r);) {
		if (f->events_count == FIXTURE_EVENTS_MAX) {
			f->sound = false;
			return;
		}
		f->event[f->events_count++] = (struct fixture_event){
			.key = view->header.producer_id,
			.sequence = sequence++,
			.event_time_ns = (uint64_t)r.event_time_ns,
			.port_time_ns = view->port_time_ns,
			.value = r.value,
			.value_size = r.value_size,
			.order = f->entries++,
		};
	}
}

void
feed_fixture_read(struct feed_fixture *f)
{
	uint64_t started[FIXTURE_STREAMS_MAX] = { 0 }, segment = UINT64_MAX, at = 0;
	uint32_t started_count = 0;

	f->events_count = f->gaps_count = f->starts_count = f->batches_count = f->entries = 0;
	f->sound = true;
	while (at < f->position) {
		struct hfb_batch_view view;
		bool known = false;

		if (at / f->segment_bytes != segment) {
			segment = at / f->segment_bytes;
			started_count = 0;
		}
		if (hfb_batch_parse(SEED, at, f->bytes + at, f->position - at, HFB_CHECK_ALL,
				    &view) != HFB_FAULT_NONE) {
			/* what storage would have padded */
			if (at % f->segment_bytes != 0 &&
			    (segment + 1) * f->segment_bytes < f->position) {
				at = (segment + 1) * f->segment_bytes;
				continue;
			}
			f->sound = false;
			return;
		}
		f->batches_count++;
		at += view.header.size;
		if (view.control == HFB_CONTROL_STREAM_START && started_count < FIXTURE_STREAMS_MAX)
			started[started_count++] = view.header.producer_id;
		for (uint32_t i = 0; i < started_count; i++)
			known = known || started[i] == view.header.producer_id;
		if (view.header.producer_id != 0 && !known)
			f->sound = false;
		if (view.control != 0)
			read_control(f, &view);
		else
			read_events(f, &view);
	}
}
