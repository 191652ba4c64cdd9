/* SPDX-License-Identifier: Apache-2.0 */
/*
 * command.h - the main thread asks poll cores for something and waits for the answer.
 *
 *	commands = hfb_commands_make(n);
 *	commands[0].type = HFB_COMMAND_ATTACH; ...
 *	r = hfb_commands_run(node, commands, cores, n, HFB_COMMAND_WAIT_NS);
 *
 * A core answers within a turn, but for DETACH, which waits for the disk. Should a
 * core not answer in time, its commands are left to it: it may still write to them.
 *
 * Threads: main.
 */
#ifndef HFB_COMMAND_H
#define HFB_COMMAND_H

#include <stdint.h>

#include "core.h"
#include "node.h"

#define HFB_COMMAND_WAIT_NS 20000000000ull

/* NULL: out of memory. */
struct hfb_command *hfb_commands_make(uint32_t n);

/*
 * Send commands[i] to core cores[i], wait for all, free them.
 *
 * Returns 0, the first negative result of a core, or -ETIMEDOUT (then they leak).
 * Without running cores nothing is sent: -ESHUTDOWN.
 */
int hfb_commands_run(struct hfb_node *node, struct hfb_command *commands, const uint16_t *cores,
		     uint32_t n, uint64_t wait_ns);
/* One. -ENOMEM as well. */
int hfb_command_run(struct hfb_node *node, uint16_t core, const struct hfb_command *command);
/* The same to every core. */
int hfb_command_all(struct hfb_node *node, const struct hfb_command *command);

/* Wait until each core has ended the turn it is in: what was unpublished before is unused. */
void hfb_node_quiesce(struct hfb_node *node);

#endif
