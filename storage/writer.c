/* SPDX-License-Identifier: Apache-2.0 */
#include "writer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bug.h"
#include "clock.h"
#include "journal.h"
#include "probe.h"
#include "store_private.h"
#include "writer_private.h"

/*
 * From this many logs at work on, plain writes and one flush beat a synced write each. A log
 * is at work from its first append until that is durable, so this counts what a flush will
 * cover, not what happens to be pending in this turn. 1 M events/s in batches of 16 over 100
 * logs, virtio, write-back without FUA, p50 until durable: a synced write each 450 us,
 * threshold 12 206 us, 6 160 us, 2 138 us; one log has 139 us (2026-11).
 */
#define GROUP_LOGS 2u
#define REAP	   64u
/* Refused for memory it may be for a moment; for so long it is for good. */
#define SUBMIT_PATIENCE_NS 1000000000u

/* Main thread. ------------------------------------------------------------------- */

static void
slots_init(struct hfb_slots *slots, uint32_t count)
{
	slots->count = slots->free_count = count;
	for (uint32_t i = 0; i < count; i++)
		slots->free[i] = (uint16_t)(count - 1 - i);
}

static uint32_t
power_of_two_up(uint32_t x)
{
	uint32_t p = 2;

	while (p < x)
		p *= 2;
	return p;
}

int
hfb_writer_create(struct hfb_store *store, const struct hfb_writer_config *config,
		  struct hfb_writer **ret_writer, struct hfb_err *err)
{
	uint32_t logs_max = config->logs_max > 0 ? config->logs_max : 1;
	uint32_t producers_max = config->producers_max > 0 ? config->producers_max : 1;
	uint32_t depth = config->queue_depth > 0 ? config->queue_depth : HFB_QUEUE_DEPTH;
	struct hfb_io_config io = {
		.depth = depth + HFB_READS_MAX + 1,
		.files_max = HFB_FILE_SLOTS,
		.buffers_max = HFB_BUFFER_SLOTS,
	};
	size_t size = sizeof(struct hfb_writer) + logs_max * sizeof(struct hfb_log *);
	struct hfb_writer *w;
	int r = -ENOMEM;

	size = (size + 63) & ~(size_t)63;
	w = aligned_alloc(64, size);
	if (w == NULL)
		return hfb_err_set(err, -ENOMEM, "no memory for a core's writer");
	memset(w, 0, size);
	w->store = store;
	w->logs_max = logs_max;
	w->isolated = config->isolated;
	w->advanced = config->advanced;
	w->arg = config->arg;
	w->times = config->times;
	hfb_writer_give_way_init(w);
	w->dedup_memory =
		aligned_alloc(64, (hfb_dedup_pool_bytes(producers_max) + 63) & ~(size_t)63);
	w->to_helper = hfb_spsc_create(power_of_two_up(logs_max));
	w->from_helper = hfb_spsc_create(power_of_two_up(logs_max));
	if (w->dedup_memory == NULL || w->to_helper == NULL || w->from_helper == NULL) {
		hfb_err_set(err, r, "no memory for %u logs and %u producers of a core", logs_max,
			    producers_max);
		goto fail;
	}
	w->dedup_pool =
		hfb_dedup_pool_init(w->dedup_memory, producers_max, store->config.dedup_window_ns);
	r = hfb_env_io_create(store->env, &io, &w->io, err);
	if (r < 0)
		goto fail;
	slots_init(&w->files, w->io->files_max);
	slots_init(&w->buffers, w->io->buffers_max);
	w->journal = hfb_journal_create(w);
	w->stats.unregistered = w->io->fallbacks;
	pthread_mutex_lock(&store->lock);
	w->next = store->writers;
	store->writers = w;
	pthread_mutex_unlock(&store->lock);
	*ret_writer = w;
	return 0;

fail:
	free(w->dedup_memory);
	hfb_spsc_destroy(w->to_helper);
	hfb_spsc_destroy(w->from_helper);
	free(w);
	return r;
}

void
hfb_writer_destroy(struct hfb_writer *writer)
{
	struct hfb_writer **at;

	if (writer == NULL)
		return;
	pthread_mutex_lock(&writer->store->lock);
	for (at = &writer->store->writers; *at != writer; at = &(*at)->next)
		hfb_assert(*at != NULL);
	*at = writer->next;
	pthread_mutex_unlock(&writer->store->lock);
	/* first: what is still in it may be in the journal's memory */
	hfb_env_io_destroy(writer->io);
	hfb_journal_destroy(writer->journal);
	hfb_spsc_destroy(writer->to_helper);
	hfb_spsc_destroy(writer->from_helper);
	free(writer->dedup_memory);
	free(writer);
}

