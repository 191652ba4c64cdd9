/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_yaml.c - the configuration file.
 *
 * Three passes over one text: libyaml reads it as a document (syntax, keys that
 * stand twice, and later the line of any value), libcyaml checks its shape against
 * the schema below, and the setters of config.c check each value. Every scalar is
 * a string to libcyaml, so that numbers, sizes and words are all refused by our
 * own sentences with the line they stand on.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cyaml/cyaml.h>
#include <yaml.h>

#include "config.h"
#include "config_values.h"

#define CONFIG_FILE_BYTES_MAX (1024u * 1024u)

struct raw_port {
	char *device, *ip, *queues, *timestamps;
};
struct raw_feed {
	char *name, *framing, *group, *port, *topic, *partition, *vlan, *hold_events, *hold_us,
		*checksum, *restart;
};
struct raw_topics {
	char *ring, *segment, *retention_bytes, *retention_time, *commit, *auto_create;
};
struct raw_storage {
	char *tail, *sync, *dedup_window, *compact_rate;
};
struct raw_limits {
	char *sessions, *subscriptions, *producers, *local_clients, *local_ring;
};
struct raw {
	char *data, *cores, *idle, *hugepages, *memory, *udp_port;
	struct raw_port *ports;
	unsigned int ports_count;
	struct raw_feed *feeds;
	unsigned int feeds_count;
	struct raw_topics topics;
	struct raw_storage storage;
	struct raw_limits limits;
};

#define TEXT(key, type, member)                                                                    \
	CYAML_FIELD_STRING_PTR(key, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct type, member, \
			       0, CYAML_UNLIMITED)

static const cyaml_schema_field_t port_fields[] = {
	TEXT("device", raw_port, device),
	TEXT("ip", raw_port, ip),
	TEXT("queues", raw_port, queues),
	TEXT("timestamps", raw_port, timestamps),
	CYAML_FIELD_END,
};
static const cyaml_schema_value_t port_schema = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_port, port_fields),
};
static const cyaml_schema_field_t feed_fields[] = {
	TEXT("name", raw_feed, name),	    TEXT("framing", raw_feed, framing),
	TEXT("group", raw_feed, group),	    TEXT("port", raw_feed, port),
	TEXT("topic", raw_feed, topic),	    TEXT("partition", raw_feed, partition),
	TEXT("vlan", raw_feed, vlan),	    TEXT("hold-events", raw_feed, hold_events),
	TEXT("hold-us", raw_feed, hold_us), TEXT("checksum", raw_feed, checksum),
	TEXT("restart", raw_feed, restart), CYAML_FIELD_END,
};
static const cyaml_schema_value_t feed_schema = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_feed, feed_fields),
};
static const cyaml_schema_field_t topics_fields[] = {
	TEXT("ring", raw_topics, ring),
	TEXT("segment", raw_topics, segment),
	TEXT("retention-bytes", raw_topics, retention_bytes),
	TEXT("retention-time", raw_topics, retention_time),
	TEXT("commit", raw_topics, commit),
	TEXT("auto-create", raw_topics, auto_create),
	CYAML_FIELD_END,
};
static const cyaml_schema_field_t storage_fields[] = {
	TEXT("tail", raw_storage, tail),
	TEXT("sync", raw_storage, sync),
	TEXT("dedup-window", raw_storage, dedup_window),
	TEXT("compact-rate", raw_storage, compact_rate),
	CYAML_FIELD_END,
};
static const cyaml_schema_field_t limits_fields[] = {
	TEXT("sessions", raw_limits, sessions),
	TEXT("subscriptions", raw_limits, subscriptions),
	TEXT("producers", raw_limits, producers),
	TEXT("local-clients", raw_limits, local_clients),
	TEXT("local-ring", raw_limits, local_ring),
	CYAML_FIELD_END,
};
static const cyaml_schema_field_t root_fields[] = {
	TEXT("data", raw, data),
	TEXT("cores", raw, cores),
	TEXT("idle", raw, idle),
	TEXT("hugepages", raw, hugepages),
	TEXT("memory", raw, memory),
	TEXT("udp-port", raw, udp_port),
	CYAML_FIELD_SEQUENCE("ports", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct raw, ports,
			     &port_schema, 0, HFB_PORTS_MAX),
	CYAML_FIELD_SEQUENCE("feeds", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct raw, feeds,
			     &feed_schema, 0, HFB_FEEDS_MAX),
	CYAML_FIELD_MAPPING("topics", CYAML_FLAG_OPTIONAL, struct raw, topics, topics_fields),
	CYAML_FIELD_MAPPING("storage", CYAML_FLAG_OPTIONAL, struct raw, storage, storage_fields),
	CYAML_FIELD_MAPPING("limits", CYAML_FLAG_OPTIONAL, struct raw, limits, limits_fields),
	/* the control plane reads its own part of the same file */
	CYAML_FIELD_IGNORE("control", CYAML_FLAG_OPTIONAL),
	CYAML_FIELD_END,
};
static const cyaml_schema_value_t root_schema = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct raw, root_fields),
};

