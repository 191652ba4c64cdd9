/* SPDX-License-Identifier: Apache-2.0 */
#include "compactor.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bug.h"
#include "compact.h"
#include "store_private.h"

#define RATE_DEFAULT (64ull * HFB_MIB) /* bytes read and written a second */
#define KEYS_MAX     2000000ull
#define LAG_NS	     3600000000000ull /* what is so old is compacted however little it is */
#define RETRY_NS     60000000000ull
#define NICE	     10

/* One log's pass. `log` is looked at by the helper only. */
struct work {
	struct hfb_compactor *compactor;
	struct hfb_log *log;
	struct hfb_compact_job job;
	struct hfb_err err;
	int result;
	/* under the lock */
	bool cancel, done;
	bool ready, answered; /* a file waits for its place; it has it, or not */
	uint32_t ready_segment;
	const char *ready_path;
	uint64_t ready_bytes;
	int ready_result;
	/* the compactor's */
	uint64_t began_ns, bytes;
};

struct hfb_compactor {
	struct hfb_store *store;
	bool manual, stop, running;
	uint64_t bytes_per_s;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct work *work; /* under the lock; NULL = idle */
};

/* Taking a segment's place: helper -------------------------------------------------- */

static int
leaving_room(struct hfb_log *log)
{
	uint32_t max = log->leaving_count + 16;
	struct hfb_segment **more;

	if (log->leaving_count < log->leaving_max)
		return 0;
	more = realloc(log->leaving, max * sizeof(struct hfb_segment *));
	if (more == NULL)
		return -ENOMEM;
	log->leaving = more;
	log->leaving_max = max;
	return 0;
}

static int
segment_replace(struct hfb_log *log, const struct hfb_compact_segment *of, const char *path,
		uint64_t data_bytes)
{
	struct hfb_env *env = log->store->env;
	const struct hfb_table *table = log->table.current;
	struct hfb_segment *old, *made;
	struct hfb_table *copy;
	char name[HFB_PATH_MAX];
	int at = hfb_table_find(table, of->base_position), r;

	if (at < 0 || table->segments[at]->base_position != of->base_position) {
		hfb_env_unlink(env, path); /* retired meanwhile */
		return 0;
	}
	old = table->segments[at];
	hfb_assert(old->sealed);
	hfb_assert(old->capacity_bytes == of->capacity_bytes);
	r = hfb_segment_path(name, sizeof(name), log->folder, of->base_position, ".seg");
	if (r < 0)
		return r;
	/* All that may fail before the name changes. */
	made = hfb_segment_known(old->base_position, old->capacity_bytes, HFB_SEGMENT_COMPACTED, 0);
	copy = made == NULL || leaving_room(log) < 0 ? NULL : hfb_table_copy(&log->table);
	if (copy == NULL) {
		free(made);
		return -ENOMEM;
	}
	made->base_offset = old->base_offset;
	made->end_offset = old->end_offset;
	made->first_timestamp_ns = old->first_timestamp_ns;
	made->last_timestamp_ns = old->last_timestamp_ns;
	made->begun = 1;
	made->sealed = true;
	made->data_bytes = data_bytes;
	made->used_ns = hfb_env_now_ns(env);
	r = hfb_env_rename(env, path, name);
	if (r < 0) {
		free(copy);
		free(made);
		return r;
	}
	copy->segments[at] = made;
	hfb_table_publish(&log->table, copy);
	/* Reads under way, and those that wait for its file, see to it that it stays. */
	old->superseded = true;
	log->leaving[log->leaving_count++] = old;
	hfb_retention_leave(log);
#ifndef HFB_BUG_NO_DIRECTORY_SYNC
	/* Failing, it may be the old one again after a crash: right as well, but nothing
	 * that relies on the new one may follow. */
	r = hfb_env_sync_dir(env, log->folder);
#endif
	return r;
}

/* The compactor's calls --------------------------------------------------------------- */

static int
work_ready(void *arg, uint32_t segment, const char *path, uint64_t data_bytes)
{
	struct work *work = arg;
	struct hfb_compactor *c = work->compactor;
	int r;

	if (c->manual)
		return segment_replace(work->log, &work->job.segments[segment], path, data_bytes);
	pthread_mutex_lock(&c->lock);
	work->ready_segment = segment;
	work->ready_path = path;
	work->ready_bytes = data_bytes;
	work->answered = false;
	work->ready = true;
	hfb_store_wake(c->store);
	while (!work->answered && !work->cancel)
		pthread_cond_wait(&c->changed, &c->lock);
	r = work->answered ? work->ready_result : -ECANCELED;
	work->ready = false;
	pthread_mutex_unlock(&c->lock);
	return r;
}

