/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sub_rig.c - see sub_rig.h.
 */
#include "sub_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <hfbus/wire.h>

#include "counters.h"
#include "crc32c.h"
#include "hfb_test_main.h"

#define must(x)                                                                                    \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #x,                 \
				strerror(errno));                                                  \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static struct hfb_positions *
slot(struct rig *rig)
{
	return &rig->positions[rig->handle];
}

/* Answers. ------------------------------------------------------------------------ */

static void
answer(int fd, const struct hfb_ipc *ask, uint32_t error, const void *body, size_t size,
       const int *fds, uint32_t fds_count)
{
	struct hfb_ipc head = *ask;
	struct iovec parts[2] = { { &head, sizeof(head) }, { (void *)(uintptr_t)body, size } };
	char room[CMSG_SPACE(sizeof(int) * 4)];
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };

	head.flags = HFB_IPC_ANSWER;
	head.error = error;
	head.size = (uint32_t)(sizeof(head) + size);
	if (fds_count > 0) {
		struct cmsghdr *c;

		memset(room, 0, sizeof(room));
		message.msg_control = room;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * fds_count);
		c = CMSG_FIRSTHDR(&message);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * fds_count);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * fds_count);
	}
	(void)!sendmsg(fd, &message, MSG_NOSIGNAL);
}

static void
refuse(int fd, const struct hfb_ipc *ask, int error)
{
	answer(fd, ask, (uint32_t)error, "refused", 8, NULL, 0);
}

void
rig_segment_path(const struct rig *rig, uint64_t position, char *to, size_t size)
{
	snprintf(to, size, "%s/%020llu.seg", rig->folder,
		 (unsigned long long)(position - position % RIG_SEGMENT_BYTES));
}

static void
segment_get(struct rig *rig, int client, const struct hfb_ipc *ask, const struct hfb_ipc_read *r)
{
	struct hfb_ipc_segment s = {
		.handle = r->handle,
		.base_position = r->position - r->position % RIG_SEGMENT_BYTES,
		.capacity_bytes = RIG_SEGMENT_BYTES,
		.end_position = UINT64_MAX,
	};
	int fd;

	if (r->position < __atomic_load_n(&slot(rig)->start.position, __ATOMIC_ACQUIRE)) {
		refuse(client, ask, ENODATA);
		return;
	}
	rig_segment_path(rig, r->position, s.path, sizeof(s.path));
	fd = open(s.path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		refuse(client, ask, ENODATA);
		return;
	}
	answer(client, ask, 0, &s, sizeof(s), &fd, 1);
	close(fd);
}

static void
lookup(struct rig *rig, int client, const struct hfb_ipc *ask, const struct hfb_ipc_lookup *l)
{
	struct hfb_ipc_place_answer a = { .code = HFB_WIRE_OK };
	struct hfb_positions *p = slot(rig);

	a.place.leader_epoch = rig->epoch;
	a.place.position = p->start.position;
	a.place.offset = p->start.offset;
	switch (l->from) {
	case HFB_FROM_PLACE:
		a.place.position = l->value;
		if (l->leader_epoch != 0 && l->leader_epoch == rig->ended_epoch &&
		    l->value > rig->ended_at) {
			a.code = HFB_WIRE_TRUNCATED;
			a.place.leader_epoch = rig->ended_epoch;
			a.place.position = rig->ended_at;
			a.place.offset = rig->ended_offset;
		} else if (l->value < p->start.position) {
			a.code = HFB_WIRE_BELOW_START;
			a.place.position = p->start.position;
			a.place.offset = p->start.offset;
		}
		break;
	case HFB_FROM_LATEST:
		a.place.position = __atomic_load_n(&p->committed.position, __ATOMIC_ACQUIRE);
		a.place.offset = p->committed.offset;
		break;
	default:
		/* all ways lead to the start: readers scan on from a batch before the place */
		if (l->from == HFB_FROM_OFFSET && l->leader_epoch != 0 &&
		    l->leader_epoch == rig->ended_epoch && l->value > rig->ended_offset) {
			a.code = HFB_WIRE_TRUNCATED;
			a.place.leader_epoch = rig->ended_epoch;
			a.place.position = rig->ended_at;
			a.place.offset = rig->ended_offset;
		} else if (l->from == HFB_FROM_OFFSET && l->value < p->start.offset) {
			a.code = HFB_WIRE_BELOW_START;
		} else if (l->from == HFB_FROM_OFFSET && l->value > p->committed.offset) {
			a.code = HFB_WIRE_AT_END;
			a.place.position = p->committed.position;
			a.place.offset = p->committed.offset;
		}
		break;
	}
	answer(client, ask, 0, &a, sizeof(a), NULL, 0);
}

