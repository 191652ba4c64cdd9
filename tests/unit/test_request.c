/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests to hfbus-control, and topics as it checks them.
 *
 * Goal:   only what is whole and within limits is acted upon, whatever bytes come.
 * Method: each rule from both sides; then mutations of good requests, and noise.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hfb_test_main.h"
#include "request.h"
#include "topic_record.h"

static int
parse(const char *text, struct hfb_request *ret_request)
{
	struct hfb_err err = { 0 };
	int r = hfb_request_parse(text, strlen(text), ret_request, &err);

	CU_ASSERT_EQUAL(r < 0, err.text[0] != '\0');
	return r;
}

static int
refused(const char *text)
{
	struct hfb_request request;

	return parse(text, &request);
}

static void
test_good_requests_are_understood(void)
{
	struct hfb_request q;

	CU_ASSERT_EQUAL(parse("{\"op\":\"topic.create\",\"name\":\"a.b-c_9\",\"partitions\":4,"
			      "\"commit\":\"received\",\"retention_bytes\":5000,"
			      "\"retention_ns\":7,\"segment_bytes\":1048576,"
			      "\"ring_bytes\":268435456}",
			      &q),
			0);
	CU_ASSERT_EQUAL(q.op, HFB_REQUEST_TOPIC_CREATE);
	CU_ASSERT_STRING_EQUAL(q.topic.name, "a.b-c_9");
	CU_ASSERT_EQUAL(q.topic.partitions, 4);
	CU_ASSERT_EQUAL(q.topic.commit_stage, HFB_STAGE_RECEIVED);
	CU_ASSERT_EQUAL(q.topic.retention_bytes, 5000);
	CU_ASSERT_EQUAL(q.topic.retention_ns, 7);
	CU_ASSERT_EQUAL(q.topic.segment_bytes, 1048576);
	CU_ASSERT_EQUAL(q.topic.ring_bytes, 268435456);
	CU_ASSERT_EQUAL(parse("{\"op\":\"topic.create\",\"name\":\"x\"}", &q), 0);
	CU_ASSERT_EQUAL(q.topic.partitions, 1);
	CU_ASSERT_EQUAL(q.topic.commit_stage, HFB_STAGE_DURABLE);
	CU_ASSERT_EQUAL(parse("{\"op\":\"topic.list\",\"after\":\"m\"}", &q), 0);
	CU_ASSERT_STRING_EQUAL(q.after, "m");
	CU_ASSERT_EQUAL(parse("{\"op\":\"topic.describe\",\"name\":\"x\",\"first\":64}", &q), 0);
	CU_ASSERT_EQUAL(q.first, 64);
	CU_ASSERT_EQUAL(parse("{\"op\":\"status\"}", &q), 0);
}

static void
test_what_is_wrong_is_refused(void)
{
	CU_ASSERT_EQUAL(refused(""), -EINVAL);
	CU_ASSERT_EQUAL(refused("nonsense"), -EINVAL);
	CU_ASSERT_EQUAL(refused("[]"), -EINVAL);
	CU_ASSERT_EQUAL(refused("{}"), -EINVAL);
	CU_ASSERT_EQUAL(refused("{\"op\":7}"), -EINVAL);
	CU_ASSERT_EQUAL(refused("{\"op\":\"topic.explode\"}"), -EOPNOTSUPP);
	CU_ASSERT_EQUAL(refused("{\"op\":\"status\",\"op\":\"status\"}"), -EINVAL);
	CU_ASSERT_EQUAL(refused("{\"op\":\"status\",\"name\":\"x\"}"), -EINVAL);
	CU_ASSERT_EQUAL(refused("{\"op\":\"topic.create\"}"), -EINVAL);
	CU_ASSERT_EQUAL(refused("{\"op\":\"topic.create\",\"name\":\"x\",\"uuid\":\"1\"}"),
			-EINVAL);
	CU_ASSERT_EQUAL(refused("{\"op\":\"topic.create\",\"name\":\"x\",\"deleted\":true}"),
			-EINVAL);
	CU_ASSERT_EQUAL(refused("{\"op\":\"topic.delete\",\"name\":\"x\",\"first\":0}"), -EINVAL);
	CU_ASSERT_EQUAL(refused("{\"op\":\"topic.describe\",\"name\":\"x\",\"first\":-1}"),
			-EINVAL);
	CU_ASSERT_EQUAL(refused("{\"op\":\"topic.describe\",\"name\":\"x\",\"first\":4096}"),
			-EINVAL);
	CU_ASSERT_EQUAL(refused("{\"op\":\"topic.create\",\"name\":\"a\\u0000b\"}"), -EINVAL);
}

