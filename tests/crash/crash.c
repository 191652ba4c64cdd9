/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash - does what was acked durable survive a power failure at any moment?
 *
 *	crash [--images N] [--seed N] [--sync auto|dsync|fdatasync]
 *	      [--journal auto|on|off] [--expect-failure]
 *
 * The real store, logs and writer run on a disk that remembers every write, sync
 * and name operation in order (sim_disk.h): some partitions and producers, rolls,
 * recycling by retention, the journal that they share, clean stops and kills. Noted beside: what
 *was appended when, and what was acked durable when. Then images are made of what the disk may hold
 *had the power failed at some moment, and each is recovered by the real recovery:
 *
 *   - every event acked by then is there, unchanged, at its offset, once;
 *   - nothing else is there but events appended by then, in order;
 *   - nothing is called corrupt: power failures corrupt nothing;
 *   - a producer that sends its last window again adds nothing, and goes on;
 *   - of the partition that is compacted meanwhile, the last event of each key.
 *
 * Some images are worked on and crashed again, so that leftovers of one crash
 * meet the recovery of the next.
 *
 * Prints one JSON object. Exit 0: no failure, 1: failures, 2: usage. With
 * --expect-failure (builds with a planted bug) 0 and 1 are exchanged.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "bug.h"
#include "batch.h"
#include "crc32c.h"
#include "compacted.h"
#include "log.h"
#include "scan.h"
#include "sim_disk.h"
#include "store.h"
#include "store_private.h"
#include "writer.h"

#define DATA		"/data"
#define PARTITIONS	6u /* the later ones: little each, for the journal */
#define PRODUCERS	3u /* a partition */
#define COMPACTED	1u /* the partition that is */
#define KEYS		25u
#define SEGMENT_BYTES	HFB_SEGMENT_BYTES_MIN
#define RETENTION_BYTES (2u * HFB_SEGMENT_BYTES_MIN)
#define IMAGES_A_WORLD	50u
#define WAIT_NS_MAX	20000000000ull

static struct {
	uint64_t images, again, worlds, failures, acked_checked, events_checked, operations, rolls,
		recycled, kills, breaches, compacted_files, compacted_events, journal_groups;
	char first[512];
} total;

static enum hfb_sync_mode sync_asked = HFB_SYNC_AUTO; /* auto: both in turn */
static enum hfb_sync_mode sync_mode;
static enum { JOURNAL_AUTO, JOURNAL_ON, JOURNAL_OFF } journal_asked; /* auto: both in turn */
static bool journal_on;
static bool leisurely; /* topics commit at `received`, and only now and then somebody waits */
static bool verbose;

/* Where the first failure of an image was seen, to be explained. */
static char suspect_path[1024];
static uint64_t suspect_offset;

static void __attribute__((format(printf, 1, 2))) fail(const char *format, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (total.failures++ == 0)
		memcpy(total.first, text, sizeof(text));
	if (verbose && total.failures <= 20)
		fprintf(stderr, "failure: %s\n", text);
}

/* Truth. -------------------------------------------------------------------------- */

/* One event as it was appended; its offset is its place in the array. */
struct event {
	uint64_t id; /* unlike any other's; the payload follows from it */
	uint64_t sequence;
	uint32_t producer, bytes;
	uint64_t end_position; /* of its batch */
};

enum note_kind { NOTE_APPEND, NOTE_ACK, NOTE_CUT };
struct note {
	uint64_t at; /* the disk's operation count */
	enum note_kind kind;
	uint32_t partition;
	uint64_t value; /* ack, cut: an offset */
	struct event event;
};

struct truth {
	struct event *events;
	uint64_t count, max;
	uint64_t acked; /* offsets below are durable */
};

struct world {
	struct sim_disk *disk;
	uint64_t random, ahead_ns;
	struct note *notes;
	uint64_t notes_count, notes_max;
	struct truth truths[PARTITIONS];
	uint64_t starts[PARTITIONS];
	struct hfb_store *store;
	struct hfb_writer *writer;
	struct hfb_log *logs[PARTITIONS];
	struct hfb_positions *positions;
	bool failed; /* gave up: something was not as it must be */
};