static void
channel_open(struct rig *rig, int client, const struct hfb_ipc *ask)
{
	struct hfb_ipc_channel a = { .session = 42, .bytes = 4096 + 2 * 65536 };
	struct hfb_channel *c;
	int fds[2];

	if (rig->channel_fd < 0) {
		rig->channel_fd = memfd_create("channel", MFD_CLOEXEC);
		must(ftruncate(rig->channel_fd, (off_t)a.bytes) == 0);
		rig->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		c = mmap(NULL, a.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, rig->channel_fd, 0);
		must(c != MAP_FAILED);
		c->magic = HFB_CHANNEL_MAGIC;
		c->version = 1;
		c->to_core_offset = 4096;
		c->to_core_bytes = 65536;
		c->to_client_offset = 4096 + 65536;
		c->to_client_bytes = 65536;
		c->session = 42;
		munmap(c, a.bytes);
	}
	fds[0] = rig->channel_fd;
	fds[1] = rig->event_fd;
	answer(client, ask, 0, &a, sizeof(a), fds, 2);
}

/* False: the client is gone. */
static bool
serve(struct rig *rig, int client)
{
	union {
		struct hfb_ipc head;
		uint8_t bytes[4096];
	} m;
	const void *body = m.bytes + sizeof(m.head);
	ssize_t n = recv(client, &m, sizeof(m), 0);

	if (n < (ssize_t)sizeof(m.head))
		return false;
	switch (m.head.type) {
	case HFB_IPC_HELLO: {
		struct hfb_ipc_welcome w = {
			.broker_epoch = rig->epoch,
			.cores = 1,
			.positions_bytes = HFB_PARTITIONS_MAX * sizeof(struct hfb_positions),
		};
		int fds[2] = { rig->positions_fd, rig->counters_fd };

		answer(client, &m.head, 0, &w, sizeof(w), fds, 2);
		break;
	}
	case HFB_IPC_TOPIC_GET: {
		struct {
			struct hfb_ipc_topic_answer head;
			struct hfb_ipc_partition p;
		} a = { .head = { .count = 1 }, .p = { .handle = rig->handle, .udp_port = 7400 } };
		const struct hfb_ipc_topic_get *get = body;

		if (strcmp(get->name, "t") != 0) {
			refuse(client, &m.head, ENOENT);
			break;
		}
		memcpy(a.head.topic.name, "t", 2);
		a.head.topic.uuid = rig->topic;
		a.head.topic.partitions = 1;
		a.head.topic.commit_stage = HFB_STAGE_DURABLE;
		a.head.first_partition = get->first_partition;
		if (get->first_partition > 0)
			a.head.count = 0;
		answer(client, &m.head, 0, &a, sizeof(a), NULL, 0);
		break;
	}
	case HFB_IPC_RING_GET: {
		struct hfb_ipc_ring a = { .handle = rig->handle,
					  .generation = rig->ring_generation,
					  .ring_bytes = rig->ring_bytes };

		answer(client, &m.head, 0, &a, sizeof(a), &rig->ring_fd, 1);
		break;
	}
	case HFB_IPC_SEGMENT_GET:
		segment_get(rig, client, &m.head, body);
		break;
	case HFB_IPC_LOOKUP:
		lookup(rig, client, &m.head, body);
		break;
	case HFB_IPC_CHANNEL_OPEN:
		channel_open(rig, client, &m.head);
		break;
	case HFB_IPC_CHANNEL_CLOSE:
		answer(client, &m.head, 0, NULL, 0, NULL, 0);
		break;
	default:
		refuse(client, &m.head, EOPNOTSUPP);
	}
	return true;
}

