/* SPDX-License-Identifier: Apache-2.0 */
#include "offset_log.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <hfbus/hfbus.h>

#include "bug.h"
#include "uuid.h"

/* "hfb offsets": the producer of __offsets, in all its epochs. */
#define PRODUCER_ID 0x0073746573666f68ull
#define BATCH_BYTES (192u * 1024u)
#define WAIT_MS	    100u
#define POLL_MS	    200u

/* A record read at start, on its way to the loop. */
struct read_record {
	struct read_record *next;
	char group[HFB_GROUP_NAME_MAX + 1];
	size_t size;
	uint8_t value[];
};

struct hfb_offset_log {
	uv_async_t wake;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t more;
	const struct hfb_offset_log_events *events;
	void *arg;
	char data_dir[4096];
	/* under the lock */
	bool stop;
	struct hfb_offset_batch *todo, *done;
	struct read_record *read, **read_end;
	bool read_all, fenced;
	char sentence[HFB_ERR_TEXT_MAX]; /* "" = none new */
	struct hfb_offset_log_stats stats;
	/* the loop's */
	bool told_ready, told_fenced, closing;
	/* the thread's */
	struct hfb_bus *bus;
	struct hfb_pub *pub;
	bool loaded;
	uint32_t epoch;
	uint64_t snapshot_offset;
	uint64_t sent;	      /* events, by this publisher */
	uint64_t offset_less; /* offset of an event = its sequence + this; all ones = not told */
	char told[HFB_ERR_TEXT_MAX];
};

/* Batches ------------------------------------------------------------------- */

struct hfb_offset_batch *
hfb_offset_batch_create(void)
{
	return calloc(1, sizeof(struct hfb_offset_batch));
}

struct hfb_offset_event *
hfb_offset_batch_event(struct hfb_offset_batch *batch, const char *group)
{
	struct hfb_offset_event *event;

	if (batch->count == batch->room) {
		uint32_t room = batch->room < 8 ? 8 : batch->room * 2;
		struct hfb_offset_event *events = realloc(batch->events, room * sizeof(*events));

		if (events == NULL)
			return NULL;
		batch->events = events;
		batch->room = room;
	}
	event = &batch->events[batch->count++];
	memset(event, 0, sizeof(*event));
	snprintf(event->group, sizeof(event->group), "%s", group);
	return event;
}

void
hfb_offset_batch_destroy(struct hfb_offset_batch *batch)
{
	if (batch == NULL)
		return;
	for (uint32_t i = 0; i < batch->count; i++)
		hfb_bytes_fini(&batch->events[i].value);
	free(batch->events);
	free(batch);
}

/* The thread ------------------------------------------------------------------ */

static bool
stopping(struct hfb_offset_log *log)
{
	bool stop;

	pthread_mutex_lock(&log->lock);
	stop = log->stop;
	pthread_mutex_unlock(&log->lock);
	return stop;
}

/* Once for each new trouble, not once a try. */
static void
tell(struct hfb_offset_log *log, const char *sentence)
{
	if (strcmp(log->told, sentence) == 0)
		return;
	snprintf(log->told, sizeof(log->told), "%s", sentence);
	pthread_mutex_lock(&log->lock);
	memcpy(log->sentence, log->told, sizeof(log->sentence));
	pthread_mutex_unlock(&log->lock);
	uv_async_send(&log->wake);
}

static void
pause_ms(struct hfb_offset_log *log, uint32_t ms)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += (long)ms * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&log->lock);
	if (!log->stop)
		pthread_cond_timedwait(&log->more, &log->lock, &until);
	pthread_mutex_unlock(&log->lock);
}

static void
acked(void *arg, const struct hfb_acked *ack)
{
	struct hfb_offset_log *log = arg;

	if (ack->base_offset != UINT64_MAX)
		log->offset_less = ack->base_offset - ack->sequence;
}

