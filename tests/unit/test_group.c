/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A consumer group's coordinator.
 *
 * Goal:   whatever members do, in whatever order, and whenever the coordinator dies: no
 *	   partition is read by two, whoever is out or late can commit nothing, and a group
 *	   that is left alone ends up with each partition read by one.
 * Method: all interleavings of what two and three members can do, to some depth, then long
 *	   random ones; a model of the members keeps what they hold as libhfbus does. Rules
 *	   and strategies one by one besides.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "group.h"
#include "group_record.h"
#include "hfb_test_main.h"

#define MEMBERS	     3u
#define PARTS	     3u
#define SESSION_MS   1000u
#define REBALANCE_MS 600u

/* What a member does and knows; held: a bit a partition. */
struct client {
	char id[32];
	bool in; /* has an id and was not told otherwise */
	uint32_t generation, held, to_revoke;
	bool released;
	uint64_t until_ms; /* it must have let go; 0 = it need not */
	bool stands;	   /* its lease is over: it reads nothing until a heartbeat is answered */
};

struct world {
	struct hfb_group *g;
	struct hfb_group_env env;
	enum hfb_strategy strategy;
	bool statics; /* members have instances */
	uint32_t partitions;
	uint64_t now_ms;
	uint32_t fresh; /* ids given */
	struct client clients[MEMBERS];
	uint32_t clients_count;
	char *record; /* durable */
	char *storing;
	uint32_t commits_taken, commits_refused, generations;
};

enum action { JOIN, BEAT, RELEASE, LEAVE, EXPIRE, LATE, COMMIT, OF_MEMBERS };
enum { STORED = 100, NOT_STORED, CRASH, GROW };

static uint32_t
partitions_of(void *arg, const char *topic)
{
	const struct world *w = arg;

	return strcmp(topic, "t") == 0 ? w->partitions : 0;
}

static void
world_init(struct world *w, enum hfb_strategy strategy, uint32_t clients, bool statics)
{
	memset(w, 0, sizeof(*w));
	w->strategy = strategy;
	w->clients_count = clients;
	w->statics = statics;
	w->partitions = PARTS;
	w->now_ms = 10;
	w->env = (struct hfb_group_env){ partitions_of, w };
	CU_ASSERT_EQUAL_FATAL(hfb_group_create("g", &w->env, &w->g), 0);
}

static void
world_fini(struct world *w)
{
	hfb_group_destroy(w->g);
	free(w->record);
	free(w->storing);
}

static const char *
instance_name(const struct world *w, uint32_t i)
{
	static const char *const names[] = { "a", "b", "c" };

	return w->statics ? names[i] : "";
}

static void
after(struct world *w)
{
	json_t *json;

	if (!hfb_group_wants_store(w->g))
		return;
	json = hfb_group_record_to_json(w->g);
	free(w->storing);
	w->storing = json_dumps(json, JSON_COMPACT);
	json_decref(json);
}

static void
out(struct client *c)
{
	*c = (struct client){ .in = false };
}

static uint32_t
bits(const hfb_tp *tps, uint32_t count)
{
	uint32_t set = 0;

	for (uint32_t i = 0; i < count; i++)
		set |= 1u << HFB_TP_PARTITION(tps[i]);
	return set;
}

static void
beat(struct world *w, uint32_t i)
{
	struct client *c = &w->clients[i];
	struct hfb_group_beat b = { .generation = c->generation, .holds_all = !c->released };
	hfb_tp held[8];
	struct hfb_group_view v;
	struct hfb_err err;
	int r;

	for (uint32_t p = 0; p < 8; p++)
		if ((c->held & 1u << p) != 0)
			held[b.held_count++] = HFB_TP(0, p);
	b.held = held;
	r = hfb_group_heartbeat(w->g, c->id, instance_name(w, i), &b, w->now_ms, &v, &err);
	if (r < 0) {
		out(c);
		return;
	}
	c->stands = false;
	if (v.generation != c->generation && v.generation != 0) {
		/* Nothing is taken from a member that was not asked first. */
		CU_ASSERT_EQUAL(c->held & ~bits(v.given, v.given_count), 0);
		c->generation = v.generation;
		c->held = bits(v.given, v.given_count);
		c->released = false;
	}
	c->to_revoke = bits(v.revoke, v.revoke_count);
	if (c->to_revoke == 0)
		c->until_ms = 0;
	else if (c->until_ms == 0)
		c->until_ms = w->now_ms + REBALANCE_MS;
	after(w);
}

