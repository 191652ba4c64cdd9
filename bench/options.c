/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options.c - every option of hfbus-bench, once: its text, its bounds, its default.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <hfbus/types.h>

#include "bench_private.h"
#include "units.h"

#define ALL 0ull /* every scenario takes it */

enum kind { FLAG, TEXT, U32, U64, RATE, DURATION, BYTES, BYTES32, CORES, TRANSPORT, STAGE, YES_NO };

struct option_spec {
	const char *name;
	uint64_t bit;
	enum kind kind;
	size_t at; /* in struct bench_options */
	uint64_t min, max;
	const char *value, *help;
};

#define AT(field) offsetof(struct bench_options, field)

static const struct option_spec specs[] = {
	{ "duration", ALL, DURATION, AT(duration_ns), 1000000, 86400000000000ull, "D",
	  "measured time of a repetition" },
	{ "warmup", ALL, DURATION, AT(warmup_ns), 0, 3600000000000ull, "D",
	  "time before it that does not count" },
	{ "repeat", ALL, U32, AT(repeat), 1, BENCH_REPEAT_MAX, "N", "repetitions" },
	{ "cores", ALL, CORES, AT(cores), 0, 0, "LIST",
	  "CPUs for our threads in order, e.g. 0 or 1,0 or 2-3; none: not pinned" },
	{ "size", BENCH_SIZE, U32, AT(size), 0, 1u << 20, "BYTES",
	  "value of an event; where there are none, of a datagram or message" },
	{ "batch", BENCH_BATCH, U32, AT(batch), 1, 65536, "N", "events of a batch or datagram" },
	{ "rate", BENCH_RATE, RATE, AT(rate), 0, 0, "N",
	  "events a second, open loop (10000, 2.5M); 0: closed loop, or as fast as possible" },
	{ "inflight", BENCH_INFLIGHT, U32, AT(inflight), 1, 1u << 24, "N",
	  "closed loop: events on their way at once" },
	{ "transport", BENCH_TRANSPORT, TRANSPORT, AT(transport), 0, 0, "T",
	  "shm, udp, memif, af_packet or af_xdp" },
	{ "ack", BENCH_ACK, STAGE, AT(ack), 0, 0, "STAGE",
	  "received, durable, mirrored or mirrored-durable" },
	{ "data", BENCH_DATA, TEXT, AT(data), 0, 0, "DIR",
	  "folder of the running bus; for limits: where their files go" },
	{ "topic", BENCH_TOPIC, TEXT, AT(topic), 0, 0, "NAME", "topic to use" },
	{ "partitions", BENCH_PARTITIONS, U32, AT(partitions), 1, 65536, "N",
	  "partitions to spread events over" },
	{ "readers", BENCH_READERS, U32, AT(readers), 1, 256, "N", "readers" },
	{ "device", BENCH_DEVICE, TEXT, AT(device), 0, 0, "DEV",
	  "DPDK device of our side, e.g. net_memif0,role=client,socket=PATH" },
	{ "address", BENCH_ADDRESS, TEXT, AT(address), 0, 0, "IP[:PORT]",
	  "the bus's address, behind that device or of transport udp (10.9.0.2)" },
	{ "sync", BENCH_SYNC, YES_NO, AT(sync), 0, 0, "yes|no", "synced writes (RWF_DSYNC)" },
	{ "file-size", BENCH_FILE_SIZE, BYTES, AT(file_bytes), 1u << 20, 1ull << 44, "BYTES",
	  "file that is gone over again and again" },
	{ "depth", BENCH_DEPTH, U32, AT(depth), 0, 256, "N", "reads or writes in flight" },
	{ "write-size", BENCH_WRITE_SIZE, BYTES32, AT(write_bytes), 4096, 16u << 20, "BYTES",
	  "of one read or write at most, a multiple of 4096" },
	{ "speed", BENCH_SPEED, RATE, AT(speed), 0, 0, "X",
	  "of the recorded pace; 0: as fast as possible" },
	{ "count", BENCH_COUNT, U64, AT(count), 0, UINT32_MAX, "N",
	  "rounds; 0: until the duration is over" },
	{ "linger", BENCH_LINGER, FLAG, AT(linger), 0, 0, NULL,
	  "stay attached to the device until standard input ends" },
	{ "retention", BENCH_RETENTION, BYTES, AT(retention_bytes), 1u << 20, 1ull << 44, "BYTES",
	  "of a topic that is made, over all its partitions" },
	{ "seed", BENCH_SEED, U64, AT(seed), 0, UINT64_MAX, "N", "what random choices start from" },
	{ "hdr", ALL, TEXT, AT(hdr), 0, 0, "FILE",
	  "write latencies as HdrHistogram's plotter reads them" },
	{ "json", ALL, FLAG, AT(json), 0, 0, NULL, "one JSON object instead of the table" },
	{ "help", ALL, FLAG, 0, 0, 0, NULL, "this text" },
};

