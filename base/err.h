/* SPDX-License-Identifier: Apache-2.0 */
/*
 * err.h - one sentence for a refusal by the world; it names the knob to turn.
 *
 *	return hfb_err_set(err, -ENOSPC, "all %u cores are taken, see --cores", n);
 *
 * Threads: the caller's struct; no shared state.
 */
#ifndef HFB_ERR_H
#define HFB_ERR_H

#include <hfbus/err.h>

/* Returns @code. @err may be NULL. */
int hfb_err_set(struct hfb_err *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
#ifdef __clang_analyzer__
/* The analyzer does not look into err.c; this tells it what comes back. */
#define hfb_err_set(err, code, ...) ((void)(hfb_err_set)(err, code, __VA_ARGS__), (code))
#endif
/* Put "@format: " before what is there. Returns @err's code. */
int hfb_err_prefix(struct hfb_err *err, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
