/* SPDX-License-Identifier: Apache-2.0 */
#include "capture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <pcap/pcap.h>

struct load {
	struct capture c;
	uint64_t frames_room, data_room;
	uint64_t first_ns;
};

/* 0 or -ENOMEM. */
static int
frame_add(struct load *l, const struct pcap_pkthdr *head, const uint8_t *bytes)
{
	struct capture *c = &l->c;
	/* asked for in nanoseconds: tv_usec holds those */
	uint64_t at_ns = (uint64_t)head->ts.tv_sec * 1000000000u + (uint64_t)head->ts.tv_usec;
	struct capture_frame *f;

	if (c->count == l->frames_room) {
		uint64_t room = l->frames_room * 2 + 1024;
		void *p = realloc(c->frame, room * sizeof(*c->frame));

		if (p == NULL)
			return -ENOMEM;
		c->frame = p;
		l->frames_room = room;
	}
	if (c->bytes + head->caplen > l->data_room) {
		uint64_t room = l->data_room * 2 + head->caplen + (1u << 20);
		void *p = realloc(c->data, room);

		if (p == NULL)
			return -ENOMEM;
		c->data = p;
		l->data_room = room;
	}
	if (c->count == 0)
		l->first_ns = at_ns;
	if (at_ns < l->first_ns + c->span_ns)
		c->went_back++;
	else
		c->span_ns = at_ns - l->first_ns;
	f = &c->frame[c->count++];
	*f = (struct capture_frame){ c->span_ns, c->bytes, head->caplen };
	memcpy(c->data + f->at, bytes, f->bytes);
	c->bytes += f->bytes;
	if (f->bytes > c->frame_bytes_max)
		c->frame_bytes_max = f->bytes;
	c->cut += head->caplen < head->len;
	return 0;
}

static int
frames_load(struct load *l, pcap_t *pcap, const char *path, uint32_t frame_bytes_max,
	    struct hfb_err *err)
{
	struct pcap_pkthdr *head;
	const uint8_t *bytes;
	int r;

	while ((r = pcap_next_ex(pcap, &head, &bytes)) == 1) {
		if (head->caplen == 0 || head->caplen > frame_bytes_max) {
			l->c.too_long += head->caplen != 0;
			continue;
		}
		if (frame_add(l, head, bytes) < 0)
			return hfb_err_set(err, -ENOMEM, "%s does not fit into memory", path);
	}
	l->c.broken_off = r == PCAP_ERROR;
	if (l->c.count == 0)
		return hfb_err_set(err, r == PCAP_ERROR ? -EINVAL : -ENODATA,
				   "%s has no frame that can be sent%s%s", path,
				   r == PCAP_ERROR ? ": " : "",
				   r == PCAP_ERROR ? pcap_geterr(pcap) : "");
	return 0;
}

int
capture_load(struct capture *ret, const char *path, uint32_t frame_bytes_max, struct hfb_err *err)
{
	char text[PCAP_ERRBUF_SIZE] = "";
	struct load l = { 0 };
	FILE *file = fopen(path, "rb");
	pcap_t *pcap;
	int r;

	if (file == NULL)
		return hfb_err_set(err, -errno, "cannot open %s: %s", path, strerror(errno));
	/* takes the file */
	pcap = pcap_fopen_offline_with_tstamp_precision(file, PCAP_TSTAMP_PRECISION_NANO, text);
	if (pcap == NULL) {
		fclose(file);
		return hfb_err_set(err, -EINVAL, "%s is no capture: %s", path, text);
	}
	if (pcap_datalink(pcap) != DLT_EN10MB) {
		const char *name = pcap_datalink_val_to_name(pcap_datalink(pcap));

		r = hfb_err_set(err, -EPROTONOSUPPORT,
				"%s holds frames of link type %s: only Ethernet can be replayed",
				path, name != NULL ? name : "unknown");
	} else {
		r = frames_load(&l, pcap, path, frame_bytes_max, err);
	}
	pcap_close(pcap);
	if (r < 0)
		capture_free(&l.c);
	else
		*ret = l.c;
	return r;
}

void
capture_free(struct capture *c)
{
	free(c->frame);
	free(c->data);
	memset(c, 0, sizeof(*c));
}
