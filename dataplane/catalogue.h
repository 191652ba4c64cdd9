/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalogue.h - the topics this node knows: durable in DATA/catalogue, and a hash
 * table that poll cores search without a lock (hfb_topic_find() of node.h).
 *
 *	hfb_catalogue_open("DATA/catalogue", &catalogue, &err);
 *	topic = hfb_topic_make(&info);			 handles filled by the caller
 *	hfb_catalogue_put(catalogue, topic, &old, &err); durable, then found
 *	hfb_node_quiesce(node);				 no core looks at @old any more
 *	free(old);
 *
 * The file (catalogue_file.h) is a log of changes, old or new whatever happens. A deleted
 * topic stays as a tombstone with its uuid, so that a delete that was cut short is
 * finished at the next start.
 *
 * Threads: main, but hfb_topic_find().
 * Memory:  topics are malloc'ed; put *takes* the new one and gives the old one back.
 */
#ifndef HFB_CATALOGUE_H
#define HFB_CATALOGUE_H

#include <stdint.h>

#include <hfbus/ipc.h>

#include "err.h"
#include "node.h"

#define HFB_CATALOGUE_TOPICS_MAX 65536u

struct hfb_catalogue;

/*
 * Read the file, or begin with none when there is none.
 *
 * Returns 0, or with a sentence
 *   -EBADMSG   torn or altered: refused, never guessed at
 *   -ENOTSUP   of a later version, or with features this program does not know
 *   -errno     reading failed
 */
int hfb_catalogue_open(const char *path, struct hfb_catalogue **ret_catalogue, struct hfb_err *err);
void hfb_catalogue_close(struct hfb_catalogue *catalogue); /* accepts NULL */

/* A topic with room for info->partitions handles (all ones), or NULL. */
struct hfb_topic *hfb_topic_make(const struct hfb_ipc_topic *info);

/*
 * Put @topic in place of the one of its name: durable first, then found. Takes
 * @topic and sets *@ret_old (NULL when new), or returns -errno, nothing changed
 * that a reader can see.
 */
int hfb_catalogue_put(struct hfb_catalogue *catalogue, struct hfb_topic *topic,
		      struct hfb_topic **ret_old, struct hfb_err *err);

/* The same without the file: handles of this run filled in, or a change undone. */
void hfb_catalogue_replace(struct hfb_catalogue *catalogue, struct hfb_topic *topic,
			   struct hfb_topic **ret_old);

/* Tombstones included. NULL = none. */
const struct hfb_topic *hfb_catalogue_get(const struct hfb_catalogue *catalogue, const char *name);
uint32_t hfb_catalogue_count(const struct hfb_catalogue *catalogue); /* with tombstones */
/* The @index-th by name; valid until the next put. */
const struct hfb_topic *hfb_catalogue_at(const struct hfb_catalogue *catalogue, uint32_t index);

/* Poll core's search; hfb_topic_find() without the node. Not tombstones. */
const struct hfb_topic *hfb_catalogue_find(const struct hfb_catalogue *catalogue, const char *name,
					   uint32_t name_size);
/* A grown table's predecessor may be searched by cores until they were quiet: then free it. */
void hfb_catalogue_reclaim(struct hfb_catalogue *catalogue);

#endif
