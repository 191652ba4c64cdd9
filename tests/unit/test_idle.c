/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Idling.
 *
 * Goal:   a core without work sleeps, never longer than it may; whoever makes work
 *	   visible wakes it, every time; a client cannot keep it awake.
 * Method: one core that only idles, in a thread of its own; wake-ups raced against its
 *	   falling asleep, with a sleep long enough that a lost one would show.
 */
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "core.h"
#include "hfb_test_main.h"
#include "idle.h"
#include "local.h"
#include "node.h"

static struct hfb_node node;
static struct hfb_core core;
static uint64_t stats[HFB_STATS_COUNT];

static uint64_t
now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static void
core_make(enum hfb_idle mode)
{
	struct hfb_err err;

	memset(&node, 0, sizeof(node));
	memset(&core, 0, sizeof(core));
	memset(stats, 0, sizeof(stats));
	node.cores_count = 1;
	node.cores[0] = &core;
	core.node = &node;
	core.stats = stats;
	core.commands = hfb_spsc_create(16);
	CU_ASSERT_EQUAL_FATAL(hfb_locals_create(&core, 4, &err), 0);
	CU_ASSERT_EQUAL_FATAL(hfb_idle_create(&core, mode, &err), 0);
}

static void
core_drop(void)
{
	hfb_idle_destroy(&core);
	hfb_locals_destroy(&core);
	hfb_spsc_destroy(core.commands);
}

static void
test_busy_never_sleeps(void)
{
	uint64_t from = now_ns();

	core_make(HFB_IDLE_BUSY);
	while (now_ns() - from < 5000000)
		hfb_idle_turn(&core, 0);
	CU_ASSERT_EQUAL(stats[HFB_STAT_SLEEPS], 0);
	core_drop();
}

static void
test_adaptive_sleeps_as_long_as_it_may(void)
{
	uint64_t from, took;

	core_make(HFB_IDLE_ADAPTIVE);
	from = now_ns();
	while (stats[HFB_STAT_SLEEPS] < 10)
		hfb_idle_turn(&core, 0);
	took = now_ns() - from;
	CU_ASSERT_TRUE(took > 10ull * HFB_IDLE_SLEEP_NS * 9 / 10);
	CU_ASSERT_TRUE(stats[HFB_STAT_SLEEP_TSC] > 0);

	core_drop();
}

/* Forty sleeps take at least so many times @least_ns, and on a slow machine not @less_ns. */
static void
sleeps_check(uint64_t least_ns, uint64_t less_ns)
{
	uint64_t from = now_ns(), took;

	stats[HFB_STAT_SLEEPS] = 0;
	while (stats[HFB_STAT_SLEEPS] < 40)
		hfb_idle_turn(&core, 0);
	took = now_ns() - from;
	CU_ASSERT_TRUE(took >= 40 * least_ns * 9 / 10);
	CU_ASSERT_TRUE(took < 40 * less_ns);
	if (took < 40 * least_ns * 9 / 10 || took >= 40 * less_ns)
		fprintf(stderr, "40 sleeps of %lu us took %lu us\n", (unsigned long)least_ns / 1000,
			(unsigned long)took / 1000);
}

static void
test_ports_are_looked_at(void)
{
	uint64_t queue_stats[2][HFB_QUEUE_STATS_COUNT] = { 0 };

	core_make(HFB_IDLE_ADAPTIVE);
	core.queues_count = 1;
	core.queues[0].stats = queue_stats[0];
	core.queues[1].stats = queue_stats[1];
	core.queues[1].port = 1;
	core.now_ns = 5 * (uint64_t)HFB_IDLE_SILENCE_NS;
	/* before they are started */
	sleeps_check(HFB_IDLE_SLEEP_NS, 100ull * HFB_IDLE_SLEEP_NS);

	/* nothing for a second, then a packet just now, and a link that goes */
	core.ports_live = true;
	sleeps_check(HFB_IDLE_SLEEP_SILENT_NS, HFB_IDLE_SLEEP_NS);
	queue_stats[0][HFB_QUEUE_STAT_LAST_PACKET_NS] = core.now_ns;
	sleeps_check(HFB_IDLE_SLEEP_PORTS_NS, HFB_IDLE_SLEEP_NS);
	node.ports[0].link_down = true;
	sleeps_check(HFB_IDLE_SLEEP_PORTS_NS, HFB_IDLE_SLEEP_NS);
	core.now_ns += HFB_IDLE_SILENCE_NS;
	sleeps_check(HFB_IDLE_SLEEP_DOWN_NS, HFB_IDLE_SLEEP_NS);

	/* the most urgent of its ports decides */
	core.queues_count = 2;
	sleeps_check(HFB_IDLE_SLEEP_SILENT_NS, HFB_IDLE_SLEEP_NS);
	node.ports[1].link_down = true;
	sleeps_check(HFB_IDLE_SLEEP_DOWN_NS, HFB_IDLE_SLEEP_NS);
	node.ports[0].link_down = false;
	sleeps_check(HFB_IDLE_SLEEP_SILENT_NS, HFB_IDLE_SLEEP_NS);
	core_drop();
}

