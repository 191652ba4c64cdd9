/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SSE4.2 path runs three crcs side by side, since the instruction has a
 * latency of three cycles and a throughput of one, and joins them by shifting
 * the first two over the bytes that follow (multiplication by x^8n modulo the
 * polynomial, as four table look-ups).
 *
 * Inside this file a crc is the raw register; the public functions invert.
 */
#include "crc32c.h"

#include <errno.h>
#include <string.h>

#define POLYNOMIAL 0x82f63b78u /* Castagnoli, bits reflected */

/* Bytes of one of the three runs. */
#define RUN_LONG  2048u
#define RUN_SHORT 128u

static uint32_t slice_table[8][256]; /* crc of a byte followed by k zero bytes */
static uint32_t shift_long[4][256];  /* byte k of a crc, moved over RUN_LONG bytes */
static uint32_t shift_short[4][256];

/*
 * A value loaded once. Without this the compiler may load twice, for the crc
 * and for the copy, and a hostile producer could change the bytes in between;
 * it may also join narrow loads to a wide one, which stalls on fields just stored.
 */
#define pin(x) __asm__("" : "+r"(x))

static inline uint64_t
load64(const uint8_t *from)
{
	uint64_t word;

	memcpy(&word, from, sizeof(word));
	pin(word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	word = __builtin_bswap64(word);
#endif
	return word;
}

static inline void
store64(uint8_t *to, uint64_t word)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	word = __builtin_bswap64(word);
#endif
	memcpy(to, &word, sizeof(word));
}

static uint32_t
portable_word(uint32_t crc, uint64_t word)
{
	word ^= crc;
	return slice_table[7][word & 255] ^ slice_table[6][word >> 8 & 255] ^
	       slice_table[5][word >> 16 & 255] ^ slice_table[4][word >> 24 & 255] ^
	       slice_table[3][word >> 32 & 255] ^ slice_table[2][word >> 40 & 255] ^
	       slice_table[1][word >> 48 & 255] ^ slice_table[0][word >> 56];
}

static inline __attribute__((always_inline)) uint32_t
portable_run(uint32_t crc, uint8_t *to, const uint8_t *from, size_t size, const int copies)
{
	for (; size >= 8; size -= 8, from += 8) {
		uint64_t word = load64(from);

		if (copies) {
			store64(to, word);
			to += 8;
		}
		crc = portable_word(crc, word);
	}
	for (; size > 0; size--, from++) {
		uint32_t byte = *from;

		pin(byte);
		if (copies)
			*to++ = (uint8_t)byte;
		crc = crc >> 8 ^ slice_table[0][(crc ^ byte) & 255];
	}
	return crc;
}

static uint32_t
portable_crc(uint32_t crc, const uint8_t *from, size_t size)
{
	return portable_run(crc, NULL, from, size, 0);
}

static uint32_t
portable_copy(uint32_t crc, uint8_t *to, const uint8_t *from, size_t size)
{
	return portable_run(crc, to, from, size, 1);
}

static uint32_t
portable_batch(uint32_t crc, const uint64_t words[8], uint32_t size)
{
	uint8_t bytes[4] = { (uint8_t)size, (uint8_t)(size >> 8), (uint8_t)(size >> 16),
			     (uint8_t)(size >> 24) };

	crc = portable_word(crc, words[0]);
	crc = portable_crc(crc, bytes, sizeof(bytes));
	for (unsigned int i = 1; i < 8; i++)
		crc = portable_word(crc, words[i]);
	return crc;
}

#if defined(__x86_64__)
#define SSE42 __attribute__((target("sse4.2,crc32")))

static inline uint32_t
shift(uint32_t table[4][256], uint32_t crc)
{
	return table[0][crc & 255] ^ table[1][crc >> 8 & 255] ^ table[2][crc >> 16 & 255] ^
	       table[3][crc >> 24];
}

static inline __attribute__((always_inline)) SSE42 uint32_t
sse42_three(uint32_t crc, uint8_t *to, const uint8_t *from, const size_t run,
	    uint32_t table[4][256], const int copies)
{
	uint64_t a = crc, b = 0, c = 0;

	for (size_t i = 0; i < run; i += 8) {
		uint64_t word_a = load64(from + i);
		uint64_t word_b = load64(from + i + run);
		uint64_t word_c = load64(from + i + 2 * run);

		if (copies) {
			store64(to + i, word_a);
			store64(to + i + run, word_b);
			store64(to + i + 2 * run, word_c);
		}
		a = __builtin_ia32_crc32di(a, word_a);
		b = __builtin_ia32_crc32di(b, word_b);
		c = __builtin_ia32_crc32di(c, word_c);
	}
	a = shift(table, (uint32_t)a) ^ b;
	return shift(table, (uint32_t)a) ^ (uint32_t)c;
}

