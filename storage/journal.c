/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal.c - groups of many logs' new bytes, written at once; and when each log's own
 * file gets them.
 *
 *	       filed         durable      position
 *	---------+--------------+-------------+
 *	 in file | journal only | next group  |
 *
 * One group is in flight at a time, so what is durable in the journal is all groups
 * before it. A file of the journal is written again only when `held` says that no log
 * has bytes there that its segment does not have, synced.
 */
#include <errno.h>
#include <string.h>

#include "bug.h"
#include "clock.h"
#include "crc32c.h"
#include "journal_private.h"
#include "store_private.h"
#include "writer_private.h"

/*
 * Larger pieces than HFB_JOURNAL_ENTRY_BYTES go the direct way, they would only be written twice.
 * But when the disk has stood still a thousand logs have a larger piece each, and a write each
 * costs the core 40 us: then the journal catches up sooner. So what is large grows with the logs at
 * work.
 */
#define ENTRY_BYTES_MAX (64u * HFB_KIB)
#define ENTRY_LOGS	128u /* HFB_JOURNAL_ENTRY_BYTES more for so many */
/* Once many, taken to be many for so long. */
#define MANY_NS 20000000u
/* A log's file gets what the journal has of it after so long; at most so many logs at once. */
#define HOLD_NS	   1000000000u
#define FILING_MAX 16u
/* When only one file of the journal is free of them: before all would have to go direct. */
#define FILING_MAX_HURRIED 64u
/* A disk that had no room for it is asked again after this. */
#define RETRY_NS 10000000000ull

/* Owner core: which logs. -------------------------------------------------------------- */

bool
hfb_journal_flies(const struct hfb_journal *j)
{
	return j != NULL && j->flies;
}

bool
hfb_journal_waits(const struct hfb_journal *j)
{
	return j != NULL && (j->held_count > 0 || j->flies);
}

bool
hfb_journal_holds(const struct hfb_log *log)
{
	return log->journal.state != HFB_JOURNAL_NONE || log->journal.flies;
}

bool
hfb_journal_rests(const struct hfb_log *log)
{
	return log->journal.state == HFB_JOURNAL_HELD && !log->journal.flies &&
	       log->durable == log->position;
}

/* Of those that wait to be filed, oldest first. */
static void
link_last(struct hfb_journal *j, struct hfb_log *log)
{
	log->journal.state = HFB_JOURNAL_HELD;
	log->journal.since_ns = j->writer->now_ns;
	log->journal.next = NULL;
	log->journal.previous = j->tail;
	if (j->tail != NULL)
		j->tail->journal.next = log;
	else
		j->head = log;
	j->tail = log;
}

static void
unlink_log(struct hfb_journal *j, struct hfb_log *log)
{
	if (log->journal.previous != NULL)
		log->journal.previous->journal.next = log->journal.next;
	else
		j->head = log->journal.next;
	if (log->journal.next != NULL)
		log->journal.next->journal.previous = log->journal.previous;
	else
		j->tail = log->journal.previous;
}

/* Somebody waits until what was appended is durable. */
static bool
wanted(const struct hfb_journal *j, const struct hfb_log *log)
{
	return log->position != log->durable && log->detach == HFB_ATTACHED && !log->failed &&
	       hfb_log_durable_waits(log, j->writer->now_ns);
}

static uint64_t
entry_bytes_max(const struct hfb_journal *j)
{
	uint64_t most = (uint64_t)HFB_JOURNAL_ENTRY_BYTES * j->writer->active_count / ENTRY_LOGS;

	if (most < HFB_JOURNAL_ENTRY_BYTES)
		return HFB_JOURNAL_ENTRY_BYTES;
	if (most > ENTRY_BYTES_MAX)
		most = ENTRY_BYTES_MAX;
	/* and a group holds one in any case */
	return most < j->group_bytes / 2 ? most : j->group_bytes / 2;
}