static void *
run(void *arg)
{
	struct rig *rig = arg;

	for (;;) {
		struct pollfd p[18] = { { .fd = rig->wake[0], .events = POLLIN },
					{ .fd = rig->listen_fd, .events = POLLIN } };
		uint32_t n = rig->clients_count;

		for (uint32_t i = 0; i < n; i++)
			p[2 + i] = (struct pollfd){ .fd = rig->clients[i], .events = POLLIN };
		if (poll(p, 2 + n, -1) < 0)
			continue;
		if (p[0].revents != 0)
			return NULL;
		for (uint32_t i = n; i-- > 0;) {
			if (p[2 + i].revents == 0 || serve(rig, rig->clients[i]))
				continue;
			close(rig->clients[i]);
			rig->clients[i] = rig->clients[--rig->clients_count];
		}
		if (p[1].revents != 0 && rig->clients_count < 16) {
			int fd = accept4(rig->listen_fd, NULL, NULL, SOCK_CLOEXEC);

			if (fd >= 0)
				rig->clients[rig->clients_count++] = fd;
		}
	}
}

/* The log. ---------------------------------------------------------------------------- */

void
rig_publish(struct rig *rig)
{
	struct hfb_positions *p = slot(rig);

	p->received.offset = rig->offset;
	__atomic_store_n(&p->received.position, rig->position, __ATOMIC_RELEASE);
	if (!rig->durable_too)
		return;
	p->durable.offset = rig->offset;
	__atomic_store_n(&p->durable.position, rig->position, __ATOMIC_RELEASE);
	__atomic_store_n(&p->filed, rig->position, __ATOMIC_RELEASE);
	p->committed.offset = rig->offset;
	__atomic_store_n(&p->committed.position, rig->position, __ATOMIC_RELEASE);
}

static void
file_write(struct rig *rig, uint64_t position, const uint8_t *bytes, uint64_t size)
{
	char path[320];
	int fd;

	rig_segment_path(rig, position, path, sizeof(path));
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	must(fd >= 0);
	must(pwrite(fd, bytes, size,
		    (off_t)(HFB_SEGMENT_HEADER_BYTES + position % RIG_SEGMENT_BYTES)) ==
	     (ssize_t)size);
	close(fd);
}

static void
batch_write(struct rig *rig, const struct hfb_batch *fields, const void *payload, uint32_t bytes)
{
	struct hfb_positions *p = slot(rig);
	uint8_t *at = rig->ring + (rig->position & (rig->ring_bytes - 1));
	struct hfb_batch b = *fields;

	b.size = HFB_BATCH_HEADER_BYTES + bytes;
	b.version = HFB_BATCH_VERSION;
	b.base_offset = rig->offset;
	b.leader_epoch = rig->epoch;
	if (b.timestamp_ns == 0)
		b.timestamp_ns = 1000 + rig->offset;
	if (payload != NULL)
		b.payload_crc = hfb_crc32c(0, payload, bytes);
	b.header_crc = hfb_batch_crc(rig->seed, rig->position, &b);
	/* as the owner does: first say what may be overwritten, then do it */
	if (p->intent.position < rig->position + b.size)
		__atomic_store_n(&p->intent.position, rig->position + b.size, __ATOMIC_SEQ_CST);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	memcpy(at, &b, sizeof(b));
	if (payload != NULL)
		memcpy(at + sizeof(b), payload, bytes);
	else
		memset(at + sizeof(b), 0, bytes);
	file_write(rig, rig->position, at, b.size);
	rig->position += b.size;
	rig->offset += b.count;
}

