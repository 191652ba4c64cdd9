/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal that a core's partitions share: what a start makes of it.
 *
 * Goal:   what only the journal has is found after a crash and never put where it does not
 *	   belong; what cannot be used is named.
 * Method: one log with a journal of its own, left as a crash would; its files are then
 *	   bent as disks and other versions do.
 */
#include <errno.h>
#include <glob.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hfbus/journal.h>

#include "crc32c.h"
#include "fault_env.h"
#include "hfb_test_main.h"
#include "journal_rig.h"

static uint8_t *
journal_load(const struct rig *rig, char path[600], size_t *ret_size)
{
	uint8_t *bytes;
	FILE *f;

	snprintf(path, 600, "%s/journal/0-0.journal", rig->data_dir);
	f = fopen(path, "rb");
	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	fseek(f, 0, SEEK_END);
	*ret_size = (size_t)ftell(f);
	rewind(f);
	bytes = malloc(*ret_size);
	CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
	CU_ASSERT_EQUAL(fread(bytes, 1, *ret_size, f), *ret_size);
	fclose(f);
	return bytes;
}

static void
journal_save(const char *path, const uint8_t *bytes, size_t size)
{
	FILE *f = fopen(path, "wb");

	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	CU_ASSERT_EQUAL(fwrite(bytes, 1, size, f), size);
	fclose(f);
}

/* Where group @n of the file begins; the last one when there are fewer. */
static uint64_t
group_at(const uint8_t *bytes, size_t size, uint32_t n)
{
	uint64_t at = HFB_JOURNAL_HEADER_BYTES;
	struct hfb_journal_group g;

	for (;;) {
		uint64_t next;

		memcpy(&g, bytes + at, sizeof(g));
		CU_ASSERT_EQUAL_FATAL(g.magic, HFB_JOURNAL_GROUP_MAGIC);
		next = at + ((g.bytes + 4095u) & ~4095u);
		if (n-- == 0 || next + sizeof(g) > size)
			return at;
		memcpy(&g, bytes + next, sizeof(g));
		if (g.magic != HFB_JOURNAL_GROUP_MAGIC)
			return at;
		at = next;
	}
}

/* The byte at @at of group @n of the first file. */
static void
bend_group(const struct rig *rig, uint32_t n, uint64_t at)
{
	char path[600];
	size_t size;
	uint8_t *bytes = journal_load(rig, path, &size);

	at += group_at(bytes, size, n);
	free(bytes);
	hfb_test_flip(path, at, 0);
}

static void
test_a_torn_tail_is_no_damage(void)
{
	struct rig_config config = journal_rig_config();
	struct rig rig;
	uint64_t end;

	end = journal_rig_crash(&rig, "torn", &config, 10);
	bend_group(&rig, UINT32_MAX, 600);
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "torn", &config), 0);
	CU_ASSERT_TRUE(rig.report.end_position < end);
	CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
	CU_ASSERT_PTR_NULL(hfb_store_note(rig.store));
	rig_close(&rig);
}

/* Which file of the journal is the next to be written anew: that of the lowest lap. */
static void
oldest_file(const struct rig *rig, char path[600])
{
	uint64_t lowest = UINT64_MAX;
	uint32_t oldest = 0;

	for (uint32_t i = 0; i < 4; i++) {
		struct hfb_journal_group head;
		FILE *f;

		snprintf(path, 600, "%s/journal/0-%u.journal", rig->data_dir, i);
		f = fopen(path, "rb");
		CU_ASSERT_PTR_NOT_NULL_FATAL(f);
		fseek(f, HFB_JOURNAL_HEADER_BYTES, SEEK_SET);
		CU_ASSERT_EQUAL_FATAL(fread(&head, sizeof(head), 1, f), 1);
		fclose(f);
		CU_ASSERT_EQUAL_FATAL(head.magic, HFB_JOURNAL_GROUP_MAGIC);
		if (head.lap < lowest) {
			lowest = head.lap;
			oldest = i;
		}
	}
	CU_ASSERT_TRUE(lowest > 1);
	snprintf(path, 600, "%s/journal/0-%u.journal", rig->data_dir, oldest);
}

/*
 * The power fails while the oldest file is begun anew: of the first group's sectors some are
 * new. What is overwritten there had been filed, and nothing is damaged.
 */
