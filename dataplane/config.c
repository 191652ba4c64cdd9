/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.c - values of the configuration: defaults, one setter a value, and the
 * checks of the whole. The YAML file is read in config_yaml.c, by these setters.
 */
#include "config.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config_values.h"
#include "units.h"

static int
cpu_last(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		for (int cpu = CPU_SETSIZE - 1; cpu >= 0; cpu--)
			if (CPU_ISSET(cpu, &set))
				return cpu;
	return -1;
}

void
hfb_config_default(struct hfb_config *config)
{
	const char *data = getenv("HFBUS_DATA"), *home = getenv("HOME");

	memset(config, 0, sizeof(*config));
	if (data != NULL && data[0] != '\0')
		snprintf(config->data_dir, sizeof(config->data_dir), "%s", data);
	else if (geteuid() == 0 || home == NULL || home[0] == '\0')
		snprintf(config->data_dir, sizeof(config->data_dir), "/var/lib/hfbus");
	else
		snprintf(config->data_dir, sizeof(config->data_dir), "%s/.local/share/hfbus", home);
	config->cores_count = 1;
	config->cpus[0] = cpu_last();
	config->idle = HFB_IDLE_ADAPTIVE;
	config->hugepages = true;
	config->udp_port = HFB_UDP_PORT_DEFAULT;
	config->ring_bytes = 16 * HFB_MIB;
	config->segment_bytes = 64 * HFB_MIB;
	config->commit_stage = HFB_STAGE_DURABLE;
	config->sessions_max = 1024;
	config->subscriptions_max = 4096;
	config->producers_max = 16384;
	config->locals_max = 256;
	config->local_ring_bytes = 4 * HFB_MIB;
}

/* Words ------------------------------------------------------------------- */

int
hfb_topic_name_check(const char *name, size_t size)
{
	if (size == 0 || size > HFB_TOPIC_NAME_MAX)
		return -EINVAL;
	if ((size == 1 && name[0] == '.') || (size == 2 && name[0] == '.' && name[1] == '.'))
		return -EINVAL;
	for (size_t i = 0; i < size; i++)
		if (!isalnum((unsigned char)name[i]) && name[i] != '.' && name[i] != '_' &&
		    name[i] != '-')
			return -EINVAL;
	return 0;
}

int
hfb_ip_parse(const char *text, struct hfb_ip *ret_ip)
{
	struct in_addr v4;

	if (inet_pton(AF_INET, text, &v4) != 1)
		return -EINVAL;
	memset(ret_ip, 0, sizeof(*ret_ip));
	ret_ip->bytes[10] = ret_ip->bytes[11] = 0xff;
	memcpy(ret_ip->bytes + 12, &v4, 4);
	return 0;
}

void
hfb_ip_format(const struct hfb_ip *ip, char *to, size_t bytes)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (memcmp(ip->bytes, mapped, sizeof(mapped)) == 0)
		inet_ntop(AF_INET, ip->bytes + 12, to, (socklen_t)bytes);
	else
		inet_ntop(AF_INET6, ip->bytes, to, (socklen_t)bytes);
}

/* A whole decimal number, then the rest in *@ret_rest. */
static int
number_parse(const char *text, uint64_t *ret_value, const char **ret_rest)
{
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return -EINVAL;
	errno = 0;
	*ret_value = strtoull(text, &end, 10);
	if (errno != 0)
		return -EINVAL;
	*ret_rest = end;
	return 0;
}

/* One value --------------------------------------------------------------- */

int
hfb_value_u32(const char *text, uint32_t low, uint32_t high, uint32_t *ret_value,
	      struct hfb_err *err)
{
	const char *rest;
	uint64_t value;

	if (number_parse(text, &value, &rest) < 0 || rest[0] != '\0')
		return hfb_err_set(err, -EINVAL, "'%s' is not a whole number", text);
	if (value < low || value > high)
		return hfb_err_set(err, -EINVAL, "%s is outside %u..%u", text, low, high);
	*ret_value = (uint32_t)value;
	return 0;
}

int
hfb_value_bytes(const char *text, uint64_t *ret_bytes, struct hfb_err *err)
{
	if (hfb_bytes_parse(text, ret_bytes) < 0)
		return hfb_err_set(err, -EINVAL, "'%s' is not a size like 64KiB, 16MiB or 1GiB",
				   text);
	return 0;
}

int
hfb_value_class(const char *text, uint64_t low, uint64_t high, uint64_t *ret_bytes,
		struct hfb_err *err)
{
	uint64_t bytes;

