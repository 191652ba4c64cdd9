/* SPDX-License-Identifier: Apache-2.0 */
/*
 * member_wire.c - a member's requests to hfbus-control, and their answers.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connection.h"
#include "member_private.h"
#include "sub_private.h"
#include "uuid.h"

#define REQUEST_BYTES 49152u
#define TAIL_BYTES    128u /* a uuid, one more entry and the closing brackets */
#define BEAT_MS_MIN   20u
#define BEAT_MS_MAX   150u
#define RETRY_MS      50u
#define ANSWER_MS     10000u /* no answer for so long: another connection */

/* Names are checked when the member is made, so nothing here needs quoting. */
struct text {
	char bytes[REQUEST_BYTES];
	size_t used;
};

static void __attribute__((format(printf, 2, 3))) add(struct text *t, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(t->bytes + t->used, sizeof(t->bytes) - t->used, format, args);
	va_end(args);
	if (n > 0)
		t->used += (size_t)n;
	if (t->used >= sizeof(t->bytes))
		t->used = sizeof(t->bytes) - 1;
}

static bool
full(const struct text *t)
{
	return t->used + TAIL_BYTES + HFB_TOPIC_NAME_MAX >= sizeof(t->bytes);
}

static uint64_t
beat_interval_ns(const struct hfb_group_member *m)
{
	uint32_t ms = m->config.session_ms / 8;

	if (m->rebalancing || ms < BEAT_MS_MIN)
		ms = BEAT_MS_MIN;
	return (uint64_t)(ms > BEAT_MS_MAX ? BEAT_MS_MAX : ms) * 1000000u;
}

/* Requests ------------------------------------------------------------------- */

/* {"topic":[[first,count],...],...} of parts that @want says yes to; as many as fit. */
static void
add_runs(struct text *t, const struct hfb_group_member *m, bool unfetched)
{
	const char *between = "";

	add(t, "{");
	for (uint32_t i = 0; i < m->parts_count && !full(t);) {
		uint32_t topic = m->parts[i].topic;
		bool open = false;

		while (i < m->parts_count && m->parts[i].topic == topic && !full(t)) {
			uint32_t first = m->parts[i].partition, n = 0;

			while (i < m->parts_count && m->parts[i].topic == topic &&
			       m->parts[i].partition == first + n &&
			       !(unfetched && m->parts[i].fetched)) {
				n++;
				i++;
			}
			if (n == 0) {
				i++;
				continue;
			}
			if (!open)
				add(t, "%s\"%s\":[", between, m->topics[topic]);
			add(t, "%s[%u,%u]", open ? "," : "", first, n);
			open = true;
			between = ",";
		}
		if (open)
			add(t, "]");
	}
	add(t, "}");
}

static void
join_text(const struct hfb_group_member *m, struct text *t)
{
	add(t,
	    "{\"op\":\"group.join\",\"group\":\"%s\",\"client\":\"%s\",\"instance\":\"%s\","
	    "\"strategy\":\"%s\",\"session_ms\":%u,\"rebalance_ms\":%u,\"topics\":[",
	    m->group, m->client, m->instance, m->strategy, m->config.session_ms,
	    m->config.rebalance_ms);
	for (uint32_t i = 0; i < m->config.topics_count; i++)
		add(t, "%s\"%s\"", i > 0 ? "," : "", m->topics[i]);
	add(t, "]}");
}

static void
beat_text(const struct hfb_group_member *m, struct text *t)
{
	add(t,
	    "{\"op\":\"group.heartbeat\",\"group\":\"%s\",\"member\":\"%s\",\"instance\":\"%s\","
	    "\"generation\":%u",
	    m->group, m->id, m->instance, m->generation);
	if (m->released) {
		add(t, ",\"held\":");
		add_runs(t, m, false);
	}
	add(t, "}");
}

/* False: nothing is wanted. */
static bool
commit_text(struct hfb_group_member *m, struct text *t)
{
	char uuid[HFB_UUID_TEXT_BYTES];
	uint32_t topic = UINT32_MAX;

	add(t,
	    "{\"op\":\"group.commit\",\"group\":\"%s\",\"member\":\"%s\",\"generation\":%u,"
	    "\"offsets\":{",
	    m->group, m->id, m->generation);
	for (uint32_t i = 0; i < m->parts_count && !full(t); i++) {
		struct group_part *p = &m->parts[i];

		if (p->wanted == NOTHING)
			continue;
		if (p->topic != topic) {
			add(t, "%s\"%s\":[", topic != UINT32_MAX ? "]," : "", m->topics[p->topic]);
			if (p->sub != NULL) {
				/* of the log that was read, not of one made under its name since */
				hfb_uuid_format(&p->sub->uuid, uuid);
				add(t, "\"%s\",", uuid);
			}
		} else {
			add(t, ",");
		}
		topic = p->topic;
		add(t, "[%u,%" PRIu64 ",%u]", p->partition, p->wanted, p->mark_epoch);
		p->asked = p->wanted;
		m->stats.commits++;
	}
	add(t, "]}}");
	m->commit_generation = m->generation;
	return topic != UINT32_MAX;
}

