/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes live in a memfd and @path is a link to it. An ordinary file would be
 * written back now and then, and the next store of a poll core to such a page
 * waits in the filesystem. At a clean stop the last values become a plain file.
 */
#include "counters.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define COUNTERS_VERSION   2u
#define LINE_VALUES	   8u /* values on a cache line */
#define DESCRIPTORS_OFFSET 4096u
#define HISTOGRAM_DESCRIPTORS_OFFSET                                                               \
	(DESCRIPTORS_OFFSET + HFB_COUNTERS_MAX * (uint64_t)sizeof(struct hfb_counter_descriptor))
#define VALUES_OFFSET                                                                              \
	(HISTOGRAM_DESCRIPTORS_OFFSET +                                                            \
	 HFB_COUNTERS_HISTOGRAMS_MAX * (uint64_t)sizeof(struct hfb_histogram_descriptor))
#define VALUES_MAX	  (HFB_COUNTERS_MAX * (uint64_t)LINE_VALUES) /* each on a line of its own */
#define HISTOGRAMS_OFFSET (VALUES_OFFSET + VALUES_MAX * 8u)
#define FILE_BYTES	  (HISTOGRAMS_OFFSET + HFB_COUNTERS_HISTOGRAMS_BYTES)
#define PAGE		  4096u

_Static_assert(sizeof(struct hfb_counters_header) <= DESCRIPTORS_OFFSET, "one page of header");
_Static_assert(sizeof(struct hfb_counter_descriptor) == 160, "shared with readers");
_Static_assert(sizeof(struct hfb_histogram_descriptor) == 192, "shared with readers");
_Static_assert(sizeof(struct hfb_histogram) == 40, "shared with readers");
_Static_assert(VALUES_OFFSET % 64 == 0, "blocks are on cache lines");
_Static_assert(HISTOGRAMS_OFFSET % PAGE == 0, "histograms begin with a page");

struct hfb_counters {
	struct hfb_counters_header *header; /* the mapping */
	uint32_t values_used;
	uint64_t bytes_used; /* of the whole file */
	int fd;
	char path[PATH_MAX];
	char link[64];
};

static int
counters_link(struct hfb_counters *file, struct hfb_err *err)
{
	char next[PATH_MAX + 8];

	/* Made aside and renamed, so that a reader finds either the old or the new one. */
	snprintf(next, sizeof(next), "%s.new", file->path);
	unlink(next);
	if (symlink(file->link, next) < 0)
		return hfb_err_set(err, -errno, "cannot make %s: %s; see --data", next,
				   strerror(errno));
	if (rename(next, file->path) < 0) {
		int r = -errno;

		unlink(next);
		return hfb_err_set(err, r, "cannot make %s: %s; see --data", file->path,
				   strerror(-r));
	}
	return 0;
}

