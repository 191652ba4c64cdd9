/* SPDX-License-Identifier: Apache-2.0 */
/*
 * write.c - from the ring to the file: forming writes, and what their completion
 * makes durable.
 *
 *	filed <= synced <= written <= submitted <= position
 *
 * A write starts at a block and goes straight from the ring, whose bytes and the
 * file's share their alignment. Its last block may be partial; that block is
 * written again as it fills, never while a write of it is in flight. Only a
 * write that ends with a block lets another follow at once.
 *
 * Two ways to sync. Each write with DSYNC: least latency, for few logs. Or plain
 * writes of all, then one flush of the device: for many, and at leisure for those
 * that nobody waits for. A log changes its way only while nothing of it is in flight
 * or unsynced.
 */
#include <errno.h>
#include <string.h>

#include "bug.h"
#include "clock.h"
#include "journal.h"
#include "probe.h"
#include "store_private.h"
#include "writer_private.h"

/* While a write is in flight the next one waits until it is worth its while. */
#define PIPELINE_BYTES (128u * HFB_KIB)
/*
 * Where nobody waits for `durable` writes go in strides: as much as a write takes, or what is
 * so old. A write costs a core some 40 us of kernel, whatever its size (virtio, 2026-11).
 */
#define STRIDE_NS 2000000u
/*
 * They are plain then; a flush follows when so much is written and not synced, or a quarter of
 * the ring, or when the oldest of it is so old.
 */
#define FLUSH_BYTES (4u * HFB_MIB)
#define FLUSH_NS    4000000u
/* From here on a write ends with a block, so that the next need not wait for it. */
#define ALIGNED_BYTES (64u * HFB_KIB)

void
hfb_write_fail(struct hfb_writer *writer, struct hfb_log *log, int error)
{
	writer->stats.errors++;
	if (log->failed)
		return;
	/* Final: what the device has of it is not known, and asking again may
	 * answer with success that means nothing. The ring stays readable. */
	log->failed = true;
	hfb_journal_forget(writer->journal, log);
	__atomic_store_n(&log->errors.write_error, error, __ATOMIC_RELEASE);
	log->advanced = true;
	__atomic_store_n(&log->positions->state, HFB_PARTITION_FAILED, __ATOMIC_RELEASE);
	hfb_log_limit_update(log);
}

/* Files whose log has moved on are the helper's from here. */
static void
plans_pop(struct hfb_writer *writer, struct hfb_log *log)
{
	bool sealed = false;

	while (log->plan_head != log->plan_append &&
	       hfb_log_plan(log, log->plan_head)->end <= log->filed) {
		struct hfb_segment *segment = hfb_log_plan(log, log->plan_head)->bound;

		if (segment->file_slot >= 0) {
			hfb_env_io_file(writer->io, (uint32_t)segment->file_slot, -1);
			writer->files.free[writer->files.free_count++] =
				(uint16_t)segment->file_slot;
			segment->file_slot = -1;
		}
		if (log->plan_write == log->plan_head)
			log->plan_write++;
		/* pairs with the acquire in the helper's seal */
		__atomic_store_n(&log->plan_head, log->plan_head + 1, __ATOMIC_RELEASE);
		sealed = true;
	}
	if (sealed) {
		log->checkpoint_due = true;
		hfb_log_ask(log, HFB_ASK_SEAL);
	}
}

void
hfb_write_durable(struct hfb_writer *writer, struct hfb_log *log, struct hfb_boundary mark)
{
	struct hfb_positions *p = log->positions;

	if (mark.position <= log->durable)
		return;
	log->durable = mark.position;
	log->durable_offset = mark.offset;
	__atomic_store_n(&p->durable.offset, mark.offset, __ATOMIC_RELAXED);
	__atomic_store_n(&p->durable.position, mark.position, __ATOMIC_RELEASE);
	/* It may be ahead, from before the topic's stage was made stricter. */
	if (log->commit_stage == HFB_STAGE_DURABLE && mark.position > log->committed) {
		log->committed = mark.position;
		log->committed_offset = mark.offset;
		__atomic_store_n(&p->committed.offset, mark.offset, __ATOMIC_RELAXED);
		if (writer->times != NULL)
			__atomic_store_n(&p->committed.turn_tsc, writer->times->turn_tsc,
					 __ATOMIC_RELAXED);
		__atomic_store_n(&p->committed.position, mark.position, __ATOMIC_RELEASE);
	}
	log->advanced = true;
	HFB_PROBE4(durable, log->topic, log->partition, mark.position, mark.offset);
	if (writer->times != NULL)
		hfb_stage_marks_durable(&log->stage_marks, mark.position, writer->times);
}

