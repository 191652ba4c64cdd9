/* SPDX-License-Identifier: Apache-2.0 */
/*
 * __offsets read and written, over a stand-in for the bus.
 *
 * Goal:   whoever starts gets all that was committed, whatever the one before left
 *	   on its way; whoever was fenced writes no more.
 * Method: the functions of libhfbus that offset_log.c calls are here: a log in
 *	   memory which knows producers as hfbusd does (an older epoch is refused, a
 *	   sequence that is there is acked and not written again).
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <hfbus/hfbus.h>

#include "err.h"
#include "hfb_test_main.h"
#include "offset_log.h"

#define EVENTS_MAX 1024u
#define WAIT_MS	   10000u

/* The bus --------------------------------------------------------------------- */

static struct stored {
	char group[64];
	uint8_t value[256];
	uint32_t size;
} stored[EVENTS_MAX];

static struct {
	pthread_mutex_t lock;
	uint64_t count; /* stored */
	uint16_t epoch; /* of the one producer */
	uint64_t next_sequence;
	/* a killed writer's fence: comes in when the next one has looked and opens */
	bool late;
	uint32_t late_epoch;
	uint32_t opened; /* publishers */
} bus = { .lock = PTHREAD_MUTEX_INITIALIZER };

static struct hfb_positions table[1];

struct hfb_pub {
	struct hfb_pub_config config;
	uint64_t sequence;
	int failed;
};

struct hfb_sub {
	uint64_t at;
	struct hfb_item item;
};

static int handle; /* what a struct hfb_bus points to is nobody's business */

int
hfb_bus_open(const struct hfb_bus_config *config, struct hfb_bus **ret_bus, struct hfb_err *err)
{
	(void)config, (void)err;
	*ret_bus = (struct hfb_bus *)(void *)&handle;
	return 0;
}

void
hfb_bus_close(struct hfb_bus *b)
{
	(void)b;
}

int
hfb_admin_topic_get(struct hfb_bus *b, const char *name, struct hfb_ipc_topic *ret_topic,
		    struct hfb_err *err)
{
	(void)b, (void)name, (void)err;
	memset(ret_topic, 0, sizeof(*ret_topic));
	return 0;
}

int
hfb_admin_partitions_get(struct hfb_bus *b, const char *name, uint32_t first,
			 struct hfb_ipc_partition *ret_partitions, uint32_t count,
			 struct hfb_err *err)
{
	(void)b, (void)name, (void)first, (void)count, (void)err;
	memset(ret_partitions, 0, sizeof(*ret_partitions));
	return 1;
}

const struct hfb_positions *
hfb_admin_positions(const struct hfb_bus *b)
{
	(void)b;
	return table;
}

static void
append(const char *group, const void *value, uint32_t size)
{
	struct stored *s = &stored[bus.count];

	CU_ASSERT_FATAL(bus.count < EVENTS_MAX && size <= sizeof(s->value));
	snprintf(s->group, sizeof(s->group), "%s", group);
	memcpy(s->value, value, size);
	s->size = size;
	bus.count++;
	__atomic_store_n(&table[0].committed.offset, bus.count, __ATOMIC_RELAXED);
	__atomic_store_n(&table[0].committed.position, bus.count, __ATOMIC_RELEASE);
}

static void
append_record(enum hfb_offset_record_kind kind, const char *group, uint32_t writer_epoch,
	      uint64_t nonce)
{
	struct hfb_bytes b = { 0 };

	hfb_offset_record_begin(&b, kind, 1);
	if (kind == HFB_RECORD_FENCE)
		hfb_bytes_add(&b, &nonce, sizeof(nonce));
	((struct hfb_offset_record_head *)(void *)b.at)->writer_epoch = writer_epoch;
	append(group, b.at, (uint32_t)b.used);
	hfb_bytes_fini(&b);
}

int
hfb_pub_open(struct hfb_bus *b, const struct hfb_pub_config *config, struct hfb_pub **ret_pub,
	     struct hfb_err *err)
{
	struct hfb_pub *pub = calloc(1, sizeof(*pub));

	(void)b, (void)err;
	pub->config = *config;
	pthread_mutex_lock(&bus.lock);
	bus.opened++;
	if (bus.late) {
		bus.late = false;
		append_record(HFB_RECORD_FENCE, "", bus.late_epoch, 77);
		bus.epoch = (uint16_t)bus.late_epoch;
		bus.next_sequence = 1;
	}
	pthread_mutex_unlock(&bus.lock);
	*ret_pub = pub;
	return 0;
}

void
hfb_pub_close(struct hfb_pub *pub)
{
	free(pub);
}

