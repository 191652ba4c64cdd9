/* SPDX-License-Identifier: Apache-2.0 */
/*
 * groups_requests.c - what is done for each request.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "groups_private.h"
#include "group_record.h"
#include "request.h"
#include "uuid.h"

#define DEFER_MS 10000u

static void
refuse(hfb_groups_fn *done, void *arg, const struct hfb_err *err)
{
	done(arg, hfb_answer_error(err));
}

/* The group, or an answer that there is none. */
static struct hfb_group_entry *
find(struct hfb_groups *g, const struct hfb_group_request *q, hfb_groups_fn *done, void *arg)
{
	struct hfb_group_entry *e = hfb_groups_find(g, q->group);

	if (e == NULL)
		hfb_groups_refuse(done, arg, -ENOENT, "there is no group %s", q->group);
	return e;
}

/* Members ------------------------------------------------------------------- */

static void
join(struct hfb_groups *g, const struct hfb_group_request *q, hfb_groups_fn *done, void *arg)
{
	struct hfb_group_entry *e = hfb_groups_get(g, q->group);
	struct hfb_group_join join = {
		.id = q->member,
		.instance = q->instance,
		.client = q->client,
		.strategy = q->strategy,
		.session_ms = q->session_ms,
		.rebalance_ms = q->rebalance_ms,
		.topics = (const char *const *)q->topics,
		.topics_count = q->topics_count,
	};
	char fresh[HFB_GROUP_ID_MAX + 1];
	struct hfb_err err;
	const char *id;
	uint64_t random;

	if (e == NULL) {
		hfb_groups_refuse(done, arg, -ENOSPC, "no room for another group: %u at most",
				  HFB_GROUPS_MAX);
		return;
	}
	if (e->deleting) {
		hfb_groups_refuse(done, arg, -EAGAIN, "group %s is being deleted", q->group);
		return;
	}
	hfb_random(&random, sizeof(random));
	snprintf(fresh, sizeof(fresh), "%.64s-%016llx",
		 q->instance[0] != '\0' ? q->instance
		 : q->client[0] != '\0' ? q->client
					: "member",
		 (unsigned long long)random);
	join.fresh_id = fresh;
	if (hfb_group_join(e->machine, &join, hfb_groups_now_ms(), &id, &err) < 0) {
		if (hfb_group_generation(e->machine) == 0 && e->record == NULL &&
		    hfb_group_state(e->machine) == HFB_GROUP_EMPTY && e->offsets.topics_count == 0)
			hfb_groups_remove(g, q->group);
		refuse(done, arg, &err);
		return;
	}
	hfb_groups_after(g, e);
	done(arg, hfb_groups_with(hfb_groups_with(hfb_answer_ok(), "member", json_string(id)),
				  "session_ms", json_integer(q->session_ms)));
}

static int
ascending(const void *a, const void *b)
{
	hfb_tp x = *(const hfb_tp *)a, y = *(const hfb_tp *)b;

	return x < y ? -1 : x > y;
}

/* What a member says it holds. 0 or -ENOMEM; *@ret_tps is the caller's. */
static int
held_of(const struct hfb_group *machine, const struct hfb_group_request *q, hfb_tp **ret_tps,
	uint32_t *ret_count)
{
	uint32_t total = 0, n = 0;
	hfb_tp *tps;

	for (uint32_t i = 0; i < q->runs_count; i++)
		total += q->runs[i].count;
	tps = malloc((total + 1) * sizeof(*tps));
	if (tps == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < q->runs_count; i++) {
		uint32_t slot = hfb_group_topic_find(machine, q->runs[i].topic);

		for (uint32_t p = 0; p < q->runs[i].count && slot != UINT32_MAX; p++)
			tps[n++] = HFB_TP(slot, q->runs[i].first + p);
	}
	qsort(tps, n, sizeof(*tps), ascending);
	*ret_tps = tps;
	*ret_count = n;
	return 0;
}

