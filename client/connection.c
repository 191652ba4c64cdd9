/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connection.c - open, lose and find hfbusd again.
 */
#include "connection.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "pub_private.h"

#define CHECK_INTERVAL_NS 5000000ull /* look at the socket at most this often */
#define RETRY_FIRST_NS	  10000000ull
#define RETRY_LAST_NS	  250000000ull
#define UDP_SILENCE_NS	  1500000000ull /* asked and not answered: the session is gone */

uint64_t
hfb_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

#define COARSE_TSC (1u << 14) /* 3 to 16 us on what runs today */

uint64_t
hfb_connection_now(struct hfb_bus *bus)
{
	uint64_t tsc = hfb_clock_tsc();

	if (tsc - bus->coarse_tsc >= COARSE_TSC || bus->coarse_ns == 0) {
		bus->coarse_tsc = tsc;
		bus->coarse_ns = hfb_now_ns();
	}
	return bus->coarse_ns;
}

/* Finding a bus. ------------------------------------------------------------ */

static int
find_checked(char *to, size_t size, const char *from, struct hfb_err *err)
{
	if (strlen(from) >= size)
		return hfb_err_set(err, -ENAMETOOLONG,
				   "the data folder's path is longer than %zu "
				   "bytes: see --data",
				   size - 1);
	memmove(to, from, strlen(from) + 1);
	return 0;
}

int
hfb_bus_find(const char *data_dir, char *to, size_t size, struct hfb_err *err)
{
	const char *from = data_dir, *runtime;
	char link[512], target[4096];
	ssize_t n;

	if (from == NULL || *from == '\0')
		from = getenv("HFBUS_DATA");
	if (from != NULL && *from != '\0')
		return find_checked(to, size, from, err);

	runtime = getenv("XDG_RUNTIME_DIR");
	if (runtime != NULL && *runtime == '/')
		snprintf(link, sizeof(link), "%s/hfbus/default", runtime);
	else if (geteuid() == 0)
		snprintf(link, sizeof(link), "/run/hfbus/default");
	else
		snprintf(link, sizeof(link), "/tmp/hfbus-%u/hfbus/default",
			 (unsigned int)geteuid());
	n = readlink(link, target, sizeof(target) - 1);
	if (n <= 0)
		return hfb_err_set(err, -ENOENT,
				   "no running bus is known here (%s is missing): "
				   "start one with 'hfbus up', or name its folder with --data or "
				   "HFBUS_DATA",
				   link);
	target[n] = '\0';
	return find_checked(to, size, target, err);
}

/* Open, close, lose, find again. --------------------------------------------- */

static int
local_hello(struct hfb_bus *bus, struct hfb_err *err)
{
	struct hfb_ipc_welcome welcome;
	struct hfb_counters_view counters = { 0 };
	struct stat st;
	size_t size = sizeof(welcome);
	uint32_t n = 0;
	void *positions;
	int fds[2], r;

	r = hfb_connection_dial(bus, err);
	if (r < 0)
		return r;
	r = hfb_connection_ask(bus, HFB_IPC_HELLO, NULL, 0, &welcome, &size, fds, 2, &n, err);
	if (r < 0)
		goto fail_socket;
	if (size < sizeof(welcome) || n != 2 ||
	    welcome.positions_bytes < HFB_PARTITIONS_MAX * sizeof(struct hfb_positions) ||
	    fstat(fds[0], &st) < 0 || (uint64_t)st.st_size < welcome.positions_bytes) {
		r = hfb_err_set(err, -EPROTO,
				"hfbusd at %s sent a welcome this library does not "
				"understand",
				bus->data_dir);
		goto fail_fds;
	}
	positions = mmap(NULL, welcome.positions_bytes, PROT_READ, MAP_SHARED, fds[0], 0);
	if (positions == MAP_FAILED) {
		r = hfb_err_set(err, -errno, "cannot map hfbusd's positions: %s", strerror(errno));
		goto fail_fds;
	}
	r = hfb_counters_map(fds[1], &counters, err);
	if (r < 0) {
		munmap(positions, welcome.positions_bytes);
		goto fail_fds;
	}
	hfb_connection_fds_close(fds, n);
	if (bus->positions != NULL)
		munmap((void *)bus->positions, bus->positions_bytes);
	hfb_counters_unmap(&bus->counters);
	bus->positions = (const struct hfb_positions *)positions;
	bus->positions_bytes = welcome.positions_bytes;
	bus->counters = counters;
	bus->cores = welcome.cores;
	bus->broker_epoch = welcome.broker_epoch;
	bus->tsc_hz = welcome.tsc_hz;
	return 0;

fail_fds:
	hfb_connection_fds_close(fds, n);
fail_socket:
	if (bus->socket >= 0)
		close(bus->socket);
	bus->socket = -1;
	return r;
}

