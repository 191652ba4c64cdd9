/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pub_refusal.c - what hfbusd's refusals mean to who publishes, and which knob helps.
 */
#include <errno.h>

#include <hfbus/wire.h>

#include "err.h"
#include "pub_private.h"

int
hfb_pub_refusal(const char *topic, uint16_t producer_epoch, uint32_t code, struct hfb_err *err)
{
	switch (code) {
	case HFB_WIRE_FENCED:
		return hfb_err_set(err, -ESTALE,
				   "a publisher of topic %s with this producer id and "
				   "a newer epoch than %u took over",
				   topic, producer_epoch);
	case HFB_WIRE_STAGE_UNAVAILABLE:
		return hfb_err_set(err, -EOPNOTSUPP,
				   "topic %s: the asked stage needs a mirror and "
				   "there is none: choose --ack received or durable",
				   topic);
	case HFB_WIRE_TOO_LARGE:
		return hfb_err_set(err, -EMSGSIZE,
				   "topic %s: hfbusd takes no batch that large: a "
				   "quarter of the ring at most, see ring_bytes",
				   topic);
	case HFB_WIRE_UNKNOWN_PRODUCER:
		return hfb_err_set(err, -ENODATA,
				   "topic %s: hfbusd does not know this producer id, "
				   "so its sequences cannot go on (see dedup_window): open with a "
				   "new one",
				   topic);
	case HFB_WIRE_NO_SPACE:
		return hfb_err_set(err, -ENOSPC,
				   "topic %s: the disk of hfbusd's data folder is "
				   "full: free space there or lower retention (--retention-bytes, "
				   "--retention-time); events are kept and can be sent again",
				   topic);
	case HFB_WIRE_IO_ERROR:
		return hfb_err_set(err, -EIO,
				   "topic %s: hfbusd's disk failed and produce is "
				   "stopped for this partition: see hfbusd's log and 'hfbus stat'",
				   topic);
	case HFB_WIRE_TOO_MANY:
		return hfb_err_set(err, -EBUSY,
				   "topic %s: hfbusd's table of producers is full: see "
				   "producers_max",
				   topic);
	default:
		return hfb_err_set(err, -EAGAIN, "topic %s: hfbusd refuses with code %u", topic,
				   code);
	}
}

bool
hfb_pub_refusal_told(uint32_t code)
{
	return code == HFB_WIRE_NO_SPACE || code == HFB_WIRE_IO_ERROR || code == HFB_WIRE_TOO_MANY;
}
