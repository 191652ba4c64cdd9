# SPDX-License-Identifier: Apache-2.0
"""
A full disk, through the real programs.

Goal:   publishing is refused with an error that says what to do, reading goes on,
        publishing resumes by itself when space returns; nothing acked is lost. What a feed
        loses meanwhile are gaps with cause local, over exactly what is missing.
Method: the data folder is on a small ext4 of its own (a loop mount: root only); a ballast
        file takes and gives back the space.
"""
import glob
import os
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time

from hfbtest import Bus, main, run, skip, wait_for
from hfbnet import CLIENT_IP, Net, NetBus

MIB = 1 << 20
GROUP, PORT = '239.192.9.1', 26499


class Disk:
    """A small file system, gone at the end whatever happens. mib=0: the folder alone."""

    def __init__(self, mib=96):
        self.mib = mib

    def __enter__(self):
        if os.geteuid() != 0:
            skip('mounting a file system needs root')
        if not shutil.which('mkfs.ext4'):
            skip('mkfs.ext4 is not installed')
        self.base = tempfile.mkdtemp(prefix='hfbus-disk-', dir=os.environ.get('HFBUS_TEST_DIR'))
        self.folder = os.path.join(self.base, 'mnt')
        self.mounted = False
        try:
            image = os.path.join(self.base, 'image')
            os.mkdir(self.folder)
            if self.mib == 0:
                return self		# mounted by who asks
            with open(image, 'wb') as f:
                f.truncate(self.mib * MIB)
            # nothing kept back for root: full is full
            run(['mkfs.ext4', '-q', '-F', '-m', '0', image])
            r = run(['mount', '-o', 'loop', image, self.folder], check=False)
            if r.returncode != 0:
                skip(f'no loop mounts here: {r.stderr.strip()}')
            self.mounted = True
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.mounted:
            # a program that is ending may hold it for a moment
            for _ in range(50):
                if subprocess.run(['umount', self.folder], capture_output=True,
                                  check=False).returncode == 0:
                    break
                time.sleep(0.1)
            else:
                subprocess.run(['umount', '-l', self.folder], capture_output=True, check=False)
        shutil.rmtree(self.base, ignore_errors=True)

    def free(self):
        s = os.statvfs(self.folder)
        return s.f_bavail * s.f_frsize

    def ballast(self, leave):
        """Take all but so many bytes."""
        path = os.path.join(self.folder, f'ballast{len(glob.glob(self.folder + "/ballast*"))}')
        fd = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.posix_fallocate(fd, 0, self.free() - leave)
        os.close(fd)
        os.sync()

    def room(self):
        for path in glob.glob(os.path.join(self.folder, 'ballast*')):
            os.unlink(path)


def lines_of(name, n, size=400):
    return [f'{name} {i:07d} '.ljust(size, 'x') for i in range(n)]


def acked(told):
    m = re.findall(r'(\d+) acked', told)
    assert m, told
    return int(m[-1])


def state_of(bus, topic):
    for p in bus.stat().get('partitions', []):
        if p.get('topic') == topic:
            return p.get('state')
    return None


