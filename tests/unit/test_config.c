/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration.
 *
 * Goal:   each mistake is refused with its line and a sentence that helps; what is
 *	   right arrives in the struct.
 * Method: a table of texts with one mistake each, and the line and words expected.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "hfb_test_main.h"

static struct hfb_config config;

struct mistake {
	const char *text, *place, *words;
};

static const struct mistake mistakes[] = {
	{ "idle: adaptive\nudp-port: 99999\n", "t:2: udp-port: ", "99999 is outside 1..65472" },
	{ "udp-port: seven\n", "t:1: udp-port: ", "'seven' is not a whole number" },
	{ "\n\nidle: lazy\n", "t:3: idle: ", "'lazy' is not adaptive or busy" },
	{ "cores: 0,,1\n", "t:1: cores: ", "is not a list of CPUs" },
	{ "cores: 1023\n", "t:1: cores: ", "CPU 1023 is not there" },
	{ "hugepages: maybe\n", "t:1: hugepages: ", "'maybe' is not off or auto" },
	{ "memory: 1MiB\n", "t:1: memory: ", "outside 32MiB..1TiB" },
	{ "memory: lots\n", "t:1: memory: ", "'lots' is not a size" },
	{ "nonsense: 1\n", "t:1: ", "nonsense" },
	{ "idle: adaptive\ntopics:\n  rings: 16MiB\n", "t:3: ", "rings" },
	{ "topics:\n  ring: 3MiB\n", "t:2: topics.ring: ", "3MiB is not a power of two" },
	{ "topics:\n  ring: 1MiB\n  segment: 512MiB\n", "t:3: topics.segment: ", "power of two" },
	{ "topics:\n  retention-time: 7x\n", "t:2: topics.retention-time: ", "not a time like" },
	{ "topics:\n  commit: mirrored\n", "t:2: topics.commit: ", "needs a mirror node" },
	{ "topics:\n  commit: soon\n", "t:2: topics.commit: ", "'soon' is not received" },
	{ "storage:\n  tail: cut\n", "t:2: storage.tail: ", "'cut' is not rewrite or pad" },
	{ "storage:\n  sync: never\n", "t:2: storage.sync: ", "'never' is not auto" },
	{ "limits:\n  sessions: 0\n", "t:2: limits.sessions: ", "0 is outside" },
	{ "idle: busy\nidle: adaptive\n", "t:2: ", "'idle' stands twice, first on line 1" },
	{ "ports:\n  - ip: 10.0.0.1\n", "t:2: ports: ", "a port needs 'device'" },
	{ "ports:\n  - device: eth0\n", "t:2: device: ", "'eth0' is neither" },
	{ "ports:\n  - device: net_null0\n    ip: 10.0.0\n", "t:3: ip: ", "not an IPv4 address" },
	{ "ports:\n  - device: net_null0\n    ip: 10.0.0.1/40\n",
	  "t:3: ip: ", "40 is outside 1..32" },
	{ "ports:\n  - device: net_null0\n    ip: 239.1.1.1\n",
	  "t:3: ip: ", "not an address a port can have" },
	{ "ports:\n  - device: net_null0\n    timestamps: often\n",
	  "t:3: timestamps: ", "'often' is not" },
	{ "ports:\n  - device: net_null0\n  - device: net_null0,size=100\n",
	  "t:3: ", "'net_null0' is there twice" },
	{ "ports: 12\n", "t:1: ", "" },
	{ "feeds:\n  - name: a\n    framing: raw\n    port: 1\n    topic: t\n",
	  "t:2: feeds: ", "a feed needs 'group'" },
	{ "feeds:\n  - name: a b\n", "t:2: name: ", "'a b' is not 1 to 63 letters" },
	{ "feeds:\n  - name: a\n    framing: itch\n", "t:3: framing: ", "'itch' is not raw" },
	{ "feeds:\n  - name: a\n    group: 1.2.3.4+1.2.3.4\n", "t:3: group: ", "one address" },
	{ "feeds:\n  - name: a\n    group: fe80::1\n", "t:3: group: ", "not an IPv4 address" },
	{ "feeds:\n  - name: a\n    port: 0\n", "t:3: port: ", "0 is outside 1..65535" },
	{ "feeds:\n  - name: a\n    topic: ../x\n", "t:3: topic: ", "not a topic name" },
	{ "feeds:\n  - name: a\n    checksum: maybe\n", "t:3: checksum: ", "off, count or drop" },
	{ "feeds:\n  - name: a\n    restart: often\n", "t:3: restart: ", "new-session or accept" },
	{ "feeds:\n"
	  "  - {name: a, framing: raw, group: 239.0.0.1, port: 1, topic: t}\n"
	  "  - {name: b, framing: raw, group: 239.0.0.2+239.0.0.1, port: 1, topic: u}\n",
	  "t:3: ", "feeds 'a' and 'b' listen to one group" },
	{ "feeds:\n"
	  "  - {name: a, framing: raw, group: 239.0.0.1, port: 1, topic: t}\n"
	  "  - {name: a, framing: raw, group: 239.0.0.2, port: 1, topic: u}\n",
	  "t:3: ", "feed 'a' is there twice" },
	{ "cores: any\nidle: busy\n", "t:1: ", "a CPU of its own" },
	{ "cores: 0,0\nidle: busy\n", "t:1: ", "CPU 0 is listed twice" },
	{ "idle: [busy\n", "t:2: ", "" },
	{ "\tidle: busy\n", "t:1: ", "" },
	{ "- a\n- b\n", "t:1: ", "" },
};

