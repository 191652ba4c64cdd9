# SPDX-License-Identifier: Apache-2.0
"""
hfbusd itself: starting and stopping, its socket and what it makes of garbage there.

Goal:   a client gets what <hfbus/ipc.h> says, a hostile one hurts nobody, a dead one is
        forgotten; the catalogue survives stops and kills; hfbusd runs without rights,
        hugepages, ports or CPUs of its own.
Method: a small speaker of the socket's protocol in Python, against the real program.
"""
import array
import contextlib
import json
import mmap
import os
import random
import resource
import shutil
import socket
import struct
import subprocess
import tempfile
import time

from hfbtest import Bus, Process, main, program, run, skip, wait_for

MAGIC, VERSION, ANSWER, BYTES_MAX = 0x50494248, 1, 1, 65536
HELLO, TOPIC_GET, TOPIC_LIST, TOPIC_PUT, RING_GET, SEGMENT_GET, LOOKUP, CHANNEL_OPEN, \
    CHANNEL_CLOSE, NODE, TRIM = range(1, 12)
KINDS = TRIM + 1
HEAD = struct.Struct('<IHHHHIII')
# name, uuid, versions, partitions, stage, retention, segment, ring, created, flags, handle, cleanup
TOPIC = struct.Struct('<256s16sQQIIQQQQQIIIIQ24x')
WELCOME = struct.Struct('<QIIQQQ')
DELETED = 1


class Refused(Exception):
    def __init__(self, error, text):
        super().__init__(f'{os.strerror(error)}: {text}')
        self.error, self.text = error, text


class Client:
    def __init__(self, bus):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(30)
        self.socket.connect(os.path.join(bus.data, 'hfbusd.sock'))
        self.id = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, kind, body=b'', **over):
        self.id += 1
        h = dict(magic=MAGIC, version=VERSION, kind=kind, flags=0, incompatible=0,
                 size=HEAD.size + len(body), id=self.id, error=0)
        h.update(over)
        self.socket.send(HEAD.pack(*h.values()) + body)

    def receive(self):
        """(body, descriptors); raises Refused, or EOFError when hfbusd hung up."""
        fds = array.array('i')
        data, control, _, _ = self.socket.recvmsg(BYTES_MAX, socket.CMSG_SPACE(16 * 4))
        if not data:
            raise EOFError
        for level, kind, bytes_ in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(bytes_[:len(bytes_) - len(bytes_) % fds.itemsize])
        magic, version, _, flags, _, size, number, error = HEAD.unpack_from(data)
        assert magic == MAGIC and version == VERSION and flags == ANSWER, data[:24]
        assert size == len(data) and number == self.id, (size, len(data), number, self.id)
        if error:
            assert not fds
            raise Refused(error, data[HEAD.size:].decode())
        return data[HEAD.size:], list(fds)

    def ask(self, kind, body=b'', **over):
        self.send(kind, body, **over)
        return self.receive()

    def put(self, name, expected=0, version=0, partitions=1, commit=1, flags=0, uuid=bytes(16),
            segment=0, ring=0):
        body, _ = self.ask(TOPIC_PUT, TOPIC.pack(name.encode(), uuid, version, expected, partitions,
                                                 commit, 0, 0, segment, ring, 0, flags, 0, 0, 0, 0))
        return topic_of(body)

    def get(self, name, first=0):
        body, _ = self.ask(TOPIC_GET, struct.pack('<256sII', name.encode(), first, 0))
        t = topic_of(body)
        first, count = struct.unpack_from('<II', body, TOPIC.size)
        t['entries'] = [struct.unpack_from('<IHH', body, TOPIC.size + 8 + 8 * i)
                        for i in range(count)]
        return t

    def list(self, after=''):
        found, more = [], True
        while more:
            body, _ = self.ask(TOPIC_LIST, struct.pack('<256s', after.encode()))
            count, more = struct.unpack_from('<II', body)
            for i in range(count):
                found.append(topic_of(body[8 + i * TOPIC.size:]))
            after = found[-1]['name'] if found else ''
        return found

    def refused(self, kind, body=b'', **over):
        try:
            self.ask(kind, body, **over)
        except Refused as r:
            return r.error, r.text
        raise AssertionError(f'request {kind} was not refused')


