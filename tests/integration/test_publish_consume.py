#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Events go in and come out as they were: order, keys, partitions, places to begin, formats."""
import base64
import json
import signal
import subprocess
import time

from hfbtest import Bus, main, program, wait_for


def test_round_trip():
    with Bus() as bus:
        bus.topic_create('t')
        lines = [f'event {i}' for i in range(5000)]
        r = bus.publish('t', lines)
        assert '5000 acked' in r.stderr, r.stderr
        events = bus.consume('t')
        assert [e['value'] for e in events] == lines
        assert [e['offset'] for e in events] == list(range(5000))
        stamps = [e['timestamp_ns'] for e in events]
        assert stamps == sorted(stamps)
        assert abs(stamps[-1] - time.time_ns()) < 60e9
        e = events[0]
        assert list(e) == ['topic', 'partition', 'offset', 'timestamp_ns', 'event_time_ns', 'key',
                           'headers', 'value'], e
        assert e['topic'] == 't' and e['key'] is None and e['headers'] == {}
        # text and raw
        text = bus.hfbus('consume', 't', '--from', '4998', '--until-end').stdout
        assert text == 'event 4998\nevent 4999\n', text
        raw = bus.hfbus('consume', 't', '--from', '4999', '--until-end', '--format', 'raw').stdout
        assert raw == 'event 4999', raw