static void
test_each_mistake_is_refused_with_its_line(void)
{
	for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
		const struct mistake *m = &mistakes[i];
		struct hfb_err err = { 0 };
		int r;

		hfb_config_default(&config);
		r = hfb_config_load_text(&config, "t", m->text, strlen(m->text), &err);
		if (r != -EINVAL || strncmp(err.text, m->place, strlen(m->place)) != 0 ||
		    strstr(err.text, m->words) == NULL)
			fprintf(stderr, "\ntext:\n%sexpected '%s...%s', got %d '%s'\n", m->text,
				m->place, m->words, r, err.text);
		CU_ASSERT_EQUAL(r, -EINVAL);
		CU_ASSERT_EQUAL(strncmp(err.text, m->place, strlen(m->place)), 0);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.text, m->words));
	}
}

static void
test_a_whole_file_arrives(void)
{
	static const char text[] = "data: /srv/bus\n"
				   "cores: 0,any\n"
				   "idle: adaptive\n"
				   "hugepages: off\n"
				   "memory: 1GiB\n"
				   "udp-port: 9000\n"
				   "ports:\n"
				   "  - device: net_pcap0,rx_pcap=a.pcap\n"
				   "    timestamps: yes\n"
				   "  - device: net_memif0,role=server\n"
				   "    ip: 10.9.0.2/16\n"
				   "    queues: 2\n"
				   "feeds:\n"
				   "  - name: itch\n"
				   "    framing: moldudp64\n"
				   "    group: 239.1.1.1+239.1.1.2\n"
				   "    port: 26477\n"
				   "    topic: itch.raw\n"
				   "    partition: 1\n"
				   "    vlan: 7\n"
				   "    hold-events: 12\n"
				   "    hold-us: 34\n"
				   "    checksum: drop\n"
				   "    restart: accept\n"
				   "topics: {ring: 4MiB, segment: 16MiB, retention-bytes: 1GiB,\n"
				   "  retention-time: 7d, commit: received}\n"
				   "storage: {tail: pad, sync: fdatasync, dedup-window: 1h}\n"
				   "limits: {sessions: 5, subscriptions: 6, producers: 7,\n"
				   "  local-clients: 8, local-ring: 2MiB}\n"
				   "control: {whatever: [1, 2]}\n";
	static const uint8_t ip[16] = { [10] = 0xff, [11] = 0xff, 10, 9, 0, 2 };
	struct hfb_err err = { 0 };

	hfb_config_default(&config);
	CU_ASSERT_EQUAL(hfb_config_load_text(&config, "t", text, strlen(text), &err), 0);
	CU_ASSERT_STRING_EQUAL(err.text, "");
	CU_ASSERT_STRING_EQUAL(config.data_dir, "/srv/bus");
	CU_ASSERT_EQUAL(config.cores_count, 2);
	CU_ASSERT_EQUAL(config.cpus[0], 0);
	CU_ASSERT_EQUAL(config.cpus[1], -1);
	CU_ASSERT_FALSE(config.hugepages);
	CU_ASSERT_EQUAL(config.memory_mib, 1024);
	CU_ASSERT_EQUAL(config.udp_port, 9000);
	CU_ASSERT_EQUAL(config.ports_count, 2);
	CU_ASSERT_STRING_EQUAL(config.ports[0].device, "net_pcap0,rx_pcap=a.pcap");
	CU_ASSERT_TRUE(config.ports[0].timestamps);
	CU_ASSERT_EQUAL(memcmp(config.ports[1].ip.bytes, ip, 16), 0);
	CU_ASSERT_EQUAL(config.ports[1].prefix, 16);
	CU_ASSERT_EQUAL(config.ports[1].queues, 2);
	CU_ASSERT_EQUAL(config.feeds_count, 1);
	CU_ASSERT_STRING_EQUAL(config.feeds[0].name, "itch");
	CU_ASSERT_EQUAL(config.feeds[0].framing, HFB_FRAMING_MOLDUDP64);
	CU_ASSERT_EQUAL(config.feeds[0].lines_count, 2);
	CU_ASSERT_EQUAL(config.feeds[0].group[1].bytes[15], 2);
	CU_ASSERT_EQUAL(config.feeds[0].udp_port, 26477);
	CU_ASSERT_STRING_EQUAL(config.feeds[0].topic, "itch.raw");
	CU_ASSERT_EQUAL(config.feeds[0].partition, 1);
	CU_ASSERT_EQUAL(config.feeds[0].vlan, 7);
	CU_ASSERT_EQUAL(config.feeds[0].hold_events, 12);
	CU_ASSERT_EQUAL(config.feeds[0].hold_us, 34);
	CU_ASSERT_EQUAL(config.feeds[0].checksum, HFB_CHECKSUM_DROP);
	CU_ASSERT_EQUAL(config.feeds[0].restart, HFB_RESTART_ACCEPT);
	CU_ASSERT_EQUAL(config.ring_bytes, 4 * HFB_MIB);
	CU_ASSERT_EQUAL(config.segment_bytes, 16 * HFB_MIB);
	CU_ASSERT_EQUAL(config.retention_bytes, 1024ull * HFB_MIB);
	CU_ASSERT_EQUAL(config.retention_ns, 7 * 86400ull * 1000000000ull);
	CU_ASSERT_EQUAL(config.commit_stage, HFB_STAGE_RECEIVED);
	CU_ASSERT_EQUAL(config.tail_pad, 1);
	CU_ASSERT_EQUAL(config.sync_mode, 2);
	CU_ASSERT_EQUAL(config.dedup_window_ns, 3600ull * 1000000000ull);
	CU_ASSERT_EQUAL(config.sessions_max, 5);
	CU_ASSERT_EQUAL(config.subscriptions_max, 6);
	CU_ASSERT_EQUAL(config.producers_max, 7);
	CU_ASSERT_EQUAL(config.locals_max, 8);
	CU_ASSERT_EQUAL(config.local_ring_bytes, 2 * HFB_MIB);
}