static bool
unfetched(const struct hfb_group_member *m)
{
	for (uint32_t i = 0; i < m->parts_count; i++)
		if (!m->parts[i].fetched)
			return true;
	return false;
}

/* What is due, as text. */
static enum group_ask
choose(struct hfb_group_member *m, uint64_t now_ns, struct text *t)
{
	if (m->id[0] == '\0') {
		if (m->in_callback)
			return ASK_NONE;
		join_text(m, t);
		return ASK_JOIN;
	}
	if (now_ns >= m->beat_ns && !m->in_callback) {
		beat_text(m, t);
		return ASK_BEAT;
	}
	if (m->generation == 0)
		return ASK_NONE;
	if (!m->in_callback && unfetched(m)) {
		add(t, "{\"op\":\"group.fetch\",\"group\":\"%s\",\"partitions\":", m->group);
		add_runs(t, m, true);
		add(t, "}");
		return ASK_FETCH;
	}
	return commit_text(m, t) ? ASK_COMMIT : ASK_NONE;
}

static void
ask_next(struct hfb_group_member *m, uint64_t now_ns)
{
	uint64_t session_ns = (uint64_t)m->config.session_ms * 1000000u;
	struct text t;
	int r;

	t.used = 0;
	m->ask = choose(m, now_ns, &t);
	if (m->ask == ASK_NONE)
		return;
	m->asked_ns = now_ns;
	r = hfb_control_link_send(&m->link, t.bytes, t.used);
	if (r == 0)
		return;
	m->ask = ASK_NONE;
	for (uint32_t i = 0; i < m->parts_count; i++)
		m->parts[i].asked = NOTHING;
	m->retry_ns = now_ns + RETRY_MS * 1000000u;
	/*
	 * Nobody serves the socket: an hfbus-control that starts after this gives each
	 * member it finds in the log a whole session. So what is ours stays so.
	 */
	if (r == -ENOTCONN && now_ns < m->lease_ns && m->lease_ns < now_ns + session_ns)
		m->lease_ns = now_ns + session_ns;
}

/* Answers -------------------------------------------------------------------- */

static void
beat_now(struct hfb_group_member *m)
{
	m->beat_ns = 0;
}

static void
join_answer(struct hfb_group_member *m, const json_t *answer)
{
	const char *id = json_string_value(json_object_get(answer, "member"));

	if (id == NULL || strlen(id) > HFB_GROUP_ID_MAX)
		return;
	strcpy(m->id, id);
	m->lease_ns = m->asked_ns + (uint64_t)m->config.session_ms * 1000000u;
	beat_now(m);
}

static void
beat_answer(struct hfb_group_member *m, const json_t *answer, uint64_t now_ns)
{
	uint32_t generation = (uint32_t)json_integer_value(json_object_get(answer, "generation"));
	const json_t *given = json_object_get(answer, "given");
	const json_t *revoke = json_object_get(answer, "revoke");

	m->lease_ns = m->asked_ns + (uint64_t)m->config.session_ms * 1000000u;
	m->rebalancing = json_is_true(json_object_get(answer, "rebalancing"));
	m->beat_ns = now_ns + beat_interval_ns(m);
	if (generation != m->generation && given != NULL) {
		m->generation = generation;
		m->released = false;
		m->stats.generations++;
		hfb_group_given(m, given);
	}
	if (revoke != NULL) {
		uint64_t until = m->asked_ns + (uint64_t)m->config.rebalance_ms * 1000000u;

		/* Not done by then, we are out: nothing more is given then either. */
		if (until < m->lease_ns)
			m->lease_ns = until;
		hfb_group_revoke(m, revoke, false);
		m->released = true;
		beat_now(m);
	}
}