static inline __attribute__((always_inline)) SSE42 uint32_t
sse42_run(uint32_t crc, uint8_t *to, const uint8_t *from, size_t size, const int copies)
{
	uint64_t wide;

	for (; size >= 3 * RUN_LONG; size -= 3 * RUN_LONG, from += 3 * RUN_LONG) {
		crc = sse42_three(crc, to, from, RUN_LONG, shift_long, copies);
		if (copies)
			to += 3 * RUN_LONG;
	}
	for (; size >= 3 * RUN_SHORT; size -= 3 * RUN_SHORT, from += 3 * RUN_SHORT) {
		crc = sse42_three(crc, to, from, RUN_SHORT, shift_short, copies);
		if (copies)
			to += 3 * RUN_SHORT;
	}
	wide = crc;
	for (; size >= 8; size -= 8, from += 8) {
		uint64_t word = load64(from);

		if (copies) {
			store64(to, word);
			to += 8;
		}
		wide = __builtin_ia32_crc32di(wide, word);
	}
	crc = (uint32_t)wide;
	for (; size > 0; size--, from++) {
		uint8_t byte = *from;

		__asm__("" : "+q"(byte));
		if (copies)
			*to++ = byte;
		crc = __builtin_ia32_crc32qi(crc, byte);
	}
	return crc;
}

static SSE42 uint32_t
sse42_crc(uint32_t crc, const uint8_t *from, size_t size)
{
	return sse42_run(crc, NULL, from, size, 0);
}

static SSE42 uint32_t
sse42_copy(uint32_t crc, uint8_t *to, const uint8_t *from, size_t size)
{
	return sse42_run(crc, to, from, size, 1);
}

static SSE42 uint32_t
sse42_batch(uint32_t crc, const uint64_t words[8], uint32_t size)
{
	uint64_t wide = __builtin_ia32_crc32di(crc, words[0]);

	wide = __builtin_ia32_crc32si((uint32_t)wide, size);
	for (unsigned int i = 1; i < 8; i++)
		wide = __builtin_ia32_crc32di(wide, words[i]);
	return (uint32_t)wide;
}
#endif

static uint32_t (*crc_path)(uint32_t, const uint8_t *, size_t) = portable_crc;
static uint32_t (*copy_path)(uint32_t, uint8_t *, const uint8_t *, size_t) = portable_copy;
#if defined(__x86_64__)
static int has_sse42;
#endif

/*
 * Move every byte of a crc over @bytes zero bytes. Only the 32 single-bit crcs
 * are walked over them, the rest are sums of those: start-up work below 0.2 ms.
 */
static void
shift_table_build(uint32_t table[4][256], size_t bytes)
{
	for (unsigned int k = 0; k < 4; k++) {
		for (uint32_t bit = 1; bit < 256; bit <<= 1) {
			uint32_t crc = bit << 8 * k;

			for (size_t i = 0; i < bytes; i++)
				crc = crc >> 8 ^ slice_table[0][crc & 255];
			for (uint32_t v = 0; v < bit; v++)
				table[k][bit + v] = crc ^ table[k][v];
		}
	}
}

