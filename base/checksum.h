/* SPDX-License-Identifier: Apache-2.0 */
/*
 * checksum.h - the Internet checksum (RFC 1071) of bytes in memory order: sums are taken in
 * wide words and folded late.
 *
 *	sum = hfb_sum_bytes(0, at, bytes);
 *	good = hfb_sum_fold(sum) == 0xffff;	the checksum was among the bytes
 *
 * Sums may be added to each other where their bytes stand at even distances.
 *
 * Threads: pure functions.
 * Memory:  none.
 * Cost:    a quarter of a ns an 8-byte word; with vectors of 256 bits, from 64 bytes on, less.
 */
#ifndef HFB_CHECKSUM_H
#define HFB_CHECKSUM_H

#include <stdint.h>
#include <string.h>

/* The halves of a word, added. */
static inline uint64_t
hfb_sum_word(uint64_t word)
{
	return (word & 0xffffffffu) + (word >> 32);
}

static inline uint64_t
hfb_sum_load(const uint8_t *at)
{
	uint64_t word;

	memcpy(&word, at, sizeof(word));
	return hfb_sum_word(word);
}

/* checksum.c: any number of bytes, at any place. */
uint64_t hfb_sum_bytes(uint64_t sum, const uint8_t *at, uint32_t bytes);

static inline uint16_t
hfb_sum_fold(uint64_t sum)
{
	sum = (sum & 0xffffffffu) + (sum >> 32);
	sum = (sum & 0xffffffffu) + (sum >> 32);
	sum = (sum & 0xffffu) + (sum >> 16);
	sum = (sum & 0xffffu) + (sum >> 16);
	return (uint16_t)sum;
}

/* An IPv4 header's without options, as most are. */
static inline uint16_t
hfb_sum_ipv4(const uint8_t *ip)
{
	uint32_t last;

	memcpy(&last, ip + 16, sizeof(last));
	return hfb_sum_fold(hfb_sum_load(ip) + hfb_sum_load(ip + 8) + last);
}

#endif