int
hfb_pub_send(struct hfb_pub *pub, const struct hfb_event *event, struct hfb_err *err)
{
	struct hfb_acked ack = { .events = 1, .sequence = pub->sequence, .base_offset = ~0ull };
	char group[64] = "";

	(void)err;
	if (event->key != NULL)
		memcpy(group, event->key, event->key_size);
	pthread_mutex_lock(&bus.lock);
	if (pub->config.producer_epoch < bus.epoch) {
		pub->failed = -ESTALE;
	} else if (pub->config.producer_epoch > bus.epoch || pub->sequence == bus.next_sequence) {
		bus.epoch = pub->config.producer_epoch;
		bus.next_sequence = pub->sequence + 1;
		ack.base_offset = bus.count;
		append(group, event->value, event->value_size);
	}
	pub->sequence++;
	pthread_mutex_unlock(&bus.lock);
	if (pub->failed == 0)
		pub->config.acked(pub->config.arg, &ack);
	return 0;
}

int
hfb_pub_poll(struct hfb_pub *pub, uint32_t timeout_ms, struct hfb_err *err)
{
	(void)pub, (void)timeout_ms, (void)err;
	return 0;
}

int
hfb_pub_flush(struct hfb_pub *pub, uint32_t timeout_ms, struct hfb_err *err)
{
	(void)timeout_ms;
	return pub->failed == 0 ? 0 : hfb_err_set(err, pub->failed, "fenced");
}

int
hfb_sub_open(struct hfb_bus *b, const struct hfb_sub_config *config, struct hfb_sub **ret_sub,
	     struct hfb_err *err)
{
	struct hfb_sub *sub = calloc(1, sizeof(*sub));

	(void)b, (void)err;
	sub->at = config->from == HFB_SUB_EARLIEST ? 0 : config->value;
	*ret_sub = sub;
	return 0;
}

void
hfb_sub_close(struct hfb_sub *sub)
{
	free(sub);
}

int
hfb_sub_next(struct hfb_sub *sub, uint32_t timeout_ms, const struct hfb_item **ret_item,
	     struct hfb_err *err)
{
	const struct stored *s = &stored[sub->at];

	(void)timeout_ms, (void)err;
	pthread_mutex_lock(&bus.lock);
	if (sub->at == bus.count) {
		pthread_mutex_unlock(&bus.lock);
		usleep(1000);
		return 0;
	}
	sub->item = (struct hfb_item){ .kind = HFB_ITEM_EVENT, .offset = sub->at };
	sub->item.event.value = s->value;
	sub->item.event.value_size = s->size;
	sub->item.event.key = s->group;
	sub->item.event.key_size = (uint32_t)strlen(s->group);
	sub->at++;
	pthread_mutex_unlock(&bus.lock);
	*ret_item = &sub->item;
	return 1;
}

bool
hfb_sub_at_end(struct hfb_sub *sub)
{
	return sub->at == __atomic_load_n(&table[0].committed.position, __ATOMIC_ACQUIRE);
}

/* Its user --------------------------------------------------------------------- */

static struct {
	uv_loop_t loop;
	uv_timer_t deadline;
	struct hfb_offset_log *log;
	uint32_t loaded, written;
	bool ready, fenced, late;
	char last[64]; /* group of the last record loaded */
} user;

static void
loaded(void *arg, const struct hfb_offset_record *record, const char *group)
{
	(void)arg;
	if (record->head.kind != HFB_RECORD_COMMITS)
		return;
	user.loaded++;
	snprintf(user.last, sizeof(user.last), "%s", group);
}

static void
ready(void *arg)
{
	(void)arg;
	user.ready = true;
}

static void
written(void *arg, struct hfb_offset_batch *batch)
{
	(void)arg;
	user.written++;
	hfb_offset_batch_destroy(batch);
}

static void
fenced(void *arg)
{
	(void)arg;
	user.fenced = true;
}

static void
note(void *arg, const char *sentence)
{
	(void)arg, (void)sentence;
}

static const struct hfb_offset_log_events events = {
	.loaded = loaded, .ready = ready, .written = written, .fenced = fenced, .note = note
};

static void
too_late(uv_timer_t *timer)
{
	(void)timer;
	user.late = true;
}

static void
begin(void)
{
	struct hfb_err err;

	memset(&user, 0, sizeof(user));
	uv_loop_init(&user.loop);
	uv_timer_init(&user.loop, &user.deadline);
	uv_timer_start(&user.deadline, too_late, WAIT_MS, 0);
	CU_ASSERT_EQUAL_FATAL(
		hfb_offset_log_create(&user.loop, "nowhere", &events, NULL, &user.log, &err), 0);
}

static bool
until(const bool *condition)
{
	while (!*condition && !user.late)
		uv_run(&user.loop, UV_RUN_ONCE);
	return *condition;
}

