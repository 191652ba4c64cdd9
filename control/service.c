/* SPDX-License-Identifier: Apache-2.0 */
#include "service.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "group_request.h"
#include "service_answers.h"
#include "service_metrics.h"
#include "service_private.h"
#include "topic_record.h"
#include "uuid.h"

#define REFRESH_MS 5000u
#define SAMPLE_MS  1000u
#define KEY_PREFIX "topic/"
/* Snapshots are far smaller and come far more often: retention never takes the last one. */
#define OFFSETS_RETENTION_BYTES (256ull << 20)
#define OFFSETS_SEGMENT_BYTES	(16ull << 20)

static void step(struct hfb_service *s);

void
hfb_service_note(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "hfbus-control: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\n");
}

void
hfb_service_answer(struct hfb_service *s, struct hfb_server_client client, json_t *json)
{
	if (client.slot < HFB_SERVER_CLIENTS_MAX) {
		hfb_server_answer(s->server, client, json);
		return;
	}
	client.slot -= HFB_SERVER_CLIENTS_MAX;
	hfb_http_answer(s->http, client, json);
}

/* The store --------------------------------------------------------------- */

int
hfb_service_store_put(struct hfb_service *s, const struct hfb_ipc_topic *topic,
		      uint64_t expected_revision, struct hfb_err *err)
{
	char key[sizeof(KEY_PREFIX) + sizeof(topic->name)];
	struct hfb_ipc_topic back;
	json_t *json = hfb_topic_record_to_json(topic);
	char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
	int r;

	json_decref(json);
	if (text == NULL)
		return hfb_err_set(err, -ENOMEM, "hfbus-control is out of memory");
	/* Only what can be read again goes in, whatever hfbusd may have sent. */
	r = hfb_topic_record_parse(text, &back, err);
	snprintf(key, sizeof(key), KEY_PREFIX "%s", topic->name);
	if (r == 0)
		r = hfb_kv_cas(s->kv, key, expected_revision, text, NULL, err);
	free(text);
	return r;
}

int
hfb_service_store_remove(struct hfb_service *s, const char *name, uint64_t revision,
			 struct hfb_err *err)
{
	char key[sizeof(KEY_PREFIX) + 256];

	snprintf(key, sizeof(key), KEY_PREFIX "%s", name);
	return hfb_kv_cas(s->kv, key, revision, NULL, NULL, err);
}

/* Each change of the store, and at start each topic of it. */
static void
store_changed(void *arg, const struct hfb_kv_item *item)
{
	struct hfb_service *s = arg;
	struct hfb_ipc_topic topic;
	struct hfb_err err;

	s->topics_changed = true;
	if (item->value == NULL) {
		hfb_reconcile_ours_removed(s->reconcile, item->key + strlen(KEY_PREFIX));
		return;
	}
	if (hfb_topic_record_parse(item->value, &topic, &err) < 0)
		hfb_service_note("control.db: %s is left alone, it cannot be read: %s", item->key,
				 err.text);
	else if (hfb_reconcile_ours(s->reconcile, &topic, item->revision) < 0)
		hfb_service_note("out of memory for topic %s", topic.name);
}

/* Groups ------------------------------------------------------------------ */

struct group_waiter {
	struct hfb_service *service;
	struct hfb_server_client client;
};

static void
group_answered(void *arg, json_t *json)
{
	struct group_waiter *w = arg;

	hfb_service_answer(w->service, w->client, json);
	free(w);
}

/* Is it about groups or offsets? Those have a module, and waiters, of their own. */
static bool
group_requested(struct hfb_service *s, struct hfb_server_client client, const char *bytes,
		size_t size)
{
	json_t *json = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, NULL);
	const char *op = json_string_value(json_object_get(json, "op"));
	struct group_waiter *w;

	if (op == NULL || !hfb_group_request_takes(op)) {
		json_decref(json);
		return false;
	}
	w = malloc(sizeof(*w));
	if (w == NULL) {
		hfb_service_answer(s, client, NULL);
	} else {
		*w = (struct group_waiter){ s, client };
		hfb_groups_request(s->groups, json, group_answered, w);
	}
	json_decref(json);
	return true;
}

