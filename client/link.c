/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link.c - what both kinds of link share: headers of frames, and idling.
 */
#include "link.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <time.h>

#define SPINS	       200u
#define YIELDS	       50u
#define SLEEP_FIRST_NS 20000ull
#define SLEEP_LAST_NS  500000ull

int
hfb_link_send(struct hfb_link *link, uint8_t type, void *head, size_t head_size, const void *body,
	      size_t body_size)
{
	struct hfb_frame frame = {
		.magic = HFB_WIRE_MAGIC,
		.version = HFB_WIRE_VERSION,
		.type = type,
		.session = link->session,
		.packet = link->packet + 1,
	};
	int r;

	if (head_size + body_size > link->frame_bytes_max)
		return -EMSGSIZE;
	memcpy(head, &frame, sizeof(frame));
	r = link->ops->send(link, head, head_size, body, body_size);
	if (r == 0)
		link->packet++;
	return r;
}

void
hfb_link_show(struct hfb_link *link)
{
	if (link->ops->show != NULL)
		link->ops->show(link);
}

void
hfb_link_kick(struct hfb_link *link)
{
	if (link->ops->kick != NULL)
		link->ops->kick(link);
}

int
hfb_link_receive(struct hfb_link *link, const uint8_t **ret_frame, uint32_t *ret_size)
{
	struct hfb_frame head;
	int r;

	/* each turn takes one frame away, so a flood of bad ones ends with the ring's or socket's
	 */
	while ((r = link->ops->receive(link, ret_frame, ret_size)) == 1) {
		if (*ret_size < sizeof(head))
			continue;
		memcpy(&head, *ret_frame, sizeof(head));
		if (head.magic != HFB_WIRE_MAGIC || head.version != HFB_WIRE_VERSION ||
		    head.flags != 0 || head.incompatible != 0)
			continue;
		if (head.session != link->session && head.session != 0)
			continue;
		return 1;
	}
	return r;
}

void
hfb_link_close(struct hfb_link *link)
{
	if (link != NULL)
		link->ops->close(link);
}

void
hfb_idle_wait(struct hfb_idle_wait *idle, struct hfb_link *link, uint64_t limit_ns)
{
	uint64_t ns;

	if (limit_ns == 0)
		return;
	idle->rounds++;
	if (idle->rounds <= SPINS) {
#if defined(__x86_64__)
		__builtin_ia32_pause();
#endif
		return;
	}
	if (idle->rounds <= SPINS + YIELDS) {
		sched_yield();
		return;
	}
	if (link != NULL && link->ops->wait != NULL) {
		link->ops->wait(link, limit_ns < 20000000ull ? limit_ns : 20000000ull);
		return;
	}
	ns = SLEEP_FIRST_NS * (idle->rounds - SPINS - YIELDS);
	if (ns > SLEEP_LAST_NS)
		ns = SLEEP_LAST_NS;
	if (ns > limit_ns)
		ns = limit_ns;
	nanosleep(&(struct timespec){ .tv_nsec = (long)ns }, NULL);
}