static void
test_a_file_torn_while_it_is_begun_anew_is_no_damage(void)
{
	/* a sector of the first group's body, of its header, of a later group's */
	static const uint32_t torn_at[] = { 512, 0, 4096 };
	static const char *const names[] = { "anew-body", "anew-head", "anew-later" };
	struct rig_config config = journal_rig_config();
	struct rig rig;
	uint64_t end;
	char path[600];
	uint8_t sector[512];
	FILE *f;

	config.journal_file_bytes = 65536;
	memset(sector, 0xa5, sizeof(sector));
	for (int i = 0; i < 3; i++) {
		end = journal_rig_crash(&rig, names[i], &config, 400);
		oldest_file(&rig, path);
		f = fopen(path, "r+b");
		CU_ASSERT_PTR_NOT_NULL_FATAL(f);
		fseek(f, HFB_JOURNAL_HEADER_BYTES + torn_at[i], SEEK_SET);
		CU_ASSERT_EQUAL(fwrite(sector, sizeof(sector), 1, f), 1);
		fclose(f);
		CU_ASSERT_EQUAL_FATAL(journal_rig_reopen(&rig, names[i], &config), 0);
		CU_ASSERT_EQUAL(rig.report.end_position, end);
		CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
		CU_ASSERT_PTR_NULL(hfb_store_note(rig.store));
		rig_close(&rig);
	}
}

/* The first group of a journal that was never gone over: that is no file begun anew. */
static void
test_damage_in_the_first_group_is_named(void)
{
	struct rig_config config = journal_rig_config();
	struct rig rig;

	for (int i = 0; i < 2; i++) {
		journal_rig_crash(&rig, i == 0 ? "first-head" : "first-body", &config, 10);
		bend_group(&rig, 0, i == 0 ? 20 : 600);
		CU_ASSERT_EQUAL_FATAL(rig_open(&rig, i == 0 ? "first-head" : "first-body", &config),
				      0);
		CU_ASSERT_PTR_NOT_NULL_FATAL(hfb_store_note(rig.store));
		CU_ASSERT_PTR_NOT_NULL(strstr(hfb_store_note(rig.store), "0-0.journal: damaged"));
		rig_close(&rig);
	}
}

static void
test_damage_is_named_and_found_in_the_log(void)
{
	struct rig_config config = journal_rig_config();
	struct rig rig;
	uint64_t end;
	char path[600];

	end = journal_rig_crash(&rig, "damage", &config, 10);
	bend_group(&rig, 4, 600);
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "damage", &config), 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(hfb_store_note(rig.store));
	CU_ASSERT_PTR_NOT_NULL(strstr(hfb_store_note(rig.store), "0-0.journal: damaged"));
	CU_ASSERT_EQUAL(rig.report.corrupt_count, 1);
	CU_ASSERT_EQUAL(rig.report.end_position, end);
	rig_close(&rig);

	/* the file's own header: nothing in it can be believed */
	journal_rig_crash(&rig, "damage-head", &config, 10);
	snprintf(path, sizeof(path), "%s/journal/0-0.journal", rig.data_dir);
	hfb_test_flip(path, 20, 0);
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "damage-head", &config), 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(hfb_store_note(rig.store));
	CU_ASSERT_PTR_NOT_NULL(strstr(hfb_store_note(rig.store), "set aside as .stray"));
	CU_ASSERT_EQUAL(journal_rig_files(&rig, "*.stray"), 1);
	CU_ASSERT_EQUAL(journal_rig_files(&rig, "*.journal"), 0);
	rig_close(&rig);
}

/* Its positions are known from name and size: what the journal has goes there all the same. */
static void
test_a_segment_with_a_bad_header_gets_its_bytes(void)
{
	struct rig_config config = journal_rig_config();
	struct rig rig;
	uint64_t end;
	char path[600];
	glob_t found;

	end = journal_rig_crash(&rig, "segment", &config, 10);
	snprintf(path, sizeof(path), "%s/topics/rig/*/0/*.seg", rig.data_dir);
	CU_ASSERT_EQUAL_FATAL(glob(path, 0, NULL, &found), 0);
	hfb_test_flip(found.gl_pathv[0], 20, 0);
	globfree(&found);
	CU_ASSERT_EQUAL_FATAL(journal_rig_reopen(&rig, "segment", &config), 0);
	CU_ASSERT_EQUAL(rig.report.end_position, end);
	CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
	rig_close(&rig);
}

