#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
The native protocol over a real link: a bus that polls a veth by af_packet, clients with a
kernel's sockets in another namespace, an unkind network between them, and an enemy.
"""
import os
import random
import socket
import struct
import threading
import time

import hfbwire as wire
from hfbnet import BUS_IP, OTHER_IP, RELAY_IP, UDP_PORT, Net, NetBus, Relay
from hfbtest import main, wait_for

BUS = (BUS_IP, UDP_PORT)


def lines_of(name, n):
    return [f'{name} {i} {"x" * (i % 90)}' for i in range(n)]


def consume_udp(net, bus, topic, *args, to=BUS_IP, timeout=None):
    r = net.hfbus(bus, 'consume', topic, '--from', 'earliest', '--until-end', '--format', 'text',
                  *args, to=to, timeout=timeout)
    return r.stdout.splitlines()


def icmp_checksum(data):
    total = sum(struct.unpack(f'>{len(data) // 2}H', data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def test_the_port_is_a_host():
    """ARP and echo, so that the usual tools find it."""
    with Net() as net, NetBus(net) as bus:
        s = net.inside(net.client_ns, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW,
                                                             socket.IPPROTO_ICMP))
        s.settimeout(5)
        body = struct.pack('>BBHHH', 8, 0, 0, 77, 1) + b'are you there, bus? '
        body = body[:2] + struct.pack('>H', icmp_checksum(body)) + body[4:]
        s.sendto(body, (BUS_IP, 0))
        data = s.recv(2048)
        ip_bytes = (data[0] & 15) * 4
        assert data[ip_bytes] == 0 and data[ip_bytes + 4:] == body[4:], data
        s.close()
        assert bus.counter('arp_answers_total') >= 1
        assert bus.counter('icmp_answers_total') == 1


def test_publish_and_consume():
    with Net() as net, NetBus(net) as bus:
        bus.topic_create('t')
        lines = lines_of('event', 20000)
        r = net.hfbus(bus, 'publish', 't', '--ack', 'durable', stdin='\n'.join(lines) + '\n')
        assert '20000 acked' in r.stderr, r.stderr
        assert bus.values('t') == lines
        assert consume_udp(net, bus, 't') == lines
        assert consume_udp(net, bus, 't')[-3:] == lines[-3:]
        r = net.hfbus(bus, 'consume', 't', '--from', '19990', '--count', '5')
        assert r.stdout.splitlines() == lines[19990:19995]


def test_a_network_that_loses():
    """Both ways 3 % lost, 1 % twice, 5 % late: nothing is missing, twice or out of order."""
    with Net() as net, NetBus(net) as bus:
        bus.topic_create('t')
        lines = lines_of('lossy', 6000)
        with Relay(net, loss=0.03, double=0.01, late=0.05) as relay:
            r = net.hfbus(bus, 'publish', 't', '--ack', 'durable', stdin='\n'.join(lines) + '\n',
                          to=RELAY_IP, timeout=180)
            assert '6000 acked' in r.stderr, r.stderr
            assert bus.values('t') == lines
            assert consume_udp(net, bus, 't', to=RELAY_IP, timeout=180) == lines
            assert relay.lost > 10, (relay.lost, relay.passed)
            print(f'  {relay.passed} datagrams passed, {relay.lost} lost')


def test_an_independent_client():
    """The document says enough to speak it."""
    with Net() as net, NetBus(net) as bus:
        bus.topic_create('t')
        sock = net.socket()
        s = wire.Session(sock, BUS)
        assert s.number >> 56 == s.core and s.payload_max == 1472
        p = s.metadata('t')[0]
        try:
            s.metadata('nothing')
            raise AssertionError('a topic that is not there')
        except wire.Refused as e:
            assert e.code == wire.NO_TOPIC
        a = s.produce(p['handle'], 7, 0, [b'one', b'two'])
        assert a['code'] == wire.OK and a['durable'] == 2 and a['received'] == 2, a
        # the same again: acked, not appended
        a = s.produce(p['handle'], 7, 0, [b'one', b'two'])
        assert a['code'] == wire.OK and a['durable'] == 2, a
        # a hole, an old epoch, an unknown producer
        assert s.produce(p['handle'], 7, 5, [b'six'])['code'] == wire.SEQUENCE_GAP
        a = s.produce(p['handle'], 7, 2, [b'three'], flags=wire.DURABLE)
        assert a['code'] == wire.OK and a['durable'] == 3, a
        a = s.produce(p['handle'], 7, 0, [b'four'], epoch=1)
        assert a['code'] == wire.OK and a['durable'] == 1, a
        assert s.produce(p['handle'], 7, 3, [b'late'], epoch=0)['code'] == wire.FENCED
        assert s.produce(p['handle'], 8, 9, [b'who'])['code'] == wire.UNKNOWN_PRODUCER
        a = s.produce(p['handle'], 9, 0, [b'five'], flags=wire.RECEIVED | wire.WANT_OFFSET)
        assert a['received'] == 1 and a['base_offset'] == 4, a
        assert s.produce(p['handle'], 9, 1, [b'm'], flags=2)['code'] == wire.STAGE_UNAVAILABLE
        # the last one is acked when received, and seen when durable
        wait_for('five', lambda: bus.values('t') == ['one', 'two', 'three', 'four', 'five'])

        # a crc that is wrong, and sizes that lie under one that is right
        good = wire.record(b'good')
        a = s.produce_raw(wire.produce_body(p['handle'], 9, 1, good, 1, crc=1), p['handle'], 9, 2, 1)
        assert a['code'] == wire.BAD_BATCH, a
        lie = struct.pack('<I', 4000) + good[4:]
        a = s.produce_raw(wire.produce_body(p['handle'], 10, 0, lie, 1), p['handle'], 10, 1, 1)
        assert a['code'] == wire.BAD_BATCH, a
        assert len(bus.values('t')) == 5

        # read: the log's bytes from the start, then the tail's heartbeats
        n = s.subscribe(p['handle'], wire.FROM_EARLIEST)
        st = wire.read_state(s.wait(wire.READ_STATE))
        assert st['answers'] == n and st['code'] == wire.OK, st
        log, position = b'', st['position']
        while position < st['committed']:
            body = s.wait(wire.DATA)
            handle, _, at, _ = struct.unpack_from('<IIQQ', body)
            assert (handle, at) == (p['handle'], position), (handle, at, position)
            log += body[24:]
            position += len(body) - 24
        values, at, offset = [], 0, 0
        while at < len(log):
            size, _, base, count, _, _, flags = struct.unpack_from('<IIQIBBH', log, at)
            crc, = struct.unpack_from('<I', log, at + 56)
            if not flags & 1:
                assert base == offset and wire.crc32c(log[at + 64:at + size]) == crc
                offset += count
                inside = at + 64
                for _ in range(count):
                    value_size, = struct.unpack_from('<I', log, inside)
                    values.append(log[inside + 16:inside + 16 + value_size])
                    inside += (16 + value_size + 7) & ~7
            at += size
        assert values == [b'one', b'two', b'three', b'four', b'five'], values
        st = wire.read_state(s.wait(wire.READ_STATE, lambda b: wire.read_state(b)['code'] ==
                                    wire.AT_END))
        assert st['position'] == position, st
        # lost bytes are asked for again, to the byte
        s.subscribe(p['handle'], wire.FROM_PLACE, position - 8, epoch=st['leader_epoch'])
        body = s.wait(wire.DATA)
        assert struct.unpack_from('<Q', body, 8)[0] == position - 8 and len(body) == 32
        # a place that never was
        n = s.subscribe(p['handle'], wire.FROM_PLACE, position + (1 << 30), epoch=st['leader_epoch'])
        st = wire.read_state(s.wait(wire.READ_STATE, lambda b: wire.read_state(b)['answers'] == n))
        assert st['code'] == wire.TRUNCATED and st['position'] == position, st
        s.close()
        # and after CLOSE the number is worth nothing
        s.send(wire.METADATA_GET, struct.pack('<IHH', 0, 9, 0) + b'something')
        try:
            s.wait(wire.METADATA, timeout=2)
            raise AssertionError('answered after CLOSE')
        except wire.Refused as e:
            assert e.code == wire.NO_SESSION
        sock.close()


class Enemy(threading.Thread):
    """Sends whatever a bus must not believe, from addresses of its own, until stopped."""

    def __init__(self, net, handle, victim):
        super().__init__(daemon=True)
        self.random = random.Random(5)
        self.own = net.socket(OTHER_IP)
        self.other = net.socket(OTHER_IP)
        self.session = wire.Session(self.own, BUS)
        self.handle, self.victim = handle, victim
        self.stale = self.session.cookie
        self.sent = 0
        self.stop = False

    def one(self):
        r = self.random
        pick = r.randrange(9)
        pid = r.getrandbits(64) | 1
        good = wire.frame(wire.PRODUCE, self.session.number, r.getrandbits(20), wire.produce_body(
            self.handle, pid, r.choice((0, 0, 5)), wire.record(b'evil'), 1))
        if pick == 0:		# noise
            return os.urandom(r.randrange(1, 1472))
        if pick == 1:		# noise behind a right header
            kind = r.randrange(0, 16)
            mine = 0 if kind == wire.CLOSE else self.session.number	# it has more to do
            return wire.frame(kind, r.choice((mine, 0, self.victim)), 1,
                              os.urandom(r.randrange(0, 1400)))
        if pick == 2:		# wrong bits, but for the handle: any session may write to any topic
            data = bytearray(good)
            for _ in range(r.randrange(1, 4)):
                data[r.randrange(28, len(data))] ^= 1 << r.randrange(8)
            return bytes(data)
        if pick == 3:		# cut short
            return good[:r.randrange(1, len(good))]
        if pick == 4:		# a cookie that is old, of somebody else, or guessed
            cookie = r.choice((self.stale, os.urandom(16), bytes(16)))
            return wire.frame(wire.OPEN, 0, 1, struct.pack('<Q', r.getrandbits(64)) + cookie)
        if pick == 5:		# another's session, and none
            return wire.frame(wire.PRODUCE, r.choice((self.victim, self.victim ^ 1, r.getrandbits(64))),
                              1, good[24:])
        if pick == 6:		# sizes that lie under a right crc
            lie = struct.pack('<IHH', r.choice((0, 17, 4096, 0xfffffff0)), 0xffff,
                              r.choice((0, 9, 65535))) + bytes(16)
            return wire.frame(wire.PRODUCE, self.session.number, 1,
                              wire.produce_body(self.handle, pid, 0, lie, r.choice((1, 2, 99))))
        if pick == 7:		# windows, places and handles from nowhere
            return wire.frame(wire.SUBSCRIBE, self.session.number, 1, struct.pack(
                '<IIHHIQ', r.choice((self.handle, 5, 0xffffffff)), r.getrandbits(32), r.randrange(7),
                r.randrange(4), r.choice((0, 8, 0xffffffff)), r.getrandbits(64)))
        return wire.frame(wire.METADATA_GET, self.session.number, 1, struct.pack(
            '<IHH', r.getrandbits(32), r.randrange(65536), 0) + os.urandom(r.randrange(0, 300)))

    def run(self):
        while not self.stop:
            for _ in range(20):
                try:
                    self.random.choice((self.own, self.other)).sendto(self.one(), BUS)
                    self.sent += 1
                except OSError:
                    pass
            time.sleep(0.002)
        self.own.close()
        self.other.close()


def test_two_cores_behind_one_queue():
    """Frames for the other core's partitions are handed over; answers leave from their owner."""
    with Net() as net, NetBus(net, args=['--cores', '0,1']) as bus:
        bus.topic_create('t', '--partitions', '4')
        lines = lines_of('spread', 8000)
        r = net.hfbus(bus, 'publish', 't', '--ack', 'durable', stdin='\n'.join(lines) + '\n')
        assert '8000 acked' in r.stderr, r.stderr
        assert sorted(bus.values('t')) == sorted(lines)
        for partition in range(4):
            here = bus.values('t', '--partition', str(partition))
            assert len(here) > 500, len(here)
            assert consume_udp(net, bus, 't', '--partition', str(partition)) == here
        assert sorted(consume_udp(net, bus, 't')) == sorted(lines)
        assert bus.counter('handovers_total') > 100
        # one session for all of them is enough
        sock = net.socket()
        s = wire.Session(sock, BUS)
        partitions = s.metadata('t')
        assert {p['core'] for p in partitions} == {0, 1}
        assert {p['udp_port'] for p in partitions} == {UDP_PORT, UDP_PORT + 1}
        for p in partitions:
            a = s.produce(p['handle'], 5, 0, [b'one session'])
            assert a['code'] == wire.OK and a['durable'] == 1, a
        s.close()
        sock.close()


