/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalogue of topics.
 *
 * Goal:   a put is durable or did not happen; a damaged file is refused, never half
 *	   believed; poll cores find exactly the live topics.
 * Method: reopen after each change; fail the first fallible call, then the second, and
 *	   so on; cut the file at each length and flip each byte.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "catalogue.h"
#include "catalogue_file.h"
#include "fault.h"
#include "hfb_test_main.h"

#define FAULT_STEPS_MAX 64

static char path[512];
static struct hfb_err err;

static struct hfb_topic *
topic_named(const char *name, uint32_t partitions, uint64_t version)
{
	struct hfb_ipc_topic info = { .partitions = partitions,
				      .version = version,
				      .commit_stage = HFB_STAGE_DURABLE };

	snprintf(info.name, sizeof(info.name), "%s", name);
	info.uuid.bytes[0] = (uint8_t)version;
	return hfb_topic_make(&info);
}

static int
put(struct hfb_catalogue *catalogue, struct hfb_topic *topic)
{
	struct hfb_topic *old = NULL;
	int r = hfb_catalogue_put(catalogue, topic, &old, &err);

	hfb_catalogue_reclaim(catalogue);
	free(r < 0 ? topic : old);
	return r;
}

static struct hfb_catalogue *
open_again(struct hfb_catalogue *catalogue)
{
	hfb_catalogue_close(catalogue);
	catalogue = NULL;
	CU_ASSERT_EQUAL_FATAL(hfb_catalogue_open(path, &catalogue, &err), 0);
	return catalogue;
}

static void
test_puts_survive_a_restart(void)
{
	struct hfb_catalogue *catalogue = NULL;
	struct hfb_topic *gone;
	char name[32];

	unlink(path);
	catalogue = open_again(NULL);
	CU_ASSERT_EQUAL(hfb_catalogue_count(catalogue), 0);
	for (int i = 0; i < 400; i++) { /* grows both views */
		snprintf(name, sizeof(name), "topic-%d", i * 7 % 400);
		CU_ASSERT_EQUAL(put(catalogue, topic_named(name, 3, 1)), 0);
	}
	CU_ASSERT_EQUAL(put(catalogue, topic_named("topic-5", 4, 2)), 0);
	gone = topic_named("topic-6", 3, 2);
	gone->info.flags |= HFB_TOPIC_DELETED;
	CU_ASSERT_EQUAL(put(catalogue, gone), 0);

	for (int again = 0; again < 2; again++) {
		CU_ASSERT_EQUAL(hfb_catalogue_count(catalogue), 400);
		for (uint32_t i = 1; i < 400; i++)
			CU_ASSERT_TRUE(strcmp(hfb_catalogue_at(catalogue, i - 1)->info.name,
					      hfb_catalogue_at(catalogue, i)->info.name) < 0);
		CU_ASSERT_PTR_NULL(hfb_catalogue_at(catalogue, 400));
		CU_ASSERT_EQUAL(hfb_catalogue_find(catalogue, "topic-5", 7)->info.partitions, 4);
		CU_ASSERT_EQUAL(hfb_catalogue_find(catalogue, "topic-399", 9)->info.partitions, 3);
		CU_ASSERT_EQUAL(hfb_catalogue_find(catalogue, "topic-39", 8)->info.version, 1);
		CU_ASSERT_PTR_NULL(hfb_catalogue_find(catalogue, "topic-6", 7));
		CU_ASSERT_PTR_NOT_NULL(hfb_catalogue_get(catalogue, "topic-6"));
		CU_ASSERT_PTR_NULL(hfb_catalogue_find(catalogue, "topic-", 6));
		CU_ASSERT_PTR_NULL(hfb_catalogue_find(catalogue, "topic-400", 9));
		CU_ASSERT_PTR_NULL(hfb_catalogue_find(catalogue, "", 0));
		catalogue = open_again(catalogue);
	}
	hfb_catalogue_close(catalogue);
}