def topic_of(body):
    f = TOPIC.unpack_from(body)
    return dict(name=f[0].rstrip(b'\0').decode(), uuid=f[1], version=f[2], partitions=f[4],
                commit=f[5], flags=f[11], first_handle=f[12])


def refused(call, *args, **more):
    try:
        call(*args, **more)
    except Refused as r:
        return os.strerror(r.error), r.text
    raise AssertionError('was not refused')


def close_all(fds):
    for fd in fds:
        os.close(fd)


def fds_of(pid):
    return len(os.listdir(f'/proc/{pid}/fd'))


def bus_alone(*args, **more):
    return Bus(args=args, control=False, **more)


def test_hello_gives_memory_that_cannot_be_written():
    with bus_alone() as bus, Client(bus) as c:
        body, fds = c.ask(HELLO)
        epoch, pid, cores, counters_bytes, positions_bytes, hz = WELCOME.unpack(body)
        assert (epoch, pid, cores) == (1, bus.process.pid, 1), (epoch, pid, cores)
        assert hz > 1e8
        positions, counters = fds
        assert os.fstat(positions).st_size == positions_bytes == 65536 * 1024
        assert os.fstat(counters).st_size == counters_bytes
        for fd in fds:
            with mmap.mmap(fd, 4096, prot=mmap.PROT_READ):
                pass
            for attempt in (lambda fd=fd: mmap.mmap(fd, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE),
                            lambda fd=fd: os.write(fd, b'x'), lambda fd=fd: os.ftruncate(fd, 0)):
                try:
                    attempt()
                except OSError:
                    continue
                raise AssertionError('shared memory of all could be changed')
        with mmap.mmap(counters, counters_bytes, prot=mmap.PROT_READ) as m:
            assert m[:7] == b'HFBCNT1'
        close_all(fds)
        body, _ = c.ask(NODE)
        epoch, pid, cores, started, topics, partitions, udp, ports, unknown = \
            struct.unpack_from('<QIIQIIHHI', body)
        assert (pid, cores, topics, partitions, udp, ports) == (bus.process.pid, 1, 0, 0, 7400, 0)
        assert abs(started / 1e9 - time.time()) < 60


def test_topics_by_compare_and_set():
    with bus_alone() as bus, Client(bus) as c:
        made = c.put('orders', partitions=3)
        assert made['version'] == 1 and made['partitions'] == 3 and made['uuid'] != bytes(16)
        got = c.get('orders')
        assert got['uuid'] == made['uuid'] and len(got['entries']) == 3
        assert len({e[0] for e in got['entries']}) == 3 and got['entries'][0][2] == 7400
        assert refused(c.put, 'orders')[0] == 'File exists'
        assert refused(c.put, 'orders', expected=7)[0] == 'Stale file handle'
        assert refused(c.put, 'orders', expected=1, version=1, partitions=3)[0] == 'Stale file handle'
        assert refused(c.put, 'orders', expected=1, partitions=2)[0] == 'Invalid argument'
        assert refused(c.put, 'orders', expected=1, partitions=3, commit=4)[0] == 'Invalid argument'
        assert refused(c.put, 'orders', expected=1, partitions=3, uuid=b'x' * 16)[0] == 'File exists'
        assert refused(c.put, 'other', expected=1)[0] == 'No such file or directory'
        grown = c.put('orders', expected=1, partitions=5)
        assert grown['version'] == 2 and grown['uuid'] == made['uuid']
        now = c.get('orders')
        assert [e[0] for e in now['entries'][:3]] == [e[0] for e in got['entries']]
        assert len({e[0] for e in now['entries']}) == 5
        assert len(c.get('orders', first=3)['entries']) == 2
        assert refused(c.get, 'orders', first=5)[0] == 'Invalid argument'

        for bad in (dict(name=''), dict(name='..'), dict(name='a/b'), dict(name='x' * 201),
                    dict(name='p', partitions=0), dict(name='p', partitions=4097),
                    dict(name='p', commit=4), dict(name='p', segment=12345), dict(name='p', ring=3),
                    dict(name='p', flags=0x8000)):
            assert refused(c.put, **bad)[0] == 'Invalid argument', bad
        why = refused(c.put, 'p', commit=2)
        assert why[0] == 'Operation not supported' and 'mirror' in why[1], why

        gone = c.put('orders', expected=2, partitions=1, flags=DELETED)
        assert gone['version'] == 3 and gone['flags'] & DELETED
        assert refused(c.get, 'orders')[0] == 'No such file or directory'
        assert refused(c.put, 'orders', expected=0, flags=DELETED)[0] == 'No such file or directory'
        wait_for('its files are gone', lambda: not any(
            files for _, _, files in os.walk(os.path.join(bus.data, 'topics', 'orders'))))
        assert [t['name'] for t in c.list() if t['flags'] & DELETED] == ['orders']
        again = c.put('orders')
        assert again['version'] == 4 and again['uuid'] != made['uuid']
        assert again['first_handle'] not in {e[0] for e in now['entries']}


