/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connection.h - what is behind a struct hfb_bus: the socket to hfbusd's main
 * thread and the memory it hands out, or the UDP address; the links to cores.
 *
 *	r = hfb_connection_check(bus, now_ns);	 0 = up, -ENOTCONN = down just now
 *	if (pub->generation != bus->generation)	 it is another run or session:
 *		... ask for handles anew ...
 *
 * Threads: the bus's.
 * Memory:  maps are replaced at a reconnect: derive pointers from bus->positions
 *	    anew after the generation has changed.
 */
#ifndef HFB_CONNECTION_H
#define HFB_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hfbus/admin.h>
#include <hfbus/bus.h>
#include <hfbus/ipc.h>
#include <hfbus/shm.h>
#include <hfbus/wire.h>

#include "counters.h"
#include "err.h"
#include "link.h"

#define HFB_CONNECT_MS_DEFAULT	 5000u
#define HFB_RECONNECT_MS_DEFAULT 30000u

struct hfb_pub;

struct hfb_bus {
	uint32_t connect_ms, reconnect_ms;
	bool local;
	bool up;
	uint32_t generation; /* counts connects; 0 = never was up */
	uint64_t broker_epoch;
	uint64_t tsc_hz; /* local; 0 = not known */
	uint64_t down_since_ns, next_try_ns, checked_ns, retry_ns;
	/* local */
	char data_dir[4096];
	int socket;
	uint32_t request_id;
	uint32_t cores;
	const struct hfb_positions *positions;
	size_t positions_bytes;
	struct hfb_counters_view counters;
	/* UDP */
	char host[256];
	uint16_t udp_port;
	/* both: one link a core, made when first needed; [0] of UDP asks metadata */
	struct hfb_link *links[HFB_CORES_MAX];
	uint32_t links_end;		/* of those that are there, the last one's index + 1 */
	uint64_t coarse_ns, coarse_tsc; /* hfb_connection_now() */
	struct hfb_pub *pubs;		/* acks find their publisher here */
};

/* Monotonic ns; a vdso read. */
uint64_t hfb_now_ns(void);

/* The same some us late, for timers of ms: mostly a read of the TSC. */
uint64_t hfb_connection_now(struct hfb_bus *bus);

/* connection_ask.c */
/* Connect bus->socket. Returns 0, or -errno and bus->socket is as it was. */
int hfb_connection_dial(struct hfb_bus *bus, struct hfb_err *err);
void hfb_connection_fds_close(const int *fds, uint32_t count);

/*
 * One request and its answer to hfbusd's main thread. @answer takes up to
 * *@size bytes of body; *@size is what came. @fds (of @fds_max) are the caller's
 * to close; *@fds_count how many came.
 * Returns 0, the answer's errno negated with its sentence, -ENOTCONN, -ETIMEDOUT, -EPROTO.
 */
int hfb_connection_ask(struct hfb_bus *bus, uint16_t type, const void *body, size_t body_size,
		       void *answer, size_t *size, int *fds, uint32_t fds_max, uint32_t *fds_count,
		       struct hfb_err *err);

/*
 * Is hfbusd there? Looks at the socket at most every few ms, and tries to
 * connect again with growing pauses when it is gone.
 * Returns 0, -ENOTCONN while it is gone, -ETIMEDOUT when it is gone since reconnect_ms.
 */
int hfb_connection_check(struct hfb_bus *bus, uint64_t now_ns, struct hfb_err *err);

/* Mark it gone: the next check begins to reconnect. */
void hfb_connection_lost(struct hfb_bus *bus);

/* The link to a core; made when missing. */
int hfb_connection_link(struct hfb_bus *bus, uint16_t core, uint16_t udp_port,
			struct hfb_link **ret_link, struct hfb_err *err);

/* Take frames from all links: acks go to publishers. Returns frames taken. */
uint32_t hfb_connection_receive(struct hfb_bus *bus, uint64_t now_ns);

/* A topic's description and one partition's address, over either transport. */
struct hfb_partition_address {
	struct hfb_uuid topic;
	uint32_t partitions; /* of the topic */
	uint32_t commit_stage;
	uint32_t handle;
	uint16_t core, udp_port;
	uint32_t leader_epoch; /* UDP; else 0 */
	uint32_t batch_bytes_max;
};
/* -ENOENT no such topic, -ERANGE no such partition, and what ask returns. */
/* Local only: the topic, made if it is not there and hfbusd makes topics for publishers. */
int hfb_connection_auto_create(struct hfb_bus *bus, const char *topic, struct hfb_err *err);
int hfb_connection_resolve(struct hfb_bus *bus, const char *topic, uint32_t partition,
			   struct hfb_partition_address *ret, struct hfb_err *err);

/* udp_metadata.c: the same over UDP on @link; used for subscribers' own links too. */
int hfb_metadata_ask(struct hfb_link *link, const char *topic, uint32_t partition,
		     uint32_t timeout_ms, struct hfb_partition_address *ret, struct hfb_err *err);

#endif