int
hfb_counters_create(const char *path, struct hfb_counters **ret, struct hfb_err *err)
{
	struct hfb_counters *file;
	struct hfb_counters_header *header;
	struct timespec now;
	int r;

	if (strlen(path) >= sizeof(file->path))
		return hfb_err_set(err, -ENAMETOOLONG, "the path of the counters file is too long");
	file = calloc(1, sizeof(*file));
	if (file == NULL)
		return hfb_err_set(err, -ENOMEM, "no memory for the counters file");
	snprintf(file->path, sizeof(file->path), "%s", path);

	file->fd = memfd_create("hfbus-counters", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (file->fd < 0) {
		r = hfb_err_set(err, -errno, "cannot make a memfd for the counters: %s",
				strerror(errno));
		goto fail_file;
	}
	if (ftruncate(file->fd, (off_t)FILE_BYTES) < 0 ||
	    fcntl(file->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0) {
		r = hfb_err_set(err, -errno, "cannot size the counters file: %s", strerror(errno));
		goto fail_fd;
	}
	header = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file->fd, 0);
	if (header == MAP_FAILED) {
		r = hfb_err_set(err, -errno, "cannot map the counters file: %s", strerror(errno));
		goto fail_fd;
	}
	file->header = header;
	clock_gettime(CLOCK_REALTIME, &now);
	header->version = COUNTERS_VERSION;
	header->max = HFB_COUNTERS_MAX;
	header->descriptors_offset = DESCRIPTORS_OFFSET;
	header->values_offset = VALUES_OFFSET;
	header->histograms_max = HFB_COUNTERS_HISTOGRAMS_MAX;
	header->histogram_descriptors_offset = HISTOGRAM_DESCRIPTORS_OFFSET;
	file->bytes_used = HISTOGRAMS_OFFSET;
	header->pid = (uint64_t)getpid();
	header->started_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	/* pairs with the acquire in hfb_counters_map */
	__atomic_store_n(&header->magic, HFB_COUNTERS_MAGIC, __ATOMIC_RELEASE);

	snprintf(file->link, sizeof(file->link), "/proc/%ld/fd/%d", (long)getpid(), file->fd);
	r = counters_link(file, err);
	if (r < 0)
		goto fail_map;
	*ret = file;
	return 0;

fail_map:
	munmap(file->header, FILE_BYTES);
fail_fd:
	close(file->fd);
fail_file:
	free(file);
	return r;
}

/* All of the file but pages of zeros, which stay holes. */
static bool
pages_write(int fd, const uint8_t *from, uint64_t bytes)
{
	static const uint8_t zeros[PAGE];

	if (ftruncate(fd, (off_t)bytes) < 0)
		return false;
	for (uint64_t at = 0; at < bytes;) {
		size_t size = bytes - at < PAGE ? (size_t)(bytes - at) : PAGE;
		ssize_t n = (ssize_t)size;

		if (memcmp(from + at, zeros, size) != 0)
			n = pwrite(fd, from + at, size, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		at += (uint64_t)n;
	}
	return true;
}

/* Best effort: who stops cleanly leaves its last figures behind. */
static void
counters_leave(const struct hfb_counters *file)
{
	char next[PATH_MAX + 8], target[64];
	ssize_t n;
	bool left;
	int fd;

	n = readlink(file->path, target, sizeof(target) - 1);
	if (n < 0)
		return;
	target[n] = '\0';
	if (strcmp(target, file->link) != 0) /* another process has taken over */
		return;
	snprintf(next, sizeof(next), "%s.new", file->path);
	unlink(next);
	fd = open(next, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	left = fd >= 0 && pages_write(fd, (const uint8_t *)file->header, file->bytes_used);
	if (fd >= 0)
		close(fd);
	if (left && rename(next, file->path) == 0)
		return;
	unlink(next);
	unlink(file->path);
}

void
hfb_counters_destroy(struct hfb_counters *file)
{
	if (file == NULL)
		return;
	counters_leave(file);
	munmap(file->header, FILE_BYTES);
	close(file->fd);
	free(file);
}

int
hfb_counters_fd(const struct hfb_counters *file)
{
	return file->fd;
}

/* "=name{labels}" and the block's @labels to a descriptor. */
static void
descriptor_fill(struct hfb_counter_descriptor *to, const char *labels, const char *name)
{
	const char *brace;
	size_t name_size, own_size = 0;

	to->kind = HFB_COUNTER_SUM;
	if (*name == '=') {
		to->kind = HFB_COUNTER_GAUGE;
		name++;
	}
	brace = strchr(name, '{');
	name_size = brace != NULL ? (size_t)(brace - name) : strlen(name);
	if (brace != NULL) {
		own_size = strlen(brace + 1);
		if (own_size > 0 && brace[own_size] == '}')
			own_size--;
	}
	snprintf(to->name, sizeof(to->name), "%.*s", (int)name_size, name);
	snprintf(to->labels, sizeof(to->labels), "%s%s%.*s", labels,
		 *labels != '\0' && own_size > 0 ? "," : "", (int)own_size,
		 brace != NULL ? brace + 1 : "");
}

uint64_t *
hfb_counters_block(struct hfb_counters *file, const char *labels, const char *const *names,
		   uint32_t n)
{
	struct hfb_counters_header *header = file->header;
	uint8_t *bytes = (uint8_t *)header;
	struct hfb_counter_descriptor *descriptors =
		(struct hfb_counter_descriptor *)(bytes + DESCRIPTORS_OFFSET);
	uint64_t *values = (uint64_t *)(bytes + VALUES_OFFSET) + file->values_used;

	if (n > header->max - header->count)
		return NULL;
	for (uint32_t i = 0; i < n; i++) {
		struct hfb_counter_descriptor *d = &descriptors[header->count + i];

		descriptor_fill(d, labels, names[i]);
		d->value_index = file->values_used + i;
		/* Touched here, so that the owner's first store does not fault. */
		values[i] = 0;
	}
	file->values_used += (n + LINE_VALUES - 1) / LINE_VALUES * LINE_VALUES;
	/* pairs with the acquire in hfb_counters_each */
	__atomic_store_n(&header->count, header->count + n, __ATOMIC_RELEASE);
	return values;
}

struct hfb_histogram *
hfb_counters_histogram(struct hfb_counters *file, const char *labels, const char *name,
		       const char *unit, uint32_t bits, uint32_t range_bits)
{
	struct hfb_counters_header *header = file->header;
	uint8_t *bytes = (uint8_t *)header;
	struct hfb_histogram_descriptor *d =
		(struct hfb_histogram_descriptor *)(bytes + HISTOGRAM_DESCRIPTORS_OFFSET) +
		header->histograms_count;
	uint64_t size = hfb_histogram_bytes(bits, range_bits);
	struct hfb_histogram *h;

	if (header->histograms_count == header->histograms_max ||
	    size > FILE_BYTES - file->bytes_used)
		return NULL;
	snprintf(d->name, sizeof(d->name), "%s", name);
	snprintf(d->labels, sizeof(d->labels), "%s", labels);
	snprintf(d->unit, sizeof(d->unit), "%s", unit);
	d->offset = file->bytes_used;
	d->bytes = size;
	h = (struct hfb_histogram *)(void *)(bytes + d->offset);
	/* Touches all of it, so that no record on a poll core waits for a page. */
	hfb_histogram_init(h, bits, range_bits);
	file->bytes_used += (size + 63) & ~(uint64_t)63;
	/* pairs with the acquire in hfb_counters_histograms_each */
	__atomic_store_n(&header->histograms_count, header->histograms_count + 1, __ATOMIC_RELEASE);
	return h;
}

int
hfb_counters_map(int fd, struct hfb_counters_view *ret, struct hfb_err *err)
{
	const struct hfb_counters_header *header;
	struct stat st;
	uint64_t bytes;
	int r = -EBADMSG;

	if (fstat(fd, &st) < 0)
		return hfb_err_set(err, -errno, "cannot stat the counters file: %s",
				   strerror(errno));
	if (st.st_size < (off_t)DESCRIPTORS_OFFSET)
		return hfb_err_set(err, -EBADMSG, "the counters file is too short");
	bytes = (uint64_t)st.st_size;
	header = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (header == MAP_FAILED)
		return hfb_err_set(err, -errno, "cannot map the counters file: %s",
				   strerror(errno));
	/* pairs with the release in hfb_counters_create */
	if (__atomic_load_n(&header->magic, __ATOMIC_ACQUIRE) != HFB_COUNTERS_MAGIC) {
		hfb_err_set(err, r, "this is no counters file");
		goto fail;
	}
	if (header->version != COUNTERS_VERSION || header->incompatible != 0) {
		r = hfb_err_set(err, -EPROTONOSUPPORT,
				"counters file of version %u, features 0x%x; this program reads "
				"version %u",
				header->version, header->incompatible, COUNTERS_VERSION);
		goto fail;
	}
	if (header->descriptors_offset % 8 != 0 || header->values_offset % 8 != 0 ||
	    header->descriptors_offset > bytes || header->values_offset > bytes ||
	    header->max >
		    (bytes - header->descriptors_offset) / sizeof(struct hfb_counter_descriptor) ||
	    header->histogram_descriptors_offset % 8 != 0 ||
	    header->histogram_descriptors_offset > bytes ||
	    header->histograms_max > (bytes - header->histogram_descriptors_offset) /
					     sizeof(struct hfb_histogram_descriptor)) {
		hfb_err_set(err, r, "the counters file is damaged");
		goto fail;
	}
	ret->header = header;
	ret->bytes = bytes;
	return 0;

fail:
	munmap((void *)(uintptr_t)header, bytes);
	return r;
}

void
hfb_counters_unmap(struct hfb_counters_view *view)
{
	if (view == NULL || view->header == NULL)
		return;
	munmap((void *)(uintptr_t)view->header, view->bytes);
	view->header = NULL;
}

uint32_t
hfb_counters_each(const struct hfb_counters_view *view,
		  void (*each)(void *arg, const struct hfb_counter_descriptor *d, uint64_t value),
		  void *arg)
{
	const struct hfb_counters_header *header = view->header;
	const uint8_t *bytes = (const uint8_t *)header;
	const struct hfb_counter_descriptor *descriptors =
		(const struct hfb_counter_descriptor *)(bytes + header->descriptors_offset);
	const uint64_t *values = (const uint64_t *)(bytes + header->values_offset);
	uint64_t values_max = (view->bytes - header->values_offset) / 8;
	/* pairs with the release in hfb_counters_block */
	uint32_t count = __atomic_load_n(&header->count, __ATOMIC_ACQUIRE);
	uint32_t n = 0;

	if (count > header->max)
		count = header->max;
	for (uint32_t i = 0; i < count; i++) {
		struct hfb_counter_descriptor d = descriptors[i];

		d.name[sizeof(d.name) - 1] = '\0';
		d.labels[sizeof(d.labels) - 1] = '\0';
		if (d.value_index >= values_max)
			continue;
		each(arg, &d, __atomic_load_n(&values[d.value_index], __ATOMIC_RELAXED));
		n++;
	}
	return n;
}

uint32_t
hfb_counters_histograms_each(const struct hfb_counters_view *view,
			     void (*each)(void *arg, const struct hfb_histogram_descriptor *d,
					  const struct hfb_histogram *h),
			     void *arg)
{
	const struct hfb_counters_header *header = view->header;
	const uint8_t *bytes = (const uint8_t *)header;
	const struct hfb_histogram_descriptor *descriptors =
		(const struct hfb_histogram_descriptor *)(bytes +
							  header->histogram_descriptors_offset);
	/* pairs with the release in hfb_counters_histogram */
	uint32_t count = __atomic_load_n(&header->histograms_count, __ATOMIC_ACQUIRE);
	uint32_t n = 0;

	if (count > header->histograms_max)
		count = header->histograms_max;
	for (uint32_t i = 0; i < count; i++) {
		struct hfb_histogram_descriptor d = descriptors[i];
		const struct hfb_histogram *h;

		d.name[sizeof(d.name) - 1] = '\0';
		d.labels[sizeof(d.labels) - 1] = '\0';
		d.unit[sizeof(d.unit) - 1] = '\0';
		if (d.offset % 8 != 0 || d.offset > view->bytes || d.bytes > view->bytes - d.offset)
			continue;
		h = (const struct hfb_histogram *)(const void *)(bytes + d.offset);
		if (hfb_histogram_check(h, (size_t)d.bytes) < 0)
			continue;
		each(arg, &d, h);
		n++;
	}
	return n;
}