static void
links_close(struct hfb_bus *bus)
{
	for (uint32_t i = 0; i < HFB_CORES_MAX; i++) {
		struct hfb_link *link = bus->links[i];

		bus->links[i] = NULL; /* first: closing may find hfbusd gone and come here again */
		hfb_link_close(link);
	}
	bus->links_end = 0;
}

static int
connect_once(struct hfb_bus *bus, uint32_t timeout_ms, struct hfb_err *err)
{
	int r;

	if (bus->local) {
		r = local_hello(bus, err);
	} else {
		r = hfb_link_udp_open(bus->host, bus->udp_port, timeout_ms, &bus->links[0], err);
		if (r == 0 && bus->links[0] != NULL) {
			bus->broker_epoch = bus->links[0]->broker_epoch;
			bus->links_end = 1;
		}
	}
	if (r < 0)
		return r;
	bus->up = true;
	bus->generation++;
	bus->retry_ns = RETRY_FIRST_NS;
	bus->checked_ns = hfb_now_ns();
	return 0;
}

static int
udp_parse(struct hfb_bus *bus, const char *text, struct hfb_err *err)
{
	const char *colon = strrchr(text, ':');
	char *end = NULL;
	unsigned long port;
	size_t n;

	if (colon == NULL || colon == text || colon[1] == '\0')
		goto bad;
	port = strtoul(colon + 1, &end, 10);
	if (*end != '\0' || port == 0 || port > 65535)
		goto bad;
	n = (size_t)(colon - text);
	if (text[0] == '[' && colon[-1] == ']') {
		text++;
		n -= 2;
	}
	if (n == 0 || n >= sizeof(bus->host))
		goto bad;
	memcpy(bus->host, text, n);
	bus->host[n] = '\0';
	bus->udp_port = (uint16_t)port;
	return 0;
bad:
	return hfb_err_set(err, -EINVAL, "'%s' is not HOST:PORT, see --udp", text);
}

