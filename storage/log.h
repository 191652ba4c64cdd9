/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h - one partition's log, as its poll core sees it.
 *
 *	at = hfb_log_claim(log, 64 + bytes);	 room in the ring, or NULL
 *	memcpy(at + 64, records, bytes);	 the one copy; then check it there
 *	hfb_log_append(log, &meta);		 header written, offset assigned
 *	...
 *	hfb_writer_poll(writer, now_ns);	 once a turn: publishes, writes, reaps
 *
 * Threads: a log belongs to one poll core from hfb_writer_attach() to
 *	    hfb_writer_detach(); functions say where they may be called.
 * Memory:  all of a log is made by hfb_log_open() on the main thread, or by the
 *	    store's helper thread and handed over; no call here allocates.
 * Cost:    claim and append touch the ring, the log's own lines and nothing else.
 */
#ifndef HFB_LOG_LIVE_H
#define HFB_LOG_LIVE_H

#include <stdbool.h>
#include <stdint.h>

#include <hfbus/log.h>
#include <hfbus/shm.h>
#include <hfbus/types.h>

#include "err.h"

struct hfb_log;
struct hfb_store;
struct hfb_writer;

/* Why there is no room. */
enum hfb_log_refusal {
	HFB_LOG_OK = 0,
	HFB_LOG_RING_FULL,  /* bytes not yet durable fill the ring: back-pressure */
	HFB_LOG_PREPARING,  /* segment or ring is still being made: try again */
	HFB_LOG_NO_SPACE,   /* disk full */
	HFB_LOG_UNPREPARED, /* no segment can be made, see hfb_log_trouble(); tried again */
	HFB_LOG_IO_ERROR,   /* final for this run */
	HFB_LOG_TOO_LARGE,
};

struct hfb_batch_meta {
	uint32_t size;	/* bytes with header, multiple of 8, <= claimed */
	uint32_t count; /* offsets taken */
	uint16_t flags; /* HFB_BATCH_* */
	uint16_t producer_epoch;
	uint32_t payload_crc;
	uint64_t producer_id; /* 0 = no dedup state is kept */
	uint64_t base_sequence;
	uint64_t end_sequence; /* expected next afterwards (a gap moves it by more than count) */
	uint64_t timestamp_ns; /* clamped so that it never goes back */
};

/* What an append came to. */
struct hfb_appended {
	uint64_t base_offset;
	uint64_t end_position;
};

/* Poll core. --------------------------------------------------------------- */

/*
 * Room for one batch of @bytes (64 + extension + payload, multiple of 8).
 * Returns where its header will stand, @bytes writable behind it, or NULL with
 * *@ret_why set. Claiming again replaces the claim; the next hfb_writer_poll()
 * ends it. With @reserve the last bytes kept for gap batches may be used as well.
 */
uint8_t *hfb_log_claim(struct hfb_log *log, uint32_t bytes, bool reserve,
		       enum hfb_log_refusal *ret_why);

/* Append the claimed batch. Cannot fail. Visible after the next writer poll. */
void hfb_log_append(struct hfb_log *log, const struct hfb_batch_meta *meta,
		    struct hfb_appended *ret_appended);

/* Bytes a producer may still send: free ring less the reserve. */
uint64_t hfb_log_room(const struct hfb_log *log);

/* Somebody waits for `durable` of this log: write at once, for the next second. A log that
 * commits at a later stage than received always does. */
void hfb_log_durable_wanted(struct hfb_log *log);

/* Dedup. */
enum hfb_sequence_verdict {
	HFB_SEQUENCE_NEXT,	/* append it */
	HFB_SEQUENCE_DUPLICATE, /* all of it is there: ack again */
	HFB_SEQUENCE_GAP,	/* something before it is missing, or it overlaps: see expected */
	HFB_SEQUENCE_FENCED,	/* a newer epoch of this producer exists */
	HFB_SEQUENCE_UNKNOWN,	/* not known and base_sequence != 0 */
	HFB_SEQUENCE_TOO_MANY,	/* table full, nobody may be evicted yet */
};
enum hfb_sequence_verdict hfb_log_sequence_check(struct hfb_log *log, uint64_t producer_id,
						 uint16_t producer_epoch, uint64_t base_sequence,
						 uint32_t count, uint64_t *ret_expected);
/* A feed's stream: true and its next sequence when the log knows it. */
bool hfb_log_stream_next(struct hfb_log *log, uint64_t producer_id, uint64_t *ret_next);

/* Positions, exact on the owning core. */
uint64_t hfb_log_position(const struct hfb_log *log, enum hfb_stage stage);
uint64_t hfb_log_committed(const struct hfb_log *log);
uint64_t hfb_log_start(const struct hfb_log *log);
uint32_t hfb_log_epoch(const struct hfb_log *log);
uint32_t hfb_log_batch_bytes_max(const struct hfb_log *log);
/* Base position of the segment the next batch goes to (between claim and append: the
 * one the claim is in): changed = a new segment. */
uint64_t hfb_log_segment_base(const struct hfb_log *log);

/*
 * Bytes of the log in the ring from @position up to what is committed.
 * Returns NULL when the position is not in the ring (go to the files).
 */
const uint8_t *hfb_log_peek(const struct hfb_log *log, uint64_t position, uint64_t *ret_bytes);

/*
 * Asynchronous read from the segment files. The caller owns @r and its buffer
 * (aligned to 4096, at least 8192) until done; hfb_writer_poll() completes it.
 */
