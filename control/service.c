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

#include "bug.h"
#include "kv.h"
#include "broker.h"
#include "http.h"
#include "rates.h"
#include "groups.h"
#include "group_request.h"
#include "reconcile.h"
#include "request.h"
#include "server.h"
#include "service_answers.h"
#include "service_metrics.h"
#include "topic_record.h"
#include "uuid.h"

#define REFRESH_MS 5000u
#define SAMPLE_MS  1000u
#define KEY_PREFIX "topic/"
/* Snapshots are far smaller and come far more often: retention never takes the last one. */
#define OFFSETS_RETENTION_BYTES (256ull << 20)
#define OFFSETS_SEGMENT_BYTES	(16ull << 20)

/* Who asks has a slot: first those of control.sock, then those of HTTP. */
#define ASKERS_MAX (HFB_SERVER_CLIENTS_MAX + HFB_HTTP_CALLS_MAX)

/* A trim is asked again after so long until it is done, so often at most. */
#define TRIM_AGAIN_MS 10u
#define TRIM_TRIES    1500u

enum wait { WAIT_NONE, WAIT_PUT, WAIT_PASS, WAIT_TOPIC, WAIT_TRIM, WAIT_TRIM_AGAIN };

/* What a client waits for; at most one a slot. */
struct waiter {
	struct hfb_service *service;
	struct hfb_server_client client;
	enum wait wait;
	struct hfb_request request;
	uint64_t passes;	     /* WAIT_PASS: until more than these are through */
	struct hfb_ipc_topic wanted; /* WAIT_PUT: what was written to the store */
	struct hfb_ipc_topic former; /* and what was there, for a refusal */
	bool had_former;
	uint32_t tries; /* WAIT_TRIM */
};

struct hfb_service {
	char data_dir[4096];
	int lock_fd;
	bool closing;
	struct hfb_kv *kv;
	struct hfb_reconcile *reconcile;
	struct hfb_broker *broker;
	struct hfb_server *server;
	struct hfb_rates *rates;
	struct hfb_http *http; /* NULL: off */
	struct hfb_groups *groups;
	uv_timer_t refresh;
	uv_timer_t sample;     /* of rates */
	uv_timer_t trim_again; /* runs while somebody is in WAIT_TRIM_AGAIN */
	uint32_t unknown_logs; /* as hfbusd said last */
	bool topics_changed;   /* groups are not told yet */
	struct waiter waiters[ASKERS_MAX];
};

static void step(struct hfb_service *s);

static void __attribute__((format(printf, 1, 2))) note(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "hfbus-control: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\n");
}

static void
send_answer(struct hfb_service *s, struct hfb_server_client client, json_t *json)
{
	if (client.slot < HFB_SERVER_CLIENTS_MAX) {
		hfb_server_answer(s->server, client, json);
		return;
	}
	client.slot -= HFB_SERVER_CLIENTS_MAX;
	hfb_http_answer(s->http, client, json);
}

static void
answer(struct waiter *w, json_t *json)
{
	w->wait = WAIT_NONE;
	send_answer(w->service, w->client, json);
}

static void
refuse(struct waiter *w, const struct hfb_err *err)
{
	answer(w, hfb_answer_error(err));
}

static void
refuse_away(struct waiter *w)
{
	struct hfb_err err;

	hfb_err_set(&err, -ENOTCONN,
		    "hfbusd does not run on %s; start both with: hfbus up --data %s",
		    w->service->data_dir, w->service->data_dir);
	refuse(w, &err);
}

/* The store --------------------------------------------------------------- */

static int
store_put(struct hfb_service *s, const struct hfb_ipc_topic *topic, uint64_t expected_revision,
	  struct hfb_err *err)
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

static int
store_remove(struct hfb_service *s, const char *name, uint64_t revision, struct hfb_err *err)
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
		note("control.db: %s is left alone, it cannot be read: %s", item->key, err.text);
	else if (hfb_reconcile_ours(s->reconcile, &topic, item->revision) < 0)
		note("out of memory for topic %s", topic.name);
}

/* Requests ---------------------------------------------------------------- */

static void
describe_done(void *arg, int error, const char *sentence, const void *body, uint32_t bytes)
{
	struct waiter *w = arg;
	const struct hfb_reconcile_entry *e;

	if (w->wait != WAIT_TOPIC)
		return;
	e = hfb_reconcile_find(w->service->reconcile, w->request.topic.name);
	if (e == NULL || !e->has_ours || hfb_topic_record_deleted(&e->ours)) {
		struct hfb_err err;

		hfb_err_set(&err, -ENOENT, "topic %s does not exist", w->request.topic.name);
		refuse(w, &err);
		return;
	}
	(void)sentence;
	answer(w, hfb_answer_describe(e, w->service->broker, w->service->rates,
				      error == 0 ? body : NULL, bytes));
}

