# SPDX-License-Identifier: Apache-2.0
"""
A flipped bit, in each kind of file of a data folder, through the real programs.

Goal:   it is detected and named (path and position); the events of the damaged batch are
        never served, all others are, to local readers and over UDP.
Method: a log of several segments is made and stopped cleanly. The batches in its files
        are found here from the layout alone (docs/STORAGE.md, <hfbus/log.h>), so that what
        must be missing is known. One bit is flipped, the bus started again, all read.
"""
import glob
import json
import os
import random
import re
import shutil
import struct
import tempfile

from hfbtest import Bus, Process, main, program, wait_for
from hfbnet import Net, NetBus

HEADER = 4096
BATCH = struct.Struct('<IIQIBBHIIQQQIHH')
CONTROL = 1
LINES = 24000


class Batch:
    def __init__(self, path, base, at, fields):
        self.path, self.file_offset = path, at
        self.position = base + at - HEADER
        self.size, _, self.offset, self.count = fields[:4]
        self.control = bool(fields[6] & CONTROL)

    @property
    def end(self):
        return self.position + self.size

    def offsets(self):
        return range(self.offset, self.offset + self.count)


def batches(path):
    """All batches of a segment file, from its start to the log's end in it."""
    base = int(os.path.basename(path)[:20])
    with open(path, 'rb') as f:
        data = f.read()
    found, at, offset = [], HEADER, None
    while at + BATCH.size <= len(data):
        fields = BATCH.unpack_from(data, at)
        size = fields[0]
        if size < BATCH.size or size % 8 or at + size > len(data):
            break
        if offset is not None and fields[2] != offset:
            break
        found.append(Batch(path, base, at, fields))
        offset = fields[2] + (0 if found[-1].control and fields[3] == 0 else fields[3])
        at += size
    return found


def flip(path, at, bit=0):
    with open(path, 'r+b') as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ (1 << bit)]))


class Log:
    """A stopped data folder with one topic, copied anew for each kind of damage."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix='hfbus-damage-', dir=os.environ.get('HFBUS_TEST_DIR'))
        self.random = random.Random(11)
        self.lines = [f'{i:06d} ' + 'abcdefghij' * (5 + i % 23) for i in range(LINES)]

    def __enter__(self):
        try:
            with Bus(folder=self.folder) as bus:
                bus.topic_create('t', '--segment-bytes', '1M', '--ring-bytes', '1M')
                # a batch that fits the first segment, which is a small one
                bus.publish('t', self.lines[:100])
                bus.publish('t', self.lines[100:])
        except BaseException:
            self.__exit__()
            raise
        self.partition, = glob.glob(os.path.join(self.folder, 'data/topics/t/*/0'))
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder, ignore_errors=True)

    def copy(self, folder):
        """The partition's folder in a copy of all."""
        shutil.copytree(os.path.join(self.folder, 'data'), os.path.join(folder, 'data'),
                        ignore=lambda _, names: [n for n in names if n.endswith('.sock')])
        return folder + self.partition[len(self.folder):]


_log = None


def log():
    global _log
    if _log is None:
        _log = Log().__enter__()
    return _log


class Damaged:
    """A bus over a copy of the log, damaged by change(partition's folder)."""

    def __init__(self, change, bus=None):
        self.change, self.make = change, bus or Bus

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix='hfbus-damaged-', dir=os.environ.get('HFBUS_TEST_DIR'))
        try:
            self.partition = log().copy(self.folder)
            self.damage = self.change(self.partition)
            self.bus = self.make(folder=self.folder)
            self.bus.__enter__()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        self.bus.damage, self.bus.partition = self.damage, self.partition
        return self.bus

    def __exit__(self, *how):
        try:
            self.bus.__exit__(*how)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


def segments(partition):
    """Those that hold log, in order."""
    return [p for p in sorted(glob.glob(os.path.join(partition, '*.seg'))) if batches(p)]


def read_all(bus, *args):
    """(offset -> value, marks, standard error) of everything."""
    r = bus.hfbus('consume', 't', '--from', 'earliest', '--until-end', '--format', 'json', *args,
                  check=False)
    return taken(r)


