/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hfbus/log.h - the one log format: ring, disk, wire and mirror.
 *
 * Little-endian, 8-byte aligned. A log is a run of batches; a batch is the unit
 * of append, checksum and dedup; its address is its position. docs/STORAGE.md
 * tells the rules, this file the bytes.
 *
 * Threads: pure functions over the caller's memory.
 * Source:  this project; crc32c as in RFC 3720 B.4 (Castagnoli).
 */
#ifndef HFB_LOG_H
#define HFB_LOG_H

#include <stdint.h>

#include <hfbus/limits.h>
#include <hfbus/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HFB_BATCH_ALIGN	       8u
#define HFB_BATCH_HEADER_BYTES 64u
#define HFB_BATCH_VERSION      1u

/* Batch encodings. */
#define HFB_ENCODING_NATIVE    0u
#define HFB_ENCODING_COMPACTED 1u /* struct hfb_compacted_records before the records */

/* Batch flags. */
#define HFB_BATCH_CONTROL	 0x0001u /* payload is one control record, below */
#define HFB_BATCH_TRANSACTIONAL	 0x0002u /* reserved */
#define HFB_BATCH_EXTENSION	 0x0004u /* extension words follow the header */
#define HFB_BATCH_STREAM	 0x0008u /* producer is a feed's stream key */
#define HFB_BATCH_FLAGS_KNOWN	 0x000fu /* others: refuse the batch by name */
#define HFB_BATCH_FLAGS_PRODUCER 0x0000u /* those a producer may set */

/*
 * The batch header. Written last into the ring, its checksum computed from
 * register values (a crc over bytes just stored costs a failed store-forward).
 */
struct hfb_batch {
	uint32_t size;		 /*  0 bytes with header; multiple of 8 */
	uint32_t header_crc;	 /*  4 crc32c of the other 60 bytes, see hfb_batch_crc */
	uint64_t base_offset;	 /*  8 of the first event */
	uint32_t count;		 /* 16 offsets the batch takes; 0 for most control batches */
	uint8_t version;	 /* 20 HFB_BATCH_VERSION */
	uint8_t encoding;	 /* 21 */
	uint16_t flags;		 /* 22 HFB_BATCH_* */
	uint32_t leader_epoch;	 /* 24 */
	uint32_t durable_lag;	 /* 28 (position - durable) / 8 when appended; saturates */
	uint64_t producer_id;	 /* 32 0 = none, no dedup */
	uint64_t base_sequence;	 /* 40 sequence of the first record; a gap's first missing */
	uint64_t timestamp_ns;	 /* 48 owner's clock at receive, UTC, never going back */
	uint32_t payload_crc;	 /* 56 crc32c of the records, the producer's own */
	uint16_t producer_epoch; /* 60 fences the older one */
	uint16_t reserved;	 /* 62 0 */
};

/* A record: 16 bytes, key, headers, value, zero padding to 8. */
struct hfb_record {
	uint32_t value_size;   /* bytes; all ones = null (tombstone) */
	uint16_t key_size;     /* bytes; all ones = null */
	uint16_t headers_size; /* bytes of {u16 name_size, u16 value_size, name, value}... */
	int64_t event_time_ns; /* producer's clock, UTC; 0 = none */
};
#define HFB_RECORD_HEADER_BYTES 16u
#define HFB_VALUE_NULL		0xffffffffu
#define HFB_KEY_NULL		0xffffu

/*
 * Extension words follow the batch header where HFB_BATCH_EXTENSION is set: one
 * head word, then one word for each bit of `kinds`, lowest first. They belong
 * to the broker; payload_crc does not cover them, words_crc does.
 */
struct hfb_extension {
	uint16_t words;	    /* with this one, 2..8 */
	uint16_t kinds;	    /* HFB_EXT_* bits */
	uint32_t words_crc; /* crc32c of the words after this one */
};
#define HFB_EXT_PORT_TIME 0x0001u /* u64 ns UTC: the NIC's or capture's receive stamp */
#define HFB_EXT_KNOWN	  0x0001u

/* Control batches: payload starts with this, its body follows. */
enum hfb_control_type {
	HFB_CONTROL_PADDING = 1, /* no body, payload unchecked (payload_crc 0); takes no offset */
	HFB_CONTROL_GAP = 2,	 /* struct hfb_control_gap; takes one offset */
	HFB_CONTROL_STREAM_START = 3, /* struct hfb_control_stream; takes none */
	HFB_CONTROL_EPOCH_START = 4,  /* struct hfb_control_epoch; takes none */
	HFB_CONTROL_END_MARK = 5,     /* struct hfb_control_end; takes none */
};

/*
 * Padding is told apart from the others by base_sequence == HFB_CONTROL_PADDING
 * in the header (its payload may be absent: size 64). For all control batches
 * but gaps base_sequence holds the type; a gap's type is in its payload.
 */
struct hfb_control {
	uint16_t type;	  /* enum hfb_control_type */
	uint16_t version; /* 1 */
	uint32_t reserved;
};

enum hfb_gap_cause {
	HFB_GAP_WIRE = 1,  /* missing on every line of the feed */
	HFB_GAP_LOCAL = 2, /* this node dropped it: ring full while the disk stalled */
};

/* Header: producer_id = stream key, base_sequence = first missing, count = 1. */
struct hfb_control_gap {
	struct hfb_control control;
	uint64_t first; /* first missing sequence */
	uint64_t count; /* how many, >= 1 */
	uint32_t cause; /* enum hfb_gap_cause */
	uint32_t reserved;
};

