/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bug.h - bugs stop the process: state we do not understand must not be
 * sent or stored. hfb_assert stays in release builds (once a burst or command),
 * hfb_dassert (once an event) lives in developer and sanitizer builds.
 *
 * Threads: any.
 */
#ifndef HFB_BUG_H
#define HFB_BUG_H

_Noreturn void hfb_assert_failed(const char *file, int line, const char *what);

#define hfb_assert(x)                                                                              \
	((__builtin_expect(!(x), 0)) ? hfb_assert_failed(__FILE__, __LINE__, #x) : (void)0)

#ifdef HFB_DEVELOPER
#define hfb_dassert(x) hfb_assert(x)
#else
#define hfb_dassert(x) ((void)sizeof(!(x)))
#endif

#endif