def test_the_catalogue_survives_stops_and_kills():
    with bus_alone('--cores', 'any,any') as bus:
        with Client(bus) as c:
            names = [f't{i:04}' for i in range(300)]
            uuids = {n: c.put(n, partitions=1 + i % 3, ring=1 << 20, segment=1 << 20)['uuid']
                     for i, n in enumerate(names)}
            c.put('t0007', expected=1, flags=DELETED)
        for kill in (False, True, True):
            bus.restart(kill=kill)
            with Client(bus) as c:
                live = {t['name']: t for t in c.list() if not t['flags'] & DELETED}
                assert sorted(live) == [n for n in names if n != 't0007']
                assert all(live[n]['uuid'] == uuids[n] for n in live)
                assert {e[1] for n in ('t0000', 't0001', 't0002') for e in
                        c.get(n)['entries']} <= {0, 1}
                cores = [e[1] for n in names[20:60] for e in c.get(n)['entries']]
                assert set(cores) == {0, 1}, 'partitions are on both cores'
        with Client(bus) as c:
            assert WELCOME.unpack(c.ask(HELLO)[0])[0] == 4, 'an epoch a start'


def test_a_damaged_catalogue_is_refused_by_name():
    with bus_alone() as bus:
        with Client(bus) as c:
            c.put('t')
        bus.publish('t', ['kept'])
        bus.stop()
        path = os.path.join(bus.data, 'catalogue')
        with open(path, 'r+b') as f:
            f.seek(100)
            f.write(b'\xff')
        r = run([program('hfbusd'), '--data', bus.data], check=False, env=bus.env)
        assert r.returncode == 1 and path in r.stderr and 'damaged' in r.stderr, r.stderr
        assert r.stdout == ''
        os.unlink(path)
        bus.start()
        with Client(bus) as c:
            assert c.list() == []
            body, _ = c.ask(NODE)
            assert struct.unpack_from('<I', body, 36)[0] == 1, 'a log of no topic is counted'
        assert any('of no topic' in line for line in bus.process.err)


