#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Goal:   what `hfbus-bench` sends is what it says it sends: a capture whole, in order and not
        before its time; generated telemetry the same for the same seed. And `compare` tells
        what got worse, with the right exit status.
Method: captures made here, in all four byte orders and resolutions, and recorded ones; the
        bus reads them from a memif and `hfbus consume` gives them back. Where only the sender
        counts, the port is DPDK's net_null.
"""
import base64
import json
import os
import socket
import struct
import subprocess
import tempfile

from hfbtest import Bus, Process, Skip, capture, main, program, run, skip, wait_for

GROUP, PORT = '239.9.9.9', 5000


def bench(*args, **more):
    return run([program('hfbus-bench'), *args], **more)


# captures ---------------------------------------------------------------------------

def frame(payload, to=GROUP, port=PORT):
    udp = struct.pack('>HHHH', 4000, port, 8 + len(payload), 0) + payload
    ip = struct.pack('>BBHHHBBH4s4s', 0x45, 0, 20 + len(udp), 0, 0x4000, 16, 17, 0,
                     socket.inet_aton('10.1.1.1'), socket.inet_aton(to))
    total = sum(struct.unpack('>10H', ip))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    ip = ip[:10] + struct.pack('>H', ~total & 0xffff) + ip[12:]
    return b'\x01\x00\x5e\x09\x09\x09\x02\0\0\0\0\x01\x08\x00' + ip + udp


def write_capture(path, frames, order='<', ns=False, link=1):
    """frames: (time in ns, bytes)"""
    with open(path, 'wb') as f:
        f.write(struct.pack(order + 'IHHIIII', 0xa1b23c4d if ns else 0xa1b2c3d4, 2, 4, 0, 0,
                            65535, link))
        for at, data in frames:
            part = at % 10**9 if ns else at % 10**9 // 1000
            f.write(struct.pack(order + 'IIII', at // 10**9, part, len(data), len(data)) + data)


def payloads(path):
    """UDP payloads of a capture that hfbus-bench feed wrote."""
    with open(path, 'rb') as f:
        data = f.read()
    at = 24
    while at < len(data):
        size = struct.unpack_from('<I', data, at + 8)[0]
        yield data[at + 16 + 42:at + 16 + size]
        at += 16 + size


def value_of(event):
    if event.get('encoding') == 'base64':
        return base64.b64decode(event['value'])
    return event['value'].encode('utf-8', 'surrogateescape')


# a bus with memif ports ----------------------------------------------------------------

class MemifBus(Bus):
    def __init__(self, ports, feed):
        super().__init__()
        self.args = ['--feed', feed]
        for n in range(ports):
            self.args += ['--port', f'net_memif{n},role=server,{self.memif(n)}']
        self.senders = []

    def memif(self, n):
        return f'socket={self.folder}/m{n}.sock,socket-abstract=no'

    def send(self, n, *args):
        """Run a generator on port n until it has sent; it stays attached."""
        child = Process([program('hfbus-bench'), *args, '--device',
                         f'net_memif0,role=client,{self.memif(n)}', '--linger'],
                        stdin=subprocess.PIPE, name='hfbus-bench')
        self.senders.append(child)
        return json.loads(child.line(r'^\{.*').group(0))

    def stop(self):
        # the bus first: a memif peer must not go while it is polled
        super().stop()
        for child in self.senders:
            child.child.stdin.close()
            assert child.wait() == 0, child.tail()


def raw_feed(group=GROUP, port=PORT):
    return f'name=raw,framing=raw,group={group},port={port},topic=raw'


def events_of(bus, topic, count):
    """All events, once there are at least so many."""
    found = []

    def enough():
        found[:] = [e for e in bus.consume(topic) if 'value' in e]
        return len(found) >= count
    wait_for(f'{count} events are there', enough)
    return found


# replay ------------------------------------------------------------------------------

def test_a_capture_arrives_whole_in_every_format():
    formats = [(order, ns) for order in '<>' for ns in (False, True)]
    with MemifBus(len(formats), raw_feed()) as bus:
        sent = []
        for n, (order, ns) in enumerate(formats):
            path = os.path.join(bus.folder, f'{n}.pcap')
            some = [f'{n} {i} {"x" * (i % 1400)}'.encode() for i in range(700)]
            write_capture(path, [(10**18 + i * 1000, frame(p)) for i, p in enumerate(some)],
                          order, ns)
            said = bus.send(n, 'replay', path, '--json', '--speed', '0' if n == 0 else '1')
            assert said['metrics']['frames']['median'] == 700, said
            sent += some
            # the ports are read in turn: one capture after the other keeps the order
            events_of(bus, 'raw', len(sent))
        assert [value_of(e) for e in events_of(bus, 'raw', len(sent))] == sent


def test_frames_are_sent_when_they_are_due():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'a.pcap')
        # 101 frames in 200 ms; one stamp goes back
        times = [i * 2000000 for i in range(101)]
        times[50] = times[48]
        write_capture(path, [(10**18 + t, frame(b'x')) for t in times], ns=True)

        def replay(*args):
            said = json.loads(bench('replay', path, '--device', 'net_null0', '--json',
                                    *args).stdout)
            return {k: v['median'] for k, v in said['metrics'].items()}, said
        m, said = replay()
        assert m['frames'] == 101 and m['duration'] >= 0.2, m
        assert m['timing_error.p50'] >= 0, m
        assert said['curves']['timing_error'][-1][2] == 101, said
        assert any('go back' in n for n in said['notes']), said
        m, _ = replay('--speed', '4', '--count', '3')
        # rounds follow at the mean distance: 303 frames 0.5 ms apart
        assert m['frames'] == 303 and m['rounds'] == 3 and m['duration'] >= 0.151, m
        m, said = replay('--speed', '0', '--count', '10')
        assert m['frames'] == 1010 and 'timing_error.p50' not in m, m
        m, _ = replay('--count', '0', '--duration', '300ms')
        assert 101 <= m['frames'] <= 152 and m['rounds'] == 1, m


def test_recorded_captures_of_other_makers():
    """pcapng in ns, frames above any MTU, stamps with a microsecond too many."""
    done = 0
    for name, frames in (('market/cme-mdp3-ab-20161112.pcapng', 10000),
                         ('telemetry/ipfix-bmp-cisco-403-gap.pcap', None),
                         ('telemetry/cisco-mdt-tcp-json-801.pcap', None),
                         ('telemetry/collectd.pcapng', 81)):
        try:
            path = capture(name)
        except Skip:
            continue
        said = json.loads(bench('replay', path, '--device', 'net_null0', '--speed', '0',
                                '--json').stdout)
        m = said['metrics']
        assert m['frames']['median'] == (frames or m['frames']['median']) > 0, said
        assert m['bytes']['median'] > 0, said
        done += 1
    if done == 0:
        capture('market')


def test_a_capture_over_af_packet():
    """Onto a kernel's interface; the far end of the veth sees the frames as they were."""
    if os.geteuid() != 0:
        skip('a veth needs root')
    near, far = f'hfbr{os.getpid() % 1000000}', f'hfbs{os.getpid() % 1000000}'
    if subprocess.run(['ip', 'link', 'add', near, 'type', 'veth', 'peer', far],
                      capture_output=True, check=False).returncode != 0:
        skip('no veth here')
    try:
        for name in (near, far):
            # no frames of the kernel's own
            with open(f'/proc/sys/net/ipv6/conf/{name}/disable_ipv6', 'w', encoding='ascii') as f:
                f.write('1')
            run(['ip', 'link', 'set', name, 'up'])
        frames = [frame(f'{i} {"y" * (i * 7 % 1300)}'.encode()) for i in range(300)]
        with tempfile.TemporaryDirectory() as folder, \
                socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
            s.bind((far, 0x0800))
            path = os.path.join(folder, 'a.pcap')
            write_capture(path, [(i * 100000, f) for i, f in enumerate(frames)])
            said = json.loads(bench('replay', path, '--json', '--device',
                                    f'net_af_packet0,iface={near}').stdout)
            assert said['metrics']['frames']['median'] == 300, said
            assert said['metrics']['port errors']['median'] == 0, said
            s.settimeout(30)
            assert [s.recv(2000) for _ in frames] == frames
    finally:
        subprocess.run(['ip', 'link', 'del', near], capture_output=True, check=False)


