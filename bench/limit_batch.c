/* SPDX-License-Identifier: Apache-2.0 */
#include "limit_batch.h"

#include <errno.h>

int
limit_source_open(struct limit_source *source, uint32_t size, uint32_t events)
{
	struct hfb_record record = { .value_size = size, .key_size = HFB_KEY_NULL };
	uint32_t record_bytes = limit_payload_bytes(size, 1);

	source->next = 0;
	source->payload_bytes = record_bytes * events;
	source->count = LIMIT_SOURCE_BYTES / source->payload_bytes + 1;
	source->bytes = calloc(source->count, source->payload_bytes);
	if (source->bytes == NULL)
		return -ENOMEM;
	for (uint64_t i = 0; i < (uint64_t)source->count * events; i++) {
		memcpy(source->bytes + i * record_bytes, &record, sizeof(record));
		memset(source->bytes + i * record_bytes + sizeof(record), (int)(i * 7), size);
	}
	return 0;
}

void
limit_source_close(struct limit_source *source)
{
	free(source->bytes);
	source->bytes = NULL;
}