static void
join(struct world *w, uint32_t i)
{
	static const char *const topics[] = { "t" };
	struct client *c = &w->clients[i];
	struct hfb_group_join j = {
		.id = "",
		.instance = instance_name(w, i),
		.client = "test",
		.strategy = w->strategy,
		.session_ms = SESSION_MS,
		.rebalance_ms = REBALANCE_MS,
		.topics = topics,
		.topics_count = 1,
	};
	char fresh[32];
	const char *id;
	struct hfb_err err;

	snprintf(fresh, sizeof(fresh), "m%u-%u", i, w->fresh++);
	j.fresh_id = fresh;
	out(c); /* a static one that comes again: its former process is gone */
	CU_ASSERT_EQUAL_FATAL(hfb_group_join(w->g, &j, w->now_ms, &id, &err), 0);
	strcpy(c->id, id);
	c->in = true;
	after(w);
}

/* Time passes; the others send their heartbeats, @i does not (NOBODY: all do). */
static void
pass(struct world *w, uint32_t i, uint32_t ms)
{
	w->now_ms += ms - 1;
	for (uint32_t k = 0; k < w->clients_count; k++)
		if (k != i && w->clients[k].in)
			beat(w, k);
	w->now_ms++;
	for (uint32_t k = 0; k < w->clients_count; k++)
		if (w->clients[k].until_ms != 0 && w->clients[k].until_ms <= w->now_ms)
			w->clients[k].stands = true; /* its lease ended before */
	hfb_group_tick(w->g, w->now_ms);
	after(w);
}

static void
crash(struct world *w)
{
	struct hfb_err err;

	hfb_group_destroy(w->g);
	CU_ASSERT_EQUAL_FATAL(hfb_group_create("g", &w->env, &w->g), 0);
	free(w->storing);
	w->storing = NULL;
	if (w->record != NULL)
		CU_ASSERT_EQUAL_FATAL(hfb_group_record_restore(w->g, w->record, strlen(w->record),
							       w->now_ms, &err),
				      0);
	after(w);
}

static void
commit(struct world *w, uint32_t i)
{
	struct client *c = &w->clients[i];
	bool member = hfb_group_member_find(w->g, c->id) != UINT32_MAX;
	struct hfb_err err;

	for (uint32_t p = 0; p < w->partitions; p++) {
		bool holds = (c->held & 1u << p) != 0;
		int r = hfb_group_commit_check(w->g, c->id, c->generation, "t", p, w->now_ms, &err);

		bool others = false, present = c->generation == hfb_group_generation(w->g);

		for (uint32_t k = 0; k < w->clients_count; k++)
			others |= k != i && !w->clients[k].stands &&
				  (w->clients[k].held & 1u << p) != 0;
		/* Who reads it in the present generation always can; others never, but the one
		 * that has just let go of it, while nobody else has it. */
		if (member && holds && present)
			CU_ASSERT_EQUAL(r, 0);
		if (r == 0)
			CU_ASSERT_TRUE(member && present && !others);
		w->commits_taken += r == 0;
		w->commits_refused += r != 0;
	}
}

