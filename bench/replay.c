/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay.c - `hfbus-bench replay`: a capture onto a port, at its own pace, at xN, or
 * as fast as the port takes it.
 *
 * A frame is due at its time in the capture; how much later the port had it is the
 * timing error. Frames that are due together go out as one burst. Rounds follow each
 * other at the capture's mean distance between frames.
 */
#include <errno.h>
#include <unistd.h>

#include "bench.h"
#include "bench_private.h"
#include "capture.h"
#include "frame_out.h"

extern const struct bench_scenario bench_replay;

/* A sleep ends up to so much late on a host whose CPUs go idle. */
#define SPIN_NS 200000u

struct replay {
	struct bench *b;
	struct capture capture;
	struct frame_out out;
	struct hfb_histogram *error;
	uint64_t due_ns[FRAME_BURST]; /* of the frames of the burst */
	uint32_t due_count;
};

/* The port has taken the burst. */
static void
burst_sent(struct replay *r)
{
	uint64_t now_ns;

	if (r->error != NULL) {
		now_ns = bench_now_ns();
		for (uint32_t i = 0; i < r->due_count; i++)
			hfb_histogram_record(r->error,
					     now_ns > r->due_ns[i] ? now_ns - r->due_ns[i] : 0);
	}
	r->due_count = 0;
}

static void
wait_until(struct replay *r, uint64_t due_ns)
{
	uint64_t now_ns = bench_now_ns();

	if (now_ns >= due_ns)
		return;
	frame_out_flush(&r->out);
	burst_sent(r);
	while ((now_ns = bench_now_ns()) < due_ns && !bench_stop) {
		if (due_ns - now_ns > 2 * SPIN_NS) {
			uint64_t us = (due_ns - now_ns - SPIN_NS) / 1000u;

			usleep(us > 100000 ? 100000 : (useconds_t)us);
		}
	}
}

/* One round from @begin_ns. False when it is over before its end. */
static bool
round_play(struct replay *r, double begin_ns, uint64_t until_ns)
{
	double speed = r->b->options.speed;

	for (uint64_t i = 0; i < r->capture.count; i++) {
		const struct capture_frame *f = &r->capture.frame[i];

		if (speed > 0) {
			uint64_t due_ns = (uint64_t)(begin_ns + (double)f->time_ns / speed);

			if (due_ns > until_ns)
				return false;
			wait_until(r, due_ns);
			r->due_ns[r->due_count++] = due_ns;
		} else if (i % FRAME_BURST == 0 && bench_now_ns() > until_ns) {
			return false;
		}
		if (bench_stop)
			return false;
		frame_out_frame(&r->out, r->capture.data + f->at, f->bytes, 0);
		if (r->out.burst_count == 0)
			burst_sent(r);
	}
	return true;
}

static void
play(struct replay *r)
{
	struct bench *b = r->b;
	const struct capture *c = &r->capture;
	uint64_t begin_ns = bench_now_ns(), until_ns = begin_ns + b->options.duration_ns;
	uint64_t frames = r->out.frames, bytes = r->out.bytes, refusals = r->out.refusals;
	uint64_t errors = frame_out_errors(&r->out), rounds = 0;
	double round_ns = (double)c->span_ns, seconds;

	if (c->count > 1)
		round_ns += round_ns / (double)(c->count - 1);
	if (b->options.speed > 0)
		round_ns /= b->options.speed;
	while ((b->options.count == 0 || rounds < b->options.count) &&
	       round_play(r, (double)begin_ns + (double)rounds * round_ns, until_ns))
		rounds++;
	frame_out_flush(&r->out);
	burst_sent(r);
	seconds = (double)(bench_now_ns() - begin_ns) / 1e9;
	frames = r->out.frames - frames;
	bytes = r->out.bytes - bytes;
	bench_metric(b, "rate", "frames/s", (double)frames / seconds);
	bench_metric(b, "throughput", "bytes/s", (double)bytes / seconds);
	bench_metric(b, "frames", "", (double)frames);
	bench_metric(b, "bytes", "", (double)bytes);
	bench_metric(b, "rounds", "", (double)rounds);
	bench_metric(b, "duration", "s", seconds);
	/* waiting for the port makes the frames behind late */
	bench_metric(b, "refused", "bursts", (double)(r->out.refusals - refusals));
	bench_metric(b, "port errors", "errors", (double)(frame_out_errors(&r->out) - errors));
}

