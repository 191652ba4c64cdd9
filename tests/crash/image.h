/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image.h - worlds worked in, and images of what their disks may hold after a power failure.
 *
 * Threads: the test's own.
 */
#ifndef HFB_CRASH_IMAGE_H
#define HFB_CRASH_IMAGE_H

#include <stdint.h>

/* Work in a world that begins with @seed, then recover about @images of its disk. */
void images_of_world(uint64_t seed, uint64_t images);

#endif