	if (hfb_value_bytes(text, &bytes, err) < 0)
		return -EINVAL;
	if (bytes < low || bytes > high || (bytes & (bytes - 1)) != 0)
		return hfb_err_set(err, -EINVAL,
				   "%s is not a power of two from %" PRIu64 "MiB to %" PRIu64 "MiB",
				   text, low / HFB_MIB, high / HFB_MIB);
	*ret_bytes = bytes;
	return 0;
}

int
hfb_value_duration(const char *text, uint64_t *ret_ns, struct hfb_err *err)
{
	if (hfb_duration_parse(text, ret_ns) < 0)
		return hfb_err_set(err, -EINVAL, "'%s' is not a time like 250us, 90s, 12h or 7d",
				   text);
	return 0;
}

int
hfb_value_word(const char *text, const char *const *words, uint32_t n, uint32_t *ret_index,
	       struct hfb_err *err)
{
	char list[128] = "";
	size_t used = 0;

	for (uint32_t i = 0; i < n; i++) {
		if (strcmp(text, words[i]) == 0) {
			*ret_index = i;
			return 0;
		}
		used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s",
					 i == 0	      ? ""
					 : i + 1 == n ? " or "
						      : ", ",
					 words[i]);
	}
	return hfb_err_set(err, -EINVAL, "'%s' is not %s", text, list);
}

int
hfb_value_bool(const char *text, bool *ret_value, struct hfb_err *err)
{
	static const char *const words[] = { "false", "true", "no", "yes", "off", "on" };
	uint32_t index;

	if (hfb_value_word(text, words, 6, &index, err) < 0)
		return -EINVAL;
	*ret_value = index & 1;
	return 0;
}

int
hfb_value_commit(const char *text, enum hfb_stage *ret_stage, struct hfb_err *err)
{
	static const char *const words[] = { "received", "durable", "mirrored",
					     "mirrored-durable" };
	uint32_t index;

	if (hfb_value_word(text, words, 4, &index, err) < 0)
		return -EINVAL;
	if (index >= HFB_STAGE_MIRRORED)
		return hfb_err_set(err, -EINVAL,
				   "commit stage '%s' needs a mirror node, and none"
				   " is configured",
				   text);
	*ret_stage = (enum hfb_stage)index;
	return 0;
}

int
hfb_config_data_set(struct hfb_config *config, const char *text, struct hfb_err *err)
{
	/* what is made in it: topics/<name>/<uuid>/<partition>/<20 digits>.seg */
	if (text[0] == '\0')
		return hfb_err_set(err, -EINVAL, "the data folder's name is empty");
	if (strlen(text) > sizeof(config->data_dir) - 512)
		return hfb_err_set(err, -EINVAL, "the data folder's name is longer than %zu bytes",
				   sizeof(config->data_dir) - 512);
	snprintf(config->data_dir, sizeof(config->data_dir), "%s", text);
	return 0;
}

/* "2", "0,2-3", "any,any": one poll core an entry. */
int
hfb_config_cores_set(struct hfb_config *config, const char *text, struct hfb_err *err)
{
	int cpus[HFB_CORES_MAX];
	uint32_t count = 0;
	const char *at = text;
	cpu_set_t allowed;

	if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0)
		CPU_ZERO(&allowed);
	for (;;) {
		uint64_t first, last;

		if (strncmp(at, "any", 3) == 0) {
			if (count == HFB_CORES_MAX)
				goto many;
			cpus[count++] = -1;
			at += 3;
		} else {
			if (number_parse(at, &first, &at) < 0)
				goto bad;
			last = first;
			if (at[0] == '-' && number_parse(at + 1, &last, &at) < 0)
				goto bad;
			if (last < first || last >= CPU_SETSIZE)
				goto bad;
			for (uint64_t cpu = first; cpu <= last; cpu++) {
				if (count == HFB_CORES_MAX)
					goto many;
				if (!CPU_ISSET(cpu, &allowed))
					return hfb_err_set(err, -EINVAL,
							   "CPU %" PRIu64 " is not"
							   " there, or not allowed to this process",
							   cpu);
				cpus[count++] = (int)cpu;
			}
		}
		if (at[0] == '\0')
			break;
		if (*at++ != ',')
			goto bad;
	}
	memcpy(config->cpus, cpus, sizeof(cpus[0]) * count);
	config->cores_count = count;
	return 0;
many:
	return hfb_err_set(err, -EINVAL, "more than %u poll cores", HFB_CORES_MAX);
bad:
	return hfb_err_set(err, -EINVAL, "'%s' is not a list of CPUs like 1, 2-3 or any,any", text);
}