/* Can the next group have it? All of it lies in a segment that is there to be replayed into. */
static bool
fits(const struct hfb_journal *j, const struct hfb_log *log)
{
	const struct hfb_plan *plan = &log->plans[log->plan_append & (HFB_PLANS - 1)];

	return log->position - log->durable <= entry_bytes_max(j) &&
	       log->submitted <= log->durable && log->plan_append != log->plan_tail &&
	       log->durable >= plan->base &&
	       __atomic_load_n(&plan->segment, __ATOMIC_ACQUIRE) != NULL;
}

static bool
eligible(const struct hfb_journal *j, const struct hfb_log *log)
{
	return j->on && wanted(j, log) && fits(j, log);
}

bool
hfb_journal_takes(const struct hfb_journal *j, const struct hfb_log *log)
{
	if (j == NULL)
		return false;
	if (log->journal.state == HFB_JOURNAL_NONE)
		return eligible(j, log);
	/* The rest of a checkpoint, of a stop, of a ring that fills. */
	if (log->snapshot != NULL || log->checkpoint_due || log->detach != HFB_ATTACHED ||
	    log->position - log->filed >= (log->ring_mask + 1) / 4)
		return false;
	/* First the journal has all of it, so that who waits need not wait for the file. */
	if (log->journal.state == HFB_JOURNAL_FILING && log->submitted < log->journal.target)
		return log->position != log->durable && eligible(j, log);
	return log->position == log->durable || eligible(j, log);
}

/* Owner core: filing. -------------------------------------------------------------------- */

static void
held_move(struct hfb_journal *j, struct hfb_log *log, uint32_t file)
{
	j->held[log->journal.file]--;
	log->journal.file = file;
	j->held[file]++;
}

void
hfb_journal_filed(struct hfb_journal *j, struct hfb_log *log)
{
	struct hfb_journal_part *part = &log->journal;

	if (part->state == HFB_JOURNAL_NONE)
		return;
	if (log->synced >= part->end) {
		j->held[part->file]--;
		j->held_count--;
		if (part->state == HFB_JOURNAL_FILING)
			j->filing_count--;
		else
			unlink_log(j, log);
		part->state = HFB_JOURNAL_NONE;
	} else if (part->state == HFB_JOURNAL_FILING && log->synced >= part->target) {
		/* what came since is where groups went at that time, or later */
		held_move(j, log, part->target_file);
		j->filing_count--;
		link_last(j, log);
	}
}

void
hfb_journal_forget(struct hfb_journal *j, struct hfb_log *log)
{
	if (j == NULL || log->journal.state == HFB_JOURNAL_NONE)
		return;
	/* `held` keeps counting it */
	j->held_count--;
	if (log->journal.state == HFB_JOURNAL_FILING)
		j->filing_count--;
	else
		unlink_log(j, log);
	log->journal.state = HFB_JOURNAL_NONE;
}

/* Write the oldest to their files: after a while, or when half of the journal is used. */
static void
file_some(struct hfb_journal *j)
{
	const bool hurried = j->held[(j->file + 1) % HFB_JOURNAL_FILES] > 0;
	const uint32_t most = hurried ? FILING_MAX_HURRIED : FILING_MAX;

	/* some together, so that one flush is behind them; but nobody waits for a busy one */
	if (j->filing_count > most / 2)
		return;
	while (j->head != NULL && j->filing_count < most) {
		struct hfb_log *log = j->head;
		uint32_t behind =
			(j->file - log->journal.file + HFB_JOURNAL_FILES) % HFB_JOURNAL_FILES;

		if (!j->full && behind < HFB_JOURNAL_FILES / 2 &&
		    j->writer->now_ns - log->journal.since_ns < HOLD_NS)
			return;
		unlink_log(j, log);
		log->journal.state = HFB_JOURNAL_FILING;
		log->journal.target = log->journal.end;
		log->journal.target_file = j->file;
		j->filing_count++;
		hfb_writer_activate(j->writer, log);
	}
}

/* Owner core: groups. ---------------------------------------------------------------------- */

