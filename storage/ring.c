/* SPDX-License-Identifier: Apache-2.0 */
#include "ring.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <hfbus/limits.h>

#include "bug.h"

#define HUGE_BYTES (2u * HFB_MIB)

/* Both halves inside one reservation, aligned for huge pages. */
static uint8_t *
map_twice(int fd, uint64_t size, bool populate)
{
	int flags = MAP_SHARED | MAP_FIXED | (populate ? MAP_POPULATE : 0);
	uint64_t reserved = 2 * size + HUGE_BYTES;
	uint8_t *raw, *at;

	raw = mmap(NULL, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (raw == MAP_FAILED)
		return NULL;
	at = (uint8_t *)(((uintptr_t)raw + HUGE_BYTES - 1) & ~(uintptr_t)(HUGE_BYTES - 1));
	if (mmap(at, size, PROT_READ | PROT_WRITE, flags, fd, 0) == MAP_FAILED ||
	    mmap(at + size, size, PROT_READ | PROT_WRITE, flags, fd, 0) == MAP_FAILED) {
		int code = errno;

		munmap(raw, reserved);
		errno = code;
		return NULL;
	}
	if (at > raw)
		munmap(raw, (size_t)(at - raw));
	if (at + 2 * size < raw + reserved)
		munmap(at + 2 * size, (size_t)(raw + reserved - (at + 2 * size)));
	return at;
}

/* Of rings, in this process. */
static uint32_t descriptors_kept;

static void
descriptor_drop(struct hfb_ring *ring)
{
	if (ring->fd < 0)
		return;
	close(ring->fd);
	ring->fd = -1;
	__atomic_sub_fetch(&descriptors_kept, 1, __ATOMIC_RELAXED);
}

static int
ring_make(const struct hfb_ring_config *config, bool huge, struct hfb_ring *ring)
{
	unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING | (huge ? MFD_HUGETLB : 0);
	int fd = memfd_create("hfbus-ring", flags);
	struct rlimit limit;
	uint8_t *bytes;
	uint32_t kept;
	int r;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)config->size) < 0)
		goto fail;
	bytes = map_twice(fd, config->size, config->populate || huge);
	if (bytes == NULL)
		goto fail;
	/* After the mapping: from here on nobody, we included, maps it writable anew. */
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE) < 0) {
		r = -errno;
		munmap(bytes, 2 * config->size);
		close(fd);
		return r;
	}
	ring->fd = fd;
	ring->bytes = bytes;
	ring->huge = huge;
	/* Each partition in use needs a descriptor for its segment. A ring can do without, its
	 * mapping holds it: where they are short, local readers read from the files alone. */
	kept = __atomic_add_fetch(&descriptors_kept, 1, __ATOMIC_RELAXED);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
	    kept > limit.rlim_cur / 16 * 7)
		descriptor_drop(ring);
	return 0;

fail:
	r = -errno;
	close(fd);
	return r;
}

int
hfb_ring_create(const struct hfb_ring_config *config, struct hfb_ring **ret_ring,
		struct hfb_err *err)
{
	struct hfb_ring *ring;
	int r = -ENOMEM;

	hfb_assert(config->size >= HFB_RING_BYTES_MIN && config->size <= HFB_RING_BYTES_MAX);
	hfb_assert((config->size & (config->size - 1)) == 0);
	ring = calloc(1, sizeof(*ring));
	if (ring == NULL)
		return hfb_err_set(err, -ENOMEM, "no memory for a ring");
	ring->size = config->size;
	ring->generation = config->generation;
	ring->buffer_slot = -1;
	if (config->hugepages && config->size % HUGE_BYTES == 0)
		r = ring_make(config, true, ring);
	if (r < 0)
		r = ring_make(config, false, ring);
	if (r < 0) {
		free(ring);
		return hfb_err_set(err, r,
				   "no ring of %" PRIu64 " bytes (%s): see ring size, the limit of"
				   " open files and vm.max_map_count",
				   config->size, strerror(-r));
	}
	*ret_ring = ring;
	return 0;
}

void
hfb_ring_destroy(struct hfb_ring *ring)
{
	while (ring != NULL) {
		struct hfb_ring *previous = ring->previous;

		munmap(ring->bytes, 2 * ring->size);
		descriptor_drop(ring);
		free(ring);
		ring = previous;
	}
}