static void
test_another_version_is_refused(void)
{
	struct rig_config config = journal_rig_config();
	struct hfb_journal_header h;
	uint8_t *bytes;
	struct rig rig;
	char path[600];
	size_t size;

	journal_rig_crash(&rig, "version", &config, 10);
	bytes = journal_load(&rig, path, &size);
	for (int i = 0; i < 2; i++) {
		memcpy(&h, bytes, sizeof(h));
		h.version = i == 0 ? 2 : 1;
		h.incompatible = i == 0 ? 0 : 4;
		h.header_crc = hfb_crc32c(0, &h, offsetof(struct hfb_journal_header, header_crc));
		memcpy(bytes, &h, sizeof(h));
		journal_save(path, bytes, size);
		CU_ASSERT_EQUAL(rig_open(&rig, "version", &config), -EPROTONOSUPPORT);
		CU_ASSERT_PTR_NOT_NULL(strstr(rig.err.text, "another hfbusd"));
		CU_ASSERT_EQUAL(journal_rig_files(&rig, "*.journal"), 4);
	}
	free(bytes);
	CU_ASSERT_EQUAL(fault_env.open_files, 0);
}

/* A run that knew no journal was in between: its log may have grown where these bytes were. */
static void
test_a_journal_of_another_run_is_not_replayed(void)
{
	struct rig_config config = journal_rig_config();
	char path[600], kept[700];
	struct rig rig;
	uint64_t end;

	journal_rig_crash(&rig, "stale", &config, 10);
	snprintf(path, sizeof(path), "%s/journal", rig.data_dir);
	snprintf(kept, sizeof(kept), "%s/kept", rig.data_dir);
	CU_ASSERT_EQUAL_FATAL(rename(path, kept), 0);
	config.journal_logs_min = UINT32_MAX;
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "stale", &config), 0);
	CU_ASSERT_TRUE(rig_append(&rig, 904));
	CU_ASSERT_TRUE(rig_drain(&rig));
	end = journal_rig_durable(&rig);
	rig_close(&rig);
	CU_ASSERT_EQUAL_FATAL(rename(kept, path), 0);
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "stale", &config), 0);
	CU_ASSERT_EQUAL(rig.report.end_position, end);
	CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(hfb_store_note(rig.store));
	CU_ASSERT_PTR_NOT_NULL(strstr(hfb_store_note(rig.store), "set aside"));
	CU_ASSERT_TRUE(journal_rig_files(&rig, "*.stray") > 0);
	rig_close(&rig);
}

/* The partition is gone: its bytes are nobody's. */
static void
test_a_deleted_partition_is_passed_by(void)
{
	struct rig_config config = journal_rig_config();
	char command[700];
	struct rig rig;

	journal_rig_crash(&rig, "deleted", &config, 10);
	snprintf(command, sizeof(command), "rm -r '%s/topics/rig'", rig.data_dir);
	CU_ASSERT_EQUAL_FATAL(system(command), 0);
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "deleted", &config), 0);
	CU_ASSERT_EQUAL(rig.report.end_position, 0);
	CU_ASSERT_PTR_NULL(hfb_store_note(rig.store));
	CU_ASSERT_EQUAL(journal_rig_files(&rig, "*"), 0);
	rig_close(&rig);
}

static void
test_a_replay_survives_each_single_fault(void)
{
	struct rig_config config = journal_rig_config();
	struct rig rig;
	bool spent = true;
	uint64_t end;
	int step;

	config.journal_file_bytes = 65536;
	end = journal_rig_crash(&rig, "faults", &config, 30);
	for (step = 0; spent && step < 2000; step++) {
		int r;

		config.env = fault_env_reset();
		fault_env.fail_at = step;
		r = rig_open(&rig, "faults", &config);
		spent = fault_env.fired;
		fault_env.fail_at = -1;
		if (r == 0)
			CU_ASSERT_TRUE(rig.report.end_position >= end);
		rig_close(&rig);
		CU_ASSERT_EQUAL(fault_env.open_files, 0);
	}
	CU_ASSERT_TRUE(step > 20);
	CU_ASSERT_FALSE(spent);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "a torn tail is no damage", test_a_torn_tail_is_no_damage },
		{ "a file torn while it is begun anew is no damage",
		  test_a_file_torn_while_it_is_begun_anew_is_no_damage },
		{ "damage in the first group is named", test_damage_in_the_first_group_is_named },
		{ "damage is named", test_damage_is_named_and_found_in_the_log },
		{ "a segment with a bad header gets its bytes",
		  test_a_segment_with_a_bad_header_gets_its_bytes },
		{ "another version is refused", test_another_version_is_refused },
		{ "a journal of another run is not replayed",
		  test_a_journal_of_another_run_is_not_replayed },
		{ "a deleted partition is passed by", test_a_deleted_partition_is_passed_by },
		{ "a replay survives each single fault", test_a_replay_survives_each_single_fault },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("journal replay", tests);
}
