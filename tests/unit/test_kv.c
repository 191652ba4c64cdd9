/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control plane's store.
 *
 * Goal:   a change happens whole or not at all, whatever fails underneath, and only
 *	   if the revision is the expected one.
 * Method: SQLite's own seams: an allocator and a VFS that fail the n-th call, until
 *	   a run passes untouched.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sqlite3.h>

#include "hfb_test_main.h"
#include "kv.h"

#define STEPS_MAX 4000u

/* Calls until the fault; UINT32_MAX = none. */
static uint32_t memory_countdown = UINT32_MAX;
static uint32_t io_countdown = UINT32_MAX;
static bool spent;

static bool
strikes(uint32_t *countdown)
{
	if (*countdown == UINT32_MAX)
		return false;
	if ((*countdown)-- > 0)
		return false;
	*countdown = UINT32_MAX;
	spent = true;
	return true;
}

/* An allocator that fails --------------------------------------------------- */

static sqlite3_mem_methods memory;

static void *
failing_malloc(int n)
{
	return strikes(&memory_countdown) ? NULL : memory.xMalloc(n);
}

static void *
failing_realloc(void *p, int n)
{
	return strikes(&memory_countdown) ? NULL : memory.xRealloc(p, n);
}

/* A VFS that fails ---------------------------------------------------------- */

struct file {
	sqlite3_file base; /* first */
	sqlite3_file *real;
};

static sqlite3_vfs vfs;
static sqlite3_vfs *real_vfs;
static sqlite3_io_methods methods;

#define REAL(f) (((struct file *)(f))->real)
#define PASS(name, arguments, ...)                                                                 \
	static int pass_##name arguments                                                           \
	{                                                                                          \
		return REAL(f)->pMethods->x##name(__VA_ARGS__);                                    \
	}
#define FAIL(name, code, arguments, ...)                                                           \
	static int fail_##name arguments                                                           \
	{                                                                                          \
		if (strikes(&io_countdown))                                                        \
			return code;                                                               \
		return REAL(f)->pMethods->x##name(__VA_ARGS__);                                    \
	}

PASS(Close, (sqlite3_file * f), REAL(f))
FAIL(Read, SQLITE_IOERR_READ, (sqlite3_file * f, void *p, int n, sqlite3_int64 at), REAL(f), p, n,
     at)
FAIL(Write, SQLITE_FULL, (sqlite3_file * f, const void *p, int n, sqlite3_int64 at), REAL(f), p, n,
     at)
FAIL(Truncate, SQLITE_IOERR_TRUNCATE, (sqlite3_file * f, sqlite3_int64 n), REAL(f), n)
FAIL(FileSize, SQLITE_IOERR_FSTAT, (sqlite3_file * f, sqlite3_int64 *n), REAL(f), n)
PASS(Lock, (sqlite3_file * f, int level), REAL(f), level)
PASS(Unlock, (sqlite3_file * f, int level), REAL(f), level)
PASS(CheckReservedLock, (sqlite3_file * f, int *r), REAL(f), r)
PASS(FileControl, (sqlite3_file * f, int op, void *arg), REAL(f), op, arg)
PASS(SectorSize, (sqlite3_file * f), REAL(f))
PASS(DeviceCharacteristics, (sqlite3_file * f), REAL(f))
FAIL(ShmMap, SQLITE_IOERR_SHMMAP,
     (sqlite3_file * f, int page, int n, int extend, void volatile **p), REAL(f), page, n, extend,
     p)
PASS(ShmLock, (sqlite3_file * f, int at, int n, int flags), REAL(f), at, n, flags)
PASS(ShmUnmap, (sqlite3_file * f, int remove), REAL(f), remove)

/* Not passed on: no power is cut here, and a busy disk would make a slow test. */
static int
fail_Sync(sqlite3_file *f, int flags)
{
	(void)f, (void)flags;
	return strikes(&io_countdown) ? SQLITE_IOERR_FSYNC : SQLITE_OK;
}

