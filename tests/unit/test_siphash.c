/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SipHash-2-4.
 *
 * Goal:   ours is the one of the paper.
 * Method: the authors' vectors: key 00..0f, inputs of 0, 1, 2, ... bytes 00, 01, 02, ...;
 *	   that of 15 bytes is worked through in the paper's appendix A.
 */
#include "siphash.h"

#include "hfb_test_main.h"

static const struct hfb_siphash_key key = { 0x0706050403020100u, 0x0f0e0d0c0b0a0908u };

static void
test_vectors(void)
{
	static const uint64_t want[] = {
		0x726fdb47dd0e0e31u, 0x74f839c593dc67fdu, 0x0d6c8009d9a94f5au, 0x85676696d7fb7e2du,
		0xcf2794e0277187b7u, 0x18765564cd99a68du, 0xcbc9466e58fee3ceu, 0xab0200f58b01d137u,
		0x93f5f5799a932462u, 0x9e0082df0ba9e4b0u, 0x7a5dbbc594ddb9f3u, 0xf4b32f46226bada7u,
		0x751e8fbc860ee5fbu, 0x14ea5627c0843d90u, 0xf723ca908e7af2eeu, 0xa129ca6149be45e5u,
	};
	uint8_t bytes[16];

	for (unsigned int i = 0; i < 16; i++)
		bytes[i] = (uint8_t)i;
	for (unsigned int i = 0; i < 16; i++)
		CU_ASSERT_EQUAL(hfb_siphash(&key, bytes, i), want[i]);
}

static void
test_each_bit_matters(void)
{
	uint8_t bytes[40] = { 0 };
	uint64_t plain = hfb_siphash(&key, bytes, sizeof(bytes));
	struct hfb_siphash_key other = key;

	for (unsigned int bit = 0; bit < sizeof(bytes) * 8; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		CU_ASSERT_NOT_EQUAL(hfb_siphash(&key, bytes, sizeof(bytes)), plain);
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	other.high ^= 1;
	CU_ASSERT_NOT_EQUAL(hfb_siphash(&other, bytes, sizeof(bytes)), plain);
	CU_ASSERT_NOT_EQUAL(hfb_siphash(&key, bytes, sizeof(bytes) - 1), plain);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "the authors' vectors", test_vectors },
		{ "each bit of input, key and length matters", test_each_bit_matters },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("siphash", tests);
}
