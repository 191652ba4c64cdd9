/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal that a core's partitions share.
 *
 * Goal:   what only the journal has is durable, is found after a crash, and is never put
 *	   where it does not belong; what cannot be used is named.
 * Method: one log with a journal of its own, left as a crash would; its files are then
 *	   bent as disks and other versions do.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <hfbus/journal.h>

#include "clock.h"
#include "crc32c.h"
#include "fault_env.h"
#include "hfb_test_main.h"
#include "log_rig.h"
#include "sim_disk.h"
#include "store_private.h"

#define MIB (1u << 20)

static struct rig_config
config_of(void)
{
	return (struct rig_config){ .env = fault_env_reset(),
				    .commit_stage = HFB_STAGE_DURABLE,
				    .ring_bytes_max = MIB,
				    .segment_bytes_max = MIB,
				    .journal_logs_min = 1 };
}

static uint64_t
durable(const struct rig *rig)
{
	return rig->positions->durable.position;
}

/* Append one by one, each durable before the next, @n of which the journal takes. */
static void
journaled(struct rig *rig, uint32_t n)
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

/* A log of which the last @n batches are in the journal alone. Returns where it ends. */
static uint64_t
crashed(struct rig *rig, const char *name, const struct rig_config *config, uint32_t n)
{
	uint64_t end;

	CU_ASSERT_EQUAL_FATAL(rig_open(rig, name, config), 0);
	journaled(rig, n);
	end = durable(rig);
	CU_ASSERT_TRUE(rig->positions->filed < end);
	rig_close(rig);
	return end;
}

/* Open again what was left, and go on counting batches. */
static int
opened(struct rig *rig, const char *name, const struct rig_config *config)
{
	uint64_t batches = rig->batches;
	int r = rig_open(rig, name, config);

	rig->batches = batches;
	return r;
}

static uint32_t
files_count(const struct rig *rig, const char *pattern)
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

/* As a disk does: one bit of the byte at @at. */
static void
bend(const char *path, uint64_t at)
{
	FILE *f = fopen(path, "r+b");
	int c;

	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	fseek(f, (long)at, SEEK_SET);
	c = fgetc(f);
	fseek(f, (long)at, SEEK_SET);
	CU_ASSERT_NOT_EQUAL_FATAL(fputc(c ^ 1, f), EOF);
	fclose(f);
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
	bend(path, at);
}

static void
test_the_journal_alone_makes_durable(void)
{
	struct rig_config config = config_of();
	struct rig rig;
	uint64_t end;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "alone", &config), 0);
	journaled(&rig, 50);
	end = durable(&rig);
	CU_ASSERT_EQUAL(end, rig.positions->received.position);
	CU_ASSERT_TRUE(rig.positions->filed < end);
	rig_close(&rig);
	CU_ASSERT_EQUAL(files_count(&rig, "*.journal"), 4);
	CU_ASSERT_EQUAL_FATAL(opened(&rig, "alone", &config), 0);
	CU_ASSERT_EQUAL(rig.report.end_position, end);
	CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
	CU_ASSERT_PTR_NULL(hfb_store_note(rig.store));
	CU_ASSERT_EQUAL(files_count(&rig, "*"), 0);
	CU_ASSERT_TRUE(rig_drain(&rig));
	CU_ASSERT_TRUE(rig_check(&rig) >= 50);
	rig_close(&rig);
	CU_ASSERT_EQUAL(fault_env.open_files, 0);
}

static void
test_a_stop_files_all_and_removes_it(void)
{
	struct rig_config config = config_of();
	struct rig rig;
	uint64_t end;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "stop", &config), 0);
	journaled(&rig, 20);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	end = durable(&rig);
	CU_ASSERT_EQUAL(rig.positions->filed, end);
	rig_close(&rig);
	CU_ASSERT_EQUAL(files_count(&rig, "*"), 0);

	/* without an end mark: what was durable is in the file all the same */
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "stop", &config), 0);
	journaled(&rig, 20);
	end = durable(&rig);
	CU_ASSERT_TRUE(rig_detach(&rig, false));
	CU_ASSERT_TRUE(rig.positions->filed >= end);
	rig_close(&rig);
	CU_ASSERT_EQUAL(files_count(&rig, "*"), 0);
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "stop", &config), 0);
	CU_ASSERT_TRUE(rig.report.end_position >= end);
	rig_close(&rig);
}

