/* SPDX-License-Identifier: Apache-2.0 */
/* A segment read ahead: all of its bytes, whatever it begins and ends with. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <CUnit/CUnit.h>

#include "hfb_test_main.h"
#include "read_ahead.h"

#define BLOCK 4096u
#define CHUNK ((uint64_t)HFB_AHEAD_CHUNK_BYTES)

/* Positions tell what stands there. */
static uint64_t
word_at(uint64_t position)
{
	return position * 0x9e3779b97f4a7c15ull;
}

/* A segment's file with a header block; a descriptor. */
static int
segment_make(uint64_t base, uint64_t end)
{
	uint64_t bytes = end - base;
	uint64_t *words = malloc(BLOCK + bytes);
	char path[600];
	int fd;

	snprintf(path, sizeof(path), "%s/segment", hfb_test_folder());
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	CU_ASSERT_PTR_NOT_NULL_FATAL(words);
	CU_ASSERT_FATAL(fd >= 0);
	memset(words, 0xee, BLOCK);
	for (uint64_t at = 0; at < bytes; at += 8)
		words[(BLOCK + at) / 8] = word_at(base + at);
	CU_ASSERT_EQUAL_FATAL(write(fd, words, BLOCK + bytes), (ssize_t)(BLOCK + bytes));
	free(words);
	return fd;
}

/* NULL, with a message, where there is no such reading. */
static struct hfb_ahead *
ahead_make(void)
{
	struct hfb_ahead *ahead = NULL;
	int fd = segment_make(0, BLOCK), r = hfb_ahead_create(&ahead);

	if (r == 0)
		r = hfb_ahead_start(ahead, fd, 0, BLOCK, BLOCK, 0);
	close(fd);
	if (r == 0)
		return ahead;
	fprintf(stderr, "no io_uring, or a folder without O_DIRECT (%s): not tested\n",
		strerror(-r));
	hfb_ahead_destroy(ahead);
	return NULL;
}

/* Reads on from @position in steps of @step as far as it gives; how far that was. */
static uint64_t
read_to(struct hfb_ahead *ahead, uint64_t position, uint64_t limit, uint64_t step)
{
	const uint8_t *bytes;
	int64_t n;

	while ((n = hfb_ahead_look(ahead, position, limit, &bytes)) >= 0) {
		uint64_t take = (uint64_t)n < step ? (uint64_t)n : step;

		if (n == 0) {
			hfb_ahead_wait(ahead, 1000000000u);
			continue;
		}
		for (uint64_t at = 0; at < take; at += 8) {
			uint64_t word;

			memcpy(&word, bytes + at, sizeof(word));
			if (word != word_at(position + at)) {
				CU_ASSERT_EQUAL(word, word_at(position + at));
				return position + at;
			}
		}
		position += take;
	}
	return position;
}

static void
test_a_segment_is_read_from_its_base_to_its_end(void)
{
	static const struct {
		uint64_t base, bytes;
	} segments[] = {
		{ 0, 3 * CHUNK },
		{ 3 * BLOCK, 3 * CHUNK },
		{ 40 * CHUNK + 5 * BLOCK, 20 * CHUNK + BLOCK }, /* more than the memory */
		{ 7 * CHUNK - BLOCK, 33 * CHUNK },
		{ CHUNK + BLOCK, 2 * BLOCK }, /* within a chunk */
	};
	struct hfb_ahead *ahead = ahead_make();

	if (ahead == NULL)
		return;
	for (size_t i = 0; i < sizeof(segments) / sizeof(segments[0]); i++) {
		uint64_t base = segments[i].base, end = base + segments[i].bytes;
		int fd = segment_make(base, end);

		for (uint64_t step = 8; step < 9 * CHUNK; step = step * 11 + 8) {
			uint64_t from = base + (step > 8 ? segments[i].bytes / 2 / 8 * 8 : 0);

			CU_ASSERT_EQUAL_FATAL(hfb_ahead_start(ahead, fd, base, BLOCK, end, from),
					      0);
			CU_ASSERT_EQUAL(hfb_ahead_reach(ahead, from, end), end - from);
			CU_ASSERT_EQUAL(read_to(ahead, from, end, step), end);
		}
		close(fd);
	}
	hfb_ahead_destroy(ahead);
}

static void
test_what_is_not_filed_yet_is_not_asked_for(void)
{
	uint64_t base = 2 * CHUNK + BLOCK, end = base + 4 * CHUNK, limit = 4 * CHUNK + 3 * BLOCK;
	struct hfb_ahead *ahead = ahead_make();
	int fd;

	if (ahead == NULL)
		return;
	fd = segment_make(base, end);
	CU_ASSERT_EQUAL_FATAL(hfb_ahead_start(ahead, fd, base, BLOCK, end, base), 0);
	/* whole chunks, while the segment goes on */
	CU_ASSERT_EQUAL(read_to(ahead, base, limit, CHUNK), 4 * CHUNK);
	CU_ASSERT_EQUAL(read_to(ahead, 4 * CHUNK, end, CHUNK), end);
	/* an end within a block: up to the block */
	CU_ASSERT_EQUAL_FATAL(hfb_ahead_start(ahead, fd, base, BLOCK, end - 8, base), 0);
	CU_ASSERT_EQUAL(read_to(ahead, base, end - 8, CHUNK), end - BLOCK);
	/* cut short: no bytes that are not there */
	CU_ASSERT_EQUAL(ftruncate(fd, (off_t)(BLOCK + CHUNK)), 0);
	CU_ASSERT_EQUAL_FATAL(hfb_ahead_start(ahead, fd, base, BLOCK, end, base), 0);
	CU_ASSERT_TRUE(read_to(ahead, base, end, CHUNK) <= base + CHUNK);
	hfb_ahead_destroy(ahead);
	close(fd);
}

int
main(void)
{
	static CU_TestInfo tests[] = {
		{ "a segment is read from its base to its end",
		  test_a_segment_is_read_from_its_base_to_its_end },
		{ "what is not filed yet is not asked for",
		  test_what_is_not_filed_yet_is_not_asked_for },
		CU_TEST_INFO_NULL,
	};

	return hfb_test_main("read_ahead", tests);
}
