/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runtime.h - how clients find the bus that runs: <runtime>/hfbus/default is a symbolic
 * link to its data folder. <runtime> is $XDG_RUNTIME_DIR, else /run for root, else
 * /tmp/hfbus-<uid>.
 *
 * Threads: main.
 */
#ifndef HFB_RUNTIME_H
#define HFB_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>

/* <runtime> itself, made when it is not there. False: it cannot be, or is not ours alone. */
bool hfb_runtime_folder(char *to, size_t bytes);
/*
 * Make the link when there is none, or it leads to a bus that no longer answers.
 * False: another bus is the default, or the folder cannot be written: clients then
 * need --data or $HFBUS_DATA.
 */
bool hfb_runtime_default_take(const char *data_dir);
/* Remove the link when it is ours. */
void hfb_runtime_default_drop(const char *data_dir);

#endif
