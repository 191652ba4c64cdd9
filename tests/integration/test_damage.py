#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Flipped bits and full disks: damage is named with its place and never served, the rest is;
a full disk refuses to publish, serves reading, and goes on when there is space.
"""
import json
import os
import re
import shutil
import subprocess
import tempfile
import time

from hfbtest import Bus, main, skip

SMALL_SEGMENTS = ['--segment-bytes', '1M', '--ring-bytes', '1M']


def files(bus, end):
    found = []
    for folder, _, names in os.walk(os.path.join(bus.data, 'topics')):
        found += [os.path.join(folder, n) for n in names if n.endswith(end)]
    return sorted(found)


def flip(path, at):
    with open(path, 'r+b') as f:
        f.seek(at)
        byte = f.read(1)
        f.seek(at)
        f.write(bytes([byte[0] ^ 0x40]))


def value(i):
    return f'{i:06d} ' + 'abcdefgh' * 12


def dump(bus, path):
    r = bus.hfbus('dump', '--json', path, check=False)
    return r.returncode, [json.loads(line) for line in r.stdout.splitlines()]


def check_damage(bus, n, path):
    """Whole events but those of one batch, which is named; returns the offsets missing."""
    r = bus.hfbus('consume', 't', '--from', 'earliest', '--until-end', '--format', 'json', check=False)
    assert r.returncode == 1, (r.returncode, r.stderr)
    items = [json.loads(line) for line in r.stdout.splitlines()]
    marks = [e['mark'] for e in items if 'mark' in e]
    assert len(marks) == 1 and marks[0]['kind'] == 'corrupt', marks
    assert marks[0]['path'] == path, (marks, path)
    assert re.search(rf'corrupt: {re.escape(path)} at positions \d+ to \d+', r.stderr), r.stderr
    missing = set(range(marks[0]['from_offset'], marks[0]['to_offset']))
    got = {e['offset']: e['value'] for e in items if 'value' in e}
    assert set(got) == set(range(n)) - missing
    assert all(v == value(o) for o, v in got.items())
    return missing


def test_a_flipped_bit_in_a_sealed_segment():
    with Bus() as bus:
        bus.topic_create('t', *SMALL_SEGMENTS)
        n = 30000
        bus.publish('t', [value(i) for i in range(n)])
        bus.stop()
        segments = files(bus, '.seg')
        path = next(p for p in segments if p.endswith('00000000000001048576.seg'))
        code, batches = dump(bus, path)
        assert code == 0 and batches[-1]['bad'] == 0, batches[-1]
        victim = [b for b in batches if b.get('count')][1]
        base = batches[0]['base_position']
        for at in (64 + 100, 12):       # its records; its header, in place of the first
            flip(path, 4096 + victim['position'] - base + at)
            bus.start()
            missing = check_damage(bus, n, path)
            assert victim['base_offset'] in missing
            if at == 164:
                assert len(missing) == victim['count']
            # publishing goes on, and so does what comes after
            bus.publish('t', [value(n)])
            n += 1
            assert n - 1 not in check_damage(bus, n, path)
            bus.stop()
            code, after = dump(bus, path)
            assert code == 1 and after[-1]['bad'] == 1
            assert [b['position'] for b in after if b.get('check') not in (None, 'ok')] == \
                [victim['position']]
            flip(path, 4096 + victim['position'] - base + at)
        bus.start()
        assert len(bus.values('t')) == n    # the bit is back, nothing was cut away


def test_a_flipped_bit_in_the_tail_after_a_clean_stop():
    with Bus() as bus:
        bus.topic_create('t')
        bus.publish('t', [value(i) for i in range(1000)])
        bus.publish('t', [value(1000)])
        bus.stop()
        path, = [p for p in files(bus, '.seg') if dump(bus, p)[1][-1]['batches'] > 0]
        _, batches = dump(bus, path)
        last = [b for b in batches if b.get('count')][-1]
        assert last['base_offset'] == 1000
        flip(path, 4096 + last['position'] + 64 + 30)
        bus.start()
        # the end mark proves that it was durable: damage, not a torn tail
        assert check_damage(bus, 1001, path) == {1000}
        bus.publish('t', [value(1001)])
        assert check_damage(bus, 1002, path) == {1000}


def test_a_flipped_bit_in_an_index():
    with Bus() as bus:
        bus.topic_create('t', *SMALL_SEGMENTS)
        n = 30000
        bus.publish('t', [value(i) for i in range(n)])
        bus.stop()
        for path in files(bus, '.idx'):
            flip(path, 100)
            bus.start()
            assert len(bus.values('t')) == n
            assert bus.values('t', '--from', '12345', '--count', '1') == [value(12345)]
            bus.stop()
        bus.start()


def test_a_flipped_bit_in_a_segment_header():
    with Bus() as bus:
        bus.topic_create('t', *SMALL_SEGMENTS)
        n = 30000
        bus.publish('t', [value(i) for i in range(n)])
        bus.stop()
        path = next(p for p in files(bus, '.seg') if p.endswith('00000000000001048576.seg'))
        flip(path, 40)
        code, _ = dump(bus, path)
        assert code == 1
        bus.start()
        r = bus.hfbus('consume', 't', '--from', 'earliest', '--until-end', '--format', 'json',
                      check=False)
        said = r.stderr + '\n'.join(bus.process.err)
        assert os.path.basename(path) in said, said
        got = {}
        for line in r.stdout.splitlines():
            e = json.loads(line)
            if 'value' in e:
                got[e['offset']] = e['value']
        # what the file holds may be served, as its batches prove themselves, or may not; the
        # rest is, and nothing false is
        assert all(v == value(o) for o, v in got.items())
        assert len(got) > n - 10000 and 0 in got and n - 1 in got, len(got)
        bus.publish('t', [value(n)])
        assert bus.values('t', '--from', str(n)) == [value(n)]


def test_a_full_disk():
    """Root only: a file system that is small, then larger."""
    if os.geteuid() != 0:
        skip('mounting a small file system needs root')
    folder = tempfile.mkdtemp(prefix='hfbus-test-')
    small = os.path.join(folder, 'small')
    os.mkdir(small)
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=20m', 'hfbus-test', small],
                      check=False).returncode != 0:
        shutil.rmtree(folder)
        skip('no tmpfs can be mounted here')
    try:
        with Bus(folder=small) as bus:
            bus.topic_create('t', *SMALL_SEGMENTS)
            lines = [value(i) for i in range(300000)]
            r = bus.publish('t', lines, check=False)
            assert r.returncode == 1, r.stderr
            assert 'full' in r.stderr and '--retention-bytes' in r.stderr, r.stderr
            acked = int(re.search(r'(\d+) acked', r.stderr).group(1))
            assert 50000 < acked < 300000
            # reading goes on
            got = bus.values('t')
            assert len(got) >= acked and got == lines[:len(got)]
            # refused again while it is full, but quickly and clearly
            r = bus.publish('t', ['no room'] * 100000, check=False)
            assert r.returncode == 1 and 'full' in r.stderr, r.stderr
            # a patient producer goes on by itself when there is space
            n = len(bus.values('t'))
            patient = subprocess.Popen(['python3', '-c', 'print("patient\\n" * 50000, end="")'],
                                       stdout=subprocess.PIPE)
            p = bus.spawn('publish', 't', '--wait', '60s', stdin=patient.stdout)
            time.sleep(0.5)
            assert p.running(), p.tail()
            subprocess.run(['mount', '-o', 'remount,size=200m', small], check=True)
            assert p.wait() == 0, p.tail()
            patient.wait()
            assert bus.values('t')[n:].count('patient') == 50000
            states = {q['state'] for q in bus.stat()['partitions']}
            assert states == {'open'}, states
            # over a kill too
            bus.restart(kill=True)
            assert bus.values('t')[:acked] == lines[:acked]
            assert bus.values('t')[n:].count('patient') == 50000
    finally:
        subprocess.run(['umount', small], check=False)
        shutil.rmtree(folder, ignore_errors=True)


main(globals())
