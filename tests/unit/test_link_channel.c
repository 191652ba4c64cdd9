/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client's end of a shared-memory channel.
 *
 * Goal:   frames of all sizes arrive whole and in order over many laps; a full ring is
 *	   back-pressure; a sleeping core is woken; a core gone mad harms nobody.
 * Method: the core's end is a few lines here over the same memory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <hfbus/shm.h>

#include "hfb_test_main.h"
#include "link.h"

#define RING_BYTES 16384u
#define BYTES	   (4096u + to_core_bytes + RING_BYTES)
#define SESSION	   0x0300000000000007ull

static uint32_t to_core_bytes = RING_BYTES;

struct end {
	struct hfb_channel *shared;
	int memfd, eventfd;
	uint64_t head, tail;
};

static struct hfb_link *
channel_open(struct end *core)
{
	struct hfb_link *link = NULL;
	struct hfb_err err;

	memset(core, 0, sizeof(*core));
	core->memfd = memfd_create("channel", MFD_CLOEXEC);
	CU_ASSERT_EQUAL_FATAL(ftruncate(core->memfd, BYTES), 0);
	core->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	core->shared = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, core->memfd, 0);
	CU_ASSERT_NOT_EQUAL_FATAL(core->shared, MAP_FAILED);
	core->shared->magic = HFB_CHANNEL_MAGIC;
	core->shared->version = 1;
	core->shared->to_core_offset = 4096;
	core->shared->to_core_bytes = to_core_bytes;
	core->shared->to_client_offset = 4096 + to_core_bytes;
	core->shared->to_client_bytes = RING_BYTES;
	core->shared->session = SESSION;
	core->shared->core = 3;
	CU_ASSERT_EQUAL_FATAL(
		hfb_link_channel_attach(dup(core->memfd), dup(core->eventfd), BYTES, &link, &err),
		0);
	CU_ASSERT_EQUAL(link->session, SESSION);
	CU_ASSERT_EQUAL(link->core, 3);
	return link;
}

static void
channel_close(struct end *core, struct hfb_link *link)
{
	hfb_link_close(link);
	munmap(core->shared, BYTES);
	close(core->memfd);
	close(core->eventfd);
}

/* The next frame for the core; 0 none. */
static uint32_t
core_take(struct end *core, uint8_t *to)
{
	uint8_t *ring = (uint8_t *)core->shared + core->shared->to_core_offset;
	uint64_t tail = __atomic_load_n(&core->shared->to_core_tail, __ATOMIC_ACQUIRE);
	uint32_t size;

	while (core->head != tail) {
		uint64_t at = core->head % to_core_bytes;

		memcpy(&size, ring + at, 4);
		if (size == HFB_CHANNEL_WRAP) {
			core->head += to_core_bytes - at;
			continue;
		}
		CU_ASSERT_TRUE_FATAL(at + 8 + size <= to_core_bytes);
		memcpy(to, ring + at + 8, size);
		core->head += 8 + ((size + 7) & ~7ull);
		__atomic_store_n(&core->shared->to_core_head, core->head, __ATOMIC_RELEASE);
		return size;
	}
	return 0;
}

static void
core_give(struct end *core, const struct hfb_frame *frame, uint32_t size, uint8_t fill)
{
	uint8_t *ring = (uint8_t *)core->shared + core->shared->to_client_offset;
	uint64_t need = 8 + ((size + 7) & ~7ull), to_end = RING_BYTES - core->tail % RING_BYTES;
	uint32_t prefix[2] = { size, 0 }, wrap = HFB_CHANNEL_WRAP;

	if (to_end < need) {
		memcpy(ring + core->tail % RING_BYTES, &wrap, 4);
		core->tail += to_end;
	}
	memcpy(ring + core->tail % RING_BYTES, prefix, 8);
	memset(ring + core->tail % RING_BYTES + 8, fill, size);
	memcpy(ring + core->tail % RING_BYTES + 8, frame, sizeof(*frame));
	core->tail += need;
	__atomic_store_n(&core->shared->to_client_tail, core->tail, __ATOMIC_RELEASE);
}

