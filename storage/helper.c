/* SPDX-License-Identifier: Apache-2.0 */
/*
 * helper.c - the thread that does slow file work, so that no core ever waits.
 *
 *	wake up		an eventfd, the next retry, the next round
 *	take		logs from each core's ring; their `asks`
 *	do		prepare.c, retention.c
 *	mail		the log goes into its core's ring back
 *
 * A log is the helper's to touch from hfb_writer_attach() until it answers
 * HFB_ASK_LET_GO; that is the last thing it does with it.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bug.h"
#include "compactor.h"
#include "journal.h"
#include "store_private.h"
#include "writer_private.h"

#define TAKE HFB_GROUP_MAX

void
hfb_store_wake(struct hfb_store *store)
{
	uint64_t one = 1;
	ssize_t n = write(store->wake_fd, &one, sizeof(one));

	(void)n; /* full: it is readable anyway */
}

/* Under the lock, so that a core's writer is not destroyed meanwhile. */
static void
core_wake(struct hfb_writer *writer)
{
	uint64_t one = 1;

	if (writer->io->event_fd >= 0) {
		ssize_t n = write(writer->io->event_fd, &one, sizeof(one));

		(void)n;
	}
}

void
hfb_helper_mail(struct hfb_log *log)
{
	struct hfb_writer *writer = log->writer;
	void *object = log;

	/* seq_cst: with the store in mail_poll, what we left is seen, or mailed again */
	if (__atomic_exchange_n(&log->mailed, 1, __ATOMIC_SEQ_CST) == 0 &&
	    hfb_spsc_push(writer->from_helper, &object, 1) != 1)
		hfb_assert(false); /* each log is in it at most once */
	pthread_mutex_lock(&log->store->lock);
	core_wake(writer);
	pthread_mutex_unlock(&log->store->lock);
}

void
hfb_helper_trouble(struct hfb_log *log, const struct hfb_err *err)
{
	pthread_mutex_lock(&log->store->lock);
	log->trouble = *err;
	log->trouble_count++;
	pthread_mutex_unlock(&log->store->lock);
}

struct hfb_segment_place
hfb_log_place(struct hfb_log *log)
{
	struct hfb_store *store = log->store;

	return (struct hfb_segment_place){
		.env = store->env,
		.folder = log->folder,
		.data_dir = store->data_dir,
		.topic = log->topic_uuid,
		.partition = log->partition,
		.zeros = store->zeros,
		.block = store->block,
	};
}

static void
let_go(struct hfb_log *log)
{
	struct hfb_store *store = log->store;
	struct hfb_writer *writer = log->writer;

	hfb_compactor_forget(store->compactor, log);
	hfb_prepare_forget(log);
	hfb_retention_leave(log);
	pthread_mutex_lock(&store->lock);
	/* pairs with the acquire in log_detaching; the log may be freed from here on */
	__atomic_store_n(&log->let_go, 1, __ATOMIC_RELEASE);
	core_wake(writer);
	pthread_mutex_unlock(&store->lock);
}

static void
log_serve(struct hfb_log *log, uint64_t now_ns)
{
	uint32_t asks = __atomic_exchange_n(&log->asks, 0, __ATOMIC_ACQ_REL);

	if ((asks & HFB_ASK_OPEN) != 0)
		hfb_retention_open(log, now_ns);
	if ((asks & HFB_ASK_RING) != 0)
		hfb_prepare_ring(log);
	if ((asks & HFB_ASK_SEGMENT) != 0)
		hfb_prepare_want(log);
	if ((asks & HFB_ASK_SEAL) != 0) {
		hfb_retention_seal(log);
		hfb_retention_round(log, now_ns);
	}
	if ((asks & HFB_ASK_MEMORY) != 0)
		hfb_retention_memory(log);
	if ((asks & HFB_ASK_CHECKPOINT) != 0)
		hfb_retention_checkpoint(log);
	if ((asks & HFB_ASK_LET_GO) != 0)
		let_go(log);
}

static uint32_t
logs_take(struct hfb_store *store, void **logs)
{
	uint32_t n = 0;

	pthread_mutex_lock(&store->lock);
	for (struct hfb_writer *w = store->writers; w != NULL && n < TAKE; w = w->next)
		n += hfb_spsc_pop(w->to_helper, logs + n, TAKE - n);
	pthread_mutex_unlock(&store->lock);
	return n;
}

bool
hfb_helper_wanted(struct hfb_store *store)
{
	bool wanted = store->taken > 0 || __atomic_load_n(&store->stop, __ATOMIC_ACQUIRE) != 0;

	pthread_mutex_lock(&store->lock);
	for (struct hfb_writer *w = store->writers; w != NULL && !wanted; w = w->next)
		wanted = hfb_spsc_waiting(w->to_helper);
	pthread_mutex_unlock(&store->lock);
	return wanted;
}