/* __offsets is made by ourselves, once hfbusd's topics are known. */
static void
internal_topics(struct hfb_service *s)
{
	const struct hfb_reconcile_entry *e;
	struct hfb_ipc_topic topic = {
		.name = HFB_OFFSETS_TOPIC,
		.version = 1,
		.partitions = 1,
		.commit_stage = HFB_STAGE_DURABLE,
		.retention_bytes = OFFSETS_RETENTION_BYTES,
		.segment_bytes = OFFSETS_SEGMENT_BYTES,
	};
	struct timespec now;
	struct hfb_err err;

	if (hfb_reconcile_state(s->reconcile) != HFB_RECONCILE_SETTLED)
		return;
	e = hfb_reconcile_find(s->reconcile, HFB_OFFSETS_TOPIC);
	if (e != NULL && (!e->has_ours || !hfb_topic_record_deleted(&e->ours)))
		return;
	if (e != NULL)
		topic.version = e->ours.version + 1;
	clock_gettime(CLOCK_REALTIME, &now);
	hfb_uuid_random(&topic.uuid);
	topic.created_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	if (hfb_service_store_put(s, &topic, e != NULL ? e->revision : 0, &err) < 0)
		hfb_service_note("topic " HFB_OFFSETS_TOPIC " cannot be made: %s", err.text);
}

static void
requested(void *arg, struct hfb_server_client client, const char *bytes, size_t size)
{
	struct hfb_service *s = arg;
	struct hfb_waiter *w = &s->waiters[client.slot];
	struct hfb_err err;

	if (group_requested(s, client, bytes, size))
		return;
	/* The former client of the slot may have left while its answer was awaited. */
	if (w->wait != WAIT_NONE && w->wait != WAIT_PASS) {
		hfb_err_set(&err, -EAGAIN, "hfbus-control is busy, ask again");
		hfb_service_answer(s, client, hfb_answer_error(&err));
		return;
	}
	w->service = s;
	w->client = client;
	w->wait = WAIT_NONE;
	if (hfb_request_parse(bytes, size, &w->request, &err) < 0) {
		hfb_service_refuse(w, &err);
		return;
	}
	if (hfb_service_needs_look(s, &w->request)) {
		w->wait = WAIT_PASS;
		w->passes = hfb_reconcile_passes(s->reconcile);
		/* A listing under way may have passed the name already: wait for a whole one. */
		if (hfb_reconcile_state(s->reconcile) == HFB_RECONCILE_LISTING)
			w->passes++;
		hfb_reconcile_refresh(s->reconcile);
	} else {
		hfb_service_act(w);
	}
	step(s);
}

/* HTTP ----------------------------------------------------------------------- */

static void
http_requested(void *arg, struct hfb_server_client client, const char *bytes, size_t size)
{
	client.slot += HFB_SERVER_CLIENTS_MAX;
	requested(arg, client, bytes, size);
}

static char *
http_metrics(void *arg, size_t *ret_size)
{
	struct hfb_service *s = arg;

	return hfb_service_metrics(s->reconcile, s->broker, s->groups, s->http, ".", ret_size);
}

static bool
http_ready(void *arg, char *ret_why, size_t size)
{
	struct hfb_service *s = arg;
	struct hfb_groups_stats stats;

	if (!hfb_broker_is_up(s->broker))
		snprintf(ret_why, size, "hfbusd does not run on %.200s", s->data_dir);
	else if (hfb_reconcile_passes(s->reconcile) == 0)
		snprintf(ret_why, size, "hfbusd's topics are being read");
	else if (hfb_groups_stats_get(s->groups, &stats), !stats.ready)
		snprintf(ret_why, size, "the groups' offsets are being read");
	else
		return true;
	return false;
}

int
hfb_service_http_start(struct hfb_service *s, const struct hfb_http_config *config,
		       struct hfb_err *err)
{
	static const struct hfb_http_source source = {
		.request = http_requested,
		.metrics = http_metrics,
		.ready = http_ready,
	};

	return hfb_http_create(s->refresh.loop, config, &source, s, &s->http, err);
}

const char *
hfb_service_http_address(const struct hfb_service *s)
{
	return s->http != NULL ? hfb_http_address(s->http) : NULL;
}

/* Reconciling --------------------------------------------------------------- */

static void
listed(void *arg, int error, const char *sentence, const void *body, uint32_t bytes)
{
	struct hfb_service *s = arg;
	const struct hfb_ipc_list *list = body;
	const struct hfb_ipc_topic *topics = (const void *)(list + 1);
	int r = error;

	if (r == 0 &&
	    (bytes < sizeof(*list) || (bytes - sizeof(*list)) / sizeof(*topics) < list->count))
		r = -EPROTO;
	if (r == 0)
		r = hfb_reconcile_page(s->reconcile, topics, list->count, list->more != 0);
	if (r < 0) {
		if (r != -ENOTCONN)
			hfb_service_note("hfbusd's topics cannot be read, trying again: %s %s",
					 strerror(-r), sentence);
		hfb_reconcile_down(s->reconcile); /* the timer starts it anew */
	}
	step(s);
}