/* Names the stream behind a producer id; repeated at least once per segment. */
struct hfb_control_stream {
	struct hfb_control control;
	uint8_t framing;      /* enum hfb_framing */
	uint8_t session_size; /* bytes used of session */
	uint16_t feed_size;   /* bytes used of feed */
	uint32_t reserved;
	uint64_t next_sequence; /* expected when written */
	uint8_t session[32];	/* the feed's own session id, as text */
	uint8_t feed[64];	/* the feed's name in the config */
};

enum hfb_framing {
	HFB_FRAMING_RAW = 1,
	HFB_FRAMING_MOLDUDP64 = 2,
	HFB_FRAMING_IEX_TP = 3,
};

struct hfb_control_epoch {
	struct hfb_control control;
	uint32_t leader_epoch;
	uint32_t previous_epoch;  /* 0 = none */
	uint64_t previous_end;	  /* position the previous epoch ends at = this batch's */
	uint64_t previous_offset; /* offset it ends at */
};

struct hfb_control_end {
	struct hfb_control control;
	uint64_t end_position; /* of this batch */
	uint64_t end_offset;
};

/*
 * A segment file: one block of header, then the log from base_position on.
 * File offset of position p = HFB_SEGMENT_HEADER_BYTES + (p - base_position).
 * Name: <base_position, 20 digits>.seg; its sealed index <...>.idx.
 */
#define HFB_SEGMENT_HEADER_BYTES 4096u
#define HFB_SEGMENT_MAGIC	 0x0031474553424648ull /* "HFBSEG1\0" */
#define HFB_INDEX_MAGIC		 0x0031584449424648ull /* "HFBIDX1\0" */
#define HFB_CHECKPOINT_MAGIC	 0x0031504b43424648ull /* "HFBCKP1\0" */
#define HFB_FORMAT_VERSION	 1u

enum hfb_segment_kind {
	HFB_SEGMENT_LOG = 0,
	HFB_SEGMENT_COMPACTED = 1,
};

struct hfb_segment_header {
	uint64_t magic;	       /* HFB_SEGMENT_MAGIC */
	uint32_t version;      /* HFB_FORMAT_VERSION */
	uint32_t incompatible; /* feature bits a reader must know; 0 today */
	struct hfb_uuid topic;
	uint32_t partition;
	uint32_t kind;		 /* enum hfb_segment_kind */
	uint64_t base_position;	 /* multiple of 4096 */
	uint64_t capacity_bytes; /* positions the file holds; multiple of 4096 */
	uint64_t created_ns;
	uint32_t generation; /* times this file was recycled */
	uint32_t header_crc; /* crc32c of the bytes before it */
};

/* Index file: this head, then entries_count entries, oldest first. */
struct hfb_index_header {
	uint64_t magic;
	uint32_t version;
	uint32_t incompatible;
	uint64_t base_position;
	uint64_t end_position;
	uint64_t base_offset;
	uint64_t end_offset;
	uint64_t first_timestamp_ns;
	uint64_t last_timestamp_ns;
	uint32_t entries_count;
	uint32_t crc; /* crc32c of the head up to here, then of the entries */
};
struct hfb_index_entry {
	uint64_t position;     /* of a batch */
	uint64_t offset;       /* its base offset */
	uint64_t timestamp_ns; /* its timestamp */
};
#define HFB_INDEX_INTERVAL_BYTES (64u * 1024u)

/*
 * A compacted segment (kind HFB_SEGMENT_COMPACTED) stands for the same positions and
 * offsets as the one it replaces, with fewer events in them. What is left of it:
 *
 *	| header block | batches, one after the other | extents, one more than counted |
 *
 * Each batch keeps the position it had; an extent is a run of batches that were
 * neighbours. Between extents is a hole: reading at a position in it goes on with the
 * first batch behind it. The extent after the last says where the segment ends.
 */
#define HFB_COMPACTED_MAGIC 0x0031504d43424648ull /* "HFBCMP1\0" */
#define HFB_COMPACTED_AT    512u		  /* of the header block */
struct hfb_compacted_header {
	uint64_t magic; /* HFB_COMPACTED_MAGIC */
	uint64_t base_offset, end_offset;
	uint64_t first_timestamp_ns, last_timestamp_ns; /* of the batches there were */
	uint64_t data_bytes;				/* of batches; the extents follow them */
	uint32_t extents_count;
	uint32_t extents_crc; /* crc32c of extents_count + 1 of them */
	uint32_t reserved;
	uint32_t crc; /* crc32c of the bytes before it */
};
struct hfb_compacted_extent {
	uint64_t position; /* of its first batch, multiple of 8 */
	uint64_t at;	   /* bytes of data before it: file offset less the header block */
	uint64_t offset;   /* base offset of its first batch */
};

/*
 * A batch that lost some of its events (HFB_ENCODING_COMPACTED) keeps header and size of
 * offsets; its payload is this, then `runs` runs, then the records that are left, then zeros.
 * A run of records has consecutive offsets from base_offset + first on.
 */
struct hfb_compacted_records {
	uint32_t runs;
	uint32_t records;
};
struct hfb_compacted_run {
	uint32_t first, count;
};

/* Bytes a record takes in a batch; sizes as stored (null counts as 0). */
static inline uint64_t
hfb_record_bytes(uint32_t value_size, uint16_t key_size, uint16_t headers_size)
{
	uint64_t n = HFB_RECORD_HEADER_BYTES + (uint64_t)headers_size;

	if (value_size != HFB_VALUE_NULL)
		n += value_size;
	if (key_size != HFB_KEY_NULL)
		n += key_size;
	return (n + 7u) & ~(uint64_t)7u;
}

#ifdef __cplusplus
}
#endif
#endif