static void
pass_ShmBarrier(sqlite3_file *f)
{
	REAL(f)->pMethods->xShmBarrier(REAL(f));
}

static int
failing_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out)
{
	struct file *file = (struct file *)f;
	int r;

	(void)v;
	file->base.pMethods = NULL;
	if (strikes(&io_countdown))
		return SQLITE_CANTOPEN;
	file->real = (sqlite3_file *)(file + 1);
	r = real_vfs->xOpen(real_vfs, name, file->real, flags, out);
	if (file->real->pMethods != NULL)
		file->base.pMethods = &methods;
	return r;
}

static void
install(void)
{
	sqlite3_mem_methods failing;

	sqlite3_config(SQLITE_CONFIG_GETMALLOC, &memory);
	failing = memory;
	failing.xMalloc = failing_malloc;
	failing.xRealloc = failing_realloc;
	sqlite3_config(SQLITE_CONFIG_MALLOC, &failing);
	sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0); /* so that every allocation is seen */
	sqlite3_initialize();
	real_vfs = sqlite3_vfs_find(NULL);
	vfs = *real_vfs;
	vfs.zName = "failing";
	vfs.szOsFile = (int)sizeof(struct file) + real_vfs->szOsFile;
	vfs.xOpen = failing_open;
	methods = (sqlite3_io_methods){
		2,
		pass_Close,
		fail_Read,
		fail_Write,
		fail_Truncate,
		fail_Sync,
		fail_FileSize,
		pass_Lock,
		pass_Unlock,
		pass_CheckReservedLock,
		pass_FileControl,
		pass_SectorSize,
		pass_DeviceCharacteristics,
		fail_ShmMap,
		pass_ShmLock,
		pass_ShmBarrier,
		pass_ShmUnmap,
		NULL,
		NULL,
	};
	sqlite3_vfs_register(&vfs, 1);
}

/* Tests --------------------------------------------------------------------- */

static const char *
new_path(void)
{
	static char path[512];
	static unsigned int n;

	snprintf(path, sizeof(path), "%s/%u.db", hfb_test_folder(), n++);
	return path;
}

static struct hfb_kv *
open_kv(const char *path)
{
	struct hfb_kv *kv = NULL;
	struct hfb_err err = { 0 };

	CU_ASSERT_EQUAL_FATAL(hfb_kv_open_sqlite(path, &kv, &err), 0);
	return kv;
}

static bool
holds(struct hfb_kv *kv, const char *key, const char *value)
{
	struct hfb_kv_item item;
	int r = hfb_kv_get(kv, key, &item, NULL);

	return value == NULL ? r == -ENOENT : r == 0 && strcmp(item.value, value) == 0;
}

static void
test_a_change_needs_the_right_revision(void)
{
	struct hfb_kv *kv = open_kv(new_path());
	uint64_t first = 0, second = 0, third = 0;

	CU_ASSERT_EQUAL(hfb_kv_cas(kv, "k", 0, "one", &first, NULL), 0);
	CU_ASSERT_TRUE(first > 0);
	CU_ASSERT_EQUAL(hfb_kv_cas(kv, "k", 0, "again", &second, NULL), -ESTALE);
	CU_ASSERT_EQUAL(second, 0);
	CU_ASSERT_EQUAL(hfb_kv_cas(kv, "k", first + 1, "wrong", NULL, NULL), -ESTALE);
	CU_ASSERT_TRUE(holds(kv, "k", "one"));
	CU_ASSERT_EQUAL(hfb_kv_cas(kv, "k", first, "two", &second, NULL), 0);
	CU_ASSERT_TRUE(second > first);
	CU_ASSERT_TRUE(holds(kv, "k", "two"));
	CU_ASSERT_EQUAL(hfb_kv_cas(kv, "k", first, NULL, NULL, NULL), -ESTALE);
	CU_ASSERT_EQUAL(hfb_kv_cas(kv, "k", second, NULL, NULL, NULL), 0);
	CU_ASSERT_TRUE(holds(kv, "k", NULL));
	/* Made anew, it is not the old one. */
	CU_ASSERT_EQUAL(hfb_kv_cas(kv, "k", 0, "three", &third, NULL), 0);
	CU_ASSERT_TRUE(third > second);
	CU_ASSERT_EQUAL(hfb_kv_cas(kv, "k", first, "stale", NULL, NULL), -ESTALE);
	hfb_kv_close(kv);
}