static void
put_done(void *arg, int error, const char *sentence, const void *body, uint32_t bytes)
{
	struct hfb_service *s = arg;

	(void)body, (void)bytes;
	if (error == -ENOTCONN)
		hfb_reconcile_down(s->reconcile);
	else
		hfb_reconcile_put_done(s->reconcile, error, sentence);
	if (error != 0 && error != -ENOTCONN && error != -ESTALE && error != -EEXIST &&
	    error != -ENOENT)
		hfb_service_note("hfbusd refused a topic: %s", sentence);
	step(s);
}

static int
perform(struct hfb_service *s, const struct hfb_reconcile_action *action)
{
	struct hfb_ipc_cursor cursor;
	struct hfb_err err;
	int r;

	switch (action->what) {
	case HFB_RECONCILE_LIST:
		memset(&cursor, 0, sizeof(cursor));
		strcpy(cursor.after, action->after);
		return hfb_broker_call(s->broker, HFB_IPC_TOPIC_LIST, &cursor, sizeof(cursor),
				       listed, s);
	case HFB_RECONCILE_PUT:
		return hfb_broker_call(s->broker, HFB_IPC_TOPIC_PUT, &action->topic,
				       sizeof(action->topic), put_done, s);
	case HFB_RECONCILE_ADOPT:
		r = hfb_service_store_put(s, &action->topic, action->revision, &err);
		if (r < 0) {
			hfb_service_note("topic %s of hfbusd is not taken over: %s",
					 action->topic.name, err.text);
			hfb_reconcile_adopt_failed(s->reconcile, r, err.text);
		}
		break;
	}
	return 0;
}

static void
step(struct hfb_service *s)
{
	struct hfb_reconcile_action action;

	if (s->closing)
		return;
	/* Each round ends a waiter or starts a listing, which is awaited: so this ends. */
	do {
		while (hfb_reconcile_next(s->reconcile, &action))
			if (perform(s, &action) < 0)
				hfb_reconcile_down(s->reconcile); /* the timer tries again */
		internal_topics(s);
	} while (hfb_service_check_waiters(s));
	if (s->topics_changed) {
		s->topics_changed = false;
		hfb_groups_topics_changed(s->groups);
	}
}

static void
node_done(void *arg, int error, const char *sentence, const void *body, uint32_t bytes)
{
	struct hfb_service *s = arg;
	const struct hfb_ipc_node *node = body;

	(void)sentence;
	if (error != 0 || bytes < sizeof(*node))
		return;
	if (node->unknown_logs_count > s->unknown_logs)
		hfb_service_note("%s/topics holds logs of no known topic: %u; they are kept",
				 s->data_dir, node->unknown_logs_count);
	s->unknown_logs = node->unknown_logs_count;
}

static void
broker_up(void *arg)
{
	struct hfb_service *s = arg;

	hfb_service_note("connected to hfbusd (pid %u)", hfb_broker_welcome(s->broker)->pid);
	hfb_reconcile_up(s->reconcile);
	hfb_groups_broker_changed(s->groups, true);
	(void)hfb_broker_call(s->broker, HFB_IPC_NODE, NULL, 0, node_done, s);
	step(s);
}

static void
broker_down(void *arg, const char *why)
{
	struct hfb_service *s = arg;

	hfb_service_note("%s; its topics are changed again when it is back", why);
	hfb_rates_reset(s->rates);
	hfb_reconcile_down(s->reconcile);
	hfb_groups_broker_changed(s->groups, false);
	step(s);
}

static const struct hfb_broker_events broker_events = { .up = broker_up, .down = broker_down };

static void
refresh(uv_timer_t *timer)
{
	struct hfb_service *s = timer->data;

	if (hfb_broker_is_up(s->broker) && hfb_reconcile_state(s->reconcile) == HFB_RECONCILE_AWAY)
		hfb_reconcile_up(s->reconcile);
	hfb_reconcile_refresh(s->reconcile);
	if (hfb_broker_is_up(s->broker))
		(void)hfb_broker_call(s->broker, HFB_IPC_NODE, NULL, 0, node_done, s);
	step(s);
}

static void
sample(uv_timer_t *timer)
{
	struct hfb_service *s = timer->data;

	if (hfb_broker_is_up(s->broker))
		hfb_rates_sample(s->rates, s->broker, uv_hrtime());
}

