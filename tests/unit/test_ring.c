/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ring's memory.
 *
 * Goal:   a byte behind the end is the byte at the start; nobody else can write
 *	   or resize it; a refused call leaves nothing behind.
 * Method: look at both mappings, map the descriptor anew, fail each call in turn.
 */
#include "ring.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <hfbus/limits.h>

#include "fault.h"
#include "hfb_test_main.h"

static void
test_it_is_mapped_twice(void)
{
	struct hfb_ring_config config = { .size = HFB_RING_BYTES_MIN, .generation = 3 };
	struct hfb_ring *ring = NULL;
	struct hfb_err err;

	CU_ASSERT_EQUAL_FATAL(hfb_ring_create(&config, &ring, &err), 0);
	CU_ASSERT_EQUAL(ring->generation, 3);
	memset(ring->bytes + ring->size - 8, 0x5a, 16);
	CU_ASSERT_EQUAL(ring->bytes[0], 0x5a);
	CU_ASSERT_EQUAL(ring->bytes[7], 0x5a);
	CU_ASSERT_EQUAL(ring->bytes[8], 0);
	ring->bytes[100] = 7;
	CU_ASSERT_EQUAL(ring->bytes[ring->size + 100], 7);
	hfb_ring_destroy(ring);
	hfb_ring_destroy(NULL);
}

static void
test_others_can_only_read_it(void)
{
	struct hfb_ring_config config = { .size = HFB_RING_BYTES_MIN, .populate = true };
	struct hfb_ring *ring = NULL;
	struct hfb_err err;
	uint8_t *seen;

	CU_ASSERT_EQUAL_FATAL(hfb_ring_create(&config, &ring, &err), 0);
	CU_ASSERT_TRUE(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, 0) ==
		       MAP_FAILED);
	CU_ASSERT_EQUAL(ftruncate(ring->fd, 4096), -1);
	CU_ASSERT_EQUAL(ftruncate(ring->fd, 2 * HFB_RING_BYTES_MIN), -1);
	CU_ASSERT_EQUAL(pwrite(ring->fd, "x", 1, 0), -1);
	seen = mmap(NULL, ring->size, PROT_READ, MAP_SHARED, ring->fd, 0);
	CU_ASSERT_TRUE_FATAL(seen != MAP_FAILED);
	ring->bytes[5000] = 9;
	CU_ASSERT_EQUAL(seen[5000], 9);
	CU_ASSERT_EQUAL(mprotect(seen, ring->size, PROT_READ | PROT_WRITE), -1);
	munmap(seen, ring->size);
	hfb_ring_destroy(ring);
}

static void
test_the_ones_before_go_with_it(void)
{
	struct hfb_ring_config config = { .size = HFB_RING_BYTES_MIN, .generation = 1 };
	struct hfb_ring *first = NULL, *second = NULL;
	struct hfb_err err;
	int fd;

	CU_ASSERT_EQUAL_FATAL(hfb_ring_create(&config, &first, &err), 0);
	config.size *= 4;
	config.hugepages = true; /* with or without any */
	CU_ASSERT_EQUAL_FATAL(hfb_ring_create(&config, &second, &err), 0);
	second->previous = first;
	fd = first->fd;
	hfb_ring_destroy(second);
	CU_ASSERT_EQUAL(fcntl(fd, F_GETFD), -1);
}

static void
test_each_refused_call_leaves_nothing(void)
{
	struct hfb_ring_config config = { .size = HFB_RING_BYTES_MIN };
	bool spent = true;
	uint32_t step;

	for (step = 0; spent && step < 64; step++) {
		struct hfb_ring *ring = NULL;
		struct hfb_err err = { 0 };
		int before = dup(0), after, r;

		close(before);
		hfb_fault_arm(step);
		r = hfb_ring_create(&config, &ring, &err);
		spent = hfb_fault_disarm();
		CU_ASSERT_EQUAL(r < 0, spent);
		CU_ASSERT_EQUAL(ring == NULL, spent);
		CU_ASSERT_EQUAL(err.text[0] != '\0', spent);
		hfb_ring_destroy(ring);
		after = dup(0);
		close(after);
		CU_ASSERT_EQUAL(after, before); /* the same lowest free descriptor */
	}
	CU_ASSERT_TRUE(step > 5);
	CU_ASSERT_FALSE(spent);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "it is mapped twice in a row", test_it_is_mapped_twice },
		{ "others can only read it", test_others_can_only_read_it },
		{ "the ones before it go with it", test_the_ones_before_go_with_it },
		{ "each refused call leaves nothing", test_each_refused_call_leaves_nothing },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("ring", tests);
}