def test_damage_is_named_and_the_rest_served():
    """A bit flipped in a sealed segment: both transports tell the same, and go on."""
    with Net() as net, NetBus(net) as bus:
        bus.topic_create('t', '--segment-bytes', '1M', '--ring-bytes', '1M')
        lines = ['%06d ' % i + 'z' * 300 for i in range(15000)]
        bus.publish('t', lines)
        bus.stop()
        segments = []
        for folder, _, names in os.walk(os.path.join(bus.data, 'topics', 't')):
            segments += [os.path.join(folder, n) for n in names if n.endswith('.seg')]
        segments.sort(key=os.path.basename)
        # the first ones are smaller, as nobody knew yet how much would come
        segments = [s for s in segments if os.path.getsize(s) > 1000000]
        assert len(segments) >= 3, segments
        with open(segments[1], 'r+b') as f:
            f.seek(4096 + 500000)
            byte = f.read(1)[0]
            f.seek(4096 + 500000)
            f.write(bytes([byte ^ 4]))
        bus.start()

        how = ['t', '--from', 'earliest', '--until-end', '--format', 'text']
        local = bus.hfbus('consume', *how, check=False)
        remote = net.hfbus(bus, 'consume', *how, check=False)
        for r in (local, remote):
            values = r.stdout.splitlines()
            assert r.returncode == 1 and r.stderr.count('corrupt:') == 1, r.stderr
            assert len(lines) - 1000 < len(values) < len(lines), len(values)
            missing = sorted(set(lines) - set(values))
            at = lines.index(missing[0])
            assert values == lines[:at] + lines[at + len(missing):]
        assert local.stdout == remote.stdout, (local.stderr, remote.stderr)


