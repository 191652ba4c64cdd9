/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dedup tables.
 *
 * Goal:   each batch is judged right, whatever the table went through, and nobody
 *	   inside the window is ever evicted.
 * Method: verdicts one by one; then random work on two logs of one pool against a
 *	   plain model.
 */
#include <stdlib.h>
#include <string.h>

#include "dedup.h"
#include "hfb_test_main.h"

#define WINDOW 1000u

static struct hfb_dedup_pool *
pool_make(uint32_t max)
{
	size_t bytes = (hfb_dedup_pool_bytes(max) + 63) & ~(size_t)63;

	return hfb_dedup_pool_init(aligned_alloc(64, bytes), max, WINDOW);
}

static bool
note(struct hfb_dedup *d, uint64_t producer, uint16_t epoch, uint64_t next, uint64_t now)
{
	struct hfb_dedup_entry e = { .producer_id = producer,
				     .producer_epoch = epoch,
				     .next_sequence = next,
				     .last_ns = now };

	return hfb_dedup_note(d, &e);
}

static void
test_verdicts(void)
{
	struct hfb_dedup_pool *pool = pool_make(4);
	struct hfb_dedup d;
	uint64_t expected;

	hfb_dedup_init(&d, pool);
#define CHECK(producer, epoch, base, count)                                                        \
	hfb_dedup_check(&d, producer, epoch, base, count, 0, &expected)
	CU_ASSERT_EQUAL(CHECK(1, 0, 5, 1), HFB_SEQUENCE_UNKNOWN);
	CU_ASSERT_EQUAL(expected, 0);
	CU_ASSERT_EQUAL(CHECK(1, 0, 0, 10), HFB_SEQUENCE_NEXT);
	CU_ASSERT_TRUE(note(&d, 1, 3, 10, 1));
	CU_ASSERT_EQUAL(CHECK(1, 3, 10, 5), HFB_SEQUENCE_NEXT);
	CU_ASSERT_EQUAL(CHECK(1, 3, 0, 10), HFB_SEQUENCE_DUPLICATE);
	CU_ASSERT_EQUAL(CHECK(1, 3, 9, 1), HFB_SEQUENCE_DUPLICATE);
	CU_ASSERT_EQUAL(expected, 10);
	CU_ASSERT_EQUAL(CHECK(1, 3, 9, 2), HFB_SEQUENCE_GAP); /* overlaps */
	CU_ASSERT_EQUAL(CHECK(1, 3, 11, 1), HFB_SEQUENCE_GAP);
	CU_ASSERT_EQUAL(CHECK(1, 3, UINT64_MAX, UINT32_MAX), HFB_SEQUENCE_GAP);
	CU_ASSERT_EQUAL(CHECK(1, 2, 10, 1), HFB_SEQUENCE_FENCED);
	CU_ASSERT_EQUAL(expected, 0);
	CU_ASSERT_EQUAL(CHECK(1, 4, 0, 1), HFB_SEQUENCE_NEXT); /* starts again */
	CU_ASSERT_EQUAL(expected, 0);
	/* its first batch was lost: whatever the older epoch reached, none of this is there */
	CU_ASSERT_EQUAL(CHECK(1, 4, 10, 1), HFB_SEQUENCE_UNKNOWN);
	CU_ASSERT_EQUAL(CHECK(1, 4, 8, 2), HFB_SEQUENCE_UNKNOWN);
	CU_ASSERT_EQUAL(CHECK(1, 4, 12, 1), HFB_SEQUENCE_UNKNOWN);
	CU_ASSERT_EQUAL(expected, 0);
#undef CHECK
	hfb_dedup_fini(&d);
	CU_ASSERT_EQUAL(hfb_dedup_pool_used(pool), 0);
	free(pool);
}

