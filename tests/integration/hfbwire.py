# SPDX-License-Identifier: Apache-2.0
"""
The native protocol once more, from docs/PROTOCOL.md alone: a small client that shares no
code with the bus, for tests that check it and for tests that abuse it.

    with namespace sockets of hfbnet:
    s = Session(sock, ('10.9.0.2', 7400))
    handle = s.metadata('t')[0]['handle']
    ack = s.produce(handle, producer_id=7, sequence=0, values=[b'a', b'b'])
"""
import os
import socket
import struct
import time

MAGIC, VERSION = 0xb5, 1
HELLO, COOKIE, OPEN, OPENED, METADATA_GET, METADATA, PRODUCE, ACK, SUBSCRIBE, DATA, READ_STATE, \
    CLOSE, ERROR = range(1, 14)
(OK, SEQUENCE_GAP, FENCED, UNKNOWN_PRODUCER, NO_PARTITION, BAD_BATCH, TOO_LARGE, RING_FULL, NO_SPACE,
 IO_ERROR, STAGE_UNAVAILABLE, WRONG_CORE, NO_TOPIC, NO_SESSION, BAD_FRAME, TRUNCATED, BELOW_START,
 LAPPED, CORRUPT, AT_END, CLOSED, TOO_MANY) = range(22)
RECEIVED, DURABLE = 0, 1
FROM_PLACE, FROM_OFFSET, FROM_EARLIEST, FROM_LATEST, FROM_TIME = range(5)
SEEK = 1
WANT_OFFSET = 4

_TABLE = []
for _n in range(256):
    for _ in range(8):
        _n = (_n >> 1) ^ (0x82f63b78 if _n & 1 else 0)
    _TABLE.append(_n)


def crc32c(data, crc=0):
    crc ^= 0xffffffff
    for b in data:
        crc = (crc >> 8) ^ _TABLE[(crc ^ b) & 0xff]
    return crc ^ 0xffffffff


def frame(kind, session=0, packet=1, body=b''):
    return struct.pack('<BBBBHHQQ', MAGIC, VERSION, kind, 0, 0, 0, session, packet) + body


def record(value, key=None, event_time_ns=0):
    head = struct.pack('<IHHq', len(value), 0xffff if key is None else len(key), 0, event_time_ns)
    whole = head + (key or b'') + value
    return whole + bytes(-len(whole) % 8)


def produce_body(handle, producer_id, sequence, records, count, flags=DURABLE, epoch=0, crc=None):
    return struct.pack('<IHHIIQQ', handle, flags, epoch, count,
                       crc32c(records) if crc is None else crc, producer_id, sequence) + records


def acks(body):
    """The entries of an ACK's body."""
    count, = struct.unpack_from('<H', body)
    found = []
    for i in range(count):
        v = struct.unpack_from('<IHHIIQ4QQ', body, 8 + 64 * i)
        found.append(dict(handle=v[0], code=v[1], epoch=v[2], leader_epoch=v[3], credit=v[4],
                          producer_id=v[5], received=v[6], durable=v[7], base_offset=v[10]))
    return found


def read_state(body):
    v = struct.unpack_from('<QIIIIQQQ', body)
    return dict(answers=v[0], handle=v[1], code=v[2], leader_epoch=v[3], position=v[5], offset=v[6],
                committed=v[7])


class Refused(Exception):
    def __init__(self, code):
        super().__init__(f'code {code}')
        self.code = code


