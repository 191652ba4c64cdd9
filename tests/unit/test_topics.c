/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Topics come, change and go while the cores run.
 *
 * Goal:   a change that fails, wherever it fails, leaves what was there before: in the
 *	   catalogue, on the cores and after the same change is asked again.
 * Method: the real node with two cores; fail the main thread's first fallible call, then
 *	   the second, and so on until a run passes untouched.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "catalogue.h"
#include "clock.h"
#include "config.h"
#include "core.h"
#include "eal.h"
#include "fault.h"
#include "hfb_test_main.h"
#include "node.h"
#include "node_open.h"
#include "partitions.h"

#define FAULT_STEPS_MAX 400

static struct hfb_config config;
static struct hfb_node *node;

static int
put(const char *name, uint32_t partitions, uint64_t expected, uint32_t flags, struct hfb_err *err)
{
	struct hfb_ipc_topic request = {
		.partitions = partitions,
		.expected_version = expected,
		.commit_stage = HFB_STAGE_DURABLE,
		.ring_bytes = HFB_RING_BYTES_MIN,
		.segment_bytes = HFB_SEGMENT_BYTES_MIN,
		.flags = flags,
	};
	const struct hfb_topic *topic = NULL;

	snprintf(request.name, sizeof(request.name), "%s", name);
	return hfb_topic_put(node, &request, &topic, err);
}

/* How many of a topic's partitions are attached; -1 = no such topic. */
static int
served(const char *name)
{
	const struct hfb_topic *topic =
		hfb_catalogue_find(node->catalogue, name, (uint32_t)strlen(name));
	int n = 0;

	if (topic == NULL)
		return -1;
	for (uint32_t i = 0; i < topic->info.partitions; i++) {
		const struct hfb_partition *partition = hfb_partition_get(node, topic->handles[i]);

		if (partition == NULL)
			continue;
		CU_ASSERT_PTR_EQUAL(partition->topic, topic);
		CU_ASSERT_EQUAL(partition->index, i);
		n++;
	}
	return n;
}

static uint64_t
version(const char *name)
{
	const struct hfb_topic *topic = hfb_catalogue_get(node->catalogue, name);

	return topic == NULL ? 0 : topic->info.version;
}

static void
test_create_survives_each_single_fault(void)
{
	bool spent = true;
	uint32_t step;

	for (step = 0; spent && step < FAULT_STEPS_MAX; step++) {
		const uint32_t before = node->partitions_count;
		struct hfb_err err = { 0 };
		char name[32];
		int r;

		snprintf(name, sizeof(name), "made-%u", step);
		hfb_fault_arm(step);
		r = put(name, 3, 0, 0, &err);
		spent = hfb_fault_disarm();
		/* some calls may fail without harm: what was asked is then there all the same */
		CU_ASSERT_TRUE(r == 0 || spent);
		CU_ASSERT_EQUAL(served(name), r < 0 ? -1 : 3);
		CU_ASSERT_EQUAL(node->partitions_count, before + (r < 0 ? 0 : 3));
		CU_ASSERT_EQUAL(r < 0, err.text[0] != '\0');
		if (r < 0)
			CU_ASSERT_EQUAL(put(name, 3, 0, 0, &err), 0);
		CU_ASSERT_EQUAL(served(name), 3);
		/* one after the other, or a thousand partitions would be open at the end */
		CU_ASSERT_EQUAL(put(name, 3, version(name), HFB_TOPIC_DELETED, &err), 0);
		CU_ASSERT_EQUAL(served(name), -1);
		CU_ASSERT_EQUAL(node->partitions_count, before);
	}
	CU_ASSERT_TRUE(step > 10);
	CU_ASSERT_FALSE(spent);
}