/* @anew: the file is written whole; else the change is appended to it. */
static void
put_faults(bool anew, uint32_t steps_min)
{
	bool spent = true;
	uint32_t step;

	for (step = 0; spent && step < FAULT_STEPS_MAX; step++) {
		struct hfb_catalogue *catalogue;
		struct hfb_topic *topic, *old = NULL;
		int r;

		unlink(path);
		catalogue = open_again(NULL);
		if (!anew)
			CU_ASSERT_EQUAL(put(catalogue, topic_named("kept", 1, 1)), 0);
		topic = topic_named("new", 1, 1);

		hfb_fault_arm(step);
		r = hfb_catalogue_put(catalogue, topic, &old, &err);
		spent = hfb_fault_disarm();

		CU_ASSERT_EQUAL(r < 0, spent);
		CU_ASSERT_EQUAL(hfb_catalogue_find(catalogue, "new", 3) == NULL, spent);
		CU_ASSERT_EQUAL(hfb_catalogue_count(catalogue), (spent ? 0 : 1) + !anew);
		if (r < 0)
			free(topic);
		/* the next one works, and the file is whole whatever happened */
		CU_ASSERT_EQUAL(put(catalogue, topic_named("next", 1, 1)), 0);
		catalogue = open_again(catalogue);
		CU_ASSERT_EQUAL(hfb_catalogue_find(catalogue, "kept", 4) == NULL, anew);
		CU_ASSERT_PTR_NOT_NULL(hfb_catalogue_find(catalogue, "next", 4));
		CU_ASSERT_EQUAL(hfb_catalogue_find(catalogue, "new", 3) == NULL, spent);
		hfb_catalogue_close(catalogue);
	}
	CU_ASSERT_TRUE(step >= steps_min);
	CU_ASSERT_FALSE(spent);
}

static void
test_a_put_survives_each_single_fault(void)
{
	put_faults(false, 4);
	put_faults(true, 6);
}

static struct stat
file_stat(void)
{
	struct stat now;

	CU_ASSERT_EQUAL_FATAL(stat(path, &now), 0);
	return now;
}

static void
test_a_change_is_appended_and_old_ones_are_dropped_now_and_then(void)
{
	struct hfb_catalogue *catalogue;
	ino_t file;
	off_t size, most = 0;
	int anew = 0;

	unlink(path);
	catalogue = open_again(NULL);
	CU_ASSERT_EQUAL(put(catalogue, topic_named("a", 1, 1)), 0);
	CU_ASSERT_EQUAL(put(catalogue, topic_named("b", 1, 1)), 0);
	file = file_stat().st_ino;
	size = file_stat().st_size;
	CU_ASSERT_EQUAL(put(catalogue, topic_named("c", 1, 1)), 0);
	CU_ASSERT_EQUAL(file_stat().st_ino, file);
	CU_ASSERT_EQUAL(file_stat().st_size, size + (off_t)sizeof(struct hfb_catalogue_record));
	for (uint64_t i = 2; i < 3000; i++) {
		CU_ASSERT_EQUAL(put(catalogue, topic_named("a", 1, i)), 0);
		size = file_stat().st_size;
		most = size > most ? size : most;
		anew += size < most;
		most = size < most ? size : most;
	}
	CU_ASSERT_EQUAL(anew, 2);
	catalogue = open_again(catalogue);
	CU_ASSERT_EQUAL(hfb_catalogue_count(catalogue), 3);
	CU_ASSERT_EQUAL(hfb_catalogue_find(catalogue, "a", 1)->info.version, 2999);
	hfb_catalogue_close(catalogue);
}

static void
test_opening_survives_each_single_fault(void)
{
	struct hfb_catalogue *catalogue;
	bool spent = true;
	uint32_t step;

	unlink(path);
	catalogue = open_again(NULL);
	CU_ASSERT_EQUAL(put(catalogue, topic_named("kept", 1, 1)), 0);
	hfb_catalogue_close(catalogue);
	for (step = 0; spent && step < FAULT_STEPS_MAX; step++) {
		int r;

		catalogue = NULL;
		hfb_fault_arm(step);
		r = hfb_catalogue_open(path, &catalogue, &err);
		spent = hfb_fault_disarm();
		CU_ASSERT_EQUAL(r < 0, spent);
		CU_ASSERT_EQUAL(catalogue == NULL, spent);
		if (catalogue != NULL)
			CU_ASSERT_PTR_NOT_NULL(hfb_catalogue_find(catalogue, "kept", 4));
		hfb_catalogue_close(catalogue);
	}
	CU_ASSERT_TRUE(step > 3);
	CU_ASSERT_FALSE(spent);
}

static void
file_set(const void *bytes, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	CU_ASSERT_FATAL(fd >= 0);
	CU_ASSERT_EQUAL(write(fd, bytes, size), (ssize_t)size);
	close(fd);
}

