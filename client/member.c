/* SPDX-License-Identifier: Apache-2.0 */
/*
 * member.c - a member of a consumer group: its partitions, reading them in turn, and
 * what is to be committed.
 */
#include <hfbus/group.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "connection.h"
#include "member_private.h"
#include "sub_private.h"

#define SESSION_MS    10000u
#define REBALANCE_MS  60000u
#define LOOK_NS	      1000000u
#define TURN_EVENTS   256u /* of a partition before the next one has its turn */
#define OPEN_AGAIN_MS 100u
#define LEAVE_MS      500u

/* Partitions ----------------------------------------------------------------- */

uint32_t
hfb_group_topic_index(const struct hfb_group_member *m, const char *topic)
{
	for (uint32_t i = 0; i < m->config.topics_count; i++)
		if (strcmp(m->topics[i], topic) == 0)
			return i;
	return UINT32_MAX;
}

struct group_part *
hfb_group_part(struct hfb_group_member *m, uint32_t topic, uint32_t partition)
{
	for (uint32_t i = 0; i < m->parts_count; i++)
		if (m->parts[i].topic == topic && m->parts[i].partition == partition)
			return &m->parts[i];
	return NULL;
}

static int
by_place(const void *a, const void *b)
{
	const struct group_part *x = a, *y = b;

	if (x->topic != y->topic)
		return x->topic < y->topic ? -1 : 1;
	return x->partition < y->partition ? -1 : x->partition > y->partition;
}

/* Is it in {topic: [[first, count], ...]}? */
static bool
named(const struct hfb_group_member *m, const json_t *runs, const struct group_part *p)
{
	const json_t *list = json_object_get(runs, m->topics[p->topic]), *run;
	size_t i;

	json_array_foreach(list, i, run)
	{
		uint64_t first = (uint64_t)json_integer_value(json_array_get(run, 0));
		uint64_t count = (uint64_t)json_integer_value(json_array_get(run, 1));

		if (p->partition >= first && p->partition - first < count)
			return true;
	}
	return false;
}

static void
tell(struct hfb_group_member *m, const struct group_part *parts, uint32_t count, bool assigned,
     bool lost)
{
	struct hfb_group_partition *list;

	if (count == 0 ||
	    (assigned ? (void *)m->config.assigned : (void *)m->config.revoked) == NULL)
		return;
	list = malloc(count * sizeof(*list));
	if (list == NULL)
		return; /* it still holds: what is read says which partition it is of */
	for (uint32_t i = 0; i < count; i++)
		list[i] = (struct hfb_group_partition){ m->topics[parts[i].topic],
							parts[i].partition };
	m->in_callback = true;
	if (assigned)
		m->config.assigned(m->config.arg, list, count);
	else
		m->config.revoked(m->config.arg, list, count, lost);
	m->in_callback = false;
	free(list);
}

/* Which @go says: told of, closed and forgotten. */
static void
let_go(struct hfb_group_member *m, const bool *go, bool lost)
{
	struct group_part *gone = malloc((m->parts_count + 1) * sizeof(*gone));
	uint32_t n = 0, kept = 0;

	for (uint32_t i = 0; i < m->parts_count && gone != NULL; i++)
		if (go[i])
			gone[n++] = m->parts[i];
	tell(m, gone, n, false, lost);
	free(gone);
	for (uint32_t i = 0; i < m->parts_count; i++) {
		if (go[i]) {
			m->dropped += m->parts[i].wanted != NOTHING;
			hfb_sub_close(m->parts[i].sub);
		} else {
			m->parts[kept++] = m->parts[i];
		}
	}
	m->parts_count = kept;
	m->turn = 0;
	m->turn_left = TURN_EVENTS;
}

void
hfb_group_revoke(struct hfb_group_member *m, const json_t *revoke, bool lost)
{
	bool *go = calloc(m->parts_count + 1, sizeof(*go));
	bool all = revoke == NULL;

	if (go == NULL)
		return; /* asked again with the next heartbeat */
	for (uint32_t i = 0; i < m->parts_count; i++)
		go[i] = all || named(m, revoke, &m->parts[i]);
	let_go(m, go, lost);
	free(go);
}

void
hfb_group_lost(struct hfb_group_member *m)
{
	m->stats.lost++;
	m->id[0] = '\0';
	m->generation = 0;
	m->released = false;
	hfb_group_revoke(m, NULL, true);
}