static void
test_only_the_old_are_evicted(void)
{
	struct hfb_dedup_pool *pool = pool_make(3);
	struct hfb_dedup a, b;
	struct hfb_dedup_entry e;
	uint64_t expected;

	hfb_dedup_init(&a, pool);
	hfb_dedup_init(&b, pool);
	CU_ASSERT_TRUE(note(&a, 1, 0, 1, 100));
	CU_ASSERT_TRUE(note(&b, 1, 0, 7, 200)); /* the same producer elsewhere */
	CU_ASSERT_TRUE(note(&a, 2, 0, 1, 300));
	CU_ASSERT_EQUAL(hfb_dedup_check(&a, 3, 0, 0, 1, 100 + WINDOW, &expected),
			HFB_SEQUENCE_TOO_MANY);
	CU_ASSERT_FALSE(note(&a, 3, 0, 1, 100 + WINDOW));
	CU_ASSERT_EQUAL(hfb_dedup_check(&a, 3, 0, 0, 1, 101 + WINDOW, &expected),
			HFB_SEQUENCE_NEXT);
	CU_ASSERT_TRUE(note(&a, 3, 0, 1, 101 + WINDOW));
	CU_ASSERT_FALSE(hfb_dedup_find(&a, 1, &e));
	CU_ASSERT_TRUE(hfb_dedup_find(&b, 1, &e));
	CU_ASSERT_EQUAL(e.next_sequence, 7);
	CU_ASSERT_EQUAL(hfb_dedup_pool_evicted(pool), 1);
	/* used again, it is not the oldest any more */
	CU_ASSERT_TRUE(note(&b, 1, 0, 8, 110 + WINDOW));
	CU_ASSERT_TRUE(note(&b, 9, 0, 1, 301 + WINDOW));
	CU_ASSERT_TRUE(hfb_dedup_find(&b, 1, &e));
	CU_ASSERT_FALSE(hfb_dedup_find(&a, 2, &e));
	hfb_dedup_fini(&a);
	hfb_dedup_fini(&b);
	free(pool);
}

static void
test_snapshot_and_load(void)
{
	struct hfb_dedup_pool *pool = pool_make(64), *small = pool_make(10);
	struct hfb_dedup_entry entries[64], e;
	struct hfb_dedup d, other;
	uint32_t n;

	hfb_dedup_init(&d, pool);
	for (uint64_t i = 0; i < 40; i++)
		CU_ASSERT_TRUE(note(&d, 1000 + i, 1, i * 3, 10 * i));
	n = hfb_dedup_snapshot(&d, entries, 64);
	CU_ASSERT_EQUAL(n, 40);
	CU_ASSERT_EQUAL(hfb_dedup_snapshot(&d, entries, 7), 7);
	n = hfb_dedup_snapshot(&d, entries, 64);
	hfb_dedup_fini(&d);
	hfb_dedup_init(&d, pool);
	CU_ASSERT_EQUAL(hfb_dedup_load(&d, entries, n), 0);
	for (uint64_t i = 0; i < 40; i++) {
		CU_ASSERT_TRUE_FATAL(hfb_dedup_find(&d, 1000 + i, &e));
		CU_ASSERT_EQUAL(e.next_sequence, i * 3);
		CU_ASSERT_EQUAL(e.last_ns, 10 * i);
	}
	/* all inside the window: those that find no room are counted */
	hfb_dedup_init(&other, small);
	CU_ASSERT_EQUAL(hfb_dedup_load(&other, entries, n), 30);
	hfb_dedup_fini(&other);
	hfb_dedup_fini(&d);
	free(pool);
	free(small);
}

/* Model: the same by linear search. */
static void
test_random_work_against_a_model(void)
{
	enum { IDS = 40, POOL = 24 };
	struct {
		bool known;
		uint64_t next, last;
	} model[2][IDS];
	struct hfb_dedup_pool *pool = pool_make(POOL);
	struct hfb_dedup d[2];
	uint64_t now = 5000, expected;

	memset(model, 0, sizeof(model));
	hfb_dedup_init(&d[0], pool);
	hfb_dedup_init(&d[1], pool);
	for (uint32_t step = 0; step < 200000; step++) {
		uint32_t l = (uint32_t)(hfb_test_random() % 2),
			 id = (uint32_t)(hfb_test_random() % IDS);
		uint32_t count = 1 + (uint32_t)(hfb_test_random() % 4), used = 0;
		enum hfb_sequence_verdict verdict;
		uint64_t base, oldest = UINT64_MAX;
		uint32_t ol = 0, oi = 0;

		now += 1 + hfb_test_random() % 50;
		base = model[l][id].known ? model[l][id].next : 0;
		verdict = hfb_dedup_check(&d[l], id + 1, 0, base, count, now, &expected);
		for (uint32_t x = 0; x < 2; x++)
			for (uint32_t y = 0; y < IDS; y++)
				if (model[x][y].known) {
					used++;
					if (model[x][y].last < oldest) {
						oldest = model[x][y].last;
						ol = x;
						oi = y;
					}
				}
		CU_ASSERT_EQUAL_FATAL(used, hfb_dedup_pool_used(pool));
		if (!model[l][id].known && used == POOL) {
			if (now - oldest <= WINDOW) {
				CU_ASSERT_EQUAL_FATAL(verdict, HFB_SEQUENCE_TOO_MANY);
				continue;
			}
			model[ol][oi].known = false;
		}
		CU_ASSERT_EQUAL_FATAL(verdict, HFB_SEQUENCE_NEXT);
		CU_ASSERT_TRUE_FATAL(note(&d[l], id + 1, 0, base + count, now));
		model[l][id].known = true;
		model[l][id].next = base + count;
		model[l][id].last = now;
		CU_ASSERT_EQUAL_FATAL(
			hfb_dedup_check(&d[l], id + 1, 0, base, count, now, &expected),
			HFB_SEQUENCE_DUPLICATE);
	}
	CU_ASSERT(hfb_dedup_pool_evicted(pool) > 100);
	hfb_dedup_fini(&d[0]);
	hfb_dedup_fini(&d[1]);
	CU_ASSERT_EQUAL(hfb_dedup_pool_used(pool), 0);
	free(pool);
}

