/* SPDX-License-Identifier: Apache-2.0 */
#include "eal.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>

#include "config.h"
#include "port.h"
#include "runtime.h"

#define ARGS_MAX    (64 + 4 * HFB_PORTS_MAX)
#define EAL_OWN_MIB 24u /* memzones, device structures, what pools lose at their ends */

struct arguments {
	char *list[ARGS_MAX];
	int count;
	bool failed;
};

__attribute__((format(printf, 2, 3))) static void
argument_add(struct arguments *arguments, const char *format, ...)
{
	va_list list;

	if (arguments->count == ARGS_MAX - 1) {
		arguments->failed = true;
		return;
	}
	va_start(list, format);
	if (vasprintf(&arguments->list[arguments->count], format, list) < 0) {
		arguments->list[arguments->count] = NULL;
		arguments->failed = true;
	} else {
		arguments->count++;
	}
	va_end(list);
}

static uint32_t
hugepages_free_mib(void)
{
	static const struct {
		const char *path;
		uint32_t mib;
	} sizes[] = {
		{ "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", 2 },
		{ "/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages", 1024 },
	};
	uint32_t mib = 0;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		FILE *file = fopen(sizes[i].path, "re");
		unsigned int pages;

		if (file == NULL)
			continue;
		if (fscanf(file, "%u", &pages) == 1)
			mib += pages * sizes[i].mib;
		fclose(file);
	}
	return mib;
}

static uint32_t
memory_mib(const struct hfb_config *config, const struct hfb_eal_plan *plan, bool hugepages)
{
	uint64_t bytes = plan->pools * hfb_port_pool_bytes(plan->pool_mbufs, hugepages);

	if (config->memory_mib != 0)
		return config->memory_mib;
	return EAL_OWN_MIB + (uint32_t)((bytes + bytes / 16) / HFB_MIB);
}

void
hfb_eal_plan(const struct hfb_config *config, struct hfb_eal_plan *ret_plan)
{
	struct hfb_eal_plan plan = { 0 };

	for (uint32_t i = 0; i < config->ports_count; i++) {
		uint32_t queues = config->ports[i].queues;

		if (queues == 0)
			queues = hfb_device_is_pci(config->ports[i].device) ? config->cores_count
									    : 1;
		plan.pools += queues < config->cores_count ? queues : config->cores_count;
	}
	plan.pool_mbufs = hfb_port_pool_mbufs(config);
	plan.hugepages_free_mib = hugepages_free_mib();
	plan.memory_mib = memory_mib(config, &plan, true);
	plan.hugepages = config->hugepages && plan.hugepages_free_mib >= plan.memory_mib;
	if (!plan.hugepages)
		plan.memory_mib = memory_mib(config, &plan, false);
	*ret_plan = plan;
}

/* "(0-1)": all CPUs this process may use. */
static void
cpus_allowed(char *to, size_t bytes)
{
	cpu_set_t set;
	size_t used = 1;

	snprintf(to, bytes, "(");
	CPU_ZERO(&set);
	sched_getaffinity(0, sizeof(set), &set);
	for (int cpu = 0; cpu < CPU_SETSIZE && used + 16 < bytes; cpu++) {
		int last = cpu;

		if (!CPU_ISSET(cpu, &set))
			continue;
		while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, &set))
			last++;
		used += (size_t)snprintf(to + used, bytes - used, "%s%d-%d", used > 1 ? "," : "",
					 cpu, last);
		cpu = last;
	}
	snprintf(to + used, bytes - used, ")");
}

static void
lcores_add(struct arguments *arguments, const struct hfb_config *config)
{
	char text[4096], allowed[1024];
	size_t used;

	cpus_allowed(allowed, sizeof(allowed));
	used = (size_t)snprintf(text, sizeof(text), "0@%s", allowed);
	for (uint32_t i = 0; i < config->cores_count && used < sizeof(text); i++) {
		if (config->cpus[i] < 0)
			used += (size_t)snprintf(text + used, sizeof(text) - used, ",%u@%s", i + 1,
						 allowed);
		else
			used += (size_t)snprintf(text + used, sizeof(text) - used, ",%u@%d", i + 1,
						 config->cpus[i]);
	}
	if (used >= sizeof(text))
		arguments->failed = true;
	argument_add(arguments, "--lcores=%s", text);
	argument_add(arguments, "--main-lcore=0");
}

/* RTE_EAL_PMD_PATH ends in "pmds-23.0": its libraries are called lib....so.23 */
static void
driver_path(char *to, size_t bytes, const char *name, size_t name_size)
{
	const char *abi = strrchr(RTE_EAL_PMD_PATH, '-');

	snprintf(to, bytes, "%s/librte_%.*s.so.%d", RTE_EAL_PMD_PATH, (int)name_size, name,
		 abi == NULL ? 0 : atoi(abi + 1));
}

