# SPDX-License-Identifier: Apache-2.0
"""
Recorded and generated feeds through the real programs.

Goal:   what is stored is what an independent decoding of the capture gives: every
        message once, in order, byte for byte; gaps exactly where nothing came.
Method: net_pcap plays a file into `hfbus up`; `hfbus consume` reads it back; this file
        decodes the same capture with the standard library only. Generated captures
        (hfbus-bench feed) need no recorded file.
"""
import base64
import json
import os
import random
import shutil
import struct
import subprocess
import tempfile
import time

from hfbtest import Bus, capture, main, program, run, skip, wait_for

IEX = 'market/iex-deep-20231002-first5000.pcap'
AB = 'derived/moldudp64-ab-ritch12012.pcap'
VLAN = 'market/small/nasdaq-totalview-moldudp64-2pkts.pcap'
SYSLOG = 'telemetry/syslog-udp-tcpdump.pcap'


# an independent decoding -----------------------------------------------------------

def datagrams(path):
    """(destination, port, payload) of each UDP datagram of a capture."""
    with open(path, 'rb') as f:
        data = f.read()
    order = '<' if data[:4] in (b'\xd4\xc3\xb2\xa1', b'\x4d\x3c\xb2\xa1') else '>'
    at = 24
    while at < len(data):
        size = struct.unpack_from(order + 'I', data, at + 8)[0]
        frame = data[at + 16:at + 16 + size]
        at += 16 + size
        network = 14
        while frame[network - 2:network] == b'\x81\x00':
            network += 4
        if frame[network - 2:network] != b'\x08\x00':
            continue
        udp = network + (frame[network] & 15) * 4
        if frame[network + 9] != 17:
            continue
        port, length = struct.unpack_from('>HH', frame, udp + 2)
        to = '.'.join(map(str, frame[network + 16:network + 20]))
        yield to, port, frame[udp + 8:udp + length]


def moldudp64(payload):
    session, first, count = struct.unpack_from('>10sQH', payload)
    at = 20
    for i in range(count if count != 0xffff else 0):
        size = struct.unpack_from('>H', payload, at)[0]
        yield session.decode().strip(), first + i, 0, payload[at + 2:at + 2 + size]
        at += 2 + size


def iex_tp(payload):
    session, _, count, _, first, sent = struct.unpack_from('<IHHqqq', payload, 8)
    at = 40
    for i in range(count):
        size = struct.unpack_from('<H', payload, at)[0]
        yield f'0x{session:08x}', first + i, sent, payload[at + 2:at + 2 + size]
        at += 2 + size


def messages(path, decode, port):
    """sequence -> (session, send time, bytes), the first copy of each."""
    found = {}
    for _, to_port, payload in datagrams(path):
        if to_port != port:
            continue
        for session, sequence, sent, value in decode(payload):
            found.setdefault(sequence, (session, sent, value))
    return found


def value_of(event):
    if event.get('encoding') == 'base64':
        return base64.b64decode(event['value'])
    return event['value'].encode('utf-8', 'surrogateescape')


# playing ------------------------------------------------------------------------------

def playing(path, feed):
    """Arguments that play a capture into a feed."""
    return ['--port', f'net_pcap0,rx_pcap={path}', '--feed', feed]


def played(bus, packets, feed):
    """Wait until the port has given all and nothing is held back."""
    wait_for(f'{packets} packets are received',
             lambda: bus.counter('rx_packets_total') >= packets)
    wait_for('nothing is held back',
             lambda: bus.counter('feed_held_events', feed=feed) == 0)
    # what is received becomes readable when it is durable
    time.sleep(0.3)


def check(entries, expected, lost=()):
    """Events and gaps cover 1..n in order, each once, with the right bytes."""
    gaps = set()
    following = None
    events = 0
    for e in entries:
        if 'gap' in e:
            first, count = e['gap']['first'], e['gap']['count']
            assert e['gap']['cause'] == 'wire', e
            gaps.update(range(first, first + count))
            assert following in (None, first), (following, e)
            following = first + count
            continue
        session, sent, value = expected[e['feed']['sequence']]
        assert following in (None, e['feed']['sequence']), (following, e)
        following = e['feed']['sequence'] + 1
        assert e['feed']['session'] == session, e
        assert (e['feed'].get('send_time_ns') or 0) == sent, e
        assert value_of(e) == value, e
        events += 1
    assert gaps == set(lost), sorted(gaps ^ set(lost))[:20]
    assert events == len(expected), (events, len(expected))
    offsets = [e['offset'] for e in entries]
    assert offsets == list(range(len(entries)))


def packets_of(path):
    return sum(1 for _ in datagrams(path))


def iex_feed():
    return 'name=iex,framing=iex-tp,group=233.215.21.4,port=10378,topic=iex.deep'


def ab_feed(more=''):
    return ('name=ab,framing=moldudp64,group=239.192.1.1+239.192.1.2,port=26477,'
            f'topic=itch{more}')


def test_iex_and_the_same_again():
    path = capture(IEX)
    expected = messages(path, iex_tp, 10378)
    assert len(expected) == 48325
    with Bus(args=playing(path, iex_feed())) as bus:
        played(bus, 5000, 'iex')
        check(bus.consume('iex.deep'), expected)
        assert bus.counter('feed_heartbeats_total', feed='iex') == 1264
        bus.restart()
        played(bus, 5000, 'iex')
        check(bus.consume('iex.deep'), expected)
        assert bus.counter('feed_duplicates_total', feed='iex') == 48325