/* Small files: gone over many times, with the log's own in between. */
static void
test_files_are_used_again(void)
{
	struct rig_config config = config_of();
	struct rig rig;
	uint64_t end;

	config.journal_file_bytes = 65536;
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "again", &config), 0);
	journaled(&rig, 400);
	CU_ASSERT_TRUE(rig.positions->filed > 0);
	end = durable(&rig);
	rig_close(&rig);
	CU_ASSERT_EQUAL_FATAL(opened(&rig, "again", &config), 0);
	CU_ASSERT_EQUAL(rig.report.end_position, end);
	CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
	CU_ASSERT_PTR_NULL(hfb_store_note(rig.store));
	CU_ASSERT_TRUE(rig_drain(&rig));
	CU_ASSERT_TRUE(rig_check(&rig) > 400);
	rig_close(&rig);
}

static void
test_a_torn_tail_is_no_damage(void)
{
	struct rig_config config = config_of();
	struct rig rig;
	uint64_t end;

	end = crashed(&rig, "torn", &config, 10);
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
	struct rig_config config = config_of();
	struct rig rig;
	uint64_t end;
	char path[600];
	uint8_t sector[512];
	FILE *f;

	config.journal_file_bytes = 65536;
	memset(sector, 0xa5, sizeof(sector));
	for (int i = 0; i < 3; i++) {
		end = crashed(&rig, names[i], &config, 400);
		oldest_file(&rig, path);
		f = fopen(path, "r+b");
		CU_ASSERT_PTR_NOT_NULL_FATAL(f);
		fseek(f, HFB_JOURNAL_HEADER_BYTES + torn_at[i], SEEK_SET);
		CU_ASSERT_EQUAL(fwrite(sector, sizeof(sector), 1, f), 1);
		fclose(f);
		CU_ASSERT_EQUAL_FATAL(opened(&rig, names[i], &config), 0);
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
	struct rig_config config = config_of();
	struct rig rig;

	for (int i = 0; i < 2; i++) {
		crashed(&rig, i == 0 ? "first-head" : "first-body", &config, 10);
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
	struct rig_config config = config_of();
	struct rig rig;
	uint64_t end;
	char path[600];

	end = crashed(&rig, "damage", &config, 10);
	bend_group(&rig, 4, 600);
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "damage", &config), 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(hfb_store_note(rig.store));
	CU_ASSERT_PTR_NOT_NULL(strstr(hfb_store_note(rig.store), "0-0.journal: damaged"));
	CU_ASSERT_EQUAL(rig.report.corrupt_count, 1);
	CU_ASSERT_EQUAL(rig.report.end_position, end);
	rig_close(&rig);

	/* the file's own header: nothing in it can be believed */
	crashed(&rig, "damage-head", &config, 10);
	snprintf(path, sizeof(path), "%s/journal/0-0.journal", rig.data_dir);
	bend(path, 20);
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "damage-head", &config), 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(hfb_store_note(rig.store));
	CU_ASSERT_PTR_NOT_NULL(strstr(hfb_store_note(rig.store), "set aside as .stray"));
	CU_ASSERT_EQUAL(files_count(&rig, "*.stray"), 1);
	CU_ASSERT_EQUAL(files_count(&rig, "*.journal"), 0);
	rig_close(&rig);
}

/* Its positions are known from name and size: what the journal has goes there all the same. */
static void
test_a_segment_with_a_bad_header_gets_its_bytes(void)
{
	struct rig_config config = config_of();
	struct rig rig;
	uint64_t end;
	char path[600];
	glob_t found;

	end = crashed(&rig, "segment", &config, 10);
	snprintf(path, sizeof(path), "%s/topics/rig/*/0/*.seg", rig.data_dir);
	CU_ASSERT_EQUAL_FATAL(glob(path, 0, NULL, &found), 0);
	bend(found.gl_pathv[0], 20);
	globfree(&found);
	CU_ASSERT_EQUAL_FATAL(opened(&rig, "segment", &config), 0);
	CU_ASSERT_EQUAL(rig.report.end_position, end);
	CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
	rig_close(&rig);
}

/* A disk in memory whose folder of journals is not synced when told so. */
static const struct hfb_env_ops *sim_ops;
static bool unsynced;

static int
sync_dir(struct hfb_env *env, const char *path)
{
	if (unsynced && strcmp(path, "/data/journal") == 0)
		return -EIO;
	return sim_ops->sync_dir(env, path);
}

/*
 * A stop is killed when its journal's files are removed, and not yet durably. The next run
 * writes on, and what a power failure brings back then is no damage.
 */
