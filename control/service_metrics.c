/* SPDX-License-Identifier: Apache-2.0 */
#include "service_metrics.h"

#include <stdio.h>

#include "metrics.h"
#include "topic_record.h"

static void
gauge(struct hfb_metrics_text *text, const char *name, const char *help, uint64_t value,
      const char *labels)
{
	hfb_metric_add(hfb_metric_find(text, name, HFB_METRIC_GAUGE, help), value, labels);
}

static void
counter(struct hfb_metrics_text *text, const char *name, const char *help, uint64_t value,
	const char *labels)
{
	hfb_metric_add(hfb_metric_find(text, name, HFB_METRIC_COUNTER, help), value, labels);
}

static void
topics_add(struct hfb_metrics_text *text, const struct hfb_reconcile *r)
{
	static const char help[] = "Topics by state; pending: hfbusd has not been told yet, "
				   "refused: it said no.";
	uint64_t ready = 0, pending = 0, refused = 0;

	for (const struct hfb_reconcile_entry *e = hfb_reconcile_after(r, ""); e != NULL;
	     e = hfb_reconcile_after(r, e->has_ours ? e->ours.name : e->theirs.name)) {
		if (!e->has_ours || hfb_topic_record_deleted(&e->ours))
			continue;
		if (e->refused != 0)
			refused++;
		else if (e->has_theirs && e->theirs.version == e->ours.version)
			ready++;
		else
			pending++;
	}
	gauge(text, "hfbus_control_topics", help, ready, "state=ready");
	gauge(text, "hfbus_control_topics", help, pending, "state=pending");
	gauge(text, "hfbus_control_topics", help, refused, "state=refused");
}

static void
group_add(void *arg, const struct hfb_groups_group *group)
{
	struct hfb_metrics_text *text = arg;
	char labels[320];

	snprintf(labels, sizeof(labels), "group=%.255s", group->name);
	gauge(text, "hfbus_group_members", "Members of a consumer group.", group->members, labels);
	gauge(text, "hfbus_group_generation", "Generation of a consumer group: counts rebalances.",
	      group->generation, labels);
	gauge(text, "hfbus_group_stable", "Has each member of a group what it is to have?",
	      group->state == HFB_GROUP_STABLE || group->state == HFB_GROUP_EMPTY, labels);
}

static void
lag_add(void *arg, const struct hfb_groups_lag *lag)
{
	struct hfb_metrics_text *text = arg;
	char labels[640];

	snprintf(labels, sizeof(labels), "group=%.255s,topic=%.255s,partition=%u", lag->group,
		 lag->topic, lag->partition);
	if (lag->has_committed)
		gauge(text, "hfbus_group_committed_offset", "Offset a group goes on from.",
		      lag->committed, labels);
	if (lag->has_committed && lag->has_end)
		gauge(text, "hfbus_group_lag_events", "Events a group has not committed yet.",
		      lag->lag, labels);
	gauge(text, "hfbus_group_partition_owned", "Has a member of the group this partition?",
	      lag->member[0] != '\0', labels);
}

static void
groups_add(struct hfb_metrics_text *text, struct hfb_groups *groups)
{
	struct hfb_groups_stats stats;

	hfb_groups_stats_get(groups, &stats);
	gauge(text, "hfbus_groups_ready", "Are the groups' offsets read, and groups served?",
	      stats.ready, "");
	counter(text, "hfbus_group_requests_total", "Requests about groups and offsets.",
		stats.requests, "");
	counter(text, "hfbus_group_commits_total", "Commits of offsets that were taken.",
		stats.commits, "");
	counter(text, "hfbus_group_commits_refused_total",
		"Commits refused: of fenced members, or of what they do not have.",
		stats.commits_refused, "");
	counter(text, "hfbus_group_rebalances_total", "Rebalances of groups.", stats.rebalances,
		"");
	counter(text, "hfbus_group_members_expired_total",
		"Members that were out after their session timeout.", stats.expired, "");
	counter(text, "hfbus_group_snapshots_total", "Snapshots of __offsets.", stats.snapshots,
		"");
	hfb_groups_each(groups, group_add, text);
	hfb_groups_lag_each(groups, lag_add, text);
}

static void
http_add(struct hfb_metrics_text *text, const struct hfb_http_counters *c)
{
	static const char requests[] = "hfbus_control_http_requests_total";
	static const char requests_help[] = "Requests over HTTP by the hundreds of their status.";
	static const char closed[] = "hfbus_control_http_closed_total";
	static const char closed_help[] = "HTTP connections cut off: slow ones, and idle ones that "
					  "made room.";
	static const char refused[] = "hfbus_control_http_refused_total";
	static const char refused_help[] = "HTTP requests refused for being too many, or without a "
					   "right token.";

	for (uint32_t i = 2; i < 6; i++) {
		char labels[16];

		snprintf(labels, sizeof(labels), "status=%uxx", i);
		counter(text, requests, requests_help, c->requests[i], labels);
	}
	counter(text, closed, closed_help, c->closed_slow, "reason=slow");
	counter(text, closed, closed_help, c->closed_for_room, "reason=room");
	counter(text, refused, refused_help, c->refused_busy, "reason=busy");
	counter(text, refused, refused_help, c->refused_token, "reason=token");
	counter(text, "hfbus_control_http_connections_total", "HTTP connections accepted.",
		c->connections_total, "");
	gauge(text, "hfbus_control_http_connections", "HTTP connections open.", c->connections, "");
	gauge(text, "hfbus_control_http_calls", "HTTP requests that wait for their answer.",
	      c->calls, "");
}

char *
hfb_service_metrics(const struct hfb_reconcile *r, const struct hfb_broker *broker,
		    struct hfb_groups *groups, const struct hfb_http *http, const char *data_dir,
		    size_t *ret_size)
{
	struct hfb_metrics_text *text = hfb_metrics_text_create();
	const struct hfb_counters_view *view = hfb_broker_counters(broker);
	const struct hfb_positions *positions;
	uint32_t count;

	if (text == NULL)
		return NULL;
	gauge(text, "hfbus_up", "Is hfbusd running and connected?", hfb_broker_is_up(broker), "");
	gauge(text, "hfbus_control_settled", "Do the catalogues of hfbus-control and hfbusd agree?",
	      hfb_reconcile_state(r) == HFB_RECONCILE_SETTLED, "");
	topics_add(text, r);
	if (view != NULL) {
		gauge(text, "hfbus_epoch", "Starts of hfbusd on this folder.",
		      hfb_broker_welcome(broker)->broker_epoch, "");
		gauge(text, "hfbus_cores", "Poll cores.", hfb_broker_welcome(broker)->cores, "");
		hfb_metrics_counters(text, view, hfb_broker_welcome(broker)->tsc_hz);
	}
	positions = hfb_broker_all_positions(broker, &count);
	if (positions != NULL)
		hfb_metrics_partitions(text, positions, count);
	groups_add(text, groups);
	if (http != NULL)
		http_add(text, hfb_http_counters(http));
	hfb_metrics_host(text, data_dir);
	return hfb_metrics_text_end(text, ret_size);
}
