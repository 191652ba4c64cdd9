/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ipc_server.h - the unix socket DATA/hfbusd.sock: requests of <hfbus/ipc.h>.
 *
 *	hfb_ipc_server_create(node, path, &server, &err);
 *	poll hfb_ipc_server_fd() for reading, then hfb_ipc_server_poll(server);
 *
 * Clients are hostile until checked: a message that is no request of ours ends its
 * client; one that asks for what cannot be is answered with a sentence. A client that
 * does not take its answers is asked nothing more until it does, and holds up nobody.
 * When a client goes, its channels go from their cores before they are unmapped.
 *
 * Threads: main.
 * Memory:  one answer kept a client at most.
 */
#ifndef HFB_IPC_SERVER_H
#define HFB_IPC_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include <hfbus/ipc.h>

#include "err.h"
#include "node.h"

#define HFB_IPC_CLIENTS_MAX	1024u
#define HFB_IPC_CHANNELS_MAX	64u   /* of one client */
#define HFB_IPC_PARTITIONS_PAGE 1024u /* in one answer to TOPIC_GET */

struct hfb_ipc_server;
struct hfb_local;

/* An answer in the making; handlers of ipc_requests.c fill it. */
struct hfb_ipc_answer {
	uint8_t *body; /* HFB_IPC_BYTES_MAX less the head */
	uint32_t body_bytes;
	int fds[2];
	bool fds_owned; /* close them once sent */
	uint32_t fds_count;
};

struct hfb_ipc_client {
	int fd;
	struct hfb_ipc_client *next, **link;
	struct hfb_local *channels[HFB_IPC_CHANNELS_MAX];
	uint32_t channels_count;
	/* an answer the socket had no room for */
	uint8_t *waiting;
	uint32_t waiting_bytes;
	struct hfb_ipc_answer waiting_answer;
};

/* The socket's file is replaced; mode 0600. */
int hfb_ipc_server_create(struct hfb_node *node, const char *path,
			  struct hfb_ipc_server **ret_server, struct hfb_err *err);
/* Ends all clients, removes the file. Accepts NULL. */
void hfb_ipc_server_destroy(struct hfb_ipc_server *server);
int hfb_ipc_server_fd(const struct hfb_ipc_server *server);
void hfb_ipc_server_poll(struct hfb_ipc_server *server);
/* Now and then: end clients whose channels their cores gave up. */
void hfb_ipc_server_tick(struct hfb_ipc_server *server);

/* ipc_requests.c: carry out one request. 0, or a negative errno with a sentence. */
int hfb_ipc_request(struct hfb_node *node, struct hfb_ipc_client *client, uint16_t type,
		    const void *body, uint32_t body_bytes, struct hfb_ipc_answer *ret_answer,
		    struct hfb_err *err);
/* ipc_requests.c: take all channels of a client from their cores and free them. */
void hfb_ipc_channels_end(struct hfb_node *node, struct hfb_ipc_client *client);

#endif