int
hfb_config_idle_set(struct hfb_config *config, const char *text, struct hfb_err *err)
{
	static const char *const words[] = { "adaptive", "busy" };
	uint32_t index;

	if (hfb_value_word(text, words, 2, &index, err) < 0)
		return -EINVAL;
	config->idle = index == 0 ? HFB_IDLE_ADAPTIVE : HFB_IDLE_BUSY;
	return 0;
}

int
hfb_config_udp_port_set(struct hfb_config *config, const char *text, struct hfb_err *err)
{
	uint32_t port;

	if (hfb_value_u32(text, 1, 65536 - HFB_CORES_MAX, &port, err) < 0)
		return -EINVAL;
	config->udp_port = (uint16_t)port;
	return 0;
}

/* Ports ------------------------------------------------------------------- */

bool
hfb_device_is_pci(const char *device)
{
	unsigned int a, b, c, d;

	return sscanf(device, "%4x:%2x:%2x.%1x", &a, &b, &c, &d) == 4 ||
	       sscanf(device, "%2x:%2x.%1x", &a, &b, &c) == 3;
}

int
hfb_port_device_set(struct hfb_port_config *port, const char *text, struct hfb_err *err)
{
	size_t size = strlen(text);

	if (size == 0)
		return hfb_err_set(err, -EINVAL, "the device is empty");
	if (size >= sizeof(port->device))
		return hfb_err_set(err, -EINVAL, "the device is longer than %zu bytes",
				   sizeof(port->device) - 1);
	if (strncmp(text, "net_", 4) != 0 && !hfb_device_is_pci(text))
		return hfb_err_set(err, -EINVAL,
				   "'%s' is neither a DPDK virtual device (net_memif0,"
				   " net_af_packet0,iface=eth0, ...) nor a PCI address",
				   text);
	memcpy(port->device, text, size + 1);
	return 0;
}

int
hfb_port_ip_set(struct hfb_port_config *port, const char *text, struct hfb_err *err)
{
	char ip[64];
	const char *slash = strchr(text, '/');
	size_t size = slash == NULL ? strlen(text) : (size_t)(slash - text);
	uint32_t prefix = 24;

	if (size >= sizeof(ip))
		size = sizeof(ip) - 1;
	memcpy(ip, text, size);
	ip[size] = '\0';
	if (hfb_ip_parse(ip, &port->ip) < 0)
		return hfb_err_set(err, -EINVAL, "'%s' is not an IPv4 address", ip);
	if (port->ip.bytes[12] == 0 || port->ip.bytes[12] >= 224)
		return hfb_err_set(err, -EINVAL, "'%s' is not an address a port can have", ip);
	if (slash != NULL && hfb_value_u32(slash + 1, 1, 32, &prefix, err) < 0)
		return hfb_err_prefix(err, "prefix");
	port->prefix = prefix;
	return 0;
}

struct hfb_port_config *
hfb_config_port_new(struct hfb_config *config, struct hfb_err *err)
{
	if (config->ports_count == HFB_PORTS_MAX) {
		hfb_err_set(err, -ENOSPC, "more than %u ports", HFB_PORTS_MAX);
		return NULL;
	}
	memset(&config->ports[config->ports_count], 0, sizeof(config->ports[0]));
	return &config->ports[config->ports_count++];
}

/* DEVICE[,argument=...][@IP[/PREFIX]]; an @ inside a path is not ours. */
int
hfb_config_port_add(struct hfb_config *config, const char *spec, struct hfb_err *err)
{
	char device[HFB_PORT_DEVICE_MAX];
	const char *at = strrchr(spec, '@');
	size_t size = strlen(spec);
	struct hfb_port_config *port;

	if (at != NULL && strpbrk(at, ",=") == NULL)
		size = (size_t)(at - spec);
	else
		at = NULL;
	if (size >= sizeof(device))
		return hfb_err_set(err, -EINVAL, "the device is longer than %zu bytes",
				   sizeof(device) - 1);
	memcpy(device, spec, size);
	device[size] = '\0';
	port = hfb_config_port_new(config, err);
	if (port == NULL)
		return -ENOSPC;
	if (hfb_port_device_set(port, device, err) < 0 ||
	    (at != NULL && hfb_port_ip_set(port, at + 1, err) < 0)) {
		config->ports_count--;
		return -EINVAL;
	}
	return 0;
}

/* Feeds ------------------------------------------------------------------- */

