/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Groups between their requests and __offsets.
 *
 * Goal:   what was committed to a topic is never given to readers of another one that
 *	   has its name by now.
 * Method: the log of offsets is the test's: it takes batches, and says that they are
 *	   durable when the topic has been deleted and made again.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "groups.h"
#include "hfb_test_main.h"
#include "topic_record.h"
#include "uuid.h"

static const struct hfb_uuid first = { { 1 } }, second = { { 2 } };

static struct {
	uv_loop_t loop;
	struct hfb_reconcile *reconcile;
	struct hfb_groups *groups;
	const struct hfb_offset_log_events *events;
	void *arg;
	struct hfb_offset_batch *batch; /* being written */
	uint64_t revision;
	uint32_t answers; /* that say ok */
	uint64_t fetched; /* partition 0; all ones = none */
	char member[HFB_GROUP_ID_MAX + 1];
	uint32_t generation;
} rig;

int __wrap_hfb_offset_log_create(uv_loop_t *loop, const char *data_dir,
				 const struct hfb_offset_log_events *events, void *arg,
				 struct hfb_offset_log **ret_log, struct hfb_err *err);
void __wrap_hfb_offset_log_destroy(struct hfb_offset_log *log);
void __wrap_hfb_offset_log_write(struct hfb_offset_log *log, struct hfb_offset_batch *batch);
void __wrap_hfb_offset_log_stats_get(struct hfb_offset_log *log, struct hfb_offset_log_stats *ret);
bool __wrap_hfb_broker_is_up(const struct hfb_broker *broker);
int __wrap_hfb_broker_call(struct hfb_broker *broker, enum hfb_ipc_type type, const void *body,
			   uint32_t bytes, hfb_broker_fn *done, void *arg);
const struct hfb_positions *__wrap_hfb_broker_positions(const struct hfb_broker *broker,
							uint32_t handle);

int
__wrap_hfb_offset_log_create(uv_loop_t *loop, const char *data_dir,
			     const struct hfb_offset_log_events *events, void *arg,
			     struct hfb_offset_log **ret_log, struct hfb_err *err)
{
	(void)loop, (void)data_dir, (void)err;
	rig.events = events;
	rig.arg = arg;
	*ret_log = NULL;
	return 0;
}

void
__wrap_hfb_offset_log_destroy(struct hfb_offset_log *log)
{
	(void)log;
	hfb_offset_batch_destroy(rig.batch);
	rig.batch = NULL;
}

void
__wrap_hfb_offset_log_write(struct hfb_offset_log *log, struct hfb_offset_batch *batch)
{
	(void)log;
	CU_ASSERT_PTR_NULL_FATAL(rig.batch);
	rig.batch = batch;
}

void
__wrap_hfb_offset_log_stats_get(struct hfb_offset_log *log, struct hfb_offset_log_stats *ret)
{
	(void)log;
	memset(ret, 0, sizeof(*ret));
}

bool
__wrap_hfb_broker_is_up(const struct hfb_broker *broker)
{
	(void)broker;
	return false;
}

int
__wrap_hfb_broker_call(struct hfb_broker *broker, enum hfb_ipc_type type, const void *body,
		       uint32_t bytes, hfb_broker_fn *done, void *arg)
{
	(void)broker, (void)type, (void)body, (void)bytes, (void)done, (void)arg;
	return -ENOTCONN;
}

const struct hfb_positions *
__wrap_hfb_broker_positions(const struct hfb_broker *broker, uint32_t handle)
{
	(void)broker, (void)handle;
	return NULL;
}

static void
note(const char *sentence)
{
	fprintf(stderr, "%s\n", sentence);
}

/* The topic "t", as the store has it from now on. */
static void
topic_is(const struct hfb_uuid *uuid, bool deleted)
{
	struct hfb_ipc_topic topic = { .name = "t", .uuid = *uuid, .partitions = 2, .version = 1 };

	if (deleted)
		topic.flags = HFB_TOPIC_DELETED;
	CU_ASSERT_EQUAL(hfb_reconcile_ours(rig.reconcile, &topic, ++rig.revision), 0);
}

static void
begin(void)
{
	struct hfb_groups_env env = { .loop = &rig.loop, .data_dir = "nowhere", .note = note };
	struct hfb_err err;

	memset(&rig, 0, sizeof(rig));
	uv_loop_init(&rig.loop);
	CU_ASSERT_EQUAL_FATAL(hfb_reconcile_create(&rig.reconcile), 0);
	topic_is(&first, false);
	env.reconcile = rig.reconcile;
	CU_ASSERT_EQUAL_FATAL(hfb_groups_create(&env, &rig.groups, &err), 0);
	rig.events->ready(rig.arg);
}

static void
end(void)
{
	hfb_groups_close(rig.groups);
	uv_run(&rig.loop, UV_RUN_DEFAULT);
	hfb_groups_free(rig.groups);
	hfb_reconcile_destroy(rig.reconcile);
	uv_loop_close(&rig.loop);
}

static void
answered(void *arg, json_t *answer)
{
	const json_t *t = json_object_get(json_object_get(answer, "offsets"), "t");

	(void)arg;
	if (json_object_get(answer, "member") != NULL)
		snprintf(rig.member, sizeof(rig.member), "%s",
			 json_string_value(json_object_get(answer, "member")));
	if (json_object_get(answer, "generation") != NULL)
		rig.generation =
			(uint32_t)json_integer_value(json_object_get(answer, "generation"));
	rig.answers += json_is_true(json_object_get(answer, "ok"));
	rig.fetched =
		json_array_size(t) == 1
			? (uint64_t)json_integer_value(json_array_get(json_array_get(t, 0), 1))
			: UINT64_MAX;
	json_decref(answer);
}

