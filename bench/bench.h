/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench.h - the frame of hfbus-bench: options, the table of scenarios, results.
 *
 * A scenario is one file, bench/scenario_<name>.c or bench/limit_<name>.c:
 *
 *	static int
 *	echo_run(struct bench *b)
 *	{
 *		struct hfb_histogram *h = bench_latency(b, "latency");
 *		struct bench_window w = bench_window(b, bench_now_ns());
 *		struct bench_pace pace;
 *
 *		bench_pace_start(&pace, b->options.rate, w.begin_ns);
 *		while (bench_window_open(&w, now_ns = bench_now_ns()) || on_their_way > 0) {
 *			...
 *			if (bench_window_has(&w, intended_ns))
 *				hfb_histogram_record(h, now_ns - intended_ns);
 *		}
 *		bench_metric(b, "rate", "events/s", events / bench_seconds(&w, now_ns));
 *		return 0;
 *	}
 *
 *	const struct bench_scenario bench_echo = {
 *		.name = "echo", .summary = "publish and wait for the ack",
 *		.options = BENCH_TRANSPORT | BENCH_SIZE | BENCH_RATE, .run = echo_run,
 *	};
 *
 * with one line in scenarios.h and its file in bench/meson.build. run is called once
 * a repetition; each time it gives the same metrics and latencies. Those are printed as a
 * table of min, median and max, or as one JSON object; --hdr writes the latencies for
 * HdrHistogram's plotter.
 *
 * Threads: one calls this; others may record into histograms that are theirs alone.
 * Memory:  what bench_latency() returns lives until the end of the process.
 */
#ifndef HFB_BENCH_BENCH_H
#define HFB_BENCH_BENCH_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "clock.h"
#include "err.h"
#include "histogram.h"

#define BENCH_CORES_MAX	 64u
#define BENCH_REPEAT_MAX 1000u
#define BENCH_ARGS_MAX	 8u

#define BENCH_EXIT_OK	       0
#define BENCH_EXIT_FAILED      1
#define BENCH_EXIT_USAGE       2
#define BENCH_EXIT_INTERRUPTED 130

/* Which options a scenario takes beside those that all take (see options.c). */
#define BENCH_SIZE	 (1ull << 0)
#define BENCH_BATCH	 (1ull << 1)
#define BENCH_RATE	 (1ull << 2)
#define BENCH_INFLIGHT	 (1ull << 3)
#define BENCH_TRANSPORT	 (1ull << 4)
#define BENCH_ACK	 (1ull << 5)
#define BENCH_DATA	 (1ull << 6)
#define BENCH_TOPIC	 (1ull << 7)
#define BENCH_PARTITIONS (1ull << 8)
#define BENCH_SEED	 (1ull << 9)
#define BENCH_READERS	 (1ull << 10)
#define BENCH_DEVICE	 (1ull << 11)
#define BENCH_ADDRESS	 (1ull << 12)
#define BENCH_SYNC	 (1ull << 13)
#define BENCH_FILE_SIZE	 (1ull << 14)
#define BENCH_DEPTH	 (1ull << 15)
#define BENCH_WRITE_SIZE (1ull << 16)
#define BENCH_SPEED	 (1ull << 17)
#define BENCH_COUNT	 (1ull << 18)
#define BENCH_LINGER	 (1ull << 19)
#define BENCH_RETENTION	 (1ull << 20)
#define BENCH_NO_WARMUP	 (1ull << 21) /* --warmup is no option here */

enum bench_transport {
	BENCH_SHM,
	BENCH_UDP,
	BENCH_MEMIF,
	BENCH_AF_PACKET,
	BENCH_AF_XDP,
	BENCH_TRANSPORTS
};

struct bench_options {
	uint64_t set; /* BENCH_… of those that were given, not defaulted */
	bool json;
	uint64_t duration_ns; /* measured time of a repetition */
	uint64_t warmup_ns;   /* before it, in each repetition */
	uint32_t repeat;      /* 1..BENCH_REPEAT_MAX */
	uint32_t cores[BENCH_CORES_MAX];
	uint32_t cores_count; /* 0: not pinned */
	const char *hdr;      /* file, or NULL */

	uint32_t size;	   /* bytes of an event's value */
	uint32_t batch;	   /* events of a batch or datagram, >= 1 */
	double rate;	   /* events a second, open loop; 0: closed loop or as fast as possible */
	uint32_t inflight; /* closed loop: events or requests on their way, >= 1 */
	enum bench_transport transport;
	int32_t ack;	     /* HFB_STAGE_… */
	const char *data;    /* the bus's folder, NULL: as every client; limits: for their files */
	const char *topic;   /* never NULL */
	uint32_t partitions; /* >= 1 */
	uint64_t retention_bytes; /* of a topic that is made, over all its partitions */
	uint64_t seed;
	uint32_t readers;     /* >= 1 */
	const char *device;   /* a DPDK device for our side, or NULL */
	const char *address;  /* the bus's address behind it, IP[:PORT], or NULL */
	bool sync;	      /* limits: writes are synced (RWF_DSYNC) */
	uint64_t file_bytes;  /* limits: size of the file that is gone over again and again */
	uint32_t depth;	      /* limits: I/O in flight; 0: the limit's own choice */
	uint32_t write_bytes; /* limits: bytes of one I/O; multiple of 4096 */
	double speed;	      /* replay: 1 is the capture's pace; 0 as fast as possible */
	uint64_t count;	      /* replay: rounds; 0: until --duration is over */
	bool linger;	      /* stay attached to the device until standard input ends */
	const char *args[BENCH_ARGS_MAX]; /* what stands without a flag */
	uint32_t args_count;
};

struct bench;

