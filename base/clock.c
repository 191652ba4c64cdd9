/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line  ns = base_ns + (tsc - base_tsc) * scale / 2^32, under a sequence
 * lock. Tuning never moves the line at the present moment; it bends it, so that
 * it meets UTC within a second, at most SLEW_MAX faster or slower than real.
 * A step of UTC ahead by more than STEP_NS is taken at once; a step back is
 * always slewed, since timestamps in a partition never go back.
 */
#include "clock.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define NS_PER_S      1000000000ull
#define STEP_NS	      10000000 /* 10 ms: more than any slewing NTP daemon leaves */
#define SLEW_NS_PER_S 50000000 /* 5 %, at most */
#define CALIBRATE_NS  20000000u
#define ANCHOR_NS     (16u * NS_PER_S) /* the rate is measured over up to twice this */

/* The same instant on three clocks. */
struct instant {
	uint64_t tsc, mono_ns, utc_ns;
};

static struct {
	uint32_t sequence; /* odd while being written */
	uint64_t base_tsc, base_ns;
	uint64_t scale; /* ns per tick * 2^32, with the slew of the moment */
} line __attribute__((aligned(64)));

static uint64_t rate; /* ns per tick * 2^32, measured */
static struct instant anchor, anchor_next;
static bool started;
static bool tsc_usable;
static __thread uint64_t last_ns;

static uint64_t
timespec_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

uint64_t hfb_clock_monotonic_ns(void);
uint64_t
hfb_clock_monotonic_ns(void)
{
	return timespec_ns(CLOCK_MONOTONIC);
}

/* The tightest of some tries: an interrupt in between would be taken for drift. */
static struct instant
instant_read(void)
{
	struct instant best = { 0 };
	uint64_t best_ticks = UINT64_MAX;

	for (unsigned int i = 0; i < 16; i++) {
		uint64_t before = hfb_clock_tsc();
		uint64_t mono_ns = timespec_ns(CLOCK_MONOTONIC);
		uint64_t utc_ns = timespec_ns(CLOCK_REALTIME);
		uint64_t after = hfb_clock_tsc();

		if (after - before < best_ticks) {
			best_ticks = after - before;
			best.tsc = before + best_ticks / 2;
			best.mono_ns = mono_ns;
			best.utc_ns = utc_ns;
		}
	}
	return best;
}

static uint64_t
scale_apply(uint64_t ticks, uint64_t scale)
{
	return (uint64_t)((unsigned __int128)ticks * scale >> 32);
}

static uint64_t
rate_measure(const struct instant *from, const struct instant *to)
{
	uint64_t ticks = to->tsc - from->tsc;

	if (ticks == 0)
		return rate;
	return (uint64_t)(((unsigned __int128)(to->mono_ns - from->mono_ns) << 32) / ticks);
}

static void
line_publish(uint64_t base_tsc, uint64_t base_ns, uint64_t scale)
{
	uint32_t sequence = line.sequence;

	__atomic_store_n(&line.sequence, sequence + 1, __ATOMIC_RELAXED);
	/* pairs with the acquire fence in hfb_clock_now_ns */
	__atomic_thread_fence(__ATOMIC_RELEASE);
	__atomic_store_n(&line.base_tsc, base_tsc, __ATOMIC_RELAXED);
	__atomic_store_n(&line.base_ns, base_ns, __ATOMIC_RELAXED);
	__atomic_store_n(&line.scale, scale, __ATOMIC_RELAXED);
	/* pairs with the acquire load in hfb_clock_now_ns */
	__atomic_store_n(&line.sequence, sequence + 2, __ATOMIC_RELEASE);
}

/* Does the counter run on at one rate in all power states? */
static bool
tsc_is_invariant(void)
{
#if defined(__x86_64__)
	unsigned int a, b, c, d;

	return __get_cpuid(0x80000007u, &a, &b, &c, &d) && (d & 1u << 8) != 0;
#else
	return true;
#endif
}