/* False: cannot happen now. */
static bool
act(struct world *w, uint32_t what)
{
	uint32_t i = what / OF_MEMBERS;
	struct client *c = &w->clients[i < MEMBERS ? i : 0]; /* stored or not is nobody's */
	struct hfb_err err;

	if (what == STORED || what == NOT_STORED) {
		if (w->storing == NULL)
			return false;
		if (what == STORED) {
			free(w->record);
			w->record = w->storing;
			w->generations++;
		} else {
			free(w->storing);
		}
		w->storing = NULL;
		hfb_group_stored(w->g, what == STORED, w->now_ms);
		after(w);
		return true;
	}
	if (what == CRASH) {
		crash(w);
		return true;
	}
	if (what == GROW) {
		if (w->partitions > PARTS)
			return false;
		w->partitions++;
		hfb_group_topics_changed(w->g, w->now_ms);
		after(w);
		return true;
	}
	switch (what % OF_MEMBERS) {
	case JOIN:
		if (c->in && !w->statics)
			return false;
		join(w, i);
		return true;
	case BEAT:
		if (!c->in)
			return false;
		beat(w, i);
		return true;
	case RELEASE:
		if (c->to_revoke == 0)
			return false;
		c->held &= ~c->to_revoke;
		c->to_revoke = 0;
		c->released = true;
		return true;
	case LEAVE:
		if (!c->in)
			return false;
		(void)hfb_group_leave(w->g, c->id, w->now_ms, &err);
		out(c);
		after(w);
		return true;
	case EXPIRE:
		if (!c->in)
			return false;
		c->stands = true; /* its lease ended before */
		pass(w, i, SESSION_MS);
		return true;
	case LATE:
		if (c->to_revoke == 0)
			return false;
		pass(w, i, REBALANCE_MS);
		return true;
	case COMMIT:
		if (c->id[0] == '\0')
			return false;
		commit(w, i);
		return true;
	}
	return false;
}

/* No partition is read by two of those who may believe that they read it. */
static bool
sound(struct world *w)
{
	uint32_t seen = 0, given = 0;

	for (uint32_t i = 0; i < w->clients_count; i++) {
		if (w->clients[i].stands)
			continue;
		if ((seen & w->clients[i].held) != 0)
			return false;
		seen |= w->clients[i].held;
	}
	for (uint32_t i = 0; i < hfb_group_members_count(w->g); i++) {
		struct hfb_group_member_info m;

		hfb_group_member(w->g, i, false, &m);
		if ((given & bits(m.given, m.given_count)) != 0)
			return false;
		given |= bits(m.given, m.given_count);
	}
	return true;
}

/* Left alone, the group comes to rest with all partitions read. */
static void
settle(struct world *w)
{
	uint32_t in = 0, held = 0;

	for (uint32_t round = 0; round < 12; round++) {
		for (uint32_t i = 0; i < w->clients_count; i++) {
			(void)act(w, i * OF_MEMBERS + RELEASE);
			(void)act(w, i * OF_MEMBERS + BEAT);
		}
		while (act(w, STORED))
			;
	}
	/* Members that nobody plays any more (their join was lost) run out of time. */
	pass(w, UINT32_MAX, SESSION_MS);
	for (uint32_t round = 0; round < 12; round++) {
		for (uint32_t i = 0; i < w->clients_count; i++) {
			(void)act(w, i * OF_MEMBERS + RELEASE);
			(void)act(w, i * OF_MEMBERS + BEAT);
		}
		while (act(w, STORED))
			;
	}
	for (uint32_t i = 0; i < w->clients_count; i++) {
		in += w->clients[i].in;
		held |= w->clients[i].held;
	}
	CU_ASSERT_EQUAL(hfb_group_members_count(w->g), in);
	CU_ASSERT_EQUAL(hfb_group_state(w->g), in > 0 ? HFB_GROUP_STABLE : HFB_GROUP_EMPTY);
	CU_ASSERT_EQUAL(held, in > 0 ? (1u << w->partitions) - 1 : 0);
	CU_ASSERT_TRUE(sound(w));
	for (uint32_t i = 0; i < w->clients_count; i++)
		commit(w, i);
}

static const uint32_t common[] = { STORED, NOT_STORED, CRASH, GROW };

struct search {
	enum hfb_strategy strategy;
	uint32_t clients, depth;
	bool statics;
	uint32_t path[32], length;
	uint64_t states;
	uint32_t failures; /* before */
	bool failed;
};