/* A log comes and goes. ------------------------------------------------------------ */

static void
writer_enable(struct hfb_writer *writer)
{
	if (writer->enabled)
		return;
	/* Refused: each submission says so again, and its logs fail. */
	if (hfb_env_io_enable(writer->io) < 0)
		writer->stats.errors++;
	writer->enabled = true;
	writer->stats.unregistered = writer->io->fallbacks;
}

/* Pinning pays for large rings only, and small ones are many. */
static void
ring_register(struct hfb_writer *writer, struct hfb_ring *ring)
{
	uint16_t slot;

	if (ring->size == HFB_RING_BYTES_MIN || writer->buffers_refused ||
	    writer->buffers.free_count == 0)
		return;
	slot = writer->buffers.free[writer->buffers.free_count - 1];
	if (hfb_env_io_buffer(writer->io, slot, ring->bytes, ring->size) < 0) {
		writer->buffers_refused = true; /* memlock: go on without */
		writer->stats.unregistered++;
		return;
	}
	writer->buffers.free_count--;
	ring->buffer_slot = slot;
}

static void
ring_unregister(struct hfb_writer *writer, struct hfb_ring *ring)
{
	if (ring->buffer_slot < 0)
		return;
	hfb_env_io_buffer(writer->io, (uint32_t)ring->buffer_slot, NULL, 0);
	writer->buffers.free[writer->buffers.free_count++] = (uint16_t)ring->buffer_slot;
	ring->buffer_slot = -1;
}

void
hfb_writer_attach(struct hfb_writer *writer, struct hfb_log *log)
{
	enum hfb_log_refusal why;

	hfb_assert(writer->logs_count < writer->logs_max);
	hfb_assert(log->writer == NULL);
	writer_enable(writer);
	writer->logs_count++;
	log->writer = writer;
	log->detach = HFB_ATTACHED;
	if (writer->now_ns == 0)
		writer->now_ns = hfb_env_now_ns(writer->store->env);
	hfb_dedup_init(&log->dedup, writer->dedup_pool);
	hfb_dedup_load(&log->dedup, log->recovered_dedup, log->recovered_dedup_count);
	ring_register(writer, log->ring_now);
	/* pairs with the acquire in the helper's round */
	__atomic_store_n(&log->attached, 1, __ATOMIC_RELEASE);
	__atomic_store_n(&log->positions->state, HFB_PARTITION_OPEN, __ATOMIC_RELEASE);
	/* A log nobody has written stays without a file; its first claim starts the epoch. */
	if (log->position > 0)
		hfb_log_control_append(log, HFB_CONTROL_EPOCH_START, &why);
	hfb_log_limit_update(log);
	hfb_writer_activate(writer, log);
}

void
hfb_writer_detach(struct hfb_writer *writer, struct hfb_log *log, bool end_mark)
{
	hfb_assert(log->writer == writer);
	log->detach_clean = end_mark;
	log->detach = HFB_DETACH_MARK;
	log->claim_bytes = 0;
	hfb_log_limit_update(log);
	hfb_writer_activate(writer, log);
}

bool
hfb_writer_detached(const struct hfb_writer *writer, const struct hfb_log *log)
{
	return log->detach == HFB_DETACHED;
}

static void
log_gone(struct hfb_writer *writer, struct hfb_log *log)
{
	for (uint32_t n = log->plan_head; n != log->plan_tail; n++) {
		struct hfb_segment *segment = hfb_log_plan(log, n)->segment;

		if (segment == NULL || segment->file_slot < 0)
			continue;
		hfb_env_io_file(writer->io, (uint32_t)segment->file_slot, -1);
		writer->files.free[writer->files.free_count++] = (uint16_t)segment->file_slot;
		segment->file_slot = -1;
	}
	ring_unregister(writer, log->ring_now);
	hfb_dedup_fini(&log->dedup);
	writer->logs_count--;
	__atomic_store_n(&log->positions->state, HFB_PARTITION_CLOSED, __ATOMIC_RELEASE);
	__atomic_store_n(&log->attached, 0, __ATOMIC_RELEASE);
	log->detach = HFB_DETACHED;
}

