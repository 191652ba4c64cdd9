/* SPDX-License-Identifier: Apache-2.0 */
#include "log_rig.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <hfbus/limits.h>

#include "batch.h"
#include "clock.h"
#include "crc32c.h"
#include "hfb_test_main.h"
#include "store_private.h"

#define PATIENCE_NS 20000000000ull

static void
advanced(void *arg, struct hfb_log *log)
{
	struct rig *rig = arg;

	rig->advanced++;
}

static int
log_open(struct rig *rig)
{
	const struct rig_config *c = &rig->config;
	struct hfb_store_config store = {
		.data_dir = rig->data_dir,
		.sync = c->sync,
		.tail = c->tail,
		.helper_cpu = -1,
		.segment_bytes_first = c->segment_bytes_first != 0 ? c->segment_bytes_first
								   : HFB_SEGMENT_BYTES_MIN,
		.journal_logs_min = c->journal_logs_min,
		.journal_file_bytes = c->journal_file_bytes,
		.helper_manual = !c->helper_thread,
	};
	struct hfb_writer_config writer = {
		.logs_max = 32, .producers_max = 1024, .advanced = advanced, .arg = rig
	};
	struct hfb_log_config log = {
		.topic = "rig",
		.topic_uuid = rig->topic,
		.commit_stage = c->commit_stage,
		.ring_bytes_max = c->ring_bytes_max,
		.segment_bytes_max = c->segment_bytes_max,
		.retention_bytes = c->retention_bytes,
		.retention_ns = c->retention_ns,
		.cleanup = rig->config.cleanup,
		.tombstone_ns = rig->config.tombstone_ns,
		.positions = rig->positions,
		.user = rig,
	};
	int r;

	memset(rig->positions, 0, sizeof(*rig->positions));
	rig->err.text[0] = '\0';
	r = hfb_store_open(&store, c->env, &rig->store, &rig->err);
	if (r == 0)
		r = hfb_store_epoch_begin(rig->store, &rig->epoch, &rig->err);
	log.leader_epoch = rig->epoch;
	if (r == 0)
		r = hfb_writer_create(rig->store, &writer, &rig->writer, &rig->err);
	if (r == 0)
		r = hfb_log_open(rig->store, &log, &rig->log, &rig->report, &rig->err);
	if (r == 0)
		hfb_writer_attach(rig->writer, rig->log);
	return r;
}

static void
log_close(struct rig *rig)
{
	/* the helper first, which may be in the middle of something */
	hfb_writer_destroy(rig->writer);
	hfb_log_close(rig->log);
	hfb_store_close(rig->store);
	rig->log = NULL;
	rig->writer = NULL;
	rig->store = NULL;
}

int
rig_open(struct rig *rig, const char *name, const struct rig_config *config)
{
	int r;

	memset(rig, 0, sizeof(*rig));
	rig->config = *config;
	if (config->data_dir != NULL)
		snprintf(rig->data_dir, sizeof(rig->data_dir), "%s", config->data_dir);
	else
		snprintf(rig->data_dir, sizeof(rig->data_dir), "%s/%s", hfb_test_folder(), name);
	memset(rig->topic.bytes, 0x5a, sizeof(rig->topic.bytes));
	rig->positions = aligned_alloc(64, sizeof(*rig->positions));
	r = log_open(rig);
	if (r < 0)
		rig_close(rig);
	return r;
}

void
rig_open_begun(struct rig *rig, const char *name, const struct rig_config *config)
{
	CU_ASSERT_EQUAL_FATAL(rig_open(rig, name, config), 0);
	CU_ASSERT_TRUE_FATAL(rig_append(rig, 64));
	CU_ASSERT_TRUE_FATAL(rig_drain(rig));
}

bool
rig_logs_close(struct hfb_store *store, struct hfb_writer *writer, struct hfb_log **logs,
	       uint32_t count)
{
	uint64_t until = hfb_clock_now_ns() + PATIENCE_NS;
	uint32_t left = count;

	for (uint32_t i = 0; i < count; i++)
		hfb_writer_detach(writer, logs[i], true);
	while (left > 0 && hfb_clock_now_ns() < until) {
		hfb_writer_poll(writer, hfb_clock_now_ns());
		hfb_store_help(store);
		left = 0;
		for (uint32_t i = 0; i < count; i++)
			left += !hfb_writer_detached(writer, logs[i]);
	}
	for (uint32_t i = 0; left == 0 && i < count; i++)
		hfb_log_close(logs[i]);
	return left == 0;
}

bool
rig_detach(struct rig *rig, bool end_mark)
{
	uint64_t until = hfb_clock_now_ns() + PATIENCE_NS;

	hfb_writer_detach(rig->writer, rig->log, end_mark);
	while (!hfb_writer_detached(rig->writer, rig->log)) {
		rig_poll(rig);
		if (hfb_clock_now_ns() > until)
			return false;
	}
	return true;
}

