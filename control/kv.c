/* SPDX-License-Identifier: Apache-2.0 */
#include "kv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bug.h"

#define WATCHERS_MAX 4u
#define PREFIX_MAX   32u

struct watcher {
	char prefix[PREFIX_MAX];
	hfb_kv_fn *fn;
	void *arg;
};

struct hfb_kv {
	const struct hfb_kv_driver *driver;
	void *state;
	uint32_t watchers_count;
	struct watcher watchers[WATCHERS_MAX];
};

int
hfb_kv_create(const struct hfb_kv_driver *driver, void *state, struct hfb_kv **ret_kv)
{
	struct hfb_kv *kv = calloc(1, sizeof(*kv));

	if (kv == NULL)
		return -ENOMEM;
	kv->driver = driver;
	kv->state = state;
	*ret_kv = kv;
	return 0;
}

void
hfb_kv_close(struct hfb_kv *kv)
{
	if (kv == NULL)
		return;
	kv->driver->close(kv->state);
	free(kv);
}

int
hfb_kv_get(struct hfb_kv *kv, const char *key, struct hfb_kv_item *ret_item, struct hfb_err *err)
{
	return kv->driver->get(kv->state, key, ret_item, err);
}

int
hfb_kv_each(struct hfb_kv *kv, const char *prefix, hfb_kv_fn *fn, void *arg, struct hfb_err *err)
{
	return kv->driver->each(kv->state, prefix, fn, arg, err);
}

int
hfb_kv_cas(struct hfb_kv *kv, const char *key, uint64_t expected_revision, const char *value,
	   uint64_t *ret_revision, struct hfb_err *err)
{
	struct hfb_kv_item item = { .key = key, .value = value };
	int r;

	hfb_assert(key[0] != '\0');
	r = kv->driver->cas(kv->state, key, expected_revision, value, &item.revision, err);
	if (r < 0)
		return r;
	if (ret_revision != NULL)
		*ret_revision = item.revision;
	for (uint32_t i = 0; i < kv->watchers_count; i++) {
		struct watcher *w = &kv->watchers[i];

		if (strncmp(key, w->prefix, strlen(w->prefix)) == 0)
			w->fn(w->arg, &item);
	}
	return 0;
}

int
hfb_kv_watch(struct hfb_kv *kv, const char *prefix, hfb_kv_fn *fn, void *arg, struct hfb_err *err)
{
	struct watcher *w;

	hfb_assert(strlen(prefix) < PREFIX_MAX);
	if (kv->watchers_count == WATCHERS_MAX)
		return hfb_err_set(err, -ENOSPC, "all %u watchers of the store are taken",
				   WATCHERS_MAX);
	w = &kv->watchers[kv->watchers_count++];
	strcpy(w->prefix, prefix);
	w->fn = fn;
	w->arg = arg;
	return 0;
}