def test_hostile_messages_end_only_their_sender():
    with bus_alone() as bus, Client(bus) as good:
        good.put('t')
        rng = random.Random(7)
        before = fds_of(bus.process.pid)
        # no requests at all: their sender is hung up on
        for data in (b'', b'\0', b'x' * 23, bytes(24), HEAD.pack(MAGIC, 1, 1, 0, 0, 23, 1, 0),
                     HEAD.pack(MAGIC, 1, 1, 0, 0, 2 ** 32 - 1, 1, 0),
                     HEAD.pack(MAGIC, 1, 1, ANSWER, 0, 24, 1, 0), rng.randbytes(65536),
                     HEAD.pack(MAGIC, 1, 1, 0, 0, 24, 1, 0) + bytes(70000)):
            with Client(bus) as c:
                c.socket.send(data)
                if data == b'':     # an empty message looks like the end, and is one
                    continue
                try:
                    c.receive()
                except (EOFError, ConnectionResetError):
                    pass
                else:
                    raise AssertionError(data[:32])
        # requests that cannot be: told why, and still served
        with Client(bus) as c:
            assert c.refused(HELLO, version=9)[0] == 93, 'EPROTONOSUPPORT'
            assert c.refused(HELLO, incompatible=1)[0] == 93
            assert c.refused(HELLO, flags=0x100)[0] == 93
            for kind in (0, KINDS, 255, 65535):
                assert c.refused(kind)[0] == 95
            for kind in range(1, KINDS):
                for size in (1, 7, 8, 511, 4096, 65000):
                    assert c.refused(kind, rng.randbytes(size))[0] in (22, 2, 95, 93), (kind, size)
            assert c.refused(TOPIC_GET, b'x' * 264)[0] == 22
            assert c.refused(TOPIC_LIST, b'x' * 256)[0] == 22
            assert c.refused(TOPIC_PUT, b'\xff' * TOPIC.size)[0] == 22
            for handle in (1, 65535, 65536, 2 ** 32 - 1):
                assert c.refused(RING_GET, struct.pack('<II', handle, 0))[0] == 2
                assert c.refused(SEGMENT_GET, struct.pack('<IIQ', handle, 0, 0))[0] == 2
                assert c.refused(LOOKUP, struct.pack('<IHHIIQ', handle, 0, 0, 0, 0, 0))[0] == 2
            for core in (1, 64, 2 ** 32 - 1):
                assert c.refused(CHANNEL_OPEN, struct.pack('<IIQ', core, 0, 0))[0] == 22
            assert c.refused(CHANNEL_CLOSE, struct.pack('<IIQ', 0, 0, 12345))[0] == 2
            # any bytes to each request, of the right size
            for kind, size in ((TOPIC_GET, 264), (TOPIC_LIST, 256), (RING_GET, 8), (SEGMENT_GET, 16),
                               (LOOKUP, 24), (CHANNEL_OPEN, 16), (CHANNEL_CLOSE, 16)):
                for _ in range(200):
                    with contextlib.suppress(Refused):
                        close_all(c.ask(kind, rng.randbytes(size))[1])
            for _ in range(200):    # positions and times of a real partition
                with contextlib.suppress(Refused):
                    c.ask(LOOKUP, struct.pack('<IHHIIQ', 0, rng.randrange(8), 0, rng.randrange(4), 0,
                                              rng.choice((0, 1, 2 ** 63, rng.getrandbits(64)))))
                with contextlib.suppress(Refused):
                    close_all(c.ask(SEGMENT_GET, struct.pack('<IIQ', 0, 0, rng.getrandbits(64)))[1])
            # descriptors it did not ask for
            with open('/dev/null', 'rb') as null:
                socket.send_fds(c.socket, [HEAD.pack(MAGIC, 1, NODE, 0, 0, 24, c.id, 0)],
                                [null.fileno()] * 100)
                c.receive()
        assert good.get('t')['partitions'] == 1
        wait_for('no descriptor is left behind', lambda: fds_of(bus.process.pid) <= before)


def test_a_client_that_does_not_read_holds_up_nobody():
    with bus_alone() as bus, Client(bus) as good:
        for i in range(100):
            good.put(f't{i}', ring=1 << 20, segment=1 << 20)
        slow = [Client(bus) for _ in range(8)]
        for c in slow:
            c.socket.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(5000):
                    c.send(TOPIC_LIST, bytes(256))
        began = time.monotonic()
        for _ in range(50):
            assert good.get('t7')['partitions'] == 1
        assert time.monotonic() - began < 5
        # and when it reads, all its answers are there
        slow[0].socket.settimeout(30)
        asked = slow[0].id
        slow[0].id = 0
        for _ in range(20):
            slow[0].id += 1
            slow[0].receive()
        assert asked > 20
        for c in slow:
            c.socket.close()
        assert good.get('t7')['partitions'] == 1


def channel(c, core=0):
    body, fds = c.ask(CHANNEL_OPEN, struct.pack('<IIQ', core, 0, 0))
    session, size = struct.unpack('<QQ', body)
    return session, fds, mmap.mmap(fds[0], size)


