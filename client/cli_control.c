/* SPDX-License-Identifier: Apache-2.0 */
#include "cli_control.h"

#include <stdio.h>

#include <hfbus/bus.h>

#include "cli.h"

#define ANSWER_MS 30000

int
hfb_cli_control_open(struct hfb_control_link *link, const char *data_dir, struct hfb_err *err)
{
	char data[4096];
	int r = hfb_bus_find(data_dir, data, sizeof(data), err);

	hfb_control_link_init(link, r == 0 ? data : "");
	return r;
}

json_t *
hfb_cli_control_ask(struct hfb_control_link *link, json_t *request, struct hfb_err *err)
{
	return hfb_control_link_ask(link, request, ANSWER_MS, err);
}

json_t *
hfb_cli_control_all(struct hfb_control_link *link, json_t *request, const char *list,
		    const char *cursor, struct hfb_err *err)
{
	json_t *all = hfb_cli_control_ask(link, json_copy(request), err);
	json_t *page = json_incref(all);

	while (page != NULL) {
		json_t *next = json_incref(json_object_get(page, "next"));

		json_decref(page);
		page = NULL;
		if (next == NULL)
			break;
		json_object_set_new(request, cursor, next);
		page = hfb_cli_control_ask(link, json_copy(request), err);
		if (page == NULL) {
			json_decref(all);
			all = NULL;
		} else {
			json_array_extend(json_object_get(all, list), json_object_get(page, list));
		}
	}
	json_decref(request);
	if (all != NULL)
		json_object_del(all, "next");
	return all;
}

int
hfb_cli_json_print(json_t *json)
{
	int r;

	json_object_del(json, "ok");
	r = json_dumpf(json, stdout, JSON_INDENT(2));
	putchar('\n');
	return r == 0 && fflush(stdout) == 0 ? HFB_EXIT_OK : HFB_EXIT_FAILED;
}

const char *
hfb_cli_json_text(const json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text != NULL && text[0] != '\0' ? text : "-";
}

const char *
hfb_cli_json_number(const json_t *json, const char *key, char to[24])
{
	const json_t *value = json_object_get(json, key);

	if (!json_is_integer(value))
		return "-";
	snprintf(to, 24, "%lld", (long long)json_integer_value(value));
	return to;
}