static void
test_files_removed_by_a_killed_run_stay_away(void)
{
	struct rig_config config = config_of();
	struct sim_disk *disk = sim_disk_create(3);
	struct hfb_env *env = sim_disk_env(disk);
	struct hfb_env_ops ops = *env->ops;
	struct rig rig;

	sim_ops = env->ops;
	ops.sync_dir = sync_dir;
	env->ops = &ops;
	config.env = env;
	config.data_dir = "/data";
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "killed", &config), 0);
	journaled(&rig, 10);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	unsynced = true;
	rig_close(&rig);
	unsynced = false;
	config.journal_logs_min = UINT32_MAX;
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "killed", &config), 0);
	CU_ASSERT_TRUE(rig_append(&rig, 704));
	CU_ASSERT_TRUE(rig_drain(&rig));
	rig_close(&rig);
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct sim_disk *left = sim_disk_crash(disk, sim_disk_now(disk), seed);

		config.env = sim_disk_env(left);
		CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "killed", &config), 0);
		CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
		CU_ASSERT_PTR_NULL(hfb_store_note(rig.store));
		rig_close(&rig);
		sim_disk_destroy(left);
	}
	sim_disk_destroy(disk);
}

/* Power fails at each step of what @disk has done since @from: nothing is lost or damaged. */
static void
each_moment(struct sim_disk *disk, uint64_t from, uint64_t end)
{
	struct rig_config config = config_of();
	uint64_t until = sim_disk_now(disk);
	struct rig rig;

	config.data_dir = "/data";
	config.journal_logs_min = UINT32_MAX;
	for (uint64_t n = 0; n <= 4 * (until - from); n++) {
		struct sim_disk *left = sim_disk_crash(disk, from + n / 4, n + 1);

		config.env = sim_disk_env(left);
		CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "moment", &config), 0);
		CU_ASSERT_TRUE(rig.report.end_position >= end);
		CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
		CU_ASSERT_PTR_NULL(hfb_store_note(rig.store));
		rig_close(&rig);
		sim_disk_destroy(left);
	}
}

static void
test_its_files_go_in_order(void)
{
	struct rig_config config = config_of();
	struct sim_disk *disk = sim_disk_create(5);
	struct rig rig;
	uint64_t from, end;

	config.env = sim_disk_env(disk);
	config.data_dir = "/data";
	config.journal_file_bytes = 65536;
	end = crashed(&rig, "order", &config, 200);
	/* a replay, and a stop */
	from = sim_disk_now(disk);
	CU_ASSERT_EQUAL_FATAL(opened(&rig, "order", &config), 0);
	each_moment(disk, from, end);
	journaled(&rig, 200);
	end = durable(&rig);
	from = sim_disk_now(disk);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
	each_moment(disk, from, end);
	sim_disk_destroy(disk);
}

static void
test_another_version_is_refused(void)
{
	struct rig_config config = config_of();
	struct hfb_journal_header h;
	uint8_t *bytes;
	struct rig rig;
	char path[600];
	size_t size;

	crashed(&rig, "version", &config, 10);
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
		CU_ASSERT_EQUAL(files_count(&rig, "*.journal"), 4);
	}
	free(bytes);
	CU_ASSERT_EQUAL(fault_env.open_files, 0);
}

/* A run that knew no journal was in between: its log may have grown where these bytes were. */
static void
test_a_journal_of_another_run_is_not_replayed(void)
{
	struct rig_config config = config_of();
	char path[600], kept[700];
	struct rig rig;
	uint64_t end;

	crashed(&rig, "stale", &config, 10);
	snprintf(path, sizeof(path), "%s/journal", rig.data_dir);
	snprintf(kept, sizeof(kept), "%s/kept", rig.data_dir);
	CU_ASSERT_EQUAL_FATAL(rename(path, kept), 0);
	config.journal_logs_min = UINT32_MAX;
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "stale", &config), 0);
	CU_ASSERT_TRUE(rig_append(&rig, 904));
	CU_ASSERT_TRUE(rig_drain(&rig));
	end = durable(&rig);
	rig_close(&rig);
	CU_ASSERT_EQUAL_FATAL(rename(kept, path), 0);
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "stale", &config), 0);
	CU_ASSERT_EQUAL(rig.report.end_position, end);
	CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(hfb_store_note(rig.store));
	CU_ASSERT_PTR_NOT_NULL(strstr(hfb_store_note(rig.store), "set aside"));
	CU_ASSERT_TRUE(files_count(&rig, "*.stray") > 0);
	rig_close(&rig);
}