static void
test_a_name_is_a_safe_folder(void)
{
	static const char *const bad[] = { "",	   ".",		  "..",	  "a/b", "../x", "a b",
					   "a\\b", "caf\xc3\xa9", "a\nb", "a%s", "*",	 "a:b" };
	char name[HFB_TOPIC_NAME_MAX + 2];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CU_ASSERT_EQUAL(hfb_topic_record_name_check(bad[i], NULL), -EINVAL);
	memset(name, 'a', sizeof(name));
	name[HFB_TOPIC_NAME_MAX] = '\0';
	CU_ASSERT_EQUAL(hfb_topic_record_name_check(name, NULL), 0);
	name[HFB_TOPIC_NAME_MAX] = 'a';
	name[HFB_TOPIC_NAME_MAX + 1] = '\0';
	CU_ASSERT_EQUAL(hfb_topic_record_name_check(name, NULL), -EINVAL);
	CU_ASSERT_EQUAL(hfb_topic_record_name_check("...", NULL), 0);
	CU_ASSERT_EQUAL(hfb_topic_record_name_check("-", NULL), 0);
}

static int
with_number(const char *member, const char *value)
{
	char text[256];

	snprintf(text, sizeof(text), "{\"op\":\"topic.create\",\"name\":\"x\",\"%s\":%s}", member,
		 value);
	return refused(text);
}

static void
test_numbers_keep_their_limits(void)
{
	CU_ASSERT_EQUAL(with_number("partitions", "0"), -EINVAL);
	CU_ASSERT_EQUAL(with_number("partitions", "4096"), 0);
	CU_ASSERT_EQUAL(with_number("partitions", "4097"), -EINVAL);
	CU_ASSERT_EQUAL(with_number("partitions", "4294967297"), -EINVAL);
	CU_ASSERT_EQUAL(with_number("partitions", "1.5"), -EINVAL);
	CU_ASSERT_EQUAL(with_number("partitions", "\"1\""), -EINVAL);
	CU_ASSERT_EQUAL(with_number("retention_bytes", "-1"), -EINVAL);
	CU_ASSERT_EQUAL(with_number("retention_bytes", "9223372036854775807"), 0);
	CU_ASSERT_EQUAL(with_number("retention_bytes", "9223372036854775808"), -EINVAL);
	CU_ASSERT_EQUAL(with_number("ring_bytes", "0"), 0);
	CU_ASSERT_EQUAL(with_number("ring_bytes", "524288"), -EINVAL);
	CU_ASSERT_EQUAL(with_number("ring_bytes", "3145728"), -EINVAL);
	CU_ASSERT_EQUAL(with_number("segment_bytes", "536870912"), -EINVAL);
	CU_ASSERT_EQUAL(with_number("commit", "\"durable\""), 0);
	CU_ASSERT_EQUAL(with_number("commit", "\"safe\""), -EINVAL);
	CU_ASSERT_EQUAL(with_number("commit", "\"mirrored\""), -EOPNOTSUPP);
	CU_ASSERT_EQUAL(with_number("commit", "\"mirrored-durable\""), -EOPNOTSUPP);
}

static void
test_a_topic_reads_back_as_it_was_written(void)
{
	struct hfb_ipc_topic topic = {
		.name = "quotes",
		.uuid = { { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255 } },
		.version = 12345678901234,
		.partitions = 4096,
		.commit_stage = HFB_STAGE_RECEIVED,
		.retention_bytes = INT64_MAX,
		.retention_ns = 1,
		.segment_bytes = HFB_MIB,
		.ring_bytes = HFB_MIB,
		.created_ns = 1700000000000000000,
		.flags = HFB_TOPIC_DELETED | HFB_TOPIC_CREATED_BY_FEED,
	};
	struct hfb_ipc_topic back = { 0 };
	json_t *json = hfb_topic_record_to_json(&topic);
	char *text = json_dumps(json, 0);

	CU_ASSERT_EQUAL(hfb_topic_record_parse(text, &back, NULL), 0);
	CU_ASSERT_TRUE(hfb_topic_record_equal(&topic, &back));
	back.version++;
	CU_ASSERT_FALSE(hfb_topic_record_equal(&topic, &back));
	/* A number that JSON's integers cannot hold does not come back as another one. */
	topic.retention_bytes = UINT64_MAX;
	free(text);
	json_decref(json);
	json = hfb_topic_record_to_json(&topic);
	text = json_dumps(json, 0);
	CU_ASSERT_EQUAL(hfb_topic_record_parse(text, &back, NULL), -EINVAL);
	free(text);
	json_decref(json);
}