static void
fetch_answer(struct hfb_group_member *m, const json_t *answer)
{
	json_t *offsets = json_object_get(answer, "offsets"), *list, *entry;
	const char *topic;
	size_t k;

	/* What was asked is known now; that which is not named has nothing committed. */
	json_object_foreach(offsets, topic, list)
	{
		uint32_t index = hfb_group_topic_index(m, topic);

		json_array_foreach(list, k, entry)
		{
			uint64_t partition = (uint64_t)json_integer_value(json_array_get(entry, 0));
			struct group_part *p =
				index != UINT32_MAX && partition < HFB_TOPIC_PARTITIONS_MAX
					? hfb_group_part(m, index, (uint32_t)partition)
					: NULL;

			if (p == NULL || p->fetched)
				continue;
			p->begin = (uint64_t)json_integer_value(json_array_get(entry, 1));
			p->begin_epoch = (uint32_t)json_integer_value(json_array_get(entry, 2));
			p->durable = p->begin;
		}
	}
	for (uint32_t i = 0; i < m->parts_count; i++)
		m->parts[i].fetched = true;
}

static void
commit_answer(struct hfb_group_member *m)
{
	for (uint32_t i = 0; i < m->parts_count; i++) {
		struct group_part *p = &m->parts[i];

		if (p->asked == NOTHING)
			continue;
		p->durable = p->asked;
		if (p->wanted == p->asked)
			p->wanted = NOTHING;
	}
}

static void
refused(struct hfb_group_member *m, enum group_ask ask, const json_t *answer, uint64_t now_ns)
{
	int code = hfb_control_answer_code(answer);
	const char *sentence = json_string_value(json_object_get(answer, "error"));

	if (code == -EAGAIN || code == -ENOTCONN || code == -ENOMEM) {
		m->retry_ns = now_ns + RETRY_MS * 1000000u;
		return;
	}
	for (uint32_t i = 0; i < m->parts_count && ask == ASK_COMMIT; i++)
		m->stats.commits_refused += m->parts[i].asked != NOTHING;
	if (ask == ASK_COMMIT && (code == -ESTALE || code == -EPERM)) {
		beat_now(m); /* another generation: hear of it first, then commit what is left */
	} else if (ask == ASK_JOIN || (ask == ASK_COMMIT && code != -ENOENT)) {
		m->failed = hfb_err_set(&m->err, code, "%s", sentence != NULL ? sentence : "");
	} else {
		if (code == -ESTALE && m->instance[0] != '\0')
			m->failed =
				hfb_err_set(&m->err, code, "%s", sentence != NULL ? sentence : "");
		if (m->in_callback)
			m->out = true;
		else
			hfb_group_lost(m);
	}
}

static void
answered(struct hfb_group_member *m, json_t *answer, uint64_t now_ns)
{
	enum group_ask ask = m->ask;

	m->ask = ASK_NONE;
	if (m->in_callback && ask != ASK_COMMIT) {
		beat_now(m); /* what it says may be known again afterwards */
	} else if (hfb_control_answer_code(answer) != 0) {
		refused(m, ask, answer, now_ns);
	} else {
		switch (ask) {
		case ASK_JOIN:
			join_answer(m, answer);
			break;
		case ASK_BEAT:
			m->stats.heartbeats++;
			beat_answer(m, answer, now_ns);
			break;
		case ASK_FETCH:
			fetch_answer(m, answer);
			break;
		case ASK_COMMIT:
			commit_answer(m);
			break;
		case ASK_LEAVE:
		case ASK_NONE:
			break;
		}
	}
	for (uint32_t i = 0; i < m->parts_count && ask == ASK_COMMIT; i++)
		m->parts[i].asked = NOTHING;
	json_decref(answer);
}

void
hfb_group_pump(struct hfb_group_member *m, uint64_t now_ns)
{
	json_t *answer;
	int r;

	if (m->out && !m->in_callback) {
		m->out = false;
		hfb_group_lost(m);
	}
	if (m->ask != ASK_NONE) {
		r = hfb_control_link_receive(&m->link, &answer);
		if (r == 0 && now_ns - m->asked_ns > ANSWER_MS * 1000000ull) {
			hfb_control_link_close(&m->link);
			r = -EAGAIN;
		}
		if (r == 0)
			return;
		if (r < 0) {
			m->ask = ASK_NONE;
			m->stats.reconnects++;
			beat_now(m);
			for (uint32_t i = 0; i < m->parts_count; i++)
				m->parts[i].asked = NOTHING;
		} else {
			answered(m, answer, now_ns);
		}
	}
	if (m->failed == 0 && m->ask == ASK_NONE && now_ns >= m->retry_ns)
		ask_next(m, now_ns);
}