class Session:
    """One session; answers are waited for, questions repeated, as over a network that loses."""

    def __init__(self, sock, address, nonce=None, patience=10.0):
        self.sock, self.address, self.patience = sock, address, patience
        self.number, self.packet = 0, 0
        self.nonce = nonce or int.from_bytes(os.urandom(8), 'little')
        body = self.ask(HELLO, struct.pack('<Q', self.nonce).ljust(128 - 24, b'\0'), COOKIE,
                        lambda b: struct.unpack_from('<Q', b)[0] == self.nonce)
        self.cookie = body[8:24]
        body = self.ask(OPEN, struct.pack('<Q', self.nonce) + self.cookie, OPENED,
                        lambda b: struct.unpack_from('<Q', b)[0] == self.nonce)
        (_, self.idle_ms, self.core, self.cores, self.payload_max, _,
         self.broker_epoch) = struct.unpack('<QIHHIIQ', body)
        self.number = self.opened_session

    def send(self, kind, body=b''):
        self.packet += 1
        self.sock.sendto(frame(kind, self.number, self.packet, body), self.address)
        return self.packet

    def receive(self, timeout):
        """(kind, body) or None."""
        self.sock.settimeout(max(timeout, 0.001))
        try:
            data, _ = self.sock.recvfrom(2048)
        except (socket.timeout, ConnectionRefusedError):
            return None
        magic, version, kind, _, flags, incompatible, session, _ = struct.unpack_from('<BBBBHHQQ', data)
        assert (magic, version, flags, incompatible) == (MAGIC, VERSION, 0, 0), data[:24]
        if kind == OPENED:
            self.opened_session = session
        elif kind != COOKIE and session != self.number:
            return None
        return kind, data[24:]

    def wait(self, kind, good=lambda body: True, timeout=None, error=True):
        until = time.monotonic() + (timeout or self.patience)
        while (left := until - time.monotonic()) > 0:
            got = self.receive(left)
            if got is None:
                continue
            if got[0] == ERROR and error:
                raise Refused(struct.unpack_from('<QI', got[1])[1])
            if got[0] == kind and good(got[1]):
                return got[1]
        return None

    def ask(self, kind, body, answer, good=lambda body: True):
        until = time.monotonic() + self.patience
        while time.monotonic() < until:
            self.send(kind, body)
            got = self.wait(answer, good, 0.2)
            if got is not None:
                return got
        raise AssertionError(f'no answer of kind {answer} to {kind} in {self.patience} s')

    def metadata(self, topic, first=0):
        name = topic.encode()
        body = self.ask(METADATA_GET, struct.pack('<IHH', first, len(name), 0) + name, METADATA)
        _, code, partitions = struct.unpack_from('<QII', body)
        if code != OK:
            raise Refused(code)
        count = struct.unpack_from('<H', body, 36)[0]
        found = []
        for i in range(count):
            v = struct.unpack_from('<IHHIIQQQQ', body, 40 + 48 * i)
            found.append(dict(handle=v[0], core=v[1], udp_port=v[2], leader_epoch=v[3],
                              batch_bytes_max=v[4], start=v[5], start_offset=v[6], committed=v[7],
                              committed_offset=v[8]))
        return found

    def produce(self, handle, producer_id, sequence, values, flags=DURABLE, epoch=0):
        """Sends until it is acked at its stage, or refused; the ACK entry."""
        records = b''.join(record(v) for v in values)
        body = produce_body(handle, producer_id, sequence, records, len(values), flags, epoch)
        return self.produce_raw(body, handle, producer_id, sequence + len(values), flags & 3)

    def produce_raw(self, body, handle, producer_id, end, stage):
        until = time.monotonic() + self.patience
        while time.monotonic() < until:
            self.send(PRODUCE, body)
            again = time.monotonic() + 0.2
            while (left := again - time.monotonic()) > 0:
                got = self.wait(ACK, timeout=left)
                for a in acks(got) if got else ():
                    if (a['handle'], a['producer_id']) != (handle, producer_id):
                        continue
                    if a['code'] != OK and a['code'] != RING_FULL:
                        return a
                    if a['durable' if stage == DURABLE else 'received'] >= end:
                        return a
        raise AssertionError('not acked')

    def subscribe(self, handle, how, value=0, window=1 << 16, epoch=0, flags=SEEK):
        return self.send(SUBSCRIBE, struct.pack('<IIHHIQ', handle, epoch, how, flags, window, value))

    def close(self):
        self.send(CLOSE)