void
rig_append_bytes(struct rig *rig, const struct hfb_batch *fields, const void *payload,
		 uint32_t bytes)
{
	uint64_t left = RIG_SEGMENT_BYTES - rig->position % RIG_SEGMENT_BYTES;
	uint64_t need = HFB_BATCH_HEADER_BYTES + bytes;

	/* batches never cross a segment: padding fills its end */
	while (left < need || (left > need && left - need < HFB_BATCH_HEADER_BYTES)) {
		struct hfb_batch padding = { .flags = HFB_BATCH_CONTROL,
					     .base_sequence = HFB_CONTROL_PADDING };
		uint64_t step = left > 262144 ? 131072 : left;

		batch_write(rig, &padding, NULL, (uint32_t)(step - HFB_BATCH_HEADER_BYTES));
		left = RIG_SEGMENT_BYTES - rig->position % RIG_SEGMENT_BYTES;
	}
	batch_write(rig, fields, payload, bytes);
	rig_publish(rig);
}

void
rig_append(struct rig *rig, uint32_t count)
{
	struct hfb_batch fields = { .count = count };
	uint8_t payload[65536];
	uint32_t used = 0;

	for (uint32_t i = 0; i < count; i++) {
		struct hfb_record r = { .key_size = HFB_KEY_NULL };
		char text[160];
		int n = snprintf(text, sizeof(text), "event %llu %0*u",
				 (unsigned long long)(rig->offset + i), 80, i);

		r.value_size = (uint32_t)n;
		memcpy(payload + used, &r, sizeof(r));
		memset(payload + used + sizeof(r), 0, ((uint32_t)n + 7) & ~7u);
		memcpy(payload + used + sizeof(r), text, (size_t)n);
		used += (uint32_t)hfb_record_bytes(r.value_size, r.key_size, 0);
		must(used < sizeof(payload) - 256);
	}
	rig_append_bytes(rig, &fields, payload, used);
}

static void
ring_make(struct rig *rig, uint64_t bytes)
{
	rig->ring_bytes = bytes;
	rig->ring_fd = memfd_create("ring", MFD_CLOEXEC);
	must(ftruncate(rig->ring_fd, (off_t)bytes) == 0);
	rig->ring = mmap(NULL, bytes * 2, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < 2; i++)
		must(mmap(rig->ring + (size_t)i * bytes, bytes, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_FIXED, rig->ring_fd, 0) != MAP_FAILED);
}

static void
slot_open(struct rig *rig)
{
	struct hfb_positions *p = slot(rig);

	p->ring_bytes = (uint32_t)rig->ring_bytes;
	p->ring_generation = rig->ring_generation;
	p->leader_epoch = rig->epoch;
	p->state = HFB_PARTITION_OPEN;
	__atomic_store_n(&p->handle_used, 1, __ATOMIC_RELEASE);
}

void
rig_topic_anew(struct rig *rig)
{
	char path[320];

	for (uint64_t at = 0; at <= rig->position; at += RIG_SEGMENT_BYTES) {
		rig_segment_path(rig, at, path, sizeof(path));
		unlink(path);
	}
	__atomic_store_n(&slot(rig)->state, HFB_PARTITION_DELETED, __ATOMIC_RELEASE);
	rig->topic.bytes[0]++;
	rig->seed = hfb_batch_seed(&rig->topic, 0);
	rig->position = rig->offset = 0;
	rig->handle++;
	slot_open(rig);
}

void
rig_ring_grow_begin(struct rig *rig)
{
	struct hfb_positions *p = slot(rig);

	munmap(rig->ring, rig->ring_bytes * 2);
	close(rig->ring_fd);
	ring_make(rig, rig->ring_bytes * 4);
	__atomic_store_n(&p->ring_bytes, (uint32_t)rig->ring_bytes, __ATOMIC_RELAXED);
	__atomic_store_n(&p->intent.position, rig->position + rig->ring_bytes, __ATOMIC_RELEASE);
}

