# SPDX-License-Identifier: Apache-2.0
"""
Topics that change while they are used.

Goal:   settings and partitions change without a restart and survive one; a trim moves the start
        to the very offset and no crash moves it back; a key's partition is Kafka's; what cannot be
        is refused in a sentence.
Method: the real programs; readers that were there before, restarts clean and by SIGKILL.
"""
import json
import os

from hfbtest import Bus, main, wait_for


def describe(bus, name):
    return json.loads(bus.hfbus('topic', 'describe', name, '--json').stdout)


def partition(bus, name, index=0):
    return describe(bus, name)['partitions'][index]


def test_alter_changes_a_topic_that_is_in_use():
    with Bus() as bus:
        bus.topic_create('t', '--segment-bytes', '4M')
        with_reader = bus.spawn('consume', 't', '--from', 'earliest', '--count', '7',
                                '--format', 'raw')
        bus.publish('t', ['a', 'b'])
        bus.hfbus('topic', 'alter', 't', '--commit', 'received', '--retention-bytes', '64M',
                  '--retention-time', '2h', '--segment-bytes', '1M', '--ring-bytes', '4M')
        bus.publish('t', ['c', 'd'])
        assert partition(bus, 't')['commit'] == 'received'
        bus.hfbus('topic', 'alter', 't', '--commit', 'durable', '--cleanup', 'compact',
                  '--tombstone-time', '1m')
        bus.publish('t', ['e', 'f', 'g'])
        assert with_reader.wait() == 0
        for _ in range(2):
            topic = describe(bus, 't')['topic']
            assert topic['retention_bytes'] == 64 << 20, topic
            assert topic['retention_ns'] == 7200 * 10**9, topic
            assert (topic['commit'], topic['cleanup']) == ('durable', 'compact'), topic
            assert topic['tombstone_ns'] == 60 * 10**9 and topic['version'] == 3, topic
            assert bus.values('t') == list('abcdefg')
            bus.restart(kill=True)
            wait_for('the topic is served again', lambda: 'partitions' in describe(bus, 't'))
        bus.hfbus('topic', 'alter', 't', '--retention-bytes', '0', '--retention-time', 'default')
        assert describe(bus, 't')['topic']['retention_bytes'] == 0
        # the same again is no change
        bus.hfbus('topic', 'alter', 't', '--retention-bytes', '0')
        assert describe(bus, 't')['topic']['version'] == 4


def test_a_smaller_retention_takes_effect_at_once():
    with Bus() as bus:
        bus.topic_create('t', '--segment-bytes', '1M')
        bus.publish('t', ['x' * 1000] * 6000)
        assert partition(bus, 't')['start']['offset'] == 0
        bus.hfbus('topic', 'alter', 't', '--retention-bytes', '2M')
        start = wait_for('the start moves', lambda: partition(bus, 't')['start']['offset'])
        assert len(bus.values('t')) == 6000 - start


def test_partitions_are_added_and_never_taken():
    with Bus() as bus:
        bus.topic_create('t', '--partitions', '2')
        assert '5 partitions' in bus.hfbus('topic', 'add-partitions', 't', '3').stdout
        bus.hfbus('topic', 'alter', 't', '--partitions', '6')
        for i in range(6):
            bus.publish('t', [f'p{i}'], '--partition', str(i))
        for args, sentence in ((('alter', 't', '--partitions', '4'), 'more, not fewer'),
                               (('add-partitions', 't', '4091'), 'can have 4096'),
                               (('alter', 't', '--commit', 'mirrored'), 'mirror'),
                               (('alter', 't', '--segment-bytes', '3M'), 'power of two'),
                               (('alter', 't', '--cleanup', 'shred'), 'delete or compact'),
                               (('alter', 'u', '--partitions', '4'), 'does not exist'),
                               (('trim', 't', '--partition', '6', '--before', '0'), 'from 0'),
                               (('trim', 't', '--partition', '0', '--before', '2'), 'beyond'),
                               (('create', 'a/b'), 'made of')):
            r = bus.hfbus('topic', *args, check=False)
            assert r.returncode == 1 and sentence in r.stderr, (args, r.stderr)
        for args in (('alter', 't'), ('trim', 't', '--before', '1'), ('add-partitions', 't'),
                     ('trim', 't', '--partition', '0', '--before', 'x'),
                     ('create', 't', '--before', '0')):
            assert bus.hfbus('topic', *args, check=False).returncode == 2, args
        bus.restart()
        got = sorted(e['value'] for i in range(6) for e in bus.consume('t', '--partition', str(i)))
        assert got == [f'p{i}' for i in range(6)]