static void
test_an_advance_is_a_note_for_who_is_known(void)
{
	struct hfb_dedup_entry entry, other;
	struct hfb_dedup_pool *pool;
	struct hfb_dedup a, b;
	uint64_t expected;
	void *memory;

	memory = aligned_alloc(64, (hfb_dedup_pool_bytes(2) + 63) & ~(size_t)63);
	CU_ASSERT_PTR_NOT_NULL_FATAL(memory);
	pool = hfb_dedup_pool_init(memory, 2, 1000);
	hfb_dedup_init(&a, pool);
	hfb_dedup_init(&b, pool);
	CU_ASSERT_FALSE(hfb_dedup_advance(&a, 7, 0, 1, 0, 0, 1));
	entry = (struct hfb_dedup_entry){ .producer_id = 7, .next_sequence = 3, .last_ns = 10 };
	CU_ASSERT_TRUE(hfb_dedup_note(&a, &entry));
	entry.producer_id = 8;
	entry.last_ns = 11;
	CU_ASSERT_TRUE(hfb_dedup_note(&a, &entry));
	/* another log's producer, and another epoch, are not this one */
	CU_ASSERT_FALSE(hfb_dedup_advance(&b, 7, 0, 4, 30, 300, 12));
	CU_ASSERT_FALSE(hfb_dedup_advance(&a, 7, 1, 4, 30, 300, 12));
	CU_ASSERT_TRUE(hfb_dedup_advance(&a, 7, 0, 4, 30, 300, 12));
	CU_ASSERT_TRUE_FATAL(hfb_dedup_find(&a, 7, &other));
	CU_ASSERT_EQUAL(other.next_sequence, 4);
	CU_ASSERT_EQUAL(other.last_offset, 30);
	CU_ASSERT_EQUAL(other.last_position, 300);
	CU_ASSERT_EQUAL(other.last_ns, 12);
	CU_ASSERT_EQUAL(hfb_dedup_check(&a, 7, 0, 4, 1, 13, &expected), HFB_SEQUENCE_NEXT);
	/* it is the newest now: who makes room is the other one */
	entry.producer_id = 9;
	entry.last_ns = 2000;
	CU_ASSERT_TRUE(hfb_dedup_note(&b, &entry));
	CU_ASSERT_TRUE(hfb_dedup_find(&a, 7, &other));
	CU_ASSERT_FALSE(hfb_dedup_find(&a, 8, &other));
	/* and who has made room is not taken for one who is there */
	CU_ASSERT_FALSE(hfb_dedup_advance(&a, 8, 0, 4, 30, 300, 2001));
	CU_ASSERT_EQUAL(hfb_dedup_check(&a, 8, 0, 4, 1, 2001, &expected), HFB_SEQUENCE_UNKNOWN);
	hfb_dedup_fini(&a);
	hfb_dedup_fini(&b);
	free(memory);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "each verdict", test_verdicts },
		{ "only producers outside the window are evicted", test_only_the_old_are_evicted },
		{ "a snapshot loads again", test_snapshot_and_load },
		{ "random work agrees with a model", test_random_work_against_a_model },
		{ "an advance is a note for who is known",
		  test_an_advance_is_a_note_for_who_is_known },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("dedup", tests);
}
