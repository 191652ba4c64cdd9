/* SPDX-License-Identifier: Apache-2.0 */
#include "image.h"

#include <inttypes.h>
#include <stdio.h>

#include "tally.h"
#include "world.h"

/* The world after a power failure behind operation @at of @from. */
static struct world
world_crashed(struct world *from, const struct truth *base, uint64_t at, uint64_t seed)
{
	struct world w = world_of(sim_disk_crash(from->disk, at, seed), seed);

	for (uint32_t p = 0; base != NULL && p < PARTITIONS; p++)
		w.truths[p] = truth_copy(&base[p]);
	for (uint64_t i = 0; i < from->notes_count && from->notes[i].at <= at; i++)
		truth_apply(&w.truths[from->notes[i].partition], &from->notes[i]);
	return w;
}

/* Anywhere, or right behind an ack, where losing something is a lie. */
static uint64_t
moment(struct world *w)
{
	uint64_t n = sim_random(&w->random) % (w->notes_count + 1);

	if (sim_random(&w->random) % 2 == 0)
		for (; n < w->notes_count; n++)
			if (w->notes[n].kind == NOTE_ACK)
				return w->notes[n].at;
	return sim_random(&w->random) % (sim_disk_now(w->disk) + 1);
}

static void
image(struct world *from, const struct truth *base, uint32_t depth)
{
	uint64_t at = moment(from), seed = sim_random(&from->random), before = total.failures;
	struct world w = world_crashed(from, base, at, seed);
	struct truth copy[PARTITIONS];
	bool open;

	total.images++;
	/* what the next crash starts from */
	for (uint32_t p = 0; p < PARTITIONS; p++)
		copy[p] = truth_copy(&w.truths[p]);
	open = world_open(&w);
	if (open && depth < 2 && sim_random(&w.random) % 4 == 0) {
		total.again++;
		world_work(&w, 200 + sim_random(&w.random) % 60000);
		world_close(&w, sim_random(&w.random) % 4 == 0);
		for (int i = 0; i < 3; i++)
			image(&w, copy, depth + 1);
	} else {
		world_close(&w, false);
	}
	if (total.failures != before && verbose) {
		tally_explain(from->disk);
		fprintf(stderr,
			"  in the image of operation %" PRIu64 ", seed %" PRIu64 ", depth %u\n", at,
			seed, depth);
	}
	for (uint32_t p = 0; p < PARTITIONS; p++)
		truth_fini(&copy[p]);
	world_free(&w);
}

void
images_of_world(uint64_t seed, uint64_t images)
{
	struct world w = world_of(sim_disk_create(seed), seed);
	struct sim_disk_counts counts;
	int runs = 2 + (int)(seed % 3);

	total.worlds++;
	for (int run = 0; run < runs && !w.failed; run++) {
		if (!world_open(&w)) {
			w.failed = true;
			world_close(&w, false);
			break;
		}
		world_work(&w, run == 0
				       ? 5 * SEGMENT_BYTES
				       : SEGMENT_BYTES / 2 + sim_random(&w.random) % SEGMENT_BYTES);
		world_close(&w, sim_random(&w.random) % 3 == 0);
	}
	sim_disk_counts(w.disk, &counts);
	total.operations += sim_disk_now(w.disk);
	total.rolls += counts.creates;
	for (uint64_t end = total.images + images; !w.failed && total.images < end;)
		image(&w, NULL, 0);
	world_free(&w);
}
