/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_listen.h - ADDRESS:PORT to a socket that listens.
 *
 * Threads: any.
 */
#ifndef HFB_HTTP_LISTEN_H
#define HFB_HTTP_LISTEN_H

#include <stddef.h>

#include "err.h"

/**
 * @text is "127.0.0.1:7480", "[::1]:7480" or "7480" (of 127.0.0.1). Names are not
 * looked up: a start does not wait for the network.
 *
 * Returns a descriptor and writes the address as bound to @ret_address, or
 *   -EINVAL, -EADDRINUSE, -EADDRNOTAVAIL, -EACCES or another errno of bind()
 */
int hfb_http_listen(const char *text, int backlog, char *ret_address, size_t address_bytes,
		    struct hfb_err *err);

#endif