static bool
part_add(struct hfb_group_member *m, uint32_t topic, uint32_t partition)
{
	struct group_part *parts = realloc(m->parts, (m->parts_count + 1) * sizeof(*parts));

	if (parts == NULL)
		return false;
	m->parts = parts;
	parts[m->parts_count++] = (struct group_part){
		.topic = topic,
		.partition = partition,
		.begin = NOTHING,
		.mark = NOTHING,
		.wanted = NOTHING,
		.asked = NOTHING,
		.durable = NOTHING,
	};
	return true;
}

void
hfb_group_given(struct hfb_group_member *m, const json_t *given)
{
	bool *go = calloc(m->parts_count + 1, sizeof(*go));
	struct group_part *fresh;
	uint32_t had, n = 0;
	json_t *list, *run;
	const char *topic;
	size_t i;

	for (uint32_t p = 0; p < m->parts_count && go != NULL; p++)
		go[p] = !named(m, given, &m->parts[p]);
	if (go != NULL)
		let_go(m, go, true); /* none, unless we missed being asked */
	free(go);
	had = m->parts_count;
	json_object_foreach((json_t *)(uintptr_t)given, topic, list)
	{
		uint32_t index = hfb_group_topic_index(m, topic);

		json_array_foreach(list, i, run)
		{
			uint64_t first = (uint64_t)json_integer_value(json_array_get(run, 0));
			uint64_t count = (uint64_t)json_integer_value(json_array_get(run, 1));

			for (uint64_t p = first; p < first + count && index != UINT32_MAX &&
						 p < HFB_TOPIC_PARTITIONS_MAX;
			     p++)
				if (hfb_group_part(m, index, (uint32_t)p) == NULL &&
				    !part_add(m, index, (uint32_t)p))
					m->released = true; /* no memory: say that it is not held */
		}
	}
	n = m->parts_count - had;
	fresh = malloc((n + 1) * sizeof(*fresh));
	if (fresh != NULL)
		memcpy(fresh, m->parts + had, n * sizeof(*fresh));
	if (m->parts_count > 0)
		qsort(m->parts, m->parts_count, sizeof(*m->parts), by_place);
	if (fresh != NULL)
		tell(m, fresh, n, true, false);
	free(fresh);
	m->turn = 0;
	m->turn_left = TURN_EVENTS;
}

/* Reading ---------------------------------------------------------------------- */

/* Nothing is on its way to be committed, and nothing is known to be. */
static void
commits_forget(struct group_part *p)
{
	p->mark = p->wanted = p->asked = p->durable = NOTHING;
	p->mark_epoch = 0;
}

static int
part_open(struct hfb_group_member *m, struct group_part *p, uint64_t now_ns, struct hfb_err *err)
{
	struct hfb_sub_config config = {
		.topic = m->topics[p->topic],
		.partition = p->partition,
		.from = p->begin != NOTHING		   ? HFB_SUB_OFFSET
			: m->config.from == HFB_SUB_LATEST ? HFB_SUB_LATEST
							   : HFB_SUB_EARLIEST,
		.value = p->begin != NOTHING ? p->begin : 0,
		.epoch = p->begin != NOTHING ? p->begin_epoch : 0,
	};
	int r = hfb_sub_open(m->bus, &config, &p->sub, err);

	if (r == 0 && p->sub->beyond_end) {
		/*
		 * A crash took what had been committed without an epoch, or it was never there:
		 * what is of this run, nobody has read.
		 */
		config.epoch = hfb_sub_epoch_now(p->sub) - 1;
		config.from = config.epoch != 0 ? HFB_SUB_OFFSET : HFB_SUB_EARLIEST;
		hfb_sub_close(p->sub);
		p->sub = NULL;
		commits_forget(p);
		r = hfb_sub_open(m->bus, &config, &p->sub, err);
	}
	if (r < 0)
		p->retry_ns = now_ns + OPEN_AGAIN_MS * 1000000ull;
	/* A topic or partition that is not there (yet): the group hears of it. */
	return r == -ENOENT || r == -ERANGE ? 0 : r;
}

static void
passed(const struct hfb_group_member *m, struct group_part *p, const struct hfb_item *item)
{
	bool event = item->kind == HFB_ITEM_EVENT || item->kind == HFB_ITEM_GAP;

	if (item->kind == HFB_ITEM_TRUNCATED) {
		/* what was committed is gone, too: the next event's is lower */
		commits_forget(p);
		return;
	}
	/* what stands before this event has become part of its epoch */
	if (event)
		p->mark_epoch = item->leader_epoch;
	if (m->config.manual)
		return;
	if (event) {
		p->mark = item->offset + 1;
	} else if (item->kind != HFB_ITEM_LAPPED && item->mark.to_offset != UINT64_MAX) {
		p->mark = item->mark.to_offset;
		p->mark_epoch = 0; /* of the event before it nothing is known */
	}
}