void
rig_close(struct rig *rig)
{
	log_close(rig);
	free(rig->positions);
	rig->positions = NULL;
}

int
rig_reopen(struct rig *rig, bool clean)
{
	if (!rig_detach(rig, clean))
		return -1;
	log_close(rig);
	return log_open(rig);
}

int
rig_crash(struct rig *rig)
{
	log_close(rig);
	return log_open(rig);
}

int64_t
rig_read(struct rig *rig, uint32_t buffer_bytes)
{
	uint64_t from = hfb_log_start(rig->log), position = from;
	uint64_t end = hfb_log_position(rig->log, HFB_STAGE_DURABLE);
	struct hfb_read read = { .buffer = aligned_alloc(4096, buffer_bytes),
				 .buffer_bytes = buffer_bytes };
	uint8_t *all = malloc(end - from + 8);
	struct hfb_batch_view view;
	struct hfb_walk walk;
	int64_t bytes = -1;
	int r = 0;

	while (position < end && r == 0) {
		r = hfb_log_read_start(rig->log, position, &read);
		for (int i = 0; r == 0 && read.busy && i < 1000000; i++)
			rig_poll(rig);
		if (r == 0 && (read.error < 0 || read.data_bytes == 0))
			r = read.error < 0 ? read.error : -EIO;
		if (r == 0) {
			memcpy(all + (position - from), read.data, read.data_bytes);
			position += read.data_bytes;
		}
	}
	if (r < 0)
		fprintf(stderr, "read at %" PRIu64 ": %s\n", position, strerror(-r));
	hfb_walk_init(&walk, hfb_batch_seed(&rig->topic, 0), from, all, end - from);
	while (r == 0 && hfb_walk_next(&walk, HFB_CHECK_ALL, &view) == HFB_FAULT_NONE)
		;
	if (r == 0 && walk.left == 0)
		bytes = (int64_t)(end - from);
	free(all);
	free(read.buffer);
	return bytes;
}

uint32_t
rig_poll(struct rig *rig)
{
	uint32_t work = hfb_writer_poll(rig->writer, hfb_clock_now_ns());

	if (!rig->config.helper_thread)
		work += hfb_store_help(rig->store);
	if (work == 0)
		sched_yield();
	return work;
}

void
rig_payload(uint64_t number, uint8_t *to, uint32_t bytes)
{
	uint64_t x = number * 0x9e3779b97f4a7c15ull;
	/* one record, whose time is the number */
	struct hfb_record record = { .value_size = bytes - HFB_RECORD_HEADER_BYTES,
				     .key_size = HFB_KEY_NULL,
				     .event_time_ns = (int64_t)number };
	uint64_t words[2];

	memcpy(words, &record, sizeof(words));
	for (uint32_t i = 0; i < bytes; i += 8) {
		uint64_t word;

		x += 0x632be59bd9b4e019ull;
		word = i < 16 ? words[i / 8] : x ^ x >> 29;
		memcpy(to + i, &word, bytes - i < 8 ? bytes - i : 8);
	}
}

enum hfb_log_refusal
rig_try(struct rig *rig, uint32_t payload_bytes, bool reserve)
{
	enum hfb_log_refusal why = HFB_LOG_OK;
	struct hfb_batch_meta meta = {
		.size = HFB_BATCH_HEADER_BYTES + payload_bytes,
		.count = 1,
		.timestamp_ns = hfb_clock_now_ns(),
		.base_sequence = rig->batches,
		.end_sequence = rig->batches + 1,
		.producer_id = 77,
	};
	struct hfb_appended appended;
	uint8_t *at = hfb_log_claim(rig->log, meta.size, reserve, &why);

	if (at == NULL)
		return why;
	rig_payload(rig->batches, at + HFB_BATCH_HEADER_BYTES, payload_bytes);
	meta.payload_crc = hfb_crc32c(0, at + HFB_BATCH_HEADER_BYTES, payload_bytes);
	hfb_log_append(rig->log, &meta, &appended);
	rig->batches++;
	return HFB_LOG_OK;
}

bool
rig_append_to(struct hfb_log *log, uint64_t number, uint32_t payload_bytes)
{
	struct hfb_batch_meta meta = { .size = HFB_BATCH_HEADER_BYTES + payload_bytes,
				       .count = 1,
				       .timestamp_ns = hfb_clock_now_ns() };
	struct hfb_appended appended;
	enum hfb_log_refusal why;
	uint8_t *at = hfb_log_claim(log, meta.size, false, &why);

	if (at == NULL)
		return false;
	rig_payload(number, at + HFB_BATCH_HEADER_BYTES, payload_bytes);
	meta.payload_crc = hfb_crc32c(0, at + HFB_BATCH_HEADER_BYTES, payload_bytes);
	hfb_log_append(log, &meta, &appended);
	return true;
}