static void
count(void *arg, const struct hfb_kv_item *item)
{
	char *seen = arg;

	strcat(seen, item->key);
	strcat(seen, item->value == NULL ? "-" : "+");
}

static void
test_keys_are_listed_by_prefix_and_watched(void)
{
	struct hfb_kv *kv = open_kv(new_path());
	char listed[64] = "", watched[64] = "";
	uint64_t revision = 0;

	CU_ASSERT_EQUAL(hfb_kv_watch(kv, "t/", count, watched, NULL), 0);
	CU_ASSERT_EQUAL(hfb_kv_cas(kv, "t/b", 0, "1", &revision, NULL), 0);
	CU_ASSERT_EQUAL(hfb_kv_cas(kv, "t/a", 0, "1", NULL, NULL), 0);
	CU_ASSERT_EQUAL(hfb_kv_cas(kv, "s", 0, "1", NULL, NULL), 0);
	CU_ASSERT_EQUAL(hfb_kv_cas(kv, "t0", 0, "1", NULL, NULL), 0);
	CU_ASSERT_EQUAL(hfb_kv_cas(kv, "t/b", 0, "1", NULL, NULL), -ESTALE);
	CU_ASSERT_EQUAL(hfb_kv_cas(kv, "t/b", revision, NULL, NULL, NULL), 0);
	CU_ASSERT_EQUAL(hfb_kv_each(kv, "t/", count, listed, NULL), 0);
	CU_ASSERT_STRING_EQUAL(listed, "t/a+");
	CU_ASSERT_STRING_EQUAL(watched, "t/b+t/a+t/b-");
	hfb_kv_close(kv);
}

static void
test_a_killed_process_leaves_what_was_acknowledged(void)
{
	const char *path = new_path();
	int acknowledged[2], status = 0;
	struct hfb_kv *kv;
	uint32_t n = 0, last = 0;
	char key[16];
	pid_t pid;

	CU_ASSERT_EQUAL_FATAL(pipe(acknowledged), 0);
	pid = fork();
	if (pid == 0) {
		kv = open_kv(path);
		for (uint32_t i = 1;; i++) {
			snprintf(key, sizeof(key), "k%u", i);
			if (hfb_kv_cas(kv, key, 0, "v", NULL, NULL) != 0 ||
			    write(acknowledged[1], &i, sizeof(i)) != sizeof(i))
				_exit(1);
		}
	}
	close(acknowledged[1]);
	for (int i = 0; i < 40 && read(acknowledged[0], &n, sizeof(n)) == sizeof(n); i++)
		last = n;
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	while (read(acknowledged[0], &n, sizeof(n)) == sizeof(n))
		last = n;
	close(acknowledged[0]);
	CU_ASSERT_TRUE(last >= 40);
	kv = open_kv(path);
	for (uint32_t i = 1; i <= last; i++) {
		snprintf(key, sizeof(key), "k%u", i);
		CU_ASSERT_TRUE(holds(kv, key, "v"));
	}
	hfb_kv_close(kv);
}

