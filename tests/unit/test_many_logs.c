/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many logs that fill alike, and the one helper.
 *
 * Goal:   what many want at the same time costs a few syncs, not some for each; a log's
 *	   segments stay small beside what its retention keeps, and partitions of a
 *	   topic are not full together; what is not made yet
 *	   goes by need, and never keeps the helper from all else.
 * Method: the same batches to some logs on a disk in memory that counts, with file work in
 *	   groups and without; the test is core and helper.
 */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "hfb_test_main.h"
#include "log_private.h"
#include "log_rig.h"
#include "sim_disk.h"
#include "store_private.h"

#define LOGS	      12u
#define KIB	      1024u
#define PAYLOAD_BYTES (8 * KIB)
#define APPEND_BYTES  (900 * KIB) /* to each: segments of 64, 256, 256 and more KiB */
#define RETENTION     (512 * KIB)
#define POLLS_MAX     100000u

struct many {
	struct sim_disk *disk;
	struct hfb_store *store;
	struct hfb_writer *writer;
	struct hfb_positions *positions;
	struct hfb_log *logs[LOGS];
	uint64_t longest; /* segment planned */
};

static void
partitions_open(struct many *m, uint32_t group_min, bool one_topic)
{
	struct hfb_store_config config = {
		.data_dir = "/data", .helper_cpu = -1, .helper_manual = true, .group_min = group_min
	};
	struct hfb_writer_config writer_config = { .logs_max = LOGS, .producers_max = 16 };
	struct hfb_log_report report;
	struct hfb_err err;
	uint32_t epoch;

	memset(m, 0, sizeof(*m));
	m->disk = sim_disk_create(7);
	m->positions = aligned_alloc(64, LOGS * sizeof(*m->positions));
	memset(m->positions, 0, LOGS * sizeof(*m->positions));
	CU_ASSERT_EQUAL_FATAL(hfb_env_mkdir(sim_disk_env(m->disk), "/data", 0755), 0);
	CU_ASSERT_EQUAL_FATAL(hfb_store_open(&config, sim_disk_env(m->disk), &m->store, &err), 0);
	CU_ASSERT_EQUAL_FATAL(hfb_store_epoch_begin(m->store, &epoch, &err), 0);
	CU_ASSERT_EQUAL_FATAL(hfb_writer_create(m->store, &writer_config, &m->writer, &err), 0);
	for (uint32_t i = 0; i < LOGS; i++) {
		struct hfb_log_config log = { .topic = "alike",
					      .topic_uuid.bytes[0] =
						      (uint8_t)(one_topic ? 9 : 9 + i),
					      .partition = one_topic ? i : 0,
					      .leader_epoch = epoch,
					      .retention_bytes = RETENTION,
					      .positions = &m->positions[i] };

		CU_ASSERT_EQUAL_FATAL(hfb_log_open(m->store, &log, &m->logs[i], &report, &err), 0);
		hfb_writer_attach(m->writer, m->logs[i]);
	}
}

/* First partitions of topics: partitions of one differ in their segments. */
static void
many_open(struct many *m, uint32_t group_min)
{
	partitions_open(m, group_min, false);
}

static void
many_close(struct many *m)
{
	CU_ASSERT_TRUE_FATAL(rig_logs_close(m->store, m->writer, m->logs, LOGS));
	hfb_writer_destroy(m->writer);
	hfb_store_close(m->store);
	sim_disk_destroy(m->disk);
	free(m->positions);
}

static void
turn(struct many *m)
{
	hfb_writer_poll(m->writer, hfb_clock_now_ns());
	hfb_store_help(m->store);
	for (uint32_t i = 0; i < LOGS; i++)
		for (uint32_t n = m->logs[i]->plan_head; n != m->logs[i]->plan_tail; n++) {
			const struct hfb_plan *plan = hfb_log_plan(m->logs[i], n);

			if (plan->end - plan->base > m->longest)
				m->longest = plan->end - plan->base;
		}
}

