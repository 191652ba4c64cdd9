/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault_env.h - the real environment, but for calls that are to fail.
 *
 *	struct hfb_env *env = fault_env_reset();
 *	fault_env.fail_at = 7;			the 8th fallible call from now on, once
 *	fault_env.write_error = -EIO;		asynchronous writes complete with this
 *
 * Threads: the fields are read by whoever calls storage; set them while it rests.
 */
#ifndef HFB_FAULT_ENV_H
#define HFB_FAULT_ENV_H

#include <stdbool.h>
#include <stdint.h>

#include "env.h"

struct fault_env {
	struct hfb_env env;
	/* synchronous calls */
	uint64_t calls;	 /* fallible ones so far */
	int64_t fail_at; /* counts down, fails at 0; -1 = never */
	int fail_code;
	bool fired;
	const char *full_for; /* opening a path with this in it finds the disk full; NULL = none */
	bool no_space;	      /* allocate and growing fail with -ENOSPC */
	int open_files;	      /* opened and not closed */
	/* what happens meanwhile, whenever a file's blocks are allocated; NULL = nothing */
	void (*on_allocate)(void *arg);
	void *arg;
	/* asynchronous completions, from now on */
	int write_error, flush_error, read_error; /* 0 = as it came */
	int submit_error;			  /* the queue takes nothing */
	uint32_t short_write_bytes;		  /* the next write ends after so many; then 0 */
	uint32_t plain_writes, dsync_writes, flushes;
	bool hold;			      /* completions are not handed out */
	bool hold_flushes;		      /* those of flushes alone */
	bool flush_held;		      /* one has come and is held back */
	uint32_t reap_max;		      /* at most so many a call; 0 = as they come */
	uint32_t refuse_writes, refuse_reads; /* the next so many find the queue full */
};
extern struct fault_env fault_env;

/* As after a start. */
struct hfb_env *fault_env_reset(void);

#endif