static void
test_foreign_and_damaged_files_are_refused(void)
{
	const char *path = new_path();
	struct hfb_kv *kv = NULL;
	struct hfb_err err = { 0 };
	sqlite3 *db = NULL;
	FILE *f;

	sqlite3_open(path, &db);
	sqlite3_exec(db, "PRAGMA user_version = 7; CREATE TABLE x(y);", NULL, NULL, NULL);
	sqlite3_close(db);
	CU_ASSERT_EQUAL(hfb_kv_open_sqlite(path, &kv, &err), -EPROTO);

	path = new_path();
	hfb_kv_close(open_kv(path));
	sqlite3_open(path, &db);
	sqlite3_exec(db, "PRAGMA user_version = 2", NULL, NULL, NULL);
	sqlite3_close(db);
	CU_ASSERT_EQUAL(hfb_kv_open_sqlite(path, &kv, &err), -EPROTO);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "format 2"));

	path = new_path();
	f = fopen(path, "w");
	for (int i = 0; i < 4096; i++)
		fputc('x', f);
	fclose(f);
	CU_ASSERT_EQUAL(hfb_kv_open_sqlite(path, &kv, &err), -EIO);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, path));

	CU_ASSERT_EQUAL(hfb_kv_open_sqlite("/nowhere/at/all.db", &kv, &err), -EIO);
	CU_ASSERT_PTR_NULL(kv);
}

/* Fail the n-th call of @countdown in open and one change of "k" from old to new. */
static void
fault_loop(uint32_t *countdown)
{
	uint32_t step, spent_count = 0;

	spent = true;
	for (step = 0; spent && step < STEPS_MAX; step++) {
		const char *path = new_path();
		struct hfb_kv *kv = open_kv(path);
		struct hfb_err err = { 0 };
		uint64_t revision = 0, changed = 0;
		int r;

		CU_ASSERT_EQUAL(hfb_kv_cas(kv, "k", 0, "old", &revision, NULL), 0);
		hfb_kv_close(kv);
		kv = NULL;
		spent = false;
		*countdown = step;
		r = hfb_kv_open_sqlite(path, &kv, &err);
		CU_ASSERT_EQUAL(r < 0, kv == NULL);
		if (r == 0)
			r = hfb_kv_cas(kv, "k", revision, "new", &changed, &err);
		*countdown = UINT32_MAX;
		spent_count += spent;
		/* A fault may be survived (a cache that stays small); a failure has a sentence. */
		CU_ASSERT_TRUE(r == 0 || spent);
		CU_ASSERT_TRUE(r == 0 || err.text[0] != '\0');
		CU_ASSERT_EQUAL(r == 0, changed != 0);
		if (kv != NULL) {
			/* The process goes on, with the old value or the new one. */
			CU_ASSERT_TRUE(holds(kv, "k", r == 0 ? "new" : "old"));
			if (r < 0)
				CU_ASSERT_EQUAL(hfb_kv_cas(kv, "k", revision, "new", NULL, NULL),
						0);
		}
		hfb_kv_close(kv);
		kv = open_kv(path);
		CU_ASSERT_TRUE(holds(kv, "k", "new") || (r < 0 && holds(kv, "k", "old")));
		hfb_kv_close(kv);
		unlink(path);
	}
	CU_ASSERT_TRUE(spent_count > 10); /* the faults did reach the code */
	CU_ASSERT_FALSE(spent);		  /* and one run got all the way through */
}

static void
test_memory_that_fails_changes_nothing(void)
{
	fault_loop(&memory_countdown);
}

static void
test_a_disk_that_fails_changes_nothing(void)
{
	fault_loop(&io_countdown);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "a change needs the right revision", test_a_change_needs_the_right_revision },
		{ "keys are listed by prefix and watched",
		  test_keys_are_listed_by_prefix_and_watched },
		{ "a killed process leaves what was acknowledged",
		  test_a_killed_process_leaves_what_was_acknowledged },
		{ "foreign and damaged files are refused",
		  test_foreign_and_damaged_files_are_refused },
		{ "memory that fails changes nothing", test_memory_that_fails_changes_nothing },
		{ "a disk that fails changes nothing", test_a_disk_that_fails_changes_nothing },
		CU_TEST_INFO_NULL,
	};

	install();
	return hfb_test_main("kv", tests);
}
