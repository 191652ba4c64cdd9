/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hfbusd --plan.
 *
 * Goal:   the plan counts what the configuration and the catalogue imply, and makes
 *	   nothing.
 * Method: plans of configurations that differ in one thing, read back as JSON.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "catalogue.h"
#include "config.h"
#include "hfb_test_main.h"
#include "plan.h"

static struct hfb_config config;
static struct hfb_err err;
static char folder[512];

static void
config_fresh(void)
{
	hfb_config_default(&config);
	snprintf(config.data_dir, sizeof(config.data_dir), "%s", folder);
	config.hugepages = false;
}

static json_t *
plan_json(const struct hfb_plan *plan)
{
	char *text = NULL;
	size_t size = 0;
	FILE *stream = open_memstream(&text, &size);
	json_t *json;

	CU_ASSERT_EQUAL(hfb_plan_print(plan, stream, true), 0);
	fclose(stream);
	json = json_loads(text, 0, NULL);
	CU_ASSERT_PTR_NOT_NULL(json);
	free(text);
	return json;
}

static void
test_a_plan_makes_nothing(void)
{
	struct hfb_plan plan;

	config_fresh();
	snprintf(config.data_dir, sizeof(config.data_dir), "%s/not/there", folder);
	CU_ASSERT_EQUAL(hfb_plan_make(&config, &plan, &err), 0);
	CU_ASSERT_EQUAL(plan.partitions, 0);
	CU_ASSERT_TRUE(plan.disk_free_bytes > 0);
	CU_ASSERT_EQUAL(access(config.data_dir, F_OK), -1);
}

static void
test_topics_and_feeds_are_counted(void)
{
	struct hfb_ipc_topic info = { .name = "known",
				      .partitions = 4,
				      .retention_bytes = 1000,
				      .ring_bytes = 2 * HFB_MIB,
				      .segment_bytes = 8 * HFB_MIB };
	struct hfb_catalogue *catalogue;
	struct hfb_topic *old;
	struct hfb_plan plan;
	char path[600];
	json_t *json;

	config_fresh();
	snprintf(path, sizeof(path), "%s/catalogue", folder);
	CU_ASSERT_EQUAL_FATAL(hfb_catalogue_open(path, &catalogue, &err), 0);
	CU_ASSERT_EQUAL(hfb_catalogue_put(catalogue, hfb_topic_make(&info), &old, &err), 0);
	strcpy(info.name, "gone");
	info.flags = HFB_TOPIC_DELETED;
	CU_ASSERT_EQUAL(hfb_catalogue_put(catalogue, hfb_topic_make(&info), &old, &err), 0);
	hfb_catalogue_close(catalogue);

	CU_ASSERT_EQUAL(hfb_plan_make(&config, &plan, &err), 0);
	CU_ASSERT_EQUAL(plan.topics, 1);
	CU_ASSERT_EQUAL(plan.partitions, 4);
	CU_ASSERT_EQUAL(plan.rings_bytes_max, 8 * HFB_MIB);
	CU_ASSERT_EQUAL(plan.segments_bytes_ahead, 64 * HFB_MIB);
	CU_ASSERT_EQUAL(plan.segments_bytes_min, plan.partitions * 5ull * HFB_SEGMENT_BYTES_FIRST);
	CU_ASSERT_EQUAL(plan.journals_bytes, config.cores_count * 128ull * HFB_MIB);
	CU_ASSERT_FALSE(plan.unbounded);
	CU_ASSERT_EQUAL(plan.retention_bytes, 4000);

	/* two feeds into one new topic, one into a known one */
	CU_ASSERT_EQUAL(hfb_config_feed_add(&config,
					    "name=a,framing=raw,group=239.0.0.1,port=1,"
					    "topic=new,partition=2",
					    &err),
			0);
	CU_ASSERT_EQUAL(hfb_config_feed_add(&config,
					    "name=b,framing=raw,group=239.0.0.2,port=1,"
					    "topic=new",
					    &err),
			0);
	CU_ASSERT_EQUAL(hfb_config_feed_add(&config,
					    "name=c,framing=raw,group=239.0.0.3,port=1,"
					    "topic=known",
					    &err),
			0);
	CU_ASSERT_EQUAL(hfb_plan_make(&config, &plan, &err), 0);
	CU_ASSERT_EQUAL(plan.topics, 2);
	CU_ASSERT_EQUAL(plan.partitions, 7);
	CU_ASSERT_EQUAL(plan.rings_bytes_max, 8 * HFB_MIB + 3 * config.ring_bytes);
	CU_ASSERT_TRUE(plan.unbounded);
	json = plan_json(&plan);
	CU_ASSERT_EQUAL(json_integer_value(json_object_get(json, "partitions")), 7);
	CU_ASSERT_EQUAL((uint64_t)json_integer_value(json_object_get(json, "rings_bytes_max")),
			plan.rings_bytes_max);
	CU_ASSERT_TRUE(json_is_null(json_object_get(json, "retention_bytes")));
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(json, "data")), folder);
	json_decref(json);
	unlink(path);
}

static void
test_ports_and_cores_cost_memory(void)
{
	struct hfb_plan without, with, more;

	config_fresh();
	CU_ASSERT_EQUAL(hfb_plan_make(&config, &without, &err), 0);
	CU_ASSERT_EQUAL(hfb_config_port_add(&config, "net_null0", &err), 0);
	CU_ASSERT_EQUAL(hfb_plan_make(&config, &with, &err), 0);
	CU_ASSERT_EQUAL(with.eal.pools, 1);
	CU_ASSERT_TRUE(with.dpdk_bytes > without.dpdk_bytes);
	CU_ASSERT_TRUE(with.dpdk_bytes - without.dpdk_bytes > with.eal.pool_mbufs * 2048ull);
	config.ports[0].queues = 4;
	CU_ASSERT_EQUAL(hfb_plan_make(&config, &more, &err), 0);
	CU_ASSERT_EQUAL(more.eal.pools, 1); /* one core polls one queue */
	config.cores_count = 2;
	config.cpus[0] = config.cpus[1] = -1;
	CU_ASSERT_EQUAL(hfb_plan_make(&config, &more, &err), 0);
	CU_ASSERT_EQUAL(more.eal.pools, 2);
	CU_ASSERT_TRUE(more.tables_bytes == 2 * with.tables_bytes);
	CU_ASSERT_TRUE(more.memory_bytes_max > with.memory_bytes_max);
	config.memory_mib = 777;
	CU_ASSERT_EQUAL(hfb_plan_make(&config, &more, &err), 0);
	CU_ASSERT_EQUAL(more.dpdk_bytes, 777ull * HFB_MIB);
}

static void
test_a_damaged_catalogue_is_said(void)
{
	struct hfb_plan plan;
	char path[600];
	FILE *file;

	config_fresh();
	snprintf(path, sizeof(path), "%s/catalogue", folder);
	file = fopen(path, "w");
	fputs("nonsense", file);
	fclose(file);
	CU_ASSERT_EQUAL(hfb_plan_make(&config, &plan, &err), -EBADMSG);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, path));
	unlink(path);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "a plan makes nothing", test_a_plan_makes_nothing },
		{ "topics and feeds are counted", test_topics_and_feeds_are_counted },
		{ "ports and cores cost memory", test_ports_and_cores_cost_memory },
		{ "a damaged catalogue is said", test_a_damaged_catalogue_is_said },
		CU_TEST_INFO_NULL,
	};

	snprintf(folder, sizeof(folder), "%s/data", hfb_test_folder());
	mkdir(folder, 0755);
	return hfb_test_main("plan", tests);
}