static void
test_frames_arrive_in_order(void)
{
	struct end core;
	struct hfb_link *link = channel_open(&core);
	uint8_t body[RING_BYTES], got[RING_BYTES];
	uint64_t sent = 0, taken = 0;
	uint32_t sizes[4096];

	while (taken < 4000) {
		struct hfb_frame head;

		while (sent - taken < 100 && sent < 4000) {
			uint32_t size = (uint32_t)(hfb_test_random() % 3000);
			int r;

			memset(body, (int)(sent & 0xff), size);
			r = hfb_link_send(link, HFB_FRAME_PRODUCE, &head, sizeof(head), body, size);
			if (r == -EAGAIN)
				break;
			CU_ASSERT_EQUAL_FATAL(r, 0);
			sizes[sent++] = size;
		}
		CU_ASSERT_TRUE_FATAL(sent > taken);
		/* nothing is seen before the kick, unless an earlier one told of it */
		hfb_link_kick(link);
		for (uint64_t n = 1 + hfb_test_random() % (sent - taken); n > 0; n--) {
			uint32_t size = core_take(&core, got);

			CU_ASSERT_EQUAL_FATAL(size, sizeof(head) + sizes[taken]);
			memcpy(&head, got, sizeof(head));
			CU_ASSERT_EQUAL_FATAL(head.session, SESSION);
			CU_ASSERT_EQUAL_FATAL(head.packet, taken + 1);
			for (uint32_t i = sizeof(head); i < size; i++)
				CU_ASSERT_EQUAL_FATAL(got[i], taken & 0xff);
			taken++;
		}
	}
	channel_close(&core, link);
}

static void
test_full_and_too_large(void)
{
	struct end core;
	struct hfb_link *link = channel_open(&core);
	uint8_t body[RING_BYTES] = { 0 };
	struct hfb_frame head;
	int n = 0, r;

	CU_ASSERT_EQUAL(
		hfb_link_send(link, HFB_FRAME_PRODUCE, &head, sizeof(head), body, RING_BYTES),
		-EMSGSIZE);
	while ((r = hfb_link_send(link, HFB_FRAME_PRODUCE, &head, sizeof(head), body, 1000)) == 0)
		n++;
	CU_ASSERT_EQUAL(r, -EAGAIN);
	CU_ASSERT_TRUE(n >= 14);
	CU_ASSERT_EQUAL(link->packet, (uint64_t)n); /* a refused one has no number */
	hfb_link_kick(link);
	/* the largest goes into an empty ring wherever its end is */
	for (uint32_t lap = 0; lap < 50; lap++) {
		while (core_take(&core, body) > 0)
			;
		CU_ASSERT_EQUAL(hfb_link_send(link, HFB_FRAME_PRODUCE, &head, sizeof(head), body,
					      link->frame_bytes_max - sizeof(head)),
				0);
		hfb_link_kick(link);
		CU_ASSERT_EQUAL(core_take(&core, body), link->frame_bytes_max);
		CU_ASSERT_EQUAL(
			hfb_link_send(link, HFB_FRAME_PRODUCE, &head, sizeof(head), body, 8 * lap),
			0);
		hfb_link_kick(link);
	}
	channel_close(&core, link);
}

static void
test_a_sleeping_core_is_woken(void)
{
	struct end core;
	struct hfb_link *link = channel_open(&core);
	struct hfb_frame head;
	uint64_t count;

	hfb_link_send(link, HFB_FRAME_PRODUCE, &head, sizeof(head), NULL, 0);
	hfb_link_kick(link);
	CU_ASSERT_EQUAL(read(core.eventfd, &count, 8), -1); /* awake: no system call */
	core.shared->core_sleeps = 1;
	hfb_link_kick(link); /* nothing new */
	CU_ASSERT_EQUAL(read(core.eventfd, &count, 8), -1);
	hfb_link_send(link, HFB_FRAME_PRODUCE, &head, sizeof(head), NULL, 0);
	hfb_link_kick(link);
	CU_ASSERT_EQUAL(read(core.eventfd, &count, 8), 8);
	channel_close(&core, link);
}

static void
test_answers_and_foreign_frames(void)
{
	struct end core;
	struct hfb_link *link = channel_open(&core);
	struct hfb_frame frame = { .magic = HFB_WIRE_MAGIC,
				   .version = HFB_WIRE_VERSION,
				   .type = HFB_FRAME_ACK,
				   .session = SESSION };
	const uint8_t *got;
	uint32_t size;

	for (uint32_t i = 0; i < 2000; i++) {
		uint32_t n = (uint32_t)(sizeof(frame) + hfb_test_random() % 2000);
		struct hfb_frame foreign = frame;

		foreign.session = 12345;
		core_give(&core, &foreign, n, 0xee); /* passed over */
		frame.packet = i;
		core_give(&core, &frame, n, (uint8_t)i);
		CU_ASSERT_EQUAL_FATAL(hfb_link_receive(link, &got, &size), 1);
		CU_ASSERT_EQUAL_FATAL(size, n);
		for (uint32_t k = sizeof(frame); k < size; k++)
			CU_ASSERT_EQUAL_FATAL(got[k], (uint8_t)i);
		CU_ASSERT_EQUAL_FATAL(hfb_link_receive(link, &got, &size), 0);
		/* all is given back */
		CU_ASSERT_EQUAL_FATAL(core.shared->to_client_head, core.shared->to_client_tail);
	}
	channel_close(&core, link);
}

