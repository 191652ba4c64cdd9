/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_control.h - what commands that ask hfbus-control share: finding it, pages, JSON.
 *
 *	r = hfb_cli_control_open(&link, data, &err);
 *	answer = hfb_cli_control_all(&link, request, "groups", "after", &err);
 *
 * Threads: the main thread.
 */
#ifndef HFB_CLI_CONTROL_H
#define HFB_CLI_CONTROL_H

#include <jansson.h>

#include "control_link.h"

/** 0, or why there is no such bus. */
int hfb_cli_control_open(struct hfb_control_link *link, const char *data_dir, struct hfb_err *err);

/** One request (taken), one answer; NULL and *@err. */
json_t *hfb_cli_control_ask(struct hfb_control_link *link, json_t *request, struct hfb_err *err);

/** Page after page by "next"; the arrays named @list are joined in the first answer. */
json_t *hfb_cli_control_all(struct hfb_control_link *link, json_t *request, const char *list,
			    const char *cursor, struct hfb_err *err);

/** Print @json without its "ok". An exit code. */
int hfb_cli_json_print(json_t *json);

/* "-" when it is not there, or empty. */
const char *hfb_cli_json_text(const json_t *json, const char *key);
/* A number, or "-" for null. Into @to (>= 24 bytes). */
const char *hfb_cli_json_number(const json_t *json, const char *key, char to[24]);

#endif
