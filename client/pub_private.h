/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pub_private.h - how frames that come on a link reach publishers, and what refusals mean.
 *
 * Threads: the bus's.
 */
#ifndef HFB_PUB_PRIVATE_H
#define HFB_PUB_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include <hfbus/err.h>
#include <hfbus/wire.h>

struct hfb_bus;

/* Acks are found by producer id; those of unknown ones (closed) are dropped. */
void hfb_pubs_ack_frame(struct hfb_bus *bus, const uint8_t *frame, uint32_t size, uint64_t now_ns);
void hfb_pubs_error_frame(struct hfb_bus *bus, const struct hfb_frame_error *error);

/* pub_refusal.c: enum hfb_wire_code as an errno and its sentence. */
int hfb_pub_refusal(const char *topic, uint16_t producer_epoch, uint32_t code, struct hfb_err *err);
/* Tried again by itself, but the caller is told? */
bool hfb_pub_refusal_told(uint32_t code);

#endif