static void
test_growing_survives_each_single_fault(void)
{
	bool spent = true;
	uint32_t step;

	for (step = 0; spent && step < FAULT_STEPS_MAX; step++) {
		struct hfb_err err = { 0 };
		uint32_t first;
		int r;

		CU_ASSERT_EQUAL_FATAL(put("grown", 2, 0, 0, &err), 0);
		first = hfb_catalogue_find(node->catalogue, "grown", 5)->handles[0];
		hfb_fault_arm(step);
		r = put("grown", 4, version("grown"), 0, &err);
		spent = hfb_fault_disarm();
		CU_ASSERT_TRUE(r == 0 || spent);
		CU_ASSERT_EQUAL(served("grown"), r < 0 ? 2 : 4);
		CU_ASSERT_EQUAL(hfb_catalogue_find(node->catalogue, "grown", 5)->handles[0], first);
		if (r < 0)
			CU_ASSERT_EQUAL(put("grown", 4, version("grown"), 0, &err), 0);
		CU_ASSERT_EQUAL(served("grown"), 4);
		CU_ASSERT_EQUAL(put("grown", 4, version("grown"), HFB_TOPIC_DELETED, &err), 0);
	}
	CU_ASSERT_TRUE(step > 10);
	CU_ASSERT_FALSE(spent);
}

static void
test_deleting_survives_each_single_fault(void)
{
	bool spent = true;
	uint32_t step;

	for (step = 0; spent && step < FAULT_STEPS_MAX; step++) {
		struct hfb_err err = { 0 };
		int r;

		CU_ASSERT_EQUAL_FATAL(put("gone", 2, 0, 0, &err), 0);
		hfb_fault_arm(step);
		r = put("gone", 2, version("gone"), HFB_TOPIC_DELETED, &err);
		spent = hfb_fault_disarm();
		CU_ASSERT_TRUE(r == 0 || spent);
		/* before the tombstone all is there, after it nothing is served */
		CU_ASSERT_EQUAL(served("gone"), r < 0 ? 2 : -1);
		if (r < 0)
			CU_ASSERT_EQUAL(put("gone", 2, version("gone"), HFB_TOPIC_DELETED, &err),
					0);
	}
	CU_ASSERT_TRUE(step > 4);
	CU_ASSERT_FALSE(spent);
}

static int
node_start(void)
{
	struct hfb_err err = { 0 };
	int r = hfb_node_open(&config, false, &node, &err);

	if (r == 0)
		r = hfb_node_serve(node, &err);
	if (r < 0)
		fprintf(stderr, "%s\n", err.text);
	return r;
}

/* After all this the folder is one that a node starts from, with what it should have. */
static void
test_the_folder_is_whole(void)
{
	struct hfb_err err = { 0 };

	CU_ASSERT_EQUAL(put("kept", 3, 0, 0, &err), 0);
	CU_ASSERT_EQUAL(hfb_node_close(node), 0);
	CU_ASSERT_EQUAL_FATAL(node_start(), 0);
	CU_ASSERT_EQUAL(served("kept"), 3);
	CU_ASSERT_EQUAL(node->partitions_count, 3);
	CU_ASSERT_EQUAL(served("grown"), -1);
	CU_ASSERT_EQUAL(node->unknown_logs_count, 0);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "create survives each single fault", test_create_survives_each_single_fault },
		{ "growing survives each single fault", test_growing_survives_each_single_fault },
		{ "deleting survives each single fault", test_deleting_survives_each_single_fault },
		{ "the folder is whole", test_the_folder_is_whole },
		CU_TEST_INFO_NULL,
	};
	struct hfb_eal_plan plan;
	struct hfb_err err;
	int status;

	hfb_clock_start();
	hfb_config_default(&config);
	snprintf(config.data_dir, sizeof(config.data_dir), "%s/data", hfb_test_folder());
	mkdir(config.data_dir, 0755);
	config.hugepages = false;
	config.cores_count = 2;
	config.cpus[0] = config.cpus[1] = -1;
	hfb_eal_plan(&config, &plan);
	if (hfb_eal_start(&config, &plan, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	if (node_start() < 0)
		return 1;
	status = hfb_test_main("topics", tests);
	hfb_node_close(node);
	hfb_eal_stop();
	return status;
}