def test_a_recorded_feed_through_the_bus():
    path = capture('market/iex-deep-20231002-first5000.pcap')
    feed = 'name=iex,framing=iex-tp,group=233.215.21.4,port=10378,topic=iex'
    with MemifBus(1, feed) as bus:
        bus.send(0, 'replay', path, '--json', '--speed', '0')
        events = events_of(bus, 'iex', 48325)
        assert [e['feed']['sequence'] for e in events] == list(range(1, 48326))


def test_what_cannot_be_replayed():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'a.pcap')

        def refused(status, text, *args):
            r = bench('replay', *args, check=False)
            assert r.returncode == status and text in r.stderr, (args, r.returncode, r.stderr)
        null = ('--device', 'net_null0')
        refused(1, 'No such file', path, *null)
        for content, text in ((b'', 'no capture'), (b'not a capture at all', 'no capture')):
            with open(path, 'wb') as f:
                f.write(content)
            refused(1, text, path, *null)
        write_capture(path, [])
        refused(1, 'no frame', path, *null)
        write_capture(path, [(0, b'E' * 40)], link=101)
        refused(1, 'RAW', path, *null)
        refused(2, '--device', path)
        refused(2, '--speed', path, '--speed', '-1', *null)
        refused(2, '--warmup', path, '--warmup', '1s', *null)
        # broken off: what is there is sent, and it is said
        write_capture(path, [(0, frame(b'one')), (0, frame(b'two'))])
        os.truncate(path, os.path.getsize(path) - 3)
        r = bench('replay', path, '--json', *null)
        said = json.loads(r.stdout)
        assert said['metrics']['frames']['median'] == 1, said
        assert any('ends within' in n for n in said['notes']), said