def taken(r):
    events, marks, last = {}, [], -1
    for line in r.stdout.splitlines():
        e = json.loads(line)
        if 'mark' in e:
            marks.append(e['mark'])
            continue
        assert e['offset'] > last, e
        last = e['offset']
        events[last] = e['value']
    assert r.returncode == (1 if any(m['kind'] == 'corrupt' for m in marks) else 0), (
        r.returncode, r.stderr)
    return events, marks, r.stderr


def check(events, missing=()):
    """All that was published but what is missing, each at its offset."""
    expected = {i: line for i, line in enumerate(log().lines) if i not in set(missing)}
    wrong = [i for i in events if events[i] != expected.get(i)]
    assert not wrong, f'served and false or damaged: {wrong[:10]}'
    lost = sorted(set(expected) - set(events))
    assert not lost, f'not served: {len(lost)}, the first {lost[:10]}'


def check_marks(marks, batch, path=None):
    """One mark, and it says where."""
    corrupt = [m for m in marks if m['kind'] == 'corrupt']
    assert len(corrupt) == 1, marks
    m = corrupt[0]
    assert m['from_position'] == batch.position and m['to_position'] == batch.end, (m, vars(batch))
    assert m['from_offset'] == batch.offset, (m, vars(batch))
    assert m.get('to_offset', batch.offset + batch.count) == batch.offset + batch.count, m
    if path is not None:
        assert m['path'].endswith(path), m


def dump(bus, path):
    r = bus.hfbus('dump', '--json', '--quiet', path, check=False)
    lines = [json.loads(line) for line in r.stdout.splitlines()]
    bad = [(x['position'], x['next']) for x in lines if 'next' in x]
    return r.returncode, bad, r.stderr


def said(bus, pattern):
    """hfbusd says so on standard error, at the start."""
    return bus.process.line(pattern, where='err', timeout=10)


# the log itself ------------------------------------------------------------------------

def test_the_log_that_is_damaged_here():
    """Undamaged, all of it is served: what the other tests build on."""
    paths = segments(log().partition)
    assert len(paths) >= 4, paths
    total = [b for p in paths for b in batches(p)]
    assert total[-1].control and sum(b.count for b in total if not b.control) == LINES
    assert all(a.end == b.position for a, b in zip(total, total[1:]))
    with Damaged(lambda partition: None) as bus:
        events, marks, _ = read_all(bus)
        check(events)
        assert not marks
        assert bus.counter('recovery_corrupt_total') == 0
        assert not [line for line in bus.process.err if 'partition 0:' in line], bus.process.err


