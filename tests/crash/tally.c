/* SPDX-License-Identifier: Apache-2.0 */
#include "tally.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "sim_disk.h"

struct tally total;
bool verbose;

/* Where the first failure of an image was seen, to be explained. */
static char suspect_path[1024];
static uint64_t suspect_offset;

void
fail(const char *format, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (total.failures++ == 0)
		memcpy(total.first, text, sizeof(text));
	if (verbose && total.failures <= 20)
		fprintf(stderr, "failure: %s\n", text);
}

void
fail_at(const char *path, uint64_t offset)
{
	snprintf(suspect_path, sizeof(suspect_path), "%s", path);
	suspect_offset = offset;
}

void
tally_explain(struct sim_disk *disk)
{
	if (suspect_path[0] != '\0')
		sim_disk_explain(disk, suspect_path, suspect_offset);
	suspect_path[0] = '\0';
}

void
tally_print(uint64_t seed)
{
	json_t *json;

	json = json_pack(
		"{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s}",
		"seed", (json_int_t)seed, "images", (json_int_t)total.images, "crashed_again",
		(json_int_t)total.again, "worlds", (json_int_t)total.worlds, "operations",
		(json_int_t)total.operations, "files_created", (json_int_t)total.rolls, "retired",
		(json_int_t)total.recycled, "kills", (json_int_t)total.kills, "acked_checked",
		(json_int_t)total.acked_checked, "events_checked", (json_int_t)total.events_checked,
		"failures", (json_int_t)total.failures, "compacted_files",
		(json_int_t)total.compacted_files, "compacted_events",
		(json_int_t)total.compacted_events, "journal_groups",
		(json_int_t)total.journal_groups, "first_failure", total.first);
	json_dumpf(json, stdout, JSON_INDENT(1));
	printf("\n");
	json_decref(json);
}