def test_channels_are_made_and_go_with_their_client():
    with bus_alone() as bus, Client(bus) as good:
        pid = bus.process.pid
        good.ask(NODE)      # accepted, so its descriptor is counted
        before = fds_of(pid)
        with Client(bus) as c:
            for i in range(10):
                session, fds, memory = channel(c)
                magic, version, _, to_core, to_core_bytes, to_client, to_client_bytes, number, core = \
                    struct.unpack_from('<QIIIIIIQI', memory)
                assert magic == 0x0031484353424648 and number == session and core == 0
                assert session >> 56 == 0 and to_core_bytes & (to_core_bytes - 1) == 0
                assert to_core + to_core_bytes <= len(memory) >= to_client + to_client_bytes
                for change in (lambda: os.ftruncate(fds[0], 4096), lambda: os.ftruncate(fds[0], 1 << 30)):
                    try:
                        change()
                    except PermissionError:
                        continue
                    raise AssertionError('a channel could be resized')
                if i < 5:
                    c.ask(CHANNEL_CLOSE, struct.pack('<IIQ', 0, 0, session))
                memory.close()
                close_all(fds)
            assert bus.counter('local_clients') == 5 if have_stat() else True
        wait_for('its channels are gone', lambda: fds_of(pid) <= before)
        # 64 of one client, and no more
        with Client(bus) as c:
            for _ in range(64):
                close_all(c.ask(CHANNEL_OPEN, bytes(16))[1])
            assert c.refused(CHANNEL_OPEN, bytes(16))[0] == 24
        wait_for('its channels are gone', lambda: fds_of(pid) <= before)
        assert good.ask(NODE)


def have_stat():
    return os.access(os.path.join(os.environ.get('HFBUS_BUILD', 'build'), 'hfbus'), os.X_OK)


def test_garbage_in_a_channel_ends_its_client_only():
    """Words that cannot be: tails beyond the ring, sizes that lie, wraps without end."""
    rng = random.Random(11)
    with bus_alone() as bus, Client(bus) as good:
        good.put('t')

        def tail_set(memory, value):
            # by memcpy, so in one store: pack_into() may write byte by byte, and the core,
            # that saw half a tail, would rightly hang up
            memory[64:72] = struct.pack('<Q', value & (2 ** 64 - 1))

        def head(memory):
            return int.from_bytes(memory[128:136], 'little')

        def hurts(write):
            with Client(bus) as c:
                session, fds, memory = channel(c)
                to_core, size = struct.unpack_from('<II', memory, 16)
                write(memory, to_core, size)
                os.write(fds[1], struct.pack('<Q', 1))
                try:
                    c.socket.recv(1)    # b'': hfbusd hung up
                except ConnectionResetError:
                    pass
                memory.close()
                close_all(fds)

        def frame(memory, to_core, at, size):
            struct.pack_into('<II', memory, to_core + at, size, 0)

        hurts(lambda m, at, n: tail_set(m, 2 ** 63))
        hurts(lambda m, at, n: tail_set(m, -8))
        hurts(lambda m, at, n: tail_set(m, 5))
        hurts(lambda m, at, n: tail_set(m, n + 8))
        for lie in (0, 1, 23, 2 ** 31, 2 ** 32 - 9, 4 << 20):
            hurts(lambda m, at, n, lie=lie: (frame(m, at, 0, lie), tail_set(m, 1024)))
        hurts(lambda m, at, n: (frame(m, at, 0, 0xffffffff), tail_set(m, n)))
        hurts(lambda m, at, n: (frame(m, at, 0, 1000), tail_set(m, 64)))

        # frames of garbage with right sizes are dropped and counted, the channel lives
        with Client(bus) as c:
            session, fds, memory = channel(c)
            to_core, size = struct.unpack_from('<II', memory, 16)
            tail = 0
            for _ in range(2000):
                n = rng.choice((24, 32, 64, 200, 1400, 8000))
                at, step = tail % size, 8 + (n + 7) // 8 * 8
                if size - at < step:
                    frame(memory, to_core, at, 0xffffffff)
                    tail += size - at
                    at = 0
                wait_for('room', lambda: tail + step - head(memory) <= size)
                memory[to_core + at + 8:to_core + at + 8 + n] = \
                    struct.pack('<BBBBHHQ', 0xb5, 1, rng.randrange(16), 0, 0, 0, session) + \
                    rng.randbytes(n - 16)
                frame(memory, to_core, at, n)
                tail += step
                tail_set(memory, tail)
                if struct.unpack_from('<I', memory, 320)[0]:
                    os.write(fds[1], struct.pack('<Q', 1))
            wait_for('all is read', lambda: head(memory) == tail)
            assert c.ask(NODE)
            memory.close()
            close_all(fds)
        assert good.get('t')['partitions'] == 1