static bool
replay(struct search *s, struct world *w)
{
	bool possible = true;

	world_init(w, s->strategy, s->clients, s->statics);
	for (uint32_t i = 0; i < s->length && possible; i++)
		possible = act(w, s->path[i]);
	return possible;
}

static void
print_path(const struct search *s, const char *what)
{
	printf("%s, %s after:", what, hfb_strategy_name(s->strategy));
	for (uint32_t i = 0; i < s->length; i++)
		printf(" %u", s->path[i]);
	printf("\n");
}

static void
explore(struct search *s)
{
	uint32_t all = s->clients * OF_MEMBERS + sizeof(common) / sizeof(common[0]);

	for (uint32_t a = 0; a < all && !s->failed; a++) {
		struct world w;
		bool possible;

		s->path[s->length++] =
			a < s->clients * OF_MEMBERS ? a : common[a - s->clients * OF_MEMBERS];
		possible = replay(s, &w);
		if (possible && !sound(&w)) {
			print_path(s, "two readers");
			CU_FAIL("two members read one partition");
			s->failed = true;
		}
		if (possible && s->length == s->depth && !s->failed)
			settle(&w);
		if (CU_get_number_of_failures() > s->failures) {
			print_path(s, "wrong");
			s->failed = true;
		}
		world_fini(&w);
		s->states += possible;
		if (possible && s->length < s->depth)
			explore(s);
		s->length--;
	}
}

static void
explore_all(uint32_t clients, uint32_t depth, bool statics)
{
	for (uint32_t strategy = 0; strategy < HFB_STRATEGIES; strategy++) {
		struct search s = { .strategy = (enum hfb_strategy)strategy,
				    .clients = clients,
				    .depth = depth,
				    .failures = CU_get_number_of_failures(),
				    .statics = statics };

		explore(&s);
		CU_ASSERT_TRUE(s.states > 1000);
		printf("%u members, %s, depth %u: %llu histories\n", clients,
		       hfb_strategy_name(s.strategy), depth, (unsigned long long)s.states);
	}
}

/* $HFBUS_TEST_DEEPER adds steps: each costs ten times as much. */
static uint32_t
deeper(uint32_t depth)
{
	const char *more = getenv("HFBUS_TEST_DEEPER");

	return depth + (more != NULL ? (uint32_t)strtoul(more, NULL, 10) : 0);
}

static void
test_all_of_two_members(void)
{
	explore_all(2, deeper(5), false);
}

static void
test_all_of_three_members(void)
{
	explore_all(3, deeper(4), false);
}

static void
test_all_of_static_members(void)
{
	explore_all(2, deeper(4), true);
}

static void
test_long_histories(void)
{
	uint32_t taken = 0, refused = 0, generations = 0;

	for (uint32_t run = 0; run < 600; run++) {
		struct world w;

		world_init(&w, (enum hfb_strategy)(run % HFB_STRATEGIES), 3, run % 5 == 0);
		for (uint32_t step = 0; step < 200; step++) {
			uint64_t r = hfb_test_random();
			uint32_t all = 3 * OF_MEMBERS, a = (uint32_t)(r % (all + 12));

			/* Storing mostly works, crashes are rarer than heartbeats. */
			if (a >= all)
				a = a < all + 9 ? STORED : common[1 + (r >> 32) % 3];
			else if (a % OF_MEMBERS >= LEAVE && a % OF_MEMBERS <= LATE &&
				 (r >> 32) % 4 != 0)
				a = a / OF_MEMBERS * OF_MEMBERS + BEAT;
			(void)act(&w, a);
			CU_ASSERT_TRUE_FATAL(sound(&w));
		}
		settle(&w);
		taken += w.commits_taken;
		refused += w.commits_refused;
		generations += w.generations;
		world_fini(&w);
	}
	printf("%u generations, %u commits taken, %u refused\n", generations, taken, refused);
	CU_ASSERT_TRUE(taken > 1000 && refused > 1000 && generations > 1000);
}