/* One partition's next item: 1, 0 or an error. */
static int
part_next(struct hfb_group_member *m, struct group_part *p, uint64_t now_ns, struct hfb_err *err)
{
	const struct hfb_item *item;
	int r = 0;

	if (p->sub == NULL) {
		if (!p->fetched || now_ns < p->retry_ns)
			return 0;
		r = part_open(m, p, now_ns, err);
	}
	if (p->sub == NULL)
		return r;
	r = hfb_sub_next(p->sub, 0, &item, err);
	if (r == -ENOENT || r == -ESTALE) {
		/* Deleted, or made anew: from its beginning, when it is given to us again. */
		hfb_sub_close(p->sub);
		p->sub = NULL;
		p->begin = NOTHING;
		commits_forget(p);
		p->retry_ns = now_ns + OPEN_AGAIN_MS * 1000000ull;
		return 0;
	}
	if (r <= 0)
		return r;
	m->item = (struct hfb_group_item){ m->topics[p->topic], item, m->generation };
	m->stats.events += item->kind == HFB_ITEM_EVENT;
	passed(m, p, item);
	return 1;
}

static bool
may_read(const struct hfb_group_member *m, uint64_t now_ns)
{
	return m->generation != 0 && now_ns < m->lease_ns;
}

static int
read_turn(struct hfb_group_member *m, uint64_t now_ns, struct hfb_err *err)
{
	for (uint32_t tries = 0; tries <= m->parts_count && m->parts_count > 0; tries++) {
		int r;

		if (m->turn >= m->parts_count)
			m->turn = 0;
		r = m->turn_left > 0 ? part_next(m, &m->parts[m->turn], now_ns, err) : 0;
		if (r != 0) {
			m->turn_left--;
			return r;
		}
		m->turn++;
		m->turn_left = TURN_EVENTS;
	}
	return 0;
}

int
hfb_group_next(struct hfb_group_member *m, uint32_t timeout_ms,
	       const struct hfb_group_item **ret_item, struct hfb_err *err)
{
	uint64_t now = hfb_now_ns(), until = now + (uint64_t)timeout_ms * 1000000u;

	for (;;) {
		int r = 0;

		if (now >= m->look_ns) {
			hfb_group_pump(m, now);
			now = hfb_now_ns();
			m->look_ns = now + LOOK_NS;
		}
		if (m->failed < 0)
			return hfb_err_set(err, m->failed, "%s", m->err.text);
		/* The clock was read after the answer: a process that stood still sees it here. */
		if (may_read(m, now))
			r = read_turn(m, now, err);
		if (r > 0)
			*ret_item = &m->item;
		if (r != 0)
			return r;
		now = hfb_now_ns();
		if (now >= until)
			return 0;
		hfb_control_link_wait(&m->link, 1);
		now = hfb_now_ns();
	}
}

bool
hfb_group_at_end(struct hfb_group_member *m)
{
	if (m->generation == 0 || m->parts_count == 0)
		return false;
	for (uint32_t i = 0; i < m->parts_count; i++)
		if (m->parts[i].sub == NULL || !hfb_sub_at_end(m->parts[i].sub))
			return false;
	return true;
}

/* Committing --------------------------------------------------------------------- */

int
hfb_group_mark(struct hfb_group_member *m, const char *topic, uint32_t partition, uint64_t offset)
{
	uint32_t index = hfb_group_topic_index(m, topic);
	struct group_part *p = index != UINT32_MAX ? hfb_group_part(m, index, partition) : NULL;

	if (p == NULL)
		return -ENOENT;
	if (p->mark == NOTHING || p->mark < offset)
		p->mark = offset;
	return 0;
}

void
hfb_group_commit_async(struct hfb_group_member *m)
{
	for (uint32_t i = 0; i < m->parts_count; i++) {
		struct group_part *p = &m->parts[i];

		if (p->mark != NOTHING && (p->durable == NOTHING || p->mark > p->durable))
			p->wanted = p->mark;
	}
}

bool
hfb_group_committed(const struct hfb_group_member *m)
{
	for (uint32_t i = 0; i < m->parts_count; i++)
		if (m->parts[i].wanted != NOTHING)
			return false;
	return true;
}