/* The committed end of the log. */
static int
end_offset(struct hfb_offset_log *log, uint64_t *ret_offset, struct hfb_err *err)
{
	struct hfb_ipc_partition partition;
	const struct hfb_positions *table;
	int r = hfb_admin_partitions_get(log->bus, HFB_OFFSETS_TOPIC, 0, &partition, 1, err);

	if (r < 0)
		return r;
	table = hfb_admin_positions(log->bus);
	if (r < 1 || table == NULL || partition.handle >= HFB_PARTITIONS_MAX)
		return hfb_err_set(err, -ENOENT, "topic " HFB_OFFSETS_TOPIC " is not there yet");
	(void)__atomic_load_n(&table[partition.handle].committed.position, __ATOMIC_ACQUIRE);
	*ret_offset = __atomic_load_n(&table[partition.handle].committed.offset, __ATOMIC_RELAXED);
	return 0;
}

static int
sub_at(struct hfb_offset_log *log, uint64_t offset, struct hfb_sub **ret_sub, struct hfb_err *err)
{
	struct hfb_sub_config config = { .topic = HFB_OFFSETS_TOPIC,
					 .from = offset == 0 ? HFB_SUB_EARLIEST : HFB_SUB_OFFSET,
					 .value = offset };

	return hfb_sub_open(log->bus, &config, ret_sub, err);
}

/* What the records of [@from, @end) say of their writers. Returns how many there are, or an error.
 */
static int
look(struct hfb_offset_log *log, uint64_t from, uint64_t end, struct hfb_err *err)
{
	const struct hfb_item *item;
	struct hfb_offset_record record;
	struct hfb_sub *sub;
	int r = sub_at(log, from, &sub, err), records = 0;

	if (r < 0)
		return r == -ERANGE ? -EAGAIN : r; /* the offset was a hint of more to come */
	while ((r = hfb_sub_next(sub, POLL_MS, &item, err)) >= 0 && !stopping(log)) {
		if (r == 0 && hfb_sub_at_end(sub))
			break;
		if (r == 0 || item->kind != HFB_ITEM_EVENT)
			continue;
		if (hfb_offset_record_decode(item->event.value, item->event.value_size, &record) ==
		    0) {
			if (record.head.writer_epoch > log->epoch)
				log->epoch = record.head.writer_epoch;
			log->snapshot_offset = record.head.snapshot_offset;
			records++;
		}
		if (item->offset + 1 >= end)
			break;
	}
	hfb_sub_close(sub);
	return r < 0 ? r : stopping(log) ? -ECANCELED : records;
}

/*
 * Who wrote last, and where the last snapshot is. The last event says it; if that is
 * damaged or not ours, those before it: with an epoch guessed too low we would be
 * refused as one who was fenced.
 */
static int
look_at_end(struct hfb_offset_log *log, struct hfb_err *err)
{
	uint64_t end = 0;
	int r = end_offset(log, &end, err);

	if (r < 0 || end == 0)
		return r;
	r = look(log, end - 1, end, err);
	if (r == 0) {
		tell(log, "the end of " HFB_OFFSETS_TOPIC " is damaged or none of ours; all of it "
			  "is read");
		r = look(log, 0, end, err);
	}
	return r < 0 ? r : 0;
}

/* Until all is acked; the publisher tries again by itself while hfbusd is away. */
static int
flush(struct hfb_offset_log *log, struct hfb_err *err)
{
	int r;

	while ((r = hfb_pub_flush(log->pub, POLL_MS, err)) < 0) {
		if (stopping(log))
			return -ECANCELED;
		if (r != -ETIMEDOUT)
			tell(log, err->text);
		if (r == -ESTALE || r == -ENODATA || r == -ENOENT || r == -EOPNOTSUPP ||
		    r == -EMSGSIZE)
			return r;
		if (r != -ETIMEDOUT)
			pause_ms(log, WAIT_MS);
	}
	return 0;
}

static int
send_event(struct hfb_offset_log *log, const char *group, struct hfb_bytes *value,
	   struct hfb_err *err)
{
	struct hfb_offset_record_head *head = (void *)value->at;
	struct hfb_event event = { .value = value->at, .value_size = (uint32_t)value->used };
	int r;

	hfb_assert(value->used >= sizeof(*head));
	head->writer_epoch = log->epoch;
	head->snapshot_offset = log->snapshot_offset;
	if (group[0] != '\0') {
		event.key = group;
		event.key_size = (uint32_t)strlen(group);
	}
	while ((r = hfb_pub_send(log->pub, &event, err)) < 0) {
		if (stopping(log))
			return -ECANCELED;
		if (r != -EAGAIN && r != -ENOSPC && r != -EIO && r != -EBUSY && r != -ENOTCONN)
			return r;
		if (r != -EAGAIN) {
			tell(log, err->text);
			pause_ms(log, WAIT_MS);
		}
		hfb_pub_poll(log->pub, POLL_MS, err);
	}
	log->sent++;
	return 0;
}