void
hfb_clock_start(void)
{
	struct instant now;
	struct timespec pause = { .tv_nsec = CALIBRATE_NS };

	if (started)
		return;
	tsc_usable = tsc_is_invariant();
	anchor = instant_read();
	nanosleep(&pause, NULL);
	now = instant_read();
	anchor_next = now;
	rate = rate_measure(&anchor, &now);
	line_publish(now.tsc, now.utc_ns, rate);
	__atomic_store_n(&started, true, __ATOMIC_RELEASE);
}

void
hfb_clock_tune(void)
{
	struct instant now = instant_read();
	uint64_t ours_ns, scale;
	int64_t behind_ns;

	if (!started) {
		hfb_clock_start();
		return;
	}
	rate = rate_measure(&anchor, &now);
	if (now.mono_ns - anchor_next.mono_ns > ANCHOR_NS) {
		anchor = anchor_next;
		anchor_next = now;
	}

	ours_ns = line.base_ns + scale_apply(now.tsc - line.base_tsc, line.scale);
	behind_ns = (int64_t)(now.utc_ns - ours_ns);
	if (behind_ns > STEP_NS) {
		line_publish(now.tsc, now.utc_ns, rate);
		return;
	}
	if (behind_ns < -SLEW_NS_PER_S)
		behind_ns = -SLEW_NS_PER_S;
	/* The next tuning is a second away: by then what is missing is made up. */
	scale = rate + (uint64_t)((__int128)rate * behind_ns / (int64_t)NS_PER_S);
	line_publish(now.tsc, ours_ns, scale);
}

uint64_t
hfb_clock_now_ns_at(uint64_t tsc)
{
	uint64_t base_tsc, base_ns, scale, ns;
	uint32_t sequence;

	if (__builtin_expect(!__atomic_load_n(&started, __ATOMIC_ACQUIRE) || !tsc_usable, 0)) {
		ns = timespec_ns(CLOCK_REALTIME);
	} else {
		do {
			/* pairs with the release store in line_publish */
			sequence = __atomic_load_n(&line.sequence, __ATOMIC_ACQUIRE);
			base_tsc = __atomic_load_n(&line.base_tsc, __ATOMIC_RELAXED);
			base_ns = __atomic_load_n(&line.base_ns, __ATOMIC_RELAXED);
			scale = __atomic_load_n(&line.scale, __ATOMIC_RELAXED);
			/* pairs with the release fence in line_publish */
			__atomic_thread_fence(__ATOMIC_ACQUIRE);
		} while ((sequence & 1) != 0 ||
			 __atomic_load_n(&line.sequence, __ATOMIC_RELAXED) != sequence);
		/* Read before the line was bent, or on another socket: a little before its base. */
		ns = tsc >= base_tsc ? base_ns + scale_apply(tsc - base_tsc, scale)
				     : base_ns - scale_apply(base_tsc - tsc, scale);
	}
	/* A line read just before it bent may have been ahead by some ns. */
	if (ns < last_ns)
		return last_ns;
	last_ns = ns;
	return ns;
}

uint64_t
hfb_clock_now_ns(void)
{
	return hfb_clock_now_ns_at(hfb_clock_tsc());
}

uint64_t
hfb_clock_tsc_hz(void)
{
	if (!started)
		hfb_clock_start();
	return rate == 0 ? NS_PER_S
			 : (uint64_t)((((unsigned __int128)NS_PER_S << 32) + rate / 2) / rate);
}

uint64_t
hfb_clock_tsc_to_ns(uint64_t tsc_delta)
{
	if (!started)
		hfb_clock_start();
	return scale_apply(tsc_delta, rate);
}

/* Exactly @digits digits at *@at; moves it on. Returns the number or -1. */
static int
digits_parse(const char **at, unsigned int digits)
{
	int value = 0;

	for (unsigned int i = 0; i < digits; i++) {
		char c = **at;

		if (c < '0' || c > '9')
			return -1;
		value = value * 10 + (c - '0');
		(*at)++;
	}
	return value;
}