/* To all of them alike, until all is durable. */
static void
fill(struct many *m)
{
	uint32_t left = 1, tries = 0;

	for (uint64_t n = 0; n < APPEND_BYTES / PAYLOAD_BYTES; n++) {
		for (uint32_t i = 0; i < LOGS; i++)
			while (!rig_append_to(m->logs[i], n, PAYLOAD_BYTES)) {
				CU_ASSERT_TRUE_FATAL(tries++ < POLLS_MAX);
				turn(m);
			}
		turn(m);
	}
	for (tries = 0; left > 0 && tries < POLLS_MAX; tries++) {
		turn(m);
		left = 0;
		for (uint32_t i = 0; i < LOGS; i++)
			left += hfb_log_position(m->logs[i], HFB_STAGE_DURABLE) !=
				hfb_log_position(m->logs[i], HFB_STAGE_RECEIVED);
	}
	CU_ASSERT_EQUAL_FATAL(left, 0);
}

/* Syncs of files and folders while they fill; all of them are there afterwards. */
static uint64_t
syncs_of(uint32_t group_min, uint64_t *ret_longest)
{
	struct sim_disk_counts before, after;
	const char *what = NULL;
	struct many m;

	many_open(&m, group_min);
	sim_disk_counts(m.disk, &before);
	fill(&m);
	sim_disk_counts(m.disk, &after);
	CU_ASSERT_EQUAL(sim_disk_breaches(m.disk, &what), 0);
	CU_ASSERT_TRUE(after.creates - before.creates >= 3 * LOGS);
	*ret_longest = m.longest;
	many_close(&m);
	return after.syncs - before.syncs + after.dir_syncs - before.dir_syncs;
}

static void
test_what_many_want_is_synced_together(void)
{
	uint64_t longest, alone = syncs_of(UINT32_MAX, &longest);
	uint64_t together = syncs_of(LOGS / 2, &longest);

	printf("(%llu syncs, %llu in groups) ", (unsigned long long)alone,
	       (unsigned long long)together);
	/* each log's first segment, two more, and their indexes */
	CU_ASSERT_TRUE(alone > 5 * LOGS);
	CU_ASSERT_TRUE(together < alone / 2);
}

/* Syncs of files and folders so far; one of all is none of them. */
static uint64_t
syncs_now(const struct many *m)
{
	struct sim_disk_counts counts;

	sim_disk_counts(m->disk, &counts);
	return counts.syncs + counts.dir_syncs;
}

static bool
all_ask(const struct many *m, uint32_t bit)
{
	for (uint32_t i = 0; i < LOGS; i++)
		if ((__atomic_load_n(&m->logs[i]->asks, __ATOMIC_RELAXED) & bit) == 0)
			return false;
	return true;
}

/* Two segments are made for each. */
static bool
all_have_two(struct many *m)
{
	for (uint32_t i = 0; i < LOGS; i++)
		if (m->logs[i]->plan_made < 2)
			return false;
	return true;
}

/* The first segment of each is full and durable before the helper hears of any. */
static void
many_open_full(struct many *m, uint32_t group_min)
{
	uint32_t tries;

	many_open(m, group_min);
	for (tries = 0; !all_have_two(m) && tries < POLLS_MAX; tries++) {
		for (uint32_t i = 0; i < LOGS; i++)
			if (m->logs[i]->plan_tail < 2)
				rig_append_to(m->logs[i], 0, PAYLOAD_BYTES);
		turn(m);
	}
	CU_ASSERT_TRUE_FATAL(all_have_two(m));
	for (uint32_t i = 0; i < LOGS; i++)
		for (tries = 0; hfb_log_segment_base(m->logs[i]) == 0; tries++) {
			CU_ASSERT_TRUE_FATAL(tries < POLLS_MAX);
			rig_append_to(m->logs[i], 0, PAYLOAD_BYTES);
			hfb_writer_poll(m->writer, hfb_clock_now_ns());
		}
	for (tries = 0; !all_ask(m, HFB_ASK_SEAL) && tries < POLLS_MAX; tries++)
		hfb_writer_poll(m->writer, hfb_clock_now_ns());
	CU_ASSERT_TRUE_FATAL(all_ask(m, HFB_ASK_SEAL));
}