static int
publisher_open(struct hfb_offset_log *log, uint64_t *ret_nonce, struct hfb_err *err)
{
	struct hfb_pub_config config = {
		.topic = HFB_OFFSETS_TOPIC,
		.partition = 0,
		.ack = HFB_STAGE_DURABLE,
		.batch_bytes = BATCH_BYTES,
		.acked = acked,
		.arg = log,
		.internal = true,
	};
	struct hfb_bytes fence = { 0 };
	int r;

	hfb_pub_close(log->pub);
	log->pub = NULL;
	log->sent = 0;
	log->offset_less = UINT64_MAX;
	log->epoch++;
	/* A run of ids, each with 2^16 epochs. */
	config.producer_id = PRODUCER_ID + (log->epoch >> 16);
	config.producer_epoch = (uint16_t)log->epoch;
	r = hfb_pub_open(log->bus, &config, &log->pub, err);
	if (r < 0)
		return r;
	hfb_random(ret_nonce, sizeof(*ret_nonce));
	hfb_offset_record_begin(&fence, HFB_RECORD_FENCE, 0);
	hfb_bytes_add(&fence, ret_nonce, sizeof(*ret_nonce));
	r = fence.failed ? hfb_err_set(err, -ENOMEM, "out of memory")
			 : send_event(log, "", &fence, err);
	if (r == 0)
		r = flush(log, err);
	hfb_bytes_fini(&fence);
	return r;
}

/* Hands a record to the loop. */
static int
keep_record(struct hfb_offset_log *log, const struct hfb_event *event)
{
	struct read_record *read = malloc(sizeof(*read) + event->value_size);

	if (read == NULL)
		return -ENOMEM;
	read->next = NULL;
	read->size = event->value_size;
	memcpy(read->value, event->value, event->value_size);
	read->group[0] = '\0';
	if (event->key != NULL && event->key_size <= HFB_GROUP_NAME_MAX) {
		memcpy(read->group, event->key, event->key_size);
		read->group[event->key_size] = '\0';
	}
	pthread_mutex_lock(&log->lock);
	*log->read_end = read;
	log->read_end = &read->next;
	log->stats.loaded_events++;
	log->stats.loaded_bytes += event->value_size;
	pthread_mutex_unlock(&log->lock);
	return 0;
}

/* Everything from the snapshot to our own fence. */
static int
load(struct hfb_offset_log *log, uint64_t nonce, struct hfb_err *err)
{
	const struct hfb_item *item;
	struct hfb_offset_record record;
	struct hfb_sub *sub;
	bool found = false;
	int r = sub_at(log, log->snapshot_offset, &sub, err);

	while (r >= 0 && !found && !stopping(log)) {
		r = hfb_sub_next(sub, POLL_MS, &item, err);
		if (r <= 0)
			continue;
		if (item->kind == HFB_ITEM_CORRUPT || item->kind == HFB_ITEM_TRUNCATED)
			tell(log, "part of " HFB_OFFSETS_TOPIC " cannot be read: offsets committed "
				  "there may be older than they were; see hfbus dump");
		if (item->kind != HFB_ITEM_EVENT)
			continue;
		if (hfb_offset_record_decode(item->event.value, item->event.value_size, &record) <
		    0) {
			tell(log,
			     HFB_OFFSETS_TOPIC " holds an event that is none of ours: left out");
			continue;
		}
		found = hfb_offset_record_nonce(&record) == nonce &&
			record.head.writer_epoch == log->epoch;
		if (!found && record.head.writer_epoch >= log->epoch) {
			/* It was killed with its fence on the way, and we have looked before that
			 * came: its epoch is ours, so our fence was acked as a repetition of it and
			 * is nowhere. */
			log->epoch = record.head.writer_epoch;
			r = -EAGAIN;
		} else if (!found) {
			int kept = keep_record(log, &item->event);

			if (kept < 0)
				r = hfb_err_set(err, kept, "no memory for committed offsets");
		}
	}
	hfb_sub_close(sub);
	if (r < 0)
		return r;
	return found ? 0 : -ECANCELED;
}

