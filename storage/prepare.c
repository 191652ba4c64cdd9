/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prepare.c - segments and rings, made before a core needs them. Helper thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store_private.h"

#define PAUSE_NS_MAX   5000000u
#define OTHERS_WAIT_NS 100000000u

/* A retired file of this size, taken from the log's list. */
static bool
retired_take(struct hfb_log *log, uint64_t capacity_bytes, struct hfb_retired *ret)
{
	for (uint32_t i = 0; i < log->retired_count; i++) {
		if (log->retired[i].capacity_bytes != capacity_bytes)
			continue;
		*ret = log->retired[i];
		log->retired_count--;
		log->retired[i] = log->retired[log->retired_count];
		return true;
	}
	return false;
}

/* Disk full: files kept for recycling that do not fit are better gone. */
static void
retired_discard(struct hfb_log *log)
{
	char path[HFB_PATH_MAX];

	for (uint32_t i = 0; i < log->retired_count; i++)
		if (hfb_segment_path(path, sizeof(path), log->folder, log->retired[i].base_position,
				     ".seg") == 0)
			hfb_env_unlink(log->store->env, path);
	log->retired_count = 0;
}

/*
 * A file made ahead of need must not hold up the synced writes of those that are in use: it is
 * written in small pieces with pauses, half of the time; without pauses when its log will need
 * it soon or others have waited long enough; in large ones when its log waits for it.
 */
struct gentle {
	struct hfb_log *log;
	const struct hfb_plan *plan;
	uint64_t paused_ns;
};

static bool
gently(void *arg, uint64_t took_ns)
{
	struct gentle *g = arg;
	uint64_t position =
		__atomic_load_n(&g->log->positions->received.position, __ATOMIC_RELAXED);
	uint64_t pause_ns = took_ns < PAUSE_NS_MAX ? took_ns : PAUSE_NS_MAX;

	if (position >= g->plan->base)
		return false;
	if (position + (g->plan->end - g->plan->base) / 8 >= g->plan->base ||
	    (g->paused_ns > OTHERS_WAIT_NS && hfb_helper_wanted(g->log->store)))
		return true;
	if (pause_ns > 0)
		nanosleep(&(struct timespec){ .tv_nsec = (long)pause_ns }, NULL);
	g->paused_ns += took_ns + pause_ns;
	return true;
}

int
hfb_prepare_segment(struct hfb_log *log, const struct hfb_plan *plan, bool synced,
		    struct hfb_segment **ret_segment, struct hfb_err *err)
{
	struct hfb_segment_place place = hfb_log_place(log);
	/* of a group: those behind it have waited for those before it */
	struct gentle gentle = { .log = log,
				 .plan = plan,
				 .paused_ns = synced ? 0 : OTHERS_WAIT_NS + 1 };
	uint64_t capacity = plan->end - plan->base;
	struct hfb_segment *segment = NULL;
	struct hfb_retired retired;
	char old[HFB_PATH_MAX];
	int r = 0;

	/* without a thread of its own there is nobody who could wait */
	if (!log->store->config.helper_manual) {
		place.gently = gently;
		place.arg = &gentle;
	}
	place.no_sync = !synced;
	if (!log->folder_made) {
		r = hfb_segment_folder_make(&place, err);
		if (r < 0)
			return r;
		log->folder_made = synced;
	}
	if (retired_take(log, capacity, &retired) &&
	    hfb_segment_path(old, sizeof(old), log->folder, retired.base_position, ".seg") == 0)
		r = hfb_segment_recycle(&place, old, retired.generation, plan->base, capacity,
					&segment, err);
	if (segment == NULL)
		r = hfb_segment_create(&place, plan->base, capacity, &segment, err);
	if (r < 0) {
		if ((r == -ENOSPC || r == -EDQUOT) && !hfb_retention_squeeze(log))
			retired_discard(log);
		return r;
	}
	*ret_segment = segment;
	return 0;
}

int
hfb_prepare_done(struct hfb_log *log, struct hfb_segment *segment)
{
	if (hfb_table_add(&log->table, segment) < 0)
		return -ENOMEM;
	hfb_table_tidy(&log->table);
	/* pairs with the acquires of the core */
	__atomic_store_n(&hfb_log_plan(log, log->plan_made)->segment, segment, __ATOMIC_RELEASE);
	log->plan_made++;
	__atomic_store_n(&log->prepare_error, 0, __ATOMIC_RELEASE);
	hfb_helper_mail(log);
	return 0;
}

/* Logs with plans to be made, in the order in which they asked. ------------------------------ */

void
hfb_prepare_want(struct hfb_log *log)
{
	struct hfb_store *store = log->store;

	if (log->wanting)
		return;
	log->wanting = true;
	log->wanting_next = NULL;
	log->wanting_previous = store->wanting_tail;
	if (store->wanting_tail != NULL)
		store->wanting_tail->wanting_next = log;
	else
		store->wanting_head = log;
	store->wanting_tail = log;
	store->wanting_count++;
}