static uint64_t
clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static bool
work_pace(void *arg, uint64_t bytes)
{
	struct work *work = arg;
	struct hfb_compactor *c = work->compactor;
	struct timespec until;
	uint64_t due_ns;
	bool go_on;

	if (c->manual)
		return true;
	work->bytes += bytes;
	due_ns = work->began_ns + (uint64_t)((double)work->bytes * 1e9 / (double)c->bytes_per_s);
	until.tv_sec = (time_t)(due_ns / 1000000000u);
	until.tv_nsec = (long)(due_ns % 1000000000u);
	pthread_mutex_lock(&c->lock);
	while (!work->cancel && clock_ns() < due_ns)
		pthread_cond_timedwait(&c->changed, &c->lock, &until);
	go_on = !work->cancel;
	pthread_mutex_unlock(&c->lock);
	return go_on;
}

static void *
compactor_run(void *arg)
{
	struct hfb_compactor *c = arg;
	cpu_set_t cpus;

	pthread_setname_np(pthread_self(), "hfbus-compactor");
	if (c->store->config.helper_cpu >= 0 && c->store->config.helper_cpu < CPU_SETSIZE) {
		CPU_ZERO(&cpus);
		CPU_SET((unsigned int)c->store->config.helper_cpu, &cpus);
		pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus);
	}
	/* after all who wait for something */
	setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
	pthread_mutex_lock(&c->lock);
	while (!c->stop) {
		struct work *work = c->work;

		if (work == NULL || work->done) {
			pthread_cond_wait(&c->changed, &c->lock);
			continue;
		}
		pthread_mutex_unlock(&c->lock);
		work->began_ns = clock_ns();
		work->result = hfb_compact_run(&work->job, &work->err);
		pthread_mutex_lock(&c->lock);
		work->done = true;
		pthread_cond_broadcast(&c->changed);
		hfb_store_wake(c->store);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

/* Begin and end: helper ------------------------------------------------------------------ */

static void
work_free(struct work *work)
{
	if (work == NULL)
		return;
	free((char *)(uintptr_t)work->job.folder);
	free(work->job.segments);
	free(work);
}

static void
work_end(struct work *work)
{
	struct hfb_log *log = work->log;
	uint64_t now_ns = hfb_env_now_ns(log->store->env);

	/* a pass that was not done has not seen all of them */
	if (work->result >= 0 || log->tombstone_first_ns == 0 ||
	    (work->job.tombstone_first_ns != 0 &&
	     work->job.tombstone_first_ns < log->tombstone_first_ns))
		log->tombstone_first_ns = work->job.tombstone_first_ns;
	if (work->result < 0 && work->result != -ECANCELED) {
		hfb_helper_trouble(log, &work->err);
		log->compact_retry_ns = now_ns + RETRY_NS;
	}
	work_free(work);
}

/* Positions from here on may be in the core's hands. */
static uint64_t
plans_base(struct hfb_log *log)
{
	uint32_t head, tail;
	uint64_t base;

	do {
		head = __atomic_load_n(&log->plan_head, __ATOMIC_ACQUIRE);
		tail = __atomic_load_n(&log->plan_tail, __ATOMIC_ACQUIRE);
		if (head == tail)
			return __atomic_load_n(&log->positions->filed, __ATOMIC_ACQUIRE);
		base = __atomic_load_n(&hfb_log_plan(log, head)->base, __ATOMIC_RELAXED);
		/* A slot is filled anew only after the head has passed it. */
	} while (__atomic_load_n(&log->plan_head, __ATOMIC_ACQUIRE) != head);
	return base;
}

/* The oldest segments that nobody writes and recovery does not scan. */
static uint32_t
eligible_count(struct hfb_log *log, const struct hfb_table *table)
{
	uint64_t base = plans_base(log);
	uint32_t n = 0;

	if (base > log->checkpoint_saved)
		base = log->checkpoint_saved;
	while (n < table->count && table->segments[n]->sealed &&
	       table->segments[n]->base_position + table->segments[n]->capacity_bytes <= base)
		n++;
	return n;
}

static bool
is_due(const struct hfb_log *log, const struct hfb_table *table, uint32_t n, uint32_t dirty,
       uint64_t now_ns)
{
	uint64_t tombstone_ns = __atomic_load_n(&log->tombstone_ns, __ATOMIC_RELAXED);
	uint64_t clean_bytes = 0, dirty_bytes = 0;

	for (uint32_t i = 0; i < n; i++) {
		if (i < dirty)
			clean_bytes += table->segments[i]->data_bytes;
		else
			dirty_bytes += table->segments[i]->capacity_bytes;
	}
	if (dirty_bytes > 0 && (dirty_bytes >= clean_bytes ||
				table->segments[dirty]->last_timestamp_ns + LAG_NS < now_ns))
		return true;
	if (tombstone_ns == 0)
		tombstone_ns = HFB_TOMBSTONE_NS_DEFAULT;
	return n > 0 && log->tombstone_first_ns != 0 &&
	       log->tombstone_first_ns + tombstone_ns < now_ns;
}

static struct work *
work_make(struct hfb_compactor *c, struct hfb_log *log, const struct hfb_table *table, uint32_t n,
	  uint32_t dirty, uint64_t now_ns)
{
	struct work *work = calloc(1, sizeof(*work));

	if (work == NULL)
		return NULL;
	work->compactor = c;
	work->log = log;
	work->job = (struct hfb_compact_job){
		.env = c->store->env,
		.folder = strdup(log->folder),
		.topic = log->topic_uuid,
		.partition = log->partition,
		.segments_count = n,
		.dirty_from = dirty,
		.segments = calloc(n > 0 ? n : 1, sizeof(*work->job.segments)),
		.now_ns = now_ns,
		.tombstone_ns = __atomic_load_n(&log->tombstone_ns, __ATOMIC_RELAXED),
		.keys_max = KEYS_MAX,
		.ready = work_ready,
		.pace = work_pace,
		.arg = work,
		.start_position = &log->positions->start.position,
	};
	if (work->job.folder == NULL || work->job.segments == NULL) {
		work_free(work);
		return NULL;
	}
	for (uint32_t i = 0; i < n; i++) {
		const struct hfb_segment *s = table->segments[i];

		work->job.segments[i] = (struct hfb_compact_segment){
			.base_position = s->base_position,
			.capacity_bytes = s->capacity_bytes,
			.base_offset = s->base_offset,
			.end_offset = s->end_offset,
			.first_timestamp_ns = s->first_timestamp_ns,
			.last_timestamp_ns = s->last_timestamp_ns,
			.kind = s->kind,
		};
	}
	return work;
}

void
hfb_compactor_consider(struct hfb_compactor *c, struct hfb_log *log, uint64_t now_ns)
{
	const struct hfb_table *table = log->table.current;
	uint32_t n, dirty = 0;
	struct work *work;

	if (__atomic_load_n(&log->cleanup, __ATOMIC_RELAXED) != HFB_CLEANUP_COMPACT ||
	    c->work != NULL || now_ns < log->compact_retry_ns)
		return;
	n = eligible_count(log, table);
	/* Those that are compacted come first: a pass goes from the oldest to the newest. */
	while (dirty < n && table->segments[dirty]->kind == HFB_SEGMENT_COMPACTED)
		dirty++;
	if (!is_due(log, table, n, dirty, now_ns))
		return;
	work = work_make(c, log, table, n, dirty, now_ns);
	if (work == NULL)
		return;
	if (c->manual) {
		work->result = hfb_compact_run(&work->job, &work->err);
		work_end(work);
		return;
	}
	pthread_mutex_lock(&c->lock);
	c->work = work;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
}

uint32_t
hfb_compactor_serve(struct hfb_compactor *c)
{
	struct work *work, *done = NULL;
	uint32_t n = 0;

	pthread_mutex_lock(&c->lock);
	work = c->work;
	if (work != NULL && work->ready && !work->answered) {
		work->ready_result =
			segment_replace(work->log, &work->job.segments[work->ready_segment],
					work->ready_path, work->ready_bytes);
		work->answered = true;
		pthread_cond_broadcast(&c->changed);
		n++;
	}
	if (work != NULL && work->done) {
		c->work = NULL;
		done = work;
		n++;
	}
	pthread_mutex_unlock(&c->lock);
	if (done != NULL)
		work_end(done);
	return n;
}

void
hfb_compactor_forget(struct hfb_compactor *c, struct hfb_log *log)
{
	struct work *work;

	pthread_mutex_lock(&c->lock);
	work = c->work;
	if (work == NULL || work->log != log) {
		pthread_mutex_unlock(&c->lock);
		return;
	}
	/* It looks up between pieces of at most a batch and a write. */
	work->cancel = true;
	pthread_cond_broadcast(&c->changed);
	while (!work->done)
		pthread_cond_wait(&c->changed, &c->lock);
	c->work = NULL;
	pthread_mutex_unlock(&c->lock);
	work_free(work);
}

/* Life -------------------------------------------------------------------------------- */

int
hfb_compactor_create(struct hfb_store *store, struct hfb_compactor **ret, struct hfb_err *err)
{
	struct hfb_compactor *c = calloc(1, sizeof(*c));
	pthread_condattr_t attributes;
	int r;

	if (c == NULL)
		return hfb_err_set(err, -ENOMEM, "no memory for compaction");
	c->store = store;
	c->manual = store->config.helper_manual;
	c->bytes_per_s = store->config.compact_bytes_per_s != 0 ? store->config.compact_bytes_per_s
								: RATE_DEFAULT;
	pthread_mutex_init(&c->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&c->changed, &attributes);
	pthread_condattr_destroy(&attributes);
	if (!c->manual) {
		r = pthread_create(&c->thread, NULL, compactor_run, c);
		if (r != 0) {
			hfb_compactor_destroy(c);
			return hfb_err_set(err, -r, "no thread for compaction: %s", strerror(r));
		}
		c->running = true;
	}
	*ret = c;
	return 0;
}

void
hfb_compactor_destroy(struct hfb_compactor *c)
{
	if (c == NULL)
		return;
	if (c->running) {
		pthread_mutex_lock(&c->lock);
		c->stop = true;
		if (c->work != NULL)
			c->work->cancel = true;
		pthread_cond_broadcast(&c->changed);
		pthread_mutex_unlock(&c->lock);
		pthread_join(c->thread, NULL);
	}
	work_free(c->work);
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock);
	free(c);
}
