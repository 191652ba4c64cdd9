/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_values.h - one setter a value, shared by the flags (config.c) and the
 * YAML file (config_yaml.c), so that both refuse the same with the same words.
 *
 * Threads: main, at boot. Return 0 or -EINVAL with a sentence without a place.
 */
#ifndef HFB_CONFIG_VALUES_H
#define HFB_CONFIG_VALUES_H

#include <stddef.h>

#include "err.h"
#include "node.h"

int hfb_value_u32(const char *text, uint32_t low, uint32_t high, uint32_t *ret_value,
		  struct hfb_err *err);
int hfb_value_bytes(const char *text, uint64_t *ret_bytes, struct hfb_err *err);
/* A size class: a power of two from @low to @high. */
int hfb_value_class(const char *text, uint64_t low, uint64_t high, uint64_t *ret_bytes,
		    struct hfb_err *err);
int hfb_value_duration(const char *text, uint64_t *ret_ns, struct hfb_err *err);
int hfb_value_word(const char *text, const char *const *words, uint32_t n, uint32_t *ret_index,
		   struct hfb_err *err);
int hfb_value_bool(const char *text, bool *ret_value, struct hfb_err *err);
int hfb_value_commit(const char *text, enum hfb_stage *ret_stage, struct hfb_err *err);

/* NULL: too many (-ENOSPC in @err). The new entry is config->xs[config->xs_count - 1]. */
struct hfb_port_config *hfb_config_port_new(struct hfb_config *config, struct hfb_err *err);
int hfb_port_device_set(struct hfb_port_config *port, const char *text, struct hfb_err *err);
int hfb_port_ip_set(struct hfb_port_config *port, const char *text, struct hfb_err *err);
struct hfb_feed_config *hfb_config_feed_new(struct hfb_config *config, struct hfb_err *err);
int hfb_feed_value_set(struct hfb_feed_config *feed, const char *key, const char *text,
		       struct hfb_err *err);
int hfb_feed_complete(const struct hfb_feed_config *feed, struct hfb_err *err);

/* hfb_config_check(), with the path of what is wrong: "feeds[1].group". */
int hfb_config_check_where(const struct hfb_config *config, char *where, size_t where_bytes,
			   struct hfb_err *err);

#endif