static void
test_a_damaged_file_is_refused(void)
{
	struct hfb_catalogue *catalogue;
	uint8_t bytes[4096];
	ssize_t size;
	int fd;

	unlink(path);
	catalogue = open_again(NULL);
	CU_ASSERT_EQUAL(put(catalogue, topic_named("a", 1, 1)), 0);
	CU_ASSERT_EQUAL(put(catalogue, topic_named("b", 2, 1)), 0);
	hfb_catalogue_close(catalogue);
	fd = open(path, O_RDONLY);
	size = read(fd, bytes, sizeof(bytes));
	close(fd);
	CU_ASSERT_EQUAL_FATAL(size, (ssize_t)(HFB_CATALOGUE_HEADER_BYTES +
					      2 * sizeof(struct hfb_catalogue_record)));
	for (ssize_t cut = 0; cut < size; cut++) {
		file_set(bytes, (size_t)cut);
		catalogue = NULL;
		CU_ASSERT_EQUAL(hfb_catalogue_open(path, &catalogue, &err), -EBADMSG);
		CU_ASSERT_PTR_NULL(catalogue);
	}
	for (ssize_t at = 0; at < size; at++) {
		bytes[at] ^= 0x10;
		file_set(bytes, (size_t)size);
		CU_ASSERT_TRUE(hfb_catalogue_open(path, &catalogue, &err) < 0);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.text, path));
		bytes[at] ^= 0x10;
	}
	bytes[8] = 9; /* a later version */
	file_set(bytes, (size_t)size);
	CU_ASSERT_EQUAL(hfb_catalogue_open(path, &catalogue, &err), -ENOTSUP);
}

/* What a power failure may leave of the last change: any part of it, or nothing. */
static void
test_a_torn_last_change_did_not_happen(void)
{
	const size_t one = HFB_CATALOGUE_HEADER_BYTES + sizeof(struct hfb_catalogue_record);
	struct hfb_catalogue *catalogue;
	uint8_t before[2048], after[2048];
	int fd;

	unlink(path);
	catalogue = open_again(NULL);
	CU_ASSERT_EQUAL(put(catalogue, topic_named("a", 1, 1)), 0);
	CU_ASSERT_EQUAL(put(catalogue, topic_named("b", 2, 1)), 0);
	/* as it is while the process lives: the header does not vouch for "b" */
	fd = open(path, O_RDONLY);
	CU_ASSERT_EQUAL(read(fd, after, sizeof(after)),
			(ssize_t)(one + sizeof(struct hfb_catalogue_record)));
	close(fd);
	hfb_catalogue_close(catalogue);

	for (size_t torn = one; torn < one + sizeof(struct hfb_catalogue_record); torn += 8) {
		memcpy(before, after, sizeof(before));
		memset(before + torn, 0xee, sizeof(before) - torn);
		/* the file's new size is there, or not */
		file_set(before, torn % 16 == 0 ? torn : one + sizeof(struct hfb_catalogue_record));
		catalogue = open_again(NULL);
		CU_ASSERT_PTR_NOT_NULL(hfb_catalogue_find(catalogue, "a", 1));
		CU_ASSERT_PTR_NULL(hfb_catalogue_get(catalogue, "b"));
		CU_ASSERT_EQUAL(put(catalogue, topic_named("c", 1, 1)), 0);
		CU_ASSERT_EQUAL(put(catalogue, topic_named("d", 1, 1)), 0);
		catalogue = open_again(catalogue);
		CU_ASSERT_EQUAL(hfb_catalogue_count(catalogue), 3);
		hfb_catalogue_close(catalogue);
	}
	/* whole: it counts, synced or not */
	file_set(after, one + sizeof(struct hfb_catalogue_record));
	catalogue = open_again(NULL);
	CU_ASSERT_PTR_NOT_NULL(hfb_catalogue_find(catalogue, "b", 1));
	hfb_catalogue_close(catalogue);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "puts survive a restart", test_puts_survive_a_restart },
		{ "a put survives each single fault", test_a_put_survives_each_single_fault },
		{ "opening survives each single fault", test_opening_survives_each_single_fault },
		{ "a change is appended, and old ones are dropped now and then",
		  test_a_change_is_appended_and_old_ones_are_dropped_now_and_then },
		{ "a torn last change did not happen", test_a_torn_last_change_did_not_happen },
		{ "a damaged file is refused", test_a_damaged_file_is_refused },
		CU_TEST_INFO_NULL,
	};

	snprintf(path, sizeof(path), "%s/catalogue", hfb_test_folder());
	return hfb_test_main("catalogue", tests);
}
