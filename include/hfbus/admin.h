/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hfbus/admin.h - ask hfbusd for topics and figures, and change its catalogue.
 *
 *	struct hfb_ipc_topic topic;
 *
 *	r = hfb_admin_topic_get(bus, "orders", &topic, &err);
 *
 * Local buses only (-EOPNOTSUPP over UDP), but hfb_admin_topic_get(), which asks
 * for metadata there and fills name, uuid, partitions and commit_stage.
 *
 * Threads: the bus's thread.
 * Cost:    each call is a round trip to hfbusd's main thread, never to a poll core.
 */
#ifndef HFB_ADMIN_H
#define HFB_ADMIN_H

#include <stdint.h>

#include <hfbus/bus.h>
#include <hfbus/err.h>
#include <hfbus/ipc.h>
#include <hfbus/shm.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * All return 0, or hfbusd's own refusal (negative errno, its sentence in @err), or
 *   -ENOTCONN    hfbusd is gone; one attempt to reconnect was made
 *   -ETIMEDOUT   no answer
 *   -EOPNOTSUPP  not over UDP
 */

/** -ENOENT: no such topic. */
int hfb_admin_topic_get(struct hfb_bus *bus, const char *name, struct hfb_ipc_topic *ret_topic,
			struct hfb_err *err);

/** Partitions [@first, @first + @count) of a topic; short when there are fewer.
 * Returns how many were filled. */
int hfb_admin_partitions_get(struct hfb_bus *bus, const char *name, uint32_t first,
			     struct hfb_ipc_partition *ret_partitions, uint32_t count,
			     struct hfb_err *err);

/** Topics with names after @after ("" = from the first), by name. Returns how
 * many were filled, at most @max; 0 = no more. */
int hfb_admin_topics_list(struct hfb_bus *bus, const char *after, struct hfb_ipc_topic *ret_topics,
			  uint32_t max, struct hfb_err *err);

/** Create, change or delete (HFB_TOPIC_DELETED), by compare-and-set on
 * expected_version. *@topic is filled anew. -EEXIST, -ESTALE, -ENOENT, -EINVAL
 * come from hfbusd. */
int hfb_admin_topic_put(struct hfb_bus *bus, struct hfb_ipc_topic *topic, struct hfb_err *err);

int hfb_admin_node_get(struct hfb_bus *bus, struct hfb_ipc_node *ret_node, struct hfb_err *err);

/** The positions table, HFB_PARTITIONS_MAX slots by handle; lent until the bus
 * is closed or reconnects. NULL over UDP. */
const struct hfb_positions *hfb_admin_positions(const struct hfb_bus *bus);

/** hfbusd's counters: calls @each for each; labels look like "core=0,reason=x",
 * @gauge tells a level from a sum. Returns how many. */
int hfb_admin_counters_each(struct hfb_bus *bus,
			    void (*each)(void *arg, const char *name, const char *labels, int gauge,
					 uint64_t value),
			    void *arg);

/** hfbusd's histograms, likewise; @unit is that of the values ("ns"). @h goes on counting
 * while it is looked at; its layout, and what reads it, are in base/histogram.h. */
struct hfb_histogram;
int hfb_admin_histograms_each(struct hfb_bus *bus,
			      void (*each)(void *arg, const char *name, const char *labels,
					   const char *unit, const struct hfb_histogram *h),
			      void *arg);

#ifdef __cplusplus
}
#endif
#endif
