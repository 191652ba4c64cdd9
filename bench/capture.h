/* SPDX-License-Identifier: Apache-2.0 */
/*
 * capture.h - a recorded capture in memory: pcap of both byte orders, in micro- or
 * nanoseconds, and pcapng, as libpcap reads them.
 *
 *	r = capture_load(&c, "day.pcap", &err);
 *	for (uint64_t i = 0; i < c.count; i++)
 *		send(c.data + c.frame[i].at, c.frame[i].bytes, c.frame[i].time_ns);
 *	capture_free(&c);
 *
 * Threads: one.
 * Memory:  all of it, with what stands in the file.
 */
#ifndef HFB_BENCH_CAPTURE_H
#define HFB_BENCH_CAPTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"

struct capture_frame {
	uint64_t time_ns; /* since the first; a step backwards counts as the time before */
	uint64_t at;	  /* in data */
	uint32_t bytes;
};

struct capture {
	struct capture_frame *frame;
	uint8_t *data;
	uint64_t count, bytes;
	uint64_t span_ns; /* of the last frame */
	uint32_t frame_bytes_max;
	uint64_t went_back; /* frames whose stamp was before the one before */
	uint64_t cut;	    /* frames that were longer on the wire than in the file */
	uint64_t too_long;  /* frames above the limit, left out */
	bool broken_off;    /* the file ends within a frame */
};

/*
 * Frames above @frame_bytes_max are left out. Returns 0, or
 *   -ENOENT and its like  the file cannot be opened
 *   -EINVAL		   it is no capture
 *   -EPROTONOSUPPORT	   its frames are not Ethernet
 *   -ENODATA		   no frame in it
 *   -ENOMEM
 */
int capture_load(struct capture *ret, const char *path, uint32_t frame_bytes_max,
		 struct hfb_err *err);
void capture_free(struct capture *c);

#endif