/* Are logs many, and is there somewhere to write? */
static void
consider(struct hfb_journal *j)
{
	struct hfb_writer *w = j->writer;
	uint32_t n = 0, state;

	for (uint32_t i = 0; i < w->active_count && n < j->logs_min; i++)
		n += wanted(j, w->active[i]);
	if (n >= j->logs_min)
		j->many_ns = w->now_ns + MANY_NS;
	j->on = false;
	if (w->now_ns >= j->many_ns || j->dead || w->dead != 0 || j->store->leader_epoch == 0)
		return;
	/* pairs with the release of the helper */
	state = __atomic_load_n(&j->state, __ATOMIC_ACQUIRE);
	if (state != HFB_JOURNAL_MADE) {
		if (state == HFB_JOURNAL_NOT_MADE ||
		    (state == HFB_JOURNAL_REFUSED && w->now_ns >= j->retry_ns)) {
			j->retry_ns = w->now_ns + RETRY_NS;
			__atomic_store_n(&j->state, HFB_JOURNAL_ASKED, __ATOMIC_RELEASE);
			/* pairs with the acquire in hfb_journal_make() */
			__atomic_store_n(&j->store->journal_asked, 1, __ATOMIC_RELEASE);
			w->wake_helper = true;
		}
		return;
	}
	j->full = false;
	if (!j->flies && j->at + j->group_bytes > j->file_bytes) {
		uint32_t next = (j->file + 1) % HFB_JOURNAL_FILES;

#ifndef HFB_BUG_JOURNAL_REUSED_EARLY
		j->full = j->held[next] > 0;
#endif
		if (!j->full) {
			j->file = next;
			j->at = HFB_JOURNAL_HEADER_BYTES;
			j->lap++;
		}
	}
	j->on = !j->full;
}

/* Its segment's index learns of what is in the ring, as with a first write. */
static void
plan_bind(struct hfb_log *log)
{
	for (uint32_t n = log->plan_write; n != log->plan_append + 1; n++) {
		struct hfb_plan *plan = hfb_log_plan(log, n);
		struct hfb_segment *made = __atomic_load_n(&plan->segment, __ATOMIC_ACQUIRE);

		if (made == NULL)
			return;
		if (plan->bound == NULL)
			hfb_log_plan_bind(log, plan, made);
	}
}

static uint64_t
entry_put(struct hfb_journal *j, struct hfb_log *log, uint64_t used)
{
	uint32_t bytes = (uint32_t)(log->position - log->durable);
	struct hfb_journal_entry entry = {
		.topic = log->topic_uuid,
		.partition = log->partition,
		.bytes = bytes,
		.position = log->durable,
		.segment_base = hfb_log_plan(log, log->plan_append)->base,
	};

	memcpy(j->staging + used, &entry, sizeof(entry));
	memcpy(j->staging + used + sizeof(entry), log->ring + (log->durable & log->ring_mask),
	       bytes);
	return used + sizeof(entry) + bytes;
}

static void
group_head(struct hfb_journal *j, uint64_t bytes)
{
	struct hfb_journal_group head = {
		.magic = HFB_JOURNAL_GROUP_MAGIC,
		.nonce = j->nonce,
		.lap = j->lap,
		.sequence = j->sequence + 1,
		.journal = j->number,
		.leader_epoch = j->store->leader_epoch,
		.entries_count = j->members_count,
		.bytes = (uint32_t)bytes,
	};

	head.body_crc = hfb_crc32c(0, j->staging + sizeof(head), bytes - sizeof(head));
	head.header_crc = hfb_crc32c(0, &head.nonce,
				     sizeof(head) - offsetof(struct hfb_journal_group, nonce));
	memcpy(j->staging, &head, sizeof(head));
}

static bool
group_submit(struct hfb_journal *j, uint64_t bytes)
{
	struct hfb_io_op op = {
		.kind = HFB_IO_WRITE,
		.flags = HFB_IO_DSYNC,
		.fd = j->fds[j->file],
		.file_slot = -1,
		.buffer_slot = -1,
		.bytes = (uint32_t)hfb_block_up(bytes),
		.buffer = j->staging,
		.offset = j->at,
		.user_data = HFB_OP_JOURNAL,
	};

#ifdef HFB_BUG_ACK_BEFORE_SYNC
	op.flags = 0;
#endif
	if (!hfb_env_io_prepare(j->writer->io, &op))
		return false;
	j->flies = true;
	j->flight_bytes = op.bytes;
	j->at += op.bytes;
	j->sequence++;
	j->writer->in_flight++;
	j->writer->stats.journal_writes++;
	j->writer->stats.journal_bytes += op.bytes;
	return true;
}