def pick(partition, segment, which):
    """A batch of events in the middle of a segment, or the last one."""
    found = [b for b in batches(segments(partition)[segment]) if not b.control]
    return found[len(found) // 2 if which == 'middle' else -1]


def in_payload(segment, which='middle'):
    def change(partition):
        b = pick(partition, segment, which)
        flip(b.path, b.file_offset + log().random.randrange(64, b.size), log().random.randrange(8))
        return b
    return change


def in_header(segment, which='middle', byte=None):
    def change(partition):
        b = pick(partition, segment, which)
        flip(b.path, b.file_offset + (log().random.randrange(64) if byte is None else byte),
             log().random.randrange(8))
        return b
    return change


def damaged_batch(change):
    with Damaged(change) as bus:
        b = bus.damage
        events, marks, told = read_all(bus)
        check(events, b.offsets())
        check_marks(marks, b, os.path.basename(b.path))
        assert re.search(rf'corrupt: \S*{os.path.basename(b.path)}\S* at positions {b.position} ', told), told
        status, bad, _ = dump(bus, b.path)
        assert status == 1 and bad == [(b.position, b.end)], (status, bad, vars(b))
        # a reader that begins inside of it, or right behind
        r = bus.hfbus('consume', 't', '--from', str(b.offset + b.count // 2), '--count', '3',
                      '--until-end', '--format', 'json', check=False)
        inside, _, _ = taken(r)
        assert list(inside) == [b.offset + b.count + i for i in range(min(3, LINES - b.offset - b.count))], (
            inside, b.offset, b.count)
        # and what is written now goes behind, and is all there
        more = [f'more {i}' for i in range(200)]
        bus.publish('t', more)
        events, marks, _ = read_all(bus)
        assert [events.pop(LINES + i) for i in range(200)] == more
        check(events, b.offsets())
        check_marks(marks, b)
        # it is so after a kill, too: recovery scans the last segment then
        bus.kill()
        bus.start()
        events, marks, _ = read_all(bus)
        assert [events.pop(LINES + i) for i in range(200)] == more
        check(events, b.offsets())
        check_marks(marks, b)


def test_payload_in_a_sealed_segment():
    damaged_batch(in_payload(1))


def test_header_in_a_sealed_segment():
    damaged_batch(in_header(2))


def test_size_in_a_header_of_a_sealed_segment():
    damaged_batch(in_header(1, byte=1))


def test_first_segment_of_all():
    damaged_batch(in_payload(0))


def test_payload_in_the_tail_after_a_clean_stop():
    damaged_batch(in_payload(-1, 'last'))


def test_header_in_the_tail_after_a_clean_stop():
    damaged_batch(in_header(-1, 'last'))


def test_middle_of_the_last_segment_after_a_clean_stop():
    damaged_batch(in_payload(-1))


def test_end_mark_after_a_clean_stop():
    """It holds no event: nothing is missing, and it is named."""
    def change(partition):
        b = batches(segments(partition)[-1])[-1]
        assert b.control
        flip(b.path, b.file_offset + 17)
        return b
    with Damaged(change) as bus:
        events, marks, _ = read_all(bus)
        check(events)
        corrupt = [m for m in marks if m['kind'] == 'corrupt']
        assert [m['from_position'] for m in corrupt] == [bus.damage.position], marks


# beside the log --------------------------------------------------------------------------

def test_index():
    """Of a sealed segment: built again from it, and said."""
    def change(partition):
        path = sorted(glob.glob(os.path.join(partition, '*.idx')))[1]
        flip(path, os.path.getsize(path) // 2)
        return path
    with Damaged(change) as bus:
        said(bus, re.escape(bus.damage) + r'.*built anew')
        events, marks, _ = read_all(bus)
        check(events)
        assert not marks
        for at in (LINES // 3, LINES // 2):
            r = bus.hfbus('consume', 't', '--from', str(at), '--count', '2', '--format', 'json')
            assert [json.loads(x)['offset'] for x in r.stdout.splitlines()] == [at, at + 1]
        bus.restart()
        assert not [line for line in bus.process.err if '.idx' in line], bus.process.err


def test_index_and_its_segment():
    """Both: the scan that builds the index finds the batch, at the start already."""
    def change(partition):
        b = in_payload(1)(partition)
        flip(b.path[:-4] + '.idx', 70)
        return b
    with Damaged(change) as bus:
        b = bus.damage
        said(bus, re.escape(b.path) + rf': corrupt at position {b.position} ')
        assert bus.counter('recovery_corrupt_total') == 1
        events, marks, _ = read_all(bus)
        check(events, b.offsets())
        check_marks(marks, b)


def header_damage(segment):
    def change(partition):
        path = segments(partition)[segment]
        flip(path, 9, 3)
        return path
    with Damaged(change) as bus:
        said(bus, re.escape(bus.damage) + r'.*header')
        events, marks, _ = read_all(bus)
        check(events)
        assert not marks, marks
        status, _, told = dump(bus, bus.damage)
        assert status == 1 and bus.damage in told and 'header' in told, told
        bus.publish('t', ['behind'])
        events, _, _ = read_all(bus)
        assert events.pop(LINES) == 'behind'
        check(events)


def test_segment_header_of_a_sealed_one():
    header_damage(1)


def test_segment_header_of_the_last():
    header_damage(-1)


def test_checkpoint():
    def change(partition):
        path = os.path.join(partition, 'checkpoint')
        flip(path, os.path.getsize(path) // 2)
        return path
    with Damaged(change) as bus:
        said(bus, re.escape(bus.damage))
        events, marks, _ = read_all(bus)
        check(events)
        assert not marks


def test_checkpoint_and_a_segment():
    """The whole log is scanned: recovery itself finds the batch, and says where."""
    def change(partition):
        path = os.path.join(partition, 'checkpoint')
        flip(path, 30)
        return in_header(1)(partition)
    with Damaged(change) as bus:
        b = bus.damage
        said(bus, re.escape(b.path) + rf': corrupt at position {b.position} ')
        assert bus.counter('recovery_corrupt_total') == 1
        events, marks, _ = read_all(bus)
        check(events, b.offsets())
        check_marks(marks, b)


def test_leader_epoch():
    """The file is one number: the logs know it as well, and it never goes back."""
    def change(partition):
        path = os.path.realpath(os.path.join(partition, '../../../../epoch'))
        flip(path, 17, 2)
        return path
    with Damaged(change, lambda **more: Bus(control=False, **more)) as bus:
        said(bus, re.escape(bus.damage) + '.*damaged')
        assert int(bus.process.line(r'epoch=(\d+)')[1]) > 1, bus.process.out
        events, marks, _ = read_all(bus)
        check(events)
        assert not marks


def test_while_it_runs():
    """A disk that loses a bit under a running bus: the same, without a start between."""
    with Damaged(lambda partition: None) as bus:
        b = in_payload(1)(bus.partition)
        index = sorted(glob.glob(os.path.join(bus.partition, '*.idx')))[2]
        flip(index, 90)
        at = batches(index[:-4] + '.seg')[-1].offset - 5
        r = bus.hfbus('consume', 't', '--from', str(at), '--count', '2', '--format', 'json')
        assert [json.loads(x)['offset'] for x in r.stdout.splitlines()] == [at, at + 1]
        said(bus, re.escape(index))
        events, marks, _ = read_all(bus)
        check(events, b.offsets())
        check_marks(marks, b, os.path.basename(b.path))


def test_catalogue():
    """Refused by name. Moved away, hfbus-control brings the topics again, with their data."""
    folder = tempfile.mkdtemp(prefix='hfbus-damaged-', dir=os.environ.get('HFBUS_TEST_DIR'))
    try:
        log().copy(folder)
        path = os.path.join(folder, 'data/catalogue')
        for at in (0, 20, 40, os.path.getsize(path) // 2):
            flip(path, at)
            bus = Bus(folder=folder, control=False)
            hfbusd = Process([program('hfbusd'), '--data', bus.data, '--idle', 'adaptive'],
                             env=bus.env)
            assert hfbusd.wait() == 1, hfbusd.tail()
            assert not hfbusd.out, hfbusd.out
            assert any(path in line and 'catalogue' in line for line in hfbusd.err), hfbusd.tail()
            flip(path, at)
        flip(path, 100)
        os.rename(path, path + '.damaged')
        with Bus(folder=folder) as bus:
            wait_for('the topic is back', lambda: bus.hfbus(
                'consume', 't', '--from', 'earliest', '--until-end', '--count', '1',
                check=False).returncode == 0)
            events, marks, _ = read_all(bus)
            check(events)
            assert not marks
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# over UDP ----------------------------------------------------------------------------------

def over_udp(change, scanned=False):
    with Net() as net, Damaged(change, lambda **more: NetBus(net, **more)) as bus:
        b = bus.damage
        if scanned:
            said(bus, re.escape(b.path) + rf': corrupt at position {b.position} ')
        r = net.hfbus(bus, 'consume', 't', '--from', 'earliest', '--until-end', '--format', 'json',
                      check=False)
        events, marks, told = taken(r)
        check(events, b.offsets())
        check_marks(marks, b)
        assert f'{b.position}' in told, told


def test_payload_over_udp():
    over_udp(in_payload(1))


def test_header_over_udp():
    over_udp(in_header(1))


def test_tail_over_udp():
    over_udp(in_payload(-1, 'last'))


def test_segment_header_over_udp():
    def change(partition):
        path = segments(partition)[1]
        flip(path, 20)
        return path
    with Net() as net, Damaged(change, lambda **more: NetBus(net, **more)) as bus:
        said(bus, re.escape(bus.damage) + r'.*header')
        r = net.hfbus(bus, 'consume', 't', '--from', 'earliest', '--until-end', '--format', 'json')
        events, marks, _ = taken(r)
        check(events)
        assert not marks, marks


def test_what_recovery_found_over_udp():
    def change(partition):
        path = os.path.join(partition, 'checkpoint')
        flip(path, 30)
        return in_payload(2)(partition)
    over_udp(change, scanned=True)


try:
    main(globals())
finally:
    if _log is not None:
        _log.__exit__()
