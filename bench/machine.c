/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine.c - what a figure was measured on.
 */
#include <jansson.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench_private.h"

static void
cpu_model(char *to, size_t size)
{
	FILE *f = fopen("/proc/cpuinfo", "r");
	char line[256];

	snprintf(to, size, "unknown");
	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		const char *colon = strchr(line, ':');

		if (strncmp(line, "model name", 10) == 0 && colon != NULL) {
			snprintf(to, size, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
			break;
		}
	}
	if (f != NULL)
		fclose(f);
}

static long
hugepages(void)
{
	FILE *f = fopen("/proc/meminfo", "r");
	char line[256];
	long count = 0;

	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "HugePages_Total: %ld", &count) == 1)
			break;
	if (f != NULL)
		fclose(f);
	return count;
}

json_t *
bench_machine_json(void)
{
	struct utsname u;
	char model[128], date[40];

	cpu_model(model, sizeof(model));
	uname(&u);
	hfb_clock_format(hfb_clock_now_ns(), date, sizeof(date));
	return json_pack("{s:s, s:I, s:s, s:s, s:I, s:I, s:I, s:s, s:s}", "cpu", model, "cpus",
			 (json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "kernel", u.release, "arch",
			 u.machine, "memory_bytes",
			 (json_int_t)sysconf(_SC_PHYS_PAGES) * (json_int_t)sysconf(_SC_PAGESIZE),
			 "hugepages", (json_int_t)hugepages(), "tsc_hz",
			 (json_int_t)hfb_clock_tsc_hz(), "host", u.nodename, "date", date);
}