/* Days from 1970-01-01 to a day of the proleptic Gregorian calendar, years from 1970. */
static uint64_t
days_from_epoch(unsigned int year, unsigned int month, unsigned int day)
{
	static const uint16_t before[12] = {
		0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334
	};
	uint64_t y = year - 1;
	uint64_t leaps = y / 4 - y / 100 + y / 400 - 477; /* 477 of them before 1970 */
	bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

	return (uint64_t)(year - 1970) * 365 + leaps + before[month - 1] +
	       (leap && month > 2 ? 1 : 0) + day - 1;
}

static unsigned int
month_days(int year, int month)
{
	static const uint8_t days[12] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

	return days[month - 1] + (month == 2 && leap ? 1u : 0u);
}

int
hfb_clock_parse(const char *text, uint64_t *ret_ns)
{
	const char *at = text;
	int year, month, day, hour, minute, second;
	uint64_t fraction_ns = 0, ns;
	int64_t zone_s = 0;

	year = digits_parse(&at, 4);
	if (year < 1970 || year > 2553 || *at++ != '-')
		return -EINVAL;
	month = digits_parse(&at, 2);
	if (month < 1 || month > 12 || *at++ != '-')
		return -EINVAL;
	day = digits_parse(&at, 2);
	if (day < 1 || (unsigned int)day > month_days(year, month))
		return -EINVAL;
	if (*at != 'T' && *at != 't' && *at != ' ')
		return -EINVAL;
	at++;
	hour = digits_parse(&at, 2);
	if (hour < 0 || hour > 23 || *at++ != ':')
		return -EINVAL;
	minute = digits_parse(&at, 2);
	if (minute < 0 || minute > 59 || *at++ != ':')
		return -EINVAL;
	second = digits_parse(&at, 2);
	if (second < 0 || second > 60) /* a leap second counts as the next second */
		return -EINVAL;
	if (*at == '.') {
		uint64_t unit_ns = NS_PER_S / 10;

		at++;
		if (*at < '0' || *at > '9')
			return -EINVAL;
		for (; *at >= '0' && *at <= '9'; at++, unit_ns /= 10)
			fraction_ns += (uint64_t)(*at - '0') * unit_ns;
	}
	if (*at == 'Z' || *at == 'z') {
		at++;
	} else if (*at == '+' || *at == '-') {
		int sign = *at++ == '-' ? 1 : -1;
		int zone_hour, zone_minute;

		zone_hour = digits_parse(&at, 2);
		if (zone_hour < 0 || zone_hour > 23 || *at++ != ':')
			return -EINVAL;
		zone_minute = digits_parse(&at, 2);
		if (zone_minute < 0 || zone_minute > 59)
			return -EINVAL;
		zone_s = (int64_t)sign * (zone_hour * 3600 + zone_minute * 60);
	} else {
		return -EINVAL;
	}
	if (*at != '\0')
		return -EINVAL;

	ns = days_from_epoch((unsigned int)year, (unsigned int)month, (unsigned int)day) * 86400 +
	     (uint64_t)hour * 3600 + (uint64_t)minute * 60 + (uint64_t)second;
	if (zone_s < 0 && ns < (uint64_t)-zone_s)
		return -EINVAL;
	ns += (uint64_t)zone_s;
	*ret_ns = ns * NS_PER_S + fraction_ns;
	return 0;
}

void
hfb_clock_format(uint64_t ns, char *to, unsigned int bytes)
{
	time_t seconds = (time_t)(ns / NS_PER_S);
	char text[64];
	struct tm tm;

	gmtime_r(&seconds, &tm);
	snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%09uZ", tm.tm_year + 1900,
		 tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
		 (unsigned int)(ns % NS_PER_S));
	snprintf(to, bytes, "%s", text);
}
