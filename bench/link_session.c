/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link_session.c - to the bus over a DPDK port: who has its address, a session there, and
 * where a topic's partitions are. All of it before anything is measured.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "bench.h"
#include "checksum.h"
#include "link_memif.h"

#define LINK_WAIT_MS 15000u
#define ANSWER_NS    5000000000ull
#define ASK_AGAIN_NS 100000000ull
#define PORT_FIRST   20000u
#define ARP_BYTES    28u
#define UDP_AT	     34u

/* DPDK is begun once a process; repetitions share the port. */
static struct bench_dpdk dpdk;

/* The bus must not lose its peer while it sends: by now it has nothing to send. */
static void
port_leave(void)
{
	usleep(20000);
	bench_dpdk_close(&dpdk);
}

/* "socket=PATH" of transport memif is "net_memif0,role=client,socket=PATH". */
static void
device_name(const struct bench_link_config *config, char *to, size_t size)
{
	const char *role = strcmp(config->transport, "memif") == 0 ? "role=client," : "";

	if (strncmp(config->device, "net_", 4) == 0 || strchr(config->device, ':') != NULL)
		snprintf(to, size, "%s", config->device);
	else
		snprintf(to, size, "net_%s0,%s%s", config->transport, role, config->device);
}

static int
port_begin(const struct bench_link_config *config, struct hfb_err *err)
{
	char device[512];
	int r;

	if (dpdk.open)
		return 0;
	if (config->device == NULL)
		return hfb_err_set(err, -EINVAL,
				   "which DPDK device, for instance"
				   " net_memif0,role=client,socket=PATH,socket-abstract=no?"
				   " See --device");
	device_name(config, device, sizeof(device));
	r = bench_dpdk_open(&dpdk, device, config->cpu, err);
	if (r < 0)
		return r;
	atexit(port_leave);
	return bench_dpdk_link_wait(&dpdk, LINK_WAIT_MS, err);
}

static void
packet_send(const struct link_way *way, const uint8_t *bytes, uint32_t size)
{
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(way->dpdk->pool);
	char *to = mbuf == NULL ? NULL : rte_pktmbuf_append(mbuf, (uint16_t)size);

	if (to == NULL)
		return;
	memcpy(to, bytes, size);
	if (rte_eth_tx_burst(way->dpdk->port, 0, &mbuf, 1) != 1)
		rte_pktmbuf_free(mbuf);
}

/* ARP -------------------------------------------------------------------------------------- */

static bool
arp_answer(struct link_way *way, const struct rte_mbuf *mbuf)
{
	static const uint8_t head[8] = { 0, 1, 8, 0, 6, 4, 0, 2 };
	const uint8_t *frame = rte_pktmbuf_mtod(mbuf, const uint8_t *);

	if (mbuf->data_len < 14 + ARP_BYTES || frame[12] != 8 || frame[13] != 6 ||
	    memcmp(frame + 14, head, sizeof(head)) != 0 || memcmp(frame + 28, way->bus_ip, 4) != 0)
		return false;
	memcpy(way->bus_mac, frame + 22, 6);
	return true;
}

static int
arp(struct link_way *way, struct hfb_err *err)
{
	uint8_t ask[60] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, [12] = 8, [13] = 6 };
	static const uint8_t head[8] = { 0, 1, 8, 0, 6, 4, 0, 1 };
	uint64_t begin = bench_now_ns(), now = begin, again = begin;

	memcpy(ask + 6, way->dpdk->mac, 6);
	memcpy(ask + 14, head, sizeof(head));
	memcpy(ask + 22, way->dpdk->mac, 6);
	memcpy(ask + 28, way->own_ip, 4);
	memcpy(ask + 38, way->bus_ip, 4);
	for (; now - begin < ANSWER_NS && !bench_stop; now = bench_now_ns()) {
		struct rte_mbuf *mbufs[BENCH_DPDK_BURST];
		uint16_t n;
		bool found = false;

		if (now >= again) {
			packet_send(way, ask, sizeof(ask));
			again = now + ASK_AGAIN_NS;
		}
		n = rte_eth_rx_burst(way->dpdk->port, 0, mbufs, BENCH_DPDK_BURST);
		for (uint16_t i = 0; i < n; i++)
			found = arp_answer(way, mbufs[i]) || found;
		rte_pktmbuf_free_bulk(mbufs, n);
		if (found)
			return 0;
	}
	return hfb_err_set(err, -ETIMEDOUT,
			   "nobody has %u.%u.%u.%u behind that device, see"
			   " --address and the bus's --port",
			   way->bus_ip[0], way->bus_ip[1], way->bus_ip[2], way->bus_ip[3]);
}