int
hfb_group_commit(struct hfb_group_member *m, uint32_t timeout_ms, struct hfb_err *err)
{
	uint64_t until = hfb_now_ns() + (uint64_t)timeout_ms * 1000000u;
	uint64_t lost = m->stats.lost, refused = m->stats.commits_refused, dropped = m->dropped;

	hfb_group_commit_async(m);
	while (!hfb_group_committed(m)) {
		uint64_t now = hfb_now_ns();

		hfb_group_pump(m, now);
		if (m->failed < 0)
			return hfb_err_set(err, m->failed, "%s", m->err.text);
		if (hfb_group_committed(m))
			break;
		/* Within `revoked` nothing of another generation can be heard of: try no longer. */
		if (m->in_callback && m->stats.commits_refused != refused)
			return hfb_err_set(
				err, -ESTALE,
				"hfbus-control refuses the commit: this member of group %s "
				"is out, or the group is in another generation",
				m->group);
		if (now >= until)
			return hfb_err_set(err, -ETIMEDOUT,
					   "hfbus-control did not take the offsets of group %s in "
					   "time",
					   m->group);
		hfb_control_link_wait(&m->link, 1);
	}
	if (m->stats.lost != lost || m->dropped != dropped)
		return hfb_err_set(
			err, -ESTALE,
			"this member of group %s was out, or gave partitions up: what it "
			"had read is not committed",
			m->group);
	return 0;
}

/* Life ------------------------------------------------------------------------------ */

static bool
name_fits(const char *text, size_t max, const char *more)
{
	size_t n = strlen(text);

	for (size_t i = 0; i < n; i++)
		if (!((text[i] >= 'a' && text[i] <= 'z') || (text[i] >= 'A' && text[i] <= 'Z') ||
		      (text[i] >= '0' && text[i] <= '9') || strchr(more, text[i]) != NULL))
			return false;
	return n >= 1 && n <= max;
}

static int
config_check(const struct hfb_group_config *c, struct hfb_err *err)
{
	if (c->group == NULL || !name_fits(c->group, HFB_GROUP_NAME_MAX, "._-"))
		return hfb_err_set(err, -EINVAL,
				   "a group's name is made of A-Z a-z 0-9 . _ and -, 1 to %u",
				   HFB_GROUP_NAME_MAX);
	if (c->topics_count < 1 || c->topics_count > HFB_GROUP_TOPICS_MAX)
		return hfb_err_set(err, -EINVAL, "a member subscribes to 1 to %u topics",
				   HFB_GROUP_TOPICS_MAX);
	for (uint32_t i = 0; i < c->topics_count; i++)
		if (!name_fits(c->topics[i], HFB_TOPIC_NAME_MAX, "._-"))
			return hfb_err_set(err, -EINVAL,
					   "a topic's name is made of A-Z a-z 0-9 . _ and -");
	if (c->instance != NULL && !name_fits(c->instance, HFB_GROUP_ID_MAX - 20u, "._:@/-"))
		return hfb_err_set(err, -EINVAL,
				   "an instance's name is made of A-Z a-z 0-9 . _ : @ / and -, "
				   "1 to %u",
				   HFB_GROUP_ID_MAX - 20u);
	if (c->client != NULL && !name_fits(c->client, HFB_GROUP_ID_MAX - 20u, "._:@/-"))
		return hfb_err_set(
			err, -EINVAL,
			"a client's name is made of A-Z a-z 0-9 . _ : @ / and -, 1 to %u",
			HFB_GROUP_ID_MAX - 20u);
	if (c->strategy != NULL && strcmp(c->strategy, "range") != 0 &&
	    strcmp(c->strategy, "round-robin") != 0 &&
	    strcmp(c->strategy, "cooperative-sticky") != 0)
		return hfb_err_set(err, -EINVAL,
				   "a strategy is range, round-robin or cooperative-sticky, not %s",
				   c->strategy);
	if ((c->session_ms != 0 && (c->session_ms < HFB_GROUP_SESSION_MS_MIN ||
				    c->session_ms > HFB_GROUP_SESSION_MS_MAX)) ||
	    (c->rebalance_ms != 0 && (c->rebalance_ms < HFB_GROUP_SESSION_MS_MIN ||
				      c->rebalance_ms > HFB_GROUP_SESSION_MS_MAX)))
		return hfb_err_set(err, -EINVAL,
				   "session and rebalance timeouts are %u ms to %u ms",
				   HFB_GROUP_SESSION_MS_MIN, HFB_GROUP_SESSION_MS_MAX);
	if (c->from != 0 && c->from != HFB_SUB_EARLIEST && c->from != HFB_SUB_LATEST)
		return hfb_err_set(err, -EINVAL, "a group begins at earliest or latest");
	return 0;
}

