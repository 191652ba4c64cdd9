/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch.h"
#include "bug.h"
#include "compacted.h"
#include "crc32c.h"
#include "env.h"
#include "scan.h"
#include "segment.h"
#include "sim_disk.h"
#include "tally.h"
#include "uuid.h"
#include "world.h"

struct reading {
	struct world *world;
	uint32_t partition;
	const char *folder;
	uint64_t start, end; /* positions, as recovery says */
	uint64_t offset;     /* next expected */
	uint64_t position;
	bool begun, compacted;
	uint64_t key_seen[KEYS]; /* offset + 1 of the last one there */
};

static void
read_records(struct reading *g, const struct hfb_batch_view *v)
{
	const struct truth *t = &g->world->truths[g->partition];
	struct hfb_record_view r;

	for (hfb_record_first(v, &r); hfb_record_next(&r);) {
		uint64_t offset = v->header.base_offset + r.index;
		const struct event *e = offset < t->count ? &t->events[offset] : NULL;

		total.events_checked++;
		if (e == NULL || !event_is(&r, e) ||
		    v->header.producer_id != producer_id(g->partition, e->producer) ||
		    v->header.base_sequence + r.index != e->sequence)
			fail("partition %u: offset %" PRIu64 " is not what was appended there",
			     g->partition, offset);
		else if (g->partition == COMPACTED)
			g->key_seen[event_key(e)] = offset + 1;
	}
}

/* Batches one after the other, as far as the log goes. */
static void
read_batches(struct reading *g, struct hfb_walk *walk, const char *path, uint64_t base)
{
	struct hfb_batch_view v;
	enum hfb_fault fault;

	while (walk->position < g->end) {
		fault = hfb_walk_next(walk, HFB_CHECK_ALL, &v);
		if (fault == HFB_FAULT_END)
			break;
		if (fault != HFB_FAULT_NONE) {
			fail("partition %u: recovered up to %" PRIu64 ", but %s at %" PRIu64,
			     g->partition, g->end, hfb_fault_name(fault), walk->position);
			fail_at(path, HFB_SEGMENT_HEADER_BYTES + walk->position - base);
			break;
		}
		if (v.header.base_offset != g->offset && v.position == g->start)
			g->offset = v.header.base_offset;
		/* compaction leaves holes, and never goes back */
		if (g->compacted && v.header.base_offset > g->offset)
			g->offset = v.header.base_offset;
		if (v.header.base_offset != g->offset) {
			fail("partition %u: offset %" PRIu64 " where %" PRIu64 " was due",
			     g->partition, v.header.base_offset, g->offset);
			g->offset = v.header.base_offset;
		}
		read_records(g, &v);
		g->offset += v.header.count;
	}
	g->position = walk->position;
}

/* A compacted one: the same in pieces. */
static void
read_compacted(struct reading *g, const uint8_t *bytes, uint64_t size, const char *path)
{
	struct hfb_uuid topic = topic_uuid();
	struct hfb_compacted_header head;
	struct hfb_compacted_extent *entries;
	struct hfb_segment_header h;
	struct hfb_walk walk;

	memcpy(&h, bytes, sizeof(h));
	if (hfb_compacted_head(bytes, size, &h, &head) < 0 ||
	    size < HFB_SEGMENT_HEADER_BYTES + head.data_bytes +
			    (head.extents_count + 1) * sizeof(*entries)) {
		fail("partition %u: %s is no whole compacted segment", g->partition, path);
		return;
	}
	entries = (void *)(uintptr_t)(bytes + HFB_SEGMENT_HEADER_BYTES + head.data_bytes);
	if (!hfb_extents_check(&h, &head, entries)) {
		fail("partition %u: %s has bad extents", g->partition, path);
		return;
	}
	total.compacted_files++;
	for (uint32_t i = 0; i < head.extents_count; i++) {
		hfb_walk_init(&walk, hfb_batch_seed(&topic, g->partition), entries[i].position,
			      bytes + HFB_SEGMENT_HEADER_BYTES + entries[i].at,
			      entries[i + 1].at - entries[i].at);
		g->compacted = true;
		read_batches(g, &walk, path, h.base_position);
		g->compacted = false;
	}
	total.compacted_events += head.end_offset - head.base_offset;
	g->offset = head.end_offset;
	g->position = h.base_position + h.capacity_bytes;
}