/* Can nothing more be made durable? */
static bool
log_drained(struct hfb_log *log)
{
	const struct hfb_plan *plan = hfb_log_plan(log, log->plan_write);

	if (log->writes_count > 0 || log->flush_armed || log->journal.flies)
		return false;
	if (log->failed)
		return true;
	if (!log->detach_clean)
		return !hfb_journal_holds(log);
	if (log->filed == log->position && log->synced == log->written)
		return true;
	/* The disk is full and the rest has no file to go to. */
	return log->submitted != log->position && log->synced == log->written &&
	       __atomic_load_n(&log->prepare_error, __ATOMIC_ACQUIRE) != 0 &&
	       __atomic_load_n(&plan->segment, __ATOMIC_ACQUIRE) == NULL;
}

static void
log_detaching(struct hfb_writer *writer, struct hfb_log *log)
{
	enum hfb_log_refusal why;

	switch (log->detach) {
	case HFB_DETACH_MARK:
		if (log->detach_clean && !log->failed && log->epoch_started) {
			log->end_marked = hfb_log_control_append(log, HFB_CONTROL_END_MARK, &why);
			if (!log->end_marked &&
			    __atomic_load_n(&log->prepare_error, __ATOMIC_ACQUIRE) == 0)
				return;
		}
		log->detach = HFB_DETACH_DRAIN;
		return;
	case HFB_DETACH_DRAIN:
		if (!log_drained(log))
			return;
		log->detach = HFB_DETACH_LET_GO;
		if (log->end_marked && !log->failed && log->filed == log->position) {
			log->checkpoint_due = true;
			log->detach = HFB_DETACH_CHECKPOINT;
		}
		return;
	case HFB_DETACH_CHECKPOINT:
		if (!log->checkpoint_due && !log->memory_asked && log->snapshot == NULL &&
		    !log->checkpoint_under_way)
			log->detach = HFB_DETACH_LET_GO;
		return;
	case HFB_DETACH_LET_GO:
		if (log->reads_count > 0 || log->memory_asked || log->checkpoint_under_way)
			return;
		if (!log->let_go_asked) {
			log->let_go_asked = true;
			hfb_log_ask(log, HFB_ASK_LET_GO);
		}
		/* let_go is the helper's last touch, and then it is in no ring of ours */
		if (__atomic_load_n(&log->let_go, __ATOMIC_ACQUIRE) != 0 &&
		    __atomic_load_n(&log->mailed, __ATOMIC_ACQUIRE) == 0)
			log_gone(writer, log);
		return;
	case HFB_ATTACHED:
	case HFB_DETACHED:
		return;
	}
}

/* What a topic may change while it is served. */
void
hfb_writer_settings(struct hfb_writer *writer, struct hfb_log *log,
		    const struct hfb_log_settings *settings)
{
	uint64_t most;

	hfb_assert(log->writer == writer);
	/* What was committed stays so: a stricter stage holds for what comes. */
	log->commit_stage = settings->commit_stage;
	log->advanced = true;
	/* What is on its way to the disk is committed by now; the disk will not say so. */
	if (log->commit_stage == HFB_STAGE_RECEIVED && log->committed < log->published) {
		struct hfb_positions *p = log->positions;

		log->committed = log->published;
		log->committed_offset = p->received.offset;
		__atomic_store_n(&p->committed.offset, log->committed_offset, __ATOMIC_RELAXED);
		/* pairs with readers' acquire */
		__atomic_store_n(&p->committed.position, log->committed, __ATOMIC_RELEASE);
	}
	hfb_log_limits_set(log, settings->segment_bytes_max, settings->ring_bytes_max);
	/* Larger batches only from the next start on: they might not fit what is prepared. */
	most = hfb_log_batch_bytes_for(log);
	if (most < log->batch_bytes_max)
		log->batch_bytes_max = (uint32_t)most;
	hfb_writer_activate(writer, log);
}

/* A turn. ---------------------------------------------------------------------------- */

/* What the turn has appended to @log is visible. */
static inline void
log_times_note(struct hfb_log *log, struct hfb_stage_times *times, uint64_t events)
{
	/* one reading of the clock for all logs of the turn */
	if (times->published_tsc == 0)
		times->published_tsc = hfb_clock_tsc();
	hfb_stage_time_record(times, HFB_STAGE_TIME_APPENDED,
			      times->published_tsc - times->turn_tsc, events);
	hfb_stage_marks_add(&log->stage_marks, log->position, times->turn_tsc, events);
}

