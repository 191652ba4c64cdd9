#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Events over few keys in a compacted topic, under reads and kill -9 of the whole bus.

The last value of each key must be there in the end, every event that is there at the offset it
always had, and the space of the others given back. Event n of the one publisher has offset n: so
each reader can tell by itself whether an offset changed.

usage: compact.py BUILD_DIR [--events 1000000] [--keys 10000] [--kills 10] [--seed 1]
"""
import argparse
import json
import os
import random
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'integration'))

TOPIC = 'table'


class Reader(threading.Thread):
    """Reads on and on from somewhere; what it sees must be what was published, in order."""

    def __init__(self, bus, model, every):
        super().__init__(daemon=True)
        self.bus, self.model, self.every = bus, model, every
        self.seen, self.wrong, self.runs, self.ended = 0, [], 0, False

    def run(self):
        import hfbtest
        while not self.ended:
            start = random.randrange(max(1, self.model.published))
            argv = [hfbtest.program('hfbus'), 'consume', TOPIC, '--format', 'json', '--from',
                    'earliest' if self.runs % 2 == 0 else str(start), '--until-end']
            self.runs += 1
            before = -1
            with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                  env=self.bus.env) as child:
                for line in child.stdout:
                    item = json.loads(line)
                    if 'mark' in item:
                        if item['mark']['kind'] not in ('retired', 'lapped', 'truncated'):
                            self.wrong.append(line)
                        before = -1
                        continue
                    why = self.model.event_wrong(item)
                    if why or item['offset'] <= before:
                        self.wrong.append((why or 'order', line[:200]))
                    before = item['offset']
                    self.seen += 1
                    if self.ended:
                        child.kill()
                        break
            time.sleep(self.every)


class Model:
    def __init__(self, options):
        self.keys, self.published = options.keys, 0
        self.random = random.Random(options.seed)
        self.key_of, self.last = [], {}

    def lines(self, count):
        for _ in range(count):
            n = len(self.key_of)
            key = self.random.randrange(self.keys)
            self.key_of.append(key)
            self.last[key] = n
            yield f'k{key}|{n} ' + 'v' * 90 + '\n'

    def event_wrong(self, item):
        n = int(item['value'].split()[0])
        if n != item['offset']:
            return f'offset {item["offset"]} holds event {n}'
        if item['key'] != f'k{self.key_of[n]}':
            return f'event {n} has key {item["key"]}'
        return None


def segments(data):
    """(path, kind, bytes on disk, positions) of each segment file."""
    found = []
    for folder, _, names in os.walk(os.path.join(data, 'topics', TOPIC)):
        for name in names:
            if not name.endswith('.seg'):
                continue
            path = os.path.join(folder, name)
            try:
                with open(path, 'rb') as f:
                    head = f.read(64)
                kind, _, capacity = struct.unpack_from('<IQQ', head, 36)
                found.append((path, kind, os.stat(path).st_blocks * 512, capacity))
            except (OSError, struct.error):
                pass
    return sorted(found)


def read_all(bus, model):
    found = {}
    for item in bus.consume(TOPIC):
        assert 'mark' not in item, item
        why = model.event_wrong(item)
        assert why is None, why
        found[item['offset']] = model.key_of[item['offset']]
    return found


def compact(options):
    import hfbtest
    from hfbtest import Bus, wait_for
    model = Model(options)
    with Bus() as bus:
        bus.topic_create(TOPIC, '--cleanup', 'compact', '--segment-bytes', options.segment)
        readers = [Reader(bus, model, 0.05), Reader(bus, model, 0.5)]
        for reader in readers:
            reader.start()
        rounds = options.kills + 1
        for i in range(rounds):
            publish = subprocess.Popen([hfbtest.program('hfbus'), 'publish', TOPIC, '--quiet',
                                        '--key-delimiter', '|', '--wait', '60s'],
                                       stdin=subprocess.PIPE, env=bus.env)
            killer = threading.Timer(0.2 + random.random(), bus.restart, kwargs={'kill': True})
            if i > 0:
                killer.start()
            for line in model.lines(options.events // rounds):
                publish.stdin.write(line.encode())
            publish.stdin.close()
            assert publish.wait(timeout=300) == 0, 'publishing failed'
            model.published = len(model.key_of)
            if i > 0:
                killer.join()
            time.sleep(1.2)  # a round of the helper, so that kills meet compaction as well
        written = wait_for('positions', lambda: json.loads(bus.hfbus(
            'topic', 'describe', TOPIC, '--json').stdout)['partitions'])[0]
        # one batch more, so that a checkpoint follows the last roll: nothing to wait for else
        wait_for('compaction', lambda: sum(kind == 1 for _, kind, _, _ in segments(bus.data)) > 0 and
                 still(bus.data), timeout=300)
        for reader in readers:
            reader.ended = True
        for reader in readers:
            reader.join(60)
        wrong = [w for r in readers for w in r.wrong]
        assert not wrong, wrong[:3]
        files = segments(bus.data)
        sealed_end = sum(capacity for _, kind, _, capacity in files if kind == 1)
        found = read_all(bus, model)
        lost = [k for k, n in model.last.items() if n not in found]
        assert not lost, f'{len(lost)} keys have lost their last value'
        bus.restart(kill=True)
        assert read_all(bus, model).keys() >= {n for n in model.last.values()}
        bus.restart()
        assert read_all(bus, model) == found, 'a restart changed what is there'
        print(json.dumps({
            'events': model.published, 'keys': len(model.last), 'kills': options.kills + 1,
            'events_left': len(found), 'log_bytes': written['received']['position'],
            'disk_bytes': sum(size for _, _, size, _ in files),
            'compacted_bytes': sum(size for _, kind, size, _ in files if kind == 1),
            'compacted_of': sealed_end, 'segments': len(files),
            'read_meanwhile': sum(r.seen for r in readers),
            'reads': sum(r.runs for r in readers), 'errors': 0}))


def still(data):
    """Nothing changes for a while, and nothing is being made."""
    before = segments(data)
    time.sleep(3)
    names = [n for _, _, f in os.walk(os.path.join(data, 'topics', TOPIC)) for n in f]
    return before == segments(data) and not any(n.endswith('.compact.tmp') for n in names)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('build')
    parser.add_argument('--events', type=int, default=1000000)
    parser.add_argument('--keys', type=int, default=10000)
    parser.add_argument('--kills', type=int, default=10)
    parser.add_argument('--segment', default='4M')
    parser.add_argument('--seed', type=int, default=1)
    options = parser.parse_args()
    os.environ['HFBUS_BUILD'] = options.build
    random.seed(options.seed)
    compact(options)


if __name__ == '__main__':
    main()
