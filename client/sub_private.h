/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sub_private.h - a subscriber's inside: one reader of batches (sub.c) over two
 * sources of bytes, local memory and files (sub_local.c) or UDP (sub_udp.c).
 *
 *	fill()  bytes of the log at `position` come to `bytes`, `bytes_left`
 *	bad()   what is there is no sound batch: try again, or a mark
 *
 * Threads: the bus's.
 */
#ifndef HFB_SUB_PRIVATE_H
#define HFB_SUB_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hfbus/log.h>
#include <hfbus/sub.h>

#include "batch.h"
#include "connection.h"

#define HFB_SUB_CHUNK_BYTES 65536u
#define HFB_SUB_STREAMS	    256u /* known at once; forgotten ones are learnt again */

enum hfb_source_result {
	HFB_SOURCE_NONE = 0,   /* nothing there now */
	HFB_SOURCE_FILLED = 1, /* bytes_left > 0 */
	HFB_SOURCE_MARK = 2,   /* sub->item is a mark */
	HFB_SOURCE_AGAIN = 3,  /* call fill again */
};

struct hfb_source_ops {
	/* At least @need bytes where they are committed. A result above, or an error. */
	int (*fill)(struct hfb_sub *sub, uint64_t need, struct hfb_err *err);
	int (*bad)(struct hfb_sub *sub, enum hfb_fault fault, const struct hfb_batch_view *view,
		   struct hfb_err *err);
	/* Look for the stream-start of a key behind us. */
	void (*stream_search)(struct hfb_sub *sub, uint64_t key);
	bool (*at_end)(struct hfb_sub *sub);
	/* Before waiting: reconnect and timers. 0, or an error. */
	int (*idle)(struct hfb_sub *sub, uint64_t now_ns, struct hfb_err *err);
	/* Sleep until there may be more, at most so long. False: it cannot tell. NULL: never. */
	bool (*wait)(struct hfb_sub *sub, uint64_t timeout_ns);
	void (*close)(struct hfb_sub *sub);
};

struct hfb_sub_stream {
	uint64_t key;	  /* 0 = free */
	uint32_t framing; /* 0 = searched for and not found */
	char session[33];
	char feed[65];
};

struct hfb_histogram;
struct hfb_local_source;
struct hfb_udp_source;

struct hfb_sub {
	struct hfb_bus *bus;
	const struct hfb_source_ops *source;
	struct hfb_local_source *local;
	struct hfb_udp_source *udp;
	struct hfb_link *wait_on; /* UDP: the link that wakes us */
	char topic[HFB_TOPIC_NAME_MAX + 1];
	uint32_t partition;
	uint32_t handle;
	struct hfb_uuid uuid;
	uint32_t seed; /* of header checksums */

	/* where we are: the batch at bytes[0] stands at position */
	uint64_t position;
	uint64_t offset; /* expected next */
	uint32_t epoch;	 /* of the last batch read, or of where we began */
	const uint8_t *bytes;
	uint64_t bytes_left;

	/* what is passed over at first: the lookup gives a batch at or before the place */
	uint64_t skip_position, skip_offset, skip_time_ns;

	/* the batch being given out */
	struct hfb_batch_view view;
	struct hfb_record_view record;
	bool in_batch;
	bool marked; /* item.mark says something */
	uint64_t batch_end_position;

	struct hfb_item item;
	uint64_t sampled_tsc; /* the next batch was committed then; 0 = not to be noted */
	uint64_t reads;
	struct hfb_histogram *latency;
	struct hfb_sub_stream streams[HFB_SUB_STREAMS];
	uint32_t streams_count;
	/* what opening was told: truncated or below start; the first fill makes it a mark */
	struct hfb_ipc_place_answer pending;
	bool pending_set;
	bool beyond_end; /* local: the offset asked for is not there yet, or not any more */
	int failed;	 /* final */
	struct hfb_err err;
	struct hfb_sub_stats stats;
};

/* Make sub->item a mark and move to @to_position. Returns HFB_SOURCE_MARK. */
int hfb_sub_mark(struct hfb_sub *sub, enum hfb_item_kind kind, uint64_t to_position,
		 uint64_t to_offset, uint32_t epoch, const char *path);

/* sub_latency.c. 0, or -1 out of memory. */
int hfb_sub_latency_init(struct hfb_sub *sub);
void hfb_sub_latency_note(struct hfb_sub *sub); /* a batch committed at ->sampled_tsc */

void hfb_sub_stream_learn(struct hfb_sub *sub, const struct hfb_batch_view *view);

/* sub_local.c: the leader epoch of the run that writes now. */
uint32_t hfb_sub_epoch_now(const struct hfb_sub *sub);
int hfb_sub_local_open(struct hfb_sub *sub, const struct hfb_sub_config *config,
		       struct hfb_err *err);
int hfb_sub_udp_open(struct hfb_sub *sub, const struct hfb_sub_config *config, struct hfb_err *err);

/* What a search behind a place gave; shared by both sources' answers. */
static inline uint64_t
hfb_sub_batch_skip(enum hfb_fault fault, const struct hfb_batch_view *view)
{
	/* a sound header tells how far the bad batch goes */
	return fault >= HFB_FAULT_EXTENSION ? view->header.size : 0;
}

#endif
