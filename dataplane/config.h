/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.h - what hfbusd was told: a YAML file, then the flags over it.
 *
 *	hfb_config_default(config);
 *	hfb_config_load(config, "hfbus.yaml", &err);	 err: "hfbus.yaml:7: ..."
 *	hfb_config_port_add(config, "net_null0@10.0.0.1/24", &err);
 *	hfb_config_check(config, &err);			 what no single value shows
 *
 * Checked whole before anything starts; const afterwards.
 *
 * Threads: main, at boot.
 * Memory:  the caller's struct (about 200 KiB: not for the stack); nothing else is kept.
 */
#ifndef HFB_CONFIG_H
#define HFB_CONFIG_H

#include <stddef.h>

#include "err.h"
#include "node.h"
#include "units.h"

/* Defaults: data from $HFBUS_DATA, /var/lib/hfbus (root) or ~/.local/share/hfbus;
 * one poll core on the last CPU this process may use; adaptive. */
void hfb_config_default(struct hfb_config *config);

/*
 * Read a file, or text with a name for messages, over what is there.
 *
 * Returns 0, or with "NAME:LINE: what" in @err
 *   -EINVAL  a mistake in the text
 *   -errno   the file could not be read
 */
int hfb_config_load(struct hfb_config *config, const char *path, struct hfb_err *err);
int hfb_config_load_text(struct hfb_config *config, const char *name, const char *text, size_t size,
			 struct hfb_err *err);

/* One flag's value each. Return 0 or -EINVAL (-ENOSPC: too many). */
int hfb_config_data_set(struct hfb_config *config, const char *text, struct hfb_err *err);
int hfb_config_cores_set(struct hfb_config *config, const char *text, struct hfb_err *err);
int hfb_config_idle_set(struct hfb_config *config, const char *text, struct hfb_err *err);
int hfb_config_udp_port_set(struct hfb_config *config, const char *text, struct hfb_err *err);
int hfb_config_port_add(struct hfb_config *config, const char *spec, struct hfb_err *err);
int hfb_config_feed_add(struct hfb_config *config, const char *spec, struct hfb_err *err);

/* What only the whole shows: names twice, groups twice, CPUs twice with busy. */
int hfb_config_check(const struct hfb_config *config, struct hfb_err *err);

/* Shared by those who read names and addresses. 0 or -EINVAL. */
int hfb_topic_name_check(const char *name, size_t size);
int hfb_ip_parse(const char *text, struct hfb_ip *ret_ip); /* IPv4 today */
void hfb_ip_format(const struct hfb_ip *ip, char *to, size_t bytes);
bool hfb_device_is_pci(const char *device); /* 0000:03:00.0[,arguments] */

#endif