/* Life -------------------------------------------------------------------- */

static int
take_lock(struct hfb_service *s, struct hfb_err *err)
{
	static const char path[] = "control.lock";

	/* From here on by short names: a socket's address has 108 bytes, a folder's more. */
	if (chdir(s->data_dir) < 0)
		return hfb_err_set(err, -errno, "cannot enter %s: %s; see --data", s->data_dir,
				   strerror(errno));
	s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->lock_fd < 0)
		return hfb_err_set(err, -errno, "cannot open %s/%s: %s; see --data", s->data_dir,
				   path, strerror(errno));
	if (flock(s->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return hfb_err_set(err, -EBUSY, "another hfbus-control runs on %s", s->data_dir);
	return 0;
}

static int
open_store(struct hfb_service *s, struct hfb_err *err)
{
	char path[4096 + 32];
	int r;

	snprintf(path, sizeof(path), "%s/control.db", s->data_dir);
	r = hfb_kv_open_sqlite(path, &s->kv, err);
	if (r == 0)
		r = hfb_kv_each(s->kv, KEY_PREFIX, store_changed, s, err);
	if (r == 0)
		r = hfb_kv_watch(s->kv, KEY_PREFIX, store_changed, s, err);
	return r;
}

static void
groups_note(const char *sentence)
{
	hfb_service_note("%s", sentence);
}

static void
groups_fenced(void *arg)
{
	struct hfb_service *s = arg;

	hfb_service_note("another hfbus-control has taken over the committed offsets of %s: this "
			 "one ends",
			 s->data_dir);
	s->end(s->end_arg);
}

int
hfb_service_create(uv_loop_t *loop, const char *data_dir, void (*end)(void *arg), void *arg,
		   struct hfb_service **ret_service, struct hfb_err *err)
{
	struct hfb_service *s = calloc(1, sizeof(*s));
	int r;

	if (s == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	s->lock_fd = -1;
	s->end = end;
	s->end_arg = arg;
	snprintf(s->data_dir, sizeof(s->data_dir), "%s", data_dir);
	uv_timer_init(loop, &s->refresh);
	s->refresh.data = s;
	uv_timer_init(loop, &s->sample);
	s->sample.data = s;
	uv_timer_init(loop, &s->trim_again);
	s->trim_again.data = s;
	r = take_lock(s, err);
	if (r == 0) {
		s->rates = hfb_rates_create();
		if (s->rates == NULL)
			r = hfb_err_set(err, -ENOMEM, "out of memory");
	}
	if (r == 0) {
		r = hfb_reconcile_create(&s->reconcile);
		if (r < 0)
			hfb_err_set(err, r, "out of memory");
	}
	if (r == 0)
		r = open_store(s, err);
	if (r == 0)
		r = hfb_broker_create(loop, "hfbusd.sock", &broker_events, s, &s->broker, err);
	if (r == 0) {
		const struct hfb_groups_env env = {
			.loop = loop,
			.data_dir = s->data_dir,
			.broker = s->broker,
			.reconcile = s->reconcile,
			.note = groups_note,
			.fenced = groups_fenced,
			.arg = s,
		};

		r = hfb_groups_create(&env, &s->groups, err);
	}
	if (r == 0)
		r = hfb_server_create(loop, "control.sock", requested, s, &s->server, err);
	if (r == 0)
		uv_timer_start(&s->refresh, refresh, REFRESH_MS, REFRESH_MS);
	if (r == 0)
		uv_timer_start(&s->sample, sample, SAMPLE_MS, SAMPLE_MS);
	/* Half made, it is still closed by the same way. */
	*ret_service = s;
	return r;
}

void
hfb_service_close(struct hfb_service *s)
{
	s->closing = true;
	hfb_server_destroy(s->server);
	hfb_http_destroy(s->http);
	hfb_groups_close(s->groups);
	hfb_broker_destroy(s->broker);
	uv_close((uv_handle_t *)&s->refresh, NULL);
	uv_close((uv_handle_t *)&s->sample, NULL);
	uv_close((uv_handle_t *)&s->trim_again, NULL);
}

void
hfb_service_free(struct hfb_service *s)
{
	if (s == NULL)
		return;
	hfb_groups_free(s->groups);
	hfb_kv_close(s->kv);
	hfb_reconcile_destroy(s->reconcile);
	hfb_rates_destroy(s->rates);
	if (s->lock_fd >= 0)
		close(s->lock_fd);
	free(s);
}