struct hfb_feed_config *
hfb_config_feed_new(struct hfb_config *config, struct hfb_err *err)
{
	struct hfb_feed_config *feed;

	if (config->feeds_count == HFB_FEEDS_MAX) {
		hfb_err_set(err, -ENOSPC, "more than %u feeds", HFB_FEEDS_MAX);
		return NULL;
	}
	feed = &config->feeds[config->feeds_count++];
	memset(feed, 0, sizeof(*feed));
	feed->hold_events = 1024;
	feed->hold_us = 1000;
	feed->checksum = HFB_CHECKSUM_COUNT;
	feed->restart = HFB_RESTART_NEW_SESSION;
	return feed;
}

static int
feed_groups_set(struct hfb_feed_config *feed, const char *text, struct hfb_err *err)
{
	char copy[128], *plus;

	if (strlen(text) >= sizeof(copy))
		return hfb_err_set(err, -EINVAL, "'%s' is not IP or IP+IP", text);
	strcpy(copy, text);
	plus = strchr(copy, '+');
	if (plus != NULL)
		*plus++ = '\0';
	if (hfb_ip_parse(copy, &feed->group[0]) < 0)
		return hfb_err_set(err, -EINVAL, "'%s' is not an IPv4 address", copy);
	feed->lines_count = 1;
	if (plus != NULL) {
		if (hfb_ip_parse(plus, &feed->group[1]) < 0)
			return hfb_err_set(err, -EINVAL, "'%s' is not an IPv4 address", plus);
		if (memcmp(&feed->group[0], &feed->group[1], sizeof(feed->group[0])) == 0)
			return hfb_err_set(err, -EINVAL, "lines A and B have one address, %s",
					   plus);
		feed->lines_count = 2;
	}
	return 0;
}

int
hfb_feed_value_set(struct hfb_feed_config *feed, const char *key, const char *text,
		   struct hfb_err *err)
{
	static const char *const framings[] = { "raw", "moldudp64", "iex-tp" };
	static const char *const policies[] = { "off", "count", "drop" };
	static const char *const restarts[] = { "new-session", "accept" };
	uint32_t value;

	if (strcmp(key, "name") == 0) {
		if (strlen(text) >= sizeof(feed->name) ||
		    hfb_topic_name_check(text, strlen(text)) < 0)
			return hfb_err_set(err, -EINVAL,
					   "'%s' is not 1 to %zu letters, digits, '.',"
					   " '_' or '-'",
					   text, sizeof(feed->name) - 1);
		strcpy(feed->name, text);
	} else if (strcmp(key, "framing") == 0) {
		if (hfb_value_word(text, framings, 3, &value, err) < 0)
			return -EINVAL;
		feed->framing = (enum hfb_framing)(HFB_FRAMING_RAW + value);
	} else if (strcmp(key, "group") == 0) {
		return feed_groups_set(feed, text, err);
	} else if (strcmp(key, "port") == 0) {
		if (hfb_value_u32(text, 1, 65535, &value, err) < 0)
			return -EINVAL;
		feed->udp_port = (uint16_t)value;
	} else if (strcmp(key, "topic") == 0) {
		if (hfb_topic_name_check(text, strlen(text)) < 0)
			return hfb_err_set(err, -EINVAL,
					   "'%s' is not a topic name: 1 to %u letters,"
					   " digits, '.', '_' or '-'",
					   text, HFB_TOPIC_NAME_MAX);
		strcpy(feed->topic, text);
	} else if (strcmp(key, "partition") == 0) {
		return hfb_value_u32(text, 0, HFB_TOPIC_PARTITIONS_MAX - 1, &feed->partition, err);
	} else if (strcmp(key, "vlan") == 0) {
		if (hfb_value_u32(text, 0, 4094, &value, err) < 0)
			return -EINVAL;
		feed->vlan = (uint16_t)value;
	} else if (strcmp(key, "hold-events") == 0) {
		return hfb_value_u32(text, 0, 65536, &feed->hold_events, err);
	} else if (strcmp(key, "hold-us") == 0) {
		return hfb_value_u32(text, 0, 10000000, &feed->hold_us, err);
	} else if (strcmp(key, "checksum") == 0) {
		if (hfb_value_word(text, policies, 3, &value, err) < 0)
			return -EINVAL;
		feed->checksum = (enum hfb_checksum_policy)(HFB_CHECKSUM_OFF + value);
	} else if (strcmp(key, "restart") == 0) {
		if (hfb_value_word(text, restarts, 2, &value, err) < 0)
			return -EINVAL;
		feed->restart = value == 0 ? HFB_RESTART_NEW_SESSION : HFB_RESTART_ACCEPT;
	} else {
		return hfb_err_set(
			err, -EINVAL,
			"unknown key; known are name, framing, group, port,"
			" topic, partition, vlan, hold-events, hold-us, checksum, restart");
	}
	return 0;
}

