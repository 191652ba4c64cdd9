# SPDX-License-Identifier: Apache-2.0
"""
budgets.py - what is measured: a case is a way of using the bus beside the raw limit of it,
a figure is one value of both with the ratio it must reach.

A case's once() does the raw limit and the bus in turn and puts what both printed into the dict
it is given; each figure takes its values from there. Whatever fails raises runner.Failed, which
becomes the case's error for that run; what was measured before it is kept.
"""
import subprocess
import time

from runner import Failed, MemoryWatch, tail


def metric(name):
    """Takes a scenario's metric, one repetition."""
    def take(result):
        try:
            return result['metrics'][name]['median']
        except KeyError:
            raise Failed(f'{result.get("scenario", "a scenario")} gave no {name}') from None
    return take


def of(which, name):
    """Takes a metric of what one of a run's scenarios gave."""
    def take(results):
        if which not in results:
            raise Failed('not measured')
        return metric(name)(results[which])
    return take


def gigabytes(which):
    """A run's `bytes`, in GB/s whatever its unit."""
    def take(results):
        value = of(which, 'bytes')(results)
        return value / 1e9 if results[which]['metrics']['bytes']['unit'] == 'bytes/s' else value
    return take


class Figure:
    """
    target: of the ratio hfbus to raw, or with absolute=True of the value itself; a callable
    gets (hfbus, raw). better: 'lower' or 'higher' tells which side of it is met.
    """

    def __init__(self, name, unit, better, target, hfbus, raw=None, absolute=False, note=None):
        self.metric, self.unit, self.better = name, unit, better
        self.target, self.absolute, self.note = target, absolute, note
        self.hfbus_of, self.raw_of = hfbus, raw

    def judge(self, hfbus, raw):
        """(ratio or None, target, met)"""
        ratio = hfbus / raw if raw else None
        target = self.target(hfbus, raw) if callable(self.target) else self.target
        judged = hfbus if self.absolute else ratio
        if judged is None:
            return ratio, target, False
        return ratio, target, judged <= target if self.better == 'lower' else judged >= target


def latency(figures, raw='latency', hfbus='ack', note=None):
    """Figures of a percentile each: (percentile, target)."""
    return [Figure(p, 'us', 'lower', target, of('hfbus', f'{hfbus}.{p}'), of('raw', f'{raw}.{p}'),
                   note=note)
            for p, target in figures]


# A bus keeps two CPUs busy, its own and its client's, a raw limit of the disk one. Where the host
# gives two CPUs less than twice as much as one, that difference is in the ratio: so what is
# decided by stalls is shown beside both.
BESIDE = ', raw beside a busy CPU'
BESIDE_NOTE = 'beside the raw limit while the CPU of the bus\'s client spins'

QUIET = ' without the machine\'s stalls'
QUIET_NOTE = ('of what was not under way while something else had the CPU of the bus\'s client for '
              '300 us or more; raw is taken while that CPU spins, and without the same')


def throughput(target, name='rate', unit='events/s', note=None):
    return [Figure(name, unit, 'higher', target, of('hfbus', 'rate'), of('raw', 'rate'),
                   note=note)]


