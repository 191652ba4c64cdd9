/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hfbus/wire.h - the native protocol's frames: UDP, later TCP, and the
 * shared-memory produce ring carry the same ones. docs/PROTOCOL.md tells the
 * exchanges; this file holds the bytes. Little-endian, addresses 16 bytes.
 *
 * Threads: plain data.
 */
#ifndef HFB_WIRE_H
#define HFB_WIRE_H

#include <stdint.h>

#include <hfbus/limits.h>
#include <hfbus/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HFB_WIRE_VERSION 1u
#define HFB_WIRE_MAGIC	 0xb5u

enum hfb_frame_type {
	HFB_FRAME_PAD = 0,	    /* shared memory only: skip to the ring's start */
	HFB_FRAME_HELLO = 1,	    /* c->s, padded to HFB_HELLO_BYTES, session 0 */
	HFB_FRAME_COOKIE = 2,	    /* s->c, never larger than the HELLO */
	HFB_FRAME_OPEN = 3,	    /* c->s, cookie given back; idempotent per (address, nonce) */
	HFB_FRAME_OPENED = 4,	    /* s->c, session number */
	HFB_FRAME_METADATA_GET = 5, /* c->s, topic by name */
	HFB_FRAME_METADATA = 6,	    /* s->c */
	HFB_FRAME_PRODUCE = 7,	    /* c->s, one batch */
	HFB_FRAME_ACK = 8,	    /* s->c, vector */
	HFB_FRAME_SUBSCRIBE = 9,    /* c->s, (place, window); repeated as the window moves */
	HFB_FRAME_DATA = 10,	    /* s->c, bytes of the log at a position */
	HFB_FRAME_READ_STATE =
		11,	      /* s->c, answer to SUBSCRIBE that is not data: error, tail, place */
	HFB_FRAME_CLOSE = 12, /* both */
	HFB_FRAME_ERROR = 13, /* s->c, enum hfb_wire_code with the packet number it answers */
};

/* Frame flags. */
#define HFB_FRAME_TAG 0x0001u /* a 16-byte tag follows the header; reserved, refused today */

struct hfb_frame {
	uint8_t magic;	       /* HFB_WIRE_MAGIC */
	uint8_t version;       /* HFB_WIRE_VERSION */
	uint8_t type;	       /* enum hfb_frame_type */
	uint8_t reserved;      /* 0 */
	uint16_t flags;	       /* HFB_FRAME_* */
	uint16_t incompatible; /* feature bits the receiver must know; 0 today */
	uint64_t session;      /* 0 before OPENED; top byte = core that owns it */
	uint64_t packet;       /* sender's counter, from 1, one a frame */
};
#define HFB_FRAME_BYTES 24u

/* Why something was refused; counted by these names. */
enum hfb_wire_code {
	HFB_WIRE_OK = 0,
	HFB_WIRE_SEQUENCE_GAP = 1,     /* expected sequence is in the ack; go back to it */
	HFB_WIRE_FENCED = 2,	       /* a newer producer epoch exists */
	HFB_WIRE_UNKNOWN_PRODUCER = 3, /* not known and does not start at 0 */
	HFB_WIRE_NO_PARTITION = 4,     /* handle unknown here */
	HFB_WIRE_BAD_BATCH = 5,	       /* crc or framing wrong */
	HFB_WIRE_TOO_LARGE = 6,
	HFB_WIRE_RING_FULL = 7,		 /* no credit was kept: try again from the acked sequence */
	HFB_WIRE_NO_SPACE = 8,		 /* disk full; see retention, free space */
	HFB_WIRE_IO_ERROR = 9,		 /* the segment's disk failed; produce is stopped */
	HFB_WIRE_STAGE_UNAVAILABLE = 10, /* mirrored stage without a mirror */
	HFB_WIRE_WRONG_CORE = 11,	 /* right port in the metadata */
	HFB_WIRE_NO_TOPIC = 12,
	HFB_WIRE_NO_SESSION = 13,
	HFB_WIRE_BAD_FRAME = 14,
	HFB_WIRE_TRUNCATED = 15,   /* place was cut off: epoch E ends at N */
	HFB_WIRE_BELOW_START = 16, /* retention passed it; start is in the answer */
	HFB_WIRE_LAPPED = 17,
	HFB_WIRE_CORRUPT = 18,
	HFB_WIRE_AT_END = 19, /* nothing more is committed at this place */
	HFB_WIRE_CLOSED = 20,
	HFB_WIRE_TOO_MANY = 21,	 /* table full: sessions, subscriptions, producers */
	HFB_WIRE_COMPACTED = 22, /* nothing is left up to the position; it goes on there */
};

#define HFB_HELLO_BYTES 128u
struct hfb_frame_hello { /* rest of HFB_HELLO_BYTES is zero */
	struct hfb_frame frame;
	uint64_t nonce; /* client's, random */
};
struct hfb_frame_cookie {
	struct hfb_frame frame;
	uint64_t nonce;
	uint8_t cookie[16];
};
struct hfb_frame_open {
	struct hfb_frame frame;
	uint64_t nonce;
	uint8_t cookie[16];
};
struct hfb_frame_opened {
	struct hfb_frame frame;
	uint64_t nonce;
	uint32_t idle_ms; /* session is forgotten after this silence */
	uint16_t core;
	uint16_t cores;
	uint32_t payload_max; /* bytes of one frame */
	uint32_t reserved;
	uint64_t broker_epoch; /* this run of the broker */
};

