/* SPDX-License-Identifier: Apache-2.0 */
#include "frame_out.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "checksum.h"

#define POOL_MBUFS   4095u
#define LINK_WAIT_MS 15000u
#define YIELD_AFTER  64u /* empty-handed bursts before the CPU goes to the receiver */

static void
put_u16(uint8_t *to, uint32_t value)
{
	to[0] = (uint8_t)(value >> 8);
	to[1] = (uint8_t)value;
}

static void
put_u32(uint8_t *to, uint32_t value)
{
	put_u16(to, value >> 16);
	put_u16(to + 2, value);
}

void
frame_line_init(struct frame_line *line, uint32_t from, uint16_t from_port, uint32_t to,
		uint16_t to_port)
{
	uint8_t *h = line->headers;

	memset(line, 0, sizeof(*line));
	if (to >> 28 == 0xe) {
		h[0] = 0x01;
		h[2] = 0x5e;
		h[3] = to >> 16 & 0x7f;
		put_u16(h + 4, to);
	} else {
		memset(h, 0xff, 6);
	}
	h[6] = 0x02;
	put_u32(h + 8, from);
	put_u16(h + 12, 0x0800);
	h[14] = 0x45;
	put_u16(h + 20, 0x4000);
	h[22] = 16;
	h[23] = 17;
	put_u32(h + 26, from);
	put_u32(h + 30, to);
	put_u16(h + 34, from_port);
	put_u16(h + 36, to_port);
}

/* Returns the frame's size. */
static uint32_t
frame_write(const struct frame_out *out, struct frame_line *line, const uint8_t *payload,
	    uint32_t bytes, uint8_t *to)
{
	uint32_t udp = 8 + bytes;
	uint16_t c;

	memcpy(to, line->headers, FRAME_HEADERS);
	memcpy(to + FRAME_HEADERS, payload, bytes);
	put_u16(to + 16, 20 + udp);
	put_u16(to + 18, line->id++);
	c = (uint16_t)~hfb_sum_ipv4(to + 14);
	memcpy(to + 24, &c, sizeof(c));
	put_u16(to + 38, udp);
	if (out->udp_checksums) {
		uint64_t sum = htons(17) + htons((uint16_t)udp) + hfb_sum_load(to + 26);

		c = (uint16_t)~hfb_sum_fold(hfb_sum_bytes(sum, to + 34, udp));
		c = c != 0 ? c : 0xffff;
		memcpy(to + 40, &c, sizeof(c));
	}
	return FRAME_HEADERS + bytes;
}

static int
pcap_begin(struct frame_out *out, const char *path, struct hfb_err *err)
{
	/* microseconds, Ethernet, this machine's byte order */
	static const uint32_t head[6] = { 0xa1b2c3d4u, 4u << 16 | 2u, 0, 0, 262144, 1 };

	out->pcap = fopen(path, "wb");
	if (out->pcap == NULL)
		return hfb_err_set(err, -errno, "cannot write %s: %s, see --pcap", path,
				   strerror(errno));
	fwrite(head, sizeof(head), 1, out->pcap);
	return 0;
}

static void
pcap_frame(struct frame_out *out, const uint8_t *frame, uint32_t bytes, uint64_t time_ns)
{
	uint32_t head[4] = { (uint32_t)(time_ns / 1000000000u),
			     (uint32_t)(time_ns % 1000000000u / 1000u), bytes, bytes };

	fwrite(head, sizeof(head), 1, out->pcap);
	fwrite(frame, bytes, 1, out->pcap);
}

static int
eal_start(const struct frame_out_config *config, uint32_t memory_mib, struct hfb_err *err)
{
	char lcores[64], vdev[1024], memory[16];
	char *args[] = { (char *)"hfbus-bench",
			 (char *)"--no-huge",
			 (char *)"--no-shconf",
			 (char *)"--no-pci",
			 (char *)"--no-telemetry",
			 (char *)"--log-level=error",
			 (char *)"-m",
			 memory,
			 lcores,
			 vdev,
			 NULL };

	if (config->cpu >= 0)
		snprintf(lcores, sizeof(lcores), "--lcores=0@%d", config->cpu);
	else
		snprintf(lcores, sizeof(lcores), "--lcores=0@(0-%ld)",
			 sysconf(_SC_NPROCESSORS_ONLN) - 1);
	snprintf(memory, sizeof(memory), "%u", memory_mib);
	snprintf(vdev, sizeof(vdev), "--vdev=%s", config->device);
	if (rte_eal_init(10, args) < 0)
		return hfb_err_set(err, -EIO, "DPDK does not start with device %s: %s",
				   config->device, rte_strerror(rte_errno));
	return 0;
}

static int
link_wait(const struct frame_out *out, const char *device, struct hfb_err *err)
{
	struct rte_eth_link link = { 0 };

	for (uint32_t ms = 0; ms < LINK_WAIT_MS; ms += 10) {
		if (*out->stop)
			return hfb_err_set(err, -EINTR, "stopped while device %s had no link",
					   device);
		if (rte_eth_link_get_nowait(out->port, &link) == 0 &&
		    link.link_status == RTE_ETH_LINK_UP)
			return 0;
		usleep(10000);
	}
	return hfb_err_set(err, -ENOLINK, "device %s has no link after %u s; is its peer there?",
			   device, LINK_WAIT_MS / 1000);
}