static void
records_free(struct read_record *read)
{
	while (read != NULL) {
		struct read_record *next = read->next;

		free(read);
		read = next;
	}
}

static int
begin(struct hfb_offset_log *log, struct hfb_err *err)
{
	struct hfb_ipc_topic topic;
	uint64_t nonce = 0;
	int r = hfb_admin_topic_get(log->bus, HFB_OFFSETS_TOPIC, &topic, err);

	if (r == 0 && !log->loaded)
		r = look_at_end(log, err);
	if (r == 0)
		r = publisher_open(log, &nonce, err);
	if (r < 0 || log->loaded)
		return r;
	r = load(log, nonce, err);
	pthread_mutex_lock(&log->lock);
	if (r == 0) {
		log->read_all = true;
		log->stats.bytes_since_snapshot = log->stats.loaded_bytes;
		log->stats.snapshot_offset = log->snapshot_offset;
	} else {
		records_free(log->read);
		log->read = NULL;
		log->read_end = &log->read;
		log->stats.loaded_events = log->stats.loaded_bytes = 0;
	}
	pthread_mutex_unlock(&log->lock);
	if (r == 0) {
		log->loaded = true;
		uv_async_send(&log->wake);
	}
	return r;
}

/* False: the end. A refusal before all was read is of a race at the start, and tried again. */
static bool
go_on(struct hfb_offset_log *log, int error)
{
	bool fenced = log->loaded && error == -ESTALE;

	if (!fenced)
		return !stopping(log);
	pthread_mutex_lock(&log->lock);
	log->fenced = true;
	pthread_mutex_unlock(&log->lock);
	uv_async_send(&log->wake);
	return false;
}

static int
write_batch(struct hfb_offset_log *log, struct hfb_offset_batch *batch, struct hfb_err *err)
{
	uint64_t first = log->sent, bytes = 0;
	int r = 0;

	for (uint32_t i = 0; i < batch->count && r == 0; i++) {
		bytes += batch->events[i].value.used;
		r = send_event(log, batch->events[i].group, &batch->events[i].value, err);
	}
	if (r == 0)
		r = flush(log, err);
	if (r < 0)
		return r;
	if (batch->snapshot && log->offset_less != UINT64_MAX)
		log->snapshot_offset = first + log->offset_less;
	pthread_mutex_lock(&log->lock);
	log->stats.batches++;
	log->stats.events += batch->count;
	log->stats.bytes += bytes;
	log->stats.bytes_since_snapshot += bytes;
	if (batch->snapshot)
		log->stats.bytes_since_snapshot = 0;
	log->stats.snapshot_offset = log->snapshot_offset;
	pthread_mutex_unlock(&log->lock);
	return 0;
}

/* Writes what comes, until something is final for this publisher: 0 or what. */
static int
serve(struct hfb_offset_log *log)
{
	struct hfb_err err;

	log->told[0] = '\0';
	while (!stopping(log)) {
		struct hfb_offset_batch *batch;
		int r;

		pthread_mutex_lock(&log->lock);
		batch = log->todo;
		pthread_mutex_unlock(&log->lock);
		if (batch == NULL) {
			pause_ms(log, WAIT_MS);
			continue;
		}
		r = write_batch(log, batch, &err);
		if (r < 0) {
			tell(log, err.text);
			return r;
		}
		pthread_mutex_lock(&log->lock);
		log->todo = NULL;
		log->done = batch;
		pthread_mutex_unlock(&log->lock);
		uv_async_send(&log->wake);
	}
	return 0;
}

static void *
run(void *arg)
{
	struct hfb_offset_log *log = arg;
	struct hfb_bus_config config = {
		.data_dir = log->data_dir,
		.connect_ms = 1000,
		.reconnect_ms = UINT32_MAX,
	};
	struct hfb_err err;
	int r = 0;

	while (go_on(log, r)) {
		r = 0;
		if (log->bus == NULL)
			r = hfb_bus_open(&config, &log->bus, &err);
		if (r == 0)
			r = begin(log, &err);
		if (r == 0)
			r = serve(log);
		else if (r != -ENOENT && r != -ECONNREFUSED && r != -EAGAIN && r != -ECANCELED)
			tell(log, err.text);
		if (!stopping(log))
			pause_ms(log, POLL_MS);
	}
	hfb_pub_close(log->pub);
	hfb_bus_close(log->bus);
	return NULL;
}

