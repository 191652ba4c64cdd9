/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_dump.c - hfbus dump: the batches of a segment file, each with its checks.
 *
 * Works on a file alone, without a running bus. Behind a bad batch it searches the
 * next sound one, as a reader does. The blocks behind the last batch are zeros or
 * what a recycled file held before: neither is damage. What is durable in the journal alone
 * is not in the file yet: that there is one is said.
 */
#include "cli.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <hfbus/journal.h>
#include <hfbus/log.h>

#include "batch.h"
#include "clock.h"
#include "compacted.h"
#include "crc32c.h"
#include "err.h"
#include "json_line.h"
#include "uuid.h"

struct dump {
	bool json, quiet;
	const char *path;
	uint32_t seed;
	uint64_t batches, events, gaps, bad, bad_bytes;
	uint64_t first_offset, next_offset, end_position;
	struct hfb_text out;
};

static void
help(void)
{
	printf("Usage: hfbus dump [OPTION]... SEGMENT\n"
	       "List the batches of a segment file and check each: header, payload and records.\n\n"
	       "  --json   a line of JSON each\n"
	       "  --quiet  only what is bad, and the summary\n"
	       "  --help   this text\n\n"
	       "Exit status: 0 all is sound, 1 something is bad or the file cannot be read,\n"
	       "2 wrong usage.\n");
}

static const char *
control_name(uint16_t control)
{
	static const char *const names[] = { "events",	     "padding",	    "gap",
					     "stream-start", "epoch-start", "end-mark" };

	return control < sizeof(names) / sizeof(names[0]) ? names[control] : "control";
}

static void
flush(struct dump *d)
{
	if (d->out.used > 0)
		fwrite(d->out.bytes, 1, d->out.used, stdout);
	d->out.used = 0;
}

static void
field(struct hfb_text *t, const char *name, uint64_t n)
{
	hfb_text_string(t, name);
	hfb_text_number(t, n);
}

static void
control_detail(const struct hfb_batch_view *view, char *to, size_t size)
{
	struct hfb_control_gap gap;
	struct hfb_control_stream stream;
	struct hfb_control_epoch epoch;
	struct hfb_control_end end;

	*to = '\0';
	if (view->control == HFB_CONTROL_GAP && view->payload_bytes >= sizeof(gap)) {
		memcpy(&gap, view->payload, sizeof(gap));
		snprintf(to, size, " %" PRIu64 " missing from %" PRIu64 " (%s)", gap.count,
			 gap.first, gap.cause == HFB_GAP_LOCAL ? "local" : "wire");
	} else if (view->control == HFB_CONTROL_STREAM_START &&
		   view->payload_bytes >= sizeof(stream)) {
		memcpy(&stream, view->payload, sizeof(stream));
		snprintf(to, size, " feed %.*s session %.*s next %" PRIu64,
			 (int)(stream.feed_size < 64 ? stream.feed_size : 64), stream.feed,
			 (int)(stream.session_size < 32 ? stream.session_size : 32), stream.session,
			 stream.next_sequence);
	} else if (view->control == HFB_CONTROL_EPOCH_START &&
		   view->payload_bytes >= sizeof(epoch)) {
		memcpy(&epoch, view->payload, sizeof(epoch));
		snprintf(to, size, " %u after %u, which ends at %" PRIu64 " (offset %" PRIu64 ")",
			 epoch.leader_epoch, epoch.previous_epoch, epoch.previous_end,
			 epoch.previous_offset);
	} else if (view->control == HFB_CONTROL_END_MARK && view->payload_bytes >= sizeof(end)) {
		memcpy(&end, view->payload, sizeof(end));
		snprintf(to, size, " at %" PRIu64 " (offset %" PRIu64 ")", end.end_position,
			 end.end_offset);
	}
}