def test_clients_that_die_are_forgotten():
    with bus_alone('--cores', 'any,any') as bus, Client(bus) as good:
        pid = bus.process.pid
        good.ask(NODE)      # accepted, so its descriptor is counted
        before = fds_of(pid)
        rng = random.Random(3)
        for _ in range(60):
            child = os.fork()
            if child == 0:
                with contextlib.suppress(BaseException):
                    c = Client(bus)
                    while True:
                        channel(c, rng.randrange(2))
                        c.ask(TOPIC_LIST, bytes(256))
                os._exit(0)
            time.sleep(rng.random() * 0.01)
            os.kill(child, 9)
            os.waitpid(child, 0)
        wait_for('their channels are gone', lambda: fds_of(pid) <= before)
        assert good.ask(NODE)


def test_many_clients_come_and_go():
    with bus_alone() as bus:
        clients = []
        for _ in range(300):
            clients.append(Client(bus))
        for c in clients:
            c.ask(NODE)
        for c in clients:
            c.socket.close()
        with Client(bus) as c:
            c.ask(NODE)


def test_a_second_hfbusd_is_refused():
    with bus_alone() as bus:
        r = run([program('hfbusd'), '--data', bus.data], check=False, env=bus.env)
        assert r.returncode == 1 and r.stdout == '' and bus.data in r.stderr, r.stderr
        with Client(bus) as c:
            c.ask(NODE)


def test_the_default_link():
    with bus_alone() as bus:
        link = os.path.join(bus.env['XDG_RUNTIME_DIR'], 'hfbus', 'default')
        assert os.readlink(link) == bus.data
        with tempfile.TemporaryDirectory() as other:
            second = Process([program('hfbusd'), '--data', other, '--udp-port', '7500'], env=bus.env)
            second.line('ready')
            assert os.readlink(link) == bus.data, 'the first one stays the default'
            assert any('another bus is the default' in line for line in second.err)
            assert second.stop() == 0
            assert os.readlink(link) == bus.data
            bus.kill()
            second = Process([program('hfbusd'), '--data', other, '--udp-port', '7500'], env=bus.env)
            second.line('ready')
            assert os.readlink(link) == os.path.realpath(other), 'a dead one is replaced'
            assert second.stop() == 0
            assert not os.path.lexists(link)
        bus.start()


def test_flags_and_plan():
    def hfbusd(*args):
        return run([program('hfbusd'), *args], check=False)
    with tempfile.TemporaryDirectory() as folder:
        data = os.path.join(folder, 'data')
        assert hfbusd('--version').stdout.startswith('hfbusd ')
        assert '--feed' in hfbusd('--help').stdout
        for bad in (['--nonsense'], ['extra'], ['--idle', 'lazy'], ['--cores', '9999'],
                    ['--port', 'eth0'], ['--feed', 'name=x'], ['--udp-port', '0'], ['--config'],
                    ['--config', '/nonexistent'], ['--cores', 'any', '--idle', 'busy']):
            r = hfbusd('--data', data, *bad)
            assert r.returncode == 2 and r.stderr.startswith('hfbusd: ') or bad[0] in r.stderr, (bad, r)
            assert r.stdout == ''
        config = os.path.join(folder, 'c.yaml')
        with open(config, 'w', encoding='ascii') as f:
            f.write('cores: any\nudp-port: 70000\n')
        r = hfbusd('--config', config)
        assert r.returncode == 2 and f'{config}:2: udp-port: ' in r.stderr, r.stderr
        with open(config, 'w', encoding='ascii') as f:
            f.write(f'data: {data}\ncores: any\nports:\n  - device: net_null0\n')
        plan = json.loads(hfbusd('--config', config, '--plan', '--json').stdout)
        assert plan['data'] == data and plan['ports'] == 1 and plan['dpdk_bytes'] > 1 << 20
        text = hfbusd('--config', config, '--plan', '--port', 'net_null1').stdout
        assert '2 ports' in text and data in text
        assert not os.path.exists(data)
        r = hfbusd('--data', '/proc/none')
        assert r.returncode == 1 and '/proc/none' in r.stderr
        r = hfbusd('--data', data, '--port', 'net_pcap0,rx_pcap=/nonexistent.pcap')
        assert r.returncode == 1 and r.stdout == '' and 'DPDK' in r.stderr, r.stderr


