/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counters in a mapped file.
 *
 * Goal:   another mapping sees names and values, and histograms, while the owner counts; a full
 *	   file and a failing kernel are refused without a trace; foreign files are refused.
 * Method: a second mapping by path and by descriptor; each single fault; damaged headers.
 */
#include "counters.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fault.h"
#include "hfb_test_main.h"

#define FAULT_STEPS_MAX 64u

static const char *const names[] = { "events_total", "=queue_events",
				     "drops_total{reason=bad_crc}" };
static char path[512];

/* What a reader found under the name and labels looked for. */
struct found {
	const char *name, *labels;
	uint64_t value;
	uint32_t kind, times;
};

static void
look(void *arg, const struct hfb_counter_descriptor *d, uint64_t value)
{
	struct found *found = arg;

	if (strcmp(d->name, found->name) != 0 || strcmp(d->labels, found->labels) != 0)
		return;
	found->value = value;
	found->kind = d->kind;
	found->times++;
}

static void
value_check(const struct hfb_counters_view *view, const char *name, const char *labels,
	    uint32_t kind, uint64_t value)
{
	struct found found = { .name = name, .labels = labels };

	hfb_counters_each(view, look, &found);
	CU_ASSERT_EQUAL(found.times, 1);
	CU_ASSERT_EQUAL(found.kind, kind);
	CU_ASSERT_EQUAL(found.value, value);
}

static void
test_second_mapping(void)
{
	struct hfb_counters *file = NULL;
	struct hfb_counters_view view = { 0 };
	struct hfb_err err = { 0 };
	struct stat st;
	uint64_t *a, *b;
	int fd;

	CU_ASSERT_EQUAL_FATAL(hfb_counters_create(path, &file, &err), 0);
	a = hfb_counters_block(file, "core=0", names, 3);
	CU_ASSERT_PTR_NOT_NULL_FATAL(a);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	CU_ASSERT_TRUE_FATAL(fd >= 0);
	CU_ASSERT_EQUAL_FATAL(hfb_counters_map(fd, &view, &err), 0);
	close(fd);
	CU_ASSERT_EQUAL(view.header->pid, (uint64_t)getpid());

	a[0] += 5;
	a[1] = 7;
	a[2]++;
	value_check(&view, "events_total", "core=0", HFB_COUNTER_SUM, 5);
	value_check(&view, "queue_events", "core=0", HFB_COUNTER_GAUGE, 7);
	value_check(&view, "drops_total", "core=0,reason=bad_crc", HFB_COUNTER_SUM, 1);

	/* a block that comes later, while the reader has its mapping */
	b = hfb_counters_block(file, "", names + 2, 1);
	CU_ASSERT_PTR_NOT_NULL_FATAL(b);
	CU_ASSERT_EQUAL((uintptr_t)a % 64, 0);
	CU_ASSERT_EQUAL((uintptr_t)b % 64, 0);
	CU_ASSERT_TRUE(b >= a + 8);
	b[0] = UINT64_MAX;
	value_check(&view, "drops_total", "reason=bad_crc", HFB_COUNTER_SUM, UINT64_MAX);
	CU_ASSERT_EQUAL(hfb_counters_each(&view, look, &(struct found){ .name = "", .labels = "" }),
			4);
	hfb_counters_unmap(&view);
	hfb_counters_unmap(&view);
	hfb_counters_unmap(NULL);

	/* after a clean stop the last values are in a plain file */
	hfb_counters_destroy(file);
	hfb_counters_destroy(NULL);
	CU_ASSERT_EQUAL(lstat(path, &st), 0);
	CU_ASSERT_TRUE(S_ISREG(st.st_mode));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	CU_ASSERT_EQUAL_FATAL(hfb_counters_map(fd, &view, &err), 0);
	close(fd);
	value_check(&view, "events_total", "core=0", HFB_COUNTER_SUM, 5);
	value_check(&view, "drops_total", "reason=bad_crc", HFB_COUNTER_SUM, UINT64_MAX);
	hfb_counters_unmap(&view);
}

