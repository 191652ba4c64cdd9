/* SPDX-License-Identifier: Apache-2.0 */
#include "control_config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cyaml/cyaml.h>

#include "http.h"

#define DIR_BYTES 4096

struct raw_control {
	char *http, *http_token, *http_timeout;
};
struct raw {
	char *data;
	struct raw_control *control;
};

#define TEXT(key, type, field)                                                                     \
	CYAML_FIELD_STRING_PTR(key, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct type, field,  \
			       0, CYAML_UNLIMITED)

static const cyaml_schema_field_t control_fields[] = {
	TEXT("http", raw_control, http),
	TEXT("http-token", raw_control, http_token),
	TEXT("http-timeout", raw_control, http_timeout),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t fields[] = {
	TEXT("data", raw, data),
	CYAML_FIELD_MAPPING_PTR("control", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct raw,
				control, control_fields),
	CYAML_FIELD_END,
};
static const cyaml_schema_value_t schema = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct raw, fields),
};

static int
set(char ret_dir[DIR_BYTES], const char *dir, struct hfb_err *err)
{
	if (dir[0] == '\0' || strlen(dir) >= DIR_BYTES)
		return hfb_err_set(err, -EINVAL, "the data folder's name is empty or too long");
	strcpy(ret_dir, dir);
	return 0;
}

static int
text_set(char *to, size_t size, const char *what, const char *text, struct hfb_err *err)
{
	if (text[0] == '\0' || strlen(text) >= size)
		return hfb_err_set(err, -EINVAL, "%s is empty or too long", what);
	strcpy(to, text);
	return 0;
}

static int
http_set(struct hfb_control_config *c, const char *text, struct hfb_err *err)
{
	int r = text_set(c->http, sizeof(c->http), "http (--http ADDRESS:PORT or off)", text, err);

	if (r == 0) {
		c->http_asked = true;
		if (strcmp(text, "off") == 0)
			c->http[0] = '\0';
	}
	return r;
}

static int
token_set(struct hfb_control_config *c, const char *text, struct hfb_err *err)
{
	return text_set(c->http_token, sizeof(c->http_token), "http-token (--http-token FILE)",
			text, err);
}

static int
timeout_set(struct hfb_control_config *c, const char *text, struct hfb_err *err)
{
	char *end;
	unsigned long seconds = strtoul(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end != '\0' || seconds < 1 || seconds > 600)
		return hfb_err_set(err, -EINVAL,
				   "http-timeout (--http-timeout SECONDS) must be 1 to 600");
	c->http_timeout_s = (uint32_t)seconds;
	return 0;
}

static int
from_file(const char *path, struct hfb_control_config *c, struct hfb_err *err)
{
	const cyaml_config_t how = {
		.log_fn = NULL,
		.mem_fn = cyaml_mem,
		.flags = CYAML_CFG_IGNORE_UNKNOWN_KEYS,
	};
	const struct raw_control *control;
	struct raw *raw = NULL;
	cyaml_err_t code;
	int r = 0;

	if (access(path, R_OK) < 0)
		return hfb_err_set(err, -errno, "cannot read %s: %s", path, strerror(errno));
	code = cyaml_load_file(path, &how, &schema, (cyaml_data_t **)&raw, NULL);
	if (code != CYAML_OK)
		return hfb_err_set(err, -EINVAL, "%s: %s; hfbusd --config %s --plan shows the line",
				   path, cyaml_strerror(code), path);
	control = raw != NULL ? raw->control : NULL;
	if (raw != NULL && raw->data != NULL)
		r = set(c->data_dir, raw->data, err);
	if (r == 0 && control != NULL && control->http != NULL)
		r = http_set(c, control->http, err);
	if (r == 0 && control != NULL && control->http_token != NULL)
		r = token_set(c, control->http_token, err);
	if (r == 0 && control != NULL && control->http_timeout != NULL)
		r = timeout_set(c, control->http_timeout, err);
	cyaml_free(&how, &schema, raw, 0);
	return r;
}

static int
by_default(char ret_dir[DIR_BYTES], struct hfb_err *err)
{
	const char *data = getenv("HFBUS_DATA");
	const char *home = getenv("HOME");
	char path[DIR_BYTES];

	if (data != NULL && data[0] != '\0')
		return set(ret_dir, data, err);
	if (geteuid() == 0)
		return set(ret_dir, "/var/lib/hfbus", err);
	if (home == NULL || strlen(home) + 32 > sizeof(path))
		return hfb_err_set(err, -EINVAL, "no HOME: say where the data is with --data");
	snprintf(path, sizeof(path), "%s/.local/share/hfbus", home);
	return set(ret_dir, path, err);
}

static int
make(char *dir, struct hfb_err *err)
{
	/* As mkdir -p, but each failure of the last one only counts. */
	for (char *slash = strchr(dir + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		(void)mkdir(dir, 0755);
		*slash = '/';
	}
	if (mkdir(dir, 0755) < 0 && errno != EEXIST)
		return hfb_err_set(err, -errno, "cannot make the data folder %s: %s; see --data",
				   dir, strerror(errno));
	return 0;
}

int
hfb_control_config_load(const struct hfb_control_options *options,
			struct hfb_control_config *ret_config, struct hfb_err *err)
{
	static struct hfb_control_config c;
	char dir[DIR_BYTES];
	int r = 0;

	memset(&c, 0, sizeof(c));
	strcpy(c.http, HFB_HTTP_LISTEN_DEFAULT);
	strcpy(c.http_token, "http.token"); /* of the data folder, where we work */
	if (options->config != NULL)
		r = from_file(options->config, &c, err);
	if (r == 0 && options->data != NULL)
		r = set(c.data_dir, options->data, err);
	if (r == 0 && c.data_dir[0] == '\0')
		r = by_default(c.data_dir, err);
	if (r == 0 && options->http != NULL)
		r = http_set(&c, options->http, err);
	if (r == 0 && options->http_token != NULL)
		r = token_set(&c, options->http_token, err);
	if (r == 0 && options->http_timeout != NULL)
		r = timeout_set(&c, options->http_timeout, err);
	if (r == 0)
		r = make(c.data_dir, err);
	if (r < 0)
		return r;
	/* Whole, as messages name it and as others may be told it. */
	strcpy(dir, c.data_dir);
	if (realpath(dir, c.data_dir) == NULL)
		return hfb_err_set(err, -errno, "cannot find %s: %s", dir, strerror(errno));
	*ret_config = c;
	return 0;
}
