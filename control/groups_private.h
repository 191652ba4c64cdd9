/* SPDX-License-Identifier: Apache-2.0 */
/*
 * groups_private.h - what groups.c and its groups_write.c, groups_requests.c,
 * groups_answers.c and groups_reset.c share.
 *
 * Threads: the event loop's.
 */
#ifndef HFB_GROUPS_PRIVATE_H
#define HFB_GROUPS_PRIVATE_H

#include <time.h>

#include "group_ends.h"
#include "group_request.h"
#include "groups.h"
#include "offsets.h"

struct hfb_group_entry {
	struct hfb_group *machine;
	struct hfb_offsets offsets;
	char *record;  /* the last durable GROUP record; NULL = none */
	bool deleting; /* its deletion is being written */
};

/* Who waits for the batch that is collected, or written. */
struct hfb_waiting {
	struct hfb_waiting *next;
	hfb_groups_fn *done;
	void *arg;
	json_t *answer;
};

/* A request that waits until offsets are read, or ends are known. */
struct hfb_deferred {
	struct hfb_deferred *next;
	struct hfb_group_request request;
	hfb_groups_fn *done;
	void *arg;
	uint64_t until_ms;
};

struct hfb_groups {
	struct hfb_groups_env env;
	struct hfb_offset_log *log;
	struct hfb_group_ends *ends;
	uv_timer_t tick, linger;
	uv_check_t after_io;
	bool ready, closing, writing;
	bool urgent;			  /* what is collected does not wait for more */
	bool settled;			  /* ends are known since the last look */
	struct hfb_group_entry **entries; /* by name */
	uint32_t entries_count;
	struct hfb_offset_batch *open; /* being collected */
	uint32_t open_commits, last_commits;
	uint64_t last_write_ns;
	struct hfb_waiting *open_waiting, **open_end;
	struct hfb_deferred *deferred;
	struct hfb_groups_stats stats;
};

uint64_t hfb_groups_now_ns(clockid_t clock);
uint64_t hfb_groups_now_ms(void); /* CLOCK_MONOTONIC */

struct hfb_group_entry *hfb_groups_find(const struct hfb_groups *g, const char *name);

/* The partitions and uuid of a topic that is there; false: it is not. */
bool hfb_groups_topic(const struct hfb_groups *g, const char *topic, uint32_t *ret_partitions,
		      struct hfb_uuid *ret_uuid);

/* Is it known that a topic of this name is another one by now, or none? */
bool hfb_groups_topic_former(const struct hfb_groups *g, const char *topic,
			     const struct hfb_uuid *uuid);

/* Is that what those who read the topic have now? Also where @uuid is not said (null), and where
 * hfbusd keeps another one than ours. */
bool hfb_groups_topic_read(const struct hfb_groups *g, const char *topic,
			   const struct hfb_uuid *uuid);

/* Found or made; NULL: no memory, or too many. */
struct hfb_group_entry *hfb_groups_get(struct hfb_groups *g, const char *name);
void hfb_groups_remove(struct hfb_groups *g, const char *name);

/* groups_write.c */
/* Into the batch that is collected. 0, -ENOENT (no such topic), -ENOMEM, -E2BIG. */
int hfb_groups_write_commits(struct hfb_groups *g, struct hfb_group_entry *e,
			     const struct hfb_topic_commit *commits, uint32_t count, bool force);
int hfb_groups_write_deletion(struct hfb_groups *g, struct hfb_group_entry *e);
/* A machine was told something: has it a generation to store? */
void hfb_groups_after(struct hfb_groups *g, struct hfb_group_entry *e);
/* @answer (taken) goes out when the batch that is collected is durable. False: no memory. */
bool hfb_groups_wait(struct hfb_groups *g, hfb_groups_fn *done, void *arg, json_t *answer);
/* Those who wait for what is collected; the next ones wait for the next batch. */
struct hfb_waiting *hfb_groups_take_waiting(struct hfb_groups *g);
void hfb_groups_answer_all(struct hfb_waiting *waiting);
/* Begins the next write, if there is something and nothing is under way. */
void hfb_groups_submit(struct hfb_groups *g);

/* groups_requests.c */
void hfb_groups_run_deferred(struct hfb_groups *g);
void hfb_groups_drop_deferred(struct hfb_groups *g);
/* A group without members gets these offsets, back too; answered when durable. */
void hfb_groups_set(struct hfb_groups *g, const char *group, const struct hfb_topic_commit *commits,
		    uint32_t count, json_t *answer, hfb_groups_fn *done, void *arg);
void hfb_groups_refuse(hfb_groups_fn *done, void *arg, int code, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* groups_answers.c: new references. */
/* @json (taken) with @value (taken) as @key; NULL: no memory, or @json was NULL. */
json_t *hfb_groups_with(json_t *json, const char *key, json_t *value);
json_t *hfb_groups_answer_list(struct hfb_groups *g, const char *after);
json_t *hfb_groups_answer_describe(struct hfb_groups *g, const struct hfb_group_entry *e,
				   uint32_t first);
json_t *hfb_groups_answer_members(struct hfb_groups *g, const struct hfb_group_entry *e);
json_t *hfb_groups_answer_fetch(const struct hfb_groups *g, const struct hfb_group_entry *e,
				const struct hfb_group_request *q);

/* groups_reset.c */
void hfb_groups_reset(struct hfb_groups *g, const struct hfb_group_request *q, hfb_groups_fn *done,
		      void *arg);

#endif
