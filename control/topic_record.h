/* SPDX-License-Identifier: Apache-2.0 */
/*
 * topic_record.h - a topic as the control plane checks, stores and shows it. The
 * struct is that of ipc.h, so what is stored is what hfbusd gets.
 *
 * Threads: pure functions.
 */
#ifndef HFB_TOPIC_RECORD_H
#define HFB_TOPIC_RECORD_H

#include <stdbool.h>

#include <jansson.h>

#include <hfbus/ipc.h>

#include "err.h"

/** 0, or -EINVAL with the rule that @name breaks. */
int hfb_topic_record_name_check(const char *name, struct hfb_err *err);

/* One of the bus's own topics: "__offsets". */
bool hfb_topic_record_internal(const char *name);

/** Name and every limit of limits.h: 0, -EINVAL, or -EOPNOTSUPP for a mirrored stage. */
int hfb_topic_record_check(const struct hfb_ipc_topic *topic, struct hfb_err *err);

/** Are they the same topic with the same settings and version? Handles do not count. */
bool hfb_topic_record_equal(const struct hfb_ipc_topic *a, const struct hfb_ipc_topic *b);

static inline bool
hfb_topic_record_deleted(const struct hfb_ipc_topic *topic)
{
	return (topic->flags & HFB_TOPIC_DELETED) != 0;
}

/** A new reference, or NULL when memory is out. */
json_t *hfb_topic_record_to_json(const struct hfb_ipc_topic *topic);

/**
 * What hfb_topic_record_to_json() wrote. Members that are missing get their defaults,
 * unknown ones are refused by name. 0 or -EINVAL.
 */
int hfb_topic_record_from_json(const json_t *json, struct hfb_ipc_topic *ret_topic,
			       struct hfb_err *err);

/** The same from text, as the store holds it. */
int hfb_topic_record_parse(const char *text, struct hfb_ipc_topic *ret_topic, struct hfb_err *err);

const char *hfb_stage_name(uint32_t stage);		    /* "durable"; "?" when out of range */
int hfb_stage_parse(const char *name, uint32_t *ret_stage); /* 0 or -EINVAL */
const char *hfb_cleanup_name(uint32_t cleanup);		    /* "compact"; "?" when out of range */
int hfb_cleanup_parse(const char *name, uint32_t *ret_cleanup); /* 0 or -EINVAL */

#endif