def test_iex_killed_on_the_way():
    path = capture(IEX)
    expected = messages(path, iex_tp, 10378)
    with Bus(args=playing(path, iex_feed())) as bus:
        for _ in range(4):
            time.sleep(random.random() * 0.03)
            bus.restart(kill=True)
        played(bus, 5000, 'iex')
        check(bus.consume('iex.deep'), expected)


def test_lines_a_and_b_against_their_truth():
    path = capture(AB)
    with open(path.replace('.pcap', '.truth.json'), encoding='utf-8') as f:
        truth = json.load(f)
    lost = {q for first, last in truth['lost_on_both'] for q in range(first, last + 1)}
    expected = messages(path, moldudp64, 26477)
    assert len(lost) == 42 and len(expected) == 11970
    with Bus(args=playing(path, ab_feed())) as bus:
        played(bus, 16310, 'ab')
        entries = bus.consume('itch')
        check(entries, expected, lost)
        assert entries[0]['feed']['session'] == 'HFBUS00001'
        bus.restart()
        played(bus, 16310, 'ab')
        check(bus.consume('itch'), expected, lost)


def test_a_vlan_and_a_gap_of_millions():
    path = capture(VLAN)
    expected = messages(path, moldudp64, 26477)
    feed = 'name=tv,framing=moldudp64,group=233.54.12.111,port=26477,topic=tv'
    with Bus(args=playing(path, feed)) as bus:
        played(bus, 2, 'tv')
        entries = bus.consume('tv')
        first, last = min(expected), max(expected)
        gap = [e['gap'] for e in entries if 'gap' in e]
        events = [e for e in entries if 'gap' not in e]
        assert [e['feed']['sequence'] for e in events] == sorted(expected)
        assert all(value_of(e) == expected[e['feed']['sequence']][2] for e in events)
        assert len(gap) == 1
        assert gap[0]['count'] == last - first + 1 - len(expected)
        assert all(e['feed']['session'] == '000010059B' for e in events)


def test_raw_syslog():
    path = capture(SYSLOG)
    found = list(datagrams(path))
    to, port, _ = found[0]
    feed = f'name=syslog,framing=raw,group={to},port={port},topic=syslog'
    with Bus(args=playing(path, feed)) as bus:
        played(bus, len(found), 'syslog')
        events = bus.consume('syslog')
        assert [value_of(e) for e in events] == [p for t, q, p in found if (t, q) == (to, port)]


def generated(folder, *args):
    path = os.path.join(folder, 'feed.pcap')
    truth = os.path.join(folder, 'truth.json')
    run([program('hfbus-bench'), 'feed', '--pcap', path, '--truth', truth, *args])
    return path, truth


def feedcheck(bus, truth, topic):
    r = run([program('hfbus-bench'), 'feed-check', '--truth', truth, '--data', bus.data, topic],
            check=False)
    assert r.returncode == 0, r.stdout + r.stderr
    return json.loads(r.stdout)


def test_generated_lines():
    with Bus() as bus:
        bus.stop()
        for seed in (1, 2):
            path, truth = generated(bus.folder, '--seed', seed, '--session', f'S{seed}',
                                    '--messages', 100000, '--loss', 20000 * seed)
            bus.start(playing(path, ab_feed()))
            played(bus, packets_of(path), 'ab')
            found = feedcheck(bus, truth, 'itch')
            assert found['missing_local'] == 0 and found['missing_wire'] > 0
            bus.stop()
        bus.start()
        feedcheck(bus, truth, 'itch')


def test_generated_lines_handed_to_another_core():
    """The port belongs to core 0; partitions go round the cores, so one topic is core 1's."""
    with Bus(args=['--cores', '0,1']) as bus:
        bus.stop()
        path, truth = generated(bus.folder, '--messages', 50000)
        # two topics of the same lines under two VLANs would be two feeds; one after the other
        for topic in ('one', 'two'):
            feed = ab_feed().replace('topic=itch', f'topic={topic}').replace('name=ab',
                                                                             f'name={topic}')
            bus.start(playing(path, feed))
            played(bus, packets_of(path), topic)
            feedcheck(bus, truth, topic)
            bus.stop()


def test_a_full_disk_becomes_local_gaps():
    """Root only: a file system of 24 MiB that grows later."""
    if os.geteuid() != 0:
        skip('mounting a small file system needs root')
    folder = tempfile.mkdtemp(prefix='hfbus-test-')
    small = os.path.join(folder, 'small')
    os.mkdir(small)
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=24m', 'hfbus-test', small],
                      check=False).returncode != 0:
        os.rmdir(small)
        os.rmdir(folder)
        skip('no tmpfs can be mounted here')
    try:
        path, truth = generated(folder, '--messages', 500000)
        with Bus(folder=small, args=playing(path, ab_feed())) as bus:
            wait_for('all is received',
                     lambda: bus.counter('rx_packets_total') >= packets_of(path))
            assert bus.counter('feed_missing_total', cause='local') > 0
            subprocess.run(['mount', '-o', 'remount,size=400m', small], check=True)

            def told():
                r = run([program('hfbus-bench'), 'feed-check', '--truth', truth, '--data', bus.data,
                         '--idle-ms', '500', 'itch'], check=False)
                found = json.loads(r.stdout)
                return found if found['events'] + found['missing_wire'] + \
                    found['missing_local'] == 500000 else None
            found = wait_for('each sequence is an event or in a gap', told)
            assert found['out_of_order'] == 0 and found['wrong_values'] == 0
            assert found['lost_unreported'] == 0
            assert found['gaps_beyond_truth'] <= found['missing_local']
    finally:
        subprocess.run(['umount', small], check=False)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == '__main__':
    main(globals())