def test_ports_of_several_kinds_and_two_cores():
    with tempfile.TemporaryDirectory() as folder:
        with bus_alone('--cores', 'any,any', '--no-huge', '--port', 'net_null0,size=64',
                       '--port', f'net_memif0,role=server,socket={folder}/m.sock,socket-abstract=no'
                       '@10.0.0.1/24', '--port', 'net_ring0',
                       '--feed', 'name=a,framing=raw,group=239.0.0.1,port=1,topic=fed') as bus:
            with Client(bus) as c:
                body, _ = c.ask(NODE)
                assert struct.unpack_from('<HH', body, 32) == (7400, 3)
                assert c.get('fed')['flags'] & 2, 'made by a feed'
                assert WELCOME.unpack(c.ask(HELLO)[0])[2] == 2
            time.sleep(0.2)
        assert any('stopping' in line for line in bus.process.err)


def test_without_rights_and_hugepages():
    if os.geteuid() != 0:
        skip('already without rights')
    if shutil.which('setpriv') is None:
        skip('setpriv is not there')
    folder = tempfile.mkdtemp(prefix='hfbus-test-', dir='/tmp')
    copy = os.path.join(folder, 'hfbusd')
    shutil.copy(program('hfbusd'), copy)
    os.chmod(folder, 0o755)
    data = os.path.join(folder, 'data')
    os.mkdir(data)
    os.chown(data, 65534, 65534)
    env = {k: v for k, v in os.environ.items() if k not in ('XDG_RUNTIME_DIR', 'HFBUS_DATA')}
    env['HOME'] = '/nonexistent'

    def hfbusd(*args):
        child = Process(['prlimit', f'--memlock={8 << 20}:{8 << 20}', 'setpriv', '--reuid=65534',
                         '--regid=65534', '--clear-groups', '--no-new-privs', copy, '--data', data,
                         *args], env=env, name='hfbusd as nobody')
        child.line('ready')
        return child
    try:
        for _ in range(2):
            child = hfbusd('--port', 'net_null0', '--cores', 'any,any')
            bus = Bus(folder=folder)
            with Client(bus) as c:
                if not c.list():
                    c.put('t', partitions=2)
                assert c.get('t')['partitions'] == 2
                memory = channel(c)
                close_all(memory[1])
            assert child.stop() == 0, child.tail()
        assert os.path.isdir('/tmp/hfbus-65534')
        assert not os.path.lexists('/tmp/hfbus-65534/hfbus/default')
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def cpu_used(bus, seconds=2):
    """The share of a CPU that hfbusd takes."""
    def cpu():
        with open(f'/proc/{bus.process.pid}/stat', encoding='ascii') as f:
            fields = f.read().rsplit(')', 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
    time.sleep(0.3)
    before = cpu()
    time.sleep(seconds)
    return (cpu() - before) / seconds


def test_it_sleeps_when_there_is_nothing_to_do():
    with bus_alone() as bus:
        used = cpu_used(bus)
        assert used < 0.25, f'idle, it takes {used:.0%} of a CPU'


def test_a_half_closed_client_that_does_not_read_keeps_nobody_awake():
    with bus_alone() as bus, Client(bus) as good:
        for i in range(100):
            good.put(f't{i}', ring=1 << 20, segment=1 << 20)
        with Client(bus) as c:
            c.socket.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(5000):
                    c.send(TOPIC_LIST, bytes(256))
            c.socket.shutdown(socket.SHUT_WR)
            used = cpu_used(bus)
        assert used < 0.25, f'it takes {used:.0%} of a CPU'
        assert good.get('t7')['partitions'] == 1


if __name__ == '__main__':
    main(globals())
