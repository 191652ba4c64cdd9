/* SPDX-License-Identifier: Apache-2.0 */
#include "service_answers.h"

#include <string.h>

#include "request.h"
#include "topic_record.h"

#define LIST_PAGE     50u /* about 1 KiB each at worst */
#define DESCRIBE_PAGE 64u /* about 500 bytes each */

static json_t *
topic_of(const struct hfb_reconcile_entry *e)
{
	json_t *json = hfb_topic_record_to_json(&e->ours);
	const char *state = "pending"; /* hfbusd has not been told yet */

	if (e->refused != 0)
		state = "refused";
	else if (e->has_theirs && e->theirs.version == e->ours.version)
		state = "ready";
	if (json == NULL || json_object_set_new(json, "state", json_string(state)) < 0)
		goto fail;
	if (e->refused != 0 && json_object_set_new(json, "refusal", json_string(e->refusal)) < 0)
		goto fail;
	return json;
fail:
	json_decref(json);
	return NULL;
}

/* Sets @value (taken) in @json, or fails both. */
static json_t *
with(json_t *json, const char *key, json_t *value)
{
	if (json == NULL) {
		json_decref(value);
		return NULL;
	}
	if (json_object_set_new(json, key, value) < 0) {
		json_decref(json);
		return NULL;
	}
	return json;
}

json_t *
hfb_answer_topic(const struct hfb_ipc_topic *topic)
{
	return with(hfb_answer_ok(), "topic", hfb_topic_record_to_json(topic));
}

json_t *
hfb_answer_trim(const char *name, uint32_t partition, const struct hfb_ipc_trim_answer *trim)
{
	json_t *json = with(hfb_answer_ok(), "name", json_string(name));

	json = with(json, "partition", json_integer(partition));
	return with(json, "start",
		    json_pack("{s:I, s:I}", "position", (json_int_t)trim->start_position, "offset",
			      (json_int_t)trim->start_offset));
}

json_t *
hfb_answer_status(const struct hfb_reconcile *r, const struct hfb_broker *broker,
		  const char *data_dir, uint32_t unknown_logs, const char *http_address)
{
	static const char *const states[] = {
		[HFB_RECONCILE_AWAY] = "away",
		[HFB_RECONCILE_LISTING] = "reading",
		[HFB_RECONCILE_SETTLING] = "settling",
		[HFB_RECONCILE_SETTLED] = "settled",
	};
	json_int_t topics = 0, pending = 0, refused = 0, tombstones = 0;
	json_t *json = hfb_answer_ok();

	for (const struct hfb_reconcile_entry *e = hfb_reconcile_after(r, ""); e != NULL;
	     e = hfb_reconcile_after(r, e->has_ours ? e->ours.name : e->theirs.name)) {
		if (!e->has_ours)
			continue;
		if (hfb_topic_record_deleted(&e->ours)) {
			tombstones++;
			continue;
		}
		topics++;
		refused += e->refused != 0;
		pending += !e->has_theirs || e->theirs.version != e->ours.version;
	}
	json = with(json, "data", json_string(data_dir));
	json = with(json, "http", http_address != NULL ? json_string(http_address) : json_null());
	json = with(json, "running", json_boolean(hfb_broker_is_up(broker)));
	json = with(json, "state", json_string(states[hfb_reconcile_state(r)]));
	json = with(json, "topics", json_integer(topics));
	json = with(json, "tombstones", json_integer(tombstones));
	json = with(json, "pending", json_integer(pending));
	json = with(json, "refused", json_integer(refused));
	if (hfb_broker_is_up(broker)) {
		json = with(json, "hfbusd_pid", json_integer(hfb_broker_welcome(broker)->pid));
		json = with(json, "unknown_logs", json_integer(unknown_logs));
	}
	return json;
}

json_t *
hfb_answer_list(const struct hfb_reconcile *r, const struct hfb_broker *broker, const char *after,
		bool internal)
{
	json_t *topics = json_array();
	json_t *json = with(hfb_answer_ok(), "running", json_boolean(hfb_broker_is_up(broker)));
	const struct hfb_reconcile_entry *e;
	const char *last = NULL;

	for (e = hfb_reconcile_after(r, after); e != NULL;
	     e = hfb_reconcile_after(r, e->has_ours ? e->ours.name : e->theirs.name)) {
		if (!e->has_ours || hfb_topic_record_deleted(&e->ours) ||
		    (!internal && hfb_topic_record_internal(e->ours.name)))
			continue;
		if (json_array_size(topics) == LIST_PAGE)
			break;
		if (json_array_append_new(topics, topic_of(e)) < 0) {
			json_decref(topics);
			json_decref(json);
			return NULL;
		}
		last = e->ours.name;
	}
	if (e != NULL && last != NULL)
		json = with(json, "next", json_string(last));
	return with(json, "topics", topics);
}