/* Synced in the segment files up to @mark. */
static void
filed_to(struct hfb_writer *writer, struct hfb_log *log, struct hfb_boundary mark)
{
	if (mark.position <= log->filed)
		return;
	log->filed = mark.position;
	hfb_write_durable(writer, log, mark);
	/* behind durable: who reads this first may take it for a part of that */
	__atomic_store_n(&log->positions->filed, mark.position, __ATOMIC_RELEASE);
	plans_pop(writer, log);
	hfb_log_limit_update(log);
}

static bool
write_submit(struct hfb_writer *writer, struct hfb_write *w)
{
	struct hfb_io_op op = {
		.kind = HFB_IO_WRITE,
		.flags = w->dsync ? HFB_IO_DSYNC : 0,
		.fd = w->fd,
		.file_slot = w->file_slot,
		.buffer_slot = w->buffer_slot,
		.bytes = w->bytes,
		.buffer = (void *)(uintptr_t)w->memory,
		.offset = w->file_offset,
		.user_data = (uintptr_t)w | HFB_OP_WRITE,
	};

#ifdef HFB_BUG_ACK_BEFORE_SYNC
	op.flags = 0; /* tests only: completion of an unsynced write counts as durable */
#endif
	if (!hfb_env_io_prepare(writer->io, &op)) {
		w->state = HFB_WRITE_WAITS;
		writer->queue_full = true;
		return false;
	}
	HFB_PROBE4(submit, w->log->topic, w->log->partition, w->end, w->bytes);
	w->state = HFB_WRITE_FLIES;
	writer->in_flight++;
	writer->stats.writes++;
	writer->stats.write_bytes += w->bytes;
	return true;
}

static void
file_register(struct hfb_writer *writer, struct hfb_segment *segment)
{
	uint16_t slot;

	if (segment->file_slot >= 0 || writer->files.free_count == 0)
		return;
	slot = writer->files.free[writer->files.free_count - 1];
	if (hfb_env_io_file(writer->io, slot, segment->fd) < 0) {
		writer->files.free_count = 0; /* refused once, refused always */
		writer->stats.unregistered++;
		return;
	}
	writer->files.free_count--;
	segment->file_slot = slot;
}

/* The segment that holds `submitted`, once the helper has made it. */
static struct hfb_segment *
write_segment(struct hfb_writer *writer, struct hfb_log *log)
{
	struct hfb_plan *plan = hfb_log_plan(log, log->plan_write);

	if (log->submitted == plan->end) {
		log->plan_write++;
		if (log->plan_write == log->plan_tail)
			return NULL;
		plan = hfb_log_plan(log, log->plan_write);
	}
	if (plan->bound == NULL) {
		struct hfb_segment *made = __atomic_load_n(&plan->segment, __ATOMIC_ACQUIRE);

		if (made == NULL)
			return NULL;
		hfb_log_plan_bind(log, plan, made);
	}
	file_register(writer, plan->bound);
	return plan->bound;
}

/* Writes that are through leave, oldest first. */
static void
writes_pop(struct hfb_log *log)
{
	while (log->writes_count > 0) {
		struct hfb_write *w = &log->writes[log->writes_head];

		if (w->state == HFB_WRITE_WAITS && log->failed)
			w->state = HFB_WRITE_DONE;
		if (w->state != HFB_WRITE_DONE)
			break;
		w->state = HFB_WRITE_FREE;
		log->writes_head = (log->writes_head + 1) % HFB_WRITES_MAX;
		log->writes_count--;
		if (log->failed)
			continue;
		if (log->written == log->synced)
			log->unsynced_ns = log->writer->now_ns;
		log->written = w->end;
		log->written_mark = w->mark;
	}
}

