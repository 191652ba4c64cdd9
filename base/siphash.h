/* SPDX-License-Identifier: Apache-2.0 */
/*
 * siphash.h - SipHash-2-4: a short keyed hash that outsiders cannot steer.
 * Session cookies and stream keys are made of it.
 *
 *	cookie = hfb_siphash(&core->cookie_key, bytes, size);
 *
 * Threads: pure.
 * Cost:    about 1.5 cycles a byte and 40 to finish.
 * Source:  J.-P. Aumasson, D. J. Bernstein: "SipHash: a fast short-input PRF", 2012.
 */
#ifndef HFB_SIPHASH_H
#define HFB_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

struct hfb_siphash_key {
	uint64_t low, high; /* the 16 bytes of the paper, little-endian */
};

uint64_t hfb_siphash(const struct hfb_siphash_key *key, const void *bytes, size_t size);

#endif