static void
headers_make(struct link_way *way)
{
	uint8_t *h = way->headers;

	memset(h, 0, sizeof(way->headers));
	memcpy(h, way->bus_mac, 6);
	memcpy(h + 6, way->dpdk->mac, 6);
	h[12] = 8;
	h[14] = 0x45;
	h[20] = 0x40; /* don't fragment */
	h[22] = 64;
	h[23] = 17;
	memcpy(h + 26, way->own_ip, 4);
	memcpy(h + 30, way->bus_ip, 4);
	h[34] = (uint8_t)(way->own_port >> 8);
	h[35] = (uint8_t)way->own_port;
	h[36] = (uint8_t)(way->udp_port >> 8);
	h[37] = (uint8_t)way->udp_port;
}

int
link_way_open(struct link_way *way, const struct bench_link_config *config, struct hfb_err *err)
{
	const char *bus = config->bus_ip != NULL ? config->bus_ip : "10.9.0.2";
	uint16_t random;
	int r;

	memset(way, 0, sizeof(*way));
	if (inet_pton(AF_INET, bus, way->bus_ip) != 1)
		return hfb_err_set(err, -EINVAL, "'%s' is no IPv4 address, see --address", bus);
	memcpy(way->own_ip, way->bus_ip, 4);
	way->own_ip[3] = way->bus_ip[3] > 1 ? way->bus_ip[3] - 1 : way->bus_ip[3] + 1;
	if (config->own_ip != NULL && inet_pton(AF_INET, config->own_ip, way->own_ip) != 1)
		return hfb_err_set(err, -EINVAL, "'%s' is no IPv4 address", config->own_ip);
	r = port_begin(config, err);
	if (r < 0)
		return r;
	way->dpdk = &dpdk;
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return hfb_err_set(err, -EIO, "no random numbers");
	way->own_port = (uint16_t)(PORT_FIRST + random % 40000u);
	way->udp_port = config->udp_port != 0 ? config->udp_port : HFB_UDP_PORT_DEFAULT;
	r = arp(way, err);
	headers_make(way);
	return r;
}

/* Frames ----------------------------------------------------------------------------------- */

bool
link_frame_send(struct link_way *way, uint8_t type, void *frame, uint32_t bytes, const void *tail,
		uint32_t tail_bytes)
{
	struct hfb_frame head = {
		.magic = HFB_WIRE_MAGIC,
		.version = HFB_WIRE_VERSION,
		.type = type,
		.session = way->session,
		.packet = ++way->packet,
	};
	uint32_t udp = 8 + bytes + tail_bytes;
	uint8_t packet[LINK_HEADERS + HFB_UDP_PAYLOAD_MAX];
	uint64_t sum;
	uint16_t c;

	if (bytes + tail_bytes > HFB_UDP_PAYLOAD_MAX)
		return false;
	memcpy(frame, &head, sizeof(head));
	memcpy(packet, way->headers, LINK_HEADERS);
	memcpy(packet + LINK_HEADERS, frame, bytes);
	if (tail_bytes > 0)
		memcpy(packet + LINK_HEADERS + bytes, tail, tail_bytes);
	packet[16] = (uint8_t)((20 + udp) >> 8);
	packet[17] = (uint8_t)(20 + udp);
	c = (uint16_t)~hfb_sum_ipv4(packet + 14);
	memcpy(packet + 24, &c, 2);
	packet[38] = (uint8_t)(udp >> 8);
	packet[39] = (uint8_t)udp;
	sum = hfb_sum_bytes(htons(17) + (uint64_t)htons((uint16_t)udp), packet + 26, 8);
	c = (uint16_t)~hfb_sum_fold(hfb_sum_bytes(sum, packet + UDP_AT, udp));
	c = c != 0 ? c : 0xffff;
	memcpy(packet + 40, &c, 2);
	packet_send(way, packet, LINK_HEADERS + bytes + tail_bytes);
	return true;
}

