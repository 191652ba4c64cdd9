/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What hfbus-control reads about groups: requests, records of __offsets, stored generations. The
 * first byte says which. A refusal has a sentence; what is taken is within its limits.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "group_record.h"
#include "group_request.h"
#include "offset_record.h"
#include "offsets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
request(const uint8_t *data, size_t size)
{
	struct hfb_group_request q;
	struct hfb_err err = { 0 };
	json_t *json = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);

	if (json == NULL)
		return;
	if (hfb_group_request_parse(json, &q, &err) < 0) {
		if (err.text[0] == '\0')
			abort();
	} else {
		if (strlen(q.group) > HFB_GROUP_NAME_MAX || q.topics_count > HFB_GROUP_TOPICS_MAX)
			abort();
		for (uint32_t i = 0; i < q.runs_count; i++)
			if (q.runs[i].first + q.runs[i].count > HFB_TOPIC_PARTITIONS_MAX)
				abort();
		for (uint32_t i = 0; i < q.commits_count; i++)
			if (q.commits[i].commit.partition >= HFB_TOPIC_PARTITIONS_MAX)
				abort();
		hfb_group_request_fini(&q);
	}
	json_decref(json);
}

static void
record(const uint8_t *data, size_t size)
{
	struct hfb_offset_record r;
	struct hfb_commit_topic topic;
	struct hfb_offsets offsets = { 0 };
	size_t at = 0;

	if (hfb_offset_record_decode(data, size, &r) < 0)
		return;
	(void)hfb_offset_record_nonce(&r);
	while (hfb_offset_record_topic_next(&r, &at, &topic) > 0)
		(void)hfb_offsets_apply(&offsets, &topic, r.head.time_ns);
	hfb_offsets_fini(&offsets);
}

static uint32_t
partitions_of(void *arg, const char *topic)
{
	(void)arg;
	return (uint32_t)topic[0] % 8;
}

static void
generation(const uint8_t *data, size_t size)
{
	const struct hfb_group_env env = { .partitions = partitions_of };
	struct hfb_group *g;
	struct hfb_err err = { 0 };

	if (hfb_group_create("g", &env, &g) < 0)
		abort();
	if (hfb_group_record_restore(g, (const char *)data, size, 1, &err) == 0) {
		hfb_group_tick(g, UINT32_MAX);
		json_decref(hfb_group_record_to_json(g));
	} else if (err.text[0] == '\0') {
		abort();
	}
	hfb_group_destroy(g);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	if (data[0] % 3 == 0)
		request(data + 1, size - 1);
	else if (data[0] % 3 == 1)
		record(data + 1, size - 1);
	else
		generation(data + 1, size - 1);
	return 0;
}