int
hfb_bus_open(const struct hfb_bus_config *config, struct hfb_bus **ret_bus, struct hfb_err *err)
{
	static const struct hfb_bus_config defaults;
	struct hfb_bus *bus;
	int r;

	if (config == NULL)
		config = &defaults;
	bus = calloc(1, sizeof(*bus));
	if (bus == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	bus->socket = -1;
	bus->connect_ms = config->connect_ms ? config->connect_ms : HFB_CONNECT_MS_DEFAULT;
	bus->reconnect_ms = config->reconnect_ms ? config->reconnect_ms : HFB_RECONNECT_MS_DEFAULT;
	bus->local = config->udp == NULL;
	if (bus->local)
		r = hfb_bus_find(config->data_dir, bus->data_dir, sizeof(bus->data_dir), err);
	else
		r = udp_parse(bus, config->udp, err);
	if (r == 0)
		r = connect_once(bus, bus->connect_ms, err);
	if (r < 0) {
		hfb_bus_close(bus);
		return r;
	}
	*ret_bus = bus;
	return 0;
}

void
hfb_bus_close(struct hfb_bus *bus)
{
	if (bus == NULL)
		return;
	links_close(bus);
	if (bus->socket >= 0)
		close(bus->socket);
	if (bus->positions != NULL)
		munmap((void *)bus->positions, bus->positions_bytes);
	hfb_counters_unmap(&bus->counters);
	free(bus);
}

void
hfb_connection_lost(struct hfb_bus *bus)
{
	if (!bus->up)
		return;
	bus->up = false;
	bus->down_since_ns = hfb_now_ns();
	bus->next_try_ns = bus->down_since_ns;
	bus->retry_ns = RETRY_FIRST_NS;
	links_close(bus);
	if (bus->socket >= 0)
		close(bus->socket);
	bus->socket = -1;
	/* positions stay mapped: what the dead one published can still be read */
}

static bool
gone(struct hfb_bus *bus, uint64_t now_ns)
{
	struct pollfd p = { .fd = bus->socket, .events = POLLIN | POLLRDHUP };

	for (uint32_t i = 0; i < bus->links_end; i++) {
		struct hfb_link *link = bus->links[i];

		if (link == NULL)
			continue;
		if (link->session_lost)
			return true;
		/* a channel loses nothing; over UDP silence is all there is to go by */
		if (!bus->local && link->asked_ns != 0 && now_ns - link->asked_ns > UDP_SILENCE_NS)
			return true;
	}
	return bus->local && poll(&p, 1, 0) > 0 &&
	       (p.revents & (POLLHUP | POLLRDHUP | POLLERR | POLLNVAL));
}

int
hfb_connection_check(struct hfb_bus *bus, uint64_t now_ns, struct hfb_err *err)
{
	int r;

	if (bus->up) {
		if (now_ns - bus->checked_ns < CHECK_INTERVAL_NS)
			return 0;
		bus->checked_ns = now_ns;
		if (!gone(bus, now_ns))
			return 0;
		hfb_connection_lost(bus);
	}
	if (now_ns >= bus->next_try_ns) {
		r = connect_once(bus, bus->connect_ms < 300 ? bus->connect_ms : 300, err);
		if (r == 0)
			return 0;
		if (r == -EPROTO)
			return r;
		bus->next_try_ns = hfb_now_ns() + bus->retry_ns;
		bus->retry_ns =
			bus->retry_ns * 2 > RETRY_LAST_NS ? RETRY_LAST_NS : bus->retry_ns * 2;
	}
	if (bus->reconnect_ms != UINT32_MAX &&
	    now_ns > bus->down_since_ns + (uint64_t)bus->reconnect_ms * 1000000ull)
		return hfb_err_set(err, -ETIMEDOUT, "hfbusd at %s is gone for more than %u ms",
				   bus->local ? bus->data_dir : bus->host, bus->reconnect_ms);
	return hfb_err_set(err, -ENOTCONN, "hfbusd at %s is gone",
			   bus->local ? bus->data_dir : bus->host);
}

const char *
hfb_bus_data_dir(const struct hfb_bus *bus)
{
	return bus->local ? bus->data_dir : NULL;
}

bool
hfb_bus_connected(struct hfb_bus *bus)
{
	struct hfb_err err;

	bus->checked_ns = 0;
	return hfb_connection_check(bus, hfb_now_ns(), &err) == 0;
}

uint64_t
hfb_bus_epoch(const struct hfb_bus *bus)
{
	return bus->broker_epoch;
}

/* Links and addresses. -------------------------------------------------------- */

int
hfb_connection_link(struct hfb_bus *bus, uint16_t core, uint16_t udp_port,
		    struct hfb_link **ret_link, struct hfb_err *err)
{
	int r = 0;

	if (core >= HFB_CORES_MAX)
		return hfb_err_set(err, -EPROTO,
				   "hfbusd named poll core %u, more than %u are not "
				   "known here",
				   core, HFB_CORES_MAX);
	if (bus->links[core] == NULL) {
		if (bus->local)
			r = hfb_link_channel_open(bus, core, &bus->links[core], err);
		else
			r = hfb_link_udp_open(bus->host, udp_port, 1000, &bus->links[core], err);
	}
	if (r < 0)
		return r;
	if (bus->links_end <= core)
		bus->links_end = core + 1u;
	*ret_link = bus->links[core];
	return 0;
}

uint32_t
hfb_connection_receive(struct hfb_bus *bus, uint64_t now_ns)
{
	const uint8_t *frame;
	uint32_t size, taken = 0;

	for (uint32_t i = 0; i < bus->links_end; i++) {
		struct hfb_link *link = bus->links[i];

		if (link == NULL)
			continue;
		for (uint32_t n = 0; n < 256; n++) {
			struct hfb_frame head;
			int r = hfb_link_receive(link, &frame, &size);

			if (r < 0)
				link->session_lost = true;
			if (r != 1)
				break;
			memcpy(&head, frame, sizeof(head));
			link->heard_ns = now_ns;
			link->asked_ns = 0;
			taken++;
			if (head.type == HFB_FRAME_ACK)
				hfb_pubs_ack_frame(bus, frame, size, now_ns);
			else if (head.type == HFB_FRAME_ERROR &&
				 size >= sizeof(struct hfb_frame_error)) {
				struct hfb_frame_error error;

				memcpy(&error, frame, sizeof(error));
				if (error.code == HFB_WIRE_NO_SESSION)
					link->session_lost = true;
				hfb_pubs_error_frame(bus, &error);
			} else if (head.type == HFB_FRAME_CLOSE) {
				link->session_lost = true;
			}
		}
	}
	return taken;
}

int
hfb_connection_auto_create(struct hfb_bus *bus, const char *topic, struct hfb_err *err)
{
	struct hfb_ipc_topic_get ask = { .flags = HFB_TOPIC_GET_CREATE };
	uint8_t answer[HFB_IPC_BYTES_MAX - sizeof(struct hfb_ipc)];
	size_t size = sizeof(answer);

	memcpy(ask.name, topic, strlen(topic) + 1);
	return hfb_connection_ask(bus, HFB_IPC_TOPIC_GET, &ask, sizeof(ask), answer, &size, NULL, 0,
				  NULL, err);
}

int
hfb_connection_resolve(struct hfb_bus *bus, const char *topic, uint32_t partition,
		       struct hfb_partition_address *ret, struct hfb_err *err)
{
	struct {
		struct hfb_ipc_topic_answer head;
		struct hfb_ipc_partition partitions[1024];
	} answer;
	struct hfb_ipc_topic_get ask = { .first_partition = partition };
	size_t size = sizeof(answer);
	int r;

	if (topic == NULL || *topic == '\0' || strlen(topic) > HFB_TOPIC_NAME_MAX)
		return hfb_err_set(err, -EINVAL, "a topic's name has 1 to %u bytes",
				   HFB_TOPIC_NAME_MAX);
	memset(ret, 0, sizeof(*ret));
	if (!bus->local) {
		struct hfb_link *link;

		r = hfb_connection_link(bus, 0, bus->udp_port, &link, err);
		if (r < 0)
			return r;
		return hfb_metadata_ask(link, topic, partition, bus->connect_ms, ret, err);
	}
	memcpy(ask.name, topic, strlen(topic) + 1);
	r = hfb_connection_ask(bus, HFB_IPC_TOPIC_GET, &ask, sizeof(ask), &answer, &size, NULL, 0,
			       NULL, err);
	if (r == -EINVAL && partition > 0) {
		/* beyond the last: ask how many there are, to say so */
		ask.first_partition = 0;
		size = sizeof(answer);
		r = hfb_connection_ask(bus, HFB_IPC_TOPIC_GET, &ask, sizeof(ask), &answer, &size,
				       NULL, 0, NULL, err);
	}
	if (r < 0)
		return r;
	if (size < sizeof(answer.head))
		return hfb_err_set(err, -EPROTO, "hfbusd's answer about topic %s is too short",
				   topic);
	if (answer.head.topic.flags & HFB_TOPIC_DELETED)
		return hfb_err_set(err, -ENOENT, "topic %s was deleted", topic);
	if (partition >= answer.head.topic.partitions || answer.head.count == 0 ||
	    answer.head.first_partition != partition ||
	    size < sizeof(answer.head) + sizeof(answer.partitions[0]))
		return hfb_err_set(err, -ERANGE, "topic %s has partitions 0 to %u: see --partition",
				   topic, answer.head.topic.partitions - 1);
	ret->topic = answer.head.topic.uuid;
	ret->partitions = answer.head.topic.partitions;
	ret->commit_stage = answer.head.topic.commit_stage;
	ret->handle = answer.partitions[0].handle;
	ret->core = answer.partitions[0].core;
	ret->udp_port = answer.partitions[0].udp_port;
	if (ret->handle >= HFB_PARTITIONS_MAX)
		return hfb_err_set(err, -EPROTO, "hfbusd named handle %u of topic %s", ret->handle,
				   topic);
	{
		uint32_t ring =
			__atomic_load_n(&bus->positions[ret->handle].ring_bytes, __ATOMIC_ACQUIRE);

		ret->batch_bytes_max = ring / 4 > HFB_BATCH_BYTES_MAX || ring == 0
					       ? HFB_BATCH_BYTES_MAX
					       : ring / 4;
	}
	return 0;
}