int
hfb_feed_complete(const struct hfb_feed_config *feed, struct hfb_err *err)
{
	const char *missing = feed->name[0] == '\0'    ? "name"
			      : feed->framing == 0     ? "framing"
			      : feed->lines_count == 0 ? "group"
			      : feed->udp_port == 0    ? "port"
			      : feed->topic[0] == '\0' ? "topic"
						       : NULL;

	if (missing != NULL)
		return hfb_err_set(err, -EINVAL, "a feed needs '%s'", missing);
	return 0;
}

/* name=..,framing=..,group=IP[+IP],port=N,topic=T[,...] */
int
hfb_config_feed_add(struct hfb_config *config, const char *spec, struct hfb_err *err)
{
	char *copy = strdup(spec), *save = NULL;
	struct hfb_feed_config *feed;
	int r = 0;

	if (copy == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	feed = hfb_config_feed_new(config, err);
	if (feed == NULL) {
		free(copy);
		return -ENOSPC;
	}
	for (char *pair = strtok_r(copy, ",", &save); pair != NULL && r == 0;
	     pair = strtok_r(NULL, ",", &save)) {
		char *equals = strchr(pair, '=');

		if (equals == NULL) {
			r = hfb_err_set(err, -EINVAL, "'%s' is not key=value", pair);
			break;
		}
		*equals = '\0';
		r = hfb_feed_value_set(feed, pair, equals + 1, err);
		if (r < 0)
			hfb_err_prefix(err, "%s", pair);
	}
	if (r == 0)
		r = hfb_feed_complete(feed, err);
	if (r < 0)
		config->feeds_count--;
	free(copy);
	return r;
}

/* The whole --------------------------------------------------------------- */

int
hfb_config_check_where(const struct hfb_config *config, char *where, size_t where_bytes,
		       struct hfb_err *err)
{
	where[0] = '\0';
	if (config->idle == HFB_IDLE_BUSY) {
		for (uint32_t i = 0; i < config->cores_count; i++) {
			snprintf(where, where_bytes, "cores");
			if (config->cpus[i] < 0)
				return hfb_err_set(err, -EINVAL,
						   "idle 'busy' wants each poll core on"
						   " a CPU of its own, not 'any'");
			for (uint32_t j = 0; j < i; j++)
				if (config->cpus[i] == config->cpus[j])
					return hfb_err_set(err, -EINVAL,
							   "CPU %d is listed twice:"
							   " cores can share one only with idle"
							   " 'adaptive'",
							   config->cpus[i]);
		}
	}
	for (uint32_t i = 0; i < config->ports_count; i++)
		for (uint32_t j = 0; j < i; j++) {
			size_t n = strcspn(config->ports[i].device, ",");

			snprintf(where, where_bytes, "ports[%u].device", i);
			if (n == strcspn(config->ports[j].device, ",") &&
			    memcmp(config->ports[i].device, config->ports[j].device, n) == 0)
				return hfb_err_set(err, -EINVAL,
						   "device '%.*s' is there twice: number"
						   " them, e.g. net_memif0 and net_memif1",
						   (int)n, config->ports[i].device);
		}
	for (uint32_t i = 0; i < config->feeds_count; i++)
		for (uint32_t j = 0; j < i; j++) {
			const struct hfb_feed_config *a = &config->feeds[i], *b = &config->feeds[j];

			snprintf(where, where_bytes, "feeds[%u].name", i);
			if (strcmp(a->name, b->name) == 0)
				return hfb_err_set(err, -EINVAL,
						   "feed '%s' is there twice: its name"
						   " is part of its stream's key",
						   a->name);
			snprintf(where, where_bytes, "feeds[%u].group", i);
			if (a->udp_port != b->udp_port ||
			    (a->vlan != b->vlan && a->vlan != 0 && b->vlan != 0))
				continue;
			for (uint32_t k = 0; k < a->lines_count; k++)
				for (uint32_t l = 0; l < b->lines_count; l++)
					if (memcmp(&a->group[k], &b->group[l],
						   sizeof(a->group[k])) == 0)
						return hfb_err_set(err, -EINVAL,
								   "feeds '%s' and '%s'"
								   " listen to one group and port",
								   b->name, a->name);
		}
	where[0] = '\0';
	return 0;
}

int
hfb_config_check(const struct hfb_config *config, struct hfb_err *err)
{
	char where[64];

	return hfb_config_check_where(config, where, sizeof(where), err);
}