void
rig_ring_grow_end(struct rig *rig)
{
	rig->ring_generation++;
	__atomic_store_n(&slot(rig)->ring_generation, rig->ring_generation, __ATOMIC_RELEASE);
}

/* Start and stop. ------------------------------------------------------------------------ */

struct rig *
rig_start(const char *folder)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct rig *rig = calloc(1, sizeof(*rig));
	static unsigned int number;
	char path[320];
	struct hfb_err err;

	must(rig != NULL);
	if (folder != NULL) {
		snprintf(rig->folder, sizeof(rig->folder), "%s", folder);
	} else {
		snprintf(rig->folder, sizeof(rig->folder), "%s/node%u", hfb_test_folder(),
			 number++);
		must(mkdir(rig->folder, 0700) == 0);
	}
	memset(rig->topic.bytes, 0x5a, sizeof(rig->topic.bytes));
	rig->seed = hfb_batch_seed(&rig->topic, 0);
	rig->epoch = 1;
	rig->handle = RIG_HANDLE;
	rig->durable_too = true;
	rig->channel_fd = rig->event_fd = -1;

	rig->positions_fd = memfd_create("positions", MFD_CLOEXEC);
	must(ftruncate(rig->positions_fd, HFB_PARTITIONS_MAX * sizeof(struct hfb_positions)) == 0);
	rig->positions = mmap(NULL, HFB_PARTITIONS_MAX * sizeof(struct hfb_positions),
			      PROT_READ | PROT_WRITE, MAP_SHARED, rig->positions_fd, 0);
	must(rig->positions != MAP_FAILED);
	snprintf(path, sizeof(path), "%s/counters", rig->folder);
	must(hfb_counters_create(path, &rig->counters, &err) == 0);
	rig->counters_fd = hfb_counters_fd(rig->counters);
	ring_make(rig, RIG_RING_BYTES);
	rig->ring_generation = 1;
	slot_open(rig);

	snprintf(address.sun_path, sizeof(address.sun_path), "%.90s/hfbusd.sock", rig->folder);
	unlink(address.sun_path);
	rig->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	must(bind(rig->listen_fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	must(listen(rig->listen_fd, 8) == 0);
	must(pipe2(rig->wake, O_CLOEXEC) == 0);
	must(pthread_create(&rig->thread, NULL, run, rig) == 0);
	return rig;
}

void
rig_resume(struct rig *rig, uint32_t epoch, uint64_t position, uint64_t offset)
{
	rig->ended_epoch = epoch - 1;
	rig->ended_at = position;
	rig->ended_offset = offset;
	rig->epoch = epoch;
	slot(rig)->leader_epoch = epoch;
	rig->position = position;
	rig->offset = offset;
	__atomic_store_n(&slot(rig)->intent.position, position, __ATOMIC_RELEASE);
	rig_publish(rig);
}

void
rig_stop(struct rig *rig)
{
	must(write(rig->wake[1], "x", 1) == 1);
	pthread_join(rig->thread, NULL);
	for (uint32_t i = 0; i < rig->clients_count; i++)
		close(rig->clients[i]);
	close(rig->listen_fd);
	close(rig->wake[0]);
	close(rig->wake[1]);
	munmap(rig->positions, HFB_PARTITIONS_MAX * sizeof(struct hfb_positions));
	munmap(rig->ring, rig->ring_bytes * 2);
	close(rig->positions_fd);
	close(rig->ring_fd);
	if (rig->channel_fd >= 0)
		close(rig->channel_fd);
	if (rig->event_fd >= 0)
		close(rig->event_fd);
	hfb_counters_destroy(rig->counters);
	free(rig);
}
