#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
The native protocol over memif: the bus is the server of the memif, a bridge is its client
and joins it to a veth with a kernel's sockets at the far end.

    hfbusd == memif == bridge == af_packet == veth == hfbus publish --udp
"""
import os
import time

from hfbnet import BUS_IP, Net, NetBus
from hfbtest import Process, main, program, wait_for


class MemifBus(NetBus):
    def __init__(self, net):
        super().__init__(net)
        self.socket = os.path.join(self.folder, 'memif.sock')
        memif = f'socket={self.socket},socket-abstract=no'
        self.args = ['--port', f'net_memif0,role=server,{memif}@{BUS_IP}/24']
        self.bridge_argv = ['ip', 'netns', 'exec', net.bus_ns, program('tests/integration/bridge'),
                            f'net_memif0,role=client,{memif}', f'net_af_packet0,iface={net.bus_if}']
        self.bridge = None

    def start(self, extra=()):
        process = super().start(extra)
        self.bridge = Process(self.bridge_argv, env=self.env, name='bridge')
        self.bridge.line('^ready')
        return process

    def stop(self):
        if self.bridge is not None:
            self.bridge.stop()
        super().stop()

    def kill(self):
        if self.bridge is not None:
            self.bridge.kill()
        super().kill()


def test_publish_and_consume_over_memif():
    with Net() as net, MemifBus(net) as bus:
        bus.topic_create('t')
        lines = [f'memif {i} {"m" * (i % 70)}' for i in range(20000)]
        r = net.hfbus(bus, 'publish', 't', '--ack', 'durable', stdin='\n'.join(lines) + '\n')
        assert '20000 acked' in r.stderr, r.stderr
        assert bus.values('t') == lines
        r = net.hfbus(bus, 'consume', 't', '--from', 'earliest', '--until-end', '--format', 'text')
        assert r.stdout.splitlines() == lines


def test_the_far_end_goes_and_comes():
    """A memif peer that is killed and comes back: the bus and its data stay."""
    with Net() as net, MemifBus(net) as bus:
        bus.topic_create('t')
        net.hfbus(bus, 'publish', 't', stdin='one\ntwo\n')
        bus.bridge.kill()
        bus.publish('t', ['three'])
        bus.bridge = Process(bus.bridge_argv, env=bus.env, name='bridge')
        bus.bridge.line('^ready')
        r = net.hfbus(bus, 'publish', 't', stdin='four\n')
        assert '1 acked' in r.stderr, r.stderr
        assert bus.values('t') == ['one', 'two', 'three', 'four']


def sleeps_a_second(bus):
    """Of its core, over a good half second. A loaded machine makes it fewer, never more."""
    before, began = bus.counter('sleeps_total'), time.monotonic()
    time.sleep(0.5)
    after, ended = bus.counter('sleeps_total'), time.monotonic()
    return (after - before) / (ended - began)


def wakeable(bus):
    """Its core sleeps, and its port would wake it each time."""
    before = bus.counter('sleeps_wakeable_total')
    time.sleep(0.1)
    return bus.counter('sleeps_wakeable_total') > before


def test_a_silent_peer_lets_the_core_sleep():
    """The core sleeps 1 ms at a time: the peer wakes it, or there is none."""
    with Net() as net, MemifBus(net) as bus:
        bus.topic_create('t')
        wait_for('a core that its peer would wake', lambda: wakeable(bus))
        wait_for('a core that sleeps long', lambda: sleeps_a_second(bus) < 1100)
        for i in range(2):
            bus.bridge.stop()
            wait_for('the link to go', lambda: bus.counter('link_up') == 0)
            wait_for('a core that nobody would wake', lambda: not wakeable(bus))
            wait_for('a core that sleeps long', lambda: sleeps_a_second(bus) < 1100)
            bus.bridge = Process(bus.bridge_argv, env=bus.env, name='bridge')
            bus.bridge.line('^ready')
            r = net.hfbus(bus, 'publish', 't', stdin=f'{i}\n')
            assert '1 acked' in r.stderr, r.stderr
            wait_for('the link', lambda: bus.counter('link_up') == 1)
            wait_for('a core that its peer would wake', lambda: wakeable(bus))
        assert bus.values('t') == ['0', '1']


main(globals())
