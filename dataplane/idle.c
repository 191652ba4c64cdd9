/* SPDX-License-Identifier: Apache-2.0 */
#include "idle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <rte_pause.h>

#include "clock.h"
#include "core.h"
#include "local.h"
#include "wake.h"

struct hfb_idle_state {
	enum hfb_idle mode;
	int epoll_fd;
	uint32_t pauses;	     /* of the next ramp step */
	uint64_t idle_since_tsc;     /* 0: the last turn had work */
	uint64_t spin_tsc, ramp_tsc; /* the constants above */
	uint64_t settle_tsc;	     /* HFB_WAKE_SETTLE_NS */
	bool slack_set;
	bool refused; /* a port had packets, and the turn since took none */
};

int
hfb_idle_watch(struct hfb_core *core, int fd)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.fd = fd };

	return epoll_ctl(core->idle->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

void
hfb_idle_unwatch(struct hfb_core *core, int fd)
{
	epoll_ctl(core->idle->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

int
hfb_idle_create(struct hfb_core *core, enum hfb_idle mode, struct hfb_err *err)
{
	struct hfb_idle_state *idle = calloc(1, sizeof(*idle));
	int r, fd;

	if (idle == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	idle->mode = mode;
	idle->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	core->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	core->idle = idle;
	if (idle->epoll_fd < 0 || core->wake_fd < 0) {
		r = hfb_err_set(err, -errno,
				"descriptors for poll core %u: %s; raise the limit on"
				" open files",
				core->id, strerror(errno));
		hfb_idle_destroy(core);
		return r;
	}
	r = hfb_idle_watch(core, core->wake_fd);
	fd = core->writer == NULL ? -1 : hfb_writer_eventfd(core->writer);
	if (r == 0 && fd >= 0)
		r = hfb_idle_watch(core, fd);
	if (r < 0) {
		hfb_err_set(err, r, "epoll for poll core %u: %s", core->id, strerror(-r));
		hfb_idle_destroy(core);
		return r;
	}
	idle->spin_tsc = hfb_clock_tsc_hz() / 1000000u * (HFB_IDLE_SPIN_NS / 1000u);
	idle->ramp_tsc = hfb_clock_tsc_hz() / 1000000u * (HFB_IDLE_RAMP_NS / 1000u);
	idle->settle_tsc = hfb_clock_tsc_hz() / 1000000u * (HFB_WAKE_SETTLE_NS / 1000u);
	return 0;
}

void
hfb_idle_destroy(struct hfb_core *core)
{
	if (core->idle == NULL)
		return;
	if (core->idle->epoll_fd >= 0)
		close(core->idle->epoll_fd);
	if (core->wake_fd >= 0)
		close(core->wake_fd);
	core->wake_fd = -1;
	free(core->idle);
	core->idle = NULL;
}

void
hfb_core_wake(struct hfb_core *core)
{
	uint64_t one = 1;

	/* pairs with the fence in idle_sleep(): our work is visible, or we see it sleep */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&core->sleeping, __ATOMIC_RELAXED) != 0) {
		ssize_t n = write(core->wake_fd, &one, sizeof(one));

		(void)n; /* full: it is readable anyway */
	}
}

/* Has anyone who would have to wake us made work visible? */
static bool
idle_work_waits(const struct hfb_core *core)
{
	if (hfb_spsc_waiting(core->commands))
		return true;
	for (uint32_t i = 0; i < core->node->cores_count; i++)
		if (core->in[i] != NULL && hfb_spsc_waiting(core->in[i]))
			return true;
	return hfb_local_work_waits(core);
}

/* How long a queue that does not wake us may go without being looked at. */
static uint64_t
queue_sleep_max_ns(const struct hfb_core *core, const struct hfb_queue *queue)
{
	const struct hfb_port *port = &core->node->ports[queue->port];

	/* first of all what it does: not every driver tells the truth about its link */
	if (core->now_ns - queue->stats[HFB_QUEUE_STAT_LAST_PACKET_NS] < HFB_IDLE_SILENCE_NS)
		return HFB_IDLE_SLEEP_PORTS_NS;
	if (__atomic_load_n(&port->link_down, __ATOMIC_RELAXED))
		return HFB_IDLE_SLEEP_DOWN_NS;
	return HFB_IDLE_SLEEP_SILENT_NS;
}

static bool
queue_can_wake(const struct hfb_core *core, const struct hfb_queue *queue)
{
	const struct hfb_port *port = &core->node->ports[queue->port];

	return port->wakes && !__atomic_load_n(&port->link_down, __ATOMIC_RELAXED) &&
	       core->now_ns - queue->stats[HFB_QUEUE_STAT_LAST_PACKET_NS] >= HFB_IDLE_WAKE_NS;
}

/*
 * How long it may sleep, and into *@ret_wakers the queues that are to wake it, a bit each: all
 * but those that it sleeps past for as long anyway, or none.
 */
static uint64_t
idle_sleep_max_ns(const struct hfb_core *core, uint32_t *ret_wakers)
{
	uint64_t most = HFB_IDLE_SLEEP_NS, look;
	uint32_t wakers = 0;

	*ret_wakers = 0;
	if (core->writer != NULL && hfb_writer_busy(core->writer))
		return HFB_IDLE_SLEEP_PORTS_NS;
	if (core->partitions_count > 0 || hfb_local_count(core) > 0 || core->detaching != NULL)
		most = HFB_IDLE_SLEEP_LOCALS_NS;
	look = most;
	for (uint32_t i = 0; core->ports_live && i < core->queues_count; i++) {
		uint64_t ns = queue_sleep_max_ns(core, &core->queues[i]);

		if (queue_can_wake(core, &core->queues[i]))
			wakers |= 1u << i;
		else if (ns < most)
			most = ns;
		if (ns < look)
			look = ns;
	}
	/* what stays in a port for want of room or buffers would wake it without end */
	if (wakers == 0 || most <= look || core->idle->refused || hfb_feed_paused(core))
		return look;
	*ret_wakers = wakers;
	/* one that has no link yet, or a wake-up that got lost after all */
	return most < HFB_IDLE_SLEEP_WAKE_NS ? most : HFB_IDLE_SLEEP_WAKE_NS;
}

static void
wakers_disarm(struct hfb_core *core, uint32_t wakers)
{
	for (; wakers != 0; wakers &= wakers - 1)
		hfb_wake_disarm(&core->queues[__builtin_ctz(wakers)]);
}

/* False: one of them has no peer, or no descriptor that can be waited for; none is armed. */
static bool
wakers_arm(struct hfb_core *core, uint32_t wakers)
{
	uint64_t from;

	for (uint32_t left = wakers; left != 0; left &= left - 1) {
		int fd = hfb_wake_arm(&core->queues[__builtin_ctz(left)]);
		int r = fd < 0 ? fd : hfb_idle_watch(core, fd);

		/* a new connection has a new descriptor, and the kernel knows best which it has */
		if (r < 0 && r != -EEXIST) {
			wakers_disarm(core, wakers);
			return false;
		}
	}
	from = hfb_clock_tsc();
	while (wakers != 0 && hfb_clock_tsc() - from < core->idle->settle_tsc)
		rte_pause();
	return true;
}

static bool
wakers_wait(const struct hfb_core *core, uint32_t wakers)
{
	for (; wakers != 0; wakers &= wakers - 1)
		if (hfb_wake_waits(&core->queues[__builtin_ctz(wakers)]))
			return true;
	return false;
}

static void
idle_sleep(struct hfb_core *core)
{
	struct hfb_idle_state *idle = core->idle;
	struct epoll_event events[8];
	struct timespec most = { 0 };
	uint64_t from = hfb_clock_tsc();
	uint32_t wakers;

	if (!idle->slack_set) {
		/* the default of 50 us would be a fifth of the longest sleep with ports */
		prctl(PR_SET_TIMERSLACK, 1000ul, 0, 0, 0);
		idle->slack_set = true;
	}
	most.tv_nsec = (long)idle_sleep_max_ns(core, &wakers);
	if (!wakers_arm(core, wakers)) {
		wakers = 0;
		if (most.tv_nsec > (long)HFB_IDLE_SLEEP_SILENT_NS)
			most.tv_nsec = (long)HFB_IDLE_SLEEP_SILENT_NS;
	}
	__atomic_store_n(&core->sleeping, 1, __ATOMIC_RELAXED);
	hfb_local_sleeping(core, 1);
	/* pairs with the fences of hfb_core_wake() and of a local client's send */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	idle->refused = wakers_wait(core, wakers);
	if (!idle->refused && !idle_work_waits(core)) {
		epoll_pwait2(idle->epoll_fd, events, 8, &most, NULL);
		core->stats[HFB_STAT_SLEEPS]++;
		core->stats[HFB_STAT_SLEEPS_WAKEABLE] += wakers != 0;
	}
	__atomic_store_n(&core->sleeping, 0, __ATOMIC_RELAXED);
	hfb_local_sleeping(core, 0);
	wakers_disarm(core, wakers);
	core->stats[HFB_STAT_SLEEP_TSC] += hfb_clock_tsc() - from;
}

bool
hfb_idle_turn(struct hfb_core *core, uint32_t work)
{
	struct hfb_idle_state *idle = core->idle;
	uint64_t now, since;

	if (work > 0) {
		idle->idle_since_tsc = 0;
		idle->refused = false;
		return false;
	}
	/* not even a pause: it takes 50 ns, and the core is nobody else's */
	if (idle->mode == HFB_IDLE_BUSY)
		return false;
	now = hfb_clock_tsc();
	if (idle->idle_since_tsc == 0) {
		idle->idle_since_tsc = now;
		idle->pauses = 1;
	}
	since = now - idle->idle_since_tsc;
	if (since < idle->spin_tsc) {
		rte_pause();
	} else if (since < idle->ramp_tsc) {
		for (uint32_t i = 0; i < idle->pauses; i++)
			rte_pause();
		if (idle->pauses < 64)
			idle->pauses *= 2;
	} else {
		idle_sleep(core);
	}
	return true;
}