/*
 * Does anybody wait until what is appended to @log is on the disk? Or is the disk the slower one:
 * synced writes go on beside each other's syncs, while a flush of all holds up the ring.
 */
static bool
write_hurries(const struct hfb_writer *writer, const struct hfb_log *log)
{
	return log->detach != HFB_ATTACHED || hfb_log_durable_waits(log, writer->now_ns) ||
	       log->position - log->filed > (log->ring_mask + 1) / 2;
}

/* The most that one request of the device takes. */
static uint64_t
write_bytes_max(const struct hfb_writer *writer, const struct hfb_log *log)
{
	const struct hfb_ring *ring = log->ring_now;

	/* Who waits for the first bytes of a write waits for its last ones. */
	return ring->huge && ring->buffer_slot >= 0 && !write_hurries(writer, log)
		       ? HFB_WRITE_HUGE_BYTES_MAX
		       : HFB_WRITE_BYTES_MAX;
}

/*
 * Of many logs each waits for the flush behind its last write, and that for the writes of half of
 * them: with a block of each written again and again meanwhile it would not come.
 */
static bool
awaits_flush(const struct hfb_writer *writer, const struct hfb_log *log, bool group)
{
	return group && !log->leisurely && writer->active_count >= HFB_MANY_LOGS &&
	       log->writes_count == 0 && log->written != log->synced &&
	       log->position - log->submitted < PIPELINE_BYTES &&
	       log->position - log->filed < (log->ring_mask + 1) / 2;
}

bool
hfb_write_begins(const struct hfb_writer *writer, const struct hfb_log *log, bool group)
{
	return log->writes_count == 0 && log->submitted != log->position && !log->failed &&
	       !awaits_flush(writer, log, group);
}

/* May what was appended wait for more? */
static bool
write_waits(struct hfb_writer *writer, struct hfb_log *log, bool group)
{
	uint64_t bytes = log->position - log->submitted;

	if (hfb_journal_takes(writer->journal, log))
		return true;
	if (bytes == 0)
		return false;
	if (awaits_flush(writer, log, group))
		return true;
	/* Once what was written at leisure is synced each write is again synced by itself. */
	if (write_hurries(writer, log))
		return log->leisurely && !group &&
		       (log->writes_count > 0 || log->written != log->synced);
	if (bytes >= write_bytes_max(writer, log) || bytes >= (log->ring_mask + 1) / 4)
		return false;
	if (log->stride_ns == 0)
		log->stride_ns = writer->now_ns;
	if (writer->now_ns - log->stride_ns >= STRIDE_NS)
		return false;
	writer->delayed = true;
	return true;
}

/* Those that found the queue full go first. False: it still is. */
static bool
waiting_submit(struct hfb_writer *writer, struct hfb_log *log)
{
	for (uint32_t i = 0; i < log->writes_count; i++) {
		struct hfb_write *w = &log->writes[(log->writes_head + i) % HFB_WRITES_MAX];

		if (w->state != HFB_WRITE_WAITS)
			continue;
		/* slots may have changed hands meanwhile */
		w->file_slot = w->buffer_slot = -1;
		if (!write_submit(writer, w))
			return false;
	}
	return true;
}

/* Where the next write into @segment ends, which begins at @from. */
static uint64_t
write_end(const struct hfb_writer *writer, const struct hfb_log *log,
	  const struct hfb_segment *segment, uint64_t from)
{
	uint64_t end = log->position;
	/* One piece of ring, one segment, at most so long. */
	uint64_t most = log->ring_mask + 1 - (from & log->ring_mask);

	if (most > write_bytes_max(writer, log))
		most = write_bytes_max(writer, log);
	if (most > segment->base_position + segment->capacity_bytes - from)
		most = segment->base_position + segment->capacity_bytes - from;
	if (end > from + most)
		return from + most;
	return log->writes_count > 0 || end - from > ALIGNED_BYTES ? hfb_block_down(end) : end;
}

