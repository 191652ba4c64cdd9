/* SPDX-License-Identifier: Apache-2.0 */
#include "dpdk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "bench.h"

#define MEMORY_MIB	48u
#define MEMORY_HUGE_MIB 32u
#define CACHE		256u
#define DESCRIPTORS	1024u
#define ARGS		20u

static uint32_t
hugepages_free_mib(void)
{
	FILE *file = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "re");
	unsigned int pages = 0;

	if (file == NULL)
		return 0;
	if (fscanf(file, "%u", &pages) != 1)
		pages = 0;
	fclose(file);
	return pages * 2;
}

/* Debian's DPDK opens all its drivers at start: name the few that are needed. */
static bool
driver_path(char *to, size_t size, const char *name, size_t name_size)
{
	const char *abi = strrchr(RTE_EAL_PMD_PATH, '-');

	snprintf(to, size, "-d%s/librte_%.*s.so.%d", RTE_EAL_PMD_PATH, (int)name_size, name,
		 abi == NULL ? 0 : atoi(abi + 1));
	return access(to + 2, R_OK) == 0;
}

static int
eal_start(struct bench_dpdk *d, const char *device, int cpu, struct hfb_err *err)
{
	static const char *const always[] = { "bus_vdev", "mempool_ring" };
	char drivers[3][512], lcores[64], vdev[1024], memory[32];
	size_t name = strcspn(device, ",");
	char *args[ARGS];
	bool found = true;
	int n = 0;

	d->hugepages = hugepages_free_mib() >= MEMORY_HUGE_MIB;
	while (name > 0 && device[name - 1] >= '0' && device[name - 1] <= '9')
		name--;
	for (uint32_t i = 0; i < 2; i++)
		found = driver_path(drivers[i], sizeof(drivers[i]), always[i], strlen(always[i])) &&
			found;
	found = driver_path(drivers[2], sizeof(drivers[2]), device, name) && found;
	if (cpu >= 0)
		snprintf(lcores, sizeof(lcores), "--lcores=0@%d", cpu);
	else
		snprintf(lcores, sizeof(lcores), "--lcores=0@(0-%ld)",
			 sysconf(_SC_NPROCESSORS_ONLN) - 1);
	snprintf(vdev, sizeof(vdev), "--vdev=%s", device);
	snprintf(memory, sizeof(memory), "-m%u", d->hugepages ? MEMORY_HUGE_MIB : MEMORY_MIB);
	args[n++] = (char *)"hfbus-bench";
	args[n++] = lcores;
	args[n++] = vdev;
	args[n++] = memory;
	args[n++] = (char *)"--no-pci";
	args[n++] = (char *)"--no-telemetry";
	args[n++] = (char *)"--log-level=error";
	args[n++] = (char *)(d->hugepages ? "--in-memory" : "--no-huge");
	/* one file of memory, so that memif's zero-copy can share it */
	args[n++] = (char *)(d->hugepages ? "--single-file-segments" : "--no-shconf");
	for (uint32_t i = 0; found && i < 3; i++)
		args[n++] = drivers[i];
	args[n] = NULL;
	if (rte_eal_init(n, args) < 0)
		return hfb_err_set(err, rte_errno > 0 ? -rte_errno : -EIO,
				   "DPDK does not start with device %s: %s", device,
				   rte_strerror(rte_errno));
	return 0;
}

int
bench_dpdk_open(struct bench_dpdk *d, const char *device, int cpu, struct hfb_err *err)
{
	uint16_t rx = DESCRIPTORS, tx = DESCRIPTORS;
	struct rte_eth_conf conf = { 0 };
	struct rte_ether_addr mac;
	int r = eal_start(d, device, cpu, err);

	if (r < 0)
		return r;
	d->port = (uint16_t)rte_eth_find_next_owned_by(0, RTE_ETH_DEV_NO_OWNER);
	if (rte_eth_dev_count_avail() == 0)
		return hfb_err_set(err, -ENODEV, "device %s gives no port, see --device", device);
	d->pool = rte_pktmbuf_pool_create("bench", BENCH_DPDK_MBUFS, CACHE, 0,
					  RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	if (d->pool == NULL)
		return hfb_err_set(err, -ENOMEM, "no memory for %u packet buffers",
				   BENCH_DPDK_MBUFS);
	r = rte_eth_dev_configure(d->port, 1, 1, &conf);
	if (r == 0)
		r = rte_eth_dev_adjust_nb_rx_tx_desc(d->port, &rx, &tx);
	if (r == 0)
		r = rte_eth_rx_queue_setup(d->port, 0, rx, SOCKET_ID_ANY, NULL, d->pool);
	if (r == 0)
		r = rte_eth_tx_queue_setup(d->port, 0, tx, SOCKET_ID_ANY, NULL);
	if (r == 0)
		r = rte_eth_dev_start(d->port);
	if (r != 0)
		return hfb_err_set(err, r, "device %s does not start: %s", device,
				   rte_strerror(-r));
	d->open = true;
	/* not every device knows it; those that do not take all frames anyway */
	(void)rte_eth_promiscuous_enable(d->port);
	if (rte_eth_macaddr_get(d->port, &mac) == 0)
		memcpy(d->mac, mac.addr_bytes, sizeof(d->mac));
	return 0;
}

int
bench_dpdk_link_wait(const struct bench_dpdk *d, uint32_t ms, struct hfb_err *err)
{
	struct rte_eth_link link = { 0 };

	for (uint32_t waited = 0; waited < ms && !bench_stop; waited += 10) {
		if (rte_eth_link_get_nowait(d->port, &link) == 0 &&
		    link.link_status == RTE_ETH_LINK_UP)
			return 0;
		usleep(10000);
	}
	return hfb_err_set(err, -ENOLINK, "no link after %u ms; is the peer there?", ms);
}

void
bench_dpdk_close(struct bench_dpdk *d)
{
	if (!d->open)
		return;
	rte_eth_dev_stop(d->port);
	rte_eth_dev_close(d->port);
	rte_eal_cleanup();
	d->open = false;
}