const uint8_t *
link_frame_of(const struct link_way *way, const struct rte_mbuf *mbuf, uint32_t *ret_bytes)
{
	const uint8_t *p = rte_pktmbuf_mtod(mbuf, const uint8_t *);
	uint32_t udp;
	uint64_t sum;

	if (mbuf->data_len < LINK_HEADERS + HFB_FRAME_BYTES || p[12] != 8 || p[13] != 0 ||
	    p[14] != 0x45 || p[23] != 17 || memcmp(p + 26, way->bus_ip, 4) != 0)
		return NULL;
	udp = (uint32_t)p[38] << 8 | p[39];
	if (p[36] != way->own_port >> 8 || p[37] != (way->own_port & 0xff) ||
	    udp < 8 + HFB_FRAME_BYTES || udp > mbuf->data_len - UDP_AT)
		return NULL;
	sum = hfb_sum_bytes(htons(17) + (uint64_t)htons((uint16_t)udp), p + 26, 8);
	if ((p[40] | p[41]) != 0 && hfb_sum_fold(hfb_sum_bytes(sum, p + UDP_AT, udp)) != 0xffff)
		return NULL;
	p += LINK_HEADERS;
	if (p[0] != HFB_WIRE_MAGIC || p[1] != HFB_WIRE_VERSION)
		return NULL;
	*ret_bytes = udp - 8;
	return p;
}

/* Ask until a frame of @type comes whose word at @key_at is @key; its bytes go to @to. */
static int
ask(struct link_way *way, uint8_t type, void *question, uint32_t bytes, const char *tail,
    uint8_t answer, uint32_t key_at, const uint64_t *key, uint8_t *to, uint32_t *ret_bytes)
{
	uint64_t begin = bench_now_ns(), now = begin, again = begin;
	uint32_t found = 0;

	for (; now - begin < ANSWER_NS && !bench_stop; now = bench_now_ns()) {
		struct rte_mbuf *mbufs[BENCH_DPDK_BURST];
		uint16_t n;

		if (now >= again) {
			link_frame_send(way, type, question, bytes, tail,
					tail == NULL ? 0 : (uint32_t)strlen(tail));
			again = now + ASK_AGAIN_NS;
		}
		n = rte_eth_rx_burst(way->dpdk->port, 0, mbufs, BENCH_DPDK_BURST);
		for (uint16_t i = 0; i < n && found == 0; i++) {
			uint32_t size;
			const uint8_t *frame = link_frame_of(way, mbufs[i], &size);
			uint64_t word;

			if (frame == NULL || frame[2] != answer || size < key_at + sizeof(word))
				continue;
			memcpy(&word, frame + key_at, sizeof(word));
			if (key != NULL && word != *key)
				continue;
			memcpy(to, frame, size);
			found = size;
		}
		rte_pktmbuf_free_bulk(mbufs, n);
		if (found > 0) {
			*ret_bytes = found;
			return 0;
		}
	}
	return -ETIMEDOUT;
}

void
link_metadata_ask(struct link_way *way, const char *topic, uint32_t first)
{
	struct hfb_frame_metadata_get get = {
		.first_partition = first,
		.name_size = (uint16_t)strlen(topic),
	};

	link_frame_send(way, HFB_FRAME_METADATA_GET, &get, sizeof(get), topic, get.name_size);
}

