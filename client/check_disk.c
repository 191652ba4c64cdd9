/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_disk.c - the disk under the data folder: cache, FUA, O_DIRECT, how long a
 * synced write takes, and which CPU hears of it.
 */
#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define BLOCK	4096u
#define SAMPLES 32

static uint64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

/* The nearest folder above that is there: the data folder may not have been made yet. */
static void
existing(const char *folder, char *to, size_t size)
{
	snprintf(to, size, "%s", *folder ? folder : ".");
	while (access(to, F_OK) < 0) {
		char *slash = strrchr(to, '/');

		if (slash == NULL) {
			snprintf(to, size, ".");
			return;
		}
		*(slash == to ? slash + 1 : slash) = '\0';
		if (slash == to)
			return;
	}
}

static const char *
file_system_name(const char *folder)
{
	static const struct {
		long type;
		const char *name;
	} names[] = {
		{ 0xef53, "ext4" },	 { 0x58465342, "xfs" },	      { 0x9123683e, "btrfs" },
		{ 0x01021994, "tmpfs" }, { 0x794c7630, "overlayfs" }, { 0x6969, "nfs" },
		{ 0x2fc12fc1, "zfs" },	 { 0xf2f52010, "f2fs" },
	};
	struct statfs fs;

	if (statfs(folder, &fs) < 0)
		return "unknown";
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].type == (long)fs.f_type)
			return names[i].name;
	return "other";
}

/* "vda" for a folder on vda1; "" when it is on no block device. */
static void
disk_of(const char *folder, char *to, size_t size)
{
	char link[64], real[PATH_MAX], file[PATH_MAX + 16], *slash;
	struct stat st;

	*to = '\0';
	if (stat(folder, &st) < 0)
		return;
	snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(st.st_dev), minor(st.st_dev));
	if (realpath(link, real) == NULL)
		return;
	snprintf(file, sizeof(file), "%s/partition", real);
	if (access(file, F_OK) == 0) {
		slash = strrchr(real, '/');
		if (slash != NULL)
			*slash = '\0';
	}
	slash = strrchr(real, '/');
	if (slash != NULL)
		snprintf(to, size, "%s", slash + 1);
}

static void
cache(struct hfb_check_list *list, const char *disk)
{
	char path[300], write_cache[32], fua[8], rotational[8];
	bool back, has_fua;

	snprintf(path, sizeof(path), "/sys/block/%s/queue/write_cache", disk);
	hfb_check_file_line(path, write_cache, sizeof(write_cache));
	snprintf(path, sizeof(path), "/sys/block/%s/queue/fua", disk);
	hfb_check_file_line(path, fua, sizeof(fua));
	snprintf(path, sizeof(path), "/sys/block/%s/queue/rotational", disk);
	hfb_check_file_line(path, rotational, sizeof(rotational));
	back = strcmp(write_cache, "write back") == 0;
	has_fua = strcmp(fua, "1") == 0;
	hfb_check_add(list, "disk-cache", !back || has_fua ? HFB_CHECK_OK : HFB_CHECK_INFO,
		      !back || has_fua
			      ? NULL
			      : "each group of writes ends with a flush of the whole device "
				"(fdatasync): a disk "
				"with FUA or with a protected cache (write through) acks sooner",
		      "%s: %s, FUA %s: writes are synced by %s", disk,
		      *write_cache ? write_cache : "unknown cache", has_fua ? "yes" : "no",
		      !back || has_fua ? "RWF_DSYNC" : "one fdatasync a group");
	/* virtio says 1 whatever is behind it */
	if (strcmp(rotational, "1") == 0 && strncmp(disk, "vd", 2) != 0)
		hfb_check_add(list, "disk-kind", HFB_CHECK_WARN,
			      "a flash disk acks durable events a hundred times sooner",
			      "%s says it rotates", disk);
}

static int
by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* O_DIRECT as the writer uses it: synced overwrites of blocks written before. */
static void
direct(struct hfb_check_list *list, const char *folder)
{
	uint64_t took[SAMPLES];
	char path[PATH_MAX + 64];
	void *block;
	int fd, n = 0;

	snprintf(path, sizeof(path), "%s/.hfbus-check-%d", folder, (int)getpid());
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_DIRECT | O_CLOEXEC, 0600);
	if (fd < 0) {
		bool refused = errno == EINVAL;

		hfb_check_add(
			list, "o-direct", refused ? HFB_CHECK_FAIL : HFB_CHECK_WARN,
			refused ? "this file system takes no O_DIRECT: put the data folder on ext4 "
				  "or xfs"
				: "name a folder you may write to with --data",
			"%s: %s", folder, strerror(errno));
		return;
	}
	unlink(path);
	if (posix_memalign(&block, BLOCK, BLOCK) != 0) {
		close(fd);
		return;
	}
	memset(block, 0, BLOCK);
	for (int i = 0; i < SAMPLES; i++)
		if (pwrite(fd, block, BLOCK, i * (off_t)BLOCK) != (ssize_t)BLOCK)
			break;
	fdatasync(fd);
	for (int i = 0; i < SAMPLES; i++, n++) {
		struct iovec part = { block, BLOCK };
		uint64_t began = now_ns();

		if (pwritev2(fd, &part, 1, i * (off_t)BLOCK, RWF_DSYNC) != (ssize_t)BLOCK)
			break;
		took[i] = now_ns() - began;
	}
	if (n == SAMPLES) {
		const unsigned int middle = SAMPLES / 2;

		qsort(took, SAMPLES, sizeof(took[0]), by_size);
		hfb_check_add(list, "o-direct", HFB_CHECK_OK, NULL, "works");
		hfb_check_add(list, "synced-write",
			      took[middle] < 2000000 ? HFB_CHECK_OK : HFB_CHECK_WARN,
			      took[middle] < 2000000
				      ? NULL
				      : "durable acks take at least this long: "
					"a faster disk, or topics with --commit received",
			      "4 KiB: median %.0f us, slowest of %d %.0f us",
			      (double)took[middle] / 1e3, SAMPLES, (double)took[SAMPLES - 1] / 1e3);
	} else {
		hfb_check_add(list, "o-direct", HFB_CHECK_FAIL,
			      "put the data folder on ext4 or xfs, with "
			      "space left",
			      "%s: a synced O_DIRECT write of 4 KiB fails: %s", folder,
			      strerror(errno));
	}
	free(block);
	close(fd);
}