/* The loop's side --------------------------------------------------------------- */

static void
give_records(struct hfb_offset_log *log, struct read_record *read)
{
	for (struct read_record *r = read; r != NULL; r = r->next) {
		struct hfb_offset_record record;

		if (hfb_offset_record_decode(r->value, r->size, &record) == 0)
			log->events->loaded(log->arg, &record, r->group);
	}
	records_free(read);
	log->told_ready = true;
	log->events->ready(log->arg);
}

static void
woken(uv_async_t *handle)
{
	struct hfb_offset_log *log = handle->data;
	struct hfb_offset_batch *done;
	struct read_record *read = NULL;
	char sentence[HFB_ERR_TEXT_MAX];
	bool ready, fenced;

	pthread_mutex_lock(&log->lock);
	done = log->done;
	log->done = NULL;
	ready = log->read_all && !log->told_ready;
	if (ready) {
		read = log->read;
		log->read = NULL;
		log->read_end = &log->read;
	}
	fenced = log->fenced && !log->told_fenced;
	memcpy(sentence, log->sentence, sizeof(sentence));
	log->sentence[0] = '\0';
	pthread_mutex_unlock(&log->lock);
	if (log->closing) {
		hfb_offset_batch_destroy(done);
		return;
	}
	if (sentence[0] != '\0')
		log->events->note(log->arg, sentence);
	if (ready)
		give_records(log, read);
	if (done != NULL)
		log->events->written(log->arg, done);
	if (fenced) {
		log->told_fenced = true;
		log->events->fenced(log->arg);
	}
}

void
hfb_offset_log_write(struct hfb_offset_log *log, struct hfb_offset_batch *batch)
{
	pthread_mutex_lock(&log->lock);
	hfb_assert(log->todo == NULL);
	log->todo = batch;
	pthread_cond_signal(&log->more);
	pthread_mutex_unlock(&log->lock);
}

void
hfb_offset_log_stats_get(struct hfb_offset_log *log, struct hfb_offset_log_stats *ret)
{
	pthread_mutex_lock(&log->lock);
	*ret = log->stats;
	pthread_mutex_unlock(&log->lock);
}

int
hfb_offset_log_create(uv_loop_t *loop, const char *data_dir,
		      const struct hfb_offset_log_events *events, void *arg,
		      struct hfb_offset_log **ret_log, struct hfb_err *err)
{
	struct hfb_offset_log *log = calloc(1, sizeof(*log));

	if (log == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	log->events = events;
	log->arg = arg;
	log->read_end = &log->read;
	snprintf(log->data_dir, sizeof(log->data_dir), "%s", data_dir);
	pthread_mutex_init(&log->lock, NULL);
	pthread_cond_init(&log->more, NULL);
	uv_async_init(loop, &log->wake, woken);
	log->wake.data = log;
	if (pthread_create(&log->thread, NULL, run, log) != 0) {
		log->closing = true;
		log->thread = 0;
		uv_close((uv_handle_t *)&log->wake, NULL);
		return hfb_err_set(err, -EAGAIN, "cannot start a thread");
	}
	*ret_log = log;
	return 0;
}

static void
wake_closed(uv_handle_t *handle)
{
	struct hfb_offset_log *log = handle->data;

	hfb_offset_batch_destroy(log->todo);
	hfb_offset_batch_destroy(log->done);
	records_free(log->read);
	pthread_cond_destroy(&log->more);
	pthread_mutex_destroy(&log->lock);
	free(log);
}

void
hfb_offset_log_destroy(struct hfb_offset_log *log)
{
	if (log == NULL)
		return;
	pthread_mutex_lock(&log->lock);
	log->stop = true;
	pthread_cond_signal(&log->more);
	pthread_mutex_unlock(&log->lock);
	pthread_join(log->thread, NULL);
	log->closing = true;
	uv_close((uv_handle_t *)&log->wake, wake_closed);
}
