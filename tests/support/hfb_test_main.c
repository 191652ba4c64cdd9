/* SPDX-License-Identifier: Apache-2.0 */
#include "hfb_test_main.h"

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef HFB_SOURCE_ROOT
#error "tests/support/meson.build gives HFB_SOURCE_ROOT"
#endif

static char folder[PATH_MAX];
static pid_t folder_owner;

int
hfb_test_main_fixture(const char *name, CU_TestInfo *tests, CU_SetUpFunc set_up,
		      CU_TearDownFunc tear_down)
{
	CU_SuiteInfo suites[] = {
		{ .pName = name,
		  .pSetUpFunc = set_up,
		  .pTearDownFunc = tear_down,
		  .pTests = tests },
		CU_SUITE_INFO_NULL,
	};
	CU_ErrorCode code;
	unsigned int failed;

	setvbuf(stdout, NULL, _IOLBF, 0);
	code = CU_initialize_registry();
	if (code == CUE_SUCCESS)
		code = CU_register_suites(suites);
	if (code == CUE_SUCCESS) {
		CU_basic_set_mode(CU_BRM_VERBOSE);
		code = CU_basic_run_tests();
	}
	if (code != CUE_SUCCESS) {
		fprintf(stderr, "%s: CUnit: %s\n", name, CU_get_error_msg());
		CU_cleanup_registry();
		return 1;
	}
	/* The code above tells about CUnit only, never about the tests. */
	failed = CU_get_number_of_failures() + CU_get_number_of_tests_failed() +
		 CU_get_number_of_suites_failed();
	/* A suite that ran nothing has shown nothing. */
	if (CU_get_number_of_tests_run() == 0 || CU_get_number_of_asserts() == 0) {
		fprintf(stderr, "%s: no test or no assertion ran\n", name);
		failed++;
	}
	CU_cleanup_registry();
	return failed == 0 ? 0 : 1;
}

int
hfb_test_main(const char *name, CU_TestInfo *tests)
{
	return hfb_test_main_fixture(name, tests, NULL, NULL);
}

static int
folder_entry_remove(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	return remove(path);
}

static void
folder_remove(void)
{
	nftw(folder, folder_entry_remove, 16, FTW_DEPTH | FTW_PHYS);
}

static void
folder_remove_at_exit(void)
{
	/* A forked child that exits must not take the parent's files away. */
	if (getpid() == folder_owner)
		folder_remove();
}

/*
 * Removes the folder after a test that crashed or was killed. The watcher is a grandchild, for
 * tests that wait for any child, and in a session of its own: a time limit kills the test's group.
 */
static void
folder_watch(void)
{
	struct pollfd test = { .fd = pidfd_open(getpid(), 0), .events = POLLIN };
	pid_t child = test.fd < 0 ? -1 : fork();

	if (child == 0) {
		if (fork() != 0)
			_exit(0);
		setsid();
		/* whoever waits for the end of a pipe or a lock waits for the test, not for this */
		dup2(test.fd, STDIN_FILENO);
		closefrom(STDOUT_FILENO);
		test.fd = STDIN_FILENO;
		while (poll(&test, 1, -1) != 1)
			;
		folder_remove();
		_exit(0);
	}
	if (child > 0)
		waitpid(child, NULL, 0);
	if (test.fd >= 0)
		close(test.fd);
}

const char *
hfb_test_folder(void)
{
	const char *base = getenv("TMPDIR");

	if (folder[0] != '\0')
		return folder;
	snprintf(folder, sizeof(folder), "%s/hfbus-test-XXXXXX", base != NULL ? base : "/tmp");
	if (mkdtemp(folder) == NULL) {
		perror(folder);
		exit(1);
	}
	folder_owner = getpid();
	atexit(folder_remove_at_exit);
	folder_watch();
	return folder;
}

const char *
hfb_test_capture(const char *name)
{
	static char path[PATH_MAX];
	const char *base = getenv("HFBUS_CAPTURES");

	snprintf(path, sizeof(path), "%s/%s",
		 base != NULL ? base : HFB_SOURCE_ROOT "/../shared/captures", name);
	return access(path, R_OK) == 0 ? path : NULL;
}

void
hfb_test_flip(const char *path, uint64_t offset, int bit)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	uint8_t byte = 0;
	bool done;

	done = fd >= 0 && pread(fd, &byte, 1, (off_t)offset) == 1;
	byte ^= (uint8_t)(1u << bit);
	if (!done || pwrite(fd, &byte, 1, (off_t)offset) != 1) {
		fprintf(stderr, "%s: no byte at %llu to be flipped\n", path,
			(unsigned long long)offset);
		abort();
	}
	close(fd);
}

uint64_t
hfb_test_random(void)
{
	static uint64_t state;
	uint64_t z;

	if (state == 0) {
		const char *seed = getenv("HFBUS_TEST_SEED");

		state = seed != NULL ? strtoull(seed, NULL, 0) : 0x5eed;
	}
	/* splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators") */
	state += 0x9e3779b97f4a7c15ull;
	z = state;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}
