/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_host.c - CPUs, clock, memory, io_uring.
 */
#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

void
hfb_check_add(struct hfb_check_list *list, const char *name, enum hfb_check_verdict verdict,
	      const char *advice, const char *found, ...)
{
	struct hfb_check_finding *f;
	va_list args;

	if (list->count == HFB_CHECK_FINDINGS_MAX)
		return;
	f = &list->findings[list->count++];
	f->name = name;
	f->verdict = verdict;
	snprintf(f->advice, sizeof(f->advice), "%s", advice != NULL ? advice : "");
	va_start(args, found);
	vsnprintf(f->found, sizeof(f->found), found, args);
	va_end(args);
}

const char *
hfb_check_file_line(const char *path, char *to, uint32_t size)
{
	FILE *f = fopen(path, "re");

	*to = '\0';
	if (f == NULL)
		return to;
	if (fgets(to, (int)size, f) == NULL)
		*to = '\0';
	to[strcspn(to, "\n")] = '\0';
	fclose(f);
	return to;
}

/* "Key:   value" of a file like /proc/meminfo or /proc/cpuinfo. */
static bool
key_value(const char *path, const char *key, char *to, size_t size)
{
	FILE *f = fopen(path, "re");
	char line[4096];
	bool found = false;

	if (f == NULL)
		return false;
	while (!found && fgets(line, sizeof(line), f) != NULL) {
		size_t n = strlen(key);

		if (strncmp(line, key, n) == 0 && strchr(" \t:", line[n]) != NULL) {
			char *at = strchr(line, ':');

			if (at == NULL)
				continue;
			at++;
			at += strspn(at, " \t");
			at[strcspn(at, "\n")] = '\0';
			snprintf(to, size, "%s", at);
			found = true;
		}
	}
	fclose(f);
	return found;
}

static bool
flag_is_set(const char *flags, const char *flag)
{
	size_t n = strlen(flag);

	for (const char *at = strstr(flags, flag); at != NULL; at = strstr(at + 1, flag))
		if ((at == flags || at[-1] == ' ') && (at[n] == ' ' || at[n] == '\0'))
			return true;
	return false;
}

static void
cpus(struct hfb_check_list *list)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);
	char isolated[128], nohz[128], governor[64], flags[4096] = "";

	hfb_check_add(list, "cpus", n >= 2 ? HFB_CHECK_OK : HFB_CHECK_WARN,
		      n >= 2 ? NULL
			     : "with one CPU poll cores, clients and the disk's work share it: "
			       "use --idle adaptive",
		      "%ld online", n);
	key_value("/proc/cpuinfo", "flags", flags, sizeof(flags));
#if defined(__x86_64__)
	hfb_check_add(list, "sse4.2", flag_is_set(flags, "sse4_2") ? HFB_CHECK_OK : HFB_CHECK_FAIL,
		      flag_is_set(flags, "sse4_2") ? NULL : "this build needs SSE4.2 (crc32c)",
		      "%s", flag_is_set(flags, "sse4_2") ? "there" : "missing");
#endif
	hfb_check_file_line("/sys/devices/system/cpu/isolated", isolated, sizeof(isolated));
	hfb_check_file_line("/sys/devices/system/cpu/nohz_full", nohz, sizeof(nohz));
	if (strcmp(nohz, " (null)") == 0 || strcmp(nohz, "(null)") == 0)
		nohz[0] = '\0';
	hfb_check_add(
		list, "isolated-cores", *isolated ? HFB_CHECK_OK : HFB_CHECK_WARN,
		*isolated ? NULL
			  : "for --idle busy boot with isolcpus=managed_irq,domain,LIST "
			    "nohz_full=LIST rcu_nocbs=LIST and give the same LIST to --cores; else "
			    "stay with --idle adaptive",
		"isolated: %s; nohz_full: %s", *isolated ? isolated : "none",
		*nohz ? nohz : "none");
	hfb_check_file_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", governor,
			    sizeof(governor));
	if (*governor)
		hfb_check_add(list, "cpu-governor",
			      strcmp(governor, "performance") == 0 ? HFB_CHECK_OK : HFB_CHECK_WARN,
			      strcmp(governor, "performance") == 0
				      ? NULL
				      : "cpupower frequency-set -g performance",
			      "%s", governor);
}

static void
clock_source(struct hfb_check_list *list)
{
	char current[64], flags[4096] = "";
	bool tsc, invariant;

	hfb_check_file_line("/sys/devices/system/clocksource/clocksource0/current_clocksource",
			    current, sizeof(current));
	key_value("/proc/cpuinfo", "flags", flags, sizeof(flags));
	tsc = strcmp(current, "tsc") == 0;
	invariant = flag_is_set(flags, "constant_tsc") && flag_is_set(flags, "nonstop_tsc");
	hfb_check_add(list, "clock-source", tsc ? HFB_CHECK_OK : HFB_CHECK_WARN,
		      tsc ? NULL
			  : "reading the time may enter the kernel or the hypervisor; where the "
			    "TSC is sound boot with clocksource=tsc tsc=reliable",
		      "%s", *current ? current : "unknown");
	hfb_check_add(list, "invariant-tsc", invariant ? HFB_CHECK_OK : HFB_CHECK_WARN,
		      invariant ? NULL
				: "timestamps come from the TSC and are set against UTC once a "
				  "second: with a TSC that changes its pace they wander in between",
		      "constant_tsc %s, nonstop_tsc %s",
		      flag_is_set(flags, "constant_tsc") ? "yes" : "no",
		      flag_is_set(flags, "nonstop_tsc") ? "yes" : "no");
}

