/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sparse index of a segment.
 *
 * Goal:   a lookup never points behind what is asked, readers may look up while the
 *	   core adds, and a damaged file is refused.
 * Method: random batches against a plain list; each flipped bit of a saved file.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include "index.h"
#include "log_folder.h"

#define BASE	 (4096u * 10)
#define CAPACITY (4u * HFB_MIB)

static struct hfb_index *
index_make(void)
{
	return hfb_index_init(malloc(hfb_index_bytes(CAPACITY)), BASE, CAPACITY);
}

static void
test_lookups_against_a_list(void)
{
	static struct hfb_index_entry list[60000];
	struct hfb_index *index = index_make();
	struct hfb_index_entry e;
	uint64_t position = BASE, offset = 500, now = 1000;
	uint32_t n = 0;

	CU_ASSERT_FALSE(hfb_index_by_offset(index, 500, &e));
	CU_ASSERT_FALSE(hfb_index_by_time(index, 500, &e));
	CU_ASSERT_FALSE(hfb_index_by_position(index, BASE, &e));
	while (position < BASE + CAPACITY && n < 60000) {
		list[n++] = (struct hfb_index_entry){ position, offset, now };
		hfb_index_add(index, position, offset, now);
		position += 64 + 8 * (hfb_test_random() % 40) +
			    (hfb_test_random() % 50 == 0 ? 100000 : 0);
		offset += hfb_test_random() % 3; /* 0: control batches */
		now += hfb_test_random() % 2;
	}
	CU_ASSERT(index->count > 20);
	CU_ASSERT(index->count <= CAPACITY / HFB_INDEX_INTERVAL_BYTES + 1);
	for (uint32_t i = 0; i < n; i += 7) {
		/* of batches that share an offset the last one holds the event */
		uint32_t last = i;

		while (last + 1 < n && list[last + 1].offset == list[i].offset)
			last++;
		CU_ASSERT_TRUE(hfb_index_by_offset(index, list[i].offset, &e));
		CU_ASSERT(e.offset <= list[i].offset && e.position <= list[last].position);
		CU_ASSERT(list[last].position - e.position < HFB_INDEX_INTERVAL_BYTES + 110000);
		CU_ASSERT_TRUE(hfb_index_by_position(index, list[i].position, &e));
		CU_ASSERT(e.position <= list[i].position);
		CU_ASSERT_TRUE(hfb_index_by_time(index, list[i].timestamp_ns, &e));
		/* the first batch of that time or later is at or behind it */
		for (uint32_t j = 0; j < n; j++)
			if (list[j].timestamp_ns >= list[i].timestamp_ns) {
				CU_ASSERT(e.position <= list[j].position);
				break;
			}
	}
	CU_ASSERT_FALSE(hfb_index_by_offset(index, 499, &e));
	CU_ASSERT_TRUE(hfb_index_by_time(index, 0, &e));
	CU_ASSERT_EQUAL(e.position, BASE);
	CU_ASSERT_TRUE(hfb_index_by_offset(index, UINT64_MAX, &e));
	CU_ASSERT_EQUAL(e.position, index->entries[index->count - 1].position);
	free(index);
}

static void
test_room_for_the_densest_segment(void)
{
	struct hfb_index *index = index_make();

	for (uint64_t p = BASE; p < BASE + CAPACITY; p += 64)
		hfb_index_add(index, p, p / 64, p);
	CU_ASSERT_EQUAL(index->count, CAPACITY / HFB_INDEX_INTERVAL_BYTES);
	CU_ASSERT(index->count < index->max);
	free(index);
}