struct hfb_frame_metadata_get {
	struct hfb_frame frame;
	uint32_t first_partition;
	uint16_t name_size; /* 1..HFB_TOPIC_NAME_MAX */
	uint16_t reserved;
	/* name */
};
struct hfb_wire_partition {
	uint32_t handle;
	uint16_t core;
	uint16_t udp_port;
	uint32_t leader_epoch;
	uint32_t batch_bytes_max;
	uint64_t start; /* position */
	uint64_t start_offset;
	uint64_t committed; /* position */
	uint64_t committed_offset;
};
struct hfb_frame_metadata {
	struct hfb_frame frame;
	uint64_t answers;	   /* packet number asked */
	uint32_t code;		   /* enum hfb_wire_code */
	uint32_t partitions_count; /* of the topic */
	struct hfb_uuid topic;
	uint32_t first_partition;
	uint16_t count; /* entries that follow */
	uint8_t commit_stage;
	uint8_t reserved;
	/* struct hfb_wire_partition[count] */
};

/* One batch: the broker writes the header from these and copies the records. */
struct hfb_frame_produce {
	struct hfb_frame frame;
	uint32_t partition; /* handle */
	uint16_t flags;	    /* HFB_PRODUCE_* */
	uint16_t producer_epoch;
	uint32_t count;	      /* records, 1.. */
	uint32_t payload_crc; /* crc32c of the records */
	uint64_t producer_id; /* random, not 0 */
	uint64_t base_sequence;
	/* records to the end of the frame; multiple of 8 */
};
#define HFB_PRODUCE_ACK_STAGE	0x0003u /* enum hfb_stage that triggers an ack */
#define HFB_PRODUCE_WANT_OFFSET 0x0004u /* return base offsets of accepted batches */
#define HFB_PRODUCE_FLAGS_KNOWN 0x0007u

struct hfb_wire_ack {
	uint32_t partition; /* handle */
	uint16_t code;	    /* enum hfb_wire_code; not 0: produce from received on again */
	uint16_t producer_epoch;
	uint32_t leader_epoch;
	uint32_t credit_bytes; /* batch bytes that may be in flight beyond `received` */
	uint64_t producer_id;
	uint64_t sequence[HFB_STAGES]; /* next sequence not yet at this stage */
	uint64_t base_offset; /* of the batch ending at sequence[RECEIVED], with WANT_OFFSET;
			       * HFB_OFFSET_UNKNOWN where it is not told */
};
#define HFB_OFFSET_UNKNOWN 0xffffffffffffffffull
struct hfb_frame_ack {
	struct hfb_frame frame;
	uint16_t count;
	uint16_t reserved[3];
	/* struct hfb_wire_ack[count] */
};

enum hfb_read_from {
	HFB_FROM_PLACE = 0, /* (leader_epoch, position); offset ignored */
	HFB_FROM_OFFSET = 1,
	HFB_FROM_EARLIEST = 2,
	HFB_FROM_LATEST = 3, /* what is committed from now on */
	HFB_FROM_TIME = 4,   /* first batch with timestamp_ns >= value */
};
struct hfb_frame_subscribe {
	struct hfb_frame frame;
	uint32_t partition;    /* handle */
	uint32_t leader_epoch; /* FROM_PLACE: of value; FROM_OFFSET: of the event before, or 0 */
	uint16_t from;	       /* enum hfb_read_from */
	uint16_t flags;	       /* HFB_SUBSCRIBE_* */
	uint32_t window_bytes; /* pushed beyond value at most; 0 ends the subscription */
	uint64_t value;	       /* position, offset or ns */
};
/*
 * Start at what `from` and `value` say, or go back there because DATA was lost;
 * answered by READ_STATE. Without it the subscription, if there is one, keeps its
 * place and only the window moves to [value, value + window_bytes), value being
 * the position the client has everything below of; that is not answered.
 */
#define HFB_SUBSCRIBE_SEEK	  0x0001u
#define HFB_SUBSCRIBE_FLAGS_KNOWN 0x0001u
struct hfb_frame_data {
	struct hfb_frame frame;
	uint32_t partition;
	uint32_t leader_epoch;
	uint64_t position;  /* of the first byte */
	uint64_t committed; /* position */
			    /* bytes of the log, multiple of 8 */
};
struct hfb_frame_read_state {
	struct hfb_frame frame;
	uint64_t answers; /* packet number of the SUBSCRIBE, 0 = unasked */
	uint32_t partition;
	uint32_t code;		/* enum hfb_wire_code */
	uint32_t leader_epoch;	/* now, or the E of "epoch E ends at N" */
	uint32_t skipped_words; /* CORRUPT, COMPACTED: 8-byte words before position that are passed
				   by */
	uint64_t position;	/* where reading goes on: resolved start, N, tail or next valid */
	uint64_t offset;	/* of position, where known */
	uint64_t committed;	/* position */
};
struct hfb_frame_error {
	struct hfb_frame frame;
	uint64_t answers;
	uint32_t code;
	uint32_t reserved;
};

#ifdef __cplusplus
}
#endif
#endif