#define SPECS (sizeof(specs) / sizeof(specs[0]))

static const char *const transports[BENCH_TRANSPORTS] = { "shm", "udp", "memif", "af_packet",
							  "af_xdp" };
static const char *const stages[HFB_STAGES] = { "received", "durable", "mirrored",
						"mirrored-durable" };

const char *
bench_transport_name(enum bench_transport transport)
{
	return transports[transport];
}

int
bench_rate_parse(const char *text, double *ret)
{
	char *end;
	double value;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	value = strtod(text, &end);
	if (strcmp(end, "k") == 0)
		value *= 1e3;
	else if (strcmp(end, "M") == 0)
		value *= 1e6;
	else if (*end != '\0')
		return -EINVAL;
	if (!isfinite(value) || value > 1e12)
		return -EINVAL;
	*ret = value;
	return 0;
}

static bool
takes(const struct bench_scenario *s, const struct option_spec *spec)
{
	if (spec->at == AT(warmup_ns))
		return (s->options & BENCH_NO_WARMUP) == 0;
	return spec->bit == ALL || (s->options & spec->bit) != 0;
}

static void
defaults(const struct bench_scenario *s, struct bench_options *o)
{
	*o = (struct bench_options){
		.duration_ns = 2000000000u,
		.warmup_ns = 200000000u,
		.repeat = 1,
		.size = 64,
		.batch = 1,
		.inflight = 1,
		.transport = BENCH_SHM,
		.ack = HFB_STAGE_RECEIVED,
		.topic = "bench",
		.partitions = 1,
		.retention_bytes = 2ull << 30, /* a disk is not filled by a bench */
		.seed = 1,
		.readers = 1,
		.sync = true,
		.file_bytes = 1ull << 30,
		.write_bytes = 1u << 20,
		.speed = 1,
	};
	if (s->defaults != NULL)
		s->defaults(o);
}

static int
cores_parse(const char *text, struct bench_options *o)
{
	o->cores_count = 0;
	for (const char *at = text;; at++) {
		unsigned long from, to;
		char *end;

		if (*at < '0' || *at > '9')
			return -EINVAL;
		from = to = strtoul(at, &end, 10);
		if (*end == '-' && end[1] >= '0' && end[1] <= '9')
			to = strtoul(end + 1, &end, 10);
		if (to < from || to > 4095)
			return -EINVAL;
		for (; from <= to; from++) {
			if (o->cores_count == BENCH_CORES_MAX)
				return -EINVAL;
			o->cores[o->cores_count++] = (uint32_t)from;
		}
		if (*end == '\0')
			return 0;
		if (*end != ',')
			return -EINVAL;
		at = end;
	}
}

static int
name_parse(const char *text, const char *const *names, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (strcmp(text, names[i]) == 0)
			return (int)i;
	return -EINVAL;
}

