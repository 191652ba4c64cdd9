/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hfbus/sub.h - read one partition of a topic.
 *
 *	struct hfb_sub_config config = { .topic = "orders", .partition = 0,
 *					 .from = HFB_SUB_EARLIEST };
 *
 *	r = hfb_sub_open(bus, &config, &sub, &err);
 *	while ((r = hfb_sub_next(sub, 1000, &item, &err)) >= 0)
 *		if (r == 1 && item->kind == HFB_ITEM_EVENT)
 *			take(item->event.value, item->event.value_size);
 *
 * Items come in the order of the log. Besides events there are marks: what was
 * missed on a feed, and everything that keeps the reader from reading the log
 * as it was written (truncated, retired, corrupt) or from its memory (lapped).
 * Nothing is skipped without a mark. Each byte served has passed its checksums.
 *
 * Threads: the bus's thread. A subscriber disturbs nobody, however slow it is.
 * Memory:  ~1.2 MiB a subscriber; over UDP besides the window; 4 MiB more while old
 *	    data is read from the files.
 * Cost:    local: a copy out of the ring (or O_DIRECT reads of a segment file) per
 *	    64 KiB, a crc pass, no call of the broker.
 */
#ifndef HFB_SUB_H
#define HFB_SUB_H

#include <stdbool.h>
#include <stdint.h>

#include <hfbus/bus.h>
#include <hfbus/err.h>
#include <hfbus/event.h>
#include <hfbus/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct hfb_sub;

enum hfb_sub_from {
	HFB_SUB_PLACE = 0,  /* config.place, as hfb_sub_place() gave it */
	HFB_SUB_OFFSET = 1, /* config.value; beyond the end: what comes below it is passed over */
	HFB_SUB_EARLIEST = 2,
	HFB_SUB_LATEST = 3, /* what is committed from now on */
	HFB_SUB_TIME = 4,   /* config.value: received at or after, UTC ns */
};

enum hfb_item_kind {
	HFB_ITEM_EVENT = 1,
	HFB_ITEM_GAP = 2,	/* a feed missed messages; takes one offset */
	HFB_ITEM_TRUNCATED = 3, /* the log was cut below what was read: see mark */
	HFB_ITEM_LAPPED = 4,	/* slower than the ring: reading goes on from the files */
	HFB_ITEM_RETIRED = 5,	/* retention took what comes next: see mark */
	HFB_ITEM_CORRUPT = 6,	/* bytes on disk are damaged: see mark */
};

/* Where a feed's event or gap comes from. */
struct hfb_feed_origin {
	const char *session; /* the feed's own, zero terminated; "" = not known here */
	const char *feed;    /* its name in hfbusd's config; "" = not known here */
	uint64_t stream_key;
	uint64_t sequence;  /* of the event; a gap's first missing */
	uint64_t gap_count; /* gap: how many are missing */
	uint32_t gap_cause; /* gap: 1 wire, 2 local */
	uint32_t framing;   /* enum hfb_framing, 0 = not known here */
};

/* What a mark tells: reading was at `from`, it goes on at `to`. */
struct hfb_mark_info {
	uint64_t from_position, to_position;
	uint64_t from_offset, to_offset; /* to_offset all ones = not known */
	uint32_t epoch;			 /* truncated: this epoch ended at to_position */
	uint32_t reserved;
	const char *path; /* corrupt: the file, or "" (ring, UDP) */
};

struct hfb_item {
	enum hfb_item_kind kind;
	uint32_t partition;
	uint64_t offset;	/* events and gaps */
	uint64_t timestamp_ns;	/* broker's clock at receive, UTC */
	struct hfb_event event; /* events */
	uint64_t port_time_ns;	/* receive stamp of the broker's port, 0 = none */
	uint64_t producer_id;	/* 0 = none */
	uint64_t batch_position;
	uint32_t leader_epoch;
	uint32_t is_feed; /* `feed` is valid */
	struct hfb_feed_origin feed;
	struct hfb_mark_info mark; /* marks but gaps */
};

struct hfb_sub_config {
	const char *topic; /* copied */
	uint32_t partition;
	enum hfb_sub_from from;
	uint64_t value; /* offset or ns */
	struct hfb_place place;
	uint32_t window_bytes; /* UDP: in flight at most; 0 = 256 KiB, up to 16 MiB */
	uint32_t files_only;   /* local: never read the ring (a reader known to be slow) */
	/* HFB_SUB_OFFSET: leader_epoch of the event before `value`, 0 = not known. Where a crash
	 * took that event the first item is TRUNCATED, and reading goes on where its epoch ends,
	 * also if the log has grown past `value` again. */
	uint32_t epoch;
	uint32_t reserved;
};

struct hfb_sub_stats {
	uint64_t events, gaps, bytes;	 /* bytes of log passed */
	uint64_t ring_reads, file_reads; /* chunks */
	uint64_t lapped, truncated, retired, corrupt;
	uint64_t reconnects;
	uint64_t udp_reasks, udp_datagrams, udp_duplicates;
};

/**
 * Open a subscriber.
 *
 * Returns 0 and sets *@ret_sub, or leaves it alone and returns
 *   -ENOENT     no such topic
 *   -ERANGE     it has no such partition
 *   -EINVAL     a field of @config is outside the range written beside it
 *   -ETIMEDOUT  no answer
 *   -ENOTCONN   hfbusd is gone
 *   -ENOMEM     out of memory
 */
int hfb_sub_open(struct hfb_bus *bus, const struct hfb_sub_config *config, struct hfb_sub **ret_sub,
		 struct hfb_err *err);

/** Close it. NULL is fine. */
void hfb_sub_close(struct hfb_sub *sub);

/**
 * The next item. It and what it points to are lent until the next call.
 *
 * Returns 1 and sets *@ret_item, 0 when nothing came within @timeout_ms, or
 *   -ENOTCONN  no hfbusd for reconnect_ms; later calls try again
 *   -ENOENT    the topic was deleted; final
 *   -ESTALE    the topic was deleted and made again; final
 *   -EIO       a segment file cannot be read
 */
int hfb_sub_next(struct hfb_sub *sub, uint32_t timeout_ms, const struct hfb_item **ret_item,
		 struct hfb_err *err);

/** True when everything committed, as far as is known here and now, was given. */
bool hfb_sub_at_end(struct hfb_sub *sub);

/** Where the next batch begins: open with HFB_SUB_PLACE to go on there. Given
 * after the last item of a batch it is exact; inside one it repeats the batch. */
void hfb_sub_place(const struct hfb_sub *sub, struct hfb_place *ret_place);

void hfb_sub_stats_get(const struct hfb_sub *sub, struct hfb_sub_stats *ret_stats);

/**
 * Counts what was read at once: a piece of the ring, of a file, a datagram. Events given
 * with the same number came into view together, so one look at the clock does for all.
 */
uint64_t hfb_sub_reads(const struct hfb_sub *sub);

/*
 * From the turn of the poll core that committed events until this local subscriber had them,
 * checked. One in sixteen reads of the ring is looked at, by the newest commit it saw: what
 * had been waiting longer for a reader that was away counts like that. Old data is not counted.
 */
struct hfb_sub_latency {
	uint64_t samples; /* 0: none yet, and the rest is 0 */
	uint64_t p50_ns, p90_ns, p99_ns, p999_ns, max_ns;
};
void hfb_sub_latency_get(const struct hfb_sub *sub, struct hfb_sub_latency *ret_latency);

#ifdef __cplusplus
}
#endif
#endif
