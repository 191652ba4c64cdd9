/* SPDX-License-Identifier: Apache-2.0 */
/*
 * units.h - quantities as people write them in options and config files.
 *
 *	hfb_bytes_parse("64MiB", &bytes)	k M G T and KiB MiB GiB TiB
 *	hfb_duration_parse("7d", &ns)		ns us ms s m h d w
 *
 * Threads: pure.
 */
#ifndef HFB_UNITS_H
#define HFB_UNITS_H

#include <stdint.h>

/*
 * Digits and a unit, nothing around them. k, M, G, T mean 1024 steps like KiB and
 * its kin, as one expects of memory and files; no unit means bytes.
 * 0, or -EINVAL (not such a text, or it does not fit 64 bits) and *@ret is untouched.
 */
int hfb_bytes_parse(const char *text, uint64_t *ret_bytes);

/* Digits and a unit, the unit is a must unless the number is 0. Results as above. */
int hfb_duration_parse(const char *text, uint64_t *ret_ns);

/* Decimal digits only. Results as above. */
int hfb_number_parse(const char *text, uint64_t *ret);

/* 0..15 of either case, or -1. */
int hfb_hex_digit(char c);

#endif