static uint32_t
log_publish(struct hfb_log *log)
{
	struct hfb_positions *p = log->positions;
	uint64_t events;

	if (log->published == log->position)
		return 0;
	events = log->offset - p->received.offset;
	log->published = log->position;
	__atomic_store_n(&p->received.offset, log->offset, __ATOMIC_RELAXED);
	__atomic_store_n(&p->received.position, log->position, __ATOMIC_RELEASE);
	if (log->commit_stage == HFB_STAGE_RECEIVED) {
		log->committed = log->position;
		log->committed_offset = log->offset;
		__atomic_store_n(&p->committed.offset, log->offset, __ATOMIC_RELAXED);
		if (log->writer->times != NULL)
			__atomic_store_n(&p->committed.turn_tsc, log->writer->times->turn_tsc,
					 __ATOMIC_RELAXED);
		__atomic_store_n(&p->committed.position, log->position, __ATOMIC_RELEASE);
		log->advanced = true;
	}
	/* readers may look while we take notes */
	hfb_log_marks_add(log);
	HFB_PROBE4(append, log->topic, log->partition, log->position, events);
	if (log->writer->times != NULL && events > 0)
		log_times_note(log, log->writer->times, events);
	/* Prepared before it is needed. */
	if (log->position >= log->plan_trigger &&
	    log->plan_tail - log->plan_append <= (log->hurried ? 2u : 1u))
		hfb_log_plan_next(log, 0);
	return events > 0 ? (uint32_t)events : 1;
}

