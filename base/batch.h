/* SPDX-License-Identifier: Apache-2.0 */
/*
 * batch.h - walk the batches of a run of log bytes, believing none of them.
 *
 *	hfb_walk_init(&walk, seed, position, bytes, size);
 *	while (hfb_walk_next(&walk, HFB_CHECK_ALL, &view) == HFB_FAULT_NONE)
 *		if (view.control == 0)
 *			for (hfb_record_first(&view, &r); hfb_record_next(&r);)
 *				use(r.value, r.value_size);
 *
 * Used by recovery, readers, `hfbus dump` and the fuzzers. The bytes may be
 * hostile, but must not change during the walk: copy them out of shared memory
 * first.
 *
 * Threads: pure functions over the caller's memory.
 * Memory:  a view points into the bytes walked.
 * Cost:    a crc over each batch with HFB_CHECK_PAYLOAD, else 64 bytes a batch.
 */
#ifndef HFB_BATCH_WALK_H
#define HFB_BATCH_WALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hfbus/log.h>

/* Why a walk stopped, or HFB_FAULT_NONE. */
enum hfb_fault {
	HFB_FAULT_NONE = 0,
	HFB_FAULT_END,	     /* exactly at the end of the bytes */
	HFB_FAULT_SHORT,     /* the bytes end inside a batch whose header is sound */
	HFB_FAULT_HEADER,    /* header crc wrong: no batch was written here */
	HFB_FAULT_FEATURE,   /* sound header with a version, encoding or flag not known here */
	HFB_FAULT_SHAPE,     /* sound header whose fields contradict each other */
	HFB_FAULT_EXTENSION, /* extension words: bad size, kinds or crc */
	HFB_FAULT_PAYLOAD,   /* payload crc wrong */
	HFB_FAULT_RECORDS,   /* right crc, but the records do not fill the payload */
	HFB_FAULT_CONTROL,   /* right crc, but not a control record known here */
	HFB_FAULTS
};
const char *hfb_fault_name(enum hfb_fault fault);

#define HFB_CHECK_HEADER  0u /* header and extension only */
#define HFB_CHECK_PAYLOAD 1u /* and the payload's crc */
#define HFB_CHECK_RECORDS 2u /* and the framing of records */
#define HFB_CHECK_ALL	  (HFB_CHECK_PAYLOAD | HFB_CHECK_RECORDS)

/* A batch found by parsing or walking. */
struct hfb_batch_view {
	uint64_t position;
	struct hfb_batch header; /* copied */
	const uint8_t *bytes;	 /* header.size of them, from the header on */
	const uint8_t *payload;	 /* behind header and extension */
	uint32_t payload_bytes;
	uint16_t control;	  /* enum hfb_control_type, 0 = events */
	uint16_t extension_kinds; /* HFB_EXT_* */
	uint64_t port_time_ns;	  /* HFB_EXT_PORT_TIME, 0 = none */
};

/*
 * Parse the batch at @bytes, which stands at @position; @size bytes are readable.
 * Returns HFB_FAULT_NONE with *@ret_view set, or the fault. From
 * HFB_FAULT_EXTENSION on, and with HFB_FAULT_SHORT when 64 bytes were there,
 * header and position of *@ret_view are set as well (header.size is to be trusted).
 * HFB_FAULT_SHORT with header.size 0: not even a header fits.
 */
enum hfb_fault hfb_batch_parse(uint32_t seed, uint64_t position, const void *bytes, size_t size,
			       unsigned int checks, struct hfb_batch_view *ret_view);

/* Is this header one of padding? (A gap's base_sequence may be 1 as well.) */
static inline bool
hfb_batch_is_padding(const struct hfb_batch *batch)
{
	return (batch->flags & HFB_BATCH_CONTROL) && batch->count == 0 &&
	       batch->base_sequence == HFB_CONTROL_PADDING;
}

/* The sequence expected after this batch: base + count, or the end of the gap. */
uint64_t hfb_batch_end_sequence(const struct hfb_batch_view *view);

struct hfb_walk {
	uint32_t seed;
	uint64_t position; /* of `at` */
	const uint8_t *at;
	size_t left;
};
void hfb_walk_init(struct hfb_walk *walk, uint32_t seed, uint64_t position, const void *bytes,
		   size_t size);
/* The batch here; moves behind it on HFB_FAULT_NONE and stays else. */
enum hfb_fault hfb_walk_next(struct hfb_walk *walk, unsigned int checks,
			     struct hfb_batch_view *ret_view);

/*
 * Search forward from @position in steps of 8 for a header with a right crc.
 * Returns true with the view of that batch as far as hfb_batch_parse() with
 * HFB_CHECK_HEADER fills it (the batch itself may be cut by @size); false: none,
 * *@ret_view untouched; the last 56 bytes may still begin one.
 */
bool hfb_batch_search(uint32_t seed, uint64_t position, const void *bytes, size_t size,
		      struct hfb_batch_view *ret_view);

/* Records of a view checked with HFB_CHECK_RECORDS. */
struct hfb_record_view {
	const uint8_t *key; /* NULL = null */
	const uint8_t *headers;
	const uint8_t *value; /* NULL = null (tombstone) */
	uint32_t value_size;
	uint16_t key_size, headers_size;
	int64_t event_time_ns;
	uint32_t index; /* in the batch: offset = base_offset + index */
	/* own */
	const uint8_t *at;
	size_t left;
	uint32_t count;
	bool compacted; /* some of its records are gone */
	uint32_t runs_left, run_left;
	const uint8_t *runs;
};
void hfb_record_first(const struct hfb_batch_view *view, struct hfb_record_view *r);
/* Is there another one? */
static inline bool
hfb_record_more(const struct hfb_record_view *r)
{
	return r->compacted ? r->run_left > 0 || r->runs_left > 0 : r->index + 1 < r->count;
}
/* Returns true with the next record, false after the last (or at one that does not fit). */
bool hfb_record_next(struct hfb_record_view *r);
/* One header of {u16 name_size, u16 value_size, name, value}...; start with *@at = 0. */
bool hfb_header_next(const uint8_t *headers, uint16_t headers_size, uint32_t *at,
		     const uint8_t **ret_name, uint16_t *ret_name_size, const uint8_t **ret_value,
		     uint16_t *ret_value_size);

#endif
