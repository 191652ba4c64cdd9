/* SPDX-License-Identifier: Apache-2.0 */
#include "control_config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cyaml/cyaml.h>

#define DIR_BYTES 4096

struct raw {
	char *data;
};

static const cyaml_schema_field_t fields[] = {
	CYAML_FIELD_STRING_PTR("data", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct raw, data,
			       0, CYAML_UNLIMITED),
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

/* 1: found, 0: the file does not say. */
static int
from_file(const char *path, char ret_dir[DIR_BYTES], struct hfb_err *err)
{
	const cyaml_config_t how = {
		.log_fn = NULL,
		.mem_fn = cyaml_mem,
		.flags = CYAML_CFG_IGNORE_UNKNOWN_KEYS,
	};
	struct raw *raw = NULL;
	cyaml_err_t code;
	int r = 0;

	if (access(path, R_OK) < 0)
		return hfb_err_set(err, -errno, "cannot read %s: %s", path, strerror(errno));
	code = cyaml_load_file(path, &how, &schema, (cyaml_data_t **)&raw, NULL);
	if (code != CYAML_OK)
		return hfb_err_set(err, -EINVAL, "%s: %s; hfbusd --config %s --plan shows the line",
				   path, cyaml_strerror(code), path);
	if (raw != NULL && raw->data != NULL) {
		r = set(ret_dir, raw->data, err);
		if (r == 0)
			r = 1;
	}
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
hfb_control_data_dir(const char *data, const char *config, char ret_dir[DIR_BYTES],
		     struct hfb_err *err)
{
	char dir[DIR_BYTES] = "";
	int r = 0;

	if (data != NULL) {
		r = set(dir, data, err);
	} else {
		if (config != NULL)
			r = from_file(config, dir, err);
		if (r == 0)
			r = by_default(dir, err);
	}
	if (r >= 0)
		r = make(dir, err);
	/* Whole, as messages name it and as others may be told it. */
	if (r == 0 && realpath(dir, ret_dir) == NULL)
		return hfb_err_set(err, -errno, "cannot find %s: %s", dir, strerror(errno));
	return r;
}