static json_t *
view_to_json(const struct hfb_group *machine, const struct hfb_group_view *v, uint32_t known)
{
	json_t *json = hfb_answer_ok();

	json = hfb_groups_with(json, "generation", json_integer(v->generation));
	json = hfb_groups_with(json, "rebalancing", json_boolean(v->rebalancing));
	if (v->generation != 0 && v->generation != known)
		json = hfb_groups_with(json, "given",
				       hfb_group_tps_to_json(machine, v->given, v->given_count));
	if (v->revoke_count > 0)
		json = hfb_groups_with(json, "revoke",
				       hfb_group_tps_to_json(machine, v->revoke, v->revoke_count));
	return json;
}

static void
heartbeat(struct hfb_groups *g, const struct hfb_group_request *q, hfb_groups_fn *done, void *arg)
{
	struct hfb_group_entry *e = find(g, q, done, arg);
	struct hfb_group_beat beat = { .generation = q->generation, .holds_all = !q->has_runs };
	struct hfb_group_view view;
	hfb_tp *held = NULL;
	struct hfb_err err;
	int r;

	if (e == NULL)
		return;
	if (q->has_runs && held_of(e->machine, q, &held, &beat.held_count) < 0) {
		done(arg, NULL);
		return;
	}
	beat.held = held;
	r = hfb_group_heartbeat(e->machine, q->member, q->instance, &beat, hfb_groups_now_ms(),
				&view, &err);
	free(held);
	if (r < 0)
		refuse(done, arg, &err);
	else
		done(arg, view_to_json(e->machine, &view, q->generation));
	hfb_groups_after(g, e);
}

static void
leave(struct hfb_groups *g, const struct hfb_group_request *q, hfb_groups_fn *done, void *arg)
{
	struct hfb_group_entry *e = find(g, q, done, arg);
	struct hfb_err err;

	if (e == NULL)
		return;
	if (hfb_group_leave(e->machine, q->member, hfb_groups_now_ms(), &err) < 0)
		refuse(done, arg, &err);
	else
		done(arg, hfb_answer_ok());
	hfb_groups_after(g, e);
}

/* Offsets ------------------------------------------------------------------- */

/* All of a request or nothing. */
static int
commits_check(struct hfb_groups *g, struct hfb_group_entry *e, const struct hfb_group_request *q,
	      struct hfb_err *err)
{
	uint64_t now = hfb_groups_now_ms();
	int r = 0;

	for (uint32_t i = 0; i < q->commits_count && r == 0; i++) {
		const struct hfb_topic_commit *c = &q->commits[i];

		r = hfb_group_commit_check(e->machine, q->member, q->generation, c->topic,
					   c->commit.partition, now, err);
		if (r != 0 || (i > 0 && c->topic == c[-1].topic))
			continue;
		/* as what it does not hold: it hears so and commits the rest; by ENOENT
		 * a member learns that it is none */
		if (!hfb_groups_topic(g, c->topic, NULL, NULL))
			r = hfb_err_set(err, -EPERM, "topic %s does not exist", c->topic);
		else if (!hfb_groups_topic_read(g, c->topic, &c->uuid))
			r = hfb_err_set(err, -EPERM, "topic %s was deleted and made again",
					c->topic);
	}
	return r;
}

static void
wrote(struct hfb_groups *g, int r, json_t *answer, hfb_groups_fn *done, void *arg)
{
	if (r < 0) {
		json_decref(answer);
		hfb_groups_refuse(done, arg, r, "the offsets cannot be taken: %s", strerror(-r));
	} else if (!hfb_groups_wait(g, done, arg, answer)) {
		done(arg, NULL);
	}
}

static void
commit(struct hfb_groups *g, const struct hfb_group_request *q, hfb_groups_fn *done, void *arg)
{
	struct hfb_group_entry *e = find(g, q, done, arg);
	struct hfb_err err;

	if (e == NULL)
		return;
	if (commits_check(g, e, q, &err) < 0) {
		g->stats.commits_refused += q->commits_count;
		refuse(done, arg, &err);
		return;
	}
	wrote(g, hfb_groups_write_commits(g, e, q->commits, q->commits_count, false),
	      hfb_answer_ok(), done, arg);
}

