/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sub_local.h - what the parts of a local subscriber share: sub_local.c says where the next
 * bytes come from, sub_ring.c copies them out of the ring, sub_files.c reads the segment files.
 *
 * Threads: the bus's.
 * Memory:  buffer, ring mapping and read-ahead are the source's, freed when it closes.
 */
#ifndef HFB_SUB_LOCAL_H
#define HFB_SUB_LOCAL_H

#include "compacted.h"
#include "read_ahead.h"
#include "sub_private.h"

struct hfb_local_source {
	uint32_t generation; /* of the bus: handle and ring are of it */
	bool files_only;
	uint8_t *buffer;
	/* ring */
	uint8_t *ring; /* mapped twice in a row */
	uint64_t ring_bytes;
	uint32_t ring_generation;
	bool in_ring;		    /* the last bytes came from there */
	bool live;		    /* it was at the end, or in the ring: may be lapped */
	uint64_t former_ring_bytes; /* of the ring before, until we are in this one; 0 = none */
	bool reached_end;	    /* what comes now is new */
	uint64_t ring_asked_ns;
	uint64_t not_ring_below; /* distrusted: the files are asked below */
	/* file */
	int fd;
	uint64_t file_base, file_end;
	struct hfb_extents *extents;  /* of a compacted one, else NULL */
	struct hfb_extent_place hole; /* where it goes on, after -ESPIPE */
	struct hfb_ahead *ahead;      /* NULL: not needed yet, or refused */
	bool ahead_on;		      /* started with fd */
	bool ahead_refused;
	char path[512];
	uint64_t retried_at; /* position already read anew; NO_POSITION = none */
	uint64_t waited_at, waited_since_ns;
	uint64_t attach_ns;
};

static inline const struct hfb_positions *
hfb_local_positions(const struct hfb_sub *sub)
{
	return &sub->bus->positions[sub->handle];
}

static inline uint64_t
hfb_local_published(const struct hfb_mark *mark)
{
	/* pairs with the owner core's release */
	return __atomic_load_n(&mark->position, __ATOMIC_ACQUIRE);
}

/* What is durable is in a segment file up to here, and in the ring from here on. */
static inline uint64_t
hfb_local_filed(const struct hfb_positions *p)
{
	return __atomic_load_n(&p->filed, __ATOMIC_ACQUIRE);
}

/* sub_ring.c */
void hfb_local_ring_unmap(struct hfb_local_source *l);
/* The owner replaced the ring: we have the old memory, which nobody writes any more. */
bool hfb_local_ring_current(struct hfb_sub *sub);
/* Copy [@position, + @size). 1 done, 0 it is not (any more) there. */
int hfb_local_ring_copy(struct hfb_sub *sub, uint64_t position, uint8_t *to, uint64_t size);
/* The writer has overwritten what comes next. */
bool hfb_local_lapped(const struct hfb_sub *sub);

/* sub_files.c */
void hfb_local_file_close(struct hfb_local_source *l);
/* 0, -ENODATA below start, -ENOTCONN, or why it cannot be had. */
int hfb_local_file_open(struct hfb_sub *sub, uint64_t position, struct hfb_err *err);
/*
 * Read up to @size bytes at @position, which must be filed that far.
 * Returns how many (a segment's end may cut them), -ESPIPE (compaction left nothing
 * here, ->hole says where it goes on), or an error as above.
 */
int64_t hfb_local_file_read(struct hfb_sub *sub, uint64_t position, uint8_t *to, uint64_t size,
			    struct hfb_err *err);
/*
 * Old data by large reads ahead of us. Up to @limit, at least @need bytes.
 * Returns how many with sub->bytes set, 0: on their way, -ENODATA: not in this way.
 */
int64_t hfb_local_ahead_read(struct hfb_sub *sub, uint64_t limit, uint64_t need,
			     struct hfb_err *err);
void hfb_local_ahead_free(struct hfb_local_source *l);

#endif