static void
test_sticky_moves_only_what_must(void)
{
	struct world w;

	world_init(&w, HFB_STRATEGY_STICKY, 3, false);
	w.partitions = 6;
	join(&w, 0);
	settle(&w);
	CU_ASSERT_EQUAL(w.clients[0].held, 0x3f);
	join(&w, 1);
	beat(&w, 0);
	CU_ASSERT_EQUAL(__builtin_popcount(w.clients[0].to_revoke), 3);
	settle(&w);
	CU_ASSERT_EQUAL(__builtin_popcount(w.clients[0].held), 3);
	CU_ASSERT_EQUAL(__builtin_popcount(w.clients[1].held), 3);
	/* One leaves: what the other has stays, nothing is to be let go of. */
	(void)act(&w, 1 * OF_MEMBERS + LEAVE);
	beat(&w, 0);
	CU_ASSERT_EQUAL(w.clients[0].to_revoke, 0);
	CU_ASSERT_EQUAL(__builtin_popcount(w.clients[0].held), 3);
	settle(&w);
	CU_ASSERT_EQUAL(w.clients[0].held, 0x3f);
	world_fini(&w);
}

static void
test_a_static_member_takes_its_place_again(void)
{
	struct world w;
	uint32_t before;
	char former[32];
	struct hfb_group_beat b = { .holds_all = true };
	struct hfb_group_view v;
	struct hfb_err err;

	world_init(&w, HFB_STRATEGY_RANGE, 2, true);
	join(&w, 0);
	join(&w, 1);
	settle(&w);
	before = w.clients[1].held;
	strcpy(former, w.clients[1].id);
	b.generation = w.clients[1].generation;
	join(&w, 1);
	/* The former process is fenced at once. */
	CU_ASSERT_EQUAL(hfb_group_heartbeat(w.g, former, "b", &b, w.now_ms, &v, &err), -ESTALE);
	CU_ASSERT_EQUAL(hfb_group_commit_check(w.g, former, b.generation, "t", 2, w.now_ms, &err),
			-ENOENT);
	beat(&w, 0);
	CU_ASSERT_EQUAL(w.clients[0].to_revoke, 0); /* the other one reads on */
	settle(&w);
	CU_ASSERT_EQUAL(w.clients[1].held, before);
	world_fini(&w);
}

static void
test_joins_are_checked(void)
{
	static const char *const twice[] = { "t", "t" };
	struct hfb_group_join j = {
		.id = "",
		.fresh_id = "x",
		.instance = "",
		.client = "",
		.session_ms = 1000,
		.rebalance_ms = 1000,
		.topics = twice,
		.topics_count = 1,
	};
	struct world w;
	const char *id;
	struct hfb_err err;

	world_init(&w, HFB_STRATEGY_RANGE, 1, false);
	CU_ASSERT_EQUAL(hfb_group_join(w.g, &j, 1, &id, &err), 0);
	j.fresh_id = "y";
	j.strategy = HFB_STRATEGY_STICKY;
	CU_ASSERT_EQUAL(hfb_group_join(w.g, &j, 1, &id, &err), -EINVAL);
	j.strategy = HFB_STRATEGY_RANGE;
	j.topics_count = 2;
	CU_ASSERT_EQUAL(hfb_group_join(w.g, &j, 1, &id, &err), -EINVAL);
	j.topics_count = 0;
	CU_ASSERT_EQUAL(hfb_group_join(w.g, &j, 1, &id, &err), -EINVAL);
	j.topics_count = 1;
	j.session_ms = HFB_GROUP_SESSION_MS_MIN - 1;
	CU_ASSERT_EQUAL(hfb_group_join(w.g, &j, 1, &id, &err), -EINVAL);
	j.session_ms = HFB_GROUP_SESSION_MS_MAX;
	j.id = "nobody";
	CU_ASSERT_EQUAL(hfb_group_join(w.g, &j, 1, &id, &err), -ENOENT);
	CU_ASSERT_EQUAL(hfb_group_members_count(w.g), 1);
	world_fini(&w);
}