static void
batch_print(struct dump *d, const struct hfb_batch_view *view)
{
	const struct hfb_batch *b = &view->header;
	char detail[256], time[40];

	if (d->quiet)
		return;
	control_detail(view, detail, sizeof(detail));
	if (d->json) {
		struct hfb_text *t = &d->out;

		field(t, "{\"position\":", view->position);
		field(t, ",\"size\":", b->size);
		field(t, ",\"base_offset\":", b->base_offset);
		field(t, ",\"count\":", b->count);
		hfb_text_string(t, ",\"kind\":\"");
		hfb_text_string(t, control_name(view->control));
		field(t, "\",\"flags\":", b->flags);
		field(t, ",\"leader_epoch\":", b->leader_epoch);
		field(t, ",\"durable_lag\":", (uint64_t)b->durable_lag * 8);
		field(t, ",\"producer_id\":", b->producer_id);
		field(t, ",\"producer_epoch\":", b->producer_epoch);
		field(t, ",\"base_sequence\":", b->base_sequence);
		field(t, ",\"timestamp_ns\":", b->timestamp_ns);
		field(t, ",\"port_time_ns\":", view->port_time_ns);
		if (*detail != '\0') {
			hfb_text_string(t, ",\"detail\":");
			if (!hfb_json_string(t, detail + 1, strlen(detail + 1)))
				hfb_json_base64(t, detail + 1, strlen(detail + 1));
		}
		hfb_text_string(t, ",\"check\":\"ok\"}\n");
		if (t->used > 65536)
			flush(d);
		return;
	}
	hfb_clock_format(b->timestamp_ns, time, sizeof(time));
	printf("%14" PRIu64 " %8u  %-12s offset %" PRIu64 " +%u  epoch %u  producer %016" PRIx64
	       ":%u seq %" PRIu64 "  %s%s\n",
	       view->position, b->size, control_name(view->control), b->base_offset, b->count,
	       b->leader_epoch, b->producer_id, b->producer_epoch, b->base_sequence, time, detail);
}

static void
bad_print(struct dump *d, uint64_t position, enum hfb_fault fault, uint64_t next)
{
	d->bad++;
	d->bad_bytes += next - position;
	if (d->json) {
		field(&d->out, "{\"position\":", position);
		field(&d->out, ",\"next\":", next);
		hfb_text_string(&d->out, ",\"check\":\"");
		hfb_text_string(&d->out, hfb_fault_name(fault));
		hfb_text_string(&d->out, "\"}\n");
		return;
	}
	printf("%14" PRIu64 " BAD: %s: %s; %" PRIu64 " bytes, the next sound batch is at %" PRIu64
	       "\n",
	       position, d->path, hfb_fault_name(fault), next - position, next);
}

static void
batch_count(struct dump *d, const struct hfb_batch_view *view)
{
	const struct hfb_batch *b = &view->header;

	if (d->batches++ == 0)
		d->first_offset = b->base_offset;
	if (view->control == 0) {
		struct hfb_record_view record;

		/* counted, since compaction leaves fewer than the batch took offsets */
		hfb_record_first(view, &record);
		while (hfb_record_next(&record))
			d->events++;
	}
	if (view->control == HFB_CONTROL_GAP)
		d->gaps++;
	d->next_offset = b->base_offset + b->count;
	d->end_position = view->position + b->size;
}

/*
 * The end of the log in this file, or damage? What lies behind a log's end cannot be a
 * batch of this place, so a sound one further on proves that there was more.
 */
static void
file_walk(struct dump *d, uint64_t position, const uint8_t *bytes, size_t size)
{
	struct hfb_batch_view view, found;
	struct hfb_walk walk;
	enum hfb_fault fault;

	hfb_walk_init(&walk, d->seed, position, bytes, size);
	for (;;) {
		uint64_t at = walk.position, next;

		fault = hfb_walk_next(&walk, HFB_CHECK_ALL, &view);
		if (fault == HFB_FAULT_NONE) {
			batch_count(d, &view);
			batch_print(d, &view);
			continue;
		}
		if (fault == HFB_FAULT_END || (fault == HFB_FAULT_SHORT && walk.left < 64))
			return;
		if (fault >= HFB_FAULT_EXTENSION && view.header.size <= walk.left) {
			next = at + view.header.size;
		} else if (walk.left > 8 &&
			   hfb_batch_search(d->seed, at + 8, walk.at + 8, walk.left - 8, &found)) {
			next = found.position;
		} else {
			if (fault == HFB_FAULT_SHORT)
				bad_print(d, at, fault, at + walk.left);
			return; /* the log ends here */
		}
		bad_print(d, at, fault, next);
		walk.at += next - at;
		walk.left -= next - at;
		walk.position = next;
	}
}