class Case:
    """
    seconds: of measuring in each half of a run. curves: (label, which result, which latency)
    for the report. raw, hfbus: arguments of hfbus-bench, for limit and against a bus.
    fill: more seconds of warm-up for the bus, in which a topic takes what it keeps for the first
    time: files are written with zeros ahead of use, so the disk has twice to do until they recycle.
    rest: seconds that a run takes besides, for files, buses and links.
    beside: the raw limit once more, while the other CPU is busy.
    also: (which result, arguments) of another raw limit.
    """

    fill = 0
    rest = 3
    beside = False

    def __init__(self, budget, name, figures, raw=None, hfbus=None, seconds=5, warmup=1,
                 transport='memif', raw_cpus=2, disk=False, curves=(), idle='busy', patience=None,
                 also=None):
        self.budget, self.name, self.figures = budget, name, figures
        self.raw, self.hfbus = raw, hfbus
        self.seconds, self.warmup = seconds, warmup
        self.transport, self.raw_cpus, self.disk = transport, raw_cpus, disk
        self.curves, self.idle = curves, idle
        self.also = also
        self.patience = patience  # seconds until the bus's half is given up

    def estimate(self):
        """Seconds that a run takes, about."""
        limits = 1 + self.beside + bool(self.also) if self.raw else 0
        raw = limits * (self.seconds + self.raw_warmup())
        return raw + self.warmup + self.fill + self.seconds + self.rest

    def raw_warmup(self):
        """A raw limit has no topic that has to settle."""
        return min(self.warmup, 1)

    def prepare(self, runner):
        """Before the first run."""

    def once(self, runner, results):
        if self.raw:
            results['raw'] = runner.limit(self.raw, self.seconds, self.raw_warmup(), self.disk,
                                          self.raw_cpus)
        if self.beside:
            results['beside'] = runner.limit(self.raw, self.seconds, self.raw_warmup(), self.disk,
                                             'beside')
        if self.also:
            which, raw = self.also
            results[which] = runner.limit(raw, self.seconds, self.raw_warmup(), self.disk,
                                          self.raw_cpus)
        with runner.bus(idle=self.idle) as bus:
            results['hfbus'] = bus.scenario(self.hfbus, self.seconds, self.warmup + self.fill,
                                            self.transport, patience=self.patience)
            results['stages'] = bus.latency()


class Sustained(Case):
    """Durable, for long: bytes of log, and the memory that the bus takes meanwhile."""

    def once(self, runner, results):
        for name, cpus in (('raw', 1), ('beside', 'beside')):
            results[name] = runner.limit(self.raw, min(self.seconds, 10), min(self.warmup, 2), True,
                                         cpus)
        with runner.bus(idle=self.idle) as bus:
            before = bus.counters()
            with MemoryWatch(bus.hfbusd_pid()) as memory:
                results['hfbus'] = bus.scenario(self.hfbus, self.seconds, self.warmup)
            after = bus.counters()
            results['stages'] = bus.latency()
        events, size = (after.get(n, 0) - before.get(n, 0)
                        for n in ('append_events_total', 'append_bytes_total'))
        if events == 0:
            raise Failed('the bus counted no event')
        results['log'] = {'bytes_per_event': size / events, 'memory_growth': memory.growth()}

    def estimate(self):
        raw = min(self.seconds, 10) + min(self.warmup, 2)
        return self.seconds + 2 * raw + self.warmup + 8


class Half(Case):
    """
    At half of the maximal rate, which is found first, against an echo paced at the same
    datagram rate.
    """
    batch = 16
    # small, so that segments are recycled before anything counts: while they are made a topic
    # has half of the disk, and the half of what is found then would be no half
    topic = ['--size', '64', '--batch', str(batch), '--retention', '512MiB']
    fill = 4

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.rate = None

    def prepare(self, runner):
        with runner.bus(idle=self.idle) as bus:
            found = bus.scenario(['publish', *self.topic], min(self.seconds, 5),
                                 self.warmup + self.fill)
        self.rate = metric('rate')(found) / 2

    def once(self, runner, results):
        results['raw'] = runner.limit([*self.raw, '--rate', f'{self.rate / self.batch:.0f}'],
                                      self.seconds, self.warmup)
        # what the machine itself did in the same run: both suffer from it
        results['stalls'] = runner.limit(['stalls'], min(self.seconds, 10), 0)
        with runner.bus(idle=self.idle) as bus:
            results['hfbus'] = bus.scenario([*self.hfbus, *self.topic, '--rate',
                                             f'{self.rate:.0f}'], self.seconds,
                                            self.warmup + self.fill)
            results['stages'] = bus.latency()

    def estimate(self):
        # and once the rate is found
        return super().estimate() + min(self.seconds, 10) + 3