static uint64_t
position_of(const struct hfb_mark *mark)
{
	return __atomic_load_n(&mark->position, __ATOMIC_ACQUIRE);
}

static json_t *
mark_of(const struct hfb_mark *mark)
{
	/* The position first: the offset is a hint that may already be of a later one. */
	uint64_t position = position_of(mark);
	uint64_t offset = __atomic_load_n(&mark->offset, __ATOMIC_RELAXED);

	return json_pack("{s:I, s:I}", "position", (json_int_t)position, "offset",
			 (json_int_t)offset);
}

static json_t *
partition_of(uint32_t index, const struct hfb_ipc_partition *p, const struct hfb_broker *broker,
	     const struct hfb_rates *rates)
{
	static const char *const states[] = {
		[HFB_PARTITION_CLOSED] = "closed",     [HFB_PARTITION_OPEN] = "open",
		[HFB_PARTITION_NO_SPACE] = "no-space", [HFB_PARTITION_FAILED] = "failed",
		[HFB_PARTITION_DELETED] = "deleted",
	};
	const struct hfb_positions *slot = hfb_broker_positions(broker, p->handle);
	json_t *json = json_pack("{s:I, s:I, s:I, s:I}", "partition", (json_int_t)index, "handle",
				 (json_int_t)p->handle, "core", (json_int_t)p->core, "udp_port",
				 (json_int_t)p->udp_port);
	double events_s, bytes_s;
	uint64_t start, received;
	uint32_t state;

	if (slot == NULL || __atomic_load_n(&slot->handle_used, __ATOMIC_ACQUIRE) != 1)
		return json;
	state = __atomic_load_n(&slot->state, __ATOMIC_RELAXED);
	start = position_of(&slot->start);
	received = position_of(&slot->received);
	json = with(json, "state", json_string(state < 5 ? states[state] : "?"));
	json = with(json, "leader_epoch",
		    json_integer(__atomic_load_n(&slot->leader_epoch, __ATOMIC_RELAXED)));
	json = with(json, "start", mark_of(&slot->start));
	json = with(json, "received", mark_of(&slot->received));
	json = with(json, "commit",
		    json_string(hfb_stage_name(
			    __atomic_load_n(&slot->commit_stage, __ATOMIC_RELAXED))));
	json = with(json, "durable", mark_of(&slot->durable));
	json = with(json, "committed", mark_of(&slot->committed));
	json = with(json, "kept_bytes",
		    json_integer(received > start ? (json_int_t)(received - start) : 0));
	json = with(json, "ring_bytes",
		    json_integer(__atomic_load_n(&slot->ring_bytes, __ATOMIC_RELAXED)));
	if (hfb_rates_get(rates, p->handle, &events_s, &bytes_s)) {
		json = with(json, "events_per_s", json_real(events_s));
		json = with(json, "bytes_per_s", json_real(bytes_s));
	}
	return with(
		json, "segment_bytes",
		json_integer((json_int_t)__atomic_load_n(&slot->segment_bytes, __ATOMIC_RELAXED)));
}

json_t *
hfb_answer_describe(const struct hfb_reconcile_entry *e, const struct hfb_broker *broker,
		    const struct hfb_rates *rates, const void *body, uint32_t bytes)
{
	const struct hfb_ipc_topic_answer *found = body;
	const struct hfb_ipc_partition *partitions = (const void *)(found + 1);
	json_t *json = with(hfb_answer_ok(), "topic", topic_of(e));
	json_t *list = json_array();
	uint32_t count = 0, next;

	json = with(json, "running", json_boolean(hfb_broker_is_up(broker)));
	if (body != NULL && bytes >= sizeof(*found)) {
		count = (bytes - (uint32_t)sizeof(*found)) / (uint32_t)sizeof(*partitions);
		if (count > found->count)
			count = found->count;
		if (count > DESCRIBE_PAGE)
			count = DESCRIBE_PAGE;
		next = found->first_partition + count;
		if (count > 0 && next < found->topic.partitions)
			json = with(json, "next", json_integer(next));
	}
	for (uint32_t i = 0; i < count; i++) {
		if (json_array_append_new(list, partition_of(found->first_partition + i,
							     &partitions[i], broker, rates)) < 0) {
			json_decref(list);
			json_decref(json);
			return NULL;
		}
	}
	return with(json, "partitions", list);
}
