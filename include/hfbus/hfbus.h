/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hfbus/hfbus.h - all of libhfbus.
 *
 *	struct hfb_bus *bus;
 *	struct hfb_err err;
 *
 *	if (hfb_bus_open(NULL, &bus, &err) < 0)	   the bus of this host
 *		errx(1, "%s", err.text);
 *	... hfb_pub_open(), hfb_sub_open() ...
 *	hfb_bus_close(bus);
 *
 * Threads: a bus and all that was opened from it belong to one thread at a
 *	    time. Several threads open a bus each; buses share nothing.
 */
#ifndef HFB_HFBUS_H
#define HFB_HFBUS_H

#include <hfbus/admin.h>
#include <hfbus/bus.h>
#include <hfbus/err.h>
#include <hfbus/event.h>
#include <hfbus/group.h>
#include <hfbus/limits.h>
#include <hfbus/pub.h>
#include <hfbus/sub.h>
#include <hfbus/types.h>

#endif
