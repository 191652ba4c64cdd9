/* SPDX-License-Identifier: Apache-2.0 */
/*
 * torture-scatter DATA PREFIX TOPICS EVENTS: events into each of many topics named
 * PREFIX00000 and so on, a group of topics at a time; prints how many were acked.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hfbus/hfbus.h>

#define GROUP 256u

static int
fail(const char *what, const struct hfb_err *err)
{
	fprintf(stderr, "torture-scatter: %s: %s\n", what, err->text);
	return 1;
}

int
main(int argc, char **argv)
{
	struct hfb_bus_config bus_config = { 0 };
	struct hfb_pub *pubs[GROUP];
	unsigned long topics, events, acked = 0;
	struct hfb_bus *bus;
	struct hfb_err err;

	if (argc != 5)
		return 2;
	bus_config.data_dir = argv[1];
	topics = strtoul(argv[3], NULL, 10);
	events = strtoul(argv[4], NULL, 10);
	if (hfb_bus_open(&bus_config, &bus, &err) < 0)
		return fail("open", &err);
	for (unsigned long first = 0; first < topics; first += GROUP) {
		unsigned long n = topics - first < GROUP ? topics - first : GROUP;

		for (unsigned long i = 0; i < n; i++) {
			char name[300], value[64];
			struct hfb_pub_config config = { .topic = name, .partition = 0, .ack = -1 };

			snprintf(name, sizeof(name), "%s%05lu", argv[2], first + i);
			if (hfb_pub_open(bus, &config, &pubs[i], &err) < 0)
				return fail(name, &err);
			for (unsigned long k = 0; k < events; k++) {
				struct hfb_event event = { .value = value };
				int r;

				event.value_size =
					(uint32_t)snprintf(value, sizeof(value), "%s %lu", name, k);
				while ((r = hfb_pub_send(pubs[i], &event, &err)) == -EAGAIN)
					if (hfb_pub_poll(pubs[i], 10, &err) < 0)
						return fail(name, &err);
				if (r < 0)
					return fail(name, &err);
			}
			if (hfb_pub_poll(pubs[i], 0, &err) < 0)
				return fail(name, &err);
		}
		for (unsigned long i = 0; i < n; i++) {
			struct hfb_pub_stats stats;

			if (hfb_pub_flush(pubs[i], 60000, &err) < 0)
				return fail("flush", &err);
			hfb_pub_stats_get(pubs[i], &stats);
			acked += stats.acked_events;
			hfb_pub_close(pubs[i]);
		}
	}
	hfb_bus_close(bus);
	printf("%lu\n", acked);
	return 0;
}
