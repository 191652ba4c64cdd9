/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_token.h - the secret that lets a client of the HTTP port change something: a
 * line in a file that only the owner may read, made at the first start.
 *
 *	hfb_http_token_load("http.token", &token, &err);
 *	hfb_http_token_fits(&token, "Bearer 3f0c...");
 *
 * Threads: any; at start and once a request.
 */
#ifndef HFB_HTTP_TOKEN_H
#define HFB_HTTP_TOKEN_H

#include <stdbool.h>

#include "err.h"

#define HFB_HTTP_TOKEN_BYTES_MIN 16u
#define HFB_HTTP_TOKEN_BYTES_MAX 256u

struct hfb_http_token {
	char text[HFB_HTTP_TOKEN_BYTES_MAX + 1];
};

/**
 * Read the token of file @path; when there is none, make one of 256 random bits.
 *
 * Returns 0, or
 *   -EACCES  others may read or write the file
 *   -EINVAL  it holds no token: one line of 16 to 256 printable characters
 *   -errno   it cannot be read or made
 */
int hfb_http_token_load(const char *path, struct hfb_http_token *ret_token, struct hfb_err *err);

/** Does the value of an Authorization header (NULL = none) carry @token? Its time does not
 * tell how much of it is right. */
bool hfb_http_token_fits(const struct hfb_http_token *token, const char *authorization);

#endif
