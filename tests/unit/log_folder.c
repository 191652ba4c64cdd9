/* SPDX-License-Identifier: Apache-2.0 */
#include "log_folder.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

const char *
log_folder_make(void)
{
	static char names[8192][64];
	static unsigned int n;
	char *name = names[n];

	hfb_assert(n < 8192);
	snprintf(name, sizeof(names[0]), "%s/p%u", hfb_test_folder(), n++);
	hfb_assert(mkdir(name, 0755) == 0);
	return name;
}

const char *
log_folder_path(const char *folder, const char *name)
{
	static char path[1024];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

const char *
log_folder_name(uint64_t base, const char *suffix)
{
	static char name[64];

	snprintf(name, sizeof(name), "%020" PRIu64 "%s", base, suffix);
	return name;
}

void
log_folder_segment(const char *folder, const struct log_image *image, uint64_t base,
		   uint64_t capacity)
{
	struct hfb_segment_header h = {
		.topic = LOG_IMAGE_TOPIC,
		.partition = LOG_IMAGE_PARTITION,
		.base_position = base,
		.capacity_bytes = capacity,
	};
	uint8_t *block = calloc(1, HFB_SEGMENT_HEADER_BYTES);
	int fd = open(log_folder_path(folder, log_folder_name(base, ".seg")),
		      O_WRONLY | O_CREAT | O_TRUNC, 0644);

	hfb_assert(fd >= 0 && block != NULL);
	hfb_segment_header_seal(&h);
	memcpy(block, &h, sizeof(h));
	hfb_assert(write(fd, block, HFB_SEGMENT_HEADER_BYTES) == HFB_SEGMENT_HEADER_BYTES);
	hfb_assert(write(fd, image->bytes + (base - image->base), capacity) == (ssize_t)capacity);
	close(fd);
	free(block);
}

void
log_folder_write(const char *folder, const char *name, uint64_t offset, const void *bytes,
		 size_t size)
{
	int fd = open(log_folder_path(folder, name), O_RDWR);
	uint8_t *zeros = calloc(1, size);

	hfb_assert(fd >= 0 && zeros != NULL);
	hfb_assert(pwrite(fd, bytes != NULL ? bytes : zeros, size, (off_t)offset) == (ssize_t)size);
	close(fd);
	free(zeros);
}

void
log_folder_flip(const char *folder, const char *name, uint64_t offset, int bit)
{
	hfb_test_flip(log_folder_path(folder, name), offset, bit);
}

uint64_t
log_folder_size(const char *folder, const char *name)
{
	struct stat st;

	return stat(log_folder_path(folder, name), &st) == 0 ? (uint64_t)st.st_size : UINT64_MAX;
}

int
log_folder_recover(const char *folder, struct hfb_recovered *ret)
{
	struct hfb_recover_config config = {
		.folder = folder,
		.topic = LOG_IMAGE_TOPIC,
		.partition = LOG_IMAGE_PARTITION,
	};
	struct hfb_err err = { 0 };
	int r = hfb_recover(hfb_env_real(), &config, ret, &err);

	if (r < 0 && getenv("HFBUS_TEST_VERBOSE") != NULL)
		fprintf(stderr, "recover: %d %s\n", r, err.text);
	return r;
}

bool
log_folder_noted(const struct hfb_recovered *r, const char *text)
{
	for (uint32_t i = 0; i < r->notes_count && i < HFB_RECOVER_NOTES_MAX; i++)
		if (r->notes[i] != NULL && strstr(r->notes[i], text) != NULL)
			return true;
	return false;
}