static void
notes(struct replay *r)
{
	const struct capture *c = &r->capture;

	bench_note(r->b, "capture: %llu frames, %llu bytes, %.6f s", (unsigned long long)c->count,
		   (unsigned long long)c->bytes, (double)c->span_ns / 1e9);
	if (c->went_back > 0)
		bench_note(r->b, "%llu stamps go back: sent with the frame before",
			   (unsigned long long)c->went_back);
	if (c->cut > 0)
		bench_note(r->b, "%llu frames were cut when recorded: sent as they are",
			   (unsigned long long)c->cut);
	if (c->too_long > 0)
		bench_note(r->b, "%llu frames above %u bytes left out",
			   (unsigned long long)c->too_long, FRAME_BYTES_MAX);
	if (c->broken_off)
		bench_note(r->b, "the file ends within a frame");
}

static int
replay(struct replay *r)
{
	struct bench *b = r->b;
	struct frame_out_config config = {
		.device = b->options.device,
		.cpu = b->options.cores_count > 0 ? (int)b->options.cores[0] : -1,
		.stop = &bench_stop,
	};
	int result = capture_load(&r->capture, b->options.args[0], FRAME_BYTES_MAX, &b->err);

	if (result < 0)
		return result;
	notes(r);
	config.frame_bytes_max = r->capture.frame_bytes_max;
	result = frame_out_open(&r->out, &config, &b->err);
	if (result < 0)
		return result;
	for (; b->repetition < b->options.repeat && !bench_stop; b->repetition++) {
		if (b->options.speed > 0)
			r->error = bench_latency(b, "timing_error");
		play(r);
		bench_results_repetition_end(b);
	}
	if (b->options.json)
		bench_results_json(b, stdout);
	else
		bench_results_print(b, stdout);
	fflush(stdout);
	if (b->options.hdr != NULL)
		result = bench_results_hdr(b);
	/*
	 * A memif server that polls while its client goes away may fault, so whoever
	 * runs both keeps us until the server is gone.
	 */
	while (b->options.linger && !bench_stop && getchar() != EOF)
		;
	frame_out_close(&r->out, NULL);
	return result;
}

static void
defaults(struct bench_options *o)
{
	o->duration_ns = 86400000000000ull;
	o->warmup_ns = 0;
	o->count = 1;
}

static int
run(int argc, char **argv)
{
	struct bench b = { .scenario = &bench_replay };
	struct replay r = { .b = &b };
	int result = bench_options_parse(&bench_replay, argc, argv, &b.options);

	if (result != 0)
		return result == 1 ? BENCH_EXIT_OK : BENCH_EXIT_USAGE;
	if (b.options.device == NULL) {
		fprintf(stderr, "hfbus-bench replay: --device is missing: which port?\n");
		return BENCH_EXIT_USAGE;
	}
	hfb_clock_start();
	b.results = bench_results_create();
	result = replay(&r);
	capture_free(&r.capture);
	bench_results_destroy(b.results);
	if (result < 0)
		fprintf(stderr, "hfbus-bench replay: %s\n", b.err.text);
	if (bench_stop)
		return BENCH_EXIT_INTERRUPTED;
	return result < 0 ? BENCH_EXIT_FAILED : BENCH_EXIT_OK;
}

const struct bench_scenario bench_replay = {
	.name = "replay",
	.summary = "send a recorded capture to a port, at its pace or another",
	.help = "pcap of both byte orders, micro- or nanoseconds, and pcapng; Ethernet only.\n"
		"--duration is the longest that a repetition may take. timing_error is how much\n"
		"later than recorded the port had a frame.\n",
	.args = "FILE.pcap",
	.args_min = 1,
	.args_max = 1,
	.options = BENCH_DEVICE | BENCH_SPEED | BENCH_COUNT | BENCH_LINGER | BENCH_NO_WARMUP,
	.defaults = defaults,
	.main = run,
};