static void
test_an_empty_file_leaves_the_defaults(void)
{
	struct hfb_err err = { 0 };

	hfb_config_default(&config);
	CU_ASSERT_EQUAL(hfb_config_load_text(&config, "t", "", 0, &err), 0);
	CU_ASSERT_EQUAL(hfb_config_load_text(&config, "t", "# only a word\n", 14, &err), 0);
	CU_ASSERT_EQUAL(config.cores_count, 1);
	CU_ASSERT_TRUE(config.cpus[0] >= 0);
	CU_ASSERT_EQUAL(config.idle, HFB_IDLE_ADAPTIVE);
	CU_ASSERT_EQUAL(config.commit_stage, HFB_STAGE_DURABLE);
	CU_ASSERT_EQUAL(config.udp_port, HFB_UDP_PORT_DEFAULT);
}

static void
test_the_example_in_the_documents_is_right(void)
{
	struct hfb_err err = { 0 };

	hfb_config_default(&config);
	CU_ASSERT_EQUAL(hfb_config_load(&config, HFB_SOURCE_ROOT "/docs/hfbus.yaml", &err), 0);
	CU_ASSERT_STRING_EQUAL(err.text, "");
	CU_ASSERT_EQUAL(config.ports_count, 2);
	CU_ASSERT_EQUAL(config.feeds_count, 1);
	CU_ASSERT_EQUAL(config.retention_ns, 7 * 86400ull * 1000000000ull);
}