static uint64_t
syncs_of_seals(uint32_t group_min)
{
	struct many m;
	uint64_t syncs;

	many_open_full(&m, group_min);
	syncs = syncs_now(&m);
	hfb_store_help(m.store);
	syncs = syncs_now(&m) - syncs;
	for (uint32_t i = 0; i < LOGS; i++)
		CU_ASSERT_TRUE(m.logs[i]->table.current->segments[0]->sealed);
	many_close(&m);
	return syncs;
}

static void
test_indexes_are_synced_together(void)
{
	uint64_t alone = syncs_of_seals(UINT32_MAX), together = syncs_of_seals(LOGS / 2);

	printf("(%llu syncs, %llu in groups) ", (unsigned long long)alone,
	       (unsigned long long)together);
	CU_ASSERT_TRUE(alone >= LOGS);
	/* the indexes, and what else was asked for */
	CU_ASSERT_TRUE(together <= LOGS / 2);
}

/* When the newest file of @log was made. */
static uint64_t
newest_ns(struct many *m, const struct hfb_log *log)
{
	const struct hfb_table *table = log->table.current;
	struct hfb_segment_header header;
	char path[HFB_PATH_MAX];
	uint64_t size;
	uint8_t *bytes;

	CU_ASSERT_EQUAL_FATAL(hfb_segment_path(path, sizeof(path), log->folder,
					       table->segments[table->count - 1]->base_position,
					       ".seg"),
			      0);
	bytes = sim_disk_read(m->disk, path, &size);
	CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
	memcpy(&header, bytes, sizeof(header));
	free(bytes);
	return header.created_ns;
}

static void
test_seals_do_not_wait_for_all_segments(void)
{
	uint64_t newest = 0, sealed = 0;
	struct many m;

	many_open_full(&m, LOGS / 2);
	for (uint32_t i = 0; i < LOGS; i++)
		for (uint32_t plans = 0; plans < 3; plans++)
			CU_ASSERT_TRUE_FATAL(hfb_log_plan_next(m.logs[i], 0));
	m.store->turn_zeros = 1;
	hfb_store_help(m.store);
	for (uint32_t i = 0; i < LOGS; i++) {
		CU_ASSERT_EQUAL(m.logs[i]->plan_made, m.logs[i]->plan_tail);
		if (newest_ns(&m, m.logs[i]) > newest)
			newest = newest_ns(&m, m.logs[i]);
		if (m.logs[i]->table.current->segments[0]->used_ns > sealed)
			sealed = m.logs[i]->table.current->segments[0]->used_ns;
	}
	CU_ASSERT_TRUE(sealed > 0);
	CU_ASSERT_TRUE(sealed < newest);
	many_close(&m);
}

static void
test_segments_are_small_beside_what_is_kept(void)
{
	uint64_t longest;

	syncs_of(LOGS / 2, &longest);
	CU_ASSERT_EQUAL(longest, RETENTION / 2);
}

static uint32_t
made_of(const struct many *m)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < LOGS; i++)
		n += m->logs[i]->plan_made;
	return n;
}