bool
rig_append(struct rig *rig, uint32_t payload_bytes)
{
	uint64_t until = 0;

	for (;;) {
		enum hfb_log_refusal why = rig_try(rig, payload_bytes, false);

		if (why == HFB_LOG_OK)
			return true;
		if (why == HFB_LOG_IO_ERROR || why == HFB_LOG_TOO_LARGE)
			return false;
		if (until == 0)
			until = hfb_clock_now_ns() + PATIENCE_NS;
		else if (hfb_clock_now_ns() > until)
			return false;
		rig_poll(rig);
	}
}

void
rig_core_poll(struct rig *rig)
{
	hfb_writer_poll(rig->writer, hfb_clock_now_ns());
}

void
rig_append_alone(struct rig *rig, uint32_t payload_bytes)
{
	for (int i = 0; i < 100; i++) {
		if (rig_try(rig, payload_bytes, false) == HFB_LOG_OK)
			return;
		hfb_prepare_ring(rig->log);
		rig_core_poll(rig);
	}
	CU_FAIL_FATAL("no room");
}

void
rig_polls(struct rig *rig, int n)
{
	while (n-- > 0)
		rig_poll(rig);
}

bool
rig_drain(struct rig *rig)
{
	uint64_t until = hfb_clock_now_ns() + PATIENCE_NS;

	do {
		rig_poll(rig);
		if (hfb_clock_now_ns() > until)
			return false;
	} while (hfb_log_position(rig->log, HFB_STAGE_DURABLE) !=
		 hfb_log_position(rig->log, HFB_STAGE_RECEIVED));
	return true;
}

static bool
batch_check(const struct hfb_batch_view *view, uint64_t *number)
{
	uint8_t *want;
	bool same;

	if (view->control != 0)
		return true;
	want = malloc(view->payload_bytes + 8);
	rig_payload(view->header.base_sequence, want, view->payload_bytes);
	same = memcmp(want, view->payload, view->payload_bytes) == 0;
	free(want);
	if (!same)
		fprintf(stderr, "batch %" PRIu64 " at %" PRIu64 ": payload differs\n",
			view->header.base_sequence, view->position);
	if (*number != UINT64_MAX && view->header.base_sequence != *number + 1) {
		fprintf(stderr, "batch %" PRIu64 " follows %" PRIu64 "\n",
			view->header.base_sequence, *number);
		same = false;
	}
	*number = view->header.base_sequence;
	return same;
}

int64_t
rig_check(struct rig *rig)
{
	uint64_t position = hfb_log_start(rig->log), number = UINT64_MAX, offset = UINT64_MAX;
	uint64_t end = hfb_log_position(rig->log, HFB_STAGE_DURABLE);
	uint32_t seed = hfb_batch_seed(&rig->topic, 0);
	int64_t seen = 0;

	while (position < end) {
		struct hfb_segment_info info;
		struct hfb_batch_view view;
		struct hfb_walk walk;
		uint8_t *bytes;
		uint64_t size;
		enum hfb_fault fault;
		int fd = hfb_log_segment_open(rig->log, position, &info);

		if (fd < 0) {
			fprintf(stderr, "no segment at %" PRIu64 "\n", position);
			return -1;
		}
		size = info.base_position + info.capacity_bytes;
		size = (size < end ? size : end) - position;
		bytes = malloc(size);
		if (pread(fd, bytes, size,
			  (off_t)(HFB_SEGMENT_HEADER_BYTES + position - info.base_position)) !=
		    (ssize_t)size)
			fprintf(stderr, "short segment\n");
		hfb_env_close(rig->config.env != NULL ? rig->config.env : hfb_env_real(), fd);
		hfb_walk_init(&walk, seed, position, bytes, size);
		while ((fault = hfb_walk_next(&walk, HFB_CHECK_ALL, &view)) == HFB_FAULT_NONE) {
			if (!batch_check(&view, &number) ||
			    (offset != UINT64_MAX && view.header.base_offset != offset)) {
				fprintf(stderr,
					"at %" PRIu64 ": offset %" PRIu64 ", not %" PRIu64 "\n",
					view.position, view.header.base_offset, offset);
				free(bytes);
				return -1;
			}
			offset = view.header.base_offset + view.header.count;
			seen += view.control == 0;
		}
		free(bytes);
		if (fault != HFB_FAULT_END) {
			fprintf(stderr, "at %" PRIu64 " of %" PRIu64 "..%" PRIu64 ": %s\n",
				walk.position, position, end, hfb_fault_name(fault));
			return -1;
		}
		position += size;
	}
	return seen;
}