/* A compacted segment: runs of batches, each at the position it always had. */
static int
compacted_walk(struct dump *d, const struct hfb_segment_header *h, const uint8_t *bytes,
	       size_t size, struct hfb_err *err)
{
	struct hfb_compacted_extent *entries = NULL;
	struct hfb_compacted_header head;
	size_t table;

	if (hfb_compacted_head(bytes, size, h, &head) < 0)
		return hfb_err_set(err, -EBADMSG, "%s: header of a compacted segment is bad",
				   d->path);
	table = (head.extents_count + 1) * sizeof(*entries);
	if (size >= HFB_SEGMENT_HEADER_BYTES + head.data_bytes + table)
		entries = malloc(table);
	if (entries != NULL)
		memcpy(entries, bytes + HFB_SEGMENT_HEADER_BYTES + head.data_bytes, table);
	if (entries == NULL || !hfb_extents_check(h, &head, entries)) {
		free(entries);
		return hfb_err_set(err, -EBADMSG, "%s: extents of a compacted segment are bad",
				   d->path);
	}
	for (uint32_t i = 0; i < head.extents_count; i++)
		file_walk(d, entries[i].position, bytes + HFB_SEGMENT_HEADER_BYTES + entries[i].at,
			  entries[i + 1].at - entries[i].at);
	d->next_offset = head.end_offset;
	d->end_position = h->base_position + h->capacity_bytes;
	free(entries);
	return 0;
}

static int
header_read(struct dump *d, const uint8_t *bytes, size_t size, struct hfb_segment_header *ret,
	    struct hfb_err *err)
{
	uint32_t crc;

	if (size < HFB_SEGMENT_HEADER_BYTES)
		return hfb_err_set(err, -EBADMSG, "%s: %zu bytes are too short for a segment",
				   d->path, size);
	memcpy(ret, bytes, sizeof(*ret));
	if (ret->magic != HFB_SEGMENT_MAGIC)
		return hfb_err_set(err, -EBADMSG,
				   "%s: not a segment file, or its header is damaged "
				   "(magic %016" PRIx64 ")",
				   d->path, ret->magic);
	crc = hfb_crc32c(0, bytes, offsetof(struct hfb_segment_header, header_crc));
	if (crc != ret->header_crc)
		return hfb_err_set(err, -EBADMSG,
				   "%s: the segment header at byte 0 is damaged: crc is "
				   "%08x, not %08x",
				   d->path, crc, ret->header_crc);
	if (ret->version != HFB_FORMAT_VERSION || ret->incompatible != 0)
		return hfb_err_set(err, -EPROTO,
				   "%s: version %u with features %08x; known here are "
				   "version %u and no features",
				   d->path, ret->version, ret->incompatible, HFB_FORMAT_VERSION);
	return 0;
}

static void
header_print(struct dump *d, const struct hfb_segment_header *h)
{
	char uuid[HFB_UUID_TEXT_BYTES], created[40];

	hfb_uuid_format(&h->topic, uuid);
	hfb_clock_format(h->created_ns, created, sizeof(created));
	if (d->json) {
		struct hfb_text *t = &d->out;

		hfb_text_string(t, "{\"segment\":");
		if (!hfb_json_string(t, d->path, strlen(d->path)))
			hfb_json_base64(t, d->path, strlen(d->path));
		hfb_text_string(t, ",\"topic\":\"");
		hfb_text_string(t, uuid);
		field(t, "\",\"partition\":", h->partition);
		field(t, ",\"base_position\":", h->base_position);
		field(t, ",\"capacity_bytes\":", h->capacity_bytes);
		field(t, ",\"kind\":", h->kind);
		field(t, ",\"generation\":", h->generation);
		field(t, ",\"created_ns\":", h->created_ns);
		hfb_text_string(t, ",\"check\":\"ok\"}\n");
		return;
	}
	printf("%s\ntopic %s, partition %u, positions %" PRIu64 " to %" PRIu64 ", made %s, %s%u "
	       "times\n",
	       d->path, uuid, h->partition, h->base_position, h->base_position + h->capacity_bytes,
	       created, h->kind == HFB_SEGMENT_COMPACTED ? "compacted, recycled " : "recycled ",
	       h->generation);
}

/* DATA/topics/<name>/<uuid>/<partition>/<file>: has DATA journals with something in them? */
static bool
journal_there(const char *path)
{
	char *data = realpath(path, NULL), folder[4096];
	const struct dirent *entry;
	bool found = false;
	DIR *dir = NULL;

	for (int level = 0; level < 5 && data != NULL; level++) {
		char *slash = strrchr(data, '/');

		if (slash == NULL || slash == data) {
			free(data);
			return false;
		}
		*slash = '\0';
	}
	if (data != NULL && (size_t)snprintf(folder, sizeof(folder), "%s/" HFB_JOURNAL_FOLDER,
					     data) < sizeof(folder))
		dir = opendir(folder);
	while (dir != NULL && !found && (entry = readdir(dir)) != NULL) {
		size_t n = strlen(entry->d_name), m = strlen(HFB_JOURNAL_SUFFIX);

		found = n > m && strcmp(entry->d_name + n - m, HFB_JOURNAL_SUFFIX) == 0;
	}
	if (dir != NULL)
		closedir(dir);
	free(data);
	return found;
}