static void
segments_are_made_by_need(uint32_t group_min)
{
	const uint32_t urgent = 7;
	struct many m;
	uint32_t made;

	many_open(&m, group_min);
	for (uint32_t i = 0; i < LOGS; i++)
		while (!rig_append_to(m.logs[i], 0, PAYLOAD_BYTES))
			turn(&m);
	turn(&m);
	made = made_of(&m);
	for (uint32_t i = 0; i < LOGS; i++) {
		for (uint32_t plans = 0; plans < 3; plans++)
			CU_ASSERT_TRUE_FATAL(hfb_log_plan_next(m.logs[i], 0));
		hfb_prepare_want(m.logs[i]);
	}
	/* one of them is further than the others, and each turn is over with a file */
	CU_ASSERT_TRUE(rig_append_to(m.logs[urgent], 1, PAYLOAD_BYTES));
	hfb_writer_publish(m.writer);
	m.store->turn_zeros = 1;
	CU_ASSERT_EQUAL(hfb_prepare_serve(m.store, 1), 1);
	CU_ASSERT_EQUAL(made_of(&m), made + 1);
	CU_ASSERT_EQUAL(m.logs[urgent]->plan_made, m.logs[0]->plan_made + 1);
	for (uint32_t i = 1; i < LOGS; i++)
		CU_ASSERT_EQUAL(hfb_prepare_serve(m.store, 1), 1);
	for (uint32_t i = 1; i < LOGS; i++)
		CU_ASSERT_EQUAL(m.logs[i]->plan_made, m.logs[0]->plan_made);
	/* the rest, in one go */
	m.store->turn_zeros = UINT64_MAX;
	CU_ASSERT_EQUAL(hfb_prepare_serve(m.store, 1), LOGS);
	while (hfb_prepare_serve(m.store, 1) > 0)
		;
	for (uint32_t i = 0; i < LOGS; i++)
		CU_ASSERT_EQUAL(m.logs[i]->plan_made, m.logs[i]->plan_tail);
	CU_ASSERT_EQUAL(m.store->wanting_count, 0);
	many_close(&m);
}

static void
test_who_needs_a_segment_soonest_gets_it_first(void)
{
	segments_are_made_by_need(UINT32_MAX);
	segments_are_made_by_need(LOGS / 2);
}

static void
test_partitions_of_a_topic_do_not_roll_together(void)
{
	struct many m;
	uint64_t ends[3][LOGS];

	partitions_open(&m, LOGS / 2, true);
	for (uint32_t i = 0; i < LOGS; i++)
		while (!rig_append_to(m.logs[i], 0, PAYLOAD_BYTES))
			turn(&m);
	for (uint32_t i = 0; i < LOGS; i++) {
		uint64_t class_bytes = 64 * KIB;

		while (m.logs[i]->plan_tail - m.logs[i]->plan_head < 3)
			CU_ASSERT_TRUE_FATAL(hfb_log_plan_next(m.logs[i], 0));
		for (uint32_t n = 0; n < 3; n++, class_bytes *= 4) {
			const struct hfb_plan *plan =
				hfb_log_plan(m.logs[i], m.logs[i]->plan_head + n);
			uint64_t bytes = plan->end - plan->base;

			ends[n][i] = plan->end;
			/* from one class to below the next, but for what retention allows */
			CU_ASSERT_EQUAL(bytes % HFB_BLOCK_BYTES, 0);
			CU_ASSERT_TRUE(bytes <= RETENTION / 2);
			CU_ASSERT_TRUE(bytes >= class_bytes || bytes == RETENTION / 2);
			CU_ASSERT_TRUE(bytes < 4 * class_bytes);
		}
	}
	for (uint32_t n = 0; n < 3; n++)
		for (uint32_t i = 0; i < LOGS; i++)
			for (uint32_t k = 0; k < i; k++)
				CU_ASSERT_NOT_EQUAL(ends[n][i], ends[n][k]);
	many_close(&m);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "what many logs want is synced together",
		  test_what_many_want_is_synced_together },
		{ "indexes are synced together", test_indexes_are_synced_together },
		{ "who needs a segment soonest gets it first",
		  test_who_needs_a_segment_soonest_gets_it_first },
		{ "seals do not wait for all segments", test_seals_do_not_wait_for_all_segments },
		{ "partitions of a topic do not roll together",
		  test_partitions_of_a_topic_do_not_roll_together },
		{ "segments are small beside what is kept",
		  test_segments_are_small_beside_what_is_kept },
		CU_TEST_INFO_NULL,
	};

	return hfb_test_main("many logs", tests);
}
