/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pub.c - a publisher: a lane (window, link, handle) for each partition it
 * writes to. window.c has the rules of sending again; here they meet the links.
 */
#include <hfbus/pub.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <hfbus/log.h>

#include "connection.h"
#include "pub_private.h"
#include "uuid.h"
#include "window.h"

#define WINDOW_BYTES_DEFAULT (4u * HFB_MIB)
#define WINDOW_BYTES_LIMIT   (256u * HFB_MIB)
#define BATCH_BYTES_LOCAL    65536u
#define RESEND_LOCAL_NS	     200000000ull
#define RESEND_UDP_NS	     40000000ull
#define ROUND_NS	     1000000ull /* acks and timers are looked at this often by send */

struct lane {
	struct hfb_window window;
	bool bound; /* handle and link are of bus->generation */
	uint32_t partition;
	uint32_t handle;
	uint16_t core, udp_port;
	uint32_t link_sessions; /* session the window's state belongs to */
	uint64_t producer_id;
	uint64_t rebind_ns; /* not before */
};

struct hfb_pub {
	struct hfb_bus *bus;
	struct hfb_pub *next;
	char topic[HFB_TOPIC_NAME_MAX + 1];
	struct hfb_uuid uuid;
	uint32_t generation; /* of bus, lanes are bound in */
	uint32_t partitions;
	int32_t partition;
	uint32_t stage;
	bool own_id; /* the caller's producer id: never renumbered */
	uint16_t producer_epoch;
	uint64_t producer_id;
	uint32_t window_bytes, batch_bytes, event_bytes_max;
	uint64_t first_sequence;
	struct lane **lanes; /* by partition; NULL until written to */
	uint32_t *used;	     /* partitions with a lane */
	uint32_t used_count;
	uint32_t turn; /* round robin */
	void (*acked)(void *arg, const struct hfb_acked *acked);
	void *arg;
	struct hfb_pub_stats stats;
	uint64_t round_ns; /* the last one */
	int acked_now;	   /* events, by the call under way */
	int failed;	   /* final: negative errno */
	uint32_t refusal;  /* enum hfb_wire_code, not told yet */
	struct hfb_err err;
};

/* Lanes. ------------------------------------------------------------------------ */