/* Lines ------------------------------------------------------------------- */

struct reading {
	struct hfb_config *config;
	const char *name;
	struct hfb_err *err;
	yaml_document_t document;
	/* libcyaml's first sentence and the innermost line of its backtrace */
	char shape[160];
	unsigned int shape_line;
};

static yaml_node_t *
node_member(yaml_document_t *document, const yaml_node_t *map, const char *key, size_t size,
	    yaml_node_t **ret_key)
{
	for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top;
	     p++) {
		yaml_node_t *k = yaml_document_get_node(document, p->key);

		if (k->type == YAML_SCALAR_NODE && k->data.scalar.length == size &&
		    memcmp(k->data.scalar.value, key, size) == 0) {
			*ret_key = k;
			return yaml_document_get_node(document, p->value);
		}
	}
	return NULL;
}

/* Line, from 1, of what a path like "feeds[1].group" names, or of its nearest parent. */
static unsigned int
line_of(struct reading *reading, const char *path)
{
	yaml_node_t *node = yaml_document_get_root_node(&reading->document);
	unsigned int line = node == NULL ? 0 : (unsigned int)node->start_mark.line;

	while (node != NULL && *path != '\0') {
		size_t size = strcspn(path, ".[");
		yaml_node_t *key = NULL;

		if (*path == '[') {
			unsigned long index = strtoul(path + 1, (char **)(uintptr_t)&path, 10);

			path += *path == ']';
			if (node->type != YAML_SEQUENCE_NODE ||
			    index >= (size_t)(node->data.sequence.items.top -
					      node->data.sequence.items.start))
				break;
			node = yaml_document_get_node(&reading->document,
						      node->data.sequence.items.start[index]);
			line = (unsigned int)node->start_mark.line;
		} else {
			if (node->type != YAML_MAPPING_NODE)
				break;
			node = node_member(&reading->document, node, path, size, &key);
			if (node == NULL)
				break;
			line = (unsigned int)key->start_mark.line;
			path += size;
		}
		path += *path == '.';
	}
	return line + 1;
}

static int
refuse(struct reading *reading, const char *path, const char *label)
{
	if (label[0] != '\0')
		hfb_err_prefix(reading->err, "%s", label);
	hfb_err_prefix(reading->err, "%s:%u", reading->name, line_of(reading, path));
	return -EINVAL;
}

/* A key that stands twice in one mapping: libcyaml takes the last without a word. */
static int
keys_check(struct reading *reading)
{
	yaml_node_t *node;

	for (int i = 1; (node = yaml_document_get_node(&reading->document, i)) != NULL; i++) {
		if (node->type != YAML_MAPPING_NODE)
			continue;
		for (yaml_node_pair_t *p = node->data.mapping.pairs.start;
		     p < node->data.mapping.pairs.top; p++) {
			yaml_node_t *key = yaml_document_get_node(&reading->document, p->key);
			yaml_node_t *first = key;

			if (key->type != YAML_SCALAR_NODE)
				continue;
			node_member(&reading->document, node, (char *)key->data.scalar.value,
				    key->data.scalar.length, &first);
			if (first != key)
				return hfb_err_set(reading->err, -EINVAL,
						   "%s:%zu: '%s' stands twice, first on line %zu",
						   reading->name, key->start_mark.line + 1,
						   (char *)key->data.scalar.value,
						   first->start_mark.line + 1);
		}
	}
	return 0;
}

