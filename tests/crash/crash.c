/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash - does what was acked durable survive a power failure at any moment?
 *
 *	crash [--images N] [--seed N] [--sync auto|dsync|fdatasync]
 *	      [--journal auto|on|off] [--expect-failure] [--verbose]
 *
 * The real store, logs and writer run on a disk that remembers every write, sync
 * and name operation in order (sim_disk.h): some partitions and producers, rolls,
 * recycling by retention, the journal that they share, clean stops and kills. Noted beside:
 * what was appended when, and what was acked durable when. Then images are made of what the
 * disk may hold had the power failed at some moment, and each is recovered by the real recovery:
 *
 *   - every event acked by then is there, unchanged, at its offset, once;
 *   - nothing else is there but events appended by then, in order;
 *   - nothing is called corrupt: power failures corrupt nothing;
 *   - a producer that sends its last window again adds nothing, and goes on;
 *   - of the partition that is compacted meanwhile, the last event of each key.
 *
 * Some images are worked on and crashed again, so that leftovers of one crash
 * meet the recovery of the next.
 *
 *	world.h		the store at work		truth.h		what was appended, and acked
 *	image.h		power failures			check.h		is it there, and nothing
 *else?
 *
 * Prints one JSON object. Exit 0: no failure, 1: failures, 2: usage. With
 * --expect-failure (builds with a planted bug) 0 and 1 are exchanged.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image.h"
#include "sim_disk.h"
#include "tally.h"
#include "world.h"

#define IMAGES_A_WORLD 50u

struct options {
	uint64_t images, seed;
	int sync;    /* enum hfb_sync_mode; auto: both in turn */
	int journal; /* auto: both in turn */
	bool expect_failure;
};

enum { JOURNAL_AUTO, JOURNAL_ON, JOURNAL_OFF };

static const char *const syncs[] = {
	[HFB_SYNC_AUTO] = "auto",
	[HFB_SYNC_DSYNC] = "dsync",
	[HFB_SYNC_FDATASYNC] = "fdatasync",
	NULL,
};
static const char *const journals[] = {
	[JOURNAL_AUTO] = "auto",
	[JOURNAL_ON] = "on",
	[JOURNAL_OFF] = "off",
	NULL,
};

static int
usage(FILE *to, int code)
{
	fprintf(to,
		"usage: crash [--images N] [--seed N] [--sync auto|dsync|fdatasync]\n"
		"             [--journal auto|on|off] [--expect-failure] [--verbose]\n"
		"Recovers images of what a power failure may leave. One JSON object on stdout.\n"
		"Exit: 0 no failure, 1 failures (exchanged by --expect-failure), 2 usage.\n");
	return code;
}

/* Which of @names; false: none of them. */
static bool
named(const char *const *names, const char *name, int *ret_at)
{
	for (int i = 0; names[i] != NULL; i++) {
		if (strcmp(names[i], name) == 0) {
			*ret_at = i;
			return true;
		}
	}
	return false;
}

/* -1: go on; else the exit code. */
static int
options_parse(int argc, char **argv, struct options *o)
{
	static const struct option options[] = {
		{ "images", required_argument, NULL, 'i' },
		{ "seed", required_argument, NULL, 's' },
		{ "sync", required_argument, NULL, 'y' },
		{ "journal", required_argument, NULL, 'j' },
		{ "expect-failure", no_argument, NULL, 'e' },
		{ "verbose", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	bool good = true;
	int c;

	while (good && (c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (c) {
		case 'i':
			o->images = strtoull(optarg, NULL, 0);
			break;
		case 's':
			o->seed = strtoull(optarg, NULL, 0);
			break;
		case 'y':
			good = named(syncs, optarg, &o->sync);
			break;
		case 'j':
			good = named(journals, optarg, &o->journal);
			break;
		case 'e':
			o->expect_failure = true;
			break;
		case 'v':
			verbose = true;
			break;
		case 'h':
			return usage(stdout, 0);
		default:
			good = false;
		}
	}
	return good && optind == argc && o->images > 0 ? -1 : usage(stderr, 2);
}

/* The way the next world is worked in. */
static struct way
way_next(const struct options *o)
{
	struct way next = {
		.sync = (enum hfb_sync_mode)o->sync,
		.journal = o->journal == JOURNAL_AUTO ? total.worlds / 2 % 2 == 0
						      : o->journal == JOURNAL_ON,
		.leisurely = total.worlds / 4 % 2 == 1,
	};

	/* at leisure with AUTO: from plain writes to synced ones, and back */
	if (o->sync == HFB_SYNC_AUTO && total.worlds % 2 != 0)
		next.sync = HFB_SYNC_FDATASYNC;
	else if (o->sync == HFB_SYNC_AUTO && !next.leisurely)
		next.sync = HFB_SYNC_DSYNC;
	return next;
}

int
main(int argc, char **argv)
{
	struct options o = { .images = 500, .sync = HFB_SYNC_AUTO, .journal = JOURNAL_AUTO };
	int code = options_parse(argc, argv, &o);
	uint64_t random;

	if (code >= 0)
		return code;
	if (o.seed == 0)
		o.seed = now_ns();
	fprintf(stderr, "crash: seed %" PRIu64 "\n", o.seed);
	random = o.seed | 1;
	while (total.images < o.images && !(o.expect_failure && total.failures > 0)) {
		uint64_t left = o.images - total.images;

		way = way_next(&o);
		images_of_world(sim_random(&random), left < IMAGES_A_WORLD ? left : IMAGES_A_WORLD);
		if (total.images == 0 && total.failures > 0)
			break;
	}
	tally_print(o.seed);
	return (total.failures > 0) == o.expect_failure ? 0 : 1;
}