def test_publish_is_refused_and_resumes():
    with Disk() as disk, Bus(folder=disk.folder) as bus:
        bus.topic_create('t', '--segment-bytes', '1M', '--ring-bytes', '1M')
        early = lines_of('early', 2000)
        bus.publish('t', early)
        disk.ballast(6 * MIB)
        lines = lines_of('full', 60000)
        r = bus.publish('t', lines, check=False)
        assert r.returncode == 1, r.stderr
        assert 'full' in r.stderr and 'retention' in r.stderr and 'topic t' in r.stderr, r.stderr
        n = acked(r.stderr)
        assert 2000 < n < 40000, r.stderr
        bus.process.line(r'topic t partition 0: the disk is full', where='err', timeout=10)
        assert bus.counter('produce_refused_total', reason='no_space') > 0
        assert state_of(bus, 't') == 'no-space'
        print(f'  {n} acked before it was full')
        # reading goes on: all that was acked, in order, and nothing but what was sent
        got = bus.values('t')
        assert got[:2000 + n] == (early + lines)[:2000 + n]
        assert got == (early + lines)[:len(got)]
        # another is refused as well, and waits when it is told to
        again = lines_of('again', 3000)
        r = bus.publish('t', again[:1], check=False)
        refused_at_once = r.returncode
        pipe, feed = os.pipe()
        waiting = bus.spawn('publish', 't', '--wait', '60s', stdin=pipe)
        os.close(pipe)
        with os.fdopen(feed, 'w') as f:
            f.write('\n'.join(again) + '\n')
        time.sleep(1)
        assert waiting.running(), waiting.tail()
        have = len(bus.values('t'))
        disk.room()
        assert waiting.wait() == 0, waiting.tail()
        assert any('3000 acked' in line for line in waiting.err), waiting.tail()
        bus.process.line(r'topic t partition 0: there is room', where='err', timeout=10)
        got = bus.values('t')
        assert got[-3000:] == again
        assert got[:have - (0 if refused_at_once else 1)][:2000 + n] == (early + lines)[:2000 + n]
        assert len(set(got)) == len(got) - (0 if refused_at_once else 1), 'twice in the log'
        bus.restart()
        assert bus.values('t') == got
        assert not [line for line in bus.process.err if 'corrupt' in line], bus.process.err


def test_stopped_and_killed_while_it_is_full():
    for kill in (False, True):
        with Disk() as disk, Bus(folder=disk.folder) as bus:
            bus.topic_create('t', '--segment-bytes', '1M', '--ring-bytes', '1M')
            disk.ballast(5 * MIB)
            lines = lines_of('full', 40000)
            r = bus.publish('t', lines, check=False)
            assert r.returncode == 1, r.stderr
            n = acked(r.stderr)
            if kill:
                bus.kill()
            else:
                bus.stop()
            disk.room()
            bus.start()
            got = bus.values('t')
            assert got[:n] == lines[:n] and got == lines[:len(got)]
            bus.publish('t', lines[len(got):])
            assert bus.values('t') == lines


def test_retention_keeps_room():
    """A topic that drops its oldest segments goes on in their files on a disk that is full."""
    with Disk() as disk, Bus(folder=disk.folder) as bus:
        bus.topic_create('r', '--segment-bytes', '1M', '--ring-bytes', '1M', '--retention-bytes', '4M')
        lines = lines_of('early', 12000)
        bus.publish('r', lines)
        disk.ballast(2 * MIB)
        lines += lines_of('late', 40000)
        r = bus.publish('r', lines[12000:], '--wait', '60s')
        assert '40000 acked' in r.stderr, r.stderr
        # retention may go on for a moment: what it lets go while it is read, a mark tells
        entries = bus.consume('r')
        first = entries[0].get('mark', entries[0])
        following = first['offset'] if 'offset' in first else first['from_offset']
        assert following > 12000, first
        for e in entries:
            if 'mark' in e:
                assert e['mark']['kind'] == 'retired', e
                assert e['mark']['from_offset'] == following < e['mark']['to_offset'], e
                following = e['mark']['to_offset']
                continue
            assert e['offset'] == following and e['value'] == lines[following], (following, e)
            following += 1
        assert following == len(lines), following
        assert sum('value' in e for e in entries) > 5000


