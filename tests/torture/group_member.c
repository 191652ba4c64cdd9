/* SPDX-License-Identifier: Apache-2.0 */
/*
 * group_member - a member of a consumer group that writes down all it sees, for
 * tests/torture/groups.py. A line each, times monotonic ns:
 *
 *	G ns generation partition...	given to us, all we have now
 *	R ns generation partition lost	let go of (lost: without being asked)
 *	E ns generation partition offset value	an event, as hfb_group_next() gave it
 *	C ns_asked ns_done generation partition:offset...	a commit that was answered durable
 *	F ns				a commit was refused
 *
 * E lines are in the file before the commit that covers them is asked for.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <hfbus/hfbus.h>

#define PARTITIONS_MAX 64

static volatile sig_atomic_t stop;
static struct hfb_group_member *member;
static FILE *out;
static uint64_t next_offsets[PARTITIONS_MAX]; /* given so far; 0 = none */
static uint64_t given[PARTITIONS_MAX];	      /* since the last commit */

static void
stopped(int signal)
{
	(void)signal;
	stop = 1;
}

static uint64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* What was given is in the file; then it is committed, and that it was. */
static void
commit(void)
{
	uint32_t generation = hfb_group_member_generation(member);
	struct hfb_group_partition mine[PARTITIONS_MAX];
	uint64_t asked = now_ns();
	struct hfb_err err;
	uint32_t n;

	fflush(out);
	if (hfb_group_commit(member, 10000, &err) < 0) {
		fprintf(out, "F %" PRIu64 " %s\n", now_ns(), err.text);
		fflush(out);
		return;
	}
	n = hfb_group_member_partitions(member, mine, PARTITIONS_MAX);
	fprintf(out, "C %" PRIu64 " %" PRIu64 " %u", asked, now_ns(), generation);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t p = mine[i].partition;

		if (given[p] != 0)
			fprintf(out, " %u:%" PRIu64, p, next_offsets[p]);
		given[p] = 0;
	}
	fprintf(out, "\n");
	fflush(out);
}

static void
assigned(void *arg, const struct hfb_group_partition *partitions, uint32_t count)
{
	struct hfb_group_partition mine[PARTITIONS_MAX];
	uint32_t n = hfb_group_member_partitions(member, mine, PARTITIONS_MAX);

	(void)arg, (void)partitions, (void)count;
	fprintf(out, "G %" PRIu64 " %u", now_ns(), hfb_group_member_generation(member));
	for (uint32_t i = 0; i < n; i++)
		fprintf(out, " %u", mine[i].partition);
	fprintf(out, "\n");
}

static void
revoked(void *arg, const struct hfb_group_partition *partitions, uint32_t count, bool lost)
{
	(void)arg;
	if (!lost)
		commit();
	for (uint32_t i = 0; i < count; i++) {
		fprintf(out, "R %" PRIu64 " %u %u %d\n", now_ns(),
			hfb_group_member_generation(member), partitions[i].partition, lost);
		given[partitions[i].partition] = 0;
	}
	fflush(out);
}

static int
run(struct hfb_group_config *config, struct hfb_bus *bus, uint64_t commit_ns, struct hfb_err *err)
{
	uint64_t committed_ns = now_ns();
	const struct hfb_group_item *item;
	int r;

	config->assigned = assigned;
	config->revoked = revoked;
	r = hfb_group_open(bus, config, &member, err);
	while (r >= 0 && !stop) {
		r = hfb_group_next(member, 20, &item, err);
		if (r == 1 && item->item->kind == HFB_ITEM_EVENT) {
			uint32_t p = item->item->partition;

			fprintf(out, "E %" PRIu64 " %u %u %" PRIu64 " %.*s\n", now_ns(),
				item->generation, p, item->item->offset,
				(int)item->item->event.value_size,
				(const char *)item->item->event.value);
			next_offsets[p] = item->item->offset + 1;
			given[p] = 1;
		}
		if (r == 0)
			fflush(out);
		if (r >= 0 && now_ns() - committed_ns > commit_ns) {
			commit();
			committed_ns = now_ns();
		}
	}
	if (r >= 0)
		commit();
	hfb_group_close(member);
	return r < 0 ? r : 0;
}

int
main(int argc, char **argv)
{
	struct hfb_bus_config bus_config = { .reconnect_ms = UINT32_MAX };
	const char *topic;
	struct hfb_group_config config = { .topics = &topic, .topics_count = 1 };
	struct hfb_bus *bus;
	struct hfb_err err = { 0 };
	int r;

	if (argc != 9) {
		fprintf(stderr,
			"usage: group_member DATA TOPIC GROUP STRATEGY SESSION_MS COMMIT_MS "
			"INSTANCE|- FILE\n");
		return 2;
	}
	bus_config.data_dir = argv[1];
	topic = argv[2];
	config.group = argv[3];
	config.strategy = argv[4];
	config.session_ms = (uint32_t)strtoul(argv[5], NULL, 10);
	config.rebalance_ms = 5000;
	config.instance = strcmp(argv[7], "-") == 0 ? NULL : argv[7];
	out = fopen(argv[8], "a");
	if (out == NULL)
		return 1;
	setvbuf(out, NULL, _IOFBF, 1 << 16);
	signal(SIGTERM, stopped);
	signal(SIGINT, stopped);
	r = hfb_bus_open(&bus_config, &bus, &err);
	if (r == 0) {
		r = run(&config, bus, strtoull(argv[6], NULL, 10) * 1000000u, &err);
		hfb_bus_close(bus);
	}
	fclose(out);
	if (r < 0)
		fprintf(stderr, "group_member: %s\n", err.text);
	return r < 0 ? 1 : 0;
}