static int
dump_file(struct dump *d, struct hfb_err *err)
{
	struct hfb_segment_header h;
	struct stat st;
	uint8_t *bytes;
	size_t log_bytes;
	int fd, r;

	fd = open(d->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return hfb_err_set(err, -errno, "%s: %s", d->path, strerror(errno));
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size == 0) {
		close(fd);
		return hfb_err_set(err, -EINVAL, "%s: not a file with something in it", d->path);
	}
	/* read into memory of our own: the file may be in use and change under a map */
	bytes = malloc((size_t)st.st_size);
	if (bytes == NULL) {
		close(fd);
		return hfb_err_set(err, -ENOMEM, "no memory for %lld bytes", (long long)st.st_size);
	}
	for (off_t done = 0; done < st.st_size;) {
		ssize_t n = pread(fd, bytes + done, (size_t)(st.st_size - done), done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			r = hfb_err_set(err, n < 0 ? -errno : -EIO, "%s: cannot read byte %lld: %s",
					d->path, (long long)done,
					n < 0 ? strerror(errno) : "cut short");
			goto out;
		}
		done += n;
	}
	r = header_read(d, bytes, (size_t)st.st_size, &h, err);
	if (r < 0)
		goto out;
	header_print(d, &h);
	d->seed = hfb_batch_seed(&h.topic, h.partition);
	log_bytes = (size_t)st.st_size - HFB_SEGMENT_HEADER_BYTES;
	if (log_bytes > h.capacity_bytes)
		log_bytes = (size_t)h.capacity_bytes;
	d->end_position = h.base_position;
	if (h.kind == HFB_SEGMENT_COMPACTED)
		r = compacted_walk(d, &h, bytes, (size_t)st.st_size, err);
	else
		file_walk(d, h.base_position, bytes + HFB_SEGMENT_HEADER_BYTES, log_bytes);
	if (r < 0)
		goto out;
	if (d->json) {
		field(&d->out, "{\"batches\":", d->batches);
		field(&d->out, ",\"events\":", d->events);
		field(&d->out, ",\"gaps\":", d->gaps);
		field(&d->out, ",\"bad\":", d->bad);
		field(&d->out, ",\"bad_bytes\":", d->bad_bytes);
		field(&d->out, ",\"first_offset\":", d->first_offset);
		field(&d->out, ",\"next_offset\":", d->next_offset);
		field(&d->out, ",\"end_position\":", d->end_position);
		hfb_text_string(&d->out, journal_there(d->path) ? ",\"journal\":true}\n"
								: ",\"journal\":false}\n");
		flush(d);
	} else {
		printf("%" PRIu64 " batches, %" PRIu64 " events, %" PRIu64 " gaps, offsets %" PRIu64
		       " to %" PRIu64 ", end at position %" PRIu64 "; %" PRIu64 " bad (%" PRIu64
		       " bytes)\n",
		       d->batches, d->events, d->gaps, d->first_offset, d->next_offset,
		       d->end_position, d->bad, d->bad_bytes);
		if (journal_there(d->path))
			printf("the data folder has a journal: durable events that are not in this "
			       "file "
			       "yet may be there, until hfbusd has run for a second or has been "
			       "started again\n");
	}
out:
	free(bytes);
	close(fd);
	return r;
}

int
hfb_cmd_dump(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "quiet", no_argument, NULL, 'q' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct dump d = { 0 };
	struct hfb_err err = { 0 };
	int c, r;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (c) {
		case 'j':
			d.json = true;
			break;
		case 'q':
			d.quiet = true;
			break;
		case 'h':
			help();
			return fflush(stdout) == 0 ? HFB_EXIT_OK : HFB_EXIT_FAILED;
		default:
			return hfb_cli_usage("dump", "wrong option");
		}
	}
	if (optind + 1 != argc)
		return hfb_cli_usage("dump",
				     optind == argc ? "which SEGMENT?" : "one SEGMENT only");
	d.path = argv[optind];
	r = dump_file(&d, &err);
	flush(&d);
	if (d.out.failed)
		r = hfb_err_set(&err, -ENOMEM, "out of memory");
	hfb_text_fini(&d.out);
	if (r < 0)
		return hfb_cli_fail("dump", &err);
	if (fflush(stdout) != 0 || d.bad > 0)
		return HFB_EXIT_FAILED;
	return HFB_EXIT_OK;
}
