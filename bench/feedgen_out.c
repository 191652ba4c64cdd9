/* SPDX-License-Identifier: Apache-2.0 */
#include "feedgen.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

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

static uint32_t
sum(uint32_t sum, const uint8_t *at, uint32_t bytes)
{
	for (; bytes >= 2; at += 2, bytes -= 2)
		sum += (uint32_t)at[0] << 8 | at[1];
	return bytes > 0 ? sum + ((uint32_t)at[0] << 8) : sum;
}

static uint16_t
fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

void
feedgen_out_line(struct feedgen_out *out, uint32_t line, uint32_t source, uint32_t group,
		 uint16_t udp_port)
{
	uint8_t *h = out->headers[line];

	memset(h, 0, FEEDGEN_HEADERS);
	h[0] = 0x01;
	h[2] = 0x5e;
	h[3] = group >> 16 & 0x7f;
	put_u16(h + 4, group);
	h[6] = 0x02;
	h[11] = (uint8_t)(0x0a + line);
	put_u16(h + 12, 0x0800);
	h[14] = 0x45;
	put_u16(h + 20, 0x4000);
	h[22] = 16;
	h[23] = 17;
	put_u32(h + 26, source);
	put_u32(h + 30, group);
	put_u16(h + 34, 49653);
	put_u16(h + 36, udp_port);
}

/* Returns the frame's size. */
static uint32_t
frame_write(struct feedgen_out *out, uint32_t line, const uint8_t *payload, uint32_t bytes,
	    uint8_t *to)
{
	uint32_t udp = 8 + bytes;

	memcpy(to, out->headers[line], FEEDGEN_HEADERS);
	memcpy(to + FEEDGEN_HEADERS, payload, bytes);
	put_u16(to + 16, 20 + udp);
	put_u16(to + 18, out->id[line]++);
	put_u16(to + 24, (uint16_t)~fold(sum(0, to + 14, 20)));
	put_u16(to + 38, udp);
	if (out->udp_checksums) {
		uint16_t c = (uint16_t)~fold(sum(17 + udp + sum(0, to + 26, 8), to + 34, udp));

		put_u16(to + 40, c != 0 ? c : 0xffff);
	}
	return FEEDGEN_HEADERS + bytes;
}

static int
pcap_begin(struct feedgen_out *out, const char *path, struct hfb_err *err)
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
pcap_frame(struct feedgen_out *out, const uint8_t *frame, uint32_t bytes, uint64_t time_ns)
{
	uint32_t head[4] = { (uint32_t)(time_ns / 1000000000u),
			     (uint32_t)(time_ns % 1000000000u / 1000u), bytes, bytes };

	fwrite(head, sizeof(head), 1, out->pcap);
	fwrite(frame, bytes, 1, out->pcap);
}

static int
eal_start(const char *device, struct hfb_err *err)
{
	char lcores[64], vdev[1024];
	char *args[] = { (char *)"hfbus-feedgen",
			 (char *)"--no-huge",
			 (char *)"--no-shconf",
			 (char *)"--no-pci",
			 (char *)"--no-telemetry",
			 (char *)"--log-level=error",
			 (char *)"-m",
			 (char *)"48",
			 lcores,
			 vdev,
			 NULL };

	/* not pinned: on a small machine it must give way to the receiver */
	snprintf(lcores, sizeof(lcores), "--lcores=0@(0-%ld)", sysconf(_SC_NPROCESSORS_ONLN) - 1);
	snprintf(vdev, sizeof(vdev), "--vdev=%s", device);
	if (rte_eal_init(10, args) < 0)
		return hfb_err_set(err, -EIO, "DPDK does not start with device %s: %s", device,
				   rte_strerror(rte_errno));
	return 0;
}

static int
port_begin(struct feedgen_out *out, const char *device, struct hfb_err *err)
{
	struct rte_eth_conf conf = { 0 };
	struct rte_eth_link link = { 0 };
	int r = eal_start(device, err);

	if (r < 0)
		return r;
	if (rte_eth_dev_count_avail() == 0)
		return hfb_err_set(err, -ENODEV, "device %s gives no port, see --device", device);
	out->port = (uint16_t)rte_eth_find_next_owned_by(0, RTE_ETH_DEV_NO_OWNER);
	out->pool = rte_pktmbuf_pool_create("feedgen", POOL_MBUFS, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
					    SOCKET_ID_ANY);
	if (out->pool == NULL)
		return hfb_err_set(err, -ENOMEM, "no memory for %u packet buffers", POOL_MBUFS);
	r = rte_eth_dev_configure(out->port, 1, 1, &conf);
	if (r == 0)
		r = rte_eth_rx_queue_setup(out->port, 0, 256, SOCKET_ID_ANY, NULL, out->pool);
	if (r == 0)
		r = rte_eth_tx_queue_setup(out->port, 0, 1024, SOCKET_ID_ANY, NULL);
	if (r == 0)
		r = rte_eth_dev_start(out->port);
	if (r != 0)
		return hfb_err_set(err, r, "device %s does not start: %s", device,
				   rte_strerror(-r));
	for (uint32_t ms = 0; ms < LINK_WAIT_MS && !*out->stop; ms += 10) {
		if (rte_eth_link_get_nowait(out->port, &link) == 0 &&
		    link.link_status == RTE_ETH_LINK_UP)
			return 0;
		usleep(10000);
	}
	return hfb_err_set(err, -ENOLINK, "device %s has no link after %u s; is its peer there?",
			   device, LINK_WAIT_MS / 1000);
}

int
feedgen_out_open(struct feedgen_out *out, const char *device, const char *pcap, struct hfb_err *err)
{
	return pcap != NULL ? pcap_begin(out, pcap, err) : port_begin(out, device, err);
}

void
feedgen_out_flush(struct feedgen_out *out)
{
	uint32_t sent = 0, idle = 0;

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

void
feedgen_out_datagram(struct feedgen_out *out, uint32_t line, const uint8_t *payload, uint32_t bytes,
		     uint64_t time_ns)
{
	struct rte_mbuf *mbuf;
	uint32_t size;

	out->frames++;
	out->bytes += FEEDGEN_HEADERS + bytes;
	if (out->pcap != NULL) {
		uint8_t frame[FEEDGEN_FRAME_MAX];

		size = frame_write(out, line, payload, bytes, frame);
		pcap_frame(out, frame, size, time_ns);
		return;
	}
	while ((mbuf = rte_pktmbuf_alloc(out->pool)) == NULL && !*out->stop)
		feedgen_out_flush(out);
	if (mbuf == NULL)
		return;
	size = frame_write(out, line, payload, bytes, rte_pktmbuf_mtod(mbuf, uint8_t *));
	mbuf->data_len = (uint16_t)size;
	mbuf->pkt_len = size;
	out->burst[out->burst_count++] = mbuf;
	if (out->burst_count == FEEDGEN_BURST)
		feedgen_out_flush(out);
}

int
feedgen_out_close(struct feedgen_out *out, struct hfb_err *err)
{
	if (out->pcap != NULL) {
		bool failed = ferror(out->pcap) != 0;

		if (fclose(out->pcap) != 0 || failed)
			return hfb_err_set(err, -EIO, "the pcap file could not be written whole");
		return 0;
	}
	rte_eth_dev_stop(out->port);
	rte_eth_dev_close(out->port);
	rte_eal_cleanup();
	return 0;
}
