/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hfbus/err.h - one sentence for a refusal by the world; it names the knob.
 *
 * Functions that may be refused take a struct hfb_err of the caller's (or NULL)
 * and return its code, a negative errno.
 *
 * Threads: the caller's struct; no shared state.
 */
#ifndef HFB_PUBLIC_ERR_H
#define HFB_PUBLIC_ERR_H

#define HFB_ERR_TEXT_MAX 512

struct hfb_err {
	int code;		     /* negative errno, 0 = none */
	char text[HFB_ERR_TEXT_MAX]; /* one sentence, no newline */
};

#endif
