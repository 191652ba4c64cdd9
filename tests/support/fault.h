/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault.h - make the n-th fallible call of the code under test fail.
 *
 *	for (step = 0; spent && step < 64; step++) {
 *		hfb_fault_arm(step);
 *		r = hfb_thing_create(&thing, &err);
 *		spent = hfb_fault_disarm();
 *		CU_ASSERT_EQUAL(r < 0, spent);
 *		hfb_thing_destroy(thing);
 *	}
 *	CU_ASSERT_TRUE(step > 1);	the faults did reach the code
 *	CU_ASSERT_FALSE(spent);		and one run got all the way through
 *
 * The linker leads calls of malloc, calloc, realloc, aligned_alloc, strdup, open, mmap,
 * ftruncate, fallocate, memfd_create, fcntl, mkdir, rename, symlink, fsync, fdatasync, the
 * reads and writes, eventfd, socket and pthread_create through here (libraries outside keep
 * theirs). Link dep_fault beside dep_support.
 *
 * Threads: arm and disarm in the thread under test; only its calls fail.
 */
#ifndef HFB_FAULT_H
#define HFB_FAULT_H

#include <stdbool.h>
#include <stdint.h>

/* Let @pass calls through, fail the one after them. */
void hfb_fault_arm(uint32_t pass);
/* Was the fault spent? Calls pass again. */
bool hfb_fault_disarm(void);
/* Calls seen since arm, failed one included. */
uint32_t hfb_fault_calls(void);

#endif
