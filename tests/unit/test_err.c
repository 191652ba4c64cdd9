/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors as one sentence.
 *
 * Goal:   code and text arrive; long, hostile or nested text stays one line in its room.
 * Method: each case by hand.
 */
#include "err.h"

#include <errno.h>
#include <string.h>

#include "hfb_test_main.h"

static void
test_set_and_prefix(void)
{
	struct hfb_err err = { 0 };

	CU_ASSERT_EQUAL(hfb_err_set(&err, -ENOSPC, "all %u cores are taken, see --cores", 4u),
			-ENOSPC);
	CU_ASSERT_EQUAL(err.code, -ENOSPC);
	CU_ASSERT_STRING_EQUAL(err.text, "all 4 cores are taken, see --cores");
	CU_ASSERT_EQUAL(hfb_err_prefix(&err, "core %d", 7), -ENOSPC);
	CU_ASSERT_STRING_EQUAL(err.text, "core 7: all 4 cores are taken, see --cores");
	CU_ASSERT_EQUAL(hfb_err_set(&err, -EIO, "again (%s)", err.text), -EIO);
	CU_ASSERT_STRING_EQUAL(err.text, "again (core 7: all 4 cores are taken, see --cores)");
	CU_ASSERT_EQUAL(hfb_err_set(NULL, -EIO, "nobody listens"), -EIO);
	CU_ASSERT_EQUAL(hfb_err_prefix(NULL, "nobody"), 0);
}

static void
test_text_stays_in_its_room(void)
{
	struct hfb_err err = { 0 };
	char large[2000];

	memset(large, 'x', sizeof(large));
	large[sizeof(large) - 1] = '\0';
	hfb_err_set(&err, -EINVAL, "%s", large);
	CU_ASSERT_EQUAL(strlen(err.text), HFB_ERR_TEXT_MAX - 1);
	hfb_err_prefix(&err, "file %s", "a");
	CU_ASSERT_EQUAL(strlen(err.text), HFB_ERR_TEXT_MAX - 1);
	CU_ASSERT_EQUAL(strncmp(err.text, "file a: xxx", 11), 0);
	hfb_err_prefix(&err, "%s", large);
	CU_ASSERT_TRUE(strlen(err.text) < HFB_ERR_TEXT_MAX);
	hfb_err_set(&err, -EINVAL, "topic %s", "a\nb\033[2Jc");
	CU_ASSERT_STRING_EQUAL(err.text, "topic a b [2Jc");
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "set, prefix, nest", test_set_and_prefix },
		{ "text is cut and stays on one line", test_text_stays_in_its_room },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("err", tests);
}