static uint64_t id_next = 1;

static struct hfb_uuid
topic_uuid(void)
{
	return (struct hfb_uuid){ { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 } };
}

static uint64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static uint64_t
producer_id(uint32_t partition, uint32_t producer)
{
	return 0x1000 + partition * 16 + producer;
}

static void
truth_add(struct truth *t, const struct event *e)
{
	if (t->count == t->max) {
		t->max = t->max == 0 ? 1024 : t->max * 2;
		t->events = realloc(t->events, t->max * sizeof(*t->events));
		hfb_assert(t->events != NULL);
	}
	t->events[t->count++] = *e;
}

static void
truth_apply(struct truth *t, const struct note *n)
{
	switch (n->kind) {
	case NOTE_APPEND:
		truth_add(t, &n->event);
		break;
	case NOTE_ACK:
		t->acked = n->value;
		break;
	case NOTE_CUT:
		t->count = n->value;
		break;
	}
}

static void
note(struct world *w, enum note_kind kind, uint32_t partition, uint64_t value,
     const struct event *event)
{
	struct note *n;

	if (w->notes_count == w->notes_max) {
		w->notes_max = w->notes_max == 0 ? 4096 : w->notes_max * 2;
		w->notes = realloc(w->notes, w->notes_max * sizeof(*w->notes));
		hfb_assert(w->notes != NULL);
	}
	n = &w->notes[w->notes_count++];
	memset(n, 0, sizeof(*n));
	n->at = sim_disk_now(w->disk);
	n->kind = kind;
	n->partition = partition;
	n->value = value;
	if (event != NULL)
		n->event = *event;
	truth_apply(&w->truths[partition], n);
}

/* The next sequence of a producer, as the first @count events leave it. */
static uint64_t
sequence_after(const struct truth *t, uint32_t producer, uint64_t count)
{
	for (uint64_t i = count; i-- > 0;)
		if (t->events[i].producer == producer)
			return t->events[i].sequence + 1;
	return 0;
}

static void
payload_fill(uint8_t *to, uint64_t id, uint32_t bytes)
{
	uint64_t x = id * 0x9e3779b97f4a7c15ull + 1;

	memcpy(to, &id, 8);
	for (uint32_t i = 8; i < bytes; i++)
		to[i] = (uint8_t)(sim_random(&x) >> 56);
}

/* Is the record that event? */
static bool
payload_is(const struct hfb_record_view *r, const struct event *e)
{
	uint8_t expected[4096];

	if (r->value == NULL || r->value_size != e->bytes)
		return false;
	payload_fill(expected, e->id, e->bytes);
	return memcmp(expected, r->value, e->bytes) == 0;
}

/* Check what is on the disk. --------------------------------------------------------- */

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

static uint32_t
key_of(const struct event *e)
{
	return (uint32_t)(e->id * 0x9e3779b97f4a7c15ull >> 40) % KEYS;
}

