#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Many topics of one partition, each with events in it: what they cost.

Created by `hfbus topic create`, written by one publisher each, listed; then hfbusd is killed and
started again, and stopped and started again. Prints the seconds and bytes of each step.

usage: many_topics.py BUILD_DIR [--topics 10000] [--limits]
With --limits the product's own limits must hold: created with their events in 60 s, a restart in
10 s, a list in 1 s, disk as `hfbusd --plan` says.
"""
import argparse
import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'integration'))

PREFIX = 'many.'
EVENTS = 3


def rss_bytes(pid):
    with open(f'/proc/{pid}/status', encoding='ascii') as status:
        for line in status:
            if line.startswith('VmRSS'):
                return int(line.split()[1]) * 1024
    return 0


def disk_bytes(folder):
    return int(subprocess.run(['du', '-s', '-B1', folder], capture_output=True, text=True,
                              check=True).stdout.split()[0])


def timed(what, result, name):
    began = time.monotonic()
    value = what()
    result[name] = round(time.monotonic() - began, 3)
    return value


def many(options):
    from hfbtest import Bus, program, run, wait_for
    count = options.topics
    names = [f'{PREFIX}{i:05}' for i in range(count)]
    result = {'topics': count}
    # a ring each is a descriptor each
    with Bus() as bus:
        def create():
            for i in range(0, count, 500):
                bus.hfbus('topic', 'create', *names[i:i + 500], timeout=600)

        def publish():
            r = run([os.path.join(options.build, 'tests/torture/torture-scatter'), bus.data, PREFIX,
                     count, EVENTS], timeout=600, env=bus.env)
            assert int(r.stdout) == count * EVENTS, r.stdout

        def listed():
            topics = json.loads(bus.hfbus('topic', 'list', '--json', timeout=600).stdout)['topics']
            mine = [t for t in topics if t['name'].startswith(PREFIX)]
            assert len(mine) == count and all(t['state'] == 'ready' for t in mine), len(mine)

        def ready():
            bus.start()
            return wait_for('all are served', lambda: json.loads(bus.hfbus(
                'topic', 'describe', names[-1], '--json').stdout)['partitions'])

        timed(create, result, 'create_s')
        timed(publish, result, 'events_s')
        result['create_and_events_s'] = round(result['create_s'] + result['events_s'], 3)
        timed(listed, result, 'list_s')
        result['hfbusd_rss_bytes'] = rss_bytes(bus.hfbusd_pid())
        result['disk_bytes'] = disk_bytes(bus.data)
        plan = json.loads(run([program('hfbusd'), '--data', bus.data, '--plan', '--json']).stdout)
        result['plan_disk_bytes'] = plan['segments_bytes_min']
        result['plan_memory_bytes'] = plan['memory_bytes_max']
        bus.kill()
        timed(ready, result, 'start_after_kill_s')
        timed(listed, result, 'list_after_kill_s')
        timed(bus.stop, result, 'stop_s')
        partitions = timed(ready, result, 'start_after_stop_s')
        assert partitions[0]['committed']['offset'] == EVENTS, partitions
        for name in names[::max(1, count // 20)]:
            assert bus.values(name) == [f'{name} {k}' for k in range(EVENTS)], name
        if options.delete:
            timed(lambda: [bus.hfbus('topic', 'delete', *names[i:i + 500], timeout=600)
                           for i in range(0, count, 500)], result, 'delete_s')
            left = [f for _, _, files in os.walk(os.path.join(bus.data, 'topics')) for f in files
                    if f.endswith('.seg')]
            assert len([n for n in left if PREFIX in n]) == 0, left[:3]
    print(json.dumps(result))
    assert result['disk_bytes'] <= result['plan_disk_bytes'] + (256 << 20), 'more than planned'
    if options.limits:
        assert result['create_and_events_s'] < 60, 'creating'
        assert max(result['start_after_kill_s'], result['start_after_stop_s']) < 10, 'starting'
        assert result['list_s'] < 1, 'listing'


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('build')
    parser.add_argument('--topics', type=int, default=10000)
    parser.add_argument('--limits', action='store_true')
    parser.add_argument('--delete', action='store_true')
    options = parser.parse_args()
    os.environ['HFBUS_BUILD'] = options.build
    many(options)


if __name__ == '__main__':
    main()