static void
test_little_on_the_way_stays_at_the_start(void)
{
	struct hfb_frame_produce head;
	struct hfb_link *link;
	uint8_t body[8192], got[16384];
	uint64_t farthest = 0, sent = 0, size;
	struct end core;

	to_core_bytes = 1u << 20;
	link = channel_open(&core);
	memset(body, 1, sizeof(body));
	for (uint32_t i = 0; i < 2000; i++) {
		memset(&head, 0, sizeof(head));
		CU_ASSERT_EQUAL_FATAL(hfb_link_send(link, HFB_FRAME_PRODUCE, &head, sizeof(head),
						    body, 8 * (hfb_test_random() % 1000)),
				      0);
		hfb_link_show(link);
		if (core.shared->to_core_tail % to_core_bytes > farthest)
			farthest = core.shared->to_core_tail % to_core_bytes;
		/* two on the way */
		if (i >= 2)
			CU_ASSERT_TRUE_FATAL(core_take(&core, got) > 0);
	}
	CU_ASSERT_TRUE(farthest > 200000 && farthest < 300000);
	while (core_take(&core, got) > 0)
		;
	/* nothing is taken: all of the ring but what a lap leaves is there */
	while (hfb_link_send(link, HFB_FRAME_PRODUCE, &head, sizeof(head), body, 4096) == 0)
		sent++;
	CU_ASSERT_TRUE(sent * 4160 > to_core_bytes - 300000);
	hfb_link_show(link);
	while ((size = core_take(&core, got)) > 0) {
		CU_ASSERT_EQUAL_FATAL(size, sizeof(head) + 4096);
		sent--;
	}
	CU_ASSERT_EQUAL(sent, 0);
	channel_close(&core, link);
	to_core_bytes = RING_BYTES;
}

static void
test_a_core_gone_mad(void)
{
	static const uint64_t tails[] = { RING_BYTES + 8, UINT64_MAX, 1ull << 63 };
	static const uint32_t sizes[] = { 17000, 0x7fffffff, 0xfffffff0, 100 };
	const uint8_t *got;
	struct end core;
	uint32_t size;

	for (size_t i = 0; i < sizeof(tails) / sizeof(tails[0]); i++) {
		struct hfb_link *link = channel_open(&core);

		core.shared->to_client_tail = tails[i];
		CU_ASSERT_EQUAL(hfb_link_receive(link, &got, &size), -ENOTCONN);
		channel_close(&core, link);
	}
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct hfb_link *link = channel_open(&core);

		memcpy((uint8_t *)core.shared + core.shared->to_client_offset, &sizes[i], 4);
		core.shared->to_client_tail = 64;
		CU_ASSERT_EQUAL(hfb_link_receive(link, &got, &size), -ENOTCONN);
		channel_close(&core, link);
	}
}

static void
test_a_layout_that_lies_is_refused(void)
{
	struct hfb_link *link = NULL;
	struct hfb_err err;
	struct end core;

	for (int i = 0; i < 7; i++) {
		struct hfb_link *good = channel_open(&core);
		struct hfb_channel *c = core.shared;
		uint64_t bytes = BYTES;

		switch (i) {
		case 0:
			c->magic++;
			break;
		case 1:
			c->version = 2;
			break;
		case 2:
			c->incompatible = 1;
			break;
		case 3:
			c->to_core_bytes = 12345;
			break;
		case 4:
			c->to_client_bytes = 1u << 20;
			break;
		case 5:
			c->to_core_offset = 64;
			break;
		default:
			bytes = BYTES * 2;
		}
		CU_ASSERT_EQUAL(
			hfb_link_channel_attach(core.memfd, core.eventfd, bytes, &link, &err),
			-EPROTO);
		CU_ASSERT_PTR_NULL(link);
		channel_close(&core, good);
	}
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "frames arrive in order over many laps", test_frames_arrive_in_order },
		{ "a full ring is back-pressure, the largest frame fits", test_full_and_too_large },
		{ "a sleeping core is woken, an awake one is not", test_a_sleeping_core_is_woken },
		{ "answers are lent and given back, foreign ones passed over",
		  test_answers_and_foreign_frames },
		{ "while little is on the way it stays at the ring's start",
		  test_little_on_the_way_stays_at_the_start },
		{ "a core gone mad is taken for gone", test_a_core_gone_mad },
		{ "a layout that lies is refused", test_a_layout_that_lies_is_refused },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("link_channel", tests);
}