static int
value_parse(const struct option_spec *spec, const char *text, struct bench_options *o)
{
	void *to = (char *)o + spec->at;
	uint64_t number = 0;
	int r = 0;

	switch (spec->kind) {
	case FLAG:
		*(bool *)to = true;
		return 0;
	case TEXT:
		*(const char **)to = text;
		return *text != '\0' ? 0 : -EINVAL;
	case RATE:
		return bench_rate_parse(text, to);
	case CORES:
		return cores_parse(text, o);
	case TRANSPORT:
		r = name_parse(text, transports, BENCH_TRANSPORTS);
		if (r >= 0)
			o->transport = (enum bench_transport)r;
		return r < 0 ? r : 0;
	case STAGE:
		r = name_parse(text, stages, HFB_STAGES);
		if (r >= 0)
			*(int32_t *)to = r;
		return r < 0 ? r : 0;
	case YES_NO:
		*(bool *)to = strcmp(text, "yes") == 0;
		return *(bool *)to || strcmp(text, "no") == 0 ? 0 : -EINVAL;
	case DURATION:
		r = hfb_duration_parse(text, &number);
		break;
	case BYTES:
	case BYTES32:
		r = hfb_bytes_parse(text, &number);
		if (r == 0 && number % 4096 != 0)
			r = -EINVAL;
		break;
	case U32:
	case U64:
		r = hfb_number_parse(text, &number);
		break;
	}
	if (r < 0 || number < spec->min || number > spec->max)
		return -EINVAL;
	if (spec->kind == U32 || spec->kind == BYTES32)
		*(uint32_t *)to = (uint32_t)number;
	else
		*(uint64_t *)to = number;
	return 0;
}

/* What would have been right, for the error. */
static void
expected(const struct option_spec *spec, char *to, size_t size)
{
	switch (spec->kind) {
	case U32:
	case U64:
		snprintf(to, size, "a number from %" PRIu64 " to %" PRIu64, spec->min, spec->max);
		return;
	case DURATION:
		snprintf(to, size, "a time like 500ms or 2s, %s",
			 spec->min > 0 ? "at least 1ms" : "or 0");
		return;
	case BYTES:
	case BYTES32:
		snprintf(to, size,
			 "a size like 64KiB, a multiple of 4096 from %" PRIu64 " to %" PRIu64,
			 spec->min, spec->max);
		return;
	case RATE:
		snprintf(to, size, "a number like 10000, 2.5M or 0");
		return;
	case CORES:
		snprintf(to, size, "a list of CPUs like 0, 1,0 or 2-3");
		return;
	case TEXT:
		snprintf(to, size, "a text that is not empty");
		return;
	default:
		snprintf(to, size, "one of: %s", spec->kind == YES_NO ? spec->value : spec->help);
		return;
	}
}

static const char *
default_text(const struct option_spec *spec, const struct bench_options *o, char *to, size_t size)
{
	const void *at = (const char *)o + spec->at;
	uint64_t n;

	switch (spec->kind) {
	case U32:
		snprintf(to, size, "%" PRIu32, *(const uint32_t *)at);
		break;
	case U64:
		snprintf(to, size, "%" PRIu64, *(const uint64_t *)at);
		break;
	case RATE:
		snprintf(to, size, "%g", *(const double *)at);
		break;
	case DURATION:
		n = *(const uint64_t *)at;
		if (n % 1000000000 == 0)
			snprintf(to, size, "%" PRIu64 "s", n / 1000000000);
		else
			snprintf(to, size, "%" PRIu64 "ms", n / 1000000);
		break;
	case BYTES:
	case BYTES32:
		n = spec->kind == BYTES ? *(const uint64_t *)at : *(const uint32_t *)at;
		if (n % (1u << 20) == 0)
			snprintf(to, size, "%" PRIu64 "MiB", n >> 20);
		else
			snprintf(to, size, "%" PRIu64, n);
		break;
	case TRANSPORT:
		return transports[o->transport];
	case STAGE:
		return stages[o->ack];
	case YES_NO:
		return *(const bool *)at ? "yes" : "no";
	case TEXT:
		return *(const char *const *)at;
	case CORES:
		to[0] = '\0';
		for (uint32_t i = 0; i < o->cores_count && i < 4; i++)
			snprintf(to + strlen(to), size - strlen(to), "%s%" PRIu32, i > 0 ? "," : "",
				 o->cores[i]);
		return to[0] != '\0' ? to : NULL;
	case FLAG:
		return NULL;
	}
	return to;
}