/* The ring's bytes @from..@end as the next write into @segment. */
static struct hfb_write *
write_fill(struct hfb_writer *writer, struct hfb_log *log, const struct hfb_segment *segment,
	   uint64_t from, uint64_t end)
{
	struct hfb_write *w = &log->writes[(log->writes_head + log->writes_count) % HFB_WRITES_MAX];

	/* Nobody has claimed what is behind the last batch: let the disk have zeros. */
	if (end % HFB_BLOCK_BYTES != 0)
		memset(log->ring + (end & log->ring_mask), 0, hfb_block_up(end) - end);
	w->log = log;
	w->memory = log->ring + (from & log->ring_mask);
	w->file_offset = HFB_SEGMENT_HEADER_BYTES + (from - segment->base_position);
	w->end = end;
	w->bytes = (uint32_t)(hfb_block_up(end) - from);
	w->fd = segment->fd;
	w->file_slot = segment->file_slot;
	w->buffer_slot = log->ring_now->buffer_slot;
	w->dsync = !log->group;
	w->retried = false;
	log->submitted_mark = hfb_log_marks_take(log, end, log->submitted_mark);
	w->mark = log->submitted_mark;
	log->submitted = end;
	if (writer->times != NULL) {
		w->tsc = hfb_clock_tsc();
		hfb_stage_marks_submitted(&log->stage_marks, end, w->tsc, writer->times);
	}
	log->stride_ns = 0;
	log->writes_count++;
	return w;
}

/* The next write, if there is one to be made now. */
static struct hfb_write *
write_next(struct hfb_writer *writer, struct hfb_log *log, bool group)
{
	uint64_t from = hfb_block_down(log->submitted);
	struct hfb_segment *segment;

	if (log->writes_count == HFB_WRITES_MAX || log->submitted == log->position)
		return NULL;
	if (log->writes_count > 0 &&
	    (from != log->submitted || log->position - from < PIPELINE_BYTES))
		return NULL;
	segment = write_segment(writer, log);
	if (segment == NULL)
		return NULL;
	if (log->writes_count == 0 && log->written == log->synced) {
		log->leisurely = writer->store->flush_covers && segment->direct &&
				 !write_hurries(writer, log);
		log->group = log->leisurely || (group && segment->direct);
	}
	return write_fill(writer, log, segment, from, write_end(writer, log, segment, from));
}

uint32_t
hfb_write_form(struct hfb_writer *writer, struct hfb_log *log, bool group)
{
	uint32_t formed = 0;
	struct hfb_write *w;

	if (writer->dead != 0 && log->submitted != log->position)
		hfb_write_fail(writer, log, writer->dead);
	if (log->failed) {
		/* those that wait for the queue are in nobody's hands */
		writes_pop(log);
		return 0;
	}
	if (!waiting_submit(writer, log))
		return 0;
	if (log->detach != HFB_ATTACHED && !log->detach_clean && !hfb_journal_holds(log))
		return 0;
	if (write_waits(writer, log, group))
		return 0;
	while ((w = write_next(writer, log, group)) != NULL) {
		formed++;
		if (!write_submit(writer, w))
			break;
	}
	return formed;
}

void
hfb_write_done(struct hfb_writer *writer, struct hfb_write *w, int32_t result)
{
	struct hfb_log *log = w->log;

	writer->in_flight--;
	if (result >= 0 && (uint32_t)result < w->bytes) {
		uint32_t whole = (uint32_t)result & ~(HFB_BLOCK_BYTES - 1);

		writer->stats.short_writes++;
		if (!w->retried) {
			w->retried = true;
			w->memory += whole;
			w->file_offset += whole;
			w->bytes -= whole;
			w->file_slot = w->buffer_slot = -1;
			write_submit(writer, w);
			return;
		}
		result = -EIO;
	}
	if (result < 0)
		hfb_write_fail(writer, log, result);
	else if (writer->times != NULL)
		hfb_stage_time_record(writer->times, HFB_STAGE_TIME_WRITE,
				      writer->times->reaped_tsc - w->tsc, 1);
	w->state = HFB_WRITE_DONE;
	writes_pop(log);
#ifdef HFB_BUG_ACK_BEFORE_FLUSH
	if (log->leisurely && !log->failed) { /* tests only: as if it had been synced */
		log->synced = log->written;
		filed_to(writer, log, log->written_mark);
	}
#endif
	if (!log->group && !log->failed) {
		log->synced = log->written;
		filed_to(writer, log, log->written_mark);
		hfb_journal_filed(writer->journal, log);
	}
}

