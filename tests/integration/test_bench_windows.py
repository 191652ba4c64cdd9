#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Goal:   at a rate, each event that was due in the time measured has its latency, also one that
        came when the time was over: a stall at the end is not left out. A run that is ended
        early shows the rates of the time that it had, and no error.
Method: count what the histograms hold; an interrupt, early and late.
"""
import json
import os
import tempfile

from hfbnet import BUS_IP, Net, NetBus
from hfbtest import BUILD, INTERRUPT, Bus, Process, main, program, run, wait_for


def bench(*args):
    return json.loads(run([program('hfbus-bench'), *args, '--json']).stdout)


def counted(result, name):
    return result['curves'][name][-1][2]


def all_due(result, name, events):
    """The first and the last may fall on either side of the border."""
    return abs(counted(result, name) - events) <= result['options'].get('batch', 1)


def quiet_is_what_was_not_hit(result, name):
    """Stalls take out some, or all there is on a bad day, and never add to the tail."""
    quiet, every = f'{name}.quiet', result['metrics'][f'{name}.max']['median']
    if quiet in result['curves']:
        assert counted(result, quiet) <= counted(result, name), result['curves']
        assert result['metrics'][f'{quiet}.max']['median'] <= every, result['metrics']
    return quiet in result['curves']


def folder():
    # O_DIRECT does not work everywhere below /tmp
    return tempfile.TemporaryDirectory(prefix="bench's ", dir=BUILD)


PACED = ['--rate', '2000', '--duration', '500ms', '--warmup', '100ms']


def test_raw_limits_count_all_that_was_due():
    for limit in ('memif-echo', 'shm-relay', 'shm-hop'):
        found = bench('limit', limit, *PACED)
        assert all_due(found, 'latency', 1000), (limit, found['curves'])
    with folder() as data:
        disk = ['--data', data, '--batch', '5', '--file-size', '64MiB']
        # these count a batch once
        for what in (['limit', 'group-commit'], ['log']):
            found = bench(*what, *PACED, *disk)
            assert all_due(found, 'latency', 200), (what, found['curves'])
        # without a second CPU that spins nobody sees the stalls
        group_commit = ['limit', 'group-commit', *disk, *PACED[:2], '--warmup', '100ms']
        assert not quiet_is_what_was_not_hit(bench(*group_commit, '--cores', '0'), 'latency')
        if {0, 1} <= os.sched_getaffinity(0):
            wait_for('some of it is quiet', lambda: quiet_is_what_was_not_hit(
                bench(*group_commit, '--cores', '0,1'), 'latency'), 120)
        assert not os.listdir(data), os.listdir(data)


def test_a_bus_counts_all_that_was_due():
    with Bus() as bus:
        for args in (['echo', '--batch', '4', '--ack', 'durable'], ['echo', '--partitions', '3'],
                     ['fanout', '--batch', '2', '--cores', '0']):
            found = bench(*args, *PACED, '--data', bus.data, '--topic', f't-{args[2].strip("-")}')
            name = 'ack' if args[0] == 'echo' else 'one-way'
            assert all_due(found, name, 1000), (args, found['curves'])
        wait_for('some of it is quiet', lambda: quiet_is_what_was_not_hit(
            bench('echo', *PACED, '--data', bus.data, '--topic', 'quiet'), 'ack'), 120)


def test_the_same_by_every_way():
    with Net() as net, NetBus(net) as bus:
        bus.topic_create('t')
        ways = (['--transport', 'udp'], ['--transport', 'udp', '--address', BUS_IP],
                ['--transport', 'af_packet', '--device', f'iface={net.client_if}'])
        for way in ways:
            for what, name in ((['echo'], 'ack'), (['fanout', '--cores', '0'], 'one-way')):
                if name == 'one-way' and 'udp' not in way:
                    continue
                found = json.loads(run(
                    ['ip', 'netns', 'exec', net.client_ns, program('hfbus-bench'), *what, *PACED,
                     *way, '--topic', 't', '--data', bus.data, '--json'], env=bus.env).stdout)
                assert all_due(found, name, 1000), (way, found['curves'])


def interrupted(seconds, *args):
    """Ended by Ctrl-C once it has taken so much CPU time; what it printed."""
    child = Process([program('hfbus-bench'), *args, '--json'])

    def busy():
        with open(f'/proc/{child.pid}/stat', encoding='ascii') as f:
            fields = f.read().rsplit(')', 1)[1].split()
        return sum(map(int, fields[11:13])) >= seconds * os.sysconf('SC_CLK_TCK')
    wait_for('it has run for a while', busy)
    child.signal(INTERRUPT)
    assert child.wait() == 130, child.tail()
    assert not child.err, child.tail()
    found = json.loads(child.out[0])
    assert found['stopped'] is True
    return found


def test_an_early_end_shows_the_rate_it_had():
    for args in (['limit', 'shm-hop'], ['limit', 'shm-relay']):
        found = interrupted(0.5, *args, '--rate', '1000', '--duration', '60s', '--warmup', '0')
        # of 60 s it would be some 10
        assert found['metrics']['rate']['median'] > 200, found['metrics']


def test_an_end_in_the_warm_up_has_measured_nothing():
    with folder() as data:
        for args in (['limit', 'append-disk', '--file-size', '32MiB'],
                     ['log', '--file-size', '64MiB']):
            found = interrupted(0.5, *args, '--data', data, '--warmup', '60s')
            assert found['metrics']['rate']['median'] == 0, found['metrics']
        assert not os.listdir(data), os.listdir(data)


def test_a_limit_that_would_measure_nothing_is_refused():
    """Nothing in flight, no whole write within the ring, blocks that were never written."""
    with folder() as data:
        for args in (['append-disk', '--depth', '0'], ['append-disk', '--write-size', '8MiB'],
                     ['overwrite', '--depth', '0'],
                     ['overwrite', '--write-size', '1MiB', '--depth', '2', '--file-size', '1MiB'],
                     ['read', '--write-size', '2MiB', '--depth', '1', '--file-size', '1MiB']):
            argv = [program('hfbus-bench'), 'limit', *args, '--data', data]
            found = run([*argv, '--duration', '10ms'], check=False)
            assert found.returncode == 1, found
            assert args[1] in found.stderr, found.stderr
        assert not os.listdir(data), os.listdir(data)


def test_the_limits_have_a_help_of_their_own():
    found = run([program('hfbus-bench'), 'limit', '--help']).stdout
    assert 'limit memif-echo' in found and 'publish' not in found, found


if __name__ == '__main__':
    main(globals())
