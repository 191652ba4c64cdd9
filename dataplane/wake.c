/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wake.c - what drivers/net/memif of DPDK 22.11 (to 22.11.11) keeps of a queue, and the head of
 * the ring that it shares with its peer:
 *
 *	rte_eth_devices[port]			     ethdev
 *	  .data->rx_queues[queue] ───► memif_queue   region, ring_offset, last_head, descriptor
 *	  .process_private->regions[region]->addr + ring_offset ───► memif_ring, shared
 */
#define ALLOW_EXPERIMENTAL_API /* rte_intr_fd_get() */
#include "wake.h"

#include <errno.h>
#include <string.h>

#include <rte_config.h>
#include <rte_ethdev.h>
#include <rte_interrupts.h>
#include <rte_version.h>

#if RTE_VERSION >= RTE_VERSION_NUM(22, 11, 0, 0) && RTE_VERSION < RTE_VERSION_NUM(22, 12, 0, 0) && \
	defined(__x86_64__)

#define RELEASE	      "DPDK 22.11."
#define COOKIE	      0x3E31F20u /* of each ring */
#define RING_MASK_INT 1u	 /* flag: the sender need not tell */

/* Shared, of memif's protocol. */
struct memif_ring {
	uint32_t cookie;
	uint16_t flags;
	uint16_t head; /* a client's packets to a server go to here */
	uint8_t line[56];
	uint16_t tail; /* and a server's to a client */
};

/* The driver's. */
struct memif_region {
	uint8_t *addr;
	uint64_t bytes;
};

struct memif_regions {
	struct memif_region *regions[256];
	uint16_t count;
};

struct memif_queue {
	struct rte_mempool *pool;
	void *device;
	uint32_t to_client; /* enum: its ring's direction */
	uint16_t region;
	uint16_t port;
	uint32_t ring_offset;
	uint16_t last_head, last_tail;
	void *buffers;
	uint64_t packets, bytes;
	struct rte_intr_handle *intr_handle;
	uint8_t ring_size_log2;
};

/* DPDK's, of its header for drivers, which Debian does not install. */
struct ethdev_data {
	char name[RTE_ETH_NAME_MAX_LEN];
	void **rx_queues, **tx_queues;
	uint16_t rx_queues_count, tx_queues_count;
};

struct ethdev {
	void *functions[6];
	struct ethdev_data *data;
	struct memif_regions *process_private;
	void *others[5];
	void *callbacks[2][RTE_MAX_QUEUES_PER_PORT];
	int state;
	void *security;
} __rte_cache_aligned;

extern struct ethdev rte_eth_devices[RTE_MAX_ETHPORTS];

_Static_assert(offsetof(struct memif_ring, flags) == 4, "memif's ring");
_Static_assert(offsetof(struct memif_ring, head) == 6, "memif's ring");
_Static_assert(offsetof(struct memif_ring, tail) == 64, "memif's ring");
_Static_assert(offsetof(struct memif_queue, intr_handle) == 56, "the driver's queue");
_Static_assert(sizeof(struct ethdev) == 16512, "librte_ethdev.so.23: 0x81000 bytes of 32");

static const struct memif_queue *
queue_of(uint16_t dpdk_port, uint16_t queue)
{
	return rte_eth_devices[dpdk_port].data->rx_queues[queue];
}

bool
hfb_wake_supported(uint16_t dpdk_port, uint16_t queue, const struct rte_mempool *pool)
{
	const struct ethdev *device = &rte_eth_devices[dpdk_port];
	const struct memif_queue *memif;
	struct rte_eth_dev_info info;
	char name[RTE_ETH_NAME_MAX_LEN];

	if (strncmp(rte_version(), RELEASE, strlen(RELEASE)) != 0 ||
	    rte_eth_dev_info_get(dpdk_port, &info) != 0 ||
	    strcmp(info.driver_name, "net_memif") != 0 ||
	    rte_eth_dev_get_name_by_port(dpdk_port, name) != 0)
		return false;
	/* what we know by other ways has to lie where it should */
	if (strncmp(device->data->name, name, sizeof(name)) != 0 ||
	    device->data->rx_queues_count != info.nb_rx_queues || queue >= info.nb_rx_queues)
		return false;
	memif = queue_of(dpdk_port, queue);
	return memif->pool == pool && memif->port == dpdk_port && memif->to_client <= 1 &&
	       rte_intr_type_get(memif->intr_handle) == RTE_INTR_HANDLE_EXT;
}

/* NULL: no peer. */
static struct memif_ring *
ring_of(const struct hfb_queue *queue, const struct memif_queue *memif)
{
	const struct memif_regions *regions = rte_eth_devices[queue->dpdk_port].process_private;
	const struct memif_region *region;
	struct memif_ring *ring;
	struct rte_eth_link link;

	if (rte_eth_link_get_nowait(queue->dpdk_port, &link) != 0 ||
	    link.link_status == RTE_ETH_LINK_DOWN || memif->region >= regions->count)
		return NULL;
	region = regions->regions[memif->region];
	if (region == NULL || region->addr == NULL ||
	    memif->ring_offset + sizeof(*ring) > region->bytes)
		return NULL;
	ring = (struct memif_ring *)(region->addr + memif->ring_offset);
	return ring->cookie == COOKIE ? ring : NULL;
}

int
hfb_wake_arm(const struct hfb_queue *queue)
{
	const struct memif_queue *memif = queue_of(queue->dpdk_port, queue->queue);
	struct memif_ring *ring = ring_of(queue, memif);
	int fd = rte_intr_fd_get(memif->intr_handle);

	if (ring == NULL || fd < 0)
		return -ENOTCONN;
	__atomic_store_n(&ring->flags, 0, __ATOMIC_RELAXED);
	return fd;
}

bool
hfb_wake_waits(const struct hfb_queue *queue)
{
	const struct memif_queue *memif = queue_of(queue->dpdk_port, queue->queue);
	const struct memif_ring *ring = ring_of(queue, memif);

	if (ring == NULL)
		return false;
	if (memif->to_client)
		return __atomic_load_n(&ring->tail, __ATOMIC_RELAXED) != memif->last_tail;
	return __atomic_load_n(&ring->head, __ATOMIC_RELAXED) != memif->last_head;
}

void
hfb_wake_disarm(const struct hfb_queue *queue)
{
	struct memif_ring *ring = ring_of(queue, queue_of(queue->dpdk_port, queue->queue));

	/* else the driver reads the descriptor with each burst, and a peer's may block */
	if (ring != NULL)
		__atomic_store_n(&ring->flags, RING_MASK_INT, __ATOMIC_RELAXED);
}

#else

bool
hfb_wake_supported(uint16_t dpdk_port, uint16_t queue, const struct rte_mempool *pool)
{
	return false;
}

int
hfb_wake_arm(const struct hfb_queue *queue)
{
	return -ENOTCONN;
}

bool
hfb_wake_waits(const struct hfb_queue *queue)
{
	return false;
}

void
hfb_wake_disarm(const struct hfb_queue *queue)
{
}

#endif
