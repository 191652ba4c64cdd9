# SPDX-License-Identifier: Apache-2.0
"""
hfbus up: how it ends.

Goal:   one wish to stop, however many signals bring it, is a clean stop with exit code 0, also
        while it starts; only a wish that comes again later ends hfbusd at once.
Method: signals to the real programs, at once and apart, and to an hfbusd that cannot stop.
"""
import os
import signal
import time

from hfbtest import Bus, Process, main, program, wait_for


def ended(process):
    return process.wait(), '\n'.join(process.err)


def test_signals_that_come_together_are_one():
    for apart in (0, 0.01, 0.05):
        with Bus() as bus:
            bus.topic_create('t')
            bus.publish('t', ['a', 'b', 'c'])
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                bus.process.signal(number)
                time.sleep(apart)
            code, said = ended(bus.process)
            assert code == 0 and 'at once' not in said, (code, said)
            bus.start()
            assert not any('torn' in line or 'CORRUPT' in line for line in bus.process.err)
            assert bus.values('t') == ['a', 'b', 'c']


def test_hfbusd_bears_them_too():
    with Bus(control=False) as bus:
        for _ in range(20):
            bus.process.signal(signal.SIGTERM)
            bus.process.signal(signal.SIGINT)
            time.sleep(0.002)
        code, said = ended(bus.process)
        assert code == 0 and said.count('stopping') == 1, (code, said)


def test_a_stop_while_it_starts_is_clean():
    bus = Bus()
    try:
        for delay in (0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4):
            process = Process([program('hfbus'), 'up', '--data', bus.data], env=bus.env, name='up')
            children = f'/proc/{process.pid}/task/{process.pid}/children'
            wait_for('hfbusd', lambda: open(children, encoding='ascii').read())
            time.sleep(delay)
            process.signal(signal.SIGTERM)
            process.signal(signal.SIGINT)
            code, said = ended(process)
            assert code == 0, (delay, code, said)
    finally:
        bus.process = None
        bus.__exit__(None, None, None)


def test_a_second_wish_ends_it_at_once():
    with Bus() as bus:
        pid = bus.hfbusd_pid()
        os.kill(pid, signal.SIGSTOP)
        bus.process.signal(signal.SIGTERM)
        time.sleep(0.3)
        bus.process.signal(signal.SIGTERM)
        time.sleep(0.3)
        assert bus.process.running(), 'too early to be a second wish'
        time.sleep(2)
        bus.process.signal(signal.SIGTERM)
        code, said = ended(bus.process)
        assert code == 128 + signal.SIGKILL and 'at once' in said, (code, said)


main(globals())
