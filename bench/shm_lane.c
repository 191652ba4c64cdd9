/* SPDX-License-Identifier: Apache-2.0 */
#include "shm_lane.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int
hfb_lane_create(uint32_t event_bytes, uint32_t events, struct hfb_lane **ret_lane,
		struct hfb_err *err)
{
	struct hfb_lane *lane = aligned_alloc(64, sizeof(*lane));
	uint8_t *area;
	int fd, r;

	if (lane == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	memset(lane, 0, sizeof(*lane));
	fd = memfd_create("hfbus-bench", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, HFB_LANE_BYTES) < 0) {
		r = -errno;
		goto fail;
	}
	area = mmap(NULL, 2 * HFB_LANE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED) {
		r = -errno;
		goto fail;
	}
	lane->bytes = area;
	for (uint32_t i = 0; i < 2; i++) {
		if (mmap(area + i * HFB_LANE_BYTES, HFB_LANE_BYTES, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd, 0) == MAP_FAILED) {
			r = -errno;
			goto fail;
		}
	}
	close(fd);
	lane->events = events;
	lane->payload_bytes = (event_bytes + 7) / 8 * 8 * events;
	lane->frame_bytes = HFB_LANE_HEAD_BYTES + lane->payload_bytes;
	if (lane->frame_bytes > HFB_LANE_BYTES / 4) {
		hfb_lane_destroy(lane);
		return hfb_err_set(err, -EINVAL,
				   "%u events of %u bytes are more than %u: see "
				   "--batch and --size",
				   events, event_bytes, HFB_LANE_BYTES / 4);
	}
	*ret_lane = lane;
	return 0;
fail:
	if (fd >= 0)
		close(fd);
	hfb_lane_destroy(lane);
	return hfb_err_set(err, r, "shared memory for the bench: %s", strerror(-r));
}

void
hfb_lane_destroy(struct hfb_lane *lane)
{
	if (lane == NULL)
		return;
	if (lane->bytes != NULL)
		munmap(lane->bytes, 2 * HFB_LANE_BYTES);
	free(lane);
}