static void
test_an_alter_changes_what_it_names_and_nothing_else(void)
{
	struct hfb_ipc_topic topic = { .name = "a",
				       .partitions = 4,
				       .retention_ns = 9,
				       .commit_stage = HFB_STAGE_DURABLE,
				       .ring_bytes = 1 << 20 };
	struct hfb_err err;
	struct hfb_request q;

	CU_ASSERT_EQUAL(parse("{\"op\":\"topic.alter\",\"name\":\"a\",\"add_partitions\":3,"
			      "\"cleanup\":\"compact\",\"retention_bytes\":0}",
			      &q),
			0);
	CU_ASSERT_EQUAL(hfb_request_alter(&q, &topic, &err), 0);
	CU_ASSERT_EQUAL(topic.partitions, 7);
	CU_ASSERT_EQUAL(topic.cleanup, HFB_CLEANUP_COMPACT);
	CU_ASSERT_EQUAL(topic.retention_bytes, 0);
	CU_ASSERT_EQUAL(topic.retention_ns, 9);
	CU_ASSERT_EQUAL(topic.ring_bytes, 1 << 20);
	CU_ASSERT_EQUAL(topic.commit_stage, HFB_STAGE_DURABLE);
	CU_ASSERT_EQUAL(parse("{\"op\":\"topic.alter\",\"name\":\"a\",\"partitions\":6}", &q), 0);
	CU_ASSERT_EQUAL(hfb_request_alter(&q, &topic, &err), -EINVAL);
	CU_ASSERT_EQUAL(
		parse("{\"op\":\"topic.alter\",\"name\":\"a\",\"add_partitions\":4090}", &q), 0);
	CU_ASSERT_EQUAL(hfb_request_alter(&q, &topic, &err), -EINVAL);
	CU_ASSERT_EQUAL(topic.partitions, 7);
	CU_ASSERT_EQUAL(refused("{\"op\":\"topic.alter\",\"name\":\"a\"}"), -EINVAL);
	CU_ASSERT_EQUAL(refused("{\"op\":\"topic.alter\",\"name\":\"a\",\"partitions\":6,"
				"\"add_partitions\":1}"),
			-EINVAL);
	CU_ASSERT_EQUAL(refused("{\"op\":\"topic.alter\",\"name\":\"a\",\"cleanup\":\"burn\"}"),
			-EINVAL);
	CU_ASSERT_EQUAL(refused("{\"op\":\"topic.alter\",\"name\":\"a\",\"version\":4}"), -EINVAL);

	CU_ASSERT_EQUAL(parse("{\"op\":\"topic.trim\",\"name\":\"a\",\"partition\":3,"
			      "\"before\":-1}",
			      &q),
			0);
	CU_ASSERT_EQUAL(q.before, UINT64_MAX);
	CU_ASSERT_EQUAL(q.first, 3);
	CU_ASSERT_EQUAL(refused("{\"op\":\"topic.trim\",\"name\":\"a\",\"partition\":3}"), -EINVAL);
	CU_ASSERT_EQUAL(refused("{\"op\":\"topic.trim\",\"name\":\"a\",\"before\":3}"), -EINVAL);
	CU_ASSERT_EQUAL(refused("{\"op\":\"topic.trim\",\"name\":\"a\",\"partition\":0,"
				"\"before\":-2}"),
			-EINVAL);
}

static void
test_deep_and_long_messages_end(void)
{
	size_t n = HFB_REQUEST_BYTES_MAX;
	char *text = malloc(n + 1);
	struct hfb_request q;

	memset(text, '[', n);
	CU_ASSERT_EQUAL(hfb_request_parse(text, n, &q, NULL), -EINVAL);
	CU_ASSERT_EQUAL(hfb_request_parse(text, n + 1, &q, NULL), -EINVAL);
	for (size_t i = 0; i + 5 <= n; i += 5)
		memcpy(text + i, "{\"a\":", 5);
	CU_ASSERT_EQUAL(hfb_request_parse(text, n, &q, NULL), -EINVAL);
	free(text);
}

static void
test_mutated_requests_never_pass_a_limit(void)
{
	static const char good[] = "{\"op\":\"topic.create\",\"name\":\"quotes\",\"partitions\":64,"
				   "\"commit\":\"durable\",\"retention_bytes\":1000000,"
				   "\"ring_bytes\":1048576}";
	uint32_t passed = 0;

	for (int i = 0; i < 200000; i++) {
		char text[sizeof(good)];
		struct hfb_request q;
		struct hfb_err err = { 0 };
		uint64_t dice = hfb_test_random();
		size_t n = sizeof(good) - 1;

		memcpy(text, good, sizeof(good));
		for (uint64_t k = 0; k <= dice % 4; k++)
			text[hfb_test_random() % n] = (char)hfb_test_random();
		if (dice % 16 == 0)
			n = hfb_test_random() % n;
		if (hfb_request_parse(text, n, &q, &err) == 0) {
			passed++;
			CU_ASSERT_EQUAL(hfb_topic_record_check(&q.topic, NULL), 0);
		} else {
			json_t *answer = hfb_answer_error(&err);

			CU_ASSERT_PTR_NOT_NULL(answer);
			json_decref(answer);
		}
	}
	CU_ASSERT_TRUE(passed > 100); /* a changed letter of the name, say */
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "good requests are understood", test_good_requests_are_understood },
		{ "what is wrong is refused", test_what_is_wrong_is_refused },
		{ "a name is a safe folder", test_a_name_is_a_safe_folder },
		{ "numbers keep their limits", test_numbers_keep_their_limits },
		{ "a topic reads back as it was written",
		  test_a_topic_reads_back_as_it_was_written },
		{ "an alter changes what it names and nothing else",
		  test_an_alter_changes_what_it_names_and_nothing_else },
		{ "deep and long messages end", test_deep_and_long_messages_end },
		{ "mutated requests never pass a limit", test_mutated_requests_never_pass_a_limit },
		CU_TEST_INFO_NULL,
	};

	return hfb_test_main("request", tests);
}