static void
ask(const char *text)
{
	json_t *json = json_loads(text, 0, NULL);

	CU_ASSERT_PTR_NOT_NULL_FATAL(json);
	hfb_groups_request(rig.groups, json, answered, NULL);
	json_decref(json);
	uv_run(&rig.loop, UV_RUN_NOWAIT);
}

/* What member @rig.member has read of a topic with this uuid. */
static void
member_commits(const struct hfb_uuid *uuid, unsigned int offset)
{
	char text[400], of[HFB_UUID_TEXT_BYTES];

	hfb_uuid_format(uuid, of);
	snprintf(text, sizeof(text),
		 "{\"op\":\"group.commit\",\"group\":\"g\",\"member\":\"%s\",\"generation\":%u,"
		 "\"offsets\":{\"t\":[\"%s\",[0,%u]]}}",
		 rig.member, rig.generation, of, offset);
	ask(text);
}

static void
commit(unsigned int offset)
{
	char text[128];

	snprintf(text, sizeof(text),
		 "{\"op\":\"offset.commit\",\"group\":\"g\",\"offsets\":{\"t\":[[0,%u]]}}", offset);
	ask(text);
}

static uint64_t
fetch(void)
{
	ask("{\"op\":\"group.fetch\",\"group\":\"g\",\"partitions\":{\"t\":[[0,2]]}}");
	return rig.fetched;
}

static void
durable(void)
{
	struct hfb_offset_batch *batch = rig.batch;

	CU_ASSERT_PTR_NOT_NULL_FATAL(batch);
	rig.batch = NULL;
	rig.events->written(rig.arg, batch);
	uv_run(&rig.loop, UV_RUN_NOWAIT);
}

static void
test_what_is_durable_is_given(void)
{
	begin();
	commit(100);
	CU_ASSERT_EQUAL(fetch(), UINT64_MAX);
	durable();
	CU_ASSERT_EQUAL(fetch(), 100);
	end();
}

static void
test_a_commit_on_its_way_is_not_the_new_topics(void)
{
	begin();
	commit(100);
	topic_is(&first, true);
	topic_is(&second, false);
	hfb_groups_topics_changed(rig.groups);
	durable();
	CU_ASSERT_EQUAL(fetch(), UINT64_MAX);
	/* and below it may be committed */
	commit(5);
	durable();
	CU_ASSERT_EQUAL(fetch(), 5);
	end();
}

/* The new topic's first commit is asked for before the old one's last is durable. */
static void
test_the_new_topics_commit_is_not_forgotten(void)
{
	begin();
	commit(100);
	topic_is(&second, false);
	hfb_groups_topics_changed(rig.groups);
	commit(5);
	durable();
	CU_ASSERT_EQUAL(fetch(), UINT64_MAX);
	durable();
	CU_ASSERT_EQUAL(fetch(), 5);
	end();
}

static void
count(void *arg, const struct hfb_groups_lag *lag)
{
	(void)lag;
	(*(uint32_t *)arg)++;
}

static void
test_a_deleted_topics_commit_is_nothing(void)
{
	uint32_t rows = 0;

	begin();
	commit(100);
	topic_is(&first, true);
	hfb_groups_topics_changed(rig.groups);
	durable();
	CU_ASSERT_EQUAL(fetch(), UINT64_MAX);
	hfb_groups_lag_each(rig.groups, count, &rows);
	CU_ASSERT_EQUAL(rows, 0);
	end();
}

/* Asked between the change of the store and hfb_groups_topics_changed(). */
static void
test_a_fetch_looks_whose_offsets_they_are(void)
{
	begin();
	commit(100);
	durable();
	topic_is(&second, false);
	CU_ASSERT_EQUAL(fetch(), UINT64_MAX);
	end();
}

/* A member that has not heard yet that its topic is another one now. */
static void
test_a_member_commits_to_what_it_has_read(void)
{
	char text[400];
	uint32_t answers;

	begin();
	ask("{\"op\":\"group.join\",\"group\":\"g\",\"topics\":[\"t\"]}");
	for (int i = 0; i < 100 && rig.generation == 0; i++) {
		snprintf(text, sizeof(text),
			 "{\"op\":\"group.heartbeat\",\"group\":\"g\",\"member\":\"%s\","
			 "\"generation\":0}",
			 rig.member);
		ask(text);
		if (rig.batch != NULL)
			durable();
	}
	CU_ASSERT_TRUE_FATAL(rig.generation != 0);
	answers = rig.answers;
	member_commits(&first, 100);
	durable();
	CU_ASSERT_EQUAL(rig.answers, answers + 1);
	CU_ASSERT_EQUAL(fetch(), 100);
	topic_is(&second, false);
	answers = rig.answers;
	member_commits(&first, 120);
	CU_ASSERT_PTR_NULL(rig.batch);
	CU_ASSERT_EQUAL(rig.answers, answers);
	member_commits(&second, 5);
	durable();
	CU_ASSERT_EQUAL(rig.answers, answers + 1);
	CU_ASSERT_EQUAL(fetch(), 5);
	end();
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "what is durable is given", test_what_is_durable_is_given },
		{ "a commit on its way is not the new topic's",
		  test_a_commit_on_its_way_is_not_the_new_topics },
		{ "the new topic's commit is not forgotten",
		  test_the_new_topics_commit_is_not_forgotten },
		{ "a deleted topic's commit is nothing", test_a_deleted_topics_commit_is_nothing },
		{ "a member commits to what it has read",
		  test_a_member_commits_to_what_it_has_read },
		{ "a fetch looks whose offsets they are",
		  test_a_fetch_looks_whose_offsets_they_are },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("groups", tests);
}