static void
test_each_flipped_bit_of_a_file_is_refused(void)
{
	const char *folder = log_folder_make();
	char path[1024];
	struct hfb_index *index = index_make(), *got = NULL;
	struct hfb_index_summary s = { BASE, BASE + CAPACITY, 7, 900, 100, 200 }, t;
	struct hfb_err err;
	uint64_t size;

	for (uint64_t i = 0; i < 5; i++)
		hfb_index_add(index, BASE + i * 100000, 7 + i, 100 + i);
	snprintf(path, sizeof(path), "%s", log_folder_path(folder, "x.idx"));
	CU_ASSERT_EQUAL(hfb_index_load(hfb_env_real(), path, BASE, &got, &t, &err), -ENOENT);
	CU_ASSERT_EQUAL_FATAL(hfb_index_save(hfb_env_real(), path, index, &s, &err), 0);
	CU_ASSERT_EQUAL_FATAL(hfb_index_load(hfb_env_real(), path, BASE, &got, &t, &err), 0);
	CU_ASSERT_EQUAL(memcmp(&s, &t, sizeof(s)), 0);
	CU_ASSERT_EQUAL(got->count, 5);
	CU_ASSERT_EQUAL(memcmp(got->entries, index->entries, 5 * sizeof(*got->entries)), 0);
	free(got);
	CU_ASSERT_EQUAL(hfb_index_load(hfb_env_real(), path, BASE + 4096, NULL, NULL, &err),
			-EBADMSG);
	size = log_folder_size(folder, "x.idx");
	for (uint64_t bit = 0; bit < size * 8; bit++) {
		log_folder_flip(folder, "x.idx", bit / 8, (int)(bit % 8));
		CU_ASSERT_EQUAL(hfb_index_load(hfb_env_real(), path, BASE, NULL, &t, &err),
				-EBADMSG);
		log_folder_flip(folder, "x.idx", bit / 8, (int)(bit % 8));
	}
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "x.idx"));
	for (uint64_t n = 0; n < size; n += 5) {
		CU_ASSERT_EQUAL(truncate(path, (off_t)(size - n - 1)), 0);
		CU_ASSERT_EQUAL(hfb_index_load(hfb_env_real(), path, BASE, NULL, &t, &err),
				-EBADMSG);
	}
	free(index);
}

static void
test_entries_out_of_order_are_refused(void)
{
	const char *folder = log_folder_make();
	char path[1024];
	struct hfb_index_summary s = { BASE, BASE + CAPACITY, 0, 900, 100, 200 };
	struct hfb_err err;

	snprintf(path, sizeof(path), "%s", log_folder_path(folder, "y.idx"));
	for (int lie = 0; lie < 5; lie++) {
		struct hfb_index *index = index_make();

		for (uint64_t i = 0; i < 3; i++)
			hfb_index_add(index, BASE + i * 100000, 7 + i, 100 + i);
		if (lie == 1)
			index->entries[1].position = BASE;
		else if (lie == 2)
			index->entries[1].offset = 6;
		else if (lie == 3)
			index->entries[2].timestamp_ns = 1;
		else if (lie == 4)
			index->entries[2].position = BASE + CAPACITY;
		CU_ASSERT_EQUAL(hfb_index_save(hfb_env_real(), path, index, &s, &err), 0);
		CU_ASSERT_EQUAL(hfb_index_load(hfb_env_real(), path, BASE, NULL, NULL, &err),
				lie == 0 ? 0 : -EBADMSG);
		free(index);
	}
}

/* The core adds while another thread looks up: what is found is always whole. */
static void *
adder(void *arg)
{
	struct hfb_index *index = arg;

	for (uint64_t p = BASE; p < BASE + CAPACITY; p += 4096) {
		hfb_index_add(index, p, p * 3, p * 5);
		if (p % (64 * 4096) == 0)
			sched_yield();
	}
	return NULL;
}

static void
test_lookups_while_the_core_adds(void)
{
	struct hfb_index *index = index_make();
	uint64_t looked = 0, wrong = 0, last = 0;
	struct hfb_index_entry e;
	pthread_t thread;

	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, adder, index), 0);
	while (last < BASE + CAPACITY - HFB_INDEX_INTERVAL_BYTES) {
		if (!hfb_index_by_offset(index, UINT64_MAX, &e)) {
			sched_yield();
			continue;
		}
		looked++;
		wrong += e.offset != e.position * 3 || e.timestamp_ns != e.position * 5 ||
			 e.position < last;
		last = e.position;
		if (hfb_index_by_time(index, last * 5, &e))
			wrong += e.offset != e.position * 3 || e.timestamp_ns > last * 5;
		if (looked % 64 == 0)
			sched_yield();
	}
	pthread_join(thread, NULL);
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT(looked > 0);
	free(index);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "lookups never point behind what is asked", test_lookups_against_a_list },
		{ "the densest segment has room", test_room_for_the_densest_segment },
		{ "lookups while the core adds", test_lookups_while_the_core_adds },
		{ "each flipped bit and cut of a file is refused",
		  test_each_flipped_bit_of_a_file_is_refused },
		{ "entries out of order are refused", test_entries_out_of_order_are_refused },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("index", tests);
}