/* Shares of each member as counts, and each partition given once. */
static void
share(enum hfb_strategy strategy, uint32_t a, uint32_t b, uint32_t members, uint32_t *ret_counts)
{
	static const uint32_t both[] = { 0, 1 };
	static const char *const keys[] = { "k0", "k1", "k2", "k3", "k4" };
	struct hfb_assign_topic topics[] = { { "a", a }, { "b", b } };
	struct hfb_assign_member m[5];
	uint32_t owners[64];

	for (uint32_t i = 0; i < members; i++)
		m[i] = (struct hfb_assign_member){ .key = keys[i],
						   .topics = both,
						   .topics_count = 2 };
	memset(ret_counts, 0, 5 * sizeof(*ret_counts));
	CU_ASSERT_EQUAL_FATAL(hfb_assign(strategy, topics, 2, m, members, owners), 0);
	for (uint32_t p = 0; p < a + b; p++) {
		CU_ASSERT_TRUE_FATAL(owners[p] < members);
		ret_counts[owners[p]]++;
	}
}

static void
test_strategies_share_evenly(void)
{
	uint32_t n[5];

	for (uint32_t members = 1; members <= 5; members++) {
		for (uint32_t a = 0; a <= 12; a++) {
			for (uint32_t s = HFB_STRATEGY_ROUND_ROBIN; s < HFB_STRATEGIES; s++) {
				uint32_t low = 64, high = 0;

				share((enum hfb_strategy)s, a, 7, members, n);
				for (uint32_t i = 0; i < members; i++) {
					low = n[i] < low ? n[i] : low;
					high = n[i] > high ? n[i] : high;
				}
				CU_ASSERT_TRUE(high - low <= 1);
			}
		}
	}
	/* Range: topic by topic, the first members get the remainders. */
	share(HFB_STRATEGY_RANGE, 7, 5, 3, n);
	CU_ASSERT_EQUAL(n[0], 5);
	CU_ASSERT_EQUAL(n[1], 4);
	CU_ASSERT_EQUAL(n[2], 3);
}

static void
test_records_that_are_nonsense_are_refused(void)
{
	static const char *const texts[] = {
		"",
		"[]",
		"{}",
		"{\"generation\":0,\"strategy\":\"range\",\"topics\":[],\"members\":[]}",
		"{\"generation\":1,\"strategy\":\"best\",\"topics\":[],\"members\":[]}",
		"{\"generation\":1,\"strategy\":\"range\",\"topics\":[],\"members\":[{}]}",
		"{\"generation\":1,\"strategy\":\"range\",\"topics\":[\"t\"],\"members\":[{\"id\":"
		"\"x\",\"instance\":\"\",\"client\":\"\",\"session_ms\":1000,\"rebalance_ms\":1000,"
		"\"topics\":[0],\"given\":[[0,4000,4000]]}]}",
		"{\"generation\":1,\"strategy\":\"range\",\"topics\":[\"t\"],\"members\":[{\"id\":"
		"\"x\",\"instance\":\"\",\"client\":\"\",\"session_ms\":1000,\"rebalance_ms\":1000,"
		"\"topics\":[1],\"given\":[]}]}",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct world w;
		struct hfb_err err;

		world_init(&w, HFB_STRATEGY_RANGE, 1, false);
		CU_ASSERT_EQUAL(hfb_group_record_restore(w.g, texts[i], strlen(texts[i]), 5, &err),
				-EINVAL);
		world_fini(&w);
	}
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "strategies share evenly", test_strategies_share_evenly },
		{ "sticky moves only what must move", test_sticky_moves_only_what_must },
		{ "a static member takes its place again",
		  test_a_static_member_takes_its_place_again },
		{ "joins are checked", test_joins_are_checked },
		{ "records that are nonsense are refused",
		  test_records_that_are_nonsense_are_refused },
		{ "all that two members can do", test_all_of_two_members },
		{ "all that three members can do", test_all_of_three_members },
		{ "all that static members can do", test_all_of_static_members },
		{ "long histories", test_long_histories },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("group", tests);
}
