/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handover.c - mbufs for a partition (or a port queue) of another core.
 *
 *	core 0  out[1] ──► SPSC ring of mbuf pointers ──► in[0]  core 1
 *
 * What the other core must know travels in the mbuf's private area. A full ring
 * drops: a core never waits for another.
 */
#include <rte_mbuf.h>

#include "bug.h"
#include "core.h"
#include "node.h"

bool
hfb_handover(struct hfb_core *core, uint16_t to_core, uint16_t kind,
	     const struct hfb_packet *packet, uint32_t handle, uint64_t session, uint16_t feed_line)
{
	struct rte_mbuf *mbuf = packet->mbuf;
	struct hfb_mbuf_private *private = hfb_mbuf_private(mbuf);
	void *object = mbuf;

	hfb_assert(to_core != core->id);
	hfb_assert(to_core < core->node->cores_count);
	private->kind = kind;
	private->from_core = core->id;
	private->feed_line = feed_line;
	private->reserved = 0;
	private->handle = handle;
	private->ticks = hfb_stage_ticks(core->times.turn_tsc);
	private->session = session;
	private->packet = *packet;
	if (hfb_spsc_push(core->out[to_core], &object, 1) == 0) {
		rte_pktmbuf_free(mbuf);
		hfb_drop(core, HFB_STAT_DROP_HANDOVER_FULL);
		return false;
	}
	core->handed_to |= 1ull << to_core;
	core->stats[HFB_STAT_HANDOVERS]++;
	return true;
}

static void
handed(struct hfb_core *core, struct rte_mbuf *mbuf)
{
	const struct hfb_mbuf_private *private = hfb_mbuf_private(mbuf);

	switch (private->kind) {
	case HFB_HANDED_TX:
		/* the port's one queue is ours: hfb_tx_raw() takes the mbuf */
		hfb_assert(core->queue_of_port[private->packet.port] != NULL);
		hfb_tx_raw(core, private->packet.port, mbuf);
		return;
	case HFB_HANDED_PRODUCE:
	case HFB_HANDED_SUBSCRIBE:
	case HFB_HANDED_CLOSE:
		hfb_session_handed(core, private);
		break;
	case HFB_HANDED_FEED:
		hfb_feed_handed(core, private);
		break;
	default:
		hfb_assert(!"an mbuf handed over for no known purpose");
	}
	rte_pktmbuf_free(mbuf);
}

/* How long they were on the way: those of one turn of the other core at once. */
static void
handed_times(struct hfb_core *core, void *const *mbufs, uint32_t n)
{
	uint32_t ticks = hfb_mbuf_private(mbufs[0])->ticks, same = 0;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t next = hfb_mbuf_private(mbufs[i])->ticks;

		if (next != ticks) {
			hfb_stage_time_record(&core->times, HFB_STAGE_TIME_HANDED,
					      hfb_stage_ticks_since(ticks, core->times.turn_tsc),
					      same);
			ticks = next;
			same = 0;
		}
		same++;
	}
	hfb_stage_time_record(&core->times, HFB_STAGE_TIME_HANDED,
			      hfb_stage_ticks_since(ticks, core->times.turn_tsc), same);
}

/* At most one burst from each core a turn. */
uint32_t
hfb_handover_poll(struct hfb_core *core)
{
	void *mbufs[HFB_BURST_MAX];
	uint32_t work = 0;

	for (uint32_t i = 0; i < core->node->cores_count; i++) {
		uint32_t n;

		if (core->in[i] == NULL)
			continue;
		n = hfb_spsc_pop(core->in[i], mbufs, HFB_BURST_MAX);
		if (n > 0)
			handed_times(core, mbufs, n);
		for (uint32_t j = 0; j < n; j++)
			handed(core, mbufs[j]);
		work += n;
	}
	return work;
}
