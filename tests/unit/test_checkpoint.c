/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoint files.
 *
 * Goal:   what is loaded is what was saved, or it is refused by name; the old one
 *	   stands until the new one is whole.
 * Method: each flipped bit, each length; each call of a save failing once.
 */
#include <errno.h>

#include "checkpoint.h"
#include "log_folder.h"

static const struct hfb_epoch_entry epochs[] = { { 1, 0, 0, 0 }, { 4, 0, 5000, 50 } };
static const struct hfb_dedup_entry dedup[] = {
	{ .producer_id = 77, .next_sequence = 9, .last_ns = 5, .producer_epoch = 3 },
	{ .producer_id = 78, .next_sequence = 1, .flags = HFB_DEDUP_STREAM },
	{ .producer_id = UINT64_MAX, .next_sequence = UINT64_MAX },
};
static const struct hfb_index_entry entries[] = { { 4096, 1, 2 }, { 80000, 10, 20 } };
static const struct hfb_corrupt_range ranges[] = { { 64, 128, 1, 2 } };

static struct hfb_checkpoint
sample(void)
{
	return (struct hfb_checkpoint){
		.topic = LOG_IMAGE_TOPIC,
		.partition = LOG_IMAGE_PARTITION,
		.leader_epoch = 4,
		.position = 123456,
		.offset = 1000,
		.start_position = 4096,
		.ended = 1,
		.last_timestamp_ns = 99,
		.first_timestamp_ns = 11,
		.segment_base = 4096,
		.segment_base_offset = 1,
		.epochs_count = 2,
		.dedup_count = 3,
		.index_count = 2,
		.corrupt_count = 1,
		.epochs = epochs,
		.dedup = dedup,
		.index = entries,
		.corrupt = ranges,
	};
}

static int
load(const char *folder, struct hfb_checkpoint *ret, void **ret_memory, struct hfb_err *err)
{
	struct hfb_uuid topic = LOG_IMAGE_TOPIC;

	*ret_memory = NULL;
	return hfb_checkpoint_load(hfb_env_real(), folder, &topic, LOG_IMAGE_PARTITION, ret,
				   ret_memory, err);
}

static void
test_saved_is_loaded(void)
{
	const char *folder = log_folder_make();
	struct hfb_checkpoint c = sample(), got;
	struct hfb_uuid topic = LOG_IMAGE_TOPIC;
	struct hfb_err err;
	void *memory;

	CU_ASSERT_EQUAL(load(folder, &got, &memory, &err), -ENOENT);
	CU_ASSERT_EQUAL_FATAL(hfb_checkpoint_save(hfb_env_real(), folder, &c, &err), 0);
	CU_ASSERT_EQUAL_FATAL(load(folder, &got, &memory, &err), 0);
	CU_ASSERT(got.position == 123456 && got.offset == 1000 && got.leader_epoch == 4);
	CU_ASSERT(got.start_position == 4096 && got.ended == 1 && got.last_timestamp_ns == 99);
	CU_ASSERT(got.first_timestamp_ns == 11 && got.segment_base_offset == 1);
	CU_ASSERT_EQUAL(memcmp(got.epochs, epochs, sizeof(epochs)), 0);
	CU_ASSERT_EQUAL(memcmp(got.dedup, dedup, sizeof(dedup)), 0);
	CU_ASSERT_EQUAL(memcmp(got.index, entries, sizeof(entries)), 0);
	CU_ASSERT_EQUAL(memcmp(got.corrupt, ranges, sizeof(ranges)), 0);
	free(memory);
	/* of another partition or topic */
	CU_ASSERT_EQUAL(hfb_checkpoint_load(hfb_env_real(), folder, &topic, LOG_IMAGE_PARTITION + 1,
					    &got, &memory, &err),
			-EBADMSG);
	topic.bytes[0] ^= 1;
	CU_ASSERT_EQUAL(hfb_checkpoint_load(hfb_env_real(), folder, &topic, LOG_IMAGE_PARTITION,
					    &got, &memory, &err),
			-EBADMSG);
}

static void
test_each_flipped_bit_is_refused(void)
{
	const char *folder = log_folder_make();
	struct hfb_checkpoint c = sample(), got;
	struct hfb_err err = { 0 };
	uint64_t size;
	void *memory;

	CU_ASSERT_EQUAL_FATAL(hfb_checkpoint_save(hfb_env_real(), folder, &c, &err), 0);
	size = log_folder_size(folder, HFB_CHECKPOINT_NAME);
	CU_ASSERT_EQUAL(size, hfb_checkpoint_bytes(&c));
	for (uint64_t bit = 0; bit < size * 8; bit++) {
		log_folder_flip(folder, HFB_CHECKPOINT_NAME, bit / 8, (int)(bit % 8));
		CU_ASSERT_EQUAL(load(folder, &got, &memory, &err), -EBADMSG);
		log_folder_flip(folder, HFB_CHECKPOINT_NAME, bit / 8, (int)(bit % 8));
	}
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "/" HFB_CHECKPOINT_NAME));
	for (uint64_t n = size; n-- > 0;) {
		CU_ASSERT_EQUAL(truncate(log_folder_path(folder, HFB_CHECKPOINT_NAME), (off_t)n),
				0);
		CU_ASSERT_EQUAL(load(folder, &got, &memory, &err), -EBADMSG);
	}
}