/* One segment of the list, which comes in the order of names. */
static void
read_segment(void *arg, const char *name, bool is_folder)
{
	struct reading *g = arg;
	struct hfb_uuid topic = topic_uuid();
	struct hfb_segment_header header;
	struct hfb_walk walk;
	uint64_t base, size;
	char path[1024];
	uint8_t *bytes;

	if (is_folder || !hfb_segment_name_parse(name, &base) || base >= g->end || base < g->start)
		return;
	if (g->begun && base != g->position) {
		fail("partition %u: no segment at %" PRIu64, g->partition, g->position);
		g->position = base;
	}
	g->begun = true;
	snprintf(path, sizeof(path), "%s/%s", g->folder, name);
	bytes = sim_disk_read(g->world->disk, path, &size);
	hfb_assert(bytes != NULL);
	if (size < HFB_SEGMENT_HEADER_BYTES)
		size = HFB_SEGMENT_HEADER_BYTES;
	hfb_walk_init(&walk, hfb_batch_seed(&topic, g->partition), base,
		      bytes + HFB_SEGMENT_HEADER_BYTES, size - HFB_SEGMENT_HEADER_BYTES);
	memcpy(&header, bytes, sizeof(header));
	if (header.kind == HFB_SEGMENT_COMPACTED && header.magic == HFB_SEGMENT_MAGIC)
		read_compacted(g, bytes, size, path);
	else
		read_batches(g, &walk, path, base);
	free(bytes);
}

void
check_log(struct world *w, uint32_t partition, const struct hfb_log_report *report)
{
	struct truth *t = &w->truths[partition];
	struct hfb_uuid topic = topic_uuid();
	char folder[512], text[HFB_UUID_TEXT_BYTES];
	struct reading g = { .world = w,
			     .partition = partition,
			     .folder = folder,
			     .start = report->start_position,
			     .end = report->end_position };

	hfb_uuid_format(&topic, text);
	snprintf(folder, sizeof(folder), DATA "/topics/t/%s/%u", text, partition);
	if (report->corrupt_count != 0)
		fail("partition %u: called corrupt at %" PRIu64 " (%s)", partition,
		     report->corrupt_position, report->corrupt_path);
	if (report->end_offset < t->acked)
		fail("partition %u: %" PRIu64 " events were acked, %" PRIu64 " are left", partition,
		     t->acked, report->end_offset);
	if (report->end_offset > t->count)
		fail("partition %u: %" PRIu64 " events were appended, %" PRIu64 " are there",
		     partition, t->count, report->end_offset);
	/* Retention keeps at least its bytes, as of an end that may have been lost since. */
	if (report->start_position != 0 &&
	    (partition != 0 ||
	     report->end_position - report->start_position + HFB_RING_BYTES_MIN < RETENTION_BYTES))
		fail("partition %u: starts at %" PRIu64 ", ends at %" PRIu64, partition,
		     report->start_position, report->end_position);
	(void)hfb_env_list(sim_disk_env(w->disk), folder, read_segment, &g);
	if (g.begun && g.position < report->end_position)
		fail("partition %u: files end at %" PRIu64 ", the log at %" PRIu64, partition,
		     g.position, report->end_position);
	if (g.begun && g.offset != report->end_offset)
		fail("partition %u: %" PRIu64 " events are there, recovery says %" PRIu64,
		     partition, g.offset, report->end_offset);
	for (uint64_t i = 0; partition == COMPACTED && i < report->end_offset && i < t->count; i++)
		if (g.key_seen[event_key(&t->events[i])] < i + 1)
			fail("partition %u: offset %" PRIu64 " was the last of key %u and is gone",
			     partition, i, event_key(&t->events[i]));
	total.acked_checked += t->acked;
}

void
check_producers(struct world *w, uint32_t partition)
{
	struct truth *t = &w->truths[partition];
	uint64_t expected;

	for (uint32_t p = 0; p < PRODUCERS; p++) {
		uint64_t next = truth_sequence_after(t, p, t->count);
		uint32_t window = next < 5 ? (uint32_t)next : 5;
		uint64_t id = producer_id(partition, p);
		enum hfb_sequence_verdict verdict;

		if (window > 0) {
			verdict = hfb_log_sequence_check(w->logs[partition], id, 0, next - window,
							 window, &expected);
			if (verdict != HFB_SEQUENCE_DUPLICATE)
				fail("partition %u: producer %u sends %" PRIu64
				     " again and is told %d, not duplicate",
				     partition, p, next - window, (int)verdict);
		}
		verdict = hfb_log_sequence_check(w->logs[partition], id, 0, next, 1, &expected);
		if (verdict != HFB_SEQUENCE_NEXT)
			fail("partition %u: producer %u goes on at %" PRIu64
			     " and is told %d (expected %" PRIu64 ")",
			     partition, p, next, (int)verdict, expected);
	}
}
