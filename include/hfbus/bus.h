/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hfbus/bus.h - a connection to one hfbusd: by shared memory on the same host,
 * or by UDP.
 *
 *	struct hfb_bus_config config = { .udp = "10.9.0.2:7400" };
 *
 *	r = hfb_bus_open(&config, &bus, &err);
 *	...
 *	hfb_bus_close(bus);
 *
 * When hfbusd goes away, publishers and subscribers keep their state, and their
 * calls try again until `reconnect_ms` have passed without an hfbusd.
 *
 * Threads: one at a time for a bus and everything opened from it.
 * Memory:  a bus lives from open to close; close publishers and subscribers first.
 * Cost:    open asks hfbusd once or twice; nothing here is called per event.
 */
#ifndef HFB_BUS_H
#define HFB_BUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hfbus/err.h>

#ifdef __cplusplus
extern "C" {
#endif

struct hfb_bus;

struct hfb_bus_config {
	const char *data_dir;  /* NULL = $HFBUS_DATA, else the running bus of this user */
	const char *udp;       /* HOST:PORT of poll core 0; NULL = local */
	uint32_t connect_ms;   /* to wait for answers in open; 0 = 5000 */
	uint32_t reconnect_ms; /* to go on without an hfbusd; 0 = 30000, all ones = for ever */
};

/**
 * Connect. @config NULL = all defaults.
 *
 * Returns 0 and sets *@ret_bus, or leaves it alone and returns
 *   -ENOENT        no running bus was found, or the folder has none
 *   -ECONNREFUSED  a socket is there, but nobody serves it
 *   -ETIMEDOUT     no answer within connect_ms
 *   -EPROTO        the other side speaks another version
 *   -EINVAL        udp is not HOST:PORT
 *   -ENOMEM        out of memory
 */
int hfb_bus_open(const struct hfb_bus_config *config, struct hfb_bus **ret_bus,
		 struct hfb_err *err);

/** Close it. NULL is fine. All publishers and subscribers must be closed. */
void hfb_bus_close(struct hfb_bus *bus);

/** The data folder of a local bus, or NULL over UDP. Lent until close. */
const char *hfb_bus_data_dir(const struct hfb_bus *bus);

/** True while hfbusd is known to be there (a local one is asked, UDP remembers). */
bool hfb_bus_connected(struct hfb_bus *bus);

/** This run of hfbusd: its leader epoch. Changes with a restart. */
uint64_t hfb_bus_epoch(const struct hfb_bus *bus);

/**
 * The folder a local open would use: @data_dir if not NULL, $HFBUS_DATA, the
 * symlink hfbusd keeps in the runtime folder.
 *
 * Returns 0 and fills @to, -ENOENT when nothing is named or running,
 * -ENAMETOOLONG when @size is too small.
 */
int hfb_bus_find(const char *data_dir, char *to, size_t size, struct hfb_err *err);

#ifdef __cplusplus
}
#endif
#endif
