/* SPDX-License-Identifier: Apache-2.0 */
#include "bench_link.h"

#include <errno.h>
#include <string.h>

#include "bench.h"

int
bench_link_open(const struct bench_link_config *config, struct bench_link **ret_link,
		struct hfb_err *err)
{
	if (strcmp(config->transport, "shm") == 0 || strcmp(config->transport, "udp") == 0)
		return bench_link_client_open(config, ret_link, err);
	return bench_link_memif_open(config, ret_link, err);
}

int
bench_link_drain(struct bench_link *link, uint64_t timeout_ns, struct hfb_err *err)
{
	uint64_t until = bench_now_ns() + timeout_ns;

	for (uint32_t i = 0; i < link->partitions;) {
		int64_t r;

		if (link->acked[i] == link->sent[i]) {
			i++;
			continue;
		}
		r = link->ops->poll(link);
		if (r < 0) {
			*err = link->err;
			return (int)r;
		}
		if (bench_now_ns() > until)
			return hfb_err_set(
				err, -ETIMEDOUT,
				"partition %u: %llu events were sent, %llu acked in time", i,
				(unsigned long long)link->sent[i],
				(unsigned long long)link->acked[i]);
	}
	return 0;
}

void
bench_link_close(struct bench_link *link)
{
	if (link != NULL)
		link->ops->close(link);
}