static void
cyaml_heard(cyaml_log_t level, void *arg, const char *format, va_list args)
{
	struct reading *reading = arg;
	char text[256], *at;

	(void)level;
	vsnprintf(text, sizeof(text), format, args);
	text[strcspn(text, "\n")] = '\0';
	at = strstr(text, "(line: ");
	if (at != NULL) {
		if (reading->shape_line == 0)
			reading->shape_line = (unsigned int)strtoul(at + 7, NULL, 10);
	} else if (reading->shape[0] == '\0') {
		at = strncmp(text, "Load: ", 6) == 0 ? text + 6 : text;
		snprintf(reading->shape, sizeof(reading->shape), "%.150s", at);
	}
}

/* Values ------------------------------------------------------------------ */

static int
set_memory(struct hfb_config *config, const char *text, struct hfb_err *err)
{
	uint64_t bytes;

	if (hfb_value_bytes(text, &bytes, err) < 0)
		return -EINVAL;
	if (bytes < 32 * HFB_MIB || bytes > (uint64_t)1024 * 1024 * HFB_MIB)
		return hfb_err_set(err, -EINVAL, "%s is outside 32MiB..1TiB", text);
	config->memory_mib = (uint32_t)(bytes / HFB_MIB);
	return 0;
}

static int
set_hugepages(struct hfb_config *config, const char *text, struct hfb_err *err)
{
	static const char *const words[] = { "off", "auto" };
	uint32_t index;

	if (hfb_value_word(text, words, 2, &index, err) < 0)
		return -EINVAL;
	config->hugepages = index == 1;
	return 0;
}

static int
set_ring(struct hfb_config *config, const char *text, struct hfb_err *err)
{
	return hfb_value_class(text, HFB_RING_BYTES_MIN, HFB_RING_BYTES_MAX, &config->ring_bytes,
			       err);
}

static int
set_segment(struct hfb_config *config, const char *text, struct hfb_err *err)
{
	return hfb_value_class(text, HFB_SEGMENT_BYTES_MIN, HFB_SEGMENT_BYTES_MAX,
			       &config->segment_bytes, err);
}

static int
set_retention_bytes(struct hfb_config *config, const char *text, struct hfb_err *err)
{
	return hfb_value_bytes(text, &config->retention_bytes, err);
}

static int
set_retention_time(struct hfb_config *config, const char *text, struct hfb_err *err)
{
	return hfb_value_duration(text, &config->retention_ns, err);
}

static int
set_commit(struct hfb_config *config, const char *text, struct hfb_err *err)
{
	return hfb_value_commit(text, &config->commit_stage, err);
}

/* Partitions of a topic that is made for its publisher, or no. */
static int
set_auto_create(struct hfb_config *config, const char *text, struct hfb_err *err)
{
	if (strcmp(text, "no") == 0) {
		config->auto_create_partitions = 0;
		return 0;
	}
	return hfb_value_u32(text, 1, HFB_TOPIC_PARTITIONS_MAX, &config->auto_create_partitions,
			     err);
}

static int
set_tail(struct hfb_config *config, const char *text, struct hfb_err *err)
{
	static const char *const words[] = { "rewrite", "pad" };

	return hfb_value_word(text, words, 2, &config->tail_pad, err);
}

static int
set_sync(struct hfb_config *config, const char *text, struct hfb_err *err)
{
	static const char *const words[] = { "auto", "dsync", "fdatasync" };

	return hfb_value_word(text, words, 3, &config->sync_mode, err);
}

static int
set_compact_rate(struct hfb_config *config, const char *text, struct hfb_err *err)
{
	return hfb_value_bytes(text, &config->compact_bytes_per_s, err);
}

static int
set_dedup(struct hfb_config *config, const char *text, struct hfb_err *err)
{
	return hfb_value_duration(text, &config->dedup_window_ns, err);
}

static int
set_sessions(struct hfb_config *config, const char *text, struct hfb_err *err)
{
	return hfb_value_u32(text, 1, 1u << 20, &config->sessions_max, err);
}

static int
set_subscriptions(struct hfb_config *config, const char *text, struct hfb_err *err)
{
	return hfb_value_u32(text, 1, 1u << 20, &config->subscriptions_max, err);
}

static int
set_producers(struct hfb_config *config, const char *text, struct hfb_err *err)
{
	return hfb_value_u32(text, 1, 1u << 24, &config->producers_max, err);
}

