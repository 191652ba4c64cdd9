/* SPDX-License-Identifier: Apache-2.0 */
/*
 * commit_load - commits of consumer groups at a steady rate, for tests/torture/commits.py.
 *
 *	commit_load DATA TOPIC PARTITIONS MEMBERS RATE
 *
 * MEMBERS connections, each the only member of a group of its own, commit in turn a new
 * offset of each of TOPIC's PARTITIONS in one request: RATE offsets/s in all. Reads lines
 * from standard input: "on", "off", "end". Prints, a line a second while on:
 * "offsets in this second, slowest answer in us"; at the end "total offsets, refused, late
 *requests".
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <hfbus/hfbus.h>

#include "connection.h"
#include "control_link.h"

#define MEMBERS_MAX 64
#define BEAT_NS	    500000000ull

struct member {
	struct hfb_control_link link;
	char id[HFB_GROUP_ID_MAX + 1];
	uint32_t generation;
	uint64_t due_ns, beat_ns, asked_ns;
	uint64_t offset;
	bool committing;
};

static struct member members[MEMBERS_MAX];
static const char *topic;
static uint32_t partitions, members_count;
static uint64_t total, refused, late, second_total, slowest_ns;
static char text[16384];

static json_t *
ask_join(struct member *m, const char *group, struct hfb_err *err)
{
	return hfb_control_link_ask(&m->link,
				    json_pack("{s:s, s:s, s:[s], s:i}", "op", "group.join", "group",
					      group, "topics", topic, "session_ms", 60000),
				    10000, err);
}

static int
join(struct member *m, uint32_t i, struct hfb_err *err)
{
	char group[32];
	json_t *answer = NULL;

	snprintf(group, sizeof(group), "load-%u", i);
	/* An hfbus-control that has just begun is still reading offsets. */
	for (uint32_t tries = 0; tries < 1000; tries++) {
		answer = ask_join(m, group, err);
		if (answer != NULL || err->code != -EAGAIN)
			break;
		usleep(10000);
	}
	if (answer == NULL)
		return err->code;
	snprintf(m->id, sizeof(m->id), "%s", json_string_value(json_object_get(answer, "member")));
	json_decref(answer);
	for (uint32_t tries = 0; tries < 2000 && m->generation == 0; tries++) {
		answer = hfb_control_link_ask(&m->link,
					      json_pack("{s:s, s:s, s:s, s:i}", "op",
							"group.heartbeat", "group", group, "member",
							m->id, "generation", 0),
					      10000, err);
		if (answer == NULL)
			return err->code;
		m->generation = (uint32_t)json_integer_value(json_object_get(answer, "generation"));
		json_decref(answer);
		usleep(1000);
	}
	return m->generation != 0 ? 0 : -ETIMEDOUT;
}

static void
send_commit(struct member *m, uint32_t i, uint64_t now_ns)
{
	size_t n = (size_t)snprintf(text, sizeof(text),
				    "{\"op\":\"group.commit\",\"group\":\"load-%u\",\"member\":\"%"
				    "s\",\"generation\":%u,"
				    "\"offsets\":{\"%s\":[",
				    i, m->id, m->generation, topic);

	m->offset++;
	for (uint32_t p = 0; p < partitions; p++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s[%u,%" PRIu64 "]",
				      p > 0 ? "," : "", p, m->offset);
	n += (size_t)snprintf(text + n, sizeof(text) - n, "]}}");
	m->asked_ns = now_ns;
	m->committing = true;
	if (hfb_control_link_send(&m->link, text, n) < 0)
		m->committing = false;
}

static void
take_answer(struct member *m, uint64_t now_ns)
{
	json_t *answer;

	if (hfb_control_link_receive(&m->link, &answer) != 1)
		return;
	if (m->committing && json_is_true(json_object_get(answer, "ok"))) {
		total += partitions;
		second_total += partitions;
	} else if (m->committing) {
		refused += partitions;
	}
	if (m->committing && now_ns - m->asked_ns > slowest_ns)
		slowest_ns = now_ns - m->asked_ns;
	m->committing = false;
	json_decref(answer);
}

static void
send_beat(struct member *m, uint32_t i, uint64_t now_ns)
{
	int n = snprintf(text, sizeof(text),
			 "{\"op\":\"group.heartbeat\",\"group\":\"load-%u\",\"member\":\"%s\","
			 "\"generation\":%u}",
			 i, m->id, m->generation);

	(void)hfb_control_link_send(&m->link, text, (size_t)n);
	m->beat_ns = now_ns + BEAT_NS;
}

/* What is due of one member. */
static void
turn(uint32_t i, bool on, uint64_t interval_ns, uint64_t now_ns)
{
	struct member *m = &members[i];

	if (m->link.asked)
		take_answer(m, now_ns);
	if (on && now_ns >= m->due_ns && m->link.asked) {
		late++;
		m->due_ns += interval_ns;
	} else if (on && now_ns >= m->due_ns) {
		send_commit(m, i, now_ns);
		m->due_ns += interval_ns;
	} else if (!m->link.asked && now_ns >= m->beat_ns) {
		send_beat(m, i, now_ns);
	}
}

static void
run(uint64_t interval_ns)
{
	uint64_t second_ns = 0;
	bool on = false;
	char line[64];

	fcntl(STDIN_FILENO, F_SETFL, fcntl(STDIN_FILENO, F_GETFL) | O_NONBLOCK);
	for (;;) {
		struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
		uint64_t now = hfb_now_ns();
		ssize_t n;

		poll(&in, 1, 1);
		n = read(STDIN_FILENO, line, sizeof(line) - 1);
		if (n == 0 || (n > 0 && line[0] == 'e'))
			return;
		if (n > 1) {
			on = line[1] == 'n';
			for (uint32_t i = 0; i < members_count; i++)
				members[i].due_ns = now + interval_ns * i / members_count;
			second_ns = now + 1000000000u;
			second_total = slowest_ns = 0;
		}
		for (uint32_t i = 0; i < members_count; i++)
			turn(i, on, interval_ns, now);
		if (on && now >= second_ns) {
			printf("%" PRIu64 " %" PRIu64 "\n", second_total, slowest_ns / 1000);
			fflush(stdout);
			second_total = slowest_ns = 0;
			second_ns += 1000000000u;
		}
	}
}

int
main(int argc, char **argv)
{
	struct hfb_err err = { 0 };
	uint64_t rate;
	int r = 0;

	if (argc != 6) {
		fprintf(stderr, "usage: commit_load DATA TOPIC PARTITIONS MEMBERS RATE\n");
		return 2;
	}
	topic = argv[2];
	partitions = (uint32_t)strtoul(argv[3], NULL, 10);
	members_count = (uint32_t)strtoul(argv[4], NULL, 10);
	rate = strtoull(argv[5], NULL, 10);
	if (members_count < 1 || members_count > MEMBERS_MAX || partitions < 1 ||
	    partitions > 500 || rate == 0)
		return 2;
	for (uint32_t i = 0; i < members_count && r == 0; i++) {
		hfb_control_link_init(&members[i].link, argv[1]);
		/* Above what a former run committed: nothing goes back. */
		members[i].offset = hfb_now_ns() / 1000;
		r = join(&members[i], i, &err);
	}
	if (r < 0) {
		fprintf(stderr, "commit_load: %s\n", err.text);
		return 1;
	}
	puts("ready");
	fflush(stdout);
	run((uint64_t)members_count * partitions * 1000000000u / rate);
	printf("end %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", total, refused, late);
	for (uint32_t i = 0; i < members_count; i++)
		hfb_control_link_close(&members[i].link);
	return 0;
}
