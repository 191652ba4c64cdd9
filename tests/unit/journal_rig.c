/* SPDX-License-Identifier: Apache-2.0 */
#include "journal_rig.h"

#include <glob.h>
#include <stdio.h>

#include "fault_env.h"
#include "hfb_test_main.h"

struct rig_config
journal_rig_config(void)
{
	return (struct rig_config){ .env = fault_env_reset(),
				    .commit_stage = HFB_STAGE_DURABLE,
				    .ring_bytes_max = MIB,
				    .segment_bytes_max = MIB,
				    .journal_logs_min = 1 };
}

uint64_t
journal_rig_durable(const struct rig *rig)
{
	return rig->positions->durable.position;
}

void
journal_rig_write(struct rig *rig, uint32_t n)
{
	uint64_t before = hfb_writer_stats(rig->writer)->journal_writes;

	for (int i = 0; i < 5000; i++) {
		if (hfb_writer_stats(rig->writer)->journal_writes - before >= n)
			return;
		CU_ASSERT_TRUE_FATAL(rig_append(rig, 704));
		CU_ASSERT_TRUE_FATAL(rig_drain(rig));
	}
	CU_FAIL_FATAL("the journal takes nothing");
}

uint64_t
journal_rig_crash(struct rig *rig, const char *name, const struct rig_config *config, uint32_t n)
{
	uint64_t end;

	CU_ASSERT_EQUAL_FATAL(rig_open(rig, name, config), 0);
	journal_rig_write(rig, n);
	end = journal_rig_durable(rig);
	CU_ASSERT_TRUE(rig->positions->filed < end);
	rig_close(rig);
	return end;
}

int
journal_rig_reopen(struct rig *rig, const char *name, const struct rig_config *config)
{
	uint64_t batches = rig->batches;
	int r = rig_open(rig, name, config);

	rig->batches = batches;
	return r;
}

uint32_t
journal_rig_files(const struct rig *rig, const char *pattern)
{
	char path[600];
	glob_t found;
	uint32_t n = 0;

	snprintf(path, sizeof(path), "%s/journal/%s", rig->data_dir, pattern);
	if (glob(path, 0, NULL, &found) == 0)
		n = (uint32_t)found.gl_pathc;
	globfree(&found);
	return n;
}