def test_a_trim_moves_the_start_to_the_offset_for_good():
    with Bus() as bus:
        bus.topic_create('t', '--segment-bytes', '1M')
        # batches of many events, so that most offsets are inside one
        bus.publish('t', [f'{i:05}' + 'x' * 995 for i in range(4000)])
        slow = bus.spawn('consume', 't', '--from', '7', '--format', 'json', '--until-end')
        slow.wait()
        for before in (17, 17, 5, 2345, 3999):
            r = bus.hfbus('topic', 'trim', 't', '--partition', '0', '--before', str(before))
            want = max(before, 17)
            assert f'offset {want}\n' in r.stdout, r.stdout
            assert partition(bus, 't')['start']['offset'] == want
            assert bus.values('t')[0].startswith(f'{want:05}')
            bus.restart(kill=before != 2345)
            assert wait_for('served', lambda: describe(bus, 't')['partitions'])
            assert partition(bus, 't')['start']['offset'] == want
            assert [v[:5] for v in bus.values('t')] == [f'{i:05}' for i in range(want, 4000)]
        # who comes for what is gone is told, and goes on where there is something
        items = bus.consume('t', '--from', '100')
        assert items[0]['mark']['kind'] == 'retired' and items[0]['mark']['to_offset'] == 3999
        assert items[-1]['value'][:5] == '03999' and len(items) == 2, items
        files = sum(f.endswith('.seg') for _, _, names in os.walk(f'{bus.data}/topics') for f in names)
        assert files < 8, files  # the last ones, and some kept for recycling
        bus.hfbus('topic', 'trim', 't', '--partition', '0', '--before', 'end')
        assert bus.values('t') == []
        bus.publish('t', ['later'])
        bus.restart(kill=True)
        assert bus.values('t') == ['later']
        assert partition(bus, 't')['committed']['offset'] == 4001


def test_a_key_goes_where_kafkas_clients_send_it():
    # murmur2 as in Kafka's Utils, by its own test vectors: value & 0x7fffffff mod partitions
    vectors = {'21': -973932308, 'foobar': -790332482, 'a-little-bit-long-string': -985981536,
               'a-little-bit-longer-string': -1486304829,
               'lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8': -58897971, 'abc': 479470107}
    with Bus() as bus:
        bus.topic_create('t', '--partitions', '12')
        for key in vectors:
            bus.publish('t', [key], '--key', key)
        for key, value in vectors.items():
            at = (value & 0x7fffffff) % 12
            assert key in bus.values('t', '--partition', str(at)), (key, at)


def test_auto_create_is_off_unless_configured():
    with Bus() as bus:
        r = bus.publish('new', ['a'], check=False)
        assert r.returncode == 1 and 'no topic' in r.stderr, r.stderr
    with Bus() as bus:
        bus.stop()
        path = os.path.join(bus.folder, 'hfbus.yaml')
        with open(path, 'w', encoding='ascii') as f:
            f.write('topics:\n  auto-create: 3\n')
        bus.start(['--config', path])
        bus.publish('new', ['a'], '--partition', '2')
        assert bus.values('new', '--partition', '2') == ['a']
        # hfbus-control takes it over, as it does with those of feeds
        wait_for('new is known', lambda: describe(bus, 'new')['topic']['partitions'] == 3)
        assert bus.hfbus('consume', 'other', '--until-end', check=False).returncode == 1
        assert bus.publish('__own', ['a'], check=False).returncode == 1


main(globals())
