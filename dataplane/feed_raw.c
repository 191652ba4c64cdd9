/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw datagrams: syslog, statsd, flow export. One datagram is one event; there
 * is no sequence, so nothing is arbitrated, deduplicated or reported missing.
 */
#include "feed_decode.h"

int
hfb_raw_decode(const uint8_t *payload, uint32_t bytes, struct hfb_datagram *ret)
{
	memset(ret->session, 0, sizeof(ret->session));
	ret->session_size = 0;
	ret->count = 1;
	ret->first = 0;
	ret->send_time_ns = 0;
	ret->blocks = payload;
	ret->blocks_bytes = bytes;
	ret->values_bytes = bytes;
	ret->framing = HFB_FRAMING_RAW;
	ret->end_of_session = false;
	return 0;
}