static int
without_members(const struct hfb_group_entry *e, struct hfb_err *err)
{
	uint32_t n = hfb_group_members_count(e->machine);
	const char *name = hfb_group_name(e->machine);

	if (e->deleting)
		return hfb_err_set(err, -EAGAIN, "group %s is being deleted", name);
	if (n > 0 || hfb_group_state(e->machine) != HFB_GROUP_EMPTY)
		return hfb_err_set(err, -EBUSY,
				   "group %s has %u members; stop them first (hfbus group members "
				   "%s shows who they are)",
				   name, n, name);
	return 0;
}

void
hfb_groups_set(struct hfb_groups *g, const char *group, const struct hfb_topic_commit *commits,
	       uint32_t count, json_t *answer, hfb_groups_fn *done, void *arg)
{
	struct hfb_group_entry *e = hfb_groups_get(g, group);
	struct hfb_err err;
	int r;

	if (e == NULL)
		r = hfb_err_set(&err, -ENOSPC, "no room for another group: %u at most",
				HFB_GROUPS_MAX);
	else
		r = without_members(e, &err);
	for (uint32_t i = 0; i < count && r == 0; i++) {
		uint32_t partitions;

		if (!hfb_groups_topic(g, commits[i].topic, &partitions, NULL))
			r = hfb_err_set(&err, -ENOENT, "topic %s does not exist", commits[i].topic);
		else if (!hfb_groups_topic_read(g, commits[i].topic, &commits[i].uuid))
			r = hfb_err_set(&err, -ESTALE, "topic %s was deleted and made again",
					commits[i].topic);
		else if (commits[i].commit.partition >= partitions)
			r = hfb_err_set(&err, -ERANGE, "topic %s has no partition %u",
					commits[i].topic, commits[i].commit.partition);
	}
	if (r < 0) {
		json_decref(answer);
		if (e != NULL && e->record == NULL && e->offsets.topics_count == 0 &&
		    hfb_group_members_count(e->machine) == 0 &&
		    hfb_group_state(e->machine) == HFB_GROUP_EMPTY && !e->deleting)
			hfb_groups_remove(g, group);
		refuse(done, arg, &err);
		return;
	}
	wrote(g, hfb_groups_write_commits(g, e, commits, count, true), answer, done, arg);
}

static void delete (struct hfb_groups *g, const struct hfb_group_request *q, hfb_groups_fn *done,
		    void *arg)
{
	struct hfb_group_entry *e = find(g, q, done, arg);
	struct hfb_err err;

	if (e == NULL)
		return;
	if (without_members(e, &err) < 0)
		refuse(done, arg, &err);
	else
		wrote(g, hfb_groups_write_deletion(g, e), hfb_answer_ok(), done, arg);
}

/* For people ---------------------------------------------------------------- */

static void
want_ends(struct hfb_groups *g, const char *topic)
{
	uint32_t partitions;

	if (hfb_groups_topic(g, topic, &partitions, NULL))
		hfb_group_ends_want(g->ends, topic, partitions);
}

static void
want_entry(struct hfb_groups *g, const struct hfb_group_entry *e)
{
	for (uint32_t t = 0; t < e->offsets.topics_count; t++)
		want_ends(g, e->offsets.topics[t].name);
	for (uint32_t t = 0; t < hfb_group_topics_count(e->machine); t++)
		want_ends(g, hfb_group_topic_name(e->machine, t));
}

/* Are the ends there that this answer shows? Else they are asked for. */
static bool
ends_known(struct hfb_groups *g, const struct hfb_group_request *q)
{
	const struct hfb_group_entry *e;

	switch (q->op) {
	case HFB_GROUP_LIST:
		for (uint32_t i = 0; i < g->entries_count; i++)
			want_entry(g, g->entries[i]);
		break;
	case HFB_GROUP_DESCRIBE:
	case HFB_GROUP_MEMBERS:
		e = hfb_groups_find(g, q->group);
		if (e != NULL)
			want_entry(g, e);
		break;
	case HFB_OFFSET_RESET:
		want_ends(g, q->topic);
		break;
	default:
		return true;
	}
	return hfb_group_ends_settled(g->ends);
}