static void
numa(struct hfb_check_list *list)
{
	DIR *dir = opendir("/sys/devices/system/node");
	uint32_t nodes = 0;

	for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;)
		nodes += strncmp(e->d_name, "node", 4) == 0 && e->d_name[4] >= '0' &&
			 e->d_name[4] <= '9';
	if (dir != NULL)
		closedir(dir);
	hfb_check_add(list, "numa", nodes <= 1 ? HFB_CHECK_OK : HFB_CHECK_INFO,
		      nodes <= 1 ? NULL
				 : "give --cores of the node the NIC and the disk are on: see "
				   "/sys/class/net/*/device/numa_node and lscpu",
		      "%u node%s", nodes == 0 ? 1 : nodes, nodes <= 1 ? "" : "s");
}

static void
hugepages(struct hfb_check_list *list)
{
	char total[32] = "0", free_[32] = "0", size[32] = "?", thp[128];
	bool there;

	key_value("/proc/meminfo", "HugePages_Total", total, sizeof(total));
	key_value("/proc/meminfo", "HugePages_Free", free_, sizeof(free_));
	key_value("/proc/meminfo", "Hugepagesize", size, sizeof(size));
	there = atol(free_) > 0;
	hfb_check_add(list, "hugepages", there ? HFB_CHECK_OK : HFB_CHECK_WARN,
		      there ? NULL
			    : "plain pages are used instead (more TLB misses); for hugepages: "
			      "echo 512 > /proc/sys/vm/nr_hugepages, best at boot by hugepages=512",
		      "%s of %s free, %s each", free_, total, size);
	hfb_check_file_line("/sys/kernel/mm/transparent_hugepage/enabled", thp, sizeof(thp));
	if (*thp)
		hfb_check_add(list, "transparent-hugepages", HFB_CHECK_INFO, NULL, "%s", thp);
}

static void
memlock(struct hfb_check_list *list)
{
	struct rlimit limit = { 0 };
	uint64_t mib;

	getrlimit(RLIMIT_MEMLOCK, &limit);
	mib = limit.rlim_cur >> 20;
	if (limit.rlim_cur == RLIM_INFINITY)
		hfb_check_add(list, "memlock", HFB_CHECK_OK, NULL, "unlimited");
	else if (geteuid() == 0)
		hfb_check_add(list, "memlock", HFB_CHECK_OK, NULL,
			      "%llu MiB, not held against root", (unsigned long long)mib);
	else
		hfb_check_add(list, "memlock", mib >= 256 ? HFB_CHECK_OK : HFB_CHECK_WARN,
			      mib >= 256
				      ? NULL
				      : "rings that do not fit are not registered with "
					"io_uring, so each write pins its pages: raise it with "
					"LimitMEMLOCK=infinity (systemd) or memlock in limits.conf",
			      "%llu MiB", (unsigned long long)mib);
}

/* By the system calls themselves: the library that wraps them belongs to hfbusd. */
static int
ring_setup(uint32_t flags, struct io_uring_params *params)
{
	memset(params, 0, sizeof(*params));
	params->flags = flags;
	return (int)syscall(__NR_io_uring_setup, 8, params);
}

static bool
op_supported(int fd, uint8_t op)
{
	uint64_t room[(sizeof(struct io_uring_probe) + 64 * sizeof(struct io_uring_probe_op)) /
		      8] = { 0 };
	const struct io_uring_probe *probe = (const void *)room;

	if (syscall(__NR_io_uring_register, fd, IORING_REGISTER_PROBE, room, 64) < 0 ||
	    op > probe->last_op || op >= probe->ops_len)
		return false;
	return (probe->ops[op].flags & IO_URING_OP_SUPPORTED) != 0;
}

static void
uring(struct hfb_check_list *list)
{
	struct io_uring_params params;
	char disabled[16];
	bool issuer = false, ops;
	int fd;

	hfb_check_file_line("/proc/sys/kernel/io_uring_disabled", disabled, sizeof(disabled));
	fd = ring_setup(0, &params);
	if (fd < 0) {
		hfb_check_add(
			list, "io_uring", HFB_CHECK_FAIL,
			"hfbusd writes by io_uring: set kernel.io_uring_disabled to 0, and let the "
			"container's seccomp profile allow io_uring_setup, _enter and _register",
			"not usable: %s%s%s", strerror(errno),
			*disabled ? ", kernel.io_uring_disabled = " : "", disabled);
		return;
	}
	ops = op_supported(fd, IORING_OP_WRITE_FIXED) && op_supported(fd, IORING_OP_FSYNC) &&
	      op_supported(fd, IORING_OP_READ);
	close(fd);
#if defined(IORING_SETUP_SINGLE_ISSUER) && defined(IORING_SETUP_DEFER_TASKRUN)
	fd = ring_setup(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, &params);
	issuer = fd >= 0;
	if (fd >= 0)
		close(fd);
#endif
	if (!ops)
		hfb_check_add(list, "io_uring", HFB_CHECK_FAIL,
			      "a kernel of 5.6 or later is needed",
			      "without read, write_fixed or fsync");
	else
		hfb_check_add(list, "io_uring", issuer ? HFB_CHECK_OK : HFB_CHECK_WARN,
			      issuer ? NULL
				     : "Linux 6.1 or later lets a core take its completions when "
				       "it wants to (SINGLE_ISSUER, DEFER_TASKRUN)",
			      "works, SINGLE_ISSUER and DEFER_TASKRUN %s, features %08x",
			      issuer ? "yes" : "no", params.features);
}

void
hfb_check_host(struct hfb_check_list *list)
{
	struct utsname u;

	if (uname(&u) == 0)
		hfb_check_add(list, "kernel", HFB_CHECK_INFO, NULL, "%s %s, %s", u.sysname,
			      u.release, u.machine);
	cpus(list);
	clock_source(list);
	numa(list);
	hugepages(list);
	memlock(list);
	uring(list);
}