struct bench_scenario {
	const char *group; /* "limit", or NULL */
	const char *name;
	const char *summary; /* one line */
	const char *help;    /* lines for --help below the summary, each ends in \n; or NULL */
	const char *args;    /* e.g. "FILE.pcap", or NULL: none */
	uint32_t args_min, args_max;
	uint64_t options;			   /* BENCH_… */
	void (*defaults)(struct bench_options *o); /* other defaults than options.c's; or NULL */
	/*
	 * Instead of all below and of the options: a command of its own with its own --help.
	 * argv[0] is "hfbus-bench NAME". Returns the exit code.
	 */
	int (*main)(int argc, char **argv);
	/* setup and teardown once, run once a repetition; 0, or negative errno and b->err.
	 * teardown also after a setup that failed. Both may be NULL. */
	int (*setup)(struct bench *b);
	int (*run)(struct bench *b);
	void (*teardown)(struct bench *b);
};

/* What is on the table, in the order of scenarios.h; ends with NULL. */
extern const struct bench_scenario *const bench_scenarios[];

struct bench_results;

struct bench {
	const struct bench_scenario *scenario;
	struct bench_options options;
	struct hfb_err err;
	uint32_t repetition; /* from 0 */
	void *state;	     /* the scenario's */
	struct bench_results *results;
};

/* Set by SIGINT and SIGTERM: loops end, what was measured is still shown. */
extern volatile sig_atomic_t bench_stop;

/* ns from an arbitrary moment, at one rate, never back; some 3 ns. For the bus's own stamps
 * (UTC) compare with hfb_clock_now_ns(). */
static inline uint64_t
bench_now_ns(void)
{
	return hfb_clock_tsc_to_ns(hfb_clock_tsc());
}

/* Pin the calling thread to the @index-th core of --cores; nothing is done when there are
 * fewer. 0 or negative errno. */
int bench_pin(const struct bench *b, uint32_t index, struct hfb_err *err);

/*
 * One repetition's time. A rate is of what came in it. A latency is of what was due in it, and
 * that is sent and waited for also when the time is over (BENCH_OVERTIME_NS at most): what a stall
 * at the end held up would be missing else.
 */
struct bench_window {
	uint64_t begin_ns, from_ns, until_ns;
};

#define BENCH_OVERTIME_NS 20000000000ull

struct bench_window bench_window(const struct bench *b, uint64_t now_ns);

/* For the loop's @now_ns, at its begin: false when the time is over. Ctrl-C ends it now. */
static inline bool
bench_window_open(struct bench_window *w, uint64_t now_ns)
{
	if (bench_stop && now_ns < w->until_ns)
		w->until_ns = now_ns;
	return now_ns < w->until_ns;
}

static inline bool
bench_window_has(const struct bench_window *w, uint64_t due_ns)
{
	return due_ns >= w->from_ns && due_ns < w->until_ns;
}

/* @now_ns, or the last moment at which something is due. */
static inline uint64_t
bench_window_due_ns(const struct bench_window *w, uint64_t now_ns)
{
	return now_ns < w->until_ns ? now_ns : w->until_ns - 1;
}

/* b->err and -ETIMEDOUT: @what are still on their way long after the end. */
int bench_window_overtime(struct bench *b, const char *what, uint64_t count);

/* Seconds from the end of the warm-up to @now_ns; never 0. */
double bench_seconds(const struct bench_window *w, uint64_t now_ns);

/* Results --------------------------------------------------------------------------------- */

/* Note a value of this repetition. @name and @unit are copied. Once a repetition and name. */
void bench_metric(struct bench *b, const char *name, const char *unit, double value);

/*
 * This repetition's histogram of that name, in ns, empty at the repetition's begin. It gives
 * the metrics NAME.p50, .p90, .p99, .p99.9, .p99.99 and .max in us, when something is in it.
 */
struct hfb_histogram *bench_latency(struct bench *b, const char *name);

/* A histogram of the same shape for another thread; merge it (hfb_histogram_merge()). */
struct hfb_histogram *bench_histogram(void);

/* A line below the table and in JSON's "notes": how something was done that one should know.
 * The same text again is not repeated. */
void bench_note(struct bench *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Options --------------------------------------------------------------------------------- */

/* For commands of their own: values, with an error that names @flag, as below. */
int bench_rate_parse(const char *text, double *ret); /* "10000", "2.5M", "k" and "M" of 1000 */
const char *bench_transport_name(enum bench_transport transport);

/* Pacing ---------------------------------------------------------------------------------- */

/*
 * Open loop: the n-th thing (from 0) is due at a time that does not depend on how long the
 * others took, and latency counts from there.
 */
struct bench_pace {
	double per_ns, ns_each;
	uint64_t begin_ns;
	uint64_t sent; /* the caller's to move on */
};

void bench_pace_start(struct bench_pace *p, double rate_per_s, uint64_t begin_ns);

/* When the @n-th is to be sent. */
static inline uint64_t
bench_pace_time_ns(const struct bench_pace *p, uint64_t n)
{
	return p->begin_ns + (uint64_t)((double)n * p->ns_each);
}

/* How many are due and not sent. A rate of 0 is always due: UINT32_MAX. */
static inline uint32_t
bench_pace_due(const struct bench_pace *p, uint64_t now_ns)
{
	uint64_t due;

	if (p->per_ns == 0)
		return UINT32_MAX;
	if (now_ns < p->begin_ns)
		return 0;
	due = (uint64_t)((double)(now_ns - p->begin_ns) * p->per_ns) + 1;
	if (due <= p->sent)
		return 0;
	return due - p->sent > UINT32_MAX ? UINT32_MAX : (uint32_t)(due - p->sent);
}

#endif