static int
set_locals(struct hfb_config *config, const char *text, struct hfb_err *err)
{
	return hfb_value_u32(text, 1, 4096, &config->locals_max, err);
}

static int
set_local_ring(struct hfb_config *config, const char *text, struct hfb_err *err)
{
	return hfb_value_class(text, HFB_MIB, 256 * HFB_MIB, &config->local_ring_bytes, err);
}

static int
scalars_apply(struct reading *reading, const struct raw *raw)
{
	const struct {
		const char *path, *text;
		int (*set)(struct hfb_config *config, const char *text, struct hfb_err *err);
	} values[] = {
		{ "data", raw->data, hfb_config_data_set },
		{ "cores", raw->cores, hfb_config_cores_set },
		{ "idle", raw->idle, hfb_config_idle_set },
		{ "hugepages", raw->hugepages, set_hugepages },
		{ "memory", raw->memory, set_memory },
		{ "udp-port", raw->udp_port, hfb_config_udp_port_set },
		{ "topics.ring", raw->topics.ring, set_ring },
		{ "topics.segment", raw->topics.segment, set_segment },
		{ "topics.retention-bytes", raw->topics.retention_bytes, set_retention_bytes },
		{ "topics.retention-time", raw->topics.retention_time, set_retention_time },
		{ "topics.commit", raw->topics.commit, set_commit },
		{ "topics.auto-create", raw->topics.auto_create, set_auto_create },
		{ "storage.tail", raw->storage.tail, set_tail },
		{ "storage.sync", raw->storage.sync, set_sync },
		{ "storage.dedup-window", raw->storage.dedup_window, set_dedup },
		{ "storage.compact-rate", raw->storage.compact_rate, set_compact_rate },
		{ "limits.sessions", raw->limits.sessions, set_sessions },
		{ "limits.subscriptions", raw->limits.subscriptions, set_subscriptions },
		{ "limits.producers", raw->limits.producers, set_producers },
		{ "limits.local-clients", raw->limits.local_clients, set_locals },
		{ "limits.local-ring", raw->limits.local_ring, set_local_ring },
	};

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		if (values[i].text != NULL &&
		    values[i].set(reading->config, values[i].text, reading->err) < 0)
			return refuse(reading, values[i].path, values[i].path);
	return 0;
}

static int
port_apply(struct reading *reading, const struct raw_port *raw, unsigned int index)
{
	struct hfb_port_config *port = hfb_config_port_new(reading->config, reading->err);
	struct hfb_err *err = reading->err;
	char path[64];

	snprintf(path, sizeof(path), "ports[%u]", index);
	if (port == NULL)
		return refuse(reading, path, "ports");
	if (raw->device == NULL) {
		hfb_err_set(err, -EINVAL, "a port needs 'device'");
		return refuse(reading, path, "ports");
	}
	snprintf(path, sizeof(path), "ports[%u].device", index);
	if (hfb_port_device_set(port, raw->device, err) < 0)
		return refuse(reading, path, "device");
	snprintf(path, sizeof(path), "ports[%u].ip", index);
	if (raw->ip != NULL && hfb_port_ip_set(port, raw->ip, err) < 0)
		return refuse(reading, path, "ip");
	snprintf(path, sizeof(path), "ports[%u].queues", index);
	if (raw->queues != NULL &&
	    hfb_value_u32(raw->queues, 1, HFB_CORES_MAX, &port->queues, err) < 0)
		return refuse(reading, path, "queues");
	snprintf(path, sizeof(path), "ports[%u].timestamps", index);
	if (raw->timestamps != NULL && hfb_value_bool(raw->timestamps, &port->timestamps, err) < 0)
		return refuse(reading, path, "timestamps");
	return 0;
}

static int
feed_apply(struct reading *reading, const struct raw_feed *raw, unsigned int index)
{
	const struct {
		const char *key, *text;
	} values[] = {
		{ "name", raw->name },	     { "framing", raw->framing },
		{ "group", raw->group },     { "port", raw->port },
		{ "topic", raw->topic },     { "partition", raw->partition },
		{ "vlan", raw->vlan },	     { "hold-events", raw->hold_events },
		{ "hold-us", raw->hold_us }, { "checksum", raw->checksum },
		{ "restart", raw->restart },
	};
	struct hfb_feed_config *feed = hfb_config_feed_new(reading->config, reading->err);
	char path[64];

	snprintf(path, sizeof(path), "feeds[%u]", index);
	if (feed == NULL)
		return refuse(reading, path, "feeds");
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		snprintf(path, sizeof(path), "feeds[%u].%s", index, values[i].key);
		if (values[i].text != NULL &&
		    hfb_feed_value_set(feed, values[i].key, values[i].text, reading->err) < 0)
			return refuse(reading, path, values[i].key);
	}
	snprintf(path, sizeof(path), "feeds[%u]", index);
	if (hfb_feed_complete(feed, reading->err) < 0)
		return refuse(reading, path, "feeds");
	return 0;
}

