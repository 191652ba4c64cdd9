/* SPDX-License-Identifier: Apache-2.0 */
#include "command.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static uint64_t
monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

struct hfb_command *
hfb_commands_make(uint32_t n)
{
	return calloc(n, sizeof(struct hfb_command));
}

static void
answers_take(struct hfb_node *node)
{
	void *objects[64];
	uint64_t count;
	ssize_t ignored = read(node->main_fd, &count, sizeof(count));

	(void)ignored; /* nonblocking: nothing there is fine */
	for (uint32_t i = 0; i < node->cores_count; i++) {
		uint32_t n;

		while ((n = hfb_spsc_pop(node->cores[i]->done, objects, 64)) > 0)
			for (uint32_t j = 0; j < n; j++)
				((struct hfb_command *)objects[j])->answered = true;
	}
}

static void
answers_wait(struct hfb_node *node)
{
	struct pollfd wait = { .fd = node->main_fd, .events = POLLIN };

	poll(&wait, 1, 10);
	answers_take(node);
}

int
hfb_commands_run(struct hfb_node *node, struct hfb_command *commands, const uint16_t *cores,
		 uint32_t n, uint64_t wait_ns)
{
	const uint64_t deadline = monotonic_ns() + wait_ns;
	uint32_t sent = 0, answered = 0;
	int r = 0;

	if (!node->cores_running) {
		free(commands);
		return n == 0 ? 0 : -ESHUTDOWN;
	}
	while (answered < n) {
		/* keep fewer on the way than a ring holds, so that no core finds `done` full */
		while (sent < n && sent - answered < HFB_CORE_COMMANDS_MAX / 2) {
			struct hfb_core *core = node->cores[cores[sent]];
			void *object = &commands[sent];

			if (hfb_spsc_push(core->commands, &object, 1) == 0)
				break;
			hfb_core_wake(core);
			sent++;
		}
		answers_take(node);
		while (answered < sent && commands[answered].answered)
			answered++;
		if (answered == n)
			break;
		if (answered < sent && !commands[answered].answered)
			answers_wait(node);
		if (monotonic_ns() > deadline)
			return -ETIMEDOUT;
	}
	for (uint32_t i = 0; i < n && r == 0; i++)
		r = commands[i].result;
	free(commands);
	return r;
}

int
hfb_command_run(struct hfb_node *node, uint16_t core, const struct hfb_command *command)
{
	struct hfb_command *copy = hfb_commands_make(1);

	if (copy == NULL)
		return -ENOMEM;
	*copy = *command;
	return hfb_commands_run(node, copy, &core, 1, HFB_COMMAND_WAIT_NS);
}

int
hfb_command_all(struct hfb_node *node, const struct hfb_command *command)
{
	struct hfb_command *copies = hfb_commands_make(node->cores_count);
	uint16_t cores[HFB_CORES_MAX];

	if (copies == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < node->cores_count; i++) {
		copies[i] = *command;
		cores[i] = (uint16_t)i;
	}
	/* takes the copies
	 * NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	return hfb_commands_run(node, copies, cores, node->cores_count, HFB_COMMAND_WAIT_NS);
}

void
hfb_node_quiesce(struct hfb_node *node)
{
	const struct timespec nap = { .tv_nsec = 20000 };
	uint64_t turns[HFB_CORES_MAX];

	if (!node->cores_running)
		return;
	/* what was unpublished must be seen so by a turn that begins after the loads below */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (uint32_t i = 0; i < node->cores_count; i++) {
		turns[i] = __atomic_load_n(&node->cores[i]->turn, __ATOMIC_ACQUIRE);
		hfb_core_wake(node->cores[i]);
	}
	for (uint32_t i = 0; i < node->cores_count; i++)
		/* pairs with the release at the end of hfb_core_turn() */
		while (__atomic_load_n(&node->cores[i]->turn, __ATOMIC_ACQUIRE) == turns[i]) {
			nanosleep(&nap, NULL);
			hfb_core_wake(node->cores[i]);
		}
}
