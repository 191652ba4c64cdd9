/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data folder, and many logs in one writer.
 *
 * Goal:   one hfbusd a folder; an epoch is never used twice, lost file or not; what
 *	   is on disk is found; many logs share a flush, and none waits for another.
 * Method: open and damage real folders.
 */
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "hfb_test_main.h"
#include "log.h"
#include "log_rig.h"
#include "writer.h"

#define LOGS 100

static void
test_a_folder_has_one_owner(void)
{
	struct hfb_store_config config = { .helper_cpu = -1 };
	struct hfb_store *first = NULL, *second = NULL;
	struct hfb_err err = { 0 };
	char path[512];

	snprintf(path, sizeof(path), "%s/a/b/data/", hfb_test_folder());
	config.data_dir = path;
	CU_ASSERT_EQUAL_FATAL(hfb_store_open(&config, NULL, &first, &err), 0);
	CU_ASSERT_EQUAL(hfb_store_open(&config, NULL, &second, &err), -EBUSY);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "--data"));
	CU_ASSERT_PTR_NULL(second);
	hfb_store_close(first);
	CU_ASSERT_EQUAL(hfb_store_open(&config, NULL, &second, &err), 0);
	hfb_store_close(second);
	hfb_store_close(NULL);
}

static void
epoch_damage(const char *folder, int how)
{
	char path[600];
	int fd;

	snprintf(path, sizeof(path), "%s/epoch", folder);
	if (how == 0) {
		unlink(path);
		return;
	}
	fd = open(path, O_RDWR);
	if (how == 1)
		CU_ASSERT_EQUAL(pwrite(fd, "x", 1, 17), 1)
	else if (how == 2)
		CU_ASSERT_EQUAL(ftruncate(fd, 5), 0)
	else
		CU_ASSERT_EQUAL(ftruncate(fd, 100000), 0)
	close(fd);
}

static void
test_an_epoch_is_never_used_twice(void)
{
	struct rig_config config = { 0 };
	uint32_t last = 0;
	struct rig rig;

	for (int how = 0; how < 4; how++) {
		CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "epochs", &config), 0);
		CU_ASSERT_TRUE(rig.epoch > last);
		CU_ASSERT_TRUE(rig_append(&rig, 16));
		CU_ASSERT_TRUE(rig_drain(&rig));
		CU_ASSERT_EQUAL_FATAL(rig_reopen(&rig, how % 2 == 0), 0);
		CU_ASSERT_TRUE(rig_append(&rig, 16));
		CU_ASSERT_TRUE(rig_drain(&rig));
		last = rig.epoch;
		CU_ASSERT_TRUE(rig_detach(&rig, how % 2 == 1));
		rig_close(&rig);
		epoch_damage(rig.data_dir, how);
	}
	CU_ASSERT_EQUAL(last >= 8, true);
}

struct found {
	uint32_t count;
	uint64_t partitions;
};

static void
found_one(void *arg, const char *topic, struct hfb_uuid uuid, uint32_t partition)
{
	struct found *found = arg;

	CU_ASSERT_STRING_EQUAL(topic, "many");
	CU_ASSERT_EQUAL(uuid.bytes[0], 7);
	found->count++;
	found->partitions += partition;
}

/* All logs get an event at once, @rounds times; each must become durable. */
static void
many_round(struct hfb_writer *writer, struct hfb_log **logs, uint32_t rounds)
{
	for (uint32_t round = 0; round < rounds; round++) {
		uint64_t until = hfb_clock_now_ns() + 20000000000ull;
		uint32_t left = LOGS;

		for (uint32_t i = 0; i < LOGS; i++)
			while (!rig_append_to(logs[i], round, 128) && hfb_clock_now_ns() < until)
				hfb_writer_poll(writer, hfb_clock_now_ns());
		while (left > 0 && hfb_clock_now_ns() < until) {
			hfb_writer_poll(writer, hfb_clock_now_ns());
			left = 0;
			for (uint32_t i = 0; i < LOGS; i++)
				left += hfb_log_position(logs[i], HFB_STAGE_DURABLE) !=
					hfb_log_position(logs[i], HFB_STAGE_RECEIVED);
			sched_yield();
		}
		CU_ASSERT_EQUAL(left, 0);
	}
}