void
bench_options_help(const struct bench_scenario *s, FILE *to)
{
	char title[BENCH_TITLE_MAX], text[64];
	struct bench_options o;

	bench_title(s, title, sizeof(title));
	fprintf(to, "usage: %s [options]%s%s\n%s\n", title, s->args != NULL ? " " : "",
		s->args != NULL ? s->args : "", s->summary);
	if (s->help != NULL)
		fputs(s->help, to);
	fputs("options:\n", to);
	defaults(s, &o);
	for (uint32_t i = 0; i < SPECS; i++) {
		const char *given;
		char flag[64];

		if (!takes(s, &specs[i]))
			continue;
		snprintf(flag, sizeof(flag), "--%s %s", specs[i].name,
			 specs[i].value != NULL ? specs[i].value : "");
		given = default_text(&specs[i], &o, text, sizeof(text));
		fprintf(to, "  %-22s %s%s%s%s\n", flag, specs[i].help, given != NULL ? " (" : "",
			given != NULL ? given : "", given != NULL ? ")" : "");
	}
}

static int
usage(const char *title)
{
	fprintf(stderr, "Try '%s --help'.\n", title);
	return BENCH_EXIT_USAGE;
}

int
bench_options_parse(const struct bench_scenario *s, int argc, char **argv,
		    struct bench_options *ret)
{
	struct option longs[SPECS + 1] = { 0 };
	char title[BENCH_TITLE_MAX], want[160];
	int c;

	bench_title(s, title, sizeof(title));
	defaults(s, ret);
	for (uint32_t i = 0; i < SPECS; i++)
		longs[i] = (struct option){ specs[i].name,
					    specs[i].kind == FLAG ? no_argument : required_argument,
					    NULL, 256 + (int)i };
	optind = 1;
	argv[0] = title; /* getopt's own messages */
	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		const struct option_spec *spec;

		if (c == 'h' || (c >= 256 && strcmp(specs[c - 256].name, "help") == 0)) {
			bench_options_help(s, stdout);
			return 1;
		}
		if (c < 256)
			return usage(title);
		spec = &specs[c - 256];
		if (!takes(s, spec)) {
			fprintf(stderr, "%s: --%s does not apply here\n", title, spec->name);
			return usage(title);
		}
		if (value_parse(spec, optarg, ret) < 0) {
			expected(spec, want, sizeof(want));
			fprintf(stderr, "%s: --%s takes %s, not '%s'\n", title, spec->name, want,
				optarg);
			return usage(title);
		}
		ret->set |= spec->bit;
	}
	for (; optind < argc && ret->args_count < BENCH_ARGS_MAX; optind++)
		ret->args[ret->args_count++] = argv[optind];
	if (optind < argc || ret->args_count < s->args_min || ret->args_count > s->args_max) {
		if (s->args != NULL)
			fprintf(stderr, "%s: give %s\n", title, s->args);
		else
			fprintf(stderr, "%s: '%s' is no option\n", title, ret->args[0]);
		return usage(title);
	}
	return 0;
}

json_t *
bench_options_json(const struct bench_scenario *s, const struct bench_options *o)
{
	json_t *all = json_object();

	for (uint32_t i = 0; i < SPECS; i++) {
		const struct option_spec *spec = &specs[i];
		const void *at = (const char *)o + spec->at;
		char text[64];
		const char *as_text;

		if (!takes(s, spec) || spec->kind == FLAG)
			continue;
		switch (spec->kind) {
		case U32:
		case BYTES32:
			json_object_set_new(all, spec->name, json_integer(*(const uint32_t *)at));
			break;
		case U64:
		case BYTES:
			json_object_set_new(all, spec->name,
					    json_integer((json_int_t) * (const uint64_t *)at));
			break;
		case DURATION: /* in seconds */
			json_object_set_new(all, spec->name,
					    json_real((double)*(const uint64_t *)at / 1e9));
			break;
		case RATE:
			json_object_set_new(all, spec->name, json_real(*(const double *)at));
			break;
		case YES_NO:
			json_object_set_new(all, spec->name, json_boolean(*(const bool *)at));
			break;
		default:
			as_text = default_text(spec, o, text, sizeof(text));
			json_object_set_new(all, spec->name,
					    as_text != NULL ? json_string(as_text) : json_null());
			break;
		}
	}
	return all;
}
