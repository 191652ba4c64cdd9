/* SPDX-License-Identifier: Apache-2.0 */
/*
 * group.c - the same for many logs at once. Helper thread.
 *
 * A segment costs up to half a dozen syncs of its own, a checkpoint two; each waits for
 * the file system's journal. Where many logs want one at the same time (ten thousand new
 * topics, partitions that fill alike, a stop) all are written first, then one sync of the file
 * system covers them, then all get their names, and one more sync covers those. The same order as
 * for one log: a file has its name only when all of it is on disk.
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

/* Segments --------------------------------------------------------------------------- */

uint32_t
hfb_group_segments(struct hfb_store *store, struct hfb_log **logs, uint32_t n)
{
	struct hfb_segment *made[HFB_GROUP_MAX];
	struct hfb_log *of[HFB_GROUP_MAX];
	struct hfb_err err;
	uint64_t zeros = 0;
	uint32_t count = 0, looked;

	for (looked = 0; looked < n && zeros < store->turn_zeros; looked++) {
		struct hfb_log *log = logs[looked];

		store->taken = n - 1 - looked;
		if (hfb_prepare_segment(log, hfb_log_plan(log, log->plan_made), false, &made[count],
					&err) < 0)
			continue;
		/* a recycled one has been written before */
		if (made[count]->generation == 0)
			zeros += made[count]->capacity_bytes;
		of[count++] = log;
	}
	if (count == 0)
		return looked;
	if (!all_synced(store)) {
		for (uint32_t i = 0; i < count; i++) {
			hfb_segment_discard(store->env, of[i]->folder, made[i]);
			hfb_segment_free(store->env, made[i]);
		}
		return looked;
	}
	n = 0;
	for (uint32_t i = 0; i < count; i++) {
		if (hfb_segment_name(store->env, of[i]->folder, made[i]) < 0) {
			hfb_segment_free(store->env, made[i]);
			continue;
		}
		made[n] = made[i];
		of[n++] = of[i];
	}
	if (!all_synced(store)) {
		/* Names that may not last: the way of single logs makes them anew. */
		for (uint32_t i = 0; i < n; i++) {
			hfb_segment_discard(store->env, of[i]->folder, made[i]);
			hfb_segment_free(store->env, made[i]);
		}
		return looked;
	}
	for (uint32_t i = 0; i < n; i++) {
		of[i]->folder_made = true;
		if (hfb_prepare_done(of[i], made[i]) == 0)
			continue;
		hfb_segment_discard(store->env, of[i]->folder, made[i]);
		hfb_segment_free(store->env, made[i]);
	}
	return looked;
}

/* Indexes ------------------------------------------------------------------------------ */

/* Their names need no sync: an index that is lost is built again. */
static void
indexes_save(struct hfb_store *store, void **taken, uint32_t n)
{
	struct hfb_log *logs[HFB_GROUP_MAX];
	uint32_t count = 0, staged = 0;
	bool synced;

	for (uint32_t i = 0; i < n; i++) {
		struct hfb_log *log = taken[i];

		if ((__atomic_load_n(&log->asks, __ATOMIC_ACQUIRE) & HFB_ASK_SEAL) != 0)
			logs[count++] = log;
	}
	if (count < store->config.group_min)
		return;
	for (uint32_t i = 0; i < count; i++)
		staged += hfb_retention_seal_stage(logs[i]);
	synced = staged > 0 && all_synced(store);
	for (uint32_t i = 0; i < count; i++)
		hfb_retention_seal_name(logs[i], synced);
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
	indexes_save(store, taken, n);
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