struct hfb_read {
	uint8_t *buffer;
	uint32_t buffer_bytes;
	/* set by hfb_log_read_start() and on completion */
	const uint8_t *data; /* of the position asked */
	uint32_t data_bytes; /* valid, multiple of 8, may be short; never past committed */
	int error;	     /* 0 or -errno; -EBADMSG: known to be corrupt */
	bool busy;
	uint64_t next_position; /* with -EBADMSG, or a hole: reading may go on here */
	uint64_t next_offset;	/* with a hole */
	bool hole;		/* compaction left nothing here: 0 bytes, no error */
	/* storage's own */
	struct hfb_log *log;
	uint64_t position;
	void *private_data;
};
/* Returns 0 (done at once when not busy), -EBUSY (too many reads in flight), -ENODATA
 * (below start). What is not durable yet is not in the files: data_bytes 0. */
int hfb_log_read_start(struct hfb_log *log, uint64_t position, struct hfb_read *r);

/* Any thread ---------------------------------------------------------------- */

/* A batch at or before what is asked: from enum hfb_read_from of wire.h.
 * Returns 0, or -ENODATA below start, -ERANGE beyond the end, -ESTALE with
 * *@ret_place = where the asked epoch ends (truncated). */
int hfb_log_lookup(struct hfb_log *log, uint16_t from, uint32_t leader_epoch, uint64_t value,
		   struct hfb_place *ret_place);

/* Main thread --------------------------------------------------------------- */

struct hfb_log_config {
	const char *topic; /* copied */
	struct hfb_uuid topic_uuid;
	uint32_t partition;
	enum hfb_stage commit_stage;
	uint64_t retention_bytes;	 /* 0 = none */
	uint64_t retention_ns;		 /* 0 = none */
	uint64_t segment_bytes_max;	 /* 0 = default */
	uint64_t ring_bytes_max;	 /* 0 = default */
	uint32_t cleanup;		 /* enum hfb_cleanup */
	uint64_t tombstone_ns;		 /* 0 = default */
	uint32_t leader_epoch;		 /* this run's */
	struct hfb_positions *positions; /* slot in the shared table; lent until close */
	void *user;			 /* hfb_log_user() */
};

/* What may change while the log is served, see hfb_writer_settings(). */
struct hfb_log_settings {
	enum hfb_stage commit_stage;
	uint64_t segment_bytes_max, ring_bytes_max; /* 0 = default */
};

/* What recovery found; printed by the caller. */
struct hfb_log_report {
	uint64_t start_position, end_position, end_offset;
	uint64_t torn_bytes; /* truncated tail, 0 = none */
	uint64_t torn_position;
	uint64_t corrupt_count;	   /* ranges kept and reported */
	uint64_t corrupt_position; /* of the first */
	char corrupt_path[512];
	uint64_t scanned_bytes;
	bool clean; /* ended with an end mark */
	bool index_rebuilt;
};

int hfb_log_open(struct hfb_store *store, const struct hfb_log_config *config,
		 struct hfb_log **ret_log, struct hfb_log_report *ret_report, struct hfb_err *err);
/* After detach. Accepts NULL. */
void hfb_log_close(struct hfb_log *log);
/* After detach: remove all files of the partition. */
int hfb_log_delete(struct hfb_log *log, struct hfb_err *err);
/* Retention and the like; takes effect at the helper's next round. */
void hfb_log_set_retention(struct hfb_log *log, uint64_t retention_bytes, uint64_t retention_ns);
/* enum hfb_cleanup and its delay; at the helper's next round. What is compacted stays so. */
void hfb_log_set_cleanup(struct hfb_log *log, uint32_t cleanup, uint64_t tombstone_ns);
/*
 * Drop what is below offset @before (all ones = all that is committed and durable): the
 * start moves there, and files wholly below it go. Asked again until *@ret_done: then a
 * crash does not bring it back. Returns 0, or -ERANGE beyond what is durable.
 */
int hfb_log_trim(struct hfb_log *log, uint64_t before, bool *ret_done, struct hfb_err *err);

void *hfb_log_user(const struct hfb_log *log);
/* One sentence for each thing recovery found wrong, from 0; NULL after the last. */
const char *hfb_log_note(const struct hfb_log *log, uint32_t i);
/* The last refusal by the world the helper met (disk full, no index...): its count so far. */
uint64_t hfb_log_trouble(struct hfb_log *log, struct hfb_err *ret_err);
/* What the disk answered to the core's own reads and writes; 0 = nothing bad. */
struct hfb_disk_errors {
	uint64_t reads;		     /* failed so far */
	uint64_t read_position;	     /* of the last one */
	int read_error, write_error; /* -errno; a write's or sync's is the first, and final */
};
void hfb_log_disk_errors(const struct hfb_log *log, struct hfb_disk_errors *ret);
/* The ring's memfd for readers; borrowed. */
int hfb_log_ring_fd(const struct hfb_log *log, uint32_t *ret_generation, uint64_t *ret_bytes);
/* Open the segment that holds @position read-only, anew. Returns the fd or -ENODATA. */
struct hfb_segment_info {
	uint64_t base_position, capacity_bytes, end_position, base_offset;
	uint32_t kind;
	char path[512];
};
int hfb_log_segment_open(struct hfb_log *log, uint64_t position, struct hfb_segment_info *ret_info);

#endif