/* Plain writes of it are behind us. A log that is being let go is in none of our lists soon. */
static bool
flush_wanted(const struct hfb_log *log)
{
	return log->group && !log->failed && log->written != log->synced &&
	       log->detach < HFB_DETACH_LET_GO;
}

/* May it go on without for a while? */
static bool
flush_waits(struct hfb_writer *writer, const struct hfb_log *log)
{
	uint64_t bytes = log->written - log->synced;

	if (!log->leisurely || write_hurries(writer, log) || hfb_journal_holds(log))
		return false;
	if (bytes >= FLUSH_BYTES || bytes >= (log->ring_mask + 1) / 4 ||
	    writer->now_ns - log->unsynced_ns >= FLUSH_NS)
		return false;
	writer->delayed = true;
	return true;
}

/*
 * One flush for all logs with plain writes behind them. It is sent through one
 * file, and covers the others since their blocks were allocated, written and
 * synced when their segments were made: nothing but the device's cache stands
 * between a completed overwrite and the medium, and ext4 and xfs flush that
 * cache on every fdatasync (store.c uses this way on no others).
 */
void
hfb_write_flush_start(struct hfb_writer *writer)
{
	struct hfb_io_op op = { .kind = HFB_IO_FLUSH,
				.fd = -1,
				.file_slot = -1,
				.buffer_slot = -1,
				.user_data = HFB_OP_FLUSH };
	uint32_t waiting = 0, flying = 0;

	if (writer->flush_in_flight || writer->dead != 0)
		return;
	for (uint32_t i = 0; i < writer->active_count; i++) {
		const struct hfb_log *log = writer->active[i];

		flying += log->group && !log->leisurely && log->writes_count > 0;
		if (flush_wanted(log) && !flush_waits(writer, log)) {
			waiting++;
			if (op.fd < 0)
				op.fd = hfb_log_plan((struct hfb_log *)(uintptr_t)log,
						     log->plan_head)
						->bound->fd;
		}
	}
	/*
	 * Let it cover as many as may be without making the first ones wait for all.
	 * Logs are counted, not writes: each that flies will wait, so this ends, while a
	 * few logs with full pipelines might have more writes than logs for ever.
	 */
	if (waiting == 0 || flying > waiting)
		return;
	if (!hfb_env_io_prepare(writer->io, &op))
		return;
	writer->in_flight++;
	writer->flush_in_flight = true;
	writer->stats.syncs++;
	if (writer->times != NULL)
		writer->flush_tsc = hfb_clock_tsc();
	for (uint32_t i = 0; i < writer->active_count; i++) {
		struct hfb_log *log = writer->active[i];

		log->flush_armed = flush_wanted(log);
		log->unsynced_ns = writer->now_ns;
		log->flush_end = log->written;
		log->flush_mark = log->written_mark;
	}
}

void
hfb_write_flush_done(struct hfb_writer *writer, int32_t result)
{
	writer->in_flight--;
	writer->flush_in_flight = false;
	if (result >= 0 && writer->times != NULL)
		hfb_stage_time_record(writer->times, HFB_STAGE_TIME_FLUSH,
				      writer->times->reaped_tsc - writer->flush_tsc, 1);
	for (uint32_t i = 0; i < writer->active_count; i++) {
		struct hfb_log *log = writer->active[i];

		/* What it was not meant to cover may have been lost by its failure as well:
		 * the device's cache is one, and the next flush may not say so. */
		if (!log->flush_armed &&
		    !(result < 0 && log->group && log->submitted != log->synced))
			continue;
		log->flush_armed = false;
		if (result < 0) {
			hfb_write_fail(writer, log, result);
			continue;
		}
		if (log->failed)
			continue;
		log->synced = log->flush_end;
		filed_to(writer, log, log->flush_mark);
		hfb_journal_filed(writer->journal, log);
	}
}