static void
histogram_count(void *arg, const struct hfb_histogram_descriptor *d, const struct hfb_histogram *h)
{
	uint32_t *seen = arg;

	CU_ASSERT_EQUAL(h->bits, 3);
	(*seen)++;
}

/* What a reader found under a stage. */
struct found_histogram {
	const char *labels;
	uint64_t count, p50, max;
	uint32_t times;
};

static void
look_histogram(void *arg, const struct hfb_histogram_descriptor *d, const struct hfb_histogram *h)
{
	struct found_histogram *found = arg;

	if (strcmp(d->labels, found->labels) != 0)
		return;
	CU_ASSERT_STRING_EQUAL(d->name, "stage");
	CU_ASSERT_STRING_EQUAL(d->unit, "ns");
	found->count = hfb_histogram_count(h);
	found->p50 = hfb_histogram_quantile(h, 0.5);
	found->max = h->max;
	found->times++;
}

static void
test_histograms(void)
{
	struct found_histogram a = { .labels = "core=0,stage=durable" };
	struct found_histogram b = { .labels = "core=1,stage=durable" };
	struct hfb_counters *file = NULL;
	struct hfb_counters_view view = { 0 };
	struct hfb_histogram *h, *other;
	struct hfb_err err;
	struct stat st;
	int fd;

	CU_ASSERT_EQUAL_FATAL(hfb_counters_create(path, &file, &err), 0);
	CU_ASSERT_EQUAL_FATAL(hfb_counters_map(hfb_counters_fd(file), &view, &err), 0);
	CU_ASSERT_EQUAL(hfb_counters_histograms_each(&view, look_histogram, &a), 0);
	h = hfb_counters_histogram(file, a.labels, "stage", "ns", 6, 36);
	other = hfb_counters_histogram(file, b.labels, "stage", "ns", 6, 36);
	CU_ASSERT_PTR_NOT_NULL_FATAL(h);
	CU_ASSERT_PTR_NOT_NULL_FATAL(other);
	CU_ASSERT_EQUAL((uintptr_t)other % 64, 0);
	CU_ASSERT_TRUE((uint8_t *)other >= (uint8_t *)h + hfb_histogram_bytes(6, 36));

	/* a reader that was there before sees each record */
	hfb_histogram_record_many(h, 40, 16);
	CU_ASSERT_EQUAL(hfb_counters_histograms_each(&view, look_histogram, &a), 2);
	CU_ASSERT_EQUAL(a.times, 1);
	CU_ASSERT_EQUAL(a.count, 16);
	CU_ASSERT_EQUAL(a.p50, 40);
	hfb_histogram_record_many(h, 5000, 17);
	hfb_counters_histograms_each(&view, look_histogram, &a);
	CU_ASSERT_EQUAL(a.count, 33);
	CU_ASSERT_EQUAL(a.max, 5000);
	hfb_counters_histograms_each(&view, look_histogram, &b);
	CU_ASSERT_EQUAL(b.count, 0);
	hfb_counters_unmap(&view);

	/* and in what a clean stop leaves, where empty pages take no blocks */
	hfb_counters_destroy(file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	CU_ASSERT_EQUAL_FATAL(hfb_counters_map(fd, &view, &err), 0);
	CU_ASSERT_EQUAL(hfb_counters_histograms_each(&view, look_histogram, &a), 2);
	CU_ASSERT_EQUAL(a.count, 33);
	CU_ASSERT_EQUAL(fstat(fd, &st), 0);
	CU_ASSERT_TRUE(st.st_blocks * 512 < 256 * 1024);
	hfb_counters_unmap(&view);
	close(fd);
}

static void
test_histograms_full(void)
{
	struct hfb_counters *file = NULL;
	uint32_t n = 0;

	CU_ASSERT_EQUAL_FATAL(hfb_counters_create(path, &file, NULL), 0);
	/* by bytes first, then by their number */
	while (n < 100 && hfb_counters_histogram(file, "", "large", "ns", 14, 64) != NULL)
		n++;
	CU_ASSERT_EQUAL(n, HFB_COUNTERS_HISTOGRAMS_BYTES / hfb_histogram_bytes(14, 64));
	while (hfb_counters_histogram(file, "", "small", "ns", 1, 8) != NULL)
		n++;
	CU_ASSERT_EQUAL(n, HFB_COUNTERS_HISTOGRAMS_MAX);
	hfb_counters_destroy(file);
}

static void
test_full(void)
{
	struct hfb_counters *file = NULL;
	struct hfb_counters_view view = { 0 };
	uint32_t count = 0;
	uint64_t *v, *last = NULL;

	CU_ASSERT_EQUAL_FATAL(hfb_counters_create(path, &file, NULL), 0);
	while ((v = hfb_counters_block(file, "n=1", names, 1)) != NULL) {
		*v = ++count;
		last = v;
	}
	CU_ASSERT_EQUAL(count, HFB_COUNTERS_MAX);
	CU_ASSERT_PTR_NULL(hfb_counters_block(file, "", names, 3));
	CU_ASSERT_EQUAL(*last, HFB_COUNTERS_MAX);
	CU_ASSERT_EQUAL(hfb_counters_map(hfb_counters_fd(file), &view, NULL), 0);
	CU_ASSERT_EQUAL(hfb_counters_each(&view, look, &(struct found){ .name = "", .labels = "" }),
			HFB_COUNTERS_MAX);
	hfb_counters_unmap(&view);
	hfb_counters_destroy(file);
}

static void
test_long_names_are_cut(void)
{
	static const char *const wide[] = {
		"a_name_that_is_much_longer_than_the_room_a_descriptor_has_for_it_total{core=1",
		"x{}",
	};
	struct hfb_counters *file = NULL;
	struct hfb_counters_view view = { 0 };

	CU_ASSERT_EQUAL_FATAL(hfb_counters_create(path, &file, NULL), 0);
	CU_ASSERT_PTR_NOT_NULL(hfb_counters_block(file, "", wide, 2));
	CU_ASSERT_EQUAL(hfb_counters_map(hfb_counters_fd(file), &view, NULL), 0);
	value_check(&view, "a_name_that_is_much_longer_than_the_room_a_desc", "core=1",
		    HFB_COUNTER_SUM, 0);
	value_check(&view, "x", "", HFB_COUNTER_SUM, 0);
	hfb_counters_unmap(&view);
	hfb_counters_destroy(file);
}

static void
test_each_fault(void)
{
	bool spent = true;
	uint32_t step;

	for (step = 0; spent && step < FAULT_STEPS_MAX; step++) {
		struct hfb_counters *file = NULL;
		struct hfb_err err = { 0 };
		struct stat st;
		int r;

		unlink(path);
		hfb_fault_arm(step);
		r = hfb_counters_create(path, &file, &err);
		spent = hfb_fault_disarm();
		CU_ASSERT_EQUAL(r < 0, spent);
		CU_ASSERT_EQUAL(file == NULL, spent);
		CU_ASSERT_EQUAL(err.text[0] != '\0', spent);
		CU_ASSERT_EQUAL(lstat(path, &st) < 0, spent);
		hfb_counters_destroy(file);
	}
	CU_ASSERT_TRUE(step > 4);
	CU_ASSERT_FALSE(spent);
	CU_ASSERT_EQUAL(hfb_counters_create("/nonexistent/counters",
					    &(struct hfb_counters *){ NULL }, NULL),
			-ENOENT);
}

static int
header_map(const struct hfb_counters_header *header, off_t bytes)
{
	struct hfb_counters_view view;
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), r;

	if (fd < 0 || pwrite(fd, header, sizeof(*header), 0) < 0 || ftruncate(fd, bytes) < 0)
		return 1;
	r = hfb_counters_map(fd, &view, NULL);
	if (r == 0) {
		hfb_counters_each(&view, look, &(struct found){ .name = "", .labels = "" });
		hfb_counters_unmap(&view);
	}
	close(fd);
	return r;
}