# feed ---------------------------------------------------------------------------------

def test_telemetry_is_the_same_for_a_seed_and_gets_through():
    with MemifBus(1, raw_feed('239.192.2.1', 8125)) as bus:
        args = ('--kind', 'statsd', '--messages', '20000', '--seed', '3', '--loss', '20000',
                '--late', '20000', '--duplicate', '10000', '--burst', '50')
        path = os.path.join(bus.folder, 's.pcap')
        first = json.loads(bench('feed', '--pcap', path, *args).stdout)
        expected = list(payloads(path))
        assert first['lost_datagrams'] > 0 and first['late'] > 0 and first['duplicated'] > 0
        assert len(expected) == first['frames']
        assert first['frames'] == first['datagrams'] - first['lost_datagrams'] + \
            first['duplicated']
        lines = sum(p.count(b'\n') + 1 for p in set(expected))
        assert lines >= 20000 - first['lost_messages'] - 200, (lines, first)
        said = bus.send(0, 'feed', *args)
        assert said['frames'] == first['frames']
        assert [value_of(e) for e in events_of(bus, 'raw', len(expected))] == expected


def test_syslog_lines_count_for_each_host():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'y.pcap')
        bench('feed', '--kind', 'syslog', '--pcap', path, '--messages', '3000', '--hosts', '7')
        last = {}
        new = 0
        for line in payloads(path):
            assert line.startswith(b'<'), line
            if b'sequenceId="' not in line:
                continue
            new += 1
            host = line.split(b' ')[2]
            sequence = int(line.split(b'sequenceId="')[1].split(b'"')[0])
            assert sequence > last.get(host, 0), line
            last[host] = sequence
        assert new > 2000 and len(last) == 7 and sum(last.values()) <= 3000


def test_bursts_come_at_once_and_keep_the_mean_rate():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'b.pcap')
        bench('feed', '--kind', 'syslog', '--pcap', path, '--messages', '20000', '--rate', '10000',
              '--burst', '100', '--seed', '5')
        with open(path, 'rb') as f:
            data = f.read()
        times, at = [], 24
        while at < len(data):
            s, us, size = struct.unpack_from('<III', data, at)
            times.append(s * 10**6 + us)
            at += 16 + size
        assert len(times) == 20000 and times == sorted(times)
        assert 1.9e6 <= times[-1] - times[0] <= 2e6
        bursts = {}
        for t in times:
            bursts[t] = bursts.get(t, 0) + 1
        assert 50 < max(bursts.values()) <= 100
        # many small, few large
        assert sum(1 for n in bursts.values() if n < 25) > len(bursts) / 3