def test_an_enemy_changes_nothing():
    """The good client loses nothing and gets nothing in that is not its own."""
    with Net() as net, NetBus(net) as bus:
        bus.topic_create('t')
        sock = net.socket()
        victim = wire.Session(sock, BUS)
        handle = victim.metadata('t')[0]['handle']
        bus.topic_create('target')
        target = victim.metadata('target')[0]['handle']
        enemy = Enemy(net, target, victim.number)
        enemy.start()
        try:
            lines = lines_of('good', 20000)
            r = net.hfbus(bus, 'publish', 't', '--ack', 'durable', stdin='\n'.join(lines) + '\n',
                          timeout=180)
            assert '20000 acked' in r.stderr, r.stderr
            got = consume_udp(net, bus, 't', timeout=180)
            assert got == lines, (len(got), len(bus.values('t')), next((i, a, b) for i, (a, b) in
                                  enumerate(zip(got + [None], lines + [None])) if a != b))
            # and the victim's session is still its own
            for i in range(50):
                a = victim.produce(handle, 77, i, [b'victim %d' % i])
                assert a['code'] == wire.OK and a['durable'] == i + 1, a
            wait_for('enough of the enemy', lambda: enemy.sent > 20000)
        finally:
            enemy.stop = True
            enemy.join()
        sock.close()
        assert bus.values('t') == lines + [f'victim {i}' for i in range(50)]
        # whatever got into the topic it could write to was a right batch of its own
        found = set(bus.values('target'))
        assert found <= {'evil'}, found
        reasons = {}
        for c in bus.stat()['counters']:
            if c['name'] == 'drops_total' and c['value']:
                reason = c['labels']['reason']
                reasons[reason] = reasons.get(reason, 0) + c['value']
        print(f'  {enemy.sent} hostile datagrams; dropped: {reasons}')
        for reason in ('frame_short', 'frame_magic', 'frame_type', 'session_unknown', 'session_address',
                       'cookie', 'batch_crc', 'batch_framing'):
            assert reasons.get(reason, 0) > 0, (reason, reasons)


