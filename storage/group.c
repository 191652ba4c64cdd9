/* SPDX-License-Identifier: Apache-2.0 */
/*
 * group.c - the same for many logs at once. Helper thread.
 *
 * A first segment costs half a dozen syncs of its own, a checkpoint two; each waits for
 * the file system's journal. Where many logs want one at the same time (ten thousand new
 * topics, a stop) all are written first, then one sync of the file system covers them,
 * then all get their names, and one more sync covers those. The same order as for one
 * log: a file has its name only when all of it is on disk.
 *
 * What does not work out here is left for the way of single logs, that says why.
 */
#include <stdlib.h>
#include <string.h>

#include "store_private.h"

static bool
all_synced(struct hfb_store *store)
{
#ifndef HFB_BUG_NO_DIRECTORY_SYNC
	return hfb_env_sync_all(store->env, store->data_dir) == 0;
#else
	return false;
#endif
}

/* First segments --------------------------------------------------------------------- */

static bool
segment_fresh(struct hfb_log *log)
{
	uint32_t asks = __atomic_load_n(&log->asks, __ATOMIC_ACQUIRE);

	return (asks & HFB_ASK_SEGMENT) != 0 && (asks & HFB_ASK_LET_GO) == 0 && !log->folder_made &&
	       log->plan_made == 0 && __atomic_load_n(&log->plan_tail, __ATOMIC_ACQUIRE) == 1;
}

static void
segments_make(struct hfb_store *store, struct hfb_log **logs, uint32_t n)
{
	struct hfb_segment *made[HFB_GROUP_MAX];
	struct hfb_err err;
	uint32_t count = 0;

	for (uint32_t i = 0; i < n; i++) {
		struct hfb_log *log = logs[i];
		struct hfb_segment_place place = hfb_log_place(log);
		const struct hfb_plan *plan = hfb_log_plan(log, 0);

		place.no_sync = true;
		if (hfb_segment_folder_make(&place, &err) < 0 ||
		    hfb_segment_create(&place, plan->base, plan->end - plan->base, &made[count],
				       &err) < 0)
			continue;
		logs[count++] = log;
	}
	if (count == 0)
		return;
	if (!all_synced(store)) {
		for (uint32_t i = 0; i < count; i++) {
			hfb_segment_discard(store->env, logs[i]->folder, made[i]);
			hfb_segment_free(store->env, made[i]);
		}
		return;
	}
	n = 0;
	for (uint32_t i = 0; i < count; i++) {
		if (hfb_segment_name(store->env, logs[i]->folder, made[i]) < 0) {
			hfb_segment_free(store->env, made[i]);
			continue;
		}
		made[n] = made[i];
		logs[n++] = logs[i];
	}
	if (!all_synced(store)) {
		/* Names that may not last: the way of single logs makes them anew. */
		for (uint32_t i = 0; i < n; i++) {
			hfb_segment_discard(store->env, logs[i]->folder, made[i]);
			hfb_segment_free(store->env, made[i]);
		}
		return;
	}
	for (uint32_t i = 0; i < n; i++) {
		logs[i]->folder_made = true;
		if (hfb_prepare_done(logs[i], made[i]) < 0) {
			hfb_segment_discard(store->env, logs[i]->folder, made[i]);
			hfb_segment_free(store->env, made[i]);
		}
	}
}

/* Checkpoints -------------------------------------------------------------------------- */

static void
checkpoints_save(struct hfb_store *store, struct hfb_log **logs, uint32_t n)
{
	struct hfb_snapshot *snapshots[HFB_GROUP_MAX];
	struct hfb_checkpoint c;
	struct hfb_err err;
	uint32_t count = 0;
	bool fine;

	for (uint32_t i = 0; i < n; i++) {
		struct hfb_snapshot *s =
			__atomic_exchange_n(&logs[i]->snapshot_full, NULL, __ATOMIC_ACQUIRE);

		hfb_retention_checkpoint_fill(logs[i], s, &c);
		if (hfb_checkpoint_stage(store->env, logs[i]->folder, &c, &err) < 0) {
			/* as it was, for the way of single logs */
			__atomic_store_n(&logs[i]->snapshot_full, s, __ATOMIC_RELEASE);
			continue;
		}
		snapshots[count] = s;
		logs[count++] = logs[i];
	}
	if (count == 0)
		return;
	fine = all_synced(store);
	for (uint32_t i = 0; fine && i < count; i++)
		if (hfb_checkpoint_name(store->env, logs[i]->folder) < 0)
			fine = false; /* nobody may rely on any of them */
	if (fine)
		fine = all_synced(store);
	for (uint32_t i = 0; i < count; i++) {
		if (fine)
			hfb_retention_checkpoint_done(logs[i], snapshots[i], true);
		else
			__atomic_store_n(&logs[i]->snapshot_full, snapshots[i], __ATOMIC_RELEASE);
	}
}

/* -------------------------------------------------------------------------------------- */

void
hfb_group_serve(struct hfb_store *store, void **taken, uint32_t n)
{
	struct hfb_log *logs[HFB_GROUP_MAX];
	uint32_t count = 0;

	if (n < store->config.group_min)
		return;
	for (uint32_t i = 0; i < n; i++)
		if (segment_fresh(taken[i]))
			logs[count++] = taken[i];
	if (count >= store->config.group_min)
		segments_make(store, logs, count);
	count = 0;
	for (uint32_t i = 0; i < n; i++) {
		struct hfb_log *log = taken[i];
		const struct hfb_snapshot *s =
			__atomic_load_n(&log->snapshot_full, __ATOMIC_ACQUIRE);

		if (s != NULL && s->dedup_count <= s->dedup_max)
			logs[count++] = log;
	}
	if (count >= store->config.group_min)
		checkpoints_save(store, logs, count);
}