def test_feed_refuses_what_it_does_not_know():
    for args in (['--kind', 'http'], ['--rate', '-1'], ['--group', '239.1.1.1'],
                 ['--kind', 'statsd', '--group', '239.1.1.1+239.1.1.2'], ['--burst'], ['more']):
        r = bench('feed', '--pcap', '/dev/null', *args, check=False)
        assert r.returncode == 2 and r.stderr, args


# compare ------------------------------------------------------------------------------

def figure(budget, metric, value, raw, better, **more):
    return dict({'budget': budget, 'case': 'memif', 'metric': metric,
                 'unit': 'us' if better == 'lower' else 'events/s', 'better': better,
                 'hfbus': value, 'raw': raw, 'ratio': value / raw, 'target': 1, 'met': True,
                 'runs': []}, **more)


def test_compare_tells_what_moved():
    a = [figure(1, 'p50', 1.2, 0.8, 'lower'), figure(2, 'rate', 12e6, 20e6, 'higher')]
    with tempfile.TemporaryDirectory() as folder:
        def compare(one, other, *args):
            paths = []
            for n, figures in enumerate((one, other)):
                paths.append(os.path.join(folder, f'{n}.json'))
                with open(paths[-1], 'w', encoding='utf-8') as f:
                    json.dump(figures, f)
            table = bench('compare', *paths, *args, check=False)
            r = bench('compare', '--json', *paths, *args, check=False)
            assert r.returncode == table.returncode
            said = json.loads(r.stdout)
            return r.returncode, [f['verdict'] for f in said['figures']], table.stdout
        assert compare(a, a)[:2] == (0, ['same', 'same'])
        slower = [figure(1, 'p50', 1.4, 0.8, 'lower'), figure(2, 'rate', 12e6, 20e6, 'higher')]
        status, verdicts, table = compare(a, slower)
        assert (status, verdicts) == (1, ['worse', 'same']) and '+16.7 %' in table, table
        assert compare(a, slower, '--threshold', '20')[:2] == (0, ['same', 'same'])
        assert compare(slower, a)[:2] == (0, ['better', 'same'])
        # slower together with the machine is not worse; slower on a faster one is
        drift = [figure(1, 'p50', 2.4, 1.6, 'lower'), figure(2, 'rate', 12e6, 40e6, 'higher')]
        assert compare(a, drift)[:2] == (1, ['same', 'worse'])
        failed = [dict(a[0], hfbus=None, ratio=None, met=False, error='no'), a[1]]
        assert compare(a, failed)[:2] == (1, ['failed', 'same'])
        assert compare(failed, a)[:2] == (0, ['new', 'same'])
        assert compare(a, a[:1])[:2] == (1, ['same', 'missing'])
        assert compare(a[:1], a)[:2] == (0, ['same', 'new'])
        # what a scenario prints
        path = os.path.join(folder, 'a.pcap')
        write_capture(path, [(0, frame(b'x'))])
        one = json.loads(bench('replay', path, '--device', 'net_null0', '--json').stdout)
        assert set(compare(one, one)[1]) == {'same'}


def test_compare_refuses_bad_files():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'a.json')
        good = os.path.join(folder, 'good.json')
        with open(good, 'w', encoding='utf-8') as f:
            json.dump([figure(1, 'p50', 1, 1, 'lower')], f)
        for text, why in ((None, 'No such file'), ('', 'not JSON'), ('{"a": ', 'not JSON'),
                          ('{}', 'neither'), ('[]', 'no figure'), ('[{"budget": 1}]', 'figure 1'),
                          ('[7]', 'figure 1'), ('{"metrics": {"rate": 5}}', 'no median')):
            if text is not None:
                with open(path, 'w', encoding='utf-8') as f:
                    f.write(text)
            for pair in ((path, good), (good, path)):
                r = bench('compare', *pair, check=False)
                assert r.returncode == 2 and why in r.stderr, (text, r.returncode, r.stderr)
        for args in ((good,), (good, good, good), (good, good, '--threshold', 'x')):
            assert bench('compare', *args, check=False).returncode == 2, args


def test_feed_check_takes_numbers_only():
    r = bench('feed-check', 'a', '--truth', '/dev/null', '--idle-ms', 'soon', check=False)
    assert r.returncode == 2 and 'idle-ms' in r.stderr, r.stderr


if __name__ == '__main__':
    main(globals())
