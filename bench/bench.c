/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench.c - hfbus-bench: finds the scenario, repeats it, shows what came out.
 */
#include "bench.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "bench_private.h"

#define BENCH_SCENARIO(name) extern const struct bench_scenario bench_##name;
#include "scenarios.h"
#undef BENCH_SCENARIO

const struct bench_scenario *const bench_scenarios[] = {
#define BENCH_SCENARIO(name) &bench_##name,
#include "scenarios.h"
#undef BENCH_SCENARIO
	NULL,
};

volatile sig_atomic_t bench_stop;

static void
on_stop(int number)
{
	if (bench_stop && number == SIGINT)
		_exit(BENCH_EXIT_INTERRUPTED);
	bench_stop = number;
}

void
bench_title(const struct bench_scenario *s, char *to, size_t size)
{
	snprintf(to, size, "hfbus-bench %s%s%s", s->group != NULL ? s->group : "",
		 s->group != NULL ? " " : "", s->name);
}

int
bench_pin(const struct bench *b, uint32_t index, struct hfb_err *err)
{
	cpu_set_t set;
	int r;

	if (index >= b->options.cores_count)
		return 0;
	CPU_ZERO(&set);
	CPU_SET(b->options.cores[index], &set);
	r = pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
	if (r != 0)
		return hfb_err_set(err, -r, "cannot run on CPU %u: %s, see --cores",
				   b->options.cores[index], strerror(r));
	return 0;
}

struct bench_window
bench_window(const struct bench *b, uint64_t now_ns)
{
	return (struct bench_window){ now_ns, now_ns + b->options.warmup_ns,
				      now_ns + b->options.warmup_ns + b->options.duration_ns };
}

int
bench_window_overtime(struct bench *b, const char *what, uint64_t count)
{
	return hfb_err_set(&b->err, -ETIMEDOUT,
			   "%llu %s are still on their way %llu s after the end, see --rate",
			   (unsigned long long)count, what, BENCH_OVERTIME_NS / 1000000000ull);
}

double
bench_seconds(const struct bench_window *w, uint64_t now_ns)
{
	return now_ns <= w->from_ns ? 1e-9 : (double)(now_ns - w->from_ns) / 1e9;
}

void
bench_pace_start(struct bench_pace *p, double rate_per_s, uint64_t begin_ns)
{
	p->per_ns = rate_per_s / 1e9;
	p->ns_each = rate_per_s > 0 ? 1e9 / rate_per_s : 0;
	p->begin_ns = begin_ns;
	p->sent = 0;
}

static bool
is_group(const char *name)
{
	for (uint32_t i = 0; bench_scenarios[i] != NULL; i++)
		if (bench_scenarios[i]->group != NULL &&
		    strcmp(bench_scenarios[i]->group, name) == 0)
			return true;
	return false;
}

/* @group: only its scenarios; NULL: all. */
static void
help(const char *group, FILE *to)
{
	fputs("usage: hfbus-bench SCENARIO [options]\n"
	      "       hfbus-bench SCENARIO --help\n"
	      "Load and measurements. Scenarios that need a bus find it as every client does:\n"
	      "--data DIR, or $HFBUS_DATA, or the default folder.\n"
	      "\n",
	      to);
	for (uint32_t i = 0; bench_scenarios[i] != NULL; i++) {
		const char *of = bench_scenarios[i]->group;
		char title[BENCH_TITLE_MAX];

		if (group != NULL && (of == NULL || strcmp(of, group) != 0))
			continue;
		bench_title(bench_scenarios[i], title, sizeof(title));
		fprintf(to, "  %-22s %s\n", title + strlen("hfbus-bench "),
			bench_scenarios[i]->summary);
	}
	fputs("\nexit codes: 0 ok, 1 failed, 2 wrong usage, 130 stopped before the end\n", to);
}

/* Sets *@ret_words to how many of @argv name it, from 1. NULL when none does. */
static const struct bench_scenario *
find(int argc, char **argv, int *ret_words)
{
	for (uint32_t i = 0; bench_scenarios[i] != NULL; i++) {
		const struct bench_scenario *s = bench_scenarios[i];
		int words = s->group != NULL ? 2 : 1;

		if (argc <= words || strcmp(argv[words], s->name) != 0)
			continue;
		if (s->group != NULL && strcmp(argv[1], s->group) != 0)
			continue;
		*ret_words = words;
		return s;
	}
	return NULL;
}

static int
repeat(struct bench *b)
{
	const struct bench_scenario *s = b->scenario;
	int r = s->setup != NULL ? s->setup(b) : 0;

	for (; r == 0 && b->repetition < b->options.repeat && !bench_stop; b->repetition++) {
		r = s->run(b);
		if (r == 0)
			bench_results_repetition_end(b);
	}
	if (s->teardown != NULL)
		s->teardown(b);
	return r;
}

static int
run(const struct bench_scenario *s, int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_stop };
	char title[BENCH_TITLE_MAX];
	struct bench b = { .scenario = s };
	int r;

	bench_title(s, title, sizeof(title));
	/* no SA_RESTART: what waits comes back */
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	action.sa_handler = SIG_IGN;
	sigaction(SIGPIPE, &action, NULL);
	if (s->main != NULL) {
		argv[0] = title;
		return s->main(argc, argv);
	}
	r = bench_options_parse(s, argc, argv, &b.options);
	if (r != 0)
		return r == 1 ? BENCH_EXIT_OK : BENCH_EXIT_USAGE;
	hfb_clock_start();
	b.results = bench_results_create();
	r = repeat(&b);
	if (r == 0 && b.options.json)
		bench_results_json(&b, stdout);
	else if (r == 0)
		bench_results_print(&b, stdout);
	if (r == 0 && b.options.hdr != NULL)
		r = bench_results_hdr(&b);
	bench_results_destroy(b.results);
	/* stopped: what did not come to its end then is no failure */
	if (r < 0 && !bench_stop) {
		fprintf(stderr, "%s: %s\n", title, b.err.text);
		return BENCH_EXIT_FAILED;
	}
	return bench_stop ? BENCH_EXIT_INTERRUPTED : BENCH_EXIT_OK;
}

static bool
asks_for_help(int argc, char **argv, int at)
{
	return argc > at && (strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "-h") == 0);
}

int
main(int argc, char **argv)
{
	const struct bench_scenario *s;
	int words;

	if (asks_for_help(argc, argv, 1) || (asks_for_help(argc, argv, 2) && is_group(argv[1]))) {
		help(is_group(argv[1]) ? argv[1] : NULL, stdout);
		return fflush(stdout) == 0 ? BENCH_EXIT_OK : BENCH_EXIT_FAILED;
	}
	s = find(argc, argv, &words);
	if (s == NULL) {
		if (argc >= 2)
			fprintf(stderr, "hfbus-bench: no scenario '%s%s%s'\n", argv[1],
				argc >= 3 && argv[2][0] != '-' ? " " : "",
				argc >= 3 && argv[2][0] != '-' ? argv[2] : "");
		help(NULL, stderr);
		return BENCH_EXIT_USAGE;
	}
	return run(s, argc - words, argv + words);
}
