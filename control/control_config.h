/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_config.h - what hfbus-control was told: which bus is ours, and its part of the
 * configuration file. hfbusd checks the rest of it.
 *
 *	data: /var/lib/hfbus
 *	control:
 *	  http: 127.0.0.1:7480		or off
 *	  http-token: FILE		default DATA/http.token
 *	  http-timeout: 20		seconds that a slow client has
 *
 * Threads: main, at start.
 */
#ifndef HFB_CONTROL_CONFIG_H
#define HFB_CONTROL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"

struct hfb_control_config {
	char data_dir[4096];	 /* made when missing, in full */
	char http[128];		 /* ADDRESS:PORT; empty: off */
	char http_token[4096];	 /* the token's file */
	bool http_asked;	 /* it was chosen: without it the start fails */
	uint32_t http_timeout_s; /* 0: http.h's default */
};

/* Options; NULL = not given. They go over the file's. */
struct hfb_control_options {
	const char *data, *config, *http, *http_token, *http_timeout;
};

/**
 * The data folder: the option, else `data:` of the file, else $HFBUS_DATA, else the
 * default of hfbusd.
 *
 * Returns 0, -EINVAL (the file is not YAML, or a name too long), or the errno of
 * reading the file or making the folder.
 */
int hfb_control_config_load(const struct hfb_control_options *options,
			    struct hfb_control_config *ret_config, struct hfb_err *err);

#endif
