/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hfb_test_main.h - what each unit test program ends with.
 *
 *	int
 *	main(void)
 *	{
 *		CU_TestInfo tests[] = {
 *			{ "a base that goes back is rejected", test_base },
 *			CU_TEST_INFO_NULL,
 *		};
 *		return hfb_test_main("segment", tests);
 *	}
 *
 * Threads: the main thread.
 */
#ifndef HFB_TEST_MAIN_H
#define HFB_TEST_MAIN_H

#include <stdint.h>

#include <CUnit/Basic.h>
#include <CUnit/CUnit.h>

#define HFB_TEST_SKIP 77 /* exit code that meson counts as a skip */

/* Runs the suite; 0 when all passed, 1 when one failed or CUnit itself did. */
int hfb_test_main(const char *name, CU_TestInfo *tests);

/* The same with a fixture around each test, for memory that a fatal assert would leak. */
int hfb_test_main_fixture(const char *name, CU_TestInfo *tests, CU_SetUpFunc set_up,
			  CU_TearDownFunc tear_down);

/*
 * A new folder below $TMPDIR or /tmp; removed with all in it when the process
 * ends, also when it is killed. Stays valid until then. Never NULL: a test
 * without it makes no sense.
 */
const char *hfb_test_folder(void);

/*
 * Path of a recorded file @name below $HFBUS_CAPTURES, or ../shared/captures seen
 * from the sources; NULL when it is not there (then skip with HFB_TEST_SKIP).
 */
const char *hfb_test_capture(const char *name);

/* Flip bit @bit of the byte at @offset of a file, as a disk does. Stops the test without one. */
void hfb_test_flip(const char *path, uint64_t offset, int bit);

/* The same numbers each run; a seed in $HFBUS_TEST_SEED changes them. */
uint64_t hfb_test_random(void);

#endif
