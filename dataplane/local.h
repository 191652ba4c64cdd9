/* SPDX-License-Identifier: Apache-2.0 */
/*
 * local.h - channels of local clients: struct hfb_channel of <hfbus/shm.h> in a
 * sealed memfd, frames both ways.
 *
 *	main: hfb_local_create() -> HFB_COMMAND_LOCAL_ADD -> fds to the client
 *	core: hfb_local_poll() each turn; answers by hfb_local_frame_begin()/_send()
 *	main: client gone -> HFB_COMMAND_LOCAL_REMOVE -> hfb_local_destroy()
 *
 * The client may write anything there at any time. So the core keeps its own copies
 * of where it is, loads each of the client's words once, and gives up a channel whose
 * words cannot be: `broken`, which the main thread sees and closes the client for.
 *
 * Threads: create and destroy main; add, remove, poll the core's.
 * Memory:  create makes all; the core allocates nothing.
 */
#ifndef HFB_LOCAL_H
#define HFB_LOCAL_H

#include <stdbool.h>
#include <stdint.h>

#include <hfbus/shm.h>

#include "err.h"

struct hfb_core;
struct hfb_session;

#define HFB_LOCAL_TO_CLIENT_BYTES (256u * 1024u)
#define HFB_LOCAL_FRAMES_A_TURN	  64u /* of one client: others must have their turn */

struct hfb_local {
	/* the core's */
	struct hfb_channel *channel;
	uint8_t *to_core, *to_client;
	uint32_t to_core_bytes, to_client_bytes; /* powers of two; never read from the channel */
	uint64_t to_core_head;
	uint64_t to_client_tail, to_client_head_seen;
	uint32_t begun_skip, begun_bytes; /* hfb_local_frame_begin() without _send() yet */
	uint64_t number;		  /* session number */
	struct hfb_session *session;
	uint32_t slot;
	bool broken; /* set by the core, read by main */
	/* main's */
	uint16_t core;
	int memfd, event_fd;
	uint64_t map_bytes;
};

/* @ring_bytes: power of two, room for frames to the core. */
int hfb_local_create(uint16_t core, uint64_t number, uint32_t ring_bytes,
		     struct hfb_local **ret_local, struct hfb_err *err);
void hfb_local_destroy(struct hfb_local *local); /* accepts NULL */

int hfb_locals_create(struct hfb_core *core, uint32_t max, struct hfb_err *err);
void hfb_locals_destroy(struct hfb_core *core);

/* Poll core. Add: 0, or -ENOSPC (limits.local-clients, or limits.sessions). */
int hfb_local_add(struct hfb_core *core, struct hfb_local *local);
void hfb_local_remove(struct hfb_core *core, struct hfb_local *local);
uint32_t hfb_local_count(const struct hfb_core *core);
bool hfb_local_work_waits(const struct hfb_core *core);
void hfb_local_sleeping(struct hfb_core *core, uint32_t sleeps);

#endif