/* Batches one after the other, as far as the log goes. */
static void
read_batches(struct reading *g, struct hfb_walk *walk, const char *path, uint64_t base)
{
	struct truth *t = &g->world->truths[g->partition];
	struct hfb_batch_view v;
	struct hfb_record_view r;
	enum hfb_fault fault;

	while (walk->position < g->end) {
		fault = hfb_walk_next(walk, HFB_CHECK_ALL, &v);
		if (fault == HFB_FAULT_END)
			break;
		if (fault != HFB_FAULT_NONE) {
			fail("partition %u: recovered up to %" PRIu64 ", but %s at %" PRIu64,
			     g->partition, g->end, hfb_fault_name(fault), walk->position);
			snprintf(suspect_path, sizeof(suspect_path), "%s", path);
			suspect_offset = HFB_SEGMENT_HEADER_BYTES + walk->position - base;
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
		for (hfb_record_first(&v, &r); hfb_record_next(&r);) {
			uint64_t offset = v.header.base_offset + r.index;

			total.events_checked++;
			if (offset >= t->count || !payload_is(&r, &t->events[offset]) ||
			    v.header.producer_id !=
				    producer_id(g->partition, t->events[offset].producer) ||
			    v.header.base_sequence + r.index != t->events[offset].sequence)
				fail("partition %u: offset %" PRIu64
				     " is not what was appended there",
				     g->partition, offset);
			else if (g->partition == COMPACTED)
				g->key_seen[key_of(&t->events[offset])] = offset + 1;
		}
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

static void
check_log(struct world *w, uint32_t partition, const struct hfb_log_report *report)
{
	struct truth *t = &w->truths[partition];
	struct hfb_uuid topic = topic_uuid();
	char folder[512], text[64];
	struct reading g = { .world = w,
			     .partition = partition,
			     .folder = folder,
			     .start = report->start_position,
			     .end = report->end_position };
	uint32_t n = 0;

	for (int i = 0; i < 16; i++)
		n += (uint32_t)snprintf(text + n, sizeof(text) - n,
					i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x",
					topic.bytes[i]);
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
		if (g.key_seen[key_of(&t->events[i])] < i + 1)
			fail("partition %u: offset %" PRIu64 " was the last of key %u and is gone",
			     partition, i, key_of(&t->events[i]));
	total.acked_checked += t->acked;
}

/* The dedup state is that of the events that are left. */
static void
check_dedup(struct world *w, uint32_t partition)
{
	struct truth *t = &w->truths[partition];
	uint64_t expected;

	for (uint32_t p = 0; p < PRODUCERS; p++) {
		uint64_t next = sequence_after(t, p, t->count);
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

/*
 * Where nobody waits writes go in strides of milliseconds, and who waits does so for a second:
 * a clock that runs ahead has all of it come to pass within a short run.
 */
static uint64_t
turn_ns(struct world *w)
{
	if (leisurely)
		w->ahead_ns += sim_random(&w->random) % 2000000;
	if (leisurely && sim_random(&w->random) % 500 == 0)
		w->ahead_ns += 1000000000;
	return now_ns() + w->ahead_ns;
}

/* Run. -------------------------------------------------------------------------------- */

static void
acks_note(struct world *w)
{
	for (uint32_t p = 0; p < PARTITIONS; p++) {
		struct truth *t = &w->truths[p];
		uint64_t durable = hfb_log_position(w->logs[p], HFB_STAGE_DURABLE);
		uint64_t start = hfb_log_start(w->logs[p]), acked = t->acked;

		while (acked < t->count && t->events[acked].end_position <= durable)
			acked++;
		if (acked != t->acked)
			note(w, NOTE_ACK, p, acked, NULL);
		if (start != w->starts[p]) {
			w->starts[p] = start;
			total.recycled++;
		}
	}
}

static void
turn(struct world *w)
{
	if (leisurely && sim_random(&w->random) % 200 == 0)
		hfb_log_durable_wanted(w->logs[sim_random(&w->random) % PARTITIONS]);
	hfb_writer_poll(w->writer, turn_ns(w));
	acks_note(w);
	/* compaction has its turn once a round, and rounds are far apart here */
	if (sim_random(&w->random) % 64 == 0) {
		__atomic_store_n(&w->store->round_now, 1, __ATOMIC_RELEASE);
		hfb_store_wake(w->store);
	}
}

/* The helper is another thread: let it run. */
static void
rest(void)
{
	struct timespec t = { 0, 50000 };

	nanosleep(&t, NULL);
}

static bool
world_open(struct world *w)
{
	struct hfb_store_config config = {
		.data_dir = DATA,
		.sync = sync_mode,
		.ring_bytes_default = HFB_RING_BYTES_MIN,
		.segment_bytes_default = SEGMENT_BYTES,
		.helper_cpu = -1,
		/* both ways of making files: one by one, and several together */
		.group_min = (uint32_t)(1 + sim_random(&w->random) % 3),
		.dedup_window_ns = 3600ull * 1000000000ull,
		/* for one log or more, and small, so that its files are gone over again and again
		 */
		.journal_logs_min =
			journal_on ? (uint32_t)(1 + sim_random(&w->random) % 3) : UINT32_MAX,
		.journal_file_bytes = 40960 + 4096 * (sim_random(&w->random) % 8),
	};
	struct hfb_writer_config writer = { .logs_max = PARTITIONS, .producers_max = 256 };
	struct hfb_log_report reports[PARTITIONS];
	struct hfb_err err = { 0 };
	uint32_t epoch;
	int r;

	r = hfb_store_open(&config, sim_disk_env(w->disk), &w->store, &err);
	if (r == 0)
		r = hfb_store_epoch_begin(w->store, &epoch, &err);
	if (r == 0)
		r = hfb_writer_create(w->store, &writer, &w->writer, &err);
	if (r < 0) {
		fail("open: %s", err.text);
		return false;
	}
	if (hfb_store_note(w->store) != NULL)
		fail("called damaged: %s", hfb_store_note(w->store));
	for (uint32_t p = 0; p < PARTITIONS; p++) {
		struct hfb_log_config log = {
			.topic = "t",
			.topic_uuid = topic_uuid(),
			.partition = p,
			.commit_stage = leisurely ? HFB_STAGE_RECEIVED : HFB_STAGE_DURABLE,
			.retention_bytes = p == 0 ? RETENTION_BYTES : 0,
			.cleanup = p == COMPACTED ? HFB_CLEANUP_COMPACT : HFB_CLEANUP_DELETE,
			.segment_bytes_max = SEGMENT_BYTES,
			.ring_bytes_max = HFB_RING_BYTES_MIN,
			.leader_epoch = epoch,
			.positions = &w->positions[p],
		};

		memset(&w->positions[p], 0, sizeof(w->positions[p]));
		memset(&reports[p], 0, sizeof(reports[p]));
		r = hfb_log_open(w->store, &log, &w->logs[p], &reports[p], &err);
		if (r < 0) {
			fail("partition %u: open: %s", p, err.text);
			return false;
		}
		check_log(w, p, &reports[p]);
		hfb_writer_attach(w->writer, w->logs[p]);
		if (reports[p].end_offset > w->truths[p].count ||
		    reports[p].end_offset < w->truths[p].acked)
			return false;
		note(w, NOTE_CUT, p, reports[p].end_offset, NULL);
		if (w->truths[p].acked < reports[p].end_offset)
			note(w, NOTE_ACK, p, reports[p].end_offset, NULL);
		w->starts[p] = hfb_log_start(w->logs[p]);
	}
	for (uint32_t p = 0; p < PARTITIONS; p++)
		check_dedup(w, p);
	return true;
}

static void
world_close(struct world *w, bool clean)
{
	uint64_t began = now_ns();
	bool left = true;

	if (!clean) {
		total.kills++;
		sim_disk_kill(w->disk);
	}
	for (uint32_t p = 0; w->writer != NULL && p < PARTITIONS; p++)
		if (w->logs[p] != NULL)
			hfb_writer_detach(w->writer, w->logs[p], clean);
	while (left && w->writer != NULL) {
		left = false;
		hfb_writer_poll(w->writer, turn_ns(w));
		for (uint32_t p = 0; p < PARTITIONS; p++)
			left |= w->logs[p] != NULL && !hfb_writer_detached(w->writer, w->logs[p]);
		if (left)
			rest();
		if (now_ns() - began > WAIT_NS_MAX) {
			fprintf(stderr, "crash: a log does not let go\n");
			abort();
		}
	}
	for (uint32_t p = 0; p < PARTITIONS; p++) {
		hfb_log_close(w->logs[p]);
		w->logs[p] = NULL;
	}
	if (w->writer != NULL) {
		total.journal_groups += hfb_writer_stats(w->writer)->journal_writes;
		hfb_writer_destroy(w->writer);
	}
	if (w->store != NULL)
		hfb_store_close(w->store);
	w->writer = NULL;
	w->store = NULL;
	if (!clean)
		sim_disk_revive(w->disk);
}

/* One batch; false: no room now. */
static bool
append(struct world *w, uint32_t partition)
{
	struct truth *t = &w->truths[partition];
	uint32_t producer = (uint32_t)(sim_random(&w->random) % PRODUCERS);
	uint32_t count = 1, size = 104, bytes = 0;
	struct hfb_batch_meta meta = { 0 };
	struct hfb_appended appended;
	enum hfb_log_refusal why;
	const uint16_t key_size = partition == COMPACTED ? 4 : HFB_KEY_NULL;
	struct event events[4];
	uint64_t sequence;
	uint8_t *at;

	/* Partition 0 has batches of one size, so that those of a former lap in a
	 * recycled file begin where new ones end. */
	if (partition != 0) {
		count = 1 + (uint32_t)(sim_random(&w->random) % 4);
		size = 8 + (uint32_t)(sim_random(&w->random) % (partition == 1 ? 3000 : 200));
	}
	for (uint32_t i = 0; i < count; i++)
		bytes += (uint32_t)hfb_record_bytes(size, key_size, 0);
	at = hfb_log_claim(w->logs[partition], HFB_BATCH_HEADER_BYTES + bytes, false, &why);
	if (at == NULL)
		return false;
	sequence = sequence_after(t, producer, t->count);
	memset(at + HFB_BATCH_HEADER_BYTES, 0, bytes);
	for (uint32_t i = 0; i < count; i++) {
		struct hfb_record r = { size, key_size, 0, 0 };
		uint8_t *to = at + HFB_BATCH_HEADER_BYTES + i * (bytes / count);

		events[i] = (struct event){ .id = id_next++,
					    .sequence = sequence + i,
					    .producer = producer,
					    .bytes = size };
		memcpy(to, &r, sizeof(r));
		to += sizeof(r);
		if (partition == COMPACTED) {
			uint32_t key = key_of(&events[i]);

			memcpy(to, &key, sizeof(key));
			to += sizeof(key);
		}
		payload_fill(to, events[i].id, size);
	}
	meta.size = HFB_BATCH_HEADER_BYTES + bytes;
	meta.count = count;
	meta.payload_crc = hfb_crc32c(0, at + HFB_BATCH_HEADER_BYTES, bytes);
	meta.producer_id = producer_id(partition, producer);
	meta.base_sequence = sequence;
	meta.end_sequence = sequence + count;
	meta.timestamp_ns = now_ns();
	hfb_log_append(w->logs[partition], &meta, &appended);
	if (appended.base_offset != t->count)
		fail("partition %u: appended at offset %" PRIu64 ", not %" PRIu64, partition,
		     appended.base_offset, t->count);
	for (uint32_t i = 0; i < count; i++) {
		events[i].end_position = appended.end_position;
		note(w, NOTE_APPEND, partition, 0, &events[i]);
	}
	return true;
}

/* With the journal each has a share, so that groups have many logs and files wait. */
static uint32_t
partition_drawn(struct world *w, uint64_t dice)
{
	if (journal_on && dice >= 40)
		return (uint32_t)(dice % PARTITIONS);
	return dice < 90 ? 0 : dice < 97 ? 1 : 2 + (uint32_t)(dice % (PARTITIONS - 2));
}

/* Append about @bytes to partition 0 and less to the others. */
static void
world_work(struct world *w, uint64_t bytes)
{
	uint64_t began = now_ns();
	uint64_t goal = hfb_log_position(w->logs[0], HFB_STAGE_RECEIVED) + bytes;

	while (hfb_log_position(w->logs[0], HFB_STAGE_RECEIVED) < goal) {
		uint32_t burst = (uint32_t)(sim_random(&w->random) % (journal_on ? 12 : 64));
		uint32_t appended = 0;

		for (uint32_t i = 0; i < burst; i++) {
			uint64_t dice = sim_random(&w->random) % 100;

			appended += append(w, partition_drawn(w, dice));
		}
		turn(w);
		if (appended == 0)
			rest();
		if (sim_random(&w->random) % 16 == 0) /* catch up: small writes then */
			for (int i = 0; i < 30; i++)
				turn(w);
		if (now_ns() - began > WAIT_NS_MAX) {
			fail("no room for %llu s", WAIT_NS_MAX / 1000000000ull);
			w->failed = true;
			return;
		}
	}
	for (uint64_t n = sim_random(&w->random) % 40; n > 0; n--)
		turn(w);
}

/* Crash. -------------------------------------------------------------------------------- */

static struct world
world_of(struct sim_disk *disk, uint64_t seed)
{
	struct world w = { .disk = disk, .random = seed | 1 };

	w.positions = aligned_alloc(1024, PARTITIONS * sizeof(*w.positions));
	hfb_assert(w.positions != NULL);
	return w;
}

static void
world_free(struct world *w)
{
	const char *what;

	if (sim_disk_breaches(w->disk, &what) != 0)
		fail("rule broken: %s", what);
	for (uint32_t p = 0; p < PARTITIONS; p++)
		free(w->truths[p].events);
	free(w->notes);
	free(w->positions);
	sim_disk_destroy(w->disk);
}

/* The world after a power failure behind operation @at of @from. */
static struct world
world_crashed(struct world *from, const struct truth *base, uint64_t at, uint64_t seed)
{
	struct world w = world_of(sim_disk_crash(from->disk, at, seed), seed);

	for (uint32_t p = 0; base != NULL && p < PARTITIONS; p++) {
		for (uint64_t i = 0; i < base[p].count; i++)
			truth_add(&w.truths[p], &base[p].events[i]);
		w.truths[p].acked = base[p].acked;
	}
	for (uint64_t i = 0; i < from->notes_count && from->notes[i].at <= at; i++)
		truth_apply(&w.truths[from->notes[i].partition], &from->notes[i]);
	return w;
}

/* Anywhere, or right behind an ack, where losing something is a lie. */
static uint64_t
moment(struct world *w)
{
	uint64_t n = sim_random(&w->random) % (w->notes_count + 1);

	if (sim_random(&w->random) % 2 == 0)
		for (; n < w->notes_count; n++)
			if (w->notes[n].kind == NOTE_ACK)
				return w->notes[n].at;
	return sim_random(&w->random) % (sim_disk_now(w->disk) + 1);
}

static void
image(struct world *from, const struct truth *base, uint32_t depth)
{
	uint64_t at = moment(from), seed = sim_random(&from->random), before = total.failures;
	struct world w = world_crashed(from, base, at, seed);
	struct truth copy[PARTITIONS];
	bool open;

	total.images++;
	/* what the next crash starts from */
	for (uint32_t p = 0; p < PARTITIONS; p++) {
		copy[p] = w.truths[p];
		copy[p].events = malloc((copy[p].count + 1) * sizeof(*copy[p].events));
		hfb_assert(copy[p].events != NULL);
		memcpy(copy[p].events, w.truths[p].events, copy[p].count * sizeof(*copy[p].events));
	}
	open = world_open(&w);
	if (open && depth < 2 && sim_random(&w.random) % 4 == 0) {
		total.again++;
		world_work(&w, 200 + sim_random(&w.random) % 60000);
		world_close(&w, sim_random(&w.random) % 4 == 0);
		for (int i = 0; i < 3; i++)
			image(&w, copy, depth + 1);
	} else {
		world_close(&w, false);
	}
	if (total.failures != before && verbose && suspect_path[0] != '\0') {
		sim_disk_explain(from->disk, suspect_path, suspect_offset);
		suspect_path[0] = '\0';
	}
	if (total.failures != before && verbose)
		fprintf(stderr,
			"  in the image of operation %" PRIu64 ", seed %" PRIu64 ", depth %u\n", at,
			seed, depth);
	for (uint32_t p = 0; p < PARTITIONS; p++)
		free(copy[p].events);
	world_free(&w);
}

static void
world_run(uint64_t seed, uint64_t images)
{
	struct world w = world_of(sim_disk_create(seed), seed);
	struct sim_disk_counts counts;
	int runs = 2 + (int)(seed % 3);

	total.worlds++;
	for (int run = 0; run < runs && !w.failed; run++) {
		if (!world_open(&w)) {
			w.failed = true;
			world_close(&w, false);
			break;
		}
		world_work(&w, run == 0
				       ? 5 * SEGMENT_BYTES
				       : SEGMENT_BYTES / 2 + sim_random(&w.random) % SEGMENT_BYTES);
		world_close(&w, sim_random(&w.random) % 3 == 0);
	}
	sim_disk_counts(w.disk, &counts);
	total.operations += sim_disk_now(w.disk);
	total.rolls += counts.creates;
	for (uint64_t end = total.images + images; !w.failed && total.images < end;)
		image(&w, NULL, 0);
	world_free(&w);
}

static int
usage(FILE *to, int code)
{
	fprintf(to,
		"usage: crash [--images N] [--seed N] [--sync auto|dsync|fdatasync]\n"
		"             [--journal auto|on|off] [--expect-failure] [--verbose]\n"
		"Recovers images of what a power failure may leave. One JSON object on stdout.\n"
		"Exit: 0 no failure, 1 failures (exchanged by --expect-failure), 2 usage.\n");
	return code;
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "images", required_argument, NULL, 'i' },
		{ "seed", required_argument, NULL, 's' },
		{ "sync", required_argument, NULL, 'y' },
		{ "journal", required_argument, NULL, 'j' },
		{ "expect-failure", no_argument, NULL, 'e' },
		{ "verbose", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	uint64_t images = 500, seed = 0, random;
	bool expect_failure = false;
	json_t *json;
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (c) {
		case 'i':
			images = strtoull(optarg, NULL, 0);
			break;
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'y':
			if (strcmp(optarg, "auto") == 0)
				sync_asked = HFB_SYNC_AUTO;
			else if (strcmp(optarg, "dsync") == 0)
				sync_asked = HFB_SYNC_DSYNC;
			else if (strcmp(optarg, "fdatasync") == 0)
				sync_asked = HFB_SYNC_FDATASYNC;
			else
				return usage(stderr, 2);
			break;
		case 'j':
			if (strcmp(optarg, "auto") == 0)
				journal_asked = JOURNAL_AUTO;
			else if (strcmp(optarg, "on") == 0)
				journal_asked = JOURNAL_ON;
			else if (strcmp(optarg, "off") == 0)
				journal_asked = JOURNAL_OFF;
			else
				return usage(stderr, 2);
			break;
		case 'e':
			expect_failure = true;
			break;
		case 'v':
			verbose = true;
			break;
		case 'h':
			return usage(stdout, 0);
		default:
			return usage(stderr, 2);
		}
	}
	if (optind != argc || images == 0)
		return usage(stderr, 2);
	if (seed == 0)
		seed = now_ns();
	fprintf(stderr, "crash: seed %" PRIu64 "\n", seed);
	random = seed | 1;
	while (total.images < images && !(expect_failure && total.failures > 0)) {
		uint64_t left = images - total.images;

		leisurely = total.worlds / 4 % 2 == 1;
		sync_mode = sync_asked;
		/* at leisure with AUTO: from plain writes to synced ones, and back */
		if (sync_asked == HFB_SYNC_AUTO && total.worlds % 2 != 0)
			sync_mode = HFB_SYNC_FDATASYNC;
		else if (sync_asked == HFB_SYNC_AUTO && !leisurely)
			sync_mode = HFB_SYNC_DSYNC;
		journal_on = journal_asked == JOURNAL_AUTO ? total.worlds / 2 % 2 == 0
							   : journal_asked == JOURNAL_ON;
		world_run(sim_random(&random), left < IMAGES_A_WORLD ? left : IMAGES_A_WORLD);
		if (total.images == 0 && total.failures > 0)
			break;
	}
	json = json_pack(
		"{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s}",
		"seed", (json_int_t)seed, "images", (json_int_t)total.images, "crashed_again",
		(json_int_t)total.again, "worlds", (json_int_t)total.worlds, "operations",
		(json_int_t)total.operations, "files_created", (json_int_t)total.rolls, "retired",
		(json_int_t)total.recycled, "kills", (json_int_t)total.kills, "acked_checked",
		(json_int_t)total.acked_checked, "events_checked", (json_int_t)total.events_checked,
		"failures", (json_int_t)total.failures, "compacted_files",
		(json_int_t)total.compacted_files, "compacted_events",
		(json_int_t)total.compacted_events, "journal_groups",
		(json_int_t)total.journal_groups, "first_failure", total.first);
	json_dumpf(json, stdout, JSON_INDENT(1));
	printf("\n");
	json_decref(json);
	return (total.failures > 0) == expect_failure ? 0 : 1;
}