static void
act(struct hfb_groups *g, const struct hfb_group_request *q, hfb_groups_fn *done, void *arg)
{
	const struct hfb_group_entry *e;

	switch (q->op) {
	case HFB_GROUP_JOIN:
		join(g, q, done, arg);
		break;
	case HFB_GROUP_HEARTBEAT:
		heartbeat(g, q, done, arg);
		break;
	case HFB_GROUP_LEAVE:
		leave(g, q, done, arg);
		break;
	case HFB_GROUP_COMMIT:
		commit(g, q, done, arg);
		break;
	case HFB_GROUP_FETCH:
		done(arg, hfb_groups_answer_fetch(g, hfb_groups_find(g, q->group), q));
		break;
	case HFB_GROUP_LIST:
		done(arg, hfb_groups_answer_list(g, q->after));
		break;
	case HFB_GROUP_DESCRIBE:
		e = find(g, q, done, arg);
		if (e != NULL)
			done(arg, hfb_groups_answer_describe(g, e, q->first));
		break;
	case HFB_GROUP_MEMBERS:
		e = find(g, q, done, arg);
		if (e != NULL)
			done(arg, hfb_groups_answer_members(g, e));
		break;
	case HFB_GROUP_DELETE:
		delete (g, q, done, arg);
		break;
	case HFB_OFFSET_COMMIT:
		hfb_groups_set(g, q->group, q->commits, q->commits_count, hfb_answer_ok(), done,
			       arg);
		break;
	case HFB_OFFSET_RESET:
		hfb_groups_reset(g, q, done, arg);
		break;
	}
}

/* Later ----------------------------------------------------------------------- */

static bool
defer(struct hfb_groups *g, struct hfb_group_request *q, hfb_groups_fn *done, void *arg)
{
	struct hfb_deferred **end = &g->deferred, *d = malloc(sizeof(*d));

	if (d == NULL)
		return false;
	*d = (struct hfb_deferred){ NULL, *q, done, arg, hfb_groups_now_ms() + DEFER_MS };
	while (*end != NULL)
		end = &(*end)->next;
	*end = d;
	return true;
}

static void
refuse_unread(struct hfb_groups *g, hfb_groups_fn *done, void *arg)
{
	if (hfb_broker_is_up(g->env.broker))
		hfb_groups_refuse(done, arg, -EAGAIN,
				  "committed offsets are being read, ask again");
	else
		hfb_groups_refuse(done, arg, -ENOTCONN,
				  "hfbusd does not run on %s: committed offsets are in its log; "
				  "start both with: hfbus up --data %s",
				  g->env.data_dir, g->env.data_dir);
}

void
hfb_groups_run_deferred(struct hfb_groups *g)
{
	struct hfb_deferred *list = g->deferred, *next;
	uint64_t now = hfb_groups_now_ms();

	g->deferred = NULL;
	for (; list != NULL; list = next) {
		struct hfb_deferred *d = list;
		bool late = d->until_ms <= now;

		next = d->next;
		if (!late && (!g->ready || !ends_known(g, &d->request))) {
			struct hfb_deferred **end = &g->deferred;

			while (*end != NULL)
				end = &(*end)->next;
			d->next = NULL;
			*end = d;
			continue;
		}
		if (g->ready)
			act(g, &d->request, d->done, d->arg);
		else
			refuse_unread(g, d->done, d->arg);
		hfb_group_request_fini(&d->request);
		free(d);
	}
}

void
hfb_groups_drop_deferred(struct hfb_groups *g)
{
	while (g->deferred != NULL) {
		struct hfb_deferred *d = g->deferred;

		g->deferred = d->next;
		hfb_group_request_fini(&d->request);
		free(d);
	}
}

void
hfb_groups_request(struct hfb_groups *g, json_t *request, hfb_groups_fn *done, void *arg)
{
	struct hfb_group_request q;
	struct hfb_err err;

	g->stats.requests++;
	if (hfb_group_request_parse(request, &q, &err) < 0) {
		refuse(done, arg, &err);
		return;
	}
	if (!g->ready && (q.op <= HFB_GROUP_FETCH || !hfb_broker_is_up(g->env.broker))) {
		refuse_unread(g, done, arg);
	} else if (!g->ready || !ends_known(g, &q)) {
		if (defer(g, &q, done, arg))
			return; /* has taken the request */
		done(arg, NULL);
	} else {
		act(g, &q, done, arg);
	}
	hfb_group_request_fini(&q);
}
