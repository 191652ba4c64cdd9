# SPDX-License-Identifier: Apache-2.0
"""
A disk that begins to fail, through the real programs.

Goal:   a failed write or sync is final: refused with a clear error from then on, also when
        the disk is well again, nothing is acked that is not durable, reading goes on; after
        a new start all that was acked is there. A segment that cannot be made, or not be
        read, is told, and tried again.
Method: a library preloaded into hfbusd (tests/support/disk_fail.c) lets requests fail while
        a file is there.
"""
import os
import re

from hfbtest import BUILD, Bus, main, skip
from hfbnet import Net, NetBus


class FailingDisk:
    """Of a Bus; on('write'), off('write')."""

    def __init__(self, kind=Bus, *args, **more):
        library = os.path.join(BUILD, 'tests/support/libhfb_disk_fail.so')
        if not os.path.exists(library):
            skip(f'{library} is not built')
        self.bus = kind(*args, control=False, **more)
        # not for the commands: they have the bus's environment as it was
        with open(os.path.join(BUILD, 'hfbusd'), 'rb') as f:
            if b'__asan_init' in f.read():
                skip('a sanitizer takes no preloaded library')
        self.plain = dict(self.bus.env)
        self.failing = dict(self.plain, LD_PRELOAD=library, HFBUS_TEST_DISK_FAIL=self.bus.folder)
        start = self.bus.start

        def started(*more):
            self.bus.env = self.failing
            try:
                return start(*more)
            finally:
                self.bus.env = self.plain
        self.bus.start = started

    def __enter__(self):
        self.bus.__enter__()
        return self

    def __exit__(self, *how):
        self.bus.__exit__(*how)

    def on(self, what):
        with open(os.path.join(self.bus.folder, what), 'wb'):
            pass

    def off(self, what):
        os.unlink(os.path.join(self.bus.folder, what))


def lines_of(name, n):
    return [f'{name} {i:07d} '.ljust(300, 'x') for i in range(n)]


def acked(told):
    m = re.findall(r'(\d+) acked', told)
    return int(m[-1]) if m else 0


def with_topic(disk):
    """hfbus-control makes the topic and leaves; hfbusd goes on without it."""
    bus = disk.bus
    bus.stop()
    bus.control = True
    bus.start()
    bus.topic_create('t', '--segment-bytes', '1M', '--ring-bytes', '1M')
    bus.stop()
    bus.control = False
    bus.start()
    return bus


def test_a_failed_write_is_final():
    with FailingDisk() as disk:
        bus = with_topic(disk)
        first = lines_of('first', 3000)
        bus.publish('t', first)
        disk.on('write')
        second = lines_of('second', 3000)
        r = bus.publish('t', second, check=False)
        assert r.returncode == 1, r.stderr
        assert 'topic t' in r.stderr and 'disk failed' in r.stderr, r.stderr
        assert acked(r.stderr) == 0, r.stderr
        bus.process.line(r'topic t partition 0: writing or syncing a segment failed at position \d+: \w+',
                         where='err', timeout=10)
        disk.off('write')
        # the disk is well, and still nothing is taken
        r = bus.publish('t', ['more'], check=False)
        assert r.returncode == 1 and 'disk failed' in r.stderr, r.stderr
        assert bus.counter('produce_refused_total', reason='io_error') > 0
        assert bus.values('t') == first
        bus.stop()
        bus.start()
        got = bus.values('t')
        assert got[:3000] == first and got[3000:] == second[:len(got) - 3000]
        bus.publish('t', ['after'])
        assert bus.values('t') == got + ['after']


def test_acks_under_a_write_that_fails():
    """At a random moment under load: what was acked is there."""
    with FailingDisk() as disk:
        bus = with_topic(disk)
        lines = lines_of('load', 200000)
        r, w = os.pipe()
        publisher = bus.spawn('publish', 't', stdin=r)
        os.close(r)
        with os.fdopen(w, 'w') as feed:
            try:
                for i in range(0, len(lines), 500):
                    if i == 20000:
                        disk.on('write')
                    feed.write('\n'.join(lines[i:i + 500]) + '\n')
                    feed.flush()
            except BrokenPipeError:
                pass
            finally:
                try:
                    feed.flush()
                except BrokenPipeError:
                    os.dup2(os.open(os.devnull, os.O_WRONLY), feed.fileno())
        assert publisher.wait() == 1, publisher.tail()
        n = acked('\n'.join(publisher.err))
        assert 0 < n < len(lines), publisher.tail()
        got = bus.values('t')
        assert got[:n] == lines[:n] and got == lines[:len(got)]
        disk.off('write')
        bus.kill()
        bus.start()
        got = bus.values('t')
        assert got[:n] == lines[:n] and got == lines[:len(got)]
        print(f'  {n} acked, {len(got)} found')


def test_a_segment_that_cannot_be_made():
    with FailingDisk() as disk:
        bus = with_topic(disk)
        first = lines_of('first', 100)
        bus.publish('t', first)
        disk.on('prepare')
        second = lines_of('second', 20000)
        r = bus.publish('t', second, check=False)
        assert r.returncode == 1 and 'disk' in r.stderr, r.stderr
        n = acked(r.stderr)
        bus.process.line(r'topic t partition 0: \S+\.seg: .*(Input/output error)', where='err',
                         timeout=10)
        got = bus.values('t')
        assert got[:100 + n] == (first + second)[:100 + n]
        disk.off('prepare')
        third = lines_of('third', 5000)
        bus.publish('t', third, '--wait', '30s')
        assert bus.values('t')[-5000:] == third


def test_a_read_that_fails():
    """Over UDP the bus reads for its clients: told, and well again when the disk is."""
    with Net() as net, FailingDisk(NetBus, net) as disk:
        bus = with_topic(disk)
        lines = lines_of('read', 20000)
        bus.publish('t', lines)
        disk.on('read')
        r = net.hfbus(bus, 'consume', 't', '--from', 'earliest', '--until-end', '--format', 'text',
                      check=False)
        assert r.returncode == 1 and 'topic t' in r.stderr and 'position' in r.stderr, r.stderr
        assert r.stdout.splitlines() == lines[:len(r.stdout.splitlines())]
        bus.process.line(r'topic t partition 0: reading failed .* position \d+: ', where='err',
                         timeout=10)
        # publishing goes on, and so do readers of the ring
        bus.publish('t', ['behind'])
        r = net.hfbus(bus, 'consume', 't', '--from', '20000', '--until-end', '--format', 'text')
        assert r.stdout.splitlines() == ['behind']
        disk.off('read')
        r = net.hfbus(bus, 'consume', 't', '--from', 'earliest', '--until-end', '--format', 'text')
        assert r.stdout.splitlines() == lines + ['behind']


if __name__ == '__main__':
    main(globals())