def test_a_stuck_reader_delays_nobody():
    with Net() as net, NetBus(net) as bus:
        bus.topic_create('t', '--ring-bytes', '1M')
        sock = net.socket()
        stuck = wire.Session(sock, BUS)
        p = stuck.metadata('t')[0]
        first = ['first %d' % i for i in range(100)]
        bus.publish('t', first)
        n = stuck.subscribe(p['handle'], wire.FROM_EARLIEST, window=2048)
        stuck.wait(wire.READ_STATE, lambda b: wire.read_state(b)['answers'] == n)
        position = 0
        while position < 2048:
            body = stuck.wait(wire.DATA)
            position = struct.unpack_from('<Q', body, 8)[0] + len(body) - 24
        # it stops here, while the ring goes round several times
        lines = ['%06d' % i + 'y' * 200 for i in range(25000)]
        bus.publish('t', lines)
        assert consume_udp(net, bus, 't') == first + lines
        epoch = stuck.metadata('t')[0]['leader_epoch']
        stuck.subscribe(p['handle'], wire.FROM_PLACE, position, 65536, epoch, flags=0)
        state, until = None, position + 65536 - 1424
        while position < until:
            kind, body = stuck.receive(10) or (None, None)
            assert kind is not None
            if kind == wire.READ_STATE and wire.read_state(body)['code'] == wire.LAPPED:
                state = wire.read_state(body)
            elif kind == wire.DATA:
                at, = struct.unpack_from('<Q', body, 8)
                assert at == position
                position += len(body) - 24
        assert state is not None
        assert bus.counter('readers_lapped_total') >= 1
        assert bus.counter('file_reads_total') >= 1
        sock.close()


def test_killed_and_started_again():
    """A publisher goes on by itself; what was acked is there, once."""
    with Net() as net, NetBus(net) as bus:
        bus.topic_create('t')
        r, w = os.pipe()
        publisher = net.spawn(bus, 'publish', 't', '--ack', 'durable', '--wait', '60s', stdin=r)
        os.close(r)
        lines = lines_of('again', 9000)
        with os.fdopen(w, 'w') as feed:
            for n in range(3):
                feed.write('\n'.join(lines[n * 3000:(n + 1) * 3000]) + '\n')
                feed.flush()
                if n < 2:
                    time.sleep(0.3)
                    bus.kill()
                    bus.start()
        assert publisher.wait() == 0, publisher.tail()
        assert any('9000 acked' in line for line in publisher.err), publisher.tail()
        assert bus.values('t') == lines
        assert consume_udp(net, bus, 't') == lines


main(globals())
