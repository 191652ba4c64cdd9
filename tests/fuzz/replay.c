/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a fuzz target over its seeds and over mutations of them, always the same
 * ones, so that plain and sanitizer builds exercise it without libFuzzer.
 *
 *	fuzz_batch FOLDER|FILE...
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define INPUT_BYTES_MAX (1u << 16)
#define MUTATIONS	2000u /* of each seed */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t state = 1;

static uint64_t
random_next(void)
{
	/* xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators") */
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return state * 0x2545f4914f6cdd1dull;
}

/* On the heap and exactly as long as said, so that a sanitizer sees each step beyond. */
static void
run(const uint8_t *bytes, size_t size)
{
	uint8_t *copy = malloc(size > 0 ? size : 1);

	if (copy == NULL)
		abort();
	memcpy(copy, bytes, size);
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
}

static size_t
mutate(uint8_t *bytes, size_t size)
{
	static const uint8_t odd[] = { 0, 1, 0x7f, 0x80, 0xfe, 0xff };

	for (uint64_t n = random_next() % 4 + 1; n > 0 && size > 0; n--) {
		size_t at = random_next() % size;

		switch (random_next() % 6) {
		case 0:
			bytes[at] ^= (uint8_t)(1u << random_next() % 8);
			break;
		case 1:
			bytes[at] = (uint8_t)random_next();
			break;
		case 2:
			bytes[at] = odd[random_next() % sizeof(odd)];
			break;
		case 3: /* a field of all ones or zeros */
			memset(bytes + at, random_next() % 2 ? 0xff : 0,
			       size - at < 4 ? size - at : 4);
			break;
		case 4:
			size = at;
			break;
		default: /* a piece of it elsewhere */
			memmove(bytes + at, bytes + random_next() % (at + 1),
				random_next() % (size - at));
			break;
		}
	}
	return size;
}

static int
file_run(const char *path)
{
	static uint8_t seed[INPUT_BYTES_MAX], bytes[INPUT_BYTES_MAX];
	FILE *file = fopen(path, "rb");
	size_t size;

	if (file == NULL) {
		perror(path);
		return -1;
	}
	size = fread(seed, 1, sizeof(seed), file);
	fclose(file);
	run(seed, size);
	for (unsigned int i = 0; i < MUTATIONS; i++) {
		memcpy(bytes, seed, size);
		run(bytes, mutate(bytes, size));
	}
	/* and cut at each byte */
	for (size_t cut = 0; cut < size && cut < 4096; cut++)
		run(seed, cut);
	return 0;
}

int
main(int argc, char **argv)
{
	unsigned int files = 0;

	for (int i = 1; i < argc; i++) {
		struct stat st;
		struct dirent **entries;
		int n;

		if (stat(argv[i], &st) < 0) {
			perror(argv[i]);
			return 1;
		}
		if (!S_ISDIR(st.st_mode)) {
			if (file_run(argv[i]) < 0)
				return 1;
			files++;
			continue;
		}
		n = scandir(argv[i], &entries, NULL, alphasort);
		for (int k = 0; k < n; k++) {
			char path[4096];

			snprintf(path, sizeof(path), "%s/%s", argv[i], entries[k]->d_name);
			if (entries[k]->d_name[0] != '.') {
				if (file_run(path) < 0)
					return 1;
				files++;
			}
			free(entries[k]);
		}
		if (n >= 0)
			free(entries);
	}
	if (files == 0) {
		fprintf(stderr, "no seeds given\n");
		return 1;
	}
	printf("%u seeds, %u mutations of each\n", files, MUTATIONS);
	return 0;
}