static int
raw_apply(struct reading *reading, const struct raw *raw)
{
	char where[64];
	int r;

	r = scalars_apply(reading, raw);
	for (unsigned int i = 0; r == 0 && i < raw->ports_count; i++)
		r = port_apply(reading, &raw->ports[i], i);
	for (unsigned int i = 0; r == 0 && i < raw->feeds_count; i++)
		r = feed_apply(reading, &raw->feeds[i], i);
	if (r == 0 &&
	    hfb_config_check_where(reading->config, where, sizeof(where), reading->err) < 0)
		r = refuse(reading, where, "");
	return r;
}

int
hfb_config_load_text(struct hfb_config *config, const char *name, const char *text, size_t size,
		     struct hfb_err *err)
{
	struct reading reading = { .config = config, .name = name, .err = err };
	const cyaml_config_t cyaml = {
		.log_fn = cyaml_heard,
		.log_ctx = &reading,
		.mem_fn = cyaml_mem,
		.log_level = CYAML_LOG_ERROR,
		.flags = CYAML_CFG_NO_ALIAS,
	};
	struct raw *raw = NULL;
	yaml_parser_t parser;
	cyaml_err_t shape;
	int r;

	if (!yaml_parser_initialize(&parser))
		return hfb_err_set(err, -ENOMEM, "out of memory");
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, size);
	if (!yaml_parser_load(&parser, &reading.document)) {
		r = hfb_err_set(err, -EINVAL, "%s:%zu: %s", name,
				(parser.problem_mark.line ? parser.problem_mark.line
							  : parser.context_mark.line) +
					1,
				parser.problem != NULL ? parser.problem : "not YAML");
		yaml_parser_delete(&parser);
		return r;
	}
	yaml_parser_delete(&parser);

	r = 0;
	if (yaml_document_get_root_node(&reading.document) == NULL)
		goto out; /* an empty file says nothing: the defaults stand */
	r = keys_check(&reading);
	if (r < 0)
		goto out;
	shape = cyaml_load_data((const uint8_t *)text, size, &cyaml, &root_schema,
				(cyaml_data_t **)&raw, NULL);
	if (shape != CYAML_OK) {
		r = hfb_err_set(err, shape == CYAML_ERR_OOM ? -ENOMEM : -EINVAL, "%s:%u: %s", name,
				reading.shape_line == 0 ? 1 : reading.shape_line,
				reading.shape[0] != '\0' ? reading.shape : cyaml_strerror(shape));
		goto out;
	}
	r = raw_apply(&reading, raw);
	cyaml_free(&cyaml, &root_schema, raw, 0);
out:
	yaml_document_delete(&reading.document);
	return r;
}

int
hfb_config_load(struct hfb_config *config, const char *path, struct hfb_err *err)
{
	char *text = NULL;
	size_t size;
	FILE *file;
	int r;

	file = fopen(path, "re");
	if (file == NULL)
		return hfb_err_set(err, -errno, "cannot read the configuration '%s': %s", path,
				   strerror(errno));
	text = malloc(CONFIG_FILE_BYTES_MAX);
	if (text == NULL) {
		fclose(file);
		return hfb_err_set(err, -ENOMEM, "out of memory");
	}
	size = fread(text, 1, CONFIG_FILE_BYTES_MAX, file);
	if (ferror(file))
		r = hfb_err_set(err, -EIO, "cannot read the configuration '%s'", path);
	else if (size == CONFIG_FILE_BYTES_MAX)
		r = hfb_err_set(err, -EINVAL, "the configuration '%s' is larger than 1 MiB", path);
	else
		r = hfb_config_load_text(config, path, text, size, err);
	fclose(file);
	free(text);
	return r;
}