/* A larger ring is there: move what is live and go on in it. */
static void
ring_switch(struct hfb_writer *writer, struct hfb_log *log, struct hfb_ring *ring)
{
	uint64_t from = hfb_block_down(log->filed), mask = ring->size - 1;

	memcpy(ring->bytes + (from & mask), log->ring + (from & log->ring_mask),
	       log->position - from);
	ring_unregister(writer, log->ring_now);
	/* Who sees the intent of the new ring sees that it is of another size, and not that the
	 * old one was overwritten: pairs with the acquire in hfb_local_lapped(). */
	__atomic_store_n(&log->positions->ring_bytes, (uint32_t)ring->size, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	/* Bytes below `from` are not in it: readers see that by the intent, and by
	 * the generation that they map the wrong one; both before what follows. */
	hfb_log_intent_raise(log, from + ring->size);
	__atomic_store_n(&log->positions->ring_generation, ring->generation, __ATOMIC_RELEASE);
	log->ring_now = ring;
	log->ring = ring->bytes;
	log->ring_mask = mask;
	ring_register(writer, ring);
	log->ring_since_position = log->position;
	log->ring_since_ns = writer->now_ns;
	hfb_log_limit_update(log);
	log->advanced = true;
}

/* Larger rings for logs whose bytes wait long, or that lap theirs all the time. */
static void
ring_consider(struct hfb_writer *writer, struct hfb_log *log)
{
	uint64_t size = log->ring_mask + 1;

	if (size >= log->ring_bytes_max)
		return;
	/* Not earlier: when the disk stalls, all logs wait, and larger rings help none of them; nor
	 * do they help many at once, which are fast with little each: a ring costs the helper 6 us
	 * a page, and all wait for the helper. */
	if (log->position - log->filed > size / 2 && writer->active_count < HFB_MANY_LOGS) {
		hfb_log_ring_ask(log, size * 4);
		return;
	}
	if (log->position - log->ring_since_position < 8 * size)
		return;
	if (writer->now_ns - log->ring_since_ns < 1000000000u)
		hfb_log_ring_ask(log, size * 4);
	log->ring_since_position = log->position;
	log->ring_since_ns = writer->now_ns;
}

static void
log_disk_state(struct hfb_log *log)
{
	int why = __atomic_load_n(&log->prepare_error, __ATOMIC_ACQUIRE);
	uint32_t state =
		why == -ENOSPC || why == -EDQUOT ? HFB_PARTITION_NO_SPACE : HFB_PARTITION_OPEN;

	if (log->failed || log->positions->state == state)
		return;
	__atomic_store_n(&log->positions->state, state, __ATOMIC_RELEASE);
	hfb_log_limit_update(log);
	log->advanced = true;
}

/* What the helper has left for this log. */
static void
log_mail(struct hfb_writer *writer, struct hfb_log *log)
{
	struct hfb_ring *ring = __atomic_load_n(&log->ring_ready, __ATOMIC_ACQUIRE);
	uint64_t retire = __atomic_load_n(&log->retire_to, __ATOMIC_ACQUIRE);
	uint64_t retire_offset;

	if (ring != NULL) {
		log->ring_ready = NULL;
		ring_switch(writer, log, ring);
	}
	/* A trim may move the offset alone, within a batch. */
	retire_offset = __atomic_load_n(&log->retire_offset, __ATOMIC_RELAXED);
	if (retire > log->start || (retire == log->start && retire_offset > log->start_offset)) {
		log->start = retire;
		log->start_offset = retire_offset;
		__atomic_store_n(&log->positions->start.offset, log->start_offset,
				 __ATOMIC_RELAXED);
		__atomic_store_n(&log->positions->start.position, retire, __ATOMIC_RELEASE);
		log->checkpoint_due = true;
	}
	log_disk_state(log);
	if (writer->parked_count > 0)
		hfb_read_unpark(writer, log);
}

static uint32_t
mail_poll(struct hfb_writer *writer)
{
	void *objects[REAP];
	uint32_t n = hfb_spsc_pop(writer->from_helper, objects, REAP);

	for (uint32_t i = 0; i < n; i++) {
		struct hfb_log *log = objects[i];

		/* before we look: what comes later is mailed again */
		__atomic_store_n(&log->mailed, 0, __ATOMIC_SEQ_CST);
		if (log->detach == HFB_DETACHED)
			continue;
		log_mail(writer, log);
		hfb_writer_activate(writer, log);
	}
	return n;
}

static uint32_t
reap(struct hfb_writer *writer)
{
	struct hfb_io_done done[REAP];
	uint32_t n = writer->dead != 0 ? 0 : hfb_env_io_reap(writer->io, done, REAP);

	if (n > 0 && writer->times != NULL)
		writer->times->reaped_tsc = hfb_clock_tsc();
	writer->reaped += n;
	if (n > 0 || writer->in_flight == 0)
		writer->queue_full = false;
	for (uint32_t i = 0; i < n; i++) {
		void *object = (void *)(uintptr_t)(done[i].user_data & ~(uint64_t)HFB_OP_MASK);

		switch (done[i].user_data & HFB_OP_MASK) {
		case HFB_OP_WRITE:
			hfb_write_done(writer, object, done[i].result);
			break;
		case HFB_OP_READ:
			hfb_read_done(writer, object, done[i].result);
			break;
		case HFB_OP_FLUSH:
			hfb_write_flush_done(writer, done[i].result);
			break;
		case HFB_OP_JOURNAL:
			hfb_journal_done(writer->journal, done[i].result);
			break;
		}
	}
	return n;
}

static bool
log_idle(const struct hfb_log *log)
{
	if (log->detach == HFB_DETACHED)
		return true;
	/* stays in the list while a flush that will look for it there is in flight */
	if (log->failed && log->writes_count == 0 && !log->flush_armed && !log->journal.flies &&
	    log->detach == HFB_ATTACHED)
		return true;
	if (log->detach != HFB_ATTACHED || log->writes_count > 0 || log->checkpoint_due ||
	    log->snapshot != NULL)
		return false;
	return log->published == log->position && log->written == log->synced &&
	       (log->submitted == log->position || hfb_journal_rests(log));
}

/* Callbacks, and logs that need nothing more leave the list. */
static void
active_settle(struct hfb_writer *writer)
{
	for (uint32_t i = writer->active_count; i-- > 0;) {
		struct hfb_log *log = writer->active[i];

		if (log->advanced) {
			log->advanced = false;
			if (writer->advanced != NULL && log->detach != HFB_DETACHED)
				writer->advanced(writer->arg, log);
		}
		if (!log_idle(log))
			continue;
		log->active = false;
		writer->active_count--;
		writer->active[i] = writer->active[writer->active_count];
		writer->active[i]->active_at = i;
		if (log->detach == HFB_DETACHED)
			__atomic_store_n(&log->detached, 1, __ATOMIC_RELEASE);
	}
}

/*
 * The queue has refused for so long that nothing of what is in it will end: all
 * of it failed. Logs with writes are failed for good and say so; reads are told.
 */
static void
give_up(struct hfb_writer *writer, int error)
{
	writer->dead = error;
	for (uint32_t i = 0; i < writer->active_count; i++) {
		struct hfb_log *log = writer->active[i];

		for (uint32_t n = log->writes_count; n > 0; n--) {
			struct hfb_write *w =
				&log->writes[(log->writes_head + n - 1) % HFB_WRITES_MAX];

			/* the newest first: the last of them takes all away */
			if (w->state == HFB_WRITE_FLIES)
				hfb_write_done(writer, w, error);
		}
		/* and what waits for a flush, or to be written: nobody else would say so */
		if (log->position != log->synced)
			hfb_write_fail(writer, log, error);
	}
	if (writer->flush_in_flight)
		hfb_write_flush_done(writer, error);
	if (hfb_journal_flies(writer->journal))
		hfb_journal_done(writer->journal, error);
	for (uint32_t i = 0; i < HFB_READS_MAX; i++)
		if (writer->reads[i].read != NULL && !writer->reads[i].parked)
			hfb_read_done(writer, &writer->reads[i], error);
}

static void
submit(struct hfb_writer *writer)
{
	int r = hfb_env_io_submit(writer->io);

	if (r >= 0) {
		writer->submit_fails_ns = 0;
		return;
	}
	writer->stats.errors++;
	if (writer->submit_fails_ns == 0)
		writer->submit_fails_ns = writer->now_ns;
	else if (writer->now_ns - writer->submit_fails_ns > SUBMIT_PATIENCE_NS)
		give_up(writer, r);
}

/* Logs in turn, on from where the queue was full. */
static uint32_t
forms(struct hfb_writer *writer, bool group)
{
	uint32_t count = writer->active_count, at = writer->form_at, work = 0;

	for (uint32_t i = 0; i < count && !writer->queue_full; i++) {
		if (++at >= count)
			at = 0;
		work += hfb_write_form(writer, writer->active[at], group);
	}
	writer->form_at = at;
	return work;
}

uint32_t
hfb_writer_publish(struct hfb_writer *writer)
{
	uint32_t work = 0;

	for (uint32_t i = 0; i < writer->active_count; i++)
		work += log_publish(writer->active[i]);
	return work;
}

uint32_t
hfb_writer_poll(struct hfb_writer *writer, uint64_t now_ns)
{
	uint32_t work;
	bool group;

	writer->now_ns = now_ns;
	writer_enable(writer);
	work = mail_poll(writer);
	work += reap(writer);
	if (writer->unpark_again) {
		writer->unpark_again = false;
		hfb_read_unpark(writer, NULL);
	}
	group = writer->store->flush_covers &&
		(writer->active_count >= GROUP_LOGS || writer->store->group_always);
	for (uint32_t i = 0; i < writer->active_count; i++) {
		struct hfb_log *log = writer->active[i];

		log->claim_bytes = 0;
		hfb_log_checkpoint(log);
		if (log->detach != HFB_ATTACHED)
			log_detaching(writer, log);
		/* from there on nothing may be asked of the helper */
		if (log->detach >= HFB_DETACH_LET_GO)
			continue;
		if (writer->store->config.tail == HFB_TAIL_PAD &&
		    hfb_write_begins(writer, log, group))
			hfb_log_block_fill(log);
		work += log_publish(log);
		ring_consider(writer, log);
	}
	writer->delayed = false;
	work += hfb_journal_form(writer->journal);
	work += forms(writer, group);
	if (writer->store->flush_covers)
		hfb_write_flush_start(writer);
	if (writer->in_flight > 0 && writer->dead == 0) {
		submit(writer);
		work += reap(writer);
	}
	active_settle(writer);
	if (writer->wake_helper) {
		writer->wake_helper = false;
		hfb_store_wake(writer->store);
	}
	hfb_writer_give_way(writer);
	return work;
}

bool
hfb_writer_busy(const struct hfb_writer *writer)
{
	return writer->in_flight > 0 || writer->delayed || hfb_journal_waits(writer->journal);
}

int
hfb_writer_eventfd(const struct hfb_writer *writer)
{
	return writer->io->event_fd;
}

const struct hfb_writer_stats *
hfb_writer_stats(const struct hfb_writer *writer)
{
	return &writer->stats;
}