static int
metadata(struct link_way *way, const char *topic, uint32_t partitions,
	 struct link_partition_info *infos, struct hfb_err *err)
{
	uint8_t answer[HFB_UDP_PAYLOAD_MAX];
	uint64_t until = bench_now_ns() + ANSWER_NS;
	uint32_t known = 0, bytes;

	while (known < partitions) {
		struct hfb_frame_metadata_get get = {
			.first_partition = known,
			.name_size = (uint16_t)strlen(topic),
		};
		struct hfb_frame_metadata data;
		int r = ask(way, HFB_FRAME_METADATA_GET, &get, sizeof(get), topic,
			    HFB_FRAME_METADATA, HFB_FRAME_BYTES, NULL, answer, &bytes);

		if (r < 0)
			return hfb_err_set(err, r, "no metadata from the bus");
		memcpy(&data, answer, sizeof(data));
		if (data.code == HFB_WIRE_NO_TOPIC && bench_now_ns() > until)
			return hfb_err_set(err, -ENOENT, "the bus has no topic '%s'", topic);
		if (data.code == HFB_WIRE_OK && data.partitions_count < partitions)
			return hfb_err_set(err, -EINVAL, "topic '%s' has %u partitions, not %u",
					   topic, data.partitions_count, partitions);
		/* just made, it may not be served yet */
		if (data.code != HFB_WIRE_OK || data.first_partition != known) {
			if (bench_now_ns() > until)
				return hfb_err_set(err, -ETIMEDOUT,
						   "partition %u of '%s' is not served", known,
						   topic);
			usleep(10000);
			continue;
		}
		for (uint32_t i = 0; i < data.count && known < partitions; i++, known++) {
			struct hfb_wire_partition p;

			memcpy(&p, answer + sizeof(data) + i * sizeof(p), sizeof(p));
			infos[known].handle = p.handle;
			infos[known].batch_bytes_max = p.batch_bytes_max;
		}
	}
	return 0;
}

int
link_session_open(struct link_way *way, const char *topic, uint32_t partitions,
		  struct link_partition_info *infos, struct hfb_err *err)
{
	uint8_t hello[HFB_HELLO_BYTES] = { 0 }, answer[HFB_UDP_PAYLOAD_MAX];
	struct hfb_frame_cookie cookie;
	struct hfb_frame_opened opened;
	struct hfb_frame_open open = { 0 };
	uint32_t bytes;
	int r;

	if (getrandom(&open.nonce, sizeof(open.nonce), 0) != sizeof(open.nonce))
		return hfb_err_set(err, -EIO, "no random numbers");
	memcpy(hello + HFB_FRAME_BYTES, &open.nonce, sizeof(open.nonce));
	r = ask(way, HFB_FRAME_HELLO, hello, sizeof(hello), NULL, HFB_FRAME_COOKIE, HFB_FRAME_BYTES,
		&open.nonce, answer, &bytes);
	if (r < 0)
		return hfb_err_set(err, r, "no answer from UDP port %u of the bus", way->udp_port);
	memcpy(&cookie, answer, sizeof(cookie));
	memcpy(open.cookie, cookie.cookie, sizeof(open.cookie));
	r = ask(way, HFB_FRAME_OPEN, &open, sizeof(open), NULL, HFB_FRAME_OPENED, HFB_FRAME_BYTES,
		&open.nonce, answer, &bytes);
	if (r < 0)
		return hfb_err_set(err, r, "the bus opens no session");
	memcpy(&opened, answer, sizeof(opened));
	way->session = opened.frame.session;
	return metadata(way, topic, partitions, infos, err);
}

void
link_session_close(struct link_way *way)
{
	struct hfb_frame close;

	if (way->session == 0)
		return;
	link_frame_send(way, HFB_FRAME_CLOSE, &close, sizeof(close), NULL, 0);
	way->session = 0;
}
