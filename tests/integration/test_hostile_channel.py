#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
A local client is not believed: its shared memory changes while frames are read, its
counters and sizes lie, its frames are random. Nothing false is stored, nobody else notices.
"""
import contextlib
import mmap
import os
import random
import socket
import struct
import time

import hfbwire as wire
from hfbtest import Bus, main, wait_for

IPC_MAGIC, ANSWER = 0x50494248, 1
TOPIC_GET, CHANNEL_OPEN = 2, 8
TO_CORE_TAIL, TO_CORE_HEAD, TO_CLIENT_TAIL, TO_CLIENT_HEAD = 64, 128, 192, 256


class Channel:
    """hfbusd's socket and one channel, by hand from include/hfbus/{ipc,shm}.h."""

    def __init__(self, bus, core=0):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(20)
        # sun_path is short, temporary folders may not be
        folder = os.open(bus.data, os.O_PATH)
        self.sock.connect(f'/proc/self/fd/{folder}/hfbusd.sock')
        os.close(folder)
        body, fds = self.ask(CHANNEL_OPEN, struct.pack('<IIQ', core, 0, 0))
        self.session, size = struct.unpack_from('<QQ', body)
        self.map = mmap.mmap(fds[0], size)
        self.event_fd = fds[1]
        os.close(fds[0])
        # words: struct would store a number byte by byte, and the core see half of it
        self.words = memoryview(self.map)[:320].cast('Q')
        (self.out_at, self.out_bytes, self.in_at, self.in_bytes) = struct.unpack_from(
            '<IIII', self.map, 16)
        self.tail = self.head = self.packet = 0

    def ask(self, kind, body):
        self.sock.send(struct.pack('<IHHHHIII', IPC_MAGIC, 1, kind, 0, 0, 24 + len(body), kind, 0) +
                       body)
        data, fds, _, _ = socket.recv_fds(self.sock, 65536, 4)
        _, _, kind, flags, _, _, _, error = struct.unpack_from('<IHHHHIII', data)
        assert flags == ANSWER and error == 0, data[24:]
        return data[24:], fds

    def handle(self, topic):
        body, _ = self.ask(TOPIC_GET, topic.encode().ljust(256, b'\0') + struct.pack('<II', 0, 0))
        at = len(body) - 8      # one partition
        return struct.unpack_from('<I', body, at)[0]

    def u64(self, at, value=None):
        if value is None:
            return self.words[at // 8]
        self.words[at // 8] = value & (2**64 - 1)
        return value

    def kick(self):
        with contextlib.suppress(BlockingIOError):
            os.write(self.event_fd, struct.pack('<Q', 1))

    def put(self, frame, size=None, publish=True):
        """A frame into the ring; where it stands."""
        need = 8 + (len(frame) + 7 & ~7)
        to_end = self.out_bytes - self.tail % self.out_bytes
        if to_end < need:
            struct.pack_into('<I', self.map, self.out_at + self.tail % self.out_bytes, 0xffffffff)
            self.tail += to_end
        wait_for('room in the channel', lambda: self.tail + need - self.u64(TO_CORE_HEAD) <=
                 self.out_bytes, 20)
        at = self.out_at + self.tail % self.out_bytes
        struct.pack_into('<II', self.map, at, len(frame) if size is None else size, 0)
        self.map[at + 8:at + 8 + len(frame)] = frame
        self.tail += need
        if publish:
            self.u64(TO_CORE_TAIL, self.tail)
            self.kick()
        return at + 8

    def produce(self, body):
        self.packet += 1
        return self.put(wire.frame(wire.PRODUCE, self.session, self.packet, body))

    def acks(self):
        """Entries of all ACK frames that are there."""
        found = []
        tail = self.u64(TO_CLIENT_TAIL)
        while self.head < tail:
            at = self.in_at + self.head % self.in_bytes
            size, = struct.unpack_from('<I', self.map, at)
            if size == 0xffffffff:
                self.head += self.in_bytes - self.head % self.in_bytes
                continue
            frame = self.map[at + 8:at + 8 + size]
            if frame[2] == wire.ACK:
                found += wire.acks(frame[24:])
            elif frame[2] == wire.ERROR:
                found.append(dict(code=struct.unpack_from('<QI', frame, 24)[1], producer_id=None))
            self.head += 8 + (size + 7 & ~7)
            self.u64(TO_CLIENT_HEAD, self.head)
        return found

    def close(self):
        self.sock.close()
        os.close(self.event_fd)
        self.words.release()
        self.map.close()


def honest_client_works(bus, topic='honest'):
    before = len(bus.consume(topic))
    bus.publish(topic, ['still here'] * 50)
    assert len(bus.consume(topic)) == before + 50


def test_an_honest_client_by_hand():
    with Bus() as bus:
        bus.topic_create('t')
        c = Channel(bus)
        handle = c.handle('t')
        records = b''.join(wire.record(f'v{i}'.encode(), key=b'k') for i in range(10))
        c.produce(wire.produce_body(handle, 99, 0, records, 10))
        wait_for('it is durable', lambda: any(a.get('durable') == 10 for a in c.acks()))
        # the same again adds nothing
        c.produce(wire.produce_body(handle, 99, 0, records, 10))
        wait_for('it is acked again', lambda: any(a.get('durable') == 10 for a in c.acks()))
        assert bus.values('t') == [f'v{i}' for i in range(10)]
        c.close()


def test_memory_that_changes_while_it_is_read():
    with Bus() as bus:
        bus.topic_create('t')
        bus.topic_create('honest')
        c = Channel(bus)
        handle = c.handle('t')
        values = [bytes([65 + i % 26]) * 900 for i in range(30)]
        records = b''.join(wire.record(v) for v in values)
        crc = wire.crc32c(records)
        rng = random.Random(1)
        sent = refused = stored = 0
        sequence, began = 0, time.monotonic()
        while time.monotonic() - began < 4:
            body = wire.produce_body(handle, 7, sequence, records, 30, flags=wire.RECEIVED, crc=crc)
            at = c.produce(body)
            sent += 1
            # scribble over it until its fate is known: lengths, counts, sizes, payload
            fate = None
            until = time.monotonic() + 0.25
            while fate is None and time.monotonic() < until:
                for _ in range(20):
                    place = rng.choice((0, 4, rng.randrange(80), rng.randrange(len(body)),
                                        rng.randrange(len(body))))
                    c.map[at + place] = rng.randrange(256)
                for a in c.acks():
                    if a['producer_id'] == 7:
                        fate = a
                        sequence = max(sequence, a['received'])
                        break
                    if a['producer_id'] is None or a['code'] != 0:
                        fate = a
            if fate is not None and fate['code'] == 0:
                stored += 1
            else:
                refused += 1
            if sent % 3 == 0:
                # one it may have whole
                c.produce(wire.produce_body(handle, 7, sequence, records, 30, flags=wire.RECEIVED,
                                            crc=crc))
                end = time.monotonic() + 1
                while time.monotonic() < end:
                    got = [a for a in c.acks() if a['producer_id'] == 7]
                    if got:
                        sequence = max([sequence] + [a['received'] for a in got])
                        break
        assert refused > 10, (sent, refused, stored)
        honest_client_works(bus)
        # whatever was stored is whole, and is what was sent
        events = bus.hfbus('consume', 't', '--from', 'earliest', '--until-end')
        got = events.stdout.split('\n')[:-1]
        assert len(got) >= 30 and len(got) % 30 == 0, len(got)
        want = [v.decode() for v in values]
        for i in range(0, len(got), 30):
            assert got[i:i + 30] == want, i
        assert bus.counter('drops_total') > 0
        c.close()


def test_counters_and_sizes_that_lie():
    with Bus() as bus:
        bus.topic_create('t')
        bus.topic_create('honest')
        lies = [
            lambda c: c.u64(TO_CORE_TAIL, 1 << 60),
            lambda c: c.u64(TO_CORE_TAIL, 2**64 - 8),
            lambda c: c.u64(TO_CORE_TAIL, 13),
            lambda c: c.put(b'x' * 64, size=0),
            lambda c: c.put(b'x' * 64, size=1 << 31),
            lambda c: c.put(b'x' * 64, size=0xfffffff0),
            lambda c: c.put(b'x' * 64, size=c.out_bytes),
            lambda c: c.put(b'x' * 64, size=0xffffffff),
            lambda c: (c.u64(TO_CLIENT_HEAD, 2**63), c.put(wire.frame(wire.METADATA_GET, c.session))),
            lambda c: (c.u64(TO_CLIENT_HEAD, 2**64 - 1), c.put(wire.frame(200, c.session))),
            lambda c: c.map.__setitem__(slice(0, 64), os.urandom(64)),
            lambda c: c.map.__setitem__(slice(0, 4096), os.urandom(4096)),
        ]
        for lie in lies:
            c = Channel(bus)
            lie(c)
            c.kick()
            time.sleep(0.02)
            honest_client_works(bus)
            c.close()
        assert bus.counter('drops_total', reason='local_framing') >= 5
        # hfbus-control has one channel of its own
        wait_for('the liars are forgotten', lambda: bus.counter('local_clients') <= 1)


def test_random_and_mutated_frames():
    with Bus() as bus:
        bus.topic_create('t')
        bus.topic_create('honest')
        rng = random.Random(2)
        c = Channel(bus)
        handle = c.handle('t')
        records = b''.join(wire.record(f'value {i}'.encode()) for i in range(5))
        good = wire.frame(wire.PRODUCE, c.session, 1, wire.produce_body(handle, 5, 0, records, 5))
        for _ in range(20000):
            frame = bytearray(good)
            kind = rng.randrange(4)
            if kind == 0:
                frame = bytearray(rng.randbytes(24 + rng.randrange(200)))
            elif kind == 1:
                for _ in range(rng.randrange(1, 4)):
                    frame[rng.randrange(len(frame))] = rng.randrange(256)
            elif kind == 2:
                del frame[rng.randrange(24, len(frame)):]
            else:
                # a right crc over records that lie
                lying = bytearray(records)
                lying[rng.randrange(0, 8)] = rng.randrange(256)
                frame = bytearray(wire.frame(wire.PRODUCE, c.session, 1, wire.produce_body(
                    handle, 1000 + rng.randrange(8), 0, bytes(lying), rng.randrange(1, 7))))
            c.put(bytes(frame))
            c.acks()
        # the channel is sound, only its frames are not: a good one still goes through,
        # sent again when it is refused for want of room, as clients do
        def acked():
            c.produce(wire.produce_body(handle, 77, 0, records, 5))
            time.sleep(0.02)
            return any(a['producer_id'] == 77 and a['durable'] == 5 for a in c.acks())
        wait_for('the good one is acked', acked)
        assert bus.counter('drops_total', reason='local_framing') == 0
        honest_client_works(bus)
        r = bus.hfbus('consume', 't', '--from', 'earliest', '--until-end', '--format', 'json')
        assert ' 0 corrupt' in r.stderr, r.stderr
        assert bus.counter('drops_total', reason='batch_crc') > 0
        assert bus.counter('drops_total', reason='batch_framing') > 0
        assert bus.counter('drops_total', reason='frame_magic') > 0
        c.close()


def test_the_socket_takes_garbage():
    with Bus() as bus:
        bus.topic_create('honest')
        rng = random.Random(3)
        for turn in range(300):
            s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            folder = os.open(bus.data, os.O_PATH)
            s.connect(f'/proc/self/fd/{folder}/hfbusd.sock')
            os.close(folder)
            body = rng.randbytes(rng.randrange(0, 600))
            head = struct.pack('<IHHHHIII', IPC_MAGIC if turn % 4 else 1, rng.choice((1, 1, 1, 2)),
                               rng.randrange(0, 14), 0, rng.choice((0, 0, 0, 1)),
                               24 + len(body) if turn % 3 else rng.randrange(2**32), turn, 0)
            with contextlib.suppress(OSError):
                s.send(head + body if turn % 7 else body)
                if turn % 2:
                    s.settimeout(0.01)
                    socket.recv_fds(s, 65536, 4)
            s.close()
        honest_client_works(bus)


main(globals())