/* The partition is gone: its bytes are nobody's. */
static void
test_a_deleted_partition_is_passed_by(void)
{
	struct rig_config config = config_of();
	char command[700];
	struct rig rig;

	crashed(&rig, "deleted", &config, 10);
	snprintf(command, sizeof(command), "rm -r '%s/topics/rig'", rig.data_dir);
	CU_ASSERT_EQUAL_FATAL(system(command), 0);
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "deleted", &config), 0);
	CU_ASSERT_EQUAL(rig.report.end_position, 0);
	CU_ASSERT_PTR_NULL(hfb_store_note(rig.store));
	CU_ASSERT_EQUAL(files_count(&rig, "*"), 0);
	rig_close(&rig);
}

static void
test_a_failed_write_is_final(void)
{
	struct rig_config config = config_of();
	struct rig rig;
	uint64_t before;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "failed", &config), 0);
	journaled(&rig, 5);
	/* cut short once: it is written again in its place */
	fault_env.short_write_bytes = 512;
	CU_ASSERT_TRUE(rig_append(&rig, 704));
	CU_ASSERT_TRUE(rig_drain(&rig));
	CU_ASSERT_EQUAL(rig.positions->state, HFB_PARTITION_OPEN);
	journaled(&rig, 1);
	before = durable(&rig);
	fault_env.write_error = -EIO;
	CU_ASSERT_TRUE(rig_append(&rig, 704));
	for (int i = 0; i < 100000 && rig.positions->state != HFB_PARTITION_FAILED; i++)
		rig_poll(&rig);
	CU_ASSERT_EQUAL(rig.positions->state, HFB_PARTITION_FAILED);
	fault_env.write_error = 0;
	for (int i = 0; i < 1000; i++)
		rig_poll(&rig);
	CU_ASSERT_EQUAL(durable(&rig), before);
	CU_ASSERT_EQUAL(rig_try(&rig, 704, false), HFB_LOG_IO_ERROR);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
	/* what was durable is in the journal alone, and is found there */
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "failed", &config), 0);
	CU_ASSERT_TRUE(rig.report.end_position >= before);
	CU_ASSERT_EQUAL(rig.report.corrupt_count, 0);
	rig_close(&rig);
}

static uint64_t
in_20_s(void)
{
	return hfb_clock_now_ns() + 20000000000ull;
}

/* Logs beside the rig's own, of the same writer. */
#define OTHERS 9u

struct others {
	struct hfb_positions *positions;
	struct hfb_log *logs[OTHERS];
};

static void
others_open(struct others *o, struct rig *rig)
{
	struct hfb_log_report report;

	o->positions = aligned_alloc(64, OTHERS * sizeof(*o->positions));
	memset(o->positions, 0, OTHERS * sizeof(*o->positions));
	for (uint32_t i = 0; i < OTHERS; i++) {
		struct hfb_log_config config = { .topic = "others",
						 .topic_uuid.bytes[0] = 7,
						 .partition = i,
						 .commit_stage = HFB_STAGE_DURABLE,
						 .leader_epoch = rig->epoch,
						 .positions = &o->positions[i],
						 .user = rig };

		CU_ASSERT_EQUAL_FATAL(
			hfb_log_open(rig->store, &config, &o->logs[i], &report, &rig->err), 0);
		hfb_writer_attach(rig->writer, o->logs[i]);
	}
}

static void
others_close(struct others *o, struct rig *rig)
{
	uint64_t until = in_20_s();
	uint32_t left = OTHERS;

	for (uint32_t i = 0; i < OTHERS; i++)
		hfb_writer_detach(rig->writer, o->logs[i], true);
	while (left > 0 && hfb_clock_now_ns() < until) {
		rig_poll(rig);
		left = 0;
		for (uint32_t i = 0; i < OTHERS; i++)
			left += !hfb_writer_detached(rig->writer, o->logs[i]);
	}
	CU_ASSERT_EQUAL_FATAL(left, 0);
	for (uint32_t i = 0; i < OTHERS; i++)
		hfb_log_close(o->logs[i]);
	free(o->positions);
}

static uint32_t
others_in(const struct others *o, uint32_t state)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < OTHERS; i++)
		n += o->positions[i].state == state;
	return n;
}