/*
 * Debian's DPDK opens every driver it has at start, some 150 libraries; with virtual
 * devices only, we name the few that are needed, and a start takes a tenth of the time.
 * Where one is not found by this name, DPDK is left to do what it does.
 */
static void
drivers_add(struct arguments *arguments, const struct hfb_config *config)
{
	static const char *const always[] = { "bus_vdev", "mempool_ring" };
	char paths[2 + HFB_PORTS_MAX][512];
	uint32_t count = 0;

	for (uint32_t i = 0; i < 2; i++)
		driver_path(paths[count++], sizeof(paths[0]), always[i], strlen(always[i]));
	for (uint32_t i = 0; i < config->ports_count; i++) {
		const char *device = config->ports[i].device;
		size_t size = strcspn(device, ",");

		while (size > 0 && device[size - 1] >= '0' && device[size - 1] <= '9')
			size--;
		driver_path(paths[count++], sizeof(paths[0]), device, size);
	}
	for (uint32_t i = 0; i < count; i++)
		if (access(paths[i], R_OK) < 0)
			return;
	for (uint32_t i = 0; i < count; i++)
		argument_add(arguments, "-d%s", paths[i]);
}

static void
devices_add(struct arguments *arguments, const struct hfb_config *config)
{
	bool pci = false;

	for (uint32_t i = 0; i < config->ports_count; i++) {
		const char *device = config->ports[i].device;

		if (hfb_device_is_pci(device)) {
			argument_add(arguments, "-a%s", device);
			pci = true;
		} else {
			argument_add(arguments, "--vdev=%s", device);
		}
	}
	if (!pci) {
		argument_add(arguments, "--no-pci");
		drivers_add(arguments, config);
	}
}

/* The last lines DPDK said, as one. */
static void
said_shorten(char *said, size_t size)
{
	size_t from = size > 300 ? size - 300 : 0;

	memmove(said, said + from, size - from);
	said[size - from] = '\0';
	for (char *at = said; *at != '\0'; at++)
		if (*at == '\n')
			*at = at[1] == '\0' ? '\0' : ';';
}

/* DPDK prints its usage there when it refuses; our stdout holds the ready line only. */
static int
stdout_close(void)
{
	int copy = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	fflush(stdout);
	if (copy >= 0 && null >= 0)
		dup2(null, STDOUT_FILENO);
	if (null >= 0)
		close(null);
	return copy;
}

static void
stdout_open(int copy)
{
	fflush(stdout);
	if (copy < 0)
		return;
	dup2(copy, STDOUT_FILENO);
	close(copy);
}

int
hfb_eal_start(const struct hfb_config *config, const struct hfb_eal_plan *plan, struct hfb_err *err)
{
	struct arguments arguments = { .count = 0 };
	char *said = NULL;
	char *list[ARGS_MAX];
	char runtime[256];
	size_t said_bytes = 0;
	FILE *stream;
	bool failed;
	int stdout_fd, r = 0;

	/* without, DPDK takes /tmp/dpdk, which the first user of the machine to come owns */
	if (geteuid() != 0 && getenv("XDG_RUNTIME_DIR") == NULL &&
	    hfb_runtime_folder(runtime, sizeof(runtime)))
		setenv("RUNTIME_DIRECTORY", runtime, 0);
	argument_add(&arguments, "hfbusd");
	lcores_add(&arguments, config);
	devices_add(&arguments, config);
	argument_add(&arguments, "--no-telemetry");
	argument_add(&arguments, "--log-level=error");
	argument_add(&arguments, "-m%u", plan->memory_mib);
	if (plan->hugepages) {
		argument_add(&arguments, "--in-memory");
		argument_add(&arguments, "--single-file-segments"); /* memif without a copy */
	} else {
		/* DPDK refuses --in-memory here; without shared config it leaves no files either */
		argument_add(&arguments, "--no-huge");
		argument_add(&arguments, "--no-shconf");
	}
	stream = open_memstream(&said, &said_bytes);
	if (arguments.failed || stream == NULL) {
		r = hfb_err_set(err, -ENOMEM, "out of memory for DPDK's arguments");
		goto out;
	}
	rte_openlog_stream(stream);
	stdout_fd = stdout_close();
	memcpy(list, arguments.list, sizeof(list)); /* DPDK reorders it */
	failed = rte_eal_init(arguments.count, list) < 0;
	stdout_open(stdout_fd);
	if (failed) {
		fflush(stream);
		said_shorten(said, said_bytes);
		r = hfb_err_set(err, rte_errno > 0 ? -rte_errno : -EIO,
				"DPDK does not start: %s; it said: %s", rte_strerror(rte_errno),
				said_bytes > 0 ? said : "nothing");
	}
	rte_openlog_stream(NULL);
out:
	if (stream != NULL)
		fclose(stream);
	free(said);
	for (int i = 0; i < arguments.count; i++)
		free(arguments.list[i]);
	return r;
}

void
hfb_eal_stop(void)
{
	rte_eal_cleanup();
}