static int
port_begin(struct frame_out *out, const struct frame_out_config *config, struct hfb_err *err)
{
	struct rte_eth_conf conf = { 0 };
	uint32_t frame = config->frame_bytes_max > FRAME_BYTES_DEFAULT ? config->frame_bytes_max
								       : FRAME_BYTES_DEFAULT;
	/* two queues and a burst must find room, whatever the size */
	uint32_t mbufs = frame > FRAME_BYTES_DEFAULT ? 2047 : POOL_MBUFS;
	int r = eal_start(config, 40 + mbufs * (frame + 512) / (1u << 20), err);

	if (r < 0)
		return r;
	if (rte_eth_dev_count_avail() == 0)
		return hfb_err_set(err, -ENODEV, "device %s gives no port, see --device",
				   config->device);
	out->port = (uint16_t)rte_eth_find_next_owned_by(0, RTE_ETH_DEV_NO_OWNER);
	out->pool = rte_pktmbuf_pool_create(
		"frame_out", mbufs, 0, 0, (uint16_t)(frame + RTE_PKTMBUF_HEADROOM), SOCKET_ID_ANY);
	if (out->pool == NULL)
		return hfb_err_set(err, -ENOMEM, "no memory for %u packet buffers", mbufs);
	r = rte_eth_dev_configure(out->port, 1, 1, &conf);
	if (r == 0)
		r = rte_eth_rx_queue_setup(out->port, 0, 256, SOCKET_ID_ANY, NULL, out->pool);
	if (r == 0)
		r = rte_eth_tx_queue_setup(out->port, 0, 1024, SOCKET_ID_ANY, NULL);
	if (r == 0)
		r = rte_eth_dev_start(out->port);
	if (r != 0)
		return hfb_err_set(err, r, "device %s does not start: %s", config->device,
				   rte_strerror(-r));
	return link_wait(out, config->device, err);
}

int
frame_out_open(struct frame_out *out, const struct frame_out_config *config, struct hfb_err *err)
{
	memset(out, 0, sizeof(*out));
	out->stop = config->stop;
	out->udp_checksums = config->pcap != NULL;
	return config->pcap != NULL ? pcap_begin(out, config->pcap, err)
				    : port_begin(out, config, err);
}

void
frame_out_flush(struct frame_out *out)
{
	uint32_t sent = 0, idle = 0;

	if (out->burst_count == 0)
		return;
	while (sent < out->burst_count && !*out->stop) {
		uint16_t n = rte_eth_tx_burst(out->port, 0, out->burst + sent,
					      (uint16_t)(out->burst_count - sent));

		sent += n;
		if (sent == out->burst_count)
			break;
		out->refusals++;
		idle = n > 0 ? 0 : idle + 1;
		if (idle > YIELD_AFTER)
			sched_yield();
	}
	for (; sent < out->burst_count; sent++)
		rte_pktmbuf_free(out->burst[sent]);
	out->burst_count = 0;
}

/* The next packet buffer of the port; NULL when told to stop. */
static struct rte_mbuf *
mbuf_take(struct frame_out *out)
{
	struct rte_mbuf *mbuf;

	while ((mbuf = rte_pktmbuf_alloc(out->pool)) == NULL && !*out->stop)
		frame_out_flush(out);
	return mbuf;
}

static void
mbuf_queue(struct frame_out *out, struct rte_mbuf *mbuf, uint32_t bytes)
{
	mbuf->data_len = (uint16_t)bytes;
	mbuf->pkt_len = bytes;
	out->burst[out->burst_count++] = mbuf;
	if (out->burst_count == FRAME_BURST)
		frame_out_flush(out);
}

void
frame_out_datagram(struct frame_out *out, struct frame_line *line, const uint8_t *payload,
		   uint32_t bytes, uint64_t time_ns)
{
	struct rte_mbuf *mbuf;

	out->frames++;
	out->bytes += FRAME_HEADERS + bytes;
	if (out->pcap != NULL) {
		uint8_t frame[FRAME_HEADERS + FRAME_DATAGRAM_MAX];
		uint32_t size = frame_write(out, line, payload, bytes, frame);

		pcap_frame(out, frame, size, time_ns);
		return;
	}
	mbuf = mbuf_take(out);
	if (mbuf != NULL)
		mbuf_queue(
			out, mbuf,
			frame_write(out, line, payload, bytes, rte_pktmbuf_mtod(mbuf, uint8_t *)));
}

void
frame_out_frame(struct frame_out *out, const uint8_t *frame, uint32_t bytes, uint64_t time_ns)
{
	struct rte_mbuf *mbuf;

	out->frames++;
	out->bytes += bytes;
	if (out->pcap != NULL) {
		pcap_frame(out, frame, bytes, time_ns);
		return;
	}
	mbuf = mbuf_take(out);
	if (mbuf == NULL)
		return;
	memcpy(rte_pktmbuf_mtod(mbuf, uint8_t *), frame, bytes);
	mbuf_queue(out, mbuf, bytes);
}

uint64_t
frame_out_errors(const struct frame_out *out)
{
	struct rte_eth_stats stats;

	if (out->pcap != NULL || rte_eth_stats_get(out->port, &stats) != 0)
		return 0;
	return stats.oerrors;
}

int
frame_out_close(struct frame_out *out, struct hfb_err *err)
{
	if (out->pcap != NULL) {
		bool failed = ferror(out->pcap) != 0;

		if (fclose(out->pcap) != 0 || failed)
			return hfb_err_set(err, -EIO,
					   "the capture could not be written whole, see --pcap");
		return 0;
	}
	rte_eth_dev_stop(out->port);
	rte_eth_dev_close(out->port);
	rte_eal_cleanup();
	return 0;
}
