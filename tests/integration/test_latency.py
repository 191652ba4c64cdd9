#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The histograms of stages agree with the events that came, and their times are in order."""
import json

from hfbtest import Bus, main, wait_for

ORDER = ['received_appended', 'received_submitted', 'received_durable', 'received_acked']


def stages(bus, *args):
    """{(stage, core): figures} of `hfbus stat --latency`."""
    answer = json.loads(bus.hfbus('stat', '--latency', '--json', *args).stdout)
    return {(s['stage'], s['core']): s for s in answer['stages']}, answer['window_ns']


def all_counted(bus):
    """Each event that was appended is in each histogram of its way."""
    now, _ = stages(bus)
    appended = bus.counter('append_events_total')
    return appended if all(now[(s, 'all')]['count'] == appended for s in ORDER) else None


def test_counts_and_order():
    with Bus(args=('--cores', '0,1')) as bus:
        bus.topic_create('t', '--partitions', '4')
        for i in range(20):
            bus.publish('t', [f'{i} {j}' for j in range(50 if i % 2 else 1)], '--key', f'k{i}')
        wait_for('all events are counted at all stages', lambda: all_counted(bus))
        now, window = stages(bus)
        assert window is None
        assert now[('received_durable', 'all')]['count'] >= 10 * 51
        for core in ('all', 0, 1):
            writes = now[('write', core)]
            assert writes['weight'] == 'writes' and now[('flush', core)]['weight'] == 'flushes'
            before = None
            for stage in (now[(s, core)] for s in ORDER):
                assert stage['weight'] == 'events'
                if stage['count'] == 0:
                    continue
                figures = [stage[k] for k in ('min_ns', 'p50_ns', 'p90_ns', 'p99_ns', 'p99.9_ns',
                                              'max_ns')]
                assert figures == sorted(figures), stage
                # the same events, each later: no share of them can be earlier, but for
                # the width of a bucket and of a step of the short clock
                for a, b in zip(before or figures, figures):
                    assert b >= a * 0.98 - 60, (core, before, stage)
                before = figures
        # two cores had events, and what they had adds up
        each = [now[('received_appended', c)]['count'] for c in (0, 1)]
        assert all(each) and sum(each) == now[('received_appended', 'all')]['count'], each
        # a write is nothing an event waits for before it is submitted, but all do after
        wait_for('writes are counted alike', lambda: stages(bus)[0][('write', 'all')]['count'] ==
                 bus.counter('disk_writes_total'))
        assert now[('write', 'all')]['min_ns'] <= now[('received_durable', 'all')]['max_ns']


def test_windows():
    with Bus() as bus:
        bus.topic_create('t')
        bus.publish('t', ['before'] * 1000)
        wait_for('all before the window is counted', lambda: all_counted(bus))
        first = bus.counter('append_events_total')
        window = bus.spawn('stat', '--latency', '--interval', '1s', '--json')
        while window.running():
            bus.publish('t', ['within'] * 10)
        assert window.wait() == 0
        wait_for('all behind the window is counted', lambda: all_counted(bus))
        last = bus.counter('append_events_total')
        answer = json.loads(''.join(window.out))
        assert answer['window_ns'] >= 1e9
        counts = {s['stage']: s['count'] for s in answer['stages'] if s['core'] == 'all'}
        for s in ORDER:
            assert 0 < counts[s] <= last - first, (counts, first, last)
        # a window in which nothing comes has nothing in it, and says so
        empty, _ = stages(bus, '--interval', '1ms')
        assert empty[('received_durable', 'all')] == {
            'stage': 'received_durable', 'weight': 'events', 'count': 0, 'core': 'all'}
        text = bus.hfbus('stat', '--latency').stdout
        assert 'received_acked' in text and 'committed_pushed' not in text, text


def test_wrong_usage():
    with Bus() as bus:
        for wrong in (('--interval', '1s'), ('--latency', '--interval', '0s'),
                      ('--latency', '--interval', 'soon')):
            assert bus.hfbus('stat', *wrong, check=False).returncode == 2, wrong


if __name__ == '__main__':
    main(globals())
