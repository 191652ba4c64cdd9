/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probe.h - static tracepoints (USDT) for bpftrace and perf, of provider "hfbus".
 *
 *	HFB_PROBE3(rx_burst, core->id, queue->port, n);
 *
 * What there is, and lines to use it, is in docs/PERFORMANCE.md. Per burst, write or frame,
 * never per event. Arguments are integers and pointers; they are computed whether
 * somebody looks or not, so hand on only what is at hand.
 *
 * Threads: any.
 * Cost:    a nop, and keeping the arguments where the note says. Off (-Dusdt=disabled, or no
 *	    sys/sdt.h): nothing, but arguments must still compile.
 */
#ifndef HFB_PROBE_H
#define HFB_PROBE_H

#ifdef HFB_USDT
#include <sys/sdt.h>

#define HFB_PROBE2(name, a, b)	     DTRACE_PROBE2(hfbus, name, a, b)
#define HFB_PROBE3(name, a, b, c)    DTRACE_PROBE3(hfbus, name, a, b, c)
#define HFB_PROBE4(name, a, b, c, d) DTRACE_PROBE4(hfbus, name, a, b, c, d)
#else
#define HFB_PROBE2(name, a, b)	     ((void)sizeof(a), (void)sizeof(b))
#define HFB_PROBE3(name, a, b, c)    (HFB_PROBE2(name, a, b), (void)sizeof(c))
#define HFB_PROBE4(name, a, b, c, d) (HFB_PROBE3(name, a, b, c), (void)sizeof(d))
#endif

#endif