def test_a_tmpfs_that_grows():
    """Memory without O_DIRECT; refused again and again, a patient publisher, a kill."""
    with Disk(0) as disk:
        run(['mount', '-t', 'tmpfs', '-o', 'size=20m', 'hfbus-test', disk.folder])
        disk.mounted = True
        with Bus(folder=disk.folder) as bus:
            bus.topic_create('t', '--segment-bytes', '1M', '--ring-bytes', '1M')
            lines = lines_of('memory', 100000)
            r = bus.publish('t', lines, check=False)
            assert r.returncode == 1 and 'full' in r.stderr, r.stderr
            n = acked(r.stderr)
            assert 20000 < n < 100000, r.stderr
            r = bus.publish('t', lines_of('no room', 10000), check=False)
            assert r.returncode == 1 and 'full' in r.stderr, r.stderr
            have = bus.values('t')
            assert have[:n] == lines[:n]
            patient = lines_of('patient', 20000)
            pipe, feed = os.pipe()
            waiting = bus.spawn('publish', 't', '--wait', '60s', stdin=pipe)
            os.close(pipe)
            threading.Timer(0.5, lambda: run(['mount', '-o', 'remount,size=200m',
                                              disk.folder])).start()
            with os.fdopen(feed, 'w') as f:
                f.write('\n'.join(patient) + '\n')
            assert waiting.wait() == 0, waiting.tail()
            assert {q['state'] for q in bus.stat()['partitions']} == {'open'}
            bus.restart(kill=True)
            got = bus.values('t')
            assert got[:len(have)] == have
            assert [v for v in got if v.startswith('patient')] == patient


def moldudp64(sequence, values):
    return struct.pack('>10sQH', b'FULL000001', sequence, len(values)) + b''.join(
        struct.pack('>H', len(v)) + v for v in values)


def message(sequence):
    return (b'%08d ' % sequence).ljust(1000, b'.')


def test_a_feed_has_gaps_with_cause_local():
    feed = f'name=full,framing=moldudp64,group={GROUP},port={PORT},topic=f'
    with Net() as net, Disk() as disk, NetBus(net, folder=disk.folder) as bus:
        bus.topic_create('f', '--segment-bytes', '1M', '--ring-bytes', '1M')
        bus.stop()
        bus.start(['--feed', feed])
        sock = net.socket()
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(CLIENT_IP))
        sent = 0

        def send(n):
            nonlocal sent
            for i in range(n):
                sent += 1
                sock.sendto(moldudp64(sent, [message(sent)]), (GROUP, PORT))
                # the port keeps 512 frames: what it loses would be a gap of the wire
                if i % 400 == 399 or i == n - 1:
                    wait_for(f'{sent} datagrams have come', lambda: bus.counter(
                        'feed_packets_total', feed='full') >= sent)

        def arrived():
            wait_for(f'{sent} messages have come', lambda: bus.counter(
                'feed_events_total', feed='full') + missing('local') >= sent)

        def missing(cause):
            return bus.counter('feed_missing_total', feed='full', cause=cause)

        disk.ballast(8 * MIB)
        send(3000)
        arrived()
        assert missing('local') == 0
        for again in (1, 2):
            send(12000)
            arrived()
            lost = missing('local')
            assert lost > 1000 * again, lost
            # reading goes on
            assert len(bus.consume('f')) >= 3000
            disk.room()
            wait_for('there is room', lambda: not send(1) and bus.consume('f')[-1].get(
                'feed', {}).get('sequence', 0) == sent)
            send(2000)
            arrived()
            wait_for('all is durable', lambda: bus.consume('f')[-1].get(
                'feed', {}).get('sequence', 0) == sent)
            disk.ballast(8 * MIB)
        entries = bus.consume('f')
        following, local, events = 1, 0, 0
        for e in entries:
            if 'gap' in e:
                assert e['gap']['cause'] == 'local', e
                assert e['gap']['first'] == following, (e, following)
                following += e['gap']['count']
                local += e['gap']['count']
                continue
            assert e['feed']['sequence'] == following, (e['feed'], following)
            assert e['value'].encode() == message(following)
            following += 1
            events += 1
        assert following == sent + 1, (following, sent)
        assert [e['offset'] for e in entries] == list(range(len(entries)))
        gaps = sum('gap' in e for e in entries)
        print(f'  {sent} sent, {events} stored, {local} missing in {gaps} gaps')
        assert local == missing('local')
        assert missing('wire') == 0
        sock.close()


if __name__ == '__main__':
    main(globals())
