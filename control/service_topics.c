/* SPDX-License-Identifier: Apache-2.0 */
/* service_topics.c - requests about topics: a change is in the store first, then hfbusd's. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "service.h"
#include "service_answers.h"
#include "service_private.h"
#include "topic_record.h"
#include "uuid.h"

/* A trim is asked again after so long until it is done, so often at most. */
#define TRIM_AGAIN_MS 10u
#define TRIM_TRIES    1500u

static void
answer(struct hfb_waiter *w, json_t *json)
{
	w->wait = WAIT_NONE;
	hfb_service_answer(w->service, w->client, json);
}

void
hfb_service_refuse(struct hfb_waiter *w, const struct hfb_err *err)
{
	answer(w, hfb_answer_error(err));
}

static void
refuse_away(struct hfb_waiter *w)
{
	struct hfb_err err;

	hfb_err_set(&err, -ENOTCONN,
		    "hfbusd does not run on %s; start both with: hfbus up --data %s",
		    w->service->data_dir, w->service->data_dir);
	hfb_service_refuse(w, &err);
}

/* Requests ---------------------------------------------------------------- */

static void
describe_done(void *arg, int error, const char *sentence, const void *body, uint32_t bytes)
{
	struct hfb_waiter *w = arg;
	const struct hfb_reconcile_entry *e;

	if (w->wait != WAIT_TOPIC)
		return;
	e = hfb_reconcile_find(w->service->reconcile, w->request.topic.name);
	if (e == NULL || !e->has_ours || hfb_topic_record_deleted(&e->ours)) {
		struct hfb_err err;

		hfb_err_set(&err, -ENOENT, "topic %s does not exist", w->request.topic.name);
		hfb_service_refuse(w, &err);
		return;
	}
	(void)sentence;
	answer(w, hfb_answer_describe(e, w->service->broker, w->service->rates,
				      error == 0 ? body : NULL, bytes));
}

static void
describe(struct hfb_waiter *w)
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

/* A change begins in the store, by compare-and-set; hfbusd follows. @e NULL: none was there. */
static void
put(struct hfb_waiter *w, const struct hfb_ipc_topic *topic, const struct hfb_reconcile_entry *e)
{
	struct hfb_err err;

	w->had_former = e != NULL && e->has_ours;
	if (w->had_former)
		w->former = e->ours;
	w->wanted = *topic;
	w->wait = WAIT_PUT;
	if (hfb_service_store_put(w->service, topic, w->had_former ? e->revision : 0, &err) < 0)
		hfb_service_refuse(w, &err);
}

/* Is there one to change? Else who asks is told. */
static bool
exists(struct hfb_waiter *w, const struct hfb_reconcile_entry *e)
{
	struct hfb_err err;

	if (e != NULL && e->has_ours && !hfb_topic_record_deleted(&e->ours))
		return true;
	hfb_err_set(&err, -ENOENT, "topic %s does not exist", w->request.topic.name);
	hfb_service_refuse(w, &err);
	return false;
}

static void
create(struct hfb_waiter *w, const struct hfb_reconcile_entry *e)
{
	struct hfb_ipc_topic topic = w->request.topic;
	struct hfb_err err;
	struct timespec now;

	if (e != NULL && e->has_ours && !hfb_topic_record_deleted(&e->ours)) {
		hfb_err_set(&err, -EEXIST, "topic %s exists already", topic.name);
		hfb_service_refuse(w, &err);
		return;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	hfb_uuid_random(&topic.uuid);
	topic.created_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	topic.version = 1;
	topic.flags = 0;
	if (e != NULL && e->has_ours) /* a tombstone */
		topic.version = e->ours.version + 1;
	put(w, &topic, e);
}

static void delete (struct hfb_waiter *w, const struct hfb_reconcile_entry *e)
{
	struct hfb_ipc_topic topic;

	if (!exists(w, e))
		return;
	topic = e->ours;
	topic.version++;
	topic.flags |= HFB_TOPIC_DELETED;
	put(w, &topic, e);
}

/* The same compare-and-set as a delete: ours first, then hfbusd's. */
static void
alter(struct hfb_waiter *w, const struct hfb_reconcile_entry *e)
{
	struct hfb_ipc_topic topic;
	struct hfb_err err;
	int r;

	if (!exists(w, e))
		return;
	topic = e->ours;
	r = hfb_request_alter(&w->request, &topic, &err);
	if (r == 0)
		r = hfb_topic_record_check(&topic, &err);
	if (r < 0) {
		hfb_service_refuse(w, &err);
		return;
	}
	if (hfb_topic_record_equal(&topic, &e->ours)) {
		answer(w, hfb_answer_topic(&e->ours)); /* it is so already */
		return;
	}
	topic.version++;
	put(w, &topic, e);
}

static void trim_ask(struct hfb_waiter *w);

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
	struct hfb_waiter *w = arg;
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
		hfb_service_refuse(w, &err);
		return;
	}
	answer(w, hfb_answer_trim(w->request.topic.name, w->request.first, found));
}

static void
trim_ask(struct hfb_waiter *w)
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
void
hfb_service_act(struct hfb_waiter *w)
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
			hfb_service_refuse(w, &err);
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
bool
hfb_service_needs_look(const struct hfb_service *s, const struct hfb_request *request)
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

/* hfbusd refused what the store says already: the store gets its former value back. */
static void
undo(struct hfb_waiter *w, const struct hfb_reconcile_entry *e)
{
	struct hfb_service *s = w->service;
	uint64_t revision = e->revision;
	struct hfb_err err, why;
	int r;

	hfb_err_set(&why, e->refused, "%s", e->refusal);
	if (w->had_former)
		r = hfb_service_store_put(s, &w->former, revision, &err);
	else
		r = hfb_service_store_remove(s, w->wanted.name, revision, &err);
	if (r < 0)
		hfb_service_note("control.db keeps %s, which hfbusd refused: %s", w->wanted.name,
				 err.text);
	hfb_service_refuse(w, &why);
}

/* Has hfbusd taken, or refused, what this one wrote? */
static void
check_put(struct hfb_waiter *w)
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
		hfb_service_refuse(w, &err);
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
		hfb_service_refuse(w, &err);
	}
}

/* Answer those who can be. True: there may be more to do now. */
bool
hfb_service_check_waiters(struct hfb_service *s)
{
	bool up = hfb_broker_is_up(s->broker), more = false;

	for (uint32_t i = 0; i < ASKERS_MAX; i++) {
		struct hfb_waiter *w = &s->waiters[i];

		if (w->wait != WAIT_PUT)
			continue;
		check_put(w);
		more |= w->wait == WAIT_NONE;
	}
	for (uint32_t i = 0; i < ASKERS_MAX; i++) {
		struct hfb_waiter *w = &s->waiters[i];

		if (w->wait != WAIT_PASS)
			continue;
		if (!up || hfb_reconcile_passes(s->reconcile) > w->passes) {
			hfb_service_act(w);
			more = true;
		} else if (hfb_reconcile_state(s->reconcile) == HFB_RECONCILE_SETTLED) {
			hfb_reconcile_refresh(s->reconcile);
			more = true;
		}
	}
	return more;
}