/* What the disk's interrupts are called in /proc/interrupts: its driver's device. */
static void
interrupt_name(const char *disk, char *to, size_t size)
{
	char path[300], real[PATH_MAX], *at;

	if (strncmp(disk, "nvme", 4) == 0) {
		snprintf(to, size, "%.*sq", (int)strcspn(disk + 4, "n") + 4, disk);
		return;
	}
	snprintf(path, sizeof(path), "/sys/block/%s/device", disk);
	*to = '\0';
	if (realpath(path, real) == NULL)
		return;
	/* .../virtio2 or .../virtio3/host2/target.../2:0:0:0, or .../ata1/host0/... */
	at = strstr(real, "/virtio");
	if (at != NULL) {
		snprintf(to, size, "%.*s-", (int)strcspn(at + 1, "/"), at + 1);
		return;
	}
	if (strstr(real, "/ata") != NULL)
		snprintf(to, size, "ahci");
}

/* CPUs with counts in one line of /proc/interrupts, the busiest first in words. */
static void
interrupts(struct hfb_check_list *list, const char *disk)
{
	char name[64], line[8192], found[320] = "";
	FILE *f = fopen("/proc/interrupts", "re");
	size_t used = 0;
	uint32_t cpus = 0;

	interrupt_name(disk, name, sizeof(name));
	if (f == NULL || *name == '\0') {
		if (f != NULL)
			fclose(f);
		hfb_check_add(list, "disk-interrupts", HFB_CHECK_INFO, NULL, "%s: not known", disk);
		return;
	}
	while (fgets(line, sizeof(line), f) != NULL) {
		unsigned long best = 0;
		char path[64], affinity[128];
		int irq, cpu = -1, c = 0;
		char *at;

		if (cpus == 0) {
			for (at = line; (at = strstr(at, "CPU")) != NULL; at += 3)
				cpus++;
			continue;
		}
		/* virtio2-req.0, not virtio2-config */
		if (strstr(line, name) == NULL || strstr(line, "config") != NULL ||
		    sscanf(line, " %d:", &irq) != 1)
			continue;
		at = strchr(line, ':') + 1;
		for (c = 0; c < (int)cpus; c++) {
			unsigned long n = strtoul(at, &at, 10);

			if (n > best) {
				best = n;
				cpu = c;
			}
		}
		snprintf(path, sizeof(path), "/proc/irq/%d/effective_affinity_list", irq);
		hfb_check_file_line(path, affinity, sizeof(affinity));
		if (used < sizeof(found))
			used += (size_t)snprintf(found + used, sizeof(found) - used,
						 "%sIRQ %d on CPU %s (most so far: %d)",
						 used ? ", " : "", irq, *affinity ? affinity : "?",
						 cpu);
	}
	fclose(f);
	if (used == 0) {
		hfb_check_add(list, "disk-interrupts", HFB_CHECK_INFO, NULL, "%s: none found",
			      disk);
		return;
	}
	hfb_check_add(
		list, "disk-interrupts", HFB_CHECK_INFO,
		"a synced write completes in kernel workers on that CPU: a poll core there yields "
		"while writes are in flight; for the best tails give --cores other CPUs, or move "
		"the "
		"interrupt by /proc/irq/N/smp_affinity_list",
		"%s: %s", disk, found);
}

static void
space(struct hfb_check_list *list, const char *folder)
{
	struct statvfs v;
	double gib;

	if (statvfs(folder, &v) < 0)
		return;
	gib = (double)v.f_bavail * (double)v.f_frsize / (double)(1ull << 30);
	hfb_check_add(list, "disk-space", gib >= 1 ? HFB_CHECK_OK : HFB_CHECK_WARN,
		      gib >= 1 ? NULL
			       : "publishing is refused when it is full: free space or set "
				 "--retention-bytes",
		      "%.1f GiB free", gib);
}

void
hfb_check_disk(struct hfb_check_list *list, const char *folder)
{
	char here[PATH_MAX], disk[256];
	const char *fs;
	bool good;

	existing(folder, here, sizeof(here));
	fs = file_system_name(here);
	good = strcmp(fs, "ext4") == 0 || strcmp(fs, "xfs") == 0;
	hfb_check_add(list, "file-system", good ? HFB_CHECK_OK : HFB_CHECK_WARN,
		      good			 ? NULL
		      : strcmp(fs, "tmpfs") == 0 ? "this is memory: nothing here survives a reboot"
						 : "ext4 and xfs overwrite in place, as the log "
						   "wants it; others may copy on write or "
						   "sync over a network",
		      "%s at %s", fs, here);
	space(list, here);
	direct(list, here);
	disk_of(here, disk, sizeof(disk));
	if (*disk == '\0') {
		hfb_check_add(list, "disk-cache", HFB_CHECK_INFO, NULL, "%s is on no block device",
			      here);
		return;
	}
	cache(list, disk);
	interrupts(list, disk);
}
