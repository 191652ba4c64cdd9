/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal_rig.h - one log with a journal of its own, left as a crash would.
 *
 *	config = journal_rig_config();
 *	end = journal_rig_crash(&rig, "name", &config, 10);
 *	... bend its files ...
 *	journal_rig_reopen(&rig, "name", &config);
 *
 * Threads: the test's own.
 */
#ifndef JOURNAL_RIG_H
#define JOURNAL_RIG_H

#include "log_rig.h"

#define MIB (1u << 20)

/* Where somebody waits for `durable`; the faults of fault_env.h are those of a start. */
struct rig_config journal_rig_config(void);
uint64_t journal_rig_durable(const struct rig *rig);
/* Append one by one, each durable before the next, @n of which the journal takes. */
void journal_rig_write(struct rig *rig, uint32_t n);
/* A log of which the last @n batches are in the journal alone. Returns where it ends. */
uint64_t journal_rig_crash(struct rig *rig, const char *name, const struct rig_config *config,
			   uint32_t n);
/* Open again what was left, and go on counting batches. */
int journal_rig_reopen(struct rig *rig, const char *name, const struct rig_config *config);
/* How many files of the journal have such a name. */
uint32_t journal_rig_files(const struct rig *rig, const char *pattern);

#endif
