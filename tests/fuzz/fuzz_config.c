/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text of a config file and of flags: the first byte says which. A refusal has a sentence.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct hfb_config *config;
	struct hfb_err err = { 0 };
	uint8_t what;
	char *text;
	int r;

	if (size < 1)
		return 0;
	if (config == NULL)
		config = malloc(sizeof(*config));
	text = malloc(size);
	if (config == NULL || text == NULL)
		abort();
	hfb_config_default(config);
	what = *data;
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	switch (what % 4) {
	case 0:
		r = hfb_config_load_text(config, "fuzz", text, size - 1, &err);
		break;
	case 1:
		r = hfb_config_port_add(config, text, &err);
		break;
	case 2:
		r = hfb_config_feed_add(config, text, &err);
		break;
	default:
		r = hfb_config_cores_set(config, text, &err);
		break;
	}
	if (r == 0)
		r = hfb_config_check(config, &err);
	if (r < 0 && err.text[0] == '\0')
		abort();
	free(text);
	return 0;
}