static void
test_work_puts_sleep_off(void)
{
	core_make(HFB_IDLE_ADAPTIVE);
	for (uint32_t i = 0; i < 100; i++) {
		hfb_idle_turn(&core, 0);
		hfb_idle_turn(&core, 1);
	}
	CU_ASSERT_EQUAL(stats[HFB_STAT_SLEEPS], 0);
	core_drop();
}

static void *
idler(void *arg)
{
	void *object;

	while (!__atomic_load_n((bool *)arg, __ATOMIC_ACQUIRE)) {
		uint32_t n = hfb_spsc_pop(core.commands, &object, 1);

		if (n > 0)
			__atomic_fetch_add((uint64_t *)object, 1, __ATOMIC_RELEASE);
		hfb_idle_turn(&core, 0); /* asleep soon after each, whatever came */
	}
	return NULL;
}

static void
test_no_wake_up_is_lost(void)
{
	const uint64_t rounds = 2000;
	uint64_t done = 0, slow = 0;
	void *object = &done;
	bool stop = false;
	pthread_t thread;

	core_make(HFB_IDLE_ADAPTIVE);
	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, idler, &stop), 0);
	for (uint64_t i = 0; i < rounds; i++) {
		uint64_t from = now_ns();

		/* at another moment of its falling asleep each time */
		for (uint64_t spin = 0; spin < (i % 64) * 50; spin++)
			__asm__ volatile("");
		CU_ASSERT_EQUAL(hfb_spsc_push(core.commands, &object, 1), 1);
		hfb_core_wake(&core);
		while (__atomic_load_n(&done, __ATOMIC_ACQUIRE) == i)
			;
		slow += now_ns() - from > HFB_IDLE_SLEEP_NS * 8 / 10;
	}
	/* a lost one waits out the whole sleep; the machine may be slow a few times by itself */
	CU_ASSERT_TRUE(slow < rounds / 50);
	if (slow >= rounds / 50)
		fprintf(stderr, "%lu of %lu wake-ups took a whole sleep\n", (unsigned long)slow,
			(unsigned long)rounds);
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	core_drop();
}

static void
test_a_watched_descriptor_wakes_once_a_write(void)
{
	uint64_t one = 1, from;
	int fd = eventfd(0, EFD_NONBLOCK);

	core_make(HFB_IDLE_ADAPTIVE);
	CU_ASSERT_EQUAL(hfb_idle_watch(&core, fd), 0);
	/* written and never read: it must not keep the core from sleeping its time out */
	CU_ASSERT_EQUAL(write(fd, &one, sizeof(one)), 8);
	from = now_ns();
	while (stats[HFB_STAT_SLEEPS] < 11)
		hfb_idle_turn(&core, 0);
	CU_ASSERT_TRUE(now_ns() - from > 10ull * HFB_IDLE_SLEEP_NS * 9 / 10);
	/* and it wakes again each time */
	stats[HFB_STAT_SLEEPS] = 0;
	from = now_ns();
	for (uint32_t i = 0; i < 10; i++) {
		CU_ASSERT_EQUAL(write(fd, &one, sizeof(one)), 8);
		while (stats[HFB_STAT_SLEEPS] == i)
			hfb_idle_turn(&core, 0);
	}
	CU_ASSERT_TRUE(now_ns() - from < 10ull * HFB_IDLE_SLEEP_NS / 2);
	hfb_idle_unwatch(&core, fd);
	CU_ASSERT_EQUAL(hfb_idle_watch(&core, -1), -EBADF);
	close(fd);
	core_drop();
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "busy never sleeps", test_busy_never_sleeps },
		{ "adaptive sleeps as long as it may", test_adaptive_sleeps_as_long_as_it_may },
		{ "ports are looked at, by what they do", test_ports_are_looked_at },
		{ "work puts sleep off", test_work_puts_sleep_off },
		{ "no wake-up is lost", test_no_wake_up_is_lost },
		{ "a watched descriptor wakes once a write",
		  test_a_watched_descriptor_wakes_once_a_write },
		CU_TEST_INFO_NULL,
	};

	hfb_clock_start();
	return hfb_test_main("idle", tests);
}