static void
test_many_logs_in_one_writer(void)
{
	struct hfb_store_config config = { .helper_cpu = -1 };
	struct hfb_writer_config writer_config = { .logs_max = LOGS, .producers_max = 16 };
	struct hfb_positions *positions = aligned_alloc(64, LOGS * sizeof(*positions));
	struct hfb_log *logs[LOGS];
	struct hfb_writer *writer = NULL;
	struct hfb_store *store = NULL;
	struct found found = { 0 };
	struct hfb_log_report report;
	struct hfb_err err = { 0 };
	uint32_t epoch = 0, left = LOGS;
	char path[512];

	snprintf(path, sizeof(path), "%s/many", hfb_test_folder());
	config.data_dir = path;
	memset(positions, 0, LOGS * sizeof(*positions));
	for (uint32_t run = 0; run < 2; run++) {
		CU_ASSERT_EQUAL_FATAL(hfb_store_open(&config, NULL, &store, &err), 0);
		CU_ASSERT_EQUAL_FATAL(hfb_store_epoch_begin(store, &epoch, &err), 0);
		CU_ASSERT_EQUAL_FATAL(hfb_writer_create(store, &writer_config, &writer, &err), 0);
		for (uint32_t i = 0; i < LOGS; i++) {
			struct hfb_log_config log = { .topic = "many",
						      .topic_uuid.bytes[0] = 7,
						      .partition = i,
						      .leader_epoch = epoch,
						      .positions = &positions[i] };

			CU_ASSERT_EQUAL_FATAL(hfb_log_open(store, &log, &logs[i], &report, &err),
					      0);
			CU_ASSERT_EQUAL(report.end_offset, run * 20);
			CU_ASSERT_EQUAL(report.clean, run > 0);
			hfb_writer_attach(writer, logs[i]);
		}
		many_round(writer, logs, 20);
		if (run == 0) {
			const struct hfb_writer_stats *stats = hfb_writer_stats(writer);

			printf("(%" PRIu64 " writes, %" PRIu64 " flushes) ", stats->writes,
			       stats->syncs);
		}
		for (uint32_t i = 0; i < LOGS; i++)
			hfb_writer_detach(writer, logs[i], true);
		for (uint32_t turns = 0; left > 0 && turns < 1000000; turns++) {
			hfb_writer_poll(writer, hfb_clock_now_ns());
			left = 0;
			for (uint32_t i = 0; i < LOGS; i++)
				left += !hfb_writer_detached(writer, logs[i]);
			sched_yield();
		}
		CU_ASSERT_EQUAL_FATAL(left, 0);
		left = LOGS;
		if (run == 0) {
			CU_ASSERT_EQUAL(hfb_store_scan(store, found_one, &found, &err), 0);
			CU_ASSERT_EQUAL(found.count, LOGS);
			CU_ASSERT_EQUAL(found.partitions, LOGS * (LOGS - 1) / 2);
		} else {
			for (uint32_t i = 0; i < LOGS; i++)
				CU_ASSERT_EQUAL(hfb_log_delete(logs[i], &err), 0);
		}
		for (uint32_t i = 0; i < LOGS; i++)
			hfb_log_close(logs[i]);
		hfb_writer_destroy(writer);
		if (run == 1) {
			found.count = 0;
			CU_ASSERT_EQUAL(hfb_store_scan(store, found_one, &found, &err), 0);
			CU_ASSERT_EQUAL(found.count, 0);
		}
		hfb_store_close(store);
	}
	free(positions);
}

static void
test_what_cannot_be_is_refused(void)
{
	struct hfb_store_config config = { .helper_cpu = -1, .helper_manual = true };
	struct hfb_positions *positions = aligned_alloc(64, sizeof(*positions));
	struct hfb_log_config log = { .topic = "x", .leader_epoch = 1 };
	struct hfb_store *store = NULL;
	struct hfb_log_report report;
	struct hfb_log *ret = NULL;
	struct hfb_err err = { 0 };
	char path[512];

	memset(positions, 0, sizeof(*positions));
	log.positions = positions;
	snprintf(path, sizeof(path), "%s/refused", hfb_test_folder());
	config.data_dir = path;
	CU_ASSERT_EQUAL_FATAL(hfb_store_open(&config, NULL, &store, &err), 0);
	log.commit_stage = HFB_STAGE_MIRRORED;
	CU_ASSERT_EQUAL(hfb_log_open(store, &log, &ret, &report, &err), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "mirror"));
	log.commit_stage = HFB_STAGE_DURABLE;
	log.topic = "../x";
	CU_ASSERT_EQUAL(hfb_log_open(store, &log, &ret, &report, &err), -EINVAL);
	log.topic = "";
	CU_ASSERT_EQUAL(hfb_log_open(store, &log, &ret, &report, &err), -EINVAL);
	log.topic = "x";
	log.leader_epoch = 0;
	CU_ASSERT_EQUAL(hfb_log_open(store, &log, &ret, &report, &err), -EINVAL);
	CU_ASSERT_PTR_NULL(ret);
	hfb_store_close(store);
	/* not a folder */
	snprintf(path, sizeof(path), "/proc/hfbus");
	CU_ASSERT_TRUE(hfb_store_open(&config, NULL, &store, &err) < 0);
	CU_ASSERT_NOT_EQUAL(err.text[0], '\0');
	free(positions);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "a folder has one owner", test_a_folder_has_one_owner },
		{ "an epoch is never used twice", test_an_epoch_is_never_used_twice },
		{ "many logs in one writer", test_many_logs_in_one_writer },
		{ "what cannot be is refused", test_what_cannot_be_is_refused },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("store", tests);
}