static void
test_foreign_files(void)
{
	const struct hfb_counters_header good = {
		.magic = HFB_COUNTERS_MAGIC,
		.version = 2,
		.max = 10,
		.count = 1000000, /* more than max: a reader stays below */
		.descriptors_offset = 4096,
		.values_offset = 4096 + 1600,
		.histograms_max = 2,
		.histograms_count = 1000000,
		.histogram_descriptors_offset = 4096 + 1600,
	};
	struct hfb_counters_header h = good;

	unlink(path);
	CU_ASSERT_EQUAL(header_map(&h, 8192), 0);
	CU_ASSERT_EQUAL(header_map(&h, 100), -EBADMSG);
	h.magic++;
	CU_ASSERT_EQUAL(header_map(&h, 8192), -EBADMSG);
	h = good;
	h.version = 1;
	CU_ASSERT_EQUAL(header_map(&h, 8192), -EPROTONOSUPPORT);
	h = good;
	h.incompatible = 1;
	CU_ASSERT_EQUAL(header_map(&h, 8192), -EPROTONOSUPPORT);
	h = good;
	h.max = 1000;
	CU_ASSERT_EQUAL(header_map(&h, 8192), -EBADMSG);
	h = good;
	h.values_offset = 8200;
	CU_ASSERT_EQUAL(header_map(&h, 8192), -EBADMSG);
	h.values_offset = UINT64_MAX - 7;
	CU_ASSERT_EQUAL(header_map(&h, 8192), -EBADMSG);
	h = good;
	h.histograms_max = 1000;
	CU_ASSERT_EQUAL(header_map(&h, 8192), -EBADMSG);
	h = good;
	h.histogram_descriptors_offset = UINT64_MAX - 7;
	CU_ASSERT_EQUAL(header_map(&h, 8192), -EBADMSG);
	h.histogram_descriptors_offset = 4097;
	CU_ASSERT_EQUAL(header_map(&h, 8192), -EBADMSG);
}

