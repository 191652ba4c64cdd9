/* SPDX-License-Identifier: Apache-2.0 */
/*
 * top_sample.h - what hfbus top shows: two readings of a bus, and what went on between.
 *
 *	hfb_top_read(bus, &now);
 *	hfb_top_rates(&before, &now, &rates);
 *
 * Threads: the main thread.
 * Memory:  a sample owns its arrays until hfb_top_clear(); rates likewise.
 */
#ifndef HFB_TOP_SAMPLE_H
#define HFB_TOP_SAMPLE_H

#include <stdbool.h>
#include <stdint.h>

#include <hfbus/hfbus.h>

#include "stage_times.h"

#define HFB_TOP_REASONS_MAX 96u

/* Sums of counters of a core that are shown. */
#define HFB_TOP_CORE(X)                                                                            \
	X(WORK, "work_tsc_total")                                                                  \
	X(SPIN, "spin_tsc_total")                                                                  \
	X(SLEEP, "sleep_tsc_total")                                                                \
	X(EVENTS, "append_events_total")                                                           \
	X(BYTES, "append_bytes_total")                                                             \
	X(ACKS, "ack_frames_total")                                                                \
	X(PUSHES, "push_frames_total")                                                             \
	X(DISK, "disk_write_bytes_total")

enum {
#define X(id, name) HFB_TOP_##id,
	HFB_TOP_CORE(X)
#undef X
		HFB_TOP_CORE_COUNT
};

struct hfb_top_reason {
	char what[48], reason[48]; /* "drops_total", "batch_crc" */
	uint64_t value;
};

struct hfb_top_partition {
	char topic[256];
	uint32_t partition, core, state, handle;
	struct hfb_uuid uuid;
	uint64_t offset, position, durable, start;
	double events, bytes; /* in a second; rates only */
};

struct hfb_top_sample {
	struct hfb_ipc_node node;
	uint64_t time_ns; /* monotonic */
	uint64_t tsc_hz;
	uint64_t cores[HFB_CORES_MAX][HFB_TOP_CORE_COUNT];
	struct hfb_top_reason reasons[HFB_TOP_REASONS_MAX];
	uint32_t reasons_count;
	struct hfb_top_partition *partitions; /* by handle; in rates by events, most first */
	uint32_t partitions_count, partitions_capacity;
	struct hfb_histogram *stages[HFB_STAGE_TIMES_COUNT]; /* of all cores; NULL: none */
	bool failed;					     /* out of memory */
};

struct hfb_top_rates {
	double seconds;
	uint32_t cores_count;
	double cores[HFB_CORES_MAX][HFB_TOP_CORE_COUNT]; /* times: the share of the time */
	const struct hfb_top_sample *now; /* lent: partitions have their rates in it */
	struct hfb_top_reason reasons[HFB_TOP_REASONS_MAX]; /* that are not 0 since the start */
	double reason_rates[HFB_TOP_REASONS_MAX];
	uint32_t reasons_count;
};

/** Returns 0, or what hfb_admin_node_get() does, or -ENOMEM. @sample is cleared before. */
int hfb_top_read(struct hfb_bus *bus, struct hfb_top_sample *sample, struct hfb_err *err);
void hfb_top_clear(struct hfb_top_sample *sample);

/* From @before to @now, which are of one run of hfbusd. The stages of @now become those
 * of the time between; its partitions get rates and are sorted by them. */
void hfb_top_rates(struct hfb_top_sample *before, struct hfb_top_sample *now,
		   struct hfb_top_rates *ret_rates);

const char *hfb_top_stage_name(uint32_t stage);

#endif