def test_places_to_begin():
    with Bus() as bus:
        bus.topic_create('t')
        bus.publish('t', ['a', 'b', 'c'])
        time.sleep(0.05)
        between = time.time_ns()
        time.sleep(0.05)
        bus.publish('t', ['d', 'e'])
        assert bus.values('t', '--from', '2') == ['c', 'd', 'e']
        assert bus.values('t', '--from', f'@{between}') == ['d', 'e']
        stamp = time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(between // 10**9)) + \
            f'.{between % 10**9:09d}Z'
        assert bus.values('t', '--from', f'@{stamp}') == ['d', 'e']
        assert bus.values('t', '--from', 'latest') == []
        assert bus.values('t', '--count', '2') == ['a', 'b']


def test_latest_waits_for_what_comes():
    with Bus() as bus:
        bus.topic_create('t')
        bus.publish('t', ['before'])
        reader = bus.spawn('consume', 't', '--from', 'latest', '--count', '3')
        # it reads once it has opened the topic; publish until all three are there
        n = 0
        while reader.running():
            bus.publish('t', [f'n{n}'])
            n += 1
            assert n < 100
        assert reader.wait() == 0
        assert len(reader.out) == 3 and 'before' not in reader.out, reader.out


def test_keys_and_partitions():
    with Bus() as bus:
        bus.topic_create('t', '--partitions', '4')
        for k in range(12):
            bus.publish('t', [f'{k}-{i}' for i in range(5)], '--key', f'key{k}')
        events = bus.consume('t')
        assert len(events) == 60
        where = {}
        for e in events:
            where.setdefault(e['key'], set()).add(e['partition'])
        assert all(len(p) == 1 for p in where.values()), where
        assert len({next(iter(p)) for p in where.values()}) > 1
        one = bus.consume('t', '--partition', '2')
        assert {e['partition'] for e in one} <= {2}
        bus.publish('t', ['x'], '--partition', '3')
        assert 'x' in bus.values('t', '--partition', '3')
        # without a key all partitions are used in turn, nothing is lost
        bus.publish('t', [f'r{i}' for i in range(20000)])
        got = sorted(v for v in bus.values('t') if v.startswith('r'))
        assert got == sorted(f'r{i}' for i in range(20000))


def test_values_that_are_not_text():
    with Bus() as bus:
        bus.topic_create('t')
        value = bytes(b for b in range(256) if b != 10)
        bus.hfbus('publish', 't', stdin=value + b'\n' + 'zażółć "\\\t'.encode() + b'\n' + b'\n')
        events = bus.consume('t')
        assert events[0]['encoding'] == 'base64' and base64.b64decode(events[0]['value']) == value
        assert events[1]['value'] == 'zażółć "\\\t' and 'encoding' not in events[1]
        assert events[2]['value'] == ''


def test_large_events():
    with Bus() as bus:
        bus.topic_create('t')
        lines = ['x' * n for n in (1, 1000, 65000, 70000, 200000, 10)]
        bus.publish('t', lines)
        assert bus.values('t') == lines
        r = bus.hfbus('publish', 't', stdin='y' * 2000000 + '\n', check=False)
        assert r.returncode == 1 and 'bytes' in r.stderr, r.stderr
        assert bus.values('t') == lines


def test_ack_received_and_stage_without_mirror():
    with Bus() as bus:
        bus.topic_create('t')
        bus.publish('t', ['a'] * 100, '--ack', 'received')
        bus.publish('t', ['b'] * 100, '--ack', 'durable')
        assert len(bus.values('t')) == 200
        r = bus.publish('t', ['c'], '--ack', 'mirrored', check=False)
        assert r.returncode == 1 and 'mirror' in r.stderr and '--ack' in r.stderr, r.stderr


def test_many_events_are_read_back_fast():
    with Bus() as bus:
        bus.topic_create('t')
        n = 500000
        bus.hfbus('publish', 't', stdin='\n'.join(f'{i:08d}' for i in range(n)) + '\n')
        began = time.monotonic()
        events = bus.hfbus('consume', 't', '--from', 'earliest', '--until-end', '--format',
                           'json').stdout.splitlines()
        seconds = time.monotonic() - began
        events = [e for e in events if '"value"' in e]  # "lapped" may stand between them
        assert len(events) == n
        for i in (0, 1, n // 2, n - 1):
            assert json.loads(events[i])['value'] == f'{i:08d}'
        assert seconds < 20, seconds


def test_usage_and_signals():
    with Bus() as bus:
        bus.topic_create('t')
        for args, knob in ((['consume', 't', '--from', 'x'], '--from'),
                           (['publish', 't', '--ack', 'x'], '--ack'),
                           (['publish', 't', '--partition', '-1'], '--partition'),
                           (['consume'], 'TOPIC'), (['consume', 't', '--format', 'x'], '--format'),
                           (['consume', 't', '--count', '0'], '--count'), (['nonsense'], 'nonsense')):
            r = bus.hfbus(*args, check=False)
            assert r.returncode == 2 and knob in r.stderr, (args, r.returncode, r.stderr)
        r = bus.hfbus('consume', 'missing', check=False)
        assert r.returncode == 1 and 'missing' in r.stderr
        r = bus.hfbus('consume', 't', '--partition', '7', check=False)
        assert r.returncode == 1 and '--partition' in r.stderr
        r = bus.hfbus('consume', 't', '--data', '/nowhere', check=False)
        assert r.returncode == 1 and '--data' in r.stderr
        reader = bus.spawn('consume', 't')
        time.sleep(0.3)
        reader.signal(signal.SIGINT)
        assert reader.wait() == 130
        # a pipe that closes early ends it quietly
        bus.publish('t', ['line'] * 200000)
        p = subprocess.run(f'{program("hfbus")} consume t --from earliest --quiet | head -n 3',
                           shell=True, env=bus.env, capture_output=True, timeout=30, check=False)
        assert p.stdout == b'line\nline\nline\n' and p.stderr == b'', p


def test_a_topic_that_goes():
    with Bus() as bus:
        bus.topic_create('t')
        bus.publish('t', ['a'])
        reader = bus.spawn('consume', 't', '--from', 'earliest')
        wait_for('it reads', lambda: reader.out == ['a'])
        # a producer that is attached: its input stays open
        feed = subprocess.Popen(['sh', '-c', 'echo b; sleep 2; echo c'], stdout=subprocess.PIPE)
        producer = bus.spawn('publish', 't', stdin=feed.stdout)
        wait_for('it reads', lambda: reader.out == ['a', 'b'])
        bus.hfbus('topic', 'delete', 't')
        assert reader.wait() == 1
        assert any('deleted' in e or 'no topic' in e for e in reader.err), reader.err
        assert producer.wait() == 1
        assert any('no topic' in e or 'deleted' in e for e in producer.err), producer.err
        feed.wait()
        # the name is free for another topic, which has nothing of the old one
        bus.topic_create('t')
        assert bus.values('t') == []
        bus.publish('t', ['new'])
        assert bus.values('t') == ['new']


def test_no_reader_slows_publishing_down():
    with Bus() as bus:
        bus.topic_create('t')
        stuck = bus.spawn('consume', 't', '--from', 'earliest')
        bus.publish('t', ['first'])
        wait_for('the reader reads', lambda: stuck.out == ['first'])
        stuck.signal(signal.SIGSTOP)
        r = bus.publish('t', [f'{i:0100d}' for i in range(400000)])
        assert '400000 acked' in r.stderr
        stuck.signal(signal.SIGCONT)
        wait_for('it catches up', lambda: len(stuck.out) == 400001)
        stuck.stop()
        assert any('lapped' in line for line in stuck.err), stuck.err
        assert stuck.out[1:] == [f'{i:0100d}' for i in range(400000)]


main(globals())