void
hfb_prepare_forget(struct hfb_log *log)
{
	struct hfb_store *store = log->store;

	if (!log->wanting)
		return;
	log->wanting = false;
	if (log->wanting_previous != NULL)
		log->wanting_previous->wanting_next = log->wanting_next;
	else
		store->wanting_head = log->wanting_next;
	if (log->wanting_next != NULL)
		log->wanting_next->wanting_previous = log->wanting_previous;
	else
		store->wanting_tail = log->wanting_previous;
	store->wanting_count--;
}

static bool
has_plan(const struct hfb_log *log)
{
	/* pairs with the release in hfb_log_plan_next() */
	return (__atomic_load_n(&log->asks, __ATOMIC_ACQUIRE) & HFB_ASK_LET_GO) == 0 &&
	       log->plan_made != __atomic_load_n(&log->plan_tail, __ATOMIC_ACQUIRE);
}

/* Bytes that may still be appended before the log waits for it; less than 0: it does. */
static int64_t
left_bytes(struct hfb_log *log)
{
	return (int64_t)(hfb_log_plan(log, log->plan_made)->base -
			 __atomic_load_n(&log->positions->received.position, __ATOMIC_RELAXED));
}

struct wanted {
	struct hfb_log *log;
	int64_t left_bytes;
};

static int
wanted_compare(const void *a, const void *b)
{
	const struct wanted *x = a, *y = b;

	return x->left_bytes < y->left_bytes ? -1 : x->left_bytes > y->left_bytes;
}

/* By itself. Returns how many zeros were written; -errno: told, and tried again later. */
static int64_t
segment_make(struct hfb_log *log, uint64_t now_ns)
{
	struct hfb_segment *segment = NULL;
	struct hfb_err err;
	int r = hfb_prepare_segment(log, hfb_log_plan(log, log->plan_made), true, &segment, &err);

	if (r == 0) {
		int64_t zeros = segment->generation == 0 ? (int64_t)segment->capacity_bytes : 0;

		r = hfb_prepare_done(log, segment);
		if (r == 0)
			return zeros;
		hfb_segment_free(log->store->env, segment);
		hfb_err_set(&err, r, "%s: no memory for its segments", log->folder);
	}
	if (log->prepare_error != r)
		hfb_helper_trouble(log, &err);
	__atomic_store_n(&log->prepare_error, r, __ATOMIC_RELEASE);
	log->retry_ns = now_ns + HFB_RETRY_NS;
	log->store->retries++;
	hfb_helper_mail(log);
	return r;
}

uint32_t
hfb_prepare_serve(struct hfb_store *store, uint64_t now_ns)
{
	struct hfb_log *logs[HFB_GROUP_MAX], *next;
	struct wanted wanted[HFB_GROUP_MAX];
	uint32_t before[HFB_GROUP_MAX], n = 0, grouped = 0, made = 0;
	uint64_t zeros = 0;

	for (struct hfb_log *log = store->wanting_head; log != NULL && n < HFB_GROUP_MAX;
	     log = next) {
		next = log->wanting_next;
		if (has_plan(log))
			wanted[n++] = (struct wanted){ log, left_bytes(log) };
		else
			hfb_prepare_forget(log);
	}
	/* each log's first is wanted sooner than any log's second */
	qsort(wanted, n, sizeof(wanted[0]), wanted_compare);
	for (uint32_t i = 0; i < n; i++) {
		logs[i] = wanted[i].log;
		before[i] = logs[i]->plan_made;
	}
	if (n >= store->config.group_min)
		grouped = hfb_group_segments(store, logs, n);
	for (uint32_t i = 0; i < n && (i < grouped || (grouped == 0 && zeros < store->turn_zeros));
	     i++) {
		struct hfb_log *log = logs[i];

		store->taken = n - 1 - i;
		/* what did not work out in a group says why by itself */
		if (log->plan_made == before[i]) {
			int64_t r = segment_make(log, now_ns);

			if (r < 0) {
				hfb_prepare_forget(log);
				continue;
			}
			zeros += (uint64_t)r;
		}
		made++;
		/* others first, if it has more to be made */
		hfb_prepare_forget(log);
		if (has_plan(log))
			hfb_prepare_want(log);
	}
	return made;
}

void
hfb_prepare_ring(struct hfb_log *log)
{
	struct hfb_ring_config config = {
		.size = __atomic_load_n(&log->ring_wanted, __ATOMIC_RELAXED),
		.generation = log->rings->generation + 1,
		.hugepages = log->store->config.hugepages,
		.populate = true, /* by us, so that the core does not fault */
	};
	struct hfb_ring *ring;
	struct hfb_err err;

	if (config.size <= log->rings->size ||
	    __atomic_load_n(&log->ring_ready, __ATOMIC_ACQUIRE) != NULL)
		return;
	if (hfb_ring_create(&config, &ring, &err) < 0) {
		hfb_helper_trouble(log, &err);
		log->retry_ns = hfb_env_now_ns(log->store->env) + HFB_RETRY_NS;
		log->store->retries++;
		return;
	}
	ring->previous = log->rings;
	/* pairs with the acquire in hfb_log_ring_fd() */
	__atomic_store_n(&log->rings, ring, __ATOMIC_RELEASE);
	/* pairs with the acquire in log_mail() */
	__atomic_store_n(&log->ring_ready, ring, __ATOMIC_RELEASE);
	hfb_helper_mail(log);
}
