/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arena's rules.
 *
 * Goal:   what is carved is aligned, zero and apart; after the seal carving stops the process.
 * Method: carve until nothing is left; break each rule in a child and look how it ends;
 *	   fail each call of create.
 */
#include "arena.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault.h"
#include "hfb_test_main.h"

static void
test_carve(void)
{
	struct hfb_arena *arena = NULL;
	struct hfb_err err = { 0 };
	uint8_t *last = NULL;
	size_t last_bytes = 0, carved = 0;

	CU_ASSERT_EQUAL_FATAL(hfb_arena_create(100000, &arena, &err), 0);
	CU_ASSERT_TRUE(hfb_arena_size_bytes(arena) >= 100000);
	CU_ASSERT_EQUAL(hfb_arena_used_bytes(arena), 0);
	for (unsigned int i = 0;; i++) {
		size_t align = (size_t)1 << i % 10, bytes = i * 37 % 500;
		uint8_t *p = hfb_arena_carve(arena, bytes, align);

		if (p == NULL)
			break;
		carved += bytes;
		CU_ASSERT_EQUAL((uintptr_t)p % align, 0);
		CU_ASSERT_TRUE(last == NULL || p >= last + last_bytes);
		for (size_t k = 0; k < bytes; k++)
			CU_ASSERT_EQUAL(p[k], 0);
		memset(p, 0xee, bytes);
		last = p;
		last_bytes = bytes;
	}
	CU_ASSERT_TRUE(carved > 50000);
	CU_ASSERT_TRUE(hfb_arena_used_bytes(arena) >= carved);
	CU_ASSERT_PTR_NULL(hfb_arena_carve(arena, SIZE_MAX, 1));
	CU_ASSERT_PTR_NULL(hfb_arena_carve(arena, SIZE_MAX - 4095, 4096));
	hfb_arena_seal(arena);
	CU_ASSERT_EQUAL(hfb_arena_phase(arena), HFB_ARENA_SEALED);
	CU_ASSERT_EQUAL(*last, 0xee);
	hfb_arena_close(arena);
	CU_ASSERT_EQUAL(hfb_arena_phase(arena), HFB_ARENA_CLOSING);
	hfb_arena_destroy(arena);
	hfb_arena_destroy(NULL);
}

/* The signal that ends a child in which @breaks runs on a fresh arena; 0 when none did. */
static int
child_signal(void (*breaks)(struct hfb_arena *arena))
{
	pid_t child = fork();
	int status = 0;

	if (child == 0) {
		struct rlimit no_core = { 0, 0 };
		struct hfb_arena *arena;

		setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGABRT, SIG_DFL);
		if (freopen("/dev/null", "w", stderr) == NULL ||
		    hfb_arena_create(4096, &arena, NULL) < 0)
			_exit(2);
		breaks(arena);
		_exit(0);
	}
	waitpid(child, &status, 0);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void
carve_sealed(struct hfb_arena *arena)
{
	hfb_arena_seal(arena);
	hfb_arena_carve(arena, 8, 8);
}

static void
carve_closing(struct hfb_arena *arena)
{
	hfb_arena_close(arena);
	hfb_arena_carve(arena, 8, 8);
}

static void
seal_twice(struct hfb_arena *arena)
{
	hfb_arena_seal(arena);
	hfb_arena_seal(arena);
}

static void
destroy_sealed(struct hfb_arena *arena)
{
	hfb_arena_seal(arena);
	hfb_arena_destroy(arena);
}

static void
carve_oddly(struct hfb_arena *arena)
{
	hfb_arena_carve(arena, 8, 24);
}

static void
keep_the_rules(struct hfb_arena *arena)
{
	hfb_arena_carve(arena, 8, 8);
	hfb_arena_close(arena);
	hfb_arena_destroy(arena);
}

static void
test_rules(void)
{
	CU_ASSERT_EQUAL(child_signal(keep_the_rules), 0);
	CU_ASSERT_EQUAL(child_signal(carve_sealed), SIGABRT);
	CU_ASSERT_EQUAL(child_signal(carve_closing), SIGABRT);
	CU_ASSERT_EQUAL(child_signal(seal_twice), SIGABRT);
	CU_ASSERT_EQUAL(child_signal(destroy_sealed), SIGABRT);
	CU_ASSERT_EQUAL(child_signal(carve_oddly), SIGABRT);
}

static void
test_refusals(void)
{
	struct hfb_arena *arena = NULL;
	struct hfb_err err = { 0 };

	CU_ASSERT_EQUAL(hfb_arena_create(0, &arena, &err), -EINVAL);
	CU_ASSERT_EQUAL(hfb_arena_create(SIZE_MAX, &arena, &err), -ENOMEM);
	CU_ASSERT_EQUAL(err.code, -ENOMEM);
	hfb_fault_arm(0);
	CU_ASSERT_EQUAL(hfb_arena_create(4096, &arena, &err), -ENOMEM);
	CU_ASSERT_TRUE(hfb_fault_disarm());
	CU_ASSERT_PTR_NULL(arena);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "pieces are aligned, zero and apart", test_carve },
		{ "a broken rule stops the process", test_rules },
		{ "what does not fit is refused", test_refusals },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("arena", tests);
}
