/* SPDX-License-Identifier: Apache-2.0 */
/*
 * env_io.h - the asynchronous queue of the real environment: io_uring.
 *
 * Made on one thread and disabled until its owner enables it, so that the
 * kernel may take for granted that one thread submits (SINGLE_ISSUER) and run
 * completions when that thread asks (DEFER_TASKRUN). Each thing the kernel
 * refuses (flags, registered files, buffers, ring fd) costs speed only and is
 * counted in hfb_io.fallbacks.
 *
 * Threads: as env.h says.
 */
#ifndef HFB_ENV_IO_H
#define HFB_ENV_IO_H

#include "env.h"

int hfb_uring_create(struct hfb_env *env, const struct hfb_io_config *config,
		     struct hfb_io **ret_io, struct hfb_err *err);
void hfb_uring_destroy(struct hfb_io *io);
int hfb_uring_enable(struct hfb_io *io);
int hfb_uring_file(struct hfb_io *io, uint32_t slot, int fd);
int hfb_uring_buffer(struct hfb_io *io, uint32_t slot, void *memory, size_t size);
bool hfb_uring_prepare(struct hfb_io *io, const struct hfb_io_op *op);
int hfb_uring_submit(struct hfb_io *io);
uint32_t hfb_uring_reap(struct hfb_io *io, struct hfb_io_done *done, uint32_t max);

#endif