class TwoBuses(Case):
    """The same scenario in two ways; the first is the limit of the second."""

    def __init__(self, *args, partitions=None, topics=0, **more):
        super().__init__(*args, **more)
        self.partitions, self.topics = partitions, topics

    def estimate(self):
        return 2 * (self.seconds + self.warmup + self.fill + self.rest) + self.topics / 50

    def _idle_topics(self, bus):
        """Topics that were written once and lie there since."""
        waiting = []
        for n in range(self.topics):
            name = f'idle-{n}'
            bus.hfbus('topic', 'create', name)
            waiting.append(name)
        # published in a few processes at a time
        for at in range(0, len(waiting), 8):
            children = [bus.runner.spawn([bus.runner.program('hfbus'), 'publish', name],
                                         env=bus.env, stdin=subprocess.PIPE,
                                         stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
                        for name in waiting[at:at + 8]]
            for child in children:
                _, said = child.communicate('one event\n')
                bus.runner.children.remove(child)
                if child.returncode != 0:
                    raise Failed(f'an idle topic took no event: {tail(said)}')
        written = bus.counters().get('append_events_total', 0)
        if written < self.topics:
            raise Failed(f'of {self.topics} idle topics {written} were written')

    def once(self, runner, results):
        args = self.hfbus
        with runner.bus(idle=self.idle) as bus:
            results['raw'] = bus.scenario(args, self.seconds, self.warmup + self.fill)
        with runner.bus(idle=self.idle) as bus:
            if self.topics:
                self._idle_topics(bus)
            more = ['--partitions', str(self.partitions)] if self.partitions else []
            results['hfbus'] = bus.scenario([*args, *more], self.seconds,
                                            self.warmup + self.fill)


FIRST = Figure('first event', 'us', 'lower', 400, of('hfbus', 'first.p50'), absolute=True,
               note='the median of five a run, each after a second of silence')


def rate_name(rate):
    return f'{rate // 10**6} M' if rate >= 10**6 else f'{rate // 1000} k'


def budgets(quick=False):
    """All cases, in order. quick: the same in small, for function and not for figures."""
    cases = []
    echo = [('ack', 'hfbus', 'ack'), ('raw echo', 'raw', 'latency')]
    cases.append(Case(
        1, 'ack received, memif, 64 B, one in flight', latency([('p50', 1.5), ('p99', 2.5)]),
        raw=['memif-echo', '--size', '64'],
        hfbus=['echo', '--size', '64', '--inflight', '1', '--ack', 'received'], curves=echo))
    for budget, batch, target in ((2, 1, 0.5), (3, 16, 0.45)):
        cases.append(Case(
            budget, f'memif, {batch} × 64 B a datagram, acked received', throughput(target),
            raw=['memif-append', '--size', '64', '--batch', str(batch)],
            hfbus=['publish', '--size', '64', '--batch', str(batch), '--ack', 'received']))
        cases[-1].fill = 20
    cases.append(Sustained(
        4, 'memif, 16 × 100 B, acked durable, 8 GB of retention', [
            Figure('log bytes', 'GB/s', 'higher', 0.85,
                   lambda r: of('hfbus', 'rate')(r) * r['log']['bytes_per_event'] / 1e9,
                   of('raw', 'bytes')),
            Figure('log bytes' + BESIDE, 'GB/s', 'higher', 0.85,
                   lambda r: of('hfbus', 'rate')(r) * r['log']['bytes_per_event'] / 1e9,
                   of('beside', 'bytes'), note=BESIDE_NOTE),
            Figure('rate', 'events/s', 'higher', lambda hfbus, raw: 15e6 * min(1, raw / 24.2e6),
                   of('hfbus', 'rate'), of('raw', 'rate'),
                   absolute=True,
                   note='15 M events/s where the raw limit is 3 GB/s, in proportion below'),
            Figure('memory growth', 'MiB', 'lower', 16,
                   lambda r: r['log']['memory_growth'] / 2**20, absolute=True,
                   note='resident memory of hfbusd, from the middle of the run to its end'),
        ], raw=['append-disk', '--size', '100', '--batch', '16', '--file-size',
                '256MiB' if quick else '4GiB'],
        hfbus=['publish', '--size', '100', '--batch', '16', '--ack', 'durable', '--retention',
               '256MiB' if quick else '8GiB'],
        # until the retention is reached segments are made, from then on recycled
        seconds=30, warmup=1 if quick else 15))
    for rate, batch in ((10**4, 1), (10**5, 1), (10**6, 16), (5 * 10**6, 16)):
        cases.append(Case(
            5, f'ack durable at {rate_name(rate)} events/s, 100 B',
            latency([('p50', 1.25), ('p99', 1.25)],
                    note='from 5 s after the topic\'s first event, with 256 MiB of retention: '
                         'segments are recycled, as the raw file is overwritten') +
            [Figure('p99' + QUIET, 'us', 'lower', 1.25, of('hfbus', 'ack.quiet.p99'),
                    of('beside', 'latency.quiet.p99'), note=QUIET_NOTE)],
            raw=['group-commit', '--size', '100', '--batch', str(batch), '--rate', str(rate)],
            hfbus=['echo', '--size', '100', '--batch', str(batch), '--rate', str(rate), '--ack',
                   'durable', '--retention', '256MiB'],
            # disk and host stall for 20 to 90 ms now and then: of 12 s one is less than a hundredth,
            # of 5 s it was more, and p99 said which half it fell into
            raw_cpus=1, disk=True, seconds=12, warmup=1 if quick else 5,
            curves=[('ack', 'hfbus', 'ack'), ('raw group commit', 'raw', 'latency'),
                    ('raw' + BESIDE[5:], 'beside', 'latency')]))
        cases[-1].beside = True
    for partitions, target in ((100, 2), (1000, 4)):
        count = partitions // 20 if quick else partitions
        settled = 5 if quick else 12 if partitions == 100 else 27
        cases.append(Case(
            5, f'ack durable at 1 M events/s over {partitions} partitions, 100 B',
            latency([('p50', target)],
                    note=f'from {settled} s after the topic\'s first event; before, while each '
                         'partition gets its first segments, acks take seconds'),
            raw=['group-commit', '--size', '100', '--batch', '16', '--rate', '1000000'],
            hfbus=['echo', '--size', '100', '--batch', '16', '--rate', '1000000', '--ack',
                   'durable', '--partitions', str(count)],
            raw_cpus=1, disk=True, warmup=settled,
            curves=[('ack', 'hfbus', 'ack'), ('raw group commit', 'raw', 'latency')]))
        cases[-1].rest += count // 50
    for batch in (1, 16):
        cases.append(Case(
            6, f'shared memory to a local reader, 64 B, by {batch}', throughput(0.7),
            raw=['shm-relay', '--size', '64', '--batch', str(batch)],
            hfbus=['fanout', '--size', '64', '--batch', str(batch), '--ack', 'received',
                   '--retention', '512MiB'],
            transport='shm'))
        # the log goes to the disk: until the retention is reached each byte is written twice
        cases[-1].fill = 6
    for rate in (10**5, 10**6):
        cases.append(Case(
            6, f'shared memory, one way at {rate_name(rate)} events/s',
            latency([('p50', 1.5)], hfbus='one-way'),
            raw=['shm-relay', '--size', '64', '--rate', str(rate)],
            hfbus=['fanout', '--size', '64', '--rate', str(rate), '--ack', 'received'],
            transport='shm', curves=[('one way', 'hfbus', 'one-way'),
                                     ('raw relay', 'raw', 'latency')]))
    old = ['--file-size', '256MiB' if quick else '2GiB']
    cases.append(Case(
        7, 'local reader of old data from files', [
            Figure('bytes', 'GB/s', 'higher', 0.8, gigabytes('hfbus'), gigabytes('raw')),
            Figure('bytes, raw with a crc', 'GB/s', 'higher', 0.8, gigabytes('hfbus'),
                   gigabytes('checked'),
                   note='beside reads whose bytes are looked at, as a reader must')],
        raw=['read', *old], also=('checked', ['read-check', *old]),
        hfbus=['consume', '--size', '100', *old], transport=None, raw_cpus=0, disk=True,
        patience=600))
    cases[-1].rest = 8
    cases.append(Case(
        7, 'a publisher at half its maximum beside that reader', [
            Figure('rate', 'events/s', 'higher', 0.9, of('hfbus', 'publisher.with'),
                   of('hfbus', 'publisher.alone'), note='raw is the publisher alone')],
        hfbus=['mixed', '--size', '100', '--ack', 'received', *old], transport='shm', patience=600))
    # the publisher alone at full speed and at half of it, before both
    cases[-1].rest = 20
    cases.append(Half(
        8, 'ack received at half of the maximal rate, memif, 16 × 64 B',
        latency([('p99.9', 2)],
                note='the maximal rate and this are taken with 512 MiB of retention, from 5 s '
                     'after the topic\'s first event: segments are recycled'),
        raw=['memif-echo', '--size', '64'], hfbus=['echo', '--ack', 'received'], seconds=60,
        curves=echo))
    # Both halves of a run are to be in the same state, and the one that a topic comes to: its
    # files recycle. While they are made it has half of the disk, and what needs eight times as
    # many of them is there longer. 1 GiB over eight leaves segments as large as those of one.
    publish = ['publish', '--size', '64', '--batch', '16', '--ack', 'received']
    recycled = 'of topics whose segments are recycled, from {} s on, with {} of retention'
    cases.append(TwoBuses(
        9, 'eight partitions on a core beside one',
        throughput(0.9, note=recycled.format(21, '1 GiB')),
        hfbus=[*publish, '--retention', '1GiB'], partitions=8))
    cases[-1].fill = 20
    cases.append(TwoBuses(
        9, 'a thousand idle topics beside none',
        throughput(0.9, note=recycled.format(9, '512 MiB')),
        hfbus=[*publish, '--retention', '512MiB'], topics=20 if quick else 1000))
    cases[-1].fill = 8
    cases.append(Case(
        10, 'idle, adaptive', [
            Figure('CPU', '%', 'lower', 5, of('hfbus', 'cpu'), absolute=True),
            FIRST],
        hfbus=['idle', '--size', '64', '--ack', 'received'], transport='shm', idle='adaptive',
        curves=[('first event', 'hfbus', 'first')]))
    cases[-1].rest += 5  # of silence before the first events
    # a peer that may send at any moment, and wakes the core then
    cases.append(Case(
        10, 'idle, adaptive, a memif peer connected', [
            Figure('CPU', '%', 'lower', 5, of('hfbus', 'cpu'), absolute=True),
            FIRST],
        hfbus=['idle', '--size', '64', '--ack', 'received'], idle='adaptive',
        curves=[('first event', 'hfbus', 'first')]))
    cases[-1].rest += 5  # of silence before the first events
    return cases


# The machine's limits that no budget names; shown beside the others.
MACHINE = [
    ('memif, one way, 64 B', ['memif-rate', '--size', '64'], False, 2, 'datagrams', 'datagrams/s'),
    ('shared memory, one hop, 64 B', ['shm-hop', '--size', '64'], False, 2, 'rate', 'events/s'),
    ('shared memory, one hop, 64 B by 16', ['shm-hop', '--size', '64', '--batch', '16'], False, 2,
     'rate', 'events/s'),
    ('synced overwrite, 4 KiB', ['overwrite', '--write-size', '4KiB'], True, 1, 'latency.p50',
     'us'),
    ('kernel UDP echo', ['kernel-udp-echo', '--size', '64'], False, 2, 'latency.p50', 'us'),
    ('kernel TCP echo', ['kernel-tcp-echo', '--size', '64'], False, 2, 'latency.p50', 'us'),
    ('stalls: time lost, CPU {bus}', ['stalls'], False, 2, 'cpu{bus}.lost', '%'),
]