uint32_t
hfb_journal_form(struct hfb_journal *j)
{
	uint64_t used = sizeof(struct hfb_journal_group);
	struct hfb_writer *w;
	uint32_t count, at;

	if (j == NULL)
		return 0;
	w = j->writer;
	consider(j);
	file_some(j);
	if (!j->on || j->flies)
		return 0;
	j->members_count = 0;
	count = w->active_count;
	at = j->form_at < count ? j->form_at : 0;
	for (uint32_t i = 0; i < count && j->members_count < HFB_JOURNAL_MEMBERS_MAX; i++) {
		struct hfb_log *log = w->active[at];

		if (eligible(j, log)) {
			if (used + sizeof(struct hfb_journal_entry) + log->position - log->durable >
			    j->group_bytes)
				break; /* the next one begins here */
			plan_bind(log);
			used = entry_put(j, log, used);
			j->members[j->members_count++] =
				(struct hfb_journal_member){ log, { log->position, log->offset } };
		}
		at = at + 1 < count ? at + 1 : 0;
	}
	j->form_at = at;
	if (j->members_count == 0)
		return 0;
	memset(j->staging + used, 0, hfb_block_up(used) - used);
	group_head(j, used);
	if (!group_submit(j, used)) {
		j->members_count = 0;
		return 0;
	}
	for (uint32_t i = 0; i < j->members_count; i++)
		j->members[i].log->journal.flies = true;
	if (w->times != NULL) {
		j->flight_tsc = hfb_clock_tsc();
		for (uint32_t i = 0; i < j->members_count; i++)
			hfb_stage_marks_submitted(&j->members[i].log->stage_marks,
						  j->members[i].end.position, j->flight_tsc,
						  w->times);
	}
	return 1;
}

/* The journal has @log up to @end. */
static void
journaled(struct hfb_journal *j, struct hfb_log *log, struct hfb_boundary end)
{
	/* written to its file meanwhile, since a checkpoint or a full ring wanted that */
	if (log->synced >= end.position) {
		hfb_write_durable(j->writer, log, end);
		return;
	}
	log->journal.end = end.position;
	if (log->journal.state == HFB_JOURNAL_NONE) {
		log->journal.file = j->file;
		j->held[j->file]++;
		j->held_count++;
		link_last(j, log);
	}
	hfb_write_durable(j->writer, log, end);
}

void
hfb_journal_done(struct hfb_journal *j, int32_t result)
{
	struct hfb_writer *w = j->writer;
	uint32_t count = j->members_count;

	w->in_flight--;
	j->flies = false;
	j->members_count = 0;
	for (uint32_t i = 0; i < count; i++)
		j->members[i].log->journal.flies = false;
	if (result >= 0 && (uint64_t)result < j->flight_bytes) {
		w->stats.short_writes++;
		if (!j->again) {
			/* nothing of it was told: what is there now goes in its place */
			j->again = true;
			j->at -= j->flight_bytes;
			j->sequence--;
			return;
		}
		result = -EIO;
	}
	j->again = false;
	if (result < 0) {
		/* final, as with any write: the direct way is left for the others */
		j->dead = true;
		for (uint32_t i = 0; i < count; i++)
			if (j->members[i].log->synced < j->members[i].end.position)
				hfb_write_fail(w, j->members[i].log, result);
		return;
	}
	if (w->times != NULL)
		hfb_stage_time_record(w->times, HFB_STAGE_TIME_WRITE,
				      w->times->reaped_tsc - j->flight_tsc, 1);
	for (uint32_t i = 0; i < count; i++)
		if (!j->members[i].log->failed)
			journaled(j, j->members[i].log, j->members[i].end);
}