/* Logs that are ours to touch. NULL: none, or no memory this time. */
static struct hfb_log **
logs_attached(struct hfb_store *store, uint32_t *ret_count)
{
	struct hfb_log **logs;
	uint32_t n = 0;

	pthread_mutex_lock(&store->lock);
	for (struct hfb_log *log = store->logs; log != NULL; log = log->next)
		n++;
	logs = n == 0 ? NULL : malloc(n * sizeof(struct hfb_log *));
	n = 0;
	for (struct hfb_log *log = store->logs; logs != NULL && log != NULL; log = log->next)
		if (__atomic_load_n(&log->attached, __ATOMIC_ACQUIRE) != 0 && log->let_go == 0)
			logs[n++] = log;
	pthread_mutex_unlock(&store->lock);
	*ret_count = n;
	return logs;
}

static uint32_t
rounds(struct hfb_store *store, uint64_t now_ns)
{
	/* pairs with the release in hfb_log_trim() */
	bool all = __atomic_exchange_n(&store->round_now, 0, __ATOMIC_ACQUIRE) != 0 ||
		   now_ns >= store->round_ns;
	struct hfb_log **logs;
	uint32_t n, done = 0;

	if (!all && store->retries == 0)
		return 0;
	if (all)
		store->round_ns = now_ns + HFB_ROUND_NS;
	logs = logs_attached(store, &n);
	store->retries = 0;
	for (uint32_t i = 0; i < n; i++) {
		if (logs[i]->retry_ns != 0 && now_ns >= logs[i]->retry_ns) {
			logs[i]->retry_ns = 0;
			hfb_prepare_ring(logs[i]);
			hfb_prepare_want(logs[i]);
			done++;
		} else if (logs[i]->retry_ns != 0) {
			store->retries++;
		}
		if (!all)
			continue;
		hfb_retention_round(logs[i], now_ns);
		hfb_compactor_consider(store->compactor, logs[i], now_ns);
	}
	free(logs);
	return done;
}

/*
 * What producers wait for comes first, but never more than a turn's worth of it: logs at the
 * disk's speed always want another segment, and what is not sealed and dropped meanwhile cannot be
 * recycled.
 */
static uint32_t
turn(struct hfb_store *store)
{
	uint64_t now_ns = hfb_env_now_ns(store->env);
	void *logs[TAKE];
	uint32_t n = logs_take(store, logs), done = n;

	for (uint32_t i = 0; i < n; i++) {
		struct hfb_log *log = logs[i];

		if ((__atomic_load_n(&log->asks, __ATOMIC_ACQUIRE) & HFB_ASK_SEGMENT) != 0)
			hfb_prepare_want(log);
	}
	store->taken = n;
	done += hfb_prepare_serve(store, now_ns);
	store->taken = n;
	hfb_group_serve(store, logs, n);
	for (uint32_t i = 0; i < n; i++) {
		store->taken = n - 1 - i;
		/* where it is wanted there is much to do for single logs */
		done += hfb_journal_make(store);
		log_serve(logs[i], now_ns);
	}
	return done;
}

static uint32_t
help(struct hfb_store *store)
{
	uint32_t done = 0, n;

	do {
		n = turn(store);
		n += hfb_journal_make(store);
		/* what is done by the clock is done, also while a busy log is here again and again
		 */
		n += rounds(store, hfb_env_now_ns(store->env));
		done += n;
	} while (n > 0 || store->wanting_count > 0);
	return done + hfb_compactor_serve(store->compactor);
}

uint32_t
hfb_store_help(struct hfb_store *store)
{
	hfb_assert(store->config.helper_manual);
	return help(store);
}

static void *
helper_run(void *arg)
{
	struct hfb_store *store = arg;
	struct pollfd wait = { .fd = store->wake_fd, .events = POLLIN };
	cpu_set_t cpus;

	pthread_setname_np(pthread_self(), "hfbus-helper");
	if (store->config.helper_cpu >= 0 && store->config.helper_cpu < CPU_SETSIZE) {
		CPU_ZERO(&cpus);
		CPU_SET((unsigned int)store->config.helper_cpu, &cpus);
		pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus);
	}
	while (__atomic_load_n(&store->stop, __ATOMIC_ACQUIRE) == 0) {
		uint64_t count;
		ssize_t n;

		help(store);
		poll(&wait, 1,
		     (int)((store->retries > 0 ? HFB_RETRY_NS : HFB_ROUND_NS) / 1000000u));
		n = read(store->wake_fd, &count, sizeof(count));
		(void)n;
	}
	return NULL;
}

int
hfb_helper_start(struct hfb_store *store, struct hfb_err *err)
{
	int r;

	store->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (store->wake_fd < 0)
		return hfb_err_set(err, -errno, "no eventfd: %s, see the limit of open files",
				   strerror(errno));
	r = hfb_compactor_create(store, &store->compactor, err);
	if (r < 0)
		return r;
	if (store->config.helper_manual)
		return 0;
	r = pthread_create(&store->thread, NULL, helper_run, store);
	if (r != 0)
		return hfb_err_set(err, -r, "no thread for file work: %s", strerror(r));
	store->running = true;
	return 0;
}

void
hfb_helper_stop(struct hfb_store *store)
{
	if (store->running) {
		__atomic_store_n(&store->stop, 1, __ATOMIC_RELEASE);
		hfb_store_wake(store);
		pthread_join(store->thread, NULL);
	}
	hfb_compactor_destroy(store->compactor);
	if (store->wake_fd >= 0)
		close(store->wake_fd);
}