static int
lane_get(struct hfb_pub *pub, uint32_t partition, struct lane **ret_lane, struct hfb_err *err)
{
	struct hfb_window_config config = {
		.window_bytes = pub->window_bytes,
		.batch_bytes = pub->batch_bytes,
		.event_bytes_max = pub->event_bytes_max,
		.stage = pub->stage,
		.first_sequence = pub->first_sequence,
		.resend_ns = pub->bus->local ? RESEND_LOCAL_NS : RESEND_UDP_NS,
		.lossy = !pub->bus->local,
	};
	struct lane *lane = pub->lanes[partition];
	int r;

	if (lane != NULL) {
		*ret_lane = lane;
		return 0;
	}
	lane = calloc(1, sizeof(*lane));
	if (lane == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	r = hfb_window_init(&lane->window, &config);
	if (r < 0) {
		free(lane);
		return hfb_err_set(err, r, "no memory for a window of %u bytes, see window_bytes",
				   pub->window_bytes);
	}
	lane->partition = partition;
	lane->producer_id = pub->producer_id;
	pub->lanes[partition] = lane;
	pub->used[pub->used_count++] = partition;
	*ret_lane = lane;
	return 0;
}

/* Handle and link of this run. 0, -EAGAIN (later), or a final error. */
static int
lane_bind(struct hfb_pub *pub, struct lane *lane, struct hfb_link **ret_link, uint64_t now_ns,
	  struct hfb_err *err)
{
	struct hfb_partition_address address;
	struct hfb_link *link;
	int r;

	if (!lane->bound) {
		if (now_ns < lane->rebind_ns)
			return -EAGAIN;
		lane->rebind_ns = now_ns + 20000000ull;
		r = hfb_connection_resolve(pub->bus, pub->topic, lane->partition, &address, err);
		if (r == -ENOENT || r == -ERANGE || r == -EPROTO)
			return r;
		if (r < 0)
			return -EAGAIN;
		if (memcmp(&address.topic, &pub->uuid, sizeof(pub->uuid)) != 0)
			return hfb_err_set(err, -ENOENT,
					   "topic %s was deleted and made again: open "
					   "it anew",
					   pub->topic);
		lane->handle = address.handle;
		lane->core = address.core;
		lane->udp_port = address.udp_port;
		lane->link_sessions = 0;
	}
	r = hfb_connection_link(pub->bus, lane->core, lane->udp_port, &link, err);
	if (r == -EPROTO)
		return r;
	if (r < 0)
		return -EAGAIN;
	lane->bound = true;
	if (lane->link_sessions != link->sessions) {
		/* another session: what was on the way may be lost */
		lane->link_sessions = link->sessions;
		hfb_window_restart(&lane->window, now_ns);
	}
	*ret_link = link;
	return 0;
}

/* Frames for what window and credit allow. Returns how many, or a final error. */
static int
lane_frames(struct hfb_pub *pub, struct lane *lane, struct hfb_link *link, uint64_t now_ns,
	    struct hfb_err *err)
{
	const struct hfb_window_batch *batch;
	int r, frames = 0;

	while ((batch = hfb_window_next(&lane->window, now_ns)) != NULL) {
		struct hfb_frame_produce head = {
			.partition = lane->handle,
			.flags = (uint16_t)(pub->stage |
					    (pub->acked != NULL ? HFB_PRODUCE_WANT_OFFSET : 0)),
			.producer_epoch = pub->producer_epoch,
			.count = batch->count,
			.payload_crc = batch->payload_crc,
			.producer_id = lane->producer_id,
			.base_sequence = batch->base_sequence,
		};

		r = hfb_link_send(link, HFB_FRAME_PRODUCE, &head, sizeof(head), batch->records,
				  batch->bytes);
		if (r == -EMSGSIZE)
			return hfb_err_set(err, r,
					   "an event of topic %s does not fit a frame of %u "
					   "bytes",
					   pub->topic, link->frame_bytes_max);
		if (r < 0)
			break;
		hfb_window_sent(&lane->window, now_ns);
		frames++;
	}
	return frames;
}

/* Send what may be sent. 0, or a final error. */
static int
lane_send(struct hfb_pub *pub, struct lane *lane, uint64_t now_ns, struct hfb_err *err)
{
	struct hfb_link *link = NULL;
	int r;

	if (lane->window.send == lane->window.closed && lane->bound)
		return 0;
	r = lane_bind(pub, lane, &link, now_ns, err);
	if (r < 0)
		return r == -EAGAIN ? 0 : r;
	r = lane_frames(pub, lane, link, now_ns, err);
	return r < 0 ? r : 0;
}

/*
 * A batch was closed while the bus is up and nothing is due: its frame goes, and that is
 * all. False: a whole round is needed.
 */
static bool
lane_push(struct hfb_pub *pub, struct lane *lane)
{
	struct hfb_bus *bus = pub->bus;
	struct hfb_link *link = bus->links[lane->core];
	uint64_t now = hfb_connection_now(bus);

	if (!lane->bound || !bus->up || pub->generation != bus->generation || link == NULL ||
	    lane->link_sessions != link->sessions || now - pub->round_ns >= ROUND_NS)
		return false;
	if (lane_frames(pub, lane, link, now, NULL) <= 0)
		return false;
	hfb_link_show(link);
	return true;
}

/* What comes back. ---------------------------------------------------------------- */

static void
lane_ack(struct hfb_pub *pub, struct lane *lane, const struct hfb_wire_ack *ack, uint64_t now_ns)
{
	struct hfb_window_result result;

	hfb_window_ack(&lane->window, ack, now_ns, &result);
	if (ack->code != 0 && ack->code < 24)
		pub->stats.refusals[ack->code]++;
	if (result.acked_events > 0) {
		pub->acked_now += (int)result.acked_events;
		pub->stats.acked_events += result.acked_events;
		if (pub->acked != NULL) {
			struct hfb_acked acked = {
				.partition = lane->partition,
				.events = result.acked_events,
				.sequence = result.acked_sequence,
				.base_offset = result.base_offset,
			};

			pub->acked(pub->arg, &acked);
		}
	}
	switch (result.verdict) {
	case HFB_WINDOW_FINAL:
		pub->failed =
			hfb_pub_refusal(pub->topic, pub->producer_epoch, result.code, &pub->err);
		break;
	case HFB_WINDOW_LOST:
		if (pub->own_id) {
			pub->failed = hfb_pub_refusal(pub->topic, pub->producer_epoch,
						      HFB_WIRE_UNKNOWN_PRODUCER, &pub->err);
			break;
		}
		/* nothing unacked can be there, so a new producer repeats nothing */
		if (lane->window.acked > ack->sequence[HFB_STAGE_RECEIVED])
			pub->stats.lost_events +=
				lane->window.acked - ack->sequence[HFB_STAGE_RECEIVED];
		hfb_random(&lane->producer_id, sizeof(lane->producer_id));
		lane->producer_id |= 1;
		hfb_window_renumber(&lane->window, now_ns);
		break;
	case HFB_WINDOW_REFUSED:
		if (hfb_pub_refusal_told(result.code))
			pub->refusal = result.code;
		else if (result.code == HFB_WIRE_NO_PARTITION || result.code == HFB_WIRE_WRONG_CORE)
			lane->bound = false;
		break;
	default:
		break;
	}
}

void
hfb_pubs_ack_frame(struct hfb_bus *bus, const uint8_t *frame, uint32_t size, uint64_t now_ns)
{
	struct hfb_frame_ack head;
	struct hfb_wire_ack ack;

	if (size < sizeof(head))
		return;
	memcpy(&head, frame, sizeof(head));
	if ((size - sizeof(head)) / sizeof(ack) < head.count)
		return;
	for (uint32_t i = 0; i < head.count; i++) {
		memcpy(&ack, frame + sizeof(head) + i * sizeof(ack), sizeof(ack));
		for (struct hfb_pub *pub = bus->pubs; pub != NULL; pub = pub->next) {
			for (uint32_t k = 0; k < pub->used_count; k++) {
				struct lane *lane = pub->lanes[pub->used[k]];

				if (lane->bound && lane->handle == ack.partition &&
				    lane->producer_id == ack.producer_id)
					lane_ack(pub, lane, &ack, now_ns);
			}
		}
	}
}

void
hfb_pubs_error_frame(struct hfb_bus *bus, const struct hfb_frame_error *error)
{
	/* an answer to one frame; the timers send again, the counts tell why */
	for (struct hfb_pub *pub = bus->pubs; pub != NULL; pub = pub->next) {
		if (error->code < 24)
			pub->stats.refusals[error->code]++;
		if (error->code == HFB_WIRE_NO_PARTITION || error->code == HFB_WIRE_WRONG_CORE)
			for (uint32_t k = 0; k < pub->used_count; k++)
				pub->lanes[pub->used[k]]->bound = false;
	}
}

/* The public half. ------------------------------------------------------------------ */

static uint32_t
power_of_two_up(uint32_t n)
{
	uint32_t p = 4096;

	while (p < n)
		p *= 2;
	return p;
}

static int
sizes_choose(struct hfb_pub *pub, const struct hfb_pub_config *config,
	     const struct hfb_partition_address *address, struct hfb_link *link,
	     struct hfb_err *err)
{
	uint32_t most = link->frame_bytes_max - (uint32_t)sizeof(struct hfb_frame_produce);
	uint32_t batch = config->batch_bytes;

	most &= ~7u;
	if (address->batch_bytes_max > HFB_BATCH_HEADER_BYTES &&
	    most > address->batch_bytes_max - HFB_BATCH_HEADER_BYTES)
		most = address->batch_bytes_max - HFB_BATCH_HEADER_BYTES;
	if (most > HFB_BATCH_BYTES_MAX - HFB_BATCH_HEADER_BYTES)
		most = HFB_BATCH_BYTES_MAX - HFB_BATCH_HEADER_BYTES;
	if (config->window_bytes > WINDOW_BYTES_LIMIT)
		return hfb_err_set(err, -EINVAL, "window_bytes is %u, at most %u",
				   config->window_bytes, WINDOW_BYTES_LIMIT);
	pub->window_bytes =
		power_of_two_up(config->window_bytes ? config->window_bytes : WINDOW_BYTES_DEFAULT);
	if (pub->window_bytes / 2 < most)
		most = pub->window_bytes / 2;
	if (batch == 0)
		batch = pub->bus->local ? BATCH_BYTES_LOCAL : most;
	pub->event_bytes_max = most;
	pub->batch_bytes = batch < 64 ? 64 : batch > most ? most : batch;
	return 0;
}

int
hfb_pub_open(struct hfb_bus *bus, const struct hfb_pub_config *config, struct hfb_pub **ret_pub,
	     struct hfb_err *err)
{
	struct hfb_partition_address address;
	struct hfb_link *link;
	struct hfb_pub *pub;
	int r;

	if (!(config->internal && bus->local) && strncmp(config->topic, HFB_TOPIC_INTERNAL_PREFIX,
							 strlen(HFB_TOPIC_INTERNAL_PREFIX)) == 0)
		return hfb_err_set(err, -EPERM,
				   "topic %s is the bus's own: hfbus-control writes it",
				   config->topic);
	if (config->ack < -1 || config->ack >= HFB_STAGES)
		return hfb_err_set(err, -EINVAL, "no stage %d, see --ack", config->ack);
	r = hfb_connection_check(bus, hfb_now_ns(), err);
	if (r < 0)
		return r;
	r = hfb_connection_resolve(bus, config->topic,
				   config->partition > 0 ? (uint32_t)config->partition : 0,
				   &address, err);
	if (r == -ENOENT && bus->local && hfb_connection_auto_create(bus, config->topic, err) == 0)
		r = hfb_connection_resolve(bus, config->topic,
					   config->partition > 0 ? (uint32_t)config->partition : 0,
					   &address, err);
	if (r < 0)
		return r;
	r = hfb_connection_link(bus, address.core, address.udp_port, &link, err);
	if (r < 0)
		return r;
	pub = calloc(1, sizeof(*pub));
	if (pub == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	pub->bus = bus;
	pub->generation = bus->generation;
	memcpy(pub->topic, config->topic, strlen(config->topic) + 1);
	pub->uuid = address.topic;
	pub->partitions = address.partitions;
	pub->partition = config->partition < 0 ? -1 : config->partition;
	pub->stage = config->ack < 0 ? address.commit_stage : (uint32_t)config->ack;
	pub->acked = config->acked;
	pub->arg = config->arg;
	pub->own_id = config->producer_id != 0;
	pub->producer_id = config->producer_id;
	pub->producer_epoch = config->producer_epoch;
	pub->first_sequence = config->first_sequence;
	if (!pub->own_id) {
		hfb_random(&pub->producer_id, sizeof(pub->producer_id));
		pub->producer_id |= 1;
		pub->first_sequence = 0;
	}
	r = sizes_choose(pub, config, &address, link, err);
	if (r < 0)
		goto fail;
	pub->lanes = calloc(pub->partitions, sizeof(*pub->lanes));
	pub->used = calloc(pub->partitions, sizeof(*pub->used));
	if (pub->lanes == NULL || pub->used == NULL) {
		r = hfb_err_set(err, -ENOMEM, "out of memory");
		goto fail;
	}
	pub->next = bus->pubs;
	bus->pubs = pub;
	*ret_pub = pub;
	return 0;
fail:
	hfb_pub_close(pub);
	return r;
}

void
hfb_pub_close(struct hfb_pub *pub)
{
	if (pub == NULL)
		return;
	for (struct hfb_pub **p = &pub->bus->pubs; *p != NULL; p = &(*p)->next) {
		if (*p == pub) {
			*p = pub->next;
			break;
		}
	}
	/* half made it has neither */
	for (uint32_t i = 0; pub->lanes != NULL && pub->used != NULL && i < pub->used_count; i++) {
		hfb_window_fini(&pub->lanes[pub->used[i]]->window);
		free(pub->lanes[pub->used[i]]);
	}
	free(pub->lanes);
	free(pub->used);
	free(pub);
}

/* *@ret_closed: a batch of another partition is full and may go. */
static uint32_t
partition_choose(struct hfb_pub *pub, const struct hfb_event *event, bool *ret_closed)
{
	struct lane *lane;

	if (pub->partition >= 0)
		return (uint32_t)pub->partition;
	if (event->key != NULL)
		return hfb_key_partition(event->key, event->key_size, pub->partitions);
	/* stay while its batch fills: a frame an event would cost more than skew does */
	lane = pub->lanes[pub->turn];
	if (lane != NULL && lane->window.open && !hfb_window_fits(&lane->window, event)) {
		hfb_window_close(&lane->window);
		*ret_closed = true;
	}
	if (lane != NULL && !lane->window.open && !hfb_window_empty(&lane->window))
		pub->turn = (pub->turn + 1) % pub->partitions;
	return pub->turn;
}

static int round_run(struct hfb_pub *pub, bool wakes, struct hfb_err *err);

int
hfb_pub_send(struct hfb_pub *pub, const struct hfb_event *event, struct hfb_err *err)
{
	struct lane *lane = NULL;
	bool closed_other = false;
	uint64_t closed;
	int r;

	if (pub->failed < 0) {
		if (err != NULL)
			*err = pub->err;
		return pub->failed;
	}
	r = lane_get(pub, partition_choose(pub, event, &closed_other), &lane, err);
	if (r < 0)
		return r;
	closed = lane->window.closed;
	r = hfb_window_add(&lane->window, event);
	if (r == -EAGAIN) {
		r = hfb_pub_poll(pub, 0, err);
		if (r < 0)
			return r;
		r = hfb_window_add(&lane->window, event);
		if (r == -EAGAIN)
			return r;
	}
	if (r == -EMSGSIZE)
		return hfb_err_set(
			err, r,
			"an event of %u bytes is too large for topic %s: at most "
			"%u %s",
			event->value_size, pub->topic,
			hfb_pub_value_bytes_max(pub, event->key_size, event->headers_size),
			pub->bus->local ? "here (a quarter of the ring, see ring_bytes)"
					: "over UDP (one datagram)");
	pub->stats.events++;
	pub->stats.bytes += (event->value != NULL ? event->value_size : 0) +
			    (event->key != NULL ? event->key_size : 0) + event->headers_size;
	if (hfb_window_full(&lane->window))
		hfb_window_close(&lane->window);
	if (lane->window.closed != closed || closed_other) {
		/* a full batch is on its way at once; the one just begun goes on filling */
		r = !closed_other && lane_push(pub, lane) ? 0 : round_run(pub, false, err);
		if (r < 0 && pub->failed < 0)
			return r; /* others are told by poll and flush: it is taken */
	}
	return 0;
}

/* Make what the links hold visible; a sleeping core wakes for it if @wakes. */
static void
links_show(struct hfb_bus *bus, bool wakes)
{
	for (uint32_t i = 0; i < bus->links_end; i++) {
		if (bus->links[i] == NULL)
			continue;
		if (wakes)
			hfb_link_kick(bus->links[i]);
		else
			hfb_link_show(bus->links[i]);
	}
}

/* One round. Returns 0, or an error. */
static int
round_run(struct hfb_pub *pub, bool wakes, struct hfb_err *err)
{
	struct hfb_bus *bus = pub->bus;
	uint64_t now = hfb_connection_now(bus);
	int r;

	/* each ms at least, also for one who sends and never polls */
	wakes = wakes || now - pub->round_ns >= ROUND_NS;
	pub->round_ns = now;

	r = hfb_connection_check(bus, now, err);
	if (r == -ENOTCONN)
		return 0; /* patience: check itself says when it ends */
	if (r == -ETIMEDOUT)
		return hfb_err_set(err, -ENOTCONN,
				   "hfbusd is gone for more than %u ms; unacked "
				   "events of topic %s are kept",
				   bus->reconnect_ms, pub->topic);
	if (r < 0)
		return r;
	if (pub->generation != bus->generation) {
		pub->generation = bus->generation;
		pub->stats.reconnects++;
		for (uint32_t i = 0; i < pub->used_count; i++) {
			pub->lanes[pub->used[i]]->bound = false;
			pub->lanes[pub->used[i]]->rebind_ns = 0;
		}
	}
	hfb_connection_receive(bus, now);
	for (uint32_t i = 0; i < pub->used_count; i++) {
		struct lane *lane = pub->lanes[pub->used[i]];

		hfb_window_tick(&lane->window, now);
		r = lane_send(pub, lane, now, err);
		if (r < 0) {
			pub->failed = r;
			if (err != NULL)
				pub->err = *err;
			return r;
		}
	}
	links_show(bus, wakes);
	if (pub->failed < 0) {
		if (err != NULL)
			*err = pub->err;
		return pub->failed;
	}
	return 0;
}

static bool
pub_empty(const struct hfb_pub *pub)
{
	for (uint32_t i = 0; i < pub->used_count; i++)
		if (!hfb_window_empty(&pub->lanes[pub->used[i]]->window))
			return false;
	return true;
}

int
hfb_pub_poll(struct hfb_pub *pub, uint32_t timeout_ms, struct hfb_err *err)
{
	uint64_t now, until = timeout_ms == 0 ? 0 : hfb_now_ns() + timeout_ms * 1000000ull;
	struct hfb_idle_wait idle = { 0 };
	struct hfb_link *wait_on;
	int r;

	pub->acked_now = 0;
	for (uint32_t i = 0; i < pub->used_count; i++)
		hfb_window_close(&pub->lanes[pub->used[i]]->window);
	for (;;) {
		r = round_run(pub, true, err);
		if (r < 0)
			return r;
		if (pub->acked_now > 0 || timeout_ms == 0 || pub_empty(pub))
			break;
		if (pub->refusal != 0)
			break;
		now = hfb_now_ns();
		if (now >= until)
			break;
		/* one lane: its link can wake us; several: sleep in small steps */
		wait_on = pub->used_count == 1 && pub->bus->up
				  ? pub->bus->links[pub->lanes[pub->used[0]]->core]
				  : NULL;
		hfb_idle_wait(&idle, wait_on, until - now < 2000000ull ? until - now : 2000000ull);
	}
	if (pub->refusal != 0 && pub->acked_now == 0) {
		uint32_t code = pub->refusal;

		pub->refusal = 0;
		return hfb_pub_refusal(pub->topic, pub->producer_epoch, code, err);
	}
	return pub->acked_now;
}

int
hfb_pub_flush(struct hfb_pub *pub, uint32_t timeout_ms, struct hfb_err *err)
{
	uint64_t until = hfb_now_ns() + (uint64_t)timeout_ms * 1000000ull, now;
	int r;

	while (!pub_empty(pub)) {
		now = hfb_now_ns();
		if (timeout_ms != UINT32_MAX && now >= until)
			return hfb_err_set(err, -ETIMEDOUT,
					   "topic %s: not all events were acked "
					   "within %u ms",
					   pub->topic, timeout_ms);
		r = hfb_pub_poll(pub,
				 timeout_ms == UINT32_MAX || until - now > 100000000ull
					 ? 100
					 : (uint32_t)((until - now) / 1000000ull) + 1,
				 err);
		if (r < 0)
			return r;
	}
	return 0;
}

uint32_t
hfb_pub_partitions(const struct hfb_pub *pub)
{
	return pub->partitions;
}

uint32_t
hfb_pub_value_bytes_max(const struct hfb_pub *pub, uint32_t key_size, uint32_t headers_size)
{
	uint64_t other = HFB_RECORD_HEADER_BYTES + (uint64_t)key_size + headers_size;

	return other >= pub->event_bytes_max ? 0 : (uint32_t)(pub->event_bytes_max - other);
}

void
hfb_pub_stats_get(const struct hfb_pub *pub, struct hfb_pub_stats *ret_stats)
{
	*ret_stats = pub->stats;
	ret_stats->frames = ret_stats->resent_frames = 0;
	for (uint32_t i = 0; i < pub->used_count; i++) {
		ret_stats->frames += pub->lanes[pub->used[i]]->window.frames;
		ret_stats->resent_frames += pub->lanes[pub->used[i]]->window.resent;
	}
}