/* Positions that contradict each other, under a right crc. */
static void
test_lies_are_refused(void)
{
	struct hfb_checkpoint c, got;
	struct hfb_err err;
	uint64_t bytes[128];

#define LIE(change, expected)                                                                      \
	do {                                                                                       \
		c = sample();                                                                      \
		change;                                                                            \
		hfb_checkpoint_encode(&c, bytes);                                                  \
		CU_ASSERT_EQUAL(                                                                   \
			hfb_checkpoint_decode(bytes, hfb_checkpoint_bytes(&c), &got, &err),        \
			expected);                                                                 \
	} while (0)
	CU_ASSERT(hfb_checkpoint_bytes(&(struct hfb_checkpoint){ .dedup_count = 3,
								 .epochs_count = 2,
								 .index_count = 2,
								 .corrupt_count = 1 }) <=
		  sizeof(bytes));
	LIE(, 0);
	LIE(c.start_position = 123464, -EBADMSG);
	LIE(c.segment_base = 4096 * 64, -EBADMSG);
	LIE(c.segment_base = 4104, -EBADMSG);
	LIE(c.position = 123457, -EBADMSG);
	LIE(c.segment_base_offset = 1001, -EBADMSG);
#undef LIE
}

/* An environment whose n-th change fails. */
struct failing {
	struct hfb_env env;
	struct hfb_env_ops ops;
	int left;
};
static bool
fails(struct hfb_env *env)
{
	return ((struct failing *)env)->left-- == 0;
}
static int
f_open(struct hfb_env *e, const char *p, int f, unsigned int m)
{
	return fails(e) ? -EIO : hfb_env_open(hfb_env_real(), p, f, m);
}
static int
f_pwrite(struct hfb_env *e, int fd, const void *b, size_t n, uint64_t at)
{
	return fails(e) ? -ENOSPC : hfb_env_pwrite(hfb_env_real(), fd, b, n, at);
}
static int
f_fsync(struct hfb_env *e, int fd)
{
	return fails(e) ? -EIO : hfb_env_fsync(hfb_env_real(), fd);
}
static int
f_rename(struct hfb_env *e, const char *a, const char *b)
{
	return fails(e) ? -EIO : hfb_env_rename(hfb_env_real(), a, b);
}
static int
f_sync_dir(struct hfb_env *e, const char *p)
{
	return fails(e) ? -EIO : hfb_env_sync_dir(hfb_env_real(), p);
}

static void
test_the_old_one_stands_when_a_save_fails(void)
{
	const char *folder = log_folder_make();
	struct failing f = { .ops = *hfb_env_real()->ops };
	struct hfb_checkpoint c = sample(), got;
	struct hfb_err err;
	void *memory;
	int step, r = -1;

	f.env.ops = &f.ops;
	f.ops.open = f_open;
	f.ops.pwrite = f_pwrite;
	f.ops.fsync = f_fsync;
	f.ops.rename = f_rename;
	f.ops.sync_dir = f_sync_dir;
	CU_ASSERT_EQUAL_FATAL(hfb_checkpoint_save(hfb_env_real(), folder, &c, &err), 0);
	c.offset = 2000;
	for (step = 0; r < 0 && step < 20; step++) {
		f.left = step;
		r = hfb_checkpoint_save(&f.env, folder, &c, &err);
		CU_ASSERT_EQUAL_FATAL(load(folder, &got, &memory, &err), 0);
		/* the last step that can fail is the directory's sync: renamed, but not told so */
		CU_ASSERT_EQUAL(got.offset, r == 0 || step == 4 ? 2000 : 1000);
		free(memory);
		CU_ASSERT(log_folder_size(folder, HFB_CHECKPOINT_NAME ".tmp") == UINT64_MAX);
	}
	CU_ASSERT_EQUAL(r, 0);
	CU_ASSERT_EQUAL(step, 6);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "what was saved is loaded, by its own partition", test_saved_is_loaded },
		{ "each flipped bit and cut is refused by name", test_each_flipped_bit_is_refused },
		{ "lies under a right crc are refused", test_lies_are_refused },
		{ "the old one stands when a save fails",
		  test_the_old_one_stands_when_a_save_fails },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("checkpoint", tests);
}