/* All of them durable, and something of each in the journal alone. */
static void
others_journaled(struct others *o, struct rig *rig)
{
	uint32_t held = 0;

	for (uint64_t n = 0; held < OTHERS && n < 5000; n++) {
		for (uint32_t i = 0; i < OTHERS; i++)
			CU_ASSERT_TRUE_FATAL(rig_append_to(o->logs[i], n, 704));
		for (uint32_t left = 1; left > 0;) {
			rig_poll(rig);
			left = 0;
			for (uint32_t i = 0; i < OTHERS; i++)
				left += hfb_log_position(o->logs[i], HFB_STAGE_DURABLE) !=
					hfb_log_position(o->logs[i], HFB_STAGE_RECEIVED);
		}
		held = 0;
		for (uint32_t i = 0; i < OTHERS; i++)
			held += o->positions[i].filed < o->positions[i].durable.position;
	}
	CU_ASSERT_EQUAL_FATAL(held, OTHERS);
}

/* As many as are filed at once cannot be: the others are, and the core may rest. */
static void
test_logs_that_cannot_be_filed_are_in_nobodys_way(void)
{
	struct rig_config config = config_of();
	struct others others;
	struct rig rig;
	uint32_t failed = 0, i = 0;

	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "way", &config), 0);
	others_open(&others, &rig);
	others_journaled(&others, &rig);
	journaled(&rig, 1);
	fault_env.write_error = -EIO;
	for (uint64_t until = in_20_s(); failed < 8 && hfb_clock_now_ns() < until;) {
		rig_poll(&rig);
		failed = others_in(&others, HFB_PARTITION_FAILED);
	}
	fault_env.write_error = 0;
	CU_ASSERT_TRUE_FATAL(failed >= 8);
	for (uint64_t until = in_20_s(); hfb_writer_busy(rig.writer) && hfb_clock_now_ns() < until;)
		rig_poll(&rig);
	CU_ASSERT_FALSE(hfb_writer_busy(rig.writer));
	CU_ASSERT_EQUAL(rig.positions->state, HFB_PARTITION_OPEN);
	CU_ASSERT_EQUAL(rig.positions->filed, durable(&rig));
	others_close(&others, &rig);
	CU_ASSERT_TRUE(rig_detach(&rig, true));
	rig_close(&rig);
	/* of those that failed it has what no file has */
	CU_ASSERT_EQUAL(files_count(&rig, "*.journal"), 4);
	CU_ASSERT_EQUAL_FATAL(rig_open(&rig, "way", &config), 0);
	others_open(&others, &rig);
	for (i = 0; i < OTHERS; i++)
		CU_ASSERT_TRUE(others.positions[i].durable.offset > 0);
	others_close(&others, &rig);
	rig_close(&rig);
}

static void
test_a_replay_survives_each_single_fault(void)
{
	struct rig_config config = config_of();
	struct rig rig;
	bool spent = true;
	uint64_t end;
	int step;

	config.journal_file_bytes = 65536;
	end = crashed(&rig, "faults", &config, 30);
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
		{ "the journal alone makes durable", test_the_journal_alone_makes_durable },
		{ "a stop files all and removes it", test_a_stop_files_all_and_removes_it },
		{ "files are used again", test_files_are_used_again },
		{ "a torn tail is no damage", test_a_torn_tail_is_no_damage },
		{ "a file torn while it is begun anew is no damage",
		  test_a_file_torn_while_it_is_begun_anew_is_no_damage },
		{ "damage in the first group is named", test_damage_in_the_first_group_is_named },
		{ "damage is named", test_damage_is_named_and_found_in_the_log },
		{ "a segment with a bad header gets its bytes",
		  test_a_segment_with_a_bad_header_gets_its_bytes },
		{ "files removed by a killed run stay away",
		  test_files_removed_by_a_killed_run_stay_away },
		{ "its files go in order", test_its_files_go_in_order },
		{ "another version is refused", test_another_version_is_refused },
		{ "a journal of another run is not replayed",
		  test_a_journal_of_another_run_is_not_replayed },
		{ "a deleted partition is passed by", test_a_deleted_partition_is_passed_by },
		{ "a failed write is final", test_a_failed_write_is_final },
		{ "logs that cannot be filed are in nobody's way",
		  test_logs_that_cannot_be_filed_are_in_nobodys_way },
		{ "a replay survives each single fault", test_a_replay_survives_each_single_fault },
		CU_TEST_INFO_NULL,
	};

	return hfb_test_main("journal", tests);
}