static char *
default_client(void)
{
	char host[64] = "host", text[96];

	(void)gethostname(host, sizeof(host) - 1);
	if (!name_fits(host, sizeof(host), "._-"))
		strcpy(host, "host");
	snprintf(text, sizeof(text), "%.60s/%d", host, (int)getpid());
	return strdup(text);
}

static void
member_free(struct hfb_group_member *m)
{
	hfb_control_link_close(&m->link);
	for (uint32_t i = 0; i < m->parts_count; i++)
		hfb_sub_close(m->parts[i].sub);
	free(m->parts);
	for (uint32_t i = 0; i < m->config.topics_count && m->topics != NULL; i++)
		free(m->topics[i]);
	free(m->topics);
	free(m->group);
	free(m->instance);
	free(m->client);
	free(m->strategy);
	free(m);
}

int
hfb_group_open(struct hfb_bus *bus, const struct hfb_group_config *config,
	       struct hfb_group_member **ret_member, struct hfb_err *err)
{
	struct hfb_group_member *m;
	int r = config_check(config, err);
	bool ok;

	if (r < 0)
		return r;
	if (!bus->local)
		return hfb_err_set(err, -EOPNOTSUPP,
				   "groups need the bus's folder: hfbus-control is not reached by "
				   "UDP");
	m = calloc(1, sizeof(*m));
	if (m == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	m->bus = bus;
	m->config = *config;
	if (m->config.session_ms == 0)
		m->config.session_ms = SESSION_MS;
	if (m->config.rebalance_ms == 0)
		m->config.rebalance_ms = REBALANCE_MS;
	hfb_control_link_init(&m->link, bus->data_dir);
	m->group = strdup(config->group);
	m->instance = strdup(config->instance != NULL ? config->instance : "");
	m->client = config->client != NULL ? strdup(config->client) : default_client();
	m->strategy = strdup(config->strategy != NULL ? config->strategy : "cooperative-sticky");
	m->topics = calloc(config->topics_count, sizeof(*m->topics));
	ok = m->group != NULL && m->instance != NULL && m->client != NULL && m->strategy != NULL &&
	     m->topics != NULL;
	for (uint32_t i = 0; i < config->topics_count && ok; i++) {
		m->topics[i] = strdup(config->topics[i]);
		ok = m->topics[i] != NULL;
	}
	if (!ok) {
		member_free(m);
		return hfb_err_set(err, -ENOMEM, "out of memory");
	}
	*ret_member = m;
	return 0;
}

/* Finish what is under way, so that the next answer is that of leaving. */
static void
leave(struct hfb_group_member *m)
{
	uint64_t until = hfb_now_ns() + LEAVE_MS * 1000000ull;
	json_t *answer = NULL;
	struct hfb_err err;

	while (m->ask != ASK_NONE && hfb_now_ns() < until) {
		if (hfb_control_link_receive(&m->link, &answer) != 0) {
			json_decref(answer);
			m->ask = ASK_NONE;
			break;
		}
		hfb_control_link_wait(&m->link, 5);
	}
	json_decref(hfb_control_link_ask(&m->link,
					 json_pack("{s:s, s:s, s:s}", "op", "group.leave", "group",
						   m->group, "member", m->id),
					 LEAVE_MS, &err));
}

void
hfb_group_close(struct hfb_group_member *m)
{
	if (m == NULL)
		return;
	if (m->parts_count > 0)
		hfb_group_revoke(m, NULL, m->generation == 0);
	if (m->id[0] != '\0' && m->instance[0] == '\0')
		leave(m);
	member_free(m);
}

uint32_t
hfb_group_member_generation(const struct hfb_group_member *m)
{
	return m->generation;
}

const char *
hfb_group_member_id(const struct hfb_group_member *m)
{
	return m->id;
}

uint32_t
hfb_group_member_partitions(const struct hfb_group_member *m, struct hfb_group_partition *ret,
			    uint32_t max)
{
	for (uint32_t i = 0; i < m->parts_count && i < max; i++)
		ret[i] = (struct hfb_group_partition){ m->topics[m->parts[i].topic],
						       m->parts[i].partition };
	return m->parts_count;
}

void
hfb_group_stats_get(const struct hfb_group_member *m, struct hfb_group_stats *ret_stats)
{
	*ret_stats = m->stats;
}
