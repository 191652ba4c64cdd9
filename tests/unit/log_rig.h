/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_rig.h - a store, a writer and one log for tests, driven by hand: the test
 * is the core, and with helper_manual the helper too.
 *
 *	rig_open(&rig, "name", &(struct rig_config){ 0 });
 *	rig_append(&rig, bytes);		retries, polling, until it fits
 *	rig_drain(&rig);			until all is durable
 *	rig_reopen(&rig, true);			detach (clean or not), close, open again
 *	rig_check(&rig, from_position);		read the files back, compare
 *	rig_close(&rig);
 *
 * Payloads are made from the batch's number, so what is read back can be checked
 * without keeping it.
 */
#ifndef HFB_LOG_RIG_H
#define HFB_LOG_RIG_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

#include "clock.h"
#include "env.h"
#include "log.h"
#include "store.h"
#include "writer.h"

struct rig_config {
	struct hfb_env *env;  /* NULL = the real one */
	const char *data_dir; /* NULL = a new one */
	uint64_t ring_bytes_max, segment_bytes_max;
	uint64_t segment_bytes_first; /* 1 MiB when 0 */
	uint64_t retention_bytes, retention_ns;
	uint32_t cleanup;
	uint64_t tombstone_ns;
	enum hfb_stage commit_stage; /* RECEIVED when 0 */
	enum hfb_sync_mode sync;
	enum hfb_tail_mode tail;
	uint32_t journal_logs_min; /* 1: this log alone has a journal */
	uint64_t journal_file_bytes;
	bool helper_thread; /* else rig_poll() is the helper as well */
};

struct rig {
	struct rig_config config;
	char data_dir[512];
	struct hfb_uuid topic;
	struct hfb_positions *positions;
	struct hfb_store *store;
	struct hfb_writer *writer;
	struct hfb_log *log;
	struct hfb_log_report report;
	struct hfb_err err;
	uint64_t batches;  /* appended so far, all runs */
	uint64_t advanced; /* callbacks */
	uint32_t epoch;
};

/* 0 or what the failing call said, with all closed again. */
int rig_open(struct rig *rig, const char *name, const struct rig_config *config);
/* Open it or end the test, with one batch that is durable. */
void rig_open_begun(struct rig *rig, const char *name, const struct rig_config *config);
/* Detach logs of the test's own with end marks, and close them. False: they do not let go. */
bool rig_logs_close(struct hfb_store *store, struct hfb_writer *writer, struct hfb_log **logs,
		    uint32_t count);
/* False: it does not let go (checked by the caller). */
bool rig_detach(struct rig *rig, bool end_mark);
void rig_close(struct rig *rig); /* after a detach or as a crash would */
int rig_reopen(struct rig *rig, bool clean);
/* Leave all as it is and start anew, as after SIGKILL. Not with a helper thread. */
int rig_crash(struct rig *rig);
/* Read all that is durable through hfb_log_read_start(); bytes read, -1: failed. */
int64_t rig_read(struct rig *rig, uint32_t buffer_bytes);

uint32_t rig_poll(struct rig *rig);
/* One try; HFB_LOG_OK when it was appended. */
enum hfb_log_refusal rig_try(struct rig *rig, uint32_t payload_bytes, bool reserve);
/* The same to a log of the test's own, without a producer. False: no room now. */
bool rig_append_to(struct hfb_log *log, uint64_t number, uint32_t payload_bytes);
/* Polls until there is room. False: refused for good, or for too long. */
bool rig_append(struct rig *rig, uint32_t payload_bytes);
/* The core alone, without the helper. */
void rig_core_poll(struct rig *rig);
/* Append without the helper, but for larger rings. */
void rig_append_alone(struct rig *rig, uint32_t payload_bytes);
void rig_polls(struct rig *rig, int n);
/* The core polls until @done, within reason. */
#define RIG_CORE_UNTIL(rig, done)                                                                  \
	for (uint64_t until_ns = hfb_clock_now_ns() + 10000000000ull;                              \
	     !(done) && hfb_clock_now_ns() < until_ns; sched_yield())                              \
	rig_core_poll(rig)
/* Polls until durable reaches received. */
bool rig_drain(struct rig *rig);
/* Read all of the log from its start through the segment files and check every
 * batch: header, position, order, payload. Returns the events' batches seen, or
 * -1 with a message on stderr. */
int64_t rig_check(struct rig *rig);
/* Payload of batch @number. */
void rig_payload(uint64_t number, uint8_t *to, uint32_t bytes);

#endif