static void
test_a_missing_file_is_named(void)
{
	struct hfb_err err = { 0 };

	CU_ASSERT_EQUAL(hfb_config_load(&config, "/nonexistent/hfbus.yaml", &err), -ENOENT);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "/nonexistent/hfbus.yaml"));
}

static void
test_flags_are_read(void)
{
	struct hfb_err err = { 0 };

	hfb_config_default(&config);
	CU_ASSERT_EQUAL(hfb_config_port_add(&config, "net_af_packet0,iface=v0@10.9.0.2", &err), 0);
	CU_ASSERT_STRING_EQUAL(config.ports[0].device, "net_af_packet0,iface=v0");
	CU_ASSERT_EQUAL(config.ports[0].ip.bytes[12], 10);
	CU_ASSERT_EQUAL(config.ports[0].prefix, 24);
	CU_ASSERT_EQUAL(hfb_config_port_add(&config, "net_pcap0,rx_pcap=/a@b/c.pcap,x=1", &err), 0);
	CU_ASSERT_STRING_EQUAL(config.ports[1].device, "net_pcap0,rx_pcap=/a@b/c.pcap,x=1");
	CU_ASSERT_EQUAL(hfb_config_port_add(&config, "net_null0@10.0.0.x", &err), -EINVAL);
	CU_ASSERT_EQUAL(hfb_config_port_add(&config, "wlan0", &err), -EINVAL);
	CU_ASSERT_EQUAL(config.ports_count, 2);

	CU_ASSERT_EQUAL(hfb_config_feed_add(&config,
					    "name=iex,framing=iex-tp,group=233.215.21.4,"
					    "port=10378,topic=iex.deep,restart=accept",
					    &err),
			0);
	CU_ASSERT_EQUAL(config.feeds[0].framing, HFB_FRAMING_IEX_TP);
	CU_ASSERT_EQUAL(config.feeds[0].hold_events, 1024);
	CU_ASSERT_EQUAL(hfb_config_feed_add(&config, "name=b,framing=raw,groups=1.2.3.4", &err),
			-EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "groups: unknown key"));
	CU_ASSERT_EQUAL(hfb_config_feed_add(&config, "name=b,framing=raw", &err), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "needs 'group'"));
	CU_ASSERT_EQUAL(config.feeds_count, 1);

	for (uint32_t i = 2; i < HFB_PORTS_MAX; i++)
		CU_ASSERT_EQUAL(hfb_config_port_add(&config, "net_null0", &err), 0);
	CU_ASSERT_EQUAL(hfb_config_port_add(&config, "net_null0", &err), -ENOSPC);
	CU_ASSERT_EQUAL(hfb_config_check(&config, &err), -EINVAL); /* one device many times */
}

static void
test_words_are_read(void)
{
	struct hfb_ip ip;
	char text[64];

	CU_ASSERT_EQUAL(hfb_ip_parse("10.1.2.3", &ip), 0);
	hfb_ip_format(&ip, text, sizeof(text));
	CU_ASSERT_STRING_EQUAL(text, "10.1.2.3");
	CU_ASSERT_EQUAL(hfb_topic_name_check("a.b-c_9", 7), 0);
	CU_ASSERT_EQUAL(hfb_topic_name_check("..", 2), -EINVAL);
	CU_ASSERT_EQUAL(hfb_topic_name_check("a/b", 3), -EINVAL);
	CU_ASSERT_EQUAL(hfb_topic_name_check("", 0), -EINVAL);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "each mistake is refused with its line",
		  test_each_mistake_is_refused_with_its_line },
		{ "a whole file arrives", test_a_whole_file_arrives },
		{ "an empty file leaves the defaults", test_an_empty_file_leaves_the_defaults },
		{ "the example in the documents is right",
		  test_the_example_in_the_documents_is_right },
		{ "a missing file is named", test_a_missing_file_is_named },
		{ "flags are read", test_flags_are_read },
		{ "addresses and names are read", test_words_are_read },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("config", tests);
}