static void
describe(struct waiter *w)
{
	struct hfb_ipc_topic_get get = { .first_partition = w->request.first };
	int r;

	strcpy(get.name, w->request.topic.name);
	w->wait = WAIT_TOPIC;
	r = hfb_broker_call(w->service->broker, HFB_IPC_TOPIC_GET, &get, sizeof(get), describe_done,
			    w);
	if (r < 0)
		describe_done(w, r, "", NULL, 0);
}

static void
create(struct waiter *w, const struct hfb_reconcile_entry *e)
{
	struct hfb_service *s = w->service;
	struct hfb_ipc_topic topic = w->request.topic;
	struct hfb_err err;
	struct timespec now;

	if (e != NULL && e->has_ours && !hfb_topic_record_deleted(&e->ours)) {
		hfb_err_set(&err, -EEXIST, "topic %s exists already", topic.name);
		refuse(w, &err);
		return;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	hfb_uuid_random(&topic.uuid);
	topic.created_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	topic.version = 1;
	topic.flags = 0;
	w->had_former = e != NULL && e->has_ours;
	if (w->had_former) {
		w->former = e->ours; /* a tombstone */
		topic.version = e->ours.version + 1;
	}
	w->wanted = topic;
	w->wait = WAIT_PUT;
	if (store_put(s, &topic, w->had_former ? e->revision : 0, &err) < 0)
		refuse(w, &err);
}

static void delete (struct waiter *w, const struct hfb_reconcile_entry *e)
{
	struct hfb_ipc_topic topic;
	struct hfb_err err;

	if (e == NULL || !e->has_ours || hfb_topic_record_deleted(&e->ours)) {
		hfb_err_set(&err, -ENOENT, "topic %s does not exist", w->request.topic.name);
		refuse(w, &err);
		return;
	}
	topic = e->ours;
	w->had_former = true;
	w->former = topic;
	topic.version++;
	topic.flags |= HFB_TOPIC_DELETED;
	w->wanted = topic;
	w->wait = WAIT_PUT;
	if (store_put(w->service, &topic, e->revision, &err) < 0)
		refuse(w, &err);
}

/* The same compare-and-set as a delete: ours first, then hfbusd's. */
static void
alter(struct waiter *w, const struct hfb_reconcile_entry *e)
{
	struct hfb_ipc_topic topic;
	struct hfb_err err;
	int r;

	if (e == NULL || !e->has_ours || hfb_topic_record_deleted(&e->ours)) {
		hfb_err_set(&err, -ENOENT, "topic %s does not exist", w->request.topic.name);
		refuse(w, &err);
		return;
	}
	topic = e->ours;
	w->had_former = true;
	w->former = topic;
	r = hfb_request_alter(&w->request, &topic, &err);
	if (r == 0)
		r = hfb_topic_record_check(&topic, &err);
	if (r < 0) {
		refuse(w, &err);
		return;
	}
	if (hfb_topic_record_equal(&topic, &e->ours)) {
		answer(w, hfb_answer_topic(&e->ours)); /* it is so already */
		return;
	}
	topic.version++;
	w->wanted = topic;
	w->wait = WAIT_PUT;
	if (store_put(w->service, &topic, e->revision, &err) < 0)
		refuse(w, &err);
}

static void trim_ask(struct waiter *w);

static void
trim_again(uv_timer_t *timer)
{
	struct hfb_service *s = timer->data;

	for (uint32_t i = 0; i < ASKERS_MAX; i++)
		if (s->waiters[i].wait == WAIT_TRIM_AGAIN)
			trim_ask(&s->waiters[i]);
}

static void
trim_done(void *arg, int error, const char *sentence, const void *body, uint32_t bytes)
{
	const struct hfb_ipc_trim_answer *found = body;
	struct waiter *w = arg;
	struct hfb_err err;

	if (w->wait != WAIT_TRIM)
		return;
	if (error == 0 && bytes < sizeof(*found))
		error = -EPROTO, sentence = "hfbusd's answer to a trim is too short";
	if (error == 0 && found->done == 0 && ++w->tries < TRIM_TRIES) {
		w->wait = WAIT_TRIM_AGAIN;
		if (!uv_is_active((uv_handle_t *)&w->service->trim_again))
			uv_timer_start(&w->service->trim_again, trim_again, TRIM_AGAIN_MS, 0);
		return;
	}
	if (error == 0 && found->done == 0)
		error = -EINPROGRESS, sentence = "the start is being moved; it takes long because "
						 "the disk is slow or full";
	if (error != 0) {
		hfb_err_set(&err, error, "%s", sentence);
		refuse(w, &err);
		return;
	}
	answer(w, hfb_answer_trim(w->request.topic.name, w->request.first, found));
}

static void
trim_ask(struct waiter *w)
{
	struct hfb_ipc_trim ask = { .partition = w->request.first, .before = w->request.before };
	int r;

	strcpy(ask.name, w->request.topic.name);
	w->wait = WAIT_TRIM;
	r = hfb_broker_call(w->service->broker, HFB_IPC_TRIM, &ask, sizeof(ask), trim_done, w);
	if (r < 0)
		trim_done(w, r, "hfbusd is busy or gone, ask again", NULL, 0);
}

/* Act on a request, with hfbusd's topics as fresh as they get. */
static void
act(struct waiter *w)
{
	struct hfb_service *s = w->service;
	const struct hfb_reconcile_entry *e = NULL;

	w->wait = WAIT_NONE;
	if (w->request.op >= HFB_REQUEST_TOPIC_CREATE && w->request.op != HFB_REQUEST_TOPIC_LIST &&
	    w->request.op != HFB_REQUEST_TOPIC_DESCRIBE) {
		if (hfb_topic_record_internal(w->request.topic.name)) {
			struct hfb_err err;

			hfb_err_set(&err, -EPERM,
				    "names that begin with " HFB_TOPIC_INTERNAL_PREFIX
				    " are the bus's own");
			refuse(w, &err);
			return;
		}
		if (!hfb_broker_is_up(s->broker)) {
			refuse_away(w);
			return;
		}
		e = hfb_reconcile_find(s->reconcile, w->request.topic.name);
	}
	switch (w->request.op) {
	case HFB_REQUEST_STATUS:
		answer(w, hfb_answer_status(s->reconcile, s->broker, s->data_dir, s->unknown_logs,
					    hfb_service_http_address(s)));
		break;
	case HFB_REQUEST_TOPIC_LIST:
		answer(w, hfb_answer_list(s->reconcile, s->broker, w->request.after,
					  w->request.internal));
		break;
	case HFB_REQUEST_TOPIC_DESCRIBE:
		describe(w);
		break;
	case HFB_REQUEST_TOPIC_CREATE:
		create(w, e);
		break;
	case HFB_REQUEST_TOPIC_DELETE:
		delete (w, e);
		break;
	case HFB_REQUEST_TOPIC_ALTER:
		alter(w, e);
		break;
	case HFB_REQUEST_TOPIC_TRIM:
		w->tries = 0;
		trim_ask(w);
		break;
	}
}

/* Feeds make topics in hfbusd: what is asked about all topics, or about one we do
 * not know, is answered after a look there. Not before a create: hfbusd refuses it if the
 * name is taken, and to look at all topics for each would make many cost their square. */
static bool
needs_look(const struct hfb_service *s, const struct hfb_request *request)
{
	if (!hfb_broker_is_up(s->broker))
		return false;
	if (request->op == HFB_REQUEST_STATUS)
		return false;
	if (request->op == HFB_REQUEST_TOPIC_CREATE && hfb_reconcile_passes(s->reconcile) > 0)
		return false;
	if (request->op == HFB_REQUEST_TOPIC_LIST)
		return request->after[0] == '\0';
	return hfb_reconcile_find(s->reconcile, request->topic.name) == NULL;
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

	send_answer(w->service, w->client, json);
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
		send_answer(s, client, NULL);
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
	if (store_put(s, &topic, e != NULL ? e->revision : 0, &err) < 0)
		note("topic " HFB_OFFSETS_TOPIC " cannot be made: %s", err.text);
}

static void
requested(void *arg, struct hfb_server_client client, const char *bytes, size_t size)
{
	struct hfb_service *s = arg;
	struct waiter *w = &s->waiters[client.slot];
	struct hfb_err err;

	if (group_requested(s, client, bytes, size))
		return;
	/* The former client of the slot may have left while its answer was awaited. */
	if (w->wait != WAIT_NONE && w->wait != WAIT_PASS) {
		hfb_err_set(&err, -EAGAIN, "hfbus-control is busy, ask again");
		send_answer(s, client, hfb_answer_error(&err));
		return;
	}
	w->service = s;
	w->client = client;
	w->wait = WAIT_NONE;
	if (hfb_request_parse(bytes, size, &w->request, &err) < 0) {
		refuse(w, &err);
		return;
	}
	if (needs_look(s, &w->request)) {
		w->wait = WAIT_PASS;
		w->passes = hfb_reconcile_passes(s->reconcile);
		/* A listing under way may have passed the name already: wait for a whole one. */
		if (hfb_reconcile_state(s->reconcile) == HFB_RECONCILE_LISTING)
			w->passes++;
		hfb_reconcile_refresh(s->reconcile);
	} else {
		act(w);
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

/* hfbusd refused what the store says already: the store gets its former value back. */
static void
undo(struct waiter *w, const struct hfb_reconcile_entry *e)
{
	struct hfb_service *s = w->service;
	uint64_t revision = e->revision;
	struct hfb_err err, why;
	int r;

	hfb_err_set(&why, e->refused, "%s", e->refusal);
	if (w->had_former)
		r = store_put(s, &w->former, revision, &err);
	else
		r = store_remove(s, w->wanted.name, revision, &err);
	if (r < 0)
		note("control.db keeps %s, which hfbusd refused: %s", w->wanted.name, err.text);
	refuse(w, &why);
}

/* Has hfbusd taken, or refused, what this one wrote? */
static void
check_put(struct waiter *w)
{
	const struct hfb_reconcile_entry *e =
		hfb_reconcile_find(w->service->reconcile, w->wanted.name);
	struct hfb_err err;

	if (e == NULL || !e->has_ours || !hfb_uuid_equal(&e->ours.uuid, &w->wanted.uuid) ||
	    e->ours.version != w->wanted.version) {
		hfb_err_set(&err, w->request.op == HFB_REQUEST_TOPIC_CREATE ? -EEXIST : -ESTALE,
			    w->request.op == HFB_REQUEST_TOPIC_CREATE
				    ? "topic %s exists already"
				    : "topic %s was changed by another one meanwhile",
			    w->wanted.name);
		refuse(w, &err);
	} else if (e->refused != 0) {
		undo(w, e);
	} else if (e->has_theirs && e->theirs.version == w->wanted.version &&
		   hfb_uuid_equal(&e->theirs.uuid, &w->wanted.uuid)) {
		answer(w, hfb_answer_topic(&e->ours));
	} else if (!hfb_broker_is_up(w->service->broker)) {
		hfb_err_set(&err, -EINPROGRESS,
			    "hfbusd went away before it answered; the change of "
			    "%s is kept and reaches it when it is back",
			    w->wanted.name);
		refuse(w, &err);
	}
}

/* Answer those who can be. True: there may be more to do now. */
static bool
check_waiters(struct hfb_service *s)
{
	bool up = hfb_broker_is_up(s->broker), more = false;

	for (uint32_t i = 0; i < ASKERS_MAX; i++) {
		struct waiter *w = &s->waiters[i];

		if (w->wait != WAIT_PUT)
			continue;
		check_put(w);
		more |= w->wait == WAIT_NONE;
	}
	for (uint32_t i = 0; i < ASKERS_MAX; i++) {
		struct waiter *w = &s->waiters[i];

		if (w->wait != WAIT_PASS)
			continue;
		if (!up || hfb_reconcile_passes(s->reconcile) > w->passes) {
			act(w);
			more = true;
		} else if (hfb_reconcile_state(s->reconcile) == HFB_RECONCILE_SETTLED) {
			hfb_reconcile_refresh(s->reconcile);
			more = true;
		}
	}
	return more;
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
			note("hfbusd's topics cannot be read, trying again: %s %s", strerror(-r),
			     sentence);
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
		note("hfbusd refused a topic: %s", sentence);
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
		r = store_put(s, &action->topic, action->revision, &err);
		if (r < 0) {
			note("topic %s of hfbusd is not taken over: %s", action->topic.name,
			     err.text);
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
	} while (check_waiters(s));
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
		note("%s/topics holds logs of no known topic: %u; they are kept", s->data_dir,
		     node->unknown_logs_count);
	s->unknown_logs = node->unknown_logs_count;
}

static void
broker_up(void *arg)
{
	struct hfb_service *s = arg;

	note("connected to hfbusd (pid %u)", hfb_broker_welcome(s->broker)->pid);
	hfb_reconcile_up(s->reconcile);
	hfb_groups_broker_changed(s->groups, true);
	(void)hfb_broker_call(s->broker, HFB_IPC_NODE, NULL, 0, node_done, s);
	step(s);
}

static void
broker_down(void *arg, const char *why)
{
	struct hfb_service *s = arg;

	note("%s; its topics are changed again when it is back", why);
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
	note("%s", sentence);
}

int
hfb_service_create(uv_loop_t *loop, const char *data_dir, struct hfb_service **ret_service,
		   struct hfb_err *err)
{
	struct hfb_service *s = calloc(1, sizeof(*s));
	int r;

	if (s == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	s->lock_fd = -1;
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
