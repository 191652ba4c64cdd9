/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_config.h - which bus is ours: the one thing hfbus-control reads of the
 * configuration. hfbusd checks the rest of it.
 *
 * Threads: main, at start.
 */
#ifndef HFB_CONTROL_CONFIG_H
#define HFB_CONTROL_CONFIG_H

#include "err.h"

/**
 * The data folder: @data (NULL = not given), else `data:` of the file @config
 * (NULL = none), else $HFBUS_DATA, else the default of hfbusd. Made when missing.
 *
 * Returns 0, -EINVAL (the file is not YAML, or the path too long), or the errno of
 * reading the file or making the folder.
 */
int hfb_control_data_dir(const char *data, const char *config, char ret_dir[4096],
			 struct hfb_err *err);

#endif