static __attribute__((constructor)) void
crc32c_choose(void)
{
	for (uint32_t v = 0; v < 256; v++) {
		uint32_t crc = v;

		for (unsigned int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
		slice_table[0][v] = crc;
	}
	for (unsigned int k = 1; k < 8; k++) {
		for (uint32_t v = 0; v < 256; v++) {
			uint32_t crc = slice_table[k - 1][v];

			slice_table[k][v] = crc >> 8 ^ slice_table[0][crc & 255];
		}
	}
#if defined(__x86_64__)
	__builtin_cpu_init();
	if (__builtin_cpu_supports("sse4.2")) {
		shift_table_build(shift_long, RUN_LONG);
		shift_table_build(shift_short, RUN_SHORT);
		crc_path = sse42_crc;
		copy_path = sse42_copy;
		has_sse42 = 1;
	}
#endif
}

uint32_t
hfb_crc32c(uint32_t crc, const void *bytes, size_t size)
{
	return ~crc_path(~crc, bytes, size);
}

uint32_t
hfb_crc32c_copy(uint32_t crc, void *to, const void *from, size_t size)
{
	return ~copy_path(~crc, to, from, size);
}

uint32_t
hfb_crc32c_portable(uint32_t crc, const void *bytes, size_t size)
{
	return ~portable_crc(~crc, bytes, size);
}

uint32_t
hfb_batch_seed(const struct hfb_uuid *topic, uint32_t partition)
{
	uint8_t index[4] = { (uint8_t)partition, (uint8_t)(partition >> 8),
			     (uint8_t)(partition >> 16), (uint8_t)(partition >> 24) };

	return hfb_crc32c(hfb_crc32c(0, topic->bytes, sizeof(topic->bytes)), index, sizeof(index));
}

uint32_t
hfb_batch_crc(uint32_t seed, uint64_t position, const struct hfb_batch *batch)
{
	uint64_t count = batch->count, version = batch->version, encoding = batch->encoding;
	uint64_t flags = batch->flags, leader_epoch = batch->leader_epoch;
	uint64_t durable_lag = batch->durable_lag, payload_crc = batch->payload_crc;
	uint64_t producer_epoch = batch->producer_epoch, reserved = batch->reserved;
	uint64_t words[8];

	pin(count);
	pin(version);
	pin(encoding);
	pin(flags);
	pin(leader_epoch);
	pin(durable_lag);
	pin(payload_crc);
	pin(producer_epoch);
	pin(reserved);
	words[0] = position;
	words[1] = batch->base_offset;
	words[2] = count | version << 32 | encoding << 40 | flags << 48;
	words[3] = leader_epoch | durable_lag << 32;
	words[4] = batch->producer_id;
	words[5] = batch->base_sequence;
	words[6] = batch->timestamp_ns;
	words[7] = payload_crc | producer_epoch << 32 | reserved << 48;
#if defined(__x86_64__)
	if (__builtin_expect(has_sse42, 1))
		return ~sse42_batch(~seed, words, batch->size);
#endif
	return ~portable_batch(~seed, words, batch->size);
}

int
hfb_batch_header_check(uint32_t seed, uint64_t position, const void *bytes, size_t available,
		       struct hfb_batch *ret_batch)
{
	struct hfb_batch batch;

	_Static_assert(sizeof(batch) == HFB_BATCH_HEADER_BYTES, "the header is 64 bytes");
	if (available < sizeof(batch))
		return -EAGAIN;
	memcpy(&batch, bytes, sizeof(batch));
	/* What is used below is what was checked, even if @bytes changes meanwhile. */
	__asm__ volatile("" : "+m"(batch));
	if (batch.size < HFB_BATCH_HEADER_BYTES || batch.size > HFB_BATCH_BYTES_MAX)
		return -EBADMSG;
	if (batch.size % HFB_BATCH_ALIGN != 0)
		return -EBADMSG;
	if (hfb_batch_crc(seed, position, &batch) != batch.header_crc)
		return -EBADMSG;
	if (batch.version != HFB_BATCH_VERSION)
		return -EBADMSG;
	if ((batch.flags & ~HFB_BATCH_FLAGS_KNOWN) != 0)
		return -EBADMSG;
	*ret_batch = batch;
	return 0;
}

/* Headers are {u16 name_size, u16 value_size, name, value}... and fill @size exactly. */
static int
record_headers_check(const uint8_t *at, uint32_t size)
{
	while (size > 0) {
		uint16_t sizes[2];
		uint32_t need;

		if (size < sizeof(sizes))
			return -EBADMSG;
		memcpy(sizes, at, sizeof(sizes));
		need = (uint32_t)sizeof(sizes) + sizes[0] + sizes[1];
		if (need > size)
			return -EBADMSG;
		at += need;
		size -= need;
	}
	return 0;
}

int
hfb_records_check(const void *records, size_t size, uint32_t count)
{
	const uint8_t *at = records;

	for (uint32_t i = 0; i < count; i++) {
		struct hfb_record record;
		uint64_t need;

		if (size < HFB_RECORD_HEADER_BYTES)
			return -EBADMSG;
		memcpy(&record, at, sizeof(record));
		need = hfb_record_bytes(record.value_size, record.key_size, record.headers_size);
		if (need > size)
			return -EBADMSG;
		if (record.headers_size != 0) {
			uint32_t key = record.key_size == HFB_KEY_NULL ? 0 : record.key_size;

			if (record_headers_check(at + HFB_RECORD_HEADER_BYTES + key,
						 record.headers_size) < 0)
				return -EBADMSG;
		}
		at += need;
		size -= need;
	}
	return size == 0 ? 0 : -EBADMSG;
}