/* A descriptor that leads anywhere but to a sound histogram inside the file is passed by. */
static void
test_foreign_histograms(void)
{
	struct {
		struct hfb_counters_header header;
		uint8_t unused[4096 - sizeof(struct hfb_counters_header)];
		struct hfb_histogram_descriptor d[4];
		uint64_t memory[512];
	} image = {
		.header = { .magic = HFB_COUNTERS_MAGIC,
			    .version = 2,
			    .descriptors_offset = 4096,
			    .values_offset = 4096,
			    .histograms_max = 4,
			    .histograms_count = 4,
			    .histogram_descriptors_offset = 4096 },
	};
	const uint64_t at = (uint64_t)((uint8_t *)image.memory - (uint8_t *)&image);
	const uint64_t bytes = hfb_histogram_bytes(3, 10);
	struct hfb_counters_view view;
	uint32_t seen = 0;
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	hfb_histogram_init((struct hfb_histogram *)(void *)image.memory, 3, 10);
	image.d[0] = (struct hfb_histogram_descriptor){ .offset = at, .bytes = bytes };
	image.d[1] = (struct hfb_histogram_descriptor){ .offset = at, .bytes = bytes - 1 };
	image.d[2] =
		(struct hfb_histogram_descriptor){ .offset = sizeof(image) - 8, .bytes = bytes };
	image.d[3] = (struct hfb_histogram_descriptor){ .offset = UINT64_MAX - 7, .bytes = 64 };
	CU_ASSERT_EQUAL_FATAL(write(fd, &image, sizeof(image)), (ssize_t)sizeof(image));
	CU_ASSERT_EQUAL_FATAL(hfb_counters_map(fd, &view, NULL), 0);
	CU_ASSERT_EQUAL(hfb_counters_histograms_each(&view, histogram_count, &seen), 1);
	CU_ASSERT_EQUAL(seen, 1);
	hfb_counters_unmap(&view);
	close(fd);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "a second mapping sees names and values", test_second_mapping },
		{ "a full file says so", test_full },
		{ "long names are cut", test_long_names_are_cut },
		{ "each single fault leaves no trace", test_each_fault },
		{ "foreign files are refused", test_foreign_files },
		{ "histograms are read while they count", test_histograms },
		{ "a file full of histograms says so", test_histograms_full },
		{ "foreign histograms are passed by", test_foreign_histograms },
		CU_TEST_INFO_NULL,
	};

	snprintf(path, sizeof(path), "%s/counters", hfb_test_folder());
	return hfb_test_main("counters", tests);
}