static bool
until_written(uint32_t batches)
{
	while (user.written < batches && !user.late)
		uv_run(&user.loop, UV_RUN_ONCE);
	return user.written == batches;
}

static void
end(void)
{
	hfb_offset_log_destroy(user.log);
	uv_close((uv_handle_t *)&user.deadline, NULL);
	uv_run(&user.loop, UV_RUN_DEFAULT);
	uv_loop_close(&user.loop);
}

static void
bus_empty(void)
{
	bus.count = bus.next_sequence = bus.epoch = bus.opened = 0;
	bus.late = false;
	memset(table, 0, sizeof(table));
}

/* As a writer of this epoch leaves it. */
static void
bus_with(uint32_t epoch)
{
	bus_empty();
	append_record(HFB_RECORD_FENCE, "", epoch, 1);
	append_record(HFB_RECORD_COMMITS, "g1", epoch, 0);
	append_record(HFB_RECORD_COMMITS, "g2", epoch, 0);
	bus.epoch = (uint16_t)epoch;
	bus.next_sequence = 3;
}

static void
commit(const char *group)
{
	struct hfb_offset_batch *batch = hfb_offset_batch_create();
	struct hfb_offset_event *event = hfb_offset_batch_event(batch, group);

	hfb_offset_record_begin(&event->value, HFB_RECORD_COMMITS, 1);
	hfb_offset_log_write(user.log, batch);
}

/* Tests ------------------------------------------------------------------------- */

static void
test_a_start_reads_what_is_there(void)
{
	bus_with(9);
	begin();
	CU_ASSERT(until(&user.ready));
	CU_ASSERT_EQUAL(user.loaded, 2);
	CU_ASSERT_STRING_EQUAL(user.last, "g2");
	commit("g3");
	CU_ASSERT(until_written(1));
	end();
	/* its fence, and the commit, of the next epoch */
	CU_ASSERT_EQUAL(bus.count, 5);
	CU_ASSERT_EQUAL(bus.epoch, 10);
	CU_ASSERT_STRING_EQUAL(stored[4].group, "g3");
}

static void
test_an_empty_topic_is_ready_too(void)
{
	bus_empty();
	begin();
	CU_ASSERT(until(&user.ready));
	CU_ASSERT_EQUAL(user.loaded, 0);
	end();
}

/* The one before looked, took epoch 10, was killed; its fence is not in the log yet when
 * we look, and take 10 too. */
static void
test_a_killed_writers_fence_on_its_way_is_not_ours(void)
{
	bus_with(9);
	bus.late = true;
	bus.late_epoch = 10;
	begin();
	CU_ASSERT(until(&user.ready));
	CU_ASSERT_EQUAL(user.loaded, 2);
	CU_ASSERT_EQUAL(bus.epoch, 11);
	commit("g3");
	CU_ASSERT(until_written(1));
	CU_ASSERT_STRING_EQUAL(stored[bus.count - 1].group, "g3");
	end();
}

/* Not one by one: each epoch that is too low is refused, and costs a pause. */
static void
test_a_damaged_end_does_not_hide_the_epoch(void)
{
	bus_with(500);
	append("", "not a record", 12);
	begin();
	CU_ASSERT(until(&user.ready));
	CU_ASSERT_EQUAL(user.loaded, 2);
	CU_ASSERT_EQUAL(bus.epoch, 501);
	CU_ASSERT_EQUAL(bus.opened, 1);
	end();
}

/* Nothing but a lock that was got around lets two run: the former must see it, and end. */
static void
test_who_is_fenced_writes_no_more(void)
{
	uint64_t count;
	uint32_t opened;

	bus_with(9);
	begin();
	CU_ASSERT(until(&user.ready));
	pthread_mutex_lock(&bus.lock);
	bus.epoch = 11;
	bus.next_sequence = 1;
	append_record(HFB_RECORD_FENCE, "", 11, 5);
	count = bus.count;
	opened = bus.opened;
	pthread_mutex_unlock(&bus.lock);
	commit("g3");
	CU_ASSERT(until(&user.fenced));
	end();
	CU_ASSERT_EQUAL(bus.count, count);
	CU_ASSERT_EQUAL(bus.opened, opened);
	CU_ASSERT_EQUAL(user.written, 0);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "a start reads what is there", test_a_start_reads_what_is_there },
		{ "an empty topic is ready, too", test_an_empty_topic_is_ready_too },
		{ "a killed writer's fence on its way is not taken for ours",
		  test_a_killed_writers_fence_on_its_way_is_not_ours },
		{ "a damaged end does not hide the epoch",
		  test_a_damaged_end_does_not_hide_the_epoch },
		{ "who is fenced writes no more", test_who_is_fenced_writes_no_more },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("offset_log", tests);
}
